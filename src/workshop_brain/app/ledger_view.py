"""Decisions of the ledger, read while the brain runs or is down."""

from pathlib import Path
from typing import Any

from workshop_brain.autonomy.record import read_decision
from workshop_brain.autonomy.replay import replay
from workshop_brain.errors import LedgerError
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

RECOMPUTED = ("plan", "repair", "improve")


def open_ledger(data: Path) -> Ledger:
    """The ledger of a data directory with its anchor; LedgerError when there is none."""
    if not (data / "ledger" / "ledger.jsonl").exists():
        raise LedgerError(f"--data {data}: no ledger here; is it the right directory?")
    return Ledger(data / "ledger", anchor=Records(data / "records.sqlite").anchor())


def find_decision(data: Path, id: str, *, computed: bool = False) -> dict[str, Any]:
    """Body of a decision with what followed; ``last`` is the newest one.

    With ``computed`` only decisions count for which a plan was computed (``last``).
    """
    ledger = open_ledger(data)
    found: dict[str, Any] | None = None
    for entry in ledger.entries("decision"):
        body = entry.body
        fits = body["id"] == id or (
            id == "last" and (not computed or body["decision_class"] in RECOMPUTED)
        )
        if fits:
            found = dict(body)
    if found is None:
        raise LedgerError(f"decision {id!r} is not in the ledger of {data}")
    followed = [
        {"kind": entry.kind, "wall_ns": entry.wall_ns, **entry.body}
        for entry in ledger.entries()
        if entry.kind != "decision" and entry.body.get("decision") == found["id"]
    ]
    return {**found, "followed": followed}


def replay_decision(data: Path, id: str) -> dict[str, Any]:
    """Compute a decision anew from its stored inputs and compare it with the ledger."""
    body = find_decision(data, id, computed=True)
    body.pop("followed")
    return replay(read_decision(body), open_ledger(data).get_input).as_dict()
