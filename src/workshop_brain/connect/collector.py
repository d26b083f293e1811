"""The collector process: one source, its outbox, until told to stop.

Each protocol is a package beside this module whose ``source.collect`` reads until cancelled.
It lives on whatever the brain, the machine or the broker do; only its own end stops it.
"""

import asyncio
import importlib
import logging
import os
from pathlib import Path

from workshop_brain.connect.handover import Remote
from workshop_brain.connect.outbox import Outbox, ended
from workshop_brain.connect.settings import SourceSettings
from workshop_brain.errors import ConfigError
from workshop_brain.process import stop_requested

log = logging.getLogger(__name__)

_STATUS_S = 60.0
_RESTART_S = 1.0


async def run(
    settings: SourceSettings,
    *,
    enterprise: str,
    socket_path: Path | str,
    spool_dir: Path,
    token: str = "",
    spool_bytes: int = 2 * 1024**3,
    remote: Remote | None = None,
    pki_dir: Path | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Collect one source into the brain at ``socket_path`` until stopped.

    Parameters
    ----------
    socket_path
        The brain's ingest socket, loopback ``host:port`` with ``token``, or with ``remote`` the
        ``host:port`` of a brain on another host.
    spool_dir
        This source's directory for the disk buffer and the session that can be resumed.
    stop
        Stops the collector when set; without it SIGTERM, SIGINT and the end of the parent do.
    """
    outbox = Outbox(
        settings.id,
        settings.protocol,
        socket_path,
        spool_dir,
        token=token,
        limit_bytes=spool_bytes,
        remote=remote,
    )
    pki = pki_dir if pki_dir is not None else spool_dir.parent.parent / "pki"
    tasks = [
        asyncio.create_task(outbox.run(), name="outbox"),
        asyncio.create_task(_source(settings, enterprise, outbox, spool_dir, pki), name="source"),
        asyncio.create_task(_status(settings.id, outbox), name="status"),
    ]
    ending = asyncio.create_task(_ending(stop), name="stop")
    try:
        done, _ = await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            result = task.result()
            if task is ending:
                log.info("%s stops: %s", settings.id, result)
    finally:
        await ended(tasks[1])
        await outbox.close()
        for task in (*tasks, ending):
            await ended(task)


async def _ending(stop: asyncio.Event | None) -> str:
    if stop is None:
        return await stop_requested(watch_parent=True)
    await stop.wait()
    return "told to"


async def _source(
    settings: SourceSettings, enterprise: str, outbox: Outbox, spool_dir: Path, pki_dir: Path
) -> None:
    """Run the protocol; whatever breaks it is logged and it starts anew."""
    password = _password(settings)
    while True:
        try:
            module = importlib.import_module(f"workshop_brain.connect.{settings.protocol}.source")
            await module.collect(
                settings,
                enterprise,
                outbox,
                spool_dir=spool_dir,
                pki_dir=pki_dir,
                password=password,
            )
        except ConfigError:
            raise
        except Exception:
            log.exception("%s: the collector's source broke; it starts anew", settings.id)
            await asyncio.sleep(_RESTART_S)


def _password(settings: SourceSettings) -> str:
    if not settings.password_env:
        return ""
    value = os.environ.get(settings.password_env)
    if value is None:
        raise ConfigError(
            f"source {settings.id!r}: environment variable {settings.password_env} is not set; "
            "it must hold the password"
        )
    return value


async def _status(source: str, outbox: Outbox) -> None:
    """One line a minute for the log."""
    rows = 0
    while True:
        await asyncio.sleep(_STATUS_S)
        fresh, rows = outbox.sent_rows - rows, outbox.sent_rows
        log.info(
            "%s: %.0f samples/s, brain %s, %d signals",
            source,
            fresh / _STATUS_S,
            "connected" if outbox.connected else "away",
            len(outbox.signals),
        )
