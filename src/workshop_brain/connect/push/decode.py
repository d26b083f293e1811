"""Bodies of pushed samples, Arrow or JSON, as columns. Bounds-safe: a body is columns or an error.

JSON comes as rows (``[{path, time, value}]`` or ``{"rows": [...]}``) or as columns
(``{"path": [...], "time_ns": [...], "value": [...]}``). The time is in ``time_ns`` (ns since the
epoch), ``time_ms``, or ``time`` (either, or ISO 8601 with an offset).
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workshop_brain.connect import stamps
from workshop_brain.connect.rows import (
    BOOL,
    FLOAT,
    INTEGER,
    MOST_NAME,
    MOST_TEXT,
    TEXT,
    Faults,
    Rows,
    from_cells,
)
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import Quality, SignalKind

MOST_ROWS = 200_000
MOST_SIGNALS = 10_000
_QUALITY = {"good": Quality.GOOD, "uncertain": Quality.UNCERTAIN, "bad": Quality.BAD}
_MOST_QUALITY = 31
_NAMES = ("path", "signal")
_TIMES = ("time_ns", "time_ms", "time")
_UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_KINDS = {kind.name.lower(): kind for kind in SignalKind}


@dataclass(frozen=True, slots=True)
class Described:
    """What a sender says of one of its signals."""

    unit: str = ""
    kind: SignalKind | None = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Body:
    """One pushed body.

    Attributes
    ----------
    source, session, seq
        The sender's own numbering; seq is 0 when there is none.
    described
        Name to what is said of that signal.
    """

    rows: Rows
    faults: Faults
    source: str = ""
    session: int = 0
    seq: int = 0
    described: dict[str, Described] = field(default_factory=dict)


def session_number(session: object) -> int:
    """A session as a number of 63 bits; texts are hashed.

    >>> session_number(7), session_number("a") == session_number("a")
    (7, True)
    """
    if isinstance(session, int) and not isinstance(session, bool) and 0 <= session < 1 << 63:
        return session
    return digest63(str(session)[:400].encode("utf-8", "replace"))


def digest63(data: bytes) -> int:
    """63 bits of the SHA-256 of some bytes, never 0."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1 or 1


# -- JSON -------------------------------------------------------------------------------------


def decode_json(data: bytes) -> Body:
    """Columns of a JSON body; DecodeError when the body as a whole cannot be understood."""
    body = _parsed(data)
    head: Mapping[str, Any] = body if isinstance(body, dict) else {}
    rows = body if isinstance(body, list) else head.get("rows")
    columns = _columns_of_rows(rows) if rows is not None else head
    faults = Faults()
    found = _json_rows(columns, faults)
    source, seq = head.get("source", ""), head.get("seq", 0)
    if not isinstance(source, str):
        raise DecodeError(f"source must be a text, got {str(source)[:80]!r}")
    if type(seq) is not int or not 0 <= seq < 1 << 62:
        raise DecodeError(f"seq must be a whole number from 1 on, got {str(seq)[:80]!r}")
    described = _described(head.get("signals"))
    return Body(found, faults, source, session_number(head.get("session", 0)), seq, described)


