"""What fixes the start of an operation: machine, changeover, material, or a limit.

A limit binds when without it the operation could start earlier where it stands. Which one is found
by looking at what it would have needed then, and who had it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.decision import Message
from workshop_brain.schedule.calendars import advance, op_times
from workshop_brain.schedule.limit_rows import cuts, rows_of
from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.objective import setups_of
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import FAR, OpStatus, Problem

Found = tuple[Message, int]
"""The reason, and the operation behind it or -1."""


class _Held(NamedTuple):
    """So much of a row over [low, high); ``op`` -1 = it cannot be had (away, off shift)."""

    low: int
    high: int
    quantity: int
    op: int


def message(problem: Problem, id: str, o: int, m: int, **ticks: Any) -> Message:
    """A message about an operation on a machine, with instants given in ticks."""
    params: dict[str, Any] = {"op": problem.op_ids[o], "machine": problem.machine_ids[m]}
    for key, tick in ticks.items():
        params[f"{key}_ns"] = problem.time_ns(int(tick))
    return Message(id=id, params=params)


def binding(problem: Problem, plan: Plan, o: int) -> Found:
    """The constraint that fixes the start of an operation, and the operation behind it or -1."""
    m, start = int(plan.machine[o]), int(plan.start[o])
    status = OpStatus(int(problem.op_status[o]))
    if status is not OpStatus.FREE:
        name = {OpStatus.RUNNING: "running", OpStatus.LOCKED: "locked"}.get(status, "done")
        return message(problem, f"schedule.{name}", o, m, start=start), -1
    load = _load(problem, plan, o, m)
    before, family = _before(problem, plan, o, m, load)
    free = int(plan.end[before]) if before >= 0 else int(problem.machine_available[m])
    setup = problem.setup_between(m, family, int(problem.op_family[o]))
    material, source = -FAR, -1
    for p, lag in problem.preds(o):
        if plan.machine[p] >= 0 and plan.end[p] + lag > material:
            material, source = int(plan.end[p]) + lag, p
    release = max(int(problem.op_release[o]), problem.now)
    if problem.limits is not None:
        ready = max(material, release)
        if _earliest(problem, o, m, free, setup, ready) < start:
            last = max(load, key=lambda x: (_ready(problem, plan, x), -x))
            if last != o and _ready(problem, plan, last) > ready:
                told = message(problem, "schedule.waits_load", o, m, until=start)
                told.params["other"] = problem.op_ids[last]
                return told, last
            return _limit(problem, problem.limits, plan, o, before, free, setup, ready)
    windows = range(problem.closed_ptr[m], problem.closed_ptr[m + 1])
    opens = any(problem.closed_end[k] == start for k in windows)
    latest = max(free + setup, material, release)
    if opens and latest < start:
        return message(problem, "schedule.waits_open", o, m, until=start), -1
    if material == latest and source >= 0:
        told = message(problem, "schedule.waits_material", o, m, until=material)
        told.params["other"] = problem.op_ids[source]
        return told, source
    if free + setup == latest and before >= 0:
        kind = "waits_setup" if setup else "waits_machine"
        if not setup and problem.op_family[before] < 0:
            kind = "waits_upkeep"
        told = message(problem, f"schedule.{kind}", o, m, until=free)
        told.params.update({"other": problem.op_ids[before], "setup_s": setup})
        return told, before
    if release == latest and release > problem.now:
        return message(problem, "schedule.waits_release", o, m, until=release), -1
    return message(problem, "schedule.waits_nothing", o, m), -1


def _load(problem: Problem, plan: Plan, o: int, m: int) -> list[int]:
    """Operations that run as one load with an operation, itself included."""
    if problem.limits is None or m not in dict(problem.limits.batches):
        return [o]
    same = (plan.machine == m) & (plan.start == plan.start[o])
    return [int(x) for x in np.flatnonzero(same)]


def _ready(problem: Problem, plan: Plan, o: int) -> int:
    """When its release and its material let an operation start."""
    ends = [int(plan.end[p]) + lag for p, lag in problem.preds(o) if plan.machine[p] >= 0]
    return max([int(problem.op_release[o]), problem.now, *ends])


def _before(problem: Problem, plan: Plan, o: int, m: int, load: list[int]) -> tuple[int, int]:
    """What stands before a load on its machine (-1 = nothing), and what is set up then."""
    sequence = plan.sequence(m)
    k = int(np.flatnonzero(sequence == o)[0])
    earlier = [x for x in sequence[:k].tolist() if x not in load]
    family = int(problem.machine_family[m])
    for x in earlier:
        family = int(problem.op_family[x]) if problem.op_family[x] >= 0 else family
    return (earlier[-1] if earlier else -1), family


def _earliest(problem: Problem, o: int, m: int, free: int, setup: int, ready: int) -> int:
    """Start of an operation were there no limits."""
    work = problem.alternatives(o)[m]
    _, start, _ = op_times(
        problem.closed_ptr, problem.closed_start, problem.closed_end, problem.machine_resumable,
        m, free, setup, ready, work,
    )  # fmt: skip
    return int(start)


def _limit(
    problem: Problem,
    limits: Limits,
    plan: Plan,
    o: int,
    before: int,
    free: int,
    setup: int,
    ready: int,
) -> Found:
    """The limit without which an operation would start earlier."""
    m, start = int(plan.machine[o]), int(plan.start[o])
    n, count = problem.n_ops, problem.n_machines
    change = _changes(problem, plan)
    begin = int(plan.setup_start[o])
    if begin > free and _earliest(problem, o, m, begin, setup, ready) == start:
        if setup and limits.has_setup_needs:
            t = _last_open(problem, m, begin)
            end = _done(problem, m, t, setup)
            found = _held(problem, plan, change, o, (n + count + o, 2 * n + count + m), t, end, m)
            if found is not None:
                return _told(problem, limits, "setup_", o, m, begin, *found)
        blocked = _blocked(problem, limits, plan, o, before, begin)
        if blocked is not None:
            return blocked
    t = _last_start(problem, o, m, start)
    end = _done(problem, m, t, problem.alternatives(o)[m])
    found = _held(problem, plan, change, o, (o, n + m), t, end, m)
    if found is not None:
        return _told(problem, limits, "", o, m, start, *found)
    for p, s, most in limits.max_lags:
        if p == o and plan.machine[s] >= 0 and plan.start[s] - end > most:
            told = message(problem, "schedule.waits_lag", o, m, until=plan.start[s])
            told.params.update({"other": problem.op_ids[s], "lag_s": most})
            return told, s
    return _by_choice(problem, limits, plan, o, t)


def _changes(problem: Problem, plan: Plan) -> NDArray[np.int64]:
    """Changeover before each operation, ticks; that of a load for all in it."""
    change = setups_of(problem, plan)
    for m, _ in (problem.limits or Limits()).batches:
        here = np.flatnonzero(plan.machine == m)
        _, load = np.unique(plan.start[here], return_inverse=True)
        most = np.zeros(len(here), np.int64)
        np.maximum.at(most, load, change[here])
        change[here] = most[load]
    return change


def _by_choice(problem: Problem, limits: Limits, plan: Plan, o: int, t: int) -> Found:
    """Nothing keeps it: cheaper power is waited for, or what is tied to it."""
    m, start = int(plan.machine[o]), int(plan.start[o])
    price = {tick: value for tick, value in limits.tariff if tick <= start}
    was = [value for tick, value in limits.tariff if tick <= t]
    if start in price and was and price[start] < was[-1] and limits.power_kw[m] > 0:
        told = message(problem, "schedule.waits_power", o, m, until=start)
        told.params.update({"price": price[start], "price_before": was[-1]})
        return told, -1
    return message(problem, "schedule.waits_kept", o, m, until=start), -1


def _blocked(
    problem: Problem, limits: Limits, plan: Plan, o: int, before: int, until: int
) -> Found | None:
    """The lot before stands on the machine until its buffer has a place or it is taken."""
    arc = next(((s, name) for p, s, name in limits.buffered if p == before), None)
    if before < 0 or arc is None or arc[0] == o or plan.machine[arc[0]] < 0:
        return None
    after, name = arc
    lag = next(lag for p, lag in problem.preds(after) if p == before)
    taker = after
    if plan.start[after] - lag != until:
        takers = [s for _, s, x in limits.buffered if x == name and plan.start[s] - lag == until]
        taker = takers[0] if takers else after
    m = int(plan.machine[o])
    told = message(problem, "schedule.waits_blocked", o, m, until=until)
    told.params.update(
        {"lot": problem.op_ids[before], "buffer": name, "other": problem.op_ids[taker]}
    )
    return told, taker


def _closed(problem: Problem, m: int) -> list[tuple[int, int]]:
    low, high = problem.closed_ptr[m], problem.closed_ptr[m + 1]
    pairs = zip(problem.closed_start[low:high], problem.closed_end[low:high], strict=True)
    return [(int(a), int(b)) for a, b in pairs]


def _last_open(problem: Problem, m: int, t: int) -> int:
    """The last open tick before t."""
    closed = next((a for a, b in _closed(problem, m) if b == t), t)
    return closed - 1


def _last_start(problem: Problem, o: int, m: int, t: int) -> int:
    """The last tick before t at which the machine's calendar lets the operation start."""
    work = problem.alternatives(o)[m]
    while True:
        t = _last_open(problem, m, t)
        if problem.machine_resumable[m]:
            return t
        over = [a for a, b in _closed(problem, m) if a < t + work and b > t]
        if not over:
            return t
        t = min(over) - work + 1


