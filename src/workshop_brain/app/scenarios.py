"""Up to three suppositions side by side, each solved from the present state of the plant."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workshop_brain.app.plan_state import plan_on
from workshop_brain.app.planner import MOST_STEPS, Planner, Task
from workshop_brain.app.supposed import Supposed, refused
from workshop_brain.autonomy.compute import changes, moves
from workshop_brain.errors import BrainError, OrderError
from workshop_brain.schedule.objective import Weights, completion, objective
from workshop_brain.schedule.plan import carry
from workshop_brain.schedule.react import Reaction, react
from workshop_brain.schedule.structure import FAR

MOST = 3
_LATE = 20
Changes = Sequence[Mapping[str, Any]]


def supposed(
    planner: Planner, task: Task, changes_: Changes, *, taken: Collection[str] = (), by: str = ""
) -> Supposed:
    """The order book and the declared times of a task after changes.

    Raises
    ------
    RefusedChange
        More than ``MOST_STEPS`` changes, or one that cannot be (see ``Supposed.apply``).
    """
    if len(changes_) > MOST_STEPS:
        raise refused("too_many", count=len(changes_), limit=MOST_STEPS)
    start = Supposed(
        plant=planner.plant,
        now_ns=task.time_ns,
        requests={r.id: r for r in task.requests},
        declared=list(task.declared),
        taken=taken,
        by=by,
    )
    return start.apply(changes_)


def scenarios(
    planner: Planner, task: Task, suppositions: Sequence[Changes], frozen_s: int
) -> dict[str, Any]:
    """``{now: {kpis}, scenarios: [{kpis, effect, changes, late} or {error}]}``.

    All columns get the same search, so that the difference is the supposition's alone.

    Raises
    ------
    OrderError
        More than three, or a change that is incomplete or about something unknown.
    """
    if not 1 <= len(suppositions) <= MOST:
        raise OrderError(f"scenarios: 1 to {MOST} can be compared, got {len(suppositions)}")
    weights = planner.weights
    now = _solved(planner, task, (), frozen_s, weights)
    out = []
    for changes_ in suppositions:
        try:
            then = _solved(planner, task, changes_, frozen_s, weights)
        except OrderError:
            raise
        except BrainError as error:
            out.append({"error": str(error)})
            continue
        out.append(_column(now, then, weights))
    return {"now": {"kpis": _kpis(now, weights)}, "scenarios": out}


def _solved(
    planner: Planner, task: Task, suppose: Changes, frozen_s: int, weights: Weights
) -> Reaction:
    found = supposed(planner, task, suppose)
    basis = task.state.reference
    if basis is None:
        raise OrderError("there is no plan yet; try again in a moment")
    asked = replace(task, requests=tuple(found.requests.values()), declared=tuple(found.declared))
    problem = planner.problem_now(asked)
    return react(
        problem,
        plan_on(problem, basis),
        None,
        frozen_s=frozen_s,
        weights=weights,
        iterations=planner.scenario_moves(problem),
    )


def _kpis(found: Reaction, weights: Weights) -> dict[str, float]:
    return objective(found.problem, found.plan, None, weights).as_dict()


def _column(now: Reaction, then: Reaction, weights: Weights) -> dict[str, Any]:
    problem = then.problem
    before, after = _kpis(now, weights), _kpis(then, weights)
    old = carry(now.problem, now.plan, problem)
    found = moves(problem, old, then.plan)
    late = completion(problem, then.plan) - problem.job_due
    order = np.argsort(-late, kind="stable")[:_LATE]
    return {
        "kpis": after,
        "effect": {key: after[key] - before[key] for key in after},
        "moved": sum(m.counts for m in found),
        "changes": list(changes(problem, found))[:60],
        "late": [
            {"order": problem.job_ids[j], "late_s": int(late[j])}
            for j in order.tolist()
            if 0 < late[j] < FAR // 2 and not problem.job_ids[j].startswith("pin:")
        ],
    }
