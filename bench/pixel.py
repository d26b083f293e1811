"""From the stamp at the source to a painted pixel, and to the disk: the whole house at speed 1.

    python -m bench.pixel --seconds 30

A real Chromium shows the wall at 10 Hz and keeps, for some hundred gauges, the code of each painted
frame. Afterwards the codes are found again among the stored samples, by value: a sample counts as
painted at the first frame that shows it or a newer one. Baseline of the same run: a client that
asks for the same values over HTTP once a second, as dashboards do; its painting is not counted.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.house import House
from workshop_brain.store.historian import Historian
from workshop_brain.web.frames import Quantiser

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server",
]  # fmt: skip
PER_SOURCE = 200
OPC_NAMES = ("/state_current", "/infeed_level")


@dataclass
class Poller:
    """Asks for values once a second; keeps when which source stamp was known."""

    client: httpx.Client
    paths: list[str]
    seen: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until told to stop."""
        while not self.stop.wait(1.0):
            answer = self.client.get("/live/values", params={"paths": ",".join(self.paths)})
            now = time.time() * 1e3
            self.seen.append((now, {row["path"]: row["time_ns"] for row in answer.json()}))


def watched(client: httpx.Client) -> dict[str, list[int]]:
    """Ids of signals to follow, spread over the plant: states and levels come by OPC UA."""
    tags = client.get("/plant/tags").json()
    kinds, paths = tags["kind"], tags["path"]
    counted = [i for i, yes in enumerate(tags["counted"]) if yes]
    bulk = [i for i in counted if kinds[i] == "gauge" and not paths[i].endswith(OPC_NAMES)]
    opc = [i for i in counted if paths[i].endswith(OPC_NAMES)]
    return {"opcua": _spread(opc, PER_SOURCE), "sparkplug": _spread(bulk, PER_SOURCE)}


