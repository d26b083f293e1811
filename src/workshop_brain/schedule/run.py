"""The schedule commands on texts: solve, react, verify. Pure: texts in, plain dictionaries out."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.schedule import beam, exact, flowline
from workshop_brain.schedule.bound import bound
from workshop_brain.schedule.diff import diff
from workshop_brain.schedule.exchange.sentences import sentences
from workshop_brain.schedule.instance import guess_format, read_event, read_instance
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, Weights, objective
from workshop_brain.schedule.partial import Unscheduled, largest_part
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import QUICK, Rule, construct, tune
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify, verify_part
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


TUNE_SHARE = 0.25
"""Share of the time in which rule settings are tried before local search begins."""
LEAST_EXACT_S = 0.1
"""A solver that has less time is not started."""
BEAM_SHARE = {2000: 0.05, 10**9: 0.5}
"""Most of the time that beams have, by operations: local search of more is slow."""
TURN = 1000
"""Moves that count as one turn of iterated greedy."""
EXACT_SHARE = {60: 0.8, exact.MOST_OPS: 0.4}
"""Share of the time that CP-SAT has, by the operations up to which it holds."""


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
    value, low = _value(problem, run.plan), min(run.bound, _value(problem, run.plan))
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
        "weights": {"tardiness": run.aim.weights.tardiness, "end": run.aim.weights.end,
                    "end_by": int(run.aim.weights.end_by) if run.aim.weights.end else None},
        "moves": run.moves,
        "seed": seed,
        "workers": workers,
        "kpis": kpis.as_dict(),
        "plan": run.plan.rows(problem),
        "unscheduled": unscheduled,
    }


END = 1.0
"""Price of each tick that a job ends after the foreman's last one, in mean job weights: enough
that a plan does not end late for nothing."""
KEPT_END = 300.0
"""The same when the foreman's end is to be kept: more than any due date."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aim:
    """What the search minimises.

    Due dates alone would let a plan end much later than an ordinary one: a job that is due late, or
    late anyway, costs little at the end. So, for weighted tardiness, what ends after the foreman's
    plan (family first, then due date) has a price. It is low, unless that end is to be kept: on a
    full bottleneck keeping it takes the foreman's few changeovers, which costs due dates.

    Attributes
    ----------
    problem
        The problem, with no due date after that end when it is to be kept. The value of a plan is
        told by the original ones.
    """

    problem: Problem
    weights: Weights

    @classmethod
    def of(cls, problem: Problem, *, keep_end: bool) -> "Aim":
        """The aim for a problem; plain where CP-SAT solves it whole or limits hold."""
        is_plain = problem.target == "makespan" or exact.fits(problem)
        if is_plain or problem.limits is not None or not problem.n_ops:
            return cls(problem=problem, weights=DOCUMENT_WEIGHTS)
        plan = construct(problem, Rule.FOREMAN)
        last = int((plan.end + problem.op_tail).max())
        price = (KEPT_END if keep_end else END) * float(problem.job_weight.mean())
        if keep_end:
            problem = problem.with_(job_due=np.minimum(problem.job_due, last))
        return cls(
            problem=problem,
            weights=replace(DOCUMENT_WEIGHTS, end=price, end_by=last),
        )

    def cost(self, plan: Plan) -> float:
        """What the search minimises."""
        return objective(self.problem, plan, None, self.weights).objective


