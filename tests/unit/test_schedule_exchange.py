"""Orders in and plans out: the same problem from every form, and no rule lost without a word."""

import io
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyjobshop
import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.errors import BrainError, InfeasibleError, OrderError
from workshop_brain.schedule.exchange import (
    orders_document,
    orders_problem,
    problem_data_document,
    read_plan,
    schedule_document,
    write_plan,
)
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.run import read, solve_file_text
from workshop_brain.schedule.structure import FAR, Problem
from workshop_brain.schedule.verify import verify

FORMATS = ("csv", "xlsx", "b2mml", "json")
ENGLISH = {
    "orders.csv": """order,item,qty,release,due date,priority,colour
A1,shaft,40,2026-01-05 08:00,2026-01-05T10:00+01:00,2,red
A2,case,25,2026-01-05 08:00,2026-01-05,urgent,
""",
    "routings.csv": """item,operation,machine,time (min),time per piece (s),family,after,lag_h
shaft,10,L1;L2,10,90,long,,
shaft,20,G,0,60,long,10,0.5
case,10,L1,0,240,round,,
case,10,L2,0,3 min,round,,
case,20,G,45,,round,10,
""",
    "machines.csv": """machine,work center,current family,available from,may pause
L1,lathes,long,2026-01-05 09:00,yes
L2,lathes,,,no
G,grinders,,,
""",
    "changeovers.csv": """work center,from,to,time (min)
lathes,long,round,30
lathes,round,long,45
grinders,*,*,5
""",
    "calendars.csv": """machine,from,to,kind
*,2026-01-05 12:00,2026-01-05 12:30,break
G,2026-01-06,2026-01-06,closed
""",
    "settings.csv": "name,value\ntime zone,Europe/Berlin\n",
}
CHINESE = {
    "订单": [
        ["1月订单"],
        ["工单号", "物料", "数量", "下达日期", "交期", "优先级"],
        ["A1", "shaft", 40, "2026年1月5日8时", "2026-01-05 09:00Z", 2],
        ["A2", "case", "25", "20260105 08:00", "2026/1/5", "紧急"],
    ],
    "工艺路线": [
        [
            "物料",
            "工序",
            "设备",
            "工时（分钟）",
            "单件工时/秒",
            "换型组",
            "紧前工序",
            "转运时间(h)",
        ],
        ["shaft", 10, "L1、L2", 10, 90, "long", "无", None],
        ["shaft", 20, "G", 0, 60, "long", 10, 0.5],
        ["case", 10, "L1", 0, 240, "round", None, None],
        ["case", 10, "L2", 0, "3分钟", "round", None, None],
        ["case", 20, "G", 45, None, "round", 10, None],
    ],
    "设备": [
        ["设备", "工作中心", "当前型号", "可用时间", "可中断"],
        ["L1", "lathes", "long", "2026-01-05 上午9:00", "是"],
        ["L2", "lathes", None, None, "否"],
        ["G", "grinders"],
    ],
    "换型矩阵": [
        ["设备", "从/到（min）", "long", "round"],
        ["L1;L2", "long", 0, 30],
        ["L1;L2", "round", 45, None],
        ["G", "long", 0, 5],
        ["G", "round", 5, 0],
    ],
    "停机": [
        ["设备", "开始", "结束", "类型"],
        ["*", "2026-01-05 12:00", "2026-01-05 12:30", "休息"],
        ["G", "2026-01-06", "2026-01-06", "停机"],
    ],
    "设置": [["参数", "值"], ["时区", "Europe/Berlin"]],
}


def encoded(files: Mapping[str, str], encoding: str = "utf-8") -> dict[str, bytes]:
    return {name: text.encode(encoding) for name, text in files.items()}


def workbook(sheets: Mapping[str, list[list[Any]]], merged: tuple[Any, ...] = ()) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for k, row in enumerate(rows):
                sheet.write_row(k, 0, row)
            if merged and name == merged[0]:
                sheet.merge_range(*merged[1:])
    return out.getvalue()


def core(document: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k not in ("name", "notes")}


def english(**changes: str) -> dict[str, bytes]:
    return encoded(ENGLISH | {f"{kind}.csv": text for kind, text in changes.items()})


def planned(problem: Problem) -> Plan:
    plan = construct(problem)
    assert verify(problem, plan) == []
    return plan


def same(a: Plan, b: Plan) -> bool:
    columns = ("machine", "start", "end", "setup_start")
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in columns)


