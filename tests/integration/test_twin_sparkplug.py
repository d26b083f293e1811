"""Sparkplug edge nodes through a real broker: births, data, commands, store-and-forward."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gmqtt
import numpy as np
import pytest
from gmqtt.mqtt.constants import MQTTv311
from numpy.typing import NDArray

from workshop_brain.config import built_in
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.sparkplug.broker import (
    find_mosquitto,
    free_port,
    mosquitto_command,
    wait_until_open,
)
from workshop_brain.connect.sparkplug.host import Host as BrainHost
from workshop_brain.errors import ConfigError
from workshop_brain.model.curve import Curve
from workshop_brain.model.state import StopReason
from workshop_brain.twin import sparkplug_wire as wire
from workshop_brain.twin.commands import Command, QualityStop, RepairUnit
from workshop_brain.twin.curves import cycle_curves, has_curves
from workshop_brain.twin.journal import BirthNumbers, Journal
from workshop_brain.twin.serve import PlantProcess
from workshop_brain.twin.signals import Signals
from workshop_brain.twin.sim import PlantSim
from workshop_brain.twin.sparkplug_edge import EdgeNode, broker_address
from workshop_brain.units import NS_PER_MS, NS_PER_S

MONDAY_NS = int(datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()) * NS_PER_S
GROUP, HOST = "works-assembly", "test-host"


def spawn(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


class Broker:
    """A private broker on a free port: mosquitto when installed, else the embedded one."""

    def __init__(self, directory: Path, *, embedded: bool = False) -> None:
        self.port = free_port()
        mosquitto = None if embedded else mosquitto_command(port=self.port, directory=directory)
        module = "workshop_brain.connect.sparkplug.broker"
        code = f"from {module} import run_embedded; run_embedded({self.port})"
        self.command = mosquitto or [sys.executable, "-c", code]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._process = spawn(self.command)
        await wait_until_open("127.0.0.1", self.port)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Host:
    """A primary host that keeps every message that it gets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[tuple[str, wire.Payload]] = []
        self.raw: list[tuple[str, bytes]] = []
        self._client: gmqtt.Client | None = None

    async def connect(self) -> None:
        self.stamp = int(time.time() * 1000)
        will = gmqtt.Message(f"spBv1.0/STATE/{HOST}", self._state(False), qos=1, retain=True)
        client = gmqtt.Client(f"host-{self.stamp}", clean_session=True, will_message=will)
        client.set_config({"reconnect_retries": -2})
        client.on_message = self._message
        await client.connect("127.0.0.1", self.port, version=MQTTv311)
        client.subscribe(f"spBv1.0/{GROUP}/#", qos=1)
        self._client = client
        await asyncio.sleep(0.05)
        client.publish(f"spBv1.0/STATE/{HOST}", self._state(True), qos=1, retain=True)

    def _state(self, online: bool) -> bytes:
        return json.dumps({"online": online, "timestamp": self.stamp}).encode()

    def _message(self, client: Any, topic: str, payload: bytes, *rest: Any) -> int:
        self.raw.append((topic, bytes(payload)))
        self.messages.append((topic, wire.decode(bytes(payload))))
        return 0

    async def die(self) -> None:
        """Vanish without a word, as after kill -9: the broker tells the host's will."""
        assert self._client is not None
        self._client._connection._transport.abort()
        await asyncio.sleep(0.05)
        self._client = None

    async def leave(self) -> None:
        if self._client is not None:
            await self._client.disconnect()
            self._client = None

    def command(
        self, topic: str, name: str, value: float | str, kind: int = wire.DataType.BOOLEAN
    ) -> None:
        assert self._client is not None
        metric = wire.metric_bytes(name=name, datatype=kind, value=wire.scalar(kind, value))
        self._client.publish(topic, wire.payload_bytes(1, [metric], None), qos=0)

    def kinds(self, node: str) -> list[str]:
        return [t.split("/")[2] for t, _ in self.messages if t.split("/")[3] == node]

    def of(self, kind: str) -> list[tuple[str, wire.Payload]]:
        return [(t, p) for t, p in self.messages if t.split("/")[2] == kind]

    def values(self) -> dict[tuple[str, int], float]:
        """(device/name, ms) -> value, names from the births."""
        names: dict[tuple[str, int], str] = {}
        out: dict[tuple[str, int], float] = {}
        for topic, payload in self.messages:
            parts = topic.split("/")
            if parts[2] not in ("DBIRTH", "DDATA"):
                continue
            for metric in payload.metrics:
                if parts[2] == "DBIRTH":
                    names[parts[4], metric.alias or 0] = metric.name
                name = names[parts[4], metric.alias or 0]
                if isinstance(metric.value, int | float) and "Control/" not in name:
                    out[f"{parts[4]}/{name}", metric.time_ms] = float(metric.value)
        return out


