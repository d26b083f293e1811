"""Local search on machine sequences: insert and reassign moves with event-ordered propagation.

A move takes one operation out of its sequence and puts it elsewhere. Its effect is propagated in
the order of old starts and stops as soon as the move is lost: the acceptance threshold is drawn
before, and once no earlier finish is pending the cost can only grow. Threshold acceptance with a
falling temperature; the random numbers are our own (xorshift64*), so that the same seed and
iteration budget give the same plan bit for bit, whatever the clock does.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import inlined, kernel
from workshop_brain.schedule.calendars import op_times
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, cost_columns, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Arrays, Problem
from workshop_brain.schedule.timing import durations, right_shift, sequences, timed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHUNK = 4000
"""Moves per thread between two exchanges in the deterministic mode."""
HEAT = 0.2
"""First temperature over mean duration x mean weight; measured in bench/schedule.py."""
GOAL_STEP = 0.03
"""Makespan problems chase a goal this far below the best makespan so far."""


class Costs(NamedTuple):
    """Prices of a plan, see objective.cost_columns; ``due`` may be a moving target."""

    tardiness: float
    setup: float
    flow: Floats
    shift: Floats
    move: Floats
    due: Ints
    ref_machine: Ints
    ref_start: Ints


class State(NamedTuple):
    """One searcher's plan and scratch space. Sequences lie in ``seq`` from ``base[m]`` on."""

    base: Ints
    seq: Ints
    length: Ints
    fixed: Ints
    position: Ints
    machine: Ints
    start: Ints
    end: Ints
    work: Ints
    done: Ints
    best_seq: Ints
    best_count: Ints
    best_machine: Ints
    cost: Floats
    rng: NDArray[np.uint64]
    heap_key: Ints
    heap_op: Ints
    queued: Ints
    log_op: Ints
    log_start: Ints
    log_end: Ints
    logged: Ints
    log_job: Ints
    log_done: Ints
    job_logged: Ints
    counters: Ints


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
def _push(key: Ints, op: Ints, size: int, new_key: int, new_op: int) -> int:
    i = size
    while i > 0:
        parent = (i - 1) // 2
        if key[parent] < new_key or (key[parent] == new_key and op[parent] < new_op):
            break
        key[i], op[i] = key[parent], op[parent]
        i = parent
    key[i], op[i] = new_key, new_op
    return size + 1


@kernel
def _pop(key: Ints, op: Ints, size: int) -> int:
    """Remove the first entry; the new size. Read entry 0 before."""
    size -= 1
    last_key, last_op = key[size], op[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            key[right] < key[child] or (key[right] == key[child] and op[right] < op[child])
        ):
            child = right
        if last_key < key[child] or (last_key == key[child] and last_op < op[child]):
            break
        key[i], op[i] = key[child], op[child]
        i = child
    key[i], op[i] = last_key, last_op
    return size


@inlined
def _setup(a: Arrays, m: int, before: int, op: int) -> int:
    """Changeover before ``op`` on machine m after operation ``before`` (-1: none)."""
    family = a.op_family[before] if before >= 0 else a.machine_family[m]
    if family < 0:
        return 0
    return int(a.setup[a.machine_work_center[m], family, a.op_family[op]])


@inlined
def _ready(a: Arrays, s: State, o: int) -> int:
    ready = max(a.op_release[o], a.now)
    for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
        p = a.pred_op[k]
        if s.machine[p] >= 0:
            ready = max(ready, s.end[p] + a.pred_lag[k])
    return int(ready)


@inlined
def _times(a: Arrays, s: State, o: int) -> tuple[int, int]:
    """Start and end of o where it stands now, from the current ends of what it follows."""
    m = s.machine[o]
    k = s.position[o]
    before = s.seq[s.base[m] + k - 1] if k > 0 else -1
    free = a.machine_available[m]
    if before >= 0:
        free = max(free, s.end[before])
    setup = _setup(a, m, before, o)
    ready = _ready(a, s, o)
    if a.closed_ptr[m] == a.closed_ptr[m + 1]:
        begin = max(free + setup, ready)
        return begin, begin + s.work[o]
    _, begin, finish = op_times(
        a.closed_ptr,
        a.closed_start,
        a.closed_end,
        a.machine_resumable,
        m,
        free,
        setup,
        ready,
        s.work[o],
    )
    return begin, finish


