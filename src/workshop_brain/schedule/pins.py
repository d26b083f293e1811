"""Pins: what a planner wishes of single operations, as part of the problem.

A pin keeps an operation on one machine and, with a start, between that start and ``WITHIN_S``
later. Machine and earliest start are columns of the problem that the checker knows; the latest
start is a due date of its own that pulls the search, and :func:`unmet` judges it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Kpis, Weights, completion, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import place
from workshop_brain.schedule.search import polish
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.verify import verify

Ints = NDArray[np.int64]
WITHIN_S = 30 * 60
"""How much later than pinned an operation may start; sequences do not fit to the second."""
PIN_MOVES = 2000
"""Moves with which the rest is searched around a pin, and the plan without it just as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A wish. ``start_ns`` None: at any time on that machine."""

    op: str
    machine: str
    start_ns: int | None = None
    by: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For records and JSON."""
        return {"op": self.op, "machine": self.machine, "start_ns": self.start_ns, "by": self.by}


def with_pins(problem: Problem, pins: Sequence[Pin]) -> Problem:
    """The problem under pins; those that have begun, are over or cannot run there are left out."""
    for pin in pins:
        if pin.op not in problem.op_ids or pin.machine not in problem.machine_ids:
            continue
        o, m = problem.op(pin.op), problem.machine(pin.machine)
        if problem.op_status[o] == OpStatus.FREE and m in problem.alternatives(o):
            problem = _pinned(problem, pin, o, m)
    return problem


def _pinned(problem: Problem, pin: Pin, o: int, m: int) -> Problem:
    low, high = int(problem.alt_ptr[o]), int(problem.alt_ptr[o + 1])
    keep = np.ones(len(problem.alt_machine), bool)
    keep[low:high] = problem.alt_machine[low:high] == m
    ptr = problem.alt_ptr.copy()
    ptr[o + 1 :] -= high - low - 1
    duration = problem.alternatives(o)[m]
    changed = problem.with_(
        alt_ptr=ptr,
        alt_machine=np.ascontiguousarray(problem.alt_machine[keep]),
        alt_duration=np.ascontiguousarray(problem.alt_duration[keep]),
    )
    if pin.start_ns is None:
        return changed
    start = max(problem.ticks(pin.start_ns), problem.now)
    release = changed.op_release.copy()
    release[o] = max(int(release[o]), start)
    at, job = int(problem.sink_ptr[o + 1]), problem.n_jobs
    sink_ptr = problem.sink_ptr.copy()
    sink_ptr[o + 1 :] += 1
    return changed.with_(
        op_release=release,
        job_ids=(*problem.job_ids, f"pin:{pin.op}"),
        job_release=np.append(problem.job_release, start),
        job_due=np.append(problem.job_due, start + duration + int(problem.op_tail[o]) + WITHIN_S),
        job_weight=np.append(problem.job_weight, max(1, int(problem.job_weight.max(initial=1)))),
        job_sink_ptr=np.append(problem.job_sink_ptr, problem.job_sink_ptr[-1] + 1),
        job_sink_op=np.append(problem.job_sink_op, o),
        sink_ptr=sink_ptr,
        sink_job=np.insert(problem.sink_job, at, job),
    )


def unmet(problem: Problem, plan: Plan, pins: Sequence[Pin]) -> tuple[Pin, ...]:
    """Pins that a plan does not keep; operations that the problem does not know are over."""
    out = []
    for pin in pins:
        if pin.op not in problem.op_ids:
            continue
        o = problem.op(pin.op)
        if problem.op_status[o] != OpStatus.FREE or plan.machine[o] < 0:
            continue
        start = int(plan.start[o])
        is_there = problem.machine_ids[plan.machine[o]] == pin.machine
        if pin.start_ns is not None:
            wanted = max(problem.ticks(pin.start_ns), problem.now)
            is_there = is_there and wanted <= start <= wanted + WITHIN_S
        if not is_there:
            out.append(pin)
    return tuple(out)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pinned:
    """What keeping pins comes to.

    Attributes
    ----------
    problem, base
        The problem with the pins in it, and without the newest.
    plan, kept
        The best plan found that keeps them; the plan without the newest one, searched as long.
    parts
        Cost of the pin by parts of the objective, weighted seconds; their sum is ``total``.
    later
        ``(order, seconds)`` of the orders that finish later, most first.
    """

    problem: Problem
    base: Problem
    plan: Plan
    kept: Plan
    before: Kpis
    after: Kpis
    parts: dict[str, float]
    later: tuple[tuple[str, int], ...]

    @property
    def total(self) -> float:
        """Difference of the objective; below 0 the pin makes the plan better."""
        return self.after.objective - self.before.objective


