"""PlantSim: devices, commands, job lists, calendars, causes."""

from functools import cache

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.model.order import JobOrder, JobState
from workshop_brain.model.plant import Plant
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.twin.commands import (
    AbortJob,
    BreakUnit,
    ClearJob,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
    RevokeJob,
    StartJob,
    StoreJob,
)
from workshop_brain.twin.devices import DeviceClass, line_center, manual_places, operations
from workshop_brain.twin.experiment import DEFAULT_START_NS
from workshop_brain.twin.scenario import REFERENCE
from workshop_brain.twin.sim import Field, PlantSim
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

START = DEFAULT_START_NS
SOFT1 = "local/works/gears/soft/c1/soft1"
SOFT2 = "local/works/gears/soft/c1/soft2"
FUR1 = "local/works/heat/heat/c1/fur1"
STATION = "local/works/assembly/asm1/z2/st15"


@cache
def plant() -> Plant:
    return built_in().plant


def cold(seed: int = 1) -> PlantSim:
    return PlantSim(plant(), seed=seed, start_ns=START, warm=False)


def warm(seed: int = 1) -> PlantSim:
    return PlantSim(plant(), seed=seed, start_ns=START)


def soft_job(
    request: str = "R1", *, unit: str = SOFT1, product: str = "dct_a", quantity: int = 3,
    priority: int = 0, id: str = "",
) -> JobOrder:  # fmt: skip
    return JobOrder(
        id=id or f"{request}.soft",
        requests=((request, quantity),),
        work_center="soft",
        equipment=unit,
        product=product,
        program="",
        quantity=quantity,
        start_ns=START,
        end_ns=START + NS_PER_H,
        priority=priority,
    )


def load_job(requests: tuple[tuple[str, int], ...], product: str = "dct_a") -> JobOrder:
    quantity = sum(p for _, p in requests)
    return JobOrder(
        id="LOAD-1", requests=requests, work_center="heat", equipment=FUR1, product=product,
        program="", quantity=quantity, start_ns=START, end_ns=START + NS_PER_H,
    )  # fmt: skip


def index(sim: PlantSim, path: str) -> int:
    return next(d.index for d in sim.devices if d.path == path)


def test_the_line_has_153_devices_and_12164_points() -> None:
    counted = [d for d in cold().devices if d.counted]
    assert len(counted) == 153
    assert sum(d.points for d in counted) == 12_164
    assert 8 <= len({d.edge_node for d in counted}) <= 12
    assert all(len(d.path.split("/")) == 6 for d in cold().devices)


def main_stations(sim: PlantSim) -> list[int]:
    return [d.index for d in sim.devices if d.klass is DeviceClass.STATION]


def test_the_main_line_does_92_operations() -> None:
    sim = warm()
    stations = main_stations(sim)
    seen: set[str] = set()
    for _ in range(120):
        sim.advance(sim.now_ns + 10 * NS_PER_S)
        for number, d in enumerate(stations, 1):
            running = int(sim.operation[d])
            assert 0 <= running <= 2
            if running:
                seen.add(operations(number)[running - 1])
            else:
                assert sim.state[d] != UnitState.EXECUTE
    assert len(seen) == 92
    others = np.setdiff1d(np.arange(len(sim.devices)), stations)
    assert not sim.operation[others].any()


def test_two_operations_make_a_cycle() -> None:
    sim = warm()
    stations = main_stations(sim)
    sim.advance(sim.now_ns + 2 * NS_PER_H)
    cycles = sim.drain_cycles()
    main = np.isin(cycles.device, stations)
    first_ns = (cycles.switch_ns - cycles.start_ns)[main]
    length_ns = (cycles.end_ns - cycles.start_ns)[main]
    assert np.all((first_ns > 0) & (first_ns < length_ns))
    share = first_ns / length_ns
    means = [share[cycles.device[main] == d].mean() for d in stations]
    assert 0.3 < min(means) < 0.42
    assert 0.58 < max(means) < 0.7
    for d in stations:
        last = np.flatnonzero(main & (cycles.device == d))[-1]
        worked_s = sim.operation_s[d].sum()
        elapsed_s = (cycles.end_ns[last] - cycles.start_ns[last]) / NS_PER_S
        assert worked_s <= elapsed_s + 1e-6  # the rest is stops inside the cycle
    assert np.median(sim.operation_s[stations].sum(axis=1)) == pytest.approx(35.0, abs=4.0)
    assert not cycles.switch_ns[~main].any()


