"""What a plan is worth: the KPI vector and the one place where its weights stand.

objective = tardiness + end + setup + flow + energy + moves + shift, all in weighted seconds:
tardiness   sum over jobs of weight x max(0, completion - due)
end         sum over jobs of max(0, completion - ``end_by``) x ``end``
setup       seconds of changeover x ``setup``
energy      what the power of all work costs by the tariff x ``energy``
flow        throughput at the bottleneck: mean finish of its work x total job weight x ``flow``
moves       operations on another machine than before x nearness x mean duration x ``move``;
            here nearness does not fall below ``far``, so that no far operation moves for nothing
shift       seconds by which starts moved x nearness x ``shift``
Nearness falls from 1 (starts now) to 0 (starts ``near_s`` from now or later).
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.limit_rows import power_prices, rows_of
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.sequence import changeovers
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import sequences

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of the objective, shown to the user; see the module text for their units.

    Attributes
    ----------
    end, end_by
        Price of a job that ends after the tick ``end_by``, whatever its due date: keeps the whole
        plan from ending late for the sake of a few due dates.
    changes
        Largest share of the near operations (to start within ``near_s``) that a search puts on
        another machine; a repair keeps to it where a candidate does. 1: as prices say.
    calm
        Share of the objective by which a new plan from scratch must beat the best one that keeps
        the sequences (right-shift, re-route) before it is preferred.
    steady
        Share by which a plan from scratch that changes machines in the near window must beat the
        best one that does not.
    worth
        Share of the objective that changed sequences must gain in a repair; below it the plan
        is only timed anew.
    """

    tardiness: float = 1.0
    setup: float = 0.1
    flow: float = 0.02
    energy: float = 1.0
    move: float = 0.5
    shift: float = 0.05
    near_s: int = 8 * 3600
    changes: float = 1.0
    far: float = 0.05
    end: float = 0.0
    end_by: float = float(FAR)
    calm: float = 0.05
    steady: float = 0.05
    worth: float = 0.001


PLANT_WEIGHTS = Weights()
DOCUMENT_WEIGHTS = Weights(
    setup=0.0, flow=0.0, move=0.0, shift=0.0, far=0.0, calm=0.0, steady=0.0, worth=0.0
)
"""For benchmark documents, whose objective is weighted tardiness alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpis:
    """The KPI vector of one plan; the changes are against the plan before it.

    Attributes
    ----------
    moves
        Operations that change machine. ``near_moves``: those of them that start within ``near_s``.
    shift_s
        Sum over operations of nearness x change of start, seconds.
    throughput_per_h
        Pieces of the bottleneck work center over the hours until its last finish.
    energy_cost
        Price of the power of all work that has not started, by the tariff.
    """

    objective: float
    weighted_tardiness_s: float
    late_orders: int
    makespan_s: int
    setup_s: int
    setups: int
    moves: int
    near_moves: int
    shift_s: float
    throughput_per_h: float
    energy_cost: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for records and screens."""
        return {key: float(value) for key, value in asdict(self).items()}


def completion(problem: Problem, plan: Plan) -> NDArray[np.int64]:
    """Completion tick of each job, shape (n_jobs,); -FAR where nothing of it is planned."""
    done = np.full(problem.n_jobs, -FAR, np.int64)
    ops = np.repeat(np.arange(problem.n_ops), np.diff(problem.sink_ptr))
    placed = plan.machine[ops] >= 0
    finish = (plan.end + problem.op_tail)[ops]
    np.maximum.at(done, problem.sink_job[placed], finish[placed])
    return done


def bottleneck(problem: Problem) -> int:
    """Work center with the most open work per machine; -1 when there are none."""
    centers = problem.op_work_center
    open_ = (problem.op_status == OpStatus.FREE) & (centers >= 0)
    if not open_.any():
        return -1
    shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
    load = np.bincount(centers[open_], weights=shortest[open_])
    size = np.bincount(problem.machine_work_center, minlength=len(load))[: len(load)]
    return int(np.argmax(load / np.maximum(1, size)))


def setups_of(problem: Problem, plan: Plan) -> NDArray[np.int64]:
    """Changeover ticks before each FREE operation in its sequence, shape (n_ops,)."""
    ptr, ops = sequences(problem, plan)
    family, neutral = problem.op_family, problem.op_family < 0
    if neutral.any():
        family = _families_kept(problem, ptr, ops)
    found = changeovers(
        ptr,
        ops,
        problem.op_status,
        family,
        problem.machine_family,
        problem.machine_work_center,
        problem.setup,
    )
    found[neutral] = 0
    return found


def _families_kept(problem: Problem, ptr: Ints, ops: Ints) -> Ints:
    """Family set up after each operation; what has none of its own keeps the one before it."""
    family = problem.op_family.copy()
    for m in range(problem.n_machines):
        now = int(problem.machine_family[m])
        for o in ops[ptr[m] : ptr[m + 1]].tolist():
            now = family[o] = now if family[o] < 0 else family[o]
    return family


