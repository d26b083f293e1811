"""What the decision loop wants done, in the order in which it must be done."""

from dataclasses import dataclass, field
from typing import Any

from workshop_brain.model.order import JobOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Write a ledger entry; durable before any later action is carried out."""

    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Make a plan from the live state (start, orders changed, periodic)."""

    token: int
    triggers: tuple[dict[str, Any], ...]
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class React:
    """Repair the plan at once."""

    token: int
    triggers: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Improve:
    """Search for a better plan than the one of a decision."""

    token: int
    decision: str
    plan_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Show a plan; ``in_force`` tells a plan that is followed from a proposal."""

    decision: str
    plan_hash: str
    in_force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AskApproval:
    """Ask people to approve or reject."""

    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartVetoTimer:
    """People may veto until ``until_wall_ns``; the loop itself ends the time at a Tick."""

    decision: str
    until_wall_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Send a job order to its line's receiver, if its gate is still open at that moment."""

    line: str
    job: JobOrder
    decision: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Take a job that is not running back from its line's receiver."""

    line: str
    job: str
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """Read a receiver's job list now."""

    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """Tell the screens: ``topic`` decision, command, blocked, free, level, switch, no_plan, or
    searched (the search on from a repair ended without a better plan)."""

    topic: str
    path: str
    payload: dict[str, Any] = field(default_factory=dict)


Action = (
    Record | Build | React | Improve | Publish | AskApproval | StartVetoTimer
    | Dispatch | Withdraw | ReadBack | Announce
)  # fmt: skip
