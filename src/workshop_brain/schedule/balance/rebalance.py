"""Rebalance a running line so that few tasks change their station."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.balance.draws import State, chance, pick, state
from workshop_brain.schedule.balance.form import Items, allowed_at, contract
from workshop_brain.schedule.balance.line import MOST_STATIONS, Line, capacities
from workshop_brain.schedule.balance.solve import Balance, Effort, longest_station, solve

Ints = NDArray[np.int64]
_STEPS = 60_000
_GRID = 13
"""Cycles between the best and the old one for which moves are counted."""
_MORE = 6
"""Stations above the fewest for which moves are counted, up to the old number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """A new balance beside the old one.

    Attributes
    ----------
    balance
        Its ``lower_bound`` holds for a balance that may move everything.
    moved
        Tasks that change their station.
    front
        (value, moved tasks) of the other balances that were found, best value first: what
        fewer moves would cost.
    """

    balance: Balance
    moved: tuple[str, ...]
    front: tuple[tuple[int, int], ...]


def rebalance(
    line: Line,
    before: Mapping[str, int],
    *,
    cycle: int | None = None,
    stations: int | None = None,
    most_moves: int | None = None,
    move_cost: float = 0.0,
    seconds: float = 5.0,
    walks: int | None = None,
    seed: int = 1,
) -> Rebalance:
    """A balance for a cycle or for stations that keeps what stands well.

    Parameters
    ----------
    before
        Old station of tasks, from 1; new tasks are not in it and move free of charge.
    most_moves
        How many may move; None: any number.
    move_cost
        What one moved task must bring: stations, or ticks of the cycle. With 0 the best value
        comes first and moves only break ties.
    walks
        Searches for few moves at each value, instead of as many as the time allows.

    Raises
    ------
    InfeasibleError
        No balance exists, or none was found within ``most_moves``.
    """
    effort = Effort(seconds=seconds)
    _check_before(line, before)
    best = solve(line, cycle=cycle, stations=stations, seconds=0.5 * seconds)
    items = contract(line)
    old = np.array([before.get(task, 0) for task in line.tasks], np.int64) - 1
    questions = _questions(items, best, old, stations)
    found: list[tuple[int, int, Ints]] = []
    share = 0.5 * seconds / max(1, len(questions))
    for k, (value, length, room_cycle) in enumerate(questions):
        until = Effort(seconds=max(0.02, share), begin=effort.begin + 0.5 * seconds + k * share)
        start = best.station - 1
        at = _fewest_moves(items, room_cycle, length, old, start, until, walks, seed)
        if best.objective == "cycle":
            value = longest_station(items, _of_items(items, at))
        found.append((value, _count(old, at), at))
    allowed = [f for f in found if most_moves is None or f[1] <= most_moves]
    if not allowed:
        fewest = min(f[1] for f in found)
        raise InfeasibleError(
            f"{line.name}: no balance with at most {most_moves} moved tasks was found; "
            f"{fewest} are enough, or take a longer cycle or more stations"
        )
    chosen = min(allowed, key=lambda f: (f[0] + move_cost * f[1], f[1]))
    return Rebalance(
        balance=_as_balance(best, chosen, effort),
        moved=tuple(line.tasks[t] for t in np.flatnonzero((old >= 0) & (old != chosen[2]))),
        front=_front(found),
    )


def _check_before(line: Line, before: Mapping[str, int]) -> None:
    known = set(line.tasks)
    for task, station in before.items():
        if task not in known:
            raise OrderError(
                f"{line.name}: the old balance names task {task!r}, which the line has not; "
                "take it out of the old balance"
            )
        if not 1 <= station <= MOST_STATIONS:
            raise OrderError(
                f"{line.name}: the old station of task {task!r} must be 1 to {MOST_STATIONS}, "
                f"got {station}"
            )


def _as_balance(best: Balance, chosen: tuple[int, int, Ints], effort: Effort) -> Balance:
    value, _, at = chosen
    return replace(
        best,
        station=at + 1,
        stations=int(at.max()) + 1,
        cycle=value if best.objective == "cycle" else best.cycle,
        seconds=effort.used,
        history=((effort.used, value),),
    )


