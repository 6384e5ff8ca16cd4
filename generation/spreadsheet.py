"""Tables as CSV for spreadsheets: UTF-8, comma, streamed; times of day in UTC (ISO 8601)."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.http import StreamingHttpResponse

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _Line:
    """Where ``csv`` writes to: it gives each line back."""

    def write(self, line: str) -> str:
        return line


def response(name: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """A download of this name; holds one row in memory."""
    answer = StreamingHttpResponse(lines(columns, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def lines(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """The header, then a line for each row."""
    write = csv.writer(_Line()).writerow
    yield write(columns)
    for row in rows:
        yield write([cell(value) for value in row])


def cell(value: Any) -> Any:
    """As it stands in the table. Text is never a formula; numbers stay numbers; nothing is empty."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
