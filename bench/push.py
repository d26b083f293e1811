"""Pushed bodies to durable, Arrow beside JSON, over real HTTP into a real history; sample files.

Each body has 50,000 rows of 500 signals. A second of each is spent warming up.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import pyarrow as pa

from workshop_brain import config
from workshop_brain.app.brain import Brain
from workshop_brain.connect.files.read import blocks, look
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.stamps import LAST_NS
from workshop_brain.web.api import create_app
from workshop_brain.web.events import EventFeed
from workshop_brain.web.serve import _services
from workshop_brain.web.server import Server, listen

ROWS, SIGNALS, BODIES = 50_000, 500, 20
PLANT = """
[plant]
site = "works"
[[work_center]]
id = "press"
area = "shop"
units = [{ id = "p1" }]
"""


def columns(number: int) -> dict[str, list[object]]:
    """One body's columns, newer with each number."""
    start = time.time_ns() + number * ROWS
    return {
        "path": [f"works/p{k % SIGNALS}/force" for k in range(ROWS)],
        "time_ns": [start + k for k in range(ROWS)],
        "value": np.random.default_rng(number).random(ROWS).round(3).tolist(),
    }


def as_arrow(body: dict[str, list[object]]) -> bytes:
    """The body as an Arrow stream."""
    table, sink = pa.table(body), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


async def pushed(client: httpx.AsyncClient, kind: str, bodies: list[bytes]) -> None:
    """Send bodies one after the other and print rows a second and the longest answer."""
    took = []
    for body in bodies:
        began = time.perf_counter()
        answer = await client.post("samples", content=body, headers={"Content-Type": kind})
        took.append(time.perf_counter() - began)
        assert answer.json()["taken"] == ROWS, answer.text
    rate = ROWS * len(took[3:]) / sum(took[3:])
    print(
        f"push {kind.rsplit('/')[-1]:30} {rate:10,.0f} rows/s durable, "
        f"slowest {max(took[3:]):.3f} s"
    )


async def over_http(data: Path) -> None:
    """A brain with its server in this process."""
    brain = Brain(config.parse(PLANT, origin="bench"), data, announce=lambda event: None)
    await brain.start()
    door = listen("127.0.0.1", 0)
    services = _services(brain, EventFeed(), "127.0.0.1")
    services.sign_in = False
    server = Server(create_app(services), door)
    serving = asyncio.create_task(server.run_until_stopped())
    await server.listening.wait()
    url = f"http://127.0.0.1:{door.getsockname()[1]}/api/v1/"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        arrow = [as_arrow(columns(k)) for k in range(BODIES)]
        await pushed(client, "application/vnd.apache.arrow.stream", arrow)
        json = [orjson.dumps(columns(BODIES + k)) for k in range(BODIES)]
        await pushed(client, "application/json", json)
    server.should_exit = True
    await brain.stop()
    await serving


def files(folder: Path) -> None:
    """Cells a second of a wide CSV file, read to columns."""
    path, width, length = folder / "wide.csv", 50, 20_000
    rows = np.random.default_rng(1).random((length, width)).round(3)
    lines = ["time," + ",".join(f"s{k}" for k in range(width))]
    stamp = "2026-03-01T{:02d}:{:02d}:{:02d}.{:03d}Z"
    for k, row in enumerate(rows.tolist()):
        at = stamp.format(k // 36_000 % 24, k // 600 % 60, k // 10 % 60, k % 10 * 100)
        lines.append(f"{at}," + ",".join(map(str, row)))
    path.write_text("\n".join(lines))
    began = time.process_time()
    options = FilesSettings(id="f", folder=str(folder))
    count = sum(len(b.rows) for b in blocks(path, look(path), options, latest_ns=LAST_NS))
    took = time.process_time() - began
    assert count == width * length
    print(
        f"wide CSV of {path.stat().st_size / 1e6:.1f} MB     {count / took:16,.0f} cells/s of CPU"
    )


def main() -> None:
    """Print all three."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(over_http(Path(folder) / "data"))
        files(Path(folder))


if __name__ == "__main__":
    main()
