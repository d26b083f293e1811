"""Under all limits at once every plan passes the independent checker, and costs what is said."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule import lists
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool
from workshop_brain.schedule.objective import PLANT_WEIGHTS, objective, setups_of
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.structure import FAR, OpStatus, Problem, assemble
from workshop_brain.schedule.verify import verify

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MOST_STUCK = 0.2
"""Share of these very tight problems for which no plan may be found."""


def tight(rng: random.Random) -> Problem:
    """Few machines, fewer people and tools, lots that must go on soon and stand in the way."""
    machines = 4
    alternatives, preds, op_job = [], [], []
    for j in range(rng.randint(2, 6)):
        for k in range(rng.randint(1, 4)):
            able = sorted(rng.sample(range(machines), rng.randint(1, machines)))
            preds.append([(len(alternatives) - 1, rng.randint(0, 3))] if k else [])
            alternatives.append([(m, rng.randint(1, 9)) for m in able])
            op_job.append(j)
    n, jobs = len(op_job), op_job[-1] + 1
    arcs = [(row[0][0], o, row[0][1]) for o, row in enumerate(preds) if row]
    limits = Limits(
        tools=(Tool(id="f", quantity=2, closed=((5, 9),)), Tool(id="g")),
        operators=(
            Operator(id="a", skills=("x", "y")),
            Operator(id="b", skills=("x",), closed=((10, 20),)),
            Operator(id="c", skills=("y", "z")),
        ),
        buffers=(Buffer(id="none", capacity=0), Buffer(id="one", capacity=1)),
        op_needs=tuple((o, rng.choice("fgxy"), 1) for o in range(n) if rng.random() < 0.5),
        machine_needs=((0, "x", 1),),
        op_setup_needs=((0, "z", 1),),
        machine_setup_needs=((1, "y", 1), (2, "y", 1)),
        max_lags=tuple((p, s, x + rng.randint(0, 6)) for p, s, x in arcs if rng.random() < 0.3),
        buffered=tuple(
            (p, s, rng.choice(["none", "one"])) for p, s, _ in arcs if rng.random() < 0.5
        ),
        deadlines=((0, 80),),
        tariff=((0, 1000.0), (20, 3600.0), (40, 300.0)),
        power_kw=(1.0, 2.0, 0.0, 1.0),
    )
    return assemble(
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=[rng.randint(0, 40) for _ in range(jobs)],
        n_machines=machines,
        ops={
            "family": [rng.choice([0, 1, 1, -1]) for _ in range(n)],
            "release": [rng.randint(0, 9) for _ in range(n)],
        },
        machines={
            "family": [rng.choice([-1, 0, 1]) for _ in range(machines)],
            "resumable": [rng.randint(0, 1) for _ in range(machines)],
        },
        setup=np.array([[[0, 3], [4, 0]]]),
        calendar=[
            [(a, a + rng.randint(1, 12)) for a in rng.sample(range(80), 2)] for _ in range(machines)
        ],
        limits=limits,
    )


def _plan(problem: Problem, rule: Rule) -> Plan | None:
    try:
        return construct(problem, rule)
    except InfeasibleError:
        return None


def test_nearly_all_tight_problems_get_a_plan() -> None:
    problems = [tight(random.Random(seed)) for seed in range(40)]
    stuck = [seed for seed, problem in enumerate(problems) if _plan(problem, Rule.EDD) is None]
    assert len(stuck) <= MOST_STUCK * len(problems)


@FAST
@given(st.integers(0, 10**6), st.sampled_from([Rule.FIFO, Rule.EDD, Rule.SPT, Rule.FOREMAN]))
def test_every_plan_of_a_search_keeps_all_limits_and_its_account(seed: int, rule: Rule) -> None:
    problem = tight(random.Random(seed))
    plan = _plan(problem, rule)
    if plan is None:
        return
    assert verify(problem, plan) == []
    price = lists.prices_of(problem, plan, PLANT_WEIGHTS)
    one, first = lists.lay_out(problem, plan, price, seed)
    value = objective(problem, first, plan).objective
    assert float(one.cost[0]) == pytest.approx(value)
    lists.run(problem, price, one, 100, 50.0, 0.0)
    best = lists.best_plan(problem, one)
    assert verify(problem, best) == []
    assert objective(problem, best, plan).objective == pytest.approx(float(one.cost[1]))


@FAST
@given(st.integers(0, 10**6))
def test_reactions_keep_all_limits_and_list_what_cannot_be_done(seed: int) -> None:
    rng = random.Random(seed)
    problem = tight(rng)
    plan = _plan(problem, Rule.EDD)
    if plan is None:
        return
    t = rng.randint(1, 15)
    event = Event(
        time_ns=t * 10**9,
        kind=rng.choice([EventKind.BREAKDOWN, EventKind.OPERATOR_ABSENT]),
        path=rng.choice(problem.machine_ids),
        payload={"until_ns": (t + rng.randint(1, 15)) * 10**9},
    )
    answer = react(problem, plan, event, frozen_s=rng.randint(0, 6), iterations=30)
    assert [verify(answer.problem, candidate) for candidate in answer.plans] == [[]] * len(
        answer.plans
    )
    left = {op for row in answer.unscheduled for op in row.ops}
    assert left == {
        id for id, status in zip(problem.op_ids, answer.problem.op_status, strict=True)
        if status == OpStatus.CANCELLED
    }  # fmt: skip


def _is_manned(asked: list[str], people: list[Operator]) -> bool:
    """Whether everything asked for finds a person of its own, by trying all."""
    if not asked:
        return True
    return any(
        asked[0] in who.skills and _is_manned(asked[1:], [p for p in people if p is not who])
        for who in people
    )


def _is_short(problem: Problem, plan: Plan) -> bool:
    """Whether tools or people are missing in any tick, looked at tick by tick."""
    limits = problem.limits
    assert limits is not None
    tools = {tool.id: tool for tool in limits.tools}
    asked: dict[int, list[str]] = {}
    change = setups_of(problem, plan)
    for o, m in enumerate(plan.machine.tolist()):
        run = [n for x, n, _ in limits.op_needs if x == o]
        run += [n for x, n, _ in limits.machine_needs if x == m]
        setup = [n for x, n, _ in limits.op_setup_needs if x == o]
        setup += [n for x, n, _ in limits.machine_setup_needs if x == m]
        t, left = int(plan.setup_start[o]), int(change[o])
        while left or t < plan.end[o]:
            is_open = not any(a <= t < b for a, b in problem.calendar[m])
            if left and is_open:
                asked.setdefault(t, []).extend(setup)
            elif plan.start[o] <= t < plan.end[o]:
                asked.setdefault(t, []).extend(n for n in run if is_open or n in tools)
            left -= left > 0 and is_open
            t += 1
    for t, names in asked.items():
        for tool in limits.tools:
            is_away = any(a <= t < b for a, b in tool.closed)
            if names.count(tool.id) > (0 if is_away else tool.quantity):
                return True
        there = [w for w in limits.operators if not any(a <= t < b for a, b in w.closed)]
        if not _is_manned([n for n in names if n not in tools], there):
            return True
    return False


@FAST
@given(st.integers(0, 10**6))
def test_the_checker_and_a_look_at_every_tick_agree_on_tools_and_people(seed: int) -> None:
    problem = tight(random.Random(seed))
    loose = construct(problem.with_(limits=Limits()), Rule.EDD)
    kinds = {violation.kind for violation in verify(problem, loose)}
    assert bool(kinds & {"tool", "operator"}) == _is_short(problem, loose)


def with_furnace(rng: random.Random) -> Problem:
    """A tight problem whose fourth machine takes several operations at a time."""
    problem = tight(rng)
    limits = problem.limits
    assert limits is not None
    hot = [o for o in range(problem.n_ops) if 3 in problem.alternatives(o)]
    return problem.with_(
        limits=replace(
            limits,
            batches=((3, rng.randint(2, 4)),),
            sizes=tuple((o, 2) for o in hot if rng.random() < 0.3),
            buffered=tuple(row for row in limits.buffered if row[0] not in hot),
        )
    )


@FAST
@given(st.integers(0, 10**6))
def test_what_never_comes_back_takes_only_its_own_jobs_furnaces_included(seed: int) -> None:
    rng = random.Random(seed)
    problem = with_furnace(rng)
    plan = _plan(problem, Rule.EDD)
    if plan is None:
        return
    assert verify(problem, plan) == []
    t, machine = rng.randint(1, 15), rng.randrange(4)
    event = Event(
        time_ns=t * 10**9,
        kind=EventKind.BREAKDOWN,
        path=problem.machine_ids[machine],
        payload={"until_ns": FAR * 10**9},
    )
    answer = react(problem, plan, event, frozen_s=rng.randint(0, 6), iterations=20)
    assert verify(answer.problem, answer.plan) == []
    there = (answer.plan.machine == machine) & (answer.plan.end > t)
    assert not there.any()
    kinds = {row.why.id.removeprefix("schedule.left_") for row in answer.unscheduled}
    assert kinds <= {"lost", "no_machine", "max_lag", "deadline", "no_place", "conflict", "needs"}


def _running(problem: Problem, plan: Plan, t: int, m: int) -> list[int]:
    here = (plan.machine == m) & (plan.start <= t) & (t < plan.end)
    return [int(o) for o in np.flatnonzero(here)]


@FAST
@given(st.integers(0, 10**6))
def test_the_checker_and_a_look_at_every_tick_agree_on_loads(seed: int) -> None:
    rng = random.Random(seed)
    problem = with_furnace(rng)
    plan = construct(problem.with_(limits=Limits(batches=((3, 99),))), Rule.EDD)
    o = rng.choice(range(problem.n_ops))
    by = max(rng.choice([-4, -1, 0, 0, 1, 3]), -int(plan.start[o]))
    start, end, setup = plan.start.copy(), plan.end.copy(), plan.setup_start.copy()
    start[o], end[o], setup[o] = start[o] + by, end[o] + by, setup[o] + by
    moved = Plan(machine=plan.machine, start=start, end=end, setup_start=setup)
    kinds = {v.kind for v in verify(problem, moved)}
    limits = problem.limits
    assert limits is not None
    room, size = limits.batches[0][1], dict(limits.sizes)
    is_wrong = False
    for t in range(int(moved.end.max())):
        for m in range(problem.n_machines):
            load = _running(problem, moved, t, m)
            spans = {(int(moved.start[x]), int(moved.end[x])) for x in load}
            families = [int(problem.op_family[x]) for x in load]
            if len(load) > 1:
                is_wrong |= m != 3 or len(spans) > 1 or len(set(families)) > 1 or families[0] < 0
            is_wrong |= m == 3 and sum(size.get(x, 1) for x in load) > room
    assert bool(kinds & {"overlap", "together", "capacity", "family"}) == is_wrong
