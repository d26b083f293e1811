"""Job orders over OPC UA: the receiver of a work center (OPC 10031-4) and the PLC handshake."""

import dataclasses
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import Node, Server, ua

from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.twin import jobs_nodeset
from workshop_brain.twin.commands import (
    AbortJob,
    ClearJob,
    Command,
    RevokeJob,
    StartJob,
    StoreJob,
)
from workshop_brain.twin.jobs_nodeset import JobStateNumber, ReturnStatus
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_H

Apply = Callable[[Command], Awaitable[str]]

_STATES = {
    JobState.PLANNED: JobStateNumber.NotAllowedToStart,
    JobState.NOT_ALLOWED_TO_START: JobStateNumber.NotAllowedToStart,
    JobState.ALLOWED_TO_START: JobStateNumber.AllowedToStart,
    JobState.RUNNING: JobStateNumber.Running,
    JobState.INTERRUPTED: JobStateNumber.Interrupted,
    JobState.ENDED: JobStateNumber.Ended,
    JobState.ABORTED: JobStateNumber.Aborted,
}
_WAITING = frozenset({JobState.PLANNED, JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START})
_DONE = frozenset({JobState.ENDED, JobState.ABORTED})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_JOB_ORDERS = 1000
_COUNTS_EVERY_S = 1.0


class RequestError(ValueError):
    """A job order from outside that cannot be understood."""


def parse_requests(text: str) -> tuple[tuple[str, int], ...]:
    """The work requests of a job: "id:pieces;id:pieces".

    >>> parse_requests("WR-1:20;WR-2:4")
    (('WR-1', 20), ('WR-2', 4))
    """
    out = []
    for part in text.split(";"):
        id, colon, pieces = part.rpartition(":")
        if not colon or not id or not pieces.strip().isdigit() or int(pieces) <= 0:
            raise RequestError(f"Requests: {part!r} is not <id>:<pieces>, pieces > 0")
        out.append((id, int(pieces)))
    return tuple(out)


def equipment_path(sim: PlantSim, work_center: str, named: str) -> str:
    """Full path of the unit that a job names, with or without the enterprise."""
    for unit in sim.plant.work_center(work_center).units:
        if named in (unit.path, unit.path.split("/", 1)[1]):
            return unit.path
    raise RequestError(f"Equipment {named!r} is no unit of work center {work_center!r}")


def _ns(value: datetime | None, default: int) -> int:
    if value is None or value.year < 1971:
        return default
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return round((aware - _EPOCH) / timedelta(microseconds=1)) * 1000


