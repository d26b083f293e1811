"""Flow of pieces, KPIs and the bottleneck guess."""

import math

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.production.bottleneck import guess, turning_point
from workshop_brain.production.flow import (
    layout,
    link_state,
    order_progress,
    rise,
    robust_takt_s,
    stated_layout,
    takt_goal_s,
)
from workshop_brain.production.kpi import loss_waterfall, oee, time_elements
from workshop_brain.production.states import StateLog, TimeClass, intervals, time_by_class
from workshop_brain.twin.devices import plant_devices

S = 1_000_000_000
H = 3600 * S


def test_oee_of_the_worked_example() -> None:
    """480 - 60 - 47 min, 1.0 s ideal, 19,271 total, 423 rejects (the classic OEE example)."""
    by_class = np.zeros(len(TimeClass), np.int64)
    by_class[TimeClass.PRODUCTION] = 373 * 60 * S
    by_class[TimeClass.BREAKDOWN] = 47 * 60 * S
    by_class[TimeClass.PLANNED_STOP] = 60 * 60 * S
    parts = oee(time_elements(by_class), pri_s=1.0, pq=19_271, gq=19_271 - 423)
    assert parts.availability == pytest.approx(0.88810, abs=5e-6)
    assert parts.effectiveness == pytest.approx(0.86108, abs=5e-6)
    assert parts.quality_ratio == pytest.approx(0.97805, abs=5e-6)
    assert parts.oee_index == pytest.approx(0.74794, abs=5e-6)
    assert parts.flags == ()


def test_oee_above_one_is_flagged_and_not_capped() -> None:
    by_class = np.zeros(len(TimeClass), np.int64)
    by_class[TimeClass.PRODUCTION] = 100 * S
    parts = oee(time_elements(by_class), pri_s=2.0, pq=60, gq=60)
    assert parts.effectiveness == 1.2
    assert parts.flags == ("effectiveness",)
    losses = loss_waterfall(by_class, pri_s=2.0, pq=60, gq=60)
    assert losses["speed"] == -20 * S


def test_oee_without_a_basis_is_nan() -> None:
    parts = oee(time_elements(np.zeros(len(TimeClass), np.int64)), pri_s=1.0, pq=0, gq=0)
    assert math.isnan(parts.oee_index)


def test_layout_of_the_reference_line() -> None:
    root = "local/works/assembly/asm1"
    paths = [f"{root}/z1/st{k:02d}" for k in (3, 1, 2, 10)]
    paths += [f"{root}/shafts/sh{k}" for k in (2, 1)]
    paths += [f"{root}/eol/leak{k}" for k in (1, 2)] + [f"{root}/eol/eol01"]
    paths += [f"{root}/z1/rob01", f"{root}/utilities/power", f"{root}/main/asm1"]
    found = layout("asm1", root, paths, frozenset({f"{root}/main/asm1"}))
    ids = [s.id for s in found.stations]
    assert ids[:6] == ["st01", "st02", "st03", "st10", "sh1", "sh2"]
    assert [found.stations[k].id for k in found.main] == ["st01", "st02", "st03", "st10"]
    by_id = {s.id: s for s in found.stations}
    assert "asm1" not in by_id
    assert by_id["sh1"].klass == "subassembly"
    assert [by_id[id].beside for id in ("st01", "leak1", "leak2", "eol01")] == [1, 2, 2, 1]
    assert by_id["rob01"].klass == "robot"
    assert not by_id["rob01"].in_flow
    assert by_id["power"].klass == "utility"
    links = {(ids[s], ids[t]) for k in found.links for s in k.sources for t in k.targets}
    assert ("st03", "st10") in links
    assert ("sh1", "sh2") in links
    assert ("st10", "sh1") not in links
    assert ("st10", by_id["leak1"].id) in links or ("st10", "eol01") in links


def test_a_stated_flow_is_followed_whatever_the_names_say() -> None:
    root = "local/works/assembly/asm1"
    names = ("z1/turn", "z1/wash", "z2/leak2", "z2/leak1", "z2/pack", "sub/gear9", "z1/rob1")
    flow = (
        (("wash",), ("turn",), ("leak1", "leak2"), ("pack",), ("gone",)),
        (("gear9",), ("turn",)),
    )
    found = stated_layout("asm1", root, [f"{root}/{n}" for n in names], frozenset(), flow)
    ids = [s.id for s in found.stations]
    assert ids == ["wash", "turn", "leak1", "leak2", "pack", "gear9", "rob1"]
    assert [ids[k] for k in found.main] == ["wash", "turn", "pack"]
    assert [
        ([ids[s] for s in k.sources], [ids[t] for t in k.targets], k.joins) for k in found.links
    ] == [
        (["wash"], ["turn"], False),
        (["turn"], ["leak1", "leak2"], False),
        (["leak1", "leak2"], ["pack"], False),
        (["gear9"], ["turn"], True),
    ]
    assert found.missing == ("gone",)
    assert [s.beside for s in found.stations] == [1, 1, 2, 2, 1, 1, 1]
    assert not found.stations[-1].in_flow


