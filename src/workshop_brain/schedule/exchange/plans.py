"""Plans as CSV, Excel, B2MML and JSON, and back: the same machines and times again.

Where the problem has an origin, times are shown in a time zone (CSV with offset, Excel as dates
whose zone stands in the header); problems of plain ticks keep their numbers.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from workshop_brain.errors import OrderError
from workshop_brain.schedule.exchange import b2mml
from workshop_brain.schedule.exchange.cells import CellError, moment_of, shielded, text_of
from workshop_brain.schedule.exchange.tables import decoded, is_excel, rows_of
from workshop_brain.schedule.objective import completion
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, Problem
from workshop_brain.units import NS_PER_S

FORMATS = ("csv", "xlsx", "b2mml", "json")
LANGUAGES = ("en", "zh")
SHEETS = {
    "operations": {"en": "operations", "zh": "工序"},
    "machines": {"en": "machines", "zh": "设备"},
    "orders": {"en": "orders", "zh": "订单"},
}
HEADERS: dict[str, dict[str, str]] = {
    "op": {"en": "operation id", "zh": "工序编号"},
    "order": {"en": "order", "zh": "订单"},
    "product": {"en": "product", "zh": "产品"},
    "step": {"en": "step", "zh": "序号"},
    "machine": {"en": "machine", "zh": "设备"},
    "work_center": {"en": "work center", "zh": "工作中心"},
    "setup_start": {"en": "setup start", "zh": "换型开始"},
    "start": {"en": "start", "zh": "开始"},
    "end": {"en": "end", "zh": "结束"},
    "position": {"en": "position", "zh": "顺序"},
    "kind": {"en": "kind", "zh": "类型"},
    "quantity": {"en": "quantity", "zh": "数量"},
    "weight": {"en": "weight", "zh": "权重"},
    "due": {"en": "due", "zh": "交期"},
    "finish": {"en": "finish", "zh": "完成"},
    "late_s": {"en": "late (s)", "zh": "延期（秒）"},
    "is_late": {"en": "is late", "zh": "是否延期"},
}
WORDS = {
    "run": {"en": "run", "zh": "加工"}, "setup": {"en": "changeover", "zh": "换型"},
    "yes": {"en": "yes", "zh": "是"}, "no": {"en": "no", "zh": "否"},
    "not planned": {"en": "not planned", "zh": "未排入"},
}  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = {
    "operations": ("op", "order", "product", "step", "machine", "work_center", "setup_start",
                   "start", "end"),
    "machines": ("machine", "position", "kind", "start", "end", "order", "op"),
    "orders": ("order", "product", "quantity", "weight", "due", "finish", "late_s", "is_late"),
}  # fmt: skip
_TIMES = {"setup_start", "start", "end", "due", "finish"}
_NUMBERS = {"step", "position", "quantity", "weight", "late_s"}
_NEEDED = ("op", "machine", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instant:
    """A tick of a problem, shown in a zone; without origin it is its number."""

    tick: int
    moment: datetime | None

    @property
    def text(self) -> str:
        """ISO 8601 with offset, or the number."""
        return self.moment.isoformat() if self.moment else str(self.tick)


def plan_tables(
    problem: Problem, plan: Plan, language: str = "en", timezone: str = "UTC"
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the tables operations, machines (what runs where, in order) and orders."""
    zone = _zone(timezone)
    if language not in LANGUAGES:
        raise OrderError(f"language {language!r}: en or zh")
    rows = plan.to_json(problem)["operations"]
    at = {id: o for o, id in enumerate(problem.op_ids)}

    def instant(tick: int) -> _Instant:
        moment = None
        if problem.origin_ns:
            seconds = problem.time_ns(tick) // NS_PER_S
            moment = datetime.fromtimestamp(seconds, UTC).astimezone(zone)
        return _Instant(tick=tick, moment=moment)

    operations, machines = [], []
    for row in rows:
        o = at[row["op"]]
        center = int(problem.machine_work_center[int(plan.machine[o])])
        known = center < len(problem.work_center_ids)
        operations.append(
            {
                "op": row["op"],
                "order": row["job"],
                "product": problem.op_product[o],
                "step": row["operation"] + 1,
                "machine": row["machine"],
                "work_center": problem.work_center_ids[center] if known else "",
                "setup_start": instant(row["setup_start"]),
                "start": instant(row["start"]),
                "end": instant(row["end"]),
            }
        )
    by_op = {row["op"]: row for row in operations}
    for m, machine in enumerate(problem.machine_ids):
        family = int(problem.machine_family[m])
        for position, o in enumerate(plan.sequence(m).tolist(), 1):
            row = by_op[problem.op_ids[o]]
            shared = {
                "machine": machine,
                "position": position,
                "order": row["order"],
                "op": row["op"],
            }
            if problem.setup_between(m, family, int(problem.op_family[o])) > 0:
                times = {"start": row["setup_start"], "end": row["start"]}
                machines.append(shared | times | {"kind": WORDS["setup"][language]})
            times = {"start": row["start"], "end": row["end"]}
            machines.append(shared | times | {"kind": WORDS["run"][language]})
            family = int(problem.op_family[o])
    done = completion(problem, plan)
    orders = []
    for j, id in enumerate(problem.job_ids):
        due, finish = int(problem.job_due[j]), int(done[j])
        ops = np.flatnonzero(problem.op_job == j)
        is_planned = finish > -FAR and bool((plan.machine[ops] >= 0).all())
        late = finish - due if due < FAR and is_planned else None
        said = ("yes" if late is not None and late > 0 else "no") if is_planned else "not planned"
        orders.append(
            {
                "order": id,
                "product": problem.op_product[int(ops[0])] if len(ops) else "",
                "quantity": int(problem.op_quantity[ops].max(initial=1)),
                "weight": int(problem.job_weight[j]),
                "due": instant(due) if due < FAR else None,
                "finish": instant(finish) if is_planned else None,
                "late_s": max(0, late) if late is not None else None,
                "is_late": WORDS[said][language],
            }
        )
    return {"operations": operations, "machines": machines, "orders": orders}


