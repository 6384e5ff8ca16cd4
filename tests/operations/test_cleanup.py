"""What the cleanup deletes, what it never does, and what happens when it cannot."""

import io
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.test import Client, TestCase
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, Invitation, User
from files.local import LocalStorage
from generation.models import Collection, Image, Job, ShareLink
from gpu.models import Worker
from loras import library
from loras.models import Upload
from operations import chores, cleaning, health, leftovers, studio
from operations.cleaning import Tally
from operations.models import Cleanup, Kind, Rule
from tests.conftest import files_under, submit
from tests.generation.drawn import draw, finished
from tests.loras.test_uploads import add

OLD = timedelta(days=400)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folders(db: None, media: Path, tmp_path: Path, settings: Any) -> None:
    settings.VAR_DIR = tmp_path / "var"
    settings.LOG_DIR = tmp_path / "var" / "log"
    settings.LOG_DIR.mkdir(parents=True)
    studio.confirm()


def clean(**rules: Any) -> dict[Kind, Tally]:
    """With these rules for what is off otherwise; only what something became of."""
    for kind, facts in rules.items():
        Rule.objects.update_or_create(kind=kind, defaults=facts)
    with TestCase.captureOnCommitCallbacks(execute=True):  # files go when their rows are gone for good
        tallies = cleaning.clean()
    return {kind: tally for kind, tally in tallies.items() if tally.count or tally.failed}


def make_old(path: Path, age: timedelta = OLD) -> Path:
    os.utime(path, (time.time() - age.total_seconds(),) * 2)
    return path


