"""Log frames of samples, and how a second process follows the log that the writer fills."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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


class StaleTail(FileNotFoundError):
    """The writer has sealed and removed log files since the catalog was read: look again."""


@dataclass(slots=True)
class LogTail:
    """Frames behind the sealed position, read on from where the last look ended."""

    directory: Path
    _ends: dict[Path, int] = field(default_factory=dict)
    _rows: dict[int, Samples] = field(default_factory=dict)
    _curves: dict[int, Curve] = field(default_factory=dict)

    def look(self, sealed: int) -> tuple[Samples, list[Curve]]:
        """Rows and curves behind ``sealed``, in the order of the log."""
        files = log_files(self.directory)
        for gone in set(self._ends) - set(files):
            del self._ends[gone]
        for path in files:
            for frame, body in scan(path, self._ends.get(path, 0)):
                self._ends[path] = frame.end
                if frame.position <= sealed:
                    continue
                if frame.kind == CURVE:
                    self._curves[frame.position] = curve_files.unpack(body)[0]
                else:
                    self._rows[frame.position] = unpack_samples(body)[0]
        self._rows = {p: rows for p, rows in self._rows.items() if p > sealed}
        self._curves = {p: curve for p, curve in self._curves.items() if p > sealed}
        known = sorted([*self._rows, *self._curves])
        if known and known[0] != sealed + 1:
            self._ends.clear()
            raise StaleTail(f"{self.directory}: frames from {sealed + 1} on are sealed")
        rows = [self._rows[p] for p in sorted(self._rows)]
        return concat(rows), [self._curves[p] for p in sorted(self._curves)]