def test_tables_become_the_problem_that_they_describe() -> None:
    document = orders_document(english())
    problem = orders_problem(document)
    assert problem.op_ids == ("A1.10", "A1.20", "A2.10", "A2.20")
    assert problem.alternatives(0) == {0: 600 + 3600, 1: 600 + 3600}
    assert problem.alternatives(2) == {0: 6000, 1: 4500}
    assert problem.preds(1) == [(0, 1800)]
    assert problem.job_due.tolist() == [2 * 3600, 16 * 3600]
    assert problem.job_weight.tolist() == [2, 9]
    assert problem.machine_available.tolist() == [3600, 0, 0]
    assert problem.machine_resumable.tolist() == [1, 0, 1]
    assert problem.setup_between(0, 0, 1) == 1800
    assert problem.setup_between(2, 1, 0) == 300
    assert problem.calendar[2] == ((14400, 16200), (16 * 3600, 40 * 3600))
    assert problem.origin_ns == 1_767_596_400 * 10**9
    assert [n for n in document["notes"] if "colour" in n]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_every_encoding_and_separator_gives_the_same(encoding: str, mark: str) -> None:
    files = {}
    for sheet, rows in CHINESE.items():
        lines = [mark.join("" if c is None else str(c) for c in row) for row in rows]
        text = "\n".join(lines[1:] if sheet == "订单" else lines).replace("L1;L2", "L1、L2")
        files[f"{sheet}.csv"] = text.encode(encoding)
    assert core(orders_document(files)) == core(orders_document(english()))


def test_a_chinese_workbook_gives_the_same_as_english_files() -> None:
    book = workbook(CHINESE)
    assert core(orders_document({"orders.xlsx": book})) == core(orders_document(english()))


