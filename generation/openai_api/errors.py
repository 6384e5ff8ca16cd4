"""OpenAI's shape for whatever went wrong, and whether a client may ask again without making another job."""

from typing import Any

from drf_standardized_errors.handler import exception_handler
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from generation.models import Job

# The package asks again after these, and after all of 500 and above.
ASKED_AGAIN = {408, 409, 429}
# No job was made, and soon there may be room.
MAY_ASK_AGAIN = {"busy", "database_away", "queue_full", "throttled"}
# What was asked for cannot be drawn here; anything else is no fault of who asked.
ASKED_WRONG = {"lora", "size", "out_of_memory"}
_CODES = {"authentication_failed": "invalid_api_key", "not_authenticated": "invalid_api_key"}


class NotInTime(APIException):
    """The job is not over; it goes on."""

    status_code = status.HTTP_504_GATEWAY_TIMEOUT

    def __init__(self, job: Job, seconds: float, address: str) -> None:
        super().__init__(
            f"The picture is not there after {seconds:g} s. Its job goes on, and the picture will be in the "
            f"gallery: {address}",
            "timeout",
        )
        self.numbers = {"job": str(job.pk)}


class NoPicture(APIException):
    """The job is over, and went wrong."""

    def __init__(self, job: Job) -> None:
        if job.state == Job.State.CANCELLED:
            self.status_code = status.HTTP_409_CONFLICT
            super().__init__("The job was cancelled.", "cancelled")
        else:
            self.status_code = 400 if job.error_code in ASKED_WRONG else 500
            super().__init__(job.error, job.error_code)
        self.numbers = {"job": str(job.pk)}


def in_openai_shape(exc: Exception, context: Any) -> Response | None:
    """The API's own answer to ``exc``, in OpenAI's words."""
    response = exception_handler(exc, context)
    if response is None:  # with DEBUG Django shows the trace
        return None
    answer, code = response.data, response.data["errors"][0]["code"]
    error = shape(response.status_code, answer["errors"], getattr(exc, "param", None))
    response.data = {"error": error | {key: answer[key] for key in answer.keys() - {"type", "errors"}}}
    if _is_asked_again(response.status_code) and code not in MAY_ASK_AGAIN:
        response["x-should-retry"] = "false"
    return response


def shape(status_code: int, errors: list[dict[str, Any]], param: str | None = None) -> dict[str, Any]:
    """OpenAI's error of ours, ``code, detail, attr``; several become one message."""
    first = errors[0]
    return {
        "message": " ".join(_sentence(error) for error in errors),
        "type": _type(status_code),
        "param": first["attr"] or param,
        "code": _CODES.get(first["code"], first["code"]),
    }


def _sentence(error: dict[str, Any]) -> str:
    return f"{error['attr']}: {error['detail']}" if error["attr"] else str(error["detail"])


def _type(status_code: int) -> str:
    if status_code >= 500:
        return "server_error"
    return {403: "permission_error", 429: "rate_limit_error"}.get(status_code, "invalid_request_error")


def _is_asked_again(status_code: int) -> bool:
    return status_code in ASKED_AGAIN or status_code >= 500
