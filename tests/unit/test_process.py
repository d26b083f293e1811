"""A process whose supervisor is gone stops, busy or not."""

import subprocess
import sys
import time

BUSY = """
import asyncio, time
from workshop_brain import process
process.LAST_S = 0.5

async def main():
    waiting = asyncio.create_task(process.stop_requested(watch_parent=True))
    await asyncio.sleep(0.1)
    print("ready", flush=True)
    time.sleep(60)  # an event loop that answers nobody

asyncio.run(main())
"""
CALM = """
import asyncio
from workshop_brain import process

async def main():
    waiting = asyncio.create_task(process.stop_requested(watch_parent=True))
    await asyncio.sleep(0.1)
    print("ready", flush=True)
    print(await waiting, flush=True)

asyncio.run(main())
"""


def child(text: str) -> subprocess.Popen[bytes]:
    """A running process that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_process_that_can_stop_says_why() -> None:
    process = child(CALM)
    out, _ = process.communicate(timeout=20)  # closes its standard input
    assert out == b"parent gone\n"
    assert process.returncode == 0


def test_a_process_that_is_busy_ends_all_the_same() -> None:
    process = child(BUSY)
    begun = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert time.monotonic() - begun < 20
