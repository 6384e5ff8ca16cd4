"""The pages: whose they are, what they say, and what they cost."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import Quota, User
from generation import forms, operations
from generation.models import Image, Job
from gpu.models import Mode, Pool, Worker
from loras.models import Lora
from tests.conftest import submit
from tests.generation.drawn import draw, finished

STATUS = "/jobs/status/"
FORM = {
    "prompt": "a red circle", "size": "144x96", "width": "", "height": "",
    "count": "2", "seed": "7", "steps": "4", "engine": "bf16",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    cache.clear()


@pytest.fixture
def client(alice: User) -> Client:
    """Alice's browser."""
    return browser_of(alice)


def browser_of(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def lora(slug: str = "midnight", **changes: Any) -> Lora:
    facts = {
        "name": slug.title(), "trigger_words": ["at night"], "recommended_weight": 0.8, "file": "x",
        "sha256": "0" * 64, "size": 1, "family": "demo", "state": "ready", "visibility": "everyone",
    }  # fmt: skip
    return Lora.objects.create(slug=slug, **{**facts, **changes})


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.content[:2000]
    return str(response.content.decode())


def read(response: Any) -> Any:
    """The response, with its file read to the end and so closed."""
    response.getvalue()
    return response


# Whose -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/gallery/", "/history/", "/workers/", "/workers/status/", STATUS, f"/jobs/{uuid4()}/"]
)
def test_nobody_sees_a_page_without_logging_in(db: None, path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/login/")


@pytest.mark.parametrize("view", ["image", "image-file", "image-thumbnail"])
def test_a_picture_is_its_owners_alone(alice: User, bob: User, client: Client, view: str) -> None:
    image = draw(submit(alice))
    address = reverse(f"generation:{view}", args=[image.pk])
    assert read(client.get(address)).status_code == 200
    assert browser_of(bob).get(address).status_code == 404


def test_a_job_is_its_owners_alone(alice: User, bob: User, client: Client) -> None:
    job = submit(alice)
    assert client.get(job.get_absolute_url()).status_code == 200
    stranger = browser_of(bob)
    assert stranger.get(job.get_absolute_url()).status_code == 404
    assert stranger.post(reverse("generation:cancel", args=[job.pk])).status_code == 404
    assert stranger.get(STATUS, {"ids": str(job.pk)}).json()["jobs"] == []
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_a_stranger_sees_nothing_of_it_on_the_lists(alice: User, bob: User) -> None:
    finished(alice, prompt="alice's secret")
    stranger = browser_of(bob)
    for path in ("/", "/gallery/", "/history/"):
        assert "secret" not in text(stranger.get(path))


def test_a_stranger_cannot_prefill_the_form_from_it(alice: User, bob: User) -> None:
    job = submit(alice, prompt="alice's secret")
    assert "secret" not in text(browser_of(bob).get(f"/?from={job.pk}"))


@pytest.mark.parametrize("path", ["/jobs/x/", "/gallery/?before=x", "/history/?before=x", f"{STATUS}?ids=x"])
def test_what_is_no_id_gets_404(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_an_error_page_says_where_to_go(client: Client) -> None:
    page = text(client.get(f"/images/{uuid4()}/"), 404)
    assert "There is nothing at this address" in page
    assert 'href="/gallery/"' in page


# Submitting without JavaScript -------------------------------------------------------------------------


def test_the_form_makes_a_job_and_leads_to_it(client: Client, alice: User) -> None:
    lora()
    response = client.post("/", {**FORM, "lora": ["midnight"], "weight-midnight": "0.5"})
    job = Job.objects.get()
    assert (response.status_code, response["Location"]) == (302, f"/jobs/{job.pk}/")
    asked = (job.owner, job.prompt, job.width, job.height, job.count, job.seed)
    assert asked == (alice, "a red circle", 144, 96, 2, 7)
    assert [(chosen.slug, chosen.weight) for chosen in job.job_loras.all()] == [("midnight", 0.5)]


def test_an_own_size_counts_when_it_is_chosen(client: Client) -> None:
    client.post("/", {**FORM, "size": "own", "width": "64", "height": "80"})
    assert Job.objects.values_list("width", "height").get() == (64, 80)


def test_the_own_size_does_not_count_when_an_aspect_is_chosen(client: Client) -> None:
    client.post("/", {**FORM, "width": "64", "height": "80"})
    assert Job.objects.values_list("width", "height").get() == (144, 96)


def test_an_empty_seed_is_chosen_by_the_server(client: Client) -> None:
    assert client.post("/", {**FORM, "seed": ""}).status_code == 302
    assert Job.objects.get().seed >= 0


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "Write a prompt"),
        ({"prompt": "x" * 4001}, "prompt", "4,001 characters. Use at most 4,000."),
        ({"size": "own", "width": "100", "height": "64"}, "size", "100 does not fit"),
        ({"size": "own", "width": "wide", "height": "64"}, "size", "Use a whole number of pixels."),
        ({"size": "nonsense"}, "size", "Use a whole number of pixels."),
        ({"seed": "-1"}, "seed", "Use a whole number from 0 to"),
        ({"count": "9"}, "count", "Use a whole number from 1 to 4."),
        ({"steps": "0"}, "steps", "Use a whole number from 1 to 50."),
        ({"engine": "int1"}, "engine", "There is no engine int1."),
        ({"lora": ["gone"]}, "loras", "There is no LoRA gone that you may use."),
        (
            {"lora": ["midnight"], "weight-midnight": "9"},
            "weight-midnight",
            "9 is out of range. Use a number from -4 to 4.",
        ),
    ],
)
def test_an_error_stands_at_its_field(client: Client, change: Any, field: str, words: str) -> None:
    lora()
    page = text(client.post("/", {**FORM, **change}), 400)
    error = page.partition(f'data-error="{field}"')[2].partition("</p>")[0]
    assert words in error
    assert "hidden>" not in error
    assert not Job.objects.exists()


