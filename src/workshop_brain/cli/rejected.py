"""``brain rejected``: the malformed payloads that sources have brought, and what is wrong."""

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from workshop_brain.cli.show import PlantOption, plant_zone, print_json
from workshop_brain.errors import ConfigError
from workshop_brain.units import NS_PER_S

if TYPE_CHECKING:
    from workshop_brain.connect.rejected import Kept, Sample

_SHOWN = 120
_TEXTS: dict[str, tuple[str, str]] = {
    "none": ("nothing was rejected", "没有被拒收的报文"),
    "source": ("{source}: {causes}", "{source}:{causes}"),
    "sample": (
        "  {last}  {cause}  {where}\n      {why}\n      {size} bytes, seen {count}x: {file}",
        "  {last}  {cause}  {where}\n      {why}\n      {size} 字节,出现 {count} 次:{file}",
    ),
}


def rejected(
    source: Annotated[str, typer.Argument(help="Source id; all when left out.")] = "",
    data: Annotated[Path, typer.Option(help="Data directory.")] = Path("data"),
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    language: Annotated[str, typer.Option(help="en or zh")] = "en",
    plant: PlantOption = None,
) -> None:
    """Show the malformed payloads that are kept for diagnosis, newest first.

    The files hold the bytes as they came; what each cause means stands in the reference.
    """
    from workshop_brain.connect.rejected import kept

    if language not in ("en", "zh"):
        raise ConfigError(f"--language {language!r}: en or zh")
    found = [k for k in kept(data) if source in ("", k.source)]
    if json_:
        print_json([{**dataclasses.asdict(k), "folder": str(k.folder)} for k in found])
        return
    word = 0 if language == "en" else 1
    zone = ZoneInfo(plant_zone(plant))
    if not found:
        print(_TEXTS["none"][word])
    for one in found:
        causes = ", ".join(f"{cause} {count}" for cause, count in one.causes.items())
        print(_TEXTS["source"][word].format(source=one.source, causes=causes))
        for sample in one.samples:
            print(_TEXTS["sample"][word].format(**_told(one, sample, zone)))


def _told(one: "Kept", sample: "Sample", zone: ZoneInfo) -> dict[str, object]:
    last = datetime.fromtimestamp(sample.last_ns // NS_PER_S, zone).isoformat()
    where, why = (
        "".join(c if c.isprintable() else "\ufffd" for c in text[:_SHOWN])
        for text in (sample.where, sample.why)
    )
    return {
        "last": last, "cause": sample.cause, "where": where, "why": why, "size": sample.size,
        "count": sample.count, "file": one.folder / sample.file,
    }  # fmt: skip
