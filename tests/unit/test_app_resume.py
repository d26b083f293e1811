"""What the brain still knows after a restart, from records and ledger."""

from contextlib import closing
from pathlib import Path

import pytest

from workshop_brain.app.resume import remembered
from workshop_brain.autonomy.record import decision_body
from workshop_brain.model.decision import Candidate, Decision, DecisionClass, DecisionState, Level
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records


def decision(id: str, state: DecisionState, kind: str) -> Decision:
    return Decision(
        id=id,
        time_ns=int(id[1:]),
        decision_class=DecisionClass.REPAIR,
        line="l1",
        trigger={"kind": kind, "path": "u1", "time_ns": 1},
        input_hash="0" * 64,
        seed=1,
        iterations=1,
        candidates=(Candidate(name="right_shift", kpis={}, objective=1.0),),
        chosen=0,
        reasons=(),
        changes=(),
        effect={},
        level=Level.APPROVE,
        state=state,
        plan_hash="P",
    )


@pytest.mark.parametrize(
    ("later", "causes"),
    [(DecisionState.BLOCKED, ["breakdown"]), (DecisionState.IN_FORCE, [])],
)
def test_a_plan_that_was_held_back_does_not_hide_the_proposal_that_waits(
    tmp_path: Path, later: DecisionState, causes: list[str]
) -> None:
    with (
        closing(Records(tmp_path / "records.sqlite")) as records,
        closing(Ledger(tmp_path / "ledger")) as ledger,
    ):
        for row in (
            decision("D1", DecisionState.WAITING_APPROVAL, "breakdown"),
            decision("D2", later, "late_finish"),
        ):
            entry = ledger.append("decision", decision_body(row))
            records.save_decision(row, entry=entry.n)
        fact = remembered(records, ledger, tmp_path, stops=(), time_ns=5, wall_ns=5)
    assert [cause["kind"] for cause in fact.causes] == causes


@pytest.mark.parametrize(
    ("verdict", "causes"), [("approved", ["breakdown"]), ("rejected", []), ("vetoed", [])]
)
def test_an_approved_plan_whose_file_was_not_written_is_proposed_again(
    tmp_path: Path, verdict: str, causes: list[str]
) -> None:
    with (
        closing(Records(tmp_path / "records.sqlite")) as records,
        closing(Ledger(tmp_path / "ledger")) as ledger,
    ):
        row = decision("D1", DecisionState.WAITING_APPROVAL, "breakdown")
        entry = ledger.append("decision", decision_body(row))
        records.save_decision(row, entry=entry.n, approved_by="anna")
        ledger.append("approval", {"decision": "D1", "verdict": verdict, "by": "anna"})
        fact = remembered(records, ledger, tmp_path, stops=(), time_ns=5, wall_ns=5)
    assert [cause["kind"] for cause in fact.causes] == causes
