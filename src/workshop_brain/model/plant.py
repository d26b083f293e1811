"""The plant's nouns for production: work centers, units, products, routings, changeovers.

This is master data that the planners own (plant.toml); what happens now comes from signals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from workshop_brain.model.calendar import Calendar
from workshop_brain.units import NS_PER_S


class WorkCenterKind(StrEnum):
    """How a work center works through a job.

    MACHINING: parallel units, a job runs whole on one unit, piece by piece.
    BATCH: furnaces; a job is one load, all pieces start and end together.
    LINE: one flow line; a job enters piece by piece at takt, the next may follow at once, and the
    last piece leaves ``transit_s`` after it has entered.
    """

    MACHINING = "machining"
    BATCH = "batch"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A kind of tool or fixture: ``quantity`` of them, to be had as the calendar says."""

    id: str
    calendar: Calendar
    quantity: int = 1

    def __post_init__(self) -> None:
        if self.quantity < 1:
            raise ValueError(f"tool {self.id!r}: quantity must be >= 1, got {self.quantity}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with skills, there as the calendar says, for one piece of work at a time."""

    id: str
    skills: tuple[str, ...]
    calendar: Calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Places for lots between machines; 0 = none: a lot stays on its machine until the next."""

    id: str
    capacity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What power costs.

    Attributes
    ----------
    price
        Per kWh, outside all windows.
    windows
        ``(times, price)``; where windows overlap the first counts.
    """

    price: float
    windows: tuple[tuple[Calendar, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Maintenance that the plan may put where it suits.

    Attributes
    ----------
    unit
        Path of the unit that stands meanwhile.
    duration_s
        Working time that it takes, seconds; > 0.
    earliest_ns, latest_ns
        It begins no earlier and ends no later, ns since the epoch, UTC.
    """

    id: str
    unit: str
    duration_s: int
    earliest_ns: int
    latest_ns: int

    def __post_init__(self) -> None:
        if self.duration_s <= 0 or self.latest_ns - self.earliest_ns < self.duration_s * NS_PER_S:
            raise ValueError(
                f"maintenance {self.id!r}: {self.duration_s} s do not fit between its earliest and "
                "its latest instant"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Tools, and people by skill, that work holds: how many of each.

    Attributes
    ----------
    run, setup
        While the work runs, and while a machine is changed over for it.
    """

    run: Mapping[str, int] = field(default_factory=dict)
    setup: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUnit:
    """One machine or line that a job order can name.

    Attributes
    ----------
    families
        Setup families it can run; empty means all of its work center.
    speed
        Factor on the planned rate; 1.0 is nominal, 0.9 is slower.
    power_kw
        Power that it draws while it works.
    needs
        What any work on it needs; takes the place of the work center's for the same tool or skill.
    """

    id: str
    path: str
    families: frozenset[str] = frozenset()
    speed: float = 1.0
    operators: int = 0
    power_kw: float = 0.0
    needs: Needs = field(default_factory=Needs)

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError(f"unit {self.id!r}: speed must be > 0, got {self.speed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCenter:
    """A group of units that share a routing step, a changeover matrix and a job-order receiver.

    Attributes
    ----------
    families
        Setup families in the order of ``setup_s``.
    setup_s
        ``setup_s[i][j]`` seconds to change from family i to family j.
    capacity
        Pieces in one load (BATCH only).
    transport_s
        Time to bring finished pieces to the next step, seconds.
    transit_s
        LINE only: seconds from entering to leaving.
    flow
        LINE only: chains of stages in the order that pieces pass, the main flow first; a stage is
        one device id, or several that stand side by side. A later chain whose last stage stands
        in an earlier one joins the flow there.
    needs
        What work on any of its units needs.
    """

    id: str
    area: str
    kind: WorkCenterKind
    units: tuple[WorkUnit, ...]
    families: tuple[str, ...]
    setup_s: tuple[tuple[int, ...], ...]
    calendar: Calendar
    capacity: int = 0
    transport_s: int = 0
    transit_s: int = 0
    flow: tuple[tuple[tuple[str, ...], ...], ...] = ()
    needs: Needs = field(default_factory=Needs)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.families)
        if len(self.setup_s) != n or any(len(row) != n for row in self.setup_s):
            raise ValueError(f"work center {self.id!r}: setup_s must be {n} x {n}")
        if not self.units:
            raise ValueError(f"work center {self.id!r}: no units")
        if self.kind is WorkCenterKind.BATCH and self.capacity <= 0:
            raise ValueError(f"work center {self.id!r}: a batch work center needs capacity > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingStep:
    """One step of a product's routing.

    Attributes
    ----------
    family
        Setup family (program, recipe) of this product at that work center.
    seconds
        Per piece; per load for a BATCH work center.
    after
        Work centers whose steps must be finished before.
    needs
        What it needs besides what its unit needs.
    max_lag_s
        It starts at most so many seconds after the end of each step before; None = whenever.
    buffer
        Where lots wait between the steps before and this one; "" = there is room enough.
    """

    work_center: str
    family: str
    seconds: float
    after: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)
    max_lag_s: int | None = None
    buffer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product with its routing, a directed acyclic graph over work centers."""

    id: str
    routing: tuple[RoutingStep, ...]
    names: dict[str, str] = field(default_factory=dict)

    def step(self, work_center: str) -> RoutingStep:
        """The routing step at a work center; KeyError when the product does not go there."""
        for step in self.routing:
            if step.work_center == work_center:
                return step
        raise KeyError(f"product {self.id!r} has no step at {work_center!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Everything the planner knows of one plant."""

    enterprise: str
    site: str
    timezone: str
    work_centers: tuple[WorkCenter, ...]
    products: tuple[Product, ...]
    tools: tuple[Tool, ...] = ()
    people: tuple[Person, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    tariff: Tariff | None = None
    upkeep: tuple[Upkeep, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def work_center(self, id: str) -> WorkCenter:
        """Look up a work center; KeyError when there is none."""
        for center in self.work_centers:
            if center.id == id:
                return center
        raise KeyError(f"no work center {id!r}")

    def product(self, id: str) -> Product:
        """Look up a product; KeyError when there is none."""
        for product in self.products:
            if product.id == id:
                return product
        raise KeyError(f"no product {id!r}")

    def unit(self, path: str) -> WorkUnit:
        """Look up a unit by its path; KeyError when there is none."""
        for center in self.work_centers:
            for unit in center.units:
                if unit.path == path:
                    return unit
        raise KeyError(f"no unit {path!r}")
