"""Local search on lists of priorities, for problems with limits.

A move puts a group of operations elsewhere in the list, an operation on another machine or into
another load of a batch machine, or holds one back until power is cheaper; the list is then placed
anew as a whole, so that every plan that is looked at keeps all limits. Slower than moves on
sequences, whose effect is propagated, by as much as a plan is longer than what a move changes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.limit_rows import Rows, power_prices, rows_of
from workshop_brain.schedule.moves import draw
from workshop_brain.schedule.objective import Weights, cost_columns
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.serial import (
    FITS,
    TABLE_FULL,
    Placed,
    as_plan,
    lay,
    place_all,
    table_room,
)
from workshop_brain.schedule.structure import FAR, Arrays, Problem

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LATE_SHARE = 70
"""Percent of moves that start from the chain behind a late job."""
REACH = 8
"""Share of the list (one over it) across which a group is moved."""


class Prices(NamedTuple):
    """What a plan is charged for; the columns are those of ``cost_columns``, shape (n_ops,).

    Attributes
    ----------
    reference_machine, reference_start
        The plan in force; -1 = the operation is new.
    tardiness, setup, energy, last
        Weights of tardiness, changeovers, power and of the last finish.
    """

    flow: Floats
    shift: Floats
    move: Floats
    reference_machine: Ints
    reference_start: Ints
    tardiness: float
    setup: float
    energy: float
    last: float


class Searcher(NamedTuple):
    """One searcher's list and its best; ``cost`` = (now, best), ``tally`` = moves tried."""

    wish: Ints
    machine: Ints
    hold_back: Ints
    mate: Ints
    best_wish: Ints
    best_machine: Ints
    best_hold_back: Ints
    best_mate: Ints
    cost: Floats
    rng: NDArray[np.uint64]
    tally: Ints


def prices_of(problem: Problem, previous: Plan | None, weights: Weights) -> Prices:
    """The prices that ``objective`` puts on plans of a problem."""
    flow, shift, move = cost_columns(problem, previous, weights)
    none = np.full(problem.n_ops, -1, np.int64)
    is_path = problem.target == "makespan"
    return Prices(
        flow=flow,
        shift=shift,
        move=move,
        reference_machine=none if previous is None else previous.machine,
        reference_start=none if previous is None else previous.start,
        tardiness=0.0 if is_path else float(weights.tardiness),
        setup=float(weights.setup),
        energy=float(weights.energy),
        last=1.0 if is_path else 0.0,
    )


@kernel
def _cost(
    a: Arrays, b: Rows, price: Prices, machine: Ints, start: Ints, end: Ints, change: Ints
) -> float:
    """The objective of a plan."""
    total = price.energy * power_prices(a, b, machine, start, end).sum()
    last = a.now
    for o in range(len(machine)):
        if machine[o] < 0:
            continue
        last = max(last, end[o] + a.op_tail[o])
        total += price.flow[o] * (end[o] - a.now)
        if a.op_status[o] != 0:
            continue
        total += price.setup * change[o]
        if price.reference_machine[o] >= 0:
            if machine[o] != price.reference_machine[o]:
                total += price.move[o]
            total += price.shift[o] * abs(start[o] - max(price.reference_start[o], a.now))
    for j in range(len(a.job_due)):
        done = -FAR
        for k in range(a.job_sink_ptr[j], a.job_sink_ptr[j + 1]):
            o = a.job_sink_op[k]
            if machine[o] >= 0:
                done = max(done, end[o] + a.op_tail[o])
        total += price.tardiness * a.job_weight[j] * max(0, done - a.job_due[j])
    return float(total + price.last * (last - a.now))


