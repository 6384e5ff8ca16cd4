"""Rows without files, files without rows, changed bytes: found, and mended or marked."""

import io
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import CommandError
from uuid_utils.compat import uuid7

from accounts.models import User
from files.address import options_of
from files.shared import SharedStorage
from generation.models import Image
from loras.library import set_preview
from loras.models import Lora
from operations import leftovers, verification
from operations.models import Damage
from operations.verification import Fault, Named
from tests.generation.drawn import finished
from tests.loras.test_uploads import add
from tests.postgresql import free_port
from tests.store import server, shared  # noqa: F401 (fixtures)


@pytest.fixture
def image(alice: User) -> Image:
    return finished(alice).images.get()


@pytest.fixture
def lora(alice: User) -> Lora:
    lora = add(alice)
    set_preview(lora, ContentFile(b"RIFF....WEBP"))
    return lora


def verify(*options: str) -> str:
    said = io.StringIO()
    try:
        call_command("verify", *options, stdout=said)
    except CommandError as error:
        said.write(f"Error: {error}")
    return said.getvalue()


def old_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("left")
    os.utime(path, (time.time() - 7200,) * 2)
    return path


def test_a_studio_in_order_has_no_fault(image: Image, lora: Lora, media: Path) -> None:
    for path in [path for path in media.rglob("*") if path.is_file()]:
        os.utime(path, (time.time() - 7200,) * 2)
    assert verify() == "0 missing, 0 without a row, hashes not looked at.\n"
    assert verify("--hash", "--repair") == "0 missing, 0 without a row, 0 changed.\n"
    assert not Damage.objects.exists()


def test_an_empty_studio_has_no_fault(db: None, media: Path) -> None:
    media.mkdir()
    assert verify().startswith("0 missing")


def test_a_missing_picture_is_reported_marked_and_forgotten_when_it_is_back(
    image: Image, media: Path
) -> None:
    path = media / str(image.file)
    png = path.read_bytes()
    path.unlink()
    said = verify()
    assert f"missing  {image.file}\n" in said
    assert said.endswith("Error: --repair moves such files to the quarantine and marks the rows.")
    assert not Damage.objects.exists()
    assert f"missing  {image.file}: marked\n" in verify("--repair")
    assert "marked" in verify("--repair")
    damage = Damage.objects.get()
    assert (damage.model, damage.row, damage.what) == ("generation.Image", image.pk, "missing")
    path.write_bytes(png)
    verify("--repair")
    assert not Damage.objects.exists()


def test_changed_bytes_are_found_by_their_hash(image: Image, media: Path) -> None:
    path = media / str(image.file)
    png = path.read_bytes()
    path.write_bytes(png[:-1] + b"?")
    assert verify().startswith("0 missing")
    assert "1 changed" in verify("--hash", "--repair")
    assert Damage.objects.get().what == "changed"
    verify("--repair")
    assert Damage.objects.exists(), "nobody looked whether it is right again"
    path.write_bytes(png)
    verify("--hash", "--repair")
    assert not Damage.objects.exists()


def test_a_missing_thumbnail_is_made_anew(image: Image, media: Path) -> None:
    path = media / str(image.thumbnail)
    path.unlink()
    assert f"missing  {image.thumbnail}: made anew" in verify("--repair")
    with PIL.Image.open(path) as thumbnail:
        assert thumbnail.size == (image.width, image.height)
    path.unlink()
    (media / str(image.file)).write_bytes(b"no picture")
    assert f"missing  {image.thumbnail}: marked" in verify("--repair")


@pytest.mark.parametrize("how", ["missing", "changed"])
def test_a_lora_without_its_file_is_used_by_no_job(lora: Lora, media: Path, how: str) -> None:
    path = media / str(lora.file)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert f"{how}  {lora.file}: marked; no job may use the LoRA" in verify("--hash", "--repair")
    lora.refresh_from_db()
    assert lora.state == "refused"
    assert lora.reason.startswith("Its file")


def test_files_without_rows_are_moved_to_the_quarantine(image: Image, lora: Lora, media: Path) -> None:
    names = [
        f"images/2026/01/01/{uuid7()}.png", f"loras/ab/{'ab' * 32}.safetensors",
        f"previews/{lora.pk}/other.webp",
    ]  # fmt: skip
    for name in names:
        old_file(media / name)
    assert verify().count("orphan ") == 3
    assert all((media / name).exists() for name in names)
    said = verify("--repair")
    for name in names:
        assert f"orphan   {name}: moved to quarantine/{name}" in said
        assert not (media / name).exists()
        assert (media / "quarantine" / name).read_text() == "left"
    assert verify() == "0 missing, 0 without a row, hashes not looked at.\n"


