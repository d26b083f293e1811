"""sparkplug-client (npm, development only): an edge node that is not ours.

``folder`` finds it in NODE_SPARKPLUG_DIR or installs it into the user's cache; ``edge`` runs it
with one device whose metrics count ticks, sent by alias.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.2.4"
SCRIPT = """
const { newClient } = require("sparkplug-client");
const [port, period] = process.argv.slice(1, 3).map(Number);
const compress = process.argv[3] === "compress";
const client = newClient({ serverUrl: `mqtt://127.0.0.1:${port}`, groupId: "shop",
  edgeNode: "press", clientId: "press-edge", username: "", password: "", version: "spBv1.0",
  publishDeath: true });
const tell = (word, more) => console.log(JSON.stringify({ word, ...more }));
let tick = 0, born = false, commands = 0;
const row = (name, alias, type, value, data) =>
  ({ ...(data ? {} : { name }), alias, type, value, timestamp: Date.now() });
const rows = (data) => [
  row("Tick Count", 1, "Int64", tick, data), row("Half", 2, "Double", tick / 2, data),
  row("Even", 3, "Boolean", tick % 2 === 0, data), row("Minus", 4, "Int32", -tick, data),
  row("Word", 5, "String", `t${tick}`, data) ];
const birth = () => {
  client.publishNodeBirth({ timestamp: Date.now(), metrics: [
    { name: "Node Control/Rebirth", type: "Boolean", value: false, timestamp: Date.now() },
    { name: "Temperature", alias: 9, type: "Float", value: 21.5, timestamp: Date.now() } ] },
    { compress });
  client.publishDeviceBirth("ram", { timestamp: Date.now(), metrics: rows(false) }, { compress });
  born = true;
  tell("born", { tick });
};
client.on("birth", birth);
client.on("ncmd", (payload) => { commands++; tell("command",
  { metrics: payload.metrics.map((m) => [m.name, m.value]) }); birth(); });
const timer = setInterval(() => { if (born) { tick++;
  client.publishDeviceData("ram", { timestamp: Date.now(), metrics: rows(true) },
    { compress }); } }, period);
process.stdin.on("data", (data) => { for (const word of String(data).trim().split("\\n")) {
  if (word === "skip") client.addSeqNumber({});
  if (word === "hold") { clearInterval(timer); tell("held", { tick }); }
  if (word === "ram dies") client.publishDeviceDeath("ram", { timestamp: Date.now(), metrics: [] });
  if (word === "stop") { clearInterval(timer); client.stop(); setTimeout(process.exit, 300); }
} });
"""


def folder() -> Path | str:
    """Where sparkplug-client is installed, or why there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "sparkplug-client needs node and npm, which are not installed"
    given = os.environ.get("NODE_SPARKPLUG_DIR", "")
    place = Path(given) if given else Path.home() / ".cache/workshop-brain" / f"sparkplug-{VERSION}"
    if (place / "node_modules/sparkplug-client").is_dir():
        return place
    place.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", f"sparkplug-client@{VERSION}"]
    try:
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        return f"sparkplug-client could not be installed into {place}: {error}"
    return place


@dataclass(slots=True)
class NodeEdge:
    """The running edge node."""

    process: asyncio.subprocess.Process

    def say(self, word: str) -> None:
        """``skip`` a sequence number, ``hold`` the ticks, ``ram dies``, ``stop``."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    async def told(self, word: str) -> dict[str, object]:
        """The next line of a kind: ``born``, ``command`` or ``held``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self.process.stdout.readline():
                said: dict[str, object] = json.loads(line)
                if said["word"] == word:
                    return said
        raise EOFError(f"the edge node ended before it said {word!r}")


@asynccontextmanager
async def edge(
    place: Path, port: int, *, period_ms: int = 20, compress: bool = False
) -> AsyncIterator[NodeEdge]:
    """Run the edge node ``shop/press`` with its device ``ram`` at a broker of this host."""
    process = await asyncio.create_subprocess_exec(
        "node", "-e", SCRIPT, str(port), str(period_ms), "compress" if compress else "plain",
        cwd=place, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield NodeEdge(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
