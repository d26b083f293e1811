"""Plans, orders and answers as the dictionaries of the API; instants in ns end up as ``*_ms``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from workshop_brain.app.planner import Known
from workshop_brain.autonomy.compute import changes, moves
from workshop_brain.autonomy.record import message_body
from workshop_brain.autonomy.state import LoopState, Planned, PlanRef
from workshop_brain.model.decision import Message
from workshop_brain.model.declared import Declared, DeclaredKind, windows
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.schedule.calendars import opened
from workshop_brain.schedule.objective import setups_of
from workshop_brain.schedule.plan import Plan, carry
from workshop_brain.schedule.structure import Problem
from workshop_brain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S

_ACTUAL_NS = 3 * NS_PER_DAY
_CLOSED_NS = 62 * NS_PER_DAY
"""How far ahead closed times are listed; one order of next year must not list a year of shifts."""
_BEGUN = (JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED, JobState.ABORTED)


def schedule(
    plant: Plant,
    state: LoopState,
    *,
    shown: PlanRef | None,
    known: Known | None,
    ghost: PlanRef | None,
    proposal: str | None,
    requests: Sequence[WorkRequest],
    orders: Mapping[str, JobOrder],
    now_ns: int,
    frozen_s: int,
    declared_times: Sequence[Declared] = (),
) -> dict[str, Any]:
    """The answer of ``GET schedule``."""
    jobs = shown.jobs if shown is not None else ()
    setups = _setups(known)
    late = _late_s(plant, state, shown, requests, orders)
    end_ns = max((p.order.end_ns for p in jobs), default=now_ns + NS_PER_DAY)
    return {
        "plan_id": shown.hash if shown is not None else None,
        "decision": state.in_force_decision if proposal is None else proposal,
        "in_force": proposal is None and shown is not None and shown == state.in_force,
        "proposal": proposal,
        "time_ms": now_ns / NS_PER_MS,
        "now_ms": now_ns / NS_PER_MS,
        "frozen_until_ms": (now_ns + frozen_s * NS_PER_S) / NS_PER_MS,
        "machines": [
            {
                "path": unit.path,
                "id": unit.id,
                "work_center": center.id,
                "state": state.down.get(unit.path, "up"),
            }
            for center in plant.work_centers
            for unit in center.units
        ],
        "bars": [_bar(p, state, setups, late) for p in jobs],
        "actual": _actual(state, orders, now_ns),
        "ghost": _ghost(ghost, shown),
        "closed": _closed(plant, declared_times, now_ns, min(end_ns, now_ns + _CLOSED_NS)),
        "kpis": dict(known.candidate.kpis) if known is not None else {},
        "bound": known.bound if known is not None else None,
        "gap": known.gap if known is not None else None,
    }


def _setups(known: Known | None) -> dict[str, tuple[int, int]]:
    """Begin and end of the changeover before an operation, ns; the unit may then wait for parts."""
    if known is None:
        return {}
    problem, plan = known.problem, known.plan
    ticks = setups_of(problem, plan)
    return {
        id: (
            problem.time_ns(int(plan.setup_start[o])),
            problem.time_ns(int(min(plan.setup_start[o] + ticks[o], plan.start[o]))),
        )
        for o, id in enumerate(problem.op_ids)
        if plan.machine[o] >= 0 and ticks[o] > 0 and 0 <= plan.setup_start[o] < plan.start[o]
    }


def _bar(
    planned: Planned,
    state: LoopState,
    setups: Mapping[str, tuple[int, int]],
    late: Mapping[str, float],
) -> dict[str, Any]:
    order = planned.order
    response = state.response(order.work_center, order.id)
    status = response.state.value if response is not None else JobState.PLANNED.value
    lateness = [late[r] for r, _ in order.requests if r in late]
    setup_ns, setup_end_ns = setups.get(order.id, (order.start_ns, order.start_ns))
    return {
        "op": order.id,
        "request": order.requests[0][0] if order.requests else "",
        "requests": [r for r, _ in order.requests],
        "product": order.product,
        "family": order.program,
        "quantity": order.quantity,
        "machine": order.equipment,
        "start_ms": order.start_ns / NS_PER_MS,
        "end_ms": order.end_ns / NS_PER_MS,
        "setup_start_ms": setup_ns / NS_PER_MS,
        "setup_end_ms": setup_end_ns / NS_PER_MS,
        "status": status,
        "late_s": max(lateness, default=0.0),
        "after": list(planned.after),
    }


def _actual(state: LoopState, orders: Mapping[str, JobOrder], now_ns: int) -> list[dict[str, Any]]:
    out = []
    for listed in state.listed.values():
        for response in listed.values():
            end_ns = response.end_ns or now_ns
            if response.start_ns <= 0 or end_ns < now_ns - _ACTUAL_NS:
                continue
            order = orders.get(response.job)
            out.append(
                {
                    "op": response.job,
                    "request": order.requests[0][0] if order and order.requests else "",
                    "machine": response.equipment or (order.equipment if order else ""),
                    "start_ms": response.start_ns / NS_PER_MS,
                    "end_ms": end_ns / NS_PER_MS,
                    "state": response.state.value,
                    "good": response.good,
                    "scrap": response.scrap,
                }
            )
    return out


def _ghost(ghost: PlanRef | None, shown: PlanRef | None) -> list[dict[str, Any]]:
    """Where jobs stood that stand elsewhere now."""
    if ghost is None or shown is None:
        return []
    out = []
    for planned in ghost.jobs:
        old, new = planned.order, shown.index.get(planned.order.id)
        if new is None:
            continue
        if (old.equipment, old.start_ns) == (new.order.equipment, new.order.start_ns):
            continue
        out.append(
            {
                "op": old.id,
                "machine": old.equipment,
                "start_ms": old.start_ns / NS_PER_MS,
                "end_ms": old.end_ns / NS_PER_MS,
            }
        )
    return out


def _closed(
    plant: Plant, declared_times: Sequence[Declared], now_ns: int, end_ns: int
) -> list[dict[str, Any]]:
    """Closed times by the calendar without the extra shifts, and the declared stops on top."""
    shifts = windows(declared_times, DeclaredKind.SHIFT)
    stops = windows(declared_times, DeclaredKind.DOWN)
    out = []
    for center in plant.work_centers:
        shut = center.calendar.closed(now_ns - NS_PER_DAY, end_ns)
        shut = opened(shut, shifts.get(center.id, ()))
        for unit in center.units:
            rows = [("calendar", a, b) for a, b in shut]
            rows += [("stop", a, b) for a, b in stops.get(unit.path, ())]
            for kind, a, b in rows:
                span = {"start_ms": a / NS_PER_MS, "end_ms": b / NS_PER_MS}
                out.append({"machine": unit.path, "kind": kind, **span})
    return out


def declared(row: Declared) -> dict[str, Any]:
    """A declared time for the screens."""
    return {
        "id": row.id,
        "kind": row.kind.value,
        "place": row.place,
        "from_ms": row.from_ns / NS_PER_MS,
        "until_ms": row.until_ns / NS_PER_MS,
        "by": row.by,
    }


# -- orders ------------------------------------------------------------------------------------


def orders(
    plant: Plant,
    state: LoopState,
    rows: Sequence[Any],
    known_orders: Mapping[str, JobOrder],
) -> list[dict[str, Any]]:
    """The answer of ``GET orders``; ``rows`` are ``store.records.RequestRow``."""
    jobs = _jobs_by_request(state.basis, known_orders.values())
    ends = _ends(plant, state, jobs)
    centers = {center.id: center for center in plant.work_centers}
    out = []
    for row in rows:
        request: WorkRequest = row.request
        steps, done = [], 0
        try:
            routing = plant.product(request.product).routing
        except KeyError:
            routing = ()
        for step in routing:
            mine = [o for o in jobs.get(request.id, []) if o.work_center == step.work_center]
            steps += [_step(o, state, request.id) for o in mine]
            if step is routing[-1]:
                done = _pieces_done(mine, state, request.id)
        end_ns = row.end_ns or ends.get(request.id)
        late_s = (end_ns - request.due_ns) / NS_PER_S if end_ns else None
        out.append(
            {
                "id": request.id,
                "product": request.product,
                "quantity": request.quantity,
                "due_ms": request.due_ns / NS_PER_MS,
                "release_ms": request.release_ns / NS_PER_MS,
                "priority": request.priority,
                "state": _request_state(row, steps),
                "predicted_end_ms": end_ns / NS_PER_MS if end_ns else None,
                "late_s": late_s,
                "done": done,
                "steps": [s for s in steps if s["work_center"] in centers],
            }
        )
    return out


def _request_state(row: Any, steps: Iterable[Mapping[str, Any]]) -> str:
    state = str(row.state.value)
    if state == "waiting" and any(s["state"] in ("running", "ended") for s in steps):
        return "running"
    return state


def _step(order: JobOrder, state: LoopState, request: str) -> dict[str, Any]:
    response = state.response(order.work_center, order.id)
    return {
        "work_center": order.work_center,
        "job": order.id,
        "unit": (response.equipment if response else "") or order.equipment,
        "state": response.state.value if response else JobState.PLANNED.value,
        "pieces": dict(order.requests).get(request, order.quantity),
        "good": response.good if response else 0,
        "start_ms": order.start_ns / NS_PER_MS,
        "end_ms": order.end_ns / NS_PER_MS,
    }


def _pieces_done(jobs: Iterable[JobOrder], state: LoopState, request: str) -> int:
    """Good pieces out of the last step; a job's own pieces when it serves several requests."""
    total = 0
    for order in jobs:
        response = state.response(order.work_center, order.id)
        if response is None:
            continue
        share = dict(order.requests).get(request, order.quantity) / order.quantity
        good = response.good
        if response.state is JobState.ENDED and not good and not response.scrap:
            good = order.quantity
        total += round(good * share)
    return total


