"""S7 against python-snap7's own server, over a real socket, into a real historian."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from snap7.server import Server
from snap7.type import SrvArea
from tests.integration.polled_plant import collected, free_port, until

from workshop_brain.config import source
from workshop_brain.connect.blocks import Block
from workshop_brain.connect.discovery import s7
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.s7.settings import S7Settings
from workshop_brain.connect.s7.source import dial
from workshop_brain.errors import SourceError
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality

TAGS = [
    {"path": "works/a/l/c/u/speed", "address": "DB1.DBD4", "type": "REAL"},
    {"path": "works/a/l/c/u/torque", "address": "DB1.DBD8", "type": "LREAL"},
    {"path": "works/a/l/c/u/temperature", "address": "DB1.DBW16", "type": "INT", "scale": 0.1},
    {"path": "works/a/l/c/u/door", "address": "DB1.DBX18.3"},
    {"path": "works/a/l/c/u/count", "address": "DB1.DBD20", "type": "DINT"},
    {"path": "works/a/l/c/u/program", "address": "DB1.DBB30", "type": "STRING", "length": 8},
    {"path": "works/a/l/c/u/order", "address": "DB1.DBB40", "type": "WSTRING", "length": 4},
    {"path": "works/a/l/c/u/far", "address": "DB1.DBW900"},
    {"path": "works/a/l/c/u/marker", "address": "M3.1"},
    {"path": "works/a/l/c/u/input", "address": "IW2"},
    {"path": "works/a/l/c/u/output", "address": "QB1"},
    {"path": "works/a/l/c/u/nowhere", "address": "DB9.DBW0"},
]


def memory(temperature: int) -> dict[tuple[SrvArea, int], bytearray]:
    db = bytearray(1000)
    struct.pack_into(">fdh", db, 4, 23.5, -1e-3, temperature)
    db[18] = 0b1000
    struct.pack_into(">i", db, 20, -53_970)
    db[30:36] = b"\x08\x04P123"
    db[40:48] = b"\x00\x04\x00\x02" + "订单".encode("utf-16-be")
    struct.pack_into(">H", db, 900, 65_000)
    return {
        (SrvArea.DB, 1): db,
        (SrvArea.MK, 0): bytearray([0, 0, 0, 2]),
        (SrvArea.PE, 0): bytearray([0, 0, 1, 2]),
        (SrvArea.PA, 0): bytearray([0, 9]),
    }


@contextmanager
def plc(port: int, temperature: int = -55) -> Iterator[None]:
    server = Server(log=False)
    for (area, index), data in memory(temperature).items():
        server.register_area(area, index, data)
    server.start_to("127.0.0.1", port)
    try:
        yield
    finally:
        server.stop()


async def test_blocks_become_signals_and_a_restart_is_a_gap(tmp_path: Path) -> None:
    port = free_port()
    table = {"protocol": "s7", "id": "plc", "url": f"s7://127.0.0.1:{port}",
             "poll_ms": 50, "tag": TAGS}  # fmt: skip
    settings = source(table, "source")
    assert isinstance(settings, S7Settings)
    async with collected(settings, tmp_path) as plant:
        with plc(port):
            names = [str(tag["path"]).rsplit("/", 1)[1] for tag in TAGS]
            await until(lambda: plant.has(*names))
            assert (plant.last("speed"), plant.last("torque")) == (23.5, -1e-3)
            assert plant.last("temperature") == pytest.approx(-5.5)
            assert (plant.last("door"), plant.last("marker")) == (1.0, 1.0)
            assert plant.last("count") == -53_970.0
            assert plant.rows("program")[0][1] == "P123"
            assert plant.rows("order")[0][1] == "订单"
            assert plant.last("far") == 65_000.0
            assert (plant.last("input"), plant.last("output")) == (258.0, 9.0)
            assert all(row[2] & Quality.BAD for row in plant.rows("nowhere"))
            assert len(plant.rows("speed")) == 1, "what has not changed is not stored"
        await until(lambda: plant.events(EventKind.SOURCE_LOST) > 0)
        with plc(port, 60):
            await until(lambda: len(plant.rows("temperature")) > 1)
            value, _, quality = plant.rows("temperature")[-1]
            assert value == pytest.approx(6.0)
            assert quality & Quality.GAP_BEFORE


async def test_a_request_fills_the_pdu_and_no_more() -> None:
    port = free_port()
    with plc(port):
        link = await dial(f"s7://127.0.0.1:{port}", 0, 1, 2.0)
        try:
            most = link.most(("DB", 1))
            assert most == link.client.pdu_length - 18
            data = await link.read(Block(100, ("DB", 1), 0, most, ()))
            assert data == bytes(memory(-55)[(SrvArea.DB, 1)][:most])
        finally:
            await link.close()


async def test_lengths_are_found_when_the_cpu_lists_no_blocks() -> None:
    port = free_port()
    server = Server(log=False)
    for db, size in ((2, 300), (3, 2), (4, 5000)):
        server.register_area(SrvArea.DB, db, bytearray(size))
    server.start_to("127.0.0.1", port)
    link = await dial(f"s7://127.0.0.1:{port}", 0, 1, 2.0)
    try:
        assert [await s7._length(link, db) for db in (1, 2, 3, 4)] == [0, 300, 2, 1000]
    finally:
        await link.close()
        server.stop()


def test_wrong_tags_are_named() -> None:
    base = {"protocol": "s7", "id": "plc", "url": "s7://plc"}
    for tag, told in (
        ({"path": "a/b", "address": "DB1.DBX4"}, "no address 'DB1.DBX4'"),
        ({"path": "a/b", "address": "DB1.DBW4", "type": "float"}, "no type 'float'"),
        ({"path": "a/b", "address": "MW4", "type": "BOOL"}, "only it, has a bit"),
        ({"path": "a/b", "address": "DB1.DBB4", "type": "STRING"}, "a STRING needs"),
        ({"path": "a/b", "address": "MD65535"}, "reach beyond 65535"),
    ):
        with pytest.raises(Exception, match=told):
            source({**base, "tag": [tag]}, "source")


async def test_brain_connect_names_the_cpu_and_its_blocks(tmp_path: Path) -> None:
    port = free_port()
    options = Options(seconds=0.3, source="plc", pki_dir=tmp_path)
    with plc(port):
        found = await s7.discover(f"s7://127.0.0.1:{port}", options)
    told = next(words for name, words in found.facts if name.startswith("s7"))
    assert "DB1 (1000)" in told["blocks"]
    assert "CPU" in told["cpu"]
    rows = {row["address"]: row["type"] for row in found.source["tag"]}
    assert rows["DB1.DBD4"] == "REAL"
    assert rows["DB1.DBW16"] == "INT"
    assert source({**found.source, "id": "plc"}, "source").tag
    with pytest.raises(SourceError, match="refuses port"):
        await s7.discover(f"s7://127.0.0.1:{free_port()}", options)
