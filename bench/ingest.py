"""Durable ingest and bytes per sample of the historian, beside DuckDB, PostgreSQL and
VictoriaMetrics in the same run; then the wait for an acknowledgement and the memory at a paced
million rows a second.

    python -m bench.ingest [--rows 5760000] [--batches 96000 12000] [--rounds 3] [--paced-s 20]

The data: 12,000 signals on 153 devices, 4 Hz, milliseconds of jitter shared by the signals of a
device; 80 % random walks with 3 decimals, 8 % counters, 6 % slow states, 4 % flags, 2 % texts
(states in words and serial numbers). Now and then a device is BAD or UNCERTAIN for a while: 4 % of
the rows. Every engine takes the same batches one after the other and acknowledges each before the
next one is sent: the historian and DuckDB Arrow batches with the texts as strings, PostgreSQL files
in its binary COPY format that it reads itself, VictoriaMetrics lines made before the clock starts
(it keeps numbers only: texts go as codes, the quality as one more field of each device).
Durable at acknowledgement: all but VictoriaMetrics, which forces nothing to disk.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from bench.store_peers import Postgres, VictoriaMetrics, size_of, why_not
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.memtable import ROW_BYTES
from workshop_brain.store.historian.sort import warm_up

SIGNALS, DEVICES = 12_000, 153
START_NS = 1_767_225_600_000_000_000
STEP_NS = 250_000_000
DEVICE = np.arange(SIGNALS) * DEVICES // SIGNALS
TEXT = np.arange(SIGNALS) % 50 == 0  # half of them states, half serial numbers
STATES = (
    "IDLE", "STARTING", "EXECUTE", "COMPLETING", "COMPLETE", "HOLDING", "HELD", "UNHOLDING",
    "SUSPENDING", "SUSPENDED", "UNSUSPENDING", "ABORTING", "ABORTED", "CLEARING", "STOPPING",
    "STOPPED", "RESETTING", "UNKNOWN",
)  # fmt: skip
WORDS = (*STATES, *(f"AT8-{k:07d}" for k in range(20_000)))
_SCANS_A_PART = 240  # a part a minute
_OUTAGE_SCANS = 20


def make_batches(rows: int, batch: int, *, mixed: bool = False) -> Iterator[Samples]:
    """Batches of about ``batch`` rows: whole scans of all signals, in the order of arrival.

    mixed
        With texts (codes into ``WORDS``) and qualities other than GOOD; without: numbers only.
    """
    rng, other = np.random.default_rng(7), np.random.default_rng(8)
    ids = np.arange(SIGNALS, dtype=np.uint32)
    kind = rng.choice(4, SIGNALS, p=[0.80, 0.08, 0.06, 0.06])
    value = np.where(kind == 0, rng.normal(50, 10, SIGNALS), rng.integers(0, 9, SIGNALS))
    states = other.integers(0, len(STATES), SIGNALS)
    left, grade = np.zeros(DEVICES, np.int64), np.zeros(DEVICES, np.uint8)
    scans, done = max(batch // SIGNALS, 1), 0
    while done < rows:
        times, values, qualities = [], [], []
        for scan in range(scans):
            jitter = rng.integers(0, 5, DEVICES)[DEVICE] * 1_000_000
            times.append(START_NS + (done // SIGNALS + scan) * STEP_NS + jitter)
            walk = np.round(value + rng.normal(0, 0.05, SIGNALS), 3)
            count = value + (rng.random(SIGNALS) < 0.3)
            slow = np.where(rng.random(SIGNALS) < 0.01, rng.integers(0, 18, SIGNALS), value)
            flag = np.where(rng.random(SIGNALS) < 0.02, 1 - np.minimum(value, 1), value)
            value = np.choose(kind, [walk, count, slow, np.minimum(flag, 1)])
            if not mixed:
                values.append(value)
                continue
            new = other.random(SIGNALS) < 0.02
            states = np.where(new, other.integers(0, len(STATES), SIGNALS), states)
            part = (done // SIGNALS + scan + 2 * ids // 100) // _SCANS_A_PART + 500 - ids // 100
            serials = len(STATES) + part.astype(np.int64)
            values.append(np.where(TEXT, np.where(ids % 100 == 0, serials, states), value))
            left = np.where(left > 0, left - 1, (other.random(DEVICES) < 0.002) * _OUTAGE_SCANS)
            grade = np.where(left == _OUTAGE_SCANS, other.integers(1, 3, DEVICES), grade)
            qualities.append(np.where(left > 0, grade, 0).astype(np.uint8)[DEVICE])
        n = scans * SIGNALS
        yield Samples(
            np.tile(ids, scans),
            np.concatenate(times),
            np.concatenate(values),
            np.concatenate(qualities) if mixed else np.zeros(n, np.uint8),
        )
        done += n


def definitions(*, mixed: bool = False) -> list[SignalDef]:
    """The signals of the data set."""
    return [
        SignalDef(
            path=f"local/works/assembly/asm1/zone/d{DEVICE[i]}/s{i}",
            kind=SignalKind.TEXT if mixed and TEXT[i] else SignalKind.GAUGE,
        )
        for i in range(SIGNALS)
    ]


def as_arrow(samples: Samples) -> pa.RecordBatch:
    """The batch as it travels: texts as strings, null where the signal is none."""
    is_text = TEXT[samples.signal]
    words = pa.array(WORDS).take(pa.array(samples.value[is_text].astype(np.int64)))
    at = np.cumsum(is_text) - 1
    return pa.record_batch(
        {
            "signal": samples.signal,
            "time_ns": samples.time_ns,
            "value": np.where(is_text, 0.0, samples.value),
            "quality": samples.quality,
            "text": words.take(pa.array(at, mask=~is_text)),
        }
    )


def from_arrow(batch: pa.RecordBatch, history: Historian) -> Samples:
    """The batch as the historian takes it: its texts become codes."""
    signal, time_ns, value, quality, text = batch.columns
    values = value.to_numpy()
    words = text.drop_null().dictionary_encode()
    if len(words):
        codes = np.asarray(history.intern(words.dictionary.to_pylist()), np.float64)
        values = values.copy()
        values[text.is_valid().to_numpy(zero_copy_only=False)] = codes[words.indices.to_numpy()]
    return Samples(signal.to_numpy(), time_ns.to_numpy(), values, quality.to_numpy())


class Stopwatch:
    """Wall and CPU time (all threads of this process) of one engine's run, and its waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def send(self, one: Callable[[], object]) -> None:
        """One batch, until it is acknowledged."""
        started = time.perf_counter()
        one()
        self.waits.append(time.perf_counter() - started)

    def figures(self, rows: int, what: str) -> dict[str, float]:
        """Rows a second and CPU so far, under names that begin with ``what``."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {f"{what}_rows_per_s": rows / wall, f"{what}_cpu_us_per_row": 1e6 * cpu / rows}

    def ack_ms(self) -> dict[str, float]:
        """Median and 99th percentile of the waits."""
        return {f"ack_ms_p{q}": 1e3 * float(np.percentile(self.waits, q)) for q in (50, 99)}


def ours(directory: Path, batches: Sequence[pa.RecordBatch]) -> dict[str, float]:
    """Append and sync each batch; until all is sealed; then merge."""
    rows = sum(len(b) for b in batches)
    with Historian(directory, settings=HistorianSettings(seal_s=3600)) as history:
        history.declare(definitions(mixed=True))

        def send(batch: pa.RecordBatch) -> None:
            history.append(from_arrow(batch, history), source="bench", session=1, seq=next(numbers))
            history.sync()

        numbers, watch = iter(range(1, len(batches) + 1)), Stopwatch()
        for batch in batches:
            watch.send(lambda b=batch: send(b))
        out = watch.figures(rows, "acked")
        history.seal()
        out |= watch.figures(rows, "drained") | watch.ack_ms()
        sealed = history.stats()
        history.compact()
        stats = history.stats()
        assert stats["rows"] == rows, "rows are missing"
        catalog = (directory / "catalog.sqlite").stat().st_size
        return out | {
            "bytes_per_sample_sealed": sealed["bytes"] / rows,
            "bytes_per_sample": stats["bytes"] / rows,
            "bytes_per_sample_rollups": stats["rollup_bytes"] / rows,
            "bytes_per_sample_catalog": catalog / rows,
        }


def duckdb_native(directory: Path, batches: Sequence[pa.RecordBatch]) -> dict[str, float]:
    """The same batches into a DuckDB table, one commit each; until its checkpoint."""
    directory.mkdir()
    file, rows = directory / "peer.duckdb", sum(len(b) for b in batches)
    connection = duckdb.connect(str(file))
    connection.execute(
        "CREATE TABLE samples (signal UINTEGER, time_ns BIGINT, value DOUBLE, quality UTINYINT, "
        "text VARCHAR)"
    )

    def send(batch: pa.RecordBatch) -> None:
        connection.execute("BEGIN")
        connection.from_arrow(pa.Table.from_batches([batch])).insert_into("samples")
        connection.execute("COMMIT")

    watch = Stopwatch()
    for batch in batches:
        watch.send(lambda b=batch: send(b))
    out = watch.figures(rows, "acked")
    connection.execute("CHECKPOINT")
    out |= watch.figures(rows, "drained") | watch.ack_ms()
    found = connection.execute("SELECT count(*) FROM samples").fetchone()
    assert found == (rows,), "rows are missing"
    connection.close()
    return out | {"bytes_per_sample": file.stat().st_size / rows}


def postgres(directory: Path, batches: Sequence[pa.RecordBatch]) -> dict[str, float]:
    """The same rows by COPY, one commit each. Its CPU is in other processes: not counted."""
    rows, server = sum(len(b) for b in batches), Postgres(directory)
    try:
        files = []
        for k, batch in enumerate(batches):
            files.append(directory / f"{k}.copy")
            files[-1].write_bytes(copy_format(batch))
        watch = Stopwatch()
        for file in files:
            watch.send(lambda f=file: server.copy(f))
        out = {"acked_rows_per_s": watch.figures(rows, "acked")["acked_rows_per_s"]}
        assert server.ask("SELECT count(*) FROM samples") == [str(rows)], "rows are missing"
        (size,) = server.ask("SELECT pg_total_relation_size('samples')")
        return out | watch.ack_ms() | {"bytes_per_sample": int(size) / rows}
    finally:
        server.close()


def copy_format(batch: pa.RecordBatch) -> bytes:
    """Rows in PostgreSQL's binary COPY format: first those without text, then by text length."""
    fields = [("fields", ">i2")]
    for name, kind in (("signal", ">i4"), ("time_ns", ">i8"), ("value", ">f8"), ("quality", ">i2")):
        fields += [(f"{name}_bytes", ">i4"), (name, kind)]
    text = batch.column("text").fill_null("").to_numpy(zero_copy_only=False)
    lengths = np.array([len(word) for word in text])
    out = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        tail = [("text", f"S{length}")] if length else []
        part = np.zeros(len(chosen), np.dtype([*fields, ("text_bytes", ">i4"), *tail]))
        part["fields"], part["text_bytes"] = 5, length or -1
        for name in ("signal", "time_ns", "value", "quality"):
            part[f"{name}_bytes"] = part.dtype[name].itemsize
            part[name] = batch.column(name).to_numpy()[chosen]
        if length:
            part["text"] = text[chosen].astype("S")
        out.append(part.tobytes())
    return b"".join([*out, b"\xff\xff"])


