"""Limits in a reactive-fjsp/1 document: tools, operators, lags, buffers, maintenance, tariff."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from workshop_brain.errors import OrderError
from workshop_brain.schedule.calendars import merge
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool, Windows
from workshop_brain.schedule.structure import FAR, NEVER_S, Ints, OpStatus, Problem

MOST = 10**12
"""Largest number that a document may hold, ticks."""
_TOP = ("tools", "operators", "buffers", "tariff", "maintenance")
_OF_JOB = ("deadline",)
_OF_OP = (
    "max_lag", "buffer", "tools", "skills", "setup_tools", "setup_skills", "deadline", "size",
)  # fmt: skip
_OF_MACHINE = ("tools", "skills", "setup_tools", "setup_skills", "power_kw", "batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """A precedence of a document: ``lag <= start of after - end of before <= max_lag``."""

    before: int
    after: int
    lag: int = 0
    max_lag: int | None = None
    buffer: str = ""


@dataclass(slots=True, kw_only=True)
class Upkeep:
    """Maintenance of a document that the plan may put where it suits."""

    id: str
    machine: int
    duration: int
    earliest: int
    latest: int


@dataclass(slots=True, kw_only=True)
class _Needs:
    """Needs and deadlines as they are read."""

    op: list[tuple[int, str, int]] = field(default_factory=list)
    op_setup: list[tuple[int, str, int]] = field(default_factory=list)
    machine: list[tuple[int, str, int]] = field(default_factory=list)
    machine_setup: list[tuple[int, str, int]] = field(default_factory=list)
    deadlines: list[tuple[int, int]] = field(default_factory=list)


def whole(value: Any, what: str, low: int = 0, high: int = MOST) -> int:
    """A whole number within its range; OrderError names it otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OrderError(f"{what} must be a whole number from {low} to {high}, got {value!r}")
    return value


def windows(value: Any, what: str) -> tuple[tuple[int, int], ...]:
    """Closed windows ``[[from, to], ...]``, each longer than nothing, none over another."""
    out: list[tuple[int, int]] = []
    for row in value if isinstance(value, list) else [value]:
        if not isinstance(row, list) or len(row) != 2:
            raise OrderError(f"{what}: closed must be a list of [from, to], got {value!r}")
        low = whole(row[0], f"{what}: closed from", -MOST)
        out.append((low, whole(row[1], f"{what}: closed to", low + 1)))
    out.sort()
    for before, after in pairwise(out):
        if after[0] < before[1]:
            raise OrderError(f"{what}: closed windows {before} and {after} overlap; join them")
    return tuple(out)


def arcs_of(jobs: Sequence[Mapping[str, Any]], first: Sequence[int]) -> list[Arc]:
    """Precedences of all jobs: each operation follows the one before it, or what ``after`` names.

    Parameters
    ----------
    first
        Index of the first operation of each job.
    """
    job_at = {str(job["id"]): j for j, job in enumerate(jobs)}
    out = []
    for j, job in enumerate(jobs):
        for k, op in enumerate(job["operations"]):
            what = f"job {job.get('id')!r} operation {k}"
            rows = op.get("after", [k - 1] if k else [])
            if not isinstance(rows, list):
                raise OrderError(f"{what}: after must be a list, got {rows!r}")
            seen: set[int] = set()
            for row in rows:
                own = {**op, **row} if isinstance(row, Mapping) else op
                of = j
                if isinstance(row, Mapping) and "job" in row:
                    of = job_at.get(str(row["job"]), -1)
                    if of < 0:
                        raise OrderError(f"{what}: after names job {row['job']!r}, there is none")
                number = row.get("op") if isinstance(row, Mapping) else row
                before = first[of] + whole(
                    number, f"{what}: after", 0, len(jobs[of]["operations"]) - 1
                )
                if before in seen or before == first[j] + k:
                    raise OrderError(f"{what}: after names operation {number!r} twice or itself")
                seen.add(before)
                most = own.get("max_lag")
                out.append(
                    Arc(
                        before=before,
                        after=first[j] + k,
                        lag=whole(own.get("lag", 0), f"{what}: lag"),
                        max_lag=None if most is None else whole(most, f"{what}: max_lag"),
                        buffer=str(own.get("buffer", "")),
                    )
                )
    return out


