"""Local search on machine sequences: insert and reassign moves under threshold acceptance.

Where the longest path is all that counts, tabu search on its blocks is used instead. Searchers run
in threads (the kernels release the interpreter), each with random numbers of its own (xorshift64*)
and, under threshold acceptance, a falling temperature; they go on from the best plan at fixed
shares of the budget. With an iteration budget the same seed gives the same plan bit for bit,
whatever the clock does.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.schedule import lists, tabu
from workshop_brain.schedule.moves import DUE, WORK, Tables, best_plan, lay_out, search
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.verify import verify

Ints = NDArray[np.int64]
CHUNK = 4000
"""Moves per thread between two exchanges in the deterministic mode."""
HEAT = 0.2
"""First temperature over mean duration x mean weight; measured in bench/schedule.py."""
GOAL_STEP = 0.03
"""Makespan problems chase a goal this far below the best makespan so far."""
SLACK = (2.0, 1000, 0.6)
"""A move is given up once it costs this much more than allowed (mean duration x mean weight),
although earlier finishes are pending: so much up to so many operations, then less by this power of
their number, since what is lost is followed much further there. Nine of ten moves are lost, and
took 97 % of the steps at 10,000 operations; chosen on processor time, see docs/benchmarks.md."""
LISTED = 15_000
"""Operations that the polish of the reaction path may place anew under limits; about 25 ms."""
EXCHANGES = 8
"""How often in a budget all searchers go on from the best plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """Result of a search.

    Attributes
    ----------
    curve
        ``(seconds, moves, objective)`` of the best so far; seconds are for display only.
    moves
        Moves evaluated by all workers together.
    """

    plan: Plan
    objective: float
    start_objective: float
    curve: tuple[tuple[float, int, float], ...]
    moves: int
    seconds: float


def improve(
    problem: Problem,
    plan: Plan,
    *,
    seconds: float | None = None,
    iterations: int | None = None,
    seed: int = 0,
    workers: int = 1,
    previous: Plan | None = None,
    stable: bool = True,
    weights: Weights = PLANT_WEIGHTS,
    progress: Callable[[float, float], bool] | None = None,
    watch: Callable[[float, Plan], None] | None = None,
) -> Improvement:
    """A better plan from a feasible one, never a worse one.

    Parameters
    ----------
    seconds, iterations
        Budget, exactly one of them: wall time, or moves in all. With iterations the result
        depends on seed, workers and budget alone, bit for bit.
    previous
        The plan in force, against which moves and shifts are priced; left out: ``plan``.
    stable
        False when nothing is in force yet: moves and shifts are free.
    progress
        Called after each round with share done and best objective; False stops the search.
    watch
        Called with the seconds so far and each better plan.
    """
    if (seconds is None) == (iterations is None):
        raise ValueError("improve: give either seconds or iterations")
    reference = (previous or plan) if stable else None
    begin = time.perf_counter()
    try:
        base = right_shift(problem, plan)
    except InfeasibleError:  # with limits not every plan is the earliest in its own order
        base = plan
    start_value = objective(problem, base, reference, weights).objective
    kind: type[_Run] = _Moves
    if problem.limits is not None:
        kind = _Lists
        value = objective(problem, plan, reference, weights).objective
        if value < start_value and not verify(problem, plan):  # a list may mean a later plan
            base, start_value = plan, value
    elif reference is None and not (weights.setup or weights.flow) and tabu.fits(problem):
        kind = _Paths
    run = kind(problem, base, reference, weights, seed, max(1, workers), start_value)
    run.watch = watch
    if problem.n_ops and int((problem.op_status == 0).sum()):
        run.go(seconds, iterations, begin, progress)
    return Improvement(
        plan=run.plan,
        objective=run.value,
        start_objective=start_value,
        curve=tuple(run.curve),
        moves=run.moves,
        seconds=time.perf_counter() - begin,
    )


