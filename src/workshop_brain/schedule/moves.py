"""The kernels of local search: one plan as tables, moves on it, and their propagation in time.

A move takes one operation out of its sequence and puts it elsewhere. Its effect is propagated in
the order of old starts and stops as soon as the move is lost: the acceptance threshold is drawn
before, and once no earlier finish is pending the cost can only grow. The tables are few and wide:
passing many arrays to a kernel costs more than a step of propagation does.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import op_times
from workshop_brain.schedule.objective import Weights, cost_columns, near_ops
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.timing import durations, sequences, timed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CRITICAL_SHARE = 70
"""Percent of moves that start from the chain behind a late job."""
GUIDED_SHARE = 80
"""Percent of moves to the place that looks best of all; the others go to a random one."""
SPOTS = 6
"""Places on one machine that are looked at for one move, one more at most."""
WAYS = 3
"""Machines that are looked at for one move."""
LUCK = 0.3
"""Share of the heat by which chance may change the order of places."""
BLUR = 3.0
"""Room of a job, in mean durations, at which a tick of it is worth a third of a late job's."""
APPRAISE = 500
"""Moves taken between two appraisals of what a tick is worth."""
# Columns of the searcher's tables: one row holds all that a step of propagation reads.
# operations
(START, END, WORK, READY, FAMILY, STATUS, MACHINE, POSITION, PRED, PRED_END, SUCC, SUCC_END) = (
    range(12)
)
(SINK, SINK_END, TAIL, QUEUED, LOGGED, ALT, ALT_END, REF_MACHINE, REF_START, NEAR) = range(12, 22)
# machines
(BASE, LENGTH, FIXED, FREE, FAMILY_NOW, TABLE, CLOSED, CLOSED_END) = range(8)
# jobs
(DUE, WEIGHT, DONE, JOB_SINK, JOB_SINK_END, JOB_LOGGED, END_BY) = range(7)
# prices of an operation
(FLOW, SHIFT, MOVE) = range(3)
# counters
(LOGS, JOB_LOGS, STEPS, TRIED, TAKEN, EARLY, PRICED, LATE, NEAR_MOVED, NEAR_MOST) = range(10)
FAR_BACK = -(1 << 50)


class Tables(NamedTuple):
    """One searcher's plan and scratch space; columns are named above.

    ``seq`` holds the machine sequences, each from its BASE on. ``arcs``, ``alts`` are rows of
    (operation, lag) and (machine, duration). ``cost`` = (now, best), relative to the beginning.
    ``worth`` says what a tick of each operation's end is worth; see :func:`_appraise`. ``late``
    begins with the jobs that were late then.
    """

    ops: Ints
    machines: Ints
    jobs: Ints
    price: Floats
    worth: Floats
    arcs: Ints
    alts: Ints
    sink_job: Ints
    job_sink: Ints
    setup: Ints
    closed_ptr: Ints
    closed_start: Ints
    closed_end: Ints
    resumable: Ints
    seq: Ints
    best_seq: Ints
    best_length: Ints
    best_machine: Ints
    cost: Floats
    rng: NDArray[np.uint64]
    heap: Ints
    log: Ints
    job_log: Ints
    late: Ints
    tally: Ints


@kernel
def draw(rng: NDArray[np.uint64], n: int) -> int:
    """A whole number in [0, n)."""
    x = rng[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    rng[0] = x
    return int((x * np.uint64(2685821657736338717)) >> np.uint64(33)) % n


@kernel
def _push(heap: Ints, size: int, key: int, op: int) -> int:
    i = size
    while i > 0:
        parent = (i - 1) // 2
        if heap[parent, 0] < key or (heap[parent, 0] == key and heap[parent, 1] < op):
            break
        heap[i, 0], heap[i, 1] = heap[parent, 0], heap[parent, 1]
        i = parent
    heap[i, 0], heap[i, 1] = key, op
    return size + 1


@kernel
def _pop(heap: Ints, size: int) -> int:
    """Remove the first entry; the new size. Read entry 0 before."""
    size -= 1
    key, op = heap[size, 0], heap[size, 1]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            heap[right, 0] < heap[child, 0]
            or (heap[right, 0] == heap[child, 0] and heap[right, 1] < heap[child, 1])
        ):
            child = right
        if key < heap[child, 0] or (key == heap[child, 0] and op < heap[child, 1]):
            break
        heap[i, 0], heap[i, 1] = heap[child, 0], heap[child, 1]
        i = child
    heap[i, 0], heap[i, 1] = key, op
    return size


