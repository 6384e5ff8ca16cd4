"""What a job for each engine meets just now: for the form, and for the words of a waiting job."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.cache import cache

from generation.forecast import KEPT_SECONDS
from gpu.engines import ENGINES
from gpu.models import Mode, Pool, Worker

_KEY = "engine-states"


@dataclass(frozen=True)
class EngineState:
    """``state``, the best first: see ``ORDER``. ``load_seconds``: of the quickest load, if one is known.

    ``note``: for what its workers wait.
    """

    # Draws at once; has no model in memory; its workers wait; nobody takes jobs; there is no worker.
    ORDER = ("ready", "loads", "waits", "paused", "off")

    name: str
    state: str
    load_seconds: float | None = None
    note: str = ""


def engine_states() -> list[EngineState]:
    """Every engine's state; two seconds old at most, as many pages ask within a moment."""
    states: list[EngineState] | None = cache.get(_KEY)
    if states is None:
        states = _read()
        cache.set(_KEY, states, KEPT_SECONDS)
    return states


def state_of(engine: str) -> EngineState:
    return next(state for state in engine_states() if state.name == engine)


def best(states: Sequence[EngineState]) -> str:
    """The engine that would draw soonest."""
    return min(states, key=lambda state: state.ORDER.index(state.state)).name


def _read() -> list[EngineState]:
    pools = Pool.objects.in_bulk(ENGINES)
    alive: dict[str, list[Worker]] = {engine: [] for engine in ENGINES}
    for worker in Worker.objects.alive():
        alive.setdefault(worker.engine, []).append(worker)
    return [_state(engine, pools.get(engine, Pool()), alive[engine]) for engine in ENGINES]


def _state(engine: str, pool: Pool, alive: list[Worker]) -> EngineState:
    taking = [worker for worker in alive if worker.mode == pool.mode == Mode.RUN]
    able = [worker for worker in taking if worker.state != Worker.State.WAITING]
    if not alive:
        return EngineState(engine, "off")
    if not taking:
        return EngineState(engine, "paused")
    if not able:
        return EngineState(engine, "waits", note=taking[0].note)
    if any(worker.model for worker in able):
        return EngineState(engine, "ready")
    loads = [worker.load_seconds for worker in able if worker.load_seconds]
    return EngineState(engine, "loads", load_seconds=min(loads, default=None))
