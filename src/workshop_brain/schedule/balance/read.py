"""Lines from files: .alb, .in2, and CSV, JSON or TOML as a plant engineer writes them."""

import csv
import io
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from workshop_brain.errors import OrderError
from workshop_brain.schedule.balance.line import Line, Model, make_line

WORDS: dict[str, tuple[str, ...]] = {
    "id": (
        "task", "id", "operation", "op", "task id", "step", "no", "number", "工序", "工序号",
        "工序编号", "任务", "作业", "作业号", "编号", "序号",
    ),
    "time": (
        "time", "duration", "task time", "seconds", "time s", "work", "工时", "时间", "作业时间",
        "工序时间", "标准工时", "节拍时间",
    ),
    "after": (
        "after", "predecessors", "predecessor", "before it", "preceded by", "requires", "紧前工序",
        "紧前", "前序", "前工序", "前置工序", "先行工序",
    ),
    "fixed": ("fixed", "fixed station", "station", "only at", "固定工位", "指定工位", "工位"),
    "forbidden": (
        "forbidden", "forbidden stations", "not at", "not stations", "禁止工位", "禁用工位",
        "不可工位",
    ),
    "together": ("together", "together with", "same station", "同工位", "同站", "绑定"),
    "apart": ("apart", "apart from", "not with", "不同工位", "不同站", "分开", "互斥"),
    "needs": ("needs", "equipment", "tool", "resource", "设备", "所需设备", "设备要求", "工装"),
    "now": (
        "current station", "current", "old station", "now", "station now", "现工位", "当前工位",
        "原工位",
    ),
    "tasks": ("tasks", "operations", "工序表", "工序列表", "任务列表"),
    "models": ("models", "products", "产品", "型号", "机型"),
    "demand": ("demand", "quantity", "share", "需求", "产量", "数量", "比例"),
    "limit": ("limit", "max station time", "上限", "单机型上限"),
    "stations": ("stations", "station count", "工位数"),
    "equipped": ("station equipment", "equipment of stations", "工位设备"),
    "cycle": ("cycle", "cycle time", "takt", "takt time", "节拍", "生产节拍"),
    "name": ("name", "line", "名称", "产线"),
}  # fmt: skip
_SPLIT = re.compile(r"[;,、，；\s]+")
_STATION = re.compile(r"(?:station|工位)\s*(\d+)", re.I)
_MOST_WHOLE = 10**12
_NONE = {"", "-", "–", "—", "none", "无", "/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLine:
    """A line and the station that its file says each task has now (from 1)."""

    line: Line
    now: Mapping[str, int]


@dataclass
class _Draft:
    """What a file has said so far."""

    name: str
    ids: list[str] = field(default_factory=list)
    times: list[dict[str, Decimal]] = field(default_factory=list)
    after: list[tuple[str, str]] = field(default_factory=list)
    fixed: dict[str, int] = field(default_factory=dict)
    forbidden: dict[str, list[int]] = field(default_factory=dict)
    together: list[list[str]] = field(default_factory=list)
    apart: list[tuple[str, str]] = field(default_factory=list)
    needs: dict[str, list[str]] = field(default_factory=dict)
    equipment: dict[int, list[str]] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)
    demand: dict[str, int] = field(default_factory=dict)
    limits: dict[str, tuple[Decimal, bool]] = field(default_factory=dict)
    cycle: Decimal | None = None
    stations: int | None = None

    def add_times(self, task: str, times: Mapping[str, Decimal], where: str) -> None:
        """A task with its time for each model."""
        if not times:
            raise OrderError(f"{where}: task {task!r} has no time; write one, 0 if it takes none")
        self.ids.append(task)
        self.times.append(dict(times))

    def finish(self) -> ReadLine:
        """The checked line."""
        named = dict.fromkeys(m for row in self.times for m in row)
        for model in (*self.demand, *self.limits):
            if model not in named:
                raise OrderError(
                    f"{self.name}: model {model!r} has no task times; give its tasks times or "
                    "take it out"
                )
        models = []
        for m in named:
            limit, is_share = self.limits.get(m, (None, False))
            models.append(
                Model(name=m, demand=self.demand.get(m, 1), limit=limit, is_share=is_share)
            )
        zero = Decimal(0)
        return ReadLine(
            line=make_line(
                name=self.name,
                tasks=self.ids,
                times=[[row.get(m, zero) for row in self.times] for m in named] or [[]],
                models=models or (Model(name=""),),
                precedence=self.after,
                fixed=self.fixed,
                forbidden=self.forbidden,
                together=self.together,
                apart=self.apart,
                needs=self.needs,
                equipment=self.equipment,
                cycle=self.cycle,
                stations=self.stations,
            ),
            now=self.now,
        )


