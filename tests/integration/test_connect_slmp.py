"""SLMP against a server written for it, which an independent client reads the same way."""

import asyncio
from pathlib import Path

import numpy as np
import pymcprotocol
import pytest
from bench.slmp_server import Memory, serving
from tests.integration.polled_plant import collected, free_port, until

from workshop_brain.config import source
from workshop_brain.connect.discovery import slmp
from workshop_brain.connect.discovery.options import Options
from workshop_brain.connect.slmp.settings import SlmpSettings
from workshop_brain.errors import SourceError
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import Quality

D, M, X, W = 0xA8, 0x90, 0x9C, 0xB4
TAGS = [
    {"path": "works/a/l/c/u/speed", "address": "D10", "type": "float32"},
    {"path": "works/a/l/c/u/temperature", "address": "D12", "scale": 0.1},
    {"path": "works/a/l/c/u/door", "address": "D13.B"},
    {"path": "works/a/l/c/u/count", "address": "D14", "type": "int32"},
    {"path": "works/a/l/c/u/program", "address": "D20", "type": "string", "length": 3},
    {"path": "works/a/l/c/u/run", "address": "M33"},
    {"path": "works/a/l/c/u/lamp", "address": "X1F"},
    {"path": "works/a/l/c/u/link", "address": "W1A", "type": "uint16"},
    {"path": "works/a/l/c/u/far", "address": "D1959", "type": "uint16"},
    {"path": "works/a/l/c/u/beyond", "address": "D2001", "type": "uint16"},
]


@pytest.fixture
def memory() -> Memory:
    """D with 2000 words, M and X with 64 bits, W with 64 words."""
    words = {D: np.zeros(2000, np.uint16), M: np.zeros(4, np.uint16),
             X: np.zeros(4, np.uint16), W: np.zeros(64, np.uint16)}  # fmt: skip
    words[D][10:12] = [0x0000, 0x41BC]
    words[D][12:14] = [-55 & 0xFFFF, 1 << 11]
    words[D][14:16] = [0x2D2E, 0xFFFF]
    words[D][20:23] = [0x3150, 0x3332, 0]
    words[D][1959] = 65_000
    words[M][2] = 1 << 1
    words[X][1] = 1 << 15
    words[W][0x1A] = 7
    return Memory(words)


@pytest.mark.parametrize("frame", ["3E", "4E"])
async def test_devices_become_signals_and_a_restart_is_a_gap(
    tmp_path: Path, memory: Memory, frame: str
) -> None:
    port = free_port()
    table = {"protocol": "slmp", "id": "plc", "url": f"slmp://127.0.0.1:{port}", "frame": frame,
             "poll_ms": 50, "gap": 2000, "tag": TAGS}  # fmt: skip
    settings = source(table, "source")
    assert isinstance(settings, SlmpSettings)
    async with collected(settings, tmp_path) as plant:
        async with serving(memory, port):
            await until(lambda: plant.has("beyond", "far", "link", "lamp", "run", "program"))
            assert plant.last("speed") == 23.5
            assert plant.last("temperature") == pytest.approx(-5.5)
            assert plant.last("door") == 1.0
            assert plant.last("count") == -53970.0
            assert plant.rows("program")[0][1] == "P123"
            assert (plant.last("run"), plant.last("lamp")) == (1.0, 1.0)
            assert (plant.last("link"), plant.last("far")) == (7.0, 65_000.0)
            assert all(row[2] & Quality.BAD for row in plant.rows("beyond"))
            before = memory.requests
            await until(lambda: memory.requests > before + 20)
            assert len(plant.rows("speed")) == 1, "what has not changed is not stored"
        await until(lambda: plant.events(EventKind.SOURCE_LOST) > 0)
        memory.words[D][12] = 60
        async with serving(memory, port):
            await until(lambda: len(plant.rows("temperature")) > 1)
            value, _, quality = plant.rows("temperature")[-1]
            assert value == pytest.approx(6.0)
            assert quality & Quality.GAP_BEFORE


async def test_an_independent_client_reads_the_server_the_same_way(memory: Memory) -> None:
    port = free_port()

    def look() -> tuple[list[int], list[int], str]:
        client = pymcprotocol.Type3E()
        client.connect("127.0.0.1", port)
        try:
            words = client.batchread_wordunits("D10", 4)
            bits = client.batchread_wordunits("X0x10", 1)
            return words, bits, client.read_cputype()[0]
        finally:
            client.close()

    async with serving(memory, port):
        words, bits, name = await asyncio.to_thread(look)
    assert words == [0, 0x41BC, -55, 1 << 11]
    assert bits == [-(1 << 15)]
    assert name == "R04CPU"


def test_wrong_tags_are_named() -> None:
    base = {"protocol": "slmp", "id": "plc", "url": "slmp://plc"}
    for tag, told in (
        ({"path": "a/b", "address": "Q1"}, "no device 'Q1'"),
        ({"path": "a/b", "address": "D1F"}, "no device 'D1F'"),
        ({"path": "a/b", "address": "D1", "type": "real"}, "no type 'real'"),
        ({"path": "a/b", "address": "M1", "type": "int16"}, "is a bool"),
        ({"path": "a/b", "address": "D1", "type": "string"}, "a string needs"),
    ):
        with pytest.raises(Exception, match=told):
            source({**base, "tag": [tag]}, "source")


async def test_brain_connect_names_the_plc_and_its_words(tmp_path: Path, memory: Memory) -> None:
    port = free_port()
    options = Options(seconds=0.3, source="plc", pki_dir=tmp_path)
    async with serving(memory, port):
        found = await slmp.discover(f"slmp://127.0.0.1:{port}", options)
    assert found.facts[0] == ("slmp", {"name": "R04CPU", "areas": "D (960), W (32)"})
    rows = {row["address"]: row["type"] for row in found.source["tag"]}
    assert rows["D10"] == "float32"
    assert rows["D12"] == "int16"
    assert rows["W1A"] == "uint16"
    assert source({**found.source, "id": "plc"}, "source").tag
    with pytest.raises(SourceError, match="refuses port"):
        await slmp.discover(f"slmp://127.0.0.1:{free_port()}", options)
