"""State intervals that never overlap and leave no gap, and what the time went into.

Calendar time of a unit is partitioned into disjoint, exhaustive time classes, in whole
nanoseconds, so that losses plus fully productive time equal calendar time exactly.
The map to the time elements of ISO 22400-2 follows OPC 40001-1 Annex C.2 in spirit: PackML says
*Held* for a cause inside the unit and *Suspended* for one outside.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.state import (
    DOWN_STATES,
    RUNNING_STATES,
    StopReason,
    UnitState,
)


class TimeClass(IntEnum):
    """What a stretch of calendar time was used for, or lost to."""

    UNKNOWN = 0
    PRODUCTION = 1
    SETUP = 2
    BREAKDOWN = 3
    MICRO_STOP = 4
    TOOL_CHANGE = 5
    QUALITY_STOP = 6
    NO_OPERATOR = 7
    STARVED = 8
    BLOCKED = 9
    NO_JOB = 10
    PLANNED_STOP = 11
    OTHER_STOP = 12


_BY_REASON = {
    StopReason.STARVED: TimeClass.STARVED,
    StopReason.BLOCKED: TimeClass.BLOCKED,
    StopReason.SETUP: TimeClass.SETUP,
    StopReason.BREAKDOWN: TimeClass.BREAKDOWN,
    StopReason.MICRO_STOP: TimeClass.MICRO_STOP,
    StopReason.TOOL_CHANGE: TimeClass.TOOL_CHANGE,
    StopReason.QUALITY_STOP: TimeClass.QUALITY_STOP,
    StopReason.NO_OPERATOR: TimeClass.NO_OPERATOR,
    StopReason.PLANNED_STOP: TimeClass.PLANNED_STOP,
    StopReason.NO_JOB: TimeClass.NO_JOB,
    StopReason.MAINTENANCE: TimeClass.PLANNED_STOP,
    StopReason.WAITING_BATCH: TimeClass.STARVED,
}


def time_class(state: UnitState, reason: StopReason) -> TimeClass:
    """Time class of a state with its reason; the reason counts only while the unit stands.

    >>> time_class(UnitState.EXECUTE, StopReason.STARVED).name
    'PRODUCTION'
    >>> time_class(UnitState.SUSPENDED, StopReason.BLOCKED).name
    'BLOCKED'
    """
    if state is UnitState.UNKNOWN:
        return TimeClass.UNKNOWN
    if state in RUNNING_STATES:
        return TimeClass.PRODUCTION
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if state in DOWN_STATES:
        return TimeClass.BREAKDOWN
    if state in (UnitState.IDLE, UnitState.COMPLETE, UnitState.RESETTING):
        return TimeClass.NO_JOB
    if state in (UnitState.SUSPENDED, UnitState.SUSPENDING, UnitState.UNSUSPENDING):
        return TimeClass.STARVED
    return TimeClass.OTHER_STOP


_CLASS_OF = np.array(
    [[time_class(state, reason) for reason in StopReason] for state in UnitState], np.uint8
)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Stretches of one state, ordered by unit and time; arrays of one length.

    Attributes
    ----------
    unit : int32, row of the unit
    start_ns, end_ns : int64, ``start < end``; the next interval of the unit starts at ``end``
    state, reason : uint8, UnitState and StopReason
    """

    unit: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    state: NDArray[np.uint8]
    reason: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def time_class(self) -> NDArray[np.uint8]:
        """TimeClass of each interval."""
        return _CLASS_OF[self.state, self.reason]


def intervals(
    unit: NDArray[np.int32],
    time_ns: NDArray[np.int64],
    state: NDArray[np.uint8],
    reason: NDArray[np.uint8],
    *,
    units: int,
    from_ns: int,
    to_ns: int,
) -> Intervals:
    """Disjoint, exhaustive intervals of ``[from_ns, to_ns)`` for units ``0..units-1``.

    The changes may come in any order and more than once; of several at one instant the last
    given wins. Time before the first change of a unit is UNKNOWN.
    """
    if to_ns <= from_ns or units == 0:
        none = np.empty(0, np.int64)
        return Intervals(
            none.astype(np.int32), none, none, none.astype(np.uint8), none.astype(np.uint8)
        )
    rows = np.arange(units, dtype=np.int32)
    unit = np.concatenate([rows, unit.astype(np.int32)])
    time_ns = np.concatenate([np.full(units, np.iinfo(np.int64).min), time_ns])
    state = np.concatenate([np.zeros(units, np.uint8), state])
    reason = np.concatenate([np.zeros(units, np.uint8), reason])
    order = np.lexsort((np.arange(len(unit)), time_ns, unit))
    unit, time_ns, state, reason = unit[order], time_ns[order], state[order], reason[order]
    last = np.ones(len(unit), np.bool_)
    last[:-1] = (unit[1:] != unit[:-1]) | (time_ns[1:] != time_ns[:-1])
    unit, time_ns, state, reason = unit[last], time_ns[last], state[last], reason[last]
    ends = np.full(len(unit), to_ns, np.int64)
    same = unit[1:] == unit[:-1]
    ends[:-1][same] = time_ns[1:][same]
    start = np.clip(time_ns, from_ns, to_ns)
    end = np.clip(ends, from_ns, to_ns)
    keep = end > start
    return Intervals(unit[keep], start[keep], end[keep], state[keep], reason[keep])


