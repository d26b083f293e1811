"""Asking what a pin costs, and having it decided on: the price is known before anything holds."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workshop_brain.app.plan_state import plan_on
from workshop_brain.app.planner import Planner, Taken, Task
from workshop_brain.autonomy.inputs import Inputs
from workshop_brain.model.decision import Message
from workshop_brain.schedule.pins import Pin, Pinned, conflict, keep_pins, unmet, with_pins
from workshop_brain.schedule.preferences import parts
from workshop_brain.schedule.react import Reaction, react
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.waiting import binding

FRESH_NS = 120 * 10**9
"""A price this old is asked again before it is decided on."""
_LATER = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offer:
    """A priced pin.

    Attributes
    ----------
    inputs
        What the decision computes from: it comes to the very plan that was priced.
    """

    id: str
    pin: Pin
    time_ns: int
    pinned: Pinned
    inputs: Inputs

    def taken(self, user: str) -> Taken:
        """What the planner decides on when a person takes the offer."""
        problem = self.pinned.problem
        o = problem.op(self.pin.op)
        params = {
            "by": user,
            "op": self.pin.op,
            "machine": self.pin.machine,
            "start_ns": problem.time_ns(int(self.pinned.plan.start[o])),
            "cost_s": round(self.pinned.total),
        }
        return Taken(
            inputs=self.inputs,
            before=self.pinned.before,
            reason=Message(id="schedule.pinned", params=params),
        )

    def preference(self) -> dict[str, Any]:
        """Parts of the plan that whoever takes the offer prefers, and of the one without it."""
        previous = self.inputs.previous
        assert previous is not None
        chosen, other = (
            parts(self.pinned.base, plan, previous, self.inputs.weights)
            for plan in (self.pinned.plan, self.pinned.kept)
        )
        return {"preferred": list(chosen), "other": list(other)}

    def body(self) -> dict[str, Any]:
        """For the screens."""
        problem, plan = self.pinned.problem, self.pinned.plan
        o = problem.op(self.pin.op)
        return {
            "id": self.id,
            "possible": True,
            "pin": self.pin.as_dict(),
            "start_ns": problem.time_ns(int(plan.start[o])),
            "end_ns": problem.time_ns(int(plan.end[o])),
            "total": self.pinned.total,
            "parts": self.pinned.parts,
            "kpis_before": self.pinned.before.as_dict(),
            "kpis_after": self.pinned.after.as_dict(),
            "moved": int(((plan.machine != self.pinned.kept.machine) & (plan.machine >= 0)).sum()),
            "later": [{"order": j, "later_s": s} for j, s in self.pinned.later[:_LATER]],
            "messages": [],
        }


def price(planner: Planner, task: Task, pin: Pin, frozen_s: int) -> Offer | dict[str, Any]:
    """An offer, or why the pin cannot be kept: ``{possible: False, messages, conflict}``."""
    basis, weights = task.state.reference, planner.weights
    others = tuple(p for p in planner.pins if p.op != pin.op)
    raw = planner.problem_now(task, pins=())
    if basis is None or pin.op not in raw.op_ids:
        raise KeyError(pin.op)
    calm = react(
        with_pins(raw, others),
        plan_on(raw, basis),
        None,
        frozen_s=frozen_s,
        weights=weights,
        iterations=planner.react_iterations,
    )
    if why := _refused(calm, pin, frozen_s):
        return _impossible([why])
    pinned = keep_pins(calm.problem, calm.plan, calm.previous, [pin], weights=weights)
    if pinned is None or _breaks(pinned, others):
        return _why(_without_pins(planner, raw, task, frozen_s), pin, others)
    inputs = Inputs(
        kind="improve",
        problem=pinned.problem,
        previous=calm.previous,
        base=pinned.plan,
        triggers=task.triggers,
        seed=0,
        iterations=1,
        weights=weights,
    )
    return Offer(id=uuid.uuid4().hex, pin=pin, time_ns=task.time_ns, pinned=pinned, inputs=inputs)


def _without_pins(planner: Planner, raw: Problem, task: Task, frozen_s: int) -> Reaction:
    """The plan of now without any pin, from which conflicts are told."""
    basis = task.state.reference
    assert basis is not None
    return react(raw, plan_on(raw, basis), None, frozen_s=frozen_s, iterations=0)


def _breaks(pinned: Pinned, others: Sequence[Pin]) -> bool:
    """Whether keeping the new pin broke an older one that the plan without it keeps."""
    kept = {p.op for p in unmet(pinned.problem, pinned.kept, others)}
    return any(p.op not in kept for p in unmet(pinned.problem, pinned.plan, others))


def _refused(calm: Reaction, pin: Pin, frozen_s: int) -> Message | None:
    """Why a pin is out of the question before anything is solved."""
    problem = calm.problem
    o = problem.op(pin.op)
    params: dict[str, Any] = {"op": pin.op, "machine": pin.machine}
    if problem.op_status[o] != OpStatus.FREE:
        params["machine"] = problem.machine_ids[max(0, int(problem.op_fixed_machine[o]))]
        return Message(id="schedule.why_not_fixed", params=params)
    if problem.machine(pin.machine) not in problem.alternatives(o):
        return Message(id="schedule.why_not_not_allowed", params=params)
    first = problem.now + frozen_s
    if pin.start_ns is not None and problem.ticks(pin.start_ns) < first:
        params["until_ns"] = problem.time_ns(first)
        return Message(id="schedule.pin_frozen", params=params)
    return None


def _why(free: Reaction, pin: Pin, others: Sequence[Pin]) -> dict[str, Any]:
    """What binds the operation when it is on that machine as early as it can be, or which older
    pins stand against it."""
    alone = keep_pins(free.problem, free.plan, free.previous, [pin], moves=0)
    if alone is not None:
        against = conflict(free.problem, free.plan, free.previous, [*others, pin], pin)
        return _impossible(
            [Message(id="schedule.pin_conflict", params={"op": pin.op, "n": len(against) - 1})],
            against,
        )
    wish = Pin(op=pin.op, machine=pin.machine)
    found = keep_pins(free.problem, free.plan, free.previous, [wish], moves=0)
    if found is None:
        params = {"op": pin.op, "machine": pin.machine}
        return _impossible([Message(id="schedule.pin_no_plan", params=params)])
    o = found.problem.op(pin.op)
    bound: dict[str, Any] = {
        "op": pin.op,
        "machine": pin.machine,
        "until_ns": found.problem.time_ns(int(found.plan.start[o])),
    }
    message, _ = binding(found.problem, found.plan, o)
    return _impossible([Message(id="schedule.pin_earliest", params=bound), message])


def _impossible(messages: list[Message], against: Sequence[Pin] = ()) -> dict[str, Any]:
    return {
        "possible": False,
        "messages": messages,
        "conflict": [p.as_dict() for p in against],
    }