@pytest.mark.parametrize("running", [1, 2])
def test_a_stop_keeps_the_operation_in_which_it_came(running: int) -> None:
    sim = warm()
    working = (sim.operation == running) & (sim.state == UnitState.EXECUTE)
    d = int(np.flatnonzero(working)[0])
    sim.command(BreakUnit(sim.devices[d].path, 600))
    sim.advance(sim.now_ns + 599 * NS_PER_S)
    assert (sim.state[d], sim.operation[d]) == (UnitState.ABORTED, running)
    sim.advance(sim.now_ns + 100 * NS_PER_S)
    cycles = sim.drain_cycles()
    row = int(np.flatnonzero(cycles.device == d)[0])
    first_s = (cycles.switch_ns[row] - cycles.start_ns[row]) / NS_PER_S
    second_s = (cycles.end_ns[row] - cycles.switch_ns[row]) / NS_PER_S
    assert (first_s > 600, second_s > 600) == (running == 1, running == 2)


def test_the_operators_of_the_line_stand_at_stations_without_a_robot() -> None:
    line = line_center(plant())
    assert line is not None
    places = manual_places(line.units[0].operators)
    assert len(places) == len(set(places)) == 20
    sim = cold()
    staffed = {
        name: int(n)
        for name, n in zip(sim.stations, sim._st["operators"], strict=False)
        if name.startswith("st") and n
    }
    assert staffed == dict.fromkeys(places, 1)
    assert not set(places) & {d.host for d in sim.devices if d.klass is DeviceClass.ROBOT}
    assert manual_places(0) == ()


def test_operators_are_missing_at_line_stations_now_and_then() -> None:
    sim = warm()
    sim.advance(START + 5 * 24 * NS_PER_H)
    changes = sim.drain_changes()
    main = {d: sim.devices[d].id for d in main_stations(sim)}
    reasons = changes.field == Field.STOP_REASON
    missing: dict[int, list[float]] = {}
    begun: dict[int, int] = {}
    for device, t, value in zip(
        changes.device[reasons], changes.time_ns[reasons], changes.value[reasons], strict=True
    ):
        if value == StopReason.NO_OPERATOR:
            begun[int(device)] = int(t)
        elif int(device) in begun:
            length_s = (int(t) - begun.pop(int(device))) / NS_PER_S
            missing.setdefault(int(device), []).append(length_s)
    at_line = {main[d]: lengths for d, lengths in missing.items() if d in main}
    assert 1 <= sum(len(lengths) for lengths in at_line.values()) <= 15
    assert set(at_line) <= set(manual_places(20))
    lengths = [s for of_station in at_line.values() for s in of_station]
    assert all(0.5 * REFERENCE.absent_s - 1 < s < 1.5 * REFERENCE.absent_s + 1 for s in lengths)
    states = changes.value[
        np.isin(changes.device, [d for d in missing if d in main]) & (changes.field == Field.STATE)
    ]
    assert UnitState.HELD in states


def test_a_defect_of_a_main_station_names_its_operation() -> None:
    sim = warm()
    sim.advance(sim.now_ns + 8 * NS_PER_H)
    cycles = sim.drain_cycles()
    main = np.isin(cycles.device, main_stations(sim))
    assert not cycles.operation[cycles.ok].any()
    assert not cycles.operation[~main].any()
    assert set(cycles.operation[main & ~cycles.ok].tolist()) == {1, 2}


def test_a_stored_job_waits_until_it_is_started() -> None:
    sim = cold()
    assert sim.command(StoreJob(soft_job())) == ""
    sim.advance(START + NS_PER_MIN)
    assert sim.job_list("soft")[0].state is JobState.NOT_ALLOWED_TO_START
    assert sim.state[index(sim, SOFT1)] == UnitState.IDLE
    assert sim.command(StartJob("R1.soft")) == ""
    assert sim.job_list("soft")[0].state is JobState.RUNNING
    assert sim.state[index(sim, SOFT1)] == UnitState.EXECUTE
    assert sim.job(index(sim, SOFT1)) == "R1.soft"
    sim.advance(START + NS_PER_H)
    response = sim.response("R1.soft")
    assert response.state is JobState.ENDED
    assert response.good + response.scrap == 3
    assert START < response.end_ns < START + NS_PER_H


def test_storing_the_same_job_twice_is_accepted_once() -> None:
    sim = cold()
    assert sim.command(StoreJob(soft_job(), start=True)) == ""
    assert sim.command(StoreJob(soft_job(), start=True)) == ""
    assert len(sim.job_list("soft")) == 1
    assert "other content" in sim.command(StoreJob(soft_job(quantity=4), start=True))


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (soft_job(product="hyb_a"), "cannot run family 'hybrid'"),
        (soft_job(unit="local/works/gears/soft/c1/none"), "no unit"),
        (soft_job(product="car"), "no product 'car'"),
        (load_job((("R1", 200), ("R2", 150))), "at most 300"),
    ],
)
def test_a_job_that_cannot_run_is_refused_with_the_reason(job: JobOrder, words: str) -> None:
    assert words in cold().command(StoreJob(job, start=True))


