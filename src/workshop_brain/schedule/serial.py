"""Plans that keep limits: operations are placed one by one, each where all it needs is free.

A list of priorities and a machine for each operation mean one plan: whatever comes first in the
list takes machine, tools, operators and buffer places first, later ones stand behind it on the
machine and around it in time. So every plan is feasible by construction, whatever the list is.
Operations tied by a maximum lag or a buffer form a group that is placed as a whole: the first
waits, or stays on its machine, until the last fits. Search changes the list (see ``lists``).

On batch machines lots of one family and duration run as one load: what is placed joins the last
load there when it is ready in time and there is room, else it begins the next. A ring of operations
says which of them wait for each other to be one load.

Tools, sets of skills and buffers are rows with a capacity and a step function of what is taken.
Skills that several people share become one row for each set of skills: work fits exactly when no
set is asked for more often than people have any skill of it (Hall's condition).
"""

from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import advance, first_window, fit, next_open, op_times
from workshop_brain.schedule.limits import MOST_SKILLS, Limits
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, Arrays, OpStatus, Problem, csr

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_BEGIN = -(1 << 60)
_NEVER = FAR // 2
_RETRIES = 60
"""Times that what did not fit is put further forward before a problem counts as infeasible."""
_DEFERRALS = 3
"""Times that what is to be one load with others is put off until they can be placed."""
_ROUNDS = 400
"""Times that a group is placed anew until its maximum lags hold."""
# What stopped a list.
(FITS, NO_PLACE, TABLE_FULL, TOO_LATE_AFTER, MISSED_DEADLINE) = range(5)
_REASONS = {
    NO_PLACE: "finds no place: its machines are blocked, or the tools, operators or buffer places "
    "that it needs are never free long enough",
    TOO_LATE_AFTER: "cannot start within the maximum lag behind its predecessor",
    MISSED_DEADLINE: "cannot be finished by its deadline",
}


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


class Book(NamedTuple):
    """What is needed and what is taken over time; few columns, since each costs at every call.

    Attributes
    ----------
    at, level, size
        Row r is taken ``level[r, k]`` times over ``[at[r, k], at[r, k + 1])``, k < ``size[r]``.
    log, logged
        ``(row, from, to, quantity)`` that were taken since the log was begun, and how many; -1 =
        nothing is logged.
    """

    at: Ints
    level: Ints
    size: Ints
    log: Ints
    logged: Ints
    capacity: Ints
    is_open: Ints
    need_ptr: Ints
    need: Ints
    closed_ptr: Ints
    closed_start: Ints
    closed_end: Ints


@kernel
def _find(at: Ints, size: Ints, r: int, t: int) -> int:
    """The step that holds at t."""
    low, high = 0, int(size[r]) - 1
    while low < high:
        mid = (low + high + 1) // 2
        if at[r, mid] <= t:
            low = mid
        else:
            high = mid - 1
    return low


@kernel
def _busy_until(at: Ints, level: Ints, size: Ints, r: int, room: int, low: int, high: int) -> int:
    """End of the last step within [low, high) that leaves no room; ``low`` when there is none."""
    if high <= low:
        return low
    k = _find(at, size, r, high - 1)
    while True:
        if level[r, k] > room:
            return int(at[r, k + 1]) if k + 1 < size[r] else FAR
        if at[r, k] <= low:
            return low
        k -= 1


@kernel
def _split(at: Ints, level: Ints, size: Ints, r: int, t: int) -> int:
    """A step that begins at t."""
    k = _find(at, size, r, t)
    if at[r, k] == t:
        return k
    for x in range(size[r], k + 1, -1):
        at[r, x], level[r, x] = at[r, x - 1], level[r, x - 1]
    at[r, k + 1], level[r, k + 1] = t, level[r, k]
    size[r] += 1
    return k + 1


@kernel
def _melt(at: Ints, level: Ints, size: Ints, r: int, k: int) -> None:
    """Join a step with the one before it when they are equal."""
    if k > 0 and level[r, k] == level[r, k - 1]:
        size[r] -= 1
        for x in range(k, size[r]):
            at[r, x], level[r, x] = at[r, x + 1], level[r, x + 1]


