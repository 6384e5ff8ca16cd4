"""What can be cleaned away: of each kind the oldest first, how large it is, and how it goes.

Nothing here is younger than ``safe_age``: what is that young may belong to a job that runs, or to a worker
that has lost its lease and does not know it yet.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import ApiToken, Invitation
from files import storage
from generation.models import Image, Job, ShareLink
from loras.library import draft_of
from loras.models import Lora, Upload
from operations import log_files, quarantine
from operations.models import Kind

# A picture's files are written before its row: longer than any attempt takes in between.
LEAST_SAFE = timedelta(hours=1)
# A query may name 32,766 rows on SQLite, and a day may have more pictures.
ASKED_AT_ONCE = 1000
# More files without a row than both of these mean that the database is the wrong one, or is an old one.
ORPHANS_MOST, ORPHANS_SHARE = 100, 0.1


class TooManyOrphans(Exception):
    """So many files have no row that the database is doubted. The text is a sentence with the remedy."""

    def __init__(self, orphans: int, files: int) -> None:
        super().__init__(
            f"{orphans:,} of {files:,} files in the storage have no row in the database. Nothing was moved "
            "or deleted: the database may be the wrong one, or an older copy. If it is the right one, run "
            "manage.py cleanup, or verify --repair, with --all-orphans."
        )


@dataclass(frozen=True)
class Leftover:
    """``delete`` returns whether it was still there, and still nothing that somebody wants.

    ``size``: in bytes. ``frees`` is False where the bytes stay, in the quarantine.
    """

    name: str
    when: datetime
    size: int
    delete: Callable[[], bool]
    frees: bool = True


def safe_age() -> timedelta:
    return max(LEAST_SAFE, 2 * timedelta(seconds=settings.FLUXSITE_LEASE_SECONDS))


def oldest_first(kind: Kind, *, all_orphans: bool = False) -> list[Leftover]:
    """All there is of a kind, except what is too young.

    Raises TooManyOrphans, unless ``all_orphans`` says that the database was looked at.
    """
    latest = timezone.now() - safe_age()
    found = _orphans(all_orphans) if kind is Kind.ORPHANS else SOURCES[kind]()
    return sorted((one for one in found if one.when < latest), key=lambda one: one.when)


# Rows ---------------------------------------------------------------------------------------------------


def _rows(rows: models.QuerySet[Any], when: Any, size: Any = None) -> Iterator[Leftover]:
    """A row goes only if it is still among ``rows`` when its turn comes."""
    measured = models.F(size) if size else models.Value(0)
    facts = rows.order_by().annotate(_when=when, _size=measured).values_list("pk", "_when", "_size")
    for pk, moment, bytes_ in facts:
        # The key of a session or a token is nothing for a log.
        name = f"{rows.model._meta.label} {pk if size else ''}".strip()
        yield Leftover(name, moment, bytes_, partial(_delete_row, rows, pk))


def _delete_row(rows: models.QuerySet[Any], pk: Any) -> bool:
    model = rows.model._default_manager
    with transaction.atomic():
        # Whoever would change the row waits for us, or we for them.
        locked = model.select_for_update(of=("self",)).filter(pk=pk).values_list("pk", flat=True)
        if not locked or not rows.filter(pk=pk).exists():
            return False
        model.filter(pk=pk).delete()
        return True


def _trash() -> Iterator[Leftover]:
    return _rows(_of_ended_jobs().trashed(), models.F("trashed_at"), "size")


def _pictures() -> Iterator[Leftover]:
    """Those that nobody has chosen in any way."""
    unchosen = _of_ended_jobs().kept().filter(favourite=False, placements=None, share_links=None)
    return _rows(unchosen.exclude(owner=None), models.F("created_at"), "size")


def _of_ended_jobs() -> Any:
    return Image.objects.filter(job__state__in=Job.FINAL)


def _jobs() -> Iterator[Leftover]:
    """A picture's job is its recipe, and a trial's is the administrators' to look at."""
    ended = Job.objects.filter(state__in=Job.FINAL, images=None, trial=None)
    return _rows(ended, Coalesce("finished_at", "created_at"))


def _tokens() -> Iterator[Leftover]:
    return _rows(ApiToken.objects.filter(expiry__lt=timezone.now()), models.F("expiry"))


def _sessions() -> Iterator[Leftover]:
    return _rows(Session.objects.filter(expire_date__lt=timezone.now()), models.F("expire_date"))


def _shares() -> Iterator[Leftover]:
    over = models.Q(expires_at__lt=timezone.now()) | models.Q(revoked_at__isnull=False)
    return _rows(ShareLink.objects.filter(over), Coalesce("revoked_at", "expires_at"))


def _invitations() -> Iterator[Leftover]:
    over = models.Q(expires_at__lt=timezone.now()) | models.Q(used_at__isnull=False)
    return _rows(Invitation.objects.filter(over), Coalesce("used_at", "expires_at"))


def _uploads() -> Iterator[Leftover]:
    for upload in Upload.objects.all():
        draft, size = draft_of(upload), 0
        with suppress(FileNotFoundError):  # on another host, or another cleanup has just deleted it
            size = draft.stat().st_size
        yield Leftover(draft.name, upload.renewed_at, size, partial(_delete_upload, upload, draft))


def _delete_upload(upload: Upload, draft: Path) -> bool:
    """Delete an upload if it was not renewed since it was listed: bytes may still arrive."""
    with transaction.atomic():
        unchanged = Upload.objects.filter(pk=upload.pk, renewed_at=upload.renewed_at)
        if not unchanged.select_for_update():
            return False
        draft.unlink(missing_ok=True)
        return bool(Upload.objects.filter(pk=upload.pk).delete()[0])


