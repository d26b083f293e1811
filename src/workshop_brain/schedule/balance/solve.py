"""Balance a line: fewest stations for a cycle (SALBP-1), smallest cycle for stations (SALBP-2).

Anytime: bounds and constructions first, then branch, bound and remember from both ends of the
line until the answer is proved or the time is over. Nothing is drawn at random: the same line and
``loads`` give the same balance; with ``seconds`` alone the end depends on the clock.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import InfeasibleError
from workshop_brain.schedule.balance import branch
from workshop_brain.schedule.balance.bound import fewest_stations, station_weights
from workshop_brain.schedule.balance.form import (
    Form,
    Items,
    allowed_at,
    contract,
    make_form,
    windows,
)
from workshop_brain.schedule.balance.line import Line, capacities, check_cycle

Ints = NDArray[np.int64]
_WIDTHS = ((5, 20_000), (40, 100_000), (300, 300_000), (1 << 60, 1 << 60))
"""Loads tried of a state, and loads in all, of each pass: narrow first, exact last."""
_CHUNK = 5_000
_MOST_STATES = 1 << 22
_GROW_S = 4e-7
"""Seconds that moving one state into a larger pool takes, about."""
_RULES_SHARE = 0.4
"""Share of the time after which the rules stop, if they have found anything."""
_FAVOUR = 0.00002
"""Of two states with equal idle time the one with more items left: the large ones are gone."""
_MIXES = [(1.0, a, b, c) for c in (0.0, 0.02) for a in (0.0, 0.01, 0.02) for b in (0.0, 0.01)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Who stands where.

    Attributes
    ----------
    station
        Station of each task, from 1.
    stations
        Length of the line: the last station with work.
    cycle
        Ticks: the given cycle, or the smallest one found for the given stations.
    lower_bound
        Proved: stations, or ticks when ``objective`` is "cycle".
    history
        (seconds, value) of each better balance.
    """

    line: Line
    objective: str
    station: Ints
    stations: int
    cycle: int
    lower_bound: int
    seconds: float
    history: tuple[tuple[float, int], ...] = ()

    @property
    def value(self) -> int:
        """What was minimised."""
        return self.stations if self.objective == "stations" else self.cycle

    @property
    def is_optimal(self) -> bool:
        """Whether nothing better exists."""
        return self.value <= self.lower_bound

    def piles(self) -> list[list[tuple[str, float]]]:
        """Yamazumi: (task, its average time) at each station, first to last, in the user's unit."""
        weighted, total = self.line.weighted()
        out: list[list[tuple[str, float]]] = [[] for _ in range(self.stations)]
        for k, station in enumerate(self.station.tolist()):
            out[station - 1].append((self.line.tasks[k], self.line.time(int(weighted[k])) / total))
        return out


