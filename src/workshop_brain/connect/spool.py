"""The collector's disk buffer while the brain is away.

Each session of a collector has one ``.head`` file (HELLO, DECLARE, TEXTS) and numbered ``.frames``
files (BATCH, CURVE, EVENT). A stored frame is preceded by its CRC-32, so a torn tail after a power
cut ends the file there.

When the limit is reached the oldest ``.frames`` file goes. What went is counted in a ``.dropped``
file of the session that holds the next frames: they stand behind a hole, which is told before them.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Self

import orjson

from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType
from workshop_brain.errors import DecodeError

_PREFIX = struct.Struct("<IIB")
_SEGMENT_BYTES = 8 * 1024 * 1024
_STEM = re.compile(r"\d{20}-\d+")
FULL, DAMAGED = "spool_full", "spool_damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What stood in front of a frame and is gone.

    Attributes
    ----------
    reason
        ``spool_full``, ``spool_damaged`` or ``memory_full``.
    since_ns, until_ns
        First and last source time of the samples; 0 without any.
    """

    reason: str = FULL
    frames: int = 0
    samples: int = 0
    curves: int = 0
    since_ns: int = 0
    until_ns: int = 0

    def __bool__(self) -> bool:
        return self.frames > 0

    def __add__(self, other: "Dropped") -> "Dropped":
        first = [t for t in (self.since_ns, other.since_ns) if t]
        return Dropped(
            reason=self.reason if self else other.reason,
            frames=self.frames + other.frames,
            samples=self.samples + other.samples,
            curves=self.curves + other.curves,
            since_ns=min(first, default=0),
            until_ns=max(self.until_ns, other.until_ns),
        )

    @classmethod
    def of(cls, reason: str, frames: Iterable[tuple[FrameType, bytes]]) -> Self:
        """Count what stands in frames."""
        count = samples = curves = 0
        times: list[int] = []
        for kind, body in frames:
            count += 1
            with suppress(DecodeError):
                if kind is FrameType.BATCH:
                    _, _, rows = handover.unpack_batch(body)
                    samples += len(rows)
                    times += [int(rows.time_ns.min()), int(rows.time_ns.max())] if rows else []
                elif kind is FrameType.CURVE:
                    times.append(handover.unpack_curve(body)[1].time_ns)
                    curves += 1
        return cls(
            reason=reason,
            frames=max(count, 1),
            samples=samples,
            curves=curves,
            since_ns=min(times, default=0),
            until_ns=max(times, default=0),
        )

    def payload(self) -> dict[str, Any]:
        """Payload of the gap event that tells of it."""
        return {**asdict(self), "dropped": self.frames}


