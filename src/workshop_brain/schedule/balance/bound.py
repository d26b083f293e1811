"""Lower bounds: sums that no station can exceed (dual feasible functions of bin packing)."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
MOST_WEIGHTS = 14
_STEPS = (2, 3, 4, 5, 6, 7, 9, 11, 14, 19)


def station_weights(size: Ints, room: Ints) -> tuple[Ints, Ints]:
    """Weights (b, n) and what one station can hold of each (b): every row is a valid bound.

    Row 0 is size row 0 (LB1). Then halves and thirds (LB2, LB3 of Scholl), and of the
    functions of Martello and Toth 1990 and Fekete and Schepers 2001, alone and one after the
    other, the rows that say most about the whole set. Items must fit: ``size <= room``.
    """
    rows: list[Ints] = [size[0]]
    rooms: list[int] = [int(room[0])]
    found: list[tuple[float, Ints, int]] = []
    for s, c in zip(size, room.tolist(), strict=True):
        if c <= 0:
            continue
        for row, most in [(s, c), *_classic(s, c)]:
            rows.append(row)
            rooms.append(most)
        cut = [(s, c), *((_cut(s, c, e), c) for e in _thresholds(s, c))]
        for row, most in cut:
            found += [_scored(_staircase(row, most, k), most * k) for k in _STEPS]
            found.append(_scored(row, most))
        found += [_scored(*_counted(s, c, e)) for e in _thresholds(s, c)]
    found.sort(key=lambda f: -f[0])
    for _, row, most in found:
        if len(rows) >= MOST_WEIGHTS:
            break
        known = (row / most == r / m for r, m in zip(rows, rooms, strict=True))
        if not any(same.all() for same in known):
            rows.append(row)
            rooms.append(most)
    return np.array(rows, np.int64), np.array(rooms, np.int64)


def fewest_stations(size: Ints, room: Ints) -> int:
    """Stations that are needed at least, whatever the precedence.

    >>> fewest_stations(np.array([[6, 6, 6, 4]]), np.array([10]))
    3
    """
    weight, most = station_weights(size, room)
    return max(1, int((-(-weight.sum(axis=1) // most)).max()))


def _scored(row: Ints, most: int) -> tuple[float, Ints, int]:
    return float(row.sum()) / most, row, most


def _classic(s: Ints, c: int) -> list[tuple[Ints, int]]:
    """LB2: more than half a station counts 1, half of it 1/2. LB3: the same with thirds."""
    halves = np.where(2 * s > c, 2, np.where(2 * s == c, 1, 0))
    thirds = np.select([3 * s > 2 * c, 3 * s == 2 * c, 3 * s > c, 3 * s == c], [6, 4, 3, 2], 0)
    return [(halves.astype(np.int64), 2), (thirds.astype(np.int64), 6)]


def _thresholds(s: Ints, c: int) -> list[int]:
    small = np.unique(np.concatenate([s[(s > 0) & (2 * s <= c)], c - s[(2 * s > c) & (s < c)] + 1]))
    small = small[2 * small <= c]
    if len(small) > 60:
        small = small[np.linspace(0, len(small) - 1, 60).astype(np.int64)]
    values: list[int] = small.tolist()
    return values


def _cut(s: Ints, c: int, e: int) -> Ints:
    """Below e nothing, above c - e a whole station."""
    return np.where(s > c - e, c, np.where(s < e, 0, s))


def _staircase(s: Ints, c: int, k: int) -> Ints:
    """u(k) of Fekete and Schepers, times c * k."""
    steps = s * (k + 1)
    return np.where(steps % c == 0, s * k, steps // c * c)


def _counted(s: Ints, c: int, e: int) -> tuple[Ints, int]:
    """How many pieces of size e a station holds: phi(e) of Fekete and Schepers."""
    q = c // e
    return np.where(2 * s > c, q - (c - s) // e, np.where(s >= e, 1, 0)).astype(np.int64), q
