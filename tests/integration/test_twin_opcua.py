"""The simulated plant's OPC UA server over a real channel: tags, history, job orders, handshake."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua

from workshop_brain.config import built_in
from workshop_brain.errors import SourceError
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.twin.commands import BreakUnit, Command, RepairUnit
from workshop_brain.twin.jobs_nodeset import NAMESPACE as JOBS
from workshop_brain.twin.jobs_nodeset import ReturnStatus
from workshop_brain.twin.opcua_server import NAMESPACE, PlantServer
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_S

MONDAY_NS = int(datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()) * NS_PER_S
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Plant:
    """A server with its simulation, advanced by hand."""

    def __init__(self, sim: PlantSim) -> None:
        self.sim = sim
        self.server = PlantServer(sim, self.apply, port=0, user="brain", password="secret-1")

    async def apply(self, command: Command) -> str:
        reason = self.sim.command(command)
        await self.server.push(self.sim.drain_changes())
        return reason

    async def advance(self, seconds: float) -> None:
        self.sim.advance(self.sim.now_ns + round(seconds * NS_PER_S))
        await self.server.push(self.sim.drain_changes())
        await self.server.refresh_jobs()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant() -> AsyncIterator[Plant]:
    running = Plant(PlantSim(built_in().plant, seed=5, start_ns=MONDAY_NS))
    await running.server.start()
    yield running
    await running.server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(plant: Plant) -> AsyncIterator[Client]:
    signed_in = Client(plant.server.url)
    signed_in.set_user("brain")
    signed_in.set_password("secret-1")
    async with signed_in as connected:
        await connected.load_data_type_definitions()
        yield connected


async def _node(client: Client, path: str) -> Node:
    return client.get_node(ua.NodeId(path, await client.get_namespace_index(NAMESPACE)))


class Receiver:
    """A client's view of one job-order receiver."""

    def __init__(self, client: Client, node: Node, ns: int) -> None:
        self.client, self.node, self.ns = client, node, ns

    async def call(self, method: str, *arguments: Any) -> int:
        comment = ua.Variant([ua.LocalizedText("test")], ua.VariantType.LocalizedText)
        status = await self.node.call_method(f"{self.ns}:{method}", *arguments, comment)
        return int(status)

    async def states(self) -> dict[str, str]:
        entries = await (await self.node.get_child(f"{self.ns}:JobOrderList")).read_value()
        return {e.JobOrder.JobOrderID: e.State[0].StateText.Text for e in entries}

    async def entry(self, id: str) -> Any:
        entries = await (await self.node.get_child(f"{self.ns}:JobOrderList")).read_value()
        return next(e for e in entries if e.JobOrder.JobOrderID == id)


async def _receiver(client: Client, path: str) -> Receiver:
    node = await _node(client, f"{path}/JobOrderControl")
    return Receiver(client, node, await client.get_namespace_index(JOBS))


