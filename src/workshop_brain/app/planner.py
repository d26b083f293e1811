"""Computes plans for the decision loop: gathers the inputs, solves, checks, and drafts decisions.

Everything here runs in a worker thread on frozen values; the kernels release the GIL.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from workshop_brain.app.plan_state import plan_on, plant_state, upkeep_done
from workshop_brain.autonomy.compute import (
    Solution,
    changes,
    effect,
    findings,
    moves,
    plan_hash,
    planned_jobs,
    reasons,
    solve,
)
from workshop_brain.autonomy.facts import Option
from workshop_brain.autonomy.inputs import Inputs, digest, pack
from workshop_brain.autonomy.state import LoopConfig, LoopState, Planned, PlanRef
from workshop_brain.errors import InfeasibleError
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.declared import Declared, DeclaredKind, windows
from workshop_brain.model.event import EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.production.pace import Pace
from workshop_brain.schedule.bound import bound
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Kpis, Weights, objective
from workshop_brain.schedule.pins import Pin, with_pins
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.problem import UPKEEP, LeftOut, PlantState, build, left_out, stops
from workshop_brain.schedule.react import place
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.units import NS_PER_S

_KEPT = 24
_OPTIONS = 2
_USUAL_OPS = 1_000
_LIMITED = 4
"""Operations that are placed anew in the time of one usual move; measured at 394."""
_READY_NS = 10 * NS_PER_S
_UNITS = 5
"""Units whose measured pace a decision names."""
MOST_STEPS = 20
"""Changes of one scenario."""
SCENARIO_MOVES = 3_000
"""Search for each compared scenario, and for the plan once it is carried out: equal figures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """A published plan with the problem that it solves.

    Attributes
    ----------
    previous
        The plan before it, on the same problem; None for a first plan.
    weights
        What it was judged by.
    """

    ref: PlanRef
    problem: Problem
    plan: Plan
    previous: Plan | None
    candidate: Candidate
    bound: float
    gap: float
    weights: Weights = PLANT_WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One computation that the loop asked for, with all it may read."""

    kind: str
    token: int
    time_ns: int
    state: LoopState
    requests: tuple[WorkRequest, ...]
    orders: Mapping[str, JobOrder]
    down: Mapping[str, int]
    material: Mapping[str, int]
    triggers: tuple[dict[str, Any], ...]
    declared: tuple[Declared, ...] = ()
    pace: Pace = field(default_factory=Pace)
    optional: bool = False
    base: Known | None = None
    base_is_in_force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """What a computation came to.

    Attributes
    ----------
    data
        Canonical bytes of the inputs, to be stored under ``decision.input_hash``.
    """

    decision: Decision
    options: tuple[Option, ...]
    objective_before: float | None
    optional: bool
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """A priced pin that a person took: the decision computes from the inputs of the price.

    Attributes
    ----------
    before
        KPIs of the plan without the pin.
    """

    inputs: Inputs
    before: Kpis
    reason: Message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """A problem built ahead of need, and the task that says what it was built from."""

    problem: Problem
    task: Task


def _still_true(old: Task, new: Task) -> bool:
    """Whether what a problem was built from still holds, but for the machines that are down."""
    if new.time_ns - old.time_ns > _READY_NS or new.state.wall_ns - old.state.wall_ns > _READY_NS:
        return False
    same = (old.requests is new.requests or old.requests == new.requests) and (
        old.material == new.material and old.declared == new.declared and old.pace == new.pace
    )
    return same and all(
        _states(old.state.listed.get(line, {})) == _states(jobs)
        for line, jobs in new.state.listed.items()
    )


def _floor(task: Task) -> PlantState:
    return plant_state(
        task.state,
        task.orders,
        down=task.down,
        material=task.material,
        declared=task.declared,
        pace=task.pace,
    )


def _states(listed: Mapping[str, JobResponse]) -> dict[str, JobState]:
    return {job: response.state for job, response in listed.items()}


class Planner:
    """Turns tasks into drafts and remembers the plans behind them.

    Parameters
    ----------
    react_iterations, improve_iterations, start_iterations
        Budgets of the deterministic searches: equal inputs give equal plans on any machine.
        ``start_iterations`` (None: as for an improvement) is for a plan from nothing.
    weights
        What plans are judged by from now on; may be replaced at any time.
    """

    def __init__(
        self,
        plant: Plant,
        config: LoopConfig,
        *,
        horizon_days: float = 5.0,
        react_iterations: int = 300,
        improve_iterations: int = 150_000,
        start_iterations: int | None = None,
        weights: Weights = PLANT_WEIGHTS,
    ) -> None:
        self.plant = plant
        self.config = config
        self.horizon_days = horizon_days
        self.react_iterations = react_iterations
        self.improve_iterations = improve_iterations
        self.start_iterations = improve_iterations if start_iterations is None else start_iterations
        self.weights = weights
        self.pins: tuple[Pin, ...] = ()
        self.taken: dict[str, Taken] = {}
        self._ready: _Ready | None = None
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Lock()
        self._count = 0

    def known(self, hash: str) -> Known | None:
        """The plan of a hash, as long as it is remembered."""
        return self._known.get(hash)

    def work(self, task: Task) -> Draft:
        """Gather, solve, check, draft.

        Raises
        ------
        InfeasibleError
            There is nothing to plan, or no plan.
        """
        taken = self._taken(task)
        if taken is not None:
            inputs = replace(taken.inputs, triggers=task.triggers)
        else:
            inputs = self._improvement(task) if task.kind == "improve" else self._from_floor(task)
        solution = solve(inputs)
        if taken is not None:
            solution = replace(solution, before=taken.before)
        data = pack(inputs)
        before = solution.before
        options = self._options(inputs, solution, task)
        decision = self._draft(task, inputs, solution, options[0], digest(data))
        return Draft(
            decision=decision,
            options=options,
            objective_before=None if before is None else before.objective,
            optional=task.optional or task.kind == "improve",
            data=data,
        )

    def _taken(self, task: Task) -> Taken | None:
        """What was priced, when the task is about that alone; else pins are part of a repair."""
        if any(t["kind"] not in ("pinned", "periodic") for t in task.triggers):
            return None
        for trigger in reversed(task.triggers):
            if offer := (trigger.get("payload") or {}).get("offer"):
                return self.taken.get(str(offer))
        return None

    def problem_now(self, task: Task, pins: Sequence[Pin] | None = None) -> Problem:
        """The problem as the floor stands now, under the pins that hold (or under other ones)."""
        state = _floor(task)
        problem = build(self.plant, task.requests, state, task.time_ns, self.horizon_days)
        if problem.n_ops == 0:
            if missing := self.left_out(task):
                raise InfeasibleError("; ".join(_too_large(row) for row in missing[:5]))
            raise InfeasibleError("there is nothing to plan: no open orders within the horizon")
        return with_pins(problem, self.pins if pins is None else pins)

    def scenario_moves(self, problem: Problem) -> int:
        """Search for a compared scenario, and for the plan once it is carried out."""
        return _scaled(max(self.react_iterations, SCENARIO_MOVES), problem)

    def left_out(self, task: Task) -> tuple[LeftOut, ...]:
        """Orders too large to be planned, which every plan leaves out."""
        state = _floor(task)
        return left_out(self.plant, task.requests, state, task.time_ns, self.horizon_days)

    def prepare(self, task: Task) -> None:
        """Build the problem now, so that the next repair only has to mask it."""
        self._ready = _Ready(problem=self.problem_now(task), task=task)

    def rehearse(self, task: Task) -> None:
        """A repair that nobody hears of, so that the next one finds every kernel loaded."""
        inputs = self._from_floor(task)
        solution = solve(inputs)
        pack(inputs)
        self._options(inputs, solution, task)

    def recall(self, ref: PlanRef, task: Task) -> Known:
        """A plan that was computed before this start, laid on the problem of now."""
        problem = self.problem_now(task)
        plan = plan_on(problem, ref)
        new = (problem.op_status == OpStatus.FREE) & (plan.machine < 0)
        plan = right_shift(problem, place(problem, plan, np.flatnonzero(new)))
        weights = self.weights
        kpis = objective(problem, plan, None, weights)
        low = bound(problem, weights)
        known = Known(
            ref=ref,
            problem=problem,
            plan=plan,
            previous=None,
            candidate=Candidate(name="right_shift", kpis=kpis.as_dict(), objective=kpis.objective),
            bound=low.objective,
            gap=low.gap(kpis.objective),
            weights=weights,
        )
        self._remember(known)
        return known

    def _problem(self, task: Task) -> Problem:
        """For a repair the problem built moments ago with the machines that are down now masked;
        built anew when orders changed, jobs moved, or it is too old."""
        ready = self._ready
        if task.kind != "react" or ready is None or not _still_true(ready.task, task):
            return self.problem_now(task)
        problem = ready.problem
        machines = {path: m for m, path in enumerate(problem.machine_ids)}
        planned = windows(task.declared, DeclaredKind.DOWN)
        return problem.with_(downs=stops(machines, problem.origin_ns, task.down, planned))

    def _from_floor(self, task: Task) -> Inputs:
        problem = self._problem(task)
        basis = task.state.reference
        iterations = self.start_iterations if basis is None else self.react_iterations
        is_scenario = any(t["kind"] == EventKind.PLANNED_CHANGE for t in task.triggers)
        moves_ = self.scenario_moves(problem) if is_scenario else _scaled(iterations, problem)
        return Inputs(
            kind=task.kind,
            problem=problem,
            previous=None if basis is None else plan_on(problem, basis),
            triggers=task.triggers,
            seed=task.token,
            iterations=moves_,
            frozen_s=self.config.envelope.frozen_min * 60,
            weights=self.weights,
        )

    def _improvement(self, task: Task) -> Inputs:
        base = task.base
        if base is None:
            raise InfeasibleError("the plan to improve is no longer known")
        return Inputs(
            kind="improve",
            problem=base.problem,
            previous=base.plan if task.base_is_in_force else base.previous,
            base=base.plan,
            triggers=task.triggers,
            seed=task.token,
            iterations=_scaled(self.improve_iterations, base.problem),
            weights=self.weights,
        )

    def _options(self, inputs: Inputs, solution: Solution, task: Task) -> tuple[Option, ...]:
        problem, out = solution.problem, list[Option]()
        low = bound(problem, inputs.weights)
        for k in _worth_offering(solution, inputs.kind):
            plan, candidate = solution.plans[k], solution.candidates[k]
            jobs = (*planned_jobs(problem, plan), *self._done(task, problem))
            ref = PlanRef.of(plan_hash(problem, plan), jobs)
            moved = () if solution.previous is None else moves(problem, solution.previous, plan)
            out.append(
                Option(
                    plan=ref,
                    chosen=k,
                    moves=moved,
                    changes=changes(problem, moved),
                    effect=effect(solution.before, candidate),
                    findings=findings(problem, plan),
                    bound=low.objective,
                )
            )
            self._remember(
                Known(
                    ref=ref,
                    problem=problem,
                    plan=plan,
                    previous=solution.previous,
                    candidate=candidate,
                    bound=low.objective,
                    gap=low.gap(candidate.objective),
                    weights=inputs.weights,
                )
            )
        return tuple(out)

    def _done(self, task: Task, problem: Problem) -> tuple[Planned, ...]:
        """Maintenance that is over by the plan in force while it might still be asked for."""
        near = {u.id for u in self.plant.upkeep if u.latest_ns > task.time_ns}
        ids = frozenset(f"{UPKEEP}{id}" for id in near) - frozenset(problem.op_ids)
        return upkeep_done(task.state.in_force, ids, task.time_ns)

    def _remember(self, known: Known) -> None:
        with self._lock:
            self._known[known.ref.hash] = known
            self._known.move_to_end(known.ref.hash)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def keep(self, hashes: Sequence[str]) -> None:
        """Mark plans as used, so that they are forgotten last."""
        for hash in hashes:
            if hash in self._known:
                self._known.move_to_end(hash)

    def _draft(
        self, task: Task, inputs: Inputs, solution: Solution, first: Option, input_hash: str
    ) -> Decision:
        with self._lock:
            self._count += 1
            count = self._count
        stamp = datetime.fromtimestamp(task.time_ns // NS_PER_S, UTC).strftime("%Y%m%d-%H%M%S")
        gap = self._known[first.plan.hash].gap
        why = [
            *(trigger_message(t) for t in task.triggers[:5]),
            *_expected_back(task),
            *_carried_out(task),
            *_measured(task),
            *([taken.reason] if (taken := self._taken(task)) else ()),
            *self._before(task),
            *reasons(solution, first.chosen, first.moves, inputs.iterations, task.kind),
        ]
        why += [left_out_message(row) for row in self.left_out(task)[:5]]
        why.append(Message(id="reason.gap", params={"gap_pct": round(100 * gap, 1)}))
        if not first.findings:
            why.append(Message(id="reason.verified"))
        return Decision(
            id=f"D{stamp}-{count}",
            time_ns=task.time_ns,
            decision_class=_CLASSES[task.kind],
            line=self._line(task.triggers),
            trigger=_joined(task.triggers),
            input_hash=input_hash,
            seed=inputs.seed,
            iterations=inputs.iterations,
            candidates=solution.candidates,
            chosen=first.chosen,
            reasons=tuple(why),
            changes=first.changes,
            effect=first.effect,
            level=Level.OBSERVE,
            state=DecisionState.PROPOSED,
            plan_hash=first.plan.hash,
            bound=first.bound,
        )

    def _before(self, task: Task) -> list[Message]:
        """The figures of the plan in force before, as it stood when it was made."""
        in_force = task.state.in_force
        known = self._known.get(in_force.hash) if in_force is not None else None
        if known is None:
            return []
        kpis = known.candidate.kpis
        params = {
            "late_orders": int(kpis["late_orders"]),
            "tardiness_h": round(kpis["weighted_tardiness_s"] / 3600, 1),
            "setup_h": round(kpis["setup_s"] / 3600, 1),
        }
        return [Message(id="reason.before", params=params)]

    def _line(self, triggers: Sequence[dict[str, Any]]) -> str:
        """The one line that the triggers speak of; "" for the whole plant."""
        lines = {self.config.units.get(str(t.get("path", "")), "") for t in triggers}
        return lines.pop() if len(lines) == 1 else ""


_CLASSES = {
    "build": DecisionClass.PLAN,
    "react": DecisionClass.REPAIR,
    "improve": DecisionClass.IMPROVE,
}


def _worth_offering(solution: Solution, kind: str) -> list[int]:
    """Best first; for a repair also the mere shift in time, which moves nothing."""
    if kind == "improve" or solution.previous is None:
        return [0]
    best = list(range(min(_OPTIONS, len(solution.plans))))
    for k, candidate in enumerate(solution.candidates):
        if candidate.name == "right_shift" and k not in best:
            best.append(k)
    return best


def _scaled(iterations: int, problem: Problem) -> int:
    """A search's budget on a large problem, where each move costs more: about the same time.

    Under limits a move places every operation anew.
    """
    if problem.limits is not None:
        return max(1, iterations * _LIMITED // max(problem.n_ops, 1))
    return max(1, iterations * _USUAL_OPS // max(problem.n_ops, _USUAL_OPS))


def _too_large(row: LeftOut) -> str:
    return (
        f"order {row.request!r} ({row.quantity} pieces) needs {row.operations} operations, "
        f"{row.limit} are possible; split it into several orders"
    )


def left_out_message(row: LeftOut) -> Message:
    """Why an order is in no plan."""
    params = {
        "order": row.request,
        "quantity": row.quantity,
        "operations": row.operations,
        "limit": row.limit,
    }
    return Message(id="plan.left_out", params=params)


def _joined(triggers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One trigger as it is; of several the first, with all of them beside it."""
    first = dict(triggers[0])
    return first if len(triggers) == 1 else {**first, "all": [dict(t) for t in triggers]}


