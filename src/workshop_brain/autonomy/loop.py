"""The decision loop: ``step(config, state, fact) -> (state, actions)``, pure.

It reads no clock and does no input or output. Actions come in the order in which they must be
carried out; a ``Record`` always stands before the act that it allows.
"""

from typing import Any

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Action,
)
from workshop_brain.autonomy.causes import (
    begin,
    give_up_if_long,
    note_stop,
    notice_lateness,
    on_happened,
    on_lines_fed,
    on_sources_seen,
    plan_if_due,
    watch_inputs,
    watch_stations,
)
from workshop_brain.autonomy.floor import on_confirmed, on_jobs_listed, on_withdrawn, on_withheld
from workshop_brain.autonomy.judge import level_of
from workshop_brain.autonomy.people import (
    expire,
    on_approved,
    on_level_set,
    on_recording,
    on_rejected,
    on_switch_set,
    on_vetoed,
)
from workshop_brain.autonomy.proposals import on_nothing_found, on_proposed
from workshop_brain.autonomy.release import gate
from workshop_brain.autonomy.sending import send_due
from workshop_brain.autonomy.state import (
    JobPhase,
    LoopConfig,
    LoopState,
)
from workshop_brain.autonomy.turn import Turn, cause, remember, want
from workshop_brain.model.decision import (
    DecisionClass,
    DecisionState,
    Level,
)
from workshop_brain.units import NS_PER_S

_ANOTHER_TIME_NS = 60 * NS_PER_S
"""A plant time that falls back by more than this is another time, not a late fact."""


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
    turn = Turn(config, state)
    turn.set(wall_ns=max(state.wall_ns, fact.wall_ns))
    if state.time_ns - fact.time_ns > _ANOTHER_TIME_NS:
        # The plant lives at another time than was thought (restarted, or first stamp): follow it.
        turn.set(time_ns=fact.time_ns, last_plan_ns=min(state.last_plan_ns, fact.time_ns))
    else:
        turn.set(time_ns=max(state.time_ns, fact.time_ns))
    turn.set(begun_wall_ns=state.begun_wall_ns or turn.state.wall_ns)
    _HANDLERS[type(fact)](turn, fact)
    watch_inputs(turn)
    if isinstance(fact, f.Tick):
        expire(turn)
    begin(turn)
    plan_if_due(turn)
    send_due(turn)
    return turn.state, tuple(turn.actions)


def may_send(config: LoopConfig, state: LoopState, line: str, job: str) -> bool:
    """Whether a command decided a moment ago may still leave: asked right before the sending."""
    track = state.tracks.get(job)
    if track is None or track.phase not in (JobPhase.COMMANDED, JobPhase.WITHDRAWING):
        return False
    needed = Level.APPROVE if track.is_released else Level.REPORT
    level = level_of(config.autonomy, state.levels, line, DecisionClass.RELEASE)
    return gate(config, state, line) is None and level >= needed


def _tick(turn: Turn, fact: f.Tick) -> None:
    give_up_if_long(turn)
    watch_stations(turn)
    notice_lateness(turn)
    state = turn.state
    since_ns = state.time_ns - state.last_plan_ns
    is_free = state.is_ready and state.computing is None and state.proposal is None
    if is_free and not state.pending and since_ns >= turn.config.replan_s * NS_PER_S:
        want(turn, cause("periodic", state.time_ns, ""))


def _resumed(turn: Turn, fact: f.Resumed) -> None:
    turn.set(
        levels=dict(fact.levels),
        switches=dict(fact.switches),
        tracks=dict(fact.tracks),
        in_force=fact.in_force,
        in_force_decision=fact.in_force_decision if fact.in_force is not None else "",
        basis=fact.in_force,
        held=fact.causes,
        budget=fact.budget,
    )
    for event in fact.stops:
        note_stop(turn, event)
    if turn.state.in_force_decision:
        remember(turn, turn.state.in_force_decision, DecisionState.IN_FORCE)


_HANDLERS: dict[type[f.Fact], Any] = {
    f.Tick: _tick,
    f.Happened: on_happened,
    f.SourcesSeen: on_sources_seen,
    f.LinesFed: on_lines_fed,
    f.JobsListed: on_jobs_listed,
    f.Proposed: on_proposed,
    f.NothingFound: on_nothing_found,
    f.Confirmed: on_confirmed,
    f.Withdrawn: on_withdrawn,
    f.Withheld: on_withheld,
    f.Recording: on_recording,
    f.Approved: on_approved,
    f.Rejected: on_rejected,
    f.Vetoed: on_vetoed,
    f.LevelSet: on_level_set,
    f.SwitchSet: on_switch_set,
    f.Resumed: _resumed,
}
