"""The history as Apache Iceberg tables, published from the files of the store.

``stored`` points at the sealed files themselves (hard links, no byte is copied) with the columns
they have; ``VIEW_SQL`` makes path, time, value and quality of them. ``samples`` has those columns
for readers that cannot run it, and is a copy. Rows that stand in more than one file (a back-fill, a
batch sent twice) would be seen twice; such files are merged into one.

Published files are kept until the snapshots that name them expire, whatever the store merges or
drops meanwhile.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workshop_brain.errors import ConfigError, StoreError
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian.catalog import Catalog, catalog_exists
from workshop_brain.store.historian.memtable import concat, take
from workshop_brain.store.historian.segment import (
    GROUP_ROWS,
    Runs,
    SegmentWriter,
    open_segment,
    read_runs,
)
from workshop_brain.store.lock import DataLock, is_own

NAMESPACE = "plant"
VIEW_SQL = """
SELECT s.path, r.time * r.tick_ns AS time_ns,
       coalesce(r.raw, r.scaled / power(10, r.scale)) AS value, r.quality, t.text
FROM stored r JOIN signals s ON s.id = r.signal
LEFT JOIN texts t ON s.kind = 'text' AND t.code = coalesce(r.raw, r.scaled / power(10, r.scale))
""".strip()
"""Rows as people know them, from the tables ``stored``, ``signals`` and ``texts``."""
COPY_SCHEMA = pa.schema(
    [
        ("date", pa.string()),
        ("path", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("time_ns", pa.int64()),
        ("value", pa.float64()),
        ("quality", pa.int32()),
        ("text", pa.string()),
    ]
)
_BLOCK_ROWS = 1_000_000
_LOOKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication did; rows and files are those of the newest snapshot."""

    rows: int
    files: int
    added: int
    removed: int
    merged: int
    copied: int
    copy_rows: int


@dataclass(frozen=True, slots=True)
class _File:
    """A file in the warehouse with its run index; ``place`` is its order in the log."""

    path: Path
    date: str
    place: int
    runs: Runs


def publish(history: Path, to: Path, *, copy: bool = False, keep_h: float = 24.0) -> Published:
    """Bring the tables below ``to`` up to what the store has sealed; works beside its writer.

    Parameters
    ----------
    history
        The historian's directory.
    to
        The warehouse: ``catalog.sqlite`` (an SQL catalog), metadata and data files.
    copy
        Also ``samples``, by whole dates; a date is written anew when its files have changed.
    keep_h
        Snapshots older than so many hours are forgotten, and their files removed; >= 0.

    Raises
    ------
    ConfigError
        pyiceberg is not installed, or ``to`` cannot be written.
    StoreError
        No history, or another publication to the same place is under way.
    """
    iceberg = _catalog_class()
    if not catalog_exists(history):
        raise StoreError(f"{history}: no history here; give the data directory with --data")
    if is_own(history.resolve().parent, to) or to.resolve().is_relative_to(history.resolve()):
        raise ConfigError(f"--to {to}: lies among the brain's own files; name another directory")
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--to {to}: cannot be made: {error}") from error
    to = to.resolve()
    with DataLock(to, name="publish.lock"):
        store = Catalog(history / "catalog.sqlite", read_only=True)
        try:
            signals, texts = store.signals(), store.texts()
            files, copied = _brought(history, store, to / "data" / "stored")
        finally:
            store.close()
        catalog = iceberg(
            "brain", uri=f"sqlite:///{to / 'catalog.sqlite'}", warehouse=f"file://{to}"
        )
        catalog.create_namespace_if_not_exists(NAMESPACE)
        _overwrite(catalog, "signals", _signal_table(signals))
        _overwrite(catalog, "texts", pa.table({"code": pa.array(range(len(texts)), pa.int64()),
                                               "text": pa.array(texts, pa.string())}))  # fmt: skip
        groups = _overlapping(files)
        stored = [_as_one(group, to / "data" / "stored") for group in groups]
        copies = _copies(files, to / "data" / "samples", signals, texts) if copy else []
        table, added, removed = _commit(catalog, "stored", _stored_schema(), stored)
        _forget(table, to / "data" / "stored", keep_h)
        if copy:
            table, *_ = _commit(catalog, "samples", _copy_schema(), copies)
            _forget(table, to / "data" / "samples", keep_h)
        catalog.close()
    return Published(
        rows=sum(s.rows for s in stored),
        files=len(stored),
        added=added,
        removed=removed,
        merged=sum(len(g) > 1 for g in groups),
        copied=copied,
        copy_rows=sum(s.rows for s in copies),
    )


