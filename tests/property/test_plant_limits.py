"""Whatever a plant declares and whatever stands on its floor: the first plan and a repair hold."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.test_schedule_plant_limits import (
    M1,
    M2,
    NOW,
    SHARED,
    UPKEEP,
    orders,
    plant,
)

from workshop_brain.autonomy.compute import planned_jobs, solve
from workshop_brain.autonomy.inputs import Inputs, pack, unpack
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.schedule.problem import PlantState, build
from workshop_brain.schedule.react import react
from workshop_brain.schedule.verify import verify
from workshop_brain.units import NS_PER_H, NS_PER_MIN

UNITS = st.sampled_from(["", ', tools = ["jig"]', ', skills = ["setter"]', ", power_kw = 9.0"])
CENTERS = st.sampled_from(["", 'setup_skills = ["setter"]', 'setup_tools = ["jig"]'])
STEPS = st.sampled_from(["", ', skills = ["washer"]', ', tools = ["jig"]'])
TIES = st.sampled_from(["", ", max_lag_s = 600", ', buffer = "lane"', ', skills = ["washer"]'])
SHIFT = SHARED.replace('["washer"]', '["washer"]\ncalendar = "early"')
SHARES = st.sampled_from([SHARED, SHIFT, SHARED + UPKEEP, SHIFT + UPKEEP])
BEGUN = st.sampled_from([JobState.ENDED, JobState.RUNNING, JobState.INTERRUPTED, JobState.UNKNOWN])


def on_the_floor(k: int, unit: str, state: JobState, minutes: int) -> tuple[JobOrder, JobResponse]:
    """A milling job of an order that began some minutes ago."""
    start = NOW - minutes * NS_PER_MIN
    end = NOW - minutes // 2 * NS_PER_MIN
    order = JobOrder(
        id=f"W{k}.mill", requests=((f"W{k}", 20),), work_center="mill", equipment=unit,
        product="pa" if k % 2 == 0 else "pb", program="a" if k % 2 == 0 else "b", quantity=20,
        start_ns=start, end_ns=end,
    )  # fmt: skip
    over = state is JobState.ENDED
    response = JobResponse(
        job=order.id, state=state, equipment=unit, good=20 if over else 5, start_ns=start,
        end_ns=end if over else 0,
    )  # fmt: skip
    return order, response


def one_at_a_time(rows: Any) -> tuple[tuple[JobOrder, JobResponse], ...]:
    """Jobs on the floor; a unit works on one, what else began there has ended."""
    busy: set[str] = set()
    out = []
    for k, (unit, state, minutes) in enumerate(rows):
        works = state in (JobState.RUNNING, JobState.INTERRUPTED)
        now = JobState.ENDED if works and unit in busy else state
        out.append(on_the_floor(k, unit, now, minutes))
        busy |= {unit} if works else set()
    return tuple(out)


FLOOR = st.lists(st.tuples(st.sampled_from([M1, M2]), BEGUN, st.integers(2, 90)), max_size=4).map(
    one_at_a_time
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(UNITS, CENTERS, STEPS, TIES, SHARES, FLOOR, st.sampled_from([M1, M2]))
def test_plans_of_declared_limits_hold(
    unit: str, center: str, mill: str, wash: str, shared: str, floor: Any, broken: str
) -> None:
    if "jig" in unit and "jig" in mill:
        mill = ""  # one fixture cannot be held twice
    of = plant(shared, UNIT=unit, CENTER=center, MILL=mill, WASH=wash)
    state = PlantState(jobs=floor, families={M1: "a", M2: "b"})
    problem = build(of, orders(6), state, NOW)
    inputs = Inputs(
        kind="build", problem=problem, previous=None, triggers=({"kind": "start"},), seed=1,
        iterations=60,
    )  # fmt: skip
    first = solve(inputs)
    plan = first.plans[0]
    assert verify(first.problem, plan) == []
    assert planned_jobs(first.problem, plan)
    assert pack(unpack(pack(inputs))) == pack(inputs)
    event = Event(
        time_ns=NOW + 10 * NS_PER_MIN, kind=EventKind.BREAKDOWN, path=broken,
        payload={"until_ns": NOW + NS_PER_H},
    )  # fmt: skip
    reaction = react(first.problem, plan, event, frozen_s=300, iterations=20)
    assert verify(reaction.problem, reaction.plan) == []
