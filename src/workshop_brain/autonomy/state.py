"""What the decision loop remembers: frozen values, replaced and never changed in place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from workshop_brain.autonomy.envelope import Move, MoveBudget
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.model.decision import Decision, DecisionClass, DecisionState, Level, Message
from workshop_brain.model.order import JobOrder, JobResponse
from workshop_brain.units import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """What does not change while the loop runs.

    Attributes
    ----------
    lines
        Ids of the work centers.
    receivers
        Line to its receiver as in ``[[dispatch]]``; lines without one are left out.
    blind_lines
        Lines that people feed (work list, dry run): in a plant without any source they need
        none to be dispatched to.
    people_lines
        Lines whose way out is a work list: a job that nobody has tapped yet waits there.
    units
        Unit path to its line, for the units that job orders name.
    flow_units
        Line to the one unit that stands for the whole of it (flow lines); a station of it that
        is down for ``station_s`` seconds of plant time counts as the line being down.
    release_s
        Jobs whose planned start is within this many seconds of plant time go out.
    start_wait_s
        The first plan waits for every receiver's list and every line's inputs, but no longer
        than this many seconds of wall time.
    routine_s, replan_wall_s
        Plant time, and wall time, between two plans without an urgent cause; both must pass.
    replan_s
        Plant time after which the plan is renewed although nothing happened.
    near_s
        Moves of jobs within this many seconds of plant time use up the change budget.
    proposal_s
        A proposal that nobody answers is replaced after this many seconds of wall time.
    improve_margin
        An improvement is published when the objective falls by more than this share.
    late_s
        A finish or a start later than this (or a tenth of the job, if that is more) is an event.
    retry_s, attempts
        A rejected job, or one that the read-back shows to be absent, is sent again after this
        many seconds of wall time, at most so many times in all.
    compute_s
        A computation that lasts longer than this, seconds of wall time, is given up.
    """

    lines: tuple[str, ...]
    autonomy: AutonomySettings
    envelope: EnvelopeSettings
    receivers: Mapping[str, str] = field(default_factory=dict)
    blind_lines: frozenset[str] = frozenset()
    people_lines: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict)
    flow_units: Mapping[str, str] = field(default_factory=dict)
    station_s: int = 180
    release_s: int = 1800
    start_wait_s: float = 15.0
    routine_s: int = 300
    replan_s: int = 900
    near_s: int = 4 * 3600
    replan_wall_s: float = 30.0
    proposal_s: float = 900.0
    improve_margin: float = 0.01
    late_s: int = 600
    retry_s: float = 30.0
    attempts: int = 3
    compute_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One job of a plan.

    Attributes
    ----------
    after
        Jobs whose pieces it needs.
    from_ns
        Its receiver gets it no earlier, for a receiver begins as soon as it can; 0 = any time.
    behind
        Jobs on other units that must have ended first, since it needs the tools or people that
        they hold.
    """

    order: JobOrder
    after: tuple[str, ...] = ()
    from_ns: int = 0
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanRef:
    """A plan as the loop sees it: the jobs in time, under the plan's hash.

    ``jobs`` are in order of unit and planned start.
    """

    hash: str
    jobs: tuple[Planned, ...] = ()
    index: dict[str, Planned] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, hash: str, jobs: tuple[Planned, ...]) -> "PlanRef":
        """A plan of jobs in any order."""
        ordered = tuple(
            sorted(jobs, key=lambda p: (p.order.equipment, p.order.start_ns, p.order.id))
        )
        return cls(hash, ordered, {p.order.id: p for p in ordered})