def test_merged_cells_count_for_each_of_their_rows() -> None:
    sheets = {k: v for k, v in CHINESE.items() if k != "订单"}
    sheets["工艺路线"] = [
        ["订单", "工序", "设备", "工时 min", "换型组"],
        ["A1", 10, "L1", 10, "long"],
        [None, 20, "G", 5, "long"],
    ]
    merged = ("工艺路线", 1, 0, 2, 0, "A1")
    problem = orders_problem(orders_document({"x.xlsx": workbook(sheets, merged)}))
    assert problem.op_ids == ("A1.10", "A1.20")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"orders": ""}, ["orders.csv", "is empty"]),
        ({"orders": "order,item\nA1,shaft\nA1,case\n"}, ["row 3", "'order'", "'A1'", "row 2"]),
        ({"orders": "order,item\nA1,bolt\n"}, ["row 2", "'item'", "'bolt'", "has no routing"]),
        ({"orders": "item,qty\nshaft,1\n"}, ["order", "订单", "item, qty"]),
        ({"orders": "order,item,qty\nA1,shaft,-4\n"}, ["'-4'", "from 1 to"]),
        ({"orders": "order,item,due\nA1,shaft,31.2.2026\n"}, ["'31.2.2026'", "YYYY-MM-DD"]),
        ({"orders": "order,item,due\nA1,shaft,3/4/2026\n"}, ["two dates"]),
        ({"orders": "order,item,release,due\nA,shaft,2026-01-05,2026-01-04\n"}, ["not after"]),
        ({"orders": "order,order no\nA1,A2\n"}, ["both mean id"]),
        ({"routings": "item,operation,machine,time\nshaft,10,L1,5\n"}, ["'5'", "time (min)"]),
        (
            {"routings": "item,operation,machine,time (s)\nshaft,10,L1,-5\n"},
            ["routings.csv", "row 2", "'time (s)'", "'-5'", "negative"],
        ),
        ({"routings": "item,operation,machine,time (s)\nshaft,10,L9,5\n"}, ["'L9'", "L1, L2, G"]),
        ({"routings": "item,operation,machine,time (s)\nshaft,10,,5\n"}, ["row 2", "is empty"]),
        (
            {"routings": "item,operation,machine,time (s),after\nshaft,1,L1,5,2\nshaft,2,L1,5,1\n"},
            ["'after'", "circle"],
        ),
        (
            {"routings": "item,operation,machine,time (s),after\nshaft,1,L1,5,7\n"},
            ["names '7'", "known: 1"],
        ),
        (
            {"routings": "item,operation,machine,time (s)\nshaft,1,L1,5\ncase,1,L1,5\n"},
            ["'A1.1'", "family 'shaft'", "known are long, round"],
        ),
        ({"changeovers": "a\n1\n"}, ["changeovers.csv", "neither a list", "matrix"]),
        ({"calendars": "machine,from,to\nL1,2026-01-05,2026-01-04\n"}, ["'to'", "not after"]),
        ({"calendars": "machine,from,to,kind\nL1,2026-1-5,2026-1-6,tea\n"}, ["'tea'", "open"]),
        ({"settings": "name,value\ntime zone,Mars/Base\n"}, ["Mars/Base", "Europe/Berlin"]),
        ({"operators": "operator,skill\nAnna,weld\nAnna,mill\n"}, ["row 3", "'Anna'", "one row"]),
        ({"operators": "operator\nAnna\n"}, ["operators.csv", "skills", "技能"]),
        ({"tools": "tool,quantity\njig,0\n"}, ["tools.csv", "row 2", "'0'", "from 1 to"]),
        (
            {"routings": "item,operation,machine,time (s),skills\nshaft,1,L1,5,weld\n"},
            ["row 2", "'skills'", "needs 1 of 'weld'", "operators", "has 0"],
        ),
        (
            {
                "tools": "tool\njig\n",
                "routings": "item,operation,machine,time (s),tools\nshaft,1,L1,5,jig*2\n",
            },
            ["'jig*2'", "needs 2 of 'jig'", "tools", "has 1"],
        ),
        (
            {
                "routings": "item,operation,machine,time (s),transport (min),max wait (s)\n"
                "shaft,1,L1,5,1,30\n"
            },
            ["'max wait (s)'", "less than the transport time"],
        ),
        (
            {"orders": "order,item,release,deadline\nA,shaft,2026-01-05,2026-01-04\n"},
            ["'deadline'", "not after"],
        ),
        ({"calendars": "operator,from,to\nMao,2026-1-5,2026-1-6\n"}, ["'Mao'", "no operator"]),
        ({"calendars": "machine,day,from,to\nL1,Mon-Fry,6:00,14:00\n"}, ["'Mon-Fry'", "周一"]),
        ({"calendars": "machine,day,from,to\nL1,Mon,6:00,25:00\n"}, ["'25:00'", "HH:MM"]),
        ({"settings": "name,value\nrepeat shifts,fortnightly\n"}, ["fortnightly", "weekly"]),
        ({"machines": "machine\nL1\nL1\n"}, ["row 3", "'L1'", "twice"]),
    ],
)
def test_errors_name_place_value_and_way_out(changes: dict[str, str], said: list[str]) -> None:
    with pytest.raises(OrderError) as error:
        orders_problem(orders_document(english(**changes)))
    assert [word for word in said if word not in str(error.value)] == [], error.value


def test_a_workbook_without_known_sheets_says_what_it_looked_for() -> None:
    with pytest.raises(OrderError, match=r"x\.xlsx: no table of 'Tabelle1'.*orders \(订单\)"):
        orders_document({"x.xlsx": workbook({"Tabelle1": [["foo", "bar"], [1, 2]]})})
    with pytest.raises(OrderError, match="not a readable Excel file"):
        orders_document({"x.xlsx": b"PK\x03\x04" + bytes(200)})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_plan_comes_back_as_it_went(format: str, language: str) -> None:
    problem = orders_problem(orders_document(english()))
    plan = planned(problem)
    for zone in ("UTC", "Asia/Shanghai"):
        files = write_plan(problem, plan, format, language=language, timezone=zone)
        content = next(iter(files.values()))
        assert same(read_plan(problem, content, "plan"), plan)


@pytest.mark.parametrize("format", FORMATS)
def test_a_plan_without_calendar_dates_comes_back_too(format: str) -> None:
    problem = read("2 2\n0 3 1 4\n1 2 0 5\n", "a.jsp")
    plan = planned(problem)
    content = next(iter(write_plan(problem, plan, format).values()))
    assert same(read_plan(problem, content, "plan"), plan)


def test_the_hour_that_a_clock_shows_twice_comes_back_from_excel() -> None:
    orders = "order,item,release\nA1,shaft,2026-10-25T00:30Z\nA2,case,2026-10-25T00:30Z\n"
    problem = orders_problem(orders_document(english(orders=orders, calendars="from,to\n")))
    plan = planned(problem)
    (content,) = write_plan(problem, plan, "xlsx", timezone="Europe/Berlin").values()
    assert same(read_plan(problem, content), plan)


