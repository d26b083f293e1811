"""What the commands print for people: the report of a decision, replay, ports and times."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.cli.decisions import _print_comparison
from workshop_brain.cli.output import with_time
from workshop_brain.cli.report import WORDS, report
from workshop_brain.cli.twin import CONTROL_PORT, _control_port
from workshop_brain.errors import BrainError
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian

S = 1_000_000_000
AT = 1_795_659_364 * S


def decision(**more: Any) -> dict[str, Any]:
    kpis = {"weighted_tardiness_s": 317_016.0, "late_orders": 8.0, "setups": 81.0}
    return {
        "id": "D1", "time_ns": AT, "decision_class": "repair", "line": "asm1", "level": "approve",
        "trigger": {"kind": "breakdown", "path": "l/w/a/asm1/main/asm1",
                    "payload": {"station": "l/w/a/asm1/z2/st15"}},
        "candidates": [
            {"name": "right_shift+search", "kpis": kpis, "objective": 1000.0},
            {"name": "redispatch_2", "kpis": kpis, "objective": 1200.0},
        ],
        "chosen": 0, "bound": 900.0, "effect": {"late_orders": -1.0, "objective": -5.0},
        "reasons": [{"id": "reason.no_moves", "params": {}}, {"id": "judge.approve", "params": {}}],
        "changes": [
            {"op": "W1.soft", "machine_from": "a/soft1", "machine_to": "a/soft2",
             "start_from_ns": AT, "start_to_ns": AT + 3600 * S},
            {"op": "W2.soft", "machine_from": "a/soft1", "machine_to": "a/soft1",
             "start_from_ns": AT, "start_to_ns": AT + S},
        ],
        "followed": [],
    } | more  # fmt: skip


APPROVAL = {"kind": "approval", "verdict": "approved", "by": "admin", "reason": "", "time_ns": AT}
COMMAND = {
    "kind": "command", "job": "W1.soft", "equipment": "a/soft2", "command": "dispatch",
    "time_ns": AT,
}  # fmt: skip
ANSWERS = [
    {"kind": "confirmation", "job": "W1.soft", "outcome": "confirmed", "time_ns": AT + S},
    {"kind": "outcome", "job": "W1.soft", "state": "ended", "late_s": 1200.0, "good": 90,
     "scrap": 2, "time_ns": AT + 2 * S},
]  # fmt: skip


def test_a_decision_is_reported_in_plant_time_and_words() -> None:
    text = report(decision(), [], language="en", zone="Asia/Shanghai")
    assert "When: 2026-11-26 10:16:04 (Asia/Shanghai)" in text
    assert "Trigger: breakdown, st15" in text
    assert "* right shift + search" in text
    assert "3 d 16 h" in text
    assert "soft1 → soft2" in text
    assert "+60 min" in text
    assert "Operations that move: 1" in text
    assert "waits for approval" in text
    assert "not answered yet" in text
    assert "{" not in text
    assert str(AT) not in text


def test_what_became_of_a_decision_is_told_with_its_commands() -> None:
    body = decision(followed=[APPROVAL, COMMAND])
    text = report(body, ANSWERS, language="en", zone="UTC")
    assert "approved by admin" in text
    assert "waits for approval" not in text
    row = next(
        line for line in text.splitlines() if line.startswith("W1.soft  ") and "dispatch" in line
    )
    assert row.split()[:3] == ["W1.soft", "soft2", "dispatch"]
    assert "confirmed" in row
    assert "ended, 20 min late, 90 good, 2 scrap" in row


def test_the_report_is_chinese_for_chinese_readers() -> None:
    body = decision(followed=[APPROVAL, COMMAND])
    text = report(body, ANSWERS, language="zh", zone="Asia/Shanghai")
    for word in (
        "修复",
        "设备故障",
        "批准后执行",
        "顺延 + 搜索",
        "加权拖期",
        "admin:已批准",
        "已确认",
        "晚 20 分钟",
    ):
        assert word in text, word
    assert all(all(pair) for pair in WORDS.values())


def test_replay_says_row_by_row_and_ends_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"what": "seed", "recorded": 1, "recomputed": 1, "same": True}
    _print_comparison([same, same])
    assert capsys.readouterr().out.splitlines()[-1] == "same: 2 of 2"
    kpis = {"a": 1.0, "b": 2.0}
    other = {"what": "kpis of x", "recorded": kpis, "recomputed": kpis | {"b": 3.0}, "same": False}
    _print_comparison([same, other])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "DIFFERENT: kpis of x"
    assert lines[-2].strip() == "b: ledger 2.0, recomputed 3.0"
    assert all(len(line) < 120 for line in lines)


def test_csv_of_history_has_the_plant_time_beside_the_nanoseconds() -> None:
    table = pa.table({"path": ["a"], "time_ns": [AT + 500_000_000], "value": [1.0]})
    shown = with_time(table, "Asia/Shanghai")
    assert shown.column_names == ["path", "time", "time_ns", "value"]
    assert shown["time"].to_pylist() == ["2026-11-26T10:16:04.500+08:00"]
    assert with_time(table.slice(0, 0), "UTC").num_rows == 0


def test_the_control_port_is_that_of_the_running_brain(tmp_path: Path) -> None:
    assert _control_port(None, tmp_path) == CONTROL_PORT
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ports.json").write_text(json.dumps({"twin_control": 40_001}))
    assert _control_port(None, tmp_path) == 40_001
    assert _control_port(7, tmp_path) == 7


def test_orders_without_routings_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("id,product,quantity,due\nA,dct_a,10,2026-03-02\n")
    result = CliRunner().invoke(app, ["schedule", "solve", str(file)])
    assert "routings (工艺) are missing" in str(result.exception)


def test_an_import_counts_rows_and_answers_in_json(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("id,product,quantity,due\nA,dct_a,10,2026-03-02\nB,none,-1,x\n")
    arguments = ["import", str(file), "--data", str(tmp_path / "data"), "--json"]
    result = CliRunner().invoke(app, arguments)
    answer = json.loads(result.stdout)
    assert answer["refused_rows"] == 1
    assert answer["files"][0]["taken"] == ["A"]
    assert len(answer["files"][0]["errors"]) > 1
    assert "1 row" in str(result.exception)


def refusal(*arguments: str) -> str:
    """What a command ends with; it must be one of our errors or one of usage."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code in (1, 2)
    if isinstance(result.exception, SystemExit):
        return result.output
    assert isinstance(result.exception, BrainError)
    return str(result.exception)


