"""Independent checker of plans: plain numpy, no code shared with the constructors.

It trusts nothing that the planner computed: closed time is walked anew from calendar and downs,
sequences are taken from the times alone. O(n log n).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.limits import Limits, Tool
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
        capacity; of limits tool, operator, max_lag, blocking, buffer, deadline; of batch machines
        capacity, family, together.
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

    def after(self, t: Ints, ticks: Ints) -> Ints:
        """When so many open ticks, > 0, from each t on are over."""
        wanted = t - self.closed_until(t) + ticks
        out: Ints = wanted + self.before[np.searchsorted(self.low - self.before[:-1], wanted)]
        return out

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
    if problem.limits is not None:
        _check_limits(problem, problem.limits, plan, placed, clocks, found)
    return found[:limit]


def verify_part(problem: Problem, plan: Plan, left_out: Collection[str]) -> list[Violation]:
    """As ``verify``, for a plan that says which jobs it leaves out.

    What it does not hold of these counts as cancelled; nothing may stand in the plan that needs
    its pieces.
    """
    of_job = np.array([id in left_out for id in problem.job_ids], bool)
    gone = of_job[problem.op_job] & (plan.machine < 0)
    found = []
    for o in np.flatnonzero((plan.machine >= 0) & (problem.op_status == OpStatus.FREE)).tolist():
        for p, _ in problem.preds(o):
            if gone[p]:
                found.append(_bad("precedence", problem, [o, p], "needs what is left out"))
    status = np.where(gone, int(OpStatus.CANCELLED), problem.op_status)
    return found + verify(problem.with_(op_status=status), plan)


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
    family, after = _families(problem, order, machine, first)
    setup = problem.setup[
        problem.machine_work_center[machine], np.maximum(family, 0), np.maximum(after, 0)
    ]
    setup = np.where((family >= 0) & (problem.op_family[order] >= 0), setup, 0)
    room = _open_ticks(clocks, machine, free, np.maximum(free, start))
    either_free = is_free | (~first & np.roll(is_free, 1))
    joined = _joined(problem, plan, order)
    overlap = (start < free) & either_free & ~joined
    short = ~overlap & is_free & (room < setup) & ~joined
    batches = {m for m, _ in (problem.limits or Limits()).batches}
    for k in np.flatnonzero(overlap | short).tolist():
        pair = [order[k]] if first[k] else [order[k], order[k - 1]]
        name = problem.machine_ids[machine[k]]
        if overlap[k] and not first[k] and int(machine[k]) in batches:
            why = f"runs on {name} from {start[k]} to {end[k]}, the load there until {free[k]}"
            found.append(_bad("together", problem, pair, why))
        elif overlap[k]:
            why = f"starts at {start[k]} on {name}, which is free at {free[k]}"
            found.append(_bad("overlap", problem, pair, why))
        else:
            why = f"has {room[k]} open ticks for a changeover of {setup[k]} on {name}"
            found.append(_bad("setup", problem, pair, why))


def _joined(problem: Problem, plan: Plan, order: Ints) -> NDArray[np.bool_]:
    """Which of the operations in time run in one load with the one before them."""
    machine, start, end = plan.machine[order], plan.start[order], plan.end[order]
    batches = [m for m, _ in (problem.limits or Limits()).batches]
    out = np.zeros(len(order), bool)
    same = (machine[1:] == machine[:-1]) & (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    out[1:] = same & np.isin(machine[1:], batches)
    return out


def _check_loads(
    problem: Problem, limits: Limits, plan: Plan, placed: Ints, found: list[Violation]
) -> None:
    """One family in each load, and no more than the machine holds."""
    room, size = dict(limits.batches), dict(limits.sizes)
    order = _in_time(problem, plan, placed)
    joined = _joined(problem, plan, order)
    loads: list[list[int]] = []
    for o, is_joined in zip(order.tolist(), joined.tolist(), strict=True):
        if is_joined:
            loads[-1].append(o)
        else:
            loads.append([o])
    for load in loads:
        most = room.get(int(plan.machine[load[0]]))
        free = [o for o in load if problem.op_status[o] == OpStatus.FREE]
        if most is None or not free:
            continue
        held = sum(size.get(o, 1) for o in load)
        if held > most:
            why = f"the load at {plan.start[load[0]]} holds {held}, the machine holds {most}"
            found.append(_bad("capacity", problem, free, why))
        odd = [o for o in load if problem.op_family[o] != problem.op_family[load[0]]]
        if odd:
            why = f"is of another family than {problem.op_ids[load[0]]} in the same load"
            found.append(_bad("family", problem, odd, why))


def _families(
    problem: Problem, order: Ints, machine: Ints, first: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """Family set up before and after each operation of ``order``."""
    after = problem.op_family[order]
    if (after < 0).any():  # what has no family leaves what is set up
        after = after.copy()
        for k in np.flatnonzero(after < 0).tolist():
            after[k] = problem.machine_family[machine[k]] if first[k] else after[k - 1]
    return np.where(first, problem.machine_family[machine], np.roll(after, 1)), after


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


def _check_limits(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    there = np.zeros(problem.n_ops, bool)
    there[placed] = True
    for o, tick in limits.deadlines:
        if there[o] and problem.op_status[o] == OpStatus.FREE and plan.end[o] > tick:
            why = f"ends at {plan.end[o]}, its deadline is {tick}"
            found.append(_bad("deadline", problem, [o], why))
    _check_max_lags(problem, limits, plan, there, clocks, found)
    if limits.batches:
        _check_loads(problem, limits, plan, placed, found)
    calls = _calls(problem, limits, plan, placed, clocks, found)
    for tool in limits.tools:
        _check_tool(problem, tool, calls.get(tool.id, _NO_CALLS), found)
    _check_operators(problem, limits, calls, found)
    if limits.buffered:
        _check_buffers(problem, limits, plan, placed, clocks, found)


def _check_max_lags(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    there: NDArray[np.bool_],
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    """Latest starts; what no machine could have kept once the predecessor had begun is no fault."""
    for p, o, most in limits.max_lags:
        if not (there[p] and there[o]) or problem.op_status[o] != OpStatus.FREE:
            continue
        last = int(plan.end[p]) + most
        if plan.start[o] <= last:
            continue
        if problem.op_status[p] != OpStatus.FREE and _soonest(problem, plan, clocks, o) > last:
            continue
        why = f"starts at {plan.start[o]}, at the latest allowed is {plan.end[p]} + {most}"
        found.append(_bad("max_lag", problem, [o, p], why))


def _soonest(problem: Problem, plan: Plan, clocks: dict[int, _Open], o: int) -> int:
    """Earliest start of an operation behind what has started, were there nothing else."""
    best = 1 << 50
    for m, work in problem.alternatives(o).items():
        begun = np.flatnonzero(
            (plan.machine == m)
            & (problem.op_status != OpStatus.FREE)
            & (problem.op_status != OpStatus.CANCELLED)
        )
        t, family = int(problem.machine_available[m]), int(problem.machine_family[m])
        for x in sorted(begun.tolist(), key=lambda x: int(plan.end[x])):
            t = max(t, int(plan.end[x]))
            family = int(problem.op_family[x]) if problem.op_family[x] >= 0 else family
        clock = clocks.get(m)
        setup = problem.setup_between(m, family, int(problem.op_family[o]))
        begin = max(int(problem.op_release[o]), problem.now)
        if clock is None:
            best = min(best, max(t + setup, begin))
            continue
        t = max(_worked(clock, t, setup), begin)
        whole = not problem.machine_resumable[m]
        for low, high in zip(clock.low.tolist(), clock.high[:-1].tolist(), strict=True):
            if low <= t < high or (whole and t <= low < t + work):
                t = high
        best = min(best, t)
    return best


def _worked(clock: _Open, t: int, ticks: int) -> int:
    """When so many open ticks from t on are over."""
    if ticks <= 0:
        return t
    for low, high in zip(clock.low.tolist(), clock.high[:-1].tolist(), strict=True):
        if high <= t:
            continue
        if low > t and low - t >= ticks:
            break
        ticks -= max(0, low - t)
        t = high
    return t + ticks


Calls = Ints
"""``(from, to, quantity, operation)`` of the needs for one tool or skill, shape (calls, 4)."""
_Asked = tuple[int, int, int, str]
"""(from, to, operation, skill) of one call for a person."""
_NO_CALLS = np.zeros((0, 4), np.int64)


def _calls(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, _Open],
    found: list[Violation],
) -> dict[str, Calls]:
    """When each tool and skill is called for; changeovers that leave no time are named."""
    order = _in_time(problem, plan, placed)
    machine = plan.machine[order]
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    family, after = _families(problem, order, machine, first)
    joined = _joined(problem, plan, order)
    setup = problem.setup[
        problem.machine_work_center[machine], np.maximum(family, 0), np.maximum(after, 0)
    ]
    changes = (family >= 0) & (problem.op_family[order] >= 0) & (setup > 0) & ~joined
    changes &= problem.op_status[order] == OpStatus.FREE
    low = plan.setup_start[order]
    high = _worked_all(clocks, machine, low, np.where(changes, setup, 0))
    rank = np.full(problem.n_ops, -1, np.int64)
    rank[order] = np.arange(len(order))
    on = [np.flatnonzero((machine == m) & ~joined) for m in range(problem.n_machines)]
    runs = _asked(limits.op_needs, limits.machine_needs, rank, on)
    sets = _asked(limits.op_setup_needs, limits.machine_setup_needs, rank, on)
    tools = {tool.id for tool in limits.tools}
    parts: dict[str, list[Calls]] = {}
    for asked, begin, end, is_setup in (
        (runs, plan.start[order], plan.end[order], False),
        (sets, low, high, True),
    ):
        for name, (k, quantity) in asked.items():
            if is_setup:
                k, quantity = k[changes[k]], quantity[changes[k]]
            rows = np.stack([begin[k], end[k], quantity, order[k]], axis=1)
            if name not in tools:
                rows = _while_open(rows, machine[k], clocks)
            parts.setdefault(name, []).append(rows[rows[:, 1] > rows[:, 0]])
    needy = np.zeros(len(order), bool)
    for k, _ in sets.values():
        needy[k] = True
    free = np.where(first, problem.machine_available[machine], np.roll(plan.end[order], 1))
    squeezed = needy & changes & ((low < free) | (high > plan.start[order]))
    for k in np.flatnonzero(squeezed).tolist():
        o = int(order[k])
        why = f"changeover from {low[k]} to {high[k]} is not between {free[k]} and {plan.start[o]}"
        found.append(_bad("setup", problem, [o], why))
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def _asked(
    of_ops: Sequence[tuple[int, str, int]],
    of_machines: Sequence[tuple[int, str, int]],
    rank: Ints,
    on: list[Ints],
) -> dict[str, tuple[Ints, Ints]]:
    """For each name the places in time that need it, and how much of it."""
    rows: dict[str, list[Ints]] = {}
    by_name: dict[str, list[tuple[int, int]]] = {}
    for o, name, quantity in of_ops:
        by_name.setdefault(name, []).append((o, quantity))
    for name, pairs in by_name.items():
        table = np.array(pairs, np.int64)
        table[:, 0] = rank[table[:, 0]]
        rows.setdefault(name, []).append(table[table[:, 0] >= 0])
    for m, name, quantity in of_machines:
        here = np.stack([on[m], np.full(len(on[m]), quantity, np.int64)], axis=1)
        rows.setdefault(name, []).append(here)
    joined = {name: np.concatenate(part) for name, part in rows.items()}
    return {name: (table[:, 0], table[:, 1]) for name, table in joined.items()}


def _worked_all(clocks: dict[int, _Open], machine: Ints, t: Ints, ticks: Ints) -> Ints:
    """When so many open ticks from each t on are over, on each machine."""
    out = t + ticks
    for m, clock in clocks.items():
        here = np.flatnonzero((machine == m) & (ticks > 0))
        if len(here):
            out[here] = clock.after(t[here], ticks[here])
    return out


def _while_open(rows: Calls, machine: Ints, clocks: dict[int, _Open]) -> Calls:
    """The calls without the closed time of their machines."""
    whole = _open_ticks(clocks, machine, rows[:, 0], rows[:, 1]) == rows[:, 1] - rows[:, 0]
    cut = [
        (a, b, quantity, o)
        for (low, high, quantity, o), m in zip(
            rows[~whole].tolist(), machine[~whole].tolist(), strict=True
        )
        for a, b in _open_spans(clocks[m], low, high)
    ]
    return np.concatenate([rows[whole], np.array(cut, np.int64).reshape(-1, 4)])


def _open_spans(clock: _Open, low: int, high: int) -> list[tuple[int, int]]:
    """Open stretches of [low, high)."""
    out, t = [], low
    k = int(np.searchsorted(clock.high[:-1], low, side="right"))
    for a, b in zip(clock.low[k:].tolist(), clock.high[k:-1].tolist(), strict=True):
        if a >= high:
            break
        if a > t:
            out.append((t, a))
        t = b
    if t < high:
        out.append((t, high))
    return out


def _check_tool(problem: Problem, tool: Tool, calls: Calls, found: list[Violation]) -> None:
    """At no instant more of a tool in use than there are; what has started is a fact."""
    away = np.array([(a, b, tool.quantity, -1) for a, b in tool.closed], np.int64).reshape(-1, 4)
    table = np.concatenate([calls, away])
    if _peak(table) <= tool.quantity:
        return
    rows = table.tolist()
    for t in sorted({row[0] for row in rows}):
        here = [row for row in rows if row[0] <= t < row[1]]
        used = sum(row[2] for row in here)
        free = [row[3] for row in here if row[3] >= 0 and problem.op_status[row[3]] == 0]
        if used > tool.quantity and free:
            why = f"at {t} {used} of {tool.id} are needed, there are {tool.quantity}"
            found.append(_bad("tool", problem, sorted(free), why))
            return


def _peak(table: Calls) -> int:
    """The most that is called for at any instant."""
    if not len(table):
        return 0
    t = np.concatenate([table[:, 1], table[:, 0]])  # what ends at an instant makes room there
    quantity = np.concatenate([-table[:, 2], table[:, 2]])
    return int(np.cumsum(quantity[np.argsort(t, kind="stable")]).max())


MOST_TOGETHER = 10
"""Skills whose sets are looked at one by one; of more, people are found for each instant."""


def _is_manned(limits: Limits, calls: dict[str, Calls]) -> bool:
    """Whether no set of skills is ever called for more often than people have any of them.

    Then, and only then, everybody who is called for can be somebody else (Hall 1935). False where
    too many skills hang together to look at every set.
    """
    together: list[set[str]] = []
    for who in limits.operators:
        near = [group for group in together if group & set(who.skills)]
        together = [group for group in together if group not in near]
        together.append(set(who.skills).union(*near))
    shifts = [_Open(list(who.closed)) for who in limits.operators]
    for group in together:
        called = sorted(skill for skill in group if len(calls.get(skill, _NO_CALLS)))
        if len(called) > MOST_TOGETHER:
            return False
        for choice in range(1, 1 << len(called)):
            skills = {skill for k, skill in enumerate(called) if choice >> k & 1}
            able = [k for k, who in enumerate(limits.operators) if skills & set(who.skills)]
            rows = [calls[skill] for skill in sorted(skills)]
            for k in able:
                away = np.zeros((len(shifts[k].low), 4), np.int64)
                away[:, 0], away[:, 1], away[:, 2] = shifts[k].low, shifts[k].high[:-1], 1
                rows.append(away)
            if _peak(np.concatenate(rows)) > len(able):
                return False
    return True


def _check_operators(
    problem: Problem, limits: Limits, calls: dict[str, Calls], found: list[Violation]
) -> None:
    """At each instant every call finds a person of its own with the skill, on shift.

    Who was found keeps the call until it ends, and hands it over only when that makes room.
    """
    if _is_manned(limits, calls):
        return
    rows = [
        (a, b, o, skill)
        for skill in limits.skills
        for a, b, quantity, o in calls.get(skill, _NO_CALLS).tolist()
        for _ in range(quantity)
    ]
    rows.sort(key=lambda row: (row[0], problem.op_status[row[2]] == OpStatus.FREE, row[2]))
    turns = {row[0] for row in rows}
    for operator in limits.operators:
        turns.update(a for a, _ in operator.closed)
    skilled = {
        skill: [k for k, who in enumerate(limits.operators) if skill in who.skills]
        for skill in limits.skills
    }
    on: dict[int, _Asked] = {}
    begun = 0
    open_: list[_Asked] = []
    for t in sorted(turns):
        for k in [k for k, row in on.items() if row[1] <= t]:
            del on[k]
        away = {
            k
            for k, who in enumerate(limits.operators)
            if who.closed and any(a <= t < b for a, b in who.closed)
        }
        open_ = [row for row in open_ if row[1] > t]
        open_ += [on.pop(k) for k in away & on.keys()]
        while begun < len(rows) and rows[begun][0] <= t:
            if rows[begun][1] > t:
                open_.append(rows[begun])
            begun += 1
        # what has started is served first: it is a fact, and never the offender
        open_.sort(key=lambda row: problem.op_status[row[2]] == OpStatus.FREE)
        open_ = [row for row in open_ if not _find_person(skilled, away, row, on, set())]
        here = [*open_, *on.values()]
        if open_ and any(problem.op_status[row[2]] == OpStatus.FREE for row in here):
            on = {}
            here.sort(key=lambda row: (problem.op_status[row[2]] == OpStatus.FREE, row[2]))
            open_ = [row for row in here if not _find_person(skilled, away, row, on, set())]
            for _, _, o, skill in open_:
                if problem.op_status[o] == OpStatus.FREE:
                    why = f"at {t} nobody with skill {skill} is free for it"
                    found.append(_bad("operator", problem, [o], why))
                    return


def _find_person(
    skilled: dict[str, list[int]],
    away: set[int],
    row: _Asked,
    on: dict[int, _Asked],
    tried: set[int],
) -> bool:
    """Give a call to somebody, who may hand the call before over to somebody else."""
    for k in skilled[row[3]]:
        if k in tried or k in away:
            continue
        tried.add(k)
        if k not in on or _find_person(skilled, away, on[k], on, tried):
            on[k] = row
            return True
    return False


def _check_buffers(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, _Open],
    found: list[Violation],
) -> None:
    """Each lot leaves its machine as late as what follows there allows, so that buffers are as
    empty as they can be; then no buffer holds more than it may."""
    order = _in_time(problem, plan, placed)
    machine = plan.machine[order]
    follows = {
        int(order[k]): int(order[k + 1])
        for k in range(len(order) - 1)
        if machine[k] == machine[k + 1]
    }
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    family, _ = _families(problem, order, machine, first)
    set_up = dict(zip(order.tolist(), family.tolist(), strict=True))
    standing: dict[str, list[tuple[int, int, int, int]]] = {}
    there = set(placed.tolist())
    capacity = {buffer.id: buffer.capacity for buffer in limits.buffers}
    for p, s, name in limits.buffered:
        if p not in there or s not in there:
            continue
        begun = problem.op_status[s] != OpStatus.FREE
        lag = next(lag for x, lag in problem.preds(s) if x == p)
        leaves, x = int(plan.start[s]) - lag, follows.get(p)
        if x == s:
            continue
        if x is not None:
            leaves = min(leaves, _setup_by(problem, limits, plan, clocks, set_up, x))
        if leaves < plan.end[p]:
            if begun or (x is not None and problem.op_status[x] != OpStatus.FREE):
                leaves = int(plan.end[p])
            else:
                why = f"stays on its machine until {plan.start[s]}, the next begins at {leaves}"
                found.append(_bad("blocking", problem, [x if x is not None else s, p], why))
                continue
        if x is not None and capacity[name] == 0 and leaves + lag < plan.start[s] and not begun:
            free = problem.op_status[x] == OpStatus.FREE
            if free:
                why = (
                    f"is still on the machine until {int(plan.start[s]) - lag}: {name} has no place"
                )
                found.append(_bad("blocking", problem, [x, p], why))
                continue
        standing.setdefault(name, []).append((leaves + lag, int(plan.start[s]), 1, p))
    for buffer in limits.buffers:
        rows = standing.get(buffer.id, [])
        if _peak(np.array(rows, np.int64).reshape(-1, 4)) <= buffer.capacity:
            continue
        for t in sorted({row[0] for row in rows}):
            here = [row[3] for row in rows if row[0] <= t < row[1]]
            free = [p for p in here if problem.op_status[p] == OpStatus.FREE]
            if len(here) > buffer.capacity and free:
                why = f"at {t} {len(here)} lots stand in {buffer.id}, it holds {buffer.capacity}"
                found.append(_bad("buffer", problem, free, why))
                break


def _setup_by(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    clocks: dict[int, _Open],
    family: dict[int, int],
    o: int,
) -> int:
    """Latest instant at which the machine must be free for an operation and its changeover."""
    m, start = int(plan.machine[o]), int(plan.start[o])
    if problem.op_status[o] != OpStatus.FREE:
        return start
    setup = problem.setup_between(m, family[o], int(problem.op_family[o]))
    if not setup:
        return start
    if limits.has_setup_needs:
        return min(int(plan.setup_start[o]), start)
    clock = clocks.get(m)
    if clock is None:
        return start - setup
    low, high = start - setup - int(clock.before[-1]) - 1, start
    while high - low > 1:
        mid = (low + high) // 2
        room = int(clock.open_between(np.array([mid]), np.array([start]))[0])
        low, high = (mid, high) if room >= setup else (low, mid)
    return low


def _bad(kind: str, problem: Problem, ops: list[int], detail: str) -> Violation:
    return Violation(kind=kind, ops=tuple(problem.op_ids[o] for o in ops), detail=detail)