class JobPhase(StrEnum):
    """How far a job that the brain sent has come, as far as the brain knows."""

    COMMANDED = "commanded"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    REJECTED = "rejected"
    WITHDRAWING = "withdrawing"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTrack:
    """A job that the brain sent.

    Attributes
    ----------
    order
        As it was sent: unit and start there decide the sequence at the receiver.
    decision
        The decision that it follows from.
    absent
        Complete job lists read since the command that did not hold the job.
    hold_ns
        Wall time before which no other withdrawal is tried, after the receiver refused one.
    is_released
        A release decision, approved or not vetoed, let its last command go out.
    """

    order: JobOrder
    decision: str
    phase: JobPhase
    attempt: int = 1
    wall_ns: int = 0
    absent: int = 0
    hold_ns: int = 0
    is_released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source as the loop sees it.

    Attributes
    ----------
    gaps
        Line ("": every line) to the wall time until which a hole in its data blocks it.
    dead
        Edge nodes that died and were not born again, with the lines that they feed.
    """

    is_up: bool = True
    age_s: float = 0.0
    gaps: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A decision that waits for people or for the end of its veto time.

    Attributes
    ----------
    until_wall_ns
        End of the veto time, or the instant at which an unanswered proposal is replaced.
    commands
        ``(verb, job)`` of a release decision; empty for plans.
    """

    decision: Decision
    plan: PlanRef | None
    moves: tuple[Move, ...]
    until_wall_ns: int
    commands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """The computation whose answer is awaited; answers with another token are too late.

    ``begun_wall_ns`` is the wall time at which it was asked for.
    """

    token: int
    kind: str
    triggers: tuple[dict[str, Any], ...]
    base: str = ""
    begun_wall_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """Everything the loop knows.

    Attributes
    ----------
    basis
        The newest published plan, in force or only proposed: what the next repair starts from.
    basis_class
        Classes whose levels the next plan must obey besides its own, because it builds on a
        proposal that nobody has approved yet.
    states
        State of each recent decision.
    stations
        Stations of flow lines that are down, with the plant time since when; negative once the
        line itself counts as down because of it.
    noticed
        Late jobs of the plan in force, with the plant time at which that was last acted on.
    is_ready, begun_wall_ns
        Whether planning may begin, and the wall time of the first fact.
    held
        Triggers of a repair that could not be judged because inputs were bad: repaired anew
        when they are good again.
    is_recording
        Whether the ledger can be written; no line is free while it cannot.
    """

    time_ns: int = 0
    wall_ns: int = 0
    levels: Mapping[tuple[str, DecisionClass], Level] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    feeds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    blocked: Mapping[str, Message] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)
    stations: Mapping[str, int] = field(default_factory=dict)
    in_force: PlanRef | None = None
    in_force_decision: str = ""
    basis: PlanRef | None = None
    basis_class: frozenset[DecisionClass] = frozenset()
    open: Mapping[str, Open] = field(default_factory=dict)
    states: Mapping[str, DecisionState] = field(default_factory=dict)
    replaced_by: Mapping[str, str] = field(default_factory=dict)
    tracks: Mapping[str, JobTrack] = field(default_factory=dict)
    listed: Mapping[str, Mapping[str, JobResponse]] = field(default_factory=dict)
    budget: MoveBudget = field(default_factory=MoveBudget)
    pending: tuple[dict[str, Any], ...] = ()
    computing: Computing | None = None
    token: int = 0
    releases: int = 0
    last_plan_ns: int = 0
    last_plan_wall_ns: int = 0
    noticed: Mapping[str, int] = field(default_factory=dict)
    is_ready: bool = False
    begun_wall_ns: int = 0
    held: tuple[dict[str, Any], ...] = ()
    is_recording: bool = True

    @property
    def reference(self) -> PlanRef | None:
        """The plan that a new one is compared with: in force, or the newest advice before that."""
        return self.in_force or self.basis

    @property
    def proposal(self) -> Open | None:
        """The plan that waits for people; there is never more than one."""
        return next((o for o in self.open.values() if o.plan is not None), None)

    def response(self, line: str, job: str) -> JobResponse | None:
        """What the line's receiver says of a job; None when it does not list it."""
        return self.listed.get(line, {}).get(job)

    def is_on(self, line: str) -> bool:
        """Whether the line's brain switch is on; it is unless a person turned it off."""
        return self.switches.get(line, True)


def blocked_lines(config: LoopConfig, state: LoopState) -> dict[str, Message]:
    """Lines whose inputs cannot be trusted now, each with the reason."""
    out: dict[str, Message] = {}
    for line in config.lines:
        reason = _input_fault(config, state, line)
        if reason is not None:
            out[line] = reason
    return out


def _input_fault(config: LoopConfig, state: LoopState, line: str) -> Message | None:
    if not state.is_recording:
        return Message(id="blocked.not_recorded", params={"line": line})
    feeds = state.feeds.get(line, frozenset())
    if not feeds:
        if line in config.blind_lines and not state.sources:
            return None
        return Message(id="blocked.no_inputs", params={"line": line})
    for name in sorted(feeds):
        source = state.sources.get(name)
        params: dict[str, Any] = {"line": line, "source": name}
        if source is None:
            return Message(id="blocked.source_unknown", params=params)
        if not source.is_up:
            return Message(id="blocked.source_lost", params=params)
        if source.age_s > config.envelope.max_input_age_s:
            limit = config.envelope.max_input_age_s
            return Message(id="blocked.stale", params={**params, "limit_s": limit})
        if max(source.gaps.get("", 0), source.gaps.get(line, 0)) > state.wall_ns:
            return Message(id="blocked.gap", params=params)
        for node, lines in source.dead.items():
            if line in lines:
                return Message(id="blocked.node_dead", params={**params, "node": node})
    return None


def gap_hold_ns(config: LoopConfig) -> int:
    """How long a line stays blocked after its last gap: as long as inputs may be old."""
    return round(config.envelope.max_input_age_s * NS_PER_S)
