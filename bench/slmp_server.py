"""A small SLMP server for tests and benchmarks: batch reads in words, type name, 3E and 4E.

Written from the public protocol description (SLMP Reference Manual, SH-080956ENG) on its own: it
shares no code with the connector. What it takes for right was never compared with a real PLC.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

_BITS = frozenset({0x90, 0x91, 0x92, 0x93, 0x94, 0x9C, 0x9D, 0xA0, 0xA1, 0xA2, 0xA3, 0xC1, 0xC4})


class Memory:
    """Words of each device by its code; bits lie sixteen to a word, the lowest first."""

    def __init__(self, words: dict[int, NDArray[np.uint16]], name: str = "R04CPU") -> None:
        self.words = words
        self.name = name
        self.requests = 0

    def answer(self, command: int, body: bytes) -> tuple[int, bytes]:
        """(end code, data)."""
        self.requests += 1
        if command == 0x0101:
            return 0, self.name.encode().ljust(16) + b"\x00\x48"
        if command != 0x0401:
            return 0xC059, b""
        number = int.from_bytes(body[:3], "little")
        code, count = struct.unpack("<BH", body[3:6])
        held = self.words.get(code)
        if held is None:
            return 0xC05B, b""
        if not 1 <= count <= 960:
            return 0xC051, b""
        if code in _BITS:
            bits = np.unpackbits(held.astype("<u2").view(np.uint8), bitorder="little")
            if number + count * 16 > len(bits):
                return 0xC056, b""
            part = bits[number : number + count * 16]
            return 0, np.packbits(part, bitorder="little").tobytes()
        if number + count > len(held):
            return 0xC056, b""
        return 0, held[number : number + count].astype("<u2").tobytes()


@asynccontextmanager
async def serving(memory: Memory, port: int) -> AsyncIterator[None]:
    """A server on loopback; its connections end with it."""
    writers: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(2)
                if head == b"\x54\x00":
                    mark = b"\xd4\x00" + await reader.readexactly(4)
                else:
                    mark = b"\xd0\x00"
                route = await reader.readexactly(5)
                size = int.from_bytes(await reader.readexactly(2), "little")
                request = await reader.readexactly(size)
                end, data = memory.answer(int.from_bytes(request[2:4], "little"), request[6:])
                writer.write(mark + route + struct.pack("<HH", 2 + len(data), end) + data)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()
        await server.wait_closed()
