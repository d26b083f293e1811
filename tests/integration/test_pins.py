"""A planner pins an operation: priced first, decided on through the gate, kept, let go again."""

from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_decide_loop import Desk, desk

from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.units import NS_PER_H


def later_op(d: Desk, hours: float = 2.0) -> Any:
    """A planned job of soft machining that starts some hours from now."""
    plan = d.decider.state.in_force
    assert plan is not None
    after = d.clock.plant_ns() + round(hours * NS_PER_H)
    jobs = [p.order for p in plan.jobs if p.order.work_center == "soft"]
    return min((o for o in jobs if o.start_ns > after), key=lambda o: o.start_ns)


async def test_a_pin_is_priced_taken_kept_and_let_go(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None and brain.state.computing is None)
        order = later_op(d)
        units = [u.path for u in brain.plant.work_center("soft").units if u.path != order.equipment]
        offer: dict[str, Any] = {}
        for unit in units:
            offer = await brain.price_pin(order.id, unit, order.start_ns + NS_PER_H)
            if offer["possible"]:
                break
        assert offer["possible"]
        assert sum(offer["parts"].values()) == pytest.approx(offer["total"])
        # Nothing holds before it is taken.
        assert brain.pins_view() == []
        decision = await brain.take_pin(offer["id"], "anna")
        assert decision["state"] == "in_force"
        (pin,) = brain.pins_view()
        assert (pin["op"], pin["machine"], pin["by"], pin["met"]) == (order.id, unit, "anna", True)
        plan = brain.state.in_force
        assert plan is not None
        assert plan.index[order.id].order.start_ns == offer["start_ns"]
        assert {"schedule.pinned", "reason.verified"} <= {m["id"] for m in decision["reasons"]}
        row = next(r for r in d.ledger.entries("decision") if r.body["id"] == decision["id"])
        assert replay(read_decision(row.body), d.ledger.get_input).same
        with pytest.raises(KeyError):
            await brain.take_pin(offer["id"], "anna")

        # Two pins that cannot both be kept: the smallest set is named.
        families = brain.plant.unit(unit).families
        free = [
            o.id
            for o in (p.order for p in plan.jobs)
            if o.work_center == "soft"
            and o.id != order.id
            and (not families or o.program in families)
            and o.start_ns > d.clock.plant_ns() + NS_PER_H
        ]
        clashes = [await brain.price_pin(op, unit, offer["start_ns"]) for op in free]
        named = [{row["op"] for row in c["conflict"]} for c in clashes if not c["possible"]]
        assert all(not c["possible"] for c in clashes)
        assert any(ops == {op, order.id} for ops, op in zip(named, free, strict=True))

        frozen = await brain.price_pin(order.id, unit, d.clock.plant_ns())
        assert [m["id"] for m in frozen["messages"]] == ["schedule.pin_frozen"]
        furnace = brain.plant.work_center("heat").units[0].path
        wrong = await brain.price_pin(order.id, furnace, None)
        assert [m["id"] for m in wrong["messages"]] == ["schedule.why_not_not_allowed"]
    async with desk(tmp_path) as d:
        assert [p.op for p in d.decider.planner.pins] == [order.id]
        await d.until(lambda: d.decider.state.in_force is not None)
        assert await d.decider.unpin(order.id, "anna") == []
        with pytest.raises(KeyError):
            await d.decider.unpin(order.id, "anna")
