"""Receivers begin as soon as they can, so jobs that share tools or people are held back."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from tests.unit.test_autonomy_loop import NOW, U1, U2, config, order
from tests.unit.test_schedule_plant_limits import (
    M1,
    M2,
    SHARED,
    begin,
    orders,
    planner,
    plant,
    solved,
)

from workshop_brain.app.plans import read_plan, write_plan
from workshop_brain.autonomy.holds import holds
from workshop_brain.autonomy.release import may_go
from workshop_brain.autonomy.state import LoopState, Planned, PlanRef
from workshop_brain.model.order import JobResponse, JobState
from workshop_brain.schedule.objective import setups_of
from workshop_brain.schedule.problem import PlantState
from workshop_brain.units import NS_PER_S


def state(*planned: Planned, at_s: int = 0, **states: JobState) -> LoopState:
    jobs = {id: JobResponse(job=id, state=found) for id, found in states.items()}
    return LoopState(
        time_ns=NOW + at_s * NS_PER_S, in_force=PlanRef.of("P", planned), listed={"l1": jobs}
    )


def test_a_job_goes_out_when_its_time_has_come_and_the_tool_is_free() -> None:
    first = Planned(order=order("A", U1, 60))
    second = Planned(order=order("B", U2, 3660), from_ns=NOW + 3660 * NS_PER_S, behind=("A",))
    both = (first, second)
    assert may_go(config(), state(*both), first)
    for found in (JobState.ALLOWED_TO_START, JobState.RUNNING, JobState.INTERRUPTED):
        assert not may_go(config(), state(*both, at_s=4000, A=found), second)
    assert not may_go(config(), state(*both, at_s=4000), second)  # it has not even gone out
    assert not may_go(config(), state(*both, at_s=3000, A=JobState.ENDED), second)
    assert may_go(config(), state(*both, at_s=4000, A=JobState.ENDED), second)
    assert may_go(config(), state(*both, at_s=4000, A=JobState.ABORTED), second)
    assert may_go(config(), state(second, at_s=4000), second)  # A is in no plan any more


def test_work_with_one_fixture_follows_itself_from_machine_to_machine() -> None:
    problem, plan = solved(plant(UNIT=', tools = ["jig"]'), orders())
    live = list(range(problem.n_ops))
    held = holds(problem, plan, live)
    mills = [o for o in live if problem.machine_ids[plan.machine[o]] in (M1, M2)]
    mills.sort(key=lambda o: int(plan.start[o]))
    assert set(held) == set(mills)
    for before, after in pairwise(mills):
        if plan.machine[before] != plan.machine[after]:
            assert before in held[after].behind
        assert all(plan.end[p] <= plan.start[after] for p in held[after].behind)
        changed = setups_of(problem, plan)[after] > 0
        assert held[after].begin == (plan.setup_start if changed else plan.start)[after]
    assert held[mills[0]].behind == ()


def test_without_limits_nothing_is_held_back() -> None:
    problem, plan = solved(plant(""), orders())
    assert holds(problem, plan, list(range(problem.n_ops))) == {}


def test_a_changeover_waits_for_its_setter_and_a_maximum_lag_for_its_next_step() -> None:
    first = PlantState(families={M1: "a", M2: "a"})
    problem, plan = solved(plant(CENTER='setup_skills = ["setter"]'), orders(4, ["pb"]), first)
    held = holds(problem, plan, list(range(problem.n_ops)))
    changed = np.flatnonzero(setups_of(problem, plan)).tolist()
    assert sorted(held) == changed
    assert {held[o].begin for o in changed} == set(plan.setup_start[changed].tolist())
    problem, plan = solved(plant(WASH=", max_lag_s = 300"), orders(3, ["pa"]))
    held = holds(problem, plan, list(range(problem.n_ops)))
    assert {problem.op_ids[o] for o in held} == {f"W{k}.mill" for k in range(3)}


def test_skills_of_the_same_people_hold_each_other() -> None:
    few = SHARED.replace('["washer"]', '["welder"]')
    of = plant(few, UNIT=', skills = ["setter"]', WASH=', skills = ["washer"]')
    problem, plan = solved(of, orders(2, ["pa"]))
    held = holds(problem, plan, list(range(problem.n_ops)))
    wash = problem.op("W1.wash")
    assert {problem.op_ids[p] for p in held[wash].behind} >= {"W1.mill"}


def test_holds_are_part_of_the_plan_and_outlast_a_restart(tmp_path: Path) -> None:
    shop = plant(UNIT=', tools = ["jig"]')
    ref = planner(shop).work(replace(begin(), requests=orders(4))).options[0].plan
    assert any(p.behind for p in ref.jobs)
    assert all(p.from_ns for p in ref.jobs if p.order.work_center == "mill")
    write_plan(tmp_path, shop, ref, decision="D", in_force=True, time_ns=NOW)
    kept = read_plan(tmp_path)
    assert kept is not None
    assert kept[0].jobs == ref.jobs
