"""A decision of the brain: what it saw, what it could have done, what it chose and why.

What people read is a message id with parameters; sentences are made at the edge (screen, CLI).
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class DecisionClass(StrEnum):
    """Kinds of decisions that can be allowed or forbidden apart from each other."""

    PLAN = "plan"
    REPAIR = "repair"
    IMPROVE = "improve"
    RELEASE = "release"


WEIGHT_NAMES = ("tardiness", "setup", "flow", "energy", "move", "shift")
"""Weights of the objective that a plant or a person may set; what each multiplies stands in
``schedule.objective``."""


class Level(IntEnum):
    """How far the brain may go by itself, per line and decision class."""

    OBSERVE = 0
    ADVISE = 1
    APPROVE = 2
    VETO = 3
    REPORT = 4


class DecisionState(StrEnum):
    """Life of a decision."""

    PROPOSED = "proposed"
    WAITING_APPROVAL = "waiting_approval"
    WAITING_VETO = "waiting_veto"
    APPROVED = "approved"
    REJECTED = "rejected"
    BLOCKED = "blocked"
    SUPERSEDED = "superseded"
    IN_FORCE = "in_force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message id with parameters, rendered in English or Chinese at the edge."""

    id: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One plan that was considered.

    Attributes
    ----------
    kpis
        weighted_tardiness_s, late_orders, makespan_s, setup_s, setups, moves, shift_s,
        throughput_per_h: see workshop_brain.schedule.objective.
    """

    name: str
    kpis: dict[str, float]
    objective: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The record that goes into the ledger.

    Attributes
    ----------
    input_hash
        SHA-256 of the canonical bytes of the stored inputs.
    chosen
        Index into ``candidates``.
    changes
        Plan diff: one entry for each operation that moved, see schedule.diff.
    """

    id: str
    time_ns: int
    decision_class: DecisionClass
    line: str
    trigger: dict[str, Any]
    input_hash: str
    seed: int
    iterations: int
    candidates: tuple[Candidate, ...]
    chosen: int
    reasons: tuple[Message, ...]
    changes: tuple[dict[str, Any], ...]
    effect: dict[str, float]
    level: Level
    state: DecisionState
    plan_hash: str
    bound: float | None = None