def test_no_name_reaches_a_spreadsheet_as_a_formula() -> None:
    names = ['=HYPERLINK("http://x")', "+1", "-2", "@SUM(A1)", "＝1"]
    rows = "".join('"' + n.replace('"', '""') + '",shaft\n' for n in names)
    document = orders_document(english(orders=f"order,item\n{rows}", calendars="from,to\n"))
    problem = orders_problem(document)
    plan = planned(problem)
    written = write_plan(problem, plan, "csv")
    for content in written.values():
        cells = [c for line in content.decode("utf-8-sig").splitlines() for c in line.split(",")]
        assert [c for c in cells if c.strip('" ')[:1] in tuple("=+-@＝")] == []
    assert same(read_plan(problem, written["operations.csv"]), plan)
    (book,) = write_plan(problem, plan, "xlsx").values()
    assert same(read_plan(problem, book), plan)
    with zipfile.ZipFile(io.BytesIO(book)) as parts:
        sheets = [n for n in parts.namelist() if "worksheets/sheet" in n]
        assert len(sheets) == 3
        assert all(b"<f>" not in parts.read(name) for name in sheets)
        assert b"quotePrefix" in parts.read("xl/styles.xml")


def test_orders_that_are_late_are_said_to_be() -> None:
    orders = "order,item,release,due\nA1,shaft,2026-01-05,2026-01-05 00:30\nA2,case,2026-01-05,\n"
    problem = orders_problem(orders_document(english(orders=orders)))
    (book,) = write_plan(problem, planned(problem), "xlsx", language="zh").values()
    sheets = CalamineWorkbook.from_filelike(io.BytesIO(book))
    assert sheets.sheet_names == ["工序", "设备", "订单"]
    rows = sheets.get_sheet_by_name("订单").to_python()
    assert [row[-1] for row in rows] == ["是否延期", "是", "否"]
    assert rows[1][-2] > 0
    assert rows[2][-2] == ""


def problem_data(seed: int, objective: Any) -> pyjobshop.ProblemData:
    """A random problem of the library: flexible machines, setups, breaks, releases, weights."""
    draw = random.Random(seed)
    model = pyjobshop.Model()
    machines = [model.add_machine(name=f"M{m}") for m in range(3)]
    breaks = [(10, 14), (30, 35)]
    machines.append(model.add_machine(breaks=breaks, name="M3"))
    tasks = []
    for _ in range(4):
        release = draw.randint(0, 9)
        job = model.add_job(weight=draw.randint(1, 5), release_date=release, due_date=release + 8)
        for k in range(3):
            task = model.add_task(job=job, allow_breaks=bool(seed % 2))
            for machine in draw.sample(machines, 2):
                model.add_mode(task, machine, draw.randint(1, 6))
            if k:
                model.add_end_before_start(tasks[-1], task, delay=draw.randint(0, 2))
            tasks.append(task)
    for a in tasks:
        for b in tasks:
            if a is not b and draw.random() < 0.6:
                model.add_setup_time(machines[0], a, b, draw.randint(1, 4))
    model.set_objective(**objective)
    return model.data()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "objective",
    [{"weight_makespan": 1}, {"weight_total_tardiness": 3}, {"weight_total_flow_time": 1}],
    ids=lambda o: next(iter(o)),
)
def test_pyjobshop_gives_our_plan_the_same_value(seed: int, objective: dict[str, int]) -> None:
    data = problem_data(seed, objective)
    text = data.to_json()
    result = solve_file_text(text, iterations=50, seed=seed)
    problem = read(text)
    plan = Plan.from_json(problem, result)
    scheduled = []
    for t in range(data.num_tasks):
        o = problem.op(str(t))
        machine = int(plan.machine[o])
        modes = [k for k in data.task2modes(t) if data.modes[k].resources == [machine]]
        mode = min(modes, key=lambda k: data.modes[k].duration)
        start, end = int(plan.start[o]), int(plan.end[o])
        pause = end - start - data.modes[mode].duration
        scheduled.append(pyjobshop.ScheduledTask(mode, [machine], start, end, 0, pause))
    solution = pyjobshop.Solution(data, scheduled)
    assert solution.objective == result["objective"]
    again = pyjobshop.solve(data, time_limit=5, num_workers=1, initial_solution=solution)
    assert again.lower_bound <= result["objective"]
    assert again.objective <= result["objective"], "the library takes our plan as feasible"


