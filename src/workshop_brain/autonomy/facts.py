"""What the decision loop is told. Every fact carries plant and wall time: the loop has no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workshop_brain.autonomy.envelope import Move, MoveBudget
from workshop_brain.autonomy.state import JobTrack, PlanRef
from workshop_brain.model.decision import Decision, DecisionClass, Level, Message
from workshop_brain.model.event import Event
from workshop_brain.model.order import JobOrder, JobResponse
from workshop_brain.ports import Confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Base: when it was learned, plant time and wall time in ns since the epoch, UTC."""

    time_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Fact):
    """Time goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Fact):
    """Something happened on the floor, in the order book or at a source."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesSeen(Fact):
    """Seconds of wall time since each source's last frame; sources left out are unknown."""

    ages: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesFed(Fact):
    """Which sources feed each line."""

    sources: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsListed(Fact):
    """The job list of a line's receiver, complete, with the orders it holds as far as it tells."""

    line: str
    jobs: tuple[JobResponse, ...]
    orders: tuple[JobOrder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One plan that a computation offers, with what it would change.

    Attributes
    ----------
    chosen
        Index of its candidate in the decision's ``candidates``.
    findings
        What the independent checker says against it; empty when it is sound.
    """

    plan: PlanRef
    chosen: int
    moves: tuple[Move, ...] = ()
    changes: tuple[dict[str, Any], ...] = ()
    effect: dict[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed(Fact):
    """A computation ended with options, best first; the first one inside the envelope is taken.

    Attributes
    ----------
    decision
        Draft: level, state, and all that depends on the option are filled in by the loop.
    objective_before
        Objective of doing nothing new; None when there was no plan to compare with.
    optional
        Take it only when it beats ``objective_before`` by the margin (improvements, periodic).
    """

    token: int
    decision: Decision
    options: tuple[Option, ...]
    objective_before: float | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingFound(Fact):
    """A computation ended without a plan; the last safe plan stays."""

    token: int
    reason: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Fact):
    """How a dispatch ended."""

    line: str
    confirmation: Confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn(Fact):
    """How a withdrawal ended."""

    line: str
    confirmation: Confirmation


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld(Fact):
    """A command was not sent because its gate closed between the decision and the sending."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(Fact):
    """Whether the ledger can be written; ``why`` not, "" when it can.

    Nothing is decided while it cannot: every line is blocked.
    """

    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved(Fact):
    """A person approves a decision that waits."""

    decision: str
    user: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Fact):
    """A person rejects a decision that waits for approval."""

    decision: str
    user: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetoed(Fact):
    """A person vetoes a decision within its time."""

    decision: str
    user: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSet(Fact):
    """A person sets the autonomy level of a line and decision class."""

    line: str
    decision_class: DecisionClass
    level: Level
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchSet(Fact):
    """A person turns a line's brain switch on or off."""

    line: str
    on: bool
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Fact):
    """What was known before a restart: settings set by people, jobs that were sent, the plan.

    ``causes`` are the triggers of a proposal that nobody had answered: it is made anew. ``budget``
    are the moves of the last hour: a restart gives nobody new ones. ``stops`` are the events of
    units that were down when they were last seen.
    """

    levels: Mapping[tuple[str, DecisionClass], Level] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)
    tracks: Mapping[str, JobTrack] = field(default_factory=dict)
    in_force: PlanRef | None = None
    in_force_decision: str = ""
    causes: tuple[dict[str, Any], ...] = ()
    budget: MoveBudget = field(default_factory=MoveBudget)
    stops: tuple[Event, ...] = ()
