"""One suite over every way out: all satisfy ports.Dispatcher in the same sense.

The OPC UA ways talk over a real channel to a receiver of the simulated plant's own kind, behind
which stands a small floor that the tests move by hand.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua

from workshop_brain.config import built_in
from workshop_brain.dispatch.book import MemoryBook
from workshop_brain.dispatch.dry_run import DryRunDispatcher
from workshop_brain.dispatch.handshake import HandshakeDispatcher
from workshop_brain.dispatch.opcua_job import JobOrderDispatcher
from workshop_brain.dispatch.opcua_link import OpcUaLink
from workshop_brain.dispatch.work_list import WorkListDispatcher
from workshop_brain.errors import DispatchError
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.model.plant import Plant
from workshop_brain.ports import CommandOutcome, Confirmation, Dispatcher
from workshop_brain.twin import jobs_nodeset
from workshop_brain.twin.commands import AbortJob, ClearJob, Command, RevokeJob, StartJob, StoreJob
from workshop_brain.twin.opcua_jobs import Handshake, JobReceiver

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOFT = "local/works/gears/soft/c1/soft3"
NOW_NS = 1_800_000_000_000_000_000
URL = "opc.tcp://127.0.0.1:{port}/workshop"


@dataclass
class Floor:
    """What a receiver needs of a plant: a job list that commands change."""

    plant: Plant
    now_ns: int = NOW_NS
    orders: dict[str, JobOrder] = field(default_factory=dict)
    responses: dict[str, JobResponse] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    refuse: str = ""

    def job_list(self, work_center: str) -> list[JobResponse]:
        return list(self.responses.values())

    def job_order(self, id: str) -> JobOrder:
        return self.orders[id]

    def set(self, id: str, state: JobState, **more: Any) -> None:
        self.responses[id] = replace(self.responses[id], state=state, **more)

    async def apply(self, command: Command) -> str:
        self.commands.append(command)
        if self.refuse:
            return self.refuse
        match command:
            case StoreJob(job, start):
                state = JobState.ALLOWED_TO_START if start else JobState.NOT_ALLOWED_TO_START
                self.orders[job.id] = job
                self.responses[job.id] = JobResponse(
                    job=job.id, state=state, equipment=job.equipment
                )
            case StartJob(id):
                self.set(id, JobState.ALLOWED_TO_START)
            case RevokeJob(id):
                self.set(id, JobState.NOT_ALLOWED_TO_START)
            case AbortJob(id):
                self.set(id, JobState.ABORTED)
            case ClearJob(id):
                del self.responses[id], self.orders[id]
        return ""


@dataclass
class House:
    """A running receiver and the floor behind it."""

    floor: Floor
    url: str
    receiver: JobReceiver
    tag: Any
    echo: Any
    counters: tuple[Any, ...] = ()
    mute: dict[str, Any] = field(default_factory=dict)
    """Handshake tags of a PLC that answers only when the test writes the answer."""
    link: OpcUaLink = field(default_factory=lambda: OpcUaLink(""))


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    """OPC UA server with the job receiver and the handshake of work center soft."""
    floor = Floor(built_in().plant)
    server = Server()
    await server.init()
    server.set_endpoint(URL.format(port=0))
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    ns = await server.register_namespace("urn:workshop-brain:twin")
    jobs_ns = await jobs_nodeset.build(server)
    parent = server.nodes.objects
    for part in ("Plant", "works", "gears", "soft"):
        parent = await parent.add_folder(ns, part)
    receiver = JobReceiver(server, floor, "soft", floor.apply, ns, jobs_ns)  # type: ignore[arg-type]
    await receiver.build(parent, "works/gears/soft")
    shake = Handshake(server, floor, "soft", receiver.run, ns)  # type: ignore[arg-type]
    await shake.build(parent, "works/gears/soft")
    unit = await (await parent.add_folder(ns, "c1")).add_folder(ns, "soft3")
    tag = await unit.add_variable(ns, "JobOrder", "")
    counters = [await unit.add_variable(ns, f"Prod{n}Count", 0) for n in ("Processed", "Defective")]
    folder = await parent.add_folder(ns, "Mute")
    mute = {}
    for name, kind in Handshake._WRITABLE + Handshake._ANSWERS:
        empty: Any = "" if kind == ua.VariantType.String else 0
        mute[name] = await folder.add_variable(ns, name, empty, kind)
        await mute[name].set_writable()
    await server.start()
    port = server.bserver.port
    try:
        yield House(
            floor, URL.format(port=port), receiver, tag, shake._nodes["EchoOrderId"],
            tuple(counters), mute,
        )  # fmt: skip
    finally:
        await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server_house() -> AsyncIterator[House]:
    """One receiver for all tests: building its types takes seconds."""
    async with open_house() as running:
        running.link = OpcUaLink(running.url, timeout_s=5.0)
        yield running
        await running.link.close()


@pytest_asyncio.fixture(loop_scope="module")
async def house(server_house: House) -> House:
    """The receiver, empty again."""
    floor = server_house.floor
    floor.orders.clear()
    floor.responses.clear()
    floor.commands.clear()
    floor.refuse = ""
    server_house.receiver._apply = floor.apply
    await server_house.receiver.refresh(counts=True)
    await server_house.tag.write_value("")
    await server_house.echo.write_value("")
    for node in server_house.counters:
        await node.write_value(0)
    for name, kind in Handshake._WRITABLE + Handshake._ANSWERS:
        blank: Any = "" if kind == ua.VariantType.String else 0
        await server_house.mute[name].write_value(blank, kind)
    return server_house


def job(id: str = "WR-1.soft", **more: Any) -> JobOrder:
    """A job for soft3."""
    values: dict[str, Any] = {
        "id": id,
        "requests": (("WR-1", 120),),
        "work_center": "soft",
        "equipment": SOFT,
        "product": "dct_a",
        "program": "pinion",
        "quantity": 120,
        "start_ns": NOW_NS,
        "end_ns": NOW_NS + 3600 * 10**9,
    }
    return JobOrder(**{**values, **more})


@dataclass
class Way:
    """One way out under test and how the floor answers there."""

    name: str
    dispatcher: Dispatcher
    tap: Callable[[str], Any]
    begin: Callable[[str], Any]
    can_withdraw: bool = True


async def none(id: str) -> None:
    """Nobody has to do anything."""


WAYS = ("job_order", "handshake", "work_list", "dry_run")


@pytest_asyncio.fixture(params=WAYS, loop_scope="module")
async def way(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Way]:
    """Each way out in turn."""
    name = str(request.param)

    if name == "dry_run":
        yield Way(name, DryRunDispatcher(work_center="soft"), none, none)
        return
    if name == "work_list":
        people = WorkListDispatcher(work_center="soft", book=MemoryBook(), timeout_s=0.5)

        async def tap(id: str) -> None:
            for _ in range(40):
                if any(r.job == id for r in await people.jobs()):
                    break
                await asyncio.sleep(0.005)
            await people.confirm(id, time_ns=NOW_NS)

        yield Way(name, people, tap, tap)
        return
    async with opcua_way(name, house) as running:
        yield running


@asynccontextmanager
async def opcua_way(name: str, house: House) -> AsyncIterator[Way]:
    """A way out over the channel."""
    link = house.link
    out: Dispatcher
    if name == "job_order":
        out = JobOrderDispatcher(
            link,
            receiver="Plant/works/gears/soft/JobOrderControl",
            work_center="soft",
            timeout_s=5.0,
        )

        async def begin(id: str) -> None:
            house.floor.set(id, JobState.RUNNING, start_ns=NOW_NS + 10**9, good=3)
            await house.receiver.refresh(counts=True)

        yield Way(name, out, none, begin)
    else:
        out = HandshakeDispatcher(
            link, receiver="Plant/works/gears/soft/Handshake", work_center="soft", timeout_s=5.0
        )

        async def runs(id: str) -> None:
            await house.tag.write_value(id)

        yield Way(name, out, none, runs, can_withdraw=False)


async def send(way: Way, order: JobOrder) -> Confirmation:
    """Dispatch, with a tap where people confirm."""
    sending = asyncio.create_task(way.dispatcher.dispatch(order))
    await way.tap(order.id)
    return await sending


async def test_a_job_is_confirmed_by_what_the_receiver_lists(way: Way) -> None:
    answer = await send(way, job())
    assert answer.outcome is CommandOutcome.CONFIRMED
    assert answer.read_back is not None
    assert answer.read_back.state is JobState.ALLOWED_TO_START
    (listed,) = await way.dispatcher.jobs()
    assert (listed.job, listed.state, listed.equipment) == (
        "WR-1.soft",
        JobState.ALLOWED_TO_START,
        SOFT,
    )


async def test_the_receiver_tells_the_order_it_holds(way: Way) -> None:
    await send(way, job())
    await way.dispatcher.jobs()
    (held,) = await way.dispatcher.orders()
    wanted = job()
    for name in ("id", "requests", "work_center", "equipment", "product", "program", "quantity"):
        assert getattr(held, name) == getattr(wanted, name), name


async def test_the_same_job_twice_is_one_job(way: Way) -> None:
    await send(way, job())
    again = await way.dispatcher.dispatch(job())
    assert again.outcome is CommandOutcome.CONFIRMED
    assert len(await way.dispatcher.jobs()) == 1


async def test_a_waiting_job_can_be_taken_back(way: Way) -> None:
    await send(way, job())
    answer = await way.dispatcher.withdraw("WR-1.soft")
    if way.can_withdraw:
        assert answer.outcome is CommandOutcome.CONFIRMED
        assert await way.dispatcher.jobs() == []
        assert (await send(way, job())).outcome is CommandOutcome.CONFIRMED
    else:
        assert answer.outcome is CommandOutcome.REJECTED
        assert len(await way.dispatcher.jobs()) == 1


async def test_a_running_job_stays(way: Way) -> None:
    if way.name == "dry_run":
        return
    await send(way, job())
    await way.begin("WR-1.soft")
    (listed,) = await way.dispatcher.jobs()
    assert listed.state is JobState.RUNNING
    assert listed.start_ns > 0
    answer = await way.dispatcher.withdraw("WR-1.soft")
    assert answer.outcome is CommandOutcome.REJECTED
    assert (await way.dispatcher.jobs())[0].state is JobState.RUNNING


async def test_taking_back_what_is_not_there_is_done_already(way: Way) -> None:
    assert (await way.dispatcher.withdraw("nobody")).outcome is CommandOutcome.CONFIRMED


# -- what only some ways can show ---------------------------------------------------------------


async def opcua(house: House, kind: str, timeout_s: float = 1.0, leaf: str = "") -> Dispatcher:
    """An OPC UA way to the house's receiver."""
    link = OpcUaLink(house.url, timeout_s=timeout_s)
    cls = {"job_order": JobOrderDispatcher, "handshake": HandshakeDispatcher}[kind]
    leaf = leaf or {"job_order": "JobOrderControl", "handshake": "Handshake"}[kind]
    return cls(
        link, receiver=f"Plant/works/gears/soft/{leaf}", work_center="soft", timeout_s=timeout_s
    )


