"""What a whole solve of a document minimises, and what it tells of its way."""

import json

import numpy as np
import pytest
from bench.schedule import document

from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import Weights, objective
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.run import solve_file_text
from workshop_brain.schedule.solver import Solver
from workshop_brain.schedule.structure import Problem, assemble
from workshop_brain.schedule.verify import verify


def _shop(seed: int = 3) -> Problem:
    return document_problem(document(300, 12, seed))


def _last(problem: Problem, *, keep_end: bool) -> tuple[int, int]:
    """Last end of our plan and of the foreman's."""
    solver = Solver(problem, 1, 1, keep_end=keep_end)
    solver.search(None, 60_000, None)
    assert verify(problem, solver.plan) == []
    return int(solver.plan.end.max()), int(construct(problem, Rule.FOREMAN).end.max())


def test_a_kept_end_is_no_later_than_the_foremans() -> None:
    ours, foreman = _last(_shop(), keep_end=True)
    free, _ = _last(_shop(), keep_end=False)
    assert ours <= foreman < free


def test_what_ends_late_has_its_price() -> None:
    problem = assemble(
        alternatives=[[(0, 10)], [(0, 10)]],
        preds=[[], []],
        op_job=[0, 1],
        job_due=[100, 100],
        n_machines=1,
        calendar=[[]],
    )
    plan = construct(problem)
    plain = objective(problem, plan, None, Weights(flow=0.0)).objective
    priced = objective(problem, plan, None, Weights(flow=0.0, end=2.0, end_by=13)).objective
    assert priced - plain == pytest.approx(2.0 * 7)


def test_the_curve_falls_to_the_value_of_the_plan() -> None:
    text = json.dumps(document(300, 12, 3))
    for keep_end in (False, True):
        done = solve_file_text(text, iterations=20_000, seed=1, keep_end=keep_end)
        values = [value for _, value in done["history"]]
        assert values[-1] == done["objective"]
        assert (np.diff(values) < 0).all()
        assert done["first_feasible_ms"] <= 1e3 * done["history"][0][0] + 1
        assert done["weights"]["end_by"] is not None
