"""The scheduling problem as a structure of arrays.

All instants are ticks: whole seconds after ``origin_ns`` (plain integers for benchmark files).
Ragged lists are CSR: entries of row i are ``[ptr[i], ptr[i + 1])``. All integers are int64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import merge
from workshop_brain.schedule.limits import Limits, check
from workshop_brain.units import NS_PER_S

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FAR = 1 << 50
"""A tick later than any other: no due date, never."""
NEVER_S = 366 * 24 * 3600
"""What stays away for longer does not come back within what is planned."""
_TOLD = 8
"""Most operations of a cycle that are named."""


class OpStatus(IntEnum):
    """What may still be done with an operation."""

    FREE = 0
    LOCKED = 1
    RUNNING = 2
    DONE = 3
    CANCELLED = 4


class Arrays(NamedTuple):
    """The columns that kernels read; the same names as in Problem."""

    now: int
    op_job: Ints
    op_family: Ints
    op_release: Ints
    op_tail: Ints
    op_status: Ints
    op_fixed_machine: Ints
    op_fixed_start: Ints
    op_fixed_from: Ints
    op_fixed_work: Ints
    op_order: Ints
    alt_ptr: Ints
    alt_machine: Ints
    alt_duration: Ints
    pred_ptr: Ints
    pred_op: Ints
    pred_lag: Ints
    succ_ptr: Ints
    succ_op: Ints
    succ_lag: Ints
    job_due: Ints
    job_weight: Ints
    job_sink_ptr: Ints
    job_sink_op: Ints
    sink_ptr: Ints
    sink_job: Ints
    machine_work_center: Ints
    machine_available: Ints
    machine_family: Ints
    machine_resumable: Ints
    closed_ptr: Ints
    closed_start: Ints
    closed_end: Ints
    setup: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One scheduling problem. Make it with :func:`assemble`, vary it with :meth:`with_`.

    Attributes
    ----------
    now
        Tick at which the statuses are true; FREE operations start at or after it.
    op_job : shape (n_ops,)
        Index of the (most urgent) job served.
    op_family
        Setup family, an index within the tables of ``setup``; -1 = it leaves what is set up as it
        is and needs no changeover (maintenance).
    op_work_center
        Index into ``work_center_ids``; -1 when the alternatives span several.
    op_release
        Earliest start.
    op_tail
        Ticks from the end of the operation until the job has it (line transit), >= 0.
    op_status
        See OpStatus. Operations that are not FREE stand first on their machines.
    op_fixed_machine, op_fixed_start
        Machine and start of operations that are not FREE; -1 otherwise.
    op_fixed_from, op_fixed_work
        They end when ``op_fixed_work`` ticks begun at ``op_fixed_from`` are done (closed time
        pauses them): so partly done work needs no new model.
    op_order
        A topological order of the operations.
    alt_ptr, alt_machine, alt_duration
        Allowed machines and the durations there, at least one for each operation.
    pred_ptr, pred_op, pred_lag (and succ_*)
        ``start >= end of pred + lag``; the lag holds transport and transit.
    job_due, job_weight, job_release : shape (n_jobs,)
        Due FAR means none; weight >= 0.
    job_sink_ptr, job_sink_op (and sink_ptr, sink_job the other way)
        Operations that finish a job: it is complete at ``max(end + op_tail)``.
    machine_work_center
        Which table of ``setup`` holds for the machine.
    machine_available, machine_family
        Free from this tick with this family set up; family -1 = the first needs no setup.
    machine_resumable
        1 where work pauses over closed time and resumes; 0 where it must run in one piece.
    calendar : per machine, planned closed intervals; ``downs``: (machine, from, until) on top.
    closed_ptr, closed_start, closed_end
        Union of both.
    setup : shape (tables, families, families)
    op_requests
        ``(request, pieces)`` served by each operation; its pieces are ``op_quantity``.
    target
        "tardiness" or "makespan" (benchmark files without due dates).
    limits
        Tools, operators, maximum lags, buffers, deadlines and power; None = there are none, and
        the fast kernels are used.
    """

    name: str = ""
    origin_ns: int = 0
    now: int = 0
    target: str = "tardiness"
    op_job: Ints
    op_family: Ints
    op_work_center: Ints
    op_release: Ints
    op_tail: Ints
    op_status: Ints
    op_fixed_machine: Ints
    op_fixed_start: Ints
    op_fixed_from: Ints
    op_fixed_work: Ints
    op_quantity: Ints
    op_order: Ints
    alt_ptr: Ints
    alt_machine: Ints
    alt_duration: Ints
    pred_ptr: Ints
    pred_op: Ints
    pred_lag: Ints
    succ_ptr: Ints
    succ_op: Ints
    succ_lag: Ints
    job_release: Ints
    job_due: Ints
    job_weight: Ints
    job_sink_ptr: Ints
    job_sink_op: Ints
    sink_ptr: Ints
    sink_job: Ints
    machine_work_center: Ints
    machine_available: Ints
    machine_family: Ints
    machine_resumable: Ints
    calendar: tuple[tuple[tuple[int, int], ...], ...]
    downs: tuple[tuple[int, int, int], ...] = ()
    closed_ptr: Ints
    closed_start: Ints
    closed_end: Ints
    setup: NDArray[np.int64]
    op_ids: tuple[str, ...]
    job_ids: tuple[str, ...]
    machine_ids: tuple[str, ...]
    work_center_ids: tuple[str, ...]
    op_requests: tuple[tuple[tuple[str, int], ...], ...] = ()
    op_product: tuple[str, ...] = ()
    op_program: tuple[str, ...] = ()
    op_capacity: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    limits: Limits | None = None

    @property
    def n_ops(self) -> int:
        """Number of operations."""
        return len(self.op_job)

    @property
    def n_machines(self) -> int:
        """Number of machines."""
        return len(self.machine_work_center)

    @property
    def n_jobs(self) -> int:
        """Number of jobs."""
        return len(self.job_due)

    @property
    def arrays(self) -> Arrays:
        """The columns for kernels (no copies)."""
        return Arrays(*(getattr(self, name) for name in Arrays._fields))

    def ticks(self, time_ns: int) -> int:
        """An instant as ticks after the origin, rounded down."""
        return (time_ns - self.origin_ns) // NS_PER_S

    def time_ns(self, tick: int) -> int:
        """A tick as an instant, ns since the epoch."""
        return self.origin_ns + int(tick) * NS_PER_S

    def op(self, id: str) -> int:
        """Index of an operation; KeyError when there is none."""
        try:
            return self.op_ids.index(id)
        except ValueError:
            raise KeyError(f"no operation {id!r} in the problem") from None

    def machine(self, id: str) -> int:
        """Index of a machine by its path; KeyError when there is none."""
        try:
            return self.machine_ids.index(id)
        except ValueError:
            raise KeyError(f"no machine {id!r} in the problem") from None

    def job(self, id: str) -> int:
        """Index of a job; KeyError when there is none."""
        try:
            return self.job_ids.index(id)
        except ValueError:
            raise KeyError(f"no job {id!r} in the problem") from None

    def alternatives(self, op: int) -> dict[int, int]:
        """Machine index to duration of one operation."""
        low, high = self.alt_ptr[op], self.alt_ptr[op + 1]
        pairs = zip(self.alt_machine[low:high], self.alt_duration[low:high], strict=True)
        return {int(m): int(d) for m, d in pairs}

    def preds(self, op: int) -> list[tuple[int, int]]:
        """``(predecessor, lag)`` of one operation."""
        low, high = self.pred_ptr[op], self.pred_ptr[op + 1]
        pairs = zip(self.pred_op[low:high], self.pred_lag[low:high], strict=True)
        return [(int(p), int(lag)) for p, lag in pairs]

    def setup_between(self, machine: int, family_from: int, family_to: int) -> int:
        """Ticks to change over on a machine; 0 when nothing is set up or asked for (-1)."""
        if family_from < 0 or family_to < 0:
            return 0
        return int(self.setup[self.machine_work_center[machine], family_from, family_to])

    def with_(self, **changes: Any) -> "Problem":
        """A copy with some columns replaced; closed time follows calendar and downs."""
        if "downs" in changes or "calendar" in changes:
            calendar = changes.get("calendar", self.calendar)
            downs = changes.get("downs", self.downs)
            ptr, start, end = closed_columns(calendar, downs)
            changes |= {"closed_ptr": ptr, "closed_start": start, "closed_end": end}
        changed = replace(self, **changes)
        if changes.get("limits") is not None:
            check_limits(changed)
        return changed


