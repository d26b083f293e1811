"""Machine changes near the window after a breakdown, and what they buy, on the engine as it is.

    python -m bench.stability [--sizes 1000x20] [--seeds 5] [--seconds 0,1,5] [--prices 1,10]

The busiest machine is lost at 25 % of the plan for 8 % of its span, with the next 2 % frozen. From
the same plan: ``stable`` reacts and improves with the prices for changes that ``brain schedule
react`` uses; ``unconstrained`` does with none, nothing frozen. Near operations were to start within
20 % of the span after the event; those of the lost machine are counted, too (``forced`` says how
many of the near ones were to run on it while it is away). Tardiness is compared with the best of
all plans of that row's time; none where nothing is late. ``frozen_moved`` counts frozen operations
that change machine, those of the lost machine (``frozen_lost``) apart. ``--prices`` are factors on
the engine's price for a change of machine: 1 is what it takes now, more shows what would do.
"""

import argparse
import json
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from bench.schedule import document
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, Weights, objective
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import Reaction, react
from workshop_brain.schedule.run import react_weights
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.solver import Solver
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.warm import warm_up

NEAR, FROZEN, LOST = 0.20, 0.02, 0.08


def measure(
    ops: int, machines: int, seed: int, budgets: list[float], prices: list[float]
) -> list[dict[str, Any]]:
    """Rows of one instance: one for each time of improvement and price; 0 s: the reaction."""
    problem = document_problem(document(ops, machines, seed))
    solver = Solver(problem, 2, seed)
    solver.within(3.0, None)
    plan, span = solver.plan, int(solver.plan.end.max())
    t, until = span // 4, span // 4 + int(LOST * span)
    busy = np.bincount(plan.machine, weights=plan.end - plan.start, minlength=machines)
    lost = int(busy.argmax())
    event = Event(
        time_ns=t * 10**9,
        kind=EventKind.BREAKDOWN,
        path=problem.machine_ids[lost],
        payload={"until_ns": until * 10**9},
    )
    near = (plan.start >= t) & (plan.start < t + NEAR * span)
    frozen = (plan.start >= t) & (plan.start < t + FROZEN * span)
    on_lost = (plan.machine == lost) & (plan.start < until)
    rows = []
    for seconds in budgets:
        free = react(problem, plan, event, weights=DOCUMENT_WEIGHTS)
        wild = _better(free, DOCUMENT_WEIGHTS, seconds, seed, is_stable=False)
        late = {None: _tardiness(free.problem, wild)}
        stable = {}
        for price in prices:
            weights = react_weights(plan, t)
            weights = replace(weights, move=weights.move * price)
            calm = react(problem, plan, event, weights=weights, frozen_s=int(FROZEN * span))
            stable[price] = _better(calm, weights, seconds, seed, is_stable=True)
            late[price] = _tardiness(calm.problem, stable[price])
        best = min(late.values())
        for price in prices:
            moved = stable[price].machine != plan.machine
            rows.append(
                {
                    "ops": ops,
                    "machines": machines,
                    "seed": seed,
                    "seconds": seconds,
                    "price": price,
                    "near": int(near.sum()),
                    "forced": int((near & on_lost).sum()),
                    "moved_percent": _percent(moved & near, near),
                    "unconstrained_moved_percent": _percent(
                        (wild.machine != plan.machine) & near, near
                    ),
                    "over_best_percent": round(100 * (late[price] / best - 1), 1) if best else None,
                    "unconstrained_over_best_percent": (
                        round(100 * (late[None] / best - 1), 1) if best else None
                    ),
                    "frozen": int(frozen.sum()),
                    "frozen_moved": int((moved & frozen & ~on_lost).sum()),
                    "frozen_lost": int((frozen & on_lost).sum()),
                    "frozen_lost_moved": int((moved & frozen & on_lost).sum()),
                }
            )
    return rows


def _better(
    done: Reaction, weights: Weights, seconds: float, seed: int, *, is_stable: bool
) -> Plan:
    """The reaction's plan after some seconds of improvement, checked."""
    plan = done.plan
    if seconds:
        plan = improve(
            done.steady if is_stable else done.problem, plan, seconds=seconds,
            seed=seed, workers=2, stable=is_stable,
            previous=done.previous if is_stable else None, weights=weights,
        ).plan  # fmt: skip
    if verify(done.problem, plan):
        raise SystemExit("the checker refuses a plan")
    return plan


def _tardiness(problem: Problem, plan: Plan) -> float:
    return objective(problem, plan, None, DOCUMENT_WEIGHTS).objective


def _percent(part: Any, whole: Any) -> float:
    return round(100.0 * float(part.sum()) / max(1, int(whole.sum())), 1)


def main() -> None:
    """Print one row for each instance and budget, then the worst and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000x20", help="OPSxMACHINES,...")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", default="0,1,5", help="of improvement after the reaction")
    parser.add_argument("--prices", default="1,10", help="factors on the price of a change")
    options = parser.parse_args()
    warm_up()
    budgets = [float(s) for s in options.seconds.split(",")]
    prices = [float(p) for p in options.prices.split(",")]
    rows: list[dict[str, Any]] = []
    for size in options.sizes.split(","):
        ops, machines = map(int, size.split("x"))
        for seed in range(1, options.seeds + 1):
            for row in measure(ops, machines, seed, budgets, prices):
                rows.append(row)
                print(json.dumps(row), flush=True)
    figures = ("moved_percent", "over_best_percent", "frozen_moved", "frozen_lost_moved")
    for seconds, price in product(budgets, prices):
        own = [r for r in rows if (r["seconds"], r["price"]) == (seconds, price)]
        out: dict[str, Any] = {"seconds": seconds, "price": price}
        for figure in figures:
            values = [r[figure] for r in own if r[figure] is not None]
            if values:
                out |= {f"median_{figure}": float(np.median(values))}
                out |= {f"worst_{figure}": max(values)}
        print(json.dumps(out))


if __name__ == "__main__":
    main()
