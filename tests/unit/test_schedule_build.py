"""From plant, orders and live state to a problem; explanations and the file commands."""

import itertools
import json
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.schedule import exact
from workshop_brain.schedule.explain import explain, reasons, why_not
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, PLANT_WEIGHTS, objective
from workshop_brain.schedule.plan import carry, job_orders
from workshop_brain.schedule.problem import OpStatus, PlantState, Problem, build
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import Rule, construct, tune
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text
from workshop_brain.schedule.structure import assemble
from workshop_brain.schedule.timing import timed
from workshop_brain.schedule.verify import verify

PLANT = built_in().plant
NOW = 1_700_000_000 * 10**9
HOUR = 3600 * 10**9


def _request(id: str, product: str = "dct_a", quantity: int = 100) -> WorkRequest:
    return WorkRequest(id=id, product=product, quantity=quantity, due_ns=NOW + 60 * HOUR)


def _job(
    id: str, request: str, center: str, unit: str, state: JobState, good: int = 0
) -> tuple[JobOrder, JobResponse]:
    path = next(u.path for u in PLANT.work_center(center).units if u.id == unit)
    order = JobOrder(
        id=id,
        requests=((request, 100),),
        work_center=center,
        equipment=path,
        product="dct_a",
        program="pinion",
        quantity=100,
        start_ns=NOW - HOUR,
        end_ns=NOW + HOUR,
    )
    start = NOW - HOUR if state is not JobState.ALLOWED_TO_START else 0
    end = NOW - HOUR // 2 if state is JobState.ENDED else 0
    return order, JobResponse(
        job=id, state=state, equipment=path, good=good, start_ns=start, end_ns=end
    )


def _plan_checks(problem: Problem) -> None:
    assert verify(problem, construct(problem, "edd")) == []


def test_an_order_becomes_one_operation_per_step() -> None:
    problem = build(PLANT, [_request("A")], PlantState(), NOW)
    assert sorted(i for i in problem.op_ids if not i.startswith("LOAD")) == [
        "A.asm1", "A.hard", "A.housing", "A.soft",
    ]  # fmt: skip
    load = next(k for k, i in enumerate(problem.op_ids) if i.startswith("LOAD"))
    assert [(problem.op_ids[p], lag) for p, lag in problem.preds(load)] == [("A.soft", 600)]
    assert problem.op_tail[problem.op("A.asm1")] == 2700
    _plan_checks(problem)


def test_orders_of_one_recipe_share_a_load_within_its_capacity() -> None:
    requests = [_request(i, q) for i, q in (("A", "dct_a"), ("B", "dct_b"), ("C", "hyb_b"))]
    problem = build(PLANT, [*requests, _request("D", quantity=450)], PlantState(), NOW)
    loads = [k for k, i in enumerate(problem.op_ids) if i.startswith("LOAD")]
    assert int(problem.op_quantity[loads].sum()) == 750
    assert (problem.op_quantity[loads] <= 300).all()
    assert len(loads) == 3
    _plan_checks(problem)


def test_finished_steps_are_left_out_and_their_pieces_arrive() -> None:
    done = _job("A.soft", "A", "soft", "soft1", JobState.ENDED, 100)
    problem = build(PLANT, [_request("A")], PlantState(jobs=(done,)), NOW)
    assert "A.soft" not in problem.op_ids
    load = next(k for k, i in enumerate(problem.op_ids) if i.startswith("LOAD"))
    assert problem.op_release[load] == -1800 + 600
    _plan_checks(problem)


def test_a_running_job_keeps_its_unit_and_its_remaining_work() -> None:
    running = _job("A.soft", "A", "soft", "soft1", JobState.RUNNING, 40)
    problem = build(PLANT, [_request("A")], PlantState(jobs=(running,)), NOW)
    o = problem.op("A.soft")
    assert problem.op_status[o] == OpStatus.RUNNING
    assert problem.op_fixed_work[o] == 60 * 230
    assert problem.op_fixed_start[o] == -3600
    _plan_checks(problem)


def test_what_an_aborted_job_left_is_planned_under_a_new_id() -> None:
    aborted = _job("A.soft", "A", "soft", "soft1", JobState.ABORTED, 30)
    problem = build(PLANT, [_request("A")], PlantState(jobs=(aborted,)), NOW)
    o = problem.op("A.soft.2")
    assert problem.op_quantity[o] == 70
    _plan_checks(problem)


