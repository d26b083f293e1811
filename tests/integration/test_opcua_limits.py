"""A server's limits are kept, and messages that cannot be had again leave marked gaps."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from bench.line import Line
from bench.opcua_load import load

from workshop_brain.model.signal import Quality


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


async def test_as_many_subscriptions_as_the_limits_ask_for(tmp_path: Path) -> None:
    kept = H.Kept()
    limits = ("--per-subscription", "100", "--per-call", "40")
    async with (
        load(250, 10, *limits) as server,
        H.collecting(tmp_path, server.port, kept) as (pump, _),
    ):
        await H.until(lambda: sum(len(p) for p in kept.parts) > 2500)
        assert sorted(len(s.handles) for s in pump.subscriptions.values()) == [50, 100, 100]
        end = await server.stop()
    assert end["refused"] == 0
    seen = np.unique(np.concatenate([p.signal for p in kept.parts]))
    assert len(seen) == 250
    assert kept.gaps() == []


async def test_lost_messages_are_marked_and_the_values_read_again(tmp_path: Path) -> None:
    kept = H.Kept()
    async with (
        load(20, 20, "--loses", "15") as server,
        H.collecting(tmp_path, server.port, kept),
    ):
        await H.until(lambda: len(kept.rows("/tick0")) > 40)
        end = await server.stop()
    reasons = [e.payload["reason"] for e in kept.gaps()]
    assert "messages lost" in reasons
    ticks = sorted({(t, int(v), q) for t, v, q in kept.rows("/tick0")})
    jumps = [b for a, b in zip(ticks, ticks[1:], strict=False) if b[1] - a[1] > 1]  # noqa: RUF007
    assert jumps
    assert end["final"] > 40
    # Marked where the hole ends or, when its loss was only known later, at the next sample.
    marked = [q for _, _, q in kept.rows("/tick0") if q & Quality.GAP_BEFORE]
    assert len(marked) >= len(jumps)


async def test_subscriptions_are_made_anew_where_none_can_be_transferred(tmp_path: Path) -> None:
    kept = H.Kept()
    async with load(20, 10) as server:
        line = Line(server.port)
        await line.start()
        async with H.collecting(tmp_path, line.port, kept) as (pump, _):
            await H.until(lambda: len(kept.rows("/tick0")) > 5)
            before = set(pump.subscriptions)
            pump._session.client.uaclient.session.reset_authentication_token()
            await line.cut("reset", 0.5)
            await H.until(lambda: bool(kept.gaps()))
            rows = len(kept.rows("/tick0"))
            await H.until(lambda: len(kept.rows("/tick0")) > rows + 3)
            assert not before & set(pump.subscriptions)
        await line.close()
    assert [e.payload["reason"] for e in kept.gaps()] == ["subscription lost"]
    assert len(H.marked(kept, "/tick0")) == 1
