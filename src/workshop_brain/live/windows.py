"""Windows over time as arrays: the last rows of a table of columns, without copying history."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Window:
    """A ring of the newest rows of ``width`` columns.

    Attributes
    ----------
    width, depth
        Columns (signals or units) and rows kept; both > 0. Memory: 8 * width * depth bytes.
    """

    width: int
    depth: int
    _rows: NDArray[np.float64] = field(init=False)
    _time_ns: NDArray[np.int64] = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        if self.width < 0 or self.depth <= 0:
            raise ValueError(f"Window: bad shape {self.depth} x {self.width}")
        self._rows = np.full((self.depth, self.width), np.nan)
        self._time_ns = np.zeros(self.depth, np.int64)

    def __len__(self) -> int:
        return min(self._count, self.depth)

    def push(self, time_ns: int, row: NDArray[np.float64]) -> None:
        """Add the newest row; ``row`` may be wider than the window, which then widens.

        Earlier rows of new columns are NaN. A row that is not newer replaces the newest.
        """
        if len(row) > self.width:
            wider = np.full((self.depth, len(row)), np.nan)
            wider[:, : self.width] = self._rows
            self._rows, self.width = wider, len(row)
        if self._count and time_ns <= self._time_ns[(self._count - 1) % self.depth]:
            self._count -= 1
        at = self._count % self.depth
        self._rows[at] = np.nan
        self._rows[at, : len(row)] = row
        self._time_ns[at] = time_ns
        self._count += 1

    def times(self) -> NDArray[np.int64]:
        """Instants of the kept rows, oldest first; shape (len,)."""
        return self._time_ns[self._order()]

    def values(self) -> NDArray[np.float64]:
        """Kept rows, oldest first; shape (len, width)."""
        return self._rows[self._order()]

    def at(self, time_ns: int) -> tuple[int, NDArray[np.float64]]:
        """Instant and row in force at ``time_ns``: the newest not after it, else the oldest.

        Raises LookupError while the window is empty.
        """
        if self._count == 0:
            raise LookupError("the window is empty")
        order = self._order()
        times = self._time_ns[order]
        k = max(int(np.searchsorted(times, time_ns, side="right")) - 1, 0)
        return int(times[k]), self._rows[order[k]]

    def _order(self) -> NDArray[np.intp]:
        n = len(self)
        return (np.arange(self._count - n, self._count) % self.depth).astype(np.intp)