SIGNAL = "local/works/a/l/c/u/load"


def history(directory: Path) -> str:
    """A data directory with one signal."""
    historian = Historian(directory / "historian")
    signal = SignalDef(path=SIGNAL, source="s", address="a", kind=SignalKind.GAUGE)
    historian.declare([signal])
    historian.close()
    return str(directory)


def test_points_below_one_and_outputs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    data = history(tmp_path / "data")
    assert "--points" in refusal("query", SIGNAL, "--data", data, "--points", "-5")
    query = ("query", SIGNAL, "--data", data, "--output")
    assert "there is no directory" in refusal(*query, str(tmp_path / "none" / "a.csv"))
    assert f"{tmp_path}: is a directory" in refusal(*query, str(tmp_path))
    assert "/dev/full: cannot be written" in refusal(*query, "/dev/full")
    export = ("export", "orders", "--data", data, "--output", str(tmp_path / "none" / "a.csv"))
    assert "cannot be written" in refusal(*export)


def test_relative_times_count_from_the_newest_stamp_that_can_be_meant(tmp_path: Path) -> None:
    hour = 3600 * S
    with Historian(tmp_path / "historian") as historian:
        paths = [f"local/works/a/l/c/u/{name}" for name in "abc"]
        historian.declare([SignalDef(path=p, kind=SignalKind.GAUGE) for p in paths])
        times = np.array([AT - 2 * hour, AT, AT + 90 * 24 * hour])
        columns = np.array([0, 1, 2], np.uint32), times, np.arange(3.0), np.zeros(3, np.uint8)
        historian.append(Samples(*columns), source="s", session=1, seq=1)
    out = tmp_path / "a.json"
    options = ("--from", "-1h", "--format", "json", "--output", str(out), "--data", str(tmp_path))
    assert CliRunner().invoke(app, ["query", "*", *options]).exit_code == 0
    assert [row["value"] for row in json.loads(out.read_text())] == [1.0]


@pytest.mark.parametrize("text", ["-1e300d", "-1e9d", "0001-01-01", "-infs", "-nanh", "tomorrow"])
def test_a_time_that_cannot_be_meant_is_named(tmp_path: Path, text: str) -> None:
    told = refusal("query", SIGNAL, "--data", history(tmp_path), "--from", text)
    assert told.startswith(f"--from: {text!r} is")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            '{"protocol":"opcua","id":"a\\u0000b","url":"opc.tcp://h:1"}',
            "--source.id: must not hav",
        ),
        ('{"protocol":"opcua","id":"../b","url":"opc.tcp://h:1"}', "--source.id: must be a name"),
        ('{"protocol":"profinet","id":"a"}', "--source.protocol: no protocol 'profinet'"),
        ('{"protocol":"opcua","id":"a","url":"opc.tcp://h:1","x":1}', "--source.x: unknown key"),
        ("[1]", "--source: must be a table"),
        ("{", "--source: '{' is not JSON"),
    ],
)
def test_a_collector_names_what_is_wrong_with_its_source(
    tmp_path: Path, source: str, message: str
) -> None:
    arguments = ("--source", source, "--enterprise", "local", "--data", str(tmp_path))
    assert refusal("process", "collector", *arguments).startswith(message)


@pytest.mark.parametrize("content", [b"garbage" * 2000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_damaged_records_are_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "records.sqlite"
    file.write_bytes(content)
    told = refusal("export", "orders", "--data", str(tmp_path), "-o", str(tmp_path / "a.csv"))
    assert told.startswith(f"{file}: ")
    assert "restore the file from a backup, or move it away" in told


def test_a_foreign_database_or_a_file_as_directory_is_named(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "records.sqlite")) as connection:
        connection.execute("create table users(a)")
    told = refusal("export", "orders", "--data", str(tmp_path), "-o", str(tmp_path / "a.csv"))
    assert "records.sqlite: holds tables that are not ours; stop the brain and restore" in told
    below = str(tmp_path / "records.sqlite" / "data")
    assert "cannot be made" in refusal("import", "orders.csv", "--data", below)
