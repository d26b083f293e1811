"""From a plant and a scenario to the arrays of the simulated world.

Stations: main line with feeder lines, leak test, oil fill, end-of-line benches and two repair
places, then one station for each unit of the other work centers. The head of the main line takes
its pieces from the jobs of the line; each launch is announced to the four feeder lines, which make
the matching sub-assembly in the same order (just in sequence) while the piece travels to them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.plant import Plant, WorkCenterKind
from workshop_brain.model.state import StopReason, UnitMode, UnitState
from workshop_brain.twin import des, draws, world
from workshop_brain.twin.devices import (
    FEEDERS,
    MERGE_STATION,
    STATIONS_PER_FEEDER,
    STATIONS_PER_ZONE,
    Device,
    DeviceClass,
    line_center,
)
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.scenario import Reliability, Scenario
from workshop_brain.twin.world import NEVER, World

PIECES = 2048
ANNOUNCE_PLACES = 1024
LOG_ROWS, CYCLE_ROWS, NOTICE_ROWS = 1 << 16, 1 << 15, 1 << 14
JOB_ROWS, REQUEST_ROWS = 1024, 512
REPAIR_PLACES = 2
_PREFIX = ("sh", "df", "cl", "vb")
CENTER_KINDS = {WorkCenterKind.MACHINING: 0, WorkCenterKind.BATCH: 1, WorkCenterKind.LINE: 2}


@dataclass(slots=True)
class Draft:
    """Stations and buffers while the network is being drawn."""

    stations: list[dict[str, float]] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    announce: list[int] = field(default_factory=list)

    def buffer(self, places: int) -> int:
        """A new buffer; its number."""
        if places < 1:
            raise ValueError(f"a buffer needs at least one place, got {places}")
        self.buffers.append(places)
        return len(self.buffers) - 1

    def station(self, name: str, **values: float) -> int:
        """A new station; its number. Values not given are 0, or -1 for links."""
        row: dict[str, float] = dict.fromkeys(
            ("input", "second", "output", "reject", "device", "center", "piece", "job", "family",
             "queue"), -1,
        )  # fmt: skip
        row.update(speed=1.0, lot_factor=1.0, temp_c=24.0)
        row.update(values)
        self.stations.append(row)
        self.names.append(name)
        return len(self.stations) - 1


def build_world(
    draft: Draft,
    *,
    seed: int,
    now_ns: int,
    devices: int,
    pieces: int = PIECES,
    logs: tuple[int, int, int] = (LOG_ROWS, CYCLE_ROWS, NOTICE_ROWS),
) -> World:
    """Arrays of a network of stations and buffers without plant data: no centers, no steps."""
    st = np.zeros(len(draft.stations), world.STATION)
    for s, row in enumerate(draft.stations):
        for key, value in row.items():
            st[key][s] = value
    st["since"] = st["heated"] = now_ns
    st["state"], st["reason"] = int(UnitState.SUSPENDED), int(StopReason.STARVED)
    bf = np.zeros(len(draft.buffers), world.BUFFER)
    bf["capacity"] = draft.buffers
    bf["first"] = np.concatenate([[0], np.cumsum(draft.buffers)])[:-1] if draft.buffers else 0
    users = _links(st, ("input", "second"), bf, "user0", "user1")
    makers = _links(st, ("output", "reject"), bf, "maker0", "maker1")
    clock = np.zeros(world.CLOCK_CELLS, np.int64)
    clock[world.NOW], clock[world.SEED], clock[world.FREE_N] = now_ns, seed, pieces
    timers = len(st) + devices
    return World(
        clock=clock,
        st=st,
        bf=bf,
        ring=np.full(max(1, sum(draft.buffers)), -1, np.int64),
        users=users,
        makers=makers,
        dv=np.zeros(devices, world.DEVICE),
        host_ptr=np.zeros(len(st) + 1, np.int64),
        hosted=np.zeros(0, np.int64),
        agvs=np.zeros(0, np.int64),
        jb=np.zeros(0, world.JOB_ROW),
        jr=np.zeros(0, world.JOB_REQUEST),
        rq=np.zeros(0, world.REQUEST),
        rs=np.zeros(0, world.REQUEST_STEP),
        ct=np.zeros(0, world.CENTER),
        edges=np.zeros(0, np.int64),
        step_s=np.zeros((0, 0)),
        step_family=np.zeros((0, 0), np.int64),
        step_after=np.zeros((0, 0, 0), np.int64),
        setup=np.zeros((0, 0, 0), np.int64),
        pc=np.zeros(pieces, world.PIECE),
        free=np.arange(pieces - 1, -1, -1, dtype=np.int64),
        announce=np.array(draft.announce, np.int64),
        wake=np.zeros(len(st) + 1, np.int64),
        spent=np.zeros((len(st), len(StopReason)), np.int64),
        due=np.full(timers, NEVER, np.int64),
        heap=np.zeros(timers, np.int64),
        position=np.full(timers, -1, np.int64),
        physics=_physics(Scenario()),
        changes=np.zeros(logs[0], world.CHANGE),
        cycles=np.zeros(logs[1], world.CYCLE_ROW),
        notices=np.zeros(logs[2], world.NOTICE),
    )


def _links(
    st: NDArray[np.void], fields: Sequence[str], bf: NDArray[np.void], first: str, last: str
) -> NDArray[np.int64]:
    """Stations linked to each buffer, in CSR by the buffer's ``first`` and ``last``."""
    out: list[int] = []
    for b in range(len(bf)):
        bf[first][b] = len(out)
        out += [s for s in range(len(st)) if any(st[f][s] == b for f in fields)]
        bf[last][b] = len(out)
    return np.array(out, np.int64)


