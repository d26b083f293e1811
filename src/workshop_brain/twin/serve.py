"""The plant process: the simulation behind OPC UA, Sparkplug edge nodes and the demo control."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workshop_brain.errors import BrainError
from workshop_brain.model.order import JobState
from workshop_brain.model.plant import Plant
from workshop_brain.model.state import StopReason
from workshop_brain.process import stop_requested
from workshop_brain.twin.commands import Command
from workshop_brain.twin.control import ControlServer, ControlSurface
from workshop_brain.twin.curves import cycle_curves
from workshop_brain.twin.journal import (
    FASTEST,
    BirthNumbers,
    Journal,
    Pace,
    WallClock,
    told_speed,
    write_orders,
)
from workshop_brain.twin.opcua_server import PlantServer
from workshop_brain.twin.orders import order_book
from workshop_brain.twin.record import NO_RECORD, FileRecord, Recorder
from workshop_brain.twin.signals import PUBLISH_NS, Signals
from workshop_brain.twin.sim import PlantSim
from workshop_brain.twin.sparkplug_edge import EdgeNode, broker_address
from workshop_brain.units import NS_PER_MS, NS_PER_S

TICK_S = 0.02
JOBS_EVERY_S = 0.2
ORDER_DAYS = 14
FIRST_STRIDE_NS = 100 * NS_PER_MS
MOST_STRIDE_NS = 60 * NS_PER_S
"""Longest piece of plant time published at once at speed "max"."""
BACKLOG = 256 * 1024
"""Bytes that may wait for the broker, per edge node, before the plant waits too."""
DRAIN_S = 5.0
NOTE_EVERY_S = 1.0
"""How often the journal learns how far a plant at speed "max" has come; a restart after a kill
repeats at most this much, with the same values at the same plant times."""
_LAST_WORDS_S = 0.6
"""Left to the subscriptions and edge nodes to send what was measured before the stop."""
PRIMARY_HOST = "workshop-brain"
_STANDING = frozenset(
    {
        StopReason.SETUP,
        StopReason.BREAKDOWN,
        StopReason.TOOL_CHANGE,
        StopReason.QUALITY_STOP,
        StopReason.NO_OPERATOR,
        StopReason.MAINTENANCE,
    }
)

log = logging.getLogger(__name__)


class PlantProcess:
    """One running plant: plant clock, simulation and everything that publishes it.

    Parameters
    ----------
    speed
        Plant seconds per second; FASTEST for as fast as servers and edge nodes can publish.
    start_ns
        Plant time at the start; None for the wall clock, so that at speed 1 both agree.
    journal
        Directory in which the day is kept; a restart goes on with it.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        opcua_port: int,
        mqtt_url: str,
        control_port: int,
        speed: float = 1.0,
        rate: float = 1.0,
        seed: int = 1,
        record: Path | None = None,
        journal: Path | None = None,
        start_ns: int | None = None,
        primary_host: str = PRIMARY_HOST,
        user: str = "",
        password: str = "",
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be > 0, got {speed}")
        self._wall = WallClock()
        self._journal = Journal(journal)
        self.record: Recorder = FileRecord(record) if record is not None else NO_RECORD
        self._pace, self.sim = self._wake(plant, seed, speed, start_ns)
        if journal is not None:
            book = order_book(plant, seed, self.sim.start_ns, ORDER_DAYS)
            write_orders(journal / "orders.csv", book)
        self.signals = Signals(self.sim, seed=seed, rate=rate)
        self._seed = seed
        address = broker_address(mqtt_url)
        self._mqtt_url = mqtt_url
        birth_numbers = BirthNumbers(None if journal is None else journal / "bdseq.json")
        ids = np.array([self.record.declare(p) for p in self.signals.path], np.int64)
        self.nodes = [
            EdgeNode(
                self.sim,
                self.signals,
                node,
                group=sparkplug_group(plant, self.sim),
                address=address,
                primary_host=primary_host,
                record=self.record,
                record_ids=ids,
                apply=self.apply,
                birth_numbers=birth_numbers,
            )
            for node in self.signals.nodes
        ]
        self._node_of = {
            device: edge
            for edge, node in zip(self.nodes, self.signals.nodes, strict=True)
            for device in node.devices
        }
        self.opcua = PlantServer(
            self.sim,
            self.apply,
            port=opcua_port,
            user=user,
            password=password,
            record=self.record,
        )
        surface = ControlSurface(
            devices=self.sim.devices,
            apply=self.apply,
            status=self.status,
            set_speed=self.set_speed,
        )
        self.control = ControlServer(surface, port=control_port)
        self._publishing = asyncio.Lock()
        self._changes = 0
        self._rate = (time.monotonic(), 0, 0.0)
        self._stride_ns = FIRST_STRIDE_NS
        self._noted = 0.0

    # --- time ---

    def _wake(
        self, plant: Plant, seed: int, speed: float, start_ns: int | None
    ) -> tuple[Pace, PlantSim]:
        """The plant as the journal says it is now, or a new day."""
        wall_ns = self._wall.now_ns()
        day = None if start_ns is not None else self._journal.load(plant, seed, wall_ns)
        if day is None:
            begin = wall_ns if start_ns is None else start_ns
            sim = PlantSim(plant, seed=seed, start_ns=begin)
            # building the warm plant takes its time; the clock starts when it stands
            wall_ns = self._wall.now_ns()
            plant_ns = wall_ns if start_ns is None and speed == 1.0 else begin
            pace = Pace(wall_ns=wall_ns, plant_ns=plant_ns, speed=speed)
            self._journal.begin(plant, seed, begin)
            self._journal.pace(pace)
        else:
            sim = PlantSim(plant, seed=seed, start_ns=day.start_ns)
            for time_ns, command in day.commands:
                sim.advance(time_ns)
                sim.command(command)
            pace = day.pace
            sim.advance(pace.plant_at(self._wall.now_ns()))
            if speed != day.asked_speed:
                pace = Pace(wall_ns=self._wall.now_ns(), plant_ns=sim.now_ns, speed=speed)
                self._journal.pace(pace)
            log.info("going on with the day that began at %d ns", day.start_ns)
        self._journal.run(speed)
        sim.drain_cycles()
        return pace, sim

    def plant_now(self) -> int:
        """Plant time now, ns."""
        return self._pace.plant_at(self._wall.now_ns())

    def set_speed(self, speed: float) -> None:
        """Change the pace from now on."""
        wall_ns = self._wall.now_ns()
        plant_ns = max(self._pace.plant_at(wall_ns), self.sim.now_ns)
        self._pace = Pace(wall_ns=wall_ns, plant_ns=plant_ns, speed=speed)
        self._journal.pace(self._pace)

    # --- what happens ---

    async def apply(self, command: Command) -> str:
        """Carry out a command at plant now and publish what it changed at once."""
        self.sim.advance(self.plant_now())
        self._journal.command(self.sim.now_ns, command)
        reason = self.sim.command(command)
        await self.publish_changes()
        return reason

    async def publish_changes(self) -> None:
        """Write every change since the last time to OPC UA, curves to Sparkplug."""
        async with self._publishing:
            changes = self.sim.drain_changes()
            if len(changes):
                self._changes += len(changes)
                await self.opcua.push(changes)
            cycles = self.sim.drain_cycles()
            if len(cycles):
                for device, curve in cycle_curves(self.sim, cycles, seed=self._seed):
                    self._node_of[device].send_curve(device, curve)

    async def run(self, stop: asyncio.Event, ready: Callable[[dict[str, Any]], None]) -> None:
        """Publish until ``stop``; ``ready`` is called once everything listens."""
        tasks: list[asyncio.Task[None]] = []
        stopping = asyncio.create_task(stop.wait())
        try:
            self._compile()
            await self.opcua.start()
            tasks.append(asyncio.create_task(self.control.run()))
            tasks += [asyncio.create_task(node.run()) for node in self.nodes]
            tasks.append(asyncio.create_task(self._tick(stop)))
            ready(self.addresses())
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a part that ended by itself has failed: say why
        finally:
            stop.set()
            stopping.cancel()
            await self._end(tasks)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self.control.stop()
        await asyncio.sleep(_LAST_WORDS_S)
        for task in tasks[1:]:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await asyncio.gather(*tasks, return_exceptions=True)
        await self.opcua.stop()
        self.close()

    def close(self) -> None:
        """Give ports and files back."""
        if self._pace.speed == FASTEST:
            self._journal.pace(self._reached())
        self.control.close()
        self.record.close()
        self._journal.close()

    def _compile(self) -> None:
        """Run each kernel once, so that none compiles while the plant runs."""
        from workshop_brain.twin.sparkplug_wire import data_payload

        self.signals.values(self.sim.now_ns)
        one = np.zeros(1, np.int64)
        data_payload(
            time_ms=0,
            seq=0,
            signal=one,
            alias=one,
            datatype=np.full(1, 10, np.uint8),
            sample_ms=one,
            value=np.zeros(1),
        )

    async def _tick(self, stop: asyncio.Event) -> None:
        """Advance the plant every 20 ms; edge nodes sample in turn, each once an interval."""
        interval = PUBLISH_NS / NS_PER_S / self.signals.splits
        start = time.monotonic()
        due = [start + interval * k / len(self.nodes) for k in range(len(self.nodes))]
        jobs_due = start
        while not stop.is_set():
            begun = time.monotonic()
            fastest = self._pace.speed == FASTEST
            self.sim.advance(self.sim.now_ns + self._stride_ns if fastest else self.plant_now())
            await self.publish_changes()
            for k, node in enumerate(self.nodes):
                if begun >= due[k]:
                    node.sample()
                    due[k] += interval
                    if due[k] < begun - 1.0:  # after a stall: go on, do not catch up
                        due[k] = begun + interval
            if begun >= jobs_due:
                jobs_due = begun + JOBS_EVERY_S
                await self.opcua.refresh_jobs()
            if fastest:
                await self._come_along(begun)
            await asyncio.sleep(max(0.001, TICK_S - (time.monotonic() - begun)))

    async def _come_along(self, begun: float) -> None:
        """At speed "max": let the broker take what was sent, then go on from where the plant is.

        The next stride is sized so that publishing it takes about one tick.
        """
        deadline = begun + DRAIN_S
        while time.monotonic() < deadline and self._waits_for_broker():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        now = time.monotonic()
        stride = self._stride_ns * (1.25 if now - begun < TICK_S else 0.8)
        self._stride_ns = int(min(max(stride, NS_PER_MS), MOST_STRIDE_NS))
        if self._pace.speed != FASTEST:
            return  # told otherwise meanwhile
        self._pace = self._reached()
        if now - self._noted >= NOTE_EVERY_S:
            self._noted = now
            self._journal.pace(self._pace)

    def _reached(self) -> Pace:
        return Pace(wall_ns=self._wall.now_ns(), plant_ns=self.sim.now_ns, speed=FASTEST)

    def _waits_for_broker(self) -> bool:
        return any(node.backlog() > BACKLOG for node in self.nodes)

    # --- what it says of itself ---

    def addresses(self) -> dict[str, Any]:
        """The ready line: where everything is."""
        return {
            "ready": True,
            "opcua": self.opcua.url,
            "mqtt": self._mqtt_url,
            "control": self.control.url,
            "devices": sum(d.counted for d in self.sim.devices),
            "signals": self.signals.count + 10 * sum(d.counted for d in self.sim.devices),
            "start_ns": self.sim.start_ns,
            "speed": told_speed(self._pace.speed),
        }

    def status(self) -> dict[str, Any]:
        """State of the plant process for the control page."""
        states = [node.status() for node in self.nodes]
        sent = sum(s.sent for s in states) + self._changes
        at, before, rate = self._rate
        now = time.monotonic()
        if now - at >= 1.0:
            rate = (sent - before) / (now - at)
            self._rate = (now, sent, rate)
        sim = self.sim
        centers = sim.plant.work_centers
        jobs = [r for c in centers for r in sim.job_list(c.id)]
        groups: dict[str, list[dict[str, str]]] = {}
        for device in sorted(sim.devices, key=lambda d: d.counted):
            if not device.host:
                unit = {"id": device.id, "path": device.path}
                groups.setdefault(device.work_center, []).append(unit)
        return {
            "plant_ms": sim.now_ns / NS_PER_MS,
            "speed": told_speed(self._pace.speed),
            "sent_per_s": round(rate),
            "sent": sent,
            "finished": sim.metrics().get("finished", 0),
            "nodes": len(states),
            "nodes_online": sum(s.born for s in states),
            "dropped": sum(s.dropped for s in states),
            "commands": sum(s.obeyed for s in states),
            "commands_refused": sum(s.refused for s in states),
            "jobs_running": sum(r.state is JobState.RUNNING for r in jobs),
            "stops": [
                {"path": d.path, "reason": int(sim.stop_reason[d.index])}
                for d in sim.devices
                if not d.host and sim.stop_reason[d.index] in _STANDING
            ],
            "units": [{"work_center": c, "units": units} for c, units in groups.items()],
        }


