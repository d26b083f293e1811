"""MQTT into the store through mosquitto, beside paho on the same stream at the same time.

    python -m bench.mqtt [--kinds sparkplug,json,value] [--times 1] [--seconds 20] [--rounds 3]

The load is bench/mqtt_load.py in a process of its own: 150 devices of 80 values at 4 Hz as
Sparkplug B or as one JSON document a device (48,000 values/s), and 12,000 topics of one value each
at 1 Hz; ``--times`` makes all of it faster. Ours is the product's collector process, which hands
over to the ingest and historian of this process; afterwards every tick of every signal is read back
from the history and compared. The peer is paho-mqtt with protobuf messages (upb) or the standard
json module, in a process of its own, which looks up every value's name, keeps (name, time, value)
and stores nothing. CPU is user and system time of the client's process, all threads, between two
instants of steady running.
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
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.collect import collecting, cpu_s
from bench.line import free_port
from workshop_brain.connect.sparkplug.broker import mosquitto_command, wait_until_open
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.sort import warm_up

DEVICES, METRICS = 150, 80
HZ = {"sparkplug": 4.0, "json": 4.0, "value": 1.0}
_SETTLE_S = 3.0
_SOURCES: dict[str, dict[str, object]] = {
    "sparkplug": {"protocol": "sparkplug", "host_id": "bench"},
    "json": {
        "protocol": "mqtt",
        "topic": [{"topic": "plant/+", "path": "w/a/l/c/{2}/{key}", "time": "/ts", "qos": 0}],
    },
    "value": {
        "protocol": "mqtt", "topic": [{"topic": "unit/+/+", "path": "w/a/l/c/{2}/{3}", "qos": 0}]
    },
}  # fmt: skip
_TOPICS = {"sparkplug": "spBv1.0/#", "json": "plant/+", "value": "unit/+/+"}


@asynccontextmanager
async def process(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of this package; it has printed its first line."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        await child.stdout.readline()
        yield child
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[int]:
    """mosquitto on a free port."""
    port = free_port()
    command = mosquitto_command(port=port, directory=folder)
    if command is None:
        raise SystemExit("mosquitto is not installed: tools/test_servers.sh")
    child = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    try:
        await wait_until_open("127.0.0.1", port)
        yield port
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def one(
    folder: Path, kind: str, seconds: float, times: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ours, peer) on one stream."""
    own = folder / "data"
    async with broker(folder / "broker") as port:
        source = {"id": "load", "url": f"mqtt://127.0.0.1:{port}", **_SOURCES[kind]}
        async with (
            collecting(own, source) as work,
            process("bench.mqtt", "--peer", str(port), "--kinds", kind) as peer,
        ):
            while not any(s.state == "up" for s in work.ingest.sources()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            words = ("--port", str(port), "--kind", kind, "--hz", str(HZ[kind] * times))
            async with process("bench.mqtt_load", *words) as load:
                await work.until(DEVICES * METRICS)
                await asyncio.sleep(_SETTLE_S)
                pids = (work.pid, peer.pid)
                before, at = (work.rows, await _count(peer)), time.perf_counter()
                cpu = [cpu_s(pid) for pid in pids]
                await asyncio.sleep(seconds)
                took = time.perf_counter() - at
                share = [(cpu_s(p) - c) / took for p, c in zip(pids, cpu, strict=True)]
                rows = (work.rows - before[0], await _count(peer) - before[1])
                memory, latency = psutil.Process(work.pid).memory_info().rss, work.ingest.latency()
                assert load.stdin is not None
                assert load.stdout is not None
                load.stdin.write(b"stop\n")
                tick, late = map(int, (await load.stdout.readline()).split())
                await asyncio.sleep(2.0)
            total = await _count(peer)
            await asyncio.to_thread(work.history.sync)
            missing = check(work.history, tick, 0.5 if kind == "value" else 0.0)
            gaps = work.gaps()
    mine, theirs = (
        {"values_per_s": round(n / took), "cpu_percent": round(100 * s, 2),
         "us_per_value": round(1e6 * s * took / max(n, 1), 3),
         "values_per_s_and_core": round(n / took / max(s, 1e-9))}
        for n, s in zip(rows, share, strict=True)
    )  # fmt: skip
    wanted = DEVICES * METRICS * (tick + 1)
    mine |= {"rss_mb": memory >> 20, "checked": wanted, "missing": missing, "gaps": len(gaps),
             "late_messages_of_load": late, **latency}  # fmt: skip
    return mine, theirs | {"missing": wanted - total}


def check(history: Historian, final: int, offset: float) -> int:
    """Values that are missing: of every signal each tick from 0 to the final one, by value."""
    paths = [s.path for s in history.signals()]
    if len(paths) != DEVICES * METRICS:
        raise AssertionError(f"{len(paths)} of {DEVICES * METRICS} signals")
    ticks = np.arange(final + 1) + offset
    ticks[0], missing = 0.0, 0
    for at in range(0, len(paths), 500):
        table = history.query(paths[at : at + 500], 0, 1 << 62)
        names = np.asarray(table["path"].combine_chunks().cast("string"))
        values = table["value"].to_numpy()
        order = np.argsort(names, kind="stable")
        ends = np.flatnonzero(names[order][1:] != names[order][:-1]) + 1
        for rows in np.split(order, ends):
            missing += len(ticks) - int(np.isin(ticks, values[rows]).sum())
    return missing


async def _count(child: asyncio.subprocess.Process) -> int:
    """What the counting process says now."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"\n")
    return int(await child.stdout.readline())


# --- the peer ---


def peer(port: int, kind: str) -> None:
    """A paho client that keeps (name, time, value) of the newest values and counts all."""
    import paho.mqtt.client as paho

    kept: deque[tuple[str, int, float]] = deque(maxlen=100_000)
    take = {"sparkplug": _sparkplug, "json": _document, "value": _single}[kind](kept)
    count = 0

    def on_message(client: Any, given: Any, message: Any) -> None:
        nonlocal count
        count += take(message.topic, message.payload)

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe(_TOPICS[kind], qos=0)
    threading.Thread(target=client.loop_forever, daemon=True).start()
    time.sleep(0.5)
    print("up", flush=True)
    for _ in sys.stdin:
        print(count, flush=True)


Take = Callable[[str, bytes], int]


def _sparkplug(kept: deque[tuple[str, int, float]]) -> Take:
    from bench.sparkplug_decode import schema, upb_tuples

    payload_class, _ = schema()
    names: dict[tuple[str, int], str] = {}

    def take(topic: str, payload: bytes) -> int:
        parts = topic.split("/")
        if parts[2] == "DBIRTH":
            for metric in payload_class.FromString(payload).metrics:
                names[parts[3], metric.alias] = f"{topic}/{metric.name}"
        elif parts[2] != "DDATA":
            return 0
        rows = upb_tuples(payload_class, payload)
        node = parts[3]
        kept.extend([(names[node, alias], stamp, value) for alias, stamp, value in rows])
        return len(rows)

    return take


def _document(kept: deque[tuple[str, int, float]]) -> Take:
    def take(topic: str, payload: bytes) -> int:
        body = json.loads(payload)
        stamp = body.pop("ts")
        kept.extend([(f"{topic}/{name}", stamp, value) for name, value in body.items()])
        return len(body)

    return take


def _single(kept: deque[tuple[str, int, float]]) -> Take:
    def take(topic: str, payload: bytes) -> int:
        kept.append((topic, time.time_ns(), float(json.loads(payload))))
        return 1

    return take


async def rounds(kinds: list[str], seconds: float, times: float, number_of: int) -> None:
    """Print every round and the medians."""
    for kind in kinds:
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "paho": []}
        for number in range(number_of):
            folder = Path(tempfile.mkdtemp(prefix="mqtt-load-"))
            try:
                mine, theirs = await one(folder, kind, seconds, times)
            finally:
                shutil.rmtree(folder)
            print(f"{kind}, round {number + 1}, load {os.getloadavg()[0]:.1f}", json.dumps(mine))
            print(f"  paho {json.dumps(theirs)}", flush=True)
            found["ours"].append(mine)
            found["paho"].append(theirs)
        for name, all_rounds in found.items():
            keys = [k for k, v in all_rounds[0].items() if k != "rss_mb" and v is not None]
            middle = {k: statistics.median(r[k] for r in all_rounds) for k in keys}
            print(f"{kind}, {name}: {json.dumps(middle)}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="sparkplug,json,value")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--times", type=float, default=1.0, help="factor on the rates")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=int, default=0, help="port; the peer's process")
    given = parser.parse_args()
    if given.peer:
        peer(given.peer, given.kinds)
        return
    warm_up()
    asyncio.run(rounds(given.kinds.split(","), given.seconds, given.times, given.rounds))


if __name__ == "__main__":
    main()
