"""From plant, orders and live state to a problem; explanations and the file commands."""

import json
import string

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import JobOrder, JobResponse, JobState, WorkRequest
from workshop_brain.schedule.explain import explain, reasons, why_not
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.plan import carry, job_orders
from workshop_brain.schedule.problem import OpStatus, PlantState, Problem, build
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text
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
    solved = solve_file_text(text, iterations=2000)
    assert solved["bound"] <= solved["objective"] <= solved["constructed"]
    plan = json.dumps(solved["plan"])
    assert verify_file_text(text, plan)["feasible"]
    event = json.dumps({"time": 10, "kind": "breakdown", "machine": 1, "until": 40})
    repaired = react_file_text(text, plan, event)
    rows = {row["op"]: row for row in solved["plan"]["operations"]}
    for row in repaired["plan"]["operations"]:
        if rows[row["op"]]["start"] < 10:
            assert row["start"] == rows[row["op"]]["start"]
        elif row["machine"] == "1":
            assert row["start"] >= 40
    broken = json.loads(plan)
    broken["operations"][0]["end"] += 1
    assert not verify_file_text(text, json.dumps(broken))["feasible"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "x"}', "format must be 'reactive-fjsp/1'"),
        ("2 2 1\n1 1 1 5\n", "2 jobs are announced, 1 lines follow"),
        ("1 2 1\n1 1 3 5\n", "machine 2 with duration 5"),
        ("1 1 1\n1 1 1 x\n", "line 2: number 4 must be whole"),
    ],
)
def test_bad_files_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(OrderError, match=message):
        solve_file_text(text, name="bad.fjs")
