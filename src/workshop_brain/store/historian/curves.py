"""Curves on their way through the log and at rest in Parquet batches."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workshop_brain.errors import DamageError
from workshop_brain.model.curve import Curve
from workshop_brain.store.historian.catalog import Catalog
from workshop_brain.store.historian.log import sync_directory
from workshop_brain.store.historian.partition import ODD
from workshop_brain.store.historian.segment import force
from workshop_brain.store.historian.steps import step_of, values_of

SCHEMA = pa.schema(
    [
        ("serial", pa.string()),
        ("station", pa.string()),
        ("program", pa.string()),
        ("step", pa.int32()),
        ("time_ns", pa.int64()),
        ("names", pa.list_(pa.string())),
        ("values", pa.list_(pa.float32())),
        ("steps", pa.list_(pa.float64())),
        ("codes", pa.list_(pa.int32())),
    ]
)
"""A curve has either ``values``, or of each channel a step and ``codes``, see ``steps``."""
_GROUP_CURVES = 32
_GROUP_VALUES = 1 << 20
"""A row group ends with so many curves or values: one curve is read without many others."""
_HEAD = struct.Struct("<QQI")
MERGE = 16
"""So many small files of the newest date are merged; a file is made at every sealing."""
_MOST_MERGED = 64
_SMALL_BYTES = 16 << 20
_MERGED_BYTES = 32 << 20
"""About so much is merged at a time; it is in memory, decompressed, while it is."""


def pack(curve: Curve, *, source: str, session: int, seq: int) -> bytes:
    """Body of a log frame."""
    names = list(curve.channels)
    head = orjson.dumps(
        {
            "serial": curve.serial, "station": curve.station, "program": curve.program,
            "step": curve.step, "time_ns": curve.time_ns, "names": names, "source": source,
        }
    )  # fmt: skip
    values = [np.ascontiguousarray(curve.channels[n], np.float32).tobytes() for n in names]
    return b"".join([_HEAD.pack(session, seq, len(head)), head, *values])


def unpack(body: memoryview) -> tuple[Curve, str, int, int]:
    """Curve, source, session and sequence number of a log frame."""
    session, seq, length = _HEAD.unpack_from(body)
    head = orjson.loads(body[_HEAD.size : _HEAD.size + length])
    values = np.frombuffer(body[_HEAD.size + length :], np.float32)
    return (
        Curve(
            serial=head["serial"],
            station=head["station"],
            program=head["program"],
            step=head["step"],
            time_ns=head["time_ns"],
            channels=_split(head["names"], values),
        ),
        head["source"],
        session,
        seq,
    )


def check(curve: Curve) -> None:
    """ValueError when the channels differ in length."""
    lengths = {name: len(values) for name, values in curve.channels.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"curve of {curve.serial!r} at {curve.station!r}: channels must have one length, "
            f"got {lengths}"
        )


def write_curves(path: Path, curves: Sequence[Curve]) -> int:
    """Write curves as one durable file and return its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = [sum(map(len, c.channels.values())) for c in curves]
    return _write(path, (_table(curves[a:b]) for a, b in _groups(sizes)))