class Memory:
    """Keeps what the edge node says that it has sent."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], float] = {}

    def declare(self, path: str) -> int:
        return 0

    def value(self, signal: int, time_ns: int, value: float) -> None:
        return None

    def text(self, signal: int, time_ns: int, text: str) -> None:
        return None

    def values(
        self, signal: NDArray[np.int64], time_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        for s, t, v in zip(signal.tolist(), time_ns.tolist(), value.tolist(), strict=True):
            self.rows[s, t // NS_PER_MS] = v

    def close(self) -> None:
        return None


class Edge:
    """One edge node over a small running plant, sampled 50 times a second."""

    def __init__(
        self, sim: PlantSim, port: int, *, host: str = HOST, store_s: float = 60.0, **more: Any
    ) -> None:
        self.sim = sim
        self.signals = Signals(sim, seed=1, rate=0.25)
        self.row = next(n for n in self.signals.nodes if n.id == "shafts")
        self.memory = Memory()
        self.node = EdgeNode(
            sim,
            self.signals,
            self.row,
            group=GROUP,
            address=broker_address(f"mqtt://127.0.0.1:{port}"),
            primary_host=host,
            record=self.memory,
            record_ids=np.arange(self.signals.count),
            store_s=store_s,
            **more,
        )

    async def sample(self) -> None:
        while True:
            self.sim.advance(self.sim.now_ns + 250 * NS_PER_MS)
            for device, curve in cycle_curves(self.sim, self.sim.drain_cycles(), seed=1):
                if device in self.row.devices:
                    self.node.send_curve(device, curve)
            self.sim.drain_changes()
            self.node.sample()
            await asyncio.sleep(0.02)

    def sent(self) -> dict[tuple[str, int], float]:
        """The same form as ``Host.values``."""
        names = [p.split("/", 4)[4] for p in self.signals.path]
        return {(names[s], t): v for (s, t), v in self.memory.rows.items()}


@asynccontextmanager
async def running(edge: Edge) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(edge.node.run()), asyncio.create_task(edge.sample())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            assert task.cancelled(), task.exception()


async def until(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110  the fact is another party's message
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def sim() -> PlantSim:
    return PlantSim(built_in().plant, seed=7, start_ns=MONDAY_NS)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    private = Broker(tmp_path)
    await private.start()
    yield private
    await private.kill()


async def test_births_then_data_by_alias_in_unbroken_sequence(
    sim: PlantSim, broker: Broker
) -> None:
    host, edge = Host(broker.port), Edge(sim, broker.port)
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 300)
    await until(lambda: bool(host.of("NDEATH")))
    await host.leave()
    births = host.of("DBIRTH")
    assert host.kinds("shafts")[: 1 + len(births)] == ["NBIRTH"] + ["DBIRTH"] * len(births)
    assert len(births) == len(edge.row.devices)
    scalars = [m for _, p in births for m in p.metrics if m.datatype != wire.DataType.DATASET]
    named = [m for m in scalars if not m.name.startswith("Device Control/")]
    assert len(named) == edge.row.last - edge.row.first
    assert len(scalars) - len(named) == 2 * len(births)
    aliases = [m.alias for _, p in births for m in p.metrics]
    assert None not in aliases
    assert len(set(aliases)) == len(aliases)
    first = named[0]
    assert first.properties["path"] == edge.signals.path[edge.row.first]
    assert {"path", "engUnit", "engLow", "engHigh", "kind"} <= set(first.properties)
    data = [m for _, p in host.of("DDATA") for m in p.metrics]
    assert all(m.alias is not None and not m.name and not m.datatype for m in data)
    seqs = [p.seq for t, p in host.messages if p.seq is not None]
    assert seqs[0] == 0
    assert all(b == (a + 1) % 256 for a, b in itertools.pairwise(seqs))
    assert len(seqs) > 256  # it has wrapped
    birth_number = next(m.value for m in host.of("NBIRTH")[0][1].metrics if m.name == "bdSeq")
    death = host.of("NDEATH")[0][1]
    assert [(m.name, m.value) for m in death.metrics] == [("bdSeq", birth_number)]
    assert death.seq is None


async def test_rebirth_is_answered_with_all_births(sim: PlantSim, broker: Broker) -> None:
    host, edge = Host(broker.port), Edge(sim, broker.port)
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 20)
        host.command(f"spBv1.0/{GROUP}/NCMD/shafts", "Node Control/Rebirth", True)
        await until(lambda: len(host.of("NBIRTH")) == 2)
        await until(lambda: len(host.of("DBIRTH")) == 2 * len(edge.row.devices))
        again = host.of("NBIRTH")[1][1]
        assert again.seq == 0
    await host.leave()


async def test_a_device_obeys_what_is_written_to_it(
    sim: PlantSim, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Command] = []

    async def apply(command: Command) -> str:
        got.append(command)
        return "" if isinstance(command, QualityStop) else "not now"

    host, edge = Host(broker.port), Edge(sim, broker.port, apply=apply)
    path = sim.devices[edge.row.devices[0]].path
    topic = f"spBv1.0/{GROUP}/DCMD/shafts/{path.rsplit('/', 1)[1]}"
    double = wire.DataType.DOUBLE
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 20)
        host.command(topic, "Device Control/Quality Stop", 90.0, double)
        host.command(topic, "Device Control/Repair", True)
        alias = next(
            m.alias for t, p in host.of("DBIRTH") if t.endswith(topic.rsplit("/", 1)[1])
            for m in p.metrics if m.name == "Device Control/Quality Stop"
        )  # fmt: skip
        by_alias = wire.metric_bytes(alias=alias, value=wire.scalar(double, 30.0))
        assert host._client is not None
        host._client.publish(topic, wire.payload_bytes(1, [by_alias], None), qos=0)
        host.command(topic, "Device Control/Quality Stop", -1.0, double)
        for _ in range(2):
            host.command(topic, "press1_setpoint", 40.0, double)
        host.command(topic.replace("/sh1", "/nobody"), "Device Control/Repair", True)
        host.command(f"spBv1.0/{GROUP}/NCMD/shafts", "Node Control/Reboot", True)
        await until(lambda: edge.node.status().refused == 6)
    await host.leave()
    assert got == [QualityStop(path, 90.0), RepairUnit(path), QualityStop(path, 30.0)]
    assert edge.node.status().obeyed == 2
    assert caplog.text.count("press1_setpoint") == 1
    assert "Node Control/Reboot" in caplog.text
    assert "nobody/Device Control/Repair" in caplog.text
    assert "-1.0" in caplog.text
    assert "not now" in caplog.text


async def test_commands_over_sparkplug_are_part_of_the_day(broker: Broker, tmp_path: Path) -> None:
    plant, options = built_in().plant, {"opcua_port": 0, "control_port": 0}
    url = f"mqtt://127.0.0.1:{broker.port}"
    process = PlantProcess(
        plant, **options, mqtt_url=url, primary_host=HOST, journal=tmp_path, start_ns=MONDAY_NS
    )
    host, stop = Host(broker.port), asyncio.Event()
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(process.run(stop, ready.set_result))
    await host.connect()
    try:
        await ready
        await until(lambda: len(host.of("DBIRTH")) == 153)
        device = next(d for d in process.sim.devices if d.id == "st05")
        topic = f"spBv1.0/{GROUP}/DCMD/z1/st05"
        host.command(topic, "Device Control/Quality Stop", 3600.0, wire.DataType.DOUBLE)
        await until(lambda: process.sim.stop_reason[device.index] == StopReason.QUALITY_STOP)
        host.command(topic, "Device Control/Repair", True)
        await until(lambda: process.status()["commands"] == 2)
        assert process.sim.stop_reason[device.index] != StopReason.QUALITY_STOP
        told = BrainHost("sp", "local", Outbox("sp", "sparkplug", tmp_path, tmp_path), _no_command)
        for topic, payload in host.raw:
            told.message(topic, payload, MONDAY_NS)
        assert len(told.outbox.signals) == process.signals.count
        assert told.rejected == 0
    finally:
        stop.set()
        await task
        await host.leave()
    day = Journal(tmp_path).load(plant, 1, process._pace.wall_ns)
    assert day is not None
    assert [c for _, c in day.commands] == [
        QualityStop(device.path, 3600.0), RepairUnit(device.path),
    ]  # fmt: skip
    replay = PlantSim(plant, seed=1, start_ns=day.start_ns)
    for time_ns, command in day.commands:
        replay.advance(time_ns)
        replay.command(command)
    replay.advance(process.sim.now_ns)
    assert replay.fingerprint() == process.sim.fingerprint()


def _no_command(topic: str, payload: bytes) -> None:
    raise AssertionError(f"nothing was to be asked for: {topic}")


async def test_a_restart_does_not_use_a_birth_number_again(
    sim: PlantSim, broker: Broker, tmp_path: Path
) -> None:
    numbers: list[int] = []
    for _ in range(2):  # two lives of the process over one directory
        kept = BirthNumbers(tmp_path / "bdseq.json")
        host, edge = Host(broker.port), Edge(sim, broker.port, birth_numbers=kept)
        await host.connect()
        async with running(edge):
            await until(lambda host=host: bool(host.of("NBIRTH")))
        await until(lambda host=host: bool(host.of("NDEATH")))
        await host.leave()
        born, dead = host.of("NBIRTH")[-1][1], host.of("NDEATH")[-1][1]
        found = [m.value for p in (born, dead) for m in p.metrics if m.name == "bdSeq"]
        assert len(set(found)) == 1
        numbers.append(int(str(found[0])))
    assert numbers[1] == numbers[0] + 1


async def test_a_dead_host_loses_nothing(sim: PlantSim, broker: Broker) -> None:
    host, edge = Host(broker.port), Edge(sim, broker.port)
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 100)
        first = min(t for _, t in host.values())
        await host.die()
        before = len(host.messages)
        await asyncio.sleep(1.5)
        assert len(host.messages) == before
        await host.connect()
        await until(lambda: "NBIRTH" in [t.split("/")[2] for t, _ in host.messages[before:]])
        await until(lambda: edge.node.status().host_online is not False)
        await asyncio.sleep(1.0)
        last = edge.node._last_ms
        await asyncio.sleep(0.5)
    await host.leave()
    got, sent = host.values(), edge.sent()
    wanted = {k: v for k, v in sent.items() if first <= k[1] <= last}
    missing = {k for k in wanted if k not in got}
    assert not missing
    assert all(got[k] == v for k, v in wanted.items())
    later = [m for _, p in host.messages[before:] for m in p.metrics]
    assert {m.historical for m in later} == {True, False}
    away = [m for m in later if m.historical and m.time_ms < host.of("NBIRTH")[1][1].time_ms]
    assert away


async def test_a_killed_broker_loses_nothing(sim: PlantSim, broker: Broker) -> None:
    host, edge = Host(broker.port), Edge(sim, broker.port)
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 100)
        first = min(t for _, t in host.values())
        await broker.kill()
        await asyncio.sleep(0.5)
        await broker.start()
        await asyncio.sleep(0.5)
        assert not edge.node.status().born  # its host has not come back yet
        await host.connect()
        await until(lambda: len(host.of("NBIRTH")) == 2)
        await asyncio.sleep(1.0)
        last = edge.node._last_ms
        await asyncio.sleep(0.5)
    await host.leave()
    got, sent = host.values(), edge.sent()
    wanted = {k: v for k, v in sent.items() if first <= k[1] <= last}
    assert {k: got.get(k) for k in wanted} == wanted
    numbers = [m.value for _, p in host.of("NBIRTH") for m in p.metrics if m.name == "bdSeq"]
    assert len(set(numbers)) == 2


async def test_curves_come_with_their_serial(sim: PlantSim, broker: Broker) -> None:
    host, edge = Host(broker.port), Edge(sim, broker.port, host="")
    await host.connect()
    device = edge.row.devices[0]
    assert has_curves(sim.devices[device])
    angle, torque = np.linspace(0, 400, 200, dtype=np.float32), np.ones(200, np.float32)
    curve = Curve(
        serial="T-77",
        station=sim.devices[device].path,
        program="tightening",
        step=1,
        time_ns=MONDAY_NS + 5 * NS_PER_S,
        channels={"angle_deg": angle, "torque_nm": torque},
    )

    def curves() -> list[wire.Metric]:
        rows = [m for _, p in host.of("DDATA") for m in p.metrics]
        return [m for m in rows if isinstance(m.value, wire.DataSet)]

    edge.node.send_curve(device, curve)  # before the birth: kept, then sent as historical
    async with running(edge):
        await until(lambda: bool(curves()))
        edge.node.send_curve(device, curve)
        await until(lambda: any(not m.historical for m in curves()))
    await host.leave()
    got = next(m for m in curves() if m.properties["serial"] == "T-77")
    assert got.historical
    assert (got.properties["program"], got.properties["step"]) == ("tightening", 1)
    assert got.time_ms == curve.time_ns // NS_PER_MS
    assert isinstance(got.value, wire.DataSet)
    assert got.value.columns == ("angle_deg", "torque_nm")
    assert np.array_equal(np.array(got.value.rows, np.float32), np.column_stack((angle, torque)))


async def test_without_a_host_in_sight_data_flows_after_a_moment(
    sim: PlantSim, broker: Broker
) -> None:
    listener, edge = Host(broker.port), Edge(sim, broker.port, host="never-there")
    await listener.connect()
    async with running(edge):
        await asyncio.sleep(1.0)
        assert not listener.of("NBIRTH")
        await until(lambda: len(listener.of("DDATA")) > 10)
    await listener.leave()


async def test_the_embedded_broker_carries_an_edge_node(sim: PlantSim, tmp_path: Path) -> None:
    broker = Broker(tmp_path, embedded=True)
    await broker.start()
    host, edge = Host(broker.port), Edge(sim, broker.port)
    await host.connect()
    async with running(edge):
        await until(lambda: len(host.of("DDATA")) > 50)
    await host.leave()
    await broker.kill()
    assert len(host.of("DBIRTH")) == len(edge.row.devices)


def test_mosquitto_is_used_when_it_is_there(tmp_path: Path) -> None:
    command = mosquitto_command(port=12345, directory=tmp_path, program=Path("/opt/mosquitto"))
    assert command == ["/opt/mosquitto", "-c", str(tmp_path / "mosquitto.conf")]
    text = (tmp_path / "mosquitto.conf").read_text("utf-8")
    assert "listener 12345 127.0.0.1" in text
    assert (mosquitto_command(port=1, directory=tmp_path) is None) == (find_mosquitto() is None)


@pytest.mark.parametrize("url", ["127.0.0.1:1883", "http://x:1", "mqtt://", "mqtt://h:99999"])
def test_a_wrong_broker_address_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="broker address"):
        broker_address(url)
