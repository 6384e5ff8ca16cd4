"""The library by API: who may see and change what, and what is answered to each file."""

import hashlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.signals import pre_save
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiToken, Quota, User
from loras.forms import LoraForm
from loras.models import Lora, Upload
from tests.conftest import client_of
from tests.loras import files
from tests.loras.test_uploads import GOOD, stored

LORAS = "/api/v1/loras/"


def upload(user: User, content: bytes = GOOD, file_name: str = "fog.safetensors", **said: Any) -> Any:
    client = client_of(user)
    client.raise_request_exception = False  # 507 is one to Django
    return client.post(LORAS, {"file": SimpleUploadedFile(file_name, content), **said}, format="multipart")


def created(user: User, **said: Any) -> Any:
    response = upload(user, **said)
    assert response.status_code == 201, response.content
    return response.json()


def test_upload_and_read(alice: User, media: Path) -> None:
    lora = created(alice)
    assert re.fullmatch(r"fog-[0-9a-f]{6}", lora["slug"])
    assert (lora["name"], lora["state"], lora["trigger_words"]) == ("Fog", "ready", ["foggy"])
    assert (lora["owner"], lora["family"], lora["size"]) == ("alice", "demo", len(GOOD))
    assert lora["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert client_of(alice).get(f"{LORAS}{lora['slug']}/").json() == lora
    assert client_of(alice).get(LORAS).json()["results"] == [lora]
    assert len(stored(media)) == 1


def test_what_is_said_counts_more_than_what_the_file_says(alice: User) -> None:
    said = {
        "name": "Mist",
        "trigger_words": ["misty"],
        "tags": ["weather", "grey"],
        "recommended_weight": "0.8",
    }
    lora = created(alice, **said, licence="CC0", source_url="https://example.org/fog")
    assert (lora["name"], lora["trigger_words"], lora["tags"]) == ("Mist", ["misty"], ["weather", "grey"])
    assert (lora["recommended_weight"], lora["licence"]) == (0.8, "CC0")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/x.safetensors", "a\0b", "<script>.safetensors", "." * 300]
)
def test_no_name_of_the_client_reaches_the_disk(alice: User, media: Path, name: str) -> None:
    before = set(media.parent.rglob("*"))
    upload(alice, file_name=name)
    new = [path.relative_to(media) for path in set(media.parent.rglob("*")) - before if path.is_file()]
    assert [str(path) for path in new if path.parts[0] != "loras"] == []


def test_a_refused_file_is_answered_with_the_reason_and_leaves_nothing(alice: User, media: Path) -> None:
    response = upload(alice, files.safetensors(files.pair("unet.down_blocks.0.attn2.to_k", 640, 2048)))
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["attr"] == "file"
    assert error["detail"] == (
        "This is an SDXL LoRA: its modules address a UNet. It cannot work on fluxsite demo."
    )
    assert (stored(media), Upload.objects.count(), Lora.objects.count()) == ([], 0, 0)


def test_inspecting_stores_nothing(alice: User, media: Path) -> None:
    response = client_of(alice).post(
        f"{LORAS}inspect/", {"file": SimpleUploadedFile("a", GOOD)}, format="multipart"
    )
    facts = response.json()
    assert (response.status_code, facts["admissible"], facts["reason"], facts["family"]) == (
        200,
        True,
        "",
        "demo",
    )
    response = client_of(alice).post(
        f"{LORAS}inspect/", {"file": SimpleUploadedFile("a", b"no")}, format="multipart"
    )
    assert (response.status_code, response.json()["admissible"]) == (200, False)
    assert (stored(media), Upload.objects.count(), Lora.objects.count()) == ([], 0, 0)


@pytest.mark.parametrize("body", [{}, {"file": "text"}, {"file": ""}])
def test_without_a_file_the_field_is_named(alice: User, body: dict[str, Any]) -> None:
    for url in (LORAS, f"{LORAS}inspect/"):
        response = client_of(alice).post(url, body, format="multipart")
        assert response.status_code == 400
        assert response.json()["errors"][0]["attr"] == "file"


