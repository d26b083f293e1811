"""Paired comparison of policies on the simulated plant in accelerated time, without protocols.

Every policy meets the same plant, orders and random numbers (counter-based draws), so differences
are the policies' own. Figures: pieces out of the line, weighted tardiness, late orders,
changeovers, and how much of the way from the foreman to the throughput bound a policy captures.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from workshop_brain.model.order import WorkRequest
from workshop_brain.model.plant import Plant, WorkCenterKind
from workshop_brain.model.state import StopReason
from workshop_brain.twin.board import Board
from workshop_brain.twin.orders import order_book
from workshop_brain.twin.policies import Policy, make_policy, tardiness_s
from workshop_brain.twin.scenario import REFERENCE, Scenario
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_DAY, NS_PER_H, NS_PER_S

DEFAULT_START_NS = 1_772_380_800 * NS_PER_S
"""Monday 2 March 2026, 00:00 in Shanghai: the plant opens."""
BOOK_DAYS = 28
WIP_PIECES = 400
"""Pieces that the line (or running jobs) may hold at the start; the bound lets all come out."""
POLICIES = ("foreman", "fifo", "edd", "rule", "brain")
# two-sided 95 % quantiles of Student's t for 1 .. 30 degrees of freedom
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
Progress = Callable[[str, int, float], None]


def run_experiment(
    plant: Plant,
    *,
    policies: Sequence[str] = ("foreman", "fifo", "rule"),
    seeds: Sequence[int] = (1, 2, 3),
    days: float = 7.0,
    scenario: Scenario = REFERENCE,
    iterations: int = 2000,
    start_ns: int = DEFAULT_START_NS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run every policy on every seed and compare them; a JSON-able result.

    Parameters
    ----------
    iterations
        Search moves that the brain may spend per event; printed in the result.
    progress
        Called with policy, seed and share done of that run, 0..1.
    """
    for name in policies:
        make_policy(name)
    runs = []
    for seed in seeds:
        for name in policies:
            policy = make_policy(name, iterations=iterations)
            runs.append(_run(plant, policy, seed, days, scenario, start_ns, progress))
    return {
        "scenario": scenario.name,
        "scenario_fingerprint": fingerprint(plant, scenario),
        "start_ns": start_ns,
        "days": days,
        "seeds": list(seeds),
        "policies": list(policies),
        "iterations_per_event": iterations,
        "runs": runs,
        "summary": {name: _summary(runs, name) for name in policies},
        "paired": {name: _paired(runs, name) for name in policies if "foreman" in policies},
    }


def fingerprint(plant: Plant, scenario: Scenario) -> str:
    """SHA-256 of the plant's master data and the scenario's parameters, process-independent."""
    facts = {"scenario": asdict(scenario), "plant": asdict(plant)}
    text = json.dumps(facts, sort_keys=True, default=sorted)
    return hashlib.sha256(text.encode()).hexdigest()


def _run(
    plant: Plant,
    policy: Policy,
    seed: int,
    days: float,
    scenario: Scenario,
    start_ns: int,
    progress: Progress | None,
) -> dict[str, Any]:
    begin = time.perf_counter()
    book = order_book(plant, seed, start_ns, BOOK_DAYS, scenario)
    sim = PlantSim(plant, seed=seed, start_ns=start_ns, scenario=scenario, recording=False)
    board = Board(sim, book)
    end_ns = start_ns + int(days * NS_PER_DAY)
    news = sim.drain_notices()
    shown = start_ns
    while True:
        wake_ns = policy.act(board, news)
        board.hear(sim.drain_notices())
        if sim.now_ns >= end_ns:
            break
        news = sim.advance_to_notice(min(end_ns, max(wake_ns, sim.now_ns + NS_PER_S)))
        board.hear(news)
        if progress is not None and sim.now_ns - shown > 6 * NS_PER_H:
            shown = sim.now_ns
            progress(policy.name, seed, (shown - start_ns) / (end_ns - start_ns))
    if progress is not None:
        progress(policy.name, seed, 1.0)
    return _result(sim, policy, book, seed, end_ns) | {"wall_s": time.perf_counter() - begin}


def _result(
    sim: PlantSim, policy: Policy, book: Sequence[WorkRequest], seed: int, end_ns: int
) -> dict[str, Any]:
    """Figures of one run; orders that are not done count as done at the end when overdue."""
    metrics = sim.metrics()
    tardiness, late, finished = 0.0, 0, 0
    for request in book:
        done = sim.request_done_ns(request.id)
        finished += done > 0
        lateness = tardiness_s(request, done or end_ns)
        tardiness += lateness
        late += lateness > 0
    bound = throughput_bound(sim, book, end_ns)
    return {
        "policy": policy.name,
        "seed": seed,
        "pieces": metrics["finished"],
        "scrapped": metrics["scrapped"],
        "orders_finished": finished,
        "orders_late": late,
        "weighted_tardiness_h": tardiness / 3600.0,
        "setups": sum(metrics["setups"].values()),
        "setup_h": sum(metrics["setup_s"].values()) / 3600.0,
        "bound_pieces": bound,
        "events": metrics["events"],
        "fingerprint": sim.fingerprint(),
        "decisions": policy.report(),
    }


