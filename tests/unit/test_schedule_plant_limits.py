"""Limits declared in plant.toml: plans keep them, and wrong declarations are named."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from workshop_brain.app.plan_state import loads_planned
from workshop_brain.app.planner import Planner, Task
from workshop_brain.autonomy.inputs import unpack
from workshop_brain.autonomy.release import due
from workshop_brain.autonomy.replay import replay
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.autonomy.state import LoopConfig, LoopState
from workshop_brain.config import parse
from workshop_brain.errors import ConfigError
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.problem import PlantState, build
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.verify import verify
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

NOW = 1_800_000_000_000_000_000 // NS_PER_H * NS_PER_H
M1, M2 = (f"local/site/shop/mill/c1/{unit}" for unit in ("m1", "m2"))
WASH = "local/site/shop/wash/c1/w1"
SHARED = """
[[tool]]
id = "jig"
[[person]]
id = "li"
skills = ["setter", "washer"]
[[person]]
id = "wu"
skills = ["washer"]
[[buffer]]
id = "lane"
capacity = 1
[[calendar]]
id = "early"
windows = [{ days = [0, 1, 2, 3, 4, 5, 6], from = 360, to = 840 }]
"""
SHOP = """
[[work_center]]
id = "mill"
area = "shop"
families = ["a", "b"]
setup_min = [[0, 10], [10, 0]]
units = [{ id = "m1"{UNIT} }, { id = "m2"{UNIT} }]
transport_s = 60
{CENTER}
[[work_center]]
id = "wash"
area = "shop"
units = [{ id = "w1" }]
[[product]]
id = "pa"
routing = [
  { work_center = "mill", family = "a", seconds = 60{MILL} },
  { work_center = "wash", seconds = 30, after = ["mill"]{WASH} },
]
[[product]]
id = "pb"
routing = [{ work_center = "mill", family = "b", seconds = 60{MILL} }]
"""


def text(shared: str = SHARED, **parts: str) -> str:
    """The shop, with more in the places of ``UNIT``, ``CENTER``, ``MILL`` and ``WASH``."""
    shop = SHOP
    for name in ("UNIT", "CENTER", "MILL", "WASH"):
        shop = shop.replace(f"{{{name}}}", parts.get(name, ""))
    return shared + shop


def plant(shared: str = SHARED, **parts: str) -> Plant:
    return parse(text(shared, **parts), origin="x.toml").plant


def orders(n: int = 6, products: Sequence[str] = ("pa", "pb")) -> tuple[WorkRequest, ...]:
    return tuple(
        WorkRequest(
            id=f"W{k}", product=products[k % len(products)], quantity=20,
            due_ns=NOW + (k + 1) * 20 * NS_PER_MIN,
        )
        for k in range(n)
    )  # fmt: skip


def solved(of: Plant, requests: Sequence[WorkRequest], state: PlantState | None = None) -> Any:
    problem = build(of, requests, state or PlantState(), NOW)
    plan = improve(problem, construct(problem), iterations=200, seed=1, stable=False).plan
    assert verify(problem, plan) == []
    return problem, plan


def spans(problem: Problem, plan: Plan, machines: Sequence[str]) -> list[tuple[int, int]]:
    rows = np.flatnonzero([problem.machine_ids[m] in machines for m in plan.machine])
    return sorted((int(plan.start[o]), int(plan.end[o])) for o in rows)


def overlaps(rows: Sequence[tuple[int, int]]) -> bool:
    return any(b[0] < a[1] for a, b in pairwise(rows))


def test_a_shared_fixture_is_in_use_on_one_of_two_machines_only() -> None:
    free, plain = solved(plant(), orders())
    assert overlaps(spans(free, plain, (M1, M2)))
    problem, plan = solved(plant(UNIT=', tools = ["jig"]'), orders())
    assert not overlaps(spans(problem, plan, (M1, M2)))
    assert {v.kind for v in verify(problem, plain)} == {"tool"}


def planner(of: Plant) -> Planner:
    config = LoopConfig(
        lines=("mill", "wash"), autonomy=AutonomySettings(), envelope=EnvelopeSettings(),
        units={M1: "mill", M2: "mill", WASH: "wash"},
    )  # fmt: skip
    return Planner(of, config, react_iterations=50, improve_iterations=500)


def begin() -> Task:
    return Task(
        kind="build", token=3, time_ns=NOW, state=LoopState(), requests=orders(), orders={},
        down={}, material={}, triggers=({"kind": "start", "path": "", "time_ns": NOW},),
    )  # fmt: skip


def test_the_planner_keeps_the_fixture_and_replays() -> None:
    brain, task = planner(plant(UNIT=', tools = ["jig"]')), begin()
    first = brain.work(task)
    state = LoopState(basis=first.options[0].plan)
    trigger = {"kind": "breakdown", "path": M1, "time_ns": NOW}
    down = {M1: NOW + NS_PER_H}
    repair = brain.work(replace(task, kind="react", state=state, down=down, triggers=(trigger,)))
    for draft in (first, repair):
        assert not draft.options[0].findings
        jobs = [p.order for p in draft.options[0].plan.jobs if p.order.work_center == "mill"]
        assert not overlaps(sorted((o.start_ns, o.end_ns) for o in jobs))
        limits = unpack(draft.data).problem.limits
        assert limits is not None
        assert [tool.id for tool in limits.tools] == ["jig"]
        assert replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__).same


def test_work_that_fits_into_no_shift_is_left_out_and_named() -> None:
    shift = SHARED.replace('skills = ["washer"]', 'skills = ["night"]\ncalendar = "early"')
    shop = plant(shift, WASH=', skills = ["night"]')
    long = replace(orders(1, ["pa"])[0], id="LONG", quantity=2000)  # 17 h of washing, 8 h a shift
    draft = planner(shop).work(replace(begin(), requests=(*orders(4), long)))
    planned = {p.order.id for p in draft.options[0].plan.jobs}
    assert not {id for id in planned if id.startswith("LONG")}
    assert {f"W{k}.mill" for k in range(4)} <= planned
    assert not draft.options[0].findings
    (why,) = [m for m in draft.decision.reasons if m.id.startswith("schedule.left_")]
    assert why.id == "schedule.left_no_place"
    assert why.params["job"] == "LONG"
    assert "night" in why.params["needs"]
    assert replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__).same


def test_a_step_may_need_what_its_unit_does_not() -> None:
    problem, _ = solved(plant(MILL=', tools = ["jig"]'), orders())
    assert problem.limits is not None
    mills = {problem.op(f"W{k}.mill") for k in range(6)}
    assert {o for o, _, _ in problem.limits.op_needs} == mills
    assert problem.limits.machine_needs == ()


def test_one_setter_changes_over_one_machine_at_a_time() -> None:
    of = plant(CENTER='setup_skills = ["setter"]')
    state = PlantState(families={M1: "a", M2: "a"})
    problem, plan = solved(of, orders(4, ["pb"]), state)
    first = [int(plan.setup_start[plan.machine == problem.machine(m)].min()) for m in (M1, M2)]
    assert abs(first[0] - first[1]) >= 600
    _, plain = solved(plant(), orders(4, ["pb"]), state)
    assert len(set(plain.start[plain.start < 1200].tolist())) == 1


def test_people_work_in_their_shift_only() -> None:
    shift = SHARED.replace('skills = ["setter", "washer"]', 'skills = ["setter"]')
    shift = shift.replace('skills = ["washer"]', 'skills = ["washer"]\ncalendar = "early"')
    of = plant(shift, WASH=', skills = ["washer"]')
    problem, plan = solved(of, orders(6, ["pa"]))
    for low, high in spans(problem, plan, (WASH,)):
        day = [(problem.time_ns(t) // NS_PER_S) % 86_400 // 60 for t in (low, high - 1)]
        assert all(360 <= minute < 840 for minute in day)


def test_a_maximum_lag_holds() -> None:
    of = plant(WASH=", max_lag_s = 300")
    problem, plan = solved(of, orders(6, ["pa"]))
    gaps = [
        int(plan.start[problem.op(f"W{k}.wash")] - plan.end[problem.op(f"W{k}.mill")])
        for k in range(6)
    ]
    assert all(60 <= gap <= 300 for gap in gaps)


def test_a_full_buffer_blocks_the_machine_before_it() -> None:
    free, plain = solved(_slow_wash(plant()), orders(6, ["pa"]))
    problem, plan = solved(_slow_wash(plant(WASH=', buffer = "lane"')), orders(6, ["pa"]))
    kinds = {v.kind for v in verify(problem, replace(plain, setup_start=plain.start))}
    assert kinds
    assert kinds <= {"buffer", "blocking"}
    ends = [int(p.end[q.op("W5.mill")]) for q, p in ((free, plain), (problem, plan))]
    assert ends[0] < ends[1]


def _slow_wash(of: Plant) -> Plant:
    products = tuple(
        replace(
            product,
            routing=tuple(
                replace(s, seconds=240.0) if s.work_center == "wash" else s for s in product.routing
            ),
        )
        for product in of.products
    )
    return replace(of, products=products)


def finished(id: str, minutes: int) -> tuple[JobOrder, JobResponse]:
    """The milling job of an order, which ended some minutes ago."""
    end = NOW - minutes * NS_PER_MIN
    order = JobOrder(
        id=f"{id}.mill", requests=((id, 20),), work_center="mill", equipment=M1, product="pa",
        program="a", quantity=20, start_ns=end - 20 * NS_PER_MIN, end_ns=end,
    )  # fmt: skip
    response = JobResponse(
        job=order.id, state=JobState.ENDED, equipment=M1, good=20,
        start_ns=order.start_ns, end_ns=end,
    )  # fmt: skip
    return order, response


def test_a_lot_whose_last_step_has_ended_is_still_under_its_maximum_lag() -> None:
    requests = orders(5, ["pa"])
    state = PlantState(jobs=(finished("W4", 2),), families={M1: "a", M2: "a"})
    of = plant(WASH=", max_lag_s = 300")
    problem, plan = solved(of, requests, state)
    o = problem.op("W4.mill")
    assert problem.op_status[o] == OpStatus.DONE
    assert plan.start[problem.op("W4.wash")] <= 180
    late = replace(plan, start=plan.start.copy(), end=plan.end.copy())
    wash = problem.op("W4.wash")
    late.start[wash], late.end[wash] = 90_000, 90_600
    assert "max_lag" in {v.kind for v in verify(problem, late)}
    # Without a tie it is left out, and one that is late already does not stop the plant.
    assert "W4.mill" not in build(plant(), requests, state, NOW).op_ids
    gone = PlantState(jobs=(finished("W4", 20),), families={M1: "a", M2: "a"})
    problem, plan = solved(of, requests, gone)
    assert plan.start[problem.op("W4.wash")] >= 0


def test_a_lot_of_ended_work_takes_its_place_in_the_buffer() -> None:
    requests = orders(5, ["pa"])
    newer = PlantState(jobs=(finished("W3", 40), finished("W4", 10)), families={M1: "a", M2: "a"})
    of = plant(WASH=', buffer = "lane"')
    problem, plan = solved(of, requests, newer)
    assert problem.limits is not None
    tied = {problem.op_ids[p] for p, _, _ in problem.limits.buffered}
    assert {"W3.mill", "W4.mill"} <= tied
    assert verify(problem, right_shift(problem, plan)) == []


def tariff(until: int, price: float) -> str:
    """Power for a cent, but dearer each day from midnight until a minute."""
    days = "days = [0, 1, 2, 3, 4, 5, 6]"
    window = f"{{ {days}, from = 0, to = {until}, price = {price} }}"
    return f"{SHARED}[tariff]\nprice = 0.01\nwindows = [{window}]\n"


def test_power_is_drawn_when_it_is_cheap() -> None:
    of = plant(tariff(600, 9000.0), UNIT=", power_kw = 50.0")
    requests = [replace(r, due_ns=NOW + 40 * NS_PER_H) for r in orders(4, ["pb"])]
    problem, plan = solved(of, requests)
    assert problem.limits is not None
    assert problem.limits.power_kw == (50.0, 50.0, 0.0)
    assert {price for _, price in problem.limits.tariff} == {0.01, 9000.0}
    minutes = [
        (problem.time_ns(t) // NS_PER_S) % 86_400 // 60
        for low, high in spans(problem, plan, (M1, M2))
        for t in (low, high - 1)
    ]
    assert all(minute >= 600 for minute in minutes)
    always = plant(tariff(1440, 5.0), UNIT=", power_kw = 50.0")
    flat = build(always, requests, PlantState(), NOW)
    assert flat.limits is not None
    assert flat.limits.tariff == ((0, 5.0),)


def test_a_plant_without_limits_has_none() -> None:
    problem = build(plant("", UNIT=", power_kw = 3.0"), orders(), PlantState(), NOW)
    assert problem.limits is None


STEP = "product[0].routing"


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"UNIT": ', tools = ["jug"]'}, "units[0].tools: no tool 'jug'; did you mean 'jig'?"),
        ({"CENTER": 'setup_skills = ["weld"]'}, "work_center[0].setup_skills: no skill 'weld'"),
        ({"MILL": ", tools = { jig = 2 }"}, f"{STEP}[0].tools: needs 2 of 'jig', there are 1"),
        ({"MILL": ", tools = { jig = 0 }"}, f"{STEP}[0].tools.jig: must be > 0"),
        (
            {"MILL": ', tools = ["jig"]', "UNIT": ', tools = ["jig"]'},
            f"{STEP}[0]: needs 2 of 'jig' with its unit, there are 1",
        ),
        ({"MILL": ", max_lag_s = 60"}, f"{STEP}[0].max_lag_s: no step is before"),
        ({"WASH": ", max_lag_s = -1"}, f"{STEP}[1].max_lag_s: must be >= 0"),
        (
            {"WASH": ", max_lag_s = 30"},
            f"{STEP}[1].max_lag_s: transport and transit from 'mill' alone take 60 s, got 30",
        ),
        ({"MILL": ', buffer = "lane"'}, f"{STEP}[0].buffer: no step is before"),
        ({"WASH": ', buffer = "line"'}, f"{STEP}[1].buffer: no buffer 'line'; did you mean"),
        ({"UNIT": ", power_kw = -3"}, "work_center[0].units[0].power_kw: must be >= 0"),
    ],
)
def test_wrong_limits_are_named(parts: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        parse(text(**parts), origin="x.toml")


SKILLS = ", ".join(f"'s{k}'" for k in range(7))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("[[tool]]\nid = 'jig'", "tool[1].id: 'jig' is taken by tool[0]"),
        ("[[tool]]\nid = 'x'\nquantity = 0", "tool[1].quantity: must be > 0"),
        ("[[tool]]\nid = 'x'\ncalendar = 'late'", "tool[1].calendar: no calendar 'late'"),
        ("[[tool]]\nid = 'setter'", "person: 'setter' is a skill and a tool"),
        ("[[person]]\nid = 'bo'", "person[2].skills: is empty"),
        (f"[[person]]\nid = 'bo'\nskills = [{SKILLS}]", "at most 6 may, name fewer"),
        ("[[buffer]]\nid = 'x'", "buffer[1].capacity is missing"),
        ("[[buffer]]\nid = 'x'\ncapacity = -1", "buffer[1].capacity: must be >= 0"),
        ("[tariff]", "tariff.price is missing"),
        ("[tariff]\nprice = -1", "tariff.price: must be >= 0"),
        (
            "[tariff]\nprice = 1\nwindows = [{ days = [0], from = 0, to = 60 }]",
            "tariff.windows[0].price is missing",
        ),
    ],
)
def test_wrong_tools_people_and_prices_are_named(more: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        parse(text(f"{SHARED}{more}\n"), origin="x.toml")


def test_buffers_stand_between_machines() -> None:
    batch = text(WASH=', buffer = "lane"').replace(
        'id = "wash"', 'id = "wash"\nkind = "batch"\ncapacity = 9'
    )
    with pytest.raises(ConfigError, match="'wash' is of kind batch"):
        parse(batch, origin="x.toml")


UPKEEP = """
[[maintenance]]
id = "grease"
unit = "m1"
minutes = 30
earliest = 2027-01-15T09:00:00Z
latest = 2027-01-15T13:00:00Z
"""
GREASE = "UPKEEP-grease"


def test_maintenance_goes_where_it_suits_within_its_time() -> None:
    """NOW is 08:00 on 15 January 2027, UTC."""
    problem, plan = solved(plant(UPKEEP), orders(12))
    o = problem.op(GREASE)
    assert plan.start[o] >= 3600
    assert plan.end[o] == plan.start[o] + 1800 <= 5 * 3600
    assert problem.machine_ids[plan.machine[o]] == M1
    assert not overlaps(spans(problem, plan, (M1,)))
    late = replace(plan, start=plan.start.copy(), end=plan.end.copy())
    late.start[o], late.end[o] = 90_000, 91_800
    assert "deadline" in {v.kind for v in verify(problem, late)}


def test_maintenance_is_in_the_problem_while_its_time_is_near() -> None:
    for earliest, latest in (("2027-01-30", "2027-02-01"), ("2027-01-10", "2027-01-12")):
        far = UPKEEP.replace("2027-01-15T09", f"{earliest}T09").replace(
            "2027-01-15T13", f"{latest}T13"
        )
        problem = build(plant(far), orders(), PlantState(), NOW)
        assert GREASE not in problem.op_ids
        assert problem.limits is None


def test_the_plan_in_force_says_what_maintenance_is_done() -> None:
    brain = planner(plant(UPKEEP))
    first = brain.work(begin())
    grease = first.options[0].plan.index[GREASE].order
    assert grease.requests == ()
    assert loads_planned(first.options[0].plan).keys() == {"mill", "wash"}
    ref = first.options[0].plan
    states = {
        (grease.start_ns + grease.end_ns) // 2: OpStatus.RUNNING,
        grease.end_ns + NS_PER_MIN: None,
    }
    for now, status in states.items():
        state = LoopState(time_ns=now, in_force=ref, basis=ref)
        draft = brain.work(replace(begin(), kind="react", time_ns=now, state=state))
        problem = unpack(draft.data).problem
        assert (GREASE in problem.op_ids) == (status is not None)
        assert status is None or problem.op_status[problem.op(GREASE)] == status
        assert (problem.limits is None) == (status is None)
        again = draft.options[0].plan
        assert again.index[GREASE].order.start_ns == grease.start_ns
        assert again.index[GREASE].order.end_ns == grease.end_ns
        assert not draft.options[0].findings
        assert replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__).same
    ahead = replace(LoopState(in_force=ref), time_ns=grease.start_ns, listed={"mill": {}})
    sent = {p.order.id for p in due(brain.config, ahead, "mill").dispatch}
    assert sent
    assert GREASE not in sent
    after = [p for p in ref.jobs if p.order.equipment == M1 and p.order.start_ns >= grease.end_ns]
    assert all(p.from_ns > 0 for p in after)


@pytest.mark.parametrize(("minutes", "is_done"), [(0, True), (5, True), (25, False)])
def test_maintenance_is_not_done_while_the_unit_works(minutes: int, is_done: bool) -> None:
    begin_ns = NOW - 40 * NS_PER_MIN
    order, response = finished("W0", 0)
    response = replace(
        response,
        start_ns=begin_ns - 30 * NS_PER_MIN,
        end_ns=begin_ns + minutes * NS_PER_MIN,
    )
    state = PlantState(
        jobs=((order, response),), upkeep={GREASE: (begin_ns, begin_ns + 30 * NS_PER_MIN)}
    )
    early = UPKEEP.replace("2027-01-15T09", "2027-01-15T06")
    problem = build(plant(early), orders(), state, NOW)
    assert (GREASE in problem.op_ids) == (not is_done)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('unit = "m1"', 'unit = "m9"', "maintenance[0].unit: no unit 'm9'"),
        ("minutes = 30", "minutes = 0", "maintenance[0].minutes: must be > 0"),
        ("latest = 2027-01-15T13:00:00Z", "", "maintenance[0].latest is missing"),
        ("2027-01-15T13:00:00Z", '"soon"', "maintenance[0].latest: must be a date and time like"),
        (
            "2027-01-15T13",
            "2027-01-15T09",
            "maintenance[0].latest: must be at least the 30 minutes",
        ),
        ('id = "grease"', 'id = "a/b"', "maintenance[0].id: must be a name without '/'"),
        ("minutes = 30", "hours = 3", "maintenance[0].hours: unknown key"),
    ],
)
def test_wrong_maintenance_is_named(old: str, new: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        parse(text(UPKEEP.replace(old, new)), origin="x.toml")


def test_maintenance_is_told_in_the_time_of_the_plant() -> None:
    head = '[plant]\ntimezone = "Asia/Shanghai"\n'
    local = UPKEEP.replace("09:00:00Z", "17:00:00").replace("13:00:00Z", "21:00:00")
    (row,) = parse(head + text(local), origin="x.toml").plant.upkeep
    assert row.earliest_ns == NOW + NS_PER_H
    assert row.latest_ns == NOW + 5 * NS_PER_H
