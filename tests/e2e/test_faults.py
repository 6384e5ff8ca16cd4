"""Real faults on real processes: what is killed, hangs, runs out or fails costs a delay and nothing else.

The engine draws with the demo model and fails where a prompt says so: see ``tests.faults``.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.studio import MANAGE, wait_for
from tests.e2e.test_browser import READY, SECONDS, log_in
from tests.faults.cluster import alive
from tests.faults.studio import ATTEMPTS, PROMPT, FaultyStudio, Host, Studios, allowed, asked_for, need


@pytest.fixture(scope="module")
def studios(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Studios]:
    studios = Studios(tmp_path_factory.mktemp("faults"), request)
    yield studios
    for studio in studios.running.values():
        studio.kill()


@pytest.fixture
def studio(studios: Studios) -> FaultyStudio:
    return studios.on("sqlite")


# Both run at the same time where pytest-xdist has two processes.
ON_POSTGRESQL = pytest.mark.xdist_group("faults on PostgreSQL")
POSTGRESQL = pytest.param("postgresql", marks=ON_POSTGRESQL)


@pytest.fixture(scope="class", params=["sqlite", POSTGRESQL])
def either(studios: Studios, request: pytest.FixtureRequest) -> FaultyStudio:
    """The studio on either database."""
    return studios.on(request.param)


# Killed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        "worker",
        "sentinel",
        "pusher",
        *(pytest.param(part, marks=pytest.mark.slow) for part in ("main", "monitor")),
    ],
)
def test_whatever_of_a_cluster_is_killed_the_job_succeeds_and_nothing_goes_on_headless(
    studio: FaultyStudio, part: str
) -> None:
    pk = studio.drawing(count=2)
    wait_for(lambda: len(studio.api.job(pk)["images"]) == 1)
    (stored,) = studio.api.job(pk)["images"]
    before = studio.cluster.all()
    studio.cluster.part(part).kill()
    job = studio.finished(pk)
    assert (job["state"], len(job["images"])) == ("succeeded", 2), job
    assert job["images"][0] == stored
    # The monitor takes the lock of the results with it: its cluster starts again.
    worker_died = part != "pusher"
    assert studio.outcomes(pk) == (["lost", "succeeded"] if worker_died else ["succeeded"])
    studio.draws_again()
    kept = studio.cluster.all()
    wait_for(lambda: not [process for process in alive(before) if process not in kept])


@pytest.mark.parametrize("part", ["worker", "master"])
def test_a_killed_web_process_loses_no_job_and_is_back(studio: FaultyStudio, part: str) -> None:
    pk = studio.drawing()
    master = studio.process_of("gunicorn")
    before = [master, *master.children()]
    before[0 if part == "master" else 1].kill()
    job = studio.finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 1, 1)
    serving = wait_for(lambda: studio.process_of("gunicorn").children())
    kept = {serving[0].pid, serving[0].ppid()}
    wait_for(lambda: not [process for process in alive(before) if process.pid not in kept])
    studio.draws_again()


def test_a_job_that_kills_its_process_fails_after_its_attempts_and_others_go_on(either: FaultyStudio) -> None:
    killer = either.submit("kill-process")
    others = [either.submit() for _ in range(3)]
    assert [either.finished(pk)["state"] for pk in others] == ["succeeded"] * 3
    job = either.finished(killer)
    assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", ATTEMPTS, "worker_died"), job
    assert either.outcomes(killer) == ["lost"] * ATTEMPTS


def test_a_worker_that_dies_while_it_loads_costs_the_job_nothing(studio: FaultyStudio) -> None:
    studio.cluster.part("worker").kill()  # the next one has no model yet
    with asked_for(studio.data, "kill-while-loading"):
        job = studio.finished(studio.submit())
    assert (job["state"], job["attempt"]) == ("succeeded", ATTEMPTS + 1)
    assert studio.outcomes(job["id"]) == ["lost"] * ATTEMPTS + ["succeeded"]
    assert studio.worker_says("failed_starts") == "0"


# Told to stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_waits_for_a_slot_stops_when_it_is_told(
    studio: FaultyStudio, tmp_path: Path, told: signal.Signals
) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        workers = subprocess.Popen(
            [*MANAGE, "workers", "--bf16", "cpu"], env=studio.environment, stdout=output, stderr=output
        )
    wait_for(lambda: "Another worker has bf16 on cpu" in said.read_text())
    workers.send_signal(told)
    try:
        assert workers.wait(30) == 0
    finally:
        workers.kill()
    studio.draws_again()


def test_a_sigterm_to_the_worker_alone_changes_nothing(studio: FaultyStudio) -> None:
    pk = studio.drawing()
    worker = studio.cluster.part("worker")
    worker.terminate()
    job = studio.finished(pk)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    studio.draws_again()
    assert studio.cluster.part("worker") == worker


@pytest.mark.parametrize("to", [pytest.param("main", marks=pytest.mark.slow), "group"])
def test_after_a_sigterm_the_job_is_finished_then_the_cluster_ends_and_starts_again(
    studio: FaultyStudio, to: str
) -> None:
    studio.cluster.kill_monitor()
    pk = studio.drawing(count=2)
    before = studio.cluster.all()
    if to == "main":
        before[0].terminate()
    else:
        os.killpg(before[0].pid, signal.SIGTERM)
    job = studio.finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 1, 2)
    wait_for(lambda: not alive(before))
    studio.draws_again()


def test_housekeeping_ends_when_it_is_told_and_starts_again(studio: FaultyStudio) -> None:
    studio.housekeeping.kill_monitor()
    before = studio.housekeeping.all()
    before[0].terminate()
    wait_for(lambda: not alive(before))
    assert studio.housekeeping.part("worker")


# Slow, frozen, stuck -----------------------------------------------------------------------------------


@pytest.fixture(scope="class")
def elsewhere(either: FaultyStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(either, tmp_path_factory.mktemp("elsewhere") / "data")
    yield host
    host.kill()


class TestTwoHosts:
    """One is told of the job, the other waits for a chance to take it."""

    @pytest.mark.parametrize("either", [POSTGRESQL], indirect=True, scope="class")
    def test_a_load_longer_than_the_lease_is_no_reason_to_draw_twice(
        self, either: FaultyStudio, elsewhere: Host
    ) -> None:
        with asked_for(elsewhere.data, "slow-load"):
            with either.cluster.deaf():
                pk = either.submit()
                wait_for(lambda: either.api.job(pk)["state"] == "running")
            job = either.finished(pk)
        assert (job["state"], job["attempt"]) == ("succeeded", 1)
        assert either.outcomes(pk) == ["succeeded"]
        assert float(either.worker_says("load_seconds", "elsewhere")) > 4

    @pytest.mark.parametrize(
        ("either", "when"),
        [
            ("sqlite", "while-drawing"),
            pytest.param("postgresql", "before-storing", marks=ON_POSTGRESQL),
            pytest.param("sqlite", "before-storing", marks=pytest.mark.slow),
            pytest.param("postgresql", "while-drawing", marks=[ON_POSTGRESQL, pytest.mark.slow]),
        ],
        indirect=["either"],
        scope="class",
    )
    def test_a_worker_that_wakes_up_after_its_lease_changes_nothing(
        self, either: FaultyStudio, elsewhere: Host, when: str
    ) -> None:
        with either.cluster.deaf():
            either.draws_again()
            late = elsewhere.cluster.part("worker")
            with asked_for(elsewhere.data, f"freeze-{when}"):
                pk = either.submit("slow")
                wait_for(lambda: late.status() == psutil.STATUS_STOPPED)
        last_sign = either.worker_says("heartbeat", "elsewhere")
        with elsewhere.cluster.deaf():  # a worker that does not answer it would be killed
            wait_for(lambda: either.api.job(pk)["attempt"] == 2)
            late.resume()
            wait_for(lambda: either.worker_says("heartbeat", "elsewhere") != last_sign)
            job = either.finished(pk)
        assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 2, 1)
        with either.cluster.deaf():
            either.draws_again()  # so the late one is done with the job before
        assert late == elsewhere.cluster.part("worker")
        assert either.api.job(pk) == job
        assert either.outcomes(pk) == ["lost", "succeeded"]
        assert either.orphans() == []


@pytest.mark.parametrize("fault", [pytest.param("hang", marks=pytest.mark.slow), "hang-with-lock"])
def test_a_worker_stuck_in_a_step_is_killed_and_the_job_fails_after_its_attempts(
    studio: FaultyStudio, fault: str
) -> None:
    studio.draws_again()
    worker = studio.cluster.part("worker")
    pk = studio.submit(fault)
    waiting = studio.submit()
    job = studio.finished(pk)
    assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", ATTEMPTS, "worker_died")
    assert job["error"]["message"].startswith(f"The worker stopped {ATTEMPTS} times on this job.")
    assert studio.outcomes(pk) == ["lost"] * ATTEMPTS
    assert studio.finished(waiting)["state"] == "succeeded"
    assert not alive([worker])


# The device --------------------------------------------------------------------------------------------


def test_too_little_memory_fails_the_job_with_the_remedy_and_the_process_stays(studio: FaultyStudio) -> None:
    studio.draws_again()
    worker = studio.cluster.part("worker")
    job = studio.finished(studio.submit("out-of-memory"))
    assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", 1, "out_of_memory")
    assert "Ask for a smaller size" in job["error"]["message"]
    studio.draws_again()
    assert studio.cluster.part("worker") == worker


def test_a_device_that_fails_ends_the_process_and_three_failures_pause_the_slot(studio: FaultyStudio) -> None:
    studio.draws_again()
    worker = studio.cluster.part("worker")
    first = studio.submit("device")
    assert studio.finished(first)["attempt"] == ATTEMPTS
    assert studio.outcomes(first) == ["device_failed"] * ATTEMPTS
    assert studio.cluster.part("worker") != worker

    second = studio.submit("device")
    wait_for(lambda: studio.worker_says("mode") == "pause")
    waiting = studio.submit()
    time.sleep(1)
    assert "the device failed 3 times" in studio.worker_says("note")
    assert studio.api.job(waiting)["state"] == "queued"
    studio.api.session.post(f"{studio.api.url}/jobs/{second}/cancel/")
    studio.manage("queue", "resume")
    assert studio.finished(waiting)["state"] == "succeeded"
    assert studio.finished(second)["state"] == "cancelled"


# The disk ----------------------------------------------------------------------------------------------

PAGE = 4096


@pytest.fixture
def small_disk(studio: FaultyStudio) -> Iterator[Path]:
    """Two MB for all pictures."""
    media = studio.data / "media"
    mounted = allowed("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(media))
    need(mounted, "To mount a small disk needs root.")
    yield media
    subprocess.run(["umount", "--lazy", media], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Write a file that leaves ``leave`` pages free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(bytes(free - leave * PAGE))
    return ballast


@pytest.mark.parametrize(
    "room", [pytest.param("nothing", marks=pytest.mark.slow), "the picture without its thumbnail"]
)
def test_a_full_disk_fails_the_job_in_words_then_the_worker_waits_for_room(
    studio: FaultyStudio, small_disk: Path, room: str
) -> None:
    png = studio.finished(studio.submit())["images"][0]["size"]
    pk = studio.drawing()
    ballast = fill(small_disk, leave=0 if room == "nothing" else -(-png // PAGE))
    job = studio.finished(pk)
    assert (job["state"], job["attempt"], job["error"]["code"]) == ("failed", 1, "disk_full"), job
    assert job["error"]["message"].startswith("The picture could not be stored: No space left on device.")
    left = {path for path in small_disk.rglob("*") if path.is_file()} - {ballast}

    waiting = studio.submit()
    wait_for(lambda: studio.worker_says("note").startswith("Waits for disk space"))
    assert studio.api.job(waiting)["state"] == "queued"
    ballast.unlink()
    assert studio.finished(waiting)["state"] == "succeeded"
    wait_for(lambda: studio.worker_says("note") == "")
    # The first job's two files, and none of the one that failed.
    assert len(left) == 2


# The database ------------------------------------------------------------------------------------------


@ON_POSTGRESQL
def test_cut_connections_to_the_database_cost_the_job_nothing(studios: Studios) -> None:
    studio, server = studios.on("postgresql"), studios.server
    pk = studio.drawing(count=2)
    assert server.cut(studio.environment["FLUXSITE_DATABASE_URL"])
    wait_for(lambda: studio.api.job(pk)["progress"]["picture"] == 1)
    assert server.cut(studio.environment["FLUXSITE_DATABASE_URL"])
    job = studio.finished(pk)
    assert (job["state"], job["attempt"], len(job["images"])) == ("succeeded", 1, 2)
    studio.draws_again()
    assert studio.orphans() == []


@ON_POSTGRESQL
def test_a_database_that_stops_for_three_seconds_delays_the_job(studios: Studios) -> None:
    studio, server = studios.on("postgresql"), studios.server
    pk = studio.drawing(count=2)
    processes = studio.cluster.all()
    server.stop()
    time.sleep(3)
    server.start()
    job = studio.finished(pk)
    assert (job["state"], len(job["images"])) == ("succeeded", 2), job
    studio.draws_again()
    assert studio.cluster.all() == processes
    assert studio.orphans() == []


@ON_POSTGRESQL
def test_a_device_that_fails_while_the_database_is_away_ends_the_process_too(studios: Studios) -> None:
    studio, server = studios.on("postgresql"), studios.server
    pk = studio.drawing("device")
    worker = studio.cluster.part("worker")
    server.stop()
    wait_for(lambda: not alive([worker]))
    server.start()
    assert studio.finished(pk)["attempt"] == ATTEMPTS
    studio.draws_again()


# The clock ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def libfaketime() -> Path:
    def found() -> list[Path]:
        return list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

    if not found() and os.environ.get("CI") == "true":
        subprocess.run(["apt-get", "install", "-qq", "-y", "libfaketime"], check=True)
    need(found(), "No libfaketime. Install it (Debian, Ubuntu: apt install libfaketime)")
    return found()[0]


def set_clock(file: Path, seconds: str) -> None:
    """At once: who reads half of it stops."""
    file.with_suffix(".new").write_text(seconds)
    file.with_suffix(".new").replace(file)


def test_a_clock_that_jumps_ends_no_job_twice_and_stops_no_queue(tmp_path: Path, libfaketime: Path) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, "+0")
    studio = FaultyStudio(
        tmp_path / "data", LD_PRELOAD=str(libfaketime),
        FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1",
        PYTHONPATH=str(Path(__file__).parents[1] / "faults" / "faketime"),
    )  # fmt: skip
    try:
        for jump in ("+3600", "-3600"):
            pk = studio.drawing()
            set_clock(clock, jump)
            job = studio.finished(pk)
            assert (job["state"], len(job["images"])) == ("succeeded", 1)
            # Drawn again at worst, and ended once.
            assert studio.outcomes(pk) in (["succeeded"], ["lost", "succeeded"])
            studio.draws_again()
    finally:
        studio.kill()


# A page that is open -----------------------------------------------------------------------------------


@contextlib.contextmanager
def open_page(browser: Browser, studio: FaultyStudio) -> Iterator[Page]:
    """A page of its own: the console of ``page`` must hold no error, and here questions stay unanswered."""
    context = browser.new_context()
    page = context.new_page()
    log_in(page, studio)
    expect(page.locator(READY)).to_be_visible()
    page.evaluate("window.neverReloaded = true")
    yield page
    assert page.evaluate("window.neverReloaded")
    context.close()


def send(page: Page) -> Locator:
    """Ask for a picture that takes two seconds; returns its job on the page, which is being drawn."""
    page.get_by_label("Prompt").fill(f"{PROMPT} fault:slow")
    page.locator("label:has(input[name=engine][value=bf16])").click()
    page.get_by_role("button", name=re.compile("^Generate")).click()
    running = page.locator("[data-job][data-state=running]")
    expect(running).to_contain_text("Step", timeout=SECONDS)
    return page.locator(f"[data-job='{running.get_attribute('data-job')}']")


def expect_picture(page: Page, job: Locator) -> None:
    """The page has it, and says no more that nobody answers."""
    expect(job.locator("img")).to_be_visible(timeout=SECONDS)
    expect(page.locator("#banner")).to_be_hidden(timeout=SECONDS)


def test_an_open_page_gets_its_picture_though_web_process_and_worker_were_killed(
    studio: FaultyStudio, browser: Browser
) -> None:
    with open_page(browser, studio) as page:
        job = send(page)
        studio.process_of("gunicorn").kill()
        studio.cluster.part("worker").kill()
        expect_picture(page, job)


def test_an_open_page_says_that_the_server_is_gone_and_shows_the_picture_when_it_is_back(
    studios: Studios, browser: Browser
) -> None:
    studio = studios.on("sqlite")
    with open_page(browser, studio) as page:
        job = send(page)
        studio.kill()
        expect(page.locator("#banner")).to_contain_text("No answer from the server")
        studios.start_again("sqlite")
        expect_picture(page, job)