def test_commands_for_unknown_things_are_refused() -> None:
    sim = cold()
    assert "no job 'x'" in sim.command(StartJob("x"))
    assert "no device 'x'" in sim.command(BreakUnit("x", 60))
    assert "must be > 0" in sim.command(BreakUnit(SOFT1, 0))


def test_the_lowest_priority_number_goes_first() -> None:
    sim = cold()
    sim.command(BreakUnit(SOFT1, 60))
    sim.command(StoreJob(soft_job("late", priority=2), start=True))
    sim.command(StoreJob(soft_job("first", priority=1), start=True))
    sim.advance(START + 2 * NS_PER_MIN)
    assert sim.response("first.soft").state is JobState.RUNNING
    assert sim.response("late.soft").state is JobState.ALLOWED_TO_START


def test_a_job_waits_for_the_pieces_of_the_step_before_and_their_transport() -> None:
    sim = cold()
    sim.command(StoreJob(load_job((("R1", 3),)), start=True))
    assert sim.state[index(sim, FUR1)] == UnitState.SUSPENDED
    sim.command(StoreJob(soft_job(), start=True))
    sim.advance(START + NS_PER_H)
    before, load = sim.response("R1.soft"), sim.response("LOAD-1")
    assert load.state is JobState.RUNNING
    assert load.start_ns == before.end_ns + 600 * NS_PER_S


def test_a_load_of_several_requests_starts_together_and_feeds_each() -> None:
    sim = cold()
    sim.command(StoreJob(soft_job("R1"), start=True))
    sim.command(StoreJob(soft_job("R2", unit=SOFT2), start=True))
    sim.command(StoreJob(load_job((("R1", 3), ("R2", 3))), start=True))
    sim.advance(START + 14 * NS_PER_H)
    assert sim.response("LOAD-1").state is JobState.ENDED
    assert sim.step_done("R1", "heat") == sim.step_done("R2", "heat") == 3


def test_a_changeover_takes_the_time_of_the_matrix() -> None:
    sim = cold()
    sim.command(StoreJob(soft_job("R1", priority=1), start=True))
    sim.command(StoreJob(soft_job("R2", product="dct_b", priority=2), start=True))
    sim.advance(START + 5 * NS_PER_H)
    assert sim.metrics()["setups"]["soft"] == 1
    assert sim.metrics()["setup_s"]["soft"] == 45 * 60
    first, second = sim.response("R1.soft"), sim.response("R2.soft")
    assert second.start_ns == first.end_ns
    assert second.end_ns > first.end_ns + 45 * NS_PER_MIN + 3 * 220 * NS_PER_S
    assert sim.family(SOFT1) == "ring"


def test_a_breakdown_stops_the_unit_and_repair_brings_it_back() -> None:
    sim = cold()
    sim.command(StoreJob(soft_job(), start=True))
    sim.advance(START + 100 * NS_PER_S)
    assert sim.command(BreakUnit(SOFT1, 3600)) == ""
    d = index(sim, SOFT1)
    assert (sim.state[d], sim.stop_reason[d]) == (UnitState.ABORTED, StopReason.BREAKDOWN)
    sim.advance(START + 10 * NS_PER_MIN)
    assert sim.command(RepairUnit(SOFT1)) == ""
    assert sim.state[d] == UnitState.EXECUTE
    assert sim.cycle_end_ns[d] > sim.now_ns


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (QualityStop(STATION, 120), StopReason.QUALITY_STOP),
        (OperatorAbsent(STATION, 120), StopReason.NO_OPERATOR),
    ],
)
def test_a_stop_holds_the_station_for_its_time(
    command: QualityStop | OperatorAbsent, reason: StopReason
) -> None:
    sim = warm()
    assert sim.command(command) == ""
    d = index(sim, STATION)
    assert (sim.state[d], sim.stop_reason[d]) == (UnitState.HELD, reason)
    sim.advance(sim.now_ns + 119 * NS_PER_S)
    assert sim.stop_reason[d] == reason
    sim.advance(sim.now_ns + 2 * NS_PER_S)
    assert sim.stop_reason[d] != reason


def test_a_broken_robot_holds_its_station() -> None:
    sim = warm()
    robot = next(d for d in sim.devices if d.id == "rob01")
    host = next(d for d in sim.devices if d.id == robot.host)
    sim.command(BreakUnit(robot.path, 600))
    assert sim.state[robot.index] == UnitState.ABORTED
    assert sim.state[host.index] == UnitState.HELD


def test_a_broken_station_starves_what_follows_and_blocks_what_comes_before() -> None:
    sim = warm()
    sim.command(BreakUnit(STATION, 3600))
    sim.advance(sim.now_ns + 50 * NS_PER_MIN)
    number = {d.id: d.index for d in sim.devices}
    assert sim.blocked[number["st14"]]
    assert sim.starved[number["st16"]]
    assert not sim.blocked[number["st16"]]


