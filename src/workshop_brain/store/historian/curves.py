"""Curves on their way through the log and at rest in Parquet batches."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workshop_brain.errors import DamageError
from workshop_brain.model.curve import Curve
from workshop_brain.store.historian.segment import force

SCHEMA = pa.schema(
    [
        ("serial", pa.string()),
        ("station", pa.string()),
        ("program", pa.string()),
        ("step", pa.int32()),
        ("time_ns", pa.int64()),
        ("names", pa.list_(pa.string())),
        ("values", pa.list_(pa.float32())),
    ]
)
_HEAD = struct.Struct("<QQI")


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
    offsets = np.cumsum([0, *(sum(map(len, c.channels.values())) for c in curves)])
    arrays = [np.asarray(v, np.float32) for c in curves for v in c.channels.values()]
    values = np.concatenate(arrays) if arrays else np.empty(0, np.float32)
    table = pa.Table.from_arrays(
        [
            pa.array([c.serial for c in curves], pa.string()),
            pa.array([c.station for c in curves], pa.string()),
            pa.array([c.program for c in curves], pa.string()),
            pa.array([c.step for c in curves], pa.int32()),
            pa.array([c.time_ns for c in curves], pa.int64()),
            pa.array([list(c.channels) for c in curves], pa.list_(pa.string())),
            pa.ListArray.from_arrays(
                pa.array(offsets.astype(np.int32)), pa.array(values), type=pa.list_(pa.float32())
            ),
        ],
        schema=SCHEMA,
    )
    try:
        pq.write_table(
            table,
            path,
            row_group_size=32,
            compression="zstd",
            compression_level=3,
            use_dictionary=["serial", "station", "program", "names.list.element"],
            column_encoding={"values.list.element": "BYTE_STREAM_SPLIT"},
            data_page_size=16 << 20,
            write_page_checksum=True,
        )
        return force(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_curves(path: Path, rows: Sequence[int]) -> list[Curve]:
    """Curves at rows of a file, in the order asked for."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            tables = {int(g): file.read_row_group(int(g), use_threads=False) for g in set(groups)}
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamageError(
            f"{path}: a checksum does not match the stored bytes ({error}); restore this file from "
            "a backup"
        ) from error
    return [
        _curve(tables[int(g)], row - int(ends[g]) + sizes[g])
        for row, g in zip(rows, groups, strict=True)
    ]


def _curve(table: pa.Table, row: int) -> Curve:
    values = table.column("values").chunk(0)
    start, stop = values.offsets[row].as_py(), values.offsets[row + 1].as_py()
    return Curve(
        serial=table.column("serial")[row].as_py(),
        station=table.column("station")[row].as_py(),
        program=table.column("program")[row].as_py(),
        step=table.column("step")[row].as_py(),
        time_ns=table.column("time_ns")[row].as_py(),
        channels=_split(table.column("names")[row].as_py(), values.values.to_numpy()[start:stop]),
    )


def _split(names: Sequence[str], values: np.ndarray) -> dict[str, np.ndarray]:
    if not names:
        return {}
    n = len(values) // len(names)
    return {name: values[k * n : (k + 1) * n].copy() for k, name in enumerate(names)}
