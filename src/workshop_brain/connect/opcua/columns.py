"""What is known per client handle, and the way from notifications to samples.

Each handle remembers the source time of its last sample. What is missing between that and the next
one is a hole: its later end is marked GAP_BEFORE, and it can be filled from the server's history.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workshop_brain.connect import packml
from workshop_brain.connect.opcua.browse import Item
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.parts import MOST_PARTS, Apart, take_apart
from workshop_brain.connect.rows import MOST_TEXT
from workshop_brain.connect.tags import STATE_CURRENT
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

log = logging.getLogger(__name__)
T = TypeVar("T", bound=np.generic)

OVERFLOW_BITS = 0x480
_GRADE = np.array([Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD], np.uint8)
_MISSING = Quality.GAP_BEFORE | Quality.OVERFLOW
_EXACT = 1 << 53
_MOST_KEPT = 4096
_MOST_ROWS = 200_000


class Registry(Protocol):
    """The part of the outbox that gives numbers to signals and texts."""

    def declare(self, signals: Sequence[SignalDef]) -> int: ...

    def text(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Holes:
    """Stretches without samples, one row each.

    Attributes
    ----------
    handle : int64
    since_ns, until_ns : int64, source times of the last sample before and the first one behind
    value, quality : of the sample behind, as handed over
    """

    handle: NDArray[np.int64]
    since_ns: NDArray[np.int64]
    until_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.handle)

    def of(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Holes":
        """Some of the rows."""
        return Holes(
            self.handle[rows],
            self.since_ns[rows],
            self.until_ns[rows],
            self.value[rows],
            self.quality[rows],
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """Samples of one message, the holes they end, rows whose server queue overflowed."""

    samples: Samples
    holes: Holes
    overflowed: NDArray[np.int64]


@dataclass(slots=True)
class Parts:
    """Rows of the parts of one array or structure.

    Attributes
    ----------
    row
        Part to its row; -1 for one that is left out.
    run : int64, rows of the elements ``[0]``, ``[1]``, ... of an array of numbers
    present
        Parts that the last value had.
    """

    row: dict[str, int] = field(default_factory=dict)
    run: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    present: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Columns:
    """One row per client handle, and behind them one per part of an array or a structure.

    Attributes
    ----------
    items
        Of each row. The first ``heads`` are monitored, and their row is their client handle.
    head : int64, the client handle that a row's values come with
    local : uint32, ids in the outbox; of no use where a row has parts
    gap : bool, the next sample ends a hole
    last_ns, since_ns : int64, time of the last sample; where the open hole begins; 0: not known
    exact
        Client handle to the local id of its companion text signal.
    parts
        Client handle of an array or a structure to its parts.
    too_long
        (row, text) of texts that were not taken; whoever counts them empties it.
    too_many
        (client handle, number of parts beyond the bound), once for each handle; emptied likewise.
    broken
        (client handle, why, bytes) of values that could not be taken apart; emptied likewise.
    """

    items: list[Item]
    heads: int
    head: NDArray[np.int64]
    local: NDArray[np.uint32]
    is_text: NDArray[np.bool_]
    is_state: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    last_ns: NDArray[np.int64]
    since_ns: NDArray[np.int64]
    registry: Registry
    exact: dict[int, int] = field(default_factory=dict)
    parts: dict[int, Parts] = field(default_factory=dict)
    too_long: list[tuple[int, str]] = field(default_factory=list)
    too_many: list[tuple[int, int]] = field(default_factory=list)
    broken: list[tuple[int, str, bytes]] = field(default_factory=list)
    _told: set[int] = field(default_factory=set)
    _paths: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, items: list[Item], registry: Registry, last_ns: int = 0) -> "Columns":
        """Declare the signals of the items; ``last_ns`` is where an earlier life ended."""
        n = len(items)
        whole = np.array([item.composite is None for item in items], np.bool_)
        first = registry.declare([item.signal for item in items if item.composite is None])
        local = np.zeros(n, np.uint32)
        local[whole] = np.arange(first, first + np.count_nonzero(whole), dtype=np.uint32)
        out = cls(
            items=list(items),
            heads=n,
            head=np.arange(n),
            local=local,
            is_text=np.array([i.signal.kind is SignalKind.TEXT for i in items], np.bool_),
            is_state=np.array([i.signal.name == STATE_CURRENT for i in items], np.bool_),
            gap=np.zeros(n, np.bool_),
            last_ns=np.full(n, last_ns, np.int64),
            since_ns=np.zeros(n, np.int64),
            registry=registry,
        )
        out._paths = {item.signal.path for item in items}
        fresh: list[tuple[int, Item]] = []
        for handle, item in enumerate(items):
            if item.composite is not None:
                out.parts[handle] = Parts()
                out._find_new(handle, item.composite.first, fresh)
        out._append(fresh)
        return out

    def _grow(self, handle: int, parts: Sequence[tuple[str, int]]) -> None:
        """Declare parts (and their built-in types) that were not seen before."""
        fresh: list[tuple[int, Item]] = []
        self._find_new(handle, parts, fresh)
        self._append(fresh)

    def _find_new(
        self, handle: int, parts: Sequence[tuple[str, int]], fresh: list[tuple[int, Item]]
    ) -> None:
        """Add parts that were not seen before to ``fresh``, whose rows come next."""
        parent = self.items[handle]
        known = self.parts[handle]
        assert parent.composite is not None
        for part, code in parts:
            if part in known.row:
                continue
            row = len(self.items) + len(fresh)
            if len(known.row) >= MOST_PARTS or row - self.heads >= _MOST_ROWS:
                self._too_many(handle, 1)
                continue
            known.row[part] = -1
            item = parent.composite.item(parent.node_id, part, code)
            if item is None:
                continue
            if item.signal.path in self._paths:
                log.warning("%s is not stored: %s is there already", item.browse, item.signal.path)
                continue
            self._paths.add(item.signal.path)
            known.row[part] = row
            fresh.append((handle, item))

    def _append(self, fresh: list[tuple[int, Item]]) -> None:
        if not fresh:
            return
        heads = np.array([handle for handle, _ in fresh], np.int64)
        signals = [item.signal for _, item in fresh]
        first, n = self.registry.declare(signals), len(fresh)
        self.items += [item for _, item in fresh]
        self.head = _and(self.head, heads)
        self.local = _and(self.local, np.arange(first, first + n))
        self.is_text = _and(self.is_text, [s.kind is SignalKind.TEXT for s in signals])
        self.is_state = _and(self.is_state, [s.name == STATE_CURRENT for s in signals])
        # What a new element was while others were missing is not known: no hole of its own.
        self.gap = _and(self.gap, np.zeros(n))
        self.last_ns = _and(self.last_ns, self.last_ns[heads])
        self.since_ns = _and(self.since_ns, np.zeros(n))

    def _too_many(self, handle: int, left: int) -> None:
        if handle not in self._told:
            self._told.add(handle)
            self.too_many.append((handle, left))

    def inherit(self, before: "Columns") -> None:
        """Take over the open holes of columns with other items."""
        row = {item.signal.path: at for at, item in enumerate(before.items)}
        for at, item in enumerate(self.items):
            old = row.get(item.signal.path)
            if old is not None:
                self.gap[at] = before.gap[old]
                self.last_ns[at] = before.last_ns[old]
                self.since_ns[at] = before.since_ns[old]

    def open_holes(
        self, handles: NDArray[np.int64] | None, since_ns: NDArray[np.int64] | None = None
    ) -> None:
        """Something is missing for the client handles (None: all) and their parts since their
        last sample, or since the times given (one for each of ``handles``)."""
        rows = np.arange(len(self.items))
        if handles is not None and len(self.items) == self.heads:
            rows = handles
        elif handles is not None:
            rows = np.flatnonzero(np.isin(self.head, handles))
        since = self.last_ns[rows]
        if since_ns is not None and handles is not None:
            of_head = np.zeros(self.heads, np.int64)
            of_head[handles] = since_ns
            since = of_head[self.head[rows]]
        earlier = ~self.gap[rows] | (since < self.since_ns[rows])
        self.since_ns[rows[earlier]] = since[earlier]
        self.gap[rows] = True

    def take(self, message: Notifications) -> Taken:
        """Live rows; IndexError when a kernel's row does not exist."""
        message = self._known(message)
        if self.parts:
            message = self._taken_apart(message)
        handle = message.handle.astype(np.int64)
        value, quality = self._values(message, handle)
        overflow = (message.status & np.uint32(OVERFLOW_BITS)) == OVERFLOW_BITS
        quality[overflow] |= np.uint8(Quality.OVERFLOW)
        ends, since = self._ends(handle, message.time_ns, overflow)
        quality[ends] |= np.uint8(Quality.GAP_BEFORE)
        until = message.time_ns[ends]
        holes = Holes(handle[ends], since, until, value[ends], quality[ends])
        np.maximum.at(self.last_ns, handle, message.time_ns)
        samples = Samples(self.local[handle], message.time_ns, value, quality)
        if message.exact:
            samples = self._with_exact(message, handle, samples)
        return Taken(samples, holes.of((since > 0) & (since < until)), handle[overflow])

    def of_row(self, found: Notifications, row: int) -> Notifications:
        """Values of the variable behind a row as values of the row: of a part its own alone."""
        handle = np.full(len(found), row, np.uint32)
        composite = self.items[int(self.head[row])].composite
        if row < self.heads or composite is None:
            return replace(found, handle=handle)
        texts: list[tuple[int, str]] = []
        exact: list[tuple[int, int]] = []
        part = self.items[row].part
        values = np.full(len(found), np.nan)
        for at, raw in found.nested:
            try:
                apart = take_apart(raw, composite.types)
            except DecodeError:
                continue
            if apart.numbers is not None:
                k = int(part[1:-1]) if part[1:-1].isdecimal() else len(apart.numbers)
                values[at] = apart.numbers[k] if k < len(apart.numbers) else np.nan
                continue
            value = next((v for name, _, v in apart.leaves if name == part), None)
            if isinstance(value, str):
                texts.append((at, value))
            elif value is not None:
                values[at] = value
                if isinstance(value, int) and abs(value) > _EXACT:
                    exact.append((at, value))
        return replace(found, handle=handle, value=values, texts=texts, exact=exact, nested=[])

    def _taken_apart(self, message: Notifications) -> Notifications:
        """The message with rows of parts in the place of arrays and structures."""
        composite = np.zeros(self.heads, np.bool_)
        composite[list(self.parts)] = True
        at = composite[message.handle]
        if not at.any():
            return message
        encoded = dict(message.nested)
        np.maximum.at(self.last_ns, message.handle[at], message.time_ns[at])
        self.gap[message.handle[at]] = False  # only its parts have samples that can be marked
        plain = selected(message, np.flatnonzero(~at))
        out = _Rows()
        for row in np.flatnonzero(at).tolist():
            self._take_one(int(message.handle[row]), row, encoded.get(row), out)
        if not out.source:
            return plain
        source = np.concatenate(out.source)
        return joined([plain, replace(
            message,
            handle=np.concatenate(out.row).astype(np.uint32),
            value=np.concatenate(out.value),
            status=message.status[source],
            time_ns=message.time_ns[source],
            texts=out.texts,
            exact=out.exact,
            nested=[],
        )])  # fmt: skip

    def _take_one(self, handle: int, row: int, raw: memoryview | None, out: "_Rows") -> None:
        """Rows of the parts of one value; parts that are no longer there become NaN, once."""
        known, composite = self.parts[handle], self.items[handle].composite
        assert composite is not None
        apart = Apart()
        if raw is not None:
            try:
                apart = take_apart(raw, composite.types)
            except DecodeError as error:
                self.broken.append((handle, str(error), bytes(raw[:_MOST_KEPT])))
            if apart.unknown:
                why = f"structure of the unknown type {sorted(map(str, apart.unknown))}"
                self.broken.append((handle, why, bytes(raw[:_MOST_KEPT])))
        if apart.left:
            self._too_many(handle, apart.left)
        if apart.numbers is not None:
            self._take_run(handle, row, apart, out)
            return
        self._grow(handle, apart.parts())
        begin = out.count
        rows: list[int] = []
        values: list[float] = []
        present = set()
        for part, _, value in apart.leaves:
            which = known.row.get(part, -1)
            if which < 0:
                continue
            present.add(part)
            at = begin + len(rows)
            rows.append(which)
            values.append(float(value) if isinstance(value, (int, float)) else math.nan)
            if isinstance(value, str):
                out.texts.append((at, value))
            elif isinstance(value, int) and abs(value) > _EXACT:
                out.exact.append((at, value))
        gone = [known.row[part] for part in known.present - present]
        known.present = present
        out.add(row, [*rows, *gone], values + [math.nan] * len(gone))

    def _take_run(self, handle: int, row: int, apart: Apart, out: "_Rows") -> None:
        """The same for an array of numbers, without a step per element."""
        known, numbers = self.parts[handle], apart.numbers
        assert numbers is not None
        n = len(numbers)
        if n > len(known.run):
            self._grow(handle, apart.parts())
            known.run = np.array([known.row.get(f"[{k}]", -1) for k in range(n)], np.int64)
        elif n < len(known.present):
            numbers = np.append(numbers, np.full(len(known.present) - n, np.nan))
        if n != len(known.present):
            known.present = {f"[{k}]" for k in range(n)}
        rows = known.run[: len(numbers)]
        kept = rows >= 0
        out.add(row, rows[kept], numbers[kept])

    def past(self, message: Notifications, gap_rows: NDArray[np.bool_]) -> Samples:
        """Rows from the server's history; those of ``gap_rows`` have a hole before them."""
        handle = message.handle.astype(np.int64)
        value, quality = self._values(message, handle)
        quality |= np.uint8(Quality.HISTORICAL)
        quality[gap_rows] |= np.uint8(Quality.GAP_BEFORE)
        samples = Samples(self.local[handle], message.time_ns, value, quality)
        return self._with_exact(message, handle, samples) if message.exact else samples

    def closed(self, holes: Holes) -> Samples:
        """The samples behind holes once more, without the mark of what is there now."""
        quality = holes.quality & np.uint8(~_MISSING & 0xFF) | np.uint8(Quality.HISTORICAL)
        return Samples(self.local[holes.handle], holes.until_ns, holes.value, quality)

    def _known(self, message: Notifications) -> Notifications:
        known = message.handle < self.heads
        if known.all():
            return message
        log.warning("%d values with unknown handles", np.count_nonzero(~known))
        return selected(message, np.flatnonzero(known))

    def _values(
        self, message: Notifications, handle: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        value = np.where(np.isinf(message.value), np.nan, message.value)
        quality = _GRADE[message.status >> np.uint32(30)]
        state = self.is_state[handle]
        if state.any():
            mapped, listed = packml.unit_states(value[state])
            value = value.copy()
            value[state] = mapped
            quality[state] |= np.where(listed, 0, int(Quality.BAD)).astype(np.uint8)
        value = self._with_texts(message, handle, value)
        return value, np.where(np.isnan(value), quality | np.uint8(Quality.BAD), quality)

    def _ends(
        self,
        handle: NDArray[np.int64],
        time_ns: NDArray[np.int64],
        overflow: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows that end a hole, since when it is open); closes the open ones."""
        if not overflow.any() and not self.gap.any():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        before = self.last_ns[handle]
        order = np.argsort(handle, kind="stable")
        again = handle[order[1:]] == handle[order[:-1]]
        before[order[1:][again]] = time_ns[order[:-1][again]]
        ids, first = np.unique(handle, return_index=True)
        rows = first[self.gap[ids]]
        before[rows] = np.minimum(before[rows], self.since_ns[handle[rows]])
        self.gap[ids] = False
        # A value of the same source time was not written since: nothing is missing.
        ends = overflow.copy()
        ends[rows] |= time_ns[rows] != before[rows]
        at = np.flatnonzero(ends)
        return at, before[at]

    def _with_texts(
        self, message: Notifications, handle: NDArray[np.int64], value: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        text = self.is_text[handle]
        if not text.any():
            return value
        value = value.copy()
        written = dict(message.texts)
        for row in np.flatnonzero(text).tolist():
            words = written.get(row)
            if words is None and not math.isnan(value[row]):
                words = format(value[row], ".17g")
            if words is not None and len(words) > MOST_TEXT:
                self.too_long.append((int(handle[row]), words))
                words = None
            value[row] = float("nan") if words is None else self.registry.text(words)
        return value

    def _with_exact(
        self, message: Notifications, handle: NDArray[np.int64], samples: Samples
    ) -> Samples:
        """Add a text sample with all digits for each integer beyond 2**53."""
        rows, ids, codes = [], [], []
        for row, number in message.exact:
            which = int(handle[row])
            if self.is_text[which]:
                continue
            if which not in self.exact:
                self.exact[which] = self.registry.declare([_companion(self.items[which].signal)])
            rows.append(row)
            ids.append(self.exact[which])
            codes.append(self.registry.text(str(number)))
        return Samples(
            np.concatenate([samples.signal, np.array(ids, np.uint32)]),
            np.concatenate([samples.time_ns, samples.time_ns[rows]]),
            np.concatenate([samples.value, np.array(codes, np.float64)]),
            np.concatenate([samples.quality, samples.quality[rows]]),
        )


@dataclass(slots=True)
class _Rows:
    """Rows of parts while they are collected; ``source`` is the row of the value in its message."""

    source: list[NDArray[np.int64]] = field(default_factory=list)
    row: list[NDArray[np.int64]] = field(default_factory=list)
    value: list[NDArray[np.float64]] = field(default_factory=list)
    texts: list[tuple[int, str]] = field(default_factory=list)
    exact: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0

    def add(
        self,
        source: int,
        row: Sequence[int] | NDArray[np.int64],
        value: Sequence[float] | NDArray[np.float64],
    ) -> None:
        """The parts of one value."""
        self.source.append(np.full(len(row), source))
        self.row.append(np.asarray(row, np.int64))
        self.value.append(np.asarray(value, np.float64))
        self.count += len(row)


def _and(column: NDArray[T], more: ArrayLike) -> NDArray[T]:
    return np.concatenate([column, np.asarray(more).astype(column.dtype)])


def _companion(signal: SignalDef) -> SignalDef:
    return replace(
        signal, path=f"{signal.path}_exact", kind=SignalKind.TEXT, unit="", low=0.0, high=1.0
    )


def selected(message: Notifications, rows: NDArray[np.int64]) -> Notifications:
    """Some rows of a message, in the order given."""
    place = np.full(len(message), -1)
    place[rows] = np.arange(len(rows))
    return replace(
        message,
        handle=message.handle[rows],
        value=message.value[rows],
        status=message.status[rows],
        time_ns=message.time_ns[rows],
        texts=[(int(place[row]), text) for row, text in message.texts if place[row] >= 0],
        exact=[(int(place[row]), number) for row, number in message.exact if place[row] >= 0],
        nested=[(int(place[row]), raw) for row, raw in message.nested if place[row] >= 0],
    )


def joined(parts: Sequence[Notifications]) -> Notifications:
    """The rows of several messages, one after the other."""
    texts: list[tuple[int, str]] = []
    exact: list[tuple[int, int]] = []
    nested: list[tuple[int, memoryview]] = []
    at = 0
    for part in parts:
        texts += [(at + row, text) for row, text in part.texts]
        exact += [(at + row, number) for row, number in part.exact]
        nested += [(at + row, raw) for row, raw in part.nested]
        at += len(part)
    return replace(
        parts[0],
        handle=np.concatenate([p.handle for p in parts]),
        value=np.concatenate([p.value for p in parts]),
        status=np.concatenate([p.status for p in parts]),
        time_ns=np.concatenate([p.time_ns for p in parts]),
        texts=texts,
        exact=exact,
        nested=nested,
    )
