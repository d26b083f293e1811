"""The built screens in a real Chromium, over the real web application on loopback.

Historian, records, live tables and the server are the real ones; the plan and its decisions are
fixed, so that what is shown is known.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from workshop_brain.app.watch import Watch
from workshop_brain.config import built_in
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.records import Records
from workshop_brain.twin.devices import plant_devices
from workshop_brain.web.api import create_app, first_link
from workshop_brain.web.server import server_config
from workshop_brain.web.services import Services
from workshop_brain.web.static import BUILT

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(__file__).parents[2] / "frontend/node_modules/axe-core/axe.min.js"
ARGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
]  # fmt: skip
PASSWORD = "a long password"
LINE = "local/works/assembly/asm1"
TORQUE = f"{LINE}/z1/st01/torque_10"
HOUR_MS = 3_600_000.0
COMMON = (
    ("state_current", SignalKind.STATE, 17.0),
    ("unit_mode_current", SignalKind.STATE, 3.0),
    ("blocked", SignalKind.FLAG, 1.0),
    ("starved", SignalKind.FLAG, 1.0),
    ("prod_processed_count", SignalKind.COUNTER, 1e6),
    ("prod_defective_count", SignalKind.COUNTER, 1e6),
    ("stop_reason", SignalKind.STATE, 12.0),
    ("infeed_level", SignalKind.GAUGE, 20.0),
    ("job_order", SignalKind.TEXT, 1.0),
    ("serial", SignalKind.TEXT, 1.0),
)
SCREENS = {
    "wall": ".wall-hold canvas",
    f"line/asm1?sel={LINE}/z1/st03": ".drawer .facts",
    "schedule?op=W1.soft1-3": ".why",
    "schedule?table=1&row=local/works/gears/soft/c1/soft1": ".plan tbody tr",
    f"trend?s={TORQUE}": ".legend-table table",
    "orders?sel=W1": ".steps",
    "work": ".job",
    "brain": ".auto li",
    f"trend?s={LINE}/z1/st03/state_current,{LINE}/z1/st01/serial": ".strip-of i",
    "users": ".users tbody tr",
}


def require(path: Path, what: str) -> None:
    """Skip where something is missing, but never in CI."""
    if path.exists():
        return
    reason = f"{what} is missing: {path}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class RealClock:
    """Plant time is wall time."""

    def plant_ns(self) -> int:
        return time.time_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def now_ms() -> float:
    return time.time() * 1000


@dataclass
class Desk:
    """A fixed plan with two decisions; keeps what people tell it."""

    units: list[tuple[str, str, str]]
    start_ms: float = field(default_factory=now_ms)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    state: str = "waiting_approval"
    on: dict[str, bool] = field(default_factory=dict)

    def decision(self, id: str) -> dict[str, Any]:
        kpis = {"weighted_tardiness_s": 7200.0, "late_orders": 1, "throughput_per_h": 84.0}
        waiting = id == "d2"
        return {
            "id": id, "time_ms": self.start_ms - (60_000 if waiting else 600_000), "line": "soft",
            "decision_class": "repair" if waiting else "plan",
            "trigger": {"kind": "breakdown", "path": self.units[5][1]},
            "candidates": [
                {"name": "redispatch_1", "kpis": kpis, "objective": 10.0},
                {"name": "right_shift", "kpis": kpis | {"late_orders": 3}, "objective": 30.0},
            ],
            "chosen": 0, "reasons": [{"id": "reason.no_moves", "params": {}}],
            "changes": [
                {"op": "W1.soft1-3", "machine_from": self.units[0][1],
                 "machine_to": self.units[1][1], "start_from_ms": self.start_ms,
                 "start_to_ms": self.start_ms + 900_000}
            ],
            "effect": {"weighted_tardiness_s": -3600.0, "late_orders": -2, "setups": 1},
            "level": "approve", "state": self.state if waiting else "in_force", "bound": 5.0,
            "approved_by": "", "until_ms": None, "answer": None, "commands": [],
            "outcome": None if waiting else {
                "jobs": 3, "ended": 2, "mean_late_s": 120.0, "worst_late_s": 300.0, "good": 90,
                "scrap": 1,
            },
        }  # fmt: skip

    def decisions(self, limit: int = 50) -> list[dict[str, Any]]:
        return [self.decision("d2"), self.decision("d1")][:limit]

    def approve(self, id: str, user: str, reason: str) -> dict[str, Any]:
        self.told.append(("approve", id, user))
        self.state = "in_force"
        return self.decision(id)

    def reject(self, id: str, user: str, reason: str) -> dict[str, Any]:
        self.told.append(("reject", id, user, reason))
        self.state = "rejected"
        return self.decision(id)

    veto = reject

    def set_level(self, line: str, decision_class: Any, level: Any, user: str) -> None:
        self.told.append(("level", line, decision_class.value, level.name))

    def set_switch(self, line: str, on: bool, user: str) -> None:
        self.told.append(("switch", line, on))
        self.on[line] = on

    def schedule_view(self) -> dict[str, Any]:
        start, bars = self.start_ms, []
        for row, (id, path, _) in enumerate(self.units):
            for k in range(12):
                at = start + (k * 1.5 - 2 + row * 0.05) * HOUR_MS
                bars.append(
                    {"op": f"W{k % 3 + 1}.{id}-{k}", "request": f"W{k % 3 + 1}",
                     "product": "dct_a", "family": "dct", "machine": path, "start_ms": at,
                     "end_ms": at + 1.2 * HOUR_MS, "setup_start_ms": at - 0.2 * HOUR_MS,
                     "status": "planned", "late_s": 900.0 if k == 7 else -10.0}
                )  # fmt: skip
        ghost = {k: bars[4][k] for k in ("op", "machine")}
        return {
            "plan_id": "p", "time_ms": start, "now_ms": start, "frozen_until_ms": start + 600_000,
            "machines": [
                {"path": path, "id": id, "work_center": center, "state": "up"}
                for id, path, center in self.units
            ],
            "bars": bars, "actual": [],
            "ghost": [ghost | {"start_ms": start, "end_ms": start + HOUR_MS}],
            "closed": [], "kpis": {"late_orders": 1, "setups": 4}, "gap": 0.1,
        }  # fmt: skip

    def orders_view(self) -> list[dict[str, Any]]:
        steps = [{"work_center": "soft", "job": "W1.soft", "state": "running", "good": 10}]
        return [
            {"id": f"W{k}", "product": "dct_a", "quantity": 100, "due_ms": self.start_ms,
             "release_ms": 0.0, "priority": k, "state": "waiting", "done": 10, "steps": steps,
             "predicted_end_ms": self.start_ms + HOUR_MS, "late_s": 3600.0}
            for k in (1, 2, 3)
        ]  # fmt: skip

    def explain(self, op: str) -> dict[str, Any]:
        return {"messages": [{"id": "reason.verified", "params": {}}]}

    def why_not(self, op: str, machine: str) -> dict[str, Any]:
        return self.explain(op)

    def what_if(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        self.told.append(("what_if", events[0]["kind"], events[0]["path"]))
        before = {"weighted_tardiness_s": 3600.0, "late_orders": 1.0, "throughput_per_h": 84.0}
        return {
            "kpis_before": before, "kpis_after": before | {"late_orders": 4.0},
            "changes": self.decision("d2")["changes"],
        }  # fmt: skip

    def weights_view(self) -> dict[str, Any]:
        weights = {"tardiness": 1.0, "setup": 0.1}
        return {
            "present": weights, "plant": weights, "fitted": weights, "by": "", "time_ns": None,
            "pairs": 0, "agrees_before": 0, "agrees": 0,
        }  # fmt: skip

    def print_page(self, language: str | None = None) -> str:
        return "<h1>Plan</h1>"

    def autonomy_view(self) -> dict[str, Any]:
        kinds = ["plan", "repair", "improve", "release"]
        return {
            "lines": [
                {"line": line, "on": self.on.get(line, True), "moves_left": 60, "way": "opcua",
                 "levels": dict.fromkeys(kinds, "report"), "receiver": None,
                 "receiver_error": None, "blocked": None}
                for line in dict.fromkeys(center for _, _, center in self.units)
            ],
            "envelope": {"frozen_min": 10, "moves_per_hour": 60, "receivers": ["a"]},
            "veto_s": 60, "levels": ["observe", "advise", "approve", "veto", "report"],
            "classes": kinds,
        }  # fmt: skip

    def add(self, order: Any, user: str) -> None:
        self.told.append(("add", order.id, order.quantity))

    def import_file(self, name: str, content: bytes, user: str) -> dict[str, Any]:
        self.told.append(("import", name))
        error = {"row": 3, "column": "quantity", "value": "-2", "message": "must be > 0"}
        return {"accepted": 1, "errors": [error]}

    def cancel(self, id: str, user: str) -> None:
        self.told.append(("cancel", id))

    def entries(self, work_center: str | None) -> list[dict[str, Any]]:
        return [
            {"job": "W9.housing", "work_center": "housing", "equipment": self.units[-2][1],
             "product": "dct_a", "program": "dct", "quantity": 50, "state": "running",
             "start_ms": self.start_ms, "end_ms": self.start_ms + HOUR_MS}
        ]  # fmt: skip

    def confirm(self, job: str, user: str, good: int | None, scrap: int | None) -> None:
        self.told.append(("confirm", job, good, scrap))


def plant_signals() -> list[SignalDef]:
    """The plant's 12,164 counted signals and those of the units before the line."""
    out = []
    for device in plant_devices(built_in().plant):
        out += [
            SignalDef(path=f"{device.path}/{name}", kind=kind, high=high, source="opc")
            for name, kind, high in COMMON
        ]
        out += [
            SignalDef(path=f"{device.path}/torque_{k}", kind=SignalKind.GAUGE, unit="N.m",
                      high=100.0, source="spb")
            for k in range(10, device.points)
        ]  # fmt: skip
    return out