@pytest.mark.parametrize("place", ["quarantine", "aside"])
def test_a_file_that_a_row_names_again_is_brought_back(image: Image, media: Path, place: str) -> None:
    """A newer copy of the database was put back after an older one; release 0.1 moved files to aside/."""
    path, kept = media / str(image.file), media / place / str(image.file)
    kept.parent.mkdir(parents=True)
    path.rename(kept)
    assert f"missing  {image.file}: brought back from the quarantine" in verify("--repair")
    assert verify("--hash") == "0 missing, 0 without a row, 0 changed.\n"
    assert not kept.exists()


def test_other_bytes_are_not_brought_back(image: Image, media: Path) -> None:
    (media / str(image.file)).unlink()
    kept = old_file(media / "quarantine" / str(image.file))
    assert f"missing  {image.file}: marked" in verify("--repair")
    assert kept.exists()


def test_what_lies_beside_our_folders_is_not_ours(db: None, media: Path) -> None:
    theirs = old_file(media / "somebody" / "elses.txt")
    closed = media / "lost+found"
    closed.mkdir(mode=0)
    assert verify("--repair") == "0 missing, 0 without a row, hashes not looked at.\n"
    assert theirs.exists()


def test_a_lora_that_comes_into_use_before_the_repair_keeps_its_file(alice: User, media: Path) -> None:
    lora = add(alice)
    path = media / str(lora.file)
    os.utime(path, (time.time() - 7200,) * 2)
    Lora.objects.all().delete()
    (fault,) = verification.orphans()
    again = add(alice)
    assert again.file == fault.file
    assert verification.repair(fault) == "came into use meanwhile"
    assert path.exists()
    assert not [path for path in (media / "quarantine").rglob("*") if path.is_file()]


def test_rows_and_files_that_go_before_the_repair_are_left_alone(
    image: Image, lora: Lora, media: Path
) -> None:
    named = [
        Named(str(lora.file), Lora, lora.pk, lora.sha256),
        Named(str(image.file), Image, image.pk, image.sha256),
        Named(str(image.thumbnail), Image, image.pk),
    ]
    faults = [Fault("missing", one.file, one) for one in named] + [Fault("orphan", "images/gone.png")]
    Image.objects.all().delete()
    Lora.objects.all().delete()
    assert [verification.repair(fault) for fault in faults] == ["gone meanwhile"] * 4
    assert not Damage.objects.exists()


def test_a_store_that_does_not_answer_is_said(db: None, settings: Any) -> None:
    options = options_of(f"s3://key:secret@127.0.0.1:{free_port()}/studio?tls=no")
    backend = {"BACKEND": "files.shared.SharedStorage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"default": backend}
    assert verify().startswith("Error: The file store does not answer")


def test_what_may_get_a_row_yet_is_left(image: Image, media: Path) -> None:
    young = media / "images" / "2026" / f"{uuid7()}.png"
    young.parent.mkdir(parents=True, exist_ok=True)
    young.write_text("just written")
    old_file(media / "incoming" / f"{uuid7()}.part")
    old_file(media / "images" / ".half.png.1.tmp")
    assert verify() == "0 missing, 0 without a row, hashes not looked at.\n"


def test_a_picture_that_is_deleted_meanwhile_is_no_fault(image: Image) -> None:
    named = Named("images/none.png", Image, image.pk)
    assert verification.fault_of(named, with_hash=False)
    Image.objects.all().delete()
    assert verification.fault_of(named, with_hash=False) is None


def test_in_an_s3_store_the_same_is_found(
    shared: SharedStorage,  # noqa: F811 (a fixture)
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, other = (finished(alice).images.get() for _ in range(2))
    orphan = shared.save("images/2026/01/01/left.png", ContentFile(b"left"))
    monkeypatch.setattr(leftovers, "safe_age", lambda: timedelta(days=-1))  # a store sets its own times
    shared.delete(str(image.file))
    shared.delete(str(other.thumbnail))
    said = verify("--hash", "--repair")
    assert f"missing  {image.file}: marked" in said
    assert f"missing  {other.thumbnail}: made anew" in said
    assert f"orphan   {orphan}: moved to quarantine/{orphan}" in said
    assert shared.exists(f"quarantine/{orphan}")
    assert (shared.exists(orphan), shared.exists(str(other.thumbnail))) == (False, True)


@pytest.mark.django_db
def test_in_an_s3_store_what_goes_meanwhile_is_no_orphan(
    shared: SharedStorage,  # noqa: F811 (a fixture)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leftovers, "safe_age", lambda: timedelta(days=-1))  # a store sets its own times
    names = {shared.save(f"images/2026/01/01/{uuid7()}.png", ContentFile(b"left")) for _ in range(2)}
    found = verification.orphans()
    first = next(found)
    (other,) = names - {first.file}
    shared.delete(other)
    assert list(found) == []
