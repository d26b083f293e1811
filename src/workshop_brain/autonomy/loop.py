"""The decision loop: ``step(config, state, fact) -> (state, actions)``, pure.

It reads no clock and does no input or output. Actions come in the order in which they must be
carried out; a ``Record`` always stands before the act that it allows.
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Action,
    Announce,
    AskApproval,
    Build,
    Dispatch,
    Improve,
    Publish,
    React,
    ReadBack,
    Record,
    StartVetoTimer,
    Withdraw,
)
from workshop_brain.autonomy.envelope import Move, frozen_violations, moves_by_line
from workshop_brain.autonomy.judge import Case, judge, level_of, strictest
from workshop_brain.autonomy.record import canonical, decision_body, message_body
from workshop_brain.autonomy.release import due, gate, is_running
from workshop_brain.autonomy.state import (
    Computing,
    JobPhase,
    JobTrack,
    LoopConfig,
    LoopState,
    Open,
    PlanRef,
    Source,
    blocked_lines,
    gap_hold_ns,
)
from workshop_brain.errors import NotAllowedError
from workshop_brain.model.decision import (
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.event import EventKind
from workshop_brain.model.order import JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation
from workshop_brain.units import NS_PER_S

URGENT = frozenset(
    {
        EventKind.BREAKDOWN, EventKind.RESTORED, EventKind.QUALITY_STOP,
        EventKind.OPERATOR_ABSENT, EventKind.OPERATOR_BACK, EventKind.RUSH_ORDER,
        EventKind.LATE_FINISH, EventKind.LATE_MATERIAL,
    }
)  # fmt: skip
_DOWN = frozenset({EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT})
_UP = frozenset({EventKind.RESTORED, EventKind.OPERATOR_BACK})
_RECENT = 500
_HOLD_S = 60.0
_WAITING = (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)


@dataclass(slots=True)
class _Turn:
    """One step under way: the state so far and the actions so far."""

    config: LoopConfig
    state: LoopState
    actions: list[Action] = field(default_factory=list)

    def set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def do(self, *actions: Action) -> None:
        self.actions.extend(actions)


def step(
    config: LoopConfig, state: LoopState, fact: f.Fact
) -> tuple[LoopState, tuple[Action, ...]]:
    """The state after a fact, and what must be done because of it, in order.

    Raises
    ------
    NotAllowedError
        A person asks for what cannot be done (an unknown or closed decision, an unknown line);
        the state does not change.
    """
    turn = _Turn(config, state)
    turn.set(time_ns=max(state.time_ns, fact.time_ns), wall_ns=max(state.wall_ns, fact.wall_ns))
    _HANDLERS[type(fact)](turn, fact)
    _watch_inputs(turn)
    _expire(turn)
    _compute(turn)
    _release(turn)
    return turn.state, tuple(turn.actions)


def may_send(config: LoopConfig, state: LoopState, line: str, job: str) -> bool:
    """Whether a command decided a moment ago may still leave: asked right before the sending."""
    track = state.tracks.get(job)
    return (
        track is not None
        and track.phase in (JobPhase.COMMANDED, JobPhase.WITHDRAWING)
        and gate(config, state, line) is None
        and level_of(config.autonomy, state.levels, line, DecisionClass.RELEASE) >= Level.APPROVE
    )


# --- what happens -----------------------------------------------------------------------------


def _tick(turn: _Turn, fact: f.Tick) -> None:
    state = turn.state
    if state.last_plan_wall_ns == 0:
        turn.set(last_plan_ns=state.time_ns, last_plan_wall_ns=state.wall_ns)
        _want(turn, _trigger("start", state.time_ns, ""))
    _watch_stations(turn)
    _notice_lateness(turn)
    config, state = turn.config, turn.state
    waits = any(o.plan is not None for o in state.open.values())
    if (
        not waits
        and state.computing is None
        and not state.pending
        and state.time_ns - state.last_plan_ns >= config.replan_s * NS_PER_S
        and state.wall_ns - state.last_plan_wall_ns >= config.replan_wall_s * NS_PER_S
    ):
        _want(turn, _trigger("periodic", state.time_ns, ""))


def _happened(turn: _Turn, fact: f.Happened) -> None:
    event = fact.event
    if event.kind in (EventKind.SOURCE_LOST, EventKind.SOURCE_UP, EventKind.GAP):
        _source_event(turn, event.kind, event.path)
        return
    if event.kind in _DOWN | _UP:
        if event.path not in turn.config.units:
            _station(turn, event.path, event.time_ns, is_down=event.kind in _DOWN)
            return
        _set_down(turn, event.path, event.kind.value if event.kind in _DOWN else "")
    if event.kind in URGENT or event.kind is EventKind.ORDERS_CHANGED:
        _want(turn, _trigger(event.kind.value, event.time_ns, event.path, **event.payload))


def _set_down(turn: _Turn, unit: str, why: str) -> None:
    down = {k: v for k, v in turn.state.down.items() if k != unit}
    turn.set(down={**down, unit: why} if why else down)


def _station(turn: _Turn, path: str, time_ns: int, *, is_down: bool) -> None:
    """A station of a flow line: its short stops are the line's daily life, long ones stop it."""
    line = _line_of(path)
    if line not in turn.config.flow_units:
        return
    since = turn.state.stations.get(path, 0)
    stations = {k: v for k, v in turn.state.stations.items() if k != path}
    if is_down:
        turn.set(stations={**stations, path: since or time_ns})
        return
    turn.set(stations=stations)
    if since < 0 and not any(v < 0 and _line_of(k) == line for k, v in stations.items()):
        unit = turn.config.flow_units[line]
        _set_down(turn, unit, "")
        _want(turn, _trigger("restored", time_ns, unit, station=path))


