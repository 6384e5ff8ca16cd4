"""The job table as a queue: claim, lease, fence.

A *claim* gives a job to one worker for the length of a *lease*, which the worker renews. If the worker
falls silent the lease runs out and another may claim the job. The number of the attempt is the *fence*:
every later write names it, so a worker that comes back from the dead changes nothing.
All times are the database's, never a host's.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Min, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import UsageEntry
from gpu.models import Mode, Worker

if TYPE_CHECKING:
    from accounts.models import User
    from generation.models import Job

# Fair share: who used fewer GPU-seconds in the last hour goes first. Users whose use is in the same step
# are equal, and age decides between them: strict order would switch LoRAs after each picture.
RECENT = timedelta(hours=1)
STEP_SECONDS = 10.0
# A job whose LoRAs are not loaded may be passed by jobs that need no loading, for this long.
PASSED_AT_MOST = timedelta(seconds=30)


def _lease() -> timedelta:
    return timedelta(seconds=settings.FLUXSITE_LEASE_SECONDS)


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, user: "User") -> "JobQuerySet":
        """A job is its owner's alone."""
        return self.filter(owner=user)

    def active(self) -> "JobQuerySet":
        return self.filter(state__in=("queued", "running"))

    def count_to(self, most: int) -> int:
        """How many there are, ``most`` at most."""
        return self.order_by()[:most].count()

    # The order ----------------------------------------------------------------------------------------

    def abandoned(self, engine: str) -> "JobQuerySet":
        """Jobs whose worker fell silent: the lease ran out."""
        over = Q(lease_until__lte=Now())
        # No lease is ever so far ahead, unless the database's clock was set back since.
        over |= Q(lease_until__gt=Now() + 2 * _lease())
        return self.filter(over, engine=engine, state="running")

    def queued(self, engine: str) -> "JobQuerySet":
        return self.filter(engine=engine, state="queued")

    def work_for(self, engine: str) -> bool:
        """Whether a worker of ``engine`` would find a job."""
        return self.queued(engine).exists() or self.abandoned(engine).exists()

    def next_for(self, engine: str, warm: Collection[str] = ()) -> "Job | None":
        """The waiting job that is drawn next: by priority, then the owner's GPU-seconds of the last hour,
        then what needs no LoRA loaded (``warm``: the sets that are), then age.

        An index answers, whatever the length of the queue: who waits since when, and then one row.
        """
        priorities = self.queued(engine).order_by("-priority").values_list("priority", flat=True)
        while (highest := priorities.first()) is not None:
            # Another worker may have taken the last of them meanwhile.
            if job := self._next_of(self.queued(engine).filter(priority=highest), warm):
                return job
        return None

    def _next_of(self, queued: "JobQuerySet", warm: Collection[str]) -> "Job | None":
        """The same among jobs of one priority: as two queries they suit PostgreSQL's planner."""
        queued = queued.order_by("created_at", "id")
        oldest = dict(queued.order_by().values_list("owner").annotate(Min("created_at")))
        if not oldest:
            return None
        users = self.first_by_share(oldest)
        first = queued.filter(owner=min(users, key=oldest.__getitem__)).first()
        if first is None or not first.lora_set or first.created_at < timezone.now() - PASSED_AT_MOST:
            return first
        return queued.filter(lora_set__in=["", *warm], owner__in=users).first() or first

    def first_by_share(self, users: Iterable[int]) -> list[int]:
        """Those of ``users`` who used least of late."""
        steps = {user: seconds // STEP_SECONDS for user, seconds in self.recent_seconds(users).items()}
        least = min(steps.values())
        return [user for user, step in steps.items() if step == least]

    def recent_seconds(self, users: Iterable[int]) -> dict[int, float]:
        """GPU-seconds of each user in the last hour, running jobs included."""
        used: dict[int, float] = dict.fromkeys(users, 0.0)
        if len(used) < 2:
            return used
        entries = UsageEntry.objects.filter(user__in=list(used), created_at__gt=Now() - RECENT)
        for user, seconds in entries.values_list("user").annotate(Sum("gpu_seconds")):
            used[user] += seconds
        now = timezone.now()
        running = self.filter(state="running").order_by()
        for user, started in running.values_list("owner", "started_at"):
            if user in used and started:
                used[user] += max(0.0, (now - started).total_seconds())
        return used

    # A worker's writes --------------------------------------------------------------------------------

    def claim(self, engine: str, worker: Worker, warm: Collection[str] = (), stage: str = "") -> "Job | None":
        """Give the next job to ``worker`` until its lease runs out; None if there is none, or it is paused.

        What was begun and abandoned goes first, then ``next_for``. ``warm``: sets of LoRAs that need no
        loading. ``stage``: what the worker does first. Jobs that used up their attempts fail here instead
        (they killed their workers).
        """
        with transaction.atomic():
            if Worker.wanted(worker.host, worker.device, engine) != Mode.RUN:
                return None
            abandoned = self._end_used_up(self.abandoned(engine).order_by("created_at"))
            while job := abandoned.pop(0) if abandoned else self.next_for(engine, warm):
                if self._take(job, worker, stage):
                    return job
        return None

    def _take(self, job: "Job", worker: Worker, stage: str) -> bool:
        """Claim this one, unless it is no longer as ``job`` says.

        On SQLite the transaction is IMMEDIATE and nobody else is here. On PostgreSQL the update waits for a
        worker who takes the same row, and then finds it changed.
        """
        was_abandoned = job.state == "running"
        free = self.abandoned(job.engine) if was_abandoned else self.queued(job.engine)
        facts = {"state": "running", "stage": stage, "worker": worker, "picture": 0, "together": 1, "step": 0}
        taken = free.filter(pk=job.pk, attempt=job.attempt).update(
            attempt=F("attempt") + 1, lease_until=Now() + _lease(), started_at=Now(), **facts
        )
        if not taken:
            return False
        if was_abandoned:
            self._enter_lost(job)
        job.attempt += 1
        for name, value in facts.items():
            setattr(job, name, value)
        return True

    def end_abandoned(self, engine: str) -> int:
        """End those abandoned jobs that nobody is to try again; returns how many."""
        with transaction.atomic():
            abandoned = list(self.abandoned(engine))
            return len(abandoned) - len(self._end_used_up(abandoned))

    def _end_used_up(self, abandoned: Iterable["Job"]) -> list["Job"]:
        """End those that were cancelled or tried often enough; returns the others."""
        attempts = settings.FLUXSITE_MAX_ATTEMPTS
        others = []
        for job in abandoned:
            facts: dict[str, str] = {"state": "cancelled"}
            if job.cancel_requested_at is None:
                if job.attempt < attempts:
                    others.append(job)
                    continue
                facts = {
                    "state": "failed",
                    "error_code": "worker_died",
                    "error": f"The worker stopped {attempts} times on this job. "
                    "Try a smaller size or fewer LoRAs.",
                }
            still = self.abandoned(job.engine).filter(pk=job.pk, attempt=job.attempt)
            if still.update(stage="", lease_until=None, finished_at=Now(), **facts):
                self._enter_lost(job)
        return others

    def held(self, pk: UUID, attempt: int) -> "JobQuerySet":
        """The job, if the attempt still holds it; else nothing. Every write of a worker goes through here."""
        return self.filter(pk=pk, attempt=attempt, state="running")

    def keep(self, pk: UUID, attempt: int) -> bool:
        """Renew the lease and nothing else: the heartbeat."""
        return bool(self.held(pk, attempt).update(lease_until=Now() + _lease()))

    def goes_on(self, pk: UUID, attempt: int) -> bool:
        """False: stop, the job was taken away or is to be cancelled."""
        return self.held(pk, attempt).filter(cancel_requested_at=None).exists()

    def renew(self, pk: UUID, attempt: int, **progress: Any) -> bool:
        """Renew the lease and record progress. False: stop, the job was taken away or is to be cancelled."""
        wanted = self.held(pk, attempt).filter(cancel_requested_at=None)
        return bool(wanted.update(lease_until=Now() + _lease(), **progress))

    def release(self, job: "Job", outcome: str, gpu_seconds: float) -> bool:
        """Let another worker claim the job at once; the attempt counts."""
        with transaction.atomic():
            ours = bool(self.held(job.pk, job.attempt).update(lease_until=Now()))
            if ours:
                self._enter(job, outcome, gpu_seconds)
            return ours

    def release_all_of(self, worker: Worker) -> int:
        """Free what a slot's process had in hand when it died: the slot's next process says so."""
        jobs = list(self.filter(worker=worker, state="running"))
        for job in jobs:
            with transaction.atomic():
                if self.held(job.pk, job.attempt).update(lease_until=Now()):
                    self._enter_lost(job)
        return len(jobs)

    def finish(
        self, job: "Job", state: str, outcome: str = "", gpu_seconds: float = 0.0, **facts: Any
    ) -> bool:
        """End the job, once. False: another attempt has it, and this result does not count."""
        with transaction.atomic():
            held = self.held(job.pk, job.attempt)
            ours = bool(held.update(state=state, stage="", lease_until=None, finished_at=Now(), **facts))
            if ours:
                self._enter(job, outcome or state, gpu_seconds)
            return ours

    # The ledger ---------------------------------------------------------------------------------------

    def _enter_lost(self, job: "Job") -> None:
        """``job``: as the attempt left it. Its last sign renewed the lease."""
        seconds = 0.0
        if job.started_at and job.lease_until:
            seconds = (job.lease_until - _lease() - job.started_at).total_seconds()
        self._enter(job, UsageEntry.Outcome.LOST, max(0.0, seconds))

    @staticmethod
    def _enter(job: "Job", outcome: str, gpu_seconds: float) -> None:
        before = 0
        if job.attempt > 1:
            earlier = UsageEntry.objects.filter(job=job.pk)
            before = earlier.aggregate(images=Sum("images"))["images"] or 0
        entry = UsageEntry(
            user_id=job.owner_id, job=job.pk, attempt=job.attempt, engine=job.engine,
            worker=str(job.worker or ""), gpu_seconds=gpu_seconds, outcome=outcome,
            images=max(0, job.images.count() - before),
        )  # fmt: skip
        # An attempt that was released has its entry already.
        UsageEntry.objects.bulk_create([entry], ignore_conflicts=True)
