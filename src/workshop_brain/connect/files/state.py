"""Which files have been taken, by their content; kept in a small file, written whole."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workshop_brain.connect.messages import MESSAGES
from workshop_brain.connect.rows import Faults

_MOST = 100_000
_MOST_REPORTS = 100


@dataclass(slots=True)
class Taken:
    """How far the file of one content is.

    Attributes
    ----------
    blocks
        Blocks of it that are safe.
    is_done
        Nothing more is to be done with it, also when it is broken (``why``).
    """

    name: str
    size: int
    mtime_ns: int
    blocks: int = 0
    rows: int = 0
    rejected: int = 0
    is_done: bool = False
    why: str = ""


@dataclass(slots=True)
class FileBook:
    """The files of one source, by the SHA-256 of their content."""

    directory: Path
    taken: dict[str, Taken] = field(default_factory=dict)
    _where: dict[tuple[str, int, int], str] = field(default_factory=dict)

    def load(self) -> None:
        """Read what was kept; a book that cannot be read raises OSError or ValueError."""
        path = self.directory / "files.json"
        if not path.exists():
            return
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
        for digest, row in rows.items():
            self.taken[digest] = Taken(**row)
            self._where[self._key(self.taken[digest])] = digest

    @staticmethod
    def _key(taken: Taken) -> tuple[str, int, int]:
        return taken.name, taken.size, taken.mtime_ns

    def is_known(self, name: str, size: int, mtime_ns: int) -> bool:
        """Whether the file as it stands there needs no look."""
        digest = self._where.get((name, size, mtime_ns))
        return digest is not None and self.taken[digest].is_done

    def open(self, digest: str, name: str, size: int, mtime_ns: int) -> Taken:
        """The entry of a content; a file with a known content under another name is the same."""
        entry = self.taken.setdefault(digest, Taken(name, size, mtime_ns))
        self._where[name, size, mtime_ns] = digest
        return entry

    def save(self) -> None:
        """Write the book; OSError when it cannot be."""
        while len(self.taken) > _MOST:
            self.taken.pop(next(iter(self.taken)))
        self._where = {k: d for k, d in self._where.items() if d in self.taken}
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "files.json"
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({d: asdict(t) for d, t in self.taken.items()}, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def report(self, name: str, digest: str, faults: Faults) -> None:
        """Keep the first bad rows of a file beside the book, of the last hundred files."""
        folder = self.directory / "rejected"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"row": f.row, "column": f.column, "value": f.value,
             "why": MESSAGES[f.id][0].format(**f.params)}
            for f in faults.named
        ]  # fmt: skip
        body = {"file": name, "rejected": faults.count, "rows": rows}
        text = json.dumps(body, ensure_ascii=False, indent=1)
        (folder / f"{digest[:16]}.json").write_text(text, "utf-8")
        reports = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        for old in reports[:-_MOST_REPORTS]:
            old.unlink(missing_ok=True)