def _parsed(data: bytes) -> Any:
    """The JSON value; numbers that a float cannot hold (1e400) are infinite: the row's matter."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        fault = error
    try:
        body = json.loads(data.decode(), parse_constant=_refuse_constant, parse_int=_whole_or_float)
        orjson.dumps(body)  # texts that are none: lone surrogates
    except (ValueError, TypeError, RecursionError) as error:
        raise DecodeError(f"the body is not JSON: {fault}") from error
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _whole_or_float(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def _columns_of_rows(rows: object) -> dict[str, list[Any]]:
    if not isinstance(rows, list):
        raise DecodeError(f"rows must be a list, got {type(rows).__name__}")
    _bounded(len(rows))
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DecodeError(f"rows[{at}] must be an object, got {str(row)[:80]!r}")
    keys = {key for row in rows for key in row}
    return {key: [row.get(key) for row in rows] for key in keys}


def _bounded(n: int) -> None:
    if n > MOST_ROWS:
        raise DecodeError(f"{n} rows are more than {MOST_ROWS}; send several bodies")


def _json_rows(columns: Mapping[str, Any], faults: Faults) -> Rows:
    lists = {k: columns[k] for k in (*_NAMES, *_TIMES, "value", "text", "quality") if k in columns}
    for key, column in lists.items():
        if not isinstance(column, list):
            raise DecodeError(f"{key} must be a list, got {type(column).__name__}")
    if not lists:
        return from_cells([], [], [], np.zeros(0, np.uint8), [], faults)
    lengths = {key: len(column) for key, column in lists.items()}
    if len(set(lengths.values())) > 1:
        raise DecodeError(f"the columns differ in length: {lengths}")
    n = next(iter(lengths.values()))
    _bounded(n)
    names = next((lists[k] for k in _NAMES if k in lists), None)
    if names is None or not any(k in lists for k in _TIMES):
        raise DecodeError(
            f"a body needs path and one of {', '.join(_TIMES)}, got {', '.join(lists) or 'nothing'}"
        )
    times = _json_times(lists, n, faults)
    values = lists.get("value", [None] * n)
    if "text" in lists:
        values = [v if t is None else t for v, t in zip(values, lists["text"], strict=True)]
    quality = _json_quality(lists.get("quality"), times, faults)
    return from_cells(names, times, values, quality, range(n), faults)


def _json_times(lists: Mapping[str, list[Any]], n: int, faults: Faults) -> list[int | None]:
    out: list[int | None] = []
    for at in range(n):
        key = next((k for k in _TIMES if k in lists and lists[k][at] is not None), _TIMES[-1])
        cell = lists[key][at] if key in lists else None
        stamp = _instant(key, cell)
        if stamp is None or not stamps.FIRST_NS <= stamp < stamps.LAST_NS:
            id = "samples.no_time" if stamp is None else "samples.far_time"
            faults.add(at, key, cell, id)
            stamp = None
        out.append(stamp)
    return out


def _instant(key: str, cell: Any) -> int | None:
    if isinstance(cell, str) and key == "time_ns" and cell.isdecimal() and len(cell) < 20:
        return int(cell)
    if isinstance(cell, str) and key == "time":
        try:
            return stamps.text_ns(cell)
        except ValueError:
            return None
    if isinstance(cell, bool) or not isinstance(cell, (int, float)) or abs(cell) > 1e19:
        return None
    if cell != cell:
        return None
    if key == "time_ns":
        return int(cell)
    return round(cell * 1_000_000) if key == "time_ms" else stamps.epoch_ns(cell)


def _json_quality(
    cells: list[Any] | None, times: list[int | None], faults: Faults
) -> NDArray[np.uint8]:
    """Quality of each row; a bad one is noted, and its time is taken away."""
    out = np.zeros(len(times), np.uint8)
    for at, cell in enumerate(cells or ()):
        if cell is None:
            continue
        if isinstance(cell, str) and cell.lower() in _QUALITY:
            out[at] = _QUALITY[cell.lower()]
        elif type(cell) is int and 0 <= cell <= _MOST_QUALITY:
            out[at] = cell
        else:
            if times[at] is not None:
                faults.add(at, "quality", cell, "samples.bad_quality")
            times[at] = None
    return out


def _described(signals: object) -> dict[str, Described]:
    if signals is None:
        return {}
    if not isinstance(signals, list) or len(signals) > MOST_SIGNALS:
        raise DecodeError(f"signals must be a list of at most {MOST_SIGNALS} objects")
    out = {}
    for at, entry in enumerate(signals):
        name = entry.get("path", entry.get("signal")) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
            raise DecodeError(f"signals[{at}] must be an object with a path")
        unit, kind = entry.get("unit", ""), entry.get("kind")
        if not isinstance(unit, str) or (kind is not None and kind not in _KINDS):
            known = ", ".join(_KINDS)
            raise DecodeError(f"signals[{at}]: unit must be a text, kind one of {known}")
        low, high = (_number(entry.get(k)) for k in ("low", "high"))
        out[name] = Described(unit, _KINDS[kind] if kind else None, low, high)
    return out


def _number(cell: object) -> float:
    is_number = isinstance(cell, (int, float)) and not isinstance(cell, bool)
    return float(cell) if is_number and abs(cell) < 1e300 else 0.0  # type: ignore[arg-type]


# -- Arrow ------------------------------------------------------------------------------------


def decode_arrow(data: bytes) -> Body:
    """Columns of an Arrow IPC stream; DecodeError when it cannot be understood.

    Compressed buffers are refused: their size is only known once they are unpacked.
    """
    try:
        _refuse_compressed(data)
        batches = []
        n = 0
        with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
            for batch in reader:
                batch.validate(full=True)
                n += batch.num_rows
                _bounded(n)
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema)
        return table_body(table)
    except (pa.ArrowException, ValueError, OverflowError, OSError, struct.error) as error:
        raise DecodeError(f"the body is not an Arrow stream that can be read: {error}") from error


def _refuse_compressed(data: bytes) -> None:
    """DecodeError when a record batch of the stream says that its buffers are compressed."""
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(data)):
        if message.type not in ("record batch", "dictionary"):
            continue
        head = message.metadata.to_pybytes()
        table = _child(head, struct.unpack_from("<I", head, 0)[0], 2)
        if message.type == "dictionary" and table:
            table = _child(head, table, 1)
        if table and _slot(head, table, 3):
            raise DecodeError("compressed Arrow buffers are not taken; send the stream plain")


def _slot(head: bytes, table: int, slot: int) -> int:
    """Offset of a flatbuffer table's field; 0 when it is not there."""
    layout = table - struct.unpack_from("<i", head, table)[0]
    if struct.unpack_from("<H", head, layout)[0] < 4 + 2 * slot + 2:
        return 0
    offset: int = struct.unpack_from("<H", head, layout + 4 + 2 * slot)[0]
    return table + offset if offset else 0


