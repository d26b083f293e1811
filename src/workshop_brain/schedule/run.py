"""The schedule commands on texts: solve, react, verify. Pure: texts in, plain dictionaries out."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule import beam, exact, flowline
from workshop_brain.schedule.checking import Violation
from workshop_brain.schedule.diff import diff
from workshop_brain.schedule.exchange.sentences import sentences
from workshop_brain.schedule.instance import guess_format, read_event, read_instance
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, Weights, objective
from workshop_brain.schedule.partial import Unscheduled, largest_part
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import Reaction, apply_event, react
from workshop_brain.schedule.solver import Solver, value_of
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import overtaken, verify, verify_part
from workshop_brain.schedule.warm import warm_up


def read(text: str, name: str = "", format: str = "") -> Problem:
    """The problem of a file's text; the format is guessed from name and text unless given."""
    return read_instance(text, format or guess_format(name, text), name)


def read_plan(problem: Problem, text: str) -> Plan:
    """The plan of a PLAN.json's text; OrderError says what is wrong with it."""
    if text.lstrip().startswith("["):
        text = f'{{"plan": {text}}}'
    return Plan.from_json(problem, _json(text, "plan"))


def read_unscheduled(problem: Problem, text: str) -> list[str]:
    """Jobs that a PLAN.json lists as left out; OrderError when one is unknown."""
    if text.lstrip().startswith("["):
        return []
    rows = _json(text, "plan").get("unscheduled") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OrderError("plan: unscheduled must be a list of {job, why}")
    jobs = [str(row.get("job")) for row in rows]
    unknown = [job for job in jobs if job not in problem.job_ids]
    if unknown:
        raise OrderError(f"plan: unscheduled: no job {unknown[0]!r} in the problem")
    return jobs


def _told(problem: Problem, rows: Sequence[Unscheduled]) -> list[dict[str, Any]]:
    """What is left out, with the reason as data and as sentences in both languages."""
    out = []
    for row in rows:
        told = row.as_dict()
        why = {
            key.removesuffix("_ns"): problem.ticks(value) if key.endswith("_ns") else value
            for key, value in told["why"].items()
        }
        told["why"] = why | sentences(problem, row.why)
        out.append(told)
    return out


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
    may_leave: bool = False,
    keep_end: bool = False,
) -> dict[str, Any]:
    """Solve a benchmark file: best rule, local search, CP-SAT where the problem is small.

    With ``may_leave`` jobs whose limits cannot be kept are left out and listed; else they are
    refused by name. With ``keep_end`` all is finished no later than under the
    foreman's rule, as far as possible, before due dates count; see :class:`Aim`.

    ``objective`` is the makespan or the weighted tardiness, as the format says. The budget is 5 s
    unless given; with ``iterations`` of local search instead the same seed gives the same plan
    again, and CP-SAT, which has no such budget, is left out.
    """
    format = format or guess_format(name, text)
    problem = read_instance(text, format, name)
    warm_up()
    is_line = format == "fsp" and flowline.fits(problem)
    if is_line:
        flowline.iterate(flowline.Line(problem, 0, 1).chains[0], 0, 1.0)
    elif exact.fits(problem):
        exact.load()
    if beam.fits(problem):
        beam.warm_up(problem)
    try:
        run = Solver(problem, workers, seed, is_line=is_line, keep_end=keep_end)
        unscheduled: list[dict[str, Any]] = []
    except InfeasibleError:
        if problem.limits is None:
            raise
        part = largest_part(problem)
        unscheduled = _told(problem, part.unscheduled)
        if unscheduled and not may_leave:
            said = " ".join(row["why"]["en"] for row in unscheduled)
            raise InfeasibleError(
                f"{said} Loosen that, or plan the rest with --allow-unscheduled"
            ) from None
        problem = part.problem
        run = Solver(problem, workers, seed, first=part.plan)
    if iterations is not None:
        run.search(None, iterations, progress)
    else:
        run.within(5.0 if seconds is None else seconds, progress)
    violations = verify(problem, run.plan)
    if violations:
        raise InfeasibleError(f"{name or 'problem'}: the plan found is wrong: {violations[0]}")
    kpis = objective(problem, run.plan, None, DOCUMENT_WEIGHTS)
    value, low = value_of(problem, run.plan), min(run.bound, value_of(problem, run.plan))
    return {
        "instance": problem.name.replace("\\", "/").rsplit("/", 1)[-1],
        "format": format,
        "feasible": True,
        "objective": value,
        "objective_name": ("makespan" if problem.target == "makespan" else "weighted_tardiness"),
        "lower_bound": low,
        "gap": 0.0 if value <= 0 else max(0.0, (value - low) / value),
        "optimal": value <= low,
        "seconds": round(time.perf_counter() - run.begin, 3),
        "history": [[round(t, 4), v] for t, v in run.history],
        "first_feasible_ms": round(1e3 * run.first_s, 3),
        "constructed": run.constructed,
        "weights": {
            "tardiness": run.aim.weights.tardiness,
            "end": run.aim.weights.end,
            "end_by": int(run.aim.weights.end_by) if run.aim.weights.end else None,
        },
        "moves": run.moves,
        "seed": seed,
        "workers": workers,
        "kpis": kpis.as_dict(),
        "plan": run.plan.rows(problem),
        "unscheduled": unscheduled,
    }


DEADLINE_MS = 10.0
"""Time in which a repair of a document answers; see ``react``."""


