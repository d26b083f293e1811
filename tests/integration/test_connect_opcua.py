"""The OPC UA pump against a real server, through a proxy that cuts the line."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from asyncua import Server, ua
from bench.line import CUTS, Line, free_port

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import rejected
from workshop_brain.connect.choice import Override
from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.pump import Pump
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

N_TICKERS = 40
TICK_S = 0.1


@dataclass
class Kept:
    """A historian that keeps everything in memory, and what the callbacks heard."""

    signals: list[SignalDef] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    parts: list[Samples] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    last: dict[tuple[str, int], int] = field(default_factory=dict)

    def declare(self, signals: Sequence[SignalDef]) -> list[int]:
        known = {s.path: i for i, s in enumerate(self.signals)}
        for s in signals:
            if s.path not in known:
                known[s.path] = len(self.signals)
                self.signals.append(s)
        return [known[s.path] for s in signals]

    def intern(self, texts: Sequence[str]) -> list[int]:
        self.words.extend(t for t in dict.fromkeys(texts) if t not in self.words)
        return [self.words.index(t) for t in texts]

    def append(self, samples: Samples, *, source: str, session: int, seq: int) -> int:
        assert seq > self.last.get((source, session), 0)
        self.last[source, session] = seq
        self.parts.append(samples)
        return len(self.parts)

    def sync(self) -> None:
        pass

    def last_seq(self, source: str, session: int) -> int:
        return self.last.get((source, session), 0)

    def rows(self, name: str) -> list[tuple[int, float, int]]:
        number = next((i for i, s in enumerate(self.signals) if s.path.endswith(name)), -1)
        out: list[tuple[int, float, int]] = []
        for s in self.parts:
            hit = s.signal == number
            out += list(
                zip(s.time_ns[hit].tolist(), s.value[hit].tolist(), s.quality[hit].tolist(),
                    strict=True)
            )  # fmt: skip
        return sorted(out)

    def gaps(self) -> list[Event]:
        return [e for e in self.events if e.kind is EventKind.GAP]


@asynccontextmanager
async def ticking_server(port: int) -> AsyncIterator[list[int]]:
    """``N_TICKERS`` counters that go up by one ten times a second; yields [ticks so far]."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/t")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace("urn:test")
    plant = await server.nodes.objects.add_folder(ua.NodeId("Plant", space), "Plant")
    unit = plant
    for name in ("works", "assembly", "asm1", "Z1", "OP010"):
        unit = await unit.add_folder(ua.NodeId(name, space), f"{space}:{name}")
    tickers = [
        await unit.add_variable(
            ua.NodeId(f"T{i}", space), f"{space}:Tick{i}Count", 0, ua.VariantType.Int64
        )
        for i in range(N_TICKERS)
    ]  # fmt: skip
    serial = await unit.add_variable(ua.NodeId("S", space), f"{space}:Serial", "none")
    state = await unit.add_variable(
        ua.NodeId("St", space), f"{space}:StateCurrent", 6, ua.VariantType.Int32
    )
    await unit.add_variable(ua.NodeId("A", space), f"{space}:Curve", [1.0, 2.0])
    await unit.add_variable(ua.NodeId("B", space), f"{space}:Blob", b"1")
    force = await unit.add_variable(ua.NodeId("F", space), f"{space}:Force", 1.25)
    span = ua.Range(0.0, 250.0)
    await force.add_property(ua.NodeId("FR", space), "0:EURange", span)
    unit_of_force = ua.EUInformation(DisplayName=ua.LocalizedText("kN"))
    await force.add_property(ua.NodeId("FU", space), "0:EngineeringUnits", unit_of_force)
    handshake = await plant.add_folder(ua.NodeId("H", space), f"{space}:Handshake")
    await handshake.add_variable(ua.NodeId("HR", space), f"{space}:RequestId", 0)
    ticks = [0]

    async def run() -> None:
        start = time.monotonic()
        while True:
            ticks[0] += 1
            for node in tickers:
                await node.write_value(ua.Variant(ticks[0], ua.VariantType.Int64))
            if ticks[0] % 5 == 0:
                await serial.write_value(f"S-{ticks[0]}")
                await state.write_value(ua.Variant(ticks[0] % 18, ua.VariantType.Int32))
            await asyncio.sleep(max(0.0, start + ticks[0] * TICK_S - time.monotonic()))

    async with server:
        task = asyncio.create_task(run())
        try:
            yield ticks
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def collecting(
    tmp_path: Path, port: int, kept: Kept, *, password: str = "", **more: object
) -> AsyncIterator[tuple[Pump, Outbox]]:
    settings = OpcUaSettings(
        id="m1",
        url=f"opc.tcp://127.0.0.1:{port}/t",
        root="Plant",
        **{"queue_s": 20, **more},  # type: ignore[arg-type]
    )
    address = tmp_path / "i.sock"
    ingest = Ingest(
        kept,
        address,
        on_samples=lambda s, r: None,
        on_curve=lambda curve, *, source, session, seq: None,
        on_event=kept.events.append,
    )
    await ingest.start()
    outbox = Outbox("m1", "opcua", address, tmp_path / "spool")
    pump = Pump(settings, "local", outbox, tmp_path / "opcua.json", tmp_path / "pki", password)
    outbox.on_durable = pump.on_durable
    tasks = [asyncio.create_task(outbox.run()), asyncio.create_task(pump.run())]
    try:
        yield pump, outbox
    finally:
        for task in reversed(tasks):
            await ended(task)
        await pump.close()
        await outbox.close()
        await ingest.close()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def check_every_tick(kept: Kept, first: int, last: int) -> None:
    """By value: every tick from first to last, of every ticker, exactly once in time order."""
    for i in range(N_TICKERS):
        values = sorted({int(v) for _, v, _ in kept.rows(f"/tick{i}_count")})
        assert values[0] <= first
        assert values == list(range(values[0], values[-1] + 1))
        assert values[-1] >= last


