"""Looking at an S7 PLC: which CPU it is, which data blocks it has, what may be in them.

Reads only, one request at a time. A CPU that does not list its blocks is asked for the first ones.
"""

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from snap7.error import S7Error
from snap7.type import Block as BlockType

from workshop_brain.connect.blocks import Block
from workshop_brain.connect.discovery import registers
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Discovery
from workshop_brain.connect.discovery.reach import CONNECT_S, unreachable
from workshop_brain.connect.discovery.words import Area, discovered
from workshop_brain.connect.poller import RefusedError
from workshop_brain.connect.s7.source import PORT, S7Link, dial
from workshop_brain.errors import SourceError

_SLOTS = (1, 2, 0)
_MOST_BYTES = 1000
"""Of one data block."""
_MOST_BLOCKS = 40
_ASKED_BLOCKS = 20
_BETWEEN_S = 0.5
_TYPES = {"float32": ("D", "REAL"), "int16": ("W", "INT"), "uint16": ("W", "WORD")}


async def discover(url: str, options: Options) -> Discovery:
    """What ``s7://host:port`` holds; SourceError says what is wrong."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORT
    options.say("connecting", {"url": url})
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise SourceError(unreachable(url, host, port, error)) from error
    writer.close()
    link, slot = await _link(url)
    try:
        cpu = await _identity(link)
        lengths, is_told = await _lengths(link)
        areas = [Area(f"DB{db}", min(n, _MOST_BYTES) // 2) for db, n in lengths.items() if n >= 2]
        seconds = await _sampled(link, areas[:_MOST_BLOCKS], options)
    except SourceError as error:
        raise SourceError(f"{url}: {error}") from error
    finally:
        await link.close()
    read = [area for area in areas if area.reads]
    if not read:
        raise SourceError(
            f"{url}: {cpu} answers and lets no data block be read; allow PUT/GET and switch "
            "optimized access of the blocks off, or write [[source.tag]] rows for M, I and Q"
        )
    shown = ", ".join(f"DB{db} ({n})" for db, n in list(lengths.items())[:_MOST_BLOCKS])
    fact: dict[str, Any] = {"cpu": cpu, "blocks": shown}
    found = discovered(
        url, "s7", read, _row, word_order="big",
        facts=[("s7" if is_told else "s7.asked", fact)], seconds=seconds, options=options,
    )  # fmt: skip
    if slot != 1:
        found.source["slot"] = slot
    return found


def _row(area: Area, found: registers.Guessed) -> tuple[str, str]:
    letter, type_ = _TYPES[found.type]
    return f"{area.name}.DB{letter}{2 * found.offset}", type_


async def _link(url: str) -> tuple[S7Link, int]:
    """A connection and the slot of the CPU: S7-1200 and S7-1500 have 1, S7-300 has 2."""
    why: Exception | None = None
    for slot in _SLOTS:
        try:
            return await dial(url, 0, slot, CONNECT_S), slot
        except (SourceError, OSError) as error:
            why = error
    raise SourceError(
        f"{url}: the port is open and no CPU answers in rack 0, slot 1, 2 or 0 ({why}); is it an "
        "S7, and is a connection free?"
    ) from why


async def _identity(link: S7Link) -> str:
    """Type and order code, as far as the CPU tells."""
    words = []
    try:
        words.append((await link.client.get_cpu_info()).ModuleTypeName.decode("latin-1"))
        words.append((await link.client.get_order_code()).OrderCode.decode("latin-1"))
    except S7Error:
        pass  # S7-1200 and S7-1500 tell less than S7-300
    return " ".join(word.strip() for word in words if word.strip()) or "S7"


async def _lengths(link: S7Link) -> tuple[dict[int, int], bool]:
    """Data block to its bytes, and whether the CPU has told them itself."""
    try:
        numbers = await link.client.list_blocks_of_type(BlockType.DB, 4000)
        told = {
            db: int((await link.client.get_block_info(BlockType.DB, db)).MC7Size)
            for db in sorted(numbers)[:_MOST_BLOCKS]
        }
    except S7Error:
        told = {}
    if told:
        return told, True
    asked = {db: await _length(link, db) for db in range(1, _ASKED_BLOCKS + 1)}
    return {db: n for db, n in asked.items() if n}, False


async def _length(link: S7Link, db: int) -> int:
    """Bytes of a block that can be read, up to _MOST_BYTES, found by halving."""
    low, high = 0, _MOST_BYTES
    if await _reads(link, db, high - 1):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if await _reads(link, db, middle):
            low = middle
        elif middle and low == 0 and not await _reads(link, db, 0):
            return 0
        else:
            high = middle
    return low + 1 if low else 0


async def _reads(link: S7Link, db: int, byte: int) -> bool:
    try:
        await link.read(Block(0, ("DB", db), byte, 1, ()))
    except RefusedError:
        return False
    return True


async def _sampled(link: S7Link, areas: list[Area], options: Options) -> float:
    """Read every block again and again for the seconds given; how long that took."""
    options.say("reading", {"s": options.seconds})
    begin = time.monotonic()
    while True:
        for area in list(areas):
            words = await _words(link, area)
            if words is None:
                areas.remove(area)
            else:
                area.reads.append(words)
        passed = time.monotonic() - begin
        if passed >= options.seconds:
            return passed
        await asyncio.sleep(min(_BETWEEN_S, options.seconds - passed))


async def _words(link: S7Link, area: Area) -> NDArray[np.uint16] | None:
    try:
        data = await link.read(Block(0, ("DB", int(area.name[2:])), 0, 2 * area.count, ()))
    except RefusedError:
        return None
    return np.frombuffer(data, ">u2").astype(np.uint16)
