"""The library in Django's admin."""

from pathlib import Path

from django.core.cache import cache
from django.test import Client

from accounts.models import User
from gpu.models import Worker
from loras.models import Lora
from tests.loras.test_uploads import add, stored


def test_deleting_frees_the_bytes_one_by_one_and_together(
    admin_client: Client, alice: User, media: Path
) -> None:
    lora = add(alice)
    admin_client.post(f"/admin/loras/lora/{lora.pk}/delete/", {"post": "yes"})
    assert (Lora.objects.count(), stored(media)) == (0, [])
    chosen = [str(add(alice, name=name).pk) for name in ("Fog", "Mist")]
    asked = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    admin_client.post("/admin/loras/lora/", asked)
    assert (Lora.objects.count(), stored(media)) == (0, [])


def act(client: Client, action: str, *loras: Lora) -> str:
    chosen = [str(lora.pk) for lora in loras]
    asked = {"action": action, "_selected_action": chosen}
    return client.post("/admin/loras/lora/", asked, follow=True).content.decode()


def test_publishing_is_approved_or_declined(admin_client: Client, alice: User) -> None:
    asking, private = add(alice, name="Fog"), add(alice, name="Mist")
    Lora.objects.filter(pk=asking.pk).update(approval="waiting")
    assert "1 of 2 are for everyone now" in act(admin_client, "approve", asking, private)
    found = {lora.name: (lora.visibility, lora.approval) for lora in Lora.objects.all()}
    assert found == {"Fog": ("everyone", ""), "Mist": ("private", "")}
    Lora.objects.filter(pk=private.pk).update(approval="waiting")
    act(admin_client, "decline", asking, private)
    assert Lora.objects.get(pk=private.pk).approval == "declined"


def test_hidden_and_shown_again(admin_client: Client, alice: User) -> None:
    lora = add(alice)
    for action, usable in (("hide", False), ("show", True)):
        act(admin_client, action, lora)
        assert Lora.objects.usable_by(alice, "demo").exists() is usable


def test_one_that_is_refused_says_by_whom(admin_client: Client, alice: User) -> None:
    lora = add(alice)
    act(admin_client, "refuse", lora)
    lora.refresh_from_db()
    assert (lora.state, lora.reason) == ("refused", "Refused by admin, an administrator.")
    assert not Lora.objects.usable_by(alice, "demo").exists()


def test_a_file_that_changed_or_went_is_found_by_inspecting_again(
    admin_client: Client, alice: User, media: Path
) -> None:
    lora = add(alice)
    Lora.objects.update(facts={})
    assert "as it was uploaded" in act(admin_client, "inspect_again", lora)
    assert Lora.objects.get().facts["changes"] > 0
    path = Path(lora.file.path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "changed after it was uploaded" in act(admin_client, "inspect_again", lora)
    assert Lora.objects.get().state == Lora.State.REFUSED
    path.unlink()
    assert "Its file is missing" in act(admin_client, "inspect_again", lora)


def test_tried_again_on_the_engines_there_are(admin_client: Client, alice: User) -> None:
    lora = add(alice)
    Worker.start("studio", "cpu", "bf16", 1)
    cache.clear()
    act(admin_client, "try_again", lora)
    assert list(lora.admissions.values_list("engine", "state")) == [("bf16", "trying")]


def test_transfer_uses_and_upload(admin_client: Client, alice: User, bob: User) -> None:
    lora = add(alice)
    form = {
        "name": "Fog", "slug": lora.slug, "owner": bob.pk, "trigger_words": "[]", "tags": "[]",
        "recommended_weight": "1", "visibility": "private", "approval": "",
        "admissions-TOTAL_FORMS": "0", "admissions-INITIAL_FORMS": "0",
    }  # fmt: skip
    assert admin_client.post(f"/admin/loras/lora/{lora.pk}/change/", form).status_code == 302
    assert Lora.objects.get().owner == bob
    listed = admin_client.get("/admin/loras/lora/").content.decode()
    uses = f"/admin/generation/job/?loras__id__exact={lora.pk}"
    assert uses in listed
    assert admin_client.get(uses).status_code == 200
    assert admin_client.get("/admin/loras/lora/add/")["Location"] == "/loras/"