def _done(problem: Problem, m: int, t: int, work: int) -> int:
    closed = (problem.closed_ptr, problem.closed_start, problem.closed_end)
    return int(advance(*closed, m, t, work))


def _spans(problem: Problem, m: int, low: int, high: int, is_open: bool) -> list[tuple[int, int]]:
    """[low, high), for people without the closed time of the machine."""
    if not is_open:
        return [(low, high)]
    out, t = [], low
    for a, b in _closed(problem, m):
        if b > t and a < high:
            if a > t:
                out.append((t, a))
            t = b
    return [*out, (t, high)] if t < high else out


def _held(
    problem: Problem,
    plan: Plan,
    change: Any,
    o: int,
    holders: tuple[int, int],
    low: int,
    high: int,
    m: int,
) -> tuple[int, _Held] | None:
    """The row that an operation lacks over [low, high), and who has it last; None: it has all."""
    rows = rows_of(problem)
    needs: dict[int, int] = {}
    for holder in holders:
        for r, quantity in rows.need[rows.need_ptr[holder] : rows.need_ptr[holder + 1]].tolist():
            needs[r] = needs.get(r, 0) + quantity
    last: tuple[int, _Held] | None = None
    for r, quantity in needs.items():
        is_open = bool(rows.is_open[r])
        taken = [_Held(a, b, q, -1) for x, a, b, q in rows.away.tolist() if x == r]
        taken += _calls(problem, plan, change, o, r)
        room = int(rows.capacity[r]) - quantity
        for a, b in _spans(problem, m, low, high, is_open):
            here = [row for row in taken if row.low < b and row.high > a]
            for t in {max(a, row.low) for row in here}:
                on = [row for row in here if row.low <= t < row.high]
                if sum(row.quantity for row in on) <= room:
                    continue
                first = min(on, key=lambda row: (row.high, -row.op))
                if last is None or first.high > last[1].high:
                    last = (r, first)
    return last


