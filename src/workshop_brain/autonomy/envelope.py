"""Hard limits that no autonomy level can pass: frozen zone, change budget, writable receivers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workshop_brain.autonomy.settings import EnvelopeSettings
from workshop_brain.model.decision import Message
from workshop_brain.units import NS_PER_H, NS_PER_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One operation that stands elsewhere in the new plan than in the old one.

    Attributes
    ----------
    line
        Work center of the operation.
    from_unit, to_unit
        Unit paths; ``from_unit`` is "" for an operation that the old plan did not hold.
    from_start_ns, to_start_ns
        Planned starts, ns since the epoch, UTC; ``from_start_ns`` is 0 when there was none.
    resequenced
        It changed its place in the sequence of its unit (a mere shift in time does not).
    """

    op: str
    line: str
    from_unit: str
    to_unit: str
    from_start_ns: int
    to_start_ns: int
    resequenced: bool = False

    @property
    def counts(self) -> bool:
        """Whether it uses up the change budget: machine or sequence changed, not only the time."""
        return bool(self.from_unit) and (self.from_unit != self.to_unit or self.resequenced)


def frozen_violations(
    moves: Iterable[Move], *, now_ns: int, down_units: frozenset[str], envelope: EnvelopeSettings
) -> tuple[Message, ...]:
    """Moves inside the frozen zone that nothing forces, one message for each.

    Operations that were to start within ``frozen_min`` keep their unit and their place in the
    sequence; only a unit that is down gives its operations free. A shift in time alone is the
    effect of what happened before and no violation.
    """
    until = now_ns + envelope.frozen_min * NS_PER_MIN
    return tuple(
        Message(
            id="envelope.frozen",
            params={"op": m.op, "unit": m.from_unit, "minutes": envelope.frozen_min},
        )
        for m in moves
        if m.counts and now_ns <= m.from_start_ns < until and m.from_unit not in down_units
    )


def moves_by_line(moves: Iterable[Move], *, until_ns: int | None = None) -> dict[str, int]:
    """How many operations of each line use up the change budget.

    ``until_ns``: only those that stood, or now stand, before this instant; people on the floor
    do not see the rest.
    """
    counts: dict[str, int] = {}
    for move in moves:
        is_near = until_ns is None or min(move.from_start_ns, move.to_start_ns) < until_ns
        if move.counts and is_near:
            counts[move.line] = counts.get(move.line, 0) + 1
    return counts


@dataclass(frozen=True, slots=True)
class MoveBudget:
    """Moves that were put in force, per line, over the last hour of plant time.

    Attributes
    ----------
    spent
        ``(time_ns, line, moves)`` in order of time.
    """

    spent: tuple[tuple[int, str, int], ...] = ()

    def left(self, line: str, now_ns: int, envelope: EnvelopeSettings) -> int:
        """Moves that the line may still make now; never negative.

        >>> MoveBudget(((0, "soft", 4),)).left("soft", 1, EnvelopeSettings(moves_per_hour=10))
        6
        """
        used = sum(n for t, at, n in self.spent if at == line and t > now_ns - NS_PER_H)
        return max(0, envelope.moves_per_hour - used)

    def spend(self, moves: Mapping[str, int], now_ns: int) -> "MoveBudget":
        """The budget after a plan with these moves went in force."""
        kept = tuple(entry for entry in self.spent if entry[0] > now_ns - NS_PER_H)
        return MoveBudget(kept + tuple((now_ns, line, n) for line, n in sorted(moves.items()) if n))

    def violations(
        self, moves: Mapping[str, int], now_ns: int, envelope: EnvelopeSettings
    ) -> tuple[Message, ...]:
        """Lines whose budget the moves would exceed, one message for each."""
        return tuple(
            Message(
                id="envelope.moves",
                params={"line": line, "moves": n, "left": self.left(line, now_ns, envelope)},
            )
            for line, n in sorted(moves.items())
            if n > self.left(line, now_ns, envelope)
        )


def receiver_violation(
    line: str, receiver: str | None, *, envelope: EnvelopeSettings
) -> Message | None:
    """Why nothing may be written for a line; None when its receiver is listed.

    ``receiver`` is the line's receiver in ``[[dispatch]]``, None when the line has none. An empty
    ``envelope.receivers`` allows exactly those.
    """
    if receiver is None:
        return Message(id="envelope.no_receiver", params={"line": line})
    if envelope.receivers and receiver not in envelope.receivers:
        return Message(id="envelope.receiver", params={"line": line, "receiver": receiver})
    return None


def to_send_again(
    sent: Mapping[str, tuple[int, int]], planned: Sequence[tuple[str, int]]
) -> list[str]:
    """Jobs at a unit's receiver that would make it run out of the planned order.

    Parameters
    ----------
    sent
        Job to ``(priority, start_ns)`` as stored at the receiver, which takes the lowest first.
    planned
        ``(job, start_ns)`` of the unit in planned order, stored there or not yet.

    >>> to_send_again({"A": (0, 10), "B": (0, 20)}, [("A", 15), ("B", 30)])
    []
    >>> to_send_again({"A": (0, 10), "B": (0, 20)}, [("B", 30), ("A", 40)])
    ['B', 'A']
    """
    keys = [sent.get(job, (0, start)) for job, start in planned]
    if all(a <= b for a, b in pairwise(keys)):
        return []
    return [job for job, start in planned if job in sent and sent[job] != (0, start)]
