"""Which station holds the line back, guessed from what can be seen, with a confidence.

Two methods, because each fails where the other works: the *turning point* (stations before the
bottleneck are blocked more than starved, stations after it the other way round; Li, Chang and Ni,
2009) and the *active period* (the bottleneck is interrupted least; Roser, Nakano and Tanaka, 2001).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.production.states import Intervals, TimeClass
from workshop_brain.units import NS_PER_S

ENOUGH_S = 1200.0
"""Observation that makes the guess as sure as it gets, seconds: some thirty cycles of 37 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A bottleneck guess over stations in flow order.

    Attributes
    ----------
    station
        Position in flow order.
    confidence
        0 to 1: agreement of the methods, distance to the next candidate, time observed.
    method
        ``both``, ``turning_point`` or ``active_period``.
    scores : float64, shape (n,)
        1 for the most likely station, 0 for the least.
    """

    station: int
    confidence: float
    method: str
    scores: NDArray[np.float64]


def turning_point(
    blocked: NDArray[np.float64], starved: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Score in 0..1 of each station being where blocked minus starved changes sign.

    Inputs are time shares per station in flow order, shape (n,). Stations before the turning
    point add their surplus of blocking, those after it their surplus of starving; a station's own
    idle time counts against it.

    >>> import numpy as np
    >>> turning_point(np.array([.3, .2, 0, 0]), np.array([0, 0, .01, .3])).argmax()
    np.int64(2)
    """
    surplus = blocked - starved
    total = float(np.abs(surplus).sum())
    if total <= 0:
        return np.zeros(len(blocked))
    before = np.concatenate([[0.0], np.cumsum(surplus)[:-1]])
    after = surplus.sum() - before - surplus
    own = blocked + starved
    score: NDArray[np.float64] = np.clip((before - after - own) / total, 0.0, 1.0)
    return score


def active_period(found: Intervals, stations: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean length of the active periods of each station, seconds; shape (len(stations),).

    Active is everything but starved, blocked, without a job, on a planned stop or unknown.
    """
    idle = np.isin(
        found.time_class,
        [
            TimeClass.STARVED,
            TimeClass.BLOCKED,
            TimeClass.NO_JOB,
            TimeClass.PLANNED_STOP,
            TimeClass.UNKNOWN,
        ],
    )
    busy = np.zeros(0 if not len(found) else int(found.unit.max()) + 1)
    periods = np.zeros(len(busy))
    active = ~idle
    np.add.at(busy, found.unit[active], (found.end_ns - found.start_ns)[active] / NS_PER_S)
    begins = active.copy()
    begins[1:] &= ~(active[:-1] & (found.unit[1:] == found.unit[:-1]))
    np.add.at(periods, found.unit[begins], 1.0)
    out = np.zeros(len(stations))
    known = stations < len(busy)
    rows = stations[known]
    out[known] = busy[rows] / np.maximum(periods[rows], 1.0)
    return out


def guess(
    found: Intervals, by_class: NDArray[np.int64], stations: NDArray[np.int32]
) -> Guess | None:
    """Bottleneck among ``stations`` (unit rows in flow order); None without observations."""
    rows = by_class[stations]
    seen = rows.sum(axis=1) - rows[:, TimeClass.UNKNOWN] - rows[:, TimeClass.PLANNED_STOP]
    if len(stations) < 2 or not (seen > 0).any():
        return None
    base = np.maximum(seen, 1).astype(np.float64)
    turning = turning_point(rows[:, TimeClass.BLOCKED] / base, rows[:, TimeClass.STARVED] / base)
    periods = active_period(found, stations)
    active = periods / periods.max() if periods.max() > 0 else periods
    scores = (turning + active) / 2
    if scores.max() <= 0:
        return None
    best = int(scores.argmax())
    spread = np.sort(scores)[::-1]
    distance = float(spread[0] - spread[1])
    both = abs(int(turning.argmax()) - best) <= 1 and abs(int(active.argmax()) - best) <= 1
    if both:
        method = "both"
    else:
        method = "turning_point" if abs(int(turning.argmax()) - best) <= 1 else "active_period"
    observed = min(1.0, float(np.median(seen)) / NS_PER_S / ENOUGH_S)
    confidence = observed * (0.9 if both else 0.5) * (0.5 + 0.5 * min(1.0, 4 * distance))
    return Guess(
        station=best, confidence=round(confidence, 3), method=method, scores=scores / scores.max()
    )