def _catalog_class() -> Any:
    try:
        from pyiceberg.catalog.sql import SqlCatalog
    except ImportError as error:
        raise ConfigError(
            "publishing needs the extra iceberg: pip install workshop-brain[iceberg]"
        ) from error
    return SqlCatalog


# -- files of the store


def _brought(history: Path, store: Catalog, folder: Path) -> tuple[list[_File], int]:
    """All sealed files, linked into the warehouse, and how many had to be copied instead."""
    for _ in range(_LOOKS):
        found, copied = [], 0
        for place, segment in enumerate(store.segments()):
            packed = store.runs(segment.id)
            path = folder / f"date={segment.date}" / f"{segment.id:012d}.parquet"
            was_copied = packed is not None and _bring(history / segment.file, path)
            if packed is None or was_copied is None:
                break  # merged or dropped since we looked
            found.append(_File(path, segment.date, place, Runs.unpack(packed)))
            copied += was_copied
        else:
            return found, copied
        time.sleep(0.05)
    raise StoreError(f"{history}: its files change faster than they can be published; try again")


def _bring(source: Path, target: Path) -> bool | None:
    """Link a file, or copy it where links cannot go (True); None when it is gone."""
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        return None
    except OSError:
        part = target.with_suffix(".part")
        try:
            shutil.copyfile(source, part)
        except FileNotFoundError:
            return None
        part.replace(target)
        return True
    return False


def _overlapping(files: Sequence[_File]) -> list[list[_File]]:
    """Files in groups: those that share a stretch of time of any signal are together."""
    spans = [_spans(f.runs) for f in files]
    group = list(range(len(files)))

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    order = sorted(range(len(files)), key=lambda k: int(files[k].runs.first.min()))
    reach = [int(f.runs.last.max()) for f in files]
    open_: list[int] = []
    for k in order:
        start = int(files[k].runs.first.min())
        open_ = [m for m in open_ if reach[m] >= start]
        for m in open_:
            if root(m) != root(k) and _share(spans[m], spans[k]):
                group[root(k)] = root(m)
        open_.append(k)
    out: dict[int, list[_File]] = {}
    for k, file in enumerate(files):
        out.setdefault(root(k), []).append(file)
    return list(out.values())


Spans = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]


def _spans(runs: Runs) -> Spans:
    """Signals of a file with their first and last time."""
    starts = np.flatnonzero(np.diff(runs.signal, prepend=np.uint32(2**32 - 1)))
    return (
        runs.signal[starts],
        np.minimum.reduceat(runs.first, starts),
        np.maximum.reduceat(runs.last, starts),
    )


def _share(one: Spans, other: Spans) -> bool:
    _, i, k = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return bool(np.any((one[1][i] <= other[2][k]) & (other[1][k] <= one[2][i])))


