"""Times that planners declare on top of the plant's calendars: planned stops and extra shifts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class DeclaredKind(StrEnum):
    """What is declared.

    DOWN: a unit does not work although its calendar is open (maintenance, trials).
    SHIFT: all units of a work center may work although their calendar is closed.
    """

    DOWN = "down"
    SHIFT = "shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One declared time ``[from_ns, until_ns)``.

    Attributes
    ----------
    place
        Path of the unit (DOWN) or id of the work center (SHIFT).
    by
        User who declared it.
    """

    id: str
    kind: DeclaredKind
    place: str
    from_ns: int
    until_ns: int
    by: str = ""

    def __post_init__(self) -> None:
        if self.until_ns <= self.from_ns:
            raise ValueError(
                f"declared time {self.id!r} of {self.place!r}: the end must be after the beginning"
            )

    def as_dict(self) -> dict[str, Any]:
        """For records and JSON."""
        return {**asdict(self), "kind": self.kind.value}

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> "Declared":
        """What :meth:`as_dict` gave."""
        return Declared(**{**row, "kind": DeclaredKind(row["kind"])})


def windows(
    declared: Sequence[Declared], kind: DeclaredKind
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Declared windows of one kind by place, in order of time.

    >>> stop = Declared(id="1", kind=DeclaredKind.DOWN, place="u", from_ns=5, until_ns=9)
    >>> windows([stop], DeclaredKind.DOWN), windows([stop], DeclaredKind.SHIFT)
    ({'u': ((5, 9),)}, {})
    """
    out: dict[str, list[tuple[int, int]]] = {}
    for row in declared:
        if row.kind is kind:
            out.setdefault(row.place, []).append((row.from_ns, row.until_ns))
    return {place: tuple(sorted(rows)) for place, rows in out.items()}