def test_two_files_at_once_are_refused(alice: User, media: Path) -> None:
    both = {"file": SimpleUploadedFile("a", GOOD), "other": SimpleUploadedFile("b", GOOD)}
    response = client_of(alice).post(LORAS, both, format="multipart")
    assert response.status_code == 400
    assert "one file in each request" in response.json()["errors"][0]["detail"]
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_room_is_said_with_its_status(alice: User, settings: Any, media: Path) -> None:
    Quota.objects.create(user=alice, storage_mb=0)
    response = upload(alice)
    assert response.status_code == 429
    assert response.json()["errors"][0]["code"] == "quota_storage_mb"
    Quota.objects.all().delete()
    settings.FLUXSITE_LORA_MAX_MB = 0
    assert upload(alice).status_code == 413
    settings.FLUXSITE_LORA_MAX_MB = 1000
    settings.FLUXSITE_DISK_FLOOR_MB = 10**9
    assert upload(alice).status_code == 507
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_nobody_without_an_account_stores_anything(db: None, media: Path) -> None:
    response = APIClient().post(LORAS, {"file": SimpleUploadedFile("a", GOOD)}, format="multipart")
    assert response.status_code == 401
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_a_session_needs_its_csrf_token(alice: User, media: Path) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post(LORAS, {"file": SimpleUploadedFile("a", GOOD)}, format="multipart")
    assert response.status_code == 403
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_who_sees_what(alice: User, bob: User, charlie: User) -> None:
    private, grouped, public = (
        created(alice, name=name)["slug"] for name in ("Private", "Grouped", "Public")
    )
    Lora.objects.filter(slug=public).update(visibility="everyone")
    Lora.objects.filter(slug=grouped).update(visibility="groups")
    Lora.objects.get(slug=grouped).groups.add(Group.objects.get(name="team"))

    def seen(user: User) -> set[str]:
        return {lora["slug"] for lora in client_of(user).get(LORAS).json()["results"]}

    assert (seen(alice), seen(bob), seen(charlie)) == (
        {private, grouped, public},
        {grouped, public},
        {public},
    )
    for method in ("get", "patch", "delete"):
        assert getattr(client_of(bob), method)(f"{LORAS}{private}/").status_code == 404
    assert client_of(bob).get(f"{LORAS}{private}/download/").status_code == 404


def test_who_else_it_is_shared_with_is_for_who_may_change_it(
    alice: User, bob: User, charlie: User, admin_user: User
) -> None:
    slug = created(alice)["slug"]
    guests = Group.objects.create(name="guests")
    charlie.groups.add(guests)
    Lora.objects.filter(slug=slug).update(visibility="groups")
    Lora.objects.get(slug=slug).groups.set([guests, Group.objects.get(name="team")])
    for user, names in (
        (alice, {"guests", "team"}), (admin_user, {"guests", "team"}), (bob, {"team"}), (charlie, {"guests"}),
    ):  # fmt: skip
        client, browser = client_with(user, *ApiToken.SCOPES), Client()
        browser.force_login(user)
        assert set(client.get(f"{LORAS}{slug}/").json()["groups"]) == names
        if user != admin_user:  # whose own list has what is visible to them
            assert set(client.get(LORAS).json()["results"][0]["groups"]) == names
        page = browser.get(f"/loras/{slug}/").content.decode()
        shown = re.search(r"<dt>Shared with</dt><dd>([^<]*)</dd>", page)
        assert shown
        assert set(shown[1].split(", ")) == names


def test_only_owner_and_administrators_change_and_download(alice: User, bob: User, admin_user: User) -> None:
    slug = created(alice, visibility="everyone")["slug"]
    for user, allowed in ((bob, False), (alice, True), (admin_user, True)):
        client = client_with(user, *ApiToken.SCOPES)
        changed = client.patch(f"{LORAS}{slug}/", {"description": user.username}, format="json")
        assert changed.status_code == (200 if allowed else 403)
        download = client.get(f"{LORAS}{slug}/download/")
        assert download.status_code == (200 if allowed else 403)
        if allowed:
            assert download.getvalue() == GOOD
    assert client_of(bob).delete(f"{LORAS}{slug}/").status_code == 403
    assert client_of(alice).delete(f"{LORAS}{slug}/").status_code == 204


def test_deleting_frees_the_bytes(alice: User, media: Path) -> None:
    slug = created(alice)["slug"]
    assert client_of(alice).delete(f"{LORAS}{slug}/").status_code == 204
    assert stored(media) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("recommended_weight", 5), ("recommended_weight", "x"), ("trigger_words", ["a"] * 21), ("name", ""),
     ("name", "x" * 121), ("source_url", "javascript:alert(1)"), ("visibility", "all")],
)  # fmt: skip
def test_a_change_that_cannot_be_names_its_field(alice: User, field: str, value: Any) -> None:
    slug = created(alice)["slug"]
    response = client_of(alice).patch(f"{LORAS}{slug}/", {field: value}, format="json")
    assert response.status_code == 400
    assert response.json()["errors"][0]["attr"] == field


