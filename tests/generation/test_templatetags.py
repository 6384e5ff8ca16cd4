"""A job in words and tiles, and the small words of the pages."""

from datetime import date, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.template import Context, Template
from django.utils import timezone

from accounts.models import User
from generation.models import Job
from generation.templatetags import gallery, jobs, studio
from generation.words import about, duration
from gpu.models import Worker
from tests.conftest import submit
from tests.generation.drawn import draw, finished

RUNNING = {"state": Job.State.RUNNING, "attempt": 1}


def job_that(**is_now: Any) -> Job:
    """A job that is not in the database."""
    asked = {
        "prompt": "a star",
        "width": 64,
        "height": 64,
        "count": 1,
        "steps": 4,
        "engine": "bf16",
        "seed": 7,
    }
    return Job(**{**asked, **is_now})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (-0.01, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3780, "1 h 3 min"),
    ],
)
def test_seconds_read_as_people_say_them(value: float | None, words: str) -> None:
    assert duration(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0, "~1 s"), (0.4, "~1 s"), (8.6, "~9 s"), (59.4, "~59 s"), (59.6, "~1 min")],
)
def test_estimates_are_in_whole_seconds(seconds: float | None, words: str) -> None:
    assert about(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "<0.1"), (1024**3 // 2, "0.5"), (int(23.9 * 1024**3), "23.9")]
)
def test_memory_is_in_gigabytes(size: int, words: str) -> None:
    assert studio.gigabytes(size) == words


def test_devices_have_short_names() -> None:
    assert studio.short_name("NVIDIA GeForce RTX 5090") == "RTX 5090"
    assert studio.short_device("GPU-8f2c1a9b-0000-1111-2222-333344445555") == "GPU-8f2c1a9b"
    assert studio.short_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("taken", "level"), [(0, ""), (7.9, ""), (8, "warn"), (9.9, "warn"), (10, "full"), (11, "full")]
)
def test_a_bar_is_grey_then_warns_then_is_full(taken: float, level: str) -> None:
    assert studio.level(taken, 10) == level


def test_seeds_are_grouped_by_thin_spaces() -> None:
    assert studio.thin(418207733).split(studio.THIN_SPACE) == ["418", "207", "733"]
    assert studio.thin(7) == "7"


def test_counts_are_grouped_by_commas() -> None:
    assert studio.grouped(1284) == "1,284"


def test_an_id_is_shortened_in_the_middle() -> None:
    assert studio.short_id("019ac2aa-0000-7000-8000-00000000f41c") == "019ac2…f41c"


def test_days_near_by_have_names() -> None:
    today = timezone.localdate()
    assert gallery.day_name(today) == "Today"
    assert gallery.day_name(today - timedelta(days=1)) == "Yesterday"
    assert gallery.day_name(date(2024, 2, 3)) == "3 February 2024"


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        ("It needs 27.5 GB. Use FP4. Or wait.", "It needs 27.5 GB.", "Use FP4. Or wait."),
        ("It broke.", "It broke.", ""),
        ("", "", ""),
    ],
)
def test_an_error_is_cause_and_remedy(error: str, cause: str, remedy: str) -> None:
    assert (studio.cause(error), studio.remedy(error)) == (cause, remedy)


def test_an_icon_is_hidden_from_screen_readers() -> None:
    assert 'aria-hidden="true"' in studio.icon("x")
    assert "icons/sprite.svg#x" in studio.icon("x")


def test_a_stranger_has_no_active_jobs(alice: User, bob: User) -> None:
    submit(alice)
    assert len(studio.active_jobs(alice)) == 1
    assert studio.active_jobs(bob) == []
    assert studio.active_jobs(AnonymousUser()) == []


def test_the_job_being_drawn_is_the_first_of_the_active(alice: User) -> None:
    _, drawn, over = submit(alice), submit(alice), submit(alice)
    Job.objects.filter(pk=drawn.pk).update(**RUNNING)
    Job.objects.filter(pk=over.pk).update(state=Job.State.FAILED)
    assert [job.state for job in studio.active_jobs(alice)] == ["running", "queued"]


@pytest.mark.parametrize(
    ("is_now", "words"),
    [
        (RUNNING, "Starting"),
        ({**RUNNING, "stage": "loading"}, "Loading BF16"),
        ({**RUNNING, "stage": "drawing", "step": 0}, "Step 1 of 4"),
        ({**RUNNING, "stage": "drawing", "step": 2}, "Step 3 of 4"),
        ({**RUNNING, "stage": "drawing", "step": 4}, "Step 4 of 4"),
        ({**RUNNING, "stage": "saving", "step": 4}, "Saving"),
        ({**RUNNING, "cancel_requested_at": timezone.now()}, "Stopping"),
        ({"state": Job.State.SUCCEEDED}, "Done"),
        ({"state": Job.State.FAILED}, "Failed"),
        ({"state": Job.State.CANCELLED}, "Cancelled"),
    ],
)
def test_a_job_says_what_it_does_now(is_now: dict[str, Any], words: str) -> None:
    assert jobs.state_words(job_that(**is_now)) == words


