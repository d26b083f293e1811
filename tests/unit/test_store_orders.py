"""Order files as people write them."""

import io
import zipfile
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from workshop_brain.config import built_in
from workshop_brain.errors import OrderError
from workshop_brain.model.order import WorkRequest
from workshop_brain.store.orders import RowError, read_orders

PLANT = built_in().plant
PRODUCT = PLANT.products[0].id
SHANGHAI = ZoneInfo("Asia/Shanghai")


def ns(*moment: int) -> int:
    return round(datetime(*moment, tzinfo=SHANGHAI).timestamp()) * 10**9  # type: ignore[arg-type, misc]


def one(cell: str, column: str = "due") -> int | list[RowError]:
    """Due (or release) of a file with one order, or its errors."""
    header = "id;product;quantity;due;release"
    due, release = (cell, "") if column == "due" else ("2099-01-01", cell)
    text = f"{header}\nA1;{PRODUCT};5;{due};{release}\n"
    requests, errors = read_orders(text.encode(), PLANT)
    if errors:
        return errors
    return requests[0].due_ns if column == "due" else requests[0].release_ns


def excel(rows: list[list[object]]) -> bytes:
    """A workbook with one sheet; datetimes as dates with a number format."""
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for index, cell in enumerate(row):
            at = f"{chr(65 + index)}{number}"
            if isinstance(cell, datetime):
                days = (cell - datetime(1899, 12, 30)).total_seconds() / 86_400  # noqa: DTZ001
                cells.append(f'<c r="{at}" s="1"><v>{days}</v></c>')
            elif isinstance(cell, (int, float)):
                cells.append(f'<c r="{at}"><v>{cell}</v></c>')
            elif cell:
                cells.append(f'<c r="{at}" t="inlineStr"><is><t>{cell}</t></is></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>'
        f'<Override PartName="/xl/worksheets/s.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="Orders" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/s.xml"/>'
        f'<Relationship Id="r2" Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><fonts><font/></fonts><fills><fill/></fills>'
        "<borders><border/></borders><cellStyleXfs><xf/></cellStyleXfs>"
        '<cellXfs><xf numFmtId="0"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs>'
        "</styleSheet>",
        "xl/worksheets/s.xml": f'<worksheet xmlns="{main}"><sheetData>{"".join(lines)}'
        "</sheetData></worksheet>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_chinese_headers_in_every_encoding(encoding: str, delimiter: str) -> None:
    rows = [
        ["工单号", "产品型号", "数量（件）", "交货日期*", "优先级", "下达日期", "备注"],
        ["工单-01", PRODUCT, "１２０", "2026年11月25日", "紧急", "2026/11/20", "急用"],
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    requests, errors = read_orders(text.encode(encoding), PLANT)
    assert errors == []
    assert requests == [
        WorkRequest(
            id="工单-01", product=PRODUCT, quantity=120, due_ns=ns(2026, 11, 26),
            release_ns=ns(2026, 11, 20), priority=9,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-11-25", (2026, 11, 26)),
        ("2026.11.25", (2026, 11, 26)),
        ("20261125", (2026, 11, 26)),
        ("2026年1月5日", (2026, 1, 6)),
        ("25.11.2026", (2026, 11, 26)),
        ("11/25/2026", (2026, 11, 26)),
        ("25/11/2026", (2026, 11, 26)),
        ("2026-11-25 14:30", (2026, 11, 25, 14, 30)),
        ("2026-11-25T14:30:15", (2026, 11, 25, 14, 30, 15)),
        ("2026-11-25 24:00", (2026, 11, 26)),
        ("2026年11月25日 14时30分", (2026, 11, 25, 14, 30)),
        ("2026年11月25日下午2点", (2026, 11, 25, 14)),
        ("2026/11/25 2:30 PM", (2026, 11, 25, 14, 30)),
        ("2026-11-25T06:30:00Z", (2026, 11, 25, 14, 30)),
        ("2026-11-25T08:30:00+02:00", (2026, 11, 25, 14, 30)),
        ("2026-11-25T06:30:00.000Z", (2026, 11, 25, 14, 30)),
    ],
)
def test_dates_as_people_write_them(cell: str, moment: tuple[int, ...]) -> None:
    assert one(cell) == ns(*moment)


def test_a_release_date_without_a_time_is_the_start_of_that_day() -> None:
    assert one("2026-11-25", "release") == ns(2026, 11, 25)


@pytest.mark.parametrize(
    ("cell", "way_out"),
    [
        ("", "is empty"),
        ("soon", "is not a date"),
        ("05/06/2026", "can mean two dates"),
        ("2026-02-30", "does not exist"),
        ("2026-11-25 25:00", "time that does not exist"),
        ("2026-11-25 at noon", "time that is not understood"),
        ("1026-11-25", "year that cannot be meant"),
    ],
)
def test_a_date_that_cannot_be_meant_names_row_column_value_and_way_out(
    cell: str, way_out: str
) -> None:
    errors = one(cell)
    assert isinstance(errors, list)
    (error,) = errors
    assert (error.row, error.column, error.value) == (2, "due", cell)
    assert way_out in error.message


def test_a_broken_row_is_reported_whole_and_the_others_are_imported() -> None:
    text = (
        "Order No.,Item,Qty,Due date,Priority\n"
        f"A1,{PRODUCT},10,2026-11-25,1\n"
        "\n"
        "A2,warp drive,2.5,someday,12\n"
        f"A1,{PRODUCT},3,2026-11-25,\n"
        f"A3,{PRODUCT},-4,2026-11-25,\n"
        f'A4,{PRODUCT},"1,200 pcs",2026-11-26,rush\n'
        f"A5,{PRODUCT},many\n"
    )
    requests, errors = read_orders(text.encode(), PLANT)
    assert [(r.id, r.quantity, r.priority) for r in requests] == [("A1", 10, 1), ("A4", 1200, 9)]
    assert [(e.row, e.column, e.value) for e in errors] == [
        (4, "Item", "warp drive"),
        (4, "Qty", "2.5"),
        (4, "Due date", "someday"),
        (4, "Priority", "12"),
        (5, "Order No.", "A1"),
        (6, "Qty", "-4"),
        (8, "Qty", "many"),
        (8, "Due date", ""),
    ]
    assert PRODUCT in errors[0].message
    assert "row 2" in errors[4].message


def test_a_due_date_before_the_release_is_refused() -> None:
    text = f"id,product,quantity,due,release\nA1,{PRODUCT},1,2026-11-25,2026-12-01\n"
    requests, errors = read_orders(text.encode(), PLANT)
    assert requests == []
    assert "release" in errors[0].message


def test_products_are_known_by_id_and_by_their_names_in_any_case() -> None:
    names = [PRODUCT.upper(), *PLANT.products[0].names.values()]
    rows = "".join(f"A{k},{name},1,2026-11-25\n" for k, name in enumerate(names))
    requests, errors = read_orders(f"id,product,quantity,due\n{rows}".encode(), PLANT)
    assert errors == []
    assert {r.product for r in requests} == {PRODUCT}


def test_excel_with_a_title_real_dates_and_numbers() -> None:
    data = excel(
        [
            ["十一月生产订单"],
            [],
            ["订单号", "产品", "数量", "交期", "优先级"],
            [1001, PRODUCT, 24, datetime(2026, 11, 25, 14, 30), 3],  # noqa: DTZ001
            ["1002", PRODUCT, 24.0, datetime(2026, 11, 25), None],  # noqa: DTZ001
            ["1003", PRODUCT, 0, 46351.5, None],
            ["1004", PRODUCT, 1, 46351.5, "高"],
        ]
    )
    requests, errors = read_orders(data, PLANT)
    assert [(r.id, r.quantity, r.due_ns, r.priority) for r in requests] == [
        ("1001", 24, ns(2026, 11, 25, 14, 30), 3),
        ("1002", 24, ns(2026, 11, 26), 1),
        ("1004", 1, ns(2026, 11, 25, 12), 6),
    ]
    assert [(e.row, e.column, e.value) for e in errors] == [(6, "数量", "0")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"a,b,c\n1,2,3\n", r"id \(订单号\).*is missing; the header row is: a, b, c"),
        (b"id,product,quantity\nA,B,1\n", r"column due \(交期\) is missing"),
        (b"PK\x03\x04 not a workbook", "not a readable Excel file"),
        (b"id\x00\xff\xff\xff,product\n", "neither UTF-8 nor GB18030"),
        (b'id,product,quantity,due\n"A1', "is not a CSV file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(data: bytes, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        read_orders(data, PLANT)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match=r"orders\.csv: no such file"):
        read_orders(tmp_path / "orders.csv", PLANT)


def test_a_stray_cell_at_the_end_of_a_sheet_is_named_and_kills_nothing() -> None:
    rows: list[list[object]] = [
        ["id", "product", "quantity", "due"],
        ["A1", PRODUCT, 5, "2099-01-01"],
    ]
    book = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(excel(rows))) as old, zipfile.ZipFile(book, "w") as new:
        for part in old.infolist():
            text = old.read(part).decode()
            if "worksheets/" in part.filename:
                stray = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
                text = text.replace("</sheetData>", stray)
            new.writestr(part.filename, text)
    with pytest.raises(OrderError, match="XFD1048576"):
        read_orders(book.getvalue(), PLANT)


@pytest.mark.parametrize("zone", ["+99:99", "+24:00", "+2360"])
def test_a_zone_that_does_not_exist_refuses_its_row_alone(zone: str) -> None:
    orders = f"A1,{PRODUCT},5,2099-03-05T10:00{zone}\nA2,{PRODUCT},5,2099-01-01\n"
    text = f"id,product,quantity,due\n{orders}"
    requests, errors = read_orders(text.encode(), PLANT)
    assert [r.id for r in requests] == ["A2"]
    assert [e.column for e in errors] == ["due"]


@pytest.mark.parametrize("id", ["A;1", "A\x07", "A\u200b\u202e1"])
def test_an_id_that_cannot_name_an_order_is_named(id: str) -> None:
    text = f'id,product,quantity,due\n"{id}",{PRODUCT},5,2099-01-01\nB,{PRODUCT},5,2099-01-01\n'
    requests, errors = read_orders(text.encode(), PLANT)
    assert [r.id for r in requests] == ["B"]
    assert [e.column for e in errors] == ["id"]
    assert "semicolon or a character that cannot be printed" in errors[0].message
