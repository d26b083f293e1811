"""Which files rows go into: one for each date and for each class that is kept as long.

Rows whose clock cannot be right (before 2000, or more than a day ahead of now) stand in two
partitions of their own, ``past`` and ``future``, whatever their dates are: they are found by their
times like all others, but they make no partition a day, do not tell what is newest, and retention
does not go by their times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian.last import EARLIEST_NS, believable
from workshop_brain.store.historian.memtable import take
from workshop_brain.store.settings import HistorianSettings
from workshop_brain.units import NS_PER_DAY

PAST, FUTURE = "past", "future"
ODD = (PAST, FUTURE)
_ALL = "-".join(kind.name.lower() for kind in SignalKind)


def date_of(time_ns: int, latest_ns: int) -> str:
    """Name of the partition of an instant: its UTC date, ``past`` or ``future``."""
    if time_ns < EARLIEST_NS:
        return PAST
    if time_ns > latest_ns:
        return FUTURE
    return datetime.fromtimestamp(time_ns // NS_PER_DAY * 86_400, UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """Rows that share files; ``kinds``: the classes in it, like ``gauge-counter``."""

    date: str
    kinds: str = _ALL

    @classmethod
    def of(cls, file: str) -> "Partition":
        """From the name of a file.

        >>> Partition.of("segments/date=2026-01-31/kinds=state-text/L0/000000000007.parquet")
        Partition(date='2026-01-31', kinds='state-text')
        """
        parts = dict(p.split("=", 1) for p in file.split("/") if "=" in p)
        return cls(parts["date"], parts.get("kinds", _ALL))

    @property
    def folder(self) -> str:
        """Its folder below ``segments`` or ``rollups``."""
        return f"date={self.date}" + ("" if self.kinds == _ALL else f"/kinds={self.kinds}")

    def days(self, settings: HistorianSettings) -> int:
        """Days for which its rows are kept: the longest of its classes; 0: for ever."""
        days = [settings.days_of(SignalKind[kind.upper()]) for kind in self.kinds.split("-")]
        return 0 if 0 in days else max(days)

    def may_share(self, other: "Partition") -> bool:
        """Whether both may hold rows of the same signal and date."""
        kinds = set(self.kinds.split("-"))
        return self.date == other.date and not kinds.isdisjoint(other.kinds.split("-"))


@dataclass(frozen=True, slots=True)
class Splitter:
    """Splits rows into partitions.

    Attributes
    ----------
    latest_ns
        Stamps behind it are in the future.
    names, group
        The classes of each group of signals, and the group of each signal by its id.
    """

    latest_ns: int
    names: list[str]
    group: NDArray[np.intp]

    @classmethod
    def of(
        cls, settings: HistorianSettings, signals: Sequence[SignalDef], latest_ns: int
    ) -> "Splitter":
        """Classes that are kept equally long form a group."""
        by_days: dict[int, list[SignalKind]] = {}
        for kind in SignalKind:
            by_days.setdefault(settings.days_of(kind), []).append(kind)
        names = ["-".join(kind.name.lower() for kind in kinds) for kinds in by_days.values()]
        if len(by_days) == 1:
            return cls(latest_ns, names, np.zeros(len(signals), np.intp))
        number = {kind: g for g, kinds in enumerate(by_days.values()) for kind in kinds}
        return cls(latest_ns, names, np.array([number[s.kind] for s in signals], np.intp))

    def split(self, rows: Samples) -> Iterator[tuple[Partition, Samples]]:
        """Rows of each partition, in their order."""
        if not len(rows):
            return
        day = rows.time_ns // NS_PER_DAY
        first, last = int(rows.time_ns.min()), int(rows.time_ns.max())
        if first < EARLIEST_NS or last > self.latest_ns:
            day[rows.time_ns < EARLIEST_NS] = -1
            day[rows.time_ns > self.latest_ns] = np.iinfo(np.int64).max
        days = [day[0]] if day.min() == day.max() else np.unique(day)
        for value in days:
            of_day = rows if len(days) == 1 else take(rows, np.flatnonzero(day == value))
            date = date_of(int(of_day.time_ns[0]), self.latest_ns)
            if len(self.names) == 1:
                yield Partition(date, self.names[0]), of_day
                continue
            group = self.group[of_day.signal]
            for number in np.unique(group):
                yield (
                    Partition(date, self.names[number]),
                    take(of_day, np.flatnonzero(group == number)),
                )


def odd_signals(rows: Samples, latest_ns: int) -> NDArray[np.intp]:
    """Positions of the first row of each signal with a time that cannot be right."""
    odd = np.flatnonzero(~believable(rows.time_ns, latest_ns))
    return odd[np.unique(rows.signal[odd], return_index=True)[1]]
