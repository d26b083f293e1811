"""CP-SAT and PyJobShop on makespan problems, each run in a process of its own.

The plain models that their manuals show: optional intervals, no overlap on machines, a circuit for
changeovers, one sequence for all machines of a permutation flow shop. A run that crashes or finds
nothing gives NaN. Both come with ``pip install -e .[bench]``.
"""

import math
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from multiprocessing.connection import Connection
from typing import Any

from workshop_brain.schedule.structure import Problem

_LEAST_SPARE_S = 60.0
"""A peer may overrun its limit by this before its process is ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a peer is run."""

    peer: str
    presolve: bool
    workers: int

    @property
    def name(self) -> str:
        """As printed, such as ``cp_sat_8_off``."""
        return f"{self.peer}_{self.workers}_{'on' if self.presolve else 'off'}"


def settings(peers: str) -> list[Setting]:
    """Presolve on and off; CP-SAT with 2 and with 8 workers, PyJobShop with 2."""
    out = []
    for peer in filter(None, peers.split(",")):
        for workers in (2, 8) if peer == "cp_sat" else (2,):
            out += [Setting(peer=peer, presolve=on, workers=workers) for on in (True, False)]
    return out


def run(problem: Problem, setting: Setting, seconds: float, *, is_line: bool) -> float:
    """A peer's makespan within so many seconds of solving; building its model is free of charge."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    task = context.Process(target=_run, args=(theirs, problem, setting, seconds, is_line))
    task.start()
    theirs.close()
    try:
        found = float(mine.recv()) if mine.poll(seconds + _LEAST_SPARE_S) else math.nan
    except EOFError:  # it crashed
        found = math.nan
    task.kill()
    task.join()
    return found


def _run(
    out: Connection, problem: Problem, setting: Setting, seconds: float, is_line: bool
) -> None:
    solve: Callable[[Problem, Setting, float, bool], float]
    solve = cp_sat if setting.peer == "cp_sat" else pyjobshop
    out.send(solve(problem, setting, seconds, is_line))


def cp_sat(problem: Problem, setting: Setting, seconds: float, is_line: bool) -> float:
    """CP-SAT's makespan, NaN when it finds none."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    horizon = int(problem.alt_duration.sum() + problem.setup.max(initial=0) * problem.n_ops)
    on_machine: list[list[tuple[int, Any, Any]]] = [[] for _ in range(problem.n_machines)]
    start = [model.new_int_var(0, horizon, "") for _ in range(problem.n_ops)]
    end = [model.new_int_var(0, horizon, "") for _ in range(problem.n_ops)]
    for o in range(problem.n_ops):
        chosen = []
        for m, work in problem.alternatives(o).items():
            taken = model.new_bool_var("")
            span = model.new_optional_interval_var(start[o], work, end[o], taken, "")
            on_machine[m].append((o, span, taken))
            chosen.append(taken)
        model.add_exactly_one(chosen)
        for p, lag in problem.preds(o):
            model.add(start[o] >= end[p] + lag)
    for m, rows in enumerate(on_machine):
        model.add_no_overlap([span for _, span, _ in rows])
        if problem.setup[problem.machine_work_center[m]].any():
            _circuit(model, problem, m, rows, start, end)
    if is_line:
        _one_sequence(model, problem, on_machine, start, end)
    makespan = model.new_int_var(0, horizon, "")
    model.add_max_equality(makespan, end)
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = setting.workers
    solver.parameters.cp_model_presolve = setting.presolve
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return float(solver.objective_value) if found else math.nan


def _circuit(model: Any, problem: Problem, m: int, rows: Any, start: Any, end: Any) -> None:
    arcs = [(0, 0, model.new_bool_var(""))]
    for i, (o, _, taken) in enumerate(rows, 1):
        own = int(problem.op_family[o])
        first = model.new_bool_var("")
        arcs += [(0, i, first), (i, 0, model.new_bool_var("")), (i, i, taken.negated())]
        change = problem.setup_between(m, int(problem.machine_family[m]), own)
        model.add(start[o] >= change).only_enforce_if(first)
        for k, (x, _, _) in enumerate(rows, 1):
            if k != i:
                arc = model.new_bool_var("")
                arcs.append((i, k, arc))
                change = problem.setup_between(m, own, int(problem.op_family[x]))
                model.add(start[x] >= end[o] + change).only_enforce_if(arc)
    model.add_circuit(arcs)


def _one_sequence(model: Any, problem: Problem, on_machine: Any, start: Any, end: Any) -> None:
    """No job overtakes: whoever is first on one machine is first on all."""
    ops = [{int(problem.op_job[o]): o for o, _, _ in rows} for rows in on_machine]
    for a, b in combinations(range(problem.n_jobs), 2):
        is_first = model.new_bool_var("")
        for of in ops:
            model.add(start[of[b]] >= end[of[a]]).only_enforce_if(is_first)
            model.add(start[of[a]] >= end[of[b]]).only_enforce_if(is_first.negated())


def pyjobshop(problem: Problem, setting: Setting, seconds: float, is_line: bool) -> float:
    """PyJobShop's makespan, NaN when it finds none."""
    from pyjobshop import Model

    model = Model()
    machines = [model.add_machine() for _ in range(problem.n_machines)]
    tasks = [model.add_task() for _ in range(problem.n_ops)]
    on_machine: list[list[int]] = [[] for _ in machines]
    for o, task in enumerate(tasks):
        for m, work in problem.alternatives(o).items():
            model.add_mode(task, machines[m], work)
            on_machine[m].append(o)
        for p, lag in problem.preds(o):
            model.add_end_before_start(tasks[p], task, lag)
    for m, rows in enumerate(on_machine):
        if not problem.setup[problem.machine_work_center[m]].any():
            continue
        for a in rows:
            for b in rows:
                family = int(problem.op_family[a])
                change = problem.setup_between(m, family, int(problem.op_family[b]))
                if a != b and change:
                    model.add_setup_time(machines[m], tasks[a], tasks[b], change)
    if is_line:
        by_job = [sorted(rows, key=lambda o: int(problem.op_job[o])) for rows in on_machine]
        for m in range(1, len(machines)):
            one, two = ([tasks[o] for o in by_job[k]] for k in (m - 1, m))
            model.add_same_sequence(machines[m - 1], machines[m], one, two)
    done = model.solve(
        time_limit=seconds,
        display=False,
        num_workers=setting.workers,
        cp_model_presolve=setting.presolve,
    )
    found = done.status.value in ("Optimal", "Feasible")
    return float(done.objective) if found else math.nan