def old_file(path: Path, text: str = "left", age: timedelta = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return make_old(path, age)


def picture(owner: User, age: timedelta = OLD, **facts: Any) -> Image:
    """A picture of a job that is over, made so long ago."""
    image = finished(owner).images.get()
    Image.objects.filter(pk=image.pk).update(created_at=timezone.now() - age, **facts)
    image.refresh_from_db()
    return image


def files_of(image: Image, media: Path) -> list[bool]:
    return [(media / str(name)).exists() for name in (image.file, image.thumbnail)]


def test_what_is_long_in_the_trash_goes_with_its_files(alice: User, media: Path) -> None:
    long, lately, kept = (picture(alice) for _ in range(3))
    Image.objects.filter(pk=long.pk).update(trashed_at=timezone.now() - timedelta(days=31))
    Image.objects.filter(pk=lately.pk).update(trashed_at=timezone.now() - timedelta(days=29))
    assert clean() == {Kind.TRASH: Tally(1, long.size)}
    assert set(Image.objects.all()) == {lately, kept}
    assert files_of(long, media) == [False, False]
    assert files_of(lately, media) == files_of(kept, media) == [True, True]


def test_pictures_go_only_if_that_is_switched_on_and_nobody_has_chosen_them(alice: User) -> None:
    plain, loved, shared, placed = (picture(alice) for _ in range(4))
    Image.objects.filter(pk=loved.pk).update(favourite=True)
    ShareLink.objects.create(owner=alice, image=shared, expires_at=timezone.now() + OLD)
    Collection.objects.create(owner=alice, name="Best").add(Image.objects.filter(pk=placed.pk))
    assert clean() == {}
    assert clean(pictures={"on": True, "days": 30}) == {Kind.PICTURES: Tally(1, plain.size)}
    assert set(Image.objects.all()) == {loved, shared, placed}


def test_while_there_is_too_much_the_oldest_goes(alice: User) -> None:
    ages = (timedelta(days=days) for days in (1, 3, 2))
    newest, *_ = (picture(alice, age, size=600_000) for age in ages)
    assert clean(pictures={"on": True, "megabytes": 1}) == {Kind.PICTURES: Tally(2, 1_200_000)}
    assert list(Image.objects.all()) == [newest]


def test_nothing_young_goes_whatever_the_rules_say(alice: User, media: Path, settings: Any) -> None:
    """It may belong to a job that runs, or to a worker that lost its lease and does not know it yet."""
    everything = {kind: {"on": True, "days": 0, "megabytes": 0} for kind in Kind.values}
    running = draw(submit(alice))
    Job.objects.update(state=Job.State.RUNNING)
    Image.objects.update(trashed_at=timezone.now() - OLD, created_at=timezone.now() - OLD)
    picture(alice, timedelta(0), trashed_at=timezone.now())
    folder = (media / str(running.file)).parent
    age = timedelta(minutes=50)
    for name in (f"{uuid7()}.png", f".{uuid7()}.png.1.tmp"):
        old_file(folder / name, age=age)
    old_file(settings.LOG_DIR / "fluxsite-20260101-000000-0.log", age=age)
    before = sorted(media.rglob("*"))
    assert clean(**everything) == {}
    assert sorted(media.rglob("*")) == before
    settings.FLUXSITE_LEASE_SECONDS = 4 * 3600
    assert leftovers.safe_age() == timedelta(hours=8)


def test_a_picture_that_was_restored_meanwhile_stays(alice: User) -> None:
    image = picture(alice, trashed_at=timezone.now() - OLD)
    (leftover,) = leftovers.oldest_first(Kind.TRASH)
    Image.objects.restore()
    assert not leftover.delete()
    assert Image.objects.get() == image


def test_loras_of_the_library_are_never_cleaned_away(alice: User, media: Path) -> None:
    lora = add(alice)
    make_old(media / str(lora.file))
    unnamed = old_file(media / "loras" / "ab" / f"{'ab' * 32}.safetensors")
    everything = {kind: {"on": True, "days": 0, "megabytes": 0} for kind in Kind.values}
    clean(**everything)
    assert (media / str(lora.file)).exists()
    assert unnamed.exists()


@pytest.mark.parametrize("at_once", [1, 1000])
def test_files_that_no_row_names_go(
    alice: User, media: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(leftovers, "ASKED_AT_ONCE", at_once)
    kept = picture(alice)
    folder = (media / str(kept.file)).parent
    for name in (kept.file, kept.thumbnail):
        make_old(media / str(name))
    orphans = [old_file(folder / f"{uuid7()}.png"), old_file(folder / f"{kept.pk}.gif")]
    orphans += [old_file(folder / "what is this"), old_file(media / "previews" / str(uuid4()) / "a.webp")]
    assert clean() == {Kind.ORPHANS: Tally(4, 0)}
    assert not any(path.exists() for path in orphans)
    assert all((media / "quarantine" / path.relative_to(media)).read_text() == "left" for path in orphans)
    assert files_of(kept, media) == [True, True]


def test_the_quarantine_ends_after_the_time_of_its_policy(alice: User, media: Path) -> None:
    name = f"images/{uuid7()}.png"
    old_file(media / name)
    clean()
    kept = media / "quarantine" / name
    make_old(kept, timedelta(days=29))
    assert clean() == {}
    make_old(kept, timedelta(days=31))
    assert clean() == {Kind.QUARANTINE: Tally(1, 4)}
    assert not kept.exists()


def test_a_quarantined_file_that_a_row_misses_is_brought_back_instead(alice: User, media: Path) -> None:
    image = picture(alice)
    path, kept = media / str(image.file), media / "quarantine" / str(image.file)
    kept.parent.mkdir(parents=True)
    path.rename(kept)
    make_old(kept)
    assert clean() == {}
    assert (path.exists(), kept.exists()) == (True, False)


def test_so_many_files_without_rows_that_the_database_is_doubted_are_left(
    alice: User, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after an older copy of the database was put back."""
    monkeypatch.setattr(leftovers, "ORPHANS_MOST", 3)
    paths = [old_file(media / "images" / f"{uuid7()}.png") for _ in range(4)]
    (said,) = clean()[Kind.ORPHANS].failed
    assert said.startswith("4 of 4 files in the storage have no row in the database. Nothing was moved")
    assert "--all-orphans" in said
    assert all(path.exists() for path in paths)
    assert "4 of 4 files" in health.cleanup().detail
    assert cleaning.plan()[Kind.ORPHANS].failed == [said]
    with pytest.raises(CommandError, match="4 of 4 files"):
        call_command("verify", "--repair", stdout=io.StringIO())
    assert all(path.exists() for path in paths)
    call_command("cleanup", "--all-orphans", stdout=io.StringIO())
    assert not any(path.exists() for path in paths)


def test_a_few_files_without_rows_among_many_with_rows_are_moved(
    alice: User, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the number, and less than the share: 2 of 22."""
    monkeypatch.setattr(leftovers, "ORPHANS_MOST", 1)
    for _ in range(10):
        picture(alice)
    for _ in range(2):
        old_file(media / "images" / f"{uuid7()}.png")
    assert clean() == {Kind.ORPHANS: Tally(2, 0)}


def test_drafts_of_killed_processes_go(alice: User, media: Path, settings: Any) -> None:
    upload = Upload.objects.create(owner=alice, size=10)
    Upload.objects.update(renewed_at=timezone.now() - OLD)
    left = [
        old_file(library.draft_of(upload)),
        old_file(media / "incoming" / f"{uuid7()}.part"),
        old_file(media / "images" / "2026" / ".a.png.1.tmp"),
        old_file(settings.VAR_DIR / "cache" / "ab" / ".b.safetensors.1.tmp"),
        old_file(settings.LOG_DIR / ".fluxsite-20260101.log.gz"),
    ]
    copy = old_file(settings.VAR_DIR / "cache" / "ab" / "b.safetensors")
    assert clean() == {Kind.UPLOADS: Tally(1, 4), Kind.TEMPORARY: Tally(4, 16)}
    assert not any(path.exists() for path in left)
    assert copy.exists()
    assert not Upload.objects.exists()


def test_an_upload_that_goes_on_after_it_was_listed_stays(alice: User) -> None:
    upload = Upload.objects.create(owner=alice, size=10)
    Upload.objects.update(renewed_at=timezone.now() - OLD)
    draft = old_file(library.draft_of(upload))
    (leftover,) = leftovers.oldest_first(Kind.UPLOADS)
    Upload.objects.update(renewed_at=timezone.now())
    assert not leftover.delete()
    assert draft.exists()
    assert Upload.objects.get() == upload


def test_jobs_go_only_if_that_is_switched_on_and_they_have_no_pictures(alice: User) -> None:
    finished(alice)
    empty = submit(alice)
    waiting = submit(alice)
    Job.objects.exclude(pk=waiting.pk).update(state=Job.State.FAILED, finished_at=timezone.now() - OLD)
    Job.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - OLD)
    assert clean() == {}
    assert clean(jobs={"on": True, "days": 30}) == {Kind.JOBS: Tally(1, 0)}
    assert not Job.objects.filter(pk=empty.pk).exists()
    assert Job.objects.count() == 2


def test_older_logs_go_and_the_one_that_is_written_stays(settings: Any) -> None:
    current = old_file(settings.LOG_DIR / "fluxsite.log")
    old = old_file(settings.LOG_DIR / "fluxsite-20260101-000000-0.log.gz")
    newer = old_file(settings.LOG_DIR / "fluxsite-20260102-000000-0.log", age=timedelta(days=2))
    assert clean() == {Kind.LOGS: Tally(1, 4)}
    assert (current.exists(), old.exists(), newer.exists()) == (True, False, True)


def test_what_expired_goes(alice: User, bob: User) -> None:
    now = timezone.now()
    for name, expiry in (("over", now - OLD), ("lately", now - timedelta(days=1)), ("open", now + OLD)):
        token, _ = ApiToken.objects.create(alice, name=name)
        ApiToken.objects.filter(pk=token.pk).update(expiry=expiry)
    ApiToken.objects.create(bob, expiry=None, name="for ever")
    for key, expiry in (("over", now - timedelta(days=1)), ("open", now + OLD)):
        Session.objects.create(session_key=key, session_data="", expire_date=expiry)
    image = picture(alice)
    for expires, revoked in ((now - OLD, None), (now + OLD, now - OLD), (now + OLD, None)):
        ShareLink.objects.create(owner=alice, image=image, expires_at=expires, revoked_at=revoked)
    for expires, used in ((now - OLD, None), (now + OLD, now - OLD), (now + OLD, None)):
        Invitation.objects.create(invited_by=alice, expires_at=expires, used_at=used)
    gone = {kind.value: tally.count for kind, tally in clean().items()}
    assert gone == {"tokens": 1, "sessions": 1, "shares": 2, "invitations": 2}
    assert set(ApiToken.objects.values_list("name", flat=True)) == {"lately", "open", "for ever"}
    assert Session.objects.get().session_key == "open"
    assert Image.objects.get() == image


def test_what_cannot_be_deleted_is_told_and_does_not_stop_the_rest(
    alice: User, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, loose = old_file(media / "images" / "a.png"), old_file(media / "images" / "b.png")
    ApiToken.objects.create(alice, name="over")
    ApiToken.objects.update(expiry=timezone.now() - OLD)
    move = leftovers._quarantine

    def refuse(name: str) -> bool:
        if name.endswith("a.png"):
            raise PermissionError(13, "Permission denied")
        return move(name)

    monkeypatch.setattr(leftovers, "_quarantine", refuse)
    said = io.StringIO()
    with pytest.raises(CommandError, match="1 could not be deleted"):
        call_command("cleanup", stdout=said)
    assert "failed: images/a.png: [Errno 13] Permission denied" in said.getvalue()
    assert (stuck.exists(), loose.exists(), ApiToken.objects.exists()) == (True, False, False)
    record = Cleanup.objects.get()
    assert (record.deleted, record.bytes, record.by_kind) == (2, 0, {"orphans": [1, 0], "tokens": [1, 0]})
    assert health.cleanup().detail.startswith("Not all could be deleted: orphans: images/a.png")


def test_a_kind_that_breaks_off_does_not_stop_the_others(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(alice, trashed_at=timezone.now() - OLD)

    def broken() -> Any:
        raise RuntimeError("no such place")

    monkeypatch.setitem(leftovers.SOURCES, Kind.TOKENS, broken)
    tallies = clean()
    assert tallies[Kind.TRASH].count == 1
    assert tallies[Kind.TOKENS].failed == ["broken off: no such place"]
    assert "no such place" in Cleanup.objects.get().error


def test_a_dry_run_says_the_same_and_deletes_nothing(alice: User, media: Path) -> None:
    image = picture(alice, trashed_at=timezone.now() - OLD)
    old_file(media / "images" / "a.png", "x" * 2048)
    dry, wet = io.StringIO(), io.StringIO()
    call_command("cleanup", "--dry-run", stdout=dry)
    assert files_of(image, media) == [True, True]
    assert not Cleanup.objects.exists()
    call_command("cleanup", stdout=wet)
    assert dry.getvalue().replace("Would delete", "Deleted") == wet.getvalue()
    assert re.search(
        r"1 +0\xa0bytes  files that no row names, moved to the quarantine \(1 day\)", wet.getvalue()
    )
    assert "jobs that are over and have no pictures (off)" in wet.getvalue()
    assert wet.getvalue().splitlines()[-1].startswith("Deleted 2, ")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("at", [1, 2])
def test_killed_in_the_middle_it_goes_on_the_next_time(
    alice: User, media: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The rows of a picture go first: what is left then are files that no row names."""
    images = [picture(alice, trashed_at=timezone.now() - OLD) for _ in range(2)]
    for name in (name for image in images for name in (image.file, image.thumbnail)):
        make_old(media / str(name))
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", dying_at(at))
        with pytest.raises(KeyboardInterrupt):
            cleaning.clean()
    assert any(path.is_file() for path in media.rglob("*"))
    assert Cleanup.objects.get().finished_at is None
    clean()
    assert not files_under(media)
    assert not Image.objects.exists()
    assert health.cleanup().ok


def dying_at(number: int) -> Any:
    delete, seen = LocalStorage.delete, []

    def die(storage: LocalStorage, name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            raise KeyboardInterrupt
        delete(storage, name)

    return die


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("together", [True, False])
def test_two_at_once_do_no_harm(alice: User, media: Path, settings: Any, together: bool) -> None:
    """Such as housekeeping's and a timer's. ``together``: both know what they will delete before one does."""
    gone = [picture(alice, trashed_at=timezone.now() - OLD) for _ in range(6)]
    kept = picture(alice)
    for name in (name for image in [*gone, kept] for name in (image.file, image.thumbnail)):
        make_old(media / str(name))
    upload = Upload.objects.create(owner=alice, size=10)
    Upload.objects.update(renewed_at=timezone.now() - OLD)
    left = [old_file(media / "images" / "2026" / name) for name in (f"{uuid7()}.png", ".a.png.1.tmp")]
    left += [old_file(library.draft_of(upload)), old_file(settings.LOG_DIR / "fluxsite-20260101-0.log.gz")]
    Session.objects.create(session_key="over", session_data="", expire_date=timezone.now() - OLD)
    barrier = Barrier(2, timeout=60)

    def one(_: int) -> dict[Kind, Tally]:
        def shown(kind: Kind, ones: list[Any]) -> list[Any]:
            barrier.wait() if together else None
            return ones

        try:
            return cleaning.clean(shown)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        tallies = list(threads.map(one, range(2)))
    assert list(Image.objects.all()) == [kept]
    assert files_under(media) == {media / str(kept.file), media / str(kept.thumbnail)}
    assert not any(path.exists() for path in left)
    assert not Upload.objects.exists()
    assert not Session.objects.exists()
    assert [failure for each in tallies for tally in each.values() for failure in tally.failed] == []
    for kind, count in ((Kind.TRASH, 6), (Kind.UPLOADS, 1), (Kind.SESSIONS, 1), (Kind.LOGS, 1)):
        assert sum(each[kind].count for each in tallies) == count
    assert list(Cleanup.objects.values_list("error", flat=True)) == ["", ""]
    assert not Cleanup.objects.filter(finished_at=None).exists()


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that a chore would have begun."""
    begun: list[Any] = []

    class Process:
        pid = 42

        def __init__(self, command: list[str], env: dict[str, str], **options: Any) -> None:
            begun.append((command[1:], env))

    monkeypatch.setenv("Q_CLUSTER_NAME", "fluxsite")
    monkeypatch.setattr(subprocess, "Popen", Process)
    return begun


def test_the_schedule_runs_it_in_a_process_of_its_own(begun: list[Any]) -> None:
    assert chores.cleanup() == 42
    ((command, environment),) = begun
    assert [Path(command[0]).name, command[1]] == ["manage.py", "cleanup"]
    assert "Q_CLUSTER_NAME" not in environment


def test_the_schedule_begins_none_where_one_has_begun_lately(begun: list[Any], settings: Any) -> None:
    """Another host's does not count: it has seen none of our drafts. The command itself always cleans."""
    settings.FLUXSITE_HOST = "atelier-02"
    clean()
    settings.FLUXSITE_HOST = "atelier-01"
    assert chores.cleanup() == 42
    clean()
    assert set(Cleanup.objects.values_list("host", flat=True)) == {"atelier-01", "atelier-02"}
    assert chores.cleanup() is None
    Cleanup.objects.update(started_at=timezone.now() - timedelta(hours=19), finished_at=None)
    assert chores.cleanup() is None
    Cleanup.objects.update(started_at=timezone.now() - timedelta(hours=21))
    assert chores.cleanup() == 42
    assert len(begun) == 2


def test_the_admin_says_what_is_amiss_and_shows_the_cleanups(alice: User, client: Client) -> None:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    client.force_login(alice)
    Worker.start("atelier-01", "cpu", "bf16", 1)
    assert b"Cleanup:" not in client.get("/admin/").content
    Cleanup.objects.create(finished_at=timezone.now(), error="trash: <b>no</b>", bytes=2048)
    page = client.get("/admin/").content.decode()
    assert "<strong>Cleanup:</strong> Not all could be deleted: trash: &lt;b&gt;no&lt;/b&gt;" in page
    assert "2.0\xa0KB" in client.get("/admin/operations/cleanup/").content.decode()
    assert client.get("/admin/operations/cleanup/add/").status_code == 403
    made = client.post("/admin/operations/rule/add/", {"kind": "trash", "on": "on", "days": "7"})
    assert made.status_code == 302
    assert Rule.objects.get().days == 7
    assert "30 days" in client.get("/admin/operations/rule/").content.decode()
