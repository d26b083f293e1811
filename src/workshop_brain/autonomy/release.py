"""Which jobs of the plan in force should go out or come back now, and what stands against it."""

from dataclasses import dataclass

from workshop_brain.autonomy.envelope import receiver_violation, to_send_again
from workshop_brain.autonomy.state import JobPhase, JobTrack, LoopConfig, LoopState, Planned
from workshop_brain.model.decision import Message
from workshop_brain.model.order import JobResponse, JobState
from workshop_brain.units import NS_PER_S

_OVER = frozenset({JobState.ENDED, JobState.ABORTED})
_BEGUN = frozenset({JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED})
_AT_RECEIVER = frozenset({JobPhase.CONFIRMED, JobPhase.UNCONFIRMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Commands that the plan asks for at one line, before any level or gate."""

    dispatch: tuple[Planned, ...] = ()
    withdraw: tuple[str, ...] = ()


def gate(config: LoopConfig, state: LoopState, line: str) -> Message | None:
    """Why nothing at all may be sent to a line; None when the way is free."""
    if line not in config.lines:
        return Message(id="gate.unknown_line", params={"line": line})
    if not state.is_on(line):
        return Message(id="gate.switch_off", params={"line": line})
    if line in state.blocked:
        return state.blocked[line]
    return receiver_violation(line, config.receivers.get(line), envelope=config.envelope)


def due(config: LoopConfig, state: LoopState, line: str) -> Due:
    """Jobs of a line to send, and jobs at its receiver to take back, by the plan in force."""
    if state.in_force is None or line not in state.listed:
        return Due()
    withdraw = _misplaced(state, line)
    horizon = state.time_ns + config.release_s * NS_PER_S
    dispatch = tuple(
        planned
        for planned in state.in_force.jobs
        if planned.order.work_center == line
        and planned.order.requests  # nobody is sent for maintenance
        and planned.order.start_ns <= horizon
        and may_go(config, state, planned)
        and planned.order.id not in withdraw
    )
    return Due(dispatch=dispatch, withdraw=tuple(withdraw))


def may_go(config: LoopConfig, state: LoopState, planned: Planned) -> bool:
    """Whether a job is neither at its receiver already nor short of material, machine, tools or
    people."""
    order = planned.order
    if order.equipment in state.down:
        return False
    if not _is_absent(config, state, order.work_center, order.id):
        return False
    if planned.from_ns > state.time_ns or not all(_has_ended(state, j) for j in planned.behind):
        return False
    return all(_is_coming(state, job) for job in planned.after)


def is_running(response: JobResponse | None) -> bool:
    """Whether the receiver says that work on the job has begun or is over."""
    return response is not None and response.state in _BEGUN | _OVER


def _is_absent(config: LoopConfig, state: LoopState, line: str, job: str) -> bool:
    response = state.response(line, job)
    if response is not None and response.state not in (
        JobState.PLANNED,
        JobState.NOT_ALLOWED_TO_START,
    ):
        return False
    if response is not None and line in config.people_lines:
        return False
    track = state.tracks.get(job)
    if track is None or track.phase is JobPhase.WITHDRAWN:
        return True
    return _may_repeat(config, state, track)


def _may_repeat(config: LoopConfig, state: LoopState, track: JobTrack) -> bool:
    """A command is repeated only after the receiver refused it or read-back shows no job."""
    if track.attempt >= config.attempts:
        return False
    if state.wall_ns - track.wall_ns < config.retry_s * NS_PER_S:
        return False
    if track.phase is JobPhase.REJECTED:
        return True
    return track.phase is JobPhase.UNCONFIRMED and track.absent >= 2


def _is_coming(state: LoopState, job: str) -> bool:
    """Whether a preceding job is finished, at work, or waiting at its own receiver."""
    for jobs in state.listed.values():
        response = jobs.get(job)
        if response is not None:
            return response.state in _BEGUN or response.state is JobState.ALLOWED_TO_START
    track = state.tracks.get(job)
    return track is not None and track.phase is JobPhase.CONFIRMED


def _has_ended(state: LoopState, job: str) -> bool:
    """Whether a job holds no tool and nobody any more; one that nobody knows is long over."""
    for jobs in state.listed.values():
        if job in jobs:
            return jobs[job].state in _OVER
    return state.in_force is None or job not in state.in_force.index


def _misplaced(state: LoopState, line: str) -> list[str]:
    """Jobs at the line's receiver, not begun, that the plan wants elsewhere or in other order."""
    assert state.in_force is not None
    waiting = {
        job: track
        for job, track in state.tracks.items()
        if track.order.work_center == line
        and track.phase in _AT_RECEIVER
        and track.hold_ns <= state.wall_ns
        and not is_running(state.response(line, job))
        and state.response(line, job) is not None
    }
    moved = []
    by_unit: dict[str, dict[str, tuple[int, int]]] = {}
    for job, track in waiting.items():
        planned = state.in_force.index.get(job)
        if planned is None or planned.order.equipment != track.order.equipment:
            moved.append(job)
        else:
            unit = by_unit.setdefault(track.order.equipment, {})
            unit[job] = (track.order.priority, track.order.start_ns)
    for unit_path, sent in by_unit.items():
        planned_jobs = [
            (p.order.id, p.order.start_ns)
            for p in state.in_force.jobs
            if p.order.equipment == unit_path and p.order.id in sent
        ]
        moved += to_send_again(sent, planned_jobs)
    return sorted(moved)
