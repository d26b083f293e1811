"""The decision ledger: a hash-chained file that only grows, and the stored decision inputs.

``append`` returns when the entry is on disk. The head is also kept apart (the anchor), so that a
ledger that was cut short is found.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from workshop_brain.autonomy.chain import (
    GENESIS,
    Entry,
    Head,
    Problem,
    from_line,
    link,
    to_line,
    verify,
)
from workshop_brain.errors import DamageError, LedgerError, StoreError

_TAIL = 1 << 16


class Anchor(Protocol):
    """Keeps the head of a ledger apart from it."""

    def read(self) -> tuple[int, str] | None:
        """Number and hash of the last entry; None before the first."""
        ...

    def write(self, n: int, hash: str) -> None:
        """Keep number and hash of the last entry, durably."""
        ...


class FileAnchor:
    """The head in a small file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[int, str] | None:
        """Number and hash of the last entry; None before the first."""
        try:
            data = orjson.loads(self._path.read_bytes())
            return int(data["n"]), str(data["hash"])
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise LedgerError(
                f"{self._path}: damaged ({error}); restore it from a backup"
            ) from error

    def write(self, n: int, hash: str) -> None:
        """Keep number and hash of the last entry, durably."""
        _replace(self._path, orjson.dumps({"n": n, "hash": hash}))


