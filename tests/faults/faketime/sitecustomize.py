"""Goes before everything else in a Python whose clock is faked: put this directory on PYTHONPATH.

libfaketime 0.9.10 takes the deadline on the monotonic clock, which Python sleeps until, for one on the clock
that it fakes, and the sleep fails with EINVAL.
"""

import select
import time


def sleep(seconds: float, /) -> None:
    select.select([], [], [], seconds)


setattr(time, "sleep", sleep)  # noqa: B010 (mypy: the real one takes more than floats)
