"""node-opcua (npm, development only): a peer server that answers in its own way.

``folder`` finds it in NODE_OPCUA_DIR or installs it into the user's cache; ``server`` runs it with
variables that count ticks.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.182.2"
SCRIPT = """
const { OPCUAServer, OPCUACertificateManager, Variant, DataType } = require("node-opcua");
const [port, count, period, history, subscriptions] = process.argv.slice(2).map(Number);
const home = process.env.PKI_HOME;
(async () => {
  const manager = new OPCUACertificateManager({
    rootFolder: home + "/pki", automaticallyAcceptUnknownCertificate: true });
  const users = new OPCUACertificateManager({
    rootFolder: home + "/users", automaticallyAcceptUnknownCertificate: true });
  await manager.initialize(); await users.initialize();
  const server = new OPCUAServer({ port, hostname: "127.0.0.1", resourcePath: "/t",
    serverCertificateManager: manager, userCertificateManager: users,
    serverCapabilities: { maxSubscriptions: 50, maxMonitoredItemsPerSubscription: 20000,
      operationLimits: { maxNodesPerHistoryReadData: 30 } },
    userManager: { isValidUser: (name, word) => name === "brain" && word === "secret" } });
  await server.initialize();
  const space = server.engine.addressSpace, own = space.getOwnNamespace();
  let folder = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  for (const name of ["works", "assembly", "asm1", "Z1", "OP010"])
    folder = own.addFolder(folder, { browseName: name });
  const tickers = [];
  for (let i = 0; i < count; i++)
    tickers.push(own.addVariable({ componentOf: folder, browseName: `Tick${i}Count`,
      nodeId: `s=T${i}`, dataType: "Int32", minimumSamplingInterval: 0 }));
  const set = (tick) => { for (const t of tickers)
    t.setValueFromSource(new Variant({ dataType: DataType.Int32, value: tick })); };
  let tick = 0;
  set(0);
  if (history) for (const t of tickers)
    space.installHistoricalDataNode(t, { maxOnlineValues: history });
  const timer = setInterval(() => set(++tick), period);
  process.stdin.on("data", () => { clearInterval(timer); console.log(`final ${tick}`); });
  await server.start();
  console.log("ready");
})();
"""


def folder() -> Path | str:
    """Where node-opcua is installed, or why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node-opcua needs node and npm, which are not installed"
    given = os.environ.get("NODE_OPCUA_DIR", "")
    place = Path(given) if given else Path.home() / ".cache/workshop-brain" / f"opcua-{VERSION}"
    if (place / "node_modules/node-opcua").is_dir():
        return place
    place.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", f"node-opcua@{VERSION}"]
    try:
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        return f"node-opcua could not be installed into {place}: {error}"
    return place


@dataclass(slots=True)
class NodeServer:
    """The running peer."""

    process: asyncio.subprocess.Process

    async def final(self) -> int:
        """Stop the ticks; the last one."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"stop\n")
        return int((await self._line(b"final")).split()[1])

    async def _line(self, start: bytes) -> bytes:
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while line := await self.process.stdout.readline():
                if line.startswith(start):
                    return line
        raise RuntimeError("node-opcua ended")


@asynccontextmanager
async def server(
    place: Path, port: int, *, tickers: int = 40, period_ms: int = 250, history: int = 0,
    home: Path | None = None,
) -> AsyncIterator[NodeServer]:  # fmt: skip
    """``tickers`` Int32 variables that go up by one every ``period_ms``; with ``history`` the last
    so many values can be read back. Certificates stay in ``home``."""
    with tempfile.TemporaryDirectory(prefix="node-opcua-") as temporary:
        script = Path(temporary) / "server.js"
        script.write_text(SCRIPT)
        numbers = [str(n) for n in (port, tickers, period_ms, history)]
        process = await asyncio.create_subprocess_exec(
            "node", str(script), *numbers, cwd=place,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_PATH": str(place / "node_modules"), "HOME": temporary,
                 "XDG_CONFIG_HOME": temporary, "PKI_HOME": str(home or temporary)},
        )  # fmt: skip
        running = NodeServer(process)
        try:
            await running._line(b"ready")
            yield running
        finally:
            process.kill()
            await process.wait()