class Ledger:
    """One ledger below a directory: ``ledger.jsonl`` and ``inputs/<sha256>.bin``.

    One writer; ``entries``, ``verify`` and ``get_input`` may run in another process.

    Parameters
    ----------
    anchor
        Where the head is kept apart; a file ``anchor.json`` beside the ledger by default,
        ``Records.anchor()`` in the brain.
    wall_ns
        Clock for ``Entry.wall_ns``.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        anchor: Anchor | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = Path(directory)
        self._path = self._directory / "ledger.jsonl"
        self._inputs = self._directory / "inputs"
        self._anchor = anchor or FileAnchor(self._directory / "anchor.json")
        self._wall_ns = wall_ns
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._head = Head(0, GENESIS)
        self._unsynced: list[Path] = []
        self._anchored = 0

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self._path

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Add one entry and return it once it is on disk.

        Raises
        ------
        ValueError, TypeError
            The body is nothing that JSON can say (NaN, bytes, keys that are not text).
        LedgerError
            The end of the ledger is damaged: nothing can be chained to it.
        StoreError
            The disk is full or cannot be written; nothing was added.
        """
        with self._lock:
            entry = self._add([(kind, body)])[0]
            self._anchor.write(entry.n, entry.hash)
            return entry

    def append_all(
        self, rows: Sequence[tuple[str, dict[str, Any]]], inputs: Sequence[bytes] = ()
    ) -> list[Entry]:
        """Add entries, with the inputs that they name, at the price of one; as ``append`` does.

        On return the entries are on disk. The inputs and the anchor are once ``settle`` returns.
        """
        with self._lock:
            for data in inputs:
                self._put(data, sync=False)
            return self._add(rows)

    def settle(self) -> None:
        """Bring inputs and anchor to where ``append_all`` left the ledger, on disk."""
        with self._lock:
            waiting, self._unsynced = self._unsynced, []
            try:
                for path in waiting:
                    _sync_file(path)
                if waiting:
                    _sync_directory(self._inputs)
            except OSError as error:
                self._unsynced = waiting  # the next settle syncs them all
                raise StoreError(
                    f"{self._inputs}: cannot be written ({error.strerror}); free some space"
                ) from error
            if self._anchored < self._head.n:
                self._anchor.write(self._head.n, self._head.hash)
                self._anchored = self._head.n

    def _add(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> list[Entry]:
        fd = self._open()
        head, entries = self._head, []
        for kind, body in rows:
            entry = link(head, kind, self._wall_ns(), body)
            entries.append(entry)
            head = Head(entry.n, entry.hash)
        size = os.fstat(fd).st_size
        try:
            _write(fd, b"".join(to_line(entry) for entry in entries))
            os.fdatasync(fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(fd, size)
            os.close(fd)
            self._fd = None
            raise StoreError(
                f"{self._path}: the entry cannot be written ({error.strerror}); free some "
                "space and try again"
            ) from error
        self._head = head
        return entries

    def head(self) -> Head:
        """Number and hash of the last entry."""
        with self._lock:
            self._open()
            return self._head

    def entries(
        self, kind: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[Entry]:
        """Entries in order, of one kind, behind number ``after``; LedgerError at a broken line."""
        given = 0
        for number, line in enumerate(self._lines(), start=1):
            if limit is not None and given >= limit:
                return
            try:
                entry = from_line(line)
            except ValueError as error:
                raise LedgerError(
                    f"{self._path}: line {number} {error}; run 'brain ledger verify'"
                ) from error
            if entry.n > after and (kind is None or entry.kind == kind):
                given += 1
                yield entry

    def recent(self, size: int = 4 << 20) -> list[Entry]:
        """Entries of about the last ``size`` bytes, in order; LedgerError at a broken line."""
        try:
            with self._path.open("rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - size)
                file.seek(start)
                lines = file.read().splitlines(keepends=True)[1 if start else 0 :]
        except FileNotFoundError:
            return []
        try:
            return [from_line(line) for line in lines]
        except ValueError as error:
            raise LedgerError(f"{self._path}: {error}; run 'brain ledger verify'") from error

    def verify(self) -> list[Problem]:
        """Everything that is wrong with the ledger, each with its line; empty when it is whole.

        The chain, the head kept apart, and the stored inputs: each file must hash to its name, and
        each decision's inputs must be there.
        """
        found = self._anchor.read()
        problems = verify(self._lines(), None if found is None else Head(*found))
        stored = sorted(self._inputs.glob("*.bin"))
        for path in stored:
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
                problems.append(Problem(0, f"stored input {path.name} does not hash to its name"))
        if problems:
            return problems
        names = {path.stem for path in stored}
        for number, line in enumerate(self._lines(), start=1):
            entry = from_line(line)
            wanted = entry.body.get("input_hash") if entry.kind == "decision" else None
            if wanted and wanted not in names:
                text = f"decision {entry.body['id']}: its stored input {wanted} is missing"
                problems.append(Problem(number, text))
        return problems

    def put_input(self, data: bytes) -> str:
        """Keep bytes under their SHA-256 and return it once they are on disk."""
        with self._lock:
            return self._put(data, sync=True)

    def _put(self, data: bytes, *, sync: bool) -> str:
        sha = hashlib.sha256(data).hexdigest()
        path = self._inputs / f"{sha}.bin"
        try:
            if path.exists() and path.read_bytes() == data:
                return sha
            self._inputs.mkdir(parents=True, exist_ok=True)
            _replace(path, data, sync=sync)
        except OSError as error:
            raise StoreError(
                f"{path}: the input cannot be written ({error.strerror}); free some space and "
                "try again"
            ) from error
        if not sync:
            self._unsynced.append(path)
        return sha

    def get_input(self, sha: str) -> bytes:
        """Bytes kept under a SHA-256; DamageError when they have changed, LedgerError when gone."""
        path = self._inputs / f"{sha}.bin"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise LedgerError(f"{path}: no such stored input; restore it from a backup") from error
        if hashlib.sha256(data).hexdigest() != sha:
            raise DamageError(f"{path}: the stored input has changed; restore it from a backup")
        return data

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                yield from file
        except FileNotFoundError:
            return

    def _open(self) -> int:
        if self._fd is not None:
            return self._fd
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be opened ({error.strerror})") from error
        try:
            self._head = self._last(fd)
            _sync_directory(self._directory)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def _last(self, fd: int) -> Head:
        """Head of the file; a torn last line, which nobody was told about, is cut off."""
        size = os.fstat(fd).st_size
        tail, start = b"", size
        while start > 0 and tail.count(b"\n") < 2:
            step = min(_TAIL, start)
            start -= step
            tail = os.pread(fd, step, start) + tail
        anchor = self._anchor.read() or (0, GENESIS)
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):
            os.ftruncate(fd, size - (len(tail) - len(whole)))
        if not whole:
            head = Head(0, GENESIS)
        else:
            line = whole[whole.rfind(b"\n", 0, -1) + 1 :]
            try:
                entry = from_line(line)
            except ValueError as error:
                raise LedgerError(f"{self._path}: the last line {error}; {_WAY_OUT}") from error
            head = Head(entry.n, entry.hash)
        if anchor[0] > head.n or (anchor[0] == head.n and anchor[1] != head.hash):
            raise LedgerError(
                f"{self._path}: ends with entry {head.n}, but entry {anchor[0]} was written; "
                f"{_WAY_OUT}"
            )
        return head


_WAY_OUT = (
    "restore the ledger from a backup, or move the ledger directory aside to start a new one; "
    "'brain ledger verify' shows all that is wrong"
)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _replace(path: Path, data: bytes, *, sync: bool = True) -> None:
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    if sync:
        _sync_directory(path.parent)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
