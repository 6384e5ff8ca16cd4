"""Which engine goes to which device, and that a slot has one worker at a time."""

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gpu import slots
from gpu.devices import Device
from gpu.engines import Plan, Refusal, plan
from gpu.model_size import FLUX_SCHNELL
from gpu.slots import Slot
from tests.gpu.engines.test_backends import HOST, card


def on(*names: str) -> list[str]:
    """What is allotted on a host with these cards and nunchaku, in words."""

    def plan_for(engine: str, device: Device) -> Plan | Refusal:
        return plan(engine, device, HOST, FLUX_SCHNELL, nunchaku=True)

    cards = [replace(card(name), id=f"GPU-{number}") for number, name in enumerate(names)]
    there = [*cards, HOST]
    return [f"{slot.engine} {slot.device.name}" for slot in slots.allot(there, plan_for)]


@pytest.mark.parametrize(
    ("cards", "allotted"),
    [
        ([], ["fp4 CPU", "bf16 CPU"]),
        (["GTX 1080 Ti"], ["fp4 CPU", "bf16 CPU"]),
        (["RTX 4060 8 GB"], ["fp4 RTX 4060 8 GB"]),
        (["RTX 4090"], ["fp4 RTX 4090"]),
        (["H100"], ["fp4 H100", "bf16 H100"]),
        (["RTX 4090", "RTX 5090"], ["fp4 RTX 4090", "bf16 RTX 5090"]),
        (["A100 80 GB", "RTX 4090"], ["bf16 A100 80 GB", "fp4 RTX 4090"]),
        (["RTX 2080 Ti", "RTX 2080 Ti"], ["fp4 RTX 2080 Ti", "fp4 RTX 2080 Ti"]),
    ],
)
def test_devices_are_allotted_by_what_they_can(cards: list[str], allotted: list[str]) -> None:
    assert on(*cards) == allotted


def test_of_eight_gpus_two_draw_in_bf16() -> None:
    allotted = on(*["H100"] * 8)
    assert len(allotted) == 8
    assert sorted(allotted) == ["bf16 H100"] * 2 + ["fp4 H100"] * 6


def test_devices_are_chosen_by_number_by_uuid_or_the_cpu() -> None:
    there = [card("RTX 4090"), card("RTX 5090"), HOST]
    assert [str(slot) for slot in slots.chosen("bf16", "1, GPU-RTX 4090,cpu", there)] == [
        "bf16 on RTX 5090 (GPU-RTX 5090)",
        "bf16 on RTX 4090 (GPU-RTX 4090)",
        "bf16 on CPU (cpu)",
    ]
    assert slots.chosen("fp4", "", there) == []
    with pytest.raises(LookupError, match=r"no device 2\. There are: 0 \(RTX 4090\), 1 \(RTX 5090\), cpu"):
        slots.chosen("fp4", "2", there)


def test_a_slot_shows_its_processes_one_device() -> None:
    assert Slot("fp4", card("RTX 4090")).environment == {
        "Q_CLUSTER_NAME": "fp4", "FLUXSITE_DEVICE": "GPU-RTX 4090", "CUDA_VISIBLE_DEVICES": "GPU-RTX 4090",
    }  # fmt: skip
    assert Slot("bf16", HOST).environment["CUDA_VISIBLE_DEVICES"] == ""
    assert Slot("fp4", card("MI300X")).environment["ROCR_VISIBLE_DEVICES"] == "GPU-MI300X"


def hold(folder: Path, says: Connection) -> None:
    def waits() -> bool:
        says.send("waits")
        return False

    held = slots.take(folder, "cpu", "bf16", waits)
    assert held
    says.send(os.getpid())
    says.poll(30)
    held.close()


def test_a_second_worker_waits_until_the_first_is_gone_however_it_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=hold, args=(tmp_path, pipe[1])) for pipe in pipes]
    workers[0].start()
    assert pipes[0][0].recv() == workers[0].pid
    workers[1].start()
    assert [pipes[1][0].recv() for _ in range(3)] == ["waits"] * 3
    workers[0].kill()
    assert next(said for said in iter(pipes[1][0].recv, None) if said != "waits") == workers[1].pid
    with slots.take(tmp_path, "cpu", "fp4") or pytest.fail("another slot is free") as other:
        assert other.name.endswith("fp4-cpu.lock")
    for worker in workers:
        worker.kill()
        worker.join()
        worker.close()


def test_a_worker_that_waits_for_a_slot_gives_up_when_it_is_told(tmp_path: Path) -> None:
    with slots.take(tmp_path, "cpu", "bf16") or pytest.fail("a free slot is not given"):
        told = iter([False, True])
        assert slots.take(tmp_path, "cpu", "bf16", lambda: next(told)) is None
    again = slots.take(tmp_path, "cpu", "bf16", lambda: True)
    assert again
    again.close()