def check_limits(problem: Problem) -> None:
    """InfeasibleError when the limits contradict themselves or the problem."""
    if problem.limits is None:
        if (problem.op_family < 0).any():
            raise InfeasibleError("a family of -1 needs limits; give at least Limits()")
        return
    after = np.repeat(np.arange(problem.n_ops), np.diff(problem.pred_ptr))
    arcs = zip(problem.pred_op.tolist(), after.tolist(), strict=True)
    lag_of = dict(zip(arcs, problem.pred_lag.tolist(), strict=True))
    check(problem.limits, problem.op_ids, problem.machine_ids, lag_of)


def csr(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Pointers and flat values of ragged rows.

    >>> [x.tolist() for x in csr([[3], [], [1, 2]])]
    [[0, 1, 1, 3], [3, 1, 2]]
    """
    ptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=ptr[1:])
    flat = np.array([x for row in rows for x in row], np.int64)
    return ptr, flat


def closed_columns(
    calendar: Sequence[Sequence[tuple[int, int]]], downs: Sequence[tuple[int, int, int]]
) -> tuple[Ints, Ints, Ints]:
    """Closed intervals of all machines in CSR form: planned ones and downs merged."""
    rows: list[Sequence[tuple[int, int]]] = list(calendar)
    extra: dict[int, list[tuple[int, int]]] = {}
    for machine, start, end in downs:
        extra.setdefault(machine, []).append((start, end))
    for machine, windows in extra.items():
        rows[machine] = merge([*rows[machine], *windows])
    ptr, _ = csr([[0] * len(row) for row in rows])
    flat = np.array([w for row in rows for w in row], np.int64).reshape(-1, 2)
    return ptr, np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1])


@kernel
def reverse_csr(ptr: Ints, value: Ints, lag: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """The same arcs seen from the other end, rows in order of origin."""
    out_ptr = np.zeros(n + 1, np.int64)
    for k in range(len(value)):
        out_ptr[value[k] + 1] += 1
    for i in range(n):
        out_ptr[i + 1] += out_ptr[i]
    at = out_ptr.copy()
    out_value = np.empty(len(value), np.int64)
    out_lag = np.empty(len(value), np.int64)
    for i in range(len(ptr) - 1):
        for k in range(ptr[i], ptr[i + 1]):
            j = value[k]
            out_value[at[j]] = i
            out_lag[at[j]] = lag[k]
            at[j] += 1
    return out_ptr, out_value, out_lag


@kernel
def topological_order(pred_ptr: Ints, succ_ptr: Ints, succ_op: Ints) -> tuple[Ints, int]:
    """Operations in an order that keeps precedence, and how many could be ordered."""
    n = len(pred_ptr) - 1
    left = np.empty(n, np.int64)
    order = np.empty(n, np.int64)
    size = 0
    for o in range(n):
        left[o] = pred_ptr[o + 1] - pred_ptr[o]
        if left[o] == 0:
            order[size] = o
            size += 1
    head = 0
    while head < size:
        o = order[head]
        head += 1
        for k in range(succ_ptr[o], succ_ptr[o + 1]):
            s = succ_op[k]
            left[s] -= 1
            if left[s] == 0:
                order[size] = s
                size += 1
    return order, size


def _cycle(pred_ptr: Ints, pred_op: Ints, stuck: set[int]) -> list[int]:
    """One cycle among operations that all wait for each other, each before its predecessor."""
    o, path = min(stuck), list[int]()
    while o not in path:
        path.append(o)
        o = next(p for p in pred_op[pred_ptr[o] : pred_ptr[o + 1]].tolist() if p in stuck)
    return [*path[path.index(o) :], o]


def graph_columns(
    pred_ptr: Ints, pred_op: Ints, pred_lag: Ints, ids: Sequence[str]
) -> dict[str, Ints]:
    """Successor columns and a topological order; InfeasibleError names a cycle of precedence."""
    n = len(pred_ptr) - 1
    succ_ptr, succ_op, succ_lag = reverse_csr(pred_ptr, pred_op, pred_lag, n)
    order, size = topological_order(pred_ptr, succ_ptr, succ_op)
    if size < n:
        cycle = _cycle(pred_ptr, pred_op, set(range(n)) - set(order[:size].tolist()))
        names = [repr(ids[o]) for o in cycle]
        if len(names) > _TOLD:
            names[_TOLD - 1 : -1] = ["…"]
        raise InfeasibleError(
            f"precedence has a cycle: operation {' comes after '.join(names)}; take out one of "
            "their 'after' entries"
        )
    return {"succ_ptr": succ_ptr, "succ_op": succ_op, "succ_lag": succ_lag, "op_order": order}


def column(values: Any, n: int, default: int = 0) -> Ints:
    """A contiguous int64 column; None gives n times the default."""
    if values is None:
        return np.full(n, default, np.int64)
    return np.ascontiguousarray(values, np.int64)


def assemble(
    *,
    alternatives: Sequence[Sequence[tuple[int, int]]],
    preds: Sequence[Sequence[tuple[int, int]]],
    op_job: Sequence[int],
    job_due: Sequence[int],
    n_machines: int,
    ops: Mapping[str, Any] | None = None,
    jobs: Mapping[str, Any] | None = None,
    machines: Mapping[str, Any] | None = None,
    setup: NDArray[np.int64] | None = None,
    sinks: Sequence[Sequence[int]] | None = None,
    calendar: Sequence[Sequence[tuple[int, int]]] | None = None,
    downs: Sequence[tuple[int, int, int]] = (),
    **meta: Any,
) -> Problem:
    """A Problem from ragged lists; everything left out gets its neutral value.

    Parameters
    ----------
    alternatives
        Per operation ``(machine, duration)``.
    preds
        Per operation ``(predecessor, lag)``.
    ops, jobs, machines
        Further columns by their Problem names without the prefix, e.g. ``ops={"family": ...}``.
    sinks
        Per operation the jobs it finishes; left out: operations without successors finish their
        own job.

    Raises
    ------
    InfeasibleError
        An operation has no machine, precedence has a cycle, or ``limits`` contradict the rest.
    """
    n, nj = len(alternatives), len(job_due)
    ops, jobs, machines = dict(ops or {}), dict(jobs or {}), dict(machines or {})
    ids = tuple(meta.pop("op_ids", None) or (str(o) for o in range(n)))
    for o, row in enumerate(alternatives):
        if not row:
            raise InfeasibleError(
                f"operation {ids[o]!r}: no machine can do it; check the units' families"
            )
    alt_ptr, alt = csr([[x for pair in row for x in pair] for row in alternatives])
    pred_ptr, pred = csr([[x for pair in row for x in pair] for row in preds])
    alt, pred = alt.reshape(-1, 2), pred.reshape(-1, 2)
    pred_ptr //= 2
    pred_op, pred_lag = np.ascontiguousarray(pred[:, 0]), np.ascontiguousarray(pred[:, 1])
    graph = graph_columns(pred_ptr, pred_op, pred_lag, ids)
    if sinks is None:
        last = np.diff(graph["succ_ptr"]) == 0
        sinks = [[int(op_job[o])] if last[o] else [] for o in range(n)]
    sink_ptr, sink_job = csr(sinks)
    job_sink_ptr, job_sink_op, _ = reverse_csr(sink_ptr, sink_job, np.zeros_like(sink_job), nj)
    given: Sequence[Sequence[tuple[int, int]]] = calendar or [()] * n_machines
    rows = tuple(tuple(merge(row)) for row in given)
    closed_ptr, closed_start, closed_end = closed_columns(rows, downs)
    problem = Problem(
        op_job=column(op_job, n),
        op_family=column(ops.get("family"), n),
        op_work_center=column(ops.get("work_center"), n, -1),
        op_release=column(ops.get("release"), n, -FAR),
        op_tail=column(ops.get("tail"), n),
        op_status=column(ops.get("status"), n),
        op_fixed_machine=column(ops.get("fixed_machine"), n, -1),
        op_fixed_start=column(ops.get("fixed_start"), n, -1),
        op_fixed_from=column(ops.get("fixed_from"), n, -1),
        op_fixed_work=column(ops.get("fixed_work"), n),
        op_quantity=column(ops.get("quantity"), n, 1),
        op_capacity=column(ops.get("capacity"), n),
        alt_ptr=alt_ptr // 2,
        alt_machine=np.ascontiguousarray(alt[:, 0]),
        alt_duration=np.ascontiguousarray(alt[:, 1]),
        pred_ptr=pred_ptr,
        pred_op=pred_op,
        pred_lag=pred_lag,
        succ_ptr=graph["succ_ptr"],
        succ_op=graph["succ_op"],
        succ_lag=graph["succ_lag"],
        op_order=graph["op_order"],
        job_release=column(jobs.get("release"), nj),
        job_due=column(job_due, nj),
        job_weight=column(jobs.get("weight"), nj, 1),
        sink_ptr=sink_ptr,
        sink_job=sink_job,
        job_sink_ptr=job_sink_ptr,
        job_sink_op=job_sink_op,
        machine_work_center=column(machines.get("work_center"), n_machines),
        machine_available=column(machines.get("available"), n_machines),
        machine_family=column(machines.get("family"), n_machines, -1),
        machine_resumable=column(machines.get("resumable"), n_machines, 1),
        calendar=rows,
        downs=tuple(downs),
        closed_ptr=closed_ptr,
        closed_start=closed_start,
        closed_end=closed_end,
        setup=np.ascontiguousarray(
            setup if setup is not None else np.zeros((1, 1, 1), np.int64), np.int64
        ),
        op_ids=ids,
        job_ids=tuple(meta.pop("job_ids", None) or (str(j) for j in range(nj))),
        machine_ids=tuple(meta.pop("machine_ids", None) or (str(m) for m in range(n_machines))),
        work_center_ids=tuple(meta.pop("work_center_ids", None) or ()),
        op_requests=tuple(meta.pop("op_requests", None) or ((),) * n),
        op_product=tuple(meta.pop("op_product", None) or ("",) * n),
        op_program=tuple(meta.pop("op_program", None) or ("",) * n),
        **meta,
    )
    check_limits(problem)
    return problem
