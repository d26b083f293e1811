"""Huge orders: refused at the import, left out of the problem, never a hang."""

import time

import pytest

from workshop_brain.config import built_in
from workshop_brain.model.order import WorkRequest
from workshop_brain.schedule.problem import (
    MOST_LOADS,
    MOST_OPS,
    PlantState,
    build,
    form_loads,
    left_out,
)
from workshop_brain.store.orders import read_orders

PLANT = built_in().plant
NOW = 1_700_000_000 * 10**9
HOUR = 3600 * 10**9


def request(id: str, quantity: int, due_h: int = 60) -> WorkRequest:
    return WorkRequest(id=id, product="hyb_a", quantity=quantity, due_ns=NOW + due_h * HOUR)


def test_an_order_too_large_is_left_out_and_named_at_once() -> None:
    begin = time.perf_counter()
    requests = [request("A", 100), request("X", 99_999_999)]
    (row,) = left_out(PLANT, requests, PlantState(), NOW)
    assert (row.request, row.limit) == ("X", MOST_LOADS)
    problem = build(PLANT, requests, PlantState(), NOW)
    assert {id.split(".")[0] for id in problem.op_ids if "LOAD" not in id} == {"A"}
    assert time.perf_counter() - begin < 2.0


def test_operations_in_all_are_bounded_and_the_latest_orders_wait() -> None:
    requests = [request(f"R{k}", 100_000, due_h=60 + k) for k in range(80)]
    rows = left_out(PLANT, requests, PlantState(), NOW)
    ids = [row.request for row in rows]
    assert rows
    assert ids == [r.id for r in requests[-len(ids) :]]
    assert sum(r.operations for r in rows) + MOST_OPS >= 80 * rows[0].operations


def test_loads_are_formed_in_order_of_due_dates_within_the_window() -> None:
    items = [("a", 200, 0), ("b", 150, 10), ("c", 100, 20), ("d", 150, 99)]
    assert form_loads(items, 300, 50) == [
        (("a", 200), ("c", 100)),
        (("b", 150),),
        (("d", 150),),
    ]


@pytest.mark.parametrize(("quantity", "is_taken"), [(100_000, True), (100_001, False)])
def test_an_import_refuses_more_than_a_hundred_thousand_pieces(
    quantity: int, is_taken: bool
) -> None:
    text = f"id,product,quantity,due\nA,hyb_a,{quantity},2027-11-25\n"
    requests, errors = read_orders(text.encode(), PLANT)
    assert bool(requests) is is_taken
    if not is_taken:
        (error,) = errors
        assert (error.row, error.column, error.value) == (2, "quantity", str(quantity))
        assert "split it into several orders" in error.message
