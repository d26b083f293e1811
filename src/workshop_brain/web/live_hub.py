"""Live frames to many screens: encoded once per (view, ids, hz), newest wins for each reader.

A reader has a mailbox of one frame. A slow one misses frames; it never makes the brain remember
more than one frame and a bounded queue of events for it.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.websockets import WebSocket, WebSocketDisconnect

from workshop_brain.model.event import EventKind
from workshop_brain.model.state import UnitState
from workshop_brain.ports import Clock
from workshop_brain.web.events import EventFeed, Subscription
from workshop_brain.web.frames import (
    TAGS,
    WALL,
    Quantiser,
    header,
    tags_frame,
    wall_frame,
)
from workshop_brain.web.services import WatchView

log = logging.getLogger(__name__)

LEAST_HZ, MOST_HZ = 1.0, 20.0
MOST_TAGS = 4096
_HEARTBEAT_S = 1.0
_SEND_S = 30.0
_CHECK_S = 15.0
MOST_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class View:
    """What a screen wants to see: ``wall`` (everything) or ``tags`` (some ids)."""

    name: str
    ids: tuple[int, ...]
    hz: float


def read_view(message: Any) -> View | None:
    """A client's wish; None when it cannot be understood.

    >>> read_view({"view": "wall", "hz": 100})
    View(name='wall', ids=(), hz=20.0)
    """
    if not isinstance(message, dict) or message.get("view") not in ("wall", "tags"):
        return None
    hz = message.get("hz", 4)
    if not isinstance(hz, (int, float)) or isinstance(hz, bool) or not math.isfinite(hz):
        return None
    hz = round(min(max(float(hz), LEAST_HZ), MOST_HZ), 1)
    if message["view"] == "wall":
        return View("wall", (), hz)
    ids = message.get("ids")
    if not isinstance(ids, list) or len(ids) > MOST_TAGS:
        return None
    if not all(type(id) is int and 0 <= id < 2**31 for id in ids):
        return None
    return View("tags", tuple(ids), hz)


@dataclass(slots=True, eq=False)
class Client:
    """One screen: a mailbox of one frame and its events."""

    events: Subscription
    frame: bytes | None = None
    epoch: int = -1
    missed: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, frame: bytes) -> None:
        """Put the newest frame into the mailbox; an unread one is forgotten."""
        self.missed += self.frame is not None
        self.frame = frame
        self.wake.set()


@dataclass(slots=True, eq=False)
class _Channel:
    """All clients of one view and the task that encodes for them."""

    view: View
    clients: set[Client] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    seq: int = 0
    sent_at: float = -math.inf
    shown: tuple[object, ...] = ()


class LiveHub:
    """Encodes frames from the live table and hands them to the screens that want them."""

    def __init__(self, watch: WatchView, clock: Clock, feed: EventFeed) -> None:
        self._watch = watch
        self._clock = clock
        self._feed = feed
        self._channels: dict[View, _Channel] = {}
        self._quantiser: Quantiser | None = None
        self._rows: tuple[tuple[int, int], NDArray[np.intp]] = ((-1, -1), np.empty(0, np.intp))
        self.frames = 0
        self.clients = 0

    # -- encoding ---------------------------------------------------------------------------

    def encode(self, view: View, seq: int) -> bytes:
        """One frame of a view as the plant is now."""
        live, wall_ns = self._watch.live, self._clock.wall_ns()
        stale = live.stale(wall_ns)
        lost = bool(live.lost_sources(wall_ns))
        count = live.epoch if view.name == "wall" else len(view.ids)
        head = header(
            WALL if view.name == "wall" else TAGS,
            lost=lost,
            epoch=live.epoch,
            seq=seq,
            count=count,
            newest_ns=live.newest_ns,
        )
        self.frames += 1
        if view.name == "wall":
            if self._quantiser is None or len(self._quantiser.low) != live.epoch:
                self._quantiser = Quantiser(live.low, live.high)
            steps = self._quantiser.steps(live.value, live.quality, stale)
            return wall_frame(head, steps, self._states(stale))
        return self._tags(head, view.ids, stale)

    def _tags(self, head: bytes, ids: tuple[int, ...], stale: NDArray[np.bool_]) -> bytes:
        live = self._watch.live
        wanted = np.array(ids, np.int64)
        known = wanted < live.epoch
        at = np.where(known, wanted, 0)
        if live.epoch == 0:
            none = np.zeros(len(ids))
            return tags_frame(
                head, none + np.nan, none.astype(np.uint8) + 2, none.astype(np.int64), none > 0
            )
        return tags_frame(
            head,
            np.where(known, live.value[at], np.nan),
            np.where(known, live.quality[at], 2).astype(np.uint8),
            np.where(known, live.time_ns[at], 0),
            stale[at] & known,
        )

    def _states(self, stale: NDArray[np.bool_]) -> NDArray[np.uint8]:
        units = self._watch.units
        key = (len(units), self._watch.live.epoch)
        if self._rows[0] != key:
            rows = [units.rows.get(path, -1) for path in self._watch.unit_order()]
            self._rows = (key, np.array(rows, np.intp))
        rows_now = self._rows[1]
        if len(units) == 0:
            return np.zeros(len(rows_now), np.uint8)
        states = units.effective_state(stale)[rows_now]
        return np.where(rows_now >= 0, states, np.uint8(UnitState.UNKNOWN)).astype(np.uint8)

    # -- channels ---------------------------------------------------------------------------

    def _join(self, client: Client, view: View) -> _Channel:
        channel = self._channels.get(view)
        if channel is None:
            channel = self._channels[view] = _Channel(view)
            channel.task = asyncio.create_task(self._run(channel), name=f"live {view.name}")
        channel.clients.add(client)
        channel.shown = ()
        return channel

    def _leave(self, client: Client, channel: _Channel | None) -> None:
        if channel is None:
            return
        channel.clients.discard(client)
        if not channel.clients:
            self._channels.pop(channel.view, None)
            if channel.task is not None:
                channel.task.cancel()

    async def _run(self, channel: _Channel) -> None:
        """Encode on the grid of the view's rate until nobody looks any more."""
        loop = asyncio.get_running_loop()
        period = 1.0 / channel.view.hz
        while True:
            try:
                self._tick(channel, loop.time())
            except Exception:
                log.exception("frame of view %s could not be made", channel.view.name)
            await asyncio.sleep(period - loop.time() % period)

    def _tick(self, channel: _Channel, now: float) -> None:
        live = self._watch.live
        lost = tuple(live.lost_sources(self._clock.wall_ns()))
        shown = (live.version, lost)
        if shown == channel.shown and now + 1 / channel.view.hz - channel.sent_at < _HEARTBEAT_S:
            return
        frame = self.encode(channel.view, channel.seq)
        channel.seq += 1
        channel.shown, channel.sent_at = shown, now
        for client in channel.clients:
            client.offer(frame)

    async def close(self) -> None:
        """Stop all encoders."""
        tasks = [c.task for c in self._channels.values() if c.task is not None]
        self._channels.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one connection ---------------------------------------------------------------------

    async def serve(self, socket: WebSocket, still_allowed: Callable[[], bool]) -> None:
        """Serve one accepted WebSocket until it ends.

        Messages: ``{"view": ...}`` chooses what is shown, ``{"events": [kinds]}`` which events.
        """
        client = Client(self._feed.subscribe())
        self.clients += 1
        channel: _Channel | None = None
        writer = asyncio.create_task(self._write(socket, client, still_allowed))
        try:
            while True:
                message = await _receive(socket, writer)
                view, kinds = read_view(message), _kinds(message)
                if kinds is not None:
                    client.events.choose(kinds)
                if view is not None and (channel is None or view != channel.view):
                    self._leave(client, channel)
                    channel = self._join(client, view)
                elif view is None and kinds is None:
                    client.events.tell(b'{"error":{"id":"web.bad_view"}}')
        except (WebSocketDisconnect, RuntimeError, ConnectionError):
            pass
        finally:
            self.clients -= 1
            self._leave(client, channel)
            self._feed.leave(client.events)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(
        self, socket: WebSocket, client: Client, still_allowed: Callable[[], bool]
    ) -> None:
        """Send what waits, newest frame only; give up on a reader that takes nothing for 30 s."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        client.events.ring(client.wake)
        while True:
            async with asyncio.timeout(_SEND_S):
                await self._flush(socket, client)
            if loop.time() - checked > _CHECK_S:
                checked = loop.time()
                if not still_allowed():
                    await socket.close(4401)
                    return
            try:
                async with asyncio.timeout(_CHECK_S):
                    await client.wake.wait()
            except TimeoutError:
                continue

    async def _flush(self, socket: WebSocket, client: Client) -> None:
        client.wake.clear()
        epoch = self._watch.live.epoch
        if epoch != client.epoch:
            client.epoch = epoch
            await socket.send_text(orjson.dumps({"epoch": epoch}).decode())
        for number, encoded in client.events.drain():
            text = encoded.decode()
            await socket.send_text(f'{{"event":{text}}}' if number else text)
        frame, client.frame = client.frame, None
        if frame is not None:
            await socket.send_bytes(frame)


async def _receive(socket: WebSocket, writer: asyncio.Task[None]) -> Any:
    """The next JSON message, or an end when the writer has given up. Garbage is ``""``."""
    reading = asyncio.create_task(socket.receive())
    try:
        await asyncio.wait({reading, writer}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise WebSocketDisconnect(1001)
        message = reading.result()
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    text = message.get("text") or ""
    if len(text) > MOST_MESSAGE:
        return ""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""


def _kinds(message: Any) -> list[EventKind] | None:
    """Event kinds a client asks for with ``{"events": [...]}``; None for the usual ones."""
    wanted = message.get("events") if isinstance(message, dict) else None
    if not isinstance(wanted, list):
        return None
    known = {k.value for k in EventKind}
    return [EventKind(kind) for kind in wanted if isinstance(kind, str) and kind in known]
