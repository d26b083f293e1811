"""The hand-over between a collector and the brain: frames, both sides.

A frame is ``u32 length, u8 type, body``; the length counts type and body; integers are
little-endian. The table of types is in docs/reference/contracts.md section 2.
"""

import asyncio
import functools
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from workshop_brain.errors import DecodeError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Samples, SignalDef, SignalKind

MAX_FRAME = 64 * 1024 * 1024
PULSE_S = 0.5
LOST_S = 2.0
REMOTE_LOST_S = 5.0
"""As LOST_S, over a link to another host."""
BATCH_ROWS = 1000
BATCH_S = 0.05

_HEAD = struct.Struct("<IB")
_BATCH = struct.Struct("<QqI")
_CURVE = struct.Struct("<QI")
_SEQ = struct.Struct("<Q")
_PACKED = struct.Struct("<BI")
_ROW = 4 + 8 + 8 + 1
_CHUNK = 64 * 1024
_PACK_FROM = 200


class FrameType(IntEnum):
    """What a frame carries."""

    HELLO = 1
    WELCOME = 2
    DECLARE = 3
    TEXTS = 4
    BATCH = 5
    ACK = 6
    EVENT = 7
    CURVE = 8
    PULSE = 9
    REFUSED = 10
    PACKED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How a collector on another host reaches the brain.

    Attributes
    ----------
    context
        Shows our certificate and trusts the brain's own authority alone.
    server_name
        The name in the brain's certificate, whatever the address is.
    lost_s
        Silence after which a side takes the link for dead.
    """

    context: ssl.SSLContext
    server_name: str
    lost_s: float = REMOTE_LOST_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The brain's answer to a HELLO: what it has of that session already.

    Attributes
    ----------
    last_seq
        Highest durable sequence number.
    signals, texts
        How many of the session's signals and texts it knows, from the first on.
    """

    last_seq: int
    signals: int = 0
    texts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First frame of a session.

    Attributes
    ----------
    session
        Random 63-bit number of one collector start; sequence numbers count within it.
    """

    source: str
    protocol: str
    session: int
    version: int = 1
    pid: int = 0
    token: str = ""


def frame(kind: FrameType, body: bytes = b"") -> bytes:
    """One frame, ready to be written.

    >>> frame(FrameType.PULSE).hex()
    '0100000009'
    """
    return _HEAD.pack(len(body) + 1, kind) + body


def pack_json(kind: FrameType, content: object) -> bytes:
    """A frame whose body is JSON."""
    return frame(kind, orjson.dumps(content))


def unpack_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; DecodeError when it is none."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"hand-over: body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DecodeError(f"hand-over: body must be a JSON object, got {type(content).__name__}")
    return content


def pack_hello(hello: Hello) -> bytes:
    """HELLO frame."""
    return pack_json(
        FrameType.HELLO,
        {
            "source": hello.source,
            "protocol": hello.protocol,
            "session": hello.session,
            "version": hello.version,
            "pid": hello.pid,
            "token": hello.token,
        },
    )


def unpack_hello(body: bytes) -> Hello:
    """HELLO body; DecodeError when a field is missing or of the wrong type."""
    content = unpack_json(body)
    try:
        return Hello(
            source=str(content["source"]),
            protocol=str(content["protocol"]),
            session=int(content["session"]),
            version=int(content.get("version", 1)),
            pid=int(content.get("pid", 0)),
            token=str(content.get("token", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad HELLO: {error!r}") from error


def pack_welcome(welcome: Welcome) -> bytes:
    """WELCOME frame."""
    return pack_json(
        FrameType.WELCOME,
        {"last_seq": welcome.last_seq, "signals": welcome.signals, "texts": welcome.texts},
    )


def unpack_welcome(body: bytes) -> Welcome:
    """WELCOME body."""
    content = unpack_json(body)
    try:
        return Welcome(
            last_seq=int(content["last_seq"]),
            signals=int(content.get("signals", 0)),
            texts=int(content.get("texts", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad WELCOME: {error!r}") from error


def pack_refused(reason: str) -> bytes:
    """REFUSED frame: why the brain lets this collector go; the last frame of a link."""
    return pack_json(FrameType.REFUSED, {"reason": reason})


def unpack_refused(body: bytes) -> str:
    """The reason of a REFUSED body."""
    return str(unpack_json(body).get("reason", "no reason given"))


def packed(whole: bytes) -> bytes:
    """A frame as it travels over a remote link: compressed where that makes it smaller.

    zstd level 1: measured on batches of the reference plant, 3 times smaller for 48 us per 1,000
    rows (bench/remote_link.py).
    """
    if len(whole) < _PACK_FROM:
        return whole
    small = _codec().compress(memoryview(whole)[_HEAD.size :], asbytes=True)
    head = _PACKED.pack(whole[4], len(whole) - _HEAD.size)
    smaller = frame(FrameType.PACKED, head + small)
    return smaller if len(smaller) < len(whole) else whole


def unpacked(body: bytes) -> tuple[FrameType, bytes]:
    """(type, body) of the frame in a PACKED body; DecodeError when it is none."""
    if len(body) < _PACKED.size:
        raise DecodeError(f"hand-over: PACKED of {len(body)} bytes is shorter than its head")
    kind, size = _PACKED.unpack_from(body)
    if size > MAX_FRAME or kind == FrameType.PACKED:
        raise DecodeError(f"hand-over: PACKED holds a frame of type {kind} and {size} bytes")
    try:
        whole = _codec().decompress(memoryview(body)[_PACKED.size :], size, asbytes=True)
        if len(whole) != size:
            raise DecodeError(f"hand-over: PACKED has {len(whole)} bytes instead of {size}")
        return FrameType(kind), whole
    except (OSError, ValueError) as error:
        raise DecodeError(f"hand-over: PACKED cannot be read: {error}") from error


@functools.cache
def _codec() -> Any:
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=1)


def pack_declare(first: int, signals: Sequence[SignalDef]) -> bytes:
    """DECLARE frame: the signals get the local ids ``first ..``."""
    rows = [
        {
            "path": s.path,
            "kind": int(s.kind),
            "unit": s.unit,
            "low": s.low,
            "high": s.high,
            "address": s.address,
        }
        for s in signals
    ]
    return pack_json(FrameType.DECLARE, {"first": first, "signals": rows})


def unpack_declare(body: bytes, *, source: str) -> tuple[int, list[SignalDef]]:
    """DECLARE body as (first local id, signals)."""
    content = unpack_json(body)
    try:
        signals = [
            SignalDef(
                path=str(row["path"]),
                kind=SignalKind(row["kind"]),
                unit=str(row.get("unit", "")),
                low=float(row.get("low", 0.0)),
                high=float(row.get("high", 1.0)),
                source=source,
                address=str(row.get("address", "")),
            )
            for row in content["signals"]
        ]
        return int(content["first"]), signals
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad DECLARE of {source!r}: {error}") from error


def pack_texts(first: int, texts: Sequence[str]) -> bytes:
    """TEXTS frame: the texts get the local codes ``first ..``."""
    return pack_json(FrameType.TEXTS, {"first": first, "texts": list(texts)})


def unpack_texts(body: bytes) -> tuple[int, list[str]]:
    """TEXTS body as (first local code, texts)."""
    content = unpack_json(body)
    try:
        return int(content["first"]), [str(t) for t in content["texts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad TEXTS: {error!r}") from error


def pack_batch(seq: int, received_ns: int, samples: Samples) -> bytes:
    """BATCH frame; the columns travel as they lie in memory."""
    n = len(samples)
    return b"".join(
        (
            _HEAD.pack(1 + _BATCH.size + n * _ROW, FrameType.BATCH),
            _BATCH.pack(seq, received_ns, n),
            samples.signal.astype("<u4", copy=False).tobytes(),
            samples.time_ns.astype("<i8", copy=False).tobytes(),
            samples.value.astype("<f8", copy=False).tobytes(),
            samples.quality.astype("u1", copy=False).tobytes(),
        )
    )


def unpack_batch(body: bytes) -> tuple[int, int, Samples]:
    """BATCH body as (seq, received_ns, samples with local ids)."""
    if len(body) < _BATCH.size:
        raise DecodeError(f"hand-over: BATCH of {len(body)} bytes is shorter than its head")
    seq, received_ns, n = _BATCH.unpack_from(body)
    if len(body) != _BATCH.size + n * _ROW:
        raise DecodeError(f"hand-over: BATCH of {n} rows has {len(body)} bytes")
    at = _BATCH.size
    signal: NDArray[np.uint32] = np.frombuffer(body, "<u4", n, at)
    time_ns: NDArray[np.int64] = np.frombuffer(body, "<i8", n, at + 4 * n)
    value: NDArray[np.float64] = np.frombuffer(body, "<f8", n, at + 12 * n)
    quality: NDArray[np.uint8] = np.frombuffer(body, "u1", n, at + 20 * n)
    return seq, received_ns, Samples(signal, time_ns, value, quality)


def pack_curve(seq: int, curve: Curve) -> bytes:
    """CURVE frame; ValueError when the channels differ in length."""
    lengths = {len(values) for values in curve.channels.values()}
    if len(lengths) > 1:
        raise ValueError(f"curve of {curve.serial!r} at {curve.station!r}: channels differ in size")
    head = orjson.dumps(
        {
            "serial": curve.serial,
            "station": curve.station,
            "program": curve.program,
            "step": curve.step,
            "time_ns": curve.time_ns,
            "channels": list(curve.channels),
            "n": lengths.pop() if lengths else 0,
        }
    )
    columns = [values.astype("<f4", copy=False).tobytes() for values in curve.channels.values()]
    return frame(FrameType.CURVE, b"".join((_CURVE.pack(seq, len(head)), head, *columns)))


def unpack_curve(body: bytes) -> tuple[int, Curve]:
    """CURVE body as (seq, curve)."""
    if len(body) < _CURVE.size:
        raise DecodeError(f"hand-over: CURVE of {len(body)} bytes is shorter than its head")
    seq, size = _CURVE.unpack_from(body)
    at = _CURVE.size + size
    head = unpack_json(body[_CURVE.size : at])
    try:
        names, n = [str(c) for c in head["channels"]], int(head["n"])
        if n < 0 or len(body) != at + 4 * n * len(names):
            raise DecodeError(f"hand-over: CURVE of {len(names)} x {n} has {len(body)} bytes")
        columns = np.frombuffer(body, "<f4", n * len(names), at).reshape(len(names), n)
        return seq, Curve(
            serial=str(head["serial"]),
            station=str(head["station"]),
            program=str(head["program"]),
            step=int(head["step"]),
            time_ns=int(head["time_ns"]),
            channels=dict(zip(names, columns, strict=True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad CURVE: {error!r}") from error


def pack_event(event: Event) -> bytes:
    """EVENT frame."""
    return pack_json(
        FrameType.EVENT,
        {
            "time_ns": event.time_ns,
            "kind": event.kind.value,
            "path": event.path,
            "payload": event.payload,
        },
    )


def unpack_event(body: bytes) -> Event:
    """EVENT body."""
    content = unpack_json(body)
    try:
        return Event(
            time_ns=int(content["time_ns"]),
            kind=EventKind(content["kind"]),
            path=str(content["path"]),
            payload=dict(content.get("payload", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad EVENT: {error!r}") from error


def pack_ack(seq: int) -> bytes:
    """ACK frame: everything up to ``seq`` is durable."""
    return frame(FrameType.ACK, _SEQ.pack(seq))


def unpack_ack(body: bytes) -> int:
    """The sequence number of an ACK body."""
    return sequence(body)


def pack_pulse(rejected: int) -> bytes:
    """A collector's PULSE frame; it says how many messages were rejected, when any were."""
    return (
        pack_json(FrameType.PULSE, {"rejected": rejected}) if rejected else frame(FrameType.PULSE)
    )


