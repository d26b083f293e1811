"""Why not at another time: what stands against it, its price, or the proof that no plan can."""

from typing import Any

import pytest

from workshop_brain.schedule.earlier import why_not_then
from workshop_brain.schedule.explain import WhyNot
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.web.messages import render

HOUR = 3600
SETUP = 600


def case(**last: Any) -> tuple[Problem, Plan]:
    """Jobs A to D: an hour on machine 0 (changeover 10 min between A, C and B, D), then one on
    machine 1. D comes last; ``last`` changes it."""
    steps = [{"alternatives": [[0, HOUR]]}, {"alternatives": [[1, HOUR]]}]
    jobs = [
        {
            "id": id, "family": k % 2, "release": 0, "due": (4 + k) * HOUR, "weight": 1,
            "operations": steps,
        }
        for k, id in enumerate("ABCD")
    ]  # fmt: skip
    jobs[-1] |= last
    data = {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": m, "family": 0} for m in range(2)],
        "setup": [[[0, SETUP], [SETUP, 0]], [[0, 0], [0, 0]]],
        "jobs": jobs,
    }
    problem = document_problem(data, "case")
    return problem, construct(problem, "edd")


def first_op(problem: Problem, job: str) -> str:
    j = problem.job_ids.index(job)
    return next(
        id for o, id in enumerate(problem.op_ids) if problem.op_job[o] == j and not problem.preds(o)
    )


def second_op(problem: Problem, job: str) -> str:
    j = problem.job_ids.index(job)
    return next(
        id for o, id in enumerate(problem.op_ids) if problem.op_job[o] == j and problem.preds(o)
    )


def said(found: WhyNot) -> list[str]:
    return [message.id.removeprefix("schedule.") for message in found.messages]


def asked(problem: Problem, plan: Plan, op: str, start: int | None, **more: Any) -> WhyNot:
    at = None if start is None else problem.time_ns(start)
    found = why_not_then(problem, plan, op, at, **more)
    for message in found.messages:
        english, chinese = (render(message.id, message.params, lang) for lang in ("en", "zh"))
        assert english != chinese
        assert "{" not in english + chinese
    return found


def test_a_busy_machine_is_named_and_the_price_is_of_a_checked_plan() -> None:
    problem, plan = case()
    op = first_op(problem, "D")
    o = problem.op(op)
    found = asked(problem, plan, op, 1800)
    assert said(found)[0] == "waits_machine"
    busy = found.messages[0].params["other"]
    x = problem.op(busy)
    assert plan.start[x] <= 1800 < plan.end[x]
    assert "then_cost" in said(found)
    cost = found.messages[said(found).index("then_cost")].params
    assert found.plan is not None
    assert verify(problem, found.plan) == []
    assert cost["start_ns"] == problem.time_ns(int(found.plan.start[o]))
    assert 1800 <= found.plan.start[o] <= 1800 + 1800
    assert found.before is not None
    assert found.after is not None
    gain = found.after.weighted_tardiness_s - found.before.weighted_tardiness_s
    assert cost["tardiness_s"] == round(gain)


def test_a_changeover_is_named_with_its_length() -> None:
    problem, plan = case()
    d = problem.op(first_op(problem, "D"))
    found = asked(problem, plan, first_op(problem, "D"), int(plan.start[d]) - SETUP // 2)
    assert said(found)[0] == "waits_setup"
    assert found.messages[0].params["setup_s"] == SETUP


def test_a_predecessor_is_named_and_goes_first_when_that_is_what_it_takes() -> None:
    problem, plan = case()
    op = second_op(problem, "D")
    found = asked(problem, plan, op, HOUR + 2 * SETUP)
    assert "waits_material" in said(found)
    material = found.messages[said(found).index("waits_material")].params
    assert material["other"] == first_op(problem, "D")
    # Only with its first step before all others can it start then.
    assert found.plan is not None
    d = problem.op(first_op(problem, "D"))
    assert found.plan.start[d] <= SETUP


def test_what_no_plan_can_do_is_proved() -> None:
    problem, plan = case(release=9 * HOUR)
    found = asked(problem, plan, first_op(problem, "D"), 2 * HOUR)
    assert said(found) == ["then_never", "waits_release"]
    assert found.messages[0].params["until_ns"] == problem.time_ns(9 * HOUR)
    found = asked(problem, plan, second_op(problem, "D"), 2 * HOUR)
    assert said(found) == ["then_never", "waits_material"]
    assert found.messages[0].params["until_ns"] == problem.time_ns(10 * HOUR)


def test_closed_time_and_the_next_operation_are_named() -> None:
    problem, plan = case()
    c = problem.op(first_op(problem, "C"))
    shut = problem.with_(downs=((0, 30 * HOUR, 31 * HOUR),))
    found = asked(shut, plan, first_op(problem, "C"), 30 * HOUR + 60)
    assert "waits_open" in said(found)
    assert "then_cost" in said(found)
    # An operation moved close to the one behind it on its machine.
    behind = next(x for x in plan.sequence(0).tolist() if plan.start[x] > plan.start[c])
    found = asked(problem, plan, first_op(problem, "C"), int(plan.start[behind]) - 300)
    assert "then_before" in said(found)


def test_earlier_gives_the_cause_and_the_earliest_that_was_found() -> None:
    problem, plan = case()
    op = first_op(problem, "D")
    found = asked(problem, plan, op, None)
    assert said(found)[1] == "then_earliest"
    assert said(found)[0].startswith("waits_")
    assert "then_cost" in said(found)
    assert found.plan is not None
    assert found.plan.start[problem.op(op)] < plan.start[problem.op(op)]
    first = problem.op_ids[int(plan.sequence(0)[0])]
    assert said(asked(problem, plan, first, None))[0] == "then_earliest_already"


@pytest.mark.parametrize(
    ("start", "frozen_s", "answer"),
    [(0, 1800, "pin_frozen"), (None, 0, "then_earliest_already")],
)
def test_the_first_operation_cannot_be_earlier(
    start: int | None, frozen_s: int, answer: str
) -> None:
    problem, plan = case()
    first = problem.op_ids[int(plan.sequence(0)[0])]
    assert said(asked(problem, plan, first, start, frozen_s=frozen_s))[0] == answer


def test_the_planned_start_is_no_question_and_an_unknown_operation_an_error() -> None:
    problem, plan = case()
    o = problem.op(first_op(problem, "C"))
    assert said(asked(problem, plan, problem.op_ids[o], int(plan.start[o]))) == ["then_same"]
    with pytest.raises(KeyError):
        why_not_then(problem, plan, "nothing", None)


def test_a_tool_that_somebody_else_has_is_named() -> None:
    data: dict[str, Any] = {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": m, "family": 0} for m in range(2)],
        "setup": [[[0]], [[0]]],
        "tools": [{"id": "fixture"}],
        "jobs": [
            {
                "id": id, "family": 0, "release": 0, "due": 4 * HOUR,
                "operations": [{"alternatives": [[k, HOUR]], "tools": ["fixture"]}],
            }
            for k, id in enumerate("AB")
        ],
    }  # fmt: skip
    problem = document_problem(data, "tool")
    plan = construct(problem, "edd")
    late = max(range(2), key=lambda o: int(plan.start[o]))
    found = asked(problem, plan, problem.op_ids[late], int(plan.start[late]) - 1800)
    assert said(found)[0] == "waits_tool"
