"""The history: what is found, what can be done with it, and what leaves it as CSV."""

import csv
import io
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from accounts.models import Quota, User
from generation import history, history_csv
from generation.history import Filters, first_id_at
from generation.models import Job
from loras.models import Admission, Lora
from tests.conftest import asked, submit
from tests.generation.drawn import finished
from tests.loras.test_uploads import add


@pytest.fixture
def client(alice: User) -> Client:
    browser = Client()
    browser.force_login(alice)
    return browser


def page(client: Client, **query: str) -> str:
    response = client.get("/history/", query)
    assert response.status_code == 200
    return str(response.content.decode())


def prompts(shown: str) -> list[str]:
    return re.findall(r'class="row-prompt"[^>]*>([^<]*)<', shown)


def failed(owner: User, code: str = "out_of_memory", **changes: Any) -> Job:
    job = submit(owner, **changes)
    error = "The GPU ran out of memory. Use a smaller size."
    Job.objects.filter(pk=job.pk).update(state="failed", error_code=code, error=error)
    job.refresh_from_db()
    return job


def at(job: Job, when: Any, prompt: str) -> None:
    """Another job of the same owner, sent ``when``."""
    facts = asked(prompt=prompt)
    Job.objects.create(pk=UUID(int=first_id_at(when).int + 1), owner=job.owner, seed=1, **facts)


# What is found ---------------------------------------------------------------------------------------------


def test_words_are_found_in_any_order_and_case(client: Client, alice: User, bob: User) -> None:
    for prompt in ("A red star", "a red moon", "100% wool"):
        submit(alice, prompt=prompt)
    submit(bob, prompt="bob's red star")
    assert prompts(page(client, q="STAR red")) == ["A red star"]
    assert prompts(page(client, q="red")) == ["a red moon", "A red star"]
    assert prompts(page(client, q="%")) == ["100% wool"]
    assert "No job matches" in page(client, q="blue")


def test_a_job_is_found_by_its_id_or_the_first_part_of_it(client: Client, alice: User) -> None:
    job = submit(alice, prompt="here")
    at(job, timezone.now() - timedelta(days=300), "there")
    for q in (str(job.pk), job.pk.hex, str(job.pk)[:13], str(job.pk).upper()):
        assert prompts(page(client, q=q)) == ["here"]


def test_waiting_and_failed_are_counted_and_shown_alone(client: Client, alice: User, bob: User) -> None:
    finished(alice, prompt="done")
    submit(alice, prompt="waits")
    failed(alice, prompt="broke")
    failed(bob)
    assert prompts(page(client, show="waiting")) == ["waits"]
    assert prompts(page(client, show="failed")) == ["broke"]
    shown = page(client)
    for name in ("Waiting", "Failed"):
        assert f'{name} <span class="count">1</span>' in shown
    assert "3 jobs" in shown


def test_engine_and_date_filter(client: Client, alice: User) -> None:
    job = submit(alice, prompt="new", engine="fp4")
    at(job, timezone.now() - timedelta(days=10), "of last week")
    at(job, timezone.now() - timedelta(days=300), "old")
    assert prompts(page(client, engine="fp4")) == ["new"]
    assert prompts(page(client, date="today")) == prompts(page(client, date="week")) == ["new"]
    assert prompts(page(client, date="month")) == ["new", "of last week"]
    assert len(prompts(page(client, date="never", engine="int1", show="all"))) == 3


