"""Why a plan is as it is: answered from the plan's own constraints and by solving again."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.decision import Message
from workshop_brain.model.event import Event
from workshop_brain.schedule.diff import Change, diff
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Kpis, Weights, completion, objective
from workshop_brain.schedule.pins import later_orders
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import Reaction, place
from workshop_brain.schedule.search import polish
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.waiting import binding, message

CHAIN = 8
"""Most links of a waiting chain that are told."""
WHY_NOT_MOVES = 3000
"""Moves with which a forced choice may be repaired before it is judged."""


LATER = 3
"""Most orders that are named as finishing later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """Answer to "why not on that machine?".

    Attributes
    ----------
    plan
        The best plan found with the operation forced there; None when it may not go there.
    """

    messages: tuple[Message, ...]
    before: Kpis | None = None
    after: Kpis | None = None
    plan: Plan | None = None
    changes: tuple[Change, ...] = ()


def explain(
    problem: Problem,
    plan: Plan,
    op: str,
    *,
    alternatives: int = 3,
    weights: Weights = PLANT_WEIGHTS,
) -> tuple[Message, ...]:
    """Why now, why here, what it waits for, and what other machines would cost.

    The waiting chain goes back from the operation to the first cause: a machine, a changeover,
    material, a release, closed time, a tool, a person, a place, power, or nothing. Other machines
    are tried by re-timing.

    Raises
    ------
    KeyError
        The problem has no such operation.
    """
    o = problem.op(op)
    m = int(plan.machine[o])
    if m < 0:
        return (Message(id="schedule.unplanned", params={"op": op}),)
    out = [
        message(problem, "schedule.placed", o, m, start=plan.start[o], end=plan.end[o]),
        *_chain(problem, plan, o),
    ]
    done = completion(problem, plan)
    for j in _jobs_of(problem, o):
        if problem.job_due[j] >= FAR:
            continue
        late = int(done[j] - problem.job_due[j])
        name, key = ("job_late", "late_s") if late > 0 else ("job_in_time", "slack_s")
        params = {"job": problem.job_ids[j], key: abs(late)}
        out.append(Message(id=f"schedule.{name}", params=params))
    if problem.op_status[o] == OpStatus.FREE:
        out += _others(problem, plan, o, alternatives, weights)
    return tuple(out)


def _jobs_of(problem: Problem, o: int) -> list[int]:
    """Jobs that need the operation, found by walking to what follows."""
    seen, stack, jobs = {o}, [o], set()
    while stack:
        x = stack.pop()
        jobs.update(problem.sink_job[problem.sink_ptr[x] : problem.sink_ptr[x + 1]].tolist())
        for s in problem.succ_op[problem.succ_ptr[x] : problem.succ_ptr[x + 1]].tolist():
            if s not in seen:
                seen.add(s)
                stack.append(s)
    return sorted(jobs)


def _chain(problem: Problem, plan: Plan, o: int) -> list[Message]:
    """What the operation waits for, and what that waits for, to the first cause."""
    out: list[Message] = []
    for _ in range(CHAIN):
        reason, o = binding(problem, plan, o)
        out.append(reason)
        if o < 0:
            break
    return out


def _others(problem: Problem, plan: Plan, o: int, most: int, weights: Weights) -> list[Message]:
    """Cost of the operation on other machines, by re-timing, cheapest first."""
    here = objective(problem, plan, plan, weights)
    found = []
    for m in problem.alternatives(o):
        if m == plan.machine[o]:
            continue
        forced = _forced(problem, o, m)
        try:
            trial = right_shift(forced, place(forced, plan, np.array([o])))
        except InfeasibleError:  # no limit can be kept with the operation there
            continue
        kpis = objective(problem, trial, plan, weights)
        params = {
            "op": problem.op_ids[o],
            "machine": problem.machine_ids[m],
            "tardiness_s": round(kpis.weighted_tardiness_s - here.weighted_tardiness_s),
            "setup_s": kpis.setup_s - here.setup_s,
            "objective": round(kpis.objective - here.objective),
        }
        found.append((kpis.objective, m, Message(id="schedule.alternative", params=params)))
    return [told for _, _, told in sorted(found, key=lambda x: x[:2])[:most]]


