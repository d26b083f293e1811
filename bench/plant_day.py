"""A day of the reference plant into the store: complete, how fast, how large on disk.

    python -m bench.plant_day [--hours 24] [--speed 0] [--data DIR]

One plant day is more than 40 GB as received: samples at 12,164 signals (the twin's own values,
report by exception), process curves of every operation, and vibration of the end-of-line test
(four channels of a 24-bit converter at 51.2 kHz for 12 s a part). Jobs are given out first in,
first out. A process of its own makes the day from the seed and hands it over as a collector does
(outbox, local socket); this process takes it in as the brain does (ingest, historian), with the
features of every curve. Afterwards everything is read back: count and checksum of every class must
be those that were sent.

As received: 21 bytes a sample (u32 signal, i64 time, f64 value, u8 quality), 4 bytes a value of a
curve. On the wire: the frames of the hand-over, heads and all.
--hours: plant hours to run; less than 24 is extrapolated, and named so. --speed: plant seconds a
second; 0: as fast as it goes.
"""

import argparse
import asyncio
import json
import resource
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workshop_brain import config
from workshop_brain.app.ingest import Ingest
from workshop_brain.connect.handover import FrameType
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.model.curve import Curve, features
from workshop_brain.model.event import Event
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.catalog import CurveWish
from workshop_brain.store.historian.sort import warm_up
from workshop_brain.twin.board import Board
from workshop_brain.twin.curves import cycle_curves
from workshop_brain.twin.devices import DeviceClass
from workshop_brain.twin.orders import order_book
from workshop_brain.twin.policies import make_policy
from workshop_brain.twin.signals import PUBLISH_NS, Signals
from workshop_brain.twin.sim import Field, PlantSim
from workshop_brain.units import NS_PER_S

SEED = 1
START_NS = 1_772_409_600 * NS_PER_S  # Monday, 2 March 2026
RATE_HZ, TEST_S, CHANNELS = 51_200, 12.0, ("case_x_g", "case_y_g", "case_z_g", "bearing_g")
STEP_G = 10.0 / 2**23 / 0.1  # +-10 V over 24 bits, 100 mV/g
_VIBRATION = "end_of_line_vibration"
_MOST_WAITING = 24 << 20
_TEXTS = (Field.JOB, Field.SERIAL)
CLASSES = ("samples", "curves", "vibration")


@dataclass(slots=True)
class Sum:
    """Count and checksum of one class, whatever the order.

    Attributes
    ----------
    count
        Samples or curves.
    raw, wire
        Bytes as received, and in frames.
    check
        Sum of a hash of every sample or curve, modulo 2**64.
    """

    count: int = 0
    raw: int = 0
    wire: int = 0
    check: int = 0

    def samples(self, key: NDArray[np.uint64], time_ns: NDArray[Any], value: NDArray[Any]) -> None:
        """Add samples; ``key`` is a hash of each one's path."""
        bits = value.astype(np.float64).view(np.uint64)
        with np.errstate(over="ignore"):
            mixed = key ^ (time_ns.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ bits) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
            self.check = (self.check + int(mixed.sum(dtype=np.uint64))) % (1 << 64)
        self.count += len(time_ns)
        self.raw += 21 * len(time_ns)

    def curve(self, curve: Curve) -> None:
        """Add one curve."""
        name = f"{curve.serial}|{curve.station}|{curve.program}|{curve.step}|{curve.time_ns}"
        crc = zlib.crc32(name.encode())
        for channel, values in curve.channels.items():
            crc = zlib.crc32(values.tobytes(), zlib.crc32(channel.encode(), crc))
            self.raw += values.nbytes
        self.check = (self.check + crc * 0x9E3779B97F4A7C15) % (1 << 64)
        self.count += 1


def class_of(curve: Curve) -> str:
    """Class of a curve."""
    return "vibration" if curve.program == _VIBRATION else "curves"


def path_key(path: str) -> int:
    """Hash of a signal's path."""
    return (zlib.crc32(path.encode()) << 32) | zlib.crc32(path[::-1].encode())


# --- the plant: a process of its own ---


class Counting(Outbox):
    """An outbox that counts the bytes of its frames."""

    __slots__ = ("wire",)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.wire = dict.fromkeys(CLASSES, 0)

    def _emit(self, seq: int, frame: bytes) -> None:
        if frame[4] == FrameType.BATCH:
            self.wire["samples"] += len(frame)
        elif frame[4] == FrameType.CURVE:
            is_long = len(frame) > 1 << 20
            self.wire["vibration" if is_long else "curves"] += len(frame)
        super()._emit(seq, frame)


