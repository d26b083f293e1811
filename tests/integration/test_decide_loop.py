"""The decision loop on real stores: plan, break, repair, approve, switch off, restart, replay."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workshop_brain.app.decide import DecideOptions, Decider
from workshop_brain.app.desk import OrderDesk
from workshop_brain.app.plans import read_plan
from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.config import Settings, built_in
from workshop_brain.dispatch.open import open_dispatchers
from workshop_brain.dispatch.settings import DispatchSettings
from workshop_brain.errors import NotAllowedError, OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import WorkRequest
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records
from workshop_brain.units import NS_PER_H

START = 1_800_000_000_000_000_000
SETTINGS = built_in()


class Clock:
    def __init__(self) -> None:
        self.begin = time.time_ns()

    def plant_ns(self) -> int:
        return START + time.time_ns() - self.begin

    def wall_ns(self) -> int:
        return time.time_ns()


@dataclass
class Source:
    id: str = "plant"
    state: str = "up"
    age_s: float = 0.1


@dataclass
class Desk:
    """A running decider and what it stands on."""

    decider: Decider
    source: Source
    ledger: Ledger
    clock: Clock
    events: list[Event]
    path: Path

    async def until(self, fact: Any, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not fact():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def happen(self, kind: EventKind, path: str, hours: float = 0.0) -> None:
        now = self.clock.plant_ns()
        payload = {"until_ns": now + round(hours * NS_PER_H)} if hours else {}
        self.decider.on_events([Event(time_ns=now, kind=kind, path=path, payload=payload)])


@asynccontextmanager
async def desk(path: Path, settings: Settings = SETTINGS) -> AsyncIterator[Desk]:
    records = Records(path / "records.sqlite")
    ledger = Ledger(path / "ledger", anchor=records.anchor())
    products = [p.id for p in settings.plant.products]
    records.save_requests(
        [
            WorkRequest(
                id=f"W{k}", product=products[k % 6 % len(products)], quantity=80,
                due_ns=START + (30 + 3 * k) * NS_PER_H,
            )
            for k in range(20)
        ]
    )  # fmt: skip
    dispatch = [DispatchSettings(work_center=c.id) for c in settings.plant.work_centers]
    source, clock, events = Source(), Clock(), list[Event]()
    decider = Decider(
        plant=settings.plant,
        autonomy=settings.autonomy,
        envelope=settings.envelope,
        dispatch=dispatch,
        dispatchers=open_dispatchers(dispatch),
        records=records,
        ledger=ledger,
        clock=clock,
        plans_dir=path / "plans",
        sources=lambda: [source],
        feeds=lambda: {c.id: frozenset({"plant"}) for c in settings.plant.work_centers},
        announce=events.append,
        options=DecideOptions(
            poll_s=0.2, tick_s=0.05, improve_iterations=1, start_iterations=20_000, orders_s=0.1
        ),
    )
    running = asyncio.create_task(decider.run())
    try:
        yield Desk(decider, source, ledger, clock, events, path)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ledger.close()
        records.close()


async def test_the_story_from_plan_to_replay(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None)
        await d.until(lambda: any(t.phase == "confirmed" for t in brain.state.tracks.values()))
        sent = len(brain.state.tracks)
        view = brain.schedule_view()
        assert view["in_force"]
        shops = [b["machine"] for b in view["bars"] if "/asm1/" not in b["machine"]]
        unit = max(sorted(set(shops)), key=shops.count)
        await d.until(lambda: brain.state.computing is None)
        assert [row["state"] for row in brain.decisions()] == ["in_force"]

        d.happen(EventKind.BREAKDOWN, unit, hours=20)
        await d.until(lambda: brain.schedule_view()["proposal"] is not None)
        await d.until(lambda: brain.state.computing is None)
        proposal = brain.schedule_view()["proposal"]
        card = await brain.decision(proposal)
        assert card["state"] == "waiting_approval"
        assert {m["id"] for m in card["reasons"]} >= {"judge.approve", "reason.verified"}
        assert len(card["candidates"]) > 1
        answer = await brain.approve(proposal, "anna", "go")
        assert (answer["state"], answer["approved_by"]) == ("in_force", "anna")
        with pytest.raises(NotAllowedError, match="does not wait"):
            await brain.approve(proposal, "anna")
        assert len(brain.state.tracks) >= sent

        kept = read_plan(tmp_path / "plans")
        assert kept is not None
        assert brain.state.in_force is not None
        await d.until(lambda: read_plan(tmp_path / "plans")[1] == proposal)  # type: ignore[index]
        page = (tmp_path / "plans" / "current.html").read_text("utf-8")
        assert "总装一线" in page
        assert "Carburising furnaces" in page

        op = brain.schedule_view()["bars"][-1]["op"]
        assert (await brain.explain(op))["messages"]
        row = {"kind": "breakdown", "path": "local/works/heat/heat/c1/fur1"}
        assert (await brain.what_if([row]))["kpis_after"]
        with pytest.raises(KeyError):
            await brain.explain("nobody")

    ledger = Ledger(tmp_path / "ledger", anchor=Records(tmp_path / "records.sqlite").anchor())
    assert ledger.verify() == []
    kinds = [e.kind for e in ledger.entries()]
    assert kinds.index("decision") < kinds.index("approval") < kinds.index("command")
    for entry in ledger.entries("decision"):
        outcome = replay(read_decision(entry.body), ledger.get_input)
        assert outcome.same, [r for r in outcome.rows if not r.same]


CAUSES = {
    "quality_stop": lambda d, unit: d.happen(EventKind.QUALITY_STOP, unit, hours=6),
    "operator_absent": lambda d, unit: d.happen(EventKind.OPERATOR_ABSENT, unit, hours=6),
    "rush_order": lambda d, unit: add_order(d, "RUSH", priority=9),
}


def add_order(d: Desk, id: str, priority: int = 1) -> None:
    """As another process does, such as the command line: straight into the records."""
    due = START + 40 * NS_PER_H
    request = WorkRequest(id=id, product="edu_a", quantity=60, due_ns=due, priority=priority)
    records = Records(d.path / "records.sqlite")
    records.save_requests([request])
    records.close()


async def busiest(d: Desk) -> str:
    """The shop machine with most jobs, once the first plan is shown and nothing is computed."""
    view = d.decider.schedule_view
    await d.until(lambda: d.decider.state.computing is None and view()["bars"])
    shops = [b["machine"] for b in view()["bars"] if "/asm1/" not in b["machine"]]
    return max(sorted(set(shops)), key=shops.count)


@pytest.mark.parametrize("cause", list(CAUSES))
async def test_each_cause_leads_to_a_checked_plan_that_names_it(tmp_path: Path, cause: str) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None)
        CAUSES[cause](d, await busiest(d))

        def answer() -> dict[str, Any] | None:
            rows = [r for r in brain.decisions() if r["decision_class"] == "repair"]
            meant = (r for r in rows if cause in _kinds(r["trigger"]))
            return next(meant, None)

        await d.until(lambda: answer() is not None)
        found = answer()
        assert found is not None
        assert found["state"] in ("in_force", "waiting_approval")
        ids = {m["id"] for m in found["reasons"]}
        assert {f"trigger.{cause}", "reason.verified", "reason.tardiness"} <= ids
        assert {"weighted_tardiness_s", "throughput_per_h", "setup_s"} <= found["effect"].keys()
        if cause == "rush_order":
            await d.until(lambda: "RUSH.asm1" in {b["op"] for b in brain.schedule_view()["bars"]})


def _kinds(trigger: dict[str, Any]) -> set[str]:
    return {str(t["kind"]) for t in trigger.get("all") or [trigger]}


async def test_what_people_answered_is_shown_after_a_restart(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None)
        await d.until(lambda: any(t.phase == "confirmed" for t in brain.state.tracks.values()))
        d.happen(EventKind.BREAKDOWN, await busiest(d), hours=20)
        await d.until(lambda: brain.state.proposal is not None)
        assert brain.state.proposal is not None
        id = brain.state.proposal.decision.id
        await brain.reject(id, "anna", "not now")
        sent = {r["id"]: r["commands"] for r in brain.decisions() if r["commands"]}
        assert sent
    async with desk(tmp_path) as d:
        rows = {r["id"]: r for r in d.decider.decisions()}
        assert (rows[id]["state"], rows[id]["answer"]["reason"]) == ("rejected", "not now")
        for decision, commands in sent.items():
            again = rows[decision]["commands"]
            assert [c["job"] for c in again] == [c["job"] for c in commands]
            assert "confirmed" in {c.get("outcome") for c in again}


async def test_the_ledger_is_the_truth_when_the_records_lag_behind(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.until(lambda: d.decider.state.in_force is not None)
        await d.decider.set_switch("soft", False, "anna")
        await d.decider.set_level("heat", "release", "advise", "anna")
        id = d.decider.decisions()[0]["id"]
    with closing(sqlite3.connect(tmp_path / "records.sqlite")) as records:
        # what a full disk or a kill at the wrong moment leaves behind
        records.execute("UPDATE settings SET value = 'true' WHERE key = 'switch.soft'")
        records.execute("DELETE FROM settings WHERE key LIKE 'level.%'")
        records.execute("DELETE FROM decisions")
        records.commit()
    async with desk(tmp_path) as d:
        assert not d.decider.state.is_on("soft")
        rows = {r["line"]: r for r in d.decider.autonomy_view()["lines"]}
        assert rows["heat"]["levels"]["release"] == "advise"
        assert id in {row["id"] for row in d.decider.decisions()}


async def test_a_lost_source_and_a_switch_stop_dispatch_and_are_remembered(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await brain.set_switch("soft", False, "anna")
        await brain.set_level("heat", "release", "advise", "anna")
        await d.until(lambda: brain.state.in_force is not None)
        await asyncio.sleep(0.3)
        lines = {t.order.work_center for t in brain.state.tracks.values()}
        assert "soft" not in lines
        assert "heat" not in lines
        d.happen(EventKind.SOURCE_LOST, "plant")
        rows = {r["line"]: r for r in brain.autonomy_view()["lines"]}
        assert rows["housing"]["blocked"]["id"] == "blocked.source_lost"
        assert rows["soft"]["blocked"]["id"] == "gate.switch_off"
        with pytest.raises(NotAllowedError, match="known are"):
            await brain.set_level("heat", "release", "boss", "anna")
        with pytest.raises(NotAllowedError, match="no line"):
            await brain.set_switch("moon", True, "anna")
        plan = brain.state.in_force
        await asyncio.sleep(0.3)
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None)
        assert not brain.state.is_on("soft")
        rows = {r["line"]: r for r in brain.autonomy_view()["lines"]}
        assert rows["heat"]["levels"]["release"] == "advise"
        assert plan is not None
        await asyncio.sleep(0.3)
        states = [row["state"] for row in brain.decisions()]
        assert states.count("in_force") == 1


async def test_a_huge_order_stops_nothing_and_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        brain, records = d.decider, Records(tmp_path / "records.sqlite")
        await d.until(lambda: brain.state.in_force is not None)
        await d.until(lambda: brain.state.computing is None)
        orders = OrderDesk(SETTINGS.plant, records, d.ledger, brain)
        due = START + 90 * NS_PER_H
        huge = WorkRequest(id="X", product="hyb_a", quantity=99_999_999, due_ns=due)
        with pytest.raises(OrderError, match="split it into several orders"):
            await orders.add(huge, "anna")
        old = WorkRequest(id="Y", product="hyb_a", quantity=1, due_ns=START - NS_PER_H)
        with pytest.raises(OrderError, match="is not after plant time"):
            await orders.add(old, "anna")
        late = b"id,product,quantity,due\nL1,hyb_a,5,2020-01-02\n"
        (warning,) = (await orders.import_file("o.csv", late, "anna"))["warnings"]
        assert (warning["order"], warning["value"][:10]) == ("L1", "2020-01-03")
        records.save_requests([huge])
        await brain.orders_changed(["X"], rush=True)
        said = lambda: [e for e in d.events if e.payload.get("topic") == "left_out"]  # noqa: E731
        await d.until(said)
        assert said()[0].path == "X"

        def is_named() -> bool:
            reasons = [m["id"] for row in brain.decisions() for m in row["reasons"]]
            return "plan.left_out" in reasons

        await d.until(is_named)
        records.close()
