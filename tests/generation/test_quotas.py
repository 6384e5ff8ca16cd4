"""What people may use, and that nobody gets past it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.utils import timezone

from accounts.models import Quota, UsageEntry, User
from generation import quotas
from generation.models import Image, Job
from generation.quotas import Balance, TooMuch
from gpu.models import Pool
from tests.conftest import client_of, submit
from tests.generation.drawn import draw


def drew(user: User, images: int = 0, seconds: float = 0.0, days_ago: int = 0) -> None:
    entry = UsageEntry.objects.create(
        user=user,
        job=uuid4(),
        attempt=1,
        engine="bf16",
        gpu_seconds=seconds,
        images=images,
        outcome="succeeded",
    )
    UsageEntry.objects.filter(pk=entry.pk).update(created_at=timezone.now() - timedelta(days=days_ago))


def refusal(owner: User, **asked: Any) -> TooMuch:
    before = Job.objects.count()
    with pytest.raises(TooMuch) as caught:
        submit(owner, **asked)
    assert Job.objects.count() == before
    return caught.value


def balance(user: User, name: str, group: str = "") -> Balance:
    (found,) = [each for each in quotas.balances(user) if (each.name, each.group) == (name, group)]
    return found


def test_without_quotas_there_is_no_limit(alice: User) -> None:
    for _ in range(12):
        submit(alice)
    assert [each.limit for each in quotas.balances(alice)] == [None] * 4


def test_pictures_a_day_count_what_was_drawn_and_what_is_in_flight(alice: User) -> None:
    Quota.objects.create(user=alice, images_a_day=10)
    drew(alice, images=5)
    drew(alice, images=100, days_ago=1)
    submit(alice, count=3)
    found = balance(alice, "images_a_day")
    assert (found.used, found.reserved, found.limit) == (5, 3, 10)
    error = refusal(alice, count=3)
    assert str(error.detail).startswith(
        "2 of today's 10 pictures are left; this job asks for 3. More at 00:00, in "
    )
    assert error.numbers == {"limit": 10, "used": 8, "asked": 3}
    assert error.wait == pytest.approx((quotas.today()[1] - timezone.now()).total_seconds(), abs=2)
    submit(alice, count=2)
    assert str(refusal(alice).detail).startswith("Today's 10 pictures are used. More at 00:00")


def test_a_cancelled_job_is_not_counted(alice: User) -> None:
    Quota.objects.create(user=alice, images_a_day=4)
    submit(alice, count=4).cancel()
    assert submit(alice, count=4)


def test_gpu_seconds_a_day_count_what_jobs_in_flight_will_need(alice: User) -> None:
    Quota.objects.create(user=alice, gpu_seconds_a_day=60)
    drew(alice, seconds=50)
    job = submit(alice)
    Job.objects.filter(pk=job.pk).update(expected_seconds=12.0)
    error = refusal(alice)
    assert "1 min 2 s of today's 1 min of GPU time are taken" in str(error.detail)


def test_jobs_in_flight_have_a_limit(alice: User) -> None:
    Quota.objects.create(user=alice, pending_jobs=2)
    first, _ = submit(alice), submit(alice)
    error = refusal(alice)
    assert str(error.detail) == "You have 2 jobs in flight, of 2 allowed. Wait for one, or cancel one."
    assert error.wait == quotas.TRY_AGAIN_SECONDS
    first.cancel()
    assert submit(alice)


def test_storage_has_a_limit_that_no_waiting_mends(alice: User) -> None:
    Quota.objects.create(user=alice, storage_mb=1)
    draw(submit(alice))
    Image.objects.update(size=1_000_001)
    error = refusal(alice)
    assert (
        str(error.detail)
        == "The 1 MB for your pictures and LoRAs are full: 1 MB are kept. Delete some first."
    )
    assert error.wait is None


def test_the_members_of_a_group_share_its_quota(alice: User, bob: User, charlie: User) -> None:
    Quota.objects.create(group=Group.objects.get(name="team"), images_a_day=4)
    drew(alice, images=4)
    error = refusal(bob)
    assert str(error.detail).startswith("Today's, shared by team, 4 pictures are used.")
    assert submit(charlie)
    assert balance(bob, "images_a_day", "team").used == 4


def test_everyones_quota_holds_for_each_who_has_none(alice: User, bob: User) -> None:
    Quota.objects.create(pending_jobs=1)
    Quota.objects.create(user=bob, pending_jobs=2)
    submit(alice)
    refusal(alice)
    submit(bob)
    submit(bob)
    refusal(bob)


def test_a_quota_is_of_a_user_or_a_group_and_there_is_one_for_everyone(alice: User) -> None:
    both = Quota(user=alice, group=Group.objects.get(name="team"))
    with pytest.raises(ValidationError, match="not both"):
        both.full_clean()
    Quota.objects.create()
    with pytest.raises(ValidationError, match="for everyone already"):
        Quota().full_clean()


def test_a_full_queue_takes_no_more_but_the_other_engine_does(alice: User) -> None:
    Pool.objects.create(engine="bf16", queue_limit=2)
    submit(alice)
    submit(alice)
    error = refusal(alice)
    assert str(error.detail) == "The queue of BF16 is full: 2 jobs wait, 2 may. Try again soon."
    assert error.wait == quotas.TRY_AGAIN_SECONDS
    assert submit(alice, engine="fp4")


def test_the_api_answers_429_with_the_numbers_and_when_to_come_back(alice: User) -> None:
    Quota.objects.create(user=alice, pending_jobs=0)
    answer = client_of(alice).post("/api/v1/jobs/", {"prompt": "a red circle"}, format="json")
    assert (answer.status_code, answer["Retry-After"]) == (429, "10")
    assert answer.json() == {
        "type": "client_error",
        "errors": [
            {
                "code": "quota_pending_jobs",
                "detail": "You have 0 jobs in flight, of 0 allowed. Wait for one, or cancel one.",
                "attr": None,
            }
        ],
        "limit": 0, "used": 0, "asked": 1,
    }  # fmt: skip


def test_the_api_tells_the_balance(alice: User) -> None:
    Quota.objects.create(user=alice, images_a_day=50)
    drew(alice, images=7)
    answer = client_of(alice).get("/api/v1/me/").json()
    assert answer["username"] == "alice"
    assert [each["name"] for each in answer["usage"]] == list(Quota.LIMITS)
    images = answer["usage"][0]
    assert (images["used"], images["limit"], images["group"]) == (7, 50, "")
    assert images["resets_at"] is not None


def test_the_page_without_javascript_says_it_and_keeps_the_prompt(alice: User, client: Any) -> None:
    Quota.objects.create(user=alice, pending_jobs=0)
    client.force_login(alice)
    answer = client.post("/", {"prompt": "a red circle at sea"})
    assert (answer.status_code, answer["Retry-After"]) == (429, "10")
    assert "You have 0 jobs in flight" in answer.content.decode()
    assert "a red circle at sea" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("quota", "limit"), [({"pending_jobs": 3}, 1000), ({"images_a_day": 3}, 1000), ({}, 3)]
)
def test_of_ten_submits_at_once_no_more_get_in_than_there_is_room(quota: dict[str, int], limit: int) -> None:
    owner = User.objects.create_user("alice")
    Quota.objects.create(user=owner, **quota)
    Pool.objects.create(engine="bf16", queue_limit=limit)

    def one(_: int) -> bool:
        try:
            submit(owner)
        except TooMuch:
            return False
        else:
            return True
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as threads:
        taken = list(threads.map(one, range(10)))
    assert sum(taken) == Job.objects.count() == 3
    assert connection.is_usable()
