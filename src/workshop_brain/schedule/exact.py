"""CP-SAT for what it is best at: small problems whole, and bounds that it proves.

Never on the reaction path. The model takes the whole plan so far as a hint, so that it is never
worse, and presolve stays off on larger models at short limits: there it eats the limit.
Importing the solver takes half a second, so it is imported when it is used.
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import sequences, timed

MOST_OPS = 150
"""Operations up to which the whole problem is given to the solver."""
MOST_ARCS = 20_000
"""Pairs of operations that may follow each other on machines with changeovers."""
_PRESOLVE_OPS = 100
_PRESOLVE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the solver found.

    Attributes
    ----------
    plan
        A better plan than the one given; None when there is none.
    bound
        No plan has a lower value: last finish for makespan problems, else weighted tardiness.
    is_optimal
        The better of both plans is proven the best there is.
    """

    plan: Plan | None
    bound: float
    is_optimal: bool


def fits(problem: Problem) -> bool:
    """Whether the problem is small and plain enough to be solved whole."""
    if not 0 < problem.n_ops <= MOST_OPS or len(problem.closed_start):
        return False
    if bool((problem.op_status != OpStatus.FREE).any()) or problem.limits is not None:
        return False
    if not problem.setup.any():
        return True
    count = np.bincount(problem.alt_machine, minlength=problem.n_machines)
    return int((count * count).sum()) <= MOST_ARCS


def load() -> None:
    """Import the solver, so that it does not cost time later."""
    import ortools.sat.python.cp_model  # noqa: F401


