"""Reading: pruned segments plus the memory tables, as Arrow tables.

A read works on a snapshot: the catalog's files and the memory tables at one moment. When a file
has gone since (compaction, retention), the caller takes a new snapshot and reads again.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian.catalog import Catalog, Segment
from workshop_brain.store.historian.memtable import concat, take
from workshop_brain.store.historian.rollup import (
    BUCKETS,
    Buckets,
    bucket_rows,
    merge_buckets,
    read_buckets,
)
from workshop_brain.store.historian.segment import Runs, open_segment, read_runs

RAW_SCHEMA = pa.schema(
    [
        ("path", pa.dictionary(pa.int32(), pa.string())),
        ("time_ns", pa.int64()),
        ("value", pa.float64()),
        ("quality", pa.uint8()),
        ("text", pa.string()),
    ]
)
BUCKET_SCHEMA = pa.schema(
    [
        ("path", pa.dictionary(pa.int32(), pa.string())),
        ("time_ns", pa.int64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("avg", pa.float64()),
        ("count", pa.int64()),
        ("first", pa.float64()),
        ("last", pa.float64()),
    ]
)
_OPEN_FILES = 128


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a read sees: files in the order of the log, then memory tables, oldest first."""

    segments: list[Segment]
    tables: list[Samples]


@dataclass(slots=True)
class _Open:
    path: Path
    file: pq.ParquetFile
    runs: Runs
    lock: Lock = field(default_factory=Lock)  # one thread at a time reads from a file


class Files:
    """Open files with their run indices, the least recently used closed first."""

    def __init__(self, directory: Path, catalog: Catalog) -> None:
        self._directory = directory
        self._catalog = catalog
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._lock = Lock()

    def get(self, segment: Segment) -> _Open:
        """Open file; FileNotFoundError when it has been compacted or dropped."""
        with self._lock:
            found = self._open.get(segment.id)
            if found is not None:
                self._open.move_to_end(segment.id)
                return found
        packed = self._catalog.runs(segment.id)
        if packed is None:
            raise FileNotFoundError(segment.file)
        path = self._directory / segment.file
        made = _Open(path, open_segment(path), Runs.unpack(packed))
        with self._lock:
            self._open[segment.id] = made
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return made

    def clear(self) -> None:
        """Forget all files."""
        with self._lock:
            self._open.clear()


def read_rows(
    files: Files, snapshot: Snapshot, ids: NDArray[np.uint32], from_ns: int, to_ns: int
) -> Samples:
    """Rows of sorted signal ids, sorted by (signal, time), one per instant (the newest wins)."""
    parts: list[Samples] = []
    wanted = [
        s for s in snapshot.segments if s.max_signal >= ids[0] and s.min_signal <= ids[-1]
    ]  # all are opened before the first is read: what is merged meanwhile is not missed then
    for opened in [files.get(segment) for segment in wanted]:
        runs = opened.runs.select(ids, from_ns, to_ns)
        with opened.lock:
            pieces = read_runs(opened.file, opened.path, runs)
        parts += [_within(piece, from_ns, to_ns) for piece in pieces]
    parts += [_of_table(table, ids, from_ns, to_ns) for table in snapshot.tables]
    return _merge(concat([p for p in parts if len(p)]))


def read_decimated(
    files: Files,
    rollups: Callable[[int], list[Segment]],
    snapshot: Snapshot,
    ids: NDArray[np.uint32],
    from_ns: int,
    to_ns: int,
    width: int,
) -> Buckets:
    """Aggregates of sorted signal ids in buckets of a width from ``bucket_width``.

    Rollups stand in for raw files where the bucket allows it and the signal's files do not overlap
    in time; otherwise raw rows are read.
    """
    fits = [b for b in BUCKETS if width % b == 0 and width >= b]
    origin = from_ns // fits[-1] * fits[-1] if fits else from_ns
    sources = [rollups(b) for b in reversed(fits)]
    clean = ids
    parts: list[Buckets] = []
    if fits:
        clean = _not_overlapping(files, snapshot, ids, origin, to_ns)
        dirty = np.setdiff1d(ids, clean)
    else:
        dirty, clean = ids, ids[:0]
    if len(dirty):
        rows = read_rows(files, snapshot, dirty, origin, to_ns)
        parts.append(_bucket(rows, origin, width))
    if len(clean):
        parts += _clean_parts(files, sources, snapshot, clean, origin, to_ns, width)
    return merge_buckets(parts, origin_ns=origin, width_ns=width)


