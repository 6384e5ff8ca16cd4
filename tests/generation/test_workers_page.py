"""The Workers page: what each state says, who sees which prompt, who may pause, and what it costs."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts.models import UsageEntry, User
from generation import operations, workers_page
from generation.models import Job
from generation.workers_page import Memory, Slot
from gpu.models import Mode, Pool, Worker
from tests.conftest import submit
from tests.generation.test_views import browser_of, lora, text

PAGE = "/workers/"
STATUS = "/workers/status/"
GB = 1024**3


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    cache.clear()


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser."""
    return browser_of(alice)


@pytest.fixture
def worker(db: None) -> Worker:
    return slot("atelier-01", model="FLUX.1-schnell")


@pytest.fixture
def operator(bob: User) -> Client:
    """Bob's browser; bob may pause."""
    bob.user_permissions.add(Permission.objects.get(codename="change_worker"))
    return browser_of(bob)


def slot(host: str, device: str = "cpu", engine: str = "bf16", **facts: Any) -> Worker:
    worker = Worker.start(host, device, engine, 1)
    Worker.objects.filter(pk=worker.pk).update(**facts)
    worker.refresh_from_db()
    return worker


def running(worker: Worker, owner: User, **facts: Any) -> Job:
    job = submit(owner, engine=worker.engine, prompt=f"{owner}'s secret", count=2)
    now = {"state": "running", "attempt": 1, "worker": worker, "stage": "drawing", "step": 2, **facts}
    Job.objects.filter(pk=job.pk).update(**now)
    return job


def shown(user: User) -> Slot:
    """The only slot there is."""
    cache.clear()
    (host,) = workers_page.of(user)["hosts"]
    (only,) = host.slots
    assert isinstance(only, Slot)
    return only


def state(user: User) -> tuple[str, str]:
    slot = shown(user)
    return slot.words, slot.detail


# What it says --------------------------------------------------------------------------------------------


def test_without_workers_it_says_how_to_start_one(client: Client) -> None:
    page = text(client.get(PAGE))
    assert "No worker has started yet" in page
    assert "manage.py workers" in page


@pytest.mark.parametrize(
    ("facts", "words", "detail"),
    [
        ({}, "Ready", ""),
        ({"model": ""}, "Ready", "loads first"),
        ({"model": "", "load_seconds": 9.2}, "Ready", "loads first ~9 s"),
        ({"state": "loading", "load_seconds": 9.2}, "Loading", "~9 s"),
        ({"state": "waiting", "note": "Waits for disk space."}, "Waiting", ""),
        ({"mode": "pause", "note": "Paused by bob"}, "Paused", "by bob"),
        ({"mode": "pause", "note": "Paused"}, "Paused", ""),
        ({"mode": "drain", "note": "Drained by bob"}, "Draining", "gives memory back"),
        ({"mode": "drain", "note": "Drained by bob", "model": ""}, "Drained", "by bob"),
        ({"state": "stopped"}, "Stopped", ""),
        ({"heartbeat": timezone.now() - timedelta(minutes=4)}, "No signal", ""),
        ({"heartbeat": timezone.now() - timedelta(days=4), "state": "stopped"}, "Stopped", ""),
    ],
)
def test_a_slot_says_its_state(
    alice: User, worker: Worker, facts: dict[str, Any], words: str, detail: str
) -> None:
    Worker.objects.filter(pk=worker.pk).update(**facts)
    assert state(alice) == (words, detail)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (Mode.RUN, ("Drawing", "")),
        (Mode.PAUSE, ("Drawing", "then pauses")),
        (Mode.DRAIN, ("Draining", "takes no new job")),
    ],
)
def test_a_slot_that_draws_finishes_its_job(
    alice: User, worker: Worker, mode: Mode, words: tuple[str, str]
) -> None:
    running(worker, alice)
    operations.set_mode(worker, mode)
    assert state(alice) == words


def test_the_mode_of_the_engine_holds_for_its_slots(alice: User, worker: Worker) -> None:
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    assert state(alice) == ("Paused", "with all BF16")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "waiting", "note": "Waits for memory. It needs 12 GB."}, "Waits for memory."),
        ({"mode": "pause", "note": "Paused: the device failed 3 times"}, "the device failed 3 times."),
        ({"heartbeat": timezone.now() - timedelta(minutes=4)}, "atelier-01 does not answer"),
    ],
)
def test_what_an_operator_has_to_look_at_stands_in_a_box(
    client: Client, worker: Worker, facts: dict[str, Any], words: str
) -> None:
    assert "error-box" not in text(client.get(PAGE))
    Worker.objects.filter(pk=worker.pk).update(**facts)
    box = text(client.get(PAGE)).partition("error-box warn")[2].partition("</div>")[0]
    assert words in box


