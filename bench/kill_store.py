"""Kill the historian's writer with kill -9 at random moments, many times, and check every row.

    python bench/kill_store.py [--kills 100] [--seed 1]

The writer appends batches of 400 rows, acknowledges each after its sync, seals every 2,000 rows and
merges every 3 files, so that kills hit appends, seals, commits and merges. After each kill a reader
and then a writer look at what is there: every acknowledged row once, by value, in whole batches.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.sort import warm_up

ROWS, SIGNALS = 400, 40
SETTINGS = HistorianSettings(seal_rows=2000, seal_s=3600, merge=3)


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
        at = np.arange(ROWS, dtype=np.int64) + ROWS * (seq - 1)
        batch = Samples(
            (at % SIGNALS).astype(np.uint32), at * 1_000_000, at / 1000, np.zeros(ROWS, np.uint8)
        )
        history.append(batch, source="child", session=7, seq=seq)
        history.sync()
        print("ack", seq, flush=True)


def kill_once(directory: Path, after_s: float) -> int:
    """Last sequence number acknowledged by a writer that lived ``after_s`` seconds."""
    command = [sys.executable, __file__, "--child", str(directory)]
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
    table = history.query([s.path for s in history.signals()], 0, 10**18)
    order = np.argsort(table["time_ns"].to_numpy())
    row = table["time_ns"].to_numpy()[order] // 1_000_000
    assert len(row) % ROWS == 0, "half a batch is there"
    assert np.array_equal(row, np.arange(len(row))), "rows are missing or doubled"
    assert np.array_equal(table["value"].to_numpy()[order], row / 1000), "values are changed"
    return len(row) // ROWS


def main() -> None:
    """Kill, check, report one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        write(options.child)
    rng = random.Random(options.seed)
    lost, acked, files = 0, 0, {}
    with tempfile.TemporaryDirectory(prefix="kill-store-") as name:
        directory = Path(name)
        for kill in range(1, options.kills + 1):
            acked = kill_once(directory, rng.choice([0.1, 0.5, 2.0]) * rng.random())
            with Historian(directory, read_only=True) as reader:
                lost += max(acked - count(reader), 0)
            if kill % 10 == 0:
                with Historian(directory, settings=SETTINGS) as history:
                    lost += max(acked - count(history), 0)
                    files = history.stats()["files"]
                print(f"{kill} kills, {acked} batches acknowledged, {lost} lost", file=sys.stderr)
    report = {"kills": options.kills, "acknowledged_rows": acked * ROWS, "lost_batches": lost}
    print(json.dumps(report | {"files": files}))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
