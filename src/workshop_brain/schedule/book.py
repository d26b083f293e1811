"""Who has what over time: the step functions of rows, and the first time at which all is free."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import advance, first_window, fit, next_open
from workshop_brain.schedule.structure import FAR

Ints = NDArray[np.int64]
NEVER = FAR // 2


class Book(NamedTuple):
    """What is needed and what is taken over time; few columns, since each costs at every call.

    Attributes
    ----------
    at, level, size
        Row r is taken ``level[r, k]`` times over ``[at[r, k], at[r, k + 1])``, k < ``size[r]``.
    peak
        No row was ever taken more often than this.
    log, logged
        ``(row, from, to, quantity)`` that were taken since the log was begun, and how many; -1 =
        nothing is logged.
    """

    at: Ints
    level: Ints
    size: Ints
    peak: Ints
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
def busy_until(at: Ints, level: Ints, size: Ints, r: int, room: int, low: int, high: int) -> int:
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
def hold(u: Book, r: int, low: int, high: int, quantity: int) -> bool:
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
        u.peak[r] = max(u.peak[r], u.level[r, k])
    _melt(u.at, u.level, u.size, r, last)
    _melt(u.at, u.level, u.size, r, first)
    return True


@kernel
def give_back(u: Book) -> None:
    """Undo all that was taken since the log was begun."""
    k = u.logged[0] - 1
    u.logged[0] = -1
    while k >= 0:
        hold(u, u.log[k, 0], u.log[k, 1], u.log[k, 2], -u.log[k, 3])
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
def wait(u: Book, one: int, two: int, m: int, low: int, high: int) -> int:
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
            if u.peak[r] <= room:
                continue
            if u.is_open[r] == 0:
                later = max(later, busy_until(u.at, u.level, u.size, r, room, low, high))
                continue
            x, w = low, first_window(u.closed_ptr, u.closed_end, m, low)
            while x < high:
                y, on = high, high
                if w < u.closed_ptr[m + 1] and u.closed_start[w] < high:
                    y, on = u.closed_start[w], u.closed_end[w]
                    w += 1
                if y > x:
                    free = busy_until(u.at, u.level, u.size, r, room, x, y)
                    if free > x:
                        later = max(later, free)
                x = on
    return int(later)


@kernel
def take(u: Book, one: int, two: int, m: int, low: int, high: int) -> bool:
    """Take all that two holders need over [low, high) on m; False when the table is full."""
    for holder in (one, two):
        for k in range(u.need_ptr[holder], u.need_ptr[holder + 1]):
            r, quantity = u.need[k, 0], u.need[k, 1]
            if u.is_open[r] == 0:
                if not hold(u, r, low, high, quantity):
                    return False
                continue
            x, w = low, first_window(u.closed_ptr, u.closed_end, m, low)
            while x < high:
                y, on = high, high
                if w < u.closed_ptr[m + 1] and u.closed_start[w] < high:
                    y, on = u.closed_start[w], u.closed_end[w]
                    w += 1
                if y > x and not hold(u, r, x, y, quantity):
                    return False
                x = on
    return True


@kernel
def times(
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
        later = wait(u, change, change_on, m, setup_start, setup_end)
        if later <= setup_start:
            break
        if later >= NEVER:
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
        later = wait(u, run, run_on, m, start, end)
        if later <= start:
            return setup_start, setup_end, start, end
        if later >= NEVER:
            return FAR, FAR, FAR, FAR
        start = later