def _date(time_ns: int) -> datetime | None:
    return _EPOCH + timedelta(microseconds=time_ns // 1000) if time_ns else None


def job_from_structure(sim: PlantSim, work_center: str, order: Any) -> JobOrder:
    """A job order from an ISA95JobOrderDataType; RequestError names what is missing or wrong."""
    id = str(getattr(order, "JobOrderID", None) or "")
    if not id:
        raise RequestError("JobOrderID is empty")
    given = {p.ID: p.Value.Value for p in order.JobOrderParameters or []}
    for name in ("Requests", "Product", "Program", "Quantity"):
        if given.get(name) in (None, ""):
            raise RequestError(f"job order {id!r}: parameter {name} is missing")
    equipment = order.EquipmentRequirements or []
    if not equipment:
        raise RequestError(f"job order {id!r}: EquipmentRequirements is empty")
    try:
        quantity = int(given["Quantity"])
    except (TypeError, ValueError) as error:
        raise RequestError(f"job order {id!r}: Quantity {given['Quantity']!r}") from error
    start_ns = _ns(order.StartTime, sim.now_ns)
    return _job(
        sim,
        work_center,
        id=id,
        equipment=str(equipment[0].ID),
        requests=str(given["Requests"]),
        product=str(given["Product"]),
        program=str(given["Program"]),
        quantity=quantity,
        priority=int(order.Priority or 0),
        start_ns=start_ns,
        end_ns=_ns(order.EndTime, start_ns + NS_PER_H),
    )


def _job(
    sim: PlantSim, work_center: str, *, equipment: str, requests: str, **rest: Any
) -> JobOrder:
    try:
        return JobOrder(
            work_center=work_center,
            equipment=equipment_path(sim, work_center, equipment),
            requests=parse_requests(requests),
            **rest,
        )
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(str(error)) from error


class JobReceiver:
    """The JobOrderControl object of one work center, and its job-response provider."""

    def __init__(
        self, server: Server, sim: PlantSim, work_center: str, apply: Apply, ns: int, jobs_ns: int
    ) -> None:
        self._server, self._sim, self._center = server, sim, work_center
        self._apply, self._ns, self._jobs_ns = apply, ns, jobs_ns
        self._list: Node = None
        self._responses: Node = None
        self._result: Node = None
        self._orders: dict[str, Any] = {}
        self._signature: list[Any] = []
        self._counts: list[Any] = []
        self._counted_at = 0.0
        structure = jobs_nodeset.structure
        self._order_type = structure("ISA95JobOrderDataType", jobs_ns)
        self._entry_type = structure("ISA95JobOrderAndStateDataType", jobs_ns)
        self._response_type = structure("ISA95JobResponseDataType", jobs_ns)
        self._parameter_type = structure("ISA95ParameterDataType", jobs_ns)
        self._equipment_type = structure("ISA95EquipmentDataType", jobs_ns)
        self._states = {n: self._state(n) for n in JobStateNumber}

    def _state(self, number: JobStateNumber) -> list[Any]:
        element = ua.RelativePathElement()
        element.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasComponent, 0)
        element.IsInverse = False
        element.IncludeSubtypes = True
        element.TargetName = ua.QualifiedName(number.name, self._jobs_ns)
        path = ua.RelativePath()
        path.Elements = [element]
        state = jobs_nodeset.structure("ISA95StateDataType", self._jobs_ns)
        return [
            state(
                BrowsePath=path,
                StateText=ua.LocalizedText(number.name, "en"),
                StateNumber=int(number),
            )
        ]

    async def build(self, parent: Node, root: str) -> None:
        """Add the objects below the work center's folder."""
        base = f"{root}/JobOrderControl"
        control = await jobs_nodeset.add_object(
            self._server, parent.nodeid, ua.NodeId(base, self._ns),
            ua.QualifiedName("JobOrderControl", self._ns), jobs_nodeset.RECEIVER_TYPE,
            self._jobs_ns,
        )  # fmt: skip
        for name, (_, data_type) in jobs_nodeset.RECEIVER_VARIABLES.items():
            node = await jobs_nodeset.add_list(
                control, ua.NodeId(f"{base}/{name}", self._ns), name, data_type, self._jobs_ns
            )
            if name == "JobOrderList":
                self._list = node
            elif name == "EquipmentID":
                units = self._sim.plant.work_center(self._center).units
                await node.write_value(
                    ua.DataValue(ua.Variant([u.path for u in units], ua.VariantType.String))
                )
        await control.add_property(
            ua.NodeId(f"{base}/MaxDownloadableJobOrders", self._ns),
            ua.QualifiedName("MaxDownloadableJobOrders", self._jobs_ns), _MAX_JOB_ORDERS,
            ua.VariantType.UInt16,
        )  # fmt: skip
        self._result = await control.add_variable(
            ua.NodeId(f"{base}/LastResultText", self._ns),
            ua.QualifiedName("LastResultText", self._ns), "", ua.VariantType.String,
        )  # fmt: skip
        calls = {
            "Store": self._store, "StoreAndStart": self._store_and_start, "Start": self._start,
            "RevokeStart": self._revoke, "Abort": self._abort, "Cancel": self._cancel,
            "Clear": self._clear,
        }  # fmt: skip
        for name, call in calls.items():
            await control.add_method(
                ua.NodeId(f"{base}/{name}", self._ns), ua.QualifiedName(name, self._jobs_ns), call,
                jobs_nodeset.inputs(name, self._jobs_ns), jobs_nodeset.outputs(name, self._jobs_ns),
            )  # fmt: skip
        await self._build_provider(parent, root)
        await self.refresh()

    async def _build_provider(self, parent: Node, root: str) -> None:
        base, name = f"{root}/JobResponseProvider", jobs_nodeset.BY_ORDER_ID
        provider = await jobs_nodeset.add_object(
            self._server, parent.nodeid, ua.NodeId(base, self._ns),
            ua.QualifiedName("JobResponseProvider", self._ns), jobs_nodeset.RESPONSE_PROVIDER_TYPE,
            self._jobs_ns,
        )  # fmt: skip
        self._responses = await jobs_nodeset.add_list(
            provider, ua.NodeId(f"{base}/JobOrderResponseList", self._ns), "JobOrderResponseList",
            "ISA95JobResponseDataType", self._jobs_ns,
        )  # fmt: skip
        await provider.add_method(
            ua.NodeId(f"{base}/{name}", self._ns), ua.QualifiedName(name, self._jobs_ns),
            self._response_by_id, jobs_nodeset.inputs(name, self._jobs_ns),
            jobs_nodeset.outputs(name, self._jobs_ns),
        )  # fmt: skip

    # --- commands ---

    async def run(self, command: Command) -> str:
        """Apply a command and publish the job list; "" or the reason of refusal."""
        reason = await self._apply(command)
        await self.refresh(counts=True)
        await self._result.write_value(reason)
        return reason

    def _find(self, id: str) -> JobResponse | None:
        return next((r for r in self._sim.job_list(self._center) if r.job == id), None)

    async def _store(self, parent: Any, *arguments: Any) -> Any:
        return await self._take(arguments, start=False)

    async def _store_and_start(self, parent: Any, *arguments: Any) -> Any:
        return await self._take(arguments, start=True)

    async def _take(self, arguments: tuple[Any, ...], *, start: bool) -> Any:
        fault = _argument_fault(arguments, 2)
        if fault is not None:
            return fault
        order = arguments[0].Value
        if not hasattr(order, "JobOrderID"):
            return _bad_argument(arguments, ua.StatusCodes.BadTypeMismatch)
        try:
            job = job_from_structure(self._sim, self._center, order)
        except RequestError as error:
            await self._result.write_value(str(error))
            return _status(ReturnStatus.INVALID_REQUEST)
        reason = await self.run(StoreJob(job, start))
        return _status(ReturnStatus.UNABLE_TO_ACCEPT if reason else ReturnStatus.NO_ERROR)

    async def _by_id(
        self, arguments: tuple[Any, ...], states: frozenset[JobState], *commands: type[Any]
    ) -> Any:
        """Run commands on a listed job that is in one of the states."""
        fault = _argument_fault(arguments, 2)
        if fault is not None:
            return fault
        id = arguments[0].Value
        if not isinstance(id, str):
            return _bad_argument(arguments, ua.StatusCodes.BadTypeMismatch)
        found = self._find(id)
        if found is None:
            await self._result.write_value(f"job order {id!r} is not in the list")
            return _status(ReturnStatus.UNKNOWN_JOB_ORDER)
        if found.state not in states:
            await self._result.write_value(f"job order {id!r} is {found.state.value}")
            return _status(ReturnStatus.INVALID_STATUS)
        for command in commands:
            if await self.run(command(id)):
                return _status(ReturnStatus.INVALID_STATUS)
        return _status(ReturnStatus.NO_ERROR)

    async def _start(self, parent: Any, *arguments: Any) -> Any:
        return await self._by_id(arguments, _WAITING, StartJob)

    async def _revoke(self, parent: Any, *arguments: Any) -> Any:
        return await self._by_id(arguments, frozenset({JobState.ALLOWED_TO_START}), RevokeJob)

    async def _abort(self, parent: Any, *arguments: Any) -> Any:
        return await self._by_id(arguments, frozenset(JobState) - _DONE, AbortJob)

    async def _cancel(self, parent: Any, *arguments: Any) -> Any:
        return await self._by_id(arguments, _WAITING, AbortJob, ClearJob)

    async def _clear(self, parent: Any, *arguments: Any) -> Any:
        return await self._by_id(arguments, _DONE, ClearJob)

    async def _response_by_id(self, parent: Any, *arguments: Any) -> Any:
        fault = _argument_fault(arguments, 1)
        if fault is not None:
            return fault
        found = self._find(str(arguments[0].Value))
        status = ReturnStatus.UNKNOWN_JOB_ORDER if found is None else ReturnStatus.NO_ERROR
        response = self._response_type() if found is None else self._response(found)
        kind = ua.VariantType.ExtensionObject
        return [ua.Variant(response, kind), ua.Variant(int(status), ua.VariantType.UInt64)]

    # --- lists ---

    async def refresh(self, *, counts: bool = False) -> None:
        """Publish the lists when a state has changed, counts at most once a second."""
        jobs = self._sim.job_list(self._center)
        signature = [(r.job, r.state, r.equipment) for r in jobs]
        now = time.monotonic()
        if signature == self._signature:
            if not counts and now - self._counted_at < _COUNTS_EVERY_S:
                return
            pieces = [(r.good, r.scrap) for r in jobs]
            self._counted_at = now
            if pieces == self._counts:
                return
        self._signature = signature
        self._counts = [(r.good, r.scrap) for r in jobs]
        self._counted_at = now
        listed = {r.job for r in jobs}
        self._orders = {id: o for id, o in self._orders.items() if id in listed}
        at = _date(self._sim.now_ns)
        entries = [self._entry(r) for r in jobs]
        responses = [self._response(r) for r in jobs if r.state not in _WAITING]
        for node, rows in ((self._list, entries), (self._responses, responses)):
            variant = ua.Variant(rows, ua.VariantType.ExtensionObject, is_array=True)
            await node.write_value(ua.DataValue(variant, SourceTimestamp=at))

    def _parameter(self, id: str, value: Any, kind: ua.VariantType) -> Any:
        return self._parameter_type(ID=id, Value=ua.Variant(value, kind))

    def _counters(self, response: JobResponse) -> list[Any]:
        return [
            self._parameter("Good", response.good, ua.VariantType.UInt32),
            self._parameter("Scrap", response.scrap, ua.VariantType.UInt32),
        ]

    def _order(self, id: str) -> Any:
        if id in self._orders:
            return self._orders[id]
        job = self._sim.job_order(id)
        text = ua.VariantType.String
        requests = ";".join(f"{request}:{pieces}" for request, pieces in job.requests)
        order = self._order_type(
            JobOrderID=job.id,
            StartTime=_date(job.start_ns),
            EndTime=_date(job.end_ns),
            Priority=max(-32768, min(32767, job.priority)),
            JobOrderParameters=[
                self._parameter("Requests", requests, text),
                self._parameter("Product", job.product, text),
                self._parameter("Program", job.program, text),
                self._parameter("Quantity", job.quantity, ua.VariantType.UInt32),
            ],
            EquipmentRequirements=[self._equipment_type(ID=job.equipment)],
        )
        self._orders[id] = order
        return order

    def _entry(self, response: JobResponse) -> Any:
        order = self._order(response.job)
        if response.state not in _WAITING:
            parameters = [*order.JobOrderParameters, *self._counters(response)]
            order = dataclasses.replace(order, JobOrderParameters=parameters)
        return self._entry_type(JobOrder=order, State=self._states[_STATES[response.state]])

    def _response(self, response: JobResponse) -> Any:
        unit = response.equipment or self._sim.job_order(response.job).equipment
        return self._response_type(
            JobResponseID=f"{response.job}.response",
            JobOrderID=response.job,
            StartTime=_date(response.start_ns),
            EndTime=_date(response.end_ns),
            JobState=self._states[_STATES[response.state]],
            JobResponseData=self._counters(response),
            EquipmentActuals=[self._equipment_type(ID=unit)],
        )


