"""Measures how fast and how soundly units work, from their counters, states and running jobs."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from workshop_brain.app.watch import Watch
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.model.plant import Plant, WorkCenterKind
from workshop_brain.production.kpi import DELAY, time_elements
from workshop_brain.production.pace import Pace, speed_factor, stop_risks
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

SPEED_WINDOW_NS = 8 * NS_PER_H
RISK_WINDOW_NS = 24 * NS_PER_H
_EVERY_NS = 5 * NS_PER_MIN
_MOST_PIECES = 500
"""Pieces kept of a unit."""
Listed = Mapping[str, Mapping[str, JobResponse]]
"""Jobs of each line's receiver, by job."""


@dataclass(slots=True)
class _Seen:
    """A unit's counter when it was last looked at under one job; ``at_ns``: its last piece."""

    jobs: tuple[str, ...] = ()
    count: int = -1
    at_ns: int = 0
    ratios: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_MOST_PIECES))


class PaceMeter:
    """Watches the counters beside the jobs that run.

    Attributes
    ----------
    now
        What is measured; renewed every five minutes of plant time.
    """

    def __init__(self, plant: Plant, watch: Watch) -> None:
        self.now = Pace()
        self._plant, self._watch = plant, watch
        self._seen: dict[str, _Seen] = {}
        self._renewed_ns = 0

    def observe(self, plant_ns: int, listed: Listed, orders: Mapping[str, JobOrder]) -> None:
        """Look at every unit that works on a known job; once a second or so."""
        for path, (jobs, seconds) in planned_cycles(self._plant, listed, orders).items():
            self._look(path, jobs, seconds)
        if abs(plant_ns - self._renewed_ns) >= _EVERY_NS:
            self._renewed_ns = plant_ns
            self.now = Pace(speed=self._speed(plant_ns), risk=self._risk(plant_ns))

    def _look(self, path: str, jobs: tuple[str, ...], seconds: float) -> None:
        units = self._watch.units
        row = units.rows.get(path, -1)
        if row < 0 or units.processed[row] < 0:
            return
        seen = self._seen.setdefault(path, _Seen())
        count, at_ns = int(units.processed[row]), int(units.last_count_ns[row])
        pieces = count - seen.count
        # The first piece under a job waited for the changeover, and a reset counts from anew.
        if jobs == seen.jobs and seen.at_ns and pieces > 0 and at_ns > seen.at_ns:
            ratio = seconds * pieces / ((at_ns - seen.at_ns) / NS_PER_S)
            seen.ratios.extend([(at_ns, ratio)] * min(pieces, _MOST_PIECES))
        if jobs != seen.jobs:
            seen.jobs, seen.count, seen.at_ns = jobs, count, 0
        elif pieces:
            seen.count, seen.at_ns = count, at_ns if pieces > 0 else 0

    def _speed(self, now_ns: int) -> dict[str, float]:
        out = {}
        for path, seen in sorted(self._seen.items()):
            since = now_ns - SPEED_WINDOW_NS
            ratios = np.array([r for at, r in seen.ratios if since < at <= now_ns])
            factor = speed_factor(ratios, self.now.speed.get(path, 1.0))
            if factor != 1.0:
                out[path] = factor
        return out

    def _risk(self, now_ns: int) -> dict[str, float]:
        rows = self._watch.units.rows
        centers = [
            paths
            for center in self._plant.work_centers
            if len(paths := [unit.path for unit in center.units if unit.path in rows]) > 1
        ]
        known = [rows[path] for paths in centers for path in paths]
        if not known:
            return {}
        found, by_class = self._watch.window(now_ns - RISK_WINDOW_NS, now_ns, known)
        stopped = found.unit[np.isin(found.time_class, DELAY)]
        stops = np.bincount(stopped, minlength=len(self._watch.units))
        out: dict[str, float] = {}
        for paths in centers:
            at = [rows[path] for path in paths]
            elements = [time_elements(by_class[row]) for row in at]
            risks = stop_risks(
                np.array([e.adet_s for e in elements]),
                np.array([e.apt_s for e in elements]),
                stops[at],
                np.array([self.now.risk.get(path, 0.0) for path in paths]),
            )
            out |= {path: risk for path, risk in zip(paths, risks.tolist(), strict=True) if risk}
        return out


def planned_cycles(
    plant: Plant, listed: Listed, orders: Mapping[str, JobOrder]
) -> dict[str, tuple[tuple[str, ...], float]]:
    """Units that run jobs piece by piece, with the jobs and the planned seconds of a piece.

    A line on which jobs of unequal planned times are under way at once is left out.
    """
    seconds: dict[str, dict[str, float]] = {}
    steps = {(p.id, s.work_center): s.seconds for p in plant.products for s in p.routing}
    for center in plant.work_centers:
        if center.kind is WorkCenterKind.BATCH:
            continue
        speed = {unit.path: unit.speed for unit in center.units}
        for job, response in listed.get(center.id, {}).items():
            order = orders.get(job)
            path = response.equipment or (order.equipment if order else "")
            step = steps.get((order.product, center.id)) if order else None
            if response.state is JobState.RUNNING and path in speed and step is not None:
                seconds.setdefault(path, {})[job] = step / speed[path]
    return {
        path: (tuple(sorted(jobs)), next(iter(jobs.values())))
        for path, jobs in seconds.items()
        if len(set(jobs.values())) == 1
    }
