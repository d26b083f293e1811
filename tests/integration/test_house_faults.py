"""Processes are killed with -9, one after the other: all recover alone and nothing sent is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bench.house import House
from bench.plant_load import compare

pytestmark = pytest.mark.slow
START = ("--start", "2026-03-02T08:00:00+08:00", "--rate", "0.5")


def eventually(check: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
    """The first true answer of ``check``; fails after the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"after {seconds:.0f} s still not: {what}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def house(root: Path) -> Iterator[House]:
    running = House.start(root / "data", *START, "--record", str(root / "record"))
    yield running
    running.stop()


@pytest.fixture
def client(house: House) -> Iterator[httpx.Client]:
    with closing(house.client()) as signed_in:
        yield signed_in


def all_up(client: httpx.Client) -> bool:
    try:
        health = client.get("/health").json()
    except httpx.HTTPError:
        return False
    sources = health.get("sources", [])
    return (
        bool(sources)
        and all(s["state"] == "up" for s in sources)
        and health["stale"] == 0
        and health["rate"] > 2_000
    )


def kill(house: House, name: str) -> None:
    os.kill(house.pids()[name], signal.SIGKILL)


def test_killed_processes_come_back_alone_and_nothing_sent_is_lost(
    house: House, client: httpx.Client, root: Path
) -> None:
    eventually(lambda: all_up(client), "all sources up")
    for name in ("collector-bulk", "brain", "collector-plc", "broker", "brain"):
        time.sleep(2.0)
        before = house.pids()[name]
        kill(house, name)
        eventually(lambda n=name, b=before: house.pids().get(n, b) != b, f"{name} started again")
        eventually(lambda: all_up(client), f"all up after {name} was killed")
    time.sleep(6.0)
    house.stop()
    result = compare(root / "record", house.data)
    assert result["sent"] > 50_000
    assert result["missing"] == 0, result
    assert result["wrong"] == 0, result


def test_the_plant_killed_is_stale_within_two_seconds_and_its_day_goes_on(
    house: House, client: httpx.Client
) -> None:
    eventually(lambda: all_up(client), "all sources up")
    order = client.get("/schedule").json()["now_ms"]
    kill(house, "twin")
    eventually(
        lambda: any(s["state"] != "up" for s in client.get("/health").json()["sources"]),
        "a lost source",
        10,
    )
    eventually(lambda: all_up(client), "all up again", 60)
    assert client.get("/schedule").json()["now_ms"] > order


def test_when_the_supervisor_is_killed_its_children_stop_and_a_restart_recovers(
    house: House, client: httpx.Client, root: Path
) -> None:
    eventually(lambda: all_up(client), "all sources up")
    pids = house.pids()
    children = [pid for name, pid in pids.items() if name != "supervisor"]
    os.kill(house.process.pid, signal.SIGKILL)
    house.process.wait()
    eventually(lambda: not any(psutil.pid_exists(p) and _runs(p) for p in children), "all gone", 6)
    again = House.start(root / "data", *START)
    try:
        with httpx.Client(base_url=again.url + "/api/v1", trust_env=False, timeout=20) as login:
            login.headers["Origin"] = again.url
            body = {"user": "admin", "password": "workshop-1"}
            login.post("/login", json=body).raise_for_status()
            eventually(lambda: all_up(login), "all up after the restart", 60)
    finally:
        again.stop()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workshop_brain", "up", "--no-browser", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_instance_is_told_who_holds_the_directory(house: House, root: Path) -> None:
    done = up("--data", str(root / "data"), "--port", "0")
    assert done.returncode == 1
    assert str(house.process.pid) in done.stderr
    assert "--data" in done.stderr


def test_a_wrong_plant_file_is_named_with_key_and_value(tmp_path: Path) -> None:
    plant = tmp_path / "plant.toml"
    plant.write_text('[[work_center]]\nid = "a"\narea = "b"\nkind = "robot"\nunits=[{id="x"}]\n')
    done = up(str(plant), "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "plant.toml" in done.stderr
    assert "work_center[0].kind" in done.stderr
    assert "'robot'" in done.stderr


def test_a_busy_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = up("--data", str(tmp_path / "data"), "--port", port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "--port" in done.stderr
