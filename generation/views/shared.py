"""What the pages have in common: what is yours, pages of it, and answers that a browser may have already."""

import hashlib
from typing import cast
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified

from accounts.models import User
from generation.models import Image, ImageQuerySet, Job
from generation.queue import JobQuerySet


def user_of(request: HttpRequest) -> User:
    return cast(User, request.user)


def jobs_of(request: HttpRequest) -> JobQuerySet:
    visible = Job.objects.visible_to(user_of(request))
    return visible.select_related("worker").prefetch_related("job_loras", "images")


def images_of(request: HttpRequest) -> ImageQuerySet:
    """Those in the gallery, newest first."""
    return Image.objects.visible_to(user_of(request)).kept().select_related("job").newest_first()


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
