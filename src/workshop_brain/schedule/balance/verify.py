"""Independent checker of balances: plain Python over the line itself, nothing from the search."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from workshop_brain.schedule.balance.line import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One broken rule.

    Attributes
    ----------
    kind
        unassigned, unknown, station, precedence, cycle, model_limit, fixed, forbidden, together,
        apart, equipment, moves.
    tasks
        Ids of the tasks concerned, the offender first.
    """

    kind: str
    tasks: tuple[str, ...]
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "tasks": list(self.tasks), "detail": self.detail}


def verify_balance(
    line: Line,
    assignment: Mapping[str, int],
    *,
    cycle: Decimal,
    stations: int | None = None,
    before: Mapping[str, int] | None = None,
    most_moves: int | None = None,
) -> list[Breach]:
    """Everything that is wrong with an assignment; empty = it may be built.

    Parameters
    ----------
    assignment
        Station of each task, from 1.
    cycle
        In the unit of the line's file. No station may exceed it on the average of the demand.
    stations
        Most stations, when that is asked.
    before, most_moves
        Old assignment and how many of its tasks may change their station.
    """
    found = [
        Breach(kind="unknown", tasks=(task,), detail="is no task of the line")
        for task in assignment
        if task not in line.tasks
    ]
    at: dict[int, int] = {}
    for k, task in enumerate(line.tasks):
        if task not in assignment:
            found.append(Breach(kind="unassigned", tasks=(task,), detail="has no station"))
            continue
        at[k] = assignment[task]
        if at[k] < 1 or (stations is not None and at[k] > stations):
            why = f"stands at station {at[k]}, the line has 1 to {stations or 'any number'}"
            found.append(Breach(kind="station", tasks=(task,), detail=why))
    _check_pairs(line, at, found)
    _check_places(line, at, found)
    _check_times(line, at, cycle, found)
    if before is not None and most_moves is not None:
        moved = tuple(t for t in line.tasks if t in before and assignment.get(t) != before[t])
        if len(moved) > most_moves:
            why = f"{len(moved)} tasks move, {most_moves} may"
            found.append(Breach(kind="moves", tasks=moved, detail=why))
    return found


def _check_pairs(line: Line, at: Mapping[int, int], found: list[Breach]) -> None:
    for a, b in line.precedence:
        if a in at and b in at and at[a] > at[b]:
            why = f"stands at station {at[b]}, before station {at[a]} of its predecessor"
            found.append(_breach(line, "precedence", [b, a], why))
    for row in line.together:
        stations = {at[k] for k in row if k in at}
        if len(stations) > 1:
            why = f"must share a station, stand at {sorted(stations)}"
            found.append(_breach(line, "together", row, why))
    for a, b in line.apart:
        if a in at and at[a] == at.get(b):
            found.append(_breach(line, "apart", [a, b], f"both stand at station {at[a]}"))


def _check_places(line: Line, at: Mapping[int, int], found: list[Breach]) -> None:
    for task, station in at.items():
        if station != line.fixed.get(task, station):
            why = f"stands at station {station}, fixed to {line.fixed[task]}"
            found.append(_breach(line, "fixed", [task], why))
        if station in line.forbidden.get(task, ()):
            found.append(_breach(line, "forbidden", [task], f"may not stand at station {station}"))
        lacking = set(line.needs.get(task, ())) - set(line.equipment.get(station, ()))
        if lacking:
            why = f"stands at station {station}, which lacks {', '.join(sorted(lacking))}"
            found.append(_breach(line, "equipment", [task], why))


def _check_times(line: Line, at: Mapping[int, int], cycle: Decimal, found: list[Breach]) -> None:
    here: dict[int, list[int]] = defaultdict(list)
    for task, station in at.items():
        here[station].append(task)
    unit, most = Fraction(1, 10**line.decimals), Fraction(cycle)
    demand = sum(model.demand for model in line.models)
    for station, tasks in sorted(here.items()):
        mean = Fraction(0)
        for model, times in zip(line.models, line.times.tolist(), strict=True):
            work = sum(times[k] for k in tasks) * unit
            mean += work * model.demand / demand
            if model.limit is None:
                continue
            limit = Fraction(model.limit) * (most if model.is_share else 1)
            if work > limit:
                why = f"station {station}: model {model.name} takes {float(work):g}, "
                why += f"its limit is {float(limit):g}"
                found.append(_breach(line, "model_limit", tasks, why))
        if mean > most:
            why = f"station {station} takes {float(mean):g}, the cycle is {float(most):g}"
            found.append(_breach(line, "cycle", tasks, why))


def _breach(line: Line, kind: str, tasks: list[int] | tuple[int, ...], detail: str) -> Breach:
    return Breach(kind=kind, tasks=tuple(line.tasks[t] for t in tasks), detail=detail)
