"""Kill the writer with kill -9 at random moments, many times, and check every row: the historian,
and DuckDB and VictoriaMetrics under the same killer.

    python -m bench.kill_store [--kills 100] [--seed 1]

The writer appends batches of 400 rows, acknowledges each when its store says that it has it, and
goes on. The historian seals every 2,000 rows and merges every 3 files, so that kills hit appends,
seals, commits and merges of every level; after each kill a reader and then a writer look at what
is there: every acknowledged row once, by value, in whole batches. Of VictoriaMetrics the server is
killed, while batches are sent to it; what it had answered "204" to is asked for after it has come
up again. No writer lives longer than 2 s.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.store_peers import VictoriaMetrics, why_not
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.sort import warm_up

ROWS, SIGNALS = 400, 40
START_NS = 1_767_225_600_000_000_000
STEP_NS = 500_000_000  # a day in 432 batches: finished days are merged to level 2 meanwhile
SETTINGS = HistorianSettings(seal_rows=2000, seal_s=3600, merge=3)


def batch_of(seq: int) -> Samples:
    """Row k: its time is k steps after the start, its value k / 1000."""
    at = np.arange(ROWS, dtype=np.int64) + ROWS * (seq - 1)
    return Samples(
        (at % SIGNALS).astype(np.uint32), START_NS + at * STEP_NS, at / 1000,
        np.zeros(ROWS, np.uint8),
    )  # fmt: skip


def write(directory: Path) -> None:
    """Append and acknowledge on stdout until killed."""
    warm_up()
    history = Historian(directory, settings=SETTINGS)
    history.declare(
        [SignalDef(path=f"local/w/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(SIGNALS)]
    )
    seq = history.last_seq("child", 7)
    print("ready", seq, flush=True)
    while True:
        seq += 1
        history.append(batch_of(seq), source="child", session=7, seq=seq)
        history.sync()
        print("ack", seq, flush=True)


def write_duckdb(directory: Path) -> None:
    """The same into a table of DuckDB, a commit for each batch."""
    connection = duckdb.connect(str(directory / "peer.duckdb"))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS samples "
        "(signal UINTEGER, time_ns BIGINT, value DOUBLE, quality UTINYINT)"
    )
    ((found,),) = connection.execute("SELECT count(*) FROM samples").fetchall()
    seq = int(found) // ROWS
    print("ready", seq, flush=True)
    while True:
        seq += 1
        rows = batch_of(seq)
        columns = {name: getattr(rows, name) for name in Samples.__slots__}
        connection.from_arrow(pa.table(columns)).insert_into("samples")
        print("ack", seq, flush=True)


def kill_once(engine: str, directory: Path, after_s: float) -> int:
    """Last sequence number acknowledged by a writer that lived ``after_s`` seconds."""
    command = [sys.executable, "-m", "bench.kill_store", "--child", engine, str(directory)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    ready = child.stdout.readline().split()
    time.sleep(after_s)
    child.kill()
    acked = [int(line.split()[1]) for line in child.stdout if line.endswith("\n")]
    child.stdout.close()
    child.wait()
    return acked[-1] if acked else int(ready[1])


def count(history: Historian) -> int:
    """Number of whole batches; AssertionError when a row is missing, doubled or changed."""
    table = history.query([s.path for s in history.signals()], START_NS, 2 * START_NS)
    order = np.argsort(table["time_ns"].to_numpy())
    row = (table["time_ns"].to_numpy()[order] - START_NS) // STEP_NS
    assert len(row) % ROWS == 0, "half a batch is there"
    assert np.array_equal(row, np.arange(len(row))), "rows are missing or doubled"
    assert np.array_equal(table["value"].to_numpy()[order], row / 1000), "values are changed"
    return len(row) // ROWS


def ours(directory: Path, lives: list[float], say: Callable[[str], None]) -> dict[str, object]:
    """Rows acknowledged and rows lost."""
    lost = acked = 0
    files: object = {}
    for kill, life in enumerate(lives, start=1):
        acked = kill_once("ours", directory, life)
        with Historian(directory, read_only=True) as reader:
            lost += max(acked - count(reader), 0)
        if kill % 10 == 0 or kill == len(lives):
            with Historian(directory, settings=SETTINGS) as history:
                lost += max(acked - count(history), 0)
                files = history.stats()["files"]
            say(f"{kill} kills, {acked} batches acknowledged, {lost} lost")
    return {"acknowledged_rows": acked * ROWS, "lost_rows": lost * ROWS, "files": files}


def of_duckdb(directory: Path, lives: list[float], say: Callable[[str], None]) -> dict[str, object]:
    """The same of DuckDB."""
    lost = acked = 0
    for kill, life in enumerate(lives, start=1):
        acked = kill_once("duckdb", directory, life)
        with duckdb.connect(str(directory / "peer.duckdb")) as connection:
            ((rows, distinct, right),) = connection.execute(
                "SELECT count(*), count(DISTINCT time_ns), "
                "bool_and(value = (time_ns - ?) // ? / 1000) FROM samples",
                [START_NS, STEP_NS],
            ).fetchall()
        assert rows == distinct, "rows are doubled"
        assert right is not False, "values are changed"
        lost += max(acked * ROWS - rows, 0)
        if kill % 10 == 0:
            say(f"{kill} kills, {acked} batches acknowledged, {lost} rows lost")
    return {"acknowledged_rows": acked * ROWS, "lost_rows": lost}


def of_victoria(
    directory: Path, lives: list[float], say: Callable[[str], None]
) -> dict[str, object]:
    """The same of VictoriaMetrics."""
    server = VictoriaMetrics(directory)
    server.write(lines_of(batch_of(1)))
    server.close()
    server = VictoriaMetrics(directory)
    assert found_in(server, 0, 1) == ROWS, "the control was not found: stopped in peace"
    server.close()
    seq, acknowledged, lost, lossy = 1, 0, 0, 0
    for kill, life in enumerate(lives, start=1):
        server, first = VictoriaMetrics(directory), seq
        timer = threading.Timer(life, server.kill)
        timer.start()
        try:
            while True:
                server.write(lines_of(batch_of(seq + 1)))
                seq += 1
        except (OSError, HTTPException):
            timer.join()
        server = VictoriaMetrics(directory)
        sent = ROWS * (seq - first)
        missing = sent - found_in(server, first, seq)
        server.close()
        seq += 1  # the batch that was being sent may be there, in part
        acknowledged, lost, lossy = acknowledged + sent, lost + missing, lossy + (missing > 0)
        if kill % 10 == 0:
            say(f"{kill} kills, {acknowledged} rows acknowledged, {lost} lost")
    return {"acknowledged_rows": acknowledged, "lost_rows": lost, "kills_with_loss": lossy}


def found_in(server: VictoriaMetrics, first: int, last: int) -> int:
    """Rows of the batches ``first < seq <= last`` that are there."""
    start_s, end_s = ((START_NS + ROWS * seq * STEP_NS) / 1e9 for seq in (first, last))
    body = server.ask(
        "GET", "/api/v1/export?match[]=%7B__name__!=''%7D"
        f"&start={start_s:.3f}&end={end_s - 0.001:.3f}"
    )  # fmt: skip
    return sum(len(json.loads(line)["timestamps"]) for line in body.splitlines())


def lines_of(samples: Samples) -> bytes:
    """A batch in the line protocol."""
    rows = zip(samples.signal, samples.value, samples.time_ns, strict=True)
    return "".join(f"s{s} v={v} {t}\n" for s, v, t in rows).encode()


def main() -> None:
    """Kill, check, report one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        engine, name = options.child
        {"ours": write, "duckdb": write_duckdb}[engine](Path(name))
    rng = random.Random(options.seed)
    lives = [rng.choice([0.1, 0.5, 2.0]) * rng.random() for _ in range(options.kills)]
    report: dict[str, object] = {"kills": options.kills}
    engines = {"workshop_brain": ours, "duckdb": of_duckdb, "victoriametrics": of_victoria}
    for name, run in engines.items():
        if name == "victoriametrics" and (reason := why_not(VictoriaMetrics)):
            report[name] = reason
            continue
        with tempfile.TemporaryDirectory(prefix="kill-store-") as directory:
            report[name] = run(
                Path(directory), lives, lambda t, n=name: print(f"{n}: {t}", file=sys.stderr)
            )
    print(json.dumps(report, indent=1))
    mine = report["workshop_brain"]
    assert isinstance(mine, dict)
    sys.exit(1 if mine["lost_rows"] else 0)


if __name__ == "__main__":
    main()
