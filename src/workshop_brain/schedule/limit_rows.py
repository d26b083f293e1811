"""Limits as columns: what kernels read of tools, people, buffers, batch machines and power.

Tools, sets of skills and buffers are rows with a capacity. Skills that several people share become
one row for each set of skills: work fits exactly when no set is asked for more often than people
have any skill of it (Hall's condition).
"""

from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import first_window
from workshop_brain.schedule.limits import MOST_SKILLS, Limits
from workshop_brain.schedule.structure import FAR, Arrays, Problem, csr

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Rows(NamedTuple):
    """Limits as columns.

    Attributes
    ----------
    capacity, is_open : shape (rows,)
        Units of a row, and 1 where they are needed in open time only (people).
    need_ptr, need
        Per holder ``(row, quantity)``. Holders: operations running, machines running, operations
        changing over, machines changing over, nobody.
    away
        ``(row, from, to, quantity)`` that cannot be had.
    arc_most, arc_buffer : shape (n_arcs,)
        Maximum lag (FAR = none) and buffer row (-1 = none), as in ``pred_op``.
    out : shape (n_ops,)
        The operation that takes the lot out of a buffer; -1 = none.
    deadline : shape (n_ops,)
    group, group_ptr, group_op
        Group of each operation, and the operations of each in order of precedence.
    tariff_at, tariff_price, tariff_sum
        Tariff steps, price per kW and tick, and its sum up to the step.
    power : shape (n_machines,)
    load : shape (n_machines,)
        What a load of a batch machine may hold; 0 = one operation at a time.
    part : shape (n_ops,)
        What an operation takes of it.
    """

    capacity: Ints
    is_open: Ints
    need_ptr: Ints
    need: Ints
    away: Ints
    arc_most: Ints
    arc_buffer: Ints
    out: Ints
    deadline: Ints
    group: Ints
    group_ptr: Ints
    group_op: Ints
    tariff_at: Ints
    tariff_price: Floats
    tariff_sum: Floats
    power: Floats
    load: Ints
    part: Ints


class Cut(NamedTuple):
    """A set of skills as one row, and who has any of them."""

    skills: frozenset[str]
    people: tuple[int, ...]


def cuts(limits: Limits) -> list[Cut]:
    """All sets of skills that hang together through people who have several of them.

    Of two sets that the same people have, the larger says all.

    >>> from workshop_brain.schedule.limits import Operator
    >>> both = Operator(id="li", skills=("mill", "turn"))
    >>> limits = Limits(operators=(both, Operator(id="wu", skills=("weld", "turn"))))
    >>> [(sorted(cut.skills), cut.people) for cut in cuts(limits)]
    [(['mill'], (0,)), (['weld'], (1,)), (['mill', 'turn', 'weld'], (0, 1))]

    Raises
    ------
    InfeasibleError
        More than MOST_SKILLS skills hang together.
    """
    parts: list[set[str]] = []
    for operator in limits.operators:
        joined = set(operator.skills)
        for part in [part for part in parts if part & joined]:
            parts.remove(part)
            joined |= part
        parts.append(joined)
    out = []
    for part in parts:
        if len(part) > MOST_SKILLS:
            raise InfeasibleError(
                f"skills {', '.join(sorted(part))}: {len(part)} hang together through operators "
                f"who have several of them, at most {MOST_SKILLS} may; name fewer per operator"
            )
        found = []
        for size in range(1, len(part) + 1):
            for skills in combinations(sorted(part), size):
                people = [
                    k for k, who in enumerate(limits.operators) if set(who.skills) & set(skills)
                ]
                found.append(Cut(frozenset(skills), tuple(people)))
        out += [
            cut
            for cut in found
            if not any(cut.skills < other.skills and cut.people == other.people for other in found)
        ]
    return out


def rows_of(problem: Problem) -> Rows:
    """The limits of a problem as columns; computed once for problems that differ in state only."""
    limits = problem.limits or Limits()
    return _rows(limits, problem.pred_ptr.tobytes(), problem.pred_op.tobytes(), problem.n_machines)


