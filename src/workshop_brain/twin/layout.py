"""From a plant and a scenario to the arrays of the simulated world.

Stations: main line with feeder lines, leak test, oil fill, end-of-line benches and two repair
places, then one station for each unit of the other work centers. The head of the main line takes
its pieces from the jobs of the line; each launch is announced to the four feeder lines, which make
the matching sub-assembly in the same order (just in sequence) while the piece travels to them. The
parallel leak testers, where pieces may overtake, therefore stand behind the last merge.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import ConfigError
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
    manual_places,
)
from workshop_brain.twin.draws import uniform
from workshop_brain.twin.scenario import Reliability, Scenario
from workshop_brain.twin.world import World, new_world
from workshop_brain.units import NS_PER_S

ANNOUNCE_PLACES = 1024
REPAIR_PLACES = 2
HEAD = "st01"
"""Station that launches the pieces of the line's jobs."""
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


def build_world(draft: Draft, *, seed: int, now_ns: int, pieces: int = world.PIECES) -> World:
    """A world with a network of stations and buffers alone: no devices, no work centers.

    ``pieces`` is the most pieces that may be in the network at once.
    """
    _check_room(len(draft.stations), world.STATIONS, "stations")
    _check_room(len(draft.buffers), world.BUFFERS, "buffers")
    _check_room(sum(draft.buffers), world.RING, "buffer places")
    w = new_world()
    w.now, w.seed, w.free_n = now_ns, seed, pieces
    w.stations, w.buffers, w.announce_n = (
        len(draft.stations), len(draft.buffers), len(draft.announce),
    )  # fmt: skip
    w.announce[: w.announce_n] = draft.announce
    for key in {key for row in draft.stations for key in row}:
        w.st[key][: w.stations] = [row.get(key, 0) for row in draft.stations]
    w.st["since"] = w.st["heated"] = now_ns
    w.st["state"], w.st["reason"] = int(UnitState.SUSPENDED), int(StopReason.STARVED)
    first = 0
    for b, places in enumerate(draft.buffers):
        w.bf["capacity"][b], w.bf["first"][b] = places, first
        first += places
    _link(w, w.users, ("input", "second"), "user0", "user1")
    _link(w, w.makers, ("output", "reject"), "maker0", "maker1")
    _set_physics(w, Scenario())
    return w


def _check_room(needed: int, room: int, what: str) -> None:
    if needed > room:
        raise ConfigError(
            f"the plant needs {needed} {what} and the simulation has room for {room}; "
            "make the plant smaller or raise the figure in twin/world.py"
        )


def _link(w: World, links: NDArray[np.int64], fields: Sequence[str], first: str, last: str) -> None:
    """Stations linked to each buffer, in CSR by the buffer's ``first`` and ``last``."""
    n, buffers = 0, w.bf
    columns = [w.st[f][: w.stations].tolist() for f in fields]
    for b in range(w.buffers):
        buffers[first][b] = n
        for s, linked in enumerate(zip(*columns, strict=True)):
            if b in linked:
                links[n] = s
                n += 1
        buffers[last][b] = n


def _set_physics(w: World, scenario: Scenario) -> None:
    w.p_detect_leak, w.p_detect_bench = scenario.detect_leak, scenario.detect_bench
    w.p_false, w.p_unrepairable = scenario.retest_false, scenario.unrepairable
    w.p_absent, w.p_absent_s = scenario.absent_p, scenario.absent_s
    w.p_ambient, w.p_sigma = scenario.ambient_c, scenario.cycle_sigma
    w.p_lot_size, w.p_temp_tau = scenario.material_lot, 1800.0
    w.p_pallet, w.p_pallet_s = 12.0, 240.0


def plant_world(
    plant: Plant, devices: Sequence[Device], scenario: Scenario, *, seed: int, now_ns: int
) -> tuple[World, list[str]]:
    """The world of a whole plant, cold and empty, and the station names."""
    draft = Draft()
    by_id = {(d.work_center, d.id): d.index for d in devices}
    line = line_center(plant)
    for c, center in enumerate(plant.work_centers):
        if line is not None and center.id == line.id:
            own = {d.id: d.index for d in devices if d.counted}
            people = Counter(manual_places(sum(u.operators for u in center.units)))
            _draw_line(draft, c, own, scenario, people)
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
                **station_numbers(ranges, len(draft.stations), scenario),
            )
    w = build_world(draft, seed=seed, now_ns=now_ns)
    _set_physics(w, scenario)
    _set_plant(w, plant)
    _set_devices(w, draft, devices)
    return w, draft.names


def station_numbers(ranges: Reliability, station: int, scenario: Scenario) -> dict[str, float]:
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