class Solver:
    """The best plan so far on its way through the stages.

    Attributes
    ----------
    plan, bound
        The best plan, and a value that none is below.
    history
        ``(seconds, value)`` of the first plan and of each better one; a plan whose value was less,
        but which ended too late, is not in it.
    first_s
        When the first plan stood.
    constructed
        Value of the best rule of the grid.
    is_line
        A flow shop in which no job may overtake: every plan is a permutation.
    moves
        Moves that local search evaluated.
    """

    def __init__(
        self,
        problem: Problem,
        workers: int,
        seed: int,
        *,
        is_line: bool = False,
        first: Plan | None = None,
        keep_end: bool = False,
    ) -> None:
        self.is_line = is_line
        self.problem, self.workers, self.seed = problem, max(1, workers), seed
        self.begin = time.perf_counter()
        self.history: list[tuple[float, float]] = []
        self.moves = 0
        self.plan = first or construct(problem, params=QUICK[0])
        self._note(_value(problem, self.plan))
        self.first_s = self.history[0][0]
        self.aim = Aim.of(problem, keep_end=keep_end)
        self.cost = self.aim.cost(self.plan)
        if first is None:
            self._take(construct(self.aim.problem, weights=self.aim.weights))
        self.constructed = self.history[-1][1]
        if is_line:
            self.line = flowline.Line(problem, seed, self.workers)
            self.plan = self.line.plan()
            self.cost = self.aim.cost(self.plan)
            self.history = []
            self._note(_value(problem, self.plan))
            self.first_s = self.history[0][0]
        limit = bound(problem, DOCUMENT_WEIGHTS)
        is_path = problem.target == "makespan"
        self.bound = float(limit.makespan) if is_path else limit.objective

    def _note(self, value: float, at: float | None = None) -> None:
        while self.history and self.history[-1][1] <= value:
            self.history.pop()
        self.history.append((time.perf_counter() - self.begin if at is None else at, value))

    def _take(self, plan: Plan) -> None:
        cost = self.aim.cost(plan)
        if cost < self.cost:
            self.plan, self.cost = plan, cost
            self._note(_value(self.problem, plan))

    @property
    def is_done(self) -> bool:
        """Whether nothing better can be found."""
        origin = self.problem.now if self.problem.target == "makespan" else 0
        return self.cost + origin <= self.bound

    def within(self, seconds: float, progress: Callable[[float, float], bool] | None) -> None:
        """All stages within so many seconds."""
        end = self.begin + seconds
        share = 0.0
        if not self.is_line and exact.fits(self.problem):
            share = next(s for n, s in EXACT_SHARE.items() if self.problem.n_ops <= n)
        if self.problem.target != "makespan" and not self.is_done:
            left = end - time.perf_counter()
            self._take(
                tune(
                    self.aim.problem,
                    self.plan,
                    seconds=TUNE_SHARE * left * (1 - share),
                    seed=self.seed,
                    workers=self.workers,
                    weights=self.aim.weights,
                )
            )
        self.search((end - time.perf_counter()) * (1 - share), None, progress)
        left = end - time.perf_counter()
        if share and left > LEAST_EXACT_S and not self.is_done:
            proof = exact.prove(
                self.problem, self.plan, seconds=left, workers=self.workers, seed=self.seed
            )
            if proof.plan is not None:
                self._take(proof.plan)
            self.bound = max(self.bound, proof.bound)

    def search(
        self,
        seconds: float | None,
        iterations: int | None,
        progress: Callable[[float, float], bool] | None,
    ) -> None:
        """Beams and local search; they end early at the lower bound."""
        if self.is_done or (seconds is not None and seconds <= 0):
            return
        if self.is_line:
            self._permute(seconds, iterations, progress)
            return
        if beam.fits(self.problem):
            begin = time.perf_counter()
            share = next(s for n, s in BEAM_SHARE.items() if self.problem.n_ops <= n)
            limit = None if seconds is None else share * seconds
            self._take(beam.build(self.problem, seconds=limit, workers=self.workers))
            if seconds is not None:
                seconds -= time.perf_counter() - begin
            if self.is_done or (seconds is not None and seconds <= 0):
                return
        offset, low = time.perf_counter() - self.begin, self.bound
        is_path = self.problem.target == "makespan"
        origin = self.problem.now if is_path else 0

        def go_on(share: float, value: float) -> bool:
            is_wanted = progress is None or progress(share, value)
            return is_wanted and value + origin > low

        def watch(at: float, plan: Plan) -> None:
            self._note(_value(self.problem, plan), offset + at)

        found = improve(
            self.aim.problem, self.plan, seconds=seconds, iterations=iterations, seed=self.seed,
            workers=self.workers, stable=False, weights=self.aim.weights, progress=go_on,
            watch=watch,
        )  # fmt: skip
        self.moves += found.moves
        if found.objective < self.cost:
            self.plan, self.cost = found.plan, found.objective
            self._note(_value(self.problem, self.plan))

    def _permute(
        self,
        seconds: float | None,
        iterations: int | None,
        progress: Callable[[float, float], bool] | None,
    ) -> None:
        """Iterated greedy on the order of the jobs."""

        def go_on(share: float) -> bool:
            if self.line.best < self.history[-1][1]:
                self._note(float(self.line.best))
            is_wanted = progress is None or progress(share, self.history[-1][1])
            return is_wanted and not self.is_done

        turns = None if iterations is None else max(1, iterations // TURN)
        self.line.go(seconds, turns, go_on)
        self.plan = self.line.plan()


def _value(problem: Problem, plan: Plan) -> float:
    """Makespan or weighted tardiness, as the problem's target says."""
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    makespan = problem.target == "makespan"
    return float(kpis.makespan_s) if makespan else kpis.weighted_tardiness_s


DEADLINE_MS = 10.0
"""Time in which a repair of a document answers; see ``react``."""


STEADY = 0.25
"""See ``Weights.steady``: improvement closes such a distance within seconds."""


def react_weights(plan: Plan, now: int) -> Weights:
    """Weighted tardiness, with a light price on change in the next fifth of what is left."""
    left = max(5, int(plan.end.max(initial=0)) - now)
    return Weights(
        setup=0.0,
        flow=0.0,
        move=0.3,
        shift=0.02,
        near_s=left // 4,
        far=0.0,
        calm=0.0,
        steady=STEADY,
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

    What the plan lists as unscheduled is tried anew.
    """
    problem = read(text, name, format)
    plan = read_plan(problem, plan_text)
    wrong = verify_part(problem, plan, read_unscheduled(problem, plan_text))
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
        deadline_ms=deadline_ms,
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
        "plan": result.plan.rows(after),
        "diff": [change.as_dict() for change in diff(after, result.previous, result.plan)],
        "unscheduled": _told(after, result.unscheduled),
    }


def verify_file_text(
    text: str, plan_text: str, *, name: str = "", format: str = ""
) -> dict[str, Any]:
    """What the independent checker says of a plan."""
    problem = read(text, name, format)
    plan = read_plan(problem, plan_text)
    unscheduled = read_unscheduled(problem, plan_text)
    violations = verify_part(problem, plan, unscheduled)
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    return {
        "feasible": not violations,
        "objective": _value(problem, plan),
        "kpis": kpis.as_dict(),
        "violations": [violation.as_dict() for violation in violations],
        "unscheduled": unscheduled,
    }