def bucket_width(from_ns: int, to_ns: int, points: int) -> int:
    """Width of a bucket, ns: whole seconds from 1 s on, whole minutes from 1 min on, whole hours
    from half an hour on."""
    width = max(-(-(to_ns - from_ns) // points), 1)
    for unit in reversed(BUCKETS):
        if width > unit // 2:
            return -(-width // unit) * unit
    return width


def _clean_parts(
    files: Files,
    sources: list[list[Segment]],
    snapshot: Snapshot,
    ids: NDArray[np.uint32],
    origin: int,
    to_ns: int,
    width: int,
) -> list[Buckets]:
    """Per raw file the coarsest rollup that has the signal, raw rows for the rest."""
    parts: list[Buckets] = []
    raw = {s.unit: s for s in snapshot.segments}
    by_unit: dict[int, list[Segment]] = {s.unit: [] for s in snapshot.segments}
    for source in sources:
        for rolled in source:
            by_unit.setdefault(rolled.unit, []).append(rolled)
    for unit, choices in by_unit.items():
        rest = ids
        for rolled in choices:
            if rolled.min_time >= to_ns or rolled.max_time < origin or not len(rest):
                continue
            opened = files.get(rolled)
            runs = opened.runs.select(rest, origin - rolled.bucket_ns + 1, to_ns)
            with opened.lock:
                found = read_buckets(opened.file, opened.path, runs, rolled.bucket_ns)
            parts += [_cut(b, origin, to_ns) for b in found]
            have = opened.runs.select(rest, -(2**63), 2**63 - 1).signal
            rest = np.setdiff1d(rest, have)
        if len(rest) and unit in raw:
            one = Snapshot([raw[unit]], [])
            parts.append(_bucket(read_rows(files, one, rest, origin, to_ns), origin, width))
    for table in snapshot.tables:
        one = Snapshot([], [table])
        parts.append(_bucket(read_rows(files, one, ids, origin, to_ns), origin, width))
    return parts


def _bucket(rows: Samples, origin: int, width: int) -> Buckets:
    return bucket_rows(rows.signal.astype(np.int64), rows, origin_ns=origin, width_ns=width)


def _cut(buckets: Buckets, from_ns: int, to_ns: int) -> Buckets:
    keep = (buckets.time_ns >= from_ns) & (buckets.time_ns < to_ns)
    return Buckets(*(getattr(buckets, n)[keep] for n in Buckets.__slots__))


def _not_overlapping(
    files: Files, snapshot: Snapshot, ids: NDArray[np.uint32], from_ns: int, to_ns: int
) -> NDArray[np.uint32]:
    """Signals whose rows in different files and tables do not overlap in time."""
    signal: list[NDArray[np.uint32]] = []
    first: list[NDArray[np.int64]] = []
    last: list[NDArray[np.int64]] = []
    for segment in snapshot.segments:
        runs = files.get(segment).runs.select(ids, from_ns, to_ns)
        signal, first, last = [*signal, runs.signal], [*first, runs.first], [*last, runs.last]
    for table in snapshot.tables:
        rows = _merge(_of_table(table, ids, from_ns, to_ns))
        starts = np.flatnonzero(np.diff(rows.signal, prepend=np.uint32(2**32 - 1)))
        ends = np.append(starts[1:], len(rows)) - 1 if len(starts) else starts
        signal.append(rows.signal[starts])
        first.append(rows.time_ns[starts])
        last.append(rows.time_ns[ends])
    if not signal:
        return ids
    s, a, b = np.concatenate(signal), np.concatenate(first), np.concatenate(last)
    order = np.lexsort((a, s))
    s, a, b = s[order], a[order], b[order]
    is_dirty = (s[1:] == s[:-1]) & (a[1:] <= b[:-1])
    return np.setdiff1d(ids, s[1:][is_dirty])


def _of_table(table: Samples, ids: NDArray[np.uint32], from_ns: int, to_ns: int) -> Samples:
    in_time = (table.time_ns >= from_ns) & (table.time_ns < to_ns)
    if len(ids) == 1:
        return take(table, np.flatnonzero((table.signal == ids[0]) & in_time))
    wanted = np.zeros(int(max(ids[-1], table.signal.max(initial=0))) + 1, bool)
    wanted[ids] = True
    return take(table, np.flatnonzero(wanted[table.signal] & in_time))


def _within(rows: Samples, from_ns: int, to_ns: int) -> Samples:
    keep = (rows.time_ns >= from_ns) & (rows.time_ns < to_ns)
    return rows if keep.all() else take(rows, np.flatnonzero(keep))


def _merge(rows: Samples) -> Samples:
    """Sort by (signal, time), keep the last in the log of equal ones."""
    if len(rows) < 2:
        return rows
    same = rows.signal[1:] == rows.signal[:-1]
    later = rows.time_ns[1:] > rows.time_ns[:-1]
    if bool(np.all(np.where(same, later, rows.signal[1:] > rows.signal[:-1]))):
        return rows
    order = np.lexsort((rows.time_ns, rows.signal))
    rows = take(rows, order)
    equal = (rows.signal[1:] == rows.signal[:-1]) & (rows.time_ns[1:] == rows.time_ns[:-1])
    return take(rows, np.append(~equal, True)) if equal.any() else rows


def decimate(rows: Samples, points: int) -> Samples:
    """At most ``points`` rows of each signal, chosen by largest triangles (see ``lttb``).

    Rows sorted by (signal, time); BAD and NaN rows are left out.
    """
    from workshop_brain.store.historian.lttb import largest_triangles

    good = ((rows.quality & Quality.BAD) == 0) & ~np.isnan(rows.value)
    if not good.all():
        rows = take(rows, good)
    starts = np.flatnonzero(np.diff(rows.signal, prepend=np.uint32(2**32 - 1)))
    kept = []
    for start, stop in pairwise([*starts.tolist(), len(rows)]):
        since_first = (rows.time_ns[start:stop] - rows.time_ns[start]).astype(np.float64)
        kept.append(start + largest_triangles(since_first, rows.value[start:stop], points))
    return take(rows, np.concatenate(kept)) if kept else rows


def raw_table(
    rows: Samples,
    ids: Sequence[int],
    signals: Sequence[SignalDef],
    texts: Callable[[Sequence[int]], list[str]],
) -> pa.Table:
    """Rows as the public table, signals in the order asked for."""
    rows = _reorder(rows, ids)
    slot = _slots(rows.signal, ids)
    is_text = np.array([signals[i].kind is SignalKind.TEXT for i in ids], bool)[slot]
    return pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                pa.array(slot.astype(np.int32)), pa.array([signals[i].path for i in ids])
            ),
            pa.array(rows.time_ns),
            pa.array(rows.value),
            pa.array(rows.quality),
            _text_column(rows.value, is_text, texts),
        ],
        schema=RAW_SCHEMA,
    )


