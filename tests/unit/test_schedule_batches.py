"""Batch machines of a document: lots of one family start together, as many as there is room for."""

import json
import random
from typing import Any

import pytest

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.waiting import binding

Document = dict[str, Any]
Starts = dict[str, tuple[int, int]]


def _document(**more: Any) -> Document:
    """Lots that are turned on machine 0 and hardened on machine 1, a furnace for three."""
    jobs = [
        {
            "id": id,
            "family": int(id in "XY"),
            "release": 0,
            "due": 20 + k,
            "operations": [{"alternatives": [[0, 2]]}, {"alternatives": [[1, 30]]}],
        }
        for k, id in enumerate("ABCXY")
    ]
    return {
        "format": "reactive-fjsp/1",
        "machines": [{"id": 0, "work_center": 0}, {"id": 1, "work_center": 1, "batch": 3}],
        "setup": [[[0, 0], [0, 0]], [[0, 5], [5, 0]]],
        "jobs": jobs,
        **more,
    }


def _starts(problem: Problem, plan: Plan) -> Starts:
    return {id: (int(plan.start[o]), int(plan.end[o])) for o, id in enumerate(problem.op_ids)
            if id.endswith(".1")}  # fmt: skip


def test_lots_of_a_family_wait_for_each_other_and_start_together() -> None:
    problem = document_problem(_document())
    for rule in Rule:
        plan = construct(problem, rule)
        assert verify(problem, plan) == []
    plan = construct(problem, Rule.EDD)
    loads = sorted(set(_starts(problem, plan).values()))
    assert len(loads) == 2  # three of the one family, two of the other: two loads
    assert loads[1][0] - loads[0][1] == 5  # the changeover between families
    found = improve(problem, plan, iterations=500, stable=False, weights=DOCUMENT_WEIGHTS)
    assert verify(problem, found.plan) == []
    assert found.objective <= objective(problem, plan, None, DOCUMENT_WEIGHTS).objective


def test_search_forms_loads_that_no_rule_forms() -> None:
    data = _document()
    for k, job in enumerate(data["jobs"][:3]):
        job["release"] = 25 * k  # no lot is worth waiting for by itself
        job["due"] = 83
    del data["jobs"][3:]
    problem = document_problem(data)
    plan = construct(problem, Rule.FIFO)
    before = objective(problem, plan, None, DOCUMENT_WEIGHTS).weighted_tardiness_s
    found = improve(problem, plan, iterations=2000, stable=False, weights=DOCUMENT_WEIGHTS)
    after = objective(problem, found.plan, None, DOCUMENT_WEIGHTS).weighted_tardiness_s
    assert verify(problem, found.plan) == []
    assert after == 0 < before


def _rows(starts: dict[str, int]) -> list[Document]:
    """Turned one after the other from 0, hardened for 30 from these starts."""
    rows = []
    for k, (id, start) in enumerate(starts.items()):
        rows.append({"job": id, "op": 0, "machine": 0, "start": 2 * k, "end": 2 * k + 2})
        rows.append({"job": id, "op": 1, "machine": 1, "start": start, "end": start + 30})
    return rows


@pytest.mark.parametrize(
    ("starts", "batch", "kinds"),
    [
        ({"A": 10, "B": 10, "C": 10, "X": 45, "Y": 45}, 3, set()),
        ({"A": 10, "B": 10, "C": 10, "X": 45, "Y": 45}, 2, {"capacity"}),
        ({"A": 10, "B": 10, "X": 45, "Y": 45, "C": 45}, 3, {"family"}),
        ({"A": 10, "B": 10, "C": 12, "X": 47, "Y": 47}, 3, {"together"}),
        ({"A": 10, "B": 10, "C": 10, "X": 44, "Y": 44}, 3, {"setup"}),
    ],
)
def test_the_checker_refuses_a_load_for_each_rule_alone(
    starts: dict[str, int], batch: int, kinds: set[str]
) -> None:
    data = _document()
    data["machines"][1]["batch"] = batch
    problem = document_problem(data)
    plan = Plan.from_json(problem, {"plan": _rows(starts)})
    assert {violation.kind for violation in verify(problem, plan)} == kinds


def test_sizes_count_and_a_plan_with_too_much_in_a_load_is_refused() -> None:
    data = _document()
    data["jobs"][0]["operations"][1]["size"] = 2
    problem = document_problem(data)
    plan = Plan.from_json(problem, {"plan": _rows({"A": 10, "B": 10, "C": 10, "X": 45, "Y": 45})})
    assert {violation.kind for violation in verify(problem, plan)} == {"capacity"}
    plan = construct(problem, Rule.EDD)
    assert verify(problem, plan) == []
    assert len(set(_starts(problem, plan).values())) == 3


