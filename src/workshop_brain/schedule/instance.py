"""Benchmark files and plain documents as problems: fjsp, jsp, sdst, fajsp, fsp, reactive-fjsp/1."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.document_form import check_form, check_job, check_unique
from workshop_brain.schedule.document_limits import (
    arcs_of,
    in_sight,
    limits_of,
    upkeep_of,
    windows,
)
from workshop_brain.schedule.exchange.document import FORMAT, orders_problem
from workshop_brain.schedule.exchange.pyjobshop import is_problem_data, problem_data_document
from workshop_brain.schedule.structure import FAR, Problem, assemble
from workshop_brain.units import NS_PER_S

FORMATS = ("fjsp", "jsp", "sdst", "fajsp", "fsp", "json")
NOT_ALLOWED = 1_000_000
"""Setup entries at or above this in sdst files mean: the operation cannot run there."""
MOST = 10**12
"""Largest number that an instance or a plan may hold, ticks."""
_EVENTS = {
    "breakdown": EventKind.BREAKDOWN,
    "quality_stop": EventKind.QUALITY_STOP,
    "operator_absent": EventKind.OPERATOR_ABSENT,
    "restored": EventKind.RESTORED,
    "operator_back": EventKind.OPERATOR_BACK,
    "rush_order": EventKind.RUSH_ORDER,
    "late_material": EventKind.LATE_MATERIAL,
    "late_finish": EventKind.LATE_FINISH,
    "maintenance_due": EventKind.MAINTENANCE_DUE,
    "cancelled": EventKind.ORDERS_CHANGED,
    "orders_changed": EventKind.ORDERS_CHANGED,
}
Row = list[tuple[int, int]]


def read_instance(text: str, format: str, name: str = "") -> Problem:
    """The problem of a benchmark file's text.

    Parameters
    ----------
    format
        One of FORMATS; see :func:`guess_format` for the choice by file name.

    Raises
    ------
    OrderError
        The text does not follow the format; the message says where.
    """
    readers = {
        "fjsp": _fjsp,
        "jsp": _jsp,
        "fsp": _jsp,
        "sdst": _sdst,
        "fajsp": _fajsp,
        "json": _document,
    }
    if format not in readers:
        raise OrderError(f"format {format!r} is unknown; known are {', '.join(FORMATS)}")
    try:
        return readers[format](text, name)
    except OrderError as error:
        raise OrderError(f"{name or format}: {error}") from error
    except KeyError as error:
        raise OrderError(f"{name or format}: has no {error.args[0]!r}") from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise OrderError(
            f"{name or format}: does not follow the {format} format: {error!r}"
        ) from error


def guess_format(name: str, text: str) -> str:
    """Format by what the text looks like; the name decides where two look the same.

    >>> guess_format("mk01.txt", "1 1 2\\n1 1 1 5"), guess_format("x", '{"format": 1}')
    ('fjsp', 'json')
    """
    if text.lstrip().startswith("{"):
        return "json"
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows:
        raise OrderError(f"{name or 'file'}: is empty")
    lowered = name.replace("\\", "/").lower()
    if len(rows[0]) == 2 and not any(key in lowered for key in (".fjs", "sdst", "fjsp/")):
        return "fsp" if any(key in lowered for key in ("fsp/", ".fsp", "vrf", "vfr")) else "jsp"
    try:
        jobs, arcs = int(rows[0][0]), int(rows[0][1])
    except (ValueError, IndexError):
        return "jsp"
    pairs = rows[1 : 1 + arcs]
    if len(rows) == 1 + arcs + jobs and pairs and all(len(row) == 2 for row in pairs):
        return "fajsp"
    return "sdst" if len(rows) > 1 + jobs or "sdst" in lowered else "fjsp"


def within(value: Any, what: str, low: int = -MOST, high: int = MOST) -> int:
    """A whole number of a document within its range; OrderError names it otherwise."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        raise OrderError(f"{what} must be a whole number from {low} to {high}, got {value!r}")
    return int(value)


class _Numbers:
    """Reads whole numbers of a line one by one and says where it stands when they run out."""

    def __init__(self, words: Sequence[str], where: str) -> None:
        self.words, self.where, self.at = words, where, 0

    def next(self) -> int:
        """The next number."""
        if self.at >= len(self.words):
            raise OrderError(f"{self.where}: ends after {self.at} numbers, more are expected")
        word = self.words[self.at]
        self.at += 1
        try:
            return within(int(word), f"{self.where}: number {self.at}")
        except ValueError:
            raise OrderError(
                f"{self.where}: number {self.at} must be whole, got {word!r}"
            ) from None

    @property
    def more(self) -> bool:
        """Whether numbers are left."""
        return self.at < len(self.words)