def limited_data(seed: int) -> pyjobshop.ProblemData:
    """Machines, two kinds of renewables of which each task takes some, deadlines, maximum lags."""
    draw = random.Random(seed)
    model = pyjobshop.Model()
    machines = [model.add_machine(name=f"M{m}") for m in range(2)]
    crane = model.add_renewable(capacity=1, breaks=[(20, 24)], name="crane")
    staff = model.add_renewable(capacity=3, name="staff")
    for _ in range(4):
        job = model.add_job(deadline=90)
        for k in range(3):
            before, task = model.tasks[-1] if k else None, model.add_task(job=job)
            more, demands = [staff], [0, draw.randint(1, 2)]
            if draw.random() < 0.5:
                more, demands = [staff, crane], [*demands, 1]
            for machine in draw.sample(machines, draw.randint(1, 2)):
                model.add_mode(task, [machine, *more], draw.randint(1, 6), demands)
            if before is not None:
                model.add_end_before_start(before, task, delay=1)
                if draw.random() < 0.5:
                    model.add_start_before_end(task, before, delay=-6)
    meeting = model.add_task(latest_end=60, name="meeting")  # people alone
    model.add_mode(meeting, [staff], 4, [3])
    for t, task in enumerate(model.tasks[:-1]):
        task.name = f"T{t}"
    model.set_objective(weight_makespan=1)
    return model.data()


@pytest.mark.parametrize("seed", range(4))
def test_renewables_deadlines_and_maximum_lags_of_pyjobshop_are_kept(seed: int) -> None:
    data = limited_data(seed)
    result = solve_file_text(data.to_json(), iterations=200, seed=seed)
    problem = read(data.to_json())
    assert problem.limits is not None
    assert {tool.id for tool in problem.limits.tools} == {"crane", "staff"}
    plan = Plan.from_json(problem, result)
    fixed = json.loads(data.to_json())
    for task in fixed["tasks"]:
        o = problem.op(task["name"])
        task["earliest_start"] = task["latest_start"] = int(plan.start[o])
        task["earliest_end"] = task["latest_end"] = int(plan.end[o])
    for mode in fixed["modes"]:
        task = data.tasks[mode["task"]]
        o = problem.op(task.name)
        m = problem.machine_ids[plan.machine[o]]
        if m not in (f"M{mode['resources'][0]}", f"task {task.name}"):
            mode["duration"] = 10**6  # so that only the machine of the plan can be taken
    again = pyjobshop.solve(pyjobshop.ProblemData.from_json(json.dumps(fixed)), time_limit=10)
    assert again.status.value in ("Optimal", "Feasible"), "the library takes our plan as feasible"
    assert again.objective == result["objective"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, t, r: m.add_consecutive(*t), "constraints.consecutive"),
        (lambda m, t, r: m.add_end_before_start(*t, delay=-1), "delay -1"),
        (lambda m, t, r: m.add_task(latest_start=9), "latest_start 9"),
        (lambda m, t, r: m.add_task(optional=True), "optional"),
        (lambda m, t, r: m.add_consumable(capacity=2), "consumable"),
        (lambda m, t, r: m.add_start_before_end(t[1], t[0], delay=-2), "start_before_end[0]"),
        (
            lambda m, t, r: m.add_mode(t[0], [r[0], m.add_renewable(capacity=2)], 2, [0, 1]),
            "only equal ones",
        ),
        (
            lambda m, t, r: m.add_mode(
                t[0], [r[0], m.add_renewable(capacity=1, breaks=[(1, 2)])], 2, [0, 0]
            ),
            "keep its breaks",
        ),
        (lambda m, t, r: m.add_machine(no_idle=True), "no_idle"),
        (lambda m, t, r: m.add_machine(breaks=[(1, 2)]), ""),
        (lambda m, t, r: m.set_objective(weight_tardy_jobs=1), "weight_tardy_jobs"),
        (lambda m, t, r: m.add_mode(t[0], m.resources, 3), "2 machines at a time"),
    ],
)
def test_what_pyjobshop_has_and_we_have_not_is_refused_by_name(change: Any, said: str) -> None:
    model = pyjobshop.Model()
    resources = [model.add_machine(), model.add_machine()]
    job = model.add_job(due_date=5)
    tasks = [model.add_task(job=job), model.add_task(job=job)]
    for task in tasks:
        model.add_mode(task, resources[0], 2)
    change(model, tasks, resources)
    for task in model.tasks[2:]:
        model.add_mode(task, resources[0], 2)
    document = json.loads(model.data().to_json())
    if not said:
        assert len(problem_data_document(document)["machines"]) == 3
        return
    with pytest.raises(OrderError) as error:
        problem_data_document(document)
    assert said in str(error.value)


