"""A TCP line between a client and a server that can be cut."""

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass, field

CUTS = ("reset", "stall", "stall then kill")


@dataclass
class Line:
    """Forwards to ``target``: ``reset`` it, or ``stall`` and ``kill`` it; then ``resume``."""

    target: int
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Listen; ``port`` is where."""
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, far_writer]
        self._tasks += [
            asyncio.create_task(self._flow(reader, far_writer)),
            asyncio.create_task(self._flow(far_reader, writer)),
        ]

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def reset(self) -> None:
        """Abort every line and refuse new ones."""
        assert self._server is not None
        self._server.close()
        await self.kill()

    async def kill(self) -> None:
        """Abort every line."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        self._tasks.clear()
        self._writers.clear()

    def stall(self) -> None:
        """Hold all bytes."""
        self._flows.clear()

    async def resume(self) -> None:
        """Let bytes and new lines through."""
        self._flows.set()
        if self._server is not None and not self._server.is_serving():
            await self.start()

    async def cut(self, kind: str, seconds: float) -> None:
        """One of CUTS, then the line is there again."""
        if kind == "reset":
            await self.reset()
        else:
            self.stall()
        await asyncio.sleep(seconds)
        if kind == "stall then kill":
            await self.kill()
        await self.resume()

    async def close(self) -> None:
        """Stop listening."""
        await self.reset()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
