"""The subscription pump: several PublishRequests in flight, nothing lost unmarked.

Sequence numbers are checked and missing messages asked for again (Republish). A message is
acknowledged to the server only when the brain, or the spool, holds it. What cannot be recovered
leaves a gap event and GAP_BEFORE on the next sample of every signal concerned; a server queue that
overflowed leaves OVERFLOW.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from workshop_brain.connect import packml
from workshop_brain.connect.opcua import browse, decode, session
from workshop_brain.connect.opcua.browse import Item, Limits
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.session import Remembered, Session
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.connect.tags import STATE_CURRENT
from workshop_brain.errors import DecodeError, SourceError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind

log = logging.getLogger(__name__)

SILENCE_S = 1.9
_KEEP_ALIVE_S = 0.7
_BACKOFF_S = (0.1, 0.25, 0.5, 0.5, 1.0)
_IN_FLIGHT = 4
_MOST_PER_MESSAGE = 10_000
_OVERFLOW = 0x480
_GRADE = np.array([Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD], np.uint8)
_GONE = frozenset(
    {
        ua.StatusCodes.BadSubscriptionIdInvalid,
        ua.StatusCodes.BadNoSubscription,
        ua.StatusCodes.BadSessionIdInvalid,
        ua.StatusCodes.BadSessionClosed,
    }
)


class SubscriptionGoneError(SourceError):
    """The server has forgotten the subscription."""


@dataclass(slots=True)
class Subscription:
    """One subscription on the server.

    Attributes
    ----------
    expected
        Sequence number of the next message; 0 when not known yet (resumed by a new process).
    durable
        Highest sequence number that is safe on our side.
    handles
        Client handles of its monitored items.
    """

    id: int
    handles: NDArray[np.int64]
    expected: int = 1
    durable: int = 0
    missing: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Columns:
    """What the pump must know per client handle, as columns."""

    items: list[Item]
    local: NDArray[np.uint32]
    is_text: NDArray[np.bool_]
    is_state: NDArray[np.bool_]
    gap: NDArray[np.bool_]
    exact: dict[int, int] = field(default_factory=dict)
    """Client handle to the local id of its companion text signal."""


@dataclass(slots=True, eq=False)
class Pump:
    """Collects one OPC UA server into an outbox until cancelled.

    Parameters
    ----------
    state_file
        Where the session is remembered, so that a killed collector resumes it.
    """

    settings: OpcUaSettings
    enterprise: str
    outbox: Outbox
    state_file: Path
    pki_dir: Path
    password: str = ""
    wall_ns: Callable[[], int] = time.time_ns
    subscriptions: dict[int, Subscription] = field(default_factory=dict)
    skipped: int = 0
    overflows: int = 0
    reconnects: int = 0
    _columns: Columns | None = None
    _session: Session = field(init=False)
    _left: Remembered | None = None
    _had: bool = False
    _unsafe: deque[tuple[int, int, int]] = field(default_factory=deque)
    _acks: list[tuple[int, int]] = field(default_factory=list)
    _heard: float = 0.0
    _last_ns: int = 0
    _is_up: bool = False
    _repairs: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._session = Session(self.settings, self.password, self.pki_dir)
        left = session.load(self.state_file)
        self._left = left if left is not None and left.url == self.settings.url else None

    async def run(self) -> None:
        """Connect, collect, reconnect; never returns by itself."""
        tries = 0
        while True:
            try:
                await self._connect()
                tries = 0
                await self._collect()
            except SubscriptionGoneError as error:
                log.warning("%s: %s; subscribing again", self.settings.id, error)
                self.subscriptions.clear()
            except (OSError, TimeoutError, SourceError, ua.UaError) as error:
                level = logging.INFO if tries else logging.WARNING
                log.log(level, "%s: %s: %s", self.settings.id, self.settings.url, _said(error))
            self._lost()
            await self._session.drop()
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1
            self.reconnects += 1

    def on_durable(self, seq: int) -> None:
        """Everything up to outbox sequence ``seq`` is safe: acknowledge its messages."""
        while self._unsafe and self._unsafe[0][0] <= seq:
            _, subscription, sequence = self._unsafe.popleft()
            self._acks.append((subscription, sequence))
            known = self.subscriptions.get(subscription)
            if known is not None:
                known.durable = max(known.durable, sequence)

    # --- connecting ---

    async def _connect(self) -> None:
        left = self._left
        token, nonce = (left.token, left.nonce) if left is not None else ("", "")
        resumed = await self._session.open(token, nonce)
        limits = await browse.read_limits(self._session.client.uaclient.session)
        fresh = self._columns is None
        if fresh:
            await self._discover(limits)
        if left is not None and left.nodes == self._node_ids():
            self.subscriptions = self._remembered(left)
        if self.subscriptions:
            await self._resume(resumed)
        if not self.subscriptions:
            if self._had or left is not None:
                self._gap("subscription lost", None)
            if not fresh:
                await self._discover_again(limits)
            await self._subscribe(limits)
        self._had, self._left = True, None
        self._remember()

    async def _discover(self, limits: Limits) -> None:
        found = await browse.find(
            self._session.client.uaclient.session,
            root=self.settings.root,
            enterprise=self.enterprise,
            source=self.settings.id,
            limits=limits,
        )
        if not found.items:
            raise SourceError(f"{self.settings.url}: no variables below {self.settings.root!r}")
        self.skipped = found.skipped.total()
        log.info(
            "%s: %d variables, skipped %s", self.settings.id, len(found.items), dict(found.skipped)
        )
        self._take_items(found.items)

    def _take_items(self, items: list[Item]) -> None:
        n = len(items)
        first = self.outbox.declare([item.signal for item in items])
        names = [item.signal.name for item in items]
        self._columns = Columns(
            items=items,
            local=np.arange(first, first + n, dtype=np.uint32),
            is_text=np.array([i.signal.kind is SignalKind.TEXT for i in items], np.bool_),
            is_state=np.array([name == STATE_CURRENT for name in names], np.bool_),
            gap=np.zeros(n, np.bool_),
        )

    async def _discover_again(self, limits: Limits) -> None:
        """The server may have come back with other nodes: browse before subscribing anew."""
        assert self._columns is not None
        before, gap = self._columns.items, self._columns.gap
        found = await browse.find(
            self._session.client.uaclient.session,
            root=self.settings.root,
            enterprise=self.enterprise,
            source=self.settings.id,
            limits=limits,
        )
        if found.items and found.items != before:
            log.info("%s: now %d variables", self.settings.id, len(found.items))
            known = {i.signal.path for i, open_ in zip(before, gap, strict=True) if open_}
            self._take_items(found.items)
            self._columns.gap[:] = [i.signal.path in known for i in found.items]

    def _node_ids(self) -> list[str]:
        columns = self._columns
        return [] if columns is None else [str(i.node_id.to_string()) for i in columns.items]

    def _remembered(self, left: Remembered) -> dict[int, Subscription]:
        everything = np.arange(len(left.nodes))
        return {id: Subscription(id, everything, expected=0) for id in left.subscriptions}

    async def _resume(self, resumed: bool) -> None:
        """Go on with the subscriptions the server still holds; drop those it does not."""
        here = list(self.subscriptions)
        if not resumed:
            here = await self._session.transfer(here)
        for id in list(self.subscriptions):
            known = id in here and await self._catch_up(self.subscriptions[id])
            if not known:
                self.subscriptions.clear()
                return
        log.info("%s: subscriptions go on", self.settings.id)

    async def _catch_up(self, subscription: Subscription) -> bool:
        """Republish what was sent while we were away; False when the server has forgotten."""
        while subscription.expected:
            try:
                message = await self._asked_again(subscription, subscription.expected)
            except ua.UaStatusCodeError as error:
                return error.code not in _GONE
            if message.sequence != subscription.expected:
                return True
            self._take(message)
        return True

    async def _subscribe(self, limits: Limits) -> None:
        columns = self._columns
        assert columns is not None
        self._acks.clear()
        self._unsafe.clear()
        waiting = list(range(len(columns.items)))
        while waiting:
            most = limits.items_per_subscription or len(waiting)
            subscription = await self._create_subscription()
            done, refused = await self._monitor(subscription.id, waiting[:most], limits)
            subscription.handles = np.array(done, np.int64)
            waiting = refused + waiting[most:]
            if not done:
                raise SourceError(f"{self.settings.url}: takes no monitored items")

    async def _create_subscription(self) -> Subscription:
        settings = self.settings
        parameters = ua.CreateSubscriptionParameters()
        parameters.RequestedPublishingInterval = settings.publishing_ms
        keep_alive = max(1, int(_KEEP_ALIVE_S * 1000 / settings.publishing_ms))
        parameters.RequestedMaxKeepAliveCount = keep_alive
        lifetime = math.ceil((settings.queue_s + 30) * 1000 / settings.publishing_ms)
        parameters.RequestedLifetimeCount = max(lifetime, 3 * keep_alive)
        parameters.MaxNotificationsPerPublish = _MOST_PER_MESSAGE
        parameters.PublishingEnabled = True
        request = ua.CreateSubscriptionRequest()
        request.Parameters = parameters
        body = await self._session.send(request)
        result = _answer(ua.CreateSubscriptionResponse, body).Parameters
        subscription = Subscription(int(result.SubscriptionId), np.zeros(0, np.int64))
        self.subscriptions[subscription.id] = subscription
        return subscription

    async def _monitor(
        self, subscription: int, handles: Sequence[int], limits: Limits
    ) -> tuple[list[int], list[int]]:
        """(monitored, refused for want of room in this subscription) client handles."""
        columns = self._columns
        assert columns is not None
        queue = max(2, math.ceil(self.settings.queue_s * 1000 / self.settings.sampling_ms))
        done: list[int] = []
        refused: list[int] = []
        short = 0
        for at in range(0, len(handles), limits.items_per_call):
            part = handles[at : at + limits.items_per_call]
            parameters = ua.CreateMonitoredItemsParameters()
            parameters.SubscriptionId = subscription
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            parameters.ItemsToCreate = [
                _monitored(columns.items[h].node_id, h, self.settings.sampling_ms, queue)
                for h in part
            ]
            results = await self._session.client.uaclient.session.create_monitored_items(parameters)
            for handle, result in zip(part, results, strict=True):
                if result.StatusCode.is_good():
                    done.append(handle)
                    short += result.RevisedQueueSize < queue
                elif result.StatusCode.value == ua.StatusCodes.BadTooManyMonitoredItems:
                    refused.append(handle)
                else:
                    self.skipped += 1
                    address = columns.items[handle].signal.address
                    log.warning("%s: not monitored: %s", address, result.StatusCode.name)
        if short:
            log.warning("%s: shorter server queue than %d for %d items: long cuts will leave gaps",
                        self.settings.id, queue, short)  # fmt: skip
        return done, refused

    def _remember(self) -> None:
        token, nonce = self._session.token
        memory = Remembered(
            url=self.settings.url,
            token=token,
            nonce=nonce,
            subscriptions={s.id: s.durable for s in self.subscriptions.values()},
            nodes=self._node_ids(),
        )
        try:
            session.save(self.state_file, memory)
        except OSError as error:
            log.warning("%s cannot be written, a restart will leave a gap: %s",
                        self.state_file, error)  # fmt: skip

    # --- collecting ---

    async def _collect(self) -> None:
        self._heard = time.monotonic()
        in_flight = min(_IN_FLIGHT, len(self.subscriptions) + 3) + len(self.subscriptions) - 1
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(in_flight):
                    group.create_task(self._publish())
                group.create_task(self._watch())
        except* (OSError, TimeoutError, SourceError, ua.UaError) as errors:
            chosen = [e for e in _leaves(errors) if isinstance(e, SubscriptionGoneError)]
            raise (chosen or _leaves(errors))[0] from None
        finally:
            for task in list(self._repairs):
                task.cancel()

    async def _publish(self) -> None:
        while True:
            request = ua.PublishRequest()
            acks, self._acks = self._acks, []
            request.Parameters.SubscriptionAcknowledgements = [
                ua.SubscriptionAcknowledgement(SubscriptionId=s, SequenceNumber=n) for s, n in acks
            ]
            try:
                body = await self._session.send(request, 0)
            except ua.UaStatusCodeError as error:
                if error.code == ua.StatusCodes.BadTooManyPublishRequests:
                    await asyncio.sleep(0.2)
                    continue
                if error.code in _GONE:
                    raise SubscriptionGoneError(f"the server answers {error}") from error
                if error.code != ua.StatusCodes.BadTimeout:
                    raise
                continue
            self._heard = time.monotonic()
            try:
                message = decode.decode(body)
            except DecodeError as error:
                # It would come again and again: start anew, with a marked gap.
                raise SubscriptionGoneError(str(error)) from error
            self._took(message)

    async def _watch(self) -> None:
        limit = max(SILENCE_S, 2.5 * self.settings.publishing_ms / 1000)
        slept = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            before, now = slept, time.monotonic()
            slept = now
            if now - before > 1.0:
                continue  # it was us who slept
            if not self._session.is_open:
                raise ConnectionError("the connection is closed")
            if now - self._heard > limit:
                raise SourceError(f"no answer for {now - self._heard:.1f} s")

    def _took(self, message: Notifications) -> None:
        """Check the order of a PublishResponse, then take its rows."""
        subscription = self.subscriptions.get(message.subscription)
        if subscription is None:
            return
        if message.status_change is not None:
            raise SubscriptionGoneError(f"subscription ended: 0x{message.status_change:08X}")
        if not self._is_up:
            self._is_up = True
            now = self._last_ns or self.wall_ns()
            self.outbox.event(Event(time_ns=now, kind=EventKind.SOURCE_UP, path=self.settings.id))
        if subscription.expected == 0:
            self._first_after_restart(subscription, message)
        lost = _between(subscription.expected, message.sequence)
        if lost:
            fresh = [n for n in lost if n not in subscription.missing]
            subscription.missing.update(fresh)
            self._repair(subscription, fresh)
        elif message.sequence != subscription.expected:
            if message.sequence in subscription.missing:
                subscription.missing.discard(message.sequence)
                self._store(message)
            return
        if message.is_keep_alive:
            subscription.expected = message.sequence
            return
        self._take(message)

    def _first_after_restart(self, subscription: Subscription, message: Notifications) -> None:
        """A new process took the subscription over: what is available was never made durable."""
        older = sorted(
            (n for n in message.available if _before(n, message.sequence)),
            key=lambda n: (message.sequence - n) & 0xFFFFFFFF,
            reverse=True,
        )
        subscription.expected = older[0] if older else message.sequence

    def _take(self, message: Notifications) -> None:
        """Rows of the message that was expected."""
        subscription = self.subscriptions[message.subscription]
        subscription.expected = _after(message.sequence)
        self._store(message)

    def _repair(self, subscription: Subscription, lost: list[int]) -> None:
        task = asyncio.create_task(self._republish(subscription, lost))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _asked_again(self, subscription: Subscription, number: int) -> Notifications:
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription.id
        request.Parameters.RetransmitSequenceNumber = number
        message = decode.decode(await self._session.send(request))
        return replace(message, subscription=subscription.id)

    async def _republish(self, subscription: Subscription, lost: list[int]) -> None:
        """Ask for messages that were skipped; what the server has no more is a gap."""
        gone = []
        for number in lost:
            try:
                message = await self._asked_again(subscription, number)
            except (ua.UaStatusCodeError, DecodeError):
                gone.append(number)
                continue
            except (OSError, TimeoutError, ua.UaError):
                gone.append(number)
                break
            if message.sequence != number:
                gone.append(number)
            elif number in subscription.missing:
                subscription.missing.discard(number)
                self._store(message)
        gone = [n for n in gone if n in subscription.missing]
        subscription.missing.difference_update(lost)
        if gone:
            self._gap("messages lost", subscription.handles, {"first": gone[0], "count": len(gone)})

    # --- rows to samples ---

    def _store(self, message: Notifications) -> None:
        try:
            samples = self._samples(message)
        except IndexError as error:
            raise DecodeError(f"{self.settings.id}: {error}") from error
        if samples is None or not len(samples):
            self._acks.append((message.subscription, message.sequence))
            return
        self._last_ns = max(self._last_ns, int(samples.time_ns.max()))
        seq = self.outbox.add(samples, self.wall_ns())
        self._unsafe.append((seq, message.subscription, message.sequence))

    def _samples(self, message: Notifications) -> Samples | None:
        columns = self._columns
        assert columns is not None
        handle = message.handle.astype(np.int64)
        value, time_ns = message.value, message.time_ns
        quality = _GRADE[message.status >> np.uint32(30)]
        overflow = (message.status & np.uint32(_OVERFLOW)) == _OVERFLOW
        known = handle < len(columns.items)
        if not known.all():
            log.warning("%s: %d values with unknown handles", self.settings.id, (~known).sum())
            kept = np.flatnonzero(known)
            message = _selected(message, kept)
            return self._samples(message)
        state = columns.is_state[handle]
        if state.any():
            mapped, listed = packml.unit_states(value[state])
            value = value.copy()
            value[state] = mapped
            quality[state] |= np.where(listed, 0, int(Quality.BAD)).astype(np.uint8)
        value = self._with_texts(columns, message, handle, value)
        quality = np.where(np.isnan(value), quality | np.uint8(Quality.BAD), quality)
        if overflow.any():
            self._overflowed(handle[overflow], columns)
            quality[overflow] |= np.uint8(Quality.OVERFLOW | Quality.GAP_BEFORE)
        quality = _with_gaps(columns, handle, quality)
        samples = Samples(columns.local[handle], time_ns, value, quality)
        return self._with_exact(columns, message, handle, samples) if message.exact else samples

    def _with_texts(
        self,
        columns: Columns,
        message: Notifications,
        handle: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        text = columns.is_text[handle]
        if not text.any():
            return value
        value = value.copy()
        written = {row: words for row, words in message.texts}
        for row in np.flatnonzero(text).tolist():
            words = written.get(row)
            if words is None and not math.isnan(value[row]):
                words = format(value[row], ".17g")
            value[row] = float("nan") if words is None else self.outbox.text(words)
        return value

    def _with_exact(
        self,
        columns: Columns,
        message: Notifications,
        handle: NDArray[np.int64],
        samples: Samples,
    ) -> Samples:
        """Add a text sample with all digits for each integer beyond 2**53."""
        rows, ids, codes = [], [], []
        for row, number in message.exact:
            which = int(handle[row])
            if columns.is_text[which]:
                continue
            if which not in columns.exact:
                signal = columns.items[which].signal
                columns.exact[which] = self.outbox.declare([_companion(signal)])
            rows.append(row)
            ids.append(columns.exact[which])
            codes.append(self.outbox.text(str(number)))
        return Samples(
            np.concatenate([samples.signal, np.array(ids, np.uint32)]),
            np.concatenate([samples.time_ns, samples.time_ns[rows]]),
            np.concatenate([samples.value, np.array(codes, np.float64)]),
            np.concatenate([samples.quality, samples.quality[rows]]),
        )

    # --- gaps and liveness ---

    def _overflowed(self, handles: NDArray[np.int64], columns: Columns) -> None:
        self.overflows += len(handles)
        paths = [columns.items[h].signal.path for h in handles[:5].tolist()]
        payload = {"reason": "server queue overflow", "signals": len(handles), "paths": paths}
        self._gap_event(payload)

    def _gap(
        self, reason: str, handles: NDArray[np.int64] | None, more: dict[str, int] | None = None
    ) -> None:
        columns = self._columns
        if columns is not None:
            columns.gap[slice(None) if handles is None else handles] = True
        self._gap_event({"reason": reason, "since_ns": self._last_ns, **(more or {})})

    def _gap_event(self, payload: dict[str, object]) -> None:
        log.warning("%s: gap: %s", self.settings.id, payload)
        now = self._last_ns or self.wall_ns()
        self.outbox.event(
            Event(time_ns=now, kind=EventKind.GAP, path=self.settings.id, payload=payload)
        )

    def _lost(self) -> None:
        if self._is_up:
            self._is_up = False
            now = self._last_ns or self.wall_ns()
            self.outbox.event(Event(time_ns=now, kind=EventKind.SOURCE_LOST, path=self.settings.id))

    async def close(self) -> None:
        """Leave the server; session and subscriptions stay there for the next start."""
        if self._session.is_open:
            with suppress(OSError):
                self._remember()
        await self._session.drop()


def _monitored(
    node: ua.NodeId, handle: int, sampling_ms: int, queue: int
) -> ua.MonitoredItemCreateRequest:
    item = ua.ReadValueId()
    item.NodeId = node
    item.AttributeId = ua.AttributeIds.Value
    parameters = ua.MonitoringParameters()
    parameters.ClientHandle = handle
    parameters.SamplingInterval = sampling_ms
    parameters.QueueSize = queue
    parameters.DiscardOldest = True
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = item
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = parameters
    return request


def _answer(kind: type, body: bytes):  # type: ignore[no-untyped-def]
    from asyncua.common.utils import Buffer
    from asyncua.ua.ua_binary import struct_from_binary

    response = struct_from_binary(kind, Buffer(body))
    response.ResponseHeader.ServiceResult.check()
    return response


def _companion(signal: SignalDef) -> SignalDef:
    return replace(
        signal, path=f"{signal.path}_exact", kind=SignalKind.TEXT, unit="", low=0.0, high=1.0
    )


def _with_gaps(
    columns: Columns, handle: NDArray[np.int64], quality: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    if not columns.gap.any():
        return quality
    ids, first = np.unique(handle, return_index=True)
    rows = first[columns.gap[ids]]
    quality[rows] |= np.uint8(Quality.GAP_BEFORE)
    columns.gap[ids] = False
    return quality


def _selected(message: Notifications, rows: NDArray[np.int64]) -> Notifications:
    place = {int(row): at for at, row in enumerate(rows)}
    return replace(
        message,
        handle=message.handle[rows],
        value=message.value[rows],
        status=message.status[rows],
        time_ns=message.time_ns[rows],
        texts=[(place[row], text) for row, text in message.texts if row in place],
        exact=[(place[row], number) for row, number in message.exact if row in place],
    )


def _after(sequence: int) -> int:
    """Sequence numbers wrap from 2**32 - 1 to 1 (Part 4, 7.6)."""
    return 1 if sequence >= 0xFFFFFFFF else sequence + 1


def _before(sequence: int, other: int) -> bool:
    return sequence != other and ((other - sequence) & 0xFFFFFFFF) < 0x80000000


def _between(expected: int, sequence: int) -> list[int]:
    """Numbers skipped when ``sequence`` comes where ``expected`` was due.

    >>> _between(5, 5), _between(5, 7), _between(7, 5), _between(0xFFFFFFFF, 2)
    ([], [5, 6], [], [4294967295, 1])
    """
    if not _before(expected, sequence):
        return []
    out: list[int] = []
    while expected != sequence and len(out) < 10_000:
        out.append(expected)
        expected = _after(expected)
    return out


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    out: list[BaseException] = []
    for error in group.exceptions:
        out.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return out


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
