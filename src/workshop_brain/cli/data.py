"""``brain query``, ``brain import``, ``brain export``: history and files."""

import os
import sys
import time
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from workshop_brain.cli.show import PlantOption, note, parse_time, plant_zone, print_json
from workshop_brain.errors import ConfigError, OrderError, StoreError
from workshop_brain.units import NS_PER_S

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from workshop_brain.config import Settings

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
    points: Annotated[
        int | None, typer.Option(min=1, help="Decimate to about so many points.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format")] = Format.CSV,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File, else stdout.")
    ] = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """Read history of signals. Works while the brain runs and while it is down.

    CSV has the instants twice: ``time`` in plant time, ``time_ns`` exactly.
    """
    from workshop_brain.store.historian import Historian

    if output is not None:
        _must_be_writable(output)
    if not (data / "historian").exists():
        raise StoreError(f"--data {data}: no history here; is it the right directory?")
    historian = Historian(data / "historian", read_only=True)
    try:
        paths = _match(signals, [s.path for s in historian.signals()])
        newest = _newest_ns(historian.last_values()[0]) or time.time_ns()
        start = parse_time(from_, now_ns=newest, name="--from")
        end = parse_time(to, now_ns=newest + 1, name="--to")
        if start >= end:
            raise ConfigError(f"--from {from_}: is not before --to {to}")
        table = historian.query(paths, start, end, points=points)
    finally:
        historian.close()
    note(f"{table.num_rows} rows of {len(paths)} signals")
    if format_ is Format.CSV:
        table = _with_time(table, plant_zone(plant))
    try:
        _write(table, format_, output)
    except OSError as error:  # without an output file it is the other side of a pipe
        raise ConfigError(f"--output {output or 'stdout'}: cannot be written: {error}") from error


def _newest_ns(last_ns: "NDArray[np.int64]") -> int:
    """The newest stamp of a signal's last value; a few wrong clocks do not make it. 0 for none."""
    import numpy as np

    from workshop_brain.live.table import believable_ns

    stamped = np.sort(last_ns[last_ns > 0])
    if not len(stamped):
        return 0
    return believable_ns(stamped, int(stamped[(len(stamped) - 1) * 19 // 20]))


def _must_be_writable(output: Path) -> None:
    """ConfigError before any work is done for a file that cannot be written."""
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a directory; name a file in it")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no directory {output.parent}; make it")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise ConfigError(f"--output {output}: may not be written by this user; name another file")


def _with_time(table: "pa.Table", zone: str) -> "pa.Table":
    """The table with ``time`` before ``time_ns``: ISO 8601 in plant time with its offset."""
    import pyarrow as pa

    place = ZoneInfo(zone)
    texts = [_iso(time_ns, place) for time_ns in table["time_ns"].to_pylist()]
    at = table.column_names.index("time_ns")
    return table.add_column(at, "time", pa.array(texts, pa.string()))


def _iso(time_ns: int, place: ZoneInfo) -> str:
    """To the millisecond: what a spreadsheet reads.

    >>> _iso(1_500_000_000, ZoneInfo("Asia/Shanghai"))
    '1970-01-01T08:00:01.500+08:00'
    """
    seconds, rest = divmod(time_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, place).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="milliseconds")


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
    files: Annotated[
        list[Path], typer.Argument(help="Order files: CSV or Excel; sample files: also Parquet.")
    ],
    plant: Annotated[Path | None, typer.Option(help="plant.toml, else the built-in plant.")] = None,
    data: DataOption = Path("data"),
    samples: Annotated[
        bool, typer.Option(help="The files hold samples, as Parquet files always do.")
    ] = False,
    root: Annotated[
        str, typer.Option(help="Samples: names above those in the file; {file} is its name.")
    ] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Import orders, or samples. Rows with errors are named and left out; the others are taken.

    Samples go straight into the history: the brain must not run. While it does, put the files into
    the folder of a source of protocol files.
    """
    from workshop_brain import config
    from workshop_brain.store.orders import read_orders
    from workshop_brain.store.records import Records

    settings = config.load(plant) if plant is not None else config.built_in()
    if samples or all(file.suffix.lower() == ".parquet" for file in files):
        _import_samples(files, settings, data, root, json_)
        return
    records = Records(data / "records.sqlite", enterprise=settings.plant.enterprise)
    known = {row.request.id for row in records.requests()}
    broken = 0
    told: list[dict[str, Any]] = []
    for file in files:
        requests, errors = read_orders(file, settings.plant)
        new = [r for r in requests if r.id not in known]
        records.save_requests(new)
        known.update(r.id for r in new)
        rows = len({error.row for error in errors})
        broken += rows
        told.append(
            {
                "file": str(file),
                "taken": [r.id for r in new],
                "known": [r.id for r in requests if r not in new],
                "refused_rows": rows,
                "errors": [asdict(error) for error in errors],
            }
        )
        note(f"{file}: {len(new)} orders taken, {len(requests) - len(new)} already known")
        for error in errors:
            note(f"  row {error.row}, {error.column}: {error.value!r}: {error.message}")
    if json_:
        print_json({"refused_rows": broken, "files": told})
    if broken:
        raise OrderError(f"{broken} rows were not imported; correct them and import again")


def _import_samples(
    files: list[Path], settings: "Settings", data: Path, root: str, json_: bool
) -> None:
    from workshop_brain.app.import_samples import import_samples
    from workshop_brain.connect.files.settings import FilesSettings
    from workshop_brain.store.historian import Historian

    options = FilesSettings(id="import", folder=".", root=root, timezone=settings.plant.timezone)
    rejected, told = 0, []
    with Historian(data / "historian") as historian:
        for file in files:
            done = import_samples(
                file, historian, options,
                enterprise=settings.plant.enterprise, now_ns=time.time_ns(),
            )  # fmt: skip
            rejected += done.rejected
            told.append({"file": str(file), "samples": done.samples, "rejected": done.rejected})
            note(f"{file}: {done.samples} samples taken, {done.rejected} rows left out")
            for fault, count in done.causes:
                note(f"  {file}:{fault} ({count} such rows)")
    if json_:
        print_json({"rejected": rejected, "files": told})
    if rejected:
        raise ConfigError(f"{rejected} rows were not imported; correct them and import again")


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
    note(f"{count} orders")
    print(output.absolute())
