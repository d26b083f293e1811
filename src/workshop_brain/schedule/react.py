"""What to do at once when something happens: candidates by masking, scored, checked, chosen.

Operations that have started stay; those of the frozen zone stay unless the event itself delays
them. Candidates: right-shift (same sequences, timed anew; new operations where they finish first),
re-route (only what the event hurts goes elsewhere) and re-dispatch by rules, steady (what starts
soon keeps its machine) or not; the preferred one is polished by a short local search, with new
operations always one that keeps the sequences. The best by the weighted objective, stability
included, is taken once the independent checker agrees; a re-dispatch that moves nearly everything
only when it is better by ``Weights.calm``. When none passes, the largest part that can be done is
planned and the rest is listed (see ``partial``).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.model.decision import Candidate
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.document_limits import arcs_of, with_job_limits
from workshop_brain.schedule.instance import job_numbers, job_rows
from workshop_brain.schedule.objective import (
    PLANT_WEIGHTS,
    Kpis,
    Weights,
    cost_columns,
    near_ops,
    objective,
)
from workshop_brain.schedule.partial import NEVER_S, Unscheduled, largest_part, reachable
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import PLAIN, QUICK, Dispatcher, Rule, RuleParams
from workshop_brain.schedule.search import polish
from workshop_brain.schedule.structure import FAR, OpStatus, Problem
from workshop_brain.schedule.timing import durations, right_shift
from workshop_brain.schedule.verify import verify

Ints = NDArray[np.int64]
DEFAULT_REPAIR_S = 30 * 60
"""Assumed length of a stop whose end nobody has told."""
HURT_S = 10 * 60
"""A machine that is down hurts an operation that it delays by more than this ..."""
SOON_S = 8 * 3600
"""... and that was to start within this time; for later ones the machine may be back."""
NEW_MOVES = 10
"""Times as many polishing moves when new operations must find their places among the old ones."""
_BESIDE = ThreadPoolExecutor(2, thread_name_prefix="rules")
"""Where rules run beside the right-shift; their kernels hold no lock of the interpreter."""
_STOPS = {EventKind.BREAKDOWN, EventKind.QUALITY_STOP, EventKind.OPERATOR_ABSENT}
_RETURNS = {EventKind.RESTORED, EventKind.OPERATOR_BACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Answer to an event.

    Attributes
    ----------
    problem
        The problem after the event: use it for verify, diff, improve and the next event.
    frozen_s
        Seconds from the event within which what stands keeps machine and start.
    plan
        The chosen plan, checked.
    previous
        The plan before the event, laid on ``problem`` (new operations at machine -1).
    candidates, plans
        What was considered, most preferred first, with the plans in the same order.
    chosen
        Index into both.
    unscheduled
        Jobs that the plan leaves out since they cannot be done; cancelled in ``problem``.
    """

    problem: Problem
    frozen_s: int
    plan: Plan
    previous: Plan
    candidates: tuple[Candidate, ...]
    plans: tuple[Plan, ...]
    chosen: int
    kpis: Kpis
    react_ms: float
    unscheduled: tuple[Unscheduled, ...] = ()

    @property
    def steady(self) -> Problem:
        """Improve on this: ``problem``, in which what the event delays within the frozen time
        keeps its machine."""
        if not self.frozen_s:
            return self.problem
        held = steady(self.problem, self.previous, self.frozen_s)
        return _ground(self.problem, held, self.previous, self.plan, self.frozen_s)


