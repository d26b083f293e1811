"""The schedule commands on texts: solve, react, verify. Pure: texts in, plain dictionaries out."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.schedule.bound import bound
from workshop_brain.schedule.diff import diff
from workshop_brain.schedule.instance import guess_format, read_event, read_instance
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.warm import warm_up


def read(text: str, name: str = "", format: str = "") -> Problem:
    """The problem of a file's text; the format is guessed from name and text unless given."""
    return read_instance(text, format or guess_format(name, text), name)


def read_plan(problem: Problem, text: str) -> Plan:
    """The plan of a PLAN.json's text; OrderError says what is wrong with it."""
    return Plan.from_json(problem, _json(text, "plan"))


def _json(text: str, what: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise OrderError(f"{what}: is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise OrderError(f"{what}: must be a JSON object, got {type(data).__name__}")
    return data


def solve_file_text(
    text: str,
    *,
    name: str = "",
    format: str = "",
    seconds: float | None = None,
    iterations: int | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[float, float], bool] | None = None,
) -> dict[str, Any]:
    """Solve a benchmark file: best rule, then search within the budget (default 5 s).

    ``objective`` is the makespan or the weighted tardiness, as the format says; ``iterations``
    instead of seconds gives the same plan again for the same seed.
    """
    problem = read(text, name, format)
    warm_up()
    first = construct(problem, weights=DOCUMENT_WEIGHTS)
    if seconds is None and iterations is None:
        seconds = 5.0
    result = improve(
        problem,
        first,
        seconds=seconds if iterations is None else None,
        iterations=iterations,
        seed=seed,
        workers=workers,
        stable=False,
        weights=DOCUMENT_WEIGHTS,
        progress=progress,
    )
    violations = verify(problem, result.plan)
    if violations:
        raise InfeasibleError(f"{name or 'problem'}: the plan found is wrong: {violations[0]}")
    kpis = objective(problem, result.plan, None, DOCUMENT_WEIGHTS)
    limit = bound(problem, DOCUMENT_WEIGHTS)
    makespan = problem.target == "makespan"
    value = float(kpis.makespan_s) if makespan else kpis.weighted_tardiness_s
    low = float(limit.makespan) if makespan else limit.objective
    return {
        "feasible": True,
        "name": problem.name,
        "target": problem.target,
        "objective": value,
        "bound": low,
        "gap": 0.0 if value <= 0 else max(0.0, (value - low) / value),
        "constructed": _value(problem, first),
        "seconds": round(result.seconds, 3),
        "moves": result.moves,
        "seed": seed,
        "workers": workers,
        "curve": [[round(t, 3), n, v] for t, n, v in result.curve],
        "kpis": kpis.as_dict(),
        "plan": result.plan.to_json(problem),
    }


def _value(problem: Problem, plan: Plan) -> float:
    """Makespan or weighted tardiness, as the problem's target says."""
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    makespan = problem.target == "makespan"
    return float(kpis.makespan_s) if makespan else kpis.weighted_tardiness_s


def react_weights(plan: Plan, now: int) -> Weights:
    """Weighted tardiness, with a light price on change in the next fifth of what is left."""
    left = max(5, int(plan.end.max(initial=0)) - now)
    return Weights(
        setup=0.0, flow=0.0, move=0.3, shift=0.02, near_s=left // 5, far=0.0, calm=0.0, worth=0.0
    )


def react_file_text(
    text: str,
    plan_text: str,
    event_text: str,
    *,
    name: str = "",
    format: str = "",
    seed: int = 0,
    frozen: int = 0,
    iterations: int = 300,
) -> dict[str, Any]:
    """Repair a running plan after an event document: what started before it stays as it is."""
    problem = read(text, name, format)
    plan = read_plan(problem, plan_text)
    wrong = verify(problem, plan)
    if wrong:
        raise InfeasibleError(f"plan: {wrong[0].kind}: {wrong[0].ops[0]} {wrong[0].detail}")
    event = read_event(_json(event_text, "event"))
    weights = react_weights(plan, problem.ticks(event.time_ns))
    warm_up()
    result = react(
        problem,
        plan,
        event,
        seed=seed,
        frozen_s=frozen,
        weights=weights,
        iterations=iterations,
    )
    after = result.problem
    return {
        "feasible": True,
        "react_ms": round(result.react_ms, 3),
        "objective": _value(after, result.plan),
        "chosen": result.candidates[result.chosen].name,
        "candidates": [
            {"name": c.name, "objective": c.objective, "kpis": c.kpis} for c in result.candidates
        ],
        "kpis": result.kpis.as_dict(),
        "plan": result.plan.to_json(after),
        "diff": [change.as_dict() for change in diff(after, result.previous, result.plan)],
    }


def verify_file_text(
    text: str, plan_text: str, *, name: str = "", format: str = ""
) -> dict[str, Any]:
    """What the independent checker says of a plan."""
    problem = read(text, name, format)
    plan = read_plan(problem, plan_text)
    violations = verify(problem, plan)
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    return {
        "feasible": not violations,
        "objective": _value(problem, plan),
        "kpis": kpis.as_dict(),
        "violations": [violation.as_dict() for violation in violations],
    }
