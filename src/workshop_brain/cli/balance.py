"""``brain balance``: assembly lines from files, who does what at which station."""

import csv
import io
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workshop_brain.cli.readable import readable
from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError, InfeasibleError

if TYPE_CHECKING:
    from workshop_brain.schedule.balance.line import Line
    from workshop_brain.schedule.balance.motion import Motion
    from workshop_brain.schedule.balance.read import ReadLine
    from workshop_brain.schedule.balance.solve import Balance

app = typer.Typer(help="Line balancing on files.", no_args_is_help=True)
FileArgument = Annotated[Path, typer.Argument(help=".alb, .in2, CSV, Excel, JSON or TOML")]
MotionArgument = Annotated[Path, typer.Argument(help="Stations: CSV, Excel, JSON or TOML")]
LanguageOption = Annotated[str, typer.Option(help="en or zh")]
BAR = 36
"""Characters of a station's bar at the cycle time."""
WIDTH = 110
"""Of a report that goes into a file or a pipe."""
_SHADES = "█▓▒░"
WORDS: dict[str, tuple[str, str]] = {
    "stations": (
        "{n} stations for a cycle of {c}; {word}",
        "节拍 {c},需要 {n} 个工位;{word}",
    ),
    "cycle": ("Cycle {c} with {n} stations; {word}", "{n} 个工位,节拍 {c};{word}"),
    "proved": ("proved: nothing better exists", "已证明最优"),
    "bound": ("not better than {b} (bound)", "下界 {b}"),
    "efficiency": (
        "Line efficiency {e} %, longest station {t}, smoothness index {s}",
        "平衡率 {e} %,最长工位 {t},平滑指数 {s}",
    ),
    "station": ("Station", "工位"),
    "time": ("Time", "时间"),
    "longest": ("Longest model", "最长机型"),
    "load": ("Load (| = cycle)", "负荷(| = 节拍)"),
    "tasks": ("Tasks (← old station)", "工序(← 原工位)"),
    "tasks_new": ("Tasks", "工序"),
    "moved": ("{n} tasks change their station: {tasks}", "{n} 道工序变更工位:{tasks}"),
    "kept": ("No task changes its station", "没有工序变更工位"),
    "front": ("Fewer moves would cost", "减少变动的代价"),
    "value.stations": ("Stations", "工位数"),
    "value.cycle": ("Cycle", "节拍"),
    "moves": ("Tasks moved", "变动工序"),
    "good": ("The balance keeps every rule.", "该平衡方案符合全部规则。"),
}
KINDS = {
    "unassigned": "未分配", "unknown": "未知工序", "station": "工位超限",
    "precedence": "违反先后顺序",
    "cycle": "超过节拍", "model_limit": "超过机型上限", "fixed": "违反指定工位",
    "forbidden": "禁止工位", "together": "应同工位", "apart": "不应同工位", "equipment": "缺少设备",
    "moves": "变动过多",
}  # fmt: skip
"""Broken rules in Chinese."""
MOST_SEED = 2**31 - 1


