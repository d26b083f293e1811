"""Backup, restore and doctor of a history, beside ``cp`` and ``sha256sum`` of the same files; and
the catalog in SQLite and in PostgreSQL, beside the bare statement.

    python -m bench.safety [--rows 24000000] [--segments 1000]

The history is one day of 12,000 signals, sealed every million rows and merged; the target is on the
same disk, once with hard links and once as if it were on another disk. The catalog is asked for the
files of a short time (``look``), which every read does, with the run index of a file beside each.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.store_peers import Postgres, why_not
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.backup import back_up, read_backup, restore, verify
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian.catalog import Catalog, Segment
from workshop_brain.store.historian.check import examine

SIGNALS = 12_000
START_NS = 1_767_225_600_000_000_000


def fill(directory: Path, rows: int) -> None:
    """Noise, which does not become small."""
    rng = np.random.default_rng(1)
    with Historian(directory) as history:
        history.declare(
            [SignalDef(path=f"e/s/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(SIGNALS)]
        )
        for seq in range(1, rows // (8 * SIGNALS) + 1):
            values = rng.random((8, SIGNALS))
            at = START_NS + (np.arange(8) + 8 * seq) * 250_000_000
            batch = Samples(
                np.tile(np.arange(SIGNALS, dtype=np.uint32), 8), np.repeat(at, SIGNALS),
                values.ravel(), np.zeros(8 * SIGNALS, np.uint8),
            )  # fmt: skip
            history.append(batch, source="s", session=1, seq=seq)
        history.sync()
        history.compact()


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    began = time.perf_counter()
    run()
    return round(time.perf_counter() - began, 3)


def of_backups(work: Path, rows: int) -> dict[str, object]:
    """Seconds of each command and of its peer."""
    data = work / "data"
    fill(data / "historian", rows)
    size = sum(p.stat().st_size for p in data.rglob("*") if p.is_file())
    out: dict[str, object] = {"rows": rows, "megabytes": round(size / 1e6, 1)}
    out["cp -a, sync"] = timed(
        lambda: subprocess.run(f"cp -a {data} {work}/copy && sync", shell=True, check=True)
    )
    hashing = f"find {data} -type f -print0 | xargs -0 sha256sum >/dev/null"
    out["sha256sum"] = timed(lambda: subprocess.run(hashing, shell=True, check=True))
    out["backup, linked"] = timed(lambda: back_up(data, work / "linked", now_ns=1))
    with patch.object(os, "link", side_effect=OSError(18, "another disk")):
        out["backup, copied"] = timed(lambda: back_up(data, work / "copied", now_ns=1))
    out["backup again"] = timed(lambda: back_up(data, work / "copied", now_ns=2))
    backup = read_backup(work / "copied")
    out["restore --check"] = timed(lambda: verify(work / "copied", backup))
    out["restore"] = timed(lambda: restore(work / "copied", work / "again"))
    out["doctor"] = timed(lambda: list(examine(data / "historian")))
    return out


def of_catalogs(work: Path, count: int) -> dict[str, object]:
    """Median microseconds of ``look`` and of a sealing's commit."""
    places = {"sqlite": ""}
    server = None if why_not(Postgres) else Postgres(work / "server")
    if server is not None:
        (port,) = server.ask("SHOW port")
        places["postgresql"] = f"postgresql://bench@127.0.0.1:{port}/postgres?schema=bench"
    out: dict[str, object] = {"segments": count}
    for name, url in places.items():
        (work / name).mkdir()
        catalog = Catalog(work / name / "catalog.sqlite", read_only=False, url=url)
        with catalog.transaction():
            for id in range(1, count + 1):
                catalog.add_segment(segment(id), bytes(20_000))
        out[f"{name}: look, us"] = median(lambda c=catalog: c.look(5000, 5200))
        out[f"{name}: commit, us"] = median(lambda c=catalog: commit(c))
        catalog.close()
    bare = sqlite3.connect(work / "sqlite" / "catalog.sqlite")
    out["bare sqlite3: the same statement, us"] = median(
        lambda: bare.execute(
            "SELECT id, unit, bucket_ns, date, level, file, rows, bytes, min_time, max_time, "
            "min_signal, max_signal, epoch, first_position, last_position, duplicates, conflicts "
            "FROM segments WHERE bucket_ns = 0 AND max_time >= 5000 AND min_time < 5200 "
            "ORDER BY last_position, id"
        ).fetchall()
    )
    bare.close()
    if server is not None:
        server.close()
    return out


def segment(id: int) -> Segment:
    """Row of a file of ten nanoseconds."""
    return Segment(
        id, id, 0, "2026-01-01", 0, f"{id}.parquet", 3, 9, 10 * id, 10 * id + 9, 0, 9, 7, id, id, 0,
        0, 1,
    )  # fmt: skip


def commit(catalog: Catalog) -> None:
    """What sealing commits: a file, 50 sessions, the last values of 9,700 signals."""
    with catalog.transaction():
        catalog.add_segment(segment(10**6), bytes(20_000))
        catalog.put_sessions({(f"source {k}", 1): 5 for k in range(50)})
        catalog.set_meta("sealed", 1)
        catalog.set_meta("last_values", bytes(165_000))


def median(run: Callable[[], object]) -> float:
    """Median microseconds of 100 runs."""
    return round(statistics.median(timed_us(run) for _ in range(100)), 1)


def timed_us(run: Callable[[], object]) -> float:
    """Microseconds of one run."""
    began = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - began) / 1000


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24_000_000)
    parser.add_argument("--segments", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safety-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        print(json.dumps(of_backups(work, options.rows), indent=1), flush=True)
        print(json.dumps(of_catalogs(work, options.segments), indent=1))


if __name__ == "__main__":
    main()
