"""Files in a store that hosts share."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile

from files.address import options_of, origin_of
from files.shared import SharedStorage
from files.storage import Away, Damaged
from tests.postgresql import free_port


def test_it_keeps_what_it_is_given_and_gives_it_back(shared: SharedStorage) -> None:
    name = shared.save("images/a.png", ContentFile(b"whole"))
    assert name == "images/a.png"
    with shared.open(name) as file:
        assert file.read() == b"whole"
    assert shared.listdir("images") == ([], ["a.png"])
    shared.delete(name)
    assert not shared.exists(name)
    with pytest.raises(FileNotFoundError):
        shared.open(name)


def test_what_is_deleted_meanwhile_is_a_file_that_is_not_there(shared: SharedStorage) -> None:
    name = shared.save("images/a.png", ContentFile(b"whole"))
    with shared.open(name) as file:
        shared.delete(name)
        assert file.read() == b"whole"
    for ask in (shared.open, shared.size, shared.get_modified_time):
        with pytest.raises(FileNotFoundError):
            ask(name)


@pytest.mark.parametrize("trouble", ["no bucket", "no answer"])
def test_a_store_in_trouble_is_away_whatever_it_is_asked(
    shared: SharedStorage, trouble: str, tmp_path: Path
) -> None:
    if trouble == "no bucket":
        shared.bucket.delete()
    else:
        options = options_of(f"s3://key:secret@127.0.0.1:{free_port()}/studio?tls=no")
        shared = SharedStorage(**options)
    draft = tmp_path / "1.part"
    draft.write_bytes(b"lora")
    asked: list[Callable[[], object]] = [
        lambda: shared.listdir("images"),
        lambda: shared.adopt(draft, "loras/ab/ab.safetensors"),
    ]
    if trouble == "no answer":
        asked += [lambda: shared.size("images/a.png"), lambda: shared.get_modified_time("images/a.png")]
    for ask in asked:
        with pytest.raises(Away):
            ask()
    assert draft.exists()


def test_a_draft_is_taken_in(shared: SharedStorage) -> None:
    shared.drafts.mkdir(parents=True)
    draft = shared.drafts / "1.part"
    draft.write_bytes(b"lora")
    shared.adopt(draft, "loras/ab/ab.safetensors")
    assert shared.size("loras/ab/ab.safetensors") == 4
    assert not draft.exists()


def test_a_host_fetches_a_file_once_and_looks_at_its_hash(shared: SharedStorage) -> None:
    sha256 = hashlib.sha256(b"lora").hexdigest()
    name = shared.save(f"loras/{sha256}.safetensors", ContentFile(b"lora"))
    path = shared.local(name, sha256)
    assert path.read_bytes() == b"lora"
    shared.delete(name)
    assert shared.local(name, sha256) == path
    other = shared.save("loras/other.safetensors", ContentFile(b"changed"))
    with pytest.raises(Damaged):
        shared.local(other, hashlib.sha256(b"other").hexdigest())
    with pytest.raises(FileNotFoundError):
        shared.local("loras/none.safetensors", "0" * 64)


def test_copies_give_way_before_a_worker_waits_for_its_disk(shared: SharedStorage, settings: Any) -> None:
    sha256 = hashlib.sha256(b"lora").hexdigest()
    path = shared.local(shared.save("loras/a.safetensors", ContentFile(b"lora")), sha256)
    os.utime(path, (1, 1))
    assert shared.free_bytes()
    assert path.exists()
    settings.FLUXSITE_DISK_FLOOR_MB = 10**12
    assert shared.free_bytes()
    assert not path.exists()


def test_browsers_get_a_link_to_the_store_that_expires(shared: SharedStorage) -> None:
    name = shared.save("images/a.png", ContentFile(b"whole"))
    response = shared.respond(name, "image/png", download_as="star.png")
    assert response.status_code == 302
    assert "X-Amz-Expires=300" in response["Location"]
    assert "max-age=31536000" not in response["Cache-Control"]
    answer = requests.get(response["Location"], timeout=10)
    assert answer.content == b"whole"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="star.png"'


@pytest.mark.parametrize("url", ["https://host/bucket", "s3://key:secret@host", "s3://host/a/b"])
def test_an_address_that_says_too_little_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="must look like s3://"):
        options_of(url)


def test_key_and_secret_may_hold_any_character_or_be_left_out() -> None:
    options = options_of("s3://k%2Fey:se%40cret@store.example:9000/studio?region=eu-central-1")
    assert (options["access_key"], options["secret_key"]) == ("k/ey", "se@cret")
    amazons = options_of("s3:///studio?region=eu-central-1")
    assert amazons["access_key"] is amazons["endpoint_url"] is None


@pytest.mark.parametrize(
    ("place", "origin"),
    [
        ("/studio", "https://studio.s3.amazonaws.com"),
        ("/studio?region=us-east-1", "https://studio.s3.amazonaws.com"),
        ("/studio?region=eu-central-1", "https://studio.s3.eu-central-1.amazonaws.com"),
        ("/my.studio?region=eu-central-1", "https://s3.eu-central-1.amazonaws.com"),
        ("/studio?region=cn-north-1", "https://studio.s3.cn-north-1.amazonaws.com.cn"),
        ("store.example:9000/studio", "https://store.example:9000"),
        ("store.example/my.studio?region=here&tls=no", "http://store.example"),
    ],
)
def test_a_page_may_show_pictures_from_where_links_lead(
    place: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    options = options_of(f"s3://key:secret@{place}")
    assert origin_of(options) == origin
    assert SharedStorage(**options).url("images/a.png").startswith(f"{origin}/")


def test_a_bucket_that_cannot_be_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="names no store"):
        origin_of(options_of("s3://key:secret@store.example/stu dio"))


def test_a_large_file_that_is_opened_is_not_kept_in_memory(shared: SharedStorage) -> None:
    for size, is_on_disk in ((1_000, False), (21_000_000, True)):
        name = shared.save(f"loras/{size}", ContentFile(b"0" * size))
        with shared.open(name) as file:
            assert file.file._rolled == is_on_disk  # of Python's SpooledTemporaryFile
