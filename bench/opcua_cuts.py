"""Ten-second network cuts and a server restart against node-opcua: ticks lost by value.

    python -m bench.opcua_cuts [--seconds 10] [--items 450]

Every case runs the product's collector process (into ingest and historian) and asyncua with
auto_reconnect side by side, each through a TCP line of its own that is cut at the same moment, both
with the same publishing interval and server queue. The server's own last tick ends the count, so
that a stream that died does not look complete. ``unmarked`` counts holes in our history whose later
end does not carry GAP_BEFORE; it has to be 0 in every case.
"""

import argparse
import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from asyncua import Client, ua

from bench import node_opcua
from bench.collect import Collecting, collecting
from bench.line import CUTS, Line, free_port
from workshop_brain.model.signal import Quality

PERIOD_S, PUBLISHING_MS = 0.5, 500
_WATCHED_S = 15.0


@dataclass(slots=True)
class Heard:
    """asyncua's handler: the values of each node, with our time of arrival."""

    values: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def datachange_notification(self, node: object, value: int, data: object) -> None:
        """Called by asyncua for each value."""
        self.values[str(node)].append((time.time(), value))


async def stock(port: int, items: int, queue: int, heard: Heard) -> None:
    """asyncua as documented, until cancelled."""
    client = Client(f"opc.tcp://127.0.0.1:{port}/t", timeout=4)
    client.session_timeout = 120_000
    await client.connect(auto_reconnect=True)
    parameters = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=PUBLISHING_MS, RequestedLifetimeCount=240,
        RequestedMaxKeepAliveCount=2, MaxNotificationsPerPublish=10_000, PublishingEnabled=True,
    )  # fmt: skip
    try:
        subscription = await client.create_subscription(parameters, heard)
        nodes = [client.get_node(f"ns=1;s=T{i}") for i in range(items)]
        await subscription.subscribe_data_change(nodes, queuesize=queue)
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.disconnect(), 3)


def source(port: int, queue_s: float) -> dict[str, object]:
    """Our source behind a line."""
    return {"protocol": "opcua", "id": "cut", "url": f"opc.tcp://127.0.0.1:{port}/t",
            "root": "Plant", "publishing_ms": PUBLISHING_MS,
            "sampling_ms": round(1000 * PERIOD_S), "queue_s": queue_s}  # fmt: skip


def lost(ticks: list[list[int]], first: int, final: int) -> tuple[int, int]:
    """(ticks missing, ticks expected) over all items."""
    wanted = np.arange(first, final + 1)
    return sum(int((~np.isin(wanted, seen)).sum()) for seen in ticks), len(wanted) * len(ticks)


def stored(work: Collecting, since_ns: int) -> tuple[list[list[int]], int]:
    """(values of each item since an instant, holes without a mark)."""
    ticks, unmarked = [], 0
    for signal in work.history.signals():
        table = work.history.query([signal.path], 0, 1 << 62)
        at, value = table["time_ns"].to_numpy(), table["value"].to_numpy()
        quality = table["quality"].to_numpy()
        order = np.argsort(at, kind="stable")
        steps = np.diff(value[order])
        marked = (quality[order][1:] & int(Quality.GAP_BEFORE)) != 0
        unmarked += int(((steps != 1) & ~marked).sum())
        ticks.append(value[at >= since_ns].astype(int).tolist())
    return ticks, unmarked


async def case(
    name: str, place: Path, folder: Path, items: int, seconds: float, queue_s: float, history: int
) -> None:
    """Run one case and print its row."""
    port, heard = free_port(), Heard()
    restart = name == "server restart"
    mine, theirs = Line(port), Line(port)
    await mine.start()
    await theirs.start()
    queue = max(2, round(queue_s / PERIOD_S))
    stack = contextlib.AsyncExitStack()

    def serve():  # type: ignore[no-untyped-def]
        return node_opcua.server(
            place,
            port,
            tickers=items,
            period_ms=round(1000 * PERIOD_S),
            history=history,
            home=folder / "node",
        )

    server = await stack.enter_async_context(serve())
    peer = asyncio.create_task(stock(theirs.port, items, queue, heard))
    async with collecting(folder, source(mine.port, queue_s)) as work:
        await work.until(5 * items)
        await asyncio.sleep(2.0)
        since = 0.0
        if restart:
            await stack.aclose()
            await asyncio.sleep(seconds)
            since = time.time()
            server = await stack.enter_async_context(serve())
        else:
            kind = next(cut for cut in CUTS if name.endswith(cut))
            await asyncio.gather(mine.cut(kind, seconds), theirs.cut(kind, seconds))
        await asyncio.sleep(_WATCHED_S)
        final = await server.final()
        await asyncio.sleep(3.0)
        ticks, unmarked = stored(work, int(since * 1e9))
        gaps = [g["reason"] for g in work.gaps()]
    peer.cancel()
    await asyncio.gather(peer, return_exceptions=True)
    await stack.aclose()
    for line in (mine, theirs):
        await line.close()
    theirs_ticks = [[v for t, v in seen if t >= since] for seen in heard.values.values()]
    first = 1 if restart else max(min(seen) for seen in (*ticks, *theirs_ticks))
    a, b = lost(ticks, first, final), lost(theirs_ticks, first, final)
    told = ", ".join(f"{reason} x{gaps.count(reason)}" for reason in dict.fromkeys(gaps)) or "none"
    print(f"{name:28s} ours {a[0]:6d} of {a[1]} ({a[0] / items * PERIOD_S:4.1f} s), unmarked "
          f"{unmarked}, gaps: {told}")  # fmt: skip
    print(f"{'':28s} asyncua auto_reconnect {b[0]:6d} of {b[1]} ({b[0] / items * PERIOD_S:4.1f} s)",
          flush=True)  # fmt: skip


async def run(items: int, seconds: float, only: str) -> None:
    """All cases."""
    place = node_opcua.folder()
    if isinstance(place, str):
        sys.exit(place)
    cases = [
        ("reset", 60, 0), ("stall", 60, 0), ("stall then kill", 60, 0),
        ("short queue, history, reset", 2, 1000), ("short queue, reset", 2, 0),
        ("server restart", 60, 1000),
    ]  # fmt: skip
    for name, queue_s, history in cases:
        if only and only not in name:
            continue
        folder = Path(tempfile.mkdtemp(prefix="opcua-cuts-"))
        try:
            await case(name, place, folder, items, seconds, queue_s, history)
        finally:
            shutil.rmtree(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--items", type=int, default=450)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    given = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    asyncio.run(run(given.items, given.seconds, given.only))


if __name__ == "__main__":
    main()
