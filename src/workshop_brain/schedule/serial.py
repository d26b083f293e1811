"""Plans that keep limits: operations are placed one by one, each where all it needs is free.

A list of priorities and a machine for each operation mean one plan: whatever comes first in the
list takes machine, tools, operators and buffer places first, later ones stand behind it on the
machine and around it in time. So every plan is feasible by construction, whatever the list is.
Operations tied by a maximum lag or a buffer form a group that is placed as a whole: the first
waits, or stays on its machine, until the last fits. Search changes the list (see ``lists``).

On batch machines lots of one family and duration run as one load: what is placed joins the last
load there when it is ready in time and there is room, else it begins the next. A ring of operations
says which of them wait for each other to be one load.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import inlined, kernel
from workshop_brain.schedule.book import (
    NEVER,
    Book,
    busy_until,
    give_back,
    hold,
    take,
    times,
    wait,
)
from workshop_brain.schedule.calendars import advance, op_times
from workshop_brain.schedule.limit_rows import Rows, rows_of
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, Arrays, OpStatus, Problem

Ints = NDArray[np.int64]
_BEGIN = -(1 << 60)
_RETRIES = 60
"""Times that what did not fit is put further forward before a problem counts as infeasible ..."""
_RETRIED = 100_000
"""... and operations that may be placed for that, beyond a few times."""
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


class Floor(NamedTuple):
    """The plan so far.

    Attributes
    ----------
    at, start, end, setup_start, change, before : shape (n_ops,)
        As in ``Placed``; at = -1: not placed.
    depart, settled : shape (n_ops,)
        When a lot leaves its machine, -1 = nobody knows yet; 1 = it stands in its buffer.
    low, latest : shape (n_ops,)
        Earliest start that is asked for, and latest one behind what has started.
    key, waits : shape (n_groups,)
        Priority, and how many predecessors are not placed.
    free, family, last : shape (n_machines,)
        When each machine is free, with what set up, and what stood there last.
    head, filled : shape (n_machines,)
        First operation of the last load of a batch machine, and what that load holds.
    """

    at: Ints
    start: Ints
    end: Ints
    setup_start: Ints
    change: Ints
    before: Ints
    depart: Ints
    settled: Ints
    low: Ints
    latest: Ints
    key: Ints
    waits: Ints
    free: Ints
    family: Ints
    last: Ints
    head: Ints
    filled: Ints


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
def _empty_floor(a: Arrays, wish: Ints, hold_back: Ints) -> Floor:
    n, count = len(a.op_job), len(a.machine_family)
    return Floor(
        np.full(n, -1, np.int64), np.full(n, -1, np.int64), np.full(n, -1, np.int64),
        np.full(n, -1, np.int64), np.zeros(n, np.int64), np.full(n, -1, np.int64),
        np.full(n, -1, np.int64), np.zeros(n, np.int64), hold_back.copy(),
        np.full(n, FAR, np.int64), wish.copy(), np.zeros(len(wish), np.int64),
        a.machine_available.copy(), a.machine_family.copy(), np.full(count, -1, np.int64),
        np.full(count, -1, np.int64), np.zeros(count, np.int64),
    )  # fmt: skip


@kernel
def _empty_book(a: Arrays, b: Rows, room: int) -> Book:
    rows = len(b.capacity)
    u = Book(
        np.empty((rows, room), np.int64), np.empty((rows, room), np.int64),
        np.ones(rows, np.int64), np.zeros(rows, np.int64),
        np.empty((room, 4), np.int64), np.full(1, -1, np.int64),
        b.capacity, b.is_open, b.need_ptr, b.need,
        a.closed_ptr, a.closed_start, a.closed_end,
    )  # fmt: skip
    for r in range(rows):
        u.at[r, 0], u.level[r, 0] = _BEGIN, 0
    return u


@kernel
def _begin(a: Arrays, b: Rows, u: Book, f: Floor) -> bool:
    """Take what cannot be had and what has started needs; False when a table is full."""
    n = len(a.op_job)
    for k in range(len(b.away)):
        if not hold(u, b.away[k, 0], b.away[k, 1], b.away[k, 2], b.away[k, 3]):
            return False
    since = np.full(len(f.free), _BEGIN, np.int64)
    for o in range(n):
        if a.op_status[o] == 0 or a.op_status[o] == 4:
            continue
        m = a.op_fixed_machine[o]
        f.at[o], f.start[o], f.setup_start[o] = m, a.op_fixed_start[o], a.op_fixed_start[o]
        f.end[o] = advance(
            a.closed_ptr, a.closed_start, a.closed_end, m, a.op_fixed_from[o], a.op_fixed_work[o]
        )
        f.depart[o] = f.end[o]
        f.free[m] = max(f.free[m], f.end[o])
        if f.last[m] < 0 or f.end[o] >= f.end[f.last[m]]:
            f.last[m] = o
        if a.op_family[o] >= 0 and f.end[o] >= since[m]:
            since[m], f.family[m] = f.end[o], a.op_family[o]
        if not take(u, o, n + m, m, f.start[o], f.end[o]):
            return False
    return True


@kernel
def _tie(a: Arrays, b: Rows, u: Book, f: Floor) -> bool:
    """Count predecessors, and tie what follows what has started; False when a table is full."""
    for o in range(len(a.op_job)):
        g = b.group[o]
        for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
            p = a.pred_op[k]
            if a.op_status[o] == 0 and a.op_status[p] == 0:
                f.waits[g] += b.group[p] != g
                continue
            if f.at[p] < 0 or a.op_status[o] == 4:
                continue
            row, lag = b.arc_buffer[k], a.pred_lag[k]
            if row >= 0 and a.op_status[o] != 0:
                if not hold(u, row, f.end[p] + lag, f.start[o], 1):
                    return False
            elif row >= 0:
                f.key[g] = min(f.key[g], _BEGIN + f.end[p])
                if f.last[f.at[p]] == p:
                    f.depart[p] = -1
                else:
                    f.settled[p] = 1
                    if not hold(u, row, f.end[p] + lag, FAR, 1):
                        return False
            if a.op_status[o] == 0 and b.arc_most[k] < FAR:
                f.key[g] = min(f.key[g], _BEGIN + f.end[p])
                f.latest[o] = min(f.latest[o], f.end[p] + b.arc_most[k])
    return True


@kernel
def _loosen(a: Arrays, f: Floor) -> None:
    """A limit that no machine can keep any more binds nobody: the plant must go on."""
    for o in range(len(a.op_job)):
        if f.latest[o] >= FAR or a.op_status[o] != 0:
            continue
        soonest, ready = FAR, max(a.op_release[o], a.now)
        for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
            m = a.alt_machine[k]
            _, begin, _ = op_times(
                a.closed_ptr, a.closed_start, a.closed_end, a.machine_resumable, m, f.free[m],
                _setup(a, f.family, m, o), ready, a.alt_duration[k],
            )  # fmt: skip
            soonest = min(soonest, begin)
        if soonest > f.latest[o]:
            f.latest[o] = FAR


@inlined
def _setup(a: Arrays, family: Ints, m: int, o: int) -> int:
    """Changeover before an operation that is put onto a machine now."""
    setup = 0
    if family[m] >= 0 and a.op_family[o] >= 0:
        setup = a.setup[a.machine_work_center[m], family[m], a.op_family[o]]
    return setup


@kernel
def _after_mates(a: Arrays, b: Rows, f: Floor, mate: Ints, g: int) -> int:
    """Priority of a group once the others of its loads can be placed, too."""
    later = f.key[g]
    for i in range(b.group_ptr[g], b.group_ptr[g + 1]):
        o = b.group_op[i]
        q = mate[o]
        while q >= 0 and q != o and a.op_status[o] == 0:
            if a.op_status[q] == 0 and f.at[q] < 0 and f.waits[b.group[q]] > 0:
                later = max(later, f.key[b.group[q]])
            q = mate[q]
    return int(later)


@inlined
def _leaves(a: Arrays, b: Rows, u: Book, x: int, end: Ints) -> int:
    """When a lot can leave its machine for its buffer; FAR = not before it is taken."""
    y, row, lag = b.out[x], -1, 0
    for e in range(a.pred_ptr[y], a.pred_ptr[y + 1]):
        if a.pred_op[e] == x:
            row, lag = b.arc_buffer[e], a.pred_lag[e]
    out = FAR
    if b.capacity[row] > 0:
        full = b.capacity[row] - 1
        out = busy_until(u.at, u.level, u.size, row, full, end[x] + lag, FAR) - lag
    return out


@inlined
def _into_buffer(a: Arrays, b: Rows, u: Book, x: int, leaves: int) -> bool:
    """A lot stands in its buffer from now on; False when a table is full."""
    y, is_full = b.out[x], False
    for e in range(a.pred_ptr[y], a.pred_ptr[y + 1]):
        if a.pred_op[e] == x:
            is_full |= not hold(u, b.arc_buffer[e], leaves + a.pred_lag[e], FAR, 1)
    return not is_full


class Kept(NamedTuple):
    """The machines as they were before a group, and what was known of their last lots."""

    free: Ints
    family: Ints
    last: Ints
    head: Ints
    filled: Ints
    depart: Ints
    settled: Ints


@kernel
def _keep(u: Book, f: Floor, kept: Kept) -> None:
    """Remember the machines, and log what is taken from now on."""
    u.logged[0] = 0
    kept.free[:], kept.family[:], kept.last[:] = f.free, f.family, f.last
    kept.head[:], kept.filled[:] = f.head, f.filled
    for m in range(len(f.last)):
        if f.last[m] >= 0:
            kept.depart[m], kept.settled[m] = f.depart[f.last[m]], f.settled[f.last[m]]


@kernel
def _go_back(a: Arrays, b: Rows, u: Book, f: Floor, kept: Kept, g: int) -> None:
    """All as it was before a group; its operations keep their machines."""
    give_back(u)
    f.free[:], f.family[:], f.last[:] = kept.free, kept.family, kept.last
    f.head[:], f.filled[:] = kept.head, kept.filled
    for m in range(len(f.last)):
        if f.last[m] >= 0:
            f.depart[f.last[m]], f.settled[f.last[m]] = kept.depart[m], kept.settled[m]
    for i in range(b.group_ptr[g], b.group_ptr[g + 1]):
        o = b.group_op[i]
        if a.op_status[o] == 0:
            f.depart[o], f.settled[o] = -1, 0


@inlined
def _as_placed(f: Floor, turn: Ints, code: int, o: int) -> Placed:
    return Placed(f.at, f.start, f.end, f.setup_start, f.change, f.before, turn, code, o)


@kernel
def place_all(
    a: Arrays,
    b: Rows,
    wish: Ints,
    machine: Ints,
    hold_back: Ints,
    mate: Ints,
    is_choosing: bool,
    puts_off: bool,
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
    puts_off
        Whether what is to be one load with others waits in the list until they can be placed; a
        list in the order of ``turn`` needs no such thing.
    room
        Steps of the tables; TABLE_FULL when they do not suffice.
    """
    n, groups, count = len(a.op_job), len(wish), len(a.machine_family)
    nobody = 2 * (n + count)
    f, u = _empty_floor(a, wish, hold_back), _empty_book(a, b, room)
    turn = np.full(groups, -1, np.int64)
    if not _begin(a, b, u, f) or not _tie(a, b, u, f):
        return _as_placed(f, turn, TABLE_FULL, -1)
    _loosen(a, f)
    kept = Kept(
        f.free.copy(), f.family.copy(), f.last.copy(), f.head.copy(), f.filled.copy(),
        np.empty(count, np.int64), np.empty(count, np.int64),
    )  # fmt: skip
    has_loads = b.load.max() > 0
    deferred, heap = np.zeros(groups, np.int64), np.empty(groups, np.int64)
    # as locals: a column of a tuple costs at every look
    at, start, end, setup_start = f.at, f.start, f.end, f.setup_start
    change, before = f.change, f.before
    depart, settled, low, latest, key, waits = f.depart, f.settled, f.low, f.latest, f.key, f.waits
    free, family, last, head, filled = f.free, f.family, f.last, f.head, f.filled
    size, placed = 0, 0
    for g in range(groups):
        if waits[g] == 0:
            size = _sift(heap, size, key, g)
    while size > 0:
        g = heap[0]
        size = _first_out(heap, size, key)
        if puts_off and has_loads and deferred[g] < _DEFERRALS:
            later = _after_mates(a, b, f, mate, g)
            if later > key[g]:
                deferred[g] += 1
                key[g] = later
                size = _sift(heap, size, key, g)
                continue
        turn[g] = placed
        placed += 1
        first, stop = b.group_ptr[g], b.group_ptr[g + 1]
        if stop - first > 1:
            _keep(u, f, kept)
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
                    x = head[m]
                    if x >= 0 and filled[m] + b.part[o] <= b.load[m] and ready <= start[x]:
                        is_alike = a.op_family[x] == a.op_family[o] and a.op_family[o] >= 0
                        is_alike &= _work_on(a, x, m) == a.alt_duration[k]
                        begin = changed = setup_start[x]
                        if is_alike and change[x] > 0:
                            changed = advance(
                                a.closed_ptr, a.closed_start, a.closed_end, m, begin, change[x]
                            )
                            is_alike = wait(u, n + count + o, nobody, m, begin, changed) <= begin
                        if is_alike and wait(u, o, nobody, m, start[x], end[x]) <= start[x]:
                            if end[x] < s3 or (end[x] == s3 and m == machine[o]):
                                s0, s1, s2, s3 = begin, changed, start[x], end[x]
                                best_m, best_out, best_change = int(m), -1, 0
                                is_joining = True
                            continue
                    if b.load[m] > 0 and b.out[o] >= 0:
                        continue
                    begin, leaves, x = free[m], -1, last[m]
                    if x >= 0 and depart[x] < 0 and b.out[x] != o:
                        leaves = _leaves(a, b, u, x, end)
                        if leaves >= NEVER:
                            continue
                        begin = max(begin, leaves)
                    setup = _setup(a, family, m, o)
                    there = ready
                    if b.load[m] > 0:
                        there = _with_mates(a, b, o, m, a.alt_duration[k], ready, mate, at, end)
                    t0, t1, t2, t3 = times(
                        u, o, n + m, n + count + o, 2 * n + count + m, m,
                        a.machine_resumable[m] != 0, begin, setup, there, a.alt_duration[k],
                    )  # fmt: skip
                    if t3 < s3 or (t3 == s3 and t3 < FAR and m == machine[o]):
                        s0, s1, s2, s3 = t0, t1, t2, t3
                        best_m, best_out, best_change = int(m), int(leaves), int(setup)
                        is_joining = False
                if best_m < 0:
                    return _as_placed(f, turn, NO_PLACE, o)
                m, x = best_m, last[best_m]
                is_full = False
                if best_out >= 0:
                    is_full |= not _into_buffer(a, b, u, x, best_out)
                    depart[x], settled[x] = best_out, 1
                at[o], setup_start[o], start[o], end[o] = m, s0, s2, s3
                change[o], before[o] = best_change, x
                if is_joining and s1 > s0:
                    is_full |= not take(u, n + count + o, nobody, m, s0, s1)
                if best_change > 0:
                    is_full |= not take(u, n + count + o, 2 * n + count + m, m, s0, s1)
                is_full |= not take(u, o, nobody if is_joining else n + m, m, s2, s3)
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p, row, lag = a.pred_op[k], b.arc_buffer[k], a.pred_lag[k]
                    if row < 0 or at[p] < 0:
                        continue
                    if settled[p] == 1:
                        is_full |= not hold(u, row, max(s2, depart[p] + lag), FAR, -1)
                    elif at[p] == m and x == p:
                        depart[p] = end[p]
                    else:
                        leaves = s2 - lag
                        if b.capacity[row] > 0:
                            full = busy_until(
                                u.at, u.level, u.size, row, b.capacity[row] - 1, end[p] + lag, s2
                            )
                            leaves = min(leaves, max(end[p], full - lag))
                        depart[p] = leaves
                        is_full |= not hold(u, row, leaves + lag, s2, 1)
                        if last[at[p]] == p:
                            free[at[p]] = max(free[at[p]], leaves)
                if is_full:
                    return _as_placed(f, turn, TABLE_FULL, o)
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
                    return _as_placed(f, turn, MISSED_DEADLINE, o)
                if start[o] > latest[o]:
                    return _as_placed(f, turn, TOO_LATE_AFTER, o)
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p = a.pred_op[k]
                    over = start[o] - end[p] - b.arc_most[k]
                    if b.arc_most[k] < FAR and a.op_status[p] == 0 and at[p] >= 0 and over > 0:
                        low[p] = start[p] + over
                        is_done = False
                        if rounds >= _ROUNDS:
                            return _as_placed(f, turn, TOO_LATE_AFTER, o)
            if not is_done:
                rounds += 1
                _go_back(a, b, u, f, kept, g)
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
    return _as_placed(f, turn, FITS, -1)


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
    problem: Problem, plan: Plan, is_choosing: bool = False, retries: int | None = None
) -> tuple[Plan | None, list[Miss]]:
    """As ``arrange``: the plan, or None when there is none, and what did not fit on the way."""
    found, missed = lay(problem, plan, is_choosing, retries)
    return (None if found is None else as_plan(found.placed)), missed


