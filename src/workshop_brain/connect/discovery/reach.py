"""Why an address cannot be reached, in words that say what to do."""

import asyncio
import os
import socket
from contextlib import suppress

from workshop_brain.errors import SourceError

CONNECT_S = 8.0


async def reach(url: str, host: str, port: int) -> None:
    """Return when a TCP connection can be made; SourceError says why not."""
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise SourceError(unreachable(url, host, port, error)) from error
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def unreachable(url: str, host: str, port: int, error: OSError) -> str:
    """What is wrong when a connection cannot be made, and the way out."""
    if isinstance(error, socket.gaierror):
        return f"{url}: no host {host!r} is known here; write its IP address or check the name"
    if isinstance(error, ConnectionRefusedError):
        return f"{url}: {host} refuses port {port}; is the server started, and is this its port?"
    return f"{url}: {host}:{port} cannot be reached ({said(error)}); check cable, VPN and firewall"


def said(error: BaseException) -> str:
    """An error in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
