"""What stands before what on each machine, and the changeover that this means."""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel

Ints = NDArray[np.int64]
_RUN = 12
"""Length up to which insertion sorts faster than merging."""
_FIRST = 1 << 60
"""Taken off the key of what has started, so that it stands before all that has not."""


@kernel
def by_machine(
    order: Ints, status: Ints, machine: Ints, start: Ints, end: Ints, n_machines: int
) -> tuple[Ints, Ints]:
    """Machine sequences in CSR form: what is not FREE first, then by start, end and ``order``.

    ``order`` is a permutation of the operations; those on no machine are left out. Buckets by
    machine, then a bottom-up merge sort of each: stable, and cheap on what is nearly sorted.
    """
    ptr = np.zeros(n_machines + 1, np.int64)
    for o in range(len(machine)):
        if machine[o] >= 0:
            ptr[machine[o] + 1] += 1
    for m in range(n_machines):
        ptr[m + 1] += ptr[m]
    at = ptr[:-1].copy()
    ops = np.empty(ptr[-1], np.int64)
    key = np.empty(ptr[-1], np.int64)
    for o in order:
        if machine[o] >= 0:
            k = at[machine[o]]
            at[machine[o]] += 1
            ops[k] = o
            key[k] = start[o] if status[o] == 0 else start[o] - _FIRST
    spare_op, spare_key = np.empty_like(ops), np.empty_like(key)
    for m in range(n_machines):
        low, high = ptr[m], ptr[m + 1]
        _merge_sort(ops[low:high], key[low:high], end, spare_op, spare_key)
    return ptr, ops


@kernel
def _merge_sort(ops: Ints, key: Ints, end: Ints, spare_op: Ints, spare_key: Ints) -> None:
    """Sort by key, then end; what is equal in both keeps its order."""
    n = len(ops)
    for low in range(0, n, _RUN):
        for k in range(low + 1, min(low + _RUN, n)):
            o, value, j = ops[k], key[k], k
            while j > low and (
                key[j - 1] > value or (key[j - 1] == value and end[ops[j - 1]] > end[o])
            ):
                ops[j], key[j] = ops[j - 1], key[j - 1]
                j -= 1
            ops[j], key[j] = o, value
    width = _RUN
    while width < n:
        for low in range(0, n - width, 2 * width):
            mid = low + width
            high = min(mid + width, n)
            if key[mid - 1] < key[mid]:
                continue
            spare_op[low:mid] = ops[low:mid]
            spare_key[low:mid] = key[low:mid]
            left, right = low, mid
            for k in range(low, high):
                if left == mid:
                    break
                later = right < high and (
                    spare_key[left] > key[right]
                    or (spare_key[left] == key[right] and end[spare_op[left]] > end[ops[right]])
                )
                if later:
                    ops[k], key[k] = ops[right], key[right]
                    right += 1
                else:
                    ops[k], key[k] = spare_op[left], spare_key[left]
                    left += 1
        width *= 2


@kernel
def changeovers(
    ptr: Ints,
    ops: Ints,
    status: Ints,
    family: Ints,
    machine_family: Ints,
    table: Ints,
    setup: NDArray[np.int64],
) -> Ints:
    """Changeover ticks before each FREE operation, shape of ``status``; 0 for the others.

    ``table`` is the changeover table of each machine, shape (n_machines,).
    """
    out = np.zeros(len(status), np.int64)
    for m in range(len(ptr) - 1):
        before = machine_family[m]
        for k in range(ptr[m], ptr[m + 1]):
            o = ops[k]
            if before >= 0 and status[o] == 0:
                out[o] = setup[table[m], before, family[o]]
            before = family[o]
    return out
