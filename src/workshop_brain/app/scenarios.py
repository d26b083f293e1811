"""Up to three suppositions side by side, each solved from the present state of the plant."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workshop_brain.app.plan_state import plan_on
from workshop_brain.app.planner import Planner, Task
from workshop_brain.autonomy.compute import changes, moves
from workshop_brain.errors import BrainError, OrderError
from workshop_brain.model.order import WorkRequest
from workshop_brain.schedule.calendars import merge
from workshop_brain.schedule.objective import completion, objective
from workshop_brain.schedule.pins import with_pins
from workshop_brain.schedule.plan import carry
from workshop_brain.schedule.react import Reaction, react
from workshop_brain.schedule.structure import FAR, Problem

MOST = 3
MOVES = 3_000
"""Search for every column alike, so that the difference is the supposition's alone."""
_LATE = 20


def scenarios(
    planner: Planner, task: Task, suppositions: Sequence[Sequence[Mapping[str, Any]]], frozen_s: int
) -> dict[str, Any]:
    """``{now: {kpis}, scenarios: [{kpis, effect, changes, late} or {error}]}``.

    Each supposition is a list of changes: ``{kind: "down", machine, from_ns, until_ns}``,
    ``{kind: "shift", work_center, from_ns, until_ns}`` (open although the calendar says closed),
    ``{kind: "add", id, product, quantity, due_ns, priority}``, ``{kind: "cancel", order}`` and
    ``{kind: "due", order, due_ns}``.

    Raises
    ------
    OrderError
        More than three, or a change that is incomplete or about something unknown.
    """
    if not 1 <= len(suppositions) <= MOST:
        raise OrderError(f"scenarios: 1 to {MOST} can be compared, got {len(suppositions)}")
    now = _solved(planner, task, (), frozen_s)
    out = []
    for changes_ in suppositions:
        try:
            then = _solved(planner, task, changes_, frozen_s)
        except OrderError:
            raise
        except BrainError as error:
            out.append({"error": str(error)})
            continue
        out.append(_column(now, then))
    return {"now": {"kpis": _kpis(now)}, "scenarios": out}


def _solved(
    planner: Planner, task: Task, suppose: Sequence[Mapping[str, Any]], frozen_s: int
) -> Reaction:
    requests = {r.id: r for r in task.requests}
    for change in suppose:
        _order(requests, change)
    asked = replace(task, requests=tuple(requests.values()))
    problem = planner.problem_now(asked, pins=())
    for change in suppose:
        problem = _machines(problem, change)
    basis = task.state.reference
    if basis is None:
        raise OrderError("there is no plan yet; try again in a moment")
    problem = with_pins(problem, planner.pins)
    return react(problem, plan_on(problem, basis), None, frozen_s=frozen_s, iterations=MOVES)


def _order(requests: dict[str, WorkRequest], change: Mapping[str, Any]) -> None:
    kind = change.get("kind")
    try:
        if kind == "add":
            id = str(change["id"])
            if id in requests:
                raise OrderError(f"scenario: order {id!r} is there already")
            requests[id] = WorkRequest(
                id=id,
                product=str(change["product"]),
                quantity=int(change["quantity"]),
                due_ns=int(change["due_ns"]),
                priority=int(change.get("priority", 1)),
            )
        elif kind in ("cancel", "due"):
            order = str(change["order"])
            if order not in requests:
                raise OrderError(f"scenario: there is no open order {order!r}")
            if kind == "cancel":
                del requests[order]
            else:
                requests[order] = replace(requests[order], due_ns=int(change["due_ns"]))
        elif kind not in ("down", "shift"):
            raise OrderError(f"scenario: kind must be down, shift, add, cancel or due, got {kind}")
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError(f"scenario: change {dict(change)!r} is incomplete: {error}") from error


def _machines(problem: Problem, change: Mapping[str, Any]) -> Problem:
    if change["kind"] not in ("down", "shift"):
        return problem
    try:
        low, high = (problem.ticks(int(change[key])) for key in ("from_ns", "until_ns"))
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError(f"scenario: change {dict(change)!r} is incomplete: {error}") from error
    low = max(low, problem.now)
    if high <= low:
        raise OrderError("scenario: the end must be after now and after the beginning")
    if change["kind"] == "down":
        name = str(change.get("machine"))
        if name not in problem.machine_ids:
            raise OrderError(f"scenario: no machine {name!r}")
        return problem.with_(downs=(*problem.downs, (problem.machine(name), low, high)))
    center = str(change.get("work_center"))
    if center not in problem.work_center_ids:
        raise OrderError(f"scenario: no work center {center!r}")
    mine = problem.machine_work_center == problem.work_center_ids.index(center)
    calendar = tuple(
        tuple(_opened(row, low, high)) if mine[m] else row for m, row in enumerate(problem.calendar)
    )
    return problem.with_(calendar=calendar)


def _opened(closed: Sequence[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """Closed windows without ``[low, high)``.

    >>> _opened([(0, 10), (20, 30)], 5, 25)
    [(0, 5), (25, 30)]
    """
    out = []
    for a, b in closed:
        out += [(x, y) for x, y in ((a, min(b, low)), (max(a, high), b)) if y > x]
    return merge(out)


def _kpis(found: Reaction) -> dict[str, float]:
    return objective(found.problem, found.plan, None).as_dict()


def _column(now: Reaction, then: Reaction) -> dict[str, Any]:
    problem = then.problem
    before, after = _kpis(now), _kpis(then)
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
            if 0 < late[j] < FAR // 2
        ],
    }
