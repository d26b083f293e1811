"""Times from sequences: the kernel that turns machine sequences into starts and ends."""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import advance, op_times
from workshop_brain.schedule.plan import Plan, unplanned
from workshop_brain.schedule.sequence import by_machine
from workshop_brain.schedule.serial import arrange
from workshop_brain.schedule.structure import Arrays, OpStatus, Problem

Ints = NDArray[np.int64]


@kernel
def duration_on(a: Arrays, op: int, machine: int) -> int:
    """Duration of an operation on a machine; -1 when it is not allowed there."""
    for k in range(a.alt_ptr[op], a.alt_ptr[op + 1]):
        if a.alt_machine[k] == machine:
            return int(a.alt_duration[k])
    return -1


@kernel
def retime(a: Arrays, machine: Ints, seq_ptr: Ints, seq_op: Ints) -> tuple[Ints, Ints, Ints, int]:
    """Earliest start, end and setup start for fixed sequences, and how many could be timed.

    Operations that are not FREE keep their fixed times. Operations on no machine are left out
    and hold nobody up. Fewer timed than sequenced means: sequences and precedence have a cycle.
    """
    n = len(a.op_job)
    start = np.full(n, -1, np.int64)
    end = np.full(n, -1, np.int64)
    setup_start = np.full(n, -1, np.int64)
    left = np.zeros(n, np.int32)
    place = np.empty(n, np.int32)
    stack = np.empty(n, np.int32)
    for o in range(n):
        if machine[o] >= 0:
            for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                if machine[a.pred_op[k]] >= 0:
                    left[o] += 1
    for m in range(len(seq_ptr) - 1):
        for k in range(seq_ptr[m], seq_ptr[m + 1]):
            place[seq_op[k]] = k
            if k > seq_ptr[m]:
                left[seq_op[k]] += 1
    size = 0
    for m in range(len(seq_ptr) - 1):
        k = seq_ptr[m]
        if k < seq_ptr[m + 1] and left[seq_op[k]] == 0:
            stack[size] = seq_op[k]
            size += 1
    done = 0
    while size > 0:
        size -= 1
        o = int(stack[size])
        while o >= 0:  # on along the job, or the machine, as long as nothing else is waited for
            done += 1
            m = machine[o]
            at = place[o]
            if a.op_status[o] != 0:
                start[o] = a.op_fixed_start[o]
                setup_start[o] = start[o]
                end[o] = advance(
                    a.closed_ptr,
                    a.closed_start,
                    a.closed_end,
                    m,
                    a.op_fixed_from[o],
                    a.op_fixed_work[o],
                )
            else:
                ready = max(a.op_release[o], a.now)
                for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p = a.pred_op[k]
                    if machine[p] >= 0:
                        ready = max(ready, end[p] + a.pred_lag[k])
                free = a.machine_available[m]
                family = a.machine_family[m]
                if at > seq_ptr[m]:
                    p = seq_op[at - 1]
                    free = max(free, end[p])
                    family = a.op_family[p]
                setup = 0
                if family >= 0:
                    setup = a.setup[a.machine_work_center[m], family, a.op_family[o]]
                work = duration_on(a, o, m)
                if a.closed_ptr[m] == a.closed_ptr[m + 1]:
                    setup_start[o], start[o] = free, max(free + setup, ready)
                    end[o] = start[o] + work
                else:
                    setup_start[o], start[o], end[o] = op_times(
                        a.closed_ptr,
                        a.closed_start,
                        a.closed_end,
                        a.machine_resumable,
                        m,
                        free,
                        setup,
                        ready,
                        work,
                    )
            following = -1
            for k in range(a.succ_ptr[o], a.succ_ptr[o + 1]):
                s = a.succ_op[k]
                if machine[s] < 0:
                    continue
                left[s] -= 1
                if left[s] == 0:
                    if following >= 0:
                        stack[size] = following
                        size += 1
                    following = s
            if at + 1 < seq_ptr[m + 1]:
                s = seq_op[at + 1]
                left[s] -= 1
                if left[s] == 0:
                    if following >= 0:
                        stack[size] = s
                        size += 1
                    else:
                        following = s
            o = following
    return start, end, setup_start, done


def durations(problem: Problem, ops: Ints, machine: Ints) -> Ints:
    """Durations of operations on their machines, shape of ``ops``.

    Raises
    ------
    InfeasibleError
        An operation stands on a machine that may not do it.
    """
    counts = problem.alt_ptr[ops + 1] - problem.alt_ptr[ops]
    row = np.repeat(np.arange(len(ops)), counts)
    first = np.repeat(problem.alt_ptr[ops] - np.cumsum(counts) + counts, counts)
    k = first + np.arange(len(row))
    match = problem.alt_machine[k] == machine[ops[row]]
    out = np.full(len(ops), -1, np.int64)
    out[row[match]] = problem.alt_duration[k[match]]
    if (out < 0).any():
        o = int(ops[int(np.argmin(out))])
        raise InfeasibleError(
            f"operation {problem.op_ids[o]!r} stands on {problem.machine_ids[machine[o]]!r}, "
            "which may not do it"
        )
    return out


def sequences(problem: Problem, plan: Plan) -> tuple[Ints, Ints]:
    """Machine sequences of a plan in CSR form, fixed operations first, then by start."""
    return by_machine(
        problem.op_order,
        problem.op_status,
        plan.machine,
        plan.start,
        plan.end,
        problem.n_machines,
    )


def timed(problem: Problem, machine: Ints, seq_ptr: Ints, seq_op: Ints) -> Plan:
    """The plan that given sequences mean; InfeasibleError when they contradict precedence."""
    start, end, setup_start, done = retime(problem.arrays, machine, seq_ptr, seq_op)
    if done < int((machine >= 0).sum()):
        raise InfeasibleError("machine sequences contradict the precedence of operations")
    plan = Plan(machine=machine.copy(), start=start, end=end, setup_start=setup_start)
    return plan if problem.limits is None else arrange(problem, plan)


def right_shift(problem: Problem, plan: Plan) -> Plan:
    """The same machines and sequences, timed anew as early as possible.

    With limits operations are placed in the order of their starts, and sequences change where
    that keeps a deadline or a maximum lag.
    """
    machine = plan.machine.copy()
    gone = problem.op_status == OpStatus.CANCELLED
    fixed = (problem.op_status != OpStatus.FREE) & ~gone
    machine[fixed], machine[gone] = problem.op_fixed_machine[fixed], -1
    kept = unplanned(problem)
    kept.start[:], kept.end[:] = plan.start, plan.end
    kept.machine[:] = machine
    kept.start[fixed] = problem.op_fixed_start[fixed]
    if problem.limits is not None:
        return arrange(problem, kept)
    return timed(problem, machine, *sequences(problem, kept))
