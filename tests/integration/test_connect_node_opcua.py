"""Cuts and history against node-opcua, a peer that answers in its own way.

It is installed when it is missing. What takes longest runs only with NODE_OPCUA_DIR set (to a
folder in which it is or may be installed), so that the whole suite keeps its time.
"""

import asyncio
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
from bench import node_opcua
from bench.line import CUTS, Line, free_port

from workshop_brain.connect.opcua.pump import Pump
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import SECURITY_POLICIES, OpcUaSettings
from workshop_brain.model.signal import Quality

pytestmark = pytest.mark.slow
on_request = pytest.mark.skipif(
    not os.environ.get("NODE_OPCUA_DIR"), reason="set NODE_OPCUA_DIR to run the slow cases too"
)


@pytest.fixture(scope="module")
def place() -> Path:
    found = node_opcua.folder()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def _helpers() -> ModuleType:
    path = Path(__file__).with_name("test_connect_opcua.py")
    spec = importlib.util.spec_from_file_location("connect_opcua_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


H = _helpers()


@asynccontextmanager
async def behind_line(port: int) -> AsyncIterator[Line]:
    line = Line(port)
    await line.start()
    try:
        yield line
    finally:
        await line.close()


def ticks_of(kept: object, name: str = "/tick0_count") -> list[int]:
    return sorted({int(v) for _, v, _ in kept.rows(name)})  # type: ignore[attr-defined]


async def test_no_tick_is_lost_in_cuts(tmp_path: Path, place: Path) -> None:
    kept, port = H.Kept(), free_port()
    async with (
        node_opcua.server(place, port, period_ms=100) as peer,
        behind_line(port) as line,
        # sampled faster than it ticks: two ticks that a busy server makes at once are both seen
        H.collecting(tmp_path, line.port, kept, sampling_ms=20),
    ):
        await H.until(lambda: len(kept.rows("/tick0_count")) > 2)
        first = int(kept.rows("/tick0_count")[0][1])
        for cut in CUTS:
            await line.cut(cut, 0.5 if cut == "reset" else 2.1)
            rows = len(kept.rows("/tick0_count"))
            await H.until(lambda rows=rows: len(kept.rows("/tick0_count")) > rows + 2)
        final = await peer.final()
        await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
        H.check_every_tick(kept, first, final)
        assert kept.gaps() == []


async def test_a_queue_that_was_too_short_is_filled_from_history(
    tmp_path: Path, place: Path
) -> None:
    kept, port = H.Kept(), free_port()
    async with (
        node_opcua.server(place, port, period_ms=100, history=1000) as peer,
        behind_line(port) as line,
        H.collecting(tmp_path, line.port, kept, queue_s=1),
    ):
        await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
        first = int(kept.rows("/tick0_count")[0][1])
        await line.cut("reset", 2.0)
        await H.until(lambda: any(e.payload.get("filled") for e in kept.gaps()))
        final = await peer.final()
        await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
        await H.until(lambda: sum(e.payload.get("filled", False) * e.payload["signals"]
                                  for e in kept.gaps()) >= 40)  # fmt: skip
        await asyncio.sleep(0.3)
        H.check_every_tick(kept, first, final)
        reasons = {e.payload["reason"] for e in kept.gaps()}
        assert reasons == {"server queue overflow", "filled from history"}
        assert H.marked(kept, "/tick3_count") == []
        assert any(q & Quality.HISTORICAL for _, _, q in kept.rows("/tick3_count"))


@on_request
async def test_what_history_does_not_hold_stays_a_marked_gap(tmp_path: Path, place: Path) -> None:
    kept, port = H.Kept(), free_port()
    async with (
        node_opcua.server(place, port, period_ms=100, history=15),
        behind_line(port) as line,
        H.collecting(tmp_path, line.port, kept, queue_s=1),
    ):
        await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
        await line.cut("reset", 2.0)
        await H.until(lambda: any(e.payload["reason"] == "history incomplete" for e in kept.gaps()))
        await asyncio.sleep(0.3)
        (told, *_) = [e.payload for e in kept.gaps() if e.payload["reason"] == "history incomplete"]
        assert told["paths"]
        ticks = ticks_of(kept)
        missing = sum(b - a - 1 for a, b in itertools.pairwise(ticks))
        assert missing > 0
        assert len(H.marked(kept, "/tick0_count")) == 1


@on_request
async def test_subscriptions_move_to_a_new_session(tmp_path: Path, place: Path) -> None:
    kept, port = H.Kept(), free_port()
    async with (
        node_opcua.server(place, port) as peer,
        behind_line(port) as line,
        H.collecting(tmp_path, line.port, kept) as (pump, _),
    ):
        await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
        first, before = int(kept.rows("/tick0_count")[0][1]), set(pump.subscriptions)
        forget_session(pump)
        await line.cut("reset", 0.5)
        final = await peer.final()
        await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
        await asyncio.sleep(0.3)
        assert set(pump.subscriptions) == before
        H.check_every_tick(kept, first, final)
        assert kept.gaps() == []


@on_request
async def test_a_restarted_server_with_a_new_certificate_is_taken_up_and_its_history_read(
    tmp_path: Path, place: Path
) -> None:
    kept, port = H.Kept(), free_port()
    async with H.collecting(tmp_path, port, kept):
        async with node_opcua.server(place, port, period_ms=100):
            await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
        restarted = time.time_ns()
        async with node_opcua.server(place, port, period_ms=100, history=1000) as peer:
            await H.until(lambda: bool(kept.rows("/tick0_count")[-1][0] > restarted))
            await H.until(
                lambda: any(e.payload["reason"] == "history incomplete" for e in kept.gaps())
            )
            final = await peer.final()
            await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
            await asyncio.sleep(0.3)
    ticks = {int(v) for at, v, _ in kept.rows("/tick0_count") if at > restarted}
    assert ticks >= set(range(1, final + 1))
    assert len(H.marked(kept, "/tick0_count")) == 1


@on_request
async def test_a_new_life_fills_what_was_missed_while_the_server_forgot_the_session(
    tmp_path: Path, place: Path
) -> None:
    kept, port = H.Kept(), free_port()
    async with node_opcua.server(place, port, period_ms=100, history=1000) as peer:
        async with H.collecting(tmp_path, port, kept):
            await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
            first = int(kept.rows("/tick0_count")[0][1])
        state = tmp_path / "opcua.json"
        content = json.loads(state.read_text())
        content["token"], content["subscriptions"] = "ns=1;i=1", {"99999": 0}
        state.write_text(json.dumps(content))
        await asyncio.sleep(0.5)
        async with H.collecting(tmp_path, port, kept):
            await H.until(lambda: any(e.payload.get("filled") for e in kept.gaps()))
            final = await peer.final()
            await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
            await asyncio.sleep(0.3)
    H.check_every_tick(kept, first, final)


@on_request
async def test_a_killed_collector_with_a_password_resumes_its_session(
    tmp_path: Path, place: Path
) -> None:
    kept, port = H.Kept(), free_port()
    async with node_opcua.server(place, port, period_ms=100) as peer:
        async with H.collecting(tmp_path, port, kept, user="brain", password="secret"):
            await H.until(lambda: len(kept.rows("/tick0_count")) > 5)
            first = int(kept.rows("/tick0_count")[0][1])
        await asyncio.sleep(0.5)
        async with H.collecting(tmp_path, port, kept, user="brain", password="secret") as (pump, _):
            await H.until(lambda: bool(pump.subscriptions))
            final = await peer.final()
            await H.until(lambda: kept.rows("/tick0_count")[-1][1] == final)
            await asyncio.sleep(0.3)
        H.check_every_tick(kept, first, final)
        assert kept.gaps() == []


def forget_session(pump: Pump) -> None:
    """As when the server no longer lets the session be taken up again."""
    pump._session.client.uaclient.session.reset_authentication_token()


async def test_each_policy_with_user_and_password(tmp_path: Path, place: Path) -> None:
    async with node_opcua.server(place, port := free_port(), tickers=1, home=tmp_path / "node"):
        for policy in SECURITY_POLICIES[:3]:
            settings = OpcUaSettings(
                id="plc", url=f"opc.tcp://127.0.0.1:{port}/t", user="brain", security=policy,
                trust_first_use=True,
            )  # fmt: skip
            ours = Session(settings=settings, password="secret", pki_dir=tmp_path / "pki")
            await ours.open()
            node = ours.client.get_node("ns=1;s=T0")
            assert await node.read_value() >= 0
            await ours.drop()
