"""What every process of the house shares: knowing when its parent is gone, and logging.

The supervisor holds the write end of each child's standard input. When the supervisor dies, even
by kill -9, the kernel closes the pipe, the child reads the end of file, flushes and stops. One that
cannot flush in time ends all the same: what was acknowledged is on disk, whatever happens.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

LAST_S = 4.0
"""Seconds that a process without its supervisor may take to flush."""


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
    if watch_parent:

        def tell(text: str) -> None:
            with suppress(RuntimeError):  # the loop is over already
                loop.call_soon_threadsafe(settle, text)

        threading.Thread(target=_watch_parent, args=(tell,), daemon=True).start()
    return await reason


def _watch_parent(tell: Callable[[str], None]) -> None:
    """Wait, in a thread, for the end of standard input; then the process has ``LAST_S`` seconds.

    A thread, because an event loop that is busy must not outlive its supervisor either.
    """
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    last = threading.Timer(LAST_S, os._exit, (1,))
    last.daemon = True
    last.start()
    tell("parent gone")
