"""Why an operation does not start earlier, or at a given time: what stands against it there, and
what it would cost to have it there all the same, by solving again."""

from typing import Any

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.decision import Message
from workshop_brain.schedule.bound import heads
from workshop_brain.schedule.calendars import next_open
from workshop_brain.schedule.diff import diff
from workshop_brain.schedule.explain import LATER, WhyNot
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights
from workshop_brain.schedule.pins import PIN_MOVES, Pin, Pinned, keep_pins, needs_first
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.waiting import binding

SAME_S = 60
"""A start this close to the planned one is the planned one."""


def why_not_then(
    problem: Problem,
    plan: Plan,
    op: str,
    start_ns: int | None,
    *,
    frozen_s: int = 0,
    weights: Weights = PLANT_WEIGHTS,
    moves: int = PIN_MOVES,
) -> WhyNot:
    """What happens when the operation is to start at an instant on its machine.

    First every constraint that stands against it there in this plan, then the price: the plan is
    searched anew with the operation pinned there, and the plan without the pin just as long.

    Parameters
    ----------
    plan
        Timed on ``problem``.
    start_ns
        None: as early as any plan that was found has it.
    frozen_s
        Nothing may start earlier than this many seconds from now.

    Raises
    ------
    KeyError
        The problem has no such operation.
    """
    o = problem.op(op)
    base = {"op": op}
    if plan.machine[o] < 0:
        return WhyNot(messages=(Message(id="schedule.unplanned", params=base),))
    m = int(plan.machine[o])
    where = {**base, "machine": problem.machine_ids[m]}
    if problem.op_status[o] != OpStatus.FREE:
        return WhyNot(messages=(Message(id="schedule.why_not_fixed", params=where),))
    planned, first = int(plan.start[o]), problem.now + frozen_s
    if planned < first:
        return WhyNot(messages=(_frozen(problem, where, first),))
    if start_ns is None:
        return _as_early_as_found(problem, plan, o, where, first, weights, moves)
    start = problem.ticks(start_ns)
    if abs(start - planned) < SAME_S:
        params = {**where, "start_ns": problem.time_ns(planned)}
        return WhyNot(messages=(Message(id="schedule.then_same", params=params),))
    if start < first:
        return WhyNot(messages=(_frozen(problem, where, first),))
    if never := _never(problem, o, m, start):
        return WhyNot(messages=never)
    against = _against(problem, plan, o, start)
    if not against and start < planned:  # a tool, a person, a place, power
        against = (binding(problem, plan, o)[0],)
    pin = Pin(op=op, machine=where["machine"], start_ns=start_ns)
    found = keep_pins(problem, plan, plan, [pin], weights=weights, moves=moves)
    if found is not None:
        return _priced(problem, plan, o, where, found, against)
    asked = Message(id="schedule.then_not_found", params={**where, "start_ns": start_ns})
    return _as_early_as_found(
        problem, plan, o, where, first, weights, moves, before=(*against, asked)
    )


def _frozen(problem: Problem, where: dict[str, Any], first: int) -> Message:
    params = {**where, "until_ns": problem.time_ns(first)}
    return Message(id="schedule.pin_frozen", params=params)


def _never(problem: Problem, o: int, m: int, start: int) -> tuple[Message, ...]:
    """Proof that no plan has the operation there: its release and the shortest way of what it
    needs, as if no machine were ever busy; empty when there is none."""
    head, end = heads(problem)
    windows = (problem.closed_ptr, problem.closed_start, problem.closed_end)
    earliest = next_open(*windows, m, int(head[o]))
    if start >= earliest:
        return ()
    params: dict[str, Any] = {"op": problem.op_ids[o], "until_ns": problem.time_ns(earliest)}
    out = [Message(id="schedule.then_never", params=params)]
    for p, lag in problem.preds(o):
        if end[p] + lag == head[o] and end[p] + lag > problem.now:
            more = {
                "op": problem.op_ids[o],
                "other": problem.op_ids[p],
                "until_ns": problem.time_ns(int(end[p]) + lag),
            }
            return (*out, Message(id="schedule.waits_material", params=more))
    if head[o] == problem.op_release[o]:
        until = {"op": problem.op_ids[o], "until_ns": problem.time_ns(int(head[o]))}
        out.append(Message(id="schedule.waits_release", params=until))
    return tuple(out)


