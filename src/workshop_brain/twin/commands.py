"""What can be told to the simulated plant."""

from dataclasses import dataclass

from workshop_brain.model.order import JobOrder


@dataclass(frozen=True, slots=True)
class StoreJob:
    """Put a job order into the receiver's list; with ``start`` also allow it to start."""

    job: JobOrder
    start: bool = False


@dataclass(frozen=True, slots=True)
class StartJob:
    """Allow a stored job to start."""

    id: str


@dataclass(frozen=True, slots=True)
class RevokeJob:
    """Take the permission to start back from a job that has not started yet."""

    id: str


@dataclass(frozen=True, slots=True)
class AbortJob:
    """End a job now; pieces that are finished stay finished."""

    id: str


@dataclass(frozen=True, slots=True)
class ClearJob:
    """Take a job that is not running off the list."""

    id: str


@dataclass(frozen=True, slots=True)
class BreakUnit:
    """Break a device for a time."""

    path: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class RepairUnit:
    """End every stop of a device now."""

    path: str


@dataclass(frozen=True, slots=True)
class QualityStop:
    """Hold a device for a quality problem."""

    path: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class OperatorAbsent:
    """Leave a device without its operator for a time."""

    path: str
    duration_s: float


Command = (
    StoreJob
    | StartJob
    | RevokeJob
    | AbortJob
    | ClearJob
    | BreakUnit
    | RepairUnit
    | QualityStop
    | OperatorAbsent
)
