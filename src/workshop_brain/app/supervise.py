"""The supervisor: starts the processes of the house, restarts each one alone, stops them together.

Children are ``python -m workshop_brain <command>`` with a pipe as standard input: when this
process dies the pipe closes, and they flush and stop. Nothing here touches data.
"""

import asyncio
import ctypes
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from workshop_brain.errors import ConfigError, StoreLockedError

log = logging.getLogger(__name__)
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_HEALTHY_S = 10.0
_STOP_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process to keep alive.

    Attributes
    ----------
    arguments
        Command line; the program itself when ``program`` is set, else brain's own sub-command.
    stage
        Order of stopping, lowest first: a later one takes in what an earlier one flushes.
    """

    name: str
    arguments: tuple[str, ...]
    program: str = ""
    stage: int = 1


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    failures: int = 0
    started_at: float = 0.0
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps a set of children alive until ``stop``.

    Parameters
    ----------
    on_line
        Called with (child, line) for each line a child prints on standard output.
    """

    data: Path
    on_line: Callable[[str, str], None]
    _children: dict[str, _Child] = field(default_factory=dict)
    _stopping: bool = False

    def start(self, spec: ChildSpec) -> None:
        """Start a child and keep it alive."""
        child = _Child(spec)
        self._children[spec.name] = child
        child.task = asyncio.create_task(self._keep(child), name=f"keep-{spec.name}")

    def pids(self) -> dict[str, int]:
        """Process ids of the children that run now."""
        return {n: c.process.pid for n, c in self._children.items() if c.process is not None}

    async def _keep(self, child: _Child) -> None:
        while True:
            await self._run_once(child)
            if self._stopping:
                return
            lived = time.monotonic() - child.started_at
            child.failures = 0 if lived > _HEALTHY_S else child.failures + 1
            pause = _BACKOFF_S[min(child.failures, len(_BACKOFF_S) - 1)]
            name = child.spec.name
            log.warning("%s stopped after %.1f s; restarting in %.1f s", name, lived, pause)
            await asyncio.sleep(pause)

    async def _run_once(self, child: _Child) -> None:
        spec = child.spec
        command = (
            [spec.program, *spec.arguments]
            if spec.program
            else [sys.executable, "-m", "workshop_brain", *spec.arguments]
        )
        logs = self.data / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        child.started_at = time.monotonic()
        child.starts += 1
        with _rotating(logs / f"{spec.name}.log") as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    preexec_fn=_die_with_parent if spec.program else None,
                )
            except OSError as error:
                log.error("%s: cannot start %s: %s", spec.name, command[0], error)
                return
        child.process = process
        self._write_pids()
        assert process.stdout is not None
        async for line in process.stdout:
            self.on_line(spec.name, line.decode(errors="replace").rstrip())
        code = await process.wait()
        child.process = None
        if not self._stopping:
            log.warning("%s ended with code %s; its log is %s", spec.name, code, errors.name)

    def _write_pids(self) -> None:
        target = self.data / "run" / "pids.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        pending = target.with_suffix(".new")
        pending.write_text(json.dumps({"supervisor": os.getpid(), **self.pids()}))
        pending.replace(target)

    async def stop(self) -> None:
        """Stop the children, stage after stage; kill what does not stop."""
        self._stopping = True
        for stage in sorted({c.spec.stage for c in self._children.values()}):
            group = [c for c in self._children.values() if c.spec.stage == stage]
            await asyncio.gather(*(_end(c.process) for c in group if c.process is not None))
        for child in self._children.values():
            if child.task is not None:
                child.task.cancel()
                with suppress(asyncio.CancelledError):
                    await child.task


def _die_with_parent() -> None:
    """For programs that do not watch their standard input: the kernel ends them with us (Linux)."""
    set_death_signal = 1
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _rotating(path: Path, limit: int = 5_000_000) -> IO[bytes]:
    """A log file for appending; one older file is kept when it has grown past the limit."""
    if path.exists() and path.stat().st_size > limit:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def lock_data(data: Path) -> IO[str]:
    """Hold DATA/lock for this process; StoreLockedError names the holder."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        handle = (data / "lock").open("a+")
    except OSError as error:
        raise ConfigError(
            f"--data {data}: cannot be used ({error.strerror}); choose a directory that can be "
            "written"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise StoreLockedError(
            f"data directory {data}: another brain (pid {holder}) uses it; "
            "stop that one or choose another directory with --data"
        ) from error
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def free_port(host: str = "127.0.0.1") -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """ConfigError when the port cannot be listened on."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: must be 0 to 65535; 0 takes a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: cannot listen on {host}:{port} ({error.strerror}); "
                "choose another port with --port"
            ) from error


def stable_ports(data: Path, names: Sequence[str]) -> dict[str, int]:
    """A free port for each name; the ports of the last start are used again when still free."""
    path = data / "run" / "ports.json"
    known: dict[str, int] = {}
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text())
    ports: dict[str, int] = {}
    for name in names:
        port = known.get(name, 0)
        try:
            check_port("127.0.0.1", port)
        except ConfigError:
            port = 0
        ports[name] = port or free_port()
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_suffix(".new")
    pending.write_text(json.dumps(ports))
    pending.replace(path)
    return ports
