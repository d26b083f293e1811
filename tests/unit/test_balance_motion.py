"""Release and sequence as commands, lines in motion from files, workbooks, and odd balances."""

import json
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.errors import BrainError, ConfigError, InfeasibleError, OrderError
from workshop_brain.schedule.balance.motion import read_motion
from workshop_brain.schedule.balance.read import old_stations

CSV = """station,time A,time B,places,servers,mtbf,mttr,stop share,stop
s1,30,20,4,1,7200,240,0.01,20
s2,30,36,4,1,7200,240,0.01,20
s3,50,64,4,2,7200,240,0.01,20
s4,28,31,4,1,7200,240,0.01,20
quantity,12,8,,,,,,
"""
TOML = """
name = "main line"
units = {A = 12, B = 8}
""" + "".join(
    f'[[stations]]\nstation = "{s}"\ntimes = {{A = {a}, B = {b}}}\nplaces = 4\nservers = {n}\n'
    "mtbf = 7200\nmttr = 240\nstop_share = 0.01\nstop = 20\n"
    for s, a, b, n in (("s1", 30, 20, 1), ("s2", 30, 36, 1), ("s3", 50, 64, 2), ("s4", 28, 31, 1))
)


def _run(*words: str) -> Any:
    return CliRunner().invoke(app, ["balance", *words])


def test_csv_and_toml_say_the_same_line() -> None:
    one, other = read_motion(CSV, "line.csv"), read_motion(TOML, "line.toml")
    assert one.flow.cycle_s.tolist() == other.flow.cycle_s.tolist() == [
        [30, 30, 50, 28], [20, 36, 64, 31],
    ]  # fmt: skip
    assert one.flow.servers.tolist() == other.flow.servers.tolist() == [1, 1, 2, 1]
    assert one.quantity.tolist() == other.quantity.tolist() == [12, 8]
    assert other.name == "main line"


def test_release_prints_a_rule_with_less_work_inside(tmp_path: Path) -> None:
    file = tmp_path / "line.csv"
    file.write_text(CSV, "utf-8")
    words = ["--days", "12", "--units", "300", "--tries", "60"]
    body = json.loads(_run("release", str(file), *words).stdout)
    assert set(body["rule"]["limits"]) <= {"s1", "s2", "s3", "s4"}
    assert body["rule"]["in_line"] < body["open"]["in_line"]
    assert body["rule"]["per_hour"] > 0.97 * body["open"]["per_hour"]


def test_sequence_prints_every_unit_once(tmp_path: Path) -> None:
    file = tmp_path / "line.toml"
    file.write_text(TOML, "utf-8")
    body = json.loads(_run("sequence", str(file), "--seconds", "0.2", "--days", "4").stdout)
    assert sorted(body["order"]) == ["A"] * 12 + ["B"] * 8
    assert sum(n for _, n in body["runs"]) == 20
    assert body["span_bound_s"] <= body["best"]["span_s"]
    assert body["batches"]["model_changes"] == 1 < body["levelled"]["model_changes"]


def test_a_workbook_is_read_like_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "line.xlsx"
    with xlsxwriter.Workbook(str(file)) as book:
        book.add_worksheet("empty")
        sheet = book.add_worksheet("工序")
        rows = (("工序", "工时", "紧前工序"), (10, 6.5, ""), (20, 5, 10), (30, 4, "10"))
        for at, row in enumerate(rows):
            sheet.write_row(at, 0, row)
    body = json.loads(_run("solve", str(file), "--cycle", "9.5", "--json").stdout)
    assert body["assignment"] == {"10": 1, "20": 2, "30": 2}
    plan = tmp_path / "plan.csv"
    plan.write_text("task,station\n10,2\n20,1\n30,1\n", "utf-8")
    done = _run("verify", str(file), str(plan), "--cycle", "9.5", "--language", "zh")
    assert "违反先后顺序: 20, 10" in done.stdout
    assert isinstance(done.exception, InfeasibleError)
    assert isinstance(
        _run("verify", str(file), str(plan), "--cycle", "9", "--stations", "0").exception,
        ConfigError,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("s2,30", "s2,-3"), "row 3: time A must be 0 to 1e\\+07, got -3"),
        (CSV.replace("s2,30", "s1,30"), "station 's1' stands there twice"),
        (CSV.replace("7200,240,0.01", "0,240,0.01"), "row 2: has mttr and no mtbf"),
        (CSV.replace(",64,4,2,", ",64,4,0,"), "row 4: servers must be 1 to 1000, got 0"),
        (CSV.replace("places", "colour"), "'colour' is not known"),
        (CSV.replace("12,8", "0,0"), "1 to 5000 together"),
        (CSV.replace("0.01,20\ns2", "2,20\ns2"), "stop share must be 0 to 1"),
        (TOML.replace("B = 8", "C = 8"), "model 'C' has units and no times"),
        ("station,time\na,1\n", "needs 2 to 400 stations, got 1"),
        ("", "is empty"),
    ],
)
def test_a_mistake_in_a_line_is_named(text: str, message: str) -> None:
    with pytest.raises(BrainError, match=message):
        read_motion(text, "line")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[1, 2]", "is a list"),
        ('{"assignment": 3}', "must map each task"),
        ("task;station\na;1\n", "no row of task and station"),
        ("a,1\na,2\n", "task 'a': stands there twice"),
        ("a,1e999999999\n", "must be at most"),
        ("a,1.5\n", "whole number"),
        ('{"a": null}', "must be a number"),
    ],
)
def test_an_odd_balance_is_named(text: str, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        old_stations(text, "old", ["a"])
