"""Orders: what is asked for (WorkRequest) and the pieces of work that a line gets (JobOrder).

Names follow ISA-95 part 4: WorkSchedule > WorkRequest > JobOrder; the answer is a JobResponse.
"""

from dataclasses import dataclass
from enum import StrEnum

RUSH_PRIORITY = 7
"""From this priority on an order that comes in is a rush order: the plan is repaired at once."""


class RequestState(StrEnum):
    """State of a work request."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class JobState(StrEnum):
    """State of a job order at its receiver (OPC 10031-4), and before it gets there.

    UNKNOWN: it was sent and the receiver has not said what became of it; nobody may send it again.
    """

    PLANNED = "planned"
    UNKNOWN = "unknown"
    NOT_ALLOWED_TO_START = "not_allowed_to_start"
    ALLOWED_TO_START = "allowed_to_start"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    ENDED = "ended"
    ABORTED = "aborted"


def can_name(id: str) -> bool:
    """Whether an order may be called so; receivers read lists of orders parted by semicolons.

    >>> can_name("4711-A"), can_name("a;b"), can_name("a\\n"), can_name("\\ud800")
    (True, False, False, False)
    """
    return id.isprintable() and ";" not in id


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRequest:
    """One order for a product.

    Attributes
    ----------
    quantity
        Pieces; > 0.
    due_ns, release_ns
        Instants, ns since the epoch, UTC. The order may not start before its release.
    priority
        Weight of its tardiness, 1 (normal) to 9 (rush).
    """

    id: str
    product: str
    quantity: int
    due_ns: int
    release_ns: int = 0
    priority: int = 1

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("WorkRequest: id is empty")
        if not can_name(self.id):
            raise ValueError(
                f"WorkRequest {self.id!a}: id has a semicolon or a character that cannot be printed"
            )
        if self.quantity <= 0:
            raise ValueError(f"WorkRequest {self.id!r}: quantity must be > 0, got {self.quantity}")
        if not 1 <= self.priority <= 9:
            raise ValueError(
                f"WorkRequest {self.id!r}: priority must be 1 to 9, got {self.priority}"
            )
        if self.due_ns <= self.release_ns:
            raise ValueError(f"WorkRequest {self.id!r}: due instant is not after its release")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """One piece of work for one work unit (ISA-95 part 4).

    Attributes
    ----------
    id
        ``<request>.<work center>`` or ``<request>.<work center>.<n>``; furnace loads that serve
        several requests are ``LOAD-...``. Unique for ever: it is the idempotence key of dispatch.
    requests
        The work requests it serves, with the pieces for each.
    equipment
        Path of the unit named for the job.
    program
        Program, recipe or model that the unit must set up for.
    start_ns, end_ns
        Planned instants.
    priority
        Sequence at the receiver: among startable jobs of a unit the lowest number goes first.
    """

    id: str
    requests: tuple[tuple[str, int], ...]
    work_center: str
    equipment: str
    product: str
    program: str
    quantity: int
    start_ns: int
    end_ns: int
    priority: int = 0

    def __post_init__(self) -> None:
        if self.quantity <= 0:
            raise ValueError(f"JobOrder {self.id!r}: quantity must be > 0, got {self.quantity}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResponse:
    """What the plant says of a job order.

    Attributes
    ----------
    good, scrap
        Pieces so far.
    start_ns, end_ns
        Actual instants; 0 while they have not happened.
    """

    job: str
    state: JobState
    equipment: str = ""
    good: int = 0
    scrap: int = 0
    start_ns: int = 0
    end_ns: int = 0