def _status(status: ReturnStatus) -> list[ua.Variant]:
    return [ua.Variant(int(status), ua.VariantType.UInt64)]


def _argument_fault(arguments: tuple[Any, ...], wanted: int) -> Any:
    """The bad StatusCode for a wrong number of arguments; None when it is right."""
    if len(arguments) < wanted:
        return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing)
    if len(arguments) > wanted:
        return ua.StatusCode(ua.StatusCodes.BadTooManyArguments)
    return None


def _bad_argument(arguments: tuple[Any, ...], code: int) -> ua.CallMethodResult:
    result = ua.CallMethodResult()
    result.StatusCode = ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
    good = [ua.StatusCode() for _ in arguments[1:]]
    result.InputArgumentResults = [ua.StatusCode(code), *good]
    return result


class Handshake:
    """The PLC handshake of one work center: plain tags, request number written last.

    The brain writes OrderId .. Priority and then RequestId; the PLC answers with the echo, Result
    (1 accepted, 2 refused) and then AckId = RequestId. A request number that is answered already
    is not worked on again.
    """

    _WRITABLE = (
        ("RequestId", ua.VariantType.UInt32),
        ("OrderId", ua.VariantType.String),
        ("Equipment", ua.VariantType.String),
        ("Program", ua.VariantType.String),
        ("Product", ua.VariantType.String),
        ("Requests", ua.VariantType.String),
        ("Quantity", ua.VariantType.UInt32),
        ("Priority", ua.VariantType.Int32),
    )
    _ANSWERS = (
        ("EchoOrderId", ua.VariantType.String),
        ("EchoProgram", ua.VariantType.String),
        ("EchoQuantity", ua.VariantType.UInt32),
        ("Result", ua.VariantType.Int32),
        ("ResultText", ua.VariantType.String),
        ("AckId", ua.VariantType.UInt32),
    )

    def __init__(
        self,
        server: Server,
        sim: PlantSim,
        work_center: str,
        run: Callable[[Command], Awaitable[str]],
        ns: int,
    ) -> None:
        self._server, self._sim, self._center, self._run = server, sim, work_center, run
        self._ns = ns
        self._nodes: dict[str, Node] = {}
        self._kinds = dict(self._WRITABLE + self._ANSWERS)
        self._answered = 0

    async def build(self, parent: Node, root: str) -> None:
        """Add the folder and its tags; the request number is watched."""
        base = f"{root}/Handshake"
        folder = await parent.add_folder(
            ua.NodeId(base, self._ns), ua.QualifiedName("Handshake", self._ns)
        )
        for name, kind in self._kinds.items():
            empty: Any = "" if kind == ua.VariantType.String else 0
            node = await folder.add_variable(
                ua.NodeId(f"{base}/{name}", self._ns), ua.QualifiedName(name, self._ns), empty, kind
            )
            self._nodes[name] = node
            if name in dict(self._WRITABLE):
                await node.set_writable()
        status, _ = self._server.iserver.aspace.add_datachange_callback(
            self._nodes["RequestId"].nodeid, ua.AttributeIds.Value, self._requested
        )
        status.check()

    async def _requested(self, handle: int, value: ua.DataValue) -> None:
        request = int(value.Value.Value)
        if request in (0, self._answered):
            return
        self._answered = request
        given = {name: await self._nodes[name].read_value() for name, _ in self._WRITABLE}
        reason = await self._accept(given)
        answers = {
            "EchoOrderId": given["OrderId"],
            "EchoProgram": given["Program"],
            "EchoQuantity": given["Quantity"],
            "Result": 2 if reason else 1,
            "ResultText": reason,
            "AckId": request,
        }
        at = _date(self._sim.now_ns)
        for name, answer in answers.items():
            variant = ua.Variant(answer, self._kinds[name])
            await self._nodes[name].write_value(ua.DataValue(variant, SourceTimestamp=at))

    async def _accept(self, given: dict[str, Any]) -> str:
        """Hand the order over; "" when it is (or was already) taken, else the reason."""
        now_ns = self._sim.now_ns
        try:
            if not given["OrderId"]:
                raise RequestError("OrderId is empty")
            job = _job(
                self._sim,
                self._center,
                id=given["OrderId"],
                equipment=given["Equipment"],
                requests=given["Requests"],
                product=given["Product"],
                program=given["Program"],
                quantity=int(given["Quantity"]),
                priority=int(given["Priority"]),
                start_ns=now_ns,
                end_ns=now_ns + NS_PER_H,
            )
        except RequestError as error:
            return str(error)
        if any(r.job == job.id for r in self._sim.job_list(self._center)):
            known = self._sim.job_order(job.id)
            same = (known.equipment, known.program, known.requests, known.quantity) == (
                job.equipment, job.program, job.requests, job.quantity,
            )  # fmt: skip
            return "" if same else f"order {job.id!r} is known already with other content"
        return await self._run(StoreJob(job, True))