@inlined
def _take_out(s: State, o: int) -> None:
    m = s.machine[o]
    b, k = s.base[m], s.position[o]
    s.length[m] -= 1
    for i in range(k, s.length[m]):
        x = s.seq[b + i + 1]
        s.seq[b + i] = x
        s.position[x] = i


@inlined
def _put_in(s: State, o: int, m: int, k: int) -> None:
    b = s.base[m]
    for i in range(s.length[m], k, -1):
        x = s.seq[b + i - 1]
        s.seq[b + i] = x
        s.position[x] = i
    s.seq[b + k] = o
    s.position[o] = k
    s.machine[o] = m
    s.length[m] += 1


@inlined
def _job_done(a: Arrays, s: State, j: int) -> int:
    done = -(1 << 50)
    for k in range(a.job_sink_ptr[j], a.job_sink_ptr[j + 1]):
        x = a.job_sink_op[k]
        if s.machine[x] >= 0:
            done = max(done, s.end[x] + a.op_tail[x])
    return done


@kernel
def _fill_done(a: Arrays, s: State) -> None:
    for j in range(len(s.done)):
        s.done[j] = _job_done(a, s, j)


@inlined
def _propagate(a: Arrays, c: Costs, s: State, seeds: Ints, keys: Ints, limit: float) -> float:
    """Change of cost when all times settle; more than ``limit`` = given up on the way.

    ``queued``: 0 not in the heap, 1 something before it ends later, 2 maybe earlier.
    """
    size = 0
    early = 0
    logs = 0
    job_logs = 0
    delta = 0.0
    for i in range(len(seeds)):
        o = seeds[i]
        if o >= 0 and s.queued[o] == 0 and a.op_status[o] == 0:
            size = _push(s.heap_key, s.heap_op, size, keys[i], o)
            s.queued[o] = 2
            early += 1
    steps = 0
    most = 6 * len(a.op_job) + 100
    while size > 0:
        if early == 0 and delta > limit:
            break
        steps += 1
        if steps > most:
            delta = np.inf
            break
        o = s.heap_op[0]
        size = _pop(s.heap_key, s.heap_op, size)
        if s.queued[o] == 2:
            early -= 1
        s.queued[o] = 0
        begin, finish = _times(a, s, o)
        old_begin, old_finish = s.start[o], s.end[o]
        if begin == old_begin and finish == old_finish:
            continue
        if s.logged[o] == 0:
            s.logged[o] = 1
            s.log_op[logs], s.log_start[logs], s.log_end[logs] = o, old_begin, old_finish
            logs += 1
        s.start[o], s.end[o] = begin, finish
        if c.shift[o] > 0.0:
            ref = max(c.ref_start[o], a.now)
            delta += c.shift[o] * (abs(begin - ref) - abs(old_begin - ref))
        if finish == old_finish:
            continue
        delta += c.flow[o] * (finish - old_finish)
        for k in range(a.sink_ptr[o], a.sink_ptr[o + 1]):
            j = a.sink_job[k]
            done = _job_done(a, s, j)
            if done != s.done[j]:
                if s.job_logged[j] == 0:
                    s.job_logged[j] = 1
                    s.log_job[job_logs], s.log_done[job_logs] = j, s.done[j]
                    job_logs += 1
                late = max(0, done - c.due[j]) - max(0, s.done[j] - c.due[j])
                delta += c.tardiness * a.job_weight[j] * late
                s.done[j] = done
        kind = 2 if finish < old_finish else 1
        m = s.machine[o]
        if s.position[o] + 1 < s.length[m]:
            x = s.seq[s.base[m] + s.position[o] + 1]
            if s.queued[x] == 0:
                size = _push(s.heap_key, s.heap_op, size, s.start[x], x)
                s.queued[x] = kind
                early += kind - 1
            elif s.queued[x] < kind:
                s.queued[x] = kind
                early += 1
        for k in range(a.succ_ptr[o], a.succ_ptr[o + 1]):
            x = a.succ_op[k]
            if s.machine[x] < 0:
                continue
            if s.queued[x] == 0:
                size = _push(s.heap_key, s.heap_op, size, s.start[x], x)
                s.queued[x] = kind
                early += kind - 1
            elif s.queued[x] < kind:
                s.queued[x] = kind
                early += 1
    for i in range(size):
        s.queued[s.heap_op[i]] = 0
    s.counters[0] = logs
    s.counters[1] = job_logs
    s.counters[2] += steps
    return delta


