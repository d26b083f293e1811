"""The collector's side of the hand-over: coalesce, send, keep until acknowledged, spool.

Producers call ``declare``, ``text``, ``add``, ``curve`` and ``event`` from the event loop; nothing
there waits. A frame stays in memory until the brain has acknowledged it; when the brain is away,
or an acknowledgement takes longer than a second, it is written to the spool and synced.
``durable`` follows whatever is safe, at the brain or on disk: only that may be acknowledged to a
source.
"""

import asyncio
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType, Hello
from workshop_brain.connect.spool import Spool, SpooledSession, read_frames
from workshop_brain.errors import DecodeError, SourceError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef

log = logging.getLogger(__name__)

COALESCE_S = 0.02
_GUARD_S = 0.25
_UNACKED_S = 1.0
_BACKOFF_S = (0.1, 0.2, 0.5)
_MEMORY_BYTES = 128 * 1024 * 1024
_SOCKET_BYTES = 32 * 1024 * 1024
_LIVENESS = frozenset({EventKind.SOURCE_UP, EventKind.SOURCE_LOST})


@dataclass(slots=True)
class _Waiting:
    """One frame that the brain has not acknowledged."""

    seq: int
    frame: bytes
    made: float


@dataclass(slots=True)
class _Holes:
    """Marks the first sample of every signal behind dropped frames."""

    open: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def after_gap(self, n_signals: int) -> None:
        self.open = np.ones(n_signals, np.bool_)

    def apply(self, kind: FrameType, body: bytes) -> bytes:
        """The frame to send for a stored one."""
        if kind is not FrameType.BATCH or not self.open.any():
            return handover.frame(kind, body)
        seq, received_ns, samples = handover.unpack_batch(body)
        known = samples.signal < len(self.open)
        first = np.zeros(len(samples), np.bool_)
        ids, at = np.unique(samples.signal, return_index=True)
        first[at] = True
        hit = first & known
        hit[hit] = self.open[samples.signal[hit]]
        self.open[ids[ids < len(self.open)]] = False
        quality = samples.quality | np.where(hit, int(Quality.GAP_BEFORE), 0).astype(np.uint8)
        marked = Samples(samples.signal, samples.time_ns, samples.value, quality)
        return handover.pack_batch(seq, received_ns, marked)


