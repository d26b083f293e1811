"""Random numbers inside kernels: xorshift64*, one state of a word, the same on every machine."""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel

State = NDArray[np.uint64]


def state(seed: int) -> State:
    """A state that is never zero."""
    return np.array([(2 * seed + 1) * 0x9E3779B97F4A7C15 % 2**64], np.uint64)


@kernel
def chance(draw: State) -> float:
    """A number in [0, 1)."""
    x = draw[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    draw[0] = x
    return float((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * 2.0**-53


@kernel
def pick(draw: State, n: int) -> int:
    """A whole number in [0, n)."""
    return min(n - 1, int(chance(draw) * n))
