"""The job table as a queue: claim, lease, fence.

A *claim* gives a job to one worker for the length of a *lease*, which the worker renews. If the worker
falls silent the lease runs out and another may claim the job. The number of the attempt is the *fence*:
every later write names it, so a worker that comes back from the dead changes nothing.
All times are the database's, never a host's.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from accounts.models import User
    from generation.models import Job
    from gpu.models import Worker


def _lease() -> models.expressions.Combinable:
    return Now() + timedelta(seconds=settings.FLUXSITE_LEASE_SECONDS)


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: "User") -> "JobQuerySet":
        """A job is its owner's alone."""
        return self.filter(owner=user)

    def active(self) -> "JobQuerySet":
        return self.filter(state__in=("queued", "running"))

    def eligible(self, engine: str) -> "JobQuerySet":
        """Jobs a worker of ``engine`` may claim now: waiting ones, and those whose worker fell silent."""
        silent = Q(state="running", lease_until__lte=Now())
        return self.filter(Q(state="queued") | silent, engine=engine)

    def claim(self, engine: str, worker: "Worker") -> "Job | None":
        """Give the next eligible job to ``worker`` until its lease runs out; None if there is none.

        Next is the oldest of the highest priority.

        Jobs that used up their attempts fail here instead (they killed their workers).
        """
        with transaction.atomic():
            self._fail_used_up(engine)
            # Many workers may look at once: PostgreSQL skips the rows others hold; on SQLite the
            # transaction is IMMEDIATE, so they look one after the other.
            waiting = self.eligible(engine).order_by("-priority", "id")
            job = waiting.select_for_update(skip_locked=True, of=("self",)).first()
            if job is None:
                return None
            self.filter(pk=job.pk).update(
                state="running",
                stage="",
                attempt=F("attempt") + 1,
                worker=worker,
                lease_until=_lease(),
                started_at=Now(),
                picture=0,
                together=1,
                step=0,
            )
            job.refresh_from_db()
            return job

    def _fail_used_up(self, engine: str) -> None:
        attempts = settings.FLUXSITE_MAX_ATTEMPTS
        self.eligible(engine).filter(state="running", attempt__gte=attempts).update(
            state="failed",
            finished_at=Now(),
            stage="",
            lease_until=None,
            error_code="worker_died",
            error=f"The worker stopped {attempts} times on this job. Try a smaller size or fewer LoRAs.",
        )

    def held(self, pk: UUID, attempt: int) -> "JobQuerySet":
        """The job, if the attempt still holds it; else nothing. Every write of a worker goes through here."""
        return self.filter(pk=pk, attempt=attempt, state="running")

    def keep(self, pk: UUID, attempt: int) -> bool:
        """Renew the lease and nothing else: the heartbeat."""
        return bool(self.held(pk, attempt).update(lease_until=_lease()))

    def renew(self, pk: UUID, attempt: int, **progress: Any) -> bool:
        """Renew the lease and record progress. False: stop, the job was taken away or is to be cancelled."""
        wanted = self.held(pk, attempt).filter(cancel_requested_at=None)
        return bool(wanted.update(lease_until=_lease(), **progress))

    def release(self, pk: UUID, attempt: int) -> bool:
        """Let another worker claim the job at once; the attempt counts."""
        return bool(self.held(pk, attempt).update(lease_until=Now()))

    def finish(self, pk: UUID, attempt: int, state: str, **facts: Any) -> bool:
        """End the job, once. False: another attempt has it, and this result does not count."""
        return bool(
            self.held(pk, attempt).update(state=state, stage="", lease_until=None, finished_at=Now(), **facts)
        )
