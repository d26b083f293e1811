"""Job orders over OPC UA as OPC 10031-4 (ISA-95 Job Control) has it: Store, read back, Start.

Nothing counts as done because a call returned: the receiver's own ``JobOrderList`` decides.
After a timeout or a cut the list is read; what cannot be read stays "unconfirmed".
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from asyncua import ua

from workshop_brain.dispatch.opcua_link import CUT, OpcUaLink, plain, within
from workshop_brain.errors import DispatchError
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation
from workshop_brain.units import NS_PER_S

_BY_TEXT = {
    "NotAllowedToStart": JobState.NOT_ALLOWED_TO_START,
    "AllowedToStart": JobState.ALLOWED_TO_START,
    "Running": JobState.RUNNING,
    "Interrupted": JobState.INTERRUPTED,
    "Ended": JobState.ENDED,
    "Aborted": JobState.ABORTED,
}
_BY_NUMBER = dict(enumerate(_BY_TEXT.values(), start=1))
_STARTED = frozenset(
    {JobState.ALLOWED_TO_START, JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED}
)
_NO_ERROR = 1
_RETURN = {
    1 << 1: "the receiver does not know the job order",
    1 << 3: "the job order's state does not allow it",
    1 << 4: "the receiver cannot accept the job order",
    1 << 32: "the request is invalid",
}
_POLL_S = 0.05
_FRESH_S = 2.0
"""A list this young need not be read again before a Store: a receiver refuses an id it holds."""


@dataclass(slots=True)
class _Steps:
    """Milliseconds of each step since the last one."""

    last: float = field(default_factory=time.perf_counter)
    done: list[tuple[str, float]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.done.append((name, (now - self.last) * 1e3))
        self.last = now


class _RefusedError(Exception):
    """A method answered with a status other than 0 or a bad service result."""


class JobOrderDispatcher:
    """One ISA-95 job-order receiver; satisfies ports.Dispatcher."""

    def __init__(
        self, link: OpcUaLink, *, receiver: str, work_center: str, timeout_s: float = 5.0
    ) -> None:
        self._link = link
        self._receiver = receiver
        self._work_center = work_center
        self._timeout_s = timeout_s
        self._orders: dict[str, JobOrder] = {}
        self._lock = asyncio.Lock()
        self._has_provider: bool | None = None
        self._ids: frozenset[str] = frozenset()
        self._listed_at = float("-inf")

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Store, read back, start, confirm by observed state. Idempotent by job id."""
        steps = _Steps()
        async with self._lock:
            try:
                return await within(self._timeout_s, self._dispatch(job, steps))
            except _RefusedError as refused:
                return await self._after_refusal(job.id, str(refused), steps, wanted=job)
            except (*CUT, DispatchError) as error:
                return await self._after_cut(job.id, error, steps, wanted=job)

    async def _dispatch(self, job: JobOrder, steps: _Steps) -> Confirmation:
        listed = None
        if job.id in self._ids or time.monotonic() - self._listed_at > _FRESH_S:
            listed = (await self._list()).get(job.id)
            steps.mark("list")
        if listed is None:
            await self._call("Store", await self._structure(job), [])
            steps.mark("store")
            listed = (await self._list()).get(job.id)
            steps.mark("read_back")
            if listed is None:
                return _answer(job.id, CommandOutcome.UNCONFIRMED, None, steps, "not listed")
        held = self._orders.get(job.id)
        if listed.state is JobState.ABORTED or (held is not None and _differs(job, held)):
            why = "aborted there" if listed.state is JobState.ABORTED else _differs(job, held)
            return _answer(job.id, CommandOutcome.REJECTED, listed, steps, why)
        if listed.state not in _STARTED:
            await self._call("Start", ua.Variant(job.id, ua.VariantType.String), [])
            steps.mark("start")
        while True:
            listed = (await self._list()).get(job.id)
            if listed is not None and listed.state in _STARTED:
                steps.mark("confirm")
                return _answer(job.id, CommandOutcome.CONFIRMED, listed, steps)
            await asyncio.sleep(_POLL_S)

    async def withdraw(self, job: str) -> Confirmation:
        """Cancel a job that is not running yet; confirmed when the list lacks it."""
        steps = _Steps()
        async with self._lock:
            try:
                return await within(self._timeout_s, self._withdraw(job, steps))
            except _RefusedError as refused:
                return await self._after_refusal(job, str(refused), steps)
            except (*CUT, DispatchError) as error:
                return await self._after_cut(job, error, steps)

    async def _withdraw(self, job: str, steps: _Steps) -> Confirmation:
        listed = (await self._list()).get(job)
        steps.mark("list")
        if listed is None:
            return _answer(job, CommandOutcome.CONFIRMED, None, steps)
        if listed.state in (JobState.RUNNING, JobState.INTERRUPTED, JobState.ENDED):
            why = f"the job is {listed.state.value}"
            return _answer(job, CommandOutcome.REJECTED, listed, steps, why)
        await self._take_back(job, listed.state, steps)
        while True:
            if job not in await self._list():
                break
            await asyncio.sleep(_POLL_S)
        steps.mark("confirm")
        return _answer(job, CommandOutcome.CONFIRMED, None, steps)

    async def _take_back(self, job: str, state: JobState, steps: _Steps) -> None:
        """By methods that a receiver refuses once the job runs: Cancel, or RevokeStart first."""
        id = ua.Variant(job, ua.VariantType.String)
        if state is not JobState.ABORTED:
            try:
                await self._link.child(self._receiver, "Cancel")
            except DispatchError:
                if state is JobState.ALLOWED_TO_START:
                    await self._call("RevokeStart", id, [])
                    steps.mark("revoke")
                await self._call("Abort", id, [])
                steps.mark("abort")
            else:
                await self._call("Cancel", id, [])
                steps.mark("cancel")
                return
        await self._call("Clear", id, [])
        steps.mark("clear")

    async def jobs(self) -> list[JobResponse]:
        """The receiver's job list; DispatchError when it cannot be read."""
        try:
            seconds = max(self._timeout_s, 5.0)
            return list((await within(seconds, self._link.run(self._list_with_times))).values())
        except CUT as error:
            await self._link.drop()
            raise DispatchError(
                f"{self._link.url}: job list of {self._receiver!r} cannot be read "
                f"({type(error).__name__}: {error})"
            ) from error

    async def orders(self) -> list[JobOrder]:
        """Job orders as the receiver held them when its list was last read."""
        return list(self._orders.values())

    async def close(self) -> None:
        """Leave the receiver; jobs there stay."""
        await self._link.close()

    # -- the receiver -----------------------------------------------------------------------

    async def _list(self) -> dict[str, JobResponse]:
        node = await self._link.child(self._receiver, "JobOrderList")
        rows = await node.read_value() or []
        out: dict[str, JobResponse] = {}
        orders: dict[str, JobOrder] = {}
        for row in rows:
            response, order = read_row(row, self._work_center)
            out[response.job] = response
            if order is not None:
                orders[response.job] = order
        self._orders, self._ids = orders, frozenset(out)
        self._listed_at = time.monotonic()
        return out

    async def _list_with_times(self) -> dict[str, JobResponse]:
        """The list, with the actual times that only the job-response provider tells."""
        out = await self._list()
        provider = f"{self._receiver.rsplit('/', 1)[0]}/JobResponseProvider"
        if self._has_provider is not False:
            try:
                node = await self._link.child(provider, "JobOrderResponseList")
            except DispatchError:
                self._has_provider = False
                return out
            self._has_provider = True
            for row in await node.read_value() or []:
                known = out.get(str(row.JobOrderID))
                if known is not None:
                    out[known.job] = replace(
                        known, start_ns=_instant(row.StartTime), end_ns=_instant(row.EndTime)
                    )
        return out

    async def _call(self, method: str, argument: Any, comment: list[ua.LocalizedText]) -> None:
        receiver = await self._link.node(self._receiver)
        target = await self._link.child(self._receiver, method)
        comments = ua.Variant(comment, ua.VariantType.LocalizedText, is_array=True)
        try:
            status = await receiver.call_method(target.nodeid, argument, comments)
        except ua.UaStatusCodeError as error:
            if isinstance(error, _SESSION_ERRORS):
                raise
            raise _RefusedError(f"{method}: {error}") from error
        code = int(status or 0)
        if code and not code & _NO_ERROR:
            known = [text for bit, text in _RETURN.items() if code & bit]
            text = ", ".join(known) or "see the receiver's documentation"
            raise _RefusedError(f"{method} returned status {code}: {text}")

    async def _structure(self, job: JobOrder) -> Any:
        await self._link.client()
        order = ua.ISA95JobOrderDataType()
        order.JobOrderID = job.id
        order.StartTime = _moment(job.start_ns)
        order.EndTime = _moment(job.end_ns)
        order.Priority = job.priority
        equipment = ua.ISA95EquipmentDataType()
        equipment.ID = job.equipment
        order.EquipmentRequirements = [equipment]
        order.JobOrderParameters = [
            _parameter("Requests", ";".join(f"{r}:{n}" for r, n in job.requests)),
            _parameter("Product", job.product),
            _parameter("Program", job.program),
            _parameter("Quantity", ua.Variant(job.quantity, ua.VariantType.UInt32)),
        ]
        return order

    # -- when it did not go straight --------------------------------------------------------

    async def _after_refusal(
        self, job: str, text: str, steps: _Steps, *, wanted: JobOrder | None = None
    ) -> Confirmation:
        listed, readable = await self._look(job)
        steps.mark("read_back")
        known = self._as_listed(job, listed, steps, wanted=wanted, readable=readable)
        return known or _answer(job, CommandOutcome.REJECTED, listed, steps, text)

    async def _after_cut(
        self, job: str, error: BaseException, steps: _Steps, *, wanted: JobOrder | None = None
    ) -> Confirmation:
        """A command that left and was not answered: only the receiver knows."""
        await self._link.drop()
        listed, readable = await self._look(job)
        steps.mark("read_back")
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        known = self._as_listed(job, listed, steps, wanted=wanted, readable=readable)
        return known or _answer(job, CommandOutcome.UNCONFIRMED, listed, steps, text)

    def _as_listed(
        self,
        job: str,
        listed: JobResponse | None,
        steps: _Steps,
        *,
        wanted: JobOrder | None,
        readable: bool,
    ) -> Confirmation | None:
        """What the list alone decides: of a dispatch, or (nothing wanted) of a withdrawal."""
        if wanted is None:
            is_gone = readable and listed is None
            return _answer(job, CommandOutcome.CONFIRMED, None, steps) if is_gone else None
        if listed is None or listed.state not in _STARTED:
            return None
        if why := _differs(wanted, self._orders.get(job)):
            return _answer(job, CommandOutcome.REJECTED, listed, steps, why)
        return _answer(job, CommandOutcome.CONFIRMED, listed, steps)

    async def _look(self, job: str) -> tuple[JobResponse | None, bool]:
        try:
            return (await within(self._timeout_s, self._list())).get(job), True
        except (*CUT, DispatchError):
            return None, False


