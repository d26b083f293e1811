"""Order files, CSV and Excel, as people write them: English and Chinese headers, many dates.

A file is read row by row: a broken row is reported with its column, value and the way out, and
nothing of it is imported; the other rows are not affected.
"""

import csv
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from workshop_brain.errors import OrderError
from workshop_brain.model.order import WorkRequest, can_name
from workshop_brain.model.plant import Plant
from workshop_brain.units import NS_PER_S

HEADERS: dict[str, tuple[str, ...]] = {
    "id": (
        "id", "order", "order id", "order no", "order number", "work order", "work request",
        "job order", "request", "订单号", "订单", "订单编号", "工单", "工单号", "工单编号",
        "生产订单", "单号",
    ),
    "product": (
        "product", "product id", "item", "part", "part number", "part no", "material", "model",
        "产品", "产品编号", "产品型号", "产品名称", "型号", "物料", "物料编码", "物料号", "零件号",
    ),
    "quantity": (
        "quantity", "qty", "amount", "pieces", "pcs", "count", "数量", "订单数量", "计划数量",
        "生产数量", "件数", "台数",
    ),
    "due": (
        "due", "due date", "due time", "deadline", "delivery", "delivery date", "required date",
        "交期", "交货期", "交货日期", "交付日期", "截止日期", "要求完成时间", "完成日期",
    ),
    "release": (
        "release", "release date", "released", "start", "earliest start", "not before",
        "下达", "下达日期", "下达时间", "下发日期", "投放日期", "最早开始", "开始日期",
    ),
    "priority": ("priority", "prio", "urgency", "weight", "优先级", "优先", "紧急程度", "等级"),
}  # fmt: skip
MOST_PIECES = 100_000
"""Pieces of one order; more would only hide that it is several deliveries."""
REQUIRED = ("id", "product", "quantity", "due")
_PRIORITIES = {
    "normal": 1, "low": 1, "standard": 1, "medium": 3, "high": 6, "urgent": 9, "rush": 9,
    "普通": 1, "正常": 1, "一般": 1, "低": 1, "中": 3, "高": 6, "紧急": 9, "加急": 9, "特急": 9,
    "急": 9,
}  # fmt: skip
_DATE = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"),
    re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})[日号]"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
)
_SLASHED = re.compile(r"(?P<a>\d{1,2})[/-](?P<b>\d{1,2})[/-](?P<y>\d{4})")
_TIME = re.compile(
    r"(?:[T ]\s*|(?<=[日号]))(?P<half>上午|下午|晚上)?\s*(?P<h>\d{1,2})"
    r"(?:[时点](?!\d)|[:时点](?P<min>\d{1,2}))?"
    r"(?:[:分](?P<s>\d{1,2})(?:\.\d+)?秒?)?分?\s*(?P<ap>[AaPp][Mm])?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?"
)
_EXCEL_EPOCH = datetime.fromisoformat("1899-12-30")
_MOST_ROWS = 100_000
_MOST_BYTES = 64 << 20
_MOST_UNPACKED = 256 << 20
_MOST_COLUMNS = 256
_CELL = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
_ENCODINGS = ("utf-8-sig", "gb18030")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowError:
    """Why a row was not imported.

    Attributes
    ----------
    row
        As the spreadsheet counts: 1 is the first row of the file.
    column
        Header as it stands in the file; "" when the row as a whole is meant.
    """

    row: int
    column: str
    value: str
    message: str


class _CellError(ValueError):
    """What is wrong with one cell; the message says the way out."""


def read_orders(
    source: Path | str | bytes, plant: Plant
) -> tuple[list[WorkRequest], list[RowError]]:
    """Work requests of an order file and what is wrong with its other rows.

    Dates without a zone are local to the plant. A due date without a time means the end of that
    day, a release date its beginning. Columns that are not known are ignored.

    Raises
    ------
    OrderError
        The file as a whole cannot be used: unreadable, empty, a column missing.
    """
    name, data = _content(source)
    rows = _excel(name, data) if _is_excel(data) else _csv(name, data)
    at, columns = _find_header(name, rows)
    reader = _Reader(plant, columns)
    requests: list[WorkRequest] = []
    errors: list[RowError] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows[at + 1 :], start=at + 2):
        if all(_text(cell) == "" for cell in row):
            continue
        request, found = reader.read(number, row)
        if request is not None and request.id in seen:
            column = columns["id"][1]
            way_out = f"stands in row {seen[request.id]} already; give each order its own id"
            found = [RowError(row=number, column=column, value=request.id, message=way_out)]
            request = None
        errors += found
        if request is not None:
            seen[request.id] = number
            requests.append(request)
    return requests, errors


