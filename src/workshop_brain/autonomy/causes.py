"""What makes the loop plan: events, stations down for long, sources, lateness; and when it may.

Urgent causes are answered at once; routine is gathered and planned now and then, never while
people look at a proposal.
"""

from dataclasses import replace
from typing import Any

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Announce,
    Build,
    React,
)
from workshop_brain.autonomy.record import message_body
from workshop_brain.autonomy.release import is_running
from workshop_brain.autonomy.state import (
    LoopState,
    Planned,
    Source,
    blocked_lines,
    gap_hold_ns,
)
from workshop_brain.autonomy.turn import Turn, cause, set_down, start_computing, want
from workshop_brain.model.decision import (
    Decision,
    Message,
)
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobState
from workshop_brain.units import NS_PER_S

URGENT = frozenset(
    {
        EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT,
        EventKind.RUSH_ORDER, EventKind.PINNED, EventKind.PLANNED_CHANGE,
    }
)  # fmt: skip
"""Answered at once. Everything else is routine: gathered, and planned now and then."""


ROUTINE = frozenset(
    {
        EventKind.RESTORED, EventKind.OPERATOR_BACK, EventKind.LATE_FINISH,
        EventKind.LATE_MATERIAL, EventKind.ORDERS_CHANGED, EventKind.WEIGHTS_CHANGED,
    }
)  # fmt: skip


_REPAIRED = frozenset(
    {*URGENT, EventKind.RESTORED, EventKind.OPERATOR_BACK, EventKind.LATE_FINISH,
     EventKind.LATE_MATERIAL}
)  # fmt: skip


AT_ONCE = frozenset({*(k.value for k in URGENT), "start", "level_lowered"})


SOON = frozenset({EventKind.LATE_FINISH.value})
"""Answered at once too, but not under the eyes of people who look at a proposal."""


_DOWN = frozenset({EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT})


_OF_SOURCES = frozenset(
    {EventKind.SOURCE_LOST, EventKind.SOURCE_UP, EventKind.GAP, EventKind.BIRTH, EventKind.DEATH}
)


_UP = frozenset({EventKind.RESTORED, EventKind.OPERATOR_BACK})


def on_happened(turn: Turn, fact: f.Happened) -> None:
    event = fact.event
    if event.kind in _OF_SOURCES:
        _source_event(turn, event)
        return
    if event.kind in _DOWN | _UP:
        note_stop(turn, event)
        if event.path not in turn.config.units:
            return
    if event.kind in URGENT | ROUTINE:
        want(turn, cause(event.kind.value, event.time_ns, event.path, **event.payload))


def note_stop(turn: Turn, event: Event) -> None:
    """A unit or a station went down, or came back."""
    is_down = event.kind in _DOWN
    if event.path in turn.config.units:
        set_down(turn, event.path, event.kind.value if is_down else "")
    else:
        _station(turn, event.path, event.time_ns, is_down=is_down)


def _station(turn: Turn, path: str, time_ns: int, *, is_down: bool) -> None:
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
        set_down(turn, unit, "")
        want(turn, cause("restored", time_ns, unit, station=path))


def watch_stations(turn: Turn) -> None:
    limit = turn.config.station_s * NS_PER_S
    for path, since in turn.state.stations.items():
        if since < 0 or turn.state.time_ns - since < limit:
            continue
        unit = turn.config.flow_units[_line_of(path)]
        turn.set(stations={**turn.state.stations, path: -since})
        if unit not in turn.state.down:
            set_down(turn, unit, EventKind.BREAKDOWN.value)
            want(turn, cause("breakdown", turn.state.time_ns, unit, station=path))


def _line_of(path: str) -> str:
    """Line part of ``enterprise/site/area/line/cell/unit``."""
    parts = path.split("/")
    return parts[3] if len(parts) > 3 else ""


def _source_event(turn: Turn, event: Event) -> None:
    """A source is lost or back, has a hole, or one of its edge nodes died or was born.

    A hole or a death concerns the lines in the payload, a hole without any concerns all. That a
    hole is filled frees nothing: what was decided meanwhile did not know.
    """
    kind, payload = event.kind, event.payload
    name = str(payload.get("source") or event.path)
    source = turn.state.sources.get(name, Source())
    lines = frozenset(str(line) for line in payload.get("lines") or ())
    if kind is EventKind.SOURCE_LOST:
        source = replace(source, is_up=False)
    elif kind is EventKind.SOURCE_UP:
        source = replace(source, is_up=True, age_s=0.0)
    elif kind is EventKind.GAP:
        if payload.get("filled"):
            return  # a hole that is told of already has got its samples
        until = turn.state.wall_ns + gap_hold_ns(turn.config)
        gaps = dict.fromkeys(lines or {""}, until)
        source = replace(source, gaps={**source.gaps, **gaps})
    else:
        dead = {node: fed for node, fed in source.dead.items() if node != event.path}
        if kind is EventKind.DEATH and lines:
            dead[event.path] = lines
        source = replace(source, dead=dead)
    turn.set(sources={**turn.state.sources, name: source})


