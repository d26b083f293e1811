"""Tabu search for makespan problems: moves of critical operations, priced by heads and tails.

An operation on a longest path is moved within its block (N7: Zhang et al. 2007) or to another
machine at the place where it disturbs least (Mastrolilli and Gambardella 2000). A move is priced by
the longest path through the operations that it shifts; the best that is not tabu is made, and heads
and tails are brought up to date along a topological order that is repaired, not rebuilt. Arcs that
a move turned round, and machines that it left, are tabu for a while.

It needs problems in which the longest path is everything: all operations free, no closed time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import inlined, kernel
from workshop_brain.schedule.moves import draw
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import durations, sequences, timed

Ints = NDArray[np.int64]
# Columns of an operation.
(HEAD, TAIL, WORK, MACHINE, AT, FAMILY, READY, AFTER, PRED, PRED_END, SUCC, SUCC_END, ALT, ALT_END,
 RANK, DIRTY) = range(16)  # fmt: skip
# Lists of operations and scratch, kept in further columns.
(ORDER, PATH, END, STAMP, MOVED, SIDE, LEFT) = range(16, 23)
# Columns of a machine.
(BASE, LENGTH, FREE, FAMILY_NOW, TABLE, BEST_LENGTH) = range(6)
# Counters.
(STEP, BEST, NOW, SINCE, TRIED, RESTARTS) = range(6)
_MEMORY = 1 << 18
"""Entries of the tabu memory, by hash; a collision makes a move tabu that need not be."""
_CALM = 12
"""Steps without a better plan, in thousands, after which the search goes back to its best."""


class Graph(NamedTuple):
    """One searcher's plan as a graph, and its scratch space; columns are named above.

    ``pairs`` are rows of (operation, lag) before and behind an operation, and of (machine,
    duration); PRED, SUCC and ALT say which. ``seq`` holds the machine sequences, each from its
    BASE on, now and in the best plan. Few arrays: each one costs at every call of a kernel.
    """

    ops: Ints
    machines: Ints
    pairs: Ints
    setup: Ints
    seq: Ints
    tabu: Ints
    tally: Ints
    rng: NDArray[np.uint64]


def fits(problem: Problem) -> bool:
    """Whether the longest path is all that counts in this problem."""
    return (
        problem.target == "makespan"
        and problem.n_ops > 0
        and not len(problem.closed_start)
        and not bool((problem.op_status != OpStatus.FREE).any())
    )


def lay_out(problem: Problem, plan: Plan, seed: int) -> Graph:
    """The graph of a feasible plan on a problem that :func:`fits`."""
    n = problem.n_ops
    ops = np.zeros((n, 23), np.int64)
    ops[:, WORK] = durations(problem, np.arange(n), plan.machine)
    ops[:, MACHINE] = plan.machine
    ops[:, READY] = np.maximum(problem.op_release, problem.now)
    ops[:, AFTER] = problem.op_tail
    ops[:, FAMILY] = problem.op_family
    pairs, first = [], 0
    for column, ptr, one, two in (
        (PRED, problem.pred_ptr, problem.pred_op, problem.pred_lag),
        (SUCC, problem.succ_ptr, problem.succ_op, problem.succ_lag),
        (ALT, problem.alt_ptr, problem.alt_machine, problem.alt_duration),
    ):
        ops[:, column], ops[:, column + 1] = first + ptr[:-1], first + ptr[1:]
        pairs.append(np.stack([one, two], axis=1))
        first += len(one)
    ends = np.flatnonzero((np.diff(problem.succ_ptr) == 0) | (problem.op_tail > 0))
    ops[:, END] = -1
    ops[: len(ends), END] = ends
    machines, seq = _sequences(problem, plan, ops)
    graph = Graph(
        ops=ops,
        machines=machines,
        pairs=np.ascontiguousarray(np.concatenate(pairs)),
        setup=problem.setup,
        seq=seq,
        tabu=np.zeros(_MEMORY, np.int64),
        tally=np.zeros(6, np.int64),
        rng=np.array([(2 * seed + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1)], np.uint64),
    )
    graph.tally[BEST] = graph.tally[NOW] = renew(graph)
    return graph


def _sequences(problem: Problem, plan: Plan, ops: Ints) -> tuple[Ints, Ints]:
    """Tables of the machines and of their sequences; each has room for all that may run there."""
    m = problem.n_machines
    room = np.bincount(problem.alt_machine, minlength=m)
    machines = np.zeros((m, 6), np.int64)
    machines[1:, BASE] = np.cumsum(room)[:-1]
    machines[:, FREE] = problem.machine_available
    machines[:, FAMILY_NOW] = problem.machine_family
    machines[:, TABLE] = problem.machine_work_center
    seq = np.full((int(room.sum()), 2), -1, np.int64)
    pointers, sequence = sequences(problem, plan)
    for k in range(m):
        row = sequence[pointers[k] : pointers[k + 1]]
        seq[machines[k, BASE] : machines[k, BASE] + len(row)] = row[:, None]
        machines[k, LENGTH] = machines[k, BEST_LENGTH] = len(row)
        ops[row, AT] = np.arange(len(row))
    return machines, seq


def best_plan(problem: Problem, graph: Graph) -> Plan:
    """The best plan that a searcher has met, timed."""
    bases, lengths = graph.machines[:, BASE], graph.machines[:, BEST_LENGTH]
    rows = [graph.seq[b : b + k, 1] for b, k in zip(bases, lengths, strict=True)]
    machine = np.empty(problem.n_ops, np.int64)
    for k, row in enumerate(rows):
        machine[row] = k
    ptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=ptr[1:])
    return timed(problem, machine, ptr, np.concatenate(rows))


def follow(graph: Graph, other: Graph) -> None:
    """Go on from the best plan of another searcher on the same problem."""
    graph.seq[:, 1] = other.seq[:, 1]
    graph.machines[:, BEST_LENGTH] = other.machines[:, BEST_LENGTH]
    graph.tally[BEST] = other.tally[BEST]
    go_back(graph)


@inlined
def _change(g: Graph, m: int, a: int, b: int) -> int:
    """Changeover on a machine from operation ``a`` (-1: from how it stands) to ``b``."""
    family = g.machines[m, FAMILY_NOW] if a < 0 else g.ops[a, FAMILY]
    if family < 0:
        return 0
    return int(g.setup[g.machines[m, TABLE], family, g.ops[b, FAMILY]])


@inlined
def _before(g: Graph, o: int) -> int:
    """The operation before on the same machine, or -1."""
    at = g.ops[o, AT]
    m = g.ops[o, MACHINE]
    return int(g.seq[g.machines[m, BASE] + at - 1, 0]) if at > 0 else -1


@inlined
def _behind(g: Graph, o: int) -> int:
    """The operation behind on the same machine, or -1."""
    m, at = g.ops[o, MACHINE], g.ops[o, AT] + 1
    return int(g.seq[g.machines[m, BASE] + at, 0]) if at < g.machines[m, LENGTH] else -1


@inlined
def _ready(g: Graph, o: int) -> int:
    """Earliest start by precedence and release alone."""
    ready = g.ops[o, READY]
    for k in range(g.ops[o, PRED], g.ops[o, PRED_END]):
        p = g.pairs[k, 0]
        ready = max(ready, g.ops[p, HEAD] + g.ops[p, WORK] + g.pairs[k, 1])
    return int(ready)


@inlined
def _rest(g: Graph, o: int) -> int:
    """Longest way from the end of an operation to the end of all, by precedence alone."""
    rest = g.ops[o, AFTER]
    for k in range(g.ops[o, SUCC], g.ops[o, SUCC_END]):
        s = g.pairs[k, 0]
        rest = max(rest, g.ops[s, TAIL] + g.ops[s, WORK] + g.pairs[k, 1])
    return int(rest)


@inlined
def _free(g: Graph, m: int, p: int, o: int) -> int:
    """When machine ``m`` is ready for ``o`` behind ``p`` (-1: as the first)."""
    end = g.machines[m, FREE] if p < 0 else g.ops[p, HEAD] + g.ops[p, WORK]
    return int(end) + _change(g, m, p, o)


@inlined
def _onward(g: Graph, m: int, o: int, s: int) -> int:
    """Longest way on from the end of ``o`` through ``s`` (-1: none) on machine ``m``."""
    if s < 0:
        return 0
    return int(g.ops[s, TAIL] + g.ops[s, WORK]) + _change(g, m, o, s)


@inlined
def _head(g: Graph, o: int) -> int:
    return max(_ready(g, o), _free(g, int(g.ops[o, MACHINE]), _before(g, o), o))


@inlined
def _tail(g: Graph, o: int) -> int:
    return max(_rest(g, o), _onward(g, int(g.ops[o, MACHINE]), o, _behind(g, o)))


@kernel
def _makespan(g: Graph) -> int:
    last = 0
    i = 0
    while i < len(g.ops) and g.ops[i, END] >= 0:
        e = g.ops[i, END]
        i += 1
        last = max(last, g.ops[e, HEAD] + g.ops[e, WORK] + g.ops[e, AFTER])
    return int(last)


@kernel
def renew(g: Graph) -> int:
    """Order, heads and tails from the sequences; the makespan."""
    n = len(g.ops)
    left, size = g.ops[:, LEFT], 0
    for o in range(n):
        left[o] = g.ops[o, PRED_END] - g.ops[o, PRED] + (1 if g.ops[o, AT] > 0 else 0)
        g.ops[o, DIRTY] = 0
        if left[o] == 0:
            g.ops[size, ORDER] = o
            size += 1
    at = 0
    while at < size:
        o = g.ops[at, ORDER]
        g.ops[o, RANK] = at
        g.ops[o, HEAD] = _head(g, o)
        at += 1
        s = _behind(g, o)
        if s >= 0:
            left[s] -= 1
            if left[s] == 0:
                g.ops[size, ORDER] = s
                size += 1
        for k in range(g.ops[o, SUCC], g.ops[o, SUCC_END]):
            s = g.pairs[k, 0]
            left[s] -= 1
            if left[s] == 0:
                g.ops[size, ORDER] = s
                size += 1
    for k in range(n - 1, -1, -1):
        g.ops[g.ops[k, ORDER], TAIL] = _tail(g, int(g.ops[k, ORDER]))
    return _makespan(g)


@kernel
def _take(g: Graph, o: int) -> None:
    """Out of its sequence."""
    m, at = g.ops[o, MACHINE], g.ops[o, AT]
    base, length = g.machines[m, BASE], g.machines[m, LENGTH] - 1
    for k in range(at, length):
        g.seq[base + k, 0] = g.seq[base + k + 1, 0]
        g.ops[g.seq[base + k, 0], AT] = k
    g.machines[m, LENGTH] = length


@kernel
def _put(g: Graph, o: int, m: int, at: int, work: int) -> None:
    """Into a sequence at a place."""
    base, length = g.machines[m, BASE], g.machines[m, LENGTH]
    for k in range(length, at, -1):
        g.seq[base + k, 0] = g.seq[base + k - 1, 0]
        g.ops[g.seq[base + k, 0], AT] = k
    g.seq[base + at, 0] = o
    g.ops[o, AT], g.ops[o, MACHINE], g.ops[o, WORK] = at, m, work
    g.machines[m, LENGTH] = length + 1


@kernel
def _reorder(g: Graph, a: int, b: int) -> bool:
    """Put ``a``, and what depends on it, behind ``b`` in the order; False when b depends on a."""
    low, high = g.ops[a, RANK], g.ops[b, RANK]
    if low > high:
        return True
    moved, kept = 0, low
    stamp = g.ops[:, STAMP]
    for k in range(low, high + 1):
        o = g.ops[k, ORDER]
        is_behind = o == a
        if not is_behind:
            p = _before(g, o)
            is_behind = p >= 0 and stamp[p] == 1
            for i in range(g.ops[o, PRED], g.ops[o, PRED_END]):
                is_behind = is_behind or stamp[g.pairs[i, 0]] == 1
        if is_behind:
            stamp[o] = 1
            g.ops[moved, MOVED] = o
            moved += 1
        else:
            g.ops[kept, ORDER] = o
            g.ops[o, RANK] = kept
            kept += 1
    is_possible = stamp[b] == 0
    for k in range(moved):
        o = g.ops[k, MOVED]
        stamp[o] = 0
        g.ops[kept + k, ORDER] = o
        g.ops[o, RANK] = kept + k
    return bool(is_possible)


@inlined
def _soil(g: Graph, o: int) -> int:
    """Note that an operation's time must be worked out anew; 1 when it was not noted yet."""
    if o < 0 or g.ops[o, DIRTY] == 1:
        return 0
    g.ops[o, DIRTY] = 1
    return 1