def read_line(text: str, name: str) -> ReadLine:
    """The line of a file's text; the form follows from what stands in it, not from its name.

    Raises
    ------
    OrderError
        The text cannot be understood, or a value cannot be: named, with the way out.
    InfeasibleError
        Precedence in a circle, contradictory restrictions.
    """
    draft = _Draft(name=name)
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise OrderError(f"{name}: is empty; write one row for each task")
    if start.startswith("<"):
        _read_alb(start, draft)
    elif start.startswith("{"):
        _read_document(_json(start, name), draft)
    elif re.fullmatch(r"\d+", start.split(maxsplit=1)[0].strip(";")):
        _read_in2(start, draft)
    elif _is_toml(start):
        _read_document(_toml(start, name), draft)
    else:
        _read_csv(start, draft)
    return draft.finish()


# -- .alb and .in2 --------------------------------------------------------------------------


def _read_alb(text: str, draft: _Draft) -> None:
    """Sections in angle brackets (Otto et al. 2013, assembly-line-balancing.de)."""
    section, count = "", None
    for at, line in enumerate(text.splitlines(), 1):
        words = _SPLIT.split(line.strip())
        where = f"{draft.name}: line {at}"
        if line.strip().startswith("<"):
            section = line.strip().strip("<>").strip().lower()
            if section == "end":
                break
        elif not line.strip():
            continue
        elif section == "number of tasks":
            count = whole_of(words[0], where, "number of tasks")
        elif section == "cycle time":
            draft.cycle = number_of(words[0], where, "cycle time")
        elif section in ("number of stations", "stations"):
            draft.stations = whole_of(words[0], where, "number of stations")
        elif section == "task times":
            if len(words) != 2:
                raise OrderError(f"{where}: write task and time, got {line.strip()!r}")
            draft.add_times(words[0], {"": number_of(words[1], where, "time")}, where)
        elif section == "precedence relations":
            if len(words) != 2:
                raise OrderError(f"{where}: write before,after, got {line.strip()!r}")
            draft.after.append((words[0], words[1]))
    if count is not None and count != len(draft.ids):
        raise OrderError(
            f"{draft.name}: announces {count} tasks, {len(draft.ids)} have times; mend the number "
            "or the list"
        )


def _read_in2(text: str, draft: _Draft) -> None:
    """Number of tasks, their times, then pairs up to -1,-1 (Scholl 1993)."""
    lines = [(k, row.strip()) for k, row in enumerate(text.splitlines(), 1) if row.strip()]
    count = whole_of(lines[0][1], f"{draft.name}: line 1", "number of tasks")
    if len(lines) < count + 1:
        raise OrderError(
            f"{draft.name}: announces {count} tasks, {len(lines) - 1} lines follow; mend the "
            "number or add the times"
        )
    for k, (at, row) in enumerate(lines[1 : count + 1], 1):
        where = f"{draft.name}: line {at}"
        draft.add_times(str(k), {"": number_of(row, where, "time")}, where)
    for at, row in lines[count + 1 :]:
        pair = [w for w in _SPLIT.split(row) if w]
        if len(pair) != 2:
            raise OrderError(f"{draft.name}: line {at}: write before,after, got {row!r}")
        if pair[0] == "-1":
            return
        draft.after.append((pair[0], pair[1]))


