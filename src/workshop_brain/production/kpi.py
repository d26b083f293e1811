"""Core KPIs of ISO 22400-2 from time elements and counts; nothing is ever capped.

A part above 1 is a fact about the master data (a planned cycle that is too long, a counter that
counts twice), so it is shown and flagged, never cut to 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.production.states import TimeClass
from workshop_brain.units import NS_PER_S

DELAY = (
    TimeClass.BREAKDOWN,
    TimeClass.MICRO_STOP,
    TimeClass.TOOL_CHANGE,
    TimeClass.QUALITY_STOP,
    TimeClass.OTHER_STOP,
)
"""ADET: malfunctions, minor stoppages and other unplanned interruptions while an order runs."""
DOWN = (TimeClass.STARVED, TimeClass.BLOCKED, TimeClass.NO_OPERATOR, TimeClass.NO_JOB)
"""ADOT: the unit is available and does not process an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeElements:
    """Time elements of one unit over one period, seconds (ISO 22400-2 clause 5).

    Attributes
    ----------
    pbt_s
        Planned busy time: calendar time without planned stops and unknown time.
    apt_s, aust_s, adet_s, adot_s
        Actual production, setup, delay and down time; they sum to ``pbt_s``.
    planned_stop_s, unknown_s
        Outside planned busy time.
    """

    pbt_s: float
    apt_s: float
    aust_s: float
    adet_s: float
    adot_s: float
    planned_stop_s: float = 0.0
    unknown_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Oee:
    """OEE index and its parts; NaN where a part has no basis.

    Attributes
    ----------
    flags
        Names of the parts above 1, which point at wrong planned values.
    """

    availability: float
    effectiveness: float
    quality_ratio: float
    oee_index: float
    flags: tuple[str, ...] = ()


def time_elements(by_class: NDArray[np.int64]) -> TimeElements:
    """Time elements of one row of ``states.time_by_class``."""

    def seconds(*classes: TimeClass) -> float:
        return float(sum(int(by_class[c]) for c in classes)) / NS_PER_S

    apt, aust = seconds(TimeClass.PRODUCTION), seconds(TimeClass.SETUP)
    adet, adot = seconds(*DELAY), seconds(*DOWN)
    return TimeElements(
        pbt_s=apt + aust + adet + adot,
        apt_s=apt,
        aust_s=aust,
        adet_s=adet,
        adot_s=adot,
        planned_stop_s=seconds(TimeClass.PLANNED_STOP),
        unknown_s=seconds(TimeClass.UNKNOWN),
    )


def availability(*, apt_s: float, pbt_s: float) -> float:
    """Actual production time over planned busy time, A = APT / PBT (ISO 22400-2).

    >>> availability(apt_s=6.0 * 3600, pbt_s=7.5 * 3600)
    0.8
    """
    return apt_s / pbt_s if pbt_s > 0 else float("nan")


def effectiveness(*, pri_s: float, pq: float, apt_s: float) -> float:
    """Planned run time per item times produced quantity over production time, E = PRI*PQ/APT.

    >>> effectiveness(pri_s=30.0, pq=600, apt_s=20_000.0)
    0.9
    """
    return pri_s * pq / apt_s if apt_s > 0 else float("nan")


def quality_ratio(*, gq: float, pq: float) -> float:
    """Good over produced quantity, Q = GQ / PQ (ISO 22400-2).

    >>> quality_ratio(gq=98, pq=100)
    0.98
    """
    return gq / pq if pq > 0 else float("nan")


def oee(elements: TimeElements, *, pri_s: float, pq: float, gq: float) -> Oee:
    """OEE index = availability x effectiveness x quality ratio (ISO 22400-2), not capped.

    ``pri_s`` is the planned run time per item, seconds; ``pq``, ``gq`` produced and good pieces.
    """
    a = availability(apt_s=elements.apt_s, pbt_s=elements.pbt_s)
    e = effectiveness(pri_s=pri_s, pq=pq, apt_s=elements.apt_s)
    q = quality_ratio(gq=gq, pq=pq)
    parts = {"availability": a, "effectiveness": e, "quality_ratio": q}
    return Oee(
        availability=a,
        effectiveness=e,
        quality_ratio=q,
        oee_index=a * e * q,
        flags=tuple(name for name, part in parts.items() if part > 1.0),
    )


def loss_waterfall(
    by_class: NDArray[np.int64], *, pri_s: float, pq: int, gq: int
) -> dict[str, int]:
    """Calendar time split into losses and fully productive time, whole ns; the sum is exact.

    ``speed`` is what is left of production time after the ideal time of all pieces; it is
    negative when the unit ran faster than planned.
    """
    losses = {c.name.lower(): int(by_class[c]) for c in TimeClass if c != TimeClass.PRODUCTION}
    productive = round(pri_s * gq * NS_PER_S)
    scrap = round(pri_s * (pq - gq) * NS_PER_S)
    losses["quality"] = scrap
    losses["speed"] = int(by_class[TimeClass.PRODUCTION]) - productive - scrap
    losses["fully_productive"] = productive
    return losses
