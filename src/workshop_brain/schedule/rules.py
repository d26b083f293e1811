"""Plans from index rules: an event-driven dispatcher over flat arrays, and a small grid of rules.

Whenever a machine is free, the waiting operation with the best index gets it; when another idle
machine would finish that operation earlier, it goes there. ATCS is the apparent tardiness cost
rule with setups (Lee, Bhaskaran, Pinedo 1997), with a look-ahead on arrivals since a changeover
may run before the material is there.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.kernel import kernel
from workshop_brain.schedule.calendars import advance, next_open, op_times
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.serial import arrange
from workshop_brain.schedule.structure import FAR, Arrays, OpStatus, Problem
from workshop_brain.schedule.timing import duration_on

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Rule(IntEnum):
    """Which waiting operation a free machine takes first."""

    FIFO = 0
    EDD = 1
    SPT = 2
    FOREMAN = 3
    ATCS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleParams:
    """Look-ahead parameters of ATCS; the other rules use ``lookahead`` alone.

    Attributes
    ----------
    due
        Scale of the slack term, mean durations. Small: urgency sets in late and sharply.
    setup
        Scale of the changeover term, mean changeovers. Small: avoids changeovers.
    wait
        Scale of the term for idling until material arrives, mean durations.
    lookahead
        How far ahead a machine may commit to material on its way, mean durations.
    queue
        Allowance for waiting in later steps, as a factor on their durations.
    """

    due: float = 1.0
    setup: float = 0.5
    wait: float = 0.5
    lookahead: float = 0.5
    queue: float = 1.5


PLAIN = RuleParams(lookahead=0.0)
GRID: tuple[RuleParams, ...] = tuple(
    RuleParams(due=due, setup=setup, wait=wait, lookahead=lookahead, queue=queue)
    for due in (0.5, 2.0, 4.0, 8.0)
    for setup in (0.25, 0.5)
    for wait, lookahead, queue in (
        (0.5, 0.0, 1.0),
        (0.4, 0.5, 2.0),
        (0.1, 0.9, 2.0),
        (0.1, 0.9, 1.0),
    )
)
"""Settings that span what won on generated plants; ``construct`` takes the best."""
QUICK: tuple[RuleParams, ...] = (
    RuleParams(due=0.5, setup=0.2, lookahead=0.0, queue=1.0),
    RuleParams(due=4.0, setup=0.25, wait=0.4, lookahead=0.5, queue=2.0),
    RuleParams(due=4.0, setup=0.25, wait=0.1, lookahead=0.9, queue=1.0),
    RuleParams(due=8.0, setup=0.5, wait=0.1, lookahead=0.9, queue=2.0),
)
"""The few that the reaction path tries."""
# columns of what waits before a machine
(OPERATION, DURATION, READY, FAMILY) = range(4)
(PLAIN_INDEX, LATEST) = range(2)
_LOW = np.array([0.5, 0.15, 0.05, 0.02, 1.0])
_HIGH = np.array([20.0, 1.0, 0.8, 1.5, 3.5])
"""Between which ``tune`` looks for settings; columns as in RuleParams."""
_WIDE = 40
"""Settings that ``tune`` draws at random before it goes on around the best."""


@kernel
def latest_finish(a: Arrays, queue: float) -> tuple[Floats, Floats]:
    """Latest finish of each operation for its jobs to be in time, and the weight behind it."""
    n = len(a.op_job)
    latest = np.full(n, 1e15)
    weight = np.zeros(n)
    for i in range(n - 1, -1, -1):
        o = a.op_order[i]
        for k in range(a.sink_ptr[o], a.sink_ptr[o + 1]):
            j = a.sink_job[k]
            latest[o] = min(latest[o], float(a.job_due[j] - a.op_tail[o]))
            weight[o] += a.job_weight[j]
        for k in range(a.succ_ptr[o], a.succ_ptr[o + 1]):
            s = a.succ_op[k]
            shortest = a.alt_duration[a.alt_ptr[s]]
            for x in range(a.alt_ptr[s] + 1, a.alt_ptr[s + 1]):
                shortest = min(shortest, a.alt_duration[x])
            latest[o] = min(latest[o], latest[s] - queue * shortest - a.succ_lag[k])
            weight[o] = max(weight[o], weight[s])
        weight[o] = max(weight[o], float(a.job_weight[a.op_job[o]]))
    return latest, weight


@kernel
def _replay(tree: Ints, wake: Ints, m: int) -> None:
    """Play the matches of machine m again, up to the root; of equals the first wins."""
    x = (len(tree) // 2 + m) // 2
    while x > 0:
        left, right = tree[2 * x], tree[2 * x + 1]
        winner = left
        if left < 0 or (right >= 0 and wake[right] < wake[left]):
            winner = right
        tree[x] = winner
        x //= 2


@kernel
def dispatch(
    a: Arrays,
    rule: int,
    due_scale: float,
    setup_scale: float,
    wait_scale: float,
    lookahead: float,
    latest: Floats,
    weight: Floats,
    machine_mean: Floats,
    setup_mean: Floats,
    list_ptr: Ints,
) -> tuple[Ints, Ints, Ints, Ints, int]:
    """Machine, start, end and setup start of all operations, and how many could be placed."""
    n, machines = len(a.op_job), len(a.machine_family)
    machine = np.full(n, -1, np.int64)
    start = np.full(n, -1, np.int64)
    end = np.full(n, -1, np.int64)
    setup_start = np.full(n, -1, np.int64)
    ready = np.empty(n, np.int64)
    left = np.zeros(n, np.int64)
    free = a.machine_available.copy()
    family = a.machine_family.copy()
    wake = np.full(machines, FAR, np.int64)
    leaves = 1
    while leaves < machines:
        leaves *= 2
    tree = np.full(2 * leaves, -1, np.int64)  # a tournament: who wakes first, from node 1 down
    tree[leaves : leaves + machines] = np.arange(machines)
    for m in range(machines):
        _replay(tree, wake, m)
    # what waits before each machine, in rows, so that a scan reads memory in order
    waiting = np.empty((list_ptr[machines], 4), np.int64)
    price = np.empty((list_ptr[machines], 2), np.float64)  # what of ATCS never changes, and latest
    count = np.zeros(machines, np.int64)
    visible = np.empty(n, np.int64)
    shown = 0
    to_place = 0
    last_fixed = np.full(machines, -FAR, np.int64)
    for o in range(n):
        if a.op_status[o] == 4:
            continue
        if a.op_status[o] != 0:
            m = a.op_fixed_machine[o]
            machine[o] = m
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
            free[m] = max(free[m], end[o])
            if end[o] >= last_fixed[m]:
                last_fixed[m] = end[o]
                family[m] = a.op_family[o]
            continue
        to_place += 1
    for o in range(n):
        if a.op_status[o] != 0:
            continue
        ready[o] = max(a.op_release[o], a.now)
        for k in range(a.pred_ptr[o], a.pred_ptr[o + 1]):
            p = a.pred_op[k]
            if a.op_status[p] == 0:
                left[o] += 1
            elif a.op_status[p] != 4:
                ready[o] = max(ready[o], end[p] + a.pred_lag[k])
        if left[o] == 0:
            visible[shown] = o
            shown += 1
    placed = 0
    now = a.now
    while placed < to_place:
        for i in range(shown):
            o = visible[i]
            for k in range(a.alt_ptr[o], a.alt_ptr[o + 1]):
                m = a.alt_machine[k]
                x = list_ptr[m] + count[m]
                waiting[x, OPERATION], waiting[x, DURATION] = o, a.alt_duration[k]
                waiting[x, READY], waiting[x, FAMILY] = ready[o], a.op_family[o]
                price[x, LATEST] = latest[o]
                if rule == 4:
                    work = max(1.0, float(a.alt_duration[k]))
                    price[x, PLAIN_INDEX] = np.log(work / max(1e-3, weight[o]))
                count[m] += 1
                ahead = np.int64(lookahead * machine_mean[m])
                at = max(now, max(free[m], ready[o] - ahead))
                if at < wake[m]:
                    wake[m] = at
                    _replay(tree, wake, m)
        shown = 0
        m = tree[1]
        t = wake[m]
        if t >= FAR:
            break
        now = t
        opens = next_open(a.closed_ptr, a.closed_start, a.closed_end, m, t)
        if opens > t:
            wake[m] = opens
            _replay(tree, wake, m)
            continue
        ahead = np.int64(lookahead * machine_mean[m])
        per_slack = 1.0 / (due_scale * machine_mean[m])
        per_setup = 1.0 / (setup_scale * setup_mean[m])
        per_idle = 1.0 / (wait_scale * machine_mean[m])
        best = -1
        best_score = 0.0
        soon = FAR
        k = list_ptr[m]
        table = a.machine_work_center[m]
        while k < list_ptr[m] + count[m]:
            o = waiting[k, OPERATION]
            if machine[o] >= 0:
                count[m] -= 1
                last = list_ptr[m] + count[m]
                for x in range(4):
                    waiting[k, x] = waiting[last, x]
                price[k, PLAIN_INDEX], price[k, LATEST] = (
                    price[last, PLAIN_INDEX],
                    price[last, LATEST],
                )
                continue
            here = waiting[k, READY]
            if here > t + ahead:
                soon = min(soon, here - ahead)
                k += 1
                continue
            setup = 0
            if family[m] >= 0:
                setup = a.setup[table, family[m], waiting[k, FAMILY]]
            work = waiting[k, DURATION]
            if rule == 0:
                score = float(here)
            elif rule == 1:
                score = price[k, LATEST]
            elif rule == 2:
                score = float(work)
            elif rule == 3:
                score = price[k, LATEST]
                if setup > 0:
                    score += 1e15
            else:
                begin = max(free[m] + setup, here)
                slack = max(0.0, price[k, LATEST] - work - begin)
                idle = max(0.0, float(here - max(t, free[m] + setup)))
                score = price[k, PLAIN_INDEX]
                score += slack * per_slack + setup * per_setup + idle * per_idle
            if best < 0 or score < best_score or (score == best_score and o < best):
                best = o
                best_score = score
            k += 1
        if best < 0:
            wake[m] = soon
            _replay(tree, wake, m)
            continue
        chosen = int(m)
        chosen_setup = 0
        chosen_start = 0
        chosen_end = FAR
        for k in range(a.alt_ptr[best], a.alt_ptr[best + 1]):
            x = a.alt_machine[k]
            if x != m and free[x] > t:
                continue
            setup = 0
            if family[x] >= 0:
                setup = a.setup[a.machine_work_center[x], family[x], a.op_family[best]]
            s0, s1, s2 = op_times(
                a.closed_ptr,
                a.closed_start,
                a.closed_end,
                a.machine_resumable,
                x,
                free[x],
                setup,
                ready[best],
                a.alt_duration[k],
            )
            if s2 < chosen_end or (s2 == chosen_end and x == m):
                chosen, chosen_setup, chosen_start, chosen_end = int(x), s0, s1, s2
        machine[best] = chosen
        setup_start[best] = chosen_setup
        start[best] = chosen_start
        end[best] = chosen_end
        free[chosen] = chosen_end
        family[chosen] = a.op_family[best]
        wake[chosen] = max(t, chosen_end)
        _replay(tree, wake, chosen)
        placed += 1
        for k in range(a.succ_ptr[best], a.succ_ptr[best + 1]):
            s = a.succ_op[k]
            if a.op_status[s] != 0:
                continue
            left[s] -= 1
            ready[s] = max(ready[s], chosen_end + a.succ_lag[k])
            if left[s] == 0:
                visible[shown] = s
                shown += 1
    return machine, start, end, setup_start, to_place - placed


class Dispatcher:
    """What all rules need of one problem, computed once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.arrays = problem.arrays
        machines = problem.n_machines
        counts = np.bincount(problem.alt_machine, minlength=machines)
        self.list_ptr = np.zeros(machines + 1, np.int64)
        np.cumsum(counts, out=self.list_ptr[1:])
        total = np.bincount(problem.alt_machine, weights=problem.alt_duration, minlength=machines)
        self.machine_mean = np.maximum(1.0, total / np.maximum(1, counts))
        table = np.array([_mean_setup(t) for t in problem.setup])
        self.setup_mean = np.ascontiguousarray(table[problem.machine_work_center])
        self.latest: dict[float, tuple[Floats, Floats]] = {}

    def plan(self, rule: Rule, params: RuleParams) -> Plan:
        """The plan of one rule; InfeasibleError when an operation can never start."""
        queue = params.queue if rule is Rule.ATCS else 1.0
        if queue not in self.latest:
            self.latest[queue] = latest_finish(self.arrays, queue)
        latest, weight = self.latest[queue]
        machine, start, end, setup_start, missing = dispatch(
            self.arrays,
            int(rule),
            params.due,
            params.setup,
            params.wait,
            params.lookahead,
            latest,
            weight,
            self.machine_mean,
            self.setup_mean,
            self.list_ptr,
        )
        if missing:
            stuck = np.flatnonzero((machine < 0) & (self.problem.op_status == OpStatus.FREE))
            raise InfeasibleError(
                f"operation {self.problem.op_ids[stuck[0]]!r} can never start "
                f"({missing} in all); check its machines' calendars and its predecessors"
            )
        plan = Plan(machine=machine, start=start, end=end, setup_start=setup_start)
        return plan if self.problem.limits is None else arrange(self.problem, plan, True)


