"""Somebody leaves: their work goes to somebody else, or nothing of it stays, whatever is killed meanwhile."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, Invitation, LastAdministrator, Offboarding, Quota, UsageEntry, User
from generation import offboarding, search
from generation.models import Collection, Image, Job, ShareLink
from gpu.models import Worker
from loras.library import set_preview
from loras.models import Lora, Upload
from loras.uploads import GivenUp, receive
from tests.conftest import client_of, files_under, let_administer, submit
from tests.generation.drawn import finished
from tests.loras.test_uploads import GOOD, add

LONG = 60.0


@pytest.fixture
def work(alice: User) -> list[Image]:
    """What alice made: pictures, one of them in the trash, a shared collection, a LoRA; an entry of use."""
    pictures = [image for number in range(3) for image in finished(alice, count=2, seed=number).images.all()]
    Image.objects.filter(pk=pictures[0].pk).trash()
    collection = Collection.objects.create(owner=alice, name="Stars")
    collection.add(pictures[:2])
    ShareLink.objects.create(
        owner=alice, collection=collection, expires_at=timezone.now() + timedelta(days=1)
    )
    set_preview(add(alice), ContentFile(b"RIFF....WEBP"), ContentFile(b"RIFF....WEBP"))
    UsageEntry.objects.create(
        user=alice, job=pictures[0].job_id, attempt=1, engine="bf16", gpu_seconds=1, images=2,
        outcome="succeeded",
    )  # fmt: skip
    return pictures


def files(media: Path) -> set[Path]:
    return files_under(media)


def leave(user: User, to: User | None = None) -> Offboarding:
    row = offboarding.begin(user, to)
    assert offboarding.go_on(row, LONG)
    row.refresh_from_db()
    user.refresh_from_db()
    return row


def break_file_of(image: Image) -> None:
    """It cannot be deleted: a directory is in its place."""
    Image.objects.filter(pk=image.pk).update(file="images")


def nothing_left_of(user: User) -> bool:
    return offboarding.belongings(user).is_nothing


# The account is closed first --------------------------------------------------------------------------


def test_the_account_is_closed_at_once(alice: User, bob: User, work: list[Image]) -> None:
    api, browser = client_of(alice), Client()
    browser.force_login(alice)
    waiting = submit(alice)
    Invitation.objects.create(invited_by=alice, expires_at=timezone.now() + timedelta(days=1))
    row = offboarding.begin(alice, bob)
    offboarding.go_on(row, LONG)
    assert api.get("/api/v1/me/").status_code == 401
    assert browser.get("/").status_code == 302
    said = {"username": "alice", "password": "correct horse battery"}
    assert browser.post("/login/", said).status_code == 200
    assert not ApiToken.objects.exists()
    assert not ShareLink.objects.open().exists()
    assert not Invitation.objects.exists()
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"


def test_what_is_being_drawn_is_waited_for(alice: User, bob: User, work: list[Image]) -> None:
    submit(alice)
    worker = Worker.start("atelier-01", "cpu", "bf16", 101)
    running = Job.objects.claim("bf16", worker)
    assert running
    row = offboarding.begin(alice, bob)
    assert not offboarding.go_on(row, LONG)
    assert not Job.objects.goes_on(running.pk, running.attempt)
    assert Image.objects.filter(owner=alice).count() == 6
    assert Job.objects.finish(running, "cancelled")
    assert offboarding.go_on_with_all() == "1 of 1 done"
    assert nothing_left_of(alice)


@pytest.mark.parametrize("purge", [True, False])
def test_what_was_under_way_when_the_account_was_closed_follows(
    alice: User, bob: User, work: list[Image], media: Path, purge: bool
) -> None:
    with receive(alice, [GOOD], len(GOOD)) as on_another_host:
        facts = on_another_host.inspect()
        with receive(alice, [GOOD], len(GOOD)) as given_up:
            leave(alice, None if purge else bob)
            assert not Upload.objects.exists()
            with pytest.raises(GivenUp):
                given_up.inspect()
        on_another_host.path.write_bytes(GOOD)
        on_another_host.keep(facts, name="Late")
    late = submit(alice)
    assert offboarding.go_on_with_all() == "1 of 1 done"
    assert nothing_left_of(alice)
    if not purge:
        late.refresh_from_db()
        assert (late.owner, late.state, Lora.objects.get(name="Late").owner) == (bob, "cancelled", bob)
    assert offboarding.go_on_with_all() == "0 of 0 done"


def test_it_is_not_over_while_something_comes_in(
    alice: User, bob: User, work: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = offboarding.begin(alice, bob)
    with monkeypatch.context() as patched:
        stopped = offboarding._stopped
        patched.setattr(offboarding, "_stopped", lambda user: stopped(user) and bool(submit(user)))
        assert not offboarding.go_on(row, LONG)
    row.refresh_from_db()
    assert row.finished_at is None
    assert offboarding.go_on(row, LONG)


@pytest.mark.parametrize("purge", [True, False])
def test_nobody_offboards_themselves_nor_the_last_administrator(alice: User, bob: User, purge: bool) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True, is_staff=True)
    alice.refresh_from_db()
    to = None if purge else bob
    with pytest.raises(offboarding.Refused, match="Nobody offboards themselves"):
        offboarding.begin(alice, to, by=alice)
    with pytest.raises(LastAdministrator):
        offboarding.begin(alice, to)
    with pytest.raises(offboarding.Refused, match="Only somebody else who may"):
        offboarding.begin(alice, to, by=bob)
    alice.refresh_from_db()
    assert alice.is_active
    assert not Offboarding.objects.exists()


def test_who_gets_it_must_be_somebody_else_who_is_there(alice: User, bob: User) -> None:
    with pytest.raises(offboarding.Refused, match="alice's already"):
        offboarding.begin(alice, alice)
    User.objects.filter(pk=bob.pk).update(is_active=False)
    bob.refresh_from_db()
    with pytest.raises(offboarding.Refused, match="bob is switched off"):
        offboarding.begin(alice, bob)


# To somebody else -------------------------------------------------------------------------------------


def test_all_of_it_is_the_others_now(alice: User, bob: User, work: list[Image], media: Path) -> None:
    before = files(media)
    row = leave(alice, bob)
    assert (row.images, row.freed) == (6, 0)
    assert files(media) == before
    assert nothing_left_of(alice)
    assert {image.owner for image in Image.objects.all()} == {bob}
    assert {job.owner for job in Job.objects.filter(trial=None)} == {bob}
    assert Image.objects.trashed().count() == 1
    assert Lora.objects.get().owner == bob
    collection = Collection.objects.get()
    assert (collection.owner, collection.images.count()) == (bob, 2)
    assert UsageEntry.objects.get().user == alice
    assert alice.username == "alice"
    client = Client()
    client.force_login(bob)
    assert client.get(work[1].get_absolute_url()).status_code == 200


def test_the_search_finds_it_for_its_new_owner_alone(alice: User, bob: User, work: list[Image]) -> None:
    leave(alice, bob)
    found = Image.objects.visible_to(bob).matching(bob, "star")
    assert {image.pk for image in found} == {image.pk for image in work}
    assert not Image.objects.visible_to(alice).matching(alice, "star").exists()
    moved = Image.objects.first()
    assert moved
    assert moved.facts == search.facts_of(moved.job)


def test_collections_of_one_name_stay_apart(alice: User, bob: User) -> None:
    long = "x" * 80
    for owner, name in ((alice, "Stars"), (bob, "Stars"), (bob, "Stars (alice)"), (alice, long), (bob, long)):
        Collection.objects.create(owner=owner, name=name)
    leave(alice, bob)
    names = set(Collection.objects.filter(owner=bob).values_list("name", flat=True))
    assert names == {"Stars", "Stars (alice)", "Stars (alice 2)", long, "x" * 72 + " (alice)"}


def test_jobs_go_over_without_the_keys_of_their_requests(alice: User, bob: User) -> None:
    for key in ("1", "2"):
        submit(alice, idempotency_key=key)
    own = submit(bob, idempotency_key="1")
    leave(alice, bob)
    assert Job.objects.filter(owner=bob).count() == 3
    keys = Job.objects.filter(owner=bob).exclude(idempotency_key=None)
    assert [(job.pk, job.idempotency_key) for job in keys] == [(own.pk, "1")]


def test_one_that_cannot_go_on_does_not_stop_the_others(
    alice: User, bob: User, charlie: User, work: list[Image], caplog: pytest.LogCaptureFixture
) -> None:
    break_file_of(work[0])
    submit(charlie)
    for leaver, to in ((alice, None), (charlie, bob)):
        offboarding.begin(leaver, to)
    assert offboarding.go_on_with_all() == "1 of 2 done"
    assert nothing_left_of(charlie)
    assert "The offboarding of alice could not go on" in caplog.text


def test_a_transfer_waits_for_another_choice_when_its_receiver_leaves_too(
    alice: User, bob: User, charlie: User, work: list[Image]
) -> None:
    row = offboarding.begin(alice, bob)
    leave(bob, charlie)
    row.refresh_from_db()
    assert not offboarding.go_on(row, LONG)
    leave(alice, charlie)
    assert Image.objects.filter(owner=charlie).count() == 6


# To nobody --------------------------------------------------------------------------------------------


def test_of_a_purge_only_the_ledger_stays(alice: User, bob: User, work: list[Image], media: Path) -> None:
    others = finished(bob).images.get()
    kept = {Path(default_storage.path(str(name))) for name in (others.file, others.thumbnail)}
    upload = Upload.objects.create(owner=alice, size=3)
    default_storage.save(f"incoming/{upload.pk}.part", ContentFile(b"abc"))
    Quota.objects.create(user=alice, images_a_day=5)
    invited = Invitation.objects.create(email=alice.email, used_by=alice, expires_at=timezone.now())
    size = offboarding.belongings(alice).size
    row = leave(alice)
    assert (row.images, row.freed) == (6, size)
    assert size > len(GOOD)
    assert files(media) == kept
    assert nothing_left_of(alice)
    assert not Collection.objects.exists()
    assert not ShareLink.objects.exists()
    assert not Upload.objects.exists()
    assert not Quota.objects.exists()
    assert Image.objects.get() == others
    assert UsageEntry.objects.get().user == alice
    invited.refresh_from_db()
    assert invited.email == ""


def test_a_purge_forgets_the_name(alice: User, bob: User) -> None:
    User.objects.create_superuser("root")
    User.objects.filter(pk=alice.pk).update(is_superuser=True, is_staff=True, first_name="Ana")
    User.objects.create_user(f"FORMER-{alice.pk}")
    leave(alice)
    assert alice.username.startswith(f"former-{alice.pk}-")
    assert (alice.email, alice.first_name, alice.last_name, alice.last_login) == ("", "", "", None)
    assert (alice.is_active, alice.is_staff, alice.is_superuser) == (False, False, False)
    assert not alice.groups.exists()
    assert not alice.has_usable_password()


def test_a_file_that_another_lora_needs_stays(alice: User, bob: User, media: Path) -> None:
    add(alice, name="Mine")
    theirs = add(bob, name="Theirs")
    assert leave(alice).freed == 0
    assert files(media) == {Path(default_storage.path(str(theirs.file)))}


class Killed(BaseException):
    """As kill -9 does: nothing after it is run."""


def _killer(at: int, act: Callable[..., Any]) -> Callable[..., Any]:
    """``act``, until its call number ``at``, which is the process's last."""
    calls = iter(range(at))

    def acting(*args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return act(*args, **kwargs)

    return acting


@pytest.mark.parametrize("batch", [1, 4])
def test_a_purge_killed_at_any_file_is_ended_by_the_next(
    alice: User, work: list[Image], media: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(offboarding, "BATCH", batch)
    row, kills = offboarding.begin(alice, None), 0
    delete = type(default_storage._wrapped).delete  # type: ignore[attr-defined]
    over = False
    while not over:
        with monkeypatch.context() as patched:
            patched.setattr(type(default_storage._wrapped), "delete", _killer(kills + 1, delete))  # type: ignore[attr-defined]
            try:
                over = offboarding.go_on(row, LONG)
            except Killed:
                kills += 1
    assert kills >= 3
    assert files(media) == set()
    row.refresh_from_db()
    assert row.images == 6
    assert row.finished_at


@pytest.mark.parametrize("purge", [True, False])
def test_batch_after_batch_goes_on_where_it_stopped(
    alice: User, bob: User, work: list[Image], monkeypatch: pytest.MonkeyPatch, purge: bool
) -> None:
    monkeypatch.setattr(offboarding, "BATCH", 2)
    row = offboarding.begin(alice, None if purge else bob)
    left = []
    while not offboarding.go_on(row, 0):
        left.append(Image.objects.filter(owner=alice).count())
    assert left[-1] == 0
    assert {4, 2} <= set(left)
    assert nothing_left_of(alice)
    row.refresh_from_db()
    assert row.images == 6


def test_who_switches_the_account_on_again_stops_it(alice: User, bob: User, work: list[Image]) -> None:
    offboarding.begin(alice, bob)
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert offboarding.go_on_with_all() == "0 of 0 done"
    assert Image.objects.filter(owner=alice).count() == 6


@pytest.mark.parametrize("switched_on", [True, False])
def test_a_purge_stops_when_somebody_decides_otherwise_meanwhile(
    alice: User, bob: User, work: list[Image], monkeypatch: pytest.MonkeyPatch, switched_on: bool
) -> None:
    monkeypatch.setattr(offboarding, "BATCH", 2)
    purge = offboarding.begin(alice, None)
    assert not offboarding.go_on(purge, 0)
    left = set(Image.objects.filter(owner=alice))
    assert left
    if switched_on:
        User.objects.filter(pk=alice.pk).update(is_active=True)
    else:
        offboarding.begin(alice, bob)
    assert not offboarding.go_on(purge, LONG)
    assert set(Image.objects.filter(owner=alice)) == left
    assert User.objects.get(pk=alice.pk).username == "alice"


# The command ------------------------------------------------------------------------------------------


def test_the_command_says_what_there_is_and_changes_nothing(
    alice: User, work: list[Image], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("offboard", "ALICE", "--purge", "--dry-run")
    said = capsys.readouterr().out
    assert "alice: 6 pictures, 3 jobs, 1 collections, 1 LoRAs (0 shared)" in said
    assert "Nothing was changed." in said
    alice.refresh_from_db()
    assert alice.is_active


def test_the_command_hands_over_and_may_be_asked_again(
    alice: User, bob: User, work: list[Image], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        call_command("offboard", "alice", "--transfer-to", "bob")
    assert "Done: 6 pictures and the rest are bob's now." in capsys.readouterr().out
    assert Image.objects.filter(owner=bob).count() == 6


def test_the_command_purges(
    alice: User, work: list[Image], media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("offboard", "alice", "--purge")
    assert "all is deleted" in capsys.readouterr().out
    assert files(media) == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", "--purge"], "no user called nobody"),
        (["alice", "--transfer-to", "nobody"], "no user called nobody"),
        (["alice", "--transfer-to", "alice"], "alice's already"),
        (["alice"], "one of the arguments"),
        (["alice", "--purge", "--transfer-to", "bob"], "not allowed with"),
    ],
)
def test_the_command_refuses_what_cannot_be(alice: User, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("offboard", *arguments)
    alice.refresh_from_db()
    assert alice.is_active


# The page ---------------------------------------------------------------------------------------------


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    """charlie, who may offboard people."""
    let_administer(charlie, "delete_user")
    client.force_login(charlie)
    return client


def page(user: User) -> str:
    return reverse("generation:offboard", args=[user.pk])


def test_the_page_names_what_there_is(admin: Client, alice: User, work: list[Image]) -> None:
    Lora.objects.update(visibility="everyone")
    text = admin.get(page(alice)).content.decode()
    wanted = ("Offboard alice?", "<b>6</b> pictures", "1 shared with others", "Others lose 1 LoRA")
    for words in (*wanted, "Delete 6 pictures"):
        assert words in text, words


def test_a_purge_wants_the_name_typed(admin: Client, alice: User, work: list[Image], media: Path) -> None:
    for typed in ("", "Alice", "bob"):
        text = admin.post(page(alice), {"what": "purge", "typed": typed}).content.decode()
        assert "Type alice to delete all of it." in text
    assert Image.objects.count() == 6
    text = admin.post(page(alice), {"what": "purge", "typed": "alice"}, follow=True).content.decode()
    assert f"former-{alice.pk} has left" in text
    assert "are free" in text
    assert files(media) == set()


def test_the_page_hands_over(admin: Client, alice: User, bob: User, work: list[Image]) -> None:
    assert "Choose who gets the work." in admin.post(page(alice), {"what": "transfer"}).content.decode()
    text = admin.post(page(alice), {"what": "transfer", "to": str(bob.pk)}, follow=True).content.decode()
    assert "6 pictures and the rest are bob’s now." in text
    assert Offboarding.objects.get().by == User.objects.get(username="charlie")


def test_the_page_refuses_in_a_sentence(admin: Client, alice: User, charlie: User) -> None:
    own = admin.post(page(charlie), {"what": "purge", "typed": "charlie"}).content.decode()
    assert "Nobody offboards themselves." in own
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    assert (
        "may do everything here"
        in admin.post(page(alice), {"what": "purge", "typed": "alice"}).content.decode()
    )
    assert admin.post(page(alice), {"what": "burn"}).status_code == 200
    assert not Offboarding.objects.exists()


def test_while_it_goes_on_the_page_says_how_far_it_is(
    admin: Client, alice: User, bob: User, work: list[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offboarding, "BATCH", 4)
    monkeypatch.setattr(offboarding, "SECONDS_OF_A_PAGE", 0)
    admin.post(page(alice), {"what": "transfer", "to": str(bob.pk)})  # the jobs
    text = admin.post(page(alice), {"what": "transfer", "to": str(bob.pk)}, follow=True).content.decode()
    assert "4 pictures moved to bob, 2 left" in text
    assert 'http-equiv="refresh"' in text
    offboarding.go_on_with_all()
    assert "alice has left" in admin.get(page(alice)).content.decode()


def test_what_cannot_be_deleted_now_leaves_the_account_closed_and_the_page_there(
    admin: Client, alice: User, work: list[Image]
) -> None:
    break_file_of(work[0])
    text = admin.post(page(alice), {"what": "purge", "typed": "alice"}, follow=True).content.decode()
    assert "The account of alice is closed." in text
    assert 'http-equiv="refresh"' in text


def test_others_are_refused(client: Client, alice: User, bob: User, work: list[Image]) -> None:
    let_administer(bob, "view_user", "change_user", "add_invitation")
    client.force_login(bob)
    assert client.get(page(alice)).status_code == 403
    assert client.post(page(alice), {"what": "purge", "typed": "alice"}).status_code == 403
    assert client.get(reverse("generation:offboard", args=[10**6])).status_code == 403
    assert Image.objects.count() == 6