class Feed:
    """Sends every signal four times a second, as a burst in the server's loop."""

    def __init__(self, watch: Watch, defs: list[SignalDef], text: int) -> None:
        self._watch = watch
        self._ids = np.arange(len(defs), dtype=np.uint32)
        self._random = np.random.default_rng(7)
        kinds = np.array([d.kind for d in defs])
        self._gauge = np.array(kinds == SignalKind.GAUGE)
        names = np.array([d.name for d in defs])
        self._base = np.where(names == "state_current", 6.0, np.where(self._gauge, 15.0, 0.0))
        broken = {f"{LINE}/z1/st03/state_current": 9.0, f"{LINE}/z1/st03/stop_reason": 4.0}
        self._base[kinds == SignalKind.TEXT] = text
        for k, signal in enumerate(defs):
            self._base[k] = broken.get(signal.path, self._base[k])

    def samples(self) -> Samples:
        """One value of every signal, at this instant."""
        n = len(self._ids)
        value = self._base + np.where(self._gauge, self._random.normal(0, 0.1, n), 0.0)
        time_ns = np.full(n, time.time_ns(), np.int64)
        return Samples(self._ids, time_ns, value, np.zeros(n, np.uint8))

    def send(self) -> None:
        """Hand one burst to the live tables."""
        self._watch.on_samples(self.samples(), time.time_ns())
        self._watch.tick(time.time_ns())