def react(
    problem: Problem,
    plan: Plan,
    event: Event | None,
    *,
    seed: int = 0,
    frozen_s: int = 0,
    weights: Weights = PLANT_WEIGHTS,
    iterations: int = 300,
    deadline_ms: float | None = None,
) -> Reaction:
    """A checked plan after an event, within milliseconds.

    Parameters
    ----------
    plan
        The plan in force, on ``problem``; operations at machine -1 are new and get placed.
    event
        Payload ``until_ns`` for stops and late material (more than ``NEVER_S`` away: never, and
        what cannot be done without is left out); ``job`` (document form) for a rush order
        that ``problem`` does not hold yet; ``cancelled`` (request ids), ``due_ns`` and
        ``priority`` (by request id) for changed orders; ``duration_s`` and ``until_ns`` of
        maintenance that a machine's condition asks for; None: just bring the plan up to date.
    frozen_s
        Operations that start within this many seconds of the event keep machine and start; what
        the event delays keeps its machine, unless that is down.
    iterations
        Moves of the deterministic polish of the best candidate; 0 = none.
    deadline_ms
        Time to answer in. It is turned into a number of rules to try by the size of the problem
        and not watched by the clock, so that equal inputs give equal plans on every machine; when
        not all rules fit, there is no polish either. None: everything.

    Raises
    ------
    InfeasibleError
        No candidate passes the checker, not even for a part.
    OrderError
        The event names something the problem does not know.
    """
    begin = time.perf_counter()
    problem, plan, hurt = apply_event(problem, plan, event, frozen_s)
    rest = reachable(problem, plan)
    problem, plan = rest.problem, rest.plan

    def answer(extra: Plan | None) -> Reaction:
        return _answer(problem, plan, hurt, extra, seed, frozen_s, weights, iterations, deadline_ms)

    try:
        found = answer(None)
    except InfeasibleError:
        if problem.limits is None:
            raise
        part = largest_part(problem, place(problem, plan, np.flatnonzero(_homeless(problem, plan))))
        rest = replace(rest, unscheduled=(*rest.unscheduled, *part.unscheduled))
        gone = part.problem.op_status == OpStatus.CANCELLED
        plan = replace(plan, machine=np.where(gone, -1, plan.machine))
        problem = part.problem
        found = answer(part.plan)
    took = (time.perf_counter() - begin) * 1e3
    return replace(found, unscheduled=rest.unscheduled, react_ms=took)


def _answer(
    problem: Problem,
    plan: Plan,
    hurt: NDArray[np.bool_],
    extra: Plan | None,
    seed: int,
    frozen_s: int,
    weights: Weights,
    iterations: int,
    deadline_ms: float | None,
) -> Reaction:
    """The best candidate that the checker passes; ``extra`` is one more that is known to go."""
    hurt = hurt & (problem.op_status == OpStatus.FREE)
    rules = _affordable(problem, deadline_ms)
    held = steady(problem, plan, weights.near_s)
    free = steady(problem, plan, frozen_s) if frozen_s else problem
    plans = list(_candidates(problem, held, free, plan, hurt, rules))
    if extra is not None:
        plans.append(("part", extra))
    if len(rules) < len(_RULES):
        iterations = 0
    prices = cost_columns(problem, plan, weights)
    plans = [(name, _begun(problem, plan, p)) for name, p in plans]
    scored = sorted(
        ((objective(problem, p, plan, weights, prices), name, p) for name, p in plans),
        key=lambda row: row[0].objective,
    )
    most_near = int(weights.changes * near_ops(problem, plan, weights).sum())
    scored = _calm_first(scored, weights, most_near)
    if iterations > 0 and scored:
        is_new = bool(((problem.op_status == OpStatus.FREE) & (plan.machine < 0)).any())
        start = next((row for row in scored if is_new and _plain(row) in KEEPING), scored[0])
        most = iterations * (NEW_MOVES if is_new else 1)
        ground = problem
        if _plain(start) in CALM:  # a calm one stays calm
            ground = _ground(problem, held, plan, start[2], weights.near_s)
        better = _attempt(lambda: polish(ground, start[2], plan, weights, most, seed)) or start[2]
        better = _begun(problem, plan, better)
        kpis = objective(problem, better, plan, weights, prices)
        if kpis.objective < (1.0 - weights.worth) * start[0].objective:
            rows = [*scored, (kpis, f"{start[1]}+search", better)]
            rows = sorted(rows, key=lambda row: row[0].objective)
            scored = _calm_first(rows, weights, most_near)
    broken = ""
    for chosen, (kpis, _, candidate) in enumerate(scored):
        violations = verify(problem, candidate)
        if not violations:
            return Reaction(
                problem=problem,
                frozen_s=frozen_s,
                plan=candidate,
                previous=plan,
                candidates=tuple(
                    Candidate(name=name, kpis=k.as_dict(), objective=k.objective)
                    for k, name, _ in scored
                ),
                plans=tuple(p for _, _, p in scored),
                chosen=chosen,
                kpis=kpis,
                react_ms=0.0,
            )
        broken = f"{violations[0].kind}: {', '.join(violations[0].ops)} {violations[0].detail}"
    raise InfeasibleError(f"no candidate passes the checker ({broken}); the last plan stays valid")


