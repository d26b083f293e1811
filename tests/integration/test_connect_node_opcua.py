"""Cuts against node-opcua, a peer that answers in its own way; skipped where it is not installed.

Set NODE_OPCUA_DIR to a folder in which ``npm install node-opcua`` was run.
"""

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = os.environ.get("NODE_OPCUA_DIR", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER or shutil.which("node") is None,
        reason="needs node and NODE_OPCUA_DIR, a folder with node-opcua installed",
    ),
]

SERVER = """
const { OPCUAServer, Variant, DataType } = require("node-opcua");
(async () => {
  const server = new OPCUAServer({ port: Number(process.argv[2]), hostname: "127.0.0.1",
    serverCertificateManager: undefined, resourcePath: "/t" });
  await server.initialize();
  const space = server.engine.addressSpace, own = space.getOwnNamespace();
  const plant = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  let folder = plant;
  for (const name of ["works", "assembly", "asm1", "Z1", "OP010"])
    folder = own.addFolder(folder, { browseName: name });
  const tickers = [];
  for (let i = 0; i < 40; i++)
    tickers.push(own.addVariable({ componentOf: folder, browseName: `Tick${i}Count`,
      nodeId: `s=T${i}`, dataType: "Int32", minimumSamplingInterval: 0 }));
  for (const t of tickers)
    t.setValueFromSource(new Variant({ dataType: DataType.Int32, value: 0 }));
  let tick = 0;
  setInterval(() => { tick++; for (const t of tickers)
    t.setValueFromSource(new Variant({ dataType: DataType.Int32, value: tick })); }, 250);
  await server.start();
  console.log("ready");
})();
"""


def _helpers() -> ModuleType:
    path = Path(__file__).with_name("test_connect_opcua.py")
    spec = importlib.util.spec_from_file_location("connect_opcua_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def node_server(tmp_path: Path, port: int) -> AsyncIterator[None]:
    script = tmp_path / "server.js"
    script.write_text(SERVER)
    process = await asyncio.create_subprocess_exec(
        "node", str(script), str(port), cwd=FOLDER, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_PATH": str(Path(FOLDER) / "node_modules"),
             "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while line := await process.stdout.readline():
                if b"ready" in line:
                    break
        yield
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("kind", ["rst", "stall", "stall_and_kill"])
async def test_no_tick_of_node_opcua_is_lost_in_a_cut(tmp_path: Path, kind: str) -> None:
    h = _helpers()
    kept, port = h.Kept(), h.free_port()
    proxy = h.Proxy(port)
    await proxy.start()
    async with node_server(tmp_path, port), h.collecting(tmp_path, proxy.port, kept):
        await h.until(lambda: len(kept.rows("/tick0_count")) > 5)
        first = int(kept.rows("/tick0_count")[0][1])
        await getattr(h, f"_{kind}")(proxy)
        final = int(kept.rows("/tick0_count")[-1][1])
        await h.until(lambda: kept.rows("/tick0_count")[-1][1] >= final + 20)
        await asyncio.sleep(0.5)
        h.check_every_tick(kept, first, final + 18)
        assert kept.gaps() == []
    await proxy.close()