_SESSION_ERRORS = (
    ua.uaerrors.BadSessionIdInvalid,
    ua.uaerrors.BadSessionClosed,
    ua.uaerrors.BadSecureChannelIdInvalid,
    ua.uaerrors.BadSecureChannelClosed,
    ua.uaerrors.BadConnectionClosed,
    ua.uaerrors.BadCommunicationError,
    ua.uaerrors.BadTimeout,
    ua.uaerrors.BadRequestTimeout,
)


def read_row(row: Any, work_center: str = "") -> tuple[JobResponse, JobOrder | None]:
    """One ISA95JobOrderAndStateDataType as what the plant says, and the order it holds.

    The order is None when the receiver does not tell its equipment, dates or quantity.
    """
    order = row.JobOrder
    parameters = {p.ID: plain(p.Value) for p in order.JobOrderParameters or []}
    equipment = (order.EquipmentRequirements or [None])[0]
    unit = str(equipment.ID) if equipment is not None else ""
    response = JobResponse(
        job=str(order.JobOrderID),
        state=_state(row.State or []),
        equipment=unit,
        good=int(parameters.get("Good") or 0),
        scrap=int(parameters.get("Scrap") or 0),
        start_ns=_instant(parameters.get("ActualStart")),
        end_ns=_instant(parameters.get("ActualEnd")),
    )
    requests = read_requests(str(parameters.get("Requests") or ""))
    quantity = int(parameters.get("Quantity") or sum(n for _, n in requests))
    if not unit or quantity <= 0:
        return response, None
    held = JobOrder(
        id=response.job,
        requests=requests,
        work_center=work_center,
        equipment=unit,
        product=str(parameters.get("Product") or ""),
        program=str(parameters.get("Program") or ""),
        quantity=quantity,
        start_ns=_instant(order.StartTime),
        end_ns=_instant(order.EndTime),
        priority=int(order.Priority or 0),
    )
    return response, held


