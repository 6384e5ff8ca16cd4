"""What the pages have in common: what is yours, pages of it, and answers that a browser may have already."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from rest_framework.exceptions import ValidationError

from accounts.models import User
from generation.models import Image, ImageQuerySet, Job, MissingLora
from generation.queue import JobQuerySet
from generation.quotas import TooMuch

T = TypeVar("T")


def user_of(request: HttpRequest) -> User:
    return cast(User, request.user)


def jobs_of(request: HttpRequest) -> JobQuerySet:
    visible = Job.objects.visible_to(user_of(request))
    return visible.select_related("worker").prefetch_related("job_loras", "images")


def images_of(request: HttpRequest) -> ImageQuerySet:
    """Those in the gallery, newest first."""
    return Image.objects.visible_to(user_of(request)).kept().select_related("job").newest_first()


def all_images_of(request: HttpRequest) -> ImageQuerySet:
    """Those in the gallery and those in the trash."""
    return Image.objects.visible_to(user_of(request)).select_related("job")


def uuid_or_404(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def unless_known(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response with its ETag; 304 where the browser has it already."""
    etag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    return response


@dataclass(frozen=True)
class Refused:
    """Why a job was not queued, in a sentence. ``wait``: seconds until it is worth trying again."""

    sentence: str
    status: int
    wait: int | None = None


def submitted(submit: Callable[[], T]) -> T | Refused:
    """What ``submit`` gives, or why the job that it asks for was not queued."""
    try:
        return submit()
    except MissingLora as error:
        return Refused(str(error), 400)
    except TooMuch as error:
        return Refused(str(error.detail), error.status_code, error.wait)
    except ValidationError as error:
        return Refused(_first_sentence(error.detail), 400)


def _first_sentence(detail: Any) -> str:
    """Of an error of rest_framework, which may be in lists and by field."""
    while isinstance(detail, list | dict):
        detail = next(iter(detail.values() if isinstance(detail, dict) else detail))
    return str(detail)