def _watch_stations(turn: _Turn) -> None:
    limit = turn.config.station_s * NS_PER_S
    for path, since in turn.state.stations.items():
        if since < 0 or turn.state.time_ns - since < limit:
            continue
        unit = turn.config.flow_units[_line_of(path)]
        turn.set(stations={**turn.state.stations, path: -since})
        if unit not in turn.state.down:
            _set_down(turn, unit, EventKind.BREAKDOWN.value)
            _want(turn, _trigger("breakdown", turn.state.time_ns, unit, station=path))


def _line_of(path: str) -> str:
    """Line part of ``enterprise/site/area/line/cell/unit``."""
    parts = path.split("/")
    return parts[3] if len(parts) > 3 else ""


def _trigger(kind: str, time_ns: int, path: str, **payload: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": kind, "time_ns": time_ns, "path": path}
    return {**out, "payload": payload} if payload else out


def _source_event(turn: _Turn, kind: EventKind, name: str) -> None:
    source = turn.state.sources.get(name, Source())
    if kind is EventKind.SOURCE_LOST:
        source = replace(source, is_up=False)
    elif kind is EventKind.SOURCE_UP:
        source = replace(source, is_up=True, age_s=0.0)
    else:
        source = replace(source, gap_until_ns=turn.state.wall_ns + gap_hold_ns(turn.config))
    turn.set(sources={**turn.state.sources, name: source})


def _sources_seen(turn: _Turn, fact: f.SourcesSeen) -> None:
    known = dict(turn.state.sources)
    for name, age_s in fact.ages.items():
        known[name] = replace(known.get(name, Source()), age_s=age_s)
    turn.set(sources=known)


def _lines_fed(turn: _Turn, fact: f.LinesFed) -> None:
    turn.set(feeds=dict(fact.sources))


def _resumed(turn: _Turn, fact: f.Resumed) -> None:
    turn.set(
        levels=dict(fact.levels),
        switches=dict(fact.switches),
        tracks=dict(fact.tracks),
        in_force=fact.in_force,
        basis=fact.in_force,
    )


# --- the floor answers ------------------------------------------------------------------------


def _jobs_listed(turn: _Turn, fact: f.JobsListed) -> None:
    before = turn.state.listed.get(fact.line, {})
    now = {r.job: r for r in fact.jobs}
    turn.set(listed={**turn.state.listed, fact.line: now})
    tracks = {**_adopted(turn, fact), **turn.state.tracks}
    for job, track in turn.state.tracks.items():
        if track.order.work_center != fact.line:
            continue
        tracks[job] = _read_back(turn, track, now.get(job))
        was, response = before.get(job), now.get(job)
        if response is not None and (was is None or was.state is not response.state):
            _outcome(turn, track, response)
    turn.set(tracks=tracks)


def _adopted(turn: _Turn, fact: f.JobsListed) -> dict[str, JobTrack]:
    """Waiting jobs that the brain did not send (or forgot it did) count as sent and confirmed."""
    waiting = {r.job for r in fact.jobs if r.state is JobState.ALLOWED_TO_START}
    return {
        order.id: JobTrack(
            order=order, decision="", phase=JobPhase.CONFIRMED, wall_ns=turn.state.wall_ns
        )
        for order in fact.orders
        if order.id in waiting and order.id not in turn.state.tracks
    }


def _read_back(turn: _Turn, track: JobTrack, response: JobResponse | None) -> JobTrack:
    """What a complete list says of a job whose command had no clear end."""
    if track.phase is not JobPhase.UNCONFIRMED:
        return track
    if response is None:
        return replace(track, absent=track.absent + 1)
    if response.state in (JobState.PLANNED, JobState.NOT_ALLOWED_TO_START):
        return replace(track, absent=2)
    body = {
        "job": track.order.id,
        "outcome": CommandOutcome.CONFIRMED.value,
        "by": "read_back",
        "state": response.state.value,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind="confirmation", body=body))
    return replace(track, phase=JobPhase.CONFIRMED, absent=0)


