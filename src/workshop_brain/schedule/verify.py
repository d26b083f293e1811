"""Independent checker of plans: plain numpy and Python, no code shared with the constructors.

It trusts nothing that the planner computed: closed time is walked anew from calendar and downs,
sequences are taken from the times alone. O(n log n).
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem


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
    """Open time of one machine, counted from closed windows."""

    def __init__(self, windows: list[tuple[int, int]]) -> None:
        union: list[list[int]] = []
        for low, high in sorted(windows):
            if high <= low:
                continue
            if union and low <= union[-1][1]:
                union[-1][1] = max(union[-1][1], high)
            else:
                union.append([low, high])
        self.low = [w[0] for w in union]
        self.high = [w[1] for w in union]
        self.before = [0]
        for low, high in union:
            self.before.append(self.before[-1] + high - low)

    def closed_until(self, t: int) -> int:
        """Closed ticks before t."""
        k = bisect_right(self.low, t)
        total = self.before[k]
        if k and self.high[k - 1] > t:
            total -= self.high[k - 1] - t
        return total

    def open_between(self, a: int, b: int) -> int:
        """Open ticks in [a, b)."""
        return b - a - (self.closed_until(b) - self.closed_until(a))

    def is_open(self, t: int) -> bool:
        """Whether the machine works in the tick that begins at t."""
        k = bisect_right(self.low, t)
        return not (k and self.high[k - 1] > t)


def verify(problem: Problem, plan: Plan, limit: int = 100) -> list[Violation]:
    """Everything that is wrong with a plan (at most ``limit`` entries); empty = feasible."""
    found: list[Violation] = []
    placed = _check_placed(problem, plan, found)
    clocks = _clocks(problem)
    _check_times(problem, plan, placed, clocks, found)
    _check_precedence(problem, plan, placed, found)
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
    out = {}
    for m, row in windows.items():
        key = tuple(row)
        if key not in shared:
            shared[key] = _Open(row)
        out[m] = shared[key]
    return out


def _check_placed(problem: Problem, plan: Plan, found: list[Violation]) -> list[int]:
    placed = []
    status, machine = problem.op_status.tolist(), plan.machine.tolist()
    for o, m in enumerate(machine):
        cancelled = status[o] == OpStatus.CANCELLED
        if m < 0 and not cancelled:
            found.append(_bad("unplanned", problem, [o], "is not in the plan"))
        elif m >= 0 and cancelled:
            found.append(_bad("cancelled", problem, [o], "is cancelled but planned"))
        elif m >= 0:
            placed.append(o)
    return placed


def _check_times(
    problem: Problem,
    plan: Plan,
    placed: list[int],
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    status, release = problem.op_status.tolist(), problem.op_release.tolist()
    machine, start, end = plan.machine.tolist(), plan.start.tolist(), plan.end.tolist()
    fixed_machine, fixed_start = (
        problem.op_fixed_machine.tolist(),
        problem.op_fixed_start.tolist(),
    )
    fixed_from, fixed_work = problem.op_fixed_from.tolist(), problem.op_fixed_work.tolist()
    ptr, alt = problem.alt_ptr.tolist(), problem.alt_machine.tolist()
    durations, resumable = problem.alt_duration.tolist(), problem.machine_resumable.tolist()
    for o in placed:
        m, a, b = machine[o], start[o], end[o]
        clock = clocks.get(m)
        if status[o] != OpStatus.FREE:
            if m != fixed_machine[o] or a != fixed_start[o]:
                was = f"{problem.machine_ids[fixed_machine[o]]} at {fixed_start[o]}"
                found.append(_bad("locked", problem, [o], f"is fixed to {was}, planned at {a}"))
                continue
            work, begin, pauses = fixed_work[o], fixed_from[o], True
        else:
            row = range(ptr[o], ptr[o + 1])
            work = next((durations[k] for k in row if alt[k] == m), -1)
            if work < 0:
                name = problem.machine_ids[m] if m < problem.n_machines else str(m)
                found.append(_bad("machine", problem, [o], f"may not run on {name}"))
                continue
            if a < max(release[o], problem.now):
                why = f"starts at {a}, earliest is {max(release[o], problem.now)}"
                found.append(_bad("release", problem, [o], why))
            begin, pauses = a, bool(resumable[m])
            if clock and work > 0 and not clock.is_open(a):
                found.append(_bad("duration", problem, [o], f"starts at {a} in closed time"))
        worked = clock.open_between(begin, b) if clock else b - begin
        ends_open = clock is None or b == begin or clock.is_open(b - 1)
        if worked != work or (worked > 0 and not ends_open):
            found.append(_bad("duration", problem, [o], f"works {worked} ticks, needs {work}"))
        elif not pauses and b - begin != work:
            found.append(_bad("duration", problem, [o], "is interrupted, its machine cannot"))


def _check_precedence(
    problem: Problem, plan: Plan, placed: list[int], found: list[Violation]
) -> None:
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
    placed: list[int],
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    start, end = plan.start.tolist(), plan.end.tolist()
    machine, family = plan.machine.tolist(), problem.op_family.tolist()
    status = problem.op_status.tolist()
    rank = np.empty(problem.n_ops, np.int64)
    rank[problem.op_order] = np.arange(problem.n_ops)
    order = rank.tolist()
    table, available = problem.machine_work_center.tolist(), problem.machine_available.tolist()
    last: dict[int, tuple[int, int, int]] = {}
    for o in sorted(placed, key=lambda o: (start[o], end[o], order[o])):
        m = machine[o]
        if m >= problem.n_machines:
            continue
        free, current, previous = last.get(m, (available[m], int(problem.machine_family[m]), -1))
        pair = [o] if previous < 0 else [o, previous]
        if status[o] == OpStatus.FREE:
            if start[o] < free:
                why = f"starts at {start[o]} on {problem.machine_ids[m]}, which is free at {free}"
                found.append(_bad("overlap", problem, pair, why))
            elif current >= 0:
                setup = int(problem.setup[table[m], current, family[o]])
                clock = clocks.get(m)
                room = clock.open_between(free, start[o]) if clock else start[o] - free
                if room < setup:
                    why = f"has {room} ticks for a changeover of {setup}"
                    found.append(_bad("setup", problem, pair, why))
        elif previous >= 0 and start[o] < free and status[previous] == OpStatus.FREE:
            why = f"is fixed at {start[o]}, but the one before ends at {free}"
            found.append(_bad("overlap", problem, pair, why))
        if end[o] >= free or previous < 0:
            last[m] = (max(end[o], free), family[o], o)


def _check_capacity(problem: Problem, found: list[Violation]) -> None:
    over = (problem.op_capacity > 0) & (problem.op_quantity > problem.op_capacity)
    for o in np.flatnonzero(over).tolist():
        why = f"holds {problem.op_quantity[o]} pieces, capacity is {problem.op_capacity[o]}"
        found.append(_bad("capacity", problem, [o], why))


def _bad(kind: str, problem: Problem, ops: list[int], detail: str) -> Violation:
    return Violation(kind=kind, ops=tuple(problem.op_ids[o] for o in ops), detail=detail)
