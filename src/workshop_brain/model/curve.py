"""Curves per part: what one station recorded while it worked on one part."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One record per part, station and cycle.

    Attributes
    ----------
    channels
        Name to float32 array; all arrays of one curve have the same length.
    """

    serial: str
    station: str
    program: str
    step: int
    time_ns: int
    channels: dict[str, NDArray[np.float32]] = field(default_factory=dict)
