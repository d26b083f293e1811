"""Sample files straight into the history, for a brain that does not run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workshop_brain.connect.files.feed import Mapper
from workshop_brain.connect.files.read import blocks, look
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.push.decode import digest63
from workshop_brain.connect.rows import Fault
from workshop_brain.errors import ConfigError, DecodeError
from workshop_brain.model.signal import SignalDef
from workshop_brain.store.historian import Historian
from workshop_brain.units import NS_PER_H

SOURCE = "import"
_SYNC_BLOCKS = 50


@dataclass(slots=True)
class _History:
    """The history as a registry; a signal that is there already keeps its definition."""

    historian: Historian
    _known: dict[str, SignalDef] = field(default_factory=dict)
    _codes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = {s.path: s for s in self.historian.signals()}

    def declare(self, signals: Sequence[SignalDef]) -> int:
        return self.historian.declare([self._known.get(s.path, s) for s in signals])[0]

    def text(self, text: str) -> int:
        if text not in self._codes:
            self._codes[text] = self.historian.intern([text])[0]
        return self._codes[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of one file; ``samples`` counts those of a repeated import too."""

    samples: int
    rejected: int
    causes: tuple[tuple[Fault, int], ...]


def import_samples(
    path: Path, historian: Historian, settings: FilesSettings, *, enterprise: str, now_ns: int
) -> Imported:
    """Store the samples of a file; the same content again stores nothing twice.

    Raises
    ------
    ConfigError
        The file cannot be read as a whole.
    StoreError
        History cannot be written; what is stored of the file stays, import it again.
    """
    mapper = Mapper(settings, enterprise, _History(historian))
    samples = rejected = 0
    causes: dict[tuple[str, str], tuple[Fault, int]] = {}
    try:
        known = look(path)
        session = digest63(known.digest.encode())
        for block in blocks(path, known, settings, latest_ns=now_ns + NS_PER_H):
            batch = mapper.samples(block, path.stem, now_ns)
            historian.append(batch, source=SOURCE, session=session, seq=block.number + 1)
            if block.number % _SYNC_BLOCKS == 0:
                historian.sync()
            samples, rejected = samples + len(batch), rejected + block.faults.count
            for fault, count in block.faults.once_per_cause():
                first, before = causes.get((fault.id, fault.column), (fault, 0))
                causes[fault.id, fault.column] = first, before + count
    except (DecodeError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error
    historian.sync()
    return Imported(samples=samples, rejected=rejected, causes=tuple(causes.values()))
