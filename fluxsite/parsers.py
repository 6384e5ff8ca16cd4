"""What the API reads."""

import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser

# JSON can name halves of characters (lone surrogates), which no database stores and no answer can hold;
# PostgreSQL stores no null character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_NULL = "Null characters are not allowed."
_SURROGATE = "Surrogate characters are not allowed: \\ud800 to \\udfff are halves of pairs. Send both."


class StrictJSONParser(JSONParser):
    """JSON of text that can be stored, nested as deeply as Python reads it.

    ``DATA_UPLOAD_MAX_MEMORY_SIZE`` bounds the size, in bytes. Raises ParseError, and ValidationError with the
    name of the field.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            body = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        for field, text in _texts(body):
            if found := _UNSTORABLE.search(text):
                reason = _NULL if found[0] == "\0" else _SURROGATE
                raise ValidationError({field or "non_field_errors": reason})
        return body


def _texts(body: Any) -> Iterator[tuple[str, str]]:
    """Each text of a body, names of fields too, with the path to it: ``loras.0.slug``."""
    rest: list[tuple[str, Any]] = [("", body)]
    while rest:
        field, value = rest.pop()
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, dict):
            for name, below in value.items():
                yield field, name
                rest.append((f"{field}.{_shown(name)}".strip("."), below))
        elif isinstance(value, list):
            rest += [(f"{field}.{place}".strip("."), below) for place, below in enumerate(value)]


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:80]
