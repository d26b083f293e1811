"""Tables from CSV files and Excel workbooks: which table is which, and which column means what."""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workshop_brain.errors import OrderError
from workshop_brain.schedule.exchange.cells import (
    CellError,
    header_key,
    header_unit,
    is_blank,
    text_of,
)

T = TypeVar("T")
SHEETS: dict[str, tuple[str, ...]] = {
    "orders": ("orders", "order", "jobs", "work orders", "订单", "工单", "订单表", "工单表",
               "生产订单"),
    "routings": ("routings", "routing", "operations", "routes", "工艺", "工艺路线", "工艺路线表",
                 "工序", "工序表", "工艺表"),
    "machines": ("machines", "machine", "equipment", "resources", "设备", "设备表", "机台", "机床",
                 "设备清单"),
    "changeovers": ("changeovers", "changeover", "setups", "setup", "changeover matrix",
                    "setup matrix", "换型", "换型矩阵", "换型表", "换型时间", "切换", "切换矩阵",
                    "换模"),
    "calendars": ("calendars", "calendar", "closed", "shifts", "日历", "设备日历", "停机", "班次",
                  "工作日历"),
    "operators": ("operators", "operator", "staff", "people", "人员", "操作工", "员工", "班组"),
    "tools": ("tools", "tool", "fixtures", "工装", "工装表", "夹具", "刀具", "工具", "工装夹具"),
    "settings": ("settings", "setting", "设置", "参数"),
}  # fmt: skip
"""Names of sheets and files, English and Chinese."""
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "orders": {
        "id": ("order", "id", "order id", "order no", "order number", "work order", "job", "订单",
               "订单号", "订单编号", "工单", "工单号", "工单编号", "单号", "生产订单"),
        "product": ("product", "item", "part", "part number", "part no", "material", "model",
                    "产品", "产品编号", "型号", "物料", "物料号", "物料编码", "零件号"),
        "quantity": ("quantity", "qty", "pieces", "pcs", "数量", "件数", "订单数量", "计划数量"),
        "due": ("due", "due date", "delivery", "delivery date", "required date", "交期", "交货期",
                "交货日期", "交付日期", "截止日期", "完成日期"),
        "release": ("release", "release date", "earliest start", "not before", "下达", "下达日期",
                    "下达时间", "最早开始", "开始日期", "投放日期"),
        "weight": ("priority", "prio", "weight", "urgency", "优先级", "优先", "权重", "紧急程度"),
        "deadline": ("deadline", "latest end", "hard deadline", "最迟完成", "最晚完成", "最迟交期",
                     "硬性截止"),
    },
    "routings": {
        "order": ("order", "order id", "order no", "work order", "job", "订单", "订单号", "工单",
                  "工单号", "单号"),
        "product": ("product", "item", "part", "part number", "material", "model", "产品",
                    "产品编号", "型号", "物料", "物料号", "物料编码", "零件号"),
        "operation": ("operation", "op", "step", "operation no", "operation number", "sequence",
                      "工序", "工序号", "工序编号", "工步", "序号"),
        "machine": ("machine", "machines", "equipment", "resource", "alternatives", "设备", "机台",
                    "机床", "可用设备", "设备编号"),
        "work_center": ("work center", "work centre", "workcenter", "cell", "工作中心", "设备组",
                        "工段", "班组"),
        "time": ("time", "duration", "lot time", "run time", "processing time", "工时", "加工时间",
                 "时间", "批工时"),
        "per_piece": ("time per piece", "cycle time", "cycle", "unit time", "piece time",
                      "单件工时", "单件时间", "节拍", "单件加工时间"),
        "family": ("family", "setup family", "group", "换型组", "族", "产品族", "换型族", "工艺族"),
        "after": ("after", "predecessors", "predecessor", "紧前工序", "前置工序", "前工序"),
        "lag": ("lag", "wait", "transport", "transport time", "transfer time", "等待", "等待时间",
                "运输时间", "转运时间"),
        "max_lag": ("max lag", "maximum lag", "max wait", "longest wait", "最长等待", "最大等待",
                    "最长间隔"),
        "skills": ("skills", "skill", "operators", "技能", "所需技能", "人员技能"),
        "tools": ("tools", "tool", "fixtures", "fixture", "工装", "夹具", "刀具", "工具"),
        "setup_skills": ("setup skills", "setup skill", "setter", "换型技能", "换型人员技能"),
        "setup_tools": ("setup tools", "setup tool", "换型工装", "换型工具"),
        "size": ("load size", "size", "装炉量", "占用容量", "批占用"),
        "deadline": ("deadline", "latest end", "最迟完成", "最晚完成"),
        "quantity": ("quantity", "qty", "数量"),
        "due": ("due", "due date", "delivery date", "交期", "交货期", "交货日期"),
        "release": ("release", "release date", "earliest start", "下达日期", "最早开始"),
        "weight": ("priority", "weight", "优先级", "权重"),
    },
    "machines": {
        "id": ("machine", "id", "machine id", "equipment", "resource", "name", "设备", "设备编号",
               "设备号", "机台", "机床", "名称"),
        "work_center": ("work center", "work centre", "workcenter", "cell", "group", "工作中心",
                        "设备组", "工段"),
        "family": ("family", "current family", "set up", "setup family", "当前型号", "当前换型组",
                   "在机型号"),
        "available": ("available", "available from", "free from", "可用时间", "可用起始",
                      "空闲时间"),
        "resumable": ("resumable", "interruptible", "may pause", "可中断", "可暂停"),
        "skills": ("skills", "skill", "operators", "技能", "所需技能"),
        "tools": ("tools", "tool", "工装", "夹具", "工具"),
        "setup_skills": ("setup skills", "setup skill", "setter", "换型技能"),
        "setup_tools": ("setup tools", "setup tool", "换型工装", "换型工具"),
        "batch": ("batch", "batch capacity", "load capacity", "炉容量", "批容量", "装炉容量"),
    },
    "operators": {
        "id": ("operator", "id", "name", "person", "人员", "姓名", "工号", "操作工", "员工"),
        "skills": ("skills", "skill", "qualification", "qualifications", "技能", "资质"),
    },
    "tools": {
        "id": ("tool", "id", "name", "fixture", "工装", "工装编号", "夹具", "刀具", "工具", "名称"),
        "quantity": ("quantity", "qty", "pieces", "数量", "件数"),
    },
    "changeovers": {
        "machine": ("machine", "equipment", "设备", "机台"),
        "work_center": ("work center", "work centre", "workcenter", "cell", "工作中心", "设备组"),
        "from": ("from", "from family", "before", "从", "换型前", "前型号", "前"),
        "to": ("to", "to family", "after", "到", "至", "换型后", "后型号", "后"),
        "time": ("time", "duration", "setup", "setup time", "changeover", "changeover time",
                 "换型时间", "时间", "工时", "切换时间"),
    },
    "calendars": {
        "machine": ("machine", "equipment", "resource", "设备", "机台"),
        "work_center": ("work center", "work centre", "workcenter", "cell", "工作中心", "设备组"),
        "from": ("from", "start", "begin", "从", "开始", "开始时间"),
        "to": ("to", "end", "until", "到", "至", "结束", "结束时间"),
        "kind": ("kind", "type", "state", "类型", "状态"),
        "operator": ("operator", "person", "staff", "人员", "操作工", "员工"),
        "tool": ("tool", "fixture", "工装", "夹具", "工具"),
        "day": ("day", "days", "weekday", "weekdays", "星期", "周几", "工作日"),
    },
    "settings": {
        "name": ("name", "setting", "key", "名称", "参数", "项目"),
        "value": ("value", "值", "取值"),
    },
}  # fmt: skip
"""Headers of each table by field, English and Chinese."""
REQUIRED: dict[str, tuple[str, ...]] = {
    "orders": ("id",),
    "routings": ("operation",),
    "machines": ("id",),
    "changeovers": (),
    "calendars": ("from", "to"),
    "operators": ("id", "skills"),
    "tools": ("id",),
    "settings": ("name", "value"),
}
_SPANS = {("routings", "time"), ("routings", "per_piece"), ("routings", "lag"),
          ("routings", "max_lag"), ("changeovers", "time")}  # fmt: skip