@dataclass(frozen=True, slots=True)
class SpooledSession:
    """Files of one session that the brain has not acknowledged yet."""

    directory: Path
    stem: str

    @property
    def session(self) -> int:
        """The session number, from the file name."""
        return int(self.stem.split("-")[1])

    def head(self) -> Iterator[tuple[FrameType, bytes]]:
        """HELLO, DECLARE and TEXTS in the order they were written."""
        return iter(read_frames(self.directory / f"{self.stem}.head")[0])

    def segments(self) -> list[Path]:
        """Its ``.frames`` files, oldest first."""
        return sorted(self.directory.glob(f"{self.stem}.*.frames"))

    def hole(self) -> Dropped:
        """What is missing in front of its oldest file, until ``told``; false when nothing is."""
        fresh, telling = self._hole_file(), self._hole_file("telling")
        missing = _read_hole(telling) + _read_hole(fresh)
        if missing and fresh.exists():
            _write_hole(telling, missing)
            fresh.unlink()
        return missing

    def told(self) -> None:
        """The brain knows of the hole and has the frames behind it."""
        self._hole_file("telling").unlink(missing_ok=True)

    def note_hole(self, missing: Dropped) -> None:
        """Remember what is missing in front of its oldest file; durable on return."""
        _write_hole(self._hole_file(), _read_hole(self._hole_file()) + missing)

    def _hole_file(self, kind: str = "dropped") -> Path:
        return self.directory / f"{self.stem}.{kind}"

    def finish(self) -> None:
        """Remove all of it: everything is with the brain."""
        for path in self.directory.glob(f"{self.stem}.*"):
            path.unlink(missing_ok=True)

    def set_aside(self) -> Dropped:
        """Move its files to ``damaged``, in place of what was there; what is in them."""
        aside = self.directory / "damaged"
        aside.mkdir(exist_ok=True)
        for old in aside.iterdir():
            old.unlink()
        missing = self.hole()
        for path in self.segments():
            missing += Dropped.of(DAMAGED, read_frames(path)[0])
        for path in self.directory.glob(f"{self.stem}.*"):
            path.replace(aside / path.name)
        return missing


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
    sending: Path | None = None
    """A file that is on its way to the brain; it is not dropped."""
    _head: FileIO | None = None
    _tail: FileIO | None = None
    _number: int = 0
    _sizes: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.segment_bytes = min(self.segment_bytes, max(self.limit_bytes // 4, 4096))
        for path in sorted(self.directory.glob("*.frames")):
            if _STEM.fullmatch(path.name.split(".")[0]):
                self._sizes[path] = path.stat().st_size

    @property
    def own(self) -> SpooledSession:
        """The files of this session."""
        return SpooledSession(self.directory, f"{self.created_ns:020d}-{self.session}")

    def older(self) -> list[SpooledSession]:
        """Sessions of earlier collector starts, oldest first."""
        stems = {
            path.name.split(".")[0]
            for kind in ("head", "frames", "dropped", "telling")
            for path in self.directory.glob(f"*.{kind}")
        }
        return [
            SpooledSession(self.directory, stem)
            for stem in sorted(stems)
            if stem != self.own.stem and _STEM.fullmatch(stem)
        ]

    def put_head(self, frames: list[bytes]) -> None:
        """Append HELLO, DECLARE or TEXTS frames; durable on return, OSError leaves all as it was"""
        if self._head is None:
            self._head = (self.directory / f"{self.own.stem}.head").open("ab", buffering=0)
            _sync_directory(self.directory)
        _append(self._head, b"".join(_sealed(f) for f in frames))

    def put(self, frames: list[tuple[int, bytes]]) -> Dropped:
        """Append ``(seq, frame)`` in order, durable on return; what was dropped to make room.

        OSError when the disk takes no more even after the oldest files are gone: what was taken
        until then is durable, up to ``last_seq``.
        """
        dropped = Dropped()
        for seq, data in self._portions(frames):
            dropped += self._make_room(len(data))
            tail = self._tail_with_room()
            _append(tail, data)
            self._sizes[Path(tail.name)] += len(data)
            self.last_seq = max(self.last_seq, seq)
        return dropped

    def _portions(self, frames: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """(last seq, sealed frames) in pieces of about a file's size."""
        parts: list[bytes] = []
        size = 0
        for at, (seq, frame) in enumerate(frames, start=1):
            parts.append(_sealed(frame))
            size += len(parts[-1])
            if size >= self.segment_bytes or at == len(frames):
                yield seq, b"".join(parts)
                parts, size = [], 0

    def _tail_with_room(self) -> FileIO:
        if self._tail is not None and self._sizes[Path(self._tail.name)] < self.segment_bytes:
            return self._tail
        self.rotate()
        self._number += 1
        path = self.directory / f"{self.own.stem}.{self._number:08d}.frames"
        self._tail = path.open("ab", buffering=0)
        self._sizes[path] = 0
        _sync_directory(self.directory)
        return self._tail

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

    def set_aside(self, old: SpooledSession) -> None:
        """Pass over a session that cannot be told to the brain; the next one is behind a hole."""
        missing = old.set_aside()
        for path in [p for p in self._sizes if p.name.startswith(f"{old.stem}.")]:
            del self._sizes[path]
        if missing:
            self._next().note_hole(missing)

    def keep_damaged(self, path: Path) -> None:
        """Keep a copy of a file that has a damaged frame; what comes next is behind a hole."""
        aside = self.directory / "damaged"
        aside.mkdir(exist_ok=True)
        for old in aside.iterdir():
            old.unlink()
        (aside / path.name).write_bytes(path.read_bytes())
        self.sending = path
        self._next().note_hole(Dropped(reason=DAMAGED, frames=1))

    def clear_own(self) -> None:
        """Remove this session's frames and head: the brain has acknowledged them all."""
        self.close()
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

    def _next(self) -> SpooledSession:
        """The session of the oldest frames that are not on their way; else this one."""
        left = sorted(path for path in self._sizes if path != self.sending)
        return SpooledSession(self.directory, left[0].name.split(".")[0]) if left else self.own

    def _make_room(self, wanted: int) -> Dropped:
        dropped = Dropped()
        total = self.size()
        for path in sorted(self._sizes):
            if total + wanted <= self.limit_bytes:
                break
            if path == self.sending:
                continue
            total -= self._sizes.pop(path)
            if self._tail is not None and Path(self._tail.name) == path:
                self.rotate()
            missing = Dropped.of(FULL, read_frames(path)[0])
            self._next().note_hole(missing)  # before the file goes: better told twice than never
            path.unlink(missing_ok=True)
            dropped += missing
        return dropped


def read_frames(path: Path) -> tuple[list[tuple[FrameType, bytes]], bool]:
    """Frames of a spool file as (type, body), and whether a damaged one ends them.

    A frame that the file is too short for is a write that was cut off, not damage.
    """
    frames: list[tuple[FrameType, bytes]] = []
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return frames, False
    at = 0
    while at + _PREFIX.size <= len(data):
        crc, length, kind = _PREFIX.unpack_from(data, at)
        end = at + 8 + length
        if end > len(data):
            break
        if length < 1 or zlib.crc32(data[at + 4 : end]) != crc or kind not in _KINDS:
            return frames, True
        frames.append((FrameType(kind), data[at + _PREFIX.size : end]))
        at = end
    return frames, False


_KINDS = frozenset(int(kind) for kind in FrameType)


def _read_hole(path: Path) -> Dropped:
    try:
        return Dropped(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return Dropped()
    except (TypeError, ValueError):  # an empty mark of an earlier version, or damaged
        return Dropped(frames=1)


def _write_hole(path: Path, missing: Dropped) -> None:
    pending = path.with_name(path.name + ".new")
    with pending.open("wb", buffering=0) as file:
        file.write(orjson.dumps(asdict(missing)))
        os.fdatasync(file.fileno())
    pending.replace(path)
    _sync_directory(path.parent)


def _append(file: FileIO, data: bytes) -> None:
    """Write and sync; what could not be written whole is cut off again."""
    size = file.seek(0, os.SEEK_END)
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
        os.fdatasync(file.fileno())
    except OSError:
        os.truncate(file.fileno(), size)
        raise


def _sealed(frame: bytes) -> bytes:
    return zlib.crc32(frame).to_bytes(4, "little") + frame


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
