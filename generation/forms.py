"""The Generate form as plain HTML sends it, turned into what the API takes."""

from typing import Any, cast
from uuid import UUID

from django.http import HttpRequest, QueryDict

from accounts.models import User
from generation.models import Job

_PLAIN = ("prompt", "width", "height", "count", "seed", "steps", "engine")


def asked_in(post: QueryDict) -> dict[str, Any]:
    """The fields of a posted form; those left empty are left out.

    A LoRA is a ticked box ``lora`` with its slug; its weight is the field ``weight-<slug>``.
    """
    asked: dict[str, Any] = {name: post[name] for name in _PLAIN if post.get(name)}
    asked["loras"] = [
        {"slug": slug, "weight": post.get(f"weight-{slug}", "1")} for slug in post.getlist("lora")
    ]
    return asked


def prefilled(request: HttpRequest) -> dict[str, Any]:
    """What the form starts with: the job of ``?from=<id>`` (its seed only with ``?seed=keep``), or ``?prompt=``."""
    if job := _job_named(request):
        form: dict[str, Any] = {name: getattr(job, name) for name in _PLAIN if name != "seed"}
        form["loras"] = [{"slug": chosen.slug, "weight": chosen.weight} for chosen in job.job_loras.all()]
        if seed := request.GET.get("seed"):
            form["seed"] = seed
        return form
    return {"prompt": request.GET.get("prompt", ""), "loras": []}


def _job_named(request: HttpRequest) -> Job | None:
    try:
        pk = UUID(request.GET.get("from", ""))
    except ValueError:
        return None
    return Job.objects.visible_to(cast(User, request.user)).filter(pk=pk).first()