@pytest.mark.parametrize("note", ["Paused", "Paused by bob", "Drained by b-o.b", ""])
def test_a_pause_that_somebody_wanted_needs_no_box(alice: User, worker: Worker, note: str) -> None:
    Worker.objects.filter(pk=worker.pk).update(mode="pause", note=note)
    assert shown(alice).box == ""


def test_a_slot_is_idle_since_its_last_job(alice: User, worker: Worker) -> None:
    started = timezone.now() - timedelta(hours=2)
    Worker.objects.filter(pk=worker.pk).update(started_at=started)
    assert shown(alice).since == started
    last = entry(alice, worker, timezone.now() - timedelta(hours=1))
    assert shown(alice).since == last.created_at


def test_a_silent_slot_says_since_when_and_what_of_its_job(
    client: Client, alice: User, worker: Worker
) -> None:
    running(worker, alice)
    Worker.objects.filter(pk=worker.pk).update(heartbeat=timezone.now() - timedelta(minutes=4))
    page = text(client.get(PAGE))
    assert "Silent <time" in page
    assert "its job goes to another worker" in page
    assert "Memory unknown" in page


def test_the_head_counts_what_is_there(client: Client, alice: User) -> None:
    running(slot("atelier-01"), alice)
    slot("atelier-01", engine="fp4")
    slot("atelier-02")
    assert "2 hosts, 3 slots, 1 drawing" in text(client.get(PAGE))


def test_an_engine_counts_the_slots_that_take_jobs(client: Client) -> None:
    slot("atelier-01")
    slot("atelier-02", mode="pause")
    slot("atelier-03", heartbeat=timezone.now() - timedelta(hours=1))
    slot("atelier-04", state="waiting")
    assert "2 of 4 slots on" in text(client.get(PAGE))
    operations.set_mode(Pool.of("bf16"), Mode.DRAIN, by="bob")
    page = text(client.get(PAGE))
    assert "0 of 4 slots on" in page
    assert "Drained by bob" in page


def test_a_queue_that_fills_up_shows_its_limit(client: Client, alice: User, worker: Worker) -> None:
    Pool.objects.create(engine="bf16", queue_limit=4)
    for _ in range(2):
        submit(alice)
    assert "of 4</small>" not in text(client.get(PAGE))
    cache.clear()
    submit(alice)
    cache.clear()
    assert "of 4</small>" in text(client.get(PAGE))


def entry(user: User, worker: Worker, created_at: Any, images: int = 1) -> UsageEntry:
    return UsageEntry.objects.create(
        user=user, job=uuid4(), attempt=1, engine=worker.engine, worker=str(worker), gpu_seconds=1.0,
        images=images, outcome="succeeded", created_at=created_at,
    )  # fmt: skip


def test_pictures_of_the_last_hour_are_counted_by_five_minutes(alice: User, worker: Worker) -> None:
    now = timezone.now()
    entry(alice, worker, now, images=3)
    entry(alice, worker, now - timedelta(minutes=20), images=2)
    entry(alice, worker, now - timedelta(hours=2), images=100)
    card = next(card for card in workers_page.of(alice)["engines"] if card.name == "bf16")
    assert [bar.images for bar in card.chart] == [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    assert card.images == 5
    assert max(bar.height for bar in card.chart) == workers_page.CHART_HEIGHT


def test_the_chart_is_told_in_words(client: Client, alice: User, worker: Worker) -> None:
    entry(alice, worker, timezone.now(), images=3)
    page = text(client.get(PAGE))
    assert "Pictures by five minutes, the newest last: 0 0 0 0 0 0 0 0 0 0 0 3" in page
    assert "3 pictures, last hour" in page


# Memory and LoRAs ------------------------------------------------------------------------------------------


def test_memory_that_others_hold_is_not_free() -> None:
    worker = Worker(memory_total=32 * GB, memory_free=20 * GB, memory_model=8 * GB, memory_loras=2 * GB)
    memory = Memory.of(worker)
    assert (memory.model, memory.loras, memory.other, memory.free) == (8 * GB, 2 * GB, 2 * GB, 20 * GB)
    assert [(part["kind"], part["start"], part["size"]) for part in memory.parts] == [
        ("model", 0.0, 25.0),
        ("loras", 25.0, 6.2),
        ("other", 31.2, 6.2),
    ]


def test_a_bar_never_leaves_its_frame() -> None:
    """The numbers are read one after the other, and may not fit together."""
    worker = Worker(memory_total=4 * GB, memory_free=3 * GB, memory_model=3 * GB, memory_loras=2 * GB)
    memory = Memory.of(worker)
    assert (memory.other, memory.free) == (0, 0)
    assert sum(part["size"] for part in memory.parts) == 100


def test_unknown_memory_is_said_to_be_unknown(client: Client, worker: Worker) -> None:
    assert "Memory unknown" in text(client.get(PAGE))
    Worker.objects.filter(pk=worker.pk).update(memory_total=32 * GB, memory_free=20 * GB)
    assert "Free 20.0 of 32 GB" in text(client.get(PAGE))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"utilisation": 0.734, "celsius": 61}, "73 % busy, 61 °C"),
        ({"utilisation": 0.0}, "0 % busy"),
        ({"celsius": 0}, "0 °C"),
        ({"utilisation": 1.0, "celsius": 61, "state": "stopped"}, ""),
        ({"utilisation": 1.0, "celsius": 61, "heartbeat": timezone.now() - timedelta(minutes=4)}, ""),
    ],
)
def test_a_slot_tells_how_busy_and_how_warm_its_gpu_is(
    client: Client, alice: User, worker: Worker, facts: dict[str, Any], words: str
) -> None:
    Worker.objects.filter(pk=worker.pk).update(**facts)
    words = words.replace(" ", "\xa0").replace(",\xa0", ", ")
    assert shown(alice).readings == words
    page = text(client.get(PAGE))
    assert words in page
    assert ("\xa0busy" in page, "\xa0°C" in page) == ("busy" in words, "°C" in words)