def marked(kept: Kept, name: str) -> list[int]:
    """Times of samples whose last row in the log says that something is missing before them."""
    number = next(i for i, s in enumerate(kept.signals) if s.path.endswith(name))
    last: dict[int, int] = {}
    for s in kept.parts:
        hit = s.signal == number
        last.update(zip(s.time_ns[hit].tolist(), s.quality[hit].tolist(), strict=True))
    return [at for at, quality in last.items() if quality & Quality.GAP_BEFORE]


async def test_include_exclude_and_overrides_of_the_plant_file_are_obeyed(tmp_path: Path) -> None:
    kept, port = Kept(), free_port()
    rows = (
        Override(match="*/Force", unit="N", low=0.0, high=9.0),
        Override(match="works/*/Z1/*/Tick0Count", path="works/a/b/c/*/total", kind="gauge"),
    )
    given = {"include": ("*/OP010/*",), "exclude": ("*/tick1*", "*/Serial"), "override": rows}
    async with ticking_server(port), collecting(tmp_path, port, kept, **given):
        await until(lambda: len(kept.rows("/total")) > 2)
    by_name = {s.name: s for s in kept.signals}
    assert by_name["total"].path == "local/works/a/b/c/op010/total"
    assert by_name["total"].kind is SignalKind.GAUGE
    assert (by_name["force"].unit, by_name["force"].high) == ("N", 9.0)
    assert "serial" not in by_name
    assert sorted(n for n in by_name if n.startswith("tick1")) == []
    assert "tick2_count" in by_name


class Spoiler:
    """A line to the server that breaks the first message with a certain text, once."""

    def __init__(self, port: int) -> None:
        self.server_port, self.is_done = port, False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        async with server:
            yield int(server.sockets[0].getsockname()[1])

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self.server_port)
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, forth), self._pass(back, writer, b"S-10"))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes = b""
    ) -> None:
        while data := await reader.read(65536):
            if text and not self.is_done and text in data:
                self.is_done = True
                size = len(text).to_bytes(4, "little")
                data = data.replace(size + text, b"\xff\xff\xff\x7f" + text)
            writer.write(data)
        writer.close()


async def test_a_response_that_cannot_be_decoded_is_kept_and_leaves_a_marked_gap(
    tmp_path: Path,
) -> None:
    kept, port, folder = Kept(), free_port(), tmp_path / "data" / "spool"
    folder.mkdir(parents=True)
    spoiler = Spoiler(port)
    async with ticking_server(port), spoiler.open() as door, collecting(folder, door, kept):
        await until(lambda: spoiler.is_done and bool(kept.gaps()))
        await until(lambda: bool(marked(kept, "/tick0_count")))
    left_out = next(rejected.kept(tmp_path / "data"))
    assert left_out.causes == {"publish_response": 1}
    assert b"S-10" in (left_out.folder / left_out.samples[0].file).read_bytes()


