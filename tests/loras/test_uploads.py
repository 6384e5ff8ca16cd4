"""What comes in is bounded, paid for and whole; what is not kept leaves nothing."""

import hashlib
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from django.utils.text import slugify

from accounts.models import Quota, User
from generation.quotas import TooMuch
from loras import library, uploads
from loras.models import UPLOAD_LEASE, Lora, Upload
from loras.uploads import GivenUp, Incoming, NoRoom, NotAdmitted, TooLarge
from tests.conftest import files_under
from tests.loras import files

GOOD = files.safetensors(files.demo_lora(), {"modelspec.title": "Fog", "modelspec.trigger_phrase": "foggy"})

# Of pages; and no address.
TAKEN = {"inspect", "pick", "upload", ""}


def add(owner: User, content: bytes = GOOD, name: str = "Fog") -> Lora:
    with uploads.receive(owner, [content[:100], content[100:]], len(content)) as incoming:
        lora = incoming.keep(incoming.inspect(), name=name)
    # A plain address, if it is free, so that tests can write it.
    if (slug := slugify(name)) not in TAKEN and not Lora.objects.filter(slug=slug).exists():
        Lora.objects.filter(pk=lora.pk).update(slug=slug)
        lora.refresh_from_db()
    return lora


def stored(media: Path) -> list[Path]:
    return list(files_under(media))


def test_a_good_file_is_kept_under_its_hash(alice: User, media: Path) -> None:
    lora = add(alice)
    sha256 = hashlib.sha256(GOOD).hexdigest()
    assert (lora.sha256, lora.size, lora.family, lora.state, lora.slug) == (
        sha256,
        len(GOOD),
        "demo",
        "ready",
        "fog",
    )
    assert lora.facts["rank"] == {"mode": 2, "low": 2, "high": 2}
    (path,) = stored(media)
    assert path == media / "loras" / sha256[:2] / f"{sha256}.safetensors"
    assert path.read_bytes() == GOOD
    assert path.stat().st_mode & 0o777 == 0o600
    assert not Upload.objects.exists()


def test_what_would_not_work_leaves_nothing(alice: User, media: Path) -> None:
    with pytest.raises(NotAdmitted) as refused:
        add(alice, b"PK\x03\x04" + bytes(100))
    assert refused.value.detail == {
        "file": [
            "This is a ZIP archive, as PyTorch's own checkpoints are. They can run code. "
            "A LoRA is uploaded as .safetensors."
        ]
    }
    assert (stored(media), Lora.objects.count(), Upload.objects.count()) == ([], 0, 0)


def test_an_upload_that_breaks_off_leaves_nothing(alice: User, media: Path) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield GOOD[:50]
        assert Upload.objects.get().size == len(GOOD)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        uploads.receive(alice, breaks_off(), len(GOOD))
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_no_more_is_taken_than_was_announced(alice: User, media: Path) -> None:
    with pytest.raises(TooLarge):
        uploads.receive(alice, [bytes(50), bytes(51)], 100)
    assert (stored(media), Upload.objects.count()) == ([], 0)


def test_a_file_above_the_limit_is_refused_before_it_is_read(alice: User, settings: Any) -> None:
    settings.FLUXSITE_LORA_MAX_MB = 2
    with pytest.raises(TooLarge, match="The file has 3 MB or more; 2 MB are allowed"):
        uploads.receive(alice, iter(()), 3_000_000)


def test_below_the_free_disk_floor_nothing_is_taken(alice: User, settings: Any) -> None:
    settings.FLUXSITE_DISK_FLOOR_MB = 10**9
    with pytest.raises(NoRoom, match=r"The disk has [0-9.]+ GB left and 1000000\.0 GB of it are kept free"):
        uploads.receive(alice, iter(()), 1)
    assert not Upload.objects.exists()


