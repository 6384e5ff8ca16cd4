"""What a handler of the product would have written."""

import json
import logging
from typing import Any, Self

from operations import logs


class Kept(logging.Handler):
    """Keeps what is logged while it is used as a context; ``options``: of the formatter."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.formatter = logs.formatter(**options)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
