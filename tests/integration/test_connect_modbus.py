"""Modbus TCP against pymodbus's own server, over a real socket, into a real historian."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from tests.integration.polled_plant import collected, free_port, until

from workshop_brain.config import source
from workshop_brain.connect.modbus.settings import ModbusSettings
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality

TAGS = [
    {"path": "works/a/l/c/u/speed", "address": 10, "type": "float32"},
    {"path": "works/a/l/c/u/load", "address": 20, "type": "float32", "word_order": "little"},
    {"path": "works/a/l/c/u/temperature", "address": 30, "type": "int16", "scale": 0.1},
    {"path": "works/a/l/c/u/door", "address": 31, "type": "bool", "bit": 3},
    {"path": "works/a/l/c/u/program", "address": 40, "type": "string", "length": 3},
    {"path": "works/a/l/c/u/beyond", "address": 63, "type": "uint16"},
]


@asynccontextmanager
async def device(port: int, temperature: int) -> AsyncIterator[None]:
    """Sixty holding registers; there is none at 63."""
    values = [0] * 60
    values[10:12] = [0x41BC, 0x0000]
    values[20:22] = [0x5000, 0x44B5]
    values[30], values[31] = temperature & 0xFFFF, 0b1000
    values[40:43] = [0x5031, 0x3233, 0]
    data = SimDevice(1, simdata=[SimData(0, values=values, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(data, address=("127.0.0.1", port))
    task = asyncio.create_task(server.serve_forever())
    try:
        yield
    finally:
        await server.shutdown()
        task.cancel()


async def test_registers_become_signals_and_a_restart_is_a_gap(tmp_path: Path) -> None:
    port = free_port()
    table = {"protocol": "modbus", "id": "plc", "url": f"modbus://127.0.0.1:{port}",
             "poll_ms": 50, "gap": 30, "tag": TAGS}  # fmt: skip
    settings = source(table, "source")
    assert isinstance(settings, ModbusSettings)
    async with collected(settings, tmp_path) as plant:
        async with device(port, -55):
            await until(lambda: plant.has("beyond", "program"))
            assert [row[0] for row in plant.rows("speed")] == [23.5]
            assert [row[0] for row in plant.rows("load")] == [1450.5]
            assert [row[0] for row in plant.rows("temperature")] == [pytest.approx(-5.5)]
            assert [row[0] for row in plant.rows("door")] == [1.0]
            assert plant.rows("program")[0][1] == "P123"
            assert all(row[2] & Quality.BAD for row in plant.rows("beyond"))
            await asyncio.sleep(0.3)
            assert len(plant.rows("speed")) == 1, "what has not changed is not stored"
        await until(lambda: plant.events(EventKind.SOURCE_LOST) > 0)
        async with device(port, 60):
            await until(lambda: len(plant.rows("temperature")) > 1)
            value, _, quality = plant.rows("temperature")[-1]
            assert value == pytest.approx(6.0)
            assert quality & Quality.GAP_BEFORE


def test_wrong_tags_are_named() -> None:
    base = {"protocol": "modbus", "id": "plc", "url": "modbus://plc"}
    for tag, told in (
        ({"path": "a/b", "address": 70_000}, "reach beyond 65535"),
        ({"path": "a/b", "address": 1, "type": "real"}, "no type 'real'"),
        ({"path": "a//b", "address": 1}, "must be names"),
        ({"path": "a/b", "address": 1, "bit": 3}, "of a bool"),
        ({"path": "a/b", "address": 1, "type": "string"}, "a string needs"),
    ):
        with pytest.raises(Exception, match=told):
            source({**base, "tag": [tag]}, "source")
