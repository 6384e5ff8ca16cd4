"""Which backend serves an engine on a card, and where the weights are: a table of real cards."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from gpu.devices import Device
from gpu.engines import ENGINES, EngineConfig, ModelFailed, Plan, Refusal, backends, create, plan
from gpu.model_size import FLUX_SCHNELL, ModelSize

GIB = 1024**3
DEMO = ModelSize.of(settings.FLUXSITE_MODEL)
T5 = "text_encoder_2"
BOTH = ("transformer", T5)

# Name, vendor, compute capability, GiB in all and GiB free on an idle card.
CARDS: dict[str, tuple[str, tuple[int, int] | None, float, float]] = {
    "GTX 1080 Ti": ("nvidia", (6, 1), 11.0, 10.5),
    "V100 32 GB": ("nvidia", (7, 0), 32.0, 31.4),
    "RTX 2080 Ti": ("nvidia", (7, 5), 10.8, 10.3),
    "T4": ("nvidia", (7, 5), 15.0, 14.6),
    "RTX 3060 12 GB": ("nvidia", (8, 6), 12.0, 11.5),
    "RTX 3090": ("nvidia", (8, 6), 24.0, 23.3),
    "RTX 4060 8 GB": ("nvidia", (8, 9), 8.0, 7.3),
    "RTX 4080": ("nvidia", (8, 9), 16.0, 15.3),
    "RTX 4090": ("nvidia", (8, 9), 24.0, 23.2),
    "RTX 5070 Ti": ("nvidia", (12, 0), 15.9, 15.2),
    "RTX 5090": ("nvidia", (12, 0), 31.8, 31.0),
    "A100 40 GB": ("nvidia", (8, 0), 40.0, 39.4),
    "A100 80 GB": ("nvidia", (8, 0), 80.0, 79.2),
    "H100": ("nvidia", (9, 0), 79.6, 79.0),
    "B200": ("nvidia", (10, 0), 179.0, 178.0),
    "GB10": ("nvidia", (12, 1), 119.0, 112.0),
    "MI300X": ("amd", None, 192.0, 191.0),
    "RX 7900 XTX": ("amd", None, 24.0, 23.2),
    "RX 7600": ("amd", None, 8.0, 7.5),
}


def card(name: str) -> Device:
    vendor, capability, total, free = CARDS[name]
    return Device(f"GPU-{name}", name, vendor, int(total * GIB), int(free * GIB), capability)


def cpu(free: float) -> Device:
    return Device("cpu", "CPU", "cpu", int(free * GIB), int(free * GIB))


HOST = cpu(120)


def planned(engine: str, name: str, nunchaku: bool = True, host: Device = HOST) -> Plan:
    chosen = plan(engine, card(name), host, FLUX_SCHNELL, nunchaku)
    assert isinstance(chosen, Plan), chosen
    assert chosen.need <= card(name).free
    return chosen


def refused(engine: str, device: Device, nunchaku: bool = True, host: Device = HOST) -> str:
    chosen = plan(engine, device, host, FLUX_SCHNELL, nunchaku)
    assert isinstance(chosen, Refusal), chosen
    return chosen.reason


@pytest.mark.parametrize(
    ("name", "precision", "offloaded", "four_bit_t5"),
    [
        ("RTX 2080 Ti", "int4", BOTH, False),
        ("T4", "int4", (T5,), False),
        ("RTX 3060 12 GB", "int4", ("transformer",), True),
        ("RTX 3090", "int4", (), False),
        ("RTX 4060 8 GB", "int4", ("transformer",), True),
        ("RTX 4080", "int4", (), True),
        ("RTX 4090", "int4", (), False),
        ("RTX 5070 Ti", "fp4", (), True),
        ("RTX 5090", "fp4", (), False),
        ("A100 40 GB", "int4", (), False),
        ("A100 80 GB", "int4", (), False),
        ("GB10", "fp4", (), False),
    ],
)
def test_fp4_is_nunchaku_where_it_has_kernels(
    name: str, precision: str, offloaded: tuple[str, ...], four_bit_t5: bool
) -> None:
    chosen = planned("fp4", name)
    assert (chosen.backend, chosen.precision) == ("nunchaku", precision)
    assert (chosen.offloaded, chosen.four_bit_t5) == (offloaded, four_bit_t5)
    assert chosen.note == ""


@pytest.mark.parametrize("nunchaku", [True, False])
@pytest.mark.parametrize(
    ("name", "offloaded"), [("H100", ()), ("B200", ()), ("MI300X", ()), ("RX 7900 XTX", ())]
)
def test_fp4_is_torchao_where_nunchaku_has_none(
    name: str, offloaded: tuple[str, ...], nunchaku: bool
) -> None:
    chosen = planned("fp4", name, nunchaku)
    assert (chosen.backend, chosen.precision) == ("torchao", "nvfp4 weight-only")
    assert (chosen.offloaded, chosen.four_bit_t5, chosen.note) == (offloaded, False, "")


@pytest.mark.parametrize(
    ("name", "offloaded"), [("RTX 4090", ()), ("RTX 4080", (T5,)), ("RTX 5090", ()), ("A100 40 GB", ())]
)
def test_fp4_is_torchao_where_nunchaku_is_not_installed_and_says_so(
    name: str, offloaded: tuple[str, ...]
) -> None:
    chosen = planned("fp4", name, nunchaku=False)
    assert (chosen.backend, chosen.offloaded) == ("torchao", offloaded)
    assert "nunchaku would be faster" in chosen.note
    assert "requirements-fp4.txt" in chosen.note


@pytest.mark.parametrize("name", ["RTX 2080 Ti", "T4", "RTX 4060 8 GB", "RTX 3060 12 GB"])
def test_a_card_too_small_for_torchao_is_told_of_nunchaku(name: str) -> None:
    reason = refused("fp4", card(name), nunchaku=False)
    assert f"{CARDS[name][3]} GiB of GPU memory" in reason
    assert "requirements-fp4.txt" in reason


@pytest.mark.parametrize(
    ("name", "offloaded"),
    [
        ("T4", BOTH),
        ("RTX 3060 12 GB", BOTH),
        ("RTX 3090", BOTH),
        ("RTX 4060 8 GB", BOTH),
        ("RTX 4080", BOTH),
        ("RTX 4090", BOTH),
        ("RTX 5090", (T5,)),
        ("A100 40 GB", ()),
        ("A100 80 GB", ()),
        ("H100", ()),
        ("B200", ()),
        ("GB10", ()),
        ("MI300X", ()),
        ("RX 7900 XTX", BOTH),
        ("RX 7600", BOTH),
    ],
)
def test_bf16_is_resident_where_it_fits_and_offloaded_where_not(
    name: str, offloaded: tuple[str, ...]
) -> None:
    chosen = planned("bf16", name)
    assert (chosen.backend, chosen.precision, chosen.offloaded) == ("diffusers", "bf16", offloaded)


def test_bf16_on_turing_needs_room_for_the_scores_of_attention() -> None:
    assert "emulation" in planned("bf16", "T4").note
    assert planned("bf16", "T4").need - planned("bf16", "RTX 4080").need == pytest.approx(4.7 * GIB, rel=0.01)
    reason = refused("bf16", card("RTX 2080 Ti"))
    assert "11.3 GiB" in reason
    assert "10.3 GiB of GPU memory" in reason


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["GTX 1080 Ti", "V100 32 GB"])
def test_a_gpu_that_pytorch_left_behind_is_refused(engine: str, name: str) -> None:
    major, minor = CARDS[name][1] or (0, 0)
    assert f"this GPU has {major}.{minor}" in refused(engine, card(name))


def test_a_busy_card_gets_what_is_left() -> None:
    busy = Device("GPU-0", "RTX 5090", "nvidia", 32 * GIB, 8 * GIB, (12, 0))
    chosen = plan("bf16", busy, HOST, FLUX_SCHNELL, nunchaku=False)
    assert isinstance(chosen, Plan)
    assert chosen.offloaded == BOTH


def test_a_refusal_names_need_and_free_of_both_memories() -> None:
    tiny = Device("GPU-0", "GTX 1650", "nvidia", 4 * GIB, int(3.6 * GIB), (8, 6))
    assert refused("bf16", tiny) == (
        "The model needs 36.4 GiB of GPU memory, or 6.7 GiB and 35.0 GiB of host memory; "
        "3.6 GiB of GPU memory and 120.0 GiB of host memory are free."
    )


def test_offloading_needs_host_memory() -> None:
    assert planned("bf16", "RTX 5090", host=cpu(12)).offloaded == (T5,)
    assert "16.0 GiB of host memory are free" in refused("bf16", card("RTX 4090"), host=cpu(16))
    assert "4.0 GiB of host memory are free" in refused("fp4", card("RTX 4060 8 GB"), host=cpu(4))
    # Nothing is offloaded, so nothing is asked.
    assert planned("fp4", "RTX 4090", host=cpu(4)).offloaded == ()


@pytest.mark.parametrize(
    ("engine", "free", "backend", "need"),
    [("bf16", 40.0, "diffusers", 36.4), ("fp4", 24.0, "torchao", 20.6), ("fp4", 40.0, "torchao", 20.6)],
)
def test_a_cpu_draws_in_host_memory(engine: str, free: float, backend: str, need: float) -> None:
    chosen = plan(engine, cpu(free), cpu(free), FLUX_SCHNELL, nunchaku=True)
    assert isinstance(chosen, Plan)
    assert (chosen.backend, chosen.offloaded, chosen.note) == (backend, (), "")
    assert chosen.need / GIB == pytest.approx(need, abs=0.05)


@pytest.mark.parametrize(("engine", "need"), [("bf16", 36.4), ("fp4", 20.6)])
def test_a_cpu_with_too_little_memory_is_refused(engine: str, need: float) -> None:
    expected = f"The model needs {need} GiB of memory; 15.2 GiB are free."
    assert refused(engine, cpu(15.2), host=cpu(15.2)) == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("device", [cpu(1), card("RTX 2080 Ti"), card("RTX 4090"), card("H100")])
def test_the_demo_model_runs_anywhere_and_never_on_nunchaku(engine: str, device: Device) -> None:
    chosen = plan(engine, device, cpu(1), DEMO, nunchaku=True)
    assert isinstance(chosen, Plan)
    assert chosen.backend != "nunchaku"
    assert chosen.offloaded == ()


def test_more_loras_kept_ready_need_more_memory() -> None:
    roomy = plan("bf16", card("A100 40 GB"), HOST, FLUX_SCHNELL, nunchaku=False, adapters=6 * GIB)
    assert isinstance(roomy, Plan)
    assert roomy.offloaded == (T5,)


@pytest.mark.parametrize(
    ("name", "engine", "words"),
    [
        ("RTX 4080", "fp4", "nunchaku INT4, 4-bit T5, needs 14.5 GiB"),
        ("RTX 4060 8 GB", "fp4", "nunchaku INT4, 4-bit T5, transformer in host memory, needs 7.0 GiB"),
        ("H100", "fp4", "torchao NVFP4 weight-only, needs 20.6 GiB"),
        ("RTX 4090", "bf16", "diffusers BF16, transformer and T5 in host memory, needs 6.7 GiB"),
    ],
)
def test_a_plan_reads_well(name: str, engine: str, words: str) -> None:
    assert str(planned(engine, name)) == words


def test_every_rule_has_a_backend_and_every_engine_a_rule() -> None:
    assert {rule.backend for rule in backends._RULES} == set(backends.BACKENDS)
    assert {rule.engine for rule in backends._RULES} == set(ENGINES)


class Made:
    """In place of an engine, which would import torch."""

    def __init__(self, config: EngineConfig, chosen: Plan) -> None:
        self.config = config
        self.plan = chosen


def test_create_makes_the_engine_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.BACKENDS, "diffusers", f"{__name__}.Made")
    config = EngineConfig(settings.FLUXSITE_MODEL, 16)
    made: Any = create("bf16", config, cpu(8), cpu(8))
    assert made.config is config
    assert (made.plan.backend, made.plan.precision) == ("diffusers", "bf16")


def test_create_says_why_not() -> None:
    config = EngineConfig("black-forest-labs/FLUX.1-schnell", 256)
    with pytest.raises(ModelFailed, match=r"needs 36\.4 GiB of memory; 8\.0 GiB are free"):
        create("bf16", config, cpu(8), cpu(8))


def test_create_says_that_a_model_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="could not be loaded: transformer holds no safetensors file"):
        create("bf16", EngineConfig(str(tmp_path), 256), cpu(8), cpu(8))
