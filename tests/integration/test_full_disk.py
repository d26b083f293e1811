"""A disk without room: nothing holds that is not on record, but off; all goes on afterwards."""

import asyncio
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from bench.house import House
from tests.integration.test_connect_link import (
    SIGNALS,
    MemoryHistorian,
    brain,
    collector,
    ticks,
    until,
)
from tests.integration.test_decide_loop import Desk, add_order, busiest, desk

from workshop_brain.app.plans import IN_FORCE, read_plan
from workshop_brain.errors import StoreError
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import SignalDef
from workshop_brain.store import ledger as ledger_file
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system of its own."""
    size = getattr(request, "param", "32m")
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Use up every byte; the file that holds them."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


class Full:
    """The ledger's writes fail as on a full disk, while ``on``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        write: Callable[[int, bytes], None] = ledger_file._write

        def limited(fd: int, data: bytes) -> None:
            if self.on:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(fd, data)

        monkeypatch.setattr(ledger_file, "_write", limited)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Full:
    return Full(monkeypatch)


def blocked(d: Desk) -> dict[str, str]:
    rows = d.decider.autonomy_view()["lines"]
    return {r["line"]: (r["blocked"] or {}).get("id", "") for r in rows}


def verified(path: Path) -> list[Any]:
    with (
        closing(Records(path / "records.sqlite")) as records,
        closing(Ledger(path / "ledger", anchor=records.anchor())) as ledger,
    ):
        return ledger.verify()


async def proposal(d: Desk) -> str:
    """A repair that waits for approval."""
    await d.until(lambda: d.decider.state.in_force is not None)
    await d.until(lambda: bool(d.decider.state.tracks))
    d.happen(EventKind.BREAKDOWN, await busiest(d), hours=20)
    await d.until(lambda: d.decider.state.proposal is not None)
    await d.until(lambda: d.decider.schedule_view()["proposal"] is not None)
    found = d.decider.state.proposal
    assert found is not None
    return found.decision.id


async def test_what_people_say_does_not_hold_unrecorded_but_off_does(small_disk: Path) -> None:
    async with desk(small_disk) as d:
        brain = d.decider
        id = await proposal(d)
        plan = brain.state.in_force
        ballast = fill(small_disk)

        with pytest.raises(StoreError, match=r"not in effect.*(is full|No space left)"):
            await brain.approve(id, "anna", "go")
        assert brain.state.in_force is plan
        assert id in brain.state.open
        assert "free some space" in brain.faults()["ledger"]
        with pytest.raises(StoreError, match="not in effect"):
            await brain.set_level("heat", "release", "advise", "anna")
        assert brain.state.levels == {}
        with pytest.raises(StoreError, match="not in effect"):
            await brain.reject(id, "anna", "no")
        with pytest.raises(StoreError, match="is OFF for line soft, but that is not recorded"):
            await brain.set_switch("soft", False, "anna")
        assert not brain.state.is_on("soft")
        with pytest.raises(StoreError, match="not in effect"):
            await brain.set_switch("soft", True, "anna")
        assert not brain.state.is_on("soft")
        assert blocked(d).pop("heat") == "blocked.not_recorded"
        await asyncio.sleep(0.5)
        sent = brain.state.tracks.keys()
        await asyncio.sleep(1.0)
        assert brain.state.tracks.keys() == sent
        assert (brain.state.in_force, id in brain.state.open) == (plan, True)

        ballast.unlink()
        await d.until(lambda: not brain.faults())
        await d.until(lambda: "blocked.not_recorded" not in blocked(d).values())
        kinds = [e.kind for e in d.ledger.entries()]
        assert kinds.count("outage") == 1
        assert kinds.count("switch") == 1
        assert "approval" not in kinds[kinds.index("outage") :]
        await d.until(lambda: brain.state.computing is None)
        waiting = brain.state.proposal
        assert waiting is not None
        await brain.approve(waiting.decision.id, "anna", "go")
        await d.until(lambda: (read_plan(small_disk / "plans", IN_FORCE) or "??")[1] == _force(d))
    assert verified(small_disk) == []
    async with desk(small_disk) as d:
        assert not d.decider.state.is_on("soft")
        assert d.decider.state.in_force_decision == waiting.decision.id


def _force(d: Desk) -> str:
    return d.decider.state.in_force_decision


async def test_a_plan_of_the_brain_itself_is_not_in_force_before_it_is_recorded(
    tmp_path: Path, full: Full
) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        await d.until(lambda: brain.state.in_force is not None)
        await busiest(d)
        await brain.set_level("soft", "repair", "report", "anna")
        for center in brain.plant.work_centers:
            await brain.set_level(center.id, "repair", "report", "anna")
            await brain.set_level(center.id, "release", "report", "anna")
        plan = brain.state.in_force
        full.on = True
        add_order(d, "RUSH", priority=9)
        d.happen(EventKind.BREAKDOWN, await busiest(d), hours=20)
        await d.until(lambda: "ledger" in brain.faults())
        await d.until(lambda: brain.state.computing is None)
        assert brain.state.in_force is plan
        await asyncio.sleep(0.5)
        assert brain.state.in_force is plan
        full.on = False
        await d.until(lambda: brain.state.in_force is not plan)
        assert brain.faults() == {}
    assert verified(tmp_path) == []


