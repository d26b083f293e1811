"""PublishResponse bodies to columns, without an object per value (OPC UA Part 6, binary encoding).

One kernel walks the bytes once. Every read is checked against the end of the body first; what does
not fit raises DecodeError. Scalars of number types, strings and localized texts are decoded here;
arrays and structures are stepped over and left encoded, for ``parts``. Other scalars (Guid, NodeId,
QualifiedName, ByteString) go through asyncua's decoder one by one, after the walk has found them
sound: asyncua trusts the lengths it reads.
"""

import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import DecodeError
from workshop_brain.kernel import kernel

NUMBER, TEXT, EXACT_SIGNED, EXACT_UNSIGNED, NULL, EXOTIC, NESTED = range(7)
_OK, _BAD = 0, 1
_EXACT = 1 << 53
# 100 ns ticks from 1601 to 1970, and the last tick whose nanoseconds fit into 63 bits.
_EPOCH_TICKS = 116_444_736_000_000_000
_LAST_TICK = _EPOCH_TICKS + (1 << 63) // 100 - 1
# Binary encoding ids of Part 6 / the UA node set.
_REPUBLISH_RESPONSE = 835
_PUBLISH_RESPONSE, _DATA_CHANGE, _STATUS_CHANGE = 829, 811, 820
_READ_RESPONSE, _HISTORY_RESPONSE, _HISTORY_DATA = 634, 667, 658
_HEAD_FIELDS = 9
_MIN_ROW = 5
Int = int | np.int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """One PublishResponse, or one NotificationMessage that was republished.

    Attributes
    ----------
    sequence
        Sequence number of the message; of the next one when it is a keep-alive.
    available
        Sequence numbers that the server still holds for Republish.
    handle : uint32, client handles
    value : float64; NaN for texts and nulls
    status : uint32, OPC UA status codes
    time_ns : int64, source time, else server time, else publish time; ns since the epoch, UTC
    texts : (row, text)
    exact : (row, integer) for 64-bit integers beyond 2**53, whose ``value`` is rounded
    nested : (row, encoded Variant and what follows it) of arrays and structures; ``value`` is NaN
    status_change
        Status of a StatusChangeNotification: the subscription ended on the server.
    """

    subscription: int
    sequence: int
    more: bool
    publish_ns: int
    available: tuple[int, ...]
    is_keep_alive: bool
    handle: NDArray[np.uint32]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    time_ns: NDArray[np.int64]
    texts: list[tuple[int, str]] = field(default_factory=list)
    exact: list[tuple[int, int]] = field(default_factory=list)
    nested: list[tuple[int, memoryview]] = field(default_factory=list)
    status_change: int | None = None

    def __len__(self) -> int:
        return len(self.handle)


@kernel
def _u32(b: NDArray[np.uint8], p: Int) -> Int:
    return (
        np.int64(b[p])
        | np.int64(b[p + 1]) << 8
        | np.int64(b[p + 2]) << 16
        | np.int64(b[p + 3]) << 24
    )


@kernel
def _i32(b: NDArray[np.uint8], p: Int) -> Int:
    return np.int64(np.int32(_u32(b, p)))


@kernel
def _i64(b: NDArray[np.uint8], p: Int) -> Int:
    return _u32(b, p) | _u32(b, p + 4) << 32


@kernel
def _ns(ticks: Int, instead: Int) -> Int:
    if ticks < _EPOCH_TICKS or ticks > _LAST_TICK:
        return instead
    return (ticks - _EPOCH_TICKS) * 100


@kernel
def _string_end(b: NDArray[np.uint8], p: Int, end: Int) -> Int:
    """Position behind a String or ByteString that begins at p; -1 when it does not fit."""
    if p < 0 or p + 4 > end:
        return -1
    n = _i32(b, p)
    p += 4
    if n <= 0:
        return p if n >= -1 else -1
    return p + n if n <= end - p else -1