def _begun(problem: Problem, before: Plan, plan: Plan) -> Plan:
    """A candidate in which what stays where it is keeps the changeover that it had, too."""
    fixed = (problem.op_status != OpStatus.FREE) & (plan.machine >= 0)
    fixed &= (plan.machine == before.machine) & (plan.start == before.start)
    fixed &= before.setup_start <= before.start
    return replace(plan, setup_start=np.where(fixed, before.setup_start, plan.setup_start))


_Row = tuple[Kpis, str, Plan]
KEEPING = frozenset({"right_shift", "reroute"})
"""Candidates that keep the sequences but for what the event hurts."""
CALM = KEEPING | {f"steady_{k}" for k in range(1, 5)}
"""Candidates that change no machine in the near window but for what the event hurts."""


def _ground(problem: Problem, held: Problem, before: Plan, plan: Plan, near_s: int) -> Problem:
    """``held``, the steady problem of the plan before, where a plan that moved on is improved.

    What it gave another machine in the near window already is free to go.
    """
    moved = (problem.op_status == OpStatus.FREE) & (before.machine >= 0)
    moved &= (plan.machine != before.machine) & (before.start < problem.now + near_s)
    if not moved.any():
        return held
    return steady(problem, replace(before, machine=np.where(moved, -1, before.machine)), near_s)


def _calm_first(rows: list[_Row], weights: Weights, most_near: int) -> list[_Row]:
    """Rows by objective, but calm ones first unless clearly beaten, and among them those that
    keep the sequences; behind all others those that change more near machines than they may."""
    rows = _prefer(rows, CALM, weights.steady)
    rows = _prefer(rows, KEEPING, weights.calm)
    return sorted(rows, key=lambda row: row[0].near_moves > most_near)


def _prefer(rows: list[_Row], names: frozenset[str], margin: float) -> list[_Row]:
    """Rows of these names first, unless the first row is better than all of them by the margin."""
    known = [row for row in rows if _plain(row) in names]
    if not known or rows[0][0].objective < (1.0 - margin) * known[0][0].objective:
        return rows
    return [*known, *(row for row in rows if _plain(row) not in names)]


def _plain(row: _Row) -> str:
    return row[1].removesuffix("+search")


def apply_event(
    problem: Problem, plan: Plan, event: Event | None, frozen_s: int = 0
) -> tuple[Problem, Plan, NDArray[np.bool_]]:
    """Problem and plan as they stand after the event, and which operations it hurts directly.

    Nothing is rebuilt: statuses, closed time, releases and weights are masked; a rush order
    appends its columns.
    """
    t = problem.now if event is None else max(problem.now, problem.ticks(event.time_ns))
    keep = _frozen(problem, plan, t, frozen_s)
    problem = _started(problem, plan, t)
    if event is not None:
        problem, plan = _change(problem, plan, event, t)
    keep = np.append(keep, np.zeros(problem.n_ops - len(keep), bool))
    problem = _lock(problem, plan, keep)
    hurt = (problem.op_status == OpStatus.FREE) & (plan.machine >= 0)
    for m, low, high in problem.downs:
        if high > t:
            here = (plan.machine == m) & (plan.start < high) & (plan.end > low)
            hurt = hurt & ~here
    hurt = ~hurt & (problem.op_status == OpStatus.FREE) & (plan.machine >= 0)
    return problem, plan, hurt


def _frozen(problem: Problem, plan: Plan, t: int, frozen_s: int) -> NDArray[np.bool_]:
    """Operations that should keep machine and start: locked before, or starting soon."""
    ahead = plan.start >= max(t, problem.now)
    soon = (problem.op_status == OpStatus.FREE) & ahead & (plan.start < t + frozen_s)
    locked = (problem.op_status == OpStatus.LOCKED) & (problem.op_fixed_start >= t)
    keep: NDArray[np.bool_] = (soon | locked) & (plan.machine >= 0)
    return keep


