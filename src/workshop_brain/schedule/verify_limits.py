"""The checker's part for limits: tools, people, lags, buffers, batch machines, deadlines."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.checking import (
    Open,
    Violation,
    bad,
    families,
    in_time,
    joined_of,
    open_ticks,
)
from workshop_brain.schedule.limits import Limits, Tool
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem

Ints = NDArray[np.int64]


def check_limits(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, Open],
    found: list[Violation],
) -> None:
    """Add to ``found`` what a plan breaks of deadlines, lags, loads, tools, people and buffers.

    Parameters
    ----------
    placed
        Operations that stand in the plan.
    clocks
        Open time of each machine that closes.
    """
    there = np.zeros(problem.n_ops, bool)
    there[placed] = True
    for o, tick in limits.deadlines:
        if there[o] and problem.op_status[o] == OpStatus.FREE and plan.end[o] > tick:
            why = f"ends at {plan.end[o]}, its deadline is {tick}"
            found.append(bad("deadline", problem, [o], why))
    _check_max_lags(problem, limits, plan, there, clocks, found)
    if limits.batches:
        _check_loads(problem, limits, plan, placed, found)
    calls = _calls(problem, limits, plan, placed, clocks, found)
    for tool in limits.tools:
        _check_tool(problem, tool, calls.get(tool.id, _NO_CALLS), found)
    _check_operators(problem, limits, calls, found)
    if limits.buffered:
        _check_buffers(problem, limits, plan, placed, clocks, found)


def _check_loads(
    problem: Problem, limits: Limits, plan: Plan, placed: Ints, found: list[Violation]
) -> None:
    """One family in each load, and no more than the machine holds."""
    room, size = dict(limits.batches), dict(limits.sizes)
    order = in_time(problem, plan, placed)
    joined = joined_of(problem, plan, order)
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
            found.append(bad("capacity", problem, free, why))
        family = int(problem.op_family[load[0]])
        odd = [o for o in load if problem.op_family[o] != family or (family < 0 and o != load[0])]
        if odd:
            why = f"is of another family than {problem.op_ids[load[0]]} in the same load"
            found.append(bad("family", problem, odd, why))


def _check_max_lags(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    there: NDArray[np.bool_],
    clocks: dict[int, Open],
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
        found.append(bad("max_lag", problem, [o, p], why))


def _soonest(problem: Problem, plan: Plan, clocks: dict[int, Open], o: int) -> int:
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


def _worked(clock: Open, t: int, ticks: int) -> int:
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
    clocks: dict[int, Open],
    found: list[Violation],
) -> dict[str, Calls]:
    """When each tool and skill is called for; changeovers that leave no time are named."""
    order = in_time(problem, plan, placed)
    machine = plan.machine[order]
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    family, after = families(problem, order, machine, first)
    joined = joined_of(problem, plan, order)
    setup = problem.setup[
        problem.machine_work_center[machine], np.maximum(family, 0), np.maximum(after, 0)
    ]
    changes = (family >= 0) & (problem.op_family[order] >= 0) & (setup > 0) & ~joined
    changes &= problem.op_status[order] == OpStatus.FREE
    head = np.maximum.accumulate(np.where(joined, 0, np.arange(len(order))))
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
            if is_setup:  # what any operation of a load asks, its one changeover needs
                k, quantity = k[changes[head[k]]], quantity[changes[head[k]]]
            at = head[k] if is_setup else k
            rows = np.stack([begin[at], end[at], quantity, order[k]], axis=1)
            if name not in tools:
                rows = _while_open(rows, machine[k], clocks)
            parts.setdefault(name, []).append(rows[rows[:, 1] > rows[:, 0]])
    needy = np.zeros(len(order), bool)
    for places, _ in sets.values():
        needy[head[places]] = True
    free = np.where(first, problem.machine_available[machine], np.roll(plan.end[order], 1))
    squeezed = needy & changes & ((low < free) | (high > plan.start[order]))
    for x in np.flatnonzero(squeezed).tolist():
        o, since = int(order[x]), int(free[x])
        why = f"changeover from {low[x]} to {high[x]} is not between {since} and {plan.start[o]}"
        found.append(bad("setup", problem, [o], why))
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


def _worked_all(clocks: dict[int, Open], machine: Ints, t: Ints, ticks: Ints) -> Ints:
    """When so many open ticks from each t on are over, on each machine."""
    out = t + ticks
    for m, clock in clocks.items():
        here = np.flatnonzero((machine == m) & (ticks > 0))
        if len(here):
            out[here] = clock.after(t[here], ticks[here])
    return out


def _while_open(rows: Calls, machine: Ints, clocks: dict[int, Open]) -> Calls:
    """The calls without the closed time of their machines."""
    whole = open_ticks(clocks, machine, rows[:, 0], rows[:, 1]) == rows[:, 1] - rows[:, 0]
    cut = [
        (a, b, quantity, o)
        for (low, high, quantity, o), m in zip(
            rows[~whole].tolist(), machine[~whole].tolist(), strict=True
        )
        for a, b in _open_spans(clocks[m], low, high)
    ]
    return np.concatenate([rows[whole], np.array(cut, np.int64).reshape(-1, 4)])


def _open_spans(clock: Open, low: int, high: int) -> list[tuple[int, int]]:
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
            found.append(bad("tool", problem, sorted(free), why))
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
    shifts = [Open(list(who.closed)) for who in limits.operators]
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
                    found.append(bad("operator", problem, [o], why))
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
    clocks: dict[int, Open],
    found: list[Violation],
) -> None:
    """Each lot leaves its machine as late as what follows there allows, so that buffers are as
    empty as they can be; then no buffer holds more than it may."""
    order = in_time(problem, plan, placed)
    machine = plan.machine[order]
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    follows = np.full(problem.n_ops, -1, np.int64)
    follows[order[:-1][~first[1:]]] = order[1:][~first[1:]]
    family, _ = families(problem, order, machine, first)
    set_up = np.full(problem.n_ops, -1, np.int64)
    set_up[order] = family
    standing: dict[str, list[tuple[int, int, int, int]]] = {}
    there = set(placed.tolist())
    capacity = {buffer.id: buffer.capacity for buffer in limits.buffers}
    for p, s, name in limits.buffered:
        if p not in there or s not in there:
            continue
        begun = problem.op_status[s] != OpStatus.FREE
        lag = next(lag for x, lag in problem.preds(s) if x == p)
        leaves, x = int(plan.start[s]) - lag, int(follows[p])
        if x == s:
            continue
        if x >= 0:
            leaves = min(leaves, _setup_by(problem, limits, plan, clocks, set_up, x))
        if leaves < plan.end[p]:
            if begun or (x >= 0 and problem.op_status[x] != OpStatus.FREE):
                leaves = int(plan.end[p])
            else:
                why = f"stays on its machine until {plan.start[s]}, the next begins at {leaves}"
                found.append(bad("blocking", problem, [x if x >= 0 else s, p], why))
                continue
        if x >= 0 and capacity[name] == 0 and leaves + lag < plan.start[s] and not begun:
            free = problem.op_status[x] == OpStatus.FREE
            if free:
                why = (
                    f"is still on the machine until {int(plan.start[s]) - lag}: {name} has no place"
                )
                found.append(bad("blocking", problem, [x, p], why))
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
                found.append(bad("buffer", problem, free, why))
                break


def _setup_by(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    clocks: dict[int, Open],
    family: Ints,
    o: int,
) -> int:
    """Latest instant at which the machine must be free for an operation and its changeover."""
    m, start = int(plan.machine[o]), int(plan.start[o])
    if problem.op_status[o] != OpStatus.FREE:
        return start
    setup = problem.setup_between(m, int(family[o]), int(problem.op_family[o]))
    if not setup:
        return start
    if limits.has_setup_needs:
        return min(int(plan.setup_start[o]), start)
    clock = clocks.get(m)
    if clock is None:
        return start - setup
    return clock.before_by(start, setup)
