"""The desks where people hand in: the order desk and the people's work list."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from workshop_brain.app.decide import Decider
from workshop_brain.dispatch.work_list import WorkListDispatcher
from workshop_brain.errors import OrderError
from workshop_brain.model.order import RUSH_PRIORITY, RequestState, WorkRequest
from workshop_brain.model.plant import Plant
from workshop_brain.ports import Clock, Dispatcher
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.orders import MOST_PIECES, read_orders
from workshop_brain.store.records import Records
from workshop_brain.units import NS_PER_MS, NS_PER_S


class OrderDesk:
    """Takes orders in, keeps them, tells the decision loop."""

    def __init__(self, plant: Plant, records: Records, ledger: Ledger, decider: Decider) -> None:
        self._plant, self._records, self._ledger = plant, records, ledger
        self._decider = decider

    async def add(self, order: WorkRequest, user: str) -> WorkRequest:
        """Add one order; OrderError when its id is taken, it is too large or due in the past."""
        self._must_be_possible(order)
        if await asyncio.to_thread(self._records.request, order.id) is not None:
            raise OrderError(
                f"order {order.id!r} is known already; give it another id, or cancel the old one"
            )
        await asyncio.to_thread(self._keep, [order], user, "")
        await self._decider.orders_changed([order.id], rush=order.priority >= RUSH_PRIORITY)
        return order

    async def import_file(self, name: str, content: bytes, user: str) -> dict[str, Any]:
        """Read an order file; rows with errors are named, the others are taken."""
        requests, errors = await asyncio.to_thread(read_orders, content, self._plant)
        new = await asyncio.to_thread(self._unknown, requests)
        if new:
            await asyncio.to_thread(self._keep, new, user, name)
            rush = any(r.priority >= RUSH_PRIORITY for r in new)
            await self._decider.orders_changed([r.id for r in new], rush=rush)
        return {
            "accepted": len(new),
            "known": len(requests) - len(new),
            "errors": [asdict(error) for error in errors],
            "warnings": [self._past(r) for r in new if r.due_ns <= self._decider.plant_ns()],
        }

    def _must_be_possible(self, order: WorkRequest) -> None:
        if order.quantity > MOST_PIECES:
            raise OrderError(
                f"order {order.id!r}: quantity {order.quantity} is more than {MOST_PIECES} pieces; "
                "split it into several orders"
            )
        now = self._decider.plant_ns()
        if order.due_ns <= now:
            raise OrderError(
                f"order {order.id!r}: due {self._local(order.due_ns)} is not after plant time "
                f"{self._local(now)}; give it a later due date"
            )

    def _past(self, order: WorkRequest) -> dict[str, str]:
        """What an import says of an order that is late before it begins."""
        return {
            "order": order.id,
            "column": "due",
            "value": self._local(order.due_ns),
            "message": "is in the past; the order is taken and counts as late",
        }

    def _local(self, time_ns: int) -> str:
        zone = ZoneInfo(self._plant.timezone)
        moment = datetime.fromtimestamp(time_ns // NS_PER_S, UTC).astimezone(zone)
        return moment.isoformat(" ", "seconds")

    async def import_path(self, path: Path) -> int:
        """Take the new orders of a file on disk; how many they were."""
        content = await asyncio.to_thread(path.read_bytes)
        taken = await self.import_file(path.name, content, "system")
        return int(taken["accepted"])

    async def cancel(self, id: str, user: str) -> None:
        """Take an order back; KeyError when there is none."""
        if await asyncio.to_thread(self._records.request, id) is None:
            raise KeyError(id)
        await asyncio.to_thread(self._drop, id, user)
        await self._decider.orders_changed([id])

    def _unknown(self, requests: list[WorkRequest]) -> list[WorkRequest]:
        known = {row.request.id for row in self._records.requests()}
        return [r for r in requests if r.id not in known]

    def _keep(self, requests: list[WorkRequest], user: str, file: str) -> None:
        self._ledger.append(
            "import", {"user": user, "file": file, "orders": [r.id for r in requests]}
        )
        self._records.save_requests(requests)

    def _drop(self, id: str, user: str) -> None:
        self._ledger.append("import", {"user": user, "file": "", "cancelled": [id]})
        self._records.set_request_state(id, RequestState.CANCELLED)


class WorkList:
    """What people at the stations have to do, over all work centers that are run that way."""

    def __init__(self, dispatchers: Mapping[str, Dispatcher], clock: Clock) -> None:
        self._lists = {
            center: way
            for center, way in dispatchers.items()
            if isinstance(way, WorkListDispatcher)
        }
        self._clock = clock

    async def entries(self, work_center: str | None) -> list[dict[str, Any]]:
        """Jobs with their states, in the order in which they are to be done."""
        out: list[dict[str, Any]] = []
        for center, way in self._lists.items():
            if work_center in (None, center):
                orders = {order.id: order for order in await way.orders()}
                known = [r for r in await way.jobs() if r.job in orders]
                out += [_entry(orders[r.job], r) for r in known]
        return sorted(out, key=lambda e: (e["work_center"], e["priority"], e["start_ms"]))

    async def confirm(
        self, job: str, user: str, good: int | None, scrap: int | None
    ) -> dict[str, Any]:
        """A tap on a job; KeyError when no list holds it."""
        for way in self._lists.values():
            orders = {order.id: order for order in await way.orders()}
            if job in orders:
                now = self._clock.plant_ns()
                response = await way.confirm(job, time_ns=now, good=good, scrap=scrap or 0)
                return {**_entry(orders[job], response), "by": user}
        raise KeyError(job)


def _entry(order: Any, response: Any) -> dict[str, Any]:
    return {
        "job": order.id,
        "work_center": order.work_center,
        "equipment": order.equipment,
        "product": order.product,
        "program": order.program,
        "quantity": order.quantity,
        "priority": order.priority,
        "start_ms": order.start_ns / NS_PER_MS,
        "end_ms": order.end_ns / NS_PER_MS,
        "state": response.state.value,
        "good": response.good,
        "scrap": response.scrap,
    }
