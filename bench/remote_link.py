"""A collector on another host: throughput, latency and losses over radio and direct links.

    python -m bench.remote_link [--seconds 20] [--rows 3000000] [--rate 14000]

The same rows (12,000 signals, values as of bench.ingest) go through the product's outbox, ingest
and historian over the local socket, over mutual TLS on loopback, and over mutual TLS through a line
that behaves as a 5G link in a poor cell (bench/rough_line.py): first at the plant's rate for so
many seconds, then as fast as it goes. Checked by value: every signal's count, and its sum of
values. Latency: from ``add`` to the acknowledgement, each batch. Everything runs in one process,
the line too, so the direct links' rates are lower bounds.

Before that: what compressing real batches yields, lz4 and zstd.
"""

import argparse
import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.ingest import definitions, make_batches
from bench.rough_line import FAIR, RADIO, RoughLine, Weather
from workshop_brain.app.collectors import Collectors
from workshop_brain.app.gate import Gate
from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import handover
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.connect.remote import Bundle, remote
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Samples
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.units import NS_PER_DAY

_PIECE_S = 0.02


def rows_of(samples: Samples, start: int, stop: int) -> Samples:
    """A range of rows."""
    return Samples(
        samples.signal[start:stop], samples.time_ns[start:stop], samples.value[start:stop],
        samples.quality[start:stop],
    )  # fmt: skip


def pieces(rows: int, each: int, *, later_ns: int = 0) -> Iterator[Samples]:
    """The data set in pieces, in the order of arrival, moved in time."""
    done = 0
    for batch in make_batches(1 << 60, 96_000):
        batch.time_ns[:] += later_ns
        for at in range(0, len(batch), each):
            yield rows_of(batch, at, min(at + each, len(batch)))
            done += min(each, len(batch) - at)
            if done >= rows:
                return


def compression() -> None:
    """Ratio and cost of codecs on BATCH frames as the outbox makes them."""
    print("rows a frame   codec    ratio   bytes/row   us/1,000 rows (packing)")
    for each in (280, 1000, 4000):
        frames = [handover.pack_batch(k, 1, p) for k, p in enumerate(pieces(200 * each, each), 1)]
        for name, level in (("lz4", None), ("zstd", 1), ("zstd", 3)):
            codec = pa.Codec(name, compression_level=level) if level else pa.Codec(name)
            began = time.process_time()
            small = sum(len(codec.compress(f, asbytes=True)) for f in frames)
            took = time.process_time() - began
            raw, rows = sum(map(len, frames)), len(frames) * each
            print(f"{each:12d}   {name}{level or '':<4} {raw / small:6.2f} {small / rows:11.2f} "
                  f"{1e9 * took / rows:12.0f}")  # fmt: skip


@dataclass(slots=True)
class Sender:
    """One outbox and what it was given; notes how long each batch took to be acknowledged."""

    box: Outbox
    rows: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(12_000))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(12_000, np.int64))
    last: int = 0
    under_way: deque[tuple[int, float]] = field(default_factory=deque)
    took_ms: list[float] = field(default_factory=list)

    def add(self, samples: Samples) -> None:
        """Hand over one piece."""
        self.last = self.box.add(samples, time.time_ns())
        self.under_way.append((self.last, time.monotonic()))
        self.rows += len(samples)
        self.sums += np.bincount(samples.signal, samples.value, 12_000)
        self.counts += np.bincount(samples.signal, minlength=12_000)

    def look(self) -> None:
        """Note what has been acknowledged by the brain."""
        now = time.monotonic()
        while self.under_way and self.under_way[0][0] <= self.box._acked:
            self.took_ms.append(1e3 * (now - self.under_way.popleft()[1]))

    async def done(self) -> None:
        """Wait until the brain has all of it."""
        self.box.flush()
        while self.box._acked < self.last:
            self.look()
            await asyncio.sleep(0.005)
        self.look()


async def steady(sender: Sender, seconds: float, rate: float) -> None:
    """Rows at a fixed rate."""
    began = time.monotonic()
    for k, piece in enumerate(pieces(round(rate * seconds), round(rate * _PIECE_S)), 1):
        sender.add(piece)
        while (wait := began + k * _PIECE_S - time.monotonic()) > 0:
            await asyncio.sleep(min(wait, 0.005))
            sender.look()
    await sender.done()


async def flat_out(sender: Sender, batches: list[Samples]) -> float:
    """Rows as fast as they are taken; seconds until all are durable."""
    began = time.monotonic()
    for piece in batches:
        sender.add(piece)
        await asyncio.sleep(0)
        while sender.box._waiting_bytes > 64 << 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await sender.done()
    return time.monotonic() - began


