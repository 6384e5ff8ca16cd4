"""Finding pictures by words and facts, through the database's own full text index.

A picture has ``words``, what people search for, and ``facts``: tokens that no prompt can forge, because they
are indexed apart. On SQLite the index is FTS5, whose key is the picture's ``moment``: it hands out the newest
hits first, without looking at the others. On PostgreSQL it is a ``tsvector`` column with a GIN index. Both
compare English stems and leave no word out. Latin letters are compared without their accents: FTS5 takes
them off by itself, PostgreSQL does not, so they are off in what it gets.
"""
# ruff: noqa: S608, S610, S611 (the SQL here is put together of our own words)

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db import connection
from django.db.models import BigIntegerField, BooleanField, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Substr

if TYPE_CHECKING:
    from generation.models import ImageQuerySet, Job

Images = TypeVar("Images", bound="ImageQuerySet")

# Of a question; more are left out.
MOST_WORDS = 16
_WORD = re.compile(r"[^\W_]+")
_ACCENTED = re.compile("([A-Za-z])[\u0300-\u036f]+")
_TABLE, _TEXT = "generation_image", "generation_image_text"


# What a picture is found by ---------------------------------------------------------------------------


def words_of(job: "Job", seed: int) -> str:
    """Prompt, seed and names of LoRAs, as words with spaces between."""
    names = [chosen.name for chosen in job.job_loras.all()] if job.lora_set else []
    return " ".join(_words_in(" ".join([job.prompt, str(seed), *names])))


def _words_in(text: str) -> list[str]:
    """In order, without accents."""
    plain = _ACCENTED.sub(r"\1", unicodedata.normalize("NFD", text))
    return _WORD.findall(unicodedata.normalize("NFC", plain))


def facts_of(job: "Job") -> str:
    """Whose, which engine, which LoRAs."""
    loras = [f"l{sha}" for sha in job.lora_set.split(",") if sha]
    return " ".join([_owner_fact(job.owner_id), job.engine, *loras])


def lora_fact(sha256: str) -> str:
    return f"l{sha256[:16]}"


def _owner_fact(owner: int | None) -> str:
    return f"u{owner or 0}"


def facts_for(before: int, after: int) -> Any:
    """The facts of a picture of ``before`` when it is ``after``'s: whose it is stands first."""
    rest = Substr("facts", len(_owner_fact(before)) + 1)
    return Concat(Value(_owner_fact(after)), rest, output_field=TextField())


# Finding ----------------------------------------------------------------------------------------------


def matching(images: Images, owner: int, words: str, facts: Iterable[str], *, within: bool = False) -> Images:
    """Those of ``owner`` with all the words and all the facts; ``place`` is theirs in the index's order.

    ``within``: an index has these images in order, and they keep their places. They may be few of many hits.
    """
    asked = {"words": _words_in(words)[:MOST_WORDS], "facts": list(facts)}
    if connection.vendor == "postgresql":
        return _matching_on_postgresql(images, asked)
    asked["facts"].append(_owner_fact(owner))
    return _within_on_sqlite(images, asked) if within else _matching_on_sqlite(images, asked)


def _matching_on_postgresql(images: Images, asked: dict[str, list[str]]) -> Images:
    for (configuration, weight), tokens in zip(
        (("fluxsite", "A"), ("simple", "B")), asked.values(), strict=True
    ):
        if tokens:
            question = " & ".join(f"'{token}':{weight}" for token in tokens)
            found = f"{_TABLE}.text @@ to_tsquery('{configuration}', %s)"
            images = images.filter(RawSQL(found, [question], BooleanField()))
    return images


def _matching_on_sqlite(images: Images, asked: dict[str, list[str]]) -> Images:
    # "+": else SQLite looks the picture up by the range of its page, not by its key (3 s at a million).
    joined = images.extra(
        tables=[_TEXT],
        where=[f"{_TEXT} MATCH %s", f"{_TABLE}.moment = +{_TEXT}.rowid"],
        params=[_question(asked)],
    )
    found: Images = joined.annotate(place=RawSQL(f"{_TEXT}.rowid", [], BigIntegerField()))
    return found


def _within_on_sqlite(images: Images, asked: dict[str, list[str]]) -> Images:
    """All hits are read once, and then the images one by one: 0.25 s of a processor for half a million hits.
    The other way each hit would be looked up among the images, a minute if none of them is there.
    """
    hits = f"{_TABLE}.moment IN (SELECT rowid FROM {_TEXT} WHERE {_TEXT} MATCH %s)"
    return cast("Images", images.extra(where=[hits], params=[_question(asked)]))


