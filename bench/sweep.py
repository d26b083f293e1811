"""The assembly line in the twin: load x availability x mix; foreman, brain and physical bound.

    python -m bench.sweep [--seeds 20] [--cells few|even|all] [--part sweep|release|all] [--json]

Each cell runs the line (48 hours after 4 of filling, feeders, rework and tool changes included)
under the foreman and under the brain on the same seeds, 9001 and up, which nothing was chosen on.
Parts of the brain are also switched on alone, so that a gain is split by cause: ``release`` (limits
on units inside), ``sequence`` (order of the models within a shift), ``tools`` (when worn tools are
changed). Each is chosen for the cell on seeds 101 and up, release with the rest of the brain on, so
that alone, on the foreman's line, its limits can be too tight. The bound of a seed is the rate of
the slowest stage if it never waited nor changed over, its own stops left as they were; the
largest over the policies is taken. ``captured`` is (brain - foreman) / (bound - foreman);
``captured_reachable`` takes what is ordered for the bound where that is less. Load is what is
ordered over the foreman's mean bound.
A tool limit that a foreman could set, too, is shown apart: ``fixed_tools``, and what the brain
captures beyond such a foreman: ``captured_beyond_fixed_tools``. ``few``: three cells; ``even``: all
loads and availabilities with an even mix and no changeovers; ``all``: the full grid, about an hour.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from workshop_brain.config import built_in
from workshop_brain.schedule.balance.flow import Loops, no_limit
from workshop_brain.schedule.balance.release import (
    ReleaseRule,
    best_conwip,
    best_interval,
    release_rule,
)
from workshop_brain.twin.experiment import mean_ci
from workshop_brain.twin.mixed_line import (
    LineDay,
    LinePolicy,
    LineSetting,
    LineTrial,
    run_line,
    with_availability,
)
from workshop_brain.twin.scenario import REFERENCE

FOREMAN = LinePolicy()
LOADS, AVAILABILITIES = (0.75, 0.85, 0.92, 0.98), (0.95, 0.98, 0.995)
MIXES = {"even": (1, 1, 1, 1, 1, 1), "two": (0, 0, 4, 0, 1, 0), "one": (1, 0, 0, 0, 0, 0)}
CHANGEOVERS = (True, False)
FEW = ((0.92, 0.98, "even", True), (0.75, 0.98, "even", True), (0.92, 0.98, "even", False))
TOOL_WEARS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)


def days(setting: LineSetting, policy: LinePolicy, seeds: Sequence[int]) -> list[LineDay]:
    """One run a seed."""
    return [run_line(setting, policy, seed) for seed in seeds]


def rate(rows: Sequence[LineDay]) -> Any:
    """Units an hour of each run."""
    return np.array([d.per_hour for d in rows])


def cell_setting(load: float, availability: float, mix: str, is_mixed: bool) -> LineSetting:
    """A cell; what is ordered follows from the foreman's mean bound on the choosing seeds."""
    plant = built_in().plant
    setting = LineSetting(
        plant=plant,
        scenario=with_availability(plant, REFERENCE, availability),
        mix=tuple(map(float, MIXES[mix])),
        is_mixed=is_mixed,
    )
    found = days(setting, FOREMAN, range(101, 107))
    ordered = load * float(np.mean([d.bound_per_hour for d in found]))
    return replace(setting, every_s=3600.0 / ordered)


def chosen_policy(setting: LineSetting, *, tries: int) -> tuple[LinePolicy, LinePolicy]:
    """The brain's policy for a cell, and the best limit on tool wear alone."""
    seeds = range(101, 107)

    def best(options: Sequence[LinePolicy]) -> LinePolicy:
        return max(options, key=lambda p: float(rate(days(setting, p, seeds)).mean()))

    fixed = best([replace(FOREMAN, tool_wear=w) for w in TOOL_WEARS])
    tools = best([replace(fixed, tool_idle_wear=w) for w in TOOL_WEARS if w <= fixed.tool_wear])
    brain = best([replace(tools, order=o) for o in ("lots", "family", "levelled")])
    trial = LineTrial(replace(setting, hours=24.0), brain, range(101, 107))
    rule = release_rule(trial, stations=3, tries=tries)
    return replace(brain, loops=rule.loops), fixed


