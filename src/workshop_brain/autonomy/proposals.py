"""What becomes of a computed plan: calmed, judged, recorded, opened for people or put in force."""

from dataclasses import replace

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Announce,
    AskApproval,
    Improve,
    Publish,
    Record,
    StartVetoTimer,
)
from workshop_brain.autonomy.causes import AT_ONCE, URGENT
from workshop_brain.autonomy.envelope import Move, frozen_violations, moves_by_line
from workshop_brain.autonomy.judge import Case, judge, strictest
from workshop_brain.autonomy.record import decision_body, message_body
from workshop_brain.autonomy.state import (
    Computing,
    LoopState,
    Open,
    Planned,
    PlanRef,
)
from workshop_brain.autonomy.turn import Turn, bad_inputs, close, remember, start_computing
from workshop_brain.model.decision import (
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.order import JobState
from workshop_brain.units import NS_PER_S

_WAITING = (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)


def on_proposed(turn: Turn, fact: f.Proposed) -> None:
    computing = turn.state.computing
    if computing is None or computing.token != fact.token:
        return
    turn.set(computing=None)
    fact = _calmed(turn, fact, computing)
    if not fact.options:
        _say_searched(turn, computing)
        return
    option, decision, waits = _judge_options(turn, fact)
    if decision.state is DecisionState.BLOCKED:
        _hold_back(turn, decision, computing, optional=fact.optional)
        return
    is_first = turn.state.reference is None
    if decision.level >= Level.APPROVE and _moves_only_times(turn.state, option):
        _time_anew(turn, decision, option)
        improve(turn, decision, option.plan)
        return
    turn.do(Record(kind="decision", body=decision_body(decision)))
    remember(turn, decision.id, decision.state)
    _supersede_plans(turn, decision.id)
    classes = turn.state.basis_class | {decision.decision_class}
    turn.set(basis=option.plan, last_plan_ns=turn.state.time_ns)
    turn.set(last_plan_wall_ns=turn.state.wall_ns)
    if decision.state is DecisionState.APPROVED:
        approve(turn, decision.id, by="autonomy", reason="")
        put_in_force(turn, decision.id, option.plan, option.moves)
    else:
        turn.set(basis_class=classes)
        _open(turn, decision, option.plan, option.moves, waits)
        if decision.level is not Level.OBSERVE:
            turn.do(Publish(decision=decision.id, plan_hash=option.plan.hash, in_force=False))
    turn.do(Announce(topic="decision", path=decision.id))
    if not is_first and decision.state is DecisionState.APPROVED:
        improve(turn, decision, option.plan)


def improve(turn: Turn, decision: Decision, plan: PlanRef) -> None:
    """Search on from a repair that is in force; one that people still look at stays as it is."""
    if decision.decision_class is DecisionClass.REPAIR and turn.state.computing is None:
        start_computing(turn, "improve", ({"kind": "improve", "of": decision.id},), base=plan.hash)
        turn.do(Improve(token=turn.state.token, decision=decision.id, plan_hash=plan.hash))


def _calmed(turn: Turn, fact: f.Proposed, computing: Computing) -> f.Proposed:
    """The options that are worth a change: all after an urgent event or a clear gain, else only
    those that move no job that was planned before; none when nothing changes at all, but that
    nothing has to change is an answer to an urgent event."""
    reference = turn.state.reference
    if not fact.options or reference is None:
        return fact
    first = fact.options[0]
    kinds = {t["kind"] for t in computing.triggers}
    changes = first.moves or first.plan.index.keys() != reference.index.keys()
    if not changes and not kinds & {k.value for k in URGENT}:
        return replace(fact, options=())
    if kinds & AT_ONCE or _is_clear_gain(turn, fact):
        return fact
    calm = tuple(o for o in fact.options if not any(m.counts for m in o.moves))
    if fact.optional:
        calm = tuple(o for o in calm if _moves_only_times(turn.state, o))
    return replace(fact, options=calm)


def _is_clear_gain(turn: Turn, fact: f.Proposed) -> bool:
    """Whether the first option beats doing nothing new by the margin."""
    if fact.objective_before is None:
        return True
    gain = fact.objective_before - fact.decision.candidates[fact.options[0].chosen].objective
    return gain > turn.config.improve_margin * max(abs(fact.objective_before), 1.0)


def _moves_only_times(state: LoopState, option: f.Option) -> bool:
    """Whether a plan has the units, sequences and jobs of the one in force."""
    if state.in_force is None or any(m.counts for m in option.moves):
        return False
    old, new = state.in_force.index, option.plan.index
    gone = (planned for id, planned in old.items() if id not in new)
    return new.keys() <= old.keys() and all(_is_over(state, planned) for planned in gone)


def _is_over(state: LoopState, planned: Planned) -> bool:
    """Whether a job is missing from a new plan because there is nothing left of it to plan."""
    order = planned.order
    response = state.response(order.work_center, order.id)
    if response is None:
        return order.end_ns <= state.time_ns
    return response.state in (JobState.ENDED, JobState.ABORTED)


def _time_anew(turn: Turn, decision: Decision, option: f.Option) -> None:
    """Same units, same sequences, other times: a forecast, which asks nobody.

    Nothing is done by it that was not approved: jobs keep their units and their order. At
    *observe* and *advise* it is shown like every other plan.
    """
    shift_ns = max((abs(m.to_start_ns - m.from_start_ns) for m in option.moves), default=0)
    by = "forecast"
    params = {"jobs": len(option.moves), "minutes": round(shift_ns / (60 * NS_PER_S))}
    id = "reason.only_times" if option.moves else "reason.nothing_to_do"
    reason = Message(id=id, params=params if option.moves else {})
    kept = tuple(r for r in decision.reasons if not r.id.startswith("judge."))
    timed = replace(decision, state=DecisionState.IN_FORCE, reasons=(*kept, reason))
    turn.do(Record(kind="decision", body=decision_body(timed)))
    _supersede_plans(turn, decision.id)
    approve(turn, decision.id, by=by, reason="")
    turn.set(last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    put_in_force(turn, decision.id, option.plan, option.moves)
    turn.do(Announce(topic="decision", path=decision.id))


def _hold_back(turn: Turn, decision: Decision, computing: Computing, *, optional: bool) -> None:
    """A plan that may not be: said when limits forbid it, kept in mind when inputs are bad."""
    turn.set(last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    is_limit = any(r.id.startswith("envelope.") for r in decision.reasons)
    if optional and not is_limit:
        return
    if bad_inputs(turn, decision.line) is not None:
        turn.set(held=(*turn.state.held, *computing.triggers)[-20:])
    turn.do(Record(kind="decision", body=decision_body(decision)))
    remember(turn, decision.id, decision.state)
    turn.do(Announce(topic="decision", path=decision.id))


def _judge_options(turn: Turn, fact: f.Proposed) -> tuple[f.Option, Decision, bool]:
    """The first option inside the envelope, else the first one, blocked."""
    refused: list[Message] = []
    first: tuple[f.Option, Decision, bool] | None = None
    for option in fact.options:
        case = _case(turn, fact.decision, option)
        verdict = judge(case)
        name = fact.decision.candidates[option.chosen].name
        decision = replace(
            fact.decision,
            chosen=option.chosen,
            changes=option.changes,
            effect=option.effect,
            plan_hash=option.plan.hash,
            bound=option.bound if option.bound is not None else fact.decision.bound,
            level=case.level,
            state=verdict.state,
            reasons=(*fact.decision.reasons, *refused, *verdict.reasons),
        )
        if verdict.state is not DecisionState.BLOCKED:
            return option, decision, verdict.state in _WAITING
        first = first or (option, decision, False)
        if case.blocked is not None:
            break
        refused.append(
            Message(
                id="judge.refused_candidate",
                params={"candidate": name, "why": message_body(verdict.reasons[0])},
            )
        )
    assert first is not None
    return first


def _case(turn: Turn, decision: Decision, option: f.Option) -> Case:
    config, state = turn.config, turn.state
    moves = _near_moves(turn, option.moves)
    touched = {m.line for m in option.moves} | ({decision.line} if decision.line else set())
    lines = frozenset(touched & set(config.lines)) or frozenset(config.lines)
    violations: tuple[Message, ...] = ()
    if state.reference is not None:
        violations = (
            *frozen_violations(
                option.moves,
                now_ns=state.time_ns,
                down_units=frozenset(state.down),
                envelope=config.envelope,
            ),
            *state.budget.violations(moves, state.time_ns, config.envelope),
        )
    return Case(
        decision_class=decision.decision_class,
        line=decision.line,
        level=strictest(
            config.autonomy, state.levels, lines, decision.decision_class, *state.basis_class
        ),
        violations=violations,
        blocked=bad_inputs(turn, decision.line),
        findings=option.findings,
        veto_s=config.autonomy.veto_s,
    )


def _near_moves(turn: Turn, moves: tuple[Move, ...]) -> dict[str, int]:
    """Moves by line that people on the floor will notice soon: these use up the budget."""
    return moves_by_line(moves, until_ns=turn.state.time_ns + turn.config.near_s * NS_PER_S)


def on_nothing_found(turn: Turn, fact: f.NothingFound) -> None:
    computing = turn.state.computing
    if computing is None or computing.token != fact.token:
        return
    # Counted as planned, so that a plan that cannot be made is not tried on every tick.
    turn.set(computing=None, last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    if computing.kind == "improve":
        _say_searched(turn, computing)
    else:
        payload = {"reason": message_body(fact.reason), "triggers": list(computing.triggers)}
        turn.do(Announce(topic="no_plan", path="", payload=payload))


def _say_searched(turn: Turn, computing: Computing) -> None:
    """The search on from a repair found nothing that is worth a change."""
    if computing.kind == "improve":
        turn.do(Announce(topic="searched", path=computing.triggers[0]["of"]))


def _open(
    turn: Turn, decision: Decision, plan: PlanRef, moves: tuple[Move, ...], waits: bool
) -> None:
    if not waits:
        return
    veto = decision.state is DecisionState.WAITING_VETO
    seconds = turn.config.autonomy.veto_s if veto else turn.config.proposal_s
    until = turn.state.wall_ns + round(seconds * NS_PER_S)
    entry = Open(decision=decision, plan=plan, moves=moves, until_wall_ns=until)
    turn.set(open={**turn.state.open, decision.id: entry})
    if veto:
        turn.do(StartVetoTimer(decision=decision.id, until_wall_ns=until))
    else:
        turn.do(AskApproval(decision=decision.id))


def put_in_force(turn: Turn, id: str, plan: PlanRef, moves: tuple[Move, ...]) -> None:
    state = turn.state
    had_plan = state.in_force is not None
    near = _near_moves(turn, moves) if had_plan else {}
    spent = state.budget.spend(near, state.time_ns)
    for old, known in state.states.items():
        if known is DecisionState.IN_FORCE:
            remember(turn, old, DecisionState.SUPERSEDED, by=id)
    remember(turn, id, DecisionState.IN_FORCE)
    turn.set(in_force=plan, in_force_decision=id, basis=plan, basis_class=frozenset(), budget=spent)
    turn.do(Publish(decision=id, plan_hash=plan.hash, in_force=True))


def _supersede_plans(turn: Turn, by: str) -> None:
    for id, entry in turn.state.open.items():
        if entry.plan is not None:
            close(turn, id)
            remember(turn, id, DecisionState.SUPERSEDED, by=by)
            turn.do(Announce(topic="decision", path=id))


def approve(turn: Turn, id: str, *, by: str, reason: str) -> None:
    body = {
        "decision": id,
        "verdict": "approved",
        "by": by,
        "reason": reason,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind="approval", body=body))
    remember(turn, id, DecisionState.APPROVED)
