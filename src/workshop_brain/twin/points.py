"""The measuring points of each class of device: what is measured, its unit, and what causes it.

A point's value is one of the shapes below, driven by the simulated device (phase of its cycle,
state, wear, temperature, material lot) plus sensor noise. A class has as many points here as its
count in the table of devices less the ten common tags that travel over OPC UA.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from workshop_brain.model.signal import SignalKind
from workshop_brain.twin.devices import POINTS, Device, DeviceClass, operation_numbers

COMMON_TAGS = 10


class Shape(IntEnum):
    """How a point follows its device; ``b`` base, ``a`` amplitude, ``[p0, p1]`` phase window.

    AMBIENT   b + a sin(day)                      LOAD      idle b, a x bump in the window x causes
    THERMAL   b + a (T - 24)                      VIBRATION LOAD with noise that grows with it
    TRAVEL    b + a, there and back in the window SPEED     a sin in the window
    COUNT     b + pieces x a                      CYCLES    b + cycles x a
    FLAG      1 while running in the window       RESULT    one value per cycle, with causes
    LIFE      b (1 - wear)                        BATTERY   saw tooth over hours
    ROUTE     round trip over minutes             UTILITY   b + a x share of running devices
    SETPOINT  b, changes with the lot             STEP      1..a over the cycle, 0 when not running
    METER     b + a x cycles + p0 x hours         STOPPED   1 while the stop reason is a
    DEFECTS   b + defective pieces                HEALTHY   1 unless down
    OPERATION b + a x operation at work (1, 2), 0 when at none
    DURATION  last seconds of operation a (1, 2), of both when a = 0
    """

    AMBIENT = 0
    LOAD = 1
    THERMAL = 2
    VIBRATION = 3
    TRAVEL = 4
    SPEED = 5
    COUNT = 6
    CYCLES = 7
    FLAG = 8
    RESULT = 9
    LIFE = 10
    BATTERY = 11
    ROUTE = 12
    UTILITY = 13
    SETPOINT = 14
    STEP = 15
    METER = 16
    STOPPED = 17
    DEFECTS = 18
    HEALTHY = 19
    OPERATION = 20
    DURATION = 21


_KIND = {
    Shape.COUNT: SignalKind.COUNTER,
    Shape.CYCLES: SignalKind.COUNTER,
    Shape.DEFECTS: SignalKind.COUNTER,
    Shape.METER: SignalKind.COUNTER,
    Shape.FLAG: SignalKind.FLAG,
    Shape.STOPPED: SignalKind.FLAG,
    Shape.HEALTHY: SignalKind.FLAG,
    Shape.STEP: SignalKind.STATE,
    Shape.OPERATION: SignalKind.STATE,
}
FAST, MEDIUM, SLOW = 1, 4, 40
"""Rate classes: sampled every edge publish, every 4th, every 40th (report by exception)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measuring point of a class.

    Attributes
    ----------
    noise
        Standard deviation of the sensor noise, in the point's unit.
    decimals
        Resolution: values are whole multiples of ``10**-decimals``.
    period
        Rate class, see FAST, MEDIUM, SLOW.
    wear_gain, lot_gain
        Relative effect of full wear and of an extreme material lot.
    """

    name: str
    unit: str
    shape: Shape
    b: float = 0.0
    a: float = 0.0
    p0: float = 0.0
    p1: float = 1.0
    noise: float = 0.0
    decimals: int = 2
    period: int = FAST
    low: float = 0.0
    high: float = 1.0
    wear_gain: float = 0.0
    lot_gain: float = 0.0

    @property
    def kind(self) -> SignalKind:
        """How the signal behaves."""
        return _KIND.get(self.shape, SignalKind.GAUGE)


def _analog(
    name: str,
    unit: str,
    shape: Shape,
    b: float,
    a: float,
    *,
    p0: float = 0.1,
    p1: float = 0.8,
    decimals: int = 2,
    period: int = FAST,
    noise: float | None = None,
    wear: float = 0.0,
    lot: float = 0.0,
    low: float | None = None,
) -> Point:
    step = 10.0**-decimals
    floor = min(b, b + a, 0.0) if low is None else low
    reach = b + 30.0 * a + 20.0 * wear if shape is Shape.THERMAL else b + a
    top = max(b, reach, floor + step) * (1.25 + abs(wear) * 0.5)
    return Point(
        name=name,
        unit=unit,
        shape=shape,
        b=b,
        a=a,
        p0=p0,
        p1=p1,
        noise=2.0 * step if noise is None else noise,
        decimals=decimals,
        period=period,
        low=floor * 1.25 if floor < 0 else floor,
        high=top,
        wear_gain=wear,
        lot_gain=lot,
    )


def _flag(name: str, p0: float, p1: float) -> Point:
    return Point(name=name, unit="", shape=Shape.FLAG, p0=p0, p1=p1, decimals=0)


def _bits(prefix: str, count: int) -> list[Point]:
    return [
        _flag(f"{prefix}{k + 1}", k / count * 0.9, min(1.0, k / count * 0.9 + 0.35))
        for k in range(count)
    ]


def _stops() -> list[Point]:
    """Interlock and alarm bits that follow why a unit stands."""
    names = ((3, "setup_active"), (4, "fault_active"), (5, "jam_active"), (6, "tool_change_active"))
    stops = [
        Point(name=name, unit="", shape=Shape.STOPPED, a=reason, decimals=0)
        for reason, name in names
    ]
    return [*stops, Point(name="safety_circuit_ok", unit="", shape=Shape.HEALTHY, decimals=0)]


def _motor(prefix: str, *, amps: float, rpm: float, p0: float, p1: float) -> list[Point]:
    load = Shape.LOAD
    return [
        _analog(f"{prefix}_current", "A", load, amps * 0.15, amps, p0=p0, p1=p1, wear=0.35),
        _analog(f"{prefix}_speed", "1/min", Shape.SPEED, 0.0, rpm, p0=p0, p1=p1, decimals=1),
        _analog(f"{prefix}_torque", "N.m", load, 0.2, amps * 2.1, p0=p0, p1=p1, wear=0.3, lot=0.12),
        _analog(f"{prefix}_load", "%", load, 4.0, 70.0, p0=p0, p1=p1, decimals=1, period=MEDIUM),
        _analog(
            f"{prefix}_temperature", "Cel", Shape.THERMAL, 31.0, 1.6, wear=0.2, period=MEDIUM,
            low=10.0,
        ),
    ]  # fmt: skip


def _servo(prefix: str, *, travel: float, p0: float, p1: float) -> list[Point]:
    """Eight signals of one servo axis."""
    return [
        _analog(f"{prefix}_position", "mm", Shape.TRAVEL, 0.0, travel, p0=p0, p1=p1, decimals=3),
        _analog(
            f"{prefix}_speed", "mm/s", Shape.SPEED, 0.0, travel * 1.4, p0=p0, p1=p1, decimals=1,
            period=MEDIUM, low=-travel * 1.4,
        ),
        _analog(f"{prefix}_torque", "N.m", Shape.LOAD, 0.3, 8.0, p0=p0, p1=p1, wear=0.25),
        _analog(
            f"{prefix}_current", "A", Shape.LOAD, 0.4, 5.2, p0=p0, p1=p1, wear=0.3, period=MEDIUM
        ),
        _analog(
            f"{prefix}_temperature", "Cel", Shape.THERMAL, 33.0, 1.4, wear=0.15, period=MEDIUM,
            low=10.0,
        ),
        _analog(
            f"{prefix}_following_error", "mm", Shape.VIBRATION, 0.01, 0.08, p0=p0, p1=p1,
            decimals=4, wear=0.8, period=MEDIUM,
        ),
        _flag(f"{prefix}_in_position", p1, 1.0),
        Point(name=f"{prefix}_strokes", unit="1", shape=Shape.CYCLES, a=1.0, decimals=0, high=1e6),
    ]  # fmt: skip


def _cell(cycle_s: float) -> list[Point]:
    """What every automatic station measures of itself: media, cabinet, energy, cycle."""
    return [
        Point(
            name="cycle_time", unit="s", shape=Shape.RESULT, b=cycle_s, noise=0.4, decimals=2,
            wear_gain=0.04, high=cycle_s * 2,
        ),
        *_media(),
    ]  # fmt: skip


def _media() -> list[Point]:
    return [
        _analog("air_pressure", "bar", Shape.UTILITY, 6.3, -0.5, decimals=3, noise=0.01),
        _analog("air_flow", "L/min", Shape.LOAD, 12.0, 85.0, decimals=1, period=MEDIUM),
        _analog("cabinet_temperature", "Cel", Shape.THERMAL, 30.0, 0.7, period=MEDIUM, low=10.0),
        _analog("mains_voltage", "V", Shape.UTILITY, 402.0, -5.0, decimals=1, noise=0.4, low=360.0),
        _analog("power", "kW", Shape.LOAD, 0.8, 3.6, decimals=3, noise=0.01, wear=0.1),
        _analog("power_factor", "1", Shape.LOAD, 0.82, 0.12, decimals=3, period=MEDIUM),
        Point(
            name="energy", unit="kW.h", shape=Shape.METER, a=0.035, p0=0.8, decimals=2,
            period=SLOW, high=1e6,
        ),
        _analog("ambient_temperature", "Cel", Shape.AMBIENT, 24.0, 2.5, period=SLOW, low=5.0),
        Point(name="tool_life", unit="1", shape=Shape.LIFE, b=5000.0, decimals=0, high=5000.0),
        Point(name="step", unit="1", shape=Shape.STEP, a=12.0, decimals=0, high=12.0),
        Point(name="parts_total", unit="1", shape=Shape.COUNT, a=1.0, decimals=0, high=1e6),
        Point(name="rejects_total", unit="1", shape=Shape.DEFECTS, decimals=0, high=1e4),
        *_stops(),
        _flag("part_present", 0.02, 0.98),
        _flag("clamp_closed", 0.06, 0.92),
        _flag("pallet_locked", 0.03, 0.95),
        _flag("door_closed", 0.0, 1.0),
        _flag("start_enabled", 0.0, 0.05),
    ]  # fmt: skip


def _result(name: str, unit: str, b: float, noise: float, **more: float) -> Point:
    return Point(
        name=name, unit=unit, shape=Shape.RESULT, b=b, noise=noise, high=b * 1.6,
        decimals=int(more.get("decimals", 2)), wear_gain=more.get("wear", 0.0),
        lot_gain=more.get("lot", 0.0), a=more.get("heat", 0.0), p0=more.get("p0", 0.0),
    )  # fmt: skip


def _tightening(k: int) -> list[Point]:
    p0, p1 = (0.12, 0.5) if k == 1 else (0.5, 0.9)
    s = f"spindle{k}"
    return [
        *_motor(s, amps=6.0, rpm=900.0, p0=p0, p1=p1),
        _analog(f"{s}_angle", "deg", Shape.TRAVEL, 0.0, 720.0, p0=p0, p1=p1, decimals=1),
        _analog(f"{s}_vibration", "mm/s", Shape.VIBRATION, 0.3, 1.8, p0=p0, p1=p1, wear=1.6),
        _result(f"{s}_peak_torque", "N.m", 24.0, 0.22, wear=-0.05, lot=0.03),
        _result(f"{s}_final_angle", "deg", 412.0, 4.0, wear=0.06, lot=0.05, decimals=1),
        _result(f"{s}_clamp_torque", "N.m", 11.5, 0.2, wear=0.08, lot=0.06),
        _result(f"{s}_time", "s", 6.4, 0.12, wear=0.05),
        Point(name=f"{s}_setpoint", unit="N.m", shape=Shape.SETPOINT, b=24.0, a=0.01, high=40.0),
    ]


def _pressing(k: int) -> list[Point]:
    p0, p1 = (0.15, 0.5) if k == 1 else (0.5, 0.88)
    s = f"press{k}"
    return [
        *_motor(s, amps=9.0, rpm=1500.0, p0=p0, p1=p1),
        _analog(f"{s}_stroke", "mm", Shape.TRAVEL, 0.0, 180.0, p0=p0, p1=p1, decimals=3),
        _analog(
            f"{s}_force", "kN", Shape.LOAD, 0.1, 38.0, p0=p0, p1=p1, wear=0.15, lot=0.15
        ),
        _result(f"{s}_peak_force", "kN", 36.0, 0.5, wear=0.12, lot=0.1),
        _result(f"{s}_block_position", "mm", 171.2, 0.03, wear=0.001, decimals=3),
        _result(f"{s}_fit_energy", "J", 820.0, 14.0, wear=0.1, lot=0.1, decimals=1),
        _result(f"{s}_time", "s", 5.8, 0.1, wear=0.05),
        Point(name=f"{s}_setpoint", unit="kN", shape=Shape.SETPOINT, b=36.0, a=0.01, high=60.0),
    ]  # fmt: skip


def _measuring(k: int) -> list[Point]:
    p0, p1 = (0.15, 0.5) if k == 1 else (0.5, 0.85)
    s = f"probe{k}"
    return [
        *_motor(s, amps=2.0, rpm=300.0, p0=p0, p1=p1),
        _analog(f"{s}_distance", "mm", Shape.TRAVEL, 2.0, 36.0, p0=p0, p1=p1, decimals=4),
        _analog(f"{s}_preload", "N", Shape.LOAD, 2.0, 240.0, p0=p0, p1=p1, decimals=1, lot=0.04),
        _result(f"{s}_gap", "mm", 1.42, 0.006, lot=0.02, heat=0.0004, decimals=4),
        _result(f"{s}_shim", "mm", 1.45, 0.02, lot=0.02, decimals=3),
        _result(f"{s}_runout", "mm", 0.021, 0.002, wear=0.3, decimals=4),
        _result(f"{s}_time", "s", 4.9, 0.1),
        Point(name=f"{s}_setpoint", unit="mm", shape=Shape.SETPOINT, b=1.45, a=0.01, high=3.0),
    ]


def _sealing(k: int) -> list[Point]:
    p0, p1 = (0.1, 0.5) if k == 1 else (0.5, 0.9)
    s = f"dosing{k}"
    return [
        *_motor(s, amps=3.0, rpm=450.0, p0=p0, p1=p1),
        _analog(f"{s}_pressure", "bar", Shape.LOAD, 1.0, 42.0, p0=p0, p1=p1, wear=0.2, lot=0.1),
        _analog(f"{s}_flow", "mL/min", Shape.LOAD, 0.0, 64.0, p0=p0, p1=p1, decimals=1, lot=-0.08),
        _result(f"{s}_bead_volume", "mL", 8.4, 0.08, lot=0.04, wear=-0.05),
        _result(f"{s}_bead_width", "mm", 3.1, 0.05, lot=0.05),
        _result(f"{s}_bead_gap", "mm", 0.1, 0.03, wear=0.4, decimals=3),
        _result(f"{s}_time", "s", 9.7, 0.15),
        Point(name=f"{s}_setpoint", unit="mL", shape=Shape.SETPOINT, b=8.4, a=0.01, high=15.0),
    ]


_PROCESS = (_tightening, _pressing, _measuring, _sealing)


def process_name(device: Device) -> str:
    """What a station does: tightening, pressing, measuring or sealing.

    Stations take turns by their number, so that every zone has all four.
    """
    number = int("".join(c for c in device.id if c.isdigit()) or 0)
    return _PROCESS[number % len(_PROCESS)].__name__.lstrip("_")


def _operations(device: Device) -> list[Point]:
    """A main station's cycle as its two operations: which one is at work, and their last times."""
    first, second = operation_numbers(device)
    step = second - first
    times = ((f"op{first:03d}_time", 1), (f"op{second:03d}_time", 2), ("cycle_time", 0))
    return [
        Point(
            name="operation", unit="1", shape=Shape.OPERATION, b=first - step, a=step, decimals=0,
            high=second,
        ),
        *(
            Point(name=name, unit="s", shape=Shape.DURATION, a=k, high=74.0)
            for name, k in times
        ),
    ]  # fmt: skip


