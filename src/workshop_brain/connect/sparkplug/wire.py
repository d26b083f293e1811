"""Sparkplug B payloads from the wire (protobuf, Sparkplug 3.0 chapter 6.4).

Data messages, nearly all of the traffic, go through one kernel straight to sample columns; births
and the rare types through a small reader. Both check every length against the end of the payload.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import DecodeError
from workshop_brain.kernel import kernel


class DataType(IntEnum):
    """Sparkplug data types (6.4.16)."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19


SIGNED_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
TEXT_TYPES = frozenset({DataType.STRING, DataType.TEXT, DataType.UUID})
NUMBER_TYPES = frozenset(DataType(n) for n in range(1, 12)) | {DataType.DATETIME}

Int = int | np.int64
_OK, _BAD = 0, 1
_EXACT = 1 << 53
# What the kernel leaves to Python, per special row.
TEXT, TABLE, UNKNOWN_ALIAS, NAMED, OTHER, EXACT = 1, 2, 3, 4, 5, 6
_GOOD_QUALITY, _BAD_QUALITY, _HISTORICAL = 0, 2, 8
_MIN_METRIC = 2
_NS_PER_MS = 1_000_000
MOST_MS = (1 << 63) // _NS_PER_MS - 1
NO_ROW = -1


@kernel
def _varint(b: NDArray[np.uint8], p: Int, end: Int) -> tuple[Int, Int]:
    """(value as int64 bits, position behind); position -1 when it does not fit."""
    value: Int = np.int64(0)
    shift = np.int64(0)
    while p < end and shift < 64:
        byte = np.int64(b[p])
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, p
        shift += 7
    return value, -1


@kernel
def _skip(b: NDArray[np.uint8], p: Int, end: Int, wire: Int) -> Int:
    """Position behind a field of an unknown number; -1 when it does not fit."""
    if wire == 0:
        _value, p = _varint(b, p, end)
        return p
    if wire == 1:
        return p + 8 if p + 8 <= end else -1
    if wire == 5:
        return p + 4 if p + 4 <= end else -1
    if wire == 2:
        size, p = _varint(b, p, end)
        if p < 0 or size < 0 or size > end - p:
            return -1
        return p + size
    return -1


@kernel
def _word(b: NDArray[np.uint8], p: Int) -> Int:
    return (
        np.int64(b[p])
        | np.int64(b[p + 1]) << 8
        | np.int64(b[p + 2]) << 16
        | np.int64(b[p + 3]) << 24
    )