def on_sources_seen(turn: Turn, fact: f.SourcesSeen) -> None:
    known = dict(turn.state.sources)
    for name, age_s in fact.ages.items():
        known[name] = replace(known.get(name, Source()), age_s=age_s)
    turn.set(sources=known)


def on_lines_fed(turn: Turn, fact: f.LinesFed) -> None:
    turn.set(feeds=dict(fact.sources))


def watch_inputs(turn: Turn) -> None:
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
        want(turn, trigger)
    turn.set(held=())
    want(turn, cause("inputs_restored", turn.state.time_ns, freed[0]))


def begin(turn: Turn) -> None:
    """Planning begins once every receiver has been read and every line is fed, or after a time."""
    state, config = turn.state, turn.config
    if state.is_ready:
        return
    listed = all(line in state.listed for line in config.receivers)
    waited_ns = state.wall_ns - state.begun_wall_ns
    if (listed and not state.blocked) or waited_ns >= config.start_wait_s * NS_PER_S:
        start = cause("start", state.time_ns, "")
        turn.set(is_ready=True, pending=(start, *state.held), held=(), last_plan_ns=state.time_ns)
        turn.set(last_plan_wall_ns=state.wall_ns)


def plan_if_due(turn: Turn) -> None:
    """Start the computation that the waiting triggers ask for; a search gives way to it.

    A repair while a proposal waits answers both causes and takes its place; one that overtakes
    a plan being built answers for that too. A start with a plan in force is a repair of it.
    """
    state = turn.state
    if not _may_plan(turn):
        return
    triggers = tuple(sorted(state.pending, key=lambda t: t["kind"] not in AT_ONCE))
    if state.proposal is not None:
        triggers = _with_causes(triggers, state.proposal.decision)
    if state.computing is not None and state.computing.kind == "build":
        known = {(t["kind"], t["path"]) for t in triggers}
        more = (t for t in state.computing.triggers if (t["kind"], t["path"]) not in known)
        triggers = (*triggers, *more)
    kinds = {t["kind"] for t in triggers}
    turn.set(pending=())
    is_repair = bool(kinds & {k.value for k in _REPAIRED}) and state.reference is not None
    if is_repair or ("start" in kinds and state.in_force is not None):
        start_computing(turn, "react", triggers)
        turn.do(React(token=turn.state.token, triggers=triggers))
    else:
        optional = kinds == {"periodic"} and state.reference is not None
        start_computing(turn, "build", triggers)
        turn.do(Build(token=turn.state.token, triggers=triggers, optional=optional))


def _may_plan(turn: Turn) -> bool:
    """Whether to plan now: at once for what is urgent, else neither often nor under people's eyes.

    A search gives way to what is urgent, and so does a new plan where one is there to repair;
    routine waits for their end.
    """
    state, config = turn.state, turn.config
    if not state.pending or not state.is_ready:
        return False
    at_once = (
        state.reference is None
        or any(t["kind"] in AT_ONCE for t in state.pending)
        or (state.proposal is None and any(t["kind"] in SOON for t in state.pending))
    )
    if state.computing is not None and not _gives_way(state, at_once=at_once):
        return False
    return at_once or (
        state.proposal is None
        and state.time_ns - state.last_plan_ns >= config.routine_s * NS_PER_S
        and state.wall_ns - state.last_plan_wall_ns >= config.replan_wall_s * NS_PER_S
    )


def _gives_way(state: LoopState, *, at_once: bool) -> bool:
    """Whether the running computation is left unheard for what waits."""
    assert state.computing is not None
    if state.computing.kind == "improve":
        return at_once
    urgent = {k.value for k in URGENT}
    return (
        state.computing.kind == "build"
        and state.reference is not None
        and any(t["kind"] in urgent for t in state.pending)
    )


def give_up_if_long(turn: Turn) -> None:
    """A computation that does not end is said and not waited for any more."""
    state, computing = turn.state, turn.state.computing
    # A first plan of thousands of operations takes longer, and nothing else is there to follow.
    limit_s = turn.config.compute_s * (1 if state.reference is not None else 4)
    if computing is None or state.wall_ns - computing.begun_wall_ns <= limit_s * NS_PER_S:
        return
    turn.set(computing=None, last_plan_ns=state.time_ns, last_plan_wall_ns=state.wall_ns)
    reason = Message(id="plan.too_long", params={"kind": computing.kind, "seconds": round(limit_s)})
    payload = {"reason": message_body(reason), "triggers": list(computing.triggers)}
    turn.do(Announce(topic="no_plan", path="", payload=payload))


def _with_causes(
    triggers: tuple[dict[str, Any], ...], waiting: Decision
) -> tuple[dict[str, Any], ...]:
    """Triggers and those of the proposal that the new one will replace."""
    older = waiting.trigger.get("all") or [waiting.trigger]
    known = {(t["kind"], t.get("path")) for t in triggers}
    more = [dict(t) for t in older if (t.get("kind"), t.get("path")) not in known]
    return (*triggers, *(t for t in more if t.get("kind") not in (None, "start", "improve")))


def notice_lateness(turn: Turn) -> None:
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
            want(turn, cause(kind.value, state.time_ns, order.equipment, job=order.id))
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