@dataclass
class House:
    url: str
    desk: Desk
    link: str


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require(CHROMIUM, "Chromium")
    require(BUILT / "index.html", "the built front end (npm run build)")
    require(AXE, "axe-core (npm ci)")
    data = tmp_path_factory.mktemp("screens")
    plant, historian = built_in().plant, Historian(data / "historian")
    records, watch, defs = Records(data / "records.sqlite"), Watch(plant), plant_signals()
    watch.on_declared(historian.declare(defs), defs)
    feed = Feed(watch, defs, historian.intern(["SN-0042"])[0])
    history = feed.samples()
    historian.append(history, source="spb", session=1, seq=1)
    historian.sync()
    status = {"state": "up", "since_ns": time.time_ns(), "rate": 5.0, "age_s": 0.1, "gaps": 0}
    sources = [{"id": "opc", "protocol": "opcua"} | status, {"id": "spb", "protocol": "x"} | status]
    units = [(u.id, u.path, c.id) for c in plant.work_centers for u in c.units]
    desk = Desk(units)
    services = Services(
        plant=plant, clock=RealClock(), watch=watch, historian=historian, decider=desk,
        users=records, orders=desk, work_list=desk, data_dir=data, sources=lambda: sources,
        version="1.2.3", simulated=True, settings=records,
    )  # fmt: skip
    app = create_app(services)
    token = first_link(app)
    records.add_user("planner", PASSWORD, "planner")
    records.add_user("chief", PASSWORD, "admin")
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    port = door.getsockname()[1]
    server = uvicorn.Server(server_config(app, host="127.0.0.1", port=port))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    serving.start()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.25):
            server.servers[0].get_loop().call_soon_threadsafe(feed.send)

    wait_until(lambda: server.started, "server")
    beating = threading.Thread(target=beat)
    beating.start()
    yield House(f"http://127.0.0.1:{port}/", desk, f"#/link/{token}")
    stop.set()
    beating.join()
    server.should_exit = True
    serving.join(10)
    door.close()
    historian.close()
    records.close()