@kernel
def scan(
    b: NDArray[np.uint8],
    row_of_alias: NDArray[np.int32],
    local: NDArray[np.uint32],
    signed_bits: NDArray[np.uint8],
    head: NDArray[np.int64],
    signal: NDArray[np.uint32],
    time_ns: NDArray[np.int64],
    value: NDArray[np.float64],
    bits: NDArray[np.int64],
    quality: NDArray[np.uint8],
    special: NDArray[np.int64],
    single: NDArray[np.float32],
    single_bits: NDArray[np.uint32],
) -> tuple[Int, Int]:
    """(state, position) of a walk over one payload.

    head: 0 payload ms or -1, 1 seq or -1, 2 sample rows, 3 special rows, 4 bdSeq candidates.
    special: rows of (kind, sample row or -1, start, size, alias, time ms, flags, integer).
    ``bits`` is ``value`` and ``single_bits`` is ``single`` seen as integers.
    """
    end: Int = np.int64(len(b))
    head[0] = -1
    head[1] = -1
    n = np.int64(0)
    m = np.int64(0)
    p: Int = np.int64(0)
    key: Int = np.int64(0)
    begin: Int = np.int64(0)
    stop: Int = np.int64(0)
    alias: Int = np.int64(0)
    stamp: Int = np.int64(0)
    flags: Int = np.int64(0)
    kind: Int = np.int64(0)
    at: Int = np.int64(0)
    length: Int = np.int64(0)
    raw: Int = np.int64(0)
    while p < end:
        key, p = _varint(b, p, end)
        if p < 0:
            return _BAD, end
        number, wire = key >> 3, key & 7
        if number == 1 and wire == 0:
            head[0], p = _varint(b, p, end)
        elif number == 3 and wire == 0:
            head[1], p = _varint(b, p, end)
        elif number == 2 and wire == 2:
            size, p = _varint(b, p, end)
            if p < 0 or size < 0 or size > end - p:
                return _BAD, end
            begin, stop = p, p + size
            alias, stamp, flags = np.int64(-1), np.int64(-1), np.int64(0)
            kind, at, length, raw = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
            while p < stop:
                if b[p] < 0x80:
                    key = np.int64(b[p])
                    p += 1
                else:
                    key, p = _varint(b, p, stop)
                    if p < 0:
                        return _BAD, begin
                number, wire = key >> 3, key & 7
                if wire == 0:
                    got, p = _varint(b, p, stop)
                    if p < 0:
                        return _BAD, begin
                    if number == 2:
                        alias = got
                    elif number == 3:
                        stamp = got
                    elif number == 5:
                        flags |= np.int64(1) if got else np.int64(0)
                    elif number == 7:
                        flags |= np.int64(2) if got else np.int64(0)
                    elif number == 10 or number == 11 or number == 14:
                        kind, raw = number, got
                elif wire == 1:
                    if p + 8 > stop:
                        return _BAD, begin
                    if number == 13:
                        kind = number
                        raw = _word(b, p) | _word(b, p + 4) << 32
                    p += 8
                elif wire == 5:
                    if p + 4 > stop:
                        return _BAD, begin
                    if number == 12:
                        kind, raw = number, _word(b, p)
                    p += 4
                elif wire == 2:
                    length_here, p = _varint(b, p, stop)
                    if p < 0 or length_here < 0 or length_here > stop - p:
                        return _BAD, begin
                    if number >= 15 and number <= 19:
                        kind, at, length = number, p, length_here
                    p += length_here
                else:
                    return _BAD, begin
            what = 0
            row = np.int64(-1)
            if alias < 0:
                what = NAMED
            elif alias >= len(row_of_alias) or row_of_alias[alias] < 0:
                what = UNKNOWN_ALIAS
            else:
                row = np.int64(row_of_alias[alias])
                if kind == 17:
                    what = TABLE
                elif kind == 16 or kind >= 18:
                    what = OTHER
            if what != 0:
                special[m, 0], special[m, 1] = what, -1
                special[m, 2], special[m, 3] = begin, size
                special[m, 4], special[m, 5], special[m, 6] = alias, stamp, flags
                m += 1
                continue
            signal[n] = local[row]
            time_ns[n] = stamp
            q = _HISTORICAL if flags & 1 else _GOOD_QUALITY
            value[n] = np.nan
            if flags & 2 or kind == 0:
                q |= _BAD_QUALITY
            elif kind == 13 or kind == 12:
                if kind == 13:
                    bits[n] = raw
                else:
                    single_bits[0] = raw
                    value[n] = single[0]
                if value[n] - value[n] != 0.0:  # NaN and infinity are no values
                    value[n] = np.nan
                    q |= _BAD_QUALITY
            elif kind == 14:
                value[n] = 1.0 if raw else 0.0
            elif kind == 15:
                special[m, 0], special[m, 1] = TEXT, n
                special[m, 2], special[m, 3], special[m, 4] = at, length, alias
                m += 1
            else:
                width = np.int64(signed_bits[row])
                if width > 0 and width < 64:
                    shift = 64 - width
                    raw = (raw << shift) >> shift
                value[n] = np.float64(raw)
                if raw < 0 and width == 0:
                    value[n] = np.float64(raw) + 18446744073709551616.0
                if raw > _EXACT or raw < -_EXACT:
                    special[m, 0], special[m, 1] = EXACT, n
                    special[m, 4], special[m, 6] = alias, 1 if width == 0 else 0
                    special[m, 7] = raw
                    m += 1
            quality[n] = q
            n += 1
        else:
            p = _skip(b, p, end, wire)
        if p < 0:
            return _BAD, end
    whole = head[0]
    for i in range(n):
        stamp = time_ns[i] if time_ns[i] >= 0 else whole
        if stamp < 0 or stamp > MOST_MS:
            time_ns[i] = 0
            quality[i] |= 1
        else:
            time_ns[i] = stamp * _NS_PER_MS
    head[2] = n
    head[3] = m
    return _OK, p


@dataclass(slots=True)
class AliasTable:
    """What one edge node's births said, as columns for the kernel.

    Attributes
    ----------
    row_of_alias : int32, position in the other columns, -1 for none
    local : uint32, the collector's local signal id
    signed_bits : uint8, width of a signed integer, 0 for all else
    """

    row_of_alias: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    local: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    signed_bits: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


@dataclass(frozen=True, slots=True)
class Data:
    """One data message as columns; ``special`` holds what Python must look at."""

    time_ms: int
    seq: int
    signal: NDArray[np.uint32]
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    special: NDArray[np.int64]


MOST_ALIASES = 1 << 22
MOST_INFLATED = 16 * 1024 * 1024
_COMPRESSED = b"SPBV1.0_COMPRESSED"


def warm() -> None:
    """Load (or, the first time, compile) the kernel, so that no message waits for it."""
    read_data(b"", AliasTable())


