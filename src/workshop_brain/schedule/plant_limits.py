"""Limits of a plant: tools, people, buffers, maximum lags and tariff of plant.toml in ticks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workshop_brain.model.calendar import Calendar
from workshop_brain.model.plant import Needs, Plant, RoutingStep, Tariff, WorkCenter
from workshop_brain.schedule.calendars import merge
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool, Windows
from workshop_brain.schedule.structure import FAR

Need = tuple[int, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The stretch of time that calendars are laid out for; ticks are whole seconds after its
    beginning."""

    from_ns: int
    until_ns: int
    tick: Callable[[int], int]

    def closed(self, calendar: Calendar) -> Windows:
        """Closed windows of a calendar."""
        rows = calendar.closed(self.from_ns, self.until_ns)
        return tuple((self.tick(a), self.tick(b)) for a, b in rows)

    def away(self, calendar: Calendar) -> Windows:
        """When somebody or something is not to be had; with shifts, also after the span: work
        that fits into no shift must be named, and not be planned for after the last of them."""
        if not calendar.windows:
            return ()
        return tuple(merge([*self.closed(calendar), (self.tick(self.until_ns), FAR)]))


class Before(NamedTuple):
    """A predecessor: its operation, its work center, the least lag behind it, and how many seconds
    ago it ended, when it is over."""

    op: int
    center: str
    lag: int
    gone: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An operation as limits see it.

    Attributes
    ----------
    steps
        Routing steps that it does, one for each product in it; none for maintenance.
    latest
        Tick by which it must have ended; None = whenever.
    """

    steps: tuple[RoutingStep, ...]
    before: tuple[Before, ...]
    latest: int | None = None


def limits_of(plant: Plant, work: Sequence[Work], span: Span) -> Limits | None:
    """Limits of a plant's problem; None when the plant declares none.

    Parameters
    ----------
    work
        The operations, in the order of the problem.
    """
    if not _has_any(plant) and not any(one.latest is not None for one in work):
        return None
    units = [(center, unit) for center in plant.work_centers for unit in center.units]
    power = tuple(unit.power_kw for _, unit in units)
    on = [_beside(center, unit.needs) for center, unit in units]
    by = [_together(step.needs for step in one.steps) for one in work]
    return Limits(
        tools=tuple(
            Tool(id=tool.id, quantity=tool.quantity, closed=span.away(tool.calendar))
            for tool in plant.tools
        ),
        operators=tuple(
            Operator(id=who.id, skills=who.skills, closed=span.away(who.calendar))
            for who in plant.people
        ),
        buffers=tuple(Buffer(id=row.id, capacity=row.capacity) for row in plant.buffers),
        op_needs=_rows(needs.run for needs in by),
        op_setup_needs=_rows(needs.setup for needs in by),
        machine_needs=_rows(needs.run for needs in on),
        machine_setup_needs=_rows(needs.setup for needs in on),
        max_lags=tuple(_max_lags(work)),
        deadlines=tuple((o, one.latest) for o, one in enumerate(work) if one.latest is not None),
        buffered=tuple(
            (p, o, step.buffer)
            for o, one in enumerate(work)
            for step in one.steps[:1]
            if step.buffer
            for p in (row.op for row in one.before)
        ),
        tariff=_tariff(plant.tariff, span) if plant.tariff and any(power) else (),
        power_kw=power if plant.tariff else (),
    )


def _has_any(plant: Plant) -> bool:
    steps = (step for product in plant.products for step in product.routing)
    return bool(plant.tools or plant.people or plant.buffers or plant.tariff) or any(
        step.max_lag_s is not None for step in steps
    )


def _beside(center: WorkCenter, own: Needs) -> Needs:
    return Needs(run={**center.needs.run, **own.run}, setup={**center.needs.setup, **own.setup})


def _together(needs: Iterable[Needs]) -> Needs:
    """What work on several products at once needs: of each the most that one of them asks for."""
    run: dict[str, int] = {}
    setup: dict[str, int] = {}
    for one in needs:
        for into, asked in ((run, one.run), (setup, one.setup)):
            for name, count in asked.items():
                into[name] = max(into.get(name, 0), count)
    return Needs(run=run, setup=setup)


def _rows(needs: Iterable[Mapping[str, int]]) -> tuple[Need, ...]:
    return tuple(
        (k, name, count) for k, asked in enumerate(needs) for name, count in sorted(asked.items())
    )


def _max_lags(work: Sequence[Work]) -> Iterable[tuple[int, int, int]]:
    """Latest starts behind predecessors, where one operation makes all that is waited for.

    A lot that was split before has no single end to count from.
    """
    for o, one in enumerate(work):
        most = min((s.max_lag_s for s in one.steps if s.max_lag_s is not None), default=None)
        centers = [row.center for row in one.before]
        for row in one.before:
            if most is not None and centers.count(row.center) == 1:
                yield row.op, o, max(row.lag, most - row.gone)


def _tariff(tariff: Tariff, span: Span) -> tuple[tuple[int, float], ...]:
    """Steps of the price over the span; it stays as it is at the end."""
    closed = [(span.closed(times), price) for times, price in tariff.windows]
    end = span.tick(span.until_ns)
    edges = {0, end, *(edge for rows, _ in closed for row in rows for edge in row)}
    out: list[tuple[int, float]] = []
    for at in sorted(edge for edge in edges if 0 <= edge < end):
        price = next(
            (price for rows, price in closed if not any(a <= at < b for a, b in rows)),
            tariff.price,
        )
        if not out or out[-1][1] != price:
            out.append((at, price))
    return tuple(out)
