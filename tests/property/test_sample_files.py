"""Whatever stands in a file, it is read as samples and named faults, or refused as a whole."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect import stamps
from workshop_brain.connect.files.read import blocks, look
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.connect.rows import TEXT
from workshop_brain.errors import DecodeError

START = stamps.text_ns("2026-03-01T00:00:00Z")


def read(content: bytes, **more: Any) -> tuple[list[tuple[str, int, object]], int]:
    """(name, ns after START, value) of every sample of a file, and how many rows are faulty."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes(content)
        found, faults = [], 0
        options = FilesSettings(id="f", folder=folder, **more)
        for block in blocks(path, look(path), options, latest_ns=stamps.LAST_NS):
            rows, faults = block.rows, faults + block.faults.count
            for k in range(len(rows)):
                value = float(rows.value[k])
                shown = rows.texts[int(value)] if rows.form[k] == TEXT else value
                found.append((rows.names[rows.name[k]], int(rows.time_ns[k]) - START, shown))
    return found, faults


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.floats(-1e9, 1e9)), min_size=1, max_size=6),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ",")]),
    st.sampled_from(["utf-8", "utf-8-sig", "gb18030", "utf-16"]),
)
def test_numbers_come_back_in_every_dialect(
    rows: list[tuple[int, float]], dialect: tuple[str, str], encoding: str
) -> None:
    delimiter, decimal = dialect
    lines = [f"time_ns{delimiter}力"]
    lines += [f"{START + t}{delimiter}{v!r}".replace(".", decimal) for t, v in rows]
    content = "\r\n".join(lines).encode(encoding)
    found, faults = read(content, decimal=decimal)
    assert found == [("力", t, v) for t, v in rows]
    assert faults == 0


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_samples_or_refused(content: bytes) -> None:
    for head in (b"", b"time,x\n", b"PAR1", b"PK\x03\x04"):
        with suppress(DecodeError):
            read(head + content)


@given(st.lists(st.lists(st.text(max_size=12), min_size=1, max_size=4), max_size=6))
@settings(max_examples=150)
def test_any_cells_are_samples_or_named(cells: list[list[str]]) -> None:
    body = "\n".join(";".join(row) for row in cells)
    with suppress(DecodeError):
        read(f"time;x;y\n2026-03-01;1;2\n{body}".encode("utf-8", "replace"), timezone="UTC")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "has no time column"),
        ("time\n2026-03-01\n", "has no column of values"),
    ],
)
def test_what_cannot_be_used_says_why(text: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        read(text.encode())


def test_stamps_of_1601_and_of_the_future_are_named() -> None:
    found, faults = read(b"time,x\n1601-01-01T00:00:00Z,1\n2300-01-01T00:00:00Z,2\n2026-03-01,3\n")
    assert (found, faults) == ([("x", 0, 3.0)], 2)
