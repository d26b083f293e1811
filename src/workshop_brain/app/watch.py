"""Joins live values and production: one object that takes batches in and answers views.

It holds no rule of its own: states come from ``live.units``, intervals, KPIs, flow and the
bottleneck guess from ``production``. All of it runs in the brain's event loop thread.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from workshop_brain.app.recall import Recalled
from workshop_brain.app.recall import read as read_back
from workshop_brain.live.table import LiveTable
from workshop_brain.live.units import UnitTable
from workshop_brain.live.windows import Window
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.plant import Plant, WorkCenter, WorkCenterKind
from workshop_brain.model.signal import Samples, SignalDef
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.production.bottleneck import Guess, guess
from workshop_brain.production.flow import (
    Layout,
    Link,
    layout,
    link_state,
    rise,
    robust_takt_s,
    stated_layout,
    takt_goal_s,
)
from workshop_brain.production.kpi import loss_waterfall, oee, time_elements
from workshop_brain.production.states import Intervals, StateLog, time_by_class
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_MS, NS_PER_S

COUNTS_EVERY_NS = 30 * NS_PER_S
"""Grid of the counter window, plant time; 2,880 rows hold a day."""
_COUNTS_KEPT = 2_880
BOTTLENECK_WINDOW_NS = 30 * NS_PER_MIN
_GUESS_EVERY_NS = 5 * NS_PER_S


class Watch:
    """What is known of the plant now.

    Attributes
    ----------
    live, units
        The tables; others read them, nobody else writes.
    alarms
        Active alarms by unit path: the event that raised each.
    """

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.live = LiveTable()
        self.units = UnitTable()
        self.log = StateLog()
        self.alarms: dict[str, Event] = {}
        self._counts = Window(width=0, depth=_COUNTS_KEPT)
        self._total: NDArray[np.float64] = np.empty(0)
        self._last: NDArray[np.float64] = np.empty(0)
        self._layouts: dict[str, Layout] = {}
        self._layout_units = -1
        self._started_ns = 0
        self._restored_ns = 0
        self._guesses: dict[str, tuple[int, Guess | None]] = {}

    # -- in ---------------------------------------------------------------------------------

    def extend(self, signals: Sequence[SignalDef]) -> None:
        """Add the newest signals of the registry, in id order."""
        self.live.extend(signals)
        self.units.extend(signals)

    def on_declared(self, ids: Sequence[int], signals: Sequence[SignalDef]) -> None:
        """Signals that a source declared, with their registry ids; known ones are skipped."""
        new = sorted(
            (pair for pair in zip(ids, signals, strict=True) if pair[0] >= self.live.epoch),
            key=lambda pair: pair[0],
        )
        if [id for id, _ in new] != list(range(self.live.epoch, self.live.epoch + len(new))):
            raise ValueError(f"declared ids leave a hole after {self.live.epoch - 1}")
        self.extend([signal for _, signal in new])

    def restore(
        self,
        time_ns: NDArray[np.int64],
        value: NDArray[np.float64],
        quality: NDArray[np.uint8],
    ) -> list[Event]:
        """Take over the historian's last values after a start; nothing has happened by that.

        Returns the stops that still stood when those values were seen, with their beginning.
        """
        known = np.flatnonzero(time_ns > 0)
        samples = Samples(known.astype(np.uint32), time_ns[known], value[known], quality[known])
        self.live.update(samples, 0)
        events = self.units.update(samples)
        self._note(events)
        self._restored_ns = self.live.newest_ns
        self._accumulate()
        return self.units.standing(events)

    def recaller(self, history: Any) -> Callable[[], Recalled]:
        """What reads back the past for ``recall``: a call to be made in a thread, once, after
        ``restore``."""
        now_ns = self._restored_ns
        return partial(
            read_back,
            history,
            known=frozenset(self.live.ids),
            centers=[u.path for c in self.plant.work_centers for u in c.units],
            devices=[s.path for line in self.lines() for s in line.stations],
            midnight_ns=self._midnight_ns(now_ns) if now_ns else 0,
            now_ns=now_ns,
            every_ns=COUNTS_EVERY_NS,
        )

    def recall(self, found: Recalled) -> None:
        """Take over counts and states from before the start; what came since stays on top."""
        self._accumulate()
        n = len(self.units)
        before = np.zeros((len(found.grid_ns), n))
        for path, totals in found.totals.items():
            if path in self.units.rows:
                before[:, self.units.rows[path]] = totals
        counts = Window(width=n, depth=_COUNTS_KEPT)
        for time_ns, row in zip(found.grid_ns.tolist(), before, strict=True):
            counts.push(time_ns, row)
        base = before[-1] if len(before) else np.zeros(n)
        for time_ns, row in zip(self._counts.times().tolist(), self._counts.values(), strict=True):
            counts.push(time_ns, base + np.pad(np.nan_to_num(row), (0, n - len(row))))
        self._counts, self._total = counts, self._total + base
        states, reasons = set(UnitState), set(StopReason)
        for path, time_ns, state, reason in sorted(found.states, key=lambda r: r[1]):
            if path in self.units.rows and state in states and reason in reasons:
                row_id = self.units.rows[path]
                self.log.append(row_id, time_ns, UnitState(state), StopReason(reason))
        if found.from_ns:
            self._started_ns = min(self._started_ns or found.from_ns, found.from_ns)
        self._guesses.clear()

    def on_samples(
        self, samples: Samples, received_ns: int, *, plant_ns: int | None = None
    ) -> list[Event]:
        """Take over one batch; return what happened to the units, in plant time order."""
        self.live.update(samples, received_ns, plant_ns=plant_ns)
        events = self.units.update(samples)
        if events:
            self._note(events)
        return events

    def on_source_event(self, event: Event) -> None:
        """A connector's event: a device or edge node died or was born, a source came or went."""
        if event.kind is EventKind.SOURCE_LOST:
            self.live.source_lost(event.path)
        elif event.kind is EventKind.SOURCE_UP:
            self.live.source_up(event.path)
        elif event.kind in (EventKind.BIRTH, EventKind.DEATH) and "lines" in event.payload:
            source = str(event.payload.get("source", ""))
            self.live.mark_node(source, event.path, stale=event.kind is EventKind.DEATH)

    def tick(self, plant_ns: int) -> list[Event]:
        """Once a second: inferred states, counters on their grid. Returns new events."""
        self._started_ns = min(self._started_ns or plant_ns, plant_ns)
        events = self.units.infer(plant_ns)
        if events:
            self._note(events)
        self._accumulate()
        times = self._counts.times()
        if len(times) and int(times[-1]) - plant_ns > COUNTS_EVERY_NS:
            # Counted at another time than the plant lives at.
            self._counts = Window(width=len(self.units), depth=_COUNTS_KEPT)
            times = self._counts.times()
        if len(times) == 0 or plant_ns - int(times[-1]) >= COUNTS_EVERY_NS:
            self._counts.push(plant_ns, self._total)
        return events

    def _note(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind is EventKind.STATE_CHANGED:
                payload = event.payload
                self.log.append(
                    self.units.rows[event.path],
                    event.time_ns,
                    UnitState[payload["state"]],
                    StopReason[payload["reason"]],
                )
            elif event.kind is EventKind.ALARM:
                if event.payload["active"]:
                    self.alarms[event.path] = event
                else:
                    self.alarms.pop(event.path, None)

    def _accumulate(self) -> None:
        """Monotone totals of processed pieces since the start, across counter resets."""
        now = np.where(self.units.processed < 0, np.nan, self.units.processed.astype(np.float64))
        grown = len(now) - len(self._last)
        if grown:
            self._last = np.concatenate([self._last, np.full(grown, np.nan)])
            self._total = np.concatenate([self._total, np.zeros(grown)])
        step = rise(self._last, now)
        self._total += np.where(np.isnan(step), 0.0, step)
        self._last = np.where(np.isnan(now), self._last, now)

    # -- places -----------------------------------------------------------------------------

    def lines(self) -> tuple[Layout, ...]:
        """Layout of every flow line, worked out anew when units were added."""
        if self._layout_units != len(self.units):
            self._layout_units = len(self.units)
            skip = frozenset(u.path for c in self.plant.work_centers for u in c.units)
            self._layouts = {
                c.id: self._layout(c, skip)
                for c in self.plant.work_centers
                if c.kind is WorkCenterKind.LINE
            }
        return tuple(self._layouts.values())

    def _layout(self, center: WorkCenter, skip: frozenset[str]) -> Layout:
        prefix, paths = self._prefix(center), self.units.paths
        if center.flow:
            return stated_layout(center.id, prefix, paths, skip, center.flow)
        return layout(center.id, prefix, paths, skip)

    def _prefix(self, center: WorkCenter) -> str:
        return center.units[0].path.rsplit("/", 2)[0]

    def unit_order(self) -> list[str]:
        """Unit paths in the order of the wall frames: line devices, then work-center units."""
        paths = [s.path for line in self.lines() for s in line.stations]
        return paths + [u.path for c in self.plant.work_centers for u in c.units]

    def line(self, id: str) -> Layout:
        """Layout of one line; KeyError when the plant has no such line."""
        self.lines()
        return self._layouts[id]

    # -- views ------------------------------------------------------------------------------

    def line_view(self, id: str, plant_ns: int, stale: NDArray[np.bool_]) -> dict[str, Any]:
        """The dict of ``GET line/{id}`` with text codes in ``serial`` and ``job``.

        ``stale`` as ``LiveTable.stale`` returned it. KeyError when there is no such line.
        """
        line = self.line(id)
        center = self.plant.work_center(id)
        units, lost = self.units, self.units.stale_rows(stale)
        end = self.output_row(line, center)
        takt = robust_takt_s(units.gap_s[end]) if end >= 0 else math.nan
        goal = takt_goal_s(self.plant, center)
        return {
            "line": id,
            "takt_s": _number(takt),
            "takt_goal_s": _number(goal),
            "output": self._output(end, plant_ns),
            "bottleneck": self.bottleneck_view(id, plant_ns),
            "stations": [
                {
                    "path": s.path,
                    "id": s.id,
                    "klass": s.klass,
                    "cell": s.cell,
                    "position": s.position,
                    "state": UnitState(int(units.state[s.row])).name,
                    "reason": StopReason(int(units.reason[s.row])).name,
                    "since_ms": int(units.since_ns[s.row]) / NS_PER_MS or None,
                    "processed": _count(units.processed[s.row]),
                    "defective": _count(units.defective[s.row]),
                    "infeed": _number(units.infeed_level[s.row]),
                    "serial": int(units.serial[s.row]),
                    "job": int(units.job[s.row]),
                    "cycle_s": _number(units.usual_gap_s(s.row)),
                    "takt_goal_s": _number(goal * s.beside),
                    "blocked": bool(units.blocked[s.row]),
                    "starved": bool(units.starved[s.row]),
                    "stale": bool(lost[s.row]),
                }
                for s in line.stations
            ],
            "links": [self._link(line, link) for link in line.links],
            "missing": list(line.missing),
        }

    def _link(self, line: Layout, link: Link) -> dict[str, Any]:
        """A buffer now. Devices side by side share it: the worst of them speaks for all."""
        sources = [line.stations[k] for k in link.sources]
        targets = [line.stations[k] for k in link.targets]
        row = targets[0].row
        level, capacity = float(self.units.infeed_level[row]), self.units.infeed_capacity[row]
        starved = any(bool(self.units.starved[s.row]) for s in targets)
        if link.joins:
            # The target waits for the feeder only when its main flow has pieces.
            starved, level, capacity = starved and level > 0, math.nan, math.nan
        return {
            "from": [s.path for s in sources],
            "to": [s.path for s in targets],
            "joins": link.joins,
            "level": _number(level),
            "capacity": _number(float(capacity)),
            "state": link_state(
                level=level,
                blocked=any(bool(self.units.blocked[s.row]) for s in sources),
                starved=starved,
            ),
        }

    def output_row(self, line: Layout, center: WorkCenter) -> int:
        """Row of the unit whose counter is the line's output: its controller, else the last."""
        controller = self.units.rows.get(center.units[0].path, -1)
        if controller >= 0 and self.units.processed[controller] >= 0:
            return controller
        return line.stations[line.main[-1]].row if line.main else -1

    def _output(self, row: int, plant_ns: int) -> dict[str, Any]:
        if row < 0:
            return {"today": None, "hour": None, "since_ms": None}
        midnight, hour = self._midnight_ns(plant_ns), plant_ns - NS_PER_H
        today, since = self.counted(row, midnight)
        return {
            "today": today,
            "hour": self.counted(row, hour)[0],
            "since_ms": since / NS_PER_MS,
        }

    def counted(self, row: int, from_ns: int) -> tuple[int, int]:
        """Pieces counted at a unit since ``from_ns`` and the instant from which they are known."""
        if row >= len(self._total):
            return 0, from_ns
        try:
            at, then = self._counts.at(from_ns)
        except LookupError:
            return int(self._total[row]), max(from_ns, self._started_ns)
        before = then[row] if row < len(then) and then[row] == then[row] else 0.0
        return int(self._total[row] - before), max(from_ns, at)

    def _midnight_ns(self, plant_ns: int) -> int:
        zone = ZoneInfo(self.plant.timezone)
        local = datetime.fromtimestamp(plant_ns // NS_PER_S, UTC).astimezone(zone)
        return int(local.replace(hour=0, minute=0, second=0).timestamp()) * NS_PER_S

    def window(
        self, from_ns: int, to_ns: int, rows: Sequence[int]
    ) -> tuple[Intervals, NDArray[np.int64]]:
        """State intervals of some units and their time classes over a window of plant time."""
        only = np.array(rows, np.int32)
        found = self.log.intervals(len(self.units), from_ns, to_ns, only=only)
        return found, time_by_class(found, len(self.units))

    def bottleneck(self, id: str, plant_ns: int) -> Guess | None:
        """Bottleneck guess of a line over the last half hour, at most one every 5 s."""
        line = self.line(id)
        at, known = self._guesses.get(id, (0, None))
        if at and 0 <= plant_ns - at < _GUESS_EVERY_NS:
            return known
        from_ns = plant_ns - BOTTLENECK_WINDOW_NS
        if self._started_ns:
            from_ns = max(from_ns, self._started_ns)
        rows = np.array([line.stations[k].row for k in line.main], np.int32)
        found, by_class = self.window(from_ns, plant_ns, rows.tolist())
        result = guess(found, by_class, rows) if len(found) else None
        self._guesses[id] = (plant_ns, result)
        return result

    def bottleneck_view(self, id: str, plant_ns: int) -> dict[str, Any] | None:
        """The bottleneck guess as JSON; None while there is too little to see."""
        found = self.bottleneck(id, plant_ns)
        if found is None:
            return None
        line = self.line(id)
        paths = [line.stations[k].path for k in line.main]
        best = np.argsort(-found.scores, kind="stable")[:5].tolist()
        return {
            "path": paths[found.station],
            "confidence": found.confidence,
            "method": found.method,
            "ranking": [
                {"path": paths[k], "score": round(float(found.scores[k]), 3)} for k in best
            ],
        }

    def kpi_view(self, id: str, plant_ns: int, *, hours: float = 8.0) -> dict[str, Any]:
        """ISO 22400 elements, OEE and losses of every unit of a work center, and its counts.

        KeyError when the plant has no such work center.
        """
        center = self.plant.work_center(id)
        from_ns = plant_ns - round(hours * NS_PER_H)
        if self._started_ns:
            from_ns = max(from_ns, self._started_ns)
        known = [row for u in center.units if (row := self.units.rows.get(u.path)) is not None]
        _, by_class = self.window(from_ns, max(plant_ns, from_ns + 1), known)
        units = []
        for unit in center.units:
            row = self.units.rows.get(unit.path)
            if row is not None:
                pri_s = takt_goal_s(self.plant, center) / unit.speed
                if center.kind.value == "batch":
                    pri_s /= max(1, center.capacity)
                units.append(self._unit_kpi(unit.path, row, from_ns, by_class[row], pri_s))
        pieces = sum(u["pq"] for u in units)
        span_h = (plant_ns - from_ns) / NS_PER_H
        return {
            "line": id,
            "from_ms": from_ns / NS_PER_MS,
            "to_ms": plant_ns / NS_PER_MS,
            "pq": pieces,
            "gq": sum(u["gq"] for u in units),
            "throughput_per_h": _number(pieces / span_h if span_h > 0 else math.nan),
            "units": units,
        }

    def _unit_kpi(
        self, path: str, row: int, from_ns: int, by_class: NDArray[np.int64], pri_s: float
    ) -> dict[str, Any]:
        pq, _ = self.counted(row, from_ns)
        total, bad = int(self.units.processed[row]), int(self.units.defective[row])
        scrap_share = bad / total if total > 0 and bad > 0 else 0.0
        gq = round(pq * (1.0 - scrap_share))
        elements = time_elements(by_class)
        parts = oee(elements, pri_s=pri_s, pq=pq, gq=gq)
        losses = loss_waterfall(by_class, pri_s=pri_s if pri_s == pri_s else 0.0, pq=pq, gq=gq)
        return {
            "path": path,
            "pq": pq,
            "gq": gq,
            "sq": pq - gq,
            "pbt_s": elements.pbt_s,
            "apt_s": elements.apt_s,
            "aust_s": elements.aust_s,
            "adet_s": elements.adet_s,
            "adot_s": elements.adot_s,
            "availability": _number(parts.availability),
            "effectiveness": _number(parts.effectiveness),
            "quality_ratio": _number(parts.quality_ratio),
            "oee_index": _number(parts.oee_index),
            "flags": list(parts.flags),
            "losses_s": {name: ns / NS_PER_S for name, ns in losses.items()},
        }


def _number(value: float) -> float | None:
    """JSON knows no NaN: missing is null."""
    value = float(value)
    return round(value, 6) if math.isfinite(value) else None


def _count(value: np.int64) -> int | None:
    return int(value) if value >= 0 else None