def _started(problem: Problem, plan: Plan, t: int) -> Problem:
    """What the plan started between the problem's now and t has started, at t."""
    free = problem.op_status == OpStatus.FREE
    started = free & (plan.machine >= 0) & (plan.start >= problem.now) & (plan.start < t)
    was_locked = problem.op_status == OpStatus.LOCKED
    status = problem.op_status.copy()
    machine, start = problem.op_fixed_machine.copy(), problem.op_fixed_start.copy()
    begin, work = problem.op_fixed_from.copy(), problem.op_fixed_work.copy()
    status[was_locked & (start < t)] = OpStatus.RUNNING
    ops = np.flatnonzero(started)
    status[ops] = OpStatus.RUNNING
    machine[ops], start[ops], begin[ops] = plan.machine[ops], plan.start[ops], plan.start[ops]
    work[ops] = durations(problem, ops, plan.machine)
    running = status == OpStatus.RUNNING
    status[running & (plan.end <= t) & (plan.machine >= 0)] = OpStatus.DONE
    return problem.with_(
        now=t,
        op_status=status,
        op_fixed_machine=machine,
        op_fixed_start=start,
        op_fixed_from=begin,
        op_fixed_work=work,
    )


def _lock(problem: Problem, plan: Plan, keep: NDArray[np.bool_]) -> Problem:
    """Lock what stays in the frozen zone: all that the event does not delay, closed under
    predecessors and under what runs before on the machine."""
    status = problem.op_status.copy()
    machine, start = problem.op_fixed_machine.copy(), problem.op_fixed_start.copy()
    begin, work = problem.op_fixed_from.copy(), problem.op_fixed_work.copy()
    status[status == OpStatus.LOCKED] = OpStatus.FREE
    keep = keep & (status == OpStatus.FREE)
    machine[status == OpStatus.FREE] = -1
    trial = problem.with_(op_status=status, op_fixed_machine=machine)
    if not keep.any():
        return trial
    shown = plan
    if problem.limits is not None:  # what starts after the frozen zone keeps nothing in it back
        late = (status == OpStatus.FREE) & (plan.start > int(plan.start[keep].max()))
        shown = replace(plan, machine=np.where(late, -1, plan.machine))
    try:
        earliest = right_shift(trial, shown).start
    except InfeasibleError:  # not all can be done: then nothing says what the event leaves alone
        return trial
    free_on: dict[int, int] = {}
    for o in np.flatnonzero((status == OpStatus.FREE) & (plan.machine >= 0) & ~keep).tolist():
        m = int(plan.machine[o])
        free_on[m] = min(free_on.get(m, FAR), int(plan.start[o]))
    locked = []
    for o in sorted(np.flatnonzero(keep).tolist(), key=lambda o: (int(plan.start[o]), o)):
        m = int(plan.machine[o])
        stays = earliest[o] <= plan.start[o] and free_on.get(m, FAR) > plan.start[o]
        if stays and all(status[p] != OpStatus.FREE for p, _ in problem.preds(o)):
            status[o] = OpStatus.LOCKED
            locked.append(o)
        else:
            free_on[m] = min(free_on.get(m, FAR), int(plan.start[o]))
    ops = np.array(locked, np.int64)
    machine[ops], start[ops], begin[ops] = plan.machine[ops], plan.start[ops], plan.start[ops]
    work[ops] = durations(problem, ops, plan.machine)
    return problem.with_(
        op_status=status,
        op_fixed_machine=machine,
        op_fixed_start=start,
        op_fixed_from=begin,
        op_fixed_work=work,
    )


def _index(lookup: Any, id: str, event: Event) -> int:
    try:
        return int(lookup(id))
    except KeyError as error:
        raise OrderError(f"event {event.kind.value}: {error.args[0]}") from None


