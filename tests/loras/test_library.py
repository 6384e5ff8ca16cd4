"""The demo model's LoRAs in the library."""

import hashlib
from pathlib import Path

from accounts.models import User
from loras import library
from loras.models import Lora


def test_the_demo_loras_are_ready_for_everyone(alice: User, media: Path) -> None:
    added = library.add_demo_loras()
    assert {lora.slug for lora in added} == {"night", "outline"}
    assert set(Lora.objects.usable_by(alice, "demo")) == set(added)
    for lora in added:
        content = (media / str(lora.file)).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (lora.sha256, lora.size)
        assert lora.sha256 in str(lora.file)
        assert lora.trigger_words


def test_adding_them_again_changes_nothing(db: None, media: Path) -> None:
    library.add_demo_loras()
    files = sorted(media.rglob("*"))
    library.add_demo_loras()
    assert sorted(media.rglob("*")) == files
    assert Lora.objects.count() == 2


def test_they_are_not_for_another_family_of_models(alice: User) -> None:
    library.add_demo_loras()
    assert not Lora.objects.usable_by(alice, "flux1").exists()
