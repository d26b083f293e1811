"""All stages of a search from nothing: rules, beams, local search, CP-SAT where it is small."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from workshop_brain.schedule import beam, exact, flowline
from workshop_brain.schedule.bound import bound
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import QUICK, Rule, construct, tune
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem

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
        self._note(value_of(problem, self.plan))
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
            self._note(value_of(problem, self.plan))
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
            self._note(value_of(self.problem, plan))

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
            self._note(value_of(self.problem, plan), offset + at)

        found = improve(
            self.aim.problem, self.plan, seconds=seconds, iterations=iterations, seed=self.seed,
            workers=self.workers, stable=False, weights=self.aim.weights, progress=go_on,
            watch=watch,
        )  # fmt: skip
        self.moves += found.moves
        if found.objective < self.cost:
            self.plan, self.cost = found.plan, found.objective
            self._note(value_of(self.problem, self.plan))

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


def value_of(problem: Problem, plan: Plan) -> float:
    """Makespan or weighted tardiness, as the problem's target says."""
    kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
    if problem.target == "makespan":
        return float(problem.now + kpis.makespan_s)
    return kpis.weighted_tardiness_s
