"""Orders, routings, machines, changeovers and calendars from tables as one document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from workshop_brain.errors import OrderError
from workshop_brain.schedule.exchange.cells import (
    CellError,
    amounts_of,
    clock_of,
    days_of,
    moment_of,
    name_of,
    names_of,
    span_of,
    text_of,
    weight_of,
    whole_of,
    yes_of,
)
from workshop_brain.schedule.exchange.document import FORMAT, MOST_OPS, MOST_SETUPS
from workshop_brain.schedule.exchange.shifts import (
    Key,
    Weekly,
    Window,
    closed,
    horizon,
    never_open,
    repeated,
)
from workshop_brain.schedule.exchange.tables import Row, Table, read_tables

MOST_PIECES = 1_000_000
FAR_S = 10 * 366 * 86_400
"""Dates further away than this say nothing about how long is planned."""
_ANY = {"*", "any", "all", "任意", "所有", "全部"}
_OPEN = {"open", "shift", "work", "working", "开", "开机", "上班", "班次", "工作"}
_CLOSED = {"", "closed", "break", "maintenance", "down", "off", "停", "停机", "休息", "维护",
           "保养", "关", "放假"}  # fmt: skip
_SETTINGS = {
    "start": ("start", "planning start", "开始", "计划开始"),
    "timezone": ("timezone", "time zone", "时区"),
    "objective": ("objective", "目标"),
    "repeat": ("repeat shifts", "repeat", "班次循环", "每周重复"),
}
_OBJECTIVES = {
    "weighted_tardiness": "weighted_tardiness", "weighted tardiness": "weighted_tardiness",
    "tardiness": "weighted_tardiness", "延期": "weighted_tardiness", "拖期": "weighted_tardiness",
    "makespan": "makespan", "完工时间": "makespan", "最短工期": "makespan",
}  # fmt: skip
_NOBODY: list[str] = []
_WEEKLY = {"weekly", "week", "yes", "每周", "是"}
_ONCE = {"no", "none", "否", "不"}
_NOTHING: dict[str, int] = {}
_NEEDS = ("skills", "tools", "setup_skills", "setup_tools")
Instant = datetime | float
"""A moment, or seconds after the start of planning where a column counts so."""


@dataclass(slots=True, kw_only=True)
class _Step:
    """One operation of a routing while rows are read; times per machine or work center."""

    id: str
    row: Row
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    family: str | None = None
    after: list[str] | None = None
    lag: float = 0.0
    max_lag: float | None = None
    size: int = 1
    needs: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Order:
    """One order while rows are read."""

    id: str
    product: str
    quantity: int
    weight: int
    release: Instant | None
    due: Instant | None
    deadline: Instant | None
    row: Row


def orders_document(
    files: Mapping[str, bytes], *, timezone: str = "", start: str = "", name: str = ""
) -> dict[str, Any]:
    """The ``workshop-orders/1`` document of CSV files or workbooks.

    Parameters
    ----------
    files
        Name -> content; the name of a CSV file tells what it holds, else its headers do.
    timezone
        Where dates without a zone are local; left out: as the settings say, else UTC.
    start
        Instant from which is planned, as a cell would have it; left out: as the settings say,
        else the earliest release, else midnight before the earliest date.

    Raises
    ------
    OrderError
        What cannot be understood, with file, sheet, row, column, value and the way out.
    """
    return _Book(files, timezone, start).document(name)


class _Book:
    """All tables of one import."""

    def __init__(self, files: Mapping[str, bytes], timezone: str, start: str) -> None:
        self.tables, self.notes = read_tables(files)
        self.files = ", ".join(files)
        settings = self._settings()
        self.zone_name = timezone or settings.get("timezone", "UTC")
        self.zone = _zone(self.zone_name)
        self.start_text = start or settings.get("start", "")
        wanted = settings.get("objective", "weighted_tardiness")
        if wanted.casefold() not in _OBJECTIVES:
            raise OrderError(
                f"{self.files}: objective {wanted!r} is unknown; write tardiness or makespan"
            )
        self.objective = _OBJECTIVES[wanted.casefold()]
        self.centers: dict[str, str] = {}
        self.machine_rows: dict[str, Row | None] = {}
        self.has_changeovers = "changeovers" in self.tables
        word = settings.get("repeat", "no").casefold()
        self.is_repeating = word in _WEEKLY
        if word not in _WEEKLY | _ONCE:
            raise OrderError(
                f"{self.files}: repeat shifts {word!r} is unknown; write weekly or no (每周, 否)"
            )
        self.people: dict[str, list[str]] = {}
        self.tools: dict[str, int] = {}
        self.weekly: list[Weekly] = []

    def _settings(self) -> dict[str, str]:
        out: dict[str, str] = {}
        for table in self.tables.get("settings", ()):
            for row in table:
                key = row.read("name", name_of).casefold()
                found = next((k for k, words in _SETTINGS.items() if key in words), None)
                if found is None:
                    known = ", ".join(_SETTINGS)
                    raise row.wrong("name", f"is no setting; known are {known}")
                out[found] = row.read("value", text_of)
        return out

    def document(self, name: str) -> dict[str, Any]:
        """Everything read, checked and counted from the start of planning."""
        if "routings" not in self.tables:
            found = ", ".join(self.tables) or "none"
            raise OrderError(
                f"{self.files}: routings (工艺) are missing, found: {found}; add a table with "
                "operation, machine and time for each product or order"
            )
        self._machines()
        self._people_and_tools()
        routings = self._routings()
        orders = self._orders(routings)
        windows = self._windows()
        self.origin = self._origin(orders, windows)
        jobs = [self._job(order, routings) for order in orders]
        if sum(len(job["operations"]) for job in jobs) > MOST_OPS:
            raise OrderError(f"{self.files}: more than {MOST_OPS} operations; split the orders")
        families, setup, table_of = self._changeovers(jobs)
        shut = self._closed(windows, jobs)
        return {
            "format": FORMAT,
            "name": name,
            "origin": self.origin.astimezone(UTC).isoformat() if self.origin else None,
            "timezone": self.zone_name,
            "objective": self.objective,
            "machines": [
                {
                    "id": m,
                    "work_center": center,
                    "table": table_of[m],
                    **self._machine_state(m, families),
                    "closed": shut.get(("machine", m), []),
                }
                for m, center in self.centers.items()
            ],
            **self._resources(shut),
            "jobs": jobs,
            "families": families,
            "setup": setup,
            "notes": self.notes,
        }

    def _machines(self) -> None:
        for table in self.tables.get("machines", ()):
            for row in table:
                machine = row.read("id", name_of)
                if machine in self.centers:
                    raise row.wrong("id", "stands twice; give each machine its own name")
                self.centers[machine] = row.get("work_center", name_of, "")
                self.machine_rows[machine] = row
        if "machines" in self.tables:
            if not self.centers:
                raise OrderError(f"{self.tables['machines'][0].name}: has no machines below it")
            return
        for table in self.tables["routings"]:
            for row in table:
                center = row.get("work_center", name_of, "")
                for machine in row.get("machine", names_of, _NOBODY):
                    self.centers.setdefault(machine, center)
                    self.machine_rows.setdefault(machine, None)

    def _people_and_tools(self) -> None:
        for table in self.tables.get("operators", ()):
            for row in table:
                id = row.read("id", name_of)
                if id in self.people:
                    raise row.wrong("id", "stands twice; write all skills in one row")
                self.people[id] = row.read("skills", names_of)
                if not self.people[id]:
                    raise row.wrong("skills", "is empty; write what the person can do")
        for table in self.tables.get("tools", ()):
            for row in table:
                id = row.read("id", name_of)
                if id in self.tools:
                    raise row.wrong("id", "stands twice; write the quantity in one row")
                self.tools[id] = row.get("quantity", lambda cell: whole_of(cell, 1, 10_000), 1)

    def _resources(self, shut: Mapping[Key, list[list[int]]]) -> dict[str, Any]:
        """People and tools of the document; nothing where there are none."""
        out: dict[str, Any] = {}
        if self.people:
            out["operators"] = [
                {"id": id, "skills": skills, "closed": shut.get(("operator", id), [])}
                for id, skills in self.people.items()
            ]
        if self.tools:
            out["tools"] = [
                {"id": id, "quantity": quantity, "closed": shut.get(("tool", id), [])}
                for id, quantity in self.tools.items()
            ]
        return out

    def _needs(self, row: Row) -> dict[str, dict[str, int]]:
        """Skills and tools that a row asks for, each of them known and enough of it there."""
        out = {}
        for name in _NEEDS:
            amounts = row.get(name, amounts_of, _NOTHING)
            for what, quantity in amounts.items():
                there = self.tools.get(what, 0)
                if name.endswith("skills"):
                    there = sum(what in skills for skills in self.people.values())
                if quantity > there:
                    table = "operators (人员)" if name.endswith("skills") else "tools (工装)"
                    raise row.wrong(
                        name, f"needs {quantity} of {what!r}, the table {table} has {there}"
                    )
            if amounts:
                out[name] = amounts
        return out

    def _machine_state(self, machine: str, families: Sequence[str]) -> dict[str, Any]:
        row = self.machine_rows[machine]
        if row is None:
            return {"family": None, "available": 0, "resumable": True}
        family = row.get("family", name_of, "")
        if family and family not in families:
            if self.has_changeovers:
                raise row.wrong("family", "is no family of the changeovers; correct one of them")
            family = ""
        available = self._moment(row, "available", is_end=False)
        return {
            "family": family or None,
            "available": 0 if available is None else self._tick(available, row, "available"),
            "resumable": row.get("resumable", yes_of, True),
            **self._needs(row),
            **({"batch": row.read("batch", lambda cell: whole_of(cell, 1, MOST_PIECES))}
               if row.has("batch") else {}),
        }  # fmt: skip

    def _routings(self) -> dict[str, dict[str, _Step]]:
        """Steps by ``order:ID`` or ``product:ID``, in the order of their rows."""
        out: dict[str, dict[str, _Step]] = {}
        for table in self.tables["routings"]:
            if not {"order", "product"} & set(table.columns):
                raise OrderError(
                    f"{table.name}: the column product (产品) or order (订单) is missing; say "
                    "whose operations they are"
                )
            if not {"time", "per_piece"} & set(table.columns):
                raise OrderError(
                    f"{table.name}: the column time (工时) or time per piece (单件工时) is missing"
                )
            for row in table:
                key = f"order:{row.read('order', name_of)}" if row.has("order") else ""
                key = key or f"product:{row.read('product', name_of)}"
                self._step(row, out.setdefault(key, {}))
        return out

    def _step(self, row: Row, steps: dict[str, _Step]) -> None:
        id = row.read("operation", name_of)
        step = steps.setdefault(id, _Step(id=id, row=row))
        if not row.has("time") and not row.has("per_piece"):
            column = "time" if "time" in row.table.columns else "per_piece"
            raise row.wrong(column, "is empty; write the time, 0 if it takes none")
        lot, each = (self._span(row, name) for name in ("time", "per_piece"))
        machines = row.get("machine", names_of, _NOBODY)
        if not machines:
            center = row.read("work_center", name_of)
            machines = [m for m, c in self.centers.items() if c == center]
            if not machines:
                raise row.wrong("work_center", "has no machines; list them in the machines table")
        for machine in machines:
            if machine not in self.centers:
                known = ", ".join(list(self.centers)[:12])
                raise row.wrong("machine", f"has {machine!r}, which is no machine; known: {known}")
            if machine in step.times:
                raise row.wrong("machine", f"names {machine!r} twice for operation {id!r}")
            step.times[machine] = (lot, each)
        if row.has("family"):
            family = row.read("family", name_of)
            if step.family not in (None, family):
                raise row.wrong("family", f"is another than {step.family!r} of the same operation")
            step.family = family
        if row.has("after"):
            step.after = [
                x for x in row.read("after", names_of) if x.casefold() not in ("-", "none", "无")
            ]
        step.lag = max(step.lag, self._span(row, "lag"))
        if row.has("max_lag"):
            most = self._span(row, "max_lag")
            step.max_lag = most if step.max_lag is None else min(most, step.max_lag)
            if step.max_lag < step.lag:
                raise row.wrong("max_lag", "is less than the transport time; correct one of them")
        step.size = row.get("size", lambda cell: whole_of(cell, 1, MOST_PIECES), step.size)
        for name, amounts in self._needs(row).items():
            step.needs[name] = {**step.needs.get(name, {}), **amounts}

    @staticmethod
    def _span(row: Row, name: str) -> float:
        unit = row.table.unit(name)
        return row.get(name, lambda cell: span_of(cell, unit), 0.0)

    def _orders(self, routings: Mapping[str, Any]) -> list[_Order]:
        orders: dict[str, _Order] = {}
        for table in self.tables.get("orders", ()):
            for row in table:
                order = self._order(row, "id")
                if order.id in orders:
                    before = orders[order.id].row
                    raise row.wrong(
                        "id", f"stands in row {before.number} already; give each order its own"
                    )
                orders[order.id] = order
        if "orders" not in self.tables:
            for table in self.tables["routings"]:
                for row in table:
                    if row.has("order") and row.read("order", name_of) not in orders:
                        order = self._order(row, "order")
                        orders[order.id] = order
        if not orders:
            raise OrderError(
                f"{self.files}: orders (订单) are missing; add a table with order, product, "
                "quantity and due date"
            )
        for key in routings:
            kind, _, id = key.partition(":")
            if kind == "order" and id not in orders:
                self.notes.append(f"routing of order {id!r}: there is no such order; left out")
        return list(orders.values())

    def _order(self, row: Row, column: str) -> _Order:
        id = row.read(column, name_of)
        release = self._moment(row, "release", is_end=False)
        due = self._moment(row, "due", is_end=True)
        if type(release) is type(due) and release is not None and due <= release:  # type: ignore[operator]
            raise row.wrong("due", "is not after the release; correct one of the two")
        deadline = self._moment(row, "deadline", is_end=True)
        if type(release) is type(deadline) and release is not None and deadline <= release:  # type: ignore[operator]
            raise row.wrong("deadline", "is not after the release; correct one of the two")
        return _Order(
            id=id,
            product=row.get("product", name_of, id),
            quantity=row.get("quantity", lambda cell: whole_of(cell, 1, MOST_PIECES), 1),
            weight=row.get("weight", weight_of, 1),
            release=release,
            due=due,
            deadline=deadline,
            row=row,
        )

    def _moment(self, row: Row, name: str, *, is_end: bool) -> Instant | None:
        """A moment of a cell; a day without a time means its end or its beginning."""
        if not row.has(name):
            return None
        unit = row.table.unit(name)
        if unit:
            return row.read(name, lambda cell: span_of(cell, unit))
        moment, has_time = row.read(name, lambda cell: moment_of(cell, self.zone))
        return moment + timedelta(days=1) if is_end and not has_time else moment

    def _windows(self) -> list[tuple[Key, Instant, Instant, bool]]:
        """``(key, from, to, is open)`` of the calendars; weekly rows are kept apart."""
        out = []
        for table in self.tables.get("calendars", ()):
            for row in table:
                kind = row.get("kind", text_of, "").casefold()
                if kind not in _OPEN | _CLOSED:
                    raise row.wrong("kind", "is neither open nor closed; write one (开机, 停机)")
                if row.has("day"):
                    self._add_weekly(row, kind in _OPEN)
                    continue
                low = self._moment(row, "from", is_end=False)
                high = self._moment(row, "to", is_end=True)
                if low is None or high is None:
                    raise row.wrong("to" if high is None else "from", "is empty; fill it in")
                if type(low) is not type(high) or high <= low:  # type: ignore[operator]
                    raise row.wrong("to", "is not after the beginning; correct one of the two")
                out += [(key, low, high, kind in _OPEN) for key in self._keys(row)]
        return out

    def _add_weekly(self, row: Row, is_open: bool) -> None:
        days = row.read("day", days_of)
        low, high = row.read("from", clock_of), row.read("to", clock_of)
        self.weekly += [
            Weekly(key=key, days=days, low=low, high=high, is_open=is_open)
            for key in self._keys(row)
        ]

    def _keys(self, row: Row) -> list[Key]:
        """Whose calendar a row is part of: people, tools, else machines."""
        for name, known in (("operator", self.people), ("tool", self.tools)):
            names = row.get(name, names_of, _NOBODY)
            if names and names[0].casefold() in _ANY:
                names = list(known)
            for one in names:
                if one not in known:
                    raise row.wrong(name, f"has {one!r}, which is no {name} of the file")
            if names:
                return [(name, one) for one in names]
        return [("machine", m) for m in self._meant(row)]

    def _meant(self, row: Row) -> list[str]:
        """Machines that a row of calendars or changeovers means."""
        names = row.get("machine", names_of, _NOBODY)
        if names and names[0].casefold() not in _ANY:
            for name in names:
                if name not in self.centers:
                    raise row.wrong("machine", f"has {name!r}, which is no machine of the file")
            return names
        center = row.get("work_center", name_of, "")
        if center and center.casefold() not in _ANY:
            meant = [m for m, c in self.centers.items() if c == center]
            if not meant:
                raise row.wrong("work_center", "has no machines; correct the name")
            return meant
        return list(self.centers)

    def _origin(
        self, orders: Sequence[_Order], windows: Sequence[tuple[Key, Instant, Instant, bool]]
    ) -> datetime | None:
        if self.start_text:
            try:
                return moment_of(self.start_text, self.zone)[0]
            except CellError as error:
                raise OrderError(f"start: {self.start_text!r} {error}") from None
        releases = [o.release for o in orders]
        if releases and all(isinstance(r, datetime) for r in releases):
            return min(r for r in releases if isinstance(r, datetime))
        known = [t for o in orders for t in (o.release, o.due, o.deadline)] + [
            t for w in windows for t in w[1:3]
        ]
        known += [
            self._moment(row, "available", is_end=False)
            for row in self.machine_rows.values()
            if row is not None
        ]
        dates = [t for t in known if isinstance(t, datetime)]
        if not dates:
            return None
        first = (min(dates) - timedelta(seconds=1)).astimezone(self.zone)
        return first.replace(hour=0, minute=0, second=0, microsecond=0)

    def _tick(self, moment: Instant, row: Row | None = None, name: str = "") -> int:
        if isinstance(moment, float):
            return round(moment)
        if self.origin is None:
            message = "is a date, but nothing says when planning starts; add the setting start"
            raise row.wrong(name, message) if row else OrderError(f"{self.files}: {message}")
        return round((moment - self.origin).total_seconds())

    def _deadline(self, order: _Order) -> dict[str, int]:
        """The order's deadline, where it has one."""
        if order.deadline is None:
            return {}
        tick = self._tick(order.deadline)
        if tick < 0:
            raise order.row.wrong(
                "deadline",
                f"is before {self._begin()}, when planning starts; correct one of the two",
            )
        return {"deadline": tick}

    def _job(self, order: _Order, routings: Mapping[str, dict[str, _Step]]) -> dict[str, Any]:
        steps = routings.get(f"order:{order.id}") or routings.get(f"product:{order.product}")
        if steps is None:
            column = "product" if order.row.has("product") else "id"
            raise order.row.wrong(column, "has no routing; add its operations to the routings")
        return {
            "id": order.id,
            "product": order.product,
            "quantity": order.quantity,
            "release": 0 if order.release is None else self._tick(order.release),
            "due": None if order.due is None else self._tick(order.due),
            "weight": order.weight,
            **self._deadline(order),
            "operations": [
                {
                    "id": f"{order.id}.{step.id}",
                    "family": self._family_of(step, order),
                    "after": self._after(order, steps, k),
                    "alternatives": [
                        [m, round(lot + each * order.quantity)]
                        for m, (lot, each) in step.times.items()
                    ],
                    **step.needs,
                    **({"size": step.size} if step.size > 1 else {}),
                }
                for k, step in enumerate(steps.values())
            ],
        }

    def _family_of(self, step: _Step, order: _Order) -> str | None:
        """Family of a step: its own; the product where the table has no such column."""
        if not self.has_changeovers:
            return None
        is_named = "family" in step.row.table.columns
        return step.family if is_named else order.product

    def _after(self, order: _Order, steps: dict[str, _Step], k: int) -> list[list[Any]]:
        """What an operation follows: as its row says, else the row before it."""
        step = list(steps.values())[k]
        before = step.after
        if before is None:
            before = [list(steps)[k - 1]] if k else []
        for name in before:
            if name not in steps:
                known = ", ".join(steps)
                raise step.row.wrong("after", f"names {name!r}, no operation here; known: {known}")
            if self._reaches(steps, name, step.id):
                raise step.row.wrong(
                    "after", f"closes a circle: {name!r} comes after {step.id!r} itself"
                )
        most = [] if step.max_lag is None else [round(step.max_lag)]
        return [[f"{order.id}.{name}", round(step.lag), *most] for name in before]

    @staticmethod
    def _reaches(steps: dict[str, _Step], start: str, goal: str) -> bool:
        """Whether ``start`` comes after ``goal`` by way of any operations."""
        names = list(steps)
        seen, stack = {start}, [start]
        while stack:
            name = stack.pop()
            if name == goal:
                return True
            at = names.index(name)
            rows = steps[name].after
            for before in rows if rows is not None else names[at - 1 : at] if at else []:
                if before in steps and before not in seen:
                    seen.add(before)
                    stack.append(before)
        return False

    def _changeovers(
        self, jobs: Sequence[Mapping[str, Any]]
    ) -> tuple[list[str], list[list[list[int]]], dict[str, int]]:
        """Families, changeover tables and the table of each machine."""
        entries: dict[str, dict[tuple[str, str], int]] = {m: {} for m in self.centers}
        families: dict[str, None] = {}
        for table in self.tables.get("changeovers", ()):
            for machines, low, high, seconds, row in self._entries(table):
                families |= {f: None for f in (low, high) if f.casefold() not in _ANY}
                for m in machines:
                    key = ("*" if low.casefold() in _ANY else low,
                           "*" if high.casefold() in _ANY else high)  # fmt: skip
                    if entries[m].get(key, seconds) != seconds:
                        raise row.wrong(
                            "from", f"to {high!r} has two times on machine {m!r}; keep one"
                        )
                    entries[m][key] = seconds
        names = list(families) or [""]
        listed = {m: row for m, row in entries.items() if row}
        for job in jobs:
            for op in job["operations"]:
                where = next((m for m, _ in op["alternatives"] if m in listed), None)
                if op["family"] is not None and op["family"] not in families:
                    if where is not None:
                        raise OrderError(
                            f"operation {op['id']!r}: family {op['family']!r} is not among the "
                            f"changeovers of {where!r}; known are {', '.join(names[:12])}"
                        )
                    op["family"] = None
                elif op["family"] is None and where is not None:
                    raise OrderError(
                        f"operation {op['id']!r}: has no family and machine {where!r} has "
                        "changeovers; fill the column family (换型组)"
                    )
        tables: dict[tuple[tuple[int, ...], ...], int] = {}
        table_of = {m: self._table_of(row, names, tables) for m, row in entries.items()}
        return names, [[list(row) for row in rows] for rows in tables], table_of

    def _table_of(
        self,
        row: Mapping[tuple[str, str], int],
        names: Sequence[str],
        tables: dict[tuple[tuple[int, ...], ...], int],
    ) -> int:
        if (len(tables) + 1) * len(names) ** 2 > MOST_SETUPS:
            raise OrderError(f"{self.files}: {len(names)} families are too many; join some")
        missing = 0
        cells = []
        for a in names:
            line = []
            for b in names:
                default = 0 if a == b else row.get((a, "*"), row.get(("*", b), row.get(("*", "*"))))
                value = row.get((a, b), default)
                missing += value is None
                line.append(value or 0)
            cells.append(tuple(line))
        key = tuple(cells)
        if row and missing and key not in tables:
            self.notes.append(
                f"changeovers: {missing} pairs of families are not listed and take no time; "
                "a row from * to * gives the others"
            )
        return tables.setdefault(key, len(tables))

    def _entries(self, table: Table) -> list[tuple[list[str], str, str, int, Row]]:
        """``(machines, from, to, seconds, row)`` of a long table or of a matrix."""
        out = []
        if {"from", "to", "time"} <= set(table.columns):
            unit = table.unit("time")
            for row in table:
                seconds = row.read("time", lambda cell: span_of(cell, unit))
                low, high = row.read("from", name_of), row.read("to", name_of)
                out.append((self._meant(row), low, high, round(seconds), row))
            return out
        columns = dict(table.columns)
        if "from" not in columns and table.others:
            columns["from"] = table.others[0]
        heads = [other for other in table.others if other != columns.get("from")]
        if "from" not in columns or not heads:
            raise OrderError(
                f"{table.name}: is neither a list of from, to, time (从, 到, 换型时间) nor a "
                "matrix with a family in each row and column"
            )
        unit = next((u for _, _, u in (columns["from"], *heads) if u), 0)
        matrix = Table(
            kind=table.kind,
            name=table.name,
            columns=columns | {f"to:{h}": (i, h, u) for i, h, u in heads},
            at=table.at,
            cells=table.cells,
        )
        for row in matrix:
            low = row.read("from", name_of)
            for _, high, _ in heads:
                if not row.has(f"to:{high}"):
                    continue
                if row.read(f"to:{high}", text_of) in ("-", "–", "/", "x", "X"):
                    continue
                seconds = row.read(f"to:{high}", lambda cell: span_of(cell, unit))
                out.append((self._meant(row), low, high, round(seconds), row))
        return out

    def _closed(
        self,
        windows: Sequence[tuple[Key, Instant, Instant, bool]],
        jobs: Sequence[Mapping[str, Any]],
    ) -> dict[Key, list[list[int]]]:
        """Closed intervals of each machine, person and tool."""
        rows = [
            Window(key=key, low=self._tick(low), high=self._tick(high), is_open=is_open)
            for key, low, high, is_open in windows
        ]
        ops = [op for job in jobs for op in job["operations"]]
        known = [row.high for row in rows]
        known += [job["due"] for job in jobs if job["due"] is not None]
        known = [tick for tick in known if tick < FAR_S]
        until = horizon(known, sum(max(s for _, s in op["alternatives"]) for op in ops))
        if self.is_repeating:
            rows = repeated(rows, until)
        for shift in self.weekly:
            if self.origin is None:
                raise OrderError(
                    f"{self.files}: weekly shifts need dates; add the setting start (开始)"
                )
            rows += shift.windows(self.origin, self.zone, until)
        if any(row.is_open for row in rows):
            self.notes.append(
                "calendars: weekly shifts are laid out up to "
                f"{self._date(until)}; after that everything counts as open"
                if self.weekly or self.is_repeating
                else "calendars: after the last open time of a machine it counts as open; list "
                "shifts for as long as is planned, by day of the week, or set repeat shifts to "
                "weekly"
            )
        shut = closed(rows)
        for (kind, id), windows_of in shut.items():
            if never_open(windows_of, until):
                names = ", ".join(table.name for table in self.tables["calendars"])
                raise OrderError(
                    f"{names}: {kind} {id!r} is never open up to {self._date(until)}; correct its "
                    "shifts and breaks, or take it out of the files"
                )
        return shut

    def _begin(self) -> str:
        return str(self.origin.astimezone(self.zone)) if self.origin else "0 s"

    def _date(self, tick: int) -> str:
        if self.origin is None:
            return f"{tick} s"
        return str((self.origin + timedelta(seconds=tick)).astimezone(self.zone).date())


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise OrderError(
            f"time zone {name!r} is unknown; write it as Europe/Berlin or Asia/Shanghai"
        ) from error
