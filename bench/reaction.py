"""Breakdown at the machine to a verified, published plan; then the improved plan; then commands.

    python -m bench.reaction --events 20

Each event breaks a running machine on the plant's own control and waits for the brain's event
``decision`` on the live feed. The clock starts at the source time stamp of the breakdown (the PLC's
state tag, speed 1), so publishing, collecting, deciding, checking and recording are all inside.
Baseline of the same run: a stock OPC UA client subscription with the same publishing interval, how
long it takes to merely see the tag change.
"""

import argparse
import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from asyncua import Client

from bench.house import House

ABORTED = 9


class Watcher:
    """A stock subscription on every unit's state tag: when did the change arrive here?"""

    def __init__(self, url: str, units: list[str]) -> None:
        self.url, self.units = url, units
        self.seen: dict[str, tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def datachange_notification(self, node: object, value: int, data: object) -> None:
        """Called by the client library for each change."""
        stamp = data.monitored_item.Value.SourceTimestamp  # type: ignore[attr-defined]
        if value == ABORTED:
            path = str(node).split(";s=")[1].rsplit("/", 1)[0]
            self.seen[path] = (time.time_ns(), stamp.timestamp() if stamp else 0.0)

    async def _run(self) -> None:
        async with Client(self.url) as client:
            index = await client.get_namespace_index("urn:workshop-brain:twin")
            nodes = [client.get_node(f"ns={index};s={u}/StateCurrent") for u in self.units]
            subscription = await client.create_subscription(100, self)
            await subscription.subscribe_data_change(nodes)
            await asyncio.to_thread(self._stop.wait)

    def stop(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join(5)


class Feed:
    """The brain's event feed, each event with its arrival here."""

    def __init__(self, client: httpx.Client) -> None:
        self.events: list[tuple[int, dict[str, Any]]] = []
        self._client = client
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._client.stream("GET", "/events", timeout=None) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        self.events.append((time.time_ns(), json.loads(line[5:])))
        except httpx.HTTPError:
            return

    def wait(
        self, after: int, seconds: float, fits: Callable[[dict[str, Any]], bool]
    ) -> tuple[int, dict[str, Any]] | None:
        """First event from position ``after`` on that fits."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for arrived, event in self.events[after:]:
                if fits(event):
                    return arrived, event
            time.sleep(0.005)
        return None


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--pause", type=float, default=4.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(Path(scratch) / "data", options.events, options.pause)


def run(data: Path, events: int, pause: float) -> None:
    """One run."""
    house = House.start(data)
    try:
        client = house.client()
        time.sleep(15)
        for line in ("soft", "heat", "hard", "housing", "asm1"):
            client.put(f"/autonomy/{line}/repair", json={"level": "report"}).raise_for_status()
        ports = json.loads((data / "run" / "ports.json").read_text())
        machines = client.get("/schedule").json()["machines"]
        units = [m["path"].split("/", 1)[1] for m in machines]
        watcher = Watcher(f"opc.tcp://127.0.0.1:{ports['opcua']}/workshop", units)
        feed = Feed(client)
        time.sleep(3)
        seen, published = [], []
        for k in range(events):
            unit = _running(client.get("/schedule").json(), k)
            watcher.seen.clear()
            after = len(feed.events)
            house.break_unit(unit, 3)
            found = feed.wait(after, 10, lambda e, u=unit: _is_repair(client, e, u))
            if found is None:
                print(f"{unit}: no decision within 10 s")
                continue
            arrived, event = found
            stamp_ns = _decision(client, event)["trigger"]["time_ms"] * 1e6
            published.append((arrived - stamp_ns) / 1e6)
            if unit.split("/", 1)[1] in watcher.seen:
                at, stamp = watcher.seen[unit.split("/", 1)[1]]
                seen.append(at / 1e6 - stamp * 1e3)
            time.sleep(pause)
            httpx.post(house.control + "/repair", json={"unit": unit}, trust_env=False)
            time.sleep(pause)
        _print("breakdown to published plan", published, "goal p99 <= 300 ms")
        _print("baseline: stock client merely sees the tag", seen, "")
        _commands(data / "ledger" / "ledger.jsonl")
        watcher.stop()
    finally:
        house.stop()


def _running(schedule: dict[str, Any], k: int) -> str:
    """The k-th machine (in turn) of those that run a job and are not down already."""
    up = {m["path"] for m in schedule["machines"] if m["state"] == "up"}
    running = [
        a["machine"]
        for a in schedule["actual"]
        if a["state"] == "running" and a["machine"] in up and "/asm1/" not in a["machine"]
    ]
    return running[k % len(running)]


def _decision(client: httpx.Client, event: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(f"/decisions/{event['path']}")
    return answer.json() if answer.status_code == 200 else {}


def _is_repair(client: httpx.Client, event: dict[str, Any], unit: str) -> bool:
    if event.get("kind") != "decision":
        return False
    body = _decision(client, event)
    trigger = body.get("trigger", {})
    return isinstance(trigger, dict) and trigger.get("path") == unit


def _print(name: str, values: list[float], goal: str) -> None:
    if values:
        p = np.percentile(values, [50, 99])
        print(f"{name}: n {len(values)}, p50 {p[0]:.0f} ms, p99 {p[1]:.0f} ms   {goal}")
    else:
        print(f"{name}: nothing measured")


def _commands(ledger: Path) -> None:
    entries = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    bodies = [e["body"] for e in entries if e["kind"] == "confirmation"]
    confirmed = [b for b in bodies if b["outcome"] == "confirmed" and b.get("steps_ms")]
    took = [sum(ms for _, ms in body["steps_ms"]) for body in confirmed]
    _print("dispatch call to confirmation", took, "goal p99 <= 1000 ms")


if __name__ == "__main__":
    main()