def _main_station(device: Device) -> list[Point]:
    return [*_operations(device), *_media(), *_work(device), *_bits("sensor", 1)]


def _subassembly_station(device: Device) -> list[Point]:
    return [*_cell(37.0), *_work(device), *_bits("sensor", 4)]


def _work(device: Device) -> list[Point]:
    """What a station of the main line or of a feeder line measures of its two processes."""
    process = next(p for p in _PROCESS if p.__name__.lstrip("_") == process_name(device))
    return [
        *process(1),
        *process(2),
        *_servo("lift", travel=320.0, p0=0.05, p1=0.95),
        *_servo("feed", travel=640.0, p0=0.02, p1=0.4),
        *_servo("clamp", travel=60.0, p0=0.04, p1=0.96),
        _analog("tool_temperature", "Cel", Shape.THERMAL, 29.0, 1.8, wear=0.2, low=10.0),
        _analog("vacuum", "kPa", Shape.LOAD, 2.0, 62.0, p0=0.1, p1=0.6, wear=-0.1, period=MEDIUM),
        _analog("hydraulic_pressure", "bar", Shape.LOAD, 58.0, 6.0, decimals=1, wear=-0.08),
        _analog("hydraulic_temperature", "Cel", Shape.THERMAL, 38.0, 1.2, period=MEDIUM, low=10.0),
        _analog("base_vibration", "mm/s", Shape.VIBRATION, 0.2, 0.9, wear=1.2, decimals=3),
    ]


