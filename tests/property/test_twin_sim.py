"""The simulated plant under any commands: states, conservation of parts, determinism."""

from functools import cache

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.config import built_in
from workshop_brain.model.plant import Plant
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.twin import world
from workshop_brain.twin.commands import (
    AbortJob,
    BreakUnit,
    Command,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
)
from workshop_brain.twin.devices import plant_devices
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.experiment import DEFAULT_START_NS
from workshop_brain.twin.sim import Field, PlantSim
from workshop_brain.units import NS_PER_S

FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
REASONS_OF = {
    UnitState.EXECUTE: {StopReason.NONE},
    UnitState.SUSPENDED: {StopReason.STARVED, StopReason.BLOCKED},
    UnitState.HELD: {
        StopReason.SETUP, StopReason.MICRO_STOP, StopReason.TOOL_CHANGE, StopReason.QUALITY_STOP,
        StopReason.NO_OPERATOR, StopReason.BREAKDOWN,
    },
    UnitState.ABORTED: {StopReason.BREAKDOWN},
    UnitState.IDLE: {StopReason.NO_JOB},
    UnitState.STOPPED: {StopReason.PLANNED_STOP},
}  # fmt: skip


@cache
def plant() -> Plant:
    return built_in().plant


@cache
def paths() -> tuple[str, ...]:
    return tuple(d.path for d in plant_devices(plant()))


def commands() -> st.SearchStrategy[Command]:
    path = st.integers(0, len(paths()) - 1).map(lambda k: paths()[k])
    seconds = st.integers(1, 7200).map(float)
    return st.one_of(
        st.builds(BreakUnit, path, seconds),
        st.builds(QualityStop, path, seconds),
        st.builds(OperatorAbsent, path, seconds),
        st.builds(RepairUnit, path),
        st.integers(1, 40).map(lambda n: AbortJob(f"W{n:05d}.soft")),
        st.integers(1, 40).map(lambda n: AbortJob(f"W{n:05d}.asm1")),
    )


def script() -> st.SearchStrategy[list[tuple[int, Command]]]:
    return st.lists(st.tuples(st.integers(1, 1200), commands()), max_size=6)


def play(sim: PlantSim, steps: list[tuple[int, Command]], *, slices: int = 1) -> None:
    for wait_s, command in steps:
        begin = sim.now_ns
        for k in range(1, slices + 1):
            sim.advance(begin + wait_s * NS_PER_S * k // slices)
        sim.command(command)


@FEW
@given(seed=st.integers(0, 2**31), steps=script())
def test_parts_are_never_lost_nor_in_two_places(
    seed: int, steps: list[tuple[int, Command]]
) -> None:
    sim = PlantSim(plant(), seed=seed, start_ns=DEFAULT_START_NS)
    play(sim, steps)
    w = sim._w
    feeder = {s for s, name in enumerate(sim.stations) if name[:2] in ("sh", "df", "cl", "vb")}
    main, side = [], []
    for s in range(w.stations):
        if w.st["piece"][s] >= 0:
            (side if s in feeder else main).append(int(w.st["piece"][s]))
    for b in range(w.buffers):
        row = w.bf[b]
        head, count, capacity = int(row["head"]), int(row["count"]), int(row["capacity"])
        assert 0 <= count <= capacity
        users = {int(u) for u in w.users[int(row["user0"]) : int(row["user1"])]}
        merge = any(w.st["second"][u] == b for u in users)
        held = [int(w.ring[int(row["first"]) + (head + k) % capacity]) for k in range(count)]
        (side if merge or users <= feeder else main).extend(held)
    free = set(w.free[: w.free_n].tolist())
    assert len(main) == len(set(main))
    assert set(main).isdisjoint(free)
    assert len(main) + len(free) == world.PIECES
    assert set(side) <= set(main)
    assert w.mismatch == 0


@FEW
@given(seed=st.integers(0, 2**31), steps=script())
def test_state_and_reason_always_agree(seed: int, steps: list[tuple[int, Command]]) -> None:
    sim = PlantSim(plant(), seed=seed, start_ns=DEFAULT_START_NS)
    for step in steps:
        play(sim, [step])
        for state, reason in zip(sim.state, sim.stop_reason, strict=True):
            assert StopReason(int(reason)) in REASONS_OF[UnitState(int(state))] or (
                state == UnitState.SUSPENDED
            )
        assert not np.any(sim.blocked & sim.starved)
        assert np.all(sim.wear <= 1.05)


@FEW
@given(seed=st.integers(0, 2**31), steps=script())
def test_states_of_a_device_never_overlap_and_counters_never_fall(
    seed: int, steps: list[tuple[int, Command]]
) -> None:
    sim = PlantSim(plant(), seed=seed, start_ns=DEFAULT_START_NS)
    state, processed = sim.state.copy(), sim.processed.copy()
    play(sim, steps)
    changes = sim.drain_changes()
    assert np.all(np.diff(changes.time_ns) >= 0)
    for device, field, value in zip(changes.device, changes.field, changes.value, strict=True):
        if field == Field.STATE:
            assert state[device] != value
            state[device] = int(value)
        elif field == Field.PROCESSED:
            assert value == processed[device] + 1
            processed[device] = int(value)
    np.testing.assert_array_equal(state, sim.state)
    total = sim._w.spent.sum(axis=1)[: sim._w.stations]
    since = sim._w.st["since"][: sim._w.stations]
    assert np.all(total == since - DEFAULT_START_NS)


@FEW
@given(seed=st.integers(0, 2**31), steps=script(), slices=st.integers(2, 7))
def test_same_seed_and_commands_give_the_same_plant_however_it_is_advanced(
    seed: int, steps: list[tuple[int, Command]], slices: int
) -> None:
    one = PlantSim(plant(), seed=seed, start_ns=DEFAULT_START_NS)
    two = PlantSim(plant(), seed=seed, start_ns=DEFAULT_START_NS)
    play(one, steps)
    play(two, steps, slices=slices)
    assert one.fingerprint() == two.fingerprint()


@given(
    seed=st.integers(-(2**31), 2**31),
    cause=st.integers(0, 100),
    entity=st.integers(0, 10**6),
    n=st.integers(-(10**9), 10**9),
)
def test_draws_lie_in_the_unit_interval(seed: int, cause: int, entity: int, n: int) -> None:
    assert 0.0 <= uniform(seed, cause, entity, n) < 1.0
