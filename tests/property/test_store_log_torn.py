"""Torn writes and flipped bits of the log: no acknowledged row is lost unsaid, none invented."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.errors import DamageError
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.historian import log as wal

STEPS = st.lists(st.sampled_from(["append", "append", "append", "sync", "rotate"]), max_size=25)
HARMS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "zero", "append"]), st.floats(0, 1), st.binary(max_size=40)
    ),
    min_size=1,
    max_size=3,
)


@contextmanager
def folder() -> Iterator[Path]:
    """A directory for one example."""
    with tempfile.TemporaryDirectory(prefix="wal-") as name:
        yield Path(name)


def written(directory: Path, steps: list[str], *, is_closed: bool) -> tuple[list[bytes], int]:
    """Bodies of the frames, and the position that was acknowledged last."""
    writer = wal.LogWriter(directory, position=0, last={})
    bodies: list[bytes] = []
    acknowledged = 0
    for step in steps:
        if step == "append":
            bodies.append(f"frame {len(bodies)} ".encode() * (1 + 7 * len(bodies) % 5))
            writer.append(wal.SAMPLES, [bodies[-1]])
        elif step == "sync":
            acknowledged = writer.sync()
        else:
            writer.rotate()
    if is_closed:
        writer.close()
        return bodies, len(bodies)
    for file in writer._open:  # killed
        os.close(file.fd)
    return bodies, acknowledged


def harm(path: Path, start: int, kind: str, where: float, garbage: bytes) -> None:
    """Do something to the bytes of a file from ``start`` on."""
    data = bytearray(path.read_bytes())
    at = start + int(where * (len(data) - start))
    if kind == "cut":
        del data[at:]
    elif kind == "flip" and at < len(data):
        data[at] ^= 1 << (len(garbage) % 8)
    elif kind == "zero":  # a file that was made longer before its bytes were written
        data[at:] = bytes(len(data) - at)
    elif kind == "append":
        data += garbage
    path.write_bytes(bytes(data))


def recovered(directory: Path, *, repair: bool = False) -> dict[int, bytes]:
    found = wal.recover(directory, sealed=0, repair=repair)
    return {frame.position: bytes(wal.read_body(frame)) for frame in found.frames}


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, harms=HARMS)
def test_what_a_crash_tears_behind_the_last_sync_costs_nothing_acknowledged(
    steps: list[str], harms: list[tuple[str, float, bytes]]
) -> None:
    with folder() as directory:
        bodies, acknowledged = written(directory, steps, is_closed=False)
        frames = [f for p in wal.log_files(directory) for f, _ in wal.scan(p)]
        for path in wal.log_files(directory):
            safe = [f.end for f in frames if f.path == path and f.position <= acknowledged]
            for kind, where, garbage in harms:
                harm(path, max(safe, default=0), kind, where, garbage)
        kept = recovered(directory)
        assert len(kept) >= acknowledged
        assert kept == dict(enumerate(bodies[: len(kept)], start=1))
        last = wal.recover(directory, sealed=0).last
        writer = wal.LogWriter(directory, position=len(kept), last=last)
        assert writer.append(wal.SAMPLES, [b"goes on"]) == len(kept) + 1
        writer.close()
        assert recovered(directory) == {**kept, len(kept) + 1: b"goes on"}


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, harms=HARMS, is_closed=st.booleans(), which=st.floats(0, 0.999))
def test_damage_anywhere_is_named_or_harmless_and_repair_keeps_every_frame_that_counts(
    steps: list[str],
    harms: list[tuple[str, float, bytes]],
    is_closed: bool,
    which: float,
) -> None:
    with folder() as directory:
        bodies, acknowledged = written(directory, [*steps, "append"], is_closed=is_closed)
        files = wal.log_files(directory)
        for kind, where, garbage in harms:
            harm(files[int(which * len(files))], 0, kind, where, garbage)
        valid = {f.position: bytes(b) for p in files for f, b in wal.scan(p)}
        told = max((f.durable for p in files for f, _ in wal.scan(p)), default=0)
        told = acknowledged if is_closed else told  # of the last frames only a closed log tells
        assert all(body == bodies[position - 1] for position, body in valid.items()), "invented"
        if set(range(1, told + 1)) - valid.keys():
            with pytest.raises(DamageError, match=r"wal-.*run 'brain doctor --repair'"):
                recovered(directory)
            # nobody keeps what stands behind a hole that its sender fills again
            safe = {p: b for p, b in valid.items() if valid.keys() >= set(range(told + 1, p))}
            assert recovered(directory, repair=True) == safe
        else:
            kept = recovered(directory)
            assert len(kept) >= told
            assert kept == dict(enumerate(bodies[: len(kept)], start=1))


def batch(seq: int) -> Samples:
    at = np.arange(20, dtype=np.int64) + 20 * seq
    return Samples((at % 3).astype(np.uint32), at * 1000, at / 4, np.zeros(20, np.uint8))


def test_a_history_with_a_tail_torn_at_many_places_has_every_acknowledged_row(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(23)
    paths = [f"e/s/a/l/c/u/s{k}" for k in range(3)]
    with Historian(tmp_path / "living") as history:
        history.declare([SignalDef(path=p, kind=SignalKind.GAUGE) for p in paths])
        for seq in range(1, 7):
            history.append(batch(seq), source="s", session=1, seq=seq)
            if seq == 4:
                history.sync()
        shutil.copytree(tmp_path / "living", tmp_path / "killed")
    log = wal.log_files(tmp_path / "killed" / "wal")[0]
    whole = log.read_bytes()
    safe = next(f.end for f, _ in wal.scan(log) if f.position == 4)
    for kind in ("cut", "flip", "zero") * 8:
        log.write_bytes(whole)
        harm(log, safe, kind, float(rng.random()), bytes(int(rng.integers(8))))
        with Historian(tmp_path / "killed") as history:
            seq = history.last_seq("s", 1)
            assert seq >= 4
            found = history.query(paths, 0, 10**9)["time_ns"].to_numpy()
            assert np.array_equal(np.sort(found), np.arange(20, 20 * (seq + 1)) * 1000)
        (tmp_path / "killed" / "wal" / "synced").unlink()
