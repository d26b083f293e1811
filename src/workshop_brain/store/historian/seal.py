"""Sealing and compaction: what turns the memory table into files and small files into large ones.

Both run in the historian's own thread; numpy, numba and Arrow release the GIL there. Files are
written and forced to disk first, then one catalog transaction makes them visible.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples
from workshop_brain.store.historian.catalog import Catalog, Segment, file_crc
from workshop_brain.store.historian.curves import write_curves
from workshop_brain.store.historian.last import LastValues
from workshop_brain.store.historian.log import sync_directory
from workshop_brain.store.historian.memtable import ColumnPool, Memtable, concat
from workshop_brain.store.historian.partition import Partition, Splitter, date_of
from workshop_brain.store.historian.restated import RESTATED, restate
from workshop_brain.store.historian.rollup import BUCKETS, RollupWriter
from workshop_brain.store.historian.segment import (
    GROUP_ROWS,
    L0_GROUP_ROWS,
    Group,
    Runs,
    SegmentWriter,
    Written,
    decode_runs,
    open_segment,
    read_group,
    sort_rows,
    write_segment,
)

SessionSeqs = dict[tuple[str, int], int]
CurveFileRow = tuple[int, str, str, int, int, int]
CurveFileKey = tuple[str, int, str, int, str]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Files of a memory table that no commit has made visible yet.

    ``rows`` are sorted, one per (signal, time); ``curves`` are the rows of curve files with the
    keys of their curves.
    """

    rows: Samples
    segments: list[tuple[Segment, bytes]]
    curves: list[tuple[CurveFileRow, list[CurveFileKey]]]

    @property
    def names(self) -> list[str]:
        """Names of all the files."""
        return [s.file for s, _ in self.segments] + [file[2] for file, _ in self.curves]


def write_table(
    directory: Path, catalog: Catalog, table: Memtable, splitter: Splitter, pool: ColumnPool
) -> Sealed:
    """Write a memory table as durable level 0 files, one per partition, and its curves.

    pool
        Where the sorted rows find memory.
    """
    n_signals = len(splitter.group)
    rows, duplicates, conflicts = sort_rows(table.view(), n_signals, pool)
    files: list[tuple[Segment, bytes]] = []
    for partition, part in splitter.split(rows):
        id = catalog.next_id()
        name = f"segments/{partition.folder}/L0/{id:012d}.parquet"
        written = write_segment(directory / name, part, group_rows=L0_GROUP_ROWS)
        segment = _row(
            id, written, name, partition.date, 0, n_signals,
            (table.first_position, table.last_position),
            (0, 0) if files else (duplicates, conflicts),
        )  # fmt: skip
        files.append((segment, written.runs.pack()))
    curves = list(_write_curves(directory, catalog, table.curves, splitter.latest_ns))
    made = Sealed(rows, files, curves)
    _sync_parents(directory, made.names)
    return made


def commit(
    catalog: Catalog,
    table: Memtable,
    made: Sealed,
    *,
    sessions: SessionSeqs,
    last: LastValues,
    latest_ns: int,
    now_ns: int,
) -> None:
    """Make a table's files visible; tables in the order of the log.

    sessions, last
        Sequence numbers as of the table's last position, and last values as of the one before it;
        both are kept with the commit.
    latest_ns, now_ns
        Stamps behind ``latest_ns`` are in the future; now by the brain's clock, for the marks of
        restated rollups.
    """
    last.fold_sorted(made.rows, latest_ns)
    restated = restate(catalog, made.rows, now_ns)
    with catalog.transaction():
        for segment, runs in made.segments:
            catalog.add_segment(segment, runs)
        for file, keys in made.curves:
            catalog.add_curves(file, keys)
        catalog.put_sessions(sessions)
        catalog.set_meta("sealed", table.last_position)
        catalog.set_meta("last_values", last.pack())
        if restated is not None:
            catalog.set_meta(RESTATED, restated)


def compact(
    directory: Path,
    catalog: Catalog,
    inputs: Sequence[Segment],
    *,
    level: int,
    between: Callable[[float], None] = lambda busy_s: None,
) -> Segment:
    """Merge files of one date that follow each other in the log into one, with its rollups.

    ``between`` is called after each block with the seconds it took; what it raises ends the merge.

    Memory: one decoded row group per input and one block of ``GROUP_ROWS`` rows.
    """
    old = catalog.segments(bucket_ns=None)
    gone = {s.id for s in inputs}
    id, date = catalog.next_id(), inputs[0].date
    folder = Partition.of(inputs[0].file).folder
    epoch = max(s.epoch for s in inputs)
    name = f"segments/{folder}/L{level}/{id:012d}.parquet"
    positions = inputs[0].first_position, inputs[-1].last_position
    writer = SegmentWriter(directory / name, group_rows=GROUP_ROWS)
    rollups = [RollupWriter(width) for width in BUCKETS]
    duplicates, conflicts = sum(s.duplicates for s in inputs), sum(s.conflicts for s in inputs)
    try:
        started = time.monotonic()
        for block in _blocks(directory, catalog, inputs):
            rows, more, differing = sort_rows(block, epoch)
            writer.write(rows)
            for rollup in rollups:
                rollup.add(rows)
            duplicates, conflicts = duplicates + more, conflicts + differing
            between(time.monotonic() - started)
            started = time.monotonic()
        written = writer.close()
    except BaseException:
        writer.abandon()
        raise
    made = [
        (_row(id, written, name, date, level, epoch, positions, (duplicates, conflicts)), written)
    ]
    for width, rollup in zip(BUCKETS, rollups, strict=True):
        rid = catalog.next_id()
        short = f"rollups/{folder}/{width // 1_000_000_000}s/{rid:012d}.parquet"
        if (rolled := rollup.write(directory / short)) is not None:
            row = _row(
                rid, rolled, short, date, level, epoch, positions, (0, 0), unit=id, width=width
            )
            made.append((row, rolled))
    _sync_parents(directory, [segment.file for segment, _ in made])
    packed = [(segment, written.runs.pack()) for segment, written in made]
    dropped = [s for s in old if s.unit in gone]
    with catalog.transaction():
        catalog.drop_segments([s.id for s in dropped])
        for segment, runs in packed:
            catalog.add_segment(segment, runs)
    for segment in dropped:
        (directory / segment.file).unlink(missing_ok=True)
    return made[0][0]


