"""Things that happened: small values with plant time, a kind, a place and a payload."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """Kinds of events that pass between rooms."""

    STATE_CHANGED = "state_changed"
    BREAKDOWN = "breakdown"
    RESTORED = "restored"
    QUALITY_STOP = "quality_stop"
    OPERATOR_ABSENT = "operator_absent"
    OPERATOR_BACK = "operator_back"
    RUSH_ORDER = "rush_order"
    PINNED = "pinned"
    PLANNED_CHANGE = "planned_change"
    MAINTENANCE_DUE = "maintenance_due"
    WEIGHTS_CHANGED = "weights_changed"
    ORDERS_CHANGED = "orders_changed"
    LATE_FINISH = "late_finish"
    LATE_MATERIAL = "late_material"
    JOB_STATE = "job_state"
    PART_MOVED = "part_moved"
    ALARM = "alarm"
    SOURCE_UP = "source_up"
    SOURCE_LOST = "source_lost"
    GAP = "gap"
    BIRTH = "birth"
    DEATH = "death"
    DECISION = "decision"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One occurrence.

    Attributes
    ----------
    time_ns
        Plant time, ns since the epoch, UTC.
    path
        ISA-95 path of the place (unit, line) or the id of an order or source.
    payload
        JSON-able details; keys are documented with the kind in docs/reference/events.md.
    """

    time_ns: int
    kind: EventKind
    path: str
    payload: dict[str, Any] = field(default_factory=dict)
