"""From inputs to options: the one computation that decides and that replay repeats.

Deterministic: equal inputs give equal plans, bit for bit, whatever the machine or its load.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop_brain.autonomy.envelope import Move
from workshop_brain.autonomy.holds import holds
from workshop_brain.autonomy.inputs import Inputs
from workshop_brain.autonomy.state import Planned
from workshop_brain.errors import InfeasibleError
from workshop_brain.model.decision import Candidate, Message
from workshop_brain.model.order import JobOrder
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Kpis, Weights, objective
from workshop_brain.schedule.partial import largest_part
from workshop_brain.schedule.plan import Plan, job_orders
from workshop_brain.schedule.react import KEEPING, react
from workshop_brain.schedule.rules import construct
from workshop_brain.schedule.search import improve
from workshop_brain.schedule.structure import OpStatus, Problem
from workshop_brain.schedule.verify import verify

RULES = ("atcs", "foreman", "edd", "spt", "fifo")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What a computation found, best first.

    Attributes
    ----------
    problem
        The problem that the plans solve: frozen and started operations are locked in it.
    previous
        The plan before, on ``problem``; None for a first plan.
    before
        KPIs of following the previous plan as well as it still goes; None for a first plan.
    weights
        What they are judged by.
    unscheduled
        Why orders are left out of all plans, one message an order; empty = none is.
    """

    problem: Problem
    previous: Plan | None
    candidates: tuple[Candidate, ...]
    plans: tuple[Plan, ...]
    before: Kpis | None
    weights: Weights = PLANT_WEIGHTS
    unscheduled: tuple[Message, ...] = ()


def solve(inputs: Inputs) -> Solution:
    """Compute anew from the inputs; InfeasibleError when there is no plan at all."""
    if inputs.kind == "improve":
        return _improved(inputs)
    if inputs.previous is None:
        return _constructed(inputs)
    reaction = react(
        inputs.problem,
        inputs.previous,
        None,
        seed=inputs.seed,
        frozen_s=inputs.frozen_s,
        weights=inputs.weights,
        iterations=inputs.iterations,
    )
    passed = slice(reaction.chosen, None)  # what was preferred to the chosen failed the checker
    candidates, plans = reaction.candidates[passed], reaction.plans[passed]
    stay = next((k for k, c in enumerate(candidates) if c.name == "right_shift"), None)
    before = None
    if stay is not None:
        before = objective(reaction.problem, plans[stay], reaction.previous, inputs.weights)
    return Solution(
        problem=reaction.problem,
        previous=reaction.previous,
        candidates=candidates,
        plans=plans,
        before=before,
        weights=inputs.weights,
        unscheduled=tuple(row.why for row in reaction.unscheduled),
    )


def _constructed(inputs: Inputs) -> Solution:
    """A first plan: the best of the rules, then searched for something better."""
    problem, weights = inputs.problem, inputs.weights
    found: list[tuple[Kpis, str, Plan]] = []
    for name in RULES:
        try:
            plan = construct(problem, name, weights=weights)
        except InfeasibleError:
            continue
        found.append((objective(problem, plan, None, weights), name, plan))
    unscheduled: tuple[Message, ...] = ()
    if not found and problem.limits is not None:
        part = largest_part(problem)
        problem, unscheduled = part.problem, tuple(row.why for row in part.unscheduled)
        found.append((objective(problem, part.plan, None, weights), "part", part.plan))
    if not found:
        raise InfeasibleError("no rule finds a plan; check families and calendars in plant.toml")
    found.sort(key=lambda row: row[0].objective)
    if inputs.iterations > 0:
        better = improve(
            problem,
            found[0][2],
            stable=False,
            iterations=inputs.iterations,
            seed=inputs.seed,
            weights=weights,
        ).plan
        kpis = objective(problem, better, None, weights)
        if kpis.objective < found[0][0].objective:
            found.insert(0, (kpis, f"{found[0][1]}+search", better))
    return Solution(
        problem=problem,
        previous=None,
        candidates=tuple(_candidate(name, kpis) for kpis, name, _ in found),
        plans=tuple(plan for _, _, plan in found),
        before=None,
        weights=weights,
        unscheduled=unscheduled,
    )


def _improved(inputs: Inputs) -> Solution:
    """Deterministic local search from the base plan."""
    base = inputs.base
    if base is None:
        raise InfeasibleError("an improvement needs a plan to start from")
    found = improve(
        inputs.problem,
        base,
        previous=inputs.previous,
        stable=inputs.previous is not None,
        iterations=inputs.iterations,
        seed=inputs.seed,
        weights=inputs.weights,
    )
    before = objective(inputs.problem, base, inputs.previous, inputs.weights)
    after = objective(inputs.problem, found.plan, inputs.previous, inputs.weights)
    return Solution(
        problem=inputs.problem,
        previous=inputs.previous,
        candidates=(_candidate("search", after), _candidate("as_it_was", before)),
        plans=(found.plan, base),
        before=before,
        weights=inputs.weights,
    )


