"""The database as a file, taken while it is used, and put back."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection, transaction

_SQLITE, _POSTGRESQL = "database.sqlite3", "database.dump"


@contextmanager
def consistent(folder: Path) -> Iterator[Any]:
    """Write the database into ``folder``; gives a cursor that sees exactly what was written."""
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(folder / _SQLITE)) as copy:
            _copy_sqlite(connection.settings_dict["NAME"], copy)
            # Without a log beside it, it can be read where nobody may write.
            copy.execute("PRAGMA journal_mode=DELETE")
            yield copy.cursor()
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = f"--snapshot={cursor.fetchone()[0]}"
        _run("pg_dump", "--format=custom", snapshot, f"--file={folder / _POSTGRESQL}")
        yield cursor


def restore(folder: Path) -> None:
    """Put the database of ``folder`` in the place of what is there, as a whole, and migrate it."""
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as live:
            _copy_sqlite(folder / _SQLITE, live)
    else:
        connection.close()
        how = ("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error")
        _run("pg_restore", *how, f"--dbname={connection.settings_dict['NAME']}", str(folder / _POSTGRESQL))
    call_command("migrate", verbosity=0)


def _copy_sqlite(source: Any, target: sqlite3.Connection) -> None:
    """In one go: writers go on beside it, as the log is written ahead."""
    address = f"{Path(source).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as opened:
        opened.backup(target)


def _run(program: str, *options: str) -> None:
    """A program of PostgreSQL's on our database; the password is in its environment only."""
    database = connection.settings_dict
    names = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    names |= {"PGDATABASE": "NAME"}
    ours = {variable: str(database[name]) for variable, name in names.items() if database[name]}
    # sslmode=verify-full and its like hold for it too.
    options_of_tls = {name for name in database["OPTIONS"] if name.startswith("ssl")}
    ours |= {f"PG{name.upper()}": str(database["OPTIONS"][name]) for name in options_of_tls}
    done = subprocess.run(
        [_found(program), *options], env={**os.environ, **ours}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandError(f"{program} ended with: {done.stderr.strip() or done.returncode}")


def _found(program: str) -> str:
    """Debian keeps several versions, and the newest can read from all."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{program}")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    found = str(newest) if newest else shutil.which(program)
    if found is None:
        raise CommandError(f"There is no {program}. On Debian and Ubuntu: apt install postgresql-client.")
    return found