def bucket_table(buckets: Buckets, ids: Sequence[int], signals: Sequence[SignalDef]) -> pa.Table:
    """Aggregates as the public table; the values of text signals mean nothing and are null."""
    slot = _slots(buckets.key.astype(np.uint32), ids)
    order = np.argsort(slot, kind="stable")
    slot = slot[order]
    is_text = np.array([signals[i].kind is SignalKind.TEXT for i in ids], bool)[slot]
    count = buckets.count[order]

    def column(values: NDArray[np.float64]) -> pa.Array:
        return pa.array(values, mask=is_text if is_text.any() else None)

    return pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                pa.array(slot.astype(np.int32)), pa.array([signals[i].path for i in ids])
            ),
            pa.array(buckets.time_ns[order]),
            column(buckets.low[order]),
            column(buckets.high[order]),
            column(buckets.total[order] / np.maximum(count, 1)),
            pa.array(count),
            column(buckets.first[order]),
            column(buckets.last[order]),
        ],
        schema=BUCKET_SCHEMA,
    )


def _reorder(rows: Samples, ids: Sequence[int]) -> Samples:
    if all(a < b for a, b in pairwise(ids)):
        return rows
    return take(rows, np.argsort(_slots(rows.signal, ids), kind="stable"))


def _slots(signal: NDArray[np.uint32], ids: Sequence[int]) -> NDArray[np.int64]:
    lookup = np.zeros(max(ids, default=0) + 1, np.int64)
    lookup[np.asarray(ids, np.int64)] = np.arange(len(ids))
    return lookup[signal]


def _text_column(
    value: NDArray[np.float64],
    is_text: NDArray[np.bool_],
    texts: Callable[[Sequence[int]], list[str]],
) -> pa.Array:
    if not is_text.any():
        return pa.nulls(len(value), pa.string())
    usable = is_text & (value >= 0) & (value < 2**53)
    codes = np.zeros(len(value), np.int64)
    codes[usable] = value[usable].astype(np.int64)
    found, inverse = np.unique(codes, return_inverse=True)
    words = pa.array(texts(found.tolist()), pa.string())
    return words.take(pa.array(inverse, mask=~usable))
