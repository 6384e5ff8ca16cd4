import os
from typing import Any

from django.apps import AppConfig


class GenerationConfig(AppConfig):
    name = "generation"

    def ready(self) -> None:
        from django.conf import settings

        cluster = os.environ.get("Q_CLUSTER_NAME", "")
        if cluster in settings.Q_CLUSTER["ALT_CLUSTERS"]:
            from django_q.signals import post_spawn

            from gpu.process import die_with_parent

            # If django-q2's main process or its sentinel is killed, their children would go on: a worker
            # that holds the GPU and never hears of work again.
            os.register_at_fork(after_in_child=die_with_parent)
            post_spawn.connect(_worker_spawned, dispatch_uid="generation.start_worker")


def _worker_spawned(**kwargs: Any) -> None:
    from generation import runner

    runner.start_worker(os.environ["Q_CLUSTER_NAME"])
