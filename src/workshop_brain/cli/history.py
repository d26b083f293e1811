"""``brain query`` and ``brain sql``: samples out of the history; the brain may run or be down."""

import re
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workshop_brain.cli.output import DataOption, Format, FormatOption, OutputOption
from workshop_brain.cli.show import PlantOption, note, parse_time, plant_zone
from workshop_brain.errors import ConfigError
from workshop_brain.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from workshop_brain.store.historian import Historian

FromOption = Annotated[str, typer.Option("--from", help="2026-03-01T08:00, -8h, now")]
ToOption = Annotated[str, typer.Option("--to")]
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}
_DEPTH = {"site": 2, "area": 3, "line": 4, "cell": 5, "unit": 6, "signal": 7}
_SERIAL = "/serial"


class Method(StrEnum):
    """How points are chosen."""

    MINMAX = "minmax"
    LTTB = "lttb"


class Device(StrEnum):
    """What a window is of."""

    SITE = "site"
    AREA = "area"
    LINE = "line"
    CELL = "cell"
    UNIT = "unit"
    SIGNAL = "signal"


def query(
    signals: Annotated[list[str], typer.Argument(help="Signal paths; * and ? are wildcards.")],
    from_: FromOption = "-1h",
    to: ToOption = "now",
    points: Annotated[
        int | None, typer.Option(min=1, help="Decimate to about so many points.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option(help="Points: min, max, avg of buckets, or rows that keep the line's shape."),
    ] = Method.MINMAX,
    every: Annotated[
        str, typer.Option(help="Windows of this width (10s, 1min, 1h), aggregated by device.")
    ] = "",
    by: Annotated[Device, typer.Option(help="Windows: what one is of.")] = Device.UNIT,
    time_weighted: Annotated[
        bool, typer.Option(help="Windows: also the mean by how long each value held.")
    ] = False,
    at: Annotated[
        list[str] | None, typer.Option(help="As of: the values at this moment; may be repeated.")
    ] = None,
    grid: Annotated[str, typer.Option(help="As of: the values at equal steps (10s).")] = "",
    parts: Annotated[
        list[str] | None,
        typer.Option(help="As of: when a part came to this station; repeated, or with wildcards."),
    ] = None,
    within: Annotated[str, typer.Option(help="As of: an older value is unknown.")] = "1h",
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """Read history of signals. Works while the brain runs and while it is down.

    Raw rows; with --points decimated; with --every windows of devices; with --at, --grid or
    --parts what the signals showed at those moments. CSV has the instants twice: ``time`` in plant
    time, ``time_ns`` exactly.
    """
    from workshop_brain.cli.output import opened, write_tables
    from workshop_brain.store.historian.query import RAW_SCHEMA
    from workshop_brain.store.pieces import raw_pieces

    ways = {"--points": points is not None, "--every": bool(every), "--at": bool(at),
            "--grid": bool(grid), "--parts": bool(parts)}  # fmt: skip
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: give one of them")
    with opened(data, output) as history:
        known = [s.path for s in history.signals()]
        paths = _match(signals, known)
        start, end = span(history, from_, to)
        schema: pa.Schema = RAW_SCHEMA
        tables: Iterable[pa.Table]
        if not given:
            tables = raw_pieces(history, paths, start, end)
        else:
            if points is not None:
                table = history.query(
                    paths, start, end, points=points, method=method.value, restated=True
                )
            elif every:
                table = history.aggregate(
                    paths, start, end, width_ns=span_ns(every, "--every"), depth=_DEPTH[by],
                    time_weighted=time_weighted, restated=True,
                )  # fmt: skip
            elif parts:
                there = _match([part + _SERIAL for part in parts], known)
                table = _at_parts(history, paths, there, start, end, span_ns(within, "--within"))
            else:
                moments = _moments(at or [], grid, start, end)
                table = history.asof(paths, moments, within_ns=span_ns(within, "--within"))
            schema, tables = table.schema, [table]
        late = history.restated(paths, start, end)
        rows = write_tables(schema, tables, format_, output, plant_zone(plant))
    note(f"{rows} rows of {len(paths)} signals")
    if len(late):
        note(
            f"{sum(late['rows'].to_pylist())} rows came late and changed what had been rolled up; "
            f"restated_ns (--points, --every) says when; the first minute: "
            f"{_moment(late['from_ns'][0].as_py(), plant_zone(plant))} of {late['path'][0]}"
        )


def sql(
    statement: Annotated[
        str, typer.Argument(help="One SELECT over samples and signals; - reads it from stdin.")
    ],
    params: Annotated[
        list[str] | None, typer.Option("--param", help="Value of a ? in the statement, in order.")
    ] = None,
    from_: FromOption = "-1h",
    to: ToOption = "now",
    format_: FormatOption = Format.CSV,
    output: OutputOption = None,
    data: DataOption = Path("data"),
    plant: PlantOption = None,
) -> None:
    """Answer one SELECT (DuckDB) over the history between --from and --to. Reads only.

    Views: samples(path, signal, time_ns, value, quality, text) and signals(id, path, kind, unit,
    low, high). At most 60 s, 512 MB and 5 million rows.
    """
    from workshop_brain.cli.output import opened, write_tables
    from workshop_brain.store.pieces import with_own_names

    if statement == "-":
        statement = sys.stdin.read()
    with opened(data, output) as history:
        start, end = span(history, from_, to)
        values = [_number_or_text(p) for p in params or []]
        table = with_own_names(history.sql(statement, from_ns=start, to_ns=end, params=values))
        rows = write_tables(table.schema, [table], format_, output, plant_zone(plant))
    note(f"{rows} rows")


def _moment(time_ns: int, zone: str) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(time_ns // NS_PER_S, ZoneInfo(zone)).isoformat()


def span(history: "Historian", from_: str, to: str) -> tuple[int, int]:
    """From and to in ns; ``now`` is the newest sample."""
    newest = _newest_ns(history.last_values()[0]) or time.time_ns()
    start = parse_time(from_, now_ns=newest, name="--from")
    end = parse_time(to, now_ns=newest + 1, name="--to")
    if start >= end:
        raise ConfigError(f"--from {from_}: is not before --to {to}")
    return start, end


def span_ns(text: str, name: str) -> int:
    """A length of time, ns: a number with ms, s, min, h or d.

    >>> span_ns("1.5min", "--every"), span_ns("10", "--every")
    (90000000000, 10000000000)
    """
    found = _SPAN.fullmatch(text.strip())
    length = round(float(found[1]) * _SECONDS[found[2]] * NS_PER_S) if found else 0
    if not 0 < length < 1 << 62:
        raise ConfigError(f"{name}: {text!r} is no length of time; write 500ms, 10s, 1min, 1h, 1d")
    return length


def _moments(at: list[str], grid: str, start: int, end: int) -> "NDArray[np.int64]":
    import numpy as np

    if at:
        return np.array([parse_time(one, now_ns=end - 1, name="--at") for one in at], np.int64)
    return np.arange(start, end, span_ns(grid, "--grid"), dtype=np.int64)


def _at_parts(
    history: "Historian", paths: list[str], serials: list[str], start: int, end: int, within: int
) -> "pa.Table":
    """A row for each part that came to a station: the stations are those of ``serials``."""
    stations = [path.removesuffix(_SERIAL) for path in serials]
    events = history.part_events(stations, start, end)
    moments = events.column("time_ns").to_numpy()
    found = history.asof(paths, moments, within_ns=within)
    for k, name in enumerate(("station", "serial")):
        found = found.add_column(k, name, events.column(name))
    return found


def _number_or_text(text: str) -> int | float | str:
    """A parameter: a number if it is one.

    >>> _number_or_text("5"), _number_or_text("2.5"), _number_or_text("%torque")
    (5, 2.5, '%torque')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _newest_ns(last_ns: "NDArray[np.int64]") -> int:
    """The newest stamp of a signal's last value; a few wrong clocks do not make it. 0 for none."""
    import numpy as np

    from workshop_brain.live.table import believable_ns

    stamped = np.sort(last_ns[last_ns > 0])
    stamped = stamped[: len(stamped) - len(stamped) // 500]  # a clock an hour ahead is believable
    if not len(stamped):
        return 0
    return believable_ns(stamped, int(stamped[(len(stamped) - 1) * 19 // 20]))


def _match(patterns: list[str], known: list[str]) -> list[str]:
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    from workshop_brain.connect.rows import full_path

    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [p for p in known if fnmatchcase(p, pattern)] or [
            p for p in known if fnmatchcase(p.split("/", 1)[1], pattern)
        ]  # the enterprise in front may be left out
        if not hits:  # as it was pushed: shorter than the form under which it is kept
            whole = {full_path(e, pattern) for e in {p.split("/", 1)[0] for p in known}}
            hits = [p for p in known if p in whole]
        if not hits:
            near = get_close_matches(pattern, known, n=3, cutoff=0.3)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise ConfigError(f"signal {pattern!r} is unknown{hint}")
        found.update(dict.fromkeys(hits))
    return list(found)
