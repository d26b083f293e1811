"""Events as they happen: one feed, encoded once, for WebSockets and server-sent events."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson

from workshop_brain.model.event import Event, EventKind
from workshop_brain.units import NS_PER_MS

KEPT = 500
"""Events kept for a client that comes back with Last-Event-ID."""
QUEUE = 256
"""Events a slow reader may lag behind before its oldest are dropped."""
QUIET = frozenset({EventKind.STATE_CHANGED, EventKind.PART_MOVED})
"""Kinds that come by the hundred; sent only to those who ask for them."""
_BEAT_S = 10.0


class Subscription:
    """One reader's bounded queue; the oldest events go when it is full."""

    def __init__(self, kinds: frozenset[EventKind] | None) -> None:
        self._kinds = kinds
        self._queue: deque[tuple[int, bytes]] = deque(maxlen=QUEUE)
        self._wake = asyncio.Event()
        self.dropped = 0

    def offer(self, number: int, kind: EventKind, encoded: bytes) -> None:
        """Take an event if this reader wants its kind."""
        wanted = kind not in QUIET if self._kinds is None else kind in self._kinds
        if not wanted:
            return
        self.dropped += len(self._queue) == QUEUE
        self._queue.append((number, encoded))
        self._wake.set()

    def choose(self, kinds: Iterable[EventKind]) -> None:
        """Want these kinds from now on."""
        self._kinds = frozenset(kinds)

    def ring(self, bell: asyncio.Event) -> None:
        """Ring another bell than the own when something comes."""
        self._wake = bell

    def tell(self, text: bytes) -> None:
        """Queue a message for this reader alone; its number is 0."""
        self._queue.append((0, text))
        self._wake.set()

    def drain(self) -> list[tuple[int, bytes]]:
        """Everything that waits, oldest first."""
        out = list(self._queue)
        self._queue.clear()
        return out

    def calm(self) -> None:
        """Wait anew after a drain."""
        self._wake.clear()

    async def wait(self) -> None:
        """Until something waits."""
        await self._wake.wait()


class EventFeed:
    """Hands every published event to every subscription."""

    def __init__(self) -> None:
        self._number = 0
        self._kept: deque[tuple[int, EventKind, bytes]] = deque(maxlen=KEPT)
        self._readers: set[Subscription] = set()

    def publish(self, event: Event) -> None:
        """Tell everybody; event loop thread only."""
        self._number += 1
        encoded = orjson.dumps(event_json(event), option=orjson.OPT_SERIALIZE_NUMPY, default=str)
        if event.kind not in QUIET:
            self._kept.append((self._number, event.kind, encoded))
        for reader in self._readers:
            reader.offer(self._number, event.kind, encoded)

    def subscribe(
        self, kinds: Iterable[EventKind] | None = None, *, after: int | None = None
    ) -> Subscription:
        """A new reader; with ``after`` it first gets what was kept beyond that number."""
        reader = Subscription(None if kinds is None else frozenset(kinds))
        if after is not None and after <= self._number:
            for number, kind, encoded in self._kept:
                if number > after:
                    reader.offer(number, kind, encoded)
        self._readers.add(reader)
        return reader

    def leave(self, reader: Subscription) -> None:
        """The reader is gone."""
        self._readers.discard(reader)

    async def stream(self, reader: Subscription) -> AsyncIterator[bytes]:
        """Server-sent events of one reader, with a comment every 10 s of silence."""
        try:
            yield b"retry: 1000\n\n"
            while True:
                try:
                    async with asyncio.timeout(_BEAT_S):
                        await reader.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                reader.calm()
                for number, encoded in reader.drain():
                    yield b"id: %d\ndata: %s\n\n" % (number, encoded)
        finally:
            self.leave(reader)


def event_json(event: Event) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "time_ms": event.time_ns / NS_PER_MS,
        "kind": event.kind.value,
        "path": event.path,
        "payload": event.payload,
    }