def test_an_error_keeps_everything_that_was_typed(client: Client) -> None:
    lora()
    wrong = {"size": "own", "width": "100", "height": "x7", "seed": "-3", "count": "3", "steps": "6"}
    page = text(client.post("/", {**FORM, **wrong, "lora": ["midnight"], "weight-midnight": "0,5"}), 400)
    assert "a red circle</textarea>" in page
    for value in ("100", "x7", "-3", "6", "0,5"):
        assert f'value="{value}"' in page
    for choice in ('value="own" checked', 'value="3" checked', 'id="lora-midnight" checked'):
        assert choice in page


def test_a_waiting_job_reloads_its_page_by_itself(client: Client, alice: User) -> None:
    assert '<noscript><meta http-equiv="refresh"' in text(client.get(submit(alice).get_absolute_url()))
    assert "http-equiv" not in text(client.get(finished(alice).get_absolute_url()))


def test_cancel_stops_the_job_and_shows_it(client: Client, alice: User) -> None:
    job = submit(alice)
    response = client.post(reverse("generation:cancel", args=[job.pk]))
    assert (response.status_code, response["Location"]) == (302, job.get_absolute_url())
    assert "Cancelled before it started" in text(client.get(job.get_absolute_url()))


def test_cancel_takes_no_get(client: Client, alice: User) -> None:
    assert client.get(reverse("generation:cancel", args=[submit(alice).pk])).status_code == 405


# What the form starts with -----------------------------------------------------------------------------


def test_a_prompt_in_the_address_is_filled_in(client: Client) -> None:
    assert "two moons</textarea>" in text(client.get("/", {"prompt": "two moons"}))


def test_remix_takes_everything_but_the_seed(client: Client, alice: User) -> None:
    lora()
    client.post("/", {**FORM, "lora": ["midnight"], "weight-midnight": "0.5"})
    page = text(client.get("/", {"from": str(Job.objects.get().pk)}))
    assert "a red circle</textarea>" in page
    for choice in ('value="144x96" checked', 'value="2" checked', 'id="lora-midnight" checked'):
        assert choice in page
    assert 'name="weight-midnight" value="0.50"' in page
    assert 'inputmode="numeric" autocomplete="off" value=""' in page


def test_reuse_all_takes_the_seed_too(client: Client, alice: User) -> None:
    job = submit(alice, seed=7)
    assert 'autocomplete="off" value="8"' in text(client.get("/", {"from": str(job.pk), "seed": "8"}))


