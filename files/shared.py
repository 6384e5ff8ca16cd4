"""Files in an S3-compatible store that all hosts share, with a cache on each host."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.http import HttpResponseBase, HttpResponseRedirect
from storages.backends.s3 import S3Storage

from files.address import LINK_SECONDS
from files.cache import Cache
from files.signals import before_delete, before_save
from files.storage import Away


class SharedStorage(S3Storage):  # type: ignore[misc]
    """An upload is visible when it is complete, and browsers get short signed links to the store itself.

    Raises FileNotFoundError, and Away where the store does not answer.
    """

    redirects = True

    def __init__(self, *, addressing_style: str, **options: Any) -> None:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing_style},
            # botocore's own 60 s are longer than a worker is given by its lease.
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "standard", "max_attempts": 3},
        )
        super().__init__(client_config=config, **options)

    @property
    def drafts(self) -> Path:
        return Path(settings.VAR_DIR) / "incoming"

    def open(self, name: str, mode: str = "rb") -> Any:
        """It is read here: what fails or is deleted meanwhile is told now, not at somebody's first read."""
        with _told(name):
            return super().open(name, mode).open()

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        before_save.send(type(self), storage=self)
        with _told(name):
            return str(super().save(name, content, max_length))

    def delete(self, name: str) -> None:
        """Raises what a receiver of ``before_delete`` raises; the file stays then."""
        before_delete.send(type(self), storage=self)
        with _told(name):
            super().delete(name)

    def exists(self, name: str) -> bool:
        with _told(name):
            return bool(super().exists(name))

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _told(name):
            folders, files = super().listdir(name)
            return folders, files

    def size(self, name: str) -> int:
        with _told(name):
            return int(super().size(name))

    def get_modified_time(self, name: str) -> datetime:
        with _told(name):
            when: datetime = super().get_modified_time(name)
            return when

    def adopt(self, path: Path, name: str) -> None:
        with _told(name):
            self.bucket.upload_file(str(path), self._normalize_name(name))
        path.unlink()

    @property
    def cache_bytes(self) -> int:
        return int(settings.FLUXSITE_CACHE_MB) * 10**6

    def _cache(self) -> Cache:
        floor = settings.FLUXSITE_DISK_FLOOR_MB * 10**6
        return Cache(Path(settings.VAR_DIR) / "cache", self.cache_bytes, floor)

    def local(self, name: str, sha256: str) -> Path:
        return self._cache().get(sha256, Path(name).suffix, lambda: self._stream(name))

    def _stream(self, name: str) -> Iterator[bytes]:
        """In parts: ``open`` would make one more copy of the whole file."""
        with _told(name):
            yield from self.bucket.Object(self._normalize_name(name)).get()["Body"].iter_chunks(1024**2)

    def free_bytes(self) -> int | None:
        """Of the disk with the cache, which gives way; the store has no end that we know."""
        return self._cache().free_bytes()

    def respond(self, name: str, content_type: str, *, download_as: str = "") -> HttpResponseBase:
        parameters = {"ResponseContentType": content_type}
        if download_as:
            parameters["ResponseContentDisposition"] = f'attachment; filename="{download_as}"'
        with _told(name):
            link = self.url(name, parameters=parameters, expire=LINK_SECONDS)
        response = HttpResponseRedirect(link)
        response["Cache-Control"] = f"private, max-age={LINK_SECONDS // 2}"
        return response


@contextmanager
def _told(name: str | None) -> Iterator[None]:
    """Errors of the store as errors of files."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            raise FileNotFoundError(name) from error
        raise Away(f"The file store refuses: {error}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise Away(f"The file store does not answer: {error}") from error