def _subassembly(device: Device) -> list[Point]:
    return [
        *_subassembly_station(device),
        _analog("bowl_feeder_level", "%", Shape.ROUTE, 75.0, -50.0, p0=1500.0, period=MEDIUM),
        _analog("bowl_feeder_vibration", "mm/s", Shape.VIBRATION, 0.5, 3.0, wear=0.5),
        _analog("bowl_feeder_current", "A", Shape.LOAD, 0.3, 1.4, decimals=3, wear=0.2),
        _analog("feed_rate", "1/min", Shape.LOAD, 4.0, 60.0, decimals=1, lot=-0.2, period=MEDIUM),
        _flag("bowl_feeder_empty", 0.0, 0.02),
    ]


def _robot(device: Device) -> list[Point]:
    points: list[Point] = []
    for k in range(1, 7):
        p0, p1 = 0.04 * k, 0.55 + 0.06 * k
        turn = (330.0, 210.0, 260.0, 300.0, 230.0, 600.0)[k - 1]
        points += [
            _analog(f"axis{k}_position", "deg", Shape.TRAVEL, 0.0, turn, p0=p0, p1=p1, decimals=3),
            _analog(
                f"axis{k}_speed", "deg/s", Shape.SPEED, 0.0, turn * 0.6, p0=p0, p1=p1, decimals=1,
                low=-turn * 0.6,
            ),
            _analog(f"axis{k}_torque", "N.m", Shape.LOAD, 3.0, 140.0 / k, p0=p0, p1=p1, wear=0.25),
            _analog(
                f"axis{k}_current", "A", Shape.LOAD, 0.5, 14.0 / k, p0=p0, p1=p1, wear=0.3,
                period=MEDIUM,
            ),
            _analog(
                f"axis{k}_temperature", "Cel", Shape.THERMAL, 35.0, 1.5, wear=0.1, period=MEDIUM,
                low=10.0,
            ),
            _analog(
                f"axis{k}_vibration", "mm/s", Shape.VIBRATION, 0.2, 1.1, p0=p0, p1=p1, wear=1.0,
                period=MEDIUM,
            ),
            _analog(
                f"axis{k}_following_error", "deg", Shape.VIBRATION, 0.004, 0.02, p0=p0, p1=p1,
                decimals=4, wear=0.6, period=MEDIUM,
            ),
            _flag(f"axis{k}_brake_open", 0.02, 0.97),
        ]  # fmt: skip
    return [
        *points,
        Point(name="program", unit="1", shape=Shape.STEP, a=6.0, decimals=0, high=6.0),
        Point(name="cycles_total", unit="1", shape=Shape.CYCLES, a=1.0, decimals=0, high=1e6),
        _analog("controller_temperature", "Cel", Shape.THERMAL, 34.0, 0.9, period=MEDIUM, low=10.0),
        _analog("power", "kW", Shape.LOAD, 0.6, 4.4, decimals=3, noise=0.01, wear=0.08),
        *_stops(),
        *_bits("io", 4),
        _flag("gripper_closed", 0.2, 0.7),
    ]