SCHEDULE = """<?xml version="1.0"?>
<Process{kind} xmlns="{space}"><ApplicationArea/><DataArea><Process/>
<{kind}><ID>S</ID>
 <OperationsRequest><ID>R1</ID><StartTime>2026-01-05T08:00:00+01:00</StartTime>
  <EndTime>2026-01-05T12:00:00Z</EndTime><Priority>3</Priority>
  <SegmentRequirement><ID>R1-10</ID><Duration>PT1H30M</Duration>
   <EquipmentRequirement><ID>e</ID><EquipmentID>L1</EquipmentID><EquipmentID>L2</EquipmentID>
   </EquipmentRequirement></SegmentRequirement>
  <SegmentRequirement><ID>R1-20</ID><EarliestStartTime>2026-01-05T09:00:00Z</EarliestStartTime>
   <Duration>PT20M</Duration><PersonnelRequirement><ID>p</ID></PersonnelRequirement>
   <EquipmentRequirement><EquipmentID>G</EquipmentID></EquipmentRequirement></SegmentRequirement>
 </OperationsRequest>
 <OperationsRequest><ID>R2</ID><RequestState>Cancelled</RequestState></OperationsRequest>
</{kind}></DataArea></Process{kind}>"""
V6 = "http://www.mesa.org/xml/B2MML-V0600"


def schedule(space: str = V6, kind: str = "OperationsSchedule") -> str:
    return SCHEDULE.format(space=space, kind=kind)


@pytest.mark.parametrize("space", [V6, "http://www.mesa.org/xml/B2MML"])
def test_an_operations_schedule_is_read(space: str) -> None:
    document = schedule_document(schedule(space).encode(), "s.xml")
    problem = orders_problem(document)
    assert problem.op_ids == ("R1-10", "R1-20")
    assert problem.alternatives(0) == {0: 5400, 1: 5400}
    assert problem.op_release.tolist() == [0, 7200]
    assert problem.preds(1) == [(0, 0)]
    assert (problem.job_due.tolist(), problem.job_weight.tolist()) == ([5 * 3600], [3])
    assert [n.split(":")[-1].strip() for n in document["notes"]] == [
        "PersonnelRequirement is not planned",
        "is Cancelled and was left out",
    ]


def test_an_exported_plan_is_an_operations_schedule() -> None:
    problem = orders_problem(orders_document(english()))
    plan = planned(problem)
    (content,) = write_plan(problem, plan, "b2mml").values()
    back = orders_problem(schedule_document(content))
    assert back.op_ids == problem.op_ids
    assert back.job_ids == problem.job_ids
    starts = back.op_release + (back.origin_ns - problem.origin_ns) // 10**9
    assert starts.tolist() == plan.start.tolist()
    took = [problem.alternatives(o)[int(plan.machine[o])] for o in range(problem.n_ops)]
    assert back.alt_duration.tolist() == took
    assert [d for d in back.job_due.tolist() if d == FAR] == []


