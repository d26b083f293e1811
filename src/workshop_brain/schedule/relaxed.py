"""A lower bound from one group of machines at a time, with work that may be interrupted.

The machines of a group are taken for one that is as many times faster, and work on it may be
interrupted at any time: whatever the real machines can do, this one can. Heads and tails, the least
time before and behind an operation, stand for all the rest of the plant.
"""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def last_end(heads: Ints, works: Ints, tails: Ints, machines: int = 1) -> int:
    """No plan is over before, in ticks: longest tail first, interrupted (Jackson; Carlier 1982).

    Parameters
    ----------
    heads, works, tails
        Earliest start, work and least time behind it of each operation, ticks, shape (n,).
    machines
        Machines that share the work, > 0.

    >>> last_end(np.array([0, 1]), np.array([4, 2]), np.array([1, 5]))
    8
    """
    order = np.argsort(heads, kind="stable").tolist()
    # in ticks over ``machines``, so that all stays whole
    ready, left, behind = (heads * machines).tolist(), works.tolist(), (tails * machines).tolist()
    waiting: list[tuple[int, int]] = []
    now, at, worst = 0, 0, 0
    while at < len(order) or waiting:
        if not waiting:
            now = max(now, ready[order[at]])
        while at < len(order) and ready[order[at]] <= now:
            heappush(waiting, (-behind[order[at]], order[at]))
            at += 1
        tail, o = waiting[0]
        until = ready[order[at]] if at < len(order) else now + left[o]
        if now + left[o] <= until:
            heappop(waiting)
            now += left[o]
            worst = max(worst, now - tail)
        else:
            left[o] -= until - now
            now = until
    return -(-worst // machines)
