"""A TCP line as a radio link is: delay, jitter, little bandwidth, losses, resets, stalls, silence.

It forwards to ``target`` on loopback. What TCP makes of a lost packet is what its users see: that
packet and all behind it come one round trip later.
"""

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

_PIECE = 16 * 1024
_PACKET = 1448


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How a link behaves.

    Attributes
    ----------
    delay_s, jitter_s
        One way; the jitter is added, uniform, without reordering.
    bytes_per_s
        In each direction; 0: no limit.
    loss
        Share of packets that are lost once.
    reset_every_s, stall_every_s
        Mean time between resets of all connections and stalls of ``stall_s``; 0: never.
    buffer_bytes
        What waits inside the link at most, as in a modem.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    reset_every_s: float = 0.0
    stall_every_s: float = 0.0
    stall_s: float = 0.5
    buffer_bytes: int = 256 * 1024


FAIR = Weather()
RADIO = Weather(
    delay_s=0.025, jitter_s=0.02, bytes_per_s=2.5e6, loss=0.005, reset_every_s=4.0,
    stall_every_s=6.0, stall_s=0.8,
)  # fmt: skip
"""A 5G link in a poor cell: 50 ms and more there and back, 20 Mbit/s, cut every few seconds."""


@dataclass
class RoughLine:
    """Forwards to ``target``; ``port`` is where it listens.

    Attributes
    ----------
    resets, stalls
        How often that has happened.
    passed
        Bytes that came through, both ways.
    """

    target: int
    weather: Weather = FAIR
    seed: int = 1
    port: int = 0
    resets: int = 0
    stalls: int = 0
    passed: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _random: random.Random = field(default_factory=random.Random)

    async def start(self) -> None:
        """Listen, and let the weather begin."""
        self._random.seed(self.seed)
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        w = self.weather
        if w.reset_every_s:
            self._do(self._now_and_then(w.reset_every_s, self.reset))
        if w.stall_every_s:
            self._do(self._now_and_then(w.stall_every_s, self._stall_once))

    async def close(self) -> None:
        """Stop all of it."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._abort()

    def _do(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reset(self) -> None:
        """Cut every connection; what is under way is gone."""
        self.resets += 1
        self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def silence(self) -> None:
        """Half open from now on: connections stand, nothing comes through, nobody is told."""
        self._flows.clear()

    def speak(self) -> None:
        """Let it flow again."""
        self._flows.set()

    async def _stall_once(self) -> None:
        self.stalls += 1
        self.silence()
        await asyncio.sleep(self.weather.stall_s)
        self.speak()

    async def _now_and_then(self, every_s: float, act) -> None:  # type: ignore[no-untyped-def]
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * every_s)
            await act()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self.weather.delay_s)
        await self._flows.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self._writers |= {writer, far_writer}
        self._do(self._flow(reader, far_writer))
        self._do(self._flow(far_reader, writer))

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: pieces leave at the link's speed and arrive after its delay."""
        under_way: deque[tuple[float, bytes]] = deque()
        news, room = asyncio.Event(), asyncio.Event()
        arrive = asyncio.create_task(self._arrive(under_way, news, room, writer))
        free = last = 0.0
        try:
            with suppress(OSError):
                while data := await reader.read(_PIECE):
                    now = time.monotonic()
                    free = max(free, now)
                    if self.weather.bytes_per_s:
                        free += len(data) / self.weather.bytes_per_s
                    last = max(last, free + self._travel_s(len(data)))
                    under_way.append((last, data))
                    news.set()
                    while sum(len(d) for _, d in under_way) > self.weather.buffer_bytes:
                        room.clear()
                        await room.wait()
            under_way.append((last, b""))
            news.set()
            await arrive
        finally:
            arrive.cancel()

    def _travel_s(self, size: int) -> float:
        w = self.weather
        packets = -(-size // _PACKET)
        lost = w.loss and self._random.random() < 1 - (1 - w.loss) ** packets
        return w.delay_s + self._random.random() * w.jitter_s + (2 * w.delay_s if lost else 0.0)

    async def _arrive(
        self,
        under_way: deque[tuple[float, bytes]],
        news: asyncio.Event,
        room: asyncio.Event,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while True:
                while not under_way:
                    news.clear()
                    await news.wait()
                await asyncio.sleep(max(0.0, under_way[0][0] - time.monotonic()))
                await self._flows.wait()
                _, data = under_way.popleft()
                room.set()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
                self.passed += len(data)
        writer.close()