def wait_until(met: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser(house: House) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield chromium
        chromium.close()


def sign_in(browser: Any, house: House, user: str) -> list[dict[str, Any]]:
    """The session of a user, signed in on the sign-in page."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(house.url)
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(".rail")
    found = context.cookies()
    context.close()
    assert found[0]["httpOnly"]
    assert found[0]["sameSite"] == "Strict"
    return list(found)


@dataclass
class Tab:
    """A page that is signed in, with everything it complained of or asked for outside."""

    page: Any
    complaints: list[str]
    foreign: list[str]

    def show(self, address: str, ready: str) -> None:
        self.page.evaluate("address => { location.hash = '#/' + address }", address)
        self.page.wait_for_selector(ready, timeout=30_000)


class Tabs:
    """Pages that stay open for the whole module: one per user, language and theme."""

    def __init__(self, browser: Any, house: House) -> None:
        self._browser, self._house = browser, house
        self._sessions: dict[str, list[dict[str, Any]]] = {}
        self._open: dict[tuple[str, str, str], Tab] = {}

    def __call__(self, language: str = "en", theme: str = "light", user: str = "planner") -> Tab:
        """The page of this kind, on the wall, with nothing complained of yet."""
        key = (language, theme, user)
        if key not in self._open:
            self._open[key] = self.fresh(language, theme, user)
            return self._open[key]
        tab = self._open[key]
        tab.complaints.clear()
        tab.foreign.clear()
        tab.show("wall", ".wall-hold canvas")
        return tab

    def fresh(
        self, language: str = "en", theme: str = "light", user: str = "planner", prepare: Any = None
    ) -> Tab:
        """A new page of this kind."""
        if user not in self._sessions:
            self._sessions[user] = sign_in(self._browser, self._house, user)
        context = self._browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies(self._sessions[user])
        context.add_init_script(
            f"localStorage.setItem('language','{language}');localStorage.setItem('theme','{theme}')"
        )
        tab = Tab(context.new_page(), [], [])
        tab.page.on("pageerror", lambda e: tab.complaints.append(str(e)))
        tab.page.on(
            "console", lambda m: tab.complaints.append(m.text) if m.type == "error" else None
        )
        ours = (self._house.url, "blob:")
        tab.page.on(
            "request", lambda r: None if r.url.startswith(ours) else tab.foreign.append(r.url)
        )
        if prepare:
            prepare(tab.page)
        tab.page.goto(self._house.url)
        tab.page.wait_for_selector(".wall-hold canvas", timeout=30_000)
        return tab


@pytest.fixture(scope="module")
def open_tab(browser: Any, house: House) -> Tabs:
    return Tabs(browser, house)


STALE_WATCH = """() => {
  window.silentAt = performance.now();
  const main = document.querySelector("main");
  new MutationObserver(() => { window.staleAt ??= performance.now(); })
    .observe(main, { attributeFilter: ["class"] });
}"""
AXE_RUN = """async () => {
  const found = await axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    resultTypes: ["violations"],
  });
  return found.violations.map(v => v.id + ": " + v.nodes.slice(0, 3).map(n =>
    n.target.join(" ") + " " + (n.any[0]?.message ?? "")).join(" | "));
}"""


def violations(page: Any) -> list[str]:
    """What axe-core finds against WCAG A and AA; evaluated past the page's content policy."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text("utf-8") + ";0")
    return list(page.evaluate(AXE_RUN))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_screen_violates_wcag_a_or_aa(open_tab: Tabs, language: str, theme: str) -> None:
    tab = open_tab(language, theme, "chief")
    problems = []
    for address, ready in SCREENS.items():
        tab.show(address, ready)
        problems += [f"{address}: {one}" for one in violations(tab.page)]
        wide = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{address} is {wide} px too wide"
    tab.page.keyboard.press("Control+k")
    tab.page.wait_for_selector("dialog.palette")
    problems += [f"palette: {one}" for one in violations(tab.page)]
    tab.page.keyboard.press("Escape")
    tab.show("schedule", ".gantt-hold canvas")
    tab.page.locator(".schedule > .title > button").last.click()
    tab.page.wait_for_selector("dialog.whatif")
    problems += [f"what-if: {one}" for one in violations(tab.page)]
    tab.page.keyboard.press("Escape")
    assert problems == []
    assert tab.complaints == []
    assert tab.foreign == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_one_time_link_sets_the_admins_password(browser: Any, house: House, theme: str) -> None:
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto(house.url + house.link)
    page.wait_for_selector("form.signin")
    assert violations(page) == []
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password again").fill(PASSWORD + "!")
    page.keyboard.press("Enter")
    assert "differ" in page.get_by_role("alert").inner_text()
    page.get_by_label("New password again").fill(PASSWORD)
    page.keyboard.press("Enter")
    if theme == "light":
        page.wait_for_selector(".wall-hold canvas")
        assert page.evaluate("location.hash") == "#/wall"
    else:
        # It was used up by the first.
        page.wait_for_function(
            "() => document.querySelector('.problem')?.innerText.includes('used up')"
        )
    context.close()


