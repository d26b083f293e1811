"""Backups of a whole data directory, taken while the brain writes to it.

A target directory holds any number of backups::

    TARGET/backups/2026-03-01T08-00-00Z.json    what a backup consists of: a manifest
    TARGET/objects/ab/abcdef...                 the bytes, each file named by its SHA-256

What an earlier backup holds already is not stored again; files that never change (segments,
rollups, curves, inputs of decisions) are not even read again, and are hard links where target and
data share a disk. The manifest is written last: what was broken off is no backup.

Copies are taken in an order that leaves a state as after a power cut, from which every part knows
how to go on: spools before the history (what a spool has let go of is in the log by then), records
before the ledger (whose chain may go on behind its anchor), the catalog before the log.
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from workshop_brain.errors import DamageError, StoreError
from workshop_brain.store.historian import log as wal
from workshop_brain.store.historian.catalog import Catalog, catalog_exists, file_crc
from workshop_brain.store.lock import DataLock

FORMAT = 1
_LEFT_OUT = ("run", "logs", ".restoring", "records.sqlite", "ledger", "historian", "iceberg")
_NOT_KEPT = ("-wal", "-shm", "-journal", ".new", ".part", ".lock")
_NAME = "%Y-%m-%dT%H-%M-%SZ"
_TRIES = 20
_CHUNK = 1 << 20
_RESTORING = ".restoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file of a backup; ``path`` below the data directory."""

    path: str
    size: int
    sha256: str
    mtime_ns: int
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup by its manifest; ``made_ns``: the brain's clock when it was begun."""

    name: str
    made_ns: int
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(item.size for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a backup took: ``new_files`` and ``new_bytes`` that no earlier one held.

    ``damaged`` names files of the history that are not what the catalog says, and what stands for
    them in the backup.
    """

    backup: Backup
    new_files: int
    new_bytes: int
    damaged: tuple[str, ...] = ()


def back_up(data: Path, target: Path, *, now_ns: int, keep: int = 0) -> Made:
    """Back up a data directory; of the backups in the target the newest ``keep`` stay (0: all).

    Raises
    ------
    StoreError
        No data directory, a target inside of it or that cannot be written.
    StoreLockedError
        Another backup into the same target is running.
    DamageError
        The log of the history lacks acknowledged frames.
    """
    if not data.is_dir():
        raise StoreError(f"--data {data}: is no data directory; give the one that 'brain up' uses")
    if target.resolve().is_relative_to(data.resolve()):
        raise StoreError(f"{target}: lies inside of {data}; give a directory on another disk")
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        with DataLock(target), _Taking(target) as taking:
            items = [*_plain(data, taking), *_decisions(data, taking), *_history(data, taking)]
            backup = Backup(
                name=_new_name(target, now_ns), made_ns=now_ns,
                items=tuple(sorted(items, key=lambda item: item.path)),
            )  # fmt: skip
            taking.sync()
            _write_manifest(target, backup)
            if keep:
                _forget(target, backups(target)[:-keep])
            return Made(
                backup=backup, new_files=taking.new_files, new_bytes=taking.new_bytes,
                damaged=tuple(taking.damaged[path] for path in sorted(taking.damaged)),
            )  # fmt: skip
    except OSError as error:
        raise StoreError(
            f"{error.filename or target}: {error.strerror}; the backups made before are whole. "
            "Free some space in the target (--keep), or see to the disk"
        ) from error


def backups(target: Path) -> list[str]:
    """Names of the backups in a target, oldest first."""
    return sorted(path.stem for path in (target / "backups").glob("*.json"))


def read_backup(target: Path, name: str | None = None) -> Backup:
    """A backup by its name, the newest by default; DamageError when its manifest has changed."""
    known = backups(target)
    if not known:
        raise StoreError(f"{target}: no backup here; give the directory that 'brain backup' filled")
    if name is not None and name not in known:
        raise StoreError(f"{target}: no backup {name!r}; there are {', '.join(known)}")
    path = target / "backups" / f"{name or known[-1]}.json"
    try:
        whole = orjson.loads(path.read_bytes())
        body = whole["backup"]
        is_whole = whole["sha256"] == hashlib.sha256(_canonical(body)).hexdigest()
    except (ValueError, KeyError, TypeError):
        is_whole, body = False, {}
    if not is_whole:
        others = [n for n in known if n != path.stem]
        raise DamageError(
            f"{path}: this list of the backup's files is damaged; take another backup with "
            f"--backup: {', '.join(others) or 'there is none'}"
        )
    if body["format"] != FORMAT:
        raise StoreError(
            f"{path}: written in format {body['format']}, this version reads format {FORMAT}; use "
            "a newer version"
        )
    return Backup(
        name=path.stem, made_ns=body["made_ns"], items=tuple(Item(**i) for i in body["items"])
    )


def object_path(target: Path, sha256: str) -> Path:
    """Where a target holds the bytes with a SHA-256."""
    return target / "objects" / sha256[:2] / sha256


def verify(target: Path, backup: Backup) -> list[str]:
    """What is wrong with a backup, file by file, by SHA-256; empty when it is whole."""
    faults = []
    for item in backup.items:
        path = object_path(target, item.sha256)
        try:
            found = _sha256(path)
        except FileNotFoundError:
            faults.append(f"{item.path}: missing ({path})")
        except OSError as error:
            faults.append(f"{item.path}: cannot be read ({path}: {error.strerror})")
        else:
            if found != item.sha256:
                faults.append(f"{item.path}: its bytes have changed ({path})")
    return faults


def restore(target: Path, data: Path, *, name: str | None = None) -> Backup:
    """Restore a backup (the newest by default) into a new or empty data directory.

    Raises
    ------
    StoreError
        No such backup, or the directory is not empty.
    DamageError
        Files of the backup have changed; the message names them, and nothing is written.
    """
    backup = read_backup(target, name)
    here, there = data.resolve(), target.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise StoreError(
            f"--data {data}: is the backup's own directory {target}, or one lies inside of the "
            "other; give a new directory beside it"
        )
    if data.exists() and [entry for entry in os.listdir(data) if entry != _RESTORING]:
        raise StoreError(
            f"--data {data}: is not empty, and nothing is ever overwritten; give a new directory, "
            "or move this one away"
        )
    if faults := verify(target, backup):
        raise DamageError(
            f"backup {backup.name}: {len(faults)} of {len(backup.items)} files are damaged, "
            "nothing was restored; take another backup with --backup:\n" + "\n".join(faults)
        )
    work = data / _RESTORING
    try:
        if work.exists():
            shutil.rmtree(work)  # a restore that was broken off left it
        for item in backup.items:
            _put_back(object_path(target, item.sha256), work / _safe(item.path), item)
        places = {p for item in backup.items for p in (work / item.path).parents}
        for directory in sorted(p for p in places if p.is_relative_to(work)):
            wal.sync_directory(directory)
        for entry in sorted(os.listdir(work)) if backup.items else ():
            (work / entry).rename(data / entry)
        if work.exists():
            work.rmdir()
        if data.exists():
            wal.sync_directory(data)
    except OSError as error:
        raise StoreError(
            f"{error.filename or data}: {error.strerror}; the backup is untouched. See to the disk "
            "and restore again"
        ) from error
    return backup


class _Taking:
    """Takes files into a target; ``with`` it, what is half copied goes at the end."""

    def __init__(self, target: Path) -> None:
        self.new_files = self.new_bytes = 0
        self.work = target / "partial"
        self._target = target
        self._known: dict[str, Item] = {}
        with suppress(StoreError):  # the first one, or a damaged manifest: everything is read
            self._known = {item.path: item for item in read_backup(target).items}
        self._folders: set[Path] = set()
        self.damaged: dict[str, str] = {}

    def __enter__(self) -> "_Taking":
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.work, ignore_errors=True)

    def constant(self, source: Path, path: str) -> Item:
        """Take a file that never changes: read once, linked where that is possible."""
        stat = source.stat()
        known = self._known.get(path)
        if (
            known is not None
            and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
            and self._has(known.sha256, known.size)
        ):
            return known
        item = self._known[path] = _item(path, stat, _sha256(source))
        if self._has(item.sha256, item.size):
            return item
        link = self.work / "link"
        try:
            os.link(source, link)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return self.copy(source, path)  # another disk, or one that knows no links
        self._keep(link, item)
        return item

    def checked(self, source: Path, path: str, crc: int | None) -> Item | None:
        """Take a file that never changes and has a checksum; None when nothing can stand for it.

        For a damaged one the copy of the backup before stands, if that is whole; else its bytes
        as they are, most of which can be read.
        """
        stat, before = source.stat(), self._known.get(path)
        if crc is None or (before is not None and before.mtime_ns == stat.st_mtime_ns):
            return self.constant(source, path)
        try:
            fault = "" if file_crc(source) == crc else "its bytes have changed"
        except FileNotFoundError:
            raise
        except OSError as error:
            fault = f"cannot be read ({error.strerror})"
        if not fault:
            return self.constant(source, path)
        if before is not None and self._is_whole(before, crc):
            self.damaged[path] = f"{path}: {fault}; the backup keeps the copy of the one before"
            return before
        if "read" in fault:
            self.damaged[path] = f"{path}: {fault}; it is not in the backup"
            return None
        self.damaged[path] = f"{path}: {fault}; copied as it is, no backup holds it whole"
        # a time that no file has: the next backup looks at it again
        return replace(self.copy(source, path), mtime_ns=0)

    def _is_whole(self, item: Item, crc: int) -> bool:
        try:
            return file_crc(object_path(self._target, item.sha256)) == crc
        except OSError:
            return False

    def copy(self, source: Path, path: str, *, mode: int | None = None) -> Item:
        """Take a file that may change: as many bytes of it as there are now."""
        with source.open("rb") as file:
            item = self.stream(file, path)
        return item if mode is None else Item(**{**asdict(item), "mode": mode})

    def stream(self, file: IO[bytes], path: str) -> Item:
        """Take an open file."""
        stat, part = os.fstat(file.fileno()), self.work / "copy"
        digest, size = hashlib.sha256(), 0
        with open(part, "wb", opener=_private) as out:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        item = Item(
            path=path, size=size, sha256=digest.hexdigest(), mtime_ns=stat.st_mtime_ns,
            mode=stat.st_mode & 0o777,
        )  # fmt: skip
        if not self._has(item.sha256, item.size):
            self._keep(part, item)
        return item

    def sync(self) -> None:
        """Make all that was taken durable."""
        for folder in (*sorted(self._folders), self._target / "objects", self._target):
            if folder.exists():
                wal.sync_directory(folder)

    def _has(self, sha256: str, size: int) -> bool:
        try:
            return object_path(self._target, sha256).stat().st_size == size
        except FileNotFoundError:
            return False

    def _keep(self, part: Path, item: Item) -> None:
        place = object_path(self._target, item.sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
        self._folders.add(place.parent)
        self.new_files += 1
        self.new_bytes += item.size


def _plain(data: Path, taking: _Taking) -> Iterator[Item]:
    """Spools, certificates, plans, and whatever else is a file of its own."""
    for path in _files(data, [entry for entry in os.listdir(data) if entry not in _LEFT_OUT]):
        with suppress(FileNotFoundError):  # a spool lets go of what the brain has acknowledged
            yield taking.copy(path, path.relative_to(data).as_posix())


def _decisions(data: Path, taking: _Taking) -> Iterator[Item]:
    if (data / "records.sqlite").exists():
        copied = _copy_sqlite(data / "records.sqlite", taking.work / "records.sqlite")
        mode = (data / "records.sqlite").stat().st_mode & 0o777
        yield taking.copy(copied, "records.sqlite", mode=mode)
    inputs = data / "ledger" / "inputs"
    for path in _files(data, ["ledger"]):
        if path.parent != inputs:
            yield taking.copy(path, path.relative_to(data).as_posix())
    for path in sorted(inputs.glob("*.bin")):  # after the ledger: all that it names are here
        yield taking.constant(path, path.relative_to(data).as_posix())


def _history(data: Path, taking: _Taking) -> Iterator[Item]:
    directory = data / "historian"
    if not catalog_exists(directory):
        return
    apart = (
        "catalog.sqlite", "catalog.sqlite.moved", "catalog.json", "wal", "segments", "rollups",
        "curves",
    )  # fmt: skip
    rest = [entry for entry in os.listdir(directory) if entry not in apart]
    for path in _files(directory, rest):
        yield taking.copy(path, f"historian/{path.relative_to(directory).as_posix()}")
    for path in sorted((directory / "wal").glob("*.damaged")):
        yield taking.copy(path, f"historian/wal/{path.name}")
    for _ in range(_TRIES):
        if (items := _steady_history(directory, taking)) is not None:
            yield from items
            return
    raise DamageError(
        f"{directory / 'wal'}: acknowledged frames of the log are damaged or missing, or files "
        f"that the catalog names; 'brain doctor --data {data}' names them. Repair that first"
    )


def _steady_history(directory: Path, taking: _Taking) -> list[Item] | None:
    """Files, catalog and log that belong together; None when the writer was faster.

    Frames behind the catalog's sealed position are in log files that are held open since before
    it was copied, or in newer ones. Each round leaves less for the next: what has been taken is
    not taken again.
    """
    with ExitStack() as held:
        files = _hold(directory / "wal", {}, held)
        with closing(Catalog(directory / "catalog.sqlite", read_only=True)) as catalog:
            copied = catalog.copy_to(taking.work / "catalog.sqlite")
        with closing(Catalog(copied, read_only=True)) as catalog:
            names = [s.file for s in catalog.segments(bucket_ns=None)]
            names += [name for _, name, *_ in catalog.curve_files()]
            crcs = catalog.file_crcs()
            sealed = catalog.meta("sealed", 0)
        items, taken = [], 0
        for name in names:
            with suppress(FileNotFoundError):  # merged meanwhile: the next round takes the others
                item = taking.checked(directory / name, f"historian/{name}", crcs.get(name))
                items += [] if item is None else [item]
                taken += 1
        if taken < len(names):
            return None
        files = _hold(directory / "wal", files, held)
        logs = taking.work / "wal"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        # the newest first: nothing is added to a file once there is a newer one
        for name in sorted(files, reverse=True):
            files[name].seek(0)
            with (logs / name).open("wb") as out:
                shutil.copyfileobj(files[name], out, _CHUNK)
        if not _is_gapless(logs, sealed):
            return None
        items.append(taking.copy(copied, "historian/catalog.sqlite"))
        items += [taking.copy(p, f"historian/wal/{p.name}") for p in wal.log_files(logs)]
        return items


def _hold(directory: Path, files: dict[str, IO[bytes]], held: ExitStack) -> dict[str, IO[bytes]]:
    """Log files, open: their bytes stay until they are closed."""
    out = dict(files)
    for path in wal.log_files(directory):
        if path.name not in out:
            with suppress(FileNotFoundError):
                out[path.name] = held.enter_context(path.open("rb"))
    return out


def _is_gapless(directory: Path, sealed: int) -> bool:
    frames = [frame for path in wal.log_files(directory) for frame, _ in wal.scan(path)]
    positions = {frame.position for frame in frames if frame.position > sealed}
    needed = max((frame.durable for frame in frames), default=sealed)
    return positions.issuperset(range(sealed + 1, needed + 1))


def _copy_sqlite(source: Path, copied: Path) -> Path:
    """A copy of a database that others write to, as of one moment."""
    copied.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as here,
            closing(sqlite3.connect(copied)) as there,
        ):
            here.backup(there)
            there.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise StoreError(f"{source}: cannot be copied ({error}); run 'brain doctor'") from error
    return copied


def _files(top: Path, entries: Iterable[str]) -> Iterator[Path]:
    """Files below some entries of a directory, but for those that mean nothing elsewhere."""
    for entry in sorted(entries):
        path = top / entry
        if path.is_symlink():
            continue
        if path.is_dir():
            with suppress(FileNotFoundError):
                yield from _files(path, os.listdir(path))
        elif path.is_file() and entry != "lock" and not entry.endswith(_NOT_KEPT):
            yield path


def _forget(target: Path, names: Iterable[str]) -> None:
    """Drop backups, and the bytes that no other one needs."""
    for name in names:
        (target / "backups" / f"{name}.json").unlink()
    wal.sync_directory(target / "backups")
    try:
        kept = [read_backup(target, name) for name in backups(target)]
    except DamageError:
        return  # nobody knows what a damaged list needs
    needed = {item.sha256 for backup in kept for item in backup.items}
    for path in (target / "objects").glob("*/*"):
        if path.name not in needed:
            path.unlink()


def _write_manifest(target: Path, backup: Backup) -> None:
    body: dict[str, Any] = {
        "format": FORMAT, "made_ns": backup.made_ns, "items": [asdict(i) for i in backup.items]
    }  # fmt: skip
    whole = {"sha256": hashlib.sha256(_canonical(body)).hexdigest(), "backup": body}
    path = target / "backups" / f"{backup.name}.json"
    path.parent.mkdir(exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    wal.sync_directory(path.parent)


def _canonical(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _new_name(target: Path, now_ns: int) -> str:
    """The second of the backup in UTC; later than every other one, whatever the clock says."""
    moment = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    if known := backups(target):
        newest = datetime.strptime(known[-1], _NAME).replace(tzinfo=UTC)
        moment = max(moment, newest + timedelta(seconds=1))
    return moment.strftime(_NAME)


def _put_back(source: Path, place: Path, item: Item) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, open(place, "wb", opener=_private) as out:
        shutil.copyfileobj(file, out, _CHUNK)
        out.flush()
        os.fchmod(out.fileno(), item.mode)
        os.fsync(out.fileno())
    os.utime(place, ns=(item.mtime_ns, item.mtime_ns))  # the next backup knows it by that


def _safe(path: str) -> Path:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise StoreError(f"the backup names a file {path!r} outside of the data directory")
    return Path(*parts)


def _item(path: str, stat: os.stat_result, sha256: str) -> Item:
    return Item(
        path=path, size=stat.st_size, sha256=sha256, mtime_ns=stat.st_mtime_ns,
        mode=stat.st_mode & 0o777,
    )  # fmt: skip


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
