"""Permutation flow shops: all jobs pass the same machines in the same order, none overtakes.

Iterated greedy (Ruiz and Stützle 2007, EJOR 177) from the plan of Nawaz, Enscore and Ham (1983):
a few jobs are taken out, the rest is improved, each is put back where the makespan grows least,
and all are improved again (Dubois-Lacoste et al. 2017). All places of a job are priced at once by
heads and tails (Taillard 1990).
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.schedule import beam
from workshop_brain.schedule.moves import draw
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.timing import timed

Ints = NDArray[np.int64]
TAKEN = 2
"""Jobs that are taken out at once."""
HEAT = 0.7
"""Temperature in tenths of the mean work (0.4 to 0.7 in the literature)."""
_ROUND_S = 0.2


class Chain(NamedTuple):
    """One searcher: ``rows`` holds its permutation now and the best; ``value`` their makespans."""

    work: Ints
    rows: Ints
    value: Ints
    rng: NDArray[np.uint64]


def fits(problem: Problem) -> bool:
    """Whether all jobs take each machine once, in one order, without lags, releases or tails."""
    if not beam.fits(problem) or problem.pred_lag.any() or problem.op_tail.any():
        return False
    if (problem.op_release > problem.now).any() or (problem.machine_available > problem.now).any():
        return False
    shop = beam.routes(problem)
    n_jobs = len(shop.ptr) - 1
    if len(shop.op) != n_jobs * problem.n_machines:
        return False
    if (np.diff(shop.ptr) != problem.n_machines).any():
        return False
    machine = shop.machine.reshape(n_jobs, -1)
    is_same = bool((machine == machine[0]).all())
    return is_same and len(np.unique(machine[0])) == problem.n_machines


@kernel
def _insert(work: Ints, row: Ints, size: int, job: int, heads: Ints, tails: Ints) -> int:
    """Put a job where the makespan of the row is least; that makespan."""
    n_machines = work.shape[1]
    for m in range(n_machines):
        tails[size, m] = 0
    for i in range(size - 1, -1, -1):
        way = 0
        for m in range(n_machines - 1, -1, -1):
            way = max(way, tails[i + 1, m]) + work[row[i], m]
            tails[i, m] = way
    for m in range(n_machines):
        heads[0, m] = 0
    best, place = 1 << 60, 0
    for i in range(size + 1):
        end, worst = 0, 0
        for m in range(n_machines):
            end = max(end, heads[0, m]) + work[job, m]
            worst = max(worst, end + tails[i, m])
        if worst < best:
            best, place = worst, i
        if i < size:
            end = 0
            for m in range(n_machines):
                end = max(end, heads[0, m]) + work[row[i], m]
                heads[0, m] = end
    for i in range(size, place, -1):
        row[i] = row[i - 1]
    row[place] = job
    return int(best)


@kernel
def _take(row: Ints, size: int, place: int) -> int:
    job = row[place]
    for i in range(place, size - 1):
        row[i] = row[i + 1]
    return int(job)


@kernel
def _polish(
    work: Ints, row: Ints, size: int, value: int, heads: Ints, tails: Ints,
    rng: NDArray[np.uint64],
) -> int:  # fmt: skip
    """Take out and put back job after job until none gets better; the makespan."""
    jobs = row[:size].copy()
    since = 0
    while since < size:
        for i in range(size - 1, 0, -1):
            k = draw(rng, i + 1)
            jobs[i], jobs[k] = jobs[k], jobs[i]
        for job in jobs:
            place = 0
            while row[place] != job:
                place += 1
            _take(row, size, place)
            found = _insert(work, row, size - 1, job, heads, tails)
            since += 1
            if found < value:
                value, since = found, 0
            if since >= size:
                break
    return value


@kernel
def begin(work: Ints, row: Ints) -> int:
    """The plan of Nawaz, Enscore and Ham into ``row``; its makespan."""
    n, m = work.shape
    heads, tails = np.zeros((1, m), np.int64), np.zeros((n + 1, m), np.int64)
    value = 0
    for i, job in enumerate(np.argsort(-work.sum(axis=1))):
        value = _insert(work, row, i, job, heads, tails)
    return value


@kernel
def iterate(chain: Chain, turns: int, heat: float) -> None:
    """So many turns of iterated greedy."""
    work, now = chain.work, chain.rows[0]
    n, m = work.shape
    heads, tails = np.zeros((1, m), np.int64), np.zeros((n + 1, m), np.int64)
    row, taken = np.empty(n, np.int64), np.empty(TAKEN, np.int64)
    for _ in range(turns):
        row[:] = now
        count = min(TAKEN, n - 1)
        for i in range(count):
            taken[i] = _take(row, n - i, draw(chain.rng, n - i))
        _polish(work, row, n - count, 1 << 60, heads, tails, chain.rng)
        value = 0
        for i in range(count):
            value = _insert(work, row, n - count + i, taken[i], heads, tails)
        value = _polish(work, row, n, value, heads, tails, chain.rng)
        worse = float(value - chain.value[0])
        chance = (draw(chain.rng, 1 << 24) + 0.5) / (1 << 24)
        if worse <= 0 or chance < math.exp(-worse / heat):
            now[:] = row
            chain.value[0] = value
        if value < chain.value[1]:
            chain.rows[1] = row
            chain.value[1] = value


class Line:
    """The search on a problem that :func:`fits`; ``best`` is the makespan of its best plan."""

    def __init__(self, problem: Problem, seed: int, workers: int) -> None:
        self.problem = problem
        shop = beam.routes(problem)
        n_jobs = len(shop.ptr) - 1
        self.ops = shop.op.reshape(n_jobs, -1)
        self.machines = shop.machine[: problem.n_machines]
        work = np.ascontiguousarray(shop.work.reshape(n_jobs, -1))
        row = np.zeros(n_jobs, np.int64)
        value = begin(work, row)
        self.heat = max(1e-9, HEAT * float(work.mean()) / 10)
        self.chains = [
            Chain(
                work=work,
                rows=np.stack([row, row]),
                value=np.array([value, value], np.int64),
                rng=np.array(
                    [(2 * (1000 * seed + k) + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1)], np.uint64
                ),
            )
            for k in range(max(1, workers))
        ]

    @property
    def best(self) -> int:
        """Makespan of the best plan so far."""
        return self.problem.now + min(int(chain.value[1]) for chain in self.chains)

    def go(self, seconds: float | None, turns: int | None, go_on: Callable[[float], bool]) -> None:
        """Search for so many seconds, or turns of each searcher.

        ``go_on`` hears the share of the budget that is used after each round; False ends it.
        """
        first = time.perf_counter()
        done, size = 0, 1
        with ThreadPoolExecutor(len(self.chains)) as pool:
            share = 0.0
            while share < 1.0:
                at = time.perf_counter()
                count = size if turns is None else min(turns - done, 50)
                for task in [pool.submit(iterate, c, count, self.heat) for c in self.chains]:
                    task.result()
                done += count
                took = max(1e-6, time.perf_counter() - at)
                if turns is not None:
                    share = done / turns
                else:
                    used = time.perf_counter() - first
                    share = used / max(1e-6, seconds or 0.0)
                    next_s = min(_ROUND_S, (seconds or 0.0) - used)
                    size = max(1, min(4 * size, int(count * next_s / took)))
                if not go_on(min(1.0, share)):
                    break

    def plan(self) -> Plan:
        """The best plan, timed: every machine works the same order of jobs."""
        best = min(self.chains, key=lambda chain: int(chain.value[1]))
        machine = np.empty(self.problem.n_ops, np.int64)
        machine[self.ops] = self.machines
        columns = self.ops[best.rows[1]][:, np.argsort(self.machines)]
        n_jobs = len(columns)
        ptr = np.arange(self.problem.n_machines + 1, dtype=np.int64) * n_jobs
        return timed(self.problem, machine, ptr, np.ascontiguousarray(columns.T).ravel())