def test_load_more_keeps_the_filters(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.views.jobs.HISTORY_PAGE", 2)
    for number in range(5):
        submit(alice, prompt=f"star {number}")
        submit(alice, prompt="moon")
    seen, address = [], "/history/?q=star&engine=bf16"
    while address:
        shown = client.get(address).content.decode()
        seen += prompts(shown)
        found = re.search(r'id="more" href="([^"]*)"', shown)
        address = "/history/" + found[1].replace("&amp;", "&") if found else ""
    assert seen == [f"star {number}" for number in (4, 3, 2, 1, 0)]
    assert "Back to the newest" in shown


def test_the_search_ends_somewhere_and_says_so(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SEARCHED", 2)
    monkeypatch.setattr("generation.views.jobs.SEARCHED", 2)
    for prompt in ("star", "moon", "sun"):
        submit(alice, prompt=prompt)
    assert prompts(page(client, q="moon")) == ["moon"]
    assert "your newest 2 jobs; the CSV has all" in page(client, q="star")
    assert b"star" in client.get("/history/jobs.csv?q=star").getvalue()


def test_counting_ends_somewhere(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generation.views.jobs.COUNTED", 2)
    monkeypatch.setattr("generation.views.jobs.COUNTED_STATE", 2)
    for _ in range(3):
        failed(alice)
    shown = page(client)
    assert "2 or more jobs" in shown
    assert 'Failed <span class="count">1+</span>' in shown


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL plans by size, and here are no rows")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "job_newest_of_owner"),
        ("date=week", "job_newest_of_owner"),
        ("show=failed", "job_of_owner_by_state"),
        ("show=waiting", "COVERING INDEX job_of_owner_by_state"),
        ("show=failed&date=week", "job_of_owner_by_state"),
    ],
)
def test_an_index_has_them_in_order(alice: User, query: str, index: str) -> None:
    found = Filters.of(QueryDict(query)).newest_of(Job.objects.visible_to(alice)).order_by("-id")[:51]
    plan = found.explain()
    assert index in plan
    assert "TEMP B-TREE" not in plan


# Again -----------------------------------------------------------------------------------------------------


def again(client: Client, job: Job, **post: str) -> Job:
    """The job that a button of ``job`` makes."""
    response = client.post(f"/jobs/{job.pk}/again/", post)
    assert response.status_code == 302, response.content.decode()[:2000]
    new = Job.objects.exclude(pk=job.pk).get(parent=job)
    assert response["Location"] == f"/jobs/{new.pk}/"
    return new


def test_again_is_a_new_job_with_a_new_seed(client: Client, alice: User) -> None:
    fog = add(alice, name="Fog")
    job = finished(alice, prompt="a red ring", seed=7, count=2, loras=[(fog, 0.5)])
    new = again(client, job)
    assert new.seed != 7
    assert (new.prompt, new.width, new.count, new.engine) == ("a red ring", 64, 2, "bf16")
    assert [(one.slug, one.weight) for one in new.job_loras.all()] == [("fog", 0.5)]


def test_again_with_the_same_seed(client: Client, alice: User) -> None:
    assert again(client, finished(alice, seed=7), seed="same").seed == 7


def test_out_of_memory_on_bf16_offers_fp4(client: Client, alice: User) -> None:
    job = failed(alice, seed=7)
    assert "Retry in FP4" in page(client)
    new = again(client, job, engine="fp4")
    assert (new.engine, new.seed) == ("fp4", 7)
    failed(alice, engine="fp4", code="worker_died")
    assert "Retry in BF16" not in page(client)


def test_what_cannot_be_asked_again_is_said_in_the_form(client: Client, alice: User) -> None:
    fog = add(alice, name="Fog")
    job = failed(alice, prompt="a red ring", loras=[(fog, 0.5)])
    Admission.objects.create(lora=fog, engine="fp4", state="refused", reason="12 layers do not fit.")
    response = client.post(f"/jobs/{job.pk}/again/", {"engine": "fp4"})
    assert response.status_code == 400
    assert "Fog does not work on FP4: 12 layers do not fit." in response.content.decode()
    Quota.objects.create(images_a_day=0)
    response = client.post(f"/jobs/{job.pk}/again/")
    assert response.status_code == 429
    assert "a red ring</textarea>" in response.content.decode()
    assert Job.objects.count() == 1


def test_a_lora_that_is_gone_is_named_in_the_form(client: Client, alice: User) -> None:
    job = finished(alice, loras=[(add(alice, name="Fog"), 0.5)])
    Lora.objects.all().delete()
    add(alice, name="Fog")  # another of the same name is not it
    response = client.post(f"/jobs/{job.pk}/again/", follow=True)
    assert response.redirect_chain == [(f"/?from={job.pk}", 302)]
    assert Job.objects.count() == 1


def test_a_row_tells_the_time_of_each_stage(client: Client, alice: User) -> None:
    job = finished(alice)
    Job.objects.filter(pk=job.pk).update(load_seconds=2.1, draw_seconds=3.3, save_seconds=0.2, attempt=2)
    for shown in (page(client), client.get(job.get_absolute_url()).content.decode()):
        for name, time in (
            ("Loading", "2.1 s"),
            ("Drawing", "3.3 s"),
            ("Saving", "0.2 s"),
            ("Attempts", "2"),
        ):
            assert f"<dt>{name}</dt><dd>{time}</dd>" in shown


# CSV -------------------------------------------------------------------------------------------------------


def rows(client: Client, **query: str) -> list[dict[str, str]]:
    response = client.get("/history/jobs.csv", query)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="fluxsite-jobs-\d{4}-\d\d-\d\d\.csv"', response["Content-Disposition"]
    )
    return list(csv.DictReader(io.StringIO(response.getvalue().decode())))


def test_the_csv_has_all_that_match_by_chunks(
    client: Client, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_csv, "CHUNK", 2)
    for number in range(5):
        submit(alice, prompt=f"star {number}")
    submit(bob)
    assert [row["prompt"] for row in rows(client)] == [f"star {number}" for number in (4, 3, 2, 1, 0)]
    assert [row["prompt"] for row in rows(client, q="3", show="waiting")] == ["star 3"]


def test_a_line_holds_the_whole_job(client: Client, alice: User) -> None:
    fog = add(alice, name="Fog")
    job = finished(alice, prompt='two\nlines, "quoted"', seed=7, loras=[(fog, 0.5)])
    (row,) = rows(client)
    assert tuple(row) == tuple(history_csv.COLUMNS)
    assert (row["id"], row["prompt"], row["loras"]) == (str(job.pk), 'two\nlines, "quoted"', "Fog 0.5")
    assert (row["state"], row["seed"], row["drawing_seconds"]) == ("succeeded", "7", "1.700")
    assert row["loading_seconds"] == ""
    assert row["sent"].endswith("+00:00")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(client: Client, alice: User, start: str) -> None:
    submit(alice, prompt=f"{start}HYPERLINK(1)")
    response = client.get("/history/jobs.csv").getvalue().decode()
    (line,) = list(csv.reader(io.StringIO(response, newline="")))[1:]
    assert line[list(history_csv.COLUMNS).index("prompt")] == f"'{start}HYPERLINK(1)"


def test_the_docs_name_every_column() -> None:
    page = (settings.BASE_DIR / "docs" / "history.md").read_text()
    assert set(re.findall(r"`(\w+)`", page)) == set(history_csv.COLUMNS)
