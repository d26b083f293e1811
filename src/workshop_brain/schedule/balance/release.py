"""When to let the next unit into the line: as late as it may without starving the bottleneck.

A rule is a pace (no faster than one unit in so many seconds) and a set of loops: no more than
``limit`` units between the entry and a station's exit. A pace alone is fixed-interval release, one
loop over the whole line is CONWIP, one to the bottleneck is a drum and its rope. Pace and limits
are found by simulating the line's own data; the rule itself needs only counts and a clock, so it
can be followed live and explained ("station 31 still has 14 units coming").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.schedule.balance.flow import Flow, Loops, no_limit, passage, work_times

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_WARM = 0.1
"""Share of the units at the front that fill the line and are not counted."""
_SPARE = 1.0
"""Standard errors by which the output must exceed the best CONWIP's on the choosing days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRule:
    """Limits by station position: units that have entered and not left that station.

    Attributes
    ----------
    interval_s
        Least time between two entries, seconds; 0: none.
    """

    limits: Mapping[int, int]
    interval_s: float = 0.0

    @property
    def loops(self) -> Loops:
        """For the simulation."""
        return Loops(
            station=np.array(list(self.limits), np.int64),
            limit=np.array(list(self.limits.values()), np.int64),
            interval_s=self.interval_s,
        )

    def holds(self, entered: int, left: Sequence[int]) -> int | None:
        """Station whose limit keeps the next unit out, None when none does (mind the pace too).

        Parameters
        ----------
        entered
            Units that have entered the line so far.
        left
            Units that have left each station so far.
        """
        for station, limit in self.limits.items():
            if entered - left[station] >= limit:
                return station
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of a rule day by day: units per hour and units in the line."""

    per_hour: Floats
    in_line: Floats

    @property
    def work(self) -> float:
        """Mean units in the line."""
        return float(self.in_line.mean())

    def keeps(self, goal: Floats, spare: float = 0.0) -> bool:
        """Whether the output is no lower than the goal of the same days, on the average.

        ``spare`` standard errors of the difference must be left: what is better on few days by
        chance does not pass.
        """
        more = self.per_hour - goal
        error = float(more.std()) / max(1, len(more) - 1) ** 0.5
        return bool(more.mean() >= spare * error)


class ReleaseTrial:
    """The same simulated days for every rule (common random numbers).

    Parameters
    ----------
    models
        Model of each unit of a day, in order.
    seeds
        One day each.
    """

    def __init__(self, flow: Flow, models: Ints, seeds: Sequence[int]) -> None:
        self.flow, self.models = flow, models
        self.days = [work_times(flow, models, np.random.default_rng(seed)) for seed in seeds]
        self.bottleneck = flow.bottleneck(models)
        self.runs = 0

    def outcome(self, loops: Loops) -> Outcome:
        """What a rule gives on each day."""
        self.runs += 1
        warm = int(_WARM * len(self.models))
        rows = [
            passage(self.flow, day, loops).figures(self.bottleneck, warm=warm) for day in self.days
        ]
        return Outcome(
            per_hour=np.array([r["per_hour"] for r in rows]),
            in_line=np.array([r["in_line"] for r in rows]),
        )


def best_loop(trial: ReleaseTrial, station: int, goal: Floats, spare: float = 0.0) -> ReleaseRule:
    """Smallest limit from the entry to a station that keeps the output ``goal`` of the days."""
    low, high = 1, _room(trial.flow, station)
    while low < high:
        middle = (low + high) // 2
        if trial.outcome(ReleaseRule(limits={station: middle}).loops).keeps(goal, spare):
            high = middle
        else:
            low = middle + 1
    return ReleaseRule(limits={station: low})


def best_conwip(trial: ReleaseTrial, goal: Floats) -> ReleaseRule:
    """The best loop over the whole line."""
    return best_loop(trial, trial.flow.n_stations - 1, goal)


def _room(flow: Flow, station: int) -> int:
    """Units that stand from the entry to a station at most."""
    return int(flow.places[:station].sum() + flow.servers[: station + 1].sum())


def best_interval(trial: ReleaseTrial, goal: Floats) -> float:
    """Longest fixed interval, seconds, that keeps the output ``goal`` of the days."""
    low, high = 0.0, 3600.0 / float(goal.mean())
    for _ in range(24):
        middle = 0.5 * (low + high)
        if trial.outcome(no_limit(middle)).keeps(goal):
            low = middle
        else:
            high = middle
    return low


def release_rule(
    trial: ReleaseTrial, *, keep: float = 0.995, stations: int = 12, tries: int = 400, seed: int = 1
) -> ReleaseRule:
    """The rule with the least work in the line that keeps a share of the open line's output.

    The output of the best CONWIP is the least that is accepted. Of the best loops to single
    stations the one with the least work in the line is where the search begins: it tightens pace
    or a limit, or loosens one for another, as long as units leave the line and no output.

    Parameters
    ----------
    stations
        How many stations may get a loop: the slowest, and evenly spread ones.
    tries
        Rules to simulate after that; each on all days of the trial.
    """
    rule = best_conwip(trial, keep * trial.outcome(no_limit()).per_hour)
    best = trial.outcome(rule.loops)
    goal = best.per_hour
    places = _loop_stations(trial, stations)
    for station in places:
        single = best_loop(trial, station, goal, _SPARE)
        outcome = trial.outcome(single.loops)
        if outcome.keeps(goal, _SPARE) and outcome.work < best.work:
            rule, best = single, outcome
    rule = ReleaseRule(limits={s: _room(trial.flow, s) for s in places} | dict(rule.limits))
    takt_s = 3600.0 / float(goal.mean())
    rng = np.random.default_rng(seed)
    for k in range(tries):
        tried = _varied(rule, takt_s, rng, 1.0 - k / tries)
        outcome = trial.outcome(tried.loops)
        if outcome.work < best.work and outcome.keeps(goal, _SPARE):
            rule, best = tried, outcome
    return _without_idle(trial, rule, best)


def _loop_stations(trial: ReleaseTrial, count: int) -> list[int]:
    """The slowest stations, and evenly spread ones up to the last."""
    slow = trial.flow.slowness_s[trial.models].mean(axis=0)
    spread = np.linspace(0, trial.flow.n_stations - 1, count // 2 + 1)[1:].astype(int).tolist()
    return list(dict.fromkeys([*spread, *np.argsort(-slow)[: count - len(spread)].tolist()]))


def _varied(rule: ReleaseRule, takt_s: float, rng: np.random.Generator, heat: float) -> ReleaseRule:
    """One part of the rule tighter, and every second time another one looser."""
    limits, pace = dict(rule.limits), rule.interval_s
    names = [*limits, -1]
    tighter, looser = rng.choice(names, 2, replace=False).tolist()
    for station, sign in ((tighter, 1), (looser, -1 if rng.random() < 0.5 else 0)):
        share = sign * rng.random() * (0.02 + 0.3 * heat)
        if station >= 0:
            limits[station] = max(1, limits[station] - round(share * limits[station]) - sign)
        else:
            pace = float(np.clip((pace or 0.8 * takt_s) + 0.2 * share * takt_s, 0.0, takt_s))
    return ReleaseRule(limits=limits, interval_s=pace)


def _without_idle(trial: ReleaseTrial, rule: ReleaseRule, outcome: Outcome) -> ReleaseRule:
    """The same rule without the limits that never hold a unit back."""
    for station in list(rule.limits):
        rest = {s: limit for s, limit in rule.limits.items() if s != station}
        fewer = ReleaseRule(limits=rest, interval_s=rule.interval_s)
        if np.array_equal(trial.outcome(fewer.loops).in_line, outcome.in_line):
            rule = fewer
    return ReleaseRule(
        limits={s: rule.limits[s] for s in sorted(rule.limits)}, interval_s=rule.interval_s
    )
