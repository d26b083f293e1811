"""Samples out of the history: raw, decimated, as of moments, in windows of devices, and by SQL."""

import re
from collections.abc import Collection
from enum import StrEnum
from fnmatch import translate
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from workshop_brain.connect.rows import full_path
from workshop_brain.store.historian.query import RAW_SCHEMA
from workshop_brain.store.pieces import raw_pieces, with_own_names
from workshop_brain.units import NS_PER_H, NS_PER_S
from workshop_brain.web.context import Context, Here, Planner, Viewer
from workshop_brain.web.problem import Problem
from workshop_brain.web.routes.plant import split_paths
from workshop_brain.web.series import MOST_PATHS, MOST_POINTS, as_json, instant
from workshop_brain.web.tables import CONTENT, Form, Room, cut, deliver, form_of, told

router = APIRouter(tags=["history"])
DEFAULT_SPAN_NS = NS_PER_H
MOST_SIGNALS = 2_000
MOST_MOMENTS = 200_000
_MOST_WAITING_SQL = 4
_SERIAL = "/serial"

INSTANT = "ms or ns since the epoch, ISO 8601 with an offset, `now`, or `-8h`, `-30m`, `-7d`."
Paths = Annotated[
    str, Query(description="Signal paths, separated by commas; `*` and `?` are wildcards.")
]
From = Annotated[
    str, Query(alias="from", description=f"Begin, inclusive: {INSTANT} Default: an hour before.")
]
To = Annotated[str, Query(alias="to", description="End, exclusive; default `now`.")]
Format = Annotated[
    Form | None, Query(description="Form of the answer; default: what `Accept` says, else JSON.")
]


class Method(StrEnum):
    """How points are chosen."""

    MINMAX = "minmax"
    LTTB = "lttb"


class Device(StrEnum):
    """What a window is of: the signal's path up to this level (ISA-95)."""

    SITE = "site"
    AREA = "area"
    LINE = "line"
    CELL = "cell"
    UNIT = "unit"
    SIGNAL = "signal"


_DEPTH = {name: depth for depth, name in enumerate(Device, start=2)}


def room_of(request: Request) -> Room:
    """The room of the application that was asked."""
    room: Room = request.app.state.history_room
    return room


def span(here: Context, start: str, end: str) -> tuple[int, int]:
    """From and to in ns; Problem when they cannot be meant."""
    now = here.services.clock.plant_ns()
    to_ns = instant(end, now, "to") if end else now
    from_ns = instant(start, now, "from") if start else to_ns - DEFAULT_SPAN_NS
    if from_ns >= to_ns:
        raise Problem(422, "web.bad_value", field="from", reason="before to", value=start or end)
    return from_ns, to_ns


def choose(here: Context, paths: str, most: int, *, ending: str = "") -> list[str]:
    """Paths of the signals that are meant; Problem for an unknown one, or more than ``most``.

    ending
        ``/serial``: the parameter names stations, whose signals of this name are meant.
    """
    known: Collection[str] = here.services.watch.live.ids
    names = split_paths(paths, most=most)
    if not all(name + ending in known for name in names):
        known = dict.fromkeys(s.path for s in here.services.historian.signals())
    found: dict[str, None] = {}
    for name in names:
        if name + ending in known:
            hits = [name + ending]
        else:
            fits = re.compile(translate(name + ending)).match
            hits = [path for path in known if fits(path)] if set(name) & set("*?") else []
            if not hits and not ending:  # as it was pushed: shorter than the form that is kept
                whole = {full_path(e, name) for e in {path.split("/", 1)[0] for path in known}}
                hits = [path for path in known if path in whole]
        if not hits:
            raise Problem(404, "web.not_found", what="station" if ending else "signal", id=name)
        found.update(dict.fromkeys(hits))
    if len(found) > most:
        reason = f"at most {most} signals at once"
        field = "stations" if ending else "paths"
        raise Problem(422, "web.bad_value", field=field, reason=reason, value=len(found))
    return list(found)


