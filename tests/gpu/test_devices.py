"""NVML through a double that has the functions and signatures of nvidia-ml-py; AMD from a tree of files."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import psutil
import pynvml
import pytest

from gpu import devices
from gpu.devices import Device

GIB = 1024**3
UUID = "GPU-5d1d4d3c-8f4b-4f63-a7b4-4f0c1de4a001"
RTX_4090 = Device(
    UUID, "NVIDIA GeForce RTX 4090", "nvidia", 24 * GIB, 23 * GIB, (8, 9), "580.95.05", 0.73, 61
)  # fmt: skip


class Nvml:
    """A machine with ``gpus``. Where one is an error, asking for its handle raises it."""

    def __init__(self, gpus: list[Device | pynvml.NVMLError]) -> None:
        self.gpus = gpus
        self.started = 0
        self.cannot_count = False

    def nvmlInit(self) -> None:  # noqa: N802 (the names are NVML's)
        self.started += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.cannot_count:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        assert isinstance(index, int)
        if isinstance(gpu := self.gpus[index], pynvml.NVMLError):
            raise gpu
        return ("handle", index)

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return self._gpu(handle).name

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        return self._gpu(handle).id

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:  # noqa: N802
        return self._gpu(handle).capability or (0, 0)

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: Any = None) -> Any:  # noqa: N802
        gpu = self._gpu(handle)
        if not gpu.total:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return pynvml.c_nvmlMemory_t(gpu.total, gpu.free, gpu.total - gpu.free)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        if (busy := self._gpu(handle).utilisation) is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
        return pynvml.c_nvmlUtilization_t(round(100 * busy), 20)

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: Any) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        if (warm := self._gpu(handle).celsius) is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return warm

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.95.05"

    def _gpu(self, handle: Any) -> Device:
        assert self.started, "NVML was not initialised"
        assert handle[0] == "handle"
        gpu = self.gpus[handle[1]]
        assert isinstance(gpu, Device)
        return gpu


Machine = Callable[..., Nvml]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    def build(*gpus: Device | pynvml.NVMLError) -> Nvml:
        nvml = Nvml(list(gpus))
        for name in (name for name in vars(Nvml) if name.startswith("nvml")):
            # A name that pynvml lacks fails here, a wrong number of arguments when it is called.
            double = create_autospec(getattr(pynvml, name), side_effect=getattr(nvml, name))
            monkeypatch.setattr(pynvml, name, double)
        return nvml

    return build


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def fail_with(code: int) -> None:
        init = create_autospec(pynvml.nvmlInit, side_effect=pynvml.NVMLError(code))
        monkeypatch.setattr(pynvml, "nvmlInit", init)

    return fail_with


def test_a_gpu_is_read_from_nvml(machine: Machine) -> None:
    nvml = machine(RTX_4090)
    assert devices.nvidia() == [RTX_4090]
    assert RTX_4090.sm == 89
    assert nvml.started == 0


@pytest.mark.parametrize(
    "readings", [{"utilisation": 0.0, "celsius": None}, {"utilisation": None, "celsius": 61}]
)
def test_a_gpu_that_does_not_tell_how_busy_or_how_warm_it_is_is_there(
    machine: Machine, readings: dict[str, Any]
) -> None:
    quiet = replace(RTX_4090, **readings)
    machine(quiet)
    assert devices.nvidia() == [quiet]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_a_machine_without_nvidia_has_no_gpu_and_no_complaint(
    no_driver: Callable[[int], None], caplog: pytest.LogCaptureFixture, code: int
) -> None:
    no_driver(code)
    assert devices.nvidia() == []
    assert not caplog.records


def test_a_driver_that_does_not_answer_is_told(
    no_driver: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    no_driver(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with caplog.at_level(logging.WARNING):
        assert devices.nvidia() == []
    assert "cannot be listed" in caplog.text


def test_gpus_that_cannot_be_counted_are_none_for_now(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = machine(RTX_4090)
    nvml.cannot_count = True
    assert devices.nvidia() == []
    assert "cannot be counted" in caplog.text
    assert nvml.started == 0


def test_a_lost_gpu_does_not_hide_the_others(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    nvml = machine(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST), RTX_4090)
    assert devices.nvidia() == [RTX_4090]
    assert "GPU 0 cannot be read" in caplog.text
    assert nvml.started == 0


def test_a_gpu_that_shares_the_hosts_memory_has_the_hosts(machine: Machine) -> None:
    machine(Device("GPU-spark", "NVIDIA GB10", "nvidia", 0, 0, (12, 1)))
    (spark,) = devices.nvidia()
    assert spark.total == psutil.virtual_memory().total
    assert 0 < spark.free <= spark.total


@pytest.fixture
def drm(tmp_path: Path) -> Path:
    """sysfs of a machine with two AMD cards, an Intel one, and a connector."""

    def card(name: str, slot: str, **files: str) -> None:
        device = tmp_path / "devices" / slot
        device.mkdir(parents=True)
        for file, content in files.items():
            (device / file).parent.mkdir(parents=True, exist_ok=True)
            (device / file).write_text(content + "\n")
        (tmp_path / name).mkdir()
        (tmp_path / name / "device").symlink_to(device)

    memory = {"mem_info_vram_total": str(192 * GIB), "mem_info_vram_used": str(2 * GIB)}
    instinct = {
        "unique_id": "9246c3f1a0b1c2d3", "product_name": "AMD Instinct MI300X", "gpu_busy_percent": "7",
        "hwmon/hwmon4/temp2_input": "48600", "hwmon/hwmon4/temp3_input": "52000",
    }  # fmt: skip
    card("card10", "0000:83:00.0", vendor="0x1002", device="0x744c", **memory)
    card("card2", "0000:03:00.0", vendor="0x1002", device="0x74a1", **instinct, **memory)
    card("card0", "0000:00:02.0", vendor="0x8086")
    (tmp_path / "card2-HDMI-A-1").mkdir()
    (tmp_path / "card2-HDMI-A-1" / "device").symlink_to(tmp_path / "card2")
    return tmp_path


def test_amds_cards_are_read_from_sysfs(drm: Path) -> None:
    instinct, radeon = devices.amd(drm)
    assert instinct == Device(
        "GPU-9246c3f1a0b1c2d3", "AMD Instinct MI300X", "amd", 192 * GIB, 190 * GIB, None, "amdgpu", 0.07, 49
    )
    assert instinct.sm == 0
    assert (radeon.id, radeon.name) == ("0000:83:00.0", "AMD GPU 0x744c")
    assert (radeon.utilisation, radeon.celsius) == (None, None)


def test_amds_first_sensor_that_answers_tells_the_temperature(drm: Path) -> None:
    sensors = drm / "card2" / "device" / "hwmon" / "hwmon4"
    (sensors / "temp1_input").write_text("41000\n")
    assert devices.amd(drm)[0].celsius == 41
    (sensors / "temp1_input").write_text("\n")
    assert devices.amd(drm)[0].celsius == 49


def test_a_machine_without_graphics_has_no_amd(tmp_path: Path) -> None:
    assert devices.amd(tmp_path / "none") == []


def test_the_cpu_has_a_name_and_the_hosts_memory() -> None:
    cpu = devices.cpu()
    assert (cpu.id, cpu.vendor, cpu.capability) == ("cpu", "cpu", None)
    assert (cpu.utilisation, cpu.celsius) == (None, None)
    assert cpu.name
    assert 0 < cpu.free <= cpu.total == psutil.virtual_memory().total


@pytest.fixture
def one_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(RTX_4090)
    monkeypatch.setattr(devices, "amd", list)


@pytest.mark.usefixtures("one_gpu")
def test_the_cpu_comes_last() -> None:
    assert [device.id for device in devices.all_devices()] == [UUID, "cpu"]


@pytest.mark.usefixtures("one_gpu")
def test_a_device_is_found_by_its_id() -> None:
    assert devices.find(UUID) == RTX_4090
    assert devices.find("cpu").vendor == "cpu"


@pytest.mark.usefixtures("one_gpu")
def test_an_unknown_id_is_answered_with_those_there_are() -> None:
    with pytest.raises(LookupError, match=f"no device GPU-gone here. There are: {UUID}, cpu"):
        devices.find("GPU-gone")