@app.command()
def solve(
    file: FileArgument,
    cycle: Annotated[str | None, typer.Option(help="Cycle time: fewest stations.")] = None,
    stations: Annotated[int | None, typer.Option(help="Stations: smallest cycle.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for the search.")] = 5.0,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="With a cycle: spread the work evenly as well.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Old balance (JSON of solve, or CSV): move few tasks.")
    ] = None,
    max_moves: Annotated[int | None, typer.Option(help="Most tasks that may move.")] = None,
    move_cost: Annotated[
        float, typer.Option(help="What one move must bring: stations, or cycle time.")
    ] = 0.0,
    seed: Annotated[int, typer.Option()] = 1,
    language: LanguageOption = "en",
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Balance a line: fewest stations for a cycle, or smallest cycle for stations."""
    _check_language(language)
    _in_range("seed", seed, 0, MOST_SEED)
    _in_range("max-moves", max_moves or 0, 0, 1_000_000)
    _in_range("move-cost", move_cost, 0.0, 1e9)
    given = _read(file)
    before = dict(given.now)
    if keep is not None:
        from workshop_brain.schedule.balance.read import old_stations

        before = old_stations(_text(keep), keep.name, given.line.tasks)
    if not before and (max_moves is not None or move_cost):
        raise ConfigError(
            "--max-moves and --move-cost need the old balance: give --keep OLD.json or a column "
            "'current station'"
        )
    if not 0.01 <= seconds <= 86_400:
        raise ConfigError(f"--seconds must be from 0.01 to 86400, got {seconds}")
    line, ticks, length = _question(given.line, cycle, stations)
    body, balance = _solved(
        line, ticks, length, before, seconds, smooth, max_moves, move_cost, seed
    )
    if json_:
        print_json(body)
    else:
        _print_balance(balance, body, before, language)


def _solved(
    line: "Line",
    ticks: int | None,
    length: int | None,
    before: Mapping[str, int],
    seconds: float,
    smooth: bool,
    max_moves: int | None,
    move_cost: float,
    seed: int,
) -> "tuple[dict[str, Any], Balance]":
    from workshop_brain.schedule.balance.rebalance import rebalance
    from workshop_brain.schedule.balance.solve import solve as balance_line
    from workshop_brain.schedule.balance.verify import verify_balance
    from workshop_brain.schedule.balance.warm import warm_up

    warm_up()
    more: dict[str, Any] = {}
    if before:
        scale = 1.0 if ticks is not None else 10.0**line.decimals
        done = rebalance(
            line, before, cycle=ticks, stations=length, most_moves=max_moves,
            move_cost=move_cost * scale, seconds=seconds, seed=seed,
        )  # fmt: skip
        balance = done.balance
        more["moved"] = list(done.moved)
        more["front"] = [
            {"value": _value(balance, v), "moved_tasks": moves} for v, moves in done.front
        ]
    else:
        balance = balance_line(line, cycle=ticks, stations=length, smooth=smooth, seconds=seconds)
    body = _body(balance) | more
    wrong = verify_balance(
        line,
        body["assignment"],
        cycle=Decimal(balance.cycle).scaleb(-line.decimals),
        stations=length,
    )
    if wrong:
        raise InfeasibleError(f"{line.name}: the checker refuses the balance: {wrong[0].detail}")
    return body, balance


@app.command()
def verify(
    file: FileArgument,
    balance: Annotated[Path, typer.Argument(help="JSON of solve, or CSV of task and station")],
    cycle: Annotated[str | None, typer.Option(help="Cycle time, else the file's.")] = None,
    stations: Annotated[int | None, typer.Option(help="Most stations.")] = None,
    language: LanguageOption = "en",
    json_: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Check a balance with the independent checker."""
    from workshop_brain.schedule.balance.read import old_stations
    from workshop_brain.schedule.balance.verify import verify_balance

    _check_language(language)
    line = _read(file).line
    if stations is not None and stations < 1:
        raise ConfigError(f"--stations must be >= 1, got {stations}")
    most = _cycle(cycle) if cycle is not None else line.cycle
    if most is None:
        raise ConfigError(f"{file}: names no cycle; give --cycle C")
    if most <= 0:
        raise ConfigError(f"{file}: the cycle must be > 0, got {most}; give --cycle C")
    at = old_stations(_text(balance), balance.name, line.tasks)
    found = verify_balance(line, at, cycle=most, stations=stations or line.stations)
    if json_:
        print_json({"feasible": not found, "breaches": [b.as_dict() for b in found]})
    for breach in found if not json_ else ():
        kind = breach.kind if language == "en" else KINDS.get(breach.kind, breach.kind)
        print(f"{kind}: {', '.join(breach.tasks)}: {breach.detail}")
    if found:
        first = found[0]
        raise InfeasibleError(f"{balance}: {len(found)} rules broken, first {first.kind}")
    if not json_:
        print(_word("good", language))