def _calls(problem: Problem, plan: Plan, change: Any, o: int, r: int) -> list[_Held]:
    """What all other operations take of a row."""
    rows, n, count = rows_of(problem), problem.n_ops, problem.n_machines
    owner = np.repeat(np.arange(len(rows.need_ptr) - 1), np.diff(rows.need_ptr))
    mine = rows.need[:, 0] == r
    of = dict(zip(owner[mine].tolist(), rows.need[mine, 1].tolist(), strict=True))
    out = []
    loads: set[tuple[int, int]] = set()
    for x in np.flatnonzero(plan.machine >= 0).tolist():
        m = int(plan.machine[x])
        runs, sets = of.get(x, 0), of.get(n + count + x, 0)
        if rows.load[m] == 0 or (m, int(plan.start[x])) not in loads:
            runs += of.get(n + m, 0)
            sets += of.get(2 * n + count + m, 0)
            loads.add((m, int(plan.start[x])))
        spans = [(runs, int(plan.start[x]), int(plan.end[x]))]
        if sets and change[x] and problem.op_status[x] == OpStatus.FREE:
            begin = int(plan.setup_start[x])
            spans.append((sets, begin, _done(problem, m, begin, int(change[x]))))
        for quantity, low, high in spans:
            if quantity and x != o:
                kept = _spans(problem, m, low, high, bool(rows.is_open[r]))
                out += [_Held(a, b, quantity, x) for a, b in kept]
    return out


def _told(
    problem: Problem,
    limits: Limits,
    when: str,
    o: int,
    m: int,
    until: int,
    row: int,
    held: _Held,
) -> Found:
    """A tool or person that is not free, with who has it."""
    tools = len(limits.tools)
    if row < tools:
        kind, name = "tool", limits.tools[row].id
    else:
        kind, name = "person", ", ".join(sorted(cuts(limits)[row - tools].skills))
    away = "_away" if held.op < 0 else ""
    told = message(problem, f"schedule.waits_{when}{kind}{away}", o, m, until=until)
    told.params[kind] = name
    if held.op >= 0:
        told.params["other"] = problem.op_ids[held.op]
    return told, held.op