def test_loaded_loras_are_named_to_those_who_may_use_them(alice: User, bob: User, worker: Worker) -> None:
    everyones, bobs = "a" * 64, "b" * 64
    lora("midnight", sha256=everyones)
    lora("bobs", sha256=bobs, owner=bob, visibility="private")
    Worker.objects.filter(pk=worker.pk).update(loras=[everyones, bobs])
    assert shown(alice).loras == "Midnight and 1 more ready"
    assert shown(bob).loras == "Bobs, Midnight ready"
    Worker.objects.filter(pk=worker.pk).update(loras=[bobs])
    assert shown(alice).loras == "1 LoRA ready"


# Whose -----------------------------------------------------------------------------------------------------


def test_a_prompt_is_shown_to_its_owner_and_to_those_who_may_see_jobs(
    alice: User, bob: User, charlie: User, worker: Worker
) -> None:
    running(worker, alice)
    charlie.user_permissions.add(Permission.objects.get(codename="view_job"))
    for user, sees in ((alice, True), (bob, False), (charlie, True)):
        for path in (PAGE, STATUS):
            page = text(browser_of(user).get(path))
            assert ("alice&#x27;s secret" in page) == sees
            assert "alice" in page
            assert "step 3 of 4" in page


def test_a_waiting_prompt_is_as_private(alice: User, bob: User, worker: Worker) -> None:
    submit(alice, prompt="alice's secret", count=3)
    submit(bob, prompt="bob's own")
    page = text(browser_of(bob).get(PAGE))
    assert "alice&#x27;s secret" not in page
    assert "<b>alice</b>" in page
    assert "3 pictures" in page
    assert "bob&#x27;s own" in page


def test_the_next_of_all_engines_stand_in_line(alice: User, worker: Worker) -> None:
    slot("atelier-01", engine="fp4")
    jobs = [submit(alice, engine=engine) for engine in ("bf16", "bf16", "bf16", "fp4", "fp4", "fp4")]
    line = workers_page.of(alice)["next"]
    assert [one.position for one in line] == [1, 1, 2, 2, 3]
    assert {one.job.pk for one in line} < {job.pk for job in jobs}


def test_a_prompt_is_text_here_too(client: Client, alice: User, worker: Worker) -> None:
    attack = "<script>alert(1)</script>"
    Job.objects.filter(pk=running(worker, alice).pk).update(prompt=attack)
    submit(alice, prompt=attack)
    assert attack not in text(client.get(PAGE))


def test_the_page_needs_no_inline_code(client: Client, alice: User, worker: Worker) -> None:
    running(worker, alice)
    page = text(client.get(PAGE))
    for word in (" style=", "<style", " onclick=", "<script>"):
        assert word not in page


# Pausing ---------------------------------------------------------------------------------------------


def test_who_may_not_pause_sees_no_buttons(client: Client, operator: Client, worker: Worker) -> None:
    assert 'name="mode"' not in text(client.get(PAGE))
    assert 'name="mode"' in text(operator.get(PAGE))


