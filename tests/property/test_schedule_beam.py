"""Beams and iterated greedy: feasible plans, no job overtakes, a planted plan is found."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.schedule import beam, flowline
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.run import solve_file_text
from workshop_brain.schedule.structure import Problem, assemble
from workshop_brain.schedule.verify import verify

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def _shop(rng: np.random.Generator, is_symmetric: bool) -> Problem:
    """Routes that come back to machines, of unequal length; with lags, releases and tails."""
    machines = int(rng.integers(1, 5))
    alternatives, preds, op_job = [], [], []
    for job in range(int(rng.integers(1, 7))):
        for k in range(int(rng.integers(1, 7))):
            o = len(alternatives)
            alternatives.append([(int(rng.integers(machines)), int(rng.integers(0, 20)))])
            preds.append([(o - 1, int(rng.integers(0, 4)))] if k else [])
            op_job.append(job)
    n, rich = len(alternatives), 0 if is_symmetric else 1
    return assemble(
        target="makespan",
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[0] * (op_job[-1] + 1),
        n_machines=machines,
        ops={"release": rich * rng.integers(0, 15, n), "tail": rich * rng.integers(0, 5, n)},
        machines={"available": rich * rng.integers(0, 10, machines)},
    )


def _last(problem: Problem, plan: Plan) -> int:
    return int((plan.end + problem.op_tail).max())


@FEW
@given(st.integers(0, 10_000), st.booleans())
def test_plans_of_beams_are_feasible_and_no_later_than_they_say(seed: int, plain: bool) -> None:
    problem = _shop(np.random.default_rng(seed), plain)
    assert beam.fits(problem)
    plan = beam.build(problem, seconds=None)
    assert verify(problem, plan) == []
    shop = beam._Shop(problem)
    said = min(shop.take(settings, *shop.grow(1, settings)) for settings in shop.passes)
    assert _last(problem, plan) <= said
    assert _last(problem, plan) >= shop.least


def _planted(n_machines: int, each: int, horizon: int, seed: int) -> str:
    """A job shop whose machines never wait in a plan that is cut into long routes."""
    rng = np.random.default_rng(seed)
    pieces = []
    for m in range(n_machines):
        cuts = np.sort(rng.choice(np.arange(1, horizon), each - 1, replace=False)).tolist()
        pieces += [(a, b, m) for a, b in itertools.pairwise([0, *cuts, horizon])]
    jobs: list[list[tuple[int, int, int]]] = []
    for piece in sorted(pieces):
        waiting = [job for job in jobs if job[-1][1] <= piece[0]]
        if waiting:
            max(waiting, key=lambda job: job[-1][1]).append(piece)
        else:
            jobs.append([piece])
    rows = [" ".join(f"{m} {b - a}" for a, b, m in job) + " -1 -1" for job in jobs]
    return "\n".join([f"{len(jobs)} {n_machines}", *rows])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_re_entrant_shop_is_solved_to_the_planted_optimum(seed: int) -> None:
    done = solve_file_text(_planted(12, 40, 20_000, seed), format="jsp", iterations=1)
    assert done["objective"] == done["lower_bound"] == 20_000


@FEW
@given(st.integers(0, 10_000))
def test_no_job_overtakes_in_a_line_and_small_lines_are_optimal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_jobs, n_machines = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    work = rng.integers(0, 30, (n_jobs, n_machines))
    order = rng.permutation(n_machines)
    rows = [" ".join(f"{m} {work[j, m]}" for m in order) for j in range(n_jobs)]
    text = "\n".join([f"{n_jobs} {n_machines}", *rows])
    done = solve_file_text(text, format="fsp", iterations=30_000, seed=seed)
    orders = {
        tuple(
            r["job"]
            for r in sorted(done["plan"], key=lambda r: (r["start"], r["end"]))
            if r["machine"] == m and r["end"] > r["start"]
        )
        for m in {r["machine"] for r in done["plan"]}
    }
    if (work > 0).all():
        assert len(orders) == 1
    best = min(
        _makespan(work[list(jobs)][:, order]) for jobs in itertools.permutations(range(n_jobs))
    )
    assert done["objective"] == best


def _makespan(work: np.ndarray) -> int:
    """Makespan of rows in their order by the textbook's recursion."""
    ends = np.zeros(work.shape[1] + 1, np.int64)
    for row in work:
        for m, w in enumerate(row, 1):
            ends[m] = max(ends[m], ends[m - 1]) + w
    return int(ends[-1])


def test_iterated_greedy_gives_the_same_plan_again() -> None:
    rng = np.random.default_rng(5)
    rows = [" ".join(f"{m} {rng.integers(1, 99)}" for m in range(8)) for _ in range(15)]
    text = "\n".join(["15 8", *rows])
    found = [
        solve_file_text(text, format="fsp", iterations=100_000, seed=3, workers=2)["plan"]
        for _ in range(2)
    ]
    assert found[0] == found[1]
    problem = _shop(np.random.default_rng(1), False)
    assert not flowline.fits(problem)
