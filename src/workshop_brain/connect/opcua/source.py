"""One OPC UA server, read until cancelled."""

import asyncio
from pathlib import Path

from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.pump import Pump
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.settings import OpcUaSettings


async def collect(
    settings: OpcUaSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Subscribe and hand over; ``spool_dir`` keeps the session that can be resumed.

    Values are collected from the first second on: until the kernels are there, without them.
    """
    warming = asyncio.create_task(asyncio.to_thread(decode.warm), name="opcua-warm")
    pump = Pump(settings, enterprise, outbox, spool_dir / "session.json", pki_dir, password)
    outbox.on_durable = pump.on_durable
    try:
        await pump.run()
    finally:
        await pump.close()
        warming.cancel()
