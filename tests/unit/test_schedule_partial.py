"""Where not all can be done, the largest part is planned and the rest is listed with the reason."""

import json
from typing import Any

import numpy as np
import pytest

from workshop_brain.errors import InfeasibleError, OrderError
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.messages import MESSAGES
from workshop_brain.schedule.partial import largest_part
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text
from workshop_brain.schedule.verify import verify, verify_part

Document = dict[str, Any]


def _document(*jobs: Document, machines: int = 2) -> Document:
    """Jobs on machines without changeovers; each operation ``[[machine, duration], ...]``."""
    return {
        "format": "reactive-fjsp/1",
        "machines": [{"id": m, "work_center": 0} for m in range(machines)],
        "setup": [[[0]]],
        "jobs": [{"family": 0, "release": 0, "due": None} | job for job in jobs],
    }


def _job(id: str, *rows: list[list[int]], **more: Any) -> Document:
    return {"id": id, "operations": [{"alternatives": row} for row in rows], **more}


def _solve(data: Document, **more: Any) -> Document:
    return solve_file_text(json.dumps(data), iterations=200, **more)


def _react(data: Document, plan: Any, **event: Any) -> Document:
    answer = react_file_text(json.dumps(data), json.dumps(plan), json.dumps(event))
    checked = verify_file_text(json.dumps(data), json.dumps(answer))
    kinds = {v["kind"] for v in checked["violations"]}
    assert kinds <= {"duration"}, checked  # the checker knows the file, not the stop
    return answer


def _left(answer: Document) -> dict[str, str]:
    for row in answer["unscheduled"]:
        assert row["job"] in row["why"]["en"]
        assert row["job"] in row["why"]["zh"]
        assert "is not planned" in row["why"]["en"]
        assert "未排入" in row["why"]["zh"]
        assert f"schedule.left_{row['why']['kind']}" in MESSAGES
        assert row["ops"]
        assert not [op for op in answer["plan"] if f"{op['job']}.{op['op']}" in row["ops"]]
    return {row["job"]: row["why"]["kind"] for row in answer["unscheduled"]}


def test_a_job_that_misses_its_deadline_alone_is_named_and_left_out_on_request() -> None:
    data = _document(
        _job("A", [[0, 5]], [[1, 5]]), _job("B", [[0, 9]], deadline=8), _job("C", [[1, 3]])
    )
    with pytest.raises(InfeasibleError, match=r"B is not planned: B.0 .* deadline 8.*--allow-uns"):
        _solve(data)
    answer = _solve(data, may_leave=True)
    assert _left(answer) == {"B": "deadline"}
    assert answer["unscheduled"][0]["why"]["until"] == 8
    assert {row["job"] for row in answer["plan"]} == {"A", "C"}
    assert verify_file_text(json.dumps(data), json.dumps(answer))["feasible"]


def test_of_jobs_that_cannot_all_be_kept_the_least_weight_goes() -> None:
    jobs = [_job(f"J{k}", [[0, 4]], deadline=8, weight=w) for k, w in enumerate((5, 1, 3))]
    answer = _solve(_document(*jobs), may_leave=True)
    assert _left(answer) == {"J1": "conflict"}
    assert answer["unscheduled"][0]["why"]["others"]
    assert len(answer["plan"]) == 2


def test_a_job_that_cannot_be_done_alone_is_no_conflict() -> None:
    # B takes 13 of its 12 ticks wherever it goes, whatever else is planned on its machines
    jobs = [_job(f"A{k}", [[0, 4]], deadline=12, weight=3) for k in range(3)]
    data = _document(
        *jobs,
        _job("B", [[0, 4], [1, 4]], [[0, 4]], [[0, 5]], deadline=12),
        _job("C", [[0, 4]], deadline=12),
        _job("D", [[0, 5]], deadline=13),
    )
    answer = _solve(data, may_leave=True)
    assert _left(answer) == {"B": "deadline", "C": "conflict", "D": "conflict"}
    planned = {row["job"] for row in answer["plan"]}
    for row in answer["unscheduled"]:
        if row["why"]["kind"] == "conflict":
            others = row["why"]["others"]
            assert isinstance(others, list)
            assert others
            assert set(others) <= planned
            assert ", ".join(others) in row["why"]["en"]
            assert ", ".join(others) in row["why"]["zh"]


