"""The MQTT side of the Sparkplug host: connection, STATE, subscriptions, reconnect.

The host says that it is online by a retained birth on ``spBv1.0/STATE/<host>`` with the same
timestamp as its will, and goes offline by publishing the death itself, with the time of its going,
on a clean stop or by the will when it is killed (Sparkplug 3.0, 5.13). The assertions of the
specification and their tests stand in docs/reference/sparkplug-assertions.md.
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
_LAST_MS = 1 << 53
"""Beyond this a time in a STATE message is not believed."""
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
    _takeovers: link.Takeovers = field(default_factory=link.Takeovers)
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
                    self._takeovers.connected()
                    await self._listen()
                    log.warning("%s: broker %s is lost", self.settings.id, self.settings.url)
                    if self._takeovers.ended():
                        log.error("%s: the broker ends every connection soon; is there another "
                                  "client %r? give one of them another host_id or id",
                                  self.settings.id, self._name)  # fmt: skip
                except (OSError, TimeoutError, SourceError) as error:
                    level = logging.INFO if tries else logging.WARNING
                    log.log(level, "%s: %s: %s", self.settings.id, self.settings.url,
                            str(error) or type(error).__name__)  # fmt: skip
                self._down()
                await self._drop()
                pause_s = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
                await asyncio.sleep(max(pause_s, self._takeovers.pause_s()))
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
                stamp = max(self.wall_ns() // 1_000_000, self._stamp)
                client.publish(self._state_topic, _state(False, stamp), qos=1, retain=True)
                await client._persistent_storage.wait_empty()
                await client.disconnect()

    async def _connect(self) -> None:
        self._stamp = max(self.wall_ns() // 1_000_000, self._stamp + 1)
        death = _state(False, self._stamp)
        will = gmqtt.Message(self._state_topic, death, qos=1, retain=True)
        client = gmqtt.Client(
            self._name,
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
        self._say_online(client)
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
    def _name(self) -> str:
        """The client's name at the broker: a second host of the same id ends the first one's
        connection."""
        return f"{self.settings.host_id}-{self.settings.id}"

    @property
    def _state_topic(self) -> str:
        return f"{NAMESPACE}/STATE/{self.settings.host_id}"

    def _say_online(self, client: Any) -> None:
        """The host's birth, with the time of its will."""
        client.publish(self._state_topic, _state(True, self._stamp), qos=1, retain=True)

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
                self.host.reject(topic, error, now_ns, payload)
        return 0

    def _own_state(self, payload: bytes) -> None:
        """Somebody (an old will) says that we are offline: say again that we are not (5.13).

        A death of a later time than ours would hide our birth from edge nodes: connect again with
        a will of a later time still.
        """
        try:
            state = orjson.loads(payload)
            claims_death = not state["online"]
            stamp = int(state["timestamp"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return
        if claims_death and self._client is not None:
            self._say_online(self._client)
            if stamp > self._stamp:
                self._stamp = min(stamp, _LAST_MS)
                self._lost.set()

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


def _state(online: bool, stamp_ms: int) -> bytes:
    return orjson.dumps({"online": online, "timestamp": stamp_ms})
