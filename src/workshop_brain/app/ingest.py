"""The brain's side of the hand-over: collectors in, samples to live and to the historian.

Every batch is mapped to registry ids, given to ``on_samples`` at once (the live and reaction path
never waits for the disk), appended to the historian, and acknowledged after the next ``sync``,
which one task runs for all sources together.
"""

import asyncio
import hmac
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from workshop_brain.connect import handover
from workshop_brain.connect.handover import FrameType, Hello, Welcome
from workshop_brain.errors import BrainError, DecodeError, RefusedError
from workshop_brain.model.curve import Curve
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.ports import Historian
from workshop_brain.units import NS_PER_MS, NS_PER_S

log = logging.getLogger(__name__)
T = TypeVar("T", bound=np.generic)

_GROUP_S = 0.01
_RETRY_S = 1.0
_BACKLOG_BATCHES = 5000
_RATE_WINDOW_S = 5
_SHARED_CLOCK_MS = 3_600_000.0
_LATENCY_WINDOW_S = 30.0
_SETTLED_S = 3.0
_GONE = 3
"""A link from another host that is silent for so many times its patience is closed."""
_MOST_SIGNALS = 200_000
_OF_COLLECTORS = frozenset(
    {
        EventKind.SOURCE_UP, EventKind.SOURCE_LOST, EventKind.GAP, EventKind.BIRTH,
        EventKind.DEATH,
    }
)  # fmt: skip


class CurveSink(Protocol):
    """Takes one curve; called once for each (source, session, seq)."""

    def __call__(self, curve: Curve, *, source: str, session: int, seq: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """What is known of one source now.

    Attributes
    ----------
    state
        ``up``, ``lost`` (its collector or the machine behind it does not answer) or
        ``connecting`` (the collector is here, the source is not yet).
    since_ns
        Wall time of the last change of state, ns.
    rate
        Samples per second over the last seconds.
    age_s
        Seconds since the last frame of the collector; NaN before the first.
    gaps
        Gap events so far.
    rejected
        Messages that could not be read, since its collector's start.
    """

    id: str
    protocol: str
    state: str
    since_ns: int
    rate: float = 0.0
    age_s: float = float("nan")
    gaps: int = 0
    rejected: int = 0
    samples: int = 0
    last_frame_ns: int = 0
    last_sample_ns: int = 0
    stored_p50_ms: float = float("nan")
    """Median time from source stamp to durable, ms; see ``Ingest.latency``."""
    stored_p99_ms: float = float("nan")


@dataclass(slots=True)
class _Source:
    status: SourceStatus
    link: "_Link | None" = None
    announced: str = "connecting"
    heard: float = 0.0
    patience_s: float = handover.LOST_S
    """Silence after which it is lost."""
    counts: deque[tuple[float, int]] = field(default_factory=deque)
    undurable: deque[tuple[int, int]] = field(default_factory=deque)
    """(seq, oldest fresh source stamp) of batches that are not durable yet."""
    latencies: deque[tuple[float, float]] = field(default_factory=deque)
    """(when, source stamp to durable in ms) of the batches of the last 30 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a link from another host.

    Attributes
    ----------
    sources
        Ids of the sources that it may deliver.
    lost_s
        Silence after which its sources are lost.
    """

    name: str
    host: str
    sources: frozenset[str]
    lost_s: float = handover.REMOTE_LOST_S


@dataclass(slots=True)
class _Session:
    """What has been taken of one (source, session), and the maps of its local ids.

    ``seen`` was appended, ``durable`` synced, both as sequence numbers.
    """

    seen: int
    durable: int
    ids: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    is_text: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    texts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))


@dataclass(slots=True, eq=False)
class _Link:
    """One connected collector and the session it is in; ``told`` was acknowledged."""

    writer: asyncio.StreamWriter
    hello: Hello
    session: _Session
    peer: Peer | None = None
    backlog: deque[tuple[int, Samples | Curve]] = field(default_factory=deque)
    queued: int = 0
    told: int = 0


