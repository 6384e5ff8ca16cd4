"""The library in Django's admin."""

from pathlib import Path

from django.test import Client

from accounts.models import User
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
