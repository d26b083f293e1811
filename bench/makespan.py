"""Gap to the best known makespans within a time, beside CP-SAT and PyJobShop in the same run.

    python -m bench.makespan [--data DIR] [--every 8] [--seconds 5] [--seeds 1]
        [--kinds fjsp,jsp,fjsp_sdst,fsp] [--least-ops 0] [--peers cp_sat,pyjobshop]

Takes every n-th instance of the developers' set. Every plan is checked by the independent checker.
Where no best value is published, the best of the run stands for it. Each peer is run in all its
settings (presolve on and off; CP-SAT with 2 and 8 workers), and the best of them counts.
"""

import argparse
import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

from bench.makespan_peers import run, settings
from workshop_brain.schedule.run import read, solve_file_text


def ours(text: str, name: str, seconds: float, seeds: int) -> list[float]:
    """The product's makespan with each seed, two workers; every plan was checked."""
    return [
        float(solve_file_text(text, name=name, seconds=seconds, workers=2, seed=k)["objective"])
        for k in range(1, seeds + 1)
    ]


def compare(row: dict[str, str], data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one instance."""
    text = (data / row["file"]).read_text("utf-8")
    values = ours(text, row["file"], options.seconds, options.seeds)
    out: dict[str, Any] = {"instance": row["file"], "ops": int(row["ops"]), "ours": values}
    is_line = row["kind"] == "fsp"
    for setting in settings(options.peers):
        problem = read(text, row["file"])
        found = run(problem, setting, options.seconds, is_line=is_line)
        out[setting.name] = None if math.isnan(found) else found
    known = [float(row["upper_bound"])] if row["upper_bound"] else []
    for peer in filter(None, options.peers.split(",")):
        found = [v for k, v in out.items() if k.startswith(f"{peer}_") and v is not None]
        out[peer] = min(found) if found else None
        known += found if not row["upper_bound"] else []
    out["best"] = known[0] if row["upper_bound"] else min([*known, *values])
    return out


def summary(kind: str, rows: list[dict[str, Any]], peers: str) -> list[str]:
    """Geometric mean and worst gap of everybody, and who is better how often."""
    lines = []
    for who in ("ours", *filter(None, peers.split(","))):
        gaps = []
        for row in rows:
            value = statistics.median(row[who]) if who == "ours" else row[who]
            if value is not None:
                gaps.append(value / row["best"])
        if not gaps:
            lines.append(f"{kind} {who}: nothing found on {len(rows)} instances")
            continue
        line = (
            f"{kind} {who}: {len(gaps)} of {len(rows)} instances, geometric mean gap "
            f"{100 * (statistics.geometric_mean(gaps) - 1):.2f} %, "
            f"worst {100 * (max(gaps) - 1):.2f} %"
        )
        if who == "ours" and len(rows[0]["ours"]) > 1:
            worst = [max(row["ours"]) / row["best"] for row in rows]
            line += f"; worst seed of each {100 * (statistics.geometric_mean(worst) - 1):.2f} %"
        lines.append(line)
    for peer in filter(None, peers.split(",")):
        sign = [
            -1 if row[peer] is None else _sign(statistics.median(row["ours"]) - row[peer])
            for row in rows
        ]
        lines.append(
            f"{kind}: ours better than {peer} at its best setting on {sign.count(-1)}, "
            f"equal on {sign.count(0)}, worse on {sign.count(1)}"
        )
    return lines


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def main() -> None:
    """Print one row for each instance and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scheduling"))
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--least-ops", type=int, default=0)
    parser.add_argument("--most-ops", type=int, default=5000)
    parser.add_argument("--kinds", default="fjsp,jsp")
    parser.add_argument("--family", default="", help="only families with this in their name")
    parser.add_argument("--peers", default="", help="cp_sat,pyjobshop")
    options = parser.parse_args()
    with (options.data / "instances.csv").open(encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    for kind in options.kinds.split(","):
        fitting = [
            r
            for r in known
            if r["kind"] == kind
            and options.least_ops <= int(r["ops"]) <= options.most_ops
            and options.family in r["family"]
        ]
        rows = []
        for row in fitting[options.every // 2 :: options.every]:
            rows.append(compare(row, options.data, options))
            print(json.dumps(rows[-1]), flush=True)
        for line in summary(kind, rows, options.peers) if rows else []:
            print(line, flush=True)


if __name__ == "__main__":
    main()
