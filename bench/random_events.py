"""Random events on random running plans, each reaction checked by the independent checker.

    python -m bench.random_events [--events 20000] [--workers 2] [--seed 1]

Small shops with everything on together: alternatives, precedence graphs with lags, changeovers,
closed time with and without resuming, releases, transit, frozen starts. Every shop lives through
chains of breakdowns, quality stops, missing operators, returns, late material, rush orders,
cancelled and reprioritised orders. Prints how many reactions were verified, what was wrong with the
others, and in how many a random change of the plan (which the checker must refuse) was refused.
"""

import argparse
import collections
import json
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from workshop_brain.errors import InfeasibleError
from workshop_brain.model.event import Event, EventKind
from workshop_brain.schedule.plan import Plan
from workshop_brain.schedule.react import react
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.structure import OpStatus, Problem, assemble
from workshop_brain.schedule.verify import verify

CHAIN = 10
"""Events that one shop lives through."""


def shop(rng: np.random.Generator) -> Problem:
    """A random small shop."""
    machines, families, jobs = (int(rng.integers(a, b)) for a, b in ((1, 6), (1, 4), (1, 9)))
    alternatives: list[list[tuple[int, int]]] = []
    preds: list[list[tuple[int, int]]] = []
    op_job = []
    for j in range(jobs):
        first = len(alternatives)
        for k in range(int(rng.integers(1, 5))):
            able = rng.choice(machines, int(rng.integers(1, machines + 1)), replace=False)
            alternatives.append([(int(m), int(rng.integers(1, 10))) for m in np.sort(able)])
            before = [first + p for p in range(k) if rng.random() < 0.6]
            preds.append([(p, int(rng.integers(0, 6))) for p in before])
            op_job.append(j)
    n = len(alternatives)
    closed = [
        [(int(a), int(a + rng.integers(1, 13))) for a in rng.integers(0, 90, rng.integers(0, 4))]
        for _ in range(machines)
    ]
    setup = rng.integers(0, 7, (1, families, families))
    return assemble(
        alternatives=alternatives,
        preds=preds,
        op_job=op_job,
        job_due=rng.integers(0, 60, jobs).tolist(),
        n_machines=machines,
        ops={
            "family": rng.integers(0, families, n).tolist(),
            "release": rng.integers(0, 21, n).tolist(),
            "tail": rng.integers(0, 5, n).tolist(),
            "work_center": [0] * n,
        },
        jobs={"weight": rng.integers(1, 10, jobs).tolist()},
        machines={
            "family": rng.integers(-1, families, machines).tolist(),
            "available": rng.integers(0, 6, machines).tolist(),
            "resumable": rng.integers(0, 2, machines).tolist(),
        },
        setup=setup,
        calendar=closed,
    )


def happening(rng: np.random.Generator, problem: Problem) -> Event:
    """One event, at or after now."""
    t = problem.now + int(rng.integers(0, 16))
    machine = problem.machine_ids[rng.integers(problem.n_machines)]
    job = problem.job_ids[rng.integers(problem.n_jobs)]
    until = {"until_ns": (t + int(rng.integers(1, 31))) * 10**9}
    choice = int(rng.integers(0, 8))
    if choice == 5:
        rush = {
            "id": f"rush{problem.n_jobs}", "family": int(rng.integers(problem.setup.shape[1])),
            "release": t, "due": t + 10, "weight": 9,
            "operations": [
                {"alternatives": [[machine, int(rng.integers(1, 10))]]}
                for _ in range(rng.integers(1, 4))
            ],
        }  # fmt: skip
        return _event(t, EventKind.RUSH_ORDER, "rush", {"job": rush})
    kinds: list[tuple[EventKind, str, dict[str, Any]]] = [
        (EventKind.BREAKDOWN, machine, until),
        (EventKind.QUALITY_STOP, machine, until),
        (EventKind.OPERATOR_ABSENT, machine, until),
        (EventKind.RESTORED, machine, {}),
        (EventKind.LATE_MATERIAL, job, until),
        (EventKind.RUSH_ORDER, "", {}),
        (EventKind.ORDERS_CHANGED, "", {"cancelled": [job]}),
        (EventKind.ORDERS_CHANGED, "", {"priority": {job: 9}}),
    ]
    return _event(t, *kinds[choice])


def _event(t: int, kind: EventKind, path: str, payload: dict[str, Any]) -> Event:
    return Event(time_ns=t * 10**9, kind=kind, path=path, payload=payload)


def spoiled(rng: np.random.Generator, problem: Problem, plan: Plan) -> Plan | None:
    """The plan with one operation that works a tick less; None when nothing is left to spoil."""
    free = np.flatnonzero((problem.op_status == OpStatus.FREE) & (plan.end > plan.start))
    if not len(free):
        return None
    end = plan.end.copy()
    end[rng.choice(free)] -= 1
    return Plan(machine=plan.machine, start=plan.start, end=end, setup_start=plan.setup_start)


def run(task: tuple[int, int]) -> dict[str, int]:
    """So many events with one seed; counts by outcome."""
    seed, events = task
    rng = np.random.default_rng(seed)
    tally: collections.Counter[str] = collections.Counter()
    while tally["events"] < events:
        problem = shop(rng)
        plan = construct(problem, Rule(int(rng.integers(len(Rule)))))
        for _ in range(min(CHAIN, events - tally["events"])):
            tally["events"] += 1
            event = happening(rng, problem)
            before, t, n = plan, event.time_ns // 10**9, problem.n_ops
            was = problem.op_status
            try:
                done = react(problem, plan, event, frozen_s=int(rng.integers(0, 11)), iterations=20)
            except InfeasibleError as error:
                tally[f"infeasible: {error}"[:100]] += 1
                break
            problem, plan = done.problem, done.plan
            wrong = verify(problem, plan)
            started = (before.machine >= 0) & (before.start >= 0) & (before.start < t)
            started &= was != OpStatus.CANCELLED
            moved = (plan.machine[:n] != before.machine) | (plan.start[:n] != before.start)
            if wrong:
                tally[f"wrong: {wrong[0].kind}"] += 1
            elif bool((started & moved).any()):
                tally["wrong: moved what had started"] += 1
            else:
                tally["verified"] += 1
            broken = spoiled(rng, problem, plan)
            if broken is not None:
                tally["spoiled"] += 1
                tally["refused"] += bool(verify(problem, broken))
    return dict(tally)


def main() -> None:
    """Print the counts as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    part = 2_000
    tasks = [
        (options.seed * 1_000_003 + k, min(part, options.events - k * part))
        for k in range(-(-options.events // part))
    ]
    total: collections.Counter[str] = collections.Counter()
    clock = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        for found in pool.map(run, tasks):
            total.update(found)
    seconds = time.perf_counter() - clock
    print(json.dumps({**total, "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
