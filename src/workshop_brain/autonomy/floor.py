"""What the receivers answer: job lists, confirmations, ends; and what it says of our commands."""

from dataclasses import replace

from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.actions import (
    Announce,
    ReadBack,
    Record,
)
from workshop_brain.autonomy.record import message_body
from workshop_brain.autonomy.release import gate
from workshop_brain.autonomy.state import (
    JobPhase,
    JobTrack,
)
from workshop_brain.autonomy.turn import Turn, keep_track, list_one
from workshop_brain.model.order import JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation
from workshop_brain.units import NS_PER_S

_HOLD_S = 60.0


def on_jobs_listed(turn: Turn, fact: f.JobsListed) -> None:
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


def _adopted(turn: Turn, fact: f.JobsListed) -> dict[str, JobTrack]:
    """Waiting jobs that the brain did not send (or forgot it did) count as sent and confirmed."""
    waiting = {r.job for r in fact.jobs if r.state is JobState.ALLOWED_TO_START}
    return {
        order.id: JobTrack(
            order=order, decision="", phase=JobPhase.CONFIRMED, wall_ns=turn.state.wall_ns
        )
        for order in fact.orders
        if order.id in waiting and order.id not in turn.state.tracks
    }


def _read_back(turn: Turn, track: JobTrack, response: JobResponse | None) -> JobTrack:
    """What a complete list says of a job whose command had no clear end."""
    if track.phase is not JobPhase.UNCONFIRMED:
        return track
    if response is None:
        return replace(track, absent=track.absent + 1)
    if response.state is JobState.UNKNOWN:
        return replace(track, absent=0)
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


def _outcome(turn: Turn, track: JobTrack, response: JobResponse) -> None:
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


def on_confirmed(turn: Turn, fact: f.Confirmed) -> None:
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
    keep_track(turn, replace(track, phase=phase, absent=0, wall_ns=turn.state.wall_ns))
    if phase is JobPhase.CONFIRMED and fact.confirmation.read_back is not None:
        list_one(turn, fact.line, fact.confirmation.read_back)
    elif phase is JobPhase.UNCONFIRMED:
        turn.do(ReadBack(line=fact.line))


def on_withdrawn(turn: Turn, fact: f.Withdrawn) -> None:
    job = fact.confirmation.job
    track = turn.state.tracks.get(job)
    _record_confirmation(turn, fact.line, "withdraw", fact.confirmation)
    if track is None:
        return
    if fact.confirmation.outcome is CommandOutcome.CONFIRMED:
        keep_track(turn, replace(track, phase=JobPhase.WITHDRAWN, absent=0, attempt=0))
        listed = {k: v for k, v in turn.state.listed.get(fact.line, {}).items() if k != job}
        turn.set(listed={**turn.state.listed, fact.line: listed})
        return
    # Not taken back: it is at the receiver, running perhaps; the next job lists tell.
    is_open = fact.confirmation.outcome is CommandOutcome.UNCONFIRMED
    phase = JobPhase.UNCONFIRMED if is_open else JobPhase.CONFIRMED
    wall_ns = turn.state.wall_ns
    hold_ns = wall_ns + round(_HOLD_S * NS_PER_S)
    keep_track(turn, replace(track, phase=phase, absent=0, wall_ns=wall_ns, hold_ns=hold_ns))
    if fact.confirmation.read_back is not None:
        list_one(turn, fact.line, fact.confirmation.read_back)
    turn.do(ReadBack(line=fact.line))


def on_withheld(turn: Turn, fact: f.Withheld) -> None:
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
        keep_track(turn, replace(track, phase=JobPhase.CONFIRMED))


def _record_confirmation(turn: Turn, line: str, verb: str, answer: Confirmation) -> None:
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
