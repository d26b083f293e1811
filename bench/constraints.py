"""The reference plant with all constraints on together: ``python -m bench.constraints``.

Orders of the built-in plant, with grinding wheels, people with skills for runs and changeovers,
places before assembly, lots that must not lie too long, deadlines, movable maintenance and a power
tariff, made by seed. Prints the best rule, what is found within so many seconds, and reactions to
breakdowns; every plan is checked.
"""

import argparse
import json
import time

import numpy as np

from workshop_brain.config import built_in
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.order import WorkRequest
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool
from workshop_brain.schedule.objective import objective
from workshop_brain.schedule.problem import PlantState, build
from workshop_brain.schedule.react import react, with_job
from workshop_brain.schedule.rules import Rule, construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import Problem
from workshop_brain.schedule.verify import verify
from workshop_brain.schedule.warm import warm_up

_NOW = 1_700_000_000 * 10**9
_HOUR = 3600


def reference(seed: int, requests: int = 40) -> Problem:
    """Orders of the reference plant under all constraints."""
    rng = np.random.default_rng(seed)
    plant = built_in().plant
    orders = [
        WorkRequest(
            id=f"R{k:02d}",
            product=plant.products[k % len(plant.products)].id,
            quantity=int(rng.integers(40, 200)),
            priority=int(rng.choice([1, 3, 9])),
            due_ns=_NOW + int(rng.integers(12, 72)) * _HOUR * 10**9,
        )
        for k in range(requests)
    ]
    problem = build(plant, orders, PlantState(), _NOW)
    center = {id: k for k, id in enumerate(problem.work_center_ids)}
    machines = {id: np.flatnonzero(problem.machine_work_center == k) for id, k in center.items()}
    upkeep = {
        f"OIL-{x}": (int(m), int(rng.integers(2, 8)) * _HOUR)
        for x, m in enumerate(machines["soft"][:2])
    }
    for id, (m, earliest) in upkeep.items():
        job = {"id": id, "family": 0, "release": earliest, "due": None, "weight": 0}
        alternatives = [[problem.machine_ids[m], _HOUR]]
        problem = with_job(problem, job | {"operations": [{"alternatives": alternatives}]})
    family = problem.op_family.copy()
    neutral = [problem.op(f"{id}.0") for id in upkeep]
    family[neutral] = -1
    deadlines = [(o, upkeep[id][1] + 30 * _HOUR) for o, id in zip(neutral, upkeep, strict=True)]
    deadlines += [(int(o), 14 * 24 * _HOUR) for o in rng.choice(_last(problem), 3, replace=False)]

    def of(id: str) -> list[int]:
        return np.flatnonzero(problem.op_work_center == center[id]).tolist()

    line = {o for o in of("asm1")}
    into = [(p, o) for o in line for p, _ in problem.preds(o)]
    grinding = set(of("hard"))
    lag = {(p, o): next(x for q, x in problem.preds(o) if q == p) for p, o in into}
    shifts = tuple((day * 24 * _HOUR, (day * 24 + 1) * _HOUR) for day in range(1, 12))
    return problem.with_(
        op_family=family,
        limits=Limits(
            tools=(Tool(id="wheel", quantity=3, closed=((9 * _HOUR, 10 * _HOUR),)),),
            operators=(
                Operator(id="li", skills=("run", "set"), closed=shifts),
                Operator(id="wu", skills=("run", "set")),
                *(Operator(id=f"op{k}", skills=("run",)) for k in range(5)),
                Operator(id="fu", skills=("furnace",)),
                Operator(id="xu", skills=("furnace", "run")),
            ),
            buffers=(Buffer(id="before line", capacity=6), Buffer(id="none", capacity=0)),
            op_needs=tuple((o, "wheel", 1) for o in sorted(grinding)),
            machine_needs=tuple((int(m), "run", 1) for m in machines["soft"]),
            op_setup_needs=((of("housing")[0], "run", 1),),
            machine_setup_needs=tuple(
                (int(m), "set", 1) for id in ("soft", "hard", "housing") for m in machines[id]
            ),
            max_lags=tuple((p, o, x + 60 * _HOUR) for (p, o), x in lag.items() if p in grinding),
            buffered=tuple(
                (p, o, "before line") for p, o in into if p in grinding and problem.op_job[o] % 2
            ),
            deadlines=tuple(deadlines),
            tariff=tuple(
                (h * _HOUR, price)
                for day in range(12)
                for h, price in ((24 * day, 0.6), (24 * day + 8, 1.3), (24 * day + 20, 0.6))
            ),
            power_kw=tuple(float(x) for x in rng.integers(5, 40, problem.n_machines)),
        ),
    )


def _last(problem: Problem) -> np.ndarray:
    return np.flatnonzero(np.diff(problem.sink_ptr) > 0)


def measure(seed: int, requests: int, seconds: float, events: int) -> dict[str, object]:
    """All figures of one instance."""
    problem = reference(seed, requests)
    rules = {rule.name.lower(): construct(problem, rule) for rule in Rule}
    values = {name: objective(problem, plan).objective for name, plan in rules.items()}
    best = min(values, key=lambda name: values[name])
    found = improve(problem, rules[best], seconds=seconds, workers=2, seed=seed, stable=False)
    checked = [*rules.values(), found.plan]
    if any(verify(problem, plan) for plan in checked):
        raise SystemExit("the checker refuses a plan")
    times = []
    for k in range(events):
        t = problem.origin_ns + (1 + k) * _HOUR * 10**9 // 2
        event = Event(
            time_ns=t,
            kind=EventKind.BREAKDOWN,
            path=problem.machine_ids[k % problem.n_machines],
            payload={"until_ns": t + 2 * _HOUR * 10**9},
        )
        times.append(react(problem, found.plan, event, frozen_s=900).react_ms)
    return {
        "seed": seed,
        "ops": problem.n_ops,
        "machines": problem.n_machines,
        "rules": {name: round(value) for name, value in values.items()},
        "found": round(found.objective),
        "percent_below_best_rule": round(100 * (1 - found.objective / values[best]), 1),
        "moves_per_s": round(found.moves / found.seconds),
        "react_ms": [round(float(np.percentile(times, q)), 1) for q in (50, 99)] if times else [],
        "first_react_ms": round(times[0], 1) if times else None,
    }


def main() -> None:
    """Print one JSON line per seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--events", type=int, default=20)
    options = parser.parse_args()
    clock = time.perf_counter()
    warm_up()
    print(json.dumps({"warm_up_s": round(time.perf_counter() - clock, 2)}), flush=True)
    for seed in range(1, options.seeds + 1):
        row = measure(seed, options.requests, options.seconds, options.events)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
