"""Jobs by API."""

import re
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from generation import repeats, waiting
from generation.api.serializers import JobSerializer, JobStatuses
from generation.job_request import JobRequest
from generation.models import Image, Job, JobLora, MissingLora
from generation.views.shared import unless_known

MANY = 100
_WAIT = re.compile(r"wait\s*=\s*(\d{1,6})", re.IGNORECASE)
_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER,
    description=f"1 to {repeats.MAX_KEY} visible ASCII characters of your choice. The same key again, with "
    "the same body, makes no second job: the first is answered, for as long as it is kept.",
)  # fmt: skip
_PREFER = OpenApiParameter(
    "Prefer", str, OpenApiParameter.HEADER,
    description="`wait=N`: answer when the job is over, after N seconds at the latest. Where too many wait "
    "already the answer comes at once, without `Preference-Applied`.",
)  # fmt: skip
_IDS = OpenApiParameter(
    "ids", str, required=True,
    description=f"Ids of jobs, {MANY} at most, with commas between.",
)  # fmt: skip
_OTHER_BODY = OpenApiResponse(description="The key had another body before.")
_OVER = OpenApiResponse(JobSerializer, "It is over already.")


@extend_schema_view(
    list=extend_schema(description="Your jobs, the newest first."),
    retrieve=extend_schema(description="A job: how far it is, its place in the queue, its pictures."),
)
class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    queryset = Job.objects.none()  # for the schema
    serializer_class = JobSerializer
    lookup_value_converter = "uuid"

    @property
    def user(self) -> User:
        return cast(User, self.request.user)

    def get_queryset(self) -> QuerySet[Job]:
        return Job.objects.visible_to(self.user).prefetch_related("job_loras", "images")

    @extend_schema(
        request=JobRequest,
        parameters=[_KEY, _PREFER],
        responses={201: JobSerializer, 422: _OTHER_BODY},
    )
    def create(self, request: Request) -> Response:
        """Ask for pictures. 201 at once, with the job's place in the queue and where to look for it."""
        key = repeats.key_in(request.headers)

        def submit(**kept: Any) -> Job:
            asked = JobRequest(data=request.data, context={"owner": request.user})
            asked.is_valid(raise_exception=True)
            return Job.submit(self.user, **asked.validated_data, **kept)

        job, is_new = repeats.once(self.user, key, request.data, submit)
        headers = _replayed(is_new)
        if (seconds := _wait_in(request)) and _waited(job, seconds, request):
            headers["Preference-Applied"] = f"wait={seconds}"
        elif is_new:
            prefetch_related_objects([job], *_parts_of_new(job))
            return self._shown(job, status.HTTP_201_CREATED, headers)
        return self._answer(job, status.HTTP_201_CREATED, headers)

    def _answer(self, job: Job, code: int, headers: dict[str, str]) -> Response:
        """The job as it is now."""
        return self._shown(self.get_queryset().get(pk=job.pk), code, headers)

    def _shown(self, job: Job, code: int, headers: dict[str, str]) -> Response:
        answer = self.get_serializer(job).data
        return Response(answer, code, headers={"Location": answer["urls"]["self"], **headers})

    @extend_schema(request=None, parameters=[_KEY], responses={201: JobSerializer, 422: _OTHER_BODY})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Ask for the same again, the seed too. 201 with the new job; 400 when it cannot be had any more, as
        where a LoRA of it is gone.
        """
        key, before = repeats.key_in(request.headers), self.get_object()
        try:
            job, is_new = repeats.once(self.user, key, {"retry": str(before.pk)}, before.retry)
        except MissingLora as error:
            raise ValidationError({"loras": str(error)}) from error
        return self._answer(job, status.HTTP_201_CREATED, _replayed(is_new))

    @extend_schema(request=None, responses={200: JobSerializer, 409: _OVER})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop the job. 409 when it is over already."""
        job = self.get_object()
        stopped = job.cancel()
        answer = self.get_serializer(self.get_queryset().get(pk=job.pk)).data
        return Response(answer, status=status.HTTP_200_OK if stopped else status.HTTP_409_CONFLICT)

    @extend_schema(
        parameters=[_IDS],
        responses={200: JobStatuses, 304: OpenApiResponse(description="Nothing changed since the ETag.")},
        filters=False,
    )
    @action(detail=False, pagination_class=None)
    def status(self, request: Request) -> HttpResponse:
        """Of many jobs at once, what changes by itself; 304 where nothing did since `If-None-Match`."""
        # Three columns would not do: pictures and LoRAs, which are not asked for, are what costs.
        jobs = Job.objects.visible_to(self.user).filter(pk__in=_ids_in(request))
        content = JSONRenderer().render(JobStatuses({"jobs": jobs}).data)
        return unless_known(request._request, HttpResponse(content, "application/json"))


def _replayed(is_new: bool) -> dict[str, str]:
    return {} if is_new else {"Idempotent-Replayed": "true"}


def _parts_of_new(job: Job) -> list[Any]:
    """What a job has that was just made: it needs no question that there are no pictures."""
    loras = "job_loras" if job.lora_set else Prefetch("job_loras", JobLora.objects.none())
    return [loras, Prefetch("images", Image.objects.none())]


def _ids_in(request: Request) -> list[UUID]:
    texts = [text for text in request.query_params.get("ids", "").split(",") if text]
    try:
        ids = [UUID(text) for text in texts]
    except ValueError:
        raise ValidationError({"ids": "Use ids of jobs, with commas between."}) from None
    if not 1 <= len(ids) <= MANY:
        raise ValidationError({"ids": f"{len(ids)} ids. Use 1 to {MANY}."})
    return ids


def _wait_in(request: Request) -> int:
    """The seconds of ``Prefer: wait=N``, as many as may be waited; 0 without."""
    match = _WAIT.search(request.headers.get("Prefer", ""))
    return min(int(match[1]), settings.FLUXSITE_WAIT_SECONDS) if match else 0


def _waited(job: Job, seconds: int, request: Request) -> bool:
    """Wait for the job. False if there is no place to wait: the header only says what the client prefers."""
    try:
        with waiting.Place(cast(User, request.user)):
            waiting.is_over(job, seconds, request._request)
    except waiting.NoPlace:
        return False
    return True