def _against(problem: Problem, plan: Plan, o: int, start: int) -> tuple[Message, ...]:
    """Everything in this plan that stands against a start at this tick, hardest first."""
    m = int(plan.machine[o])
    end = start + problem.alternatives(o)[m]
    base = {"op": problem.op_ids[o], "machine": problem.machine_ids[m]}
    out: list[Message] = []

    def say(id: str, **params: Any) -> None:
        ticks = {f"{k}_ns": problem.time_ns(int(v)) for k, v in params.items() if k != "other"}
        other = {"other": problem.op_ids[params["other"]]} if "other" in params else {}
        out.append(Message(id=f"schedule.{id}", params={**base, **other, **ticks}))

    if problem.op_release[o] > start:
        say("waits_release", until=problem.op_release[o])
    for p, lag in problem.preds(o):
        if plan.machine[p] >= 0 and plan.end[p] + lag > start:
            say("waits_material", other=p, until=plan.end[p] + lag)
    opens = next_open(problem.closed_ptr, problem.closed_start, problem.closed_end, m, start)
    if opens > start:
        say("waits_open", until=opens)
    others = [x for x in plan.sequence(m).tolist() if x != o]
    before = next((x for x in reversed(others) if plan.start[x] <= start), -1)
    behind = next((x for x in others if plan.start[x] > start), -1)
    if before >= 0 and plan.end[before] > start:
        say("waits_machine", other=before, until=plan.end[before])
    elif before >= 0:
        family = int(problem.op_family[before])
        setup = problem.setup_between(m, family, int(problem.op_family[o]))
        if plan.end[before] + setup > start:
            say("waits_setup", other=before, until=plan.end[before])
            out[-1].params["setup_s"] = setup
    if behind >= 0 and plan.start[behind] < end:
        say("then_before", other=behind, start=plan.start[behind], until=end)
    return tuple(out)


def _priced(
    problem: Problem,
    plan: Plan,
    o: int,
    where: dict[str, Any],
    found: Pinned,
    messages: tuple[Message, ...],
) -> WhyNot:
    """The cost of a plan that was found, beside what stands against it in the present one."""
    before, after = found.before, found.after
    changes = tuple(diff(problem, plan, found.plan))
    params = {
        **where,
        "start_ns": problem.time_ns(int(found.plan.start[o])),
        "tardiness_s": round(after.weighted_tardiness_s - before.weighted_tardiness_s),
        "setup_s": after.setup_s - before.setup_s,
        "objective": round(found.total),
        "changes": len(changes),
    }
    later = (
        Message(id="schedule.why_not_later", params={"job": job, "late_s": by})
        for job, by in found.later[:LATER]
    )
    return WhyNot(
        messages=(*messages, Message(id="schedule.then_cost", params=params), *later),
        before=before,
        after=after,
        plan=found.plan,
        changes=changes,
    )


def _as_early_as_found(
    problem: Problem,
    plan: Plan,
    o: int,
    where: dict[str, Any],
    first: int,
    weights: Weights,
    moves: int,
    before: tuple[Message, ...] = (),
) -> WhyNot:
    """The earliest start that was found: the operation and all that it needs go first on their
    machines; with its price when that is earlier than planned."""
    waits, _ = binding(problem, plan, o)
    planned = int(plan.start[o])
    params = {**where, "start_ns": problem.time_ns(planned)}
    none = Message(id="schedule.then_earliest_already", params=params)
    nothing = WhyNot(messages=(*before, none, *(() if waits in before else (waits,))))
    try:
        trial = right_shift(problem, needs_first(problem, plan, o))
    except InfeasibleError:  # a limit of what goes later cannot be kept then
        return nothing
    soonest = max(int(trial.start[o]), first)
    if soonest > planned - SAME_S:
        return nothing
    pin = Pin(op=where["op"], machine=where["machine"], start_ns=problem.time_ns(soonest))
    found = keep_pins(problem, plan, plan, [pin], weights=weights, moves=moves)
    if found is None:
        return nothing
    start = {**where, "until_ns": problem.time_ns(int(found.plan.start[o]))}
    earliest = Message(id="schedule.then_earliest", params=start)
    said = (*before, earliest) if before else (waits, earliest)
    return _priced(problem, plan, o, where, found, said)
