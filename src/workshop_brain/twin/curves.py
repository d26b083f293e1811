"""Curves per part: what a tightening, pressing, dosing, measuring, leak-test or end-of-line
station records while it works on one part, with the marks that its causes leave.

Wear flattens and roughens, a material lot shifts the level, and a cycle that went wrong shows its
cause: so the reason of a defect can be found in the curve.
"""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.curve import Curve
from workshop_brain.twin.devices import Device, DeviceClass, operation_numbers
from workshop_brain.twin.points import process_name
from workshop_brain.twin.sim import Cycles, DefectCause, PlantSim

SAMPLES = 200
_WITH_CURVES = frozenset(
    {
        DeviceClass.STATION,
        DeviceClass.SUBASSEMBLY,
        DeviceClass.LEAK_TESTER,
        DeviceClass.EOL_BENCH,
    }
)
_LOT_PHASE = 12.9898
"""A lot's effect is sin(lot x this): spread over -1..1 without order."""


def has_curves(device: Device) -> bool:
    """True for devices that record a curve per part."""
    return device.counted and device.klass in _WITH_CURVES


def program(device: Device) -> str:
    """Name of the program whose curves the device records."""
    if device.klass is DeviceClass.LEAK_TESTER:
        return "leak_test"
    if device.klass is DeviceClass.EOL_BENCH:
        return "end_of_line"
    return process_name(device)


def channel_names(device: Device) -> tuple[str, str]:
    """Names of the two channels: what is swept and what is measured."""
    return {
        "tightening": ("angle_deg", "torque_nm"),
        "pressing": ("stroke_mm", "force_kn"),
        "measuring": ("distance_mm", "load_n"),
        "sealing": ("time_s", "pressure_bar"),
        "leak_test": ("time_s", "pressure_mbar"),
        "end_of_line": ("speed_rpm", "vibration_mm_s"),
    }[program(device)]


def cycle_curves(sim: PlantSim, cycles: Cycles, *, seed: int) -> list[tuple[int, Curve]]:
    """(device, curve) of every finished cycle at a device that records curves.

    A main station records one curve for each of its operations; ``step`` is the operation's number.
    """
    out: list[tuple[int, Curve]] = []
    for row in range(len(cycles)):
        index = int(cycles.device[row])
        device = sim.devices[index]
        if has_curves(device):
            parts = range(max(1, len(operation_numbers(device))))
            out += [(index, _curve(sim, device, cycles, row, seed, k)) for k in parts]
    return out


def _curve(
    sim: PlantSim, device: Device, cycles: Cycles, row: int, seed: int, operation: int
) -> Curve:
    """The curve of one operation of a cycle (0 the first or only one, 1 the second)."""
    numbers = operation_numbers(device)
    own = not numbers or int(cycles.operation[row]) == operation + 1
    first_of_two = bool(numbers) and operation == 0
    end_ns = int(cycles.switch_ns[row] if first_of_two else cycles.end_ns[row])
    draw = np.random.default_rng((seed, device.index, end_ns & 0xFFFFFFFF, end_ns >> 32))
    wear = float(cycles.wear[row])
    lot = float(np.sin(float(cycles.lot[row]) * _LOT_PHASE))
    bad = own and not cycles.ok[row]
    cause = DefectCause(int(cycles.cause[row])) if bad else DefectCause.NONE
    name = program(device)
    sweep, measured = curve_shape(name, wear=wear, lot=lot, cause=cause, draw=draw)
    first, second = channel_names(device)
    return Curve(
        serial=sim.texts[int(cycles.serial[row])],
        station=device.path,
        program=name,
        step=numbers[operation] if numbers else 1,
        time_ns=end_ns,
        channels={first: sweep.astype(np.float32), second: measured.astype(np.float32)},
    )