@dataclass
class Effort:
    """Time and loads that may still be spent."""

    seconds: float
    loads: int = 1 << 60
    begin: float = field(default_factory=time.perf_counter)

    @property
    def used(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begin

    def share(self, part: float) -> "Effort":
        """The first part of the same time, with nothing counted."""
        return Effort(seconds=part * self.seconds, begin=self.begin)

    @property
    def is_over(self) -> bool:
        """Whether to stop."""
        return self.loads <= 0 or self.used >= self.seconds


class _Search:
    """One direction of one question."""

    def __init__(self, items: Items, cycle: int, stations: int, *, reverse: bool) -> None:
        self.reverse, self.stations = reverse, stations
        self.form: Form | None = make_form(items, cycle, stations, reverse=reverse)
        self.states = 1 << 12

    def begin(self, wide: int) -> None:
        """Start anew with this many loads a state."""
        assert self.form is not None
        words = self.form.pred.shape[1]
        self.wide = wide
        self.pool = branch.empty_pool(self.states, words)
        self.walk = branch.empty_loads(len(self.form.order), words, len(self.form.room))
        self.resid = np.zeros(len(self.form.weight_room), np.int64)
        self.roots = np.empty(self.stations + 1, np.int64)
        self.n = np.zeros(8, np.int64)
        branch.start(self.pool, self.roots, self.n)

    def go_on(self, budget: int, seconds: float) -> int:
        """FOUND, IMPOSSIBLE, OPEN (more to do) or FULL (no room or no time to remember more)."""
        assert self.form is not None
        state = branch.explore(
            self.form, self.pool, self.roots, self.walk, self.resid, self.n, self.wide, budget,
            _FAVOUR,
        )  # fmt: skip
        has_time = self.states * _GROW_S < seconds
        if state == branch.FULL and self.states < _MOST_STATES and has_time:
            self._grow()
            return branch.OPEN
        return state

    def _grow(self) -> None:
        assert self.form is not None
        count = len(self.pool.parent)
        self.states = 4 * count
        grown = branch.empty_pool(self.states, self.pool.bits.shape[1])
        for name in branch.Pool._fields[:-1]:
            getattr(grown, name)[:count] = getattr(self.pool, name)
        self.pool = grown
        branch.rehash(self.pool, count, self.form.by_station)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left to try in this pass."""
        return int(self.n[branch.STATE]) == -2

    def stations_of_items(self) -> Ints:
        """Station of each item, from 0, of the balance that was found."""
        assert self.form is not None
        at = np.empty(len(self.form.order), np.int64)
        state = int(self.n[branch.GOAL])
        while state > 0:
            parent = int(self.pool.parent[state])
            placed = self.pool.bits[state] & ~self.pool.bits[parent]
            here = np.unpackbits(placed.view(np.uint8), bitorder="little")[: len(at)]
            at[here.astype(bool)] = self.pool.level[state] - 1
            state = parent
        return self.stations - 1 - at if self.reverse else at


def decide(items: Items, cycle: int, stations: int, effort: Effort) -> tuple[int, Ints]:
    """Whether the items fit into so many stations: FOUND with stations (from 0), or not.

    IMPOSSIBLE is proved; OPEN means that the effort was over.
    """
    nothing = np.empty(0, np.int64)
    both = [_Search(items, cycle, stations, reverse=r) for r in (False, True)]
    if both[0].form is None or both[1].form is None:
        return branch.IMPOSSIBLE, nothing
    with ThreadPoolExecutor(2) as pool:
        for wide, most in _WIDTHS:
            for search in both:
                search.begin(wide)
            state, found = _search_both(both, most, effort, pool)
            if state != branch.OPEN or effort.is_over:
                return state, found
    return branch.OPEN, nothing


def _search_both(
    both: list[_Search], most: int, effort: Effort, pool: ThreadPoolExecutor
) -> tuple[int, Ints]:
    """One pass from both ends, a thread each; the answers are looked at in a fixed order."""
    nothing = np.empty(0, np.int64)
    open_, spent = list(both), 0
    while open_ and spent < most and not effort.is_over:
        chunk = min(_CHUNK, effort.loads)
        left = effort.seconds - effort.used
        states = list(pool.map(_Search.go_on, open_, repeat(chunk), repeat(left)))
        spent += chunk * len(open_)
        effort.loads -= chunk * len(open_)
        for search, state in zip(list(open_), states, strict=True):
            if state == branch.FOUND:
                return state, search.stations_of_items()
            if state == branch.IMPOSSIBLE:
                return state, nothing
            if state == branch.FULL or search.is_spent:
                open_.remove(search)
    return branch.OPEN, nothing


def construct(
    items: Items,
    cycle: int,
    stations: int,
    *,
    stop_at: int = 1,
    mixes: int = len(_MIXES),
    limit: int = 200,
    effort: Effort | None = None,
) -> Ints | None:
    """A balance by priority rules from both ends, None when the rules find none."""
    best: Ints | None = None
    most = stations + 1
    for reverse in (False, True):
        form = make_form(items, cycle, stations, reverse=reverse)
        if form is None:
            return best
        # the rules take the best of a few loads; exchanges would only throw the first ones away
        form = form._replace(dominators=np.zeros_like(form.dominators))
        walk = branch.empty_loads(items.n, form.pred.shape[1], len(form.room))
        for turn, mix in enumerate(_MIXES[:mixes]):
            at = np.zeros(items.n, np.int64)
            used = branch.hoffman(form, walk, stations, np.array(mix), limit, at)
            if not used:
                continue
            at = stations - 1 - at if reverse else at
            if not items.is_bound.any():
                at -= at.min()
            length = int(at.max()) + 1
            if length < most:
                best, most = at, length
            if best is not None and most <= stop_at:
                return best
            if effort is not None and effort.is_over and (best is not None or turn > 0):
                break
    return best


def solve(
    line: Line,
    *,
    cycle: int | None = None,
    stations: int | None = None,
    smooth: bool = False,
    seconds: float = 5.0,
    loads: int = 1 << 60,
) -> Balance:
    """Balance a line for a cycle (fewest stations), or for stations (smallest cycle).

    Parameters
    ----------
    cycle
        Ticks, > 0. With ``stations`` as well: a balance within both, else an error.
    stations
        Length of the line, >= 1.
    smooth
        With a cycle: of all balances with that many stations, one whose longest station is short,
        as far as the time allows.
    loads
        Station loads that may be tried; an end that does not depend on the clock.

    Raises
    ------
    InfeasibleError
        No balance exists; the message says why and the way out.
    """
    effort = Effort(seconds=seconds, loads=loads)
    items = contract(line)
    if stations is not None:
        if stations < 1:
            raise InfeasibleError(f"{line.name}: stations must be >= 1, got {stations}")
        stations = min(stations, _enough_stations(items))
    if cycle is not None:
        if not 0 < cycle < 1 << 50:
            raise InfeasibleError(
                f"{line.name}: the cycle must be > 0 and below 2^50 ticks, got {line.time(cycle):g}"
            )
        found = _fewest_stations(items, cycle, stations, effort)
        if not smooth:
            return found
        even = _smallest_cycle(items, found.stations, effort)
        station = even.station if even.cycle <= cycle else found.station
        return replace(found, station=station, seconds=effort.used)
    if stations is None:
        raise ValueError("give a cycle or stations")
    return _smallest_cycle(items, stations, effort)


def _fewest_stations(items: Items, cycle: int, most: int | None, effort: Effort) -> Balance:
    line = items.line
    check_cycle(line, cycle)
    room = np.array(capacities(line, cycle), np.int64)
    lower = _first_possible(items, cycle, room)
    upper = most or _enough_stations(items)
    if lower > upper:
        raise InfeasibleError(
            f"{line.name}: a cycle of {line.time(cycle):g} needs at least {lower} stations, "
            f"{upper} are given; take a longer cycle or {lower} stations"
        )
    best = construct(items, cycle, upper, stop_at=lower, effort=effort.share(_RULES_SHARE))
    history: list[tuple[float, int]] = []
    state = branch.OPEN
    if best is None:
        state, found = decide(items, cycle, upper, effort)
        if state != branch.FOUND:
            raise _no_balance(line, cycle, upper, proved=state == branch.IMPOSSIBLE)
        best = found
    history.append((effort.used, int(best.max()) + 1))
    while (length := int(best.max()) + 1) > lower and not effort.is_over:
        state, found = decide(items, cycle, length - 1, effort)
        if state == branch.IMPOSSIBLE:
            lower = length
        elif state == branch.FOUND:
            best = found
            history.append((effort.used, int(best.max()) + 1))
        else:
            break
    return _balance(items, "stations", best, cycle, lower, effort, history)


def _first_possible(items: Items, cycle: int, room: Ints) -> int:
    """Fewest stations that no bound forbids."""
    lower = fewest_stations(items.size, room)
    weight, most = station_weights(items.size, room)
    top = _enough_stations(items)
    while lower < top and not windows(items, weight, most, allowed_at(items, lower)).is_open:
        lower += 1
    return lower


def _enough_stations(items: Items) -> int:
    """A line length that is never too short: one station for each item behind the last named."""
    line = items.line
    named = [
        *line.fixed.values(),
        *line.equipment,
        *(s for f in line.forbidden.values() for s in f),
    ]
    return items.n + max(named, default=0)


def _no_balance(line: Line, cycle: int, stations: int, *, proved: bool) -> InfeasibleError:
    text = "no balance exists" if proved else "no balance was found in the time"
    return InfeasibleError(
        f"{line.name}: {text} for a cycle of {line.time(cycle):g} in {stations} stations with "
        "these restrictions; take a longer cycle or more stations, or loosen a restriction"
        + ("" if proved else ", or give more --seconds")
    )


def longest_station(items: Items, at: Ints) -> int:
    """Smallest cycle, in ticks, that a balance keeps with every limit."""
    line = items.line
    low, high = 0, 1
    load = np.array([np.bincount(at, weights=row) for row in items.size]).max(axis=1)
    while (load > capacities(line, high)).any():
        if high > 1 << 50:
            return high
        high *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if (load > capacities(line, middle)).any():
            low = middle
        else:
            high = middle
    return high


def _smallest_cycle(items: Items, stations: int, effort: Effort) -> Balance:
    line = items.line
    total = line.weighted()[1]
    low = max(1, int(-(-items.size[0].max() // total)))
    top = max(1, int(items.size[0].sum()))
    low = _least(lambda c: _may_fit(items, c, stations), low, 2 * top + 1)
    ceiling = 2 * top + 1
    history: list[tuple[float, int]] = []
    if low >= ceiling:
        raise _no_cycle(line, stations)
    cycle, best = _upper_cycle(
        low,
        ceiling,
        lambda c: construct(items, c, stations, stop_at=stations, mixes=4, limit=60),
        effort.share(_RULES_SHARE),
    )
    if best is not None:
        cycle = longest_station(items, best)
        history.append((effort.used, cycle))
    else:
        state, found = decide(items, ceiling, stations, effort)
        if state != branch.FOUND:
            raise _no_cycle(line, stations)
        best, cycle = found, longest_station(items, found)
        history.append((effort.used, cycle))
    share = 0.05
    while low < cycle and not effort.is_over:
        state, tried, found = _probe(items, stations, low, cycle, share, effort)
        if state == branch.FOUND:
            best, cycle = found, longest_station(items, found)
            history.append((effort.used, cycle))
        elif state == branch.IMPOSSIBLE:
            low = tried + 1
        else:
            share = min(1.0, 4 * share)
    return _balance(items, "cycle", best, cycle, min(low, cycle), effort, history)


def _probe(
    items: Items, stations: int, low: int, cycle: int, share: float, effort: Effort
) -> tuple[int, int, Ints]:
    """Ask for cycles between the bound and the best: the middle first, then nearer to the best."""
    left = max(0.0, effort.seconds - effort.used)
    ask = (low + cycle - 1) // 2
    while True:
        part = Effort(seconds=left * share, loads=effort.loads)
        state, found = decide(items, ask, stations, part)
        effort.loads = part.loads
        if state != branch.OPEN or ask >= cycle - 1 or effort.is_over:
            return state, ask, found
        ask = (ask + cycle) // 2


def _least(is_possible: Callable[[int], bool], low: int, high: int) -> int:
    """Smallest value in [low, high) that is possible, by bisection; ``high`` when none is."""
    while low < high:
        middle = (low + high) // 2
        if is_possible(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _upper_cycle(
    low: int, high: int, build: Callable[[int], Ints | None], effort: Effort
) -> tuple[int, Ints | None]:
    """Search for the smallest cycle for which the rules find a balance, while there is time."""
    best: Ints | None = None
    step = max(1, low // 50)
    ask = low
    while ask < high:
        best = build(ask)
        if best is not None:
            break
        low, ask = ask + 1, ask + step
        step *= 2
    if best is None:
        return high, build(high)
    high = ask
    while low < high and not effort.is_over:
        middle = (low + high) // 2
        found = build(middle)
        if found is not None:
            best, high = found, middle
        else:
            low = middle + 1
    return high, best


def _may_fit(items: Items, cycle: int, stations: int) -> bool:
    return make_form(items, cycle, stations) is not None


def _no_cycle(line: Line, stations: int) -> InfeasibleError:
    return InfeasibleError(
        f"{line.name}: the restrictions leave no balance in {stations} stations, however long the "
        "cycle; take more stations or loosen a restriction"
    )


def _balance(
    items: Items,
    objective: str,
    at: Ints,
    cycle: int,
    lower: int,
    effort: Effort,
    history: list[tuple[float, int]],
) -> Balance:
    return Balance(
        line=items.line,
        objective=objective,
        station=at[items.group_of] + 1,
        stations=int(at.max()) + 1,
        cycle=cycle,
        lower_bound=lower,
        seconds=effort.used,
        history=tuple(history),
    )
