"""One Modbus TCP device, polled until cancelled."""

import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from workshop_brain.connect import polled
from workshop_brain.connect.blocks import Block, Place
from workshop_brain.connect.modbus import blocks
from workshop_brain.connect.modbus.settings import ModbusSettings, ModbusTag
from workshop_brain.connect.outbox import Outbox
from workshop_brain.connect.poller import Link, Point, Poller, RefusedError
from workshop_brain.errors import SourceError

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

_BAD_ADDRESS = (2, 3)


async def collect(
    settings: ModbusSettings,
    enterprise: str,
    outbox: Outbox,
    *,
    spool_dir: Path,
    pki_dir: Path,
    password: str,
) -> None:
    """Poll all tags; connection faults are logged and tried again."""
    await Poller(
        id=settings.id,
        url=settings.url,
        points=[_point(tag, settings, enterprise) for tag in settings.tag],
        gap=settings.gap,
        outbox=outbox,
        dial=lambda: dial(settings),
        size=blocks.size,
        show=_shown,
    ).run()


def _point(tag: ModbusTag, settings: ModbusSettings, enterprise: str) -> Point:
    signal = polled.signal(
        tag,
        settings.id,
        enterprise,
        f"{tag.unit_id}/{tag.table}/{tag.address}",
        is_bool=tag.is_bit or tag.type == "bool",
        is_text=tag.type == "string",
        is_integer="int" in tag.type,
    )
    return Point(tag.path, signal, blocks.span(tag, settings.poll_ms), blocks.meaning(tag))


def _shown(block: Block) -> str:
    unit, table = block.place
    return f"unit {unit} {table} {block.start}..{block.start + block.count - 1}"


async def dial(settings: ModbusSettings) -> Link:
    """An open connection; SourceError when nobody answers."""
    parts = urlsplit(settings.url)
    client = AsyncModbusTcpClient(
        parts.hostname or "", port=parts.port or 502, timeout=settings.timeout_s,
        retries=0, reconnect_delay=0,
    )  # fmt: skip
    try:
        is_open = await client.connect()
    except ModbusException as error:
        raise SourceError(str(error)) from error
    if not is_open:
        client.close()
        raise SourceError("nobody answers; check address and port")
    return _ModbusLink(client)


@dataclass(slots=True, eq=False)
class _ModbusLink:
    client: AsyncModbusTcpClient

    def most(self, place: Place) -> int:
        return blocks.most(place)

    async def read(self, block: Block) -> bytes:
        unit, table = block.place
        ask = {
            "holding": self.client.read_holding_registers,
            "input": self.client.read_input_registers,
            "coil": self.client.read_coils, "discrete": self.client.read_discrete_inputs,
        }[str(table)]  # fmt: skip
        try:
            answer = await ask(block.start, count=block.count, device_id=int(unit))
        except ModbusException as error:
            raise SourceError(str(error)) from error
        if answer.isError():
            code = int(getattr(answer, "exception_code", 0))
            raise RefusedError(f"exception {code}", by_address=code in _BAD_ADDRESS)
        if table in blocks.BIT_TABLES:
            return np.array(answer.bits[: block.count], np.uint8).tobytes()
        return np.array(answer.registers, ">u2").tobytes()

    async def close(self) -> None:
        self.client.close()