def _mean_setup(table: NDArray[np.int64]) -> float:
    """Mean of the changeovers that cost time, ticks; 1 when none does."""
    positive = table[table > 0]
    return float(positive.mean()) if len(positive) else 1.0


def construct(
    problem: Problem,
    rule: Rule | str = Rule.ATCS,
    params: RuleParams | Sequence[RuleParams] | None = None,
    weights: Weights = PLANT_WEIGHTS,
) -> Plan:
    """A plan by an index rule; for ATCS the best of a grid unless one setting is given.

    Parameters
    ----------
    rule
        Rule or its name in lower case: fifo, edd, spt, foreman, atcs.
    """
    chosen = Rule[rule.upper()] if isinstance(rule, str) else rule
    dispatcher = Dispatcher(problem)
    if isinstance(params, RuleParams):
        return dispatcher.plan(chosen, params)
    if chosen is not Rule.ATCS:
        return dispatcher.plan(chosen, PLAIN)
    plans, stuck = [], None
    for setting in params or GRID:
        try:
            plans.append(dispatcher.plan(chosen, setting))
        except InfeasibleError as error:  # limits may be kept in one order and not in another
            stuck = error
    if not plans and stuck is not None:
        raise stuck
    return min(plans, key=lambda plan: objective(problem, plan, None, weights).objective)


