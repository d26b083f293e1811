"""Modbus TCP against pymodbus's own server, over a real socket, into a real historian."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from workshop_brain.app.ingest import Ingest
from workshop_brain.config import source
from workshop_brain.connect import collector
from workshop_brain.connect.modbus.settings import ModbusSettings
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality
from workshop_brain.store.historian import Historian

UNIT = "local/works/a/l/c/u"
TAGS = [
    {"path": "works/a/l/c/u/speed", "address": 10, "type": "float32"},
    {"path": "works/a/l/c/u/load", "address": 20, "type": "float32", "word_order": "little"},
    {"path": "works/a/l/c/u/temperature", "address": 30, "type": "int16", "scale": 0.1},
    {"path": "works/a/l/c/u/door", "address": 31, "type": "bool", "bit": 3},
    {"path": "works/a/l/c/u/program", "address": 40, "type": "string", "length": 3},
    {"path": "works/a/l/c/u/beyond", "address": 63, "type": "uint16"},
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def test_registers_become_signals_and_a_restart_is_a_gap(tmp_path: Path) -> None:
    port = free_port()
    events: list[Any] = []
    table = {"protocol": "modbus", "id": "plc", "url": f"modbus://127.0.0.1:{port}",
             "poll_ms": 50, "gap": 30, "tag": TAGS}  # fmt: skip
    settings = source(table, "source")
    assert isinstance(settings, ModbusSettings)
    with Historian(tmp_path / "history") as history:
        ingest = Ingest(
            history,
            tmp_path / "i.sock",
            on_samples=lambda s, r: None,
            on_curve=lambda *a, **k: None,
            on_event=events.append,
        )
        await ingest.start()
        stop = asyncio.Event()
        running = asyncio.create_task(
            collector.run(
                settings, enterprise="local", socket_path=tmp_path / "i.sock",
                spool_dir=tmp_path / "spool", stop=stop,
            )
        )  # fmt: skip

        def rows(name: str) -> list[tuple[float, str | None, int]]:
            if f"{UNIT}/{name}" not in {s.path for s in history.signals()}:
                return []
            found = history.query([f"{UNIT}/{name}"], 0, 1 << 62)
            columns = (found[key].to_pylist() for key in ("value", "text", "quality"))
            return list(zip(*columns, strict=True))

        try:
            async with device(port, -55):
                await until(lambda: len(rows("beyond")) > 0 and len(rows("program")) > 0)
                assert [row[0] for row in rows("speed")] == [23.5]
                assert [row[0] for row in rows("load")] == [1450.5]
                assert [row[0] for row in rows("temperature")] == [pytest.approx(-5.5)]
                assert [row[0] for row in rows("door")] == [1.0]
                assert rows("program")[0][1] == "P123"
                assert all(row[2] & Quality.BAD for row in rows("beyond"))
                await asyncio.sleep(0.3)
                assert len(rows("speed")) == 1, "what has not changed is not stored"
            await until(lambda: any(e.kind is EventKind.SOURCE_LOST for e in events))
            async with device(port, 60):
                await until(lambda: len(rows("temperature")) > 1)
                value, _, quality = rows("temperature")[-1]
                assert value == pytest.approx(6.0)
                assert quality & Quality.GAP_BEFORE
        finally:
            stop.set()
            await running
            await ingest.close()


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
