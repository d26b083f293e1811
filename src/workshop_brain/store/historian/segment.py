"""Segments: rows sorted by (signal, time) in plain Parquet that any reader understands.

``time_ns = time * tick_ns`` and ``value = coalesce(raw, scaled / 10**scale)``, both exact to the
bit. Tick and scale are found per run; the run index (kept in the catalog) says where each signal's
rows stand, so that a read decodes only the row groups it needs.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workshop_brain.errors import DamageError
from workshop_brain.model.signal import Samples
from workshop_brain.store.historian.memtable import ColumnPool, concat, empty, slice_of

POW10 = np.array([10.0**k for k in range(10)])
RAW = 1
QUALITY = 2
L0_GROUP_ROWS = 65_536
GROUP_ROWS = 65_536
SCHEMA = pa.schema(
    [
        ("signal", pa.uint32()),
        ("tick_ns", pa.int32()),
        ("time", pa.int64()),
        ("scale", pa.int8()),
        ("scaled", pa.int64()),
        ("raw", pa.float64()),
        ("quality", pa.uint8()),
    ]
)
_RUN = [
    ("signal", "<u4"), ("group", "<u4"), ("start", "<u4"), ("rows", "<u4"), ("first", "<i8"),
    ("last", "<i8"), ("tick", "<i4"), ("scale", "i1"), ("flags", "u1"),
]  # fmt: skip
_CODEC = pa.Codec("zstd", compression_level=3)


@dataclass(frozen=True, slots=True)
class Runs:
    """Where each signal's rows stand in a file, in the order of the file.

    Attributes
    ----------
    signal, group, start, rows : uint32; ``start`` counts from the first row of the row group
    first, last : int64, times in ns
    tick : int32, ns; scale : int8, decimals or -1; flags : uint8, RAW and QUALITY
    """

    signal: NDArray[np.uint32]
    group: NDArray[np.uint32]
    start: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    tick: NDArray[np.int32]
    scale: NDArray[np.int8]
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.signal)

    def pack(self) -> bytes:
        """Compact bytes: columns as differences, compressed."""
        parts = []
        for name, kind in _RUN:
            column = getattr(self, name).astype(kind)
            if column.dtype.itemsize > 1:
                column = np.diff(column, prepend=column.dtype.type(0)).astype(kind)
                column = column.view(np.uint8).reshape(len(self), -1).T
            parts.append(np.ascontiguousarray(column).tobytes())
        raw = b"".join(parts)
        return b"".join([len(self).to_bytes(4, "little"), _CODEC.compress(raw, asbytes=True)])

    @classmethod
    def unpack(cls, data: bytes) -> "Runs":
        """Runs from their packed bytes."""
        n = int.from_bytes(data[:4], "little")
        size = sum(np.dtype(kind).itemsize for _, kind in _RUN) * n
        raw = np.frombuffer(_CODEC.decompress(data[4:], size, asbytes=True), np.uint8)
        columns, at = [], 0
        for _, kind in _RUN:
            width = np.dtype(kind).itemsize
            part = raw[at : at + width * n]
            at += width * n
            if width == 1:
                columns.append(part.view(kind))
            else:
                column = np.ascontiguousarray(part.reshape(width, n).T).view(kind).ravel()
                columns.append(np.cumsum(column, dtype=column.dtype))
        return cls(*columns)

    def take(self, rows: NDArray[Any]) -> "Runs":
        """A selection of the runs."""
        return Runs(*(getattr(self, name)[rows] for name, _ in _RUN))

    def select(self, signals: NDArray[np.uint32], from_ns: int, to_ns: int) -> "Runs":
        """Runs of sorted ``signals`` that touch ``from_ns <= t < to_ns``."""
        if len(signals) == 1:
            low, high = np.searchsorted(self.signal, [signals[0], signals[0] + 1])
            rows = np.arange(low, high)
        else:
            at = np.searchsorted(signals, self.signal)
            at[at == len(signals)] = 0
            rows = np.flatnonzero(signals[at] == self.signal)
        rows = rows[(self.first[rows] < to_ns) & (self.last[rows] >= from_ns)]
        return self.take(rows)


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer put into a file."""

    path: Path
    rows: int
    size: int
    runs: Runs


