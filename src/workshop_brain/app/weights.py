"""The weights of the objective that are in use: the plant's own, or those that a person set."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workshop_brain.errors import BrainError
from workshop_brain.model.decision import WEIGHT_NAMES
from workshop_brain.schedule.objective import Weights
from workshop_brain.schedule.preferences import Pair, agreeing, fit, read_weights
from workshop_brain.store.ledger import Ledger
from workshop_brain.store.records import Records

_log = logging.getLogger(__name__)
KEY = "weights"
"""Kind of the entries in the ledger, and the setting that lasts over a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """What plans are judged by, and since when.

    Attributes
    ----------
    by
        Who set them; "" for the plant's own.
    time_ns
        Plant time at which they were set; 0 for the plant's own.
    """

    weights: Weights
    by: str = ""
    time_ns: int = 0


def remembered_weights(records: Records, ledger: Ledger, own: Weights) -> InUse:
    """What a person set before a restart, else the plant's own; the ledger is the truth when the
    records lag behind it."""
    body = records.setting(KEY)
    try:
        body = next((dict(e.body) for e in reversed(ledger.recent()) if e.kind == KEY), body)
    except BrainError as error:
        _log.error("weights are as the records have them: %s", error)
    if not body or not body.get("weights"):
        return InUse(weights=own)
    try:
        weights = read_weights(body["weights"], own)
        return InUse(weights=weights, by=str(body["by"]), time_ns=int(body["time_ns"]))
    except (KeyError, TypeError, ValueError) as error:
        _log.error("the weights that were set cannot be read, the plant's own are used: %s", error)
        return InUse(weights=own)


def weights_body(
    before: Weights, after: Weights | None, *, by: str, time_ns: int
) -> dict[str, Any]:
    """The ledger's entry of a change; ``weights`` None: back to the plant's own."""
    return {
        "weights": None if after is None else named(after),
        "before": named(before),
        "by": by,
        "time_ns": time_ns,
    }


def named(weights: Weights) -> dict[str, float]:
    """Weights by name."""
    return {name: getattr(weights, name) for name in WEIGHT_NAMES}


def weights_view(now: InUse, own: Weights, pairs: Sequence[Pair]) -> dict[str, Any]:
    """``GET schedule/weights``; fitted from the plant's own, so that using it fits no further."""
    found = fit(pairs, replace(own, energy=now.weights.energy))
    return {
        "present": named(now.weights),
        "plant": named(own),
        "fitted": named(found.weights),
        "pairs": found.pairs,
        "agrees_before": agreeing(pairs, now.weights),
        "agrees": found.agrees,
        "by": now.by,
        "time_ns": now.time_ns or None,
    }


def pairs_of(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Kept preferences as pairs for the fit."""
    return [(row["preferred"], row["other"]) for row in rows]
