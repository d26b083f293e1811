"""Speed and stops of units as measured, and plans that trust them."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.unit.test_app_watch import NOW, S, batch, watch_of
from tests.unit.test_autonomy_replay import planner, requests, task

from workshop_brain.app.pace import PaceMeter, planned_cycles
from workshop_brain.app.watch import Watch
from workshop_brain.autonomy.replay import replay
from workshop_brain.autonomy.state import LoopState
from workshop_brain.config import built_in, parse
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.production.pace import (
    FASTEST,
    LEAST_PIECES,
    SLOWEST,
    Pace,
    speed_factor,
    stop_risks,
)

PLANT = built_in().plant
SOFT = PLANT.work_center("soft")
UNIT, SIBLING = SOFT.units[0].path, SOFT.units[1].path
PRODUCT = next(p for p in PLANT.products if any(s.work_center == "soft" for s in p.routing))
CYCLE = PRODUCT.step("soft").seconds / SOFT.units[0].speed
H = 3600.0


def job(id: str, unit: str = UNIT) -> JobOrder:
    return JobOrder(
        id=id, requests=(("R", 500),), work_center="soft", equipment=unit, product=PRODUCT.id,
        program=PRODUCT.step("soft").family, quantity=500, start_ns=NOW, end_ns=NOW + S,
    )  # fmt: skip


def running(*ids: str) -> dict[str, dict[str, JobResponse]]:
    return {"soft": {id: JobResponse(job=id, state=JobState.RUNNING, equipment=UNIT) for id in ids}}


def counting(watch: Watch, ids: dict[str, int], gaps_s: list[float], first: int) -> Iterator[int]:
    """The unit finishes a piece after each gap; yields the instants."""
    at = NOW
    for k, gap in enumerate(gaps_s):
        at += round(gap * S)
        watch.on_samples(batch((ids[f"{UNIT}/prod_processed_count"], at, first + k)), at)
        yield at


def test_a_slow_unit_is_measured_on_pieces_of_its_job_whatever_its_stops() -> None:
    watch, ids = watch_of(UNIT)
    meter = PaceMeter(PLANT, watch)
    orders = {"J": job("J")}
    gaps = [CYCLE / 0.7] * 40
    gaps[7] = gaps[20] = 1800.0
    for n, at in enumerate(counting(watch, ids, gaps, 10)):
        meter.observe(at, running("J"), orders)
        if n < LEAST_PIECES:
            assert meter.now.speed == {}
    meter.observe(at + 300 * S, running("J"), orders)
    assert meter.now.speed == {UNIT: 0.7}
    # After eight hours without a piece nothing is known any more.
    meter.observe(at + 9 * 3600 * S, {}, orders)
    assert meter.now.speed == {}


def test_what_is_only_a_little_slower_is_as_usual() -> None:
    watch, ids = watch_of(UNIT)
    meter = PaceMeter(PLANT, watch)
    for at in counting(watch, ids, [CYCLE / 0.98] * 60, 1):
        meter.observe(at, running("J"), {"J": job("J")})
    meter.observe(at + 300 * S, running("J"), {"J": job("J")})
    assert meter.now == Pace()


def test_pieces_count_only_under_one_job() -> None:
    watch, ids = watch_of(UNIT)
    meter = PaceMeter(PLANT, watch)
    orders = {id: job(id) for id in "ABCDE"}
    names = [id for id in "ABCDE" for _ in range(9)]
    gaps = [CYCLE * (9.0 if k % 9 == 0 else 2.0) for k in range(45)]
    for name, at in zip(names, counting(watch, ids, gaps, 1), strict=True):
        meter.observe(at, running(name), orders)
    meter.observe(at + 300 * S, running("E"), orders)
    # Of nine pieces of a job the first came after a changeover and the second has no piece before.
    assert meter.now.speed == {UNIT: 0.5}
    unknown = PaceMeter(PLANT, watch)
    unknown.observe(at, running("X"), {})
    assert unknown.now == Pace()


def test_cycles_are_planned_for_running_jobs_of_known_orders() -> None:
    orders = {"J": job("J")}
    assert planned_cycles(PLANT, running("J"), orders) == {UNIT: (("J",), CYCLE)}
    assert planned_cycles(PLANT, running("J"), {}) == {}
    waiting = {"soft": {"J": JobResponse(job="J", state=JobState.ALLOWED_TO_START)}}
    assert planned_cycles(PLANT, waiting, orders) == {}


def test_stops_beyond_those_of_the_siblings_are_a_risk() -> None:
    watch, ids = watch_of(UNIT, SIBLING)
    state, reason = ids[f"{UNIT}/state_current"], ids[f"{UNIT}/stop_reason"]
    other = ids[f"{SIBLING}/state_current"]
    watch.on_samples(batch((other, NOW, UnitState.EXECUTE), (state, NOW, UnitState.EXECUTE)), NOW)
    for hour in (2, 5, 8):
        low, high = NOW + hour * 3600 * S, NOW + (hour + 1) * 3600 * S
        watch.on_samples(
            batch((state, low, UnitState.ABORTED), (reason, low, StopReason.BREAKDOWN)), low
        )
        watch.on_samples(
            batch((state, high, UnitState.EXECUTE), (reason, high, StopReason.NONE)), high
        )
    meter = PaceMeter(PLANT, watch)
    meter.observe(NOW + 12 * 3600 * S, {}, {})
    # 3 h of stops in 9 h of work, where the sibling has none; its 4 h of prior work beside.
    assert meter.now.risk == {UNIT: 0.25}


@pytest.mark.parametrize(
    ("delay", "work", "stops"),
    [
        ([3 * H, 0.0], [8 * H, 20 * H], [2, 0]),  # seen twice only
        ([3 * H, 0.0], [1 * H, 20 * H], [5, 0]),  # hardly worked
        ([3 * H, 0.0], [8 * H, 0.0], [5, 0]),  # nothing to compare with
        ([1 * H, 1 * H], [8 * H, 8 * H], [5, 5]),  # like the others
        ([3 * H], [8 * H], [5]),  # alone
    ],
)
def test_no_risk_without_evidence(delay: list[float], work: list[float], stops: list[int]) -> None:
    assert stop_risks(np.array(delay), np.array(work), np.array(stops)).max() == 0.0


def test_speeds_stay_within_bounds() -> None:
    assert speed_factor(np.full(50, 0.01)) == SLOWEST
    assert speed_factor(np.full(50, 9.0)) == FASTEST
    assert speed_factor(np.full(50, np.nan)) == 1.0


def test_a_measurement_at_the_edge_of_a_step_does_not_go_to_and_fro() -> None:
    found, now = [], 1.0
    for ratio in (0.93, 0.92, 0.93, 0.92, 0.915, 0.91, 0.93):
        now = speed_factor(np.full(40, ratio), now)
        found.append(now)
    assert found == [0.95, 0.95, 0.95, 0.95, 0.95, 0.9, 0.9]
    edge = (np.array([2.6 * H, 0.0]), np.array([8 * H, 20 * H]), np.array([5, 4]))
    assert stop_risks(*edge).tolist() == [0.2, 0.0]
    assert stop_risks(*edge, np.array([0.25, 0.0])).tolist() == [0.25, 0.0]


@pytest.mark.parametrize("pace", [Pace(speed={UNIT: 0.5}), Pace(risk={UNIT: 1.0})])
def test_a_plan_gives_a_slow_or_unsound_unit_less_work(pace: Pace) -> None:
    book = requests(24)
    brain = planner()
    usual = brain.work(task("build", LoopState(), requests=book))
    draft = brain.work(task("build", LoopState(), requests=book, pace=pace))

    def pieces(found: object) -> int:
        jobs = found.options[0].plan.jobs  # type: ignore[attr-defined]
        return sum(p.order.quantity for p in jobs if p.order.equipment == UNIT)

    assert pieces(draft) < pieces(usual)
    said = {m.id: m.params for m in draft.decision.reasons}
    assert said["reason.measured"]["unit"] == UNIT
    assert "reason.measured" not in {m.id for m in usual.decision.reasons}
    assert not draft.options[0].findings
    outcome = replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__)
    assert outcome.same, [row for row in outcome.rows if not row.same]


def test_a_problem_made_ready_is_not_used_once_a_unit_got_slow() -> None:
    brain = planner()
    plan = brain.work(task("build", LoopState())).options[0].plan
    state = LoopState(basis=plan)
    brain.prepare(task("react", state))
    slow = task("react", state, pace=Pace(speed={UNIT: 0.5}))
    assert brain._problem(slow).alt_duration.sum() > brain._problem(
        task("react", state)
    ).alt_duration.sum()  # fmt: skip


def test_a_plant_may_switch_measuring_off() -> None:
    head = "[[work_center]]\nid = 'm'\narea = 'a'\nunits = [{ id = 'm1' }]\n"
    assert parse(head, origin="x").planning.measured
    assert not parse("[planning]\nmeasured = false\n" + head, origin="x").planning.measured
