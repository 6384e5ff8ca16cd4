"""When a picture was made, as a whole number: what lists go by, and the key of SQLite's full text index."""

import secrets
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
# 41 bits of milliseconds reach to 2089; chance keeps pictures of the same millisecond apart.
_CHANCE_BITS = 22
LAST_MOMENT = 2**63 - 1


def new_moment() -> int:
    """Of a picture that is made now; at most 63 bits."""
    milliseconds = time.time_ns() // 1_000_000 - int(_EPOCH.timestamp() * 1000)
    return (milliseconds << _CHANCE_BITS) | secrets.randbits(_CHANCE_BITS)


def moment_at(when: datetime) -> int:
    """The least moment of pictures made at ``when`` or later."""
    return ((when - _EPOCH) // timedelta(milliseconds=1)) << _CHANCE_BITS


def made_at(moment: int) -> datetime:
    """When a picture of this moment was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=moment >> _CHANCE_BITS)
