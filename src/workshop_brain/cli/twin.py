"""``brain twin``: the simulated plant, for the demonstration and for anybody's client."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workshop_brain.cli.show import note, parse_time, print_json
from workshop_brain.errors import ConfigError

if TYPE_CHECKING:
    from workshop_brain.model.plant import Plant
    from workshop_brain.schedule.balance.flow import Loops

app = typer.Typer(help="The simulated transmission plant.", no_args_is_help=True)
PlantArgument = Annotated[Path | None, typer.Argument(help="plant.toml, else the built-in one")]
CONTROL_PORT = 8601
ControlOption = Annotated[
    int | None,
    typer.Option(help="Port of the demo control; else that of the brain running with --data."),
]
DataOption = Annotated[Path, typer.Option(help="Data directory of the running brain.")]


def _plant(path: Path | None) -> "Plant":
    from workshop_brain import config

    return (config.load(path) if path is not None else config.built_in()).plant


def _control_port(stated: int | None, data: Path) -> int:
    """The port as stated, else as ``brain up`` wrote it down, else that of ``twin serve``."""
    if stated is not None:
        return stated
    try:
        known = json.loads((data / "run" / "ports.json").read_text("utf-8"))
    except (OSError, ValueError):
        return CONTROL_PORT
    port = known.get("twin_control") if isinstance(known, dict) else None
    return port if isinstance(port, int) else CONTROL_PORT


@app.command()
def serve(
    plant: PlantArgument = None,
    opcua_port: Annotated[int, typer.Option(help="OPC UA port.")] = 48400,
    mqtt: Annotated[str, typer.Option(help="Broker, mqtt://host:port.")] = "mqtt://127.0.0.1:1883",
    control_port: Annotated[
        int, typer.Option(help="Port of the demo control page.")
    ] = CONTROL_PORT,
    speed: Annotated[
        str, typer.Option(help="Plant seconds per second, or max: as fast as it can publish.")
    ] = "1",
    rate: Annotated[float, typer.Option(help="Factor on signal rates.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    start: Annotated[
        str, typer.Option(help="Plant time at the first start; a restart with --journal goes on.")
    ] = "now",
    record: Annotated[Path | None, typer.Option(help="Record all that is sent here.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Keep the day here, so that a restart goes on with it.")
    ] = None,
    parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the plant as OPC UA server and Sparkplug edge nodes until stopped."""
    from workshop_brain.process import log_to_stderr
    from workshop_brain.twin import serve as server
    from workshop_brain.twin.journal import read_speed

    log_to_stderr("twin")
    try:
        factor = read_speed(speed)
    except ValueError as error:
        raise ConfigError(f"--speed: {error}") from error
    asyncio.run(
        server.serve(
            _plant(plant),
            opcua_port=opcua_port,
            mqtt_url=mqtt,
            control_port=control_port,
            speed=factor,
            rate=rate,
            seed=seed,
            start_ns=None if start == "now" else parse_time(start, now_ns=0, name="--start"),
            record=record,
            journal=journal,
            parent=parent,
        )
    )


@app.command("break")
def break_unit(
    unit: Annotated[str, typer.Argument(help="Unit id or path, for example soft3.")],
    minutes: Annotated[float, typer.Option(help="How long it stays broken.")] = 30.0,
    control_port: ControlOption = None,
    data: DataOption = Path("data"),
) -> None:
    """Break a machine of the running simulated plant."""
    from workshop_brain.twin.control import post

    port = _control_port(control_port, data)
    print_json(post(port, "/break", {"unit": unit, "minutes": minutes}))


@app.command()
def repair(
    unit: Annotated[str, typer.Argument(help="Unit id or path.")],
    control_port: ControlOption = None,
    data: DataOption = Path("data"),
) -> None:
    """Repair a broken machine of the running simulated plant."""
    from workshop_brain.twin.control import post

    print_json(post(_control_port(control_port, data), "/repair", {"unit": unit}))


