"""Which rollups were made, and later changed by rows that came late.

A late row stands in a minute of its signal that lies inside a merged file, so that its rollup had
been written. From its sealing on, reads of that minute give other numbers than before: a mark in
the catalog says so, and reads show it when they are asked to.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workshop_brain.model.signal import Samples
from workshop_brain.store.historian.catalog import Catalog
from workshop_brain.store.historian.partition import ODD
from workshop_brain.store.historian.segment import Runs
from workshop_brain.units import NS_PER_MIN

RESTATED = "restated"  # the key of the marks in the catalog
_MOST_MARKS = 50_000  # the oldest are forgotten
_COLUMNS = [
    ("at_ns", "<i8"), ("signal", "<u4"), ("from_ns", "<i8"), ("to_ns", "<i8"), ("rows", "<u4"),
]  # fmt: skip
_CODEC = pa.Codec("zstd", compression_level=3)


@dataclass(frozen=True, slots=True)
class Marks:
    """Minutes ``from_ns <= t < to_ns`` of a signal that ``rows`` late rows changed at ``at_ns``.

    Attributes
    ----------
    at_ns : int64, the brain's clock; signal : uint32; from_ns, to_ns : int64; rows : uint32
    """

    at_ns: NDArray[np.int64]
    signal: NDArray[np.uint32]
    from_ns: NDArray[np.int64]
    to_ns: NDArray[np.int64]
    rows: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.at_ns)

    def pack(self) -> bytes:
        """Bytes for the catalog."""
        columns = [getattr(self, name).astype(kind).tobytes() for name, kind in _COLUMNS]
        body = _CODEC.compress(b"".join(columns), asbytes=True)
        return len(self).to_bytes(4, "little") + bytes(body)

    @classmethod
    def unpack(cls, data: bytes) -> "Marks":
        """From the catalog's bytes; empty for none."""
        n, at, columns = int.from_bytes(data[:4], "little"), 0, []
        size = n * sum(np.dtype(kind).itemsize for _, kind in _COLUMNS)
        raw = _CODEC.decompress(data[4:], size, asbytes=True) if n else b""
        for _, kind in _COLUMNS:
            columns.append(np.frombuffer(raw, kind, n, at))
            at += n * np.dtype(kind).itemsize
        return cls(*columns)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "Marks":
        """A selection."""
        return Marks(*(getattr(self, name)[rows] for name, _ in _COLUMNS))

    def of(self, signals: NDArray[np.uint32], from_ns: int, to_ns: int) -> "Marks":
        """Marks of some signals that touch ``from_ns <= t < to_ns``."""
        touches = (self.from_ns < to_ns) & (self.to_ns > from_ns)
        return self.take(touches & np.isin(self.signal, signals))


def restate(catalog: Catalog, rows: Samples, now_ns: int) -> bytes | None:
    """The catalog's marks with those of new rows, sorted by (signal, time); None: no row is late.

    Call it before the rows are visible.
    """
    late = _late(catalog, rows)
    if not len(late.signal):
        return None
    minute = late.time_ns // NS_PER_MIN
    new = (late.signal[1:] != late.signal[:-1]) | (minute[1:] > minute[:-1] + 1)
    starts = np.append(0, np.flatnonzero(new) + 1)
    ends = np.append(starts[1:], len(minute))
    made = Marks(
        np.full(len(starts), now_ns, np.int64),
        late.signal[starts],
        minute[starts] * NS_PER_MIN,
        (minute[ends - 1] + 1) * NS_PER_MIN,
        (ends - starts).astype(np.uint32),
    )
    known = Marks.unpack(catalog.blob(RESTATED))
    both = Marks(
        *(np.append(getattr(known, name), getattr(made, name)).astype(k) for name, k in _COLUMNS)
    )
    return both.take(slice(-_MOST_MARKS, None)).pack()


def _late(catalog: Catalog, rows: Samples) -> Samples:
    """Rows inside the time that a merged file holds of their signals."""
    late = np.zeros(len(rows), bool)
    if not len(rows):
        return rows
    starts = np.flatnonzero(np.diff(rows.signal, prepend=rows.signal[0] + np.uint32(1)))
    ends = np.append(starts[1:], len(rows))
    first, last = int(rows.time_ns.min()), int(rows.time_ns.max())
    for segment in catalog.segments(first, last + 1):
        if segment.level == 0 or segment.date in ODD:
            continue
        if (packed := catalog.runs(segment.id)) is None:
            continue  # dropped since
        low, high = _spans(Runs.unpack(packed), int(rows.signal[-1]) + 1)
        of = rows.signal[starts]
        touches = (rows.time_ns[starts] <= high[of]) & (rows.time_ns[ends - 1] >= low[of])
        for start, end in zip(starts[touches], ends[touches], strict=True):
            time, signal = rows.time_ns[start:end], rows.signal[start]
            late[start:end] |= (time >= low[signal]) & (time <= high[signal])
    return Samples(rows.signal[late], rows.time_ns[late], rows.value[late], rows.quality[late])


def _spans(runs: Runs, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last time of each signal below ``n`` in a file; crossed when it has none."""
    low, high = np.full(n, 2**63 - 1, np.int64), np.full(n, -(2**63), np.int64)
    known = runs.signal < n
    np.minimum.at(low, runs.signal[known], runs.first[known])
    np.maximum.at(high, runs.signal[known], runs.last[known])
    return low, high


def newest_mark(marks: Marks, time_ns: NDArray[np.int64], width_ns: int) -> NDArray[np.int64]:
    """When each bucket of one signal was restated last; 0: never. Buckets sorted by time."""
    out = np.zeros(len(time_ns), np.int64)
    for at, from_ns, to_ns in zip(marks.at_ns, marks.from_ns, marks.to_ns, strict=True):
        low = np.searchsorted(time_ns, from_ns - width_ns, side="right")
        high = np.searchsorted(time_ns, to_ns)
        out[low:high] = np.maximum(out[low:high], at)
    return out


def window_marks(
    marks: Marks,
    group: NDArray[np.int64],
    key: NDArray[np.int64],
    time_ns: NDArray[np.int64],
    width_ns: int,
) -> NDArray[np.int64]:
    """When each window of a device was restated last; 0: never.

    group : int64, by signal id: which device it belongs to
    key, time_ns : int64, device and begin of each window, sorted by both
    """
    out = np.zeros(len(key), np.int64)
    devices = group[marks.signal]
    for device in np.unique(devices).tolist():
        low, high = np.searchsorted(key, (device, device + 1))
        mine = marks.take(devices == device)
        out[low:high] = newest_mark(mine, time_ns[low:high], width_ns)
    return out
