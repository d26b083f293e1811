"""The write-ahead log: torn tails are cut, damage is named, failures leave it whole."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.store.historian import log as wal


def fill(directory: Path, bodies: list[bytes], *, sync_after: set[int] = frozenset()) -> None:
    """Write frames; sync after those positions."""
    writer = wal.LogWriter(directory, position=0, last={})
    for position, body in enumerate(bodies, start=1):
        assert writer.append(wal.SAMPLES, [body]) == position
        if position in sync_after:
            writer.sync()
    for file in writer._open:
        os.close(file.fd)


def bodies_of(directory: Path, **options: bool) -> list[bytes]:
    recovery = wal.recover(directory, sealed=0, **options)
    return [bytes(wal.read_body(frame)) for frame in recovery.frames]


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    bodies = [b"one", b"", b"three" * 1000]
    fill(tmp_path, bodies)
    assert bodies_of(tmp_path) == bodies


def test_a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on(tmp_path: Path) -> None:
    bodies = [b"first frame", b"second frame"]
    fill(tmp_path, bodies)
    file = wal.log_files(tmp_path)[0]
    whole = file.read_bytes()
    second = whole.index(wal.MAGIC, 1)
    for length in range(second, len(whole)):
        file.write_bytes(whole[:length])
        recovery = wal.recover(tmp_path, sealed=0)
        assert [f.position for f in recovery.frames] == [1]
        assert file.stat().st_size == second
        writer = wal.LogWriter(tmp_path, position=1, last=recovery.last)
        assert writer.append(wal.SAMPLES, [b"again"]) == 2
        writer.close()
        (tmp_path / "synced").unlink()  # the next length is torn by a crash again
        assert bodies_of(tmp_path) == [b"first frame", b"again"]
        for extra in wal.log_files(tmp_path)[1:]:
            extra.unlink()


def test_any_flipped_byte_of_an_acknowledged_frame_is_named(tmp_path: Path) -> None:
    fill(tmp_path, [b"alpha", b"beta", b"gamma"], sync_after={2})
    file = wal.log_files(tmp_path)[0]
    whole = file.read_bytes()
    third = whole.rindex(wal.MAGIC)
    for at in range(third):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(DamageError, match=f"{file.name}.*damaged or missing"):
            wal.recover(tmp_path, sealed=0)


def test_a_hole_in_frames_that_nobody_was_told_about_is_a_torn_tail(tmp_path: Path) -> None:
    fill(tmp_path, [b"alpha", b"beta", b"gamma"], sync_after={1})
    file = wal.log_files(tmp_path)[0]
    data = bytearray(file.read_bytes())
    data[data.index(b"beta")] ^= 1
    file.write_bytes(bytes(data))
    assert bodies_of(tmp_path) == [b"alpha"]


def test_repair_keeps_every_valid_frame_and_sets_the_damaged_bytes_aside(tmp_path: Path) -> None:
    fill(tmp_path, [b"alpha", b"beta", b"gamma"], sync_after={2})
    file = wal.log_files(tmp_path)[0]
    data = bytearray(file.read_bytes())
    data[data.index(b"alpha")] ^= 1
    file.write_bytes(bytes(data))
    assert bodies_of(tmp_path, repair=True) == [b"beta", b"gamma"]
    assert file.with_suffix(".damaged").read_bytes() == bytes(data)


def test_random_damage_never_gives_a_changed_frame(tmp_path: Path) -> None:
    rng = random.Random(5)
    bodies = [rng.randbytes(rng.randrange(60)) for _ in range(20)]
    fill(tmp_path, bodies, sync_after={5, 11})
    file = wal.log_files(tmp_path)[0]
    whole = file.read_bytes()
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            data += rng.randbytes(rng.randrange(100))
        file.write_bytes(bytes(data))
        for frame, body in wal.scan(file):
            assert bytes(body) == bodies[frame.position - 1]
        try:
            found = bodies_of(tmp_path)
        except DamageError:
            continue
        assert found == bodies[: len(found)]
        file.write_bytes(whole)


def failing(real: Callable[..., int], times: int) -> Callable[..., int]:
    """A system call that reports a full disk for some times."""
    left = [times]

    def call(*args: object) -> int:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    return call


def test_a_full_disk_refuses_the_frame_and_leaves_the_log_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = wal.LogWriter(tmp_path, position=0, last={})
    writer.append(wal.SAMPLES, [b"kept"])

    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(wal.os, "writev", lambda fd, parts: real(fd, b"".join(parts)[:7]))
        patch.setattr(wal.os, "write", failing(os.write, 1))
        with pytest.raises(StoreError, match="disk is full; nothing acknowledged is lost"):
            writer.append(wal.SAMPLES, [b"refused"])
    assert writer.append(wal.SAMPLES, [b"resumed"]) == 2
    writer.close()
    assert bodies_of(tmp_path) == [b"kept", b"resumed"]


def test_what_a_failed_sync_may_have_dropped_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = wal.LogWriter(tmp_path, position=0, last={})
    writer.append(wal.SAMPLES, [b"durable"])
    writer.sync()
    writer.append(wal.SAMPLES, [b"owed"])
    with monkeypatch.context() as patch:
        patch.setattr(wal.os, "fdatasync", failing(os.fdatasync, 1))
        with pytest.raises(StoreError):
            writer.sync()
    assert writer.durable == 1
    writer.append(wal.SAMPLES, [b"later"])
    assert writer.sync() == 3
    # the kernel may have dropped the pages that failed: only the second writing counts
    os.truncate(wal.log_files(tmp_path)[0], 0)
    kept = [bytes(b) for p in wal.log_files(tmp_path) for _, b in wal.scan(p)]
    assert kept == [b"owed", b"later"]
    writer.close()


def test_sealed_files_are_removed_and_the_newest_stays(tmp_path: Path) -> None:
    writer = wal.LogWriter(tmp_path, position=0, last={})
    for part in (b"a", b"b"):
        writer.append(wal.SAMPLES, [part])
        writer.rotate()
    writer.append(wal.SAMPLES, [b"c"])
    writer.sync()
    writer.drop(1)
    assert [wal.first_position(p) for p in wal.log_files(tmp_path)] == [2, 3]
    writer.drop(3)
    assert [wal.first_position(p) for p in wal.log_files(tmp_path)] == [3]
    writer.close()
