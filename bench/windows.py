"""Does CP-SAT on windows of a job shop's plan find more than local search in the same time?

    python -m bench.windows [--data DIR] [--seconds 5] [--more 15] [--size 60] [--each 1]

From the plan of a first search either the search goes on, or windows are opened one after the
other: the operations around a moment of the longest path are free, all others keep their sequences,
but not their times. CP-SAT, two workers, presolve off, has the plan as a complete hint and must
beat it. Both get the same time; windows count their model building.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.run import read
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.solver import Solver
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.timing import sequences, timed
from workshop_brain.schedule.verify import verify

INSTANCES = (
    "jsp/Taillard1993/ta22.txt",
    "jsp/Taillard1993/ta42.txt",
    "jsp/DemirkolMehtaUzsoy1998/dmu56.txt",
    "jsp/Taillard1993/ta72.txt",
)


def window(problem: Problem, plan: Plan, at: int, size: int, seconds: float) -> Plan | None:
    """A better plan in which only the ``size`` operations nearest to a moment change sequence."""
    from ortools.sat.python import cp_model

    is_open = np.zeros(problem.n_ops, bool)
    is_open[np.argsort(np.abs((plan.start + plan.end) // 2 - at), kind="stable")[:size]] = True
    model, last = cp_model.CpModel(), int(plan.end.max())
    work = plan.end - plan.start
    start = [model.new_int_var(0, last, "") for _ in range(problem.n_ops)]
    for o in range(problem.n_ops):
        model.add_hint(start[o], int(plan.start[o]))
        model.add(start[o] + int(work[o]) <= last - 1)
        for p, lag in problem.preds(o):
            model.add(start[o] >= start[p] + int(work[p]) + lag)
    for m in range(problem.n_machines):
        row = [int(o) for o in plan.sequence(m)]
        free = [o for o in row if is_open[o]]
        model.add_no_overlap(
            [model.new_fixed_size_interval_var(start[o], int(work[o]), "") for o in free]
        )
        for a, b in pairwise(row):
            if not (is_open[a] and is_open[b]):
                model.add(start[b] >= start[a] + int(work[a]))
        if free:  # whoever comes last of the open ones, what follows comes behind it
            first, final = row.index(free[0]), row.index(free[-1])
            for o in free:
                if first > 0:
                    model.add(start[o] >= start[row[first - 1]] + int(work[row[first - 1]]))
                if final + 1 < len(row):
                    model.add(start[row[final + 1]] >= start[o] + int(work[o]))
    span = model.new_int_var(0, last, "")
    for o in range(problem.n_ops):
        if problem.succ_ptr[o] == problem.succ_ptr[o + 1]:
            model.add(span >= start[o] + int(work[o]))
    model.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    solver.parameters.cp_model_presolve = False
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    begin = np.array([solver.value(s) for s in start], np.int64)
    moved = Plan(machine=plan.machine, start=begin, end=begin + work, setup_start=begin)
    return timed(problem, plan.machine, *sequences(problem, moved))


def by_windows(problem: Problem, plan: Plan, options: argparse.Namespace) -> tuple[Plan, int, int]:
    """The plan after windows at random moments, how many were opened, how many gained."""
    rng = np.random.default_rng(1)
    until, opened, gained = time.perf_counter() + options.more, 0, 0
    while (left := until - time.perf_counter()) > 0.05:
        at = int(rng.uniform(0, int(plan.end.max())))
        found = window(problem, plan, at, options.size, min(options.each, left))
        opened += 1
        if found is not None and int(found.end.max()) < int(plan.end.max()):
            plan, gained = found, gained + 1
    return plan, opened, gained


def compare(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one instance."""
    problem = read(path.read_text("utf-8"), str(path))
    solver = Solver(problem, 2, 1)
    solver.within(options.seconds, None)
    plan = solver.plan
    more = improve(
        problem, plan, seconds=options.more, seed=2, workers=2, stable=False,
        weights=DOCUMENT_WEIGHTS,
    )  # fmt: skip
    found, opened, gained = by_windows(problem, plan, options)
    for one in (more.plan, found):
        if verify(problem, one):
            raise SystemExit("the checker refuses the plan")
    return {
        "instance": path.name,
        "ops": problem.n_ops,
        "first": int(plan.end.max()),
        "search_goes_on": int(more.plan.end.max()),
        "windows": int(found.end.max()),
        "opened": opened,
        "gained": gained,
    }


def main() -> None:
    """Print one row for each instance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scheduling"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--more", type=float, default=15.0)
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--each", type=float, default=1.0)
    options = parser.parse_args()
    for name in INSTANCES:
        print(json.dumps(compare(options.data / name, options)), flush=True)


if __name__ == "__main__":
    main()
