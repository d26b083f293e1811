"""Weights of the objective fitted to plans that planners preferred.

The objective is linear in its weights, so a preference is a half-space: the preferred plan should
cost less than the other. Fitted is a logistic choice model (Bradley and Terry 1952) on the
differences of the parts, with weights that are never negative and a pull towards the present ones:
with few pairs little changes, and what no pair speaks of stays as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.decision import WEIGHT_NAMES
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem

Floats = NDArray[np.float64]
PARTS = ("tardiness", "setup", "flow", "move", "shift")
"""Weights that are fitted; the parts are what each of them multiplies."""
MOST_WEIGHT = 1e9
Pair = tuple[Sequence[float], Sequence[float]]
"""Parts of the preferred plan, parts of the other."""
PULL = 0.1
"""Cost of a weight that is twice, or no part of, what it was, in surprised choices."""
_STEPS = 400
_ZERO: dict[str, Any] = dict.fromkeys(WEIGHT_NAMES, 0.0)
_NOTHING = Weights(**_ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Fitted weights beside the present ones.

    Attributes
    ----------
    agrees_before, agrees
        Pairs whose preferred plan costs less with the present and with the fitted weights.
    """

    weights: Weights
    pairs: int
    agrees_before: int
    agrees: int


def read_weights(values: Mapping[str, Any], base: Weights = PLANT_WEIGHTS) -> Weights:
    """Weights from values by name; what is left out is as in ``base``.

    Raises
    ------
    ValueError
        A name is unknown, a value is not a finite number >= 0, or none is above 0.
    """
    for name, value in values.items():
        if name not in WEIGHT_NAMES:
            raise ValueError(f"there is no weight {name!r}; known are {', '.join(WEIGHT_NAMES)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not 0 <= value <= MOST_WEIGHT:
            raise ValueError(
                f"weight {name!r} must be a number from 0 to {MOST_WEIGHT:g}, got {value!r}"
            )
    weights = _with(base, {name: float(value) for name, value in values.items()})
    if not any(getattr(weights, name) > 0 for name in WEIGHT_NAMES):
        raise ValueError("all weights are 0, so every plan is as good as any; set one above 0")
    return weights


def parts(
    problem: Problem, plan: Plan, previous: Plan, weights: Weights = PLANT_WEIGHTS
) -> tuple[float, ...]:
    """What each weight of ``PARTS`` multiplies, in their order; weights x parts is the objective.

    ``near_s`` and ``far`` of the weights hold.
    """
    nothing = replace(_NOTHING, near_s=weights.near_s, far=weights.far)
    return tuple(
        objective(problem, plan, previous, _with(nothing, {name: 1.0})).objective for name in PARTS
    )


def _with(weights: Weights, values: Mapping[str, Any]) -> Weights:
    return replace(weights, **values)


def agreeing(pairs: Sequence[Pair], weights: Weights) -> int:
    """Pairs whose preferred plan costs less with these weights."""
    if not len(pairs):
        return 0
    rows = np.array([*pairs], np.float64)
    gain = (rows[:, 1] - rows[:, 0]) @ np.array([getattr(weights, name) for name in PARTS])
    return int((gain > 0).sum())


def fit(pairs: Sequence[Pair], present: Weights = PLANT_WEIGHTS) -> Fitted:
    """Weights that make the first plan of each pair the cheaper one, as far as they can.

    Parameters
    ----------
    pairs
        ``(parts of the preferred plan, parts of the other)``.

    Raises
    ------
    ValueError
        A pair has not one number for each part.
    """
    now = np.array([getattr(present, name) for name in PARTS])
    rows = np.array([*pairs], np.float64)
    if len(pairs) and rows.shape[1:] != (2, len(PARTS)):
        raise ValueError(f"each plan of a pair needs {len(PARTS)} parts: {', '.join(PARTS)}")
    if not len(pairs) or not np.isfinite(rows).all():
        if len(pairs):
            raise ValueError("parts of plans must be finite numbers")
        return Fitted(weights=present, pairs=0, agrees_before=0, agrees=0)
    gain = (rows[:, 1] - rows[:, 0]) * now
    # Each pair counts the same, whatever the size of its plans.
    gain /= np.maximum(np.abs(gain).sum(axis=1, keepdims=True), 1e-9)
    factor = _fitted(gain)
    weights = dict(zip(PARTS, (factor * now).tolist(), strict=True))
    return Fitted(
        weights=_with(present, weights),
        pairs=len(pairs),
        agrees_before=int((gain.sum(axis=1) > 0).sum()),
        agrees=int((gain @ factor > 0).sum()),
    )


def _fitted(gain: Floats) -> Floats:
    """Factors on the present weights, >= 0, by projected gradient steps; convex, so one minimum."""
    factor = np.ones(gain.shape[1])
    step = 1.0 / (0.25 * float((gain**2).sum()) + 2.0 * PULL)
    for _ in range(_STEPS):
        slope = -gain.T @ (1.0 / (1.0 + np.exp(gain @ factor))) + 2.0 * PULL * (factor - 1.0)
        factor = np.maximum(0.0, factor - step * slope)
    return factor