@kernel
def _changeover(ops: Ints, machines: Ints, setup: Ints, m: int, before: int, op: int) -> int:
    """Changeover before ``op`` on machine m after operation ``before`` (-1: none)."""
    family = ops[before, FAMILY] if before >= 0 else machines[m, FAMILY_NOW]
    if family < 0:
        return 0
    return int(setup[machines[m, TABLE], family, ops[op, FAMILY]])


@kernel
def _ready(ops: Ints, arcs: Ints, o: int) -> int:
    """When all that o needs is there."""
    ready = ops[o, READY]
    for k in range(ops[o, PRED], ops[o, PRED_END]):
        p = arcs[k, 0]
        if ops[p, MACHINE] >= 0:
            ready = max(ready, ops[p, END] + arcs[k, 1])
    return int(ready)


@kernel
def _take_out(ops: Ints, machines: Ints, seq: Ints, o: int) -> None:
    m = ops[o, MACHINE]
    b, k = machines[m, BASE], ops[o, POSITION]
    machines[m, LENGTH] -= 1
    for i in range(k, machines[m, LENGTH]):
        x = seq[b + i + 1]
        seq[b + i] = x
        ops[x, POSITION] = i


@kernel
def _put_in(ops: Ints, machines: Ints, seq: Ints, o: int, m: int, k: int) -> None:
    b = machines[m, BASE]
    for i in range(machines[m, LENGTH], k, -1):
        x = seq[b + i - 1]
        seq[b + i] = x
        ops[x, POSITION] = i
    seq[b + k] = o
    ops[o, POSITION] = k
    ops[o, MACHINE] = m
    machines[m, LENGTH] += 1


@kernel
def _job_done(ops: Ints, jobs: Ints, job_sink: Ints, j: int) -> int:
    """Completion of a job as its operations stand."""
    done = FAR_BACK
    for k in range(jobs[j, JOB_SINK], jobs[j, JOB_SINK_END]):
        x = job_sink[k]
        if ops[x, MACHINE] >= 0:
            done = max(done, ops[x, END] + ops[x, TAIL])
    return done


@kernel
def _fill_done(ops: Ints, jobs: Ints, job_sink: Ints) -> None:
    for j in range(len(jobs)):
        jobs[j, DONE] = _job_done(ops, jobs, job_sink, j)


@kernel
def _wake(ops: Ints, heap: Ints, count: Ints, size: int, x: int, kind: int) -> int:
    """Queue x for a new look; kind 2 = something before it may end earlier."""
    queued = ops[x, QUEUED]
    if queued == 0:
        size = _push(heap, size, ops[x, START], x)
        ops[x, QUEUED] = kind
        count[EARLY] += kind - 1
    elif queued < kind:
        ops[x, QUEUED] = kind
        count[EARLY] += 1
    return size


