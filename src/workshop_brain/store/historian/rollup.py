"""Rollups: min, max, sum, count, first and last per bucket, where one stands for at least 32 rows.

BAD and NaN samples do not count. Rollups are derived data: integers with the decimals of the run
index, or (scale -1) the bytes of the floats.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workshop_brain.errors import DamageError
from workshop_brain.model.signal import Quality, Samples
from workshop_brain.store.historian.segment import (
    GROUP_ROWS,
    POW10,
    Runs,
    Written,
    force,
    join,
)
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

BUCKETS = (NS_PER_S, NS_PER_MIN, NS_PER_H)
SAVING = 32
_VALUES = ("min", "max", "sum", "first", "last")
SCHEMA = pa.schema(
    [("signal", pa.uint32()), ("bucket", pa.int64())]
    + [(name, pa.int64()) for name in _VALUES]
    + [("count", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Aggregates sorted by (key, time); ``key`` is a signal id or a position in a request.

    Attributes
    ----------
    key : int64; time_ns : int64, start of the bucket
    low, high, total, first, last : float64; count : int64, rows that count
    """

    key: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    total: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)


def bucket_rows(
    key: NDArray[np.int64], samples: Samples, *, origin_ns: int, width_ns: int
) -> Buckets:
    """Aggregate rows sorted by (key, time) into buckets of one width."""
    counts = ((samples.quality & Quality.BAD) == 0) & ~np.isnan(samples.value)
    if not counts.all():
        key = key[counts]
        samples = Samples(
            samples.signal[counts],
            samples.time_ns[counts],
            samples.value[counts],
            samples.quality[counts],
        )
    bucket = (samples.time_ns - origin_ns) // width_ns
    starts = _starts(key, bucket)
    value = samples.value
    if not len(starts):
        none, nothing = np.zeros(0), np.zeros(0, np.int64)
        return Buckets(nothing, nothing, none, none, none, none, none, nothing)
    rows = np.diff(starts, append=len(key))
    return Buckets(
        key[starts],
        origin_ns + bucket[starts] * width_ns,
        np.minimum.reduceat(value, starts),
        np.maximum.reduceat(value, starts),
        np.add.reduceat(value, starts),
        value[starts],
        value[starts + rows - 1],
        rows.astype(np.int64),
    )


def merge_buckets(parts: list[Buckets], *, origin_ns: int, width_ns: int) -> Buckets:
    """Merge aggregates into buckets of one width; parts of one key must not overlap in time."""
    names = Buckets.__slots__
    whole = Buckets(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))
    order = np.lexsort((whole.time_ns, whole.key))
    whole = Buckets(*(getattr(whole, n)[order] for n in names))
    bucket = (whole.time_ns - origin_ns) // width_ns
    starts = _starts(whole.key, bucket)
    if not len(starts):
        return whole
    ends = np.append(starts[1:], len(whole)) - 1
    return Buckets(
        whole.key[starts],
        origin_ns + bucket[starts] * width_ns,
        np.minimum.reduceat(whole.low, starts),
        np.maximum.reduceat(whole.high, starts),
        np.add.reduceat(whole.total, starts),
        whole.first[starts],
        whole.last[ends],
        np.add.reduceat(whole.count, starts),
    )


