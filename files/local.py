"""Files on this host's disk."""

import os
import shutil
import threading
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.http import FileResponse, HttpResponse, HttpResponseBase

from files.signals import before_delete, before_save


class LocalStorage(FileSystemStorage):
    """A file at its final name is complete and on the disk, whatever is killed meanwhile.

    Django's own class writes straight to the final name: on a full disk a truncated file stays there.
    This one writes a temporary file in the same directory, flushes it to the disk, renames it and
    flushes the directory. On any error the temporary file is removed and the error goes on.
    """

    cache_bytes = None
    redirects = False

    @property
    def drafts(self) -> Path:
        return Path(self.path("incoming"))  # on the same file system, so that a draft is renamed

    def _save(self, name: str, content: "File[bytes]") -> str:
        before_save.send(type(self), storage=self)
        path = Path(self.path(name))
        self._make_folders(path.parent)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self._write(draft, content)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        return name

    def _make_folders(self, folder: Path) -> None:
        """Make a folder and those above it, with the mode of the settings whatever the umask is."""
        if folder.exists():
            return
        self._make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(self.directory_permissions_mode or 0o700)

    def _write(self, draft: Path, content: "File[bytes]") -> None:
        with draft.open("xb") as file:
            for chunk in content.chunks():
                file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), self.file_permissions_mode or 0o600)
            os.fsync(file.fileno())

    def delete(self, name: str) -> None:
        """Raises what a receiver of ``before_delete`` raises; the file stays then."""
        before_delete.send(type(self), storage=self)
        super().delete(name)

    def adopt(self, path: Path, name: str) -> None:
        place = Path(self.path(name))
        self._make_folders(place.parent)
        path.chmod(self.file_permissions_mode or 0o600)
        path.replace(place)
        sync_directory(place.parent)

    def local(self, name: str, sha256: str) -> Path:
        """The file itself. Its hash is not looked at: engines do that when they load it."""
        path = Path(self.path(name))
        if not path.is_file():
            raise FileNotFoundError(name)
        return path

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.location).free
        except OSError:
            return None

    def respond(self, name: str, content_type: str, *, download_as: str = "") -> HttpResponseBase:
        """By nginx, where FLUXSITE_ACCEL names the location under which it has the media; or by ourselves."""
        response: HttpResponseBase
        if settings.FLUXSITE_ACCEL:
            if not self.exists(name):
                raise FileNotFoundError(name)
            response = HttpResponse(content_type=content_type)
            response["X-Accel-Redirect"] = f"{settings.FLUXSITE_ACCEL}/{quote(name)}"
        else:
            response = FileResponse(self.open(name), content_type=content_type)
        if download_as:
            response["Content-Disposition"] = f'attachment; filename="{download_as}"'
        # The bytes at a name never change, so a browser may keep them; a shared cache may not.
        response["Cache-Control"] = "private, max-age=31536000, immutable"
        return response


def sync_directory(directory: Path) -> None:
    """Make the names in it last through a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
