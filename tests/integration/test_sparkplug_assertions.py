"""The assertions of the Sparkplug 3.0 specification, read from the packets themselves.

A tap between a client and a real broker notes every MQTT 3.1.1 packet in the order in which it went
over the line. Which assertion is covered by which test stands in
docs/reference/sparkplug-assertions.md.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_connect_sparkplug import CLASSES, INT64, Kept, collecting, until
from tests.integration.test_connect_sparkplug import Edge as SmallEdge
from tests.integration.test_twin_sparkplug import (
    GROUP,
    HOST,
    MONDAY_NS,
    Broker,
    Edge,
    Host,
    running,
)

from workshop_brain.config import built_in
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality
from workshop_brain.twin import sparkplug_wire as wire
from workshop_brain.twin.sim import PlantSim

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14
STATE = "spBv1.0/STATE/brain"


@dataclass(frozen=True)
class Packet:
    """One packet of a client; of a CONNECT the fields are those of its will."""

    kind: int
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    clean: bool = False

    def json(self) -> dict[str, Any]:
        out: dict[str, Any] = json.loads(self.payload)
        return out


@dataclass
class Tap:
    """Passes bytes between one client and the broker, and notes what the client sends."""

    broker: int
    packets: list[Packet] = field(default_factory=list)
    wires: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.broker)
        self.wires += [writer, forth]
        with contextlib.suppress(OSError):
            await asyncio.gather(self.note(reader, forth), self.carry(back, writer))

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        while data := await reader.read(65536):
            writer.write(data)
            rest += data
            while (cut := _whole(rest)) is not None:
                self.packets += _read(rest[0], cut[0])
                rest = rest[cut[1] :]
        writer.close()

    def cut(self) -> None:
        for writer in self.wires:
            writer.transport.abort()
        self.wires.clear()

    def of(self, kind: int, part: str = "") -> list[Packet]:
        return [p for p in self.packets if p.kind == kind and part in p.topic]


def _whole(data: bytes) -> tuple[bytes, int] | None:
    """(body, size of the packet) when a packet is whole."""
    size = 0
    for k in range(1, min(len(data), 5)):
        size |= (data[k] & 0x7F) << 7 * (k - 1)
        if data[k] < 0x80:
            end = k + 1 + size
            return (data[k + 1 : end], end) if len(data) >= end else None
    return None


def _read(head: int, body: bytes) -> Iterator[Packet]:
    def text(at: int) -> tuple[bytes, int]:
        size = int.from_bytes(body[at : at + 2], "big")
        return body[at + 2 : at + 2 + size], at + 2 + size

    kind = head >> 4
    if kind == CONNECT:
        _, at = text(0)
        flags = body[at + 1]
        _, at = text(at + 4)
        topic, payload = b"", b""
        if flags & 4:
            topic, at = text(at)
            payload, at = text(at)
        yield Packet(
            kind, topic.decode(), payload, flags >> 3 & 3, bool(flags & 32), bool(flags & 2)
        )
    elif kind == PUBLISH:
        topic, at = text(0)
        qos = head >> 1 & 3
        yield Packet(kind, topic.decode(), body[at + 2 * (qos > 0) :], qos, bool(head & 1))
    elif kind == SUBSCRIBE:
        at = 2
        while at < len(body):
            topic, at = text(at)
            yield Packet(kind, topic.decode(), b"", body[at])
            at += 1
    else:
        yield from [Packet(kind)] if kind == DISCONNECT else []


@asynccontextmanager
async def tapped(broker: int) -> AsyncIterator[Tap]:
    tap = Tap(broker)
    server = await asyncio.start_server(tap.link, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    async with server:
        yield tap
        tap.cut()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    private = Broker(tmp_path)
    await private.start()
    yield private
    await private.kill()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def check_session(packets: list[Packet], begun_ms: int) -> None:
    """One session of the host: will, subscriptions, birth, in this order and with these flags."""
    connect, states = packets[0], [p for p in packets if p.kind == PUBLISH and p.topic == STATE]
    assert connect.kind == CONNECT
    assert connect.clean
    assert (connect.topic, connect.qos, connect.retain) == (STATE, 1, True)
    will = connect.json()
    assert will == {"online": False, "timestamp": will["timestamp"]}
    assert begun_ms <= will["timestamp"] <= now_ms()
    topics = [p.topic for p in packets if p.kind == SUBSCRIBE]
    assert topics == [STATE, "spBv1.0/+/#"]
    published = [p for p in packets if p.kind == PUBLISH]
    assert published[0] is states[0]
    assert packets.index(states[0]) > max(packets.index(p) for p in packets if p.kind == SUBSCRIBE)
    assert all((p.qos, p.retain) == (1, True) for p in states)
    assert states[0].json() == {"online": True, "timestamp": will["timestamp"]}


async def test_the_host_says_that_it_is_there_and_when_it_goes(
    tmp_path: Path, broker: Broker
) -> None:
    kept, begun = Kept(), now_ms()
    async with tapped(broker.port) as tap:
        async with collecting(tmp_path, tap.port, kept) as ingest:
            await until(lambda: bool(tap.of(PUBLISH, "STATE")))
            check_session(tap.packets, begun)
            first = len(tap.packets)
            tap.cut()  # the broker tells the will; a new session has a new time
            await until(lambda: any(p.kind == CONNECT for p in tap.packets[first:]))
            await until(lambda: any(s.state == "up" for s in ingest.sources()))
            second = tap.packets[first:]
            check_session(second, tap.packets[0].json()["timestamp"] + 1)
            await asyncio.sleep(0.05)
            stopped = now_ms()
        await until(lambda: bool(tap.of(DISCONNECT)))
    last = tap.packets[-2]
    assert [p.kind for p in tap.packets[-2:]] == [PUBLISH, DISCONNECT]
    assert (last.topic, last.qos, last.retain) == (STATE, 1, True)
    assert last.json() == {"online": False, "timestamp": last.json()["timestamp"]}
    assert stopped <= last.json()["timestamp"] <= now_ms()


async def test_the_host_answers_a_death_that_it_did_not_die(tmp_path: Path, broker: Broker) -> None:
    kept, edge = Kept(), SmallEdge(broker.port)
    await edge.connect()
    async with tapped(broker.port) as tap, collecting(tmp_path, tap.port, kept):
        await until(lambda: len(edge.states) == 1)
        own = tap.of(CONNECT)[0].json()["timestamp"]
        edge.client.publish(STATE, json.dumps({"online": False, "timestamp": own - 5}), qos=1)
        await until(lambda: len(edge.states) == 3)
        assert edge.states[-1] == {"online": True, "timestamp": own}
        assert len(tap.of(CONNECT)) == 1
        # A death of a later time would hide our births from edge nodes.
        late = own + 60_000
        edge.client.publish(STATE, json.dumps({"online": False, "timestamp": late}), qos=1)
        await until(lambda: len(tap.of(CONNECT)) == 2)
        await until(lambda: edge.states[-1] == {"online": True, "timestamp": late + 1})
        assert tap.of(CONNECT)[1].json() == {"online": False, "timestamp": late + 1}
    await edge.client.disconnect()


async def test_a_request_for_rebirth_is_a_command_of_the_specified_form(
    tmp_path: Path, broker: Broker
) -> None:
    kept, edge = Kept(), SmallEdge(broker.port)
    await edge.connect()
    async with tapped(broker.port) as tap, collecting(tmp_path, tap.port, kept):
        edge.tick()
        await until(lambda: edge.births == 2)
    (request,) = tap.of(PUBLISH, "NCMD")
    assert request.topic == "spBv1.0/works-assembly/NCMD/z1"
    assert (request.qos, request.retain) == (0, False)
    command = wire.decode(request.payload)
    assert command.seq is None
    assert abs(command.time_ms - now_ms()) < 60_000
    (metric,) = command.metrics
    assert (metric.name, metric.value, metric.datatype) == ("Node Control/Rebirth", True, 11)
    await edge.client.disconnect()


async def test_deaths_make_stale_at_the_time_that_is_specified(
    tmp_path: Path, broker: Broker
) -> None:
    kept, edge = Kept(), SmallEdge(broker.port)
    edge.now_ms = now_ms  # type: ignore[method-assign]
    async with collecting(tmp_path, broker.port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("torque")))
        death = CLASSES["Payload"]()
        edge.send("DDEATH", death, "op010")
        await until(lambda: len(kept.rows("torque")) == 2)
        at_ns, _, quality = kept.rows("torque")[-1]
        assert quality & Quality.BAD
        assert at_ns == death.timestamp * 1_000_000
        device = next(e for e in kept.events if e.kind is EventKind.DEATH)
        assert (device.path, device.time_ns) == ("works-assembly/z1/op010", at_ns)
        edge.birth()
        await until(lambda: len(kept.rows("torque")) == 3)
        await asyncio.sleep(0.05)
        died_ns = time.time_ns()
        edge.die()
        await until(lambda: len(kept.rows("torque")) == 4)
        at_ns, _, quality = kept.rows("torque")[-1]
        assert quality & Quality.BAD
        assert died_ns <= at_ns <= time.time_ns()
        assert kept.rows("count")[-1][0] == at_ns
        assert kept.kinds().count(EventKind.DEATH) == 2


async def test_a_death_of_an_earlier_session_is_not_taken(tmp_path: Path, broker: Broker) -> None:
    kept, edge = Kept(), SmallEdge(broker.port, bd_seq=4)
    async with collecting(tmp_path, broker.port, kept):
        await edge.connect()
        await until(lambda: bool(kept.rows("torque")))
        old = CLASSES["Payload"](timestamp=edge.now_ms())
        old.metrics.add(name="bdSeq", datatype=INT64, long_value=3)
        topic = "spBv1.0/works-assembly/NDEATH/z1"
        edge.client.publish(topic, old.SerializeToString(), qos=1)
        edge.tick()
        await until(lambda: kept.rows("count")[-1][1] == 1.0)
        assert EventKind.DEATH not in kept.kinds()
        assert not any(q for _, _, q in kept.rows("count"))
    await edge.client.disconnect()


@pytest.fixture(scope="module")
def sim() -> PlantSim:
    return PlantSim(built_in().plant, seed=7, start_ns=MONDAY_NS)


async def test_an_edge_node_of_the_plant_keeps_to_the_specification(
    sim: PlantSim, broker: Broker
) -> None:
    host = Host(broker.port)
    async with tapped(broker.port) as tap:
        edge = Edge(sim, tap.port)
        async with running(edge):
            await until(lambda: len(tap.of(SUBSCRIBE)) == 3)
            await asyncio.sleep(0.3)
            assert not tap.of(PUBLISH)  # it waits for its host
            await host.connect()
            await until(lambda: len(tap.of(PUBLISH, "DDATA")) > 50)
            births = len(tap.of(PUBLISH, "DBIRTH"))
            host.command(f"spBv1.0/{GROUP}/NCMD/shafts", "Node Control/Rebirth", True)
            await until(lambda: len(tap.of(PUBLISH, "DBIRTH")) == 2 * births)
            await until(lambda: tap.packets[-1].topic.split("/")[2] == "DDATA")
            older = json.dumps({"online": False, "timestamp": host.stamp - 1})
            assert host._client is not None
            host._client.publish(f"spBv1.0/STATE/{HOST}", older, qos=1, retain=True)
            await asyncio.sleep(0.2)
            assert not tap.of(PUBLISH, "NDEATH")
            offline = json.dumps({"online": False, "timestamp": host.stamp + 1})
            host._client.publish(f"spBv1.0/STATE/{HOST}", offline, qos=1, retain=True)
            await until(lambda: len(tap.of(CONNECT)) == 2)
            await until(lambda: len(tap.of(SUBSCRIBE)) == 6)
        await host.leave()
    first = tap.packets[: tap.packets.index(tap.of(CONNECT)[1])]
    check_edge_session(first, bd_seq=0)
    assert [p.kind for p in first[-2:]] == [PUBLISH, DISCONNECT]
    assert first[-2].topic == f"spBv1.0/{GROUP}/NDEATH/shafts"
    again = tap.of(CONNECT)[1]
    assert [m.value for m in wire.decode(again.payload).metrics] == [1]
    assert not [p for p in tap.packets[len(first) :] if p.kind == PUBLISH]


def check_edge_session(packets: list[Packet], *, bd_seq: int) -> None:
    connect = packets[0]
    assert (connect.kind, connect.clean) == (CONNECT, True)
    assert (connect.topic, connect.qos, connect.retain) == (
        f"spBv1.0/{GROUP}/NDEATH/shafts", 1, False
    )  # fmt: skip
    will = wire.decode(connect.payload)
    assert will.seq is None
    assert [(m.name, m.datatype, m.value) for m in will.metrics] == [("bdSeq", INT64, bd_seq)]
    subscribed = [(p.topic, p.qos) for p in packets if p.kind == SUBSCRIBE]
    assert subscribed == [
        (f"spBv1.0/{GROUP}/NCMD/shafts", 1), (f"spBv1.0/{GROUP}/DCMD/shafts/+", 1),
        (f"spBv1.0/STATE/{HOST}", 1),
    ]  # fmt: skip
    sent = [(p, wire.decode(p.payload)) for p in packets if p.kind == PUBLISH]
    kinds = [p.topic.split("/")[2] for p, _ in sent]
    births = kinds.count("DBIRTH") // 2
    assert kinds[: births + 1] == ["NBIRTH", *["DBIRTH"] * births]
    second = kinds.index("NBIRTH", 1)
    assert kinds[second : second + births + 1] == ["NBIRTH", *["DBIRTH"] * births]
    assert set(kinds[births + 1 : second] + kinds[second + births + 1 : -1]) == {"DDATA"}
    aliases: dict[int, str] = {}
    for packet, payload in sent:
        assert (packet.qos, packet.retain) == (0, False)
        parts = packet.topic.split("/")
        assert parts[:2] == ["spBv1.0", GROUP]
        assert len(parts) == (4 if parts[2].startswith("N") else 5)
        assert payload.time_ms > 0
        check_payload(parts, payload, aliases, bd_seq)
    numbered = [p.seq for q, p in sent if "NDEATH" not in q.topic]
    for (_, a), (q, b) in itertools.pairwise(sent[:-1]):
        assert b.seq == (0 if "NBIRTH" in q.topic else ((a.seq or 0) + 1) % 256)
    assert None not in numbered


def check_payload(
    parts: list[str], payload: wire.Payload, aliases: dict[int, str], bd_seq: int
) -> None:
    if parts[2] == "NDEATH":
        assert payload.seq is None
        assert [(m.name, m.value) for m in payload.metrics] == [("bdSeq", bd_seq)]
        return
    assert all(m.time_ms > 0 for m in payload.metrics)
    if parts[2] == "NBIRTH":
        told = [(m.name, m.datatype, m.value, m.alias) for m in payload.metrics]
        rebirth = ("Node Control/Rebirth", wire.DataType.BOOLEAN, False, None)
        assert told == [("bdSeq", INT64, bd_seq, None), rebirth]
    elif parts[2] == "DBIRTH":
        for metric in payload.metrics:
            assert metric.name
            assert metric.datatype
            assert metric.alias is not None
            assert metric.value is not None
            assert aliases.setdefault(metric.alias, f"{parts[4]}/{metric.name}") == (
                f"{parts[4]}/{metric.name}"
            )
        assert len({m.name.lower() for m in payload.metrics}) == len(payload.metrics)
    else:
        assert all(not m.name and not m.datatype for m in payload.metrics)
        assert all(aliases[m.alias or 0].startswith(f"{parts[4]}/") for m in payload.metrics)
        live = [m.time_ms for m in payload.metrics if not m.historical]
        assert live == sorted(live)
