"""Line balancing: the checker refuses each broken rule, files are read, mistakes are named."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.errors import BrainError, InfeasibleError
from workshop_brain.schedule.balance.read import read_line
from workshop_brain.schedule.balance.rebalance import rebalance
from workshop_brain.schedule.balance.solve import solve
from workshop_brain.schedule.balance.verify import verify_balance

ALB = """<number of tasks>
4
<cycle time>
10
<task times>
1 6
2 5
3 4
4 5
<precedence relations>
1,2
1,3
2,4
3,4
<end>
"""
IN2 = "4\n6\n5\n4\n5\n1,2\n1,3\n2,4\n3,4\n-1,-1\n"
TOML = """
name = "gearbox"
apart = [["seal", "oil"]]
[models.A]
demand = 3
limit = "110%"
[models.B]
demand = 1
[station_equipment]
2 = ["press"]
[[tasks]]
id = "shaft"
time = 6
[[tasks]]
id = "press"
times = { A = 5, B = 9 }
after = ["shaft"]
needs = ["press"]
[[tasks]]
id = "seal"
times = { A = 4, B = 2 }
after = ["press"]
together = ["cap"]
[[tasks]]
id = "cap"
times = { A = 3 }
[[tasks]]
id = "oil"
times = { A = 2.5, B = 2.5 }
after = ["cap"]
fixed = 4
not_at = [3]
""".replace("time = 6\n", "times = { A = 6, B = 6 }\n")
GOOD = {"shaft": 1, "press": 2, "seal": 3, "cap": 3, "oil": 4}
CSV = """工序,工时A,工时B,紧前工序,同工位,不同工位,所需设备,固定工位,禁止工位
需求,3,1,,,,,,
上限,110%,,,,,,,
工位2,,,,,,press,,
shaft,6,6,,,,,,
press,5,9,shaft,,,press,,
seal,4,2,press,盖,oil,,,
cap,3,,,盖,,,,
oil,2.5,2.5,cap,,,,4,3
"""


def test_every_form_of_file_says_the_same_line() -> None:
    alb, in2 = read_line(ALB, "x").line, read_line(IN2, "x").line
    assert alb.times.tolist() == in2.times.tolist() == [[6, 5, 4, 5]]
    assert alb.precedence == in2.precedence
    toml, table = read_line(TOML, "gearbox").line, read_line(CSV, "gearbox").line
    for name in ("tasks", "models", "precedence", "fixed", "forbidden", "apart", "needs"):
        assert getattr(toml, name) == getattr(table, name), name
    assert toml.times.tolist() == table.times.tolist()
    assert {*toml.together[0]} == {*table.together[0]}
    assert toml.equipment == table.equipment


# what breaks the good balance, and which rules the checker must name for it alone
BROKEN: dict[str, tuple[Callable[[dict[str, int]], object], dict[str, object]]] = {
    "unassigned": (lambda at: at.pop("shaft"), {}),
    "unknown": (lambda at: at.update(wheel=1), {}),
    "station": (lambda at: at.update(shaft=0), {}),
    "precedence": (lambda at: at.update(shaft=3), {"cycle": Decimal(20)}),
    "cycle": (lambda at: None, {"cycle": Decimal("5.9")}),
    "model_limit": (lambda at: None, {"cycle": Decimal("6.3")}),
    "fixed": (lambda at: at.update(oil=5), {}),
    "forbidden": (lambda at: at.update(oil=3), {"cycle": Decimal(20)}),
    "together": (lambda at: at.update(cap=4), {}),
    "apart": (lambda at: at.update(seal=4, cap=4), {"cycle": Decimal(20)}),
    "equipment": (lambda at: at.update(press=3), {"cycle": Decimal(20)}),
    "moves": (lambda at: None, {"before": {"seal": 1, "cap": 2}, "most_moves": 1}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_checker_names_each_broken_rule(kind: str) -> None:
    line = read_line(TOML, "gearbox").line
    breaks, options = BROKEN[kind]
    options = {"cycle": Decimal(7), **options}
    at = dict(GOOD)
    assert verify_balance(line, at, cycle=Decimal(7)) == []
    breaks(at)
    kinds = {b.kind for b in verify_balance(line, at, **options)}  # type: ignore[arg-type]
    assert kind in kinds
    with_it = {"forbidden": {"fixed", "apart", "together"}, "cycle": {"model_limit"}}
    assert kinds - {kind} <= with_it.get(kind, set())


def test_the_examples_of_the_guide_are_read() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "balance-a-line.md"
    table, toml = re.findall(r"```\n((?:工序|cycle =).*?)```", page.read_text("utf-8"), re.S)
    line, other = read_line(table, "table").line, read_line(toml, "toml").line
    assert [m.demand for m in line.models] == [3, 1]
    assert line.times.tolist() == other.times.tolist()
    assert (line.needs, line.equipment) == ({2: {"压机"}}, {2: {"压机"}})
    assert (other.needs, other.equipment) == ({2: {"press"}}, {2: {"press"}})
    assert solve(other, cycle=370, seconds=60.0).stations == 2


def test_restrictions_and_models_hold_together() -> None:
    line = read_line(TOML, "gearbox").line
    found = solve(line, cycle=70, seconds=60.0)
    at = dict(zip(line.tasks, found.station.tolist(), strict=True))
    assert verify_balance(line, at, cycle=Decimal(7)) == []
    assert (found.stations, found.is_optimal) == (4, True)
    even = solve(line, cycle=100, stations=4, smooth=True, seconds=1.0)
    highest = max(sum(time for _, time in pile) for pile in even.piles())
    assert (even.stations, highest) == (4, pytest.approx(6.0))


def test_rebalancing_moves_as_few_tasks_as_it_may() -> None:
    text = "task,time,after\n" + "".join(f"t{k},{4 + k % 3},\n" for k in range(12))
    line = read_line(text, "line").line
    before = {f"t{k}": k // 4 + 1 for k in range(12)}
    best = rebalance(line, before, stations=4, walks=6)
    assert best.balance.cycle == 15
    few = rebalance(line, before, stations=4, most_moves=2, walks=6)
    at = dict(zip(line.tasks, few.balance.station.tolist(), strict=True))
    cycle = Decimal(few.balance.cycle)
    assert verify_balance(line, at, cycle=cycle, before=before, most_moves=2) == []
    assert 15 < few.balance.cycle < 20
    assert {moves for _, moves in best.front} >= {0}
    with pytest.raises(InfeasibleError, match="at most 2 moved"):
        rebalance(line, before, cycle=15, most_moves=2, walks=6)


WRONG = {
    "circle: 2 -> 4 -> 2": ALB.replace("<end>", "4,2\n<end>"),
    "'1' takes 11, longer than the cycle of 10": ALB.replace("1 6", "1 11"),
    "'1' must be a number >= 0, got -6": ALB.replace("1 6", "1 -6"),
    "announces 5 tasks, 4 have times": ALB.replace("\n4\n<cycle", "\n5\n<cycle"),
    "names task '9', which has no time": ALB.replace("2,4", "2,9"),
    "fixed to station 4 and forbidden there": TOML.replace("not_at = [3]", "not_at = [4]"),
    "must stand apart and must share": TOML.replace('["seal", "oil"]', '["seal", "cap"]'),
    "needs press, which no station has": TOML.replace('2 = ["press"]', '2 = ["saw"]'),
    "task 'cap' comes before 'oil'": TOML.replace('id = "cap"', 'id = "cap"\nfixed = 5'),
    "key 'colour' is not known": TOML.replace("needs =", "colour ="),
    "row 5: 工时A must be a number, got 'six'": CSV.replace("shaft,6", "shaft,six"),
    "has no column 'time / 工时'": "task,after\na,\n",
    "task 'a' stands twice": "task,time\na,1\na,2\n",
    "is empty": "",
}


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_named(message: str) -> None:
    with pytest.raises(BrainError) as caught:
        solve(read_line(WRONG[message], "file").line, cycle=10, seconds=1.0)
    assert message in str(caught.value)


def test_the_command_prints_what_it_promises_and_checks_it(tmp_path: Path) -> None:
    file, out = tmp_path / "line.csv", tmp_path / "balance.json"
    file.write_bytes(CSV.encode("gb18030"))
    run = CliRunner()
    done = run.invoke(app, ["balance", "solve", str(file), "--cycle", "7", "--json"])
    body = json.loads(done.stdout)
    assert {k: body[k] for k in ("stations", "cycle", "lower_bound", "optimal")} == {
        "stations": 4, "cycle": 7.0, "lower_bound": 4, "optimal": True,
    }  # fmt: skip
    out.write_text(done.stdout, "utf-8")
    check = ["balance", "verify", str(file), str(out), "--cycle"]
    assert run.invoke(app, [*check, "7"]).exit_code == 0
    assert isinstance(run.invoke(app, [*check, "6"]).exception, InfeasibleError)
    again = ["balance", "solve", str(file), "--stations", "5", "--keep", str(out)]
    text = run.invoke(app, [*again, "--language", "zh", "--seconds", "1"]).stdout
    assert "平衡率" in text
    assert "█" in text