@kernel
def _propagate(
    ops: Ints,
    machines: Ints,
    jobs: Ints,
    price: Floats,
    arcs: Ints,
    sink_job: Ints,
    job_sink: Ints,
    setup: Ints,
    closed_ptr: Ints,
    closed_start: Ints,
    closed_end: Ints,
    resumable: Ints,
    seq: Ints,
    heap: Ints,
    log: Ints,
    job_log: Ints,
    count: Ints,
    size: int,
    limit: float,
    slack: float,
    late_price: float,
    end_price: float,
    now: int,
) -> float:
    """Change of cost when all times settle; more than ``limit`` = given up on the way.

    QUEUED: 0 not in the heap, 1 something before it ends later, 2 maybe earlier.
    """
    logs, job_logs, steps = 0, 0, 0
    delta = 0.0
    most = 6 * len(ops) + 100
    while size > 0:
        if delta > limit and (count[EARLY] == 0 or delta > limit + slack):
            break
        steps += 1
        if steps > most:
            delta = np.inf
            break
        o = heap[0, 1]
        size = _pop(heap, size)
        if ops[o, QUEUED] == 2:
            count[EARLY] -= 1
        ops[o, QUEUED] = 0
        m, k = ops[o, MACHINE], ops[o, POSITION]
        free, family = machines[m, FREE], machines[m, FAMILY_NOW]
        if k > 0:
            before = seq[machines[m, BASE] + k - 1]
            free, family = max(free, ops[before, END]), ops[before, FAMILY]
        change = 0
        if family >= 0:
            change = setup[machines[m, TABLE], family, ops[o, FAMILY]]
        ready = _ready(ops, arcs, o)
        if machines[m, CLOSED] == machines[m, CLOSED_END]:
            begin = max(free + change, ready)
            finish = begin + ops[o, WORK]
        else:
            _, begin, finish = op_times(
                closed_ptr,
                closed_start,
                closed_end,
                resumable,
                m,
                free,
                change,
                ready,
                ops[o, WORK],
            )
        old_begin, old_finish = ops[o, START], ops[o, END]
        if begin == old_begin and finish == old_finish:
            continue
        if ops[o, LOGGED] == 0:
            ops[o, LOGGED] = 1
            log[logs, 0], log[logs, 1], log[logs, 2] = o, old_begin, old_finish
            logs += 1
        ops[o, START], ops[o, END] = begin, finish
        if price[o, SHIFT] > 0.0:
            ref = max(ops[o, REF_START], now)
            delta += price[o, SHIFT] * (abs(begin - ref) - abs(old_begin - ref))
        if finish == old_finish:
            continue
        delta += price[o, FLOW] * (finish - old_finish)
        for i in range(ops[o, SINK], ops[o, SINK_END]):
            j = sink_job[i]
            done = finish + ops[o, TAIL]
            if jobs[j, JOB_SINK_END] - jobs[j, JOB_SINK] > 1:
                done = _job_done(ops, jobs, job_sink, j)
            if done != jobs[j, DONE]:
                if jobs[j, JOB_LOGGED] == 0:
                    jobs[j, JOB_LOGGED] = 1
                    job_log[job_logs, 0], job_log[job_logs, 1] = j, jobs[j, DONE]
                    job_logs += 1
                late = max(0, done - jobs[j, DUE]) - max(0, jobs[j, DONE] - jobs[j, DUE])
                delta += late_price * jobs[j, WEIGHT] * late
                if end_price > 0.0:
                    by = jobs[j, END_BY]
                    delta += end_price * (max(0, done - by) - max(0, jobs[j, DONE] - by))
                jobs[j, DONE] = done
        kind = 2 if finish < old_finish else 1
        if k + 1 < machines[m, LENGTH]:
            x = seq[machines[m, BASE] + k + 1]
            size = _wake(ops, heap, count, size, x, kind)
        for i in range(ops[o, SUCC], ops[o, SUCC_END]):
            x = arcs[i, 0]
            if ops[x, MACHINE] >= 0:
                size = _wake(ops, heap, count, size, x, kind)
    for i in range(size):
        ops[heap[i, 1], QUEUED] = 0
    count[EARLY] = 0
    count[LOGS], count[JOB_LOGS] = logs, job_logs
    count[STEPS] += steps
    return delta


@kernel
def _forget(ops: Ints, jobs: Ints, log: Ints, job_log: Ints, count: Ints, undo: bool) -> None:
    """Clear the logs; with ``undo`` put the logged times back."""
    for i in range(count[LOGS]):
        o = log[i, 0]
        ops[o, LOGGED] = 0
        if undo:
            ops[o, START], ops[o, END] = log[i, 1], log[i, 2]
    for i in range(count[JOB_LOGS]):
        j = job_log[i, 0]
        jobs[j, JOB_LOGGED] = 0
        if undo:
            jobs[j, DONE] = job_log[i, 1]


@kernel
def _is_late(jobs: Ints, j: int, end_price: float) -> bool:
    """Whether it would be worth something if the job ended earlier."""
    done = jobs[j, DONE]
    if done > jobs[j, DUE] and jobs[j, WEIGHT] > 0:
        return True
    return bool(end_price > 0.0 and done > jobs[j, END_BY])


