"""An assembly line to be balanced: tasks, models, precedence, restrictions, equipment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import gcd

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError, OrderError

Ints = NDArray[np.int64]
MOST_TASKS = 2000
MOST_STATIONS = 2000
_MOST_WORK = 1 << 46
"""Demand-weighted ticks of all tasks together: sums and products of them stay exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One product that the line builds.

    Attributes
    ----------
    demand
        Units in any common period; > 0. Only the shares count.
    limit
        Most time of this model at one station, as a number, or as a share of the cycle when
        ``is_share``; None: only the average over the models must fit.
    """

    name: str
    demand: int = 1
    limit: Decimal | None = None
    is_share: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line balancing problem; make it with :func:`make_line`, which checks it.

    Times are whole ticks of ``10 ** -decimals`` of the time unit that the user writes.

    Attributes
    ----------
    tasks
        Their ids; all pairs below are positions in this list.
    times
        Shape (n_models, n_tasks), ticks, >= 0.
    precedence
        Pairs (before, after).
    fixed, forbidden
        Task -> station, and task -> stations, counted from 1.
    together, apart
        Tasks that share a station; pairs that must not.
    needs, equipment
        Task -> equipment that its station must have; station -> what it has. Stations that are
        not listed have none.
    """

    name: str
    tasks: tuple[str, ...]
    models: tuple[Model, ...]
    times: Ints
    decimals: int = 0
    precedence: tuple[tuple[int, int], ...] = ()
    fixed: Mapping[int, int] = field(default_factory=dict)
    forbidden: Mapping[int, frozenset[int]] = field(default_factory=dict)
    together: tuple[tuple[int, ...], ...] = ()
    apart: tuple[tuple[int, int], ...] = ()
    needs: Mapping[int, frozenset[str]] = field(default_factory=dict)
    equipment: Mapping[int, frozenset[str]] = field(default_factory=dict)
    cycle: Decimal | None = None
    stations: int | None = None

    @property
    def n_tasks(self) -> int:
        """How many tasks."""
        return len(self.tasks)

    @property
    def is_station_bound(self) -> bool:
        """Whether it matters which station a task gets, not only with whom."""
        return bool(self.fixed or self.forbidden or self.needs)

    def ticks(self, value: Decimal) -> int:
        """Whole ticks of a time that a user writes, rounded down."""
        return int(value.scaleb(self.decimals))

    def time(self, ticks: int) -> float:
        """Ticks in the user's unit."""
        return float(ticks / 10**self.decimals)

    def weighted(self) -> tuple[Ints, int]:
        """Demand-weighted times in units of tick / total demand, and that total: exact."""
        demand = np.array([m.demand for m in self.models], np.int64)
        scale = int(np.gcd.reduce(demand))
        return (demand // scale) @ self.times, int(demand.sum()) // scale

    def may_stand(self, task: int, station: int) -> bool:
        """Whether a task may be done at a station (from 1), seen alone."""
        if self.fixed.get(task, station) != station:
            return False
        if station in self.forbidden.get(task, ()):
            return False
        need = self.needs.get(task)
        return not need or need <= self.equipment.get(station, frozenset())


def make_line(
    *,
    name: str,
    tasks: Sequence[str],
    times: Sequence[Sequence[Decimal]],
    models: Sequence[Model] = (Model(name=""),),
    precedence: Iterable[tuple[str, str]] = (),
    fixed: Mapping[str, int] | None = None,
    forbidden: Mapping[str, Iterable[int]] | None = None,
    together: Iterable[Sequence[str]] = (),
    apart: Iterable[tuple[str, str]] = (),
    needs: Mapping[str, Iterable[str]] | None = None,
    equipment: Mapping[int, Iterable[str]] | None = None,
    cycle: Decimal | None = None,
    stations: int | None = None,
) -> Line:
    """A checked line.

    Parameters
    ----------
    times
        One row a model, one number a task, in the user's unit.

    Raises
    ------
    OrderError
        A value that cannot be: named, with the way out.
    InfeasibleError
        Precedence in a circle or restrictions that contradict each other.
    """
    if not tasks:
        raise OrderError(f"{name}: has no tasks; write at least one task with its time")
    if len(tasks) > MOST_TASKS:
        raise OrderError(f"{name}: has {len(tasks)} tasks, at most {MOST_TASKS} are balanced")
    at: dict[str, int] = {}
    for k, task in enumerate(tasks):
        if task in at:
            raise OrderError(f"{name}: task {task!r} stands twice; give each task its own id")
        at[task] = k

    def find(task: str, where: str) -> int:
        if task not in at:
            raise OrderError(f"{name}: {where} names task {task!r}, which has no time; add it")
        return at[task]

    _check_times(name, tasks, times, models)
    decimals = max((decimals_of(t) for row in times for t in row), default=0)
    if decimals > 6:
        raise OrderError(f"{name}: times have {decimals} decimals; round them to at most 6")
    line = Line(
        name=name,
        tasks=tuple(tasks),
        models=tuple(models),
        times=np.array([[int(t.scaleb(decimals)) for t in row] for row in times], np.int64),
        decimals=decimals,
        precedence=tuple(
            dict.fromkeys((find(a, "precedence"), find(b, "precedence")) for a, b in precedence)
        ),
        fixed={find(t, "fixed"): s for t, s in (fixed or {}).items()},
        forbidden={find(t, "forbidden"): frozenset(s) for t, s in (forbidden or {}).items()},
        together=tuple(tuple(find(t, "together") for t in row) for row in together),
        apart=tuple((find(a, "apart"), find(b, "apart")) for a, b in apart),
        needs={find(t, "needs"): frozenset(n) for t, n in (needs or {}).items() if n},
        equipment={s: frozenset(e) for s, e in (equipment or {}).items()},
        cycle=cycle,
        stations=stations,
    )
    _check_work(line, 1)
    _check_stations(line)
    _check_circle(line)
    _check_restrictions(line)
    return line


def finer(line: Line, decimals: int) -> Line:
    """The same line with ticks of at most ``10 ** -decimals``."""
    more = decimals - line.decimals
    if more <= 0:
        return line
    _check_work(line, 10**more)
    return replace(line, times=line.times * 10**more, decimals=decimals)


def _check_work(line: Line, factor: int) -> None:
    """OrderError when the numbers are too large to be counted exactly."""
    demand = [m.demand for m in line.models]
    rows = line.times.tolist()
    work = sum(d * sum(row) for d, row in zip(demand, rows, strict=True)) // gcd(*demand)
    if work * factor > _MOST_WORK:
        raise OrderError(
            f"{line.name}: times with so many digits and such demands cannot be counted exactly; "
            "round the times, write them in a larger unit, or give the demand in smaller numbers"
        )


def decimals_of(value: Decimal) -> int:
    """Decimals that a number is written with.

    >>> decimals_of(Decimal("36.50")), decimals_of(Decimal("40"))
    (1, 0)
    """
    return max(0, -_exponent(value))


def _exponent(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _check_times(
    name: str,
    tasks: Sequence[str],
    times: Sequence[Sequence[Decimal]],
    models: Sequence[Model],
) -> None:
    for model, row in zip(models, times, strict=True):
        of = f" of model {model.name!r}" if model.name else ""
        if not 0 < model.demand <= 10**9:
            raise OrderError(f"{name}: demand{of} must be 1 to 1e9, got {model.demand}")
        if model.limit is not None and not 0 < model.limit <= 10**9:
            raise OrderError(f"{name}: limit{of} must be > 0 and <= 1e9, got {model.limit}")
        for task, time in zip(tasks, row, strict=True):
            if not time.is_finite() or time < 0:
                raise OrderError(
                    f"{name}: time of task {task!r}{of} must be a number >= 0, got {time}"
                )
            if time > 10**9:
                raise OrderError(f"{name}: time of task {task!r}{of} must be <= 1e9, got {time}")


def _check_stations(line: Line) -> None:
    named = [
        *line.fixed.values(),
        *line.equipment,
        *(s for f in line.forbidden.values() for s in f),
    ]
    for station in [*named, *([] if line.stations is None else [line.stations])]:
        if not 1 <= station <= MOST_STATIONS:
            raise OrderError(
                f"{line.name}: stations count from 1 to at most {MOST_STATIONS}, got {station}"
            )


def _check_circle(line: Line) -> None:
    """InfeasibleError when precedence runs in a circle; names the tasks on it."""
    after: list[list[int]] = [[] for _ in line.tasks]
    for a, b in line.precedence:
        after[a].append(b)
    seen = [0] * line.n_tasks
    for first in range(line.n_tasks):
        path, todo = [], [(first, 0)] if not seen[first] else []
        while todo:
            task, k = todo.pop()
            if k == 0:
                seen[task] = 1
                path.append(task)
            if k == len(after[task]):
                seen[task] = 2
                path.pop()
                continue
            todo.append((task, k + 1))
            follower = after[task][k]
            if seen[follower] == 1:
                circle = [*path[path.index(follower) :], follower]
                raise InfeasibleError(
                    f"{line.name}: precedence runs in a circle: "
                    f"{' -> '.join(line.tasks[t] for t in circle)}; remove one of these arrows"
                )
            if not seen[follower]:
                todo.append((follower, 0))


def _check_restrictions(line: Line) -> None:
    name = line.name
    for task, station in line.fixed.items():
        if line.stations is not None and station > line.stations:
            raise OrderError(
                f"{name}: task {line.tasks[task]!r} is fixed to station {station}, "
                f"the line has {line.stations}; move it or take more stations"
            )
        if station in line.forbidden.get(task, ()):
            raise InfeasibleError(
                f"{name}: task {line.tasks[task]!r} is fixed to station {station} and forbidden "
                "there; drop one of the two"
            )
    for task, need in line.needs.items():
        where = [s for s, has in line.equipment.items() if need <= has]
        text = ", ".join(sorted(need))
        if not where:
            raise InfeasibleError(
                f"{name}: task {line.tasks[task]!r} needs {text}, which no station has; "
                "give a station this equipment"
            )
        if task in line.fixed and line.fixed[task] not in where:
            raise InfeasibleError(
                f"{name}: task {line.tasks[task]!r} is fixed to station {line.fixed[task]}, which "
                f"lacks {text}; move it to station {where[0]} or equip the station"
            )
    for a, b in line.apart:
        if a == b:
            raise OrderError(f"{name}: apart names task {line.tasks[a]!r} twice; name two tasks")
    group_of = groups(line)
    _check_groups(line, group_of)


def _check_groups(line: Line, group_of: Sequence[int]) -> None:
    """Contradictions between tasks that must share a station and everything else."""
    named = line.tasks
    fixed: dict[int, int] = {}
    for task, station in line.fixed.items():
        other = fixed.setdefault(group_of[task], task)
        if line.fixed[other] != station:
            raise InfeasibleError(
                f"{line.name}: tasks {named[other]!r} and {named[task]!r} must share a station, "
                f"but are fixed to stations {line.fixed[other]} and {station}; fix them to one "
                "station or take them out of the same 'together'"
            )
    for a, b in line.apart:
        if group_of[a] == group_of[b]:
            raise InfeasibleError(
                f"{line.name}: tasks {named[a]!r} and {named[b]!r} must stand apart and must "
                "share a station (directly, or as what lies between tasks that do); drop one "
                "of the two"
            )
        if a in line.fixed and line.fixed[a] == line.fixed.get(b):
            raise InfeasibleError(
                f"{line.name}: tasks {named[a]!r} and {named[b]!r} must stand apart, but are both "
                f"fixed to station {line.fixed[a]}; move one of them"
            )
    reached = closure(line.n_tasks, line.precedence)
    for a, at in line.fixed.items():
        for b, other in line.fixed.items():
            if reached[a, b] and at > other:
                raise InfeasibleError(
                    f"{line.name}: task {named[a]!r} comes before {named[b]!r}, but is fixed to "
                    f"station {at} behind station {other}; swap the stations or drop one"
                )


def closure(n: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Who comes before whom, directly or not: shape (n, n), [before, after]; pairs acyclic or not.

    >>> closure(3, [(0, 1), (1, 2)])[0].tolist()
    [False, True, True]
    """
    reached = np.zeros((n, n), bool)
    for a, b in pairs:
        reached[a, b] = True
    for k in range(n):
        reached[np.flatnonzero(reached[:, k])] |= reached[k]
    return reached


def groups(line: Line) -> list[int]:
    """Group of each task: those that must share a station.

    Named together, or lying between tasks that are: where precedence and 'together' (read as
    arrows both ways) run in a circle, the whole circle stands at one station.
    """
    if not line.together:
        return list(range(line.n_tasks))
    pairs = list(line.precedence)
    for row in line.together:
        pairs += [(a, b) for a in row for b in row if a != b]
    reached = closure(line.n_tasks, pairs)
    both = (reached & reached.T) | np.eye(line.n_tasks, dtype=bool)
    first = both.argmax(axis=1)
    numbers = {int(f): k for k, f in enumerate(dict.fromkeys(first.tolist()))}
    return [numbers[int(f)] for f in first]


def capacities(line: Line, cycle: int) -> list[int]:
    """Room of a station in each dimension: the weighted one, then each model that has a limit.

    ``cycle`` is in ticks. The weighted room is in the unit of :meth:`Line.weighted`. No room is
    larger than all work together.
    """
    work, total = line.weighted()
    rooms = [min(cycle * total, max(1, int(work.sum())))]
    for k, model in enumerate(line.models):
        if model.limit is not None:
            limit = Decimal(cycle) * model.limit if model.is_share else model.limit
            ticks = int(limit) if model.is_share else line.ticks(limit)
            rooms.append(min(ticks, max(1, int(line.times[k].sum()))))
    return rooms


def sizes(line: Line) -> Ints:
    """What each task takes of each room in :func:`capacities`: shape (n_dims, n_tasks)."""
    rows = [line.weighted()[0]]
    rows += [line.times[k] for k, m in enumerate(line.models) if m.limit is not None]
    return np.array(rows, np.int64)


def check_cycle(line: Line, cycle: int) -> None:
    """InfeasibleError when a task, or tasks that must share a station, exceed the cycle."""
    size, room = sizes(line), capacities(line, cycle)
    group_of = np.array(groups(line))
    limited = [m.name for m in line.models if m.limit is not None]
    total = line.weighted()[1]
    for k, most in enumerate(room):
        per_group = np.bincount(group_of, weights=size[k]).astype(np.int64)
        for g in np.flatnonzero(per_group > most)[:1].tolist():
            members = [line.tasks[t] for t in np.flatnonzero(group_of == g)]
            who = f"task {members[0]!r} takes"
            if len(members) > 1:
                who = f"tasks {', '.join(map(repr, members))} must share a station and take"
            unit = total if k == 0 else 1
            what = "the cycle" if k == 0 else f"the limit of model {limited[k - 1]!r}"
            need = line.time(int(-(-per_group[g] // unit)))
            raise InfeasibleError(
                f"{line.name}: {who} {line.time(int(per_group[g])) / unit:g}, longer than {what} "
                f"of {line.time(most) / unit:g}; split it or take {need:g} or more"
            )
