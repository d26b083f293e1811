"""Recompute a decision from its stored inputs and compare: nothing stored is ever repeated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workshop_brain.autonomy.compute import plan_hash, solve
from workshop_brain.autonomy.inputs import digest, unpack
from workshop_brain.errors import InfeasibleError, LedgerError
from workshop_brain.model.decision import Decision, DecisionClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing compared."""

    what: str
    recorded: Any
    recomputed: Any

    @property
    def same(self) -> bool:
        """Whether both are equal, to the last bit."""
        return bool(self.recorded == self.recomputed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Outcome of a replay."""

    id: str
    rows: tuple[Row, ...]

    @property
    def same(self) -> bool:
        """Whether everything compared is equal."""
        return all(row.same for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """For ``brain replay --json``."""
        rows = [
            {"what": r.what, "recorded": r.recorded, "recomputed": r.recomputed, "same": r.same}
            for r in self.rows
        ]
        return {"id": self.id, "same": self.same, "comparison": rows}


def replay(decision: Decision, get_input: Callable[[str], bytes]) -> Replay:
    """Solve the stored inputs again and compare with what the decision says.

    Parameters
    ----------
    get_input
        Bytes of a stored input by its SHA-256 (the ledger's).

    Raises
    ------
    LedgerError
        The decision has no computation (a release), or its inputs cannot be read.
    """
    if decision.decision_class is DecisionClass.RELEASE:
        raise LedgerError(
            f"decision {decision.id!r} releases jobs of plan {decision.plan_hash[:12]}; "
            "nothing was computed, replay the plan's own decision"
        )
    data = get_input(decision.input_hash)
    rows = [Row(what="input_hash", recorded=decision.input_hash, recomputed=digest(data))]
    inputs = unpack(data)
    rows += [
        Row(what="seed", recorded=decision.seed, recomputed=inputs.seed),
        Row(what="iterations", recorded=decision.iterations, recomputed=inputs.iterations),
    ]
    try:
        solution = solve(inputs)
    except InfeasibleError as error:
        rows.append(Row(what="plan", recorded=decision.plan_hash, recomputed=str(error)))
        return Replay(id=decision.id, rows=tuple(rows))
    names = [c.name for c in solution.candidates]
    rows.append(
        Row(what="candidates", recorded=[c.name for c in decision.candidates], recomputed=names)
    )
    for old, new in zip(decision.candidates, solution.candidates, strict=False):
        rows.append(Row(what=f"kpis of {old.name}", recorded=old.kpis, recomputed=new.kpis))
        rows.append(
            Row(what=f"objective of {old.name}", recorded=old.objective, recomputed=new.objective)
        )
    if 0 <= decision.chosen < len(solution.plans):
        plan = plan_hash(solution.problem, solution.plans[decision.chosen])
        name = names[decision.chosen]
    else:
        plan, name = "", ""
    chosen = decision.candidates[decision.chosen].name if decision.candidates else ""
    rows.append(Row(what="chosen", recorded=chosen, recomputed=name))
    rows.append(Row(what="plan_hash", recorded=decision.plan_hash, recomputed=plan))
    return Replay(id=decision.id, rows=tuple(rows))
