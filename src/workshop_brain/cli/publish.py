"""``brain publish``: the history for readers of other makers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workshop_brain.cli.output import DataOption
from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import StoreError

app = typer.Typer(help="Publish the history for other programs.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keeps the name of the only command."""


@app.command()
def iceberg(
    to: Annotated[
        Path | None, typer.Option(help="Warehouse folder; default: DATA/iceberg.")
    ] = None,
    copy: Annotated[
        bool, typer.Option(help="Also the table samples: a copy with path, time, value, quality.")
    ] = False,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="Forget older snapshots and their files.")
    ] = 24.0,
    data: DataOption = Path("data"),
) -> None:
    """Bring Apache Iceberg tables up to date. Works while the brain runs; run it again at will.

    Table stored points at the sealed files themselves, no byte is copied when the folder is on the
    same disk. Prints what was done as JSON.
    """
    from workshop_brain.store.iceberg import publish

    if not (data / "historian").exists():
        raise StoreError(f"--data {data}: no history here; is it the right directory?")
    target = to or data / "iceberg"
    done = publish(data / "historian", target, copy=copy, keep_h=keep_hours)
    print_json({"warehouse": str(target.absolute()), **asdict(done)})
    if done.copied:
        note(f"{done.copied} files were copied: {target} is on another disk")