class SegmentWriter:
    """Writes sorted rows, row group by row group; ``close`` makes the file durable."""

    def __init__(self, path: Path, *, group_rows: int) -> None:
        self._path = path
        self._group_rows = group_rows
        self._groups = 0
        self._rows = 0
        self._runs: list[Runs] = []
        self._scratch = Scratch(group_rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = _open_writer(path, SCHEMA, group_rows, floats=("raw",))

    def write(self, samples: Samples) -> None:
        """Append rows sorted by (signal, time) that follow all rows written before."""
        for start in range(0, len(samples), self._group_rows):
            stop = min(start + self._group_rows, len(samples))
            self._write_group(slice_of(samples, start, stop))

    def _write_group(self, part: Samples) -> None:
        table, runs = encode(part, self._groups, self._scratch)
        self._writer.write_table(table, row_group_size=len(part))
        self._runs.append(runs)
        self._groups += 1
        self._rows += len(part)

    def close(self) -> Written:
        """Finish and force the file to disk."""
        self._writer.close()
        size = force(self._path)
        runs = join(self._runs)
        return Written(self._path, self._rows, size, runs)

    def abandon(self) -> None:
        """Give the file up."""
        with suppress(OSError):
            self._writer.close()
        self._path.unlink(missing_ok=True)


def join(runs: list[Runs]) -> Runs:
    """Run indices behind each other."""
    return Runs(*(np.concatenate([getattr(r, name) for r in runs]) for name, _ in _RUN))


class Scratch:
    """Columns of one row group on their way to a file, used again for the next group."""

    def __init__(self, rows: int) -> None:
        self.tick = np.empty(rows, np.int32)
        self.time = np.empty(rows, np.int64)
        self.scale = np.empty(rows, np.int8)
        self.scaled = np.empty(rows, np.int64)
        self.is_raw = np.empty(rows, np.bool_)


def encode(part: Samples, group: int, scratch: Scratch) -> tuple[pa.Table, Runs]:
    """One row group as a Parquet table, with its runs; the table holds until the next one."""
    from workshop_brain.store.historian import sort

    n = len(part)
    starts = sort.run_starts(part.signal, n)
    tick = sort.scale_times(starts, part.time_ns, sort.TICKS, scratch.tick, scratch.time)
    scale, flags = sort.scale_values(
        starts, part.value, part.value.view(np.int64), part.quality, sort.POW10,
        scratch.scale, scratch.scaled, scratch.is_raw,
    )  # fmt: skip
    rows = np.diff(starts, append=n)
    scaled = scratch.scaled[:n]
    if flags.any() and (is_raw := scratch.is_raw[:n]).any():
        scaled_column = pa.array(scaled, mask=is_raw)
        raw_column = pa.array(part.value, mask=~is_raw, from_pandas=False)
    else:
        scaled_column, raw_column = pa.array(scaled), pa.nulls(n, pa.float64())
    table = pa.Table.from_arrays(
        [
            pa.array(part.signal),
            pa.array(scratch.tick[:n]),
            pa.array(scratch.time[:n]),
            pa.array(scratch.scale[:n]),
            scaled_column,
            raw_column,
            pa.array(part.quality),
        ],
        schema=SCHEMA,
    )
    ends = starts + rows - 1
    runs = Runs(
        part.signal[starts],
        np.full(len(starts), group, np.uint32),
        starts.astype(np.uint32),
        rows.astype(np.uint32),
        part.time_ns[starts],
        part.time_ns[ends],
        tick,
        scale,
        flags,
    )
    return table, runs


def _open_writer(
    path: Path, schema: pa.Schema, group_rows: int, *, floats: tuple[str, ...]
) -> pq.ParquetWriter:
    """Parquet writer for sorted columns.

    One page per column and row group: pages of the default 20,000 rows cost 65 % more bytes,
    because the time columns of one machine's signals repeat each other within a page.
    """
    small = [n for n in ("quality", "scale", "tick_ns", "serial", "text") if n in schema.names]
    deltas = {
        field.name: "DELTA_BINARY_PACKED"
        for field in schema
        if pa.types.is_integer(field.type) and field.name not in small
    }
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=small,
        column_encoding={**deltas, **dict.fromkeys(floats, "BYTE_STREAM_SPLIT")},
        data_page_size=64 << 20,
        max_rows_per_page=group_rows,
        write_page_checksum=True,
        write_statistics=["signal", "time"] if "time" in schema.names else True,
    )