def _lines(text: str) -> list[tuple[int, list[str]]]:
    return [(k, line.split()) for k, line in enumerate(text.splitlines(), 1) if line.strip()]


def _chains(jobs: Sequence[Sequence[Row]], count: int, name: str, **more: Any) -> Problem:
    """A makespan problem of jobs whose operations follow one another."""
    alternatives: list[Row] = []
    preds: list[Row] = []
    op_job: list[int] = []
    ids: list[str] = []
    for j, rows in enumerate(jobs):
        for k, row in enumerate(rows):
            _check_row(row, count, f"job {j} operation {k}")
            preds.append([(len(alternatives) - 1, 0)] if k else [])
            alternatives.append(row)
            op_job.append(j)
            ids.append(f"{j}.{k}")
    return assemble(
        name=name,
        target="makespan",
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[_goal(jobs, count)] * len(jobs),
        n_machines=count,
        op_ids=ids,
        **more,
    )


def _check_row(row: Row, machines: int, what: str) -> None:
    if not row:
        raise OrderError(f"{what}: no machine can do it")
    for m, duration in row:
        if not 0 <= m < machines or duration < 0:
            raise OrderError(
                f"{what}: machine {m} with duration {duration} is not "
                f"within {machines} machines and durations >= 0"
            )
    if len({m for m, _ in row}) < len(row):
        raise OrderError(f"{what}: a machine stands twice, got (machine, duration) {row}")


def _counts(*values: int) -> None:
    if min(values) < 1:
        raise OrderError(f"the first line must hold numbers of 1 and more, got {values}")


def _nothing_left(lines: Sequence[tuple[int, list[str]]], count: int, what: str) -> None:
    if len(lines) > count:
        raise OrderError(f"line {lines[count][0]}: stands behind the last of {count} {what}")