def _candidate(name: str, kpis: Kpis) -> Candidate:
    return Candidate(name=name, kpis=kpis.as_dict(), objective=kpis.objective)


# -- what follows from a plan ------------------------------------------------------------------


def plan_hash(problem: Problem, plan: Plan) -> str:
    """SHA-256 over what the plan says in plant terms: who, where, from when, until when."""
    digest = hashlib.sha256(str(problem.origin_ns).encode())
    digest.update("\n".join((*problem.op_ids, "", *problem.machine_ids)).encode())
    digest.update(plan.fingerprint().encode())
    return digest.hexdigest()


def planned_jobs(problem: Problem, plan: Plan) -> tuple[Planned, ...]:
    """Every job of the plan that is not over, with the jobs whose pieces it needs.

    Priorities are all 0: receivers take the earliest planned start first, which stays true when
    later plans are only partly sent.
    """
    live = [
        o
        for o in range(problem.n_ops)
        if plan.machine[o] >= 0
        and problem.op_status[o] in (OpStatus.FREE, OpStatus.LOCKED, OpStatus.RUNNING)
    ]
    orders = {order.id: order for order in job_orders(problem, plan, live)}
    held = holds(problem, plan, live)
    return tuple(
        Planned(
            order=_plain(orders[problem.op_ids[o]]),
            after=tuple(problem.op_ids[p] for p, _ in problem.preds(o)),
            from_ns=problem.time_ns(held[o].begin) if o in held else 0,
            behind=tuple(problem.op_ids[p] for p in held[o].behind) if o in held else (),
        )
        for o in live
    )


def _plain(order: JobOrder) -> JobOrder:
    values = {name: getattr(order, name) for name in JobOrder.__slots__}
    return JobOrder(**{**values, "priority": 0})


def moves(problem: Problem, old: Plan, new: Plan) -> tuple[Move, ...]:
    """Operations that stand elsewhere in the new plan, as the envelope counts them."""
    free = (problem.op_status == OpStatus.FREE) & (new.machine >= 0)
    changed = free & ((old.machine != new.machine) | (old.start != new.start))
    jumped = _resequenced(problem, old, new)
    out = []
    for o in np.flatnonzero(changed | jumped).tolist():
        was = int(old.machine[o])
        out.append(
            Move(
                op=problem.op_ids[o],
                line=problem.work_center_ids[problem.op_work_center[o]],
                from_unit=problem.machine_ids[was] if was >= 0 else "",
                to_unit=problem.machine_ids[new.machine[o]],
                from_start_ns=problem.time_ns(int(old.start[o])) if was >= 0 else 0,
                to_start_ns=problem.time_ns(int(new.start[o])),
                resequenced=bool(jumped[o]),
            )
        )
    return tuple(out)


def _resequenced(problem: Problem, old: Plan, new: Plan) -> Any:
    """Free operations that changed their place among those that stayed on their machine.

    The fewest that explain the new order: all outside a longest common subsequence.
    """
    out = np.zeros(problem.n_ops, bool)
    stays = (problem.op_status == OpStatus.FREE) & (old.machine >= 0)
    stays &= old.machine == new.machine
    for m in np.unique(new.machine[stays]).tolist():
        ops = np.flatnonzero(stays & (new.machine == m))
        before = ops[np.lexsort((ops, old.start[ops]))]
        rank = {int(o): k for k, o in enumerate(before)}
        after = ops[np.lexsort((ops, new.start[ops]))].tolist()
        kept = _longest_increasing([rank[o] for o in after])
        out[[o for k, o in enumerate(after) if k not in kept]] = True
    return out


def _longest_increasing(values: Sequence[int]) -> set[int]:
    """Positions of one longest increasing subsequence.

    >>> sorted(_longest_increasing([2, 0, 1, 3]))
    [1, 2, 3]
    """
    tails: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for k, value in enumerate(values):
        spot = bisect_left(tails, value)
        before.append(at[spot - 1] if spot else -1)
        if spot == len(tails):
            tails.append(value)
            at.append(k)
        else:
            tails[spot], at[spot] = value, k
    kept: set[int] = set()
    k = at[-1] if at else -1
    while k >= 0:
        kept.add(k)
        k = before[k]
    return kept