@inlined
def _forget(s: State, undo: bool) -> None:
    """Clear the logs; with ``undo`` put the logged times back."""
    for i in range(s.counters[0]):
        o = s.log_op[i]
        s.logged[o] = 0
        if undo:
            s.start[o], s.end[o] = s.log_start[i], s.log_end[i]
    for i in range(s.counters[1]):
        j = s.log_job[i]
        s.job_logged[j] = 0
        if undo:
            s.done[j] = s.log_done[i]


@inlined
def _pick(a: Arrays, c: Costs, s: State) -> int:
    """An operation to move: mostly one on the chain that makes a late job late; -1: none found."""
    n, jobs = len(a.op_job), len(c.due)
    if draw(s.rng, 100) < 70:
        for _ in range(8):
            j = draw(s.rng, jobs)
            if s.done[j] <= c.due[j] or a.job_weight[j] == 0:
                continue
            o = -1
            for k in range(a.job_sink_ptr[j], a.job_sink_ptr[j + 1]):
                x = a.job_sink_op[k]
                if s.machine[x] >= 0 and s.end[x] + a.op_tail[x] == s.done[j]:
                    o = x
            chosen, seen = -1, 0
            while o >= 0 and a.op_status[o] == 0 and seen < 200:
                seen += 1
                if draw(s.rng, seen) == 0:
                    chosen = o
                m, k = s.machine[o], s.position[o]
                following = -1
                latest = -(1 << 50)
                if k > 0:
                    x = s.seq[s.base[m] + k - 1]
                    following = x
                    latest = s.end[x] + _setup(a, m, x, o)
                for i in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
                    p = a.pred_op[i]
                    if s.machine[p] >= 0 and s.end[p] + a.pred_lag[i] > latest:
                        latest = s.end[p] + a.pred_lag[i]
                        following = p
                if latest < max(a.op_release[o], a.now):
                    break
                o = following
            if chosen >= 0:
                return chosen
    o = draw(s.rng, n)
    if a.op_status[o] != 0 or s.machine[o] < 0:
        return -1
    return o


@inlined
def _after(s: State, m: int, t: int) -> int:
    """Position of the first operation on m that starts at or after t."""
    b = s.base[m]
    low, high = s.fixed[m], s.length[m]
    while low < high:
        mid = (low + high) // 2
        if s.start[s.seq[b + mid]] >= t:
            high = mid
        else:
            low = mid + 1
    return int(low)


@inlined
def _spot(a: Arrays, s: State, o: int, m: int, ready: int) -> int:
    """Where to put o (taken out already) on machine m: near its possible starts, or its family."""
    b = s.base[m]
    low = max(s.fixed[m], _after(s, m, ready) - 1)
    high = min(s.length[m], _after(s, m, s.start[o]) + 3)
    if high < low:
        high = low
    if draw(s.rng, 3) == 0:
        seen, chosen = 0, -1
        for k in range(max(s.fixed[m], low - 3), min(s.length[m], high + 5)):
            if a.op_family[s.seq[b + k]] == a.op_family[o]:
                seen += 1
                if draw(s.rng, seen) == 0:
                    chosen = k
        if chosen >= 0:
            return chosen + draw(s.rng, 2)
    return int(low + draw(s.rng, high - low + 1))


@inlined
def _cyclic(a: Arrays, s: State, o: int, m: int, k: int) -> bool:
    """Whether placing o at position k may contradict precedence (by times: never misses one)."""
    b = s.base[m]
    if k > 0:
        p = s.seq[b + k - 1]
        for i in range(a.succ_ptr[o], a.succ_ptr[o + 1]):
            x = a.succ_op[i]
            if s.machine[x] >= 0 and (p == x or s.start[p] >= s.end[x]):
                return True
    if k < s.length[m]:
        q = s.seq[b + k]
        for i in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
            x = a.pred_op[i]
            if s.machine[x] >= 0 and (q == x or s.end[q] <= s.start[x]):
                return True
    return False