def time_by_class(found: Intervals, units: int) -> NDArray[np.int64]:
    """Nanoseconds per unit and TimeClass; int64, shape (units, 13). Rows sum to the window."""
    out = np.zeros((units, len(TimeClass)), np.int64)
    np.add.at(out, (found.unit, found.time_class), found.end_ns - found.start_ns)
    return out


@dataclass(slots=True)
class StateLog:
    """The newest state changes of all units, in a bounded ring.

    Attributes
    ----------
    capacity
        Changes kept; 18 bytes each.
    """

    capacity: int = 400_000
    _unit: NDArray[np.int32] = field(init=False)
    _time_ns: NDArray[np.int64] = field(init=False)
    _state: NDArray[np.uint8] = field(init=False)
    _reason: NDArray[np.uint8] = field(init=False)
    _count: int = 0
    _base: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.capacity <= 0:
            raise ValueError(f"StateLog: capacity must be > 0, got {self.capacity}")
        self._unit = np.zeros(self.capacity, np.int32)
        self._time_ns = np.zeros(self.capacity, np.int64)
        self._state = np.zeros(self.capacity, np.uint8)
        self._reason = np.zeros(self.capacity, np.uint8)

    def __len__(self) -> int:
        return min(self._count, self.capacity)

    def append(self, unit: int, time_ns: int, state: UnitState, reason: StopReason) -> None:
        """Note that ``unit`` is in ``(state, reason)`` from ``time_ns`` on."""
        at = self._count % self.capacity
        if self._count >= self.capacity:
            self._forget(at)
        self._unit[at], self._time_ns[at] = unit, time_ns
        self._state[at], self._reason[at] = state, reason
        self._count += 1

    def _forget(self, at: int) -> None:
        """What falls out of the ring stays as the state its unit was in at the beginning."""
        unit, time_ns = int(self._unit[at]), int(self._time_ns[at])
        if unit not in self._base or self._base[unit][0] <= time_ns:
            self._base[unit] = (time_ns, int(self._state[at]), int(self._reason[at]))

    def intervals(
        self, units: int, from_ns: int, to_ns: int, *, only: NDArray[np.int32] | None = None
    ) -> Intervals:
        """Intervals of ``[from_ns, to_ns)``; see ``intervals``.

        ``only`` names the units that are wanted; the others are UNKNOWN all along. What lies
        before the window is reduced to one state per unit first, so that a short window over a
        long log costs a few milliseconds.
        """
        wanted = np.ones(max(units, 1), np.bool_)
        if only is not None:
            wanted[:] = False
            wanted[only] = True
        n = len(self)
        order = np.arange(self._count - n, self._count) % self.capacity
        order = order[wanted[np.minimum(self._unit[order], units - 1)]]
        head = np.array([(u, *b) for u, b in self._base.items()], np.int64).reshape(-1, 4)
        unit = np.concatenate([head[:, 0].astype(np.int32), self._unit[order]])
        time_ns = np.concatenate([head[:, 1], self._time_ns[order]])
        keep = (time_ns >= from_ns) & (time_ns < to_ns)
        before = np.flatnonzero(time_ns < from_ns)
        if len(before):
            # Nearly sorted as the log is, a stable sort takes it in one pass.
            before = before[np.argsort(time_ns[before], kind="stable")]
            last = np.full(int(unit.max()) + 1, -1, np.intp)
            last[unit[before]] = before
            keep[last[last >= 0]] = True
        keep &= (unit < units) & wanted[np.minimum(unit, units - 1)]
        kept = np.flatnonzero(keep)
        state = np.concatenate([head[:, 2].astype(np.uint8), self._state[order]])
        reason = np.concatenate([head[:, 3].astype(np.uint8), self._reason[order]])
        return intervals(
            unit[kept],
            time_ns[kept],
            state[kept],
            reason[kept],
            units=units,
            from_ns=from_ns,
            to_ns=to_ns,
        )
