"""How long it takes to know what an OPC UA server has: browse, types, units, beside a plain walk.

    python -m bench.discovery [--tags 12000]

The peer is node-opcua; the floor is asyncua's one-node-at-a-time walk on a tenth of the tags.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from asyncua import Client, Node, ua

from bench import node_opcua
from bench.house import free_port
from workshop_brain.connect.discovery import opcua
from workshop_brain.connect.discovery.options import Options

WATCH_S = 1.0


async def _discovered(url: str, folder: Path) -> tuple[int, float]:
    """(signals, seconds without the time in which values are watched)."""
    given = Options(
        seconds=WATCH_S, source="bench", pki_dir=folder / "pki", trust=lambda certificate: True
    )
    begin = time.perf_counter()
    found = await opcua.discover(url, given)
    return len(found.proposals), time.perf_counter() - begin - WATCH_S


async def _walked(url: str) -> tuple[int, float]:
    """The same facts asked node by node."""
    begin = time.perf_counter()
    count = 0
    async with Client(url, timeout=60) as client:
        open_: list[Node] = [await client.nodes.objects.get_child(f"{1}:Plant")]
        while open_:
            node = open_.pop()
            for child in await node.get_children():
                if await child.read_node_class() == ua.NodeClass.Variable:
                    await child.read_browse_name()
                    await child.read_data_type()
                    count += 1
                else:
                    open_.append(child)
    return count, time.perf_counter() - begin


async def main(tags: int) -> None:
    """Print a line for each."""
    place = node_opcua.folder()
    if isinstance(place, str):
        raise SystemExit(place)
    for n, measure in ((tags, "discover"), (tags // 10, "discover"), (tags // 10, "walk")):
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            async with node_opcua.server(place, port, tickers=n, period_ms=1000):
                url = f"opc.tcp://127.0.0.1:{port}/t"
                if measure == "discover":
                    found, seconds = await _discovered(url, Path(folder))
                else:
                    found, seconds = await _walked(url)
        print(
            f"{measure}: {found:,} tags in {seconds:.2f} s ({1e3 * seconds / found:.3f} ms a tag)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=12_000)
    asyncio.run(main(parser.parse_args().tags))
