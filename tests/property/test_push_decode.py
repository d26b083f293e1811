"""Whatever is pushed, the decoder answers with columns that hold together, or DecodeError."""

import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect import stamps
from workshop_brain.connect.push.decode import Body, decode_arrow, decode_json
from workshop_brain.connect.rows import TEXT, full_path, kinds
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import SignalDef

STAMP = st.integers(stamps.FIRST_NS, stamps.LAST_NS - 1)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(
    lambda t: t.strip("/ ")
)
VALUE = st.one_of(
    st.floats(allow_infinity=False), st.integers(-(2**53), 2**53), st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=20), st.none(),
)  # fmt: skip
ROW = st.fixed_dictionaries({"path": NAME, "time_ns": STAMP, "value": VALUE})
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                ["path", "signal", "time", "time_ns", "time_ms", "value", "quality", "rows", "seq",
                 "session", "source", "signals", "unit", "kind", "text", "x"]
            ),
            inner, max_size=5,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


def whole(body: Body) -> None:
    """The columns fit each other, and every name makes a path."""
    rows = body.rows
    assert {len(c) for c in (rows.time_ns, rows.value, rows.quality, rows.form, rows.row)} == {
        len(rows)
    }
    assert not len(rows) or rows.name.max() < len(rows.names)
    text = rows.form == TEXT
    assert not text.any() or rows.value[text].max() < len(rows.texts)
    assert not np.isinf(rows.value).any()
    for name, kind in zip(rows.names, kinds(rows), strict=True):
        SignalDef(path=full_path("local", name), kind=kind)
    assert body.faults.count >= len(body.faults.named)


def read(body: Body) -> list[tuple[str, int, Any]]:
    rows = body.rows
    return [
        (
            rows.names[rows.name[k]],
            int(rows.time_ns[k]),
            rows.texts[int(rows.value[k])] if rows.form[k] == TEXT else float(rows.value[k]),
        )
        for k in range(len(rows))
    ]


def same(found: list[tuple[str, int, Any]], rows: list[dict[str, Any]]) -> None:
    assert len(found) == len(rows)
    for (name, stamp, value), row in zip(found, rows, strict=True):
        assert (name, stamp) == (row["path"], row["time_ns"])
        wanted = row["value"]
        if wanted is None or (isinstance(wanted, float) and math.isnan(wanted)):
            assert math.isnan(value)
        else:
            assert value == wanted


@given(st.lists(ROW, max_size=8))
def test_json_rows_and_columns_come_back(rows: list[dict[str, Any]]) -> None:
    same(read(decode_json(orjson.dumps(rows))), rows)
    same(read(decode_json(orjson.dumps({"rows": rows}))), rows)
    columns = {key: [row[key] for row in rows] for key in ("path", "time_ns", "value")}
    same(read(decode_json(orjson.dumps(columns))), rows)


@given(st.lists(ROW, max_size=8), st.booleans())
def test_arrow_comes_back(rows: list[dict[str, Any]], coded: bool) -> None:
    path = pa.array([r["path"] for r in rows], pa.string())
    numbers = [None if isinstance(r["value"], str) else r["value"] for r in rows]
    table = pa.table(
        {
            "path": path.dictionary_encode() if coded else path,
            "time_ns": pa.array([r["time_ns"] for r in rows], pa.int64()),
            "value": pa.array([None if n is None else float(n) for n in numbers], pa.float64()),
            "text": pa.array(
                [r["value"] if isinstance(r["value"], str) else None for r in rows], pa.string()
            ),
        }
    )
    body = decode_arrow(stream(table))
    whole(body)
    same(read(body), rows)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return bytes(sink.getvalue())


@given(JUNK)
@settings(max_examples=300)
def test_any_json_is_columns_or_an_error(junk: Any) -> None:
    with suppress(DecodeError):
        whole(decode_json(orjson.dumps(junk)))


GOOD = stream(
    pa.table(
        {
            "path": pa.array(["a/b", "a/c", "a/b", None], pa.string()).dictionary_encode(),
            "time_ns": pa.array([1_790_000_000 * 10**9] * 4, pa.timestamp("ns", "UTC")),
            "value": [1.0, 2.0, math.nan, None],
            "quality": pa.array([0, 1, 2, None], pa.uint8()),
            "text": ["x", None, "y", None],
        }
    )
)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.data()
)
@settings(max_examples=400)
def test_a_damaged_stream_is_columns_or_an_error(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    body = bytearray(GOOD)
    for at, value in changes:
        body[at] = value
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    with suppress(DecodeError):
        whole(decode_arrow(bytes(body)))


@given(
    st.datetimes(datetime.fromisoformat("1971-01-01"), datetime.fromisoformat("2099-01-01")),
    st.sampled_from(["Z", "+08:00", "-03:30"]),
)
def test_a_written_instant_is_read_back(moment: datetime, zone: str) -> None:
    aware = moment.replace(tzinfo=UTC)
    text = aware.isoformat()[:-6] + zone
    wanted = datetime.fromisoformat(text)
    whole_s = round(wanted.replace(microsecond=0).timestamp())
    assert stamps.text_ns(text) == whole_s * 10**9 + moment.microsecond * 1000


@given(st.text(max_size=30))
def test_any_text_is_an_instant_or_says_why(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(stamps.text_ns(text, UTC), int)


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("2026/3/1 8:00", 28_800), ("1.3.2026 08:00:01", 28_801), ("2026年3月1日 08:00", 28_800),
        ("2026-03-01", 0), ("2026-03-01 08:00:00,250", 28_800.25),
        ("2026-03-01T08:00:00+0800", 0),
    ],
)  # fmt: skip
def test_forms_that_people_write(text: str, second: float) -> None:
    start = stamps.text_ns("2026-03-01T00:00:00Z")
    assert stamps.text_ns(text, UTC) - start == round(second * 10**9)


def test_a_time_that_nothing_can_hold_costs_its_row_alone() -> None:
    times = pa.array([1_790_000_000, 253_402_300_799, -(1 << 40)], pa.timestamp("s"))
    table = pa.table({"path": ["a"] * 3, "time_ns": times, "value": [1.0, 2.0, 3.0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    body = decode_arrow(sink.getvalue().to_pybytes())
    assert body.rows.value.tolist() == [1.0]
    assert body.rows.time_ns.tolist() == [1_790_000_000 * 10**9]
    assert body.faults.count == 2
    huge = b'[{"path":"a","time_ns":1790000000000000000,"value":1},'
    huge += b'{"path":"a","time_ns":1e400,"value":2},{"path":"a","time_ns":1790000000000000000,'
    huge += b'"value":1e400}]'
    body = decode_json(huge)
    assert 1.0 in body.rows.value.tolist()
    assert 2.0 not in body.rows.value.tolist()
    assert body.faults.count >= 1


@pytest.mark.parametrize(("offset", "known"), [("+14:00", 1), ("-14:00", 1), ("+14:01", 0),
                                               ("+19:00", 0), ("+05:60", 0)])  # fmt: skip
def test_an_offset_that_no_place_has_costs_its_row_alone(offset: str, known: int) -> None:
    rows = [{"path": "a", "time": f"2026-03-01T08:00:00{offset}", "value": 1.0},
            {"path": "a", "time": "2026-03-01T08:00:00Z", "value": 2.0}]  # fmt: skip
    body = decode_json(orjson.dumps(rows))
    assert len(body.rows) == 1 + known
    assert body.faults.count == 1 - known
