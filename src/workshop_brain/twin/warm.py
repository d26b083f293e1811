"""The plant in the middle of its work: finished steps, running jobs, full buffers, worn tools.

The requests of the order book that were released before the start are laid into the plant, the
oldest nearest to the end of their routing. Then the simulation itself runs for a few hours with
all calendars open, so that stations, buffers, temperatures and stops are in a state that the
simulation really produces. Jobs that did not start until then are taken off the lists again: what
runs next is the planner's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_brain.model.order import JobOrder, WorkRequest
from workshop_brain.model.plant import Plant, WorkCenter, WorkCenterKind, WorkUnit
from workshop_brain.twin import draws
from workshop_brain.twin.commands import ClearJob, StoreJob
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.orders import in_pipeline, order_book
from workshop_brain.units import NS_PER_H, NS_PER_MIN, NS_PER_S

if TYPE_CHECKING:
    from workshop_brain.twin.sim import PlantSim

BURN_NS = 4 * NS_PER_H
QUEUED_PER_LINE = 3
WAITING = 1
"""Requests that wait before each work center of the main chain at the start."""


@dataclass(slots=True)
class _Laying:
    """What has been laid into the plant so far."""

    sim: "PlantSim"
    left: list[WorkRequest]
    start_ns: int
    loads: int = 0
    number: int = 0

    def draw(self) -> float:
        """The next draw of the warm start."""
        self.number += 1
        return uniform(self.sim.seed, draws.WARM, self.number, 0)


def warm_up(sim: "PlantSim") -> None:
    """Bring a cold PlantSim into the middle of its work at its start instant."""
    start_ns = sim.start_ns
    book = order_book(sim.plant, sim.seed, start_ns, 1, sim.scenario)
    pipeline = in_pipeline(book, start_ns)
    for request in pipeline:
        product = next(k for k, p in enumerate(sim.plant.products) if p.id == request.product)
        sim.request_row(request.id, product, request.quantity)
    laying = _Laying(sim, list(pipeline), start_ns - BURN_NS)
    sim.rewind(laying.start_ns)
    for s in range(len(sim.stations)):
        sim.age_tool(s, uniform(sim.seed, draws.WARM, s, 1))
    chain, sides = _chain(sim.plant)
    placed: list[WorkRequest] = []
    for center in reversed(chain):
        placed += _lay_center(laying, center, chain)
    for center in sides:
        _lay_side(laying, center, placed)
    sim.burn(start_ns)
    for center in sim.plant.work_centers:
        for response in sim.job_list(center.id):
            if response.start_ns == 0:
                sim.command(ClearJob(response.job))
    sim.begin(start_ns)


def _chain(plant: Plant) -> tuple[list[WorkCenter], list[WorkCenter]]:
    """Work centers of the longest way through the plant, and the others (side branches)."""
    best: list[str] = []
    for product in plant.products:
        ways: dict[str, list[str]] = {}
        for step in product.routing:
            before = max((ways[b] for b in step.after), key=len, default=[])
            ways[step.work_center] = [*before, step.work_center]
        best = max([best, *ways.values()], key=len)
    chain = [plant.work_center(id) for id in best]
    return chain, [c for c in plant.work_centers if c.id not in best]


def _fits(plant: Plant, request: WorkRequest, center: WorkCenter, unit: WorkUnit) -> bool:
    try:
        step = plant.product(request.product).step(center.id)
    except KeyError:
        return False
    return not unit.families or step.family in unit.families


def _lay_center(laying: _Laying, center: WorkCenter, chain: list[WorkCenter]) -> list[WorkRequest]:
    """Requests that run at or wait for one work center of the chain; earlier steps are finished."""
    before = chain[: chain.index(center)]
    placed: list[WorkRequest] = []
    line = center.kind is WorkCenterKind.LINE
    rounds = QUEUED_PER_LINE if line else 1
    for turn in range(rounds):
        for unit in center.units:
            request = _next(laying, center, unit)
            if request is None:
                continue
            placed.append(request)
            for step in before:
                _finished(laying, request, step)
            if line:
                for other in laying.sim.plant.work_centers:
                    if other not in chain:
                        _finished(laying, request, other)
            _running(laying, request, center, unit, fresh=turn > 0)
    for _ in range(WAITING):
        if before and laying.left:
            request = laying.left.pop(0)
            placed.append(request)
            for step in before:
                _finished(laying, request, step)
    return placed


def _lay_side(laying: _Laying, center: WorkCenter, placed: list[WorkRequest]) -> None:
    """A side branch: finished for the oldest requests, running for the next ones."""
    todo = [
        r for r in placed
        if _has_step(laying.sim.plant, r, center) and laying.sim.step_done(r.id, center.id) == 0
    ]  # fmt: skip
    for request in todo[: len(todo) // 2]:
        _finished(laying, request, center)
    todo = todo[len(todo) // 2 :]
    for unit in center.units:
        first = next((r for r in todo if _fits(laying.sim.plant, r, center, unit)), None)
        if first is not None:
            todo.remove(first)
            _running(laying, first, center, unit)


def _has_step(plant: Plant, request: WorkRequest, center: WorkCenter) -> bool:
    return any(s.work_center == center.id for s in plant.product(request.product).routing)


def _next(laying: _Laying, center: WorkCenter, unit: WorkUnit) -> WorkRequest | None:
    for request in laying.left:
        if _fits(laying.sim.plant, request, center, unit):
            laying.left.remove(request)
            return request
    return None


def _jobs(
    laying: _Laying, request: WorkRequest, center: WorkCenter, unit: WorkUnit
) -> Iterable[JobOrder]:
    """Job orders of a request at a work center: one, or loads of at most the capacity."""
    batch = center.kind is WorkCenterKind.BATCH
    step = laying.sim.plant.product(request.product).step(center.id)
    rest = request.quantity
    while rest > 0:
        pieces = min(rest, center.capacity) if batch else rest
        rest -= pieces
        laying.loads += batch
        yield JobOrder(
            id=f"LOAD-{center.id}-P{laying.loads:03d}" if batch else f"{request.id}.{center.id}",
            requests=((request.id, pieces),),
            work_center=center.id,
            equipment=unit.path,
            product=request.product,
            program=step.family,
            quantity=pieces,
            start_ns=laying.start_ns,
            end_ns=laying.start_ns + int(step.seconds * (1 if batch else pieces)) * NS_PER_S,
        )


def _finished(laying: _Laying, request: WorkRequest, center: WorkCenter) -> None:
    """A step that ended before the simulation began."""
    if not _has_step(laying.sim.plant, request, center):
        return
    units = [u for u in center.units if _fits(laying.sim.plant, request, center, u)]
    unit = units[int(laying.draw() * len(units))]
    for job in _jobs(laying, request, center, unit):
        length = max(NS_PER_MIN, job.end_ns - job.start_ns)
        ended = laying.start_ns - center.transport_s * NS_PER_S
        ended -= int(laying.draw() * 12 * NS_PER_H) // NS_PER_S * NS_PER_S
        scrap = sum(laying.draw() < 0.004 for _ in range(job.quantity))
        laying.sim.ended_job(job, scrap=scrap, start_ns=ended - length, end_ns=ended)


def _running(
    laying: _Laying,
    request: WorkRequest,
    center: WorkCenter,
    unit: WorkUnit,
    *,
    fresh: bool = False,
) -> None:
    """A job that is at work when the simulation begins, somewhere in its first half."""
    for k, job in enumerate(_jobs(laying, request, center, unit)):
        laying.sim.command(StoreJob(job, start=True))
        if k == 0 and not fresh:
            laying.sim.advance_job(job.id, 0.05 + 0.45 * laying.draw())