@kernel
def _hold(u: Book, r: int, low: int, high: int, quantity: int) -> bool:
    """Take so much of a row over [low, high); False when a table is full."""
    if high <= low:
        return True
    if u.size[r] + 2 > u.at.shape[1]:
        return False
    if u.logged[0] >= 0:
        k = u.logged[0]
        if k == len(u.log):
            return False
        u.log[k, 0], u.log[k, 1], u.log[k, 2], u.log[k, 3] = r, low, high, quantity
        u.logged[0] = k + 1
    first = _split(u.at, u.level, u.size, r, low)
    last = _split(u.at, u.level, u.size, r, high)
    for k in range(first, last):
        u.level[r, k] += quantity
    _melt(u.at, u.level, u.size, r, last)
    _melt(u.at, u.level, u.size, r, first)
    return True


@kernel
def _give_back(u: Book) -> None:
    """Undo all that was taken since the log was begun."""
    k = u.logged[0] - 1
    u.logged[0] = -1
    while k >= 0:
        _hold(u, u.log[k, 0], u.log[k, 1], u.log[k, 2], -u.log[k, 3])
        k -= 1
    u.logged[0] = 0


@kernel
def _quantity(need_ptr: Ints, need: Ints, holder: int, r: int) -> int:
    """What a holder needs of a row."""
    for k in range(need_ptr[holder], need_ptr[holder + 1]):
        if need[k, 0] == r:
            return int(need[k, 1])
    return 0


@kernel
def _wait(u: Book, one: int, two: int, m: int, low: int, high: int) -> int:
    """``low`` when two holders find all they need over [low, high) on m; else a later start."""
    later = low
    for holder in (one, two):
        for k in range(u.need_ptr[holder], u.need_ptr[holder + 1]):
            r, quantity = u.need[k, 0], u.need[k, 1]
            if holder == two:
                if _quantity(u.need_ptr, u.need, one, r) > 0:
                    continue
            else:
                quantity += _quantity(u.need_ptr, u.need, two, r)
            room = u.capacity[r] - quantity
            if u.is_open[r] == 0:
                later = max(later, _busy_until(u.at, u.level, u.size, r, room, low, high))
                continue
            x, w = low, first_window(u.closed_ptr, u.closed_end, m, low)
            while x < high:
                y, on = high, high
                if w < u.closed_ptr[m + 1] and u.closed_start[w] < high:
                    y, on = u.closed_start[w], u.closed_end[w]
                    w += 1
                if y > x:
                    free = _busy_until(u.at, u.level, u.size, r, room, x, y)
                    if free > x:
                        later = max(later, free)
                x = on
    return int(later)


@kernel
def _take(u: Book, one: int, two: int, m: int, low: int, high: int) -> bool:
    """Take all that two holders need over [low, high) on m; False when the table is full."""
    for holder in (one, two):
        for k in range(u.need_ptr[holder], u.need_ptr[holder + 1]):
            r, quantity = u.need[k, 0], u.need[k, 1]
            if u.is_open[r] == 0:
                if not _hold(u, r, low, high, quantity):
                    return False
                continue
            x, w = low, first_window(u.closed_ptr, u.closed_end, m, low)
            while x < high:
                y, on = high, high
                if w < u.closed_ptr[m + 1] and u.closed_start[w] < high:
                    y, on = u.closed_start[w], u.closed_end[w]
                    w += 1
                if y > x and not _hold(u, r, x, y, quantity):
                    return False
                x = on
    return True


