"""The MQTT broker of a plant without one: mosquitto when it is installed, else the embedded one.

Either runs as its own process on loopback. mosquitto is fast and strict; the embedded broker
(amqtt, MQTT 3.1.1) needs no installation and carries the demonstration plant.
"""

import asyncio
import contextlib
import getpass
import logging
import os
import shutil
import signal
import socket
from pathlib import Path

from workshop_brain.errors import SourceError

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin")
_CONFIG = """\
# Written by workshop-brain at each start; loopback only.
listener {port} {host}
allow_anonymous true
# no change of user: the supervisor's death signal would be lost with it
user {user}
persistence false
max_queued_messages 100000
max_queued_bytes 0
max_inflight_messages 0
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""

log = logging.getLogger(__name__)


def find_mosquitto() -> Path | None:
    """The mosquitto program, or None when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    found = shutil.which("mosquitto", path=path)
    return Path(found) if found else None


def mosquitto_command(
    *, port: int, directory: Path, host: str = "127.0.0.1", program: Path | None = None
) -> list[str] | None:
    """Command line that runs mosquitto on a port, its configuration written to ``directory``.

    None when mosquitto is not installed (then run the embedded broker); SourceError when the
    configuration cannot be written.
    """
    program = program or find_mosquitto()
    if program is None:
        return None
    config = directory / "mosquitto.conf"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        config.write_text(_CONFIG.format(port=port, host=host, user=getpass.getuser()), "utf-8")
    except OSError as error:
        raise SourceError(f"{config}: cannot be written: {error}") from error
    return [str(program), "-c", str(config)]


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_until_open(host: str, port: int, *, timeout_s: float = 10.0) -> None:
    """Return when a TCP connection to the broker succeeds; SourceError after the time."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return
    except TimeoutError as error:
        raise SourceError(f"MQTT broker {host}:{port} did not open in {timeout_s:.0f} s") from error


async def serve_embedded(port: int, *, host: str = "127.0.0.1", stop: asyncio.Event) -> None:
    """Run the embedded broker until ``stop``; SourceError when the port cannot be opened."""
    from amqtt.broker import Broker
    from amqtt.errors import BrokerError

    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(config)
    try:
        await broker.start()
    except (OSError, BrokerError) as error:
        raise SourceError(
            f"MQTT port {port} on {host} cannot be opened: {error.__cause__ or error}"
        ) from error
    try:
        await stop.wait()
    finally:
        await broker.shutdown()


def run_embedded(port: int, *, host: str = "127.0.0.1", parent: int | None = None) -> None:
    """Run the embedded broker in this process until a signal, or until ``parent`` is gone."""
    asyncio.run(_run_embedded(port, host, parent))


async def _run_embedded(port: int, host: str, parent: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    watch = asyncio.create_task(_watch_parent(parent, stop))
    try:
        await serve_embedded(port, host=host, stop=stop)
    finally:
        watch.cancel()


async def _watch_parent(parent: int | None, stop: asyncio.Event) -> None:
    while parent is not None:
        if os.getppid() != parent:
            stop.set()
            return
        await asyncio.sleep(0.5)