@pytest.mark.parametrize("kind", ["job_order", "handshake"])
async def test_a_refusal_is_rejected_and_said(house: House, kind: str) -> None:
    house.floor.refuse = "magazine full"
    out = await opcua(house, kind)
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.REJECTED
    assert answer.message
    await out.close()


async def test_a_stored_job_is_only_started(house: House) -> None:
    await house.floor.apply(StoreJob(job(), False))
    await house.receiver.refresh()
    house.floor.commands.clear()
    out = await opcua(house, "job_order")
    assert (await out.dispatch(job())).outcome is CommandOutcome.CONFIRMED
    assert [type(c) for c in house.floor.commands] == [StartJob]
    await out.close()


async def test_a_receiver_that_holds_other_data_under_the_id_is_not_started(house: House) -> None:
    await house.floor.apply(StoreJob(job(quantity=7, requests=(("WR-1", 7),)), False))
    await house.receiver.refresh()
    out = await opcua(house, "job_order")
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.REJECTED
    assert "quantity" in answer.message
    assert house.floor.responses["WR-1.soft"].state is JobState.NOT_ALLOWED_TO_START
    await out.close()


async def test_a_start_without_effect_is_unconfirmed_and_not_repeated(house: House) -> None:
    async def deaf(command: Command) -> str:
        house.floor.commands.append(command)
        if isinstance(command, StartJob):
            return ""
        return await Floor.apply(house.floor, command)

    house.receiver._apply = deaf
    out = await opcua(house, "job_order", timeout_s=0.4)
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.UNCONFIRMED
    assert answer.read_back is not None
    assert answer.read_back.state is JobState.NOT_ALLOWED_TO_START
    assert sum(isinstance(c, StartJob) for c in house.floor.commands) == 1
    await out.close()


