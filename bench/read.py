"""Reads of the historian out of 57.6 million rows, beside a sorted DuckDB file in the same run.

    python -m bench.read [--rows 57600000] [--days 30] [--dir DIR]

Two sets of data: the 12,000 signals of ``bench.ingest`` (20 min at 4 Hz = 57.6 M rows), and two
signals of 30 days at 4 Hz (20.7 M rows). The peer is a DuckDB file whose table was written in the
order of (signal, time), which is the best case for it. With ``--dir`` the data stay there and are
used again. Medians of 21 reads, each of another signal; answers are compared by value first.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from bench.ingest import START_NS, definitions, make_batches
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.sort import warm_up

DAY_NS = 86_400 * 10**9
LONG = [
    SignalDef(path=f"local/works/assembly/asm1/zone/long/s{k}", kind=SignalKind.GAUGE)
    for k in range(2)
]
_SORTED = "CREATE TABLE samples AS SELECT * FROM arrivals ORDER BY signal, time_ns"


def long_batches(days: int) -> Iterator[Samples]:
    """Two signals at 4 Hz, half an hour a batch, milliseconds of jitter."""
    rng = np.random.default_rng(11)
    value, step, n = np.full(2, 50.0), DAY_NS // 86_400 // 4, 7200
    for k in range(days * 48):
        walk = value + np.cumsum(rng.normal(0, 0.05, (n, 2)), axis=0)
        value = walk[-1]
        ticks = START_NS + (k * n + np.arange(n)) * step + rng.integers(0, 5, n) * 1_000_000
        yield Samples(
            np.tile(np.arange(2, dtype=np.uint32), n),
            np.repeat(ticks, 2),
            np.round(walk, 3).ravel(),
            np.zeros(2 * n, np.uint8),
        )


def fill(
    directory: Path, signals: list[SignalDef], batches: Callable[[], Iterator[Samples]]
) -> None:
    """Write one data set into our store and into a sorted DuckDB file, unless both are there."""
    if (directory / "complete").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    settings = HistorianSettings(seal_rows=1_000_000, seal_s=3600)
    with Historian(directory / "ours", settings=settings) as history:
        history.declare(signals)
        for k, batch in enumerate(batches(), start=1):
            history.append(batch, source="bench", session=1, seq=k)
            if k % 10 == 0:
                history.sync()
        history.compact()
    peer = duckdb.connect(str(directory / "peer.duckdb"))
    peer.execute("CREATE TABLE arrivals (signal UINTEGER, time_ns BIGINT, value DOUBLE)")
    for batch in batches():
        rows = {"signal": batch.signal, "time_ns": batch.time_ns, "value": batch.value}
        peer.from_arrow(pa.table(rows)).insert_into("arrivals")
    peer.execute(_SORTED)
    peer.execute("DROP TABLE arrivals")
    peer.execute("CHECKPOINT")
    peer.close()
    (directory / "complete").touch()


@contextmanager
def opened(directory: Path) -> Iterator[tuple[Historian, duckdb.DuckDBPyConnection]]:
    """Our store and the peer's file, both for reading."""
    history = Historian(directory / "ours", read_only=True)
    peer = duckdb.connect(str(directory / "peer.duckdb"), read_only=True)
    try:
        yield history, peer
    finally:
        peer.close()
        history.close()


def median_ms(read: Callable[[int], object], times: int = 21) -> float:
    """Median of reads, each told its number; the first is not counted."""
    read(times)
    took = []
    for k in range(times):
        started = time.perf_counter()
        read(k)
        took.append(time.perf_counter() - started)
    return round(1e3 * float(np.median(took)), 3)


def signal_of(k: int) -> int:
    """Scattered signals."""
    return (4321 + 577 * k) % 12_000


