"""A plain MQTT source: persistent session, and QoS 1 acknowledged when what it brought is safe.

The broker keeps a message until our PUBACK, and PUBACKs go out in the order of the messages
(MQTT 3.1.1, 4.6), when the outbox says that their batch is durable. What a killed collector had
not acknowledged comes again; it is stored once, for a row is one by signal and time, and a time of
arrival is found again in the journal of arrivals.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmqtt

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mqtt import link
from workshop_brain.connect.mqtt.arrivals import Arrivals
from workshop_brain.connect.mqtt.mapping import Fault, Mapping, subscriptions
from workshop_brain.connect.mqtt.settings import MqttSettings
from workshop_brain.connect.outbox import Outbox
from workshop_brain.errors import SourceError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.units import NS_PER_S

log = logging.getLogger(__name__)

_TOLD_KEEPALIVE_S = 10
_OWN_KEEPALIVE_S = 2
_BACKOFF_S = (0.1, 0.25, 0.5, 0.5, 1.0)
_HASTE = 10
"""So many unacknowledged messages do not wait for the batch to fill: a broker may send only 20."""
_MOST_UNSAFE = 20_000
_LOG_EVERY_NS = 600 * NS_PER_S
_REFUSED = 0x80


@dataclass(frozen=True, slots=True)
class _Message:
    """One delivery; ``mid`` is -1 without acknowledgement."""

    mid: int
    topic: str
    payload: bytes
    is_dup: bool
    is_retained: bool


@dataclass(slots=True, eq=False)
class MqttClient:
    """Keeps one source connected to its broker until cancelled."""

    settings: MqttSettings
    enterprise: str
    outbox: Outbox
    spool_dir: Path
    pki_dir: Path
    password: str = ""
    wall_ns: Callable[[], int] = time.time_ns
    mapping: Mapping = field(init=False)
    reconnects: int = 0
    _takeovers: link.Takeovers = field(default_factory=link.Takeovers)
    _arrivals: Arrivals = field(init=False)
    _client: Any = None
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    _inbox: list[_Message] = field(default_factory=list)
    _unsafe: deque[tuple[int, int]] = field(default_factory=deque)
    """(sequence number of the batch, packet id), in the order of arrival."""
    _logged_ns: dict[str, int] = field(default_factory=dict)
    _is_up: bool = False
    _was_known: bool = False
    _has_session: bool = False
    _client_id: str = ""

    def __post_init__(self) -> None:
        given = self.settings
        self.mapping = Mapping(
            given.id,
            Choice(
                enterprise=self.enterprise,
                include=given.include,
                exclude=given.exclude,
                overrides=given.override,
            ),
            given.topic,
            self.outbox.declare,
            self.outbox.text,
            max_signals=given.max_signals,
            keep=self.outbox.kept.note,
        )
        self._arrivals = Arrivals(self.spool_dir / "arrivals")

    async def run(self) -> None:
        """Connect, listen, reconnect."""
        self._name()
        tries = 0
        try:
            while True:
                try:
                    await self._connect()
                    tries = 0
                    self._takeovers.connected()
                    await self._lost.wait()
                    log.warning("%s: broker %s is lost", self.settings.id, self.settings.url)
                    if self._takeovers.ended():
                        log.error("%s: the broker ends every connection soon; is there another "
                                  "client %r? give one of them another client_id",
                                  self.settings.id, self._client_id)  # fmt: skip
                except (OSError, TimeoutError, SourceError) as error:
                    level = logging.INFO if tries else logging.WARNING
                    log.log(level, "%s: %s: %s", self.settings.id, self.settings.url,
                            str(error) or type(error).__name__)  # fmt: skip
                await self._down()
                pause_s = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
                await asyncio.sleep(max(pause_s, self._takeovers.pause_s()))
                tries += 1
                self.reconnects += 1
        finally:
            await self._leave()

    def on_durable(self, seq: int) -> None:
        """Acknowledge what is safe now."""
        ready = []
        while self._unsafe and self._unsafe[0][0] <= seq:
            ready.append(self._unsafe.popleft()[1])
        if ready and self._client is not None and self._client.is_connected:
            link.send_acks(self._client, ready)

    def _name(self) -> None:
        """The name at the broker: the same after every start, another on every machine."""
        file = self.spool_dir / "mqtt-client"
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        self._was_known = file.is_file()
        if not self._was_known:
            file.write_text(f"workshop-brain-{self.settings.id}-{secrets.token_hex(4)}", "utf-8")
        self._client_id = self.settings.client_id or file.read_text("utf-8")

    async def _connect(self) -> None:
        client = gmqtt.Client(self._client_id, clean_session=False, logger=link.QUIET)
        client.set_config({"reconnect_retries": link.NO_OWN_RECONNECT})
        client.on_connect = self._connected
        client.on_message = self._unacknowledged
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        # gmqtt acknowledges MQTT 3.1.1 as it reads; this delivery waits for durability instead.
        client._package_handler._handle_qos_1_publish_packet = self._delivered
        self._lost.clear()
        self._client = client
        await link.connect(
            client, self.settings, password=self.password, folder=self.pki_dir, lost=self._lost,
            told_keepalive_s=_TOLD_KEEPALIVE_S, own_keepalive_s=_OWN_KEEPALIVE_S,
        )  # fmt: skip
        if self._was_known and not self._has_session:
            self._mark_gap()
        self._was_known = True
        for topic, qos in subscriptions(self.settings.topic):
            client.subscribe(topic, qos=qos)
        self._is_up = True
        self._liveness(EventKind.SOURCE_UP)
        log.info("%s: connected to %s", self.settings.id, self.settings.url)

    def _connected(self, client: Any, flags: int, code: int, properties: Any) -> None:
        self._has_session = bool(flags)

    def _subscribed(self, client: Any, mid: int, qos: Any, properties: Any) -> None:
        if any(int(grade) >= _REFUSED for grade in qos):
            log.error("%s: the broker refuses a topic filter; check its rights", self.settings.id)

    def _disconnected(self, client: Any, packet: Any, error: Any = None) -> None:
        if client is self._client:
            self._lost.set()

    # --- messages ---

    def _delivered(self, mid: int, payload: bytes, topic: str, properties: Any) -> None:
        self._put(
            _Message(mid, topic, payload, bool(properties["dup"]), bool(properties["retain"]))
        )

    def _unacknowledged(
        self, client: Any, topic: str, payload: bytes, qos: int, properties: Any
    ) -> int:
        self._put(_Message(-1, topic, payload, False, bool(properties["retain"])))
        return 0

    def _put(self, message: _Message) -> None:
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._work)
        self._inbox.append(message)

    def _work(self) -> None:
        """Read all that one turn of the loop brought, as one batch."""
        messages, self._inbox = self._inbox, []
        now_ns = self.wall_ns()
        for message in messages:
            try:
                self._take(message, now_ns)
            except Exception as error:  # noqa: BLE001 - the edge: other messages must be read
                self.mapping.rejected += 1
                says = f"is left out: {error!r}"
                self.outbox.kept.note("broken", message.topic, says, message.payload)
                self._say(Fault("broken", message.topic, says, ""), now_ns)
        self._arrivals.flush()
        samples = self.mapping.drain()
        seq = self.outbox.add(samples, now_ns) if len(samples) else self.outbox.durable
        self._unsafe.extend((seq, m.mid) for m in messages if m.mid >= 0)
        self.outbox.rejected = self.mapping.rejected
        for fault in self.mapping.faults():
            self._say(fault, now_ns)
        self.on_durable(self.outbox.durable)
        if len(self._unsafe) >= _HASTE:
            self.outbox.flush()
        if len(self._unsafe) >= _MOST_UNSAFE:
            log.error("%s: nothing can be made safe; the broker keeps what comes", self.settings.id)
            self._lost.set()

    def _take(self, message: _Message, now_ns: int) -> None:
        # A row is one by signal and time: no two messages may arrive in the same nanosecond.
        last_ns = self.mapping.arrived_ns
        arrival_ns = max(now_ns, last_ns + 1) if last_ns - now_ns < NS_PER_S else now_ns
        if message.is_dup and message.mid >= 0:
            arrival_ns = self._arrivals.known(message.mid, message.topic, message.payload) or (
                arrival_ns
            )
        by_arrival = self.mapping.take(
            message.topic, message.payload, arrival_ns, retained=message.is_retained
        )
        if by_arrival and message.mid >= 0:
            self._arrivals.note(message.mid, message.topic, message.payload, arrival_ns)

    def _say(self, fault: Fault, now_ns: int) -> None:
        """One line per cause and ten minutes."""
        if 0 <= now_ns - self._logged_ns.get(fault.cause, -_LOG_EVERY_NS) < _LOG_EVERY_NS:
            return
        self._logged_ns[fault.cause] = now_ns
        log.warning("%s: %s %s: %r", self.settings.id, fault.topic, fault.says, fault.excerpt)

    # --- state of the link ---

    def _mark_gap(self) -> None:
        """The broker forgot our session: what was published while we were away is lost."""
        self.mapping.after_gap()
        payload = {"reason": "the broker kept no session"}
        log.warning("%s: the broker kept no session; the hole is marked", self.settings.id)
        self.outbox.event(
            Event(
                time_ns=self.wall_ns(), kind=EventKind.GAP, path=self.settings.id, payload=payload
            )
        )

    def _liveness(self, kind: EventKind) -> None:
        self.outbox.event(Event(time_ns=self.wall_ns(), kind=kind, path=self.settings.id))

    async def _down(self) -> None:
        client, self._client = self._client, None
        self._unsafe.clear()  # the broker delivers them again
        self._inbox.clear()
        if self._is_up:
            self._is_up = False
            self._liveness(EventKind.SOURCE_LOST)
        with suppress(OSError):
            await link.drop(client)

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None and client._connection is not None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.disconnect()