@kernel
def _pick(
    a: Arrays, machine: Ints, start: Ints, end: Ints, before: Ints, rng: NDArray[np.uint64]
) -> int:
    """An operation to move: mostly one on the chain behind a late job; -1: none found."""
    if draw(rng, 100) < LATE_SHARE:
        for _ in range(8):
            j = draw(rng, len(a.job_due))
            o, done = -1, -FAR
            for k in range(a.job_sink_ptr[j], a.job_sink_ptr[j + 1]):
                x = a.job_sink_op[k]
                if machine[x] >= 0 and end[x] + a.op_tail[x] > done:
                    o, done = x, end[x] + a.op_tail[x]
            if done <= a.job_due[j] or a.job_weight[j] == 0:
                continue
            chosen, seen = -1, 0
            while o >= 0 and a.op_status[o] == 0 and seen < 200:
                seen += 1
                if draw(rng, seen) == 0:
                    chosen = o
                following, latest = before[o], -FAR
                if following >= 0:
                    latest = end[following]
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p = a.pred_op[k]
                    if machine[p] >= 0 and end[p] + a.pred_lag[k] > latest:
                        following, latest = p, end[p] + a.pred_lag[k]
                o = following
            if chosen >= 0:
                return chosen
    o = draw(rng, len(machine))
    return o if a.op_status[o] == 0 and machine[o] >= 0 else -1


@kernel
def _other_load(a: Arrays, b: Rows, now: Placed, o: int, rng: NDArray[np.uint64]) -> int:
    """An operation of another load that an operation might run with; -1: none found, or alone."""
    if draw(rng, 4) == 0:
        return -1
    for _ in range(16):
        q = draw(rng, len(now.machine))
        m = now.machine[q]
        if m < 0 or b.load[m] == 0 or a.op_status[q] != 0 or a.op_family[q] != a.op_family[o]:
            continue
        if m == now.machine[o] and now.start[q] == now.start[o]:
            continue
        for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
            if a.alt_machine[k] == m:
                return q
    return -1


@kernel
def _leave_ring(mate: Ints, o: int) -> None:
    """Take an operation out of its ring; one that is left alone is in none."""
    if mate[o] < 0:
        return
    x = o
    while mate[x] != o:
        x = mate[x]
    mate[x] = mate[o] if mate[o] != x else -1
    mate[o] = -1


@kernel
def _join_ring(mate: Ints, o: int, q: int) -> None:
    """Put an operation that is in no ring into that of another."""
    mate[o] = mate[q] if mate[q] >= 0 else q
    mate[q] = o


@kernel
def _after_the_last(b: Rows, mate: Ints, wish: Ints, o: int) -> None:
    """Put a whole ring where its last one stands in the list: by then all of it can be placed."""
    last, x = wish[b.group[o]], mate[o]
    while x != o:
        last = max(last, wish[b.group[x]])
        x = mate[x]
    wish[b.group[o]] = last
    x = mate[o]
    while x != o:
        wish[b.group[x]] = last
        x = mate[x]


