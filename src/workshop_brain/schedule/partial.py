"""The largest part of a problem that can be done, when not all of it can.

Whole jobs are left out, and what needs their pieces with them; of the choices that were tried the
one whose weights sum to the least. What has started stays. Every job that is left out comes with
the reason, as a message.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.decision import Message
from workshop_brain.schedule.document_limits import back_at
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.rules import PLAIN, Dispatcher, Rule
from workshop_brain.schedule.serial import (
    MISSED_DEADLINE,
    TOO_LATE_AFTER,
    Miss,
    attempt,
)
from workshop_brain.schedule.structure import FAR, NEVER_S, OpStatus, Problem

__all__ = ["NEVER_S", "Part", "Unscheduled", "largest_part", "reachable"]

Mask = NDArray[np.bool_]
_RETRIES = 20
"""See ``serial.attempt``."""
_TRIALS = 120
"""Most choices of jobs that are tried after the first that goes."""
_WORK = 300_000
"""Operations that are placed before no more choices are tried, so that large plants do not wait."""
_LARGE = 1000
"""Operations above which jobs are left out many at a time."""
_LARGE_RETRIES = 3
_ROUNDS = 40
"""Most times that this is done before it is given up."""
_RIVALS = 4
"""Jobs that are tried in the place of one that does not fit."""
_CONFLICT = "schedule.left_conflict"
_TOLD = 3
"""Most jobs that a reason names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscheduled:
    """A job that is left out of a plan.

    Attributes
    ----------
    ops
        Its operations that are not planned; what had started still is.
    why
        ``schedule.left_*``.
    others
        Jobs of the plan in whose way it is, when that is the reason.
    """

    job: str
    ops: tuple[str, ...]
    why: Message
    others: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For records and JSON."""
        kind = self.why.id.removeprefix("schedule.left_")
        why = {"kind": kind, **self.why.params}
        if self.others:
            why["others"] = list(self.others)
        return {"job": self.job, "ops": list(self.ops), "why": why}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What can be done: the problem with the rest cancelled, and a plan that keeps its limits."""

    problem: Problem
    plan: Plan
    unscheduled: tuple[Unscheduled, ...]


