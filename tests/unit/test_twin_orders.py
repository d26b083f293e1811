"""The order book: deterministic, loaded as asked, with requests already under way."""

import pytest

from workshop_brain.config import built_in
from workshop_brain.twin.experiment import DEFAULT_START_NS
from workshop_brain.twin.orders import PIPELINE, in_pipeline, order_book, pieces_per_week
from workshop_brain.twin.scenario import REFERENCE, Scenario
from workshop_brain.units import NS_PER_DAY

PLANT = built_in().plant
BOOK = order_book(PLANT, 1, DEFAULT_START_NS, 28)


def test_a_longer_book_begins_with_the_shorter_one() -> None:
    assert (
        order_book(PLANT, 1, DEFAULT_START_NS, 3)
        == BOOK[: len(order_book(PLANT, 1, DEFAULT_START_NS, 3))]
    )


def test_load_is_the_share_of_the_bottleneck_that_was_asked_for() -> None:
    later = [r for r in BOOK if r.release_ns >= DEFAULT_START_NS]
    weekly = sum(r.quantity for r in later) / 4
    assert weekly == pytest.approx(0.9 * pieces_per_week(PLANT, REFERENCE), rel=0.03)


def test_lots_and_due_dates_lie_in_their_ranges() -> None:
    assert {r.product for r in BOOK} == {p.id for p in PLANT.products}
    assert all(60 <= r.quantity <= 240 for r in BOOK)
    assert all(NS_PER_DAY / 2 < r.due_ns - r.release_ns < 8 * NS_PER_DAY for r in BOOK)
    assert len({r.id for r in BOOK}) == len(BOOK)


def test_requests_under_way_were_released_before_the_start() -> None:
    early = in_pipeline(BOOK, DEFAULT_START_NS)
    assert 0.7 * PIPELINE <= len(early) <= PIPELINE
    assert BOOK[: len(early)] == early


def test_a_scenario_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="load must be > 0, got 0"):
        Scenario(load=0)
