"""Malformed payloads, kept as a bounded sample so that a person can see what was wrong.

    DATA/rejected/SOURCE/samples.json     what was kept, and how often each cause occurred
    DATA/rejected/SOURCE/CAUSE-DIGEST.bin the bytes as they came, at most 64 KiB of each

Of every cause the last eight distinct payloads are kept, of every source 24 causes and 2 MB. A
flood costs little: in one interval at most sixteen payloads of a cause are looked at, the others
are counted.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

FOLDER = "rejected"
MOST_OF_CAUSE = 8
MOST_CAUSES = 24
MOST_BYTES = 64 * 1024
MOST_OF_SOURCE = 2 * 1024 * 1024
SAVE_EVERY_S = 5.0
_LOOKED_AT = 16
_MOST_WORDS = 400
_OTHER = "other"
_MOST_SENDERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One payload that could not be taken.

    Attributes
    ----------
    cause
        One of few words that stay the same, see docs/reference/bad-input.md.
    where
        Topic, file, address or node that brought it.
    first_ns, last_ns
        Wall time at which it was first and last looked at, ns.
    count
        How often it was looked at; in a flood not every one is.
    size
        Bytes as they came; ``file`` holds the first 64 KiB of them.
    """

    cause: str
    where: str
    why: str
    first_ns: int
    last_ns: int
    count: int
    size: int
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one source has on disk.

    Attributes
    ----------
    causes
        How often each cause occurred, over all starts of the source.
    samples
        Newest first.
    """

    source: str
    folder: Path
    causes: dict[str, int]
    samples: tuple[Sample, ...]


@dataclass(slots=True, eq=False)
class Rejected:
    """The kept payloads of one source: noted in memory, written now and then by ``save``.

    ``note`` and ``save`` may be called from different threads.
    """

    folder: Path
    source: str
    wall_ns: Callable[[], int] = time.time_ns
    _causes: dict[str, int] = field(default_factory=dict)
    _samples: OrderedDict[str, Sample] = field(default_factory=OrderedDict)
    """File name to sample, that which was seen last at the end."""
    _fresh: dict[str, bytes] = field(default_factory=dict)
    """File name to bytes that are not on disk yet."""
    _looked: dict[str, int] = field(default_factory=dict)
    _is_read: bool = False
    is_changed: bool = False
    """Whether something was noted that is not on disk yet."""
    _saved: float = -SAVE_EVERY_S
    _trouble: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _disk: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_due(self) -> bool:
        """Whether it is time to ``save``: something is new, and the last time was 5 s ago."""
        return self.is_changed and time.monotonic() - self._saved >= SAVE_EVERY_S

    def note(self, cause: str, where: str, why: str, payload: bytes) -> None:
        """Count one payload and keep it when it is among the last distinct ones of its cause."""
        with self._lock:
            self._read()
            if cause not in self._causes and len(self._causes) >= MOST_CAUSES:
                cause = _OTHER
            self._causes[cause] = self._causes.get(cause, 0) + 1
            self.is_changed = True
            looked = self._looked[cause] = self._looked.get(cause, 0) + 1
            if looked <= _LOOKED_AT:
                self._keep(cause, where[:_MOST_WORDS], why[:_MOST_WORDS], bytes(payload))

    def _keep(self, cause: str, where: str, why: str, payload: bytes) -> None:
        cut = payload[:MOST_BYTES]
        digest = blake2b(cut, digest_size=8, salt=len(payload).to_bytes(8, "little")).hexdigest()
        file = f"{re.sub(r'[^a-z0-9_]', '_', cause.lower())[:40]}-{digest}.bin"
        now = self.wall_ns()
        known = self._samples.pop(file, None)
        if known is not None:
            self._samples[file] = replace(
                known, where=where, why=why, last_ns=now, count=known.count + 1
            )
            return
        self._samples[file] = Sample(
            cause=cause, where=where, why=why, first_ns=now, last_ns=now, count=1,
            size=len(payload), file=file,
        )  # fmt: skip
        self._fresh[file] = cut
        own = [f for f, s in self._samples.items() if s.cause == cause]
        for old in own[:-MOST_OF_CAUSE]:
            self._drop(old)
        room = MOST_OF_SOURCE - sum(min(s.size, MOST_BYTES) for s in self._samples.values())
        for old in list(self._samples):
            if room >= 0:
                break
            room += min(self._samples[old].size, MOST_BYTES)
            self._drop(old)

    def _drop(self, file: str) -> None:
        del self._samples[file]
        self._fresh.pop(file, None)

    def _read(self) -> None:
        """What earlier starts kept."""
        if self._is_read:
            return
        self._is_read = True
        if (kept := _load(self.folder)) is not None:
            self._causes = dict(kept.causes)
            self._samples = OrderedDict((s.file, s) for s in reversed(kept.samples))

    def save(self) -> None:
        """Write what is new; a disk that refuses is told of once."""
        with self._disk:
            with self._lock:
                self._saved = time.monotonic()
                fresh, self._fresh = self._fresh, {}
                samples = [asdict(s) for s in reversed(self._samples.values())]
                body = {"source": self.source, "causes": dict(self._causes), "samples": samples}
                names = set(self._samples)
                self._looked.clear()
                self.is_changed = False
            try:
                self._write(fresh, body, names)
                self._trouble = ""
            except OSError as error:
                if str(error) != self._trouble:
                    log.error("%s: malformed payloads cannot be kept: %s", self.source, error)
                self._trouble = str(error)

    def _write(self, fresh: dict[str, bytes], body: dict[str, Any], names: set[str]) -> None:
        # Payloads may hold what only the source's owner may see.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, payload in (*fresh.items(), ("samples.new", orjson.dumps(body))):
            with open(self.folder / name, "wb", opener=_private) as file:
                file.write(payload)
        (self.folder / "samples.new").replace(self.folder / "samples.json")
        for path in self.folder.glob("*.bin"):
            if path.name not in names:
                path.unlink(missing_ok=True)


@dataclass(slots=True, eq=False)
class Shelf:
    """The kept payloads of many senders to one process, written from its event loop's side.

    Parameters
    ----------
    data
        Data directory.
    """

    data: Path
    _by_source: OrderedDict[str, Rejected] = field(default_factory=OrderedDict)
    _timer: asyncio.TimerHandle | None = None

    def note(self, source: str, cause: str, where: str, why: str, payload: bytes) -> None:
        """Keep one payload of a sender; it is on disk within some seconds."""
        kept = self._by_source.setdefault(source, Rejected(folder_of(self.data, source), source))
        self._by_source.move_to_end(source)
        kept.note(cause, where, why, payload)
        while len(self._by_source) > _MOST_SENDERS:
            self._by_source.popitem(last=False)[1].save()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            pause = 0.0 if kept.is_due else SAVE_EVERY_S
            self._timer = loop.call_later(pause, lambda: loop.run_in_executor(None, self.save))

    def save(self) -> None:
        """Write what is new."""
        self._timer = None
        for kept in list(self._by_source.values()):
            if kept.is_changed:
                kept.save()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def folder_of(data: Path, source: str) -> Path:
    """Where the malformed payloads of a source stand in a data directory.

    >>> folder_of(Path("data"), "http/robot 7").as_posix()
    'data/rejected/http_robot_7'
    """
    return data / FOLDER / (re.sub(r"[^\w.-]", "_", source).lstrip(".")[:120] or "_")


def kept(data: Path) -> Iterator[Kept]:
    """What every source of a data directory has kept; a damaged folder is passed over."""
    root = data / FOLDER
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if (found := _load(folder)) is not None:
            yield found


def _load(folder: Path) -> Kept | None:
    """What a folder holds; None when nothing or nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        body = orjson.loads((folder / "samples.json").read_bytes())
        return Kept(
            source=str(body["source"]),
            folder=folder,
            causes={str(cause): int(count) for cause, count in body["causes"].items()},
            samples=tuple(Sample(**row) for row in body["samples"]),
        )
    return None
