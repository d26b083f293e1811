"""Every Sparkplug signal of the plant as arrays: names and ranges once, all values in one call.

Values follow the simulated devices (see points.Shape) and counter-based noise: the same seed,
plant state and instant give the same values. Report by exception: a signal is reported when its
rate class is due and its rounded value has moved by at least one step of its resolution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel
from workshop_brain.model.signal import SignalKind
from workshop_brain.model.state import UnitState
from workshop_brain.twin.points import Point, device_points
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_H, NS_PER_MS

PUBLISH_NS = 250 * NS_PER_MS
"""Sampling and publishing interval of the edge nodes."""

_ROOM_C = 24.0
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@kernel
def _mix(word: np.uint64) -> np.uint64:
    """SplitMix64 finaliser (Steele, Lea, Flood 2014): a well mixed 64-bit word."""
    z = word
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def _normal(key: np.uint64, counter: int) -> float:
    """A nearly normal number, mean 0, variance 1: four uniform 16-bit parts of one mixed word."""
    word = _mix(key + np.uint64(counter) * np.uint64(0x9E3779B97F4A7C15))
    mask = np.uint64(0xFFFF)
    total = (
        float(word & mask)
        + float((word >> np.uint64(16)) & mask)
        + float((word >> np.uint64(32)) & mask)
        + float(word >> np.uint64(48))
    )
    return (total / 65536.0 - 2.0) * 1.7320508075688772


@kernel
def _shape_value(
    shape: int,
    point: NDArray[np.float64],
    key: np.uint64,
    t_ms: int,
    running: float,
    phase: float,
    device: NDArray[np.float64],
    share: float,
    hours: float,
) -> float:
    """The value of one signal before rounding; see points.Shape and the columns below."""
    b, a, p0, p1 = point[0], point[1], point[2], point[3]
    noise, wear_gain, lot_gain = point[4], point[5], point[6]
    wear, warm, lot, cycles, pieces, defects, reason, up, operation = (
        device[0], device[1], device[2], device[3], device[4], device[5], device[6], device[7],
        device[8],
    )  # fmt: skip
    inside = (phase - p0) / (p1 - p0) if p1 > p0 else -1.0
    active = running if 0.0 <= inside <= 1.0 else 0.0
    causes = 1.0 + wear_gain * wear + lot_gain * lot
    value = b
    if shape == 0:  # AMBIENT
        value = b + a * np.sin(2.0 * np.pi * (t_ms / 86_400_000.0)) + noise * _normal(key, t_ms)
    elif shape == 1:  # LOAD
        value = b * up + active * a * np.sin(np.pi * inside) * causes + noise * _normal(key, t_ms)
    elif shape == 2:  # THERMAL
        value = b + a * warm + 20.0 * wear_gain * wear + noise * _normal(key, t_ms)
    elif shape == 3:  # VIBRATION: amplitude scatters with its level
        level = b * (0.4 + 0.6 * running) + active * a * np.sin(np.pi * inside) * causes
        value = level * (1.0 + 0.06 * _normal(key, t_ms)) + noise * _normal(
            key ^ np.uint64(1), t_ms
        )
    elif shape == 4:  # TRAVEL
        value = b + active * a * 0.5 * (1.0 - np.cos(2.0 * np.pi * inside))
        value += noise * _normal(key, t_ms)
    elif shape == 5:  # SPEED
        value = b + active * a * np.sin(2.0 * np.pi * inside) + noise * _normal(key, t_ms)
    elif shape == 6:  # COUNT
        value = b + pieces * a
    elif shape == 7:  # CYCLES
        value = b + cycles * a
    elif shape == 8:  # FLAG
        value = 1.0 if active > 0.0 else 0.0
    elif shape == 9:  # RESULT: drawn once per cycle
        value = b * causes + a * warm + noise * _normal(key, int(cycles))
    elif shape == 10:  # LIFE
        value = b * (1.0 - wear)
    elif shape == 11:  # BATTERY: 80 % of the period discharging, the rest charging
        turn = t_ms / (p0 * 1000.0) + float(key & np.uint64(1023)) / 1024.0
        turn -= np.floor(turn)
        level = turn / 0.8 if turn < 0.8 else (1.0 - turn) / 0.2
        value = b + a * level + noise * _normal(key, t_ms)
    elif shape == 12:  # ROUTE
        turn = t_ms / (p0 * 1000.0) + float(key & np.uint64(1023)) / 1024.0
        turn -= np.floor(turn)
        value = b + a * (1.0 - abs(2.0 * turn - 1.0)) + noise * _normal(key, t_ms)
    elif shape == 13:  # UTILITY
        value = b + a * share + noise * _normal(key, t_ms)
    elif shape == 14:  # SETPOINT: a recipe correction per lot
        value = b * (1.0 + a * lot) + noise * _normal(key, t_ms)
    elif shape == 15:  # STEP
        value = np.floor(min(phase, 0.999) * a) + 1.0 if running > 0.0 else 0.0
    elif shape == 16:  # METER
        value = b + a * cycles + p0 * hours
    elif shape == 17:  # STOPPED
        value = 1.0 if reason == a else 0.0
    elif shape == 18:  # DEFECTS
        value = b + defects
    elif shape == 19:  # HEALTHY
        value = up
    elif shape == 20:  # OPERATION
        value = b + a * operation if operation > 0.0 else 0.0
    else:  # DURATION
        value = device[9] * (a != 2.0) + device[10] * (a != 1.0)
    return float(value)


@kernel
def sample_values(
    first: int,
    last: int,
    t_ms: int,
    device_of: NDArray[np.int64],
    shape: NDArray[np.int64],
    points: NDArray[np.float64],
    keys: NDArray[np.uint64],
    scale: NDArray[np.float64],
    low: NDArray[np.float64],
    running: NDArray[np.float64],
    phase: NDArray[np.float64],
    devices: NDArray[np.float64],
    share: float,
    hours: float,
    out: NDArray[np.float64],
) -> None:
    """Write the rounded values of signals ``first..last-1`` into ``out[first:last]``.

    Parameters
    ----------
    points : float64, shape (n_signals, 7): b, a, p0, p1, noise, wear gain, lot gain
    devices : float64, shape (n_devices, 11): wear, K above room, lot -1..1, cycles, pieces,
        defects, stop reason, up, operation, last seconds of the first and the second operation
    scale : ``10**decimals`` per signal; values are whole multiples of its inverse
    low : lower end of the range for gauges that cannot pass it, -inf otherwise
    """
    for s in range(first, last):
        d = device_of[s]
        value = _shape_value(
            shape[s], points[s], keys[s], t_ms, running[d], phase[d], devices[d], share, hours
        )
        if value < low[s]:
            value = low[s]
        out[s] = np.rint(value * scale[s]) / scale[s]


@kernel
def changed_signals(
    first: int,
    last: int,
    tick: int,
    period: NDArray[np.int64],
    step: NDArray[np.float64],
    value: NDArray[np.float64],
    reported: NDArray[np.float64],
    out: NDArray[np.int64],
) -> int:
    """Signals to report now; marks them reported and returns how many stand in ``out``."""
    n = 0
    for s in range(first, last):
        if (tick + s) % period[s] != 0:
            continue
        if not abs(value[s] - reported[s]) < step[s]:  # NaN = never reported
            reported[s] = value[s]
            out[n] = s
            n += 1
    return n


def cycle_phase(sim: PlantSim, t_ns: int) -> NDArray[np.float64]:
    """How far each device is in its cycle at ``t_ns``, 0..1; shape (n_devices,).

    Of two operations the first goes from 0 to 0.5 and the second from 0.5 to 1.
    """
    begin, end, switch = sim.cycle_start_ns, sim.cycle_end_ns, sim.switch_ns
    whole = (t_ns - begin) / np.maximum(end - begin, 1)
    first = (t_ns - begin) / np.maximum(switch - begin, 1)
    second = (t_ns - switch) / np.maximum(end - switch, 1)
    parts = np.where(t_ns < switch, 0.5 * first, 0.5 + 0.5 * second)
    return np.asarray(np.clip(np.where(switch > 0, parts, whole), 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class NodeSignals:
    """The rows ``first..last-1`` of one edge node, and where each of its devices begins."""

    id: str
    first: int
    last: int
    devices: tuple[int, ...]
    bounds: tuple[int, ...]


class Signals:
    """All Sparkplug signals of one plant, grouped by edge node and device.

    Attributes
    ----------
    path, name, unit, kind
        Per signal; the path starts at the site (no enterprise).
    low, high
        Display range.
    nodes
        Edge nodes with their rows.
    """

    def __init__(self, sim: PlantSim, *, seed: int, rate: float = 1.0) -> None:
        if not rate > 0:
            raise ValueError(f"rate must be > 0, got {rate}")
        self._sim = sim
        self.splits = max(1, int(np.ceil(rate)))
        points = self._lay_out(sim)
        n = len(points)
        self.count = n
        self.shape = np.array([p.shape for p in points], np.int64)
        columns = ("b", "a", "p0", "p1", "noise", "wear_gain", "lot_gain")
        self.points = np.array([[getattr(p, c) for c in columns] for p in points], np.float64)
        self.scale = np.array([10.0**p.decimals for p in points])
        self.step = 0.999 / self.scale
        slower = np.maximum(1, np.rint(np.array([p.period for p in points]) * self.splits / rate))
        event = np.array([p.noise == 0.0 and p.kind is not SignalKind.COUNTER for p in points])
        self.period = np.where(event, 1, slower).astype(np.int64)
        self.low = np.array([p.low for p in points])
        self.high = np.array([p.high for p in points])
        gauge = np.array([p.kind is SignalKind.GAUGE for p in points])
        self._floor = np.where(gauge, self.low, -np.inf)
        self.name = [p.name for p in points]
        self.unit = [p.unit for p in points]
        self.kind = [p.kind for p in points]
        ids = np.arange(n, dtype=np.uint64)
        with np.errstate(over="ignore"):
            keys = (ids + np.uint64(1)) * _GOLDEN + np.uint64(seed) * np.uint64(0xD6E8FEB86659FD93)
        self.keys = keys ^ (keys >> np.uint64(29))
        self.value = np.full(n, np.nan)
        self._reported = np.full(n, np.nan)
        self._out = np.empty(n, np.int64)
        self._start_ns = sim.now_ns

    def _lay_out(self, sim: PlantSim) -> list[Point]:
        by_node: dict[str, list[int]] = {}
        for device in sim.devices:
            if device.counted:
                by_node.setdefault(device.edge_node, []).append(device.index)
        points: list[Point] = []
        owner: list[int] = []
        nodes: list[NodeSignals] = []
        self.path: list[str] = []
        for id, members in by_node.items():
            bounds = [len(points)]
            for index in members:
                own = device_points(sim.devices[index])
                root = sim.devices[index].path.split("/", 1)[1]
                self.path += [f"{root}/{p.name}" for p in own]
                points += own
                owner += [index] * len(own)
                bounds.append(len(points))
            nodes.append(NodeSignals(id, bounds[0], bounds[-1], tuple(members), tuple(bounds)))
        self.nodes = tuple(nodes)
        self.device = np.array(owner, np.int64)
        return points

    def values(self, t_ns: int, node: NodeSignals | None = None) -> NDArray[np.float64]:
        """Values at ``t_ns`` of one edge node's signals, or of all; shape (count,).

        Rows outside the node keep what they had. The plant must have been advanced to ``t_ns``.
        """
        sim = self._sim
        running = (sim.state == UnitState.EXECUTE).astype(np.float64)
        phase = cycle_phase(sim, t_ns)
        first, last = (0, self.count) if node is None else (node.first, node.last)
        sample_values(
            first,
            last,
            t_ns // NS_PER_MS,
            self.device,
            self.shape,
            self.points,
            self.keys,
            self.scale,
            self._floor,
            running,
            phase,
            self._device_columns(),
            float(running.mean()) if len(running) else 0.0,
            (t_ns - self._start_ns) / NS_PER_H,
            self.value,
        )
        return self.value

    def _device_columns(self) -> NDArray[np.float64]:
        sim = self._sim
        lot = np.sin(np.asarray(sim.lot, np.float64) * 12.9898)
        down = (sim.state == UnitState.ABORTED) | (sim.state == UnitState.ABORTING)
        return np.column_stack(
            (
                sim.wear,
                sim.temperature_c - _ROOM_C,
                lot,
                sim.cycle_no,
                sim.processed,
                sim.defective,
                sim.stop_reason,
                ~down,
                sim.operation,
                sim.operation_s,
            )
        ).astype(np.float64)

    def report(
        self, node: NodeSignals, t_ns: int, tick: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Signals of one edge node that changed by ``t_ns``, in row order, and their values."""
        self.values(t_ns, node)
        n = changed_signals(
            node.first,
            node.last,
            tick,
            self.period,
            self.step,
            self.value,
            self._reported,
            self._out,
        )
        which = self._out[:n].copy()
        return which, self.value[which]

    def mark_reported(self, node: NodeSignals) -> NDArray[np.float64]:
        """Take the node's present values as reported (a birth carries them all)."""
        self._reported[node.first : node.last] = self.value[node.first : node.last]
        return self.value[node.first : node.last].copy()
