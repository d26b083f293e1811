"""Sparkplug B edge nodes over the plant's signals: one MQTT connection with its own death each.

Each node follows the primary host's STATE. Whatever happens to host or broker, every reported
value is also kept for some minutes; once both are back, everything from a few seconds before the
loss goes out again, marked historical, so that nothing is lost (DATA is QoS 0 and unacknowledged).
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gmqtt
import numpy as np
import orjson
from gmqtt.mqtt.constants import MQTTv311
from numpy.typing import NDArray

from workshop_brain.errors import ConfigError, DecodeError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import SignalKind
from workshop_brain.twin import sparkplug_wire as wire
from workshop_brain.twin.commands import Command
from workshop_brain.twin.curves import channel_names, has_curves, program
from workshop_brain.twin.journal import BirthNumbers
from workshop_brain.twin.record import NO_RECORD, Recorder
from workshop_brain.twin.signals import NodeSignals, Signals
from workshop_brain.twin.sim import PlantSim
from workshop_brain.twin.sparkplug_commands import (
    WRITABLE,
    alias_of,
    device_command,
    writable_metrics,
)
from workshop_brain.units import NS_PER_MS

STORE_S = 300.0
"""Longest absence of host or broker that loses nothing."""
OVERLAP_S = 5.0
"""How far before a noticed loss the resending starts."""
FIRST_ALIAS = 128
CURVE_ALIAS = 16_000
FLUSH_CHUNKS = 8
"""Stored publishes sent again per publish interval: 9 times real time with the live one."""
LONE_START_S = 3.0
"""Without any STATE seen so far, births go out after this time: there may be no primary host."""
MOST_ORDERS = 1_000
"""Commands that may wait to be carried out; more are refused."""
_WRITE_LIMIT = 8_000_000
_CONNECT_TIMEOUT_S = 5.0
_KEEPALIVE_S = 4
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0)
_NEVER = -2
_BDSEQ = "bdSeq"
_REBIRTH = "Node Control/Rebirth"
_DATATYPES = {
    SignalKind.GAUGE: wire.DataType.DOUBLE,
    SignalKind.COUNTER: wire.DataType.INT64,
    SignalKind.STATE: wire.DataType.INT32,
    SignalKind.FLAG: wire.DataType.BOOLEAN,
    SignalKind.TEXT: wire.DataType.STRING,
}

log = logging.getLogger(__name__)
_MQTT_LOG = logging.getLogger(f"{__name__}.mqtt")
_MQTT_LOG.setLevel(logging.CRITICAL)  # losses are told above, once each


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where the MQTT broker is and how to sign in."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    tls: bool = False


def broker_address(url: str, *, user: str = "", password: str = "") -> BrokerAddress:
    """Address of ``mqtt://host:port`` or ``mqtts://``; ConfigError names what is wrong.

    >>> broker_address("mqtt://127.0.0.1:1884").port
    1884
    """
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts", "tcp", "ssl") or not parts.hostname:
        raise ConfigError(f"broker address {url!r}: must be mqtt://host:port or mqtts://host:port")
    tls = parts.scheme in ("mqtts", "ssl")
    try:
        port = parts.port or (8883 if tls else 1883)
    except ValueError as error:
        raise ConfigError(f"broker address {url!r}: {error}") from error
    return BrokerAddress(
        host=parts.hostname,
        port=port,
        user=parts.username or user,
        password=parts.password or password,
        tls=tls,
    )


@dataclass(slots=True)
class _Stored:
    """One sampling of one node: what was reported, and when it was last sent (monotonic clock)."""

    at: float
    time_ms: int
    signal: NDArray[np.int64]
    value: NDArray[np.float64]
    sent_at: float = math.inf


@dataclass(slots=True)
class _StoredCurve:
    """One curve, encoded but for the frame that says whether it is historical."""

    at: float
    time_ms: int
    device: int
    alias: int
    properties: bytes
    table: bytes
    sent_at: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeStatus:
    """What an edge node is doing, for the status page."""

    node: str
    connected: bool
    born: bool
    host_online: bool | None
    stored: int
    sent: int
    dropped: int
    obeyed: int
    refused: int


class EdgeNode:
    """One edge node: connection, births, data, commands, store-and-forward.

    Parameters
    ----------
    primary_host
        Host id whose STATE decides whether data goes out; "" for none: always.
    apply
        Carries out what a device was commanded; returns "" or the reason of refusal. None: no
        command but Rebirth is obeyed.
    birth_numbers
        Where bdSeq comes from; None: counted from 0 in this process.
    """

    def __init__(
        self,
        sim: PlantSim,
        signals: Signals,
        node: NodeSignals,
        *,
        group: str,
        address: BrokerAddress,
        primary_host: str,
        record: Recorder = NO_RECORD,
        record_ids: NDArray[np.int64] | None = None,
        apply: Callable[[Command], Awaitable[str]] | None = None,
        birth_numbers: BirthNumbers | None = None,
        store_s: float = STORE_S,
    ) -> None:
        self._sim, self._signals, self._node = sim, signals, node
        self._group, self._address, self._host = group, address, primary_host
        self._record, self._record_ids = record, record_ids
        self._apply = apply
        self._birth_numbers = BirthNumbers(None) if birth_numbers is None else birth_numbers
        self._store_s = store_s
        n = signals.count
        self._alias = np.arange(n, dtype=np.int64) - node.first + FIRST_ALIAS
        kinds = np.array([_DATATYPES[k] for k in signals.kind], np.uint8)
        fractional = (kinds == wire.DataType.INT64) & (signals.scale > 1.0)  # kWh, km
        self._datatype = np.where(fractional, wire.DataType.DOUBLE, kinds).astype(np.uint8)
        self._static = self._birth_parts()
        self._paths = {sim.devices[d].id: sim.devices[d].path for d in node.devices}
        self._writable = {
            alias_of(k, name): name for k in range(len(node.devices)) for name in WRITABLE
        }
        self._client: gmqtt.Client | None = None
        self._closing: asyncio.Future[None] | None = None
        self._lost = asyncio.Event()
        self._wake = asyncio.Event()
        self._bd_seq = -1
        self._seq = 0
        self._born = False
        self._host_online: bool | None = None
        self._host_ms = -1
        self._host_seen = False
        self._stored: deque[_Stored] = deque()
        self._curves: deque[_StoredCurve] = deque()
        self._pending: list[_Stored] = []
        self._last_ms = 0
        self._unsent: deque[_Stored] = deque()
        self._unsent_curves: deque[_StoredCurve] = deque()
        self._lost_at: float | None = None
        self._resent_at = 0.0
        self._tick = 0
        self._sent = self._dropped = 0
        self._orders: deque[Command] = deque()
        self._obeyed = self._refused = 0
        self._unknown: set[str] = set()

    # --- what is known ---

    @property
    def id(self) -> str:
        """Edge node id."""
        return self._node.id

    def status(self) -> EdgeStatus:
        """What the node is doing now."""
        return EdgeStatus(
            node=self.id,
            connected=self._client is not None,
            born=self._born,
            host_online=self._host_online,
            stored=sum(len(s.signal) for s in self._stored),
            sent=self._sent,
            dropped=self._dropped,
            obeyed=self._obeyed,
            refused=self._refused,
        )

    def backlog(self) -> int:
        """Bytes that the broker has not taken yet."""
        return 0 if self._client is None or self._lost.is_set() else _backlog(self._client)

    def _topic(self, kind: str, device: int | None = None) -> str:
        base = f"spBv1.0/{self._group}/{kind}/{self.id}"
        return base if device is None else f"{base}/{self._sim.devices[device].id}"

    # --- connection ---

    async def run(self) -> None:
        """Stay connected until cancelled; a clean NDEATH goes out at the end."""
        failures = 0
        try:
            while True:
                try:
                    await self._connect()
                    failures = 0
                    await self._serve()
                except (OSError, TimeoutError, gmqtt.MQTTConnectError) as error:
                    failures += 1
                    if failures in (1, 10):
                        log.warning("edge node %s: broker not reached: %s", self.id, error)
                finally:
                    self._leave()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
        finally:
            if self._closing is not None:
                await asyncio.wait([self._closing], timeout=1.0)

    async def _connect(self) -> None:
        self._bd_seq = self._birth_numbers.next(self.id)
        will = gmqtt.Message(self._topic("NDEATH"), self._death_payload(), qos=1)
        client = gmqtt.Client(
            f"{self._group}-{self.id}", clean_session=True, will_message=will, logger=_MQTT_LOG
        )
        client.set_config({"reconnect_retries": _NEVER})
        if self._address.user:
            client.set_auth_credentials(self._address.user, self._address.password)
        self._lost.clear()
        client.on_message = self._message
        client.on_disconnect = self._disconnected
        self._host_online, self._host_ms = None, -1
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await client.connect(
                    self._address.host,
                    self._address.port,
                    ssl=self._address.tls,
                    keepalive=_KEEPALIVE_S,
                    version=MQTTv311,
                )
        except BaseException:
            await _close(client)
            raise
        self._client = client
        topics = [self._topic("NCMD"), f"{self._topic('DCMD')}/+"]
        if self._host:
            topics.append(f"spBv1.0/STATE/{self._host}")
        for topic in topics:
            client.subscribe(topic, qos=1)

    async def _serve(self) -> None:
        """Wait until the connection is lost; births as soon as the host allows them."""
        start = time.monotonic()
        while not self._lost.is_set():
            await self._obey()
            if not self._born and self._may_publish(time.monotonic() - start):
                self._birth()
            elif self._born and self._host_online is False:
                return  # the host is away: die, come back and wait for it (Sparkplug 3.0, 5.6)
            self._wake.clear()
            waits = [asyncio.ensure_future(e.wait()) for e in (self._wake, self._lost)]
            try:
                await asyncio.wait(waits, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _may_publish(self, waited_s: float) -> bool:
        if not self._host or self._host_online:
            return True
        return self._host_online is None and not self._host_seen and waited_s > LONE_START_S

    def _disconnected(self, client: gmqtt.Client, packet: Any, error: Any = None) -> None:
        if client is self._client or self._client is None:
            self._lost.set()

    def _leave(self) -> None:
        """Forget the connection; what was sent in the last seconds counts as unsure."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._born:
            self._mark_lost(_last_heard(client) if self._lost.is_set() else None)
            if not self._lost.is_set():
                client.publish(self._topic("NDEATH"), self._death_payload(), qos=0)
        self._born = False
        self._closing = asyncio.ensure_future(_close(client))

    def _death_payload(self) -> bytes:
        value = wire.scalar(wire.DataType.INT64, self._bd_seq)
        metric = wire.metric_bytes(name=_BDSEQ, datatype=wire.DataType.INT64, value=value)
        return wire.payload_bytes(self._now_ms(), [metric], None)

    # --- messages from the broker ---

    def _message(
        self, client: gmqtt.Client, topic: str, payload: bytes, qos: int, properties: Any
    ) -> int:
        if client is not self._client and self._client is not None:
            return 0
        if topic.startswith("spBv1.0/STATE/"):
            self._state_message(payload)
        else:
            try:
                decoded = wire.decode(bytes(payload))
            except DecodeError as error:
                log.warning("edge node %s: command on %s: %s", self.id, topic, error)
                return 0
            parts = topic.split("/")
            for metric in decoded.metrics:
                self._command(parts[4] if parts[2] == "DCMD" else None, metric)
        return 0

    def _state_message(self, payload: bytes) -> None:
        try:
            state = orjson.loads(payload)
            online, stamp = bool(state["online"]), int(state["timestamp"])
        except (ValueError, TypeError, KeyError) as error:
            log.warning("edge node %s: STATE is not {online, timestamp}: %r", self.id, error)
            return
        if stamp < self._host_ms:
            return  # an old death must not hide a newer birth (Sparkplug 3.0, 5.6)
        self._host_ms = stamp
        self._host_seen = True
        was, self._host_online = self._host_online, online
        if was and not online:
            self._mark_lost()
        elif was is False and online and self._born:
            self._birth()  # back before the node had died of it
        self._wake.set()

    def _command(self, device: str | None, metric: wire.Metric) -> None:
        """One written metric of the node or of a device; devices' commands wait for ``_obey``."""
        if device is None and metric.name == _REBIRTH:
            if metric.value and self._born:
                self._birth()
            return
        written = metric.name or self._writable.get(metric.alias or -1, "")
        name = written or f"alias {metric.alias}"
        where = name if device is None else f"{device}/{name}"
        path = self._paths.get(device or "")
        try:
            if path is None or self._apply is None:
                raise KeyError(name)
            if len(self._orders) >= MOST_ORDERS:
                raise ValueError(f"{MOST_ORDERS} commands wait already")
            command = device_command(path, written, metric.value)
        except KeyError:
            self._refused += 1
            if where not in self._unknown and len(self._unknown) < MOST_ORDERS:
                self._unknown.add(where)
                log.warning("edge node %s: %r is not writable; ignored", self.id, where)
        except ValueError as error:
            self._refused += 1
            log.warning("edge node %s: %s: %s", self.id, where, error)
        else:
            if command is not None:
                self._orders.append(command)
                self._wake.set()

    async def _obey(self) -> None:
        """Carry out the commands that have come, in their order."""
        while self._orders and self._apply is not None:
            refusal = await self._apply(self._orders.popleft())
            if refusal:
                self._refused += 1
                log.warning("edge node %s: command refused: %s", self.id, refusal)
            else:
                self._obeyed += 1

    # --- store and forward ---

    def _mark_lost(self, at: float | None = None) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic() if at is None else at

    def _resend(self, overlap_s: float) -> None:
        """Queue what was never sent, or sent since ``overlap_s`` before the loss (else now)."""
        now = time.monotonic()
        since = (now if self._lost_at is None else self._lost_at) - overlap_s
        self._lost_at = None
        self._resent_at = now
        self._unsent = deque(s for s in self._stored if s.sent_at >= since)
        self._unsent_curves = deque(c for c in self._curves if c.sent_at >= since)

    def _forget_old(self, now: float) -> None:
        while self._stored and self._stored[0].at < now - self._store_s:
            old = self._stored.popleft()
            if old.sent_at == math.inf:
                self._dropped += len(old.signal)
        while self._curves and self._curves[0].at < now - self._store_s:
            self._curves.popleft()

    # --- publishing ---

    def _now_ms(self) -> int:
        return self._sim.now_ns // NS_PER_MS

    def _stamp(self) -> int:
        """Plant time in milliseconds; it rises strictly from sample to sample."""
        self._last_ms = max(self._now_ms(), self._last_ms + 1)
        return self._last_ms

    def _next_seq(self) -> int:
        seq, self._seq = self._seq, (self._seq + 1) % 256
        return seq

    def _publish(self, topic: str, payload: bytes) -> None:
        if self._client is not None:
            self._client.publish(topic, payload, qos=0)

    def _birth_parts(self) -> list[tuple[str, int, int, bytes]]:
        """(name, alias, data type, encoded properties) of every signal of the node."""
        signals = self._signals
        out = []
        for s in range(self._node.first, self._node.last):
            properties: dict[str, wire.PropertyValue] = {
                "path": signals.path[s],
                "engUnit": signals.unit[s],
                "engLow": float(signals.low[s]),
                "engHigh": float(signals.high[s]),
                "kind": signals.kind[s].name.lower(),
            }
            out.append(
                (
                    signals.name[s],
                    int(self._alias[s]),
                    int(self._datatype[s]),
                    wire.property_set(properties),
                )
            )
        return out

    def _birth(self) -> None:
        """NBIRTH and every DBIRTH with present values; then what the host may have missed."""
        self._seq = 0
        time_ms = self._stamp()
        self._pending.clear()  # they stand in the store, from where a loss is made good
        self._signals.values(self._sim.now_ns, self._node)
        value = self._signals.mark_reported(self._node)
        self._publish(self._topic("NBIRTH"), self._node_birth(time_ms))
        for k, device in enumerate(self._node.devices):
            first, last = self._node.bounds[k], self._node.bounds[k + 1]
            metrics = [
                wire.metric_bytes(
                    name=name,
                    alias=alias,
                    time_ms=time_ms,
                    datatype=datatype,
                    properties=properties,
                    value=wire.scalar(datatype, value[s - self._node.first].item()),
                )
                for s, (name, alias, datatype, properties) in zip(
                    range(first, last),
                    self._static[first - self._node.first : last - self._node.first],
                    strict=True,
                )
            ]
            if has_curves(self._sim.devices[device]):
                metrics.append(self._curve_birth(device, k, time_ms))
            metrics += writable_metrics(k, time_ms)
            payload = wire.payload_bytes(time_ms, metrics, self._next_seq())
            self._publish(self._topic("DBIRTH", device), payload)
        self._born = True
        every = np.arange(self._node.first, self._node.last)
        now = time.monotonic()
        self._store(_Stored(now, time_ms, every, value, now))
        if self._lost_at is not None or time.monotonic() - self._resent_at > OVERLAP_S:
            self._resend(OVERLAP_S)

    def _node_birth(self, time_ms: int) -> bytes:
        kind = wire.DataType
        metrics = [
            wire.metric_bytes(
                name=_BDSEQ,
                time_ms=time_ms,
                datatype=kind.INT64,
                value=wire.scalar(kind.INT64, self._bd_seq),
            ),
            wire.metric_bytes(
                name=_REBIRTH,
                time_ms=time_ms,
                datatype=kind.BOOLEAN,
                value=wire.scalar(kind.BOOLEAN, False),
            ),
        ]
        return wire.payload_bytes(time_ms, metrics, self._next_seq())

    def _curve_birth(self, device: int, k: int, time_ms: int) -> bytes:
        root = self._sim.devices[device].path.split("/", 1)[1]
        properties: dict[str, wire.PropertyValue] = {
            "path": f"{root}/curve",
            "program": program(self._sim.devices[device]),
        }
        empty = {c: np.empty(0, np.float32) for c in channel_names(self._sim.devices[device])}
        return wire.metric_bytes(
            name="curve",
            alias=CURVE_ALIAS + k,
            time_ms=time_ms,
            datatype=wire.DataType.DATASET,
            properties=wire.property_set(properties),
            value=wire.float_table(empty),
        )

    def _store(self, stored: _Stored) -> None:
        self._stored.append(stored)
        if self._record_ids is not None:
            times = np.full(len(stored.signal), stored.time_ms * NS_PER_MS, np.int64)
            self._record.values(self._record_ids[stored.signal], times, stored.value)

    def sample(self) -> None:
        """Sample what changed by now, and publish when the interval is full.

        Called ``signals.splits`` times per publish interval; advance the plant first.
        """
        self._tick += 1
        now = time.monotonic()
        signal, value = self._signals.report(self._node, self._sim.now_ns, self._tick)
        if len(signal):
            stored = _Stored(now, self._stamp(), signal, value)
            self._store(stored)
            self._pending.append(stored)
        if self._tick % self._signals.splits:
            return
        self._forget_old(now)
        self._guard_backlog()
        pending, self._pending = self._pending, []
        if pending and self._sending():
            self._send(pending, historical=False)
        self._flush()

    def _sending(self) -> bool:
        return self._born and self._client is not None and not self._lost.is_set()

    def _guard_backlog(self) -> None:
        """A broker that no longer reads counts as lost before memory fills."""
        client = self._client
        if client is not None and not self._lost.is_set() and _backlog(client) > _WRITE_LIMIT:
            log.warning("edge node %s: the broker does not read; connection dropped", self.id)
            client._connection._transport.abort()
            self._lost.set()

    def _flush(self) -> None:
        if not self._sending() or self._host_online is False:
            return
        if self._unsent:
            take = min(FLUSH_CHUNKS, len(self._unsent))
            self._send([self._unsent.popleft() for _ in range(take)], historical=True)
        for _ in range(min(FLUSH_CHUNKS, len(self._unsent_curves))):
            self._publish_curve(self._unsent_curves.popleft(), historical=True)

    def _send(self, parts: list[_Stored], *, historical: bool) -> None:
        """One DDATA per device with everything of ``parts``."""
        signal = np.concatenate([p.signal for p in parts])
        value = np.concatenate([p.value for p in parts])
        sample_ms = np.repeat([p.time_ms for p in parts], [len(p.signal) for p in parts])
        place = np.searchsorted(self._node.bounds, signal, side="right") - 1
        if len(parts) > 1:
            # Chronological in each payload (Sparkplug 3.0, 5.16).
            order = np.lexsort((sample_ms, place))
            signal, value, sample_ms = signal[order], value[order], sample_ms[order]
            place = place[order]
        cuts = np.searchsorted(place, np.arange(len(self._node.devices) + 1))
        time_ms, now = self._now_ms(), time.monotonic()
        for part in parts:
            part.sent_at = now
        for k, device in enumerate(self._node.devices):
            a, b = cuts[k], cuts[k + 1]
            if a == b:
                continue
            payload = wire.data_payload(
                time_ms=time_ms,
                seq=self._next_seq(),
                signal=signal[a:b],
                alias=self._alias,
                datatype=self._datatype,
                sample_ms=sample_ms[a:b],
                value=value[a:b],
                historical=historical,
            )
            self._publish(self._topic("DDATA", device), payload)
        self._sent += len(signal)

    def send_curve(self, device: int, curve: Curve) -> None:
        """Publish (or store) the curve of one finished part."""
        properties: dict[str, wire.PropertyValue] = {
            "serial": curve.serial,
            "program": curve.program,
            "step": curve.step,
        }
        stored = _StoredCurve(
            time.monotonic(),
            curve.time_ns // NS_PER_MS,
            device,
            CURVE_ALIAS + self._node.devices.index(device),
            wire.property_set(properties),
            wire.float_table(curve.channels),
        )
        self._curves.append(stored)
        if self._sending():
            self._publish_curve(stored, historical=False)

    def _publish_curve(self, stored: _StoredCurve, *, historical: bool) -> None:
        metric = wire.metric_bytes(
            alias=stored.alias,
            time_ms=stored.time_ms,
            historical=historical,
            properties=stored.properties,
            value=stored.table,
        )
        stored.sent_at = time.monotonic()
        payload = wire.payload_bytes(self._now_ms(), [metric], self._next_seq())
        self._publish(self._topic("DDATA", stored.device), payload)


async def _close(client: gmqtt.Client) -> None:
    """Leave the broker; errors on the way out do not matter."""
    try:
        async with asyncio.timeout(1.0):
            await client.disconnect()
    except (OSError, TimeoutError, AttributeError) as error:
        log.debug("closing an MQTT connection: %r", error)


def _backlog(client: gmqtt.Client) -> int:
    """Bytes that wait in the socket's write buffer."""
    size: int = client._connection._transport.get_write_buffer_size()
    return size


def _last_heard(client: gmqtt.Client) -> float:
    """When the broker last said anything, on the monotonic clock."""
    heard: float = client._connection._last_data_in
    return heard