@router.get("/series", responses=CONTENT)
async def series(
    request: Request,
    user: Viewer,
    here: Here,
    paths: Paths,
    start: From = "",
    end: To = "",
    points: Annotated[
        int | None, Query(ge=2, le=MOST_POINTS, description="Decimate to about so many points.")
    ] = None,
    method: Annotated[
        Method,
        Query(
            description="With points: `minmax` gives min, max, avg, count, first and last of "
            "aligned buckets, `lttb` chooses rows that keep the drawn line's shape."
        ),
    ] = Method.MINMAX,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """History of at most 64 signals: raw rows of any number, or decimated to ``points``.

    Raw: path, time_ns, value, quality, text, signal by signal in the order of time; streamed in all
    forms but JSON, which takes 400,000 rows. JSON is one entry for each signal, with ``time_ms``,
    and ``restated``: the minutes that rows which came late changed after they had been rolled up.
    Buckets in the other forms have the column ``restated_ns``: when that was last, null: never.
    """
    names = choose(here, paths, MOST_PATHS)
    from_ns, to_ns = span(here, start, end)
    room, history = room_of(request), here.services.historian

    def to_json(table: pa.Table) -> bytes:
        known = {s.path: s for s in history.signals()}
        late = history.restated(names, from_ns, to_ns)
        if "restated_ns" in table.column_names:
            table = table.drop_columns(["restated_ns"])
        return as_json(table, names, lambda path: (known[path].unit, known[path].kind), late)

    if points is None:
        schema, pieces = RAW_SCHEMA, raw_pieces(history, names, from_ns, to_ns)
    else:
        table = await room.read(
            lambda: history.query(
                names, from_ns, to_ns, points=points, method=method.value, restated=True
            )
        )
        schema, pieces = table.schema, cut(table)
    return await deliver(room, form_of(request, form), schema, pieces, to_json)


@router.get("/series/restated", responses=CONTENT)
async def restated(
    request: Request,
    user: Viewer,
    here: Here,
    paths: Paths,
    start: From = "",
    end: To = "",
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Minutes of signals that rows which came late changed after they had been rolled up.

    Columns: path, from_ns, to_ns (exclusive), rows: how many came late, at_ns: when by the brain's
    clock; the oldest first. Before that, reads of these minutes gave other numbers.
    """
    names = choose(here, paths, MOST_SIGNALS)
    from_ns, to_ns = span(here, start, end)
    room, history = room_of(request), here.services.historian
    table = await room.read(lambda: history.restated(names, from_ns, to_ns))
    return await deliver(room, form_of(request, form), table.schema, cut(table))


@router.get("/series/last", responses=CONTENT)
async def last(
    request: Request,
    user: Viewer,
    here: Here,
    paths: Annotated[str, Query(description="As in `series`; empty: every signal.")] = "",
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """The newest value of every signal in the history, or of some, as columns.

    Columns: path, time_ns, value, quality, text, in the order of the signals' ids. A signal that
    was never seen has null for time and value and quality 2 (bad).
    """
    names = choose(here, paths, MOST_SIGNALS) if paths else []
    room = room_of(request)
    table = await room.read(_last, here, room, names)
    return await deliver(room, form_of(request, form), table.schema, cut(table))


def _last(here: Context, room: Room, names: list[str]) -> pa.Table:
    history = here.services.historian
    times, values, quality = history.last_values()
    paths, is_text = room.registry(history.signals())
    rows = np.arange(min(len(times), len(paths)))
    if names:
        found = pc.index_in(pa.array(names), paths).drop_null().to_numpy()
        rows = np.sort(found[found < len(rows)])
    times, values, quality, is_text = times[rows], values[rows], quality[rows], is_text[rows]
    known = ~np.isnan(values)
    return pa.table(
        {
            "path": paths.take(pa.array(rows)),
            "time_ns": pa.array(times, mask=times == -(2**63)),
            "value": pa.array(values, mask=is_text | ~known),
            "quality": pa.array(quality),
            "text": _words(here, values, is_text & known & (values >= 0)),
        }
    )


def _words(here: Context, values: NDArray[np.float64], is_text: NDArray[np.bool_]) -> pa.Array:
    if not is_text.any():
        return pa.nulls(len(values), pa.string())
    codes, inverse = np.unique(np.where(is_text, values, 0).astype(np.int64), return_inverse=True)
    words = pa.array(here.services.historian.texts(codes.tolist()), pa.string())
    return words.take(pa.array(inverse, mask=~is_text))


@router.get("/series/asof", responses=CONTENT)
async def asof(
    request: Request,
    user: Viewer,
    here: Here,
    paths: Paths,
    stations: Annotated[
        str,
        Query(
            description="Stations (unit paths): the moments are when a part came there, by their "
            "`serial` signals."
        ),
    ] = "",
    at: Annotated[str, Query(description="Moments, separated by commas.")] = "",
    every_s: Annotated[
        float | None,
        Query(gt=0, le=31_536_000, description="Moments at this distance from `from` on, seconds."),
    ] = None,
    start: From = "",
    end: To = "",
    within_s: Annotated[
        float, Query(gt=0, le=31_536_000, description="An older value counts as unknown, seconds.")
    ] = 3600.0,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """What signals showed at moments: the newest value at or before each, null when unknown.

    The moments are those of ``at``, or equal steps of ``every_s``, or those at which parts came to
    ``stations``: one of the three. A row for each moment: time_ns, with ``stations`` also station
    and serial, then a column for each signal, named by its path.
    """
    if sum((bool(stations), bool(at), every_s is not None)) != 1:
        reason = "exactly one of stations, at and every_s"
        raise Problem(422, "web.bad_value", field="at", reason=reason, value=at)
    names = choose(here, paths, MOST_SIGNALS)
    from_ns, to_ns = span(here, start, end)
    history, room = here.services.historian, room_of(request)
    within_ns = round(within_s * NS_PER_S)

    def work() -> Any:
        events = None
        if stations:
            there = choose(here, stations, MOST_SIGNALS, ending=_SERIAL)
            events = history.part_events(
                [path.removesuffix(_SERIAL) for path in there], from_ns, to_ns
            )
            moments = events.column("time_ns").to_numpy()
        else:
            moments = _moments(here, at, every_s, from_ns, to_ns)
        found = history.asof(names, moments, within_ns=within_ns)
        if events is None:
            return found
        return found.add_column(1, "station", events.column("station")).add_column(
            2, "serial", events.column("serial")
        )

    table = await room.read(work)
    return await deliver(room, form_of(request, form), table.schema, cut(table))


def _moments(
    here: Context, at: str, every_s: float | None, from_ns: int, to_ns: int
) -> NDArray[np.int64]:
    if every_s is None:
        now = here.services.clock.plant_ns()
        return np.array([instant(one, now, "at") for one in at.split(",")], np.int64)
    step = max(round(every_s * NS_PER_S), 1)
    if (to_ns - from_ns) // step > MOST_MOMENTS:
        reason = f"at most {MOST_MOMENTS} moments between from and to"
        raise Problem(422, "web.bad_value", field="every_s", reason=reason, value=every_s)
    return np.arange(from_ns, to_ns, step, dtype=np.int64)


@router.get("/series/windows", responses=CONTENT)
async def windows(
    request: Request,
    user: Viewer,
    here: Here,
    paths: Paths,
    width_s: Annotated[
        float, Query(gt=0, le=31_536_000, description="Width of a window, seconds.")
    ] = 60.0,
    by: Annotated[
        Device, Query(description="What a window is of: all signals below that part of the path.")
    ] = Device.UNIT,
    time_weighted: Annotated[
        bool, Query(description="Also the mean weighted by how long each value held (slower).")
    ] = False,
    start: From = "",
    end: To = "",
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Aggregates of devices in windows: avg, min, max, sum, count, first, last, time_weighted.

    One row for each device and window that has a value, sorted by device and time. Windows begin
    at multiples of their width and are whole. Bad values do not count; ``first`` and ``last`` are
    null where several signals make the window. ``restated_ns`` says when rows that came late last
    changed a minute of the window; null: never. At most 2,000 signals and a million windows.
    """
    names = choose(here, paths, MOST_SIGNALS)
    from_ns, to_ns = span(here, start, end)
    room, history = room_of(request), here.services.historian
    table = await room.read(
        lambda: history.aggregate(
            names, from_ns, to_ns, width_ns=max(round(width_s * NS_PER_S), 1), depth=_DEPTH[by],
            time_weighted=time_weighted, restated=True,
        )
    )  # fmt: skip
    return await deliver(room, form_of(request, form), table.schema, cut(table))


class Statement(BaseModel):
    """One SELECT and the time it looks at."""

    statement: str = Field(
        min_length=1,
        max_length=20_000,
        description="One SELECT in DuckDB's SQL over the views `samples(path, signal, time_ns, "
        "value, quality, text)` and `signals(id, path, kind, unit, low, high)`; `?` stands for a "
        "parameter.",
    )
    params: list[str | int | float | bool | None] = Field(
        default_factory=list, max_length=1000, description="Values of the `?` in the statement."
    )
    start: str = Field(
        alias="from", description=f"The views hold what is from here on: {INSTANT} Must be given."
    )
    end: str = Field("now", alias="to", description="The views end before here.")


@router.post("/sql", responses=CONTENT)
async def sql(
    request: Request,
    user: Planner,
    here: Here,
    body: Statement,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Answer one SELECT over the history, for engineers (planner).

    It can read nothing but the history and write nothing. It ends after 60 s, above 512 MB of
    memory or above 5 million rows; statements are answered one after the other.
    """
    from_ns, to_ns = span(here, body.start, body.end)
    room, history = room_of(request), here.services.historian
    if room.waiting_sql >= _MOST_WAITING_SQL:
        raise Problem(429, "web.busy", {"Retry-After": "5"})
    room.waiting_sql += 1
    try:
        async with room.sql:
            table = await told(
                lambda: history.sql(
                    body.statement, from_ns=from_ns, to_ns=to_ns, params=body.params
                )
            )
    finally:
        room.waiting_sql -= 1
    table = with_own_names(table)
    return await deliver(room, form_of(request, form), table.schema, cut(table))