async def test_discovery_maps_names_units_ranges_and_kinds(tmp_path: Path) -> None:
    kept, port = Kept(), free_port()
    async with ticking_server(port), collecting(tmp_path, port, kept) as (pump, _):
        await until(
            lambda: len(kept.rows("/tick0_count")) > 5 and bool(kept.rows("/state_current"))
        )
        by_name = {s.name: s for s in kept.signals}
        base = "local/works/assembly/asm1/z1/op010"
        assert by_name["tick0_count"].path == f"{base}/tick0_count"
        assert by_name["tick0_count"].kind is SignalKind.COUNTER
        assert by_name["serial"].kind is SignalKind.TEXT
        assert by_name["state_current"].kind is SignalKind.STATE
        assert (by_name["force"].unit, by_name["force"].low, by_name["force"].high) == (
            "kN",
            0,
            250,
        )
        assert by_name["force"].address == "nsu=urn:test;s=F"
        assert {"curve_0", "curve_1"} < set(by_name)
        assert "curve" not in by_name
        assert "blob" not in by_name
        assert "request_id" not in by_name
        assert pump.skipped >= 1
        await until(lambda: len(kept.rows("/serial")) >= 2)
        assert kept.words[0] == "none"
        assert kept.words[1].startswith("S-")


async def test_without_kernels_the_same_ticks_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "is_warm", lambda: False)  # as while they are compiled
    kept, port = Kept(), free_port()
    async with ticking_server(port) as ticks, collecting(tmp_path, port, kept) as (pump, _):
        await until(lambda: len(kept.rows("/tick0_count")) > 5)
        final = ticks[0]
        await until(lambda: bool(kept.rows("/tick0_count")[-1][1] >= final + 3))
        check_every_tick(kept, int(kept.rows("/tick0_count")[0][1]), final)
        assert pump._plain.layouts
        assert kept.gaps() == []


async def test_a_message_is_acknowledged_to_the_server_after_the_brain_has_it(
    tmp_path: Path,
) -> None:
    kept, port = Kept(), free_port()
    async with ticking_server(port), collecting(tmp_path, port, kept) as (pump, outbox):
        await until(lambda: outbox.durable > 3)
        assert len(pump._unsafe) < 20
        subscription = next(iter(pump.subscriptions.values()))
        assert subscription.durable < subscription.expected
        assert kept.gaps() == []


@pytest.mark.parametrize("cut", CUTS)
async def test_no_tick_is_lost_in_a_cut(tmp_path: Path, cut: str) -> None:
    kept, port = Kept(), free_port()
    line = Line(port)
    await line.start()
    async with ticking_server(port) as ticks, collecting(tmp_path, line.port, kept):
        await until(lambda: len(kept.rows("/tick0_count")) > 5)
        first = int(kept.rows("/tick0_count")[0][1])
        await line.cut(cut, 2.2)
        final = ticks[0]
        await until(lambda: bool(kept.rows("/tick0_count")[-1][1] >= final + 3))
        await asyncio.sleep(0.3)
        check_every_tick(kept, first, final)
        assert kept.gaps() == []
        kinds = [e.kind for e in kept.events]
        assert EventKind.SOURCE_LOST in kinds
        assert kinds.count(EventKind.SOURCE_UP) >= 2
    await line.close()


async def test_a_killed_collector_resumes_the_session_it_had(tmp_path: Path) -> None:
    kept, port = Kept(), free_port()
    async with ticking_server(port) as ticks:
        async with collecting(tmp_path, port, kept):
            await until(lambda: len(kept.rows("/tick0_count")) > 5)
            first = int(kept.rows("/tick0_count")[0][1])
        await asyncio.sleep(1.0)
        async with collecting(tmp_path, port, kept):
            final = ticks[0]
            await until(lambda: bool(kept.rows("/tick0_count")[-1][1] >= final + 3))
            await asyncio.sleep(0.3)
        check_every_tick(kept, first, final)
        assert kept.gaps() == []


async def test_a_restarted_server_leaves_a_marked_gap_and_goes_on(tmp_path: Path) -> None:
    kept, port = Kept(), free_port()
    async with collecting(tmp_path, port, kept):
        async with ticking_server(port):
            await until(lambda: len(kept.rows("/tick0_count")) > 5)
        await until(lambda: kept.events[-1].kind is EventKind.SOURCE_LOST)
        before = len(kept.rows("/tick1_count"))
        async with ticking_server(port):
            await until(lambda: len(kept.rows("/tick1_count")) > before + 5)
        assert [e.payload["reason"] for e in kept.gaps()] == ["subscription lost"]
        marked = [q for _, _, q in kept.rows("/tick1_count") if q & Quality.GAP_BEFORE]
        assert len(marked) == 1


async def test_an_unreachable_server_and_a_wrong_root_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, port = Kept(), free_port()
    async with collecting(tmp_path, port, kept):
        await until(lambda: str(port) in caplog.text)
    async with ticking_server(port), collecting(tmp_path, port, kept) as (pump, _):
        object.__setattr__(
            pump, "settings", OpcUaSettings(id="m1", url=pump.settings.url, root="X")
        )
        await until(lambda: "no node 'X'; there is" in caplog.text)