# -- CSV ------------------------------------------------------------------------------------


def _read_csv(text: str, draft: _Draft) -> None:
    mark = max(",;\t", key=lambda c: text.splitlines()[0].count(c))
    rows = list(csv.reader(io.StringIO(text), delimiter=mark))
    columns, models = _columns(rows[0], draft.name)
    groups: dict[str, list[str]] = {}
    for at, row in enumerate(rows[1:], 2):
        cells = [c.strip() for c in row] + [""] * (len(rows[0]) - len(row))
        if not any(cells):
            continue
        where = f"{draft.name}: row {at}"
        task = cells[columns["id"]]
        times = {m: _cell(cells[k], where, rows[0][k], mark) for k, m in models.items()}
        known = {m: t for m, t in times.items() if t is not None}
        station = _STATION.fullmatch(task)
        kind = _word(task)
        if kind in ("demand", "limit"):
            _set_models(draft, kind, {m: cells[k] for k, m in models.items()}, where)
        elif station and not known:
            if "needs" not in columns:
                raise OrderError(
                    f"{where}: {task!r} has neither a time nor a column 'equipment / 设备' that "
                    "says what stands there; add one of them"
                )
            draft.equipment[int(station[1])] = _ids(cells[columns["needs"]], columns, "needs")
        elif not task:
            raise OrderError(f"{where}: has no task id; write one in {rows[0][columns['id']]!r}")
        else:
            draft.add_times(task, known, where)
            _add_cells(draft, groups, task, {f: cells[k] for f, k in columns.items()}, where)
    _add_groups(draft, groups)


def _columns(header: Sequence[str], name: str) -> tuple[dict[str, int], dict[int, str]]:
    """Column of each field, and the model of each column with times."""
    columns: dict[str, int] = {}
    models: dict[int, str] = {}
    for k, cell in enumerate(header):
        word = _word(cell)
        model = _model_of(cell)
        if word == "time":
            models[k] = ""
        elif word is not None:
            columns.setdefault(word, k)
        elif model is not None:
            models[k] = model
    for needed, what in (("id", "task / 工序"), ("time", "time / 工时")):
        if needed not in columns and not (needed == "time" and models):
            raise OrderError(
                f"{name}: has no column {what!r}; its columns are {', '.join(header)}. "
                "Name the columns task, time, predecessors (工序, 工时, 紧前工序)"
            )
    return columns, models


def _model_of(cell: str) -> str | None:
    """Model in a header like ``time A``, ``time (A)``, ``工时：A``; None when it is no time.

    >>> _model_of("Time (A 2)"), _model_of("工时B"), _model_of("note")
    ('A 2', 'B', None)
    """
    text = unicodedata.normalize("NFKC", cell).strip()
    for word in sorted(WORDS["time"], key=len, reverse=True):
        if text.lower().startswith(word):
            rest = text[len(word) :]
            if word.isascii() and rest[:1].isalnum():
                continue
            return rest.strip(" :_-()[]") or None
    return None


def _add_cells(
    draft: _Draft,
    groups: dict[str, list[str]],
    task: str,
    cells: Mapping[str, str],
    where: str,
) -> None:
    def ids(name: str) -> list[str]:
        return _ids(cells.get(name, ""), cells, name)

    draft.after += [(p, task) for p in ids("after")]
    draft.apart += [(task, other) for other in ids("apart")]
    if needs := ids("needs"):
        draft.needs[task] = needs
    if stations := ids("forbidden"):
        draft.forbidden[task] = [whole_of(s, where, "forbidden station") for s in stations]
    for name, into in (("fixed", draft.fixed), ("now", draft.now)):
        if words := ids(name):
            into[task] = whole_of(words[0], where, f"{name} station")
    for word in ids("together"):
        groups.setdefault(word, []).append(task)


