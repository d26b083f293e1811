"""Pins in the problem: kept by the plan, priced by parts, contradictions named."""

from typing import Any

from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import PLANT_WEIGHTS
from workshop_brain.schedule.pins import WITHIN_S, Pin, conflict, keep_pins, unmet, with_pins
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.preferences import PARTS, parts
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify

HOUR = 3600


def _case() -> tuple[Problem, Plan]:
    """Four jobs of two operations of an hour each; machine 0 or 1 first, then machine 2."""
    job: dict[str, Any] = {"family": 0, "release": 0, "due": 6 * HOUR, "weight": 1}
    steps = [{"alternatives": [[0, HOUR], [1, HOUR]]}, {"alternatives": [[2, HOUR]]}]
    data = {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": 0, "family": 0} for m in range(3)],
        "setup": [[[0]]],
        "jobs": [{"id": id, **job, "operations": steps} for id in "ABCD"],
    }
    problem = document_problem(data, "case")
    return problem, construct(problem, "edd")


def _pin(problem: Problem, op: str, machine: int, start: int | None) -> Pin:
    at = None if start is None else problem.time_ns(start)
    return Pin(op=op, machine=problem.machine_ids[machine], start_ns=at)


def _first_ops(problem: Problem) -> list[str]:
    return [id for o, id in enumerate(problem.op_ids) if not problem.preds(o)]


def test_a_pin_is_kept_and_its_price_is_the_sum_of_its_parts() -> None:
    problem, plan = _case()
    op = _first_ops(problem)[0]
    pin = _pin(problem, op, 1, 3 * HOUR)
    assert unmet(problem, plan, [pin]) == (pin,)
    found = keep_pins(problem, plan, plan, [pin])
    assert found is not None
    o = problem.op(op)
    assert problem.machine_ids[found.plan.machine[o]] == pin.machine
    assert 3 * HOUR <= found.plan.start[o] <= 3 * HOUR + WITHIN_S
    assert verify(problem, found.plan) == []
    assert abs(sum(found.parts.values()) - found.total) < 1e-6
    assert found.total > 0
    assert all(order in "ABCD" for order, _ in found.later)
    raw = parts(problem, found.plan, plan)
    total = sum(getattr(PLANT_WEIGHTS, name) * x for name, x in zip(PARTS, raw, strict=True))
    assert abs(total - found.after.objective) < 1e-6


def test_the_smallest_set_of_contradicting_pins_is_named() -> None:
    problem, plan = _case()
    a, b, c, _ = _first_ops(problem)
    pins = [_pin(problem, a, 0, 2 * HOUR), _pin(problem, b, 1, 2 * HOUR)]
    assert keep_pins(problem, plan, plan, pins) is not None
    newest = _pin(problem, c, 1, 2 * HOUR)
    assert keep_pins(problem, plan, plan, [*pins, newest]) is None
    assert conflict(problem, plan, plan, pins, newest) == (pins[1], newest)


def test_what_is_not_free_or_unknown_carries_no_pin() -> None:
    problem, _ = _case()
    first = _first_ops(problem)[0]
    assert with_pins(problem, [Pin(op="x", machine="0")]) is problem
    assert with_pins(problem, [_pin(problem, first, 2, None)]) is problem
    pinned = with_pins(problem, [_pin(problem, first, 1, None)])
    assert list(pinned.alternatives(pinned.op(first))) == [1]
    assert pinned.job_ids == problem.job_ids