def test_a_lora_that_is_gone_is_named(client: Client, alice: User) -> None:
    submit(alice, loras=[(lora(), 1.0)])
    Lora.objects.all().delete()
    page = text(client.get("/", {"from": str(Job.objects.get().pk)}))
    assert "No longer in the library, left out: Midnight" in page


def test_only_loras_that_can_be_used_are_offered(client: Client, bob: User) -> None:
    lora("mine")
    lora("refused", state="refused")
    lora("other-family", family="flux1")
    lora("bobs", owner=bob, visibility="private")
    page = text(client.get("/"))
    assert 'value="mine"' in page
    for slug in ("refused", "other-family", "bobs"):
        assert f'value="{slug}"' not in page


def engine_tile(client: Client, engine: str = "bf16") -> str:
    cache.clear()
    page = text(client.get("/"))
    return page.partition(f'data-engine="{engine}"')[2].partition("</label>")[0]


def test_an_engine_says_what_a_job_meets(client: Client) -> None:
    assert "Off</span>" in engine_tile(client)
    worker = Worker.start("here", "cpu", "bf16", 1)
    assert "Loads first" in engine_tile(client)
    worker.now(load_seconds=9.2)
    assert "Loads ~9 s" in engine_tile(client)
    worker.now(model="a model")
    assert "Ready" in engine_tile(client)
    worker.now(Worker.State.WAITING, note="Waits for disk space: 0.1 GB are free.")
    assert "Waits" in engine_tile(client)
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    assert "Paused" in engine_tile(client)


def test_one_slot_that_takes_jobs_is_enough(client: Client) -> None:
    operations.set_mode(Worker.start("here", "cpu", "bf16", 1), Mode.PAUSE)
    assert "Paused" in engine_tile(client)
    Worker.start("there", "cpu", "bf16", 2)
    assert "Loads first" in engine_tile(client)


def test_the_engine_that_draws_soonest_is_chosen(client: Client) -> None:
    Worker.start("here", "cpu", "fp4", 1)
    Worker.start("here", "cpu", "bf16", 1).now(model="a model")
    assert 'value="bf16" checked' in text(client.get("/"))
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    cache.clear()
    assert 'value="fp4" checked' in text(client.get("/"))


def test_an_engine_says_how_long_a_picture_takes_once_it_is_known(client: Client, alice: User) -> None:
    assert "a picture" not in engine_tile(client)
    assert "data-speed" not in text(client.get("/"))
    finished(alice, width=128, height=128, count=2)
    assert "~1.7 s a picture" in engine_tile(client)
    assert "128x128x4&quot;: 1.7" in engine_tile(client)


def test_what_is_no_number_has_no_estimate(client: Client, alice: User) -> None:
    finished(alice)
    page = text(client.post("/", {**FORM, "size": "own", "width": "wide", "height": "64"}), 400)
    assert "a picture</span>" not in page


# Quotas --------------------------------------------------------------------------------------------------


def test_pictures_left_today_are_shown_where_they_are_limited(client: Client, alice: User) -> None:
    assert 'id="quota"' not in text(client.get("/"))
    Quota.objects.create(images_a_day=50)
    submit(alice, count=4)
    page = text(client.get("/"))
    assert "4 of 50" in page
    assert 'class="quota-bar "' in page


@pytest.mark.parametrize(("limit", "look"), [(6, ""), (5, "warn"), (4, "full")])
def test_a_bar_warns_from_four_fifths_on(client: Client, alice: User, limit: int, look: str) -> None:
    Quota.objects.create(images_a_day=limit)
    submit(alice, count=4)
    page = text(client.get("/"))
    assert f'class="quota-bar {look}"' in page
    assert ('class="quota-end" hidden' in page) == (look != "full")


def test_of_two_limits_the_one_that_is_reached_first_is_shown(client: Client, alice: User, bob: User) -> None:
    Quota.objects.create(images_a_day=5)
    Quota.objects.create(group=alice.groups.get(), images_a_day=6)
    submit(bob, count=4)
    page = text(client.get("/"))
    assert "Today, team" in page
    assert "4 of 6" in page