def _leak_tester(device: Device) -> list[Point]:
    return [
        *_cell(90.0),
        _analog("test_pressure", "mbar", Shape.LOAD, 2.0, 498.0, p0=0.1, p1=0.9, decimals=1),
        _analog(
            "pressure_drop", "Pa", Shape.LOAD, 1.0, 38.0, p0=0.4, p1=0.9, decimals=1, lot=0.3
        ),
        _analog("fill_flow", "mL/min", Shape.LOAD, 0.0, 240.0, p0=0.08, p1=0.4, decimals=1),
        _analog("seal_force", "N", Shape.LOAD, 10.0, 2200.0, p0=0.04, p1=0.96, decimals=0),
        _analog("part_temperature", "Cel", Shape.THERMAL, 24.0, 0.4, decimals=2, low=10.0),
        _result("leak_rate", "mL/min", 2.4, 0.25, wear=0.5, lot=0.3, heat=0.01, decimals=3),
        _result("volume", "mL", 5400.0, 12.0, decimals=0),
        _result("master_deviation", "%", 1.1, 0.2, wear=0.6, decimals=2),
        _flag("valve_fill_open", 0.08, 0.4),
        _flag("valve_vent_open", 0.9, 1.0),
        *_bits("seal", 2),
    ]  # fmt: skip


