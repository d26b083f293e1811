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
    Planned,
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
        EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT,
        EventKind.RUSH_ORDER,
    }
)  # fmt: skip
"""Answered at once. Everything else is routine: gathered, and planned now and then."""
ROUTINE = frozenset(
    {
        EventKind.RESTORED, EventKind.OPERATOR_BACK, EventKind.LATE_FINISH,
        EventKind.LATE_MATERIAL, EventKind.ORDERS_CHANGED,
    }
)  # fmt: skip
_REPAIRED = frozenset(
    {*URGENT, EventKind.RESTORED, EventKind.OPERATOR_BACK, EventKind.LATE_FINISH,
     EventKind.LATE_MATERIAL}
)  # fmt: skip
_AT_ONCE = frozenset({*(k.value for k in URGENT), "start", "level_lowered"})
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
    turn.set(begun_wall_ns=state.begun_wall_ns or turn.state.wall_ns)
    _HANDLERS[type(fact)](turn, fact)
    _watch_inputs(turn)
    _expire(turn)
    _begin(turn)
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
    _watch_stations(turn)
    _notice_lateness(turn)
    state = turn.state
    since_ns = state.time_ns - state.last_plan_ns
    is_free = state.is_ready and state.computing is None and state.proposal is None
    if is_free and not state.pending and since_ns >= turn.config.replan_s * NS_PER_S:
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
    if event.kind in URGENT | ROUTINE:
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
    fact = _calmed(turn, fact, computing)
    if not fact.options:
        return
    option, decision, waits = _judge_options(turn, fact)
    if decision.state is DecisionState.BLOCKED:
        _hold_back(turn, decision, computing, optional=fact.optional)
        return
    is_first = turn.state.reference is None
    if _moves_only_times(turn.state, option):
        _time_anew(turn, decision, option)
        _improve(turn, decision, option.plan)
        return
    turn.do(Record(kind="decision", body=decision_body(decision)))
    _remember(turn, decision.id, decision.state)
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
    if not is_first and decision.state is DecisionState.APPROVED:
        _improve(turn, decision, option.plan)


def _improve(turn: _Turn, decision: Decision, plan: PlanRef) -> None:
    """Search on from a repair that is in force; one that people still look at stays as it is."""
    if decision.decision_class is DecisionClass.REPAIR and turn.state.computing is None:
        _start(turn, "improve", ({"kind": "improve", "of": decision.id},), base=plan.hash)
        turn.do(Improve(token=turn.state.token, decision=decision.id, plan_hash=plan.hash))


def _calmed(turn: _Turn, fact: f.Proposed, computing: Computing) -> f.Proposed:
    """The options that are worth a change: all after an urgent event or a clear gain, else only
    those that move no job that was planned before; none when nothing changes at all."""
    reference = turn.state.reference
    if not fact.options or reference is None:
        return fact
    first = fact.options[0]
    if not first.moves and first.plan.index.keys() == reference.index.keys():
        return replace(fact, options=())
    kinds = {t["kind"] for t in computing.triggers}
    if kinds & _AT_ONCE or _is_clear_gain(turn, fact):
        return fact
    calm = tuple(o for o in fact.options if not any(m.counts for m in o.moves))
    if fact.optional:
        calm = tuple(o for o in calm if _moves_only_times(turn.state, o))
    return replace(fact, options=calm)


def _is_clear_gain(turn: _Turn, fact: f.Proposed) -> bool:
    """Whether the first option beats doing nothing new by the margin."""
    if fact.objective_before is None:
        return True
    gain = fact.objective_before - fact.decision.candidates[fact.options[0].chosen].objective
    return gain > turn.config.improve_margin * max(abs(fact.objective_before), 1.0)


def _moves_only_times(state: LoopState, option: f.Option) -> bool:
    """Whether a plan has the units, sequences and jobs of the one in force."""
    if state.in_force is None or any(m.counts for m in option.moves):
        return False
    return option.plan.index.keys() <= state.in_force.index.keys()


def _time_anew(turn: _Turn, decision: Decision, option: f.Option) -> None:
    """Same units, same sequences, other times: a forecast, which asks nobody."""
    shift_ns = max((abs(m.to_start_ns - m.from_start_ns) for m in option.moves), default=0)
    by = "forecast"
    minutes = round(shift_ns / (60 * NS_PER_S))
    reason = Message(id="reason.only_times", params={"jobs": len(option.moves), "minutes": minutes})
    kept = tuple(r for r in decision.reasons if not r.id.startswith("judge."))
    timed = replace(decision, state=DecisionState.IN_FORCE, reasons=(*kept, reason))
    turn.do(Record(kind="decision", body=decision_body(timed)))
    _supersede_plans(turn, decision.id)
    _approve(turn, decision.id, by=by, reason="")
    turn.set(last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    _put_in_force(turn, decision.id, option.plan, option.moves)
    turn.do(Announce(topic="decision", path=decision.id))


def _hold_back(turn: _Turn, decision: Decision, computing: Computing, *, optional: bool) -> None:
    """A plan that may not be: said when limits forbid it, kept in mind when inputs are bad."""
    turn.set(last_plan_ns=turn.state.time_ns, last_plan_wall_ns=turn.state.wall_ns)
    is_limit = any(r.id.startswith("envelope.") for r in decision.reasons)
    if optional and not is_limit:
        return
    if _blocked_case(turn, decision.line) is not None:
        turn.set(held=(*turn.state.held, *computing.triggers)[-20:])
    turn.do(Record(kind="decision", body=decision_body(decision)))
    _remember(turn, decision.id, decision.state)
    turn.do(Announce(topic="decision", path=decision.id))


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
        blocked=_blocked_case(turn, decision.line),
        findings=option.findings,
        veto_s=config.autonomy.veto_s,
    )


