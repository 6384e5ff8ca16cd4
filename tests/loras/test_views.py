"""The pages of the library."""

import io
from typing import Any

import PIL.Image
import pytest
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from loras import library, previews
from loras.models import Admission, Lora, Upload
from loras.views import PAGE
from tests.conftest import client_of, files_under
from tests.loras.test_uploads import add

NIGHT = library.DEMO_LORAS / "night.safetensors"


def made(owner: User, name: str, **facts: Any) -> Lora:
    lora = add(owner, name=name)
    for field, value in facts.items():
        setattr(lora, field, value)
    lora.save()
    return lora


def page(client: Client, query: str = "") -> str:
    return client.get(f"/loras/{query}").content.decode()


def names(client: Client, query: str = "") -> list[str]:
    return [lora.name for lora in client.get(f"/loras/{query}").context["loras"]]


def said(**changes: Any) -> dict[str, Any]:
    return {"name": "Fog", "recommended_weight": "1", "visibility": "private", **changes}


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def test_cards_show_what_one_chooses_by(client: Client, alice: User) -> None:
    lora = made(alice, "Fog", trigger_words=["foggy"], tags=["weather"], licence="CC0", uses=1234)
    Admission.objects.create(lora=lora, engine="fp4", state="refused", reason="12 layers are missing.")
    Admission.objects.create(lora=lora, engine="bf16", state="works")
    client.force_login(alice)
    shown = page(client)
    for words in ("Fog", "foggy", "weather", "CC0", "1,234 uses", "12 layers are missing.", "?lora=fog"):
        assert words in shown


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?q=fOGGy", ["Fog"]),
        ("?q=weather+fog", ["Fog"]),
        ("?q=ÉTUDE", ["Étude"]),
        ("?q=straight", ["Lines"]),
        ("?q=nothing", []),
        ("?q=%25", []),
        ("?tag=weather", ["Fog"]),
        ("?engine=fp4", ["Lines"]),
        ("?show=mine", ["Lines", "Fog", "Étude"]),
        ("?sort=name", ["Fog", "Lines", "Shared", "Étude"]),
        ("?sort=new", ["Shared", "Étude", "Lines", "Fog"]),
        ("", ["Lines", "Fog", "Shared", "Étude"]),
    ],
)
def test_search_filters_and_order(
    client: Client, alice: User, bob: User, query: str, found: list[str]
) -> None:
    made(alice, "Fog", trigger_words=["foggy"], tags=["weather"])
    lines = made(alice, "Lines", description="Straight ones.", uses=3)
    Admission.objects.create(lora=lines, engine="fp4", state="works")
    made(alice, "Étude")
    made(bob, "Shared", visibility="everyone")
    made(bob, "Private")
    client.force_login(alice)
    assert names(client, query) == found


def test_a_page_of_many_costs_as_many_queries_as_a_page_of_one(
    client: Client, alice: User, django_assert_num_queries: Any
) -> None:
    client.force_login(alice)
    first = made(alice, "One")
    with CaptureQueriesContext(
        connection,
    ) as one:
        client.get("/loras/")
    copies = [Lora(owner=alice, slug=f"s{n}", name=f"N {n}", sha256=first.sha256, size=1) for n in range(60)]
    Lora.objects.bulk_create(copies)
    with django_assert_num_queries(len(one)):
        assert len(names(client)) == PAGE
    assert len(names(client, "?page=2")) == 61 - PAGE


