"""Upkeep of the files: which are merged next, and which are past their time."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from workshop_brain.store.historian import curves as curve_files
from workshop_brain.store.historian.catalog import Catalog, Segment
from workshop_brain.store.historian.partition import ODD, Partition
from workshop_brain.store.settings import HistorianSettings
from workshop_brain.units import NS_PER_DAY

_DAY_FILES = 24  # level 1 files of one date that become one of level 2


class Upkeep:
    """Merges and drops files; one thread at a time does."""

    def __init__(self, directory: Path, catalog: Catalog, settings: HistorianSettings) -> None:
        self._directory = directory
        self._catalog = catalog
        self._settings = settings
        self._one = threading.Lock()

    def merge_once(self, between: Callable[[float], None], *, at_least: int | None = None) -> bool:
        """Merge the files that are due, or from ``at_least`` files on; whether there were any.

        ``between`` is called after each block with the seconds it took; what it raises ends the
        merge.
        """
        with self._one:
            return self._merge_samples(between, at_least) or self._merge_curves()

    def _merge_samples(self, between: Callable[[float], None], at_least: int | None) -> bool:
        from workshop_brain.store.historian.seal import compact

        segments = self._catalog.segments()
        inputs = due(segments, merge=self._settings.merge, at_least=at_least)
        if not inputs:
            return False
        level = min(inputs[0].level + 1, 2)
        compact(self._directory, self._catalog, inputs, level=level, between=between)
        return True

    def _merge_curves(self) -> bool:
        dates = self._catalog.curve_dates()
        files = [
            curve_files.CurveFile(id, dates.get(id, ""), name, size)
            for id, name, _, size, _ in self._catalog.curve_files()
        ]
        inputs = curve_files.mergeable(files)
        if inputs:
            curve_files.merge_curves(self._directory, self._catalog, inputs)
        return bool(inputs)

    def retain(self, now_ns: int) -> None:
        """Drop what is older than the settings keep it."""
        s = self._settings
        with self._one:
            self._drop(lambda x: _is_past(x, Partition.of(x.file).days(s), now_ns))
            self._drop_odd()
        if curve_days := s.retain_curve_days or s.retain_days:
            self.drop_curves_before(now_ns - curve_days * NS_PER_DAY)
        if s.retain_rollup_days:
            self.drop_before(now_ns - s.retain_rollup_days * NS_PER_DAY, rollups=True)

    def _drop_odd(self) -> None:
        """Rows with times that cannot be right go with those that came when they came."""
        segments = self._catalog.segments()
        oldest: dict[str, int] = {}
        for x in segments:
            if x.date not in ODD:
                kinds = Partition.of(x.file).kinds
                oldest[kinds] = min(x.first_position, oldest.get(kinds, x.first_position))
        gone = {
            x.unit
            for x in segments
            if x.date in ODD
            and (place := Partition.of(x.file)).days(self._settings)
            and x.last_position < oldest.get(place.kinds, 0)
        }
        self._drop(lambda x: x.unit in gone)

    def drop_before(self, time_ns: int, *, rollups: bool = False) -> int:
        """Drop raw files (or rollups) whose newest sample is older; how many."""
        with self._one:
            return self._drop(
                lambda x: (
                    x.max_time < time_ns and (x.bucket_ns > 0) == rollups and x.date not in ODD
                )
            )

    def drop_curves_before(self, time_ns: int) -> int:
        """Drop files of curves whose newest curve is older; how many."""
        with self._one:
            dates = self._catalog.curve_dates()
            old = [
                x
                for x in self._catalog.curve_files()
                if x[4] < time_ns and dates.get(x[0]) not in ODD
            ]
            with self._catalog.transaction():
                for id, *_ in old:
                    self._catalog.drop_curve_file(id)
            for _, name, *_ in old:
                (self._directory / name).unlink(missing_ok=True)
            return len(old)

    def _drop(self, which: Callable[[Segment], bool]) -> int:
        old = [x for x in self._catalog.segments(bucket_ns=None) if which(x)]
        if not old:
            return 0
        with self._catalog.transaction():
            self._catalog.drop_segments([x.id for x in old])
        for x in old:
            (self._directory / x.file).unlink(missing_ok=True)
        return len(old)


def _is_past(segment: Segment, days: int, now_ns: int) -> bool:
    is_raw = segment.bucket_ns == 0 and segment.date not in ODD
    return is_raw and days > 0 and segment.max_time < now_ns - days * NS_PER_DAY


def due(segments: Sequence[Segment], *, merge: int, at_least: int | None = None) -> list[Segment]:
    """Files to merge next: ``merge`` of level 0, what a finished date left over, then its day.

    segments
        Raw files in the order of the log.
    """
    newest = max((s.date for s in segments if s.date not in ODD), default="")
    inputs = compactable(segments, level=0, inputs=merge, at_least=at_least or merge)
    if not inputs:
        inputs = compactable(segments, level=0, inputs=merge, at_least=2, before=newest)
    if not inputs:  # a finished date's only file too: merging alone gives it rollups
        places = Counter(Partition.of(s.file) for s in segments)
        lone = [s for s in segments if places[Partition.of(s.file)] == 1]
        inputs = compactable(lone, level=0, inputs=merge, at_least=1, before=newest)
    if not inputs:
        inputs = compactable(segments, level=1, inputs=_DAY_FILES, at_least=2, before=newest)
    if not inputs:  # wrong clocks have no days: by number
        odd = [s for s in segments if s.date in ODD]
        inputs = compactable(odd, level=1, inputs=_DAY_FILES, at_least=_DAY_FILES)
    return inputs


def compactable(
    segments: Sequence[Segment], *, level: int, inputs: int, at_least: int, before: str = "~"
) -> list[Segment]:
    """The oldest stretch of files of one level and partition that follow each other in the log.

    segments
        Raw files in the order of the log.
    inputs, at_least
        Most and fewest files to merge.
    before
        Only dates before this one.
    """
    placed = [(s, Partition.of(s.file)) for s in segments]
    for place in sorted({p for s, p in placed if s.level == level and s.date < before}):
        stretch: list[Segment] = []
        for segment, other in placed:
            if not place.may_share(other):
                continue
            if segment.level != level or other != place:
                if len(stretch) >= at_least:
                    return stretch
                stretch = []
                continue
            stretch.append(segment)
            if len(stretch) == inputs:
                return stretch
        if len(stretch) >= at_least:
            return stretch
    return []
