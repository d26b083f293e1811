"""``brain connect`` listening to a broker, and from two addresses to the first trend."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gmqtt
import pytest
from bench.house import House, free_port

from workshop_brain import config
from workshop_brain.connect.discovery import mqtt
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.sparkplug.broker import mosquitto_command
from workshop_brain.errors import SourceError


def options(tmp_path: Path, seconds: float = 1.0) -> Options:
    return Options(seconds=seconds, source="m1", pki_dir=tmp_path / "pki")


def brain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line without a terminal."""
    command = [sys.executable, "-m", "workshop_brain", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    command = mosquitto_command(port=port, directory=tmp_path_factory.mktemp("broker"))
    if command is None:
        command = [sys.executable, "-m", "workshop_brain", "process", "broker", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.0)
    yield port
    process.kill()
    process.wait()


async def test_an_address_without_a_broker_is_named(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(SourceError, match=str(port)):
        await mqtt.discover(f"mqtt://127.0.0.1:{port}", options(tmp_path))


async def test_json_and_single_values_become_rows_that_the_collector_takes(
    tmp_path: Path, broker: int
) -> None:
    client = gmqtt.Client("press")
    await client.connect("127.0.0.1", broker)

    async def publish() -> None:
        n = 0
        while True:
            n += 1
            body = {"force": n % 7 + 0.5, "pieces": n, "timestamp": time.time_ns() // 10**6}
            client.publish("press1/data", json.dumps(body))
            client.publish("hall/temp", f"{20 + n % 3 / 10}")
            client.publish("raw/frame", bytes([0, 255, n % 256]))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(publish())
    found = await mqtt.discover(f"mqtt://127.0.0.1:{broker}", options(tmp_path, seconds=1.5))
    task.cancel()
    await client.disconnect()
    (plain,) = [d for d in found if d.protocol == "mqtt"]
    assert plain.source["topic"] == [
        {"topic": "hall/#"},
        {"topic": "press1/#", "time": "/timestamp", "time_unit": "ms"},
    ]
    assert {p.signal.name: p.signal.kind.name for p in plain.proposals} == {
        "force": "GAUGE", "pieces": "COUNTER", "temp": "GAUGE"
    }  # fmt: skip
    assert plain.skipped == {"binary": 1}
    config.source({"id": "m1", **plain.source}, "source")


@pytest.mark.slow
def test_from_two_addresses_to_the_first_trend(
    tmp_path: Path, broker: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = {"opcua": free_port(), "control": free_port()}
    plant = subprocess.Popen(
        [sys.executable, "-m", "workshop_brain", "twin", "serve", "--opcua-port",
         str(ports["opcua"]), "--mqtt", f"mqtt://127.0.0.1:{broker}", "--control-port",
         str(ports["control"])],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    assert plant.stdout is not None
    house = None
    try:
        plant.stdout.readline()  # it is ready
        begin = time.monotonic()
        url = f"opc.tcp://127.0.0.1:{ports['opcua']}/workshop"
        for address in (url, f"mqtt://127.0.0.1:{broker}"):
            done = brain(
                "connect", address, "-o", "plant.toml", "--seconds", "3", "--yes", cwd=tmp_path
            )
            assert done.returncode == 0, done.stderr
        connected_s = time.monotonic() - begin
        text = (tmp_path / "plant.toml").read_text()
        assert len(text.splitlines()) < 30
        house = House.start(tmp_path / "data", str(tmp_path / "plant.toml"))
        client = house.client()
        paths = [
            "local/works/assembly/asm1/z1/st01/state_current",  # OPC UA
            "local/works/assembly/asm1/z1/st01/air_pressure",  # Sparkplug
        ]
        until = time.monotonic() + 60
        while True:
            answer = client.get("/series", params={"paths": ",".join(paths), "points": 100})
            rows = answer.json().get("series", []) if answer.status_code == 200 else []
            if len(rows) == 2 and all(len(row["time_ms"]) for row in rows):
                break
            assert time.monotonic() < until, answer.text[:500]
            time.sleep(0.5)
        client.close()
        took_s = time.monotonic() - begin
    finally:
        if house is not None:
            house.stop()
        plant.kill()
        plant.wait()
        plant.stdout.close()
    assert took_s < 300
    with capsys.disabled():
        print(
            f"\nfrom address to first trend: {took_s:.1f} s ({connected_s:.1f} s of brain connect)"
        )
