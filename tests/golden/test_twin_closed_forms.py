"""The simulation kernel against SimPy (same draws, event for event) and against closed forms.

Formulas and their sources stand in workshop_brain.twin.queueing.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import simpy
from simpy.resources.resource import SortedQueue
from simpy.resources.store import StoreGet, StorePut

from workshop_brain.twin import draws
from workshop_brain.twin.draws import CYCLE, exponential, uniform
from workshop_brain.twin.queueing import (
    BenchLoop,
    bench_loop,
    mm1,
    mm1_wait_s,
    tandem,
    two_station_rate,
    visits,
)

HOUR = 3600 * 10**9


def _service_ns(mean_s: float, seed: int, station: int, n: int) -> int:
    return max(1, int(mean_s * exponential(seed, CYCLE, station, n) * 1e9 + 0.5))


def _simpy_tandem(
    means: tuple[float, ...], places: tuple[int, ...], seed: int, until_ns: int
) -> list[list[tuple[int, int]]]:
    """(begin, end) of every finished service by station, from SimPy with the same draws."""
    env = simpy.Environment()
    stores = [simpy.Store(env, capacity=p if p > 0 else float("inf")) for p in places]
    done: list[list[tuple[int, int]]] = [[] for _ in means]

    def station(s: int) -> Generator[Any, Any, None]:
        n = 0
        while True:
            if s > 0:
                yield stores[s - 1].get()
            n += 1
            begin = env.now
            yield env.timeout(_service_ns(means[s], seed, s, n))
            done[s].append((int(begin), int(env.now)))
            if s < len(stores):
                yield stores[s].put(n)

    for s in range(len(means)):
        env.process(station(s))
    env.run(until=until_ns + 1)
    return done


@pytest.mark.parametrize(
    ("means", "places"),
    [
        ((10.0, 7.0), (0,)),
        ((10.0, 10.0), (1,)),
        ((9.0, 11.0, 8.0, 10.0), (2, 1, 3)),
    ],
)
def test_kernel_equals_simpy_event_for_event(
    means: tuple[float, ...], places: tuple[int, ...]
) -> None:
    until = 20 * HOUR
    ours = visits(tandem(means, places, seed=11), until)
    theirs = _simpy_tandem(means, places, 11, until)
    for own, other in zip(ours, theirs, strict=True):
        assert len(own.end_ns) > 5000
        assert list(zip(own.begin_ns.tolist(), own.end_ns.tolist(), strict=True)) == other


class _Queue(simpy.Store):
    """A store whose room and pieces go to the waiting station with the lowest number."""

    GetQueue = SortedQueue
    PutQueue = SortedQueue


class _Get(StoreGet):
    def __init__(self, store: _Queue, key: int) -> None:
        self.key = key
        super().__init__(store)


class _Put(StorePut):
    def __init__(self, store: _Queue, item: dict[str, int], key: int) -> None:
        self.key = key
        super().__init__(store, item)


class _SimpyLoop:
    """The bench loop as SimPy processes with the draws of the kernel."""

    def __init__(self, loop: BenchLoop, seed: int) -> None:
        self.env, self.loop, self.seed = simpy.Environment(), loop, seed
        self.before = _Queue(self.env, loop.make_places)
        self.bench_in = _Queue(self.env, loop.bench_places)
        self.reject = _Queue(self.env, loop.reject_places)
        stations = 2 + loop.benches + loop.repairs
        self.n = [0] * stations
        self.done: list[list[tuple[int, int, int]]] = [[] for _ in range(stations)]
        self.good = self.scrap = self.fails = 0
        self.env.process(self.source())
        self.env.process(self.make())
        for k in range(loop.benches):
            self.env.process(self.bench(2 + k))
        for k in range(loop.repairs):
            self.env.process(self.repair(2 + loop.benches + k))

    def u(self, cause: int, s: int) -> float:
        return uniform(self.seed, cause, s, self.n[s])

    def service(self, s: int, mean_s: float, serial: int) -> Generator[Any, Any, None]:
        self.n[s] += 1
        begin, length = self.env.now, _service_ns(mean_s, self.seed, s, self.n[s])
        hazard = length / 1e9 / self.loop.mtbf_s * 0.4
        if s == 1 and self.u(draws.FAIL, s) < hazard:
            part = max(1, int(length * self.u(draws.FAIL_AT, s)))
            yield self.env.timeout(part)
            self.fails += 1
            down_s = self.loop.mttr_s * exponential(self.seed, draws.REPAIR, s, self.fails)
            yield self.env.timeout(int(max(20.0, down_s) * 1000.0 + 0.5) * 10**6)
            yield self.env.timeout(length - part)
        else:
            yield self.env.timeout(length)
        self.done[s].append((serial, int(begin), int(self.env.now)))

    def hidden(self, s: int) -> bool:
        return self.u(draws.LATENT, s) < 0.5 * self.loop.latent_p

    def source(self) -> Generator[Any, Any, None]:
        serial = 0
        while True:
            serial += 1
            piece = {"serial": serial, "bad": 0, "reworked": 0}
            yield from self.service(0, self.loop.source_s, serial)
            piece["bad"] = int(self.hidden(0))
            yield _Put(self.before, piece, 0)

    def make(self) -> Generator[Any, Any, None]:
        while True:
            piece = yield _Get(self.before, 1)
            for turn in range(3):  # seen defects are tried again, twice at most
                yield from self.service(1, self.loop.make_s, piece["serial"])
                seen = self.u(draws.NOK, 1) < 0.5 * self.loop.nok_p
                if not seen:
                    piece["bad"] |= self.hidden(1)
                    break
                piece["bad"] |= turn == 2
            yield _Put(self.bench_in, piece, 1)

    def bench(self, s: int) -> Generator[Any, Any, None]:
        while True:
            piece = yield _Get(self.bench_in, s)
            for _ in range(2):  # what fails is tested again
                yield from self.service(s, self.loop.bench_s, piece["serial"])
                found = piece["bad"] and self.u(draws.DETECT, s) < self.loop.detect
                fails = found or self.u(draws.FALSE_ALARM, s) < self.loop.false_alarm
                if not fails:
                    self.good += 1
                    break
            else:
                room = len(self.reject.items) < self.loop.reject_places
                if room and not piece["reworked"]:
                    yield _Put(self.reject, piece, s)
                else:
                    self.scrap += 1

    def repair(self, s: int) -> Generator[Any, Any, None]:
        while True:
            piece = yield _Get(self.reject, s)
            yield from self.service(s, self.loop.repair_s, piece["serial"])
            piece["reworked"] = 1
            if self.u(draws.REWORK, s) >= self.loop.unrepairable:
                piece["bad"] = 0
            if piece["bad"]:
                self.scrap += 1
            else:
                yield _Put(self.bench_in, piece, s)


@pytest.mark.parametrize("seed", [3, 11, 42])
@pytest.mark.parametrize(
    "loop", [BenchLoop(), BenchLoop(bench_s=40.0, repair_s=200.0, bench_places=1, reject_places=1)]
)
def test_parallel_benches_rework_and_breakdowns_equal_simpy_event_for_event(
    loop: BenchLoop, seed: int
) -> None:
    until = 20 * HOUR
    w = bench_loop(loop, seed=seed)
    ours = visits(w, until)
    theirs = _SimpyLoop(loop, seed)
    theirs.env.run(until=until + 1)
    for own, other in zip(ours, theirs.done, strict=True):
        assert len(own.end_ns) > 100
        rows = (own.serial.tolist(), own.begin_ns.tolist(), own.end_ns.tolist())
        assert list(zip(*rows, strict=True)) == other
    assert (int(w.pieces_out), int(w.pieces_scrap)) == (theirs.good, theirs.scrap)
    assert theirs.fails > 30
    assert theirs.scrap > 100
    assert w.retests > 500


def test_mm1_mean_wait_is_the_textbook_one() -> None:
    means = []
    for seed in range(12):
        arrivals, served = visits(mm1(10.0, 7.0, seed=seed), 110 * HOUR)
        n = len(served.begin_ns)
        waits = (served.begin_ns - arrivals.end_ns[:n])[2000:] / 1e9
        means.append(waits.mean())
    low, high = _interval(means)
    assert low < mm1_wait_s(10.0, 7.0) < high
    assert high - low < 4.0


@pytest.mark.parametrize(
    ("first_s", "second_s", "places"), [(10.0, 10.0, 1), (10.0, 8.0, 3), (8.0, 10.0, 2)]
)
def test_two_station_line_has_the_rate_of_the_formula(
    first_s: float, second_s: float, places: int
) -> None:
    rates = []
    for seed in range(8):
        _, out = visits(tandem((first_s, second_s), (places,), seed=seed), 100 * HOUR)
        rates.append(len(out.end_ns) / (100 * 3600.0))
    low, high = _interval(rates)
    expected = two_station_rate(first_s, second_s, places)
    assert low < expected < high
    assert high - low < 0.02 * expected


def test_a_line_without_variation_runs_at_the_pace_of_its_bottleneck() -> None:
    line = visits(tandem((5.0, 9.0, 4.0, 7.0), (1, 1, 2), seed=1, fixed=True), 10 * HOUR)
    ends = line[-1].end_ns
    assert np.all(np.diff(ends) == 9 * 10**9)
    assert ends[0] == (5 + 9 + 4 + 7) * 10**9


def _interval(values: list[float]) -> tuple[float, float]:
    """Mean +- 3.5 standard errors: a true formula misses it about once in a few hundred runs."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean - 3.5 * error, mean + 3.5 * error
