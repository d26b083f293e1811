"""Questions about the plan on the screens, answered by solving again."""

from typing import Any

import numpy as np

from workshop_brain.app import schedule_views as views
from workshop_brain.app.plan_state import plan_on
from workshop_brain.app.planner import Known, Planner, Task
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.earlier import why_not_then as why_not_at
from workshop_brain.schedule.explain import explain, why_not
from workshop_brain.schedule.objective import objective
from workshop_brain.schedule.react import place, react
from workshop_brain.schedule.structure import OpStatus
from workshop_brain.schedule.timing import right_shift


def explain_op(known: Known, op: str) -> dict[str, Any]:
    """Why an operation stands where it stands; KeyError when the plan does not know it."""
    _must_know(known, op)
    return views.answer(explain(known.problem, known.plan, op, weights=known.weights))


def why_not_there(known: Known, op: str, machine: str) -> dict[str, Any]:
    """What it would cost to have an operation on another machine."""
    _must_know(known, op)
    found = why_not(known.problem, known.plan, op, machine, weights=known.weights)
    return views.answer(found)


def why_not_then(
    planner: Planner, task: Task, op: str, start_ns: int | None, frozen_s: int
) -> dict[str, Any]:
    """What it would cost to have an operation start at an instant (None: earlier), as the floor
    stands now. Pins of other operations hold."""
    basis = task.state.reference
    pins = [pin for pin in planner.pins if pin.op != op]
    problem = planner.problem_now(task, pins=pins)
    if basis is None or op not in problem.op_ids:
        raise KeyError(op)
    plan = plan_on(problem, basis)
    new = (problem.op_status == OpStatus.FREE) & (plan.machine < 0)
    plan = right_shift(problem, place(problem, plan, np.flatnonzero(new)))
    found = why_not_at(problem, plan, op, start_ns, frozen_s=frozen_s, weights=planner.weights)
    return views.answer(found)


def what_if(
    known: Known, events: list[dict[str, Any]], *, now_ns: int, frozen_s: int, iterations: int
) -> dict[str, Any]:
    """The plan after events that have not happened; events without an instant happen now."""
    problem, plan, weights = known.problem, known.plan, known.weights
    budget: dict[str, Any] = {"frozen_s": frozen_s, "iterations": iterations, "weights": weights}
    # Both sides get the same search, so that the difference is the events' alone.
    calm = react(problem, plan, None, **budget)
    before = objective(calm.problem, calm.plan, None, weights).as_dict()
    for row in events:
        event = Event(
            time_ns=int(row.get("time_ns") or now_ns),
            kind=EventKind(str(row.get("kind"))),
            path=str(row.get("path", "")),
            payload=dict(row.get("payload") or {}),
        )
        reaction = react(problem, plan, event, **budget)
        problem, plan = reaction.problem, reaction.plan
    return {
        "kpis_before": before,
        "kpis_after": objective(problem, plan, None, weights).as_dict(),
        "changes": views.plan_changes(known, problem, plan),
    }


def _must_know(known: Known, op: str) -> None:
    if op not in known.problem.op_ids:
        raise KeyError(op)
