"""The newest rows, in columns of a fixed length, in the order of the log."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples


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
    columns: Samples = field(init=False)

    def __post_init__(self) -> None:
        self.columns = empty(self.capacity)
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