class Laid(NamedTuple):
    """A list that goes: what it means, what it holds back, and its loads; see ``place_all``."""

    placed: Placed
    hold_back: Ints
    mate: Ints


def lay(
    problem: Problem, plan: Plan, is_choosing: bool = False, retries: int | None = None
) -> tuple[Laid | None, list[Miss]]:
    """The list in the order of a plan's starts, or None when none goes, and what did not fit.

    What misses a deadline or a maximum lag in that order is put further forward, with all that it
    waits for, until it fits. The last miss stands twice when it did not fit even in front.
    """
    a, b = problem.arrays, rows_of(problem)
    wish = _wishes(problem, b, plan)
    hold_back = np.full(problem.n_ops, -FAR, np.int64)
    mate = np.full(problem.n_ops, -1, np.int64)
    if not is_choosing:
        hold_back, mate = held_back(problem, plan), mates(problem, plan)
    room, front = table_room(problem), int(wish.min(initial=0)) - 1
    if retries is None:
        retries = min(_RETRIES, max(4, _RETRIED // max(1, problem.n_ops)))
    missed: list[Miss] = []
    alone: Laid | None = None
    while True:
        found = place_all(a, b, wish, plan.machine, hold_back, mate, is_choosing, True, room)
        if found.code == FITS and is_choosing and b.load.any():
            alone = Laid(found, hold_back, mate)
            plan, is_choosing = as_plan(found), False
            wish, mate = _wishes(problem, b, plan), fuller(problem, plan)
            continue
        if found.code == FITS:
            return Laid(found, hold_back, mate), missed
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


def _wishes(problem: Problem, b: Rows, plan: Plan) -> Ints:
    """Groups in the order of a plan's first starts."""
    out = np.full(len(b.group_ptr) - 1, FAR, np.int64)
    free = np.flatnonzero(problem.op_status == OpStatus.FREE)
    np.minimum.at(out, b.group[free], plan.start[free])
    return out


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
