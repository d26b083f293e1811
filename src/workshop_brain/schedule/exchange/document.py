"""``workshop-orders/1``: orders, operations, machines and changeovers as one plain document.

Every import makes this document, and it alone becomes a problem. All numbers are whole seconds
(ticks); instants count from ``origin`` (ISO 8601; none = from 0)::

    {"format": "workshop-orders/1", "origin": "2026-01-05T00:00:00Z", "timezone": "UTC",
     "objective": "weighted_tardiness",
     "machines": [{"id", "work_center", "table", "family", "available", "closed", "resumable"}],
     "jobs": [{"id", "product", "quantity", "release", "due", "weight", "operations": [
         {"id", "family", "release", "after": [[id, lag, max_lag]],
          "alternatives": [[machine, s]]}]}],
     "families": [...], "setup": [[[...]]], "notes": [...]}

``table`` is the machine's table within ``setup``; ``family``, ``due`` and ``max_lag`` may be null.
Limits stand in the fields that a reactive-fjsp/1 document has for them: ``tools``, ``operators``,
``tariff``; ``tools``, ``skills``, ``setup_tools``, ``setup_skills`` of operations and machines;
``batch`` and ``power_kw`` of machines, ``size`` and ``deadline`` of operations and orders.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import OrderError
from workshop_brain.schedule.document_limits import Arc, limits_of
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.structure import FAR, Problem, assemble
from workshop_brain.units import NS_PER_S

FORMAT = "workshop-orders/1"
MOST = 10**12
"""Largest number of a document, seconds."""
MOST_OPS = 100_000
"""Operations of one document: beyond, a slip of the pen is likelier than a plant."""
MOST_SETUPS = 20_000_000
"""Entries of all changeover tables together (160 MB)."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def instant_ns(text: str) -> int:
    """An ISO 8601 instant as ns since the epoch, whole seconds; UTC where it names no zone.

    >>> instant_ns("1970-01-01T08:00:01+08:00")
    1000000000
    """
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S


def orders_problem(data: Mapping[str, Any], name: str = "") -> Problem:
    """The problem of a ``workshop-orders/1`` document.

    Raises
    ------
    OrderError
        An entry is missing, doubled, out of range or names something that is not there.
    """
    with in_form(FORMAT):
        return _Layout(data, name).problem()


@contextmanager
def in_form(form: str) -> Iterator[None]:
    """What is missing or of another type in a parsed document becomes an OrderError."""
    try:
        yield
    except KeyError as error:
        raise OrderError(f"has no {error.args[0]!r}, which {form} needs") from error
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise OrderError(f"does not follow {form}: {error}") from error


