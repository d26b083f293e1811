"""The Sparkplug host against a real broker and a small edge node written with protobuf."""

import asyncio
import json
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmqtt
import numpy as np
import pytest
from gmqtt.mqtt.constants import MQTTv311
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import collector, rejected
from workshop_brain.connect.choice import Override
from workshop_brain.connect.settings import SparkplugSettings
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

_F = descriptor_pb2.FieldDescriptorProto
INT64, DOUBLE, BOOLEAN, STRING, INT32, DATASET = 4, 10, 11, 12, 3, 16


def _schema() -> dict[str, Any]:
    """Classes of the public Sparkplug B schema, as far as used here."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")

    def message(name: str, *fields: tuple[str, int, int, bool, str]) -> None:
        out = file.message_type.add(name=name)
        for field_name, number, kind, repeated, of in fields:
            label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
            row = out.field.add(name=field_name, number=number, type=kind, label=label)
            if of:
                row.type_name = of

    values = [
        ("int_value", 10, _F.TYPE_UINT32, False, ""), ("long_value", 11, _F.TYPE_UINT64, False, ""),
        ("float_value", 12, _F.TYPE_FLOAT, False, ""),
        ("double_value", 13, _F.TYPE_DOUBLE, False, ""),
        ("boolean_value", 14, _F.TYPE_BOOL, False, ""),
        ("string_value", 15, _F.TYPE_STRING, False, ""),
    ]  # fmt: skip
    message(
        "PropertyValue",
        ("type", 1, _F.TYPE_UINT32, False, ""), ("double_value", 6, _F.TYPE_DOUBLE, False, ""),
        ("string_value", 8, _F.TYPE_STRING, False, ""),
    )  # fmt: skip
    message(
        "PropertySet",
        ("keys", 1, _F.TYPE_STRING, True, ""),
        ("values", 2, _F.TYPE_MESSAGE, True, ".t.PropertyValue"),
    )  # fmt: skip
    message("Cell", ("float_value", 3, _F.TYPE_FLOAT, False, ""))
    message("Row", ("elements", 1, _F.TYPE_MESSAGE, True, ".t.Cell"))
    message(
        "DataSet",
        ("num", 1, _F.TYPE_UINT64, False, ""), ("columns", 2, _F.TYPE_STRING, True, ""),
        ("types", 3, _F.TYPE_UINT32, True, ""), ("rows", 4, _F.TYPE_MESSAGE, True, ".t.Row"),
    )  # fmt: skip
    message(
        "Metric",
        ("name", 1, _F.TYPE_STRING, False, ""), ("alias", 2, _F.TYPE_UINT64, False, ""),
        ("timestamp", 3, _F.TYPE_UINT64, False, ""), ("datatype", 4, _F.TYPE_UINT32, False, ""),
        ("is_historical", 5, _F.TYPE_BOOL, False, ""), ("is_null", 7, _F.TYPE_BOOL, False, ""),
        ("properties", 9, _F.TYPE_MESSAGE, False, ".t.PropertySet"), *values,
        ("dataset", 17, _F.TYPE_MESSAGE, False, ".t.DataSet"),
    )  # fmt: skip
    message(
        "Payload",
        ("timestamp", 1, _F.TYPE_UINT64, False, ""),
        ("metrics", 2, _F.TYPE_MESSAGE, True, ".t.Metric"),
        ("seq", 3, _F.TYPE_UINT64, False, ""),
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{m.name}"))
        for m in file.message_type
    }


CLASSES = _schema()
START_MS = 1_780_000_000_000


@dataclass
class Edge:
    """One edge node with one device: a counter, a text, a state, a flag and a curve."""

    port: int
    node: str = "z1"
    seq: int = 0
    bd_seq: int = 0
    births: int = 0
    counter: int = 0
    client: Any = None
    states: list[dict[str, Any]] = field(default_factory=list)
    answers_rebirth: bool = True

    async def connect(self) -> None:
        will = gmqtt.Message(f"spBv1.0/works-assembly/NDEATH/{self.node}", self._death(), qos=1)
        self.client = gmqtt.Client(f"edge-{self.node}", will_message=will)
        self.client.on_message = self._message
        self.client.set_config({"reconnect_retries": -2})
        await self.client.connect("127.0.0.1", self.port, version=MQTTv311, keepalive=10)
        self.client.subscribe(f"spBv1.0/works-assembly/NCMD/{self.node}", qos=1)
        self.client.subscribe("spBv1.0/STATE/brain", qos=1)
        self.birth()

    def _death(self) -> bytes:
        payload = CLASSES["Payload"](timestamp=START_MS)
        payload.metrics.add(name="bdSeq", datatype=INT64, long_value=self.bd_seq)
        return bytes(payload.SerializeToString())

    def _message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        if "STATE" in topic:
            self.states.append(json.loads(payload))
        elif self.answers_rebirth:
            command = CLASSES["Payload"].FromString(payload)
            assert command.metrics[0].name == "Node Control/Rebirth"
            assert command.metrics[0].boolean_value
            self.birth()
        return 0

    def now_ms(self) -> int:
        return START_MS + self.counter

    def send(self, kind: str, payload: Any, device: str = "") -> None:
        payload.seq = self.seq
        payload.timestamp = self.now_ms()
        self.seq = (self.seq + 1) % 256
        topic = f"spBv1.0/works-assembly/{kind}/{self.node}" + (f"/{device}" if device else "")
        self.client.publish(topic, payload.SerializeToString(), qos=0)

    def birth(self) -> None:
        self.births += 1
        self.seq = 0
        node = CLASSES["Payload"]()
        node.metrics.add(name="bdSeq", datatype=INT64, long_value=self.bd_seq)
        node.metrics.add(name="Node Control/Rebirth", datatype=BOOLEAN, boolean_value=False)
        self.send("NBIRTH", node)
        device = CLASSES["Payload"]()
        for alias, (name, datatype) in enumerate(
            [("count", INT64), ("serial", STRING), ("state_current", INT32), ("offset", INT32),
             ("curve", DATASET), ("torque", DOUBLE)], 10
        ):  # fmt: skip
            metric = device.metrics.add(
                name=name, alias=alias, datatype=datatype, timestamp=self.now_ms()
            )
            metric.properties.keys.extend(["path", "engUnit", "engLow", "engHigh"])
            metric.properties.values.add(string_value=f"works/assembly/asm1/z1/op010/{name}")
            metric.properties.values.add(string_value="N.m" if name == "torque" else "")
            metric.properties.values.add(double_value=-5.0 if name == "torque" else 0.0)
            metric.properties.values.add(double_value=80.0 if name == "torque" else 0.0)
        device.metrics[0].long_value = self.counter
        device.metrics[1].string_value = "first"
        device.metrics[2].int_value = 4
        device.metrics[3].int_value = 2**32 - 7
        device.metrics[5].double_value = 1.5
        self.send("DBIRTH", device, "op010")

    def tick(self, *, historical: bool = False, drop: bool = False) -> None:
        self.counter += 1
        data = CLASSES["Payload"]()
        metric = data.metrics.add(alias=10, timestamp=self.now_ms(), long_value=self.counter)
        if historical:
            metric.is_historical = True
        if drop:
            self.seq = (self.seq + 1) % 256
        else:
            self.send("DDATA", data, "op010")

    def curve(self) -> None:
        data = CLASSES["Payload"]()
        metric = data.metrics.add(alias=14, timestamp=self.now_ms())
        metric.properties.keys.extend(["serial", "program", "step"])
        metric.properties.values.add(string_value="S-9")
        metric.properties.values.add(string_value="dct_a")
        metric.properties.values.add(double_value=2.0)
        table = metric.dataset
        table.num = 2
        table.columns.extend(["angle", "torque"])
        table.types.extend([9, 9])
        for k in range(40):
            row = table.rows.add()
            row.elements.add(float_value=k)
            row.elements.add(float_value=k * 0.5)
        self.send("DDATA", data, "op010")

    def die(self) -> None:
        self.client._connection._transport.abort()


@dataclass
class Kept:
    """A historian in memory, and what the callbacks heard."""

    signals: list[SignalDef] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    parts: list[Samples] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    last: dict[tuple[str, int], int] = field(default_factory=dict)

    def declare(self, signals: Sequence[SignalDef]) -> list[int]:
        known = {s.path: i for i, s in enumerate(self.signals)}
        for s in signals:
            was = self.kind(s.path) or s.kind  # as the historian refuses it
            assert (was is SignalKind.TEXT) == (s.kind is SignalKind.TEXT)
            if s.path not in known:
                known[s.path] = len(self.signals)
                self.signals.append(s)
        return [known[s.path] for s in signals]

    def kind(self, path: str) -> SignalKind | None:
        return next((s.kind for s in self.signals if s.path == path), None)

    def intern(self, texts: Sequence[str]) -> list[int]:
        self.words.extend(t for t in dict.fromkeys(texts) if t not in self.words)
        return [self.words.index(t) for t in texts]

    def append(self, samples: Samples, *, source: str, session: int, seq: int) -> int:
        self.last[source, session] = seq
        self.parts.append(samples)
        return len(self.parts)

    def sync(self) -> None:
        pass

    def last_seq(self, source: str, session: int) -> int:
        return self.last.get((source, session), 0)

    def on_curve(self, curve: Curve, *, source: str, session: int, seq: int) -> None:
        self.curves.append(curve)

    def rows(self, name: str) -> list[tuple[int, float, int]]:
        number = next((i for i, s in enumerate(self.signals) if s.name == name), -1)
        out: list[tuple[int, float, int]] = []
        for s in self.parts:
            hit = s.signal == number
            columns = (s.time_ns[hit].tolist(), s.value[hit].tolist(), s.quality[hit].tolist())
            out += list(zip(*columns, strict=True))
        return out

    def kinds(self) -> list[EventKind]:
        return [e.kind for e in self.events]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A private broker: mosquitto where there is one, else the embedded one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    process = start_broker(tmp_path, number)
    yield number
    process.kill()
    process.wait()


def start_broker(tmp_path: Path, number: int) -> subprocess.Popen[bytes]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is not None:
        config = tmp_path / "mosquitto.conf"
        config.write_text(f"listener {number} 127.0.0.1\nallow_anonymous true\n")
        command = [program, "-c", str(config)]
    else:
        module = "workshop_brain.connect.sparkplug.broker"
        code = f"from {module} import run_embedded; run_embedded({number})"
        command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", number), 0.5):
            return process
        time.sleep(0.05)
    raise AssertionError("the broker did not start")


@asynccontextmanager
async def collecting(tmp_path: Path, port: int, kept: Kept, **more: Any) -> AsyncIterator[Ingest]:
    address = tmp_path / "i.sock"
    ingest = Ingest(
        kept,
        address,
        on_samples=lambda s, r: None,
        on_curve=kept.on_curve,
        on_event=kept.events.append,
        kind=kept.kind,
    )
    await ingest.start()
    settings = SparkplugSettings(id="sp", url=f"mqtt://127.0.0.1:{port}", host_id="brain", **more)
    stop = asyncio.Event()
    task = asyncio.create_task(
        collector.run(
            settings,
            enterprise="local",
            socket_path=address,
            spool_dir=tmp_path / "spool" / "sp",
            stop=stop,
        )
    )
    try:
        await until(lambda: any(s.state == "up" for s in ingest.sources()))
        yield ingest
    finally:
        stop.set()
        await asyncio.wait_for(task, 5.0)
        await ingest.close()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_births_declare_and_alias_only_data_arrives_by_value(
    tmp_path: Path, port: int
) -> None:
    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("offset")))
        for _ in range(200):
            edge.tick()
        edge.curve()
        edge.curve()
        await until(lambda: len(kept.rows("count")) >= 201 and bool(kept.curves))
        torque = next(s for s in kept.signals if s.name == "torque")
        assert torque.path == "local/works/assembly/asm1/z1/op010/torque"
        assert (torque.unit, torque.low, torque.high) == ("N.m", -5.0, 80.0)
        assert {s.name: s.kind for s in kept.signals}["count"] is SignalKind.COUNTER
        assert [v for _, v, _ in kept.rows("count")] == list(range(201))
        assert [t for t, _, _ in kept.rows("count")][:2] == [
            START_MS * 10**6,
            (START_MS + 1) * 10**6,
        ]
        assert [v for _, v, _ in kept.rows("offset")] == [-7.0]
        assert kept.words[int(kept.rows("serial")[0][1])] == "first"
        assert not any(q for _, _, q in kept.rows("count"))
        await asyncio.sleep(0.1)
        assert len(kept.curves) == 1
        curve = kept.curves[0]
        assert (curve.serial, curve.program, curve.step) == ("S-9", "dct_a", 0)
        assert curve.station == "local/works/assembly/asm1/z1/op010"
        np.testing.assert_array_equal(curve.channels["torque"], np.arange(40) * 0.5)
        assert EventKind.GAP not in kept.kinds()
        await until(lambda: bool(edge.states))
        assert edge.states[-1]["online"] is True
    await until(lambda: edge.states[-1]["online"] is False)
    await edge.client.disconnect()


async def test_metrics_that_the_plant_file_leaves_out_cost_nothing_and_ask_for_nothing(
    tmp_path: Path, port: int
) -> None:
    kept, edge = Kept(), Edge(port)
    rows = (Override(match="*/op010/*orque", path="works/x/l/c/op010/*orque", unit="J"),)
    given = {"exclude": ("*/count", "*/serial", "*/curve"), "override": rows}
    async with collecting(tmp_path, port, kept, **given) as ingest:
        await edge.connect()
        await until(lambda: bool(kept.rows("offset")))
        for _ in range(50):
            edge.tick()
        edge.curve()
        data = CLASSES["Payload"]()
        data.metrics.add(name="count", timestamp=edge.now_ms(), long_value=5)
        data.metrics.add(name="torque", timestamp=edge.now_ms(), double_value=8.0)
        edge.send("DDATA", data, "op010")
        await until(lambda: len(kept.rows("torque")) == 2)
        assert ingest.sources()[0].rejected == 0
    assert {s.path for s in kept.signals} == {
        "local/works/assembly/asm1/z1/op010/state_current",
        "local/works/assembly/asm1/z1/op010/offset",
        "local/works/x/l/c/op010/torque",
    }
    assert [s.unit for s in kept.signals if s.name == "torque"] == ["J"]
    assert kept.curves == []
    assert edge.births == 1
    assert EventKind.GAP not in kept.kinds()
    await edge.client.disconnect()


async def test_a_sequence_gap_is_marked_and_asks_for_one_rebirth(tmp_path: Path, port: int) -> None:
    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        edge.tick()
        edge.tick(drop=True)
        edge.tick()
        edge.tick()
        await until(lambda: edge.births == 2)
        await until(lambda: len(kept.rows("count")) >= 5)
        marked = [v for _, v, q in kept.rows("count") if q & Quality.GAP_BEFORE]
        assert marked == [3.0]
        gap = next(e for e in kept.events if e.kind is EventKind.GAP)
        assert gap.payload["count"] == 1
        assert gap.path == "sp"
        assert gap.payload["lines"] == ["asm1"]
        await asyncio.sleep(0.2)
        assert edge.births == 2
    await edge.client.disconnect()


async def test_a_node_that_was_born_before_the_host_is_asked_for_its_births(
    tmp_path: Path, port: int
) -> None:
    kept, edge = Kept(), Edge(port)
    await edge.connect()
    async with collecting(tmp_path, port, kept):
        await until(lambda: bool(edge.states))
        edge.tick()
        await until(lambda: edge.births == 2)
        edge.tick(historical=True)
        await until(lambda: len(kept.rows("count")) == 2)
        assert kept.rows("count")[-1][2] == Quality.HISTORICAL
    await edge.client.disconnect()


async def test_a_dead_node_turns_its_signals_bad_and_its_birth_brings_them_back(
    tmp_path: Path, port: int
) -> None:
    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        edge.tick()
        await until(lambda: len(kept.rows("count")) == 2)
        edge.die()
        await until(lambda: EventKind.DEATH in kept.kinds())
        assert kept.rows("count")[-1][1:] == (1.0, Quality.BAD)
        death = next(e for e in kept.events if e.kind is EventKind.DEATH)
        assert (death.payload["source"], death.payload["lines"]) == ("sp", ["asm1"])
        edge.bd_seq += 1
        await edge.connect()
        await until(lambda: kept.kinds().count(EventKind.BIRTH) == 2)
        await until(lambda: kept.rows("count")[-1][2] == Quality.GAP_BEFORE)
    await edge.client.disconnect()


async def test_garbage_on_the_topic_is_survived(tmp_path: Path, port: int) -> None:
    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        edge.client.publish("spBv1.0/works-assembly/DDATA/z1/op010", b"\xff" * 40, qos=0)
        edge.client.publish("spBv1.0/works-assembly/NBIRTH/z9", b"\x12\x7f", qos=0)
        edge.client.publish("spBv1.0/x", b"", qos=0)
        await until(lambda: edge.births == 2)
        edge.tick()
        await until(lambda: kept.rows("count")[-1][1] == 1.0)
    await edge.client.disconnect()
    left_out = next(rejected.kept(tmp_path))
    assert left_out.causes == {"unreadable": 2}
    found = {s.where: (left_out.folder / s.file).read_bytes() for s in left_out.samples}
    topic = "spBv1.0/works-assembly"
    assert found == {f"{topic}/NBIRTH/z9": b"\x12\x7f", f"{topic}/DDATA/z1/op010": b"\xff" * 40}


async def test_a_number_that_becomes_a_text_goes_on_beside_its_numbers(
    tmp_path: Path, port: int
) -> None:
    kept, edge = Kept(), Edge(port)

    def born_anew(datatype: int) -> Any:
        edge.seq = 0
        node, device = CLASSES["Payload"](), CLASSES["Payload"]()
        node.metrics.add(name="bdSeq", datatype=INT64, long_value=edge.bd_seq)
        edge.send("NBIRTH", node)
        for alias, name, kind in ((10, "count", INT64), (15, "torque", datatype)):
            path = f"works/assembly/asm1/z1/op010/{name}"
            metric = device.metrics.add(name=name, alias=alias, datatype=kind)
            metric.properties.keys.append("path")
            metric.properties.values.add(string_value=path)
        device.metrics[0].long_value = 100
        device.metrics[1].string_value = "slipped"
        edge.send("DBIRTH", device, "op010")

    async with collecting(tmp_path, port, kept) as ingest:
        await edge.connect()
        await until(lambda: bool(kept.rows("torque")))
        born_anew(STRING)
        await until(lambda: bool(kept.rows("torque_text")))
        assert kept.words[int(kept.rows("torque_text")[0][1])] == "slipped"
        edge.counter = 100
        edge.tick()
        await until(lambda: kept.rows("count")[-1][1] == 101.0)
        assert [v for _, v, _ in kept.rows("torque")] == [1.5]
        assert ingest.sources()[0].state == "up"
    await edge.client.disconnect()


async def test_a_birth_with_mad_numbers_costs_nothing(tmp_path: Path, port: int) -> None:
    mad = b"\xff" * 9 + b"\x01"  # 2**64 - 1
    alias = b"\x80\x80\x80\x80\x02"  # 2**29
    curve = b"\x0a\x05curve\x10" + alias + b"\x20\x10"
    gauge = b"\x0a\x01g\x18" + mad + b"\x20\x0a\x69" + bytes(8)
    metrics = b"".join(b"\x12" + bytes([len(m)]) + m for m in (curve, gauge))
    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        edge.client.publish(
            "spBv1.0/works-assembly/NBIRTH/z9", b"\x08" + mad + metrics + b"\x18\x00", qos=0
        )
        await until(lambda: kept.kinds().count(EventKind.BIRTH) == 2)
        await until(lambda: bool(kept.rows("g")))
        edge.tick()
        await until(lambda: kept.rows("count")[-1][1] == 1.0)
        assert all(0 < e.time_ns < 1 << 63 for e in kept.events)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    await edge.client.disconnect()


async def test_a_node_that_hangs_is_reported_and_one_that_has_nothing_to_say_is_not(
    tmp_path: Path, port: int
) -> None:
    kept, frozen, quiet = Kept(), Edge(port, "z1"), Edge(port, "z2")
    async with collecting(tmp_path, port, kept):
        for edge in (frozen, quiet):
            await edge.connect()
        await until(lambda: len(kept.rows("count")) == 2)
        for _ in range(25):
            for edge in (frozen, quiet):
                edge.tick()
            await asyncio.sleep(0.25)
        frozen.answers_rebirth = False
        stopped = time.monotonic()
        await until(lambda: EventKind.DEATH in kept.kinds(), 5.0)
        assert time.monotonic() - stopped < 2.0
        death = next(e for e in kept.events if e.kind is EventKind.DEATH)
        assert (death.path, death.payload["lines"]) == ("works-assembly/z1", ["asm1"])
        assert death.payload["silent_s"] >= 1.5
        await asyncio.sleep(2.0)
        assert kept.kinds().count(EventKind.DEATH) == 1
        assert quiet.births >= 2
        births = kept.kinds().count(EventKind.BIRTH)
        frozen.tick()
        await until(lambda: kept.kinds().count(EventKind.BIRTH) > births)
        back = [e for e in kept.events if e.path == "works-assembly/z1"][-1]
        assert (back.kind, back.payload["silent_s"] > 3.0) == (EventKind.BIRTH, True)
        assert not any(q for _, _, q in kept.rows("count"))
        assert EventKind.GAP not in kept.kinds()
    for edge in (frozen, quiet):
        await edge.client.disconnect()


async def test_what_breaks_the_reading_of_a_message_is_counted_and_survived(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from workshop_brain.connect.sparkplug import host

    def broken(*_: object) -> None:
        raise IndexError("no such row")

    kept, edge = Kept(), Edge(port)
    async with collecting(tmp_path, port, kept) as ingest:
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        with monkeypatch.context() as patch:
            patch.setattr(host.Host, "_device_death", broken)
            for _ in range(3):
                edge.send("DDEATH", CLASSES["Payload"](), "op010")
            await until(lambda: ingest.sources()[0].rejected == 3)
        lines = [r.getMessage() for r in caplog.records if "no such row" in r.getMessage()]
        assert len(lines) == 1
        assert "DDEATH/z1/op010" in lines[0]
        edge.tick()
        await until(lambda: kept.rows("count")[-1][1] == 1.0)
    await edge.client.disconnect()


async def test_the_broker_may_die_and_return(tmp_path: Path, port: int) -> None:
    kept, edge = Kept(), Edge(port)
    own = tmp_path / "own"
    own.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    edge.port = number
    broker = start_broker(own, number)
    async with collecting(tmp_path, number, kept) as ingest:
        await edge.connect()
        await until(lambda: bool(kept.rows("count")))
        broker.kill()
        broker.wait()
        await until(lambda: ingest.sources()[0].state == "lost", 2.0)
        broker = start_broker(own, number)
        await until(lambda: ingest.sources()[0].state == "up")
        edge.bd_seq += 1
        await edge.connect()
        await until(lambda: kept.kinds().count(EventKind.BIRTH) == 2)
    await edge.client.disconnect()
    broker.kill()
    broker.wait()


async def test_a_killed_host_goes_offline_by_its_will(tmp_path: Path, port: int) -> None:
    edge = Edge(port)
    await edge.connect()
    source = json.dumps({"id": "sp", "url": f"mqtt://127.0.0.1:{port}", "host_id": "brain"})
    code = (
        "import asyncio, json, sys; from pathlib import Path;"
        "from workshop_brain.connect import collector;"
        "from workshop_brain.connect.settings import SparkplugSettings;"
        f"asyncio.run(collector.run(SparkplugSettings(**json.loads({source!r})),"
        f"enterprise='local', socket_path={str(tmp_path / 'i.sock')!r},"
        f"spool_dir=Path({str(tmp_path / 'spool' / 'sp')!r})))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE
    )
    await until(lambda: bool(edge.states) and edge.states[-1]["online"], 15.0)
    process.kill()
    await until(lambda: not edge.states[-1]["online"])
    await process.wait()
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE
    )
    await until(lambda: bool(edge.states[-1]["online"]), 15.0)
    assert second.stdin is not None
    second.stdin.close()
    await asyncio.wait_for(second.wait(), 5.0)
    await until(lambda: not edge.states[-1]["online"])
    await edge.client.disconnect()
