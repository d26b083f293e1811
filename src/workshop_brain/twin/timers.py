"""An indexed binary heap of timers: every timer has one place, earlier first, then lower number."""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.twin.world import NEVER, World


@kernel
def _before(due: NDArray[np.int64], a: int, b: int) -> bool:
    return bool(due[a] < due[b] or (due[a] == due[b] and a < b))


@kernel
def _place(w: World, slot: int, timer: int) -> None:
    w.heap[slot] = timer
    w.position[timer] = slot


@kernel
def _rise(w: World, slot: int) -> None:
    timer = w.heap[slot]
    while slot > 0:
        parent = (slot - 1) >> 1
        other = w.heap[parent]
        if not _before(w.due, timer, other):
            break
        _place(w, slot, other)
        slot = parent
    _place(w, slot, timer)


@kernel
def _sink(w: World, slot: int) -> None:
    timer, size = w.heap[slot], w.heap_n
    while True:
        child = 2 * slot + 1
        if child >= size:
            break
        if child + 1 < size and _before(w.due, w.heap[child + 1], w.heap[child]):
            child += 1
        if not _before(w.due, w.heap[child], timer):
            break
        _place(w, slot, w.heap[child])
        slot = child
    _place(w, slot, timer)


@kernel
def set_timer(w: World, timer: int, at: int) -> None:
    """Let a timer fire at ``at``; replaces an earlier setting."""
    slot = w.position[timer]
    earlier = at < w.due[timer]
    w.due[timer] = at
    if slot < 0:
        slot = w.heap_n
        w.heap_n += 1
        _place(w, slot, timer)
        _rise(w, slot)
    elif earlier:
        _rise(w, slot)
    else:
        _sink(w, slot)


@kernel
def clear_timer(w: World, timer: int) -> None:
    """Take a timer out; nothing happens when it is not set."""
    slot = w.position[timer]
    if slot < 0:
        return
    w.position[timer] = -1
    w.due[timer] = NEVER
    w.heap_n -= 1
    last = w.heap[w.heap_n]
    if last != timer:
        _place(w, slot, last)
        _rise(w, slot)
        _sink(w, w.position[last])