@kernel
def _times(
    u: Book,
    run: int,
    run_on: int,
    change: int,
    change_on: int,
    m: int,
    is_resumable: bool,
    free: int,
    setup: int,
    ready: int,
    work: int,
) -> tuple[int, int, int, int]:
    """Setup start and end, start and end of work; FAR when it never fits.

    ``run``, ``run_on``, ``change`` and ``change_on`` are the holders that ask.
    """
    setup_start = setup_end = free
    while setup > 0:
        setup_start = next_open(u.closed_ptr, u.closed_start, u.closed_end, m, setup_start)
        setup_end = advance(u.closed_ptr, u.closed_start, u.closed_end, m, setup_start, setup)
        later = _wait(u, change, change_on, m, setup_start, setup_end)
        if later <= setup_start:
            break
        if later >= _NEVER:
            return FAR, FAR, FAR, FAR
        setup_start = later
    start = max(setup_end, ready)
    while True:
        if is_resumable:
            start = next_open(u.closed_ptr, u.closed_start, u.closed_end, m, start)
            end = advance(u.closed_ptr, u.closed_start, u.closed_end, m, start, work)
        else:
            start = fit(u.closed_ptr, u.closed_start, u.closed_end, m, start, work)
            end = start + work
        later = _wait(u, run, run_on, m, start, end)
        if later <= start:
            return setup_start, setup_end, start, end
        if later >= _NEVER:
            return FAR, FAR, FAR, FAR
        start = later


@kernel
def _sift(heap: Ints, size: int, key: Ints, g: int) -> int:
    """Put group g into the heap of groups by key; the new size."""
    k = size
    while k > 0:
        up = (k - 1) // 2
        if key[heap[up]] < key[g] or (key[heap[up]] == key[g] and heap[up] < g):
            break
        heap[k] = heap[up]
        k = up
    heap[k] = g
    return size + 1


@kernel
def _first_out(heap: Ints, size: int, key: Ints) -> int:
    """Take the first group out of the heap; the new size."""
    size -= 1
    g, k = heap[size], 0
    while True:
        c = 2 * k + 1
        if c >= size:
            break
        if c + 1 < size:
            x, y = heap[c + 1], heap[c]
            if key[x] < key[y] or (key[x] == key[y] and x < y):
                c += 1
        x = heap[c]
        if key[g] < key[x] or (key[g] == key[x] and g < x):
            break
        heap[k] = x
        k = c
    heap[k] = g
    return size


class Placed(NamedTuple):
    """What a list means; shape (n_ops,) but ``turn``, and what stopped it (code, operation).

    Attributes
    ----------
    change
        Changeover before each operation, ticks.
    before
        What stands before it on its machine; -1 = nothing.
    turn
        Place of each group in the list.
    """

    machine: Ints
    start: Ints
    end: Ints
    setup_start: Ints
    change: Ints
    before: Ints
    turn: Ints
    code: int
    op: int


@kernel
def _ready(a: Arrays, o: int, at: Ints, end: Ints) -> int:
    """When an operation could start behind its predecessors; FAR while one is not placed."""
    ready = max(a.op_release[o], a.now)
    for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
        p = a.pred_op[k]
        if at[p] >= 0:
            ready = max(ready, end[p] + a.pred_lag[k])
        elif a.op_status[p] == 0:
            return FAR
    return int(ready)


@kernel
def _work_on(a: Arrays, o: int, m: int) -> int:
    """Duration on a machine; -1 when it is not allowed there."""
    for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
        if a.alt_machine[k] == m:
            return int(a.alt_duration[k])
    return -1


@kernel
def _with_mates(
    a: Arrays, b: Rows, o: int, m: int, work: int, ready: int, mate: Ints, at: Ints, end: Ints
) -> int:
    """When a load that an operation begins is to start: as soon as all its mates can."""
    q, left = mate[o], b.load[m] - b.part[o]
    while q >= 0 and q != o:
        is_fit = a.op_status[q] == 0 and at[q] < 0 and a.op_family[q] == a.op_family[o]
        if is_fit and b.part[q] <= left and _work_on(a, q, m) == work:
            soonest = _ready(a, q, at, end)
            if soonest < FAR:
                ready = max(ready, soonest)
                left -= b.part[q]
        q = mate[q]
    return int(ready)


