"""A line in motion: stations in a row, finite buffers, blocking, stops; exact by recursion.

No event list: the instants of unit n follow from those of the units before it (max-plus), so a
shift of a long line takes milliseconds, and two policies see the very same stops.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Stations in a row.

    Attributes
    ----------
    cycle_s
        Shape (n_models, n_stations): working time of a model at a station, seconds.
    places
        Shape (n_stations - 1): buffer places behind each station but the last.
    servers
        Shape (n_stations): equal places that work in parallel, 1 for a plain station. Units
        leave them in the order in which they came.
    mtbf_s, mttr_s
        Shape (n_stations): mean working time between failures, mean repair; mtbf 0: never fails.
    stop_p, stop_s
        Shape (n_stations): probability of a micro-stop a unit, and its mean length.
    """

    cycle_s: Floats
    places: Ints
    servers: Ints
    mtbf_s: Floats
    mttr_s: Floats
    stop_p: Floats
    stop_s: Floats

    def __post_init__(self) -> None:
        n = self.n_stations
        for name, length in (("places", n - 1), *((c, n) for c in _COLUMNS)):
            column = getattr(self, name)
            if column.shape != (length,):
                raise ValueError(f"{name} must have {length} entries, got shape {column.shape}")
            if (column < 0).any():
                raise ValueError(f"{name} must be >= 0, got {column.min()}")
        if (self.servers < 1).any():
            raise ValueError(f"servers must be >= 1, got {self.servers.min()}")
        if not np.isfinite(self.cycle_s).all() or (self.cycle_s < 0).any():
            raise ValueError("cycle_s must be numbers >= 0")

    @property
    def n_stations(self) -> int:
        """How many stations."""
        return int(self.cycle_s.shape[1])

    @property
    def slowness_s(self) -> Floats:
        """Seconds a unit and station on the average, stops included: shape (n_models, n)."""
        fails = np.divide(1.0, self.mtbf_s, out=np.zeros_like(self.mtbf_s), where=self.mtbf_s > 0)
        stops: Floats = self.cycle_s * (1 + fails * self.mttr_s) + self.stop_p * self.stop_s
        return stops / self.servers

    def bottleneck(self, models: Ints) -> int:
        """Station that limits a mix of units, by position."""
        return int(self.slowness_s[models].mean(axis=0).argmax())


_COLUMNS = ("servers", "mtbf_s", "mttr_s", "stop_p", "stop_s")


def plain_flow(cycle_s: Floats, places: Ints) -> Flow:
    """A line without stops and parallel places."""
    zero = np.zeros(cycle_s.shape[1])
    return Flow(
        cycle_s=cycle_s, places=places, servers=np.ones(cycle_s.shape[1], np.int64), mtbf_s=zero,
        mttr_s=zero, stop_p=zero, stop_s=zero,
    )  # fmt: skip


def work_times(flow: Flow, models: Ints, rng: np.random.Generator | None = None) -> Floats:
    """Time that each unit holds each station, stops included: shape (n_units, n_stations).

    A station fails while it works, after exponential working time; repairs and micro-stops are
    exponential too. Without a generator nothing stops.
    """
    busy = flow.cycle_s[models]
    if rng is None:
        return busy
    times = busy + _repairs(flow, busy, rng)
    micro = rng.random(busy.shape) < flow.stop_p
    stopped: Floats = times + micro * rng.exponential(1.0, busy.shape) * flow.stop_s
    return stopped


def _repairs(flow: Flow, busy: Floats, rng: np.random.Generator) -> Floats:
    """Repair time of each unit at each station; the same failures for any order of the units."""
    out = np.zeros_like(busy)
    worked = np.cumsum(busy, axis=0)
    for s in np.flatnonzero(flow.mtbf_s > 0).tolist():
        count = int(2 * worked[-1, s] / flow.mtbf_s[s]) + 50
        at = np.cumsum(rng.exponential(flow.mtbf_s[s], count))
        repaired = np.append(0.0, np.cumsum(rng.exponential(flow.mttr_s[s], count)))
        total = repaired[np.searchsorted(at, worked[:, s], side="right")]
        out[:, s] = np.diff(total, prepend=0.0)
    return out


class Loops(NamedTuple):
    """Limits on units between the line's entry and a station's exit.

    Attributes
    ----------
    station, limit
        Unit n enters only when unit n - limit has left the station.
    interval_s
        At least so long between entries; 0: as soon as the limits say.
    """

    station: Ints
    limit: Ints
    interval_s: float


def no_limit(interval_s: float = 0.0) -> Loops:
    """Release as soon as the first station is free, or in fixed intervals."""
    none = np.zeros(0, np.int64)
    return Loops(station=none, limit=none, interval_s=interval_s)


@kernel
def pass_line(
    times: Floats,
    places: Ints,
    servers: Ints,
    loops: Loops,
    first: int,
    enter: Floats,
    begin: Floats,
    leave: Floats,
) -> None:
    """Instants of units ``first`` and later, given those before: entry, begin and end of stay.

    ``times``, ``begin``, ``leave`` have shape (n_units, n_stations), ``enter`` (n_units). A unit
    leaves a station when it is done, no earlier than the unit before it, and when the buffer
    behind has a place: blocking after service.
    """
    n_units, n = times.shape
    for u in range(first, n_units):
        free = leave[u - servers[0], 0] if u >= servers[0] else 0.0
        t = max(free, u * loops.interval_s)
        for k in range(len(loops.station)):
            before = u - loops.limit[k]
            if before >= 0:
                t = max(t, leave[before, loops.station[k]])
        if u > 0:
            t = max(t, enter[u - 1])
        enter[u] = t
        for s in range(n):
            free = leave[u - servers[s], s] if u >= servers[s] else 0.0
            begin[u, s] = max(t, free)
            t = begin[u, s] + times[u, s]
            if u > 0:
                t = max(t, leave[u - 1, s])
            if s + 1 < n:
                gone = u - places[s] - servers[s + 1]
                if gone >= 0:
                    t = max(t, leave[gone, s + 1])
            leave[u, s] = t


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Instants of all units, seconds after the first may enter."""

    times: Floats
    enter: Floats
    begin: Floats
    leave: Floats

    def figures(self, bottleneck: int, *, warm: int = 0) -> dict[str, float]:
        """Units per hour, mean units in the line, hours inside, and the bottleneck's waiting.

        ``warm`` units at the front are left out of all figures.
        """
        out = self.leave[:, -1]
        span = max(1e-9, float(out[-1] - out[warm]))
        inside = out - self.enter
        held = self.leave[:, bottleneck] - self.begin[:, bottleneck]
        blocked = (held - self.times[:, bottleneck])[warm + 1 :]
        waits = (self.begin[1:, bottleneck] - self.leave[:-1, bottleneck])[warm:]
        rate = (len(out) - 1 - warm) / span
        return {
            "per_hour": 3600.0 * rate,
            "in_line": float(inside[warm:].mean()) * rate,
            "hours_inside": float(inside[warm:].mean()) / 3600.0,
            "starved_share": float(waits.clip(min=0).sum()) / span,
            "blocked_share": float(blocked.clip(min=0).sum()) / span,
        }


def passage(flow: Flow, times: Floats, loops: Loops | None = None) -> Passage:
    """What happens when units with these times go through the line."""
    n_units = len(times)
    out = Passage(
        times=times,
        enter=np.zeros(n_units),
        begin=np.zeros_like(times),
        leave=np.zeros_like(times),
    )
    pass_line(
        times, flow.places, flow.servers, loops or no_limit(), 0, out.enter, out.begin, out.leave
    )
    return out
