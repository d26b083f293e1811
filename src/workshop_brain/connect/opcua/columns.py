"""What is known per client handle, and the way from notifications to samples.

Each handle remembers the source time of its last sample. What is missing between that and the next
one is a hole: its later end is marked GAP_BEFORE, and it can be filled from the server's history.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import packml
from workshop_brain.connect.opcua.browse import Item
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.rows import MOST_TEXT
from workshop_brain.connect.tags import STATE_CURRENT
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

log = logging.getLogger(__name__)

OVERFLOW_BITS = 0x480
_GRADE = np.array([Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD], np.uint8)
_MISSING = Quality.GAP_BEFORE | Quality.OVERFLOW


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
    """Samples of one message, the holes they end, handles whose server queue overflowed."""

    samples: Samples
    holes: Holes
    overflowed: NDArray[np.int64]


@dataclass(slots=True)
class Columns:
    """One row per client handle.

    Attributes
    ----------
    local : uint32, ids in the outbox
    gap : bool, the next sample ends a hole
    last_ns, since_ns : int64, time of the last sample; where the open hole begins; 0: not known
    exact
        Client handle to the local id of its companion text signal.
    too_long
        (client handle, text) of texts that were not taken; whoever counts them empties it.
    """

    items: list[Item]
    local: NDArray[np.uint32]
    is_text: NDArray[np.bool_]
    is_state: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    last_ns: NDArray[np.int64]
    since_ns: NDArray[np.int64]
    registry: Registry
    exact: dict[int, int] = field(default_factory=dict)
    too_long: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, items: list[Item], registry: Registry, last_ns: int = 0) -> "Columns":
        """Declare the signals of the items; ``last_ns`` is where an earlier life ended."""
        n = len(items)
        first = registry.declare([item.signal for item in items])
        return cls(
            items=items,
            local=np.arange(first, first + n, dtype=np.uint32),
            is_text=np.array([i.signal.kind is SignalKind.TEXT for i in items], np.bool_),
            is_state=np.array([i.signal.name == STATE_CURRENT for i in items], np.bool_),
            gap=np.zeros(n, np.bool_),
            last_ns=np.full(n, last_ns, np.int64),
            since_ns=np.zeros(n, np.int64),
            registry=registry,
        )

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
        """Something is missing for the handles (None: all) since their last sample, or since the
        times given (one for each of ``handles``)."""
        rows = np.arange(len(self.items)) if handles is None else handles
        since = self.last_ns[rows] if since_ns is None else since_ns
        earlier = ~self.gap[rows] | (since < self.since_ns[rows])
        self.since_ns[rows[earlier]] = since[earlier]
        self.gap[rows] = True

    def take(self, message: Notifications) -> Taken:
        """Live rows; IndexError when a kernel's row does not exist."""
        message = self._known(message)
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
        known = message.handle < len(self.items)
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


def _companion(signal: SignalDef) -> SignalDef:
    return replace(
        signal, path=f"{signal.path}_exact", kind=SignalKind.TEXT, unit="", low=0.0, high=1.0
    )


def selected(message: Notifications, rows: NDArray[np.int64]) -> Notifications:
    """Some rows of a message, in the order given."""
    place = {int(row): at for at, row in enumerate(rows)}
    return replace(
        message,
        handle=message.handle[rows],
        value=message.value[rows],
        status=message.status[rows],
        time_ns=message.time_ns[rows],
        texts=[(place[row], text) for row, text in message.texts if row in place],
        exact=[(place[row], number) for row, number in message.exact if row in place],
    )


def joined(parts: Sequence[Notifications]) -> Notifications:
    """The rows of several messages, one after the other."""
    texts: list[tuple[int, str]] = []
    exact: list[tuple[int, int]] = []
    at = 0
    for part in parts:
        texts += [(at + row, text) for row, text in part.texts]
        exact += [(at + row, number) for row, number in part.exact]
        at += len(part)
    return replace(
        parts[0],
        handle=np.concatenate([p.handle for p in parts]),
        value=np.concatenate([p.value for p in parts]),
        status=np.concatenate([p.status for p in parts]),
        time_ns=np.concatenate([p.time_ns for p in parts]),
        texts=texts,
        exact=exact,
    )