def _add_groups(draft: _Draft, groups: Mapping[str, list[str]]) -> None:
    """A cell in 'together' is another task's id, else the name of a group."""
    for word, members in groups.items():
        row = [word, *members] if word in draft.ids else members
        if len(row) > 1:
            draft.together.append(row)


def _ids(cell: str, columns: Mapping[str, Any], name: str) -> list[str]:
    if name not in columns or cell.strip().lower() in _NONE:
        return []
    parts = re.split(r"[;,、，；|]+", cell) if name == "needs" else _SPLIT.split(cell.strip())
    return [p.strip() for p in parts if p.strip()]


def _cell(cell: str, where: str, column: str, mark: str) -> Decimal | None:
    if cell.lower() in _NONE or _PERCENT.fullmatch(cell):
        return None
    return number_of(cell.replace(",", ".") if mark != "," else cell, where, column)


_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*[%％]")


def _set_models(draft: _Draft, kind: str, cells: Mapping[str, Any], where: str) -> None:
    for model, value in cells.items():
        text = str(value).strip()
        if text.lower() in _NONE:
            continue
        if kind == "demand":
            draft.demand[model] = whole_of(text, where, "demand")
            continue
        share = _PERCENT.fullmatch(text)
        number = number_of(share[1] if share else text, where, "limit")
        if number <= 0:
            raise OrderError(f"{where}: limit of model {model!r} must be > 0, got {text}")
        draft.limits[model] = (number / 100 if share else number, bool(share))


# -- JSON and TOML --------------------------------------------------------------------------


def _is_toml(text: str) -> bool:
    return bool(re.match(r"\[|#|[\w.\"']+\s*=", text))


def document_of(text: str, name: str) -> dict[str, Any] | None:
    """The document of a JSON or TOML text; None when it is neither."""
    if text.startswith("{"):
        return _json(text, name)
    return _toml(text, name) if _is_toml(text) else None


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise OrderError(f"{name}: is no JSON: {error}") from error
    return document


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise OrderError(f"{name}: is no TOML: {error}") from error


def _fields(row: Any, where: str) -> dict[str, Any]:
    """Known keys of a table by their field names; an unknown key is an error."""
    if not isinstance(row, dict):
        raise OrderError(f"{where}: must be a table of keys and values, got {row!r}")
    out = {}
    for key, value in row.items():
        word = "times" if key in ("times", "各型号工时") else _word(key)
        if word is None:
            raise OrderError(
                f"{where}: key {key!r} is not known; known are "
                f"{', '.join(sorted(w[0] for w in WORDS.values()))}, times"
            )
        out[word] = value
    return out


def _read_document(document: dict[str, Any], draft: _Draft) -> None:
    top = _fields(document, draft.name)
    draft.name = str(top.get("name", draft.name))
    if "cycle" in top:
        draft.cycle = number_of(top["cycle"], draft.name, "cycle")
    if "stations" in top:
        draft.stations = whole_of(top["stations"], draft.name, "stations")
    tasks = top.get("tasks")
    if not isinstance(tasks, list):
        raise OrderError(f"{draft.name}: has no list 'tasks'; write one entry for each task")
    groups: dict[str, list[str]] = {}
    for k, entry in enumerate(tasks, 1):
        where = f"{draft.name}: task {k}"
        row = _fields(entry, where)
        if "id" not in row:
            raise OrderError(f"{where}: has no id; write id = ...")
        task = str(row["id"])
        times = row.get("times", {"": row["time"]} if "time" in row else {})
        if not isinstance(times, dict):
            raise OrderError(f"{where}: times must be a table of model = time, got {times!r}")
        draft.add_times(task, {m: number_of(t, where, "time") for m, t in times.items()}, where)
        cells = {f: _joined(row[f]) for f in row if f not in ("id", "time", "times")}
        _add_cells(draft, groups, task, cells, where)
    _add_groups(draft, groups)
    _read_rest(top, draft)