@kernel
def place_all(
    a: Arrays,
    b: Rows,
    wish: Ints,
    machine: Ints,
    hold_back: Ints,
    mate: Ints,
    is_choosing: bool,
    room: int,
) -> Placed:
    """The plan of a list of priorities.

    Parameters
    ----------
    wish : shape (n_groups,)
        Low first, as far as precedence lets it.
    machine : shape (n_ops,)
        Machine of each operation; -1 = it is left out. With ``is_choosing`` each goes where it
        ends first instead.
    hold_back : shape (n_ops,)
        Earliest start that the list asks for.
    mate : shape (n_ops,)
        The next operation of a ring that wants to be one load; -1 = none.
    room
        Steps of the tables; TABLE_FULL when they do not suffice.
    """
    n, count, rows = len(a.op_job), len(a.machine_family), len(b.capacity)
    groups = len(b.group_ptr) - 1
    at = np.full(n, -1, np.int64)
    start, end = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    setup_start, before = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    change = np.zeros(n, np.int64)
    turn = np.full(groups, -1, np.int64)
    depart = np.full(n, -1, np.int64)
    settled = np.zeros(n, np.int64)
    low = hold_back.copy()
    latest = np.full(n, FAR, np.int64)
    free, family = a.machine_available.copy(), a.machine_family.copy()
    last = np.full(count, -1, np.int64)
    head, filled = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    deferred = np.zeros(groups, np.int64)
    nobody = 2 * (n + count)
    key = wish.copy()
    u = Book(
        np.empty((rows, room), np.int64), np.empty((rows, room), np.int64),
        np.ones(rows, np.int64), np.empty((room, 4), np.int64), np.full(1, -1, np.int64),
        b.capacity, b.is_open, b.need_ptr, b.need,
        a.closed_ptr, a.closed_start, a.closed_end,
    )  # fmt: skip
    for r in range(rows):
        u.at[r, 0], u.level[r, 0] = _BEGIN, 0
    for k in range(len(b.away)):
        if not _hold(u, b.away[k, 0], b.away[k, 1], b.away[k, 2], b.away[k, 3]):
            return Placed(at, start, end, setup_start, change, before, turn, TABLE_FULL, -1)
    since = np.full(count, _BEGIN, np.int64)
    for o in range(n):
        if a.op_status[o] == 0 or a.op_status[o] == 4:
            continue
        m = a.op_fixed_machine[o]
        at[o], start[o], setup_start[o] = m, a.op_fixed_start[o], a.op_fixed_start[o]
        end[o] = advance(
            a.closed_ptr, a.closed_start, a.closed_end, m, a.op_fixed_from[o], a.op_fixed_work[o]
        )
        depart[o] = end[o]
        free[m] = max(free[m], end[o])
        if last[m] < 0 or end[o] >= end[last[m]]:
            last[m] = o
        if a.op_family[o] >= 0 and end[o] >= since[m]:
            since[m], family[m] = end[o], a.op_family[o]
        if not _take(u, o, n + m, m, start[o], end[o]):
            return Placed(at, start, end, setup_start, change, before, turn, TABLE_FULL, o)
    waits = np.zeros(groups, np.int64)
    for o in range(n):
        for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
            p = a.pred_op[k]
            if a.op_status[o] == 0 and a.op_status[p] == 0:
                if b.group[p] != b.group[o]:
                    waits[b.group[o]] += 1
                continue
            if at[p] < 0 or a.op_status[o] == 4:
                continue
            row, lag = b.arc_buffer[k], a.pred_lag[k]
            if row >= 0 and a.op_status[o] != 0:
                if not _hold(u, row, end[p] + lag, start[o], 1):
                    return Placed(at, start, end, setup_start, change, before, turn, TABLE_FULL, o)
            elif row >= 0:
                key[b.group[o]] = min(key[b.group[o]], _BEGIN + end[p])
                if last[at[p]] == p:
                    depart[p] = -1
                else:
                    settled[p] = 1
                    if not _hold(u, row, end[p] + lag, FAR, 1):
                        return Placed(
                            at, start, end, setup_start, change, before, turn, TABLE_FULL, o
                        )
            if a.op_status[o] == 0 and b.arc_most[k] < FAR:
                key[b.group[o]] = min(key[b.group[o]], _BEGIN + end[p])
                latest[o] = min(latest[o], end[p] + b.arc_most[k])
    for o in range(n):
        if latest[o] < FAR and a.op_status[o] == 0:
            # a limit that no machine can keep any more binds nobody: the plant must go on
            soonest = FAR
            ready = max(a.op_release[o], a.now)
            for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
                m = a.alt_machine[k]
                setup = 0
                if family[m] >= 0 and a.op_family[o] >= 0:
                    setup = a.setup[a.machine_work_center[m], family[m], a.op_family[o]]
                _, begin, _ = op_times(
                    a.closed_ptr, a.closed_start, a.closed_end, a.machine_resumable, m, free[m],
                    setup, ready, a.alt_duration[k],
                )  # fmt: skip
                soonest = min(soonest, begin)
            if soonest > latest[o]:
                latest[o] = FAR
    heap = np.empty(groups, np.int64)
    size, placed = 0, 0
    for g in range(groups):
        if waits[g] == 0:
            size = _sift(heap, size, key, g)
    kept_free, kept_family, kept_last = free.copy(), family.copy(), last.copy()
    kept_head, kept_filled = head.copy(), filled.copy()
    kept_depart, kept_settled = np.empty(count, np.int64), np.empty(count, np.int64)
    while size > 0:
        g = heap[0]
        size = _first_out(heap, size, key)
        if deferred[g] < _DEFERRALS:
            later = key[g]
            for i in range(b.group_ptr[g], b.group_ptr[g + 1]):
                o = b.group_op[i]
                q = mate[o]
                while q >= 0 and q != o and a.op_status[o] == 0:
                    if a.op_status[q] == 0 and at[q] < 0 and waits[b.group[q]] > 0:
                        later = max(later, key[b.group[q]])
                    q = mate[q]
            if later > key[g]:
                deferred[g] += 1
                key[g] = later
                size = _sift(heap, size, key, g)
                continue
        turn[g] = placed
        placed += 1
        first, stop = b.group_ptr[g], b.group_ptr[g + 1]
        is_alone = stop - first == 1
        if not is_alone:
            u.logged[0] = 0
            kept_free[:], kept_family[:], kept_last[:] = free, family, last
            kept_head[:], kept_filled[:] = head, filled
            for m in range(count):
                if last[m] >= 0:
                    kept_depart[m], kept_settled[m] = depart[last[m]], settled[last[m]]
        rounds, is_done = 0, False
        while not is_done:
            for i in range(first, stop):
                o = b.group_op[i]
                if a.op_status[o] != 0 or (machine[o] < 0 and not is_choosing):
                    continue
                ready = max(a.op_release[o], a.now, low[o])
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    if at[a.pred_op[k]] >= 0:
                        ready = max(ready, end[a.pred_op[k]] + a.pred_lag[k])
                best_m, best_out, best_change, is_joining = -1, -1, 0, False
                s0, s1, s2, s3 = FAR, FAR, FAR, FAR
                for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
                    m = a.alt_machine[k]
                    if rounds > 0 and at[o] >= 0:
                        if m != at[o]:
                            continue
                    elif not is_choosing and m != machine[o]:
                        continue
                    begin, leaves = free[m], -1
                    x = head[m]
                    if x >= 0 and filled[m] + b.part[o] <= b.load[m] and ready <= start[x]:
                        is_alike = a.op_family[x] == a.op_family[o]
                        is_alike &= _work_on(a, x, m) == a.alt_duration[k]
                        if is_alike and _wait(u, o, nobody, m, start[x], end[x]) <= start[x]:
                            if end[x] < s3 or (end[x] == s3 and m == machine[o]):
                                s0, s1, s2, s3 = setup_start[x], start[x], start[x], end[x]
                                best_m, best_out, best_change = int(m), -1, 0
                                is_joining = True
                            continue
                    if b.load[m] > 0 and b.out[o] >= 0:
                        continue
                    x = last[m]
                    if x >= 0 and depart[x] < 0 and b.out[x] != o:
                        row, lag = -1, 0
                        y = b.out[x]
                        for e in range(a.pred_ptr[y], a.pred_ptr[y + 1]):
                            if a.pred_op[e] == x:
                                row, lag = b.arc_buffer[e], a.pred_lag[e]
                        if b.capacity[row] == 0:
                            continue
                        leaves = (
                            _busy_until(
                                u.at, u.level, u.size, row, b.capacity[row] - 1, end[x] + lag, FAR
                            )
                            - lag
                        )
                        if leaves >= _NEVER:
                            continue
                        begin = max(begin, leaves)
                    setup = 0
                    if family[m] >= 0 and a.op_family[o] >= 0:
                        setup = a.setup[a.machine_work_center[m], family[m], a.op_family[o]]
                    there = ready
                    if b.load[m] > 0:
                        there = _with_mates(a, b, o, m, a.alt_duration[k], ready, mate, at, end)
                    t0, t1, t2, t3 = _times(
                        u, o, n + m, n + count + o, 2 * n + count + m, m,
                        a.machine_resumable[m] != 0, begin, setup, there, a.alt_duration[k],
                    )  # fmt: skip
                    if t3 < s3 or (t3 == s3 and t3 < FAR and m == machine[o]):
                        s0, s1, s2, s3 = t0, t1, t2, t3
                        best_m, best_out, best_change = int(m), int(leaves), int(setup)
                        is_joining = False
                if best_m < 0:
                    return Placed(at, start, end, setup_start, change, before, turn, NO_PLACE, o)
                m, x = best_m, last[best_m]
                is_full = False
                if best_out >= 0:
                    y = b.out[x]
                    for e in range(a.pred_ptr[y], a.pred_ptr[y + 1]):
                        if a.pred_op[e] == x:
                            is_full |= not _hold(
                                u,
                                b.arc_buffer[e],
                                best_out + a.pred_lag[e],
                                FAR,
                                1,
                            )
                    depart[x], settled[x] = best_out, 1
                at[o], setup_start[o], start[o], end[o] = m, s0, s2, s3
                change[o], before[o] = best_change, x
                if best_change > 0:
                    is_full |= not _take(u, n + count + o, 2 * n + count + m, m, s0, s1)
                is_full |= not _take(u, o, nobody if is_joining else n + m, m, s2, s3)
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p, row, lag = a.pred_op[k], b.arc_buffer[k], a.pred_lag[k]
                    if row < 0 or at[p] < 0:
                        continue
                    if settled[p] == 1:
                        is_full |= not _hold(u, row, max(s2, depart[p] + lag), FAR, -1)
                    elif at[p] == m and x == p:
                        depart[p] = end[p]
                    else:
                        leaves = s2 - lag
                        if b.capacity[row] > 0:
                            full = _busy_until(
                                u.at, u.level, u.size, row, b.capacity[row] - 1, end[p] + lag, s2
                            )
                            leaves = min(leaves, max(end[p], full - lag))
                        depart[p] = leaves
                        is_full |= not _hold(u, row, leaves + lag, s2, 1)
                        if last[at[p]] == p:
                            free[at[p]] = max(free[at[p]], leaves)
                if is_full:
                    return Placed(at, start, end, setup_start, change, before, turn, TABLE_FULL, o)
                last[m], free[m] = o, s3
                if b.load[m] > 0:
                    if not is_joining:
                        head[m], filled[m] = o, 0
                    filled[m] += b.part[o]
                if a.op_family[o] >= 0:
                    family[m] = a.op_family[o]
                y = b.out[o]
                is_taken = y >= 0 and a.op_status[y] == 0 and (machine[y] >= 0 or is_choosing)
                depart[o] = -1 if is_taken else s3
            is_done = True
            for i in range(first, stop):
                o = b.group_op[i]
                if a.op_status[o] != 0 or at[o] < 0:
                    continue
                if end[o] > b.deadline[o]:
                    return Placed(
                        at, start, end, setup_start, change, before, turn, MISSED_DEADLINE, o
                    )
                if start[o] > latest[o]:
                    return Placed(
                        at, start, end, setup_start, change, before, turn, TOO_LATE_AFTER, o
                    )
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p = a.pred_op[k]
                    over = start[o] - end[p] - b.arc_most[k]
                    if b.arc_most[k] < FAR and a.op_status[p] == 0 and at[p] >= 0 and over > 0:
                        low[p] = start[p] + over
                        is_done = False
                        if rounds >= _ROUNDS:
                            return Placed(
                                at, start, end, setup_start, change, before, turn,
                                TOO_LATE_AFTER, o,
                            )  # fmt: skip
            if not is_done:
                rounds += 1
                _give_back(u)
                free[:], family[:], last[:] = kept_free, kept_family, kept_last
                head[:], filled[:] = kept_head, kept_filled
                for m in range(count):
                    if last[m] >= 0:
                        depart[last[m]], settled[last[m]] = kept_depart[m], kept_settled[m]
                for i in range(first, stop):
                    o = b.group_op[i]
                    if a.op_status[o] == 0:
                        depart[o], settled[o] = -1, 0
        u.logged[0] = -1
        for i in range(first, stop):
            o = b.group_op[i]
            if a.op_status[o] != 0:
                continue
            for k in range(a.succ_ptr[o], a.succ_ptr[o + 1]):
                s = a.succ_op[k]
                if a.op_status[s] == 0 and b.group[s] != g:
                    waits[b.group[s]] -= 1
                    if waits[b.group[s]] == 0:
                        size = _sift(heap, size, key, b.group[s])
    return Placed(at, start, end, setup_start, change, before, turn, FITS, -1)


