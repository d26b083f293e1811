"""The MQTT side of the Sparkplug host: connection, STATE, subscriptions, reconnect.

The host says that it is online by a retained birth on ``spBv1.0/STATE/<host>`` with the same
timestamp as its will, and goes offline by publishing the death itself on a clean stop or by the
will when it is killed (Sparkplug 3.0, 5.13).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gmqtt
import orjson

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mqtt import link
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.settings import SparkplugSettings
from workshop_brain.connect.sparkplug.host import NAMESPACE, Host
from workshop_brain.errors import SourceError
from workshop_brain.model.event import Event, EventKind

log = logging.getLogger(__name__)

_TOLD_KEEPALIVE_S = 4
_OWN_KEEPALIVE_S = 1
"""How often the line is probed: two silent seconds and it is given up."""
_LOOK_S = 0.1
"""How often edge nodes that have fallen silent are looked for."""
_BACKOFF_S = (0.1, 0.25, 0.5, 0.5, 1.0)


@dataclass(slots=True, eq=False)
class SparkplugClient:
    """Keeps the host connected to its broker until cancelled."""

    settings: SparkplugSettings
    enterprise: str
    outbox: Outbox
    password: str = ""
    pki_dir: Path = Path("pki")
    wall_ns: Callable[[], int] = time.time_ns
    host: Host = field(init=False)
    reconnects: int = 0
    _client: Any = None
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    _stamp: int = 0
    _is_up: bool = False

    def __post_init__(self) -> None:
        given = self.settings
        choice = Choice(
            enterprise=self.enterprise,
            include=given.include,
            exclude=given.exclude,
            overrides=given.override,
        )
        self.host = Host(given.id, self.enterprise, self.outbox, self._send, choice)

    async def run(self) -> None:
        """Connect, listen, reconnect; on cancellation the host goes offline properly."""
        tries = 0
        try:
            while True:
                try:
                    await self._connect()
                    tries = 0
                    await self._listen()
                    log.warning("%s: broker %s is lost", self.settings.id, self.settings.url)
                except (OSError, TimeoutError, SourceError) as error:
                    level = logging.INFO if tries else logging.WARNING
                    log.log(level, "%s: %s: %s", self.settings.id, self.settings.url,
                            str(error) or type(error).__name__)  # fmt: skip
                self._down()
                await self._drop()
                await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
                tries += 1
                self.reconnects += 1
        finally:
            await self.close()

    async def close(self) -> None:
        """Publish the host's death and leave the broker."""
        client, self._client = self._client, None
        if client is None:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                client.publish(self._state_topic, self._state(False), qos=1, retain=True)
                await client._persistent_storage.wait_empty()
                await client.disconnect()

    async def _connect(self) -> None:
        self._stamp = max(self.wall_ns() // 1_000_000, self._stamp + 1)
        will = gmqtt.Message(self._state_topic, self._state(False), qos=1, retain=True)
        client = gmqtt.Client(
            f"{self.settings.host_id}-{self.settings.id}",
            clean_session=True,
            will_message=will,
            logger=link.QUIET,
        )
        client.set_config({"reconnect_retries": link.NO_OWN_RECONNECT})
        client.on_message = self._message
        client.on_disconnect = self._disconnected
        self._lost.clear()
        self._client = client
        await link.connect(
            client, self.settings, password=self.password, folder=self.pki_dir, lost=self._lost,
            told_keepalive_s=_TOLD_KEEPALIVE_S, own_keepalive_s=_OWN_KEEPALIVE_S,
        )  # fmt: skip
        client.subscribe(self._state_topic, qos=1)
        for group in self.settings.groups:
            client.subscribe(f"{NAMESPACE}/{group}/#", qos=1)
        client.publish(self._state_topic, self._state(True), qos=1, retain=True)
        self._is_up = True
        self.host.connected(self.wall_ns())
        self._liveness(EventKind.SOURCE_UP)
        log.info("%s: connected to %s", self.settings.id, self.settings.url)

    async def _listen(self) -> None:
        """Until the broker is lost: look for silent edge nodes."""
        while not self._lost.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), _LOOK_S)
            if not self._lost.is_set():
                self.host.watch(self.wall_ns())
            self.outbox.rejected = self.host.rejected

    @property
    def _state_topic(self) -> str:
        return f"{NAMESPACE}/STATE/{self.settings.host_id}"

    def _state(self, online: bool) -> bytes:
        return orjson.dumps({"online": online, "timestamp": self._stamp})

    def _message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        if client is not self._client:
            return 0
        if topic.startswith(f"{NAMESPACE}/STATE/"):
            if topic == self._state_topic:
                self._own_state(payload)
        else:
            now_ns = self.wall_ns()
            try:
                self.host.message(topic, payload, now_ns)
            except Exception as error:  # noqa: BLE001 - the edge: other messages must be read
                self.host.reject(topic, error, now_ns)
        return 0

    def _own_state(self, payload: bytes) -> None:
        """Somebody (an old will) says that we are offline: say again that we are not (5.13)."""
        try:
            state = orjson.loads(payload)
            claims_death = not state["online"]
            stamp = int(state["timestamp"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return
        if claims_death and self._client is not None:
            self._stamp = max(self._stamp, stamp)
            self._client.publish(self._state_topic, self._state(True), qos=1, retain=True)

    def _disconnected(self, client: Any, packet: Any, error: Any = None) -> None:
        if client is self._client:
            self._lost.set()

    def _send(self, topic: str, payload: bytes) -> None:
        if self._client is not None and self._client.is_connected:
            self._client.publish(topic, payload, qos=0)

    def _down(self) -> None:
        if self._is_up:
            self._is_up = False
            self.host.disconnected()
            self._liveness(EventKind.SOURCE_LOST)

    def _liveness(self, kind: EventKind) -> None:
        stamps = [node.last_ns for node in self.host.nodes.values()]
        now = max(stamps, default=0) or self.wall_ns()
        self.outbox.event(Event(time_ns=now, kind=kind, path=self.settings.id))

    async def _drop(self) -> None:
        """Close the socket without a DISCONNECT: the will may speak for us."""
        client, self._client = self._client, None
        await link.drop(client)
