"""Working time of a work center: weekly shifts with breaks, in the plant's time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from workshop_brain.units import NS_PER_S

_MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Weekly working windows.

    Attributes
    ----------
    windows
        ``(weekday 0..6, from minute, to minute)`` of the local day; ``to`` may be 1440, not more.
        No windows at all means: always open.
    """

    id: str
    timezone: str = "UTC"
    windows: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        for day, start, end in self.windows:
            if not (0 <= day <= 6 and 0 <= start < end <= _MINUTES_PER_DAY):
                raise ValueError(f"calendar {self.id!r}: bad window {(day, start, end)}")

    def closed(self, from_ns: int, to_ns: int) -> list[tuple[int, int]]:
        """Closed intervals ``[start_ns, end_ns)`` that overlap ``[from_ns, to_ns)``, in order.

        >>> Calendar(id="always").closed(0, 10)
        []
        """
        if not self.windows:
            return []
        open_ = self._open(from_ns, to_ns)
        closed: list[tuple[int, int]] = []
        cursor = from_ns
        for start, end in open_:
            if start > cursor:
                closed.append((cursor, min(start, to_ns)))
            cursor = max(cursor, end)
        if cursor < to_ns:
            closed.append((cursor, to_ns))
        return closed

    def _open(self, from_ns: int, to_ns: int) -> list[tuple[int, int]]:
        zone = ZoneInfo(self.timezone)
        day = datetime.fromtimestamp(from_ns // NS_PER_S, UTC).astimezone(zone).date()
        last = datetime.fromtimestamp(to_ns // NS_PER_S, UTC).astimezone(zone).date()
        day -= timedelta(days=1)
        out: list[tuple[int, int]] = []
        while day <= last:
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            for weekday, start, end in self.windows:
                if weekday == day.weekday():
                    a = int((midnight + timedelta(minutes=start)).timestamp()) * NS_PER_S
                    b = int((midnight + timedelta(minutes=end)).timestamp()) * NS_PER_S
                    if b > from_ns and a < to_ns:
                        out.append((max(a, from_ns), min(b, to_ns)))
            day += timedelta(days=1)
        return sorted(out)