def table_room(problem: Problem) -> int:
    """Steps that the tables of a problem begin with."""
    limits = problem.limits or Limits()
    closed = sum(len(o.closed) for o in limits.operators) + sum(len(t.closed) for t in limits.tools)
    return 2 * (problem.n_ops + closed) + 16


class Miss(NamedTuple):
    """What did not fit into a list: an operation, and why (TOO_LATE_AFTER, ...)."""

    op: int
    code: int


def arrange(problem: Problem, plan: Plan, is_choosing: bool = False) -> Plan:
    """The plan that keeps all limits, in the order of another plan's starts.

    Parameters
    ----------
    is_choosing
        Each operation goes where it ends first, instead of to its machine.

    Raises
    ------
    InfeasibleError
        No such order was found; the operation that did not fit is named with the reason.
    """
    found, missed = attempt(problem, plan, is_choosing)
    if found is None:
        last = missed[-1]
        raise InfeasibleError(f"operation {problem.op_ids[last.op]!r} {_REASONS[last.code]}")
    return found


def attempt(
    problem: Problem, plan: Plan, is_choosing: bool = False, retries: int = _RETRIES
) -> tuple[Plan | None, list[Miss]]:
    """As ``arrange``: the plan, or None when there is none, and what did not fit on the way.

    What misses a deadline or a maximum lag in that order is put further forward, with all that it
    waits for, until it fits. The last miss stands twice when it did not fit even in front.
    """
    a, b = problem.arrays, rows_of(problem)
    wish = np.full(len(b.group_ptr) - 1, FAR, np.int64)
    free = np.flatnonzero(problem.op_status == OpStatus.FREE)
    np.minimum.at(wish, b.group[free], plan.start[free])
    hold_back = np.full(problem.n_ops, -FAR, np.int64)
    mate = np.full(problem.n_ops, -1, np.int64)
    if not is_choosing:
        hold_back, mate = held_back(problem, plan), mates(problem, plan)
    room, front = table_room(problem), int(wish.min(initial=0)) - 1
    missed: list[Miss] = []
    alone: Plan | None = None
    while True:
        found = place_all(a, b, wish, plan.machine, hold_back, mate, is_choosing, room)
        if found.code == FITS and is_choosing and b.load.any():
            plan, is_choosing = as_plan(found), False
            wish[b.group[free]] = FAR
            np.minimum.at(wish, b.group[free], plan.start[free])
            mate, alone = fuller(problem, plan), plan
            continue
        if found.code == FITS:
            return as_plan(found), missed
        if alone is not None:
            return alone, missed
        if found.code == TABLE_FULL:
            room *= 2
            continue
        missed.append(Miss(int(found.op), int(found.code)))
        is_hopeless = len(missed) > 1 and missed[-2].op == found.op
        if is_hopeless or len(missed) > retries:
            return None, missed
        wish[np.unique(b.group[_with_ancestors(problem, found.op)])] = front
        front -= 1


