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
from django.db import connections, models, transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import UsageEntry
from generation import order
from gpu.models import Worker

if TYPE_CHECKING:
    from accounts.models import User
    from generation.models import Job
# Asked at each step, and so in SQL, which Django need not build each time.
_GOES_ON = """
SELECT 1 FROM generation_job
WHERE id = %s AND attempt = %s AND state = 'running' AND cancel_requested_at IS NULL
"""
# How long a claim may be idle between two of its questions, in a transaction of its own.
TURN_SECONDS = 5
_LIMIT = "SELECT set_config('idle_in_transaction_session_timeout', %s, true)"
_TURN = "SELECT pg_advisory_xact_lock(hashtext('claim'), hashtext(%s))"
CLOSED = (
    "The account was switched off before this job was drawn. "
    "If an administrator switches the account on again, send the job again."
)


# The stage in which a job has not begun: ``Job.Stage.LOADING``.
LOADING = "loading"


def _deaths(job: "Job") -> int:
    """How many workers died while they drew an abandoned ``job``, the last one included.

    A worker that died while it loaded the model is its slot's failure: see ``Worker.failed_starts``.
    """
    return job.deaths + (job.stage != LOADING)


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

    def work_for(self, host: str, device: str, engine: str) -> bool:
        """Whether a worker of this slot would find a job, and is to take it."""
        connection = connections[self.db]
        with connection.cursor() as cursor:
            cursor.execute(*order.work_for(connection.vendor, host, device, engine))
            return cursor.fetchone() is not None

    def next_for(self, engine: str, worker: Worker, warm: Collection[str] = ()) -> "Job | None":
        """The job that ``worker`` is to draw next; None if there is none, or it is paused.

        What was begun and abandoned, then the waiting one: by priority, then the owner's GPU-seconds of the
        last hour, then what needs no LoRA loaded (``warm``: the sets that are), then age.
        """
        vendor = connections[self.db].vendor
        question = order.next_job(vendor, worker.host, worker.device, engine, warm)
        return next(iter(self.raw(*question)), None)

    def recent_seconds(self, users: Iterable[int]) -> dict[int, float]:
        """GPU-seconds of each user in the last hour, running jobs included."""
        used: dict[int, float] = dict.fromkeys(users, 0.0)
        if len(used) < 2:
            return used
        recent = timedelta(seconds=order.RECENT_SECONDS)
        entries = UsageEntry.objects.filter(user__in=list(used), created_at__gt=Now() - recent)
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
        """Give the next job to ``worker`` until its lease runs out: see ``next_for``.

        ``stage``: what the worker does first. Jobs that killed too many workers fail here instead, and
        jobs of a switched-off account are cancelled.
        """
        alone = not connections[self.db].in_atomic_block
        with transaction.atomic():
            self._wait_for_turn(engine, alone)
            # Whoever cancels or takes back a job does not wait for turns.
            while job := self.next_for(engine, worker, warm):
                if not job.owner_is_active and job.cancel_requested_at is None:
                    self.cancel_for_closed(job.owner_id)
                    continue
                may_be_taken = job.state == "queued" or self._end_used_up([job])
                if may_be_taken and self._take(job, worker, stage):
                    return job
        return None

    def cancel_for_closed(self, owner: int | None = None) -> int:
        """Cancel what switched-off accounts, or only ``owner``, have in the queue; returns how many jobs.

        A waiting job ends at once, with a sentence. A running one stops before its next step. The states
        are in the outer WHERE: PostgreSQL checks it again if a worker claims the row meanwhile.
        """
        from accounts.models import User

        closed = User.objects.filter(is_active=False, **({"pk": owner} if owner else {}))
        jobs = self.filter(owner__in=closed.values("pk")).order_by()
        facts = {"error_code": "account_closed", "error": CLOSED, "finished_at": Now()}
        waiting = jobs.filter(state="queued").update(state="cancelled", **facts)
        running = jobs.filter(state="running", cancel_requested_at=None)
        return waiting + running.update(cancel_requested_at=Now())

    def _wait_for_turn(self, engine: str, alone: bool = True) -> None:
        """Until the transaction ends no other worker claims a job of this engine.

        Without turns all workers choose the same first row, and all but one choose again: with 128 workers
        that halved what 64 got done (``bench.scale``). If a host is cut off or frozen in the middle of its
        claim, the server ends the transaction after TURN_SECONDS; otherwise the lock would stay for hours.
        The limit holds until the transaction ends, so a caller's transaction (not ``alone``) is spared it.
        On SQLite a transaction is IMMEDIATE and alone anyway.
        """
        connection = connections[self.db]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                if alone:
                    cursor.execute(_LIMIT, [f"{TURN_SECONDS}s"])
                cursor.execute(_TURN, [engine])

    def _take(self, job: "Job", worker: Worker, stage: str) -> bool:
        """Claim this one, unless it is no longer as ``job`` says."""
        was_abandoned = job.state == "running"
        free = self.abandoned(job.engine) if was_abandoned else self.queued(job.engine)
        facts = {"state": "running", "stage": stage, "worker": worker, "picture": 0, "together": 1, "step": 0}
        deaths = _deaths(job) if was_abandoned else job.deaths
        taken = free.filter(pk=job.pk, attempt=job.attempt).update(
            attempt=F("attempt") + 1, lease_until=Now() + _lease(), started_at=Now(), deaths=deaths, **facts
        )
        if not taken:
            return False
        if was_abandoned:
            self._enter_lost(job)
        job.attempt += 1
        job.deaths = deaths
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
                if _deaths(job) < attempts:
                    others.append(job)
                    continue
                facts = {
                    "state": "failed",
                    "error_code": "worker_died",
                    "error": f"The worker stopped {attempts} times on this job. "
                    "Try a smaller size or fewer LoRAs.",
                }
            still = self.abandoned(job.engine).filter(pk=job.pk, attempt=job.attempt)
            over = {"stage": "", "lease_until": None, "finished_at": Now(), "deaths": _deaths(job)}
            if still.update(**over, **facts):
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
        connection = connections[self.db]
        key = self.model._meta.pk.get_db_prep_value(pk, connection)
        with connection.cursor() as cursor:
            cursor.execute(_GOES_ON, [key, attempt])
            return cursor.fetchone() is not None

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
        """Enter the attempt of an abandoned ``job``, until its last heartbeat, which renewed the lease.

        Loading the model is the slot's affair, so the owner is charged nothing for it.
        """
        seconds = 0.0
        if job.started_at and job.lease_until and job.stage != LOADING:
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
