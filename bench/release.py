"""When to let the next unit in, and in which order: the reference plant's main line.

    python -m bench.release [--seeds 20] [--units 1500] [--keep 0.995] [--seconds 2]

Stations, buffers, failures and micro-stops of the built-in plant's main line (feeders never short),
six models in the plant's proportions. Release rules are chosen on days of seeds 1..100 and compared
on other days, the same for all: an open line, the longest fixed interval and the smallest CONWIP
that reach the wanted output on the choosing days, and ours. Then the order of the models: in
batches, levelled (goal chasing), and ours, through the line without stops, and with the stops of
unseen days (all 300 units, filling and emptying included); on the reference line, whose models
differ by 10 %, and on one whose models differ by up to 30 % at each station on its own.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from workshop_brain.config import built_in
from workshop_brain.schedule.balance.flow import Flow, Loops, no_limit, passage, work_times
from workshop_brain.schedule.balance.release import (
    ReleaseTrial,
    best_conwip,
    best_interval,
    release_rule,
)
from workshop_brain.schedule.balance.sequence import Wishes, levelled, sequence
from workshop_brain.twin.mixed_line import line_flow
from workshop_brain.twin.scenario import REFERENCE


def reference_line() -> Flow:
    """The main line of the built-in plant; parallel testers are one stage."""
    return line_flow(built_in().plant, REFERENCE)


def _interval(a: Any) -> str:
    """Mean and half of its 95 % interval."""
    return f"{a.mean():.3f} +- {1.96 * a.std(ddof=1) / np.sqrt(len(a)):.3f}"


def compare_release(options: argparse.Namespace) -> None:
    """Rules chosen on some days, compared on others."""
    flow = reference_line()
    n_models = len(flow.cycle_s)
    models = np.random.default_rng(0).integers(0, n_models, options.units)
    choosing = ReleaseTrial(flow, models, range(1, 101))
    unseen = ReleaseTrial(flow, models, range(9001, 9001 + options.seeds))
    begin = time.perf_counter()
    ours = release_rule(choosing, keep=options.keep)
    took = time.perf_counter() - begin
    goal = options.keep * choosing.outcome(no_limit()).per_hour
    rules: dict[str, Loops] = {
        "open line": no_limit(),
        "fixed interval": no_limit(best_interval(choosing, goal)),
        "CONWIP": best_conwip(choosing, goal).loops,
        "ours": ours.loops,
    }
    base = unseen.outcome(rules["ours"])
    for name, loops in rules.items():
        found = unseen.outcome(loops)
        row = {
            "rule": name,
            "per_hour": _interval(found.per_hour),
            "in_line": _interval(found.in_line),
            "ours_minus_this_per_hour": _interval(base.per_hour - found.per_hour),
            "ours_minus_this_in_line": _interval(base.in_line - found.in_line),
        }
        if len(loops.station):
            row["limits"] = dict(zip(loops.station.tolist(), loops.limit.tolist(), strict=True))
        if loops.interval_s:
            row["interval_s"] = round(loops.interval_s, 2)
        print(json.dumps(row), flush=True)
    print(f"chosen in {took:.1f} s with {choosing.runs} simulated sets of 100 days of "
          f"{options.units} units; compared on {options.seeds} unseen days")  # fmt: skip


def _unlike_line() -> Flow:
    """20 stations, four models: 35 s, up to 30 % more or less, with small buffers and stops."""
    rng = np.random.default_rng(7)
    n = 20
    return Flow(
        cycle_s=35.0 * rng.uniform(0.7, 1.3, (4, n)),
        places=rng.integers(0, 3, n - 1),
        servers=np.ones(n, np.int64),
        mtbf_s=np.full(n, 4 * 3600.0),
        mttr_s=np.full(n, 240.0),
        stop_p=np.full(n, 0.01),
        stop_s=np.full(n, 20.0),
    )


def compare_order(name: str, flow: Flow, options: argparse.Namespace) -> None:
    """Batches, goal chasing and ours on 300 units."""
    models = np.sort(np.random.default_rng(0).integers(0, len(flow.cycle_s), 300))
    sequence(flow, models[:3], seconds=60.0, steps=1)
    ours = sequence(flow, models, seconds=options.seconds, days=60)
    span = sequence(flow, models, seconds=options.seconds, wishes=Wishes(level=0.0))
    orders = {
        "batches": models,
        "levelled": levelled(models),
        "ours, span alone": span.models,
        "ours": ours.models,
    }
    base: Any = None
    for rule, order in reversed(orders.items()):
        plain = sequence(flow, order, seconds=0.0, starts=(order,))
        days = (np.random.default_rng(9001 + k) for k in range(5 * options.seeds))
        runs = (passage(flow, work_times(flow, order, day)) for day in days)
        rate = np.array([3600.0 * len(order) / run.leave[-1, -1] for run in runs])
        base = rate if rule == "ours" else base
        row = {
            "line": name,
            "order": rule,
            "span_s": round(plain.span_s),
            "above_bound_percent": round(100 * (plain.span_s / plain.span_bound_s - 1), 2),
            "starved_s": round(plain.starved_s),
            "blocked_s": round(plain.blocked_s),
            "level": round(plain.level, 2),
            "per_hour_with_stops": _interval(rate),
        }
        if base is not None:
            row["ours_minus_this_per_hour"] = _interval(base - rate)
        print(json.dumps(row), flush=True)


def main() -> None:
    """Print one row for each rule, then for each sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--units", type=int, default=1500)
    parser.add_argument("--keep", type=float, default=0.995)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each order")
    options = parser.parse_args()
    compare_release(options)
    compare_order("reference", reference_line(), options)
    compare_order("unlike models", _unlike_line(), options)


if __name__ == "__main__":
    main()
