"""Whatever the problem and whatever happens, every plan passes the independent checker."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.bound import bound
from workshop_brain.schedule.moves import best_plan, lay_out, search
from workshop_brain.schedule.objective import Weights, near_ops, objective
from workshop_brain.schedule.plan import Plan, carry
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import OpStatus, Problem, assemble
from workshop_brain.schedule.timing import right_shift
from workshop_brain.schedule.verify import verify

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Flexible machines, changeovers, a precedence graph with lags, closed time, releases."""
    machines = draw(st.integers(1, 4))
    families = draw(st.integers(1, 3))
    n_jobs = draw(st.integers(1, 6))
    alternatives, preds, op_job, centers = [], [], [], []
    for j in range(n_jobs):
        first = len(alternatives)
        for k in range(draw(st.integers(1, 4))):
            allowed = draw(st.lists(st.integers(0, machines - 1), min_size=1, unique=True))
            alternatives.append([(m, draw(st.integers(1, 9))) for m in sorted(allowed)])
            before = draw(st.lists(st.integers(first, first + k - 1), unique=True)) if k else []
            preds.append([(p, draw(st.integers(0, 5))) for p in before])
            op_job.append(j)
            centers.append(0)
    n = len(alternatives)
    if n > 2 and draw(st.booleans()):
        preds[-1] = [*preds[-1], *([(0, 2)] if 0 not in dict(preds[-1]) and n - 1 != 0 else [])]
    setup = np.array(
        draw(st.lists(st.integers(0, 6), min_size=families**2, max_size=families**2)), np.int64
    ).reshape(1, families, families)
    closed = [
        [(a, a + draw(st.integers(1, 12))) for a in draw(st.lists(st.integers(0, 80), max_size=3))]
        for _ in range(machines)
    ]
    whole = st.lists(st.integers(0, 1), min_size=machines, max_size=machines)
    return assemble(
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[draw(st.integers(0, 60)) for _ in range(n_jobs)],
        n_machines=machines,
        ops={
            "family": [draw(st.integers(0, families - 1)) for _ in range(n)],
            "release": [draw(st.integers(0, 20)) for _ in range(n)],
            "tail": [draw(st.integers(0, 4)) for _ in range(n)],
            "work_center": centers,
        },
        jobs={"weight": [draw(st.integers(1, 9)) for _ in range(n_jobs)]},
        machines={
            "family": [draw(st.integers(-1, families - 1)) for _ in range(machines)],
            "available": [draw(st.integers(0, 5)) for _ in range(machines)],
            "resumable": draw(whole),
        },
        setup=setup,
        calendar=closed,
    )


@st.composite
def events(draw: st.DrawFn, problem: Problem, now: int) -> Event:
    """One event that hurts, at or after now."""
    t = now + draw(st.integers(0, 15))
    machine = draw(st.sampled_from(problem.machine_ids))
    job = draw(st.sampled_from(problem.job_ids))
    until = {"until_ns": (t + draw(st.integers(1, 30))) * 10**9}
    rush = {
        "id": f"rush{problem.n_jobs}",
        "family": draw(st.integers(0, problem.setup.shape[1] - 1)),
        "release": t,
        "due": t + 10,
        "weight": 9,
        "operations": [
            {"alternatives": [[machine, draw(st.integers(1, 9))]]}
            for _ in range(draw(st.integers(1, 3)))
        ],
    }
    kind, path, payload = draw(
        st.sampled_from(
            [
                (EventKind.BREAKDOWN, machine, until),
                (EventKind.QUALITY_STOP, machine, until),
                (EventKind.OPERATOR_ABSENT, machine, until),
                (EventKind.RESTORED, machine, {}),
                (EventKind.LATE_MATERIAL, job, until),
                (EventKind.RUSH_ORDER, "rush", {"job": rush}),
                (EventKind.ORDERS_CHANGED, "", {"cancelled": [job]}),
                (EventKind.ORDERS_CHANGED, "", {"priority": {job: 9}}),
            ]
        )
    )
    return Event(time_ns=t * 10**9, kind=kind, path=path, payload=payload)


@FAST
@given(problems(), st.sampled_from(list(Rule)))
def test_every_rule_builds_a_feasible_plan(problem: Problem, rule: Rule) -> None:
    plan = construct(problem, rule)
    assert verify(problem, plan) == []
    again = right_shift(problem, plan)
    assert again.fingerprint() == plan.fingerprint()


@FAST
@given(problems(), st.integers(0, 99))
def test_search_is_feasible_never_worse_and_reproducible(problem: Problem, seed: int) -> None:
    plan = construct(problem, Rule.FIFO)
    one = improve(problem, plan, iterations=400, seed=seed)
    two = improve(problem, plan, iterations=400, seed=seed)
    assert verify(problem, one.plan) == []
    assert one.objective <= one.start_objective
    assert one.plan.fingerprint() == two.plan.fingerprint()
    value = objective(problem, one.plan, plan).objective
    assert value == pytest.approx(one.objective)
    assert bound(problem).objective <= value + 1e-6


