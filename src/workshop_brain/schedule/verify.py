"""Independent checker of plans: plain numpy, no code shared with the constructors.

It trusts nothing that the planner computed: closed time is walked anew from calendar and downs,
sequences are taken from the times alone. O(n log n).
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.checking import (
    Open,
    Violation,
    bad,
    clocks_of,
    families,
    in_open,
    in_time,
    joined_of,
    open_ticks,
)
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.verify_limits import check_limits

Ints = NDArray[np.int64]


def verify(problem: Problem, plan: Plan, limit: int = 100) -> list[Violation]:
    """Everything that is wrong with a plan (at most ``limit`` entries); empty = feasible."""
    found: list[Violation] = []
    placed = _check_placed(problem, plan, found)
    clocks = clocks_of(problem)
    _check_fixed(problem, plan, placed, found)
    _check_times(problem, plan, placed, clocks, found)
    _check_precedence(problem, plan, found)
    _check_machines(problem, plan, placed, clocks, found)
    _check_capacity(problem, found)
    if problem.limits is not None:
        check_limits(problem, problem.limits, plan, placed, clocks, found)
    return found[:limit]


def verify_part(problem: Problem, plan: Plan, left_out: Collection[str]) -> list[Violation]:
    """As ``verify``, for a plan that says which jobs it leaves out.

    What it does not hold of these counts as cancelled; nothing may stand in the plan that needs
    its pieces.
    """
    of_job = np.array([id in left_out for id in problem.job_ids], bool)
    gone = of_job[problem.op_job] & (plan.machine < 0)
    found = []
    for o in np.flatnonzero((plan.machine >= 0) & (problem.op_status == OpStatus.FREE)).tolist():
        for p, _ in problem.preds(o):
            if gone[p]:
                found.append(bad("precedence", problem, [o, p], "needs what is left out"))
    status = np.where(gone, int(OpStatus.CANCELLED), problem.op_status)
    return found + verify(problem.with_(op_status=status), plan)


def overtaken(problem: Problem, plan: Plan) -> list[Violation]:
    """Jobs that pass another between two machines, where all must keep one order (flow lines)."""
    found, order = [], None
    for m in range(problem.n_machines):
        row = plan.sequence(m)
        jobs = problem.op_job[row].tolist()
        if order is None:
            order = {j: k for k, j in enumerate(jobs)}
        places = [order.get(j, k) for k, j in enumerate(jobs)]
        for k in range(1, len(row)):
            if places[k] < places[k - 1]:
                found.append(bad("order", problem, [row[k], row[k - 1]], "overtakes"))
                break
    return found


def _check_placed(problem: Problem, plan: Plan, found: list[Violation]) -> Ints:
    """Operations that have a machine of the problem."""
    cancelled = problem.op_status == OpStatus.CANCELLED
    for kind, which, why in (
        ("unplanned", (plan.machine < 0) & ~cancelled, "is not in the plan"),
        ("cancelled", (plan.machine >= 0) & cancelled, "is cancelled but planned"),
        ("machine", plan.machine >= problem.n_machines, "stands on a machine that is not there"),
    ):
        found += [bad(kind, problem, [o], why) for o in np.flatnonzero(which).tolist()]
    inside = (plan.machine >= 0) & (plan.machine < problem.n_machines)
    return np.flatnonzero(inside & ~cancelled)


def _check_fixed(problem: Problem, plan: Plan, placed: Ints, found: list[Violation]) -> None:
    fixed = placed[problem.op_status[placed] != OpStatus.FREE]
    moved = (plan.machine[fixed] != problem.op_fixed_machine[fixed]) | (
        plan.start[fixed] != problem.op_fixed_start[fixed]
    )
    for o in fixed[moved].tolist():
        was = f"machine {problem.op_fixed_machine[o]} at {problem.op_fixed_start[o]}"
        why = f"is fixed to {was}, planned on {plan.machine[o]} at {plan.start[o]}"
        found.append(bad("locked", problem, [o], why))


def _check_times(
    problem: Problem,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, Open],
    found: list[Violation],
) -> None:
    machine, start, end = plan.machine[placed], plan.start[placed], plan.end[placed]
    free = problem.op_status[placed] == OpStatus.FREE
    row = np.repeat(np.arange(problem.n_ops), np.diff(problem.alt_ptr))
    match = plan.machine[row] == problem.alt_machine
    needed = np.full(problem.n_ops, -1, np.int64)
    needed[row[match]] = problem.alt_duration[match]
    work = np.where(free, needed[placed], problem.op_fixed_work[placed])
    begin = np.where(free, start, problem.op_fixed_from[placed])
    worked = open_ticks(clocks, machine, begin, end)
    earliest = np.maximum(problem.op_release[placed], problem.now)
    starts_open = in_open(clocks, machine, start) | (work == 0)
    ends_open = in_open(clocks, machine, end - 1) | (worked <= 0) | (end == begin)
    whole = problem.machine_resumable[machine] == 0
    barred = free & (work < 0)
    wrong = ~barred & ((worked != work) | ~ends_open | (free & ~starts_open))
    broken = free & ~barred & ~wrong & whole & (end - start != work)
    for k in np.flatnonzero(barred).tolist():
        name = problem.machine_ids[machine[k]]
        found.append(bad("machine", problem, [placed[k]], f"may not run on {name}"))
    for k in np.flatnonzero(free & (start < earliest)).tolist():
        why = f"starts at {start[k]}, earliest is {earliest[k]}"
        found.append(bad("release", problem, [placed[k]], why))
    for k in np.flatnonzero(wrong).tolist():
        why = f"works {worked[k]} open ticks from {begin[k]} to {end[k]}, needs {work[k]}"
        found.append(bad("duration", problem, [placed[k]], why))
    for k in np.flatnonzero(broken).tolist():
        why = "is interrupted by closed time, which its machine cannot be"
        found.append(bad("duration", problem, [placed[k]], why))


def _check_precedence(problem: Problem, plan: Plan, found: list[Violation]) -> None:
    after = np.repeat(np.arange(problem.n_ops), np.diff(problem.pred_ptr))
    before = problem.pred_op
    both = (plan.machine[after] >= 0) & (plan.machine[before] >= 0)
    both &= problem.op_status[after] == OpStatus.FREE
    early = both & (plan.start[after] < plan.end[before] + problem.pred_lag)
    for k in np.flatnonzero(early).tolist():
        o, p = int(after[k]), int(before[k])
        why = f"starts at {plan.start[o]}, before {plan.end[p]} + {problem.pred_lag[k]}"
        found.append(bad("precedence", problem, [o, p], why))


def _check_machines(
    problem: Problem,
    plan: Plan,
    placed: Ints,
    clocks: dict[int, Open],
    found: list[Violation],
) -> None:
    """Neighbours in time on each machine: no overlap, and open time enough for changeovers."""
    order = in_time(problem, plan, placed)
    machine, start, end = plan.machine[order], plan.start[order], plan.end[order]
    is_free = problem.op_status[order] == OpStatus.FREE
    first = np.ones(len(order), bool)
    first[1:] = machine[1:] != machine[:-1]
    free = np.where(first, problem.machine_available[machine], np.roll(end, 1))
    family, after = families(problem, order, machine, first)
    setup = problem.setup[
        problem.machine_work_center[machine], np.maximum(family, 0), np.maximum(after, 0)
    ]
    setup = np.where((family >= 0) & (problem.op_family[order] >= 0), setup, 0)
    room = open_ticks(clocks, machine, free, np.maximum(free, start))
    either_free = is_free | (~first & np.roll(is_free, 1))
    joined = joined_of(problem, plan, order)
    overlap = (start < free) & either_free & ~joined
    short = ~overlap & is_free & (room < setup) & ~joined
    batches = {m for m, _ in (problem.limits or Limits()).batches}
    for k in np.flatnonzero(overlap | short).tolist():
        pair = [order[k]] if first[k] else [order[k], order[k - 1]]
        name = problem.machine_ids[machine[k]]
        if overlap[k] and not first[k] and int(machine[k]) in batches:
            why = f"runs on {name} from {start[k]} to {end[k]}, the load there until {free[k]}"
            found.append(bad("together", problem, pair, why))
        elif overlap[k]:
            why = f"starts at {start[k]} on {name}, which is free at {free[k]}"
            found.append(bad("overlap", problem, pair, why))
        else:
            why = f"has {room[k]} open ticks for a changeover of {setup[k]} on {name}"
            found.append(bad("setup", problem, pair, why))


def _check_capacity(problem: Problem, found: list[Violation]) -> None:
    over = (problem.op_capacity > 0) & (problem.op_quantity > problem.op_capacity)
    for o in np.flatnonzero(over).tolist():
        why = f"holds {problem.op_quantity[o]} pieces, capacity is {problem.op_capacity[o]}"
        found.append(bad("capacity", problem, [o], why))