def prove(
    problem: Problem, plan: Plan, *, seconds: float, workers: int = 1, seed: int = 0
) -> Proof:
    """Search a problem that :func:`fits` whole, from a feasible plan, for so many seconds."""
    from ortools.sat.python import cp_model

    until = time.perf_counter() + seconds
    model = _Model(cp_model.CpModel(), problem, plan)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, 0.95 * (until - time.perf_counter()))
    solver.parameters.num_workers = max(1, workers)
    solver.parameters.random_seed = seed
    is_large = problem.n_ops > _PRESOLVE_OPS and seconds < _PRESOLVE_S
    solver.parameters.cp_model_presolve = not is_large
    status = solver.solve(model.model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Proof(plan=None, bound=-np.inf, is_optimal=False)
    machine, start, end = plan.machine.copy(), plan.start.copy(), plan.end.copy()
    for o in range(problem.n_ops):
        start[o], end[o] = solver.value(model.start[o]), solver.value(model.end[o])
        for m, taken in model.taken[o].items():
            if solver.value(taken):
                machine[o] = m
    found = Plan(machine=machine, start=start, end=end, setup_start=start)
    return Proof(
        plan=timed(problem, machine, *sequences(problem, found)),
        bound=float(solver.best_objective_bound),
        is_optimal=status == cp_model.OPTIMAL,
    )


class _Model:
    """The problem as intervals; machines with changeovers as circuits."""

    def __init__(self, model: Any, problem: Problem, plan: Plan) -> None:
        self.model, self.problem, self.plan = model, problem, plan
        self.horizon = int(plan.end.max() + problem.op_tail.max(initial=0)) + 1
        n = problem.n_ops
        low = np.maximum(problem.op_release, problem.now).tolist()
        self.start = [model.new_int_var(low[o], self.horizon, "") for o in range(n)]
        self.end = [model.new_int_var(low[o], self.horizon, "") for o in range(n)]
        self.taken: list[dict[int, Any]] = [{} for _ in range(n)]
        on: list[list[tuple[int, int, Any]]] = [[] for _ in range(problem.n_machines)]
        for o in range(n):
            self._operation(o, on)
        for m, rows in enumerate(on):
            self._machine(m, rows)
        self._objective()

    def _operation(self, o: int, on: list[list[tuple[int, int, Any]]]) -> None:
        model, plan = self.model, self.plan
        for m, work in self.problem.alternatives(o).items():
            taken = model.new_bool_var("")
            interval = model.new_optional_interval_var(self.start[o], work, self.end[o], taken, "")
            model.add_hint(taken, int(plan.machine[o] == m))
            self.taken[o][m] = taken
            on[m].append((o, work, interval))
        model.add_exactly_one(self.taken[o].values())
        model.add_hint(self.start[o], int(plan.start[o]))
        model.add_hint(self.end[o], int(plan.end[o]))
        for p, lag in self.problem.preds(o):
            model.add(self.start[o] >= self.end[p] + lag)

    def _machine(self, m: int, rows: list[tuple[int, int, Any]]) -> None:
        problem, model = self.problem, self.model
        model.add_no_overlap([interval for _, _, interval in rows])
        family, free = int(problem.machine_family[m]), int(problem.machine_available[m])
        for o, _, _ in rows:
            change = problem.setup_between(m, family, int(problem.op_family[o]))
            first = free if family < 0 else free + self._least_before(m, o, change)
            if first > problem.now:
                model.add(self.start[o] >= first).only_enforce_if(self.taken[o][m])
        table = problem.setup[problem.machine_work_center[m]]
        if table.any():
            self._circuit(m, rows, family, free)

    def _least_before(self, m: int, o: int, direct: int) -> int:
        """Least changeover before ``o``, whatever runs before it."""
        column = self.problem.setup[self.problem.machine_work_center[m]][
            :, self.problem.op_family[o]
        ]
        return min(direct, int(column.min()))

    def _circuit(self, m: int, rows: list[tuple[int, int, Any]], family: int, free: int) -> None:
        problem, model = self.problem, self.model
        sequence = [int(o) for o in self.plan.sequence(m)]
        follows = set(pairwise(sequence))
        arcs: list[tuple[int, int, Any]] = []
        none = model.new_bool_var("")
        model.add_hint(none, int(not sequence))
        arcs.append((0, 0, none))
        for i, (o, _, _) in enumerate(rows, 1):
            own = int(problem.op_family[o])
            first, last = model.new_bool_var(""), model.new_bool_var("")
            model.add_hint(first, int(bool(sequence) and sequence[0] == o))
            model.add_hint(last, int(bool(sequence) and sequence[-1] == o))
            arcs += [(0, i, first), (i, 0, last), (i, i, self.taken[o][m].negated())]
            begin = free + problem.setup_between(m, family, own)
            model.add(self.start[o] >= begin).only_enforce_if(first)
            for k, (x, _, _) in enumerate(rows, 1):
                if k == i:
                    continue
                arc = model.new_bool_var("")
                model.add_hint(arc, int((o, x) in follows))
                arcs.append((i, k, arc))
                change = problem.setup_between(m, own, int(problem.op_family[x]))
                model.add(self.start[x] >= self.end[o] + change).only_enforce_if(arc)
        model.add_circuit(arcs)

    def _objective(self) -> None:
        problem, model, plan = self.problem, self.model, self.plan
        ends = np.repeat(np.arange(problem.n_ops), np.diff(problem.sink_ptr)).tolist()
        done: dict[int, list[tuple[Any, int]]] = {}
        for o, j in zip(ends, problem.sink_job.tolist(), strict=True):
            done.setdefault(j, []).append((self.end[o], int(problem.op_tail[o])))
        if problem.target == "makespan":
            span = model.new_int_var(0, self.horizon, "")
            for rows in done.values():
                for end, tail in rows:
                    model.add(span >= end + tail)
            model.add_hint(span, int((plan.end + problem.op_tail).max()))
            model.minimize(span)
            return
        total = []
        for j, rows in done.items():
            due, weight = int(problem.job_due[j]), int(problem.job_weight[j])
            if due >= FAR or weight == 0:
                continue
            late = model.new_int_var(0, max(0, self.horizon - due), "")
            for end, tail in rows:
                model.add(late >= end + tail - due)
            total.append(weight * late)
        model.minimize(sum(total) if total else 0)