def _goal(jobs: Sequence[Sequence[Row]], machines: int) -> int:
    """A makespan that no plan beats: rules use it as everybody's due date."""
    work = [sum(min(d for _, d in row) for row in rows) for rows in jobs]
    return max(max(work, default=0), -(-sum(work) // machines))


def _flexible_jobs(lines: list[tuple[int, list[str]]], n_jobs: int, first: int) -> list[list[Row]]:
    """Job lines ``nops (k (machine duration)*k)*nops``, machines counted from ``first``."""
    if len(lines) < n_jobs:
        raise OrderError(f"{n_jobs} jobs are announced, {len(lines)} lines follow")
    jobs = []
    for number, words in lines[:n_jobs]:
        numbers = _Numbers(words, f"line {number}")
        rows = []
        for _ in range(numbers.next()):
            count = numbers.next()
            rows.append([(numbers.next() - first, numbers.next()) for _ in range(count)])
        jobs.append(rows)
    return jobs


def _fjsp(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n_jobs, machines = head.next(), head.next()
    _counts(n_jobs, machines)
    _nothing_left(lines[1:], n_jobs, "jobs")
    return _chains(_flexible_jobs(lines[1:], n_jobs, 1), machines, name)


def _jsp(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n_jobs, machines = head.next(), head.next()
    _counts(n_jobs, machines)
    if len(lines) - 1 < n_jobs:
        raise OrderError(f"{n_jobs} jobs are announced, {len(lines) - 1} lines follow")
    _nothing_left(lines[1:], n_jobs, "jobs")
    jobs: list[list[Row]] = []
    for number, words in lines[1 : n_jobs + 1]:
        ends = words[:-2] if words[-2:] == ["-1", "-1"] else words
        numbers = _Numbers(ends, f"line {number}")
        rows: list[Row] = []
        while numbers.more:
            m, duration = numbers.next(), numbers.next()
            rows.append([(m, duration)])
        jobs.append(rows)
    return _chains(jobs, machines, name)


def _sdst(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n_jobs, machines = head.next(), head.next()
    _counts(n_jobs, machines)
    jobs = _flexible_jobs(lines[1:], n_jobs, 1)
    n = sum(len(rows) for rows in jobs)
    values = [int(word) for _, words in lines[1 + n_jobs :] for word in words]
    if len(values) != machines * n * n:
        raise OrderError(
            f"{machines} setup matrices of {n} x {n} are expected, got {len(values)} numbers"
        )
    if min(values, default=0) < 0:
        raise OrderError(f"a setup must be 0 or more, got {min(values)}")
    setup = np.array(values, np.int64).reshape(machines, n, n)
    setup[setup >= NOT_ALLOWED] = 0
    return _chains(
        jobs,
        machines,
        name,
        ops={"family": list(range(n))},
        machines={"work_center": list(range(machines))},
        setup=setup,
    )


def _fajsp(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n, arcs, machines = head.next(), head.next(), head.next()
    _counts(n, machines)
    _nothing_left(lines[1:], arcs + n, "precedences and operations")
    if len(lines) < 1 + arcs + n:
        raise OrderError(f"{arcs} precedences and {n} operations are announced, lines are missing")
    preds: list[Row] = [[] for _ in range(n)]
    has_succ = [False] * n
    for number, words in lines[1 : 1 + arcs]:
        numbers = _Numbers(words, f"line {number}")
        before, after = numbers.next(), numbers.next()
        if not (0 <= before < n and 0 <= after < n) or before == after:
            raise OrderError(
                f"line {number}: {before} before {after} must be two of the operations 0 to {n - 1}"
            )
        preds[after].append((before, 0))
        has_succ[before] = True
    alternatives: list[Row] = []
    for number, words in lines[1 + arcs : 1 + arcs + n]:
        numbers = _Numbers(words, f"line {number}")
        count = numbers.next()
        row = [(numbers.next(), numbers.next()) for _ in range(count)]
        _check_row(row, machines, f"operation {len(alternatives)}")
        alternatives.append(row)
    ends = [o for o in range(n) if not has_succ[o]]
    job_of = {o: j for j, o in enumerate(ends)}
    succ: list[int] = [-1] * n
    for after in range(n):
        for before, _ in preds[after]:
            succ[before] = after

    def job(o: int) -> int:
        first, steps = o, 0
        while o not in job_of:
            o, steps = succ[o], steps + 1
            if steps > n:
                raise OrderError(
                    f"operation {first} waits for itself: the precedences form a cycle"
                )
        return job_of[o]

    return assemble(
        name=name,
        target="makespan",
        alternatives=alternatives,
        preds=preds,
        op_job=[job(o) for o in range(n)],
        job_due=[_goal([[row] for row in alternatives], machines)] * len(ends),
        n_machines=machines,
        sinks=[[job_of[o]] if o in job_of else [] for o in range(n)],
    )


def _document(text: str, name: str) -> Problem:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise OrderError(f"is not valid JSON: {error}") from error
    if isinstance(data, dict) and is_problem_data(data):
        data = problem_data_document(data, name)
    if isinstance(data, dict) and data.get("format") == FORMAT:
        return in_sight(orders_problem(data, name or str(data.get("name", ""))))
    if not isinstance(data, dict) or data.get("format") != "reactive-fjsp/1":
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise OrderError(f"format must be 'reactive-fjsp/1', got {found!r}")
    return in_sight(document_problem(data, name or str(data.get("name", ""))))


def job_rows(job: Mapping[str, Any], machines: Mapping[str, int]) -> list[Row]:
    """Alternatives of the operations of one document job, machines by their ids."""
    rows = []
    for k, op in enumerate(job["operations"]):
        what = f"job {job.get('id')!r} operation {k}"
        pairs = op["alternatives"]
        if not isinstance(pairs, list) or not all(
            isinstance(pair, list) and len(pair) == 2 for pair in pairs
        ):
            raise OrderError(
                f"{what}: alternatives must be a list of [machine, duration], got {pairs!r}"
            )
        row: dict[int, int] = {}
        for name, duration in pairs:
            m = machines.get(str(name), -1)
            if m < 0:
                raise OrderError(f"{what}: no machine {name!r}")
            if m in row:
                raise OrderError(
                    f"{what}: machine {name!r} stands twice among its alternatives, with {row[m]} "
                    f"and {duration}; keep one"
                )
            if not isinstance(duration, int) or not 0 <= duration <= MOST:
                within(duration, f"{what}: duration", 0)
            row[m] = duration
        if not row:
            raise OrderError(f"{what}: no machine can do it")
        rows.append(list(row.items()))
    if not rows:
        raise OrderError(f"job {job.get('id')!r}: has no operations")
    return rows


def job_numbers(job: Mapping[str, Any], families: int) -> tuple[int, int, int, int]:
    """Family, release, due and weight of a document job, each within its range.

    Where there is one family only, a job need not name it.
    """
    what = f"job {job.get('id')!r}:"
    due = job.get("due")
    if "family" not in job and families > 1:
        raise OrderError(
            f"{what} has no 'family'; give its number among the {families} of the changeovers, "
            f"0 to {families - 1}"
        )
    if "release" not in job:
        raise OrderError(f"{what} has no 'release', the tick from which it may start")
    return (
        within(job.get("family", 0), f"{what} family", 0, families - 1),
        within(job["release"], f"{what} release", 0),
        FAR if due is None else within(due, f"{what} due"),
        within(job.get("weight", 1), f"{what} weight", 0),
    )


def _setups(data: Any) -> NDArray[np.int64]:
    """The changeover tables ``[work center][from][to]`` of a document."""
    _check_square(data)
    tables = np.array(data, np.float64)
    if not ((tables >= 0) & (tables <= MOST) & (tables == np.floor(tables))).all():
        raise OrderError("setup: every changeover must be a whole number of 0 or more")
    return tables.astype(np.int64)


def _check_square(data: Any) -> None:
    """OrderError that names the first table or row of changeovers with another size than others."""
    form = "setup: must be [work center][family][family]"
    if not isinstance(data, list) or not data:
        raise OrderError(f"{form}, got {data!r}")
    families = len(data[0]) if isinstance(data[0], list) else 0
    for k, table in enumerate(data):
        if not isinstance(table, list) or len(table) != families or not table:
            raise OrderError(f"{form}; setup[{k}] is no table of {families or 1} rows")
        for f, row in enumerate(table):
            if not isinstance(row, list) or len(row) != families:
                got = f"{len(row)} entries" if isinstance(row, list) else repr(row)
                raise OrderError(f"{form}; setup[{k}][{f}] must hold {families}, got {got}")
            for t, value in enumerate(row):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise OrderError(f"setup[{k}][{f}][{t}] must be a whole number, got {value!r}")


def document_problem(data: Mapping[str, Any], name: str = "") -> Problem:
    """The problem of a parsed reactive-fjsp/1 document."""
    check_form(data)
    check_unique([str(row["id"]) for row in data["machines"]], "machines")
    check_unique([str(job["id"]) for job in data["jobs"]], "jobs")
    machines = {str(row["id"]): m for m, row in enumerate(data["machines"])}
    setup = _setups(data["setup"])
    families = setup.shape[1]
    alternatives: list[Row] = []
    family, op_job, release, ids, first = [], [], [], [], []
    numbers = [job_numbers(job, families) for job in data["jobs"]]
    for j, job in enumerate(data["jobs"]):
        first.append(len(alternatives))
        for k, row in enumerate(job_rows(job, machines)):
            alternatives.append(row)
            family.append(numbers[j][0])
            op_job.append(j)
            release.append(numbers[j][1])
            ids.append(f"{job['id']}.{k}")
    arcs = arcs_of(data["jobs"], first)
    upkeep = {len(alternatives) + x: task for x, task in enumerate(upkeep_of(data, machines))}
    for j, task in enumerate(upkeep.values(), len(numbers)):
        alternatives.append([(task.machine, task.duration)])
        family.append(-1)
        op_job.append(j)
        release.append(task.earliest)
        ids.append(f"{task.id}.0")
        numbers.append((-1, task.earliest, FAR, 0))
    preds: list[Row] = [[] for _ in alternatives]
    for arc in arcs:
        preds[arc.after].append((arc.before, arc.lag))
    has_next = {arc.before for arc in arcs if op_job[arc.before] == op_job[arc.after]}
    centers = [
        within(row["work_center"], f"machine {row['id']!r}: work_center", 0, len(setup) - 1)
        for row in data["machines"]
    ]
    job_ids = [str(job["id"]) for job in data["jobs"]] + [task.id for task in upkeep.values()]
    check_unique(job_ids, "maintenance and jobs")
    return assemble(
        name=name,
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[row[2] for row in numbers],
        n_machines=len(machines),
        ops={
            "family": family,
            "release": release,
            "work_center": [
                centers[m] if {centers[x] for x, _ in row} == {centers[m]} else -1
                for m, row in ((row[0][0], row) for row in alternatives)
            ],
        },
        jobs={
            "release": [row[1] for row in numbers],
            "weight": [row[3] for row in numbers],
        },
        machines={
            "work_center": centers,
            "available": [
                within(row.get("available_from", 0), f"machine {row['id']!r}: available_from")
                for row in data["machines"]
            ],
            "family": [
                within(row.get("family", -1), f"machine {row['id']!r}: family", -1, families - 1)
                for row in data["machines"]
            ],
            "resumable": [int(bool(row.get("resumable", True))) for row in data["machines"]],
        },
        setup=setup,
        sinks=[[] if o in has_next else [j] for o, j in enumerate(op_job)],
        calendar=[
            windows(row.get("closed", []), f"machine {row['id']!r}") for row in data["machines"]
        ],
        limits=limits_of(data, first, arcs, upkeep),
        op_ids=ids,
        job_ids=job_ids,
        machine_ids=list(machines),
        work_center_ids=[str(k) for k in range(max(centers) + 1)],
    )


def _rush_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job of a rush order in document form; what imported orders write is taken too.

    Their operations have ids, which ``after`` names, and families of their own; a rush order has
    one family, by its number.
    """
    check_job(job, "event: job", is_imported=True)
    out = {key: value for key, value in job.items() if key not in ("product", "quantity")}
    rows = [dict(op) for op in job["operations"]]
    at = {str(row.pop("id")): k for k, row in enumerate(rows) if "id" in row}
    for k, row in enumerate(rows):
        what = f"job {job['id']!r} operation {k}"
        family, release = row.pop("family", None), row.pop("release", None)
        if family is not None and "family" not in job:
            raise OrderError(
                f"{what}: family {family!r}: a rush order has one family for all its operations; "
                "give the job 'family', its number among those of the changeovers, from 0"
            )
        if release is not None and release != out.get("release", release):
            raise OrderError(f"{what}: release {release!r}: give it to the job, as 'release'")
        if release is not None:
            out["release"] = release
        if at and "after" in row:
            row["after"] = [_after_of(link, at, what) for link in row["after"]]
    return out | {"operations": rows}


def _after_of(link: Any, at: Mapping[str, int], what: str) -> Any:
    """An entry of ``after`` as documents have it; imported ones are ``[id, lag, max_lag]``."""
    if not isinstance(link, list):
        return link
    before, lag, most = [*link, None, None, None][:3]
    if str(before) not in at:
        raise OrderError(f"{what}: after names operation {before!r}, there is none")
    out = {"op": at[str(before)], "lag": 0 if lag is None else lag}
    return out if most is None else out | {"max_lag": most}


def read_event(data: Mapping[str, Any]) -> Event:
    """An event document ``{"time", "kind", ...}`` in ticks as an Event; OrderError when wrong.

    ``until`` null: for good.
    """
    kind = str(data.get("kind"))
    if kind not in _EVENTS:
        raise OrderError(f"event: kind {kind!r} is unknown; known are {', '.join(_EVENTS)}")
    time = within(data.get("time"), "event: time", 0)
    payload: dict[str, Any] = {}
    if "until" in data and data["until"] is None:
        payload["until_ns"] = FAR * NS_PER_S
    elif "until" in data:
        payload["until_ns"] = within(data["until"], "event: until", time + 1) * NS_PER_S
    path = str(data.get("machine", ""))
    job = data.get("job")
    if kind == "rush_order":
        if not isinstance(job, Mapping):
            raise OrderError("event: rush_order needs a 'job' with its operations")
        payload["job"] = _rush_job(job)
        path = str(job.get("id", ""))
    elif kind in ("cancelled", "orders_changed"):
        ids = data.get("jobs", [job] if job is not None else [])
        if kind == "cancelled" and not ids:
            raise OrderError("event: cancelled needs 'job' or 'jobs'")
        payload["cancelled"] = [str(id) for id in ids]
    elif job is not None:
        path = str(job)
    elif kind == "maintenance_due":
        payload["duration_s"] = within(data.get("duration"), "event: duration", 1)
    if kind in ("maintenance_due", "breakdown", "quality_stop", "operator_absent", "late_material"):
        needed = "job" if kind == "late_material" else "machine"
        if not path or "until_ns" not in payload:
            raise OrderError(f"event: {kind} needs {needed!r} and 'until', got {dict(data)!r}")
    return Event(time_ns=time * NS_PER_S, kind=_EVENTS[kind], path=path, payload=payload)