class _Reader:
    """Turns rows into requests by the columns of one file."""

    def __init__(self, plant: Plant, columns: dict[str, tuple[int, str]]) -> None:
        self._columns = columns
        self._zone = ZoneInfo(plant.timezone)
        self._products = {_key(p.id): p.id for p in plant.products}
        for product in plant.products:
            for other in product.names.values():
                self._products.setdefault(_key(other), product.id)

    def read(self, number: int, row: Sequence[Any]) -> tuple[WorkRequest | None, list[RowError]]:
        """The request of one row, or None and what is wrong with it."""
        values: dict[str, Any] = {}
        errors: list[RowError] = []
        readers: dict[str, Callable[[Any], Any]] = {
            "id": _id,
            "product": self._product,
            "quantity": _quantity,
            "due": lambda cell: self._instant(cell, end_of_day=True),
            "release": lambda cell: self._instant(cell, end_of_day=False),
            "priority": _priority,
        }
        for field, (index, header) in self._columns.items():
            cell = row[index] if index < len(row) else ""
            if _text(cell) == "" and field not in REQUIRED:
                continue
            try:
                values[field] = readers[field](cell)
            except _CellError as error:
                errors.append(
                    RowError(row=number, column=header, value=_text(cell), message=str(error))
                )
        if errors:
            return None, errors
        release = values.get("release", 0)
        if values["due"] <= release:
            index, header = self._columns["due"]
            message = "is not after the release; correct one of the two dates"
            value = _text(row[index])
            return None, [RowError(row=number, column=header, value=value, message=message)]
        return (
            WorkRequest(
                id=values["id"],
                product=values["product"],
                quantity=values["quantity"],
                due_ns=values["due"],
                release_ns=release,
                priority=values.get("priority", 1),
            ),
            [],
        )

    def _product(self, cell: Any) -> str:
        text = _need(cell)
        found = self._products.get(_key(text))
        if found is None:
            known = ", ".join(sorted(set(self._products.values())))
            raise _CellError(f"is not a product of this plant; known are {known}")
        return found

    def _instant(self, cell: Any, *, end_of_day: bool) -> int:
        moment, has_time = _moment(cell)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone)
        if not has_time and end_of_day:
            moment = datetime.combine(moment.date() + timedelta(days=1), time(), moment.tzinfo)
        return round(moment.timestamp()) * NS_PER_S


def _id(cell: Any) -> str:
    text = _need(cell)
    if len(text) > 120:
        raise _CellError("is longer than 120 characters; shorten it")
    if not can_name(text):
        raise _CellError("has a semicolon or a character that cannot be printed; leave it out")
    return text


def _quantity(cell: Any) -> int:
    text = _need(cell)
    if isinstance(cell, (bool, date, datetime)):
        raise _CellError("is not a number; write whole pieces, for example 120")
    plain = re.sub(r"(?:件|台|个|套|pcs|pieces)$", "", text.casefold()).strip()
    if re.fullmatch(r"[+-]?\d{1,3}(?:[,' ]\d{3})+(?:\.0+)?", plain):
        plain = re.sub(r"[,' ]", "", plain)
    try:
        number = float(plain)
    except ValueError:
        raise _CellError("is not a number; write whole pieces, for example 120") from None
    if not number.is_integer():
        raise _CellError("is not a whole number; write whole pieces, for example 120")
    if number <= 0:
        raise _CellError("must be above 0; remove the row if nothing is to be made")
    if number > MOST_PIECES:
        raise _CellError(f"is more than {MOST_PIECES} pieces; split it into several orders")
    return int(number)


def _priority(cell: Any) -> int:
    text = _need(cell).casefold()
    if text in _PRIORITIES:
        return _PRIORITIES[text]
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number not in range(1, 10):
        raise _CellError("is no priority; write 1 (normal) to 9 (rush), or 普通, 高, 紧急")
    return int(number)


