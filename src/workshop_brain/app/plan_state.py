"""What is true on the floor, put together for the planner."""

from collections.abc import Mapping, Sequence

import numpy as np

from workshop_brain.autonomy.state import JobTrack, LoopState, Planned, PlanRef
from workshop_brain.model.declared import Declared, DeclaredKind, windows
from workshop_brain.model.event import EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.production.pace import Pace
from workshop_brain.schedule.plan import Plan, unplanned
from workshop_brain.schedule.problem import Load, PlantState
from workshop_brain.schedule.structure import Problem
from workshop_brain.units import NS_PER_MIN, NS_PER_S

_PRIOR_S = {
    EventKind.BREAKDOWN: 30 * 60.0,
    EventKind.QUALITY_STOP: 20 * 60.0,
    EventKind.OPERATOR_ABSENT: 15 * 60.0,
}
_PRIOR_WEIGHT = 3.0
_CAUTION = 2.0
"""Repair times are about exponential: six of seven stops end within twice their mean."""
_LEAST_LEFT_NS = 5 * NS_PER_MIN


class Returns:
    """When units that are down are expected back, learned from the stops seen so far.

    Twice the mean length of stops of a kind at a work center, with a prior (30 min for a
    breakdown) that counts as three stops: a plan that trusts the mean is wrong for the long half
    of them. A stop that has outlasted it is expected to last half as long
    again, at least five minutes.
    """

    def __init__(self, line_of: Mapping[str, str]) -> None:
        self._line_of = line_of
        self._since: dict[str, tuple[int, EventKind, int]] = {}
        self._seen: dict[tuple[str, EventKind], tuple[float, float]] = {}

    def stopped(self, unit: str, kind: EventKind, time_ns: int, until_ns: int = 0) -> None:
        """A unit went down; ``until_ns`` when somebody knows the end."""
        self._since[unit] = (time_ns, kind, until_ns)

    def returned(self, unit: str, time_ns: int) -> None:
        """A unit came back; the length of its stop is learned."""
        since = self._since.pop(unit, None)
        if since is None or time_ns <= since[0]:
            return
        key = (self._line_of.get(unit, ""), since[1])
        count, total = self._seen.get(key, (0.0, 0.0))
        self._seen[key] = (count + 1.0, total + (time_ns - since[0]) / NS_PER_S)

    def down(self, units: Sequence[str], now_ns: int) -> dict[str, int]:
        """Expected return of units that are down, ns."""
        out = {}
        for unit in units:
            begin, kind, until = self._since.get(unit, (now_ns, EventKind.BREAKDOWN, 0))
            expected = until or begin + round(_CAUTION * self._mean_s(unit, kind) * NS_PER_S)
            left = max(_LEAST_LEFT_NS, (now_ns - begin) // 2)
            out[unit] = expected if expected > now_ns else now_ns + left
        return out

    def _mean_s(self, unit: str, kind: EventKind) -> float:
        count, total = self._seen.get((self._line_of.get(unit, ""), kind), (0.0, 0.0))
        prior = _PRIOR_S.get(kind, 30 * 60.0)
        return (total + _PRIOR_WEIGHT * prior) / (count + _PRIOR_WEIGHT)


def plant_state(
    state: LoopState,
    orders: Mapping[str, JobOrder],
    *,
    down: Mapping[str, int],
    material: Mapping[str, int],
    declared: Sequence[Declared] = (),
    pace: Pace | None = None,
) -> PlantState:
    """The planner's view of the loop's state.

    Parameters
    ----------
    orders
        Every job order known, by id: what receivers hold and what was sent.
    down
        Expected return of units that are down, ns.
    declared
        Planned stops and extra shifts.
    pace
        Speed and risk of units, as measured.
    """
    jobs: list[tuple[JobOrder, JobResponse]] = []
    for listed in state.listed.values():
        for response in listed.values():
            order = orders.get(response.job)
            if order is not None:
                jobs.append((order, response))
    locked = {job for job, track in state.tracks.items() if _is_stuck(track, state.wall_ns)}
    locked |= {r.job for _, r in jobs if r.state is JobState.UNKNOWN}
    return PlantState(
        jobs=tuple(jobs),
        families=families_now(jobs),
        down=dict(down),
        closed=windows(declared, DeclaredKind.DOWN),
        opened=windows(declared, DeclaredKind.SHIFT),
        material=dict(material),
        locked=frozenset(locked),
        loads=loads_planned(state.reference),
        upkeep=upkeep_planned(state.in_force),
        speed={} if pace is None else dict(pace.speed),
        risk={} if pace is None else dict(pace.risk),
    )


def loads_planned(plan: PlanRef | None) -> dict[str, tuple[Load, ...]]:
    """What the plan so far puts together in one job, by work center; for furnaces, the loads."""
    out: dict[str, list[Load]] = {}
    for planned in plan.jobs if plan is not None else ():
        if planned.order.requests:
            out.setdefault(planned.order.work_center, []).append(planned.order.requests)
    return {center: tuple(loads) for center, loads in out.items()}


def upkeep_planned(plan: PlanRef | None) -> dict[str, tuple[int, int]]:
    """Begin and end of the maintenance in a plan, ns, by operation."""
    return {
        planned.order.id: (planned.order.start_ns, planned.order.end_ns)
        for planned in (plan.jobs if plan is not None else ())
        if not planned.order.requests
    }


def upkeep_done(plan: PlanRef | None, ids: frozenset[str], time_ns: int) -> tuple[Planned, ...]:
    """Maintenance of these operations that a plan has done by now: later plans keep it, so that
    it is not done twice."""
    return tuple(
        planned
        for planned in (plan.jobs if plan is not None else ())
        if planned.order.id in ids and planned.order.end_ns <= time_ns
    )


def _is_stuck(track: JobTrack, wall_ns: int) -> bool:
    """A job that its receiver refused to give back stays where it is."""
    return track.hold_ns > wall_ns


def families_now(jobs: Sequence[tuple[JobOrder, JobResponse]]) -> dict[str, str]:
    """Family set up at each unit: that of the job that began last."""
    latest: dict[str, tuple[int, str]] = {}
    for order, response in jobs:
        if response.state not in (JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED):
            continue
        unit = response.equipment or order.equipment
        key = (response.start_ns or response.end_ns, order.program)
        latest[unit] = max(latest.get(unit, (0, "")), key)
    return {unit: family for unit, (_, family) in latest.items() if family}


def plan_on(problem: Problem, ref: PlanRef) -> Plan:
    """A published plan laid on a problem; operations that it does not know stay unplanned."""
    plan = unplanned(problem)
    machines = {path: m for m, path in enumerate(problem.machine_ids)}
    for o, id in enumerate(problem.op_ids):
        planned = ref.index.get(id)
        if planned is None:
            continue
        machine = machines.get(planned.order.equipment, -1)
        if machine < 0 or machine not in problem.alternatives(o):
            continue
        plan.machine[o] = machine
        plan.start[o] = plan.setup_start[o] = problem.ticks(planned.order.start_ns)
        plan.end[o] = problem.ticks(planned.order.end_ns)
    _copy_fixed(problem, plan)
    return plan


def _copy_fixed(problem: Problem, plan: Plan) -> None:
    """What runs or is locked stands where it stands, whatever was planned."""
    fixed = np.flatnonzero((problem.op_status != 0) & (problem.op_fixed_machine >= 0))
    plan.machine[fixed] = problem.op_fixed_machine[fixed]
    new = fixed[plan.start[fixed] < 0]
    plan.start[new] = plan.setup_start[new] = problem.op_fixed_start[new]
    plan.end[new] = problem.op_fixed_from[new] + problem.op_fixed_work[new]
