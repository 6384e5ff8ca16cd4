"""What a job's pictures are answered with: all at once, or as events while they come."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import APIException

from generation import waiting
from generation.models import Image, Job
from generation.openai_api import errors, files
from generation.openai_api.request import ImagesRequest

log = logging.getLogger(__name__)
# A proxy may cut what is silent for a minute.
SIGN_OF_LIFE_SECONDS = 10


def whole(job: Job, asked: ImagesRequest, request: HttpRequest) -> dict[str, Any]:
    """All pictures, once they are there. Raises NotInTime, or NoPicture."""
    seconds = settings.FLUXSITE_WAIT_SECONDS
    if not waiting.is_over(job, seconds, request):
        raise errors.NotInTime(job, seconds, request.build_absolute_uri(job.get_absolute_url()))
    job.refresh_from_db()
    if job.state != Job.State.SUCCEEDED:
        raise errors.NoPicture(job)
    return {
        "created": int(job.created_at.timestamp()),
        "data": [_datum(image, asked, request) for image in job.images.order_by("index")],
        **_settings(job, asked),
        "job": str(job.pk),
        **({"notice": job.notice} if job.notice else {}),
    }


def _datum(image: Image, asked: ImagesRequest, request: HttpRequest) -> dict[str, Any]:
    """Never both: clients that find a ``url`` fetch it, and some refuse private addresses."""
    if asked.response_format == "url":
        return {"url": files.address(image, asked, request), "seed": image.seed}
    return {"b64_json": files.in_base64(image, asked), "seed": image.seed}


def _settings(job: Job, asked: ImagesRequest) -> dict[str, str]:
    return {
        "size": f"{job.width}x{job.height}",
        "output_format": asked.output_format,
        "background": "opaque",
        "quality": "auto",
    }


class Events:
    """Server-sent events of a job: each picture as soon as it is stored, then its end.

    A partial image is the picture at 512 pixels at most, sent before the whole of it: a model of four steps
    has nothing to show on the way. ``place`` is left when the answer is closed.
    """

    def __init__(self, job: Job, asked: ImagesRequest, request: HttpRequest, place: waiting.Place) -> None:
        self.job, self.asked, self.request, self.place = job, asked, request, place
        self.page = request.build_absolute_uri(job.get_absolute_url())

    def close(self) -> None:
        self.place.leave()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._pictures()
        except APIException as error:
            yield _failure(error)
        except Exception:
            log.exception("The events of a job broke off", extra={"job": str(self.job.pk)})
            yield _failure(APIException())

    def _pictures(self) -> Iterator[str]:
        """Raises NotInTime, or NoPicture."""
        sent, sign = 0, time.monotonic()
        yield ": queued\n\n"
        for _ in waiting.looks(settings.FLUXSITE_WAIT_SECONDS, self.request):
            self.job.refresh_from_db(fields=["state", "error", "error_code"])
            for image in self.job.images.filter(index__gte=sent).order_by("index"):
                yield from self._picture(image)
                sent, sign = image.index + 1, time.monotonic()
            if self.job.state == Job.State.SUCCEEDED:
                return
            if self.job.is_over:
                raise errors.NoPicture(self.job)
            if time.monotonic() - sign > SIGN_OF_LIFE_SECONDS:
                sign = time.monotonic()
                yield f": {self.job.state}\n\n"
        raise errors.NotInTime(self.job, settings.FLUXSITE_WAIT_SECONDS, self.page)

    def _picture(self, image: Image) -> Iterator[str]:
        if self.asked.partial_images:
            small = files.small_in_base64(image, self.asked)
            yield self._event("partial_image", image, b64_json=small, partial_image_index=0)
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        details = {"text_tokens": 0, "image_tokens": 0}
        yield self._event(
            "completed", image, b64_json=files.in_base64(image, self.asked),
            usage=usage | {"input_tokens_details": details},
        )  # fmt: skip

    def _event(self, kind: str, image: Image, **fields: Any) -> str:
        facts = {"created_at": int(image.created_at.timestamp()), **_settings(self.job, self.asked)}
        more = {"index": image.index, "seed": image.seed, "job": str(self.job.pk)}
        return _sent(f"image_generation.{kind}", {**facts, **more, **fields})


def _failure(error: APIException) -> str:
    details = {"code": str(error.get_codes()), "detail": str(error.detail), "attr": None}
    shape = errors.shape(error.status_code, [details])
    return _sent("error", {"error": shape | getattr(error, "numbers", {})})


def _sent(event: str, fields: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps({'type': event, **fields})}\n\n"