@kernel
def _pick(
    ops: Ints,
    machines: Ints,
    jobs: Ints,
    arcs: Ints,
    job_sink: Ints,
    setup: Ints,
    seq: Ints,
    late: Ints,
    count: Ints,
    rng: NDArray[np.uint64],
    end_price: float,
) -> int:
    """An operation to move: mostly one on the chain that makes a late job late; -1: none found."""
    if count[LATE] > 0 and draw(rng, 100) < CRITICAL_SHARE:
        for _ in range(8):
            j = late[draw(rng, count[LATE])]
            if not _is_late(jobs, j, end_price):
                continue
            o = -1
            for k in range(jobs[j, JOB_SINK], jobs[j, JOB_SINK_END]):
                x = job_sink[k]
                if ops[x, MACHINE] >= 0 and ops[x, END] + ops[x, TAIL] == jobs[j, DONE]:
                    o = x
            chosen, seen = -1, 0
            while o >= 0 and ops[o, STATUS] == 0 and seen < 200:
                seen += 1
                if draw(rng, seen) == 0:
                    chosen = o
                m, k = ops[o, MACHINE], ops[o, POSITION]
                following, latest = -1, FAR_BACK
                if k > 0:
                    following = seq[machines[m, BASE] + k - 1]
                    change = _changeover(ops, machines, setup, m, following, o)
                    latest = ops[following, END] + change
                for i in range(ops[o, PRED], ops[o, PRED_END]):
                    p = arcs[i, 0]
                    if ops[p, MACHINE] >= 0 and ops[p, END] + arcs[i, 1] > latest:
                        latest = ops[p, END] + arcs[i, 1]
                        following = p
                if latest < ops[o, READY]:
                    break
                o = following
            if chosen >= 0:
                return chosen
    o = draw(rng, len(ops))
    if ops[o, STATUS] != 0 or ops[o, MACHINE] < 0:
        return -1
    return o


@kernel
def _after(ops: Ints, machines: Ints, seq: Ints, m: int, t: int) -> int:
    """Position of the first operation on m that starts at or after t."""
    b = machines[m, BASE]
    low, high = machines[m, FIXED], machines[m, LENGTH]
    while low < high:
        mid = (low + high) // 2
        if ops[seq[b + mid], START] >= t:
            high = mid
        else:
            low = mid + 1
    return int(low)


@kernel
def _spot(
    ops: Ints,
    machines: Ints,
    seq: Ints,
    rng: NDArray[np.uint64],
    o: int,
    m: int,
    ready: int,
) -> int:
    """Where to put o (taken out already) on machine m: near its possible starts, or its family."""
    b, fixed, length = machines[m, BASE], machines[m, FIXED], machines[m, LENGTH]
    low = max(fixed, _after(ops, machines, seq, m, ready) - 1)
    high = max(low, min(length, _after(ops, machines, seq, m, ops[o, START]) + 3))
    if draw(rng, 3) == 0:
        seen, chosen = 0, -1
        for k in range(max(fixed, low - 3), min(length, high + 5)):
            if ops[seq[b + k], FAMILY] == ops[o, FAMILY]:
                seen += 1
                if draw(rng, seen) == 0:
                    chosen = k
        if chosen >= 0:
            return chosen + draw(rng, 2)
    return int(low + draw(rng, high - low + 1))