@dataclass(slots=True)
class Ingest:
    """Server of the hand-over.

    Parameters
    ----------
    address
        Path of the Unix socket, or loopback ``host:port`` together with ``token``.
    on_samples
        ``(samples with registry ids, received_ns)``, before the batch is durable.
    on_declared
        New signals with their registry ids, before their first sample.
    on_status
        Called when a source changes between up, lost and connecting.
    """

    historian: Historian
    address: str | Path
    on_samples: Callable[[Samples, int], None]
    on_curve: CurveSink
    on_event: Callable[[Event], None]
    on_declared: Callable[[list[int], list[SignalDef]], None] = lambda ids, signals: None
    on_status: Callable[[SourceStatus], None] = lambda status: None
    token: str = ""
    owner: Callable[[str], str] = lambda path: ""
    """Source that a signal's path belongs to; "" when there is no such signal yet."""
    kind: Callable[[str], SignalKind | None] = lambda path: None
    """Kind of the signal that is stored under a path; None when there is none yet."""
    expected: tuple[tuple[str, str], ...] = ()
    """(source id, protocol) of the configured sources: listed as connecting until they come."""
    wall_ns: Callable[[], int] = time.time_ns
    _sources: dict[str, _Source] = field(default_factory=dict)
    _sessions: dict[tuple[str, int], _Session] = field(default_factory=dict)
    _links: set[_Link] = field(default_factory=set)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _store_error: str = ""
    _refusals: dict[str, str] = field(default_factory=dict)
    _unregistered: dict[str, str] = field(default_factory=dict)
    """Why signals or texts of a source could not be registered, until they are."""
    _renamed: set[str] = field(default_factory=set)
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)
    """Who waits for the next sync; see ``durable``."""
    _serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def start(self) -> None:
        """Listen; OSError when the address cannot be bound."""
        for source, protocol in self.expected:
            self._source(source, protocol)
        where = handover.split_address(self.address)
        limit = 4 * 1024 * 1024
        if isinstance(where, tuple):
            if not self.token:
                raise ValueError(f"ingest on {self.address}: TCP needs a token")
            self._server = await asyncio.start_server(self.serve, *where, limit=limit)
        else:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.unlink(missing_ok=True)
            mask = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self.serve, where, limit=limit)
            finally:
                os.umask(mask)
        self._tasks = [
            asyncio.create_task(self._commit(), name="ingest-commit"),
            asyncio.create_task(self._watch(), name="ingest-watch"),
        ]

    async def close(self) -> None:
        """Stop listening, make what came durable, acknowledge it and let the collectors go."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._waiters or any(s.seen > s.durable for s in self._sessions.values()):
            await self._sync_once()
        serving = dict(self._serving)
        for writer in serving.values():
            writer.close()
        if serving:
            await asyncio.wait(serving, timeout=1.0)
        if self._server is not None:
            await self._server.wait_closed()
        where = handover.split_address(self.address)
        if isinstance(where, Path):
            where.unlink(missing_ok=True)

    @property
    def port(self) -> int:
        """The TCP port listened on; 0 for a Unix socket."""
        if self._server is None or isinstance(handover.split_address(self.address), Path):
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    def sources(self) -> list[SourceStatus]:
        """State of every source, in order of their ids."""
        now = time.monotonic()
        out = []
        for source in self._sources.values():
            age = now - source.heard if source.heard else float("nan")
            p50, p99 = _percentiles(_recent(source.latencies, now))
            rate = _rate(source.counts, now)
            out.append(
                replace(source.status, rate=rate, age_s=age, stored_p50_ms=p50, stored_p99_ms=p99)
            )
        return sorted(out, key=lambda s: s.id)

    def latency(self) -> dict[str, float]:
        """Source stamp to durable over the last 30 s of all sources: p50 and p99, ms.

        Each batch counts with its *oldest* fresh sample, so most samples wait less. Source and
        brain must share a clock: ages beyond an hour are taken as a plant that lives at another
        time and are left out. NaN before the first batch.
        """
        now = time.monotonic()
        every = [ms for s in self._sources.values() for ms in _recent(s.latencies, now)]
        p50, p99 = _percentiles(every)
        return {"stored_p50_ms": p50, "stored_p99_ms": p99}

    # --- what comes without a collector ---

    def pushed(
        self, id: str, protocol: str, samples: Samples, received_ns: int, *, patience_s: float
    ) -> None:
        """Show samples that were appended for a source without a collector; it is up.

        patience_s
            Silence after which the source is lost; infinite for one that comes now and then.
        """
        source = self._source(id, protocol)
        source.patience_s = patience_s
        source.heard = time.monotonic()
        source.status = replace(source.status, last_frame_ns=self.wall_ns())
        if source.status.state != "up":
            self._set_state(source, "up")
        self._show(source, samples, received_ns)

    def refused(self, id: str, protocol: str, rows: int) -> None:
        """Count rows of a source without a collector that were not taken."""
        source = self._source(id, protocol)
        source.status = replace(source.status, rejected=source.status.rejected + rows)

    async def durable(self) -> None:
        """Return once everything appended so far is durable.

        Raises
        ------
        StoreError
            It is not; what was appended may become so later.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._dirty.set()
        await waiter

    # --- one connection ---

    async def serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer | None = None,
    ) -> None:
        """Take one collector's frames in until it goes; ``peer``: it is on another host."""
        link: _Link | None = None
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        pulse = asyncio.create_task(_pulse(writer)) if peer is not None else None
        try:
            while True:
                kind, body = await self._next_frame(reader, link, peer)
                if kind is FrameType.HELLO:
                    link = self._hello(link, writer, handover.unpack_hello(body), peer)
                elif link is None:
                    raise DecodeError(f"hand-over: first frame must be HELLO, got {kind.name}")
                else:
                    self._take(link, kind, body)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        except RefusedError as error:
            assert peer is not None
            self._refused(peer, str(error))
            with suppress(ConnectionResetError):
                handover.send(writer, handover.pack_refused(str(error)))
        except DecodeError as error:
            name = link.hello.source if link is not None else "unknown"
            log.error("collector of %r is let go: %s", name, error)
        except (BrainError, OSError) as error:
            # A signal or a text could not be registered. Nothing was acknowledged: the collector
            # comes back with all of it.
            name = link.hello.source if link is not None else "unknown"
            text = f"{type(error).__name__}: {error}"
            if self._unregistered.get(name) != text:
                log.error("collector of %r must come again, it is not registered: %s", name, text)
            self._unregistered[name] = text
        finally:
            del self._serving[task]
            if pulse is not None:
                pulse.cancel()
            if link is not None:
                self._links.discard(link)
                source = self._sources[link.hello.source]
                if source.link is link:
                    source.link = None
                    self._set_state(source, "lost")
            writer.close()

    async def _next_frame(
        self, reader: asyncio.StreamReader, link: _Link | None, peer: Peer | None
    ) -> tuple[FrameType, bytes]:
        """The next frame; a local collector may be silent for ever, one afar is let go."""
        if peer is None:
            patience_s = None if link is not None else handover.LOST_S * 5
            return await asyncio.wait_for(handover.read_frame(reader), patience_s)
        source = self._sources[link.hello.source] if link is not None else None
        last = time.monotonic()

        def heard() -> None:
            nonlocal last
            last = time.monotonic()
            if source is not None:
                source.heard = last

        reading = asyncio.ensure_future(handover.read_frame(reader, on_bytes=heard))
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=peer.lost_s)
                if not reading.done() and time.monotonic() - last > _GONE * peer.lost_s:
                    raise TimeoutError
        finally:
            reading.cancel()
        kind, body = reading.result()
        return handover.unpacked(body) if kind is FrameType.PACKED else (kind, body)

    def _refused(self, peer: Peer, reason: str) -> None:
        """Say once per cause what a collector on another host may not do."""
        if self._refusals.get(peer.name) != reason:
            log.error("collector %r at %s is refused: %s", peer.name, peer.host, reason)
        self._refusals[peer.name] = reason

    def _hello(
        self, old: _Link | None, writer: asyncio.StreamWriter, hello: Hello, peer: Peer | None
    ) -> _Link:
        if peer is not None and hello.source not in peer.sources:
            raise RefusedError(
                f"collector {peer.name!r} may not deliver source {hello.source!r}; its own are "
                f"{', '.join(sorted(peer.sources)) or 'none'}"
            )
        if peer is None and self.token and not hmac.compare_digest(self.token, hello.token):
            raise DecodeError(f"hand-over: wrong token from source {hello.source!r}")
        if old is not None:
            self._links.discard(old)
        key = (hello.source, hello.session)
        if key not in self._sessions:
            last = self.historian.last_seq(hello.source, hello.session)
            self._sessions[key] = _Session(last, last)
        session = self._sessions[key]
        link = _Link(writer, hello, session, peer)
        link.queued = session.seen
        self._links.add(link)
        source = self._source(hello.source, hello.protocol)
        if source.link is not None and source.link.writer is not writer:
            source.link.writer.close()
        source.link = link
        source.patience_s = handover.LOST_S if peer is None else peer.lost_s
        source.heard = time.monotonic()
        source.announced = "connecting"
        source.undurable.clear()
        self._set_state(source, "connecting")
        welcome = Welcome(
            last_seq=session.durable, signals=len(session.ids), texts=len(session.texts)
        )
        handover.send(writer, handover.pack_welcome(welcome))
        return link

    def _take(self, link: _Link, kind: FrameType, body: bytes) -> None:
        source = self._sources[link.hello.source]
        source.heard = time.monotonic()
        source.status = replace(source.status, last_frame_ns=self.wall_ns())
        if source.status.state != source.announced:
            self._set_state(source, source.announced)
        if kind is FrameType.BATCH:
            self._batch(link, source, body)
        elif kind is FrameType.PULSE:
            source.status = replace(source.status, rejected=handover.unpack_pulse(body))
            handover.send(link.writer, handover.frame(FrameType.PULSE))
        elif kind is FrameType.TEXTS:
            first, texts = handover.unpack_texts(body)
            codes = np.asarray(self.historian.intern(texts), np.float64)
            self._unregistered.pop(link.hello.source, None)
            link.session.texts = _placed(link.session.texts, first, codes)
        elif kind is FrameType.DECLARE:
            self._declare(link, body)
        elif kind is FrameType.CURVE:
            seq, curve = handover.unpack_curve(body)
            self._queue(link, seq, curve)
        elif kind is FrameType.EVENT:
            self._event(link, source, handover.unpack_event(body))
        else:
            raise DecodeError(f"hand-over: {kind.name} is not for the brain")

    def _declare(self, link: _Link, body: bytes) -> None:
        first, signals = handover.unpack_declare(body, source=link.hello.source)
        if link.peer is not None:
            self._check_signals(link, first, signals)
        signals = [self._of_one_kind(signal) for signal in signals]
        ids = self.historian.declare(signals)
        self._unregistered.pop(link.hello.source, None)
        link.session.ids = _placed(link.session.ids, first, np.asarray(ids, np.uint32))
        text = np.asarray([s.kind is SignalKind.TEXT for s in signals], np.bool_)
        link.session.is_text = _placed(link.session.is_text, first, text)
        self.on_declared(list(ids), signals)

    def _of_one_kind(self, signal: SignalDef) -> SignalDef:
        """The signal under a path of its own when its stored values are texts and it is numbers
        now, or the other way: a changed tag must not hold up its whole source."""
        stored, is_text = self.kind(signal.path), signal.kind is SignalKind.TEXT
        if stored is None or (stored is SignalKind.TEXT) is is_text:
            return signal
        path = f"{signal.path}_{'text' if is_text else 'number'}"
        if path not in self._renamed:
            self._renamed.add(path)
            log.warning(
                "%s: %s was %s and is %s now; it goes on as %s", signal.source, signal.path,
                stored.name.lower(), signal.kind.name.lower(), path,
            )  # fmt: skip
        return replace(signal, path=path)

    def _check_signals(self, link: _Link, first: int, signals: list[SignalDef]) -> None:
        """Refuse signals of other sources, and more than any source has."""
        own = link.hello.source
        for signal in signals:
            if self.owner(signal.path) not in ("", own):
                raise RefusedError(
                    f"source {own!r}: signal {signal.path!r} belongs to source "
                    f"{self.owner(signal.path)!r}; give it another path in the plant file"
                )
        if first + len(signals) > _MOST_SIGNALS:
            raise RefusedError(f"source {own!r} declares more than {_MOST_SIGNALS} signals")

    def _batch(self, link: _Link, source: _Source, body: bytes) -> None:
        seq, received_ns, local = handover.unpack_batch(body)
        if seq > link.queued:
            samples = _mapped(link, local)
            self._show(source, samples, received_ns)
            self._note_age(source, seq, samples)
            self._queue(link, seq, samples)
        else:
            self._dirty.set()

    def _show(self, source: _Source, samples: Samples, received_ns: int) -> None:
        """Count samples of a source and give them to the live path."""
        now = time.monotonic()
        source.counts.append((now, len(samples)))
        while source.counts[0][0] < now - _RATE_WINDOW_S:
            source.counts.popleft()
        source.status = replace(
            source.status,
            samples=source.status.samples + len(samples),
            last_sample_ns=self.wall_ns(),
        )
        self.on_samples(samples, received_ns)

    def _note_age(self, source: _Source, seq: int, samples: Samples) -> None:
        """Remember the oldest fresh stamp of a batch until it is durable.

        The first seconds of a connection are left out: a subscription opens with values that may
        be hours old, and a spool is history.
        """
        settled = self.wall_ns() - source.status.since_ns > _SETTLED_S * NS_PER_S
        if source.status.state != "up" or not settled:
            return
        fresh = samples.quality & Quality.HISTORICAL == 0
        if fresh.any():
            source.undurable.append((seq, int(samples.time_ns[fresh].min())))

    def _note_durable(self, source: _Source, durable: int) -> None:
        now = self.wall_ns()
        _forget(source.latencies, time.monotonic())
        while source.undurable and source.undurable[0][0] <= durable:
            age_ms = (now - source.undurable.popleft()[1]) / NS_PER_MS
            if abs(age_ms) < _SHARED_CLOCK_MS:
                source.latencies.append((time.monotonic(), age_ms))

    def _event(self, link: _Link, source: _Source, event: Event) -> None:
        if event.kind not in _OF_COLLECTORS:
            raise DecodeError(f"hand-over: no collector tells {event.kind.value}")
        if link.peer is not None:
            _check_event(link.hello.source, event)
        if event.kind is EventKind.SOURCE_UP:
            source.announced = "up"
            self._set_state(source, "up")
        elif event.kind is EventKind.SOURCE_LOST:
            source.announced = "lost"
            self._set_state(source, "lost")
        elif event.kind is EventKind.GAP and not event.payload.get("filled"):
            source.status = replace(source.status, gaps=source.status.gaps + 1)
        self.on_event(event)

    # --- storing ---

    def _queue(self, link: _Link, seq: int, item: Samples | Curve) -> None:
        if seq <= link.queued:
            self._dirty.set()
            return
        link.queued = seq
        link.backlog.append((seq, item))
        if len(link.backlog) > _BACKLOG_BATCHES:
            log.error(
                "source %r: history is stuck, its collector keeps the rest", link.hello.source
            )
            link.writer.close()
            return
        self._store(link)

    def _store(self, link: _Link) -> None:
        """Append what waits, in order; a failing store is retried once a second."""
        hello = link.hello
        while link.backlog:
            seq, item = link.backlog[0]
            if seq > link.session.seen:
                try:
                    if isinstance(item, Curve):
                        self.on_curve(item, source=hello.source, session=hello.session, seq=seq)
                    else:
                        self.historian.append(
                            item, source=hello.source, session=hello.session, seq=seq
                        )
                except (BrainError, OSError) as error:
                    self._failing(f"{type(error).__name__}: {error}")
                    return
                link.session.seen = seq
            link.backlog.popleft()
            self._dirty.set()

    def _failing(self, text: str) -> None:
        if text != self._store_error:
            log.error("history cannot be written, data waits: %s", text)
        self._store_error = text

    @property
    def store_error(self) -> str:
        """Why history cannot be written now; "" when it can."""
        return self._store_error or next(iter(self._unregistered.values()), "")

    def faults(self) -> dict[str, str]:
        """What cannot be written now, with the reason: history."""
        return {"history": self.store_error} if self.store_error else {}

    async def _commit(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_GROUP_S)
            self._dirty.clear()
            await self._sync_once()

    async def _sync_once(self) -> None:
        appended = [(session, session.seen) for session in self._sessions.values()]
        waiters, self._waiters = self._waiters, []
        try:
            await asyncio.to_thread(self.historian.sync)
        except (BrainError, OSError) as error:
            self._failing(f"{type(error).__name__}: {error}")
            _tell(waiters, error)
            return
        except asyncio.CancelledError:
            self._waiters += waiters  # close() asks once more
            raise
        _tell(waiters, None)
        if self._store_error and not any(link.backlog for link in self._links):
            log.info("history is written again")
            self._store_error = ""
        for session, seq in appended:
            session.durable = max(session.durable, seq)
        for link in self._links:
            self._note_durable(self._sources[link.hello.source], link.session.durable)
            if link.session.durable > link.told or link.told < link.queued:
                link.told = link.session.durable
                with suppress(ConnectionResetError):
                    handover.send(link.writer, handover.pack_ack(link.session.durable))

    # --- liveness ---

    def _source(self, id: str, protocol: str) -> _Source:
        if id not in self._sources:
            status = SourceStatus(
                id=id, protocol=protocol, state="connecting", since_ns=self.wall_ns()
            )
            self._sources[id] = _Source(status)
        return self._sources[id]

    def _set_state(self, source: _Source, state: str) -> None:
        if source.status.state == state:
            return
        source.status = replace(source.status, state=state, since_ns=self.wall_ns())
        log.info("source %r is %s", source.status.id, state)
        self.on_status(source.status)

    async def _watch(self) -> None:
        """Call a source lost after two seconds of silence; retry a failing store."""
        retried = slept = time.monotonic()
        while True:
            await asyncio.sleep(0.2)
            before, now = slept, time.monotonic()
            slept = now
            # When this process itself was held up, what came meanwhile is still to be read.
            for source in self._sources.values() if now - before < 1.0 else ():
                silent = source.heard and now - source.heard > source.patience_s
                if silent and source.status.state != "lost":
                    self._set_state(source, "lost")
            if now - retried > _RETRY_S:
                retried = now
                if self._store_error:
                    self._dirty.set()
                for link in list(self._links):
                    self._store(link)


