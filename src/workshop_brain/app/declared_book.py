"""The declared times that hold, and how a planner's changes are kept: all of them or none."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from workshop_brain.model.declared import Declared
from workshop_brain.model.order import WorkRequest
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records


class DeclaredBook:
    """Planned stops and extra shifts in the records, with every change in the ledger before."""

    def __init__(self, records: Records, ledger: Ledger) -> None:
        self._records, self._ledger = records, ledger
        self._rows = tuple(Declared.from_dict(r) for r in records.setting("declared", []))
        self.changing = asyncio.Lock()
        """To be held while changes are checked and kept: one after the other."""

    def at(self, now_ns: int) -> tuple[Declared, ...]:
        """Those that are not over."""
        return tuple(row for row in self._rows if row.until_ns > now_ns)

    def one(self, id: str, now_ns: int) -> Declared:
        """One that is not over; KeyError when there is none."""
        for row in self.at(now_ns):
            if row.id == id:
                return row
        raise KeyError(id)

    async def keep(
        self,
        declared: Sequence[Declared],
        *,
        user: str,
        time_ns: int,
        steps: Sequence[Mapping[str, Any]],
        requests: Sequence[WorkRequest] = (),
        cancelled: Sequence[str] = (),
    ) -> None:
        """From now on these times hold, and the orders are changed with them.

        Raises
        ------
        StoreError, LedgerError
            Nothing has changed.
        """
        rows = [row.as_dict() for row in declared]
        body = {"by": user, "time_ns": time_ns, "steps": list(steps), "declared": rows}
        await asyncio.to_thread(self._ledger.append, "scenario", body)
        await asyncio.to_thread(
            self._records.change_plan, requests=requests, cancelled=cancelled, declared=rows
        )
        self._rows = tuple(declared)