def unpack_pulse(body: bytes) -> int:
    """Rejected messages so far, of a PULSE body."""
    try:
        return int(unpack_json(body)["rejected"]) if body else 0
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"hand-over: bad PULSE: {error!r}") from error


def sequence(body: bytes) -> int:
    """The sequence number that BATCH, CURVE and ACK bodies begin with."""
    if len(body) < _SEQ.size:
        raise DecodeError(f"hand-over: {len(body)} bytes hold no sequence number")
    return int(_SEQ.unpack_from(body)[0])


def received_ns(body: bytes) -> int:
    """When the collector received a BATCH, wall time of its host, ns."""
    if len(body) < _BATCH.size:
        raise DecodeError(f"hand-over: BATCH of {len(body)} bytes is shorter than its head")
    return int(_BATCH.unpack_from(body)[1])


async def read_frame(
    reader: asyncio.StreamReader, *, on_bytes: Callable[[], None] | None = None
) -> tuple[FrameType, bytes]:
    """The next frame; DecodeError on a bad head, IncompleteReadError at the end of the stream.

    on_bytes
        Called for each piece of a large frame: on a slow link it is under way for long.
    """
    length, kind = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if not 1 <= length <= MAX_FRAME:
        raise DecodeError(f"hand-over: frame length {length} is not in 1..{MAX_FRAME}")
    if on_bytes is None or length <= _CHUNK:
        body = await reader.readexactly(length - 1)
    else:
        body = await _read_pieces(reader, length - 1, on_bytes)
    try:
        return FrameType(kind), body
    except ValueError as error:
        raise DecodeError(f"hand-over: unknown frame type {kind}") from error


