"""``manage.py queue``: what waits and who draws; pause, drain and resume workers or engines."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generation import forecast, operations
from generation.models import Job
from generation.words import duration
from gpu.engines import ENGINES
from gpu.models import Mode, Pool, Worker

MODES = {"pause": Mode.PAUSE, "drain": Mode.DRAIN, "resume": Mode.RUN}


class Command(BaseCommand):
    help = (
        "Show the queue and the workers, or tell them what to do. pause: take no new job, keep the model in "
        "memory. drain: finish the job in hand, then give the memory back. resume: go on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", default="status", choices=["status", *MODES])
        parser.add_argument(
            "targets", nargs="*", metavar="TARGET",
            help="an engine (fp4) or a worker (host/device/engine, as status shows it); none: all engines, "
            "for resume all workers, too",
        )  # fmt: skip

    def handle(self, *args: Any, action: str, targets: list[str], **options: Any) -> None:
        if action != "status":
            chosen = [self._named(name) for name in targets or ENGINES]
            if action == "resume" and not targets:
                chosen += Worker.objects.exclude(mode=Mode.RUN)
            for target in chosen:
                operations.set_mode(target, MODES[action])
        self._show()

    @staticmethod
    def _named(name: str) -> Pool | Worker:
        if name in ENGINES:
            return Pool.of(name)
        workers = {str(worker): worker for worker in Worker.objects.all()}
        if name not in workers:
            raise CommandError(f"There is no {name}. There are: {', '.join([*ENGINES, *workers])}.")
        return workers[name]

    def _show(self) -> None:
        alive = set(Worker.objects.alive().values_list("pk", flat=True))
        for engine in ENGINES:
            pool = Pool.of(engine)
            waiting = Job.objects.queued(engine).count()
            wait = forecast.wait_now(engine)
            about = f", a new job waits about {duration(wait)}" if wait is not None else ""
            self.stdout.write(f"{engine}: {pool.mode}, {waiting} waiting of {pool.queue_limit}{about}")
            for worker in Worker.objects.filter(engine=engine).order_by("host", "device"):
                state = worker.state if worker.pk in alive or worker.state == "stopped" else "no sign of life"
                mode = "" if worker.mode == Mode.RUN else f", {worker.mode}"
                note = f". {worker.note}" if worker.note else ""
                self.stdout.write(f"  {worker}: {state}{mode}{note}")