def test_each_picture_has_a_tile_that_knows_its_place(alice: User) -> None:
    job = submit(alice, count=3)
    draw(job, 0)
    Job.objects.filter(pk=job.pk).update(**RUNNING, stage="drawing", picture=1, step=2)
    job.refresh_from_db()
    assert [(tile.kind, tile.label, tile.done) for tile in jobs.tiles(job)] == [
        ("picture", "", 0),
        ("drawing", "Step 3 of 4", 2),
        ("waiting", "Next", 0),
    ]


def test_of_a_waiting_job_the_first_tile_says_its_place(alice: User) -> None:
    cache.clear()
    Worker.start("here", "cpu", "bf16", 1)
    job = submit(alice, count=3)
    assert [tile.label for tile in jobs.tiles(job)] == ["1st in line", "Queued", "Queued"]


def test_a_job_that_was_claimed_meanwhile_has_no_place(alice: User) -> None:
    cache.clear()
    Worker.start("here", "cpu", "bf16", 1)
    job = submit(alice)
    Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING)
    assert jobs.state_words(job) == "Queued"


@pytest.mark.parametrize("state", [Job.State.FAILED, Job.State.CANCELLED])
def test_a_job_that_ended_early_keeps_its_pictures(alice: User, state: Job.State) -> None:
    job = submit(alice, count=2)
    draw(job, 0)
    Job.objects.filter(pk=job.pk).update(state=state)
    job.refresh_from_db()
    assert [tile.kind for tile in jobs.tiles(job)] == ["picture", state]


def test_a_job_that_starts_again_says_so() -> None:
    assert jobs.again(job_that(**RUNNING)) == ""
    running = {"state": Job.State.RUNNING, "attempt": 4}
    assert jobs.again(job_that(**running, deaths=1)).startswith("Starts again, attempt 2 of 3")
    assert (
        jobs.again(job_that(**running)) == "Starts again. The worker before stopped while it loaded the model"
    )
    assert jobs.again(job_that(state=Job.State.SUCCEEDED, attempt=2)) == ""


def test_a_cancelled_job_says_how_far_it_came() -> None:
    now = timezone.now()
    assert jobs.stopped_at(job_that()) == "Cancelled before it started"
    assert jobs.stopped_at(job_that(error="The account was switched off.")) == "The account was switched off."
    assert jobs.stopped_at(job_that(started_at=now, step=1)) == "Cancelled at step 2 of 4"
    assert jobs.stopped_at(job_that(started_at=now, count=4, picture=2)) == "Cancelled at picture 3 of 4"


def test_the_time_of_a_picture_is_shown_only_when_it_is_known() -> None:
    done = {"state": Job.State.SUCCEEDED, "attempt": 1, "count": 2, "draw_seconds": 3.0}
    assert jobs.seconds_each(job_that(**done)) == 1.5
    assert jobs.seconds_each(job_that(**{**done, "attempt": 2})) is None
    assert jobs.seconds_each(job_that(**{**done, "draw_seconds": None})) is None
    assert jobs.seconds_each(job_that(**{**done, "state": Job.State.FAILED})) is None


def rendered(text: str) -> str:
    return Template("{% load jobs %}" + text).render(Context())


def test_the_meter_has_a_segment_for_each_step() -> None:
    shown = rendered("{% meter 2 4 moves=True %}")
    assert (shown.count("<i"), shown.count("full"), shown.count("half")) == (4, 2, 1)
    assert "2 of 4 steps done" in shown


def test_a_meter_at_rest_has_no_half_segment() -> None:
    assert "half" not in rendered("{% meter 2 4 %}")


def test_many_steps_are_one_bar() -> None:
    shown = rendered("{% meter 9 20 %}")
    assert '<progress class="meter-bar" value="9" max="20"' in shown


def test_links_to_the_form(alice: User) -> None:
    job = submit(alice, seed=7, count=2)
    image = draw(job, 1)
    assert jobs.remix_url(job) == f"/?from={job.pk}"
    assert jobs.retry_url(job) == f"/?from={job.pk}&seed=7"
    assert jobs.reuse_url(image) == f"/?from={job.pk}&seed=8"


def test_pictures_drawn_together_go_through_their_steps_together(alice: User) -> None:
    job = submit(alice, count=4)
    job.state, job.stage, job.picture, job.together, job.step = Job.State.RUNNING, Job.Stage.DRAWING, 0, 3, 1
    assert [tile.label for tile in jobs.tiles(job)] == ["Step 2 of 4"] * 3 + ["Next"]


def test_a_picture_in_the_trash_is_not_shown(alice: User) -> None:
    job = finished(alice, count=2)
    job.images.filter(index=0).update(trashed_at=timezone.now())
    assert [tile.label for tile in jobs.tiles(job)] == ["In the trash", ""]
    assert jobs.first_picture(job) == job.images.get(index=1)
    job.images.update(trashed_at=timezone.now())
    assert jobs.first_picture(job) is None


@pytest.mark.parametrize(
    ("engine", "code", "other"),
    [
        ("bf16", "out_of_memory", "fp4"),
        ("fp4", "lora", "bf16"),
        ("fp4", "out_of_memory", ""),
        ("bf16", "", ""),
    ],
)
def test_the_other_engine_is_offered_where_it_helps(engine: str, code: str, other: str) -> None:
    assert jobs.other_engine(job_that(engine=engine, error_code=code)) == other
