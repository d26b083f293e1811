"""The line as flat arrays for one question: does it fit into ``m`` stations of this cycle?

Tasks that must share a station are one item. Sets of items are rows of 64-bit words.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.balance.bound import station_weights
from workshop_brain.schedule.balance.line import (
    Line,
    capacities,
    closure,
    groups,
    sizes,
)

Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]
Bools = NDArray[np.bool_]


class Form(NamedTuple):
    """Columns that the kernels read; n items, m stations, k rooms, b bounds, w words.

    Attributes
    ----------
    size, room
        (k, n) and (k): what an item takes of a station's rooms.
    weight, weight_room
        (b, n) and (b): further sums that no station can exceed; row 0 is size row 0.
    pred, apart, dominators
        (n, w): direct predecessors; who must stand apart; who may replace the item.
    allowed, must
        (m, w): who may stand at a station; who must be placed by its end.
    last
        (n): last station of each item.
    urgent
        (n): items by their last station.
    order
        (n): items, predecessors first, the one to try first at the front.
    value
        (n, 3): share of the cycle, share of item and followers, number of followers.
    plain
        (n): 1 where nothing but one room binds the item, so that full loads are enough.
    """

    size: Ints
    room: Ints
    weight: Ints
    weight_room: Ints
    pred: Bits
    apart: Bits
    dominators: Bits
    allowed: Bits
    must: Bits
    last: Ints
    urgent: Ints
    order: Ints
    value: NDArray[np.float64]
    plain: Ints
    by_station: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The line with shared-station tasks contracted: what does not depend on cycle or stations.

    Attributes
    ----------
    group_of
        Item of each task.
    after
        (n, n) closure of precedence.
    direct
        (n, n) direct precedence.
    """

    line: Line
    group_of: Ints
    size: Ints
    after: Bools
    direct: Bools
    apart: Bools
    is_bound: Bools

    @property
    def n(self) -> int:
        """How many items."""
        return int(self.size.shape[1])


def contract(line: Line) -> Items:
    """Items of a line."""
    group_of = np.array(groups(line), np.int64)
    n = int(group_of.max()) + 1
    size = np.array([np.bincount(group_of, weights=row, minlength=n) for row in sizes(line)])
    pairs = {(int(group_of[a]), int(group_of[b])) for a, b in line.precedence}
    pairs = {(a, b) for a, b in pairs if a != b}
    direct, apart = np.zeros((n, n), bool), np.zeros((n, n), bool)
    for a, b in pairs:
        direct[a, b] = True
    for a, b in line.apart:
        apart[group_of[a], group_of[b]] = apart[group_of[b], group_of[a]] = True
    is_bound = np.zeros(n, bool)
    for named in (line.fixed, line.forbidden, line.needs):
        is_bound[group_of[list(named)]] = True
    return Items(
        line=line,
        group_of=group_of,
        size=np.rint(size).astype(np.int64),
        after=closure(n, pairs),
        direct=direct,
        apart=apart,
        is_bound=is_bound,
    )


