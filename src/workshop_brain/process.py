"""What every process of the house shares: knowing when its parent is gone, and logging.

The supervisor holds the write end of each child's standard input. When the supervisor dies, even
by kill -9, the kernel closes the pipe, the child reads the end of file, flushes and stops.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress


def log_to_stderr(name: str) -> logging.Logger:
    """One line per record on standard error; the supervisor collects it into DATA/logs."""
    logging.basicConfig(
        level=os.environ.get("BRAIN_LOG", "INFO").upper(),
        format=f"%(asctime)s {name} %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    logging.getLogger("gmqtt").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return logging.getLogger("workshop_brain")


async def stop_requested(*, watch_parent: bool) -> str:
    """Wait until the process should stop: SIGTERM, SIGINT, or (when watched) a parent that died.

    Returns the reason, for the log.
    """
    loop = asyncio.get_running_loop()
    reason: asyncio.Future[str] = loop.create_future()

    def settle(text: str) -> None:
        if not reason.done():
            reason.set_result(text)

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, settle, signal.Signals(number).name)
    watcher = asyncio.create_task(_parent_gone(settle)) if watch_parent else None
    try:
        return await reason
    finally:
        if watcher is not None:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher


async def _parent_gone(settle: Callable[[str], None]) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(4096):
            pass
        settle("parent gone")
    finally:
        transport.close()
