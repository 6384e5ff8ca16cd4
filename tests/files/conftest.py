"""Both places that files may be, without a database that says whose they are."""

from collections.abc import Iterator

import pytest

from files.signals import before_delete, before_save
from operations import studio
from tests.store import server, shared

__all__ = ["server", "shared"]


@pytest.fixture(autouse=True)
def of_nobody() -> Iterator[None]:
    """No receiver asks the database to whom a storage belongs."""
    before_save.disconnect(studio.claim_empty_storage)
    before_delete.disconnect(studio.keep_foreign_files)
    yield
    before_save.connect(studio.claim_empty_storage)
    before_delete.connect(studio.keep_foreign_files)
