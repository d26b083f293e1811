"""One Siemens S7 PLC, polled until cancelled."""

import asyncio
import logging
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from snap7 import AsyncClient
from snap7.error import S7Error, S7ProtocolError
from snap7.type import Area

from workshop_brain.connect import polled
from workshop_brain.connect.blocks import Block, Place
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.poller import Point, Poller, RefusedError
from workshop_brain.connect.s7 import blocks
from workshop_brain.connect.s7.settings import S7Settings, S7Tag
from workshop_brain.errors import SourceError

logging.getLogger("snap7").setLevel(logging.CRITICAL)

PORT = 102
_AREAS = {"DB": Area.DB, "M": Area.MK, "I": Area.PE, "Q": Area.PA}
_HEADERS = 18
"""Bytes of a PDU that a read's answer needs beside the data."""
_CODE = re.compile(r"\(0x([0-9a-f]{2})\)$")
_UNREADABLE = (struct.error, ValueError, LookupError, TypeError, AttributeError)
"""What the library raises on bytes that are no answer."""
_BY_ADDRESS = {0x03, 0x05, 0x06, 0x0A}
"""Access not allowed, address out of range, type not supported, object does not exist."""


async def collect(
    settings: S7Settings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Poll all tags; connection faults are logged and tried again."""
    await Poller(
        id=settings.id,
        url=settings.url,
        points=[_point(tag, settings, enterprise) for tag in settings.tag],
        gap=settings.gap,
        outbox=outbox,
        dial=lambda: dial(settings.url, settings.rack, settings.slot, settings.timeout_s),
        size=lambda place: 1,
        show=_shown,
    ).run()


def _point(tag: S7Tag, settings: S7Settings, enterprise: str) -> Point:
    type_ = tag.kind_of_value
    signal = polled.signal(
        tag,
        settings.id,
        enterprise,
        tag.address.upper(),
        is_bool=type_ == "BOOL",
        is_text=type_.endswith("STRING"),
        is_integer=type_ not in ("REAL", "LREAL"),
    )
    span = blocks.span(tag, settings.poll_ms)
    return Point(tag.path, signal, span, blocks.meaning(tag, settings.encoding))


def _shown(block: Block) -> str:
    area, db = block.place
    name = f"DB{db}" if db else str(area)
    return f"{name} bytes {block.start}..{block.start + block.count - 1}"


async def dial(url: str, rack: int, slot: int, timeout_s: float) -> "S7Link":
    """An open connection; SourceError or TimeoutError when nobody answers."""
    parts = urlsplit(url)
    client = AsyncClient()
    try:
        async with asyncio.timeout(timeout_s):
            await client.connect(parts.hostname or "", rack, slot, parts.port or PORT)
    except S7Error as error:
        raise SourceError(f"{error}; check address, rack {rack} and slot {slot}") from error
    except BaseException:
        await client.disconnect()
        raise
    assert client.connection is not None
    client.connection.timeout = timeout_s
    return S7Link(client)


@dataclass(slots=True, eq=False)
class S7Link:
    """One connection; requests go out one after the other."""

    client: AsyncClient

    def most(self, place: Place) -> int:
        """Bytes that fit into one answer of the PDU size agreed on."""
        return self.client.pdu_length - _HEADERS

    async def read(self, block: Block) -> bytes:
        """The bytes of a block; RefusedError when the PLC says no."""
        area, db = block.place
        try:
            return bytes(
                await self.client.read_area(_AREAS[str(area)], int(db), block.start, block.count)
            )
        except S7ProtocolError as error:
            found = _CODE.search(str(error))
            if found is None:
                raise SourceError(str(error)) from error
            raise RefusedError(str(error), by_address=int(found[1], 16) in _BY_ADDRESS) from error
        except S7Error as error:
            raise SourceError(str(error)) from error
        except _UNREADABLE as error:
            raise SourceError(f"an answer cannot be read: {error!r}") from error

    async def close(self) -> None:
        """Let go of it; never raises."""
        await self.client.disconnect()
