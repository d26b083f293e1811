"""One polled device, read until cancelled: Modbus, S7 and SLMP differ in their links only.

What has changed is handed over, all of it after a connection. Source time is when the answer came:
these protocols have no other. Requests go out one after the other, each group on its own time grid.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect.blocks import Block, Decoder, Field, Place, Span, plan
from workshop_brain.connect.outbox import Outbox
from workshop_brain.errors import SourceError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef

log = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.25, 0.5, 1.0)
_AGAIN_POLLS = 30
"""A request that the device refuses is tried again after so many polls."""


class RefusedError(Exception):
    """The device answers a request with a refusal.

    Parameters
    ----------
    why
        Its code, in words for the log.
    by_address
        Whether a part of the block may be read where the whole cannot.
    """

    def __init__(self, why: str, *, by_address: bool) -> None:
        super().__init__(why)
        self.by_address = by_address


class Link(Protocol):
    """An open connection. OSError, TimeoutError and SourceError end it."""

    def most(self, place: Place) -> int:
        """Elements that one request may read."""
        ...

    async def read(self, block: Block) -> bytes:
        """The bytes of a block; RefusedError when the device says no."""
        ...

    async def close(self) -> None:
        """Let go of it; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """What the poller has to know of a tag."""

    name: str
    signal: SignalDef
    span: Span
    field: Field


