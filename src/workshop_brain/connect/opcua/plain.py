"""PublishResponses to columns with numpy alone, for the time until the kernels are compiled.

Messages of one subscription resemble each other: the layout of the last ones is kept, and a message
is read with one gather when its encoding bytes are where the layout expects them. Since these bytes
give the length of each row, equal ones prove equal positions. What is not of the usual form (texts,
arrays, several notifications in a message, ...) is left to the kernels.
"""

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect.opcua.decode import Notifications, nanoseconds

# Form of a PublishResponse without diagnostics: type id; time, handle, result, no diagnostics, no
# strings, no additional header; subscription, number of available sequence numbers.
_HEAD = struct.Struct("<4sqIIBi3sIi")
_TYPE, _NOTHING = b"\x01\x00\x3d\x03", b"\x00\x00\x00"
# More; sequence, publish time, notifications; type id, encoding, length, items.
_MESSAGE = struct.Struct("<BIqi")
_CHANGE = struct.Struct("<4sBii")
_CHANGE_TYPE = b"\x01\x00\x2b\x03"
_KINDS = {1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8",
          10: "<f4", 11: "<f8", 13: "<i8", 19: "<u4"}  # fmt: skip
_EPOCH_TICKS = 116_444_736_000_000_000
_EXACT = 1 << 53
_MOST_LAYOUTS = 16


def _sizes() -> dict[int, tuple[int, int, int, int]]:
    """Encoding mask and type to (size of a row, offset of its value, status, time); 0: none."""
    out = {}
    for mask in range(0x40):
        for code, kind in {0: "V0", **(_KINDS if mask & 1 else {})}.items():
            p = 6 if mask & 1 else 5
            value = p if code else 0
            p += np.dtype(kind).itemsize if code else 0
            status = p if mask & 2 else 0
            p += 4 if mask & 2 else 0
            source = p if mask & 4 else 0
            p += (8 if mask & 4 else 0) + (2 if mask & 0x10 else 0)
            server = p if mask & 8 else 0
            p += (8 if mask & 8 else 0) + (2 if mask & 0x20 else 0)
            out[mask << 8 | code] = (p, value, status, source or server)
    return out


