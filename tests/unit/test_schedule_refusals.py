"""What the commands on files refuse, or say, instead of passing it on silently."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from workshop_brain.cli import app
from workshop_brain.errors import BrainError, OrderError
from workshop_brain.schedule.exchange import (
    orders_document,
    problem_data_document,
    schedule_document,
)

TABLES = {
    "orders.csv": "order,product,quantity,release date,due date\n"
    "1,shaft,2,2026-03-02 08:00,2026-03-03 08:00\n"
    "2,shaft,2,2026-03-02 08:00,2026-03-03 08:00\n",
    "routings.csv": "product,operation,machine,time per piece (min),skills,tools\n"
    "shaft,10,L1,6,turner,chuck\nshaft,20,G1,6,,\n",
    "machines.csv": "machine,work center\nL1,turning\nG1,grinding\n",
    "operators.csv": "operator,skills\nAnn,turner\nBob,turner\n",
    "tools.csv": "tool,quantity\nchuck,1\n",
}
HEAD = "machine,operator,tool,day,start,end,kind\n"
LINE = "station,time A,time B,places\nS1,30,36,2\nS2,28,40,2\nquantity,3,2,\n"
TASKS = "task,time,predecessors,current station\n1,5,,1\n2,5,1,2\n"
ENVELOPE = (
    "<OperationsSchedule><ID>s</ID><OperationsRequest><ID>1</ID></OperationsRequest>"
    "</OperationsSchedule>"
)


def brain(*words: object) -> Result:
    """The command line as a person runs it; errors come as themselves."""
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=True)


def read(calendars: str = "", **settings: str) -> dict[str, Any]:
    """The document of the tables with these calendars."""
    files = {name: text.encode() for name, text in TABLES.items()}
    if calendars:
        files["calendars.csv"] = (HEAD + calendars).encode()
    return orders_document(files, **settings)


@pytest.mark.parametrize(
    ("calendars", "named"),
    [
        ("*,,,Mon-Sun,00:00,24:00,break\n", "machine 'L1'"),
        ("G1,,,daily,06:00,14:00,shift\nG1,,,daily,05:00,14:00,break\n", "machine 'G1'"),
        ("G1,,,Mon-Fri,06:00,14:00,shift\nG1,,,Mon-Fri,06:00,14:00,break\n", "machine 'G1'"),
        (",Bob,,daily,00:00,00:00,break\n", "operator 'Bob'"),
        (",,chuck,daily,00:00,24:00,break\n", "tool 'chuck'"),
        ("G1,,,,2026-03-01,2046-03-01,closed\n", "machine 'G1'"),
    ],
)
def test_a_calendar_that_never_opens_is_refused_by_name(calendars: str, named: str) -> None:
    with pytest.raises(OrderError, match=f"calendars.csv: {named} is never open") as found:
        read(calendars)
    assert "correct its shifts and breaks" in str(found.value)


@pytest.mark.parametrize(
    "calendars",
    [
        "*,,,Mon-Fri,06:00,14:00,shift\n*,,,Mon-Fri,09:00,09:15,break\n",
        "L1,,,Sun,23:00,23:30,shift\n",
        "L1,,,,2026-03-02,2026-12-31,maintenance\n",
        ",Ann,,daily,00:00,12:00,break\n",
    ],
)
def test_a_calendar_with_little_open_time_is_taken(calendars: str) -> None:
    assert read(calendars)["machines"]


def test_a_deadline_before_the_plan_begins_is_named_with_its_cell() -> None:
    files = {name: text.encode() for name, text in TABLES.items()}
    files["orders.csv"] = b"order,product,quantity,deadline\n1,shaft,2,2026-03-02 08:00\n"
    with pytest.raises(OrderError, match=r"orders.csv: row 2, column 'deadline': '2026-03-02 08"):
        orders_document(files, start="2026-03-05 08:00")


def test_orders_that_are_not_planned_are_not_called_in_time(tmp_path: Path) -> None:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "orders.csv").write_text(
        "order,product,quantity,release date,due date,deadline\n"
        "1,shaft,2,2026-03-02 08:00,2026-03-03 08:00,2026-03-02 08:01\n"
        "2,shaft,2,2026-03-02 08:00,2026-03-03 08:00,\n"
    )
    found = brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--allow-unscheduled", "--json")
    assert found.exit_code == 0, found.output
    plan = tmp_path / "plan.json"
    plan.write_text(found.stdout)
    for language, word in (("en", "not planned"), ("zh", "未排入")):
        out = tmp_path / f"out_{language}"
        said = brain("schedule", "export", tmp_path, plan, "-o", out, "--lang", language)
        assert said.exit_code == 0, said.output
        rows = list(csv.reader((out / "orders.csv").read_text("utf-8-sig").splitlines()))
        assert rows[1][-1] == word
        assert rows[1][5:7] == ["", ""], "what is not planned has no finish"
        assert rows[2][-1] in ("no", "否")
        assert "1.10" in said.stderr, "the reason is said"


def test_an_order_of_which_only_a_part_is_planned_has_no_finish(tmp_path: Path) -> None:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    solved = json.loads(brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--json").stdout)
    solved["plan"] = [r for r in solved["plan"] if (r["job"], r["op"]) != (2, 1)]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(solved))
    assert brain("schedule", "export", tmp_path, plan, "-o", tmp_path / "out").exit_code == 0
    rows = list(csv.reader((tmp_path / "out/orders.csv").read_text("utf-8-sig").splitlines()))
    assert (rows[2][5], rows[2][-1]) == ("", "not planned")


def test_a_plan_that_cannot_be_carried_out_is_not_written(tmp_path: Path) -> None:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    solved = json.loads(brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--json").stdout)
    on = sorted((r for r in solved["plan"] if r["machine"] == "L1"), key=lambda r: r["start"])
    for key in ("start", "end", "setup_start"):
        on[1][key] = on[0][key] + 60
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(solved))
    found = brain("schedule", "export", tmp_path, plan, "-o", tmp_path / "out")
    assert found.exit_code != 0
    assert "overlap" in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_a_plan_after_a_breakdown_is_written(tmp_path: Path) -> None:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    plan, event, after = (tmp_path / f"{name}.json" for name in ("plan", "event", "after"))
    plan.write_text(brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--json").stdout)
    event.write_text('{"time": 60, "kind": "breakdown", "machine": "L1", "until": 600}')
    words = ("schedule", "react", tmp_path, "--plan", plan, "--event", event, "--json")
    after.write_text(brain(*words).stdout)
    found = brain("schedule", "export", tmp_path, after, "-o", tmp_path / "out")
    assert found.exit_code == 0, found.exception


def test_a_schedule_without_namespace_is_told_so() -> None:
    with pytest.raises(OrderError, match="names no namespace"):
        schedule_document(ENVELOPE.encode(), "s.xml")


def test_rows_of_problem_data_that_are_no_objects_are_named() -> None:
    data = {
        "jobs": [{"tasks": [0, 1]}],
        "resources": [{"breaks": [], "name": "M"}],
        "tasks": [{"job": 0}, {"job": 0}],
        "modes": [{"task": t, "resources": [0], "duration": 5, "demands": [0]} for t in (0, 1)],
        "constraints": {"end_before_start": [[0, 1, 0]]},
        "objective": {"weight_makespan": 1},
    }
    with pytest.raises(OrderError, match=r"end_before_start\[0\]: must be an object"):
        problem_data_document(data, "p.json")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("release", "line.csv", "--days", 2, "--units", 50, "--seed", -1), "--seed"),
        (("sequence", "line.csv", "--days", 0, "--seconds", 0.1, "--seed", -1), "--seed"),
        (("solve", "tasks.csv", "--cycle", 10, "--seed", -1), "--seed"),
        (("solve", "tasks.csv", "--cycle", 10, "--max-moves", -2), "--max-moves"),
        (("solve", "tasks.csv", "--cycle", 10, "--move-cost", "nan"), "--move-cost"),
        (("solve", "tasks.csv", "--cycle", 10, "--move-cost", -1), "--move-cost"),
    ],
)
def test_numbers_of_balance_that_cannot_be_meant_are_refused(
    words: tuple[object, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(LINE)
    Path("tasks.csv").write_text(TASKS)
    found = brain("balance", *words)
    assert found.exit_code != 0
    if isinstance(found.exception, BrainError):
        assert named in str(found.exception)
    else:
        assert isinstance(found.exception, SystemExit)
        assert named in found.output


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"a":' + "[" * 200_000, "nested too deeply"), (f'{{"plan": {"9" * 6000}}}', "number")],
)
def test_json_that_no_reader_bears_is_refused_by_name(text: str, told: str, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text(text)
    good.write_text(json.dumps(read()))
    plan, tasks = tmp_path / "plan.json", tmp_path / "tasks.csv"
    plan.write_text(brain("schedule", "solve", good, "--seconds", 0.1, "--json").stdout)
    tasks.write_text(TASKS)
    for words in (
        ("schedule", "solve", bad),
        ("schedule", "import", bad),
        ("schedule", "verify", good, bad),
        ("schedule", "react", good, "--plan", plan, "--event", bad),
        ("balance", "solve", bad, "--cycle", 10),
        ("balance", "verify", tasks, bad, "--cycle", 10),
        ("balance", "release", bad),
    ):
        found = brain(*words)
        assert isinstance(found.exception, BrainError), (words, found.exception)
        assert told in str(found.exception)
        assert "bad.json" in str(found.exception)


def test_events_on_orders_with_dates_count_from_the_start_of_the_plan(tmp_path: Path) -> None:
    """A breakdown at tick 60 is one minute after the origin, not in January 1970."""
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    plan, event, after = (tmp_path / f"{name}.json" for name in ("plan", "event", "after"))
    plan.write_text(brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--json").stdout)
    event.write_text('{"time": 60, "kind": "breakdown", "machine": "L1", "until": 3600}')
    words = ("schedule", "react", tmp_path, "--plan", plan, "--event", event, "--json")
    after.write_text(brain(*words).stdout)
    on = sorted(
        (row for row in json.loads(after.read_text())["plan"] if row["machine"] == "L1"),
        key=lambda row: row["start"],
    )
    assert [(row["start"], row["end"]) for row in on] == [(0, 4260), (4260, 4980)]
    event.write_text('{"time": 60, "kind": "late_material", "job": "2", "until": 9000}')
    rows = json.loads(brain(*words).stdout)["plan"]
    assert min(row["start"] for row in rows if str(row["job"]) == "2") >= 9000
    event.write_text('{"time": 60, "kind": "breakdown", "machine": "L1", "until": null}')
    assert json.loads(brain(*words).stdout)["unscheduled"]
    event.write_text('{"time": -5, "kind": "breakdown", "machine": "L1", "until": 3600}')
    assert "event: time" in str(brain(*words).exception)
    event.write_text('{"time": "soon", "kind": "breakdown", "machine": "L1", "until": 3600}')
    assert "event: time" in str(brain(*words).exception)