def throughput_bound(sim: PlantSim, book: Sequence[WorkRequest], end_ns: int) -> float:
    """Pieces that no policy can finish more of in the time, given the orders there are.

    For each work center: open hours of its units less the stops of their own that happened in this
    run (breakdowns, micro-stops, tool changes, missing operators), filled with the released orders
    that need least of it; changeovers count as zero. The line counts at planned pace with the stops
    of its slowest station alone. Pieces in the plant at the start need only the last steps, so the
    upstream centers get the pieces that had passed them on top. The bound is the smallest.
    """
    plant, seconds = sim.plant, sim.metrics()["seconds"]
    best = math.inf
    for center in plant.work_centers:
        closed = center.calendar.closed(sim.start_ns, end_ns)
        open_s = (end_ns - sim.start_ns - sum(b - a for a, b in closed)) / NS_PER_S
        loads = center.capacity if center.kind is WorkCenterKind.BATCH else 1
        if center.kind is WorkCenterKind.LINE:
            slowest = f"st{sim.scenario.bottleneck_station:02d}"
            hours = open_s - _stops_s(seconds.get(slowest, {}))
        else:
            hours = sum((open_s - _stops_s(seconds.get(u.id, {}))) * u.speed for u in center.units)
        passed = sum(r.good for r in sim.job_list(center.id) if 0 < r.end_ns < sim.start_ns)
        needs = sorted(
            (step.seconds / loads, request.quantity)
            for request in book
            if request.release_ns < end_ns
            for step in plant.product(request.product).routing
            if step.work_center == center.id
        )
        best = min(best, passed + _filled(hours, needs) + WIP_PIECES)
    return best


def _filled(hours: float, needs: Sequence[tuple[float, int]]) -> float:
    """Pieces that fit into some seconds when those with the least content go first."""
    pieces = 0.0
    for content, quantity in needs:
        fit = min(float(quantity), hours / content)
        pieces += fit
        hours -= fit * content
        if hours <= 0:
            break
    return pieces


def _stops_s(spent: dict[str, float]) -> float:
    own = (
        StopReason.BREAKDOWN,
        StopReason.MICRO_STOP,
        StopReason.TOOL_CHANGE,
        StopReason.NO_OPERATOR,
    )
    return sum(spent.get(reason.name.lower(), 0.0) for reason in own)


_FIGURES = (
    "pieces", "orders_finished", "orders_late", "weighted_tardiness_h", "setups", "setup_h",
    "bound_pieces", "wall_s",
)  # fmt: skip


def _summary(runs: Sequence[dict[str, Any]], policy: str) -> dict[str, Any]:
    """Mean and half width of the 95 % confidence interval of every figure over the seeds."""
    own = [r for r in runs if r["policy"] == policy]
    return {figure: mean_ci([float(r[figure]) for r in own]) for figure in _FIGURES}


def _paired(runs: Sequence[dict[str, Any]], policy: str) -> dict[str, Any]:
    """Differences to the foreman seed by seed, and the captured share of the gap to the bound."""
    base = {r["seed"]: r for r in runs if r["policy"] == "foreman"}
    own = {r["seed"]: r for r in runs if r["policy"] == policy}
    out: dict[str, Any] = {}
    for figure in ("pieces", "orders_late", "weighted_tardiness_h", "setup_h"):
        out[figure] = mean_ci([own[s][figure] - base[s][figure] for s in base if s in own])
    shares = [
        (own[s]["pieces"] - base[s]["pieces"]) / (base[s]["bound_pieces"] - base[s]["pieces"])
        for s in base
        if s in own and base[s]["bound_pieces"] > base[s]["pieces"]
    ]
    out["captured"] = mean_ci(shares)
    return out


def mean_ci(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and half width of its 95 % confidence interval (Student's t); None with one value.

    >>> mean_ci([1.0, 3.0])
    {'mean': 2.0, 'ci95': 12.706, 'n': 2}
    """
    n = len(values)
    if n == 0:
        return {"mean": None, "ci95": None, "n": 0}
    mean = sum(values) / n
    if n == 1:
        return {"mean": mean, "ci95": None, "n": 1}
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    t = _T95[n - 2] if n - 2 < len(_T95) else 1.96
    return {"mean": mean, "ci95": t * deviation / math.sqrt(n), "n": n}
