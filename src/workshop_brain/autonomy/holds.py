"""Which jobs must not reach their receivers early, because tools, people or a next step wait.

A receiver begins a job as soon as its unit is free and knows nothing of the fixture that another
unit has in use. What has nothing to do with limits is not held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.limits import Limits
from workshop_brain.schedule.objective import setups_of
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import OpStatus, Problem

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hold:
    """What one operation waits for.

    Attributes
    ----------
    begin
        Tick at which its unit may begin with it, changeover included.
    behind
        Operations on other machines that hold what it needs, the last one of each machine.
    """

    begin: int
    behind: tuple[int, ...] = ()


def holds(problem: Problem, plan: Plan, live: Sequence[int]) -> dict[int, Hold]:
    """Holds of the operations that have any; none without limits.

    Parameters
    ----------
    live
        Placed operations that are not over.
    """
    limits = problem.limits
    if limits is None:
        return {}
    ops = np.array(live, np.int64)
    users = _users(limits, plan, ops)
    behind: dict[int, set[int]] = {}
    for held in users.values():
        for o, p in _last_before(plan, held):
            behind.setdefault(o, set()).add(p)
    timed = {o for held in users.values() for o in held.tolist()}
    timed |= {p for p, _, _ in limits.max_lags}
    timed |= _behind_upkeep(problem, plan, ops)
    changed = setups_of(problem, plan) > 0
    timed |= _changed_over(limits, plan, ops[changed[ops]])
    begin = np.where(changed, plan.setup_start, plan.start)
    return {
        o: Hold(int(begin[o]), tuple(sorted(behind.get(o, ()))))
        for o in live
        if o in timed and problem.op_status[o] != OpStatus.RUNNING
    }


def _behind_upkeep(problem: Problem, plan: Plan, ops: Ints) -> set[int]:
    """What comes after maintenance on its machine: begun early it would be in the way."""
    out: set[int] = set()
    for o in ops[problem.op_family[ops] < 0].tolist():
        later = (plan.machine[ops] == plan.machine[o]) & (plan.start[ops] >= plan.end[o])
        out.update(ops[later].tolist())
    return out


def _users(limits: Limits, plan: Plan, ops: Ints) -> dict[str, Ints]:
    """Operations that hold each tool, or any of the skills that share people, while they run."""
    named: dict[str, set[int]] = {}
    for o, name, _ in limits.op_needs:
        named.setdefault(name, set()).add(o)
    for m, name, _ in limits.machine_needs:
        named.setdefault(name, set()).update(ops[plan.machine[ops] == m].tolist())
    shared = _shared_skills(limits)
    joined: dict[str, set[int]] = {}
    for name, users in named.items():
        joined.setdefault(shared.get(name, name), set()).update(users)
    return {name: ops[np.isin(ops, sorted(users))] for name, users in joined.items()}


def _shared_skills(limits: Limits) -> dict[str, str]:
    """Skill to one name for all skills that hang together through people who have several."""
    name = {skill: skill for skill in limits.skills}
    for operator in limits.operators:
        old = {name[skill] for skill in operator.skills}
        name = {skill: min(old) if at in old else at for skill, at in name.items()}
    return name


def _last_before(plan: Plan, ops: Ints) -> list[tuple[int, int]]:
    """``(operation, one on another machine)``: of each machine the last that ends before it."""
    out: list[tuple[int, int]] = []
    machines = plan.machine[ops]
    for m in np.unique(machines).tolist():
        mine = ops[machines == m]
        mine = mine[np.argsort(plan.end[mine], kind="stable")]
        others = ops[machines != m]
        at = np.searchsorted(plan.end[mine], plan.start[others], "right") - 1
        out += zip(others[at >= 0].tolist(), mine[at[at >= 0]].tolist(), strict=True)
    return out


def _changed_over(limits: Limits, plan: Plan, ops: Ints) -> set[int]:
    """Operations whose changeover needs somebody or something."""
    machines = {m for m, _, _ in limits.machine_setup_needs}
    own = {o for o, _, _ in limits.op_setup_needs}
    return {o for o in ops.tolist() if o in own or int(plan.machine[o]) in machines}