@pytest.mark.parametrize("kind", ["job_order", "handshake"])
async def test_an_unreachable_receiver_is_unconfirmed_and_named(kind: str) -> None:
    house = House(Floor(built_in().plant), "opc.tcp://127.0.0.1:1/workshop", None, None, None)  # type: ignore[arg-type]
    out = await opcua(house, kind, timeout_s=0.3)
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.UNCONFIRMED
    assert "127.0.0.1:1" in answer.message
    if kind == "job_order":
        with pytest.raises(DispatchError, match=r"127\.0\.0\.1:1"):
            await out.jobs()
    await out.close()


async def test_a_wrong_receiver_path_names_the_part(house: House) -> None:
    out = JobOrderDispatcher(
        OpcUaLink(house.url), receiver="Plant/works/gears/hard/JobOrderControl", work_center="x"
    )
    with pytest.raises(DispatchError, match="'hard'"):
        await out.jobs()
    await out.close()


async def test_a_new_session_after_a_cut(house: House) -> None:
    out = await opcua(house, "job_order", timeout_s=3.0)
    assert await out.jobs() == []
    client = await out._link.client()  # type: ignore[attr-defined]
    client.uaclient.protocol.transport.abort()
    await asyncio.sleep(0.05)
    assert await out.jobs() == []
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.CONFIRMED
    await out.close()


