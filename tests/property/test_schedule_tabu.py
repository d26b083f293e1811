"""Tabu search: what it keeps up to date is what a fresh start gives; plans are feasible."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.schedule import tabu
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem, assemble
from workshop_brain.schedule.verify import verify

FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Flexible jobs with lags, releases, tails and changeovers; also joins of two chains."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    machines, families = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    alternatives, preds, op_job = [], [], []
    for job in range(draw(st.integers(2, 7))):
        for k in range(draw(st.integers(1, 6))):
            o = len(alternatives)
            chosen = rng.choice(machines, rng.integers(1, machines + 1), replace=False)
            alternatives.append([(int(m), int(rng.integers(0, 20))) for m in chosen])
            before = [(o - 1, int(rng.integers(0, 4)))] if k else []
            preds.append(before + ([(o - 2, 0)] if k > 1 and rng.random() < 0.3 else []))
            op_job.append(job)
    n = len(alternatives)
    return assemble(
        target="makespan",
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[0] * (op_job[-1] + 1),
        n_machines=machines,
        ops={
            "family": rng.integers(0, families, n),
            "release": rng.integers(0, 15, n),
            "tail": rng.integers(0, 5, n) * (rng.random(n) < 0.3),
        },
        machines={"available": rng.integers(0, 10, machines), "family": [0] * machines},
        setup=rng.integers(0, 6, (1, families, families)),
    )


@FEW
@given(problems(), st.integers(0, 100), st.integers(1, 120))
def test_heads_and_tails_are_those_of_a_fresh_start(problem: Problem, seed: int, n: int) -> None:
    graph = tabu.lay_out(problem, construct(problem), seed)
    tabu.tabu_search(graph, n)
    kept = graph.ops[:, [tabu.HEAD, tabu.TAIL, tabu.AT, tabu.MACHINE]].copy()
    now = int(graph.tally[tabu.NOW])
    assert tabu.renew(graph) == now
    assert np.array_equal(kept, graph.ops[:, [tabu.HEAD, tabu.TAIL, tabu.AT, tabu.MACHINE]])
    assert int(graph.tally[tabu.BEST]) <= now


@FEW
@given(problems(), st.integers(0, 100))
def test_the_best_plan_is_feasible_never_worse_and_the_same_again(
    problem: Problem, seed: int
) -> None:
    first = construct(problem)
    found = [
        improve(
            problem, first, iterations=4000, seed=seed, workers=2, stable=False,
            weights=DOCUMENT_WEIGHTS,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert verify(problem, found[0].plan) == []
    assert found[0].objective <= found[0].start_objective
    assert np.array_equal(found[0].plan.start, found[1].plan.start)
    graph = tabu.lay_out(problem, found[0].plan, 0)
    last = (found[0].plan.end + problem.op_tail).max()
    assert int(graph.tally[tabu.BEST]) == last
