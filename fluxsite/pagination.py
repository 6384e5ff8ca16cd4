"""Lists by cursor: a page costs the same at picture 50 and at picture 1,000,000."""

from typing import Any
from uuid import UUID

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

MAX_PAGE = 200


class NewestFirst(CursorPagination):
    """Newest first. Ids are UUIDv7, so their order is the order of time, and they are unique.

    A view may say ``page_ordering``: ``-place``, of the pictures of a search.
    """

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = MAX_PAGE
    cursor_query_description = "Where the page begins: taken from `next` or `previous`."
    page_size_query_description = f"Rows of a page, from 1 to {MAX_PAGE}."

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return (getattr(view, "page_ordering", self.ordering),)

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not (asked.isascii() and asked.isdecimal() and len(asked) <= 3 and 1 <= int(asked) <= MAX_PAGE):
            raise ValidationError({"limit": f"Use a whole number from 1 to {MAX_PAGE}."})
        return int(asked)

    def decode_cursor(self, request: Request) -> Any:
        """Where a cursor leads. One that nobody can have from us answers 404, and no server error."""
        try:
            cursor = super().decode_cursor(request)
            if cursor and cursor.position is not None:
                self._check(str(cursor.position))
        except ValueError:
            raise NotFound("This cursor is none of ours.") from None
        return cursor

    def _check(self, position: str) -> None:
        if self.ordering[0] != "-place":
            UUID(position)
        elif not 0 <= int(position) < 2**63:
            raise ValueError

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        cursor, limit = super().get_schema_operation_parameters(view)
        limit["schema"] |= {"minimum": 1, "maximum": MAX_PAGE, "default": self.page_size}
        return [cursor, limit]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": _address("Of the page with older rows; null on the last."),
                "previous": _address("Of the page with newer rows; null on the first."),
                "results": {**schema, "description": "The rows, newest first."},
            },
        }


def _address(description: str) -> dict[str, Any]:
    example = "http://localhost:8000/api/v1/jobs/?cursor=cD0wMTlh"
    return {
        "type": "string", "format": "uri", "nullable": True, "description": description, "example": example,
    }  # fmt: skip
