"""Scenario: the fixed numbers of the simulated plant.

Ranges are those of the reference plant's table (docs/explanation/reference-plant.md): cycle times,
MTBF, MTTR, micro-stops, tool changes, retest and rework. Each station's own numbers are drawn once
from its range with ``parameter_seed``, so the plant is the same plant under every simulation seed;
the seed decides what happens in it. Nothing here is tuned towards a gain.
"""

from dataclasses import dataclass, field

HOUR = 3600.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Ranges (low, high) from which the stations of one kind draw their numbers.

    Attributes
    ----------
    mtbf_s, mttr_s
        Mean working time between failures and mean time to repair, seconds.
    micro_p, micro_s
        Probability of a micro-stop per cycle and its mean length.
    tool_life, tool_s
        Cycles between tool changes and the length of one, seconds; 0 cycles: no tool.
    nok_p, latent_p
        Probability that a cycle fails (seen at once), and that it leaves a hidden defect.
    rise_c
        Warming above ambient when working without a pause, kelvin.
    """

    mtbf_s: tuple[float, float]
    mttr_s: tuple[float, float]
    micro_p: tuple[float, float] = (0.0, 0.0)
    micro_s: tuple[float, float] = (20.0, 20.0)
    tool_life: tuple[float, float] = (0.0, 0.0)
    tool_s: tuple[float, float] = (0.0, 0.0)
    nok_p: tuple[float, float] = (0.0, 0.0)
    latent_p: tuple[float, float] = (0.0, 0.0)
    rise_c: tuple[float, float] = (8.0, 25.0)


MAIN = Reliability(
    mtbf_s=(2 * HOUR, 8 * HOUR),
    mttr_s=(3 * MINUTE, 5 * MINUTE),
    micro_p=(0.005, 0.015),
    micro_s=(15.0, 25.0),
    tool_life=(3000.0, 9000.0),
    tool_s=(120.0, 240.0),
    nok_p=(0.001, 0.004),
    latent_p=(0.00005, 0.00025),
)
SUB = Reliability(
    mtbf_s=(4 * HOUR, 10 * HOUR),
    mttr_s=(3 * MINUTE, 8 * MINUTE),
    micro_p=(0.005, 0.015),
    micro_s=(15.0, 25.0),
    tool_life=(3000.0, 9000.0),
    tool_s=(120.0, 240.0),
    nok_p=(0.001, 0.004),
    latent_p=(0.00005, 0.00025),
)
TEST = Reliability(
    mtbf_s=(8 * HOUR, 20 * HOUR),
    mttr_s=(10 * MINUTE, 10 * MINUTE),
    micro_p=(0.005, 0.01),
    micro_s=(20.0, 30.0),
    tool_life=(4000.0, 8000.0),
    tool_s=(300.0, 600.0),
)
SOFT = Reliability(
    mtbf_s=(10 * HOUR, 40 * HOUR),
    mttr_s=(20 * MINUTE, 60 * MINUTE),
    micro_p=(0.005, 0.015),
    micro_s=(20.0, 60.0),
    tool_life=(200.0, 800.0),
    tool_s=(300.0, 600.0),
    nok_p=(0.002, 0.005),
)
HARD = Reliability(
    mtbf_s=(10 * HOUR, 30 * HOUR),
    mttr_s=(20 * MINUTE, 60 * MINUTE),
    micro_p=(0.005, 0.015),
    micro_s=(20.0, 60.0),
    tool_life=(30.0, 100.0),
    tool_s=(60.0, 120.0),
    nok_p=(0.002, 0.005),
)
HOUSING = Reliability(
    mtbf_s=(15 * HOUR, 40 * HOUR),
    mttr_s=(30 * MINUTE, 30 * MINUTE),
    micro_p=(0.005, 0.015),
    micro_s=(20.0, 60.0),
    tool_life=(200.0, 800.0),
    tool_s=(300.0, 600.0),
    nok_p=(0.002, 0.005),
)
FURNACE = Reliability(
    mtbf_s=(200 * HOUR, 300 * HOUR),
    mttr_s=(2 * HOUR, 8 * HOUR),
    nok_p=(0.001, 0.002),
    rise_c=(900.0, 930.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Parameters of one simulated plant.

    Attributes
    ----------
    load
        Order book over what the plant can make (bottleneck work center), 0.9 = 90 %.
    lot_sizes
        Smallest and largest order, pieces.
    tightness
        Due date = release + flow allowance x a factor drawn from this range.
    availability
        Scale on every MTTR: 1 keeps the cited repair times.
    line_efficiency, shop_efficiency
        Share of the planned rate that the line and the machining shops really reach, for sizing
        the order book only (measured on saturated runs of this plant).
    operation_share
        Share of a main station's cycle that its first operation takes, drawn for each station.
    in_zone, between_zones
        Places of the buffers inside and between the zones of the main line.
    """

    name: str = "reference"
    parameter_seed: int = 20_260_101
    load: float = 0.9
    lot_sizes: tuple[int, int] = (60, 240)
    tightness: tuple[float, float] = (1.3, 3.0)
    mttr_scale: float = 1.0
    line_efficiency: float = 0.83
    shop_efficiency: float = 0.85
    in_zone: tuple[int, int] = (1, 3)
    between_zones: tuple[int, int] = (10, 20)
    merge_buffer: int = 10
    station_cycle_s: tuple[float, float] = (33.0, 36.5)
    operation_share: tuple[float, float] = (0.35, 0.65)
    bottleneck_station: int = 23
    bottleneck_s: float = 37.0
    feeder_cycle_s: tuple[float, float] = (30.0, 36.0)
    leak_cycle_s: float = 128.0
    oil_cycle_s: float = 130.0
    bench_cycle_s: float = 370.0
    repair_cycle_s: float = 900.0
    cycle_sigma: float = 0.02
    retest_false: float = 0.02
    detect_leak: float = 0.6
    detect_bench: float = 0.97
    unrepairable: float = 0.08
    material_lot: int = 400
    absent_p: float = 0.02
    absent_s: float = 1800.0
    ambient_c: float = 24.0
    main: Reliability = field(default=MAIN)
    sub: Reliability = field(default=SUB)
    test: Reliability = field(default=TEST)
    shops: tuple[tuple[str, Reliability], ...] = (
        ("soft", SOFT),
        ("hard", HARD),
        ("housing", HOUSING),
        ("heat", FURNACE),
    )

    def __post_init__(self) -> None:
        if not self.load > 0.0:
            raise ValueError(f"scenario {self.name!r}: load must be > 0, got {self.load}")
        if not 0 < self.lot_sizes[0] <= self.lot_sizes[1]:
            raise ValueError(f"scenario {self.name!r}: lot_sizes must ascend, got {self.lot_sizes}")


REFERENCE = Scenario()