def read_data(payload: bytes, table: AliasTable) -> Data:
    """A data payload as sample columns; DecodeError when it is not a Sparkplug payload."""
    room = len(payload) // _MIN_METRIC + 1
    head = np.zeros(5, np.int64)
    signal, time_ns = np.empty(room, np.uint32), np.empty(room, np.int64)
    value, quality = np.empty(room, np.float64), np.empty(room, np.uint8)
    special = np.empty((room, 8), np.int64)
    single = np.zeros(1, np.float32)
    state, at = scan(
        np.frombuffer(payload, np.uint8), table.row_of_alias, table.local, table.signed_bits,
        head, signal, time_ns, value, value.view(np.int64), quality, special,
        single, single.view(np.uint32),
    )  # fmt: skip
    if state != _OK:
        raise DecodeError(f"Sparkplug: payload of {len(payload)} bytes breaks off near byte {at}")
    n, m = int(head[2]), int(head[3])
    return Data(
        int(head[0]), int(head[1]), signal[:n], time_ns[:n], value[:n], quality[:n], special[:m]
    )


# --- births and rare types ---

Scalar = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """A DataSet of numbers: column names and float32 columns."""

    columns: dict[str, NDArray[np.float32]]


@dataclass(slots=True)
class Metric:
    """One metric; ``value`` is None when null or of a type that is no signal."""

    name: str = ""
    alias: int = -1
    time_ms: int = -1
    datatype: int = 0
    historical: bool = False
    null: bool = False
    value: Scalar = None
    properties: dict[str, Scalar] = field(default_factory=dict)
    table: Table | None = None


@dataclass(slots=True)
class Payload:
    """One payload, read in full."""

    time_ms: int = -1
    seq: int = -1
    metrics: list[Metric] = field(default_factory=list)


def inflated(payload: bytes) -> bytes:
    """A payload that libraries of the specification's authors have compressed, as it was before;
    any other as it is. DecodeError when it cannot be, or is too large.

    The mark stands near the beginning: before it only times, numbers and one small metric.
    """
    if payload.find(_COMPRESSED, 0, 128) < 0:
        return payload
    body = b""
    for number, wire, at, size in fields(payload, 0, len(payload)):
        if number == 5 and wire == 2:
            body = payload[at : at + size]
    unpack = zlib.decompressobj(wbits=47)  # zlib or gzip, by its head
    try:
        whole = unpack.decompress(body, MOST_INFLATED)
    except zlib.error as error:
        raise DecodeError(f"Sparkplug: compressed payload: {error}") from error
    if not unpack.eof:
        raise DecodeError(
            f"Sparkplug: compressed payload breaks off, or is larger than {MOST_INFLATED} bytes"
        )
    return whole


Fields = Iterator[tuple[int, int, int, int]]


def fields(b: bytes, p: int, end: int) -> Fields:
    """(number, wire type, value or start, size) of each field of one message."""
    while p < end:
        key, p = _read_varint(b, p, end)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, p = _read_varint(b, p, end)
            yield number, wire, value, 0
        elif wire == 2:
            size, p = _read_varint(b, p, end)
            if size > end - p:
                raise DecodeError(
                    f"Sparkplug: field {number} of {size} bytes ends behind byte {end}"
                )
            yield number, wire, p, size
            p += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if p + size > end:
                raise DecodeError(f"Sparkplug: field {number} ends behind byte {end}")
            yield number, wire, p, size
            p += size
        else:
            raise DecodeError(f"Sparkplug: wire type {wire} at byte {p}")


