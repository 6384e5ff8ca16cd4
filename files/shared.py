"""Files in an S3-compatible store that all hosts share, with a cache on each host."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.http import HttpResponseBase, HttpResponseRedirect
from storages.backends.s3 import S3Storage

from files.address import LINK_SECONDS
from files.cache import Cache
from files.storage import Away


class SharedStorage(S3Storage):  # type: ignore[misc]
    """An upload is visible when it is complete, and browsers get short signed links to the store itself.

    Raises FileNotFoundError, and Away where the store does not answer.
    """

    redirects = True

    def __init__(self, *, path_style: bool, **options: Any) -> None:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if path_style else "auto"},
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
        with _told(name):
            return super().open(name, mode)

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        with _told(name):
            return str(super().save(name, content, max_length))

    def delete(self, name: str) -> None:
        with _told(name):
            super().delete(name)

    def exists(self, name: str) -> bool:
        with _told(name):
            return bool(super().exists(name))

    def adopt(self, path: Path, name: str) -> None:
        with _told(name):
            self.bucket.upload_file(str(path), self._normalize_name(name))
        path.unlink()

    def local(self, name: str, sha256: str) -> Path:
        cache = Cache(Path(settings.VAR_DIR) / "cache", settings.FLUXSITE_CACHE_MB * 10**6)
        return cache.get(sha256, Path(name).suffix, lambda: self._stream(name))

    def _stream(self, name: str) -> Iterator[bytes]:
        """In parts: ``open`` keeps the whole file in memory."""
        with _told(name):
            yield from self.bucket.Object(self._normalize_name(name)).get()["Body"].iter_chunks(1024**2)

    def free_bytes(self) -> int | None:
        """Of the disk with the cache; the store has no end that we know."""
        return shutil.disk_usage(settings.VAR_DIR).free

    def respond(self, name: str, content_type: str, *, download_as: str = "") -> HttpResponseBase:
        parameters = {"ResponseContentType": content_type}
        if download_as:
            parameters["ResponseContentDisposition"] = f'attachment; filename="{download_as}"'
        response = HttpResponseRedirect(self.url(name, parameters=parameters, expire=LINK_SECONDS))
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
    except BotoCoreError as error:
        raise Away(f"The file store does not answer: {error}") from error