def _child(head: bytes, table: int, slot: int) -> int:
    at = _slot(head, table, slot)
    return at + struct.unpack_from("<I", head, at)[0] if at else 0


def table_body(table: pa.Table, first_row: int = 0) -> Body:
    """Columns of an Arrow table in the long form, from HTTP or from a Parquet file."""
    names = next((k for k in _NAMES if k in table.column_names), None)
    if names is None or "time_ns" not in table.column_names:
        raise DecodeError(
            f"columns path (or signal) and time_ns are needed, got {', '.join(table.column_names)}"
        )
    faults, n = Faults(), table.num_rows
    dictionary, code, has_name = _encoded(table[names], names)
    stamp, has_time = _arrow_times(table["time_ns"])
    row = np.arange(first_row, first_row + n, dtype=np.int64)
    value, form, has_value = _arrow_values(table)
    texts, text_code, has_text = _arrow_texts(table)
    value = np.where(has_text, text_code, value)
    form = np.where(has_text, TEXT, form).astype(np.uint8)
    quality, bad_quality = _arrow_quality(table)
    quality = np.where(has_value | has_text, quality, quality | int(Quality.BAD)).astype(np.uint8)
    big = (form == INTEGER) & (np.abs(value) > 2.0**53)
    quality[big] |= int(Quality.UNCERTAIN)
    length = np.array([len(name) for name in dictionary] or [1])
    too_long = np.array([len(text) for text in texts] or [0]) > MOST_TEXT
    bad_name = ~has_name | (length[code] == 0) | (length[code] > MOST_NAME)
    off = (stamp < stamps.FIRST_NS) | (stamp >= stamps.LAST_NS)
    checks: tuple[tuple[str, str, NDArray[np.bool_], dict[str, int]], ...] = (
        ("samples.bad_path", names, bad_name, {"most": MOST_NAME}),
        ("samples.no_time", "time_ns", ~has_time, {}),
        ("samples.far_time", "time_ns", has_time & off, {}),
        ("samples.bad_quality", "quality", bad_quality, {}),
        ("samples.infinite", "value", ~has_text & np.isinf(value), {}),
        ("samples.long_text", "text", has_text & too_long[text_code], {"most": MOST_TEXT}),
    )
    keep = np.ones(n, np.bool_)
    for id, column, wrong, params in checks:
        for at in np.flatnonzero(wrong & keep).tolist():
            shown = _shown(table[column], at) if column in table.column_names else None
            faults.add(int(row[at]), column, shown, id, **params)
        keep &= ~wrong
    rows = Rows(dictionary, code, stamp, value, quality, form, row, texts).where(keep)
    return Body(rows, faults)