def _groups(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of curves that make a row group, from how many values each has."""
    start = values = 0
    for at, size in enumerate(sizes):
        values += size
        if at + 1 - start == _GROUP_CURVES or values >= _GROUP_VALUES or at + 1 == len(sizes):
            yield start, at + 1
            start, values = at + 1, 0


def _table(curves: Sequence[Curve]) -> pa.Table:
    """Curves as rows of the file, as codes where that gives every value back."""
    coded = [[step_of(values) for values in c.channels.values()] for c in curves]
    found = [[x for x in c if x is not None] for c in coded]
    whole = [bool(c) and len(f) == len(c) for c, f in zip(coded, found, strict=True)]
    values = [
        [] if is_coded else list(c.channels.values())
        for c, is_coded in zip(curves, whole, strict=True)
    ]
    codes = [
        [x[1] for x in f] if is_coded else [] for f, is_coded in zip(found, whole, strict=True)
    ]
    steps = [
        [x[0] for x in f] if is_coded else [] for f, is_coded in zip(found, whole, strict=True)
    ]
    return pa.Table.from_arrays(
        [
            pa.array([c.serial for c in curves], pa.string()),
            pa.array([c.station for c in curves], pa.string()),
            pa.array([c.program for c in curves], pa.string()),
            pa.array([c.step for c in curves], pa.int32()),
            pa.array([c.time_ns for c in curves], pa.int64()),
            pa.array([list(c.channels) for c in curves], pa.list_(pa.string())),
            _lists(values, np.float32),
            pa.array(steps, pa.list_(pa.float64())),
            _lists(codes, np.int32),
        ],
        schema=SCHEMA,
    )


def _lists(rows: Sequence[Sequence[np.ndarray]], kind: type[np.generic]) -> pa.ListArray:
    """One list for each row: its arrays behind each other."""
    offsets = np.cumsum([0, *(sum(map(len, row)) for row in rows)]).astype(np.int32)
    parts = [np.asarray(array, kind) for row in rows for array in row]
    flat = pa.array(np.concatenate(parts) if parts else np.empty(0, kind))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, type=pa.list_(flat.type))


def _write(path: Path, groups: Iterable[pa.Table]) -> int:
    """Write tables as row groups."""
    try:
        with pq.ParquetWriter(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=["serial", "station", "program", "names.list.element"],
            column_encoding={
                "values.list.element": "BYTE_STREAM_SPLIT",
                "codes.list.element": "DELTA_BINARY_PACKED",
            },
            data_page_size=16 << 20,
            write_page_checksum=True,
        ) as writer:
            for table in groups:
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
        return force(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_curves(path: Path, rows: Sequence[int]) -> list[Curve]:
    """Curves at rows of a file, in the order asked for."""
    found: dict[int, Curve] = {}
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            for g in np.unique(groups).tolist():
                table = file.read_row_group(g, use_threads=False)
                for row in np.asarray(rows)[groups == g].tolist():
                    found[row] = _curve(table, row - int(ends[g]) + sizes[g])
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path, error) from error
    return [found[row] for row in rows]


@dataclass(frozen=True, slots=True)
class CurveFile:
    """One file of curves of one UTC date."""

    id: int
    date: str
    name: str
    bytes: int


def mergeable(files: Sequence[CurveFile]) -> list[CurveFile]:
    """Small files of one date to merge now: enough of them, or what is left of an older date."""
    newest = max((f.date for f in files if f.date not in ODD), default="")
    for date in sorted({f.date for f in files}):
        small = [f for f in files if f.date == date and f.bytes < _SMALL_BYTES]
        few = MERGE if date == newest or date in ODD else 2
        if len(small) >= few:
            ends = np.cumsum([f.bytes for f in small])
            most = max(2, int(np.searchsorted(ends, _MERGED_BYTES, side="right")))
            return small[: min(most, _MOST_MERGED)]
    return []


def merge_curves(directory: Path, catalog: Catalog, inputs: Sequence[CurveFile]) -> None:
    """Merge files of one date into one, sorted by (serial, time), so that the curves of one part
    stand together. Curves that were written twice are dropped."""
    keys = [(k, n) for n, f in enumerate(inputs) for k in catalog.curves_of(f.id)]
    keys.sort(key=lambda item: (item[0].serial, item[0].time_ns, item[0].station, item[0].step))
    tables = [_read_table(directory / f.name) for f in inputs]
    first = np.cumsum([0, *(t.num_rows for t in tables)])
    rows = np.array([int(first[n]) + k.row for k, n in keys], np.int64)
    whole = pa.concat_tables(tables, promote_options="default").combine_chunks()
    del tables
    id = catalog.next_id()
    name = f"curves/date={inputs[0].date}/{id:012d}.parquet"
    size = 0
    if keys:
        size = _write(directory / name, _in_order(whole, rows))
        sync_directory((directory / name).parent)
    programs = whole.column("program").take(pa.array(rows)).to_pylist()
    moved = [replace(k, program=p) for (k, _), p in zip(keys, programs, strict=True)]
    with catalog.transaction():
        if keys:
            newest = max(k.time_ns for k in moved)
            catalog.move_curves((id, inputs[0].date, name, len(keys), size, newest), moved)
        for file in inputs:
            catalog.drop_curve_file(file.id)
    for file in inputs:
        (directory / file.name).unlink(missing_ok=True)


def _in_order(whole: pa.Table, rows: np.ndarray) -> Iterator[pa.Table]:
    """Rows of a table as row groups, with every column of the schema."""
    for name in SCHEMA.names[len(whole.column_names) :]:  # written before there were codes
        whole = whole.append_column(name, pa.nulls(len(whole), SCHEMA.field(name).type))
    sizes = sum(
        pc.fill_null(pc.list_value_length(whole.column(name)), 0).to_numpy()
        for name in ("values", "codes")
    )
    for start, stop in _groups(sizes[rows].tolist()):
        yield whole.take(pa.array(rows[start:stop])).select(SCHEMA.names).combine_chunks()


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DamageError:
    return DamageError(
        f"{path}: a checksum does not match the stored bytes ({error}); restore this file from "
        "a backup"
    )


def _curve(table: pa.Table, row: int) -> Curve:
    names = table.column("names")[row].as_py()
    steps = table.column("steps")[row].as_py() if "steps" in table.column_names else None
    if steps:
        codes = _split(names, _list(table, "codes", row))
        channels = {n: values_of(s, codes[n]) for n, s in zip(names, steps, strict=True)}
    else:
        channels = _split(names, _list(table, "values", row))
    return Curve(
        serial=table.column("serial")[row].as_py(),
        station=table.column("station")[row].as_py(),
        program=table.column("program")[row].as_py(),
        step=table.column("step")[row].as_py(),
        time_ns=table.column("time_ns")[row].as_py(),
        channels=channels,
    )


def _list(table: pa.Table, name: str, row: int) -> np.ndarray:
    lists = table.column(name).chunk(0)
    start, stop = lists.offsets[row].as_py(), lists.offsets[row + 1].as_py()
    values: np.ndarray = lists.values.to_numpy()[start:stop]
    return values


def _split(names: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    if not names:
        return {}
    n = len(values) // len(names)
    return {name: values[k * n : (k + 1) * n].copy() for k, name in enumerate(names)}
