"""Outbox and ingest over a real socket: nothing lost, nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.errors import StoreError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind


@dataclass
class MemoryHistorian:
    """ports.Historian in memory; what was not synced dies with ``crash``."""

    paths: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    rows: list[tuple[str, int, Samples]] = field(default_factory=list)
    durable_rows: int = 0
    durable: dict[tuple[str, int], int] = field(default_factory=dict)
    appended: dict[tuple[str, int], int] = field(default_factory=dict)
    failing: bool = False
    syncs: int = 0

    def declare(self, signals: Sequence[SignalDef]) -> list[int]:
        out = []
        for s in signals:
            if s.path not in self.paths:
                self.paths.append(s.path)
            out.append(self.paths.index(s.path))
        return out

    def intern(self, texts: Sequence[str]) -> list[int]:
        for t in texts:
            if t not in self.words:
                self.words.append(t)
        return [self.words.index(t) for t in texts]

    def append(self, samples: Samples, *, source: str, session: int, seq: int) -> int:
        if self.failing:
            raise StoreError("disk is full")
        assert seq > self.appended.get((source, session), 0), "not exactly once"
        self.appended[source, session] = seq
        self.rows.append((source, seq, samples))
        return len(self.rows)

    def sync(self) -> None:
        if self.failing:
            raise StoreError("disk is full")
        self.syncs += 1
        self.durable = dict(self.appended)
        self.durable_rows = len(self.rows)

    def last_seq(self, source: str, session: int) -> int:
        return self.durable.get((source, session), 0)

    def crash(self) -> None:
        del self.rows[self.durable_rows :]
        self.appended = dict(self.durable)

    def values(self, path: str) -> list[float]:
        number = self.paths.index(path)
        return [float(v) for _, _, s in self.rows for v in s.value[s.signal == number]]


@dataclass
class Heard:
    samples: list[Samples] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def on_samples(self, samples: Samples, received_ns: int) -> None:
        self.samples.append(samples)

    def on_curve(self, curve: Curve, *, source: str, session: int, seq: int) -> None:
        self.curves.append(curve)


@asynccontextmanager
async def brain(
    historian: MemoryHistorian, socket: Path, heard: Heard | None = None
) -> AsyncIterator[Ingest]:
    heard = heard or Heard()
    ingest = Ingest(
        historian,
        socket,
        on_samples=heard.on_samples,
        on_curve=heard.on_curve,
        on_event=heard.events.append,
    )
    await ingest.start()
    try:
        yield ingest
    finally:
        await ingest.close()


@asynccontextmanager
async def collector(tmp_path: Path, **more: object) -> AsyncIterator[Outbox]:
    box = Outbox("m1", "test", tmp_path / "i.sock", tmp_path / "spool", **more)  # type: ignore[arg-type]
    task = asyncio.create_task(box.run())
    try:
        yield box
    finally:
        await box.close()
        await ended(task)


SIGNALS = [
    SignalDef(path="local/works/a/l/c/u/count", kind=SignalKind.COUNTER),
    SignalDef(path="local/works/a/l/c/u/serial", kind=SignalKind.TEXT),
]


def ticks(values: Sequence[float], signal: int = 0) -> Samples:
    n = len(values)
    return Samples(
        np.full(n, signal, np.uint32),
        np.asarray(values, np.int64) + 1,
        np.asarray(values, np.float64),
        np.zeros(n, np.uint8),
    )


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_samples_texts_curves_and_events_arrive_once_and_are_acknowledged_after_sync(
    tmp_path: Path,
) -> None:
    historian, heard = MemoryHistorian(words=["other"]), Heard()
    async with brain(historian, tmp_path / "i.sock", heard) as ingest, collector(tmp_path) as box:
        box.declare(SIGNALS)
        box.event(Event(time_ns=1, kind=EventKind.SOURCE_UP, path="m1"))
        code = box.text("S-1")
        for k in range(50):
            box.add(ticks([k]), k)
            await asyncio.sleep(0.001)
        last = box.add(ticks([code], signal=1), 99)
        box.curve(
            Curve(
                serial="S-1",
                station="u",
                program="p",
                step=1,
                time_ns=5,
                channels={"torque": np.arange(4, dtype=np.float32)},
            )
        )
        await until(lambda: box.durable >= last + 1)
        assert historian.durable_rows == len(historian.rows)
        assert historian.values("local/works/a/l/c/u/count") == list(range(50))
        assert historian.values("local/works/a/l/c/u/serial") == [1.0]
        assert historian.words == ["other", "S-1"]
        assert [list(c.channels["torque"]) for c in heard.curves] == [[0, 1, 2, 3]]
        assert sum(len(s) for s in heard.samples) == 51
        status = ingest.sources()[0]
        assert (status.state, status.samples) == ("up", 51)


async def test_a_brain_that_crashes_and_returns_gets_everything_once(tmp_path: Path) -> None:
    historian = MemoryHistorian()
    socket = tmp_path / "i.sock"
    sent = 0
    async with collector(tmp_path) as box:
        box.declare(SIGNALS[:1])
        for life in range(3):
            async with brain(historian, socket):
                for _ in range(60):
                    box.add(ticks([sent]), sent)
                    sent += 1
                    await asyncio.sleep(0.002)
            historian.crash()
            for _ in range(300 if life == 1 else 10):
                box.add(ticks([sent]), sent)
                sent += 1
                await asyncio.sleep(0.005)
        async with brain(historian, socket):
            box.flush()
            await until(lambda: box._acked >= box._next_seq - 1)
            assert historian.values("local/works/a/l/c/u/count") == list(range(sent))
    assert not list((tmp_path / "spool").iterdir())


async def test_what_a_stopped_collector_spooled_is_replayed_first_by_the_next_one(
    tmp_path: Path,
) -> None:
    historian = MemoryHistorian()
    async with collector(tmp_path) as box:
        box.declare(SIGNALS)
        box.add(ticks([1, 2, 3]), 1)
        box.add(ticks([box.text("abc")], signal=1), 1)
    async with brain(historian, tmp_path / "i.sock"), collector(tmp_path) as box:
        box.declare(SIGNALS)
        box.add(ticks([4]), 1)
        await until(lambda: box.durable >= 1)
    assert historian.values("local/works/a/l/c/u/count") == [1, 2, 3, 4]
    assert historian.words == ["abc"]
    assert not list((tmp_path / "spool").iterdir())


async def test_a_full_spool_drops_the_oldest_and_marks_the_hole(tmp_path: Path) -> None:
    historian, heard = MemoryHistorian(), Heard()
    async with collector(tmp_path, limit_bytes=60_000, wall_ns=lambda: 2) as box:
        box.declare(SIGNALS[:1])
        for k in range(20):
            box.add(ticks(list(range(k * 300, k * 300 + 300))), 1)
            box.flush()
            await box._spool_waiting(keep=False)
        async with brain(historian, tmp_path / "i.sock", heard):
            last = box.add(ticks([6000]), 1)
            await until(lambda: box._acked >= last)
    values = historian.values("local/works/a/l/c/u/count")
    assert values == list(range(int(values[0]), 6001))
    assert values[0] > 0
    marked = [q for _, _, s in historian.rows for q in s.quality]
    assert marked[0] == Quality.GAP_BEFORE
    assert not any(marked[1:])
    told = [e.payload for e in heard.events if e.payload.get("reason") == "spool_full"]
    assert sum(p["samples"] for p in told) == values[0]
    assert (told[0]["since_ns"], told[-1]["until_ns"]) == (1, values[0])


async def test_a_full_disk_at_the_brain_stops_acknowledging_but_not_the_live_path(
    tmp_path: Path,
) -> None:
    historian, heard = MemoryHistorian(failing=True), Heard()
    async with brain(historian, tmp_path / "i.sock", heard) as ingest, collector(tmp_path) as box:
        box.declare(SIGNALS[:1])
        box.add(ticks([1]), 1)
        await until(lambda: len(heard.samples) == 1)
        box.add(ticks([2]), 1)
        await until(lambda: len(heard.samples) == 2)
        await asyncio.sleep(0.1)
        assert (box._acked, ingest.store_error) == (0, "StoreError: disk is full")
        historian.failing = False
        await until(lambda: box._acked == 2)
        assert ingest.store_error == ""
    assert historian.values("local/works/a/l/c/u/count") == [1, 2]


async def test_a_silent_collector_is_called_lost_within_two_and_a_half_seconds(
    tmp_path: Path,
) -> None:
    from workshop_brain.connect import handover

    async with brain(MemoryHistorian(), tmp_path / "i.sock") as ingest:
        _, writer = await handover.connect(tmp_path / "i.sock")
        writer.write(handover.pack_hello(handover.Hello(source="m1", protocol="x", session=1)))
        writer.write(handover.pack_event(Event(time_ns=1, kind=EventKind.SOURCE_UP, path="m1")))
        await until(lambda: bool(ingest.sources()) and ingest.sources()[0].state == "up")
        await until(lambda: ingest.sources()[0].state == "lost", 2.5)
        writer.write(handover.frame(handover.FrameType.PULSE))
        await until(lambda: ingest.sources()[0].state == "up")
        writer.close()
        await until(lambda: ingest.sources()[0].state == "lost", 1.0)


async def test_garbage_and_wrong_tokens_are_let_go(tmp_path: Path) -> None:
    from workshop_brain.connect import handover

    ingest = Ingest(
        MemoryHistorian(),
        "127.0.0.1:0",
        on_samples=lambda s, r: None,
        on_curve=Heard().on_curve,
        on_event=lambda e: None,
        token="right",
    )
    await ingest.start()
    try:
        for payload in (
            b"\xff" * 64,
            handover.frame(handover.FrameType.PULSE),
            handover.pack_hello(handover.Hello(source="m", protocol="x", session=1, token="no")),
        ):
            reader, writer = await handover.connect(f"127.0.0.1:{ingest.port}")
            writer.write(payload)
            assert await asyncio.wait_for(reader.read(), 2) == b""
            writer.close()
    finally:
        await ingest.close()