def _spread(ids: list[int], n: int) -> list[int]:
    return ids[:: max(1, len(ids) // n)][:n]


def look(house: House, client: httpx.Client, ids: list[int], seconds: float) -> list[Any]:
    """Painted frames of the wall in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        cookies = [{"name": c.name, "value": c.value or "", "url": house.url} for c in
                   client.cookies.jar]  # fmt: skip
        context.add_cookies(cookies)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{house.url}/#/wall?measure=1&hz=10")
        page.wait_for_function("() => window.painted?.length > 20", timeout=60_000)
        page.evaluate("ids => { window.watched = ids; window.painted.length = 0; }", ids)
        page.wait_for_timeout(seconds * 1000)
        painted: list[Any] = page.evaluate("window.painted.filter(f => f.codes.length > 0)")
        chromium.close()
        return painted


def ages(times_ms: np.ndarray, shown: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
    """Age of each sample at the first look that knows it or a newer one; samples unseen are left.

    ``shown[k]`` is the source stamp known at look ``k``, ``at_ms[k]`` the time of the look.
    """
    newest = np.maximum.accumulate(shown)
    first = np.searchsorted(newest, times_ms, side="left")
    seen = (first < len(newest)) & (times_ms > newest[0])
    return at_ms[first[seen]] - times_ms[seen]


def displayed(
    times_ms: np.ndarray, codes: np.ndarray, frames: np.ndarray, at_ms: np.ndarray
) -> np.ndarray:
    """Source stamp behind each frame's code: the newest stored sample of that code until then."""
    out = np.full(len(frames), -np.inf)
    place = 0
    for k, code in enumerate(frames):
        end = int(np.searchsorted(times_ms, at_ms[k], side="right"))
        hits = np.flatnonzero(codes[place:end] == code)
        if len(hits):
            place += int(hits[-1])
            out[k] = times_ms[place]
        elif k:
            out[k] = out[k - 1]
    return out


def report(name: str, found: list[np.ndarray], goal: str = "") -> None:
    """One line of figures."""
    every = np.concatenate(found) if found else np.empty(0)
    if not len(every):
        print(f"{name:44} nothing changed")
        return
    p50, p99 = np.percentile(every, (50, 99))
    print(f"{name:44} p50 {p50:5.0f} ms   p99 {p99:5.0f} ms   {len(every):7d} samples   {goal}")


def evaluate(data: Path, ids: dict[str, list[int]], painted: list[Any], poller: Poller) -> None:
    """Find what was painted and polled among the stored samples, and print."""
    historian = Historian(data / "historian", read_only=True)
    defs = historian.signals()
    at = np.array([f["paintedMs"] for f in painted], np.float64)
    codes = np.array([f["codes"] for f in painted], np.uint16)
    polled_at = np.array([when for when, _ in poller.seen])
    column, every = 0, {"wall": [], "poll": []}  # type: tuple[int, dict[str, list[np.ndarray]]]
    for source, some in ids.items():
        wall: list[np.ndarray] = []
        poll: list[np.ndarray] = []
        for id in some:
            signal = defs[id]
            low, high = int((at[0] - 60e3) * 1e6), int(at[-1] * 1e6)
            table = historian.query([signal.path], low, high)
            times = np.sort(np.asarray(table.column("time_ns").cast("int64"))) / 1e6
            order = np.argsort(np.asarray(table.column("time_ns").cast("int64")), kind="stable")
            values = np.asarray(table.column("value"))[order]
            quantise = Quantiser(np.array([signal.low]), np.array([signal.high]))
            steps = _codes(quantise, values)
            shown = displayed(times, steps, codes[:, column], at)
            wall.append(ages(times, shown, at))
            stamps = [seen.get(signal.path, 0) / 1e6 for _, seen in poller.seen]
            poll.append(ages(times, np.array(stamps), polled_at))
            column += 1
        every["wall"] += wall
        every["poll"] += poll
        report(f"painted, {source}", wall)
        report(f"baseline: HTTP once a second, {source}", poll)
    report("painted, all", every["wall"], "(goal: p50 <= 250 ms)")
    report("baseline: HTTP once a second, all", every["poll"])
    historian.close()


def _codes(quantise: Quantiser, values: np.ndarray) -> np.ndarray:
    good, fresh = np.zeros(1, np.uint8), np.zeros(1, np.bool_)
    return np.array([quantise.steps(np.array([v]), good, fresh)[0] for v in values], np.uint16)


def floor(painted: list[Any]) -> None:
    """What the pace of the frames alone costs."""
    at = np.array([f["paintedMs"] for f in painted])
    newest = np.array([f["plantMs"] for f in painted])
    print(f"frames painted: {len(at)}, every {np.median(np.diff(at)):.0f} ms")
    p50, p99 = np.percentile(at - newest, (50, 99))
    print(f"newest stamp of a frame -> painted: p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def stored(health: dict[str, Any]) -> None:
    """Stored latency per source against its goal."""
    goals = {"opcua": 250, "sparkplug": 400}
    for source in health["sources"]:
        p50, p99 = source["stored_p50_ms"], source["stored_p99_ms"]
        goal = goals[source["protocol"]]
        print(f"stored, {source['protocol']:9} oldest of each batch: p50 {p50} ms   p99 {p99} ms"
              f"   (goal: p99 <= {goal} ms)")  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        house = House.start(data)
        try:
            client = house.client()
            settle(client)
            ids = watched(client)
            flat = [id for some in ids.values() for id in some]
            paths = client.get("/plant/tags").json()["path"]
            poller = Poller(client, [paths[id] for id in flat])
            polling = threading.Thread(target=poller.run)
            polling.start()
            painted = look(house, client, flat, options.seconds)
            poller.stop.set()
            polling.join()
            health = client.get("/health").json()
        finally:
            house.stop()
        floor(painted)
        evaluate(data, ids, painted, poller)
        stored(health)


def settle(client: httpx.Client, timeout_s: float = 60.0) -> None:
    """Until every source is up, and ten seconds more."""
    _until(lambda: all(s["state"] == "up" for s in client.get("/health").json()["sources"]),
           timeout_s)  # fmt: skip
    time.sleep(10)


def _until(met: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {timeout_s} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
