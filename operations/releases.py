"""Which release of fluxsite the database belongs to: an older program must not work on a newer database."""

from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from operations.models import Studio

OURS = {"accounts", "loras", "generation", "gpu", "operations"}


class NewerDatabase(Exception):
    """A newer release has migrated the database. The text is a sentence with the remedy."""

    def __init__(self, theirs: str, ours: str, unknown: str) -> None:
        super().__init__(
            f"The database was migrated by fluxsite {theirs}, and this is fluxsite {ours}, which does not "
            f"know {unknown}. Install that release or a newer one, or restore a backup that was made before."
        )


def refuse_newer(ours: str) -> None:
    """Raises NewerDatabase where the database has migrations that this program does not know."""
    loader = MigrationExecutor(connection).loader
    unknown = sorted(
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app in OURS and (app, name) not in loader.disk_migrations
    )
    if unknown:
        raise NewerDatabase(_release() or "of a newer release", ours, unknown[0])


def note(ours: str) -> None:
    """Remember that this release has migrated the database."""
    Studio.current_id()
    Studio.objects.update(release=ours)


def _release() -> str:
    """What the newer program noted; empty where its table is another one."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT release FROM operations_studio")
            row = cursor.fetchone()
    except DatabaseError:
        return ""
    return str(row[0]) if row else ""
