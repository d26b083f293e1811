"""The stored latency that the hand-over server reports: source stamp to durable."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from workshop_brain.app import ingest as door
from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType, Hello
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian

SIGNAL = SignalDef(path="local/s/a/l/c/u/x", kind=SignalKind.GAUGE, source="plc")
MS = 1_000_000


def batch(seq: int, ages_ms: list[float], *, historical: bool = False) -> bytes:
    now, n = time.time_ns(), len(ages_ms)
    quality = np.full(n, Quality.HISTORICAL if historical else 0, np.uint8)
    times = np.sort(now - (np.array(ages_ms) * MS).astype(np.int64))
    samples = Samples(np.zeros(n, np.uint32), times, np.arange(n, dtype=np.float64), quality)
    return handover.pack_batch(seq, now, samples)


async def acknowledged(reader: asyncio.StreamReader, seq: int) -> None:
    async with asyncio.timeout(5):
        while True:
            kind, body = await handover.read_frame(reader)
            if kind is FrameType.ACK and handover.unpack_ack(body) >= seq:
                return


async def told(path: Path) -> dict[str, float]:
    """What the server reports after a slow batch, a fast one and one of the past."""
    historian = Historian(path / "historian")
    server = Ingest(
        historian=historian, address=path / "in.sock", on_samples=lambda samples, ns: None,
        on_curve=historian.append_curve, on_event=lambda event: None,
    )  # fmt: skip
    await server.start()
    assert np.isnan(server.latency()["stored_p50_ms"])
    reader, writer = await handover.connect(path / "in.sock")
    hello = Hello(source="plc", protocol="opcua", session=7)
    writer.write(handover.pack_hello(hello) + handover.pack_declare(0, [SIGNAL]))
    up = Event(time_ns=1, kind=EventKind.SOURCE_UP, path="plc")
    writer.write(handover.pack_event(up))
    await asyncio.sleep(0.05)
    writer.write(batch(1, [400.0, 300.0]) + batch(2, [100.0]) + batch(3, [9e6], historical=True))
    await acknowledged(reader, 3)
    writer.close()
    found = server.latency()
    await server.close()
    historian.close()
    return found


def test_the_oldest_fresh_sample_of_each_batch_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_SETTLED_S", 0.0)
    found = asyncio.run(told(tmp_path))
    assert 250.0 <= found["stored_p50_ms"] < 1000.0
    assert 397.0 <= found["stored_p99_ms"] < 1500.0
    assert found["stored_p99_ms"] > found["stored_p50_ms"]


def test_what_a_new_connection_brings_first_does_not_count(tmp_path: Path) -> None:
    assert np.isnan(asyncio.run(told(tmp_path))["stored_p99_ms"])