def remove_orphans(directory: Path, catalog: Catalog) -> list[Path]:
    """Remove files that no commit made visible, left by a crash."""
    known = {s.file for s in catalog.segments(bucket_ns=None)}
    known |= {name for _, name, *_ in catalog.curve_files()}
    removed = []
    for top in ("segments", "rollups", "curves"):
        for path in (directory / top).rglob("*.parquet"):
            if path.relative_to(directory).as_posix() not in known:
                path.unlink()
                removed.append(path)
    return removed


def _row(
    id: int,
    written: Written,
    name: str,
    date: str,
    level: int,
    epoch: int,
    positions: tuple[int, int],
    lost: tuple[int, int],
    *,
    unit: int | None = None,
    width: int = 0,
) -> Segment:
    runs = written.runs
    return Segment(
        id=id,
        unit=id if unit is None else unit,
        bucket_ns=width,
        date=date,
        level=level,
        file=name,
        rows=written.rows,
        bytes=written.size,
        min_time=int(runs.first.min()),
        max_time=int(runs.last.max()) + max(width - 1, 0),
        min_signal=int(runs.signal[0]),
        max_signal=int(runs.signal[-1]),
        epoch=epoch,
        first_position=positions[0],
        last_position=positions[1],
        duplicates=lost[0],
        conflicts=lost[1],
        file_crc=file_crc(written.path),
    )


def _write_curves(
    directory: Path, catalog: Catalog, curves: Sequence[Curve], latest_ns: int
) -> Iterator[tuple[CurveFileRow, list[CurveFileKey]]]:
    dates: dict[str, list[Curve]] = {}
    for curve in curves:
        dates.setdefault(date_of(curve.time_ns, latest_ns), []).append(curve)
    for date, group in dates.items():
        id = catalog.next_id()
        name = f"curves/date={date}/{id:012d}.parquet"
        size = write_curves(directory / name, group)
        keys = [(c.serial, c.time_ns, c.station, c.step, c.program) for c in group]
        yield (id, date, name, len(group), size, max(c.time_ns for c in group)), keys


def _sync_parents(directory: Path, names: Sequence[str]) -> None:
    changed = {directory}
    for name in names:
        path = directory / name
        changed.update(p for p in path.parents if p.is_relative_to(directory))
    for parent in changed:
        sync_directory(parent)


class _Input:
    """One file that is read from front to back, with its last decoded row group kept."""

    def __init__(self, directory: Path, catalog: Catalog, segment: Segment) -> None:
        self.path = directory / segment.file
        self.runs = Runs.unpack(catalog.runs(segment.id) or b"")
        self._file = open_segment(self.path)
        self._number = -1
        self._group: Group | None = None

    def rows(self, low: int, high: int) -> list[Samples]:
        """Rows of the signals ``low <= s < high``."""
        a, b = np.searchsorted(self.runs.signal, [low, high])
        runs = self.runs.take(np.arange(a, b))
        out = []
        for number in np.unique(runs.group):
            if number != self._number:
                whole = self.runs.take(self.runs.group == number)
                self._group = read_group(self._file, self.path, int(number), whole)
                self._number = int(number)
            assert self._group is not None
            out.append(decode_runs(self._group, runs.take(runs.group == number)))
        return out

    def close(self) -> None:
        self._file.close()


def _blocks(directory: Path, catalog: Catalog, inputs: Sequence[Segment]) -> Iterator[Samples]:
    """All rows of the inputs in blocks of whole signals, each in the order of the log."""
    files: list[_Input] = []
    try:
        files.extend(_Input(directory, catalog, segment) for segment in inputs)
        counts = np.zeros(max(int(f.runs.signal[-1]) for f in files) + 1, np.int64)
        for file in files:
            np.add.at(counts, file.runs.signal, file.runs.rows)
        for low, high in _ranges(counts):
            parts = [part for file in files for part in file.rows(low, high)]
            if parts:
                yield concat(parts)
    finally:
        for file in files:
            file.close()


def _ranges(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of signals whose rows together fill at most one row group, or one large signal."""
    ends = np.cumsum(counts)
    low = 0
    while low < len(counts):
        done = int(ends[low - 1]) if low else 0
        high = max(int(np.searchsorted(ends, done + GROUP_ROWS, side="right")), low + 1)
        yield low, high
        low = high
