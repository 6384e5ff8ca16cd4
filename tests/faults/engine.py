"""The BF16 engine, as it is, with a fault where the prompt asks for one."""

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import PIL.Image
import torch
from django.conf import settings

from gpu.engines.bf16 import Bf16Engine
from gpu.engines.spec import Drawn, ImageSpec, OnStep

AT_STEP = 2
SLOW_STEP_SECONDS = 0.5
# Of a slow load: so long with Python's lock held, so that no heartbeat comes through, then so long without.
LOCKED_SECONDS, UNLOCKED_SECONDS = 2, 2
FOR_EVER = 10**6
KILL_LOADING = "kill-while-loading"


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(FOR_EVER)


def hang_with_lock(seconds: int = FOR_EVER) -> None:
    """Sleep in C without letting go of Python's lock: no other thread of the process runs."""
    ctypes.PyDLL(None).sleep(seconds)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def fail_device() -> None:
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


FAULTS: dict[str, Callable[[], None]] = {
    "kill-process": kill_process,
    "hang": hang,
    "hang-with-lock": hang_with_lock,
    "out-of-memory": out_of_memory,
    "device": fail_device,
    "slow": lambda: None,
}


def named_in(prompt: str) -> list[str]:
    return re.findall(r"fault:([a-z-]+)", prompt)


def fault_file(fault: str) -> Path:
    return Path(settings.VAR_DIR, "faults", fault)


def file_asks_for(fault: str) -> bool:
    return fault_file(fault).exists()


def kill_while_loading() -> None:
    """As often as a job has attempts; the file has a letter for each time."""
    file = fault_file(KILL_LOADING)
    if len(file.read_text()) < settings.FLUXSITE_MAX_ATTEMPTS:
        file.write_text(f"{file.read_text()}x")
        kill_process()


class FaultyBf16Engine(Bf16Engine):
    def _load_pipeline(self) -> Any:
        if file_asks_for("slow-load"):
            hang_with_lock(LOCKED_SECONDS)
            time.sleep(UNLOCKED_SECONDS)
        if file_asks_for(KILL_LOADING):
            kill_while_loading()
        return super()._load_pipeline()

    def _denoise(self, spec: ImageSpec, prompt: Any, on_step: OnStep) -> torch.Tensor:
        faults = named_in(spec.prompt)

        def step_done(step: int) -> None:
            if "slow" in faults:
                time.sleep(SLOW_STEP_SECONDS)
            on_step(step)
            if step == AT_STEP:
                for fault in faults:
                    FAULTS[fault]()
                if file_asks_for("freeze-while-drawing"):
                    freeze()

        return super()._denoise(spec, prompt, step_done)

    def generate(self, spec: ImageSpec, on_step: OnStep) -> Drawn:
        drawn = super().generate(spec, on_step)
        if file_asks_for("freeze-before-storing"):
            for image in drawn.images:
                _freeze_in_save(image)
        return drawn


def _freeze_in_save(image: PIL.Image.Image) -> None:
    """Freeze when ``image`` becomes a file: that is the last thing before it is stored."""
    save = image.save

    def freeze_and_save(*args: Any, **options: Any) -> None:
        freeze()
        save(*args, **options)

    setattr(image, "save", freeze_and_save)  # noqa: B010 (mypy: it is a method)


def freeze() -> None:
    """Stop the process until SIGCONT, while no thread of it locks the database: SQLite has one lock."""
    while any(_in_database(frame) for frame in _frames_of_other_threads()):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGSTOP)


def _frames_of_other_threads() -> list[FrameType]:
    return [frame for thread, frame in sys._current_frames().items() if thread != threading.get_ident()]


def _in_database(frame: FrameType | None) -> bool:
    """Whether a call of Django's ORM, or of a method that opens a transaction, is under way."""
    while frame:
        if "/django/db/" in frame.f_code.co_filename or frame.f_code.co_filename.endswith(
            "/generation/queue.py"
        ):
            return True
        frame = frame.f_back
    return False