@kernel
def _node_id(b: NDArray[np.uint8], p: Int, end: Int) -> tuple[Int, Int]:
    """(position behind, identifier) of a NodeId or ExpandedNodeId; identifier -1 when it is not a
    number in namespace 0, position -1 when it does not fit."""
    if p < 0 or p + 2 > end:
        return -1, -1
    form = b[p] & 0x3F
    flags = b[p] & 0xC0
    identifier: Int = np.int64(-1)
    if form == 0:
        identifier = np.int64(b[p + 1])
        p += 2
    elif form == 1:
        if p + 4 > end:
            return -1, -1
        if b[p + 1] == 0:
            identifier = np.int64(b[p + 2]) | np.int64(b[p + 3]) << 8
        p += 4
    elif form == 2:
        if p + 7 > end:
            return -1, -1
        if b[p + 1] == 0 and b[p + 2] == 0:
            identifier = _u32(b, p + 3)
        p += 7
    elif form == 3 or form == 5:
        p = _string_end(b, p + 3, end)
    elif form == 4:
        p = p + 19 if p + 19 <= end else -1
    else:
        return -1, -1
    if flags & 0x80:
        identifier = np.int64(-1)
        p = _string_end(b, p, end)
    if flags & 0x40:
        p = p + 4 if p >= 0 and p + 4 <= end else -1
    return p, identifier


@kernel
def _extension_end(b: NDArray[np.uint8], p: Int, end: Int) -> Int:
    """Position behind an ExtensionObject; -1 when it does not fit."""
    p, _identifier = _node_id(b, p, end)
    if p < 0 or p >= end:
        return -1
    if b[p] == 0:
        return p + 1
    return _string_end(b, p + 1, end) if b[p] <= 2 else -1


@kernel
def _diagnostics_end(b: NDArray[np.uint8], p: Int, end: Int) -> Int:
    """Position behind a DiagnosticInfo; -1 when it does not fit."""
    while 0 <= p < end:
        mask = b[p]
        p += 1
        for bit in (0x01, 0x02, 0x04, 0x08):
            if mask & bit:
                p += 4
        if mask & 0x10:
            p = _string_end(b, p, end)
            if p < 0:
                return -1
        if mask & 0x20:
            p += 4
        if not mask & 0x40:
            return p if p <= end else -1
    return -1


@kernel
def _scalar_end(b: NDArray[np.uint8], p: Int, end: Int, code: Int) -> Int:
    """Position behind one value of a built-in type (Part 6, table 1); -1 when it does not fit or
    is of a type that cannot be stepped over."""
    size = 0
    if 1 <= code <= 3:
        size = 1
    elif code == 4 or code == 5:
        size = 2
    elif code == 6 or code == 7 or code == 10 or code == 19:
        size = 4
    elif code == 8 or code == 9 or code == 11 or code == 13:
        size = 8
    elif code == 14:
        size = 16
    if size:
        return p + size if p + size <= end else -1
    if code == 12 or code == 15 or code == 16:
        return _string_end(b, p, end)
    if code == 17 or code == 18:
        p, _identifier = _node_id(b, p, end)
        return p
    if code == 20:
        return _string_end(b, p + 2, end)
    if code == 21:
        if p >= end:
            return -1
        parts = b[p]
        p += 1
        if parts & 0x01:
            p = _string_end(b, p, end)
        if parts & 0x02:
            p = _string_end(b, p, end)
        return p
    if code == 22:
        return _extension_end(b, p, end)
    return -1


@kernel
def _array_end(b: NDArray[np.uint8], p: Int, end: Int, encoding: Int) -> Int:
    """Position behind a Variant's array whose encoding byte was read; -1 when it does not fit."""
    code = encoding & 0x3F
    if p + 4 > end:
        return -1
    n = _i32(b, p)
    p += 4
    if n > end - p:
        return -1
    for _ in range(n):
        p = _scalar_end(b, p, end, code)
        if p < 0:
            return -1
    if encoding & 0x40:
        if p + 4 > end:
            return -1
        dimensions = max(_i32(b, p), 0)
        p += 4
        if dimensions > (end - p) // 4:
            return -1
        p += 4 * dimensions
    return p


