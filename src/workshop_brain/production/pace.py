"""How fast and how soundly units work now, for plans that trust what is measured.

All is in steps of ``STEP``, and stays where it is until the measurement leaves the step clearly: a
plan must not be timed anew for noise. What was seen too seldom counts as usual.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_PIECES = 30
"""Pieces that a speed is measured on, at least."""
SLOWEST, FASTEST = 0.5, 2.0
"""Beyond them the planned time is wrong, not the machine."""
LEAST_STOPS = 3
LEAST_WORK_S = 2 * 3600
"""A unit that worked less, or stopped less often, is as sound as its siblings."""
PRIOR_S = 4 * 3600
"""Work that the siblings' stops weigh as much as."""
RISKIEST = 1.0
STEP = 0.05
CLEARLY = 0.75 * STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What is measured of units, by path; units left out are as usual.

    Attributes
    ----------
    speed
        Factor on the planned rate, ``SLOWEST`` .. ``FASTEST``.
    risk
        Seconds of stops for each second of work beyond what the other units of the work center
        have, > 0 .. ``RISKIEST``.
    """

    speed: Mapping[str, float] = field(default_factory=dict)
    risk: Mapping[str, float] = field(default_factory=dict)


def speed_factor(ratios: Floats, before: float = 1.0) -> float:
    """Median of planned over measured time per piece, one for each piece; 1.0 below LEAST_PIECES.

    The median shrugs off stops, which belong to the risk and not to the speed. ``before`` is what
    the unit was planned with.

    >>> speed_factor(np.full(40, 0.78))
    0.8
    >>> speed_factor(np.full(29, 0.78))
    1.0
    """
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) < LEAST_PIECES:
        return 1.0
    return _stepped(float(np.clip(np.median(ratios), SLOWEST, FASTEST)), before)


def stop_risks(
    delay_s: Floats, work_s: Floats, stops: NDArray[np.int64], before: Floats | None = None
) -> Floats:
    """Stops beyond those of the other units, per second of work; one work center's units.

    Parameters
    ----------
    delay_s, work_s : shape (n_units,)
        Unplanned stops (ISO 22400-2: ADET) and work (APT) over one window, seconds, >= 0.
    stops
        How many stops that were.
    before
        What the units were planned with; None = nothing.

    >>> h = 3600.0
    >>> stop_risks(np.array([3 * h, 0.2 * h]), np.array([8 * h, 20 * h]), np.array([5, 4])).tolist()
    [0.25, 0.0]
    """
    out = np.zeros(len(delay_s))
    for k in range(len(delay_s)):
        others = np.arange(len(delay_s)) != k
        work = float(work_s[others].sum())
        if stops[k] < LEAST_STOPS or work_s[k] < LEAST_WORK_S or work < LEAST_WORK_S:
            continue
        usual = float(delay_s[others].sum()) / work
        own = (float(delay_s[k]) + PRIOR_S * usual) / (float(work_s[k]) + PRIOR_S)
        then = 0.0 if before is None else float(before[k])
        out[k] = _stepped(min(RISKIEST, max(0.0, own - usual)), then)
    return out


def _stepped(value: float, before: float) -> float:
    return before if abs(value - before) <= CLEARLY else round(round(value / STEP) * STEP, 2)