@kernel
def search(a: Arrays, c: Costs, s: State, moves: int, hot: float, cold: float) -> None:
    """Try moves; ``cost`` = [current, best]; the temperature falls from hot to cold."""
    seeds = np.empty(3, np.int64)
    keys = np.empty(3, np.int64)
    at_best = s.cost[0] <= s.cost[1]
    for step in range(moves):
        heat = hot + (cold - hot) * step / moves
        o = _pick(a, c, s)
        if o < 0:
            continue
        old_m, old_k = s.machine[o], s.position[o]
        options = a.alt_ptr[o + 1] - a.alt_ptr[o]
        m = old_m
        work = s.work[o]
        if options > 1 and draw(s.rng, 2) == 0:
            k = a.alt_ptr[o] + draw(s.rng, options)
            m, work = a.alt_machine[k], a.alt_duration[k]
        follower = -1
        before = -1
        if old_k > 0:
            before = s.seq[s.base[old_m] + old_k - 1]
        if old_k + 1 < s.length[old_m]:
            follower = s.seq[s.base[old_m] + old_k + 1]
        ready = _ready(a, s, o)
        _take_out(s, o)
        spot = _spot(a, s, o, m, ready)
        if (m == old_m and spot == old_k) or _cyclic(a, s, o, m, spot):
            _put_in(s, o, old_m, old_k)
            continue
        setup = -_setup(a, old_m, before, o)
        if follower >= 0:
            setup += _setup(a, old_m, before, follower) - _setup(a, old_m, o, follower)
        p, q = -1, -1
        if spot > 0:
            p = s.seq[s.base[m] + spot - 1]
        if spot < s.length[m]:
            q = s.seq[s.base[m] + spot]
        setup += _setup(a, m, p, o)
        if q >= 0:
            setup += _setup(a, m, o, q) - _setup(a, m, p, q)
        delta = c.setup * setup
        if m != old_m:
            if old_m == c.ref_machine[o]:
                delta += c.move[o]
            elif m == c.ref_machine[o]:
                delta -= c.move[o]
        old_work = s.work[o]
        _put_in(s, o, m, spot)
        s.work[o] = work
        seeds[0], seeds[1], seeds[2] = o, q, follower
        keys[0] = s.start[o]
        if q >= 0:
            keys[0] = s.start[q] - 1
            keys[1] = s.start[q]
        elif p >= 0:
            keys[0] = max(ready, s.start[p] + 1)
        if follower >= 0:
            keys[2] = s.start[follower]
        limit = heat * draw(s.rng, 1 << 20) / (1 << 20)
        delta += _propagate(a, c, s, seeds, keys, limit - delta)
        s.counters[3] += 1
        if delta > limit:
            _forget(s, True)
            _take_out(s, o)
            _put_in(s, o, old_m, old_k)
            s.work[o] = old_work
            continue
        if at_best and delta > 0.0:
            # the best plan is left: copy it now, with this one move taken back
            _take_out(s, o)
            _put_in(s, o, old_m, old_k)
            s.best_seq[:] = s.seq
            s.best_count[:] = s.length
            s.best_machine[:] = s.machine
            _take_out(s, o)
            _put_in(s, o, m, spot)
            at_best = False
        _forget(s, False)
        s.counters[4] += 1
        s.cost[0] += delta
        if s.cost[0] < s.cost[1] - 1e-6:
            s.cost[1] = s.cost[0]
            at_best = True
    if at_best:
        s.best_seq[:] = s.seq
        s.best_count[:] = s.length
        s.best_machine[:] = s.machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """Result of a search.

    Attributes
    ----------
    curve
        ``(seconds, moves, objective)`` of the best so far; seconds are for display only.
    moves
        Moves evaluated by all workers together.
    """

    plan: Plan
    objective: float
    start_objective: float
    curve: tuple[tuple[float, int, float], ...]
    moves: int
    seconds: float


def _costs(
    problem: Problem, previous: Plan | None, weights: Weights, due: Ints | None = None
) -> Costs:
    flow, shift, move = cost_columns(problem, previous, weights)
    none = np.full(problem.n_ops, -1, np.int64)
    return Costs(
        tardiness=float(weights.tardiness),
        setup=float(weights.setup),
        flow=flow,
        shift=shift,
        move=move,
        due=problem.job_due if due is None else due,
        ref_machine=none if previous is None else previous.machine,
        ref_start=none if previous is None else previous.start,
    )


