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
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType, Hello, Remote, Welcome
from workshop_brain.connect.marks import Marks
from workshop_brain.connect.rejected import Rejected, folder_of
from workshop_brain.connect.spool import Dropped, Spool, SpooledSession, read_frames
from workshop_brain.errors import DecodeError, RefusedError, SourceError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Samples, SignalDef, SignalKind

log = logging.getLogger(__name__)

COALESCE_S = 0.02
_GUARD_S = 0.25
_REFUSED_S = 5.0
_UNACKED_S = 1.0
_TELL_S = 60.0
_BACKOFF_S = (0.1, 0.2, 0.5)
_MEMORY_BYTES = 128 * 1024 * 1024
_SOCKET_BYTES = 4 * 1024 * 1024
"""What waits in the socket at most; the rest waits here, where it can still be spooled."""
_ALERTS = (
    ("UNKNOWN_CA", "the brain does not know who signed this bundle's certificate; enroll again"),
    ("CERTIFICATE_EXPIRED", "the brain says that the certificate has expired; enroll again"),
    ("BAD_CERTIFICATE", "the brain does not take this bundle's certificate; enroll again"),
    ("WRONG_VERSION", "this port does not speak TLS 1.3; check the address"),
    ("PROTOCOL_VERSION", "this port does not speak TLS 1.3; check the address"),
    ("RECORD_LAYER_FAILURE", "this port does not speak TLS; check the address"),
)
_LIVENESS = frozenset({EventKind.SOURCE_UP, EventKind.SOURCE_LOST})
_NODES = frozenset({EventKind.BIRTH, EventKind.DEATH})