def write_plan(
    problem: Problem, plan: Plan, format: str, *, language: str = "en", timezone: str = "UTC"
) -> dict[str, bytes]:
    """Files of a plan, name -> content: one, or three tables for CSV.

    What begins with ``= + - @`` reaches no spreadsheet as a formula.
    """
    if format not in FORMATS:
        raise OrderError(f"format {format!r} is unknown; known are {', '.join(FORMATS)}")
    tables = plan_tables(problem, plan, language, timezone)
    if format == "csv":
        return {f"{kind}.csv": _csv(kind, rows, language) for kind, rows in tables.items()}
    if format == "xlsx":
        return {"plan.xlsx": _workbook(tables, language, timezone, bool(problem.origin_ns))}
    if format == "json":
        document = plan.to_json(problem) | {
            "orders": [
                {k: v.text if isinstance(v, _Instant) else v for k, v in row.items()}
                for row in tables["orders"]
            ]
        }
        text = json.dumps(document, ensure_ascii=False, indent=1, default=str)
        return {"plan.json": text.encode()}
    return {"plan.xml": _b2mml(problem, plan, tables)}


def _csv(kind: str, rows: Sequence[Mapping[str, Any]], language: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([HEADERS[c][language] for c in COLUMNS[kind]])
    for row in rows:
        writer.writerow([_shown(row[c]) for c in COLUMNS[kind]])
    return out.getvalue().encode("utf-8-sig")


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, _Instant):
        return value.text
    return shielded(value) if isinstance(value, str) else value


def _workbook(
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    language: str,
    timezone: str,
    has_origin: bool,
) -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(
        out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    ) as book:
        bold = book.add_format({"bold": True})
        date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        quoted = book.add_format({"quote_prefix": True})
        for kind, rows in tables.items():
            sheet = book.add_worksheet(SHEETS[kind][language])
            sheet.freeze_panes(1, 0)
            for k, column in enumerate(COLUMNS[kind]):
                header = HEADERS[column][language]
                is_time = column in _TIMES and has_origin
                sheet.write_string(0, k, f"{header} ({timezone})" if is_time else header, bold)
                sheet.set_column(k, k, 20 if is_time else 14)
                for at, row in enumerate(rows, 1):
                    value = row[column]
                    if value is None:
                        continue
                    if isinstance(value, _Instant):
                        _write_instant(sheet, at, k, value, date)
                    elif column in _NUMBERS:
                        sheet.write_number(at, k, value)
                    else:
                        format = quoted if shielded(value) != value else None
                        sheet.write_string(at, k, value, format)
            if rows:
                sheet.autofilter(0, 0, len(rows), len(COLUMNS[kind]) - 1)
    return out.getvalue()


def _write_instant(sheet: Any, row: int, column: int, value: _Instant, date: Any) -> None:
    """A date in wall-clock time; as text with its offset where the clock shows it twice."""
    moment = value.moment
    if moment is None:
        sheet.write_number(row, column, value.tick)
    elif moment.replace(fold=0).utcoffset() != moment.replace(fold=1).utcoffset():
        sheet.write_string(row, column, value.text)
    else:
        sheet.write_datetime(row, column, moment.replace(tzinfo=None), date)


