"""The last value of every signal, by source time.

A time of the future, behind ``latest_ns``, never stands against one that can be right; among those
of the future the later in the log wins.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples

NEVER = -(2**63)
# Clocks that were never set begin in 1601, 1970, 1980 or (Siemens) 1990.
EARLIEST_NS = 946_684_800_000_000_000  # 2000-01-01


def believable(time_ns: NDArray[np.int64], latest_ns: int) -> NDArray[np.bool_]:
    """Which times can be right."""
    return (time_ns >= EARLIEST_NS) & (time_ns <= latest_ns)


def _rank(time_ns: NDArray[np.int64], latest_ns: int) -> NDArray[np.int64]:
    """What is compared instead of the times."""
    if not len(time_ns) or time_ns.max() <= latest_ns:
        return time_ns
    return np.where(time_ns > latest_ns, EARLIEST_NS - 1, time_ns)


@dataclass(slots=True)
class LastValues:
    """Columns by signal id; a signal that was never seen has ``NEVER``, NaN and BAD."""

    time_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    value: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    quality: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def extend(self, n: int) -> None:
        """Make room for ``n`` signals."""
        more = n - len(self.time_ns)
        if more > 0:
            self.time_ns = np.append(self.time_ns, np.full(more, NEVER, np.int64))
            self.value = np.append(self.value, np.full(more, np.nan))
            self.quality = np.append(self.quality, np.full(more, int(Quality.BAD), np.uint8))

    def fold(self, rows: Samples, latest_ns: int) -> None:
        """Take over rows in the order of the log; of equal times the later row wins."""
        if not len(rows):
            return
        time = _rank(rows.time_ns, latest_ns)
        if np.all(time[1:] >= time[:-1]):
            newest = np.full(len(self.time_ns), -1, np.int64)
            newest[rows.signal] = np.arange(len(rows))
        else:
            order = np.argsort(time, kind="stable")
            newest = np.full(len(self.time_ns), -1, np.int64)
            newest[rows.signal[order]] = order
        ids = np.flatnonzero(newest >= 0)
        at = newest[ids]
        later = time[at] >= _rank(self.time_ns[ids], latest_ns)
        self._put(ids[later], rows, at[later])

    def fold_sorted(self, rows: Samples, latest_ns: int) -> None:
        """Take over rows sorted by (signal, time) that come later in the log than what is known."""
        if not len(rows):
            return
        if rows.time_ns.max() > latest_ns:  # rows of the future stand last and do not count
            self.fold(rows, latest_ns)
            return
        at = np.append(np.flatnonzero(rows.signal[1:] != rows.signal[:-1]), len(rows) - 1)
        ids = rows.signal[at]
        later = _rank(rows.time_ns[at], latest_ns) >= _rank(self.time_ns[ids], latest_ns)
        self._put(ids[later], rows, at[later])

    def merge(self, other: "LastValues", latest_ns: int) -> None:
        """Take over what is at least as new in another one of the same length."""
        known = self.time_ns[: len(other.time_ns)]
        newer = _rank(other.time_ns, latest_ns) >= _rank(known, latest_ns)
        ids = np.flatnonzero(newer)
        self.time_ns[ids] = other.time_ns[ids]
        self.value[ids] = other.value[ids]
        self.quality[ids] = other.quality[ids]

    def _put(self, ids: NDArray[np.integer], rows: Samples, at: NDArray[np.integer]) -> None:
        self.time_ns[ids] = rows.time_ns[at]
        self.value[ids] = rows.value[at]
        self.quality[ids] = rows.quality[at]

    def median_ns(self, latest_ns: int) -> int | None:
        """Median of the times that can be right; None when there is none."""
        seen = self.time_ns[believable(self.time_ns, latest_ns)]
        return int(np.median(seen)) if len(seen) else None

    def pack(self) -> bytes:
        """Bytes for the catalog."""
        n = len(self.time_ns).to_bytes(4, "little")
        return n + self.time_ns.tobytes() + self.value.tobytes() + self.quality.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> "LastValues":
        """From the catalog's bytes; empty for none."""
        if not data:
            return cls()
        n = int.from_bytes(data[:4], "little")
        return cls(
            np.frombuffer(data, np.int64, n, 4).copy(),
            np.frombuffer(data, np.float64, n, 4 + 8 * n).copy(),
            np.frombuffer(data, np.uint8, n, 4 + 16 * n).copy(),
        )

    def copy(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]:
        """Copies of the columns."""
        return self.time_ns.copy(), self.value.copy(), self.quality.copy()
