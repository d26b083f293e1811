"""Calendars of machines, people and tools: windows, weekly shifts, and what they leave closed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from workshop_brain.schedule.calendars import merge

WEEK_S = 7 * 86_400
BEYOND_S = 26 * WEEK_S
"""How long weekly shifts go on after the last date of the files and all work one after another."""
MOST_S = 520 * WEEK_S
"""Longest time over which they go on."""
Key = tuple[str, str]
"""``("machine", id)``, ``("operator", id)`` or ``("tool", id)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Open or closed time of one machine, person or tool, ticks."""

    key: Key
    low: int
    high: int
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """A shift, or a break, on some days of every week.

    Attributes
    ----------
    days
        0 = Monday.
    low, high
        Seconds after local midnight; ``high`` <= ``low`` ends on the next day.
    """

    key: Key
    days: tuple[int, ...]
    low: int
    high: int
    is_open: bool

    def windows(self, origin: datetime, zone: tzinfo, until: int) -> Iterator[Window]:
        """The shifts from the day before the origin up to a tick, by the clock on the wall."""
        midnight = origin.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        day = midnight - timedelta(days=1)
        long = self.high - self.low + (86_400 if self.high <= self.low else 0)
        while (low := _tick(day, self.low, origin)) < until:
            if day.weekday() in self.days:
                high = _tick(day, self.low + long, origin)
                yield Window(key=self.key, low=low, high=high, is_open=self.is_open)
            day += timedelta(days=1)


def _tick(day: datetime, seconds: int, origin: datetime) -> int:
    moment = day + timedelta(seconds=seconds)
    return round((moment.timestamp()) - origin.timestamp())


def horizon(known: Sequence[int], work: int) -> int:
    """Tick up to which weekly shifts are laid out."""
    return min(MOST_S, max([0, *known]) + work + BEYOND_S)


def repeated(windows: Sequence[Window], until: int) -> list[Window]:
    """The same with the last listed week of open time repeated up to a tick."""
    out = list(windows)
    last: dict[Key, int] = {}
    for window in windows:
        if window.is_open:
            last[window.key] = max(last.get(window.key, window.high), window.high)
    for window in windows:
        end = last.get(window.key)
        if end is None or not window.is_open or window.low < end - WEEK_S:
            continue
        out += [
            replace(window, low=window.low + by, high=window.high + by)
            for by in range(WEEK_S, max(0, until - window.low), WEEK_S)
        ]
    return out


def closed(windows: Sequence[Window]) -> dict[Key, list[list[int]]]:
    """Closed intervals by key, merged; between open ones everything is closed."""
    shut: dict[Key, list[tuple[int, int]]] = {}
    opened: dict[Key, list[tuple[int, int]]] = {}
    for window in windows:
        kept = opened if window.is_open else shut
        kept.setdefault(window.key, []).append((window.low, window.high))
    for key, rows in opened.items():
        at = min(0, min(low for low, _ in rows))
        for low, high in sorted(rows):
            if low > at:
                shut.setdefault(key, []).append((at, low))
            at = max(at, high)
    return {key: [[a, b] for a, b in merge(rows)] for key, rows in shut.items()}


def never_open(shut: Sequence[Sequence[int]], until: int) -> bool:
    """Whether closed intervals, merged, leave no time from the origin up to a tick.

    >>> never_open([[-60, 100]], 100), never_open([[0, 50], [60, 100]], 100)
    (True, False)
    """
    return any(low <= 0 and high >= until for low, high in shut)
