"""Samples pushed over HTTP to a real brain: durable before the answer, once, only one's own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from workshop_brain import config
from workshop_brain.app.brain import Brain
from workshop_brain.cli import app as cli
from workshop_brain.connect import rejected
from workshop_brain.errors import StoreError
from workshop_brain.store.historian import Historian
from workshop_brain.web.api import create_app
from workshop_brain.web.events import EventFeed
from workshop_brain.web.serve import _services
from workshop_brain.web.server import Server, listen

PLANT = """
[plant]
site = "works"
[[work_center]]
id = "press"
area = "shop"
units = [{ id = "p1" }]
"""
UNIT = "local/works/shop/press/c1/p1"
ROLES = {"eyes": "viewer", "boss": "admin"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


@dataclass
class House:
    """A running brain with its server and the tokens of a few senders."""

    brain: Brain
    client: httpx.AsyncClient
    tokens: dict[str, str]

    def token(self, sender: str) -> str:
        if sender not in self.tokens:
            records = self.brain.records
            if records.user(sender) is None:
                records.add_user(sender, "a long password", ROLES.get(sender, "pusher"))
            self.tokens[sender] = records.open_session(sender, now_ns=time.time_ns(), ttl_s=3600)
        return self.tokens[sender]

    async def push(
        self,
        body: Any,
        *,
        sender: str = "press",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        send = {
            "Authorization": f"Bearer {self.token(sender)}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        return await self.client.post("samples", content=content, headers=send, params=query)

    def stored(self, path: str) -> list[dict[str, Any]]:
        now = time.time_ns()
        table = self.brain.historian.query([path], now - 10**15, now + 10**13)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


@asynccontextmanager
async def house(data: Path) -> AsyncIterator[House]:
    brain = Brain(config.parse(PLANT, origin="test"), data, announce=lambda event: None)
    await brain.start()
    door = listen("127.0.0.1", 0)
    server = Server(create_app(_services(brain, EventFeed(), "127.0.0.1")), door)
    serving = asyncio.create_task(server.run_until_stopped())
    await server.listening.wait()
    url = f"http://127.0.0.1:{door.getsockname()[1]}/api/v1/"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield House(brain, client, {})
    finally:
        server.should_exit = True
        await brain.stop()
        await serving


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found:
        yield found


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


async def test_what_is_answered_is_stored_shown_and_counted(here: House) -> None:
    now_ms = time.time_ns() // 10**6
    rows = [
        {"path": f"{UNIT}/force", "time_ms": now_ms, "value": 12.5},
        {"path": f"{UNIT}/force", "time_ms": now_ms + 1, "value": None},
        {"path": f"{UNIT}/serial", "time_ms": now_ms, "value": "S-1 变速器"},
        {"path": f"{UNIT}/part_count", "time_ms": now_ms, "value": 7, "quality": "uncertain"},
        {"path": f"{UNIT}/door", "time_ms": now_ms, "value": True},
    ]
    answer = await here.push(rows)
    assert (answer.status_code, answer.json()["taken"]) == (200, 5), answer.text
    force = here.stored(f"{UNIT}/force")
    assert [r["quality"] for r in force] == [0, 2]
    assert force[0]["time_ns"] == now_ms * 10**6
    assert here.stored(f"{UNIT}/serial")[0]["text"] == "S-1 变速器"
    live = here.brain.watch.live
    kinds = {s.name: s.kind.name for s in live.signals}
    assert kinds == {"force": "GAUGE", "serial": "TEXT", "part_count": "COUNTER", "door": "FLAG"}
    assert live.value[live.ids[f"{UNIT}/part_count"]] == 7
    assert {s.source for s in live.signals} == {"http/press"}
    status = here.brain.ingest.sources()[0]
    assert (status.id, status.protocol, status.state) == ("http/press", "http", "up")
    assert status.samples == 5


async def test_arrow_takes_its_columns_and_names_bad_rows(here: House) -> None:
    now = time.time_ns()
    stamps = [now, now + 1, 0, now + 10**16, now + 2]
    table = pa.table(
        {
            "path": pa.array(["works/p1/a", "works/p1/b", "works/p1/a", "works/p1/a", None]),
            "time_ns": pa.array(stamps, pa.int64()),
            "value": pa.array([1.0, None, 3.0, 4.0, 5.0]),
            "quality": pa.array([0, 1, 0, 0, 0], pa.uint8()),
            "text": pa.array([None, "on", None, None, None]),
        }
    )
    answer = await here.push(arrow(table), headers={**ARROW, "Accept-Language": "zh"})
    body = answer.json()
    assert (answer.status_code, body["taken"], body["rejected"]) == (200, 2, 3), body
    assert {(e["index"], e["column"], e["message"]["id"]) for e in body["errors"]} == {
        (2, "time_ns", "samples.far_time"),
        (3, "time", "samples.far_time"),
        (4, "path", "samples.bad_path"),
    }
    assert all("2000" in e["message"]["text"] for e in body["errors"][1:])
    assert here.stored("local/works/_/_/_/p1/b")[0]["text"] == "on"


@pytest.mark.parametrize("kind", ["key", "numbers"])
async def test_what_comes_again_is_stored_once_over_a_restart(tmp_path: Path, kind: str) -> None:
    now = time.time_ns()
    rows = [{"path": f"{UNIT}/force", "time_ns": now + k, "value": float(k)} for k in range(3)]
    rows.append({"path": f"{UNIT}/force", "time_ns": 5, "value": 1.0})
    headers = {"Idempotency-Key": "batch-1"} if kind == "key" else {}
    query = {} if kind == "key" else {"source": "edge", "session": "boot 7", "seq": 4}
    async with house(tmp_path) as first:
        answers = await asyncio.gather(
            *(first.push(rows, headers=headers, **query) for _ in range(4))
        )
        assert {a.status_code for a in answers} == {200}
        assert len({a.text for a in answers}) == 1
        assert sum("idempotency-replayed" in a.headers for a in answers) == 3
        assert len(first.stored(f"{UNIT}/force")) == 3
    async with house(tmp_path) as second:
        again = await second.push(rows, headers=headers, **query)
        assert again.text == answers[0].text
        assert "idempotency-replayed" in again.headers
        assert second.brain.historian._appended == 0
        assert len(second.stored(f"{UNIT}/force")) == 3
        if kind == "key":
            other = await second.push(rows[:1], headers=headers)
            assert other.status_code == 409
            assert "batch-1" in other.json()["error"]["message"]
        else:
            fresh = await second.push(
                [{"path": f"{UNIT}/force", "time_ns": now + 9, "value": 1}],
                source="edge", session="boot 7", seq=5,
            )  # fmt: skip
            assert "idempotency-replayed" not in fresh.headers


async def test_keys_of_before_yesterday_are_forgotten(here: House) -> None:
    day = time.time_ns() // (86_400 * 10**9)
    historian = here.brain.historian
    await here.push([{"path": f"{UNIT}/a", "time_ns": time.time_ns(), "value": 1}])
    columns = historian.query([f"{UNIT}/a"], 0, time.time_ns())
    assert columns.num_rows == 1
    from workshop_brain.model.signal import Samples

    one = Samples(np.zeros(1, np.uint32), np.ones(1, np.int64), np.zeros(1), np.zeros(1, np.uint8))
    for age in (0, 1, 2):
        historian.append(one, source=f"#{day - age}/http/press", session=1, seq=9)
    historian.append(one, source="http/press/", session=1, seq=9)
    historian.sync()
    here.brain.push._day = 0
    await here.push([{"path": f"{UNIT}/a", "time_ns": time.time_ns(), "value": 2}])
    assert [historian.last_seq(f"#{day - age}/http/press", 1) for age in (0, 1, 2)] == [9, 9, 0]
    assert historian.last_seq("http/press/", 1) == 9


async def test_a_sender_writes_only_its_own(here: House) -> None:
    row = {"path": f"{UNIT}/force", "time_ns": time.time_ns(), "value": 1.0}
    assert (await here.push([row])).status_code == 200
    stolen = await here.push([row], sender="lathe")
    assert stolen.status_code == 422
    error = stolen.json()["errors"][0]
    assert error["message"]["params"] == {"owner": "http/press"}
    assert len(here.stored(f"{UNIT}/force")) == 1
    mixed = await here.push([{**row, "value": "x"}, {**row, "time_ns": time.time_ns()}])
    assert (mixed.json()["taken"], mixed.json()["rejected"]) == (1, 1)
    assert mixed.json()["errors"][0]["message"]["id"] == "samples.is_number"


async def test_a_pusher_may_do_nothing_else(here: House) -> None:
    headers = {"Authorization": f"Bearer {here.token('press')}"}
    for route in ("plant", "live/values", "orders", "users", "me", "series?paths=a"):
        assert (await here.client.get(route, headers=headers)).status_code == 403, route
    health = await here.client.get("health", headers=headers)
    assert set(health.json()) == {"status"}
    assert (await here.client.post("ticket", headers=headers)).status_code == 403
    mcp = await here.client.post(
        str(here.client.base_url).replace("api/v1/", "mcp"), headers=headers
    )
    assert mcp.status_code in (401, 403)
    assert (await here.push([], sender="eyes")).status_code == 403
    assert (await here.push([], sender="boss")).status_code == 200
    assert (await here.client.post("samples", content=b"[]")).status_code == 401


async def test_an_admin_makes_a_token_for_a_program(here: House) -> None:
    admin = {"Authorization": f"Bearer {here.token('boss')}"}
    made = await here.client.post("users", json={"name": "edge", "role": "pusher"}, headers=admin)
    assert made.status_code == 201
    here.tokens["edge"] = made.json()["token"]
    answer = await here.push(
        [{"path": "a/b/c", "time_ns": time.time_ns(), "value": 1}], sender="edge"
    )
    assert answer.json()["taken"] == 1


async def test_the_command_makes_one_too(here: House, tmp_path: Path) -> None:
    told = await asyncio.to_thread(
        CliRunner().invoke, cli, ["token", "robot", "--data", str(tmp_path), "--json"]
    )
    assert told.exit_code == 0, told.output
    here.tokens["robot"] = orjson.loads(told.stdout)["token"]
    answer = await here.push(
        [{"path": "a/b", "time_ns": time.time_ns(), "value": 1}], sender="robot"
    )
    assert answer.status_code == 200


WRONG: list[tuple[bytes, dict[str, str], int]] = [
    (b"{", {}, 422),
    (b'{"path": ["a"], "time_ns": []}', {}, 422),
    (b'{"rows": 5}', {}, 422),
    (b'[{"path": "a"}]', {}, 422),
    (b"not arrow", ARROW, 422),
    (b"x", {"Content-Type": "text/csv"}, 415),
    (b"x", {"Content-Encoding": "gzip"}, 415),
    (b"[]", {"Idempotency-Key": "two words"}, 422),
    (b" " * (16 * 1024 * 1024 + 1), {}, 413),
    (orjson.dumps([{}] * 200_001), {}, 422),
]


async def test_a_body_that_cannot_be_understood_is_refused(here: House) -> None:
    for body, headers, status in WRONG:
        answer = await here.push(body, headers=headers)
        assert answer.status_code == status, (body[:40], answer.text)
        assert answer.json()["error"]["message"]
    bad_row = [{"path": "a/b", "time_ns": 1_790_000_000_000_000_000, "value": {"x": 1}}]
    assert (await here.push(bad_row)).status_code == 422
    here.brain.push.kept.save()
    left_out = next(rejected.kept(here.brain.data))
    assert left_out.source == "http/press"
    assert left_out.causes == {"unreadable": 6, "no_value": 1}
    bodies = [(left_out.folder / s.file).read_bytes() for s in left_out.samples]
    assert orjson.dumps([{}] * 200_001)[:65536] in bodies
    assert b"0\tvalue\t{'x': 1}" in bodies
    assert here.brain.ingest.sources()[-1].rejected == 7


async def test_compressed_arrow_is_refused(here: House) -> None:
    table = pa.table({"path": ["a/b"] * 9000, "time_ns": [1] * 9000, "value": [0.0] * 9000})
    for codec in ("zstd", "lz4"):
        answer = await here.push(arrow(table, compression=codec), headers=ARROW)
        assert answer.status_code == 422
        assert "compressed" in answer.json()["error"]["message"]


async def test_nothing_is_acknowledged_that_is_not_durable(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Historian) -> None:
        raise StoreError("disk is full")

    row = {"path": f"{UNIT}/force", "time_ns": time.time_ns(), "value": 1.0}
    with monkeypatch.context() as patch:
        patch.setattr(Historian, "sync", full)
        answer = await here.push([row], source="edge", session=1, seq=1)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "disk is full" in answer.json()["error"]["message"]
    again = await here.push([row], source="edge", session=1, seq=1)
    assert again.json()["taken"] == 1
    assert len(here.stored(f"{UNIT}/force")) == 1


async def test_a_sender_that_said_how_often_it_comes_is_stale_when_silent(here: House) -> None:
    row = {"path": f"{UNIT}/force", "time_ns": time.time_ns(), "value": 1.0}
    await here.push([row], every_s=0.1)
    live = here.brain.watch.live
    assert not live.stale(time.time_ns()).any()
    for _ in range(100):
        await asyncio.sleep(0.05)
        if live.stale(time.time_ns()).all():
            break
    assert live.stale(time.time_ns()).all()
    await here.push([row])
    assert not live.stale(time.time_ns()).any()
