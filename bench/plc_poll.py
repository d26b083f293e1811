"""Polling 400 floats of a PLC: values a second and CPU a value, beside one library read a tag.

Modbus, S7 and SLMP, each against its server in a process of its own on loopback. Ours is link,
blocks and decoding to columns as the collector does it; the peer is the loop that a script would
have: the protocol's library, one read for each tag. Rounds are interleaved, medians count, and
both must read the same values. Loopback has no latency: on a real line the loop pays it for each
tag, the blocks for each request.
"""

import asyncio
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bench.house import free_port
from workshop_brain.connect.blocks import Block, Decoder, Field, Span, plan
from workshop_brain.connect.modbus import blocks as modbus_blocks
from workshop_brain.connect.modbus import source as modbus
from workshop_brain.connect.modbus.settings import ModbusSettings, ModbusTag
from workshop_brain.connect.poller import Link
from workshop_brain.connect.s7 import blocks as s7_blocks
from workshop_brain.connect.s7 import source as s7
from workshop_brain.connect.s7.settings import S7Tag
from workshop_brain.connect.slmp import blocks as slmp_blocks
from workshop_brain.connect.slmp import source as slmp
from workshop_brain.connect.slmp.frames import Frame
from workshop_brain.connect.slmp.settings import SlmpTag

TAGS = 400
ROUNDS = 5
OUR_POLLS = 40
VALUES = np.arange(TAGS, dtype=np.float32) * np.float32(0.25) + 1


@dataclass(frozen=True, slots=True)
class Way:
    """One protocol: how we read, and how a script would."""

    dial: Callable[[int], Awaitable[Link]]
    spans: list[Span]
    fields: list[Field]
    size: int
    gap: int
    loop: Callable[[int, int], list[float]]


def with_pymodbus(port: int, polls: int) -> list[float]:
    """One read a tag."""
    from pymodbus.client import ModbusTcpClient

    client = ModbusTcpClient("127.0.0.1", port=port)
    client.connect()
    out: list[float] = []
    for _ in range(polls):
        out = []
        for k in range(TAGS):
            words = client.read_holding_registers(2 * k, count=2, device_id=1).registers
            out.append(struct.unpack(">f", struct.pack(">HH", *words))[0])
    client.close()
    return out


def with_snap7(port: int, polls: int) -> list[float]:
    """One read a tag."""
    from snap7.client import Client

    client = Client()
    client.connect("127.0.0.1", 0, 1, port)
    out: list[float] = []
    for _ in range(polls):
        out = [client.db_read_real(1, 4 * k) for k in range(TAGS)]
    client.disconnect()
    return out


def with_pymcprotocol(port: int, polls: int) -> list[float]:
    """One read a tag."""
    import pymcprotocol

    client = pymcprotocol.Type3E()
    client.connect("127.0.0.1", port)
    out: list[float] = []
    for _ in range(polls):
        out = []
        for k in range(TAGS):
            words = client.batchread_wordunits(f"D{2 * k}", 2)
            out.append(struct.unpack("<f", struct.pack("<hh", *words))[0])
    client.close()
    return out


def ways() -> dict[str, Way]:
    """All three protocols."""
    m = [ModbusTag(path=f"a/t{k}", address=2 * k, type="float32") for k in range(TAGS)]
    s = [S7Tag(path=f"a/t{k}", address=f"DB1.DBD{4 * k}", type="REAL") for k in range(TAGS)]
    d = [SlmpTag(path=f"a/t{k}", address=f"D{2 * k}", type="float32") for k in range(TAGS)]

    def modbus_dial(port: int) -> Awaitable[Link]:
        url = f"modbus://127.0.0.1:{port}"
        return modbus.dial(ModbusSettings(id="plc", url=url, tag=tuple(m)))

    return {
        "modbus": Way(
            modbus_dial, [modbus_blocks.span(t, 100) for t in m],
            [modbus_blocks.meaning(t) for t in m], 2, 8, with_pymodbus,
        ),
        "s7": Way(
            lambda port: s7.dial(f"s7://127.0.0.1:{port}", 0, 1, 2.0),
            [s7_blocks.span(t, 100) for t in s],
            [s7_blocks.meaning(t, "latin-1") for t in s], 1, 32, with_snap7,
        ),
        "slmp": Way(
            lambda port: slmp.dial(f"slmp://127.0.0.1:{port}", Frame()),
            [slmp_blocks.span(t, 100) for t in d],
            [slmp_blocks.meaning(t) for t in d], 2, 32, with_pymcprotocol,
        ),
    }  # fmt: skip


