"""Line balancing on the Otto instances within a time, beside CP-SAT in the same run.

    python -m bench.balance [--data DIR] [--every 4] [--seconds 5] [--stations] [--no-peer]
    python -m bench.balance --takt

Fewest stations for the file's cycle; with ``--stations`` the smallest cycle for the best known
number of stations instead. Every balance passes the independent checker. Both get the same wall
time, model building included; the peer is CP-SAT with two workers, default presolve and off, its
better answer taken; it starts from the balance of our priority rules as a complete hint and
range. It comes with ``pip install -e .[bench]``.

``--takt``: the reference line's 92 operations, balanced for 56 s, then for 37 s: with the stations
that the 56 s line has, and with as many as it takes; moved operations, and the output of the rows
of stations in the twin over 20 seeds. The order of operations is that of the line, but for the two
of a station, and those of every third station, which may be done at any time in their zone of ten.
"""

import argparse
import csv
import json
import time
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from workshop_brain.config import built_in
from workshop_brain.schedule.balance.form import contract
from workshop_brain.schedule.balance.line import Line, finer, make_line
from workshop_brain.schedule.balance.read import read_line
from workshop_brain.schedule.balance.rebalance import rebalance
from workshop_brain.schedule.balance.solve import construct, solve
from workshop_brain.schedule.balance.verify import verify_balance
from workshop_brain.schedule.balance.warm import warm_up
from workshop_brain.twin.devices import plant_devices
from workshop_brain.twin.experiment import mean_ci
from workshop_brain.twin.layout import plant_world
from workshop_brain.twin.mixed_line import run_row
from workshop_brain.twin.scenario import REFERENCE


def cp_sat(line: Line, cycle: int | None, first: Any, seconds: float, presolve: bool) -> Any:
    """(value, bound) of CP-SAT; value None when it finds none. Stations, or the cycle.

    ``first`` is the station of each task, from 0, in a balance to begin with.
    """
    from ortools.sat.python import cp_model

    begin = time.perf_counter()
    model = cp_model.CpModel()
    times, most = line.times[0].tolist(), int(first.max()) + 1
    at = [[model.new_bool_var("") for _ in range(most)] for _ in times]
    station = [model.new_int_var(0, most - 1, "") for _ in times]
    longest = model.new_int_var(max(times), sum(times), "") if cycle is None else cycle
    for row, where, begun in zip(at, station, first.tolist(), strict=True):
        model.add_exactly_one(row)
        model.add_hint(where, begun)
        for s, taken in enumerate(row):
            model.add_hint(taken, s == begun)
        model.add(where == sum(s * taken for s, taken in enumerate(row)))
    for s in range(most):
        model.add(sum(t * row[s] for t, row in zip(times, at, strict=True)) <= longest)
    for a, b in line.precedence:
        model.add(station[a] <= station[b])
    last = model.new_int_var(0, most - 1, "")
    model.add_max_equality(last, station)
    model.add_hint(last, most - 1)
    if cycle is None:
        model.add_hint(longest, int(np.bincount(first, weights=times).max()))
    model.minimize(longest if cycle is None else last)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.1, seconds - (time.perf_counter() - begin))
    solver.parameters.num_workers = 2
    solver.parameters.cp_model_presolve = presolve
    status = solver.solve(model)
    more = 0 if cycle is None else 1
    bound = int(np.ceil(solver.best_objective_bound - 1e-6)) + more
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, bound
    return round(solver.objective_value) + more, bound