def _outcome(turn: _Turn, track: JobTrack, response: JobResponse) -> None:
    """Compare what was planned with what happened, once at each end."""
    if response.state not in (JobState.ENDED, JobState.ABORTED):
        return
    if track.phase in (JobPhase.WITHDRAWING, JobPhase.WITHDRAWN):
        return
    order = track.order
    body = {
        "job": order.id,
        "decision": track.decision,
        "state": response.state.value,
        "equipment": response.equipment or order.equipment,
        "planned_start_ns": order.start_ns,
        "planned_end_ns": order.end_ns,
        "start_ns": response.start_ns,
        "end_ns": response.end_ns,
        "good": response.good,
        "scrap": response.scrap,
        "late_s": (response.end_ns - order.end_ns) / NS_PER_S if response.end_ns else None,
    }
    turn.do(Record(kind="outcome", body=body), Announce(topic="outcome", path=order.id))


def _confirmed(turn: _Turn, fact: f.Confirmed) -> None:
    job = fact.confirmation.job
    track = turn.state.tracks.get(job)
    _record_confirmation(turn, fact.line, "dispatch", fact.confirmation)
    if track is None:
        return
    phase = {
        CommandOutcome.CONFIRMED: JobPhase.CONFIRMED,
        CommandOutcome.REJECTED: JobPhase.REJECTED,
        CommandOutcome.UNCONFIRMED: JobPhase.UNCONFIRMED,
    }[fact.confirmation.outcome]
    _track(turn, replace(track, phase=phase, absent=0, wall_ns=turn.state.wall_ns))
    if phase is JobPhase.CONFIRMED and fact.confirmation.read_back is not None:
        _list_one(turn, fact.line, fact.confirmation.read_back)
    elif phase is JobPhase.UNCONFIRMED:
        turn.do(ReadBack(line=fact.line))