class _Run(ABC):
    """Rounds of parallel searchers that share the best plan."""

    per_move = 1
    """Moves that one turn of a searcher evaluates, about."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        reference: Plan | None,
        weights: Weights,
        seed: int,
        workers: int,
        value: float,
    ) -> None:
        self.problem, self.reference, self.weights = problem, reference, weights
        self.plan, self.value = plan, value
        self.curve: list[tuple[float, int, float]] = [(0.0, 0, value)]
        self.watch: Callable[[float, Plan], None] | None = None
        self.moves = 0
        self.workers = workers
        self._begin(seed)

    @abstractmethod
    def _begin(self, seed: int) -> None:
        """Make the searchers."""

    @abstractmethod
    def _round(self, pool: ThreadPoolExecutor, turns: int, hot: float, cold: float) -> None:
        """Every searcher takes its turns at once, from a hot to a colder share of the heat."""

    @abstractmethod
    def _collect(self, now: float) -> None:
        """Take the best plan of all searchers, in their order."""

    @abstractmethod
    def _exchange(self) -> None:
        """All searchers go on from the best plan."""

    def go(
        self,
        seconds: float | None,
        iterations: int | None,
        begin: float,
        progress: Callable[[float, float], bool] | None,
    ) -> None:
        """Search until the budget is used."""
        each = self.workers * self.per_move
        total = None if iterations is None else max(1, iterations // each)
        chunk = max(50, CHUNK // self.per_move) if total is not None else 500 // self.per_move
        done, share, shared = 0, 0.0, 0
        with ThreadPoolExecutor(self.workers) as pool:
            while share < 1.0:
                moves = chunk if total is None else min(chunk, total - done)
                clock = time.perf_counter()
                ahead = _share(seconds, total, begin, done + moves)
                self._round(pool, moves, 1 - share, max(0.0, 1 - ahead))
                done += moves
                self._collect(time.perf_counter() - begin)
                share = _share(seconds, total, begin, done)
                if int(share * EXCHANGES) > shared and share < 1.0:
                    shared = int(share * EXCHANGES)
                    self._exchange()
                if progress is not None and not progress(min(1.0, share), self.value):
                    break
                if total is None:
                    took = max(1e-4, time.perf_counter() - clock)
                    left = max(0.0, (seconds or 0.0) - (time.perf_counter() - begin))
                    chunk = int(max(50, min(chunk * 4, chunk * min(0.1, left) / took)))

    def _better(self, plan: Plan) -> bool:
        """Take a searcher's best plan when it is better than all before."""
        value = objective(self.problem, plan, self.reference, self.weights).objective
        if value >= self.value - 1e-6:
            return False
        self.plan, self.value = plan, value
        return True

    def _mark(self, now: float) -> None:
        """Note the best plan so far on the curve."""
        self.curve.append((now, self.moves, self.value))
        if self.watch is not None:
            self.watch(now, self.plan)


class _Moves(_Run):
    """Threshold acceptance for every objective; on makespan it chases a falling goal."""

    def _begin(self, seed: int) -> None:
        problem, weights = self.problem, self.weights
        self.target = problem.target == "makespan"
        self.searchers = [self._fresh(seed * 1000 + k) for k in range(self.workers)]
        self.seen = [0.0] * self.workers
        unit = _unit(problem, self.searchers[0], weights)
        self.heat, self.slack = HEAT * unit, slack(problem) * unit

    def _fresh(self, seed: int) -> Tables:
        due = self._goal() if self.target else None
        return lay_out(self.problem, self.plan, self.reference, self.weights, seed, due)

    def _goal(self) -> NDArray[np.int64]:
        """Due ticks that a makespan search chases: below the best makespan so far."""
        last = int((self.plan.end + self.problem.op_tail).max())
        goal = last - max(1, round((last - self.problem.now) * GOAL_STEP))
        return np.full(self.problem.n_jobs, goal, np.int64)

    def _round(self, pool: ThreadPoolExecutor, moves: int, hot: float, cold: float) -> None:
        """Every searcher makes its moves at once."""
        late, setup = float(self.weights.tardiness), float(self.weights.setup)
        prices = (self.slack, late, setup, float(self.weights.end), self.problem.now)
        tasks = [
            pool.submit(search, tables, moves, self.heat * hot, self.heat * cold, *prices)
            for tables in self.searchers
        ]
        for task in tasks:
            task.result()
        self.moves += moves * len(self.searchers)

    def _collect(self, now: float) -> None:
        """Take the best plan of all searchers, in their order."""
        improved = False
        for k, tables in enumerate(self.searchers):
            if tables.cost[1] >= self.seen[k]:
                continue
            self.seen[k] = float(tables.cost[1])
            plan = best_plan(self.problem, tables)
            value = objective(self.problem, plan, self.reference, self.weights).objective
            if value < self.value - 1e-6:
                self.plan, self.value, improved = plan, value, True
        if improved:
            self._mark(now)
            if self.target:
                self._tighten()

    def _tighten(self) -> None:
        """A better makespan was found: everybody chases a goal below it, from where they are."""
        goal = self._goal()
        for k, tables in enumerate(self.searchers):
            tables.jobs[:, DUE] = goal
            tables.cost[:] = 0.0
            self.seen[k] = 0.0

    def _exchange(self) -> None:
        """All searchers go on from the best plan."""
        for k, tables in enumerate(self.searchers):
            fresh = self._fresh(0)
            fresh.rng[:] = tables.rng
            fresh.tally[:] = tables.tally
            self.searchers[k], self.seen[k] = fresh, 0.0


