"""Order of models into a mixed line: the bottleneck never starved or blocked, levelled, in time.

The line is simulated exactly (``flow``) for every order that is tried. Units of one model come in
the order of their due dates, so an order is a row of models.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.schedule.balance.draws import State, chance, pick, state
from workshop_brain.schedule.balance.flow import (
    Flow,
    Loops,
    no_limit,
    pass_line,
    passage,
    work_times,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NO_DUE_S = 1e15
"""Due instant of a unit that has none."""
ENDLESS = 1 << 40
_STEPS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What an order costs, in seconds.

    Attributes
    ----------
    span
        A second until the last unit has left: what starves and blocks the bottleneck.
    level
        Mean squared distance, in units, between what each model has got and its share so far,
        counted in mean times of the bottleneck. Some of it makes an order robust: what is best
        without stops alone can be worse than a level order with them.
    tardiness
        A second that a unit leaves after its due instant.
    """

    span: float = 1.0
    level: float = 0.5
    tardiness: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """An order of units and what it gives.

    Attributes
    ----------
    models
        Model of each unit, first to last.
    units
        Position in the input of each unit.
    span_bound_s
        No order is through sooner.
    starved_s, blocked_s
        Waiting of the bottleneck for units and for room behind it.
    """

    models: Ints
    units: Ints
    cost: float
    span_s: float
    span_bound_s: float
    level: float
    tardiness_s: float
    bottleneck: int
    starved_s: float
    blocked_s: float


def sequence(
    flow: Flow,
    models: Ints,
    *,
    due_s: Floats | None = None,
    wishes: Wishes | None = None,
    starts: Sequence[Ints] | None = None,
    days: int = 0,
    seconds: float = 2.0,
    steps: int = ENDLESS,
    seed: int = 1,
) -> Sequenced:
    """The best order found for units of these models.

    Parameters
    ----------
    models
        Shape (n_units): row of ``flow.cycle_s`` of each unit.
    due_s
        Shape (n_units): seconds after the first may enter; None: no due instants.
    starts
        Orders to begin with; None: by due date, levelled, and as given.
    days
        Simulated days with the line's stops on which the order found is compared with the
        beginnings; the best on the average is taken. 0: the line without stops decides.
    steps
        Orders to try: with the same seed the same order comes out, whatever the clock says, as
        long as ``seconds`` are enough.
    """
    models = np.asarray(models, np.int64)
    _check(flow, models, due_s)
    wanted = wishes or Wishes()
    pace_s = float(flow.slowness_s[models].mean(axis=0).max())
    wanted = replace(wanted, level=wanted.level * pace_s)
    due = np.full(len(models), NO_DUE_S) if due_s is None else np.asarray(due_s, np.float64)
    by_due = np.lexsort((due, models))
    if starts is None:
        starts = (models[np.argsort(due, kind="stable")], levelled(models), models)
    costs = [_evaluate(flow, order, due, by_due, wanted).cost for order in starts]
    order = starts[int(np.argmin(costs))].copy()
    if seconds > 0.0 and len(models) > 1:
        order = _anneal(flow, order, due[by_due], wanted, seconds, steps, seed)
    if days:
        orders = [order, *starts]
        with_stops = [_stopped_cost(flow, o, due, by_due, wanted, days, seed) for o in orders]
        order = orders[int(np.argmin(with_stops))]
    return _evaluate(flow, order, due, by_due, wanted)


def _stopped_cost(
    flow: Flow, order: Ints, due: Floats, by_due: Ints, wishes: Wishes, days: int, seed: int
) -> float:
    """Mean cost over days with stops, the same days for every order."""
    total = 0.0
    for day in range(days):
        times = work_times(flow, order, np.random.default_rng([seed, day]))
        total += _evaluate(flow, order, due, by_due, wishes, times).cost
    return total / days


def levelled(models: Ints) -> Ints:
    """Goal chasing: each place goes to the model furthest behind its share.

    >>> levelled(np.array([0, 0, 0, 0, 1, 1])).tolist()
    [0, 1, 0, 0, 1, 0]
    """
    count = np.bincount(models)
    given = np.zeros(len(count))
    out = np.empty_like(models)
    for k in range(len(models)):
        behind = (k + 1) * count / len(models) - given
        behind[given >= count] = -np.inf
        out[k] = int(behind.argmax())
        given[out[k]] += 1
    return out


def span_bound(flow: Flow, models: Ints) -> float:
    """Seconds until the last unit has left, at least: the busiest station, its way in and out."""
    times = flow.cycle_s[models]
    before = np.cumsum(times, axis=1) - times
    behind = times.sum(axis=1, keepdims=True) - before - times
    work = times.sum(axis=0) / flow.servers
    return float((before.min(axis=0) + work + behind.min(axis=0)).max())


def _check(flow: Flow, models: Ints, due_s: Floats | None) -> None:
    if len(models) == 0 or models.min() < 0 or models.max() >= len(flow.cycle_s):
        raise ValueError(f"models must be rows of cycle_s, 0 to {len(flow.cycle_s) - 1}")
    if due_s is not None and len(due_s) != len(models):
        raise ValueError(f"due_s must have {len(models)} entries, got {len(due_s)}")


