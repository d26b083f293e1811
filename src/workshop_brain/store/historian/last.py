"""The last value of every signal, by source time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples

NEVER = -(2**63)


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

    def fold(self, rows: Samples) -> None:
        """Take over rows in the order of the log; of equal times the later row wins."""
        if not len(rows):
            return
        time = rows.time_ns
        if np.all(time[1:] >= time[:-1]):
            newest = np.full(len(self.time_ns), -1, np.int64)
            newest[rows.signal] = np.arange(len(rows))
        else:
            order = np.argsort(time, kind="stable")
            newest = np.full(len(self.time_ns), -1, np.int64)
            newest[rows.signal[order]] = order
        ids = np.flatnonzero(newest >= 0)
        at = newest[ids]
        later = time[at] >= self.time_ns[ids]
        self._put(ids[later], rows, at[later])

    def fold_sorted(self, rows: Samples) -> None:
        """Take over rows sorted by (signal, time) that come later in the log than what is known."""
        if not len(rows):
            return
        at = np.append(np.flatnonzero(rows.signal[1:] != rows.signal[:-1]), len(rows) - 1)
        ids = rows.signal[at]
        later = rows.time_ns[at] >= self.time_ns[ids]
        self._put(ids[later], rows, at[later])

    def merge(self, other: "LastValues") -> None:
        """Take over what is at least as new in another one of the same length."""
        newer = other.time_ns >= self.time_ns[: len(other.time_ns)]
        ids = np.flatnonzero(newer)
        self.time_ns[ids] = other.time_ns[ids]
        self.value[ids] = other.value[ids]
        self.quality[ids] = other.quality[ids]

    def _put(self, ids: NDArray[np.integer], rows: Samples, at: NDArray[np.integer]) -> None:
        self.time_ns[ids] = rows.time_ns[at]
        self.value[ids] = rows.value[at]
        self.quality[ids] = rows.quality[at]

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