def _draw_line(
    draft: Draft,
    center: int,
    device: dict[str, int],
    scenario: Scenario,
    operators: Mapping[str, int],
) -> None:
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
                **station_numbers(scenario.test, len(draft.stations), scenario),
            )  # fmt: skip

    merges = dict(zip(MERGE_STATION, range(len(FEEDERS)), strict=True))
    merge_buffers = [draft.buffer(scenario.merge_buffer) for _ in FEEDERS]
    zone_ends = np.cumsum(STATIONS_PER_ZONE)
    source = -1
    total = int(zone_ends[-1])
    for k in range(1, total + 1):
        last_of_zone = k in zone_ends
        places = scenario.between_zones if last_of_zone else scenario.in_zone
        sink = draft.buffer(between(k, places))
        cycle = scenario.bottleneck_s
        if k != scenario.bottleneck_station:
            cycle = pick(100 + k, *scenario.station_cycle_s)
        share = pick(600 + k, *scenario.operation_share)
        draft.station(
            f"st{k:02d}", kind=world.JOB if k == 1 else world.FLOW, center=center,
            input=source, second=merge_buffers[merges[k]] if k in merges else -1, output=sink,
            device=device[f"st{k:02d}"], cycle_s=cycle, op_share=share,
            op1_s=cycle * share, op2_s=cycle * (1.0 - share), operators=operators[f"st{k:02d}"],
            **station_numbers(scenario.main, len(draft.stations), scenario),
        )  # fmt: skip
        source = sink
        if k == zone_ends[3]:
            after = draft.buffer(between(200, scenario.between_zones))
            first_four = [f"leak{n}" for n in (1, 2, 3, 4)]
            stage(first_four, scenario.leak_cycle_s, world.LEAK, sink, after)
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
                **station_numbers(scenario.sub, len(draft.stations), scenario),
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


def _set_plant(w: World, plant: Plant) -> None:
    """Work centers, routings and changeovers."""
    _check_room(len(plant.work_centers), world.CENTERS, "work centers")
    _check_room(len(plant.products), world.PRODUCTS, "products")
    _check_room(max(len(c.families) for c in plant.work_centers), world.FAMILIES, "families")
    w.centers = len(plant.work_centers)
    index = {c.id: k for k, c in enumerate(plant.work_centers)}
    for c, center in enumerate(plant.work_centers):
        w.ct["transport"][c] = center.transport_s * NS_PER_S
        w.ct["kind"][c] = CENTER_KINDS[center.kind]
        n = len(center.families)
        w.setup[c, :n, :n] = np.array(center.setup_s, np.int64).reshape(n, n) * NS_PER_S
    w.step_family[:] = -1
    for p, product in enumerate(plant.products):
        for step in product.routing:
            c = index[step.work_center]
            w.step_s[p, c] = step.seconds
            w.step_family[p, c] = plant.work_centers[c].families.index(step.family)
            for before in step.after:
                w.step_after[p, c, index[before]] = 1


def _set_devices(w: World, draft: Draft, devices: Sequence[Device]) -> None:
    """Device rows, and for each station the devices that follow it (CSR)."""
    _check_room(len(devices), world.DEVICES, "devices")
    w.devices = len(devices)
    dv = w.dv
    dv["station"] = dv["job"] = -1
    dv["mode"] = int(UnitMode.PRODUCTION)
    dv["state"], dv["reason"] = int(UnitState.IDLE), int(StopReason.NO_JOB)
    own = {int(w.st["device"][s]): s for s in range(w.stations) if w.st["device"][s] >= 0}
    names = {name: s for s, name in enumerate(draft.names)}
    mirrors = (DeviceClass.ROBOT, DeviceClass.CONVEYOR, DeviceClass.VISION)
    following: list[list[int]] = [[] for _ in draft.names]
    for d in devices:
        row = dv[d.index]
        if d.index in own:
            row["station"] = own[d.index]
        elif d.klass is DeviceClass.LINE and HEAD in names:
            row["station"], row["klass"] = names[HEAD], des.LINE_KLASS
            following[names[HEAD]].append(d.index)
        elif d.klass in mirrors:
            row["station"], row["klass"] = names[d.host], des.MIRROR_KLASS
            following[names[d.host]].append(d.index)
        elif d.klass is DeviceClass.UTILITY:
            row["state"], row["reason"] = int(UnitState.EXECUTE), int(StopReason.NONE)
        elif d.klass is DeviceClass.AGV:
            row["klass"] = des.MIRROR_KLASS
            w.agvs[w.agv_n] = d.index
            w.agv_n += 1
    flat = [d for f in following for d in f]
    w.hosted[: len(flat)] = flat
    w.host_ptr[1 : w.stations + 1] = np.cumsum([len(f) for f in following])
