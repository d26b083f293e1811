"""A plan: machine, start and end of every operation; its JSON form and the job orders it means."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import OrderError
from workshop_brain.model.order import JobOrder
from workshop_brain.schedule.structure import FAR, OpStatus, Problem

Ints = NDArray[np.int64]
FORMAT = "workshop-plan/1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Timing of all operations of one problem, ticks; shape (n_ops,) each.

    Attributes
    ----------
    machine
        Machine index; -1 when the operation is not planned (cancelled, or not yet).
    setup_start
        When the changeover before the operation begins; equal to ``start`` or the machine's free
        instant when there is none.
    """

    machine: Ints
    start: Ints
    end: Ints
    setup_start: Ints

    def sequence(self, machine: int) -> Ints:
        """Operations of a machine in the order of their starts."""
        ops = np.flatnonzero(self.machine == machine)
        return ops[np.lexsort((ops, self.end[ops], self.start[ops]))]

    def fingerprint(self) -> str:
        """SHA-256 of machines and times: equal plans have equal fingerprints."""
        digest = hashlib.sha256()
        for values in (self.machine, self.start, self.end):
            digest.update(np.ascontiguousarray(values, "<i8").tobytes())
        return digest.hexdigest()

    def to_json(self, problem: Problem) -> dict[str, Any]:
        """The plan with names; ``operation`` counts within the job in file order, from 0."""
        seen: dict[int, int] = {}
        rows = []
        for o in range(problem.n_ops):
            job = int(problem.op_job[o])
            position = seen.get(job, 0)
            seen[job] = position + 1
            if self.machine[o] < 0:
                continue
            rows.append(
                {
                    "op": problem.op_ids[o],
                    "job": problem.job_ids[job],
                    "operation": position,
                    "machine": problem.machine_ids[self.machine[o]],
                    "start": int(self.start[o]),
                    "end": int(self.end[o]),
                    "setup_start": int(self.setup_start[o]),
                }
            )
        return {
            "format": FORMAT,
            "name": problem.name,
            "origin_ns": str(problem.origin_ns),
            "operations": rows,
        }

    def rows(self, problem: Problem) -> list[dict[str, Any]]:
        """The plan as the command line prints it: ``{job, op, machine, start, end, setup_start}``.

        ``op`` counts within the job from 0; where a file numbers its operations through, it is
        that number. Numbers of a file are numbers here, machines of benchmark files count from 0.
        """
        is_numbered = all(id.isdecimal() for id in problem.op_ids)
        return [
            {
                "job": _number(row["job"]),
                "op": int(row["op"]) if is_numbered else row["operation"],
                "machine": _number(row["machine"]),
                **{key: row[key] for key in ("start", "end", "setup_start")},
            }
            for row in self.to_json(problem)["operations"]
        ]

    @classmethod
    def from_json(cls, problem: Problem, data: Mapping[str, Any]) -> "Plan":
        """Read a plan back; rows name ``op`` (id), ``job`` and ``op`` or ``job`` and ``operation``.

        Raises
        ------
        OrderError
            A row names an unknown operation or machine, or lacks a number.
        """
        ops, machines = plan_names(problem)
        out = unplanned(problem)
        shift = (int(data.get("origin_ns", problem.origin_ns)) - problem.origin_ns) // 10**9
        for k, row in enumerate(plan_rows(data)):
            key = _op_key(row, ops)
            o, m = ops.get(key, -1), machines.get(str(row.get("machine")), -1)
            if o < 0 or m < 0:
                what = _unknown(problem, row) if o < 0 else f"machine {row.get('machine')!r}"
                raise OrderError(f"plan: operations[{k}]: no {what} in the problem")
            if out.machine[o] >= 0:
                raise OrderError(
                    f"plan: operations[{k}]: operation {problem.op_ids[o]!r} stands twice"
                )
            times = [row.get("start"), row.get("end"), row.get("setup_start", row.get("start"))]
            if not all(_is_tick(t) for t in times):
                raise OrderError(
                    f"plan: operations[{k}]: start and end must be whole numbers, got {row!r}"
                )
            start, end, setup_start = (int(t) + shift for t in times)
            out.machine[o], out.start[o], out.end[o] = m, start, end
            out.setup_start[o] = setup_start
        return out