@kernel
def _forward(g: Graph, rank: int, open_: int) -> None:
    """Heads of what is noted and of all that follows from it."""
    while open_ > 0:
        o = g.ops[rank, ORDER]
        rank += 1
        if g.ops[o, DIRTY] == 0:
            continue
        g.ops[o, DIRTY] = 0
        open_ -= 1
        head = _head(g, o)
        if head == g.ops[o, HEAD]:
            continue
        g.ops[o, HEAD] = head
        open_ += _soil(g, _behind(g, o))
        for k in range(g.ops[o, SUCC], g.ops[o, SUCC_END]):
            open_ += _soil(g, int(g.pairs[k, 0]))


@kernel
def _backward(g: Graph, rank: int, open_: int) -> None:
    """Tails of what is noted and of all that it follows from."""
    while open_ > 0:
        o = g.ops[rank, ORDER]
        rank -= 1
        if g.ops[o, DIRTY] == 0:
            continue
        g.ops[o, DIRTY] = 0
        open_ -= 1
        tail = _tail(g, o)
        if tail == g.ops[o, TAIL]:
            continue
        g.ops[o, TAIL] = tail
        open_ += _soil(g, _before(g, o))
        for k in range(g.ops[o, PRED], g.ops[o, PRED_END]):
            open_ += _soil(g, int(g.pairs[k, 0]))


