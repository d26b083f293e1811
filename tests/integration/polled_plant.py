"""A real historian behind the collector of one polled device."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from workshop_brain.app.ingest import Ingest
from workshop_brain.connect import collector
from workshop_brain.connect.settings import SourceSettings
from workshop_brain.model.event import Event, EventKind
from workshop_brain.store.historian import Historian

UNIT = "local/works/a/l/c/u"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


@dataclass(slots=True)
class Plant:
    history: Historian
    told: list[Event] = field(default_factory=list)

    def rows(self, name: str) -> list[tuple[float, str | None, int]]:
        """(value, text, quality) of a signal of the unit."""
        if f"{UNIT}/{name}" not in {s.path for s in self.history.signals()}:
            return []
        found = self.history.query([f"{UNIT}/{name}"], 0, 1 << 62)
        columns = (found[key].to_pylist() for key in ("value", "text", "quality"))
        return list(zip(*columns, strict=True))

    def has(self, *names: str) -> bool:
        return all(self.rows(name) for name in names)

    def last(self, name: str) -> float:
        return self.rows(name)[-1][0]

    def events(self, kind: EventKind) -> int:
        return sum(event.kind is kind for event in self.told)


@asynccontextmanager
async def collected(settings: SourceSettings, folder: Path) -> AsyncIterator[Plant]:
    """The collector running into a historian below a folder."""
    with Historian(folder / "history") as history:
        plant = Plant(history)
        ingest = Ingest(
            history,
            folder / "i.sock",
            on_samples=lambda s, r: None,
            on_curve=lambda *a, **k: None,
            on_event=plant.told.append,
        )
        await ingest.start()
        stop = asyncio.Event()
        running = asyncio.create_task(
            collector.run(
                settings, enterprise="local", socket_path=folder / "i.sock",
                spool_dir=folder / "spool", stop=stop,
            )
        )  # fmt: skip
        try:
            yield plant
        finally:
            stop.set()
            await running
            await ingest.close()
