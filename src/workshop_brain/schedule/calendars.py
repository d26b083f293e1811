"""Working over closed time: kernels on the closed intervals of each machine.

Closed intervals are half open ``[start, end)``, sorted and merged per machine, in CSR form.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel

Ints = NDArray[np.int64]


def merge(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted union of half-open intervals; empty ones vanish.

    >>> merge([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)])
    [(0, 3), (5, 9)]
    """
    out: list[tuple[int, int]] = []
    for start, end in sorted(w for w in windows if w[1] > w[0]):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def opened(
    closed: Sequence[tuple[int, int]], windows: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Closed intervals without the half-open ``windows``.

    >>> opened([(0, 10), (20, 30)], [(5, 25)])
    [(0, 5), (25, 30)]
    """
    out = merge(closed)
    for low, high in windows:
        cut = ((row, (row[0], min(row[1], low)), (max(row[0], high), row[1])) for row in out)
        out = [piece for row, *pieces in cut for piece in pieces if piece[1] > piece[0]]
    return out


@kernel
def first_window(ptr: Ints, end: Ints, m: int, t: int) -> int:
    """First window of machine m that ends after t."""
    low, high = int(ptr[m]), int(ptr[m + 1])
    while low < high:
        mid = (low + high) // 2
        if end[mid] > t:
            high = mid
        else:
            low = mid + 1
    return low


@kernel
def next_open(ptr: Ints, start: Ints, end: Ints, m: int, t: int) -> int:
    """First open instant at or after t."""
    k = first_window(ptr, end, m, t)
    if k < ptr[m + 1] and start[k] <= t:
        return int(end[k])
    return t


@kernel
def advance(ptr: Ints, start: Ints, end: Ints, m: int, t: int, work: int) -> int:
    """Instant at which ``work`` ticks begun at t are done, pausing over closed time."""
    if work <= 0:
        return t
    k = first_window(ptr, end, m, t)
    while k < ptr[m + 1]:
        if start[k] > t:
            gap = int(start[k]) - t
            if work <= gap:
                return t + work
            work -= gap
        t = int(end[k])
        k += 1
    return t + work


@kernel
def fit(ptr: Ints, start: Ints, end: Ints, m: int, t: int, work: int) -> int:
    """Earliest start at or after t from which ``work`` ticks run without a pause."""
    k = first_window(ptr, end, m, t)
    while k < ptr[m + 1]:
        if start[k] >= t + work and start[k] > t:
            return t
        t = max(t, int(end[k]))
        k += 1
    return t


@kernel
def op_times(
    ptr: Ints,
    start: Ints,
    end: Ints,
    resumable: Ints,
    m: int,
    free: int,
    setup: int,
    ready: int,
    work: int,
) -> tuple[int, int, int]:
    """Setup start, start and end of work on machine m that is free at ``free``.

    The setup begins as soon as the machine is free and open, before the material if need be.
    Setups always pause over closed time; work pauses only where the machine is resumable.
    """
    if ptr[m] == ptr[m + 1]:
        begin = max(free + setup, ready)
        return free, begin, begin + work
    setup_start = next_open(ptr, start, end, m, free) if setup > 0 else free
    begin = max(advance(ptr, start, end, m, free, setup), ready)
    if resumable[m]:
        begin = next_open(ptr, start, end, m, begin)
        return setup_start, begin, advance(ptr, start, end, m, begin, work)
    begin = fit(ptr, start, end, m, begin, work)
    return setup_start, begin, begin + work
