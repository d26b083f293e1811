"""What a repair prints can be checked and repaired again, event after event."""

import json
from typing import Any

import pytest
from bench.schedule import document

from workshop_brain.errors import OrderError
from workshop_brain.schedule.run import react_file_text, solve_file_text, verify_file_text

LINE = "4 3\n0 5 1 2 2 4\n0 3 1 6 2 1\n0 2 1 2 2 7\n0 6 1 1 2 3\n"


def _document() -> dict[str, Any]:
    return document(60, 6, 5)


def _event(plan: dict[str, Any], at: float, kind: str, **more: Any) -> dict[str, Any]:
    last = max(row["end"] for row in plan["plan"])
    event = {"time": int(at * last), "kind": kind, **more}
    if kind in ("breakdown", "quality_stop"):
        event["until"] = int((at + 0.2) * last)
    return event


def _chain(text: str, name: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    plans = [solve_file_text(text, name=name, iterations=2_000, seed=1)]
    for at, event in enumerate(events, 1):
        happened = _event(plans[0], 0.2 * at, **event)
        plans.append(react_file_text(text, json.dumps(plans[-1]), json.dumps(happened), name=name))
    return plans


def test_every_answer_of_a_chain_of_events_is_feasible_and_read_again() -> None:
    data = _document()
    rush = {**data["jobs"][0], "id": 900, "release": 0}
    events = [
        {"kind": "breakdown", "machine": 1},
        {"kind": "rush_order", "job": rush},
        {"kind": "cancelled", "job": 5},
        {"kind": "quality_stop", "machine": 2},
    ]
    text = json.dumps(data)
    for plan in _chain(text, "shop.json", events):
        found = verify_file_text(text, json.dumps(plan), name="shop.json")
        assert found["violations"] == []
        assert found["objective"] == plan["objective"]


def test_a_spoiled_answer_is_still_refused() -> None:
    text = json.dumps(_document())
    plan = _chain(text, "shop.json", [{"kind": "breakdown", "machine": 1}])[-1]
    row = max(plan["plan"], key=lambda row: row["end"])
    row["start"], row["end"] = row["start"] - 10_000, row["end"] - 10_000
    assert not verify_file_text(text, json.dumps(plan), name="shop.json")["feasible"]


def test_an_event_before_the_last_one_is_refused() -> None:
    text = json.dumps(_document())
    plan = _chain(text, "shop.json", [{"kind": "breakdown", "machine": 1}])[-1]
    early = json.dumps({"time": 1, "kind": "breakdown", "machine": 2, "until": 50})
    with pytest.raises(OrderError, match="when the last event was"):
        react_file_text(text, json.dumps(plan), early, name="shop.json")


def test_the_makespan_counts_from_the_beginning_after_an_event_too() -> None:
    text = "2 2 1\n2 1 1 5 1 2 5\n2 1 2 5 1 1 5\n"
    plan = _chain(text, "small.fjs", [{"kind": "breakdown", "machine": 0}])[-1]
    assert plan["objective"] == max(row["end"] for row in plan["plan"])


def test_no_job_overtakes_on_a_flow_line_after_a_breakdown() -> None:
    plan = _chain(LINE, "line.fsp", [{"kind": "breakdown", "machine": 1}])[-1]
    rows = sorted(plan["plan"], key=lambda row: row["start"])
    orders = [[r["job"] for r in rows if r["machine"] == m] for m in range(3)]
    assert orders[0] == orders[1] == orders[2]


def test_a_plan_in_which_a_job_overtakes_is_refused() -> None:
    start = {0: [0, 5, 7], 1: [5, 14, 20], 2: [8, 10, 13], 3: [10, 20, 21]}
    work = [[5, 2, 4], [3, 6, 1], [2, 2, 7], [6, 1, 3]]
    rows = [
        {"job": j, "op": k, "machine": k, "start": at[k], "end": at[k] + work[j][k]}
        for j, at in start.items()
        for k in range(3)
    ]
    found = verify_file_text(LINE, json.dumps(rows), name="line.fsp")
    assert {v["kind"] for v in found["violations"]} == {"order"}


def test_a_changeover_that_has_begun_stays_in_the_plan() -> None:
    text = json.dumps(_document())
    before, after = _chain(text, "shop.json", [{"kind": "breakdown", "machine": 1}])
    at = after["since"][0]["event"]["time"]
    kept = {(r["job"], r["op"]): r["setup_start"] for r in before["plan"] if r["start"] < at}
    now = {(r["job"], r["op"]): r["setup_start"] for r in after["plan"]}
    assert any(value < r["start"] for r in before["plan"] for value in [r["setup_start"]])
    assert {key: now[key] for key in kept} == kept


def test_maintenance_that_a_condition_asks_for_is_placed_in_time() -> None:
    text = json.dumps(_document())
    solved = solve_file_text(text, name="shop.json", iterations=2_000, seed=1)
    last = max(row["end"] for row in solved["plan"])
    at, until = last // 5, last // 2
    event = {"time": at, "kind": "maintenance_due", "machine": 1, "duration": 40, "until": until}
    plan = react_file_text(text, json.dumps(solved), json.dumps(event), name="shop.json")
    (row,) = (row for row in plan["plan"] if str(row["job"]).startswith("maintenance"))
    assert (row["machine"], row["end"] - row["start"]) == (1, 40)
    assert at <= row["start"]
    assert row["end"] <= until
    assert verify_file_text(text, json.dumps(plan), name="shop.json")["feasible"]
    late = json.loads(json.dumps(plan))
    for other in late["plan"]:
        if str(other["job"]).startswith("maintenance"):
            other["start"], other["end"] = last + 1_000, last + 1_040
            other["setup_start"] = other["start"]
    found = verify_file_text(text, json.dumps(late), name="shop.json")
    assert {v["kind"] for v in found["violations"]} == {"deadline"}
    late["plan"] = [r for r in late["plan"] if not str(r["job"]).startswith("maintenance")]
    found = verify_file_text(text, json.dumps(late), name="shop.json")
    assert {v["kind"] for v in found["violations"]} == {"unplanned"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": 99}, "no machine"),
        ({"duration": 0}, "duration"),
        ({"until": None, "machine": None}, "machine"),
    ],
)
def test_maintenance_of_nothing_or_without_length_is_refused(
    change: dict[str, Any], message: str
) -> None:
    text = json.dumps(_document())
    solved = json.dumps(solve_file_text(text, name="shop.json", iterations=100, seed=1))
    event = {"time": 50, "kind": "maintenance_due", "machine": 1, "duration": 9, "until": 900}
    with pytest.raises(OrderError, match=message):
        react_file_text(text, solved, json.dumps(event | change), name="shop.json")
