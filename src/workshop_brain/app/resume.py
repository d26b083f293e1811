"""What the brain still knows after a restart: from the records, the ledger and the plan on disk."""

import logging
from pathlib import Path
from typing import Any

from workshop_brain.app.plans import IN_FORCE, read_plan
from workshop_brain.autonomy import facts as f
from workshop_brain.autonomy.envelope import MoveBudget
from workshop_brain.errors import BrainError
from workshop_brain.model.decision import DecisionClass, DecisionState, Level
from workshop_brain.model.event import Event
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

_log = logging.getLogger(__name__)


def remembered(
    records: Records,
    ledger: Ledger,
    plans_dir: Path,
    *,
    stops: tuple[Event, ...],
    time_ns: int,
    wall_ns: int,
) -> f.Resumed:
    """Levels and switches set by people, the plan in force, unanswered causes, moves made, and
    the stops of units that had not ended."""
    levels: dict[tuple[str, DecisionClass], Level] = {}
    for key, value in records.settings("level.").items():
        _, line, kind = key.split(".", 2)
        levels[line, DecisionClass(kind)] = Level[str(value).upper()]
    switches = {
        key.split(".", 1)[1]: bool(value) for key, value in records.settings("switch.").items()
    }
    for kind, body in _said(ledger):
        if kind == "level":
            levels[body["line"], DecisionClass(body["class"])] = Level[body["level"].upper()]
        else:
            switches[body["line"]] = bool(body["on"])
    plan, decision = None, ""
    kept = read_plan(plans_dir, IN_FORCE)
    if kept is not None and kept[2]:
        plan, decision = kept[0], kept[1]
    spent = records.setting("budget", [])
    return f.Resumed(
        time_ns=time_ns,
        wall_ns=wall_ns,
        levels=levels,
        switches=switches,
        in_force=plan,
        in_force_decision=decision,
        causes=_unanswered(records, ledger, decision),
        stops=stops,
        budget=MoveBudget(tuple((int(t), str(line), int(n)) for t, line, n in spent)),
    )


def _said(ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
    """Levels and switches of late in the ledger: it is the truth when the records lag behind it,
    as after a full disk."""
    try:
        entries = ledger.recent()
    except BrainError as error:
        _log.error("levels and switches are as the records have them: %s", error)
        return []
    return [(e.kind, dict(e.body)) for e in entries if e.kind in ("level", "switch")]


def _unanswered(records: Records, ledger: Ledger, in_force: str) -> tuple[dict[str, Any], ...]:
    """Triggers of the newest plan proposal, when nobody had answered it before the stop.

    One that was held back since then replaced nothing. An approved one that the plan on disk is
    not of counts as unanswered: the stop came between the record and the file.
    """
    rows = records.decisions(50)
    plans = (
        r
        for r in rows
        if r.decision.decision_class is not DecisionClass.RELEASE
        and r.decision.state is not DecisionState.BLOCKED
    )
    row = next(plans, None)
    waiting = (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)
    if row is None or row.decision.state not in waiting or row.decision.id == in_force:
        return ()
    try:
        later = ledger.entries(after=row.entry)
        verdicts = {
            e.body.get("verdict") for e in later if e.body.get("decision") == row.decision.id
        }
    except BrainError as error:
        _log.error("whether %s was answered is not known: %s", row.decision.id, error)
        return ()
    if verdicts & {"rejected", "vetoed"}:
        return ()
    first = row.decision.trigger
    causes = tuple(dict(t) for t in first.get("all") or [first])
    return tuple(t for t in causes if t.get("kind") != "improve")
