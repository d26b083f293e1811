"""Replay recomputes: equal inputs give the same decision, a changed input is found."""

from dataclasses import replace

import numpy as np
import pytest

from workshop_brain.app.planner import Planner, Task
from workshop_brain.autonomy.compute import moves, plan_hash, planned_jobs, solve
from workshop_brain.autonomy.inputs import Inputs, digest, pack, unpack
from workshop_brain.autonomy.replay import replay
from workshop_brain.autonomy.settings import AutonomySettings, EnvelopeSettings
from workshop_brain.autonomy.state import LoopConfig, LoopState
from workshop_brain.config import built_in
from workshop_brain.errors import InfeasibleError, LedgerError
from workshop_brain.model.decision import DecisionClass
from workshop_brain.model.order import WorkRequest
from workshop_brain.twin.orders import order_book
from workshop_brain.units import NS_PER_H

NOW = 1_800_000_000_000_000_000
PLANT = built_in().plant
SOFT1 = "local/works/gears/soft/c1/soft1"


def requests(n: int = 6) -> tuple[WorkRequest, ...]:
    """A small order book."""
    products = [p.id for p in PLANT.products]
    return tuple(
        WorkRequest(
            id=f"W{k}", product=products[k % len(products)], quantity=60 + 10 * k,
            due_ns=NOW + (30 + 4 * k) * NS_PER_H,
        )
        for k in range(n)
    )  # fmt: skip


def planner() -> Planner:
    config = LoopConfig(
        lines=tuple(c.id for c in PLANT.work_centers),
        autonomy=AutonomySettings(),
        envelope=EnvelopeSettings(),
        units={u.path: c.id for c in PLANT.work_centers for u in c.units},
    )
    return Planner(PLANT, config, react_iterations=50, improve_iterations=500)


def task(kind: str, state: LoopState, **more: object) -> Task:
    values = {
        "kind": kind, "token": 7, "time_ns": NOW, "state": state, "requests": requests(),
        "orders": {}, "down": {}, "material": {},
        "triggers": ({"kind": "start", "path": "", "time_ns": NOW},),
    }  # fmt: skip
    return Task(**{**values, **more})  # type: ignore[arg-type]


def test_all_three_computations_replay_bit_for_bit() -> None:
    brain = planner()
    first = brain.work(task("build", LoopState()))
    state = LoopState(basis=first.options[0].plan)
    trigger = {"kind": "breakdown", "path": SOFT1, "time_ns": NOW}
    repair = brain.work(task("react", state, down={SOFT1: NOW + 3 * NS_PER_H}, triggers=(trigger,)))
    base = brain.known(repair.options[0].plan.hash)
    better = brain.work(
        task("improve", state, base=base, triggers=({"kind": "improve", "of": "D"},))
    )
    classes = [d.decision.decision_class for d in (first, repair, better)]
    assert classes == [DecisionClass.PLAN, DecisionClass.REPAIR, DecisionClass.IMPROVE]
    for draft in (first, repair, better):
        assert not draft.options[0].findings
        outcome = replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__)
        assert outcome.same, [r for r in outcome.rows if not r.same]
    assert repair.decision.line == "soft"
    assert any(m.id == "trigger.breakdown" for m in repair.decision.reasons)
    back = next(m for m in repair.decision.reasons if m.id == "reason.expected_back")
    assert back.params == {"unit": SOFT1, "until_ns": NOW + 3 * NS_PER_H}


def test_small_orders_find_a_place_and_do_not_turn_the_plan_over() -> None:
    brain = planner()
    book = tuple(order_book(PLANT, seed=1, start_ns=NOW, days=5))
    first = brain.work(task("build", LoopState(), requests=book))
    plan = first.options[0].plan
    small = WorkRequest(
        id="X1", product="hyb_a", quantity=15, due_ns=NOW - 140 * NS_PER_H, priority=3
    )
    more = brain.work(task("react", LoopState(basis=plan, in_force=plan), requests=(*book, small)))
    chosen = more.decision.candidates[more.decision.chosen]
    assert chosen.name.startswith("right_shift")
    assert sum(m.counts for m in more.options[0].moves) < 0.1 * len(plan.jobs)
    assert {"X1.soft", "X1.asm1"} <= more.options[0].plan.index.keys()
    loads = {id for id in plan.index if id.startswith("LOAD-")}
    assert len(loads & more.options[0].plan.index.keys()) >= len(loads) - 1


def test_a_changed_input_is_found_even_when_its_hash_is_not_checked() -> None:
    draft = planner().work(task("build", LoopState()))
    inputs = unpack(draft.data)
    due = inputs.problem.job_due.copy()
    due[0] -= 40 * 3600
    forged = pack(replace(inputs, problem=inputs.problem.with_(job_due=due)))
    outcome = replay(draft.decision, lambda sha: forged)
    different = {row.what for row in outcome.rows if not row.same}
    assert "input_hash" in different
    assert any(what.startswith("kpis of") for what in different)


def test_inputs_have_one_form_and_come_back_whole() -> None:
    draft = planner().work(task("build", LoopState()))
    inputs = unpack(draft.data)
    assert pack(inputs) == draft.data
    assert digest(draft.data) == draft.decision.input_hash
    fresh = unpack(pack(replace(inputs, seed=8)))
    assert fresh.seed == 8
    assert fresh.problem.op_ids == inputs.problem.op_ids
    np.testing.assert_array_equal(fresh.problem.alt_duration, inputs.problem.alt_duration)


@pytest.mark.parametrize("cut", [0, 3, 9, 200, -1])
def test_damaged_inputs_are_named(cut: int) -> None:
    draft = planner().work(task("build", LoopState()))
    with pytest.raises(LedgerError, match="cannot be read"):
        unpack(draft.data[:cut])


def test_nothing_to_plan_is_said() -> None:
    with pytest.raises(InfeasibleError, match="nothing to plan"):
        planner().work(task("build", LoopState(), requests=()))


def test_moves_count_machines_and_sequence_but_not_time() -> None:
    draft = planner().work(task("build", LoopState()))
    inputs = unpack(draft.data)
    solution = solve(inputs)
    problem, plan = solution.problem, solution.plans[0]
    assert moves(problem, plan, plan) == ()
    later = replace(plan, start=plan.start + 60, end=plan.end + 60)
    shifted = moves(problem, plan, later)
    assert len(shifted) == problem.n_ops
    assert not any(m.counts for m in shifted)
    m = max(range(problem.n_machines), key=lambda m: len(plan.sequence(m)))
    a, b = plan.sequence(m)[:2]
    start = plan.start.copy()
    start[a], start[b] = plan.start[b], plan.start[a]
    swapped = moves(problem, plan, replace(plan, start=start))
    assert sum(x.counts for x in swapped) == 1
    assert plan_hash(problem, plan) != plan_hash(problem, later)
    assert {p.order.priority for p in planned_jobs(problem, plan)} == {0}


def test_an_improvement_needs_a_base() -> None:
    inputs = Inputs(
        kind="improve", problem=unpack(planner().work(task("build", LoopState())).data).problem,
        previous=None, triggers=(), seed=0, iterations=1,
    )  # fmt: skip
    with pytest.raises(InfeasibleError, match="plan to start from"):
        solve(inputs)