def _blocks(files: Sequence[_File]) -> Iterator[Samples]:
    """Rows of files by (signal, time), one per instant: the last in the log; whole signals."""
    files = sorted(files, key=lambda f: f.place)
    opened = [(open_segment(f.path), f) for f in files]
    signal = np.concatenate([f.runs.signal for f in files])
    rows = np.concatenate([f.runs.rows for f in files]).astype(np.int64)
    ids, at = np.unique(signal, return_inverse=True)
    ends = np.cumsum(np.bincount(at, weights=rows).astype(np.int64))
    for block in np.split(ids, np.flatnonzero(np.diff(ends // _BLOCK_ROWS)) + 1):
        parts = [
            piece
            for file, f in opened
            for piece in read_runs(
                file, f.path, f.runs.select(block.astype(np.uint32), -(2**63), 2**63 - 1)
            )
        ]
        yield _newest(concat(parts))
    for file, _ in opened:
        file.close()


def _newest(rows: Samples) -> Samples:
    order = np.lexsort((rows.time_ns, rows.signal))  # stable: the order of the log stays
    signal, time_ns = rows.signal[order], rows.time_ns[order]
    again = (signal[1:] == signal[:-1]) & (time_ns[1:] == time_ns[:-1])
    return take(rows, order[np.append(~again, True)])


# -- files of the tables


@dataclass(frozen=True, slots=True)
class _Data:
    """A data file of a table, with the bounds that prune it, by column."""

    path: Path
    date: str
    rows: int
    bounds: dict[str, tuple[Any, Any]]


def _as_one(group: Sequence[_File], folder: Path) -> _Data:
    """A file as it is, or the merged copy of several; made once."""
    signal = np.concatenate([f.runs.signal for f in group])
    bounds = {"signal": (int(signal.min()), int(signal.max()))}
    if len(group) == 1:
        return _Data(group[0].path, group[0].date, int(group[0].runs.rows.sum()), bounds)
    path = folder / f"date={group[0].date}" / f"merged-{_name(group)}.parquet"

    def write(part: Path) -> None:
        writer = SegmentWriter(part, group_rows=GROUP_ROWS)
        try:
            for rows in _blocks(group):
                writer.write(rows)
            writer.close()
        except BaseException:
            writer.abandon()
            raise

    return _Data(path, group[0].date, _made(path, write), bounds)


def _copies(
    files: Sequence[_File], folder: Path, signals: Sequence[SignalDef], texts: Sequence[str]
) -> list[_Data]:
    """One file for each date, with the rows as people know them."""
    dates: dict[str, list[_File]] = {}
    for file in files:
        dates.setdefault(file.date, []).append(file)
    out = []
    for date, group in dates.items():
        path = folder / f"date={date}" / f"{_name(group)}.parquet"

        def write(part: Path, group: list[_File] = group, date: str = date) -> None:
            with pq.ParquetWriter(part, COPY_SCHEMA, compression="zstd") as writer:
                for rows in _blocks(group):
                    writer.write_table(_readable(rows, date, signals, texts))

        rows = _made(path, write)
        first = min(int(f.runs.first.min()) for f in group)
        last = max(int(f.runs.last.max()) for f in group)
        bounds: dict[str, tuple[Any, Any]] = {"time_ns": (first, last)}
        out.append(_Data(path, date, rows, bounds | {"time": (first // 1000, last // 1000)}))
    return out


def _name(group: Sequence[_File]) -> str:
    names = "\n".join(sorted(f.path.name for f in group))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _made(path: Path, write: Callable[[Path], None]) -> int:
    """Rows of a file that is written unless it is there; a half-written one is never seen."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        write(part)
        part.replace(path)
    return int(pq.read_metadata(path).num_rows)


def _readable(
    rows: Samples, date: str, signals: Sequence[SignalDef], texts: Sequence[str]
) -> pa.Table:
    paths = pa.array([s.path for s in signals], pa.string())
    is_text = np.array([s.kind is SignalKind.TEXT for s in signals], bool)[rows.signal]
    known = is_text & (rows.value >= 0) & (rows.value < len(texts))
    codes = np.where(known, rows.value, 0).astype(np.int64)
    words = pa.array([*texts, ""], pa.string()).take(pa.array(codes, mask=~known))
    time_us = pa.array(rows.time_ns // 1000)
    return pa.table(
        [
            pa.repeat(pa.scalar(date), len(rows)),
            paths.take(pa.array(rows.signal)),
            time_us.cast(COPY_SCHEMA.field("time").type),
            pa.array(rows.time_ns),
            pa.array(rows.value, mask=is_text),
            pa.array(rows.quality.astype(np.int32)),
            words,
        ],
        schema=COPY_SCHEMA,
    )


# -- tables


def _signal_table(signals: Sequence[SignalDef]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(len(signals)), pa.int64()),
            "path": pa.array([s.path for s in signals], pa.string()),
            "kind": pa.array([s.kind.name.lower() for s in signals], pa.string()),
            "unit": pa.array([s.unit for s in signals], pa.string()),
            "low": pa.array([s.low for s in signals], pa.float64()),
            "high": pa.array([s.high for s in signals], pa.float64()),
        }
    )


def _overwrite(catalog: Any, name: str, rows: pa.Table) -> None:
    """Write a small table anew if it has changed."""
    known = f"{NAMESPACE}.{name}"
    table = (
        catalog.load_table(known)
        if catalog.table_exists(known)
        else catalog.create_table(known, rows.schema)
    )
    if table.current_snapshot() is None:
        if rows.num_rows:
            table.append(rows)
    elif table.scan().to_arrow().cast(rows.schema) != rows:
        table.overwrite(rows)


def _stored_schema() -> Any:
    """The columns of a segment with types that hold them, and its date, which is not in it."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType

    kinds = {
        "date": StringType(), "signal": LongType(), "tick_ns": IntegerType(), "time": LongType(),
        "scale": IntegerType(), "scaled": LongType(), "raw": DoubleType(), "quality": IntegerType(),
    }  # fmt: skip
    return Schema(
        *(NestedField(k, n, kind, required=False) for k, (n, kind) in enumerate(kinds.items(), 1))
    )


def _copy_schema() -> Any:
    from pyiceberg.schema import Schema
    from pyiceberg.types import (
        DoubleType,
        IntegerType,
        LongType,
        NestedField,
        StringType,
        TimestamptzType,
    )

    kinds = {
        "date": StringType(), "path": StringType(), "time": TimestamptzType(),
        "time_ns": LongType(), "value": DoubleType(), "quality": IntegerType(),
        "text": StringType(),
    }  # fmt: skip
    return Schema(
        *(NestedField(k, n, kind, required=False) for k, (n, kind) in enumerate(kinds.items(), 1))
    )


def _commit(catalog: Any, name: str, schema: Any, wanted: Sequence[_Data]) -> tuple[Any, int, int]:
    """Make a table name exactly these files in one snapshot; the table, how many came and went."""
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    spec = PartitionSpec(
        PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name="date")
    )
    known = f"{NAMESPACE}.{name}"
    if catalog.table_exists(known):
        table = catalog.load_table(known)
    else:
        properties = {
            "schema.name-mapping.default": schema.name_mapping.model_dump_json(),
            "write.metadata.delete-after-commit.enabled": "true",
            "write.metadata.previous-versions-max": "10",
            **({"brain.view-sql": VIEW_SQL} if name == "stored" else {}),
        }
        table = catalog.create_table(known, schema, partition_spec=spec, properties=properties)
    there = {task.file.file_path: task.file for task in table.scan().plan_files()}
    new = {f"file://{d.path}": d for d in wanted}
    come = [new[p] for p in new if p not in there]
    gone = [there[p] for p in there if p not in new]
    if come or gone:
        with table.transaction() as change, change.update_snapshot().overwrite() as snapshot:
            for file in gone:
                snapshot.delete_data_file(file)
            for data in come:
                snapshot.append_data_file(_data_file(data, table))
    return table, len(come), len(gone)


def _data_file(data: _Data, table: Any) -> Any:
    from pyiceberg.conversions import to_bytes
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    fields = {name: table.schema().find_field(name) for name in data.bounds}
    sides = [
        {f.field_id: to_bytes(f.field_type, data.bounds[n][side]) for n, f in fields.items()}
        for side in (0, 1)
    ]
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file://{data.path}",
        file_format=FileFormat.PARQUET,
        partition=Record(data.date),
        record_count=data.rows,
        file_size_in_bytes=data.path.stat().st_size,
        lower_bounds=sides[0],
        upper_bounds=sides[1],
        sort_order_id=None,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
    )


def _forget(table: Any, folder: Path, keep_h: float) -> None:
    """Expire old snapshots and remove the data files that none names any more."""
    before = datetime.now(UTC) - timedelta(hours=keep_h)
    table.maintenance.expire_snapshots().older_than(before).commit()
    table.refresh()
    named = set(table.inspect.all_data_files().column("file_path").to_pylist())
    for path in folder.rglob("*.p*"):  # also *.part, left by a publication that was killed
        if f"file://{path}" not in named:
            path.unlink()
