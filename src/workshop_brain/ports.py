"""What the shell offers the brain, as small protocols. The embedded default and every outside
engine satisfy the same one and pass the same conformance tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from workshop_brain.model.order import JobOrder, JobResponse
from workshop_brain.model.signal import Samples, SignalDef


class Clock(Protocol):
    """Plant time follows the source stamps; wall time serves time-outs only."""

    def plant_ns(self) -> int:
        """Plant time now, ns since the epoch, UTC."""
        ...

    def wall_ns(self) -> int:
        """Wall time now, ns since the epoch, UTC."""
        ...


class Historian(Protocol):
    """Keeps every sample. One writer, many readers."""

    def declare(self, signals: Sequence[SignalDef]) -> list[int]:
        """Registry ids of the signals; unknown paths are added durably."""
        ...

    def intern(self, texts: Sequence[str]) -> list[int]:
        """Dictionary codes of texts; unknown ones are added durably."""
        ...

    def append(self, samples: Samples, *, source: str, session: int, seq: int) -> int:
        """Append one batch to the log and return its log position.

        The batch is durable once ``sync`` has returned. A ``(source, session, seq)`` at or below
        the last durable one is ignored (exactly once).
        """
        ...

    def sync(self) -> None:
        """Make everything appended so far durable (one fdatasync for the group)."""
        ...

    def last_seq(self, source: str, session: int) -> int:
        """Highest durable sequence number of a source's session; 0 when there is none."""
        ...

    def forget_sessions(self, keep: Callable[[str], bool]) -> int:
        """Forget the sequence numbers of sources whose name ``keep`` refuses; how many."""
        ...


class CommandOutcome(StrEnum):
    """How a dispatch ended, decided by read-back and never by the call's return alone."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Answer of a dispatcher.

    Attributes
    ----------
    read_back
        What the receiver itself lists for the job after the command, None when unreadable.
    steps
        ``(step name, milliseconds)`` of store, read back, start, confirm.
    """

    job: str
    outcome: CommandOutcome
    read_back: JobResponse | None = None
    message: str = ""
    steps: tuple[tuple[str, float], ...] = ()


class Dispatcher(Protocol):
    """One way out to a work center."""

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Store, read back, start, confirm by observed state. Idempotent by job id."""
        ...

    async def withdraw(self, job: str) -> Confirmation:
        """Take a job back that is not running yet."""
        ...

    async def jobs(self) -> list[JobResponse]:
        """The receiver's job list as it is now."""
        ...

    async def orders(self) -> list[JobOrder]:
        """Job orders as the receiver holds them (as of the last ``jobs``), as far as it tells."""
        ...

    async def close(self) -> None:
        """Leave the receiver; jobs there stay."""
        ...