def wide(directory: Path) -> dict[str, Any]:
    """One signal, a hundred signals and all last values out of 12,000 signals."""
    paths = [d.path for d in definitions()]
    with opened(directory) as (history, peer):
        end = history.stats()["last_ns"] + 1

        def ours(k: int) -> pa.Table:
            return history.query([paths[signal_of(k)]], START_NS, end)

        def theirs(k: int) -> pa.Table:
            return peer.execute(
                "SELECT time_ns, value FROM samples WHERE signal = ? ORDER BY time_ns",
                [signal_of(k)],
            ).to_arrow_table()

        for k in range(5):
            a, b = ours(k), theirs(k)
            assert a.column("time_ns").combine_chunks().equals(b.column(0).combine_chunks())
            assert a.column("value").combine_chunks().equals(b.column(1).combine_chunks())
        out: dict[str, Any] = {
            "rows": history.stats()["rows"],
            "files": history.stats()["files"],
            "bytes_per_sample": round(history.stats()["bytes"] / history.stats()["rows"], 3),
            "peer_bytes_per_sample": round(
                (directory / "peer.duckdb").stat().st_size / history.stats()["rows"], 3
            ),
            "one_signal_20_min_ms": {"ours": median_ms(ours), "duckdb_sorted": median_ms(theirs)},
        }
        out["one_signal_1000_points_ms"] = {
            method: median_ms(
                lambda k, m=method: history.query(
                    [paths[signal_of(k)]], START_NS, end, points=1000, method=m
                )
            )
            for method in ("minmax", "lttb")
        }
        hundred = paths[4000:4100]
        moments = np.linspace(START_NS, end, 2000).astype(np.int64)
        out["asof_100_signals_2000_moments_ms"] = median_ms(
            lambda k: history.asof(hundred, moments), 5
        )
        out["average_per_minute_and_device_100_signals_ms"] = median_ms(
            lambda k: history.aggregate(hundred, START_NS, end, width_ns=60 * 10**9, depth=6), 5
        )
    # the array of last values is kept by the writer
    with Historian(directory / "ours") as history:
        out["all_last_values_ms"] = median_ms(lambda k: history.last_values())
    return out


def long(directory: Path, days: int) -> dict[str, Any]:
    """A day of raw rows and 30 days on 1,000 points."""
    with opened(directory) as (history, peer):
        end = history.stats()["last_ns"] + 1

        def ours(k: int) -> pa.Table:
            start = START_NS + k % (days - 1) * DAY_NS + k * 3_600_000_000_000 // 7
            return history.query([LONG[k % 2].path], start, start + DAY_NS)

        def theirs(k: int) -> pa.Table:
            start = START_NS + k % (days - 1) * DAY_NS + k * 3_600_000_000_000 // 7
            return peer.execute(
                "SELECT time_ns, value FROM samples WHERE signal = ? AND time_ns >= ? "
                "AND time_ns < ? ORDER BY time_ns",
                [k % 2, start, start + DAY_NS],
            ).to_arrow_table()

        def theirs_1000(k: int) -> pa.Table:
            width = (end - START_NS) // 1000
            return peer.execute(
                "SELECT (time_ns - ?) // ?, min(value), max(value), avg(value) FROM samples "
                "WHERE signal = ? GROUP BY ALL ORDER BY ALL",
                [START_NS, width, k % 2],
            ).to_arrow_table()

        a, b = ours(3), theirs(3)
        assert a.column("time_ns").combine_chunks().equals(b.column(0).combine_chunks())
        out = {
            "rows": history.stats()["rows"],
            "files": history.stats()["files"],
            "one_signal_24_h_raw_ms": {"ours": median_ms(ours), "duckdb_sorted": median_ms(theirs)},
        }
        out["one_signal_all_days_1000_points_ms"] = {
            "ours": median_ms(
                lambda k: history.query([LONG[k % 2].path], START_NS, end, points=1000)
            ),
            "duckdb_sorted": median_ms(theirs_1000, 5),
        }
        out["one_signal_all_days_lttb_1000_ms"] = median_ms(
            lambda k: history.query([LONG[k % 2].path], START_NS, end, points=1000, method="lttb"),
            5,
        )
    return out


def main() -> None:
    """Fill what is missing, read, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=57_600_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--dir", type=Path, default=None, help="keep the data here")
    options = parser.parse_args()
    warm_up()
    root = options.dir or Path(tempfile.mkdtemp(prefix="read-"))
    try:
        fill(root / "wide", definitions(), lambda: make_batches(options.rows, 480_000))
        fill(root / "long", LONG, lambda: long_batches(options.days))
        result = {"wide": wide(root / "wide"), "long": long(root / "long", options.days)}
    finally:
        if options.dir is None:
            shutil.rmtree(root)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