def _starts(key: NDArray[np.int64], bucket: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(key):
        return np.zeros(0, np.int64)
    change = np.flatnonzero((key[1:] != key[:-1]) | (bucket[1:] != bucket[:-1])) + 1
    return np.concatenate([np.zeros(1, np.int64), change])


class RollupWriter:
    """Collects the rollup of one raw file while it is written; small enough to stay in memory."""

    def __init__(self, width_ns: int) -> None:
        self._width_ns = width_ns
        self._parts: list[Buckets] = []

    def add(self, samples: Samples) -> None:
        """Aggregate whole signals' rows, sorted by (signal, time)."""
        key = samples.signal.astype(np.int64)
        made = bucket_rows(key, samples, origin_ns=0, width_ns=self._width_ns)
        if not len(made):
            return
        starts = np.flatnonzero(np.diff(made.key, prepend=-1))
        buckets = np.diff(starts, append=len(made))
        keep = np.repeat(np.add.reduceat(made.count, starts) >= SAVING * buckets, buckets)
        if keep.any():
            self._parts.append(Buckets(*(getattr(made, n)[keep] for n in Buckets.__slots__)))

    def write(self, path: Path) -> Written | None:
        """Write what was collected as one durable file; None when nothing saves enough."""
        if not self._parts:
            return None
        names = Buckets.__slots__
        whole = Buckets(*(np.concatenate([getattr(p, n) for p in self._parts]) for n in names))
        path.parent.mkdir(parents=True, exist_ok=True)
        deltas = dict.fromkeys(SCHEMA.names, "DELTA_BINARY_PACKED")
        writer = pq.ParquetWriter(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=deltas,
            data_page_size=64 << 20,
            max_rows_per_page=GROUP_ROWS,
            write_page_checksum=True,
        )
        runs = []
        try:
            for group, start in enumerate(range(0, len(whole), GROUP_ROWS)):
                rows = slice(start, start + GROUP_ROWS)
                part = Buckets(*(getattr(whole, n)[rows] for n in names))
                table, found = _encode(part, group, self._width_ns)
                writer.write_table(table, row_group_size=len(part))
                runs.append(found)
            writer.close()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Written(path, len(whole), force(path), join(runs))


def _encode(part: Buckets, group: int, width_ns: int) -> tuple[pa.Table, Runs]:
    from workshop_brain.store.historian import sort

    n = len(part)
    signal = part.key.astype(np.uint32)
    starts = sort.run_starts(signal, n)
    rows = np.diff(starts, append=n)
    good = np.zeros(n, np.uint8)
    columns = {
        "min": part.low, "max": part.high, "sum": part.total, "first": part.first,
        "last": part.last,
    }  # fmt: skip
    decimals, integers, is_raw = np.empty(n, np.int8), np.empty(n, np.int64), np.empty(n, np.bool_)
    scales = [
        sort.scale_values(
            starts, v, v.view(np.int64), good, sort.POW10, decimals, integers, is_raw
        )[0]
        for v in columns.values()
    ]
    scale = np.where(np.min(scales, axis=0) < 0, -1, np.max(scales, axis=0)).astype(np.int8)
    per_row = np.repeat(scale, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        arrays = [_pack(v, per_row) for v in columns.values()]
    # the common scale may be too fine for a large sum: keep those runs as floats
    exact = np.ones(n, bool)
    for v, packed in zip(columns.values(), arrays, strict=True):
        exact &= (_unpack(packed, per_row).view(np.int64) == v.view(np.int64)) & (
            (per_row < 0) | (np.abs(packed) < 2**51)
        )
    scale[~np.logical_and.reduceat(exact, starts)] = -1
    per_row = np.repeat(scale, rows)
    arrays = [_pack(v, per_row) for v in columns.values()]
    table = pa.Table.from_arrays(
        [pa.array(signal), pa.array(part.time_ns // width_ns)]
        + [pa.array(a) for a in arrays]
        + [pa.array(part.count)],
        schema=SCHEMA,
    )
    ends = starts + rows - 1
    runs = Runs(
        signal[starts],
        np.full(len(starts), group, np.uint32),
        starts.astype(np.uint32),
        rows.astype(np.uint32),
        part.time_ns[starts],
        part.time_ns[ends],
        np.ones(len(starts), np.int32),
        scale,
        np.zeros(len(starts), np.uint8),
    )
    return table, runs


def _pack(value: NDArray[np.float64], scale: NDArray[np.int8]) -> NDArray[np.int64]:
    out = value.view(np.int64).copy()
    is_int = scale >= 0
    with np.errstate(over="ignore", invalid="ignore"):
        out[is_int] = np.rint(value[is_int] * POW10[scale[is_int]]).astype(np.int64)
    return out


def _unpack(packed: NDArray[np.int64], scale: NDArray[np.int8]) -> NDArray[np.float64]:
    out = packed.view(np.float64).copy()
    is_int = scale >= 0
    out[is_int] = packed[is_int] / POW10[scale[is_int]]
    return out


def read_buckets(file: pq.ParquetFile, path: Path, runs: Runs, width_ns: int) -> list[Buckets]:
    """Aggregates of the chosen runs, one piece per row group; ``key`` is the signal id."""
    out = []
    for group in np.unique(runs.group):
        part = runs.take(runs.group == group)
        try:
            table = file.read_row_group(int(group), use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's; wrong checksums have no number
            raise DamageError(
                f"{path}: a checksum does not match the stored bytes ({error}); remove this rollup "
                "file: it is made anew at the next compaction"
            ) from error
        rows = part.rows.astype(np.int64)
        at = np.repeat(part.start - (np.cumsum(rows) - rows), rows) + np.arange(rows.sum())
        scale = np.repeat(part.scale, rows)
        values = [_unpack(table.column(n).chunk(0).to_numpy()[at], scale) for n in _VALUES]
        out.append(
            Buckets(
                np.repeat(part.signal, rows).astype(np.int64),
                table.column("bucket").chunk(0).to_numpy()[at] * width_ns,
                values[0],
                values[1],
                values[2],
                values[3],
                values[4],
                table.column("count").chunk(0).to_numpy()[at],
            )
        )
    return out
