"""What supposed changes come to: orders, planned stops, extra shifts, and what is refused."""

from typing import Any

import numpy as np
import pytest

from workshop_brain.app.schedule_views import _closed as closed_view
from workshop_brain.app.supposed import RefusedChange, Supposed
from workshop_brain.config import built_in
from workshop_brain.model.declared import Declared, DeclaredKind, windows
from workshop_brain.model.order import WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.problem import PlantState, build
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.units import NS_PER_H, NS_PER_MS, NS_PER_S
from workshop_brain.web.messages import render

PLANT: Plant = built_in().plant
NOW = 1_800_000_000 * NS_PER_S
UNIT = PLANT.work_center("soft").units[0].path


def order(id: str = "W1") -> WorkRequest:
    return WorkRequest(id=id, product=PLANT.products[0].id, quantity=80, due_ns=NOW + 90 * NS_PER_H)


def start(**more: Any) -> Supposed:
    return Supposed(
        plant=PLANT, now_ns=NOW, requests={"W1": order()}, declared=[], taken={"W1", "OLD"}, **more
    )


def stop(first_h: float, last_h: float, machine: str = UNIT) -> dict[str, Any]:
    span = {"from_ns": NOW + round(first_h * NS_PER_H), "until_ns": NOW + round(last_h * NS_PER_H)}
    return {"kind": "down", "machine": machine, **span}


def closed_span(center: str) -> tuple[int, int]:
    """The first break of a work center that begins later than now."""
    calendar = PLANT.work_center(center).calendar
    return next(w for w in calendar.closed(NOW, NOW + 48 * NS_PER_H) if w[0] > NOW)


def problem_with(declared: list[Declared]) -> Problem:
    state = PlantState(
        closed=windows(declared, DeclaredKind.DOWN), opened=windows(declared, DeclaredKind.SHIFT)
    )
    return build(PLANT, [order(f"W{k}") for k in range(12)], state, NOW)


def test_changes_become_orders_and_declared_times() -> None:
    low, high = closed_span("soft")
    found = start(by="anna").apply(
        [
            {"kind": "due", "order": "W1", "due_ns": NOW + 50 * NS_PER_H},
            {
                "kind": "add", "id": "N1", "product": PLANT.products[1].id, "quantity": "5",
                "due_ns": NOW + 9 * NS_PER_H,
            },
            stop(-3, 4),
            {"kind": "shift", "work_center": "soft", "from_ns": low - NS_PER_H, "until_ns": high},
        ]
    )  # fmt: skip
    assert found.saved["W1"].due_ns == NOW + 50 * NS_PER_H
    assert found.saved["N1"].quantity == 5
    assert found.fresh == {"N1"}
    down, shift = found.added
    assert (down.kind, down.place, down.from_ns, down.by) == (DeclaredKind.DOWN, UNIT, NOW, "anna")
    assert (shift.kind, shift.place) == (DeclaredKind.SHIFT, "soft")
    assert found.steps[-1].params["open_s"] == (high - low) // NS_PER_S
    assert [Declared.from_dict(row.as_dict()) for row in found.added] == found.added
    for step in found.steps:
        for language in ("en", "zh"):
            text = render(step.id, step.params, language)
            assert "{" not in text
            assert text != step.id
    assert "soft1" in render(found.steps[2].id, found.steps[2].params, "zh")
    assert "软加工" in render(found.steps[3].id, found.steps[3].params, "zh")
    assert "Soft machining" in render(found.steps[3].id, found.steps[3].params, "en")


def test_a_cancelled_order_is_gone() -> None:
    found = start().apply([{"kind": "cancel", "order": "W1"}])
    assert found.cancelled == ["W1"]
    assert found.requests == {}
    assert found.saved == {}


