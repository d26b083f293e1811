"""``brain backup`` and ``brain restore``: the whole data directory, copied while the brain runs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from workshop_brain.cli.show import note, print_json
from workshop_brain.errors import DamageError

DataOption = Annotated[Path, typer.Option(help="Data directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def backup(
    target: Annotated[Path, typer.Argument(help="Directory for backups, best on another disk.")],
    data: DataOption = Path("data"),
    keep: Annotated[
        int, typer.Option(min=0, help="Keep so many backups, the newest; 0 keeps all.")
    ] = 0,
    json_: JsonOption = False,
) -> None:
    """Back up history, records, ledger and keys, while the brain runs or is down.

    What an earlier backup in the same target holds is not stored again.
    """
    from workshop_brain.store.backup import back_up

    began = time.perf_counter()
    made = back_up(data, target, now_ns=time.time_ns(), keep=keep)
    result = {
        "backup": made.backup.name,
        "files": len(made.backup.items),
        "bytes": made.backup.size,
        "new_files": made.new_files,
        "new_bytes": made.new_bytes,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if json_:
        print_json({**result, "damaged": made.damaged})
    for fault in [] if json_ else made.damaged:
        print(f"WRONG {fault}")
    if made.damaged:
        raise DamageError(
            f"backup {made.backup.name}: was made, but {len(made.damaged)} files of the history "
            "are damaged; 'brain doctor --repair --backup' puts back what an older backup holds"
        )
    if json_:
        return
    note(
        f"{result['files']} files, {made.backup.size / 1e6:.1f} MB; new {made.new_files} files, "
        f"{made.new_bytes / 1e6:.1f} MB; {result['seconds']} s"
    )
    print(made.backup.name)


def restore(
    target: Annotated[Path, typer.Argument(help="Directory that 'brain backup' filled.")],
    data: DataOption = Path("data"),
    name: Annotated[
        str | None, typer.Option("--backup", help="Name of a backup; else the newest.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Verify every checksum and restore nothing.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Restore a backup into a new or empty data directory, once every checksum is right."""
    from workshop_brain.store import backup as store

    if check:
        found = store.read_backup(target, name)
        faults = store.verify(target, found)
    else:
        found, faults = store.restore(target, data, name=name), []
    result = {"backup": found.name, "files": len(found.items), "bytes": found.size}
    if json_:
        print_json({**result, "faults": faults, "backups": store.backups(target)})
    for fault in [] if json_ else faults:
        print(f"WRONG {fault}")
    if faults:
        raise DamageError(
            f"backup {found.name}: {len(faults)} of {len(found.items)} files are damaged; back up "
            "again: what the data directory still holds is stored anew"
        )
    if not json_:
        done = "is whole" if check else f"restored into {data}"
        note(f"{found.name} {done}: {len(found.items)} files, {found.size / 1e6:.1f} MB")