def vibration(serial: str, station: str, time_ns: int, wear: float) -> Curve:
    """A speed ramp up and down: shaft, gear meshes, a bearing, noise; codes of a converter."""
    draw = np.random.default_rng((SEED, zlib.crc32(f"{serial}{station}{time_ns}".encode())))
    n = round(RATE_HZ * TEST_S)
    seconds = np.arange(n, dtype=np.float64) / RATE_HZ
    shaft_hz = 10.0 + 75.0 * (1.0 - np.abs(2.0 * seconds / TEST_S - 1.0))
    angle = np.cumsum(shaft_hz) / RATE_HZ * (2.0 * np.pi)
    load = (shaft_hz / 85.0).astype(np.float32)
    channels: dict[str, NDArray[np.float32]] = {}
    for name in CHANNELS:
        level = draw.standard_normal(n, np.float32)
        level *= 0.08 * load * np.float32(1.0 + wear)
        for order, height in ((1, 0.05), (23, 0.4), (31, 0.3), (46, 0.2), (69, 0.1), (5.43, 0.04)):
            size = np.float32(height * (1.0 + 0.2 * draw.standard_normal()))
            level += size * load * np.sin((order * angle + draw.uniform(0, 6)).astype(np.float32))
        codes = np.rint(level.astype(np.float64) / STEP_G).astype(np.int32)
        channels[name] = (codes * STEP_G).astype(np.float32)
    return Curve(serial=serial, station=station, program=_VIBRATION, step=2, time_ns=time_ns,
                 channels=channels)  # fmt: skip


class Day:
    """The plant's day in steps of a publishing interval, the same for the same seed."""

    def __init__(self) -> None:
        plant = config.built_in().plant
        self.sim = PlantSim(plant, seed=SEED, start_ns=START_NS)
        self.signals = Signals(self.sim, seed=SEED)
        self.counted = np.array([d.counted for d in self.sim.devices])
        self.tags = np.full((len(self.sim.devices), len(Field)), -1, np.int64)
        first = self.signals.count
        for device in np.flatnonzero(self.counted).tolist():
            self.tags[device] = np.arange(first, first + len(Field))
            first += len(Field)
        self.sim.drain_changes()
        self.sim.drain_cycles()
        self.board = Board(self.sim, order_book(plant, SEED, START_NS, 3.0))
        self.rule = make_policy("fifo")

    def definitions(self) -> list[SignalDef]:
        """All signals, in the order of their local ids."""
        s = self.signals
        rows = [
            SignalDef(path=f"local/{p}", kind=k, unit=u)
            for p, k, u in zip(s.path, s.kind, s.unit, strict=True)
        ]
        for device in np.flatnonzero(self.counted).tolist():
            for tag in Field:
                kind = SignalKind.TEXT if tag in _TEXTS else SignalKind.STATE
                path = f"{self.sim.devices[device].path}/tag_{tag.name.lower()}"
                rows.append(SignalDef(path=path, kind=kind))
        return rows

    def step(self, k: int) -> tuple[list[Samples], list[Curve]]:
        """What came in interval ``k``; local ids, texts as codes of the plant."""
        t_ns = START_NS + k * PUBLISH_NS
        self.sim.advance(t_ns)
        if k % 4 == 0:
            self._give_out()
        out = [self._rows(*self.signals.report(node, t_ns, k), t_ns) for node in self.signals.nodes]
        changes = self.sim.drain_changes()
        rows = self.tags[changes.device, changes.field]
        known = rows >= 0
        ids, last = np.unique(rows[known][::-1], return_index=True)  # the last of each
        out.append(self._rows(ids, changes.value[known][::-1][last], t_ns))
        return out, self._curves()

    def _give_out(self) -> None:
        """The next jobs, for free units; without them the plant would stop after an hour."""
        news = self.sim.drain_notices()
        self.board.hear(news)
        self.rule.act(self.board, news)
        self.board.hear(self.sim.drain_notices())

    def _rows(self, ids: NDArray[Any], value: NDArray[Any], t_ns: int) -> Samples:
        n = len(ids)
        return Samples(ids.astype(np.uint32), np.full(n, t_ns, np.int64), value.astype(np.float64),
                       np.zeros(n, np.uint8))  # fmt: skip

    def _curves(self) -> list[Curve]:
        cycles = self.sim.drain_cycles()
        made = [curve for _, curve in cycle_curves(self.sim, cycles, seed=SEED)]
        for row in range(len(cycles)):
            device = self.sim.devices[int(cycles.device[row])]
            if device.klass is DeviceClass.EOL_BENCH and device.counted:
                serial = self.sim.texts[int(cycles.serial[row])]
                wear = float(cycles.wear[row])
                made.append(vibration(serial, device.path, int(cycles.end_ns[row]), wear))
        return made