async def _read_pieces(
    reader: asyncio.StreamReader, size: int, on_bytes: Callable[[], None]
) -> bytes:
    parts: list[bytes] = []
    left = size
    while left:
        parts.append(await reader.readexactly(min(left, _CHUNK)))
        left -= len(parts[-1])
        on_bytes()
    return b"".join(parts)


def split_address(address: str | Path) -> tuple[str, int] | Path:
    """Loopback ``host:port`` or the path of a Unix socket.

    >>> split_address("127.0.0.1:4000")
    ('127.0.0.1', 4000)
    """
    text = str(address)
    host, colon, port = text.rpartition(":")
    if colon and "/" not in text and port.isdigit():
        return host, int(port)
    return Path(text)


STREAM_BYTES = 4 * 1024 * 1024


async def connect(
    address: str | Path, remote: Remote | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the brain's ingest socket; OSError when nobody listens."""
    where = split_address(address)
    if not isinstance(where, tuple):
        return await asyncio.open_unix_connection(where, limit=STREAM_BYTES)
    if remote is None:
        return await asyncio.open_connection(where[0], where[1], limit=STREAM_BYTES)
    return await asyncio.open_connection(
        where[0],
        where[1],
        limit=STREAM_BYTES,
        ssl=remote.context,
        server_hostname=remote.server_name,
        ssl_handshake_timeout=2 * remote.lost_s,
        ssl_shutdown_timeout=1.0,
    )


def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write to a link; ConnectionResetError when it is closed already.

    Writing to a closed transport is a warning with one event loop and a RuntimeError with another.
    """
    if writer.is_closing():
        raise ConnectionResetError("the hand-over is closed")
    writer.write(data)
