"""MTConnect through a real HTTP server that keeps a buffer of observations, as an agent does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import collector, rejected
from workshop_brain.connect.mtconnect.settings import MtconnectSettings
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality
from workshop_brain.store.historian import Historian

NS = "urn:mtconnect.org:MTConnect{}:2.0"
ITEMS = (("x", "Samples", "Position"), ("exec", "Events", "Execution"), ("n", "Events", "Count"))
PROBE = """<Devices><Device id="d" name="Mill 1" uuid="u">
<DataItems><DataItem id="exec" name="exec" category="EVENT" type="EXECUTION"/>
<DataItem id="n" name="n" category="EVENT" type="PART_COUNT"/></DataItems>
<Components><Axes id="a"><Components><Linear id="ax" name="X"><DataItems>
<DataItem id="x" name="Xpos" category="SAMPLE" type="POSITION" subType="ACTUAL" units="MILLIMETER"/>
<DataItem id="load" category="CONDITION" type="LOAD"/>
</DataItems></Linear></Components></Axes></Components></Device></Devices>"""
ROOT = "local/works/_/_/_/mill_1/"
PATHS = {"x": ROOT + "a_x_xpos", "exec": ROOT + "exec", "n": ROOT + "n"}


@dataclass
class AgentServer:
    """Serves probe, current and sample from a bounded buffer, streaming unless told otherwise."""

    port: int = 0
    instance: int = 1
    size: int = 1000
    streams: bool = True
    first: int = 1
    rows: list[tuple[int, str, str]] = field(default_factory=list)
    poison: int = 0
    """No document with this sequence number is XML."""
    broken: list[bytes] = field(default_factory=list)
    _server: Any = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> "AgentServer":
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    def add(self, id: str, text: str) -> None:
        self.rows.append((self.next, id, text))
        if len(self.rows) > self.size:
            del self.rows[0]
            self.first = self.rows[0][0]

    @property
    def next(self) -> int:
        return self.rows[-1][0] + 1 if self.rows else self.first

    def document(self, rows: list[tuple[int, str, str]], next: int) -> bytes:
        blocks = []
        for sequence, id, text in rows:
            _, block, tag = next_item(id)
            stamp = f"2026-03-01T00:{sequence // 60 % 60:02d}:{sequence % 60:02d}.5Z"
            head = f'dataItemId="{id}" timestamp="{stamp}" sequence="{sequence}"'
            blocks.append(f"<{block}><{tag} {head}>{text}</{tag}></{block}>")
        inner = f"<ComponentStream>{''.join(blocks)}</ComponentStream>"
        streams = f"<Streams><DeviceStream>{inner}</DeviceStream></Streams>"
        return self.whole("Streams", streams, next)

    def whole(self, kind: str, body: str, next: int = 0) -> bytes:
        head = f'<Header instanceId="{self.instance}" nextSequence="{next}"'
        head += f' firstSequence="{self.first}"/>'
        text = f'<MTConnect{kind} xmlns="{NS.format(kind)}">{head}{body}</MTConnect{kind}>'
        return b'<?xml version="1.0" encoding="UTF-8"?>' + text.encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while request := await reader.readuntil(b"\r\n\r\n"):
                    target = urlsplit(request.split(b" ")[1].decode())
                    await self._answer(writer, target.path, parse_qs(target.query))
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, path: str, query: dict[str, Any]) -> None:
        if path == "/probe":
            body = self.whole("Devices", PROBE)
        elif path == "/current":
            last = {id: (n, id, text) for n, id, text in self.rows}
            body = self.document(sorted(last.values()), self.next)
        else:
            at, count = int(query["from"][0]), int(query["count"][0])
            if not self.first <= at <= self.next:
                errors = '<Errors><Error errorCode="OUT_OF_RANGE">from</Error></Errors>'
                body = self.whole("Error", errors)
            elif self.streams:
                await self._multipart(writer, at, count)
                return
            else:
                body = self.part(at, count)[0]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    def part(self, at: int, count: int) -> tuple[bytes, int]:
        rows = [row for row in self.rows if row[0] >= at][:count]
        end = rows[-1][0] + 1 if rows else max(at, self.next)
        if any(row[0] == self.poison for row in rows):
            return b"<not xml", end
        return self.document(rows, end), end

    async def _multipart(self, writer: asyncio.StreamWriter, at: int, count: int) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b0\r\n\r\n"
        )
        sent = False
        while True:
            if at < self.next or not sent or self.broken:
                body, at = (self.broken.pop(), at) if self.broken else self.part(at, count)
                writer.write(b"--b0\r\nContent-type: text/xml\r\n")
                writer.write(f"Content-length: {len(body)}\r\n\r\n".encode() + body + b"\r\n")
                await writer.drain()
                sent = True
            await asyncio.sleep(0.02)


def next_item(id: str) -> tuple[str, str, str]:
    return next(item for item in ITEMS if item[0] == id)


class Plant:
    """Ingest with the history behind it."""

    def __init__(self, data: Path) -> None:
        self.historian = Historian(data / "historian")
        self.events: list[Event] = []
        self.ingest = Ingest(
            self.historian, data / "i.sock", on_samples=lambda s, ns: None,
            on_curve=self.historian.append_curve, on_event=self.events.append,
        )  # fmt: skip

    def rows(self, id: str) -> list[dict[str, Any]]:
        if PATHS[id] not in {s.path for s in self.historian.signals()}:
            return []
        found: list[dict[str, Any]] = self.historian.query([PATHS[id]], 0, 2**62).to_pylist()
        return found

    def counts(self) -> list[float]:
        return [r["value"] for r in self.rows("n")]

    def gaps(self) -> list[dict[str, Any]]:
        return [dict(e.payload) for e in self.events if e.kind is EventKind.GAP]


@asynccontextmanager
async def following(data: Path, port: int) -> AsyncIterator[Plant]:
    plant = Plant(data)
    await plant.ingest.start()
    stop = asyncio.Event()
    settings = MtconnectSettings(
        id="cnc", url=f"http://127.0.0.1:{port}", root="works", interval_ms=20
    )
    task = asyncio.create_task(
        collector.run(
            settings, enterprise="local", socket_path=data / "i.sock",
            spool_dir=data / "spool" / "cnc", pki_dir=data, stop=stop,
        )
    )  # fmt: skip
    try:
        yield plant
    finally:
        stop.set()
        await task
        await plant.ingest.close()
        plant.historian.close()


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if is_so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("did not come")


async def test_nothing_is_lost_or_twice_over_a_restart_of_the_collector(tmp_path: Path) -> None:
    async with AgentServer() as agent:
        await over_a_restart(agent, tmp_path)


async def over_a_restart(agent: AgentServer, tmp_path: Path) -> None:
    for id, text in (("x", "1.25"), ("exec", "ACTIVE"), ("n", "0"), ("x", "UNAVAILABLE")):
        agent.add(id, text)
    async with following(tmp_path, agent.port) as plant:
        await until(lambda: bool(plant.counts()))
        for k in range(1, 6):
            agent.add("n", str(k))
        await until(lambda: len(plant.counts()) == 6)
        assert [r["quality"] & 3 for r in plant.rows("x")] == [Quality.BAD]
        assert plant.rows("exec")[0]["text"] == "ACTIVE"
        signal = next(s for s in plant.historian.signals() if s.path == PATHS["x"])
        assert (signal.unit, signal.address, signal.source) == ("MILLIMETER", "x", "cnc")
        agent.broken.append(b"<not xml")
        agent.add("n", "6")
        await until(lambda: len(plant.counts()) == 7)
        await until(lambda: plant.ingest.sources()[0].rejected == 1)
    for k in range(7, 12):
        agent.add("n", str(k))
    async with following(tmp_path, agent.port) as plant:
        await until(lambda: len(plant.counts()) == 12)
        assert plant.counts() == [float(k) for k in range(12)]
        assert plant.gaps() == []
        assert not any(r["quality"] & Quality.GAP_BEFORE for r in plant.rows("n"))


async def test_what_fell_out_of_the_buffer_and_a_restart_are_gaps(tmp_path: Path) -> None:
    async with AgentServer(size=5) as agent:
        await with_gaps(agent, tmp_path)


async def with_gaps(agent: AgentServer, tmp_path: Path) -> None:
    agent.add("n", "0")
    async with following(tmp_path, agent.port) as plant:
        await until(lambda: len(plant.counts()) == 1)
    for k in range(1, 9):
        agent.add("n", str(k))
    async with following(tmp_path, agent.port) as plant:
        await until(lambda: len(plant.counts()) == 6)
        assert plant.counts() == [0, 4, 5, 6, 7, 8]
        assert plant.gaps()[0]["dropped"] == 3
        marked = [bool(r["quality"] & Quality.GAP_BEFORE) for r in plant.rows("n")]
        assert marked == [False, True, False, False, False, False]
        await agent.stop()
        agent.instance, agent.rows, agent.first = 2, [], 1
        for k in (100, 101):
            agent.add("n", str(k))
        await agent.start()
        await until(lambda: {100.0, 101.0} <= set(plant.counts()))
        assert "restarted" in plant.gaps()[-1]["reason"]
        assert plant.ingest.sources()[0].state == "up"


async def test_an_agent_that_does_not_stream_is_asked_again(tmp_path: Path) -> None:
    async with AgentServer(streams=False) as agent:
        await without_stream(agent, tmp_path)


async def without_stream(agent: AgentServer, tmp_path: Path) -> None:
    agent.add("n", "0")
    async with following(tmp_path, agent.port) as plant:
        await until(lambda: len(plant.counts()) == 1)
        agent.add("n", "1")
        await until(lambda: plant.counts() == [0, 1])


async def test_what_can_never_be_read_is_passed_over_as_a_gap(tmp_path: Path) -> None:
    async with AgentServer() as agent:
        agent.add("n", "0")
        async with following(tmp_path, agent.port) as plant:
            await until(lambda: len(plant.counts()) == 1)
            agent.poison = agent.next
            agent.add("n", "1")
            await until(lambda: bool(plant.gaps()))
            agent.add("n", "2")
            await until(lambda: plant.counts()[-1:] == [2])
            assert plant.gaps()[0]["dropped"] >= 1
            assert plant.ingest.sources()[0].state == "up"
    left_out = next(rejected.kept(tmp_path))
    assert left_out.causes["document"] >= 3
    assert (left_out.folder / left_out.samples[0].file).stat().st_size > 0