@dataclass(slots=True, eq=False)
class Outbox:
    """Everything one source has to say, on its way to the brain exactly once.

    Parameters
    ----------
    on_durable
        Called with the highest sequence number that is safe now.
    """

    source: str
    protocol: str
    address: str | Path
    spool_dir: Path
    token: str = ""
    limit_bytes: int = 2 * 1024**3
    on_durable: Callable[[int], None] = lambda seq: None
    wall_ns: Callable[[], int] = time.time_ns
    session: int = field(default_factory=lambda: secrets.randbits(63))
    signals: list[SignalDef] = field(default_factory=list)
    connected: bool = False
    durable: int = 0
    sent_rows: int = 0
    _texts: dict[str, int] = field(default_factory=dict)
    _next_seq: int = 1
    _pending: list[Samples] = field(default_factory=list)
    _pending_rows: int = 0
    _pending_since_ns: int = 0
    _timer: asyncio.TimerHandle | None = None
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _spooled: int = 0
    _acked: int = 0
    _told: list[int] = field(default_factory=lambda: [0, 0])
    """Signals and texts announced on this connection."""
    _on_disk: list[int] = field(default_factory=lambda: [0, 0])
    """Signals and texts in the spool's head file."""
    _lost_frames: int = 0
    _replayed: int = 0
    _liveness: Event | None = None
    _writer: asyncio.StreamWriter | None = None
    _live: bool = False
    _unanswered: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _welcome: asyncio.Future[int] | None = None
    _holes: _Holes = field(default_factory=_Holes)
    _disk: asyncio.Lock = field(default_factory=asyncio.Lock)
    _disk_error: str = ""
    _spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self._spool = Spool(self.spool_dir, self.session, self.wall_ns(), self.limit_bytes)

    # --- what sources call ---

    def declare(self, signals: Sequence[SignalDef]) -> int:
        """Announce signals; the first of their consecutive local ids."""
        first = len(self.signals)
        self.signals.extend(signals)
        return first

    def text(self, text: str) -> int:
        """The local code of a text."""
        code = self._texts.get(text)
        if code is None:
            code = len(self._texts)
            self._texts[text] = code
        return code

    def add(self, samples: Samples, received_ns: int) -> int:
        """Queue samples; the sequence number of the batch that will carry them."""
        if not self._pending:
            self._pending_since_ns = received_ns
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(COALESCE_S, self.flush)
        self._pending.append(samples)
        self._pending_rows += len(samples)
        seq = self._next_seq
        if self._pending_rows >= handover.BATCH_ROWS:
            self.flush()
        return seq

    def curve(self, curve: Curve) -> int:
        """Queue one curve; its sequence number."""
        self.flush()
        seq = self._take_seq()
        self._emit(seq, handover.pack_curve(seq, curve))
        return seq

    def event(self, event: Event) -> None:
        """Queue an event. The last source_up or source_lost is repeated at every connection."""
        if event.kind in _LIVENESS:
            self._liveness = event
            if self._live and self._writer is not None:
                self.flush()
                with suppress(ConnectionResetError):  # repeated after the next HELLO
                    handover.send(self._writer, handover.pack_event(event))
            return
        self.flush()
        self._emit(self._take_seq(), handover.pack_event(event))

    def flush(self) -> None:
        """Close the batch being collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        parts, self._pending = self._pending, []
        rows, self._pending_rows = self._pending_rows, 0
        samples = parts[0] if len(parts) == 1 else _joined(parts)
        seq = self._take_seq()
        self.sent_rows += rows
        self._emit(seq, handover.pack_batch(seq, self._pending_since_ns, samples))

    # --- queue ---

    def _take_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def _news_since(self, known: list[int]) -> list[bytes]:
        """DECLARE and TEXTS frames for what is not known yet; ``known`` is brought up to date."""
        signals, texts = known
        known[:] = len(self.signals), len(self._texts)
        if known == [signals, texts]:
            return []
        return [
            *_declares(signals, self.signals[signals:]),
            *_text_frames(texts, list(self._texts)[texts:]),
        ]

    def _emit(self, seq: int, frame: bytes) -> None:
        self._waiting.append(_Waiting(seq, frame, time.monotonic()))
        self._waiting_bytes += len(frame)
        if self._live and self._writer is not None:
            self._transmit(frame)
        while self._waiting_bytes > _MEMORY_BYTES:
            lost = self._waiting.popleft()
            self._waiting_bytes -= len(lost.frame)
            if lost.seq > self._spooled:
                self._lost_frames += 1
                self._holes.after_gap(len(self.signals))

    def _transmit(self, frame: bytes) -> None:
        writer = self._writer
        assert writer is not None
        for head in self._news_since(self._told):
            handover.send(writer, head)
        if self._holes.open.any():
            frame = self._holes.apply(FrameType(frame[4]), frame[5:])
        handover.send(writer, frame)
        if writer.transport.get_write_buffer_size() > _SOCKET_BYTES:
            log.warning("the brain does not read; spooling")
            writer.transport.abort()
            self._live = False

    def _acknowledged(self, seq: int) -> None:
        self._acked = max(self._acked, seq)
        while self._waiting and self._waiting[0].seq <= self._acked:
            self._waiting_bytes -= len(self._waiting.popleft().frame)
        self._news.set()
        self._settle()

    def _settle(self) -> None:
        safe = max(self._acked, self._spooled)
        if safe > self.durable:
            self.durable = safe
            self.on_durable(safe)

    # --- tasks ---

    async def run(self) -> None:
        """Keep the brain supplied until cancelled, then make safe what is left."""
        guard = asyncio.create_task(self._guard(), name="outbox-guard")
        tries = 0
        try:
            while True:
                try:
                    reader, writer = await handover.connect(self.address)
                    tries = 0
                    await self._connection(reader, writer)
                except (OSError, asyncio.IncompleteReadError, DecodeError, TimeoutError) as error:
                    log.debug("hand-over: %r", error)
                pause = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
                tries += 1
                await asyncio.sleep(pause)
        finally:
            guard.cancel()
            with suppress(asyncio.CancelledError):
                await guard

    async def close(self, patience_s: float = 1.5) -> None:
        """Flush, wait shortly for the brain's acknowledgement, spool what it did not take."""
        self.flush()
        end = time.monotonic() + patience_s
        while self._live and self._oldest_unsafe() is not None and time.monotonic() < end:
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 0.1)
        if self._oldest_unsafe() is not None:
            await self._spool_waiting(keep=False)
        async with self._disk:
            if self._oldest_unsafe() is None and self._acked >= self._spooled:
                self._spool.clear_own()
            self._spool.close()
        if self._writer is not None:
            self._writer.close()

    async def _guard(self) -> None:
        """Write to disk what the brain has not acknowledged in time."""
        while True:
            await asyncio.sleep(_GUARD_S)
            if self._lost_frames:
                lost, self._lost_frames = self._lost_frames, 0
                self._announce_drop("memory_full", lost)
            oldest = self._oldest_unsafe()
            if oldest is not None and time.monotonic() - oldest > _UNACKED_S:
                await self._spool_waiting(keep=self._live)
            elif self._live and self._spooled and self._acked >= self._spooled:
                async with self._disk:
                    if self._acked >= self._spooled:
                        self._clear_spool()

    def _oldest_unsafe(self) -> float | None:
        """When the oldest frame was made that is neither with the brain nor of a kind that needs
        no acknowledgement: an event that went out live waits for the next batch's."""
        for waiting in self._waiting:
            if not (self._live and waiting.frame[4] == FrameType.EVENT):
                return waiting.made
        return None

    async def _spool_waiting(self, *, keep: bool) -> None:
        async with self._disk:
            fresh = [(w.seq, w.frame) for w in self._waiting if w.seq > self._spooled]
            if fresh:
                head = [] if self._spool.has_head else [handover.pack_hello(self._hello())]
                before = list(self._on_disk)
                head += self._news_since(self._on_disk)
                try:
                    dropped = await asyncio.to_thread(self._to_disk, head, fresh)
                except OSError as error:
                    self._on_disk = before
                    self._disk_trouble(str(error))
                    return
                self._disk_trouble("")
                self._spooled = self._spool.last_seq
                if dropped:
                    self._announce_drop("spool_full", dropped)
            if not keep:
                while self._waiting and self._waiting[0].seq <= self._spooled:
                    self._waiting_bytes -= len(self._waiting.popleft().frame)
        self._settle()

    def _to_disk(self, head: list[bytes], frames: list[tuple[int, bytes]]) -> int:
        if head:
            self._spool.put_head(head)
        return self._spool.put(frames)

    def _clear_spool(self) -> None:
        self._spool.clear_own()
        self._spooled = 0
        self._on_disk = [0, 0]

    def _hello(self) -> Hello:
        return Hello(
            source=self.source,
            protocol=self.protocol,
            session=self.session,
            pid=os.getpid(),
            token=self.token,
        )

    def _disk_trouble(self, text: str) -> None:
        if text and text != self._disk_error:
            log.error("spool %s cannot be written, data stays in memory: %s", self.spool_dir, text)
        elif self._disk_error and not text:
            log.info("spool is written again")
        self._disk_error = text

    def _announce_drop(self, reason: str, count: int) -> None:
        log.error("%s: the oldest %d were dropped and the hole is marked", reason, count)
        payload = {"reason": reason, "dropped": count}
        now = self.wall_ns()
        self.event(Event(time_ns=now, kind=EventKind.GAP, path=self.source, payload=payload))

    # --- one connection ---

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._unanswered = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(reader))
                group.create_task(self._pulse(writer))
                group.create_task(self._supply(writer))
        except* (OSError, asyncio.IncompleteReadError, DecodeError, SourceError) as errors:
            log.info("hand-over to the brain is interrupted: %s", errors.exceptions[0])
        finally:
            self.connected = self._live = False
            self._writer = None
            writer.close()
            while self._waiting and self._waiting[0].seq <= self._spooled:
                self._waiting_bytes -= len(self._waiting.popleft().frame)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, body = await handover.read_frame(reader)
            self._unanswered = 0
            if kind is FrameType.ACK:
                self._ack(handover.unpack_ack(body))
            elif kind is FrameType.WELCOME:
                last = int(handover.unpack_json(body)["last_seq"])
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(last)

    def _ack(self, seq: int) -> None:
        if self.connected:
            self._acknowledged(seq)
        else:
            self._replayed = seq
            self._news.set()

    async def _pulse(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(handover.PULSE_S)
            # Counted in pulses, so that a time in which this process was held up does not count.
            if self._unanswered * handover.PULSE_S > handover.LOST_S:
                raise SourceError("the brain has been silent for two seconds")
            self._unanswered += 1
            handover.send(writer, handover.frame(FrameType.PULSE))

    async def _greet(self, writer: asyncio.StreamWriter, frame: bytes) -> int:
        self._welcome = asyncio.get_running_loop().create_future()
        handover.send(writer, frame)
        return await self._welcome

    async def _supply(self, writer: asyncio.StreamWriter) -> None:
        for old in self._spool.older():
            await self._replay_session(writer, old)
        last = await self._greet(writer, handover.pack_hello(self._hello()))
        self.connected = True
        self._told = [0, 0]
        self._acknowledged(last)
        self._say_liveness(writer)
        while await self._replay_own(writer):
            pass
        # No await between the last look at the disk and this loop: nothing can slip in between.
        for frame in self._news_since(self._told):
            handover.send(writer, frame)
        for waiting in self._waiting:
            self._transmit(waiting.frame)
        self._live = True
        log.info("hand-over to the brain is live (session %d)", self.session)

    def _say_liveness(self, writer: asyncio.StreamWriter) -> None:
        if self._liveness is not None:
            handover.send(writer, handover.pack_event(self._liveness))

    async def _replay_session(self, writer: asyncio.StreamWriter, old: SpooledSession) -> None:
        head = list(old.head())
        if not head or head[0][0] is not FrameType.HELLO:
            old.finish()
            return
        hello = handover.unpack_hello(head[0][1])
        fresh = Hello(
            source=self.source,
            protocol=self.protocol,
            session=hello.session,
            pid=os.getpid(),
            token=self.token,
        )
        self._replayed = last = await self._greet(writer, handover.pack_hello(fresh))
        holes, count = _Holes(), 0
        for kind, body in head[1:]:
            if kind is FrameType.DECLARE:
                count += len(handover.unpack_declare(body, source=self.source)[1])
            handover.send(writer, handover.frame(kind, body))
        if old.has_hole:
            holes.after_gap(count)
        self._say_liveness(writer)
        log.info("replaying session %d from the spool", old.session)
        for path in old.segments():
            end = await self._send_file(writer, path, last, holes)
            while self._replayed < end:
                self._news.clear()
                await self._news.wait()
            async with self._disk:
                self._spool.forget(path)
        old.finish()

    async def _replay_own(self, writer: asyncio.StreamWriter) -> bool:
        """Send the oldest spooled file of this session; False when none is left."""
        async with self._disk:
            self._spool.rotate()
            paths = self._spool.own.segments()
            if not paths:
                # What was on disk is with the brain; what came later is in memory.
                if self._spooled:
                    self._clear_spool()
                return False
        if self._spool.own.has_hole and not self._holes.open.any():
            (self._spool.directory / f"{self._spool.own.stem}.dropped").unlink(missing_ok=True)
            self._holes.after_gap(len(self.signals))
        for frame in self._news_since(self._told):
            handover.send(writer, frame)
        end = await self._send_file(writer, paths[0], self._acked, self._holes)
        while self._acked < end:
            self._news.clear()
            await self._news.wait()
        async with self._disk:
            self._spool.forget(paths[0])
        return True

    async def _send_file(
        self, writer: asyncio.StreamWriter, path: Path, last: int, holes: _Holes
    ) -> int:
        """Send the frames above ``last``; the highest sequence number of the file."""
        end = 0
        for kind, body in await asyncio.to_thread(lambda: list(read_frames(path))):
            if kind in (FrameType.BATCH, FrameType.CURVE):
                seq = handover.sequence(body)
                end = max(end, seq)
                if seq <= last:
                    continue
            handover.send(writer, holes.apply(kind, body))
            await writer.drain()
        return end


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended.

    Once may not be enough: a TaskGroup that is told of an error and of a cancellation at the same
    moment raises the error alone.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if not task.cancelled():
        task.result()


def _joined(parts: list[Samples]) -> Samples:
    return Samples(
        np.concatenate([p.signal for p in parts]),
        np.concatenate([p.time_ns for p in parts]),
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.quality for p in parts]),
    )


def _declares(first: int, signals: Sequence[SignalDef], step: int = 2000) -> list[bytes]:
    return [
        handover.pack_declare(first + at, signals[at : at + step])
        for at in range(0, len(signals), step)
    ]


def _text_frames(first: int, texts: list[str], step: int = 5000) -> list[bytes]:
    return [
        handover.pack_texts(first + at, texts[at : at + step]) for at in range(0, len(texts), step)
    ]
