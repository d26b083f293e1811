"""The subscription pump: several PublishRequests in flight, nothing lost unmarked.

Sequence numbers are checked and missing messages asked for again (Republish). A message is
acknowledged to the server only when the brain, or the spool, holds it. What cannot be recovered
leaves a gap event and GAP_BEFORE on the next sample of every signal concerned; a server queue that
overflowed leaves OVERFLOW.
"""

import asyncio
import itertools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.opcua import browse, decode, session
from workshop_brain.connect.opcua.backfill import Backfill, Filled
from workshop_brain.connect.opcua.browse import Item, Limits
from workshop_brain.connect.opcua.columns import Columns, Holes
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.parts import MOST_PARTS
from workshop_brain.connect.opcua.plain import Plain
from workshop_brain.connect.opcua.session import Remembered, Session
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.rows import MOST_TEXT
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import DecodeError, SourceError
from workshop_brain.model.event import Event, EventKind

log = logging.getLogger(__name__)

SILENCE_S = 1.9
_KEEP_ALIVE_S = 0.7
_BACKOFF_S = (0.1, 0.25, 0.5, 0.5, 1.0)
_IN_FLIGHT = 4
_MOST_PER_MESSAGE = 10_000
_FILL_S = 0.5
_NOTE_EVERY = 10
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
    _plain: Plain = field(default_factory=Plain)
    _choice: Choice = field(init=False)
    _session: Session = field(init=False)
    _left: Remembered | None = None
    _had: bool = False
    _unsafe: deque[tuple[int, int, int]] = field(default_factory=deque)
    _acks: list[tuple[int, int]] = field(default_factory=list)
    _heard: float = 0.0
    _last_ns: int = 0
    _is_up: bool = False
    _repairs: set[asyncio.Task[None]] = field(default_factory=set)
    _limits: Limits = field(default_factory=Limits)
    _backfill: Backfill = field(init=False)
    _outcomes: list[tuple[Holes, Filled]] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = self.settings
        self._choice = Choice(
            enterprise=self.enterprise,
            include=given.include,
            exclude=given.exclude,
            overrides=given.override,
        )
        self._session = Session(self.settings, self.password, self.pki_dir)
        self._backfill = Backfill(self._session, self._filled, self._keeping)
        left = session.load(self.state_file)
        self._left = left if left is not None and left.url == self.settings.url else None
        if self._left is not None:
            self._left.last_ns = max(self._left.last_ns, session.load_last(self._last_file))

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

    @property
    def _last_file(self) -> Path:
        return self.state_file.with_suffix(".last")

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
        self._limits = limits
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
            choice=self._choice,
            source=self.settings.id,
            limits=limits,
        )
        if not found.items:
            raise SourceError(
                f"{self.settings.url}: no variables below {self.settings.root!r}; "
                f"include and exclude leave {len(found.left_out)} out"
            )
        self.skipped = found.skipped.total()
        log.info(
            "%s: %d variables, skipped %s", self.settings.id, len(found.items), dict(found.skipped)
        )
        self._take_items(found.items)

    def _take_items(self, items: list[Item]) -> None:
        before, left = self._columns, self._left
        self._columns = Columns.of(items, self.outbox, left.last_ns if left is not None else 0)
        if before is not None:
            self._columns.inherit(before)
        self._backfill.forget()

    async def _discover_again(self, limits: Limits) -> None:
        """The server may have come back with other nodes: browse before subscribing anew."""
        assert self._columns is not None
        before = self._columns.items[: self._columns.heads]
        found = await browse.find(
            self._session.client.uaclient.session,
            root=self.settings.root,
            choice=self._choice,
            source=self.settings.id,
            limits=limits,
        )
        if found.items and found.items != before:
            log.info("%s: now %d variables", self.settings.id, len(found.items))
            self._take_items(found.items)

    def _node_ids(self) -> list[str]:
        columns = self._columns
        if columns is None:
            return []
        return [str(item.node_id.to_string()) for item in columns.items[: columns.heads]]

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
        waiting = list(range(columns.heads))
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
            last_ns=self._last_ns,
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
                group.create_task(self._fill_holes())
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
                with self._keeping("publish_response", body):
                    message = self._decoded(body)
            except DecodeError as error:
                # It would come again and again: start anew, with a marked gap.
                raise SubscriptionGoneError(str(error)) from error
            self._took(message)

    def _decoded(self, body: bytes) -> Notifications:
        if not decode.is_warm():
            message = self._plain.decode(body)
            if message is not None:
                return message
        return decode.decode(body)

    async def _fill_holes(self) -> None:
        """Fill from the server's history what could not be had otherwise; note now and then how
        far we are, for a life after a kill."""
        for turn in itertools.count():
            await asyncio.sleep(_FILL_S)
            if turn % _NOTE_EVERY == 0:
                with suppress(OSError):
                    session.save_last(self._last_file, self._last_ns)
            if self._columns is not None and not self._backfill.is_idle:
                await asyncio.sleep(_FILL_S)  # the server's history may lag behind
                try:
                    await self._backfill.fill(self._columns, self._limits)
                finally:
                    self._tell_filled()

    def _filled(self, holes: Holes, done: Filled) -> None:
        """Hand over what the history held."""
        if done.samples is not None:
            self.outbox.add(done.samples, self.wall_ns())
        self._outcomes.append((holes, replace(done, samples=None)))

    def _tell_filled(self) -> None:
        """Say what is there now and what is still missing."""
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return
        left = [h for holes, done in outcomes for h in holes.handle[~done.closed].tolist()]
        why = sum((done.why for _, done in outcomes), Counter[str]())
        self._gap_event(
            {
                "reason": "history incomplete" if left else "filled from history",
                "filled": not left,
                "since_ns": min(int(holes.since_ns.min()) for holes, _ in outcomes),
                "until_ns": max(int(holes.until_ns.max()) for holes, _ in outcomes),
                "signals": len(left) or sum(len(holes) for holes, _ in outcomes),
                "samples": sum(done.rows for _, done in outcomes),
                "paths": self._some_paths(np.array(left, np.int64)),
                "why": dict(why.most_common(5)),
            }
        )

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
            if fresh:
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
        assert self._columns is not None
        since = self._columns.last_ns[subscription.handles]
        task = asyncio.create_task(self._republish(subscription, lost, since))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _asked_again(self, subscription: Subscription, number: int) -> Notifications:
        request = ua.RepublishRequest()
        request.Parameters.SubscriptionId = subscription.id
        request.Parameters.RetransmitSequenceNumber = number
        body = await self._session.send(request)
        with self._keeping("republish_response", body):
            message = decode.decode(body)
        return replace(message, subscription=subscription.id)

    async def _republish(
        self, subscription: Subscription, lost: list[int], since_ns: NDArray[np.int64]
    ) -> None:
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
            more = {"first": gone[0], "count": len(gone)}
            self._gap("messages lost", subscription.handles, more, since_ns)
            with suppress(OSError, TimeoutError, ua.UaError, DecodeError):
                await self._read_now(subscription.handles)

    async def _read_now(self, handles: NDArray[np.int64]) -> None:
        """Read values whose last change may be lost: nobody would tell them again."""
        assert self._columns is not None
        for at in range(0, len(handles), self._limits.nodes_per_read):
            part = handles[at : at + self._limits.nodes_per_read].tolist()
            request = ua.ReadRequest()
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.NodesToRead = [
                ua.ReadValueId(
                    NodeId=self._columns.items[h].node_id, AttributeId=ua.AttributeIds.Value
                )
                for h in part
            ]
            body = await self._session.send(request)
            with self._keeping("read_response", body):
                message = decode.values(body, part, self.wall_ns())
            self._hand_over(message)

    @contextmanager
    def _keeping(self, cause: str, body: bytes) -> Iterator[None]:
        """Count and keep a response that cannot be decoded."""
        try:
            yield
        except DecodeError as error:
            self.outbox.reject(cause, self.settings.url, str(error), body)
            raise

    # --- rows to samples ---

    def _store(self, message: Notifications) -> None:
        if not len(message) or not (seq := self._hand_over(message)):
            self._acks.append((message.subscription, message.sequence))
            return
        self._unsafe.append((seq, message.subscription, message.sequence))

    def _hand_over(self, message: Notifications) -> int:
        """Give rows to the outbox; its sequence number, 0 when there was nothing."""
        assert self._columns is not None
        try:
            taken = self._columns.take(message)
        except IndexError as error:
            raise DecodeError(f"{self.settings.id}: {error}") from error
        for handle, text in self._columns.too_long:
            why = f"a text of {len(text)} characters; at most {MOST_TEXT} are taken"
            place = self._columns.items[handle].signal.path
            self.outbox.reject("long_text", place, why, text.encode())
        self._columns.too_long.clear()
        if self._columns.too_many or self._columns.broken:
            self._tell_parts(self._columns)
        if not len(taken.samples):
            return 0
        if len(taken.overflowed):
            self._overflowed(taken.overflowed)
        self._backfill.add(taken.holes)
        self._last_ns = max(self._last_ns, int(taken.samples.time_ns.max()))
        return self.outbox.add(taken.samples, self.wall_ns())

    def _tell_parts(self, columns: Columns) -> None:
        """Arrays and structures of which not everything could be taken."""
        for handle, why, raw in columns.broken:
            self.outbox.reject("structure", columns.items[handle].signal.path, why, raw)
        columns.broken.clear()
        for handle, left in columns.too_many:
            place = columns.items[handle].signal.path
            why = (
                f"{left} or more values beyond the bound of {MOST_PARTS} for an array or structure"
            )
            self.outbox.reject("long_array", place, why, b"")
            self._gap_event({"reason": "array too long", "paths": [place], "taken": MOST_PARTS})
        columns.too_many.clear()

    # --- gaps and liveness ---

    def _overflowed(self, handles: NDArray[np.int64]) -> None:
        self.overflows += len(handles)
        self._gap_event(
            {
                "reason": "server queue overflow",
                "signals": len(handles),
                "paths": self._some_paths(handles),
            }
        )

    def _some_paths(self, handles: NDArray[np.int64]) -> list[str]:
        assert self._columns is not None
        return [self._columns.items[h].signal.path for h in handles[:5].tolist()]

    def _gap(
        self,
        reason: str,
        handles: NDArray[np.int64] | None,
        more: dict[str, int] | None = None,
        since_ns: NDArray[np.int64] | None = None,
    ) -> None:
        if self._columns is not None:
            self._columns.open_holes(handles, since_ns)
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
