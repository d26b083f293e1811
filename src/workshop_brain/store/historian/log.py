"""The write-ahead log: what has been appended is in the kernel, what has been synced is on disk.

A log file is a row of frames and is named after the position of its first frame. A frame is::

    magic "WBL1" | crc32 u32 | body length u32 | kind u32 | position u64 | durable u64 | body

little-endian; the checksum covers everything behind itself. Positions count frames without a gap.
``durable`` is the highest position that was on disk when the frame was written: it tells a torn
tail, which nobody was ever told about, from damage to something acknowledged. Of the last frames no
later one tells; a writer that is closed leaves its position in the file ``synced``.
"""

import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workshop_brain.errors import DamageError, StoreError

MAGIC = b"WBL1"
SAMPLES = 1
CURVE = 2
_HEAD = struct.Struct("<4sIIIQQ")
_TAIL = struct.Struct("<IIQQ")  # the part of the head that the checksum covers
_SYNCED = struct.Struct("<QI")  # position, crc32
Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a valid frame stands in its file."""

    path: Path
    offset: int
    length: int
    kind: int
    position: int
    durable: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the frame."""
        return self.offset + _HEAD.size + self.length


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a log holds: frames in order of position, and the last position in each file."""

    frames: list[Frame]
    last: dict[Path, int]


@dataclass(slots=True)
class _File:
    path: Path
    fd: int
    size: int = 0
    is_new: bool = True


class LogWriter:
    """Appends frames to the newest log file. One writer; calls may come from several threads."""

    def __init__(self, directory: Path, *, position: int, last: dict[Path, int]) -> None:
        self._directory = directory
        self._last = dict(last)
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._position = position
        self._durable = position
        self._pending: list[tuple[int, list[Buffer]]] = []
        self._open: list[_File] = []
        self._is_broken = False

    @property
    def position(self) -> int:
        """Position of the last frame appended; 0 when there is none."""
        return self._position

    @property
    def durable(self) -> int:
        """Position of the last frame known to be on disk."""
        return self._durable

    def append(self, kind: int, parts: Sequence[Buffer]) -> int:
        """Write one frame and return its position; StoreError leaves the log as it was.

        The buffers are kept until they are durable and must not change.
        """
        with self._lock:
            position = self._position + 1
            frame = _frame(kind, position, self._durable, parts)
            self._write(frame, position)
            self._position = position
            self._pending.append((position, frame))
            return position

    def sync(self) -> int:
        """Make everything appended so far durable and return the durable position."""
        with self._sync_lock:
            with self._lock:
                position, files = self._position, list(self._open)
                if position == self._durable:
                    return position
                if self._is_broken:
                    files = self._rewrite()
            try:
                self._force(files)
            except OSError as error:
                self._is_broken = True
                raise _failed(self._directory, error) from error
            with self._lock:
                self._is_broken = False
                self._forget(max(position, self._durable))
            return position

    def rotate(self) -> int:
        """Start a new file with the next frame and return the position of the last one."""
        with self._lock:
            if self._open and self._open[-1].size:
                self._open.append(self._create(self._position + 1))
            return self._position

    def drop(self, position: int) -> None:
        """Remove the files whose frames are all at or below ``position`` (they are sealed)."""
        with self._sync_lock, self._lock:
            self._forget(max(position, self._durable))
            current = self._open[-1].path if self._open else None
            for file in self._open[:-1]:
                if self._last[file.path] <= position:
                    os.close(file.fd)
                    self._open.remove(file)
            done = [p for p, last in self._last.items() if last <= position and p != current]
            for path in done:
                del self._last[path]
        for path in done:  # large files take a while to remove: appends do not wait for it
            path.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes in all log files."""
        total = 0
        for path in log_files(self._directory):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
            _note_synced(self._directory, self._durable)
        finally:
            for file in self._open:
                os.close(file.fd)
            self._open.clear()

    def _write(self, frame: list[Buffer], position: int) -> None:
        if not self._open:
            self._open.append(self._create(position))
        file = self._open[-1]
        total = sum(len(part) for part in frame)
        try:
            written = os.writev(file.fd, frame)
            if written < total:
                rest = b"".join(frame)[written:]
                while rest:
                    rest = rest[os.write(file.fd, rest) :]
        except OSError as error:
            self._undo(file)
            raise _failed(file.path, error) from error
        file.size += total
        self._last[file.path] = position

    def _undo(self, file: _File) -> None:
        try:
            os.ftruncate(file.fd, file.size)
        except OSError:
            self._open.append(self._create(self._position + 1))

    def _create(self, position: int) -> _File:
        path = self._directory / f"{position:020d}.log"
        try:
            fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise _failed(path, error) from error
        self._last[path] = position - 1
        return _File(path, fd)

    def _rewrite(self) -> list[_File]:
        """After a failed sync the kernel may have dropped pages: write what is owed once more."""
        if not self._pending:
            return []
        first = self._pending[0][0]
        path = self._directory / f"{first:020d}.again.log"
        try:
            fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise _failed(path, error) from error
        file = _File(path, fd)
        try:
            for _, frame in self._pending:
                data = b"".join(frame)
                file.size += len(data)
                while data:
                    data = data[os.write(fd, data) :]
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise _failed(path, error) from error
        self._last[path] = self._pending[-1][0]
        self._open.append(file)
        return [file]

    def _force(self, files: list[_File]) -> None:
        is_new = False
        for file in files:
            os.fdatasync(file.fd)
            is_new = is_new or file.is_new
        if is_new:
            sync_directory(self._directory)
        for file in files:
            file.is_new = False
        with self._lock:
            for file in self._open[:-1]:
                if file in files:
                    os.close(file.fd)
                    self._open.remove(file)

    def _forget(self, position: int) -> None:
        self._durable = position
        count = 0
        for at, _ in self._pending:
            if at > position:
                break
            count += 1
        del self._pending[:count]