def ours(way: Way, port: int, polls: int) -> tuple[list[float], int]:
    """Values of the last poll in the order of the tags, and requests for a poll."""

    async def run() -> tuple[list[float], int]:
        link = await way.dial(port)
        blocks: list[Block] = plan(way.spans, way.gap, link.most)
        decoders = [Decoder.of(block, way.spans, way.fields, way.size) for block in blocks]
        last = np.zeros(TAGS)
        for _ in range(polls):
            for decoder in decoders:
                last[decoder.tags] = decoder.numbers(await link.read(decoder.block))
        await link.close()
        return last.tolist(), len(blocks)

    return asyncio.run(run())


# --- servers ---


def serve(name: str, port: int) -> None:
    """Be the PLC until killed."""
    if name == "s7":
        from snap7.server import Server
        from snap7.type import SrvArea

        server = Server(log=False)
        server.register_area(SrvArea.DB, 1, bytearray(VALUES.astype(">f4").tobytes()))
        server.start_to("127.0.0.1", port)
        time.sleep(3600)
    elif name == "slmp":
        from bench.slmp_server import Memory, serving

        async def slmp_plc() -> None:
            async with serving(Memory({0xA8: VALUES.astype("<f4").view("<u2")}), port):
                await asyncio.sleep(3600)

        asyncio.run(slmp_plc())
    else:
        from pymodbus.server import StartTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        values = VALUES.astype(">f4").view(">u2").tolist()
        data = SimData(0, values=values, datatype=DataType.REGISTERS)
        StartTcpServer(SimDevice(1, simdata=[data]), address=("127.0.0.1", port))


@contextmanager
def server(name: str) -> Iterator[int]:
    """A server in its own process; its port."""
    port = free_port()
    command = [sys.executable, "-m", "bench.plc_poll", "--serve", name, str(port)]
    process = subprocess.Popen(command)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def wait_for(way: Way, port: int) -> int:
    """Requests for a poll, once the server answers."""
    for _ in range(100):
        try:
            return ours(way, port, 1)[1]
        except Exception:  # noqa: BLE001 - each protocol says in its own way that nobody is there
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


def main() -> None:
    """Print both ways of each protocol."""
    print(f"{TAGS} float32 tags, loopback, medians of {ROUNDS} interleaved rounds")
    print(
        f"{'protocol':8} {'requests':>8} {'tags/s':>10} {'us CPU/tag':>10}   {'one read a tag':>26}"
    )
    for name, way in ways().items():
        with server(name) as port:
            requests = wait_for(way, port)
            rows: dict[str, list[tuple[float, float]]] = {"ours": [], "loop": []}
            for _ in range(ROUNDS):
                for kind, polls in (("ours", OUR_POLLS), ("loop", 1)):
                    wall, cpu = time.perf_counter(), time.process_time()
                    if kind == "ours":
                        values, _ = ours(way, port, polls)
                    else:
                        values = way.loop(port, polls)
                    each = polls * TAGS
                    took = time.perf_counter() - wall, time.process_time() - cpu
                    rows[kind].append((each / took[0], took[1] / each * 1e6))
                    assert values == VALUES.tolist(), f"{name}, {kind}: other values"
        (rate, cpu), (loop_rate, loop_cpu) = (
            tuple(statistics.median(column) for column in zip(*rows[kind], strict=True))
            for kind in ("ours", "loop")
        )
        print(
            f"{name:8} {requests:8} {rate:10,.0f} {cpu:10.2f}   {loop_rate:10,.0f}/s "
            f"{loop_cpu:8.1f} us   {rate / loop_rate:.0f}x the rate, 1/{loop_cpu / cpu:.0f} CPU",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main()