def energy_cost(problem: Problem, plan: Plan) -> float:
    """Price of the power of all FREE work by the tariff; 0 without one."""
    if problem.limits is None or not problem.limits.tariff:
        return 0.0
    prices = power_prices(problem.arrays, rows_of(problem), plan.machine, plan.start, plan.end)
    return float(prices.sum())


Prices = tuple[Floats, Floats, Floats]


def cost_columns(problem: Problem, previous: Plan | None, weights: Weights) -> Prices:
    """Per operation: cost of a later end, of a shifted start, and of another machine.

    They are linear in the plan, so that a search can price a change without the whole.
    """
    n = problem.n_ops
    flow = np.zeros(n)
    center = bottleneck(problem) if weights.flow else -1
    free = problem.op_status == OpStatus.FREE
    shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1]) if n else flow
    if center >= 0:
        member = free & (problem.op_work_center == center)
        work = float(shortest[member].sum()) or 1.0
        flow[member] = weights.flow * float(problem.job_weight.sum()) * shortest[member] / work
    near, at_all = np.zeros(n), np.zeros(n)
    if previous is not None:
        known = free & (previous.machine >= 0)
        ahead = (previous.start - problem.now) / max(1, weights.near_s)
        near[known] = np.clip(1.0 - ahead[known], 0.0, 1.0)
        at_all[known] = np.maximum(near[known], weights.far)
    mean = float(shortest.mean()) if n else 0.0
    return flow, near * weights.shift, at_all * weights.move * mean


def near_ops(problem: Problem, previous: Plan | None, weights: Weights) -> NDArray[np.bool_]:
    """FREE operations that were to start within ``near_s``, shape (n_ops,); none without a plan."""
    if previous is None:
        return np.zeros(problem.n_ops, bool)
    near: NDArray[np.bool_] = (problem.op_status == OpStatus.FREE) & (previous.machine >= 0)
    near &= previous.start < problem.now + weights.near_s
    return near


def objective(
    problem: Problem,
    plan: Plan,
    previous: Plan | None = None,
    weights: Weights = PLANT_WEIGHTS,
    prices: Prices | None = None,
) -> Kpis:
    """KPIs of a plan and their weighted sum.

    Parameters
    ----------
    previous
        The plan in force, on the same problem; operations at machine -1 there count as new.
    prices
        What ``cost_columns`` gives for the same arguments, when many plans are compared.
    """
    done = completion(problem, plan)
    late = np.maximum(0, done - problem.job_due) * (done > -FAR)
    tardiness = float((late * problem.job_weight).sum())
    setups = setups_of(problem, plan)
    placed = plan.machine >= 0
    flow, shift, move = prices or cost_columns(problem, previous, weights)
    energy = energy_cost(problem, plan)
    total = weights.setup * float(setups.sum()) + weights.energy * energy
    if problem.target != "makespan":
        total += weights.tardiness * tardiness
    if weights.end:
        total += weights.end * float(np.maximum(0, done - weights.end_by).sum())
    total += float((flow * (plan.end - problem.now))[placed].sum())
    moved = np.zeros(problem.n_ops, bool)
    near_moves, shifted = 0, 0.0
    if previous is not None:
        free = placed & (problem.op_status == OpStatus.FREE) & (previous.machine >= 0)
        moved = free & (plan.machine != previous.machine)
        by = np.abs(plan.start - np.maximum(previous.start, problem.now))
        total += float(move[moved].sum() + (shift * by)[free].sum())
        near_moves = int((moved & (previous.start < problem.now + weights.near_s)).sum())
        shifted = float((shift * by)[free].sum() / weights.shift) if weights.shift else 0.0
    end = int((plan.end + problem.op_tail)[placed].max()) if placed.any() else problem.now
    if problem.target == "makespan":
        total += end - problem.now
    return Kpis(
        objective=total,
        weighted_tardiness_s=tardiness,
        late_orders=int((late > 0).sum()),
        makespan_s=end - problem.now,
        setup_s=int(setups.sum()),
        setups=int((setups > 0).sum()),
        moves=int(moved.sum()),
        near_moves=near_moves,
        shift_s=shifted,
        throughput_per_h=_throughput(problem, plan),
        energy_cost=energy,
    )


def _throughput(problem: Problem, plan: Plan) -> float:
    """Pieces of the bottleneck work center over the hours until its last finish."""
    center = bottleneck(problem)
    member = (
        (problem.op_work_center == center)
        & (plan.machine >= 0)
        & (problem.op_status == OpStatus.FREE)
    )
    if center < 0 or not member.any():
        return 0.0
    hours = (int(plan.end[member].max()) - problem.now) / 3600
    return float(problem.op_quantity[member].sum() / max(hours, 1 / 3600))
