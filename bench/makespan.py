"""Gap to the best known makespans within a time, beside CP-SAT in the same run.

    python -m bench.makespan [--data DIR] [--every 8] [--seconds 5] [--peer] [--kinds fjsp,jsp]

Takes every n-th instance with a best known value from the developers' set. Every plan is checked by
the independent checker. The peer is CP-SAT with two workers and presolve off (its default setting
returns nothing on larger instances within this time), with intervals and no other tuning; it comes
with ``pip install -e .[bench]``.
"""

import argparse
import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

from workshop_brain.schedule.run import read, solve_file_text
from workshop_brain.schedule.structure import Problem


def cp_sat(problem: Problem, seconds: float) -> float:
    """CP-SAT's makespan, NaN when it finds none."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    horizon = int(problem.alt_duration.sum())
    on_machine: list[list[Any]] = [[] for _ in range(problem.n_machines)]
    start = [model.new_int_var(0, horizon, "") for _ in range(problem.n_ops)]
    end = [model.new_int_var(0, horizon, "") for _ in range(problem.n_ops)]
    for o in range(problem.n_ops):
        chosen = []
        for m, work in problem.alternatives(o).items():
            taken = model.new_bool_var("")
            on_machine[m].append(model.new_optional_interval_var(start[o], work, end[o], taken, ""))
            chosen.append(taken)
        model.add_exactly_one(chosen)
        for p, lag in problem.preds(o):
            model.add(start[o] >= end[p] + lag)
    for intervals in on_machine:
        model.add_no_overlap(intervals)
    span = model.new_int_var(0, horizon, "")
    model.add_max_equality(span, end)
    model.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 2
    solver.parameters.cp_model_presolve = False
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return float(solver.objective_value) if found else math.nan


def main() -> None:
    """Print one row for each instance and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scheduling"))
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--most-ops", type=int, default=5000)
    parser.add_argument("--kinds", default="fjsp,jsp")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    with (options.data / "instances.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["upper_bound"]]
    for kind in options.kinds.split(","):
        gaps: dict[str, list[float]] = {"ours": [], "cp_sat": []}
        chosen = [r for r in rows if r["kind"] == kind and int(r["ops"]) <= options.most_ops]
        for row in chosen[options.every // 2 :: options.every]:
            text = (options.data / row["file"]).read_text("utf-8")
            best = float(row["upper_bound"])
            done = solve_file_text(
                text, name=row["file"], seconds=options.seconds, workers=2, seed=1
            )
            out = {"instance": row["file"], "ops": row["ops"], "best_known": best,
                   "ours": done["objective"]}  # fmt: skip
            gaps["ours"].append(done["objective"] / best)
            if options.peer:
                out["cp_sat"] = cp_sat(read(text, row["file"]), options.seconds)
                if not math.isnan(out["cp_sat"]):
                    gaps["cp_sat"].append(out["cp_sat"] / best)
            print(json.dumps(out), flush=True)
        for who, ratios in gaps.items():
            if ratios:
                mean, worst = statistics.geometric_mean(ratios), max(ratios)
                print(f"{kind} {who}: {len(ratios)} instances, geometric mean gap "
                      f"{100 * (mean - 1):.2f} %, worst {100 * (worst - 1):.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
