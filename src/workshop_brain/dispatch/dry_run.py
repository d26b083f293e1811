"""The way out that leaves nothing out of the house: for trials and shadow running."""

from workshop_brain.dispatch.book import JobBook, MemoryBook
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation

_SENT_NOTHING = "dry run: nothing was sent"


class DryRunDispatcher:
    """Takes every job, sends none; satisfies ports.Dispatcher."""

    def __init__(self, *, work_center: str, book: JobBook | None = None) -> None:
        self._work_center = work_center
        self._book = book if book is not None else MemoryBook()

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Note the job as allowed to start; idempotent by job id."""
        rows = {order.id: response for order, response in self._book.load(self._work_center)}
        response = rows.get(job.id)
        if response is None:
            response = JobResponse(
                job=job.id, state=JobState.ALLOWED_TO_START, equipment=job.equipment
            )
            self._book.save(job, response)
        return Confirmation(
            job=job.id,
            outcome=CommandOutcome.CONFIRMED,
            read_back=response,
            message=_SENT_NOTHING,
        )

    async def withdraw(self, job: str) -> Confirmation:
        """Forget the job."""
        self._book.remove(job)
        return Confirmation(job=job, outcome=CommandOutcome.CONFIRMED, message=_SENT_NOTHING)

    async def jobs(self) -> list[JobResponse]:
        """The jobs noted so far."""
        return [response for _, response in self._book.load(self._work_center)]

    async def orders(self) -> list[JobOrder]:
        """The job orders noted so far."""
        return [order for order, _ in self._book.load(self._work_center)]

    async def close(self) -> None:
        """Nothing to leave."""
