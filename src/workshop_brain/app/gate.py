"""Where collectors on other hosts come in: one port, TLS 1.3, a certificate of our own authority.

Whoever is not let in is named in the log, once per cause and minute, and told why where the
handshake got that far.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from workshop_brain.app.collectors import Collectors
from workshop_brain.app.ingest import Ingest, Peer
from workshop_brain.connect import handover
from workshop_brain.connect.remote import split_listen
from workshop_brain.errors import BrainError, ConfigError, RefusedError

log = logging.getLogger(__name__)

_HANDSHAKE_S = 10.0
_MOST_AT_THE_DOOR = 64
_LOOK_S = 1.0
_DAY_S = 86_400.0
_TELL_S = 60.0
_REMEMBERED = 256
_REASONS = (
    ("certificate_required", "it shows no certificate"),
    ("peer_did_not_return", "it shows no certificate"),
    ("certificate_verify_failed", "its certificate is not of this brain's authority"),
    ("unsupported_protocol", "it does not speak TLS 1.3"),
    ("wrong_version_number", "it does not speak TLS"),
    ("http_request", "it does not speak TLS"),
)


@dataclass(slots=True, eq=False)
class Gate:
    """Listens for collectors on other hosts and hands their links to the ingest.

    Parameters
    ----------
    listen
        ``host:port``; port 0 takes a free one.
    lost_s
        Silence after which a link is dead.
    """

    ingest: Ingest
    collectors: Collectors
    listen: str
    lost_s: float = handover.REMOTE_LOST_S
    port: int = 0
    _socket: socket.socket | None = None
    _context: ssl.SSLContext | None = None
    _door: int = 0
    _links: dict[asyncio.Task[None], tuple[bytes, asyncio.StreamWriter]] = field(
        default_factory=dict
    )
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _told: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)

    async def start(self) -> None:
        """Listen; ConfigError when the address cannot be had."""
        self._context = self.collectors.server_context()
        self._socket = bound(self.listen)
        self.port = int(self._socket.getsockname()[1])
        self._start(self._accept(self._socket), "gate")
        self._start(self._watch(), "gate-watch")
        log.info("collectors on other hosts come in at %s, port %d", self.listen, self.port)

    async def close(self) -> None:
        """Stop listening; links end with the ingest."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    def _start(self, work: "asyncio._CoroutineLike[None]", name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                came, address = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or the caller has gone again
                self._tell("the network", str(error))
                await asyncio.sleep(0.1)
                continue
            if self._door >= _MOST_AT_THE_DOOR:
                self._tell(address[0], "too many at the door at once")
                came.close()
                continue
            self._start(self._serve(came, address[0]), "gate-link")

    async def _serve(self, came: socket.socket, host: str) -> None:
        self._door += 1
        try:
            reader, writer = await self._handshake(came)
        except (OSError, TimeoutError) as error:
            self._tell(host, _reason(error))
            return
        finally:
            self._door -= 1
        der = writer.get_extra_info("ssl_object").getpeercert(True) or b""
        try:
            known = self.collectors.admit(der)
        except (BrainError, ValueError) as error:
            self._tell(host, str(error))
            await _refuse(writer, str(error))
            return
        log.info("collector %r comes in from %s", known.name, host)
        peer = Peer(
            name=known.name, host=host, sources=frozenset(known.sources), lost_s=self.lost_s
        )
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = (der, writer)
        try:
            await self.ingest.serve(reader, writer, peer)
        finally:
            del self._links[task]
            log.info("collector %r at %s has gone", known.name, host)

    async def _handshake(
        self, came: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """TLS over an accepted socket; OSError or TimeoutError when it fails.

        Made by hand, because a server of asyncio keeps to itself why a handshake failed.
        """
        loop = asyncio.get_running_loop()
        came.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=handover.STREAM_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, came, ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S, ssl_shutdown_timeout=1.0,
            )  # fmt: skip
        except BaseException:
            came.close()
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _watch(self) -> None:
        """Let go of whom is no longer let in, and renew the brain's certificate in time."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            for der, writer in list(self._links.values()):
                try:
                    self.collectors.admit(der)
                except RefusedError as error:
                    log.warning("a collector is let go: %s", error)
                    await _refuse(writer, str(error))
                except BrainError as error:
                    self._tell("the list of collectors", str(error))
            if time.monotonic() - renewed > _DAY_S:
                renewed = time.monotonic()
                with suppress(BrainError, OSError):
                    self._context = self.collectors.server_context()

    def _tell(self, who: str, why: str) -> None:
        """One line per address, cause and minute."""
        now = time.monotonic()
        if now - self._told.get((who, why), -_TELL_S) < _TELL_S:
            return
        self._told[who, why] = now
        self._told.move_to_end((who, why))
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        log.warning("refused a link from %s: %s", who, why)


def bound(listen: str) -> socket.socket:
    """A socket that listens at ``host:port``; ConfigError when the address cannot be had."""
    host, port = split_listen(listen)
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.create_server(address[:2], family=family, backlog=64)
    except OSError as error:
        raise ConfigError(
            f"ingest.listen: cannot listen at {listen} for collectors ({error.strerror or error}); "
            "choose another address or port"
        ) from error
    found.setblocking(False)
    return found


async def _refuse(writer: asyncio.StreamWriter, reason: str) -> None:
    """Say why, then close."""
    with suppress(OSError, TimeoutError):
        handover.send(writer, handover.pack_refused(reason))
        async with asyncio.timeout(1.0):
            await writer.drain()
    writer.close()


def _reason(error: BaseException) -> str:
    """Why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not of this brain's authority ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        said = f"{error.reason or ''} {error}".lower().replace(" ", "_")
        return next((text for word, text in _REASONS if word in said), f"TLS: {error}")
    if isinstance(error, TimeoutError):
        return f"no TLS handshake within {_HANDSHAKE_S:.0f} s"
    return "it went away during the handshake"
