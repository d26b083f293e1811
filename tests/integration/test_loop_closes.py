"""The loop closes: the brain commands a job, the line runs it and answers with good pieces.

A whole house over loopback at a faster plant clock; nothing here presses a button but the levels.
"""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.house import House

pytestmark = pytest.mark.slow
START = "2026-03-02T08:00:00+08:00"
SPEED = "360"
LINES = ("soft", "heat", "hard", "housing", "asm1")
CLASSES = ("plan", "repair", "improve", "release")
LIMIT_S = 150.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    running = House.start(tmp_path / "data", "--start", START, "--rate", "0.05", "--speed", SPEED)
    yield running
    running.stop()


@pytest.fixture
def client(house: House) -> Iterator[httpx.Client]:
    with closing(house.client()) as signed_in:
        yield signed_in


def ledger(house: House) -> list[dict[str, Any]]:
    """Every whole line of the ledger; a line being written counts next time."""
    text = (house.data / "ledger" / "ledger.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def closed(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """First good end of a job that this brain commanded and its receiver confirmed before."""
    commanded: dict[str, str] = {}
    confirmed: set[str] = set()
    for entry in entries:
        body = entry["body"]
        if entry["kind"] == "command" and body["command"] == "dispatch":
            commanded[body["job"]] = body["decision"]
        elif entry["kind"] == "confirmation" and body["outcome"] == "confirmed":
            confirmed |= {body["job"]} & commanded.keys()
        elif (
            entry["kind"] == "outcome"
            and body["job"] in confirmed
            and body["state"] == "ended"
            and body["good"] > 0
        ):
            assert body["decision"] == commanded[body["job"]]
            return dict(body)
    return None


def test_a_job_that_the_brain_commanded_runs_ends_and_counts(
    house: House, client: httpx.Client
) -> None:
    for line in LINES:
        for kind in CLASSES:
            answer = client.put(f"/autonomy/{line}/{kind}", json={"level": "report"})
            answer.raise_for_status()
    began = time.monotonic()
    while (done := closed(ledger(house))) is None:
        kinds = [entry["kind"] for entry in ledger(house)]
        counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
        assert time.monotonic() - began < LIMIT_S, f"no commanded job ended; the ledger: {counts}"
        time.sleep(0.5)
    print(f"{done['job']} ended {time.monotonic() - began:.0f} s after the levels were set")

    # It ran in plant time: after the house began, before now, for a while.
    schedule = client.get("/schedule").json()
    start_ns = datetime.fromisoformat(START).timestamp() * 1e9
    assert start_ns < done["start_ns"] < done["end_ns"] <= schedule["now_ms"] * 1e6 + 60e9
    assert done["late_s"] is not None

    # Its receiver, its order and its decision tell the same.
    order = next(
        row
        for row in client.get("/orders").json()
        if any(step["job"] == done["job"] for step in row["steps"])
    )
    step = next(step for step in order["steps"] if step["job"] == done["job"])
    assert step["state"] == "ended"
    assert step["good"] == done["good"]
    assert step["unit"] == done["equipment"]
    if done["job"].rsplit(".", 1)[1].startswith("asm1"):  # the last step counts the order's pieces
        assert order["done"] >= min(done["good"], step["pieces"])
    decision = client.get(f"/decisions/{done['decision']}").json()
    assert decision["outcome"]["ended"] >= 1
    assert decision["outcome"]["good"] >= done["good"]
    assert (done["job"], "confirmed") in {
        (c["job"], c.get("outcome")) for c in decision["commands"]
    }
