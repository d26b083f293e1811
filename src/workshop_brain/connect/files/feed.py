"""Blocks of files into the outbox: signals declared, one window on the way, replayed at a speed."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.files.read import Block
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.files.table import late
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.rows import TEXT, Rows, definition, full_path, kinds
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.units import NS_PER_S

_NOT_TAKEN = -1
_STEP_S = 0.05
_LOOK_S = 0.2


class Registry(Protocol):
    """Gives ids to signals and codes to texts: an outbox, or the history itself."""

    def declare(self, signals: Sequence[SignalDef]) -> int: ...
    def text(self, text: str) -> int: ...


@dataclass(slots=True)
class Mapper:
    """Turns blocks of files into samples; signals are declared when they are first seen."""

    settings: FilesSettings
    enterprise: str
    registry: Registry
    _local: dict[str, int] = field(default_factory=dict)
    """Path to local id; -1 when it is not to be taken."""
    _is_text: dict[int, bool] = field(default_factory=dict)

    def samples(self, block: Block, file: str, now_ns: int) -> Samples:
        """Columns of a block, in order of time, with ids and text codes of the registry."""
        rows = block.rows
        local = self._ids(rows, block, file)
        signal = local[rows.name]
        text = rows.form == TEXT
        fits = (signal >= 0) & (text == np.array([self._is_text.get(k, False) for k in local])[
            rows.name
        ]) if len(rows) else np.zeros(0, np.bool_)  # fmt: skip
        for at in np.flatnonzero((signal >= 0) & ~fits).tolist():
            id = "samples.is_number" if text[at] else "samples.is_text"
            shown = rows.texts[int(rows.value[at])] if text[at] else rows.value[at]
            block.faults.add(int(rows.row[at]), rows.names[rows.name[at]], shown, id)
        value = rows.value.copy()
        for at in np.flatnonzero(text & fits).tolist():
            value[at] = self.registry.text(rows.texts[int(value[at])])
        quality = rows.quality if self.settings.replay > 0 else late(rows, now_ns)
        order = np.flatnonzero(fits)
        order = order[np.argsort(rows.time_ns[order], kind="stable")]
        return Samples(
            signal[order].astype(np.uint32), rows.time_ns[order], value[order], quality[order]
        )

    def _ids(self, rows: Rows, block: Block, file: str) -> NDArray[np.int64]:
        """Local id of every name; unknown ones are declared."""
        used = set(np.unique(rows.name).tolist())
        out = np.full(max(len(rows.names), 1), _NOT_TAKEN, np.int64)
        root = self.settings.root.replace("{file}", file)
        choice = Choice(
            enterprise=self.enterprise,
            include=self.settings.include,
            exclude=self.settings.exclude,
            overrides=self.settings.override,
        )
        for at, (name, kind) in enumerate(zip(rows.names, kinds(rows), strict=True)):
            if at not in used:
                continue
            path = full_path(self.enterprise, name, root)
            if path not in self._local:
                unit = block.units.get(name, "")
                own = definition(path, kind, source=self.settings.id, address=name[:200], unit=unit)
                signal = choice.shaped(own, name)
                self._local[path] = _NOT_TAKEN
                if signal is not None:
                    self._local[path] = self.registry.declare([signal])
                    self._is_text[self._local[path]] = signal.kind is SignalKind.TEXT
            out[at] = self._local[path]
        return out


@dataclass(slots=True)
class Feed:
    """Gives rows of files to the outbox and waits until they are safe.

    The brain may be away: nothing is given then, the files keep what they have.
    """

    settings: FilesSettings
    enterprise: str
    outbox: Outbox
    wall_ns: Callable[[], int] = time.time_ns
    _mapper: Mapper = field(init=False)
    _durable: asyncio.Event = field(default_factory=asyncio.Event)
    _shift_ns: int = 0
    _played_ns: int = 0

    def __post_init__(self) -> None:
        self._mapper = Mapper(self.settings, self.enterprise, self.outbox)
        self.outbox.on_durable = lambda seq: self._durable.set()

    def begin(self) -> None:
        """A new file: a replay starts where the last one ended."""
        self._shift_ns = 0

    async def give(self, block: Block, file: str) -> None:
        """Hand one block over and return once it is safe at the brain or in the spool."""
        samples = self._mapper.samples(block, file, self.wall_ns())
        while not self.outbox.connected:  # noqa: ASYNC110 - it may be so for days
            await asyncio.sleep(_LOOK_S)
        if self.settings.replay > 0:
            await self._play(samples)
        elif len(samples):
            await self._safe(self.outbox.add(samples, self.wall_ns()))

    async def _safe(self, seq: int) -> None:
        while self.outbox.durable < seq:
            self._durable.clear()
            await self._durable.wait()

    # -- replay --

    async def _play(self, samples: Samples) -> None:
        """Rows with their stamps moved to now, each when its time has come."""
        if not len(samples):
            return
        if not self._shift_ns:
            self._shift_ns = max(self.wall_ns(), self._played_ns + 1) - int(samples.time_ns[0])
        stamps = samples.time_ns + self._shift_ns
        start_ns, began, at = int(stamps[0]), time.monotonic(), 0
        if self._played_ns:
            start_ns = min(start_ns, max(self._played_ns, int(stamps[0]) - NS_PER_S))
        while at < len(samples):
            passed = time.monotonic() - began
            now_ns = start_ns + round(passed * self.settings.replay * NS_PER_S)
            end = int(np.searchsorted(stamps, now_ns, side="right"))
            if end > at:
                part = slice(at, end)
                due = Samples(
                    samples.signal[part], stamps[part], samples.value[part], samples.quality[part]
                )
                seq = self.outbox.add(due, self.wall_ns())
                self._played_ns, at = int(stamps[end - 1]), end
                if at == len(samples):
                    await self._safe(seq)
                    return
            await asyncio.sleep(_STEP_S)