class _Jobs:
    """Which jobs the operations serve, and what each job is worth."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        at = {id: j for j, id in enumerate(problem.job_ids)}
        self.shared = {
            o: {at[request] for request, _ in requests if request in at} | {int(problem.op_job[o])}
            for o, requests in enumerate(problem.op_requests)
            if len(requests) > 1
        }
        self.open = (problem.op_status == OpStatus.FREE) | (problem.op_status == OpStatus.LOCKED)
        # maintenance has no weight of its own; no order is worth going without it
        upkeep = np.ones(problem.n_jobs, bool)
        upkeep[problem.op_job[problem.op_family >= 0]] = False
        weight = problem.job_weight.copy()
        weight[upkeep] = 1 + int(weight.sum())
        self.worth = weight * (problem.n_jobs + 1) + 1
        """Sums of it compare weights first, then the number of jobs."""

    def of(self, o: int) -> set[int]:
        """The jobs that an operation serves."""
        return self.shared.get(o) or {int(self.problem.op_job[o])}

    def gone(self, left: Iterable[int], lost: Mask) -> Mask:
        """Operations that serve nobody when these jobs are left out."""
        jobs = set(left)
        out: Mask = lost | (self.open & np.isin(self.problem.op_job, sorted(jobs)))
        for o, served in self.shared.items():
            out[o] = lost[o] or (self.open[o] and served <= jobs)
        return out

    def closed(self, why: dict[int, Message], lost: Mask) -> tuple[dict[int, Message], Mask]:
        """These jobs with all that need their pieces, and the operations that go with them."""
        problem = self.problem
        why = dict(why)
        after = np.repeat(np.arange(problem.n_ops), np.diff(problem.pred_ptr))
        while True:
            gone = self.gone(why, lost)
            stuck = gone[problem.pred_op] & ~gone[after] & self.open[after]
            more: dict[int, Message] = {}
            for k in np.flatnonzero(stuck).tolist():
                o, p = int(after[k]), int(problem.pred_op[k])
                for j in self.of(o) - why.keys():
                    more[j] = _message(
                        problem, "needs", j, o, other=problem.job_ids[problem.op_job[p]]
                    )
            if not more:
                return why, gone
            why |= more


def _message(problem: Problem, kind: str, job: int, o: int, **more: Any) -> Message:
    params = {"job": problem.job_ids[job], "op": problem.op_ids[o], **more}
    return Message(id=f"schedule.left_{kind}", params=params)


def _without(problem: Problem, plan: Plan, jobs: Iterable[int], gone: Mask) -> tuple[Problem, Plan]:
    """Problem and plan in which these operations are cancelled and these jobs weigh nothing."""
    status, weight = problem.op_status.copy(), problem.job_weight.copy()
    machine = plan.machine.copy()
    status[gone], machine[gone] = OpStatus.CANCELLED, -1
    weight[sorted(jobs)] = 0
    left = problem.with_(op_status=status, job_weight=weight)
    return left, replace(plan, machine=machine)


def _part(
    jobs: _Jobs,
    problem: Problem,
    plan: Plan,
    why: dict[int, Message],
    gone: Mask,
    others: Mapping[int, tuple[str, ...]],
) -> Part:
    rows: dict[int, list[str]] = {j: [] for j in sorted(why)}
    for o in np.flatnonzero(gone).tolist():
        for j in jobs.of(o) & why.keys():
            rows[j].append(problem.op_ids[o])
    left, kept = _without(problem, plan, why, gone)
    return Part(
        problem=left,
        plan=kept,
        unscheduled=tuple(
            Unscheduled(
                job=problem.job_ids[j], ops=tuple(ops), why=why[j], others=others.get(j, ())
            )
            for j, ops in rows.items()
        ),
    )


def reachable(problem: Problem, plan: Plan) -> Part:
    """The part that needs no machine and no material that never comes (back).

    Machines that never come back leave the alternatives, and what was running there is lost.
    """
    never = {m for m, low, high in problem.downs if low <= problem.now and high >= FAR}
    free = problem.op_status == OpStatus.FREE
    late = free & (problem.op_release >= FAR)
    if not never and not late.any():
        return Part(problem=problem, plan=plan, unscheduled=())
    row = np.repeat(np.arange(problem.n_ops), np.diff(problem.alt_ptr))
    kept = ~free[row] | ~np.isin(problem.alt_machine, sorted(never))
    alone = free & (np.bincount(row[kept], minlength=problem.n_ops) == 0)
    kept |= alone[row]
    ptr = np.zeros(problem.n_ops + 1, np.int64)
    np.cumsum(np.bincount(row[kept], minlength=problem.n_ops), out=ptr[1:])
    lost = (problem.op_status == OpStatus.RUNNING) & np.isin(plan.machine, sorted(never))
    lost &= plan.end > problem.now
    jobs = _Jobs(problem)
    why: dict[int, Message] = {}
    for kind, which in (("lost", lost), ("no_machine", alone), ("material", late)):
        for o in np.flatnonzero(which).tolist():
            names = ", ".join(problem.machine_ids[m] for m in problem.alternatives(o))
            if kind == "lost":
                names = problem.machine_ids[int(plan.machine[o])]
            for j in jobs.of(o) - why.keys():
                why[j] = _message(problem, kind, j, o, machine=names)
    why, gone = jobs.closed(why, lost)
    masked = problem.with_(
        alt_ptr=ptr,
        alt_machine=np.ascontiguousarray(problem.alt_machine[kept]),
        alt_duration=np.ascontiguousarray(problem.alt_duration[kept]),
    )
    return _part(jobs, masked, plan, why, gone, {})


def largest_part(problem: Problem, plan: Plan | None = None) -> Part:
    """The largest part that was found whose limits can be kept; all of it when that goes.

    Parameters
    ----------
    plan
        Its machines and starts are the order in which is placed at first; None: by due dates.

    Raises
    ------
    InfeasibleError
        What has started contradicts the limits by itself.
    """
    by_due = Dispatcher(problem.with_(limits=None)).plan(Rule.EDD, PLAIN)
    ways = [(by_due, True)]
    if plan is not None:
        ways = [(plan, False), (plan, True), *ways]
    found = _Search(problem, ways, is_by_work=problem.n_ops > _LARGE)
    if problem.n_ops > _LARGE:
        if not found.leave_many():
            found.leave()
        found.mend()
        return found.part()
    found.leave()
    if not found.fought:
        return found.part()
    found.mend()
    tried = [found]
    for is_by_work in (True, False):
        other = _Search(problem, ways, is_by_work=is_by_work)
        if is_by_work or not other.leave_many():
            other.leave()
        other.mend()
        tried.append(other)
    found = min(tried, key=lambda search: search.price(search.why))
    return found.part()


def _in_front(problem: Problem, keys: Plan, jobs: list[int]) -> Plan:
    """Keys in which these jobs come first, in this order."""
    start = keys.start.copy()
    low = int(start.min(initial=0)) - len(jobs) * problem.n_ops
    for rank, job in enumerate(jobs):
        ops = np.flatnonzero(problem.op_job == job)
        start[ops] = low + rank * problem.n_ops + np.arange(len(ops))
    return replace(keys, start=start)


def _filled(plan: Plan, keys: Plan) -> Plan:
    """A plan as keys; what it leaves out keeps its old ones."""
    gone = plan.machine < 0
    return replace(
        plan,
        machine=np.where(gone, keys.machine, plan.machine),
        start=np.where(gone, keys.start, plan.start),
    )


class _Search:
    """Which jobs are left out so far, and the plan of the others.

    Attributes
    ----------
    why
        Reason of each job that was chosen to be left out; what follows from them is not in it.
    hopeless
        Those of them that go with no other job either.
    rivals
        The jobs for which the others are left out.
    alone
        Why a job can be done with no other either, as far as it was asked; None: it can.
    """

    def __init__(
        self, problem: Problem, ways: list[tuple[Plan, bool]], *, is_by_work: bool
    ) -> None:
        self.problem, self.ways = problem, ways
        self.work = np.ones(problem.n_jobs)
        if is_by_work:
            shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
            self.work += np.bincount(problem.op_job, shortest, problem.n_jobs)
        self.jobs = _Jobs(problem)
        self.none = np.zeros(problem.n_ops, bool)
        self.why: dict[int, Message] = {}
        self.hopeless: set[int] = set()
        self.rivals: dict[int, set[int]] = {}
        self.alone: dict[int, Message | None] = {}
        self.plan: Plan | None = None
        self.trials, self.spent, self.retries = _TRIALS, 0, _RETRIES
        if problem.n_ops > _LARGE:
            self.ways, self.retries = ways[-2:][:1], _LARGE_RETRIES

    def fits(self, why: dict[int, Message]) -> tuple[Plan | None, list[Miss]]:
        """A plan without these jobs, or what did not fit."""
        all_, gone = self.jobs.closed(why, self.none)
        missed: list[Miss] = []
        for keys, is_choosing in self.ways:
            left, wish = _without(self.problem, keys, all_, gone)
            found, missed = attempt(left, wish, is_choosing, self.retries)
            self.spent += self.problem.n_ops * (1 + len(missed))
            if found is not None:
                break
        else:
            return None, missed
        return found, missed

    def leave(self) -> None:
        """Leave jobs out, the least one of those that are in each other's way, until it goes."""
        while True:
            self.plan, missed = self.fits(self.why)
            if self.plan is not None:
                return
            job, message = self._victim(missed)
            if job < 0:
                raise InfeasibleError(
                    "what has started keeps the limits in no way; the last plan stays valid"
                )
            self.why[job] = message

    def leave_many(self) -> bool:
        """As ``leave``, many at a time, where deadlines alone are in the way; else False.

        Without deadlines all jobs are placed, then those that are late go to the front, by their
        deadlines; of those that are late even there, the lesser half is left out.
        """
        problem, limits = self.problem, self.problem.limits
        assert limits is not None
        latest = np.full(problem.n_ops, FAR, np.int64)
        for o, tick in limits.deadlines:
            latest[o] = min(latest[o], tick)
        self._leave_impossible(latest)
        loose = problem.with_(limits=replace(limits, deadlines=()))
        keys, is_choosing = self.ways[0]
        forward: list[int] = []
        for _ in range(_ROUNDS):
            all_, gone = self.jobs.closed(self.why, self.none)
            left, wish = _without(loose, _in_front(problem, keys, forward), all_, gone)
            found, _ = attempt(left, wish, is_choosing, self.retries)
            if found is None:
                return False
            over = (found.machine >= 0) & (found.end > latest) & self.jobs.open
            late = {min(self.jobs.of(o), key=self._least): o for o in np.flatnonzero(over).tolist()}
            if not late:
                self.plan, self.ways = found, [(_filled(found, keys), is_choosing)]
                return True
            if late.keys() <= set(forward):
                least = sorted(late, key=self._least)
                for job in least[: -(-len(least) // 2)]:
                    forward.remove(job)
                    others = set(forward) | (late.keys() - self.why.keys() - {job})
                    if others:
                        self.why[job] = self._conflict(job, others)
                    else:
                        self.hopeless.add(job)
                        self.why[job] = self._reason(job, Miss(late[job], MISSED_DEADLINE))
            else:
                until = np.full(problem.n_jobs, FAR, np.int64)
                np.minimum.at(until, problem.op_job, latest)
                jobs = set(forward) | late.keys()
                forward = sorted(jobs, key=lambda j: (int(until[j]), -int(self.jobs.worth[j])))
        return False

    def _leave_impossible(self, latest: NDArray[np.int64]) -> None:
        """Leave out what would miss its deadline if it were alone in the plant."""
        problem = self.problem
        shortest = np.minimum.reduceat(problem.alt_duration, problem.alt_ptr[:-1])
        end = np.where(self.jobs.open, 0, problem.now)
        for o in problem.op_order.tolist():
            if not self.jobs.open[o]:
                continue
            ready = max(int(problem.op_release[o]), problem.now)
            ready = max([ready, *(int(end[p]) + lag for p, lag in problem.preds(o))])
            end[o] = ready + shortest[o]
            if end[o] > latest[o]:
                for job in self.jobs.of(o) - self.why.keys():
                    self.hopeless.add(job)
                    self.why[job] = self._reason(job, Miss(o, MISSED_DEADLINE))

    def _victim(self, missed: list[Miss]) -> tuple[int, Message]:
        last = missed[-1]
        inside = [j for j in self.jobs.of(last.op) if j not in self.why] if last.op >= 0 else []
        if not inside or not self.jobs.open[last.op]:
            return -1, Message(id="")
        job = min(inside, key=self._least)
        if len(missed) > 1 and missed[-2].op == last.op:
            rival = self._rival(last.op, job)
            if rival < 0:
                self.hopeless.add(job)
                return job, self._reason(job, last)
            return rival, self._conflict(rival, {job})
        rivals = {j for miss in missed for j in self.jobs.of(miss.op)} - self.why.keys()
        for rival in sorted(rivals, key=self._least):
            if why := self._alone(rival):
                self.hopeless.add(rival)
                return rival, why
        least = min(rivals, key=self._least)
        return least, self._conflict(least, rivals - {least})

    def _alone(self, job: int) -> Message | None:
        """Why a job cannot be done even without all others but those whose pieces it needs."""
        if job not in self.alone:
            if len(self.alone) * self.problem.n_ops > _WORK:
                return None
            left = set(range(self.problem.n_jobs)) - self._needed(job)
            gone = self.jobs.gone(left, self.none)
            self.alone[job] = None
            for keys, is_choosing in self.ways:
                without, wish = _without(self.problem, keys, left, gone)
                found, missed = attempt(without, wish, is_choosing, self.retries)
                if found is not None:
                    self.alone[job] = None
                    break
                if missed[-1].op >= 0 and self.jobs.open[missed[-1].op]:
                    self.alone[job] = self._reason(job, missed[-1])
        return self.alone[job]

    def _needed(self, job: int) -> set[int]:
        """A job with all jobs whose pieces it needs."""
        needed, left = set[int](), [job]
        while left:
            j = left.pop()
            needed.add(j)
            for o in np.flatnonzero(self.problem.op_job == j).tolist():
                before = {x for p, _ in self.problem.preds(o) for x in self.jobs.of(p)}
                left += before - needed - set(left)
        return needed

    def _least(self, job: int) -> tuple[float, int]:
        """What is left out first: what weighs least (for its work), of equals the later one."""
        return float(self.jobs.worth[job] / self.work[job]), -job

    @property
    def fought(self) -> set[int]:
        """Jobs that are left out for others."""
        return set(self.why) - self.hopeless

    def price(self, why: dict[int, Message]) -> int:
        """What leaving these jobs out costs."""
        return sum(int(self.jobs.worth[j]) for j in self.jobs.closed(why, self.none)[0])

    def _rival(self, o: int, job: int) -> int:
        """A lesser job that is tied to what has started, without which the operation fits; -1."""
        problem, limits = self.problem, self.problem.limits
        if limits is None:
            return -1
        tied = {s for p, s, _ in (*limits.max_lags, *limits.buffered)
                if problem.op_status[p] != OpStatus.FREE and self.jobs.open[s]}  # fmt: skip
        worth = self.jobs.worth
        rivals = {j for s in tied for j in self.jobs.of(s) if worth[j] < worth[job]}
        for rival in sorted(rivals - self.why.keys(), key=self._least)[:_RIVALS]:
            found, missed = self.fits(self.why | {rival: self._conflict(rival, {job})})
            if found is not None or missed[-1].op != o:
                return rival
        return -1

    def _reason(self, job: int, miss: Miss) -> Message:
        """Why an operation fits nowhere."""
        problem, limits, o = self.problem, self.problem.limits, miss.op
        assert limits is not None
        if miss.code == MISSED_DEADLINE:
            until = min(tick for x, tick in limits.deadlines if x == o)
            machines, needs = back_at(problem)
            if machines[o] <= until:
                names = ", ".join(problem.machine_ids[m] for m in problem.alternatives(o))
                return _message(problem, "no_machine", job, o, machine=names)
            if needs[o] <= until:
                return self._no_place(job, o)
            return _message(problem, "deadline", job, o, until_ns=problem.time_ns(until))
        if miss.code == TOO_LATE_AFTER:
            rows = [(most, p) for p, s, most in limits.max_lags if s == o]
            most, p = min(rows) if rows else (0, o)
            return _message(problem, "max_lag", job, o, other=problem.op_ids[p], lag_s=most)
        return self._no_place(job, o)

    def _no_place(self, job: int, o: int) -> Message:
        """That an operation never finds all that it needs."""
        problem, limits = self.problem, self.problem.limits
        assert limits is not None
        names = sorted({name for x, name, _ in (*limits.op_needs, *limits.op_setup_needs)
                        if x == o})  # fmt: skip
        able = set(problem.alternatives(o))
        names += sorted({name for m, name, _ in (*limits.machine_needs, *limits.machine_setup_needs)
                         if m in able} - set(names))  # fmt: skip
        names += [name for p, _, name in limits.buffered if p == o]
        names += [problem.machine_ids[m] for m in sorted(able)]
        return _message(problem, "no_place", job, o, needs=", ".join(names))

    def _conflict(self, job: int, others: set[int]) -> Message:
        """That a job is left out for others; which of them are told is known at the end."""
        self.rivals[job] = others
        return Message(id=_CONFLICT)

    def _told(self, job: int, names: tuple[str, ...]) -> Message:
        more = ", …" if len(names) > _TOLD else ""
        params = {
            "job": self.problem.job_ids[job],
            "weight": int(self.problem.job_weight[job]),
            "others": ", ".join(names[:_TOLD]) + more,
        }
        return Message(id=_CONFLICT, params=params)

    def _in_the_way(self, job: int, left: Iterable[int]) -> list[int]:
        """Jobs of the plan that are done on the machines of a job while it might be; else any."""
        assert self.plan is not None
        problem, plan, limits = self.problem, self.plan, self.problem.limits
        assert limits is not None
        mine = np.flatnonzero(problem.op_job == job).tolist()
        machines = sorted({m for o in mine for m in problem.alternatives(o)})
        until = max((tick for o, tick in limits.deadlines if o in set(mine)), default=FAR)
        planned = (plan.machine >= 0) & ~np.isin(problem.op_job, [job, *left])
        near = planned & np.isin(plan.machine, machines) & (plan.start < until)
        near &= plan.end > int(problem.job_release[job])
        ops = np.flatnonzero(near if near.any() else planned)
        took = np.bincount(problem.op_job[ops], (plan.end - plan.start)[ops], problem.n_jobs)
        jobs = sorted(set(problem.op_job[ops].tolist()), key=lambda j: (-took[j], j))
        return sorted(jobs[:_TOLD])

    def mend(self) -> None:
        """Take jobs back that fit by now, then leave one cheaper job out instead of all that were
        in each other's way, or of one of them."""
        for job in sorted(self.why, key=self._least, reverse=True):
            if len(self.why) > 1:
                self._try({j: m for j, m in self.why.items() if j != job})
        self._swap(self.fought)
        for job in sorted(self.fought, key=self._least, reverse=True):
            self._swap({job})

    def _swap(self, jobs: set[int]) -> None:
        """Leave one other job out instead of these."""
        price = int(self.jobs.worth[sorted(jobs)].sum())
        open_ = {j for o in np.flatnonzero(self.jobs.open).tolist() for j in self.jobs.of(o)}
        for job in sorted(open_ - self.why.keys(), key=self._least):
            if self.jobs.worth[job] >= price:
                continue
            kept = {j: m for j, m in self.why.items() if j not in jobs}
            if self._try(kept | {job: self._conflict(job, jobs)}):
                return

    def _try(self, why: dict[int, Message]) -> bool:
        """Take this choice when it goes and leaves less out."""
        if self.trials <= 0 or self.spent > _WORK or self.price(why) >= self.price(self.why):
            return False
        self.trials -= 1
        found, _ = self.fits(why)
        if found is None:
            return False
        self.why, self.plan = why, found
        return True

    def part(self) -> Part:
        """What was found. Reasons name jobs that are in the plan."""
        assert self.plan is not None
        all_, gone = self.jobs.closed(self.why, self.none)
        others: dict[int, tuple[str, ...]] = {}
        for job in [job for job, message in all_.items() if message.id == _CONFLICT]:
            if why := self._alone(job):
                all_[job] = why
                continue
            rivals = sorted(self.rivals[job] - all_.keys()) or self._in_the_way(job, all_)
            others[job] = tuple(self.problem.job_ids[j] for j in rivals)
            all_[job] = self._told(job, others[job])
        return _part(self.jobs, self.problem, self.plan, all_, gone, others)
