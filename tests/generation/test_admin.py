"""What those who run the studio may do to jobs: only by actions, and only with the permission."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Quota, UsageEntry, User
from generation.models import Job, ShareLink
from gpu.models import Pool, Worker
from loras import library
from loras.models import Lora
from tests.conftest import submit
from tests.generation.drawn import finished

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


def test_jobs_are_found_by_state_engine_user_and_date(alice: User, bob: User, operator: Client) -> None:
    job, other = submit(alice), submit(bob, engine="fp4")
    Job.objects.filter(pk=other.pk).update(state="failed", created_at=Now() - timedelta(days=2))
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    filters: dict[str, Any] = {
        "state__exact": "queued", "engine": "bf16", "owner__id__exact": alice.pk, "created_at__gte": today,
    }  # fmt: skip
    for name, value in filters.items():
        page = operator.get(reverse(JOBS), {name: value})
        assert list(page.context["cl"].result_list) == [job], name


def test_a_job_is_asked_again_for_its_owner(alice: User, operator: Client) -> None:
    failed = submit(alice, seed=7)
    act(operator, "ask_again", failed)
    again = Job.objects.get(parent=failed)
    assert (again.owner, again.seed, again.state) == (alice, 7, "queued")


def test_a_job_that_the_model_draws_no_more_is_named(alice: User, operator: Client) -> None:
    failed = submit(alice, width=1024)
    assert f"{failed.pk}: 1024 does not fit fluxsite demo." in act(operator, "ask_again", failed)
    assert Job.objects.count() == 1


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


# Workers and engines --------------------------------------------------------------------------------


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.start("atelier-01", "GPU-1", "bf16", 101, device_name="A GPU", memory_total=24_000_000_000)


@pytest.fixture
def mechanic(bob: User, client: Client) -> Client:
    """bob, who may see workers and engines and operate on them."""
    bob.is_staff = True
    bob.save()
    may = ["view_worker", "change_worker", "view_pool", "change_pool"]
    bob.user_permissions.set(Permission.objects.filter(codename__in=may))
    client.force_login(bob)
    return client


def test_the_list_of_workers_shows_what_each_does(alice: User, worker: Worker, mechanic: Client) -> None:
    submit(alice)
    job = Job.objects.claim("bf16", worker)
    assert job
    worker.now(memory_model=8_000_000_000, note="A note.")
    page = mechanic.get(reverse("admin:gpu_worker_changelist")).content.decode()
    for words in ("A GPU", "drawing", "alice, step 0 of 4", "7.5 GB of 22.4 GB", "A note.", "admin-live"):
        assert words in page, words
    assert job.prompt not in page


def cells(client: Client, worker: Worker) -> list[str]:
    """Memory and GPU in the list, and then in the form of ``worker``."""
    listed = client.get(reverse("admin:gpu_worker_changelist")).content.decode()
    form = client.get(reverse("admin:gpu_worker_change", args=[worker.pk])).content.decode()
    names = ("memory", "gpu")
    found = [re.search(f'<td class="field-{name}">(.*?)</td>', listed) for name in names]
    found += [
        re.search(f'form-row field-{name}">.*?"readonly">(.*?)</div>', form, re.DOTALL) for name in names
    ]
    return [match[1].replace("\xa0", " ") if match else "" for match in found]


def test_the_list_and_the_form_show_how_the_device_is(worker: Worker, mechanic: Client) -> None:
    worker.now(memory_model=8_000_000_000)
    assert cells(mechanic, worker) == ["7.5 GB of 22.4 GB", "–"] * 2
    worker.now(utilisation=0.0, celsius=0)
    assert cells(mechanic, worker) == ["7.5 GB of 22.4 GB", "0 % busy, 0 °C"] * 2
    worker.now(utilisation=0.734, celsius=61)
    assert cells(mechanic, worker) == ["7.5 GB of 22.4 GB", "73 % busy, 61 °C"] * 2


@pytest.mark.parametrize("gone", [{"state": "stopped"}, {"heartbeat": Now() - timedelta(minutes=5)}])
def test_the_device_of_a_worker_that_is_gone_is_unknown(
    worker: Worker, mechanic: Client, gone: dict[str, Any]
) -> None:
    worker.now(utilisation=0.73, celsius=61)
    Worker.objects.update(**gone)
    assert cells(mechanic, worker) == ["–"] * 4


def test_nothing_of_a_worker_is_edited_by_hand(worker: Worker, mechanic: Client) -> None:
    address = reverse("admin:gpu_worker_change", args=[worker.pk])
    assert mechanic.post(address, {"celsius": "1", "host": "another"}).status_code == 403
    assert 'name="celsius"' not in mechanic.get(address).content.decode()


@pytest.mark.parametrize(
    ("action", "mode", "note"),
    [("pause", "pause", "Paused by bob"), ("drain", "drain", "Drained by bob"), ("resume", "run", "")],
)
def test_a_worker_or_a_whole_engine_is_told_what_to_do(
    worker: Worker, mechanic: Client, action: str, mode: str, note: str
) -> None:
    for target in (worker, Pool.of("bf16")):
        address = reverse(f"admin:gpu_{target._meta.model_name}_changelist")
        mechanic.post(address, {"action": action, "_selected_action": [str(target.pk)]})
        target.refresh_from_db()
        assert (target.mode, target.note) == (mode, note)


def test_who_may_only_look_pauses_nothing(worker: Worker, mechanic: Client, bob: User) -> None:
    bob.user_permissions.set(Permission.objects.filter(codename="view_worker"))
    address = reverse("admin:gpu_worker_changelist")
    mechanic.post(address, {"action": "pause", "_selected_action": [str(worker.pk)]})
    worker.refresh_from_db()
    assert worker.mode == "run"


def test_the_limit_of_a_queue_is_set_in_the_admin(mechanic: Client) -> None:
    Pool.of("bf16")
    address = reverse("admin:gpu_pool_change", args=["bf16"])
    mechanic.post(address, {"queue_limit": "7"})
    assert Pool.of("bf16").queue_limit == 7
    mechanic.post(address, {"queue_limit": "0"})
    assert Pool.of("bf16").queue_limit == 7


def test_quotas_are_kept_in_the_admin_and_the_ledger_is_read_only(bob: User, admin_client: Client) -> None:
    posted = {"user": str(bob.pk), "group": "", "images_a_day": "50"}
    admin_client.post(reverse("admin:accounts_quota_add"), posted)
    assert Quota.objects.get().images_a_day == 50
    UsageEntry.objects.create(
        user=bob, job=uuid4(), attempt=1, engine="bf16", gpu_seconds=1.5, images=1,
        outcome="succeeded",
    )  # fmt: skip
    assert "succeeded" in admin_client.get(reverse("admin:accounts_usageentry_changelist")).content.decode()
    assert admin_client.get(reverse("admin:accounts_usageentry_add")).status_code == 403


# Links for people without an account ---------------------------------------------------------------------


def test_an_administrator_revokes_a_link(
    alice: User, bob: User, admin_client: Client, operator: Client, client: Client
) -> None:
    link = ShareLink.to(alice, [finished(alice).images.get()])
    address, chosen = reverse("admin:generation_sharelink_changelist"), {"_selected_action": [str(link.pk)]}
    assert operator.post(address, {"action": "revoke", **chosen}).status_code == 403
    assert Client().get(link.get_absolute_url()).status_code == 200
    page = admin_client.post(address, {"action": "revoke", **chosen}, follow=True).content.decode()
    assert "1 of 1 revoked" in page
    assert Client().get(link.get_absolute_url()).status_code == 404
