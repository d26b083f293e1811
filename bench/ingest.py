"""Durable ingest, bytes per sample and reads of the historian, beside DuckDB in the same run.

    python bench/ingest.py [--rows 5760000] [--batch 96000] [--small 200]

The data: 12,000 signals on 153 devices, 4 Hz, milliseconds of jitter shared by the signals of a
device; 80 % random walks with 3 decimals, 8 % counters, 6 % slow states, 6 % flags. Every batch is
durable before the next one is sent. CPU figures count all threads of this process.
"""

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.sort import warm_up

SIGNALS, DEVICES = 12_000, 153
START_NS = 1_767_225_600_000_000_000
STEP_NS = 250_000_000


def make_batches(rows: int, batch: int) -> Iterator[Samples]:
    """Batches of about ``batch`` rows: whole scans of all signals, in the order of arrival."""
    rng = np.random.default_rng(7)
    ids = np.arange(SIGNALS, dtype=np.uint32)
    device = ids * DEVICES // SIGNALS
    kind = rng.choice(4, SIGNALS, p=[0.80, 0.08, 0.06, 0.06])
    value = np.where(kind == 0, rng.normal(50, 10, SIGNALS), rng.integers(0, 9, SIGNALS))
    scans, done = max(batch // SIGNALS, 1), 0
    while done < rows:
        times, values = [], []
        for scan in range(scans):
            jitter = rng.integers(0, 5, DEVICES)[device] * 1_000_000
            times.append(START_NS + (done // SIGNALS + scan) * STEP_NS + jitter)
            walk = np.round(value + rng.normal(0, 0.05, SIGNALS), 3)
            count = value + (rng.random(SIGNALS) < 0.3)
            slow = np.where(rng.random(SIGNALS) < 0.01, rng.integers(0, 18, SIGNALS), value)
            flag = np.where(rng.random(SIGNALS) < 0.02, 1 - np.minimum(value, 1), value)
            value = np.choose(kind, [walk, count, slow, np.minimum(flag, 1)])
            values.append(value)
        n = scans * SIGNALS
        yield Samples(
            np.tile(ids, scans),
            np.concatenate(times),
            np.concatenate(values),
            np.zeros(n, np.uint8),
        )
        done += n


def definitions() -> list[SignalDef]:
    """The signals of the data set."""
    return [
        SignalDef(
            path=f"local/works/assembly/asm1/zone/d{i * DEVICES // SIGNALS}/s{i}",
            kind=SignalKind.GAUGE,
        )
        for i in range(SIGNALS)
    ]


def spent(started: tuple[float, float]) -> tuple[float, float]:
    """Seconds of wall and CPU time since ``started``."""
    return time.perf_counter() - started[0], time.process_time() - started[1]


def now() -> tuple[float, float]:
    """Wall and CPU clocks."""
    return time.perf_counter(), time.process_time()


def ours(directory: Path, batches: list[Samples]) -> dict[str, object]:
    """Append, sync, seal and merge; then reads."""
    settings = HistorianSettings(seal_rows=1_000_000, seal_s=3600)
    history = Historian(directory, settings=settings)
    history.declare(definitions())
    waits = []
    rows = sum(len(b) for b in batches)
    started = now()
    for k, batch in enumerate(batches, start=1):
        sent = time.perf_counter()
        history.append(batch, source="bench", session=1, seq=k)
        history.sync()
        waits.append(time.perf_counter() - sent)
    acked = spent(started)
    history.seal()
    drained = spent(started)
    sealed = history.stats()
    history.compact()
    merged = spent(started)
    stats = history.stats()
    out = {
        "rows": rows,
        "acked_rows_per_s": round(rows / acked[0]),
        "drained_rows_per_s": round(rows / drained[0]),
        "cpu_us_per_row_drained": round(1e6 * drained[1] / rows, 4),
        "cpu_us_per_row_merged": round(1e6 * merged[1] / rows, 4),
        "ack_ms_p50_p99": [round(1e3 * float(np.percentile(waits, q)), 2) for q in (50, 99)],
        "bytes_per_sample_sealed": round(sealed["bytes"] / sealed["rows"], 3),
        "bytes_per_sample_merged": round(stats["bytes"] / stats["rows"], 3),
        "bytes_per_sample_rollups": round(stats["rollup_bytes"] / stats["rows"], 3),
        "bytes_per_sample_catalog": round(
            (directory / "catalog.sqlite").stat().st_size / stats["rows"], 3
        ),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    assert stats["rows"] == rows, "rows are missing"
    path, end = definitions()[4321].path, stats["last_ns"] + 1
    out["one_signal_raw_ms"] = best(lambda: history.query([path], START_NS, end))
    out["one_signal_1000_points_ms"] = best(
        lambda: history.query([path], START_NS, end, points=1000)
    )
    some = [d.path for d in definitions()[4000:4100]]
    out["hundred_signals_raw_ms"] = best(lambda: history.query(some, START_NS, end))
    out["last_values_ms"] = best(history.last_values)
    history.close()
    return out


def small_batches(directory: Path, count: int) -> dict[str, object]:
    """CPU time of appending batches of 1,000 rows."""
    with Historian(directory) as history:
        history.declare(definitions())
        rng = np.random.default_rng(1)
        batches = [
            Samples(
                rng.integers(0, SIGNALS, 1000).astype(np.uint32),
                START_NS + k * 50_000_000 + rng.integers(0, 50, 1000) * 1_000_000,
                np.round(rng.normal(0, 9, 1000), 3),
                np.zeros(1000, np.uint8),
            )
            for k in range(count)
        ]
        took = []
        for k, batch in enumerate(batches, start=1):
            started = time.thread_time()
            history.append(batch, source="bench", session=1, seq=k)
            took.append(time.thread_time() - started)
            if k % 20 == 0:
                history.sync()
    return {"append_1000_rows_cpu_us_p50": round(1e6 * float(np.median(took)), 1)}


def duckdb_native(directory: Path, batches: list[Samples]) -> dict[str, object]:
    """The same batches into a DuckDB table, one commit each."""
    directory.mkdir()
    file = directory / "peer.duckdb"
    connection = duckdb.connect(str(file))
    connection.execute(
        "CREATE TABLE samples (signal UINTEGER, time_ns BIGINT, value DOUBLE, quality UTINYINT)"
    )
    rows = sum(len(b) for b in batches)
    waits = []
    started = now()
    for samples in batches:
        sent = time.perf_counter()
        batch = pa.table(
            {
                "signal": samples.signal,
                "time_ns": samples.time_ns,
                "value": samples.value,
                "quality": samples.quality,
            }
        )
        connection.execute("BEGIN")
        connection.from_arrow(batch).insert_into("samples")
        connection.execute("COMMIT")
        waits.append(time.perf_counter() - sent)
    acked = spent(started)
    connection.execute("CHECKPOINT")
    drained = spent(started)
    one = "SELECT time_ns, value FROM samples WHERE signal = 4321 ORDER BY time_ns"
    out = {
        "acked_rows_per_s": round(rows / acked[0]),
        "drained_rows_per_s": round(rows / drained[0]),
        "cpu_us_per_row_drained": round(1e6 * drained[1] / rows, 4),
        "ack_ms_p50_p99": [round(1e3 * float(np.percentile(waits, q)), 2) for q in (50, 99)],
        "bytes_per_sample": round(file.stat().st_size / rows, 3),
        "one_signal_raw_ms": best(lambda: connection.sql(one).to_arrow_table()),
    }
    connection.close()
    return out


def best(run: object, times: int = 5) -> float:
    """Best of a few runs, ms."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        run()  # type: ignore[operator]
        took.append(time.perf_counter() - started)
    return round(1e3 * min(took), 2)


def main() -> None:
    """Run both and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_760_000)
    parser.add_argument("--batch", type=int, default=96_000)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--dir", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args()
    warm_up()  # a brain does it before it listens
    batches = list(make_batches(options.rows, options.batch))
    directory = Path(tempfile.mkdtemp(prefix="ingest-", dir=options.dir))
    try:
        result = {"small": small_batches(directory / "small", options.small)}
        result["workshop_brain"] = ours(directory / "ours", batches)
        result["duckdb"] = duckdb_native(directory / "peer", batches)
    finally:
        shutil.rmtree(directory)
    a, b = result["workshop_brain"], result["duckdb"]
    result["ratio"] = {
        "durable_ingest": round(a["drained_rows_per_s"] / b["drained_rows_per_s"], 2),  # type: ignore[operator]
        "bytes": round(a["bytes_per_sample_merged"] / b["bytes_per_sample"], 3),  # type: ignore[operator]
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
