"""The devices of the simulated plant: 153 on the assembly line, and the units of the shops before.

The table of classes is the reference plant's (docs/explanation/reference-plant.md): 46 main-line
stations, 24 sub-assembly stations, 22 robots, 8 leak testers, 12 end-of-line benches, 4 oil
fillers, 14 conveyors and lifts, 12 AGVs, 7 vision and marking devices and 4 utilities carry 12,164
points. Upstream units and the line controller have states and counters too and are counted apart.
"""

from dataclasses import dataclass
from enum import StrEnum

from workshop_brain.model.plant import Plant, WorkCenter, WorkCenterKind


class DeviceClass(StrEnum):
    """Kind of a device; it decides how many points the device has and which."""

    STATION = "station"
    SUBASSEMBLY = "subassembly"
    ROBOT = "robot"
    LEAK_TESTER = "leak_tester"
    EOL_BENCH = "eol_bench"
    OIL_FILL = "oil_fill"
    CONVEYOR = "conveyor"
    AGV = "agv"
    VISION = "vision"
    UTILITY = "utility"
    MACHINE = "machine"
    FURNACE = "furnace"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of the plant.

    Attributes
    ----------
    index
        Row of this device in every array of PlantSim.
    edge_node
        Sparkplug edge node (= zone); "" for devices that are not counted.
    work_center
        Id of the work center it belongs to.
    points
        Signals, the ten common tags included; 10 for devices that are not counted.
    host
        Id of the device that it serves ("" when it stands for itself): a robot works for its
        station, so its state follows the station's.
    zone
        Cell of its path.
    """

    index: int
    id: str
    path: str
    klass: DeviceClass
    edge_node: str
    work_center: str
    points: int
    counted: bool
    host: str = ""
    zone: str = ""


POINTS = {
    DeviceClass.STATION: 90,
    DeviceClass.SUBASSEMBLY: 95,
    DeviceClass.ROBOT: 72,
    DeviceClass.LEAK_TESTER: 45,
    DeviceClass.EOL_BENCH: 160,
    DeviceClass.OIL_FILL: 40,
    DeviceClass.CONVEYOR: 60,
    DeviceClass.AGV: 30,
    DeviceClass.VISION: 40,
    DeviceClass.UTILITY: 60,
}
ZONES = ("z1", "z2", "z3", "z4", "z5")
STATIONS_PER_ZONE = (10, 10, 9, 9, 8)
FEEDERS = ("shafts", "differential", "clutch", "valvebody")
STATIONS_PER_FEEDER = 6
OPERATIONS_PER_STATION = 2
MERGE_STATION = (12, 20, 28, 36)
"""Number (from 1) of the main station at which each feeder line joins."""
_FEEDER_PREFIX = ("sh", "df", "cl", "vb")
_ROBOT_HOSTS = (
    "st02", "st04", "st06", "st08", "st11", "st13", "st15", "st17", "st19", "st22", "st24",
    "st26", "st28", "st31", "st33", "st35", "st37", "st40", "sh3", "df3", "cl3", "vb3",
)  # fmt: skip
_CONVEYOR_HOSTS = (
    "st01", "st05", "st10", "st11", "st16", "st20", "st21", "st25", "st29", "st30", "st34",
    "st38", "st39", "st46",
)  # fmt: skip
_VISION_HOSTS = ("st01", "st09", "st18", "st27", "st36", "st44", "st46")
UTILITIES = ("power", "air", "clean_room", "coolant")


def operations(station: int) -> tuple[str, ...]:
    """Names of the operations done at main station ``station`` (1 to 46), two each, 92 in all.

    >>> operations(1), operations(46)
    (('op010', 'op020'), ('op910', 'op920'))
    """
    first = (station - 1) * OPERATIONS_PER_STATION + 1
    return tuple(f"op{10 * (first + k):03d}" for k in range(OPERATIONS_PER_STATION))


def manual_places(operators: int) -> tuple[str, ...]:
    """Stations at which ``operators`` people work: spread evenly over those without a robot.

    With more people than such stations a station stands in the answer more than once.

    >>> manual_places(4)
    ('st01', 'st14', 'st27', 'st39')
    """
    total = sum(STATIONS_PER_ZONE)
    manual = [id for k in range(1, total + 1) if (id := f"st{k:02d}") not in _ROBOT_HOSTS]
    return tuple(manual[k * len(manual) // operators] for k in range(operators))


def operation_numbers(device: Device) -> tuple[int, ...]:
    """Numbers of the operations of a main-line station; empty for every other device."""
    if device.klass is not DeviceClass.STATION:
        return ()
    return tuple(int(name[2:]) for name in operations(int(device.id[2:])))


def line_center(plant: Plant) -> WorkCenter | None:
    """The work center that is simulated as the 153-device assembly line: the first of kind LINE."""
    for center in plant.work_centers:
        if center.kind is WorkCenterKind.LINE:
            return center
    return None


def plant_devices(plant: Plant) -> tuple[Device, ...]:
    """Every device: first the counted ones of the line, then the units of all work centers."""
    out: list[Device] = []
    line = line_center(plant)
    if line is not None:
        root = f"{plant.enterprise}/{plant.site}/{line.area}/{line.id}"
        for zone, id, klass, host in _line_devices():
            out.append(
                Device(
                    index=len(out),
                    id=id,
                    path=f"{root}/{zone}/{id}",
                    klass=klass,
                    edge_node=zone,
                    work_center=line.id,
                    points=POINTS[klass],
                    counted=True,
                    host=host,
                    zone=zone,
                )
            )
    for center in plant.work_centers:
        klass = {
            WorkCenterKind.MACHINING: DeviceClass.MACHINE,
            WorkCenterKind.BATCH: DeviceClass.FURNACE,
            WorkCenterKind.LINE: DeviceClass.LINE,
        }[center.kind]
        for unit in center.units:
            out.append(
                Device(
                    index=len(out),
                    id=unit.id,
                    path=unit.path,
                    klass=klass,
                    edge_node="",
                    work_center=center.id,
                    points=10,
                    counted=False,
                    zone=unit.path.split("/")[4],
                )
            )
    return tuple(out)


def _line_devices() -> list[tuple[str, str, DeviceClass, str]]:
    """(zone, id, class, host) of the 153, zone by zone."""
    zone_of: dict[str, str] = {}
    rows: list[tuple[str, str, DeviceClass, str]] = []
    number = 0
    for zone, count in zip(ZONES, STATIONS_PER_ZONE, strict=True):
        for _ in range(count):
            number += 1
            zone_of[f"st{number:02d}"] = zone
            rows.append((zone, f"st{number:02d}", DeviceClass.STATION, ""))
    for zone, prefix in zip(FEEDERS, _FEEDER_PREFIX, strict=True):
        for k in range(1, STATIONS_PER_FEEDER + 1):
            zone_of[f"{prefix}{k}"] = zone
            rows.append((zone, f"{prefix}{k}", DeviceClass.SUBASSEMBLY, ""))
    rows += [
        (zone_of[host], f"rob{k:02d}", DeviceClass.ROBOT, host)
        for k, host in enumerate(_ROBOT_HOSTS, 1)
    ]
    rows += [("eol", f"leak{k}", DeviceClass.LEAK_TESTER, "") for k in range(1, 9)]
    rows += [("eol", f"oil{k}", DeviceClass.OIL_FILL, "") for k in range(1, 5)]
    rows += [("eol", f"eol{k:02d}", DeviceClass.EOL_BENCH, "") for k in range(1, 13)]
    rows += [
        (zone_of[host], f"conv{k:02d}", DeviceClass.CONVEYOR, host)
        for k, host in enumerate(_CONVEYOR_HOSTS, 1)
    ]
    rows += [
        (zone_of[host], f"vis{k}", DeviceClass.VISION, host)
        for k, host in enumerate(_VISION_HOSTS, 1)
    ]
    rows += [("logistics", f"agv{k:02d}", DeviceClass.AGV, "") for k in range(1, 13)]
    rows += [("utilities", id, DeviceClass.UTILITY, "") for id in UTILITIES]
    return rows