def _near_moves(turn: _Turn, moves: tuple[Move, ...]) -> dict[str, int]:
    """Moves by line that people on the floor will notice soon: these use up the budget."""
    return moves_by_line(moves, until_ns=turn.state.time_ns + turn.config.near_s * NS_PER_S)


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
    near = _near_moves(turn, moves) if had_plan else {}
    spent = state.budget.spend(near, state.time_ns)
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
        _improve(turn, entry.decision, entry.plan)
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
    if not freed or not turn.state.is_ready:
        return
    for trigger in turn.state.held:
        _want(turn, trigger)
    turn.set(held=())
    _want(turn, _trigger("inputs_restored", turn.state.time_ns, freed[0]))


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


def _begin(turn: _Turn) -> None:
    """Planning begins once every receiver has been read and every line is fed, or after a time."""
    state, config = turn.state, turn.config
    if state.is_ready:
        return
    listed = all(line in state.listed for line in config.receivers)
    waited_ns = state.wall_ns - state.begun_wall_ns
    if (listed and not state.blocked) or waited_ns >= config.start_wait_s * NS_PER_S:
        start = _trigger("start", state.time_ns, "")
        turn.set(is_ready=True, pending=(start,), last_plan_ns=state.time_ns)
        turn.set(last_plan_wall_ns=state.wall_ns)


def _compute(turn: _Turn) -> None:
    """Start the computation that the waiting triggers ask for; a search gives way to it.

    A repair while a proposal waits answers both causes and takes its place.
    """
    state = turn.state
    if not _may_plan(turn):
        return
    triggers = tuple(sorted(state.pending, key=lambda t: t["kind"] not in _AT_ONCE))
    if state.proposal is not None:
        triggers = _with_causes(triggers, state.proposal.decision)
    kinds = {t["kind"] for t in triggers}
    turn.set(pending=())
    if kinds & {k.value for k in _REPAIRED} and state.reference is not None:
        _start(turn, "react", triggers)
        turn.do(React(token=turn.state.token, triggers=triggers))
    else:
        optional = kinds == {"periodic"} and state.reference is not None
        _start(turn, "build", triggers)
        turn.do(Build(token=turn.state.token, triggers=triggers, optional=optional))


def _may_plan(turn: _Turn) -> bool:
    """Whether to plan now: at once for what is urgent, else neither often nor under people's eyes.

    A search gives way to what is urgent; routine waits for its end.
    """
    state, config = turn.state, turn.config
    if not state.pending or not state.is_ready:
        return False
    at_once = any(t["kind"] in _AT_ONCE for t in state.pending) or state.reference is None
    if state.computing is not None and (state.computing.kind != "improve" or not at_once):
        return False
    return at_once or (
        state.proposal is None
        and state.time_ns - state.last_plan_ns >= config.routine_s * NS_PER_S
        and state.wall_ns - state.last_plan_wall_ns >= config.replan_wall_s * NS_PER_S
    )


def _with_causes(
    triggers: tuple[dict[str, Any], ...], waiting: Decision
) -> tuple[dict[str, Any], ...]:
    """Triggers and those of the proposal that the new one will replace."""
    older = waiting.trigger.get("all") or [waiting.trigger]
    known = {(t["kind"], t.get("path")) for t in triggers}
    more = [dict(t) for t in older if (t.get("kind"), t.get("path")) not in known]
    return (*triggers, *(t for t in more if t.get("kind") not in (None, "start", "improve")))


def _start(turn: _Turn, kind: str, triggers: tuple[dict[str, Any], ...], base: str = "") -> None:
    token = turn.state.token + 1
    turn.set(token=token, computing=Computing(token=token, kind=kind, triggers=triggers, base=base))


def _notice_lateness(turn: _Turn) -> None:
    """Jobs that run over, or wait for material, become events; again once it is as much more."""
    state, config = turn.state, turn.config
    if state.in_force is None:
        return
    noticed = {job: at for job, at in state.noticed.items() if job in state.in_force.index}
    for planned in state.in_force.jobs:
        order = planned.order
        slack = max(config.late_s * NS_PER_S, (order.end_ns - order.start_ns) // 10)
        if state.time_ns < max(order.start_ns, noticed.get(order.id, 0)) + slack:
            continue
        kind = _lateness(state, planned, slack)
        if kind is not None:
            noticed[order.id] = state.time_ns
            _want(turn, _trigger(kind.value, state.time_ns, order.equipment, job=order.id))
    turn.set(noticed=noticed)


def _lateness(state: LoopState, planned: Planned, slack_ns: int) -> EventKind | None:
    """How a job is late that should have begun more than ``slack_ns`` ago."""
    order = planned.order
    response = state.response(order.work_center, order.id)
    if not is_running(response):
        waits = any(_is_missing(state, job) for job in planned.after)
        return EventKind.LATE_MATERIAL if waits else None
    runs = response is not None and response.state is JobState.RUNNING
    return EventKind.LATE_FINISH if runs and state.time_ns >= order.end_ns + slack_ns else None


def _is_missing(state: LoopState, job: str) -> bool:
    """Whether pieces of a job are still to come; one that nobody knows any more is long over."""
    for jobs in state.listed.values():
        if job in jobs:
            return jobs[job].state is not JobState.ENDED
    return state.in_force is not None and job in state.in_force.index


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