@kernel
def _header(b: NDArray[np.uint8], p: Int, end: Int, head: NDArray[np.int64]) -> Int:
    """Position behind the ResponseHeader, -1 when it does not fit; head[0] = service result."""
    if p + 17 > end:
        return -1
    head[0] = _u32(b, p + 12)
    p = _diagnostics_end(b, p + 16, end)
    if p < 0 or p + 4 > end:
        return -1
    n = _i32(b, p)
    p += 4
    if n > (end - p) // 4:
        return -1
    for _ in range(n):
        p = _string_end(b, p, end)
        if p < 0:
            return -1
    return _extension_end(b, p, end)


@kernel
def _rows(
    b: NDArray[np.uint8],
    p: Int,
    end: Int,
    count: Int,
    n: Int,
    publish_ns: Int,
    head: NDArray[np.int64],
    handle: NDArray[np.uint32],
    value: NDArray[np.float64],
    bits: NDArray[np.int64],
    status: NDArray[np.uint32],
    time_ns: NDArray[np.int64],
    kind: NDArray[np.uint8],
    where: NDArray[np.int64],
    single: NDArray[np.float32],
    single_bits: NDArray[np.uint32],
    is_bare: bool,
) -> tuple[Int, Int, Int]:
    """(state, position, rows) behind the MonitoredItems of one DataChangeNotification, or behind
    bare DataValues: their handle is their row."""
    for _ in range(count):
        if n >= len(handle):
            return _BAD, p, n
        if is_bare:
            handle[n] = n
        elif p + 4 > end:
            return _BAD, p, n
        else:
            handle[n] = _u32(b, p)
            p += 4
        if p >= end:
            return _BAD, p, n
        mask = b[p]
        p += 1
        value[n] = np.nan
        kind[n] = NULL
        where[n] = 0
        if mask & 0x01:
            if p >= end:
                return _BAD, p, n
            kind_code = b[p]
            p += 1
            if kind_code == 11:
                if p + 8 > end:
                    return _BAD, p, n
                bits[n] = _i64(b, p)
                kind[n] = NUMBER
                p += 8
            elif kind_code == 6 or kind_code == 7 or kind_code == 19:
                if p + 4 > end:
                    return _BAD, p, n
                value[n] = _i32(b, p) if kind_code == 6 else _u32(b, p)
                kind[n] = NUMBER
                p += 4
            elif kind_code == 10:
                if p + 4 > end:
                    return _BAD, p, n
                single_bits[0] = _u32(b, p)
                value[n] = single[0]
                kind[n] = NUMBER
                p += 4
            elif kind_code == 1:
                if p >= end:
                    return _BAD, p, n
                value[n] = 1.0 if b[p] else 0.0
                kind[n] = NUMBER
                p += 1
            elif kind_code == 8 or kind_code == 9:
                if p + 8 > end:
                    return _BAD, p, n
                raw = _i64(b, p)
                p += 8
                kind[n] = NUMBER
                value[n] = raw
                if kind_code == 9 and raw < 0:
                    value[n] = np.float64(raw) + 18446744073709551616.0
                    kind[n] = EXACT_UNSIGNED
                elif raw > _EXACT or raw < -_EXACT:
                    kind[n] = EXACT_SIGNED
                where[n] = raw
            elif kind_code == 2 or kind_code == 3:
                if p >= end:
                    return _BAD, p, n
                value[n] = np.int64(np.int8(b[p])) if kind_code == 2 else np.int64(b[p])
                kind[n] = NUMBER
                p += 1
            elif kind_code == 4 or kind_code == 5:
                if p + 2 > end:
                    return _BAD, p, n
                small = np.int64(b[p]) | np.int64(b[p + 1]) << 8
                value[n] = np.int64(np.int16(small)) if kind_code == 4 else small
                kind[n] = NUMBER
                p += 2
            elif kind_code == 12:
                behind = _string_end(b, p, end)
                if behind < 0:
                    return _BAD, p, n
                if _i32(b, p) >= 0:
                    kind[n] = TEXT
                    where[n] = p
                p = behind
            elif kind_code == 13:
                if p + 8 > end:
                    return _BAD, p, n
                value[n] = (_i64(b, p) - _EPOCH_TICKS) / 1e7
                kind[n] = NUMBER
                p += 8
            elif kind_code == 21:
                if p >= end:
                    return _BAD, p, n
                parts = b[p]
                p += 1
                if parts & 0x01:
                    p = _string_end(b, p, end)
                    if p < 0:
                        return _BAD, 0, n
                if parts & 0x02:
                    behind = _string_end(b, p, end)
                    if behind < 0:
                        return _BAD, p, n
                    if _i32(b, p) >= 0:
                        kind[n] = TEXT
                        where[n] = p
                    p = behind
            elif kind_code & 0x80:
                kind[n] = NESTED
                where[n] = p - 1
                p = _array_end(b, p, end, np.int64(kind_code))
                if p < 0:
                    return _BAD, 0, n
            elif kind_code != 0:
                kind[n] = NESTED if kind_code == 22 else EXOTIC
                where[n] = p - 1
                p = _scalar_end(b, p, end, np.int64(kind_code))
                if p < 0:
                    return _BAD, 0, n
        code: Int = 0
        if mask & 0x02:
            if p + 4 > end:
                return _BAD, p, n
            code = _u32(b, p)
            p += 4
        status[n] = code
        at = publish_ns
        if mask & 0x04:
            if p + 8 > end:
                return _BAD, p, n
            at = _ns(_i64(b, p), publish_ns)
            p += 8
        if mask & 0x10:
            p += 2
        if mask & 0x08:
            if p + 8 > end:
                return _BAD, p, n
            if not mask & 0x04:
                at = _ns(_i64(b, p), publish_ns)
            p += 8
        if mask & 0x20:
            p += 2
        if p > end:
            return _BAD, p, n
        time_ns[n] = at
        n += 1
    return _OK, p, n


