"""People set the weights of the objective: audited, kept over a restart, taken back."""

from pathlib import Path

import pytest
from tests.integration.test_decide_loop import desk
from tests.integration.test_pins import later_op

from workshop_brain.autonomy.inputs import unpack
from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.model.event import EventKind
from workshop_brain.schedule.objective import PLANT_WEIGHTS
from workshop_brain.units import NS_PER_H


async def test_weights_are_set_kept_used_and_taken_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None and brain.state.computing is None)
        assert brain.weights_view()["present"]["setup"] == PLANT_WEIGHTS.setup
        for wrong in ({"setup": -1.0}, {"no": 1.0}):
            with pytest.raises(ValueError, match="weight"):
                await brain.set_weights(wrong, "anna")
        order = later_op(d)
        offer = await brain.price_pin(order.id, order.equipment, order.start_ns)
        view = await brain.set_weights({"setup": 3.5}, "anna")
        assert view["present"] == {**view["plant"], "setup": 3.5}
        assert view["by"] == "anna"
        assert view["time_ns"]
        # What was priced with the weights before is priced anew.
        assert offer["possible"]
        with pytest.raises(KeyError):
            await brain.take_pin(offer["id"], "anna")
        (entry,) = d.ledger.entries("weights")
        assert entry.body["by"] == "anna"
        assert entry.body["weights"]["setup"] == 3.5
        assert entry.body["before"]["setup"] == PLANT_WEIGHTS.setup
        # A pin is priced, and a repair made, with the new weights.
        again = await brain.price_pin(order.id, order.equipment, order.start_ns)
        assert brain._offers[again["id"]].inputs.weights.setup == 3.5
        unit = later_op(d).equipment
        d.happen(EventKind.BREAKDOWN, unit, hours=20)
        await d.until(lambda: any(r["decision_class"] == "repair" for r in brain.decisions()))
        await d.until(lambda: brain.state.computing is None)
        rows = [read_decision(e.body) for e in d.ledger.entries("decision")]
        rows = [row for row in rows if row.decision_class != "release"]
        used = [unpack(d.ledger.get_input(row.input_hash)).weights.setup for row in rows]
        assert (used[0], used[-1]) == (PLANT_WEIGHTS.setup, 3.5)
        assert any(
            m.id == "trigger.weights_changed" and m.params["unit"] == "anna"
            for row in rows
            for m in row.reasons
        )
        assert all(replay(row, d.ledger.get_input).same for row in rows)
        assert (await brain.explain(later_op(d, 3.0).id))["messages"]

    async with desk(tmp_path) as d:
        brain = d.decider
        assert brain.planner.weights.setup == 3.5
        view = await brain.set_weights(None, "ben")
        assert view["present"] == view["plant"]
        assert view["by"] == ""
        assert brain.planner.weights == PLANT_WEIGHTS
        assert [e.body["by"] for e in d.ledger.entries("weights")] == ["anna", "ben"]
    async with desk(tmp_path) as d:
        assert d.decider.planner.weights == PLANT_WEIGHTS


async def test_fitted_weights_do_not_move_when_they_are_used(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None and brain.state.computing is None)
        order = later_op(d)
        offer = await brain.price_pin(order.id, order.equipment, order.start_ns + NS_PER_H)
        assert offer["possible"]
        await brain.take_pin(offer["id"], "anna")
        before = brain.weights_view()
        assert before["pairs"] == 1
        after = await brain.set_weights(before["fitted"], "anna")
        assert after["present"] == after["fitted"] == before["fitted"]
        assert after["agrees_before"] == after["agrees"] == before["agrees"]