def _eol_bench(device: Device) -> list[Point]:
    sides = ("input", "output1", "output2")
    points: list[Point] = []
    for side in sides:
        points += _motor(side, amps=60.0, rpm=5200.0, p0=0.08, p1=0.92)
        points.append(
            _analog(f"{side}_power", "kW", Shape.LOAD, 0.5, 88.0, p0=0.08, p1=0.92, wear=0.05)
        )
    for k in range(1, 25):
        points.append(
            _analog(
                f"vibration_order_{k:02d}", "mm/s", Shape.VIBRATION, 0.05, 3.2 / k**0.7, p0=0.1,
                p1=0.9, decimals=3, wear=1.2, lot=0.3, period=FAST if k <= 12 else MEDIUM,
            )
        )  # fmt: skip
    for k in range(1, 13):
        points.append(
            _analog(
                f"noise_band_{k:02d}", "dB", Shape.VIBRATION, 38.0, 30.0, p0=0.1, p1=0.9,
                decimals=1, noise=0.02, wear=0.1, lot=0.08, low=20.0,
            )
        )  # fmt: skip
    for gear in (1, 2, 3, 4, 5, 6, 7, 8):
        points += [
            _result(f"gear{gear}_shift_time", "ms", 160.0, 5.0, wear=0.1, lot=0.1, decimals=1),
            _result(f"gear{gear}_shift_force", "N", 110.0, 4.0, wear=0.1, lot=0.15, decimals=1),
            _result(f"gear{gear}_drag_torque", "N.m", 4.2, 0.12, wear=0.05, lot=0.15),
            _result(f"gear{gear}_noise", "dB", 71.0, 0.7, lot=0.05, wear=0.04, decimals=1),
            _result(f"gear{gear}_efficiency", "%", 95.5, 0.2, lot=-0.01, decimals=2),
        ]
    for k, where in enumerate(("sump", "inlet", "outlet", "cooler")):
        points += [
            _analog(f"oil_temperature_{where}", "Cel", Shape.THERMAL, 62.0 + 4 * k, 1.8, low=10.0),
            _analog(
                f"oil_pressure_{where}", "bar", Shape.LOAD, 1.2, 4.6, p0=0.05, p1=0.95, decimals=3,
                wear=-0.1,
            ),
            _analog(
                f"oil_flow_{where}", "L/min", Shape.LOAD, 0.5, 11.0, p0=0.05, p1=0.95, wear=-0.05,
                period=MEDIUM,
            ),
        ]  # fmt: skip
    for k in range(1, 9):
        points.append(
            _analog(f"bearing{k}_temperature", "Cel", Shape.THERMAL, 44.0, 1.9, wear=0.2, low=10.0)
        )
    for k in range(1, 5):
        points.append(
            _analog(
                f"solenoid{k}_current", "A", Shape.LOAD, 0.02, 1.1, p0=0.1 * k, p1=0.1 * k + 0.5,
                decimals=3,
            )
        )  # fmt: skip
    return [*_cell(370.0), *points, *_bits("clutch", 4), *_bits("sensor", 5)]