def keep_pins(
    problem: Problem,
    plan: Plan,
    previous: Plan,
    pins: Sequence[Pin],
    *,
    weights: Weights = PLANT_WEIGHTS,
    moves: int = PIN_MOVES,
) -> Pinned | None:
    """The best plan found that keeps all pins; None when none was found.

    Parameters
    ----------
    problem, plan
        Without these pins, the plan timed on it.
    previous
        The plan in force on ``problem``, from which moves are counted.
    """
    pinned = with_pins(problem, pins)
    ops = np.array([pinned.op(p.op) for p in pins if p.op in pinned.op_ids], np.int64)
    ops = ops[pinned.op_status[ops] == OpStatus.FREE]
    best: tuple[float, Plan] | None = None
    for way in range(3):
        if way == 2 and (best is not None or not len(ops)):
            break
        try:
            trial = right_shift(pinned, _trial(pinned, plan, ops, pins, way))
        except InfeasibleError:
            continue
        for found in (polish(pinned, trial, previous, weights, moves, 0), trial):
            if unmet(pinned, found, pins) or verify(pinned, found, 1):
                continue
            value = objective(problem, found, previous, weights).objective
            if best is None or value < best[0]:
                best = (value, found)
            break
    if best is None:
        return None
    kept = polish(problem, right_shift(problem, plan), previous, weights, moves, 0)
    before, after = (objective(problem, p, previous, weights) for p in (kept, best[1]))
    return Pinned(
        problem=pinned,
        base=problem,
        plan=best[1],
        kept=kept,
        before=before,
        after=after,
        parts=_parts(before, after, weights),
        later=later_orders(problem, kept, best[1]),
    )


def _trial(problem: Problem, plan: Plan, ops: Ints, pins: Sequence[Pin], way: int) -> Plan:
    """Sequences to begin with: where they finish first, at their start, all that they need first.

    The last moves most and is asked for only when the others fail.
    """
    if way == 0:
        return place(problem, plan, ops)
    trial = _squeezed(problem, plan, pins)
    if way == 2:
        for o in ops.tolist():
            trial = needs_first(problem, trial, o, without=True)
    return trial


def needs_first(problem: Problem, plan: Plan, o: int, *, without: bool = False) -> Plan:
    """Sequence keys in which all that an operation needs goes first on its machines, and the
    operation itself too unless ``without``; time it with ``right_shift``."""
    needed, stack = {o}, [o]
    while stack:
        for p, _ in problem.preds(stack.pop()):
            if p not in needed and plan.machine[p] >= 0:
                needed.add(p)
                stack.append(p)
    start = plan.start.copy()
    order = [x for x in problem.op_order.tolist() if x in needed and not (without and x == o)]
    start[order] = -FAR // 2 + np.arange(len(order))
    return replace(plan, start=start)


def _squeezed(problem: Problem, plan: Plan, pins: Sequence[Pin]) -> Plan:
    """Sequence keys in which pinned operations come before what works, or is changed over from,
    at their start."""
    machine, start = plan.machine.copy(), plan.start.copy()
    for pin in pins:
        if pin.op not in problem.op_ids:
            continue
        o, m = problem.op(pin.op), problem.machine(pin.machine)
        if problem.op_status[o] != OpStatus.FREE:
            continue
        wanted = int(plan.start[o]) if pin.start_ns is None else problem.ticks(pin.start_ns)
        change = problem.setup[
            problem.machine_work_center[m], problem.op_family, problem.op_family[o]
        ]
        busy = (machine == m) & (plan.start <= wanted) & (plan.end + change > wanted)
        busy &= problem.op_status == OpStatus.FREE
        busy[o] = False
        machine[o], start[o] = m, min([wanted, *(plan.start[busy] - 1).tolist()])
    return replace(plan, machine=machine, start=start)


def _parts(before: Kpis, after: Kpis, weights: Weights) -> dict[str, float]:
    """Difference of the objective by its parts; what is not named is flow and stability."""
    tardiness = weights.tardiness * (after.weighted_tardiness_s - before.weighted_tardiness_s)
    setup = weights.setup * (after.setup_s - before.setup_s)
    rest = after.objective - before.objective - tardiness - setup
    return {"tardiness": tardiness, "setup": setup, "flow_and_stability": rest}


def later_orders(problem: Problem, old: Plan, new: Plan) -> tuple[tuple[str, int], ...]:
    """Orders that finish later in the new plan, by seconds, most first."""
    was, now = completion(problem, old), completion(problem, new)
    by = [
        (problem.job_ids[j], int(now[j] - was[j]))
        for j in np.flatnonzero((now > was) & (was > -FAR)).tolist()
        if not problem.job_ids[j].startswith("pin:")
    ]
    return tuple(sorted(by, key=lambda row: (-row[1], row[0])))


def conflict(
    problem: Problem, plan: Plan, previous: Plan, pins: Sequence[Pin], newest: Pin
) -> tuple[Pin, ...]:
    """A smallest set of the pins, with the newest one, that no plan found keeps together.

    By deletion: a pin without which the rest still cannot be kept is not part of the reason.
    """
    left = [pin for pin in pins if pin.op != newest.op]
    for pin in tuple(left):
        rest = [p for p in left if p is not pin]
        if keep_pins(problem, plan, previous, [*rest, newest], moves=0) is None:
            left = rest
    return (*left, newest)
