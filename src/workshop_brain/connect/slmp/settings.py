"""Settings of a Mitsubishi PLC; plant.toml's ``[[source]] protocol = "slmp"``."""

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.polled import names_fault, source_fault, word_fault
from workshop_brain.connect.slmp.frames import DEVICES, MOST_WORDS

WIDTHS = {
    "bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "float64": 4,
}  # fmt: skip
"""Words that a value of a type takes; a string takes ``length``."""
_MOST_NUMBER = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Address:
    """``D100``, ``X1F`` or ``D100.A``: device, number, bit of a word (-1: none)."""

    device: str
    number: int
    bit: int


def address_of(text: str) -> Address | None:
    """What an address stands for; None when it is none. X, Y, B, W and their like are hexadecimal.

    >>> address_of("X1F"), address_of("D100.A")
    (Address(device='X', number=31, bit=-1), Address(device='D', number=100, bit=10))
    >>> address_of("SB1F"), address_of("D1F")
    (Address(device='SB', number=31, bit=-1), None)
    """
    for name in sorted(DEVICES, key=len, reverse=True):
        device = DEVICES[name]
        digits = "[0-9]+" if device.base == 10 else "[0-9A-F]+"
        bit = "" if device.is_bit else r"(?:\.([0-9A-F]))?"
        if found := re.fullmatch(f"{name}({digits}){bit}", text.upper()):
            sign = None if device.is_bit else found[2]
            return Address(name, int(found[1], device.base), int(sign, 16) if sign else -1)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlmpTag:
    """One value of a PLC.

    Attributes
    ----------
    path
        Names below the enterprise, the signal's last.
    address
        As in the PLC's program: ``D100``, ``ZR5000``, ``M12``, ``X1F``; ``D100.A`` is bit 10 of a
        word.
    type
        See WIDTHS, or ``string`` of ``length`` words; "" is ``bool`` for bits, else ``int16``.
    scale, offset
        value = raw x scale + offset.
    poll_ms
        0: as the source.
    """

    path: str
    address: str
    type: str = ""
    length: int = 0
    scale: float = field(default=1.0, metadata={"signed": True})
    offset: float = field(default=0.0, metadata={"signed": True})
    unit: str = ""
    kind: str = ""
    low: float = field(default=math.nan, metadata={"signed": True})
    high: float = field(default=math.nan, metadata={"signed": True})
    poll_ms: int = 0

    @property
    def place(self) -> Address:
        """Where it lies; of a tag without a fault."""
        found = address_of(self.address)
        assert found is not None, self.address
        return found

    @property
    def is_bit(self) -> bool:
        """Whether it is a bit device or a bit of a word."""
        return DEVICES[self.place.device].is_bit or self.place.bit >= 0

    @property
    def kind_of_value(self) -> str:
        """The type, filled in when it was left out."""
        return self.type or ("bool" if self.is_bit else "int16")

    @property
    def width(self) -> int:
        """Words that it takes."""
        return self.length if self.type == "string" else WIDTHS[self.kind_of_value]

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> SlmpTag(path="a/b", address="Q7").fault()[:45]
        "address: no device 'Q7'; write D100, W1F, M12"
        """
        if why := word_fault("type", self.type, ("", *WIDTHS, "string")) or names_fault(self):
            return why
        if address_of(self.address) is None:
            return (
                f"address: no device {self.address!r}; write D100, W1F, M12, X1F or D100.A; known "
                f"are {', '.join(DEVICES)} (X, Y, B, W, SB, SW, DX, DY count in hexadecimal)"
            )
        if (self.type == "string") != (self.length > 0) or self.length > MOST_WORDS:
            return f"length: a string needs 1 to {MOST_WORDS} words, others none"
        if self.is_bit and self.kind_of_value != "bool":
            return f"type: {self.address} is a bool, got {self.type!r}"
        if self.place.number + self.width > _MOST_NUMBER:
            return f"address: {self.address} reaches beyond {_MOST_NUMBER}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlmpSettings:
    """One Mitsubishi PLC (iQ-R, iQ-F, Q, L) or Ethernet module that answers SLMP over TCP, binary.

    Attributes
    ----------
    frame
        ``3E``, or ``4E`` where the PLC takes it.
    network, station
        Of a PLC behind the one that is connected to; 0 and 255 is this one.
    poll_ms
        How often tags are read that say nothing else.
    timeout_s
        How long a request is waited for.
    gap
        Words nobody asked for that one request may read over.
    """

    protocol: ClassVar[str] = "slmp"
    schemes: ClassVar[tuple[str, ...]] = ("slmp",)

    id: str
    url: str
    frame: str = "3E"
    network: int = 0
    station: int = 255
    poll_ms: int = 1000
    timeout_s: float = 1.0
    gap: int = 32
    user: str = ""
    password_env: str = ""
    tag: tuple[SlmpTag, ...] = field(default=(), metadata={"rows": SlmpTag})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> SlmpSettings(id="plc", url="slmp://plc", frame="1E").fault()
        "frame: no frame '1E'; known are 3E, 4E"
        """
        if why := word_fault("frame", self.frame, ("3E", "4E")):
            return why
        for key, value in (("network", self.network), ("station", self.station)):
            if not 0 <= value <= 255:
                return f"{key}: must be 0 to 255, got {value}"
        if self.user or self.password_env:
            return "user: SLMP is read without sign-in; leave user and password_env out"
        return source_fault(self.tag, self.poll_ms)