def _forced(problem: Problem, o: int, m: int) -> Problem:
    """The problem in which one operation may run on one machine only."""
    low, high = int(problem.alt_ptr[o]), int(problem.alt_ptr[o + 1])
    keep = np.ones(len(problem.alt_machine), bool)
    keep[low:high] = problem.alt_machine[low:high] == m
    ptr = problem.alt_ptr.copy()
    ptr[o + 1 :] -= high - low - 1
    return problem.with_(
        alt_ptr=ptr,
        alt_machine=np.ascontiguousarray(problem.alt_machine[keep]),
        alt_duration=np.ascontiguousarray(problem.alt_duration[keep]),
    )


def why_not(
    problem: Problem,
    plan: Plan,
    op: str,
    machine: str,
    *,
    weights: Weights = PLANT_WEIGHTS,
    iterations: int = WHY_NOT_MOVES,
    seed: int = 0,
) -> WhyNot:
    """What happens when the operation is forced onto a machine and the rest searched anew.

    Both plans get the same search budget, so that the difference is the machine's alone.

    Raises
    ------
    KeyError
        The problem has no such operation or machine.
    """
    o, m = problem.op(op), problem.machine(machine)
    base = {"op": op, "machine": machine}
    if plan.machine[o] < 0:
        return WhyNot(messages=(Message(id="schedule.unplanned", params=base),))
    if problem.op_status[o] != OpStatus.FREE:
        base["machine"] = problem.machine_ids[plan.machine[o]]
        return WhyNot(messages=(Message(id="schedule.why_not_fixed", params=base),))
    if plan.machine[o] == m:
        return WhyNot(messages=(Message(id="schedule.why_not_same", params=base),))
    if m not in problem.alternatives(o):
        return WhyNot(messages=(Message(id="schedule.why_not_not_allowed", params=base),))
    forced = _forced(problem, o, m)
    try:
        trial = right_shift(forced, place(forced, plan, np.array([o])))
    except InfeasibleError:
        return WhyNot(messages=(Message(id="schedule.pin_no_plan", params=base),))
    trial = polish(forced, trial, plan, weights, iterations, seed)
    kept = polish(problem, right_shift(problem, plan), plan, weights, iterations, seed)
    before = objective(problem, kept, plan, weights)
    after = objective(problem, trial, plan, weights)
    changes = tuple(diff(problem, plan, trial))
    params = {
        **base,
        "tardiness_s": round(after.weighted_tardiness_s - before.weighted_tardiness_s),
        "setup_s": after.setup_s - before.setup_s,
        "objective": round(after.objective - before.objective),
        "changes": len(changes),
    }
    name = "worse" if after.objective >= before.objective else "better"
    reason, _ = binding(forced, trial, o)
    later = (
        Message(id="schedule.why_not_later", params={"job": job, "late_s": by})
        for job, by in later_orders(problem, kept, trial)[:LATER]
    )
    return WhyNot(
        messages=(Message(id=f"schedule.why_not_{name}", params=params), *later, reason),
        before=before,
        after=after,
        plan=trial,
        changes=changes,
    )


def reasons(event: Event | None, reaction: Reaction) -> tuple[Message, ...]:
    """Reasons of a decision: what happened, what was chosen, what it beat, what it changes."""
    problem, chosen = reaction.problem, reaction.candidates[reaction.chosen]
    out = [_cause(problem, event)]
    params: dict[str, Any] = {"candidate": chosen.name, "objective": round(chosen.objective)}
    out.append(Message(id="schedule.reason_chosen", params=params))
    for other in reaction.candidates[reaction.chosen + 1 : reaction.chosen + 4]:
        if other.objective > 0:
            share = round(100 * (1 - chosen.objective / other.objective), 1)
            beaten = {"candidate": other.name, "better_percent": share}
            out.append(Message(id="schedule.reason_beats", params=beaten))
    changes = diff(problem, reaction.previous, reaction.plan)
    moves = sum(c.machine_from != c.machine_to for c in changes)
    counts = {"moves": moves, "shifts": len(changes) - moves}
    out.append(Message(id="schedule.reason_changes", params=counts))
    return tuple(out)


def _cause(problem: Problem, event: Event | None) -> Message:
    """The event as a message."""
    if event is None:
        return Message(id="schedule.reason_update")
    id = f"schedule.reason_{event.kind.value}"
    if id not in MESSAGES:
        return Message(id="schedule.reason_update")
    params: dict[str, Any] = {"machine": event.path, "job": event.path}
    until = event.payload.get("until_ns")
    downs = [high for m, _, high in problem.downs if problem.machine_ids[m] == event.path]
    if until is None and downs:
        until = problem.time_ns(max(downs))
    params["until_ns"] = until if until is not None else event.time_ns
    return Message(id=id, params=params)
