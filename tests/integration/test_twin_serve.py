"""The plant process as a whole: ready line, pace, control, restart on the same day."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua import Client, Node, ua

from workshop_brain.config import built_in
from workshop_brain.errors import SourceError
from workshop_brain.model.order import JobOrder, JobState
from workshop_brain.model.state import UnitState
from workshop_brain.twin.commands import StoreJob
from workshop_brain.twin.control import post
from workshop_brain.twin.journal import FASTEST, Journal, Pace
from workshop_brain.twin.opcua_server import NAMESPACE
from workshop_brain.twin.record import read_record
from workshop_brain.twin.serve import PlantProcess
from workshop_brain.units import NS_PER_S

MONDAY_NS = int(datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()) * NS_PER_S
NO_BROKER = "mqtt://127.0.0.1:9"
SOFT1 = "local/works/gears/soft/c1/soft1"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[PlantProcess, dict[str, Any]]]:
    defaults: dict[str, Any] = {"opcua_port": 0, "mqtt_url": NO_BROKER, "control_port": 0}
    process = PlantProcess(built_in().plant, **(defaults | options))
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(process.run(stop, told.set_result))
    await asyncio.wait([told, task], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield process, (await told if told.done() else await task or {})
    finally:
        stop.set()
        async with asyncio.timeout(5.0):
            await task


async def test_the_plant_runs_obeys_and_records(tmp_path: Path) -> None:
    got: list[tuple[int, int]] = []

    class Handler:
        def datachange_notification(self, node: Node, value: int, data: Any) -> None:
            stamp = data.monitored_item.Value.SourceTimestamp
            got.append(
                (round((stamp - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6), value)
            )

    options = {"start_ns": MONDAY_NS, "speed": 10.0, "record": tmp_path}
    async with running(**options) as (process, told):
        assert (told["devices"], told["signals"], told["ready"]) == (153, 12_164, True)
        port = process.control.port
        async with Client(told["opcua"]) as client:
            ns = await client.get_namespace_index(NAMESPACE)
            node = client.get_node(ua.NodeId("works/gears/soft/c1/soft1/StateCurrent", ns))
            subscription = await client.create_subscription(20, Handler())
            await subscription.subscribe_data_change(node, queuesize=100)
            await asyncio.sleep(0.3)
            first = process.sim.now_ns
            await asyncio.to_thread(post, port, "/break", {"unit": "soft1", "minutes": 60})
            for _ in range(100):
                if got and got[-1][1] == UnitState.ABORTED:
                    break
                await asyncio.sleep(0.02)
            assert got[-1][1] == UnitState.ABORTED
            assert got[-1][0] * 1000 >= first // 1000 * 1000
            status = process.status()
            assert {"path": SOFT1, "reason": 4} in status["stops"]
            await asyncio.to_thread(post, port, "/speed", {"factor": 1})
            begin = process.sim.now_ns
            await asyncio.sleep(0.5)
            assert 0.2 * NS_PER_S < process.sim.now_ns - begin < 2 * NS_PER_S
            with pytest.raises(SourceError, match="soft99"):
                await asyncio.to_thread(post, port, "/break", {"unit": "soft99"})
            await subscription.delete()
    paths, _, signal, time_ns, value = read_record(tmp_path)
    mine = signal == paths.index("works/gears/soft/c1/soft1/state_current")
    sent = set(zip((time_ns[mine] // 1000).tolist(), value[mine].astype(int).tolist(), strict=True))
    assert set(got) <= sent  # what a client saw is what was sent, by value and plant time
    sparkplug = np.isin(signal, [k for k, p in enumerate(paths) if p.endswith("/air_pressure")])
    assert sparkplug.any()


async def test_at_full_speed_the_plant_clock_follows_what_was_published(tmp_path: Path) -> None:
    options = {"start_ns": MONDAY_NS, "speed": FASTEST, "journal": tmp_path}
    stamps: list[int] = []

    class Handler:
        def datachange_notification(self, node: Node, value: int, data: Any) -> None:
            stamp = data.monitored_item.Value.SourceTimestamp
            stamps.append(round((stamp - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e9))

    async with running(**options) as (process, told):
        assert told["speed"] == "max"
        async with Client(told["opcua"]) as client:
            ns = await client.get_namespace_index(NAMESPACE)
            node = client.get_node(ua.NodeId("works/assembly/asm1/z1/st05/ProdProcessedCount", ns))
            subscription = await client.create_subscription(20, Handler())
            await subscription.subscribe_data_change(node, queuesize=1000)
            begin, wall = process.sim.now_ns, time.monotonic()
            while len(stamps) < 20:  # noqa: ASYNC110  the server's own pace
                await asyncio.sleep(0.05)
            passed_s = (process.sim.now_ns - begin) / NS_PER_S
            assert passed_s > 10 * (time.monotonic() - wall)
            assert passed_s > 500  # about 20 pieces at a takt of 37 s
            assert stamps == sorted(set(stamps))
            assert stamps[-1] <= process.sim.now_ns
            await subscription.delete()
        process.set_speed(1.0)
        begin = process.plant_now()
        assert begin >= process.sim.now_ns  # no instant is lived twice, and none stood still for
        await asyncio.sleep(0.5)
        assert 0 < process.plant_now() - begin < 2 * NS_PER_S
        assert process.status()["speed"] == 1.0
        process.set_speed(FASTEST)
        await asyncio.sleep(0.1)
        assert process.status()["speed"] == "max"
    reached = process.sim.now_ns
    again = PlantProcess(
        built_in().plant, opcua_port=0, mqtt_url=NO_BROKER, control_port=0, journal=tmp_path,
        speed=FASTEST,
    )  # fmt: skip
    again.close()
    assert again.sim.now_ns == reached
    assert again.sim.fingerprint() == process.sim.fingerprint()


def test_a_restart_goes_on_with_the_day(tmp_path: Path) -> None:
    plant = built_in().plant
    wall = PlantProcess(plant, opcua_port=0, mqtt_url=NO_BROKER, control_port=0)
    start = wall.sim.start_ns
    wall.close()
    journal = Journal(tmp_path)
    journal.begin(plant, 1, start)
    journal.pace(Pace(wall_ns=start, plant_ns=start, speed=1.0))
    journal.run(1.0)
    job = JobOrder(
        id="J1.soft", requests=(("J1", 3),), work_center="soft", equipment=SOFT1,
        product="dct_a", program="pinion", quantity=3, start_ns=start, end_ns=start + NS_PER_S,
    )  # fmt: skip
    journal.command(start + 1, StoreJob(job))
    journal.close()
    again = PlantProcess(plant, opcua_port=0, mqtt_url=NO_BROKER, control_port=0, journal=tmp_path)
    again.close()
    assert again.sim.start_ns == start
    assert again.sim.now_ns >= start + 1
    states = {r.job: r.state for r in again.sim.job_list("soft")}
    assert states["J1.soft"] is JobState.NOT_ALLOWED_TO_START
    assert again.sim.job_order("J1.soft") == job
    assert (tmp_path / "orders.csv").read_text("utf-8").count("\n") > 10


async def test_a_taken_port_ends_the_process_with_its_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SourceError, match=f"OPC UA port {port}"):
            async with running(opcua_port=port, start_ns=MONDAY_NS):
                pass
        with pytest.raises(SourceError, match=f"control port {port}"):
            PlantProcess(built_in().plant, opcua_port=0, mqtt_url=NO_BROKER, control_port=port)
