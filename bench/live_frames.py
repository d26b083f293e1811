"""Live frames: whole-plant encode time, and CPU and delay of 1 and many screens.

Baseline in the same run: what a naive back end does, JSON name/value objects encoded per client.

    python -m bench.live_frames [--clients 50] [--hz 10] [--seconds 5]
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from typing import Any

import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect

from workshop_brain.app.watch import Watch
from workshop_brain.config import built_in
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.web.events import EventFeed
from workshop_brain.web.frames import HEADER
from workshop_brain.web.live_hub import LiveHub, View
from workshop_brain.web.server import listen, server_config

SIGNALS, RATE = 12_164, 14_000
DEVICES = 153


class WallClock:
    """Plant time is wall time."""

    def plant_ns(self) -> int:
        return time.time_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


def filled_watch() -> Watch:
    """A watch over 12,164 signals of 153 devices, all seen."""
    watch = Watch(built_in().plant)
    names = ["state_current", "prod_processed_count"] + [f"g{k}" for k in range(78)]
    paths = [
        f"local/works/assembly/asm1/z{d // 31}/st{d:03d}/{name}"
        for d in range(DEVICES)
        for name in names
    ][:SIGNALS]
    watch.extend([SignalDef(path=p, kind=SignalKind.GAUGE, high=100.0, source="s") for p in paths])
    now, n = time.time_ns(), len(paths)
    watch.on_samples(
        Samples(
            np.arange(n, dtype=np.uint32), np.full(n, now), np.full(n, 6.0), np.zeros(n, np.uint8)
        ),
        now,
    )
    return watch


async def feed(watch: Watch) -> None:
    """14,000 changes a second in 20 batches."""
    draw = np.random.default_rng(1)
    count = RATE // 20
    while True:
        now = time.time_ns()
        ids = draw.integers(2, watch.live.epoch, count).astype(np.uint32)
        ids = ids[ids % 80 > 1]
        n = len(ids)
        watch.on_samples(
            Samples(ids, np.full(n, now), draw.random(n) * 100, np.zeros(n, np.uint8)), now
        )
        await asyncio.sleep(0.05)


def serve(door: socket.socket, naive: bool, hz: float) -> None:
    """The server process."""
    app, watch = FastAPI(), filled_watch()
    hub = LiveHub(watch, WallClock(), EventFeed())
    tasks: list[asyncio.Task[None]] = []
    paths = [s.path for s in watch.live.signals]

    @app.websocket("/live")
    async def live(ws: WebSocket) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(feed(watch)))
        await ws.accept()
        if not naive:
            await hub.serve(ws, lambda: True)
            return
        try:
            while True:
                values = watch.live.value.tolist()
                rows = [{"tag": p, "value": v} for p, v in zip(paths, values, strict=True)]
                await ws.send_text(json.dumps({"t": watch.live.newest_ns / 1e6, "rows": rows}))
                await asyncio.sleep(1 / hz)
        except (WebSocketDisconnect, RuntimeError):
            return

    server = uvicorn.Server(server_config(app, host="127.0.0.1", port=0))
    server.run(sockets=[door])


async def watch_screen(url: str, hz: float, until: float, delays: list[float]) -> int:
    """One screen: counts frames and notes the delay from the newest value to arrival."""
    frames = 0
    async with connect(url, compression=None, proxy=None, max_size=None) as ws:
        await ws.send(json.dumps({"view": "wall", "hz": hz}))
        while time.time() < until:
            try:
                message = await asyncio.wait_for(ws.recv(), until - time.time() + 0.01)
            except TimeoutError:
                break
            if isinstance(message, bytes):
                frames += 1
                delays.append(time.time() * 1e3 - HEADER.unpack_from(message)[6])
            elif message.startswith('{"t"'):
                frames += 1
    return frames


def measure(clients: int, hz: float, seconds: float, *, naive: bool) -> dict[str, Any]:
    """CPU of the server process and frames per client."""
    door = listen("127.0.0.1", 0)
    url = f"ws://127.0.0.1:{door.getsockname()[1]}/live"
    child = multiprocessing.get_context("fork").Process(target=serve, args=(door, naive, hz))
    child.start()
    try:
        time.sleep(2.5)
        process = psutil.Process(child.pid)
        delays: list[float] = []

        async def run() -> list[int]:
            until = time.time() + seconds
            screens = [watch_screen(url, hz, until, delays) for _ in range(clients)]
            return list(await asyncio.gather(*screens))

        before, start = process.cpu_times(), time.time()
        frames = asyncio.run(run())
        after, spent = process.cpu_times(), time.time() - start
        used = after.user + after.system - before.user - before.system
        return {
            "clients": clients,
            "hz": hz,
            "format": "json objects per client" if naive else "u16 frames",
            "server_cpu_percent": round(100 * used / spent, 1),
            "frames_per_client_s": round((statistics.mean(frames) if frames else 0.0) / spent, 2),
            "delay_ms_p50": round(float(np.percentile(delays, 50)), 1) if delays else None,
            "delay_ms_p99": round(float(np.percentile(delays, 99)), 1) if delays else None,
            "resident_mb": round(process.memory_info().rss / 1e6),
        }
    finally:
        child.terminate()
        child.join(10)
        door.close()


def encode_times() -> dict[str, float]:
    """Whole-plant encode and one 700-row update, CPU microseconds, best of many."""
    watch = filled_watch()
    hub = LiveHub(watch, WallClock(), EventFeed())
    view = View("wall", (), 10.0)
    draw = np.random.default_rng(1)
    ids = draw.integers(2, watch.live.epoch, 1000).astype(np.uint32)
    ids[ids % 80 <= 1] += 2
    values, grades = draw.random(1000), np.zeros(1000, np.uint8)

    def update() -> None:
        now = time.time_ns()
        watch.on_samples(Samples(ids, np.full(1000, now), values, grades), now)

    def naive() -> None:
        rows = [
            {"tag": s.path, "value": v}
            for s, v in zip(watch.live.signals, watch.live.value.tolist(), strict=True)
        ]
        json.dumps(rows)

    return {
        "wall_encode_us": _best(lambda: hub.encode(view, 1), 300),
        "json_encode_us": _best(naive, 10),
        "update_1000_rows_us": _best(update, 300),
    }


def _best(work: Any, times: int) -> float:
    spans = []
    for _ in range(times):
        start = time.thread_time_ns()
        work()
        spans.append((time.thread_time_ns() - start) / 1e3)
    return round(statistics.median(spans), 1)


def main() -> None:
    """Print one JSON line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    print(json.dumps(encode_times()))
    for clients in (1, given.clients):
        print(json.dumps(measure(clients, given.hz, given.seconds, naive=False)))
    print(json.dumps(measure(1, given.hz, given.seconds, naive=True)))


if __name__ == "__main__":
    main()