def _shown(column: pa.ChunkedArray, at: int) -> Any:
    """A cell for people; a time that has no date as its number."""
    try:
        return column[at].as_py()
    except (ValueError, OverflowError):
        return column[at].cast(pa.int64()).as_py()


def _flat(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    return flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat


def _encoded(
    column: pa.ChunkedArray, name: str
) -> tuple[list[str], NDArray[np.int32], NDArray[np.bool_]]:
    """Distinct texts, their positions row by row (0 for null), and which rows are not null."""
    flat = _flat(column)
    if pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_decode()
    if pa.types.is_null(flat.type):
        flat = flat.cast(pa.string())
    if not (pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type)):
        raise DecodeError(f"{name} must be a column of texts, got {flat.type}")
    valid = np.asarray(pc.is_valid(flat).to_numpy(zero_copy_only=False), np.bool_)
    coded = pc.fill_null(flat, "").dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return coded.dictionary.to_pylist() or [""], codes, valid


def _arrow_times(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Instants, and which are not null; one that 64 bits of ns cannot hold is ``LAST_NS``."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        factor = _UNIT_NS[kind.unit]
        column = column.cast(pa.int64())
    elif pa.types.is_integer(kind):
        factor = 1
    else:
        raise DecodeError(f"time_ns must be int64 or a timestamp, got {kind}")
    flat = _flat(column)
    valid = np.asarray(pc.is_valid(flat).to_numpy(zero_copy_only=False), np.bool_)
    number = pc.fill_null(flat, 0).to_numpy(zero_copy_only=False)
    held = (number <= stamps.LAST_NS // factor) & (number >= -(stamps.LAST_NS // factor))
    whole = np.where(held, number, 0).astype(np.int64) * factor
    return np.where(held, whole, stamps.LAST_NS), valid


def _arrow_values(
    table: pa.Table,
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.bool_]]:
    """Values, how they were written, and which are not null or NaN; texts come from elsewhere."""
    n = table.num_rows
    nothing = np.full(n, np.nan), np.zeros(n, np.uint8), np.zeros(n, np.bool_)
    if "value" not in table.column_names:
        return nothing
    kind = table["value"].type
    if pa.types.is_null(kind) or _is_text(kind):
        return nothing
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DecodeError(f"value must be numbers, true and false, or texts, got {kind}")
    form = BOOL if pa.types.is_boolean(kind) else INTEGER if pa.types.is_integer(kind) else FLOAT
    flat = _flat(table["value"])
    flat = flat.cast(pa.int8()) if form == BOOL else flat
    value = flat.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    value = np.array(value, np.float64)
    return value, np.full(n, form, np.uint8), ~np.isnan(value)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _arrow_texts(
    table: pa.Table,
) -> tuple[list[str], NDArray[np.int32], NDArray[np.bool_]]:
    for name in ("text", "value"):
        if name in table.column_names and _is_text(table[name].type):
            return _encoded(table[name], name)
    n = table.num_rows
    return [""], np.zeros(n, np.int32), np.zeros(n, np.bool_)


def _arrow_quality(table: pa.Table) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    n = table.num_rows
    if "quality" not in table.column_names or pa.types.is_null(table["quality"].type):
        return np.zeros(n, np.uint8), np.zeros(n, np.bool_)
    if not pa.types.is_integer(table["quality"].type):
        raise DecodeError(f"quality must be whole numbers 0 to 31, got {table['quality'].type}")
    flat = pc.fill_null(_flat(table["quality"]).cast(pa.int64()), 0)
    number = flat.to_numpy(zero_copy_only=False)
    bad = (number < 0) | (number > _MOST_QUALITY)
    return np.where(bad, 0, number).astype(np.uint8), bad