def _evaluate(
    flow: Flow,
    order: Ints,
    due: Floats,
    by_due: Ints,
    wishes: Wishes,
    times: Floats | None = None,
) -> Sequenced:
    """All figures of an order; without ``times`` nothing stops."""
    turn = np.argsort(order, kind="stable")
    units = np.empty_like(by_due)
    units[turn] = by_due
    run = passage(flow, work_times(flow, order) if times is None else times)
    out = run.leave[:, -1]
    late = float(np.maximum(0.0, out - due[units]).sum())
    share = np.bincount(order) / len(order)
    got = np.cumsum(order[:, None] == np.arange(len(share)), axis=0)
    aim = np.arange(1, len(order) + 1)[:, None] * share
    level = float(((got - aim) ** 2).sum()) / len(order)
    at = flow.bottleneck(order)
    held = run.leave[:, at] - run.begin[:, at] - run.times[:, at]
    waits = run.begin[1:, at] - run.leave[:-1, at]
    span = float(out[-1])
    return Sequenced(
        models=order,
        units=units,
        cost=wishes.span * span + wishes.level * level + wishes.tardiness * late,
        span_s=span,
        span_bound_s=span_bound(flow, order),
        level=level,
        tardiness_s=late,
        bottleneck=at,
        starved_s=float(waits.clip(min=0).sum()),
        blocked_s=float(held.clip(min=0).sum()),
    )


def _anneal(
    flow: Flow, order: Ints, due: Floats, wishes: Wishes, seconds: float, steps: int, seed: int
) -> Ints:
    """Simulated annealing in slices until the time is over; the best order."""
    begin = time.perf_counter()
    draw = state(seed)
    first = np.searchsorted(np.sort(order), np.arange(len(flow.cycle_s))).astype(np.int64)
    weights = np.array([wishes.span, wishes.level, wishes.tardiness])
    best, now = order.copy(), order.copy()
    best_cost, done = np.inf, 0
    scale = 0.02 * float(flow.cycle_s.mean()) * max(wishes.span, wishes.tardiness, 1e-9)
    scale += 0.02 * wishes.level
    while done < steps:
        used = (time.perf_counter() - begin) / seconds
        part = done / steps if steps < ENDLESS else used
        if used >= 1.0:
            break
        slice_ = min(_STEPS, steps - done)
        found = try_orders(
            flow.cycle_s, flow.places, flow.servers, due, first, weights, now, best, best_cost,
            scale * (1.0 - part) ** 2 * 5.0, slice_, draw, no_limit(),
        )  # fmt: skip
        best_cost, done = float(found), done + slice_
    return best


@kernel
def _rearrange(row: Ints, a: int, b: int, is_swap: bool) -> None:
    """Change two places, or take what is at a and put it at b."""
    taken = row[a]
    if is_swap:
        row[a] = row[b]
    elif a < b:
        row[a:b] = row[a + 1 : b + 1].copy()
    else:
        row[b + 1 : a + 1] = row[b:a].copy()
    row[b] = taken


@kernel
def _cost(
    cycle: Floats, order: Ints, due: Floats, first: Ints, weights: Floats, out: Floats
) -> float:
    n, models = len(order), cycle.shape[0]
    got = np.zeros(models, np.int64)
    share = np.zeros(models)
    for k in range(n):
        share[order[k]] += 1.0 / n
    level, late = 0.0, 0.0
    for k in range(n):
        m = order[k]
        late += max(0.0, out[k] - due[first[m] + got[m]])
        got[m] += 1
        if weights[1] > 0.0:
            for q in range(models):
                level += (got[q] - (k + 1) * share[q]) ** 2
    return float(weights[0] * out[n - 1] + weights[1] * level / n + weights[2] * late)


@kernel
def try_orders(
    cycle: Floats,
    places: Ints,
    servers: Ints,
    due: Floats,
    first: Ints,
    weights: Floats,
    now: Ints,
    best: Ints,
    best_cost: float,
    heat: float,
    steps: int,
    draw: State,
    loops: Loops,
) -> float:
    """Anneal ``now`` for some steps at one temperature; ``best`` and its cost are kept.

    A step puts a unit elsewhere or changes two; only what comes behind is simulated anew.
    """
    n, stations = len(now), cycle.shape[1]
    times, begin = np.empty((n, stations)), np.empty((n, stations))
    leave, enter = np.empty((n, stations)), np.empty(n)
    kept, kept_enter = np.empty((n, stations)), np.empty(n)
    for k in range(n):
        times[k] = cycle[now[k]]
    pass_line(times, places, servers, loops, 0, enter, begin, leave)
    cost = _cost(cycle, now, due, first, weights, leave[:, stations - 1])
    if cost < best_cost:
        best_cost = cost
        best[:] = now
    for _ in range(steps):
        a, b = pick(draw, n), pick(draw, n)
        if now[a] == now[b]:
            continue
        low, high = min(a, b), max(a, b)
        is_swap = chance(draw) < 0.5
        _rearrange(now, a, b, is_swap)
        kept[low:] = leave[low:]
        kept_enter[low:] = enter[low:]
        for k in range(low, high + 1):
            times[k] = cycle[now[k]]
        pass_line(times, places, servers, loops, low, enter, begin, leave)
        new = _cost(cycle, now, due, first, weights, leave[:, stations - 1])
        if new <= cost or chance(draw) < np.exp((cost - new) / (heat + 1e-12)):
            cost = new
            if cost < best_cost - 1e-9:
                best_cost = cost
                best[:] = now
            continue
        _rearrange(now, b, a, is_swap)
        leave[low:] = kept[low:]
        enter[low:] = kept_enter[low:]
        for k in range(low, high + 1):
            times[k] = cycle[now[k]]
    return best_cost