def _order(id: str, unit: str, requests: str, product: str, program: str, pieces: int) -> Any:
    def parameter(name: str, value: Any, kind: ua.VariantType) -> Any:
        return ua.ISA95ParameterDataType(ID=name, Value=ua.Variant(value, kind))

    text = ua.VariantType.String
    start = datetime.fromtimestamp(MONDAY_NS // NS_PER_S, UTC)
    return ua.ISA95JobOrderDataType(
        JobOrderID=id,
        StartTime=start,
        EndTime=start + timedelta(hours=1),
        Priority=-5,
        JobOrderParameters=[
            parameter("Requests", requests, text),
            parameter("Product", product, text),
            parameter("Program", program, text),
            parameter("Quantity", pieces, ua.VariantType.UInt32),
        ],
        EquipmentRequirements=[ua.ISA95EquipmentDataType(ID=unit)],
    )


async def test_every_device_is_browsed_with_its_ten_tags(plant: Plant, client: Client) -> None:
    sim = plant.sim
    upstream = sum(not d.counted for d in sim.devices)
    assert plant.server.tag_count == 1530 + 11 * upstream
    ns = await client.get_namespace_index(NAMESPACE)
    parts = ["Plant", "works", "assembly", "asm1", "z1", "st01"]
    folder = await client.nodes.objects.get_child([f"{ns}:{p}" for p in parts])
    names = {(await n.read_browse_name()).Name for n in await folder.get_children()}
    assert names == {
        "StateCurrent", "UnitModeCurrent", "Blocked", "Starved", "ProdProcessedCount",
        "ProdDefectiveCount", "StopReason", "InfeedLevel", "JobOrder", "Serial",
    }  # fmt: skip
    data = await (await _node(client, "works/assembly/asm1/z1/st01/StateCurrent")).read_data_value()
    assert data.Value.VariantType == ua.VariantType.Int32
    assert data.SourceTimestamp.timestamp() >= MONDAY_NS / NS_PER_S


async def test_counts_carry_their_unit_and_buffers_their_places(
    plant: Plant, client: Client
) -> None:
    level = await _node(client, "works/assembly/asm1/z1/st02/InfeedLevel")
    found = {(await n.read_browse_name()).Name: n for n in await level.get_properties()}
    assert (await found["EngineeringUnits"].read_value()).DisplayName.Text == "pcs"
    places = (await found["EURange"].read_value()).High
    index = next(d.index for d in plant.sim.devices if d.id == "st02")
    assert places == plant.sim.infeed_capacity[index]
    assert 1 <= places <= 20


async def test_each_change_arrives_with_its_own_plant_time(plant: Plant, client: Client) -> None:
    got: list[tuple[datetime, int]] = []

    class Handler:
        def datachange_notification(self, node: Node, value: int, data: Any) -> None:
            got.append((data.monitored_item.Value.SourceTimestamp, value))

    node = await _node(client, "works/gears/soft/c1/soft1/StateCurrent")
    subscription = await client.create_subscription(50, Handler())
    await subscription.subscribe_data_change(node, queuesize=1000)
    await asyncio.sleep(0.2)
    got.clear()
    path = "local/works/gears/soft/c1/soft1"
    begin = datetime.fromtimestamp(plant.sim.now_ns / NS_PER_S, UTC)
    for _ in range(3):  # within one publishing interval
        assert await plant.apply(BreakUnit(path, 600.0)) == ""
        assert await plant.apply(RepairUnit(path)) == ""
    await asyncio.sleep(0.4)
    await subscription.delete()
    states = [value for _, value in got]
    assert states.count(int(UnitState.ABORTED)) == 3
    assert len(states) >= 6
    times = [time for time, _ in got]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert all(abs(t - begin) < timedelta(seconds=1) for t in times)


async def test_a_breakdown_sets_reason_and_alarm(plant: Plant, client: Client) -> None:
    path = "works/finish/hard/c1/hard1"
    await plant.apply(BreakUnit(f"local/{path}", 600.0))
    assert await (await _node(client, f"{path}/StopReason")).read_value() == StopReason.BREAKDOWN
    assert await (await _node(client, f"{path}/AlarmCode")).read_value() == 1004
    await plant.apply(RepairUnit(f"local/{path}"))
    assert await (await _node(client, f"{path}/AlarmCode")).read_value() == 0


async def test_history_gives_back_what_a_client_has_missed(plant: Plant, client: Client) -> None:
    path = "works/housings/housing/c1/hous1"
    await plant.advance(1.0)
    begin = datetime.fromtimestamp(plant.sim.now_ns // 1000 / 1e6, UTC)
    await plant.apply(BreakUnit(f"local/{path}", 60.0))
    await plant.advance(120.0)
    node = await _node(client, f"{path}/StateCurrent")
    end = datetime.fromtimestamp(plant.sim.now_ns / NS_PER_S, UTC)
    values = await node.read_raw_history(begin, end)
    states = [v.Value.Value for v in values]
    assert states[0] == UnitState.ABORTED
    assert states[-1] == await node.read_value()
    stamps = [v.SourceTimestamp for v in values]
    assert stamps == sorted(stamps)


async def test_tags_cannot_be_written_from_outside(plant: Plant, client: Client) -> None:
    node = await _node(client, "works/gears/soft/c1/soft2/StateCurrent")
    with pytest.raises(ua.UaStatusCodeError):
        await node.write_value(ua.Variant(2, ua.VariantType.Int32))


async def test_a_job_order_lives_from_store_to_end(plant: Plant, client: Client) -> None:
    receiver = await _receiver(client, "works/gears/soft")
    unit = "local/works/gears/soft/c1/soft1"
    order = _order("T1.soft", unit, "T1:3", "dct_a", "pinion", 3)
    no_error = ReturnStatus.NO_ERROR
    assert await receiver.call("Store", order) == no_error
    assert (await receiver.states())["T1.soft"] == "NotAllowedToStart"
    back = (await receiver.entry("T1.soft")).JobOrder
    given = {p.ID: p.Value.Value for p in back.JobOrderParameters}
    assert given == {"Requests": "T1:3", "Product": "dct_a", "Program": "pinion", "Quantity": 3}
    assert [e.ID for e in back.EquipmentRequirements] == [unit]
    assert back.Priority == -5
    assert await receiver.call("Store", order) == no_error  # the same order again is the same order
    other = _order("T1.soft", unit, "T1:9", "dct_a", "pinion", 9)
    assert await receiver.call("Store", other) == ReturnStatus.UNABLE_TO_ACCEPT
    assert len([id for id in await receiver.states() if id == "T1.soft"]) == 1
    assert await receiver.call("Clear", "T1.soft") == ReturnStatus.INVALID_STATUS
    assert await receiver.call("Start", "T1.soft") == no_error
    assert (await receiver.states())["T1.soft"] in ("AllowedToStart", "Running")
    seen = set()
    for _ in range(400):
        await plant.advance(120.0)
        seen.add((await receiver.states())["T1.soft"])
        if "Ended" in seen:
            break
    assert {"Running", "Ended"} <= seen
    entry = await receiver.entry("T1.soft")
    counts = {p.ID: p.Value.Value for p in entry.JobOrder.JobOrderParameters}
    assert counts["Good"] + counts["Scrap"] == 3
    response, status = await (
        await _node(client, "works/gears/soft/JobResponseProvider")
    ).call_method(f"{receiver.ns}:RequestJobResponseByJobOrderID", "T1.soft")
    assert status == no_error
    assert response.JobState[0].StateNumber == 5
    assert response.EndTime > response.StartTime
    assert await receiver.call("Clear", "T1.soft") == no_error
    assert "T1.soft" not in await receiver.states()


async def test_orders_can_be_taken_back(plant: Plant, client: Client) -> None:
    receiver = await _receiver(client, "works/gears/soft")
    unit = "works/gears/soft/c1/soft2"
    order = _order("T2.soft", unit, "T2:2", "dct_a", "pinion", 2)
    assert await receiver.call("StoreAndStart", order) == ReturnStatus.NO_ERROR
    if (await receiver.states())["T2.soft"] == "AllowedToStart":
        assert await receiver.call("RevokeStart", "T2.soft") == ReturnStatus.NO_ERROR
        assert (await receiver.states())["T2.soft"] == "NotAllowedToStart"
        assert await receiver.call("Cancel", "T2.soft") == ReturnStatus.NO_ERROR
        assert "T2.soft" not in await receiver.states()
    else:
        assert await receiver.call("Abort", "T2.soft") == ReturnStatus.NO_ERROR
        assert (await receiver.states())["T2.soft"] == "Aborted"


async def test_bad_calls_are_answered_not_obeyed(plant: Plant, client: Client) -> None:
    receiver = await _receiver(client, "works/gears/soft")
    before = await receiver.states()
    wrong = _order("T3.soft", "local/works/nowhere", "T3:2", "dct_a", "pinion", 2)
    assert await receiver.call("Store", wrong) == ReturnStatus.INVALID_REQUEST
    assert (
        "nowhere"
        in await (
            await _node(client, "works/gears/soft/JobOrderControl/LastResultText")
        ).read_value()
    )
    empty = ua.ISA95JobOrderDataType(JobOrderID="T4")
    assert await receiver.call("Store", empty) == ReturnStatus.INVALID_REQUEST
    assert await receiver.call("Start", "no-such-order") == ReturnStatus.UNKNOWN_JOB_ORDER
    with pytest.raises(ua.UaStatusCodeError, match="argument"):
        await receiver.node.call_method(f"{receiver.ns}:Start", "T1.soft")
    assert await receiver.states() == before


async def test_the_plc_handshake_accepts_echoes_and_refuses(plant: Plant, client: Client) -> None:
    base = "works/housings/housing/Handshake"
    written = {
        "OrderId": ("H1.housing", ua.VariantType.String),
        "Equipment": ("local/works/housings/housing/c1/hous2", ua.VariantType.String),
        "Program": ("dct", ua.VariantType.String),
        "Product": ("dct_a", ua.VariantType.String),
        "Requests": ("H1:4", ua.VariantType.String),
        "Quantity": (4, ua.VariantType.UInt32),
        "Priority": (1, ua.VariantType.Int32),
    }

    async def ask(request: int, **changed: Any) -> dict[str, Any]:
        for name, (value, kind) in written.items():
            data = ua.DataValue(ua.Variant(changed.get(name, value), kind))
            await (await _node(client, f"{base}/{name}")).write_value(data)
        number = ua.DataValue(ua.Variant(request, ua.VariantType.UInt32))
        await (await _node(client, f"{base}/RequestId")).write_value(number)
        names = ("AckId", "EchoOrderId", "EchoProgram", "EchoQuantity", "Result", "ResultText")
        return {n: await (await _node(client, f"{base}/{n}")).read_value() for n in names}

    answer = await ask(41)
    assert answer == {
        "AckId": 41, "EchoOrderId": "H1.housing", "EchoProgram": "dct", "EchoQuantity": 4,
        "Result": 1, "ResultText": "",
    }  # fmt: skip
    receiver = await _receiver(client, "works/housings/housing")
    assert (await receiver.states())["H1.housing"] in ("AllowedToStart", "Running")
    again = await ask(42)  # the same order once more is no second order
    assert (again["AckId"], again["Result"]) == (42, 1)
    refused = await ask(43, Quantity=5)
    assert refused["Result"] == 2
    assert "other content" in refused["ResultText"]
    nowhere = await ask(44, OrderId="H2.housing", Equipment="nowhere")
    assert nowhere["Result"] == 2
    assert "H2.housing" not in await receiver.states()


async def test_a_taken_port_is_named(plant: Plant) -> None:
    port = int(plant.server.url.split(":")[2].split("/")[0])
    second = PlantServer(plant.sim, plant.apply, port=port)
    with pytest.raises(SourceError, match=f"OPC UA port {port}"):
        await second.start()


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_strangers_are_refused_when_a_user_is_set(plant: Plant, password: str) -> None:
    stranger = Client(plant.server.url)
    if password:
        stranger.set_user("brain")
        stranger.set_password(password)
    with pytest.raises((ua.UaError, ConnectionError)):
        await stranger.connect()
