"""How results are printed: JSON on standard output, progress and remarks on standard error."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from workshop_brain.errors import ConfigError
from workshop_brain.units import NS_PER_S

PlantOption = Annotated[
    Path | None, typer.Option(help="plant.toml that tells the time zone, else the built-in plant.")
]


def print_json(value: Any) -> None:
    """Print a value as indented JSON; numpy scalars and arrays are allowed."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    sys.stdout.write(orjson.dumps(value, option=options).decode() + "\n")


def note(text: str) -> None:
    """A remark for the person, kept out of the result."""
    print(text, file=sys.stderr, flush=True)


def plant_zone(plant: Path | None) -> str:
    """Time zone of a plant file, else of the built-in plant."""
    from workshop_brain import config

    return (config.load(plant) if plant is not None else config.built_in()).plant.timezone


def parse_time(text: str, *, now_ns: int, name: str) -> int:
    """An instant: ISO 8601 (UTC when no zone is given), ``now``, or ``-8h`` relative to now.

    >>> parse_time("-2s", now_ns=5_000_000_000, name="--from")
    3000000000
    >>> parse_time("1970-01-01T00:00:01", now_ns=0, name="--from")
    1000000000
    """
    if text == "now":
        return now_ns
    units = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    back = re.fullmatch(r"-(\d+(?:\.\d+)?)(s|m|min|h|d)", text)
    try:
        if back is not None:
            time_ns = now_ns - round(float(back[1]) * units[back[2]] * NS_PER_S)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            time_ns = round(moment.timestamp() * NS_PER_S)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{name}: {text!r} is not a time; write 2026-03-01T08:00, -8h, -30min or now"
        ) from error
    if abs(time_ns) >= 1 << 63:
        raise ConfigError(f"{name}: {text!r} is beyond the years 1678 to 2262; write another time")
    return time_ns