def _read_varint(b: bytes, p: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while p < end and shift < 64:
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, p
        shift += 7
    raise DecodeError(f"Sparkplug: number breaks off at byte {p}")


def read_payload(b: bytes) -> Payload:
    """A payload in full: births, deaths and commands."""
    out = Payload()
    for number, wire, at, size in fields(b, 0, len(b)):
        if number == 1 and wire == 0:
            out.time_ms = at
        elif number == 3 and wire == 0:
            out.seq = at
        elif number == 2 and wire == 2:
            out.metrics.append(read_metric(b, at, at + size))
    return out


def read_metric(b: bytes, p: int, end: int) -> Metric:
    """One metric in ``b[p:end]``."""
    out = Metric()
    raw: tuple[int, int, int] | None = None
    for number, wire, at, size in fields(b, p, end):
        if number == 1 and wire == 2:
            out.name = _text(b, at, size)
        elif number in (2, 3, 4, 5, 7) and wire == 0:
            _mark(out, number, at)
        elif number == 9 and wire == 2:
            out.properties = _properties(b, at, at + size)
        elif number == 17 and wire == 2:
            out.table = read_table(b, at, at + size)
        elif 10 <= number <= 15:
            raw = number, at, size
    if raw is not None and not out.null:
        out.value = _scalar(b, *raw, out.datatype)
    return out


def _mark(metric: Metric, number: int, value: int) -> None:
    if number == 2:
        metric.alias = value
    elif number == 3:
        metric.time_ms = value
    elif number == 4:
        metric.datatype = value
    elif number == 5:
        metric.historical = bool(value)
    else:
        metric.null = bool(value)


def _text(b: bytes, at: int, size: int) -> str:
    return b[at : at + size].decode("utf-8", "replace")


def _scalar(b: bytes, number: int, at: int, size: int, datatype: int) -> Scalar:
    if number == 12 and size == 4:
        return float(struct.unpack_from("<f", b, at)[0])
    if number == 13 and size == 8:
        return float(struct.unpack_from("<d", b, at)[0])
    if number == 14:
        return bool(at)
    if number == 15:
        return _text(b, at, size)
    width = {1: 8, 2: 16, 3: 32, 4: 64}.get(datatype, 0)
    if width and at & (1 << (width - 1)):
        return (at & ((1 << width) - 1)) - (1 << width)
    return at


# PropertyValue numbers its values otherwise than Metric: 3 int, 4 long, 5 float, 6 double,
# 7 boolean, 8 string.
_PROPERTY_FIELDS = {3: 10, 4: 11, 5: 12, 6: 13, 7: 14, 8: 15}


def _properties(b: bytes, p: int, end: int) -> dict[str, Scalar]:
    keys: list[str] = []
    values: list[Scalar] = []
    for number, wire, at, size in fields(b, p, end):
        if number == 1 and wire == 2:
            keys.append(_text(b, at, size))
        elif number == 2 and wire == 2:
            values.append(_property(b, at, at + size))
    return dict(zip(keys, values, strict=False))


def _property(b: bytes, p: int, end: int) -> Scalar:
    datatype, value = 0, None
    raw: tuple[int, int, int] | None = None
    for number, wire, at, size in fields(b, p, end):
        if number == 1 and wire == 0:
            datatype = at
        elif number in _PROPERTY_FIELDS:
            raw = _PROPERTY_FIELDS[number], at, size
    if raw is not None:
        value = _scalar(b, *raw, datatype)
    return value


def read_table(b: bytes, p: int, end: int) -> Table:
    """A DataSet as float32 columns; texts in it become NaN."""
    names: list[str] = []
    rows: list[tuple[int, int]] = []
    for number, wire, at, size in fields(b, p, end):
        if number == 2 and wire == 2:
            names.append(_text(b, at, size))
        elif number == 4 and wire == 2:
            rows.append((at, size))
            if len(rows) == 1:
                quick = _even_rows(b, at, size, end, len(names))
                if quick is not None:
                    return Table(dict(zip(names, quick, strict=True)))
    values = np.full((len(names), len(rows)), np.nan, np.float32)
    for k, (at, size) in enumerate(rows):
        cells = [_cell(b, s, s + z) for n, w, s, z in fields(b, at, at + size) if n == 1 and w == 2]
        if len(cells) != len(names):
            raise DecodeError(f"Sparkplug: DataSet row of {len(cells)} cells, {len(names)} columns")
        values[:, k] = cells
    return Table(dict(zip(names, values, strict=True)))


def _even_rows(
    b: bytes, at: int, size: int, end: int, width: int
) -> list[NDArray[np.float32]] | None:
    """Columns of rows that are all float cells of one layout up to the end, else None."""
    cell = 7  # 0x0a 0x05 0x1d and four bytes
    if size != cell * width or width == 0:
        return None
    lead = 1 + (1 if size < 0x80 else 2)
    stride, start = lead + size, at - lead
    if size >= 0x4000 or (end - start) % stride:
        return None
    matrix = np.frombuffer(b, np.uint8, end - start, start).reshape(-1, stride)
    cells = matrix[:, lead:].reshape(len(matrix), width, cell)
    frame = cells[:, :, :3]
    if not ((matrix[:, :lead] == matrix[0, :lead]).all() and (frame == (0x0A, 5, 0x1D)).all()):
        return None
    numbers = np.ascontiguousarray(cells[:, :, 3:]).view("<f4")[:, :, 0]
    return [np.ascontiguousarray(numbers[:, k], np.float32) for k in range(width)]


def _cell(b: bytes, p: int, end: int) -> float:
    for number, _, at, size in fields(b, p, end):
        if 1 <= number <= 5:
            value = _scalar(b, 9 + number, at, size, 0)
            return float(value) if isinstance(value, (int, float)) else float("nan")
    return float("nan")


# --- writing commands ---


def rebirth_command(time_ms: int) -> bytes:
    """NCMD payload that asks an edge node for its births (Sparkplug 3.0, 6.4.6)."""
    name = b"Node Control/Rebirth"
    metric = b"\x0a" + _number(len(name)) + name + b"\x18" + _number(time_ms)
    metric += b"\x20" + _number(DataType.BOOLEAN) + b"\x70\x01"
    return b"\x08" + _number(time_ms) + b"\x12" + _number(len(metric)) + metric


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
