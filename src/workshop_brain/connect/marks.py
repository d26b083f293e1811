"""What samples are told on their way out: that a hole is in front of them, that they come late."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType
from workshop_brain.model.signal import Quality, Samples
from workshop_brain.units import NS_PER_S

LATE_NS = 5 * NS_PER_S
"""A batch that is sent so long after its collector had received it carries HISTORICAL."""


@dataclass(slots=True)
class Marks:
    """Marks the first sample of every signal behind a hole, and every late one.

    A hole stands behind a sequence number, so that what was there before it is not marked.
    """

    _holes: deque[int] = field(default_factory=deque)
    _open: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def hole(self, behind: int) -> None:
        """Frames behind this sequence number are missing; called in rising order."""
        self._holes.append(behind)

    def apply(self, kind: FrameType, body: bytes, *, signals: int, now_ns: int) -> bytes:
        """The frame to send for a stored one.

        signals
            How many signals the session has declared.
        now_ns
            Wall time at the collector, the clock that ``received_ns`` was taken from.
        """
        if kind is not FrameType.BATCH:
            return handover.frame(kind, body)
        is_late = now_ns - handover.received_ns(body) > LATE_NS
        self._reach(handover.sequence(body), signals)
        if not is_late and not self._open.any():
            return handover.frame(kind, body)
        seq, received_ns, samples = handover.unpack_batch(body)
        quality = samples.quality | np.uint8(Quality.HISTORICAL if is_late else 0)
        if self._open.any():
            quality |= self._first_behind(samples.signal)
        marked = Samples(samples.signal, samples.time_ns, samples.value, quality)
        return handover.pack_batch(seq, received_ns, marked)

    def _reach(self, seq: int, signals: int) -> None:
        while self._holes and self._holes[0] < seq:
            self._holes.popleft()
            self._open = np.ones(signals, np.bool_)

    def _first_behind(self, signal: NDArray[np.uint32]) -> NDArray[np.uint8]:
        ids, at = np.unique(signal, return_index=True)
        known = ids < len(self._open)
        ids, at = ids[known], at[known]
        out = np.zeros(len(signal), np.uint8)
        out[at[self._open[ids]]] = Quality.GAP_BEFORE
        self._open[ids] = False
        return out
