"""The schedule and line screens over a real decider: pins, scenarios, pegging, line balance."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from tests.integration.test_decide_loop import Desk, desk
from tests.integration.test_screens import (
    ARGS,
    AXE,
    CHROMIUM,
    PASSWORD,
    require,
    violations,
    wait_until,
)

from workshop_brain.app.desk import OrderDesk
from workshop_brain.app.watch import Watch
from workshop_brain.store.historian import Historian
from workshop_brain.store.records import Records
from workshop_brain.web.api import create_app
from workshop_brain.web.server import server_config
from workshop_brain.web.services import Services
from workshop_brain.web.static import BUILT

pytestmark = pytest.mark.browser

HOUR_MS = 3_600_000
GUTTER, AXIS = 96, 34
# Jackson's 11 tasks (1956), times four, so that 56 s takes four stations.
TASKS = """task,time,predecessors
1,24,
2,8,1
3,20,1
4,28,1
5,4,1
6,8,2
7,12,3;4;5
8,24,6
9,20,7
10,20,8
11,16,9;10
"""
TODAY = "task,station\n1,1\n2,1\n3,1\n4,2\n5,2\n6,2\n7,2\n8,3\n9,3\n10,4\n11,4\n"


@dataclass
class House:
    url: str
    brain: Desk
    data: Path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require(CHROMIUM, "Chromium")
    require(BUILT / "index.html", "the built front end (npm run build)")
    require(AXE, "axe-core (npm ci)")
    data = tmp_path_factory.mktemp("schedule")
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    found: dict[str, Any] = {}

    async def run() -> None:
        async with desk(data) as d:
            records, historian = Records(data / "records.sqlite"), Historian(data / "historian")
            plant = d.decider.plant
            services = Services(
                plant=plant, clock=d.clock, watch=Watch(plant), historian=historian,
                decider=d.decider, users=records,
                orders=OrderDesk(plant, records, d.ledger, d.decider),
                work_list=SimpleNamespace(entries=lambda center: []), data_dir=data,
                sources=list, version="1", simulated=True, settings=records,
            )  # fmt: skip
            app = create_app(services)
            records.add_user("planner", PASSWORD, "planner")
            await d.until(lambda: d.decider.state.in_force is not None)
            server = uvicorn.Server(server_config(app, host="127.0.0.1", port=1))
            found.update(brain=d, server=server)
            await server.serve(sockets=[door])
            historian.close()
            records.close()

    serving = threading.Thread(target=lambda: asyncio.run(run()))
    serving.start()
    wait_until(lambda: "server" in found and found["server"].started, "server")
    yield House(f"http://127.0.0.1:{door.getsockname()[1]}/", found["brain"], data)
    found["server"].should_exit = True
    serving.join(20)
    door.close()


@pytest.fixture(scope="module")
def page(house: House) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        tab = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
        tab.goto(house.url)
        tab.get_by_label("User").fill("planner")
        tab.get_by_label("Password").fill(PASSWORD)
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".rail")
        yield tab
        chromium.close()


def show(page: Any, address: str, ready: str) -> None:
    page.evaluate("address => { location.hash = '#/' + address }", address)
    page.wait_for_selector(ready, timeout=30_000)


def view_of(page: Any, house: House) -> dict[str, Any]:
    return dict(page.request.get(f"{house.url}api/v1/schedule").json())


def bars_ahead(view: dict[str, Any]) -> list[dict[str, Any]]:
    """Bars of soft machining that start 2 to 12 hours from now, wide enough to be hit."""
    near, far = view["now_ms"] + 2 * HOUR_MS, view["now_ms"] + 12 * HOUR_MS
    return [
        bar
        for bar in sorted(view["bars"], key=lambda b: b["start_ms"])
        if "/soft/" in bar["machine"] and near < bar["start_ms"] < far
    ]


def test_keys_move_an_operation_and_the_price_comes_first(page: Any, house: House) -> None:
    view = view_of(page, house)
    bar = bars_ahead(view)[0]
    show(page, f"schedule?op={bar['op']}", ".why")
    page.locator(".gantt-hold canvas").focus()
    page.keyboard.press("m")
    page.keyboard.press("Escape")
    page.wait_for_selector(".wish", state="detached")
    page.keyboard.press("m")
    for key in ["ArrowRight"] * 4:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".wish .effect")
    assert "Weighted lateness" in page.locator(".wish").inner_text()
    assert view_of(page, house)["pins"] == []
    assert violations(page) == []
    page.keyboard.press("Enter")
    page.wait_for_selector(".pins li")
    (pin,) = view_of(page, house)["pins"]
    assert (pin["op"], pin["by"], pin["met"]) == (bar["op"], "planner", True)
    assert pin["start_ms"] == pytest.approx(bar["start_ms"] + HOUR_MS, abs=60_000)
    weights = page.request.get(f"{house.url}api/v1/schedule/weights").json()
    assert weights["pairs"] == 1
    assert all(value >= 0 for value in weights["fitted"].values())
    page.locator(".weights").get_by_role("button", name="Use the fitted weights").click()
    page.get_by_text("weights that planner set").wait_for()
    used = page.request.get(f"{house.url}api/v1/schedule/weights").json()
    assert used["present"] == weights["fitted"]
    assert used["plant"] == weights["plant"]
    page.locator(".weights").get_by_role("button", name="Change").click()
    page.locator(".weights").get_by_label("Changeover, per s").fill("0.25")
    assert violations(page) == []
    page.locator(".weights").get_by_role("button", name="Use these weights").click()
    page.locator(".weights").get_by_role("button", name="Change").wait_for()
    used = page.request.get(f"{house.url}api/v1/schedule/weights").json()
    assert used["present"] == {**weights["fitted"], "setup": 0.25}
    page.locator(".weights").get_by_role("button", name="Back to the plant's own").click()
    page.get_by_text("by the plant's own weights").wait_for()
    own = page.request.get(f"{house.url}api/v1/schedule/weights").json()
    assert own["present"] == own["plant"]
    page.get_by_label(f"Let {bar['op']} go").click()
    page.wait_for_selector(".pins", state="detached")
    assert view_of(page, house)["pins"] == []


def test_a_dragged_bar_asks_for_its_price(page: Any, house: House) -> None:
    show(page, "schedule", ".gantt-hold canvas")
    view = view_of(page, house)
    bar = bars_ahead(view)[-1]
    box = page.locator(".gantt-hold canvas").bounding_box()
    scale = 30 * HOUR_MS / (box["width"] - GUTTER)
    row = next(k for k, m in enumerate(view["machines"]) if m["path"] == bar["machine"])
    high = max(18, min(40, (box["height"] - AXIS) // len(view["machines"])))
    left = view["now_ms"] - 0.12 * 30 * HOUR_MS
    middle = (bar["start_ms"] + bar["end_ms"]) / 2
    x = box["x"] + GUTTER + (middle - left) / scale
    y = box["y"] + AXIS + (row + 0.4) * high
    assert y < box["y"] + box["height"], "the row is not on the screen"
    page.mouse.click(x, y)
    page.wait_for_selector(".why")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=3)
    page.mouse.move(x + 80, y, steps=3)
    page.mouse.up()
    page.wait_for_selector(".wish .effect, .wish .late")
    assert view_of(page, house)["pins"] == []
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".wish", state="detached")


def test_an_order_leads_to_its_operations_and_back(page: Any, house: House) -> None:
    bar = bars_ahead(view_of(page, house))[0]
    show(page, f"schedule?op={bar['op']}", ".why")
    page.get_by_role("button", name="Operations of the order").click()
    page.wait_for_selector(".pegging tbody tr")
    rows = page.locator(".pegging tbody tr")
    assert rows.count() >= 3
    assert bar["op"] in page.locator(".pegging").inner_text()
    assert "before" in page.locator(".pegging").inner_text()
    rows.last.get_by_role("button").click()
    assert violations(page) == []
    page.locator(".pegging header button").click()
    page.wait_for_selector(".pegging", state="detached")


def test_scenarios_stand_side_by_side(page: Any, house: House) -> None:
    show(page, "schedule", ".gantt-hold canvas")
    page.get_by_role("button", name="Compare scenarios").click()
    dialog = page.locator("dialog.scenarios")
    dialog.get_by_role("button", name="Add to the scenario").click()
    dialog.get_by_role("button", name="One more scenario").click()
    dialog.get_by_label("What happens").select_option("add")
    dialog.get_by_label("Pieces").fill("60")
    dialog.get_by_role("button", name="Add to the scenario").click()
    dialog.get_by_role("button", name="Work them out").click()
    page.wait_for_selector(".compared")
    head = page.locator(".compared thead th").all_inner_texts()
    assert head == ["KPI", "As it is", "A", "B"]
    assert "–" not in page.locator(".compared tbody tr").first.inner_text().split("\t")[2:]
    assert violations(page) == []
    dialog.get_by_role("button", name="Discard scenario A").click()
    assert page.locator(".scenario-columns section").count() == 1
    page.keyboard.press("Escape")


def test_a_scenario_is_carried_out_by_keys_once_its_steps_were_shown(
    page: Any, house: House
) -> None:
    show(page, "schedule", ".gantt-hold canvas")
    page.get_by_role("button", name="Compare scenarios").click()
    dialog = page.locator("dialog.scenarios")
    dialog.get_by_label("What happens").select_option("down")
    dialog.get_by_role("button", name="Add to the scenario").click()
    dialog.get_by_role("button", name="Work them out").click()
    page.wait_for_selector(".compared")
    dialog.get_by_role("button", name="Scenario A: Carry out …").click()
    page.wait_for_selector(".review")
    said = page.locator(".review").inner_text()
    assert "New order NEW-1: 60 x" in said
    assert "Planned stop of soft1 from" in said
    assert "Soft machining" in said
    assert violations(page) == []
    # Nothing has happened so far; the focus is on what makes it happen.
    assert view_of(page, house)["declared"] == []
    page.keyboard.press("Enter")
    dialog.get_by_text("Scenario A is carried out").wait_for()
    (row,) = view_of(page, house)["declared"]
    assert (row["kind"], row["by"]) == ("down", "planner")
    page.keyboard.press("Escape")
    page.wait_for_selector(".declared li")
    page.wait_for_selector("text=A planner changed orders or working times.")
    assert "planned stop" in page.locator(".legend").inner_text()
    assert violations(page) == []
    # The same again is refused with the way out, in the reader's language.
    again = {
        "kind": "down",
        "machine": row["place"],
        "from": row["from_ms"],
        "until": row["until_ms"],
    }
    answer = page.request.post(
        f"{house.url}api/v1/schedule/scenarios/carry-out",
        data={"changes": [again]},
        headers={"Origin": house.url.rstrip("/"), "Accept-Language": "zh"},
    )
    assert answer.status == 409
    assert "已有计划停机" in answer.json()["error"]["message"]
    page.get_by_role("button", name="Take back: soft1").click()
    page.wait_for_selector(".declared", state="detached")
    assert view_of(page, house)["declared"] == []


def test_why_not_earlier_and_why_not_then_are_answered(page: Any, house: House) -> None:
    bar = bars_ahead(view_of(page, house))[-1]
    show(page, f"schedule?op={bar['op']}", ".why")
    page.get_by_role("button", name="Why not earlier?").click()
    page.wait_for_selector(".why .reasons li", timeout=30_000)
    page.get_by_label("Another start").press("Enter")
    page.wait_for_selector(".why h3:has-text('Why not at')")
    page.wait_for_selector(".why .reasons li", timeout=30_000)
    assert violations(page) == []
    url = f"{house.url}api/v1/schedule/why-not?op={bar['op']}"
    late = page.request.get(f"{url}&start={bar['start_ms'] + 2 * HOUR_MS}").json()
    assert "schedule.then_cost" in [m["id"] for m in late["messages"]]
    # repaired with a little search, which may gain elsewhere what the delay costs
    assert late["after"]["objective"] >= 0.99 * late["before"]["objective"]
    assert page.request.get(url).status == 422
    assert page.request.get(f"{house.url}api/v1/schedule/why-not?op=x&start=earlier").status == 404


def test_the_line_shows_its_balance_from_the_plants_own_document(page: Any, house: House) -> None:
    show(page, "line/asm1?balance=1", ".balance .note")
    assert "balance/asm1.csv" in page.locator(".balance .note").inner_text()
    folder = house.data / "balance"
    folder.mkdir()
    (folder / "asm1.csv").write_text(TASKS, "utf-8")
    (folder / "asm1.now.csv").write_text(TODAY, "utf-8")
    page.get_by_label("Takt wanted").fill("37")
    page.get_by_role("button", name="Rebalance").click()
    page.wait_for_selector(".yamazumi svg")
    today = page.get_by_role("spinbutton", name="Takt today")
    assert today.input_value() == "52"  # the longest station of today
    assert page.locator(".yamazumi").count() == 2
    moved = page.locator(".balance tbody tr").count()
    assert moved >= 1
    assert page.locator(".yamazumi rect.moved").count() == moved
    said = "4 stations today, 6 proposed, 5 tasks move; fewer stations are not possible."
    assert said in page.locator(".balance").inner_text()
    assert violations(page) == []


def test_chinese_readers_in_the_dark_get_the_same(page: Any, house: House) -> None:
    page.evaluate("localStorage.setItem('language','zh');localStorage.setItem('theme','dark')")
    page.set_viewport_size({"width": 800, "height": 1000})
    page.reload()
    page.wait_for_selector(".rail")
    bar = bars_ahead(view_of(page, house))[0]
    show(page, f"schedule?op={bar['op']}&order={bar['request']}", ".pegging tbody tr")
    page.locator(".gantt-hold canvas").focus()
    page.keyboard.press("m")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wish .effect, .wish .late")
    assert f"移动 {bar['op']}" in page.locator(".wish h2").inner_text()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator(".gantt-hold canvas").focus()
    show(page, "line/asm1?balance=1", ".yamazumi svg")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
