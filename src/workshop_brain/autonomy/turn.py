"""One step of the decision loop under way, and what every part of it does to the state."""

from dataclasses import dataclass, field, replace
from typing import Any

from workshop_brain.autonomy.actions import (
    Action,
)
from workshop_brain.autonomy.state import (
    Computing,
    JobTrack,
    LoopConfig,
    LoopState,
)
from workshop_brain.model.decision import (
    DecisionState,
    Message,
)
from workshop_brain.model.order import JobResponse

_RECENT = 500


@dataclass(slots=True)
class Turn:
    """One step under way: the state so far and the actions so far."""

    config: LoopConfig
    state: LoopState
    actions: list[Action] = field(default_factory=list)

    def set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def do(self, *actions: Action) -> None:
        self.actions.extend(actions)


def set_down(turn: Turn, unit: str, why: str) -> None:
    down = {k: v for k, v in turn.state.down.items() if k != unit}
    turn.set(down={**down, unit: why} if why else down)


def cause(kind: str, time_ns: int, path: str, **payload: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": kind, "time_ns": time_ns, "path": path}
    return {**out, "payload": payload} if payload else out


def list_one(turn: Turn, line: str, response: JobResponse) -> None:
    listed = {**turn.state.listed.get(line, {}), response.job: response}
    turn.set(listed={**turn.state.listed, line: listed})


def keep_track(turn: Turn, track: JobTrack) -> None:
    turn.set(tracks={**turn.state.tracks, track.order.id: track})


def bad_inputs(turn: Turn, line: str) -> Message | None:
    """A plan is as good as what it was made from: its line's inputs, or any when it has none."""
    blocked = turn.state.blocked
    if line:
        return blocked.get(line)
    if len(blocked) == len(turn.config.lines) and blocked:
        return next(iter(blocked.values()))
    return None


def close(turn: Turn, id: str) -> None:
    turn.set(open={k: v for k, v in turn.state.open.items() if k != id})


def remember(turn: Turn, id: str, state: DecisionState, by: str = "") -> None:
    states = {**turn.state.states, id: state}
    if len(states) > _RECENT:
        states.pop(next(iter(states)))
    turn.set(states=states)
    if by:
        replaced = {**turn.state.replaced_by, id: by}
        if len(replaced) > _RECENT:
            replaced.pop(next(iter(replaced)))
        turn.set(replaced_by=replaced)


def want(turn: Turn, trigger: dict[str, Any]) -> None:
    same = (trigger["kind"], trigger["path"])
    if any((t["kind"], t["path"]) == same for t in turn.state.pending):
        return
    turn.set(pending=(*turn.state.pending, trigger))


def start_computing(
    turn: Turn, kind: str, triggers: tuple[dict[str, Any], ...], base: str = ""
) -> None:
    token = turn.state.token + 1
    begun = turn.state.wall_ns
    computing = Computing(token=token, kind=kind, triggers=triggers, base=base, begun_wall_ns=begun)
    turn.set(token=token, computing=computing)
