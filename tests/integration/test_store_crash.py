"""kill -9 at random moments: every acknowledged row is there afterwards, by value."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from workshop_brain.model.signal import Samples
from workshop_brain.store.historian import Historian, HistorianSettings

ROWS, SIGNALS = 400, 40
WRITER = """
import sys
import numpy as np
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian, HistorianSettings
from workshop_brain.store.historian.sort import warm_up

rows, signals, settings = 400, 40, HistorianSettings(seal_rows=2000, seal_s=3600, merge=3)
warm_up()
history = Historian(sys.argv[1], settings=settings)
history.declare(
    [SignalDef(path=f"local/w/a/l/c/u/s{k}", kind=SignalKind.GAUGE) for k in range(signals)]
)
seq = history.last_seq("child", 7)
print("ready", seq, flush=True)
while True:
    seq += 1
    at = np.arange(rows, dtype=np.int64) + rows * (seq - 1)
    batch = Samples(
        (at % signals).astype(np.uint32), at * 1_000_000, at / 1000, np.zeros(rows, np.uint8)
    )
    history.append(batch, source="child", session=7, seq=seq)
    history.sync()
    print("ack", seq, flush=True)
"""


def run_and_kill(directory: Path, after_s: float) -> int:
    """Let a writer run, kill it, and return the last sequence number it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    ready = child.stdout.readline().split()
    assert ready[0] == "ready"
    time.sleep(after_s)
    child.kill()
    acked = [int(ready[1])]
    acked += [int(line.split()[1]) for line in child.stdout if line.endswith("\n")]
    child.stdout.close()
    child.wait()
    return acked[-1]


def check(history: Historian, acked: int) -> int:
    """Rows 0..n are there exactly once and by value, n at least what was acknowledged; last seq."""
    paths = [s.path for s in history.signals()]
    table = history.query(paths, 0, 10**18)
    order = np.argsort(table["time_ns"].to_numpy())
    row = table["time_ns"].to_numpy()[order] // 1_000_000
    assert len(row) % ROWS == 0, "half a batch is there"
    assert np.array_equal(row, np.arange(len(row))), "rows are missing or there twice"
    assert np.array_equal(table["value"].to_numpy()[order], row / 1000)
    slot = table["path"].combine_chunks().indices.to_numpy()[order]
    assert np.array_equal(slot, row % SIGNALS)
    assert len(row) // ROWS >= acked, "acknowledged rows are lost"
    return len(row) // ROWS


def send_again(history: Historian, kept: int) -> None:
    """A collector that heard no answer sends everything once more, and one batch that is new."""
    for seq in range(1, kept + 2):
        at = np.arange(ROWS, dtype=np.int64) + ROWS * (seq - 1)
        batch = Samples(
            (at % SIGNALS).astype(np.uint32), at * 1_000_000, at / 1000, np.zeros(ROWS, np.uint8)
        )
        history.append(batch, source="child", session=7, seq=seq)
    history.sync()
    assert history.stats()["appended_rows"] == ROWS


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    rng = random.Random(11)
    acked = 0
    for _ in range(2):
        acked = run_and_kill(tmp_path, rng.uniform(0.1, 1.2))
        with Historian(tmp_path, read_only=True) as reader:
            check(reader, acked)
    with Historian(tmp_path, settings=HistorianSettings(seal_rows=2000)) as history:
        last = check(history, acked)
        assert history.last_seq("child", 7) == last
        send_again(history, last)
        assert check(history, acked) == last + 1
        history.compact()
        assert check(history, acked) == last + 1
    assert acked > 0


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_reader_beside_a_busy_writer_never_sees_a_gap(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        acked = 0
        with Historian(tmp_path, read_only=True) as reader:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                acked = int(child.stdout.readline().split()[1])
                check(reader, acked)
        assert acked > 3
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