def _oil_fill(device: Device) -> list[Point]:
    return [
        *_cell(35.0),
        _analog("fill_flow", "L/min", Shape.LOAD, 0.0, 14.0, p0=0.15, p1=0.8, lot=-0.05),
        _analog("fill_pressure", "bar", Shape.LOAD, 0.4, 3.6, p0=0.15, p1=0.8, decimals=3),
        _analog("oil_temperature", "Cel", Shape.THERMAL, 40.0, 0.8, low=10.0),
        _analog("tank_level", "%", Shape.ROUTE, 92.0, -60.0, p0=9000.0, period=MEDIUM),
        _result("fill_volume", "L", 5.62, 0.02, lot=0.002, decimals=3),
        _result("fill_time", "s", 21.5, 0.3, wear=0.08, lot=0.04),
        _flag("nozzle_down", 0.12, 0.85),
    ]


def _conveyor(device: Device) -> list[Point]:
    points: list[Point] = []
    for k in range(1, 5):
        points += _motor(f"drive{k}", amps=1.8, rpm=1380.0, p0=0.0, p1=0.3 + 0.15 * k)
    return [
        *points,
        _analog("belt_tension", "N", Shape.LOAD, 240.0, 35.0, decimals=1, wear=-0.15),
        _analog("belt_vibration", "mm/s", Shape.VIBRATION, 0.4, 1.2, wear=1.1),
        Point(name="pallets_total", unit="1", shape=Shape.COUNT, a=1.0, decimals=0, high=1e6),
        *_stops(),
        *_bits("position", 12),
        *_bits("stopper", 6),
        *_bits("lift", 4),
    ]


