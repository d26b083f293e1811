"""110,000 OPC UA variables found and described: seconds and memory, beside one node at a time.

    python -m bench.opcua_browse [--items 110000]

The server is bench/opcua_server.py in a process of its own, with limits of 1,000 nodes in a call.
The peer is asyncua's ``get_children`` and ``read_browse_name``, node by node, on a tenth of it.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

from asyncua import Client, ua

from bench.opcua_load import load
from workshop_brain.connect.choice import Choice
from workshop_brain.connect.opcua import browse
from workshop_brain.connect.opcua.session import Session
from workshop_brain.connect.settings import OpcUaSettings


async def ours(port: int, items: int) -> None:
    """Print how long the product's browse takes."""
    with tempfile.TemporaryDirectory() as folder:
        settings = OpcUaSettings(id="b", url=f"opc.tcp://127.0.0.1:{port}")
        session = Session(settings=settings, password="", pki_dir=Path(folder))
        await session.open()
        services = session.client.uaclient.session
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        at, cpu = time.perf_counter(), time.process_time()
        limits = await browse.read_limits(services)
        found = await browse.find(
            services, root="", choice=Choice(enterprise="local"), source="b", limits=limits
        )
        took, cpu = time.perf_counter() - at, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await session.drop()
    assert len(found.items) == items, f"{len(found.items)} of {items}, skipped {found.skipped}"
    print(f"ours: {items} variables in {took:.1f} s ({cpu:.1f} s CPU), {memory // 1024} MB more")


async def node_by_node(port: int, items: int) -> None:
    """Print how long it takes one node at a time."""
    async with Client(f"opc.tcp://127.0.0.1:{port}", timeout=30) as client:
        at, seen = time.perf_counter(), 0
        waiting = [client.nodes.objects]
        while waiting:
            for child in await waiting.pop().get_children():
                await child.read_browse_name()
                if await child.read_node_class() is ua.NodeClass.Variable:
                    await child.read_data_type()
                    seen += 1
                else:
                    waiting.append(child)
        took = time.perf_counter() - at
    print(f"node by node: {seen} variables in {took:.1f} s, so {took * items / seen:.0f} s for all")


async def run(items: int) -> None:
    """Both."""
    async with load(items, 1) as server:
        await ours(server.port, items)
        end = await server.stop()
        assert end["refused"] == 0, "the limits were not kept"
    async with load(items // 10, 1) as server:
        await node_by_node(server.port, items)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=110_000)
    asyncio.run(run(parser.parse_args().items))


if __name__ == "__main__":
    main()
