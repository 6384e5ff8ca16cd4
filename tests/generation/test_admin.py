"""What those who run the studio may do to jobs: only by actions, and only with the permission."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.models import Job
from loras import library
from loras.models import Lora
from tests.conftest import submit

JOBS = "admin:generation_job_changelist"


@pytest.fixture
def operator(bob: User, client: Client) -> Client:
    """bob, who may see jobs and operate on them."""
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename__in=["view_job", "change_job"]))
    client.force_login(bob)
    return client


def act(client: Client, action: str, *jobs: Job) -> str:
    posted = {"action": action, "_selected_action": [str(job.pk) for job in jobs]}
    return client.post(reverse(JOBS), posted, follow=True).content.decode()


def test_waiting_jobs_are_cancelled_and_those_over_are_counted(alice: User, operator: Client) -> None:
    waiting, over = submit(alice), submit(alice)
    Job.objects.filter(pk=over.pk).update(state=Job.State.SUCCEEDED)
    assert "1 of 2 stopped; the others were over." in act(operator, "cancel", waiting, over)
    assert sorted(Job.objects.values_list("state", flat=True)) == ["cancelled", "succeeded"]


def test_priority_goes_up_and_down_while_a_job_is_not_over(alice: User, operator: Client) -> None:
    waiting, over = submit(alice), submit(alice)
    Job.objects.filter(pk=over.pk).update(state=Job.State.FAILED)
    act(operator, "raise_priority", waiting, over)
    act(operator, "raise_priority", waiting, over)
    act(operator, "lower_priority", waiting, over)
    assert [Job.objects.get(pk=job.pk).priority for job in (waiting, over)] == [1, 0]


def test_a_job_is_asked_again_for_its_owner(alice: User, operator: Client) -> None:
    failed = submit(alice, seed=7)
    act(operator, "ask_again", failed)
    again = Job.objects.get(parent=failed)
    assert (again.owner, again.seed, again.state) == (alice, 7, "queued")


def test_a_job_whose_lora_is_gone_is_named(alice: User, operator: Client) -> None:
    loras = library.add_demo_loras()
    failed = submit(alice, loras=[(loras[0], 1.0)])
    Lora.objects.all().delete()
    assert f"{failed.pk}: {loras[0].name} is no longer in the library." in act(operator, "ask_again", failed)
    assert Job.objects.count() == 1


def test_who_may_only_look_changes_nothing(alice: User, operator: Client, bob: User) -> None:
    bob.user_permissions.set(Permission.objects.filter(codename="view_job"))
    waiting = submit(alice)
    act(operator, "cancel", waiting)
    waiting.refresh_from_db()
    assert waiting.state == "queued"


def test_nothing_of_a_job_is_edited_by_hand(alice: User, operator: Client) -> None:
    address = reverse("admin:generation_job_change", args=[submit(alice, prompt="a star").pk])
    assert operator.post(address, {"prompt": "another"}).status_code == 403
    assert Job.objects.get().prompt == "a star"