def test_an_upload_without_javascript(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.post("/loras/upload/", {"file": SimpleUploadedFile("x.safetensors", NIGHT.read_bytes())})
    lora = Lora.objects.get()
    assert (answer.status_code, answer["Location"], lora.owner) == (302, f"/loras/{lora.slug}/", alice)
    assert not Upload.objects.exists()


def test_an_upload_is_refused_on_the_page_with_the_reason(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.post("/loras/upload/", {"file": SimpleUploadedFile("x.safetensors", b"PK\3\4")})
    assert (answer.status_code, Lora.objects.count()) == (400, 0)
    assert "This is a ZIP archive" in answer.content.decode()
    assert client.post("/loras/upload/").status_code == 400


def test_an_upload_needs_the_token_of_the_form(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = client.post("/loras/upload/", {"file": SimpleUploadedFile("x.safetensors", NIGHT.read_bytes())})
    assert (answer.status_code, Lora.objects.count()) == (403, 0)
    assert not Upload.objects.exists()


def test_its_owner_changes_what_it_is_called_and_who_may_use_it(
    client: Client, alice: User, bob: User, charlie: User
) -> None:
    add(alice, name="Fog")
    client.force_login(alice)
    team = Group.objects.get(name="team")
    changes = said(name="Mist", trigger_words="misty, , misty,  grey sky", tags="a,b", visibility="groups",
                   groups=[team.pk], licence="CC0", source_url="example.org/mist")  # fmt: skip
    assert client.post("/loras/fog/", changes).status_code == 302
    lora = Lora.objects.get()
    assert (lora.name, lora.slug, lora.trigger_words, lora.tags) == (
        "Mist", "fog", ["misty", "grey sky"], ["a", "b"],
    )  # fmt: skip
    assert lora.source_url == "https://example.org/mist"
    for user, status in ((bob, 200), (charlie, 404)):
        client.force_login(user)
        assert client.get("/loras/fog/").status_code == status
        assert client.post("/loras/fog/", said()).status_code == 404
        assert client.post("/loras/fog/delete/").status_code == 404


def test_a_group_that_is_not_ones_own_cannot_be_shared_with(client: Client, alice: User) -> None:
    add(alice, name="Fog")
    other = Group.objects.create(name="other")
    client.force_login(alice)
    answer = client.post("/loras/fog/", said(visibility="groups", groups=[other.pk]))
    assert answer.status_code == 400
    for name in ("other", "nowhere"):  # nobody learns which of them exists
        api = client_of(alice).patch("/api/v1/loras/fog/", {"groups": [name]}, format="json")
        said_of_it = f"There is no group {name} that you may share with."
        assert (api.status_code, api.json()["errors"][0]["detail"]) == (400, said_of_it)
    own = client_of(alice).patch("/api/v1/loras/fog/", {"groups": ["team"]}, format="json")
    assert own.json()["groups"] == ["team"]


def test_the_form_keeps_groups_that_it_does_not_offer(client: Client, alice: User) -> None:
    """An administrator added one that the owner is not in."""
    lora = add(alice, name="Fog")
    lora.groups.add(Group.objects.create(name="other"), Group.objects.get(name="team"))
    client.force_login(alice)
    assert client.post("/loras/fog/", said(visibility="groups", groups=[])).status_code == 302
    assert [group.name for group in lora.groups.all()] == ["other"]


def test_everyone_only_after_an_administrator_approved(
    client: Client, alice: User, bob: User, settings: Any
) -> None:
    settings.FLUXSITE_LORA_APPROVAL = True
    lora = add(alice, name="Fog")
    answer = client_of(alice).patch("/api/v1/loras/fog/", {"visibility": "everyone"}, format="json").json()
    assert (answer["visibility"], answer["approval"]) == ("private", "waiting")
    client.force_login(alice)
    assert client.post("/loras/fog/", said(visibility="everyone")).status_code == 302
    assert not Lora.objects.visible_to(bob).exists()
    bob.is_superuser = bob.is_staff = True
    bob.save()
    lora.refresh_from_db()
    lora.publish(bob)
    lora.save()
    assert (lora.visibility, lora.approval) == ("everyone", "")


def test_one_that_is_hidden_is_seen_by_its_owner_alone(client: Client, alice: User, bob: User) -> None:
    made(alice, "Fog", visibility="everyone", hidden=True)
    assert not Lora.objects.usable_by(alice, "demo").exists()
    client.force_login(bob)
    assert client.get("/loras/fog/").status_code == 404
    client.force_login(alice)
    assert "Hidden by an administrator" in page(client)


def test_a_preview_is_drawn_anew_from_what_was_sent(client: Client, alice: User) -> None:
    add(alice, name="Fog")
    client.force_login(alice)
    file = SimpleUploadedFile("me.png", png(2000, 1000) + b"<script>")
    assert client.post("/loras/fog/", said(preview_file=file)).status_code == 302
    content = b"".join(client.get("/loras/fog/preview/"))
    with PIL.Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("WEBP", (1024, 512))
    assert b"script" not in content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<svg onload='x'/>", "This is no picture that can be read. Use PNG, JPEG or WebP."),
        (png(8, 8)[:40], "This is no picture that can be read."),
        (png(6000, 6000), "6,000 × 6,000 pixels. Use at most 25 million in all."),
        (b"x" * (previews.MAX_BYTES + 1), "10.0 MB. Use a picture of at most 10 MB."),
    ],
)
def test_a_preview_that_is_no_picture_is_refused(
    client: Client, alice: User, content: bytes, reason: str
) -> None:
    add(alice, name="Fog")
    client.force_login(alice)
    answer = client.post("/loras/fog/", said(preview_file=SimpleUploadedFile("me.png", content)))
    assert (answer.status_code, reason in answer.content.decode()) == (400, True)
    assert not Lora.objects.get().preview


def test_deleting_frees_the_previews_too(client: Client, alice: User, media: Any) -> None:
    lora = add(alice, name="Fog")
    library.set_preview(lora, ContentFile(b"a"), ContentFile(b"b"))
    library.set_preview(lora, ContentFile(b"c"))
    client.force_login(alice)
    assert client.post("/loras/fog/delete/").status_code == 302
    assert not files_under(media)


def test_no_lora_takes_the_address_of_a_page(client: Client, alice: User) -> None:
    client.force_login(alice)
    for name in ("Upload", "Pick", "Inspect"):
        lora = add(alice, name=name)
        assert lora.slug.startswith(f"{name.lower()}-")
        assert client.get(lora.get_absolute_url()).context["lora"] == lora
