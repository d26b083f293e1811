"""One Mitsubishi PLC over SLMP (MC protocol, TCP, binary), polled until cancelled.

The link is our own: pymcprotocol takes what one ``recv`` gives for a whole answer, which on a real
network it need not be, and blocks. The tests read our test server with it.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workshop_brain.connect import polled
from workshop_brain.connect.blocks import Block, Place
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.poller import Point, Poller, RefusedError
from workshop_brain.connect.slmp import blocks, frames
from workshop_brain.connect.slmp.settings import SlmpSettings, SlmpTag
from workshop_brain.errors import SourceError

PORT = 5007


async def collect(
    settings: SlmpSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Poll all tags; connection faults are logged and tried again."""
    frame = frames.Frame(
        settings.frame == "4E", settings.network, settings.station, settings.timeout_s
    )
    await Poller(
        id=settings.id,
        url=settings.url,
        points=[_point(tag, settings, enterprise) for tag in settings.tag],
        gap=settings.gap,
        outbox=outbox,
        dial=lambda: dial(settings.url, frame),
        size=lambda place: 2,
        show=_shown,
    ).run()


def _point(tag: SlmpTag, settings: SlmpSettings, enterprise: str) -> Point:
    type_ = tag.kind_of_value
    signal = polled.signal(
        tag,
        settings.id,
        enterprise,
        tag.address.upper(),
        is_bool=type_ == "bool",
        is_text=type_ == "string",
        is_integer="int" in type_,
    )
    return Point(tag.path, signal, blocks.span(tag, settings.poll_ms), blocks.meaning(tag))


def _shown(block: Block) -> str:
    """The block in the PLC's own numbers."""
    name = str(block.place[0])
    device = frames.DEVICES[name]
    each = 16 if device.is_bit else 1
    first, last = block.start * each, (block.start + block.count) * each - 1
    form = "X" if device.base == 16 else "d"
    return f"{name}{first:{form}}..{name}{last:{form}}"


async def dial(url: str, frame: frames.Frame) -> "SlmpLink":
    """An open connection; OSError or TimeoutError when nobody answers."""
    parts = urlsplit(url)
    async with asyncio.timeout(frame.timeout_s):
        reader, writer = await asyncio.open_connection(parts.hostname or "", parts.port or PORT)
    return SlmpLink(frame, reader, writer)


@dataclass(slots=True, eq=False)
class SlmpLink:
    """One connection; requests go out one after the other."""

    frame: frames.Frame
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serial: int = 0

    def most(self, place: Place) -> int:
        """Words that one request may read."""
        return frames.MOST_WORDS

    async def read(self, block: Block) -> bytes:
        """The words of a block; RefusedError when the PLC says no."""
        device = frames.DEVICES[str(block.place[0])]
        body = frames.read_words(device, block.start, block.count)
        return await self.ask(frames.READ, body)

    async def ask(self, command: int, body: bytes = b"") -> bytes:
        """The answer to one request, without its end code."""
        self.serial = self.serial % 0xFFFF + 1
        self.writer.write(self.frame.request(self.serial, command, body))
        try:
            async with asyncio.timeout(self.frame.timeout_s):
                while True:
                    head = await self.reader.readexactly(self.frame.head_size)
                    serial, size = self.frame.answer(head)
                    data = await self.reader.readexactly(size)
                    if not self.frame.is_4e or serial == self.serial:
                        break  # else it belongs to a request that was given up
        except TimeoutError as error:
            raise SourceError(f"no answer within {self.frame.timeout_s:g} s") from error
        except asyncio.IncompleteReadError as error:
            raise SourceError("the PLC closed the connection") from error
        except ValueError as error:
            raise SourceError(
                f"does not speak SLMP {'4E' if self.frame.is_4e else '3E'} in binary: its answer "
                f"{error}; check the port's protocol and code in the PLC's parameters"
            ) from error
        end = int.from_bytes(data[:2], "little")
        if end:
            raise RefusedError(f"end code {end:04X}", by_address=end in frames.BY_ADDRESS)
        return data[2:]

    async def close(self) -> None:
        """Let go of it; never raises."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
