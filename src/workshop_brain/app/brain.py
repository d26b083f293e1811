"""The brain process: joins store, live, decisions and ways out. The screens are put on top.

Order of life: locks and stores first, then the ingest socket, then decisions; on the way out
nothing that was acknowledged is lost.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workshop_brain.app.collectors import Collectors
from workshop_brain.app.decide import DecideOptions, Decider
from workshop_brain.app.desk import OrderDesk, WorkList
from workshop_brain.app.gate import Gate
from workshop_brain.app.ingest import Ingest, SourceStatus
from workshop_brain.app.job_book import RecordsBook
from workshop_brain.app.pace import PaceMeter
from workshop_brain.app.plant_clock import PlantClock
from workshop_brain.app.push import Push
from workshop_brain.app.watch import Watch
from workshop_brain.config import Settings
from workshop_brain.connect.rejected import Shelf
from workshop_brain.dispatch.open import open_dispatchers
from workshop_brain.errors import BrainError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.plant import Plant
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

log = logging.getLogger(__name__)
_TICK_S = 1.0
_MISSED_S = 60
_FIRST_STAMP_S = 20.0


class Brain:
    """Everything of one brain but its screens.

    Parameters
    ----------
    announce
        Takes every event that people may want to see, in the event loop's thread.
    """

    def __init__(
        self, settings: Settings, data: Path, *, announce: Callable[[Event], None]
    ) -> None:
        self.settings, self.data = settings, data
        self.plant: Plant = settings.plant
        self.clock = PlantClock()
        self.historian = Historian(data / "historian", settings=settings.history)
        self.records = Records(data / "records.sqlite", enterprise=self.plant.enterprise)
        self.ledger = Ledger(data / "ledger", anchor=self.records.anchor())
        self.watch = Watch(self.plant)
        self.pace = PaceMeter(self.plant, self.watch)
        self._announce = announce
        self._feeds: dict[str, frozenset[str]] = {}
        stops = self._restore()
        self.ingest = Ingest(
            historian=self.historian,
            address=data / "run" / "ingest.sock",
            on_samples=self._on_samples,
            on_curve=self.historian.append_curve,
            on_event=self._on_event,
            on_declared=self._on_declared,
            on_status=self._on_status,
            owner=self._owner,
            kind=self._kind,
            expected=tuple((s.id, s.protocol) for s in settings.sources),
        )
        self.gate: Gate | None = None
        if settings.ingest.listen:
            self.gate = Gate(
                self.ingest,
                Collectors(data / "pki" / "collectors"),
                settings.ingest.listen,
                settings.ingest.lost_s,
            )
        self.push = Push(
            enterprise=self.plant.enterprise,
            ingest=self.ingest,
            live=self.watch.live,
            clock=self.clock,
            kept=Shelf(data),
        )
        dispatchers = open_dispatchers(settings.dispatch, book=RecordsBook(self.records))
        self.decider = Decider(
            plant=self.plant,
            autonomy=settings.autonomy,
            envelope=settings.envelope,
            dispatch=settings.dispatch,
            dispatchers=dispatchers,
            records=self.records,
            ledger=self.ledger,
            clock=self.clock,
            plans_dir=data / "plans",
            sources=self.ingest.sources,
            feeds=lambda: self._feeds,
            announce=announce,
            options=DecideOptions(),
            stops=stops,
            planning=settings.planning,
            pace=lambda: self.pace.now,
        )
        self.orders = OrderDesk(self.plant, self.records, self.ledger, self.decider)
        self.work_list = WorkList(dispatchers, self.clock)
        self._stamped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _restore(self) -> list[Event]:
        """Signals and last values as they were; all stale until their source is back.

        Returns the stops of units that had not ended.
        """
        signals = self.historian.signals()
        self.watch.extend(signals)
        self._note_feeds(signals)
        stops = self.watch.restore(*self.historian.last_values())
        for source in {s.id for s in self.settings.sources} | {s.source for s in signals}:
            self.watch.live.source_lost(source)
        return stops

    # -- life -------------------------------------------------------------------------------

    async def start(self, *, orders: Path | None = None) -> None:
        """Take collectors in, decide, import a first order file when one is named."""
        self.ledger.append("start", {"version": 1, "plant": self.plant.site})
        await self.ingest.start()
        if self.gate is not None:
            await self.gate.start()
        self._tasks = [
            asyncio.create_task(self._decide(), name="decide"),
            asyncio.create_task(self._tick(), name="tick"),
            asyncio.create_task(self._recall(), name="recall"),
        ]
        if orders is not None:
            self._tasks.append(asyncio.create_task(self._import(orders), name="import"))

    async def stop(self) -> None:
        """Stop deciding, take the last batches in, close the stores."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self.gate is not None:
            await self.gate.close()
        await self.ingest.close()
        await asyncio.to_thread(self.push.kept.save)
        with suppress(BrainError):
            self.ledger.append("stop", {})
        await asyncio.to_thread(self.historian.close)
        self.ledger.close()
        self.records.close()

    async def _recall(self) -> None:
        """Counts and states from before this start, read back beside the running house."""
        try:
            found = await asyncio.to_thread(self.watch.recaller(self.historian))
        except BrainError as error:
            log.error("counts and states of before the start are not shown: %s", error)
            return
        self.watch.recall(found)

    async def _decide(self) -> None:
        """The decision loop; when it fails it is started again, and the plan in force stays.

        It begins with the first source time stamp, for before that plant time is a guess; without
        any source in sight it begins after a while all the same.
        """
        await self._first_stamp()
        while True:
            try:
                await self.decider.run()
            except Exception:
                # The edge of a supervised task: reading and keeping signals must go on.
                log.exception("the decision loop failed; starting it again")
            await asyncio.sleep(1.0)

    async def _first_stamp(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_STAMP_S if self.settings.sources else 0):
                await self._stamped.wait()

    async def _tick(self) -> None:
        await self._first_stamp()
        while True:
            await asyncio.sleep(_TICK_S)
            now_ns = self.clock.plant_ns()
            self._tell(self.watch.tick(now_ns))
            if self.settings.planning.measured:
                listed, orders = self.decider.state.listed, self.decider.known_orders()
                self.pace.observe(now_ns, listed, orders)

    async def _import(self, path: Path) -> None:
        """The first orders; the file may still be on its way."""
        await self._first_stamp()
        waited_s = 0
        while not await asyncio.to_thread(path.exists):
            waited_s += 1
            if waited_s % _MISSED_S == 0:
                log.warning("order file %s has not come for %d s; still waiting", path, waited_s)
            await asyncio.sleep(1.0)
        try:
            count = await self.orders.import_path(path)
            log.info("%d orders imported from %s", count, path)
        except BrainError as error:
            log.error("orders not imported: %s", error)

    # -- in ---------------------------------------------------------------------------------

    def _on_samples(self, samples: Samples, received_ns: int) -> None:
        fresh = samples.quality & Quality.HISTORICAL == 0
        if fresh.any():
            self.clock.observe(int(samples.time_ns[fresh].max()), received_ns)
            self._stamped.set()
        plant_ns = self.clock.plant_ns() if self.clock.is_set else None
        self._tell(self.watch.on_samples(samples, received_ns, plant_ns=plant_ns))

    def _tell(self, events: list[Event]) -> None:
        if events:
            self.decider.on_events(events)
            for event in events:
                self._announce(event)

    def _on_event(self, event: Event) -> None:
        self.watch.on_source_event(event)
        self._tell([event])

    def _owner(self, path: str) -> str:
        live = self.watch.live
        return live.signals[live.ids[path]].source if path in live.ids else ""

    def _kind(self, path: str) -> SignalKind | None:
        live = self.watch.live
        return live.signals[live.ids[path]].kind if path in live.ids else None

    def _on_declared(self, ids: list[int], signals: list[SignalDef]) -> None:
        self.watch.on_declared(ids, signals)
        self._note_feeds(signals)

    def _note_feeds(self, signals: list[SignalDef]) -> None:
        """Which sources feed a work center: those of the signals at its units and lines."""
        feeds = {center: set(sources) for center, sources in self._feeds.items()}
        prefix = {
            "/".join(unit.path.split("/")[:4]) + "/": center.id
            for center in self.plant.work_centers
            for unit in center.units
        }
        for signal in signals:
            center = prefix.get("/".join(signal.path.split("/")[:4]) + "/")
            if center is not None and signal.source:
                feeds.setdefault(center, set()).add(signal.source)
        self._feeds = {center: frozenset(sources) for center, sources in feeds.items()}

    def _on_status(self, status: SourceStatus) -> None:
        if status.state == "up":
            self.watch.live.source_up(status.id)
        else:
            self.watch.live.source_lost(status.id)
        kind = EventKind.SOURCE_UP if status.state == "up" else EventKind.SOURCE_LOST
        event = Event(
            time_ns=self.clock.plant_ns(), kind=kind, path=status.id, payload={"by": "ingest"}
        )
        self.decider.on_events([event])
        self._announce(event)

    # -- views ------------------------------------------------------------------------------

    def sources(self) -> list[dict[str, Any]]:
        """Status of every source, for the screens."""
        now = time.time_ns()
        rows = []
        for status in self.ingest.sources():
            row = asdict(status)
            row["silent_s"] = (now - status.last_sample_ns) / 1e9 if status.last_sample_ns else None
            rows.append(row)
        return rows