NEW = {"kind": "add", "id": "N", "product": PLANT.products[0].id, "quantity": 5}
LATER = {"due_ns": NOW + NS_PER_H}
REFUSED: dict[str, list[dict[str, Any]]] = {
    "kind": [{"kind": "holiday"}],
    "incomplete": [{"kind": "down", "machine": UNIT}],
    "known": [{**NEW, **LATER, "id": "OLD"}],
    "no_product": [{**NEW, **LATER, "product": "X"}],
    "quantity": [{**NEW, **LATER, "quantity": 10**9}],
    "add_and_cancel": [{**NEW, **LATER}, {"kind": "cancel", "order": "N"}],
    "no_order": [{"kind": "cancel", "order": "W1"}, {"kind": "due", "order": "W1", **LATER}],
    "due_past": [{"kind": "due", "order": "W1", "due_ns": NOW}],
    "no_machine": [stop(1, 2, "x")],
    "no_center": [{"kind": "shift", "work_center": "x", "from_ns": NOW, "until_ns": NOW + 9}],
    "open_anyway": [
        {"kind": "shift", "work_center": "heat", "from_ns": NOW, "until_ns": NOW + NS_PER_H}
    ],
    "span": [stop(-3, -1)],
    "too_long": [stop(1, 3000)],
    "overlap_down": [stop(1, 3), stop(2, 4)],
    "overlap_shift": [
        {
            "kind": "shift", "work_center": "soft", "from_ns": closed_span("soft")[0],
            "until_ns": closed_span("soft")[1],
        }
    ] * 2,
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_is_refused_in_both_languages(why: str) -> None:
    with pytest.raises(RefusedChange) as caught:
        start().apply(REFUSED[why])
    message = caught.value.message
    assert message.id == f"scenario.refused_{why}"
    english, chinese = (render(message.id, message.params, lang) for lang in ("en", "zh"))
    assert english != chinese
    assert "{" not in english.replace("{'", "") + chinese.replace("{'", "")


def shifted(problem: Problem, plan: Plan, o: int, to: int) -> Plan:
    start, end, setup = plan.start.copy(), plan.end.copy(), plan.setup_start.copy()
    end[o] += to - start[o]
    start[o] = setup[o] = to
    return Plan(machine=plan.machine.copy(), start=start, end=end, setup_start=setup)


def test_a_planned_stop_changes_the_plan_and_the_checker_refuses_work_in_it() -> None:
    free = problem_with([])
    plan = construct(free, "edd")
    machine = free.machine(UNIT)
    busy = np.flatnonzero(plan.machine == machine)
    o = int(busy[np.argmin(plan.start[busy])])
    low = NOW + (int(plan.start[o]) - 60) * NS_PER_S
    high = NOW + (int(plan.end[o]) + 60) * NS_PER_S
    row = Declared(id="d", kind=DeclaredKind.DOWN, place=UNIT, from_ns=low, until_ns=high)
    stopped = problem_with([row])
    assert verify(free, plan) == []
    assert verify(stopped, plan)
    again = construct(stopped, "edd")
    assert verify(stopped, again) == []
    for p in np.flatnonzero(again.machine == machine).tolist():
        begins = stopped.time_ns(int(again.start[p]))
        assert not low <= begins < high


def test_an_extra_shift_opens_closed_time_for_the_planner_and_the_checker() -> None:
    low, high = closed_span("soft")
    row = Declared(id="s", kind=DeclaredKind.SHIFT, place="soft", from_ns=low, until_ns=high)
    usual, more = problem_with([]), problem_with([row])
    machine = usual.machine(UNIT)
    ticks = (usual.ticks(low), usual.ticks(high))
    assert ticks in usual.calendar[machine]
    assert ticks not in more.calendar[machine]
    furnace = usual.machine(PLANT.work_center("heat").units[0].path)
    assert usual.calendar[furnace] == more.calendar[furnace]
    plan = construct(more, "edd")
    assert verify(more, plan) == []
    assert {v.kind for v in verify(usual, plan)} <= {"duration", "closed", "calendar"}
    assert verify(usual, plan)


def test_the_screen_shows_stops_and_opens_extra_shifts() -> None:
    low, high = closed_span("soft")
    down = Declared(
        id="d", kind=DeclaredKind.DOWN, place=UNIT, from_ns=NOW, until_ns=NOW + NS_PER_H
    )
    shift = Declared(id="s", kind=DeclaredKind.SHIFT, place="soft", from_ns=low, until_ns=high)
    rows = closed_view(PLANT, [down, shift], NOW, NOW + 48 * NS_PER_H)
    mine = [r for r in rows if r["machine"] == UNIT]
    stops = [r for r in mine if r["kind"] == "stop"]
    assert [(r["start_ms"], r["end_ms"]) for r in stops] == [
        (NOW / NS_PER_MS, (NOW + NS_PER_H) / NS_PER_MS)
    ]
    assert all(r["start_ms"] != low / NS_PER_MS for r in mine)
