"""Curves whose values are whole multiples of one step, as every digitised signal is.

A 24-bit converter gives ``float32(code x step)``. Stored as codes, such a channel takes a third
less room than its floats do: the last digits of the floats are noise of rounding that no
compression finds. The step is not told; it is found from the values, and counts only if it gives
every one of them back, bit for bit.
"""

import numpy as np
from numpy.typing import NDArray

_LOOKED_AT = 4096
_SMALLEST = 16
_NEAR = 1e-3
_MOST_CODE = float(1 << 30)


def step_of(values: NDArray[np.float32]) -> tuple[float, NDArray[np.int32]] | None:
    """(step, codes) with ``float32(codes * step)`` equal to the values; None when there is none.

    Parameters
    ----------
    values : float32, shape (n,)

    >>> step, codes = step_of(np.array([0.25, -0.5, 0.0, 1.75], np.float32))
    >>> step, codes.tolist()
    (0.25, [1, -2, 0, 7])
    """
    if not len(values) or not np.isfinite(values).all():
        return None
    sizes = np.abs(values)
    rough = _rough_step(sizes)
    if rough is None:
        return None
    step = _refined(np.unique(sizes[:: max(1, len(values) // _LOOKED_AT)]), rough)
    codes = np.rint(values.astype(np.float64) / step)
    if np.abs(codes).max() > _MOST_CODE or np.signbit(values[codes == 0]).any():
        return None  # -0.0 has no code of its own
    whole = codes.astype(np.int32)
    for candidate in _candidates(sizes, np.abs(codes)):
        if np.array_equal(values_of(candidate, whole), values):
            return candidate, whole
    return None


def values_of(step: float, codes: NDArray[np.int32]) -> NDArray[np.float32]:
    """The values that ``step_of`` was given."""
    return (codes * step).astype(np.float32)


def _rough_step(sizes: NDArray[np.float32]) -> float | None:
    """The largest number that the smallest sizes are multiples of; None when they are too large to
    tell it: their rounding grows with Euclid's algorithm."""
    some = sizes[sizes > 0]
    if len(some) > _SMALLEST:
        some = np.partition(some, _SMALLEST)[:_SMALLEST]
    different = np.unique(some).astype(np.float64).tolist()
    if not different:
        return 1.0
    near = different[-1] * _NEAR
    step = different[0]
    for size in different[1:]:
        rest = size
        while rest > near:
            step, rest = rest, abs(step - round(step / rest) * rest)
    return step if step > 2 * near else None


def _refined(sizes: NDArray[np.float32], step: float) -> float:
    """The step from ever larger values: a large one tells it better, once its code is known."""
    known = sizes[sizes > 0].astype(np.float64)
    reach = 8.0
    while len(known):
        near = known[known <= reach * step]
        codes = np.rint(near / step)
        if codes.any():
            step = float((near * codes).sum() / (codes * codes).sum())
        if len(near) == len(known):
            break
        reach *= 8
    return step


def _candidates(sizes: NDArray[np.float32], codes: NDArray[np.float64]) -> tuple[float, ...]:
    """Steps that could round to every value: each value allows an interval, all share a part."""
    told = codes != 0
    if not told.any():
        return (1.0,)
    size, code = sizes[told].astype(np.float64), codes[told]
    half = np.spacing(sizes[told]).astype(np.float64) / 2
    low, high = float(((size - half) / code).max()), float(((size + half) / code).min())
    middle = (low + high) / 2
    return middle, float(np.float32(middle)), high, low