def _capacity(problem: Problem, plan: Plan) -> Ints:
    """Where each machine's sequence begins: room for all that may ever stand there."""
    counts = np.bincount(problem.alt_machine, minlength=problem.n_machines)
    fixed = plan.machine[(problem.op_status != 0) & (plan.machine >= 0)]
    counts += np.bincount(fixed, minlength=problem.n_machines)
    base = np.zeros(problem.n_machines + 1, np.int64)
    np.cumsum(counts + 1, out=base[1:])
    return base


def _state(problem: Problem, plan: Plan, seed: int) -> State:
    n, jobs, machines = problem.n_ops, problem.n_jobs, problem.n_machines
    base = _capacity(problem, plan)
    ptr, ops = sequences(problem, plan)
    seq = np.full(base[-1], -1, np.int64)
    position = np.full(n, -1, np.int64)
    fixed = np.zeros(machines, np.int64)
    for m in range(machines):
        row = ops[ptr[m] : ptr[m + 1]]
        seq[base[m] : base[m] + len(row)] = row
        position[row] = np.arange(len(row))
        fixed[m] = int((problem.op_status[row] != 0).sum())
    a = problem.arrays
    work = np.zeros(n, np.int64)
    free = np.flatnonzero((plan.machine >= 0) & (problem.op_status == 0))
    work[free] = durations(problem, free, plan.machine)
    state = State(
        base=base,
        seq=seq,
        length=np.diff(ptr),
        fixed=fixed,
        position=position,
        machine=plan.machine.copy(),
        start=plan.start.copy(),
        end=plan.end.copy(),
        work=work,
        done=np.zeros(jobs, np.int64),
        best_seq=seq.copy(),
        best_count=np.diff(ptr),
        best_machine=plan.machine.copy(),
        cost=np.zeros(2),
        rng=np.array([(seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 or 1], np.uint64),
        heap_key=np.zeros(n + 3, np.int64),
        heap_op=np.zeros(n + 3, np.int64),
        queued=np.zeros(n, np.int64),
        log_op=np.zeros(n, np.int64),
        log_start=np.zeros(n, np.int64),
        log_end=np.zeros(n, np.int64),
        logged=np.zeros(n, np.int64),
        log_job=np.zeros(jobs, np.int64),
        log_done=np.zeros(jobs, np.int64),
        job_logged=np.zeros(jobs, np.int64),
        counters=np.zeros(8, np.int64),
    )
    _fill_done(a, state)
    for _ in range(16):
        draw(state.rng, 2)
    return state


def _best_plan(problem: Problem, state: State) -> Plan:
    machines = problem.n_machines
    ptr = np.zeros(machines + 1, np.int64)
    np.cumsum(state.best_count, out=ptr[1:])
    rows = [
        state.best_seq[state.base[m] : state.base[m] + state.best_count[m]] for m in range(machines)
    ]
    ops = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return timed(problem, state.best_machine, ptr, np.ascontiguousarray(ops))


def improve(
    problem: Problem,
    plan: Plan,
    *,
    seconds: float | None = None,
    iterations: int | None = None,
    seed: int = 0,
    workers: int = 1,
    previous: Plan | None = None,
    stable: bool = True,
    weights: Weights = PLANT_WEIGHTS,
    progress: Callable[[float, float], bool] | None = None,
) -> Improvement:
    """A better plan from a feasible one, never a worse one.

    Parameters
    ----------
    seconds, iterations
        Budget, exactly one of them: wall time, or moves in all. With iterations the result
        depends on seed, workers and budget alone, bit for bit.
    previous
        The plan in force, against which moves and shifts are priced; left out: ``plan``.
    stable
        False when nothing is in force yet: moves and shifts are free.
    progress
        Called after each round with share done and best objective; False stops the search.
    """
    if (seconds is None) == (iterations is None):
        raise ValueError("improve: give either seconds or iterations")
    reference = (previous or plan) if stable else None
    begin = time.perf_counter()
    base = right_shift(problem, plan)
    start_value = objective(problem, base, reference, weights).objective
    run = _Run(problem, base, reference, weights, seed, max(1, workers), start_value)
    if problem.n_ops and int((problem.op_status == 0).sum()):
        run.go(seconds, iterations, begin, progress)
    return Improvement(
        plan=run.plan,
        objective=run.value,
        start_objective=start_value,
        curve=tuple(run.curve),
        moves=run.moves,
        seconds=time.perf_counter() - begin,
    )


class _Run:
    """Rounds of parallel searchers that share the best plan."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        reference: Plan | None,
        weights: Weights,
        seed: int,
        workers: int,
        value: float,
    ) -> None:
        self.problem, self.arrays = problem, problem.arrays
        self.reference, self.weights = reference, weights
        self.plan, self.value = plan, value
        self.curve: list[tuple[float, int, float]] = [(0.0, 0, value)]
        self.moves = 0
        self.target = problem.target == "makespan"
        self.costs = self._priced()
        self.states = [_state(problem, plan, seed * 1000 + k) for k in range(workers)]
        self.seen = [0.0] * workers
        self.heat = self._heat()

    def _priced(self) -> Costs:
        due = None
        if self.target:
            goal = int((self.plan.end + self.problem.op_tail).max() * (1 - GOAL_STEP))
            due = np.full(self.problem.n_jobs, goal, np.int64)
        return _costs(self.problem, self.reference, self.weights, due)

    def _heat(self) -> float:
        """Temperature at which a typical single delay is accepted now and then."""
        free = self.problem.op_status == 0
        work = self.states[0].work[free]
        weight = float(self.problem.job_weight.mean()) * max(self.weights.tardiness, 1e-9)
        return HEAT * float(work.mean()) * weight if len(work) else 0.0

    def go(
        self,
        seconds: float | None,
        iterations: int | None,
        begin: float,
        progress: Callable[[float, float], bool] | None,
    ) -> None:
        """Search until the budget is used."""
        total = None if iterations is None else max(1, iterations // len(self.states))
        chunk = CHUNK if total is not None else 500
        done, share, shared = 0, 0.0, 0
        with ThreadPoolExecutor(len(self.states)) as pool:
            while share < 1.0:
                moves = chunk if total is None else min(chunk, total - done)
                clock = time.perf_counter()
                ahead = self._share(seconds, total, begin, done + moves)
                hot, cold = self.heat * (1 - share), self.heat * max(0.0, 1 - ahead)
                jobs = [
                    pool.submit(search, self.arrays, self.costs, state, moves, hot, cold)
                    for state in self.states
                ]
                for job in jobs:
                    job.result()
                done += moves
                self.moves += moves * len(self.states)
                self._collect(time.perf_counter() - begin)
                share = self._share(seconds, total, begin, done)
                if int(share * 8) > shared and share < 1.0:
                    shared = int(share * 8)
                    self._exchange()
                if progress is not None and not progress(min(1.0, share), self.value):
                    break
                if total is None:
                    took = max(1e-4, time.perf_counter() - clock)
                    left = max(0.0, (seconds or 0.0) - (time.perf_counter() - begin))
                    chunk = int(max(50, min(chunk * 2, chunk * min(0.1, left) / took)))

    @staticmethod
    def _share(seconds: float | None, total: int | None, begin: float, done: int) -> float:
        """Share of the budget that is used."""
        if total is not None:
            return done / total
        return (time.perf_counter() - begin) / max(1e-3, seconds or 0.0)

    def _collect(self, now: float) -> None:
        """Take the best plan of all searchers, in their order."""
        improved = False
        for k, state in enumerate(self.states):
            if state.cost[1] >= self.seen[k]:
                continue
            self.seen[k] = float(state.cost[1])
            plan = _best_plan(self.problem, state)
            value = objective(self.problem, plan, self.reference, self.weights).objective
            if value < self.value - 1e-6:
                self.plan, self.value, improved = plan, value, True
        if improved:
            self.curve.append((now, self.moves, self.value))
            if self.target:
                self._exchange()

    def _exchange(self) -> None:
        """All searchers go on from the best plan; in makespan problems with a tighter goal."""
        self.costs = self._priced()
        for k, state in enumerate(self.states):
            fresh = _state(self.problem, self.plan, 0)
            fresh.rng[:] = state.rng
            fresh.counters[:] = state.counters
            self.states[k], self.seen[k] = fresh, 0.0


def polish(
    problem: Problem, plan: Plan, previous: Plan, weights: Weights, iterations: int, seed: int
) -> Plan:
    """A few hundred cold moves on a timed plan, deterministic; for the reaction path."""
    costs = _costs(problem, previous, weights)
    state = _state(problem, plan, seed)
    search(problem.arrays, costs, state, iterations, 0.0, 0.0)
    return _best_plan(problem, state)