def _question(asked: dict[str, list[str]]) -> str:
    """For FTS5."""
    return " AND ".join(f'{column} : "{token}"' for column, tokens in asked.items() for token in tokens)


# The index --------------------------------------------------------------------------------------------

_ADD = f"INSERT INTO {_TEXT} (rowid, words, facts) VALUES (new.moment, new.words, new.facts)"
_TAKE_OUT = f"""INSERT INTO {_TEXT} ({_TEXT}, rowid, words, facts)
    VALUES ('delete', old.moment, old.words, old.facts)"""
_ON_SQLITE = {
    _TEXT: f"""CREATE VIRTUAL TABLE {_TEXT} USING fts5(
        words, facts, content='{_TABLE}', content_rowid='moment',
        tokenize='porter unicode61 remove_diacritics 2')""",
    f"{_TEXT}_added": f"AFTER INSERT ON {_TABLE} BEGIN {_ADD}; END",
    f"{_TEXT}_changed": f"AFTER UPDATE OF moment, words, facts ON {_TABLE} BEGIN {_TAKE_OUT}; {_ADD}; END",
    f"{_TEXT}_deleted": f"AFTER DELETE ON {_TABLE} BEGIN {_TAKE_OUT}; END",
}
_CONFIGURE_POSTGRESQL = (
    "CREATE TEXT SEARCH DICTIONARY fluxsite_stem (TEMPLATE = snowball, Language = english)",
    "CREATE TEXT SEARCH CONFIGURATION fluxsite (COPY = english)",
    "ALTER TEXT SEARCH CONFIGURATION fluxsite ALTER MAPPING REPLACE english_stem WITH fluxsite_stem",
)
_INDEX_ON_POSTGRESQL = (
    f"""ALTER TABLE {_TABLE} ADD COLUMN text tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('fluxsite', words), 'A') ||
        setweight(to_tsvector('simple', facts), 'B')) STORED""",
    f"CREATE INDEX {_TEXT} ON {_TABLE} USING gin (text)",
)


def install(**_: Any) -> None:
    """Make the index where it is missing: after each migration."""
    with connection.cursor() as cursor:
        columns = _columns(cursor)
        if "facts" not in columns:  # migrated back to before there was a search
            return
        if connection.vendor == "postgresql":
            _install_on_postgresql(cursor, columns)
        else:
            _install_on_sqlite(cursor)


def uninstall(plan: Iterable[tuple[Any, bool]] = (), **_: Any) -> None:
    """Take the index out of the way of migrations.

    On SQLite one that changes the table would stop at the triggers, or drop them unsaid; on PostgreSQL only
    one that goes back meets the column. ``plan``: as Django's ``pre_migrate`` sends it.
    """
    ours = [backwards for migration, backwards in plan if migration.app_label == "generation"]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite" and ours:
            for name in _ON_SQLITE:
                cursor.execute(f"DROP {'TABLE' if name == _TEXT else 'TRIGGER'} IF EXISTS {name}")
        elif connection.vendor == "postgresql" and any(ours):
            cursor.execute(f"ALTER TABLE {_TABLE} DROP COLUMN IF EXISTS text")


def _columns(cursor: Any) -> set[str]:
    return {each.name for each in connection.introspection.get_table_description(cursor, _TABLE)}


def _install_on_postgresql(cursor: Any, columns: set[str]) -> None:
    cursor.execute("SELECT FROM pg_ts_config WHERE cfgname = 'fluxsite'")
    configure = _CONFIGURE_POSTGRESQL if cursor.fetchone() is None else ()
    index = _INDEX_ON_POSTGRESQL if "text" not in columns else ()
    for statement in (*configure, *index):
        cursor.execute(statement)


def _install_on_sqlite(cursor: Any) -> None:
    cursor.execute("SELECT name FROM sqlite_master WHERE name LIKE %s", [f"{_TEXT}%"])
    there = {name for (name,) in cursor.fetchall()}
    missing = {name: statement for name, statement in _ON_SQLITE.items() if name not in there}
    for name, statement in missing.items():
        cursor.execute(statement if name == _TEXT else f"CREATE TRIGGER {name} {statement}")
    if missing:
        cursor.execute(f"INSERT INTO {_TEXT} ({_TEXT}) VALUES ('rebuild')")
