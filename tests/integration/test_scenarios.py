"""A compared scenario is carried out as a whole: orders, planned stops, extra shifts; then the
brain plans anew through the ordinary gate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_decide_loop import Desk, desk

from workshop_brain.app.supposed import RefusedChange
from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.errors import LedgerError
from workshop_brain.model.decision import DecisionClass, Level
from workshop_brain.units import NS_PER_H, NS_PER_MS


async def settled(d: Desk) -> None:
    await d.until(
        lambda: d.decider.state.in_force is not None and d.decider.state.computing is None
    )


def busiest(d: Desk) -> str:
    """The unit of soft machining with most planned work."""
    plan = d.decider.state.in_force
    assert plan is not None
    units = [p.order.equipment for p in plan.jobs if p.order.work_center == "soft"]
    return max(sorted(set(units)), key=units.count)


async def answered(d: Desk, after: int) -> dict[str, Any]:
    """The recorded decision, behind an entry of the ledger, that a carried-out scenario set off."""

    def found() -> list[dict[str, Any]]:
        return [
            entry.body
            for entry in d.ledger.entries("decision", after=after)
            if any(reason["id"] == "trigger.planned_change" for reason in entry.body["reasons"])
        ]

    await d.until(found)
    card = found()[0]
    # the ledger has it a moment before the book that questions are answered from
    await d.until(lambda: d.decider._book.body(card["id"]) is not None)
    return card


def newest(d: Desk) -> int:
    return max(entry.n for entry in d.ledger.entries())


async def test_a_scenario_is_carried_out_whole_and_goes_through_the_gate(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await settled(d)
        now = d.clock.plant_ns()
        unit = busiest(d)
        stop = {"kind": "down", "machine": unit, "from_ns": now + NS_PER_H}
        changes = [
            {**stop, "until_ns": now + 9 * NS_PER_H},
            {"kind": "cancel", "order": "W3"},
            {"kind": "due", "order": "W4", "due_ns": now + 300 * NS_PER_H},
            {
                "kind": "add", "id": "N1", "product": brain.plant.products[0].id, "quantity": 9,
                "due_ns": now + 80 * NS_PER_H,
            },
        ]  # fmt: skip
        compared = await brain.scenarios([changes])
        assert compared["scenarios"][0]["kpis"]
        shown = await brain.scenario_steps(changes)
        said = [step["id"] for step in shown["steps"]]
        assert said == ["scenario.down", "scenario.cancel", "scenario.due", "scenario.add"]
        assert {row["line"] for row in shown["lines"]} == {c.id for c in brain.plant.work_centers}
        # Looking changes nothing.
        assert brain.declared_view() == []
        assert {row.request.id for row in brain._rows} == {f"W{k}" for k in range(20)}

        for center in brain.plant.work_centers:
            await brain.set_level(center.id, DecisionClass.REPAIR, Level.APPROVE, "anna")
        after = newest(d)
        before = brain.state.in_force
        done = await brain.carry_out(changes, "anna")
        assert [row["place"] for row in done["declared"]] == [unit]
        card = await answered(d, after)
        await d.until(lambda: card["id"] in brain.state.open)
        assert (await brain.decision(card["id"]))["state"] == "waiting_approval"
        assert brain.state.in_force == before
        told = {reason["id"] for reason in card["reasons"]}
        assert {*said, "trigger.planned_change", "reason.verified"} <= told, card
        await brain.approve(card["id"], "anna")
        plan = brain.state.in_force
        assert plan is not None
        low, high = changes[0]["from_ns"], changes[0]["until_ns"]
        for planned in plan.jobs:
            order = planned.order
            if order.equipment == unit:
                assert not low <= order.start_ns < high
            assert all(request != "W3" for request, _ in order.requests)
        assert any(r == "N1" for p in plan.jobs for r, _ in p.order.requests)
        rows = {row["id"]: row for row in brain.orders_view()}
        assert rows["W3"]["state"] == "cancelled"
        assert rows["W4"]["due_ms"] == changes[2]["due_ns"] / NS_PER_MS
        gaps = [g for g in brain.schedule_view()["closed"] if g["kind"] == "stop"]
        assert [(g["machine"], g["start_ms"]) for g in gaps] == [(unit, low / NS_PER_MS)]

        # Audited, and the decision is computed again from its stored inputs.
        (entry,) = list(d.ledger.entries("scenario"))
        assert (entry.body["by"], len(entry.body["steps"])) == ("anna", 4)
        row = next(r for r in d.ledger.entries("decision") if r.body["id"] == card["id"])
        assert replay(read_decision(row.body), d.ledger.get_input).same
        # The same stop again contradicts the one that holds; nothing of the rest is done.
        with pytest.raises(RefusedChange, match="planned stop in that time already"):
            await brain.carry_out([{"kind": "cancel", "order": "W5"}, changes[0]], "anna")
        assert {row["id"]: row for row in brain.orders_view()}["W5"]["state"] != "cancelled"
    async with desk(tmp_path) as d:
        # After a restart it still holds, until somebody takes it back.
        await settled(d)
        (kept,) = d.decider.declared_view()
        assert kept["place"] == unit
        task = d.decider._now_task("react")
        problem = d.decider.planner.problem_now(task)
        machine = problem.machine(unit)
        assert any(m == machine for m, _, _ in problem.downs)
        # A problem made ready before does not hide it, whatever else is down now.
        d.decider.planner.prepare(task)
        ready = d.decider.planner._problem(replace(task, down={}))
        assert ready.downs == problem.downs
        after = newest(d)
        assert await d.decider.withdraw_declared(kept["id"], "bert") == []
        card = await answered(d, after)
        assert "scenario.withdraw_down" in {reason["id"] for reason in card["reasons"]}
        with pytest.raises(KeyError):
            await d.decider.withdraw_declared(kept["id"], "bert")
        assert d.decider.planner.problem_now(d.decider._now_task("react")).downs == ()


def full(kind: str, body: dict[str, Any]) -> None:
    raise LedgerError("the disk is full")


async def test_an_extra_shift_is_declared_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await settled(d)
        now = d.clock.plant_ns()
        calendar = brain.plant.work_center("soft").calendar
        low, high = next(w for w in calendar.closed(now, now + 48 * NS_PER_H) if w[0] > now)
        shift = {"kind": "shift", "work_center": "soft", "from_ns": low, "until_ns": high}
        # What cannot be recorded does not hold.
        with monkeypatch.context() as broken:
            broken.setattr(d.ledger, "append", full)
            with pytest.raises(LedgerError):
                await brain.carry_out([shift], "anna")
        assert brain.declared_view() == []
        after = newest(d)
        await brain.carry_out([shift], "anna")
        card = await answered(d, after)
        assert "scenario.shift" in {reason["id"] for reason in card["reasons"]}
        problem = brain.planner.problem_now(brain._now_task("react"))
        machine = problem.machine(brain.plant.work_center("soft").units[0].path)
        assert all(b <= problem.ticks(low) or a >= problem.ticks(high)
                   for a, b in problem.calendar[machine])  # fmt: skip
