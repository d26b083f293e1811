"""Sample files, CSV, Parquet and Excel, read in blocks of rows; never the whole of a large one."""

import codecs
import csv
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.files.table import Layout, TableReader, layout_of
from workshop_brain.connect.rows import Faults, Rows
from workshop_brain.errors import DecodeError

BLOCK_ROWS = 20_000
_HEAD_BYTES = 256 * 1024
_CSV_BLOCK = 4 * 1024 * 1024
_MOST_CELLS = 20_000_000
_MOST_UNPACKED = 1 << 30
_MOST_EXCEL = 256 << 20
_ZIP, _OLD_EXCEL, _PARQUET = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PAR1"
_CELL = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')
_COMMA = re.compile(r"(?<![\d.,:])[+-]?\d+,\d+(?![\d,])")


@dataclass(frozen=True, slots=True)
class Known:
    """What a first pass over the bytes of a file tells.

    Attributes
    ----------
    digest
        SHA-256 of the content.
    is_utf8
        All of it is UTF-8 text.
    """

    digest: str
    size: int
    is_utf8: bool
    head: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a file; blocks of the same content have the same numbers, from 0."""

    number: int
    rows: Rows
    faults: Faults
    units: dict[str, str]


def look(path: Path) -> Known:
    """Digest and encoding of a file; OSError when it cannot be read."""
    digest, size, is_utf8, head = hashlib.sha256(), 0, True, b""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        chunk = b"?"
        while chunk:
            chunk = file.read(1 << 20)
            digest.update(chunk)
            size += len(chunk)
            head = head or chunk[:_HEAD_BYTES]
            try:
                is_utf8 = is_utf8 and decoder.decode(chunk, not chunk) is not None
            except UnicodeDecodeError:
                is_utf8 = False
    return Known(digest.hexdigest(), size, is_utf8, head)


def blocks(path: Path, known: Known, settings: FilesSettings, *, latest_ns: int) -> Iterator[Block]:
    """Rows of a file, block by block; DecodeError when it cannot be read as a whole.

    Rows are counted as a spreadsheet counts: 1 is the header.
    """
    try:
        if known.head.startswith(_PARQUET):
            yield from _parquet(path, settings, latest_ns)
        elif known.head.startswith((_ZIP, _OLD_EXCEL)):
            yield from _excel(path, known, settings, latest_ns)
        else:
            yield from _csv(path, known, settings, latest_ns)
    except (pa.ArrowException, csv.Error, ValueError, MemoryError, OverflowError) as error:
        raise DecodeError(f"cannot be read: {' '.join(str(error).split())[:300]}") from error


def _layout(headers: list[str], settings: FilesSettings) -> Layout:
    return layout_of(
        headers,
        form=settings.layout,
        time=settings.time_column,
        signal=settings.signal_column,
        value=settings.value_column,
    )


def _reader(layout: Layout, settings: FilesSettings, decimal: str, latest_ns: int) -> TableReader:
    return TableReader(layout, ZoneInfo(settings.timezone), decimal, latest_ns)


def _units(layout: Layout) -> dict[str, str]:
    return {s.name: s.unit for s in layout.signals if s.unit}


def _cut(
    reader: TableReader, batches: Iterator[tuple[list[pa.Array], Faults]], first_row: int
) -> Iterator[Block]:
    """Blocks of batches of columns."""
    number, row = 0, first_row
    for columns, faults in batches:
        n = len(columns[0])
        for at in range(0, max(n, 1), BLOCK_ROWS):
            part = [c.slice(at, BLOCK_ROWS) for c in columns]
            rows = reader.rows(part, row + at, faults)
            yield Block(number, rows, faults, _units(reader.layout))
            faults, number = Faults(), number + 1
        row += n


# -- CSV --------------------------------------------------------------------------------------


def _csv(path: Path, known: Known, settings: FilesSettings, latest_ns: int) -> Iterator[Block]:
    import pyarrow.csv as pa_csv

    if not known.head.strip():
        raise DecodeError("is empty; it needs a header row")
    encoding = _encoding(known, settings)
    head = known.head.decode(encoding, "replace").lstrip("\ufeff")
    if "\0" in head:
        raise DecodeError("is no text; CSV, Parquet and Excel files are taken")
    delimiter = _delimiter(head, settings)
    first = next(csv.reader(io.StringIO(head), delimiter=delimiter), [])
    layout = _layout(first, settings)
    faults = Faults()

    def short(row: Any) -> str:
        faults.add(int(row.number or 0), "", row.text, "samples.missing")
        return "skip"

    names = [f"c{k}" for k in range(len(first))]
    stream = pa_csv.open_csv(
        str(path),
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=_CSV_BLOCK, encoding=encoding, column_names=names,
            skip_rows=1,
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, invalid_row_handler=short, newlines_in_values=True,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False,
        ),
    )  # fmt: skip
    reader = _reader(layout, settings, _decimal(head, delimiter, settings), latest_ns)

    def batches() -> Iterator[tuple[list[pa.Array], Faults]]:
        for batch in stream:
            found = Faults(faults.count, faults.named[:], dict(faults.by_cause))
            faults.count, faults.named, faults.by_cause = 0, [], {}
            yield [batch.column(k) for k in range(batch.num_columns)], found

    yield from _cut(reader, batches(), 2)


def _encoding(known: Known, settings: FilesSettings) -> str:
    if settings.encoding != "auto":
        return settings.encoding
    if known.head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "utf-8" if known.is_utf8 else "gb18030"


def _delimiter(head: str, settings: FilesSettings) -> str:
    if settings.delimiter != "auto":
        return settings.delimiter
    line = next((line for line in head.splitlines() if line.strip()), "")
    return max(",;\t|", key=line.count)


def _decimal(head: str, delimiter: str, settings: FilesSettings) -> str:
    """A comma when numbers of the first rows are written with one and it parts no columns."""
    if settings.decimal != "auto":
        return settings.decimal
    rows = head.partition("\n")[2]
    return "," if delimiter != "," and _COMMA.search(rows) else "."


# -- Parquet and Excel ------------------------------------------------------------------------


def _parquet(path: Path, settings: FilesSettings, latest_ns: int) -> Iterator[Block]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(str(path)) as file:
        layout = _layout([str(n) for n in file.schema_arrow.names], settings)
        reader = _reader(layout, settings, ".", latest_ns)
        batches = (
            ([batch.column(k) for k in range(batch.num_columns)], Faults())
            for batch in file.iter_batches(batch_size=BLOCK_ROWS)
        )
        yield from _cut(reader, batches, 2)


def _excel(path: Path, known: Known, settings: FilesSettings, latest_ns: int) -> Iterator[Block]:
    from python_calamine import CalamineError, CalamineWorkbook

    if known.size > _MOST_EXCEL:
        raise DecodeError(f"is larger than {_MOST_EXCEL >> 20} MiB; save it as CSV")
    _check_cells(path, known)
    try:
        book = CalamineWorkbook.from_path(str(path))
        sheets = (book.get_sheet_by_name(name) for name in book.sheet_names)
        tables = (sheet.to_python(skip_empty_area=True) for sheet in sheets)
        table: list[list[Any]] = next((rows for rows in tables if rows), [])
    except (CalamineError, OSError) as error:
        raise DecodeError(f"is not a readable Excel file ({error})") from error
    if not table:
        raise DecodeError("has no rows; it needs a header row")
    layout = _layout([_shown(cell) for cell in table[0]], settings)
    columns = [
        pa.array([_shown(row[k]) if k < len(row) else "" for row in table[1:]], pa.string())
        for k in range(len(table[0]))
    ]
    reader = _reader(layout, settings, ".", latest_ns)
    yield from _cut(reader, iter([(columns, Faults())]), 2)


def _check_cells(path: Path, known: Known) -> None:
    """Refuse a workbook whose area is far larger than its rows: the reader makes room for it."""
    if not known.head.startswith(_ZIP):
        return
    try:
        with zipfile.ZipFile(path) as book:
            if sum(part.file_size for part in book.infolist()) > _MOST_UNPACKED:
                raise DecodeError(
                    f"unpacks to more than {_MOST_UNPACKED >> 20} MiB; save it as CSV"
                )
            for part in book.infolist():
                if "worksheets/" in part.filename and part.filename.endswith(".xml"):
                    _check_area(book.read(part))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DecodeError(f"is not a readable Excel file ({error})") from error


def _check_area(sheet: bytes) -> None:
    rows = columns = 0
    for found in _CELL.finditer(sheet):
        rows = max(rows, int(found[2]))
        columns = max(columns, sum((x - 64) * 26**k for k, x in enumerate(reversed(found[1]))))
    if rows * columns > _MOST_CELLS:
        raise DecodeError(
            f"spans {rows} rows and {columns} columns; delete what stands outside the table"
        )


def _shown(cell: Any) -> str:
    """A cell of a workbook as the text that a CSV file would have."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, (datetime, date)):
        return cell.isoformat()
    return str(cell)