@kernel
def _appraise(
    ops: Ints,
    machines: Ints,
    jobs: Ints,
    price: Floats,
    arcs: Ints,
    sink_job: Ints,
    setup: Ints,
    seq: Ints,
    worth: Floats,
    heap: Ints,
    blur: float,
    late_price: float,
    end_price: float,
) -> None:
    """What it costs when an operation ends a tick later: by itself, through its jobs, in all.

    Everything that starts when another operation lets it hangs on that one, so operations form a
    forest, and what a tick is worth adds up towards the roots. A job that is not late yet counts
    the less, the more room it has (``blur``: room at which it counts a third).
    """
    n = len(ops)
    left, anchor = heap[:, 0], heap[:, 1]  # nothing is queued now: the heap is free to use
    for o in range(n):
        worth[o, 0] = price[o, FLOW]
        for i in range(ops[o, SINK], ops[o, SINK_END]):
            j = sink_job[i]
            if ops[o, END] + ops[o, TAIL] < jobs[j, DONE]:
                continue
            room = float(jobs[j, DUE] - jobs[j, DONE])
            share = 1.0 if room < 0.0 else np.exp(-room / blur)
            worth[o, 0] += late_price * jobs[j, WEIGHT] * share
            if end_price > 0.0:
                room = float(jobs[j, END_BY] - jobs[j, DONE])
                worth[o, 0] += end_price * (1.0 if room < 0.0 else np.exp(-room / blur))
        worth[o, 1] = 0.0
        worth[o, 2] = worth[o, 0]
        left[o] = 0
    for o in range(n):
        anchor[o] = -1
        if ops[o, STATUS] != 0 or ops[o, MACHINE] < 0:
            continue
        m, k = ops[o, MACHINE], ops[o, POSITION]
        for i in range(ops[o, PRED], ops[o, PRED_END]):
            p = arcs[i, 0]
            if ops[p, MACHINE] >= 0 and ops[p, END] + arcs[i, 1] >= ops[o, START]:
                anchor[o] = 2 * p + 1
        if k > 0 and anchor[o] < 0:
            p = seq[machines[m, BASE] + k - 1]
            if ops[p, END] + _changeover(ops, machines, setup, m, p, o) >= ops[o, START]:
                anchor[o] = 2 * p
        if anchor[o] >= 0:
            left[anchor[o] // 2] += 1
    for first in range(n):
        o = first
        while o >= 0 and left[o] == 0:
            left[o] = -1
            up = anchor[o]
            if up < 0:
                break
            p = up // 2
            worth[p, 2] += worth[o, 2]
            if up % 2 == 1:
                worth[p, 1] += worth[o, 2]
            left[p] -= 1
            o = p


@kernel
def _estimate(
    ops: Ints,
    machines: Ints,
    arcs: Ints,
    setup: Ints,
    seq: Ints,
    worth: Floats,
    o: int,
    m: int,
    k: int,
    work: int,
    ready: int,
) -> float:
    """What it costs, about, to have ``o`` (taken out) on machine m at position k."""
    b = machines[m, BASE]
    free, p = machines[m, FREE], -1
    if k > 0:
        p = seq[b + k - 1]
        free = max(free, ops[p, END])
    end = max(free + _changeover(ops, machines, setup, m, p, o), ready) + work
    shift = float(end - ops[o, END])
    if shift < 0:
        cost = (worth[o, 0] + worth[o, 1]) * shift
    else:
        cost = worth[o, 0] * shift
        for i in range(ops[o, SUCC], ops[o, SUCC_END]):
            x = arcs[i, 0]
            cost += worth[x, 2] * max(0.0, float(end + arcs[i, 1] - ops[x, START]))
    if k < machines[m, LENGTH]:
        q = seq[b + k]
        push = end + _changeover(ops, machines, setup, m, o, q) - ops[q, START]
        if push > 0:
            cost += worth[q, 2] * push
    return float(cost)


@kernel
def _best_spot(
    ops: Ints,
    machines: Ints,
    arcs: Ints,
    alts: Ints,
    setup: Ints,
    seq: Ints,
    worth: Floats,
    price: Floats,
    rng: NDArray[np.uint64],
    o: int,
    old_k: int,
    ready: int,
    heat: float,
    count: Ints,
    is_held: bool,
) -> tuple[int, int]:
    """The most promising place for ``o`` (taken out), with some luck: alternative and position."""
    best, best_alt, best_k = np.inf, -1, -1
    first, last = ops[o, ALT], ops[o, ALT_END]
    if last - first > WAYS and not is_held:
        first += draw(rng, last - first - WAYS + 1)
        last = first + WAYS
    for a in range(first, last):
        m, work = alts[a, 0], alts[a, 1]
        if is_held and m != ops[o, MACHINE]:
            continue
        fixed, length = machines[m, FIXED], machines[m, LENGTH]
        low = max(fixed, _after(ops, machines, seq, m, ready) - 2)
        high = min(length, _after(ops, machines, seq, m, ops[o, START]) + 4)
        if high - low > SPOTS:
            low += draw(rng, high - low - SPOTS + 1)
            high = low + SPOTS
        extra = price[o, MOVE] if ops[o, REF_MACHINE] >= 0 and m != ops[o, REF_MACHINE] else 0.0
        count[PRICED] += max(0, high + 1 - low)
        for k in range(low, high + 1):
            if m == ops[o, MACHINE] and k == old_k:
                continue
            cost = extra + heat * LUCK * draw(rng, 1 << 20) / (1 << 20)
            cost += _estimate(ops, machines, arcs, setup, seq, worth, o, m, k, work, ready)
            if cost < best and not _cyclic(ops, machines, arcs, seq, o, m, k):
                best, best_alt, best_k = cost, a, k
    return best_alt, best_k


@kernel
def _cyclic(ops: Ints, machines: Ints, arcs: Ints, seq: Ints, o: int, m: int, k: int) -> bool:
    """Whether placing o at position k may contradict precedence (by times: never misses one)."""
    b = machines[m, BASE]
    if k > 0:
        p = seq[b + k - 1]
        for i in range(ops[o, SUCC], ops[o, SUCC_END]):
            x = arcs[i, 0]
            if ops[x, MACHINE] >= 0 and (p == x or ops[p, START] >= ops[x, END]):
                return True
    if k < machines[m, LENGTH]:
        q = seq[b + k]
        for i in range(ops[o, PRED], ops[o, PRED_END]):
            x = arcs[i, 0]
            if ops[x, MACHINE] >= 0 and (q == x or ops[q, END] <= ops[x, START]):
                return True
    return False


@kernel
def _keep(ops: Ints, machines: Ints, seq: Ints, t: Tables) -> None:
    """Remember the sequences as the best ones."""
    t.best_seq[:] = seq
    t.best_length[:] = machines[:, LENGTH]
    t.best_machine[:] = ops[:, MACHINE]


@kernel
def search(
    t: Tables,
    moves: int,
    hot: float,
    cold: float,
    slack: float,
    late_price: float,
    setup_price: float,
    end_price: float,
    now: int,
) -> None:
    """Try moves on the tables; the temperature falls from hot to cold."""
    ops, machines, jobs, price = t.ops, t.machines, t.jobs, t.price
    arcs, alts, seq, setup, rng = t.arcs, t.alts, t.seq, t.setup, t.rng
    sink_job, job_sink, cost, count = t.sink_job, t.job_sink, t.cost, t.tally
    closed_ptr, closed_start, closed_end = t.closed_ptr, t.closed_start, t.closed_end
    resumable, heap, log, job_log = t.resumable, t.heap, t.log, t.job_log
    worth, taken = t.worth, -APPRAISE
    mean = max(1.0, ops[:, WORK].mean())
    blur = BLUR * mean
    at_best = cost[0] <= cost[1]
    for step in range(moves):
        heat = hot + (cold - hot) * step / moves
        if count[TAKEN] - taken >= APPRAISE or step == 0:
            taken = count[TAKEN]
            count[LATE] = 0
            for j in range(len(jobs)):
                if _is_late(jobs, j, end_price):
                    t.late[count[LATE]] = j
                    count[LATE] += 1
            _appraise(
                ops,
                machines,
                jobs,
                price,
                arcs,
                sink_job,
                setup,
                seq,
                worth,
                heap,
                blur,
                late_price,
                end_price,
            )
        o = _pick(ops, machines, jobs, arcs, job_sink, setup, seq, t.late, count, rng, end_price)
        if o < 0:
            continue
        old_m, old_k, old_work = ops[o, MACHINE], ops[o, POSITION], ops[o, WORK]
        m, work = old_m, old_work
        before, follower = -1, -1
        if old_k > 0:
            before = seq[machines[old_m, BASE] + old_k - 1]
        if old_k + 1 < machines[old_m, LENGTH]:
            follower = seq[machines[old_m, BASE] + old_k + 1]
        ready = _ready(ops, arcs, o)
        is_near = ops[o, NEAR] == 1
        is_held = is_near and old_m == ops[o, REF_MACHINE]
        is_held = is_held and count[NEAR_MOVED] >= count[NEAR_MOST]
        _take_out(ops, machines, seq, o)
        if draw(rng, 100) < GUIDED_SHARE:
            alt, spot = _best_spot(
                ops,
                machines,
                arcs,
                alts,
                setup,
                seq,
                worth,
                price,
                rng,
                o,
                old_k,
                ready,
                heat,
                count,
                is_held,
            )
            if alt < 0:
                _put_in(ops, machines, seq, o, old_m, old_k)
                continue
            m, work = alts[alt, 0], alts[alt, 1]
        else:
            options = ops[o, ALT_END] - ops[o, ALT]
            if options > 1 and not is_held and draw(rng, 2) == 0:
                k = ops[o, ALT] + draw(rng, options)
                m, work = alts[k, 0], alts[k, 1]
            spot = _spot(ops, machines, seq, rng, o, m, ready)
        if (m == old_m and spot == old_k) or _cyclic(ops, machines, arcs, seq, o, m, spot):
            _put_in(ops, machines, seq, o, old_m, old_k)
            continue
        p, q = -1, -1
        if spot > 0:
            p = seq[machines[m, BASE] + spot - 1]
        if spot < machines[m, LENGTH]:
            q = seq[machines[m, BASE] + spot]
        change = _changeover(ops, machines, setup, m, p, o)
        change -= _changeover(ops, machines, setup, old_m, before, o)
        if follower >= 0:
            change += _changeover(ops, machines, setup, old_m, before, follower)
            change -= _changeover(ops, machines, setup, old_m, o, follower)
        if q >= 0:
            change += _changeover(ops, machines, setup, m, o, q)
            change -= _changeover(ops, machines, setup, m, p, q)
        delta = setup_price * change
        if m != old_m:
            if old_m == ops[o, REF_MACHINE]:
                delta += price[o, MOVE]
            elif m == ops[o, REF_MACHINE]:
                delta -= price[o, MOVE]
        _put_in(ops, machines, seq, o, m, spot)
        ops[o, WORK] = work
        key = ops[o, START]
        if q >= 0:
            key = ops[q, START] - 1
        elif p >= 0:
            key = max(ready, ops[p, START] + 1)
        size = _push(heap, 0, key, o)
        ops[o, QUEUED] = 2
        count[EARLY] = 1
        if q >= 0:
            size = _wake(ops, heap, count, size, q, 2)
        if follower >= 0:
            size = _wake(ops, heap, count, size, follower, 2)
        limit = heat * draw(rng, 1 << 20) / (1 << 20)
        delta += _propagate(
            ops,
            machines,
            jobs,
            price,
            arcs,
            sink_job,
            job_sink,
            setup,
            closed_ptr,
            closed_start,
            closed_end,
            resumable,
            seq,
            heap,
            log,
            job_log,
            count,
            size,
            limit - delta,
            slack,
            late_price,
            end_price,
            now,
        )
        count[TRIED] += 1
        if delta > limit:
            _forget(ops, jobs, log, job_log, count, True)
            _take_out(ops, machines, seq, o)
            _put_in(ops, machines, seq, o, old_m, old_k)
            ops[o, WORK] = old_work
            continue
        if at_best and delta > 0.0:
            # the best plan is being left: remember it, with this one move taken back
            _take_out(ops, machines, seq, o)
            _put_in(ops, machines, seq, o, old_m, old_k)
            _keep(ops, machines, seq, t)
            _take_out(ops, machines, seq, o)
            _put_in(ops, machines, seq, o, m, spot)
            at_best = False
        _forget(ops, jobs, log, job_log, count, False)
        count[TAKEN] += 1
        if is_near and m != old_m:
            if old_m == ops[o, REF_MACHINE]:
                count[NEAR_MOVED] += 1
            elif m == ops[o, REF_MACHINE]:
                count[NEAR_MOVED] -= 1
        cost[0] += delta
        if cost[0] < cost[1] - 1e-6:
            cost[1] = cost[0]
            at_best = True
    if at_best:
        _keep(ops, machines, seq, t)


def lay_out(
    problem: Problem,
    plan: Plan,
    previous: Plan | None,
    weights: Weights,
    seed: int,
    due: Ints | None = None,
) -> Tables:
    """A searcher's tables for a timed plan."""
    n, count = problem.n_ops, problem.n_machines
    ptr, order = sequences(problem, plan)
    fixed = (problem.op_status != 0) & (plan.machine >= 0)
    room = np.bincount(problem.alt_machine, minlength=count) + 1
    room += np.bincount(plan.machine[fixed], minlength=count)
    base = np.cumsum(room) - room
    at = np.repeat(base - ptr[:-1], np.diff(ptr)) + np.arange(len(order))
    seq = np.full(int(room.sum()), -1, np.int64)
    seq[at] = order
    ops = np.zeros((n, 22), np.int64)
    free = np.flatnonzero((plan.machine >= 0) & (problem.op_status == 0))
    ops[:, START], ops[:, END], ops[:, MACHINE] = plan.start, plan.end, plan.machine
    ops[free, WORK] = durations(problem, free, plan.machine)
    ops[:, READY] = np.maximum(problem.op_release, problem.now)
    ops[:, FAMILY], ops[:, STATUS] = problem.op_family, problem.op_status
    ops[order, POSITION] = np.arange(len(order)) - np.repeat(ptr[:-1], np.diff(ptr))
    arcs = len(problem.pred_op)
    ops[:, PRED], ops[:, PRED_END] = problem.pred_ptr[:-1], problem.pred_ptr[1:]
    ops[:, SUCC], ops[:, SUCC_END] = problem.succ_ptr[:-1] + arcs, problem.succ_ptr[1:] + arcs
    ops[:, SINK], ops[:, SINK_END] = problem.sink_ptr[:-1], problem.sink_ptr[1:]
    ops[:, ALT], ops[:, ALT_END] = problem.alt_ptr[:-1], problem.alt_ptr[1:]
    ops[:, TAIL] = problem.op_tail
    ops[:, REF_MACHINE] = -1 if previous is None else previous.machine
    ops[:, REF_START] = -1 if previous is None else previous.start
    tally = np.zeros(10, np.int64)
    near = near_ops(problem, previous, weights)
    if previous is not None and weights.changes < 1.0:
        ops[:, NEAR] = near
        tally[NEAR_MOST] = int(weights.changes * near.sum())
        tally[NEAR_MOVED] = int((near & (plan.machine != previous.machine)).sum())
    machines = np.zeros((count, 8), np.int64)
    machines[:, BASE], machines[:, LENGTH] = base, np.diff(ptr)
    machines[:, FIXED] = np.bincount(plan.machine[fixed], minlength=count)
    machines[:, FREE], machines[:, FAMILY_NOW] = problem.machine_available, problem.machine_family
    machines[:, TABLE] = problem.machine_work_center
    machines[:, CLOSED], machines[:, CLOSED_END] = problem.closed_ptr[:-1], problem.closed_ptr[1:]
    jobs = np.zeros((problem.n_jobs, 7), np.int64)
    jobs[:, DUE] = problem.job_due if due is None else due
    jobs[:, WEIGHT] = problem.job_weight
    jobs[:, END_BY] = weights.end_by
    jobs[:, JOB_SINK], jobs[:, JOB_SINK_END] = problem.job_sink_ptr[:-1], problem.job_sink_ptr[1:]
    _fill_done(ops, jobs, problem.job_sink_op)
    rng = np.array([(seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 or 1], np.uint64)
    for _ in range(16):
        draw(rng, 2)
    return Tables(
        ops=ops,
        machines=machines,
        jobs=jobs,
        price=np.column_stack(cost_columns(problem, previous, weights)),
        worth=np.zeros((n, 3)),
        arcs=np.column_stack(
            (
                np.append(problem.pred_op, problem.succ_op),
                np.append(problem.pred_lag, problem.succ_lag),
            )
        ),
        alts=np.column_stack((problem.alt_machine, problem.alt_duration)),
        sink_job=problem.sink_job,
        job_sink=problem.job_sink_op,
        setup=problem.setup,
        closed_ptr=problem.closed_ptr,
        closed_start=problem.closed_start,
        closed_end=problem.closed_end,
        resumable=problem.machine_resumable,
        seq=seq,
        best_seq=seq.copy(),
        best_length=machines[:, LENGTH].copy(),
        best_machine=plan.machine.copy(),
        cost=np.zeros(2),
        rng=rng,
        heap=np.zeros((n + 3, 2), np.int64),
        log=np.zeros((n, 3), np.int64),
        job_log=np.zeros((problem.n_jobs, 2), np.int64),
        late=np.zeros(problem.n_jobs, np.int64),
        tally=tally,
    )


def best_plan(problem: Problem, tables: Tables) -> Plan:
    """The best sequences of a searcher, timed."""
    length = tables.best_length
    ptr = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=ptr[1:])
    at = np.repeat(tables.machines[:, BASE] - ptr[:-1], length) + np.arange(ptr[-1])
    return timed(problem, tables.best_machine, ptr, np.ascontiguousarray(tables.best_seq[at]))
