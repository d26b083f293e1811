"""The simulation kernel against SimPy (same draws, event for event) and against closed forms.

Formulas and their sources stand in workshop_brain.twin.queueing.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import simpy

from workshop_brain.twin.draws import CYCLE, exponential
from workshop_brain.twin.queueing import mm1, mm1_wait_s, tandem, two_station_rate, visits

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