@pytest.mark.parametrize("mode", [Mode.PAUSE, Mode.DRAIN])
def test_a_slot_is_paused_drained_and_resumed(operator: Client, worker: Worker, mode: Mode) -> None:
    address = f"/workers/{worker.pk}/mode/"
    response = operator.post(address, {"mode": mode})
    assert (response.status_code, response["Location"]) == (302, PAGE)
    worker.refresh_from_db()
    assert (worker.mode, "by bob" in worker.note) == (mode, True)
    assert "Resume" in text(operator.get(PAGE))
    operator.post(address, {"mode": "run"})
    worker.refresh_from_db()
    assert (worker.mode, worker.note) == (Mode.RUN, "")


def test_an_engine_is_paused_and_resumed(operator: Client, worker: Worker) -> None:
    address = "/workers/engines/bf16/mode/"
    assert operator.post(address, {"mode": "pause"}).status_code == 302
    assert (Pool.of("bf16").mode, Pool.of("bf16").note) == (Mode.PAUSE, "Paused by bob")
    assert "Paused by bob" in text(operator.get(PAGE))
    operator.post(address, {"mode": "run"})
    assert Pool.of("bf16").mode == Mode.RUN


def test_without_the_permission_nothing_is_paused(client: Client, worker: Worker) -> None:
    for address in (
        f"/workers/{worker.pk}/mode/",
        "/workers/engines/bf16/mode/",
        f"/workers/{uuid4()}/mode/",
    ):
        assert client.post(address, {"mode": "pause"}).status_code == 403
    worker.refresh_from_db()
    assert worker.mode == Pool.of("bf16").mode == Mode.RUN


def test_what_is_not_there_gets_404(operator: Client, worker: Worker) -> None:
    for address in (f"/workers/{uuid4()}/mode/", "/workers/engines/int1/mode/"):
        assert operator.post(address, {"mode": "pause"}).status_code == 404
    for mode in ({}, {"mode": "explode"}):
        assert operator.post(f"/workers/{worker.pk}/mode/", mode).status_code == 404
    assert not Pool.objects.filter(engine="int1").exists()


def test_pausing_takes_no_get_and_no_stranger(operator: Client, bob: User, worker: Worker) -> None:
    address = f"/workers/{worker.pk}/mode/"
    assert operator.get(address).status_code == 405
    assert Client().post(address, {"mode": "pause"})["Location"].startswith("/login/")
    checked = Client(enforce_csrf_checks=True)
    checked.force_login(bob)
    assert checked.post(address, {"mode": "pause"}).status_code == 403


# What it costs -----------------------------------------------------------------------------------------


def test_the_status_is_304_until_something_changes(client: Client, worker: Worker) -> None:
    first = client.get(STATUS)
    assert text(first).strip() in text(client.get(PAGE))
    assert first["Cache-Control"] == "private, no-cache"
    worker.now()  # a sign of life changes nothing that is shown
    assert client.get(STATUS, headers={"If-None-Match": first["ETag"]}).status_code == 304
    operations.set_mode(worker, Mode.PAUSE)
    changed = client.get(STATUS, headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert "Paused" in text(changed)


@pytest.mark.parametrize("path", [PAGE, STATUS])
def test_twenty_workers_cost_as_many_queries_as_two(
    client: Client, alice: User, bob: User, django_assert_max_num_queries: Any, path: str
) -> None:
    lora("midnight", sha256="a" * 64)

    def busy(number: int) -> None:
        for engine in ("bf16", "fp4"):
            worker = slot(f"atelier-{number:02}", engine=engine, loras=["a" * 64], model="a model")
            running(worker, bob if number % 2 else alice)
            entry(alice, worker, timezone.now())
            submit(bob, engine=engine)

    busy(1)
    cache.clear()
    with django_assert_max_num_queries(40) as few:
        client.get(path)
    for number in range(2, 11):
        busy(number)
    cache.clear()
    with django_assert_max_num_queries(len(few)):
        page = text(client.get(path))
    assert "10 hosts, 20 slots, 20 drawing" in page


def test_a_trial_is_named_where_a_job_has_its_owner(client: Client, worker: Worker) -> None:
    """Nobody owns it; whoever looks sees what it is, not what it draws."""
    for state in ({}, {"state": "running", "worker": worker}):
        job = submit(None)  # type: ignore[arg-type]
        Job.objects.filter(pk=job.pk).update(**state)
    page = text(client.get(PAGE))
    assert "Trial of a LoRA" in page
    assert "A LoRA is tried" in page
    assert "None" not in page
