"""The current value of every signal, as columns indexed by registry id.

``update`` is array assignment: no object per sample, a few microseconds for a whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples, SignalDef
from workshop_brain.units import NS_PER_H, NS_PER_S

FUTURE_NS = NS_PER_H
"""A stamp further ahead of plant time comes from a wrong clock."""
SILENCE_NS = 2 * NS_PER_S
"""A source that is listened to and says nothing for this long is lost (handover, frame PULSE)."""


@dataclass(slots=True)
class _Source:
    """Liveness of one source; ``heard_ns`` is wall time, 0 while nobody reports it."""

    index: int
    lost: bool = False
    heard_ns: int = 0


@dataclass(slots=True)
class LiveTable:
    """Columns over all signals; a signal's registry id is its position.

    Attributes
    ----------
    value : float64, shape (n,)
        Last value; NaN before the first sample. Text signals hold the dictionary code.
    quality : uint8, shape (n,)
        ``Quality`` of the last value.
    time_ns, received_ns : int64, shape (n,)
        Source time and wall time of arrival of the last value; 0 before the first sample.
    low, high : float64, shape (n,)
        Display range.
    newest_ns
        Newest source time seen so far in the whole table, 0 at first.
    version
        Counts everything that can change what a screen shows.
    """

    signals: list[SignalDef] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    value: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    quality: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    time_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    received_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    low: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    high: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    kind: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    newest_ns: int = 0
    version: int = 0
    _silent: set[tuple[str, str]] = field(default_factory=set)
    """(source, edge node) of nodes that died or fell silent."""
    _source: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _dead: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    _sources: dict[str, _Source] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Length of the registry: two parties with the same epoch mean the same ids."""
        return len(self.signals)

    def extend(self, signals: Sequence[SignalDef]) -> None:
        """Add rows for the newest signals of the registry, in id order."""
        if not signals:
            return
        for signal in signals:
            self.ids[signal.path] = len(self.signals)
            self.signals.append(signal)
        n = len(signals)
        self.value = np.concatenate([self.value, np.full(n, np.nan)])
        self.quality = np.concatenate([self.quality, np.full(n, Quality.BAD, np.uint8)])
        self.time_ns = np.concatenate([self.time_ns, np.zeros(n, np.int64)])
        self.received_ns = np.concatenate([self.received_ns, np.zeros(n, np.int64)])
        self.low = np.concatenate([self.low, np.array([s.low for s in signals])])
        self.high = np.concatenate([self.high, np.array([s.high for s in signals])])
        self.kind = np.concatenate([self.kind, np.array([s.kind for s in signals], np.uint8)])
        sources = np.array([self._source_of(s.source).index for s in signals], np.int32)
        self._source = np.concatenate([self._source, sources])
        dead = np.array([self._is_silent(s) for s in signals], np.bool_)
        self._dead = np.concatenate([self._dead, dead])
        self.version += 1

    def update(self, samples: Samples, received_ns: int, *, plant_ns: int | None = None) -> None:
        """Take over one batch; for each signal the newest source time wins.

        Of several samples with one instant the last of the batch wins. A HISTORICAL sample
        therefore never replaces a newer value. A value whose stamp is more than an hour ahead of
        ``plant_ns`` gives way to any sample within an hour of it.
        """
        if len(samples) == 0:
            return
        signal, time_ns = samples.signal, samples.time_ns
        value, quality = samples.value, samples.quality
        last_ns = self.time_ns[signal]
        fresh = time_ns >= last_ns
        if not fresh.all():
            if plant_ns is not None:
                near = np.abs(time_ns - plant_ns) <= FUTURE_NS
                fresh |= near & (last_ns > plant_ns + FUTURE_NS)
            signal, time_ns = signal[fresh], time_ns[fresh]
            value, quality = value[fresh], quality[fresh]
            if len(signal) == 0:
                return
        if len(time_ns) > 1 and bool((time_ns[1:] < time_ns[:-1]).any()):
            order = np.argsort(time_ns, kind="stable")
            signal, time_ns = signal[order], time_ns[order]
            value, quality = value[order], quality[order]
        self.value[signal] = value
        self.quality[signal] = quality
        self.time_ns[signal] = time_ns
        self.received_ns[signal] = received_ns
        self.newest_ns = max(self.newest_ns, believable_ns(time_ns, plant_ns))
        self.version += 1

    def heard(self, source: str, wall_ns: int) -> None:
        """A frame (data or pulse) of a source came in: it is alive, and is watched from now on."""
        state = self._source_of(source)
        state.heard_ns = wall_ns
        if state.lost:
            self.source_up(source)

    def source_lost(self, source: str) -> None:
        """Everything of this source is stale from now on."""
        self._source_of(source).lost = True
        self.version += 1

    def source_up(self, source: str) -> None:
        """The source is back; its values are what they were until new ones come."""
        self._source_of(source).lost = False
        self.version += 1

    def mark_node(self, source: str, node: str, *, stale: bool) -> None:
        """An edge node ``group/node`` of a source died or fell silent, or is back.

        Its signals are stale until it is back; their values stay what they were.
        """
        before = len(self._silent)
        (self._silent.add if stale else self._silent.discard)((source, node))
        if len(self._silent) != before:
            self._dead = np.array([self._is_silent(s) for s in self.signals], np.bool_)
            self.version += 1

    def _is_silent(self, signal: SignalDef) -> bool:
        """Whether its edge node is; the address begins ``group/node/``."""
        if not self._silent:
            return False
        return (signal.source, "/".join(signal.address.split("/", 2)[:2])) in self._silent

    def lost_sources(self, now_ns: int) -> list[str]:
        """Ids of the sources that are lost at wall time ``now_ns``."""
        return [name for name, s in self._sources.items() if _is_lost(s, now_ns)]

    def stale(self, now_ns: int) -> NDArray[np.bool_]:
        """True where the source of a signal is lost at wall time ``now_ns``; shape (n,).

        By liveness of the source, not by silence of the signal: a source that reports by
        exception is silent about what does not change.
        """
        if not self._sources:
            return self._dead.copy()
        lost = np.zeros(len(self._sources), np.bool_)
        for source in self._sources.values():
            lost[source.index] = _is_lost(source, now_ns)
        if not lost.any():
            return self._dead.copy()
        return lost[self._source] | self._dead

    def _source_of(self, source: str) -> _Source:
        state = self._sources.get(source)
        if state is None:
            state = self._sources[source] = _Source(index=len(self._sources))
        return state


def _is_lost(source: _Source, now_ns: int) -> bool:
    return source.lost or (source.heard_ns > 0 and now_ns - source.heard_ns > SILENCE_NS)


def believable_ns(time_ns: NDArray[np.int64], now_ns: int | None) -> int:
    """The newest stamp that is not more than an hour ahead of ``now_ns``; 0 when there is none.

    Without ``now_ns`` the newest of all.

    >>> believable_ns(np.array([5, 7, 9 * NS_PER_H]), 8)
    7
    """
    if now_ns is not None:
        time_ns = time_ns[time_ns <= now_ns + FUTURE_NS]
    return int(time_ns.max(initial=0))