def test_too_much_is_said_with_its_remedy_and_the_prompt_is_kept(client: Client) -> None:
    Quota.objects.create(images_a_day=1)
    page = text(client.post("/", FORM), 429)
    error = page.partition('id="form-error"')[2].partition("</div>")[0]
    assert "<b>1 of today&#x27;s 1 pictures are left; this job asks for 2.</b>" in error
    assert "Your prompt is kept." in error
    assert "a red circle</textarea>" in page
    assert not Job.objects.exists()


# What a waiting job says -----------------------------------------------------------------------------------


def words_of(client: Client, job: Job) -> list[str]:
    """The job in the feed, in the history, and on its own page."""
    cache.clear()
    shown = []
    for template in ("feed", "row"):
        answer = client.get(STATUS, {"ids": str(job.pk), "as": template})
        shown.append(answer.json()["jobs"][0]["html"])
    return [*shown, text(client.get(job.get_absolute_url()))]


def test_a_waiting_job_says_its_place_and_its_wait(client: Client, alice: User) -> None:
    finished(alice)
    cache.clear()
    Worker.start("here", "cpu", "bf16", 1).now(model="a model")
    submit(alice, count=4)
    for shown in words_of(client, submit(alice)):
        assert "2nd in line" in shown
        assert "~7 s" in shown


def test_no_wait_is_shown_before_one_is_known(client: Client, alice: User) -> None:
    Worker.start("here", "cpu", "bf16", 1)
    for shown in words_of(client, submit(alice)):
        assert "1st in line" in shown
        assert "~" not in shown


def test_a_job_whose_turn_it_is_promises_nothing(client: Client, alice: User) -> None:
    """It waits for one that takes longer than expected."""
    finished(alice)
    cache.clear()
    worker = Worker.start("here", "cpu", "bf16", 1)
    worker.now(model="a model")
    slow = submit(alice)
    Job.objects.filter(pk=slow.pk).update(state="running", worker=worker, started_at="2024-01-01T00:00Z")
    for shown in words_of(client, submit(alice)):
        assert "1st in line" in shown
        assert "~" not in shown


def test_a_job_that_no_worker_can_have_says_so(client: Client, alice: User) -> None:
    for shown in words_of(client, submit(alice)):
        assert "Waits for a BF16 slot" in shown
        assert "none is on" in shown
        assert "An admin can start one" in shown


def test_a_job_of_a_paused_engine_says_who_can_help(client: Client, alice: User) -> None:
    Worker.start("here", "cpu", "bf16", 1)
    operations.set_mode(Pool.of("bf16"), Mode.PAUSE)
    for shown in words_of(client, submit(alice)):
        assert "BF16 is paused" in shown
        assert "An admin can resume it" in shown


def test_a_job_says_what_all_workers_wait_for(client: Client, alice: User) -> None:
    note = "Waits for disk space: 0.1 GB are free."
    Worker.start("here", "cpu", "bf16", 1).now(Worker.State.WAITING, note=note)
    for shown in words_of(client, submit(alice)):
        assert "BF16 waits" in shown
        assert note in shown


def test_loading_says_how_long_it_took_the_last_time(client: Client, alice: User) -> None:
    worker = Worker.start("here", "cpu", "bf16", 1)
    job = submit(alice)
    Job.objects.filter(pk=job.pk).update(state="running", attempt=1, worker=worker, stage="loading")
    assert "~" not in words_of(client, job)[0]
    worker.now(load_seconds=9.2)
    for shown in words_of(client, job):
        assert "Loading BF16" in shown
        assert "~9 s" in shown


# Status ------------------------------------------------------------------------------------------------


def test_the_status_shows_a_job_as_the_page_does(client: Client, alice: User) -> None:
    job = submit(alice)
    (answer,) = client.get(STATUS, {"ids": str(job.pk), "as": "feed"}).json()["jobs"]
    assert (answer["id"], answer["state"], answer["step"]) == (str(job.pk), "queued", 0)
    assert answer["html"] in text(client.get("/"))


