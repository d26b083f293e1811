"""The decisions of this plant as people see them: each with its life since it was made.

The ledger alone is the truth; this is what the screens ask for many times a minute.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from workshop_brain.app import schedule_views as views
from workshop_brain.autonomy import actions as a
from workshop_brain.autonomy.record import decision_body, read_decision
from workshop_brain.autonomy.state import LoopState
from workshop_brain.errors import BrainError, StoreError
from workshop_brain.model.decision import DecisionClass, DecisionState
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

_log = logging.getLogger(__name__)
_KEPT = 500


class DecisionBook:
    """Decisions with their approvals, commands and outcomes; older ones come from the store."""

    def __init__(self, records: Records, ledger: Ledger) -> None:
        self._records, self._ledger = records, ledger
        self._decisions: dict[str, dict[str, Any]] = {}
        self._commands: dict[str, list[dict[str, Any]]] = {}
        self._outcomes: dict[str, list[dict[str, Any]]] = {}
        self._approvals: dict[str, dict[str, Any]] = {}
        self._earlier: set[str] = set()
        """Decisions whose life since they were made was read back from the ledger."""
        self._owed: dict[str, Callable[[], None]] = {}
        self._paying = threading.Lock()
        self.behind = ""
        """Why the records lag behind the ledger; "" when they do not."""

    def recall(self) -> None:
        """What people answered and what came of the latest decisions before a restart.

        A decision that was recorded right before a kill may lack its row in the index: it gets it.
        """
        try:
            entries = self._ledger.recent()
        except BrainError as error:
            _log.error("what became of earlier decisions is not shown: %s", error)
            return
        last = max((row.entry for row in self._records.decisions(50)), default=0)
        for entry in entries:
            if entry.kind == "decision":
                self._earlier.add(str(entry.body["id"]))
                if entry.n > last:
                    self._records.save_decision(read_decision(entry.body), entry=entry.n)
            elif entry.kind in ("approval", "veto"):
                self._approvals[entry.body["decision"]] = dict(entry.body)
            elif entry.kind == "outcome":
                self._outcomes.setdefault(entry.body["decision"], []).append(dict(entry.body))
            elif entry.kind == "command":
                self._commands.setdefault(entry.body["decision"], []).append(dict(entry.body))
            elif entry.kind == "confirmation":
                self._note_confirmation(entry.body)

    def body(self, id: str) -> dict[str, Any] | None:
        """A decision of this run of the brain as it was recorded."""
        return self._decisions.get(id)

    def note(self, action: a.Record) -> None:
        """What the screens show of a record."""
        body = action.body
        if action.kind == "decision":
            self._decisions[body["id"]] = body
            while len(self._decisions) > _KEPT:
                oldest = next(iter(self._decisions))
                for kept in (self._decisions, self._commands, self._outcomes, self._approvals):
                    kept.pop(oldest, None)
        elif action.kind in ("approval", "veto"):
            self._approvals[body["decision"]] = body
        elif action.kind == "command":
            self._commands.setdefault(body["decision"], []).append(dict(body))
        elif action.kind == "confirmation":
            self._note_confirmation(body)
        elif action.kind == "outcome":
            self._outcomes.setdefault(body["decision"], []).append(dict(body))

    def _save_approval(self, body: Mapping[str, Any]) -> None:
        row = self._records.decision(body["decision"])
        if row is not None and body["verdict"] == "approved":
            self._records.save_decision(row.decision, entry=row.entry, approved_by=body["by"])

    def _note_confirmation(self, body: Mapping[str, Any]) -> None:
        for commands in list(self._commands.values()):
            if _confirm(commands, body):
                return

    def index(self, recorded: Sequence[tuple[a.Record, int]]) -> None:
        """What the lists of decisions show after a restart; the ledger alone is the truth.

        What cannot be written now is owed.
        """
        for action, entry in recorded:
            if action.kind == "decision":
                decision = read_decision(action.body)
                save = partial(self._records.save_decision, decision, entry=entry)
                self._owe(f"decision {decision.id}", save)
        for action, _ in recorded:
            if action.kind == "approval":
                id = action.body["decision"]
                self._owe(f"approval {id}", partial(self._save_approval, action.body))
        self.pay()

    def keep(self, key: str, value: Any) -> None:
        """A setting that must be known after a restart; owed when it cannot be written now."""
        self._owe(f"setting {key}", partial(self._records.set_setting, key, value))
        self.pay()

    def _owe(self, name: str, write: Callable[[], None]) -> None:
        with self._paying:
            self._owed.pop(name, None)
            self._owed[name] = write

    def pay(self) -> None:
        """Write what is owed to the records, in order, as far as they take it."""
        with self._paying:
            while self._owed:
                name = next(iter(self._owed))
                try:
                    self._owed[name]()
                except StoreError as error:
                    if not self.behind:
                        _log.error("the records lag behind the ledger, %s waits: %s", name, error)
                    self.behind = str(error)
                    return
                del self._owed[name]
            if self.behind:
                _log.info("the records are level with the ledger again")
            self.behind = ""

    def newest(self, limit: int, state: LoopState) -> list[dict[str, Any]]:
        """Newest decisions first, without their plan changes."""
        rows = [
            self._with_life(body, state) for body in list(self._decisions.values())[::-1][:limit]
        ]
        if len(rows) < limit:
            known = {row["id"] for row in rows}
            for row in self._records.decisions(limit):
                if row.decision.id not in known:
                    body = decision_body(row.decision)
                    rows.append(self._with_life(body, state, approved_by=row.approved_by))
        rows = sorted(rows, key=lambda row: -row["time_ns"])[:limit]
        return [
            {**row, "changes": row["changes"][:5], "moved": views.moved(row["changes"])}
            for row in rows
        ]

    def one(self, id: str, state: LoopState) -> dict[str, Any]:
        """One decision with its life; KeyError when there is none."""
        body, approved_by = self._decisions.get(id), ""
        if body is None:
            row = self._records.decision(id)
            if row is None:
                raise KeyError(id)
            body, approved_by = decision_body(row.decision), row.approved_by
            self._recall(id)
        return self._with_life(body, state, approved_by=approved_by)

    def _recall(self, id: str) -> None:
        """Commands and outcomes of an older decision, read from the ledger."""
        if id in self._earlier or id in self._decisions:
            return
        found: list[dict[str, Any]] = []
        outcomes: list[dict[str, Any]] = []
        for entry in self._ledger.entries():
            if entry.kind == "confirmation":
                _confirm(found, entry.body)
            elif entry.body.get("decision") != id:
                continue
            elif entry.kind == "command":
                found.append(dict(entry.body))
            elif entry.kind == "outcome":
                outcomes.append(dict(entry.body))
            elif entry.kind in ("approval", "veto"):
                self._approvals[id] = dict(entry.body)
        self._earlier.add(id)
        self._outcomes[id] = outcomes
        self._commands[id] = found

    def _with_life(
        self, body: dict[str, Any], loop: LoopState, approved_by: str = ""
    ) -> dict[str, Any]:
        id = body["id"]
        state = loop.states.get(id)
        recorded = DecisionState(body["state"])
        if state is None:
            # Of an earlier run of the brain: what waited then does not wait any more.
            waited = recorded in (DecisionState.WAITING_APPROVAL, DecisionState.WAITING_VETO)
            gone = waited and id not in self._decisions
            state = DecisionState.SUPERSEDED if gone else recorded
            acted = recorded in (DecisionState.APPROVED, DecisionState.IN_FORCE)
            if acted and body["decision_class"] != DecisionClass.RELEASE.value:
                state = DecisionState.SUPERSEDED
        entry = loop.open.get(id)
        answer = self._approvals.get(id, {})
        if id not in loop.states and answer.get("verdict") in ("rejected", "vetoed"):
            state = DecisionState.REJECTED
        by = answer.get("by", approved_by) if answer.get("verdict") != "rejected" else ""
        return {
            **body,
            "state": state.value,
            "approved_by": by,
            "answer": answer or None,
            "until_ns": entry.until_wall_ns if entry else None,
            "superseded_by": loop.replaced_by.get(id),
            "commands": self._commands.get(id, []),
            "outcome": views.outcome(self._outcomes.get(id, [])),
        }


def _confirm(commands: list[dict[str, Any]], body: Mapping[str, Any]) -> bool:
    """Put a confirmation beside the newest command for its job; whether there is one."""
    for command in reversed(commands):
        if command["job"] == body["job"]:
            command["outcome"] = body["outcome"]
            command["message"] = body.get("message", "")
            command["confirmed_ns"] = body["time_ns"]
            return True
    return False