def upkeep_of(data: Mapping[str, Any], machines: Mapping[str, int]) -> list[Upkeep]:
    """Maintenance rows of a document."""
    out = []
    for row in data.get("maintenance", []):
        what = f"maintenance {row.get('id')!r}"
        if str(row.get("machine")) not in machines:
            raise OrderError(f"{what}: no machine {row.get('machine')!r}")
        earliest = whole(row.get("earliest", 0), f"{what}: earliest")
        duration = whole(row.get("duration"), f"{what}: duration", 1)
        out.append(
            Upkeep(
                id=str(row["id"]),
                machine=machines[str(row["machine"])],
                duration=duration,
                earliest=earliest,
                latest=whole(row.get("latest"), f"{what}: latest", earliest + duration),
            )
        )
    return out


def limits_of(
    data: Mapping[str, Any],
    first: Sequence[int],
    arcs: Sequence[Arc],
    upkeep: Mapping[int, Upkeep],
) -> Limits | None:
    """Limits of a document; None when it has none.

    Parameters
    ----------
    first
        Index of the first operation of each job.
    upkeep
        Maintenance by its operation.
    """
    jobs = data["jobs"]
    has_any = any(key in data for key in _TOP)
    has_any |= any(key in job for job in jobs for key in _OF_JOB)
    has_any |= any(key in op for job in jobs for op in job["operations"] for key in _OF_OP)
    has_any |= any(key in row for row in data["machines"] for key in _OF_MACHINE)
    if not has_any and not any(arc.max_lag is not None or arc.buffer for arc in arcs):
        return None
    needs = _Needs()
    for m, row in enumerate(data["machines"]):
        what = f"machine {row.get('id')!r}"
        for key in ("tools", "skills"):
            needs.machine += [(m, name, q) for name, q in _named(row.get(key, []), what, key)]
            setup = _named(row.get(f"setup_{key}", []), what, f"setup_{key}")
            needs.machine_setup += [(m, name, q) for name, q in setup]
    for j, job in enumerate(jobs):
        _read_job(needs, first[j], job)
    needs.deadlines += [(o, row.latest) for o, row in upkeep.items()]
    return Limits(
        tools=tuple(
            Tool(
                id=str(row["id"]),
                quantity=whole(row.get("quantity", 1), f"tool {row['id']!r}: quantity", 1),
                closed=windows(row.get("closed", []), f"tool {row['id']!r}"),
            )
            for row in data.get("tools", [])
        ),
        operators=tuple(
            Operator(
                id=str(row["id"]),
                skills=tuple(str(skill) for skill in row["skills"]),
                closed=windows(row.get("closed", []), f"operator {row['id']!r}"),
            )
            for row in data.get("operators", [])
        ),
        buffers=tuple(
            Buffer(id=str(row["id"]), capacity=whole(row.get("capacity"), f"buffer {row['id']!r}"))
            for row in data.get("buffers", [])
        ),
        op_needs=tuple(needs.op),
        machine_needs=tuple(needs.machine),
        op_setup_needs=tuple(needs.op_setup),
        machine_setup_needs=tuple(needs.machine_setup),
        max_lags=tuple((a.before, a.after, a.max_lag) for a in arcs if a.max_lag is not None),
        buffered=tuple((a.before, a.after, a.buffer) for a in arcs if a.buffer),
        deadlines=tuple(needs.deadlines),
        tariff=tuple(
            (whole(row[0], "tariff: from"), _price(row[1], "tariff: price"))
            for row in data.get("tariff", [])
        ),
        power_kw=tuple(
            _price(row.get("power_kw", 0), f"machine {row.get('id')!r}: power_kw")
            for row in data["machines"]
        ),
        **_batches(data, first, arcs),
    )