async def _pulse(writer: asyncio.StreamWriter) -> None:
    """Tell a collector on another host that the brain lives, however busy its uplink is."""
    with suppress(OSError):
        while True:
            await asyncio.sleep(handover.PULSE_S)
            handover.send(writer, handover.frame(FrameType.PULSE))


def _check_event(source: str, event: Event) -> None:
    """RefusedError when a collector on another host speaks for another source."""
    named = event.payload.get("source", source)
    is_own = event.path == source or event.kind in (EventKind.BIRTH, EventKind.DEATH)
    if named != source or not is_own:
        raise RefusedError(f"source {source!r} may not tell {event.kind.value} of {event.path!r}")


def _tell(waiters: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for waiter in waiters:
        if waiter.done():  # whoever waited has gone
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


def _rate(counts: deque[tuple[float, int]], now: float) -> float:
    recent = [(at, n) for at, n in counts if at >= now - _RATE_WINDOW_S]
    if not recent:
        return 0.0
    return sum(n for _, n in recent) / max(now - recent[0][0], 1.0)


def _forget(latencies: deque[tuple[float, float]], now: float) -> None:
    while latencies and latencies[0][0] < now - _LATENCY_WINDOW_S:
        latencies.popleft()


def _recent(latencies: deque[tuple[float, float]], now: float) -> list[float]:
    """Latencies of the last 30 s."""
    _forget(latencies, now)
    return [ms for _, ms in latencies]


def _percentiles(values: Collection[float]) -> tuple[float, float]:
    """p50 and p99; NaN without values."""
    if not values:
        return float("nan"), float("nan")
    p50, p99 = np.percentile(np.fromiter(values, np.float64, len(values)), (50, 99))
    return round(float(p50), 1), round(float(p99), 1)


def _placed(table: NDArray[T], first: int, rows: NDArray[T]) -> NDArray[T]:
    """The table with rows put at ``first``; DecodeError when that leaves a hole."""
    if not 0 <= first <= len(table):
        raise DecodeError(f"hand-over: local ids jump from {len(table)} to {first}")
    grown = np.zeros(max(len(table), first + len(rows)), table.dtype)
    grown[: len(table)] = table
    grown[first : first + len(rows)] = rows
    return grown


def _mapped(link: _Link, local: Samples) -> Samples:
    """Samples with registry ids and text codes instead of the collector's own."""
    if len(local) and int(local.signal.max()) >= len(link.session.ids):
        raise DecodeError(
            f"hand-over: {link.hello.source!r}: local id {int(local.signal.max())} is not declared"
        )
    value = local.value
    text = link.session.is_text[local.signal]
    if text.any():
        codes = value[text]
        bad = ~((codes >= 0) & (codes < len(link.session.texts)))
        if bad.any() and not np.isnan(codes[bad]).all():
            raise DecodeError(f"hand-over: text code {codes[bad][0]} is not declared")
        value = value.copy()
        known = np.flatnonzero(text)[~bad]
        value[known] = link.session.texts[codes[~bad].astype(np.int64)]
    return Samples(link.session.ids[local.signal], local.time_ns, value, local.quality)