def read_requests(text: str) -> tuple[tuple[str, int], ...]:
    """``id:pieces;id:pieces`` as pairs; parts without a number are left out.

    >>> read_requests("A17:120;B2:30")
    (('A17', 120), ('B2', 30))
    """
    pairs = (part.rpartition(":") for part in text.split(";") if part)
    return tuple((id, int(n)) for id, _, n in pairs if id and n.isdigit())


def _state(states: list[Any]) -> JobState:
    """The outermost known state; a structure lists super-states and sub-states."""
    for entry in states:
        known = _BY_TEXT.get(str(plain(entry.StateText)))
        if known is not None:
            return known
    for entry in states:
        known = _BY_NUMBER.get(int(entry.StateNumber or 0))
        if known is not None:
            return known
    return JobState.PLANNED


def _parameter(id: str, value: Any) -> Any:
    out = ua.ISA95ParameterDataType()
    out.ID = id
    out.Value = value if isinstance(value, ua.Variant) else ua.Variant(value)
    return out


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / NS_PER_S, UTC)


def _instant(value: Any) -> int:
    """Nanoseconds since the epoch of a DateTime, of text digits or of a number; else 0."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        if moment.year < 1970:
            return 0
        return round(moment.timestamp() * 1e6) * 1000
    if isinstance(value, int | str) and str(value).isdigit():
        return int(value)
    return 0


def _differs(wanted: JobOrder, held: JobOrder | None) -> str:
    """What the receiver holds differently from the order; "" when nothing."""
    if held is None:
        return ""
    for name in ("equipment", "quantity", "program"):
        if getattr(held, name) != getattr(wanted, name):
            return (
                f"the receiver holds {name} {getattr(held, name)!r}, "
                f"the order says {getattr(wanted, name)!r}"
            )
    return ""


def _answer(
    job: str,
    outcome: CommandOutcome,
    listed: JobResponse | None,
    steps: _Steps,
    message: str = "",
) -> Confirmation:
    return Confirmation(
        job=job, outcome=outcome, read_back=listed, message=message, steps=tuple(steps.done)
    )