def _expected_back(task: Task) -> list[Message]:
    """When the plan assumes that the stopped units which set it off work again."""
    stopped = dict.fromkeys(str(t.get("path", "")) for t in task.triggers)
    return [
        Message(id="reason.expected_back", params={"unit": unit, "until_ns": task.down[unit]})
        for unit in list(stopped)[:5]
        if unit in task.down
    ]


def _carried_out(task: Task) -> list[Message]:
    """What a planner changed that set it off, step by step."""
    rows = [row for t in task.triggers for row in (t.get("payload") or {}).get("steps", ())]
    return [Message(id=row["id"], params=row["params"]) for row in rows[:MOST_STEPS]]


def _measured(task: Task) -> list[Message]:
    """Units that are planned at another speed than usual, or with time for stops."""
    speed, risk = task.pace.speed, task.pace.risk

    def weight(unit: str) -> float:
        return (1.0 + risk.get(unit, 0.0)) / speed.get(unit, 1.0)

    units = sorted({*speed, *risk}, key=lambda unit: (-abs(weight(unit) - 1.0), unit))
    return [
        Message(
            id="reason.measured",
            params={
                "unit": unit,
                "speed_pct": round(100 * speed.get(unit, 1.0)),
                "stops_pct": round(100 * risk.get(unit, 0.0)),
            },
        )
        for unit in units[:_UNITS]
    ]


def trigger_message(trigger: Mapping[str, Any]) -> Message:
    """What set a decision off, as a message."""
    payload = trigger.get("payload") or {}
    unit = str(payload.get("station") or trigger.get("path") or trigger.get("of") or "")
    params = {"unit": unit, "job": str(payload.get("job", unit))}
    if trigger.get("kind") == "periodic":
        params["minutes"] = str(trigger.get("minutes", ""))
    return Message(id=f"trigger.{trigger.get('kind')}", params=params)