@app.command("line")
def run_the_line(
    order: Annotated[str, typer.Option(help="lots, family or levelled.")] = "lots",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="STATION=UNITS inside up to its exit; line=UNITS: the whole line."),
    ] = None,
    interval: Annotated[float, typer.Option(help="Least seconds between two entries.")] = 0.0,
    tool_wear: Annotated[float, typer.Option(help="Wear at which a tool is changed.")] = 1.0,
    tool_idle_wear: Annotated[
        float, typer.Option(help="Wear at which it is when the station waits for a piece.")
    ] = 1.0,
    availability: Annotated[float, typer.Option(help="Of a main station.")] = 0.98,
    changeovers: Annotated[bool, typer.Option(help="Between families, at the head.")] = False,
    seeds: Annotated[int, typer.Option(help="Number of seeds, 1..N.")] = 5,
    hours: Annotated[float, typer.Option(help="Simulated hours after 4 of filling.")] = 48.0,
) -> None:
    """Run the assembly line alone under a release rule, an order of models, a tool limit; JSON."""
    from workshop_brain.twin.experiment import mean_ci
    from workshop_brain.twin.mixed_line import (
        ORDERS,
        LinePolicy,
        LineSetting,
        run_line,
        with_availability,
    )
    from workshop_brain.twin.scenario import REFERENCE

    if order not in ORDERS:
        raise ConfigError(f"--order {order!r} is unknown; known are {', '.join(ORDERS)}")
    for name, value, low, high in (
        ("interval", interval, 0.0, 86_400.0),
        ("tool-wear", tool_wear, 0.02, 1.0),
        ("tool-idle-wear", tool_idle_wear, 0.02, 1.0),
        ("availability", availability, 0.5, 0.9999),
        ("seeds", seeds, 1, 1000),
        ("hours", hours, 1.0, 240.0),
    ):
        if not low <= value <= high:
            raise ConfigError(f"--{name} must be from {low:g} to {high:g}, got {value}")
    plant = _plant(None)
    setting = LineSetting(
        plant=plant,
        scenario=with_availability(plant, REFERENCE, availability),
        mix=(1.0,) * len(plant.products),
        is_mixed=not changeovers,
        hours=hours,
    )
    policy = LinePolicy(
        order=order,
        loops=_loops(limit or [], interval),
        tool_wear=tool_wear,
        tool_idle_wear=tool_idle_wear,
    )
    days = [run_line(setting, policy, seed) for seed in range(1, seeds + 1)]
    figures = ("per_hour", "in_line", "bound_per_hour", "setups", "tools")
    print_json({f: mean_ci([float(getattr(day, f)) for day in days]) for f in figures})


def _loops(limits: list[str], interval_s: float) -> "Loops":
    import numpy as np

    from workshop_brain.schedule.balance.flow import Loops
    from workshop_brain.twin.mixed_line import STAGES

    stage = {name: k for k, names in enumerate(STAGES) for name in names}
    stage["line"] = len(STAGES) - 1
    found: dict[int, int] = {}
    for text in limits:
        name, _, units = text.partition("=")
        if name not in stage or not units.isdecimal() or not 1 <= int(units[:9]) <= 10_000:
            raise ConfigError(
                f"--limit {text!r}: write STATION=UNITS with a station of the main line (st01 to "
                "st46, leak1, oil1), or line=UNITS, and 1 to 10000 units"
            )
        found[stage[name]] = int(units)
    return Loops(
        station=np.array(list(found), np.int64),
        limit=np.array(list(found.values()), np.int64),
        interval_s=interval_s,
    )


@app.command()
def experiment(
    scenario: Annotated[str, typer.Argument(help="Scenario name.")] = "reference",
    policies: Annotated[str, typer.Option(help="Comma-separated.")] = "foreman,fifo,rule,brain",
    seeds: Annotated[int, typer.Option(help="Number of seeds, 1..N.")] = 3,
    days: Annotated[float, typer.Option(help="Simulated days.")] = 7.0,
    iterations: Annotated[int, typer.Option(help="Search iterations per event (brain).")] = 2_000,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare policies over the same simulated days, without protocols."""
    from workshop_brain.cli.tables import experiment_table
    from workshop_brain.twin.experiment import POLICIES, run_experiment
    from workshop_brain.twin.scenario import REFERENCE

    scenarios = {REFERENCE.name: REFERENCE}
    if scenario not in scenarios:
        raise ConfigError(f"scenario {scenario!r} is unknown; known are {', '.join(scenarios)}")
    for policy in policies.split(","):
        if policy not in POLICIES:
            raise ConfigError(f"--policies: {policy!r} is unknown; known are {', '.join(POLICIES)}")
    result = run_experiment(
        _plant(None),
        policies=tuple(policies.split(",")),
        seeds=tuple(range(1, seeds + 1)),
        days=days,
        scenario=scenarios[scenario],
        iterations=iterations,
        progress=lambda policy, seed, share: note(f"{policy}, seed {seed}: {share:.0%}"),
    )
    print_json(result) if json_ else experiment_table(result)
