"""Schedule figures against the dispatch rules of the same run: ``python bench/schedule.py``.

Own instances after the published statistics of such shops: flexible machines, family changeovers,
releases, due dates, weights; or reactive documents with ``--documents``. Prints construction,
reaction p50/p99 and weighted tardiness of FIFO, EDD, foreman, the best of 36 usual ATCS settings,
the product's own grid, and what is found within so many seconds.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.instance import document_problem
from workshop_brain.schedule.moves import PRICED, TRIED, WORK, lay_out, search
from workshop_brain.schedule.objective import DOCUMENT_WEIGHTS, objective
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import PLAIN, QUICK, Dispatcher, Rule, RuleParams
from workshop_brain.schedule.run import DEADLINE_MS, react_weights, read
from workshop_brain.schedule.search import HEAT, slack
from workshop_brain.schedule.solver import Solver
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.timing import retime, sequences
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.warm import warm_up


def document(ops: int, machines: int, seed: int, families: int = 24) -> dict[str, Any]:
    """A reactive-fjsp/1 document with about ``ops`` operations."""
    rng = np.random.default_rng(seed)
    centers = max(4, machines // 4)
    center = np.sort(np.append(np.arange(centers), rng.integers(0, centers, machines - centers)))
    setup = rng.integers(8, 46, (centers, families, families))
    setup[rng.random(centers) < 0.3] = 0
    for table in setup:
        np.fill_diagonal(table, 0)
        for k in range(families):
            np.minimum(table, table[:, k : k + 1] + table[k : k + 1, :], out=table)
    speed = rng.uniform(0.9, 1.15, machines)
    routes = [rng.permutation(centers)[: rng.integers(4, 13)] for _ in range(families)]
    base = [rng.integers(12, 61, len(route)) for route in routes]
    jobs: list[dict[str, Any]] = []
    work, count = np.zeros(centers), 0
    while count < ops:
        family, size = int(rng.integers(0, families)), rng.uniform(0.6, 1.6)
        rows, total = [], 0.0
        for step, where in enumerate(routes[family]):
            able = np.flatnonzero(center == where)
            able = rng.choice(able, math.ceil(0.7 * len(able)), replace=False)
            need = base[family][step] * size
            rows.append([[int(m), max(1, round(need * speed[m]))] for m in able])
            work[where] += need + 8
            total += need
        jobs.append({"id": len(jobs), "family": family, "total": total, "rows": rows})
        count += len(rows)
    horizon = float(np.quantile(work / np.bincount(center), 0.9))
    for job in jobs:
        release = 0 if rng.random() < 0.5 else int(rng.uniform(0, 0.6 * horizon))
        slack = rng.uniform(1.3, 2.2) * job.pop("total") + rng.uniform(0, 0.75) * horizon
        job |= {"release": release, "due": int(release + slack)}
        job["weight"] = int(rng.choice([1, 3, 9], p=[0.5, 0.3, 0.2]))
        job["operations"] = [{"alternatives": row} for row in job.pop("rows")]
    return {
        "format": "reactive-fjsp/1",
        "machines": [
            {
                "id": m,
                "work_center": int(center[m]),
                "available_from": int(rng.integers(0, 60)),
                "family": int(rng.integers(0, families)),
            }
            for m in range(machines)
        ],
        "setup": setup.tolist(),
        "jobs": jobs,
    }


def _reactions(
    problem: Problem, plan: Any, count: int, deadline_ms: float | None
) -> tuple[list[float], list[float]]:
    """Wall and processor milliseconds of reactions to breakdowns, each checked by the engine."""
    end = int(plan.end.max())
    times, busy = [], []
    for k in range(count):
        t = int(end * (0.05 + 0.5 * k / count))
        event = Event(
            time_ns=t * 10**9,
            kind=EventKind.BREAKDOWN,
            path=problem.machine_ids[k % problem.n_machines],
            payload={"until_ns": (t + end // 12) * 10**9},
        )
        clock = time.thread_time()
        weights = react_weights(plan, t)
        done = react(problem, plan, event, weights=weights, deadline_ms=deadline_ms)
        times.append(done.react_ms)
        busy.append((time.thread_time() - clock) * 1e3)
    return times, busy


def _rates(problem: Problem, plan: Any) -> dict[str, int]:
    """One thread, per second of processor time: moves tried with all their consequences in a search
    that is warm as at its beginning (``searching``) and in one that gives up a move at its first
    loss (``tried``), places priced by estimate in each; operations re-timed."""
    tables = lay_out(problem, plan, None, DOCUMENT_WEIGHTS, 1)
    unit = float(tables.ops[:, WORK].mean() * problem.job_weight.mean())
    out = {}
    for name, heat, most in (
        ("searching", HEAT * unit, slack(problem) * unit),
        ("tried", 0.0, 0.0),
    ):
        search(tables, 200, heat, heat, most, 1.0, 0.0, 0.0, problem.now)
        tried, priced = int(tables.tally[TRIED]), int(tables.tally[PRICED])
        clock = time.thread_time()
        search(tables, 20_000, heat, heat, most, 1.0, 0.0, 0.0, problem.now)
        took = time.thread_time() - clock
        out[f"{name}_per_s"] = round((int(tables.tally[TRIED]) - tried) / took)
        out[f"{name}_priced_per_s"] = round((int(tables.tally[PRICED]) - priced) / took)
    ptr, ops = sequences(problem, plan)
    again = []
    for _ in range(50):
        clock = time.perf_counter()
        retime(problem.arrays, plan.machine, ptr, ops)
        again.append(time.perf_counter() - clock)
    return out | {"retimed_per_s": round(problem.n_ops / float(np.median(again)))}


def usual_grid(dispatcher: Dispatcher) -> float:
    """Weighted tardiness of the best of 36 ATCS settings as text books give them."""
    settings = [
        RuleParams(due=due, setup=setup, wait=0.5, lookahead=lookahead, queue=queue)
        for due in (0.5, 1.0, 2.0)
        for setup in (0.2, 0.5, 1.0)
        for lookahead in (0.0, 0.5)
        for queue in (1.0, 2.0)
    ]
    plans = [dispatcher.plan(Rule.ATCS, setting) for setting in settings]
    return min(objective(dispatcher.problem, p, None, DOCUMENT_WEIGHTS).objective for p in plans)


def measure(problem: Problem, seed: int, seconds: list[float], reactions: int) -> dict[str, Any]:
    """All figures of one instance."""
    dispatcher = Dispatcher(problem)
    took = []
    for _ in range(5):
        clock = time.perf_counter()
        dispatcher.plan(Rule.ATCS, QUICK[0])
        took.append((time.perf_counter() - clock) * 1e3)
    tardiness = {}
    for rule in (Rule.FIFO, Rule.EDD, Rule.FOREMAN):
        plan = dispatcher.plan(rule, PLAIN)
        tardiness[rule.name.lower()] = objective(problem, plan, None, DOCUMENT_WEIGHTS).objective
    foreman = plan
    tardiness["usual_36"] = usual_grid(dispatcher)
    below, moves = {}, 0.0
    for budget in seconds:
        solver = Solver(problem, 2, seed)
        solver.within(budget, None)
        if verify(problem, solver.plan):
            raise SystemExit("the checker refuses the plan")
        tardiness["grid"] = solver.constructed
        tardiness[f"{budget:g}s"] = solver.history[-1][1]
        below[f"{budget:g}s"] = _below(solver.history[-1][1], tardiness["usual_36"])
        moves = solver.moves / budget
    times, busy = _reactions(problem, solver.plan, reactions, None)
    quick, _ = _reactions(problem, solver.plan, reactions, DEADLINE_MS)
    return {
        "ops": problem.n_ops,
        "machines": problem.n_machines,
        "seed": seed,
        "construct_ms": round(float(np.median(took)), 2),
        "react_ms_p50": round(float(np.percentile(times, 50)), 1),
        "react_ms_p99": round(float(np.percentile(times, 99)), 1),
        "react_10ms_p50": round(float(np.percentile(quick, 50)), 1),
        "react_10ms_p99": round(float(np.percentile(quick, 99)), 1),
        "react_cpu_ms_p50": round(float(np.percentile(busy, 50)), 1),
        "react_cpu_ms_p99": round(float(np.percentile(busy, 99)), 1),
        "moves_per_s": round(moves),
        **_rates(problem, foreman),
        "weighted_tardiness": {key: round(value) for key, value in tardiness.items()},
        "percent_below_usual_36": below,
        "makespan_over_foreman": round(int(solver.plan.end.max()) / int(foreman.end.max()), 3),
        "below_foreman_times": round(tardiness["foreman"] / max(1.0, solver.history[-1][1]), 1),
    }


def against_foreman(problem: Problem, seed: int, seconds: float) -> dict[str, Any]:
    """Weighted tardiness and last end beside the foreman's, free and with his end kept."""
    foreman = Dispatcher(problem).plan(Rule.FOREMAN, PLAIN)
    late = objective(problem, foreman, None, DOCUMENT_WEIGHTS).weighted_tardiness_s
    out: dict[str, Any] = {"ops": problem.n_ops, "machines": problem.n_machines, "seed": seed}
    for name, keep_end in (("free", False), ("kept_end", True)):
        solver = Solver(problem, 2, seed, keep_end=keep_end)
        solver.within(seconds, None)
        if verify(problem, solver.plan):
            raise SystemExit("the checker refuses the plan")
        ours = objective(problem, solver.plan, None, DOCUMENT_WEIGHTS).weighted_tardiness_s
        out[f"{name}_times_lower"] = round(late / max(1.0, ours), 2)
        out[f"{name}_makespan"] = round(int(solver.plan.end.max()) / int(foreman.end.max()), 4)
    return out


def _below(value: float, base: float) -> float:
    return round(100 * (1 - value / base), 1) if base > 0 else 0.0


def main() -> None:
    """Print one JSON line per instance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="500x15,1000x20", help="OPSxMACHINES,...")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seconds", default="1", help="SECONDS,...")
    parser.add_argument("--documents", nargs="*", default=[], help="instead of own instances")
    parser.add_argument("--reactions", type=int, default=60)
    parser.add_argument("--foreman", action="store_true", help="only the foreman beside us")
    options = parser.parse_args()
    warm_up()
    seconds = [float(x) for x in options.seconds.split(",")]
    for path in options.documents:
        problem = read(Path(path).read_text("utf-8"), path)
        if options.foreman:
            print(json.dumps(against_foreman(problem, 1, max(seconds))), flush=True)
            continue
        print(json.dumps(measure(problem, 1, seconds, options.reactions)), flush=True)
    for size in options.sizes.split(",") if not options.documents else []:
        ops, machines = (int(x) for x in size.split("x"))
        for seed in range(1, options.seeds + 1):
            problem = document_problem(document(ops, machines, seed))
            print(json.dumps(measure(problem, seed, seconds, options.reactions)), flush=True)


if __name__ == "__main__":
    main()
