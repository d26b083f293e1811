"""``brain import``, ``brain export``: orders and samples in files."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workshop_brain.cli.output import DataOption
from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import ConfigError, OrderError

if TYPE_CHECKING:
    from workshop_brain.config import Settings


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
