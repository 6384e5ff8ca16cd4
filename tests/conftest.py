"""The actors: alice and bob share a group, charlie is a stranger. And which tests run beside which."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from files.signals import before_delete, before_save
from generation.models import Job
from operations import studio
from tests.postgresql import MISSING, Server, programs

# What takes long begins first, so that no process is left with it in the end.
LONG = ("tests/e2e/", "tests/gpu/engines/", "tests/gpu/", "tests/demo/")


ON_POSTGRESQL = os.environ.get("FLUXSITE_TEST_DATABASE", "sqlite") != "sqlite"
# Of no use there, and collecting them would load torch.
collect_ignore = ["demo", "e2e", "gpu/engines", "gpu/test_model_trial.py"] if ON_POSTGRESQL else []


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _start(item: pytest.Item) -> int:
    return next((place for place, folder in enumerate(LONG) if item.nodeid.startswith(folder)), len(LONG))


def _group(item: pytest.Item) -> str:
    """What one process of pytest-xdist runs in one go: a file, or what shares a studio of real processes."""
    if not item.nodeid.startswith("tests/e2e/"):
        return item.nodeid.partition("::")[0]
    shared = [name for name in ("studios", "studio") if name in _fixtures(item)]
    return shared[0] if shared else item.nodeid


def _touches_database(item: pytest.Item) -> bool:
    wanted = {"db", "transactional_db"}.intersection(_fixtures(item))
    return bool(wanted or item.get_closest_marker("django_db"))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Deal the tests out; on PostgreSQL only those are run to which the database matters."""
    if ON_POSTGRESQL:
        config.hook.pytest_deselected(items=[item for item in items if not _touches_database(item)])
        items[:] = [item for item in items if _touches_database(item)]
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    yield
    items.sort(key=_start)


def pytest_make_parametrize_id(val: object) -> str | None:
    """The same in every process of pytest-xdist, though a test makes up a UUID."""
    uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    return uuid.sub("UUID", val) if isinstance(val, str) and uuid.search(val) else None


@pytest.fixture(scope="session")
def postgresql() -> Server:
    """A PostgreSQL server. Where it is not installed the test is skipped; in CI it fails."""
    if programs() is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    return Server()


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    """A new empty database, for FLUXSITE_DATABASE_URL."""
    return postgresql.new_database()


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


def files_under(media: Path) -> set[Path]:
    """The files of rows, or without: neither the studio's id nor the quarantine."""
    every = {path for path in media.rglob("*") if path.is_file()}
    return {path for path in every - {media / studio.MARK} if media / "quarantine" not in path.parents}


@pytest.fixture(autouse=True)
def _files_of_nobody(request: pytest.FixtureRequest) -> Iterator[None]:
    """In a test without a database nobody asks it whose the files are."""
    if _touches_database(request.node):
        yield
        return
    before_save.disconnect(studio.claim_empty_storage)
    before_delete.disconnect(studio.keep_foreign_files)
    yield
    before_save.connect(studio.claim_empty_storage)
    before_delete.connect(studio.keep_foreign_files)


@pytest.fixture(autouse=True)
def _nothing_cached() -> None:
    """What the engines did in another test is forgotten."""
    cache.clear()


def let_administer(user: User, *permissions: str) -> None:
    """Make the user staff with these permissions, and no superuser."""
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))


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