def test_the_wall_shows_every_signal_and_is_walked_by_keys(open_tab: Tabs) -> None:
    tab = open_tab()
    page = tab.page
    canvas = page.locator(".wall-hold canvas")
    n = int(re.sub(r"\D", "", canvas.get_attribute("aria-label").split(" signals")[0]))
    assert n == len(plant_signals()) == 12_164 + 31 * 10
    page.wait_for_function("() => document.querySelector('.age')?.dataset.state === 'fresh'")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    spoken = page.locator(".wall .sr[aria-live]")
    page.wait_for_function(
        "() => document.querySelector('.wall .sr[aria-live]').innerText.length > 5"
    )
    assert spoken.inner_text().startswith("st01")
    row = page.locator(".side tbody tr").first
    assert row.inner_text().split("\t")[0].strip() == "st03"
    assert "down" in row.inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector(".legend-table table")
    assert tab.complaints == []


def test_a_silent_connection_is_hatched_within_two_seconds(open_tab: Tabs) -> None:
    silent = threading.Event()

    def prepare(page: Any) -> None:
        def handle(ours: Any) -> None:
            server = ours.connect_to_server()
            server.on_message(lambda m: None if silent.is_set() else ours.send(m))
            ours.on_message(server.send)

        page.route_web_socket(re.compile("api/v1/live"), handle)

    page = open_tab.fresh(prepare=prepare).page
    page.wait_for_function("() => document.querySelector('.age')?.dataset.state === 'fresh'")
    page.evaluate(STALE_WATCH)
    silent.set()
    page.wait_for_selector("main.is-stale", timeout=15_000)
    assert page.evaluate("window.staleAt - window.silentAt") < 2300
    assert page.locator(".age").get_attribute("data-state") == "old"
    silent.clear()
    page.wait_for_selector("main:not(.is-stale)")
    page.context.close()


def test_a_decision_is_approved_with_the_keyboard_alone(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    house.desk.state = "waiting_approval"
    tab = open_tab()
    page = tab.page
    tab.show("schedule", ".gantt-hold canvas")
    page.wait_for_selector(".card.wants")
    page.locator(".gantt-hold canvas").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".why")
    page.get_by_role("button", name="Why this?").click()
    page.wait_for_selector(".why .reasons li")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+a")
    page.get_by_label("Colour").focus()
    page.keyboard.press("a")  # in a field it is a letter
    assert house.desk.told == []
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("a")
    wait_until(lambda: house.desk.told, "approval")
    assert house.desk.told == [("approve", "d2", "planner")]
    page.wait_for_selector(".status.s-in_force")
    assert tab.complaints == []


