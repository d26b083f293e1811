"""One folder, watched until cancelled: each content is taken once, a broken file stops no other."""

import asyncio
import fnmatch
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workshop_brain.connect.files.feed import Feed
from workshop_brain.connect.files.read import Block, Known, blocks, look
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.files.state import FileBook, Taken
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.rejected import MOST_BYTES
from workshop_brain.connect.rows import Faults, cause_of
from workshop_brain.connect.stamps import LAST_NS
from workshop_brain.errors import DecodeError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.units import NS_PER_H

log = logging.getLogger(__name__)

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")
_MOST_FILES = 100_000


async def collect(
    settings: FilesSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Take what is put into the folder; ``spool_dir`` keeps which files were taken."""
    book = FileBook(spool_dir)
    await asyncio.to_thread(book.load)
    await Watcher(settings, book, Feed(settings, enterprise, outbox), outbox).run()


@dataclass(slots=True)
class Watcher:
    """Looks at the folder, at most once a second, and takes files that stand still."""

    settings: FilesSettings
    book: FileBook
    feed: Feed
    outbox: Outbox
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Name to size and time of change at the last look."""
    _is_up: bool | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                now = await asyncio.to_thread(self._look)
            except OSError as error:
                self._alive(str(error))
                now = {}
            else:
                self._alive("")
            for name, size, mtime_ns in self._complete(now):
                await self._take(Path(self.settings.folder) / name, size, mtime_ns)
            await asyncio.sleep(self.settings.poll_s)

    # -- the folder --

    def _look(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of every file that is wanted."""
        now: dict[str, tuple[int, int]] = {}
        with os.scandir(self.settings.folder) as entries:
            for entry in entries:
                if self._is_wanted(entry.name) and entry.is_file():
                    status = entry.stat()
                    now[entry.name] = status.st_size, status.st_mtime_ns
                if len(now) > _MOST_FILES:
                    raise OSError(f"more than {_MOST_FILES} files; move old ones away")
        return now

    def _complete(self, now: dict[str, tuple[int, int]]) -> list[tuple[str, int, int]]:
        """Files that are not taken yet and did not change since the last look, oldest first."""
        still = [
            (name, *stat)
            for name, stat in now.items()
            if self._seen.get(name) == stat and not self.book.is_known(name, *stat)
        ]
        self._seen = now
        return sorted(still, key=lambda row: (row[2], row[0]))

    def _is_wanted(self, name: str) -> bool:
        if name.startswith((".", "~")) or name.casefold().endswith(_UNFINISHED):
            return False
        return any(fnmatch.fnmatch(name.casefold(), g.casefold()) for g in self.settings.files)

    def _alive(self, why: str) -> None:
        if self._is_up is (not why):
            return
        self._is_up = not why
        if why:
            log.error("%s: folder cannot be looked at: %s", self.settings.id, why)
        kind = EventKind.SOURCE_LOST if why else EventKind.SOURCE_UP
        self.outbox.event(Event(time_ns=time.time_ns(), kind=kind, path=self.settings.id))

    # -- one file --

    async def _take(self, path: Path, size: int, mtime_ns: int) -> None:
        try:
            known = await asyncio.to_thread(look, path)
        except OSError as error:
            log.error("%s: %s cannot be read now: %s", self.settings.id, path.name, error)
            return
        entry = self.book.open(known.digest, path.name, size, mtime_ns)
        if entry.is_done:
            log.info(
                "%s: %s is the same as %s, taken before",
                self.settings.id,
                path.name,
                entry.name,
            )
            return
        faults = Faults()
        try:
            await self._blocks(path, known, entry, faults)
        except (DecodeError, OSError) as error:
            entry.why = str(error)
            await self._keep("unreadable", path, entry.why)
            log.error(
                "%s: %s: %s; it is left where it is and looked at again when it changes",
                self.settings.id, path.name, error,
            )  # fmt: skip
        except Exception:
            # The edge of one file: whatever is wrong with it must not stop the others.
            entry.why = "broke its reader, see the log"
            await self._keep("broken", path, entry.why)
            log.exception("%s: %s broke its reader and is left out", self.settings.id, path.name)
        entry.is_done = True
        await asyncio.to_thread(self._settle, path.name, known, entry, faults)

    async def _keep(self, cause: str, path: Path, why: str) -> None:
        self.outbox.reject(cause, path.name, why, await asyncio.to_thread(_head, path))

    async def _blocks(self, path: Path, known: Known, entry: Taken, faults: Faults) -> None:
        latest_ns = LAST_NS if self.settings.replay else time.time_ns() + NS_PER_H
        found = blocks(path, known, self.settings, latest_ns=latest_ns)
        self.feed.begin()
        while (block := await asyncio.to_thread(_next, found)) is not None:
            if block.number >= entry.blocks:
                await self.feed.give(block, path.stem)
                entry.blocks, entry.rows = block.number + 1, entry.rows + len(block.rows)
                self.outbox.rejected += block.faults.count
                await asyncio.to_thread(self.book.save)
            _collect(faults, block.faults)

    def _settle(self, name: str, known: Known, entry: Taken, faults: Faults) -> None:
        entry.rejected = faults.count
        for fault, count in faults.once_per_cause():
            shown = f"{fault.row}\t{fault.column}\t{fault.value}".encode("utf-8", "replace")
            self.outbox.kept.note(cause_of(fault), f"{name}:{fault.row}", str(fault), shown)
            log.warning(
                "%s: %s:%s (%d such rows are left out)", self.settings.id, name, fault, count
            )
        try:
            if faults.count:
                self.book.report(name, known.digest, faults)
            self.book.save()
        except OSError as error:
            log.error("%s: what was taken cannot be noted: %s", self.settings.id, error)
        if not entry.why:
            log.info("%s: %s taken, %d samples", self.settings.id, name, entry.rows)


def _head(path: Path) -> bytes:
    """As much of a file as is kept of what cannot be read; b"" when it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""


def _next(found: Iterator[Block]) -> Block | None:
    return next(found, None)


def _collect(into: Faults, faults: Faults) -> None:
    into.count += faults.count
    into.named += faults.named[: max(0, 100 - len(into.named))]
    for cause, count in faults.by_cause.items():
        into.by_cause[cause] = into.by_cause.get(cause, 0) + count