def held_back(problem: Problem, plan: Plan) -> Ints:
    """What of a plan begins when power gets cheaper goes on waiting for that, shape (n_ops,)."""
    out = np.full(problem.n_ops, -FAR, np.int64)
    tariff = (problem.limits or Limits()).tariff
    cheaper = [tick for (_, was), (tick, now) in pairwise(tariff) if now < was]
    waits = np.isin(plan.start, cheaper) & (plan.machine >= 0)
    out[waits] = plan.start[waits]
    return out


def fuller(problem: Problem, plan: Plan) -> Ints:
    """Rings of fuller loads than a plan has, on its machines; see ``mates``.

    A load waits for the next lot as long as those in it lose less by that than the lot would.
    """
    b = rows_of(problem)
    out = np.full(problem.n_ops, -1, np.int64)
    for m in np.flatnonzero(b.load).tolist():
        here = np.flatnonzero((plan.machine == m) & (problem.op_status == OpStatus.FREE)).tolist()
        ready = {o: _from_plan(problem, plan, o) for o in here}
        free = int(problem.machine_available[m])
        loads: dict[tuple[int, int], list[int]] = {}
        for o in sorted(here, key=lambda o: (ready[o], o)):
            work = problem.alternatives(o)[m]
            load = loads.setdefault((int(problem.op_family[o]), work), [])
            since = max([free, *(ready[x] for x in load)])
            is_full = int(b.part[load].sum() + b.part[o]) > b.load[m]
            if load and (is_full or max(0, ready[o] - since) * (len(load) + 1) > work):
                free = since + work
                load.clear()
            load.append(o)
            out[load] = np.roll(load, -1) if len(load) > 1 else -1
    return out