def _agv(device: Device) -> list[Point]:
    trip = 420.0 + 15.0 * (device.index % 7)
    return [
        _analog("battery", "%", Shape.BATTERY, 96.0, -60.0, p0=21600.0, decimals=1, period=MEDIUM),
        _analog("battery_voltage", "V", Shape.BATTERY, 51.5, -4.0, p0=21600.0, low=40.0),
        _analog("battery_temperature", "Cel", Shape.THERMAL, 29.0, 1.0, period=MEDIUM, low=10.0),
        _analog("position_x", "m", Shape.ROUTE, 4.0, 130.0, p0=trip, decimals=2),
        _analog("position_y", "m", Shape.ROUTE, 2.0, 46.0, p0=trip * 0.5, decimals=2),
        _analog("heading", "deg", Shape.ROUTE, 0.0, 359.0, p0=trip, decimals=1),
        _analog("speed", "m/s", Shape.LOAD, 0.0, 1.3, p0=0.0, p1=1.0),
        _analog("drive_current", "A", Shape.LOAD, 1.2, 14.0, p0=0.0, p1=1.0, wear=0.2),
        _analog("drive_temperature", "Cel", Shape.THERMAL, 34.0, 1.3, period=MEDIUM, low=10.0),
        _analog("steering_angle", "deg", Shape.SPEED, 0.0, 40.0, p0=0.0, p1=1.0, low=-40.0),
        _analog("load_mass", "kg", Shape.LOAD, 20.0, 380.0, decimals=0, period=MEDIUM),
        _analog("wheel_vibration", "mm/s", Shape.VIBRATION, 0.3, 1.0, wear=0.9),
        Point(
            name="odometer", unit="km", shape=Shape.METER, a=0.12, p0=0.2, period=SLOW, high=1e5
        ),
        Point(name="trips_total", unit="1", shape=Shape.CYCLES, a=1.0, decimals=0, high=1e6),
        *_bits("safety_field", 2),
        _flag("charging", 0.95, 1.0),
        _flag("loaded", 0.1, 0.6),
        Point(name="fault_active", unit="", shape=Shape.STOPPED, a=4.0, decimals=0),
        Point(name="safety_circuit_ok", unit="", shape=Shape.HEALTHY, decimals=0),
    ]  # fmt: skip


