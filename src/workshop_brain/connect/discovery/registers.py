"""What Modbus registers may hold, guessed from their bits. Pure; never sure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST, _MOST = 1e-3, 1e7
"""Magnitudes that machine values as float32 usually have; 0 is plausible too."""
_NEGATIVE_FROM = 0xF000


@dataclass(frozen=True, slots=True)
class Guessed:
    """One value in a block of registers.

    Attributes
    ----------
    offset
        Register within the block.
    type
        ``uint16``, ``int16`` or ``float32``.
    word_order
        ``big`` (high word first) or ``little``; "" for one register.
    """

    offset: int
    type: str
    word_order: str
    confidence: float


def guess(words: NDArray[np.uint16]) -> list[Guessed]:
    """Values in a block; registers that were always 0 are left out.

    Parameters
    ----------
    words : uint16, shape (n_reads, n_registers)
        The block as it was read several times.
    """
    out: list[Guessed] = []
    n = words.shape[1]
    at = 0
    while at < n:
        pair = _pair(words, at)
        if pair and at % 2 and _pair(words, at + 1):
            pair = None  # floats mostly lie at even places
        if pair:
            order, confidence = pair
            out.append(Guessed(at, "float32", order, confidence))
            at += 2
            continue
        if words[:, at].any():
            signed = (words[:, at] >= _NEGATIVE_FROM).any()
            out.append(Guessed(at, "int16" if signed else "uint16", "", 0.25 if signed else 0.3))
        at += 1
    return out


def floats(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.float32]:
    """float32 of two registers, the first one holding the high word.

    >>> floats(np.array([0x41C8], np.uint16), np.array([0], np.uint16)).tolist()
    [25.0]
    """
    bits = (first.astype(np.uint32) << np.uint32(16)) | second.astype(np.uint32)
    return bits.view(np.float32)


def _pair(words: NDArray[np.uint16], at: int) -> tuple[str, float] | None:
    """Word order and confidence when two registers look like one float32.

    A float of everyday size has an exponent near 127, so its high word lies in a narrow band; a
    pair of counters or states hardly ever does so at every reading.
    """
    if at + 1 >= words.shape[1]:
        return None
    first, second = words[:, at], words[:, at + 1]
    big, little = _plausible(floats(first, second)), _plausible(floats(second, first))
    if not (big or little):
        return None
    if big and little:
        return (
            ("big", 0.3)
            if _spread(floats(first, second)) <= _spread(floats(second, first))
            else ("little", 0.3)
        )
    return ("big", 0.5) if big else ("little", 0.5)


def _plausible(values: NDArray[np.float32]) -> bool:
    size = np.abs(values)
    usual = (size == 0) | ((size >= _LEAST) & (size <= _MOST))
    return bool(np.isfinite(values).all() and usual.all() and (size > 0).any())


def _spread(values: NDArray[np.float32]) -> float:
    """Change from reading to reading, by the size of the value."""
    if len(values) < 2:
        return 0.0
    return float(np.abs(np.diff(values)).mean() / max(1e-9, float(np.abs(values).mean())))