def victoria(directory: Path, batches: Sequence[Samples]) -> dict[str, float]:
    """The same samples over HTTP; then until they can be found. Nothing is forced to disk."""
    rows, lines = sum(len(b) for b in batches), [line_format(b) for b in batches]
    server = VictoriaMetrics(directory)
    try:
        watch = Stopwatch()
        for body in lines:
            watch.send(lambda b=body: server.write(b))
        out = {"acked_rows_per_s": watch.figures(rows, "acked")["acked_rows_per_s"]}
        server.ask("GET", "/internal/force_flush")
        out |= {"drained_rows_per_s": watch.figures(rows, "drained")["drained_rows_per_s"]}
        found = json.loads(server.ask("GET", "/api/v1/export?match[]=d55_s4321"))
        assert len(found["values"]) == rows // SIGNALS, "rows are missing"
        server.ask("GET", "/internal/force_merge")
        time.sleep(3.0)
    finally:
        server.close()
    return out | watch.ack_ms() | {"bytes_per_sample": size_of(directory / "data") / rows}


def line_format(samples: Samples) -> bytes:
    """One line for each scan of a device: its signals, its quality, its time stamp."""
    lines = []
    edges = np.flatnonzero(np.diff(DEVICE, prepend=-1)).tolist()
    names = [f"s{i}=" for i in range(SIGNALS)]
    for start in range(0, len(samples), SIGNALS):
        texts = [f"{v:.10g}" for v in samples.value[start : start + SIGNALS].tolist()]
        pairs = [name + text for name, text in zip(names, texts, strict=True)]
        for device, low in enumerate(edges):
            high = edges[device + 1] if device + 1 < DEVICES else SIGNALS
            row = start + low
            lines.append(
                f"d{device} {','.join(pairs[low:high])},q={samples.quality[row]} "
                f"{samples.time_ns[row]}\n"
            )
    return "".join(lines).encode()