@kernel
def _move(g: Graph, u: int, m: int, at: int, work: int) -> bool:
    """Make a move (``at`` counts without ``u``); False, and nothing changed, when it is a cycle."""
    old_m, old_at, old_work = g.ops[u, MACHINE], g.ops[u, AT], g.ops[u, WORK]
    old_p, old_s = _before(g, u), _behind(g, u)
    _take(g, u)
    _put(g, u, m, at, work)
    p, s = _before(g, u), _behind(g, u)
    is_possible = p < 0 or _reorder(g, u, p)
    is_possible = is_possible and (s < 0 or _reorder(g, s, u))
    if not is_possible:
        _take(g, u)
        _put(g, u, old_m, old_at, old_work)
        renew(g)
        return False
    first = g.ops[u, RANK]
    last = first
    open_ = _soil(g, u) + _soil(g, old_s) + _soil(g, s)
    for o in (old_s, s):
        if o >= 0:
            first = min(first, g.ops[o, RANK])
    for k in range(g.ops[u, SUCC], g.ops[u, SUCC_END]):
        open_ += _soil(g, int(g.pairs[k, 0]))
    _forward(g, first, open_)
    open_ = _soil(g, u) + _soil(g, old_p) + _soil(g, p)
    for o in (old_p, p):
        if o >= 0:
            last = max(last, g.ops[o, RANK])
    for k in range(g.ops[u, PRED], g.ops[u, PRED_END]):
        open_ += _soil(g, int(g.pairs[k, 0]))
    _backward(g, last, open_)
    return True