def _change(problem: Problem, plan: Plan, event: Event, t: int) -> tuple[Problem, Plan]:
    payload = event.payload
    until = t + DEFAULT_REPAIR_S
    if payload.get("until_ns") is not None:
        until = max(t + 1, problem.ticks(int(payload["until_ns"])))
        until = FAR if until - t > NEVER_S else until
    if event.kind in _STOPS:
        m = _index(problem.machine, event.path, event)
        downs = tuple(d for d in problem.downs if d[2] > t and not (d[0] == m and d[1] == t))
        return problem.with_(downs=(*_past(problem, t), *downs, (m, t, until))), plan
    if event.kind in _RETURNS:
        m = _index(problem.machine, event.path, event)
        cut = ((d[0], d[1], min(d[2], t) if d[0] == m else d[2]) for d in problem.downs)
        return problem.with_(downs=tuple(d for d in cut if d[2] > d[1])), plan
    if event.kind is EventKind.LATE_MATERIAL:
        job = _index(problem.job, event.path, event)
        release = problem.op_release.copy()
        waiting = (problem.op_status == OpStatus.FREE) | (problem.op_status == OpStatus.LOCKED)
        release[_served(problem, job) & waiting] = until
        late = problem.with_(op_release=np.maximum(release, problem.op_release))
        return late, plan
    if event.kind is EventKind.LATE_FINISH:
        o = _index(problem.op, str(payload.get("job", event.path)), event)
        begin, work = problem.op_fixed_from.copy(), problem.op_fixed_work.copy()
        status = problem.op_status.copy()
        if status[o] in (OpStatus.RUNNING, OpStatus.DONE):
            begin[o], work[o], status[o] = until, 0, OpStatus.RUNNING
        return problem.with_(op_fixed_from=begin, op_fixed_work=work, op_status=status), plan
    if event.kind is EventKind.RUSH_ORDER and "job" in payload:
        return with_job(problem, payload["job"]), _longer(plan, len(payload["job"]["operations"]))
    if event.kind is EventKind.MAINTENANCE_DUE:
        m = _index(problem.machine, event.path, event)
        return _with_upkeep(problem, m, int(payload["duration_s"]), t, until), _longer(plan, 1)
    if event.kind is EventKind.ORDERS_CHANGED:
        return _orders_changed(problem, plan, payload, event)
    return problem, plan


def _with_upkeep(problem: Problem, m: int, duration: int, t: int, latest: int) -> Problem:
    """Maintenance of a machine whose condition asks for it, to be over by ``latest``."""
    machine = problem.machine_ids[m]
    job: dict[str, Any] = {
        "id": f"maintenance {machine} {t}",
        "family": 0,
        "release": t,
        "weight": 0,
        "operations": [{"alternatives": [[machine, duration]]}],
    }
    if latest < FAR:
        job["deadline"] = latest
    longer = with_job(problem, job)
    family = longer.op_family.copy()
    family[-1] = -1  # it needs no changeover and leaves the machine as it was
    return longer.with_(op_family=family)


def _past(problem: Problem, t: int) -> tuple[tuple[int, int, int], ...]:
    """Downs that are over; they explain the ends of what ran through them."""
    return tuple(d for d in problem.downs if d[2] <= t)


def _served(problem: Problem, job: int) -> NDArray[np.bool_]:
    """Operations that serve a job: its own, and loads shared with it."""
    served: NDArray[np.bool_] = problem.op_job == job
    name = problem.job_ids[job]
    for o, requests in enumerate(problem.op_requests):
        if len(requests) > 1 and any(request == name for request, _ in requests):
            served[o] = True
    return served


def _orders_changed(
    problem: Problem, plan: Plan, payload: Mapping[str, Any], event: Event
) -> tuple[Problem, Plan]:
    """Cancelled orders leave; due dates and priorities change."""
    due, weight = problem.job_due.copy(), problem.job_weight.copy()
    for id, value in payload.get("due_ns", {}).items():
        due[_index(problem.job, id, event)] = problem.ticks(int(value))
    for id, value in payload.get("priority", {}).items():
        weight[_index(problem.job, id, event)] = int(value)
    status, machine = problem.op_status.copy(), plan.machine.copy()
    gone = {str(id) for id in payload.get("cancelled", ())}
    for id in gone:
        job = _index(problem.job, id, event)
        weight[job] = 0
        for o in np.flatnonzero(_served(problem, job)).tolist():
            others = [r for r, _ in problem.op_requests[o] if r not in gone]
            if status[o] in (OpStatus.FREE, OpStatus.LOCKED) and not others:
                status[o], machine[o] = OpStatus.CANCELLED, -1
    changed = problem.with_(job_due=due, job_weight=weight, op_status=status)
    return changed, Plan(
        machine=machine, start=plan.start, end=plan.end, setup_start=plan.setup_start
    )