def measure_cell(cell: tuple[float, float, str, bool], seeds: range, tries: int) -> dict[str, Any]:
    """Figures of one cell with 95 % intervals."""
    setting = cell_setting(*cell)
    brain, fixed = chosen_policy(setting, tries=tries)
    policies = {
        "foreman": FOREMAN,
        "release": replace(FOREMAN, loops=brain.loops),
        "sequence": replace(FOREMAN, order=brain.order),
        "tools": replace(FOREMAN, tool_wear=brain.tool_wear, tool_idle_wear=brain.tool_idle_wear),
        "fixed_tools": fixed,
        "brain": brain,
    }
    runs = {name: days(setting, policy, seeds) for name, policy in policies.items()}
    bound = np.array([[d.bound_per_hour for d in rows] for rows in runs.values()]).max(axis=0)
    ordered = 3600.0 / setting.every_s
    base, top = rate(runs["foreman"]), rate(runs["brain"])
    tuned = rate(runs["fixed_tools"])
    reach = np.minimum(bound, ordered)
    gains = {
        name: mean_ci((rate(runs[name]) - base).tolist())
        for name in ("release", "sequence", "tools", "fixed_tools", "brain")
    }
    parts = rate(runs["release"]) + rate(runs["sequence"]) + rate(runs["tools"]) - 3 * base
    gains["together"] = mean_ci((top - base - parts).tolist())
    room = reach - base
    return {
        "load": cell[0],
        "availability": cell[1],
        "mix": cell[2],
        "changeover": not cell[3],
        "seeds": len(seeds),
        "ordered_per_hour": ordered,
        "bound_per_hour": mean_ci(bound.tolist()),
        "foreman_per_hour": mean_ci(base.tolist()),
        "brain_per_hour": mean_ci(top.tolist()),
        "captured": mean_ci(((top - base) / (bound - base)).tolist()),
        "captured_reachable": mean_ci(((top - base) / room)[room > 0.5].tolist()),
        "captured_beyond_fixed_tools": mean_ci(((top - tuned) / (bound - tuned)).tolist()),
        "gain_per_hour_by_cause": gains,
        "in_line": {n: mean_ci([d.in_line for d in rows]) for n, rows in runs.items()},
        "policy": {
            "order": brain.order,
            "tool_wear": brain.tool_wear,
            "tool_idle_wear": brain.tool_idle_wear,
            "limits": dict(
                zip(brain.loops.station.tolist(), brain.loops.limit.tolist(), strict=True)
            ),
            "interval_s": round(brain.loops.interval_s, 2),
        },
    }


def compare_release(seeds: range, tries: int) -> list[dict[str, Any]]:
    """Release rules on the reference cell, more ordered than the line can make."""
    setting = replace(cell_setting(*FEW[0]), every_s=0.0)
    choosing = LineTrial(replace(setting, hours=24.0), FOREMAN, range(101, 109))
    ours = release_rule(choosing, stations=8, tries=tries)
    goal = 0.995 * choosing.outcome(no_limit()).per_hour
    rules: dict[str, Loops] = {
        "ours": ours.loops,
        "open line": no_limit(),
        "fixed interval": no_limit(best_interval(choosing, goal)),
        "CONWIP": best_conwip(choosing, goal).loops,
    }
    rows: list[dict[str, Any]] = []
    orders = ("lots", "levelled")
    base: list[LineDay] = []
    for order, (name, loops) in product(orders, rules.items()):
        found = days(setting, LinePolicy(order=order, loops=loops), seeds)
        base = base or found
        less = [b.in_line - d.in_line for b, d in zip(base, found, strict=True)]
        rows.append(
            {
                "release": name,
                "order": order,
                "rule": _rule_text(loops),
                "per_hour": mean_ci([d.per_hour for d in found]),
                "in_line": mean_ci([d.in_line for d in found]),
                "ours_in_lots_minus_this_per_hour": mean_ci((rate(base) - rate(found)).tolist()),
                "ours_in_lots_minus_this_in_line": mean_ci(less),
            }
        )
    return rows


def _rule_text(loops: Loops) -> str:
    rule = ReleaseRule(
        limits=dict(zip(loops.station.tolist(), loops.limit.tolist(), strict=True)),
        interval_s=loops.interval_s,
    )
    limits = ", ".join(f"{limit} to stage {stage}" for stage, limit in rule.limits.items())
    return limits + (f" every {rule.interval_s:.2f} s" if rule.interval_s else "")


def _text(value: Any) -> Any:
    """Mean and half of the 95 % interval, for reading."""
    if isinstance(value, dict) and set(value) == {"mean", "ci95", "n"}:
        if value["mean"] is None:
            return "-"
        half = "" if value["ci95"] is None else f" +- {value['ci95']:.3f}"
        return f"{value['mean']:.3f}{half}"
    if isinstance(value, dict):
        return {k: _text(v) for k, v in value.items()}
    return value


def main() -> None:
    """Print one row for each cell, then for each release rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cells", choices=("few", "even", "all"), default="few")
    parser.add_argument("--part", choices=("sweep", "release", "all"), default="all")
    parser.add_argument("--tries", type=int, default=20, help="release rules to try for a cell")
    parser.add_argument("--json", action="store_true", help="numbers instead of texts")
    options = parser.parse_args()
    begin = time.perf_counter()
    seeds = range(9001, 9001 + options.seeds)
    shown = (lambda row: row) if options.json else _text
    if options.part in ("sweep", "all"):
        grid = {
            "few": FEW,
            "even": product(LOADS, AVAILABILITIES, ("even",), (True,)),
            "all": product(LOADS, AVAILABILITIES, MIXES, CHANGEOVERS),
        }
        for cell in grid[options.cells]:
            print(json.dumps(shown(measure_cell(cell, seeds, options.tries))), flush=True)
    if options.part in ("release", "all"):
        for row in compare_release(seeds, 3 * options.tries):
            print(json.dumps(shown(row)), flush=True)
    print(f"took {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
