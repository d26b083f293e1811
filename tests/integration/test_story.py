"""The tour of the README as a test: real processes, real protocols, a real browser.

Start, watch orders run, break a machine on the plant's own control page, see the new plan with its
reason, approve it, see the line follow, ask why, replay, verify.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from asyncua import Client
from bench.house import House

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "a long password"
ARGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
]  # fmt: skip


def eventually(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true answer of ``check``; fails after the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"after {seconds:.0f} s still not: {what}")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    if not CHROMIUM.exists():
        reason = f"Chromium is missing: {CHROMIUM}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    data = tmp_path_factory.mktemp("story") / "data"
    running = House.start(data, "--start", "2026-03-02T08:00:00+08:00")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page(house: House) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        context = browser.new_context(viewport={"width": 1600, "height": 1000}, locale="en-GB")
        page = context.new_page()
        page.goto(house.link)
        fields = page.locator("input[type=password]")
        fields.nth(0).fill(PASSWORD)
        fields.nth(1).fill(PASSWORD)
        page.get_by_role("button", name=re.compile("password|start", re.I)).first.click()
        page.locator(".wall-hold canvas").first.wait_for(timeout=30_000)
        yield page
        browser.close()


def brain(house: House, *arguments: str) -> str:
    """Run the command line on the house's data directory."""
    command = [sys.executable, "-m", "workshop_brain", *arguments, "--data", str(house.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def api(page: Any, path: str) -> Any:
    """GET through the signed-in browser."""
    return page.evaluate("path => fetch('/api/v1' + path).then(r => r.json())", path)


async def receiver_jobs(url: str, receiver: str) -> list[str]:
    """Job ids in a receiver's list, read by a stock client."""
    async with Client(url) as client:
        await client.load_data_type_definitions()
        index = await client.get_namespace_index("urn:workshop-brain:twin")
        jobs = await client.get_namespace_index("http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/")
        node = client.nodes.objects
        for part in receiver.split("/"):
            children = {(await c.read_browse_name()).Name: c for c in await node.get_children()}
            node = children[part]
        assert index
        assert jobs
        children = {(await c.read_browse_name()).Name: c for c in await node.get_children()}
        rows = await children["JobOrderList"].read_value()
        return [row.JobOrder.JobOrderID for row in rows]


def victims(schedule: dict[str, Any]) -> list[str]:
    """Machines that work on a job and have another within a day; the tightest shop first."""
    up = {m["path"] for m in schedule["machines"] if m["state"] == "up"}
    running = {a["machine"] for a in schedule["actual"] if a["state"] == "running"} & up
    soon = schedule["now_ms"] + 24 * 3.6e6
    planned = {
        b["machine"] for b in schedule["bars"] if b["status"] == "planned" and b["start_ms"] < soon
    }
    shops = ("/hard/", "/soft/", "/housing/")
    return [m for shop in shops for m in sorted(running & planned) if shop in m]


def assert_nothing_left_early(page: Any) -> None:
    """Only jobs of the next half hour (and a little) have gone out."""
    plan = api(page, "/schedule")
    far = {b["op"] for b in plan["bars"] if b["start_ms"] > plan["now_ms"] + 45 * 60_000}
    sent = {c["job"] for d in api(page, "/decisions?limit=20") for c in d["commands"]}
    assert not sent & far


def repair_of(page: Any, unit: str) -> Any:
    """The newest repair decision that the unit's breakdown set off."""

    def is_meant(trigger: dict[str, Any]) -> bool:
        causes = trigger.get("all", [trigger])
        return any(c["kind"] == "breakdown" and c["path"] == unit for c in causes)

    rows = [d for d in api(page, "/decisions?limit=20") if d["decision_class"] == "repair"]
    return next((d for d in rows if is_meant(d["trigger"])), None)


def break_machine(house: House, page: Any, unit: str) -> None:
    """Press the button on the plant's own page, not the brain's."""
    control = page.context.new_page()
    control.goto(house.control)
    control.locator("#unit option").first.wait_for(state="attached")
    control.locator("#unit").select_option(unit)
    control.locator("#minutes").fill("600")
    control.locator("button[data-verb=break]").click()
    control.locator("#answer").filter(has_text="Done").wait_for()
    control.close()


def test_the_tour(house: House, page: Any) -> None:
    # Orders run: all signals are live, a plan is in force, jobs are confirmed.
    health = eventually(
        lambda: (
            (h := api(page, "/health"))["signals"] >= 12_164
            and h["rate"] > 6_000
            and all(s["state"] == "up" for s in h["sources"])
            and h
        ),
        "every source up and 12,164 signals known",
    )
    assert health["stale"] == 0
    eventually(
        lambda: any(
            c.get("outcome") == "confirmed"
            for d in api(page, "/decisions?limit=20")
            for c in d["commands"]
        ),
        "a job order confirmed by its receiver",
    )
    assert_nothing_left_early(page)
    busy = eventually(lambda: victims(api(page, "/schedule")), "a busy machine", 60)

    # Break machines on the plant's own page until one cannot be mended without moving work.
    decision: Any = None
    for victim in busy[:8]:
        break_machine(house, page, victim)
        decision = eventually(lambda v=victim: repair_of(page, v), "a repair decision", 60)
        if decision["state"] == "waiting_approval":
            break
    assert decision["state"] == "waiting_approval"

    # The new plan stands there with its reason and its alternatives, and waits for a person.
    assert all(reason["text"] for reason in decision["reasons"])
    assert len(decision["candidates"]) >= 2
    page.goto(f"{house.url}/#/schedule?d={decision['id']}")
    card = page.locator("article.card")
    card.get_by_text(victim.rsplit("/", 1)[1]).first.wait_for(timeout=20_000)
    page.locator("canvas").first.wait_for()
    page.get_by_role("button", name=re.compile("Approve")).first.click()
    eventually(
        lambda: api(page, f"/decisions/{decision['id']}")["approved_by"] == "admin", "approved"
    )
    eventually(lambda: api(page, "/schedule")["in_force"], "the approved plan in force", 60)

    # Nothing is planned to start on the broken machine while it is down.
    plan = api(page, "/schedule")
    back_ms = plan["now_ms"] + 60_000
    assert all(
        b["start_ms"] > back_ms
        for b in plan["bars"]
        if b["machine"] == victim and b["status"] == "planned"
    )

    # The line follows: what was confirmed stands in the receivers, read by a stock client.
    ports = json.loads((house.data / "run" / "ports.json").read_text())
    confirmed = {
        c["job"]
        for d in api(page, "/decisions?limit=50")
        for c in d["commands"]
        if c.get("outcome") == "confirmed" and c["command"] == "dispatch"
    }
    listed: set[str] = set()
    for line in api(page, "/autonomy")["lines"]:
        url = f"opc.tcp://127.0.0.1:{ports['opcua']}/workshop"
        with ThreadPoolExecutor() as pool:  # the browser's engine holds this thread's loop
            listed |= set(pool.submit(asyncio.run, receiver_jobs(url, line["receiver"])).result())
    assert confirmed
    assert confirmed & listed

    # Ask why.
    bar = next(b for b in plan["bars"] if b["status"] == "planned")
    page.goto(f"{house.url}/#/schedule?op={bar['op']}")
    why = page.locator(".why")
    why.wait_for()
    why.get_by_role("button", name=re.compile("Why this")).click()
    eventually(lambda: why.locator("li").count(), "an answer to 'why this?'", 20)

    # Replay and verify.
    assert "DIFFERENT" not in brain(house, "replay", decision["id"])
    brain(house, "ledger", "verify")
    assert decision["id"] in brain(house, "explain", decision["id"])


def test_brain_off_stops_dispatch_at_once(house: House, page: Any) -> None:
    with httpx.Client(base_url=house.url + "/api/v1", trust_env=False, timeout=20) as client:
        client.headers["Origin"] = house.url
        switch_off_and_rush(house, client)


def switch_off_and_rush(house: House, client: httpx.Client) -> None:
    client.post("/login", json={"user": "admin", "password": PASSWORD}).raise_for_status()
    lines = [row["line"] for row in client.get("/autonomy").json()["lines"]]
    for line in lines:
        client.post(f"/autonomy/{line}/switch", json={"on": False}).raise_for_status()
    time.sleep(1.0)

    def commands() -> int:
        rows = client.get("/decisions?limit=200").json()
        return sum(len(d["commands"]) for d in rows)

    before = commands()
    client.post(
        "/orders",
        json={"id": "RUSH-1", "product": "edu_a", "quantity": 60, "due": "+1d", "priority": 9},
    )
    time.sleep(5.0)
    assert commands() == before
    assert (house.data / "plans" / "current.html").exists()
    for line in lines:
        client.post(f"/autonomy/{line}/switch", json={"on": True}).raise_for_status()
