"""A Decision as a canonical JSON value and back, without loss."""

import json
from typing import Any

from workshop_brain.errors import LedgerError
from workshop_brain.model.decision import (
    Candidate,
    Decision,
    DecisionClass,
    DecisionState,
    Level,
    Message,
)


def canonical(value: Any) -> bytes:
    """Bytes of a JSON value that are the same for equal values: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [1.5, "ü"]})
    b'{"a":[1.5,"\\xc3\\xbc"],"b":1}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def message_body(message: Message) -> dict[str, Any]:
    """A message as a JSON object."""
    return {"id": message.id, "params": dict(message.params)}


def decision_body(decision: Decision) -> dict[str, Any]:
    """A decision as a JSON object; times stay integer nanoseconds."""
    return {
        "id": decision.id,
        "time_ns": decision.time_ns,
        "decision_class": decision.decision_class.value,
        "line": decision.line,
        "trigger": dict(decision.trigger),
        "input_hash": decision.input_hash,
        "seed": decision.seed,
        "iterations": decision.iterations,
        "candidates": [
            {"name": c.name, "kpis": dict(c.kpis), "objective": c.objective}
            for c in decision.candidates
        ],
        "chosen": decision.chosen,
        "reasons": [message_body(m) for m in decision.reasons],
        "changes": [dict(c) for c in decision.changes],
        "effect": dict(decision.effect),
        "level": decision.level.name.lower(),
        "state": decision.state.value,
        "plan_hash": decision.plan_hash,
        "bound": decision.bound,
    }


def read_decision(body: dict[str, Any]) -> Decision:
    """The decision of a JSON object; LedgerError names what is missing or unknown."""
    try:
        return Decision(
            id=body["id"],
            time_ns=body["time_ns"],
            decision_class=DecisionClass(body["decision_class"]),
            line=body["line"],
            trigger=body["trigger"],
            input_hash=body["input_hash"],
            seed=body["seed"],
            iterations=body["iterations"],
            candidates=tuple(Candidate(**c) for c in body["candidates"]),
            chosen=body["chosen"],
            reasons=tuple(Message(**m) for m in body["reasons"]),
            changes=tuple(body["changes"]),
            effect=body["effect"],
            level=Level[body["level"].upper()],
            state=DecisionState(body["state"]),
            plan_hash=body["plan_hash"],
            bound=body["bound"],
        )
    except (KeyError, TypeError, ValueError) as error:
        name = body.get("id", "?") if isinstance(body, dict) else "?"
        raise LedgerError(
            f"decision {name!r}: the stored entry cannot be read ({error!r}); "
            "run `brain ledger verify`"
        ) from error
