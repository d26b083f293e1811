"""What the plant sent, kept for checks by value: columns of signal, time and value on disk.

Files: ``signals.txt`` (one path without enterprise per line, line number = signal id),
``texts.txt`` (one JSON string per line, line number = text code) and ``sent-NNNNN.npz`` with
``signal`` uint32, ``time_ns`` int64 and ``value`` float64 (text signals: text code).
"""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import StoreError

_CHUNK_ROWS = 400_000


class Recorder(Protocol):
    """Where sent values go."""

    def declare(self, path: str) -> int:
        """Id of a signal path."""
        ...

    def value(self, signal: int, time_ns: int, value: float) -> None:
        """One sent number."""
        ...

    def text(self, signal: int, time_ns: int, text: str) -> None:
        """One sent text."""
        ...

    def values(
        self, signal: NDArray[np.int64], time_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        """Columns of sent numbers."""
        ...

    def close(self) -> None:
        """Write what is still in memory."""
        ...


class _Nothing:
    """Keeps nothing."""

    def declare(self, path: str) -> int:
        return 0

    def value(self, signal: int, time_ns: int, value: float) -> None:
        return None

    def text(self, signal: int, time_ns: int, text: str) -> None:
        return None

    def values(
        self, signal: NDArray[np.int64], time_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        return None

    def close(self) -> None:
        return None


NO_RECORD: Recorder = _Nothing()


class FileRecord:
    """Keeps everything in numbered files of one directory."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for old in directory.glob("sent-*.npz"):
                old.unlink()
            self._signals = (directory / "signals.txt").open("w", encoding="utf-8")
            self._texts = (directory / "texts.txt").open("w", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"record directory {directory}: {error}") from error
        self._directory = directory
        self._count = 0
        self._codes: dict[str, int] = {}
        self._rows: list[tuple[int, int, float]] = []
        self._parts: list[tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.float64]]] = []
        self._held = 0
        self._chunk = 0

    def declare(self, path: str) -> int:
        """Id of a signal path; each path is declared once."""
        self._signals.write(path + "\n")
        self._count += 1
        return self._count - 1

    def value(self, signal: int, time_ns: int, value: float) -> None:
        """One sent number."""
        self._rows.append((signal, time_ns, value))
        if len(self._rows) >= 10_000:
            self._collect()

    def text(self, signal: int, time_ns: int, text: str) -> None:
        """One sent text."""
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = len(self._codes)
            self._texts.write(json.dumps(text) + "\n")
        self.value(signal, time_ns, float(code))

    def values(
        self, signal: NDArray[np.int64], time_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        """Columns of sent numbers."""
        self._parts.append((signal.astype(np.uint32), time_ns.astype(np.int64), value.copy()))
        self._held += len(signal)
        if self._held >= _CHUNK_ROWS:
            self._write()

    def _collect(self) -> None:
        if self._rows:
            signal, time_ns, value = zip(*self._rows, strict=True)
            self._rows.clear()
            self.values(
                np.array(signal, np.int64), np.array(time_ns, np.int64), np.array(value, np.float64)
            )

    def _write(self) -> None:
        if not self._parts:
            return
        signal, time_ns, value = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        self._parts.clear()
        self._held = 0
        target = self._directory / f"sent-{self._chunk:05d}.npz"
        np.savez(target, signal=signal, time_ns=time_ns, value=value)
        self._chunk += 1

    def close(self) -> None:
        """Write what is still in memory."""
        self._collect()
        self._write()
        self._signals.close()
        self._texts.close()


def read_record(
    directory: Path,
) -> tuple[list[str], list[str], NDArray[np.uint32], NDArray[np.int64], NDArray[np.float64]]:
    """(signal paths, texts, signal, time_ns, value) of a recorded run, in order of sending."""
    paths = (directory / "signals.txt").read_text("utf-8").splitlines()
    texts = [json.loads(t) for t in (directory / "texts.txt").read_text("utf-8").splitlines()]
    columns: tuple[list[NDArray[np.uint32]], list[NDArray[np.int64]], list[NDArray[np.float64]]]
    columns = ([], [], [])
    for part in sorted(directory.glob("sent-*.npz")):
        with np.load(part) as data:
            columns[0].append(data["signal"])
            columns[1].append(data["time_ns"])
            columns[2].append(data["value"])
    if not columns[0]:
        return paths, texts, np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0)
    signal, time_ns = np.concatenate(columns[0]), np.concatenate(columns[1])
    return paths, texts, signal, time_ns, np.concatenate(columns[2])