@FAST
@given(problems(), st.integers(0, 99), st.floats(0.0, 5.0), st.floats(0.0, 1.0))
def test_search_keeps_account_of_its_cost(
    problem: Problem, seed: int, end: float, end_share: float
) -> None:
    plan = construct(problem, Rule.EDD)
    by = problem.now + int(end_share * (int(plan.end.max(initial=problem.now)) - problem.now))
    weights = Weights(setup=0.5, flow=0.3, end=end, end_by=by, move=0.7, shift=0.2, near_s=50)
    tables = lay_out(problem, plan, plan, weights, seed)
    search(tables, 200, 3.0, 0.0, 1e9, weights.tardiness, weights.setup, end, problem.now)
    start = objective(problem, plan, plan, weights).objective
    value = objective(problem, best_plan(problem, tables), plan, weights).objective
    assert value - start == pytest.approx(float(tables.cost[1]), abs=1e-6)


@FAST
@given(problems(), st.integers(0, 99), st.floats(0.0, 0.5))
def test_no_more_near_operations_change_machine_than_may(
    problem: Problem, seed: int, share: float
) -> None:
    plan = construct(problem, Rule.FIFO)
    weights = Weights(move=0.0, shift=0.0, near_s=40, changes=share)
    near = near_ops(problem, plan, weights)
    better = improve(problem, plan, iterations=600, seed=seed, weights=weights).plan
    assert verify(problem, better) == []
    assert int((near & (better.machine != plan.machine)).sum()) <= int(share * near.sum())


@FAST
@given(st.data())
def test_a_repair_keeps_to_the_share_when_a_candidate_does(data: st.DataObject) -> None:
    problem = data.draw(problems())
    plan = construct(problem, Rule.ATCS)
    weights = Weights(near_s=40, changes=0.0, calm=0.0, steady=0.0)
    event = data.draw(events(problem, problem.now))
    found = react(problem, plan, event, weights=weights, iterations=50)
    moved = [row.kpis["near_moves"] for row in found.candidates]
    assert (found.kpis.near_moves == 0) == (min(moved) == 0)


@settings(FAST, max_examples=40)
@given(st.data())
def test_reactions_stay_feasible_and_keep_what_is_fixed(data: st.DataObject) -> None:
    problem = data.draw(problems())
    plan = construct(problem, Rule.ATCS)
    for _ in range(3):
        event = data.draw(events(problem, problem.now))
        before: Plan = plan
        n, t = problem.n_ops, event.time_ns // 10**9
        old_status = problem.op_status
        reaction = react(
            problem, plan, event, frozen_s=data.draw(st.integers(0, 10)), iterations=50
        )
        problem, plan = reaction.problem, reaction.plan
        assert verify(problem, plan) == []
        started = (before.machine >= 0) & (before.start < t)
        started &= (before.start >= 0) & (old_status != OpStatus.CANCELLED)
        assert (plan.machine[:n][started] == before.machine[started]).all()
        assert (plan.start[:n][started] == before.start[started]).all()
        locked = np.flatnonzero(problem.op_status[:n] == OpStatus.LOCKED)
        assert (plan.start[locked] == before.start[locked]).all()
        assert (plan.machine[locked] == before.machine[locked]).all()
        for candidate in reaction.plans:
            assert verify(problem, candidate) == []


@FAST
@given(problems())
def test_a_reaction_is_reproducible(problem: Problem) -> None:
    plan = construct(problem, Rule.FOREMAN)
    event = Event(time_ns=5 * 10**9, kind=EventKind.BREAKDOWN, path=problem.machine_ids[0])
    prints = {react(problem, plan, event, seed=3).plan.fingerprint() for _ in range(2)}
    assert len(prints) == 1


@FAST
@given(problems())
def test_a_plan_survives_json_and_carrying(problem: Problem) -> None:
    plan = construct(problem, Rule.SPT)
    assert Plan.from_json(problem, plan.to_json(problem)).fingerprint() == plan.fingerprint()
    assert carry(problem, plan, problem).fingerprint() == plan.fingerprint()


@settings(FAST, max_examples=80)
@given(problems(), st.data())
def test_the_checker_finds_a_broken_plan(problem: Problem, data: st.DataObject) -> None:
    plan = construct(problem, Rule.FIFO)
    o = data.draw(st.integers(0, problem.n_ops - 1))
    how = data.draw(st.sampled_from(["earlier", "shorter", "unplanned", "elsewhere"]))
    if how == "earlier":
        plan.start[o] -= 1
        plan.end[o] -= 1
    elif how == "shorter":
        plan.end[o] -= 1
    elif how == "unplanned":
        plan.machine[o] = -1
    else:
        others = set(range(problem.n_machines)) - set(problem.alternatives(o))
        if not others:
            return
        plan.machine[o] = min(others)
    violations = verify(problem, plan)
    if how == "earlier" and not violations:
        # only a start that had slack may move: in a semi-active plan it never has
        pytest.fail("an operation started before it could")
    assert any(problem.op_ids[o] in v.ops for v in violations)


def test_a_cycle_is_refused() -> None:
    with pytest.raises(InfeasibleError, match="cycle"):
        assemble(
            alternatives=[[(0, 1)], [(0, 1)]],
            preds=[[(1, 0)], [(0, 0)]],
            op_job=[0, 0],
            job_due=[5],
            n_machines=1,
        )