@kernel
def scan(
    b: NDArray[np.uint8],
    head: NDArray[np.int64],
    handle: NDArray[np.uint32],
    value: NDArray[np.float64],
    bits: NDArray[np.int64],
    status: NDArray[np.uint32],
    time_ns: NDArray[np.int64],
    kind: NDArray[np.uint8],
    where: NDArray[np.int64],
    single: NDArray[np.float32],
    single_bits: NDArray[np.uint32],
) -> tuple[Int, Int, Int]:
    """(state, position, rows) of a walk over a PublishResponse or RepublishResponse body.

    head: 0 service result, 1 subscription, 2 more, 3 sequence, 4 publish ns, 5 notifications,
    6 status change or -1, 7 first available sequence number, 8 their count.
    ``bits`` is ``value`` and ``single_bits`` is ``single`` seen as integers.
    """
    end = len(b)
    head[6] = -1
    p, type_id = _node_id(b, 0, end)
    if p < 0 or (type_id != _PUBLISH_RESPONSE and type_id != _REPUBLISH_RESPONSE):
        return _BAD, 0, 0
    p = _header(b, p, end, head)
    if p < 0:
        return _BAD, 0, 0
    if type_id == _PUBLISH_RESPONSE:
        if p + 8 > end:
            return _BAD, p, 0
        head[1] = _u32(b, p)
        n = max(_i32(b, p + 4), 0)
        p += 8
        if n > (end - p) // 4:
            return _BAD, p, 0
        head[7] = p
        head[8] = n
        p += 4 * n
        if p >= end:
            return _BAD, p, 0
        head[2] = b[p]
        p += 1
    if p + 16 > end:
        return _BAD, p, 0
    head[3] = _u32(b, p)
    head[4] = _ns(_i64(b, p + 4), 0)
    count = max(_i32(b, p + 12), 0)
    head[5] = count
    p += 16
    rows: Int = 0
    for _ in range(count):
        p, type_id = _node_id(b, p, end)
        if p < 0 or p >= end:
            return _BAD, 0, 0
        encoding = b[p]
        p += 1
        if encoding == 0:
            continue
        behind = _string_end(b, p, end)
        if behind < 0 or encoding > 2:
            return _BAD, p, 0
        if encoding == 1 and type_id == _DATA_CHANGE:
            if p + 8 > behind:
                return _BAD, p, 0
            items = _i32(b, p + 4)
            if items > (behind - p - 8) // _MIN_ROW:
                return _BAD, p, 0
            state, p, rows = _rows(
                b, p + 8, behind, items, rows, head[4], head,
                handle, value, bits, status, time_ns, kind, where, single, single_bits, False,
            )  # fmt: skip
            if state != _OK:
                return state, p, 0
        elif encoding == 1 and type_id == _STATUS_CHANGE:
            if p + 8 > behind:
                return _BAD, p, 0
            head[6] = _u32(b, p + 4)
        p = behind
    return _OK, p, rows


