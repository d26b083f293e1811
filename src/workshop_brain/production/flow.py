"""How pieces flow: stations in order, buffers between them, counts, takt, progress of orders."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.model.plant import Plant, WorkCenter

_NUMBERED = re.compile(r"([a-z_-]*?)(\d+)$")
_CLASSES = {
    "st": "station",
    "op": "station",
    "rob": "robot",
    "leak": "leak_tester",
    "eol": "eol_bench",
    "oil": "oil_fill",
    "conv": "conveyor",
    "agv": "agv",
    "vis": "vision",
}
_PARALLEL = frozenset({"leak_tester", "oil_fill", "eol_bench"})
_BESIDE = frozenset({"robot", "conveyor", "agv", "vision", "utility"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One device of a line.

    Attributes
    ----------
    row
        Its row in the unit table.
    klass
        ``station``, ``subassembly``, ``robot``...: from the id's letters, else the cell's name.
    position
        Order of flow within the line, from 0; devices beside the flow come last.
    in_flow
        Pieces pass through it.
    beside
        Devices that do the same work side by side, itself included; each has so many times the
        line's takt for a piece.
    """

    row: int
    path: str
    id: str
    cell: str
    klass: str
    position: int
    in_flow: bool
    beside: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A buffer between two stages of a flow, each one device or several side by side.

    Attributes
    ----------
    sources, targets
        Positions in ``Layout.stations``.
    joins
        A feeder line ends here; the targets' infeed level speaks of their main flow instead.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    joins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A line in flow order.

    ``main`` are the positions of the single stations of the main flow, in order; ``missing`` the
    ids that the plant file names in the flow and no source has declared.
    """

    line: str
    stations: tuple[Station, ...]
    links: tuple[Link, ...]
    main: tuple[int, ...]
    missing: tuple[str, ...] = ()


def stated_layout(
    line: str,
    prefix: str,
    paths: Sequence[str],
    skip: frozenset[str],
    flow: Sequence[Sequence[Sequence[str]]],
) -> Layout:
    """The flow of a line as the plant file states it (``WorkCenter.flow``); arguments as `layout`.

    Devices that the flow does not name stand beside it, after it.
    """
    known: dict[str, int] = {}
    for row, path in enumerate(paths):
        if path.startswith(prefix + "/") and path not in skip:
            known.setdefault(path.rsplit("/", 1)[1], row)
    order: dict[str, int] = {}
    abreast: dict[str, int] = {}
    links: list[Link] = []
    single: list[int] = []
    for c, chain in enumerate(flow):
        before: tuple[int, ...] = ()
        for stage in chain:
            joins = all(id in order for id in stage if id in known)
            here = [id for id in stage if id in known]
            for id in here:
                order.setdefault(id, len(order))
                abreast.setdefault(id, len(here))
            after = tuple(order[id] for id in here)
            if before and after:
                links.append(Link(sources=before, targets=after, joins=joins))
            if c == 0 and len(stage) == 1:
                single += after
            before = after or before
    beside = sorted(set(known) - set(order), key=lambda id: paths[known[id]])
    stations = tuple(
        _station(k, known[id], paths[known[id]], in_flow=k < len(order), beside=abreast.get(id, 1))
        for k, id in enumerate([*order, *beside])
    )
    named = (id for chain in flow for stage in chain for id in stage)
    return Layout(
        line=line,
        stations=stations,
        links=tuple(links),
        main=tuple(single),
        missing=tuple(dict.fromkeys(id for id in named if id not in known)),
    )


def _station(position: int, row: int, path: str, *, in_flow: bool, beside: int) -> Station:
    cell, id = path.split("/")[-2:]
    match = _NUMBERED.match(id)
    klass = _class_of(match[1] if match else id, cell)
    if not in_flow and klass == "subassembly":
        klass = "utility"
    return Station(
        row=row, path=path, id=id, cell=cell, klass=klass, position=position, in_flow=in_flow,
        beside=beside,
    )  # fmt: skip


def layout(line: str, prefix: str, paths: Sequence[str], skip: frozenset[str]) -> Layout:
    """Work out the flow of a line from the names of its devices, where the plant file has none.

    ``prefix`` is the line's path, ``paths`` the unit table's; ``skip`` are unit paths that stand
    for whole lines. Numbered devices with the same letters form a chain in number order; the
    longest chain is the main flow. Benches, testers and fillers work in parallel after it.
    """
    found = []
    for row, path in enumerate(paths):
        if path.startswith(prefix + "/") and path not in skip:
            cell, id = path.split("/")[-2:]
            match = _NUMBERED.match(id)
            letters, number = (match[1], int(match[2])) if match else (id, 0)
            found.append((row, path, cell, id, letters, number))
    sizes: dict[str, int] = {}
    for entry in found:
        if _class_of(entry[4], entry[2]) not in _PARALLEL | _BESIDE:
            sizes[entry[4]] = sizes.get(entry[4], 0) + 1
    chains = {letters for letters, size in sizes.items() if size > 1}
    longest = max(chains, key=lambda letters: sizes[letters], default="")
    ordered = sorted(found, key=lambda e: (_rank(e, longest, chains), e[4], e[5], e[2]))
    classes = [_class_of(entry[4], entry[2]) for entry in found]
    stations = tuple(
        Station(
            row=row,
            path=path,
            id=id,
            cell=cell,
            klass="station" if letters == longest else _class_of(letters, cell),
            position=k,
            in_flow=letters in chains or _class_of(letters, cell) in _PARALLEL,
            beside=classes.count(klass) if (klass := _class_of(letters, cell)) in _PARALLEL else 1,
        )
        for k, (row, path, cell, id, letters, _) in enumerate(ordered)
    )
    letters_of = [entry[4] for entry in ordered]
    main = tuple(k for k in range(len(ordered)) if letters_of[k] == longest)
    return Layout(line=line, stations=stations, links=_links(stations, letters_of, main), main=main)


def _class_of(letters: str, cell: str) -> str:
    known = _CLASSES.get(letters)
    if known:
        return known
    return "utility" if cell == "utilities" else "subassembly"


def _rank(entry: tuple[int, str, str, str, str, int], longest: str, chains: set[str]) -> int:
    klass = _class_of(entry[4], entry[2])
    if entry[4] == longest:
        return 0
    if klass in _PARALLEL:
        return 2
    return 1 if entry[4] in chains else 3


def _links(
    stations: tuple[Station, ...], letters: list[str], main: tuple[int, ...]
) -> tuple[Link, ...]:
    out = [
        Link(sources=(k,), targets=(k + 1,))
        for k in range(len(stations) - 1)
        if letters[k] == letters[k + 1]
        and stations[k].in_flow
        and stations[k].klass not in _PARALLEL
    ]
    if main:
        first = next((s.klass for s in stations if s.klass in _PARALLEL), "")
        after = tuple(s.position for s in stations if s.klass == first and first)
        if after:
            out.append(Link(sources=(main[-1],), targets=after))
    return tuple(out)


def link_state(*, level: float, blocked: bool, starved: bool) -> str:
    """``blocked``, ``starved`` or ``ok`` of a buffer, from its level and both neighbours.

    ``blocked`` is the flag of the device before, ``starved`` of the one after. An empty buffer
    cannot block its source (something else does), a filled one cannot starve its target; a level
    of NaN is not known. The flags count, not the capacity: not every PLC tells its real one.
    """
    if blocked and not level <= 0:
        return "blocked"
    if starved and not level > 0:
        return "starved"
    return "ok"


def rise(before: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pieces counted between two readings of rising counters; a reset starts from zero.

    NaN where either reading is missing.

    >>> import numpy as np
    >>> rise(np.array([10.0, 10.0]), np.array([12.0, 3.0]))
    array([2., 3.])
    """
    step = now - before
    return np.where(step < 0, now, step)