async def plant(folder: Path, hours: float, speed: float) -> dict[str, Any]:
    """Make the day and hand it over; what was sent."""
    day = Day()
    box = Counting("day", "bench", folder / "i.sock", folder / "spool")
    definitions = day.definitions()
    box.declare(definitions)
    is_text = np.array([d.kind is SignalKind.TEXT for d in definitions])
    keys = np.array([path_key(d.path) for d in definitions], np.uint64)
    task = asyncio.create_task(box.run())
    sums = {name: Sum() for name in CLASSES}
    began, last = time.monotonic(), 0
    steps = round(hours * 3600 * NS_PER_S / PUBLISH_NS)
    for k in range(1, steps + 1):
        samples, curves = day.step(k)
        for rows in samples:
            text = is_text[rows.signal]
            hashed = rows.value.copy()
            if text.any():
                words = [day.sim.texts[int(c)] for c in rows.value[text]]
                rows.value[text] = [box.text(w) for w in words]
                hashed[text] = [zlib.crc32(w.encode()) for w in words]
            sums["samples"].samples(keys[rows.signal], rows.time_ns, hashed)
            if len(rows):
                last = box.add(rows, time.time_ns())
        for curve in curves:
            sums[class_of(curve)].curve(curve)
            last = box.curve(curve)
        if k % 4 == 0:
            await asyncio.sleep(0)
        while box._waiting_bytes > _MOST_WAITING:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        if speed:
            due = began + k * PUBLISH_NS / NS_PER_S / speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    box.flush()
    while box._acked < last:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    took = time.monotonic() - began
    await box.close()
    await ended(task)
    for name, size in box.wire.items():
        sums[name].wire = size
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"took_s": took, "sums": {n: asdict(s) for n, s in sums.items()}, "rss_mb": rss,
            "signals": len(definitions)}  # fmt: skip


# --- the brain's side ---


@dataclass(slots=True)
class Taken:
    """What the store was given."""

    history: Historian
    curves: int = 0
    feature_s: float = 0.0
    gaps: list[Event] = field(default_factory=list)

    def on_curve(self, curve: Curve, *, source: str, session: int, seq: int) -> int:
        """Features first, then the log, as a brain with curve monitors does."""
        began = time.perf_counter()
        features(curve)
        self.feature_s += time.perf_counter() - began
        self.curves += 1
        return self.history.append_curve(curve, source=source, session=session, seq=seq)


async def take(folder: Path, history: Historian, hours: float, speed: float) -> dict[str, Any]:
    """Run the plant's process and take in what it sends; its report."""
    taken = Taken(history)
    ingest = Ingest(
        history, folder / "i.sock", on_samples=lambda s, r: None, on_curve=taken.on_curve,
        on_event=taken.gaps.append,
    )  # fmt: skip
    await ingest.start()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.plant_day", "--plant", str(folder), "--hours", str(hours),
        "--speed", str(speed), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    began = time.monotonic()
    watching = asyncio.create_task(progress(history, taken, began, hours))
    out, _ = await process.communicate()
    watching.cancel()
    await ingest.close()
    if process.returncode:
        sys.exit("the plant's process failed")
    report: dict[str, Any] = json.loads(out)
    return {**report, "feature_s": taken.feature_s, "gaps": len(taken.gaps)}


async def progress(history: Historian, taken: Taken, began: float, hours: float) -> None:
    """A line a minute on standard error."""
    while True:
        await asyncio.sleep(60)
        rows = history.stats()["appended_rows"]
        rss = psutil.Process().memory_info().rss >> 20
        print(f"  {time.monotonic() - began:6.0f} s: {rows:,} samples, {taken.curves:,} curves, "
              f"{rss} MB", file=sys.stderr, flush=True)  # fmt: skip


def read_back(history: Historian) -> dict[str, Sum]:
    """Count and checksum of what is stored."""
    sums = {name: Sum() for name in CLASSES}
    signals = history.signals()
    for at in range(0, len(signals), 200):
        some = signals[at : at + 200]
        table = history.query([s.path for s in some], 0, 1 << 62)
        keys = np.array([path_key(s.path) for s in some], np.uint64)
        slot = table["path"].combine_chunks().indices.to_numpy()
        value = table["value"].to_numpy().copy()
        text = np.array([s.kind is SignalKind.TEXT for s in some])[slot]
        if text.any():
            words = table["text"].filter(text).to_pylist()
            value[text] = [zlib.crc32(w.encode()) for w in words]
        sums["samples"].samples(keys[slot], table["time_ns"].to_numpy(), value)
    for curve in every_curve(history):
        sums[class_of(curve)].curve(curve)
    return sums


def every_curve(history: Historian) -> Iterator[Curve]:
    """All curves, page by page."""
    before = None
    while page := history.curves(before=before, limit=64):
        yield from page
        last = page[-1]
        before = (last.time_ns, last.serial, last.station, last.step)