def test_a_locked_job_stays_and_a_down_unit_sets_it_free() -> None:
    queued = _job("A.soft", "A", "soft", "soft1", JobState.ALLOWED_TO_START)
    state = PlantState(jobs=(queued,), locked=frozenset({"A.soft"}))
    problem = build(PLANT, [_request("A")], state, NOW)
    assert problem.op_status[problem.op("A.soft")] == OpStatus.LOCKED
    _plan_checks(problem)
    path = queued[0].equipment
    state = PlantState(jobs=(queued,), locked=frozenset({"A.soft"}), down={path: NOW + 4 * HOUR})
    problem = build(PLANT, [_request("A")], state, NOW)
    assert problem.op_status[problem.op("A.soft")] == OpStatus.FREE
    plan = construct(problem, "edd")
    m = problem.machine(path)
    assert (plan.start[plan.machine == m] >= 4 * 3600).all()


def test_an_unknown_product_is_named() -> None:
    with pytest.raises(InfeasibleError, match="request 'A': no product 'nope'"):
        build(PLANT, [_request("A", "nope")], PlantState(), NOW)


def test_a_newer_problem_takes_over_the_plan() -> None:
    requests = [_request("A"), _request("B", "edu_a")]
    old = build(PLANT, requests, PlantState(), NOW)
    plan = construct(old, "edd")
    new = build(PLANT, [*requests, _request("C", "hyb_a")], PlantState(), NOW + HOUR)
    reaction = react(new, carry(old, plan, new), None, frozen_s=600)
    assert verify(reaction.problem, reaction.plan) == []
    assert (reaction.plan.machine >= 0).all()
    jobs = job_orders(reaction.problem, reaction.plan)
    assert {job.id for job in jobs} == set(new.op_ids)


def test_every_answer_uses_a_known_message_with_its_parameters() -> None:
    requests = [_request(f"R{k}", p.id) for k, p in enumerate(PLANT.products * 2)]
    problem = build(PLANT, requests, PlantState(), NOW)
    plan = construct(problem)
    path = problem.machine_ids[int(plan.machine[0])]
    event = Event(time_ns=NOW + HOUR, kind=EventKind.BREAKDOWN, path=path)
    reaction = react(problem, plan, event)
    messages = [*reasons(event, reaction)]
    for op in problem.op_ids:
        messages += explain(reaction.problem, reaction.plan, op)
    for o in (5, 20):
        for machine in problem.machine_ids:
            answer = why_not(reaction.problem, reaction.plan, problem.op_ids[o], machine,
                             iterations=50)  # fmt: skip
            messages += answer.messages
    assert len({m.id for m in messages}) > 8
    for message in messages:
        for text in MESSAGES[message.id]:
            needed = {name for _, name, _, _ in string.Formatter().parse(text) if name}
            assert needed <= set(message.params), message


def _document() -> str:
    rng = np.random.default_rng(5)
    jobs = [
        {
            "id": j,
            "family": j % 2,
            "release": 0,
            "due": 20,
            "weight": 1 + j % 3,
            "operations": [
                {"alternatives": [[m, int(rng.integers(3, 9))] for m in (0, 1, 2)]}
                for _ in range(3)
            ],
        }
        for j in range(6)
    ]
    machines = [{"id": m, "work_center": 0, "available_from": 0, "family": 0} for m in range(3)]
    setup = [[[0, 4], [5, 0]]]
    return json.dumps(
        {"format": "reactive-fjsp/1", "machines": machines, "setup": setup, "jobs": jobs}
    )


def test_documents_are_solved_repaired_and_checked() -> None:
    text = _document()
    solved = solve_file_text(text, name="some/where/plant.json", iterations=2000)
    assert (solved["instance"], solved["format"]) == ("plant.json", "json")
    assert solved["objective_name"] == "weighted_tardiness"
    assert solved["lower_bound"] <= solved["objective"] <= solved["constructed"]
    values = [value for _, value in solved["history"]]
    assert values == sorted(values, reverse=True)
    assert values[-1] == solved["objective"]
    plan = json.dumps(solved["plan"])
    assert verify_file_text(text, plan)["feasible"]
    assert verify_file_text(text, json.dumps(solved))["feasible"]
    event = json.dumps({"time": 10, "kind": "breakdown", "machine": 1, "until": 40})
    repaired = react_file_text(text, plan, event)
    assert repaired["feasible"]
    rows = {(row["job"], row["op"]): row for row in solved["plan"]}
    for row in repaired["plan"]:
        before = rows[row["job"], row["op"]]
        if before["start"] < 10:
            assert (row["start"], row["machine"]) == (before["start"], before["machine"])
        elif row["machine"] == 1:
            assert row["start"] >= 40
    broken = json.loads(plan)
    broken[0]["end"] += 1
    assert not verify_file_text(text, json.dumps(broken))["feasible"]


