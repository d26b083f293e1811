"""Where ways out without a receiver of their own keep their jobs."""

from typing import Protocol

from workshop_brain.model.order import JobOrder, JobResponse


class JobBook(Protocol):
    """Durable list of jobs with their state, one for each work center."""

    def load(self, work_center: str) -> list[tuple[JobOrder, JobResponse]]:
        """All jobs of a work center, in the order in which they were first saved."""
        ...

    def save(self, order: JobOrder, response: JobResponse) -> None:
        """Add a job or replace what is known of it; durable on return."""
        ...

    def remove(self, job: str) -> None:
        """Forget a job; unknown ids are ignored."""
        ...


class MemoryBook:
    """A JobBook that ends with the process: dry runs, trials and tests."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[JobOrder, JobResponse]] = {}

    def load(self, work_center: str) -> list[tuple[JobOrder, JobResponse]]:
        """All jobs of a work center, in the order in which they were first saved."""
        return [row for row in self._rows.values() if row[0].work_center == work_center]

    def save(self, order: JobOrder, response: JobResponse) -> None:
        """Add a job or replace what is known of it."""
        self._rows[order.id] = (order, response)

    def remove(self, job: str) -> None:
        """Forget a job; unknown ids are ignored."""
        self._rows.pop(job, None)