def test_every_place_of_the_reference_flow_is_a_device_of_the_twin() -> None:
    plant = built_in().plant
    paths = [d.path for d in plant_devices(plant) if d.counted]
    center = plant.work_center("asm1")
    found = stated_layout("asm1", "local/works/assembly/asm1", paths, frozenset(), center.flow)
    assert found.missing == ()
    assert sum(s.in_flow for s in found.stations) == 46 + 24 + 8 + 4 + 12
    assert sum(k.joins for k in found.links) == 4
    assert {s.klass: s.beside for s in found.stations if s.beside > 1} == {
        "leak_tester": 4, "oil_fill": 4, "eol_bench": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "blocked", "starved", "state"),
    [
        (0, False, True, "starved"),
        (5, True, False, "blocked"),
        (0, True, False, "ok"),
        (3, False, True, "ok"),
        (math.nan, True, False, "blocked"),
        (2, False, False, "ok"),
    ],
)
def test_link_state_needs_flag_and_level(
    level: float, blocked: bool, starved: bool, state: str
) -> None:
    assert link_state(level=level, blocked=blocked, starved=starved) == state


def test_rise_counts_across_a_reset_and_misses_nothing_missing() -> None:
    found = rise(np.array([10.0, 10.0, np.nan]), np.array([12.0, 3.0, 4.0]))
    assert found[:2].tolist() == [2.0, 3.0]
    assert np.isnan(found[2])


def test_takt_shrugs_off_a_stop() -> None:
    assert robust_takt_s(np.array([37.0, 36.0, 38.0, 37.0, 900.0, np.nan])) == 37.0
    assert math.isnan(robust_takt_s(np.array([37.0, np.nan])))


def test_takt_goal_is_the_planned_cycle() -> None:
    plant = built_in().plant
    assert takt_goal_s(plant, plant.work_center("asm1"), ["edu_a"]) == 36.0
    assert 36.0 <= takt_goal_s(plant, plant.work_center("asm1")) <= 40.0


def job(id: str, center: str, *requests: tuple[str, int]) -> JobOrder:
    return JobOrder(
        id=id, requests=requests, work_center=center, equipment="u", product="dct_a", program="p",
        quantity=sum(n for _, n in requests), start_ns=1, end_ns=2,
    )  # fmt: skip


def test_order_progress_shares_a_load_between_its_requests() -> None:
    plant = built_in().plant
    request = WorkRequest(id="A1", product="dct_a", quantity=100, due_ns=10)
    found = order_progress(
        request,
        plant,
        [
            (
                job("A1.soft", "soft", ("A1", 100)),
                JobResponse(job="A1.soft", state=JobState.ENDED, good=100),
            ),
            (
                job("LOAD-1", "heat", ("A1", 100), ("B", 200)),
                JobResponse(job="LOAD-1", state=JobState.RUNNING, good=150),
            ),
            (job("A1.hard", "hard", ("A1", 100)), None),
        ],
    )
    by_center = {s.work_center: s for s in found.steps}
    assert by_center["soft"].state is JobState.ENDED
    assert by_center["heat"].good == 50
    assert by_center["hard"].state is JobState.PLANNED
    assert by_center["asm1"].job == ""
    assert found.done == pytest.approx((1 + 0.5) / 5)


def test_turning_point_is_where_blocking_becomes_starving() -> None:
    blocked = np.array([0.30, 0.25, 0.20, 0.02, 0.00, 0.00])
    starved = np.array([0.00, 0.01, 0.02, 0.03, 0.25, 0.30])
    assert int(turning_point(blocked, starved).argmax()) == 3
    assert int(turning_point(starved[::-1], blocked[::-1]).argmax()) == 2
    assert turning_point(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]


def test_guess_finds_the_slow_station_and_grows_sure_with_time() -> None:
    def seen(hours: float) -> float:
        log = StateLog()
        cycles = round(hours * 60)
        for station in range(5):
            for k in range(cycles):
                start = k * 60 * S
                log.append(station, start, UnitState.EXECUTE, StopReason.NONE)
                if station != 2:
                    reason = StopReason.BLOCKED if station < 2 else StopReason.STARVED
                    log.append(station, start + 40 * S, UnitState.SUSPENDED, reason)
        found = log.intervals(5, 0, cycles * 60 * S)
        answer = guess(found, time_by_class(found, 5), np.arange(5, dtype=np.int32))
        assert answer is not None
        assert answer.station == 2
        assert answer.method == "both"
        assert answer.scores[2] == 1.0
        return answer.confidence

    assert seen(0.1) < seen(1.0) <= 1.0
    assert seen(1.0) > 0.6


def test_guess_without_observation_is_none() -> None:
    log = StateLog()
    found = log.intervals(3, 0, H)
    assert guess(found, time_by_class(found, 3), np.arange(3, dtype=np.int32)) is None


def test_state_log_ring_remembers_what_fell_out() -> None:
    log = StateLog(capacity=4)
    log.append(1, 5 * S, UnitState.HELD, StopReason.SETUP)
    for k in range(8):
        log.append(0, (10 + k) * S, UnitState.EXECUTE if k % 2 else UnitState.IDLE, StopReason.NONE)
    found = log.intervals(2, 0, 100 * S)
    mine = found.unit == 1
    assert found.state[mine].tolist() == [UnitState.UNKNOWN, UnitState.HELD]
    assert int((found.end_ns - found.start_ns)[mine].sum()) == 100 * S


def test_empty_window_has_no_intervals() -> None:
    none = np.empty(0, np.int64)
    found = intervals(
        none.astype(np.int32), none, none.astype(np.uint8), none.astype(np.uint8),
        units=3, from_ns=10, to_ns=10,
    )  # fmt: skip
    assert len(found) == 0