def _read_rest(top: Mapping[str, Any], draft: _Draft) -> None:
    where = draft.name
    for row in _rows(top.get("together", []), where, "together"):
        draft.together.append(row)
    for row in _rows(top.get("apart", []), where, "apart"):
        draft.apart += [(a, b) for k, a in enumerate(row) for b in row[k + 1 :]]
    equipped = top.get("equipped", top.get("needs", {}))
    if not isinstance(equipped, dict):
        raise OrderError(f"{where}: equipment must be a table of station = [names]")
    for station, names in equipped.items():
        number = whole_of(str(station), where, "station of equipment")
        draft.equipment[number] = _ids(_joined(names), {"needs": 0}, "needs")
    models = top.get("models", {})
    if not isinstance(models, dict):
        raise OrderError(f"{where}: models must be a table of model = {{demand, limit}}")
    for model, entry in models.items():
        given = _fields(entry, f"{where}: model {model!r}")
        for kind in ("demand", "limit"):
            if kind in given:
                _set_models(draft, kind, {model: given[kind]}, f"{where}: model {model!r}")


def _rows(value: Any, where: str, name: str) -> list[list[str]]:
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise OrderError(f"{where}: {name} must be a list of lists of tasks, got {value!r}")
    return [[str(t) for t in row] for row in value]


def _joined(value: Any) -> str:
    return ";".join(str(v) for v in value) if isinstance(value, list) else str(value)


# -- words and numbers ----------------------------------------------------------------------


def _word(text: str) -> str | None:
    """Field that a header or key means.

    >>> _word("Predecessors"), _word("紧前工序"), _word("colour")
    ('after', 'after', None)
    """
    plain = unicodedata.normalize("NFKC", text).strip().lower()
    return _BY_WORD.get(re.sub(r"[\s_\-()./]+", " ", plain).strip())


_BY_WORD = {word: name for name, words in WORDS.items() for word in words}


def number_of(value: Any, where: str, what: str) -> Decimal:
    """A finite number from a cell or a document; OrderError names the place otherwise."""
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise OrderError(f"{where}: {what} must be a number, got {value!r}") from None
    if not number.is_finite():
        raise OrderError(f"{where}: {what} must be a number, got {value!r}")
    return number


def whole_of(value: Any, where: str, what: str) -> int:
    """A whole number from a cell or a document; OrderError names the place otherwise."""
    number = number_of(value, where, what)
    if not -_MOST_WHOLE <= number <= _MOST_WHOLE:
        raise OrderError(f"{where}: {what} must be at most {_MOST_WHOLE}, got {value!r}")
    if number != int(number):
        raise OrderError(f"{where}: {what} must be a whole number, got {value!r}")
    return int(number)


def old_stations(text: str, name: str, tasks: Iterable[str]) -> dict[str, int]:
    """Old stations from what ``balance solve --json`` printed, a JSON mapping, or a CSV.

    A CSV has the task in the first column and its station in the last.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise OrderError(f"{name}: is empty; write each task and its station")
    known = set(tasks)
    if start.startswith("["):
        raise OrderError(
            f"{name}: is a list; write what 'balance solve --json' printed, or task = station"
        )
    if start.startswith("{"):
        document = _json(start, name)
        assignment = document.get("assignment", document)
        if not isinstance(assignment, dict):
            raise OrderError(f"{name}: assignment must map each task to its station")
        pairs = list(assignment.items())
    else:
        rows = [r for r in csv.reader(io.StringIO(start)) if len(r) > 1]
        pairs = [(r[0].strip(), r[-1].strip()) for r in rows]
        # the first row may be a header; every other name has to be a task
        pairs = [p for k, p in enumerate(pairs) if p[0] and (k > 0 or p[0] in known)]
        if not pairs:
            raise OrderError(f"{name}: has no row of task and station, separated by commas")
    out: dict[str, int] = {}
    for task, station in pairs:
        where = f"{name}: task {task!r}"
        if str(task) in out:
            raise OrderError(f"{where}: stands there twice; leave one")
        out[str(task)] = whole_of(station, where, "station")
    return out