CHANGES = 0.09
"""See ``Weights.changes``."""
STEADY = 0.25
"""See ``Weights.steady``: improvement closes such a distance within seconds."""


def react_weights(plan: Plan, now: int) -> Weights:
    """Weighted tardiness, with a light price on change in the next fifth of what is left."""
    left = max(5, int(plan.end.max(initial=0)) - now)
    return Weights(
        setup=0.0,
        flow=0.0,
        move=0.1,
        shift=0.005,
        near_s=3 * left // 10,
        far=0.0,
        calm=0.0,
        steady=STEADY,
        changes=CHANGES,
        worth=0.0,
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
    deadline_ms: float | None = DEADLINE_MS,
) -> dict[str, Any]:
    """Repair a running plan after an event document: what started before it stays as it is.

    What the plan lists as unscheduled is tried anew. Ticks of the event count from the document's
    origin. ``since`` of the answer says what happened on the way, so that it can be checked and
    repaired again: each event with the plan that it met.
    """
    format = format or guess_format(name, text)
    problem, since = read_since(read_instance(text, format, name), plan_text)
    plan = read_plan(problem, plan_text)
    is_line = format == "fsp" and flowline.fits(read_instance(text, format, name))
    wrong = _violations(problem, plan, plan_text, is_line=is_line)
    if wrong:
        raise InfeasibleError(f"plan: {wrong[0].kind}: {wrong[0].ops[0]} {wrong[0].detail}")
    happened = _json(event_text, "event")
    event = at_origin(problem, read_event(happened))
    if problem.ticks(event.time_ns) < problem.now:
        raise OrderError(f"event: time must be {problem.now} or more, when the last event was; "
                         f"got {happened.get('time')}")  # fmt: skip
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
        deadline_ms=deadline_ms,
    )
    if is_line:
        result = _in_line(result)
    after = result.problem
    return {
        "feasible": True,
        "react_ms": round(result.react_ms, 3),
        "objective": value_of(after, result.plan),
        "chosen": result.candidates[result.chosen].name,
        "candidates": [
            {"name": c.name, "objective": c.objective, "kpis": c.kpis} for c in result.candidates
        ],
        "kpis": result.kpis.as_dict(),
        "plan": result.plan.rows(after),
        "diff": [change.as_dict() for change in diff(after, result.previous, result.plan)],
        "unscheduled": _told(after, result.unscheduled),
        "since": [*since, {"event": happened, "frozen": frozen, "plan": plan.rows(problem)}],
    }


def at_origin(problem: Problem, event: Event) -> Event:
    """An event whose ticks were read from zero, at the origin of the problem's ticks."""
    payload = dict(event.payload)
    if isinstance(payload.get("until_ns"), int):
        payload["until_ns"] += problem.origin_ns
    return replace(event, time_ns=event.time_ns + problem.origin_ns, payload=payload)


def read_since(problem: Problem, text: str) -> tuple[Problem, list[dict[str, Any]]]:
    """The problem as it stands after the events that a PLAN.json tells of, and these."""
    if text.lstrip().startswith("["):
        return problem, []
    steps = _json(text, "plan").get("since") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise OrderError("plan: since must be a list of {event, frozen, plan}")
    for k, step in enumerate(steps):
        happened, frozen = step.get("event"), step.get("frozen", 0)
        if not isinstance(happened, dict) or type(frozen) is not int or frozen < 0:
            raise OrderError(f"plan: since[{k}]: needs an event, and frozen of 0 or more")
        met = Plan.from_json(problem, {"plan": step.get("plan")})
        event = at_origin(problem, read_event(happened))
        if event.kind is EventKind.RUSH_ORDER and event.path in problem.job_ids:
            # the document holds the job already: only the time goes on
            event = replace(event, kind=EventKind.ORDERS_CHANGED, payload={})
        problem, _, _ = apply_event(problem, met, event, frozen)
    return problem, steps


def _violations(problem: Problem, plan: Plan, plan_text: str, *, is_line: bool) -> list[Violation]:
    found = verify_part(problem, plan, read_unscheduled(problem, plan_text))
    return [*found, *overtaken(problem, plan)] if is_line else found


def _in_line(result: Reaction) -> Reaction:
    """The most preferred candidate in which no job overtakes another."""
    for k, plan in enumerate(result.plans):
        if not overtaken(result.problem, plan) and not verify(result.problem, plan):
            kpis = objective(result.problem, plan, result.previous, DOCUMENT_WEIGHTS)
            return replace(result, plan=plan, chosen=k, kpis=kpis)
    raise InfeasibleError("every repair lets a job overtake another; the last plan stays valid")


def verify_file_text(
    text: str, plan_text: str, *, name: str = "", format: str = ""
) -> dict[str, Any]:
    """What the independent checker says of a plan."""
    format = format or guess_format(name, text)
    problem = read_instance(text, format, name)
    is_line = format == "fsp" and flowline.fits(problem)
    problem, _ = read_since(problem, plan_text)
    plan = read_plan(problem, plan_text)
    unscheduled = read_unscheduled(problem, plan_text)
    violations = _violations(problem, plan, plan_text, is_line=is_line)
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    return {
        "feasible": not violations,
        "objective": value_of(problem, plan),
        "kpis": kpis.as_dict(),
        "violations": [violation.as_dict() for violation in violations],
        "unscheduled": unscheduled,
    }
