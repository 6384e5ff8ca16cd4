"""What comes in is bounded, paid for and whole; what is not kept leaves nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from accounts.models import Quota, User
from generation.quotas import TooMuch
from loras import library, uploads
from loras.models import Lora, Upload
from loras.uploads import NoRoom, NotAdmitted, TooLarge
from tests.conftest import files_under
from tests.loras import files

GOOD = files.safetensors(files.demo_lora(), {"modelspec.title": "Fog", "modelspec.trigger_phrase": "foggy"})


def add(owner: User, content: bytes = GOOD, name: str = "Fog") -> Lora:
    with uploads.receive(owner, [content[:100], content[100:]], len(content)) as incoming:
        return incoming.keep(incoming.inspect(), name=name)


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
    with pytest.raises(NoRoom, match=r"The disk has [0-9.]+ GB left and 1000000\.0 GB of it are kept free\."):
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
    assert add(alice, name="霧").slug == "lora"
    assert add(alice, name="霧").slug.startswith("lora-")
