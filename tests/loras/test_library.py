"""The demo model's LoRAs in the library."""

import hashlib
from pathlib import Path

from accounts.models import User
from loras import library
from loras.models import Lora
from tests.belongings import lora_of, webp
from tests.loras.test_uploads import add


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


def test_a_demo_lora_is_put_into_the_library_once(alice: User) -> None:
    """Changes of an administrator were taken back at every start, and deleted ones returned."""
    night, outline = sorted(library.add_demo_loras(), key=lambda lora: lora.slug)
    Lora.objects.filter(pk=night.pk).update(name="Our night", visibility="private", hidden=True)
    library.delete(outline)
    library.add_demo_loras()
    lora = Lora.objects.get()
    assert (lora.slug, lora.name, lora.visibility, lora.hidden) == ("night", "Our night", "private", True)


def test_somebodys_lora_keeps_its_address_from_the_demos(alice: User) -> None:
    """It was overwritten at the next start, and visible to everyone."""
    mine = add(alice, name="Night")
    assert mine.slug == "night"
    library.add_demo_loras()
    lora = Lora.objects.get(slug="night")
    assert (lora.pk, lora.owner, lora.sha256, lora.visibility) == (mine.pk, alice, mine.sha256, "private")
    assert Lora.objects.count() == 2


def test_a_new_preview_leaves_what_a_search_finds(alice: User) -> None:
    """The preview of a trial is stored by a row that was read before its owner renamed the LoRA."""
    before = lora_of(alice, name="Fog")
    mine = Lora.objects.get()
    mine.name = "Mist"
    mine.save()
    library.set_preview(before, webp("teal"))
    assert Lora.objects.search("mist").exists()
