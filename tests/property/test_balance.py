"""Line balancing: as good as trying everything, and the checker refuses every broken balance."""

import itertools
from decimal import Decimal

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.errors import InfeasibleError
from workshop_brain.schedule.balance.line import Line, Model, make_line
from workshop_brain.schedule.balance.solve import Balance, solve
from workshop_brain.schedule.balance.verify import verify_balance

FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
MOST = 4
EQUIPMENT = {1: ("press",), 2: ("press", "leak test"), 3: ("leak test",)}


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Up to seven tasks, one or two models, any mix of restrictions."""
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    n = int(rng.integers(2, 8))
    tasks = [f"t{k}" for k in range(n)]
    models = [Model(name="A", demand=int(rng.integers(1, 4)))]
    if rng.random() < 0.5:
        limit = [None, Decimal("1.2"), Decimal(10)][rng.integers(0, 3)]
        models.append(Model(name="B", limit=limit, is_share=limit == Decimal("1.2")))
    pairs = [(a, b) for a, b in itertools.combinations(tasks, 2) if rng.random() < 0.25]
    some = [t for t in tasks if rng.random() < 0.15]
    while True:
        try:
            return make_line(
                name="line",
                tasks=tasks,
                times=[[Decimal(int(x)) for x in rng.integers(0, 9, n)] for _ in models],
                models=models,
                precedence=pairs,
                fixed={t: int(rng.integers(1, MOST + 1)) for t in some[:1]},
                forbidden={t: [int(rng.integers(1, MOST))] for t in some[1:2]},
                together=[tasks[k : k + 2] for k in range(n - 1) if rng.random() < 0.08],
                apart=[(tasks[k], tasks[-1]) for k in range(n - 1) if rng.random() < 0.1],
                needs={t: ["press"] for t in tasks if rng.random() < 0.1},
                equipment=EQUIPMENT,
            )
        except InfeasibleError:
            some = []


def all_balances(line: Line) -> np.ndarray:
    """Every assignment to MOST stations that keeps all but the times: shape (count, n_tasks)."""
    at = np.indices([MOST] * line.n_tasks).reshape(line.n_tasks, -1).T + 1
    good = np.ones(len(at), bool)
    for a, b in line.precedence:
        good &= at[:, a] <= at[:, b]
    for row in line.together:
        good &= (at[:, list(row)] == at[:, row[:1]]).all(axis=1)
    for a, b in line.apart:
        good &= at[:, a] != at[:, b]
    for task, station in line.fixed.items():
        good &= at[:, task] == station
    for task, stations in line.forbidden.items():
        good &= ~np.isin(at[:, task], list(stations))
    for task, need in line.needs.items():
        good &= np.isin(at[:, task], [s for s, has in line.equipment.items() if need <= has])
    return at[good]


def keeps_times(line: Line, at: np.ndarray, cycle: int) -> np.ndarray:
    """Which assignments keep the cycle and the models' limits."""
    demand = np.array([m.demand for m in line.models])
    good = np.ones(len(at), bool)
    for station in range(1, MOST + 1):
        work = (at == station).astype(int) @ line.times.T
        good &= work @ demand <= cycle * demand.sum()
        for k, model in enumerate(line.models):
            if model.limit is not None:
                most = model.limit * (cycle if model.is_share else 1)
                good &= work[:, k] <= float(most)
    return good


def breaches(balance: Balance, stations: int | None = None) -> list[str]:
    line = balance.line
    at = dict(zip(line.tasks, balance.station.tolist(), strict=True))
    found = verify_balance(line, at, cycle=Decimal(balance.cycle), stations=stations)
    return [b.kind for b in found]


@FEW
@given(lines(), st.integers(6, 14))
def test_the_fewest_stations_are_those_of_trying_everything(line: Line, cycle: int) -> None:
    at = all_balances(line)
    at = at[keeps_times(line, at, cycle)]
    try:
        found = solve(line, cycle=cycle, stations=MOST, seconds=60.0)
    except InfeasibleError:
        assert len(at) == 0
        return
    assert breaches(found, MOST) == []
    assert found.is_optimal
    assert found.stations == at.max(axis=1).min()


@FEW
@given(lines())
def test_the_smallest_cycle_is_that_of_trying_everything(line: Line) -> None:
    at = all_balances(line)
    fitting = (c for c in range(1, 120) if keeps_times(line, at, c).any())
    best = next(fitting, None)
    try:
        found = solve(line, stations=MOST, seconds=60.0)
    except InfeasibleError:
        assert best is None
        return
    assert breaches(found, MOST) == []
    assert found.is_optimal
    assert found.cycle == best