def plan_rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a plan document; OrderError when it has none."""
    inner = data.get("plan", data)
    rows = inner.get("operations") if isinstance(inner, Mapping) else inner
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise OrderError(
            "plan: must be a list of {job, op, machine, start, end}, or have one as 'plan'"
        )
    return rows


def _op_key(row: Mapping[str, Any], ops: Mapping[Any, int]) -> Any:
    """What names the operation of a row among ``plan_names``."""
    if "operation" in row and "op" not in row:
        return (str(row.get("job")), row["operation"])
    op = row.get("op")
    if isinstance(op, int) and "job" in row and (str(row["job"]), op) in ops and str(op) not in ops:
        return (str(row["job"]), op)
    return str(op)


def _unknown(problem: Problem, row: Mapping[str, Any]) -> str:
    """What a row names that the problem does not have: its job, or the operation."""
    if "job" in row and str(row["job"]) not in problem.job_ids:
        return f"job {row['job']!r}"
    op = row.get("op", row.get("operation"))
    if "job" not in row:
        return f"operation {op!r}"
    count = problem.op_job.tolist().count(problem.job(str(row["job"])))
    return f"operation {op!r} of job {row['job']!r}, which has {count} (counted from 0),"


def _is_tick(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool) and abs(value) < FAR


def _number(id: str) -> int | str:
    return int(id) if id.isdecimal() and str(int(id)) == id else id


def plan_names(problem: Problem) -> tuple[dict[Any, int], dict[str, int]]:
    """Operation index by id and by (job, position); machine index by id."""
    ops: dict[Any, int] = {}
    seen: dict[int, int] = {}
    for o, id in enumerate(problem.op_ids):
        job = int(problem.op_job[o])
        ops[(problem.job_ids[job], seen.get(job, 0))] = o
        seen[job] = seen.get(job, 0) + 1
        ops[id] = o
    return ops, {id: m for m, id in enumerate(problem.machine_ids)}


def unplanned(problem: Problem) -> Plan:
    """A plan in which nothing is placed yet (machine -1 everywhere)."""
    n = problem.n_ops
    return Plan(
        machine=np.full(n, -1, np.int64),
        start=np.full(n, -1, np.int64),
        end=np.full(n, -1, np.int64),
        setup_start=np.full(n, -1, np.int64),
    )


def carry(old: Problem, plan: Plan, new: Problem) -> Plan:
    """The plan of an older problem on a newer one, matched by operation id.

    Operations that the old plan does not know stay unplanned (machine -1); ``react`` places them.
    """
    out = unplanned(new)
    where = {id: o for o, id in enumerate(old.op_ids)}
    machines = {id: m for m, id in enumerate(new.machine_ids)}
    shift = (old.origin_ns - new.origin_ns) // 10**9
    for o, id in enumerate(new.op_ids):
        k = where.get(id, -1)
        if k < 0 or plan.machine[k] < 0:
            continue
        out.machine[o] = machines.get(old.machine_ids[plan.machine[k]], -1)
        out.start[o], out.end[o] = plan.start[k] + shift, plan.end[k] + shift
        out.setup_start[o] = plan.setup_start[k] + shift
    return out


def job_orders(problem: Problem, plan: Plan, ops: Sequence[int] | None = None) -> list[JobOrder]:
    """Job orders for the given operations (left out: all that have not started), by start.

    The priority is the position on the machine, so that the receiver keeps the sequence.
    """
    if ops is None:
        ops = [
            o
            for o in range(problem.n_ops)
            if problem.op_status[o] in (OpStatus.FREE, OpStatus.LOCKED) and plan.machine[o] >= 0
        ]
    rank = np.zeros(problem.n_ops, np.int64)
    for m in range(problem.n_machines):
        sequence = plan.sequence(m)
        rank[sequence] = np.arange(len(sequence))
    return [
        JobOrder(
            id=problem.op_ids[o],
            requests=problem.op_requests[o],
            work_center=problem.work_center_ids[problem.op_work_center[o]],
            equipment=problem.machine_ids[plan.machine[o]],
            product=problem.op_product[o],
            program=problem.op_program[o],
            quantity=int(problem.op_quantity[o]),
            start_ns=problem.time_ns(int(plan.start[o])),
            end_ns=problem.time_ns(int(plan.end[o])),
            priority=int(rank[o]),
        )
        for o in sorted(ops, key=lambda o: (int(plan.start[o]), o))
    ]