def _vision(device: Device) -> list[Point]:
    return [
        *_cell(12.0),
        _result("score", "%", 96.5, 0.8, wear=-0.05, lot=-0.02, decimals=1),
        _result("contrast", "%", 74.0, 1.6, wear=-0.1, decimals=1),
        _result("read_time", "ms", 84.0, 6.0, wear=0.2, decimals=1),
        _analog("light_current", "A", Shape.LOAD, 0.1, 1.6, decimals=3, wear=0.25),
        _analog("camera_temperature", "Cel", Shape.THERMAL, 38.0, 0.8, period=MEDIUM, low=10.0),
        _analog("exposure", "ms", Shape.SETPOINT, 6.0, 0.1, noise=0.02, decimals=3, period=MEDIUM),
        _flag("trigger", 0.4, 0.45),
    ]


def _utility(device: Device) -> list[Point]:
    points: list[Point] = []
    for k in range(1, 7):
        points += [
            _analog(f"feeder{k}_power", "kW", Shape.UTILITY, 24.0, 180.0, decimals=1, noise=0.4),
            _analog(f"feeder{k}_current", "A", Shape.UTILITY, 40.0, 260.0, decimals=1, noise=0.6),
            _analog(
                f"feeder{k}_voltage", "V", Shape.UTILITY, 403.0, -6.0, decimals=1, noise=0.3,
                low=360.0,
            ),
            _analog(f"loop{k}_pressure", "bar", Shape.UTILITY, 7.1, -0.6, decimals=3, noise=0.01),
            _analog(
                f"loop{k}_flow", "m3/h", Shape.UTILITY, 60.0, 420.0, decimals=1, period=MEDIUM
            ),
            _analog(
                f"loop{k}_temperature", "Cel", Shape.AMBIENT, 21.0, 1.5, period=MEDIUM, low=5.0
            ),
            Point(
                name=f"meter{k}", unit="kW.h", shape=Shape.METER, p0=140.0, decimals=1, period=SLOW,
                high=1e7,
            ),
        ]  # fmt: skip
    return [
        *points,
        _analog("humidity", "%", Shape.AMBIENT, 46.0, 6.0, decimals=1, period=SLOW),
        _analog("particles", "1/m3", Shape.UTILITY, 9000.0, 12000.0, decimals=0, noise=300.0),
        _analog("dew_point", "Cel", Shape.AMBIENT, 3.0, 1.0, period=SLOW, low=-20.0),
        *_stops(),
    ]


_POINTS: dict[DeviceClass, Callable[[Device], list[Point]]] = {
    DeviceClass.STATION: _main_station,
    DeviceClass.SUBASSEMBLY: _subassembly,
    DeviceClass.ROBOT: _robot,
    DeviceClass.LEAK_TESTER: _leak_tester,
    DeviceClass.EOL_BENCH: _eol_bench,
    DeviceClass.OIL_FILL: _oil_fill,
    DeviceClass.CONVEYOR: _conveyor,
    DeviceClass.AGV: _agv,
    DeviceClass.VISION: _vision,
    DeviceClass.UTILITY: _utility,
}


def device_points(device: Device) -> list[Point]:
    """The points of a device beyond its ten common tags; empty for devices that are not counted.

    Raises ValueError when the list does not have the number that the table of devices promises.
    """
    if not device.counted:
        return []
    points = _POINTS[device.klass](device)
    wanted = POINTS[device.klass] - COMMON_TAGS
    if len(points) != wanted or len({p.name for p in points}) != wanted:
        raise ValueError(
            f"device class {device.klass.value}: {wanted} points promised, "
            f"{len(points)} listed, {len({p.name for p in points})} of them with distinct names"
        )
    return points
