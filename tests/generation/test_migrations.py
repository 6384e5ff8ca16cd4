"""What was there before a migration is right after it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation.models import Image

pytestmark = pytest.mark.django_db(transaction=True)


FIRST = [(app, "0001_initial") for app in ("generation", "loras", "accounts", "gpu")]


@pytest.fixture
def migrated_back() -> Iterator[Callable[..., Any]]:
    """Goes back to some migrations; gives the models as they were."""

    def to(*targets: tuple[str, str]) -> Any:
        for target in targets:
            call_command("migrate", *target, verbosity=0)
        return MigrationExecutor(connection).loader.project_state(list(targets)).apps.get_model

    yield to
    call_command("migrate", verbosity=0)


def test_what_the_first_schema_held_is_shown_by_todays_pages(
    migrated_back: Callable[..., Any], client: Client
) -> None:
    model = migrated_back(*FIRST)
    alice = model("accounts", "User").objects.create(username="alice")
    lora = model("loras", "Lora").objects.create(
        slug="fog", name="Fog", file="loras/ab/ab.safetensors", sha256="ab", size=1
    )
    job = model("generation", "Job").objects.create(
        owner=alice, prompt="A star", width=64, height=64, seed=7, engine="bf16", state="succeeded"
    )
    model("generation", "JobLora").objects.create(
        job=job, lora=lora, order=0, weight=1, name="Fog", slug="fog", sha256="ab"
    )
    image = model("generation", "Image").objects.create(
        job=job, owner=alice, index=0, seed=7, width=64, height=64, size=1, model="demo"
    )
    call_command("migrate", verbosity=0)
    client.force_login(User.objects.get())
    for address in ("/", "/gallery/", "/history/", f"/images/{image.pk}/", f"/jobs/{job.pk}/"):
        assert "A star" in client.get(address).content.decode(), address
    assert "Fog" in client.get(f"/images/{image.pk}/").content.decode()


def test_old_pictures_are_listed_and_found(migrated_back: Callable[..., Any]) -> None:
    model = migrated_back(("generation", "0005_trials"), ("accounts", "0005_usage_of_nobody"))
    alice = model("accounts", "User").objects.create(username="alice")
    job = model("generation", "Job").objects.create(
        owner=alice,
        prompt="A star, and more",
        width=64,
        height=64,
        seed=7,
        engine="bf16",
        lora_set="ab12,cd34",
    )
    lora = {"weight": 1, "name": "Low Sun", "slug": "low-sun", "sha256": "ab12"}
    model("generation", "JobLora").objects.create(job=job, order=0, **lora)
    now = timezone.now()
    for index, age in enumerate((2, 1, 0)):
        model("generation", "Image").objects.create(
            job=job, owner=alice, index=index, seed=7 + index, width=64, height=64, size=1,
            created_at=now - timedelta(days=age),
        )  # fmt: skip
    call_command("migrate", verbosity=0)
    owner = User.objects.get()
    newest_first = Image.objects.visible_to(owner).kept().newest_first()
    assert [image.index for image in newest_first] == [2, 1, 0]
    found = Image.objects.matching(owner, "stars sun 8", ["bf16", "lab12"])
    assert [image.index for image in found] == [1]


def test_old_pictures_are_found_without_accents(migrated_back: Callable[..., Any]) -> None:
    model = migrated_back(("generation", "0008_requests"), ("accounts", "0007_offboarding_and_sessions"))
    alice = model("accounts", "User").objects.create(username="alice")
    job = model("generation", "Job").objects.create(
        owner=alice, prompt="A café", width=64, height=64, seed=7, engine="bf16"
    )
    image = model("generation", "Image").objects.create(
        job=job, owner=alice, index=0, seed=7, width=64, height=64, size=1,
        words="A café 7", facts=f"u{alice.pk} bf16",
    )  # fmt: skip
    call_command("migrate", verbosity=0)
    owner = User.objects.get()
    for words in ("cafe", "café"):
        assert [one.pk for one in Image.objects.matching(owner, words)] == [image.pk]
