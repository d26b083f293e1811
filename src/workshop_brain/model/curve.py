"""Curves per part: what one station recorded while it worked on one part."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One record per part, station and cycle.

    Attributes
    ----------
    channels
        Name to float32 array; all arrays of one curve have the same length.
    """

    serial: str
    station: str
    program: str
    step: int
    time_ns: int
    channels: dict[str, NDArray[np.float32]] = field(default_factory=dict)


Features = dict[str, dict[str, float]]


def features(curve: Curve) -> Features:
    """Per channel: first, last, min, max, mean, rms and where the maximum is (0..1 of the length).

    A channel without a finite value has none. The area over the first channel that is an angle
    (``angle_deg``, ``angle``), by trapezes, is in ``area_over_angle``: work, for a torque.
    """
    angle = angle_of(curve)
    out: Features = {}
    for name, raw in curve.channels.items():
        values = raw.astype(np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            continue
        good = values[finite]
        out[name] = {
            "first": float(good[0]),
            "last": float(good[-1]),
            "min": float(good.min()),
            "max": float(good.max()),
            "mean": float(good.mean()),
            "rms": float(np.sqrt(np.mean(good * good))),
            "max_at": float(np.argmax(np.where(finite, values, -np.inf)) / max(len(values) - 1, 1)),
        }
        if angle is not None and name != angle:
            x = curve.channels[angle].astype(np.float64)
            both = finite & np.isfinite(x)
            out[name]["area_over_angle"] = float(np.trapezoid(values[both], x[both]))
    return out


def angle_of(curve: Curve) -> str | None:
    """Name of the channel that is the angle; None without one."""
    return next((n for n in ("angle_deg", "angle") if n in curve.channels), None)


MOST_OVERLAID = 200
MOST_GRID = 5_000


def overlay(
    curves: Sequence[Curve], channel: str, *, points: int, over: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Curves on one grid, to be drawn over each other.

    over
        Channel that gives the grid (an angle, a way); None: the row number, from the curve's start.

    Returns the grid, float64[points], and the values, float64[n, points], NaN outside of a curve.
    Between rows it is linear. Where the angle runs back, the rows up to its new maximum are left
    out.

    Raises
    ------
    ValueError
        No curves or too many, a channel that a curve lacks.
    """
    if not 1 <= len(curves) <= MOST_OVERLAID or not 2 <= points <= MOST_GRID:
        raise ValueError(
            f"overlay: 1 to {MOST_OVERLAID} curves on 2 to {MOST_GRID} points, got {len(curves)} "
            f"curves on {points} points"
        )
    pairs = [_x_and_y(curve, channel, over) for curve in curves]
    reach = [(float(x[0]), float(x[-1])) for x, _ in pairs if len(x)]
    low, high = min((a for a, _ in reach), default=0.0), max((b for _, b in reach), default=1.0)
    grid = np.linspace(low, high, points)
    values = np.full((len(pairs), points), np.nan)
    for row, (x, y) in zip(values, pairs, strict=True):
        if len(x):
            row[:] = np.interp(grid, x, y, left=np.nan, right=np.nan)
    return grid, values


def _x_and_y(
    curve: Curve, channel: str, over: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for name in (channel, over):
        if name is not None and name not in curve.channels:
            raise ValueError(
                f"curve of {curve.serial!r} at {curve.station!r} has no channel {name!r}; it has "
                f"{', '.join(curve.channels) or 'none'}"
            )
    y = curve.channels[channel].astype(np.float64)
    x = np.arange(len(y), dtype=float) if over is None else curve.channels[over].astype(np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    rising = np.ones(len(x), bool)
    if len(x):
        rising[1:] = x[1:] > np.maximum.accumulate(x)[:-1]
    return x[rising], y[rising]
