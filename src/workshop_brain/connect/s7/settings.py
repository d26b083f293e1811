"""Settings of a Siemens S7 PLC; plant.toml's ``[[source]] protocol = "s7"``."""

import codecs
import math
import re
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.polled import names_fault, source_fault, word_fault

NUMBERS = {
    "BOOL": "u1", "BYTE": "u1", "USINT": "u1", "SINT": "i1", "WORD": ">u2", "UINT": ">u2",
    "INT": ">i2", "DWORD": ">u4", "UDINT": ">u4", "DINT": ">i4", "TIME": ">i4", "REAL": ">f4",
    "LWORD": ">u8", "ULINT": ">u8", "LINT": ">i8", "LREAL": ">f8",
}  # fmt: skip
"""Types and what numpy calls them. TIME is in milliseconds."""
TEXTS = ("STRING", "WSTRING")
MOST_CHARACTERS = {"STRING": 254, "WSTRING": 16_382}
_LETTERS = {"": "", "X": "BOOL", "B": "BYTE", "W": "WORD", "D": "DWORD"}
_AREAS = {"I": "I", "E": "I", "Q": "Q", "A": "Q", "M": "M"}
_DB = re.compile(r"DB(\d{1,5})\.DB([XBWD])(\d{1,5})(?:\.([0-7]))?")
_PLAIN = re.compile(r"([IEQAM])([BWD]?)(\d{1,5})(?:\.([0-7]))?")


@dataclass(frozen=True, slots=True)
class Address:
    """``DB1.DBX4.3``, ``MW20``: area, number of its data block (0: none), byte, bit (-1: none).

    ``type`` is what the letter says.
    """

    area: str
    db: int
    byte: int
    bit: int
    type: str


def address_of(text: str) -> Address | None:
    """What an address stands for; None when it is none. E and A are the German I and Q.

    >>> address_of("DB1.DBX4.3")
    Address(area='DB', db=1, byte=4, bit=3, type='BOOL')
    >>> address_of("MW20").type, address_of("E0.1").area, address_of("M20"), address_of("MW2.1")
    ('WORD', 'I', None, None)
    """
    text = text.upper()
    if found := _DB.fullmatch(text):
        area, db, letter = "DB", int(found[1]), found[2]
    elif found := _PLAIN.fullmatch(text):
        area, db, letter = _AREAS[found[1]], 0, found[2] or "X"
    else:
        return None
    if (letter == "X") != (found[4] is not None):
        return None
    bit = int(found[4]) if found[4] else -1
    return Address(area, db, int(found[3]), bit, _LETTERS[letter])


@dataclass(frozen=True, slots=True, kw_only=True)
class S7Tag:
    """One value of a PLC.

    Attributes
    ----------
    path
        Names below the enterprise, the signal's last.
    address
        Absolute, as in TIA Portal: ``DB1.DBX4.3``, ``DB1.DBD8``, ``MW20``, ``I0.1``, ``QB4``.
    type
        See NUMBERS, or ``STRING``/``WSTRING`` of ``length`` characters; "" is what the address
        says: BOOL, BYTE, WORD, DWORD.
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
    def kind_of_value(self) -> str:
        """The type, filled in when it was left out."""
        return self.type or self.place.type

    @property
    def width(self) -> int:
        """Bytes that it takes."""
        if self.type == "STRING":
            return 2 + self.length
        if self.type == "WSTRING":
            return 4 + 2 * self.length
        return int(NUMBERS[self.kind_of_value][-1])

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> S7Tag(path="a/b", address="DB1.DBX4").fault()[:44]
        "address: no address 'DB1.DBX4'; write DB1.DB"
        """
        types = ("", *NUMBERS, *TEXTS)
        if why := word_fault("type", self.type, types) or names_fault(self):
            return why
        if address_of(self.address) is None:
            return (
                f"address: no address {self.address!r}; write DB1.DBX4.3, DB1.DBB4, DB1.DBW4, "
                "DB1.DBD4, or M, I, Q: M10.2, MB10, MW10, MD10"
            )
        if (self.kind_of_value == "BOOL") != (self.place.bit >= 0):
            return f"type: {self.address} and {self.kind_of_value}: a BOOL, and only it, has a bit"
        most = MOST_CHARACTERS.get(self.type, 0)
        if not (1 <= self.length <= most if most else self.length == 0):
            return f"length: a STRING needs 1 to 254 characters, others none, got {self.length}"
        if self.place.byte + self.width > 65_536:
            return f"address: {self.address} and {self.width} bytes reach beyond 65535"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class S7Settings:
    """One Siemens S7 PLC that allows PUT/GET; data blocks without optimized access.

    Attributes
    ----------
    rack, slot
        Of the CPU: 0 and 1 for S7-1200 and S7-1500, 0 and 2 for S7-300.
    encoding
        Of STRINGs: the code page of the PLC's project.
    poll_ms
        How often tags are read that say nothing else.
    timeout_s
        How long a request is waited for.
    gap
        Bytes nobody asked for that one request may read over.
    """

    protocol: ClassVar[str] = "s7"
    schemes: ClassVar[tuple[str, ...]] = ("s7",)

    id: str
    url: str
    rack: int = 0
    slot: int = 1
    encoding: str = "latin-1"
    poll_ms: int = 1000
    timeout_s: float = 1.0
    gap: int = 32
    user: str = ""
    password_env: str = ""
    tag: tuple[S7Tag, ...] = field(default=(), metadata={"rows": S7Tag})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> S7Settings(id="plc", url="s7://plc", slot=40).fault()
        'slot: must be 0 to 31, got 40'
        """
        for key, value, most in (("rack", self.rack, 7), ("slot", self.slot, 31)):
            if not 0 <= value <= most:
                return f"{key}: must be 0 to {most}, got {value}"
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            return f"encoding: no encoding {self.encoding!r}; write latin-1, cp1252, gb18030"
        if self.user or self.password_env:
            return "user: S7 is read without sign-in; leave user and password_env out"
        return source_fault(self.tag, self.poll_ms)