def _questions(
    items: Items, best: Balance, old: Ints, stations: int | None
) -> list[tuple[int, int, int]]:
    """(value, stations, cycle) to ask the fewest moves for, from the best value to the old one."""
    was = int(old.max()) + 1
    if best.objective == "stations":
        last = min(max(best.stations, was), best.stations + _MORE)
        return [(m, m, best.cycle) for m in range(best.stations, last + 1)]
    known = old >= 0
    worst = longest_station(items, _of_items(items, np.where(known, old, 0)))
    steps = np.linspace(0.0, 1.0, _GRID) ** 2
    grid = (best.cycle + max(0, worst - best.cycle) * steps).round().astype(np.int64)
    return [(int(c), stations or best.stations, int(c)) for c in np.unique(grid)]


def _front(found: list[tuple[int, int, Ints]]) -> tuple[tuple[int, int], ...]:
    front: list[tuple[int, int]] = []
    for value, moves, _ in sorted(found, key=lambda f: f[:2]):
        if not front or moves < front[-1][1]:
            front.append((value, moves))
    return tuple(front)


def _count(old: Ints, at: Ints) -> int:
    return int(((old >= 0) & (old != at)).sum())


def _of_items(items: Items, at: Ints) -> Ints:
    """Stations of items from those of tasks; the last task of an item decides."""
    out = np.zeros(items.n, np.int64)
    out[items.group_of] = at
    return out


def _fewest_moves(
    items: Items,
    cycle: int,
    stations: int,
    old: Ints,
    start: Ints,
    until: Effort,
    walks: int | None,
    seed: int,
) -> Ints:
    """Stations of tasks, from 0, within cycle and stations and near the old ones.

    Walks from the balance ``start``, which keeps all rules, and from the old one where that
    keeps precedence and restrictions; the better end is returned.
    """
    room = np.array(capacities(items.line, cycle), np.int64)
    allowed = allowed_at(items, stations)
    charge = np.zeros((items.n, stations), np.int64)
    for task, station in enumerate(old.tolist()):
        if station >= 0:
            charge[items.group_of[task]] += 1
            if station < stations:
                charge[items.group_of[task], station] -= 1
    ptr, near, side = _neighbours(items)
    best = _of_items(items, start)
    least = int(charge[np.arange(items.n), best].sum())
    first = np.where(old >= 0, np.minimum(old, stations - 1), start)
    starts = [best, _of_items(items, first)]
    starts = [at for at in starts if _is_sound(items, allowed, at)]
    turn, draw = 0, state(seed)
    enough = 2 * len(starts) if walks is None else walks
    while least > 0 and (turn < enough or (walks is None and not until.is_over)):
        at = starts[turn % len(starts)].copy()
        moves = walk(
            items.size, room, allowed, items.apart, charge, ptr, near, side, at, _STEPS,
            0.3 + 0.5 * (turn % 3), draw,
        )  # fmt: skip
        if 0 <= moves < least:
            best, least = at, moves
            starts[0] = at.copy()
        turn += 1
    return best[items.group_of]


def _is_sound(items: Items, allowed: NDArray[np.bool_], at: Ints) -> bool:
    before, after = np.nonzero(items.direct)
    one, other = np.nonzero(items.apart)
    return bool(
        (at[before] <= at[after]).all()
        and (at[one] != at[other]).all()
        and allowed[at, np.arange(items.n)].all()
    )


def _neighbours(items: Items) -> tuple[Ints, Ints, Ints]:
    """Direct predecessors (side -1) and successors (side 1) of each item, CSR."""
    rows = [
        [(int(p), -1) for p in np.flatnonzero(items.direct[:, i])]
        + [(int(s), 1) for s in np.flatnonzero(items.direct[i])]
        for i in range(items.n)
    ]
    ptr = np.cumsum([0, *(len(r) for r in rows)])
    flat = np.array([x for r in rows for x in r], np.int64).reshape(-1, 2)
    return ptr.astype(np.int64), flat[:, 0].copy(), flat[:, 1].copy()