def _from_plan(problem: Problem, plan: Plan, o: int) -> int:
    """When release and predecessors let an operation start, as a plan has them."""
    ends = [int(plan.end[p]) + lag for p, lag in problem.preds(o) if plan.machine[p] >= 0]
    return max([int(problem.op_release[o]), problem.now, *ends])


def mates(problem: Problem, plan: Plan) -> Ints:
    """The loads of a plan as rings of operations, shape (n_ops,); -1 = in none with others."""
    out = np.full(problem.n_ops, -1, np.int64)
    for m, _ in (problem.limits or Limits()).batches:
        here = np.flatnonzero((plan.machine == m) & (problem.op_status == OpStatus.FREE))
        here = here[np.argsort(plan.start[here], kind="stable")]
        for ops in np.split(here, np.flatnonzero(np.diff(plan.start[here])) + 1):
            if len(ops) > 1:
                out[ops] = np.roll(ops, -1)
    return out


def _with_ancestors(problem: Problem, o: int) -> list[int]:
    """An operation and all that it waits for."""
    seen, stack = {o}, [o]
    while stack:
        for p, _ in problem.preds(stack.pop()):
            if p not in seen:
                seen.add(p)
                stack.append(p)
    return sorted(seen)


def as_plan(found: Placed) -> Plan:
    """The plan of a list."""
    return Plan(
        machine=found.machine, start=found.start, end=found.end, setup_start=found.setup_start
    )


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
