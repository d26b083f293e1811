"""Whatever stands in a file, it is read or refused in words; nothing else happens."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.errors import BrainError
from workshop_brain.schedule.exchange import (
    orders_document,
    orders_problem,
    read_plan,
    schedule_document,
    write_plan,
)
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.run import read
from workshop_brain.schedule.verify import verify

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CELLS = st.one_of(
    st.sampled_from(
        ["", "a", "b", "a;b", "10", "-1", "1e9", "*", "2026-01-05", "2026-02-30", "8:00", "=1+1",
         "5 min", "PT1H", "nan", "是", "紧急", "2026-01-05 25:00", "０", "'", "1,5", "9999-12-31"]
    ),
    st.text(max_size=6),
)  # fmt: skip


@st.composite
def orders(draw: st.DrawFn) -> dict[str, bytes]:
    """Small consistent order books."""
    machines = ["M1", "=M2", "车床"][: draw(st.integers(1, 3))]
    rows = []
    for j in range(draw(st.integers(1, 5))):
        due = draw(st.integers(1, 99))
        for k in range(draw(st.integers(1, 3))):
            chosen = draw(st.lists(st.sampled_from(machines), min_size=1, unique=True))
            family = draw(st.sampled_from("AB"))
            time = draw(st.integers(0, 99))
            rows.append(f"O{j},{k},{';'.join(chosen)},{time},{family},{due}")
    matrix = "from/to (s),A,B\nA,0,{}\nB,{},0\n".format(*draw(st.tuples(*[st.integers(0, 30)] * 2)))
    head = "order,operation,machine,time (s),family,due (s)\n"
    return {
        "routings.csv": (head + "\n".join(rows)).encode(),
        "changeovers.csv": matrix.encode(),
    }


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, bytes]:
    """Such books with up to three cells, headers among them, replaced by anything."""
    files = draw(orders())
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(files)))
        rows = [line.split(",") for line in files[name].decode("utf-8", "replace").split("\n")]
        row = rows[draw(st.integers(0, len(rows) - 1))]
        row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
        files[name] = "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
    return files


def refused(call: Callable[[], Any]) -> bool:
    """Whether a call refuses its input in words; any other error passes through."""
    try:
        call()
    except BrainError as error:
        return bool(str(error))
    return False


@FAST
@given(spoilt())
def test_tables_are_read_or_refused(files: dict[str, bytes]) -> None:
    if not refused(lambda: orders_problem(orders_document(files))):
        assert orders_problem(orders_document(files)).n_ops > 0


@FAST
@given(st.binary(max_size=300), st.sampled_from(["", "PK\x03\x04", "<", "{", "orders,due\n"]))
def test_bytes_without_meaning_are_refused(content: bytes, start: str) -> None:
    data = start.encode() + content
    assert refused(lambda: orders_document({"a.csv": data}))
    assert refused(lambda: schedule_document(data))


@settings(FAST, max_examples=25)
@given(orders(), st.sampled_from(["csv", "xlsx", "b2mml", "json"]), st.sampled_from(["en", "zh"]))
def test_import_plan_export_and_read_again(
    files: dict[str, bytes], format: str, language: str
) -> None:
    document: dict[str, Any] = json.loads(json.dumps(orders_document(files)))
    problem = read(json.dumps(document))
    plan = construct(problem)
    assert verify(problem, plan) == []
    content = next(iter(write_plan(problem, plan, format, language=language).values()))
    assert read_plan(problem, content).fingerprint() == plan.fingerprint()
