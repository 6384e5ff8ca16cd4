from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class OperationsConfig(AppConfig):
    name = "operations"

    def ready(self) -> None:
        from files.signals import before_delete, before_save
        from generation import housekeeping
        from operations import (
            checks,  # noqa: F401 (registers the system check)
            chores,
            studio,
        )

        housekeeping.allow(chores.__name__, chores.CHORES)

        before_save.connect(studio.claim_empty_storage)
        before_delete.connect(studio.keep_foreign_files)
        post_migrate.connect(_schedule, sender=self)


def _schedule(**kwargs: Any) -> None:
    from generation import housekeeping
    from operations import chores

    housekeeping.schedule(chores.__name__, chores.CHORES)
