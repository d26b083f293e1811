"""What people say, and what happens when they say nothing: approvals, vetoes, levels, switches."""

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Announce,
    Publish,
    Record,
)
from workshop_brain.autonomy.judge import strictest
from workshop_brain.autonomy.proposals import approve, improve, put_in_force
from workshop_brain.autonomy.sending import send_approved
from workshop_brain.autonomy.state import (
    Open,
    PlanRef,
)
from workshop_brain.autonomy.turn import Turn, bad_inputs, cause, close, remember, want
from workshop_brain.errors import NotAllowedError
from workshop_brain.model.decision import (
    DecisionState,
    Level,
)


def on_approved(turn: Turn, fact: f.Approved) -> None:
    entry = _must_be_open(turn, fact.decision)
    approve(turn, fact.decision, by=fact.user, reason=fact.reason)
    _carry_out(turn, fact.decision, entry)


def _carry_out(turn: Turn, id: str, entry: Open) -> None:
    close(turn, id)
    if entry.plan is not None:
        put_in_force(turn, id, entry.plan, entry.moves)
        improve(turn, entry.decision, entry.plan)
    else:
        send_approved(turn, id, entry)
    turn.do(Announce(topic="decision", path=id))


def on_rejected(turn: Turn, fact: f.Rejected) -> None:
    _refuse(turn, fact.decision, "approval", "rejected", fact.user, fact.reason)


def on_vetoed(turn: Turn, fact: f.Vetoed) -> None:
    entry = _must_be_open(turn, fact.decision)
    if entry.decision.state is not DecisionState.WAITING_VETO:
        raise NotAllowedError(
            f"decision {fact.decision!r} waits for approval, not for a veto; reject it instead"
        )
    _refuse(turn, fact.decision, "veto", "vetoed", fact.user, fact.reason)


def _refuse(turn: Turn, id: str, kind: str, verdict: str, user: str, reason: str) -> None:
    entry = _must_be_open(turn, id)
    body = {
        "decision": id,
        "verdict": verdict,
        "by": user,
        "reason": reason,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind=kind, body=body))
    close(turn, id)
    remember(turn, id, DecisionState.REJECTED)
    if entry.plan is not None:
        # Back to the plan that people agreed to; what was computing stood on the refused one.
        computing = turn.state.computing
        stale = computing is not None and computing.kind == "improve"
        if _leaves_jobs_out(turn, entry.plan):
            # Orders that the refused plan took in stand nowhere now: they are planned again soon.
            want(turn, cause("orders_changed", turn.state.time_ns, ""))
        turn.set(
            basis=turn.state.in_force,
            basis_class=frozenset(),
            computing=None if stale else computing,
        )
        if turn.state.in_force is not None:
            plan = turn.state.in_force
            turn.do(
                Publish(decision=turn.state.in_force_decision, plan_hash=plan.hash, in_force=True)
            )
    turn.do(Announce(topic="decision", path=id))


def _leaves_jobs_out(turn: Turn, refused: PlanRef) -> bool:
    in_force = turn.state.in_force
    return in_force is None or bool(refused.index.keys() - in_force.index.keys())


def _must_be_open(turn: Turn, id: str) -> Open:
    entry = turn.state.open.get(id)
    if entry is not None:
        return entry
    state = turn.state.states.get(id)
    if state is None:
        raise NotAllowedError(f"decision {id!r} is not known; see the list of decisions")
    by = turn.state.replaced_by.get(id)
    hint = f"; {by!r} took its place" if by else ""
    raise NotAllowedError(f"decision {id!r} does not wait: it is {state.value}{hint}")


def on_level_set(turn: Turn, fact: f.LevelSet) -> None:
    _must_be_line(turn, fact.line)
    body = {
        "line": fact.line,
        "class": fact.decision_class.value,
        "level": fact.level.name.lower(),
        "by": fact.user,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind="level", body=body))
    turn.set(levels={**turn.state.levels, (fact.line, fact.decision_class): fact.level})
    turn.do(Announce(topic="level", path=fact.line, payload=body))


def on_switch_set(turn: Turn, fact: f.SwitchSet) -> None:
    _must_be_line(turn, fact.line)
    turn.set(switches={**turn.state.switches, fact.line: fact.on})
    body = {"line": fact.line, "on": fact.on, "by": fact.user, "time_ns": turn.state.time_ns}
    turn.do(Record(kind="switch", body=body))
    turn.do(Announce(topic="switch", path=fact.line, payload=body))


def _must_be_line(turn: Turn, line: str) -> None:
    if line not in turn.config.lines:
        known = ", ".join(turn.config.lines)
        raise NotAllowedError(f"no line {line!r}; known are {known}")


def on_recording(turn: Turn, fact: f.Recording) -> None:
    if turn.state.is_recording and fact.why:
        body = {"why": fact.why, "time_ns": turn.state.time_ns}
        turn.do(Record(kind="outage", body=body))
    turn.set(is_recording=not fact.why)


def expire(turn: Turn) -> None:
    for id, entry in turn.state.open.items():
        if turn.state.wall_ns < entry.until_wall_ns:
            continue
        if entry.decision.state is DecisionState.WAITING_VETO:
            _end_veto_time(turn, id, entry)
            continue
        close(turn, id)
        remember(turn, id, DecisionState.SUPERSEDED)
        turn.do(Announce(topic="decision", path=id))
        if entry.plan is not None:
            turn.set(basis=turn.state.in_force, basis_class=frozenset())
            want(turn, cause("proposal_expired", turn.state.time_ns, id))


def _end_veto_time(turn: Turn, id: str, entry: Open) -> None:
    """Nobody vetoed: act, unless the inputs went bad or the level was lowered meanwhile."""
    line = entry.decision.line
    if bad_inputs(turn, line) is not None:
        return
    config, state = turn.config, turn.state
    lines = frozenset(m.line for m in entry.moves) | ({line} if line else frozenset())
    lines = (lines & set(config.lines)) or frozenset(config.lines)
    kind = entry.decision.decision_class
    if strictest(config.autonomy, state.levels, lines, kind) < Level.VETO:
        close(turn, id)
        remember(turn, id, DecisionState.SUPERSEDED)
        turn.do(Announce(topic="decision", path=id))
        if entry.plan is not None:
            turn.set(basis=state.in_force, basis_class=frozenset())
            want(turn, cause("level_lowered", state.time_ns, id))
        return
    approve(turn, id, by="veto_time_over", reason="")
    _carry_out(turn, id, entry)
