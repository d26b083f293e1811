"""What the commands on files refuse, or say, instead of passing it on silently."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from workshop_brain.cli import app
from workshop_brain.errors import BrainError, InfeasibleError, OrderError
from workshop_brain.schedule.exchange import (
    orders_document,
    problem_data_document,
    schedule_document,
)
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.run import read as read_problem
from workshop_brain.schedule.run import solve_file_text, verify_file_text

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


PLAIN: dict[str, Any] = {
    "format": "reactive-fjsp/1",
    "machines": [{"id": m, "work_center": 0, "family": 0} for m in ("M", "N")],
    "setup": [[[0, 1], [2, 0]]],
    "jobs": [
        {
            "id": id,
            "family": 0,
            "release": 0,
            "due": None,
            "operations": [{"alternatives": [["M", 3], ["N", 4]]}, {"alternatives": [["N", 5]]}],
        }
        for id in ("A", "B")
    ],
}


def spoilt(change: Callable[[dict[str, Any]], Any]) -> str:
    """The text of a small document after a change."""
    data = copy.deepcopy(PLAIN)
    change(data)
    return json.dumps(data)


def operation(data: dict[str, Any]) -> dict[str, Any]:
    """Operation 1 of job B."""
    row: dict[str, Any] = data["jobs"][1]["operations"][1]
    return row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["jobs"][1]["operations"][0].update(after=[1]),
            "cycle: operation 'B.0' comes after 'B.1' comes after 'B.0'; take out",
        ),
        (
            lambda d: operation(d).update(alternatives=[["M", 3], ["N", 1], ["M", 4]]),
            "job 'B' operation 1: machine 'M' stands twice among its alternatives, with 3 and 4",
        ),
        (
            lambda d: operation(d).update(alternatives=[["M"]]),
            r"job 'B' operation 1: alternatives must be .*got \[\['M'\]\]",
        ),
        (lambda d: operation(d).update(alternatives=None), "job 'B' operation 1: alternatives"),
        (lambda d: operation(d).pop("alternatives"), "job 'B' operation 1: has no 'alternatives'"),
        (lambda d: d["jobs"][1].pop("release"), "job 'B': has no 'release'"),
        (lambda d: d["jobs"][1].pop("family"), "job 'B': has no 'family'.*0 to 1"),
        (lambda d: d["jobs"][1].pop("operations"), "job 'B': has no 'operations'"),
        (lambda d: d["jobs"][1].update(operations=[3]), r"job 'B': operations\[0\] must be an obj"),
        (lambda d: d["jobs"][1].pop("id"), r"jobs\[1\]: has no 'id'"),
        (lambda d: d["jobs"][1].update(id="A"), "jobs: id 'A' stands twice"),
        (lambda d: d["machines"][1].update(id="M"), "machines: id 'M' stands twice"),
        (lambda d: d["machines"][1].pop("work_center"), "machine 'N': has no 'work_center'"),
        (lambda d: d.update(machines=[]), "machines: there are none"),
        (lambda d: d.update(jobs=None), "jobs must be a list, got null"),
        (lambda d: d.update(jobs={}), "jobs must be a list, got {}"),
        (lambda d: d.update(machines=[1]), r"machines\[0\] must be an object, got 1"),
        (lambda d: d.pop("setup"), "document: has no 'setup'"),
        (lambda d: d.update(setup=[[[0, 1], [2]]]), r"setup\[0\]\[1\] must hold 2, got 1 entries"),
        (lambda d: d.update(setup=[[[0]], [[0], [1]]]), r"setup\[1\] is no table of 1 rows"),
        (lambda d: d.update(setup=[[[0, "1"], [2, 0]]]), r"setup\[0\]\[0\]\[1\] must be a whole"),
        (lambda d: d.update(setup=None), "setup: must be"),
        (lambda d: d.update(tariff=[[3]]), r"tariff\[0\]: must be \[from, price\]"),
        (lambda d: d.update(operators=[{"id": "Li"}]), "operator 'Li': has no 'skills'"),
        (lambda d: d.update(tools=[{}]), r"tools\[0\]: has no 'id'"),
    ],
)
def test_what_is_wrong_with_a_document_is_named_with_its_place(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises((OrderError, InfeasibleError), match=message) as found:
        read_problem(spoilt(change), "plan.json")
    assert "Error(" not in str(found.value), "no name of an internal error is shown"


def test_a_benchmark_file_that_names_a_machine_twice_is_refused() -> None:
    with pytest.raises(OrderError, match="job 0 operation 0: a machine stands twice"):
        read_problem("1 2 2\n1 2 1 5 1 6\n", "x.fjs")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"job": "Z", "op": 0}, "no job 'Z' in the problem"),
        ({"job": "B", "op": 7}, "no operation 7 of job 'B', which has 2"),
        ({"job": "B", "operation": 7}, "no operation 7 of job 'B', which has 2"),
        ({"op": "B.7"}, "no operation 'B.7' in the problem"),
        ({"job": "B", "op": 1, "machine": "Q"}, "no machine 'Q' in the problem"),
    ],
)
def test_what_a_plan_names_that_is_not_there_is_said(row: dict[str, Any], message: str) -> None:
    problem = read_problem(json.dumps(PLAIN), "plan.json")
    at = {"machine": "M", "start": 0, "end": 3}
    with pytest.raises(OrderError, match=rf"plan: operations\[1\]: {message}"):
        Plan.from_json(problem, {"plan": [{"job": "A", "op": 0, **at}, at | row]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["jobs"][1].update(relase=4),
            "job 'B': unknown field 'relase'; did you mean 'r",
        ),
        (lambda d: d["jobs"][1].update(deadlin=4), "job 'B': .*'deadlin'; did you mean 'deadline'"),
        (
            lambda d: operation(d).update(pinned=True),
            "job 'B' operation 1: unknown field 'pinned'; .*Known are after, alternatives, buffer",
        ),
        (
            lambda d: operation(d).update(after=[{"op": 0, "lags": 1}]),
            "after: unknown field 'lags'",
        ),
        (lambda d: d["machines"][0].update(available=4), "machine 'M': .*'available_from'"),
        (lambda d: d.update(operater=[]), "document: unknown field 'operater'; .*'operators'"),
        (lambda d: d.update(tools=[{"id": "T", "quantiy": 1}]), "tool 'T': unknown .*'quantity'"),
    ],
)
def test_fields_that_nobody_reads_are_refused(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(OrderError, match=message):
        read_problem(spoilt(change), "plan.json")


def test_fields_for_people_are_taken_anywhere() -> None:
    data = copy.deepcopy(PLAIN) | {"name": "x", "timezone": "Europe/Berlin"}
    for row in (data, data["machines"][0], data["jobs"][0], operation(data)):
        row |= {"comment": "for the foreman", "description": "", "notes": []}
    assert read_problem(json.dumps(data), "plan.json").n_ops == 4


def rush(tmp_path: Path, job: dict[str, Any], **changeovers: str) -> Result:
    """The answer to a rush order on imported orders."""
    for name, text in (TABLES | changeovers).items():
        (tmp_path / name.replace("changeovers", "changeovers.csv")).write_text(text)
    plan, event = tmp_path / "plan.json", tmp_path / "event.json"
    plan.write_text(brain("schedule", "solve", tmp_path, "--seconds", 0.1, "--json").stdout)
    event.write_text(json.dumps({"time": 60, "kind": "rush_order", "job": job}))
    return brain("schedule", "react", tmp_path, "--plan", plan, "--event", event, "--json")


def test_a_rush_order_is_taken_as_imported_orders_have_their_own(tmp_path: Path) -> None:
    job = {**read()["jobs"][0], "id": "R9", "release": 120}
    for op in job["operations"]:
        op["id"] = op["id"].replace("1.", "R9.", 1)
        op["after"] = [[id.replace("1.", "R9.", 1), lag] for id, lag in op["after"]]
    found = rush(tmp_path, job)
    assert found.exit_code == 0, found.exception
    rows = [row for row in json.loads(found.stdout)["plan"] if row["job"] == "R9"]
    assert [row["machine"] for row in rows] == ["L1", "G1"]
    assert rows[0]["start"] >= 120
    assert rows[1]["start"] >= rows[0]["end"]


CHANGEOVERS = "machine,from,to,time (min)\nL1,shaft,disk,10\nL1,disk,shaft,20\n"


@pytest.mark.parametrize(
    ("fields", "of_op", "message"),
    [
        ({}, {}, "job 'R9': has no 'family'; give its number among the 2"),
        ({}, {"family": "disk"}, "job 'R9' operation 0: family 'disk': a rush order has one"),
        ({"family": 7}, {}, "job 'R9': family must be a whole number from 0 to 1, got 7"),
        ({"family": 0, "deadlin": 7}, {}, "job 'R9': unknown field 'deadlin'"),
        ({"family": 0}, {"alternatives": [["L1"]]}, "job 'R9' operation 0: alternatives must be"),
    ],
)
def test_what_a_rush_order_lacks_is_named(
    fields: dict[str, Any], of_op: dict[str, Any], message: str, tmp_path: Path
) -> None:
    job = {"id": "R9", **fields, "operations": [{"alternatives": [["L1", 60]], **of_op}]}
    found = rush(tmp_path, job, changeovers=CHANGEOVERS)
    assert isinstance(found.exception, OrderError), found.output
    assert message in str(found.exception)
    assert "Error(" not in str(found.exception)


AGES = 10**12


@pytest.mark.parametrize(
    ("change", "kind", "named"),
    [
        (lambda d: d["machines"][1].update(closed=[[0, AGES]]), "no_machine", ["N"]),
        (lambda d: d["machines"][1].update(closed=[[6, AGES]]), "no_machine", ["N"]),
        (lambda d: d["machines"][1].update(closed=[[-5, 40], [40, AGES]]), "no_machine", ["N"]),
        (
            lambda d: (
                d.update(operators=[{"id": "Li", "skills": ["mill"], "closed": [[0, AGES]]}]),
                operation(d).update(skills=["mill"]),
            ),
            "no_place",
            ["mill"],
        ),
        (
            lambda d: (
                d.update(tools=[{"id": "jig", "closed": [[0, AGES]]}]),
                operation(d).update(tools=["jig"]),
            ),
            "no_place",
            ["jig"],
        ),
        (
            lambda d: (
                d.update(tools=[{"id": "jig", "closed": [[0, AGES]]}]),
                d["machines"][1].update(tools=["jig"]),
            ),
            "no_place",
            ["jig"],
        ),
    ],
)
def test_what_waits_for_more_than_a_year_is_named_and_left_out_on_request(
    change: Callable[[dict[str, Any]], Any], kind: str, named: list[str]
) -> None:
    text = spoilt(change)
    with pytest.raises(InfeasibleError, match=r"B is not planned: B\.1 .*--allow-unscheduled"):
        solve_file_text(text, iterations=50)
    answer = solve_file_text(text, iterations=50, may_leave=True)
    why = {row["job"]: row["why"] for row in answer["unscheduled"]}
    assert why["B"]["kind"] == kind
    assert all(name in why["B"]["en"] and name in why["B"]["zh"] for name in named)
    assert max((row["end"] for row in answer["plan"]), default=0) < AGES
    assert verify_file_text(text, json.dumps(answer))["feasible"]


def test_other_machines_take_the_work_of_one_that_never_opens() -> None:
    answer = solve_file_text(
        spoilt(
            lambda d: (
                d["machines"][0].update(closed=[[0, AGES]]),
                d["machines"][1].update(closed=[[0, 400 * 24 * 3600]]),
                d["machines"].append({"id": "P", "work_center": 0}),
                [job["operations"][1]["alternatives"].append(["P", 9]) for job in d["jobs"]],
                [job["operations"][0]["alternatives"].append(["P", 9]) for job in d["jobs"]],
            )
        ),
        iterations=50,
    )
    assert {row["machine"] for row in answer["plan"]} == {"P"}
    assert not answer["unscheduled"]


def test_a_calendar_of_less_than_a_year_is_waited_for() -> None:
    away = 300 * 24 * 3600
    text = spoilt(lambda d: d["machines"][1].update(closed=[[0, away]]))
    answer = solve_file_text(text, iterations=50)
    assert min(row["start"] for row in answer["plan"] if row["machine"] == "N") >= away
    # ticks that count from long ago are no long wait
    old = 1_700_000_000

    def later(data: dict[str, Any]) -> None:
        for job in data["jobs"]:
            job["release"] = old
        data["machines"][1]["closed"] = [[0, old + 5]]

    answer = solve_file_text(spoilt(later), iterations=50)
    assert {row["job"] for row in answer["plan"]} == {"A", "B"}
