"""What a planner in the simulated plant can see and do: open steps, free units, job orders."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import Plant, RoutingStep, WorkCenter, WorkCenterKind, WorkUnit
from workshop_brain.model.state import UnitState
from workshop_brain.twin import world
from workshop_brain.twin.commands import ClearJob, StoreJob
from workshop_brain.twin.sim import Notices, PlantSim
from workshop_brain.units import NS_PER_S

NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Step:
    """One open step of a request: pieces that no job covers yet.

    Attributes
    ----------
    ready_ns
        Instant from which its material is there; NEVER while earlier steps are not finished.
    """

    request: WorkRequest
    routing: RoutingStep
    pieces: int
    ready_ns: int


class Board:
    """The open work of a simulated plant, kept by listening to its notices.

    Attributes
    ----------
    requests
        The order book by id; a request counts from its release on.
    """

    def __init__(self, sim: PlantSim, book: Sequence[WorkRequest]) -> None:
        self.sim = sim
        self.plant: Plant = sim.plant
        self.requests = {r.id: r for r in book}
        self._products = {p.id: p for p in self.plant.products}
        self._center = {c.id: c for c in self.plant.work_centers}
        self._unit_center = {u.path: c for c in self.plant.work_centers for u in c.units}
        self._covered: dict[tuple[str, str], int] = {}
        self._done: dict[tuple[str, str], int] = {}
        self._ready: dict[tuple[str, str], int] = {}
        self.queued: dict[str, dict[str, JobOrder]] = {u: {} for u in self._unit_center}
        self._begun: dict[tuple[str, str], int] = {}
        self._running: dict[str, JobOrder] = {}
        self._serial = 0
        self.open_requests = dict(self.requests)
        self._device = {d.path: d.index for d in sim.devices}
        products = list(self._products)
        for request in book:
            sim.request_row(request.id, products.index(request.product), request.quantity)
        for center in self.plant.work_centers:
            for response in sim.job_list(center.id):
                self._known(sim.job_order(response.job), response)

    def _known(self, order: JobOrder, response: JobResponse) -> None:
        for request, pieces in order.requests:
            self._cover(request, order.work_center, pieces)
        if response.start_ns > 0:
            self.started(order)
        if response.state is JobState.ENDED:
            self.finished(order, response.end_ns)

    def _cover(self, request: str, center: str, pieces: int) -> None:
        key = (request, center)
        self._covered[key] = self._covered.get(key, 0) + pieces

    def started(self, order: JobOrder) -> None:
        """A job has started: it waits in no queue any more."""
        self.queued[order.equipment].pop(order.id, None)
        self._running[order.equipment] = order
        for request, pieces in order.requests:
            key = (request, order.work_center)
            self._begun[key] = self._begun.get(key, 0) + pieces

    def hear(self, news: Notices) -> None:
        """Follow the plant's news: jobs that started and ended, units that ran out of work."""
        for k in range(len(news)):
            kind = int(news.kind[k])
            if kind == world.JOB_STARTED:
                self.started(self.sim.job_row(int(news.job[k])))
            elif kind == world.JOB_ENDED:
                self.finished(self.sim.job_row(int(news.job[k])), int(news.time_ns[k]))
            elif kind == world.UNIT_FREE:
                self._running.pop(self.sim.devices[int(news.device[k])].path, None)

    def finished(self, order: JobOrder, time_ns: int) -> None:
        """A job has ended: its pieces go on to the next step."""
        center = self._center[order.work_center]
        running = self._running.get(order.equipment)
        if running is not None and running.id == order.id:
            del self._running[order.equipment]
        for request, pieces in order.requests:
            key = (request, order.work_center)
            self._done[key] = self._done.get(key, 0) + pieces
            arrive = time_ns + center.transport_s * NS_PER_S
            self._ready[key] = max(self._ready.get(key, 0), arrive)
            known = self.open_requests.get(request)
            if known is not None and all(
                self._done.get((request, s.work_center), 0) >= known.quantity
                for s in self._products[known.product].routing
            ):
                del self.open_requests[request]

    def steps(self, center: WorkCenter, now_ns: int) -> list[Step]:
        """Released steps at a work center that no job covers, in order of release."""
        out = []
        for request in self.open_requests.values():
            if request.release_ns > now_ns:
                break
            for step in self._products[request.product].routing:
                if step.work_center == center.id:
                    pieces = request.quantity - self._covered.get((request.id, center.id), 0)
                    if pieces > 0:
                        out.append(Step(request, step, pieces, self._ready_ns(request, step)))
        return out

    def _ready_ns(self, request: WorkRequest, step: RoutingStep) -> int:
        ready = request.release_ns
        for before in step.after:
            if self._done.get((request.id, before), 0) < request.quantity:
                return NEVER
            ready = max(ready, self._ready[request.id, before])
        return ready

    def next_ready_ns(self, now_ns: int) -> int:
        """Next instant after ``now_ns`` at which transported material arrives or a release is."""
        soonest = min((t for t in self._ready.values() if t > now_ns), default=NEVER)
        for request in self.open_requests.values():
            if request.release_ns > now_ns:
                return min(soonest, request.release_ns)
        return soonest

    def is_free(self, unit: WorkUnit) -> bool:
        """Whether a unit is idle for want of a job (open, up, nothing queued)."""
        return (
            int(self.sim.state[self._device[unit.path]]) == UnitState.IDLE
            and not self.queued[unit.path]
        )

    def is_stuck(self, unit: WorkUnit) -> bool:
        """Whether a unit stands without a job that it could start, queued ones included."""
        return self.running(unit.path) is None and int(self.sim.state[self._device[unit.path]]) in (
            UnitState.IDLE,
            UnitState.SUSPENDED,
        )

    def running(self, path: str) -> JobOrder | None:
        """The job that a unit works on (for a line: that it launches); None for none."""
        return self._running.get(path)

    def is_running(self, request: str, center: str) -> bool:
        """Whether every piece of a request is at work or finished at a work center."""
        return self._begun.get((request, center), 0) >= self.requests[request].quantity

    def is_down(self, unit: WorkUnit) -> bool:
        """Whether a unit is broken down."""
        return int(self.sim.state[self._device[unit.path]]) == UnitState.ABORTED

    def order(
        self, center: WorkCenter, unit: WorkUnit, steps: Sequence[Step], priority: int = 0
    ) -> JobOrder:
        """A job order for one step, or for a load of several steps of one recipe."""
        room = center.capacity if center.kind is WorkCenterKind.BATCH else NEVER
        requests: list[tuple[str, int]] = []
        for step in steps:
            pieces = min(step.pieces, room - sum(p for _, p in requests))
            if pieces > 0:
                requests.append((step.request.id, pieces))
        self._serial += 1
        first = steps[0]
        batch = center.kind is WorkCenterKind.BATCH
        quantity = sum(p for _, p in requests)
        seconds = first.routing.seconds * (1 if batch else quantity / unit.speed)
        name = f"LOAD-{center.id}" if batch else f"{first.request.id}.{center.id}"
        now = self.sim.now_ns
        return JobOrder(
            id=f"{name}.{self._serial}",
            requests=tuple(requests),
            work_center=center.id,
            equipment=unit.path,
            product=first.request.product,
            program=first.routing.family,
            quantity=quantity,
            start_ns=now,
            end_ns=now + int(seconds) * NS_PER_S,
            priority=priority,
        )

    def store(self, job: JobOrder) -> None:
        """Send a job order to its unit, allowed to start."""
        self.queued[job.equipment][job.id] = job
        for request, pieces in job.requests:
            self._cover(request, job.work_center, pieces)
        refusal = self.sim.command(StoreJob(job, start=True))
        if refusal:
            raise RuntimeError(f"the simulated plant refused job {job.id!r}: {refusal}")

    def withdraw(self, jobs: Iterable[JobOrder]) -> None:
        """Take job orders back that have not started."""
        for job in list(jobs):
            if self.sim.response(job.id).start_ns == 0:
                self.sim.command(ClearJob(job.id))
                self.queued[job.equipment].pop(job.id, None)
                for request, pieces in job.requests:
                    self._cover(request, job.work_center, -pieces)


def runs(unit: WorkUnit, family: str) -> bool:
    """Whether a unit can run a family."""
    return not unit.families or family in unit.families