def robust_takt_s(gaps_s: NDArray[np.float64]) -> float:
    """Demonstrated takt: median of the gaps between finished pieces, seconds; NaN below three.

    The median shrugs off stops, which belong to availability and not to speed.
    """
    gaps = gaps_s[~np.isnan(gaps_s)]
    return float(np.median(gaps)) if len(gaps) >= 3 else float("nan")


def takt_goal_s(plant: Plant, center: WorkCenter, products: Iterable[str] = ()) -> float:
    """Planned seconds per piece at a work center, over its running products, else over all.

    NaN when no product is made there.
    """
    wanted = set(products)
    seconds = [
        step.seconds
        for product in plant.products
        if not wanted or product.id in wanted
        for step in product.routing
        if step.work_center == center.id
    ]
    return float(np.median(seconds)) if seconds else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Progress of one order at one work center; ``good`` pieces so far."""

    work_center: str
    job: str
    state: JobState
    good: int
    scrap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of one order; ``done`` is the share of all its pieces and steps, 0 to 1."""

    request: str
    steps: tuple[Step, ...]
    done: float


_ORDER_OF_STATES = {
    JobState.PLANNED: 0,
    JobState.UNKNOWN: 1,
    JobState.NOT_ALLOWED_TO_START: 1,
    JobState.ALLOWED_TO_START: 2,
    JobState.INTERRUPTED: 3,
    JobState.RUNNING: 4,
    JobState.ABORTED: 0,
    JobState.ENDED: 5,
}


def order_progress(
    request: WorkRequest, plant: Plant, jobs: Iterable[tuple[JobOrder, JobResponse | None]]
) -> Progress:
    """Progress of a request over its routing from the job responses of its job orders.

    A load that serves several requests counts for each with the share of its pieces. Good pieces
    beyond the request's quantity do not make it more than done.
    """
    wanted = {step.work_center for step in plant.product(request.product).routing}
    by_center: dict[str, list[tuple[JobOrder, JobResponse | None, float]]] = {}
    for job, response in jobs:
        pieces = dict(job.requests).get(request.id, 0)
        if pieces and job.work_center in wanted:
            share = pieces / max(1, sum(n for _, n in job.requests))
            by_center.setdefault(job.work_center, []).append((job, response, share))
    steps: list[Step] = []
    done = 0.0
    for step in plant.product(request.product).routing:
        entries = by_center.get(step.work_center, [])
        good = scrap = 0
        state, job_id = JobState.PLANNED, ""
        for job, response, share in entries:
            now = response.state if response else JobState.PLANNED
            if not job_id or _ORDER_OF_STATES[now] >= _ORDER_OF_STATES[state]:
                state, job_id = now, job.id
            if response:
                good += round(response.good * share)
                scrap += round(response.scrap * share)
        steps.append(
            Step(work_center=step.work_center, job=job_id, state=state, good=good, scrap=scrap)
        )
        is_uncounted = state is JobState.ENDED and not good and not scrap
        done += 1.0 if is_uncounted else min(good, request.quantity) / request.quantity
    return Progress(request=request.id, steps=tuple(steps), done=done / max(1, len(steps)))