def _withdrawn(turn: _Turn, fact: f.Withdrawn) -> None:
    job = fact.confirmation.job
    track = turn.state.tracks.get(job)
    _record_confirmation(turn, fact.line, "withdraw", fact.confirmation)
    if track is None:
        return
    if fact.confirmation.outcome is CommandOutcome.CONFIRMED:
        _track(turn, replace(track, phase=JobPhase.WITHDRAWN, absent=0, attempt=0))
        listed = {k: v for k, v in turn.state.listed.get(fact.line, {}).items() if k != job}
        turn.set(listed={**turn.state.listed, fact.line: listed})
        return
    # Not taken back: it is at the receiver, running perhaps; the next job lists tell.
    is_open = fact.confirmation.outcome is CommandOutcome.UNCONFIRMED
    phase = JobPhase.UNCONFIRMED if is_open else JobPhase.CONFIRMED
    wall_ns = turn.state.wall_ns
    hold_ns = wall_ns + round(_HOLD_S * NS_PER_S)
    _track(turn, replace(track, phase=phase, absent=0, wall_ns=wall_ns, hold_ns=hold_ns))
    if fact.confirmation.read_back is not None:
        _list_one(turn, fact.line, fact.confirmation.read_back)
    turn.do(ReadBack(line=fact.line))


def _withheld(turn: _Turn, fact: f.Withheld) -> None:
    track = turn.state.tracks.get(fact.job)
    if track is None:
        return
    line = track.order.work_center
    reason = gate(turn.config, turn.state, line)
    body = {
        "job": fact.job,
        "outcome": "withheld",
        "time_ns": turn.state.time_ns,
        "reason": message_body(reason) if reason else None,
    }
    turn.do(Record(kind="confirmation", body=body))
    if track.phase is JobPhase.COMMANDED:
        tracks = {k: v for k, v in turn.state.tracks.items() if k != fact.job}
        turn.set(tracks=tracks)
    else:
        _track(turn, replace(track, phase=JobPhase.CONFIRMED))


def _record_confirmation(turn: _Turn, line: str, verb: str, answer: Confirmation) -> None:
    read_back = answer.read_back
    body = {
        "job": answer.job,
        "line": line,
        "command": verb,
        "outcome": answer.outcome.value,
        "by": "command",
        "state": read_back.state.value if read_back else None,
        "message": answer.message,
        "steps_ms": [[name, round(ms, 3)] for name, ms in answer.steps],
        "time_ns": turn.state.time_ns,
    }
    turn.do(
        Record(kind="confirmation", body=body),
        Announce(topic="command", path=answer.job, payload=body),
    )


def _list_one(turn: _Turn, line: str, response: JobResponse) -> None:
    listed = {**turn.state.listed.get(line, {}), response.job: response}
    turn.set(listed={**turn.state.listed, line: listed})


def _track(turn: _Turn, track: JobTrack) -> None:
    turn.set(tracks={**turn.state.tracks, track.order.id: track})


# --- plans ------------------------------------------------------------------------------------


def _proposed(turn: _Turn, fact: f.Proposed) -> None:
    computing = turn.state.computing
    if computing is None or computing.token != fact.token:
        return
    turn.set(computing=None)
    if not fact.options or not _is_worth_it(turn, fact):
        return
    option, decision, waits = _judge_options(turn, fact)
    if fact.optional and decision.state is DecisionState.BLOCKED:
        return
    turn.do(Record(kind="decision", body=decision_body(decision)))
    _remember(turn, decision.id, decision.state)
    if decision.state is DecisionState.BLOCKED:
        turn.do(Announce(topic="decision", path=decision.id))
        return
    _supersede_plans(turn, decision.id)
    classes = turn.state.basis_class | {decision.decision_class}
    turn.set(basis=option.plan, last_plan_ns=turn.state.time_ns)
    turn.set(last_plan_wall_ns=turn.state.wall_ns)
    if decision.state is DecisionState.APPROVED:
        _approve(turn, decision.id, by="autonomy", reason="")
        _put_in_force(turn, decision.id, option.plan, option.moves)
    else:
        turn.set(basis_class=classes)
        _open(turn, decision, option.plan, option.moves, waits)
        if decision.level is not Level.OBSERVE:
            turn.do(Publish(decision=decision.id, plan_hash=option.plan.hash, in_force=False))
    turn.do(Announce(topic="decision", path=decision.id))
    if decision.decision_class is not DecisionClass.IMPROVE:
        _start(turn, "improve", ({"kind": "improve", "of": decision.id},), base=option.plan.hash)
        turn.do(Improve(token=turn.state.token, decision=decision.id, plan_hash=option.plan.hash))