def _longer(plan: Plan, more: int) -> Plan:
    """The plan with some more operations that are not planned yet."""
    tail = np.full(more, -1, np.int64)
    return Plan(
        machine=np.append(plan.machine, tail),
        start=np.append(plan.start, tail),
        end=np.append(plan.end, tail),
        setup_start=np.append(plan.setup_start, tail),
    )


def with_job(problem: Problem, job: Mapping[str, Any]) -> Problem:
    """The problem with one more job in document form; its operations come last.

    It may bring what the jobs of a document do: lags, tools, skills, deadlines.
    """
    id = str(job.get("id"))
    if id in problem.job_ids:
        raise OrderError(f"rush order: job {id!r} is in the problem already")
    try:
        rows = job_rows(job, {name: m for m, name in enumerate(problem.machine_ids)})
        family, release, due, weight = job_numbers(
            {"release": problem.now, **job}, problem.setup.shape[1]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OrderError(f"rush order: job {id!r} is incomplete: {error!r}") from error
    n, k, j = problem.n_ops, len(rows), problem.n_jobs
    arcs = arcs_of([job], [0])
    preds: list[list[tuple[int, int]]] = [[] for _ in rows]
    succs: list[list[tuple[int, int]]] = [[] for _ in rows]
    for arc in arcs:
        preds[arc.after].append((arc.before, arc.lag))
        succs[arc.before].append((arc.after, arc.lag))
    ends = [x for x in range(k) if not succs[x]]
    order = _in_order(preds)
    if len(order) < k:
        raise OrderError(f"rush order: job {id!r}: its operations wait for each other in a circle")
    tied = (replace(arc, before=n + arc.before, after=n + arc.after) for arc in arcs)
    limits = with_job_limits(problem.limits, job, n, tuple(tied))

    def more(values: Ints, tail: Any) -> Ints:
        return np.append(values, np.asarray(tail, np.int64))

    def pointers(ptr: Ints, counts: list[int]) -> Ints:
        return np.append(ptr, ptr[-1] + np.cumsum(counts, dtype=np.int64))

    centers = [{int(problem.machine_work_center[m]) for m, _ in row} for row in rows]
    longer = problem.with_(
        op_job=more(problem.op_job, [j] * k),
        op_family=more(problem.op_family, [family] * k),
        op_work_center=more(
            problem.op_work_center, [next(iter(c)) if len(c) == 1 else -1 for c in centers]
        ),
        op_release=more(problem.op_release, [release] * k),
        op_tail=more(problem.op_tail, [0] * k),
        op_status=more(problem.op_status, [int(OpStatus.FREE)] * k),
        op_fixed_machine=more(problem.op_fixed_machine, [-1] * k),
        op_fixed_start=more(problem.op_fixed_start, [-1] * k),
        op_fixed_from=more(problem.op_fixed_from, [-1] * k),
        op_fixed_work=more(problem.op_fixed_work, [0] * k),
        op_quantity=more(problem.op_quantity, [1] * k),
        op_capacity=more(problem.op_capacity, [0] * k),
        op_order=more(problem.op_order, [n + x for x in order]),
        alt_ptr=pointers(problem.alt_ptr, [len(row) for row in rows]),
        alt_machine=more(problem.alt_machine, [m for row in rows for m, _ in row]),
        alt_duration=more(problem.alt_duration, [d for row in rows for _, d in row]),
        pred_ptr=pointers(problem.pred_ptr, [len(row) for row in preds]),
        pred_op=more(problem.pred_op, [n + x for row in preds for x, _ in row]),
        pred_lag=more(problem.pred_lag, [lag for row in preds for _, lag in row]),
        succ_ptr=pointers(problem.succ_ptr, [len(row) for row in succs]),
        succ_op=more(problem.succ_op, [n + x for row in succs for x, _ in row]),
        succ_lag=more(problem.succ_lag, [lag for row in succs for _, lag in row]),
        job_release=more(problem.job_release, [release]),
        job_due=more(problem.job_due, [due]),
        job_weight=more(problem.job_weight, [weight]),
        sink_ptr=pointers(problem.sink_ptr, [int(x in ends) for x in range(k)]),
        sink_job=more(problem.sink_job, [j] * len(ends)),
        job_sink_ptr=pointers(problem.job_sink_ptr, [len(ends)]),
        job_sink_op=more(problem.job_sink_op, [n + x for x in ends]),
        op_ids=(*problem.op_ids, *(f"{id}.{x}" for x in range(k))),
        job_ids=(*problem.job_ids, id),
        op_requests=(*problem.op_requests, *(((),) * k)),
        op_product=(*problem.op_product, *(("",) * k)),
        op_program=(*problem.op_program, *(("",) * k)),
    )
    if limits is problem.limits:
        return longer
    try:
        return longer.with_(limits=limits)
    except InfeasibleError as error:
        raise OrderError(f"rush order: job {id!r}: {error}") from error


def _in_order(preds: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Operations behind their predecessors; those of a circle are left out."""
    out: list[int] = []
    left = list(range(len(preds)))
    while ready := [x for x in left if all(p in out for p, _ in preds[x])]:
        out += ready
        left = [x for x in left if x not in ready]
    return out


_RULES: tuple[tuple[str, Rule, RuleParams], ...] = (
    ("steady_4", Rule.ATCS, QUICK[3]),
    ("redispatch_4", Rule.ATCS, QUICK[3]),
    ("steady_3", Rule.ATCS, QUICK[2]),
    ("redispatch_3", Rule.ATCS, QUICK[2]),
    ("steady_2", Rule.ATCS, QUICK[1]),
    ("redispatch_2", Rule.ATCS, QUICK[1]),
    ("redispatch_1", Rule.ATCS, QUICK[0]),
    ("family_first", Rule.FOREMAN, PLAIN),
    ("due_first", Rule.EDD, PLAIN),
)
"""The rules of a re-dispatch, those that win most often first; a steady one changes no machine in
the near window that it need not."""
PLACED_PER_MS = 2_000
"""Operations that a rule places in a millisecond of the deadline, all other work included."""


def _affordable(
    problem: Problem, deadline_ms: float | None
) -> tuple[tuple[str, Rule, RuleParams], ...]:
    """The rules that fit into the time to answer in; never less than one."""
    if deadline_ms is None:
        return _RULES
    return _RULES[: max(1, int(deadline_ms * PLACED_PER_MS / max(1, problem.n_ops)))]


def steady(problem: Problem, plan: Plan, near_s: int) -> Problem:
    """The problem in which what was to start within ``near_s`` keeps its machine.

    Free to go is what was to start on a machine while it is down: it has to be somewhere else.
    """
    near = (problem.op_status == OpStatus.FREE) & (plan.machine >= 0)
    near &= plan.start < problem.now + near_s
    for m, low, high in problem.downs:
        if low <= problem.now < high:
            near &= (plan.machine != m) | (plan.start >= high)
    row = np.repeat(np.arange(problem.n_ops), np.diff(problem.alt_ptr))
    kept = ~near[row] | (problem.alt_machine == plan.machine[row])
    counts = np.bincount(row[kept], minlength=problem.n_ops)
    ptr = np.zeros(problem.n_ops + 1, np.int64)
    np.cumsum(counts, out=ptr[1:])
    return problem.with_(
        alt_ptr=ptr,
        alt_machine=np.ascontiguousarray(problem.alt_machine[kept]),
        alt_duration=np.ascontiguousarray(problem.alt_duration[kept]),
    )


def _candidates(
    problem: Problem,
    held: Problem,
    free: Problem,
    plan: Plan,
    hurt: NDArray[np.bool_],
    rules: tuple[tuple[str, Rule, RuleParams], ...],
) -> Iterator[tuple[str, Plan]]:
    """Right-shift, re-route and re-dispatch; the rules run beside the other two."""
    dispatchers = {
        is_steady: Dispatcher(held if is_steady else free)
        for is_steady in {name.startswith("steady") for name, _, _ in rules}
    }
    ahead = [
        _BESIDE.submit(dispatchers[name.startswith("steady")].plan, rule, params)
        for name, rule, params in rules
    ]
    base = place(problem, plan, np.flatnonzero(_homeless(problem, plan)))
    shifted = _attempt(lambda: right_shift(problem, base))
    if shifted is not None:
        yield "right_shift", shifted
    hurt = hurt | _delayed(problem, plan, shifted)
    if hurt.any():
        ops = np.flatnonzero(hurt)
        routed = _attempt(lambda: right_shift(problem, place(problem, base, ops)))
        if routed is not None:
            yield "reroute", routed
    for (name, _, _), task in zip(rules, ahead, strict=True):
        found = _attempt(task.result)
        if found is not None:
            yield name, found


def _homeless(problem: Problem, plan: Plan) -> NDArray[np.bool_]:
    """Operations that need a place: new ones, and those of a machine that never comes back."""
    free = problem.op_status == OpStatus.FREE
    out: NDArray[np.bool_] = free & (plan.machine < 0)
    for m, low, high in problem.downs:
        if low <= problem.now and high >= FAR:
            out |= free & (plan.machine == m)
    return out


def _attempt(make: Callable[[], Plan]) -> Plan | None:
    """The plan, or None when there is none that way."""
    try:
        return make()
    except InfeasibleError:
        return None


def _delayed(problem: Problem, plan: Plan, shifted: Plan | None) -> NDArray[np.bool_]:
    """Operations that were to start soon on a machine that is down, and now start much later."""
    down = [m for m, low, high in problem.downs if low <= problem.now < high]
    if not down or shifted is None:
        return np.zeros(problem.n_ops, bool)
    waits = (problem.op_status == OpStatus.FREE) & np.isin(plan.machine, down)
    waits &= shifted.start > plan.start + HURT_S
    soon: NDArray[np.bool_] = waits & (plan.start < problem.now + SOON_S)
    return soon


def place(problem: Problem, plan: Plan, ops: Ints) -> Plan:
    """The plan with some operations put where they would finish first, pushing others back.

    Starts are keys for the sequences only; time it with ``right_shift`` afterwards.
    """
    machine, start, end = plan.machine.copy(), plan.start.copy(), plan.end.copy()
    out = Plan(machine=machine, start=start, end=end, setup_start=plan.setup_start)
    if not len(ops):
        return out
    machine[ops] = -1
    rank = np.empty(problem.n_ops, np.int64)
    rank[problem.op_order] = np.arange(problem.n_ops)
    windows = list(zip(problem.closed_ptr[:-1], problem.closed_ptr[1:], strict=True))
    for o in sorted(ops.tolist(), key=lambda o: int(rank[o])):
        ready = max(int(problem.op_release[o]), problem.now)
        for p, lag in problem.preds(o):
            if machine[p] >= 0:
                ready = max(ready, int(end[p]) + lag)
        best = (FAR, 0, 0)
        for m, work in problem.alternatives(o).items():
            begin = ready
            for k in range(*windows[m]):
                if problem.closed_start[k] <= begin < problem.closed_end[k]:
                    begin = int(problem.closed_end[k])
            here = machine == m
            busy = here & (start <= begin) & (end > begin)
            begin = max(begin, int(end[busy].max()) if busy.any() else 0)
            fixed = here & (problem.op_status != 0)
            begin = max(begin, int(end[fixed].max()) if fixed.any() else 0)
            earlier = here & (start < begin)
            family = int(problem.machine_family[m])
            if earlier.any():
                latest = int(np.argmax(np.where(earlier, start, -FAR)))
                family = int(problem.op_family[latest])
            begin += problem.setup_between(m, family, int(problem.op_family[o]))
            best = min(best, (begin + work, m, begin))
        machine[o], start[o], end[o] = best[1], best[2], best[0]
    return out