BOMB = """<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (schedule().replace("<?xml version=\"1.0\"?>", BOMB).replace(">S<", ">&b;<"), "DTD"),
        (schedule().replace("<?xml version=\"1.0\"?>", OUTSIDE).replace(">S<", ">&a;<"), "DTD"),
        (schedule("http://example.org/x"), "not B2MML"),
        (schedule(kind="WorkSchedule"), "OperationsSchedule is needed"),
        (schedule()[:-40], "no XML document"),
        (schedule().replace("PT1H30M", "-PT5M"), "R1-10"),
        (schedule().replace("PT1H30M", ""), "Duration is missing"),
        (schedule().replace("<EquipmentID>G", "<EquipmentClassID>G").replace(
            "G</EquipmentID>", "G</EquipmentClassID>"), "EquipmentClassID 'G'"),
        (schedule().replace("2026-01-05T12:00:00Z", "noon"), "EndTime 'noon'"),
    ],
)  # fmt: skip
def test_schedules_that_are_unsafe_or_cannot_be_kept_are_refused(text: str, said: str) -> None:
    with pytest.raises(OrderError) as error:
        schedule_document(text.encode(), "s.xml")
    assert said in str(error.value)


def test_circles_in_documents_are_found() -> None:
    document = orders_document(english())
    document["jobs"][0]["operations"][0]["after"] = [["A1.20", 0]]
    with pytest.raises(InfeasibleError, match="cycle"):
        orders_problem(document)


def brain(*words: object) -> Any:
    return CliRunner().invoke(app, ["schedule", *map(str, words)], catch_exceptions=True)


def test_the_commands_import_solve_verify_and_export(tmp_path: Path) -> None:
    source = tmp_path / "orders"
    source.mkdir()
    for name, content in english().items():
        (source / name).write_bytes(content)
    book, document = tmp_path / "book.xlsx", tmp_path / "problem.json"
    book.write_bytes(workbook(CHINESE))
    assert brain("import", book, "-o", document).exit_code == 0
    objectives = []
    for k, file in enumerate((source, book, document)):
        solved = brain("solve", file, "--seconds", "0.2", "--json")
        assert solved.exit_code == 0, solved.output
        plan = tmp_path / f"plan{k}.json"
        plan.write_text(solved.stdout)
        objectives.append(json.loads(solved.stdout)["objective"])
    assert len(set(objectives)) == 1
    for format in FORMATS:
        out = tmp_path / f"out.{format}"
        done = brain("export", source, plan, "--to", format, "-o", out, "--lang", "zh")
        assert done.exit_code == 0, done.output
        file = out / "operations.csv" if format == "csv" else out
        checked = brain("verify", source, file)
        assert checked.exit_code == 0, (format, checked.output)
        assert json.loads(checked.stdout)["objective"] == objectives[0]
    (tmp_path / "junk.csv").write_text("hello, world\n")
    assert isinstance(brain("solve", tmp_path / "junk.csv").exception, BrainError)


def test_the_example_of_the_guide_is_planned() -> None:
    folder = Path(__file__).parents[2] / "docs" / "how-to" / "orders"
    document = orders_document({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    problem = orders_problem(document)
    assert (problem.n_jobs, problem.n_ops, problem.n_machines) == (4, 8, 3)
    assert verify(problem, construct(problem)) == []


LIMITS = {
    "operators.csv": "operator,skills\nLi,turn;set\nWu,turn\n",
    "tools.csv": "tool,quantity\nchuck,2\n",
    "machines.csv": """machine,work center,skills,setup skills,batch
L1,lathes,turn,set,
L2,lathes,turn,set,
H,furnaces,,,3
""",
    "routings.csv": """item,operation,machine,time (min),family,tools,max wait (h),load size
shaft,10,L1;L2,30,long,chuck*2,,
shaft,20,H,60,long,,2,2
case,10,L1;L2,40,round,chuck,,
case,20,H,60,long,,,
""",
    "changeovers.csv": "work center,from,to,time (min)\nlathes,*,*,10\nlathes,long,long,0\n"
    "lathes,round,round,0\n",
    "orders.csv": """order,item,release date,due date,deadline
A1,shaft,2026-01-05 06:00,2026-01-05 12:00,2026-01-06
A2,case,2026-01-05 06:00,2026-01-05 12:00,
A3,case,2026-01-05 06:00,2026-01-05 12:00,
""",
    "calendars.csv": """operator,tool,machine,day,from,to,kind