async def test_an_approval_that_meets_a_failing_write_changes_nothing_whatever_comes_between(
    tmp_path: Path, full: Full
) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        id = await proposal(d)
        plan = brain.state.in_force
        units = [b["machine"] for b in brain.schedule_view()["bars"]]
        full.on = True
        asked = asyncio.create_task(brain.approve(id, "anna", "go"))
        off = asyncio.create_task(brain.set_switch("hard", False, "ben"))
        await asyncio.sleep(0)
        d.happen(EventKind.OPERATOR_ABSENT, units[0], hours=6)
        answers = await asyncio.gather(asked, off, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError, StoreError]
        assert brain.state.in_force is plan
        assert not brain.state.is_on("hard")
        assert brain.state.down[units[0]] == "operator_absent"
        full.on = False
        await d.until(lambda: not brain.faults())
        assert not brain.state.is_on("hard")
        assert "hard" not in {e.body["line"] for e in d.ledger.entries("level")}
    assert verified(tmp_path) == []


async def test_plan_file_and_settings_that_failed_are_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as d:
        brain = d.decider
        id = await proposal(d)
        real_plan, real_setting = os.replace, Records.set_setting
        is_full = True

        def replace(old: Any, new: Any) -> None:
            if is_full and "plans" in str(new):
                raise OSError(errno.ENOSPC, "No space left on device")
            real_plan(old, new)

        def set_setting(records: Records, key: str, value: Any) -> None:
            if is_full and not key.startswith("anchor"):
                raise StoreError("records: the disk is full")
            real_setting(records, key, value)

        monkeypatch.setattr(os, "replace", replace)
        monkeypatch.setattr(Records, "set_setting", set_setting)
        await brain.approve(id, "anna", "go")
        await brain.set_level("heat", "release", "advise", "anna")
        await d.until(lambda: brain.faults().keys() >= {"plans", "records"})
        kept = read_plan(tmp_path / "plans", IN_FORCE)
        assert kept is None or kept[1] != id
        is_full = False
        await d.until(lambda: not brain.faults())
        kept = read_plan(tmp_path / "plans", IN_FORCE)
        assert kept is not None
        assert kept[1] == brain.state.in_force_decision
        with closing(Records(tmp_path / "records.sqlite")) as records:
            assert records.settings("level.") == {"level.heat.release": "advise"}


async def test_a_collector_whose_signals_cannot_be_registered_comes_again_with_everything(
    tmp_path: Path,
) -> None:
    class Picky(MemoryHistorian):
        refuses = "declare"

        def declare(self, signals: Sequence[SignalDef]) -> list[int]:
            if self.refuses == "declare":
                raise StoreError("catalog: the disk is full")
            return super().declare(signals)

        def intern(self, texts: Sequence[str]) -> list[int]:
            if self.refuses == "intern":
                raise StoreError("dictionary: the disk is full")
            return super().intern(texts)

    historian = Picky()
    async with brain(historian, tmp_path / "i.sock") as ingest, collector(tmp_path) as box:
        box.declare(SIGNALS)
        code = box.text("S-1")
        box.add(ticks([1, 2]), 1)
        box.add(ticks([code], signal=1), 2)
        await until(lambda: ingest.faults() != {})
        assert ingest.faults() == {"history": "StoreError: catalog: the disk is full"}
        historian.refuses = "intern"
        await until(lambda: "dictionary" in ingest.store_error)
        last = box.add(ticks([3]), 3)
        historian.refuses = ""
        await until(lambda: box.durable >= last)
        assert ingest.faults() == {}
    assert historian.values("local/works/a/l/c/u/count") == [1, 2, 3]
    assert historian.values("local/works/a/l/c/u/serial") == [0]


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", ["512m"], indirect=True)
def test_a_house_on_a_full_disk_says_so_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    house = House.start(small_disk / "data")
    try:
        with closing(house.client()) as client:
            health = lambda: client.get("/health").json()  # noqa: E731
            eventually(lambda: health()["status"] == "ok", "a healthy house")
            eventually(lambda: client.get("/schedule").json()["bars"], "a plan")
            ballast = fill(small_disk)
            eventually(lambda: "history" in health()["faults"], "history in the health")
            level = client.put("/autonomy/heat/release", json={"level": "advise"})
            off = client.post("/autonomy/soft/switch", json={"on": False})
            assert (level.status_code, off.status_code) == (409, 409)
            assert "not in effect" in level.json()["error"]["message"]
            assert "OFF for line soft" in off.json()["error"]["message"]
            assert health()["status"] == "degraded"
            assert {"history", "ledger"} <= health()["faults"].keys()
            lines = {r["line"]: r for r in client.get("/autonomy").json()["lines"]}
            assert not lines["soft"]["on"]
            assert lines["heat"]["levels"]["release"] != "advise"
            assert lines["heat"]["blocked"]["id"] == "blocked.not_recorded"

            ballast.unlink()
            eventually(lambda: health()["faults"] == {}, "all is written again", 60)
            eventually(lambda: health()["status"] == "ok", "a healthy house again", 60)
            client.put("/autonomy/heat/release", json={"level": "advise"}).raise_for_status()
    finally:
        house.stop()
    assert verified(small_disk / "data") == []
    with closing(Records(small_disk / "data" / "records.sqlite")) as records:
        assert records.setting("switch.soft") is False
        assert records.setting("level.heat.release") == "advise"


def eventually(fact: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)
