"""The API's answers to what went wrong, in one shape: ``type`` and ``errors`` of ``code, detail, attr``."""

import logging
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import Error, ErrorResponse
from rest_framework.exceptions import APIException

log = logging.getLogger(__name__)


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"


class DatabaseAway(APIException):
    status_code = 503
    default_code = "database_away"
    default_detail = "The database does not answer. Try again in some seconds."
    wait = 5


class ApiErrors(ExceptionHandler):
    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, (OperationalError, InterfaceError)):
            log.error("The database is away", exc_info=exc)
            return DatabaseAway()
        if isinstance(exc, RequestDataTooBig):
            return BodyTooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.")
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: APIException, response: Any) -> None:
        """What was raised to be the answer, such as 503 or 504, is no fault to look into."""
        if not isinstance(self.exc, APIException):
            super().report_exception(exc, response)


class FieldErrors(ExceptionFormatter):
    """Names the field itself where the whole field is wrong: ``loras``, not ``loras.non_field_errors``."""

    def format_error_response(self, error_response: ErrorResponse) -> Any:
        """With the numbers of what was too much, for programs: ``limit, used, asked``."""
        return super().format_error_response(error_response) | getattr(self.exc, "numbers", {})

    def get_errors(self) -> list[Error]:
        return [
            replace(error, attr=error.attr.removesuffix(".non_field_errors") if error.attr else error.attr)
            for error in super().get_errors()
        ]