def tune(
    problem: Problem,
    plan: Plan,
    *,
    seconds: float | None = None,
    passes: int | None = None,
    seed: int = 0,
    workers: int = 1,
    weights: Weights = PLANT_WEIGHTS,
) -> Plan:
    """The best plan of many ATCS settings, or the given one when none beats it.

    Settings are drawn log-uniformly at first, then around the best so far, ever closer. A pass
    takes milliseconds at thousands of operations, where local search takes seconds to gain as much.

    Parameters
    ----------
    seconds, passes
        Budget, exactly one of them: wall time, or passes of each worker.
    """
    if (seconds is None) == (passes is None):
        raise ValueError("tune: give either seconds or passes")
    until = None if seconds is None else time.perf_counter() + seconds
    dispatcher = Dispatcher(problem)

    def one(worker: int) -> tuple[float, Plan]:
        rng = np.random.default_rng((seed, worker))
        best, best_plan, at = np.inf, plan, np.zeros(0)
        done = 0
        while done < (passes or 1 << 40) and (until is None or time.perf_counter() < until):
            if done < _WIDE or not len(at):
                trial = np.exp(rng.uniform(np.log(_LOW), np.log(_HIGH)))
            else:
                spread = 0.35 * 0.995 ** (done - _WIDE) + 0.03
                trial = np.clip(at * np.exp(rng.normal(0.0, spread, len(at))), _LOW, _HIGH)
            due, setup, wait, lookahead, queue = trial.tolist()
            params = RuleParams(
                due=due, setup=setup, wait=wait, lookahead=lookahead, queue=round(queue, 1)
            )
            done += 1
            try:
                found = dispatcher.plan(Rule.ATCS, params)
            except InfeasibleError:
                continue
            value = objective(problem, found, None, weights).objective
            if value < best:
                best, best_plan, at = value, found, trial
        return best, best_plan

    start = (objective(problem, plan, None, weights).objective, plan)
    with ThreadPoolExecutor(workers) as pool:
        return min([start, *pool.map(one, range(workers))], key=lambda pair: pair[0])[1]


def allowed(problem: Problem, op: int, machine: int) -> bool:
    """Whether an operation may run on a machine."""
    return int(duration_on(problem.arrays, op, machine)) >= 0