@lru_cache(maxsize=8)
def _rows(limits: Limits, ptr: bytes, preds: bytes, machines: int) -> Rows:
    pred_ptr = np.frombuffer(ptr, np.int64)
    pred_op = np.frombuffer(preds, np.int64)
    n = len(pred_ptr) - 1
    capacity = [tool.quantity for tool in limits.tools]
    away = [(k, a, b, t.quantity) for k, t in enumerate(limits.tools) for a, b in t.closed]
    rows_for = {tool.id: [k] for k, tool in enumerate(limits.tools)}
    for cut in cuts(limits):
        row = len(capacity)
        capacity.append(len(cut.people))
        for skill in cut.skills:
            rows_for.setdefault(skill, []).append(row)
        away += [(row, a, b, 1) for k in cut.people for a, b in limits.operators[k].closed]
    is_open = [0] * len(limits.tools) + [1] * (len(capacity) - len(limits.tools))
    buffer_row = {buffer.id: len(capacity) + k for k, buffer in enumerate(limits.buffers)}
    capacity += [buffer.capacity for buffer in limits.buffers]
    is_open += [0] * len(limits.buffers)
    holders: list[dict[int, int]] = [{} for _ in range(2 * (n + machines) + 1)]
    for offset, needs in (
        (0, limits.op_needs),
        (n, limits.machine_needs),
        (n + machines, limits.op_setup_needs),
        (2 * n + machines, limits.machine_setup_needs),
    ):
        for index, name, quantity in needs:
            held = holders[offset + index]
            for row in rows_for[name]:
                held[row] = held.get(row, 0) + quantity
    need_ptr, need = csr([[x for pair in sorted(held.items()) for x in pair] for held in holders])
    after = np.repeat(np.arange(n), np.diff(pred_ptr))
    arc_at = {(int(p), int(s)): k for k, (p, s) in enumerate(zip(pred_op, after, strict=True))}
    arc_most = np.full(len(pred_op), FAR, np.int64)
    arc_buffer = np.full(len(pred_op), -1, np.int64)
    out = np.full(n, -1, np.int64)
    tied = [(p, s) for p, s, _ in limits.max_lags] + [(p, s) for p, s, _ in limits.buffered]
    for p, s, most in limits.max_lags:
        k = arc_at[p, s]
        arc_most[k] = min(arc_most[k], most)
    for p, s, name in limits.buffered:
        arc_buffer[arc_at[p, s]], out[p] = buffer_row[name], s
    deadline = np.full(n, FAR, np.int64)
    for o, tick in limits.deadlines:
        deadline[o] = min(deadline[o], tick)
    group = _groups(n, pred_op, after, tied)
    group_ptr, group_op = _members(group, pred_ptr, pred_op)
    load, part = np.zeros(machines, np.int64), np.ones(n, np.int64)
    for m, room in limits.batches:
        load[m] = room
    for o, size in limits.sizes:
        part[o] = size
    at = np.array([tick for tick, _ in limits.tariff], np.int64)
    price = np.array([value / 3600.0 for _, value in limits.tariff], np.float64)
    spent = np.append(0.0, np.cumsum(price[:-1] * np.diff(at))) if len(at) else np.zeros(0)
    return Rows(
        capacity=np.array(capacity, np.int64),
        is_open=np.array(is_open, np.int64),
        need_ptr=need_ptr // 2,
        need=np.ascontiguousarray(need.reshape(-1, 2)),
        away=np.array(away, np.int64).reshape(-1, 4),
        arc_most=arc_most,
        arc_buffer=arc_buffer,
        out=out,
        deadline=deadline,
        group=group,
        group_ptr=group_ptr,
        group_op=group_op,
        tariff_at=at,
        tariff_price=price,
        tariff_sum=spent,
        power=np.array(limits.power_kw or [0.0] * machines, np.float64),
        load=load,
        part=part,
    )