_MOST_BYTES = 64 << 20
_MOST_UNPACKED = 256 << 20
_MOST_ROWS = 200_000
_MOST_COLUMNS = 2_000
_CELL = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
_KINDS = {header_key(word): kind for kind, words in SHEETS.items() for word in words}
_FIELDS = {
    kind: {header_key(word): name for name, words in columns.items() for word in words}
    for kind, columns in COLUMNS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table: its cells by field, and where it stands."""

    table: "Table"
    number: int
    cells: Sequence[Any]

    def has(self, name: str) -> bool:
        """Whether something stands in the field's cell."""
        return text_of(self._cell(name)) != ""

    def read(self, name: str, reader: Callable[[Any], T]) -> T:
        """The field's cell through a reader; OrderError names place, value and the way out."""
        try:
            return reader(self._cell(name))
        except CellError as error:
            raise self.wrong(name, str(error)) from None

    def get(self, name: str, reader: Callable[[Any], T], default: T) -> T:
        """As ``read``; the default where the cell is empty or the column is not there."""
        return self.read(name, reader) if self.has(name) else default

    def wrong(self, name: str, message: str) -> OrderError:
        """The error about one cell."""
        header = self.table.columns[name][1] if name in self.table.columns else name
        shown = text_of(self._cell(name))[:80]
        where = f"{self.table.name}: row {self.number}, column {header!r}"
        return OrderError(f"{where}: {shown!r} {message}")

    def _cell(self, name: str) -> Any:
        if name not in self.table.columns:
            return None
        index = self.table.columns[name][0]
        return self.cells[index] if index < len(self.cells) else None


@dataclass(slots=True, kw_only=True)
class Table:
    """One table of a known kind.

    Attributes
    ----------
    columns
        Field -> (index, header as written, seconds of the unit the header names or 0).
    others
        Headers that are not known: ``(index, header, unit)``.
    """

    kind: str
    name: str
    columns: dict[str, tuple[int, str, int]] = field(default_factory=dict)
    others: list[tuple[int, str, int]] = field(default_factory=list)
    at: int = 0
    cells: list[list[Any]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        for number, cells in enumerate(self.cells[self.at + 1 :], start=self.at + 2):
            if not is_blank(cells):
                yield Row(table=self, number=number, cells=cells)

    def unit(self, name: str) -> int:
        """Seconds of the unit that a column's header names, 0 = none."""
        return self.columns[name][2] if name in self.columns else 0


def read_tables(files: Mapping[str, bytes]) -> tuple[dict[str, list[Table]], list[str]]:
    """Tables by kind from CSV files and workbooks, and remarks on what was left out.

    Raises
    ------
    OrderError
        A file cannot be read, or none of its sheets is known.
    """
    found: dict[str, list[Table]] = {}
    notes: list[str] = []
    for file, data in files.items():
        if not data.strip():
            raise OrderError(f"{file}: is empty; it needs a header row and rows below it")
        if len(data) > _MOST_BYTES:
            raise OrderError(f"{file}: is larger than {_MOST_BYTES >> 20} MiB; split it")
        sheets = rows_of(file, data)
        before = len(notes)
        count = 0
        for sheet, rows in sheets.items():
            if all(is_blank(row) for row in rows):
                continue
            name = f"{file}: sheet {sheet!r}" if sheet else file
            table = _classify(name, sheet or _stem(file), rows)
            if table is None:
                notes.append(f"{name}: is none of the known tables and was left out")
                continue
            count += 1
            found.setdefault(table.kind, []).append(table)
            if table.others and table.kind != "changeovers":
                listed = ", ".join(header for _, header, _ in table.others)
                notes.append(f"{name}: unknown columns were left out: {listed}")
        if not count:
            del notes[before:]
            known = ", ".join(f"{kind} ({_chinese(words)})" for kind, words in SHEETS.items())
            names = ", ".join(repr(s) for s in sheets if s) or repr(_stem(file))
            raise OrderError(
                f"{file}: no table of {names} is known; name them {known}, with headers in the "
                "first rows"
            )
    return found, notes


def rows_of(name: str, data: bytes) -> dict[str, list[list[Any]]]:
    """Rows of each sheet of a workbook by its name, of a CSV file by ``""``."""
    return _workbook(name, data) if is_excel(data) else {"": _csv(name, data)}


def is_excel(data: bytes) -> bool:
    """Whether bytes begin as a workbook does (.xlsx or the older .xls)."""
    return data[:4] == b"PK\x03\x04" or data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def _stem(file: str) -> str:
    return re.sub(r"\.[^.]*$", "", file.replace("\\", "/").rsplit("/", 1)[-1])


def _chinese(words: Sequence[str]) -> str:
    return next(word for word in words if not word.isascii())


def _classify(name: str, sheet: str, rows: list[list[Any]]) -> Table | None:
    """The table of some rows: by its name, else by its headers; None when it is neither."""
    key = header_key(sheet)
    kind = _KINDS.get(key)
    if kind is None:  # "2026-01 orders", "订单_一月"
        kinds = {k for word, k in _KINDS.items() if word in key.split() or _inside(word, key)}
        kind = next(iter(kinds)) if len(kinds) == 1 else None
    if kind is not None:
        return _with_columns(name, kind, rows)
    for kind in ("routings", "orders", "changeovers", "calendars", "operators", "machines"):
        table = _with_columns(name, kind, rows, is_sure=False)
        wanted = {
            "orders": ("id", "due"), "routings": ("operation", "machine"),
            "changeovers": ("from", "to", "time"), "calendars": ("from", "to"),
            "operators": ("id", "skills"),
            "machines": ("id", "work_center"),
        }[kind]  # fmt: skip
        if table is not None and all(f in table.columns for f in wanted):
            return table
    return None


def _inside(word: str, key: str) -> bool:
    return not word.isascii() and len(word) > 1 and word in key


def _with_columns(
    name: str, kind: str, rows: list[list[Any]], *, is_sure: bool = True
) -> Table | None:
    """The columns of the header row, which may stand below titles."""
    best = Table(kind=kind, name=name, cells=rows)
    for at, row in enumerate(rows[:20]):
        columns: dict[str, tuple[int, str, int]] = {}
        others: list[tuple[int, str, int]] = []
        for index, cell in enumerate(row):
            header = text_of(cell)
            if not header:
                continue
            fields = _FIELDS[kind]
            key, unit = header_unit(header)
            field_name = fields.get(header_key(header)) or fields.get(key)
            if field_name is None:
                others.append((index, header, unit))
            elif field_name in columns:
                if not is_sure:
                    return None
                raise OrderError(
                    f"{name}: row {at + 1}: {columns[field_name][1]!r} and {header!r} both mean "
                    f"{field_name}; keep one of them"
                )
            else:
                span = unit if (kind, field_name) in _SPANS or field_name in _INSTANTS else 0
                columns[field_name] = (index, header, span)
        if len(columns) > len(best.columns):
            best = Table(kind=kind, name=name, columns=columns, others=others, at=at, cells=rows)
    if not best.columns and kind == "changeovers":
        best.others = [(i, text_of(c), header_unit(text_of(c))[1]) for i, c in enumerate(rows[0])]
    missing = [f for f in REQUIRED[kind] if f not in best.columns]
    if missing and is_sure:
        wanted = ", ".join(f"{f} ({_chinese(COLUMNS[kind][f])})" for f in missing)
        header = ", ".join(text_of(cell) for cell in rows[best.at] if text_of(cell))
        raise OrderError(f"{name}: the column {wanted} is missing; the header row is: {header}")
    return None if missing else best


_INSTANTS = {"due", "release", "available", "from", "to", "deadline"}


def _csv(name: str, data: bytes) -> list[list[Any]]:
    text = decoded(name, data)
    if "\0" in text:
        raise OrderError(f"{name}: is neither a table nor text; save it as CSV UTF-8 or .xlsx")
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t，|", key=head.count)
    if delimiter == "，":
        text, delimiter = text.replace("，", ","), ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise OrderError(f"{name}: is not a CSV file ({error}); save it anew") from error
    if len(rows) > _MOST_ROWS:
        raise OrderError(f"{name}: has more than {_MOST_ROWS} rows; split it")
    return [list(row) for row in rows]


def decoded(name: str, data: bytes) -> str:
    """Text of UTF-8 (with or without BOM), UTF-16 with BOM or GB18030 bytes."""
    encodings = ("utf-8-sig", "gb18030")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ("utf-16", "utf-16")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise OrderError(f"{name}: is neither UTF-8 nor GB18030 text; save it as CSV UTF-8 or .xlsx")


def _workbook(name: str, data: bytes) -> dict[str, list[list[Any]]]:
    from python_calamine import CalamineError, CalamineWorkbook

    _check_room(name, data)
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = {}
        for sheet in book.sheet_names:
            found = book.get_sheet_by_name(sheet)
            rows = found.to_python(skip_empty_area=False)
            for (top, left), (bottom, right) in found.merged_cell_ranges or ():
                _spread(rows, top, left, bottom, right)
            sheets[sheet] = rows
        return sheets
    except (CalamineError, OSError, ValueError) as error:
        raise OrderError(
            f"{name}: is not a readable Excel file ({error}); save it as .xlsx or .csv"
        ) from error


def _spread(rows: list[list[Any]], top: int, left: int, bottom: int, right: int) -> None:
    """A cell merged over rows of one column counts for each of them (an order, its operations)."""
    if left != right:
        return
    for row in rows[top + 1 : bottom + 1]:
        if left < len(row):
            row[left] = rows[top][left]


def _check_room(name: str, data: bytes) -> None:
    """Refuse a workbook whose area is far larger than its rows: the reader makes room for all."""
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            parts = book.infolist()
            if sum(part.file_size for part in parts) > _MOST_UNPACKED:
                raise OrderError(
                    f"{name}: unpacks to more than {_MOST_UNPACKED >> 20} MiB; split it"
                )
            for part in parts:
                if "worksheets/" in part.filename and part.filename.endswith((".xml", ".bin")):
                    _check_area(name, book.read(part))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise OrderError(
            f"{name}: is not a readable Excel file ({error}); save it as .xlsx or .csv"
        ) from error


def _check_area(name: str, sheet: bytes) -> None:
    for found in _CELL.finditer(sheet):
        column = sum((x - 64) * 26**k for k, x in enumerate(reversed(found[1])))
        if int(found[2]) > _MOST_ROWS or column > _MOST_COLUMNS:
            place = (found[1] + found[2]).decode()
            raise OrderError(
                f"{name}: has a cell at {place}; tables have at most {_MOST_ROWS} rows and "
                f"{_MOST_COLUMNS} columns. Delete what stands outside the table and save it again"
            )