def paced(directory: Path, seconds: float, per_s: int = 1_000_000) -> dict[str, float]:
    """Batches of 12,000 rows at a steady pace: waits and memory above idle, in this process."""
    few = [as_arrow(b) for b in make_batches(960_000, SIGNALS, mixed=True)]
    span = STEP_NS * len(few)
    with Historian(directory) as history:
        history.declare(definitions(mixed=True))
        rss, stop = [resident()], threading.Event()

        def watch_memory() -> None:
            while not stop.wait(0.02):
                rss.append(resident())

        watcher, watch = threading.Thread(target=watch_memory), Stopwatch()
        watcher.start()

        def send(samples: Samples, seq: int) -> None:
            history.append(samples, source="bench", session=1, seq=seq)
            history.sync()

        count, started = int(seconds * per_s / SIGNALS), time.perf_counter()
        late = 0.0
        for k in range(count):
            rows = from_arrow(few[k % len(few)], history)
            rows = Samples(
                rows.signal, rows.time_ns + k // len(few) * span, rows.value, rows.quality
            )
            wait = started + k * SIGNALS / per_s - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            late = max(late, -wait)
            watch.send(lambda r=rows, k=k: send(r, k + 1))
        out = watch.figures(count * SIGNALS, "paced")
        stop.set()
        watcher.join()
        merged = history.stats()["files"]
        history.seal()
        assert history.stats()["rows"] == count * SIGNALS, "rows are missing"
    return (
        out
        | watch.ack_ms()
        | {
            "latest_ms": 1e3 * late,
            "memory_above_idle_mb": (max(rss) - rss[0]) / 1e6,
            "merged_files": merged.get("L1", 0),
        }
    )