@pytest.mark.parametrize("seed", range(8))
def test_reasons_name_only_jobs_of_the_plan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = [
        _job(
            f"J{k}", *([[int(rng.integers(2)), int(rng.integers(1, 6))]] for _ in range(2)),
            deadline=int(rng.integers(6, 16)), weight=int(rng.integers(1, 9)),
        )
        for k in range(12)
    ]  # fmt: skip
    answer = _solve(_document(*jobs), may_leave=True)
    planned = {row["job"] for row in answer["plan"]}
    kinds = set()
    for row in answer["unscheduled"]:
        kinds.add(row["why"]["kind"])
        job = next(job for job in jobs if job["id"] == row["job"])
        can = sum(op["alternatives"][0][1] for op in job["operations"]) <= job["deadline"]
        assert row["why"]["kind"] == ("conflict" if can else "deadline")
        assert set(row["why"].get("others", [])) <= planned
    assert "conflict" in kinds


def test_one_cheap_job_goes_rather_than_several() -> None:
    # any two of the short ones weigh more than the long one that stands in their way
    jobs = [_job(f"J{k}", [[0, 3]], deadline=9, weight=2) for k in range(3)]
    answer = _solve(_document(*jobs, _job("L", [[0, 8]], deadline=9, weight=3)), may_leave=True)
    assert _left(answer) == {"L": "conflict"}
    # and of equal weights the fewest go
    jobs = [_job(f"J{k}", [[0, 3]], deadline=9, weight=1) for k in range(3)]
    answer = _solve(_document(*jobs, _job("L", [[0, 8]], deadline=9, weight=1)), may_leave=True)
    assert _left(answer) == {"L": "conflict"}


def test_what_needs_the_pieces_of_a_job_goes_with_it() -> None:
    data = _document(
        _job("A", [[0, 9]], deadline=5), _job("B", [[1, 2]], weight=9), _job("C", [[1, 2]])
    )
    data["jobs"][1]["operations"][0]["after"] = [{"job": "A", "op": 0}]
    answer = _solve(data, may_leave=True)
    assert _left(answer) == {"A": "deadline", "B": "needs"}
    part = {"plan": answer["plan"], "unscheduled": [{"job": "A"}]}
    assert not verify_file_text(json.dumps(data), json.dumps(part))["feasible"]


def test_a_plan_that_needs_what_it_leaves_out_is_refused_for_that_alone() -> None:
    problem = document_problem(_document(_job("A", [[0, 4]], [[1, 2]]), _job("B", [[0, 3]])))
    plan = largest_part(problem).plan
    plan.machine[problem.op("A.0")] = -1
    assert [v.kind for v in verify_part(problem, plan, ["A"])] == ["precedence"]
    plan.machine[problem.op("A.1")] = -1
    assert verify_part(problem, plan, ["A"]) == []
    assert {v.kind for v in verify_part(problem, plan, [])} == {"unplanned"}


def test_a_repair_leaves_out_what_can_no_longer_keep_its_deadline() -> None:
    data = _document(
        _job("A", [[0, 5]], [[1, 5]], deadline=12), _job("B", [[1, 4]], [[0, 6]], weight=2)
    )
    plan = _solve(data)
    answer = _react(data, plan, time=2, kind="breakdown", machine=1, until=20)
    assert _left(answer) == {"A": "deadline"}
    assert answer["unscheduled"][0]["ops"] == ["A.1"]
    assert {(row["job"], row["op"]) for row in answer["plan"]} == {("A", 0), ("B", 0), ("B", 1)}
    # what was left out is tried anew, and comes back when it goes
    data["jobs"][0]["deadline"] = 60
    data["machines"][1]["closed"] = [[2, 20]]
    again = _react(data, answer, time=3, kind="restored", machine=1)
    assert _left(again) == {}
    assert len(again["plan"]) == 4


def test_a_started_predecessor_whose_follower_cannot_come_in_time_keeps_the_rest() -> None:
    data = _document(
        _job("A", [[0, 5]], [[1, 5]], weight=1),
        _job("B", [[1, 9]], deadline=16, weight=5),
        machines=2,
    )
    data["jobs"][0]["operations"][1]["max_lag"] = 3
    plan = [
        {"job": "A", "op": 0, "machine": 0, "start": 0, "end": 5},
        {"job": "A", "op": 1, "machine": 1, "start": 5, "end": 10},
        {"job": "B", "op": 0, "machine": 1, "start": 10, "end": 19},
    ]
    data["jobs"][1]["deadline"] = 19
    answer = _react(data, plan, time=2, kind="breakdown", machine=1, until=6)
    # A.1 may wait until 8 and then B misses 19: the lighter one goes
    assert _left(answer) == {"A": "conflict"}
    assert [(row["job"], row["start"]) for row in answer["plan"]] == [("A", 0), ("B", 6)]


