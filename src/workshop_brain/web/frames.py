"""Binary live frames: little-endian, quantised for display, encoded once for all readers.

Layout: docs/reference/contracts.md section 9. The header is 24 bytes: kind, version, flags, epoch,
sequence, count, plant time of the newest value in ms.
"""

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality

HEADER = struct.Struct("<BBHIIId")
WALL, TAGS = 1, 2
VERSION = 1
SOURCE_LOST = 1
TOP = 65533
STALE = 65534
BAD = 65535
STALE_QUALITY = 128


@dataclass(slots=True)
class Quantiser:
    """Values on their display range as 16-bit steps; keeps its scratch arrays between frames.

    Attributes
    ----------
    low, high : float64, shape (n,)
        Display range, ``low < high``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    _scale: NDArray[np.float64] = field(init=False)
    _work: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._scale = TOP / (self.high - self.low)
        self._work = np.empty(len(self.low))

    def steps(
        self,
        value: NDArray[np.float64],
        quality: NDArray[np.uint8],
        stale: NDArray[np.bool_] | None,
    ) -> NDArray[np.uint16]:
        """``value`` as 0..65533, clipped; 65535 where bad or missing, 65534 where stale.

        ``stale`` None means that nothing is.
        """
        work = self._work
        np.maximum(value, self.low, out=work)
        np.minimum(work, self.high, out=work)
        np.subtract(work, self.low, out=work)
        np.multiply(work, self._scale, out=work)
        np.add(work, 0.5, out=work)
        work[np.isnan(work) | ((quality & Quality.BAD) != 0)] = BAD
        if stale is not None:
            work[stale & (work != BAD)] = STALE
        return work.astype(np.uint16)


def header(kind: int, *, lost: bool, epoch: int, seq: int, count: int, newest_ns: int) -> bytes:
    """The 24 bytes before a frame's columns."""
    flags = SOURCE_LOST if lost else 0
    return HEADER.pack(kind, VERSION, flags, epoch, seq & 0xFFFFFFFF, count, newest_ns / 1e6)


def wall_frame(head: bytes, steps: NDArray[np.uint16], states: NDArray[np.uint8]) -> bytes:
    """Wall frame: steps of all signals, then the states of the units."""
    return b"".join(
        (head, steps.astype("<u2", copy=False).tobytes(), struct.pack("<I", len(states)),
         states.tobytes())
    )  # fmt: skip


def tags_frame(
    head: bytes,
    value: NDArray[np.float64],
    quality: NDArray[np.uint8],
    time_ns: NDArray[np.int64],
    stale: NDArray[np.bool_],
) -> bytes:
    """Detail frame of some signals: float32 value, quality (+128 when stale), time in ms."""
    grade = np.where(stale, quality | STALE_QUALITY, quality)
    with np.errstate(over="ignore"):
        shown = value.astype("<f4")
    return b"".join(
        (head, shown.tobytes(), grade.astype(np.uint8).tobytes(),
         (time_ns / 1e6).astype("<f8").tobytes())
    )  # fmt: skip