@kernel
def walk(
    size: Ints,
    room: Ints,
    allowed: NDArray[np.bool_],
    apart: NDArray[np.bool_],
    charge: Ints,
    ptr: Ints,
    near: Ints,
    side: Ints,
    at: Ints,
    steps: int,
    heat: float,
    draw: State,
) -> int:
    """Anneal ``at`` towards few moves within the rooms; moves of the best end, -1 when none fits.

    Items shift alone or change places. Precedence, apart and allowed always hold; what exceeds a
    room costs more than a move, the more so the cooler it gets.
    """
    n, m, dims = len(at), allowed.shape[0], len(room)
    load = np.zeros((m, dims), np.int64)
    moves = 0
    for i in range(n):
        moves += charge[i, at[i]]
        for k in range(dims):
            load[at[i], k] += size[k, i]
    over = 0.0
    for s in range(m):
        over += _excess(load, room, s)
    best, least = at.copy(), -1
    if over == 0.0:
        least = moves
    for step in range(steps):
        cool = 1.0 - step / steps
        price = 4.0 + 40.0 * (1.0 - cool)
        i = pick(draw, n)
        a = at[i]
        low, high = 0, m - 1
        for q in range(ptr[i], ptr[i + 1]):
            if side[q] < 0:
                low = max(low, at[near[q]])
            else:
                high = min(high, at[near[q]])
        if high <= low:
            continue
        b = low + pick(draw, high - low + 1)
        if b == a or not allowed[b, i]:
            continue
        j = -1
        if chance(draw) < 0.5:
            j = pick(draw, n)
            if at[j] != b or j == i:
                j = -1
        if j >= 0 and not _may_swap(allowed, ptr, near, side, at, i, j, a, b):
            continue
        if not _stands_free(apart, at, i, b, j) or (
            j >= 0 and not _stands_free(apart, at, j, a, i)
        ):
            continue
        was = _excess(load, room, a) + _excess(load, room, b)
        _shift(load, size, i, a, b)
        change = charge[i, b] - charge[i, a]
        if j >= 0:
            _shift(load, size, j, b, a)
            change += charge[j, a] - charge[j, b]
        delta = _excess(load, room, a) + _excess(load, room, b) - was
        cost = change + price * delta
        if cost <= 0 or chance(draw) < np.exp(-cost / (heat * cool + 1e-3)):
            at[i] = b
            if j >= 0:
                at[j] = a
            moves += change
            over += delta
            if over < 1e-9 and (least < 0 or moves < least):
                least = moves
                best[:] = at
        else:
            _shift(load, size, i, b, a)
            if j >= 0:
                _shift(load, size, j, a, b)
    at[:] = best
    return least


@kernel
def _excess(load: Ints, room: Ints, s: int) -> float:
    total = 0.0
    for k in range(len(room)):
        if load[s, k] > room[k]:
            total += 0.05 + (load[s, k] - room[k]) / room[k]
    return total


@kernel
def _shift(load: Ints, size: Ints, i: int, a: int, b: int) -> None:
    for k in range(size.shape[0]):
        load[a, k] -= size[k, i]
        load[b, k] += size[k, i]


@kernel
def _stands_free(apart: NDArray[np.bool_], at: Ints, i: int, station: int, leaves: int) -> bool:
    met = 0
    for q in range(len(at)):
        if apart[i, q] and at[q] == station and q != leaves:
            met += 1
    return met == 0


@kernel
def _may_swap(
    allowed: NDArray[np.bool_],
    ptr: Ints,
    near: Ints,
    side: Ints,
    at: Ints,
    i: int,
    j: int,
    a: int,
    b: int,
) -> bool:
    """Whether j may come to a while i goes to b: rules and the order of all neighbours."""
    if not allowed[a, j]:
        return False
    for q in range(ptr[j], ptr[j + 1]):
        other = at[near[q]] if near[q] != i else b
        if (side[q] < 0 and other > a) or (side[q] > 0 and other < a):
            return False
    for q in range(ptr[i], ptr[i + 1]):
        other = at[near[q]] if near[q] != j else a
        if (side[q] < 0 and other > b) or (side[q] > 0 and other < b):
            return False
    return True
