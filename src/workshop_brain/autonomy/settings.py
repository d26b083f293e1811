"""What the brain may do by itself: levels per line and decision class, and hard limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workshop_brain.model.decision import DecisionClass, Level


def _advise() -> dict[DecisionClass, Level]:
    return dict.fromkeys(DecisionClass, Level.ADVISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutonomySettings:
    """Levels; a line's own entry wins over the default.

    Attributes
    ----------
    veto_s
        Time in which a person may veto at level VETO, seconds of wall time.
    """

    default: dict[DecisionClass, Level] = field(default_factory=_advise)
    lines: dict[str, dict[DecisionClass, Level]] = field(default_factory=dict)
    veto_s: int = 60

    def level(self, line: str, decision_class: DecisionClass) -> Level:
        """Level of a line and decision class."""
        return self.lines.get(line, {}).get(decision_class, self.default[decision_class])


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeSettings:
    """Hard limits that no level can pass.

    Attributes
    ----------
    frozen_min
        Operations that start within this many minutes may not move.
    moves_per_hour
        Most operations of a line that may change machine or sequence in one hour.
    max_input_age_s
        Older inputs of a line block dispatch there.
    receivers
        Job receivers and tags that may be written; empty means: those of [[dispatch]] only.
    """

    frozen_min: int = 10
    moves_per_hour: int = 60
    max_input_age_s: float = 5.0
    receivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningSettings:
    """How this plant wants its plans.

    Attributes
    ----------
    weights
        Weights of the objective by name; what is left out is as the engine has it. A person may
        set others while the brain runs.
    measured
        Whether speed and stops of units are planned as they are measured.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    measured: bool = True
