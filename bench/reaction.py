"""Breakdown at the machine to a verified, published plan; then the improved plan; then commands.

    python -m bench.reaction --events 100

Each event breaks a running machine on the plant's own control and waits for the brain's event
``decision`` on the live feed. The clock starts at the source time stamp of the breakdown (the PLC's
state tag, speed 1), so publishing, collecting, deciding, checking and recording are all inside.
An event that nothing answers within 10 s counts as 10 s. After each repair the decision of the
search that goes on from it is awaited as long; a search that finds nothing better ends silently.
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
LIMIT_S = 10.0


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

    def find(
        self, after: int, fits: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> tuple[int, dict[str, Any]] | None:
        """Arrival of the first event from position ``after`` on that fits, and what it is about."""
        for arrived, event in self.events[after:]:
            body = fits(event)
            if body is not None:
                return arrived, body
        return None

    def wait(
        self, after: int, seconds: float, fits: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> tuple[int, dict[str, Any]] | None:
        """``find`` until it is there or the time is over; each event is looked at once."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            upto = len(self.events)
            found = self.find(after, fits)
            if found is not None:
                return found
            after = upto
            time.sleep(0.005)
        return None


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--pause", type=float, default=1.0)
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
        seen, published, improved, repairs, silent = [], [], [], [], 0
        searched: list[float] = []
        for k in range(events):
            unit = _running(client, k)
            watcher.seen.clear()
            after = len(feed.events)
            house.break_unit(unit, 3)
            found = feed.wait(after, LIMIT_S, lambda e, u=unit: _is_repair(client, e, u))
            if found is None:
                print(f"{unit}: no decision within {LIMIT_S:.0f} s", flush=True)
                published.append(LIMIT_S * 1e3)
                silent += 1
            else:
                arrived, body = found
                stamp_ns = round(_breakdown(body, unit)["time_ms"] * 1e6)
                published.append((arrived - stamp_ns) / 1e6)
                repairs.append((body["id"], stamp_ns))
                left_s = LIMIT_S - (time.time_ns() - stamp_ns) / 1e9
                end = feed.wait(after, left_s, lambda e, i=body["id"]: _search_end(client, e, i))
                if end is not None:
                    took_ms = (end[0] - stamp_ns) / 1e6
                    (improved if end[1]["better"] else searched).append(took_ms)
            if unit.split("/", 1)[1] in watcher.seen:
                at, stamp = watcher.seen[unit.split("/", 1)[1]]
                seen.append(at / 1e6 - stamp * 1e3)
            time.sleep(pause)
            httpx.post(house.control + "/repair", json={"unit": unit}, trust_env=False)
            time.sleep(pause)
        _print("breakdown to published plan", published, "goal p99 <= 300 ms")
        print(f"  without a decision within {LIMIT_S:.0f} s: {silent} of {events}")
        _print("baseline: stock client merely sees the tag", seen, "")
        _print("breakdown to improved plan", improved, "goal <= 10000 ms")
        _print("breakdown to the end of a search that found nothing better", searched, "")
        late = _late(client, feed, repairs)
        none = len(repairs) - len(improved) - len(searched) - late
        print(
            f"  of {len(repairs)} repairs: {len(improved)} improved within {LIMIT_S:.0f} s, "
            f"{len(searched)} where the search found nothing better, {late} later, "
            f"{none} whose search gave way to the next cause"
        )
        _commands(data / "ledger" / "ledger.jsonl")
        watcher.stop()
    finally:
        house.stop()


def _running(client: httpx.Client, k: int) -> str:
    """The k-th machine (in turn) of those that run a job and are not down already."""
    while True:
        schedule = client.get("/schedule").json()
        up = {m["path"] for m in schedule["machines"] if m["state"] == "up"}
        running = [
            a["machine"]
            for a in schedule["actual"]
            if a["state"] == "running" and a["machine"] in up and "/asm1/" not in a["machine"]
        ]
        if running:
            return running[k % len(running)]
        time.sleep(1.0)


def _decision(client: httpx.Client, event: dict[str, Any]) -> dict[str, Any]:
    """The decision that an event of the feed is about; empty when it is about none."""
    if event.get("kind") != "decision" or event.get("payload", {}).get("topic") != "decision":
        return {}
    answer = client.get(f"/decisions/{event['path']}")
    return answer.json() if answer.status_code == 200 else {}


def _breakdown(body: dict[str, Any], unit: str) -> dict[str, Any]:
    """The unit's breakdown among a decision's causes; empty when there is none."""
    trigger = body.get("trigger", {})
    causes = [trigger, *trigger.get("all", [])]
    mine = [c for c in causes if c.get("kind") == "breakdown" and c.get("path") == unit]
    return max(mine, key=lambda c: c["time_ms"], default={})


def _is_repair(client: httpx.Client, event: dict[str, Any], unit: str) -> dict[str, Any] | None:
    body = _decision(client, event)
    return body if _breakdown(body, unit) else None


def _search_end(client: httpx.Client, event: dict[str, Any], repair: str) -> dict[str, Any] | None:
    """How the search on from a repair ended: with a better plan, or with none."""
    told = event.get("kind") == "decision" and event.get("path") == repair
    if told and event["payload"].get("topic") == "searched":
        return {"better": False}
    trigger = _decision(client, event).get("trigger", {})
    is_of = (trigger.get("kind"), trigger.get("of")) == ("improve", repair)
    return {"better": True} if is_of else None


def _late(client: httpx.Client, feed: Feed, repairs: list[tuple[str, int]]) -> int:
    """Repairs whose improvement came after its time."""
    found: dict[str, int] = {}
    for arrived, event in feed.events:
        trigger = _decision(client, event).get("trigger", {})
        if trigger.get("kind") == "improve":
            found.setdefault(trigger["of"], arrived)
    return sum(found.get(id, 0) - stamp_ns > LIMIT_S * 1e9 for id, stamp_ns in repairs)


def _print(name: str, values: list[float], goal: str) -> None:
    if values:
        p = np.percentile(values, [50, 99])
        figures = f"p50 {p[0]:.0f} ms, p99 {p[1]:.0f} ms, max {max(values):.0f} ms"
        print(f"{name}: n {len(values)}, {figures}   {goal}")
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
