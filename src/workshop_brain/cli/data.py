"""``brain query``, ``brain import``, ``brain export``: history and files."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workshop_brain.cli.show import note, parse_time, print_json
from workshop_brain.errors import ConfigError, OrderError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa

DataOption = Annotated[Path, typer.Option(help="Data directory.")]


class Format(StrEnum):
    """Output formats of history."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"


def query(
    signals: Annotated[list[str], typer.Argument(help="Signal paths; * and ? are wildcards.")],
    from_: Annotated[str, typer.Option("--from", help="2026-03-01T08:00, -8h, now")] = "-1h",
    to: Annotated[str, typer.Option("--to")] = "now",
    points: Annotated[int | None, typer.Option(help="Decimate to about so many points.")] = None,
    format_: Annotated[Format, typer.Option("--format")] = Format.CSV,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File, else stdout.")
    ] = None,
    data: DataOption = Path("data"),
) -> None:
    """Read history of signals. Works while the brain runs and while it is down."""
    from workshop_brain.store.historian import Historian

    if not (data / "historian").exists():
        raise StoreError(f"--data {data}: no history here; is it the right directory?")
    historian = Historian(data / "historian", read_only=True)
    try:
        paths = _match(signals, [s.path for s in historian.signals()])
        newest = int(historian.last_values()[0].max(initial=0)) or time.time_ns()
        start = parse_time(from_, now_ns=newest, name="--from")
        end = parse_time(to, now_ns=newest + 1, name="--to")
        if start >= end:
            raise ConfigError(f"--from {from_}: is not before --to {to}")
        table = historian.query(paths, start, end, points=points)
    finally:
        historian.close()
    note(f"{table.num_rows} rows of {len(paths)} signals")
    _write(table, format_, output)


def _match(patterns: list[str], known: list[str]) -> list[str]:
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    found: list[str] = []
    for pattern in patterns:
        hits = [p for p in known if fnmatchcase(p, pattern)] or [
            p for p in known if p.split("/", 1)[1] == pattern
        ]
        if not hits:
            near = get_close_matches(pattern, known, n=3, cutoff=0.3)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise ConfigError(f"signal {pattern!r} is unknown{hint}")
        found += [h for h in hits if h not in found]
    return found


def _write(table: "pa.Table", format_: Format, output: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    if format_ is Format.JSON and output is None:
        print_json(table.to_pylist())
        return
    sink: Any = str(output) if output is not None else sys.stdout.buffer
    if format_ is Format.CSV:
        pa_csv.write_csv(table, sink)
    elif format_ is Format.PARQUET:
        pq.write_table(table, sink, compression="zstd")
    elif format_ is Format.ARROW:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        import orjson

        Path(sink).write_bytes(orjson.dumps(table.to_pylist()))


def import_files(
    files: Annotated[list[Path], typer.Argument(help="Order files: CSV or Excel.")],
    plant: Annotated[Path | None, typer.Option(help="plant.toml, else the built-in plant.")] = None,
    data: DataOption = Path("data"),
) -> None:
    """Import orders. Rows with errors are named and left out; the others are taken."""
    from workshop_brain import config
    from workshop_brain.store.orders import read_orders
    from workshop_brain.store.records import Records

    settings = config.load(plant) if plant is not None else config.built_in()
    data.mkdir(parents=True, exist_ok=True)
    records = Records(data / "records.sqlite", enterprise=settings.plant.enterprise)
    known = {row.request.id for row in records.requests()}
    broken = 0
    for file in files:
        requests, errors = read_orders(file, settings.plant)
        new = [r for r in requests if r.id not in known]
        records.save_requests(new)
        known.update(r.id for r in new)
        broken += len(errors)
        note(f"{file}: {len(new)} orders taken, {len(requests) - len(new)} already known")
        for error in errors:
            note(f"  row {error.row}, {error.column}: {error.value!r}: {error.message}")
    if broken:
        raise OrderError(f"{broken} rows were not imported; correct them and import again")


def export(
    what: Annotated[str, typer.Argument(help="orders")],
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("orders.csv"),
    data: DataOption = Path("data"),
) -> None:
    """Write orders as CSV, in the form that import reads."""
    from workshop_brain.store.orders import write_orders
    from workshop_brain.store.records import Records

    if what != "orders":
        raise ConfigError(f"export {what!r}: only 'orders' can be exported")
    rows = Records(data / "records.sqlite").requests()
    count = write_orders(output, [row.request for row in rows])
    note(f"{count} orders written to {output}")