@dataclass(slots=True)
class _Waiting:
    """One frame that the brain has not acknowledged."""

    seq: int
    frame: bytes
    made: float


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
    remote: Remote | None = None
    """The way to a brain on another host; None for the local socket."""
    on_durable: Callable[[int], None] = lambda seq: None
    wall_ns: Callable[[], int] = time.time_ns
    session: int = field(default_factory=lambda: secrets.randbits(63))
    signals: list[SignalDef] = field(default_factory=list)
    connected: bool = False
    durable: int = 0
    sent_rows: int = 0
    rejected: int = 0
    """Messages of the source that could not be taken; told with every pulse."""
    _texts: dict[str, int] = field(default_factory=dict)
    _next_seq: int = 1
    _pending: list[Samples] = field(default_factory=list)
    _pending_rows: int = 0
    _pending_since_ns: int = 0
    _timer: asyncio.TimerHandle | None = None
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _unsent: deque[_Waiting] = field(default_factory=deque)
    """Those that the socket had no room for, while live."""
    _held: asyncio.Event = field(default_factory=asyncio.Event)
    _spooled: int = 0
    _acked: int = 0
    _told: list[int] = field(default_factory=lambda: [0, 0])
    """Signals and texts announced on this connection."""
    _on_disk: list[int] = field(default_factory=lambda: [0, 0])
    """Signals and texts in the spool's head file."""
    _lost: Dropped = field(default_factory=Dropped)
    """What memory could not hold and nobody has been told of."""
    _replayed: int = 0
    _liveness: dict[str, Event] = field(default_factory=dict)
    """Path to the last event that says whether what stands there is alive."""
    _writer: asyncio.StreamWriter | None = None
    _live: bool = False
    _unanswered: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _welcome: asyncio.Future[Welcome] | None = None
    _trouble: str = ""
    _trouble_told: float = 0.0
    _full: Dropped = field(default_factory=Dropped)
    _full_told: float = -_TELL_S
    _marks: Marks = field(default_factory=Marks)
    _disk: asyncio.Lock = field(default_factory=asyncio.Lock)
    _disk_error: str = ""
    _spool: Spool = field(init=False)
    kept: Rejected = field(init=False)
    """The last malformed payloads, in DATA/rejected where the spool is DATA/spool/SOURCE."""

    def __post_init__(self) -> None:
        self.kept = Rejected(folder_of(self.spool_dir.parent.parent, self.source), self.source)
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
        """Queue an event. The last one that says whether a source or an edge node is alive is
        repeated at every connection; those of sources are not kept otherwise."""
        if event.kind in _LIVENESS or ("lines" in event.payload and event.kind in _NODES):
            self._liveness[event.path] = event
        if event.kind in _LIVENESS:
            if self._live and self._writer is not None:
                self.flush()
                with suppress(ConnectionResetError):  # repeated after the next HELLO
                    self._send(self._writer, handover.pack_event(event))
            return
        self.flush()
        self._emit(self._take_seq(), handover.pack_event(event))

    def reject(self, cause: str, where: str, why: str, payload: bytes) -> None:
        """Count a message of the source that cannot be taken, and keep a sample of its bytes."""
        self.rejected += 1
        self.kept.note(cause, where, why, payload)

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
        fresh = _Waiting(seq, frame, time.monotonic())
        self._waiting.append(fresh)
        self._waiting_bytes += len(frame)
        if self._live and self._writer is not None:
            if self._unsent or self._is_full(self._writer):
                self._unsent.append(fresh)
                self._held.set()
            else:
                try:
                    self._transmit(self._writer, frame)
                except ConnectionResetError:  # the link is over; it is sent again on the next one
                    self._live = False
        while self._waiting_bytes > _MEMORY_BYTES:
            self._let_go()

    def _let_go(self) -> None:
        """Memory is full: the oldest frame stays on disk alone, or is lost."""
        oldest = self._waiting.popleft()
        self._waiting_bytes -= len(oldest.frame)
        if self._unsent and self._unsent[0] is oldest and self._writer is not None:
            log.warning("%s: the brain does not read; the rest comes from disk", self.source)
            self._writer.transport.abort()
            self._live = False
            self._unsent.clear()
        if oldest.seq > max(self._spooled, self._acked):
            kind, body = FrameType(oldest.frame[4]), oldest.frame[5:]
            self._lost += Dropped.of("memory_full", [(kind, body)])
            self._marks.hole(oldest.seq)

    def _transmit(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        for head in self._news_since(self._told):
            self._send(writer, head)
        self._send(writer, self._marked(FrameType(frame[4]), frame[5:]))

    @staticmethod
    def _is_full(writer: asyncio.StreamWriter) -> bool:
        return writer.transport.get_write_buffer_size() > _SOCKET_BYTES

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        """Send what was held back because the socket was full, in order."""
        writer.transport.set_write_buffer_limits(high=_SOCKET_BYTES)
        while True:
            await self._held.wait()
            while self._unsent:
                await writer.drain()
                if self._unsent:
                    self._transmit(writer, self._unsent.popleft().frame)
            self._held.clear()

    def _send(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        handover.send(writer, handover.packed(frame) if self.remote is not None else frame)

    def _marked(self, kind: FrameType, body: bytes) -> bytes:
        return self._marks.apply(kind, body, signals=len(self.signals), now_ns=self.wall_ns())

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
                    reader, writer = await handover.connect(self.address, self.remote)
                    tries = 0
                    await self._connection(reader, writer)
                except (OSError, asyncio.IncompleteReadError, DecodeError, TimeoutError) as error:
                    self._say_trouble(error)
                except RefusedError as error:
                    self._say_trouble(error)
                    await asyncio.sleep(_REFUSED_S)
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
            if self._spooled and self._oldest_unsafe() is None and self._acked >= self._spooled:
                self._spool.clear_own()
            self._spool.close()
        if self.kept.is_changed:
            await asyncio.to_thread(self.kept.save)
        if self._writer is not None:
            self._writer.close()

    async def _guard(self) -> None:
        """Write to disk what the brain has not acknowledged in time."""
        while True:
            await asyncio.sleep(_GUARD_S)
            if self._lost:
                lost, self._lost = self._lost, Dropped()
                log.error("%s: memory is full: %s", self.source, lost.payload())
                self.event(self._gap(lost))
            try:
                await self._guard_once()
            except OSError as error:
                self._disk_trouble(str(error))
            if self.kept.is_due:
                await asyncio.to_thread(self.kept.save)

    async def _guard_once(self) -> None:
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
                    self._spooled = self._spool.last_seq
                    self._disk_trouble(str(error))
                    return
                self._disk_trouble("")
                self._spooled = self._spool.last_seq
                self._note_full(dropped)
            if not keep:
                while self._waiting and self._waiting[0].seq <= self._spooled:
                    self._waiting_bytes -= len(self._waiting.popleft().frame)
        self._settle()

    def _to_disk(self, head: list[bytes], frames: list[tuple[int, bytes]]) -> Dropped:
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

    def _note_full(self, dropped: Dropped) -> None:
        """Say now and then that the spool is full; the brain is told before the next frames."""
        self._full += dropped
        if self._full and time.monotonic() - self._full_told > _TELL_S:
            log.error("%s: the spool is full, the oldest goes: %s", self.source, self._full)
            self._full, self._full_told = Dropped(), time.monotonic()

    def _gap(self, missing: Dropped) -> Event:
        return Event(
            time_ns=self.wall_ns(), kind=EventKind.GAP, path=self.source, payload=missing.payload()
        )

    # --- one connection ---

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._unanswered = 0
        refused: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(reader))
                tasks.create_task(self._pulse(writer))
                tasks.create_task(self._pump(writer))
                tasks.create_task(self._supply(writer))
        except* RefusedError as group:
            refused = group.exceptions[0]
        except* (OSError, asyncio.IncompleteReadError, DecodeError, SourceError) as errors:
            self._say_trouble(_telling(errors.exceptions))
        finally:
            self.connected = self._live = False
            self._writer = None
            self._unsent.clear()
            writer.close()
            while self._waiting and self._waiting[0].seq <= self._spooled:
                self._waiting_bytes -= len(self._waiting.popleft().frame)
        if refused is not None:
            raise refused

    def _say_trouble(self, error: BaseException) -> None:
        """Each cause once, and again when it is still so after a minute."""
        text = link_trouble(error, self.address, is_greeted=self.connected)
        if self.remote is None:
            log.debug("hand-over: %s", text)
        elif text != self._trouble or time.monotonic() - self._trouble_told > _TELL_S:
            self._trouble_told = time.monotonic()
            level = logging.ERROR if isinstance(error, RefusedError) else logging.WARNING
            log.log(level, "%s: no hand-over to the brain, data waits: %s", self.source, text)
        self._trouble = text

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            kind, body = await handover.read_frame(reader)
            self._unanswered = 0
            if kind is FrameType.REFUSED:
                raise RefusedError(handover.unpack_refused(body))
            if kind is FrameType.ACK:
                self._ack(handover.unpack_ack(body))
            elif kind is FrameType.WELCOME:
                welcome = handover.unpack_welcome(body)
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(welcome)

    def _ack(self, seq: int) -> None:
        if self.connected:
            self._acknowledged(seq)
        else:
            self._replayed = seq
            self._news.set()

    async def _pulse(self, writer: asyncio.StreamWriter) -> None:
        lost_s = handover.LOST_S if self.remote is None else self.remote.lost_s
        while True:
            await asyncio.sleep(handover.PULSE_S)
            # Counted in pulses, so that a time in which this process was held up does not count.
            if self._unanswered * handover.PULSE_S > lost_s:
                raise SourceError(f"the brain has been silent for {lost_s:g} s")
            self._unanswered += 1
            self._send(writer, handover.pack_pulse(self.rejected))

    async def _greet(self, writer: asyncio.StreamWriter, frame: bytes) -> Welcome:
        self._welcome = asyncio.get_running_loop().create_future()
        self._send(writer, frame)
        return await self._welcome

    async def _supply(self, writer: asyncio.StreamWriter) -> None:
        for old in self._spool.older():
            await self._replay_session(writer, old)
        welcome = await self._greet(writer, handover.pack_hello(self._hello()))
        self.connected = True
        self._told = [welcome.signals, welcome.texts]
        self._acknowledged(welcome.last_seq)
        self._say_liveness(writer)
        while await self._replay_own(writer):
            pass
        # No await between the last look at the disk and this loop: nothing can slip in between.
        for frame in self._news_since(self._told):
            self._send(writer, frame)
        self._unsent = deque(self._waiting)
        self._held.set()
        self._live = True
        log.info("hand-over to the brain is live (session %d)", self.session)

    def _say_liveness(self, writer: asyncio.StreamWriter) -> None:
        for event in self._liveness.values():
            self._send(writer, handover.pack_event(event))

    async def _replay_session(self, writer: asyncio.StreamWriter, old: SpooledSession) -> None:
        head = list(old.head())
        if not head or head[0][0] is not FrameType.HELLO or not _is_declared(head, old):
            log.error("%s: session %d on disk is damaged and set aside", self.source, old.session)
            async with self._disk:
                self._spool.set_aside(old)
            return
        hello = replace(self._hello(), session=handover.unpack_hello(head[0][1]).session)
        welcome = await self._greet(writer, handover.pack_hello(hello))
        self._replayed = welcome.last_seq
        count, texts = len(_kinds(head)), _count_texts(head)
        if welcome.signals < count or welcome.texts < texts:
            for kind, body in head[1:]:
                self._send(writer, handover.frame(kind, body))
        self._say_liveness(writer)
        log.info("replaying session %d from the spool", old.session)
        marks = Marks()

        def marked(kind: FrameType, body: bytes) -> bytes:
            return marks.apply(kind, body, signals=count, now_ns=self.wall_ns())

        for path in old.segments():
            async with self._disk:
                self._tell_hole(writer, old, marks, self._replayed)
            await self._replay_file(writer, old, path, lambda: self._replayed, marked)
        old.finish()

    async def _replay_own(self, writer: asyncio.StreamWriter) -> bool:
        """Send the oldest spooled file of this session; False when none is left."""
        async with self._disk:
            self._spool.rotate()
            own = self._spool.own
            paths = own.segments()
            self._tell_hole(writer, own, self._marks, self._acked)
            if not paths:
                # What was on disk is with the brain; what came later is in memory.
                if self._spooled:
                    self._clear_spool()
                own.told()
                return False
            self._spool.sending = paths[0]
        for frame in self._news_since(self._told):
            self._send(writer, frame)
        await self._replay_file(writer, own, paths[0], lambda: self._acked, self._marked)
        return True

    def _tell_hole(
        self, writer: asyncio.StreamWriter, session: SpooledSession, marks: Marks, behind: int
    ) -> None:
        if missing := session.hole():
            marks.hole(behind)
            self._send(writer, handover.pack_event(self._gap(missing)))

    async def _replay_file(
        self,
        writer: asyncio.StreamWriter,
        session: SpooledSession,
        path: Path,
        acknowledged: Callable[[], int],
        marked: Callable[[FrameType, bytes], bytes],
    ) -> None:
        """Send what the brain has not; the file is removed when all of it is acknowledged."""
        self._spool.sending = path
        try:
            frames, is_damaged = await asyncio.to_thread(read_frames, path)
            end, last = 0, acknowledged()
            for kind, body in frames:
                if kind in (FrameType.BATCH, FrameType.CURVE):
                    seq = handover.sequence(body)
                    end = max(end, seq)
                    if seq <= last:
                        continue
                self._send(writer, marked(kind, body))
                await writer.drain()
            while acknowledged() < end:
                self._news.clear()
                await self._news.wait()
            session.told()
            async with self._disk:
                if is_damaged:
                    self._spool.keep_damaged(path)
                self._spool.forget(path)
        finally:
            self._spool.sending = None


def _kinds(head: Sequence[tuple[FrameType, bytes]]) -> list[bool]:
    """Whether each declared signal of a spooled session is a text."""
    is_text: list[bool] = []
    for kind, body in head[1:]:
        if kind is FrameType.DECLARE:
            first, signals = handover.unpack_declare(body, source="")
            is_text[first:] = [s.kind is SignalKind.TEXT for s in signals]
    return is_text


def _count_texts(head: Sequence[tuple[FrameType, bytes]]) -> int:
    known = [handover.unpack_texts(body) for kind, body in head[1:] if kind is FrameType.TEXTS]
    return max((first + len(words) for first, words in known), default=0)


def _is_declared(head: Sequence[tuple[FrameType, bytes]], old: SpooledSession) -> bool:
    """Whether the head of a spooled session declares what its newest frames need.

    Ids and codes only grow: what the newest frames need is what all need.
    """
    text, texts = np.array(_kinds(head), np.bool_), _count_texts(head)
    for kind, body in read_frames(old.segments()[-1])[0] if old.segments() else ():
        if kind is FrameType.BATCH:
            rows = handover.unpack_batch(body)[2]
            if len(rows) and int(rows.signal.max()) >= len(text):
                return False
            codes = rows.value[text[rows.signal]]
            if len(codes) and float(np.nanmax(codes, initial=-1)) >= texts:
                return False
    return True


def _telling(errors: Sequence[BaseException]) -> BaseException:
    """The one of several errors that says most."""
    return next((e for e in errors if isinstance(e, ssl.SSLError)), errors[0])


def link_trouble(error: BaseException, address: str | Path, *, is_greeted: bool = True) -> str:
    """Why there is no link to the brain, in words that lead on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{address} shows a certificate that is not the brain's of this bundle "
            f"({error.verify_message}); check the address, or take a new bundle"
        )
    if isinstance(error, ssl.SSLError):
        said = f"{error.reason or ''} {error}".upper().replace(" ", "_")
        return next((text for word, text in _ALERTS if word in said), f"TLS: {error}")
    if isinstance(error, asyncio.IncompleteReadError | ConnectionResetError):
        # A reset swallows the TLS alert that would tell of an unknown authority.
        return (
            "the link was cut"
            if is_greeted
            else (
                "the link was cut before the brain had answered; if it stays so, the brain's log "
                "says why: it may not know who signed this bundle's certificate"
            )
        )
    return str(error) or type(error).__name__


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


def _text_frames(first: int, texts: list[str], most: int = 4 * 1024 * 1024) -> list[bytes]:
    """TEXTS frames of ``most`` characters, or of one text; escaped, one may take six bytes."""
    frames: list[bytes] = []
    begin = room = 0
    for at, text in enumerate(texts):
        if at > begin and (room + len(text) > most or at - begin >= 5000):
            frames.append(handover.pack_texts(first + begin, texts[begin:at]))
            begin, room = at, 0
        room += len(text)
    if begin < len(texts):
        frames.append(handover.pack_texts(first + begin, texts[begin:]))
    return frames
