"""Arrays, matrices and structures taken apart into named scalars (OPC UA Part 6, binary encoding).

A value is walked by what the server says of its types; every read is checked against the end of the
bytes first, and the steps of one value have a bound, so that lengths which lie cost nothing. What
is no number, flag or text (NodeId, Guid, ByteString, ...) is stepped over.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import DecodeError

MOST_PARTS = 1000
_MOST_STEPS = 100_000
_MOST_DEPTH = 8
_EPOCH_TICKS = 116_444_736_000_000_000
BOOLEAN, DATE_TIME, STATUS_CODE = 1, 13, 19
STRING, EXTENSION_OBJECT, LOCALIZED_TEXT, VARIANT = 12, 22, 21, 24
_NUMBERS = {1: "?", 2: "b", 3: "B", 4: "h", 5: "H", 6: "i", 7: "I", 8: "q", 9: "Q", 10: "f",
            11: "d", 13: "q", 19: "I"}  # fmt: skip
# The same as numpy sees them; 64-bit integers and times are taken one by one, for their digits.
_ROWS = {1: "?", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 10: "<f4", 11: "<f8"}
PLAIN, OPTIONAL, UNION = 0, 1, 2
Key = tuple[int, int | str | bytes]
Leaf = tuple[str, int, float | int | str | None]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a structure.

    Attributes
    ----------
    code
        Built-in type (Part 6, table 1); 0 when ``of`` is the key of a structure.
    rank
        0: a scalar, else the number of the array's dimensions.
    """

    name: str
    code: int
    of: Key | None = None
    rank: int = 0
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """A structured data type; ``form`` is PLAIN, OPTIONAL (fields may be missing) or UNION."""

    fields: tuple[Field, ...]
    form: int = PLAIN


@dataclass(frozen=True, slots=True)
class Types:
    """What is known of a server's structures: by data type, and data types by encoding id."""

    structures: dict[Key, Structure] = field(default_factory=dict)
    encodings: dict[Key, Key] = field(default_factory=dict)


@dataclass(slots=True)
class Apart:
    """One value taken apart.

    Attributes
    ----------
    numbers, code
        Elements of an array of plain numbers, whose parts are ``[0]``, ``[1]``, ...; else None.
    leaves
        (part, built-in type, value) of everything else; a part is like ``[3]``, ``[1,2]``,
        ``.Speed`` or ``.Axis[0].Speed``. The value is None for null texts.
    left
        How many parts beyond the bound there are.
    unknown
        Encoding ids of structures that no type is known for.
    """

    numbers: NDArray[np.float64] | None = None
    code: int = 0
    leaves: list[Leaf] = field(default_factory=list)
    left: int = 0
    unknown: set[Key] = field(default_factory=set)

    def parts(self) -> list[tuple[str, int]]:
        """(part, built-in type) of all parts, in their order."""
        if self.numbers is not None:
            return [(f"[{k}]", self.code) for k in range(len(self.numbers))]
        return [(part, code) for part, code, _ in self.leaves]


def take_apart(raw: bytes | memoryview, types: Types, most: int = MOST_PARTS) -> Apart:
    """The scalars of an encoded Variant that begins with ``raw``; bytes behind it are not read.

    DecodeError when it does not fit into the bytes or into what is known of its type.

    >>> take_apart(bytes([0x86, 2, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]), Types()).numbers
    array([7., 9.])
    """
    walk = _Walk(raw, types, most)
    if len(raw) > 5 and raw[0] & 0x80 and not raw[0] & 0x40 and (raw[0] & 0x3F) in _ROWS:
        return walk.plain()
    walk.variant("", 0)
    return walk.out


