"""From ``brain up`` on a prepared machine to the first live wall frame in Chromium.

    python -m bench.start

First with an empty data directory, then again with the same one. Chromium runs beforehand, as a
person's browser does. The wall is live when the frame on the screen shows 95 % of all signals.
Baseline of the same run: a bare Python interpreter that imports the package's heavy parts.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from bench.house import House
from bench.pixel import ARGS, CHROMIUM

SIGNALS = 12_164
LIVE_SHARE = 0.95
LIVE = "least => (window.painted ?? []).find(f => f.alive >= least)?.paintedMs"


class Parts:
    """When each part of the house first answered, seconds after the start."""

    def __init__(self, client: httpx.Client, began: float) -> None:
        self._client, self._began = client, began
        self.at: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _mark(self, name: str) -> None:
        self.at.setdefault(name, time.time() - self._began)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for source in self._client.get("/health").json()["sources"]:
                if source["samples"] > 0:
                    self._mark(f"first data, {source['protocol']}")
            if "plan" not in self.at and self._client.get("/schedule").json()["plan_id"]:
                self._mark("plan")

    def wait(self, *names: str, timeout_s: float = 60.0) -> None:
        """Until these parts have answered, then stop asking."""
        end = time.monotonic() + timeout_s
        while not set(names) <= set(self.at) and time.monotonic() < end:
            time.sleep(0.1)
        self._stop.set()
        self._thread.join()


def once(name: str, data: Path, chromium: Any, cookies: list[dict[str, str]]) -> None:
    """One start; fills ``cookies`` at the first."""
    began = time.time()
    house = House.start(data)
    try:
        screens = time.time() - began
        client = house.client() if house.link else httpx.Client(
            base_url=house.url + "/api/v1", trust_env=False, timeout=20,
            cookies={c["name"]: c["value"] for c in cookies},
        )  # fmt: skip
        cookies[:] = [{"name": c.name, "value": c.value or ""} for c in client.cookies.jar]
        parts = Parts(client, began)
        parts.at["screens answer"] = screens
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([c | {"url": house.url} for c in cookies])
        page = context.new_page()
        page.goto(f"{house.url}/#/wall?measure=1&hz=10")
        live = page.wait_for_function(LIVE, arg=SIGNALS * LIVE_SHARE, timeout=90_000)
        parts.at["live wall"] = live.json_value() / 1e3 - began
        parts.wait("plan", "first data, opcua", "first data, sparkplug")
        context.close()
    finally:
        house.stop()
    for part, at in sorted(parts.at.items(), key=lambda item: item[1]):
        goal = "   (goal <= 15 s)" if part == "live wall" else ""
        print(f"{name:14} {part:24} {at:5.1f} s{goal}", flush=True)


def bare() -> float:
    """Seconds to import what the processes of the house import."""
    code = "import numpy, numba, duckdb, pyarrow, fastapi, sqlalchemy, asyncua"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - began


def main() -> None:
    """Run and print."""
    from playwright.sync_api import sync_playwright

    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"baseline: one process importing the libraries   {bare():5.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        cookies: list[dict[str, str]] = []
        once("empty data", Path(scratch) / "data", chromium, cookies)
        once("second start", Path(scratch) / "data", chromium, cookies)
        chromium.close()


if __name__ == "__main__":
    main()