@kernel
def _strong_parts(ptr: Ints, to: Ints) -> Ints:
    """Strongly connected part of each node of a graph in CSR form (Tarjan 1972)."""
    n = len(ptr) - 1
    part, seen, lowest = np.full(n, -1, np.int64), np.full(n, -1, np.int64), np.zeros(n, np.int64)
    edge = ptr[:-1].copy()
    stack, path = np.empty(n, np.int64), np.empty(n, np.int64)
    clock = parts = size = 0
    for root in range(n):
        if seen[root] >= 0:
            continue
        depth = 1
        path[0] = root
        while depth > 0:
            v = path[depth - 1]
            if seen[v] < 0:
                seen[v] = lowest[v] = clock
                clock += 1
                stack[size] = v
                size += 1
            if edge[v] < ptr[v + 1]:
                w = to[edge[v]]
                edge[v] += 1
                if seen[w] < 0:
                    path[depth] = w
                    depth += 1
                elif part[w] < 0:
                    lowest[v] = min(lowest[v], seen[w])
                continue
            depth -= 1
            if depth > 0:
                lowest[path[depth - 1]] = min(lowest[path[depth - 1]], lowest[v])
            if lowest[v] == seen[v]:
                while True:
                    size -= 1
                    part[stack[size]] = parts
                    if stack[size] == v:
                        break
                parts += 1
    return part


def _groups(n: int, pred_op: Ints, after: Ints, tied: list[tuple[int, int]]) -> Ints:
    """Groups of tied operations and of all that stands between them; a group waits for none of
    what waits for it."""
    # an arc there and back ties; a way round through others closes a circle and ties them too
    source = np.concatenate([pred_op, np.array([s for _, s in tied], np.int64)])
    target = np.concatenate([after, np.array([p for p, _ in tied], np.int64)])
    ptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(source, minlength=n), out=ptr[1:])
    part = _strong_parts(ptr, np.ascontiguousarray(target[np.argsort(source, kind="stable")]))
    _, first, inverse = np.unique(part, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.ascontiguousarray(rank[inverse.reshape(-1)], np.int64)


def _members(group: Ints, pred_ptr: Ints, pred_op: Ints) -> tuple[Ints, Ints]:
    """Operations of each group, in order of precedence."""
    n = len(group)
    depth = np.zeros(n, np.int64)
    after = np.repeat(np.arange(n), np.diff(pred_ptr))
    while len(after):  # the longest way to each operation; as many rounds as the longest way is
        deeper = depth.copy()
        np.maximum.at(deeper, after, depth[pred_op] + 1)
        if (deeper == depth).all():
            break
        depth = deeper
    order = np.lexsort((np.arange(n), depth, group))
    ptr = np.zeros(int(group.max(initial=-1)) + 2, np.int64)
    np.cumsum(np.bincount(group, minlength=len(ptr) - 1), out=ptr[1:])
    return ptr, np.ascontiguousarray(order, np.int64)


@kernel
def _spent(at: Ints, price: Floats, total: Floats, t: int) -> float:
    """Price of one kW that runs from the first step of the tariff to t."""
    low, high = 0, len(at)
    while low < high:
        mid = (low + high) // 2
        if at[mid] <= t:
            low = mid + 1
        else:
            high = mid
    if low == 0:
        return 0.0
    return float(total[low - 1] + (t - at[low - 1]) * price[low - 1])


@kernel
def power_prices(a: Arrays, b: Rows, machine: Ints, start: Ints, end: Ints) -> Floats:
    """Price of the power of each FREE operation, shape (n_ops,); closed time costs nothing."""
    out = np.zeros(len(machine))
    at, price, total = b.tariff_at, b.tariff_price, b.tariff_sum
    if len(at) == 0:
        return out
    for o in range(len(machine)):
        m = machine[o]
        if m < 0 or a.op_status[o] != 0 or b.power[m] == 0.0:
            continue
        paid = _spent(at, price, total, end[o]) - _spent(at, price, total, start[o])
        w = first_window(a.closed_ptr, a.closed_end, m, start[o])
        while w < a.closed_ptr[m + 1] and a.closed_start[w] < end[o]:
            low, high = max(a.closed_start[w], start[o]), min(a.closed_end[w], end[o])
            if high > low:
                paid -= _spent(at, price, total, high) - _spent(at, price, total, low)
            w += 1
        out[o] = b.power[m] * paid
    return out
