"""Where files live: pictures and LoRAs, whole or absent; and the pages' own static files."""

import os
from pathlib import Path

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from whitenoise.storage import CompressedManifestStaticFilesStorage


class AtomicFileSystemStorage(FileSystemStorage):
    """A file at its final name is complete and on the disk, whatever is killed meanwhile.

    Django's own class writes straight to the final name: on a full disk a truncated file stays there.
    This one writes a temporary file in the same directory, flushes it to the disk, renames it and
    flushes the directory. On any error the temporary file is removed and the error goes on.
    """

    def _save(self, name: str, content: "File[bytes]") -> str:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._write(draft, content)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self._sync_directory(path.parent)
        return name

    def _write(self, draft: Path, content: "File[bytes]") -> None:
        with draft.open("xb") as file:
            for chunk in content.chunks():
                file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), self.file_permissions_mode or 0o640)
            os.fsync(file.fileno())

    @staticmethod
    def _sync_directory(directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class HashedStaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Static files under names that hold their hash, so that browsers keep them for ever.

    That goes for what an ES module imports, too: without it a new page would meet an old module.
    """

    support_js_module_import_aggregation = True