def curve_shape(
    program: str, *, wear: float, lot: float, cause: DefectCause, draw: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two channels of one curve, each of shape (SAMPLES,).

    Parameters
    ----------
    wear : 0 new .. 1 worn
    lot : effect of the material lot, -1 .. 1
    """
    x = np.linspace(0.0, 1.0, SAMPLES)
    rough = draw.normal(0.0, 1.0, SAMPLES)
    fault = cause is not DefectCause.NONE
    shape = {
        "tightening": _tightening,
        "pressing": _pressing,
        "measuring": _measuring,
        "sealing": _sealing,
        "leak_test": _leak_test,
        "end_of_line": _end_of_line,
    }[program]
    sweep, measured = shape(x, wear, lot, fault, draw)
    scatter = 0.004 * float(np.ptp(measured)) * (1.0 + 1.5 * wear)
    if cause is DefectCause.NOISE:
        at = int(draw.integers(SAMPLES // 4, SAMPLES - 10))
        measured[at : at + 6] *= 0.55
    return sweep, measured + scatter * rough


_Channels = tuple[NDArray[np.float64], NDArray[np.float64]]
_Array = NDArray[np.float64]


def _tightening(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Run-down friction, snug point, elastic rise; a bad joint yields or stays soft."""
    snug = 0.62 + 0.03 * lot + (0.12 if fault else 0.0)
    rundown = 1.4 * (1.0 + 0.5 * wear + 0.2 * lot)
    rise = np.clip((x - snug) / (1.0 - snug), 0.0, None)
    peak = 24.0 * (1.0 - 0.05 * wear) * (0.72 if fault else 1.0) + draw.normal(0.0, 0.2)
    return 412.0 * x, rundown * np.minimum(1.0, 12.0 * x) + (peak - rundown) * rise**1.15


def _pressing(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Contact, fit over the length, block; a bad fit is too loose or jams early."""
    fit = 14.0 * (1.0 + 0.12 * wear + 0.15 * lot) * (1.5 if fault else 1.0)
    slide = np.clip((x - 0.3) / 0.62, 0.0, 1.0) * fit
    block = np.clip((x - 0.92) / 0.08, 0.0, None) * (36.0 - fit + draw.normal(0.0, 0.4))
    return 171.2 * x, 0.2 + slide + block


def _measuring(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Load over distance; play shows as a flat part."""
    play = 0.25 + 0.03 * lot + (0.1 if fault else 0.0) + draw.normal(0.0, 0.005)
    return 1.6 * x, 240.0 * np.clip((x - play) / (1.0 - play), 0.0, None) ** 1.3


def _sealing(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Dosing pressure over time; a blocked nozzle or a bubble breaks the plateau."""
    level = 42.0 * (1.0 + 0.2 * wear + 0.1 * lot)
    pressure = level * (1.0 - np.exp(-x / 0.06)) * (x < 0.93)
    if fault:
        at = 0.3 + 0.4 * draw.random()
        pressure *= 1.0 - 0.6 * np.exp(-(((x - at) / 0.03) ** 2))
    return 9.7 * x, pressure


def _leak_test(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Fill, settle, test; a leak is the slope in the test phase."""
    leak = 2.4 * (1.0 + 0.5 * wear + 0.3 * lot) * (4.0 if fault else 1.0)
    fill = 500.0 * (1.0 - np.exp(-x / 0.05))
    return 90.0 * x, fill - leak * np.clip(x - 0.4, 0.0, None) / 0.6 - 6.0 * np.exp(-x / 0.2) * x


def _end_of_line(
    x: _Array, wear: float, lot: float, fault: bool, draw: np.random.Generator
) -> _Channels:
    """Vibration over a speed ramp: resonances grow with a bad lot, a nick raises one order."""
    speed = 600.0 + 4600.0 * x
    level = 0.4 + 0.9 * x
    for centre, height in ((0.32, 1.1), (0.58, 0.7), (0.81, 1.4)):
        level += height * (1.0 + 0.3 * lot) * np.exp(-(((x - centre) / 0.035) ** 2))
    if fault:
        level += 1.8 * np.exp(-(((x - draw.uniform(0.4, 0.75)) / 0.02) ** 2))
    return speed, level * (1.0 + 0.3 * wear)
