"""Log frames of samples, and how a second process follows the log that the writer fills."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workshop_brain.errors import DamageError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples
from workshop_brain.store.historian import curves as curve_files
from workshop_brain.store.historian.log import CURVE, Buffer, log_files, scan
from workshop_brain.store.historian.memtable import concat

_HEAD = struct.Struct("<QQIH")


def pack_samples(samples: Samples, *, source: str, session: int, seq: int) -> list[Buffer]:
    """Body of a log frame in parts; the columns are not copied."""
    name = source.encode()
    head = _HEAD.pack(session, seq, len(samples), len(name)) + name
    columns = (samples.time_ns, samples.value, samples.signal, samples.quality)
    return [head, *(column.data.cast("B") for column in columns if len(column))]


def unpack_samples(body: memoryview) -> tuple[Samples, str, int, int]:
    """Samples, source, session and sequence number of a log frame."""
    session, seq, n, length = _HEAD.unpack_from(body)
    at = _HEAD.size + length
    source = bytes(body[_HEAD.size : at]).decode()
    time = np.frombuffer(body, np.int64, n, at)
    value = np.frombuffer(body, np.float64, n, at + 8 * n)
    signal = np.frombuffer(body, np.uint32, n, at + 16 * n)
    quality = np.frombuffer(body, np.uint8, n, at + 20 * n)
    return Samples(signal, time, value, quality), source, session, seq


@dataclass(slots=True)
class LogTail:
    """Frames that no file holds yet, read on from where the last look ended.

    ``follow`` first, then read the catalog, then ask for the frames ``behind`` its sealed position:
    what the writer seals in between is in the catalog by then. The other way round, frames could
    be sealed and removed between the two looks and be in neither.
    """

    directory: Path
    _ends: dict[Path, int] = field(default_factory=dict)
    _rows: dict[int, Samples] = field(default_factory=dict)
    _curves: dict[int, Curve] = field(default_factory=dict)
    _durable: int = 0

    def follow(self) -> None:
        """Read what was written since the last look; FileNotFoundError: sealed meanwhile, again."""
        files = log_files(self.directory)
        for gone in set(self._ends) - set(files):
            del self._ends[gone]
        for path in files:
            for frame, body in scan(path, self._ends.get(path, 0)):
                self._ends[path] = frame.end
                self._durable = max(self._durable, frame.durable)
                if frame.kind == CURVE:
                    self._curves[frame.position] = curve_files.unpack(body)[0]
                else:
                    self._rows[frame.position] = unpack_samples(body)[0]

    def behind(self, sealed: int) -> tuple[Samples, list[Curve]]:
        """Rows and curves behind ``sealed``, in the order of the log; forgets those before it.

        Raises
        ------
        DamageError
            A frame that had been acknowledged is damaged or missing.
        """
        self._rows = {p: rows for p, rows in self._rows.items() if p > sealed}
        self._curves = {p: curve for p, curve in self._curves.items() if p > sealed}
        known = sorted([*self._rows, *self._curves])
        whole = next((k for k, p in enumerate(known) if p != sealed + 1 + k), len(known))
        if whole < len(known) and sealed + whole < self._durable:
            raise DamageError(
                f"{self.directory}: the log frames {sealed + 1 + whole} to {known[whole] - 1}, "
                "which were acknowledged, are damaged or missing; run 'brain doctor'"
            )
        seen = known[:whole]  # behind a hole that was never acknowledged nothing counts
        rows = [self._rows[p] for p in seen if p in self._rows]
        return concat(rows), [self._curves[p] for p in seen if p in self._curves]