Li;Wu,,,Mon-Fri,06:00,14:00,open
Wu,,,Mon-Fri,12:00,12:30,break
,chuck,,Mon,08:00,09:00,closed
,,H,daily,22:00,06:00,closed
""",
    "settings.csv": "name,value\ntime zone,Europe/Berlin\n",
}
LIMITS_ZH = {
    "人员": [["姓名", "技能"], ["Li", "turn、set"], ["Wu", "turn"]],
    "工装": [["工装", "数量"], ["chuck", 2]],
    "设备": [["设备", "工作中心", "技能", "换型技能", "炉容量"], ["L1", "lathes", "turn", "set"],
             ["L2", "lathes", "turn", "set"], ["H", "furnaces", None, None, 3]],
    "工艺路线": [
        ["物料", "工序", "设备", "工时（分钟）", "换型组", "夹具", "最长等待（小时）", "装炉量"],
        ["shaft", 10, "L1;L2", 30, "long", "chuck×2"],
        ["shaft", 20, "H", 60, "long", None, 2, 2],
        ["case", 10, "L1;L2", 40, "round", "chuck"],
        ["case", 20, "H", 60, "long"],
    ],
    "换型": [["工作中心", "从", "到", "时间（分钟）"], ["lathes", "*", "*", 10],
             ["lathes", "long", "long", 0], ["lathes", "round", "round", 0]],
    "订单": [["订单号", "物料", "下达日期", "交期", "最迟完成"],
             ["A1", "shaft", "2026-01-05 06:00", "2026-01-05 12:00", "2026-01-06"],
             ["A2", "case", "2026-01-05 06:00", "2026-01-05 12:00"],
             ["A3", "case", "2026-01-05 06:00", "2026-01-05 12:00"]],
    "班次": [["人员", "工装", "设备", "星期", "开始", "结束", "类型"],
             ["Li;Wu", None, None, "周一至周五", "06:00", "14:00", "上班"],
             ["Wu", None, None, "周一至周五", "12:00", "12:30", "休息"],
             [None, "chuck", None, "周一", "08:00", "09:00", "停"],
             [None, None, "H", "每天", "22:00", "06:00", "停机"]],
    "参数": [["参数", "值"], ["时区", "Europe/Berlin"]],
}  # fmt: skip


def test_people_tools_furnaces_deadlines_and_weekly_shifts_are_read() -> None:
    document = orders_document(encoded(LIMITS))
    problem = orders_problem(document)
    limits = problem.limits
    assert limits is not None
    assert [(who.id, who.skills) for who in limits.operators] == [
        ("Li", ("turn", "set")), ("Wu", ("turn",))
    ]  # fmt: skip
    hour = 3600
    li, wu = (who.closed for who in limits.operators)
    assert li[0] == (8 * hour, 24 * hour)  # planning starts on Monday, 6:00
    assert li[4] == (4 * 24 * hour + 8 * hour, 7 * 24 * hour)  # the weekend
    assert wu[0] == (6 * hour, 6 * hour + 1800)
    assert limits.tools[0].closed[0] == (2 * hour, 3 * hour)
    assert problem.calendar[2][0] == (-8 * hour, 0)
    assert limits.op_needs == ((0, "chuck", 2), (2, "chuck", 1), (4, "chuck", 1))
    assert limits.machine_needs == ((0, "turn", 1), (1, "turn", 1))
    assert limits.machine_setup_needs == ((0, "set", 1), (1, "set", 1))
    assert limits.max_lags == ((0, 1, 2 * hour),)
    assert limits.batches == ((2, 3),)
    assert limits.sizes == ((1, 2),)
    assert {tick for _, tick in limits.deadlines} == {42 * hour}
    assert "weekly shifts are laid out up to 2026" in " ".join(document["notes"])
    planned(problem)


def test_a_chinese_workbook_with_limits_gives_the_same_as_english_files() -> None:
    chinese = orders_document({"x.xlsx": workbook(LIMITS_ZH)})
    assert core(chinese) == core(orders_document(encoded(LIMITS)))


def test_the_last_listed_week_of_shifts_repeats_when_that_is_asked_for() -> None:
    files = dict(LIMITS) | {
        "calendars.csv": "operator,from,to,kind\n"
        "Li;Wu,2026-01-05 06:00,2026-01-05 14:00,shift\n"
        "Li;Wu,2026-01-06 06:00,2026-01-06 10:00,shift\n"
    }
    once = orders_problem(orders_document(encoded(files))).limits
    files["settings.csv"] += "repeat shifts,weekly\n"
    weekly = orders_problem(orders_document(encoded(files))).limits
    assert once is not None
    assert weekly is not None
    hour = 3600
    assert once.operators[0].closed == ((8 * hour, 24 * hour),)
    assert weekly.operators[0].closed[:3] == (
        (8 * hour, 24 * hour), (28 * hour, 7 * 24 * hour), (7 * 24 * hour + 8 * hour, 8 * 24 * hour)
    )  # fmt: skip


def test_an_order_file_whose_deadline_cannot_be_kept_names_the_order() -> None:
    files = dict(LIMITS) | {
        "orders.csv": LIMITS["orders.csv"].replace("2026-01-06\n", "2026-01-05 07:00\n")
    }
    text = json.dumps(orders_document(encoded(files)))
    with pytest.raises(InfeasibleError, match=r"A1 is not planned.* 2026-01-05 06:00:00"):
        solve_file_text(text, iterations=20)
    answer = solve_file_text(text, iterations=20, may_leave=True)
    assert [row["job"] for row in answer["unscheduled"]] == ["A1"]
