"""One MTConnect agent, read until cancelled."""

from pathlib import Path

from workshop_brain.connect.mtconnect.agent import Agent
from workshop_brain.connect.mtconnect.settings import MtconnectSettings
from workshop_brain.connect.outbox import Outbox


async def collect(
    settings: MtconnectSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Follow the agent's sequence; ``spool_dir`` keeps how far it is durable."""
    await Agent(settings, enterprise, outbox, spool_dir / "sequence.json", password).run()