def _physics(scenario: Scenario) -> NDArray[np.float64]:
    out = np.zeros(16)
    out[des.P_DETECT_LEAK], out[des.P_DETECT_BENCH] = scenario.detect_leak, scenario.detect_bench
    out[des.P_FALSE], out[des.P_UNREPAIRABLE] = scenario.retest_false, scenario.unrepairable
    out[des.P_ABSENT], out[des.P_ABSENT_S] = scenario.absent_p, scenario.absent_s
    out[des.P_AMBIENT], out[des.P_SIGMA] = scenario.ambient_c, scenario.cycle_sigma
    out[des.P_LOT_SIZE], out[des.P_TEMP_TAU] = scenario.material_lot, 1800.0
    out[des.P_PALLET], out[des.P_PALLET_S] = 12, 240.0
    return out


def plant_world(
    plant: Plant, devices: Sequence[Device], scenario: Scenario, *, seed: int, now_ns: int
) -> tuple[World, list[str]]:
    """The world of a whole plant, cold and empty, and the station names."""
    draft = Draft()
    by_id = {(d.work_center, d.id): d.index for d in devices}
    line = line_center(plant)
    for c, center in enumerate(plant.work_centers):
        if line is not None and center.id == line.id:
            _draw_line(draft, c, {d.id: d.index for d in devices if d.counted}, scenario)
            continue
        ranges = dict(scenario.shops).get(center.id, dict(scenario.shops)["soft"])
        if center.kind is WorkCenterKind.BATCH:
            ranges = dict(scenario.shops).get(center.id, dict(scenario.shops)["heat"])
        for unit in center.units:
            draft.station(
                unit.id,
                kind=world.LOAD if center.kind is WorkCenterKind.BATCH else world.JOB,
                center=c,
                device=by_id[center.id, unit.id],
                speed=unit.speed,
                operators=unit.operators,
                **_numbers(ranges, len(draft.stations), scenario),
            )
    empty = build_world(draft, seed=seed, now_ns=now_ns, devices=len(devices))
    return _with_plant(empty, draft, plant, devices, scenario), draft.names


def _numbers(ranges: Reliability, station: int, scenario: Scenario) -> dict[str, float]:
    """A station's own numbers, drawn once from the ranges of its kind."""

    def pick(k: int, low_high: tuple[float, float]) -> float:
        low, high = low_high
        u = uniform(scenario.parameter_seed, draws.PARAMETER, station, k)
        return low + (high - low) * u

    return {
        "mtbf_s": pick(0, ranges.mtbf_s),
        "mttr_s": pick(1, ranges.mttr_s) * scenario.mttr_scale,
        "micro_p": pick(2, ranges.micro_p),
        "micro_s": pick(3, ranges.micro_s),
        "tool_life": pick(4, ranges.tool_life),
        "tool_s": pick(5, ranges.tool_s),
        "nok_p": pick(6, ranges.nok_p),
        "latent_p": pick(7, ranges.latent_p),
        "rise_c": pick(8, ranges.rise_c),
    }


