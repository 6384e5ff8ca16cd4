"""Slots: which engine runs on which device of this host, each in a worker process of its own."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gpu.devices import Device
from gpu.engines.backends import ENGINES, Plan, Refusal

log = logging.getLogger(__name__)

# How often a worker asks again for a slot that another process has.
POLL_SECONDS = 0.1
PlanFor = Callable[[str, Device], Plan | Refusal]
# Of many GPUs one in four draws in BF16, which is for the few pictures that are kept.
_GPUS_FOR_ONE_BF16 = 4


@dataclass(frozen=True)
class Slot:
    engine: str
    device: Device

    @property
    def environment(self) -> dict[str, str]:
        """What its processes must find before Python starts: then they see this device and no other."""
        return {
            "Q_CLUSTER_NAME": self.engine,
            "FLUXSITE_DEVICE": self.device.id,
            **self.device.environment,
        }

    def __str__(self) -> str:
        return f"{self.engine} on {self.device.name} ({self.device.id})"


def allot(devices: Sequence[Device], plan_for: PlanFor) -> list[Slot]:
    """The slots of a host that nobody has chosen. Without a GPU that can draw, both engines share the CPU."""

    def plans(engine: str) -> list[tuple[Device, Plan]]:
        chosen = [(gpu, plan_for(engine, gpu)) for gpu in gpus]
        return [(gpu, plan) for gpu, plan in chosen if isinstance(plan, Plan)]

    gpus = [device for device in devices if device.vendor != "cpu"]
    fp4, bf16 = dict(plans("fp4")), dict(plans("bf16"))
    if not fp4 and not bf16:
        return [Slot(engine, device) for device in devices if device.vendor == "cpu" for engine in ENGINES]
    if len(gpus) == 1:
        return _on_one(gpus[0], fp4.get(gpus[0]), bf16.get(gpus[0]))
    # BF16 gets those with the most memory; what it offloads least is best.
    best = sorted(bf16, key=lambda gpu: (len(bf16[gpu].offloaded), -gpu.free))
    exact = set(best[: max(1, len(gpus) // _GPUS_FOR_ONE_BF16)])
    slots = [Slot("bf16" if gpu in exact or gpu not in fp4 else "fp4", gpu) for gpu in gpus]
    return [slot for slot in slots if slot.device in (bf16 if slot.engine == "bf16" else fp4)]


def _on_one(gpu: Device, fp4: Plan | None, bf16: Plan | None) -> list[Slot]:
    """Both engines where they fit side by side, else FP4."""
    if fp4 and bf16 and fp4.need + bf16.need <= gpu.free:
        return [Slot("fp4", gpu), Slot("bf16", gpu)]
    return [Slot("fp4" if fp4 else "bf16", gpu)]


def chosen(engine: str, names: str, devices: Sequence[Device]) -> list[Slot]:
    """The slots of ``engine`` on the devices that ``names`` lists with commas: "0,2", a UUID, or "cpu".

    A number is NVIDIA's, as nvidia-smi shows it. Raises LookupError with a sentence.
    """
    return [Slot(engine, _named(name.strip(), devices)) for name in names.split(",") if name.strip()]


def _named(name: str, devices: Sequence[Device]) -> Device:
    numbered = {str(number): gpu for number, gpu in enumerate(d for d in devices if d.vendor != "cpu")}
    found = numbered.get(name) or next((device for device in devices if device.id == name), None)
    if found is None:
        there = [f"{number} ({gpu.name})" for number, gpu in numbered.items()]
        raise LookupError(f"There is no device {name}. There are: {', '.join([*there, 'cpu'])}.")
    return found


def take(
    folder: Path, device_id: str, engine: str, stops: Callable[[], bool] = lambda: False
) -> IO[str] | None:
    """Hold the slot until this process ends; waits while another process of this host has it.

    Returns None if ``stops`` says so meanwhile: a worker ignores signals, so nothing else ends the wait.
    Keep what it returns: the lock is the open file's, so the kernel frees it however the process ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{engine}-{device_id}.lock").open("a+")
    if not _is_locked(file):
        log.warning("Another worker has %s on %s; waiting until it stops", engine, device_id)
        while not _is_locked(file):
            if stops():
                file.close()
                return None
            time.sleep(POLL_SECONDS)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _is_locked(file: IO[str]) -> bool:
    """Whether this process has the lock now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