_warmed = threading.Event()


def warm() -> None:
    """Load (or, the first time, compile) the kernel, so that no message waits for it."""
    with suppress(DecodeError):
        decode(b"")


def is_warm() -> bool:
    """Whether the kernel is there; never where numba is switched off."""
    return _warmed.is_set()


def nanoseconds(ticks: NDArray[np.int64], instead: int) -> NDArray[np.int64]:
    """Times as ns since the epoch; ``instead`` of those that 63 bits cannot hold.

    >>> nanoseconds(np.array([0, 116_444_736_000_000_001]), 7)
    array([  7, 100])
    """
    good = (ticks >= _EPOCH_TICKS) & (ticks <= _LAST_TICK)
    out: NDArray[np.int64] = (ticks - _EPOCH_TICKS) * 100
    return out if good.all() else np.where(good, out, instead)


def decode(body: bytes) -> Notifications:
    """A PublishResponse or RepublishResponse body (from its type id on) as columns.

    DecodeError says what does not follow the protocol and where.
    """
    b = np.frombuffer(body, np.uint8)
    room = len(body) // _MIN_ROW + 1
    head = np.zeros(_HEAD_FIELDS, np.int64)
    handle, status = np.empty(room, np.uint32), np.empty(room, np.uint32)
    value, time_ns = np.empty(room, np.float64), np.empty(room, np.int64)
    kind, where = np.empty(room, np.uint8), np.empty(room, np.int64)
    single = np.zeros(1, np.float32)
    state, at, rows = scan(
        b, head, handle, value, value.view(np.int64), status, time_ns, kind, where,
        single, single.view(np.uint32),
    )  # fmt: skip
    if not _warmed.is_set() and not numba.config.DISABLE_JIT:
        _warmed.set()
    if state == _BAD:
        raise DecodeError(f"OPC UA: PublishResponse of {len(body)} bytes breaks off near byte {at}")
    if head[0] & 0x80000000:
        raise DecodeError(f"OPC UA: PublishResponse with service result 0x{head[0]:08X}")
    n = int(rows)
    texts, exact, nested = _specials(body, kind[:n], where)
    first, count = int(head[7]), int(head[8])
    return Notifications(
        subscription=int(head[1]),
        sequence=int(head[3]),
        more=bool(head[2]),
        publish_ns=int(head[4]),
        available=struct.unpack_from(f"<{count}I", body, first) if count else (),
        is_keep_alive=head[5] == 0,
        handle=handle[:n],
        value=value[:n],
        status=status[:n],
        time_ns=time_ns[:n],
        texts=texts,
        exact=exact,
        nested=nested,
        status_change=int(head[6]) if head[6] >= 0 else None,
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What a HistoryReadResponse says of one node.

    Attributes
    ----------
    status
        OPC UA status code of the node's result.
    more
        Continuation point; empty when there is nothing more.
    """

    status: int
    more: bytes
    rows: Notifications


def history(body: bytes, handles: Sequence[int]) -> list[Past]:
    """A HistoryReadResponse body; one Past for each of ``handles``, in the order asked.

    DecodeError says what does not follow the protocol.
    """
    b = np.frombuffer(body, np.uint8)
    p, end = _results(b, _HISTORY_RESPONSE, len(handles)), len(body)
    out = []
    for handle in handles:
        behind = int(_string_end(b, p + 4, end))
        at, type_id = _node_id(b, behind, end)
        if at < 0 or at >= end:
            raise DecodeError(f"OPC UA: HistoryReadResponse of {end} bytes breaks off")
        status, more = int(_u32(b, p)), body[p + 8 : max(behind, p + 8)]
        p = int(_extension_end(b, behind, end))
        if p < 0:
            raise DecodeError(f"OPC UA: HistoryReadResponse of {end} bytes breaks off")
        is_data = body[int(at)] == 1 and type_id == _HISTORY_DATA
        rows = _bare(body, b, int(at) + 5, p, [handle] if is_data else [], 0)
        out.append(Past(status, more, rows))
    return out


def values(body: bytes, handles: Sequence[int], now_ns: int) -> Notifications:
    """A ReadResponse body for the values of ``handles``; DecodeError as above.

    ``now_ns`` stands for the times of values that have none.
    """
    b = np.frombuffer(body, np.uint8)
    p = _results(b, _READ_RESPONSE, len(handles))
    return _bare(body, b, p - 4, len(body), handles, now_ns)


def _results(b: NDArray[np.uint8], kind: int, count: int) -> int:
    """Position of the first of ``count`` results of a response of a kind."""
    head, end = np.zeros(_HEAD_FIELDS, np.int64), len(b)
    p, type_id = _node_id(b, 0, end)
    p = _header(b, p, end, head) if p >= 0 and type_id == kind else -1
    if p < 0 or p + 4 > end or _i32(b, p) != count:
        raise DecodeError(f"OPC UA: response of {end} bytes is none to {count} nodes")
    if head[0] & 0x80000000:
        raise DecodeError(f"OPC UA: service result 0x{head[0]:08X}")
    return int(p) + 4


def _bare(
    body: bytes, b: NDArray[np.uint8], p: int, end: int, handles: Sequence[int], now_ns: int
) -> Notifications:
    """Columns of an array of DataValues at p; of one handle all, else one of each."""
    count = max(int(_i32(b, p)), 0) if handles and p + 4 <= end else 0
    if count > max(end - p - 4, 0):
        raise DecodeError(f"OPC UA: {count} values do not fit into {end - p} bytes")
    handle, status = np.empty(count, np.uint32), np.empty(count, np.uint32)
    value, time_ns = np.empty(count, np.float64), np.empty(count, np.int64)
    kind, where = np.empty(count, np.uint8), np.empty(count, np.int64)
    single, head = np.zeros(1, np.float32), np.zeros(_HEAD_FIELDS, np.int64)
    state, at, _ = _rows(
        b, p + 4, end, count, 0, now_ns, head, handle, value, value.view(np.int64), status,
        time_ns, kind, where, single, single.view(np.uint32), True,
    )  # fmt: skip
    if state != _OK:
        raise DecodeError(f"OPC UA: {count} values break off near byte {at}")
    texts, exact, nested = _specials(body, kind, where)
    return Notifications(
        subscription=0,
        sequence=0,
        more=False,
        publish_ns=0,
        available=(),
        is_keep_alive=False,
        handle=np.resize(np.array(handles, np.uint32), count),
        value=value,
        status=status,
        time_ns=time_ns,
        texts=texts,
        exact=exact,
        nested=nested,
    )


def _specials(
    body: bytes, kind: NDArray[np.uint8], where: NDArray[np.int64]
) -> tuple[list[tuple[int, str]], list[tuple[int, int]], list[tuple[int, memoryview]]]:
    texts: list[tuple[int, str]] = []
    exact: list[tuple[int, int]] = []
    nested: list[tuple[int, memoryview]] = []
    for row in np.flatnonzero((kind != NUMBER) & (kind != NULL)).tolist():
        at = int(where[row])
        if kind[row] == TEXT:
            (size,) = struct.unpack_from("<i", body, at)
            texts.append((row, body[at + 4 : at + 4 + size].decode("utf-8", "replace")))
        elif kind[row] == NESTED:
            nested.append((row, memoryview(body)[at:]))
        elif kind[row] == EXOTIC:
            if (text := _rare(body, at)) is not None:
                texts.append((row, text))
        else:
            exact.append((row, at if kind[row] == EXACT_SIGNED else at + (1 << 64)))
    return texts, exact, nested


def _rare(body: bytes, at: int) -> str | None:
    """The text of a scalar of a rare type, through asyncua's decoder; None for a null."""
    from asyncua import ua
    from asyncua.common.utils import Buffer
    from asyncua.ua.ua_binary import variant_from_binary

    try:
        value = variant_from_binary(Buffer(body, at)).Value
    except (
        ua.UaError, struct.error, ArithmeticError, AttributeError, LookupError, MemoryError,
        RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise DecodeError(f"OPC UA: value at byte {at} cannot be decoded: {error!r}") from error
    return None if value is None else str(value)
