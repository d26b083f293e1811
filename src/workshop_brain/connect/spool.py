"""The collector's disk buffer while the brain is away.

Each session of a collector has one ``.head`` file (HELLO, DECLARE, TEXTS) and numbered ``.frames``
files (BATCH, CURVE, EVENT). A stored frame is preceded by its CRC-32, so a torn tail after a power
cut ends the file there. When the limit is reached the oldest ``.frames`` file goes, the session
gets a ``.dropped`` mark, and the first sample of every signal behind the hole is marked.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workshop_brain.connect.handover import FrameType

_PREFIX = struct.Struct("<IIB")
_SEGMENT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SpooledSession:
    """Files of one session that the brain has not acknowledged yet."""

    directory: Path
    stem: str

    @property
    def session(self) -> int:
        """The session number, from the file name."""
        return int(self.stem.split("-")[1])

    @property
    def has_hole(self) -> bool:
        """Whether frames were dropped from it."""
        return (self.directory / f"{self.stem}.dropped").exists()

    def head(self) -> Iterator[tuple[FrameType, bytes]]:
        """HELLO, DECLARE and TEXTS in the order they were written."""
        return read_frames(self.directory / f"{self.stem}.head")

    def segments(self) -> list[Path]:
        """Its ``.frames`` files, oldest first."""
        return sorted(self.directory.glob(f"{self.stem}.*.frames"))

    def finish(self) -> None:
        """Remove all of it: everything is with the brain."""
        for path in self.directory.glob(f"{self.stem}.*"):
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class Spool:
    """Bounded frame store of one source, one writer.

    Parameters
    ----------
    limit_bytes
        Most bytes of frames of all sessions together; beyond it the oldest file is dropped.
    """

    directory: Path
    session: int
    created_ns: int
    limit_bytes: int = 2 * 1024**3
    segment_bytes: int = _SEGMENT_BYTES
    last_seq: int = 0
    dropped_files: int = 0
    _head: BinaryIO | None = None
    _tail: BinaryIO | None = None
    _number: int = 0
    _sizes: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.segment_bytes = min(self.segment_bytes, max(self.limit_bytes // 4, 4096))
        for path in sorted(self.directory.glob("*.frames")):
            self._sizes[path] = path.stat().st_size

    @property
    def own(self) -> SpooledSession:
        """The files of this session."""
        return SpooledSession(self.directory, f"{self.created_ns:020d}-{self.session}")

    def older(self) -> list[SpooledSession]:
        """Sessions of earlier collector starts, oldest first."""
        stems = {path.name.split(".")[0] for path in self.directory.glob("*.head")}
        return [
            SpooledSession(self.directory, stem) for stem in sorted(stems) if stem != self.own.stem
        ]

    def put_head(self, frames: list[bytes]) -> None:
        """Append HELLO, DECLARE or TEXTS frames; durable on return."""
        if self._head is None:
            self._head = (self.directory / f"{self.own.stem}.head").open("ab")
            _sync_directory(self.directory)
        self._head.write(b"".join(_sealed(f) for f in frames))
        self._head.flush()
        os.fdatasync(self._head.fileno())

    def put(self, frames: list[tuple[int, bytes]]) -> int:
        """Append ``(seq, frame)`` in order, durable on return; the number of files dropped for it.

        OSError when the disk takes no more even after the oldest files are gone.
        """
        if not frames:
            return 0
        data = b"".join(_sealed(f) for _, f in frames)
        dropped = self._make_room(len(data))
        if self._tail is None or self._tail.tell() > self.segment_bytes:
            self.rotate()
            self._number += 1
            path = self.directory / f"{self.own.stem}.{self._number:08d}.frames"
            self._tail = path.open("ab")
            self._sizes[path] = 0
            _sync_directory(self.directory)
        self._tail.write(data)
        self._tail.flush()
        os.fdatasync(self._tail.fileno())
        self._sizes[Path(self._tail.name)] += len(data)
        self.last_seq = max(self.last_seq, frames[-1][0])
        return dropped

    def rotate(self) -> None:
        """Close the file being written; the next frames start a new one."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def forget(self, path: Path) -> None:
        """Remove a file whose frames are all with the brain."""
        if self._tail is not None and Path(self._tail.name) == path:
            self.rotate()
        path.unlink(missing_ok=True)
        self._sizes.pop(path, None)

    def clear_own(self) -> None:
        """Remove this session's frames and head: the brain has acknowledged them all."""
        self.rotate()
        if self._head is not None:
            self._head.close()
            self._head = None
        for path in self.own.segments():
            self.forget(path)
        self.own.finish()

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self.rotate()
        if self._head is not None:
            self._head.close()
            self._head = None

    @property
    def has_head(self) -> bool:
        """Whether this session's head file is there to be appended to."""
        return self._head is not None

    def size(self) -> int:
        """Bytes of frames now on disk."""
        return sum(self._sizes.values())

    def _make_room(self, wanted: int) -> int:
        dropped = 0
        total = self.size()
        for path in sorted(self._sizes):
            if total + wanted <= self.limit_bytes:
                break
            total -= self._sizes[path]
            stem = path.name.split(".")[0]
            (self.directory / f"{stem}.dropped").touch()
            self.forget(path)
            dropped += 1
        self.dropped_files += dropped
        return dropped


def read_frames(path: Path) -> Iterator[tuple[FrameType, bytes]]:
    """Frames of a spool file as (type, body), up to its end or the first damaged one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    at = 0
    while at + _PREFIX.size <= len(data):
        crc, length, kind = _PREFIX.unpack_from(data, at)
        end = at + 8 + length
        if length < 1 or end > len(data) or zlib.crc32(data[at + 4 : end]) != crc:
            return
        yield FrameType(kind), data[at + _PREFIX.size : end]
        at = end


def _sealed(frame: bytes) -> bytes:
    return zlib.crc32(frame).to_bytes(4, "little") + frame


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
