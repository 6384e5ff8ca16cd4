"""The database as a file, taken while it is used, and put back."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
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
        _restore_postgresql(folder / _POSTGRESQL)
    call_command("migrate", verbosity=0)


def _restore_postgresql(dump: Path) -> None:
    """In one transaction: what is there stays if it fails. Tables that the dump does not know go, too."""
    with TemporaryDirectory(dir=settings.VAR_DIR) as folder:
        script = f"{folder}/restore.sql"
        _run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--file={script}", str(dump))
        tables = ", ".join(map(connection.ops.quote_name, connection.introspection.table_names()))
        drop = [f"--command=DROP TABLE {tables} CASCADE"] if tables else []
        connection.close()
        how = ("--single-transaction", "--set=ON_ERROR_STOP=1", "--no-psqlrc", "--quiet")
        _run("psql", *how, *drop, f"--file={script}")


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
        [_found(program, connection.pg_version // 10_000), *options],  # type: ignore[attr-defined]
        env={**os.environ, **ours},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{program} ended with: {done.stderr.strip() or done.returncode}")


def _found(program: str, server: int) -> str:
    """Debian keeps several versions: the server's own, or the next newer one, which it understands best."""
    there = {int(path.parts[-3]): path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{program}")}
    fitting = [version for version in there if version >= server] or list(there)
    found = str(there[min(fitting)]) if fitting else shutil.which(program)
    if found is None:
        raise CommandError(f"There is no {program}. On Debian and Ubuntu: apt install postgresql-client.")
    return found
