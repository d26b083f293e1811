"""The Sparkplug edge nodes of one broker, read until cancelled."""

import asyncio
from pathlib import Path

from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.settings import SparkplugSettings
from workshop_brain.connect.sparkplug import wire
from workshop_brain.connect.sparkplug.client import SparkplugClient


async def collect(
    settings: SparkplugSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Be the primary host of the groups; births, data and deaths go to the outbox."""
    await asyncio.to_thread(wire.warm)
    await SparkplugClient(settings, enterprise, outbox, password, pki_dir).run()
