"""The order book of the simulated ERP: a fixed list of work requests for a plant and a seed."""

from collections.abc import Sequence

from workshop_brain.model.order import WorkRequest
from workshop_brain.model.plant import Plant, Product, WorkCenter, WorkCenterKind
from workshop_brain.twin import draws
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.scenario import REFERENCE, Scenario
from workshop_brain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S

WEEK_S = 7 * 24 * 3600.0
PIPELINE = 30
"""Requests that are already somewhere in the plant at the start (nearly three days of work)."""
_PRIORITIES = ((0.80, 1), (0.95, 3), (1.01, 5))


def open_share(center: WorkCenter) -> float:
    """Share of the week in which a work center works by its calendar.

    >>> from workshop_brain.config import built_in
    >>> plant = built_in().plant
    >>> round(open_share(plant.work_center("soft")), 3), open_share(plant.work_center("heat"))
    (0.938, 1.0)
    """
    windows = center.calendar.windows
    if not windows:
        return 1.0
    return sum(end - start for _, start, end in windows) * 60.0 / WEEK_S


def pieces_per_week(plant: Plant, scenario: Scenario) -> float:
    """Pieces a week that the bottleneck work center can make with an even mix of products."""
    best = float("inf")
    for center in plant.work_centers:
        seconds = [_content_s(product, center) for product in plant.products]
        used = [s for s in seconds if s > 0]
        if not used:
            continue
        line = center.kind is WorkCenterKind.LINE
        efficiency = scenario.line_efficiency if line else scenario.shop_efficiency
        speed = sum(unit.speed for unit in center.units)
        content = sum(used) / len(plant.products)
        best = min(best, WEEK_S * open_share(center) * speed * efficiency / content)
    return best


def _content_s(product: Product, center: WorkCenter) -> float:
    """Seconds per piece of a product at a work center; half-full loads in a furnace."""
    for step in product.routing:
        if step.work_center == center.id:
            if center.kind is WorkCenterKind.BATCH:
                return step.seconds / (0.6 * center.capacity)
            return step.seconds
    return 0.0


def flow_s(plant: Plant, product: Product, quantity: int) -> float:
    """Planned seconds from the first to the last step of a lot that never waits.

    Steps that do not wait for each other overlap; closed hours are counted in by the week's share.
    """
    done: dict[str, float] = {}
    for step in product.routing:
        center = plant.work_center(step.work_center)
        begin = max((done[b] for b in step.after), default=0.0)
        if center.kind is WorkCenterKind.BATCH:
            length = step.seconds
        else:
            length = (step.seconds * quantity + center.transit_s) / open_share(center)
        done[step.work_center] = begin + length + center.transport_s
    return max(done.values())


def order_book(
    plant: Plant, seed: int, start_ns: int, days: int, scenario: Scenario = REFERENCE
) -> list[WorkRequest]:
    """Work requests in order of release, from those in the plant at ``start_ns`` on.

    The first ``PIPELINE`` ones were released before the start and are in the plant; the rest is
    released evenly over ``days`` at ``scenario.load`` of what the bottleneck can make.
    Ids are ``W00001``... in order of release.
    """
    rate_per_s = scenario.load * pieces_per_week(plant, scenario) / WEEK_S
    low, high = scenario.lot_sizes
    mean = (low + high) / 2.0
    out: list[WorkRequest] = []
    release = start_ns - int(PIPELINE * mean / rate_per_s) * NS_PER_S
    while release < start_ns + days * NS_PER_DAY:
        n = len(out) + 1
        product = plant.products[int(uniform(seed, draws.ORDER, n, 0) * len(plant.products))]
        quantity = low + 10 * int(uniform(seed, draws.ORDER, n, 1) * ((high - low) / 10 + 1))
        out.append(_request(plant, product, n, min(quantity, high), release, seed, scenario))
        release += int(quantity / rate_per_s) * NS_PER_S
    return out


def _request(
    plant: Plant,
    product: Product,
    n: int,
    quantity: int,
    release_ns: int,
    seed: int,
    scenario: Scenario,
) -> WorkRequest:
    low, high = scenario.tightness
    factor = low + (high - low) * uniform(seed, draws.ORDER, n, 2)
    u = uniform(seed, draws.ORDER, n, 3)
    due = release_ns + int(flow_s(plant, product, quantity) * factor) * NS_PER_S
    return WorkRequest(
        id=f"W{n:05d}",
        product=product.id,
        quantity=quantity,
        release_ns=release_ns // NS_PER_MIN * NS_PER_MIN,
        due_ns=due // NS_PER_MIN * NS_PER_MIN,
        priority=next(p for limit, p in _PRIORITIES if u < limit),
    )


def in_pipeline(book: Sequence[WorkRequest], start_ns: int) -> list[WorkRequest]:
    """Requests of a book that were released before the start."""
    return [r for r in book if r.release_ns < start_ns][:PIPELINE]