def test_abort_keeps_finished_pieces_and_clear_takes_the_job_off_the_list() -> None:
    sim = cold()
    sim.command(StoreJob(soft_job(quantity=50), start=True))
    sim.advance(START + NS_PER_H)
    assert "abort it first" in sim.command(ClearJob("R1.soft"))
    assert sim.command(AbortJob("R1.soft")) == ""
    response = sim.response("R1.soft")
    assert response.state is JobState.ABORTED
    assert 5 < response.good + response.scrap < 20
    assert sim.step_done("R1", "soft") == response.good
    assert sim.command(ClearJob("R1.soft")) == ""
    assert sim.job_list("soft") == []
    assert sim.state[index(sim, SOFT1)] == UnitState.IDLE


def test_a_start_can_be_revoked_while_the_job_waits() -> None:
    sim = cold()
    sim.command(StoreJob(load_job((("R1", 3),)), start=True))
    assert sim.command(RevokeJob("LOAD-1")) == ""
    assert sim.response("LOAD-1").state is JobState.NOT_ALLOWED_TO_START


def test_units_stop_when_their_calendar_is_closed_and_go_on_after() -> None:
    sim = warm()
    closed_from, closed_to = (
        plant().work_center("soft").calendar.closed(START, START + 24 * NS_PER_H)[0]
    )
    sim.advance((closed_from + closed_to) // 2)
    states = {int(s) for d, s in zip(sim.devices, sim.state, strict=True) if d.id.startswith("st")}
    assert states <= {UnitState.STOPPED, UnitState.ABORTED, UnitState.HELD}
    output = int(sim.processed.sum())
    sim.advance(closed_to + 10 * NS_PER_MIN)
    assert int(sim.processed.sum()) > output


def test_the_plant_starts_warm() -> None:
    sim = warm()
    running = {
        c.id: [r for r in sim.job_list(c.id) if r.state is JobState.RUNNING]
        for c in plant().work_centers
    }
    assert all(running.values())
    assert any(r.state is JobState.ENDED for r in sim.job_list("soft"))
    assert not any(
        r.state in (JobState.ALLOWED_TO_START, JobState.NOT_ALLOWED_TO_START)
        for c in plant().work_centers
        for r in sim.job_list(c.id)
    )
    assert (sim.state == UnitState.EXECUTE).sum() > 60
    assert sim.wear.max() > 0.5
    assert len(sim.drain_changes()) == 0


def test_changes_tell_the_whole_story() -> None:
    sim = warm()
    view = np.stack(
        [sim.state, sim.mode, sim.blocked, sim.starved, sim.processed, sim.defective,
         sim.stop_reason, sim.infeed_level]
    ).astype(float)  # fmt: skip
    jobs = [sim.job(d.index) for d in sim.devices]
    sim.advance(START + NS_PER_H)
    changes = sim.drain_changes()
    assert np.all(np.diff(changes.time_ns) >= 0)
    for device, field, value in zip(changes.device, changes.field, changes.value, strict=True):
        if field < Field.JOB:
            view[field, device] = value
        elif field == Field.JOB:
            jobs[device] = sim.texts[int(value)]
    now = np.stack(
        [sim.state, sim.mode, sim.blocked, sim.starved, sim.processed, sim.defective,
         sim.stop_reason, sim.infeed_level]
    )  # fmt: skip
    np.testing.assert_array_equal(view, now)
    assert jobs == [sim.job(d.index) for d in sim.devices]


def test_worn_tools_make_more_defects() -> None:
    sim = cold()
    for number, product in enumerate(
        ("dct_a", "dct_a", "dct_a", "dct_b", "edu_a", "edu_a", "dct_a", "dct_a"), 1
    ):
        unit = f"local/works/gears/soft/c1/soft{number}"
        job = soft_job(f"R{number}", unit=unit, product=product, quantity=10_000)
        assert sim.command(StoreJob(job, start=True)) == ""
    sim.advance(START + 20 * 24 * NS_PER_H)
    cycles = sim.drain_cycles()
    worn, fresh = cycles.wear > 0.7, cycles.wear < 0.4
    assert len(cycles) > 40_000
    assert (~cycles.ok[worn]).mean() > 1.5 * (~cycles.ok[fresh]).mean()


def test_text_codes_point_into_the_dictionary() -> None:
    sim = warm()
    sim.advance(START + 10 * NS_PER_MIN)
    cycles = sim.drain_cycles()
    assert sim.texts[0] == ""
    named = cycles.serial > 0
    assert named.any()
    assert all(sim.texts[code].startswith("TX") for code in cycles.serial[named])
    assert np.all(cycles.end_ns > cycles.start_ns)
