"""Independent checker of plans: plain numpy, no code shared with the constructors.

It trusts nothing that the planner computed: closed time is walked anew from calendar and downs,
sequences are taken from the times alone. O(n log n).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes
    ----------
    kind
        unplanned, cancelled, machine, release, duration, overlap, setup, precedence, locked,
        capacity.
    ops
        Ids of the operations concerned, the offender first.
    """

    kind: str
    ops: tuple[str, ...]
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "ops": list(self.ops), "detail": self.detail}


class _Open:
    """Open time of one machine, counted from closed windows; instants come as arrays."""

    def __init__(self, windows: list[tuple[int, int]]) -> None:
        union: list[list[int]] = []
        for low, high in sorted(windows):
            if high <= low:
                continue
            if union and low <= union[-1][1]:
                union[-1][1] = max(union[-1][1], high)
            else:
                union.append([low, high])
        table = np.array(union, np.int64).reshape(-1, 2)
        self.low = table[:, 0]
        self.high = np.append(table[:, 1], -(1 << 60))
        self.before = np.append(0, np.cumsum(table[:, 1] - table[:, 0]))

    def closed_until(self, t: Ints) -> Ints:
        """Closed ticks before each t."""
        k = np.searchsorted(self.low, t, side="right")
        inside: Ints = self.before[k] - np.maximum(0, self.high[k - 1] - t)
        return inside

    def open_between(self, a: Ints, b: Ints) -> Ints:
        """Open ticks in each [a, b)."""
        return b - a - (self.closed_until(b) - self.closed_until(a))

    def is_open(self, t: Ints) -> NDArray[np.bool_]:
        """Whether the machine works in the tick that begins at t."""
        k = np.searchsorted(self.low, t, side="right")
        answer: NDArray[np.bool_] = self.high[k - 1] <= t
        return answer


def verify(problem: Problem, plan: Plan, limit: int = 100) -> list[Violation]:
    """Everything that is wrong with a plan (at most ``limit`` entries); empty = feasible."""
    found: list[Violation] = []
    placed = _check_placed(problem, plan, found)
    clocks = _clocks(problem)
    _check_fixed(problem, plan, placed, found)
    _check_times(problem, plan, placed, clocks, found)
    _check_precedence(problem, plan, found)
    _check_machines(problem, plan, placed, clocks, found)
    _check_capacity(problem, found)
    return found[:limit]


def _clocks(problem: Problem) -> dict[int, _Open]:
    windows: dict[int, list[tuple[int, int]]] = {
        m: list(row) for m, row in enumerate(problem.calendar) if row
    }
    for m, low, high in problem.downs:
        windows.setdefault(m, []).append((low, high))
    shared: dict[tuple[tuple[int, int], ...], _Open] = {}
    for row in windows.values():
        key = tuple(row)
        if key not in shared:
            shared[key] = _Open(row)
    return {m: shared[tuple(row)] for m, row in windows.items()}


def _open_ticks(clocks: dict[int, _Open], machine: Ints, a: Ints, b: Ints) -> Ints:
    """Open ticks in each [a, b) on each machine."""
    out = b - a
    for m, clock in clocks.items():
        here = np.flatnonzero(machine == m)
        if len(here):
            out[here] = clock.open_between(a[here], b[here])
    return out


def _in_open(clocks: dict[int, _Open], machine: Ints, t: Ints) -> NDArray[np.bool_]:
    """Whether each machine works in the tick that begins at t."""
    out = np.ones(len(t), bool)
    for m, clock in clocks.items():
        here = np.flatnonzero(machine == m)
        if len(here):
            out[here] = clock.is_open(t[here])
    return out


def _check_placed(problem: Problem, plan: Plan, found: list[Violation]) -> Ints:
    """Operations that have a machine of the problem."""
    cancelled = problem.op_status == OpStatus.CANCELLED
    for kind, which, why in (
        ("unplanned", (plan.machine < 0) & ~cancelled, "is not in the plan"),
        ("cancelled", (plan.machine >= 0) & cancelled, "is cancelled but planned"),
        ("machine", plan.machine >= problem.n_machines, "stands on a machine that is not there"),
    ):
        found += [_bad(kind, problem, [o], why) for o in np.flatnonzero(which).tolist()]
    inside = (plan.machine >= 0) & (plan.machine < problem.n_machines)
    return np.flatnonzero(inside & ~cancelled)


def _check_fixed(problem: Problem, plan: Plan, placed: Ints, found: list[Violation]) -> None:
    fixed = placed[problem.op_status[placed] != OpStatus.FREE]
    moved = (plan.machine[fixed] != problem.op_fixed_machine[fixed]) | (
        plan.start[fixed] != problem.op_fixed_start[fixed]
    )
    for o in fixed[moved].tolist():
        was = f"machine {problem.op_fixed_machine[o]} at {problem.op_fixed_start[o]}"
        why = f"is fixed to {was}, planned on {plan.machine[o]} at {plan.start[o]}"
        found.append(_bad("locked", problem, [o], why))


