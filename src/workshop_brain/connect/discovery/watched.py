"""A source's samples kept in memory while an address is looked at; nothing goes to the brain."""

from dataclasses import dataclass, field

import numpy as np

from workshop_brain.connect.discovery import propose
from workshop_brain.connect.discovery.propose import Observed
from workshop_brain.connect.outbox import Outbox
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event
from workshop_brain.model.signal import Samples, SignalKind

MOST_ROWS = 2_000_000


@dataclass(slots=True, eq=False)
class Watched(Outbox):
    """Takes what a collector's source hands over and keeps it to be counted.

    Attributes
    ----------
    rows
        Samples taken; beyond MOST_ROWS they are counted and not kept.
    """

    parts: list[Samples] = field(default_factory=list)
    rows: int = 0
    curves: int = 0

    def add(self, samples: Samples, received_ns: int) -> int:
        """Keep samples; all count as safe at once."""
        self.rows += len(samples)
        if self.rows <= MOST_ROWS:
            self.parts.append(samples)
        self._next_seq += 1
        return self._next_seq

    def curve(self, curve: Curve) -> int:
        """Count a curve."""
        self.curves += 1
        self._next_seq += 1
        return self._next_seq

    def event(self, event: Event) -> None:
        """Events of a look are of no use to anybody."""

    def flush(self) -> None:
        """Nothing is under way."""

    def word(self, code: float) -> str:
        """The text of a code."""
        return list(self._texts)[int(code)] if 0 <= code < len(self._texts) else ""

    def observed(self, local: list[int], seconds: float) -> Observed:
        """What was seen of the signals with these local ids, in their order."""
        place = np.full(len(self.signals) + 1, -1, np.int64)
        place[local] = np.arange(len(local))
        signal = np.concatenate([p.signal for p in self.parts] or [np.zeros(0, np.uint32)])
        value = np.concatenate([p.value for p in self.parts] or [np.zeros(0)])
        index = place[np.minimum(signal, len(self.signals)).astype(np.int64)]
        kept = index >= 0
        return propose.observe(len(local), seconds, range(len(local)), index[kept], value[kept])

    def liveliest(self, most: int, seconds: float) -> dict[str, tuple[str, float]]:
        """Path to (last value, values a second) of the signals that came most of late."""
        recent = self.parts[-200:]
        if not recent:
            return {}
        signal = np.concatenate([p.signal for p in recent]).astype(np.int64)
        value = np.concatenate([p.value for p in recent])
        counts = np.bincount(signal, minlength=len(self.signals))
        last = np.full(len(counts), np.nan)
        last[signal] = value
        share = counts / max(1, len(signal)) * self.rows / max(seconds, 0.1)
        return {
            self.signals[n].path: (self.shown(n, last[n]), float(share[n]))
            for n in np.argsort(-counts, kind="stable")[:most].tolist()
            if counts[n]
        }

    def shown(self, local: int, value: float) -> str:
        """A value as people read it."""
        if np.isnan(value):
            return ""
        if self.signals[local].kind is SignalKind.TEXT:
            return self.word(value)
        return f"{value:.6g}"