@app.command()
def release(
    file: MotionArgument,
    keep: Annotated[float, typer.Option(help="Least share of the open line's output.")] = 0.995,
    days: Annotated[int, typer.Option(help="Simulated days to choose the rule on.")] = 40,
    units: Annotated[int, typer.Option(help="Units of a day.")] = 1000,
    tries: Annotated[int, typer.Option(help="Rules to try after the first ones.")] = 150,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """When the next unit may enter: limits up to stations and a pace, beside CONWIP; JSON."""
    import numpy as np

    from workshop_brain.schedule.balance.flow import no_limit
    from workshop_brain.schedule.balance.release import (
        ReleaseRule,
        ReleaseTrial,
        best_conwip,
        best_interval,
        release_rule,
    )

    _in_range("keep", keep, 0.5, 1.0)
    _in_range("days", days, 2, 1000)
    _in_range("units", units, 50, 20_000)
    _in_range("tries", tries, 0, 100_000)
    _in_range("seed", seed, 0, MOST_SEED)
    line = _read_motion(file)
    share = line.quantity / line.quantity.sum()
    models = np.random.default_rng(seed).choice(len(share), units, p=share).astype(np.int64)
    trial = ReleaseTrial(line.flow, models, range(1000 * seed, 1000 * seed + days))
    unseen = ReleaseTrial(line.flow, models, range(1000 * seed + days, 1000 * seed + 2 * days))
    ours = release_rule(trial, keep=keep, tries=tries, seed=seed)
    goal = keep * trial.outcome(no_limit()).per_hour
    interval = ReleaseRule(limits={}, interval_s=best_interval(trial, goal))
    rules = {
        "rule": ours,
        "conwip": best_conwip(trial, goal),
        "fixed_interval": interval,
        "open": ReleaseRule(limits={}),
    }
    body: dict[str, Any] = {"line": line.name, "bottleneck": line.stations[trial.bottleneck]}
    for name, rule in rules.items():
        found = unseen.outcome(rule.loops)
        body[name] = {
            "limits": {line.stations[s]: limit for s, limit in rule.limits.items()},
            "interval_s": round(rule.interval_s, 3),
            "per_hour": round(float(found.per_hour.mean()), 4),
            "in_line": round(found.work, 3),
        }
    print_json(body | {"days": days, "units": units})


@app.command()
def sequence(
    file: MotionArgument,
    seconds: Annotated[float, typer.Option(help="Time for the search.")] = 2.0,
    level: Annotated[float, typer.Option(help="Weight of an even mix beside the span.")] = 0.5,
    days: Annotated[int, typer.Option(help="Simulated days with stops that decide.")] = 20,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """In which order the units of a mixed line enter, beside batches and levelled; JSON."""
    import numpy as np

    from workshop_brain.schedule.balance.sequence import Wishes, levelled
    from workshop_brain.schedule.balance.sequence import sequence as order_units

    _in_range("seconds", seconds, 0.01, 86_400)
    _in_range("level", level, 0.0, 1e6)
    _in_range("days", days, 0, 1000)
    _in_range("seed", seed, 0, MOST_SEED)
    line = _read_motion(file)
    wishes = Wishes(level=level)
    best = order_units(line.flow, line.units, wishes=wishes, days=days, seconds=seconds, seed=seed)
    beside = {}
    for name, order in (("batches", line.units), ("levelled", levelled(line.units))):
        beside[name] = order_units(line.flow, order, wishes=wishes, seconds=0.0, starts=(order,))
    body = {
        "line": line.name,
        "order": [line.models[m] for m in best.models.tolist()],
        "runs": _runs([line.models[m] for m in best.models.tolist()]),
        "bottleneck": line.stations[best.bottleneck],
        "span_bound_s": round(best.span_bound_s, 3),
    }
    for name, row in {"best": best, **beside}.items():
        body[name] = {
            "span_s": round(row.span_s, 3),
            "starved_s": round(row.starved_s, 3),
            "blocked_s": round(row.blocked_s, 3),
            "level": round(row.level, 4),
            "model_changes": int(np.count_nonzero(np.diff(row.models))),
        }
    print_json(body)


def _runs(order: list[str]) -> list[list[Any]]:
    """Equal neighbours together.

    >>> _runs(["A", "A", "B"])
    [['A', 2], ['B', 1]]
    """
    out: list[list[Any]] = []
    for model in order:
        if out and out[-1][0] == model:
            out[-1][1] += 1
        else:
            out.append([model, 1])
    return out


# -- input ----------------------------------------------------------------------------------


def _check_language(language: str) -> None:
    if language not in ("en", "zh"):
        raise ConfigError(f"--language {language!r}: en or zh")


def _in_range(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"--{option} must be from {low:g} to {high:g}, got {value}")


def _read_motion(path: Path) -> "Motion":
    from workshop_brain.schedule.balance.motion import read_motion

    return read_motion(_text(path), path.name)


def _sheet(name: str, data: bytes) -> str:
    """The first sheet with rows in it, as CSV."""
    from workshop_brain.schedule.exchange.cells import text_of
    from workshop_brain.schedule.exchange.tables import rows_of

    for rows in rows_of(name, data).values():
        filled = [row for row in rows if any(text_of(cell) for cell in row)]
        if filled:
            out = io.StringIO()
            csv.writer(out).writerows([[text_of(cell) for cell in row] for row in filled])
            return out.getvalue()
    raise ConfigError(f"{name}: no sheet has a row; write one row for each task or station")


def _text(path: Path) -> str:
    from workshop_brain.schedule.exchange.tables import is_excel

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if is_excel(data):
        return _sheet(path.name, data)
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):
        try:
            return readable(path, data.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise ConfigError(f"{path}: is no text; save it as Excel, CSV (UTF-8 or GB18030), JSON or TOML")


def _read(path: Path) -> "ReadLine":
    from workshop_brain.schedule.balance.read import read_line

    return read_line(_text(path), path.name)


def _cycle(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ConfigError(f"--cycle {text!r} is not a number; write for example 37.5") from None
    if not value.is_finite() or not 0 < value <= 10**9:
        raise ConfigError(f"--cycle must be > 0 and <= 1e9, got {text}")
    return value


def _question(
    line: "Line", cycle: str | None, stations: int | None
) -> "tuple[Line, int | None, int | None]":
    """The line in ticks fine enough, its cycle in ticks, and its stations."""
    from workshop_brain.schedule.balance.line import decimals_of, finer

    if stations is not None and stations < 1:
        raise ConfigError(f"--stations must be >= 1, got {stations}")
    most = _cycle(cycle) if cycle is not None else None
    if most is None and stations is None:
        most, stations = line.cycle, line.stations
        if most is None and stations is None:
            raise ConfigError(f"{line.name}: names no cycle; give --cycle C or --stations N")
        note(f"{line.name}: with the file's {'cycle' if most is not None else 'stations'}")
    if most is not None:
        if most <= 0:
            raise ConfigError(f"{line.name}: the cycle must be > 0, got {most}")
        line = finer(line, min(6, decimals_of(most)))
        return line, line.ticks(most), stations
    if len(line.models) > 1:
        line = finer(line, min(6, line.decimals + 2))
    return line, None, stations


# -- output ---------------------------------------------------------------------------------


def _value(balance: "Balance", value: int) -> float:
    return value if balance.objective == "stations" else balance.line.time(value)


def _body(balance: "Balance") -> dict[str, Any]:
    line = balance.line
    times = [sum(time for _, time in pile) for pile in balance.piles()]
    return {
        "line": line.name,
        "objective": balance.objective,
        "stations": balance.stations,
        "cycle": line.time(balance.cycle),
        "assignment": dict(zip(line.tasks, balance.station.tolist(), strict=True)),
        "lower_bound": _value(balance, balance.lower_bound),
        "optimal": balance.is_optimal,
        "seconds": round(balance.seconds, 3),
        "history": [[round(t, 3), _value(balance, v)] for t, v in balance.history],
        "station_times": [round(t, 6) for t in times],
    }


def _word(key: str, language: str, **params: Any) -> str:
    return WORDS[key][1 if language == "zh" else 0].format(**params)


def _print_balance(
    balance: "Balance", body: dict[str, Any], before: Mapping[str, int], language: str
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH

    def word(key: str, **params: Any) -> str:
        return _word(key, language, **params)

    times, cycle = body["station_times"], body["cycle"]
    end = "proved" if balance.is_optimal else "bound"
    shown = f"{body['lower_bound']:g}"
    head = word(balance.objective, n=balance.stations, c=f"{cycle:g}", word=word(end, b=shown))
    console.print(f"{balance.line.name}: {head}")
    rate = 100 * sum(times) / (balance.stations * cycle)
    spread = sum((max(times) - t) ** 2 for t in times) ** 0.5
    console.print(word("efficiency", e=f"{rate:.1f}", t=f"{max(times):g}", s=f"{spread:.3g}"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    mixed = len(balance.line.models) > 1
    table.add_column(word("station"), justify="right", no_wrap=True)
    table.add_column(word("time"), justify="right", no_wrap=True)
    if mixed:
        table.add_column(word("longest"), justify="right", no_wrap=True)
    table.add_column(word("load"), no_wrap=True)
    table.add_column(word("tasks" if before else "tasks_new"), overflow="fold")
    for row in _rows(balance, times, cycle, before):
        table.add_row(*(cell for k, cell in enumerate(row) if mixed or k != 2))
    console.print(table)
    if before:
        moved = body["moved"]
        text = word("moved", n=len(moved), tasks=" ".join(moved)) if moved else word("kept")
        console.print(text)
        _print_front(console, body["front"], balance.objective, language)


def _rows(
    balance: "Balance",
    times: list[float],
    cycle: float,
    before: Mapping[str, int],
) -> list[tuple[str, ...]]:
    line, at = balance.line, balance.station
    rows: list[tuple[str, ...]] = []
    for s, pile in enumerate(balance.piles(), 1):
        work = line.times[:, at == s].sum(axis=1).tolist()
        longest = max(range(len(work)), key=lambda m: work[m])
        olds = [(task, before.get(task, s)) for task, _ in pile]
        rows.append(
            (
                str(s),
                f"{times[s - 1]:.6g}",
                f"{line.models[longest].name} {line.time(work[longest]):g}",
                bar([time for _, time in pile], cycle),
                ", ".join(task + (f"←{old}" if old != s else "") for task, old in olds),
            )
        )
    return rows


def bar(parts: list[float], cycle: float) -> str:
    """A station's pile of tasks, lying: one shade a task, up to the cycle.

    >>> bar([12.0, 18.0], 36.0)
    '████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓      |'
    """
    out, done = "", 0.0
    for k, part in enumerate(parts):
        done += part
        out += _SHADES[k % len(_SHADES)] * (round(done / cycle * BAR) - len(out))
    return out.ljust(BAR) + "|"


def _print_front(console: Any, front: list[dict[str, Any]], objective: str, language: str) -> None:
    from rich.table import Table

    if len(front) < 2:
        return
    console.print(f"\n{_word('front', language)}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(_word(f"value.{objective}", language), justify="right")
    table.add_column(_word("moves", language), justify="right")
    for row in front:
        table.add_row(f"{row['value']:g}", str(row["moved_tasks"]))
    console.print(table)
