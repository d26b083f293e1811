"""Questions about the plan on the screens, answered by solving again."""

from typing import Any

from workshop_brain.app import schedule_views as views
from workshop_brain.app.planner import Known
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.explain import explain, why_not
from workshop_brain.schedule.objective import objective
from workshop_brain.schedule.react import react


def explain_op(known: Known, op: str) -> dict[str, Any]:
    """Why an operation stands where it stands; KeyError when the plan does not know it."""
    _must_know(known, op)
    return views.answer(explain(known.problem, known.plan, op))


def why_not_there(known: Known, op: str, machine: str) -> dict[str, Any]:
    """What it would cost to have an operation on another machine."""
    _must_know(known, op)
    return views.answer(why_not(known.problem, known.plan, op, machine))


def what_if(
    known: Known, events: list[dict[str, Any]], *, now_ns: int, frozen_s: int, iterations: int
) -> dict[str, Any]:
    """The plan after events that have not happened; events without an instant happen now."""
    problem, plan = known.problem, known.plan
    # Both sides get the same search, so that the difference is the events' alone.
    calm = react(problem, plan, None, frozen_s=frozen_s, iterations=iterations)
    before = objective(calm.problem, calm.plan, None).as_dict()
    for row in events:
        event = Event(
            time_ns=int(row.get("time_ns") or now_ns),
            kind=EventKind(str(row.get("kind"))),
            path=str(row.get("path", "")),
            payload=dict(row.get("payload") or {}),
        )
        reaction = react(problem, plan, event, frozen_s=frozen_s, iterations=iterations)
        problem, plan = reaction.problem, reaction.plan
    return {
        "kpis_before": before,
        "kpis_after": objective(problem, plan, None).as_dict(),
        "changes": views.plan_changes(known, problem, plan),
    }


def _must_know(known: Known, op: str) -> None:
    if op not in known.problem.op_ids:
        raise KeyError(op)