def _jobs_by_request(plan: PlanRef | None, known: Iterable[JobOrder]) -> dict[str, list[JobOrder]]:
    """Orders at receivers and in the plan, by the request they serve; the plan's times win."""
    every = {order.id: order for order in known}
    if plan is not None:
        every |= {id: planned.order for id, planned in plan.index.items()}
    out: dict[str, list[JobOrder]] = {}
    for order in every.values():
        for request, _ in order.requests:
            out.setdefault(request, []).append(order)
    return out


def _ends(plant: Plant, state: LoopState, jobs: Mapping[str, Sequence[JobOrder]]) -> dict[str, int]:
    """Predicted (or actual) completion of each request, ns: the last end of its jobs."""
    transit = {c.id: c.transit_s * NS_PER_S for c in plant.work_centers}
    planned = state.basis.index if state.basis is not None else {}
    out: dict[str, int] = {}
    for request, orders_ in jobs.items():
        for order in orders_:
            response = state.response(order.work_center, order.id)
            if response is not None and response.end_ns:
                end = response.end_ns
            elif order.id in planned:
                end = order.end_ns + transit.get(order.work_center, 0)
            else:
                continue
            out[request] = max(out.get(request, 0), end)
    return out


def _late_s(
    plant: Plant,
    state: LoopState,
    shown: PlanRef | None,
    requests: Sequence[WorkRequest],
    known: Mapping[str, JobOrder],
) -> dict[str, float]:
    ends = _ends(plant, state, _jobs_by_request(shown, known.values()))
    return {r.id: (ends[r.id] - r.due_ns) / NS_PER_S for r in requests if r.id in ends}


