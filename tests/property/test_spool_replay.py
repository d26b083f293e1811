"""Whatever goes wrong in whatever order: what a collector has taken reaches the brain once."""

import asyncio
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.test_connect_link import SIGNALS, Heard, MemoryHistorian, ticks, until

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import outbox as outbox_module
from workshop_brain.connect.handover import FrameType, frame
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.connect.spool import Dropped, Spool, read_frames
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality

PATH = SIGNALS[0].path
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["spool", "up", "crash", "cut", "rest"]), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 12)),
    ),
    max_size=24,
)


class World:
    """One source's collector and brain, each of which may go and come."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.historian, self.heard = MemoryHistorian(), Heard()
        self.ingest: Ingest | None = None
        self.next = 0
        self.must: set[int] = set()
        self.start()

    def start(self) -> None:
        """A new life of the collector."""
        self.added: list[tuple[int, int]] = []
        # Their stamps are of now: nothing here is late.
        self.box = Outbox("m1", "test", self.folder / "i.sock", self.folder / "spool",
                          limit_bytes=self.limit, wall_ns=lambda: next(self.clock))  # fmt: skip
        self.box.declare(SIGNALS[:1])
        self.task = asyncio.create_task(self.box.run())

    clock = itertools.count(1)

    async def step(self, what: str, number: int) -> None:
        if what == "add":
            seq = self.box.add(ticks(range(self.next, self.next + number)), next(self.clock))
            self.box.flush()
            self.added += [(seq, v) for v in range(self.next, self.next + number)]
            self.next += number
        elif what == "spool":
            await self.box._spool_waiting(keep=self.box._live)
        elif what == "up" and self.ingest is None:
            self.ingest = Ingest(
                self.historian, self.folder / "i.sock", on_samples=self.heard.on_samples,
                on_curve=self.heard.on_curve, on_event=self.heard.events.append,
            )  # fmt: skip
            await self.ingest.start()
        elif what == "crash" and self.ingest is not None:
            # As a kill: what was not synced is gone, and nothing is acknowledged any more.
            for task in self.ingest._tasks:
                task.cancel()
            self.historian.crash()
            self.historian.failing = True
            await self.ingest.close()
            self.historian.failing = False
            self.historian.crash()
            self.ingest = None
        elif what == "cut" and self.box._writer is not None:
            self.box._writer.transport.abort()
        elif what == "rest":
            await asyncio.sleep(0.02)
        elif what == "kill":
            await self.kill(number)

    async def kill(self, torn: int) -> None:
        """The collector's process is gone, in the middle of a write of ``torn`` bytes."""
        if self.box._timer is not None:
            self.box._timer.cancel()
        await ended(self.task)
        self.must |= {v for seq, v in self.added if seq <= self.box.durable}
        self.box._spool.close()
        for path in self.box._spool.own.segments()[-1:]:
            with path.open("ab") as file:
                file.write(frame(FrameType.PULSE, bytes(20))[:torn])
        self.start()

    async def finish(self) -> list[tuple[int, int]]:
        """Everything comes back; (value, quality) of what is stored, in its order."""
        await self.step("up", 0)
        self.must |= {v for _, v in self.added}
        self.box.flush()
        await until(lambda: self.box._live and self.box._acked >= self._last_batch(), 20)
        await self.box.close()
        await ended(self.task)
        assert self.ingest is not None
        await self.ingest.close()
        return [
            (int(v), int(q))
            for _, _, s in self.historian.rows
            for v, q in zip(s.value, s.quality, strict=True)
        ]

    def _last_batch(self) -> int:
        return max((seq for seq, _ in self.added), default=0)


def play(steps: list[tuple[str, int]], limit: int) -> tuple[World, list[tuple[int, int]]]:
    async def run() -> tuple[World, list[tuple[int, int]]]:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), limit)
            for what, number in steps:
                await world.step(what, number)
            return world, await world.finish()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_BACKOFF_S", (0.001,))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_what_was_taken_is_stored_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    world, stored = play(steps, 1 << 30)
    values = [v for v, _ in stored]
    assert values == sorted(set(values))
    assert world.must <= set(values)
    assert not list(world.heard.events)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS.map(lambda steps: [s for s in steps if s[0] != "kill"]))
def test_what_a_full_spool_drops_is_marked_and_counted(steps: list[tuple[str, int]]) -> None:
    world, stored = play(steps, 3000)
    values = [v for v, _ in stored]
    assert values == sorted(set(values))
    before = -1
    for value, quality in stored:
        if value != before + 1:
            assert quality & Quality.GAP_BEFORE, f"{before} to {value}"
        before = value
    missing = world.next - len(values)
    told = [e.payload["samples"] for e in world.heard.events if e.kind is EventKind.GAP]
    assert sum(told) >= missing
    assert missing or not told


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.data())
def test_a_torn_file_gives_its_first_frames(sizes: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), 1, 1)
        spool.put([(k, frame(FrameType.CURVE, bytes(n))) for k, n in enumerate(sizes, 1)])
        spool.close()
        path = spool.own.segments()[0]
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        frames, is_damaged = read_frames(path)
        assert [len(body) for _, body in frames] == sizes[: len(frames)]
        assert not is_damaged
        bent = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:bent] + bytes([whole[bent] ^ 0x55]) + whole[bent + 1 :])
        frames, _ = read_frames(path)
        assert [len(body) for _, body in frames] == sizes[: len(frames)]
        assert len(frames) < len(sizes)


def test_what_is_dropped_adds_up() -> None:
    one = Dropped(frames=1, samples=3, since_ns=5, until_ns=9)
    two = Dropped(reason="spool_damaged", frames=2, samples=4, since_ns=2, until_ns=3)
    assert Dropped() + one == one
    assert one + two == Dropped(frames=3, samples=7, since_ns=2, until_ns=9)
    assert not Dropped()
