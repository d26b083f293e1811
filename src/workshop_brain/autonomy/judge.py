"""What a proposed decision may do: its level, the envelope and the state of the inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workshop_brain.autonomy.settings import AutonomySettings
from workshop_brain.model.decision import DecisionClass, DecisionState, Level, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the judge looks at.

    Attributes
    ----------
    level
        Strictest level of the lines that the decision touches, see ``strictest``.
    violations
        Hard limits that it breaks, from ``autonomy.envelope``.
    blocked
        Why the inputs of its line cannot be trusted; None when they are good.
    findings
        What the independent checker says against the plan; empty when it is sound.
    """

    decision_class: DecisionClass
    line: str
    level: Level
    violations: tuple[Message, ...] = ()
    blocked: Message | None = None
    findings: tuple[str, ...] = ()
    veto_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a decision goes on and why, each reason checkable."""

    state: DecisionState
    reasons: tuple[Message, ...] = field(default_factory=tuple)


_STATES = {
    Level.OBSERVE: DecisionState.PROPOSED,
    Level.ADVISE: DecisionState.PROPOSED,
    Level.APPROVE: DecisionState.WAITING_APPROVAL,
    Level.VETO: DecisionState.WAITING_VETO,
    Level.REPORT: DecisionState.APPROVED,
}


def judge(case: Case) -> Verdict:
    """The state in which a decision starts its life.

    A plan with findings, inputs that cannot be trusted and broken limits block it, whatever the
    level says; only then the level decides.
    """
    if case.findings:
        return _blocked(
            Message(
                id="judge.not_verified",
                params={"count": len(case.findings), "first": case.findings[0]},
            )
        )
    if case.blocked is not None:
        return _blocked(case.blocked)
    if case.violations:
        return _blocked(*case.violations)
    params = {"line": case.line, "class": case.decision_class.value, "seconds": case.veto_s}
    reason = Message(id=f"judge.{case.level.name.lower()}", params=params)
    return Verdict(state=_STATES[case.level], reasons=(reason,))


def strictest(
    autonomy: AutonomySettings,
    overrides: Mapping[tuple[str, DecisionClass], Level],
    lines: frozenset[str],
    *classes: DecisionClass,
) -> Level:
    """The lowest level among the lines and classes: a plan that touches several obeys them all.

    >>> strictest(AutonomySettings(), {("a", DecisionClass.PLAN): Level.REPORT},
    ...           frozenset({"a", "b"}), DecisionClass.PLAN).name
    'ADVISE'
    """
    return min(level_of(autonomy, overrides, at, kind) for at in lines for kind in classes)


def level_of(
    autonomy: AutonomySettings,
    overrides: Mapping[tuple[str, DecisionClass], Level],
    line: str,
    decision_class: DecisionClass,
) -> Level:
    """Level of one line and class: set by a person at run time, else by the plant file."""
    return overrides.get((line, decision_class), autonomy.level(line, decision_class))


def _blocked(*reasons: Message) -> Verdict:
    return Verdict(state=DecisionState.BLOCKED, reasons=reasons)
