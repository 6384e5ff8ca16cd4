"""Whether enough of a request has arrived that a thread need not wait for the rest.

This only decides when a thread takes a request. What the request means, gunicorn's parser alone decides: a
header that this module misreads costs a thread some waiting and nothing else.
"""

import re
from enum import Enum

from fluxsite.server import limits

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_BY_THE_VIEW = re.compile(rb"\r\n(transfer-encoding|expect)[ \t]*:", re.IGNORECASE)


class Arrived(Enum):
    PART = "wait for more"
    WHOLE = "a thread can serve it without waiting"
    HEADER = "the view reads the body while it arrives"
    TOO_LONG = "the header is longer than allowed"


class LookAhead:
    """The bytes of the next request of a connection."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.whole = 0  # the length of the request, once its header is complete

    def add(self, data: bytes) -> Arrived:
        searched = max(0, len(self.received) - len(_END))
        self.received += data
        if not self.whole:
            end = self.received.find(_END, searched)
            if end < 0 or end > limits.HEADER_BYTES:
                return Arrived.TOO_LONG if len(self.received) > limits.HEADER_BYTES else Arrived.PART
            header = bytes(self.received[: end + 2])
            length = sum(int(digits) for digits in _LENGTH.findall(header))
            if length > limits.WHOLE_BODY_BYTES or _BY_THE_VIEW.search(header):
                return Arrived.HEADER
            self.whole = end + len(_END) + length
        return Arrived.WHOLE if len(self.received) >= self.whole else Arrived.PART

    def take(self) -> bytes:
        data, self.received, self.whole = bytes(self.received), bytearray(), 0
        return data
