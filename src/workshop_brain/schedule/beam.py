"""Job shops built by beam search: several partial plans side by side, the most promising go on.

A partial plan grows by one operation at a time on the machine that is free first. It is worth what
its machines and jobs can still reach: the finish of a machine that never waits again, the finish of
a job that never waits again, both raised to a power so that the latest count most. Long routes that
come back to the same machines (re-entrant) need this: there a plain rule loses the thread at
the first wrong choice, and local search of 10,000 operations is too slow to find it again.

The beam of Sabuncuoglu and Bayiz (1999, EJOR 118) with another evaluation; the width grows
from round to round, and passes differ in power, in how long a machine may wait and in direction.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import inlined, kernel
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import timed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHILDREN = 3
"""Operations that each partial plan tries next."""
URGENT = 12
"""Waiting operations among which they are chosen: those of the jobs that would finish last."""
MOST_WIDTH = 512


class Routes(NamedTuple):
    """Jobs as rows of operations, one behind the other: job j has ``ptr[j]:ptr[j + 1]``.

    ``rest`` is the least time from the start of an operation until its job is finished, ``lag``
    the time from its end until the next may start; ``load`` is the work of a machine in all.
    """

    ptr: Ints
    op: Ints
    machine: Ints
    work: Ints
    lag: Ints
    rest: Ints
    ready: Ints
    free: Ints
    load: Ints


def fits(problem: Problem) -> bool:
    """Whether it is a job shop: one machine for each operation, simple chains, no changeovers."""
    return (
        problem.target == "makespan"
        and problem.n_ops > 0
        and len(problem.alt_machine) == problem.n_ops
        and not problem.setup.any()
        and not len(problem.closed_start)
        and not bool((problem.op_status != OpStatus.FREE).any())
        and int(np.diff(problem.pred_ptr).max()) <= 1
        and int(np.diff(problem.succ_ptr).max()) <= 1
    )


def routes(problem: Problem) -> Routes:
    """The rows of a problem that :func:`fits`."""
    has_pred = np.diff(problem.pred_ptr) == 1
    op: list[int] = []
    ptr = [0]
    for first in np.flatnonzero(~has_pred).tolist():
        o = first
        op.append(o)
        while problem.succ_ptr[o] < problem.succ_ptr[o + 1]:
            o = int(problem.succ_op[problem.succ_ptr[o]])
            op.append(o)
        ptr.append(len(op))
    order = np.array(op, np.int64)
    work = problem.alt_duration[order]
    lag = np.zeros(len(order), np.int64)
    follows = np.flatnonzero(np.diff(problem.succ_ptr)[order] == 1)
    lag[follows] = problem.succ_lag[problem.succ_ptr[order[follows]]]
    lag += np.where(np.diff(problem.succ_ptr)[order] == 0, problem.op_tail[order], 0)
    ready = np.maximum(problem.op_release[order], problem.now)
    rest = work + lag
    for j in range(len(ptr) - 1):
        row = slice(ptr[j], ptr[j + 1])
        rest[row] = np.cumsum(rest[row][::-1])[::-1]
    machine = problem.alt_machine[order]
    load = np.bincount(machine, work, problem.n_machines).astype(np.int64)
    free = np.maximum(problem.machine_available, problem.now)
    return Routes(np.array(ptr, np.int64), order, machine, work, lag, rest, ready, free, load)


def reverse(r: Routes) -> Routes:
    """The same jobs from their last operation to their first."""
    lag = np.zeros_like(r.lag)
    lag[1:] = r.lag[:-1]
    lag[r.ptr[:-1]] = 0  # what follows the last operation has become a release
    lag = lag[::-1].copy()
    work = r.work[::-1].copy()
    ptr = (len(r.op) - r.ptr)[::-1].copy()
    rest = work + lag
    ready = np.zeros_like(r.ready)
    for j in range(len(ptr) - 1):
        row = slice(ptr[j], ptr[j + 1])
        rest[row] = np.cumsum(rest[row][::-1])[::-1]
    return Routes(
        ptr, r.op[::-1].copy(), r.machine[::-1].copy(), work, lag, rest, ready,
        np.zeros_like(r.free), r.load,
    )  # fmt: skip


def _is_symmetric(problem: Problem) -> bool:
    """Whether no release, tail or busy machine tells forward from backward."""
    return (
        bool((problem.op_release <= problem.now).all())
        and not problem.op_tail.any()
        and bool((problem.machine_available <= problem.now).all())
    )


@inlined
def _price(finish: float, goal: float, power: float) -> float:
    return float((finish / goal) ** power)


@kernel
def _children(
    r: Routes, at: Ints, ready: Ints, free: Ints, left: Ints, wait: float, goal: float,
    power: float, out_job: Ints, out_cost: Floats, queue: Ints, urgent: Ints,
) -> int:  # fmt: skip
    """The best next operations of one partial plan, cheapest first; how many there are."""
    n_jobs = len(at)
    start_min, end_min, m = FAR, FAR, -1
    for j in range(n_jobs):
        k = at[j]
        if k >= r.ptr[j + 1]:
            continue
        start = max(ready[j], free[r.machine[k]])
        end = start + r.work[k]
        if start < start_min or (start == start_min and end < end_min):
            start_min, end_min, m = start, end, r.machine[k]
    if m < 0:
        return 0
    n_queue = 0
    end_min = FAR
    for j in range(n_jobs):
        if at[j] < r.ptr[j + 1] and r.machine[at[j]] == m:
            queue[n_queue] = j
            n_queue += 1
            end_min = min(end_min, max(ready[j], free[m]) + r.work[at[j]])
    latest = start_min + int(wait * (end_min - start_min))
    n_urgent = 0
    for i in range(n_queue):
        j = queue[i]
        start = max(ready[j], free[m])
        if start > latest:
            continue
        finish = start + r.rest[at[j]]
        if n_urgent == len(urgent) and finish <= urgent[n_urgent - 1, 0]:
            continue
        n_urgent = min(n_urgent + 1, len(urgent))
        slot = n_urgent - 1
        while slot > 0 and urgent[slot - 1, 0] < finish:
            urgent[slot] = urgent[slot - 1]
            slot -= 1
        urgent[slot, 0], urgent[slot, 1] = finish, j
    found = 0
    for i in range(n_urgent):
        j = urgent[i, 1]
        k = at[j]
        start = max(ready[j], free[m])
        end = start + r.work[k]
        cost = _price(float(start + left[m]), goal, power)
        cost -= _price(float(free[m] + left[m]), goal, power)
        for q in range(n_queue):
            other = queue[q]
            if other != j and ready[other] < end:
                rest = r.rest[at[other]]
                cost += _price(float(end + rest), goal, power)
                cost -= _price(float(max(ready[other], free[m]) + rest), goal, power)
        if found == len(out_job) and cost >= out_cost[found - 1]:
            continue
        if found < len(out_job):
            found += 1
        slot = found - 1
        while slot > 0 and out_cost[slot - 1] > cost:
            out_cost[slot], out_job[slot] = out_cost[slot - 1], out_job[slot - 1]
            slot -= 1
        out_cost[slot], out_job[slot] = cost, j
    return found


@kernel
def grow(r: Routes, width: int, wait: float, power: float, goal: float) -> tuple[Ints, int]:
    """Operations in the order in which the best plan of a beam begins them, and its makespan."""
    n, n_jobs, n_machines = len(r.op), len(r.ptr) - 1, len(r.free)
    at, at_new = np.empty((width, n_jobs), np.int64), np.empty((width, n_jobs), np.int64)
    ready, ready_new = np.empty_like(at), np.empty_like(at)
    free = np.empty((width, n_machines), np.int64)
    left, free_new, left_new = np.empty_like(free), np.empty_like(free), np.empty_like(free)
    cost, cost_new = np.zeros(width), np.zeros(width)
    parent, chosen = np.empty((n, width), np.int32), np.empty((n, width), np.int32)
    at[0] = r.ptr[:-1]
    ready[0] = r.ready[r.ptr[:-1]]
    free[0], left[0] = r.free, r.load
    out_job, out_cost = np.empty(CHILDREN, np.int64), np.empty(CHILDREN)
    queue, urgent = np.empty(n_jobs, np.int64), np.empty((URGENT, 2), np.int64)
    child_from = np.empty(width * CHILDREN, np.int64)
    child_job, child_cost = np.empty_like(child_from), np.empty(width * CHILDREN)
    alive = 1
    for level in range(n):
        size = 0
        for b in range(alive):
            found = _children(
                r, at[b], ready[b], free[b], left[b], wait, goal, power, out_job, out_cost,
                queue, urgent,
            )  # fmt: skip
            for i in range(found):
                child_from[size], child_job[size] = b, out_job[i]
                child_cost[size] = cost[b] + out_cost[i]
                size += 1
        order = np.argsort(child_cost[:size]) if size > 1 else np.zeros(size, np.int64)
        alive = 0
        for i in range(size):
            c = order[i]
            b, j = child_from[c], child_job[c]
            k = at[b, j]
            m = r.machine[k]
            start = max(ready[b, j], free[b, m])
            end = start + r.work[k]
            at_new[alive] = at[b]
            ready_new[alive] = ready[b]
            free_new[alive] = free[b]
            left_new[alive] = left[b]
            at_new[alive, j] = k + 1
            ready_new[alive, j] = end + r.lag[k]
            if k + 1 < r.ptr[j + 1]:
                ready_new[alive, j] = max(end + r.lag[k], r.ready[k + 1])
            free_new[alive, m] = end
            left_new[alive, m] -= r.work[k]
            cost_new[alive] = child_cost[c]
            parent[level, alive], chosen[level, alive] = b, k
            alive += 1
            if alive == width:
                break
        at, at_new = at_new, at
        ready, ready_new = ready_new, ready
        free, free_new = free_new, free
        left, left_new = left_new, left
        cost, cost_new = cost_new, cost
    best, best_end = 0, FAR
    for b in range(alive):
        end = max(free[b].max(), ready[b].max())
        if end < best_end:
            best, best_end = b, end
    out = np.empty(n, np.int64)
    for level in range(n - 1, -1, -1):
        out[level] = r.op[chosen[level, best]]
        best = parent[level, best]
    return out, int(best_end)


class Pass(NamedTuple):
    """Settings of a beam: which direction, how long a machine may wait, which power."""

    backward: bool
    wait: float
    power: float


PASSES = tuple(
    Pass(back, wait, power)
    for power in (5.0, 20.0, 80.0)
    for wait in (0.0, 0.5, 1.0)
    for back in (False, True)
)
_WIDER = 8
_LEAST_PASSES = 4
_WORTH = 0.005
"""A wider beam must end this much below the narrower one, or no wider one is tried."""


def build(problem: Problem, *, seconds: float | None, workers: int = 1) -> Plan:
    """The best plan that beams of a problem that :func:`fits` find.

    Widths 1, 8, 64, 512, as long as the wider one was better; at each the better half of the
    settings of the width before, best first, and what cannot end in time is not begun. Without
    ``seconds`` the widths are 1 and 8, and the result depends on the problem alone.
    """
    end = time.perf_counter() + (FAR if seconds is None else seconds)
    shop = _Shop(problem)
    before, width, each = FAR, 1, 0.0
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while width <= (_WIDER if seconds is None else MOST_WIDTH) and shop.best > shop.least:
            found: list[int] = []
            for k in range(0, len(shop.passes), max(1, workers)):
                begin = time.perf_counter()
                if begin + each > end or shop.best <= shop.least:
                    break
                rows = shop.passes[k : k + max(1, workers)]
                for settings, grown in zip(
                    rows, pool.map(shop.grow, [width] * len(rows), rows), strict=True
                ):
                    found.append(shop.take(settings, *grown))
                each = time.perf_counter() - begin
            if shop.best > (1 - _WORTH) * before:
                break
            before = shop.best
            ranked = np.argsort(found, kind="stable")[: max(_LEAST_PASSES, len(found) // 2)]
            shop.passes = [shop.passes[k] for k in ranked]
            width, each = width * _WIDER, each * _WIDER
    return shop.plan()


class _Shop:
    """A problem in both directions, and the best plan so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        forward = routes(problem)
        is_symmetric = _is_symmetric(problem)
        self.ways = (forward, reverse(forward))
        self.passes = [p for p in PASSES if is_symmetric or not p.backward]
        self.least = int(max(forward.load.max(), forward.rest.max()))
        self.best = FAR
        self.order, self.backward = np.empty(0, np.int64), False

    def grow(self, width: int, settings: Pass) -> tuple[Ints, int]:
        """One beam's order and makespan, which counts from the plan's begin."""
        way = self.ways[settings.backward]
        return grow(way, width, settings.wait, settings.power, float(self.least))

    def take(self, settings: Pass, order: Ints, last: int) -> int:
        """Keep the order when it is the best so far; its makespan."""
        if last < self.best:
            self.best, self.order, self.backward = int(last), order, settings.backward
        return int(last)

    def plan(self) -> Plan:
        """The best plan, timed."""
        problem = self.problem
        order = self.order[::-1] if self.backward else self.order
        machine = problem.alt_machine[problem.alt_ptr[:-1]]
        sequence = order[np.argsort(machine[order], kind="stable")]
        ptr = np.zeros(problem.n_machines + 1, np.int64)
        np.cumsum(np.bincount(machine, minlength=problem.n_machines), out=ptr[1:])
        return timed(problem, machine, ptr, sequence)


def warm_up(problem: Problem) -> None:
    """Load the kernels, so that they do not cost time later."""
    _Shop(problem).grow(1, PASSES[0])