def on_disk(folder: Path, stats: dict[str, Any]) -> dict[str, int]:
    """Bytes of each class; vibration is what is kept as codes in the files of curves."""
    vibration = 0
    for path in (folder / "historian" / "curves").rglob("*.parquet"):
        meta = pq.ParquetFile(path).metadata
        for g in range(meta.num_row_groups):
            group = meta.row_group(g)
            vibration += sum(
                group.column(c).total_compressed_size
                for c in range(group.num_columns)
                if group.column(c).path_in_schema.startswith("codes")
            )
    return {
        "samples": stats["bytes"], "curves": stats["curve_bytes"] - vibration,
        "vibration": vibration, "rollups": stats["rollup_bytes"],
        "catalog": (folder / "historian" / "catalog.sqlite").stat().st_size,
    }  # fmt: skip


def fetch_ms(history: Historian) -> dict[str, list[float]]:
    """Milliseconds to fetch one curve by serial and station: median and slowest of 40."""
    out = {}
    for name in ("curves", "vibration"):
        program = _VIBRATION if name == "vibration" else None
        keys = history.list_curves(CurveWish(program=program), 4000)
        keys = [k for k in keys if (k.program == _VIBRATION) == (name == "vibration")]
        some = [keys[i] for i in np.random.default_rng(2).integers(0, len(keys), 40).tolist()]
        took = []
        for key in some:
            began = time.perf_counter()
            found = history.curves(serial=key.serial, station=key.station, program=key.program)
            took.append(1e3 * (time.perf_counter() - began) / len(found))  # some came twice
        out[name] = [round(float(np.median(took)), 1), round(max(took), 1)]
    return out


def show(report: dict[str, Any], disk: dict[str, int], hours: float, merged_s: float) -> None:
    """The figures."""
    sums = report["sums"]
    whole = 24 / hours
    guessed = " (extrapolated from this run)" if hours < 24 else ""
    took = report["took_s"]
    print(f"\n{hours:g} h of plant time, {report['signals']:,} signals, in {took:.0f} s "
          f"until durable: {3600 * hours / took:.1f} x real time; merging at "
          f"the end {merged_s:.0f} s; gap events {report['gaps']}\n"
          "class              count   as received MB   on the wire MB   on disk MB   bytes each"
          f"   ratio   GB a day{guessed}")  # fmt: skip
    for name in CLASSES:
        s = sums[name]
        print(f"{name:10s} {s['count']:13,} {s['raw'] / 1e6:16,.1f} {s['wire'] / 1e6:16,.1f} "
              f"{disk[name] / 1e6:12,.1f} {disk[name] / max(s['count'], 1):12,.2f} "
              f"{s['raw'] / max(disk[name], 1):7.1f} {whole * s['raw'] / 1e9:12,.2f}")  # fmt: skip
    raw, kept = sum(s["raw"] for s in sums.values()), sum(disk.values())
    print(f"rollups {disk['rollups'] / 1e6:,.1f} MB, catalog {disk['catalog'] / 1e6:,.1f} MB; all "
          f"{kept / 1e6:,.1f} MB of {raw / 1e6:,.1f} MB as received; a day: "
          f"{whole * raw / 1e9:.1f} GB as received, {whole * kept / 1e9:.2f} GB on disk"
          f"{guessed}")  # fmt: skip
    curves = sums["curves"]["count"] + sums["vibration"]["count"]
    print(f"curves with features: {curves / report['took_s']:.1f}/s beside the samples; features "
          f"took {1e3 * report['feature_s'] / max(curves, 1):.2f} ms each")  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--speed", type=float, default=0.0)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--plant", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plant is not None:
        print(json.dumps(asyncio.run(plant(options.plant, options.hours, options.speed))))
        return
    folder = Path(tempfile.mkdtemp(dir=options.data, prefix="plant-day-"))
    warm_up()
    try:
        with Historian(folder / "historian") as history:
            report = asyncio.run(take(folder, history, options.hours, options.speed))
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            began = time.monotonic()
            history.seal()
            history.compact()
            merged_s = time.monotonic() - began
            merged_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            show(report, on_disk(folder, history.stats()), options.hours, merged_s)
            print(f"most memory: {rss} MB while taking it in, {merged_rss} MB after merging, the "
                  f"plant's process {report['rss_mb']} MB")  # fmt: skip
            print(f"one curve by serial and station, ms (median, slowest): {fetch_ms(history)}")
            found = read_back(history)
        bad = [
            name for name in CLASSES
            if (found[name].count, found[name].check)
            != (report["sums"][name]["count"], report["sums"][name]["check"])
        ]  # fmt: skip
        for name in CLASSES:
            print(f"stored {name}: {found[name].count:,}, checksum {found[name].check:016x} "
                  f"{'DIFFERS' if name in bad else 'as sent'}")  # fmt: skip
        if bad:
            sys.exit(f"not complete: {', '.join(bad)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
