"""A simulated week per policy: wall time, and the figures of the policies beside the foreman's.

Run: python bench/experiment.py [--seeds N] [--days D] [--policies a,b] [--iterations N] [--json]
The first run of a fresh check-out compiles the kernels; a short warm-up run keeps that out.
"""

import argparse
import json
import sys
from typing import Any

from workshop_brain.config import built_in
from workshop_brain.twin.experiment import run_experiment


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--policies", default="foreman,fifo,edd,rule,brain")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plant, policies = built_in().plant, options.policies.split(",")
    run_experiment(plant, policies=policies, seeds=(0,), days=0.05, iterations=10)
    result = run_experiment(
        plant,
        policies=policies,
        seeds=range(1, options.seeds + 1),
        days=options.days,
        iterations=options.iterations,
        progress=_show,
    )
    if options.json:
        print(json.dumps(result, indent=1))
        return 0
    _print(result)
    return 0


def _show(policy: str, seed: int, share: float) -> None:
    print(f"\r{policy:8} seed {seed} {share:4.0%} ", end="", file=sys.stderr, flush=True)


def _print(result: dict[str, Any]) -> None:
    print(
        f"\nscenario {result['scenario']} {result['scenario_fingerprint'][:12]}, "
        f"{result['days']:g} days, {len(result['seeds'])} seeds, "
        f"{result['iterations_per_event']} search moves per event"
    )
    head = ("policy", "pieces", "orders late", "w. tardiness h", "setups", "setup h", "wall s")
    print("{:9}{:>15}{:>15}{:>17}{:>14}{:>15}{:>13}".format(*head))
    for name, row in result["summary"].items():
        cells = [
            _cell(row[f])
            for f in (
                "pieces",
                "orders_late",
                "weighted_tardiness_h",
                "setups",
                "setup_h",
                "wall_s",
            )
        ]
        print("{:9}{:>15}{:>15}{:>17}{:>14}{:>15}{:>13}".format(name, *cells))
    for name, row in result["paired"].items():
        print(f"{name}: captured share of the foreman's gap to the bound {_cell(row['captured'])}")


def _cell(figure: dict[str, Any]) -> str:
    if figure["mean"] is None:
        return "-"
    ci = "" if figure["ci95"] is None else f" ±{figure['ci95']:.3g}"
    return f"{figure['mean']:.4g}{ci}"


if __name__ == "__main__":
    sys.exit(main())
