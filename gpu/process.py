"""Parents and children: nothing may go on headless."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(how: int = signal.SIGKILL) -> None:
    """Ask Linux to send this process ``how`` when its parent ends, however it ends. Call it in the child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)
