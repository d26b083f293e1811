"""SLMP (MC protocol) binary frames, 3E and 4E: batch read in words, type name. Pure.

Source: Mitsubishi Electric, SLMP Reference Manual, SH-080956ENG.
"""

import struct
from dataclasses import dataclass

MOST_WORDS = 960
"""In one batch read, by the reference manual."""
READ = 0x0401
TYPE_NAME = 0x0101
BY_ADDRESS = frozenset({0x4030, 0x4031, 0xC051, 0xC056, 0xC05B, 0xC05C})
"""End codes that speak of a device or its range: a part of the block may be readable."""
_QUARTER_S = 0.25


@dataclass(frozen=True, slots=True)
class Device:
    """One kind of device: its code in a frame, the base of its numbers, bits or words."""

    code: int
    base: int
    is_bit: bool


DEVICES = {
    "SM": Device(0x91, 10, True), "SD": Device(0xA9, 10, False),
    "X": Device(0x9C, 16, True), "Y": Device(0x9D, 16, True),
    "M": Device(0x90, 10, True), "L": Device(0x92, 10, True),
    "F": Device(0x93, 10, True), "V": Device(0x94, 10, True),
    "B": Device(0xA0, 16, True), "D": Device(0xA8, 10, False),
    "W": Device(0xB4, 16, False), "R": Device(0xAF, 10, False),
    "ZR": Device(0xB0, 10, False), "SB": Device(0xA1, 16, True),
    "SW": Device(0xB5, 16, False), "DX": Device(0xA2, 16, True),
    "DY": Device(0xA3, 16, True), "TN": Device(0xC2, 10, False),
    "TS": Device(0xC1, 10, True), "CN": Device(0xC5, 10, False),
    "CS": Device(0xC4, 10, True), "Z": Device(0xCC, 10, False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """How requests are addressed.

    Attributes
    ----------
    is_4e
        Whether frames carry a serial number.
    network, station
        0 and 255: the station that is connected to.
    timeout_s
        How long the station waits for its CPU, in steps of 0.25 s.
    """

    is_4e: bool = False
    network: int = 0
    station: int = 255
    timeout_s: float = 1.0

    def request(self, serial: int, command: int, body: bytes = b"") -> bytes:
        """One request.

        >>> Frame().request(0, TYPE_NAME).hex(" ")
        '50 00 00 ff ff 03 00 06 00 04 00 01 01 00 00'
        """
        timer = max(1, min(0xFFFF, round(self.timeout_s / _QUARTER_S)))
        data = struct.pack("<HHH", timer, command, 0) + body
        head = struct.pack("<HHH", 0x54, serial, 0) if self.is_4e else b"\x50\x00"
        return head + struct.pack("<BBHBH", self.network, self.station, 0x03FF, 0, len(data)) + data

    @property
    def head_size(self) -> int:
        """Bytes of an answer before its end code."""
        return 13 if self.is_4e else 9

    def answer(self, head: bytes) -> tuple[int, int]:
        """(serial, bytes that follow) of an answer's head; ValueError when it is none."""
        if head[:2] != (b"\xd4\x00" if self.is_4e else b"\xd0\x00"):
            raise ValueError(f"begins with {head[:2].hex()}")
        serial = int.from_bytes(head[2:4], "little") if self.is_4e else 0
        size = int.from_bytes(head[-2:], "little")
        if not 2 <= size <= 8194:
            raise ValueError(f"names a size of {size}")
        return serial, size


def read_words(device: Device, start: int, count: int) -> bytes:
    """Body of a batch read: ``count`` words from word ``start``; of bits, sixteen to a word."""
    number = start * 16 if device.is_bit else start
    return number.to_bytes(3, "little") + struct.pack("<BH", device.code, count)