def sparkplug_group(plant: Plant, sim: PlantSim) -> str:
    """Sparkplug group of the counted devices: ``<site>-<area>``."""
    line = next((d.work_center for d in sim.devices if d.counted), None)
    area = plant.work_center(line).area if line is not None else "plant"
    return f"{plant.site}-{area}"


async def serve(
    plant: Plant,
    *,
    opcua_port: int,
    mqtt_url: str,
    control_port: int,
    speed: float = 1.0,
    rate: float = 1.0,
    seed: int = 1,
    record: Path | None = None,
    journal: Path | None = None,
    start_ns: int | None = None,
    parent: bool = False,
    primary_host: str = PRIMARY_HOST,
    user: str = "",
    password: str = "",
) -> None:
    """Run the plant until SIGTERM, SIGINT or (with ``parent``) the end of standard input.

    Prints one JSON line when everything listens. Raises BrainError when a port is taken or an
    address is wrong.
    """
    process = PlantProcess(
        plant,
        opcua_port=opcua_port,
        mqtt_url=mqtt_url,
        control_port=control_port,
        speed=speed,
        rate=rate,
        seed=seed,
        record=record,
        journal=journal,
        start_ns=start_ns,
        primary_host=primary_host,
        user=user,
        password=password,
    )
    stop = asyncio.Event()
    watch = asyncio.create_task(_stop_later(stop, parent))
    try:
        await process.run(stop, lambda told: print(json.dumps(told), flush=True))
    except BrainError:
        log.exception("the plant process cannot run")
        raise
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _stop_later(stop: asyncio.Event, parent: bool) -> None:
    reason = await stop_requested(watch_parent=parent)
    log.info("stopping: %s", reason)
    stop.set()