def log_files(directory: Path) -> list[Path]:
    """Log files, oldest first."""
    return sorted(directory.glob("*.log"))


def first_position(path: Path) -> int:
    """Position of the first frame of a log file, from its name."""
    return int(path.name.split(".", 1)[0])


def scan(path: Path, offset: int = 0) -> Iterator[tuple[Frame, memoryview]]:
    """Valid frames of one file with their bodies, from ``offset`` on.

    Bytes that are no frame are stepped over: the caller sees them as a gap in the positions.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    view, at = memoryview(data), 0
    while 0 <= at <= len(data) - _HEAD.size:
        found = _read(view, at)
        if found is None:
            at = data.find(MAGIC, at + 1)
            continue
        kind, position, durable, body = found
        frame = Frame(path, offset + at, len(body), kind, position, durable)
        yield frame, body
        at = frame.end - offset


def recover(directory: Path, *, sealed: int, repair: bool = False) -> Recovery:
    """What the log holds behind ``sealed``; the torn tail is cut off the files.

    Raises
    ------
    DamageError
        When a frame is missing or damaged that had been acknowledged. With ``repair`` the bytes of
        the damaged files are copied to ``*.damaged`` and every valid frame is kept, up to the first
        hole in what had not been acknowledged.
    """
    frames: dict[int, Frame] = {}
    for path in log_files(directory):
        for frame, _ in scan(path):
            if frame.position > sealed:
                frames.setdefault(frame.position, frame)
    ordered = [frames[position] for position in sorted(frames)]
    told = acknowledged(directory, ordered, sealed)
    if repair:
        _set_aside(directory)
    expected = sealed + 1
    for k, frame in enumerate(ordered):
        if frame.position == expected:
            expected += 1
            continue
        # what is behind a hole that nobody was told about goes: its sender fills the hole again,
        # and would not be heard with lower sequence numbers than those behind it
        if told < expected or (repair and told < frame.position - 1):
            _cut(ordered[k:])
            ordered = ordered[:k]
            break
        if not repair:
            raise _damage(ordered[k - 1] if k else None, frame, expected)
        expected = frame.position + 1
    if expected <= told and not repair:
        raise _cut_short(directory, ordered, expected, told)
    if repair:
        (directory / "synced").unlink(missing_ok=True)  # the next frames take the lost positions
    return Recovery(ordered, _trim(directory))


def acknowledged(directory: Path, frames: Sequence[Frame], sealed: int) -> int:
    """Highest position that is known to have been acknowledged."""
    told = max((frame.durable for frame in frames), default=sealed)
    with suppress(FileNotFoundError, struct.error):
        position, crc = _SYNCED.unpack((directory / "synced").read_bytes())
        if crc == zlib.crc32(position.to_bytes(8, "little")):
            told = max(told, position)
    return max(told, sealed)


def read_body(frame: Frame) -> memoryview:
    """Body of one frame."""
    with frame.path.open("rb") as file:
        file.seek(frame.offset + _HEAD.size)
        return memoryview(file.read(frame.length))


def sync_directory(directory: Path) -> None:
    """Make created, renamed and removed names of a directory durable."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _frame(kind: int, position: int, durable: int, parts: Sequence[Buffer]) -> list[Buffer]:
    length = sum(len(part) for part in parts)
    crc = zlib.crc32(_TAIL.pack(length, kind, position, durable))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return [_HEAD.pack(MAGIC, crc, length, kind, position, durable), *parts]


