"""One agent, followed by its sequence numbers: what is durable is not asked for again, what fell
out of the agent's buffer is a gap."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mtconnect.document import (
    MOST_BYTES,
    AgentError,
    DataItem,
    Observations,
    read_devices,
    read_streams,
)
from workshop_brain.connect.mtconnect.multipart import Parts, boundary_of
from workshop_brain.connect.mtconnect.settings import MtconnectSettings
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.rows import definition, full_path
from workshop_brain.errors import DecodeError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalKind
from workshop_brain.units import NS_PER_S

log = logging.getLogger(__name__)

_HEARTBEAT_S = 5.0
_ANSWER_S = 10.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_LATE_NS = 60 * NS_PER_S
_LOG_EVERY_S = 10.0
_MOST_LOGGED = 1000
_UNREADABLE = 3
"""After so many tries the same observations are passed over, as a gap."""
_TROUBLE = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)


@dataclass(slots=True)
class Agent:
    """Reads one agent into the outbox until cancelled.

    ``position`` keeps (instance, next sequence) of what is durable.
    """

    settings: MtconnectSettings
    enterprise: str
    outbox: Outbox
    position: Path
    password: str = ""
    wall_ns: Callable[[], int] = time.time_ns
    _instance: int = 0
    _next: int = 0
    _local: dict[str, int] = field(default_factory=dict)
    """Data item to local id of its signal."""
    _paths: dict[str, str] = field(default_factory=dict)
    """Path to the data item that has it."""
    _text: set[int] = field(default_factory=set)
    _gap: set[int] = field(default_factory=set)
    """Local ids whose next sample has a hole before it."""
    _on_way: deque[tuple[int, int, int]] = field(default_factory=deque)
    """(outbox sequence, instance, next sequence) of documents that are not durable yet."""
    _body: bytes = b""
    """The document that is being read."""
    _is_up: bool = False
    _why: str = ""
    _unread: int = 0
    """How often what follows ``_unread_at`` could not be read."""
    _unread_at: int = 0
    _logged: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outbox.on_durable = self._on_durable
        try:
            kept = json.loads(self.position.read_text("utf-8"))
            self._instance, self._next = int(kept["instance"]), int(kept["next"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s: %s is not used: %s", self.settings.id, self.position, error)

    async def run(self) -> None:
        """Follow the agent; a lost one is tried again."""
        tries = 0
        while True:
            try:
                async with self._client() as client:
                    await self._follow(client)
            except (*_TROUBLE, DecodeError) as error:
                if isinstance(error, DecodeError):
                    self._keep("document", self.settings.url, str(error), self._body)
                    self.reject("document", str(error))
                    self._unread = self._unread + 1 if self._unread_at == self._next else 1
                    self._unread_at = self._next
                tries = 0 if self._is_up else tries + 1
                self._liveness(False, f"{type(error).__name__}: {error}")
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        base = self.settings.url.rstrip("/") + "/"
        if self.settings.device:
            base += self.settings.device + "/"
        auth = (self.settings.user, self.password) if self.settings.user else None
        timeout = httpx.Timeout(_ANSWER_S, read=2 * _HEARTBEAT_S + self.settings.interval_ms / 1000)
        async with httpx.AsyncClient(
            base_url=base, auth=auth, timeout=timeout, trust_env=False
        ) as client:
            yield client

    async def _get(self, client: httpx.AsyncClient, what: str, **query: int) -> bytes:
        """A whole document; also an error's, which says more than its status."""
        self._body = b""
        async with client.stream("GET", what, params=query) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    self._body = bytes(body)
                    raise DecodeError(f"/{what} is larger than {MOST_BYTES} bytes")
        self._body = bytes(body)
        if answer.is_error and b"MTConnectError" not in body:
            raise DecodeError(f"/{what} is answered with HTTP status {answer.status_code}")
        return self._body

    # -- following --

    async def _follow(self, client: httpx.AsyncClient) -> None:
        header, items = await asyncio.to_thread(read_devices, await self._get(client, "probe"))
        self._declare(items)
        now = await asyncio.to_thread(read_streams, await self._get(client, "current"))
        self._resume(now)
        self._liveness(True, "")
        while True:
            try:
                if not await self._stream(client):
                    return  # another instance: its devices may be others too
            except AgentError as error:
                if error.code != "OUT_OF_RANGE":
                    raise
                now = await asyncio.to_thread(read_streams, await self._get(client, "current"))
                if now.header.instance != header.instance:
                    return
                self._resume(now)
                await asyncio.sleep(_BACKOFF_S[0])

    def _resume(self, now: Observations) -> None:
        """Where to go on: behind what is durable, else at the first that the agent still has."""
        head = now.header
        if not self._instance:
            self._take(now)
            self._instance, self._next = head.instance, head.next_sequence
        elif head.instance != self._instance:
            self._mark_gap("the agent was restarted", 0)
            self._instance, self._next = head.instance, max(head.first_sequence, 1)
        elif self._next < head.first_sequence:
            lost = head.first_sequence - self._next
            self._mark_gap("observations fell out of the agent's buffer", lost)
            self._next = head.first_sequence
        elif self._unread >= _UNREADABLE and self._unread_at == self._next < head.next_sequence:
            lost = head.next_sequence - self._next
            self._mark_gap("the agent's document cannot be read", lost)
            self._take(now)
            self._next, self._unread = head.next_sequence, 0
        elif self._next > head.next_sequence:
            self._mark_gap("the agent's sequence numbers went back", 0)
            self._next = max(head.first_sequence, 1)

    def _mark_gap(self, reason: str, dropped: int) -> None:
        log.warning("%s: %s: %d observations are missing", self.settings.id, reason, dropped)
        self._gap.update(self._local.values())
        payload = {"reason": reason, "dropped": dropped}
        now, kind = self.wall_ns(), EventKind.GAP
        self.outbox.event(Event(time_ns=now, kind=kind, path=self.settings.id, payload=payload))

    async def _stream(self, client: httpx.AsyncClient) -> bool:
        """Documents as the agent sends them; one that does not stream is asked again and again.

        False when another instance answers.
        """
        query = {
            "from": self._next, "count": self.settings.count,
            "interval": self.settings.interval_ms, "heartbeat": round(_HEARTBEAT_S * 1000),
        }  # fmt: skip
        async with client.stream("GET", "sample", params=query) as answer:
            boundary = boundary_of(answer.headers.get("content-type", ""))
            parts = Parts(boundary or b"")
            whole = bytearray()
            async for chunk in answer.aiter_bytes():
                if boundary is None:
                    whole += chunk
                    if len(whole) > MOST_BYTES:
                        raise DecodeError(f"/sample is larger than {MOST_BYTES} bytes")
                    continue
                for body in parts.feed(chunk):
                    if not await self._document(body):
                        return False
        if boundary is None:
            if not await self._document(bytes(whole)):
                return False
            await asyncio.sleep(self.settings.interval_ms / 1000)
        return True

    async def _document(self, body: bytes) -> bool:
        """Take a document of the stream; False when it is another instance's."""
        self._body = body
        found = await asyncio.to_thread(read_streams, body)
        head = found.header
        if head.instance != self._instance:
            return False
        if head.next_sequence < self._next:
            raise DecodeError(f"nextSequence went back from {self._next} to {head.next_sequence}")
        self._next = head.next_sequence
        self._take(found)
        return True

    # -- samples --

    def _declare(self, items: list[DataItem]) -> None:
        choice = Choice(
            enterprise=self.enterprise, include=self.settings.include,
            exclude=self.settings.exclude, overrides=self.settings.override,
        )  # fmt: skip
        for item in items:
            if item.id in self._local:
                continue
            device, *parts = item.place
            name = "_".join([*parts, item.name]).replace("/", "_")
            place = f"{device.replace('/', '_')}/{name}"
            path = full_path(self.enterprise, place, self.settings.root)
            if self._paths.setdefault(path, item.id) != item.id:
                path = f"{path}_{full_path('x', item.id).rsplit('/', 1)[1]}"
                self._paths[path] = item.id
            own = definition(
                path, item.kind, source=self.settings.id, address=item.id, unit=item.units
            )
            signal = choice.shaped(own, "/".join((*item.place, item.name)))
            if signal is not None:
                self._local[item.id] = self.outbox.declare([signal])
                if signal.kind is SignalKind.TEXT:
                    self._text.add(self._local[item.id])

    def _take(self, found: Observations) -> None:
        for id, why in found.faults:
            self._keep("observation", id, why, why.encode())
            self.reject(id, why)
        rows = [
            (local, stamp, *self._value(local, id, text))
            for id, stamp, text in zip(found.item, found.time_ns, found.text, strict=True)
            if (local := self._local.get(id)) is not None
        ]
        now = self.wall_ns()
        if rows:
            columns = list(zip(*rows, strict=True))
            time_ns = np.array(columns[1], np.int64)
            late = np.where(time_ns < now - _LATE_NS, int(Quality.HISTORICAL), 0)
            quality = np.array(columns[3], np.uint8) | late.astype(np.uint8)
            for at, local in enumerate(columns[0]) if self._gap else ():
                if local in self._gap:
                    self._gap.discard(local)
                    quality[at] |= int(Quality.GAP_BEFORE)
            samples = Samples(
                np.array(columns[0], np.uint32), time_ns, np.array(columns[2], np.float64), quality
            )
            seq = self.outbox.add(samples, now)
            self._on_way.append((seq, found.header.instance, found.header.next_sequence))

    def _value(self, local: int, id: str, text: str | None) -> tuple[float, int]:
        if text is None:
            return float("nan"), int(Quality.BAD)
        if local in self._text:
            return float(self.outbox.text(text)), 0
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            why = f"{text[:60]!r} is not a finite number"
            self._keep("no_number", id, why, text.encode())
            self.reject(id, why)
            return float("nan"), int(Quality.BAD)
        return value, 0

    def _on_durable(self, seq: int) -> None:
        kept = None
        while self._on_way and self._on_way[0][0] <= seq:
            kept = self._on_way.popleft()
        if kept is None:
            return
        body: dict[str, Any] = {"instance": kept[1], "next": kept[2]}
        fresh = self.position.with_suffix(".new")
        try:
            self.position.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(body), "utf-8")
            fresh.replace(self.position)
        except OSError as error:
            self.reject("position", f"{self.position} cannot be written: {error}")

    # -- telling --

    def _keep(self, cause: str, where: str, why: str, payload: bytes) -> None:
        self.outbox.kept.note(cause, where, why, payload)

    def reject(self, what: str, why: str) -> None:
        """Count what could not be taken; of each cause one in ten seconds is logged."""
        self.outbox.rejected += 1
        now = time.monotonic()
        if len(self._logged) >= _MOST_LOGGED:
            self._logged.clear()
        if now - self._logged.get(what, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[what] = now
            log.warning("%s: %s: %s", self.settings.id, what, why)

    def _liveness(self, is_up: bool, why: str) -> None:
        if why and why != self._why:
            log.warning("%s: %s does not answer: %s", self.settings.id, self.settings.url, why)
        self._why = why
        if is_up != self._is_up:
            self._is_up = is_up
            kind = EventKind.SOURCE_UP if is_up else EventKind.SOURCE_LOST
            self.outbox.event(Event(time_ns=self.wall_ns(), kind=kind, path=self.settings.id))