def _is_worth_it(turn: _Turn, fact: f.Proposed) -> bool:
    """A plan that changes nothing is none; optional ones must beat the old one by the margin."""
    if turn.state.basis is not None and not fact.options[0].moves:
        return fact.options[0].plan.index.keys() != turn.state.basis.index.keys()
    if not fact.optional or fact.objective_before is None:
        return True
    objective = fact.decision.candidates[fact.options[0].chosen].objective
    gain = fact.objective_before - objective
    return gain > turn.config.improve_margin * max(abs(fact.objective_before), 1.0)


def _judge_options(turn: _Turn, fact: f.Proposed) -> tuple[f.Option, Decision, bool]:
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


def _case(turn: _Turn, decision: Decision, option: f.Option) -> Case:
    config, state = turn.config, turn.state
    moves = moves_by_line(option.moves)
    touched = {m.line for m in option.moves} | ({decision.line} if decision.line else set())
    lines = frozenset(touched & set(config.lines)) or frozenset(config.lines)
    first_plan = state.basis is None
    violations: tuple[Message, ...] = ()
    if not first_plan:
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
        blocked=_blocked_case(turn, decision.line),
        findings=option.findings,
        veto_s=config.autonomy.veto_s,
    )


def _blocked_case(turn: _Turn, line: str) -> Message | None:
    """A plan is as good as what it was made from: its line's inputs, or any when it has none."""
    blocked = turn.state.blocked
    if line:
        return blocked.get(line)
    if len(blocked) == len(turn.config.lines) and blocked:
        return next(iter(blocked.values()))
    return None