def _draw_line(draft: Draft, center: int, device: dict[str, int], scenario: Scenario) -> None:
    """The assembly line: zones, feeders, leak tests, oil fill, benches, repair places."""

    def pick(n: int, low: float, high: float) -> float:
        return low + (high - low) * uniform(scenario.parameter_seed, draws.PARAMETER, 9000 + n, 0)

    def between(n: int, low_high: tuple[int, int]) -> int:
        return int(pick(n, low_high[0], low_high[1] + 0.999))

    def stage(
        ids: Iterable[str], cycle_s: float, role: int, source: int, sink: int, reject: int = -1
    ) -> None:
        for id in ids:
            draft.station(
                id, kind=world.FLOW, role=role, center=center, input=source, output=sink,
                reject=reject, device=device[id], cycle_s=cycle_s,
                **_numbers(scenario.test, len(draft.stations), scenario),
            )  # fmt: skip

    merges = dict(zip(MERGE_STATION, range(len(FEEDERS)), strict=True))
    merge_buffers = [draft.buffer(scenario.merge_buffer) for _ in FEEDERS]
    zone_ends = np.cumsum(STATIONS_PER_ZONE)
    source = -1
    total = int(zone_ends[-1])
    for k in range(1, total + 1):
        last_of_zone = k in zone_ends
        sink = draft.buffer(between(k, scenario.between_zones if last_of_zone else scenario.in_zone))
        cycle = scenario.bottleneck_s
        if k != scenario.bottleneck_station:
            cycle = pick(100 + k, *scenario.station_cycle_s)
        draft.station(
            f"st{k:02d}", kind=world.JOB if k == 1 else world.FLOW, center=center,
            input=source, second=merge_buffers[merges[k]] if k in merges else -1, output=sink,
            device=device[f"st{k:02d}"], cycle_s=cycle,
            **_numbers(scenario.main, len(draft.stations), scenario),
        )  # fmt: skip
        source = sink
        if k == zone_ends[1]:
            after = draft.buffer(between(200, scenario.between_zones))
            stage([f"leak{n}" for n in (1, 2, 3, 4)], scenario.leak_cycle_s, world.LEAK, sink, after)
            source = after
    for f, prefix in enumerate(_PREFIX):
        source_f = draft.buffer(ANNOUNCE_PLACES)
        draft.announce.append(source_f)
        for k in range(1, STATIONS_PER_FEEDER + 1):
            last = k == STATIONS_PER_FEEDER
            sink_f = merge_buffers[f] if last else draft.buffer(between(300 + 10 * f + k, (1, 3)))
            id = f"{prefix}{k}"
            draft.station(
                id, kind=world.FLOW, center=center, input=source_f, output=sink_f,
                device=device[id], cycle_s=pick(400 + 10 * f + k, *scenario.feeder_cycle_s),
                **_numbers(scenario.sub, len(draft.stations), scenario),
            )  # fmt: skip
            source_f = sink_f
    after = draft.buffer(between(500, (4, 8)))
    stage([f"leak{n}" for n in (5, 6, 7, 8)], scenario.leak_cycle_s, world.LEAK, source, after)
    bench_in, repair_in = draft.buffer(20), draft.buffer(20)
    stage([f"oil{n}" for n in (1, 2, 3, 4)], scenario.oil_cycle_s, world.MAKE, after, bench_in)
    benches = [f"eol{n:02d}" for n in range(1, 13)]
    stage(benches, scenario.bench_cycle_s, world.BENCH, bench_in, -1, repair_in)
    for n in range(1, REPAIR_PLACES + 1):
        draft.station(
            f"repair{n}", kind=world.FLOW, role=world.REPAIR_PLACE, center=center,
            input=repair_in, output=bench_in, cycle_s=scenario.repair_cycle_s,
        )  # fmt: skip


