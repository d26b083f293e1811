"""Benchmark files and plain documents as problems: fjsp, jsp, sdst, fajsp, fsp, reactive-fjsp/1."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.structure import FAR, Problem, assemble
from workshop_brain.units import NS_PER_S

FORMATS = ("fjsp", "jsp", "sdst", "fajsp", "fsp", "json")
NOT_ALLOWED = 1_000_000
"""Setup entries at or above this in sdst files mean: the operation cannot run there."""
_EVENTS = {
    "breakdown": EventKind.BREAKDOWN,
    "quality_stop": EventKind.QUALITY_STOP,
    "operator_absent": EventKind.OPERATOR_ABSENT,
    "restored": EventKind.RESTORED,
    "operator_back": EventKind.OPERATOR_BACK,
    "rush_order": EventKind.RUSH_ORDER,
    "late_material": EventKind.LATE_MATERIAL,
    "late_finish": EventKind.LATE_FINISH,
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
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise OrderError(
            f"{name or format}: does not follow the {format} format: {error!r}"
        ) from error


def guess_format(name: str, text: str) -> str:
    """Format by the folder or extension in a file name, else by what the text looks like.

    >>> guess_format("fjsp/mk01.txt", "10 6 2"), guess_format("x", '{"format": 1}')
    ('fjsp', 'json')
    """
    if text.lstrip().startswith("{"):
        return "json"
    lowered = name.replace("\\", "/").lower()
    for key, format in (
        ("sdst", "sdst"), ("fajsp", "fajsp"), ("dafjs", "fajsp"), ("fjsp", "fjsp"),
        (".fjs", "fjsp"), ("fsp", "fsp"), ("vrf", "fsp"), ("vfr", "fsp"), ("jsp", "jsp"),
    ):  # fmt: skip
        if key in lowered:
            return format
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if rows and len(rows[0]) == 3 and len(rows) > 1 and len(rows[1]) == 2:
        return "fajsp"
    if rows and len(rows[0]) >= 3:
        return "fjsp"
    return "jsp"


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
            return int(word)
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
            for m, duration in row:
                if not 0 <= m < count or duration < 0:
                    raise OrderError(
                        f"job {j} operation {k}: machine {m} with duration {duration} is not "
                        f"within {count} machines and durations >= 0"
                    )
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
    return _chains(_flexible_jobs(lines[1:], n_jobs, 1), machines, name)


def _jsp(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n_jobs, machines = head.next(), head.next()
    if len(lines) - 1 < n_jobs:
        raise OrderError(f"{n_jobs} jobs are announced, {len(lines) - 1} lines follow")
    jobs: list[list[Row]] = []
    for number, words in lines[1 : n_jobs + 1]:
        numbers = _Numbers(words, f"line {number}")
        rows: list[Row] = []
        while numbers.more:
            m, duration = numbers.next(), numbers.next()
            if m < 0:
                break
            rows.append([(m, duration)])
        jobs.append(rows)
    return _chains(jobs, machines, name)


def _sdst(text: str, name: str) -> Problem:
    lines = _lines(text)
    head = _Numbers(lines[0][1], f"line {lines[0][0]}")
    n_jobs, machines = head.next(), head.next()
    jobs = _flexible_jobs(lines[1:], n_jobs, 1)
    n = sum(len(rows) for rows in jobs)
    values = [int(word) for _, words in lines[1 + n_jobs :] for word in words]
    if len(values) != machines * n * n:
        raise OrderError(
            f"{machines} setup matrices of {n} x {n} are expected, got {len(values)} numbers"
        )
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
    if len(lines) < 1 + arcs + n:
        raise OrderError(f"{arcs} precedences and {n} operations are announced, lines are missing")
    preds: list[Row] = [[] for _ in range(n)]
    has_succ = [False] * n
    for number, words in lines[1 : 1 + arcs]:
        numbers = _Numbers(words, f"line {number}")
        before, after = numbers.next(), numbers.next()
        preds[after].append((before, 0))
        has_succ[before] = True
    alternatives: list[Row] = []
    for number, words in lines[1 + arcs : 1 + arcs + n]:
        numbers = _Numbers(words, f"line {number}")
        count = numbers.next()
        alternatives.append([(numbers.next(), numbers.next()) for _ in range(count)])
    ends = [o for o in range(n) if not has_succ[o]]
    job_of = {o: j for j, o in enumerate(ends)}
    succ: list[int] = [-1] * n
    for after in range(n):
        for before, _ in preds[after]:
            succ[before] = after

    def job(o: int) -> int:
        while o not in job_of:
            o = succ[o]
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
    if not isinstance(data, dict) or data.get("format") != "reactive-fjsp/1":
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise OrderError(f"format must be 'reactive-fjsp/1', got {found!r}")
    return document_problem(data, name or str(data.get("name", "")))


def job_rows(job: Mapping[str, Any], machines: Mapping[str, int]) -> list[Row]:
    """Alternatives of the operations of one document job, machines by their ids."""
    rows = []
    for k, op in enumerate(job["operations"]):
        row: Row = []
        for m, duration in op["alternatives"]:
            if str(m) not in machines:
                raise OrderError(f"job {job.get('id')!r} operation {k}: no machine {m!r}")
            if not isinstance(duration, int) or duration < 0:
                raise OrderError(
                    f"job {job.get('id')!r} operation {k}: duration must be a whole number "
                    f">= 0, got {duration!r}"
                )
            row.append((machines[str(m)], duration))
        rows.append(row)
    if not rows:
        raise OrderError(f"job {job.get('id')!r}: has no operations")
    return rows


def document_problem(data: Mapping[str, Any], name: str = "") -> Problem:
    """The problem of a parsed reactive-fjsp/1 document."""
    machines = {str(row["id"]): m for m, row in enumerate(data["machines"])}
    if len(machines) != len(data["machines"]):
        raise OrderError("machines: an id stands twice")
    setup: NDArray[np.int64] = np.array(data["setup"], np.int64)
    alternatives: list[Row] = []
    preds: list[Row] = []
    family, op_job, release, ids = [], [], [], []
    for j, job in enumerate(data["jobs"]):
        for k, row in enumerate(job_rows(job, machines)):
            preds.append([(len(alternatives) - 1, 0)] if k else [])
            alternatives.append(row)
            family.append(int(job["family"]))
            op_job.append(j)
            release.append(int(job["release"]))
            ids.append(f"{job['id']}.{k}")
    centers = [int(row["work_center"]) for row in data["machines"]]
    first = [row[0][0] if row else 0 for row in alternatives]
    return assemble(
        name=name,
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[int(job.get("due", FAR)) for job in data["jobs"]],
        n_machines=len(machines),
        ops={
            "family": family,
            "release": release,
            "work_center": [
                centers[m] if {centers[x] for x, _ in row} == {centers[m]} else -1
                for m, row in zip(first, alternatives, strict=True)
            ],
        },
        jobs={
            "release": [int(job["release"]) for job in data["jobs"]],
            "weight": [int(job.get("weight", 1)) for job in data["jobs"]],
        },
        machines={
            "work_center": centers,
            "available": [int(row.get("available_from", 0)) for row in data["machines"]],
            "family": [int(row.get("family", -1)) for row in data["machines"]],
        },
        setup=setup,
        op_ids=ids,
        job_ids=[str(job["id"]) for job in data["jobs"]],
        machine_ids=list(machines),
        work_center_ids=[str(k) for k in range(max(centers) + 1)],
    )


def read_event(data: Mapping[str, Any]) -> Event:
    """An event document ``{"time", "kind", ...}`` in ticks as an Event; OrderError when wrong."""
    kind = str(data.get("kind"))
    if kind not in _EVENTS:
        raise OrderError(f"event: kind {kind!r} is unknown; known are {', '.join(_EVENTS)}")
    time = data.get("time")
    if not isinstance(time, int) or isinstance(time, bool):
        raise OrderError(f"event: time must be a whole number, got {time!r}")
    payload: dict[str, Any] = {}
    if "until" in data:
        if not isinstance(data["until"], int):
            raise OrderError(f"event: until must be a whole number, got {data['until']!r}")
        payload["until_ns"] = data["until"] * NS_PER_S
    path = str(data.get("machine", ""))
    job = data.get("job")
    if kind == "rush_order":
        if not isinstance(job, Mapping):
            raise OrderError("event: rush_order needs a 'job' with its operations")
        payload["job"] = dict(job)
        path = str(job.get("id", ""))
    elif kind in ("cancelled", "orders_changed"):
        ids = data.get("jobs", [job] if job is not None else [])
        payload["cancelled"] = [str(id) for id in ids]
    elif job is not None:
        path = str(job)
    if kind in ("breakdown", "quality_stop", "operator_absent", "late_material"):
        needed = "job" if kind == "late_material" else "machine"
        if not path or "until_ns" not in payload:
            raise OrderError(f"event: {kind} needs {needed!r} and 'until', got {dict(data)!r}")
    return Event(time_ns=time * NS_PER_S, kind=_EVENTS[kind], path=path, payload=payload)
