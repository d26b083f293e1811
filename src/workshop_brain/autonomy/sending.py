"""Job orders out to the receivers and back, as far as gate and release level let them."""

import hashlib
from dataclasses import replace
from typing import Any

from workshop_brain.autonomy.actions import (
    Announce,
    AskApproval,
    Dispatch,
    Record,
    StartVetoTimer,
    Withdraw,
)
from workshop_brain.autonomy.judge import Case, judge, level_of
from workshop_brain.autonomy.record import canonical, decision_body
from workshop_brain.autonomy.release import due, gate
from workshop_brain.autonomy.state import (
    JobPhase,
    JobTrack,
    Open,
)
from workshop_brain.autonomy.turn import Turn, keep_track, remember
from workshop_brain.model.decision import (
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.units import NS_PER_S


def send_due(turn: Turn) -> None:
    """Send what is due, line by line, as far as gate and release level let it."""
    for line in turn.config.lines:
        if gate(turn.config, turn.state, line) is not None:
            continue
        work = due(turn.config, turn.state, line)
        commands = (
            *(("withdraw", job) for job in work.withdraw),
            *(("dispatch", planned.order.id) for planned in work.dispatch),
        )
        if not commands:
            continue
        level = level_of(turn.config.autonomy, turn.state.levels, line, DecisionClass.RELEASE)
        if level is Level.REPORT:
            for verb, job in commands:
                _command(turn, verb, job, turn.state.in_force_decision, is_released=False)
        elif level in (Level.APPROVE, Level.VETO):
            _ask_release(turn, line, level, commands)


def _command(turn: Turn, verb: str, job: str, decision: str, *, is_released: bool) -> None:
    """Record one command and send it; a job's command is recorded before it leaves."""
    state = turn.state
    old = state.tracks.get(job)
    if verb == "withdraw":
        if old is None:
            return
        line = old.order.work_center
        back = {"command": verb, "job": job, "line": line, "decision": decision}
        turn.do(Record(kind="command", body={**back, "time_ns": state.time_ns}))
        going = replace(old, phase=JobPhase.WITHDRAWING, wall_ns=state.wall_ns)
        keep_track(turn, replace(going, is_released=is_released))
        turn.do(Withdraw(line=line, job=job, decision=decision))
        return
    assert state.in_force is not None
    order = state.in_force.index[job].order
    attempt = old.attempt + 1 if old is not None else 1
    body: dict[str, Any] = {
        "command": verb,
        "job": job,
        "line": order.work_center,
        "receiver": turn.config.receivers.get(order.work_center, ""),
        "equipment": order.equipment,
        "start_ns": order.start_ns,
        "end_ns": order.end_ns,
        "quantity": order.quantity,
        "program": order.program,
        "decision": decision,
        "attempt": attempt,
        "time_ns": state.time_ns,
    }
    turn.do(Record(kind="command", body=body))
    keep_track(
        turn,
        JobTrack(
            order=order,
            decision=decision,
            phase=JobPhase.COMMANDED,
            attempt=attempt,
            wall_ns=state.wall_ns,
            is_released=is_released,
        ),
    )
    turn.do(Dispatch(line=order.work_center, job=order, decision=decision, attempt=attempt))


def _ask_release(
    turn: Turn, line: str, level: Level, commands: tuple[tuple[str, str], ...]
) -> None:
    """One release decision per line at a time, for all that is due there now."""
    state = turn.state
    for entry in state.open.values():
        if entry.decision.decision_class is DecisionClass.RELEASE and entry.decision.line == line:
            return
    assert state.in_force is not None
    turn.set(releases=state.releases + 1)
    inputs = {"plan": state.in_force.hash, "commands": [list(c) for c in commands]}
    veto = level is Level.VETO
    decision = Decision(
        id=f"R{state.time_ns // 1_000_000}-{line}-{state.releases + 1}",
        time_ns=state.time_ns,
        decision_class=DecisionClass.RELEASE,
        line=line,
        trigger={"kind": "release_due", "path": line, "time_ns": state.time_ns, **inputs},
        input_hash=hashlib.sha256(canonical(inputs)).hexdigest(),
        seed=0,
        iterations=0,
        candidates=(),
        chosen=-1,
        reasons=(
            Message(id="release.due", params={"line": line, "jobs": len(commands)}),
            *judge(
                Case(
                    decision_class=DecisionClass.RELEASE,
                    line=line,
                    level=level,
                    veto_s=turn.config.autonomy.veto_s,
                )
            ).reasons,
        ),
        changes=(),
        effect={},
        level=level,
        state=DecisionState.WAITING_VETO if veto else DecisionState.WAITING_APPROVAL,
        plan_hash=state.in_force.hash,
    )
    turn.do(Record(kind="decision", body=decision_body(decision)))
    remember(turn, decision.id, decision.state)
    seconds = turn.config.autonomy.veto_s if veto else turn.config.proposal_s
    until = state.wall_ns + round(seconds * NS_PER_S)
    entry = Open(decision=decision, plan=None, moves=(), until_wall_ns=until, commands=commands)
    turn.set(open={**turn.state.open, decision.id: entry})
    if veto:
        turn.do(StartVetoTimer(decision=decision.id, until_wall_ns=until))
    else:
        turn.do(AskApproval(decision=decision.id))
    turn.do(Announce(topic="decision", path=decision.id))


def send_approved(turn: Turn, id: str, entry: Open) -> None:
    """Carry out an approved release, as far as the plan still asks for it."""
    line = entry.decision.line
    if gate(turn.config, turn.state, line) is not None:
        return
    work = due(turn.config, turn.state, line)
    wanted = {("withdraw", job) for job in work.withdraw}
    wanted |= {("dispatch", planned.order.id) for planned in work.dispatch}
    for verb, job in entry.commands:
        if (verb, job) in wanted:
            _command(turn, verb, job, id, is_released=True)