def disk_floor_ms(file: Path, size: int) -> float:
    """Median of appending so many bytes to a file and forcing them to disk: no batch is faster."""
    took, data = [], bytes(size)
    with file.open("wb", buffering=0) as log:
        for _ in range(60):
            started = time.perf_counter()
            log.write(data)
            os.fdatasync(log.fileno())
            took.append(time.perf_counter() - started)
    file.unlink()
    return rounded(1e3 * float(np.median(took)))


def resident() -> int:
    """Resident memory of this process, bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median of each figure over the rounds."""
    return {name: rounded(float(np.median([run[name] for run in runs]))) for name in runs[0]}


def rounded(value: float) -> float:
    """Three decimals below a thousand, none above."""
    return round(value) if abs(value) >= 1000 else round(value, 3)


def compare(root: Path, rows: int, batch: int, rounds: int) -> dict[str, Any]:
    """All engines on batches of one size, taking turns; medians and ratios."""
    samples = list(make_batches(rows, batch, mixed=True))
    batches = [as_arrow(b) for b in samples]
    engines: dict[str, Callable[[Path], dict[str, float]]] = {
        "workshop_brain": lambda d: ours(d, batches),
        "duckdb": lambda d: duckdb_native(d, batches),
    }
    out: dict[str, Any] = {}
    for name, peer, run in (
        ("postgresql", Postgres, lambda d: postgres(d, batches)),
        ("victoriametrics", VictoriaMetrics, lambda d: victoria(d, samples)),
    ):
        if reason := why_not(peer):
            out[name] = reason
        else:
            engines[name] = run
    found: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for k in range(rounds):
        for name, run in engines.items():
            found[name].append(run(root / f"{name}-{batch}-{k}"))
            shutil.rmtree(root / f"{name}-{batch}-{k}")
            print(f"{batch} rows a batch, round {k + 1}: {name}", file=sys.stderr, flush=True)
    out |= {name: medians(runs) for name, runs in found.items()}
    out["disk_floor_ms"] = disk_floor_ms(root / "floor", batch * ROW_BYTES)
    mine = out["workshop_brain"]["drained_rows_per_s"]
    out["times_as_fast"] = {
        name: round(mine / out[name].get("drained_rows_per_s", out[name]["acked_rows_per_s"]), 2)
        for name in engines
        if name != "workshop_brain"
    }
    return out


def main() -> None:
    """Run all and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_760_000)
    parser.add_argument("--batches", type=int, nargs="+", default=[96_000, 12_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paced-s", type=float, default=25.0)
    parser.add_argument("--dir", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--paced-child", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warm_up()  # a brain does it before it listens
    pa.array(np.zeros(1))
    if options.paced_child is not None:
        figures = paced(options.paced_child, options.paced_s)
        print(json.dumps({name: rounded(value) for name, value in figures.items()}))
        return
    root = Path(tempfile.mkdtemp(prefix="ingest-", dir=options.dir))
    try:
        result: dict[str, Any] = {
            f"batches_of_{batch}": compare(root, options.rows, batch, options.rounds)
            for batch in options.batches
        }
        if options.paced_s:
            child = subprocess.run(  # a process of its own: its memory is only the historian's
                [
                    sys.executable, "-m", "bench.ingest", "--paced-child", root / "paced",
                    "--paced-s", str(options.paced_s),
                ],
                stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            result["paced_1_M_rows_per_s"] = json.loads(child.stdout)
    finally:
        shutil.rmtree(root)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