def _b2mml(
    problem: Problem, plan: Plan, tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> bytes:
    def iso(tick: int) -> str:
        moment = datetime.fromtimestamp(problem.time_ns(tick) // NS_PER_S, UTC)
        return moment.isoformat().replace("+00:00", "Z")

    at = {id: o for o, id in enumerate(problem.op_ids)}
    of_order: dict[str, list[dict[str, Any]]] = {}
    for row in tables["operations"]:
        o = at[row["op"]]
        work = problem.alternatives(o).get(int(plan.machine[o]), int(plan.end[o] - plan.start[o]))
        of_order.setdefault(row["order"], []).append(
            {
                "id": row["op"],
                "name": row["op"].removeprefix(f"{row['order']}."),
                "machine": row["machine"],
                "seconds": work,
                "start": iso(row["start"].tick),
                "end": iso(row["end"].tick),
                "setup_start": iso(row["setup_start"].tick),
            }
        )
    orders = []
    for j, id in enumerate(problem.job_ids):
        if id not in of_order:
            continue
        due = int(problem.job_due[j])
        orders.append(
            {
                "id": id,
                "product": problem.op_product[at[of_order[id][0]["id"]]] or id,
                "release": iso(int(problem.job_release[j])),
                "due": iso(due) if due < FAR else "",
                "weight": int(problem.job_weight[j]),
                "operations": of_order[id],
            }
        )
    placed = plan.machine >= 0
    first = int(plan.setup_start[placed].min(initial=0)) if placed.any() else 0
    last = int(plan.end[placed].max(initial=0)) if placed.any() else 0
    head = {"id": plan.fingerprint()[:16], "start": iso(first), "end": iso(last)}
    return b2mml.plan_xml(head, orders)


def read_plan(problem: Problem, content: bytes, name: str = "") -> Plan:
    """The plan of a file that ``write_plan`` made; for CSV the table of operations.

    Raises
    ------
    OrderError
        The file is no plan, or names an operation, machine or time that the problem has not.
    """
    start = content.lstrip(b"\xef\xbb\xbf \r\n\t")[:1]
    if start == b"<":
        segments = b2mml.plan_rows_of(content, name)
        return Plan.from_json(
            problem, {"operations": [_from_segment(problem, row, name) for row in segments]}
        )
    if is_excel(content) or start not in (b"{", b"["):
        rows = [_from_table(problem, row) for row in _table_rows(content, name)]
        return Plan.from_json(problem, {"operations": rows})
    try:
        data = json.loads(decoded(name, content))
    except json.JSONDecodeError as error:
        raise OrderError(f"{name}: is not valid JSON: {error}") from error
    return Plan.from_json(problem, data if isinstance(data, dict) else {"plan": data})


def _from_segment(problem: Problem, row: Mapping[str, str], name: str) -> dict[str, Any]:
    return {
        key: text if key in ("op", "machine") else _tick(problem, text, UTC, f"{name}: {key}")
        for key, text in row.items()
    }


_Cells = dict[str, tuple[Any, tzinfo, str]]


def _from_table(problem: Problem, row: _Cells) -> dict[str, Any]:
    return {
        key: text_of(cell) if key in ("op", "machine") else _tick(problem, cell, zone, where)
        for key, (cell, zone, where) in row.items()
    }


def _table_rows(content: bytes, name: str) -> list[_Cells]:
    """Cells of the operations table with the zone of their column and their place."""
    for sheet, rows in rows_of(name, content).items():
        columns: dict[str, tuple[int, tzinfo]] = {}
        for k, cell in enumerate(rows[0] if rows else ()):
            header, _, zone = text_of(cell).partition("(")
            for key, words in HEADERS.items():
                if header.strip() in words.values() and key in (*_NEEDED, "setup_start"):
                    columns[key] = (k, _zone(zone.strip(" )") or "UTC"))
        if not set(_NEEDED) <= set(columns) or "setup_start" not in columns:
            continue
        return [
            {
                key: (row[k], zone, f"{name}{sheet}: row {at}, column {text_of(rows[0][k])!r}")
                for key, (k, zone) in columns.items()
                if k < len(row) and text_of(row[k])
            }
            for at, row in enumerate(rows[1:], 2)
            if any(text_of(cell) for cell in row)
        ]
    wanted = ", ".join(HEADERS[key]["en"] for key in (*_NEEDED, "setup_start"))
    raise OrderError(f"{name}: has no table of operations with the columns {wanted}")


def _tick(problem: Problem, cell: Any, zone: tzinfo, where: str) -> int:
    """A cell as a tick: a number as it stands, an instant counted from the origin."""
    text = text_of(cell)
    if re.fullmatch(r"-?\d{1,13}", text) and (not problem.origin_ns or isinstance(cell, str)):
        return int(text)
    try:
        moment = moment_of(cell, zone)[0]
    except CellError as error:
        raise OrderError(f"{where}: {text[:40]!r} {error}") from None
    delta = (
        moment - datetime.fromtimestamp(0, UTC) - timedelta(seconds=problem.origin_ns // NS_PER_S)
    )
    return round(delta.total_seconds())


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise OrderError(
            f"time zone {name!r} is unknown; write it as Europe/Berlin or Asia/Shanghai"
        ) from error