def _batches(
    data: Mapping[str, Any], first: Sequence[int], arcs: Sequence[Arc]
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Batch machines and the sizes of lots; OrderError where no load could ever be formed."""
    at = {str(row["id"]): m for m, row in enumerate(data["machines"])}
    room = {
        m: whole(row["batch"], f"machine {row['id']!r}: batch", 1)
        for m, row in enumerate(data["machines"])
        if row.get("batch") is not None
    }
    waiting = {arc.before for arc in arcs if arc.buffer}
    sizes = dict(row for j, job in enumerate(data["jobs"]) for row in _sizes(job, first[j]))
    for j, job in enumerate(data["jobs"]):
        for k, op in enumerate(job["operations"]):
            what, o = f"job {job.get('id')!r} operation {k}", first[j] + k
            size = sizes.get(o, 1)
            rooms = {str(m): room[at[str(m)]] for m, _ in op["alternatives"] if at[str(m)] in room}
            for name, most in rooms.items():
                if size > most:
                    raise OrderError(
                        f"{what}: size {size} is more than machine {name!r} holds, {most}"
                    )
                if o in waiting:
                    raise OrderError(
                        f"{what}: runs on batch machine {name!r}, its lot cannot wait in a buffer; "
                        "take out buffer behind it"
                    )
    for m in room:
        row = data["machines"][m]
        tables = data.get("setup") or []
        table = int(row["table"] if "table" in row else row["work_center"])
        if tables and any(line[f] for f, line in enumerate(tables[table])):
            raise OrderError(
                f"setup: a changeover of batch machine {data['machines'][m]['id']!r} from a family "
                "to itself must be 0; add it to the durations"
            )
    return {"batches": tuple(sorted(room.items())), "sizes": tuple(sorted(sizes.items()))}


def with_job_limits(
    limits: Limits | None, job: Mapping[str, Any], first: int, arcs: Sequence[Arc]
) -> Limits | None:
    """The limits with those of one more job; the same when the job has none.

    Parameters
    ----------
    first
        Index of the job's first operation; its ``arcs`` count likewise.
    """
    needs = _Needs()
    _read_job(needs, first, job)
    max_lags = tuple((a.before, a.after, a.max_lag) for a in arcs if a.max_lag is not None)
    buffered = tuple((a.before, a.after, a.buffer) for a in arcs if a.buffer)
    sizes = _sizes(job, first)
    if not (needs.op or needs.op_setup or needs.deadlines or max_lags or buffered or sizes):
        return limits
    old = limits or Limits()
    return replace(
        old,
        op_needs=(*old.op_needs, *needs.op),
        op_setup_needs=(*old.op_setup_needs, *needs.op_setup),
        deadlines=(*old.deadlines, *needs.deadlines),
        max_lags=(*old.max_lags, *max_lags),
        buffered=(*old.buffered, *buffered),
        sizes=(*old.sizes, *sizes),
    )


def _sizes(job: Mapping[str, Any], first: int) -> list[tuple[int, int]]:
    """What the operations of a job take of a load, where it is more than 1."""
    rows = [
        (first + k, whole(op.get("size", 1), f"job {job.get('id')!r} operation {k}: size", 1))
        for k, op in enumerate(job["operations"])
    ]
    return [row for row in rows if row[1] > 1]


def _read_job(needs: _Needs, first: int, job: Mapping[str, Any]) -> None:
    for k, op in enumerate(job["operations"]):
        _read_op(needs, first + k, op, f"job {job.get('id')!r} operation {k}")
    if job.get("deadline") is not None:
        latest = whole(job["deadline"], f"job {job.get('id')!r}: deadline")
        needs.deadlines += [(first + k, latest) for k in range(len(job["operations"]))]


def _read_op(needs: _Needs, o: int, op: Mapping[str, Any], what: str) -> None:
    for key in ("tools", "skills"):
        needs.op += [(o, name, q) for name, q in _named(op.get(key, []), what, key)]
        setup = _named(op.get(f"setup_{key}", []), what, f"setup_{key}")
        needs.op_setup += [(o, name, q) for name, q in setup]
    if op.get("deadline") is not None:
        needs.deadlines.append((o, whole(op["deadline"], f"{what}: deadline")))


def _named(value: Any, what: str, key: str) -> list[tuple[str, int]]:
    """``["a", "b"]`` or ``{"a": 2}`` as names and quantities."""
    if isinstance(value, Mapping):
        return [(str(name), whole(q, f"{what}: {key} {name!r}", 1)) for name, q in value.items()]
    if not isinstance(value, list):
        raise OrderError(f"{what}: {key} must be a list of names or {{name: quantity}}")
    return [(str(name), 1) for name in value]


def _price(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise OrderError(f"{what} must be a number of 0 or more, got {value!r}")
    return float(value)


def in_sight(problem: Problem) -> Problem:
    """The problem in which nothing waits for what is closed for more than a year.

    Machines that are so from the beginning leave the alternatives where there are others. What else
    depends on a machine, person or tool that closes for so long gets the end of that as a deadline:
    whoever cannot be done before is named, and does not end up after it.
    """
    if not problem.n_ops:
        return problem
    machines, needs = back_at(problem)
    latest = np.minimum(machines, needs)
    rows = np.repeat(np.arange(problem.n_ops), np.diff(problem.alt_ptr))
    begin = _begin(problem)
    never = [m for m, row in enumerate(problem.calendar) if _from(row, begin) <= begin]
    kept = ~np.isin(problem.alt_machine, never) | (machines < FAR)[rows]
    if not kept.all():
        ptr = np.zeros(problem.n_ops + 1, np.int64)
        np.cumsum(np.bincount(rows[kept], minlength=problem.n_ops), out=ptr[1:])
        problem = problem.with_(
            alt_ptr=ptr,
            alt_machine=np.ascontiguousarray(problem.alt_machine[kept]),
            alt_duration=np.ascontiguousarray(problem.alt_duration[kept]),
        )
    ops = np.flatnonzero((latest < FAR) & (problem.op_status == OpStatus.FREE)).tolist()
    if not ops:
        return problem
    limits = problem.limits or Limits()
    deadlines = (*limits.deadlines, *((o, int(latest[o])) for o in ops))
    return problem.with_(limits=replace(limits, deadlines=deadlines))


def back_at(problem: Problem) -> tuple[Ints, Ints]:
    """When operations could go on that wait for what is closed for more than a year.

    Returns
    -------
    machines, needs : shape (n_ops,)
        The tick at which the first of its machines, and the last of its people and tools, is back;
        FAR when one of the machines, or all of the people and tools, are never away for so long.
    """
    begin, limits = _begin(problem), problem.limits
    back = np.array([_until(row, begin) for row in problem.calendar], np.int64)
    machines = np.full(problem.n_ops, FAR, np.int64)
    needs = machines.copy()
    if (back < FAR).any():
        away = np.where(back < FAR, back, -1)[problem.alt_machine]
        has_open = np.minimum.reduceat(away, problem.alt_ptr[:-1]) < 0
        first = np.minimum.reduceat(back[problem.alt_machine], problem.alt_ptr[:-1])
        machines = np.where(has_open, FAR, first)
    if limits is None:
        return machines, needs
    tools = {tool.id: _until(tool.closed, begin) for tool in limits.tools}
    people = {operator.id: _until(operator.closed, begin) for operator in limits.operators}
    if min((*tools.values(), *people.values()), default=FAR) == FAR:
        return machines, needs
    able = {
        skill: sorted((people[x.id] for x in limits.operators if skill in x.skills), reverse=True)
        for skill in limits.skills
    }
    for o, name, quantity in (*limits.op_needs, *limits.op_setup_needs):
        back_then = tools[name] if name in tools else able[name][quantity - 1]
        needs[o] = min(int(needs[o]), back_then)
    at = np.full(problem.n_machines, FAR, np.int64)
    for m, name, quantity in (*limits.machine_needs, *limits.machine_setup_needs):
        back_then = tools[name] if name in tools else able[name][quantity - 1]
        at[m] = min(int(at[m]), back_then)
    if (at < FAR).any():
        by_machine = np.maximum.reduceat(at[problem.alt_machine], problem.alt_ptr[:-1])
        needs = np.minimum(needs, by_machine)
    return machines, needs


def _begin(problem: Problem) -> int:
    """The first tick at which anything could be done."""
    first = int(problem.op_release.min(initial=FAR))
    return max(first, int(problem.machine_available.min(initial=FAR)), problem.now)


def _long(rows: Windows, begin: int) -> tuple[int, int]:
    """The first closed window of more than a year from the beginning on; FAR, FAR without one."""
    long = (row for row in merge(rows) if row[1] - max(row[0], begin) > NEVER_S)
    return next(long, (FAR, FAR))


def _from(rows: Windows, begin: int) -> int:
    return _long(rows, begin)[0]


def _until(rows: Windows, begin: int) -> int:
    return _long(rows, begin)[1]