def test_the_quota_is_reserved_before_reading_and_released(alice: User) -> None:
    Quota.objects.create(user=alice, storage_mb=10)
    with uploads.Incoming(alice, 6_000_000):
        with pytest.raises(TooMuch) as refused:
            uploads.Incoming(alice, 6_000_000)
        assert str(refused.value.detail) == (
            "4 of the 10 MB for your pictures and LoRAs are left, and this takes 6 MB. Delete some first."
        )
    with uploads.Incoming(alice, 6_000_000):
        pass


def test_a_stored_lora_counts(alice: User) -> None:
    add(alice)
    Lora.objects.update(size=9_000_000)
    Quota.objects.create(user=alice, storage_mb=10)
    with pytest.raises(TooMuch):
        uploads.Incoming(alice, 2_000_000)


def test_the_same_bytes_are_stored_once_and_go_with_the_last_row(alice: User, bob: User, media: Path) -> None:
    first, second = add(alice), add(bob)
    assert first.file.name == second.file.name
    assert first.slug != second.slug
    assert len(stored(media)) == 1
    library.delete(first)
    assert default_storage.exists(str(second.file))
    library.delete(second)
    assert stored(media) == []


def test_an_upload_mends_a_damaged_file(alice: User, bob: User, media: Path) -> None:
    add(alice)
    (path,) = stored(media)
    path.write_bytes(b"damaged")
    add(bob)
    assert path.read_bytes() == GOOD


def test_a_name_without_letters_has_an_address_too(alice: User) -> None:
    assert add(alice, name="霧").slug.startswith("lora-")
    assert add(alice, name="霧").slug.startswith("lora-")


GB = 10**9


@pytest.fixture
def two_gigabytes(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[int]:
    """A disk with 2.5 GB free, of which 0.5 are to stay so; the list holds what is free."""
    settings.FLUXSITE_DISK_FLOOR_MB = 500
    free = [5 * GB // 2]
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))
    return free


def test_uploads_under_way_count_for_the_free_disk(alice: User, bob: User, two_gigabytes: list[int]) -> None:
    """Four at once passed the floor together, each looking at the disk as it was."""
    with Incoming(alice, 900_000_000), Incoming(bob, 900_000_000):
        with pytest.raises(NoRoom, match="besides what uploads under way still need"):
            Incoming(alice, 900_000_000)
        Upload.objects.update(written=800_000_000)
        two_gigabytes[0] -= 1_600_000_000
        Incoming(alice, 150_000_000).discard()
    two_gigabytes[0] = 5 * GB // 2
    Incoming(alice, 900_000_000).discard()


def test_the_disk_is_looked_at_while_an_upload_is_written(alice: User, two_gigabytes: list[int]) -> None:
    with Incoming(alice, 1_000_000) as incoming:
        incoming.write(b"a" * 1000)
        two_gigabytes[0] = GB // 2
        with pytest.raises(NoRoom):
            incoming.write(b"a" * 1000)


def test_a_killed_uploads_room_is_free_after_its_lease(alice: User, two_gigabytes: list[int]) -> None:
    """It blocked the owner's quota for a day."""
    Quota.objects.create(user=alice, storage_mb=1)
    killed = Incoming(alice, 900_000)
    with pytest.raises(TooMuch):
        Incoming(alice, 900_000)
    Upload.objects.update(renewed_at=timezone.now() - UPLOAD_LEASE - timedelta(seconds=1))
    Incoming(alice, 900_000).discard()
    killed.discard()


def test_a_slow_upload_keeps_its_room(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    with Incoming(alice, 1_000_000) as incoming:
        Upload.objects.update(renewed_at=timezone.now() - UPLOAD_LEASE * 2)
        incoming.renewed_at -= uploads.RENEWED_EACH_SECONDS + 1
        incoming.write(b"a" * 1000)
        assert Upload.objects.alive().get().written == 1000
        Upload.objects.all().delete()
        incoming.renewed_at -= uploads.RENEWED_EACH_SECONDS + 1
        with pytest.raises(GivenUp):
            incoming.write(b"a" * 1000)