def _rules(line: Line, cycle: int | None, length: int | None) -> Any:
    """Stations from 0 by our priority rules; without a cycle, in the first one that fits."""
    items, most = contract(line), length or line.n_tasks
    ask = cycle or int(line.cycle or 1)
    while (found := construct(items, ask, most)) is None:
        ask += max(1, ask // 100)
    return found


def measure(row: dict[str, str], data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One instance: ours, checked, and the peer's."""
    line = read_line((data / row["file"]).read_text("utf-8"), row["file"]).line
    assert line.cycle is not None
    cycle = None if options.stations else int(line.cycle)
    length = int(row["upper_bound"]) if options.stations else None
    done = solve(line, cycle=cycle, stations=length, seconds=options.seconds)
    at = dict(zip(line.tasks, done.station.tolist(), strict=True))
    wrong = verify_balance(line, at, cycle=Decimal(done.cycle), stations=done.stations)
    if wrong:
        raise SystemExit(f"{row['file']}: the checker refuses the balance: {wrong[0]}")
    out: dict[str, Any] = {
        "instance": row["instance"],
        "published": [int(row["lower_bound"]), int(row["upper_bound"])],
        "ours": done.value,
        "bound": done.lower_bound,
        "seconds": round(done.seconds, 2),
    }
    if not options.no_peer:
        first = _rules(line, cycle, length)
        found = [cp_sat(line, cycle, first, options.seconds, p) for p in (True, False)]
        values = [v for v, _ in found if v is not None]
        out["cp_sat"] = min(values, default=None)
        out["cp_sat_bound"] = max(b for _, b in found)
    return out


def _print_summary(size: str, rows: list[dict[str, Any]], stations: bool) -> None:
    """Shares of proved, of the best value of all known, and within one station of the bound."""
    n = len(rows)
    text = f"{size}: {n} instances"
    for who, bound in (("ours", "bound"), ("cp_sat", "cp_sat_bound")):
        known = [r for r in rows if r.get(who) is not None]
        if not known and who == "cp_sat":
            continue
        top = [max(r["bound"], r.get("cp_sat_bound", 0)) for r in known]
        best = [min(r["ours"], r.get("cp_sat") or r["ours"]) for r in known]
        if not stations:
            best = [min(b, r["published"][1]) for b, r in zip(best, known, strict=True)]
        proved = sum(r[who] == r[bound] for r in known)
        optimal = sum(r[who] == t for r, t in zip(known, top, strict=True))
        as_best = sum(r[who] == b for r, b in zip(known, best, strict=True))
        near = sum(r[who] <= t + 1 for r, t in zip(known, top, strict=True))
        text += (
            f"; {who}: optimal {optimal}, proved by itself {proved}, best of all {as_best}, "
            f"within 1 of the bound {near}"
        )
    text += f"; our median time {np.median([r['seconds'] for r in rows]):.2f} s"
    print(f"{text}, longest {max(r['seconds'] for r in rows):.2f} s", flush=True)


def reference_tasks() -> Line:
    """The main line's operations, tenths of a second each, and what must come before what."""
    w, names = plant_world(
        built_in().plant, plant_devices(built_in().plant), REFERENCE, seed=1, now_ns=0
    )
    stations = [w.st[names.index(f"st{k:02d}")] for k in range(1, 47)]
    tasks: list[str] = []
    times: list[Decimal] = []
    pairs: list[tuple[str, str]] = []
    last = gate = ""
    for k, row in enumerate(stations, 1):
        own = [f"op{20 * k - 10:03d}", f"op{20 * k:03d}"]
        tasks += own
        times += [Decimal(f"{row[f]:.1f}") for f in ("op1_s", "op2_s")]
        if k % 10 == 1:
            gate = last
        if gate:
            pairs += [(gate, task) for task in own]
        if k % 3 and last and k % 10 != 1:
            pairs += [(last, own[0])]
        pairs.append((own[0], own[1]))
        last = own[1] if k % 3 or not last else last
    return make_line(name="reference line", tasks=tasks, times=[times], precedence=pairs)


def rebalance_takt(seconds: float, seeds: int) -> None:
    """The line for 56 s, then for 37 s."""
    line = finer(reference_tasks(), 1)
    slow = solve(line, cycle=560, seconds=seconds)
    at = dict(zip(line.tasks, slow.station.tolist(), strict=True))
    same = rebalance(line, at, stations=slow.stations, seconds=seconds).balance
    fast = rebalance(line, at, cycle=370, seconds=seconds)
    for name, done, moved in (
        ("56 s", slow, 0),
        ("37 s wanted, no station more", same, int((same.station != slow.station).sum())),
        ("37 s, stations as needed", fast.balance, len(fast.moved)),
    ):
        wrong = verify_balance(
            line,
            dict(zip(line.tasks, done.station.tolist(), strict=True)),
            cycle=Decimal(done.cycle) / 10,
        )
        if wrong:
            raise SystemExit(f"{name}: the checker refuses the balance: {wrong[0]}")
        piles = [sum(time for _, time in pile) for pile in done.piles()]
        rates = [run_row(piles, REFERENCE, seed=9001 + k, hours=48.0) for k in range(seeds)]
        row = {
            "line": name,
            "tasks": line.n_tasks,
            "stations": done.stations,
            "longest_s": round(max(piles), 2),
            "bound": done.lower_bound if done.objective == "stations" else done.lower_bound / 10,
            "moved_tasks": moved,
            "per_hour_in_twin": mean_ci(rates),
            "per_hour_and_station": round(float(np.mean(rates)) / done.stations, 3),
        }
        print(json.dumps(row), flush=True)


def main() -> None:
    """Print one row for each instance, then the shares of each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scheduling"))
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stations", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--takt", action="store_true", help="56 to 37 s on the reference line")
    options = parser.parse_args()
    if options.takt:
        warm_up()
        rebalance_takt(options.seconds, 20)
        return
    with (options.data / "instances.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == "salbp"]
    rows.sort(key=lambda r: (int(r["ops"]), r["instance"]))
    warm_up()
    by_size: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows[options.every // 2 :: options.every]:
        by_size[row["family"]].append(measure(row, options.data, options))
        print(json.dumps(by_size[row["family"]][-1]), flush=True)
    for size, measured in by_size.items():
        _print_summary(size, measured, options.stations)


if __name__ == "__main__":
    main()