def _read(view: memoryview, at: int) -> tuple[int, int, int, memoryview] | None:
    magic, crc, length, kind, position, durable = _HEAD.unpack_from(view, at)
    end = at + _HEAD.size + length
    if magic != MAGIC or end > len(view) or zlib.crc32(view[at + 8 : end]) != crc:
        return None
    return kind, position, durable, view[at + _HEAD.size : end]


def _cut(frames: list[Frame]) -> None:
    for frame in reversed(frames):
        os.truncate(frame.path, frame.offset)


def _trim(directory: Path) -> dict[Path, int]:
    """Cut what stands behind the last valid frame, remove files without one; last positions."""
    last: dict[Path, int] = {}
    for path in log_files(directory):
        end = 0
        for frame, _ in scan(path):
            end, last[path] = frame.end, max(frame.position, last.get(path, 0))
        if path not in last:
            path.unlink()
        elif path.stat().st_size > end:
            os.truncate(path, end)
    return last


def _set_aside(directory: Path) -> None:
    for path in log_files(directory):
        size = sum(frame.end - frame.offset for frame, _ in scan(path))
        if size != path.stat().st_size:
            path.with_suffix(".damaged").write_bytes(path.read_bytes())


def _damage(before: Frame | None, after: Frame, expected: int) -> DamageError:
    if before is not None and before.path == after.path:
        where = f"{after.path}: bytes {before.end} to {after.offset}"
    else:
        where = f"{after.path}: before byte {after.offset}"
    return DamageError(
        f"{where}: the log frames {expected} to {after.position - 1}, which were acknowledged, are "
        "damaged or missing; restore a backup, or run 'brain doctor --repair' to keep every valid "
        "frame and set the damaged bytes aside"
    )


def _cut_short(directory: Path, frames: Sequence[Frame], expected: int, told: int) -> DamageError:
    files = log_files(directory)
    where = f"{frames[-1].path}: from byte {frames[-1].end}" if frames else str(directory)
    if not frames and files:
        where = str(files[-1])
    return DamageError(
        f"{where}: the log frames {expected} to {told}, which were acknowledged, are damaged or "
        "missing; restore a backup, or run 'brain doctor --repair' to keep every valid frame and "
        "set the damaged bytes aside"
    )


def _note_synced(directory: Path, position: int) -> None:
    part = directory / "synced.part"
    try:
        with part.open("wb") as file:
            file.write(_SYNCED.pack(position, zlib.crc32(position.to_bytes(8, "little"))))
            file.flush()
            os.fsync(file.fileno())
        part.replace(directory / "synced")
        sync_directory(directory)
    except OSError as error:
        raise _failed(part, error) from error


def _failed(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{path}: the disk is full; nothing acknowledged is lost. Free some space: storing "
            "resumes by itself"
        )
    return StoreError(f"{path}: cannot be written ({error.strerror}); check the disk")
