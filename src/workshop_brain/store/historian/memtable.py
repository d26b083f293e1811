"""The newest rows, in columns of a fixed length, in the order of the log."""

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples

ROW_BYTES = 21


@dataclass(slots=True)
class Memtable:
    """Rows and curves that are in the log and not yet in a segment.

    Columns are filled from the front and never changed behind ``rows``, so a view of them is a
    consistent snapshot without a lock.
    """

    capacity: int
    first_position: int
    last_position: int = 0
    rows: int = 0
    started_s: float = 0.0
    curves: list[Curve] = field(default_factory=list)
    curve_bytes: int = 0
    pool: "ColumnPool | None" = None
    columns: Samples = field(init=False)

    def __post_init__(self) -> None:
        pool = self.pool
        self.columns = empty(self.capacity) if pool is None else pool.empty(self.capacity)
        self.last_position = self.first_position - 1

    @property
    def is_empty(self) -> bool:
        """No row and no curve."""
        return self.rows == 0 and not self.curves

    def room(self, rows: int) -> bool:
        """Whether that many rows still fit."""
        return self.rows + rows <= self.capacity

    def add_curve(self, curve: Curve, position: int) -> None:
        """Make a curve visible."""
        self.curves.append(curve)
        self.curve_bytes += curve_size(curve)
        self.last_position = position

    def stage(self, samples: Samples) -> Samples:
        """Copy a batch behind the visible rows and return the copy."""
        at, n = self.rows, len(samples)
        copy = slice_of(self.columns, at, at + n)
        copy.signal[:] = samples.signal
        copy.time_ns[:] = samples.time_ns
        copy.value[:] = samples.value
        copy.quality[:] = samples.quality
        return copy

    def show(self, rows: int, position: int) -> None:
        """Make staged rows visible."""
        self.rows += rows
        self.last_position = position

    def view(self) -> Samples:
        """The visible rows."""
        return slice_of(self.columns, 0, self.rows)


class ColumnPool:
    """Memory for columns that is used again once nobody looks at it any more.

    Touching fresh memory costs more than filling it: up to 38 of the 165 ns that a row took.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: deque[memoryview] = deque()  # no lock: a finalizer may run anywhere

    def empty(self, rows: int) -> Samples:
        """Uninitialised columns; their memory comes back with the last view of any of them."""
        memory = self._take(rows * ROW_BYTES)
        whole = np.frombuffer(memory, np.uint8)  # the base of every view that is made from it
        weakref.finalize(whole, self._give_back, memory).atexit = False
        time_ns, value = whole[: 8 * rows], whole[8 * rows : 16 * rows]  # the widest first: aligned
        signal, quality = whole[16 * rows : 20 * rows], whole[20 * rows : 21 * rows]
        return Samples(
            signal.view(np.uint32), time_ns.view(np.int64), value.view(np.float64), quality
        )

    def _take(self, size: int) -> memoryview:
        while self._free:
            memory = self._free.pop()
            if len(memory) >= size:
                return memory
        return np.empty(size, np.uint8).data

    def _give_back(self, memory: memoryview) -> None:
        if len(self._free) < self._keep:
            self._free.append(memory)


def curve_size(curve: Curve) -> int:
    """Bytes of a curve's values in memory."""
    return sum(values.nbytes for values in curve.channels.values())


def empty(rows: int) -> Samples:
    """Uninitialised columns."""
    return Samples(
        np.empty(rows, np.uint32),
        np.empty(rows, np.int64),
        np.empty(rows, np.float64),
        np.empty(rows, np.uint8),
    )


def slice_of(samples: Samples, start: int, stop: int) -> Samples:
    """Views of a range of rows."""
    return Samples(
        samples.signal[start:stop],
        samples.time_ns[start:stop],
        samples.value[start:stop],
        samples.quality[start:stop],
    )


def take(samples: Samples, rows: NDArray[Any]) -> Samples:
    """Copies of chosen rows (indices or mask)."""
    return Samples(
        samples.signal[rows], samples.time_ns[rows], samples.value[rows], samples.quality[rows]
    )


def concat(parts: list[Samples]) -> Samples:
    """Columns of several batches behind each other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty(0)
    return Samples(
        np.concatenate([p.signal for p in parts]),
        np.concatenate([p.time_ns for p in parts]),
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.quality for p in parts]),
    )
