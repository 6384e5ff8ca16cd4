"""The API's schema: what drf-spectacular reads from the views, with errors, units and examples for each."""

import json
import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

_EXAMPLE = re.compile(r"\s*Example: (?P<example>.+)\Z", re.DOTALL)
_EVERYWHERE = {
    "400": "A field is wrong; the answer names it, with what is allowed.",
    "401": "No token, or none that counts.",
    "403": "The token lacks the scope, or it is for administrators.",
    "429": "Too much: of requests in a minute, of a quota, or of the queue. See Retry-After.",
    "503": "The database is away, or too many wait already. See Retry-After.",
}
_WITH_BODY = {"413": "The body is too large.", "415": "The body is no JSON."}
_WITH_PATH = {"404": "There is none of yours here."}


class ErrorSerializer(serializers.Serializer[Any]):
    """One thing that is wrong."""

    code = serializers.CharField(help_text='For programs. Example: "invalid"')
    detail = serializers.CharField(
        help_text='A sentence: what is wrong, and what is allowed. Example: "Use a whole number from 1 to 4."'
    )
    attr = serializers.CharField(
        allow_null=True, help_text='The field, a dot for each level; null: none. Example: "count"'
    )


class ErrorsSerializer(serializers.Serializer[Any]):
    """Every error of the API. Where something was too much, `limit`, `used` and `asked` are there, too."""

    type = serializers.ChoiceField(
        ("validation_error", "client_error", "server_error"), help_text="Whose fault it is."
    )
    errors = ErrorSerializer(many=True, help_text="All that is wrong.")  # type: ignore[assignment]


class OpenAIErrorSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(help_text='A sentence. Example: "n: Use a whole number from 1 to 4."')
    type = serializers.CharField(help_text='In OpenAI\'s words. Example: "invalid_request_error"')
    param = serializers.CharField(allow_null=True, help_text='The field; null: none. Example: "n"')
    code = serializers.CharField(help_text='For programs. Example: "invalid"')


class OpenAIErrorsSerializer(serializers.Serializer[Any]):
    """Every error below /v1/."""

    error = OpenAIErrorSerializer(help_text="What is wrong.")


class Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token: fx_…"}


class Schema(AutoSchema):
    """Takes “Example: …” from the end of each help text, and knows the errors of every operation."""

    def _get_serializer_field_meta(self, field: Any, direction: Any) -> Any:
        meta: Any = super()._get_serializer_field_meta(field, direction)  # type: ignore[no-untyped-call]
        if match := _EXAMPLE.search(meta.get("description", "")):
            meta["description"] = meta["description"][: match.start()]
            meta["example"] = json.loads(match["example"])
        return meta

    def get_tags(self) -> list[str]:
        return ["openai"] if self.path.startswith("/v1/") else super().get_tags()

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        shape = OpenAIErrorsSerializer if self.path.startswith("/v1/") else ErrorsSerializer
        for code, description in self._errors().items():
            known = bodies.get(code, {"description": description})
            if "content" not in known:
                of_error = self._get_response_for_code(shape, code, direction=direction)  # type: ignore[no-untyped-call]
                bodies[code] = of_error | {"description": known["description"] or description}
        return {code: bodies[code] for code in sorted(bodies)}

    def _errors(self) -> dict[str, str]:
        declared = {code: "" for code in self._declared() if code >= "4"}
        has_body = _WITH_BODY if self.method in ("POST", "PUT", "PATCH") else {}
        has_path = _WITH_PATH if "{" in self.path or self._is_list_view() else {}
        return {**declared, **_EVERYWHERE, **has_body, **has_path}

    def _declared(self) -> list[str]:
        responses = self.get_response_serializers()
        return (
            [str(code) for code in responses if isinstance(code, int)] if isinstance(responses, dict) else []
        )