def _with_plant(
    w: World, draft: Draft, plant: Plant, devices: Sequence[Device], scenario: Scenario
) -> World:
    """Add work centers, routings, changeovers, devices and job tables."""
    centers, products = len(plant.work_centers), len(plant.products)
    families = max(len(c.families) for c in plant.work_centers)
    ct = np.zeros(centers, world.CENTER)
    setup = np.zeros((centers, families, families), np.int64)
    index = {c.id: k for k, c in enumerate(plant.work_centers)}
    for c, center in enumerate(plant.work_centers):
        ct["transport"][c] = center.transport_s * 1_000_000_000
        ct["kind"][c] = CENTER_KINDS[center.kind]
        n = len(center.families)
        setup[c, :n, :n] = np.array(center.setup_s, np.int64).reshape(n, n) * 1_000_000_000
    step_s = np.zeros((products, centers))
    step_family = np.full((products, centers), -1, np.int64)
    step_after = np.zeros((products, centers, centers), np.int64)
    for p, product in enumerate(plant.products):
        for step in product.routing:
            c = index[step.work_center]
            step_s[p, c] = step.seconds
            step_family[p, c] = plant.work_centers[c].families.index(step.family)
            for before in step.after:
                step_after[p, c, index[before]] = 1
    dv, host_ptr, hosted = _device_rows(w, draft, devices)
    agvs = np.array([d.index for d in devices if d.klass is DeviceClass.AGV], np.int64)
    timers = len(w.st) + len(devices) + centers + len(agvs)
    return w._replace(
        ct=ct,
        setup=setup,
        step_s=step_s,
        step_family=step_family,
        step_after=step_after,
        dv=dv,
        host_ptr=host_ptr,
        hosted=hosted,
        agvs=agvs,
        jb=np.zeros(JOB_ROWS, world.JOB_ROW),
        jr=np.zeros(JOB_ROWS, world.JOB_REQUEST),
        rq=np.zeros(REQUEST_ROWS, world.REQUEST),
        rs=np.zeros(REQUEST_ROWS * centers, world.REQUEST_STEP),
        due=np.full(timers, NEVER, np.int64),
        heap=np.zeros(timers, np.int64),
        position=np.full(timers, -1, np.int64),
        physics=_physics(scenario),
    )


def _device_rows(
    w: World, draft: Draft, devices: Sequence[Device]
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
    """Device rows, and for each station the devices that follow it (CSR)."""
    dv = np.zeros(len(devices), world.DEVICE)
    dv["station"] = dv["job"] = dv["host"] = -1
    dv["mode"] = int(UnitMode.PRODUCTION)
    dv["state"], dv["reason"] = int(UnitState.IDLE), int(StopReason.NO_JOB)
    own = {int(w.st["device"][s]): s for s in range(len(w.st)) if w.st["device"][s] >= 0}
    names = {name: s for s, name in enumerate(draft.names)}
    mirrors = (DeviceClass.ROBOT, DeviceClass.CONVEYOR, DeviceClass.VISION)
    following: list[list[int]] = [[] for _ in draft.names]
    for d in devices:
        if d.index in own:
            dv["station"][d.index] = own[d.index]
        elif d.klass is DeviceClass.LINE and "st01" in names:
            dv["station"][d.index], dv["klass"][d.index] = names["st01"], des.LINE_KLASS
            following[names["st01"]].append(d.index)
        elif d.klass in mirrors:
            dv["station"][d.index], dv["klass"][d.index] = names[d.host], des.MIRROR_KLASS
            following[names[d.host]].append(d.index)
        elif d.klass is DeviceClass.UTILITY:
            dv["state"][d.index], dv["reason"][d.index] = int(UnitState.EXECUTE), 0
        elif d.klass is DeviceClass.AGV:
            dv["klass"][d.index] = des.MIRROR_KLASS
    pointer = np.concatenate([[0], np.cumsum([len(f) for f in following])]).astype(np.int64)
    return dv, pointer, np.array([d for f in following for d in f], np.int64)
