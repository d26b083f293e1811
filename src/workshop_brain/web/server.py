"""How the application is served: the socket and the uvicorn settings that live frames need."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from workshop_brain.errors import ConfigError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_BACKLOG = 256


def listen(host: str, port: int) -> socket.socket:
    """A bound socket for ``Server.serve(sockets=[...])``; port 0 takes any free one.

    The protocol is named, because the event loop sets TCP_NODELAY only on sockets that name it;
    without it every answer and frame waits 40 ms for a delayed acknowledgement.
    ConfigError when the address is in use or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        door.close()
        raise ConfigError(
            f"port {port} of {host} cannot be used: {error}; stop what uses it, or choose another "
            "with --port (0 takes any free one)"
        ) from error
    return door


def server_config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    """Settings of the server: no deflate on frames, small messages in, quick stop, no banner."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=64 * 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
        proxy_headers=False,
    )


class Server(uvicorn.Server):
    """Says when it listens and leaves signals to the owner of the process."""

    def __init__(self, app: FastAPI, door: socket.socket) -> None:
        host, port = door.getsockname()[:2]
        super().__init__(server_config(app, host=host, port=port))
        self._door = door
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signal handlers as they are."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        self.listening.set()

    async def run_until_stopped(self) -> None:
        """Serve until ``should_exit``; open screens are cut after 2 s."""
        await self.serve(sockets=[self._door])