def test_operations_that_a_file_numbers_through_keep_their_numbers() -> None:
    text = "4 2 2\n0 2\n1 3\n1 0 5\n2 0 3 1 4\n1 1 2\n1 0 6\n"
    solved = solve_file_text(text, name="fajsp/two.txt", iterations=500)
    assert sorted(row["op"] for row in solved["plan"]) == [0, 1, 2, 3]
    assert {(row["job"], row["op"]) for row in solved["plan"]} == {(0, 0), (0, 2), (1, 1), (1, 3)}
    assert verify_file_text(text, json.dumps(solved), name="fajsp/two.txt")["feasible"]


def _all_sequences(problem: Problem) -> float:
    """The least value of every choice of machines and sequences."""
    machines = itertools.product(*(problem.alternatives(o) for o in range(problem.n_ops)))
    best = np.inf
    for choice in machines:
        machine = np.array(choice, np.int64)
        groups = [np.flatnonzero(machine == m).tolist() for m in range(problem.n_machines)]
        ptr = np.cumsum([0, *map(len, groups)])
        for orders in itertools.product(*map(itertools.permutations, groups)):
            row = np.array([o for order in orders for o in order], np.int64)
            try:
                plan = timed(problem, machine, ptr, row)
            except InfeasibleError:
                continue
            kpis = objective(problem, plan, None, DOCUMENT_WEIGHTS)
            value = kpis.makespan_s if problem.target == "makespan" else kpis.weighted_tardiness_s
            best = min(best, value)
    return best


