"""``brain curves``: curves of parts, while the brain runs or is down."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workshop_brain.cli.output import DataOption, Format, FormatOption, OutputOption
from workshop_brain.cli.show import PlantOption, note, parse_time, plant_zone
from workshop_brain.errors import ConfigError

if TYPE_CHECKING:
    from workshop_brain.model.curve import Curve
    from workshop_brain.store.historian import Historian
    from workshop_brain.store.historian.catalog import CurveWish

app = typer.Typer(help="Curves of parts: list, show, features, overlay.", no_args_is_help=True)
SerialOption = Annotated[str | None, typer.Option(help="Serial number of the part.")]
StationOption = Annotated[str | None, typer.Option(help="Unit path of the station.")]
ProgramOption = Annotated[str | None, typer.Option(help="Program that ran.")]
FromOption = Annotated[str, typer.Option("--from", help="2026-03-01T08:00, -8h; default: any.")]
ToOption = Annotated[str, typer.Option("--to", help="Default: any.")]


def _wish(
    history: "Historian", serial: str | None, station: str | None, program: str | None,
    from_: str, to: str,
) -> "CurveWish":  # fmt: skip
    """Which curves; times are relative to the newest curve."""
    from workshop_brain.store.historian.catalog import CurveWish

    newest = history.list_curves(CurveWish(), 1)
    now = newest[0].time_ns if newest else time.time_ns()
    return CurveWish(
        serial=serial, station=station, program=program,
        from_ns=parse_time(from_, now_ns=now, name="--from") if from_ else None,
        to_ns=parse_time(to, now_ns=now + 1, name="--to") if to else None,
    )  # fmt: skip


def _found(history: "Historian", wish: "CurveWish", limit: int) -> "list[Curve]":
    from workshop_brain.store.curve_pages import curve_pages

    curves = [curve for page in curve_pages(history, wish, limit) for curve in page]
    if not curves:
        raise ConfigError("no such curve; 'brain curves list' shows what there is")
    return curves


@app.command("list")
def list_(
    serial: SerialOption = None,
    station: StationOption = None,
    program: ProgramOption = None,
    from_: FromOption = "",
    to: ToOption = "",
    limit: Annotated[int, typer.Option(min=1)] = 100,
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """What curves there are, newest first."""
    import pyarrow as pa

    from workshop_brain.cli.output import opened, write_tables

    with opened(data, output) as history:
        keys = history.list_curves(_wish(history, serial, station, program, from_, to), limit)
        kinds = {"serial": pa.string(), "station": pa.string(), "program": pa.string(),
                 "step": pa.int32(), "time_ns": pa.int64()}  # fmt: skip
        table = pa.table(
            {n: pa.array([getattr(k, n) for k in keys], kind) for n, kind in kinds.items()}
        )
        write_tables(table.schema, [table], format_, output, plant_zone(plant))
    note(f"{len(keys)} curves")


@app.command()
def show(
    serial: SerialOption = None,
    station: StationOption = None,
    program: ProgramOption = None,
    from_: FromOption = "",
    to: ToOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 1,
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """Curves with their values: a row for each row of a curve, a column for each channel."""
    from workshop_brain.cli.output import opened, write_tables
    from workshop_brain.store.curve_pages import wide_table

    with opened(data, output) as history:
        curves = _found(history, _wish(history, serial, station, program, from_, to), limit)
        table = wide_table(curves)
        write_tables(table.schema, [table], format_, output, plant_zone(plant))
    note(f"{len(curves)} curves")


@app.command("features")
def features_(
    serial: SerialOption = None,
    station: StationOption = None,
    program: ProgramOption = None,
    from_: FromOption = "",
    to: ToOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 100,
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """First, last, min, max, mean, rms, where the maximum is, area over the angle; per channel."""
    from workshop_brain.cli.output import opened, write_tables
    from workshop_brain.model.curve import features
    from workshop_brain.store.curve_pages import FEATURE_SCHEMA, curve_pages, feature_table

    with opened(data, output) as history:
        wish = _wish(history, serial, station, program, from_, to)
        pages = curve_pages(history, wish, limit)
        tables = (feature_table([(c, features(c)) for c in page]) for page in pages)
        rows = write_tables(FEATURE_SCHEMA, tables, format_, output, plant_zone(plant))
    note(f"{rows} channels")


@app.command("overlay")
def overlay_(
    channel: Annotated[str, typer.Argument(help="Channel that is drawn.")],
    over: Annotated[
        str | None, typer.Option(help="Channel that gives the grid (angle_deg), else the row.")
    ] = None,
    points: Annotated[int, typer.Option(min=2, help="Points of the grid.")] = 500,
    serial: SerialOption = None,
    station: StationOption = None,
    program: ProgramOption = None,
    from_: FromOption = "",
    to: ToOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """Curves on one grid: the grid and a column for each curve, empty outside of it."""
    from workshop_brain.cli.output import opened, write_tables
    from workshop_brain.model.curve import overlay
    from workshop_brain.store.curve_pages import overlay_table

    with opened(data, output) as history:
        curves = _found(history, _wish(history, serial, station, program, from_, to), limit)
        try:
            grid, values = overlay(curves, channel, points=points, over=over)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        table: Any = overlay_table(curves, grid, values)
        write_tables(table.schema, [table], format_, output, plant_zone(plant))
    note(f"{len(curves)} curves")