@kernel
def search_lists(
    a: Arrays, b: Rows, price: Prices, t: Searcher, moves: int, hot: float, cold: float, room: int
) -> int:
    """Try moves on a list, from hot to cold; FITS, or TABLE_FULL when the room was too small."""
    rng = t.rng
    now = place_all(a, b, t.wish, t.machine, t.hold_back, t.mate, False, False, room)
    if now.code != FITS:
        return now.code
    groups, steps = len(t.wish), len(b.tariff_at)
    old_mate, old_wishes = t.mate.copy(), t.wish.copy()
    for step in range(moves):
        heat = hot + (cold - hot) * step / moves
        limit = heat * draw(rng, 1 << 20) / (1 << 20)
        o = _pick(a, now.machine, now.start, now.end, now.before, rng)
        if o < 0:
            continue
        g = b.group[o]
        old_wish, old_machine, old_hold = t.wish[g], t.machine[o], t.hold_back[o]
        is_load = b.load[now.machine[o]] > 0
        if is_load:
            old_mate[:], old_wishes[:] = t.mate, t.wish
        options = a.alt_ptr[o + 1] - a.alt_ptr[o]
        kind = draw(rng, 100)
        is_paid = steps > 0 and b.power[now.machine[o]] > 0.0
        if is_load and kind >= 70:
            q = _other_load(a, b, now, o, rng)
            if q < 0 and t.mate[o] < 0:
                continue
            _leave_ring(t.mate, o)
            if q >= 0:
                t.machine[o] = now.machine[q]
                _join_ring(t.mate, o, q)
                _after_the_last(b, t.mate, t.wish, o)
        elif is_paid and kind < 30:
            if old_hold > -FAR and draw(rng, 2) == 0:
                t.hold_back[o] = -FAR
            else:
                k = 0
                while k < steps and b.tariff_at[k] <= now.start[o]:
                    k += 1
                k += draw(rng, 3) - 1
                if not 0 <= k < steps:
                    continue
                t.hold_back[o] = b.tariff_at[k]
        elif options > 1 and kind < 65:
            t.machine[o] = a.alt_machine[a.alt_ptr[o] + draw(rng, options)]
            if t.machine[o] == old_machine:
                continue
            if draw(rng, 2) == 0:
                t.wish[g] += 2 * (draw(rng, 9) - 4) - 1
        else:
            by = 1 + draw(rng, max(2, groups // REACH))
            if draw(rng, 3) == 0:
                by = 1 + draw(rng, 3)
            t.wish[g] += 2 * by + 1 if draw(rng, 3) == 0 else -2 * by - 1
        found = place_all(a, b, t.wish, t.machine, t.hold_back, t.mate, False, False, room)
        t.tally[0] += 1
        if found.code == TABLE_FULL:
            t.wish[g], t.machine[o], t.hold_back[o] = old_wish, old_machine, old_hold
            if is_load:
                t.mate[:], t.wish[:] = old_mate, old_wishes
            return TABLE_FULL
        is_taken = found.code == FITS
        value = 0.0
        if is_taken:
            value = _cost(a, b, price, found.machine, found.start, found.end, found.change)
            is_taken = value <= t.cost[0] + limit
        if not is_taken:
            t.wish[g], t.machine[o], t.hold_back[o] = old_wish, old_machine, old_hold
            if is_load:
                t.mate[:], t.wish[:] = old_mate, old_wishes
            continue
        now = found
        t.cost[0] = value
        t.wish[:] = 2 * found.turn
        if value < t.cost[1] - 1e-6:
            t.cost[1] = value
            t.best_wish[:], t.best_machine[:] = t.wish, t.machine
            t.best_hold_back[:], t.best_mate[:] = t.hold_back, t.mate
    return FITS


def lay_out(problem: Problem, plan: Plan, price: Prices, seed: int) -> tuple[Searcher, Plan]:
    """A searcher that begins with a feasible plan's list, and the plan that this list means."""
    a, b = problem.arrays, rows_of(problem)
    laid, missed = lay(problem, plan)
    if laid is None:  # its machines leave no way in this order; others may
        laid, missed = lay(problem, plan, True)
    if laid is None:
        raise InfeasibleError(
            f"operation {problem.op_ids[missed[-1].op]!r} does not fit into the list"
        )
    found, hold_back, mate = laid
    rng = np.array([(seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 or 1], np.uint64)
    for _ in range(16):
        draw(rng, 2)
    value = _cost(a, b, price, found.machine, found.start, found.end, found.change)
    wish = 2 * found.turn
    searcher = Searcher(
        wish=wish,
        machine=found.machine.copy(),
        hold_back=hold_back,
        mate=mate,
        best_wish=wish.copy(),
        best_machine=found.machine.copy(),
        best_hold_back=hold_back.copy(),
        best_mate=mate.copy(),
        cost=np.array([value, value]),
        rng=rng,
        tally=np.zeros(1, np.int64),
    )
    return searcher, as_plan(found)


def run(problem: Problem, price: Prices, t: Searcher, moves: int, hot: float, cold: float) -> None:
    """Moves of one searcher; tables grow when they must."""
    a, b = problem.arrays, rows_of(problem)
    room, end = table_room(problem), int(t.tally[0]) + moves
    while (
        search_lists(a, b, price, t, max(1, end - int(t.tally[0])), hot, cold, room) == TABLE_FULL
    ):
        room *= 2


def best_plan(problem: Problem, t: Searcher) -> Plan:
    """The best plan of a searcher."""
    a, b = problem.arrays, rows_of(problem)
    room = table_room(problem)
    while True:
        found = place_all(
            a, b, t.best_wish, t.best_machine, t.best_hold_back, t.best_mate, False, False, room
        )
        if found.code == FITS:
            return as_plan(found)
        if found.code != TABLE_FULL:
            raise InfeasibleError(f"operation {problem.op_ids[found.op]!r} left its place")
        room *= 2
