"""Explanations name the limit that an operation waits for, and the operation that holds it."""

import string
from typing import Any

import pytest

from workshop_brain.schedule.explain import explain, why_not
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.waiting import binding

Document = dict[str, Any]


def _document(*jobs: Document, machines: int = 2, **more: Any) -> Document:
    return {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": 0, "family": 0} for m in range(machines)],
        "setup": [[[0, 4], [4, 0]]],
        "jobs": [{"family": 0, "release": 0, "due": 50 + k} | job for k, job in enumerate(jobs)],
        **more,
    }


def _job(id: str, *ops: Document, **more: Any) -> Document:
    return {"id": id, "operations": list(ops), **more}


def _op(machine: int, duration: int, **more: Any) -> Document:
    return {"alternatives": [[machine, duration]], **more}


def _why(data: Document, op: str, rows: list[Document] | None = None) -> tuple[str, str, Document]:
    """Kind of the reason, the operation behind it, and its parameters; the plan is feasible."""
    problem = document_problem(data)
    plan = construct(problem, Rule.EDD)
    if rows is not None:
        plan = Plan.from_json(problem, {"plan": rows})
    assert verify(problem, plan) == []
    reason, behind = binding(problem, plan, problem.op(op))
    for text in MESSAGES[reason.id]:
        needed = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        assert needed <= set(reason.params), reason
    told = explain(problem, plan, op)
    assert told[1] == reason
    name = problem.op_ids[behind] if behind >= 0 else ""
    assert reason.params.get("other", name) == name
    return reason.id.removeprefix("schedule."), name, reason.params


def test_waiting_for_a_tool_names_who_has_it() -> None:
    jobs = [_job("A", _op(0, 5, tools=["jig"])), _job("B", _op(1, 4, tools=["jig"]))]
    kind, other, params = _why(_document(*jobs, tools=[{"id": "jig"}]), "B.0")
    assert (kind, other, params["tool"]) == ("waits_tool", "A.0", "jig")
    assert params["until_ns"] == 5 * 10**9


def test_waiting_for_a_tool_that_is_away() -> None:
    data = _document(_job("A", _op(0, 5, tools=["jig"])), tools=[{"id": "jig", "closed": [[3, 9]]}])
    kind, other, params = _why(data, "A.0")
    assert (kind, other, params["until_ns"]) == ("waits_tool_away", "", 9 * 10**9)


def test_waiting_for_a_person_who_does_something_else() -> None:
    jobs = [_job("A", _op(0, 5, skills=["turn"])), _job("B", _op(1, 4, skills=["mill"]))]
    data = _document(*jobs, operators=[{"id": "li", "skills": ["turn", "mill"]}])
    kind, other, params = _why(data, "B.0")
    assert (kind, other) == ("waits_person", "A.0")
    assert "mill" in params["person"]


def test_waiting_for_a_shift() -> None:
    data = _document(
        _job("A", _op(0, 5, skills=["turn"])),
        operators=[{"id": "li", "skills": ["turn"], "closed": [[0, 6]]}],
    )
    assert _why(data, "A.0")[0] == "waits_person_away"


@pytest.mark.parametrize(("kind", "field"), [("person", "skills"), ("tool", "tools")])
def test_a_changeover_that_waits_for_its_setter_or_tool(kind: str, field: str) -> None:
    jobs = [_job("A", _op(0, 5), family=1), _job("B", _op(1, 4), family=1)]
    data = _document(
        *jobs, operators=[{"id": "wu", "skills": ["s"]}] if kind == "person" else [],
        tools=[] if kind == "person" else [{"id": "s"}],
    )  # fmt: skip
    for machine in data["machines"]:
        machine[f"setup_{field}"] = ["s"]
    found, other, params = _why(data, "B.0")
    assert (found, other, params[kind]) == (f"waits_setup_{kind}", "A.0", "s")
    assert params["until_ns"] == 4 * 10**9  # then the other changeover is done
    away = {"id": "wu", "skills": ["s"]} if kind == "person" else {"id": "s"}
    data["operators" if kind == "person" else "tools"] = [away | {"closed": [[0, 3]]}]
    assert _why(data, "A.0")[0] == f"waits_setup_{kind}_away"


def test_a_machine_blocked_by_a_lot_without_a_place() -> None:
    jobs = [_job("X", _op(1, 20)), _job("A", _op(0, 5), _op(1, 3)), _job("B", _op(0, 4))]
    jobs[1]["operations"][1]["buffer"] = "none"
    data = _document(*jobs, buffers=[{"id": "none", "capacity": 0}])
    kind, other, params = _why(data, "B.0")
    assert (kind, other) == ("waits_blocked", "A.1")
    assert (params["lot"], params["buffer"]) == ("A.0", "none")


def test_a_machine_blocked_until_another_lot_leaves_the_buffer() -> None:
    jobs = [_job("X", _op(1, 20))]
    jobs += [_job(id, _op(0, 5), _op(1, 3, buffer="one")) for id in "AC"] + [_job("B", _op(0, 4))]
    data = _document(*jobs, buffers=[{"id": "one", "capacity": 1}])
    kind, other, params = _why(data, "B.0")
    assert (kind, other, params["lot"]) == ("waits_blocked", "A.1", "C.0")


def test_a_lot_that_waits_so_that_its_next_step_follows_in_time() -> None:
    jobs = [_job("X", _op(1, 20)), _job("A", _op(0, 5), _op(1, 3, max_lag=2))]
    kind, other, params = _why(_document(*jobs), "A.0")
    assert (kind, other, params["lag_s"]) == ("waits_lag", "A.1", 2)


def test_work_that_waits_for_cheap_power() -> None:
    data = _document(_job("A", _op(0, 5)), tariff=[[0, 3.0], [30, 1.0]])
    data["machines"][0]["power_kw"] = 2
    rows = [{"job": "A", "op": 0, "machine": 0, "start": 30, "end": 35}]
    kind, _, params = _why(data, "A.0", rows)
    assert kind == "waits_power"
    assert (params["price"], params["price_before"]) == (1.0, 3.0)
    rows = [{"job": "A", "op": 0, "machine": 0, "start": 20, "end": 25}]
    assert _why(data, "A.0", rows)[0] == "waits_kept"


def test_work_that_waits_for_movable_maintenance() -> None:
    data = _document(
        _job("A", _op(0, 5)),
        maintenance=[{"id": "oil", "machine": 0, "duration": 6, "earliest": 0, "latest": 8}],
    )
    kind, other, _ = _why(data, "A.0")
    assert (kind, other) == ("waits_upkeep", "oil.0")


def test_plain_reasons_stay_under_limits() -> None:
    jobs = [_job("A", _op(0, 5, tools=["jig"]), _op(1, 3)), _job("B", _op(0, 4))]
    data = _document(*jobs, _job("C", _op(1, 2), release=30), tools=[{"id": "jig"}])
    assert _why(data, "B.0")[0] == "waits_machine"
    assert _why(data, "A.1")[0] == "waits_material"
    assert _why(data, "C.0")[0] == "waits_release"
    assert _why(data, "A.0")[0] == "waits_nothing"


def test_a_machine_on_which_a_deadline_is_lost_is_no_alternative() -> None:
    job = _job("A", {"alternatives": [[0, 5], [1, 9]]}, deadline=6)
    problem = document_problem(_document(job))
    plan = construct(problem, Rule.EDD)
    assert "schedule.alternative" not in {told.id for told in explain(problem, plan, "A.0")}
    answer = why_not(problem, plan, "A.0", "1")
    assert [told.id for told in answer.messages] == ["schedule.pin_no_plan"]
