"""Unit states as they are now, read from the signals of each unit, and what just happened.

``UnitTable.update`` lies on the reaction path: a batch without a unit signal costs one array
lookup; the others are walked sample by sample, because the order of changes within one unit
matters and there are only some dozens of them a second.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef
from workshop_brain.model.state import (
    DOWN_STATES,
    RUNNING_STATES,
    StopReason,
    UnitMode,
    UnitState,
)
from workshop_brain.units import NS_PER_S

GAPS = 32
"""Finished-part gaps kept per unit: enough for a robust takt, short enough to follow a change."""
_QUIET_CYCLES = 3.0
_QUIET_LEAST_S = 10.0


class _Role(IntEnum):
    """What a signal says of its unit; 0 means nothing."""

    STATE = 1
    MODE = 2
    REASON = 3
    BLOCKED = 4
    STARVED = 5
    PROCESSED = 6
    DEFECTIVE = 7
    INFEED = 8
    JOB = 9
    SERIAL = 10
    ALARM = 11


_ROLES = {
    "state_current": _Role.STATE,
    "unit_mode_current": _Role.MODE,
    "stop_reason": _Role.REASON,
    "blocked": _Role.BLOCKED,
    "starved": _Role.STARVED,
    "prod_processed_count": _Role.PROCESSED,
    "prod_defective_count": _Role.DEFECTIVE,
    "infeed_level": _Role.INFEED,
    "job_order": _Role.JOB,
    "serial": _Role.SERIAL,
    "alarm_code": _Role.ALARM,
}
_ANCHORS = frozenset({_Role.STATE, _Role.PROCESSED})
_SPEAKS_OF_STATE = frozenset({_Role.STATE, _Role.REASON, _Role.MODE, _Role.BLOCKED, _Role.STARVED})
_STATES = frozenset(int(s) for s in UnitState)
_REASONS = frozenset(int(r) for r in StopReason)
_MODES = frozenset(int(m) for m in UnitMode)


class Condition(IntEnum):
    """What stands in the way of a unit, as far as the planner must know it."""

    NONE = 0
    BREAKDOWN = 1
    QUALITY_STOP = 2
    NO_OPERATOR = 3


_ENTER = {
    Condition.BREAKDOWN: EventKind.BREAKDOWN,
    Condition.QUALITY_STOP: EventKind.QUALITY_STOP,
    Condition.NO_OPERATOR: EventKind.OPERATOR_ABSENT,
}
_LEAVE = {
    Condition.BREAKDOWN: EventKind.RESTORED,
    Condition.QUALITY_STOP: EventKind.RESTORED,
    Condition.NO_OPERATOR: EventKind.OPERATOR_BACK,
}


def condition_of(state: UnitState, reason: StopReason) -> Condition:
    """What a PackML state and its stop reason mean for the plan.

    A running unit is in no one's way, whatever reason still stands from before.

    >>> condition_of(UnitState.ABORTED, StopReason.NONE).name
    'BREAKDOWN'
    >>> condition_of(UnitState.HELD, StopReason.QUALITY_STOP).name
    'QUALITY_STOP'
    """
    if state in RUNNING_STATES:
        return Condition.NONE
    if reason is StopReason.QUALITY_STOP:
        return Condition.QUALITY_STOP
    if reason is StopReason.NO_OPERATOR:
        return Condition.NO_OPERATOR
    if state in DOWN_STATES or reason is StopReason.BREAKDOWN:
        return Condition.BREAKDOWN
    return Condition.NONE


class UnitTable:
    """One row per unit that has a PackML state or, failing that, a part counter.

    Attributes
    ----------
    paths, rows
        Unit path by row, and the row of a path.
    state, reason, mode : uint8, shape (n,)
        UnitState, StopReason, UnitMode.
    since_ns : int64
        Plant time since which ``(state, reason)`` is what it is; 0 when never seen.
    processed, defective : int64
        Raw counters; -1 before the first sample.
    infeed_level, infeed_capacity : float64
        Pieces waiting before the unit and how many fit (display range); NaN when unknown.
    job, serial : int64
        Text codes; -1 when unknown.
    alarm : int64
        Alarm code; 0 when none.
    condition : uint8
        Condition, what RESTORED and its like are derived from.
    last_count_ns : int64
        When the processed counter last rose; 0 when never.
    state_signal : int64
        Registry id of the state signal, -1 for a unit whose state is inferred.
    gap_s : float64, shape (n, GAPS)
        Seconds between the newest finished parts, ring; NaN where there is none yet.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.rows: dict[str, int] = {}
        self.state: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.reason: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.mode: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.blocked: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.starved: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.since_ns: NDArray[np.int64] = np.empty(0, np.int64)
        self.processed: NDArray[np.int64] = np.empty(0, np.int64)
        self.defective: NDArray[np.int64] = np.empty(0, np.int64)
        self.infeed_level: NDArray[np.float64] = np.empty(0)
        self.infeed_capacity: NDArray[np.float64] = np.empty(0)
        self.job: NDArray[np.int64] = np.empty(0, np.int64)
        self.serial: NDArray[np.int64] = np.empty(0, np.int64)
        self.alarm: NDArray[np.int64] = np.empty(0, np.int64)
        self.condition: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.last_count_ns: NDArray[np.int64] = np.empty(0, np.int64)
        self.state_signal: NDArray[np.int64] = np.empty(0, np.int64)
        self.any_signal: NDArray[np.int64] = np.empty(0, np.int64)
        self.gap_s: NDArray[np.float64] = np.empty((0, GAPS))
        self._gap_count: NDArray[np.int64] = np.empty(0, np.int64)
        self._seen_ns: NDArray[np.int64] = np.empty((len(_Role) + 1, 0), np.int64)
        self._role: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._row: NDArray[np.int32] = np.empty(0, np.int32)
        self._waiting: dict[str, list[tuple[int, _Role, SignalDef]]] = {}
        self._before: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    # -- registry ---------------------------------------------------------------------------

    def extend(self, signals: Sequence[SignalDef]) -> None:
        """Add the newest signals of the registry, in id order; new units get rows."""
        first = len(self._role)
        self._role = np.concatenate([self._role, np.zeros(len(signals), np.uint8)])
        self._row = np.concatenate([self._row, np.full(len(signals), -1, np.int32)])
        for id, signal in enumerate(signals, first):
            role = _ROLES.get(signal.name)
            if role is None:
                continue
            unit = signal.unit_path
            row = self.rows.get(unit)
            if row is None and role not in _ANCHORS:
                self._waiting.setdefault(unit, []).append((id, role, signal))
                continue
            if row is None:
                row = self._add_row(unit)
                self.any_signal[row] = id
                for waiting in self._waiting.pop(unit, []):
                    self._attach(row, *waiting)
            self._attach(row, id, role, signal)

    def _attach(self, row: int, id: int, role: _Role, signal: SignalDef) -> None:
        self._role[id] = role
        self._row[id] = row
        if role is _Role.STATE:
            self.state_signal[row] = id
        elif role is _Role.INFEED:
            self.infeed_capacity[row] = signal.high

    def _add_row(self, unit: str) -> int:
        row = self.rows[unit] = len(self.paths)
        self.paths.append(unit)
        for name, start in _START.items():
            column = getattr(self, name)
            setattr(self, name, np.append(column, np.array([start], column.dtype)))
        self.gap_s = np.vstack([self.gap_s, np.full((1, GAPS), np.nan)])
        self._seen_ns = np.hstack([self._seen_ns, np.zeros((len(_Role) + 1, 1), np.int64)])
        return row

    # -- reaction path ----------------------------------------------------------------------

    def update(self, samples: Samples) -> list[Event]:
        """Take over one batch and return what it means, in order of plant time.

        Returns STATE_CHANGED for every change, and BREAKDOWN, RESTORED, QUALITY_STOP,
        OPERATOR_ABSENT, OPERATOR_BACK, ALARM when a unit enters or leaves such a condition.
        Back-filled (HISTORICAL) changes are reported, but only where the unit stands at the end
        of the batch makes a condition. A sample older than what is known is ignored.
        """
        role = self._role[samples.signal]
        if not role.any():
            return []
        events: list[Event] = []
        unsettled: set[int] = set()
        for time_ns, changes in self._instants(samples, role):
            historical = False
            touched: set[int] = set()
            for kind, row, value, quality in changes:
                if time_ns < self._seen_ns[kind, row]:
                    continue
                self._seen_ns[kind, row] = time_ns
                historical |= bool(quality & Quality.HISTORICAL)
                if self._take(kind, row, value, quality, time_ns, events):
                    touched.add(row)
            for row in touched:
                self._settle_state(row, time_ns, events)
                if historical:
                    unsettled.add(row)
                else:
                    self._settle_condition(row, time_ns, events)
        for row in unsettled:
            self._settle_condition(row, int(self.since_ns[row]), events)
        return events

    def _instants(
        self, samples: Samples, role: NDArray[np.uint8]
    ) -> Iterator[tuple[int, list[tuple[int, int, float, int]]]]:
        """Unit samples grouped by instant, oldest first: ``(role, row, value, quality)``."""
        hit = np.flatnonzero(role)
        signal = samples.signal[hit]
        rows = self._row[signal]
        times = samples.time_ns[hit]
        order = np.argsort(times, kind="stable")
        columns = zip(
            times[order].tolist(),
            role[hit][order].tolist(),
            rows[order].tolist(),
            samples.value[hit][order].tolist(),
            samples.quality[hit][order].tolist(),
            strict=True,
        )
        instant, group = 0, list[tuple[int, int, float, int]]()
        for time_ns, kind, row, value, quality in columns:
            if group and time_ns != instant:
                yield instant, group
                group = []
            instant = time_ns
            group.append((kind, row, value, quality))
        if group:
            yield instant, group

    def _take(
        self, kind: int, row: int, value: float, quality: int, time_ns: int, events: list[Event]
    ) -> bool:
        """Store one sample in its column; True when it may have changed state or reason."""
        bad = bool(quality & Quality.BAD) or value != value
        if kind in _SPEAKS_OF_STATE:
            code = -1 if bad else int(value)
            if kind == _Role.STATE:
                self._remember(row)
                self.state[row] = code if code in _STATES else UnitState.UNKNOWN
            elif kind == _Role.REASON:
                self._remember(row)
                self.reason[row] = code if code in _REASONS else StopReason.NONE
            elif kind == _Role.MODE:
                self.mode[row] = code if code in _MODES else UnitMode.INVALID
            elif kind == _Role.BLOCKED:
                self.blocked[row] = code > 0
            else:
                self.starved[row] = code > 0
            return kind in (_Role.STATE, _Role.REASON)
        if bad:
            return False
        if kind == _Role.PROCESSED:
            self._count(row, int(value), time_ns)
        elif kind == _Role.DEFECTIVE:
            self.defective[row] = int(value)
        elif kind == _Role.INFEED:
            self.infeed_level[row] = value
        elif kind == _Role.JOB:
            self.job[row] = int(value)
        elif kind == _Role.SERIAL:
            self.serial[row] = int(value)
        else:
            self._alarm(row, int(value), time_ns, events)
        return False

    def _count(self, row: int, count: int, time_ns: int) -> None:
        """A part counter rose: note the gap to the part before (a reset starts anew)."""
        before = int(self.processed[row])
        self.processed[row] = count
        rise = count - before
        if before < 0 or rise <= 0:
            return
        last = int(self.last_count_ns[row])
        self.last_count_ns[row] = time_ns
        if last and time_ns > last:
            gap = (time_ns - last) / NS_PER_S / rise
            for _ in range(min(rise, GAPS)):
                self.gap_s[row, self._gap_count[row] % GAPS] = gap
                self._gap_count[row] += 1

    def _alarm(self, row: int, code: int, time_ns: int, events: list[Event]) -> None:
        before = int(self.alarm[row])
        if code == before:
            return
        self.alarm[row] = code
        payload = {"code": code or before, "active": bool(code)}
        events.append(
            Event(time_ns=time_ns, kind=EventKind.ALARM, path=self.paths[row], payload=payload)
        )

    # -- settling ---------------------------------------------------------------------------

    def _remember(self, row: int) -> None:
        if row not in self._before:
            self._before[row] = (int(self.state[row]), int(self.reason[row]))

    def _settle_state(self, row: int, time_ns: int, events: list[Event]) -> None:
        """Report a change of (state, reason) once per instant, however many samples made it."""
        before = self._before.pop(row, None)
        now = (int(self.state[row]), int(self.reason[row]))
        if before is None or before == now:
            return
        since = int(self.since_ns[row])
        self.since_ns[row] = time_ns
        payload = {
            "state": UnitState(now[0]).name,
            "reason": StopReason(now[1]).name,
            "previous": UnitState(before[0]).name,
            "previous_reason": StopReason(before[1]).name,
            "lasted_s": (time_ns - since) / NS_PER_S if since else None,
        }
        path = self.paths[row]
        events.append(
            Event(time_ns=time_ns, kind=EventKind.STATE_CHANGED, path=path, payload=payload)
        )

    def _settle_condition(self, row: int, time_ns: int, events: list[Event]) -> None:
        state = UnitState(int(self.state[row]))
        if state is UnitState.UNKNOWN:
            return
        reason = StopReason(int(self.reason[row]))
        before, now = Condition(int(self.condition[row])), condition_of(state, reason)
        if before is now:
            return
        self.condition[row] = now
        path, names = self.paths[row], {"state": state.name, "reason": reason.name}
        if before is not Condition.NONE:
            payload = {**names, "cause": before.name.lower()}
            events.append(Event(time_ns=time_ns, kind=_LEAVE[before], path=path, payload=payload))
        if now is not Condition.NONE:
            events.append(Event(time_ns=time_ns, kind=_ENTER[now], path=path, payload=dict(names)))

    def standing(self, events: Sequence[Event]) -> list[Event]:
        """Those of the events that say of a unit why it is down now, oldest first."""
        return [
            event
            for event in events
            if event.path in self.rows
            and event.kind is _ENTER.get(Condition(int(self.condition[self.rows[event.path]])))
        ]

    # -- once a second ----------------------------------------------------------------------

    def infer(self, now_ns: int) -> list[Event]:
        """States of the units without a state signal, from counters and flags.

        Counting within three usual cycles (at least 10 s) is EXECUTE; else starved or blocked is
        SUSPENDED; else IDLE: not producing, cause unknown. ``now_ns`` is plant time.
        """
        events: list[Event] = []
        for row in np.flatnonzero(self.state_signal < 0).tolist():
            last = int(self.last_count_ns[row])
            if self.processed[row] < 0:
                continue
            usual = self.usual_gap_s(row)
            quiet_s = max(_QUIET_LEAST_S, _QUIET_CYCLES * (usual if usual == usual else 0.0))
            self._remember(row)
            if last and now_ns - last <= quiet_s * NS_PER_S:
                self._set(row, UnitState.EXECUTE, StopReason.NONE)
            elif self.starved[row]:
                self._set(row, UnitState.SUSPENDED, StopReason.STARVED)
            elif self.blocked[row]:
                self._set(row, UnitState.SUSPENDED, StopReason.BLOCKED)
            else:
                self._set(row, UnitState.IDLE, StopReason.NONE)
            self._settle_state(row, now_ns, events)
        return events

    def _set(self, row: int, state: UnitState, reason: StopReason) -> None:
        self.state[row], self.reason[row] = state, reason

    def usual_gap_s(self, row: int) -> float:
        """Median gap between finished parts, seconds; NaN below three parts."""
        gaps = self.gap_s[row]
        gaps = gaps[~np.isnan(gaps)]
        return float(np.median(gaps)) if len(gaps) >= 3 else float("nan")

    def stale_rows(self, stale: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which units cannot be trusted, given ``LiveTable.stale``; shape (n,)."""
        witness = np.where(self.state_signal >= 0, self.state_signal, self.any_signal)
        inside = witness < len(stale)
        rows = np.ones(len(self), np.bool_)
        rows[inside] = stale[witness[inside]]
        return rows

    def effective_state(self, stale: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """States with UNKNOWN where the unit's source is lost; ``stale`` as LiveTable.stale."""
        return np.where(self.stale_rows(stale), np.uint8(UnitState.UNKNOWN), self.state)


_START: dict[str, float] = {
    "state": UnitState.UNKNOWN,
    "reason": StopReason.NONE,
    "mode": UnitMode.INVALID,
    "blocked": 0,
    "starved": 0,
    "since_ns": 0,
    "processed": -1,
    "defective": -1,
    "infeed_level": float("nan"),
    "infeed_capacity": float("nan"),
    "job": -1,
    "serial": -1,
    "alarm": 0,
    "condition": Condition.NONE,
    "last_count_ns": 0,
    "state_signal": -1,
    "any_signal": -1,
    "_gap_count": 0,
}
