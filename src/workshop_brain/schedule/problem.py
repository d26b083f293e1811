"""From the plant, its orders and its live state to a scheduling problem."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import (
    Plant,
    RoutingStep,
    Upkeep,
    WorkCenter,
    WorkCenterKind,
    WorkUnit,
)
from workshop_brain.schedule.calendars import opened
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.plan import Plan, carry, unplanned
from workshop_brain.schedule.plant_limits import Before, Span, Work, limits_of
from workshop_brain.schedule.structure import FAR, Arrays, OpStatus, Problem, assemble
from workshop_brain.schedule.timing import retime
from workshop_brain.units import NS_PER_DAY, NS_PER_S

__all__ = [
    "FAR", "Arrays", "OpStatus", "Plan", "PlantState", "Problem", "assemble", "build", "carry",
    "form_loads", "left_out", "stops", "unplanned",
]  # fmt: skip

CALENDAR_DAYS = 14
"""How long after the horizon calendars are laid out; later on machines count as open."""
SHIFT_DAYS = 60
"""The same where work needs people or tools with shifts: later on there is nobody."""
LOAD_WINDOW_S = 8 * 3600
"""Orders share a furnace load only when their due dates lie this close together."""

MOST_LOADS = 2_000
"""Furnace loads of one order; more than a furnace makes in years is a slip of the pen."""
Load = tuple[tuple[str, int], ...]
"""``(request, pieces)`` of one furnace load."""
UPKEEP, UPKEEP_PROGRAM = "UPKEEP-", "maintenance"
"""Beginning of the ids, and program, of operations that are maintenance."""
_NEVER = (FAR * NS_PER_S, FAR * NS_PER_S)
MOST_OPS = 20_000
"""Operations of one problem: what is built and repaired within seconds."""

_ENDED = {JobState.ENDED}
_BUSY = {JobState.RUNNING, JobState.INTERRUPTED}
_WAITING = {JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START, JobState.UNKNOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantState:
    """What is true at the instant of planning.

    Attributes
    ----------
    jobs
        Every job known at the receivers with what the plant says of it: finished ones (their
        pieces need no planning), running ones (partly done) and queued ones.
    families
        Unit path -> family set up now.
    down
        Unit path -> expected return, ns; the unit works nothing before it.
    closed
        Unit path -> further closed windows ``(from_ns, to_ns)``: operators absent, maintenance.
    opened
        Work center -> windows in which its calendar counts as open: extra shifts.
    material
        Request id -> instant at which late material arrives, ns.
    locked
        Ids of queued jobs that may not be moved any more (kitted, loaded).
    loads
        Furnace loads of the plan so far, ``(request, pieces)`` each, by work center: an order that
        comes in must not mix all of them anew.
    upkeep
        Operation id of maintenance -> ``(from_ns, to_ns)`` by the plan in force: it counts as done
        then unless the unit was at work, for nothing else on the floor tells.
    speed
        Unit path -> how fast it works now as a factor on its usual speed (worn: 0.8), > 0.
    risk
        Unit path -> seconds of stops to expect for each second of work, >= 0, from the unit's
        health: work there is planned longer by that much, so that it goes to sound units first.
    """

    jobs: tuple[tuple[JobOrder, JobResponse], ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    down: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    opened: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    material: Mapping[str, int] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    loads: Mapping[str, tuple[Load, ...]] = field(default_factory=dict)
    upkeep: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    risk: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Op:
    """One operation while the problem is being built."""

    id: str
    center: int
    family: str
    requests: tuple[tuple[str, int], ...]
    seconds: float
    status: OpStatus = OpStatus.FREE
    unit: str = ""
    response: JobResponse | None = None
    queue: tuple[int, int] = (0, 0)
    upkeep: Upkeep | None = None
    planned: tuple[int, int] = (0, 0)

    @property
    def pieces(self) -> int:
        """Pieces in all."""
        return sum(p for _, p in self.requests)


def build(
    plant: Plant,
    requests: Sequence[WorkRequest],
    state: PlantState,
    now_ns: int,
    horizon_days: float = 5.0,
) -> Problem:
    """The problem of finishing all requests released within the horizon, from the live state.

    Ticks count from ``now_ns``. Finished pieces are left out, running jobs keep their unit and
    remaining work, queued jobs named in ``state.locked`` keep unit and order. Furnace loads are
    formed here (see :func:`form_loads`). Requests too large to be planned are left out (see
    :func:`left_out`).

    Raises
    ------
    InfeasibleError
        A step has no unit that may run its family, or a request names an unknown product.
    """
    return _Builder(plant, requests, state, now_ns, horizon_days).problem()


def form_loads(
    items: Sequence[tuple[str, int, int]],
    capacity: int,
    window_s: int = LOAD_WINDOW_S,
    kept: Sequence[Load] = (),
) -> list[Load]:
    """Furnace loads from ``(request, pieces, due tick)`` of one recipe.

    In order of due dates each order joins the first open load of its window with room; an order
    larger than a furnace fills whole loads first. Loads of ``kept`` whose pieces are all still
    open stay together.

    >>> form_loads([("a", 700, 0), ("b", 150, 60), ("c", 100, 90)], 300)
    [(('a', 300),), (('a', 300),), (('a', 100), ('b', 150)), (('c', 100),)]
    >>> form_loads([("b", 150, 60), ("c", 100, 90), ("new", 90, 0)], 300, kept=[(("c", 100),)])
    [(('c', 100), ('new', 90)), (('b', 150),)]
    """
    left = {request: pieces for request, pieces, _ in items}
    due_of = {request: due for request, _, due in items}
    loads: list[list[tuple[str, int]]] = []
    for load in kept:
        if all(left.get(request, 0) >= pieces for request, pieces in load):
            loads.append(list(load))
            for request, pieces in load:
                left[request] -= pieces
    room = [capacity - sum(pieces for _, pieces in load) for load in loads]
    first_due = [min(due_of[request] for request, _ in load) for load in loads]
    old = len(loads)
    open_loads: list[int] = []
    for request, pieces, due in sorted(items, key=lambda item: (item[2], item[0])):
        pieces = left[request]
        if not pieces:
            continue
        while pieces > capacity:
            loads.append([(request, capacity)])
            room.append(0)
            first_due.append(due)
            pieces -= capacity
        open_loads = [k for k in open_loads if room[k] > 0 and due - first_due[k] <= window_s]
        fitting = (k for k in range(old) if abs(due - first_due[k]) <= window_s)
        for k in (*fitting, *open_loads):
            if room[k] >= pieces:
                loads[k].append((request, pieces))
                room[k] -= pieces
                break
        else:
            open_loads.append(len(loads))
            loads.append([(request, pieces)])
            room.append(capacity - pieces)
            first_due.append(due)
    return [tuple(load) for load in loads]


def stops(
    machine_at: Mapping[str, int],
    origin_ns: int,
    down: Mapping[str, int],
    closed: Mapping[str, tuple[tuple[int, int], ...]],
) -> tuple[tuple[int, int, int], ...]:
    """``Problem.downs`` from ``PlantState.down`` and ``.closed``; units not in it are left out.

    >>> stops({"u": 0}, 0, {"u": 7 * NS_PER_S}, {"u": ((9 * NS_PER_S, 11 * NS_PER_S),), "v": ()})
    ((0, 0, 7), (0, 9, 11))
    """

    def tick(time_ns: int) -> int:
        return (time_ns - origin_ns) // NS_PER_S

    out = [
        (machine_at[path], 0, max(1, tick(until_ns)))
        for path, until_ns in down.items()
        if path in machine_at and until_ns > origin_ns
    ]
    for path, windows in closed.items():
        if path in machine_at:
            out += [(machine_at[path], max(0, tick(a)), tick(b)) for a, b in windows]
    return tuple(sorted(w for w in out if w[2] > w[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A request that no problem can hold.

    Attributes
    ----------
    operations, limit
        Operations that it needs, and how many it might have; furnace loads count as operations.
    """

    request: str
    quantity: int
    operations: int
    limit: int


