"""Branch, bound and remember over station loads, in kernels (Sewell and Jacobson 2012).

A state is the set of items placed in the first stations. A state grows by one full station load;
the same set reached again with no fewer stations is dropped (remembered in a hash table). Levels
(numbers of stations) take turns, each giving its most promising state. Sums that no station can
exceed, station windows and Jackson's exchange cut branches off. Exact when every load was tried.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import inlined, kernel
from workshop_brain.schedule.balance.form import Form

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

FOUND, IMPOSSIBLE, OPEN, FULL = 1, 2, 3, 4
"""What a search says: a balance, none exists, not known yet, the pool of states must grow."""

_NONE, _LOAD, _TIRED = 0, 1, 2
_PATIENCE = 30
"""Turns back for each load that may be spent."""
# counters of a search
COUNT, LEVEL, STATE, STATION, LEAVES, CUT, GOAL, KEPT = 0, 1, 2, 3, 4, 5, 6, 7


class Loads(NamedTuple):
    """Room to walk through the loads of one state.

    Attributes
    ----------
    cand
        Items that may come into the station, predecessors first.
    rest, least
        Weighted size of all candidates, and of the smallest, from each position on.
    stack
        Positions that are in the load.
    bar
        By depth: the smallest item left out that still had room; a full load leaves less.
    have, load
        Items placed before, items of the load.
    room
        What is left of the station.
    cursor
        Depth, position, whether it is new, number of candidates.
    """

    cand: Ints
    rest: Ints
    least: Ints
    stack: Ints
    bar: Ints
    have: Bits
    load: Bits
    room: Ints
    cursor: Ints


class Pool(NamedTuple):
    """States, the heaps of the levels (skew heaps), and the hash table of sets."""

    bits: Bits
    parent: NDArray[np.int32]
    level: NDArray[np.int32]
    key: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    dead: NDArray[np.uint8]
    table: NDArray[np.int32]


def empty_loads(n: int, words: int, rooms: int) -> Loads:
    """A walk for forms of n items."""
    return Loads(
        cand=np.zeros(n, np.int64),
        rest=np.zeros(n + 1, np.int64),
        least=np.zeros(n + 1, np.int64),
        stack=np.zeros(n + 1, np.int64),
        bar=np.zeros(n + 2, np.int64),
        have=np.zeros(words, np.uint64),
        load=np.zeros(words, np.uint64),
        room=np.zeros(rooms, np.int64),
        cursor=np.zeros(4, np.int64),
    )


def empty_pool(capacity: int, words: int) -> Pool:
    """A pool for that many states; memory is touched only as far as states are made."""
    return Pool(
        bits=np.empty((capacity, words), np.uint64),
        parent=np.empty(capacity, np.int32),
        level=np.empty(capacity, np.int32),
        key=np.empty(capacity, np.float64),
        left=np.empty(capacity, np.int32),
        right=np.empty(capacity, np.int32),
        dead=np.zeros(capacity, np.uint8),
        table=np.full(2 * capacity, -1, np.int32),
    )


@inlined
def _has(bits: Bits, i: int) -> bool:
    return bool((bits[i >> 6] >> np.uint64(i & 63)) & np.uint64(1))


@inlined
def _flip(bits: Bits, i: int) -> None:
    bits[i >> 6] ^= np.uint64(1) << np.uint64(i & 63)


@inlined
def _misses(need: Bits, a: Bits, b: Bits) -> bool:
    """Whether ``need`` is not within the union of a and b."""
    rest = np.uint64(0)
    for w in range(len(need)):
        rest |= need[w] & ~(a[w] | b[w])
    return bool(rest != 0)


@inlined
def _meets(a: Bits, b: Bits) -> bool:
    both = np.uint64(0)
    for w in range(len(a)):
        both |= a[w] & b[w]
    return bool(both != 0)


@inlined
def _fits(f: Form, x: Loads, i: int) -> bool:
    for k in range(len(x.room)):
        if f.size[k, i] > x.room[k]:
            return False
    return not (_misses(f.pred[i], x.have, x.load) or _meets(f.apart[i], x.load))


@kernel
def open_station(f: Form, x: Loads, station: int) -> None:
    """Set the walk to the first load of ``station`` after the items in ``x.have``."""
    n, count = len(f.order), 0
    reach = x.load
    reach[:] = np.uint64(0)
    for p in range(n):
        i = f.order[p]
        if _has(x.have, i) or not _has(f.allowed[station], i):
            continue
        if not _misses(f.pred[i], x.have, reach):
            x.cand[count] = i
            count += 1
            _flip(reach, i)
    x.rest[count], x.least[count] = 0, np.int64(1) << np.int64(62)
    for p in range(count - 1, -1, -1):
        work = f.size[0, x.cand[p]]
        x.rest[p], x.least[p] = x.rest[p + 1] + work, min(x.least[p + 1], work)
    x.load[:] = np.uint64(0)
    x.room[:] = f.room
    x.bar[0] = np.int64(1) << np.int64(62)
    x.cursor[0], x.cursor[1], x.cursor[2], x.cursor[3] = 0, 0, 1, count


@kernel
def next_load(f: Form, x: Loads, station: int, slack: int, patience: int) -> int:
    """Walk to the next full load that leaves at most ``slack``: _LOAD, _NONE, or _TIRED.

    It tires after ``patience`` turns back, and goes on there the next time.
    """
    count = x.cursor[3]
    depth, p = x.cursor[0], x.cursor[1]
    go_back = x.cursor[2] == 0
    x.cursor[2] = 0
    must = f.must[station]
    while True:
        if go_back:
            if patience <= 0:
                x.cursor[0], x.cursor[1] = depth, p
                return _TIRED
            patience -= 1
            while True:
                if depth == 0:
                    x.cursor[0] = 0
                    return _NONE
                depth -= 1
                p = x.stack[depth]
                i = x.cand[p]
                _flip(x.load, i)
                for k in range(len(x.room)):
                    x.room[k] += f.size[k, i]
                p += 1
                if _has(must, i):
                    continue
                if f.plain[i]:
                    x.bar[depth] = min(x.bar[depth], f.size[0, i])
                break
        go_back = True
        good = True
        while p < count:
            if x.room[0] - x.rest[p] > min(slack, x.bar[depth] - 1):
                good = False
                break
            if x.room[0] < x.least[p]:
                break
            i = x.cand[p]
            if _fits(f, x, i):
                x.stack[depth] = p
                depth += 1
                x.bar[depth] = x.bar[depth - 1]
                _flip(x.load, i)
                for k in range(len(x.room)):
                    x.room[k] -= f.size[k, i]
            elif _has(must, i):
                good = False
                break
            p += 1
        if not good or x.room[0] > min(slack, x.bar[depth] - 1):
            continue
        if _misses(must, x.have, x.load) or not _is_full(f, x, count) or _is_dominated(f, x):
            continue
        x.cursor[0], x.cursor[1] = depth, p
        return _LOAD


@kernel
def _is_full(f: Form, x: Loads, count: int) -> bool:
    for p in range(count):
        i = x.cand[p]
        if not f.plain[i] and not _has(x.load, i) and _fits(f, x, i):
            return False
    return True


@kernel
def _is_dominated(f: Form, x: Loads) -> bool:
    """Whether an item of the load can be exchanged for a longer one with more behind it."""
    for d in range(x.cursor[3]):
        j = x.cand[d]
        if not _has(x.load, j):
            continue
        for w in range(len(x.load)):
            left = f.dominators[j, w] & ~(x.have[w] | x.load[w])
            while left:
                low = left & (~left + np.uint64(1))
                left ^= low
                i = w * 64 + _place(low)
                if not _has_candidate_room(f, x, i, j):
                    continue
                _flip(x.load, j)
                blocked = _misses(f.pred[i], x.have, x.load)
                _flip(x.load, j)
                if not blocked:
                    return True
    return False


@inlined
def _has_candidate_room(f: Form, x: Loads, i: int, j: int) -> bool:
    short = 0
    for k in range(len(x.room)):
        short = max(short, f.size[k, i] - f.size[k, j] - x.room[k])
    return short == 0


@kernel
def _place(low: np.uint64) -> int:
    """Position of the only bit that is set."""
    p = 0
    step = 32
    while step > 0:
        if low >> np.uint64(step):
            low >>= np.uint64(step)
            p += step
        step >>= 1
    return p


@kernel
def hoffman(
    f: Form, x: Loads, stations: int, mix: NDArray[np.float64], limit: int, at: Ints
) -> int:
    """Stations that a line needs when each takes the best of its first ``limit`` loads.

    ``mix`` weighs the columns of ``f.value``, its last entry charges for each item
    (Hoffman 1963, Fleszar and Hindi 2003). ``at`` gets the station of each item; 0: no balance.
    """
    n = len(f.order)
    worth = np.empty(n)
    for i in range(n):
        worth[i] = mix[0] * f.value[i, 0] + mix[1] * f.value[i, 1] + mix[2] * f.value[i, 2] - mix[3]
    best = np.zeros_like(x.load)
    x.have[:] = np.uint64(0)
    placed = 0
    for station in range(stations):
        open_station(f, x, station)
        top, seen, tired = -np.inf, 0, 0
        while seen < limit:
            answer = next_load(f, x, station, f.room[0], _PATIENCE)
            if answer == _TIRED and tired < (20 if seen else 2000):
                tired += 1
                continue
            if answer != _LOAD:
                break
            seen += 1
            total = 0.0
            for d in range(x.cursor[0]):
                total += worth[x.cand[x.stack[d]]]
            if total > top:
                top = total
                best[:] = x.load
        if seen == 0:
            return 0
        for i in range(n):
            if _has(best, i):
                at[i] = station
                placed += 1
        x.have[:] = x.have | best
        if placed == n:
            return station + 1
    return 0


@kernel
def _slot(table: NDArray[np.int32], pool: Pool, bits: Bits, level: int, by_station: bool) -> int:
    """Where a set stands in the table, or the free place where it would."""
    h = np.uint64(1469598103934665603)
    for w in range(len(bits)):
        h ^= bits[w]
        h *= np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
    if by_station:
        h += np.uint64(level) * np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(32)
    mask = len(table) - 1
    k = np.int64(h & np.uint64(mask))
    while table[k] >= 0:
        s = table[k]
        same = not by_station or pool.level[s] == level
        for w in range(len(bits)):
            same = same and pool.bits[s, w] == bits[w]
        if same:
            break
        k = (k + 1) & mask
    return int(k)


@kernel
def rehash(pool: Pool, count: int, by_station: bool) -> None:
    """Fill the table of a pool that has grown."""
    pool.table[:] = -1
    for s in range(count):
        if not pool.dead[s]:
            k = _slot(pool.table, pool, pool.bits[s], pool.level[s], by_station)
            pool.table[k] = s


@kernel
def _merge(pool: Pool, a: int, b: int) -> int:
    """One skew heap of two."""
    if a < 0:
        return b
    if b < 0:
        return a
    if pool.key[b] < pool.key[a]:
        a, b = b, a
    root = a
    while True:
        rest = pool.right[a]
        pool.right[a] = pool.left[a]
        if rest < 0:
            pool.left[a] = b
            return root
        if pool.key[b] < pool.key[rest]:
            rest, b = b, rest
        pool.left[a] = rest
        a = rest


@kernel
def start(pool: Pool, roots: Ints, n: Ints) -> None:
    """Begin with nothing placed."""
    roots[:] = -1
    pool.bits[0, :] = np.uint64(0)
    pool.parent[0], pool.level[0], pool.key[0] = -1, 0, 0.0
    pool.left[0], pool.right[0], pool.dead[0] = -1, -1, 0
    roots[0] = 0
    n[:] = 0
    n[COUNT], n[STATE], n[GOAL] = 1, -1, -1


@kernel
def _leftover(f: Form, have: Bits, resid: Ints) -> int:
    """Sums over the items that are not placed yet; their number."""
    resid[:] = 0
    left = 0
    for i in range(len(f.order)):
        if not _has(have, i):
            left += 1
            for b in range(len(resid)):
                resid[b] += f.weight[b, i]
    return left


@kernel
def explore(
    f: Form,
    pool: Pool,
    roots: Ints,
    x: Loads,
    resid: Ints,
    n: Ints,
    wide: int,
    budget: int,
    favour: float,
) -> int:
    """Go on searching for a balance in ``len(roots) - 1`` stations, for ``budget`` loads.

    At most ``wide`` loads of a state are tried; when that cuts a state short, ``n[CUT]`` counts
    it, and IMPOSSIBLE is not said any more (OPEN with an empty heap instead, ``n[STATE]`` -2).
    """
    m = len(roots) - 1
    spent = 0
    due = np.empty_like(resid)
    while spent < budget:
        if n[STATE] < 0:
            taken = -1
            for step in range(m):
                level = (n[LEVEL] + step) % m
                while roots[level] >= 0 and taken < 0:
                    s = roots[level]
                    roots[level] = _merge(pool, pool.left[s], pool.right[s])
                    if not pool.dead[s]:
                        taken = s
                if taken >= 0:
                    n[LEVEL] = (level + 1) % m
                    break
            if taken < 0:
                n[STATE] = -2
                return IMPOSSIBLE if n[CUT] == 0 else OPEN
            n[STATE], n[STATION], n[KEPT] = taken, pool.level[taken], 0
            x.have[:] = pool.bits[taken]
            _leftover(f, x.have, resid)
            open_station(f, x, n[STATION])
        if n[COUNT] >= len(pool.parent):
            return FULL
        station = n[STATION]
        slack = (m - station) * f.room[0] - resid[0]
        answer = next_load(f, x, station, slack, _PATIENCE)
        spent += 1
        if answer == _TIRED:
            continue
        if answer == _NONE:
            n[STATE] = -1
            continue
        n[LEAVES] += 1
        n[KEPT] += 1
        _add_child(f, pool, roots, x, resid, due, n, favour)
        if n[GOAL] >= 0:
            return FOUND
        if n[KEPT] >= wide:
            n[CUT] += 1
            n[STATE] = -1
    return OPEN


@kernel
def _is_late(f: Form, placed: Bits, station: int, due: Ints) -> bool:
    """Whether what must be done by some later station does not fit from ``station`` to there."""
    due[:] = 0
    for i in f.urgent:
        if _has(placed, i):
            continue
        left = f.last[i] + 1 - station
        for b in range(len(due)):
            due[b] += f.weight[b, i]
            if due[b] > left * f.weight_room[b]:
                return True
    return False


@kernel
def _add_child(
    f: Form,
    pool: Pool,
    roots: Ints,
    x: Loads,
    resid: Ints,
    due: Ints,
    n: Ints,
    favour: float,
) -> None:
    """Keep the state behind the present load unless a bound or the memory says no."""
    m = len(roots) - 1
    station = n[STATION]
    left = m - station - 1
    for b in range(len(resid)):
        rest = resid[b] - left * f.weight_room[b]
        for d in range(x.cursor[0]):
            if rest <= 0:
                break
            rest -= f.weight[b, x.cand[x.stack[d]]]
        if rest > 0:
            return
    s = n[COUNT]
    bits = pool.bits[s]
    placed = 0
    for w in range(len(bits)):
        bits[w] = x.have[w] | x.load[w]
    for i in range(len(f.order)):
        if _has(bits, i):
            placed += 1
    done = placed == len(f.order)
    if left == 0 and not done:
        return
    k = _slot(pool.table, pool, bits, station + 1, f.by_station)
    old = pool.table[k]
    if old >= 0 and pool.level[old] <= station + 1:
        return
    if not done and _is_late(f, bits, station + 1, due):
        return
    if old >= 0:
        pool.dead[old] = 1
    pool.table[k] = s
    pool.parent[s], pool.level[s] = n[STATE], station + 1
    pool.left[s], pool.right[s], pool.dead[s] = -1, -1, 0
    work = resid[0]
    for d in range(x.cursor[0]):
        work -= f.size[0, x.cand[x.stack[d]]]
    idle = ((left * f.room[0]) - work) / f.room[0]
    pool.key[s] = -idle / (station + 1) - favour * (len(f.order) - placed)
    n[COUNT] += 1
    if done:
        n[GOAL] = s
        return
    roots[station + 1] = _merge(pool, roots[station + 1], s)