def _nothing_found(turn: _Turn, fact: f.NothingFound) -> None:
    computing = turn.state.computing
    if computing is None or computing.token != fact.token:
        return
    # Counted as planned, so that a plan that cannot be made is not tried on every tick.
    turn.set(computing=None, last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    if computing.kind != "improve":
        payload = {"reason": message_body(fact.reason), "triggers": list(computing.triggers)}
        turn.do(Announce(topic="no_plan", path="", payload=payload))


def _open(
    turn: _Turn, decision: Decision, plan: PlanRef, moves: tuple[Move, ...], waits: bool
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


def _put_in_force(turn: _Turn, id: str, plan: PlanRef, moves: tuple[Move, ...]) -> None:
    state = turn.state
    had_plan = state.in_force is not None
    spent = state.budget.spend(moves_by_line(moves), state.time_ns) if had_plan else state.budget
    for old, known in state.states.items():
        if known is DecisionState.IN_FORCE:
            _remember(turn, old, DecisionState.SUPERSEDED, by=id)
    _remember(turn, id, DecisionState.IN_FORCE)
    turn.set(in_force=plan, in_force_decision=id, basis=plan, basis_class=frozenset(), budget=spent)
    turn.do(Publish(decision=id, plan_hash=plan.hash, in_force=True))


def _supersede_plans(turn: _Turn, by: str) -> None:
    for id, entry in turn.state.open.items():
        if entry.plan is not None:
            _close(turn, id)
            _remember(turn, id, DecisionState.SUPERSEDED, by=by)
            turn.do(Announce(topic="decision", path=id))


def _close(turn: _Turn, id: str) -> None:
    turn.set(open={k: v for k, v in turn.state.open.items() if k != id})


def _remember(turn: _Turn, id: str, state: DecisionState, by: str = "") -> None:
    states = {**turn.state.states, id: state}
    if len(states) > _RECENT:
        states.pop(next(iter(states)))
    turn.set(states=states)
    if by:
        replaced = {**turn.state.replaced_by, id: by}
        if len(replaced) > _RECENT:
            replaced.pop(next(iter(replaced)))
        turn.set(replaced_by=replaced)


# --- people -----------------------------------------------------------------------------------


def _approved(turn: _Turn, fact: f.Approved) -> None:
    entry = _must_be_open(turn, fact.decision)
    _approve(turn, fact.decision, by=fact.user, reason=fact.reason)
    _carry_out(turn, fact.decision, entry)


def _approve(turn: _Turn, id: str, *, by: str, reason: str) -> None:
    body = {
        "decision": id,
        "verdict": "approved",
        "by": by,
        "reason": reason,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind="approval", body=body))
    _remember(turn, id, DecisionState.APPROVED)


def _carry_out(turn: _Turn, id: str, entry: Open) -> None:
    _close(turn, id)
    if entry.plan is not None:
        _put_in_force(turn, id, entry.plan, entry.moves)
    else:
        _command_open(turn, id, entry)
    turn.do(Announce(topic="decision", path=id))


def _rejected(turn: _Turn, fact: f.Rejected) -> None:
    _refuse(turn, fact.decision, "approval", "rejected", fact.user, fact.reason)


def _vetoed(turn: _Turn, fact: f.Vetoed) -> None:
    entry = _must_be_open(turn, fact.decision)
    if entry.decision.state is not DecisionState.WAITING_VETO:
        raise NotAllowedError(
            f"decision {fact.decision!r} waits for approval, not for a veto; reject it instead"
        )
    _refuse(turn, fact.decision, "veto", "vetoed", fact.user, fact.reason)


def _refuse(turn: _Turn, id: str, kind: str, verdict: str, user: str, reason: str) -> None:
    entry = _must_be_open(turn, id)
    body = {
        "decision": id,
        "verdict": verdict,
        "by": user,
        "reason": reason,
        "time_ns": turn.state.time_ns,
    }
    turn.do(Record(kind=kind, body=body))
    _close(turn, id)
    _remember(turn, id, DecisionState.REJECTED)
    if entry.plan is not None:
        # Back to the plan that people agreed to; what was computing stood on the refused one.
        computing = turn.state.computing
        stale = computing is not None and computing.kind == "improve"
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


def _must_be_open(turn: _Turn, id: str) -> Open:
    entry = turn.state.open.get(id)
    if entry is not None:
        return entry
    state = turn.state.states.get(id)
    if state is None:
        raise NotAllowedError(f"decision {id!r} is not known; see the list of decisions")
    by = turn.state.replaced_by.get(id)
    hint = f"; {by!r} took its place" if by else ""
    raise NotAllowedError(f"decision {id!r} does not wait: it is {state.value}{hint}")


def _level_set(turn: _Turn, fact: f.LevelSet) -> None:
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


def _switch_set(turn: _Turn, fact: f.SwitchSet) -> None:
    _must_be_line(turn, fact.line)
    turn.set(switches={**turn.state.switches, fact.line: fact.on})
    body = {"line": fact.line, "on": fact.on, "by": fact.user, "time_ns": turn.state.time_ns}
    turn.do(Record(kind="switch", body=body))
    turn.do(Announce(topic="switch", path=fact.line, payload=body))


def _must_be_line(turn: _Turn, line: str) -> None:
    if line not in turn.config.lines:
        known = ", ".join(turn.config.lines)
        raise NotAllowedError(f"no line {line!r}; known are {known}")


# --- after every fact -------------------------------------------------------------------------


def _watch_inputs(turn: _Turn) -> None:
    before, now = turn.state.blocked, blocked_lines(turn.config, turn.state)
    if now == before:
        return
    turn.set(blocked=now)
    for line in sorted(now.keys() - before.keys()):
        turn.do(Announce(topic="blocked", path=line, payload=message_body(now[line])))
    freed = sorted(before.keys() - now.keys())
    for line in freed:
        turn.do(Announce(topic="free", path=line))
    if freed and turn.state.last_plan_wall_ns:
        trigger = _trigger("inputs_restored", turn.state.time_ns, freed[0])
        _want(turn, trigger)


def _expire(turn: _Turn) -> None:
    for id, entry in turn.state.open.items():
        if turn.state.wall_ns < entry.until_wall_ns:
            continue
        if entry.decision.state is DecisionState.WAITING_VETO:
            _end_veto_time(turn, id, entry)
            continue
        _close(turn, id)
        _remember(turn, id, DecisionState.SUPERSEDED)
        turn.do(Announce(topic="decision", path=id))
        if entry.plan is not None:
            turn.set(basis=turn.state.in_force, basis_class=frozenset())
            _want(turn, _trigger("proposal_expired", turn.state.time_ns, id))


def _end_veto_time(turn: _Turn, id: str, entry: Open) -> None:
    """Nobody vetoed: act, unless the inputs went bad or the level was lowered meanwhile."""
    line = entry.decision.line
    if _blocked_case(turn, line) is not None:
        return
    config, state = turn.config, turn.state
    lines = frozenset(m.line for m in entry.moves) | ({line} if line else frozenset())
    lines = (lines & set(config.lines)) or frozenset(config.lines)
    kind = entry.decision.decision_class
    if strictest(config.autonomy, state.levels, lines, kind) < Level.VETO:
        _close(turn, id)
        _remember(turn, id, DecisionState.SUPERSEDED)
        turn.do(Announce(topic="decision", path=id))
        if entry.plan is not None:
            turn.set(basis=state.in_force, basis_class=frozenset())
            _want(turn, _trigger("level_lowered", state.time_ns, id))
        return
    _approve(turn, id, by="veto_time_over", reason="")
    _carry_out(turn, id, entry)


def _want(turn: _Turn, trigger: dict[str, Any]) -> None:
    same = (trigger["kind"], trigger["path"])
    if any((t["kind"], t["path"]) == same for t in turn.state.pending):
        return
    turn.set(pending=(*turn.state.pending, trigger))


def _compute(turn: _Turn) -> None:
    """Start the computation that the waiting triggers ask for; a search gives way to it."""
    state = turn.state
    if not state.pending or (state.computing is not None and state.computing.kind != "improve"):
        return
    triggers = state.pending
    kinds = {t["kind"] for t in triggers}
    turn.set(pending=())
    urgent = kinds & {k.value for k in URGENT}
    if urgent and state.basis is not None:
        _start(turn, "react", triggers)
        turn.do(React(token=turn.state.token, triggers=triggers))
    else:
        optional = kinds == {"periodic"} and state.basis is not None
        _start(turn, "build", triggers)
        turn.do(Build(token=turn.state.token, triggers=triggers, optional=optional))


def _start(turn: _Turn, kind: str, triggers: tuple[dict[str, Any], ...], base: str = "") -> None:
    token = turn.state.token + 1
    turn.set(token=token, computing=Computing(token=token, kind=kind, triggers=triggers, base=base))


def _notice_lateness(turn: _Turn) -> None:
    """Jobs that run over, or wait for material, become events once for each planned end."""
    state, config = turn.state, turn.config
    if state.in_force is None:
        return
    for planned in state.in_force.jobs:
        order = planned.order
        key = (order.id, order.end_ns)
        slack = max(config.late_s * NS_PER_S, (order.end_ns - order.start_ns) // 10)
        if key in turn.state.noticed or state.time_ns < order.start_ns + slack:
            continue
        response = state.response(order.work_center, order.id)
        begun = is_running(response)
        if begun and response is not None and response.state is JobState.RUNNING:
            if state.time_ns < order.end_ns + slack:
                continue
            kind = EventKind.LATE_FINISH
        elif not begun and any(not _is_ended(state, j) for j in planned.after):
            kind = EventKind.LATE_MATERIAL
        else:
            continue
        turn.set(noticed=frozenset([*list(turn.state.noticed)[-_RECENT:], key]))
        _want(turn, _trigger(kind.value, state.time_ns, order.equipment, job=order.id))


def _is_ended(state: LoopState, job: str) -> bool:
    return any(jobs[job].state is JobState.ENDED for jobs in state.listed.values() if job in jobs)


# --- release ----------------------------------------------------------------------------------


def _release(turn: _Turn) -> None:
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
                _command(turn, verb, job, turn.state.in_force_decision)
        elif level in (Level.APPROVE, Level.VETO):
            _ask_release(turn, line, level, commands)


def _command(turn: _Turn, verb: str, job: str, decision: str) -> None:
    """Record one command and send it; a job's command is recorded before it leaves."""
    state = turn.state
    old = state.tracks.get(job)
    if verb == "withdraw":
        if old is None:
            return
        line = old.order.work_center
        back = {"command": verb, "job": job, "line": line, "decision": decision}
        turn.do(Record(kind="command", body={**back, "time_ns": state.time_ns}))
        _track(turn, replace(old, phase=JobPhase.WITHDRAWING, wall_ns=state.wall_ns))
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
    _track(
        turn,
        JobTrack(
            order=order,
            decision=decision,
            phase=JobPhase.COMMANDED,
            attempt=attempt,
            wall_ns=state.wall_ns,
        ),
    )
    turn.do(Dispatch(line=order.work_center, job=order, decision=decision, attempt=attempt))


def _ask_release(
    turn: _Turn, line: str, level: Level, commands: tuple[tuple[str, str], ...]
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
    _remember(turn, decision.id, decision.state)
    seconds = turn.config.autonomy.veto_s if veto else turn.config.proposal_s
    until = state.wall_ns + round(seconds * NS_PER_S)
    entry = Open(decision=decision, plan=None, moves=(), until_wall_ns=until, commands=commands)
    turn.set(open={**turn.state.open, decision.id: entry})
    if veto:
        turn.do(StartVetoTimer(decision=decision.id, until_wall_ns=until))
    else:
        turn.do(AskApproval(decision=decision.id))
    turn.do(Announce(topic="decision", path=decision.id))


def _command_open(turn: _Turn, id: str, entry: Open) -> None:
    """Carry out an approved release, as far as the plan still asks for it."""
    line = entry.decision.line
    if gate(turn.config, turn.state, line) is not None:
        return
    work = due(turn.config, turn.state, line)
    wanted = {("withdraw", job) for job in work.withdraw}
    wanted |= {("dispatch", planned.order.id) for planned in work.dispatch}
    for verb, job in entry.commands:
        if (verb, job) in wanted:
            _command(turn, verb, job, id)


_HANDLERS: dict[type[f.Fact], Any] = {
    f.Tick: _tick,
    f.Happened: _happened,
    f.SourcesSeen: _sources_seen,
    f.LinesFed: _lines_fed,
    f.JobsListed: _jobs_listed,
    f.Proposed: _proposed,
    f.NothingFound: _nothing_found,
    f.Confirmed: _confirmed,
    f.Withdrawn: _withdrawn,
    f.Withheld: _withheld,
    f.Approved: _approved,
    f.Rejected: _rejected,
    f.Vetoed: _vetoed,
    f.LevelSet: _level_set,
    f.SwitchSet: _switch_set,
    f.Resumed: _resumed,
}
