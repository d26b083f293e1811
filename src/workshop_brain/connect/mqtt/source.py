"""The plain MQTT topics of one broker, read until cancelled."""

from pathlib import Path

from workshop_brain.connect.mqtt.client import MqttClient
from workshop_brain.connect.mqtt.settings import MqttSettings
from workshop_brain.connect.outbox import Outbox


async def collect(
    settings: MqttSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Read the topics of the rows; QoS 1 is acknowledged when it is safe."""
    client = MqttClient(settings, enterprise, outbox, spool_dir, pki_dir, password)
    outbox.on_durable = client.on_durable
    await client.run()