@pytest.mark.parametrize("scopes", [["read"], ["read", "generate", "loras"]])
def test_a_superusers_token_without_the_scope_admin_reaches_nothing_of_others(
    charlie: User, admin_user: User, scopes: list[str]
) -> None:
    slug = created(charlie)["slug"]
    client = client_with(admin_user, *scopes)
    assert client.get(f"{LORAS}{slug}/").status_code == 404
    assert client.get(f"{LORAS}{slug}/download/").status_code == 404
    changed = client.patch(f"{LORAS}{slug}/", {"visibility": "everyone"}, format="json")
    assert changed.status_code == (403 if scopes == ["read"] else 404)
    assert client.delete(f"{LORAS}{slug}/").status_code == (403 if scopes == ["read"] else 404)
    assert Lora.objects.get().visibility == "private"


def test_with_the_scope_admin_it_does(charlie: User, admin_user: User) -> None:
    slug = created(charlie)["slug"]
    client = client_with(admin_user, *ApiToken.SCOPES)
    assert client.get(f"{LORAS}{slug}/download/").getvalue() == GOOD
    assert client.delete(f"{LORAS}{slug}/").status_code == 204


def test_a_session_of_an_administrator_reaches_them_as_before(charlie: User, admin_user: User) -> None:
    slug = created(charlie)["slug"]
    browser = Client()
    browser.force_login(admin_user)
    assert browser.get(f"{LORAS}{slug}/").status_code == 200


def client_with(user: User, *scopes: str) -> APIClient:
    """An API client that sends a token of these scopes."""
    client = APIClient()
    token = ApiToken.issue(user, "test", list(scopes), timedelta(days=1))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def test_what_an_administrator_refused_meanwhile_stays_refused(alice: User) -> None:
    """The owner's change was loaded before, and is saved after."""
    slug = created(alice)["slug"]
    mine = Lora.objects.get(slug=slug)
    Lora.objects.update(state=Lora.State.REFUSED, reason="It draws nothing.", hidden=True)
    form = LoraForm(
        alice, {"name": "Mist", "recommended_weight": "1", "visibility": "private"}, instance=mine
    )
    assert form.is_valid(), form.errors
    form.save()
    lora = Lora.objects.get(slug=slug)
    assert (lora.name, lora.state, lora.reason, lora.hidden) == ("Mist", "refused", "It draws nothing.", True)


def test_a_change_of_what_was_deleted_meanwhile_answers_404(alice: User) -> None:
    slug = created(alice)["slug"]

    def delete(**_: Any) -> None:
        Lora.objects.all().delete()

    pre_save.connect(delete, sender=Lora)  # between the moment that a request loads it and its save
    try:
        changed = client_of(alice).patch(f"{LORAS}{slug}/", {"description": "Thick"}, format="json")
    finally:
        pre_save.disconnect(delete, sender=Lora)
    assert changed.status_code == 404


def test_a_change_of_the_words_leaves_the_request_to_share(alice: User, settings: Any) -> None:
    settings.FLUXSITE_LORA_APPROVAL = True
    slug = created(alice, visibility="everyone")["slug"]
    client = client_of(alice)
    assert (
        client.patch(f"{LORAS}{slug}/", {"description": "Thick"}, format="json").json()["approval"]
        == "waiting"
    )
    assert client.patch(f"{LORAS}{slug}/", {"visibility": "private"}, format="json").json()["approval"] == ""


@pytest.mark.parametrize("approval", ["waiting", "declined"])
def test_a_save_of_the_form_as_it_was_shown_leaves_the_request_to_share(alice: User, approval: str) -> None:
    created(alice)
    Lora.objects.update(approval=approval)
    shown = LoraForm(alice, instance=Lora.objects.get())
    words = {"name": "Fog", "recommended_weight": "1"}

    def saved(visibility: Any) -> tuple[str, str]:
        form = LoraForm(alice, {**words, "visibility": visibility}, instance=Lora.objects.get())
        assert form.is_valid(), form.errors
        form.save()
        lora = Lora.objects.get()
        return lora.visibility, lora.approval

    assert saved(shown["visibility"].value()) == ("private", approval)
    if approval == "waiting":  # the form shows what was asked for: "everyone"
        assert saved("private") == ("private", "")


def test_the_address_of_a_lora_says_nothing_of_others(alice: User, charlie: User) -> None:
    first = created(charlie)["slug"]
    second = created(alice)["slug"]
    third = created(alice, name="Nobody has this")["slug"]
    assert all(re.fullmatch(r"[a-z\-]+-[0-9a-f]{6}", slug) for slug in (first, second, third))