# Files of this host -------------------------------------------------------------------------------------


def _paths(paths: Iterable[Path]) -> Iterator[Leftover]:
    for path in paths:
        try:
            facts = path.stat()
        except FileNotFoundError:  # whoever wrote it has renamed it
            continue
        when = timezone.make_aware(datetime.fromtimestamp(facts.st_mtime))  # noqa: DTZ006
        yield Leftover(str(path), when, facts.st_size, partial(_delete_path, path))


def _delete_path(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _temporary() -> Iterator[Leftover]:
    """Drafts of pictures, uploads, copies and logs whose process was killed before it renamed them."""
    reserved = {draft_of(upload) for upload in Upload.objects.all()}
    places = [settings.MEDIA_ROOT, settings.VAR_DIR / "cache"]
    yield from _paths(path for place in places for path in place.rglob(".*.tmp"))
    yield from _paths(settings.LOG_DIR.glob(".fluxsite-*.gz"))
    yield from _paths(path for path in storage.drafts.glob("*.part") if path not in reserved)


def _logs() -> Iterator[Leftover]:
    return _paths(log_files.older(settings.LOG_DIR))


# Files in the storage -----------------------------------------------------------------------------------


def names_under(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder of the storage from there on, with names of its files, some at a time; no drafts."""
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    names = [name for name in files if name and not name.startswith(".")]
    for start in range(0, len(names), ASKED_AT_ONCE):
        yield folder, names[start : start + ASKED_AT_ONCE]
    for below in folders:
        yield from names_under(f"{folder}/{below}".strip("/"))


def orphans(folder: str) -> Iterator[str]:
    """The files of pictures, previews or LoRAs that no row names."""
    for place, names in names_under(folder):
        yield from _unnamed(place, names)


def _unnamed(place: str, names: list[str]) -> list[str]:
    named = _named_in(place, names)
    return [path for name in names if (path := f"{place}/{name}") not in named]


def believable_orphans(folders: Iterable[str]) -> list[str]:
    """The files in these folders that no row names. Raises TooManyOrphans."""
    found: list[str] = []
    files = 0
    for place, names in (part for folder in folders for part in names_under(folder)):
        found += _unnamed(place, names)
        files += len(names)
    if len(found) > max(ORPHANS_MOST, ORPHANS_SHARE * files):
        raise TooManyOrphans(len(found), files)
    return found


def is_named(name: str) -> bool:
    """Whether a row names this file of the storage now."""
    place, _, own = name.rpartition("/")
    return name in _named_in(place, [own])


def _named_in(place: str, names: list[str]) -> set[str]:
    """What rows say of a folder. Ids lead there: a picture's in its name, a LoRA's in its folder."""
    rows: Iterable[tuple[str, ...]]
    if place.startswith("images/"):
        ids = {pk for name in names if (pk := _uuid(name.partition(".")[0]))}
        rows = Image.objects.filter(pk__in=ids).values_list("file", "thumbnail")
    elif place.startswith("previews/"):
        ids = {pk for pk in [_uuid(place.partition("/")[2])] if pk}
        rows = Lora.objects.filter(pk__in=ids).values_list("preview", "preview_without")
    else:
        rows = Lora.objects.filter(file__startswith=f"{place}/").values_list("file")
    return {name for row in rows for name in row}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _orphans(all_of_them: bool = False) -> Iterator[Leftover]:
    """Files of pictures and previews without a row. Those of LoRAs ``manage.py verify --repair`` moves."""
    folders = ("images", "previews")
    every = (name for folder in folders for name in orphans(folder))
    for name in every if all_of_them else believable_orphans(folders):
        yield from _file(name, partial(_quarantine, name), frees=False)


def _quarantine(name: str) -> bool:
    return quarantine.move(name) != quarantine.GONE


def _quarantined() -> Iterator[Leftover]:
    """Files in the quarantine; their time is that of the move."""
    for place, names in names_under(quarantine.FOLDER):
        for name in names:
            yield from _file(f"{place}/{name}", partial(_delete_quarantined, f"{place}/{name}"))


def _file(name: str, delete: Callable[[], bool], frees: bool = True) -> Iterator[Leftover]:
    """A file of the storage, unless it is deleted meanwhile."""
    with suppress(FileNotFoundError):
        yield Leftover(name, storage.get_modified_time(name), storage.size(name), delete, frees)


def _delete_quarantined(name: str) -> bool:
    """Delete a file for good, unless a row names it again and misses it: then it is brought back."""
    original = name.removeprefix(f"{quarantine.FOLDER}/")
    if is_named(original) and not storage.exists(original) and quarantine.bring_back(original):
        return False
    storage.delete(name)
    return True


SOURCES: dict[Kind, Callable[[], Iterator[Leftover]]] = {
    Kind.TRASH: _trash,
    Kind.PICTURES: _pictures,
    Kind.UPLOADS: _uploads,
    Kind.TEMPORARY: _temporary,
    Kind.ORPHANS: _orphans,
    Kind.QUARANTINE: _quarantined,
    Kind.JOBS: _jobs,
    Kind.LOGS: _logs,
    Kind.TOKENS: _tokens,
    Kind.SESSIONS: _sessions,
    Kind.SHARES: _shares,
    Kind.INVITATIONS: _invitations,
}
