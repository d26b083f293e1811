"""Signals of the simulated plant: their number, causes, noise and rate."""

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.model.state import UnitState
from workshop_brain.twin.points import COMMON_TAGS, device_points
from workshop_brain.twin.signals import PUBLISH_NS, Signals
from workshop_brain.twin.sim import PlantSim

MONDAY_NS = int(datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture(scope="module")
def plant() -> PlantSim:
    return PlantSim(built_in().plant, seed=3, start_ns=MONDAY_NS, warm=False)


def _running(plant: PlantSim, *, wear: float = 0.2) -> None:
    """Every device in the middle of a cycle: set on the arrays that signals read."""
    plant.state[:] = UnitState.EXECUTE
    plant.stop_reason[:] = 0


def test_the_plant_has_12164_signals(plant: PlantSim) -> None:
    signals = Signals(plant, seed=1)
    counted = [d for d in plant.devices if d.counted]
    assert len(counted) == 153
    assert signals.count + COMMON_TAGS * len(counted) == 12_164
    assert len(set(signals.path)) == signals.count
    assert sum(len(device_points(d)) for d in plant.devices) == 10_634


def test_every_signal_can_be_declared(plant: PlantSim) -> None:
    signals = Signals(plant, seed=1)
    for k in range(signals.count):
        SignalDef(
            path=f"local/{signals.path[k]}",
            kind=signals.kind[k],
            unit=signals.unit[k],
            low=float(signals.low[k]),
            high=float(signals.high[k]),
        )
    kinds = Counter(signals.kind)
    assert kinds[SignalKind.GAUGE] > 7000
    assert kinds[SignalKind.FLAG] > 2000


def test_values_repeat_with_seed_state_and_instant(plant: PlantSim) -> None:
    _running(plant)
    first = Signals(plant, seed=1).values(MONDAY_NS + 10**9).copy()
    again = Signals(plant, seed=1).values(MONDAY_NS + 10**9)
    other = Signals(plant, seed=2).values(MONDAY_NS + 10**9)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.isfinite(first).all()


def test_a_node_alone_has_the_same_values(plant: PlantSim) -> None:
    signals = Signals(plant, seed=1)
    all_values = signals.values(MONDAY_NS).copy()
    lone = Signals(plant, seed=1)
    for node in lone.nodes:
        alone = lone.values(MONDAY_NS, node)
        assert np.array_equal(alone[node.first : node.last], all_values[node.first : node.last])


def test_default_profile_gives_12000_to_15000_changes_a_second(plant: PlantSim) -> None:
    for state in (UnitState.EXECUTE, UnitState.IDLE):
        plant.state[:] = state
        signals = Signals(plant, seed=1)
        ticks, total = 24, 0
        for tick in range(1, ticks + 1):
            t_ns = MONDAY_NS + tick * PUBLISH_NS
            changed = sum(len(signals.report(n, t_ns, tick)[0]) for n in signals.nodes)
            total += changed if tick > 1 else 0
        assert 12_000 <= total / ((ticks - 1) * 0.25) <= 15_000


@pytest.mark.parametrize(("rate", "low", "high"), [(0.25, 2_500, 4_500), (4.0, 46_000, 60_000)])
def test_rate_scales_the_changes(plant: PlantSim, rate: float, low: float, high: float) -> None:
    plant.state[:] = UnitState.EXECUTE
    signals = Signals(plant, seed=1, rate=rate)
    ticks, total = 32 * signals.splits, 0
    for tick in range(1, ticks + 1):
        t_ns = MONDAY_NS + tick * PUBLISH_NS // signals.splits
        changed = sum(len(signals.report(n, t_ns, tick)[0]) for n in signals.nodes)
        total += changed if tick > 8 * signals.splits else 0
    assert low <= total / (24 * 0.25) <= high


def test_nothing_is_reported_twice_without_a_change(plant: PlantSim) -> None:
    signals = Signals(plant, seed=1)
    node = signals.nodes[0]
    signals.values(MONDAY_NS, node)
    signals.mark_reported(node)
    which, _ = signals.report(node, MONDAY_NS, 0)
    assert len(which) == 0


def test_values_are_whole_steps_of_their_resolution(plant: PlantSim) -> None:
    signals = Signals(plant, seed=1)
    value = signals.values(MONDAY_NS + 5 * 10**9)
    assert np.array_equal(np.rint(value * signals.scale) / signals.scale, value)
    assert all(v in (0.0, 1.0) for v in value[[k is SignalKind.FLAG for k in signals.kind]])


def test_wear_and_breakdown_show_in_the_signals() -> None:
    plant = PlantSim(built_in().plant, seed=3, start_ns=MONDAY_NS)
    plant.advance(MONDAY_NS + 120 * 10**9)
    signals = Signals(plant, seed=1)
    tool = next(k for k, p in enumerate(signals.path) if p.endswith("/st05/tool_life"))
    device = int(signals.device[tool])
    expected = np.rint(5000.0 * (1.0 - plant.wear[device]))
    assert signals.values(plant.now_ns)[tool] == expected
    safe = next(k for k, p in enumerate(signals.path) if p.endswith("/st05/safety_circuit_ok"))
    plant.state[device] = UnitState.ABORTED
    assert signals.values(plant.now_ns)[safe] == 0.0
    plant.state[device] = UnitState.EXECUTE
    assert signals.values(plant.now_ns)[safe] == 1.0


def test_rate_must_be_positive(plant: PlantSim) -> None:
    with pytest.raises(ValueError, match="rate must be > 0, got 0"):
        Signals(plant, seed=1, rate=0)


def test_a_main_station_tells_its_operation_and_how_long_each_took() -> None:
    plant = PlantSim(built_in().plant, seed=3, start_ns=MONDAY_NS)
    signals = Signals(plant, seed=1)
    row = {path.split("/", 4)[4]: k for k, path in enumerate(signals.path)}
    times = [name for name in row if name.split("/")[1].startswith("op") and "_time" in name]
    assert len(times) == 92
    for _ in range(20):
        plant.advance(plant.now_ns + 7 * 10**9)
        values = signals.values(plant.now_ns)
        running = plant.operation[signals.device[row["st05/operation"]]]
        assert values[row["st05/operation"]] == (80 + 10 * running if running else 0)
        parts = values[row["st05/op090_time"]], values[row["st05/op100_time"]]
        assert sum(parts) == pytest.approx(values[row["st05/cycle_time"]], abs=0.011)
        assert min(parts) > 10.0


def test_each_process_of_a_main_station_works_in_its_operation() -> None:
    plant = PlantSim(built_in().plant, seed=3, start_ns=MONDAY_NS)
    signals = Signals(plant, seed=1)
    row = {path.split("/", 4)[4]: k for k, path in enumerate(signals.path)}
    device = int(signals.device[row["st08/operation"]])
    most = {1: [0.0, 0.0], 2: [0.0, 0.0]}
    for _ in range(400):
        plant.advance(plant.now_ns + 10**9)
        values = signals.values(plant.now_ns)
        if plant.operation[device]:
            speeds = most[int(plant.operation[device])]
            for k in (0, 1):
                speeds[k] = max(speeds[k], abs(values[row[f"st08/spindle{k + 1}_speed"]]))
    assert most[1][0] > 500.0 > 5.0 > most[1][1]
    assert most[2][1] > 500.0 > 5.0 > most[2][0]
