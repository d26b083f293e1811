"""Job orders to a PLC by plain OPC UA tags: write the fields, the request id last, wait for the
acknowledge, compare the echo.

The PLC keeps no list that a client could read. So accepted jobs stand in a book, and what becomes
of them is read from the ``JobOrder`` tag of their units: named there means running, named no
longer means ended. A request that was not answered stands there as unknown until the tags tell;
while one is open, nothing is written over it.
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
_WAITS = frozenset({JobState.UNKNOWN, JobState.ALLOWED_TO_START, JobState.RUNNING})
_ANSWER = ("AckId", "EchoOrderId", "EchoProgram", "EchoQuantity", "Result", "ResultText")
_REQUEST = ("RequestId", "OrderId")
_COUNTERS = ("ProdProcessedCount", "ProdDefectiveCount")


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
        self._counts: dict[str, tuple[int, int]] = {}
        self._lock = asyncio.Lock()

    async def dispatch(self, job: JobOrder) -> Confirmation:
        """Write, wait for the acknowledge, compare the echo. Idempotent by job id.

        Rejected, with nothing written, while the PLC has not answered an earlier request.
        """
        started = time.perf_counter()
        steps: list[tuple[str, float]] = []
        async with self._lock:
            held = await self._held(job.id)
            if held is not None and held.state is not JobState.UNKNOWN:
                return Confirmation(job=job.id, outcome=CommandOutcome.CONFIRMED, read_back=held)
            sent = [held is not None]
            try:
                outcome, message = await within(self._timeout_s, self._exchange(job, steps, sent))
            except (*CUT, DispatchError) as error:
                await self._link.drop()
                outcome, message = await self._after_cut(job, error, was_sent=sent[0])
            steps.append(("handshake", (time.perf_counter() - started) * 1e3))
            response = await self._keep(job, outcome, was_sent=sent[0])
        return Confirmation(
            job=job.id,
            outcome=outcome,
            read_back=response,
            message=message,
            steps=tuple(steps),
        )

    async def _keep(
        self, job: JobOrder, outcome: CommandOutcome, *, was_sent: bool
    ) -> JobResponse | None:
        """The book after a request: accepted, unknown, or not there."""
        state = JobState.ALLOWED_TO_START
        if outcome is CommandOutcome.UNCONFIRMED and was_sent:
            state = JobState.UNKNOWN
        elif outcome is not CommandOutcome.CONFIRMED:
            await asyncio.to_thread(self._book.remove, job.id)
            return None
        response = JobResponse(job=job.id, state=state, equipment=job.equipment)
        await asyncio.to_thread(self._book.save, job, response)
        return response

    async def _exchange(
        self, job: JobOrder, steps: list[tuple[str, float]], sent: list[bool]
    ) -> tuple[CommandOutcome, str]:
        """One request and its answer; ``sent[0]`` turns true right before the request leaves."""
        before = await self._read(*_REQUEST, *_ANSWER)
        while before["AckId"] != before["RequestId"]:
            await asyncio.sleep(_POLL_S)  # an earlier request: nothing may be written over it
            before = await self._read(*_REQUEST, *_ANSWER)
        await self._settle(before, but=job.id)
        if sent[0]:
            return _what_became(job, before)
        if _is_answer(job, before):
            return _verdict(job, before)
        request = (int(before["RequestId"] or 0) + 1) % 2**32
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
        sent[0] = True
        await self._write({"RequestId": request or 1})
        steps.append(("write", (time.perf_counter() - at) * 1e3))
        while True:
            answer = await self._read(*_ANSWER)
            if answer["AckId"] == (request or 1):
                return _verdict(job, answer)
            await asyncio.sleep(_POLL_S)

    async def _after_cut(
        self, job: JobOrder, error: BaseException, *, was_sent: bool
    ) -> tuple[CommandOutcome, str]:
        """The request may have arrived: only the acknowledge tags know."""
        try:
            tags = await within(self._timeout_s, self._read(*_REQUEST, *_ANSWER))
        except (*CUT, DispatchError):
            tags = {}
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        if was_sent:
            return _what_became(job, tags) if tags else (CommandOutcome.UNCONFIRMED, text)
        if tags and tags["AckId"] != tags["RequestId"]:
            text = (
                f"the PLC has not answered request {tags['RequestId']} "
                f"(order {tags['OrderId']!r}); look at the PLC"
            )
            return CommandOutcome.REJECTED, text
        return CommandOutcome.UNCONFIRMED, text

    async def _settle(self, tags: dict[str, Any], *, but: str = "") -> None:
        """Book what became of the unknown job whose request still stands in the tags."""
        rows = await asyncio.to_thread(self._book.load, self._work_center)
        for order, response in rows:
            if response.state is JobState.UNKNOWN and order.id != but:
                outcome, _ = _what_became(order, tags)
                await self._keep(order, outcome, was_sent=True)

    async def withdraw(self, job: str) -> Confirmation:
        """These tags know no taking back: confirmed only for a job that is not there."""
        held = await self._held(job)
        if held is None:
            return Confirmation(job=job, outcome=CommandOutcome.CONFIRMED)
        if held.state is JobState.UNKNOWN:
            return Confirmation(
                job=job,
                outcome=CommandOutcome.UNCONFIRMED,
                read_back=held,
                message="the PLC has not said whether it took the job; look at the PLC",
            )
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
        if any(response.state is JobState.UNKNOWN for _, response in waiting):
            await self._settle(await self._read(*_REQUEST, *_ANSWER))
        now = {}
        for unit in {order.equipment for order, _ in waiting}:
            value = await (await self._unit_tag(unit)).read_data_value()
            stamp = value.SourceTimestamp
            at_ns = round(stamp.timestamp() * 1e6) * 1000 if stamp else 0
            now[unit] = (str(value.Value.Value or "") if value.Value else "", at_ns)
        for order, response in waiting:
            job, at_ns = now[order.equipment]
            if response.state is not JobState.RUNNING and job == order.id:
                changed = replace(response, state=JobState.RUNNING, start_ns=at_ns)
                self._counts[order.id] = await self._counted(order.equipment)
            elif response.state is JobState.RUNNING and job != order.id:
                good, scrap = await self._made(order)
                changed = replace(
                    response, state=JobState.ENDED, end_ns=at_ns, good=good, scrap=scrap
                )
            else:
                continue
            await asyncio.to_thread(self._book.save, order, changed)

    async def _made(self, order: JobOrder) -> tuple[int, int]:
        """(good, scrap) pieces by the unit's counters since the job began; 0, 0 when not known."""
        before = self._counts.pop(order.id, _NO_COUNT)
        after = await self._counted(order.equipment)
        if before == _NO_COUNT or after == _NO_COUNT or after < before:
            return 0, 0
        scrap = max(after[1] - before[1], 0)
        return max(after[0] - before[0] - scrap, 0), scrap

    async def _counted(self, unit: str) -> tuple[int, int]:
        """The unit's (processed, defective) counters, or ``_NO_COUNT`` where it has none."""
        try:
            nodes = [await self._unit_tag(unit, name) for name in _COUNTERS]
        except DispatchError:
            return _NO_COUNT
        client = await self._link.client()
        processed, defective = await client.read_values(nodes)
        return int(processed or 0), int(defective or 0)

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

    async def _unit_tag(self, unit: str, name: str = "JobOrder") -> Node:
        """``Plant/<site>/.../<unit>/<name>``: a path without the enterprise, below the root."""
        root = self._receiver.split("/", 1)[0]
        return await self._link.child(f"{root}/{unit.split('/', 1)[1]}", name)

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


_NO_COUNT = (-1, -1)


def _what_became(job: JobOrder, tags: dict[str, Any]) -> tuple[CommandOutcome, str]:
    """What the tags say of a request for a job that was sent and not followed to its end."""
    if tags["OrderId"] != job.id:
        other = f"the tags hold order {tags['OrderId']!r} by now"
        return CommandOutcome.UNCONFIRMED, f"{other}; look whether the PLC took {job.id!r}"
    if tags["AckId"] != tags["RequestId"]:
        text = f"the PLC has not answered request {tags['RequestId']}; look at the PLC"
        return CommandOutcome.UNCONFIRMED, text
    return _verdict(job, tags)


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
