"""What the parts of the checker share: violations, open time, the order of a plan in time.

No code of the constructors; see ``verify``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes
    ----------
    kind
        unplanned, cancelled, machine, release, duration, overlap, setup, precedence, locked,
        capacity; of limits tool, operator, max_lag, blocking, buffer, deadline; of batch machines
        capacity, family, together; of flow lines order.
    ops
        Ids of the operations concerned, the offender first.
    """

    kind: str
    ops: tuple[str, ...]
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "ops": list(self.ops), "detail": self.detail}


class Open:
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

    def after(self, t: Ints, ticks: Ints) -> Ints:
        """When so many open ticks, > 0, from each t on are over."""
        wanted = t - self.closed_until(t) + ticks
        out: Ints = wanted + self.before[np.searchsorted(self.low - self.before[:-1], wanted)]
        return out

    def before_by(self, t: int, ticks: int) -> int:
        """The last instant from which so many open ticks, > 0, are over by t."""
        wanted = t - int(self.closed_until(np.array([t]))[0]) - ticks
        k = np.searchsorted(self.low - self.before[:-1], wanted, side="right")
        return wanted + int(self.before[k])

    def is_open(self, t: Ints) -> NDArray[np.bool_]:
        """Whether the machine works in the tick that begins at t."""
        k = np.searchsorted(self.low, t, side="right")
        answer: NDArray[np.bool_] = self.high[k - 1] <= t
        return answer


def clocks_of(problem: Problem) -> dict[int, Open]:
    windows: dict[int, list[tuple[int, int]]] = {
        m: list(row) for m, row in enumerate(problem.calendar) if row
    }
    for m, low, high in problem.downs:
        windows.setdefault(m, []).append((low, high))
    shared: dict[tuple[tuple[int, int], ...], Open] = {}
    for row in windows.values():
        key = tuple(row)
        if key not in shared:
            shared[key] = Open(row)
    return {m: shared[tuple(row)] for m, row in windows.items()}


def open_ticks(clocks: dict[int, Open], machine: Ints, a: Ints, b: Ints) -> Ints:
    """Open ticks in each [a, b) on each machine."""
    out = b - a
    for m, clock in clocks.items():
        here = np.flatnonzero(machine == m)
        if len(here):
            out[here] = clock.open_between(a[here], b[here])
    return out


def in_open(clocks: dict[int, Open], machine: Ints, t: Ints) -> NDArray[np.bool_]:
    """Whether each machine works in the tick that begins at t."""
    out = np.ones(len(t), bool)
    for m, clock in clocks.items():
        here = np.flatnonzero(machine == m)
        if len(here):
            out[here] = clock.is_open(t[here])
    return out


def joined_of(problem: Problem, plan: Plan, order: Ints) -> NDArray[np.bool_]:
    """Which of the operations in time run in one load with the one before them."""
    machine, start, end = plan.machine[order], plan.start[order], plan.end[order]
    batches = [m for m, _ in (problem.limits or Limits()).batches]
    out = np.zeros(len(order), bool)
    same = (machine[1:] == machine[:-1]) & (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    out[1:] = same & np.isin(machine[1:], batches)
    return out


def families(
    problem: Problem, order: Ints, machine: Ints, first: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Family set up before and after each operation of ``order``."""
    after = problem.op_family[order]
    if (after < 0).any():  # what has no family leaves what is set up
        after = after.copy()
        for k in np.flatnonzero(after < 0).tolist():
            after[k] = problem.machine_family[machine[k]] if first[k] else after[k - 1]
    return np.where(first, problem.machine_family[machine], np.roll(after, 1)), after


def in_time(problem: Problem, plan: Plan, placed: Ints) -> Ints:
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


def bad(kind: str, problem: Problem, ops: list[int], detail: str) -> Violation:
    return Violation(kind=kind, ops=tuple(problem.op_ids[o] for o in ops), detail=detail)
