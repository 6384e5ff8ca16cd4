"""What was there before a migration is right after it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.models import User
from generation.models import Image

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def before_the_gallery() -> Iterator[Any]:
    """The models as they were."""
    target = [("generation", "0005_trials")]
    call_command("migrate", *target[0], verbosity=0)
    yield MigrationExecutor(connection).loader.project_state(target).apps
    call_command("migrate", verbosity=0)


def test_old_pictures_are_listed_and_found(before_the_gallery: Any) -> None:
    model = before_the_gallery.get_model
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