@kernel
def _longest(g: Graph) -> int:
    """One longest path into ``path``, first operation first; its length in operations."""
    span = g.tally[NOW]
    found, e = 0, -1
    i = 0
    while i < len(g.ops) and g.ops[i, END] >= 0:
        o = g.ops[i, END]
        i += 1
        if g.ops[o, HEAD] + g.ops[o, WORK] + g.ops[o, AFTER] == span:
            found += 1
            if draw(g.rng, found) == 0:
                e = o
    size, n = 0, len(g.ops)
    while e >= 0:
        size += 1
        g.ops[n - size, PATH] = e
        head, found, before = g.ops[e, HEAD], 0, -1
        p = _before(g, e)
        if p >= 0 and _free(g, int(g.ops[e, MACHINE]), p, e) == head:
            found, before = 1, p
        for k in range(g.ops[e, PRED], g.ops[e, PRED_END]):
            q = g.pairs[k, 0]
            if g.ops[q, HEAD] + g.ops[q, WORK] + g.pairs[k, 1] == head:
                found += 1
                if draw(g.rng, found) == 0:
                    before = q
        e = before
    for k in range(size):
        g.ops[k, PATH] = g.ops[n - size + k, PATH]
    return size


@inlined
def _slot(a: int, b: int) -> int:
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F)
    x ^= x >> np.uint64(29)
    return int((x * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(46))


@kernel
def _price_right(g: Graph, u: int, to: int) -> int:
    """Longest path through what shifts when ``u`` goes right behind the one at ``to``."""
    m, at = g.ops[u, MACHINE], g.ops[u, AT]
    base = g.machines[m, BASE]
    heads, p = g.ops[:, SIDE], _before(g, u)
    end = g.machines[m, FREE] if p < 0 else g.ops[p, HEAD] + g.ops[p, WORK]
    for k in range(at + 1, to + 1):
        o = g.seq[base + k, 0]
        heads[k] = max(_ready(g, o), end + _change(g, m, p, o))
        end = heads[k] + g.ops[o, WORK]
        p = o
    head = max(_ready(g, u), end + _change(g, m, p, u))
    s = g.seq[base + to + 1, 0] if to + 1 < g.machines[m, LENGTH] else -1
    tail = max(_rest(g, u), _onward(g, m, u, s))
    worst = head + g.ops[u, WORK] + tail
    follow, way = u, tail + g.ops[u, WORK]
    for k in range(to, at, -1):
        o = g.seq[base + k, 0]
        tail = max(_rest(g, o), way + _change(g, m, o, follow))
        way = tail + g.ops[o, WORK]
        worst = max(worst, heads[k] + way)
        follow = o
    return int(worst)


@kernel
def _price_left(g: Graph, u: int, to: int) -> int:
    """Longest path through what shifts when ``u`` goes right before the one at ``to``."""
    m, at = g.ops[u, MACHINE], g.ops[u, AT]
    base = g.machines[m, BASE]
    tails, s = g.ops[:, SIDE], _behind(g, u)
    way = 0 if s < 0 else g.ops[s, TAIL] + g.ops[s, WORK]
    for k in range(at - 1, to - 1, -1):
        o = g.seq[base + k, 0]
        tails[k] = max(_rest(g, o), way + (_change(g, m, o, s) if s >= 0 else 0))
        way = tails[k] + g.ops[o, WORK]
        s = o
    tail = max(_rest(g, u), way + _change(g, m, u, s))
    p = g.seq[base + to - 1, 0] if to > 0 else -1
    head = max(_ready(g, u), _free(g, m, p, u))
    worst = head + g.ops[u, WORK] + tail
    end, before = head + g.ops[u, WORK], u
    for k in range(to, at):
        o = g.seq[base + k, 0]
        head = max(_ready(g, o), end + _change(g, m, before, o))
        end = head + g.ops[o, WORK]
        worst = max(worst, end + tails[k])
        before = o
    return int(worst)


@inlined
def _may_right(g: Graph, u: int, v: int) -> bool:
    """Whether no way leads from what follows ``u`` to ``v``."""
    for k in range(g.ops[u, SUCC], g.ops[u, SUCC_END]):
        s = g.pairs[k, 0]
        if g.ops[v, HEAD] >= g.ops[s, HEAD] + g.ops[s, WORK]:
            return False
    return True


@inlined
def _may_left(g: Graph, u: int, v: int) -> bool:
    """Whether no way leads from ``v`` to what comes before ``u``."""
    for k in range(g.ops[u, PRED], g.ops[u, PRED_END]):
        p = g.pairs[k, 0]
        if g.ops[p, HEAD] >= g.ops[v, HEAD] + g.ops[v, WORK]:
            return False
    return True


@inlined
def _is_tabu(g: Graph, u: int, to: int) -> bool:
    """Whether a move within the sequence restores an arc that was turned round lately."""
    m, at, step = g.ops[u, MACHINE], g.ops[u, AT], g.tally[STEP]
    base = g.machines[m, BASE]
    if to > at:
        for k in range(at + 1, to + 1):
            if g.tabu[_slot(g.seq[base + k, 0], u)] > step:
                return True
    else:
        for k in range(to, at):
            if g.tabu[_slot(u, g.seq[base + k, 0])] > step:
                return True
    return False


@inlined
def _offer(g: Graph, best: Ints, price: int, is_tabu: bool, u: int, m: int, at: int) -> None:
    """Keep the cheapest move that may be made, and the cheapest of the tabu ones.

    ``best`` rows: 0 allowed, 1 tabu; columns price, operation, machine, place, ties.
    """
    g.tally[TRIED] += 1
    row = 1 if is_tabu and price >= g.tally[BEST] else 0
    if price > best[row, 0]:
        return
    if price < best[row, 0]:
        best[row, 4] = 0
    best[row, 4] += 1
    if draw(g.rng, int(best[row, 4])) == 0:
        best[row, 1], best[row, 2], best[row, 3] = u, m, at
    best[row, 0] = price


@kernel
def _shift(g: Graph, best: Ints, u: int, v: int) -> None:
    """Offer to move ``u`` right behind ``v`` (further on) or right before it (further ahead)."""
    m, to = g.ops[u, MACHINE], g.ops[v, AT]
    if to > g.ops[u, AT]:
        if _may_right(g, u, v):
            _offer(g, best, _price_right(g, u, to), _is_tabu(g, u, to), u, m, to)
    elif _may_left(g, u, v):
        _offer(g, best, _price_left(g, u, to), _is_tabu(g, u, to), u, m, to)


@kernel
def _block(g: Graph, best: Ints, first: int, last: int) -> None:
    """N7 moves of the block ``path[first..last]``: to its ends, and of its ends into it."""
    a, b = g.ops[first, PATH], g.ops[last, PATH]
    for k in range(first, last):
        _shift(g, best, g.ops[k, PATH], b)
    for k in range(first + 1, last + 1):
        if k != last or last - first > 1:
            _shift(g, best, g.ops[k, PATH], a)
    for k in range(first + 1, last):
        _shift(g, best, a, g.ops[k, PATH])
        _shift(g, best, b, g.ops[k, PATH])


@kernel
def _elsewhere(g: Graph, best: Ints, u: int) -> None:
    """Offer ``u`` to its other machines, where it disturbs least."""
    ready, rest = _ready(g, u), _rest(g, u)
    for k in range(g.ops[u, ALT], g.ops[u, ALT_END]):
        m, work = g.pairs[k, 0], g.pairs[k, 1]
        if m == g.ops[u, MACHINE]:
            continue
        base, length = g.machines[m, BASE], g.machines[m, LENGTH]
        is_tabu = g.tabu[_slot(u, len(g.ops) + m)] > g.tally[STEP]
        low, high = 0, length
        while low < high:  # the first that ends behind the arrival: before it nobody waits
            middle = (low + high) // 2
            o = g.seq[base + middle, 0]
            if g.ops[o, HEAD] + g.ops[o, WORK] > ready:
                high = middle
            else:
                low = middle + 1
        at = low
        while True:
            p = g.seq[base + at - 1, 0] if at > 0 else -1
            s = g.seq[base + at, 0] if at < length else -1
            if p >= 0 and at > low and not _may_right(g, u, p):
                break
            if s < 0 or _may_left(g, u, s):
                onward = 0 if s < 0 else _onward(g, m, u, s)
                price = max(ready, _free(g, m, p, u)) + work + max(rest, onward)
                _offer(g, best, price, is_tabu, u, m, at)
                if onward <= rest:
                    break
            if s < 0:
                break
            at += 1


@kernel
def _forbid(g: Graph, u: int, m: int, at: int, size: int) -> None:
    """What the move to come must not be undone by for a while."""
    old_m, old_at = g.ops[u, MACHINE], g.ops[u, AT]
    base = g.machines[old_m, BASE]
    shortest = 10 + len(g.ops) // len(g.machines) ** 2  # 10 + jobs over machines (Zhang et al.)
    until = g.tally[STEP] + shortest + draw(g.rng, max(1, shortest // 2))
    if m != old_m:
        choices = g.ops[u, ALT_END] - g.ops[u, ALT]
        g.tabu[_slot(u, len(g.ops) + old_m)] = g.tally[STEP] + 5 + min(size, 60) // 2 + choices
        return
    if at > old_at:
        for k in range(old_at + 1, at + 1):
            g.tabu[_slot(u, g.seq[base + k, 0])] = until
    else:
        for k in range(at, old_at):
            g.tabu[_slot(g.seq[base + k, 0], u)] = until


@inlined
def _work_on(g: Graph, u: int, m: int) -> int:
    for k in range(g.ops[u, ALT], g.ops[u, ALT_END]):
        if g.pairs[k, 0] == m:
            return int(g.pairs[k, 1])
    return -1


@kernel
def go_back(g: Graph) -> None:
    """To the best plan, with an empty memory."""
    for m in range(len(g.machines)):
        base = g.machines[m, BASE]
        g.machines[m, LENGTH] = g.machines[m, BEST_LENGTH]
        for k in range(g.machines[m, BEST_LENGTH]):
            o = g.seq[base + k, 1]
            g.seq[base + k, 0] = o
            g.ops[o, AT] = k
            if g.ops[o, MACHINE] != m:
                g.ops[o, MACHINE], g.ops[o, WORK] = m, _work_on(g, o, m)
    g.tabu[:] = 0
    g.tally[NOW] = renew(g)
    g.tally[SINCE] = 0
    g.tally[RESTARTS] += 1


@kernel
def _step(g: Graph, best: Ints, size: int) -> bool:
    """Make the best move on the longest path of ``size`` operations; False when there is none."""
    best[:, 0], best[:, 4] = FAR, 0
    first = 0
    for k in range(1, size + 1):
        if k < size and g.ops[g.ops[k, PATH], MACHINE] == g.ops[g.ops[first, PATH], MACHINE]:
            continue
        if k - first > 1:
            _block(g, best, first, k - 1)
        first = k
    for k in range(size):
        _elsewhere(g, best, int(g.ops[k, PATH]))
    row = 0 if best[0, 0] < FAR else 1
    if best[row, 0] >= FAR:
        return False
    u, m, at = best[row, 1], best[row, 2], best[row, 3]
    _forbid(g, u, m, at, size)
    return _move(g, u, m, at, _work_on(g, u, m))


@kernel
def tabu_search(g: Graph, steps: int) -> None:
    """So many steps; best sequences and makespan stay in the graph."""
    best = np.zeros((2, 5), np.int64)
    tally = g.tally
    for _ in range(steps):
        tally[STEP] += 1
        tally[SINCE] += 1
        size = _longest(g)
        is_stuck = not _step(g, best, size)
        tally[NOW] = _makespan(g)
        if tally[NOW] < tally[BEST]:
            tally[BEST] = tally[NOW]
            tally[SINCE] = 0
            g.seq[:, 1] = g.seq[:, 0]
            g.machines[:, BEST_LENGTH] = g.machines[:, LENGTH]
        elif is_stuck or tally[SINCE] > 1000 * _CALM:
            go_back(g)
            for _ in range(3 + draw(g.rng, 8)):
                _kick(g)
            tally[NOW] = _makespan(g)


@kernel
def _kick(g: Graph) -> None:
    """One random move of an operation on a longest path, whatever it costs."""
    g.tally[NOW] = _makespan(g)
    size = _longest(g)
    for _ in range(20):
        k = draw(g.rng, size)
        u = int(g.ops[k, PATH])
        s = _behind(g, u)
        if s >= 0 and _may_right(g, u, s):
            _move(g, u, int(g.ops[u, MACHINE]), int(g.ops[s, AT]), int(g.ops[u, WORK]))
            return
