"""The simulated plant's assembly line alone: who enters when, in which order, what that gives.

The same kernel, stations, feeders, testers, benches, rework and tool changes as in the whole plant;
material is always there and the calendar is open, so that the line's own rules can be compared.
Missing operators, which come with shifts, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.plant import Plant
from workshop_brain.model.state import StopReason
from workshop_brain.schedule.balance.flow import Flow, Loops, no_limit
from workshop_brain.schedule.balance.release import Outcome, ReleaseTrial
from workshop_brain.schedule.balance.sequence import levelled
from workshop_brain.twin import des, draws, world
from workshop_brain.twin.devices import line_center, plant_devices
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.layout import Draft, build_world, plant_world, station_numbers
from workshop_brain.twin.scenario import Scenario
from workshop_brain.twin.world import World
from workshop_brain.units import NS_PER_H, NS_PER_S

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
STAGES = (
    *((f"st{k:02d}",) for k in range(1, 39)),
    tuple(f"leak{k}" for k in range(1, 5)),
    *((f"st{k:02d}",) for k in range(39, 47)),
    tuple(f"leak{k}" for k in range(5, 9)),
    tuple(f"oil{k}" for k in range(1, 5)),
    tuple(f"eol{k:02d}" for k in range(1, 13)),
)
"""Stations of the main line in order; those of one entry work in parallel."""
FEEDER_STAGES = tuple((f"{p}{k}",) for p in ("sh", "df", "cl", "vb") for k in range(1, 7))
PLANNED_S = 37.0
ORDERS = ("lots", "family", "levelled")
WINDOW = 600
"""Units whose order is decided at once, about a shift."""
_WAITS = (StopReason.STARVED, StopReason.BLOCKED, StopReason.NO_JOB, StopReason.SETUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePolicy:
    """How the line is run.

    Attributes
    ----------
    order
        ``lots``: family first, then as ordered, like the foreman; ``family``: the models of a
        family alternate; ``levelled``: all models alternate.
    loops
        Release control; stations are positions in STAGES, the last stands for the whole line.
    tool_wear, tool_idle_wear
        Wear at which a tool is changed, and at which it is when the station waits for a piece.
    """

    order: str = "lots"
    loops: Loops = field(default_factory=no_limit)
    tool_wear: float = 1.0
    tool_idle_wear: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDay:
    """One simulated run, after the filling of the line.

    Attributes
    ----------
    per_hour, in_line
        Good units an hour, and mean units in the line.
    bound_per_hour
        Rate of the slowest stage if it never waited and never changed over: its own stops
        in this run count, nothing else does.
    """

    per_hour: float
    in_line: float
    bound_per_hour: float
    setups: int
    tools: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSetting:
    """What all policies meet alike.

    Attributes
    ----------
    mix
        Weight of each product in the order book.
    is_mixed
        No changeover between families at the line's head; else those of the plant file.
    every_s
        Seconds between units that the orders ask for; 0: more than the line can make.
    """

    plant: Plant
    scenario: Scenario
    mix: tuple[float, ...]
    is_mixed: bool = True
    every_s: float = 0.0
    hours: float = 48.0
    warm_hours: float = 4.0


def line_flow(plant: Plant, scenario: Scenario) -> Flow:
    """The main line's data for the recursion of ``schedule.balance``: one station a stage."""
    w, names = plant_world(plant, plant_devices(plant), scenario, seed=1, now_ns=0)
    at = {name: k for k, name in enumerate(names)}
    rows = [w.st[at[stage[0]]] for stage in STAGES]
    cycle = np.array([float(r["cycle_s"]) for r in rows])

    def column(name: str) -> Floats:
        return np.array([float(r[name]) for r in rows])

    return Flow(
        cycle_s=_seconds(plant)[:, None] / PLANNED_S * cycle,
        places=np.array([int(w.bf["capacity"][r["output"]]) for r in rows[:-1]], np.int64),
        servers=np.array([len(stage) for stage in STAGES], np.int64),
        mtbf_s=column("mtbf_s"),
        mttr_s=column("mttr_s"),
        stop_p=column("micro_p"),
        stop_s=column("micro_s"),
    )


def _seconds(plant: Plant) -> Floats:
    """Planned seconds of each product at the line."""
    line = line_center(plant)
    if line is None:
        raise ValueError("the plant has no assembly line")
    return np.array([product.step(line.id).seconds for product in plant.products], np.float64)