def _moment(cell: Any) -> tuple[datetime, bool]:
    """Moment of a cell, with a zone when it names one, and whether it has a time of day."""
    if isinstance(cell, datetime):
        return cell, cell.time() != time()
    if isinstance(cell, date):
        return datetime.combine(cell, time()), False
    if isinstance(cell, (int, float)) and not isinstance(cell, bool) and 20_000 <= cell < 80_000:
        moment = _EXCEL_EPOCH + timedelta(seconds=round(float(cell) * 86_400))
        return moment, float(cell) != int(cell)
    text = _need(cell)
    for pattern in _DATE:
        if found := pattern.match(text):
            day = _day(int(found["y"]), int(found["m"]), int(found["d"]))
            return _with_time(day, text[found.end() :])
    if found := _SLASHED.match(text):
        a, b = int(found["a"]), int(found["b"])
        if a <= 12 and b <= 12 and a != b:
            raise _CellError("can mean two dates; write it as YYYY-MM-DD")
        day = _day(int(found["y"]), min(a, b) if a > 12 or b > 12 else a, max(a, b))
        return _with_time(day, text[found.end() :])
    raise _CellError("is not a date; write it as YYYY-MM-DD or YYYY-MM-DD HH:MM")


def _day(year: int, month: int, day: int) -> date:
    try:
        made = date(year, month, day)
    except ValueError:
        raise _CellError("is a date that does not exist; write it as YYYY-MM-DD") from None
    if not 2000 <= year < 2200:
        raise _CellError("has a year that cannot be meant; write it as YYYY-MM-DD")
    return made


def _with_time(day: date, rest: str) -> tuple[datetime, bool]:
    if not rest.strip():
        return datetime.combine(day, time()), False
    found = _TIME.fullmatch(rest if rest[0] in "T " else f" {rest}")
    if found is None:
        raise _CellError("has a time that is not understood; write it as YYYY-MM-DD HH:MM")
    hour, minute, second = (int(found[k] or 0) for k in ("h", "min", "s"))
    is_afternoon = found["half"] in ("下午", "晚上") or (found["ap"] or "").casefold() == "pm"
    if is_afternoon and hour < 12:
        hour += 12
    elif (found["ap"] or "").casefold() == "am" and hour == 12:
        hour = 0
    extra = timedelta(days=1) if (hour, minute, second) == (24, 0, 0) else timedelta()
    try:
        clock = time(0 if extra else hour, minute, second)
    except ValueError:
        raise _CellError("has a time that does not exist; write it as YYYY-MM-DD HH:MM") from None
    moment = datetime.combine(day, clock) + extra
    if zone := found["zone"]:
        try:
            moment = datetime.fromisoformat(moment.isoformat() + zone)
        except ValueError:
            raise _CellError("has a time zone that does not exist; write it as +08:00") from None
    return moment, True


