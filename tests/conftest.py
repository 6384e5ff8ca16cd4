"""The actors: alice and bob share a group, charlie is a stranger."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from generation.models import Job


def _person(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, f"{name}@studio.example", "correct horse battery")
    user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
    return user


@pytest.fixture
def alice(db: None) -> User:
    return _person("alice", "team")


@pytest.fixture
def bob(db: None) -> User:
    return _person("bob", "team")


@pytest.fixture
def charlie(db: None) -> User:
    return _person("charlie")


@pytest.fixture(autouse=True)
def media(tmp_path: Path, settings: Any) -> Path:
    """Every test has a media directory of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return Path(default_storage.path(""))


def asked(**changes: Any) -> dict[str, Any]:
    """What a job asks for; small, so that drawing it is quick."""
    return {
        "prompt": "a big yellow star on a blue background",
        "width": 64,
        "height": 64,
        "count": 1,
        "steps": 4,
        "engine": "bf16",
        **changes,
    }


def submit(owner: User, **changes: Any) -> Job:
    return Job.submit(owner, **asked(**changes))


def client_of(user: User) -> APIClient:
    """An API client that sends a token of ``user``."""
    _, token = ApiToken.objects.create(user, name="test")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client