def left_out(
    plant: Plant,
    requests: Sequence[WorkRequest],
    state: PlantState,
    now_ns: int,
    horizon_days: float = 5.0,
) -> tuple[LeftOut, ...]:
    """Requests that :func:`build` leaves out because the problem would grow beyond its bounds.

    A request may need ``MOST_LOADS`` furnace loads at a step; all together may need ``MOST_OPS``
    operations. Requests at work come first, then those due first.
    """
    begun = {r for order, _ in state.jobs for r, _ in order.requests}
    end_ns = now_ns + round(horizon_days * NS_PER_DAY)
    routing = {p.id: p.routing for p in plant.products}
    capacity = {c.id: c.capacity for c in plant.work_centers if c.kind is WorkCenterKind.BATCH}
    out, total = [], len(state.jobs)
    for request in sorted(requests, key=lambda r: (r.id not in begun, r.due_ns, r.id)):
        if request.release_ns >= end_ns:
            continue
        steps = [
            -(-request.quantity // capacity.get(step.work_center, request.quantity))
            for step in routing.get(request.product, ())
        ]
        needs, limit = sum(steps), MOST_OPS - total
        if max(steps, default=0) > MOST_LOADS:
            needs, limit = max(steps), MOST_LOADS
        if needs > limit:
            out.append(
                LeftOut(
                    request=request.id,
                    quantity=request.quantity,
                    operations=needs,
                    limit=max(0, limit),
                )
            )
            continue
        total += needs
    return tuple(out)


class _Builder:
    """Collects operations and arcs by name, then lays them out as columns."""

    def __init__(
        self,
        plant: Plant,
        requests: Sequence[WorkRequest],
        state: PlantState,
        now_ns: int,
        horizon_days: float,
    ) -> None:
        self.plant, self.state = plant, state
        self.origin = now_ns // NS_PER_S * NS_PER_S
        end_ns = self.end_ns = now_ns + round(horizon_days * NS_PER_DAY)
        calendars = [*(p.calendar for p in plant.people), *(t.calendar for t in plant.tools)]
        has_shifts = any(calendar.windows for calendar in calendars)
        days = SHIFT_DAYS if has_shifts else CALENDAR_DAYS
        self.closed_until = end_ns + days * NS_PER_DAY
        self.centers = plant.work_centers
        self.center_at = {c.id: k for k, c in enumerate(self.centers)}
        too_large = {x.request for x in left_out(plant, requests, state, now_ns, horizon_days)}
        self.requests = {
            r.id: r for r in requests if r.release_ns < end_ns and r.id not in too_large
        }
        products = {p.id: p for p in plant.products}
        self.routing: dict[str, tuple[RoutingStep, ...]] = {}
        for request in self.requests.values():
            if request.product not in products:
                raise InfeasibleError(
                    f"request {request.id!r}: no product {request.product!r} in the plant; "
                    f"known are {', '.join(products)}"
                )
            self.routing[request.id] = products[request.product].routing
        self.step_at = {
            r: {step.work_center: step for step in routing} for r, routing in self.routing.items()
        }
        self.units: list[tuple[int, WorkUnit]] = [
            (k, unit) for k, center in enumerate(self.centers) for unit in center.units
        ]
        self.units_of: list[list[tuple[int, WorkUnit]]] = [[] for _ in self.centers]
        for m, (k, unit) in enumerate(self.units):
            self.units_of[k].append((m, unit))
        self.machine_at = {unit.path: m for m, (_, unit) in enumerate(self.units)}
        self.ops: list[_Op] = []
        self.covering: dict[tuple[str, str], list[int]] = {}
        self.covered: dict[tuple[str, str], int] = {}
        self.arrived: dict[tuple[str, str], int] = {}
        self.ended: list[tuple[JobOrder, JobResponse]] = []
        self.used_ids = {order.id for order, _ in state.jobs}

    def tick(self, time_ns: int) -> int:
        """An instant as whole seconds after the origin."""
        return (time_ns - self.origin) // NS_PER_S

    def problem(self) -> Problem:
        """Lay everything out."""
        self._jobs_of_the_plant()
        self._open_work()
        self._ended_in_sight()
        self._upkeep(self.end_ns)
        return _with_locked(self._assemble(), self.ops)

    def _jobs_of_the_plant(self) -> None:
        for order, response in self.state.jobs:
            served = [(r, p) for r, p in order.requests if r in self.requests]
            if order.work_center not in self.center_at or not served:
                continue
            share = self._share_done(order, response)
            if share == 1.0:
                self.ended.append((order, response))
            if share is not None:
                for request, pieces in served:
                    key = (request, order.work_center)
                    self.covered[key] = self.covered.get(key, 0) + round(pieces * share)
                    if share > 0:
                        self.arrived[key] = max(
                            self.arrived.get(key, -FAR), self.tick(response.end_ns)
                        )
            elif response.state in _BUSY or response.state in _WAITING:
                self._add_job(order, response, tuple(served))

    @staticmethod
    def _share_done(order: JobOrder, response: JobResponse) -> float | None:
        """Share of the job's pieces that need no more work here; None while it is not over."""
        if response.state in _ENDED:
            return 1.0
        if response.state is JobState.ABORTED:
            return min(1.0, response.good / order.quantity)
        return None

    def _add_job(
        self, order: JobOrder, response: JobResponse, served: tuple[tuple[str, int], ...]
    ) -> None:
        step = self.step_at[served[0][0]].get(order.work_center)
        unit = response.equipment or order.equipment
        if step is None or unit not in self.machine_at:
            return
        status = OpStatus.FREE
        if response.state in _BUSY:
            status = OpStatus.RUNNING
        elif order.id in self.state.locked and unit not in self.state.down:
            status = OpStatus.LOCKED
        self._add(
            _Op(
                id=order.id,
                center=self.center_at[order.work_center],
                family=step.family,
                requests=served,
                seconds=step.seconds,
                status=status,
                unit=unit,
                response=response,
                queue=(order.priority, order.start_ns),
            )
        )

    def _add(self, op: _Op) -> None:
        index = len(self.ops)
        self.ops.append(op)
        center = self.centers[op.center].id
        for request, pieces in op.requests:
            key = (request, center)
            self.covering.setdefault(key, []).append(index)
            self.covered[key] = self.covered.get(key, 0) + pieces

    def _open_work(self) -> None:
        pools: dict[tuple[int, str], list[tuple[str, int, int]]] = {}
        seconds: dict[tuple[int, str], float] = {}
        for request in self.requests.values():
            for step in self.routing[request.id]:
                center = self.center_at[step.work_center]
                left = request.quantity - self.covered.get((request.id, step.work_center), 0)
                if left <= 0:
                    continue
                if self.centers[center].kind is WorkCenterKind.BATCH:
                    pool = (center, step.family)
                    pools.setdefault(pool, []).append((request.id, left, self.tick(request.due_ns)))
                    seconds[pool] = max(seconds.get(pool, 0.0), step.seconds)
                    continue
                self._add(
                    _Op(
                        id=self._fresh(f"{request.id}.{step.work_center}"),
                        center=center,
                        family=step.family,
                        requests=((request.id, left),),
                        seconds=step.seconds,
                    )
                )
        for (center, family), items in pools.items():
            kept = self.state.loads.get(self.centers[center].id, ())
            for load in form_loads(items, self.centers[center].capacity, kept=kept):
                text = ";".join(f"{request}:{pieces}" for request, pieces in load)
                name = hashlib.sha256(text.encode()).hexdigest()[:10]
                self._add(
                    _Op(
                        id=self._fresh(f"LOAD-{self.centers[center].id}-{name}"),
                        center=center,
                        family=family,
                        requests=load,
                        seconds=seconds[center, family],
                    )
                )

    def _ended_in_sight(self) -> None:
        """Ended work stays in the problem while its lots stand in a buffer, or the next step must
        begin within a time after it."""
        for order, response in self.ended:
            unit = response.equipment or order.equipment
            waiting = tuple(
                (r, pieces)
                for r, pieces in order.requests
                if r in self.requests and self._waits_behind(r, order.work_center)
            )
            if waiting and unit in self.machine_at:
                self._add(
                    _Op(
                        id=order.id,
                        center=self.center_at[order.work_center],
                        family=order.program,
                        requests=waiting,
                        seconds=0.0,
                        status=OpStatus.DONE,
                        unit=unit,
                        response=response,
                    )
                )

    def _upkeep(self, end_ns: int) -> None:
        """Maintenance whose time is near and that the plan in force has not done yet."""
        for upkeep in self.plant.upkeep:
            if upkeep.latest_ns <= self.origin or upkeep.earliest_ns >= end_ns:
                continue
            id = f"{UPKEEP}{upkeep.id}"
            begin, end = self.state.upkeep.get(id, _NEVER)
            if self._worked_ns(upkeep.unit, begin, end) > (min(end, self.origin) - begin) // 2:
                begin, end = _NEVER  # the unit was at work instead
            if end <= self.origin:
                continue
            self.ops.append(
                _Op(
                    id=id,
                    center=self.units[self.machine_at[upkeep.unit]][0],
                    family=UPKEEP_PROGRAM,
                    requests=(),
                    seconds=upkeep.duration_s,
                    status=OpStatus.RUNNING if begin <= self.origin else OpStatus.FREE,
                    unit=upkeep.unit,
                    upkeep=upkeep,
                    planned=(self.tick(begin), self.tick(end)),
                )
            )

    def _worked_ns(self, unit: str, begin: int, end: int) -> int:
        """How long a unit worked on jobs between two instants, as far as that is over, ns."""
        return sum(
            max(0, min(end, response.end_ns or self.origin) - max(begin, response.start_ns))
            for order, response in self.state.jobs
            if (response.equipment or order.equipment) == unit
            and response.start_ns > 0
            and response.state in (JobState.RUNNING, JobState.ENDED)
        )

    def _waits_behind(self, request: str, center: str) -> bool:
        """Whether a step that has not begun is tied to the end of a step at a work center."""
        return any(
            self.ops[k].status is OpStatus.FREE
            for step in self.routing[request]
            if center in step.after and (step.buffer or step.max_lag_s is not None)
            for k in self.covering.get((request, step.work_center), ())
        )

    def _fresh(self, id: str) -> str:
        n, fresh = 1, id
        while fresh in self.used_ids:
            n += 1
            fresh = f"{id}.{n}"
        self.used_ids.add(fresh)
        return fresh

    def _alternatives(self, op: _Op) -> list[tuple[int, int]]:
        """Machines and durations; a fixed operation has its own machine alone."""
        if op.upkeep is not None:
            return [(self.machine_at[op.unit], op.upkeep.duration_s)]
        center = self.centers[op.center]
        out = []
        for m, unit in self.units_of[op.center]:
            if unit.families and op.family not in unit.families:
                continue
            if op.status is not OpStatus.FREE and unit.path != op.unit:
                continue
            out.append((m, self._duration(op, center, unit)))
        if not out and op.unit:
            m = self.machine_at[op.unit]
            out.append((m, self._duration(op, center, self.units[m][1])))
        if not out:
            raise InfeasibleError(
                f"operation {op.id!r}: no unit of {center.id!r} may run family {op.family!r}; "
                "add the family to a unit in plant.toml"
            )
        return out

    def _duration(self, op: _Op, center: WorkCenter, unit: WorkUnit) -> int:
        speed, risk = self.state.speed.get(unit.path, 1.0), self.state.risk.get(unit.path, 0.0)
        if not (speed > 0.0 and risk >= 0.0):
            raise InfeasibleError(
                f"unit {unit.path!r}: speed must be > 0 and risk >= 0, got {speed} and {risk}"
            )
        longer = (1.0 + risk) / speed
        if center.kind is WorkCenterKind.BATCH:
            return max(1, round(op.seconds * longer))
        return max(1, round(op.pieces * op.seconds / unit.speed * longer))

    def _lag(self, center: WorkCenter) -> int:
        return center.transport_s + center.transit_s

    def _arcs(self, index: int) -> tuple[list[tuple[int, int]], int]:
        """Predecessors with lags, and the earliest start from releases and finished steps."""
        op = self.ops[index]
        center = self.centers[op.center].id
        preds: dict[int, int] = {}
        release = -FAR
        if op.upkeep is not None:
            return [], self.tick(op.upkeep.earliest_ns)
        for request, _ in op.requests:
            step = self.step_at[request].get(center)
            release = max(
                release,
                self.tick(self.requests[request].release_ns),
                self.tick(self.state.material[request]) if request in self.state.material else -FAR,
            )
            for before in step.after if step else ():
                lag = self._lag(self.plant.work_center(before))
                key = (request, before)
                release = max(release, self.arrived.get(key, -FAR) + lag)
                for p in self.covering.get(key, []):
                    preds[p] = max(0, lag - self._gone(p))
        if op.status in (OpStatus.RUNNING, OpStatus.DONE):
            return [], -FAR
        return sorted(preds.items()), release

    def _machines(self) -> tuple[dict[str, list[int]], list[list[tuple[int, int]]]]:
        columns: dict[str, list[int]] = {
            "work_center": [], "available": [], "family": [], "resumable": [],
        }  # fmt: skip
        planned: dict[str, list[tuple[int, int]]] = {}
        calendar = []
        for k, unit in self.units:
            center = self.centers[k]
            if center.calendar.id not in planned:
                planned[center.calendar.id] = [
                    (self.tick(a), -((self.origin - b) // NS_PER_S))
                    for a, b in center.calendar.closed(self.origin, self.closed_until)
                ]
            shifts = [(self.tick(a), self.tick(b)) for a, b in self.state.opened.get(center.id, ())]
            closed = planned[center.calendar.id]
            calendar.append(opened(closed, shifts) if shifts else closed)
            family = self.state.families.get(unit.path, "")
            columns["work_center"].append(k)
            columns["available"].append(0)
            columns["family"].append(
                center.families.index(family) if family in center.families else -1
            )
            columns["resumable"].append(int(center.kind is not WorkCenterKind.BATCH))
        return columns, calendar

    def _limits(self, preds: Sequence[Sequence[tuple[int, int]]]) -> Limits | None:
        work = []
        for op, before in zip(self.ops, preds, strict=True):
            center = self.centers[op.center].id
            steps = [self.step_at[r].get(center) for r, _ in op.requests]
            held = () if op.status is OpStatus.DONE else tuple(s for s in steps if s is not None)
            centers = tuple(
                Before(p, self.centers[self.ops[p].center].id, lag, self._gone(p))
                for p, lag in before
            )
            latest = None if op.upkeep is None else self.tick(op.upkeep.latest_ns)
            work.append(Work(steps=held, before=centers, latest=latest))
        span = Span(from_ns=self.origin, until_ns=self.closed_until, tick=self.tick)
        return limits_of(self.plant, work, span)

    def _gone(self, index: int) -> int:
        """Seconds since the end of an operation that is over; else 0."""
        op = self.ops[index]
        if op.status is not OpStatus.DONE or op.response is None or not op.response.end_ns:
            return 0
        return max(0, -self.tick(op.response.end_ns))

    def _family(self, op: _Op) -> int:
        """Index of the family; ended work and maintenance leave what is set up now as it is."""
        if op.status is OpStatus.DONE or op.upkeep is not None:
            return -1
        return self.centers[op.center].families.index(op.family)

    def _setup(self) -> NDArray[np.int64]:
        size = max((len(c.families) for c in self.centers), default=1)
        setup = np.zeros((len(self.centers), size, size), np.int64)
        for k, center in enumerate(self.centers):
            n = len(center.families)
            setup[k, :n, :n] = np.array(center.setup_s, np.int64).reshape(n, n)
        return setup

    def _assemble(self) -> Problem:
        used = {r for op in self.ops for r, _ in op.requests}
        live = [r for r in self.requests if r in used]
        due = [self.tick(self.requests[r].due_ns) for r in live]
        release = [self.tick(self.requests[r].release_ns) for r in live]
        weight = [self.requests[r].priority for r in live]
        for op in self.ops:
            if op.upkeep is not None:  # a job of its own, due never
                live.append(op.id)
                due.append(FAR)
                release.append(self.tick(op.upkeep.earliest_ns))
                weight.append(0)
        job_at = {r: j for j, r in enumerate(live)}
        arcs = [self._arcs(k) for k in range(len(self.ops))]
        machines, calendar = self._machines()
        sinks: list[list[int]] = []
        tails = []
        for op in self.ops:
            center = self.centers[op.center].id
            last = [
                r
                for r, _ in op.requests
                if not any(center in step.after for step in self.routing[r])
            ]
            sinks.append([job_at[op.id]] if op.upkeep is not None else [job_at[r] for r in last])
            tails.append(0 if op.upkeep is not None else self.centers[op.center].transit_s)
        served = [[job_at[r] for r, _ in op.requests] or [job_at[op.id]] for op in self.ops]
        return assemble(
            name=self.plant.site,
            origin_ns=self.origin,
            alternatives=[self._alternatives(op) for op in self.ops],
            preds=[preds for preds, _ in arcs],
            op_job=[min(row, key=lambda j: due[j]) for row in served],
            job_due=due,
            n_machines=len(self.units),
            ops={
                "family": [self._family(op) for op in self.ops],
                "work_center": [op.center for op in self.ops],
                "release": [release for _, release in arcs],
                "tail": tails,
                "status": [int(op.status) for op in self.ops],
                "fixed_machine": [
                    self.machine_at[op.unit] if op.status is not OpStatus.FREE else -1
                    for op in self.ops
                ],
                "quantity": [op.pieces or 1 for op in self.ops],
                "capacity": [self.centers[op.center].capacity for op in self.ops],
            },
            jobs={"release": release, "weight": weight},
            machines=machines,
            setup=self._setup(),
            sinks=sinks,
            calendar=calendar,
            downs=stops(self.machine_at, self.origin, self.state.down, self.state.closed),
            op_ids=[op.id for op in self.ops],
            job_ids=live,
            machine_ids=[unit.path for _, unit in self.units],
            work_center_ids=[c.id for c in self.centers],
            op_requests=[op.requests for op in self.ops],
            op_product=[
                self.requests[op.requests[0][0]].product if op.requests else "" for op in self.ops
            ],
            op_program=[op.family for op in self.ops],
            limits=self._limits([preds for preds, _ in arcs]),
        )


def _remaining(problem: Problem, o: int, op: _Op) -> int:
    """Work left of a running operation, ticks, >= 1.

    Pieces still to come count for machines; elapsed time for furnaces; on a line pieces that have
    entered are done with its entry, and at most a transit's worth of them is still inside.
    """
    duration = int(problem.alt_duration[problem.alt_ptr[o]])
    response, pieces = op.response, int(problem.op_quantity[o])
    if response is None:
        return duration
    m = int(problem.op_fixed_machine[o])
    elapsed = max(0, -problem.ticks(response.start_ns)) if response.start_ns else 0
    setup = 0
    if problem.machine_family[m] >= 0:
        setup = problem.setup_between(m, int(problem.machine_family[m]), int(problem.op_family[o]))
    setup_left = max(0, setup - elapsed)
    if problem.op_capacity[o] > 0:
        return max(1, duration - elapsed) + setup_left
    done = response.good + response.scrap
    per_piece = duration / max(1, pieces)
    tail = int(problem.op_tail[o])
    if tail > 0:
        done = round(min(elapsed / per_piece, done + tail / per_piece))
    return max(1, round(max(0, pieces - done) * per_piece)) + setup_left


def _with_locked(problem: Problem, ops: Sequence[_Op]) -> Problem:
    """Fixed times for running jobs and, where their predecessors allow it, for locked ones."""
    status = problem.op_status.copy()
    start = problem.op_fixed_start.copy()
    begin = problem.op_fixed_from.copy()
    work = problem.op_fixed_work.copy()
    machine = problem.op_fixed_machine.copy()
    for o, op in enumerate(ops):
        if op.upkeep is not None and op.status is OpStatus.RUNNING:
            start[o], work[o] = op.planned
            begin[o] = 0
        elif op.status is OpStatus.RUNNING:
            seen = op.response.start_ns if op.response else 0
            start[o] = min(0, problem.ticks(seen)) if seen else 0
            begin[o], work[o] = 0, _remaining(problem, o, op)
        elif op.status is OpStatus.DONE and op.response is not None:
            # It ends now for the problem; how long ago that was is taken off its lags.
            begun = problem.ticks(op.response.start_ns) if op.response.start_ns else 0
            start[o] = begin[o] = min(begun, 0)
            work[o] = -start[o]
    for o in problem.op_order[status[problem.op_order] == OpStatus.LOCKED].tolist():
        if any(status[p] == OpStatus.FREE for p, _ in problem.preds(o)):
            status[o], machine[o] = OpStatus.FREE, -1
    locked = np.flatnonzero(status == OpStatus.LOCKED)
    queue = sorted(
        np.flatnonzero((status != 0) & (status != OpStatus.DONE)).tolist(),
        key=lambda o: (int(machine[o]), int(status[o] != OpStatus.RUNNING), ops[o].queue, o),
    )
    timing_status = status.copy()
    timing_status[locked] = OpStatus.FREE
    changes = {
        "op_fixed_start": start,
        "op_fixed_from": begin,
        "op_fixed_work": work,
        "op_fixed_machine": machine,
    }
    trial = problem.with_(op_status=timing_status, **changes)
    ptr = np.zeros(problem.n_machines + 1, np.int64)
    taken = machine[np.array(queue, np.int64)]
    np.cumsum(np.bincount(taken, minlength=problem.n_machines), out=ptr[1:])
    timed = np.where(status == OpStatus.DONE, -1, machine)  # what is over waits for nobody
    starts, _, _, done = retime(trial.arrays, timed, ptr, np.array(queue, np.int64))
    if done < len(queue):
        return _with_locked(problem, [_freed(op) for op in ops])
    for o in locked.tolist():
        start[o] = begin[o] = starts[o]
        work[o] = problem.alternatives(o)[int(machine[o])]
    return problem.with_(op_status=status, **changes)


def _freed(op: _Op) -> _Op:
    """A queued operation set free (its queue contradicts precedence); others as they are."""
    return replace(op, status=OpStatus.FREE) if op.status is OpStatus.LOCKED else op
