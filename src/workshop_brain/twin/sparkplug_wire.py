"""Sparkplug B payloads on the wire: protobuf fields written from arrays, and a small reader.

The wire is the public protobuf format of the Sparkplug B payload (Sparkplug 3.0, chapter 6):
Payload{timestamp=1, metrics=2, seq=3}, Metric{name=1, alias=2, timestamp=3, datatype=4,
is_historical=5, is_null=7, properties=9, int=10, long=11, float=12, double=13, boolean=14,
string=15, dataset=17}. Bulk data goes through one numba kernel; births and curves through Python.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import DecodeError
from workshop_brain.kernel import kernel


class DataType(IntEnum):
    """Sparkplug data types in use here (chapter 6.4.16)."""

    INT32 = 3
    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATASET = 16
    FLOAT = 9


MAX_METRIC_BYTES = 40
_UINT32, _UINT64 = 1 << 32, 1 << 64
_INT32, _INT64, _DOUBLE, _BOOLEAN = 3, 4, 10, 11

PropertyValue = str | float | int | bool
Scalar = str | float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A small table: column names and rows of numbers or texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One decoded metric; ``value`` is None when it is null."""

    name: str = ""
    alias: int | None = None
    time_ms: int = 0
    datatype: int = 0
    historical: bool = False
    value: Scalar | DataSet | None = None
    properties: dict[str, PropertyValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One decoded payload; ``seq`` is None when absent (NDEATH, commands)."""

    time_ms: int = 0
    seq: int | None = None
    metrics: tuple[Metric, ...] = ()


# --- the fast path ---------------------------------------------------------------------------


@kernel
def _varint(out: NDArray[np.uint8], pos: int, value: int) -> int:
    rest = np.uint64(value)
    while rest >= np.uint64(0x80):
        out[pos] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        rest = rest >> np.uint64(7)
        pos += 1
    out[pos] = np.uint8(rest)
    return pos + 1


@kernel
def encode_metrics(
    out: NDArray[np.uint8],
    signal: NDArray[np.int64],
    alias: NDArray[np.int64],
    datatype: NDArray[np.uint8],
    time_ms: NDArray[np.int64],
    value: NDArray[np.float64],
    bits: NDArray[np.uint64],
    historical: bool,
) -> int:
    """Write one alias-only metric per row into ``out``; returns the number of bytes.

    Parameters
    ----------
    out : uint8, at least ``MAX_METRIC_BYTES`` per row
    signal, time_ms, value, bits : one entry per row; ``bits`` is ``value.view(uint64)``
    alias, datatype : one entry per signal; INT32, INT64, DOUBLE and BOOLEAN only
    """
    pos = 0
    for row in range(signal.shape[0]):
        which = signal[row]
        kind = datatype[which]
        out[pos] = 0x12
        start = pos + 2  # every metric here is shorter than 128 bytes
        at = start
        out[at] = 0x10
        at = _varint(out, at + 1, int(alias[which]))
        out[at] = 0x18
        at = _varint(out, at + 1, int(time_ms[row]))
        if historical:
            out[at] = 0x28
            out[at + 1] = 1
            at += 2
        if kind == _DOUBLE:
            out[at] = 0x69
            word = bits[row]
            for k in range(8):
                out[at + 1 + k] = np.uint8((word >> np.uint64(8 * k)) & np.uint64(0xFF))
            at += 9
        elif kind == _BOOLEAN:
            out[at] = 0x70
            out[at + 1] = 1 if value[row] != 0.0 else 0
            at += 2
        elif kind == _INT32:
            out[at] = 0x50
            at = _varint(out, at + 1, int(value[row]) & 0xFFFFFFFF)
        else:
            out[at] = 0x58
            at = _varint(out, at + 1, int(value[row]))
        out[pos + 1] = np.uint8(at - start)
        pos = at
    return pos


def data_payload(
    *,
    time_ms: int,
    seq: int,
    signal: NDArray[np.int64],
    alias: NDArray[np.int64],
    datatype: NDArray[np.uint8],
    sample_ms: NDArray[np.int64],
    value: NDArray[np.float64],
    historical: bool = False,
) -> bytes:
    """A DDATA payload of numeric metrics by alias.

    ``signal``, ``sample_ms`` and ``value`` have one entry per sample; ``alias`` and ``datatype``
    one per signal.
    """
    out = np.empty(len(signal) * MAX_METRIC_BYTES + 1, np.uint8)
    value = np.ascontiguousarray(value, np.float64)
    size = encode_metrics(
        out, signal, alias, datatype, sample_ms, value, value.view(np.uint64), historical
    )
    return payload_bytes(time_ms, [out[:size].tobytes()], seq)


# --- births, deaths, curves ------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Base-128 bytes of an unsigned 64-bit integer.

    >>> varint(300).hex()
    'ac02'
    """
    if not 0 <= value < _UINT64:
        raise ValueError(f"varint: must be 0 to 2**64-1, got {value}")
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def _block(tag: int, body: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(body)) + body


def payload_bytes(time_ms: int | None, metrics: Sequence[bytes], seq: int | None) -> bytes:
    """A payload from framed metrics (each one already tag + length + body)."""
    head = b"" if time_ms is None else _number(1, time_ms)
    tail = b"" if seq is None else _number(3, seq)
    return b"".join((head, *metrics, tail))


def property_set(properties: dict[str, PropertyValue]) -> bytes:
    """The body of a PropertySet."""
    keys = b"".join(_block(1, key.encode()) for key in properties)
    return keys + b"".join(_block(2, _property(value)) for value in properties.values())


def _property(value: PropertyValue) -> bytes:
    if isinstance(value, bool):
        return _number(1, DataType.BOOLEAN) + _number(7, int(value))
    if isinstance(value, int):
        return _number(1, DataType.INT64) + _number(4, value % _UINT64)
    if isinstance(value, float):
        return _number(1, DataType.DOUBLE) + varint(6 << 3 | 1) + struct.pack("<d", value)
    return _number(1, DataType.STRING) + _block(8, value.encode())


def scalar(datatype: int, value: Scalar) -> bytes:
    """The value field of a metric for a scalar data type."""
    if datatype == DataType.BOOLEAN:
        return _number(14, int(bool(value)))
    if datatype == DataType.STRING:
        return _block(15, str(value).encode())
    if datatype == DataType.DOUBLE:
        return varint(13 << 3 | 1) + struct.pack("<d", value)
    if datatype == DataType.FLOAT:
        return varint(12 << 3 | 5) + struct.pack("<f", value)
    if datatype == DataType.INT32:
        return _number(10, int(value) % _UINT32)
    if datatype in (DataType.INT64, DataType.UINT64):
        return _number(11, int(value) % _UINT64)
    raise ValueError(f"Sparkplug data type {datatype} is not a scalar written here")


def metric_bytes(
    *,
    name: str | None = None,
    alias: int | None = None,
    time_ms: int | None = None,
    datatype: int | None = None,
    historical: bool = False,
    properties: bytes = b"",
    value: bytes | None = None,
) -> bytes:
    """One framed metric; ``properties`` and ``value`` are encoded already, None means null."""
    parts = [] if name is None else [_block(1, name.encode())]
    if alias is not None:
        parts.append(_number(2, alias))
    if time_ms is not None:
        parts.append(_number(3, time_ms))
    if datatype is not None:
        parts.append(_number(4, datatype))
    if historical:
        parts.append(_number(5, 1))
    if value is None:
        parts.append(_number(7, 1))
    if properties:
        parts.append(_block(9, properties))
    if value is not None:
        parts.append(value)
    return _block(2, b"".join(parts))


def float_table(columns: dict[str, NDArray[np.float32]]) -> bytes:
    """The value field of a DataSet metric whose columns are float32 arrays of one length.

    Every row has the same size, so all rows are written as one byte matrix.
    """
    names, arrays = list(columns), list(columns.values())
    width, rows = len(names), len(arrays[0]) if arrays else 0
    head = _number(1, width) + b"".join(_block(2, n.encode()) for n in names)
    head += _number(3, DataType.FLOAT) * width
    row = b"\x0a\x05\x1d\0\0\0\0" * width
    frame = _block(4, row)
    lead = len(frame) - len(row)
    matrix = np.tile(np.frombuffer(frame, np.uint8), (rows, 1))
    for k, column in enumerate(arrays):
        words = np.ascontiguousarray(column, np.dtype("<f4")).view(np.uint8).reshape(rows, 4)
        matrix[:, lead + 7 * k + 3 : lead + 7 * k + 7] = words
    return _block(17, head + matrix.tobytes())


# --- the reader ------------------------------------------------------------------------------


class _Reader:
    """Bounds-checked walk over the fields of one protobuf message."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0, end: int | None = None) -> None:
        self.data, self.pos, self.end = data, pos, len(data) if end is None else end

    def varint(self) -> int:
        value = shift = 0
        while self.pos < self.end and shift < 70:
            byte = self.data[self.pos]
            self.pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value % _UINT64
            shift += 7
        raise DecodeError(f"Sparkplug payload: cut or too long number at byte {self.pos}")

    def take(self, size: int) -> bytes:
        if size > self.end - self.pos:
            raise DecodeError(
                f"Sparkplug payload: field of {size} bytes at byte {self.pos} passes the end"
            )
        chunk = self.data[self.pos : self.pos + size]
        self.pos += size
        return chunk

    def fields(self) -> list[tuple[int, int | bytes]]:
        """(field number, integer or bytes) of every field; fixed fields come as their bytes."""
        out: list[tuple[int, int | bytes]] = []
        while self.pos < self.end:
            key = self.varint()
            number, wire = key >> 3, key & 7
            if wire == 0:
                out.append((number, self.varint()))
            elif wire == 1:
                out.append((number, self.take(8)))
            elif wire == 2:
                out.append((number, self.take(self.varint())))
            elif wire == 5:
                out.append((number, self.take(4)))
            else:
                raise DecodeError(f"Sparkplug payload: wire type {wire} at byte {self.pos}")
        return out


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise DecodeError("Sparkplug payload: a number field holds bytes")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise DecodeError("Sparkplug payload: a block field holds a number")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"Sparkplug payload: text is not UTF-8: {error}") from error


def _real(value: int | bytes) -> float:
    data = _bytes(value)
    if len(data) not in (4, 8):
        raise DecodeError(f"Sparkplug payload: a real number of {len(data)} bytes")
    number: float = struct.unpack("<d" if len(data) == 8 else "<f", data)[0]
    return number


def _signed(value: int, bits: int) -> int:
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value


def _decode_property(data: bytes) -> PropertyValue:
    value: PropertyValue = ""
    for number, raw in _Reader(data).fields():
        if number in (3, 4):
            value = _signed(_integer(raw), 64 if number == 4 else 32)
        elif number in (5, 6):
            value = _real(raw)
        elif number == 7:
            value = bool(_integer(raw))
        elif number == 8:
            value = _text(raw)
    return value


def _decode_properties(data: bytes) -> dict[str, PropertyValue]:
    keys: list[str] = []
    values: list[PropertyValue] = []
    for number, raw in _Reader(data).fields():
        if number == 1:
            keys.append(_text(raw))
        elif number == 2:
            values.append(_decode_property(_bytes(raw)))
    if len(keys) != len(values):
        raise DecodeError(f"Sparkplug payload: {len(keys)} property keys, {len(values)} values")
    return dict(zip(keys, values, strict=True))


def _element(data: bytes) -> Scalar:
    value: Scalar = 0
    for number, raw in _Reader(data).fields():
        if number in (1, 2):
            value = _integer(raw)
        elif number in (3, 4):
            value = _real(raw)
        elif number == 5:
            value = bool(_integer(raw))
        elif number == 6:
            value = _text(raw)
    return value


def _decode_table(data: bytes) -> DataSet:
    columns: list[str] = []
    rows: list[tuple[Scalar, ...]] = []
    for number, raw in _Reader(data).fields():
        if number == 2:
            columns.append(_text(raw))
        elif number == 4:
            cells = _Reader(_bytes(raw)).fields()
            rows.append(tuple(_element(_bytes(cell)) for n, cell in cells if n == 1))
    return DataSet(columns=tuple(columns), rows=tuple(rows))


def _decode_metric(data: bytes) -> Metric:
    name, alias, time_ms, datatype, historical = "", None, 0, 0, False
    value: Scalar | DataSet | None = None
    properties: dict[str, PropertyValue] = {}
    for number, raw in _Reader(data).fields():
        if number == 1:
            name = _text(raw)
        elif number == 2:
            alias = _integer(raw)
        elif number == 3:
            time_ms = _integer(raw)
        elif number == 4:
            datatype = _integer(raw)
        elif number == 5:
            historical = bool(_integer(raw))
        elif number == 9:
            properties = _decode_properties(_bytes(raw))
        elif number == 10:
            value = _signed(_integer(raw), 32)
        elif number == 11:
            value = _signed(_integer(raw), 64)
        elif number in (12, 13):
            value = _real(raw)
        elif number == 14:
            value = bool(_integer(raw))
        elif number == 15:
            value = _text(raw)
        elif number == 17:
            value = _decode_table(_bytes(raw))
    return Metric(
        name=name,
        alias=alias,
        time_ms=time_ms,
        datatype=datatype,
        historical=historical,
        value=value,
        properties=properties,
    )


def decode(data: bytes) -> Payload:
    """The payload of an MQTT message; DecodeError on bytes that do not follow the format."""
    time_ms, seq, metrics = 0, None, []
    for number, raw in _Reader(data).fields():
        if number == 1:
            time_ms = _integer(raw)
        elif number == 2:
            metrics.append(_decode_metric(_bytes(raw)))
        elif number == 3:
            seq = _integer(raw)
    return Payload(time_ms=time_ms, seq=seq, metrics=tuple(metrics))
