"""The kernel as textbook systems, so that it can be checked against SimPy and closed forms.

The same stations, buffers and event loop as the plant; only the network is small and the service
times are exponential or fixed. Every draw is ``exponential(seed, CYCLE, station, n)``, so a peer
can use the same numbers and must get the same instants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.twin import des, world
from workshop_brain.twin.layout import Draft, build_world
from workshop_brain.twin.world import World

_ENDLESS = 12_000
"""Places of a buffer that stands for an unlimited queue."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Finished services of one station: serial number, begin and end of each, ns."""

    serial: NDArray[np.int64]
    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]


def tandem(
    mean_s: Sequence[float],
    places: Sequence[int],
    *,
    seed: int,
    fixed: bool = False,
) -> World:
    """A line: a source that never runs dry, then stations with buffers of ``places`` between.

    Parameters
    ----------
    mean_s
        Mean service time of each station, the first included; exponential unless ``fixed``.
    places
        Places of the buffer behind each station but the last; 0 or less: unlimited.
    """
    draft = Draft()
    buffers = [draft.buffer(p if p > 0 else _ENDLESS) for p in places]
    for s, mean in enumerate(mean_s):
        draft.station(
            f"s{s}",
            kind=world.SOURCE if s == 0 else world.FLOW,
            input=buffers[s - 1] if s > 0 else -1,
            output=buffers[s] if s < len(buffers) else -1,
            cycle_s=mean,
            exponential=0 if fixed else 1,
        )
    w = build_world(draft, seed=seed, now_ns=0)
    w.p_sigma = 0.0
    w.p_pallet = 0.0
    w.logging = 1
    return w


def mm1(arrival_s: float, service_s: float, *, seed: int) -> World:
    """An M/M/1 queue: station 0 makes the arrivals, station 1 serves them."""
    return tandem((arrival_s, service_s), (0,), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchLoop:
    """A little end of line: a source, a station that breaks down, benches in parallel, rework.

    Attributes
    ----------
    source_s, make_s, bench_s, repair_s
        Mean service times, exponential, seconds.
    make_places, bench_places, reject_places
        Places before the station, before the benches and before the repair places.
    mtbf_s, mttr_s
        Of the station, seconds; its tool does not wear and it stays cool.
    nok_p, latent_p
        Rates of seen and hidden defects of the station and the source.
    detect, false_alarm, unrepairable
        Probabilities that a bench finds a defect, that it sees one where there is none, and that
        a repair does not help.
    """

    source_s: float = 11.0
    make_s: float = 10.0
    bench_s: float = 28.0
    repair_s: float = 90.0
    make_places: int = 3
    bench_places: int = 2
    reject_places: int = 2
    benches: int = 3
    repairs: int = 2
    mtbf_s: float = 200.0
    mttr_s: float = 60.0
    nok_p: float = 0.1
    latent_p: float = 0.2
    detect: float = 0.8
    false_alarm: float = 0.05
    unrepairable: float = 0.3


def bench_loop(loop: BenchLoop, *, seed: int) -> World:
    """The kernel's network of a ``BenchLoop``: source 0, station 1, benches, repair places."""
    draft = Draft()
    before, bench_in, reject = (
        draft.buffer(p) for p in (loop.make_places, loop.bench_places, loop.reject_places)
    )
    draft.station(
        "source", kind=world.SOURCE, output=before, cycle_s=loop.source_s, exponential=1,
        latent_p=loop.latent_p, rise_c=10.0,
    )  # fmt: skip
    draft.station(
        "make", kind=world.FLOW, input=before, output=bench_in, cycle_s=loop.make_s,
        exponential=1, nok_p=loop.nok_p, latent_p=loop.latent_p, mtbf_s=loop.mtbf_s,
        mttr_s=loop.mttr_s, rise_c=10.0,
    )  # fmt: skip
    for k in range(loop.benches):
        draft.station(
            f"bench{k}", kind=world.FLOW, role=world.BENCH, input=bench_in, reject=reject,
            cycle_s=loop.bench_s, exponential=1,
        )  # fmt: skip
    for k in range(loop.repairs):
        draft.station(
            f"repair{k}", kind=world.FLOW, role=world.REPAIR_PLACE, input=reject,
            output=bench_in, cycle_s=loop.repair_s, exponential=1,
        )  # fmt: skip
    w = build_world(draft, seed=seed, now_ns=0)
    w.p_detect_bench, w.p_false, w.p_unrepairable = (
        loop.detect, loop.false_alarm, loop.unrepairable,
    )  # fmt: skip
    w.p_temp_tau = 1e18  # temperature stands still: no heat in the hazards
    w.p_pallet = 0.0
    w.logging = 1
    return w


def visits(w: World, until_ns: int) -> list[Visits]:
    """Run a network and list every station's finished services."""
    for s in range(w.stations):
        des.wake(w, s)
    parts = []
    while True:
        code = des.run(w, until_ns, False)
        parts.append(w.cycles[: w.cycle_n].copy())
        w.cycle_n = w.log_n = 0
        if code == des.REACHED:
            break
    rows = np.concatenate(parts)
    return [
        Visits(*(rows[rows["device"] == s][f].copy() for f in ("serial", "began", "t")))
        for s in range(w.stations)
    ]


def mm1_wait_s(arrival_s: float, service_s: float) -> float:
    """Mean wait in the queue of M/M/1: Wq = rho / (mu - lambda) (Kleinrock 1975, section 3.2).

    >>> mm1_wait_s(2.0, 1.0)
    1.0
    """
    rho = service_s / arrival_s
    return rho * service_s / (1.0 - rho)


def two_station_rate(first_s: float, second_s: float, places: int) -> float:
    """Throughput per second of two exponential stations with a finite buffer between them.

    Blocking after service; the first never starves, the second never blocks. The pieces behind the
    first (in the buffer, in the second, and a finished one blocked in the first) form a birth-death
    chain with ``places + 3`` states (Buzacott and Shanthikumar 1993, section 6.2):
    rate = (1 - P0) / second_s with P0 = (1 - r) / (1 - r^(places + 3)), r = second_s / first_s.

    >>> round(two_station_rate(1.0, 1.0, 1), 4)
    0.75
    """
    states = places + 3
    r = second_s / first_s
    empty = 1.0 / states if r == 1.0 else (1.0 - r) / (1.0 - r**states)
    return (1.0 - empty) / second_s