def changes(problem: Problem, found: Sequence[Move]) -> tuple[dict[str, Any], ...]:
    """Moves as they stand in the decision record, nearest first."""
    rows = sorted(found, key=lambda m: (m.to_start_ns, m.op))
    return tuple(
        {
            "op": m.op,
            "line": m.line,
            "machine_from": m.from_unit,
            "machine_to": m.to_unit,
            "start_from_ns": m.from_start_ns or None,
            "start_to_ns": m.to_start_ns,
            "resequenced": m.resequenced,
        }
        for m in rows
    )


def effect(before: Kpis | None, after: Candidate) -> dict[str, float]:
    """New minus old for each KPI (against following the old plan as well as it goes)."""
    if before is None:
        return {}
    old = before.as_dict()
    return {name: after.kpis[name] - old[name] for name in sorted(old)}


def findings(problem: Problem, plan: Plan) -> tuple[str, ...]:
    """What the independent checker says against a plan, at most ten entries."""
    return tuple(
        f"{v.kind}: {', '.join(v.ops)} {v.detail}".strip() for v in verify(problem, plan)[:10]
    )


def reasons(
    solution: Solution, chosen: int, moved: Sequence[Move], iterations: int, kind: str
) -> tuple[Message, ...]:
    """Why this plan: each statement can be checked against the candidates and the diff."""
    best, out = solution.candidates[chosen], [*solution.unscheduled]
    others = [c for k, c in enumerate(solution.candidates) if k != chosen]
    if others:
        rival = min(others, key=lambda c: c.objective)
        params = {
            "candidate": best.name,
            "count": len(solution.candidates),
            "objective": round(best.objective),
            "next": round(rival.objective),
            "rival": rival.name,
        }
        out.append(Message(id="reason.best_of", params=params))
    else:
        out.append(Message(id="reason.only_plan", params={"candidate": best.name}))
    out += _price_of_calm(solution, chosen)
    if solution.before is not None:
        out += _effects(solution.before, best)
        counted = sum(1 for m in moved if m.counts)
        id = "reason.moves" if counted else "reason.no_moves"
        out.append(Message(id=id, params={"moves": counted}))
        if kind == "improve" and solution.before.objective > 0:
            gain = 100 * (1 - best.objective / solution.before.objective)
            params = {"gain_pct": round(gain, 1), "iterations": iterations}
            out.append(Message(id="reason.improved", params=params))
    return tuple(out)


def _price_of_calm(solution: Solution, chosen: int) -> list[Message]:
    """Why sequences were kept although another plan scores better, or why they were not."""
    best = solution.candidates[chosen]
    is_calm = _is_calm(best)
    others = [c for c in solution.candidates if _is_calm(c) != is_calm]
    if solution.previous is None or not others:
        return []
    rival = min(others, key=lambda c: c.objective)
    low, high = sorted((best.objective, rival.objective))
    gain = round(100 * (1 - low / high), 1) if high > 0 else 0.0
    if is_calm and rival.objective < best.objective:
        margin = round(100 * solution.weights.calm, 1)
        moved = int(rival.kpis["moves"])
        params = {"rival": rival.name, "gain_pct": gain, "moves": moved, "margin_pct": margin}
        return [Message(id="reason.calm", params=params)]
    if not is_calm and best.objective < rival.objective:
        params = {"moves": int(best.kpis["moves"]), "gain_pct": gain}
        return [Message(id="reason.clear_margin", params=params)]
    return []


def _is_calm(candidate: Candidate) -> bool:
    """Whether a candidate keeps the sequences, polished or not; a search starts from such a one."""
    return candidate.name.removesuffix("+search") in KEEPING | {"search", "as_it_was"}


def _effects(before: Kpis, after: Candidate) -> list[Message]:
    old, new = before.as_dict(), after.kpis
    late = (new["weighted_tardiness_s"] - old["weighted_tardiness_s"]) / 3600
    setup = (new["setup_s"] - old["setup_s"]) / 60
    rate = new["throughput_per_h"] - old["throughput_per_h"]
    return [
        Message(
            id="reason.tardiness",
            params={
                "delta_h": round(late, 2),
                "after_h": round(new["weighted_tardiness_s"] / 3600, 2),
            },
        ),
        Message(
            id="reason.late_orders",
            params={"before": int(old["late_orders"]), "after": int(new["late_orders"])},
        ),
        Message(
            id="reason.setups",
            params={"delta_min": round(setup, 1), "after_min": round(new["setup_s"] / 60, 1)},
        ),
        Message(
            id="reason.throughput",
            params={"delta": round(rate, 2), "after": round(new["throughput_per_h"], 2)},
        ),
    ]