_SIZES = _sizes()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands in the rows of a message.

    Attributes
    ----------
    take : int64, positions of bytes behind the first row: times, handles, statuses, the values of
        each type, then mask and type of each row
    keys
        What mask and type bytes must be.
    values
        (type, begin, end, rows) of the values in what was taken; rows None for all.
    times, statuses
        Rows that have one; None for all.
    """

    take: NDArray[np.int64]
    keys: bytes
    values: list[tuple[int, int, int, NDArray[np.int64] | None]]
    times: NDArray[np.int64] | None
    statuses: NDArray[np.int64] | None
    marks: tuple[int, int, int]


@dataclass(slots=True)
class Plain:
    """Reads the messages of one server."""

    layouts: dict[tuple[int, int], Layout] = field(default_factory=dict)

    def decode(self, body: bytes) -> Notifications | None:
        """The same columns as ``decode.decode``; None when it is to be asked."""
        try:
            kind, _, _, result, diagnostics, strings, more_header, subscription, n_known = (
                _HEAD.unpack_from(body)
            )
            if (kind, more_header, diagnostics) != (_TYPE, _NOTHING, 0) or strings > 0:
                return None
            p = _HEAD.size
            n_known = max(n_known, 0)
            if result & 0x80000000 or n_known > (len(body) - p) // 4:
                return None
            available = struct.unpack_from(f"<{n_known}I", body, p)
            p += 4 * n_known
            more, sequence, published, count = _MESSAGE.unpack_from(body, p)
            p += _MESSAGE.size
            publish_ns = int(nanoseconds(np.array([published]), 0)[0])
            rows = _NO_ROWS
            if count > 0:
                change, encoding, size, items = _CHANGE.unpack_from(body, p)
                begin, end = p + _CHANGE.size, p + 9 + size
                if count > 1 or change != _CHANGE_TYPE or encoding != 1:
                    return None
                if size < 8 or end > len(body):
                    return None
                found = self._rows(body, begin, end, max(items, 0), publish_ns)
                if found is None:
                    return None
                rows = found
        except struct.error:
            return None
        handle, value, status, time_ns, exact = rows
        return Notifications(
            subscription=subscription,
            sequence=sequence,
            more=bool(more),
            publish_ns=publish_ns,
            available=available,
            is_keep_alive=count <= 0,
            handle=handle,
            value=value,
            status=status,
            time_ns=time_ns,
            exact=exact,
        )

    def _rows(
        self, body: bytes, begin: int, end: int, items: int, publish_ns: int
    ) -> "_Rows | None":
        b = np.frombuffer(body, np.uint8, max(end - begin, 0), begin) if end > begin else _NO_BYTES
        known = self.layouts.get((items, len(b)))
        taken = b.take(known.take) if known is not None else b
        if known is None or taken[known.marks[2] :].tobytes() != known.keys:
            known = _layout(bytes(b), items)
            if known is None:
                return None
            if len(self.layouts) >= _MOST_LAYOUTS:
                self.layouts.pop(next(iter(self.layouts)))
            self.layouts[items, len(b)] = known
            taken = b.take(known.take)
        times, handles, _ = known.marks
        ticks = taken[:times].view("<i8")
        at = nanoseconds(ticks, publish_ns)
        handle = taken[times:handles].view("<u4")
        first = known.values[0][1] if known.values else known.marks[2]
        given = taken[handles:first].view("<u4")
        time_ns = at if known.times is None else np.full(items, publish_ns, np.int64)
        if known.times is not None:
            time_ns[known.times] = at
        status = given if known.statuses is None else np.zeros(items, np.uint32)
        if known.statuses is not None:
            status[known.statuses] = given
        value = np.full(items, np.nan)
        exact: list[tuple[int, int]] = []
        for code, start, stop, rows in known.values:
            raw = taken[start:stop].view(_KINDS[code])
            where = slice(None) if rows is None else rows
            if code == 1:
                value[where] = raw != 0
            elif code == 13:
                value[where] = (raw - _EPOCH_TICKS) / 1e7
            else:
                value[where] = raw
                if code in (8, 9):
                    big = np.flatnonzero(np.abs(value[where]) >= _EXACT)
                    row = big if rows is None else rows[big]
                    both = zip(row.tolist(), raw[big].tolist(), strict=True)
                    exact += [(r, digits) for r, digits in both if abs(digits) > _EXACT]
        return handle, value, status, time_ns, sorted(exact)


_Rows = tuple[
    NDArray[np.uint32],
    NDArray[np.float64],
    NDArray[np.uint32],
    NDArray[np.int64],
    list[tuple[int, int]],
]
_NO_BYTES = np.zeros(0, np.uint8)
_NO_ROWS: _Rows = (
    np.zeros(0, np.uint32), np.zeros(0), np.zeros(0, np.uint32), np.zeros(0, np.int64), [],
)  # fmt: skip


def _layout(rows: bytes, items: int) -> Layout | None:
    """Walk the rows once; None when one of them has no fixed length or they do not fit."""
    at, keys, p, end = [], [], 0, len(rows)
    if items > end // 5:
        return None
    for _ in range(items):
        if p + 5 > end:
            return None
        mask = rows[p + 4]
        key = mask << 8
        if mask & 1:
            if p + 6 > end:
                return None
            key |= rows[p + 5]
        size = _SIZES.get(key)
        if size is None:
            return None
        at.append(p)
        keys.append(key)
        p += size[0]
    if p > end:
        return None
    start, key_of = np.array(at, np.int64), np.array(keys, np.int64)
    offsets = np.array([_SIZES[key] for key in keys], np.int64).reshape(items, 4)
    timed, stated = np.flatnonzero(offsets[:, 3]), np.flatnonzero(offsets[:, 2])
    parts = [
        _bytes(start[timed] + offsets[timed, 3], 8),
        _bytes(start, 4),
        _bytes(start[stated] + offsets[stated, 2], 4),
    ]
    position = sum(len(part) for part in parts)
    values = []
    for code in np.unique(key_of[offsets[:, 1] > 0] & 0xFF).tolist():
        of = np.flatnonzero((offsets[:, 1] > 0) & (key_of & 0xFF == code))
        part = _bytes(start[of] + offsets[of, 1], np.dtype(_KINDS[code]).itemsize)
        values.append((code, position, position + len(part), None if len(of) == items else of))
        parts.append(part)
        position += len(part)
    typed = np.flatnonzero(key_of & 0x100)
    marks = np.concatenate([start + 4, start[typed] + 5])
    whole = np.frombuffer(rows, np.uint8)
    return Layout(
        np.concatenate([*parts, marks]),
        whole[marks].tobytes(),
        values,
        None if len(timed) == items else timed,
        None if len(stated) == items else stated,
        (8 * len(timed), 8 * len(timed) + 4 * items, position),
    )


def _bytes(first: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return (first[:, None] + np.arange(size)).ravel()