def _content(source: Path | str | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        name, data = "order file", source
    else:
        name = str(source)
        try:
            data = Path(source).read_bytes()
        except FileNotFoundError as error:
            raise OrderError(f"{name}: no such file") from error
        except OSError as error:
            raise OrderError(f"{name}: cannot be read ({error.strerror})") from error
    if not data.strip():
        raise OrderError(f"{name}: is empty; it needs a header row and one row for each order")
    if len(data) > _MOST_BYTES:
        raise OrderError(f"{name}: is larger than {_MOST_BYTES >> 20} MiB; split it")
    return name, data


def _is_excel(data: bytes) -> bool:
    return data[:4] == b"PK\x03\x04" or data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def _excel(name: str, data: bytes) -> list[list[Any]]:
    from python_calamine import CalamineError, CalamineWorkbook

    _check_room(name, data)
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        for sheet in book.sheet_names:
            rows = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
            if any(_text(cell) for row in rows for cell in row):
                return _limited(name, rows)
    except (CalamineError, OSError, ValueError) as error:
        raise OrderError(
            f"{name}: is not a readable Excel file ({error}); save it as .xlsx or .csv"
        ) from error
    raise OrderError(f"{name}: has no rows; it needs a header row and one row for each order")


def _check_room(name: str, data: bytes) -> None:
    """Refuse a workbook that would unpack to far more than orders need.

    One stray cell at the end of a sheet makes its whole area count: the reader would ask for room
    for all of it, and die.
    """
    if not data.startswith(b"PK"):
        return  # the older format has at most 65,536 rows of 256 cells
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            parts = book.infolist()
            if sum(part.file_size for part in parts) > _MOST_UNPACKED:
                raise OrderError(
                    f"{name}: unpacks to more than {_MOST_UNPACKED >> 20} MB; split it"
                )
            for part in parts:
                if part.filename.endswith((".xml", ".bin")) and "worksheets/" in part.filename:
                    _check_cells(name, book.read(part))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise OrderError(
            f"{name}: is not a readable Excel file ({error}); save it as .xlsx or .csv"
        ) from error


def _check_cells(name: str, sheet: bytes) -> None:
    for found in _CELL.finditer(sheet):
        row = int(found[2])
        column = sum((x - 64) * 26**k for k, x in enumerate(reversed(found[1])))
        if row > _MOST_ROWS + 1000 or column > _MOST_COLUMNS:
            place = (found[1] + found[2]).decode()
            raise OrderError(
                f"{name}: has a cell at {place}; orders need at most {_MOST_ROWS} rows and "
                f"{_MOST_COLUMNS} columns. Delete what stands outside the table and save it again"
            )


def _csv(name: str, data: bytes) -> list[list[Any]]:
    text = _decode(name, data)
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t，|", key=head.count)
    if delimiter == "，":
        text, delimiter = text.replace("，", ","), ","
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return _limited(name, rows)
    except csv.Error as error:
        raise OrderError(f"{name}: is not a CSV file ({error}); save it anew") from error


def _limited(name: str, rows: Iterable[list[Any]]) -> list[list[Any]]:
    out = []
    for row in rows:
        out.append(row)
        if len(out) > _MOST_ROWS:
            raise OrderError(f"{name}: has more than {_MOST_ROWS} rows; split it")
    return out


def _decode(name: str, data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    for encoding in _ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise OrderError(f"{name}: is neither UTF-8 nor GB18030 text; save it as CSV UTF-8 or .xlsx")


def _find_header(
    name: str, rows: Sequence[Sequence[Any]]
) -> tuple[int, dict[str, tuple[int, str]]]:
    """Number of the header row (titles may stand above it) and the columns of the fields."""
    best: tuple[int, dict[str, tuple[int, str]]] = (0, {})
    for number, row in enumerate(rows[:20]):
        columns: dict[str, tuple[int, str]] = {}
        for index, cell in enumerate(row):
            field = _FIELDS.get(_header_key(_text(cell)))
            if field is not None and field not in columns:
                columns[field] = (index, _text(cell))
        if len(columns) > len(best[1]):
            best = (number, columns)
    missing = [field for field in REQUIRED if field not in best[1]]
    if missing:
        wanted = ", ".join(f"{field} ({_chinese(field)})" for field in missing)
        found = ", ".join(_text(cell) for cell in rows[best[0]] if _text(cell)) if rows else ""
        raise OrderError(f"{name}: the column {wanted} is missing; the header row is: {found}")
    return best


def _chinese(field: str) -> str:
    return next(word for word in HEADERS[field] if not word.isascii())


def _header_key(text: str) -> str:
    """Header without case, units in brackets, stars and separators."""
    text = re.sub(r"[\(（\[].*?[\)）\]]", "", unicodedata.normalize("NFKC", text)).casefold()
    return re.sub(r"[\s_\-*:.#]+", " ", text).strip()


_FIELDS = {_header_key(word): field for field, words in HEADERS.items() for word in words}


def _key(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _need(cell: Any) -> str:
    text = _text(cell)
    if not text:
        raise _CellError("is empty; fill it in or remove the row")
    return text


def _text(cell: Any) -> str:
    """Text of a cell: full-width digits made plain, whole numbers without '.0'."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        cell = int(cell)
    if isinstance(cell, (datetime, date)):
        return cell.isoformat(" ") if isinstance(cell, datetime) else cell.isoformat()
    return unicodedata.normalize("NFKC", str(cell)).strip()


def write_orders(path: Path, requests: Sequence[WorkRequest]) -> int:
    """Write orders as CSV in the form that ``read_orders`` reads; returns how many.

    OrderError when the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "product", "quantity", "due", "release", "priority"])
            for r in requests:
                release = _iso(r.release_ns) if r.release_ns else ""
                writer.writerow([r.id, r.product, r.quantity, _iso(r.due_ns), release, r.priority])
    except OSError as error:
        raise OrderError(f"{path}: cannot be written: {error.strerror}") from error
    return len(requests)


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
