"""The addresses of OpenAI's Images API."""

from typing import Any, cast

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import TokenAuthentication
from accounts.models import User
from generation import repeats, waiting
from generation.models import Job
from generation.openai_api import answers, catalogue, errors, files
from generation.openai_api.request import ImagesRequest, read
from generation.openai_api.schema import (
    GenerationSerializer,
    ModelSerializer,
    ModelsSerializer,
    PicturesSerializer,
)

_ADDRESSES = "This studio answers /v1/models and /v1/images/generations."


class OpenAIView(APIView):
    """Tokens only, JSON whatever the client accepts, and every error in OpenAI's shape."""

    authentication_classes: tuple[type[TokenAuthentication], ...] = (TokenAuthentication,)

    def get_exception_handler(self) -> Any:
        return errors.in_openai_shape

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)

    @property
    def user(self) -> User:
        return cast(User, self.request.user)


class ModelsView(OpenAIView):
    @extend_schema(operation_id="models_list", responses=ModelsSerializer)
    def get(self, request: Request) -> Response:
        """The models that this token may draw with: engines, and LoRAs as ``model:lora``."""
        return Response({"object": "list", "data": catalogue.models(self.user)})


class ModelView(OpenAIView):
    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        """One model, by name or alias."""
        return Response(catalogue.model(name, self.user))


class GenerationsView(OpenAIView):
    @extend_schema(
        request=GenerationSerializer,
        responses={
            (200, "application/json"): PicturesSerializer,
            (200, "text/event-stream"): OpenApiTypes.ANY,
            404: OpenApiResponse(description="There is no such model that you may use."),
            409: OpenApiResponse(description="The job was cancelled meanwhile."),
            422: OpenApiResponse(description="The Idempotency-Key had another body before."),
            500: OpenApiResponse(description="The job failed, by no fault of the request."),
            504: OpenApiResponse(description="The pictures are not there in time; their job goes on."),
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Draw pictures and wait for them; with ``stream`` they come as events."""
        asked = read(request.data, self.user)
        place = waiting.Place(self.user)
        try:
            job = self._job(request, asked)
            if asked.stream:
                return _streamed(answers.Events(job, asked, request._request, place))
            answer = Response(answers.whole(job, asked, request._request))
        except BaseException:
            place.leave()
            raise
        place.leave()
        return answer

    def _job(self, request: Request, asked: ImagesRequest) -> Job:
        """A new job; or that of the same request, where the client says that it asks again."""
        key = repeats.key_in(request.headers)
        asks_again = key is None and request.headers.get("x-stainless-retry-count", "0") != "0"
        if asks_again and (before := repeats.sent_before(self.user, request.data)):
            return before
        job, _ = repeats.once(
            self.user, key, request.data, lambda **kept: Job.submit(self.user, **asked.job, **kept)
        )
        return job


def _streamed(events: answers.Events) -> StreamingHttpResponse:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(events, content_type="text/event-stream; charset=utf-8", headers=headers)


class FileView(OpenAIView):
    """For whoever has the address."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()

    @extend_schema(responses={(200, "image/*"): OpenApiTypes.BINARY}, auth=[])
    def get(self, request: Request, token: str) -> HttpResponse:
        content, content_type = files.at(token)
        return HttpResponse(content, content_type, headers={"Cache-Control": "private, max-age=3600"})


class FromTextOnly(OpenAIView):
    """Edits and variations. The body, a picture of any length, is not read."""

    ignores_body = True

    @extend_schema(request=None, responses={400: OpenApiResponse(description="Always.")})
    def post(self, request: Request) -> Response:
        raise ValidationError(
            "This studio draws from text only: it takes no picture to edit or to vary. "
            "Use /v1/images/generations.",
            "unsupported",
        )


class NothingHere(OpenAIView):
    """Any other address, so that clients are told so in words that they can show."""

    @extend_schema(exclude=True)
    def _nothing(self, request: Request, rest: str) -> Response:
        raise NotFound(f"There is no {request.method} /v1/{rest} here. {_ADDRESSES}")

    get = post = put = patch = delete = _nothing