def _check_times(
    problem: Problem,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    machine, start, end = plan.machine[placed], plan.start[placed], plan.end[placed]
    free = problem.op_status[placed] == OpStatus.FREE
    row = np.repeat(np.arange(problem.n_ops), np.diff(problem.alt_ptr))
    match = plan.machine[row] == problem.alt_machine
    needed = np.full(problem.n_ops, -1, np.int64)
    needed[row[match]] = problem.alt_duration[match]
    work = np.where(free, needed[placed], problem.op_fixed_work[placed])
    begin = np.where(free, start, problem.op_fixed_from[placed])
    worked = _open_ticks(clocks, machine, begin, end)
    earliest = np.maximum(problem.op_release[placed], problem.now)
    starts_open = _in_open(clocks, machine, start) | (work == 0)
    ends_open = _in_open(clocks, machine, end - 1) | (worked <= 0) | (end == begin)
    whole = problem.machine_resumable[machine] == 0
    barred = free & (work < 0)
    wrong = ~barred & ((worked != work) | ~ends_open | (free & ~starts_open))
    broken = free & ~barred & ~wrong & whole & (end - start != work)
    for k in np.flatnonzero(barred).tolist():
        name = problem.machine_ids[machine[k]]
        found.append(_bad("machine", problem, [placed[k]], f"may not run on {name}"))
    for k in np.flatnonzero(free & (start < earliest)).tolist():
        why = f"starts at {start[k]}, earliest is {earliest[k]}"
        found.append(_bad("release", problem, [placed[k]], why))
    for k in np.flatnonzero(wrong).tolist():
        why = f"works {worked[k]} open ticks from {begin[k]} to {end[k]}, needs {work[k]}"
        found.append(_bad("duration", problem, [placed[k]], why))
    for k in np.flatnonzero(broken).tolist():
        why = "is interrupted by closed time, which its machine cannot be"
        found.append(_bad("duration", problem, [placed[k]], why))


def _check_precedence(problem: Problem, plan: Plan, found: list[Violation]) -> None:
    after = np.repeat(np.arange(problem.n_ops), np.diff(problem.pred_ptr))
    before = problem.pred_op
    both = (plan.machine[after] >= 0) & (plan.machine[before] >= 0)
    both &= problem.op_status[after] == OpStatus.FREE
    early = both & (plan.start[after] < plan.end[before] + problem.pred_lag)
    for k in np.flatnonzero(early).tolist():
        o, p = int(after[k]), int(before[k])
        why = f"starts at {plan.start[o]}, before {plan.end[p]} + {problem.pred_lag[k]}"
        found.append(_bad("precedence", problem, [o, p], why))


def _check_machines(
    problem: Problem,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    """Neighbours in time on each machine: no overlap, and open time enough for changeovers."""
    order = _in_time(problem, plan, placed)
    machine, start, end = plan.machine[order], plan.start[order], plan.end[order]
    is_free = problem.op_status[order] == OpStatus.FREE
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    free = np.where(first, problem.machine_available[machine], np.roll(end, 1))
    family = np.where(first, problem.machine_family[machine], np.roll(problem.op_family[order], 1))
    setup = problem.setup[
        problem.machine_work_center[machine], np.maximum(family, 0), problem.op_family[order]
    ]
    setup = np.where(family >= 0, setup, 0)
    room = _open_ticks(clocks, machine, free, np.maximum(free, start))
    either_free = is_free | (~first & np.roll(is_free, 1))
    overlap = (start < free) & either_free
    short = ~overlap & is_free & (room < setup)
    for k in np.flatnonzero(overlap | short).tolist():
        pair = [order[k]] if first[k] else [order[k], order[k - 1]]
        name = problem.machine_ids[machine[k]]
        if overlap[k]:
            why = f"starts at {start[k]} on {name}, which is free at {free[k]}"
            found.append(_bad("overlap", problem, pair, why))
        else:
            why = f"has {room[k]} open ticks for a changeover of {setup[k]} on {name}"
            found.append(_bad("setup", problem, pair, why))


def _in_time(problem: Problem, plan: Plan, placed: Ints) -> Ints:
    """Operations by machine, start, end and precedence."""
    machine, start = plan.machine[placed], plan.start[placed]
    first = int(start.min(initial=0))
    span = int(start.max(initial=0)) - first + 1
    if span * (problem.n_machines + 1) < 1 << 62:  # one key sorts many times faster than four
        key = machine * span + (start - first)
        by_key = np.argsort(key)
        key = key[by_key]
        if not (key[1:] == key[:-1]).any():
            return placed[by_key]
    rank = np.empty(problem.n_ops, np.int64)
    rank[problem.op_order] = np.arange(problem.n_ops)
    return placed[np.lexsort((rank[placed], plan.end[placed], start, machine))]


def _check_capacity(problem: Problem, found: list[Violation]) -> None:
    over = (problem.op_capacity > 0) & (problem.op_quantity > problem.op_capacity)
    for o in np.flatnonzero(over).tolist():
        why = f"holds {problem.op_quantity[o]} pieces, capacity is {problem.op_capacity[o]}"
        found.append(_bad("capacity", problem, [o], why))


def _bad(kind: str, problem: Problem, ops: list[int], detail: str) -> Violation:
    return Violation(kind=kind, ops=tuple(problem.op_ids[o] for o in ops), detail=detail)
