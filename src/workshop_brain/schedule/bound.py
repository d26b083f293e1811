"""Lower bounds that each plan can be held against; simple, combinatorial, always valid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, cost_columns
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.relaxed import last_end
from workshop_brain.schedule.structure import FAR, OpStatus, Problem

Ints = NDArray[np.int64]
MOST_GROUPS = 400
MOST_READ = 200_000
"""Operations, over all groups, up to which a bound goes through them one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """No plan is better than this.

    Attributes
    ----------
    objective
        Bound on the weighted sum of objective.objective.
    makespan
        Bound on the last finish, ticks (absolute, like plan ends).
    completion
        Earliest completion of each job, shape (n_jobs,).
    """

    objective: float
    makespan: int
    completion: Ints

    def gap(self, value: float) -> float:
        """Share of the value above the bound, 0..1; 0 when the value is 0."""
        return 0.0 if value <= 0 else max(0.0, (value - self.objective) / value)


def bound(problem: Problem, weights: Weights = PLANT_WEIGHTS) -> Bound:
    """Path bound per job; machine-load bound for the makespan; both ignore changeovers."""
    shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
    head, end = heads(problem)
    tail = _tails(problem, shortest)
    completion = np.full(problem.n_jobs, -FAR, np.int64)
    ops = np.repeat(np.arange(problem.n_ops), np.diff(problem.sink_ptr))
    live = problem.op_status[ops] != OpStatus.CANCELLED
    np.maximum.at(completion, problem.sink_job[live], (end + problem.op_tail)[ops[live]])
    late = np.maximum(0, completion - problem.job_due) * problem.job_weight
    flow, _, _ = cost_columns(problem, None, weights)
    value = float((flow * (end - problem.now)).sum())
    if problem.target != "makespan":
        value += weights.tardiness * float(late.sum())
    makespan = max(int(completion.max(initial=problem.now)), _load(problem, shortest, head, tail))
    if problem.target == "makespan":
        value += makespan - problem.now
    return Bound(objective=value, makespan=makespan, completion=completion)


def heads(problem: Problem) -> tuple[Ints, Ints]:
    """Earliest start and end of each operation, ticks, if machines were never busy; (n_ops,)."""
    shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
    head = np.maximum(problem.op_release, problem.now)
    end = head.copy()
    free = problem.op_status == OpStatus.FREE
    for o in problem.op_order.tolist():
        if not free[o]:
            head[o] = problem.op_fixed_start[o]
            end[o] = problem.op_fixed_from[o] + problem.op_fixed_work[o]
            if problem.op_status[o] == OpStatus.CANCELLED:
                end[o] = -FAR
            continue
        for p, lag in problem.preds(o):
            head[o] = max(head[o], end[p] + lag)
        end[o] = head[o] + shortest[o]
    return head, end


def _tails(problem: Problem, shortest: Ints) -> Ints:
    """Least time from the end of each operation until all that follows is finished."""
    tail = problem.op_tail.copy()
    for o in problem.op_order[::-1].tolist():
        for k in range(problem.succ_ptr[o], problem.succ_ptr[o + 1]):
            s = problem.succ_op[k]
            if problem.op_status[s] == OpStatus.FREE:
                tail[o] = max(tail[o], problem.succ_lag[k] + shortest[s] + tail[s])
    return tail


def _groups(problem: Problem, most: int) -> list[tuple[frozenset[int], Ints]]:
    """Sets of machines, each with the FREE operations that can run on no other machine."""
    sets: dict[frozenset[int], list[int]] = {}
    for o in np.flatnonzero(problem.op_status == OpStatus.FREE).tolist():
        low, high = problem.alt_ptr[o], problem.alt_ptr[o + 1]
        sets.setdefault(frozenset(problem.alt_machine[low:high].tolist()), []).append(o)
    groups = dict.fromkeys(sorted(sets, key=len)[:most])
    groups[frozenset(range(problem.n_machines))] = None
    out = []
    for group in groups:
        members = [o for key, ops in sets.items() if key <= group for o in ops]
        if members:
            out.append((group, np.array(members)))
    return out


def _load(problem: Problem, shortest: Ints, head: Ints, tail: Ints) -> int:
    """Work that fits on no other machines: one bound per set of machines.

    Where the last end is all that counts, the work of a set is gone through one by one.
    """
    best, read = problem.now, 0 if problem.target == "makespan" else MOST_READ
    for group, ops in _groups(problem, MOST_GROUPS):
        read += len(ops)
        if read <= MOST_READ:
            found = last_end(head[ops], shortest[ops], tail[ops], len(group))
        else:
            load = -(-int(shortest[ops].sum()) // len(group))
            found = int(head[ops].min()) + load + int(tail[ops].min())
        best = max(best, found)
    return best


def gap(problem: Problem, plan: Plan, value: float, weights: Weights = PLANT_WEIGHTS) -> float:
    """Gap of a plan's objective to the bound, 0..1."""
    return bound(problem, weights).gap(value)