@dataclass(slots=True, eq=False)
class Poller:
    """Keeps one device read until cancelled.

    Attributes
    ----------
    size
        Bytes of an element, by place.
    show
        A block in the words of its protocol, for the log.
    """

    id: str
    url: str
    points: Sequence[Point]
    gap: int
    outbox: Outbox
    dial: Callable[[], Awaitable[Link]]
    size: Callable[[Place], int]
    show: Callable[[Block], str]
    wall_ns: Callable[[], int] = time.time_ns
    _spans: list[Span] = field(default_factory=list)
    _limits: dict[Place, int] = field(default_factory=dict)
    _decoders: list[Decoder] = field(default_factory=list)
    _first: int = 0
    _last: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _last_text: dict[int, str] = field(default_factory=dict)
    _known: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Per tag: its last value was handed over since the connection began."""
    _bad: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Per tag: it was handed over that there is none."""
    _gap: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _refused: dict[Block, int] = field(default_factory=dict)
    """Refused requests of one tag, and the polls until they are tried again."""
    _is_up: bool = False
    _is_told: bool = False
    _why: str = ""

    def __post_init__(self) -> None:
        self._first = self.outbox.declare([point.signal for point in self.points])
        self._spans = [point.span for point in self.points]
        count = len(self.points)
        self._last = np.full(count, np.nan)
        self._known, self._bad, self._gap = (np.zeros(count, np.bool_) for _ in range(3))

    async def run(self) -> None:
        """Connect, poll, connect again."""
        tries = 0
        while True:
            link: Link | None = None
            try:
                link = await self.dial()
                tries = 0
                self._plan(link)
                await self._poll(link)
            except (OSError, EOFError, TimeoutError, SourceError) as error:
                self._down(str(error) or type(error).__name__)
            finally:
                if link is not None:
                    await link.close()
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1

    def _plan(self, link: Link) -> None:
        """Blocks as long as this connection allows; those that are known stay as they are."""
        limits = {span.place: link.most(span.place) for span in self._spans}
        if limits == self._limits:
            return
        self._limits = limits
        blocks = plan(self._spans, self.gap, limits.__getitem__)
        self._decoders = [self._decoder(block) for block in blocks]

    def _decoder(self, block: Block) -> Decoder:
        fields = [point.field for point in self.points]
        return Decoder.of(block, self._spans, fields, self.size(block.place))

    async def _poll(self, link: Link) -> None:
        """All groups on their grids, one request at a time, until the connection fails."""
        loop = asyncio.get_running_loop()
        due = dict.fromkeys({d.block.poll_ms for d in self._decoders}, loop.time())
        while True:
            poll_ms = min(due, key=lambda ms: due[ms])
            await asyncio.sleep(max(0.0, due[poll_ms] - loop.time()))
            for decoder in [d for d in self._decoders if d.block.poll_ms == poll_ms]:
                await self._read(link, decoder)
            period = poll_ms / 1000
            missed = max(0.0, loop.time() - due[poll_ms]) // period
            due[poll_ms] += (missed + 1) * period

    async def _read(self, link: Link, decoder: Decoder) -> None:
        block = decoder.block
        wait = self._refused.get(block, 0)
        if wait > 0:
            self._refused[block] = wait - 1
            return
        try:
            data = await link.read(block)
        except RefusedError as refused:
            self._up()
            self._refuse(decoder, refused)
            return
        self._up()
        if len(data) != block.count * self.size(block.place):
            self.outbox.rejected += 1
            log.warning("%s: %d bytes in the answer to %s", self.id, len(data), self.show(block))
            return
        self._refused.pop(block, None)
        self._take(decoder, data)

    def _refuse(self, decoder: Decoder, refused: RefusedError) -> None:
        """A refused request is halved until the tag is found; others go on being read."""
        block = decoder.block
        if refused.by_address and len(block.tags) > 1:
            at = self._decoders.index(decoder)
            halves = block.split(self._spans)
            self._decoders[at : at + 1] = [self._decoder(half) for half in halves]
            return
        if block not in self._refused:
            names = ", ".join(self.points[k].name for k in block.tags[:5])
            log.warning(
                "%s: the device refuses %s (%s), so there is no value of %s; correct address or "
                "type in plant.toml", self.id, self.show(block), refused, names,
            )  # fmt: skip
            self.outbox.rejected += 1
        self._refused[block] = _AGAIN_POLLS
        tags = np.array(block.tags)
        fresh = tags[~self._bad[tags]]
        self._known[tags] = False
        self._bad[tags] = True
        self._send(fresh, np.full(len(fresh), np.nan), Quality.BAD)

    def _take(self, decoder: Decoder, data: bytes) -> None:
        tags, value = decoder.tags, decoder.numbers(data)
        last = self._last[tags]
        is_same = (value == last) | (np.isnan(value) & np.isnan(last))
        changed = ~(is_same & self._known[tags])
        fresh, values = tags[changed], value[changed]
        self._last[fresh] = values
        words = [
            (k, text)
            for k, text in decoder.texts(data)
            if not self._known[k] or self._last_text[k] != text
        ]
        if words:
            self._last_text.update(words)
            fresh = np.concatenate([fresh, np.array([k for k, _ in words])])
            numbers = [float(self.outbox.text(text)) for _, text in words]
            values = np.concatenate([values, np.array(numbers)])
        self._known[fresh] = True
        self._bad[fresh] = False
        self._send(fresh, values, Quality.GOOD)

    def _send(self, at: NDArray[np.int64], value: NDArray[np.float64], grade: Quality) -> None:
        if not len(at):
            return
        now = self.wall_ns()
        quality = np.full(len(at), int(grade), np.uint8)
        quality[~np.isfinite(value)] |= int(Quality.BAD)
        quality[self._gap[at]] |= int(Quality.GAP_BEFORE)
        self._gap[at] = False
        times = np.full(len(at), now, np.int64)
        self.outbox.add(Samples((self._first + at).astype(np.uint32), times, value, quality), now)

    def _up(self) -> None:
        if self._is_up:
            return
        self._is_up = True
        log.info("%s: connected to %s", self.id, self.url)
        self._tell(EventKind.SOURCE_UP)

    def _down(self, why: str) -> None:
        """What happened while nobody answered is not known: the next values say so."""
        if why != self._why:
            log.warning("%s: %s: %s", self.id, self.url, why)
        self._why = why
        if self._is_up:
            self._gap |= self._known | self._bad
        self._known[:] = False
        self._bad[:] = False
        if self._is_up or not self._is_told:
            self._tell(EventKind.SOURCE_LOST)
        self._is_up, self._is_told = False, True

    def _tell(self, kind: EventKind) -> None:
        self.outbox.event(Event(time_ns=self.wall_ns(), kind=kind, path=self.id))
