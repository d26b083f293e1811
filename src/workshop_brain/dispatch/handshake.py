"""Job orders to a PLC by plain OPC UA tags: write the fields, the request id last, wait for the
acknowledge, compare the echo.

The PLC keeps no list that a client could read. So accepted jobs stand in a book, and what becomes
of them is read from the ``JobOrder`` tag of their units: named there means running, named no
longer means ended.
"""

import asyncio
import time
from dataclasses import replace
from typing import Any

from asyncua import Node, ua

from workshop_brain.dispatch.book import JobBook, MemoryBook
from workshop_brain.dispatch.opcua_link import CUT, OpcUaLink, within
from workshop_brain.errors import DispatchError
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.ports import CommandOutcome, Confirmation

ACCEPTED, REFUSED = 1, 2
_POLL_S = 0.02
_WAITS = frozenset({JobState.ALLOWED_TO_START, JobState.RUNNING})
_ANSWER = ("AckId", "EchoOrderId", "EchoProgram", "EchoQuantity", "Result", "ResultText")


class HandshakeDispatcher:
    """One PLC with handshake tags; satisfies ports.Dispatcher."""

    def __init__(
        self,
        link: OpcUaLink,
        *,
        receiver: str,
        work_center: str,
        timeout_s: float = 5.0,
        book: JobBook | None = None,
    ) -> None:
        self._link = link
        self._receiver = receiver.strip("/")
        self._work_center = work_center
        self._timeout_s = timeout_s
        self._book = book if book is not None else MemoryBook()
        self._types: dict[str, ua.VariantType] = {}
        self._lock = asyncio.Lock()

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Write, wait for the acknowledge, compare the echo. Idempotent by job id."""
        started = time.perf_counter()
        steps: list[tuple[str, float]] = []
        async with self._lock:
            held = await self._held(job.id)
            if held is not None:
                return Confirmation(job=job.id, outcome=CommandOutcome.CONFIRMED, read_back=held)
            try:
                outcome, message = await within(self._timeout_s, self._exchange(job, steps))
            except (*CUT, DispatchError) as error:
                await self._link.drop()
                outcome, message = await self._after_cut(job, error)
            steps.append(("handshake", (time.perf_counter() - started) * 1e3))
            response = None
            if outcome is CommandOutcome.CONFIRMED:
                response = JobResponse(
                    job=job.id, state=JobState.ALLOWED_TO_START, equipment=job.equipment
                )
                await asyncio.to_thread(self._book.save, job, response)
        return Confirmation(
            job=job.id,
            outcome=outcome,
            read_back=response,
            message=message,
            steps=tuple(steps),
        )

    async def _exchange(
        self, job: JobOrder, steps: list[tuple[str, float]]
    ) -> tuple[CommandOutcome, str]:
        before = await self._read("RequestId", *_ANSWER)
        if _is_answer(job, before) and before["AckId"] == before["RequestId"]:
            return _verdict(job, before)
        request = (max(int(before["RequestId"] or 0), int(before["AckId"] or 0)) + 1) % 2**32
        fields = {
            "OrderId": job.id,
            "Equipment": job.equipment,
            "Program": job.program,
            "Product": job.product,
            "Requests": ";".join(f"{r}:{n}" for r, n in job.requests),
            "Quantity": job.quantity,
            "Priority": job.priority,
        }
        at = time.perf_counter()
        await self._write(fields)
        written = await self._read(*fields)
        for name, value in fields.items():
            if written[name] != value:
                return CommandOutcome.REJECTED, f"tag {name} holds {written[name]!r}, not {value!r}"
        await self._write({"RequestId": request or 1})
        steps.append(("write", (time.perf_counter() - at) * 1e3))
        while True:
            answer = await self._read(*_ANSWER)
            if answer["AckId"] == (request or 1):
                return _verdict(job, answer)
            await asyncio.sleep(_POLL_S)

    async def _after_cut(self, job: JobOrder, error: BaseException) -> tuple[CommandOutcome, str]:
        """The request may have arrived: only the acknowledge tags know."""
        try:
            answer = await within(self._timeout_s, self._read("RequestId", *_ANSWER))
        except (*CUT, DispatchError):
            answer = {}
        if answer and _is_answer(job, answer) and answer["AckId"] == answer["RequestId"]:
            return _verdict(job, answer)
        return CommandOutcome.UNCONFIRMED, f"{type(error).__name__}: {error}".rstrip(": ")

    async def withdraw(self, job: str) -> Confirmation:
        """These tags know no taking back: confirmed only for a job that is not there."""
        held = await self._held(job)
        if held is None:
            return Confirmation(job=job, outcome=CommandOutcome.CONFIRMED)
        return Confirmation(
            job=job,
            outcome=CommandOutcome.REJECTED,
            read_back=held,
            message="the PLC handshake cannot take a job back; change it at the PLC",
        )

    async def jobs(self) -> list[JobResponse]:
        """Accepted jobs with what the units' tags say of them."""
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        waiting = [(o, r) for o, r in rows if r.state in _WAITS]
        if waiting:
            try:
                seconds = max(self._timeout_s, 5.0)
                await within(seconds, self._link.run(lambda: self._follow(waiting)))
            except CUT as error:
                await self._link.drop()
                raise DispatchError(
                    f"{self._link.url}: JobOrder tags of {self._work_center!r} cannot be read "
                    f"({type(error).__name__}: {error})"
                ) from error
            rows = await asyncio.to_thread(self._book.load, self._work_center)
        return [response for _, response in rows]

    async def _follow(self, waiting: list[tuple[JobOrder, JobResponse]]) -> None:
        now = {}
        for unit in {order.equipment for order, _ in waiting}:
            value = await (await self._unit_tag(unit)).read_data_value()
            stamp = value.SourceTimestamp
            at_ns = round(stamp.timestamp() * 1e6) * 1000 if stamp else 0
            now[unit] = (str(value.Value.Value or "") if value.Value else "", at_ns)
        for order, response in waiting:
            job, at_ns = now[order.equipment]
            if response.state is JobState.ALLOWED_TO_START and job == order.id:
                changed = replace(response, state=JobState.RUNNING, start_ns=at_ns)
            elif response.state is JobState.RUNNING and job != order.id:
                changed = replace(response, state=JobState.ENDED, end_ns=at_ns, good=order.quantity)
            else:
                continue
            await asyncio.to_thread(self._book.save, order, changed)

    async def orders(self) -> list[JobOrder]:
        """Job orders that the PLC accepted."""
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        return [order for order, _ in rows]

    async def close(self) -> None:
        """Leave the PLC; jobs there stay."""
        await self._link.close()

    async def _held(self, job: str) -> JobResponse | None:
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        return next((r for o, r in rows if o.id == job), None)

    async def _tag(self, name: str) -> Node:
        return await self._link.child(self._receiver, name)

    async def _unit_tag(self, unit: str) -> Node:
        """``Plant/<site>/.../<unit>/JobOrder``: a path without the enterprise, below the root."""
        root = self._receiver.split("/", 1)[0]
        return await self._link.child(f"{root}/{unit.split('/', 1)[1]}", "JobOrder")

    async def _read(self, *names: str) -> dict[str, Any]:
        client = await self._link.client()
        nodes = [await self._tag(name) for name in names]
        return dict(zip(names, await client.read_values(nodes), strict=True))

    async def _write(self, fields: dict[str, Any]) -> None:
        client = await self._link.client()
        nodes, values = [], []
        for name, value in fields.items():
            node = await self._tag(name)
            if name not in self._types:
                self._types[name] = await node.read_data_type_as_variant_type()
            nodes.append(node)
            values.append(ua.DataValue(ua.Variant(value, self._types[name])))
        await client.write_values(nodes, values)


def _is_answer(job: JobOrder, tags: dict[str, Any]) -> bool:
    return bool(tags["EchoOrderId"] == job.id and int(tags["Result"] or 0) == ACCEPTED)


def _verdict(job: JobOrder, answer: dict[str, Any]) -> tuple[CommandOutcome, str]:
    """What an acknowledged request came to; an accepted one must echo what was written."""
    result = int(answer["Result"] or 0)
    if result == REFUSED:
        return CommandOutcome.REJECTED, str(answer["ResultText"] or "the PLC refused it")
    if result != ACCEPTED:
        return CommandOutcome.UNCONFIRMED, f"acknowledged with result {result}"
    wanted = {
        "EchoOrderId": job.id,
        "EchoProgram": job.program,
        "EchoQuantity": job.quantity,
    }
    for name, value in wanted.items():
        if answer[name] != value:
            return (
                CommandOutcome.UNCONFIRMED,
                f"{name} is {answer[name]!r}, but {value!r} was written; look at the PLC",
            )
    return CommandOutcome.CONFIRMED, ""