def with_availability(plant: Plant, scenario: Scenario, share: float) -> Scenario:
    """The scenario with repairs scaled so that a main station is up this share of its time.

    Mean over the stations of MTBF / (MTBF + MTTR).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"availability must be between 0 and 1, got {share}")
    flow = line_flow(plant, replace(scenario, mttr_scale=1.0))
    main = flow.servers == 1
    low, high = 0.0, 1000.0
    for _ in range(60):
        scale = 0.5 * (low + high)
        up = flow.mtbf_s[main] / (flow.mtbf_s[main] + scale * flow.mttr_s[main])
        low, high = (scale, high) if up.mean() > share else (low, scale)
    return replace(scenario, mttr_scale=low)


def order_of(setting: LineSetting, policy: str, seed: int, units: int) -> Ints:
    """Product of each unit in order of entry; every policy gets the same lots in each window."""
    if policy not in ORDERS:
        raise ValueError(f"no order {policy!r}; known are {', '.join(ORDERS)}")
    rng = np.random.default_rng([seed, 77])
    mix = np.array(setting.mix) / sum(setting.mix)
    low, high = setting.scenario.lot_sizes
    lots: list[Ints] = []
    while sum(map(len, lots)) < units:
        lots.append(np.full(int(rng.integers(low, high + 1)), rng.choice(len(mix), p=mix)))
    ordered = np.concatenate(lots)[:units].astype(np.int64)
    windows = [ordered[k : k + WINDOW] for k in range(0, units, WINDOW)]
    families = _families(setting.plant)
    out: list[Ints] = []
    for window in windows:
        if policy == "levelled":
            out.append(levelled(window))
            continue
        now = families[out[-1][-1]] if out else families[window[0]]
        kinds = list(dict.fromkeys([now, *families[window].tolist()]))
        for kind in kinds:
            part = window[families[window] == kind]
            if len(part):
                out.append(levelled(part) if policy == "family" else part)
    return np.concatenate(out)


def _families(plant: Plant) -> Ints:
    line = line_center(plant)
    assert line is not None
    steps = [product.step(line.id) for product in plant.products]
    return np.array([line.families.index(step.family) for step in steps], np.int64)


def run_line(setting: LineSetting, policy: LinePolicy, seed: int) -> LineDay:
    """Run the line from empty; what happens in the first ``warm_hours`` is not counted."""
    plant = setting.plant
    w, names = plant_world(plant, plant_devices(plant), setting.scenario, seed=seed, now_ns=0)
    at = {name: k for k, name in enumerate(names)}
    span_h = setting.warm_hours + setting.hours
    units = int(span_h * 3600.0 / _seconds(plant).min()) + WINDOW
    _set_policy(w, at, setting, policy)
    _launch(w, at["st01"], plant, order_of(setting, policy.order, seed, units))
    w.ct["closed"] = 0
    if setting.is_mixed:
        w.setup[:] = 0
    for s in range(w.stations):
        des.wake(w, s)
    des.run(w, int(setting.warm_hours * NS_PER_H), False)
    before = _state(w)
    des.run(w, int(span_h * NS_PER_H), False)
    after = _state(w)
    out, inside_ns, setups, tools = (int(b - a) for a, b in zip(before[0], after[0], strict=True))
    span_ns = int(setting.hours * NS_PER_H)
    busy = 1.0 - (after[1] - before[1]) / span_ns
    gone = after[2] - before[2]
    rate = np.divide(gone, busy, out=np.zeros(len(gone)), where=busy > 0.0) / setting.hours
    slowest = min(sum(rate[at[name]] for name in stage) for stage in (*STAGES, *FEEDER_STAGES))
    return LineDay(
        per_hour=out / setting.hours,
        in_line=inside_ns / span_ns,
        bound_per_hour=float(slowest),
        setups=setups,
        tools=tools,
    )


def _set_policy(w: World, at: dict[str, int], setting: LineSetting, policy: LinePolicy) -> None:
    w.p_tool_wear, w.p_tool_idle_wear = policy.tool_wear, policy.tool_idle_wear
    # tools of every age up to the change, as in a line that has run like this for long
    oldest = min(policy.tool_wear, policy.tool_idle_wear)
    for s in range(w.stations):
        if w.st["tool_life"][s] > 0:
            w.st["wear"][s] = oldest * uniform(w.seed, draws.WARM, s, 2)
    w.gates, w.pace_ns = (
        len(policy.loops.station),
        int(max(policy.loops.interval_s, setting.every_s) * NS_PER_S),
    )
    pairs = zip(policy.loops.station.tolist(), policy.loops.limit.tolist(), strict=True)
    for row, (stage, limit) in zip(w.gate, pairs, strict=False):
        is_whole = stage == len(STAGES) - 1
        row["first"] = -1 if is_whole else at[STAGES[stage][0]]
        row["last"] = -1 if is_whole else at[STAGES[stage][-1]]
        row["limit"] = limit


def _launch(w: World, head: int, plant: Plant, order: Ints) -> None:
    """Jobs for the head of the line, one for each run of equal units, in this order."""
    center = int(w.st["center"][head])
    w.step_after[:] = 0
    cuts = np.flatnonzero(np.diff(order)) + 1
    starts, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(order)]
    n = len(starts)
    jb, jr, rq = w.jb[:n], w.jr[:n], w.rq[:n]
    product, quantity = order[starts], np.array(ends) - np.array(starts)
    jb["state"], jb["station"], jb["center"] = world.ALLOWED, head, center
    jb["product"], jb["quantity"] = product, quantity
    jb["family"] = w.step_family[product, center]
    jb["priority"] = jb["arrival"] = jb["req_at"] = np.arange(n)
    jb["req_n"] = 1
    jb["next"] = np.append(np.arange(1, n), -1)
    jr["request"], jr["quantity"] = np.arange(n), quantity
    rq["product"], rq["quantity"] = product, quantity
    w.st["queue"][head] = 0
    w.jobs = w.job_requests = w.requests = n


def _state(w: World) -> tuple[tuple[int, int, int, int], Ints, Ints]:
    """(units out, unit-ns inside, setups, tool changes); ns that stations waited; what left them.

    The pieces in the line and the present state of each station count up to now.
    """
    spent = w.spent[: w.stations].copy()
    reason, since = w.st["reason"][: w.stations], w.st["since"][: w.stations]
    spent[np.arange(w.stations), reason] += w.now - since
    inside = w.inside_ns + (world.PIECES - w.free_n) * (w.now - w.inside_at)
    counts = (w.pieces_out, inside, int(w.st["setups"].sum()), int(w.st["tools"].sum()))
    waits = spent[:, [int(r) for r in _WAITS]].sum(axis=1)
    return counts, waits, w.st["gone"][: w.stations].copy()


def run_row(cycle_s: Sequence[float], scenario: Scenario, *, seed: int, hours: float) -> float:
    """Units an hour of stations in a row with these cycles: the main line as balanced by a program.

    Buffers of two places, and failures, micro-stops and tools of the scenario's main stations;
    from empty, one hour of filling left out.
    """
    draft = Draft()
    buffers = [draft.buffer(2) for _ in cycle_s[1:]]
    for s, cycle in enumerate(cycle_s):
        draft.station(
            f"s{s}",
            kind=world.SOURCE if s == 0 else world.FLOW,
            input=buffers[s - 1] if s > 0 else -1,
            output=buffers[s] if s < len(buffers) else -1,
            cycle_s=cycle,
            **station_numbers(scenario.main, s, scenario),
        )
    w = build_world(draft, seed=seed, now_ns=0)
    w.st["wear"][: w.stations] = [uniform(seed, draws.WARM, s, 3) for s in range(w.stations)]
    for s in range(w.stations):
        des.wake(w, s)
    des.run(w, NS_PER_H, False)
    before = int(w.pieces_out)
    des.run(w, int((hours + 1.0) * NS_PER_H), False)
    return (int(w.pieces_out) - before) / hours


class LineTrial(ReleaseTrial):
    """Release rules tried on the simulated line itself, the same days for every rule."""

    def __init__(self, setting: LineSetting, policy: LinePolicy, seeds: Sequence[int]) -> None:
        self.setting, self.policy, self.seeds = setting, policy, tuple(seeds)
        self.flow = line_flow(setting.plant, setting.scenario)
        self.models = order_of(setting, policy.order, self.seeds[0], 2 * WINDOW)
        self.bottleneck = self.flow.bottleneck(self.models)
        self.runs = 0

    def outcome(self, loops: Loops) -> Outcome:
        """What a rule gives on each day."""
        self.runs += 1
        tried = replace(self.policy, loops=loops)
        days = [run_line(self.setting, tried, seed) for seed in self.seeds]
        return Outcome(
            per_hour=np.array([d.per_hour for d in days]),
            in_line=np.array([d.in_line for d in days]),
        )