def test_maintenance_is_not_given_up_for_orders() -> None:
    data = _document(_job("A", [[0, 6]], deadline=9, weight=7), _job("B", [[1, 2]]))
    data["maintenance"] = [{"id": "oil", "machine": 0, "duration": 4, "earliest": 2, "latest": 9}]
    answer = _solve(data, may_leave=True)
    assert _left(answer) == {"A": "conflict"}


@pytest.mark.parametrize("until", [None, 10**9])
def test_a_machine_that_never_comes_back_takes_only_what_needs_it(until: int | None) -> None:
    data = _document(
        _job("A", [[0, 5], [1, 7]], [[1, 5]]),
        _job("B", [[0, 4]], [[1, 2]]),
        _job("C", [[1, 2]], [[0, 3], [1, 9]]),
    )
    plan = _solve(data)
    running = next(r for r in plan["plan"] if r["machine"] == 0 and r["start"] == 0)
    answer = _react(data, plan, time=1, kind="breakdown", machine=0, until=until)
    left = _left(answer)
    assert left[running["job"]] == "lost"
    assert set(left) <= {"B", running["job"]}
    assert left.get("B") in ("lost", "no_machine")
    assert {row["machine"] for row in answer["plan"]} == {1}
    assert "C" in {row["job"] for row in answer["plan"]}


def test_material_that_never_comes_leaves_its_job_out() -> None:
    data = _document(_job("A", [[0, 5]]), _job("B", [[0, 4]]), _job("C", [[1, 4]]))
    plan = [
        {"job": "A", "op": 0, "machine": 0, "start": 0, "end": 5},
        {"job": "B", "op": 0, "machine": 0, "start": 5, "end": 9},
        {"job": "C", "op": 0, "machine": 1, "start": 0, "end": 4},
    ]
    answer = _react(data, plan, time=1, kind="late_material", job="B", until=None)
    assert _left(answer) == {"B": "material"}


def test_unknown_jobs_among_the_unscheduled_are_named() -> None:
    data = _document(_job("A", [[0, 5]]))
    bad = {"plan": [], "unscheduled": [{"job": "Z"}]}
    with pytest.raises(OrderError, match="unscheduled: no job 'Z'"):
        verify_file_text(json.dumps(data), json.dumps(bad))


def test_of_a_large_plant_no_more_is_left_out_than_must_be() -> None:
    machines, each = 10, 110
    jobs = [
        _job(f"J{m}.{k}", [[m, 1]], deadline=100, weight=1 + k % 3)
        for m in range(machines)
        for k in range(each)
    ]
    problem = document_problem(_document(*jobs, machines=machines))
    assert problem.n_ops > 1000
    part = largest_part(problem)
    assert verify(part.problem, part.plan) == []
    assert len(part.unscheduled) == machines * (each - 100)
    # one job more that cannot be done at all is told so, and costs nobody else
    late = [*jobs, _job("L", [[0, 5]], [[1, 5]], deadline=8, weight=9)]
    more = largest_part(document_problem(_document(*late, machines=machines)))
    kinds = {row.job: row.why.id for row in more.unscheduled}
    assert kinds.pop("L") == "schedule.left_deadline"
    assert len(kinds) == machines * (each - 100)


@pytest.mark.parametrize("seed", range(12))
def test_the_part_is_as_valuable_as_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = [
        _job(
            f"J{k}", [[int(rng.integers(2)), int(rng.integers(2, 6))]],
            deadline=int(rng.integers(4, 12)), weight=int(rng.integers(1, 9)),
        )
        for k in range(7)
    ]  # fmt: skip
    problem = document_problem(_document(*jobs))
    part = largest_part(problem)
    assert verify(part.problem, part.plan) == []
    left = {row.job for row in part.unscheduled}
    lost = sum(job["weight"] for job in jobs if job["id"] in left)
    assert lost <= 1.25 * _least_loss(jobs) + 1


def _least_loss(jobs: list[Document]) -> int:
    """The least weight of jobs without which earliest deadline first keeps all others."""
    best = 10**9
    for choice in range(1 << len(jobs)):
        free, late = {0: 0, 1: 0}, False
        for k, job in sorted(enumerate(jobs), key=lambda row: row[1]["deadline"]):
            if choice >> k & 1:
                continue
            m, work = job["operations"][0]["alternatives"][0]
            free[m] += work
            late |= free[m] > job["deadline"]
        if not late:
            best = min(best, sum(j["weight"] for k, j in enumerate(jobs) if choice >> k & 1))
    return best
