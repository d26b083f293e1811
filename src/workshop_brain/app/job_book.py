"""Jobs of ways out without a receiver of their own, kept in the records."""

from workshop_brain.model.order import JobOrder, JobResponse
from workshop_brain.store.records import Records


class RecordsBook:
    """A dispatch.book.JobBook over the records; every call is durable when it returns."""

    def __init__(self, records: Records, *, way: str = "work_list") -> None:
        self._records = records
        self._way = way

    def load(self, work_center: str) -> list[tuple[JobOrder, JobResponse]]:
        """All jobs of a work center that were saved here, earliest planned start first."""
        rows = [
            (row.job, row.response)
            for row in self._records.jobs(work_center=work_center)
            if row.response is not None and row.way == self._way
        ]
        return sorted(rows, key=lambda row: (row[0].start_ns, row[0].id))

    def save(self, order: JobOrder, response: JobResponse) -> None:
        """Add a job or replace what is known of it."""
        self._records.save_job(order, way=self._way)
        self._records.save_response(response)

    def remove(self, job: str) -> None:
        """Forget a job; unknown ids are ignored."""
        self._records.remove_job(job)
