"""Each constraint changes the plan, and the checker refuses a plan that breaks it alone."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from bench.constraints import reference

from workshop_brain.config import built_in
from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import WorkRequest
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.problem import OpStatus, PlantState, build
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.verify import verify

Document = dict[str, Any]


def _document() -> Document:
    """Two machines, changeovers at the start, lots of A and C that wait for the second machine."""
    routes = {"A": [(0, 5), (1, 5)], "B": [(1, 12), (0, 3)], "C": [(0, 4), (1, 3)], "D": [(0, 4)]}
    return {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": 0, "family": 0} for m in range(2)],
        "setup": [[[0, 4], [5, 0]]],
        "jobs": [
            {
                "id": id,
                "family": 1,
                "release": 0,
                "due": due,
                "operations": [{"alternatives": [list(row)]} for row in route],
            }
            for due, (id, route) in enumerate(routes.items(), 10)
        ],
    }


def _op(data: Document, job: str, k: int, **fields: Any) -> None:
    next(j for j in data["jobs"] if j["id"] == job)["operations"][k].update(fields)


def _tool(data: Document) -> None:
    data["tools"] = [{"id": "fixture"}]
    _op(data, "A", 0, tools=["fixture"])
    _op(data, "B", 0, tools={"fixture": 1})


def _skill(data: Document) -> None:
    data["operators"] = [{"id": "li", "skills": ["turn", "mill"]}]
    _op(data, "A", 0, skills=["turn"])
    _op(data, "B", 0, skills=["mill"])


def _shift(data: Document) -> None:
    data["operators"] = [{"id": "li", "skills": ["turn"], "closed": [[0, 6]]}]
    _op(data, "A", 0, skills=["turn"])


def _setter(data: Document) -> None:
    data["operators"] = [{"id": "wu", "skills": ["set"]}]
    for machine in data["machines"]:
        machine["setup_skills"] = ["set"]


def _max_lag(data: Document) -> None:
    _op(data, "A", 1, max_lag=2)


def _blocking(data: Document) -> None:
    data["buffers"] = [{"id": "none", "capacity": 0}]
    _op(data, "A", 1, buffer="none")


def _buffer(data: Document) -> None:
    data["buffers"] = [{"id": "one", "capacity": 1}]
    _op(data, "A", 1, buffer="one")
    _op(data, "C", 1, buffer="one")


def _deadline(data: Document) -> None:
    data["jobs"][3]["deadline"] = 12


def _transport(data: Document) -> None:
    _op(data, "A", 1, lag=20)


def _assembly(data: Document) -> None:
    _op(data, "D", 0, after=[{"job": "C", "op": 1}, {"job": "A", "op": 1}])


def _closed(data: Document) -> None:
    data["machines"][0]["closed"] = [[5, 8]]


def _in_one_piece(data: Document) -> None:
    data["machines"][0] |= {"closed": [[8, 9]], "resumable": False}


def _arrival(data: Document) -> None:
    data["jobs"][0]["release"] = 15


def _changeover(data: Document) -> None:
    data["setup"] = [[[0, 9], [5, 0]]]


def _other_machine(data: Document) -> None:
    _op(data, "A", 0, alternatives=[[1, 5]])


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (_tool, {"tool"}),
        (_skill, {"operator"}),
        (_shift, {"operator"}),
        (_setter, {"operator"}),
        (_max_lag, {"max_lag"}),
        (_blocking, {"blocking"}),
        (_buffer, {"buffer"}),
        (_deadline, {"deadline"}),
        (_transport, {"precedence"}),
        (_assembly, {"precedence"}),
        (_closed, {"duration"}),
        (_in_one_piece, {"duration"}),
        (_arrival, {"release"}),
        (_changeover, {"setup"}),
        (_other_machine, {"machine"}),
    ],
)
def test_a_constraint_changes_the_plan_and_is_checked_alone(
    change: Callable[[Document], None], kinds: set[str]
) -> None:
    free = document_problem(_document())
    data = _document()
    change(data)
    bound = document_problem(data)
    loose, kept = construct(free, Rule.EDD), construct(bound, Rule.EDD)
    assert verify(free, loose) == []
    assert {violation.kind for violation in verify(bound, loose)} == kinds
    assert verify(bound, kept) == []
    assert kept.fingerprint() != loose.fingerprint()
    better = improve(bound, kept, iterations=300, stable=False, weights=DOCUMENT_WEIGHTS)
    assert verify(bound, better.plan) == []
    text = json.dumps(data)
    rows = json.dumps(kept.rows(bound))
    assert verify_file_text(text, rows)["feasible"]


def test_one_person_cannot_set_up_two_machines_at_once() -> None:
    data = _document()
    _setter(data)
    problem = document_problem(data)
    plan = construct(problem, Rule.EDD)
    first = [int(plan.setup_start[plan.sequence(m)[0]]) for m in range(2)]
    assert sorted(first) == [0, 4]


def test_a_blocked_machine_waits_until_the_next_one_takes_the_lot() -> None:
    data = _document()
    _blocking(data)
    data["machines"][1]["available_from"] = 20
    problem = document_problem(data)
    plan = construct(problem, Rule.EDD)
    taken = int(plan.start[problem.op("A.1")])
    following = next(o for o in plan.sequence(0).tolist() if o != problem.op("A.0"))
    assert taken > plan.end[problem.op("A.0")]
    assert plan.start[following] >= taken


def test_maintenance_is_put_within_its_window_and_keeps_what_is_set_up() -> None:
    data = _document()
    data["maintenance"] = [{"id": "oil", "machine": 0, "duration": 6, "earliest": 5, "latest": 30}]
    problem = document_problem(data)
    o = problem.op("oil.0")
    plan = improve(problem, construct(problem), iterations=500, stable=False).plan
    assert verify(problem, plan) == []
    assert 5 <= plan.start[o] <= plan.end[o] <= 30
    assert objective(problem, plan).setup_s == 8  # one changeover on each machine, none after it
    late = Plan(machine=plan.machine, start=plan.start.copy(), end=plan.end.copy(),
                setup_start=plan.setup_start)  # fmt: skip
    late.start[o], late.end[o] = 60, 66
    assert {v.kind for v in verify(problem, late)} == {"deadline"}


def test_work_waits_for_cheap_power_when_that_is_worth_more_than_being_early() -> None:
    data = _document()
    for job in data["jobs"]:
        job["due"] = 200
    data["tariff"] = [[0, 36_000], [60, 3_600]]
    data["machines"][0]["power_kw"] = 2
    problem = document_problem(data)
    plan = construct(problem, Rule.EDD)
    before = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    assert before.energy_cost == pytest.approx(2 * 10 * 16)  # 16 ticks at 10 a tick and kW
    found = improve(problem, plan, iterations=3000, stable=False, weights=DOCUMENT_WEIGHTS)
    after = objective(problem, found.plan, None, DOCUMENT_WEIGHTS)
    assert verify(problem, found.plan) == []
    assert after.energy_cost == pytest.approx(2 * 1 * 16)
    assert after.weighted_tardiness_s == 0
    assert found.objective == pytest.approx(after.objective)


def test_a_person_with_two_skills_is_counted_once() -> None:
    data = _document()
    data["operators"] = [
        {"id": "li", "skills": ["turn", "mill"]},
        {"id": "wu", "skills": ["mill", "weld"]},
    ]
    _op(data, "A", 0, skills=["turn"])
    _op(data, "B", 0, skills={"mill": 2})
    bound = document_problem(data)
    plan = construct(bound, Rule.EDD)
    assert verify(bound, plan) == []
    a, b = bound.op("A.0"), bound.op("B.0")
    assert plan.start[a] >= plan.end[b] or plan.start[b] >= plan.end[a]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: _op(d, "A", 0, tools=["saw"]), "'A.0': there is no tool 'saw'"),
        (lambda d: (_tool(d), _op(d, "A", 0, tools={"fixture": 2})), "needs 2 of 'fixture'"),
        (lambda d: _op(d, "A", 1, lag=5, max_lag=2), "within 2 after 'A.0' and cannot before 5"),
        (lambda d: _op(d, "A", 1, buffer="attic"), "no buffer 'attic'"),
        (lambda d: d.update(tariff=[[9, 1], [3, 1]]), "its ticks must rise"),
        (lambda d: d.update(tariff=[[0, -1]]), "0 or more, got -1"),
        (lambda d: d.update(tools=[{"id": "x"}, {"id": "x"}]), "tool or skill 'x' stands twice"),
        (lambda d: _op(d, "A", 1, after=[7]), "after must be a whole number from 0 to 1, got 7"),
        (lambda d: _op(d, "A", 0, after=[1]), "precedence has a cycle"),
        (lambda d: d["machines"][0].update(closed=[[0, 9], [5, 12]]), "overlap; join them"),
        (
            lambda d: d.update(maintenance=[{"id": "m", "machine": 0, "duration": 9, "latest": 4}]),
            "maintenance 'm': latest must be",
        ),
    ],
)
def test_contradictory_limits_are_named(change: Callable[[Document], Any], message: str) -> None:
    data = _document()
    change(data)
    with pytest.raises((OrderError, InfeasibleError), match=message):
        solve_file_text(json.dumps(data), name="x", iterations=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["jobs"][3].update(deadline=7), "'D.0' cannot be finished by its deadline"),
        (
            lambda d: (
                _max_lag(d),
                _op(d, "A", 0, deadline=30),
                d["machines"][1].update(available_from=99),
            ),
            "'A.0' cannot be finished by its deadline",
        ),
    ],
)
def test_what_cannot_be_kept_is_named(change: Callable[[Document], Any], message: str) -> None:
    data = _document()
    change(data)
    with pytest.raises(InfeasibleError, match=message):
        construct(document_problem(data), Rule.EDD)


@pytest.mark.parametrize("state", [{"speed": 0.25}, {"risk": 3.0}])
def test_a_worn_or_risky_unit_gets_less_work(state: dict[str, float]) -> None:
    plant, now = built_in().plant, 1_700_000_000 * 10**9
    orders = [
        WorkRequest(id=f"R{k}", product="dct_a", quantity=100, due_ns=now + 60 * 3600 * 10**9)
        for k in range(12)
    ]
    path = plant.work_center("soft").units[0].path

    def work(**more: dict[str, float]) -> int:
        problem = build(plant, orders, PlantState(**more), now)
        plan = construct(problem, Rule.EDD)
        assert verify(problem, plan) == []
        return int((plan.machine == problem.machine(path)).sum())

    assert work(**{key: {path: value} for key, value in state.items()}) < work()
    with pytest.raises(InfeasibleError, match="speed must be > 0"):
        work(speed={path: 0.0})


def test_an_overfull_furnace_load_and_a_moved_locked_operation_are_refused() -> None:
    problem = reference(2, requests=4)
    load = next(o for o, id in enumerate(problem.op_ids) if id.startswith("LOAD"))
    plan = construct(problem, Rule.EDD)
    quantity = problem.op_quantity.copy()
    quantity[load] = problem.op_capacity[load] + 1
    assert {v.kind for v in verify(problem.with_(op_quantity=quantity), plan)} == {"capacity"}
    first = int(plan.start.argmin())
    status, where = problem.op_status.copy(), problem.op_fixed_machine.copy()
    start, begin = problem.op_fixed_start.copy(), problem.op_fixed_from.copy()
    work = problem.op_fixed_work.copy()
    status[first], where[first] = OpStatus.LOCKED, plan.machine[first]
    start[first], begin[first] = plan.start[first] + 1, plan.start[first]
    work[first] = problem.alternatives(first)[int(plan.machine[first])]
    locked = problem.with_(
        op_status=status, op_fixed_machine=where, op_fixed_start=start, op_fixed_from=begin,
        op_fixed_work=work,
    )  # fmt: skip
    assert {v.kind for v in verify(locked, plan)} == {"locked"}


def test_reference_plant_with_all_constraints_on() -> None:
    problem = reference(1, requests=14)
    limits = problem.limits
    assert limits is not None
    assert all(
        (limits.tools, limits.operators, limits.buffers, limits.op_needs, limits.machine_needs,
         limits.machine_setup_needs, limits.max_lags, limits.buffered, limits.deadlines,
         limits.tariff)
    )  # fmt: skip
    rules = [construct(problem, rule) for rule in Rule]
    assert [verify(problem, plan) for plan in rules] == [[]] * len(rules)
    best = min(rules, key=lambda plan: objective(problem, plan).objective)
    found = improve(problem, best, iterations=1500, stable=False)
    assert verify(problem, found.plan) == []
    assert objective(problem, found.plan).objective < objective(problem, best).objective
    hour = 3600 * 10**9
    for k in range(3):
        event = Event(
            time_ns=problem.origin_ns + (k + 2) * hour,
            kind=EventKind.BREAKDOWN,
            path=problem.machine_ids[7 * k],
            payload={"until_ns": problem.origin_ns + (k + 4) * hour},
        )
        answer = react(problem, found.plan, event, frozen_s=900)
        assert verify(answer.problem, answer.plan) == []


def test_documents_with_limits_are_solved_and_repaired() -> None:
    data = _document()
    for change in (_tool, _setter, _buffer):
        change(data)
    text = json.dumps(data)
    solved = solve_file_text(text, iterations=300)
    event = json.dumps({"time": 9, "kind": "breakdown", "machine": 1, "until": 14})
    assert verify_file_text(text, json.dumps(solved["plan"]))["feasible"]
    assert react_file_text(text, json.dumps(solved["plan"]), event)["feasible"]


def _rush(**more: Any) -> Document:
    return {"id": "R", "family": 1, "release": 0, "due": 20, "weight": 9} | more


def test_a_rush_order_brings_limits_of_its_own() -> None:
    data = _document()
    data["tools"] = [{"id": "fixture"}]
    data["operators"] = [{"id": "li", "skills": ["turn"]}]
    _op(data, "B", 0, tools=["fixture"])
    text = json.dumps(data)
    solved = solve_file_text(text, iterations=300)
    job = _rush(
        deadline=90,
        operations=[
            {"alternatives": [[0, 6]], "skills": ["turn"]},
            {"alternatives": [[1, 6]], "tools": ["fixture"], "max_lag": 4, "lag": 2},
            {"alternatives": [[0, 2], [1, 2]], "after": [0], "lag": 30},
        ],
    )
    event = {"time": 3, "kind": "rush_order", "job": job}
    answer = react_file_text(text, json.dumps(solved), json.dumps(event))
    assert answer["unscheduled"] == []
    whole = json.dumps(data | {"jobs": [*data["jobs"], job]})
    assert verify_file_text(whole, json.dumps(answer))["feasible"]
    at = {(row["job"], row["op"]): row for row in answer["plan"]}
    for change, kind in (
        ({("R", 1): 8}, "max_lag"),
        ({("R", 2): 5}, "precedence"),
    ):
        rows = [dict(row) for row in answer["plan"]]
        for row in rows:
            by = change.get((row["job"], row["op"]))
            if by is not None:
                later = max(r["end"] for r in rows) + by if kind == "max_lag" else at["R", 0]["end"]
                row["end"] += later - row["start"]
                row["setup_start"] = row["start"] = later
        kinds = {v["kind"] for v in verify_file_text(whole, json.dumps(rows))["violations"]}
        assert kind in kinds


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (_rush(operations=[{"alternatives": [[0, 6]], "tools": ["saw"]}]), "no tool 'saw'"),
        (
            _rush(operations=[{"alternatives": [[0, 6]], "after": [1]},
                              {"alternatives": [[0, 6]], "after": [0]}]),
            "in a circle",
        ),
        (_rush(deadline="soon", operations=[{"alternatives": [[0, 6]]}]), "deadline must be"),
    ],
)  # fmt: skip
def test_what_a_rush_order_cannot_bring_is_named(job: Document, message: str) -> None:
    text = json.dumps(_document())
    plan = json.dumps(solve_file_text(text, iterations=50))
    event = json.dumps({"time": 3, "kind": "rush_order", "job": job})
    with pytest.raises(OrderError, match=message):
        react_file_text(text, plan, event)


def test_a_rush_order_that_misses_its_deadline_is_left_out() -> None:
    text = json.dumps(_document())
    plan = json.dumps(solve_file_text(text, iterations=50))
    job = _rush(deadline=12, operations=[{"alternatives": [[0, 60]]}])
    event = json.dumps({"time": 3, "kind": "rush_order", "job": job})
    answer = react_file_text(text, plan, event)
    assert [row["job"] for row in answer["unscheduled"]] == ["R"]
    assert answer["unscheduled"][0]["why"]["kind"] == "deadline"
