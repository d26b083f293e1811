"""Machine sequences from times, the changeovers they mean, and a repair within a deadline."""

import numpy as np
import pytest
from bench.schedule import document

from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import Weights, setups_of
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.sequence import by_machine
from workshop_brain.schedule.verify import verify


def test_sequences_are_what_a_sort_by_all_keys_gives() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        n, machines = int(rng.integers(1, 150)), int(rng.integers(1, 6))
        machine = rng.integers(-1, machines, n)
        status = rng.integers(0, 3, n) * rng.integers(0, 2, n)
        start = rng.integers(-3, int(rng.integers(1, 60)), n)
        end = start + rng.integers(0, 3, n)
        order = rng.permutation(n)
        ptr, ops = by_machine(order, status, machine, start, end, machines)
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        placed = np.flatnonzero(machine >= 0)
        keys = (rank, end, start, (status == 0).astype(int), machine)
        expected = placed[np.lexsort(tuple(key[placed] for key in keys))]
        assert ops.tolist() == expected.tolist()
        assert ptr.tolist() == [int((machine[placed] < m).sum()) for m in range(machines + 1)]


def test_changeovers_follow_the_sequence_on_each_machine() -> None:
    problem = document_problem(document(80, 4, 3))
    plan = construct(problem)
    found = setups_of(problem, plan)
    for m in range(problem.n_machines):
        family = int(problem.machine_family[m])
        for o in plan.sequence(m).tolist():
            expected = problem.setup_between(m, family, int(problem.op_family[o]))
            assert found[o] == expected
            family = int(problem.op_family[o])
    assert found.sum() > 0


@pytest.mark.parametrize(("deadline_ms", "rules"), [(0.02, 1), (0.2, 4), (10.0, 9), (None, 9)])
def test_a_repair_within_a_deadline_tries_what_fits_and_is_checked(
    deadline_ms: float | None, rules: int
) -> None:
    problem = document_problem(document(100, 5, 1))
    plan = construct(problem)
    t = int(plan.end.max()) // 4
    event = Event(
        time_ns=t * 10**9,
        kind=EventKind.BREAKDOWN,
        path=problem.machine_ids[0],
        payload={"until_ns": 3 * t * 10**9},
    )
    first, second = (react(problem, plan, event, deadline_ms=deadline_ms) for _ in range(2))
    tried = [c.name for c in first.candidates if not c.name.endswith("+search")]
    assert len([name for name in tried if name not in {"right_shift", "reroute"}]) == rules
    assert first.plan.fingerprint() == second.plan.fingerprint()
    assert not verify(first.problem, first.plan)


def test_a_steady_repair_changes_only_machines_that_it_must() -> None:
    problem = document_problem(document(200, 6, 2))
    plan = construct(problem)
    span = int(plan.end.max())
    t, until = span // 4, span // 2
    event = Event(
        time_ns=t * 10**9,
        kind=EventKind.BREAKDOWN,
        path=problem.machine_ids[1],
        payload={"until_ns": until * 10**9},
    )
    weights = Weights(near_s=span // 3)
    done = react(problem, plan, event, frozen_s=span // 20, weights=weights)
    soon = (plan.start >= t) & (plan.start < t + weights.near_s)
    may_go = (plan.machine == 1) & (plan.start < until)
    frozen = (plan.start >= t) & (plan.start < t + span // 20) & ~may_go
    steady = [p for c, p in zip(done.candidates, done.plans, strict=True) if "steady" in c.name]
    others = [p for c, p in zip(done.candidates, done.plans, strict=True) if "redis" in c.name]
    assert steady
    assert others
    assert frozen.any()
    for found in steady:
        assert not (soon & ~may_go & (found.machine != plan.machine)).any()
        assert not verify(done.problem, found)
    assert any((soon & ~may_go & (found.machine != plan.machine)).any() for found in others)
    for found in done.plans:
        assert not (frozen & (found.machine != plan.machine)).any()


def test_what_a_stop_ahead_moves_is_improved_on_the_machine_it_went_to() -> None:
    """A near operation that had to leave its machine was timed without duration by the polish."""
    moved = 0
    for seed in range(4):
        problem = document_problem(document(150, 6, seed))
        plan = construct(problem)
        span = int(plan.end.max())
        weights = Weights(near_s=span // 3)
        for m in range(problem.n_machines):
            stop = problem.with_(downs=((m, span // 20, span // 4),))
            done = react(stop, plan, None, seed=seed, frozen_s=span // 30, weights=weights)
            for row, found in zip(done.candidates, done.plans, strict=True):
                assert not verify(done.problem, found), row.name
                if row.name == "reroute+search":
                    near = plan.start < weights.near_s
                    moved += int((near & (found.machine != plan.machine)).sum())
            # what is searched afterwards knows the machines that the plan uses
            op = np.repeat(np.arange(stop.n_ops), np.diff(done.steady.alt_ptr))
            here = op[done.steady.alt_machine == done.plan.machine[op]]
            free = (done.problem.op_status == 0) & (done.plan.machine >= 0)
            assert (np.bincount(here, minlength=stop.n_ops)[free] == 1).all()
    assert moved