def test_a_rejection_asks_for_a_reason(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    house.desk.state = "waiting_approval"
    tab = open_tab()
    tab.show("schedule", ".card.wants")
    tab.page.locator(".rail a").first.focus()
    tab.page.keyboard.press("r")
    tab.page.get_by_role("textbox", name="Reason").fill("tool is worn")
    tab.page.keyboard.press("Enter")
    wait_until(lambda: house.desk.told, "rejection")
    assert house.desk.told == [("reject", "d2", "planner", "tool is worn")]


def test_brain_off_asks_once_and_levels_are_set_per_line(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    tab = open_tab()
    tab.show("brain", ".auto li")
    tab.page.get_by_role("switch").first.click()
    tab.page.get_by_role("button", name="Brain off").click()
    wait_until(lambda: ("switch", "soft", False) in house.desk.told, "switch")
    tab.page.get_by_label("Hard finishing: Repair").select_option("advise")
    wait_until(lambda: ("level", "hard", "repair", "ADVISE") in house.desk.told, "level")
    tab.page.get_by_role("switch").first.click()
    wait_until(lambda: ("switch", "soft", True) in house.desk.told, "switch")


def test_orders_are_added_and_bad_rows_of_a_file_are_named(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    tab = open_tab()
    tab.show("orders", "form.fields")
    tab.page.locator("form.fields input[name=id]").fill("RUSH-1")
    tab.page.locator("form.fields input[name=quantity]").fill("40")
    tab.page.get_by_role("button", name="Add order").click()
    wait_until(lambda: ("add", "RUSH-1", 40) in house.desk.told, "order")
    tab.page.locator("input[type=file]").set_input_files(
        {"name": "orders.csv", "mimeType": "text/csv", "buffer": b"id,quantity\nA,-2\n"}
    )
    tab.page.get_by_text("must be > 0").wait_for()
    assert ("import", "orders.csv") in house.desk.told


def test_a_completion_report_carries_good_and_scrap(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    tab = open_tab("zh")
    tab.show("work", ".job")
    tab.page.get_by_label("合格").fill("48")
    tab.page.get_by_label("不良").fill("2")
    tab.page.get_by_role("button", name="报工").click()
    wait_until(lambda: ("confirm", "W9.housing", 48, 2) in house.desk.told, "report")


def test_the_palette_finds_a_signal_among_all_and_opens_its_trend(open_tab: Tabs) -> None:
    tab = open_tab()
    tab.page.keyboard.press("Control+k")
    tab.page.keyboard.type("st17 torque_33")
    tab.page.wait_for_function(
        "() => { const t = document.querySelector('[role=option]')?.innerText ?? '';"
        " return t.includes('torque_33') && t.includes('st17'); }"
    )
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector(".legend-table table")
    assert "st17%2Ftorque_33" in tab.page.evaluate("location.hash")


def test_a_trend_follows_live(open_tab: Tabs) -> None:
    tab = open_tab()
    tab.show(f"trend?s={TORQUE}", ".legend-table table")
    points = "Number(document.querySelector('.legend-table tbody td:nth-child(6)').innerText)"
    before = tab.page.evaluate(points)
    tab.page.wait_for_function(f"() => {points} > {before} + 3", timeout=30_000)
    assert tab.page.locator(".chart canvas").count() == 1


def test_the_theme_and_the_language_change_without_a_reload(open_tab: Tabs) -> None:
    tab = open_tab.fresh()
    page = tab.page
    page.evaluate("window.same = true")
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_role("button", name="Language").click()
    page.get_by_role("link", name="排程").first.wait_for()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.evaluate("window.same") is True
    page.context.close()


def test_an_alarm_is_acknowledged_with_name_and_time(open_tab: Tabs) -> None:
    tab = open_tab()
    row = tab.page.locator(".alarm", has_text="st03")
    row.wait_for()
    assert "unacknowledged" in row.inner_text()
    row.get_by_role("button").click()
    tab.page.wait_for_selector(".alarm.a-acknowledged")
    assert "planner" in row.inner_text()
    assert tab.complaints == []


def test_what_if_shows_both_plans_side_by_side(open_tab: Tabs, house: House) -> None:
    house.desk.told.clear()
    tab = open_tab()
    tab.show("schedule", ".gantt-hold canvas")
    tab.page.get_by_role("button", name="What if").click()
    tab.page.get_by_label("Hours").fill("3")
    tab.page.get_by_role("button", name="Work it out").click()
    late = tab.page.locator("dialog.whatif tr", has_text="Late orders")
    late.wait_for()
    assert "+3" in late.inner_text()
    assert house.desk.told == [("what_if", "breakdown", house.desk.units[0][1])]
    tab.page.keyboard.press("Escape")
    assert tab.complaints == []


def test_texts_and_states_are_shown_as_words(open_tab: Tabs) -> None:
    tab = open_tab()
    tab.show(f"trend?s={LINE}/z1/st01/serial,{LINE}/z1/st03/state_current", ".strip-of i")
    words = tab.page.locator(".ribbons table").inner_text()
    assert "SN-0042" in words
    assert "aborted" in words.lower()
    assert tab.complaints == []


def test_past_state_changes_of_a_unit_stand_beside_its_trend(open_tab: Tabs) -> None:
    tab = open_tab()
    tab.show(f"trend?s={LINE}/z1/st03/torque_10", ".legend-table table")
    tab.page.locator(".events li", has_text="st03").first.wait_for()
    assert "Repair" in tab.page.locator(".events").inner_text()


def test_an_administrator_adds_changes_and_removes_a_user(open_tab: Tabs, house: House) -> None:
    tab = open_tab(user="chief")
    page = tab.page
    tab.show("users", ".users tbody tr")
    page.locator("form.fields input[name=name]").fill("li.wei")
    page.locator("form.fields select[name=role]").select_option("operator")
    page.get_by_role("button", name="Add user").click()
    link = page.get_by_role("textbox", name="One-time link").input_value()
    assert re.search(r"#/link/[\w-]{20,}\?user=li\.wei$", link)
    page.keyboard.press("Escape")
    token = link.rsplit("/", 1)[1].split("?")[0]
    answer = httpx.post(
        f"{house.url}api/v1/link", json={"token": token, "password": PASSWORD}, trust_env=False
    )
    assert answer.json()["role"] == "operator"
    tab.show("wall", ".wall-hold canvas")
    tab.show("users", ".users tbody tr")
    page.get_by_label("Role of li.wei").select_option("planner")
    page.get_by_role("button", name="Remove li.wei").click()
    page.get_by_role("button", name="Remove", exact=True).last.click()
    page.wait_for_function(
        "() => !document.querySelector('.users table').innerText.includes('li.wei')"
    )
    assert tab.complaints == []


def test_the_users_are_for_administrators(open_tab: Tabs) -> None:
    tab = open_tab()
    assert tab.page.locator('.rail a[href="#/users"]').count() == 0
    tab.show("users", ".users .empty")
    assert tab.complaints == []


def test_a_named_link_names_its_user(browser: Any, house: House) -> None:
    page = browser.new_page(locale="en-GB")
    page.goto(f"{house.url}#/link/{'x' * 24}?user=li.wei")
    page.wait_for_selector("form.signin")
    assert "One-time link for li.wei" in page.locator("form.signin").inner_text()
    page.close()


LOW = """names => names.flatMap(name => [...document.querySelectorAll(name)]
  .map(e => [name, Math.round(e.getBoundingClientRect().height)]).filter(([, h]) => h < 100))"""


def test_on_a_narrow_screen_nothing_collapses(open_tab: Tabs) -> None:
    tab = open_tab.fresh()
    page = tab.page
    page.set_viewport_size({"width": 800, "height": 1100})
    wanted = {
        "wall": (".wall-hold canvas", [".wall-hold", ".wall .side > .grow"]),
        f"trend?s={TORQUE}": (".legend-table table", [".plot", ".chart", ".legend-table"]),
        "brain": (".auto li", [".column > .grow", ".column > .grow .scroll"]),
        "orders": ("form.fields", [".column > .grow .scroll"]),
    }
    for address, (ready, boxes) in wanted.items():
        tab.show(address, ready)
        if address.startswith("trend"):
            boxes = boxes[:2]
        assert page.evaluate(LOW, boxes) == [], address
        wide = "e => e.scrollWidth - e.clientWidth"
        assert page.locator("main > .screen").evaluate(wide) <= 0, address
    tab.show("orders", "form.fields")
    list_ = page.locator(".column > .grow .scroll")
    assert list_.evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    tab.show("wall", ".wall-hold canvas")
    assert page.locator(".nextone").evaluate("e => e.scrollHeight - e.clientHeight") <= 0
    page.context.close()


def test_the_wall_speaks_only_of_decisions_that_wait(open_tab: Tabs, house: House) -> None:
    house.desk.state = "in_force"
    tab = open_tab()
    panel = tab.page.locator(".nextone")
    panel.get_by_text("No decision waits").wait_for()
    house.desk.state = "waiting_approval"
    panel.locator(".next.wants").wait_for()


def test_the_figures_of_a_proposal_are_called_so(
    open_tab: Tabs, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = house.desk.schedule_view
    tab = open_tab()
    tab.show("schedule", ".strip .whose")
    assert tab.page.locator(".strip .whose").inner_text() == "In force"
    monkeypatch.setattr(house.desk, "schedule_view", lambda: view() | {"proposal": "d2"})
    tab.page.wait_for_function("() => document.querySelector('.whose').innerText === 'Proposal'")
