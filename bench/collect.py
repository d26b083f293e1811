"""The product's collector process with the ingest and historian that it hands over to."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from workshop_brain.app.ingest import Ingest
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Samples
from workshop_brain.store.historian import Historian


@dataclass(slots=True)
class Collecting:
    """A collector at work.

    Attributes
    ----------
    rows
        Samples that came in so far.
    """

    history: Historian
    ingest: Ingest
    pid: int = 0
    rows: int = 0
    events: list[Event] = field(default_factory=list)

    def gaps(self) -> list[dict[str, object]]:
        """What was said of gaps."""
        return [e.payload for e in self.events if e.kind is EventKind.GAP]

    async def until(self, rows: int, seconds: float = 60.0) -> None:
        """Wait for so many samples; TimeoutError when they do not come."""
        async with asyncio.timeout(seconds):
            while self.rows < rows:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def collecting(folder: Path, source: dict[str, object]) -> AsyncIterator[Collecting]:
    """Run the collector of one source; its log is ``folder/collector.log``."""
    (folder / "run").mkdir(parents=True)
    with Historian(folder / "historian") as history:
        work: Collecting

        def on_samples(samples: Samples, _received_ns: int) -> None:
            work.rows += len(samples)

        ingest = Ingest(
            history, folder / "run" / "ingest.sock", on_samples=on_samples,
            on_curve=lambda curve, *, source, session, seq: None,
            on_event=lambda event: work.events.append(event),
        )  # fmt: skip
        work = Collecting(history, ingest)
        await ingest.start()
        with (folder / "collector.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workshop_brain", "process", "collector", "--source",
                json.dumps(source), "--enterprise", "local", "--data", str(folder),
                stdin=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
            work.pid = process.pid
            try:
                yield work
            finally:
                process.terminate()
                await process.wait()
                await ingest.close()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, user and system, all threads."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
