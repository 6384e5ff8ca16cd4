"""The devices of this machine, read without torch: NVIDIA's through NVML, AMD's through sysfs, and the CPU.

The slices of a GPU in MIG mode are not handled: such a GPU is listed as if it were whole.
"""

import logging
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

# NVIDIA's own nvidia-ml-py. The PyPI project called pynvml is another package.
import pynvml

log = logging.getLogger(__name__)

T = TypeVar("T")
_AMD = "0x1002"
_DRM = Path("/sys/class/drm")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """``id``: the GPU's UUID, or ``cpu``. Memory in bytes. ``capability``: NVIDIA's, such as (8, 9).

    ``utilisation`` (0 to 1) and ``celsius`` are None for the CPU, and where the driver does not tell.
    """

    id: str
    name: str
    vendor: str  # nvidia, amd or cpu
    total: int
    free: int
    capability: tuple[int, int] | None = None
    driver: str = ""
    utilisation: float | None = None
    celsius: int | None = None

    @property
    def sm(self) -> int:
        """The compute capability as one number, such as 89; 0 for what is not NVIDIA's."""
        major, minor = self.capability or (0, 0)
        return 10 * major + minor

    @property
    def environment(self) -> dict[str, str]:
        """With these variables, set before it starts, a process sees this device and no other."""
        if self.vendor == "amd":
            return {"ROCR_VISIBLE_DEVICES": self.id}
        return {"CUDA_VISIBLE_DEVICES": self.id if self.vendor == "nvidia" else ""}


def all_devices() -> list[Device]:
    """Every GPU, then the CPU, as they were a moment ago."""
    return [*nvidia(), *amd(), cpu()]


def find(device_id: str) -> Device:
    """The device called ``device_id``. Raises LookupError with a sentence that names those there are."""
    devices = {device.id: device for device in all_devices()}
    if device_id not in devices:
        raise LookupError(f"There is no device {device_id} here. There are: {', '.join(devices)}.")
    return devices[device_id]


def nvidia() -> list[Device]:
    """NVIDIA's GPUs; none where its driver is not there."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError as error:
        log.warning("NVIDIA's GPUs cannot be listed: %s", error)
        return []
    try:
        found = [_nvidia(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        log.warning("NVIDIA's GPUs cannot be counted: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()
    return [device for device in found if device]


def _nvidia(index: int) -> Device | None:
    """The GPU with this number. Written against nvidia-ml-py 13.615.71."""
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        total, free = _nvidia_memory(gpu)
        return Device(
            id=pynvml.nvmlDeviceGetUUID(gpu),
            name=pynvml.nvmlDeviceGetName(gpu),
            vendor="nvidia",
            total=total,
            free=free,
            capability=pynvml.nvmlDeviceGetCudaComputeCapability(gpu),
            driver=pynvml.nvmlSystemGetDriverVersion(),
            utilisation=_if_known(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
            celsius=_if_known(lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
        )
    except pynvml.NVMLError as error:
        # One GPU that fell off the bus does not hide the others.
        log.warning("NVIDIA's GPU %d cannot be read: %s", index, error)
        return None


def _nvidia_memory(gpu: Any) -> tuple[int, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
    except pynvml.NVMLError_NotSupported:
        # GB10 (DGX Spark, sm_121) shares the host's memory, and NVML says nothing of it.
        host = psutil.virtual_memory()
        return host.total, host.available
    return memory.total, memory.free


def _if_known(ask: Callable[[], T]) -> T | None:
    """What a GPU can be used without; some do not tell it."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def amd(drm: Path = _DRM) -> list[Device]:
    """AMD's GPUs, from the files that the kernel's amdgpu documentation describes."""
    cards = sorted(drm.glob("card*"), key=lambda card: (len(card.name), card.name))
    # card0-HDMI-A-1 and its like are connectors.
    return [_amd(card / "device") for card in cards if re.fullmatch(r"card\d+", card.name) and _is_amd(card)]


def _is_amd(card: Path) -> bool:
    return _text(card / "device" / "vendor") == _AMD and bool(_text(card / "device" / "mem_info_vram_total"))


def _amd(card: Path) -> Device:
    total = int(_text(card / "mem_info_vram_total"))
    return Device(
        # ROCR_VISIBLE_DEVICES takes this name. Older chips have no unique_id, only a place on the bus.
        id=f"GPU-{unique}" if (unique := _text(card / "unique_id")) else card.resolve().name,
        # Only some server cards tell their name.
        name=_text(card / "product_name") or f"AMD GPU {_text(card / 'device')}",
        vendor="amd",
        total=total,
        free=total - int(_text(card / "mem_info_vram_used") or 0),
        driver="amdgpu",
        utilisation=int(busy) / 100 if (busy := _text(card / "gpu_busy_percent")) else None,
        celsius=_amd_celsius(card),
    )


def _amd_celsius(card: Path) -> int | None:
    # temp1 to temp3, in thousandths; the first that answers, as not every card has all of them.
    answers = filter(None, map(_text, sorted(card.glob("hwmon/hwmon*/temp?_input"))))
    return next((round(int(answer) / 1000) for answer in answers), None)


def _text(path: Path) -> str:
    """The file's text; empty where there is none or the kernel does not give it."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def cpu() -> Device:
    """The CPU with the host's memory. A limit of a container is not seen."""
    memory = psutil.virtual_memory()
    return Device("cpu", _cpu_name(), "cpu", memory.total, memory.available)


def _cpu_name() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(_CPUINFO), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine() or "CPU"
