"""What changed between two plans of one problem, operation by operation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.structure import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One operation that is planned differently.

    Attributes
    ----------
    machine_from, machine_to
        Unit paths; "" when it was, or is, not planned.
    start_from, start_to
        Ticks of the new problem; None when not planned.
    """

    op: str
    machine_from: str
    machine_to: str
    start_from: int | None
    start_to: int | None

    @property
    def shift_s(self) -> int:
        """Later (> 0) or earlier start; 0 when it was or is not planned."""
        if self.start_from is None or self.start_to is None:
            return 0
        return self.start_to - self.start_from

    def as_dict(self) -> dict[str, Any]:
        """For records and JSON."""
        return {
            "op": self.op,
            "machine_from": self.machine_from,
            "machine_to": self.machine_to,
            "start_from": self.start_from,
            "start_to": self.start_to,
            "shift_s": self.shift_s,
        }


def diff(problem: Problem, old: Plan, new: Plan) -> list[Change]:
    """Operations whose machine or start differs, in the order of the new starts."""
    differs = (old.machine != new.machine) | (
        (old.start != new.start) & (new.machine >= 0) & (old.machine >= 0)
    )
    ops = np.flatnonzero(differs)
    when = np.where(new.machine >= 0, new.start, old.start)
    return [
        Change(
            op=problem.op_ids[o],
            machine_from=problem.machine_ids[old.machine[o]] if old.machine[o] >= 0 else "",
            machine_to=problem.machine_ids[new.machine[o]] if new.machine[o] >= 0 else "",
            start_from=int(old.start[o]) if old.machine[o] >= 0 else None,
            start_to=int(new.start[o]) if new.machine[o] >= 0 else None,
        )
        for o in ops[np.argsort(when[ops], kind="stable")].tolist()
    ]


def effect(
    problem: Problem, old: Plan, new: Plan, weights: Weights = PLANT_WEIGHTS
) -> dict[str, float]:
    """New minus old KPI for each KPI; below 0 is better except for throughput."""
    before = objective(problem, old, None, weights).as_dict()
    after = objective(problem, new, old, weights).as_dict()
    return {key: after[key] - before[key] for key in after}