def pack(rows: Bools) -> Bits:
    """Rows of booleans as rows of 64-bit words, entry i in word i // 64."""
    words = max(1, -(-rows.shape[1] // 64))
    padded = np.zeros((rows.shape[0], words * 64), bool)
    padded[:, : rows.shape[1]] = rows
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def allowed_at(items: Items, stations: int) -> Bools:
    """Who may stand where, each item seen alone: shape (stations, n)."""
    table = np.ones((stations, items.n), bool)
    for task in {*items.line.fixed, *items.line.forbidden, *items.line.needs}:
        at = [items.line.may_stand(task, s) for s in range(1, stations + 1)]
        table[:, items.group_of[task]] &= np.array(at, bool)
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """First and last station (from 0) of each item; empty where first > last."""

    first: Ints
    last: Ints

    @property
    def is_open(self) -> bool:
        """Whether every item has a station left."""
        return bool((self.first <= self.last).all())


def windows(items: Items, weight: Ints, room: Ints, allowed: Bools) -> Windows:
    """Stations that remain for each item: what must come before and after takes its room.

    Of the items before i, those that cannot start ahead of station a share stations a to i's own
    with it; the other end alike.
    """
    m = len(allowed)
    first = _earliest(items.after, weight, room, allowed)
    last = m - 1 - _earliest(items.after.T, weight, room, allowed[::-1])
    return Windows(first=first, last=last)


def _earliest(after: Bools, weight: Ints, room: Ints, allowed: Bools) -> Ints:
    """First possible station of each item; the number of stations when there is none."""
    m = len(allowed)
    first = np.zeros(weight.shape[1], np.int64)
    for i in np.argsort(after.sum(axis=0), kind="stable").tolist():
        preds = np.flatnonzero(after[:, i])
        preds = preds[np.argsort(-first[preds], kind="stable")]
        work = weight[:, i, None] + np.cumsum(weight[:, preds], axis=1)
        start = first[preds]
        low = int(start[0]) if len(preds) else 0
        if len(preds):
            low = max(low, int((start + -(-work // room[:, None]) - 1).max()))
        open_ = np.flatnonzero(allowed[low:, i]) if low < m else np.empty(0, np.int64)
        first[i] = low + int(open_[0]) if len(open_) else m
    return first


def make_form(items: Items, cycle: int, stations: int, *, reverse: bool = False) -> Form | None:
    """The arrays of one question; None when the bounds already say no.

    ``reverse`` asks it from the line's end: station 0 is then the last one.
    """
    room = np.array(capacities(items.line, cycle), np.int64)
    if (items.size > room[:, None]).any():
        return None
    weight, weight_room = station_weights(items.size, room)
    if (weight.sum(axis=1) > weight_room * stations).any():
        return None
    allowed = allowed_at(items, stations)
    found = windows(items, weight, weight_room, allowed)
    if not found.is_open:
        return None
    at = np.arange(stations)[:, None]
    allowed = allowed & (at >= found.first) & (at <= found.last)
    after, direct = items.after, items.direct
    last = stations - 1 - found.first if reverse else found.last
    must = at >= last
    if reverse:
        allowed = allowed[::-1]
        after, direct = after.T, direct.T
    plain = ~items.is_bound & ~items.apart.any(axis=0)
    if len(room) > 1:
        plain = np.zeros(items.n, bool)
    behind = items.size[0] @ after.T + items.size[0]
    followers = after.sum(axis=1)
    return Form(
        size=items.size,
        room=room,
        weight=weight,
        weight_room=weight_room,
        pred=pack(direct.T),
        apart=pack(items.apart),
        dominators=pack(_dominators(items, after)),
        allowed=pack(allowed),
        must=pack(must),
        last=last,
        urgent=np.argsort(last, kind="stable"),
        order=_order(direct, behind, items.size[0]),
        value=np.column_stack([items.size[0] / room[0], behind / room[0], followers]),
        plain=plain.astype(np.int64),
        by_station=bool(items.is_bound.any()),
    )


def _dominators(items: Items, after: Bools) -> Bools:
    """[j, i]: i may take j's place in a load and j i's, without harm (Jackson 1956)."""
    free = ~items.is_bound & ~items.apart.any(axis=0)
    n = items.n
    size = items.size
    bigger = (size[:, None, :] >= size[:, :, None]).all(axis=0)
    equal = (size[:, None, :] == size[:, :, None]).all(axis=0)
    followers = after.astype(np.float32)
    more = followers @ (1 - followers).T == 0
    same = more & more.T & equal
    first = np.arange(n)[None, :] < np.arange(n)[:, None]
    rows: Bools = bigger & more & ~(after | after.T) & (~same | first)
    rows &= free[:, None] & free[None, :]
    np.fill_diagonal(rows, False)
    return rows


def _order(direct: Bools, behind: Ints, size: Ints) -> Ints:
    """Predecessors first; among the ready, the longest item, then the longest tail."""
    left = direct.sum(axis=0)
    ready = np.flatnonzero(left == 0).tolist()
    out = []
    while ready:
        i = max(ready, key=lambda k: (size[k], behind[k], -k))
        ready.remove(i)
        out.append(i)
        for j in np.flatnonzero(direct[i]).tolist():
            left[j] -= 1
            if left[j] == 0:
                ready.append(j)
    return np.array(out, np.int64)