def completed(
    requests: Sequence[WorkRequest],
    plant: Plant,
    state: LoopState,
    known: Mapping[str, JobOrder],
) -> dict[str, int]:
    """Requests whose last step has ended for all their pieces, with the instant of the end."""
    ended: dict[tuple[str, str], tuple[int, int]] = {}
    for listed in state.listed.values():
        for response in listed.values():
            order = known.get(response.job)
            if order is None or response.state is not JobState.ENDED:
                continue
            for request, pieces in order.requests:
                key = (request, order.work_center)
                count, end = ended.get(key, (0, 0))
                ended[key] = (count + pieces, max(end, response.end_ns))
    out = {}
    for asked in requests:
        try:
            last = plant.product(asked.product).routing[-1].work_center
        except KeyError:
            continue
        count, end = ended.get((asked.id, last), (0, 0))
        if count >= asked.quantity:
            out[asked.id] = end
    return out


# -- answers -----------------------------------------------------------------------------------


def outcome(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What became of a decision's jobs against what was planned; None before the first end."""
    if not rows:
        return None
    late = [row["late_s"] for row in rows if row.get("late_s") is not None]
    return {
        "jobs": len(rows),
        "ended": sum(1 for row in rows if row["state"] == JobState.ENDED.value),
        "mean_late_s": sum(late) / len(late) if late else None,
        "worst_late_s": max(late, default=None),
        "good": sum(row["good"] for row in rows),
        "scrap": sum(row["scrap"] for row in rows),
    }


def answer(value: Any) -> dict[str, Any]:
    """An explanation as ``{"messages": [...], ...}``."""
    if isinstance(value, Mapping):
        body = dict(value)
    elif is_dataclass(value) and not isinstance(value, type):
        body = {name: getattr(value, name) for name in value.__dataclass_fields__}
    else:
        body = {"messages": list(value)}
    return {key: _json(part) for key, part in body.items()}


def _json(value: Any) -> Any:
    if isinstance(value, Message):
        return message_body(value)
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if isinstance(value, Plan):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return _json(asdict(value))
    return value.item() if hasattr(value, "item") else value


def moved(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many changes of a decision are more than another time."""
    return sum(
        1
        for row in rows
        if row["machine_from"] and (row["machine_from"] != row["machine_to"] or row["resequenced"])
    )


def plan_changes(known: Known, problem: Problem, plan: Plan) -> list[dict[str, Any]]:
    """What a plan on a later problem changes against a known one."""
    old = carry(known.problem, known.plan, problem)
    return list(changes(problem, moves(problem, old, plan)))


def response_body(response: JobResponse) -> dict[str, Any]:
    """A job response as JSON, for the work list."""
    return {**asdict(response), "state": response.state.value}
