"""The line in motion: exact recursion, release by loops, order of mixed models."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest

from workshop_brain.schedule.balance.flow import (
    Flow,
    no_limit,
    passage,
    plain_flow,
    work_times,
)
from workshop_brain.schedule.balance.release import (
    ReleaseRule,
    ReleaseTrial,
    best_conwip,
    best_interval,
    release_rule,
)
from workshop_brain.schedule.balance.sequence import Wishes, levelled, sequence, span_bound
from workshop_brain.twin.queueing import tandem, visits

HOUR_NS = 3600 * 10**9


def line(stations: int = 12, slow: int = 3) -> Flow:
    """Stations that fail now and then; the slow one is the bottleneck."""
    cycle = np.full((1, stations), 30.0)
    cycle[0, slow] = 36.0
    return Flow(
        cycle_s=cycle,
        places=np.full(stations - 1, 6, np.int64),
        servers=np.ones(stations, np.int64),
        mtbf_s=np.full(stations, 7200.0),
        mttr_s=np.full(stations, 240.0),
        stop_p=np.full(stations, 0.01),
        stop_s=np.full(stations, 20.0),
    )


def test_the_recursion_gives_the_instants_of_the_event_kernel() -> None:
    means, places = (9.0, 11.0, 8.0, 10.0), (2, 1, 3)
    rows = visits(tandem(means, places, seed=5), 6 * HOUR_NS)
    n = min(len(r.end_ns) for r in rows)
    times = np.column_stack([(r.end_ns - r.begin_ns)[:n] for r in rows]).astype(float)
    run = passage(plain_flow(np.array([means]), np.array(places)), times)
    theirs = np.column_stack([r.begin_ns[:n] for r in rows])
    assert n > 1500
    assert np.array_equal(run.begin, theirs)


def test_stops_take_the_share_of_time_that_the_data_say() -> None:
    flow = line()
    models = np.zeros(20_000, np.int64)
    mean = work_times(flow, models, np.random.default_rng(2)).mean(axis=0)
    assert mean == pytest.approx(flow.slowness_s[0], rel=0.02)
    assert flow.bottleneck(models) == 3


def test_a_unit_enters_at_the_first_instant_that_the_rule_allows() -> None:
    flow = line(6, 2)
    rule = ReleaseRule(limits={2: 5, 5: 9})
    times = work_times(flow, np.zeros(300, np.int64), np.random.default_rng(1))
    run = passage(flow, times, rule.loops)
    held = 0
    for u in range(20, 300):
        now = run.enter[u]
        assert rule.holds(u, (run.leave <= now).sum(axis=0).tolist()) is None
        if now > run.leave[u - 1, 0]:
            held += 1
            just_before = (run.leave < now).sum(axis=0).tolist()
            assert rule.holds(u, just_before) in rule.limits
    assert held > 50


def test_our_release_needs_less_work_than_conwip_and_intervals_for_the_same_output() -> None:
    flow, models = line(), np.zeros(600, np.int64)
    choosing, unseen = (ReleaseTrial(flow, models, s) for s in (range(16), range(100, 140)))
    ours = release_rule(choosing, tries=120)
    goal = choosing.outcome(ours.loops).per_hour
    here = unseen.outcome(ours.loops)
    for other in (best_conwip(choosing, goal).loops, no_limit(best_interval(choosing, goal))):
        there = unseen.outcome(other)
        assert here.work < 0.95 * there.work
        assert here.per_hour.mean() > 0.995 * there.per_hour.mean()


def test_a_small_order_is_as_good_as_trying_all() -> None:
    rng = np.random.default_rng(4)
    flow = plain_flow(rng.uniform(5.0, 40.0, (3, 5)), np.array([0, 1, 0, 2]))
    models = np.array([0, 0, 1, 1, 2, 2, 2])
    due = rng.uniform(60.0, 320.0, 7)
    pace_s = flow.cycle_s[models].mean(axis=0).max()
    wishes = Wishes(span=1.0, level=5.0 / pace_s, tardiness=0.5)

    def cost(units: tuple[int, ...]) -> float:
        order = models[list(units)]
        out = passage(flow, work_times(flow, order)).leave[:, -1]
        share = np.array([2, 2, 3]) / 7
        got = np.cumsum(order[:, None] == np.arange(3), axis=0)
        level = ((got - np.arange(1, 8)[:, None] * share) ** 2).sum() / 7
        late = np.maximum(0.0, out - due[list(units)]).sum()
        return float(out[-1] + 5.0 * level + 0.5 * late)

    found = sequence(flow, models, due_s=due, wishes=wishes, seconds=60.0, steps=20_000)
    assert found.cost == pytest.approx(min(map(cost, itertools.permutations(range(7)))))
    assert found.cost == pytest.approx(cost(tuple(found.units.tolist())))


def test_an_order_for_throughput_comes_close_to_the_bound() -> None:
    rng = np.random.default_rng(1)
    flow = plain_flow(35.0 * rng.uniform(0.7, 1.3, (4, 15)), rng.integers(0, 3, 14))
    models = rng.integers(0, 4, 80)
    span = Wishes(level=0.0)
    plain = sequence(flow, levelled(models), wishes=span, seconds=0.0)
    found = sequence(flow, models, wishes=span, seconds=60.0, steps=6_000)
    bound = span_bound(flow, models)
    assert sorted(found.units.tolist()) == list(range(80))
    assert np.array_equal(models[found.units], found.models)
    assert bound <= found.span_s < bound + 0.5 * (plain.span_s - bound)
    again = sequence(flow, models, wishes=span, seconds=60.0, steps=6_000)
    assert np.array_equal(again.models, found.models)


def test_days_with_stops_decide_between_the_orders() -> None:
    rng = np.random.default_rng(3)
    flow = replace(line(8), cycle_s=30.0 * rng.uniform(0.7, 1.3, (3, 8)))
    models = np.sort(rng.integers(0, 3, 40))
    days = [np.random.default_rng([1, day]) for day in range(6)]
    found = sequence(flow, models, wishes=Wishes(level=0.0), days=6, seconds=60.0, steps=400)

    def span(order: np.ndarray) -> float:
        runs = (passage(flow, work_times(flow, order, copy.deepcopy(day))) for day in days)
        return float(np.mean([run.leave[-1, -1] for run in runs]))

    assert span(found.models) <= min(span(models), span(levelled(models))) + 1e-6


def test_wrong_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="places must have 2 entries"):
        plain_flow(np.ones((1, 3)), np.array([1]))
    with pytest.raises(ValueError, match="rows of cycle_s, 0 to 0"):
        sequence(plain_flow(np.ones((1, 2)), np.array([1])), np.array([0, 1]))