async def acknowledge(house: House, *, result: int = 1, **other: Any) -> None:
    """What a PLC writes when it has worked through the request that stands in its tags."""
    given = {name: await node.read_value() for name, node in house.mute.items()}
    answer = {
        "EchoOrderId": given["OrderId"],
        "EchoProgram": given["Program"],
        "EchoQuantity": given["Quantity"],
        "Result": result,
        "ResultText": "" if result == 1 else "magazine full",
        **other,
        "AckId": given["RequestId"],
    }
    kinds = dict(Handshake._ANSWERS)
    for name, value in answer.items():
        await house.mute[name].write_value(value, kinds[name])


async def requested(house: House, number: int) -> None:
    """Wait until a request has been written."""
    for _ in range(500):
        if await house.mute["RequestId"].read_value() == number:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"request {number} was not written")


async def test_a_wrong_echo_is_not_confirmed_and_not_sent_again(house: House) -> None:
    out = await opcua(house, "handshake", leaf="Mute")
    sending = asyncio.create_task(out.dispatch(job()))
    await requested(house, 1)
    await acknowledge(house, EchoQuantity=12)
    answer = await sending
    assert answer.outcome is CommandOutcome.UNCONFIRMED
    assert "EchoQuantity" in answer.message
    assert [r.state for r in await out.jobs()] == [JobState.UNKNOWN]
    assert (await out.dispatch(job())).outcome is CommandOutcome.UNCONFIRMED
    assert await house.mute["RequestId"].read_value() == 1
    await out.close()


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_slow_plc_is_waited_for_and_its_request_never_written_over(
    house: House, accepted: bool
) -> None:
    out = await opcua(house, "handshake", timeout_s=1.0, leaf="Mute")
    assert (await out.dispatch(job())).outcome is CommandOutcome.UNCONFIRMED
    assert [r.state for r in await out.jobs()] == [JobState.UNKNOWN]
    taken_back = await out.withdraw("WR-1.soft")
    assert taken_back.outcome is CommandOutcome.UNCONFIRMED
    second = await out.dispatch(job("WR-2.soft"))
    assert second.outcome is CommandOutcome.REJECTED
    assert "request 1" in second.message
    assert await house.mute["OrderId"].read_value() == "WR-1.soft"
    await acknowledge(house, result=1 if accepted else 2)
    third = asyncio.create_task(out.dispatch(job("WR-2.soft")))
    await requested(house, 2)
    await acknowledge(house)
    assert (await third).outcome is CommandOutcome.CONFIRMED
    listed = {r.job: r.state for r in await out.jobs()}
    waiting = JobState.ALLOWED_TO_START
    assert listed == {"WR-2.soft": waiting} | ({"WR-1.soft": waiting} if accepted else {})
    await out.close()


async def test_a_job_whose_unit_shows_it_is_unknown_no_more(house: House) -> None:
    out = await opcua(house, "handshake", timeout_s=1.0, leaf="Mute")
    await out.dispatch(job())
    await house.mute["OrderId"].write_value("")  # the PLC started anew and lost its tags
    assert [r.state for r in await out.jobs()] == [JobState.UNKNOWN]
    await house.tag.write_value("WR-1.soft")
    assert [r.state for r in await out.jobs()] == [JobState.RUNNING]
    await out.close()