class _Layout:
    """Lays a document out as columns; every name is looked up once."""

    def __init__(self, data: Mapping[str, Any], name: str) -> None:
        self.data, self.name = data, name
        self.machines = _unique(data["machines"], "machine")
        self.jobs = _unique(data["jobs"], "order")
        if not self.machines:
            raise OrderError("machines: there are none; name at least one")
        if not self.jobs:
            raise OrderError("jobs: there are none; name at least one order")
        self.families = {str(f): k for k, f in enumerate(data.get("families") or [""])}
        self.tables = _setups(data.get("setup"), len(self.families))
        self.ops: list[tuple[int, Mapping[str, Any]]] = [
            (j, op) for j, job in enumerate(data["jobs"]) for op in job["operations"]
        ]
        if len(self.ops) > MOST_OPS:
            raise OrderError(
                f"{len(self.ops)} operations are more than {MOST_OPS}; split the orders"
            )
        self.op_at = _unique([op for _, op in self.ops], "operation")

    def problem(self) -> Problem:
        """All columns together."""
        groups, group_of = self._groups()
        setup = self.tables[[table for _, table in groups]]
        alternatives = [self._alternatives(op) for _, op in self.ops]
        preds = [self._preds(op) for _, op in self.ops]
        op_job = [j for j, _ in self.ops]
        centers = [{group_of[m] for m, _ in row} for row in alternatives]
        jobs = self.data["jobs"]
        release = [_whole(job.get("release", 0), f"order {job['id']!r}: release") for job in jobs]
        weight = [_whole(job.get("weight", 1), f"order {job['id']!r}: weight", 0) for job in jobs]
        for job in jobs:
            if not job["operations"]:
                raise OrderError(f"order {job['id']!r}: has no operations; give it a routing")
        origin = self.data.get("origin")
        target = self.data.get("objective", "weighted_tardiness")
        if target not in ("weighted_tardiness", "makespan"):
            raise OrderError(f"objective: must be weighted_tardiness or makespan, got {target!r}")
        return assemble(
            name=self.name,
            origin_ns=_origin(origin) if origin else 0,
            target="makespan" if target == "makespan" else "tardiness",
            alternatives=alternatives,
            preds=preds,
            op_job=op_job,
            job_due=[self._due(job) for job in jobs],
            n_machines=len(self.machines),
            ops={
                "family": [self._family(op, f"operation {op['id']!r}", 0) for _, op in self.ops],
                "release": [
                    max(
                        release[j],
                        _whole(op.get("release", 0), f"operation {op['id']!r}: release"),
                    )
                    for j, op in self.ops
                ],
                "work_center": [next(iter(c)) if len(c) == 1 else -1 for c in centers],
                "quantity": [
                    _whole(jobs[j].get("quantity", 1), f"order {jobs[j]['id']!r}: quantity", 1)
                    for j in op_job
                ],
            },
            jobs={"release": release, "weight": weight},
            machines=self._machine_columns(group_of),
            setup=setup,
            sinks=_sinks(preds, op_job),
            calendar=[self._closed(row) for row in self.data["machines"]],
            op_ids=[str(op["id"]) for _, op in self.ops],
            job_ids=[str(job["id"]) for job in jobs],
            machine_ids=list(self.machines),
            work_center_ids=[center for center, _ in groups],
            op_product=[str(jobs[j].get("product") or "") for j in op_job],
            limits=self._limits(),
        )

    def _limits(self) -> Limits | None:
        """Tools, people, deadlines and what else the document limits; None when it has none."""
        first, arcs = [], []
        at = 0
        for job in self.data["jobs"]:
            first.append(at)
            at += len(job["operations"])
        for o, (_, op) in enumerate(self.ops):
            for before, _, most in map(_link, op.get("after", ())):
                if most is not None:
                    what = f"operation {op['id']!r}: maximum lag"
                    arcs.append(
                        Arc(before=self.op_at[str(before)], after=o, max_lag=_whole(most, what, 0))
                    )
        return limits_of(self.data, first, arcs, {})

    def _groups(self) -> tuple[list[tuple[str, int]], list[int]]:
        """Work centers as machines that share name and changeover table; the one of each."""
        groups: dict[tuple[str, int], int] = {}
        group_of = []
        for row in self.data["machines"]:
            what = f"machine {row['id']!r}: table"
            table = _whole(row.get("table", 0), what, 0, len(self.tables) - 1)
            key = (str(row.get("work_center") or ""), table)
            group_of.append(groups.setdefault(key, len(groups)))
        return list(groups), group_of

    def _machine_columns(self, group_of: list[int]) -> dict[str, list[int]]:
        rows = self.data["machines"]
        return {
            "work_center": group_of,
            "available": [
                _whole(row.get("available", 0), f"machine {row['id']!r}: available") for row in rows
            ],
            "family": [self._family(row, f"machine {row['id']!r}", -1) for row in rows],
            "resumable": [int(bool(row.get("resumable", True))) for row in rows],
        }

    def _alternatives(self, op: Mapping[str, Any]) -> list[tuple[int, int]]:
        what = f"operation {op['id']!r}"
        row: dict[int, int] = {}
        for name, seconds in op["alternatives"]:
            if str(name) not in self.machines:
                raise OrderError(f"{what}: no machine {name!r}; known are {_some(self.machines)}")
            m = self.machines[str(name)]
            if m in row:
                raise OrderError(f"{what}: machine {name!r} stands twice")
            row[m] = _whole(seconds, f"{what}: duration", 0)
        if not row:
            raise OrderError(f"{what}: no machine can do it; name one")
        return list(row.items())

    def _preds(self, op: Mapping[str, Any]) -> list[tuple[int, int]]:
        row: dict[int, int] = {}
        for before, lag, _ in map(_link, op.get("after", ())):
            if str(before) not in self.op_at:
                raise OrderError(f"operation {op['id']!r}: comes after {before!r}, which is none")
            k = self.op_at[str(before)]
            row[k] = max(row.get(k, 0), _whole(lag, f"operation {op['id']!r}: lag", 0))
        return list(row.items())

    def _due(self, job: Mapping[str, Any]) -> int:
        due = job.get("due")
        return FAR if due is None else _whole(due, f"order {job['id']!r}: due")

    def _family(self, row: Mapping[str, Any], what: str, default: int) -> int:
        family = row.get("family")
        if family is None:
            return default
        if str(family) not in self.families:
            known = _some(self.families)
            raise OrderError(f"{what}: no family {family!r} among the changeovers; known: {known}")
        return self.families[str(family)]

    def _closed(self, row: Mapping[str, Any]) -> list[tuple[int, int]]:
        what = f"machine {row['id']!r}: closed"
        windows = [(_whole(a, what), _whole(b, what)) for a, b in row.get("closed", ())]
        for a, b in windows:
            if b <= a:
                raise OrderError(f"{what}: from {a} to {b} ends before it begins")
        return windows


def _link(row: Any) -> tuple[Any, Any, Any]:
    """``[id, lag]`` or ``[id, lag, max_lag]``."""
    before, lag, *most = row
    return before, lag, most[0] if most else None


def _sinks(preds: list[list[tuple[int, int]]], op_job: list[int]) -> list[list[int]]:
    """Operations finish their order when no operation of the same order follows."""
    followed = [False] * len(preds)
    for o, row in enumerate(preds):
        for p, _ in row:
            followed[p] |= op_job[p] == op_job[o]
    return [[] if followed[o] else [op_job[o]] for o in range(len(preds))]


def _origin(text: Any) -> int:
    try:
        return instant_ns(str(text))
    except ValueError as error:
        raise OrderError(f"origin: must be an ISO 8601 instant, got {text!r}") from error


def _whole(value: Any, what: str, low: int = -MOST, high: int = MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise OrderError(f"{what}: must be a whole number from {low} to {high}, got {value!r}")
    return value


def _unique(rows: Any, what: str) -> dict[str, int]:
    """Index of each id; OrderError when one stands twice."""
    at: dict[str, int] = {}
    for k, row in enumerate(rows):
        id = str(row["id"])
        if not id or id in at:
            raise OrderError(f"{what} {id!r}: stands twice or is empty; give each its own id")
        at[id] = k
    return at


def _setups(data: Any, families: int) -> NDArray[np.int64]:
    if data is None:
        return np.zeros((1, families, families), np.int64)
    tables = np.array(data, np.float64)
    if tables.ndim != 3 or tables.shape[1:] != (families, families):
        raise OrderError(f"setup: must be [table][{families}][{families}], got {tables.shape}")
    if not ((tables >= 0) & (tables <= MOST) & (tables == np.floor(tables))).all():
        raise OrderError("setup: every changeover must be a whole number of 0 or more")
    return tables.astype(np.int64)


def _some(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    return ", ".join(listed[:12]) + more
