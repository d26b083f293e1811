"""The web back end over real parts: historian, records, live tables, a real server on loopback."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from workshop_brain.app.watch import Watch
from workshop_brain.config import built_in
from workshop_brain.errors import ConfigError, NotAllowedError, OrderError
from workshop_brain.model.curve import Curve
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import WorkRequest
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.model.state import UnitState
from workshop_brain.schedule.preferences import read_weights
from workshop_brain.store.historian import Historian
from workshop_brain.store.records import Records
from workshop_brain.web.api import create_app, first_link
from workshop_brain.web.frames import HEADER
from workshop_brain.web.routes.curves import id_of
from workshop_brain.web.server import Server, listen
from workshop_brain.web.services import Services

S = 1_000_000_000
NOW = 1_790_000_000 * S
PASSWORD = "a long password"
LOCAL: dict[str, Any] = {"trust_env": False, "verify": False}
ROLES = ("viewer", "operator", "planner", "admin")
LINE = "local/works/assembly/asm1"
CURVE = id_of((NOW - 200 * S, "SN1", f"{LINE}/z1/st01", 10))


class SteppedClock:
    """Plant time stands still; wall time is real."""

    def plant_ns(self) -> int:
        return NOW

    def wall_ns(self) -> int:
        return time.time_ns()


class Desk:
    """A decision loop and order desk that keep what they were told."""

    def __init__(self) -> None:
        self.orders: dict[str, WorkRequest] = {}
        self.told: list[tuple[Any, ...]] = []
        self.one = Decision(
            id="d1", time_ns=NOW, decision_class=DecisionClass.REPAIR, line="hard",
            trigger={"kind": "breakdown", "path": "hard3", "time_ns": NOW},
            input_hash="0" * 64, seed=1, iterations=10,
            candidates=(Candidate(name="right_shift", kpis={"late_orders": 2.0}, objective=5.0),),
            chosen=0, reasons=(Message(id="web.not_found", params={"what": "x", "id": "y"}),),
            changes=(), effect={}, level=Level.APPROVE, state=DecisionState.WAITING_APPROVAL,
            plan_hash="1" * 64,
        )  # fmt: skip

    def decisions(self, limit: int = 50) -> list[Decision]:
        return [self.one][:limit]

    async def decision(self, id: str) -> Decision:
        if id != self.one.id:
            raise KeyError(id)
        return self.one

    async def approve(self, id: str, user: str, reason: str) -> Decision:
        found = await self.decision(id)
        if found.state is not DecisionState.WAITING_APPROVAL:
            raise NotAllowedError(f"decision {id!r} does not wait for approval")
        self.told.append(("approve", id, user, reason))
        self.one = replace(found, state=DecisionState.APPROVED)
        return self.one

    async def reject(self, id: str, user: str, reason: str) -> Decision:
        self.told.append(("reject", id, user, reason))
        return await self.decision(id)

    async def veto(self, id: str, user: str, reason: str) -> Decision:
        self.told.append(("veto", id, user, reason))
        return await self.decision(id)

    def set_level(self, line: str, decision_class: DecisionClass, level: Level, user: str) -> None:
        self.told.append(("level", line, decision_class, level, user))

    def set_switch(self, line: str, on: bool, user: str) -> None:
        self.told.append(("switch", line, on, user))

    def schedule_view(self) -> dict[str, Any]:
        return {"plan_id": None, "bars": [], "now_ms": NOW / 1e6, "gap": float("nan")}

    def print_page(self, language: str | None = None) -> str:
        return f"<h1>Plan {language}</h1>"

    def orders_view(self) -> list[dict[str, Any]]:
        return [{"id": o.id, "due_ns": o.due_ns} for o in self.orders.values()]

    def explain(self, op: str) -> list[Message]:
        if op != "A1.soft":
            raise KeyError(op)
        return [Message(id="web.not_found", params={"what": "operation", "id": op})]

    def why_not(self, op: str, machine: str) -> dict[str, Any]:
        return {"messages": self.explain(op), "machine": machine}

    def scenarios(self, suppositions: list[Any]) -> dict[str, Any]:
        return {"now": {"kpis": {}}, "scenarios": suppositions}

    def scenario_steps(self, changes: list[Any]) -> dict[str, Any]:
        return {"steps": [], "lines": []}

    def carry_out(self, changes: list[Any], user: str) -> dict[str, Any]:
        return {"steps": [], "declared": []}

    def declared_view(self) -> list[Any]:
        return []

    def withdraw_declared(self, id: str, user: str) -> list[Any]:
        return []

    def why_not_then(self, op: str, start_ns: int | None) -> dict[str, Any]:
        return {"messages": [], "start_ns": start_ns}

    def price_pin(self, op: str, machine: str, start_ns: int | None) -> dict[str, Any]:
        return {"id": "p1", "possible": True}

    def take_pin(self, offer: str, user: str) -> dict[str, Any]:
        return {"id": offer}

    def unpin(self, op: str, user: str) -> list[Any]:
        return []

    def weights_view(self) -> dict[str, Any]:
        return {"present": {}, "fitted": {}, "pairs": 0}

    def set_weights(self, values: dict[str, float] | None, user: str) -> dict[str, Any]:
        read_weights(values or {})
        return self.weights_view()

    def what_if(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        for event in events:
            EventKind(event["kind"])
        return {"kpis_before": {}, "kpis_after": {}, "changes": events}

    def autonomy_view(self) -> dict[str, Any]:
        return {"levels": {"hard": {"repair": Level.APPROVE}}}

    def add(self, request: WorkRequest, user: str) -> None:
        if request.id in self.orders:
            raise OrderError(f"order {request.id!r} exists already; choose another id")
        self.orders[request.id] = request

    def import_file(self, name: str, content: bytes, user: str) -> dict[str, Any]:
        self.told.append(("import", name, content, user))
        return {"accepted": 1, "errors": []}

    def cancel(self, id: str, user: str) -> None:
        del self.orders[id]

    def entries(self, work_center: str | None) -> list[dict[str, Any]]:
        return [{"job": "J1", "work_center": work_center or "hard"}]

    def confirm(self, job: str, user: str, good: int | None, scrap: int | None) -> None:
        if job != "J1":
            raise KeyError(job)
        self.told.append(("confirm", job, user, good, scrap))


@dataclass
class House:
    """A running server and everything behind it."""

    url: str
    app: FastAPI
    watch: Watch
    historian: Historian
    desk: Desk
    services: Services
    tokens: dict[str, str]
    sources: list[dict[str, Any]]

    def client(self, role: str | None = None, **headers: str) -> httpx.Client:
        if role:
            headers["Authorization"] = f"Bearer {self.tokens[role]}"
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, **LOCAL)

    def live(self, role: str = "viewer", **options: Any) -> ClientConnection:
        return connect(
            self.url.replace("http", "ws") + "/api/v1/live",
            additional_headers={"Authorization": f"Bearer {self.tokens[role]}"},
            compression=None,
            proxy=None,
            **options,
        )


def signals() -> list[SignalDef]:
    out = []
    for k in range(1, 5):
        unit = f"{LINE}/z1/st{k:02d}"
        out += [
            SignalDef(path=f"{unit}/state_current", kind=SignalKind.STATE, high=17, source="opc"),
            SignalDef(path=f"{unit}/prod_processed_count", kind=SignalKind.COUNTER, high=1e6,
                      source="opc"),
            SignalDef(path=f"{unit}/infeed_level", kind=SignalKind.GAUGE, high=3, source="opc"),
            SignalDef(path=f"{unit}/serial", kind=SignalKind.TEXT, source="opc"),
            SignalDef(path=f"{unit}/torque", kind=SignalKind.GAUGE, unit="N.m", high=100,
                      source="spb"),
        ]  # fmt: skip
    return out


def columns(*rows: tuple[int, int, float]) -> Samples:
    ids, times, values = zip(*rows, strict=True)
    return Samples(
        np.array(ids, np.uint32),
        np.array(times, np.int64),
        np.array(values, np.float64),
        np.zeros(len(rows), np.uint8),
    )


@contextmanager
def running(app: FastAPI, *, send_buffer: int = 0) -> Iterator[str]:
    """The application on a free loopback port, as it is served in the product."""
    door = listen("127.0.0.1", 0)
    if send_buffer:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = door.getsockname()[1]
    started = threading.Event()
    server = Server(app, door)

    async def work() -> None:
        app.state.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(server.run_until_stopped())
        await server.listening.wait()
        started.set()
        await serving

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    data = tmp_path_factory.mktemp("web")
    plant, historian = built_in().plant, Historian(data / "historian")
    records, desk, watch = Records(data / "records.sqlite"), Desk(), Watch(plant)
    defs = signals()
    ids = historian.declare(defs)
    watch.on_declared(ids, defs)
    codes = historian.intern(["SN1", "SN2"])
    torque = [(4, NOW - (600 - k) * S, 50.0 + k % 7) for k in range(600)]
    serial = [
        (3, NOW - 300 * S, codes[0]),
        (3, NOW - 100 * S, codes[1]),
        (8, NOW - 90 * S, codes[0]),
    ]
    states = [(0, NOW - 500 * S, 6), (5, NOW - 400 * S, 6)]
    states += [(5, NOW - 50 * S, 9), (10, NOW - S, 6)]
    batch = columns(*sorted([*torque, *serial, *states], key=lambda r: r[1]))
    watch.tick(NOW - 700 * S)
    watch.on_samples(batch, time.time_ns())
    historian.append(batch, source="opc", session=1, seq=1)
    historian.append_curve(
        Curve(serial="SN1", station=f"{LINE}/z1/st01", program="P1", step=10,
              time_ns=NOW - 200 * S, channels={"torque": np.arange(5, dtype=np.float32)})
    )  # fmt: skip
    historian.sync()
    state = {"state": "up", "since_ns": NOW, "rate": 5.0, "age_s": 0.1, "gaps": 0}
    sources = [
        {"id": "opc", "protocol": "opcua", **state},
        {"id": "spb", "protocol": "sparkplug", **state},
    ]
    services = Services(
        plant=plant, clock=SteppedClock(), watch=watch, historian=historian, decider=desk,
        users=records, orders=desk, work_list=desk, data_dir=data, sources=lambda: sources,
        version="1.2.3", simulated=True,
    )  # fmt: skip
    app = create_app(services, screens=_screens(data / "static"))
    token = first_link(app)
    assert token is not None
    for role in ROLES[:3]:
        records.add_user(role, PASSWORD, role)
    with running(app) as url:
        tokens = {r: records.open_session(r, now_ns=time.time_ns(), ttl_s=3600) for r in ROLES[:3]}
        built = House(url, app, watch, historian, desk, services, tokens, sources)
        with built.client() as client:
            short = client.post("/link", json={"token": token, "password": "short"})
            assert short.json()["error"]["id"] == "web.password_short"
            made = client.post("/link", json={"token": token, "password": PASSWORD})
            assert made.json() == {"user": "admin", "role": "admin", "language": "en"}
            again = client.post("/link", json={"token": token, "password": PASSWORD})
            assert again.status_code == 401
        tokens["admin"] = records.open_session("admin", now_ns=time.time_ns(), ttl_s=3600)
        assert first_link(app) is None
        yield built
    historian.close()
    records.close()


def _screens(folder: Path) -> Path:
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Brain</title>", "utf-8")
    (folder / "assets" / "index-AbCd1234.js").write_text("let a = 1;\n" * 200, "utf-8")
    return folder


def test_past_events_are_state_changes_of_units_and_decisions(house: House) -> None:
    with house.client("viewer") as client:
        unit = f"{LINE}/z1/st02"
        rows = client.get("/events/recent", params={"from": "-10m", "paths": unit}).json()
        worst = client.get("/events/recent", params={"from": "-10m"}).json()
        wrong = client.get("/events/recent", params={"from": "now", "to": "-1h"})
    changes = [(r["path"], r["payload"]["state"]) for r in rows if r["kind"] == "state_changed"]
    assert changes == [(unit, "EXECUTE"), (unit, "ABORTED")]
    assert [r["path"] for r in worst if r["kind"] == "state_changed"] == [unit]
    assert [r["time_ms"] for r in rows] == sorted(r["time_ms"] for r in rows)
    assert wrong.status_code == 422


def test_health_names_what_cannot_be_written(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.client("viewer") as client:
        assert client.get("/health").json()["faults"] == {}
        monkeypatch.setattr(house.services, "faults", lambda: {"ledger": "the disk is full"})
        told = client.get("/health").json()
        assert (told["status"], told["faults"]) == ("degraded", {"ledger": "the disk is full"})
    with house.client() as client:
        assert client.get("/health").json() == {"status": "degraded"}


def test_wrong_weights_are_named(house: House) -> None:
    with house.client("planner") as client:
        for weights in ({"setups": 1}, {"setup": -1}):
            answer = client.put("/schedule/weights", json={"weights": weights})
            assert answer.status_code == 422
            assert "weight 'setup" in answer.json()["error"]["message"]
        for body in ({}, {"weights": {}}, {"weights": {"setup": "much"}}):
            assert client.put("/schedule/weights", json=body).status_code == 422


# -- every route ----------------------------------------------------------------------------

READS = [
    "/health", "/me", "/plant", "/plant/tags", f"/live/values?paths={LINE}/z1/st01/torque",
    f"/series?paths={LINE}/z1/st01/torque&points=10", "/line/asm1", "/orders", "/schedule",
    "/schedule/print", "/schedule/explain?op=A1.soft", "/schedule/why-not?op=A1.soft&machine=soft1",
    "/schedule/why-not?op=A1.soft&start=earlier", "/schedule/declared",
    "/schedule/weights", "/line/asm1/balance?cycle=37&before=56",
    "/decisions", "/decisions/d1", "/autonomy", "/kpi", "/kpi?line=hard", "/alarms",
    "/events/recent", "/curves", "/curves/list", "/curves/features", f"/curves/{CURVE}",
    "/curves/overlay?channel=torque", "/series/last", f"/series/windows?paths={LINE}/z1/*/torque",
    f"/series/restated?paths={LINE}/z1/*/torque",
    f"/series/asof?paths={LINE}/z1/*/torque&stations={LINE}/z1/st01",
    "/parts/SN1", "/work-list", "/prom/api/v1/query?query=torque", "/prom/api/v1/labels",
    "/prom/api/v1/query_range?query=torque&start=1&end=2&step=1", "/prom/api/v1/rules",
    "/prom/api/v1/series?match[]=torque", "/prom/api/v1/label/unit/values",
    "/prom/api/v1/metadata", "/prom/api/v1/status/buildinfo", "/prom/api/v1/query_exemplars",
]  # fmt: skip
CHANGES = [
    ("POST", "/orders", {"id": "Z", "product": "dct_a", "quantity": 1, "due": "+1d"}, "planner"),
    ("POST", "/orders/import", None, "planner"),
    ("POST", "/sql", {"statement": "SELECT 1", "from": "-1h"}, "planner"),
    ("DELETE", "/orders/Q", None, "planner"),
    ("POST", "/schedule/what-if", {"events": []}, "operator"),
    ("POST", "/schedule/scenarios", {"scenarios": [[]]}, "operator"),
    ("POST", "/schedule/scenarios/steps", {"changes": [{"kind": "down"}]}, "operator"),
    ("POST", "/schedule/scenarios/carry-out", {"changes": [{"kind": "down"}]}, "planner"),
    ("DELETE", "/schedule/declared/d1", None, "planner"),
    ("POST", "/schedule/pins/price", {"op": "A1.soft", "machine": "soft1"}, "operator"),
    ("POST", "/schedule/pins", {"id": "p1"}, "planner"),
    ("DELETE", "/schedule/pins/A1.soft", None, "planner"),
    ("PUT", "/schedule/weights", {"weights": {"setup": 1}}, "planner"),
    ("DELETE", "/schedule/weights", None, "planner"),
    ("POST", "/decisions/d1/approve", {}, "planner"),
    ("POST", "/decisions/d1/reject", {}, "operator"),
    ("POST", "/decisions/d1/veto", {}, "operator"),
    ("PUT", "/autonomy/hard/repair", {"level": "report"}, "planner"),
    ("POST", "/autonomy/hard/switch", {"on": False}, "operator"),
    ("POST", "/work-list/J1/confirm", {}, "operator"),
    ("GET", "/users", None, "admin"),
    ("POST", "/alarms/acknowledge", {"alarms": [["no/where", "code"]]}, "operator"),
    ("POST", "/users", {"name": "x y"}, "admin"),
    ("PUT", "/users/nobody", {"role": "admin"}, "admin"),
    ("DELETE", "/users/nobody", None, "admin"),
    ("POST", "/users/nobody/link", None, "admin"),
    ("POST", "/users/nobody/token", {}, "admin"),
]


@pytest.mark.parametrize("path", READS)
def test_every_read_answers_a_viewer_and_nobody_else(house: House, path: str) -> None:
    with house.client("viewer") as client:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe-eval" not in answer.headers["content-security-policy"]
    with house.client() as client:
        refused = client.get(path)
    if path == "/health":
        assert set(refused.json()) == {"status"}
    else:
        assert refused.status_code == 401
        assert refused.json()["error"]["id"] == "web.sign_in_needed"


@pytest.mark.parametrize(("method", "path", "body", "role"), CHANGES)
def test_changes_are_refused_below_their_role(
    house: House, method: str, path: str, body: Any, role: str
) -> None:
    for lower in (None, *ROLES[: ROLES.index(role)]):
        with house.client(lower) as client:
            answer = client.request(method, path, json=body)
        assert answer.status_code == (403 if lower else 401), (lower, answer.text)
    with house.client(role) as client:
        allowed = client.request(method, path, json=body)
    assert allowed.status_code not in (401, 403, 405, 500), allowed.text


def test_every_route_of_the_api_is_in_these_tests(house: House) -> None:
    known = {p.split("?")[0] for p in READS} | {path for _, path, _, _ in CHANGES}
    own = {"/login", "/link", "/logout", "/ticket", "/events", "/samples"}
    names = {"id": {"asm1", "d1", "Q", CURVE}, "job": {"J1"}, "serial": {"SN1"},
             "name": {"nobody", "unit"}, "line": {"hard"}, "op": {"A1.soft"},
             "decision_class": {"repair"}}  # fmt: skip
    with house.client() as client:
        schema = client.get("/openapi.json").json()
    for path in schema["paths"]:
        short = path.removeprefix("/api/v1")
        if short == "/metrics" or short in own:
            continue
        options = {short}
        for key, values in names.items():
            options = {o.replace("{" + key + "}", v) for o in options for v in values}
        assert options & known, path
    assert not [r for r in house.app.routes if isinstance(r, APIRoute) and not r.endpoint.__doc__]


def test_a_prometheus_data_source_reads_the_history(house: House) -> None:
    door = "/prom/api/v1/"
    with house.client("viewer") as client:
        now = {"query": f'torque{{path="{LINE}/z1/st01/torque"}}', "time": NOW / S - 1}
        body = client.get(f"{door}query", params=now).json()
        form = {"query": "avg_over_time(torque[1m])", "start": NOW / S - 300, "end": NOW / S}
        steps = client.post(f"{door}query_range", data={**form, "step": "60"}).json()
        units = client.get(f"{door}label/unit/values", params={"match[]": "torque"}).json()
        wrong = client.get(f"{door}query", params={"query": "topk(1, torque)"})
    assert body["status"] == "success"
    (found,) = body["data"]["result"]
    assert found["metric"]["unit"] == "st01"
    assert found["metric"]["uom"] == "N.m"
    assert found["value"][1] == str(50 + 599 % 7)
    values = [float(v) for _, v in steps["data"]["result"][0]["values"]]
    assert len(values) == 6
    assert values == pytest.approx([53.0] * 6, abs=0.2)
    assert "st01" in units["data"]
    assert (wrong.status_code, wrong.json()["errorType"]) == (400, "bad_data")
    for password in (PASSWORD, house.tokens["viewer"]):
        with httpx.Client(base_url=f"{house.url}/api/v1", auth=("viewer", password), **LOCAL) as c:
            assert c.get(f"{door}labels").status_code == 200
    with httpx.Client(base_url=f"{house.url}/api/v1", auth=("viewer", "no"), **LOCAL) as client:
        refused = client.get(f"{door}labels")
    assert refused.status_code == 401


# -- sign-in --------------------------------------------------------------------------------


def test_sign_in_gives_a_strict_cookie_and_sign_out_ends_it(house: House) -> None:
    with house.client() as client:
        answer = client.post("/login", json={"user": "planner", "password": PASSWORD})
        assert answer.json()["role"] == "planner"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/me").json()["user"] == "planner"
        assert client.post("/logout").status_code == 204
        assert client.get("/me").status_code == 401


def test_wrong_passwords_are_slowed_down_in_both_languages(house: House) -> None:
    with house.client(**{"Accept-Language": "zh-CN"}) as client:
        wrong = {"user": "mallory", "password": "no"}
        first = client.post("/login", json=wrong)
        assert first.status_code == 401
        assert first.json()["error"]["message"] == "用户名或密码错误。"
        answers = [client.post("/login", json=wrong).status_code for _ in range(6)]
        assert answers[-1] == 429
        right = {"user": "planner", "password": PASSWORD}  # behind a proxy: of the same address
        assert client.post("/login", json=right).status_code == 200
    audit = (house.services.data_dir / "logs" / "audit.jsonl").read_text("utf-8").splitlines()
    assert sum(orjson.loads(line)["kind"] == "sign_in_failed" for line in audit) >= 5
    house.app.state.context.auth._tries._failed.clear()


def test_foreign_origin_and_host_are_refused(house: House) -> None:
    with house.client("admin", Origin="http://evil.example") as client:
        assert client.post("/users", json={"name": "eve"}).status_code == 403
        assert client.get("/me").status_code == 200
    with house.client("admin", **{"Sec-Fetch-Site": "cross-site"}) as client:
        assert client.post("/users", json={"name": "eve"}).status_code == 403
    with house.client("admin", Host="evil.example") as client:
        answer = client.get("/me")
        assert answer.json()["error"]["id"] == "web.foreign_host"
    with house.client("admin", Origin=house.url) as client:
        assert client.post("/ticket").status_code == 200


def test_users_are_added_by_link_changed_and_removed(house: House) -> None:
    with house.client("admin") as admin, house.client() as new:
        made = admin.post("/users", json={"name": "wang", "role": "operator"})
        assert made.status_code == 201
        link = made.json()["link"]
        needed = new.post("/link", json={"token": link})
        assert needed.json()["error"]["id"] == "web.password_needed"
        link = needed.json()["error"]["params"]["link"]
        assert new.post("/link", json={"token": link, "password": PASSWORD}).status_code == 200
        assert new.put("/me", json={"language": "zh"}).json()["language"] == "zh"
        changed = {"password": "another password", "old_password": PASSWORD}
        assert new.put("/me", json=changed).status_code == 200
        assert new.get("/me").json()["role"] == "operator"
        assert admin.post("/users", json={"name": "wang"}).status_code == 409
        assert admin.put("/users/wang", json={"role": "viewer"}).json()["role"] == "viewer"
        assert new.get("/me").json()["role"] == "viewer"
        token = admin.post("/users/wang/token", json={"days": 1}).json()["token"]
        with house.client(Authorization=f"Bearer {token}") as program:
            assert program.get("/me").json()["user"] == "wang"
            assert admin.delete("/users/wang").status_code == 204
            assert program.get("/me").status_code == 401
        last = admin.put("/users/admin", json={"role": "viewer"})
        assert last.json()["error"]["id"] == "web.last_admin"


# -- plant and history ----------------------------------------------------------------------


def test_line_view_has_states_serials_and_links(house: House) -> None:
    with house.client("viewer") as client:
        view = client.get("/line/asm1").json()
        missing = client.get("/line/none")
    by_id = {s["id"]: s for s in view["stations"]}
    assert by_id["st02"]["state"] == "ABORTED"
    assert by_id["st01"]["serial"] == "SN2"
    assert by_id["st02"]["serial"] == "SN1"
    assert view["links"][0]["capacity"] == 3
    assert missing.status_code == 404


def test_values_and_alarms_say_what_is(house: House) -> None:
    paths = f"{LINE}/z1/st01/torque,{LINE}/z1/st01/serial,{LINE}/z1/st04/torque"
    with house.client("viewer", **{"Accept-Language": "zh"}) as client:
        torque, serial, unseen = client.get("/live/values", params={"paths": paths}).json()
        alarms = client.get("/alarms").json()
        unknown = client.get("/live/values?paths=no/such")
    assert torque["value"] == 50 + 599 % 7
    assert serial["text"] == "SN2"
    assert unseen["value"] is None
    assert [(a["kind"], a["state"]) for a in alarms] == [("breakdown", "unacknowledged")]
    assert alarms[0]["message"]["text"] == "st02 发生故障。"
    assert unknown.status_code == 404


def test_series_as_json_arrow_and_csv(house: House) -> None:
    path = f"{LINE}/z1/st01/torque"
    query = {"paths": path, "from": "-10m", "to": "now"}
    with house.client("viewer") as client:
        raw = client.get("/series", params=query).json()["series"][0]
        few = client.get("/series", params={**query, "points": 20}).json()["series"][0]
        arrow = client.get(
            "/series", params=query, headers={"Accept": "application/vnd.apache.arrow.stream"}
        )
        csv = client.get("/series", params=query, headers={"Accept": "text/csv"})
        bad = client.get("/series", params={**query, "from": "yesterday"})
        back = client.get("/series", params={"paths": path, "from": "now", "to": "-1h"})
    assert raw["unit"] == "N.m"
    assert len(raw["time_ms"]) == len(raw["value"]) == 600
    assert raw["time_ms"][0] == (NOW - 600 * S) / 1e6
    assert len(few["min"]) <= 40
    assert min(few["min"]) == 50
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table.num_rows == 600
    assert csv.text.splitlines()[0].startswith('"path"')
    assert bad.status_code == 422
    assert back.status_code == 422


def test_the_way_of_a_part(house: House) -> None:
    with house.client("viewer") as client:
        part = client.get("/parts/SN1").json()
        assert client.get("/parts/NONE").status_code == 404
    assert part["now"] == [f"{LINE}/z1/st02"]
    assert part["stations"][0]["left_ms"] == (NOW - 100 * S) / 1e6


def test_tags_are_columns_in_id_order_and_cached(house: House) -> None:
    with house.client("viewer") as client:
        answer = client.get("/plant/tags")
        tags = answer.json()
        again = client.get("/plant/tags", headers={"If-None-Match": answer.headers["etag"]})
    assert tags["epoch"] == len(tags["path"]) == 20
    assert all(tags["counted"])
    assert again.status_code == 304


def test_kpi_sums_to_the_window(house: House) -> None:
    with house.client("viewer") as client:
        kpi = client.get("/kpi?line=asm1&hours=1").json()
    assert kpi["line"] == "asm1"
    assert house.watch.kpi_view("asm1", NOW)["units"] == []


def test_metrics_are_prometheus_text(house: House) -> None:
    with httpx.Client(**LOCAL) as client:
        headers = {"Authorization": f"Bearer {house.tokens['viewer']}"}
        text = client.get(house.url + "/metrics", headers=headers).text
        assert client.get(house.url + "/metrics").status_code == 401
    lines = [x for x in text.splitlines() if not x.startswith("#")]
    assert "brain_signals 20.0" in lines
    assert 'brain_source_up{source="opc",state="up"} 1.0' in lines
    for line in lines:
        float(line.rsplit(" ", 1)[1])


# -- planning -------------------------------------------------------------------------------


def test_orders_are_checked_added_imported_and_cancelled(house: House) -> None:
    order = {"id": "A7", "product": "dct_a", "quantity": 60, "due": (NOW + 86400 * S) / 1e6}
    with house.client("planner") as client:
        assert client.post("/orders", json=order).json()["due_ms"] == (NOW + 86400 * S) / 1e6
        twice = client.post("/orders", json=order)
        assert twice.status_code == 409
        assert "exists already" in twice.json()["error"]["message"]
        wrong = client.post("/orders", json={**order, "id": "A8", "product": "nut"})
        assert wrong.json()["error"]["params"]["field"] == "product"
        zero = client.post("/orders", json={**order, "id": "A8", "quantity": 0})
        assert zero.json()["error"]["params"]["field"] == "quantity"
        late = client.post("/orders", json={**order, "id": "A8", "release": "+3d"})
        assert "release" in late.json()["error"]["message"]
        files = {"file": ("orders.csv", b"id,product\n", "text/csv")}
        assert client.post("/orders/import", files=files).json()["accepted"] == 1
        assert client.get("/orders").json()[0]["due_ms"] == order["due"]
        assert client.delete("/orders/A7").status_code == 204
        assert client.delete("/orders/A7").status_code == 404
    assert ("import", "orders.csv", b"id,product\n", "planner") in house.desk.told


def test_decision_is_shown_with_text_and_approved_once(house: House) -> None:
    house.desk.one = replace(house.desk.one, state=DecisionState.WAITING_APPROVAL)
    with house.client("planner", **{"Accept-Language": "zh"}) as client:
        found = client.get("/decisions/d1").json()
        assert found["time_ms"] == NOW / 1e6
        assert found["level"] == "approve"
        assert found["trigger"]["time_ms"] == NOW / 1e6
        assert found["reasons"][0]["text"] == "不存在x y。"
        done = client.post("/decisions/d1/approve", json={"reason": "go"})
        assert done.json()["state"] == "approved"
        again = client.post("/decisions/d1/approve", json={"reason": "go"})
        assert again.status_code == 409
        assert client.get("/decisions/none").status_code == 404
        assert client.get("/schedule/explain?op=none").status_code == 404
        assert client.get("/schedule").json()["gap"] is None
        assert client.get("/schedule/print").text == "<h1>Plan zh</h1>"
        wrong = client.post("/schedule/what-if", json={"events": [{"kind": "flood"}]})
        assert wrong.status_code == 422
        assert "flood" in wrong.json()["error"]["message"]
    assert ("approve", "d1", "planner", "go") in house.desk.told


def test_anybody_at_the_line_may_switch_off_but_not_on(house: House) -> None:
    with house.client("operator") as client:
        assert client.post("/autonomy/hard/switch", json={"on": False}).status_code == 200
        assert client.post("/autonomy/hard/switch", json={"on": True}).status_code == 403
        assert client.post("/autonomy/none/switch", json={"on": False}).status_code == 404
    with house.client("planner") as client:
        assert client.post("/autonomy/hard/switch", json={"on": True}).status_code == 200
        wrong = client.put("/autonomy/hard/repair", json={"level": "godlike"})
        assert wrong.json()["error"]["params"]["field"] == "level"
        assert client.put("/autonomy/hard/repair", json={"level": 3}).status_code == 200
    assert ("level", "hard", DecisionClass.REPAIR, Level.VETO, "planner") in house.desk.told


# -- screens --------------------------------------------------------------------------------


def test_screens_are_packed_and_cached(house: House) -> None:
    with httpx.Client(base_url=house.url, **LOCAL) as client:
        page = client.get("/")
        script = client.get("/assets/index-AbCd1234.js")
        assert page.headers["cache-control"] == "no-cache"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert script.headers["content-encoding"] == "gzip"
        assert "immutable" in script.headers["cache-control"]
        same = client.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert same.status_code == 304
        assert client.get("/../../etc/passwd").status_code == 404
        assert client.get("/api/v1/nothing").json()["error"]["id"] == "web.no_route"


def test_without_a_built_front_end_the_page_says_so(house: House, tmp_path: Path) -> None:
    app = create_app(house.services, screens=tmp_path)
    with running(app) as url, httpx.Client(base_url=url, **LOCAL) as client:
        assert "make build" in client.get("/").text
        assert "界面尚未构建" in client.get("/", headers={"Accept-Language": "zh"}).text


def test_a_busy_port_is_named_with_a_way_out() -> None:
    with listen("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* --port"):
            listen("127.0.0.1", port)


def test_answers_do_not_wait_for_delayed_acknowledgements(house: House) -> None:
    with house.client("viewer") as client:
        client.get("/me")
        start = time.monotonic()
        for _ in range(10):
            client.get("/me")
        assert time.monotonic() - start < 0.3


# -- live -----------------------------------------------------------------------------------


def frame(socket: ClientConnection, *, kind: int, within: float = 3.0) -> bytes:
    """The next binary frame of a kind."""
    end = time.monotonic() + within
    while True:
        message = socket.recv(timeout=max(0.01, end - time.monotonic()))
        if isinstance(message, bytes) and message[0] == kind:
            return message


def test_wall_frames_follow_the_plant_and_go_stale(house: House) -> None:
    with house.live() as socket:
        assert orjson.loads(socket.recv(timeout=3)) == {"epoch": 20}
        socket.send('{"view":"wall","hz":20}')
        first = frame(socket, kind=1)
        _, version, flags, epoch, _, count, newest = HEADER.unpack_from(first)
        assert (version, flags, epoch, count) == (1, 0, 20, 20)
        assert newest == (NOW - S) / 1e6
        (units,) = struct.unpack_from("<I", first, 24 + 40)
        assert units == 4 + sum(len(c.units) for c in house.watch.plant.work_centers)
        states = np.frombuffer(first, np.uint8, units, 24 + 44)
        assert states[:3].tolist() == [UnitState.EXECUTE, UnitState.ABORTED, UnitState.EXECUTE]
        house.watch.live.source_lost("opc")
        try:
            lost = frame(socket, kind=1)
            while not HEADER.unpack_from(lost)[2]:
                lost = frame(socket, kind=1)
            values = np.frombuffer(lost, "<u2", 20, 24)
            assert values[0] == 65534
            assert values[4] not in (65534, 65535)
            assert not np.frombuffer(lost, np.uint8, 4, 24 + 44).any()
        finally:
            house.watch.live.source_up("opc")


def test_still_plant_still_beats_every_second(house: House) -> None:
    with house.live() as socket:
        socket.send('{"view":"tags","ids":[4,0,999],"hz":10}')
        times = []
        for _ in range(3):
            message = frame(socket, kind=2)
            times.append(time.monotonic())
        assert max(np.diff(times)) < 1.3
    value = np.frombuffer(message, "<f4", 3, 24)
    quality = np.frombuffer(message, np.uint8, 3, 24 + 12)
    time_ms = np.frombuffer(message, "<f8", 3, 24 + 15)
    assert value[:2].tolist() == [50 + 599 % 7, 6]
    assert np.isnan(value[2])
    assert quality.tolist() == [0, 0, 2]
    assert time_ms[0] == (NOW - S) / 1e6


def test_events_reach_sockets_and_streams(house: House) -> None:
    event = Event(time_ns=NOW, kind=EventKind.BREAKDOWN, path=f"{LINE}/z1/st02", payload={"a": 1})
    quiet = replace(event, kind=EventKind.STATE_CHANGED)
    with house.client("viewer") as client, house.live() as socket:
        with client.stream("GET", "/events", timeout=5) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 1000"
            for one in (quiet, event):
                house.app.state.loop.call_soon_threadsafe(house.services.feed.publish, one)
            data = next(line for line in lines if line.startswith("data:"))
        assert orjson.loads(data[5:])["kind"] == "breakdown"
        socket.send('{"view":"wall","hz":1}')
        end = time.monotonic() + 3
        while time.monotonic() < end:
            message = socket.recv(timeout=3)
            if isinstance(message, str) and "event" in message:
                break
        assert orjson.loads(message)["event"]["payload"] == {"a": 1}
        resumed = {"Last-Event-ID": "0"}
        with client.stream("GET", "/events?kinds=breakdown", headers=resumed, timeout=5) as stream:
            again = next(x for x in stream.iter_lines() if x.startswith("data:"))
            assert orjson.loads(again[5:])["path"] == event.path
        assert client.get("/events?kinds=nonsense").status_code == 422


def test_socket_without_sign_in_or_from_elsewhere_is_closed(house: House) -> None:
    url = house.url.replace("http", "ws") + "/api/v1/live"
    with connect(url, proxy=None) as socket:
        socket.send('{"view":"wall","hz":4}')
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=3)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    with pytest.raises(Exception, match="403"), connect(url, proxy=None, origin="http://evil"):
        pass


def test_ticket_opens_a_socket_once(house: House) -> None:
    url = house.url.replace("http", "ws") + "/api/v1/live"
    with house.client("viewer") as client:
        ticket = client.post("/ticket").json()["ticket"]
    with connect(url, proxy=None) as socket:
        socket.send(orjson.dumps({"ticket": ticket}).decode())
        socket.send('{"view":"wall","hz":10}')
        assert frame(socket, kind=1)
    with connect(url, proxy=None) as socket:
        socket.send(orjson.dumps({"ticket": ticket}).decode())
        with pytest.raises(ConnectionClosed):
            frame(socket, kind=1)


def test_nonsense_on_the_socket_is_answered_not_fatal(house: House) -> None:
    with house.live() as socket:
        for text in ("{", "[]", '{"view":"tags","ids":"all"}', '{"view":"wall","hz":"fast"}'):
            socket.send(text)
        socket.send('{"view":"wall","hz":10}')
        assert frame(socket, kind=1)


def test_slow_reader_misses_frames_and_costs_no_memory(house: House) -> None:
    app = create_app(house.services)
    hub = app.state.context.hub
    ids = orjson.dumps([4] * 4096).decode()
    headers = {"Authorization": f"Bearer {house.tokens['viewer']}"}
    with running(app, send_buffer=16_384) as url, socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        address = url.replace("http", "ws") + "/api/v1/live"
        options: dict[str, Any] = {"additional_headers": headers, "close_timeout": 0.2}
        with (
            connect(address, sock=narrow, max_queue=1, **options) as slow,
            connect(address, proxy=None, **options) as quick,
        ):
            slow.send(f'{{"view":"tags","ids":{ids},"hz":20}}')
            quick.send('{"view":"tags","ids":[4],"hz":20}')
            for _ in range(30):
                house.watch.live.version += 1
                frame(quick, kind=2)
            found = {len(c.view.ids): next(iter(c.clients)) for c in hub._channels.values()}
            assert found[4096].missed > 10
            assert found[1].missed < 5
            assert len(found[4096].events._queue) == 0
        deadline = time.monotonic() + 3
        while hub._channels and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not hub._channels


# -- MCP ------------------------------------------------------------------------------------


def test_mcp_reads_and_needs_a_sign_in(house: House) -> None:
    pytest.importorskip("mcp")
    headers = {
        "Authorization": f"Bearer {house.tokens['viewer']}",
        "Accept": "application/json, text/event-stream",
    }
    start = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-03-26", "capabilities": {},
                   "clientInfo": {"name": "t", "version": "0"}},
    }  # fmt: skip
    with httpx.Client(base_url=house.url, **LOCAL, timeout=30) as client:
        assert client.post("/mcp", json=start).status_code == 401
        hello = client.post("/mcp", json=start, headers=headers)
        assert hello.json()["result"]["serverInfo"]["name"] == "workshop-brain"

        def call(name: str, **arguments: Any) -> Any:
            body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call",
                    "params": {"name": name, "arguments": arguments}}  # fmt: skip
            return client.post("/mcp", json=body, headers=headers).json()["result"]

        path = f"{LINE}/z1/st01/torque"
        assert path in str(call("find_tags", text="st01 torque"))
        assert "N.m" in str(call("last_values", paths=[path]))
        assert "min" in str(call("trend", path=path, start="-5m", points=10))
        assert "ABORTED" in str(call("states", text="st02"))
        assert "repair" in str(call("decisions"))
        assert "right_shift" in str(call("why", decision="d1"))
        listed = client.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 3, "method": "tools/list"}, headers=headers
        )
        names = {t["name"] for t in listed.json()["result"]["tools"]}
    assert names == {"find_tags", "last_values", "trend", "states", "line", "decisions", "why",
                     "why_not", "orders"}  # fmt: skip