def test_the_status_draws_rows_or_nothing_when_asked(client: Client, alice: User) -> None:
    job = submit(alice)
    (row,) = client.get(STATUS, {"ids": str(job.pk), "as": "row"}).json()["jobs"]
    assert row["html"].startswith("<tbody")
    (bare,) = client.get(STATUS, {"ids": str(job.pk)}).json()["jobs"]
    assert bare["html"] == ""


def test_the_status_is_304_until_something_changes(client: Client, alice: User) -> None:
    job = submit(alice)
    ask = {"ids": str(job.pk), "as": "feed"}
    etag = client.get(STATUS, ask)["ETag"]
    assert client.get(STATUS, ask, headers={"If-None-Match": etag}).status_code == 304
    Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING, stage=Job.Stage.DRAWING, step=1)
    changed = client.get(STATUS, ask, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed["ETag"] != etag


def test_the_status_tells_the_state_of_the_engines(client: Client) -> None:
    Worker.start("here", "cpu", "bf16", 1).now(model="a model")
    assert client.get(STATUS).json()["engines"] == [
        {"name": "fp4", "state": "off", "words": "Off"},
        {"name": "bf16", "state": "ready", "words": "Ready"},
    ]


def test_the_status_is_never_kept_by_a_shared_cache(client: Client) -> None:
    assert client.get(STATUS)["Cache-Control"] == "private, no-cache"


# What prompts may hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/gallery/", "/history/", "job", "image", "status"])
def test_a_prompt_is_text_everywhere(client: Client, alice: User, path: str) -> None:
    attack = """<script>alert(1)</script>"' onload='x"""
    job = finished(alice, prompt=attack)
    addresses = {
        "job": job.get_absolute_url(),
        "image": Image.objects.get().get_absolute_url(),
        "status": f"{STATUS}?as=feed&ids={job.pk}",
    }
    page = text(client.get(addresses.get(path, path)))
    assert "<script>alert" not in page
    assert "onload='x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_no_page_needs_inline_code(client: Client, alice: User) -> None:
    finished(alice)
    submit(alice)
    for path in ("/", "/gallery/", "/history/", Image.objects.get().get_absolute_url()):
        page = text(client.get(path))
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert "<script>" not in page


# Lists -------------------------------------------------------------------------------------------------


def test_an_empty_gallery_shows_how_to_begin(client: Client) -> None:
    page = text(client.get("/gallery/"))
    assert "Nothing drawn yet" in page
    assert page.count('class="example"') == 3


@pytest.mark.parametrize("path", ["/gallery/", "/history/"])
def test_load_more_goes_on_where_the_page_ends(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("generation.gallery_page.PAGE", 2)
    monkeypatch.setattr("generation.views.jobs.HISTORY_PAGE", 2)
    for number in range(5):
        finished(alice, prompt=f"picture {number}")
    seen, address = [], path
    for _ in range(3):
        page = text(client.get(address))
        seen += [number for number in reversed(range(5)) if f"picture {number}" in page]
        address = urljoin(path, page.partition('id="more" href="')[2].partition('"')[0])
    assert seen == [4, 3, 2, 1, 0]
    assert address == path


def test_the_gallery_names_days(client: Client, alice: User) -> None:
    finished(alice)
    assert "<h2>Today</h2>" in text(client.get("/gallery/"))


def test_a_picture_leads_to_the_newer_and_the_older_one(client: Client, alice: User) -> None:
    older, here, newer = (draw(submit(alice)) for _ in range(3))
    page = text(client.get(here.get_absolute_url()))
    assert f'id="newer" href="{newer.get_absolute_url()}"' in page
    assert f'id="older" href="{older.get_absolute_url()}"' in page
    assert 'id="newer"' not in text(client.get(newer.get_absolute_url()))


def test_a_picture_shows_its_recipe(client: Client, alice: User) -> None:
    job = finished(alice, prompt="a red ring", seed=418207733, loras=[(lora(), 0.5)])
    page = text(client.get(job.images.get().get_absolute_url()))
    for fact in ("a red ring", 'data-copy="418207733"', "64 × 64", "BF16", "a model", "Midnight", "0.50"):
        assert fact in page


def test_a_failed_job_says_cause_and_remedy(client: Client, alice: User) -> None:
    Job.objects.filter(pk=submit(alice).pk).update(state="failed", error="Too big. Use a smaller size.")
    for path in ("/", "/history/"):
        page = text(client.get(path))
        assert "<b>Too big.</b>" in page
        assert "<p>Use a smaller size.</p>" in page
        assert "Edit and retry" in page


def test_the_download_names_the_seed(client: Client, alice: User) -> None:
    image = draw(submit(alice, seed=7))
    address = reverse("generation:image-file", args=[image.pk])
    download = read(client.get(f"{address}?download"))
    assert download["Content-Disposition"].startswith('attachment; filename="fluxsite-7-')
    assert "attachment" not in read(client.get(address)).get("Content-Disposition", "")


def test_a_download_without_its_recipe_tells_nothing_but_the_mark(client: Client, alice: User) -> None:
    image = draw(submit(alice, prompt="a secret", seed=7))
    address = reverse("generation:image-file", args=[image.pk])
    whole: Any = client.get(f"{address}?download")
    plain = client.get(f"{address}?download=plain")
    assert b"secret" in whole.getvalue()
    assert b"secret" not in plain.content
    assert b"trainedAlgorithmicMedia" in plain.content
    assert plain["Content-Disposition"] == f'attachment; filename="fluxsite-{image.pk}.png"'
    assert plain["ETag"] != whole["ETag"]


def test_a_file_that_is_damaged_is_not_given_out_as_plain(client: Client, alice: User, media: Path) -> None:
    image = draw(submit(alice))
    path = media / str(image.file)
    path.write_bytes(path.read_bytes()[:-20])
    address = reverse("generation:image-file", args=[image.pk])
    assert client.get(f"{address}?download=plain").status_code == 404


# What they cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/gallery/", "/history/", STATUS])
def test_a_page_of_many_costs_as_many_queries_as_a_page_of_one(
    client: Client, alice: User, django_assert_max_num_queries: Any, path: str
) -> None:
    used = lora()
    Worker.start("here", "cpu", "bf16", 1)
    jobs = [finished(alice, loras=[(used, 1.0)], count=2), submit(alice)]
    ask = {"ids": ",".join(str(job.pk) for job in jobs), "as": "feed"}
    cache.clear()
    with django_assert_max_num_queries(100) as few:
        client.get(path, ask)
    jobs += [finished(alice, loras=[(used, 1.0)], count=2) for _ in range(11)]
    jobs += [submit(alice) for _ in range(3)]
    cache.clear()
    ask["ids"] = ",".join(str(job.pk) for job in jobs)
    with django_assert_max_num_queries(len(few)):
        client.get(path, ask)


def test_the_header_counts_jobs_in_flight(client: Client, alice: User, bob: User) -> None:
    submit(alice)
    submit(alice)
    submit(bob)
    assert "<b>2</b>" in text(client.get("/gallery/"))


def test_admins_find_the_admin_pages_and_others_do_not(client: Client, alice: User) -> None:
    assert "/admin/" not in text(client.get("/gallery/"))
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    assert "/admin/" in text(client.get("/gallery/"))


def test_the_demo_model_is_marked(client: Client) -> None:
    assert settings.FLUXSITE_MODEL.endswith("demo/model")
    assert "Demo model: simple shapes only" in text(client.get("/"))


def test_of_thousands_of_loras_the_form_holds_those_used_most_and_those_chosen(
    client: Client, alice: User
) -> None:
    Lora.objects.bulk_create(
        Lora(
            owner=alice, slug=f"lora-{n}", name=f"Lora {n}", family="demo", state="ready", sha256="a" * 64,
            size=1, uses=n, search_text=f"lora {n} word{n}",
        )
        for n in range(200)
    )  # fmt: skip
    client.force_login(alice)
    shown = client.get("/?lora=lora-3").content.decode()
    assert shown.count('class="lora-box"') == forms.PICKED + 1
    assert re.search(r'name="lora" value="lora-3"[^>]* checked', shown)
    assert "Search 200 LoRAs" in shown
    found = client.get("/loras/pick/?q=WORD7").content.decode()
    assert re.findall(r'data-pick="([^"]+)"', found) == [f"lora-{n}" for n in (*range(79, 69, -1), 7)]
    assert found.count('class="lora-box"') == 11
