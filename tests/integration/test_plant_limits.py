"""A plant with one fixture for two machines, decided on as it runs: no plan uses it twice."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.integration.test_decide_loop import START, Desk, desk

from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.config import parse
from workshop_brain.model.event import EventKind
from workshop_brain.units import NS_PER_H

PLANT = """
[autonomy]
default = { plan = "report", repair = "report", improve = "report", release = "report" }
[[tool]]
id = "fixture"
[[person]]
id = "li"
skills = ["setter"]
[[work_center]]
id = "mill"
area = "shop"
families = ["a", "b"]
setup_min = [[0, 20], [20, 0]]
setup_skills = ["setter"]
units = [{ id = "m1", tools = ["fixture"] }, { id = "m2", tools = ["fixture"] }]
[[work_center]]
id = "wash"
area = "shop"
units = [{ id = "w1" }]
[[product]]
id = "pa"
routing = [
  { work_center = "mill", family = "a", seconds = 60 },
  { work_center = "wash", seconds = 30, after = ["mill"], max_lag_s = 7200 },
]
[[product]]
id = "pb"
routing = [{ work_center = "mill", family = "b", seconds = 60 }]
"""
MILLS = ("local/site/shop/mill/c1/m1", "local/site/shop/mill/c1/m2")


def fixture_times(d: Desk) -> list[tuple[int, int]]:
    """When the plan shown has work on the mills."""
    plan = d.decider.state.reference
    assert plan is not None
    jobs = [p.order for p in plan.jobs if p.order.equipment in MILLS]
    return sorted((o.start_ns, o.end_ns) for o in jobs)


def sent(d: Desk) -> list[str]:
    """Jobs of the mills that went to their receiver."""
    return [job for job, t in d.decider.state.tracks.items() if t.order.equipment in MILLS]


def must_hold(d: Desk) -> None:
    times = fixture_times(d)
    assert len(times) > 5
    assert all(after[0] >= before[1] for before, after in pairwise(times))


async def test_a_plant_with_one_fixture_is_planned_repaired_pinned_and_explained(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path, parse(PLANT, origin="x.toml")) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None, 90.0)  # kernels may be compiled
        await d.until(lambda: brain.state.computing is None)
        must_hold(d)
        # A receiver would begin with the second job while the fixture is in use: it waits here.
        await d.until(lambda: len(sent(d)) > 0)
        await asyncio.sleep(0.5)
        assert len(sent(d)) == 1
        d.happen(EventKind.BREAKDOWN, MILLS[0], hours=3)

        def repair() -> dict[str, Any] | None:
            rows = [r for r in brain.decisions() if r["decision_class"] == "repair"]
            return rows[0] if rows else None

        await d.until(lambda: repair() is not None and brain.state.computing is None)
        must_hold(d)
        proposal = brain.schedule_view()["proposal"]
        if proposal is not None:
            await brain.approve(proposal, "anna")
        plan = brain.state.in_force
        assert plan is not None
        late = [p.order for p in plan.jobs if p.order.start_ns > START + 5 * NS_PER_H]
        order = next(o for o in late if o.equipment in MILLS)
        unit = next(m for m in MILLS if m != order.equipment)
        assert (await brain.explain(order.id))["messages"]
        assert (await brain.why_not(order.id, unit))["messages"]
        offer = await brain.price_pin(order.id, unit, None)
        if offer["possible"]:
            await brain.take_pin(offer["id"], "anna")
            must_hold(d)
        asked: list[dict[str, Any]] = [{"kind": "cancel", "order": "W3"}]
        (column,) = (await brain.scenarios([asked]))["scenarios"]
        assert "kpis" in column
        rows = [read_decision(e.body) for e in d.ledger.entries("decision")]
        rows = [row for row in rows if row.decision_class != "release"]
        assert {m.id for m in rows[0].reasons} >= {"reason.verified"}
        for row in rows:
            outcome = replay(row, d.ledger.get_input)
            assert outcome.same, [r for r in outcome.rows if not r.same]
