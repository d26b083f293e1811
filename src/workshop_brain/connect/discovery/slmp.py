"""Looking at a Mitsubishi PLC over SLMP: which one it is, what its words may be.

Reads only, one request at a time: the beginnings of D, W, R and ZR.
"""

import asyncio
import time
from urllib.parse import urlsplit

import numpy as np

from workshop_brain.connect.blocks import Block
from workshop_brain.connect.discovery import registers
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.discovery.propose import Discovery
from workshop_brain.connect.discovery.reach import CONNECT_S, unreachable
from workshop_brain.connect.discovery.words import Area, discovered
from workshop_brain.connect.poller import RefusedError
from workshop_brain.connect.slmp import frames
from workshop_brain.connect.slmp.source import PORT, SlmpLink, dial
from workshop_brain.errors import SourceError

_AREAS = ("D", "W", "R", "ZR")
_COUNTS = (960, 480, 128, 32)
_BETWEEN_S = 0.5


async def discover(url: str, options: Options) -> Discovery:
    """What ``slmp://host:port`` holds; SourceError says what is wrong."""
    parts = urlsplit(url)
    options.say("connecting", {"url": url})
    try:
        link = await dial(url, frames.Frame(timeout_s=CONNECT_S))
    except OSError as error:
        host, port = parts.hostname or "", parts.port or PORT
        raise SourceError(unreachable(url, host, port, error)) from error
    try:
        name = await _type_name(link)
        areas = [area for name in _AREAS if (area := await _area(link, name))]
        if not areas:
            raise SourceError(f"{url}: {name} answers and lets none of D, W, R, ZR be read")
        seconds = await _sampled(link, areas, options)
    except SourceError as error:
        raise SourceError(f"{url}: {str(error).removeprefix(f'{url}: ')}") from error
    finally:
        await link.close()
    words = ", ".join(f"{area.name} ({area.count})" for area in areas)
    return discovered(
        url, "slmp", areas, _row, word_order="little",
        facts=[("slmp", {"name": name, "areas": words})], seconds=seconds, options=options,
    )  # fmt: skip


def _row(area: Area, found: registers.Guessed) -> tuple[str, str]:
    form = "X" if frames.DEVICES[area.name].base == 16 else "d"
    return f"{area.name}{found.offset:{form}}", found.type


async def _type_name(link: SlmpLink) -> str:
    """The PLC's type; a PLC that does not know the command is an SLMP device all the same."""
    try:
        answer = await link.ask(frames.TYPE_NAME)
    except RefusedError:
        return "SLMP"
    return answer[:16].decode("ascii", "replace").strip("\0 ") or "SLMP"


async def _area(link: SlmpLink, name: str) -> Area | None:
    """As much of the beginning of a device as can be read; None when nothing can."""
    for count in _COUNTS:
        try:
            await link.read(Block(0, (name,), 0, count, ()))
        except RefusedError:
            continue
        return Area(name, count)
    return None


async def _sampled(link: SlmpLink, areas: list[Area], options: Options) -> float:
    """Read every area again and again for the seconds given; how long that took."""
    options.say("reading", {"s": options.seconds})
    begin = time.monotonic()
    while True:
        for area in areas:
            data = await link.read(Block(0, (area.name,), 0, area.count, ()))
            area.reads.append(np.frombuffer(data, "<u2").astype(np.uint16))
        passed = time.monotonic() - begin
        if passed >= options.seconds:
            return passed
        await asyncio.sleep(min(_BETWEEN_S, options.seconds - passed))
