"""12,000 OPC UA items at 4 Hz into the store, beside asyncua's subscription handler.

    python -m bench.opcua_load [--items 12000] [--hz 4] [--seconds 20] [--rounds 3]

The load is bench/opcua_server.py in a process of its own. Ours is the product's collector process,
which hands over to the ingest and historian of this process; afterwards every tick of every item is
read back from the history and compared. The peer is asyncua's documented subscription handler in a
process of its own, which only counts. CPU is user and system time of the client's process, all
threads, between two instants of steady running. One round runs both, one after the other.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.collect import collecting, cpu_s
from bench.line import free_port
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.sort import warm_up

_SETTLE_S = 3.0


@dataclass(slots=True)
class Load:
    """The running load server."""

    port: int
    process: asyncio.subprocess.Process

    async def stop(self) -> dict[str, int]:
        """Last tick, messages dropped, requests refused as too large."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"stop\n")
        words = (await self.process.stdout.readline()).split()
        return {k.decode(): int(v) for k, v in zip(words[::2], words[1::2], strict=True)}


@asynccontextmanager
async def load(items: int, hz: float, *more: str) -> AsyncIterator[Load]:
    """The load server in its own process."""
    port = free_port()
    words = ["--port", port, "--items", items, "--hz", hz, *more]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.opcua_server", *map(str, words),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield Load(port, process)
    finally:
        process.kill()
        await process.wait()


async def ours(folder: Path, items: int, hz: float, seconds: float) -> dict[str, object]:
    """Collector process, ingest, historian; then every tick is looked for."""
    async with load(items, hz) as server:
        source = {"protocol": "opcua", "id": "load", "url": f"opc.tcp://127.0.0.1:{server.port}",
                  "root": "Plant", "publishing_ms": 100, "sampling_ms": 250}  # fmt: skip
        async with collecting(folder, source) as work:
            await work.until(items)
            await asyncio.sleep(_SETTLE_S)
            before, cpu, at = work.rows, cpu_s(work.pid), time.perf_counter()
            await asyncio.sleep(seconds)
            took = time.perf_counter() - at
            rate, share = (work.rows - before) / took, (cpu_s(work.pid) - cpu) / took
            memory, latency = psutil.Process(work.pid).memory_info().rss, work.ingest.latency()
            end = await server.stop()
            await asyncio.sleep(2.0)
            await asyncio.to_thread(work.history.sync)
            missing, ticks = check(work.history, items, end["final"])
    return {"samples_per_s": round(rate), "cpu_percent": round(100 * share, 2),
            "us_per_sample": round(1e6 * share / rate, 3), "rss_mb": memory >> 20,
            "ticks_checked": ticks, "ticks_missing": missing, "gaps": work.gaps(),
            "dropped_by_server": end["dropped"], **latency}  # fmt: skip


def check(history: Historian, items: int, final: int) -> tuple[int, int]:
    """(ticks missing, ticks expected): every tick of every item from its first to the final one.

    By value; Booleans by their number of distinct times.
    """
    paths = [s.path for s in history.signals()]
    assert len(paths) == items, f"{len(paths)} of {items} signals"
    missing = expected = 0
    first_of_all = 0
    for at in range(0, items, 500):
        table = history.query(paths[at : at + 500], 0, 1 << 62)
        names = np.asarray(table["path"].combine_chunks().cast("string"))
        values, times = table["value"].to_numpy(), table["time_ns"].to_numpy()
        order = np.argsort(names, kind="stable")
        ends = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
        for rows in np.split(order, ends):
            ticks = np.unique(values[rows])
            if len(ticks) <= 2:
                have, want = len(np.unique(times[rows])), final - first_of_all + 1
            else:
                first_of_all = int(ticks[0])
                have = int(np.isin(np.arange(first_of_all, final + 1), ticks).sum())
                want = final - first_of_all + 1
            missing, expected = missing + max(want - have, 0), expected + want
    return missing, expected


async def peer(items: int, hz: float, seconds: float) -> dict[str, object]:
    """asyncua's handler on the same load."""
    async with load(items, hz) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.opcua_load", "--handler", str(server.port),
            "--items", str(items), stdout=asyncio.subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            await asyncio.sleep(_SETTLE_S)
            before, cpu, at = int(await _count(process)), cpu_s(process.pid), time.perf_counter()
            await asyncio.sleep(seconds)
            received = int(await _count(process)) - before
            took = time.perf_counter() - at
            share = (cpu_s(process.pid) - cpu) / took
        finally:
            process.kill()
            await process.wait()
    rate = received / took
    return {"samples_per_s": round(rate), "cpu_percent": round(100 * share, 2),
            "us_per_sample": round(1e6 * share / max(rate, 1), 2)}  # fmt: skip


async def _count(process: asyncio.subprocess.Process) -> bytes:
    """The newest line of the counting process, which prints ten a second."""
    assert process.stdout is not None
    line = b"0"
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        line = await process.stdout.readline()
    return line


async def handler(port: int, items: int) -> None:
    """The documented way: a subscription with a handler, called for each value."""
    from asyncua import Client, ua

    class Counting:
        seen = 0

        def datachange_notification(self, node: object, value: object, data: object) -> None:
            self.seen += 1

    counting = Counting()
    async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=60) as client:
        subscription = await client.create_subscription(100, counting)
        nodes = [client.get_node(ua.NodeId(1_000_000 + i, 2)) for i in range(items)]
        for at in range(0, items, 1000):
            await subscription.subscribe_data_change(nodes[at : at + 1000], queuesize=240)
        while True:
            print(counting.seen, flush=True)
            await asyncio.sleep(0.1)


async def rounds(items: int, hz: float, seconds: float, times: int) -> None:
    """Print every round and the medians."""
    mine, theirs = [], []
    for number in range(times):
        folder = Path(tempfile.mkdtemp(prefix="opcua-load-"))
        try:
            mine.append(await ours(folder, items, hz, seconds))
        finally:
            shutil.rmtree(folder)
        theirs.append(await peer(items, hz, seconds))
        print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}", json.dumps(mine[-1]))
        print(f"  asyncua handler {json.dumps(theirs[-1])}", flush=True)
    keys = ("samples_per_s", "cpu_percent", "us_per_sample")
    for name, found in (("ours", mine), ("asyncua handler", theirs)):
        print(name, {k: statistics.median(f[k] for f in found) for k in keys})  # type: ignore[type-var]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--hz", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--handler", type=int, default=0, help="port; the peer's process")
    given = parser.parse_args()
    if given.handler:
        asyncio.run(handler(given.handler, given.items))
        return
    warm_up()
    asyncio.run(rounds(given.items, given.hz, given.seconds, given.rounds))


if __name__ == "__main__":
    main()
