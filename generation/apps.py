import logging
import os
import signal
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_delete, pre_migrate

log = logging.getLogger(__name__)


class GenerationConfig(AppConfig):
    name = "generation"

    def ready(self) -> None:
        from django.conf import settings
        from django.db.models.signals import post_save

        from accounts.models import User
        from accounts.signals import account_closed
        from generation import housekeeping, search, trials
        from generation.quotas import check_storage
        from loras.models import Lora
        from loras.signals import lora_admitted, storage_wanted, trial_wanted

        pre_migrate.connect(search.uninstall, sender=self)
        post_migrate.connect(search.install, sender=self)
        post_migrate.connect(_schedule, sender=self)
        housekeeping.allow(housekeeping.__name__, housekeeping.CHORES)
        storage_wanted.connect(check_storage)
        lora_admitted.connect(trials.go_on)
        trial_wanted.connect(trials.begin_again)
        pre_delete.connect(trials.forget, sender=Lora)
        account_closed.connect(_cancel_jobs, sender=User)
        post_save.connect(_cancel_jobs, sender=User)
        cluster = os.environ.get("Q_CLUSTER_NAME", "")
        if cluster in settings.Q_CLUSTER["ALT_CLUSTERS"]:
            _below_a_cluster(_start_worker)
        elif cluster == settings.Q_CLUSTER["name"]:
            _below_a_cluster(_start_housekeeping)


def _below_a_cluster(on_spawn: Any) -> None:
    """Tie the processes of the cluster that starts here together."""
    from django_q.signals import post_spawn

    from gpu.process import die_with_parent

    # If django-q2's main process or its sentinel is killed, their children would go on: a worker
    # that holds the GPU and never hears of work again.
    os.register_at_fork(after_in_child=die_with_parent)
    post_spawn.connect(on_spawn, weak=False, dispatch_uid="generation.spawned")
    _end_with_a_locked_queue()


def _end_with_a_locked_queue() -> None:
    """End the cluster when a process was killed that had a lock of django-q2's queues (its issue 23).

    One that waits for a task or a result has. Who comes after it would wait for ever, and so would a stop.
    """
    from django_q.cluster import Sentinel

    from generation.watch import worker

    reincarnate = Sentinel.reincarnate

    def end_or_reincarnate(sentinel: Any, process: Any) -> None:
        if process is sentinel.monitor or (process is not sentinel.pusher and not worker.is_busy()):
            log.critical("A process was killed that had a lock of the queue; its cluster starts again")
            os.kill(os.getpid(), signal.SIGKILL)  # the sentinel: its children die with it
        reincarnate(sentinel, process)

    Sentinel.reincarnate = end_or_reincarnate


def _start_worker(**kwargs: Any) -> None:
    from generation import runner

    runner.start_worker(os.environ["Q_CLUSTER_NAME"])


def _start_housekeeping(**kwargs: Any) -> None:
    from django_q.signals import post_execute_in_worker, pre_execute

    from generation.watch import worker

    pre_execute.connect(lambda **kwargs: worker.busy(), weak=False, dispatch_uid="generation.busy")
    post_execute_in_worker.connect(
        lambda **kwargs: worker.ready(), weak=False, dispatch_uid="generation.ready"
    )
    worker.started()


def _cancel_jobs(instance: Any, **kwargs: Any) -> None:
    """However an account is switched off, what it has in the queue is not drawn."""
    from generation.models import Job

    if not instance.is_active:
        Job.objects.cancel_for_closed(instance.pk)


def _schedule(**kwargs: Any) -> None:
    from generation import housekeeping

    housekeeping.schedule(housekeeping.__name__, housekeeping.CHORES)
