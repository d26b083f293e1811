"""Alarms and their acknowledgement, with the states of ISA-18.2.

An alarm is *unacknowledged* when it comes, *acknowledged* once a person has seen it, and
*returned unacknowledged* when it went away before anybody did. An acknowledged alarm that goes
away, and a returned one that is acknowledged, are normal again and leave the list.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from workshop_brain.errors import BrainError
from workshop_brain.live.units import Condition
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.services import Services, SettingStore

log = logging.getLogger(__name__)
KEPT = "alarms"
"""The setting that keeps the list over a restart."""
MOST = 500
_LOOK_S = 1.0


class AlarmState(StrEnum):
    """ISA-18.2; *normal* is not kept."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned_unacknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm of one place.

    Attributes
    ----------
    priority
        1 (highest) to 3.
    since_ns
        When it came: plant time, of a source wall time; ns since the epoch.
    acked_by, acked_ns
        Who acknowledged it, and when (wall time); "" and 0 while nobody has.
    returned_ns
        When it was seen gone (wall time); 0 while it is active.
    """

    path: str
    kind: str
    priority: int
    since_ns: int
    params: dict[str, Any]
    state: AlarmState = AlarmState.UNACKNOWLEDGED
    acked_by: str = ""
    acked_ns: int = 0
    returned_ns: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """One place has one alarm of a kind."""
        return self.path, self.kind


@dataclass(slots=True)
class AlarmBook:
    """The list of alarms that are active or not acknowledged; newest states kept in ``store``."""

    store: SettingStore | None = None
    _rows: dict[tuple[str, str], Alarm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = self.store.setting(KEPT, []) if self.store is not None else []
        for row in kept:
            alarm = Alarm(**{**row, "state": AlarmState(row["state"])})
            self._rows[alarm.key] = alarm

    def rows(self) -> list[Alarm]:
        """Unacknowledged first, then by priority, newest first."""
        order = list(AlarmState)
        return sorted(
            self._rows.values(), key=lambda a: (order.index(a.state) == 1, a.priority, -a.since_ns)
        )

    def update(self, active: Iterable[Alarm], now_ns: int) -> bool:
        """Compare with what is active now; True when the list has changed."""
        before = dict(self._rows)
        now = {alarm.key: alarm for alarm in active}
        for key, alarm in now.items():
            known = self._rows.get(key)
            if known is None or known.state is AlarmState.RETURNED:
                self._rows[key] = alarm
        for key, alarm in before.items():
            if key in now:
                continue
            if alarm.state is AlarmState.ACKNOWLEDGED:
                del self._rows[key]
            elif alarm.state is AlarmState.UNACKNOWLEDGED:
                self._rows[key] = replace(alarm, state=AlarmState.RETURNED, returned_ns=now_ns)
        self._forget()
        return self._rows != before

    def _forget(self) -> None:
        """The oldest returned alarms go when there are too many to be read."""
        returned = [a for a in self._rows.values() if a.state is AlarmState.RETURNED]
        returned.sort(key=lambda a: a.returned_ns)
        for alarm in returned[: max(0, len(returned) - MOST)]:
            del self._rows[alarm.key]

    def acknowledge(self, path: str, kind: str, user: str, now_ns: int) -> None:
        """A person has seen it; KeyError when there is no such alarm."""
        alarm = self._rows[path, kind]
        if alarm.state is AlarmState.RETURNED:
            del self._rows[path, kind]
        elif alarm.state is AlarmState.UNACKNOWLEDGED:
            self._rows[path, kind] = replace(
                alarm, state=AlarmState.ACKNOWLEDGED, acked_by=user, acked_ns=now_ns
            )

    def keep(self) -> None:
        """Write the list to the store."""
        if self.store is not None:
            self.store.set_setting(KEPT, [asdict(alarm) for alarm in self._rows.values()])


def active_alarms(services: Services) -> list[Alarm]:
    """What is wrong now: lost sources, broken units, quality stops, alarm codes."""
    watch = services.watch
    units = watch.units
    out = [
        _alarm(s["id"], "source_lost", 1, int(s["since_ns"]), source=s["id"])
        for s in services.sources()
        if s["state"] == "lost"
    ]
    for path, row in units.rows.items():
        condition = Condition(int(units.condition[row]))
        if condition is not Condition.NONE:
            kind = condition.name.lower()
            since_ns = int(units.since_ns[row])
            out.append(_alarm(path, kind, 2, since_ns, unit=path.rsplit("/", 1)[1]))
    told = {alarm.path for alarm in out}
    for path, event in watch.alarms.items():
        if path in told:  # the code says no more than the stop itself
            continue
        name, code = path.rsplit("/", 1)[1], event.payload["code"]
        out.append(_alarm(path, "code", 3, event.time_ns, unit=name, code=code))
    return out


def _alarm(path: str, kind: str, priority: int, since_ns: int, **params: Any) -> Alarm:
    return Alarm(path=path, kind=kind, priority=priority, since_ns=since_ns, params=params)


def alarm_body(alarm: Alarm) -> dict[str, Any]:
    """An alarm as the API shows it."""
    return {
        "path": alarm.path,
        "kind": alarm.kind,
        "priority": alarm.priority,
        "since_ms": alarm.since_ns / NS_PER_MS,
        "state": alarm.state.value,
        "acked_by": alarm.acked_by or None,
        "acked_ms": alarm.acked_ns / NS_PER_MS if alarm.acked_ns else None,
        "returned_ms": alarm.returned_ns / NS_PER_MS if alarm.returned_ns else None,
        "message": {"id": f"alarm.{alarm.kind}", "params": alarm.params},
    }


async def watch_alarms(services: Services, book: AlarmBook) -> None:
    """Look once a second, so that an alarm nobody asked about is not missed; until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            if book.update(active_alarms(services), services.clock.wall_ns()):
                await asyncio.to_thread(book.keep)
        except BrainError as error:
            log.error("alarms could not be kept: %s", error)
