"""Which job is drawn next, and whether there is one: each is one question to the database.

Asked through Django the first is seven small ones, and the most that it costs is the time in which Django
builds them: 2.1 ms for 10 jobs, 4.2 ms for 10,000 of 200 users. This takes 0.2 and 0.7 ms (SQLite, rows as
in ``bench.queue``).
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.conf import settings

# Fair share: who used fewer GPU-seconds in the last hour goes first. Users whose use is in the same step
# are equal, and age decides between them: strict order would switch LoRAs after each picture.
RECENT_SECONDS = 3600
STEP_SECONDS = 10
# A job whose LoRAs are not loaded may be passed by jobs that need no loading, for this long.
PASSED_SECONDS = 30

# In braces: what each database says in its own words.
_ABANDONED = """
    engine = %(engine)s AND state = 'running' AND (lease_until <= {now} OR lease_until > {too_far})
"""
# Nothing is taken while operators want nothing drawn.
_TAKES_JOBS = """
    NOT EXISTS (SELECT 1 FROM gpu_pool WHERE engine = %(engine)s AND mode <> 'run')
    AND NOT EXISTS (
        SELECT 1 FROM gpu_worker
        WHERE host = %(host)s AND device = %(device)s AND engine = %(engine)s AND mode <> 'run'
    )
"""
_WORK_FOR = """
SELECT 1 WHERE (
    EXISTS (SELECT 1 FROM generation_job WHERE engine = %(engine)s AND state = 'queued')
    OR EXISTS (SELECT 1 FROM generation_job WHERE {abandoned})
) AND {takes_jobs}
"""
_NEXT_JOB = """
WITH highest AS (
    SELECT MAX(priority) AS priority FROM generation_job WHERE engine = %(engine)s AND state = 'queued'
),
-- Who has jobs of that priority, and waits since when.
waiting AS (
    SELECT owner_id, MIN(created_at) AS since FROM generation_job
    WHERE engine = %(engine)s AND state = 'queued' AND priority = (SELECT priority FROM highest)
    GROUP BY owner_id
),
-- What they used of late, running jobs included. Grouped twice: an index holds the order of the first.
spent AS (
    SELECT user_id AS owner_id, SUM(gpu_seconds) AS seconds FROM accounts_usageentry
    WHERE created_at > {recently} AND user_id IN (SELECT owner_id FROM waiting)
    GROUP BY user_id
    UNION ALL
    SELECT owner_id, {running_for} FROM generation_job WHERE state = 'running' AND started_at < {now}
),
used AS (
    SELECT owner_id, SUM(seconds) AS seconds FROM spent GROUP BY owner_id
),
steps AS (
    SELECT waiting.owner_id, since, FLOOR(COALESCE(seconds, 0) / %(step)s) AS step
    FROM waiting LEFT JOIN used ON used.owner_id = waiting.owner_id
),
least AS (
    SELECT owner_id, since FROM steps WHERE step = (SELECT MIN(step) FROM steps)
),
longest AS (
    SELECT owner_id, since FROM least ORDER BY since LIMIT 1
),
oldest AS (
    SELECT id, lora_set, created_at FROM generation_job AS job, longest
    WHERE engine = %(engine)s AND state = 'queued' AND priority = (SELECT priority FROM highest)
    AND {same_owner} AND created_at = since
    ORDER BY id LIMIT 1
)
SELECT generation_job.*,
    -- A trial of the studio itself has no owner.
    COALESCE((SELECT is_active FROM accounts_user WHERE id = owner_id), TRUE) AS owner_is_active
FROM generation_job
WHERE id = COALESCE(
    -- What was begun and abandoned: see ``JobQuerySet.abandoned``.
    (SELECT id FROM generation_job WHERE {abandoned} ORDER BY created_at LIMIT 1),
    (SELECT id FROM oldest WHERE lora_set IN ({warm}) OR created_at < {passed}),
    -- What needs no loading passes it.
    (
        SELECT id FROM generation_job
        WHERE engine = %(engine)s AND state = 'queued' AND priority = (SELECT priority FROM highest)
        AND lora_set IN ({warm}) AND owner_id IN (SELECT owner_id FROM least)
        ORDER BY created_at, id LIMIT 1
    ),
    (SELECT id FROM oldest)
)
AND {takes_jobs}
"""


def work_for(vendor: str, host: str, device: str, engine: str) -> tuple[str, dict[str, Any]]:
    """Whether a worker of this slot would find a job, as SQL and its parameters: a row says yes."""
    return _sql(_WORK_FOR, vendor, settings.FLUXSITE_LEASE_SECONDS), _slot(host, device, engine)


def next_job(
    vendor: str, host: str, device: str, engine: str, warm: Collection[str]
) -> tuple[str, dict[str, Any]]:
    """The job that a worker of this slot is to draw next, as SQL and its parameters: its row, or none.

    ``warm``: the sets of LoRAs that are loaded; none at all always is.
    """
    sets = {f"warm{number}": name for number, name in enumerate(["", *warm])}
    sql = _sql(_NEXT_JOB, vendor, settings.FLUXSITE_LEASE_SECONDS, tuple(sets))
    return sql, {**_slot(host, device, engine), "step": STEP_SECONDS, **sets}


def _slot(host: str, device: str, engine: str) -> dict[str, Any]:
    return {"host": host, "device": device, "engine": engine}


@lru_cache
def _sql(question: str, vendor: str, lease: int, warm: tuple[str, ...] = ()) -> str:
    later, words = _WORDS[vendor]
    words = {
        **words,
        "now": later(0),
        "too_far": later(2 * lease),
        "recently": later(-RECENT_SECONDS),
        "passed": later(-PASSED_SECONDS),
        "warm": ", ".join(f"%({name})s" for name in warm),
    }
    return question.format(abandoned=_ABANDONED.format(**words), takes_jobs=_TAKES_JOBS, **words)


def _later_on_postgresql(seconds: int) -> str:
    return f"STATEMENT_TIMESTAMP() + INTERVAL '{seconds} seconds'"


def _later_on_sqlite(seconds: int) -> str:
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', '{seconds} seconds')"


# A job that the studio asks for itself has no owner. Each database finds this one through its index.
_WORDS = {
    "postgresql": (
        _later_on_postgresql,
        {
            "running_for": "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - started_at)",
            "same_owner": "(job.owner_id = longest.owner_id"
            " OR (job.owner_id IS NULL AND longest.owner_id IS NULL))",
        },
    ),
    "sqlite": (
        _later_on_sqlite,
        {
            "running_for": "(JULIANDAY('NOW') - JULIANDAY(started_at)) * 86400",
            "same_owner": "job.owner_id IS longest.owner_id",
        },
    ),
}