@dataclass(slots=True)
class _Walk:
    b: bytes | memoryview
    types: Types
    most: int
    out: Apart = field(default_factory=Apart)
    p: int = 0
    end: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.end = len(self.b)

    def plain(self) -> Apart:
        """A one-dimensional array of numbers."""
        code = self.b[0] & 0x3F
        self.p = 1
        n = max(self._i32(), 0)
        kind = np.dtype(_ROWS[code])
        self._need(n * kind.itemsize)
        kept = min(n, self.most)
        self.out.numbers = np.frombuffer(self.b, kind, kept, self.p).astype(np.float64)
        self.out.code, self.out.left = code, n - kept
        return self.out

    def variant(self, part: str, depth: int) -> None:
        encoding = self._byte()
        code = encoding & 0x3F
        if not encoding & 0x80:
            if code:
                self._value(code, part, depth)
            return
        starts = self._elements(code, None, self._i32(), part, depth)
        if encoding & 0x40:
            dimensions = self._dimensions()
            if dimensions and math.prod(dimensions) == len(starts):
                self._name_matrix([*starts, len(self.out.leaves)], part, dimensions)

    def _name_matrix(self, starts: list[int], part: str, dimensions: Sequence[int]) -> None:
        """Name elements, which were named by their flat number, by row and column."""
        if min(dimensions) <= 0:
            return
        for k in range(len(starts) - 1):
            where = ",".join(str(int(i)) for i in np.unravel_index(k, tuple(dimensions)))
            skip = len(f"{part}[{k}]")
            for at in range(starts[k], starts[k + 1]):
                name, code, value = self.out.leaves[at]
                self.out.leaves[at] = (f"{part}[{where}]{name[skip:]}", code, value)

    def _elements(self, code: int, of: Key | None, n: int, part: str, depth: int) -> list[int]:
        """Walk ``n`` elements; where the leaves of each begin."""
        if n > self.end - self.p:
            raise self._broken(f"an array of {n} elements")
        starts = []
        for k in range(n):
            starts.append(len(self.out.leaves))
            self._field(code, of, f"{part}[{k}]", depth)
        return starts

    def _dimensions(self) -> list[int]:
        n = max(self._i32(), 0)
        self._need(4 * n)
        return [self._i32() for _ in range(n)]

    def _field(self, code: int, of: Key | None, part: str, depth: int) -> None:
        if of is None:
            self._value(code, part, depth)
        else:
            self._structure(of, part, depth + 1)

    def _structure(self, key: Key, part: str, depth: int) -> None:
        self._step()
        known = self.types.structures.get(key)
        if known is None:
            raise self._broken(f"a structure of the unknown type {key}")
        if depth > _MOST_DEPTH:
            raise self._broken(f"structures more than {_MOST_DEPTH} deep")
        mask = self._u32() if known.form != PLAIN else 0
        bit = 0
        for number, one in enumerate(known.fields):
            if known.form == UNION and number != mask - 1:
                continue
            if known.form == OPTIONAL and one.is_optional:
                bit += 1
                if not mask >> (bit - 1) & 1:
                    continue
            name = f"{part}.{one.name}"
            if one.rank == 0:
                self._field(one.code, one.of, name, depth)
                continue
            dimensions = self._dimensions() if one.rank > 1 else [self._i32()]
            n = math.prod(max(d, 0) for d in dimensions)
            starts = self._elements(one.code, one.of, n, name, depth)
            if dimensions and one.rank > 1:
                self._name_matrix([*starts, len(self.out.leaves)], name, dimensions)

    def _value(self, code: int, part: str, depth: int) -> None:
        self._step()
        if code in _NUMBERS:
            form = _NUMBERS[code]
            size = struct.calcsize(f"<{form}")
            self._need(size)
            (value,) = struct.unpack_from(f"<{form}", self.b, self.p)
            self.p += size
            self._leaf(part, code, (value - _EPOCH_TICKS) / 1e7 if code == DATE_TIME else value)
        elif code == STRING:
            self._leaf(part, code, self._text())
        elif code == LOCALIZED_TEXT:
            parts = self._byte()
            if parts & 0x01:
                self._text()
            self._leaf(part, code, self._text() if parts & 0x02 else None)
        elif code == EXTENSION_OBJECT:
            self._extension(part, depth)
        elif code == VARIANT:
            if depth > _MOST_DEPTH:
                raise self._broken(f"values more than {_MOST_DEPTH} deep")
            self.variant(part, depth + 1)
        else:
            self._skip(code)

    def _extension(self, part: str, depth: int) -> None:
        key = self._node_id()
        encoding = self._byte()
        if encoding == 0:
            return
        n = self._i32()
        behind = self.p + max(n, 0)
        self._need(max(n, 0))
        known = self.types.encodings.get(key, key)
        if encoding == 1 and n >= 0 and known in self.types.structures:
            outer, self.end = self.end, behind
            self._structure(known, part, depth + 1)
            self.end = outer
        elif n > 0:
            self.out.unknown.add(key)
        self.p = behind

    def _skip(self, code: int) -> None:
        """Step over a value that becomes no signal."""
        if code == 14:
            self._need(16)
            self.p += 16
        elif code in (15, 16):
            self._bytes()
        elif code in (17, 18):
            self._node_id()
        elif code == 20:
            self._need(2)
            self.p += 2
            self._bytes()
        else:
            raise self._broken(f"a value of the built-in type {code}")

    def _node_id(self) -> Key:
        form = self._byte()
        flags, form = form & 0xC0, form & 0x3F
        name: int | str | bytes
        if form == 0:
            space, name = 0, self._byte()
        elif form == 1:
            space, name = self._byte(), self._byte() | self._byte() << 8
        elif form in (2, 3, 4, 5):
            space = self._byte() | self._byte() << 8
            if form == 2:
                name = self._u32()
            elif form == 4:
                self._need(16)
                name = bytes(self.b[self.p : self.p + 16])
                self.p += 16
            else:
                raw = self._bytes() or b""
                name = raw.decode("utf-8", "replace") if form == 3 else raw
        else:
            raise self._broken(f"a NodeId of form {form}")
        if flags & 0x80:
            self._bytes()
        if flags & 0x40:
            self._u32()
        return space, name

    def _leaf(self, part: str, code: int, value: float | int | str | None) -> None:
        if len(self.out.leaves) < self.most:
            self.out.leaves.append((part, code, value))
        else:
            self.out.left += 1

    def _text(self) -> str | None:
        raw = self._bytes()
        return None if raw is None else raw.decode("utf-8", "replace")

    def _bytes(self) -> bytes | None:
        n = self._i32()
        if n < 0:
            return None
        self._need(n)
        self.p += n
        return bytes(self.b[self.p - n : self.p])

    def _byte(self) -> int:
        self._need(1)
        self.p += 1
        return int(self.b[self.p - 1])

    def _i32(self) -> int:
        self._need(4)
        self.p += 4
        return int.from_bytes(self.b[self.p - 4 : self.p], "little", signed=True)

    def _u32(self) -> int:
        return self._i32() & 0xFFFFFFFF

    def _need(self, n: int) -> None:
        if n > self.end - self.p:
            raise self._broken(f"{n} bytes")

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise self._broken(f"more than {_MOST_STEPS} values")

    def _broken(self, what: str) -> DecodeError:
        return DecodeError(f"OPC UA: value of {self.end} bytes: {what} at byte {self.p}")
