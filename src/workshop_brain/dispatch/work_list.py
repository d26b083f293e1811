"""The people's way out: a list at the station, confirmed by a tap or by the unit's own signal.

A job stands on the list as "not allowed to start" until somebody has seen it. So a dispatch that
nobody taps within the time-out is "unconfirmed", and the tap confirms it later.
"""

import asyncio
from dataclasses import replace

from workshop_brain.dispatch.book import JobBook
from workshop_brain.errors import DispatchError
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation

_NEXT = {
    JobState.NOT_ALLOWED_TO_START: JobState.ALLOWED_TO_START,
    JobState.ALLOWED_TO_START: JobState.RUNNING,
    JobState.RUNNING: JobState.ENDED,
    JobState.INTERRUPTED: JobState.RUNNING,
}
_SEEN = frozenset(
    {JobState.ALLOWED_TO_START, JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED}
)


class WorkListDispatcher:
    """One work center's list for people; satisfies ports.Dispatcher."""

    def __init__(self, *, work_center: str, book: JobBook, timeout_s: float = 5.0) -> None:
        self._work_center = work_center
        self._book = book
        self._timeout_s = timeout_s
        self._tapped = asyncio.Condition()

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Put the job on the list and wait for a tap; idempotent by job id."""
        response = await self._find(job.id)
        if response is None:
            response = JobResponse(
                job=job.id, state=JobState.NOT_ALLOWED_TO_START, equipment=job.equipment
            )
            await asyncio.to_thread(self._book.save, job, response)
        try:
            async with asyncio.timeout(self._timeout_s), self._tapped:
                while response is not None and response.state not in _SEEN:
                    await self._tapped.wait()
                    response = await self._find(job.id)
        except TimeoutError:
            return Confirmation(
                job=job.id,
                outcome=CommandOutcome.UNCONFIRMED,
                read_back=response,
                message="nobody has tapped it yet",
            )
        if response is None:
            return Confirmation(
                job=job.id, outcome=CommandOutcome.REJECTED, message="taken off the list"
            )
        return Confirmation(job=job.id, outcome=CommandOutcome.CONFIRMED, read_back=response)

    async def withdraw(self, job: str) -> Confirmation:
        """Take a job that has not begun off the list."""
        response = await self._find(job)
        if response is not None and response.state not in (
            JobState.NOT_ALLOWED_TO_START,
            JobState.ALLOWED_TO_START,
        ):
            return Confirmation(
                job=job,
                outcome=CommandOutcome.REJECTED,
                read_back=response,
                message=f"the job is {response.state.value}",
            )
        await asyncio.to_thread(self._book.remove, job)
        async with self._tapped:
            self._tapped.notify_all()
        return Confirmation(job=job, outcome=CommandOutcome.CONFIRMED)

    async def confirm(
        self, job: str, *, time_ns: int, good: int | None = None, scrap: int = 0
    ) -> JobResponse:
        """A person's tap: seen, then begun, then done; returns the job's new state.

        ``good`` counts at the last tap; left out, the ordered quantity less ``scrap``.
        DispatchError when the job is not on the list or is over.
        """
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        found = next((row for row in rows if row[0].id == job), None)
        if found is None:
            raise DispatchError(f"job {job!r} is not on the work list of {self._work_center!r}")
        order, response = found
        if response.state not in _NEXT:
            raise DispatchError(f"job {job!r} is {response.state.value}; nothing is left to tap")
        state = _NEXT[response.state]
        response = replace(response, state=state)
        if state is JobState.RUNNING and not response.start_ns:
            response = replace(response, start_ns=time_ns)
        elif state is JobState.ENDED:
            done = order.quantity - scrap if good is None else good
            response = replace(response, end_ns=time_ns, good=max(0, done), scrap=scrap)
        await self._keep(order, response)
        return response

    async def observe(self, equipment: str, *, running: bool, time_ns: int) -> None:
        """A signal in place of a tap: the unit runs, so its first waiting job has begun."""
        if not running:
            return
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        mine = [(o, r) for o, r in rows if r.equipment == equipment]
        if any(r.state is JobState.RUNNING for _, r in mine):
            return
        waiting = [
            (o, r)
            for o, r in mine
            if r.state in (JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START)
        ]
        if waiting:
            order, response = min(waiting, key=lambda row: (row[0].priority, row[0].start_ns))
            await self._keep(order, replace(response, state=JobState.RUNNING, start_ns=time_ns))

    async def jobs(self) -> list[JobResponse]:
        """The list as it stands."""
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        return [response for _, response in rows]

    async def orders(self) -> list[JobOrder]:
        """The job orders on the list."""
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        return [order for order, _ in rows]

    async def close(self) -> None:
        """The list stays where it is kept."""

    async def _find(self, job: str) -> JobResponse | None:
        for response in await self.jobs():
            if response.job == job:
                return response
        return None

    async def _keep(self, order: JobOrder, response: JobResponse) -> None:
        await asyncio.to_thread(self._book.save, order, response)
        async with self._tapped:
            self._tapped.notify_all()