async def case(
    name: str, folder: Path, weather: Weather | None, seconds: float, rows: int, rate: float
) -> None:
    """One way to the brain; prints its row."""
    gaps: list[object] = []
    settings = HistorianSettings(seal_s=3600)
    with Historian(folder / "historian", settings=settings) as history:
        ingest = Ingest(
            history, folder / "i.sock", on_samples=lambda s, r: None,
            on_curve=history.append_curve,
            on_event=lambda e: gaps.append(e.payload) if e.kind is EventKind.GAP else None,
        )  # fmt: skip
        await ingest.start()
        collectors = Collectors(folder / "pki")
        gate = Gate(ingest, collectors, "127.0.0.1:0")
        await gate.start()
        line = RoughLine(gate.port, weather or FAIR)
        await line.start()
        authority, certificate, key = collectors.enroll("bench", ["m1"], days=1)
        given = Bundle(name="bench", address=f"127.0.0.1:{line.port}", enterprise="local",
                       authority=authority, certificate=certificate, key=key)  # fmt: skip
        direct = f"127.0.0.1:{gate.port}" if name.startswith("TLS, d") else given.address
        way = (folder / "i.sock", None) if weather is None else (direct, remote(given))
        box = Outbox("m1", "bench", way[0], folder / "spool", remote=way[1])
        box.declare(definitions())
        task = asyncio.create_task(box.run())
        sender = Sender(box)
        await steady(sender, seconds, rate)
        p50, p99 = np.percentile(sender.took_ms, (50, 99))
        most = max(sender.took_ms)
        batches = list(pieces(rows, 1000, later_ns=NS_PER_DAY))
        cuts, stalls, before = line.resets, line.stalls, line.passed
        took = await flat_out(sender, batches)
        wire = (line.passed - before) / rows
        await box.close()
        await ended(task)
        await line.close()
        await gate.close()
        await ingest.close()
        lost, wrong = check(history, sender)
    print(f"{name:22s} {p50:7.0f} {p99:8.0f} {most:8.0f} {rows / took:11,.0f} "
          f"{wire if line.passed else float('nan'):9.2f} {cuts:5d}+{line.resets - cuts:<3d} "
          f"{stalls:3d}+{line.stalls - stalls:<3d} {lost:6d} {wrong:6d} {len(gaps):5d}",
          flush=True)  # fmt: skip


def check(history: Historian, sender: Sender) -> tuple[int, int]:
    """(rows missing or twice, signals whose count or sum differs)."""
    history.seal()
    table = history.sql(
        "SELECT signal, count(*) AS n, sum(value) AS total FROM samples GROUP BY signal",
        from_ns=0, to_ns=1 << 62,
    )  # fmt: skip
    counts, sums = np.zeros(12_000, np.int64), np.zeros(12_000)
    at = table["signal"].to_numpy()
    counts[at], sums[at] = table["n"].to_numpy(), table["total"].to_numpy()
    doubled = int(history.stats()["duplicates"])
    bad = (counts != sender.counts) | ~np.isclose(sums, sender.sums, rtol=1e-9, atol=1e-6)
    return abs(sender.rows - int(counts.sum())) + doubled, int(bad.sum())


async def run(seconds: float, rows: int, rate: float) -> None:
    """All ways, one after the other."""
    w = RADIO
    print(
        f"\nradio: {2e3 * w.delay_s:.0f} ms there and back + up to {2e3 * w.jitter_s:.0f} ms, "
        f"{8e-6 * w.bytes_per_s:.0f} Mbit/s, {100 * w.loss:.1f} % of packets lost, a reset every "
        f"{w.reset_every_s:.0f} s, a stall of {w.stall_s:.1f} s every {w.stall_every_s:.0f} s\n"
        f"{rate:,.0f} rows/s for {seconds:.0f} s: milliseconds to the acknowledgement; then "
        f"{rows:,} rows as fast as they go\n"
        "way                        p50      p99      max      rows/s   B/row    resets  stalls"
        "   lost  wrong  gaps"
    )
    for name, weather in (
        ("local socket", None), ("TLS, direct", FAIR), ("TLS, quiet line", FAIR),
        ("TLS, radio link", RADIO),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            await case(name, Path(folder), weather, seconds, rows, rate)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rate", type=float, default=14_000.0)
    options = parser.parse_args()
    compression()
    with suppress(KeyboardInterrupt):
        asyncio.run(run(options.seconds, options.rows, options.rate))


if __name__ == "__main__":
    main()
