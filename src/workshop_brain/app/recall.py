"""After a restart: what the counters and states were, read back from the historian.

``read`` only reads and may run in a thread; ``Watch.recall`` takes the result over in the event
loop, whatever has come in meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.production.flow import rise
from workshop_brain.units import NS_PER_H, NS_PER_MIN

STATE_SPAN_NS = 8 * NS_PER_H
LINE_SPAN_NS = 30 * NS_PER_MIN


class _History(Protocol):
    def query(self, signals: Sequence[str], from_ns: int, to_ns: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was read.

    Attributes
    ----------
    grid_ns : int64, shape (t,)
    totals
        Unit path to pieces counted since the first instant of the grid; float64, shape (t,).
    states
        ``(unit path, time_ns, state, reason)`` of every known change, in no order.
    from_ns
        From when on states are known; 0 when none are.
    """

    grid_ns: NDArray[np.int64]
    totals: dict[str, NDArray[np.float64]]
    states: list[tuple[str, int, int, int]]
    from_ns: int


def read(
    history: _History,
    *,
    known: frozenset[str],
    centers: Sequence[str],
    devices: Sequence[str],
    midnight_ns: int,
    now_ns: int,
    every_ns: int,
) -> Recalled:
    """Counters of the work-center units since midnight, their states of the last eight hours, and
    those of the line's devices of the last half hour.

    ``known`` are the signal paths of the registry, ``now_ns`` the newest plant time of the values
    that were restored; 0 when there were none.
    """
    if now_ns <= 0:
        return Recalled(np.empty(0, np.int64), {}, [], 0)
    grid = np.append(np.arange(midnight_ns, now_ns, every_ns, dtype=np.int64), now_ns)
    counters = [p for u in centers if (p := f"{u}/prod_processed_count") in known]
    totals: dict[str, NDArray[np.float64]] = {}
    for path, times, values in _series(history, counters, midnight_ns, now_ns + 1):
        steps = np.concatenate([[0.0], rise(values[:-1], values[1:])])
        counted = np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps))])
        at = np.searchsorted(times, grid, side="right")
        totals[path.rsplit("/", 1)[0]] = counted[at]
    states: list[tuple[str, int, int, int]] = []
    for units, span in ((centers, STATE_SPAN_NS), (devices, LINE_SPAN_NS)):
        states += _states(history, list(units), known, now_ns - span, now_ns + 1)
    first = min((t for _, t, _, _ in states), default=0)
    return Recalled(grid, totals, states, first)


def _series(
    history: _History, paths: Sequence[str], from_ns: int, to_ns: int
) -> list[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """Samples per path, in time order."""
    if not paths or to_ns <= from_ns:
        return []
    table = history.query(paths, from_ns, to_ns)
    names = np.asarray(table.column("path").to_pylist(), dtype=object)
    times = np.asarray(table.column("time_ns").cast("int64").to_numpy(zero_copy_only=False))
    values = np.asarray(table.column("value").to_numpy(zero_copy_only=False), np.float64)
    out = []
    for path in paths:
        mine = names == path
        if mine.any():
            out.append((path, times[mine], values[mine]))
    return out


def _states(
    history: _History, units: list[str], known: frozenset[str], from_ns: int, to_ns: int
) -> list[tuple[str, int, int, int]]:
    wanted = [
        p for u in units for tag in ("state_current", "stop_reason") if (p := f"{u}/{tag}") in known
    ]
    found = {path: (t, v) for path, t, v in _series(history, wanted, from_ns, to_ns)}
    out: list[tuple[str, int, int, int]] = []
    for unit in units:
        times, states = found.get(f"{unit}/state_current", (None, None))
        if times is None or states is None:
            continue
        when, reasons = found.get(f"{unit}/stop_reason", (times[:0], states[:0]))
        moments = np.unique(np.concatenate([times, when]))
        moments = moments[moments >= times[0]]
        state = states[np.searchsorted(times, moments, side="right") - 1]
        k = np.searchsorted(when, moments, side="right") - 1
        reason = np.where(k >= 0, reasons[np.maximum(k, 0)], 0.0) if len(when) else 0.0 * state
        rows = zip(
            moments.tolist(),
            np.nan_to_num(state).astype(int).tolist(),
            np.nan_to_num(reason).astype(int).tolist(),
            strict=True,
        )
        out += [(unit, t, s, r) for t, s, r in rows]
    return out
