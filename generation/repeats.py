"""A request that comes twice makes one job: the key is in the job's own row, so both are there or neither."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models.functions import Now
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError

from accounts.models import User
from generation.models import Job
from generation.quotas import TooMuch

MAX_KEY = 200
# The ``openai`` package gives up on an answer after ten minutes, unless told otherwise, and asks again.
SENT_AGAIN_WITHIN = timedelta(minutes=10)
# A user's newest jobs among which a request that is sent again looks for its first.
LOOKED_AT = 50


class KeyReused(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = (
        "This Idempotency-Key was sent before with another body. Send the same body, or another key."
    )


def key_in(headers: Any) -> str | None:
    """The Idempotency-Key of a request, None without one. Raises ValidationError."""
    key = headers.get("Idempotency-Key")
    if key is None:
        return None
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= MAX_KEY:
        raise ValidationError({"Idempotency-Key": f"Use 1 to {MAX_KEY} visible ASCII characters."})
    return str(key)


def hash_of(body: Any) -> str:
    """Of what JSON says, whatever the order of its fields and its spaces."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def once(owner: User, key: str | None, body: Any, submit: Callable[..., Job]) -> tuple[Job, bool]:
    """The job of this request, and whether it is new.

    ``submit`` is called with what the job's row keeps of the request. Raises KeyReused, and what it raises.
    """
    digest = hash_of(body)
    if first := _first(owner, key, digest):
        return first, False
    try:
        return submit(idempotency_key=key, request_hash=digest), True
    except (IntegrityError, TooMuch):
        # The same request came in beside this one, and took the key, and may be the last of the quota.
        if first := _first(owner, key, digest):
            return first, False
        raise


def _first(owner: User, key: str | None, digest: str) -> Job | None:
    """The job that has the key. Raises KeyReused where it was asked for otherwise."""
    if key is None:
        return None
    job = Job.objects.visible_to(owner).filter(idempotency_key=key).first()
    if job and job.request_hash != digest:
        raise KeyReused
    return job


def sent_before(owner: User, body: Any) -> Job | None:
    """The job of the same request a short while ago, for a client that says that it asks again."""
    digest = hash_of(body)
    recent = Job.objects.visible_to(owner).filter(created_at__gt=Now() - SENT_AGAIN_WITHIN).order_by("-id")
    return next(
        (job for job in recent[:LOOKED_AT] if job.request_hash == digest and job.state not in _GONE_WRONG),
        None,
    )


_GONE_WRONG = (Job.State.FAILED, Job.State.CANCELLED)
