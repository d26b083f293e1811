"""The collector's disk buffer when things break: a full disk, kill -9, damaged files."""

import asyncio
import itertools
import random
import signal
import sys
from pathlib import Path

import pytest
from tests.integration.test_connect_link import (
    SIGNALS,
    Heard,
    MemoryHistorian,
    brain,
    collector,
    ticks,
    until,
)
from tests.integration.test_full_disk import fill, small_disk

from workshop_brain.connect import outbox as outbox_module
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality

__all__ = ["small_disk"]
PATH = SIGNALS[0].path
LIFE = """
import asyncio, sys
from pathlib import Path
import numpy as np
from workshop_brain.connect import outbox
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
outbox._GUARD_S = outbox._UNACKED_S = 0.005

async def main(folder, first):
    durable = lambda seq: print(seq, flush=True)
    box = outbox.Outbox("m1", "test", folder / "i.sock", folder / "spool", on_durable=durable)
    box.declare([SignalDef(path="local/works/a/l/c/u/count", kind=SignalKind.COUNTER)])
    asyncio.create_task(box.run())
    for k in range(first, first + 100_000):
        rows = Samples(np.zeros(1, np.uint32), np.array([k + 1]), np.array([float(k)]),
                       np.zeros(1, np.uint8))
        print("added", box.add(rows, box.wall_ns()), k, flush=True)
        box.flush()
        await asyncio.sleep(0.0005)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def life(folder: Path, first: int, pause_s: float) -> tuple[set[int], int]:
    """A collector that spools until kill -9; (values that it knew to be durable, next value)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIFE, str(folder), str(first),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    lines = (await process.stdout.read()).decode().splitlines()
    await process.wait()
    value = {1: first}
    durable = 0
    for line in lines:
        words = line.split()
        if words[0] == "added" and len(words) == 3:
            value[int(words[1])] = int(words[2])
        elif words[0].isdigit():
            durable = max(durable, int(words[0]))
    return {v for seq, v in value.items() if seq <= durable}, max(value.values()) + 1


async def test_what_a_killed_collector_had_spooled_is_stored_once(tmp_path: Path) -> None:
    draw, must, first = random.Random(4), set[int](), 0
    for _ in range(3):
        safe, first = await life(tmp_path, first, draw.uniform(0.1, 0.4))
        assert safe
        must |= safe
    historian = MemoryHistorian()
    async with brain(historian, tmp_path / "i.sock"), collector(tmp_path) as box:
        box.declare(SIGNALS[:1])
        last = box.add(ticks([first]), 1)
        await until(lambda: box._acked >= last)
    stored = historian.values(PATH)
    assert stored == sorted(set(stored))
    assert must <= {int(v) for v in stored}
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.parametrize("small_disk", ["6m"], indirect=True)
async def test_a_full_disk_keeps_what_is_on_it_and_drops_the_oldest_in_memory(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_MEMORY_BYTES", 100_000)
    monkeypatch.setattr(outbox_module, "_UNACKED_S", 0.05)
    monkeypatch.setattr(outbox_module, "_GUARD_S", 0.02)
    historian, heard = MemoryHistorian(), Heard()
    async with collector(small_disk) as box:
        box.declare(SIGNALS[:1])
        now = box.wall_ns()
        sent = 0

        async def send(batches: int) -> int:
            nonlocal sent
            for _ in range(batches):
                last = box.add(ticks(range(sent, sent + 500)), now)
                box.flush()
                sent += 500
            await asyncio.sleep(0.2)
            return last

        await send(4)
        assert box.durable == 4
        ballast = fill(small_disk)
        before = await send(30)
        assert 0 < box.durable < before  # the rest waits in memory, where it does not all fit
        assert box._disk_error
        ballast.unlink()
        await until(lambda: not box._disk_error, 5)
        async with brain(historian, small_disk / "i.sock", heard):
            last = await send(2)
            await until(lambda: box._acked >= last)
            await until(lambda: any(e.kind is EventKind.GAP for e in heard.events))
    stored = [
        (int(v), int(q)) for _, _, s in historian.rows
        for v, q in zip(s.value, s.quality, strict=True)
    ]  # fmt: skip
    values = [v for v, _ in stored]
    assert values == sorted(set(values))
    assert values[:2000] == list(range(2000))
    holes = [b for a, b in itertools.pairwise(values) if b != a + 1]
    assert holes
    marked = [v for v, q in stored if q & Quality.GAP_BEFORE]
    assert marked == holes
    told = [e.payload for e in heard.events if e.kind is EventKind.GAP]
    assert {p["reason"] for p in told} == {"memory_full"}
    assert sum(p["samples"] for p in told) == sent - len(values)


async def test_a_damaged_file_costs_its_own_frames_and_is_told(tmp_path: Path) -> None:
    historian, heard = MemoryHistorian(), Heard()
    async with collector(tmp_path, limit_bytes=1 << 20) as box:
        box.declare(SIGNALS[:1])
        box._spool.segment_bytes = 4096
        for k in range(8):
            box.add(ticks(range(k * 100, k * 100 + 100)), box.wall_ns())
            box.flush()
            await box._spool_waiting(keep=False)
    files = sorted((tmp_path / "spool").glob("*.frames"))
    assert len(files) == 4
    damaged = bytearray(files[1].read_bytes())
    damaged[-50] ^= 0xFF
    files[1].write_bytes(damaged)
    async with brain(historian, tmp_path / "i.sock", heard), collector(tmp_path) as box:
        box.declare(SIGNALS[:1])
        last = box.add(ticks([800]), box.wall_ns())
        await until(lambda: box._acked >= last)
    assert historian.values(PATH) == [*range(300), *range(400, 801)]
    marked = [int(v) for _, _, s in historian.rows for v in s.value[s.quality & 16 != 0]]
    assert marked == [400]
    assert [e.payload["reason"] for e in heard.events] == ["spool_damaged"]
    kept = list((tmp_path / "spool" / "damaged").iterdir())
    assert [p.name for p in kept] == [files[1].name]


async def test_a_session_without_its_head_is_set_aside_and_the_next_goes_on(
    tmp_path: Path,
) -> None:
    historian, heard = MemoryHistorian(), Heard()
    async with collector(tmp_path) as box:
        box.declare(SIGNALS)
        box.add(ticks([0, 1, 2]), box.wall_ns())
        box.add(ticks([box.text("S-1")], signal=1), box.wall_ns())
    head = next((tmp_path / "spool").glob("*.head"))
    head.write_bytes(head.read_bytes()[:-10])
    async with brain(historian, tmp_path / "i.sock", heard), collector(tmp_path) as box:
        box.declare(SIGNALS)
        last = box.add(ticks([3, 4]), box.wall_ns())
        await until(lambda: box._acked >= last)
    assert historian.values(PATH) == [3, 4]
    assert [(e.payload["reason"], e.payload["samples"]) for e in heard.events] == [
        ("spool_damaged", 4)
    ]
    assert [int(q) for _, _, s in historian.rows for q in s.quality] == [Quality.GAP_BEFORE, 0]


async def test_what_waited_long_is_marked_late_and_what_did_not_is_not(tmp_path: Path) -> None:
    historian = MemoryHistorian()
    async with collector(tmp_path) as box:
        box.declare(SIGNALS[:1])
        box.add(ticks([1]), box.wall_ns() - 6_000_000_000)
        box.flush()
        async with brain(historian, tmp_path / "i.sock"):
            last = box.add(ticks([2]), box.wall_ns())
            await until(lambda: box._acked >= last)
    assert [int(q) for _, _, s in historian.rows for q in s.quality] == [Quality.HISTORICAL, 0]
