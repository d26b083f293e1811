"""A signal's identity and the columns in which samples travel.

Path: ``enterprise/site/area/line/cell/unit/signal``, each part ``[a-z0-9_-]+``.
The numeric id is a position in the signal registry, which only ever grows; the epoch of a registry
is its length, so two parties with the same epoch mean the same ids.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

_PART = re.compile(r"[a-z0-9_-]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class SignalKind(IntEnum):
    """How a signal behaves, which decides its display, compression and analysis."""

    GAUGE = 0
    COUNTER = 1
    STATE = 2
    FLAG = 3
    TEXT = 4


class Quality(IntFlag):
    """Quality of one sample: two bits of grade, then flags.

    GOOD is 0 so that an array of zeros is an array of good samples.
    """

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    OVERFLOW = 4
    HISTORICAL = 8
    GAP_BEFORE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDef:
    """What is known of one signal when its source declares it.

    Attributes
    ----------
    path
        ``enterprise/site/area/line/cell/unit/signal``.
    unit
        UCUM-like unit text, "" when there is none.
    low, high
        Display range; the wall quantises on it. ``low < high``.
    source, address
        Source id and the address there (NodeId with namespace URI, or topic + metric).
    """

    path: str
    kind: SignalKind
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    source: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if len(parts) != 7 or not all(_PART.fullmatch(p) for p in parts):
            raise ValueError(
                f"signal path {self.path!r} must be enterprise/site/area/line/cell/unit/signal "
                "with parts of a-z, 0-9, _ and -"
            )
        if not self.low < self.high:
            raise ValueError(f"signal {self.path!r}: low {self.low} must be below high {self.high}")

    @property
    def unit_path(self) -> str:
        """Path of the work unit that owns the signal."""
        return self.path.rsplit("/", 1)[0]

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class Samples:
    """Columns of samples, all of one length; never one object per sample.

    Attributes
    ----------
    signal : uint32, registry ids (or ids local to one collector before they are mapped)
    time_ns : int64, source time, UTC
    value : float64; for text signals the dictionary code
    quality : uint8, see Quality
    """

    signal: NDArray[np.uint32]
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.signal)


def path_part(name: str) -> str:
    """A browse or metric name as one path part.

    >>> path_part("StateCurrent"), path_part("Spindle 1/Torque"), path_part("OP010")
    ('state_current', 'spindle_1_torque', 'op010')
    """
    snake = _CAMEL.sub("_", name).lower()
    return re.sub(r"[^a-z0-9_-]+", "_", snake).strip("_") or "_"