class _Paths(_Run):
    """Tabu search on longest paths."""

    per_move = 25

    def _begin(self, seed: int) -> None:
        seeds = range(seed * 1000, seed * 1000 + self.workers)
        self.graphs = [tabu.lay_out(self.problem, self.plan, k) for k in seeds]
        self.seen = [int(graph.tally[tabu.BEST]) for graph in self.graphs]

    def _round(self, pool: ThreadPoolExecutor, turns: int, hot: float, cold: float) -> None:
        for task in [pool.submit(tabu.tabu_search, graph, turns) for graph in self.graphs]:
            task.result()
        self.moves = sum(int(graph.tally[tabu.TRIED]) for graph in self.graphs)

    def _collect(self, now: float) -> None:
        for k, graph in enumerate(self.graphs):
            found = int(graph.tally[tabu.BEST])
            if found < self.seen[k]:
                self.seen[k] = found
                if self._better(tabu.best_plan(self.problem, graph)):
                    self._mark(now)

    def _exchange(self) -> None:
        """Whoever is behind the best goes on from there."""
        best = min(self.graphs, key=lambda graph: int(graph.tally[tabu.BEST]))
        for k, graph in enumerate(self.graphs):
            if graph.tally[tabu.BEST] > best.tally[tabu.BEST]:
                tabu.follow(graph, best)
                self.seen[k] = int(graph.tally[tabu.BEST])


class _Lists(_Run):
    """Threshold acceptance on lists of priorities, for problems with limits."""

    def _begin(self, seed: int) -> None:
        problem = self.problem
        self.prices = lists.prices_of(problem, self.reference, self.weights)
        self.heat = HEAT * _typical(problem, _shortest(problem), self.weights)
        self.searchers = [self._fresh(seed * 1000 + k) for k in range(self.workers)]
        self.seen = [self.value] * self.workers

    def _fresh(self, seed: int) -> lists.Searcher:
        return lists.lay_out(self.problem, self.plan, self.prices, seed)[0]

    def _round(self, pool: ThreadPoolExecutor, turns: int, hot: float, cold: float) -> None:
        hot, cold = self.heat * hot, self.heat * cold
        tasks = [
            pool.submit(lists.run, self.problem, self.prices, one, turns, hot, cold)
            for one in self.searchers
        ]
        for task in tasks:
            task.result()
        self.moves = sum(int(one.tally[0]) for one in self.searchers)

    def _collect(self, now: float) -> None:
        for k, one in enumerate(self.searchers):
            if one.cost[1] < self.seen[k]:
                self.seen[k] = float(one.cost[1])
                if self._better(lists.best_plan(self.problem, one)):
                    self._mark(now)

    def _exchange(self) -> None:
        best = min(self.searchers, key=lambda one: float(one.cost[1]))
        for one in self.searchers:
            one.wish[:], one.machine[:] = best.best_wish, best.best_machine
            one.hold_back[:] = best.best_hold_back
            one.cost[0] = best.cost[1]


def slack(problem: Problem) -> float:
    """How much more than allowed a move may cost for a while, in typical delays."""
    most, ops, power = SLACK
    return float(most * min(1.0, (ops / max(1, problem.n_ops)) ** power))


def _shortest(problem: Problem) -> NDArray[np.int64]:
    """Shortest duration of each FREE operation."""
    shortest: NDArray[np.int64] = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
    free: NDArray[np.int64] = shortest[problem.op_status == 0]
    return free


def _unit(problem: Problem, tables: Tables, weights: Weights) -> float:
    """Cost of a typical delay in the tables of a searcher."""
    return _typical(problem, tables.ops[problem.op_status == 0, WORK], weights)


def _typical(problem: Problem, work: NDArray[np.int64], weights: Weights) -> float:
    """Cost of a typical delay: mean work x mean weight."""
    weight = float(problem.job_weight.mean()) * max(weights.tardiness, 1e-9)
    return float(work.mean()) * weight if len(work) else 0.0


def _share(seconds: float | None, total: int | None, begin: float, done: int) -> float:
    """Share of the budget that is used."""
    if total is not None:
        return done / total
    return (time.perf_counter() - begin) / max(1e-3, seconds or 0.0)


def polish(
    problem: Problem, plan: Plan, previous: Plan, weights: Weights, iterations: int, seed: int
) -> Plan:
    """A few hundred cold moves on a timed plan, deterministic; for the reaction path."""
    if problem.limits is not None:
        searcher, _ = lists.lay_out(
            problem, plan, lists.prices_of(problem, previous, weights), seed
        )
        lists.run(problem, lists.prices_of(problem, previous, weights), searcher,
                  max(1, min(iterations, LISTED // max(1, problem.n_ops))), 0.0, 0.0)  # fmt: skip
        better = lists.best_plan(problem, searcher)
        values = [objective(problem, p, previous, weights).objective for p in (plan, better)]
        return better if values[1] < values[0] else plan
    tables = lay_out(problem, plan, previous, weights, seed)
    late, setup = float(weights.tardiness), float(weights.setup)
    most = slack(problem) * _unit(problem, tables, weights)
    search(tables, iterations, 0.0, 0.0, most, late, setup, float(weights.end), problem.now)
    return best_plan(problem, tables)