def force(path: Path) -> int:
    """Force a finished file to disk and return its size in bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def open_segment(path: Path) -> pq.ParquetFile:
    """Open a segment for reading; its footer is parsed once."""
    try:
        return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise _damaged(path, error) from error


def read_runs(file: pq.ParquetFile, path: Path, runs: Runs) -> list[Samples]:
    """Rows of the chosen runs, one piece per row group, in the order of the file."""
    return [
        decode_runs(read_group(file, path, int(group), runs.take(runs.group == group)), part)
        for group in np.unique(runs.group)
        if len(part := runs.take(runs.group == group))
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """Decoded columns of one row group; ``raw`` and ``quality`` only when a run needs them."""

    time: NDArray[np.int64]
    scaled: NDArray[np.int64] | None
    raw: NDArray[np.float64] | None
    is_raw: NDArray[np.bool_] | None
    quality: NDArray[np.uint8] | None


def read_group(file: pq.ParquetFile, path: Path, group: int, runs: Runs) -> Group:
    """Read the columns of a row group that the runs need; DamageError when bytes have changed."""
    any_flags = int(np.bitwise_or.reduce(runs.flags))
    names = ["time"]
    if (runs.scale >= 0).any():
        names.append("scaled")
    if any_flags & RAW:
        names.append("raw")
    if any_flags & QUALITY:
        names.append("quality")
    try:
        table = file.read_row_group(group, columns=names, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; wrong checksums have no number
        raise _damaged(path, error) from error
    columns = {name: table.column(name).chunk(0) for name in names}
    raw = columns.get("raw")
    scaled = columns.get("scaled")
    return Group(
        columns["time"].to_numpy(),
        None if scaled is None else scaled.fill_null(0).to_numpy(),
        None if raw is None else raw.fill_null(0.0).to_numpy(),
        None if raw is None else raw.is_valid().to_numpy(zero_copy_only=False),
        columns["quality"].to_numpy() if "quality" in columns else None,
    )


def decode_runs(group: Group, runs: Runs) -> Samples:
    """Rows of runs that all stand in one row group."""
    rows = runs.rows.astype(np.int64)
    if len(runs) == 1:
        start = int(runs.start[0])
        at: Any = slice(start, start + int(rows[0]))
    else:
        at = np.repeat(runs.start - (np.cumsum(rows) - rows), rows) + np.arange(rows.sum())
    signal = np.repeat(runs.signal, rows)
    time = group.time[at] * np.repeat(runs.tick.astype(np.int64), rows)
    scale = np.repeat(runs.scale, rows)
    if group.scaled is None:
        value = np.zeros(len(signal))
    else:
        value = group.scaled[at] / POW10[np.maximum(scale, 0)]
    if group.raw is not None and group.is_raw is not None:
        is_raw = group.is_raw[at]
        value[is_raw] = group.raw[at][is_raw]
    none = np.zeros(len(signal), np.uint8)
    quality = none if group.quality is None else group.quality[at]
    return Samples(signal, time, value, quality)


def sort_rows(
    samples: Samples, n_signals: int, pool: ColumnPool | None = None
) -> tuple[Samples, int, int]:
    """Rows sorted by (signal, time), the last in the log kept of equal ones.

    Returns the rows (in memory of the pool), the number of duplicates removed, and how many of
    those had another value.
    """
    from workshop_brain.store.historian import sort

    order = sort.order_rows(samples.signal, samples.time_ns, n_signals)
    out = empty(len(samples)) if pool is None else pool.empty(len(samples))
    rows, duplicates, conflicts = sort.merge_rows(
        order, samples.signal, samples.time_ns, samples.value.view(np.int64), samples.quality,
        out.signal, out.time_ns, out.value.view(np.int64), out.quality,
    )  # fmt: skip
    return slice_of(out, 0, int(rows)), int(duplicates), int(conflicts)


def write_segment(path: Path, samples: Samples, *, group_rows: int) -> Written:
    """Write sorted rows as one durable file; nothing is left behind when it fails."""
    writer = SegmentWriter(path, group_rows=group_rows)
    try:
        writer.write(samples)
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def read_all(file: pq.ParquetFile, path: Path, runs: Runs) -> Samples:
    """Rows of the chosen runs in one piece."""
    return concat(read_runs(file, path, runs)) if len(runs) else empty(0)


def _damaged(path: Path, error: Exception) -> DamageError:
    return DamageError(
        f"{path}: a checksum does not match the stored bytes ({error}); restore this file from a "
        "backup"
    )
