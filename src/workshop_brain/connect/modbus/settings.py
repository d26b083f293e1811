"""Settings of a Modbus TCP device; plant.toml's ``[[source]] protocol = "modbus"``."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.polled import names_fault, source_fault, word_fault

TABLES = ("holding", "input", "coil", "discrete")
WIDTHS = {
    "bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "float64": 4,
}  # fmt: skip
"""Registers that a value of a type takes; a string takes ``length``."""
MOST_REGISTERS = 125
"""In one request, by the specification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusTag:
    """One value of a device.

    Attributes
    ----------
    path
        Names below the enterprise, the signal's last.
    table, address
        ``holding``, ``input``, ``coil`` or ``discrete``, and the 0-based address in it: the
        classic 40101 is ``holding`` 100.
    type
        See WIDTHS, or ``string`` of ``length`` registers. Coils and discretes are ``bool``.
    bit
        For a ``bool`` in a register: which bit, 0 the lowest; -1 takes the whole register.
    word_order
        ``big``: the high word stands first.
    scale, offset
        value = raw x scale + offset.
    poll_ms
        0: as the source.
    """

    path: str
    address: int
    table: str = "holding"
    type: str = "uint16"
    bit: int = field(default=-1, metadata={"signed": True})
    length: int = 0
    word_order: str = "big"
    unit_id: int = 1
    scale: float = field(default=1.0, metadata={"signed": True})
    offset: float = field(default=0.0, metadata={"signed": True})
    unit: str = ""
    kind: str = ""
    low: float = field(default=math.nan, metadata={"signed": True})
    high: float = field(default=math.nan, metadata={"signed": True})
    poll_ms: int = 0

    @property
    def is_bit(self) -> bool:
        """Whether it is read from a table of bits."""
        return self.table in ("coil", "discrete")

    @property
    def width(self) -> int:
        """Registers, or bits, that it takes."""
        if self.is_bit:
            return 1
        return self.length if self.type == "string" else WIDTHS[self.type]

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> ModbusTag(path="a/b", address=7, type="real").fault()[:34]
        "type: no type 'real'; known are bo"
        """
        why = (
            word_fault("table", self.table, TABLES)
            or word_fault("type", self.type, (*WIDTHS, "string"))
            or word_fault("word_order", self.word_order, ("big", "little"))
            or names_fault(self)
        )
        if why:
            return why
        if (self.type == "string") != (self.length > 0):
            return f"length: a string needs 1 to {MOST_REGISTERS} registers, others none"
        if self.is_bit and self.type not in ("bool", "uint16"):
            return f"type: a {self.table} is a bool, got {self.type!r}"
        if not -1 <= self.bit <= 15 or (self.bit >= 0 and self.type != "bool"):
            return f"bit: must be 0 to 15, of a bool, got {self.bit}"
        if self.length > MOST_REGISTERS or self.address + self.width > 65_536:
            return f"address: {self.address} and {self.width} registers reach beyond 65535"
        if not 0 <= self.unit_id <= 255:
            return f"unit_id: must be 0 to 255, got {self.unit_id}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """One Modbus TCP device, or a gateway with several units behind it.

    Attributes
    ----------
    poll_ms
        How often tags are read that say nothing else.
    timeout_s
        How long a request is waited for.
    gap
        Registers nobody asked for that one request may read over; 0 for devices with holes.
    """

    protocol: ClassVar[str] = "modbus"
    schemes: ClassVar[tuple[str, ...]] = ("modbus",)

    id: str
    url: str
    poll_ms: int = 1000
    timeout_s: float = 1.0
    gap: int = 8
    user: str = ""
    password_env: str = ""
    tag: tuple[ModbusTag, ...] = field(default=(), metadata={"rows": ModbusTag})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> ModbusSettings(id="plc", url="modbus://plc").fault()
        'tag: is empty; list what is to be read, or look with brain connect'
        """
        if self.tag and (self.user or self.password_env):
            return "user: Modbus has no sign-in; leave user and password_env out"
        return source_fault(self.tag, self.poll_ms)