def test_a_repair_keeps_loads_together() -> None:
    data = _document()
    text, plan = json.dumps(data), _rows({"A": 10, "B": 10, "C": 10, "X": 45, "Y": 45})
    event = {"time": 3, "kind": "breakdown", "machine": 0, "until": 20}
    answer = react_file_text(text, json.dumps(plan), json.dumps(event))
    at = {row["job"]: row["start"] for row in answer["plan"] if row["op"] == 1}
    assert at["A"] == at["B"] == at["C"]
    assert at["X"] == at["Y"]
    # what has started in a load stays in it
    event = {"time": 15, "kind": "breakdown", "machine": 1, "until": 20}
    answer = react_file_text(text, json.dumps(plan), json.dumps(event))
    at = {row["job"]: (row["start"], row["end"]) for row in answer["plan"] if row["op"] == 1}
    assert at["A"] == at["B"] == at["C"] == (10, 45)


def test_a_furnace_needs_its_person_once_a_load() -> None:
    data = _document(operators=[{"id": "fu", "skills": ["furnace"]}])
    data["machines"][1]["skills"] = ["furnace"]
    problem = document_problem(data)
    plan = construct(problem, Rule.EDD)
    assert verify(problem, plan) == []
    assert len(set(_starts(problem, plan).values())) == 2


def test_why_a_lot_waits_names_the_last_of_its_load() -> None:
    problem = document_problem(_document())
    plan = Plan.from_json(problem, {"plan": _rows({"A": 6, "B": 6, "C": 6, "X": 41, "Y": 41})})
    assert verify(problem, plan) == []
    reason, behind = binding(problem, plan, problem.op("A.1"))
    assert reason.id == "schedule.waits_load"
    assert reason.params["other"] == problem.op_ids[behind] == "C.1"
    assert binding(problem, plan, problem.op("C.1"))[0].id == "schedule.waits_material"
    assert binding(problem, plan, problem.op("Y.1"))[0].id == "schedule.waits_setup"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["machines"][1].update(batch=0), "machine 1: batch must be"),
        (lambda d: d["jobs"][0]["operations"][1].update(size=4), "size 4 is more than machine '1'"),
        (lambda d: d["jobs"][0]["operations"][1].update(size=0), "size must be"),
        (lambda d: d["setup"][1][0].__setitem__(0, 3), "from a family to itself must be 0"),
        (
            lambda d: (
                d.update(buffers=[{"id": "rack", "capacity": 2}]),
                d["jobs"][0]["operations"].append({"alternatives": [[0, 1]], "buffer": "rack"}),
            ),
            "its lot cannot wait in a buffer",
        ),
    ],
)
def test_what_no_load_can_be_formed_of_is_named(change: Any, message: str) -> None:
    data = _document()
    change(data)
    with pytest.raises((OrderError, InfeasibleError), match=message):
        document_problem(data)


@pytest.mark.parametrize("seed", range(25))
def test_plans_of_random_shops_with_furnaces_pass_the_checker(seed: int) -> None:
    rng = random.Random(seed)
    people = [{"id": "li", "skills": ["run", "set"], "closed": [[40, 60]]}]
    people += [{"id": "wu", "skills": ["run"]}]
    data = _document(tools=[{"id": "tray", "quantity": 3}], operators=people)
    data["machines"] += [{"id": 2, "work_center": 1, "batch": 4, "closed": [[20, 26]]}]
    data["machines"][1] |= {"setup_skills": ["set"], "resumable": False}
    data["machines"][0]["skills"] = ["run"]
    for k in range(10):
        work = rng.choice([20, 30])
        hard = {
            "alternatives": [[m, work] for m in rng.sample([1, 2], rng.randint(1, 2))],
            "size": rng.randint(1, 2),
        } | ({"tools": ["tray"]} if rng.random() < 0.5 else {})  # fmt: skip
        if rng.random() < 0.3:
            hard["max_lag"] = rng.randint(40, 90)
        ops = [{"alternatives": [[0, rng.randint(1, 6)]]}, hard]
        data["jobs"].append(
            {"id": f"R{k}", "family": rng.randint(0, 1), "release": rng.randint(0, 40),
             "due": rng.randint(30, 90), "operations": ops}
        )  # fmt: skip
    text = json.dumps(data)
    solved = solve_file_text(text, iterations=200, seed=seed, may_leave=True)
    assert verify_file_text(text, json.dumps(solved))["feasible"]
    event = {"time": rng.randint(1, 60), "kind": "breakdown", "machine": rng.randint(0, 2)}
    event["until"] = event["time"] + rng.randint(5, 30)
    answer = react_file_text(text, json.dumps(solved), json.dumps(event), frozen=rng.randint(0, 9))
    assert answer["feasible"]
    problem = document_problem(data)
    plan = construct(problem, Rule.FOREMAN)
    for o in range(problem.n_ops):
        binding(problem, plan, o)