async def test_a_lost_acknowledge_is_found_before_anything_is_sent_again(house: House) -> None:
    first = await opcua(house, "handshake")
    assert (await first.dispatch(job())).outcome is CommandOutcome.CONFIRMED
    await first.close()
    stored = len(house.floor.commands)
    second = await opcua(house, "handshake")
    assert (await second.dispatch(job())).outcome is CommandOutcome.CONFIRMED
    assert len(house.floor.commands) == stored
    await second.close()


async def test_a_handshake_job_ends_when_the_unit_names_another(house: House) -> None:
    out = await opcua(house, "handshake")
    await out.dispatch(job())
    for node, value in zip(house.counters, (1000, 10), strict=True):
        await node.write_value(value)
    await house.tag.write_value("WR-1.soft")
    assert (await out.jobs())[0].state is JobState.RUNNING
    for node, value in zip(house.counters, (1119, 13), strict=True):
        await node.write_value(value)
    await house.tag.write_value("")
    (listed,) = await out.jobs()
    assert listed.state is JobState.ENDED
    assert (listed.good, listed.scrap) == (116, 3)
    await out.close()


async def test_what_a_restarted_brain_did_not_count_is_not_made_up(house: House) -> None:
    book = MemoryBook()
    receiver, link = "Plant/works/gears/soft/Handshake", OpcUaLink(house.url, timeout_s=1.0)
    first = HandshakeDispatcher(link, receiver=receiver, work_center="soft", book=book)
    await first.dispatch(job())
    await house.tag.write_value("WR-1.soft")
    await first.jobs()
    second = HandshakeDispatcher(link, receiver=receiver, work_center="soft", book=book)
    await house.tag.write_value("")
    (listed,) = await second.jobs()
    assert (listed.state, listed.good, listed.scrap) == (JobState.ENDED, 0, 0)
    await second.close()


async def test_a_started_job_with_other_content_is_not_taken_for_ours(house: House) -> None:
    out = await opcua(house, "job_order")
    await out.jobs()  # the list is young: the Store below is not preceded by another look
    await house.floor.apply(StoreJob(job(quantity=7, requests=(("WR-1", 7),)), True))
    await house.receiver.refresh()
    answer = await out.dispatch(job())
    assert answer.outcome is CommandOutcome.REJECTED
    assert "quantity 7" in answer.message
    await out.close()


async def test_nobody_taps_is_unconfirmed_and_a_late_tap_shows_in_the_list() -> None:
    people = WorkListDispatcher(work_center="soft", book=MemoryBook(), timeout_s=0.05)
    answer = await people.dispatch(job())
    assert answer.outcome is CommandOutcome.UNCONFIRMED
    await people.confirm("WR-1.soft", time_ns=NOW_NS)
    assert (await people.jobs())[0].state is JobState.ALLOWED_TO_START


async def test_taps_go_seen_begun_done() -> None:
    people = WorkListDispatcher(work_center="soft", book=MemoryBook(), timeout_s=0.05)
    await people.dispatch(job())
    states = [(await people.confirm("WR-1.soft", time_ns=NOW_NS + k)).state for k in range(2)]
    assert states == [JobState.ALLOWED_TO_START, JobState.RUNNING]
    done = await people.confirm("WR-1.soft", time_ns=NOW_NS + 9, scrap=20)
    assert (done.state, done.good, done.scrap) == (JobState.ENDED, 100, 20)
    assert (done.start_ns, done.end_ns) == (NOW_NS + 1, NOW_NS + 9)
    with pytest.raises(DispatchError, match="nothing is left"):
        await people.confirm("WR-1.soft", time_ns=NOW_NS)
    with pytest.raises(DispatchError, match="not on the work list"):
        await people.confirm("nobody", time_ns=NOW_NS)


async def test_a_running_unit_stands_for_the_tap() -> None:
    people = WorkListDispatcher(work_center="soft", book=MemoryBook(), timeout_s=0.05)
    await people.dispatch(job())
    await people.observe(SOFT, running=True, time_ns=NOW_NS + 5)
    (listed,) = await people.jobs()
    assert (listed.state, listed.start_ns) == (JobState.RUNNING, NOW_NS + 5)
