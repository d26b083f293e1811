"""Counter-based random numbers: each draw is a pure function of (seed, cause, entity, n).

No stream has a state, so a policy that changes the order of events changes no draw: the 17th
repair of a machine takes as long under every policy (common random numbers). The mixer is
SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
"""

import math

import numpy as np

from workshop_brain.kernel import kernel

CYCLE, FAIL, FAIL_AT, REPAIR, MICRO, MICRO_S, TOOL = 10, 12, 13, 14, 15, 16, 17
NOK, LATENT, LOT, DETECT, FALSE_ALARM, REWORK = 18, 19, 20, 22, 23, 24
ABSENT, ABSENT_S, WEAR, SCRAP, PARAMETER, ORDER, WARM = 25, 26, 27, 28, 29, 40, 60
OPERATION, OPERATION_NOK = 30, 32
"""Causes; CYCLE, LOT and OPERATION are normal draws and use the next number too."""

_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)
_G = np.uint64(0x9E3779B97F4A7C15)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@kernel
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S30)) * _A
    x = (x ^ (x >> _S27)) * _B
    return x ^ (x >> _S31)


@kernel
def uniform(seed: int, cause: int, entity: int, n: int) -> float:
    """A draw from [0, 1)."""
    x = _mix(np.uint64(seed) * _G + np.uint64(cause))
    x = _mix(x + np.uint64(entity) * _G)
    x = _mix(x + np.uint64(n) * _G)
    return float(x >> _S11) * 1.1102230246251565e-16


@kernel
def exponential(seed: int, cause: int, entity: int, n: int) -> float:
    """A draw from the exponential distribution with mean 1."""
    return -math.log(1.0 - uniform(seed, cause, entity, n))


@kernel
def normal(seed: int, cause: int, entity: int, n: int) -> float:
    """A draw from the standard normal distribution (Box-Muller; also uses cause + 1)."""
    radius = math.sqrt(2.0 * exponential(seed, cause, entity, n))
    return radius * math.cos(2.0 * math.pi * uniform(seed, cause + 1, entity, n))