@pytest.mark.parametrize("target", ["tardiness", "makespan"])
@pytest.mark.parametrize("seed", range(3))
def test_small_problems_are_solved_to_the_proven_optimum(target: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 6
    problem = assemble(
        target=target,
        alternatives=[[(m, int(rng.integers(2, 9))) for m in range(2)] for _ in range(n)],
        preds=[[(o - 1, int(rng.integers(0, 3)))] if o % 2 else [] for o in range(n)],
        op_job=[o // 2 for o in range(n)],
        job_due=rng.integers(4, 14, n // 2).tolist(),
        n_machines=2,
        ops={"family": rng.integers(0, 3, n).tolist(), "release": rng.integers(0, 4, n).tolist()},
        jobs={"weight": rng.integers(1, 5, n // 2).tolist()},
        machines={"available": [0, 3], "family": [-1, 1]},
        setup=np.where(np.eye(3, dtype=bool), 0, rng.integers(1, 6, (1, 3, 3))),
    )
    first = construct(problem, Rule.FIFO)
    proof = exact.prove(problem, first, seconds=20, workers=2)
    assert proof.is_optimal
    assert proof.plan is not None
    assert not verify(problem, proof.plan)
    best = _all_sequences(problem)
    assert proof.bound == best
    kpis = objective(problem, proof.plan, None, DOCUMENT_WEIGHTS)
    found = kpis.makespan_s if target == "makespan" else kpis.weighted_tardiness_s
    assert found == best


def test_tuned_rules_are_never_worse_and_repeat_themselves() -> None:
    problem = document_problem(json.loads(_document()))
    first = construct(problem, Rule.FIFO)
    one, two = (tune(problem, first, passes=60, seed=4, workers=2) for _ in range(2))
    assert one.fingerprint() == two.fingerprint()
    assert not verify(problem, one)
    values = [objective(problem, plan, None, PLANT_WEIGHTS).objective for plan in (one, first)]
    assert values[0] <= values[1]


def _spoilt(change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(_document())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "x"}', "format must be 'reactive-fjsp/1'"),
        ("", "is empty"),
        ("2 2 1\n1 1 1 5\n", "2 jobs are announced, 1 lines follow"),
        ("1 2 1\n1 1 3 5\n", "machine 2 with duration 5"),
        ("1 1 1\n1 1 1 x\n", "line 2: number 4 must be whole"),
        ("1 1 1\n1 1 1 99999999999999999999\n", "line 2: number 4 must be a whole number"),
        ("1 1 1\n1 0\n", "job 0 operation 0: no machine can do it"),
        ("0 0\n", "numbers of 1 and more"),
        ("2 2\n-1 5 1 3\n1 2 0 3\n", "job 0 operation 0: machine -1"),
        ("1 2\n0 1 1 2\n0 1 1 2\n", "line 3: stands behind the last of 1 jobs"),
        ("1 1 1\n1 1 1 5\n0 1\n", "1 setup matrices of 1 x 1 are expected, got 2"),
        ("1 1 1\n1 1 1 5\n-4\n", "a setup must be 0 or more"),
        ("3 3 2\n0 1\n1 2\n2 0\n1 0 5\n1 1 5\n1 0 4\n", "form a cycle"),
        ("2 1 2\n0 7\n1 0 5\n1 1 5\n", "line 2: 0 before 7 must be two of"),
        ("2 1 2\n0 1\n1 4 5\n1 1 5\n", "operation 0: machine 4 with duration 5"),
        (_spoilt(lambda d: d.pop("jobs")), "has no 'jobs'"),
        (_spoilt(lambda d: d["jobs"].append(d["jobs"][0])), "jobs: id '0' stands twice"),
        (_spoilt(lambda d: d["jobs"][1].update(family=9)), "family must be .* 0 to 1, got 9"),
        (_spoilt(lambda d: d["jobs"][1].update(weight=-3)), "weight must be"),
        (_spoilt(lambda d: d["jobs"][1].update(release=-3)), "release must be"),
        (_spoilt(lambda d: d["jobs"][1].update(due=2**70)), "due must be"),
        (_spoilt(lambda d: d["machines"][1].update(family=9)), "machine 1: family must be"),
        (_spoilt(lambda d: d["machines"][1].update(work_center=9)), "work_center must be"),
        (_spoilt(lambda d: d.update(setup=[[[0, -4], [5, 0]]])), "every changeover must be"),
        (_spoilt(lambda d: d.update(setup=[[[0, 4]]])), "setup: must be"),
    ],
)
def test_bad_files_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        solve_file_text(text, name="x")


def _row(change: dict[str, Any]) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda rows: rows[0].update(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(rows[0]), "stands twice"),
        (_row({"start": 0.5}), "start and end must be whole numbers"),
        (_row({"end": 2**70}), "start and end must be whole numbers"),
        (_row({"machine": 17}), "no machine 17"),
        (_row({"job": "no"}), "no job 'no'"),
    ],
)
def test_bad_plans_say_what_is_wrong(
    change: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    rows = solve_file_text(_document(), iterations=50)["plan"]
    change(rows)
    with pytest.raises(OrderError, match=message):
        verify_file_text(_document(), json.dumps(rows))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"time": -1, "kind": "breakdown", "machine": 1, "until": 4}, "time must be"),
        ({"time": 10, "kind": "breakdown", "machine": 1, "until": 4}, "until must be"),
        ({"time": 10, "kind": "breakdown", "machine": 7, "until": 40}, "7"),
        ({"time": 10, "kind": "cancelled"}, "cancelled needs"),
        ({"time": 10, "kind": "flood"}, "kind 'flood' is unknown"),
        (
            {"time": 10, "kind": "rush_order", "job": {"id": 99, "family": 5, "operations": []}},
            "99",
        ),
        (
            {
                "time": 10,
                "kind": "rush_order",
                "job": {"id": 99, "family": 0, "operations": [{"alternatives": []}]},
            },
            "no machine can do it",
        ),
    ],
)
def test_bad_events_say_what_is_wrong(event: dict[str, Any], message: str) -> None:
    plan = json.dumps(solve_file_text(_document(), iterations=50)["plan"])
    with pytest.raises(OrderError, match=message):
        react_file_text(_document(), plan, json.dumps(event))


def test_setups_are_seen_whatever_the_file_is_called() -> None:
    text = "2 1 1\n1 1 1 5\n1 1 1 5\n\n0 3\n4 0\n"
    solved = solve_file_text(text, name="x.txt", iterations=50)
    assert (solved["format"], solved["objective"]) == ("sdst", 13.0)
