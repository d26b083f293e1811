"""Curves of parts: listed, fetched, laid over each other, and their features."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from workshop_brain.model.curve import MOST_GRID, MOST_OVERLAID, Curve, features, overlay
from workshop_brain.store.curve_pages import (
    FEATURE_SCHEMA,
    LONG_SCHEMA,
    MAP_SCHEMA,
    curve_pages,
    curve_table,
    feature_table,
    long_table,
    map_table,
    overlay_table,
)
from workshop_brain.store.historian.catalog import CurveKey, CurveWish
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.context import Context, Here, Viewer
from workshop_brain.web.plain import Json
from workshop_brain.web.problem import Problem
from workshop_brain.web.routes.series import INSTANT, Format, room_of
from workshop_brain.web.series import instant
from workshop_brain.web.services import HistorianReader
from workshop_brain.web.tables import CONTENT, Form, cut, deliver, form_of, json_answer

router = APIRouter(tags=["curves"])
MOST_JSON_VALUES = 5_000_000
_MOST_IDS = MOST_OVERLAID
Key = tuple[int, str, str, int]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which curves are asked for."""

    serial: str | None
    station: str | None
    program: str | None
    from_ns: int | None
    to_ns: int | None
    before: Key | None
    ids: tuple[Key, ...]

    def wish(self) -> CurveWish:
        """As the catalog takes it."""
        return CurveWish(
            serial=self.serial, station=self.station, program=self.program, from_ns=self.from_ns,
            to_ns=self.to_ns, before=self.before,
        )  # fmt: skip


def selection(
    here: Here,
    serial: Annotated[str | None, Query(description="Serial number of the part.")] = None,
    station: Annotated[str | None, Query(description="Unit path of the station.")] = None,
    program: Annotated[str | None, Query(description="Program that ran.")] = None,
    start: Annotated[
        str, Query(alias="from", description=f"Begin, inclusive: {INSTANT} Default: any.")
    ] = "",
    end: Annotated[str, Query(alias="to", description="End, exclusive; default: any.")] = "",
    before: Annotated[
        str, Query(description="`next` of the page before, or an id: only what is older.")
    ] = "",
) -> Selection:
    """The common parameters, checked."""
    now = here.services.clock.plant_ns()
    return Selection(
        serial,
        station,
        program,
        instant(start, now, "from") if start else None,
        instant(end, now, "to") if end else None,
        key_of(before, "before") if before else None,
        (),
    )


Chosen = Annotated[Selection, Depends(selection)]
Ids = Annotated[
    str, Query(description=f"Ids of curves, separated by commas, at most {_MOST_IDS}; else chosen.")
]


def id_of(key: Key | CurveKey | Curve) -> str:
    """A curve's id: where it stands in time, of which part, station and step.

    >>> key_of(id_of((5, "SN1", "e/s/a/l/c/u", 1)), "id")
    (5, 'SN1', 'e/s/a/l/c/u', 1)
    """
    if not isinstance(key, tuple):
        key = (key.time_ns, key.serial, key.station, key.step)
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def key_of(id: str, field: str) -> Key:
    """What an id stands for; Problem when it is none."""
    try:
        padded = id + "=" * (-len(id) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if [type(part) for part in found] == [int, str, str, int]:
            time_ns, serial, station, step = found
            return time_ns, serial, station, step
    except (binascii.Error, ValueError, TypeError):
        pass
    raise Problem(422, "web.bad_value", field=field, reason="an id from curves/list", value=id)


@router.get("/curves", responses=CONTENT)
async def curves(
    request: Request,
    user: Viewer,
    here: Here,
    chosen: Chosen,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many, newest first.")] = 20,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Newest curves with their values, of one part, station or program.

    JSON: ``[{id, serial, station, program, step, time_ms, channels: {name: [..]}}]``, at most five
    million values. Arrow and Parquet: a row for each curve with ``channels`` as a map; CSV: a row
    for each value. ``curves/list`` tells what there is without the values.
    """
    room, kind = room_of(request), form_of(request, form)
    pages = curve_pages(here.services.historian, chosen.wish(), limit)
    if kind is Form.JSON:
        return json_answer(await room.read(lambda: dumped(_bounded(pages))))
    if kind is Form.CSV:
        return await deliver(room, kind, LONG_SCHEMA, (long_table(page) for page in pages))
    return await deliver(room, kind, MAP_SCHEMA, (map_table(page) for page in pages))


def _bounded(pages: Iterator[list[Curve]]) -> list[dict[str, Any]]:
    out, values = [], 0
    for page in pages:
        values += sum(len(v) for c in page for v in c.channels.values())
        if values > MOST_JSON_VALUES:
            reason = (
                f"more than {MOST_JSON_VALUES} values are too many for JSON; lower limit= or ask "
                "for format=arrow, parquet or csv"
            )
            raise Problem(413, "web.refused", reason=reason)
        out += [described(curve) for curve in page]
    return out


def dumped(value: Any) -> bytes:
    """JSON of values with arrays in them; NaN becomes null. Takes long for many: in a thread."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def described(curve: Curve, *, values: bool = True) -> dict[str, Any]:
    """One curve for JSON."""
    head = {
        "id": id_of(curve),
        "serial": curve.serial,
        "station": curve.station,
        "program": curve.program,
        "step": curve.step,
        "time_ms": curve.time_ns / NS_PER_MS,
    }
    return head | {"channels": dict(curve.channels)} if values else head


@router.get("/curves/list", responses=CONTENT)
async def list_curves(
    request: Request,
    user: Viewer,
    here: Here,
    chosen: Chosen,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many.")] = 100,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """What curves there are, newest first, without their values.

    JSON: ``{curves: [{id, serial, station, program, step, time_ms}], next}``; ``next`` as
    ``before`` gives the next page, null on the last. Other forms: the same columns, with time_ns.
    """
    room, kind = room_of(request), form_of(request, form)
    keys = await room.read(here.services.historian.list_curves, chosen.wish(), limit)
    rows = [
        {
            "id": id_of(k), "serial": k.serial, "station": k.station, "program": k.program,
            "step": k.step, "time_ms": k.time_ns / NS_PER_MS,
        }
        for k in keys
    ]  # fmt: skip
    if kind is Form.JSON:
        return Json({"curves": rows, "next": rows[-1]["id"] if len(rows) == limit else None})
    names = ("id", "serial", "station", "program")
    table = pa.table(
        {n: pa.array([r[n] for r in rows], pa.string()) for n in names}
        | {
            "step": pa.array([k.step for k in keys], pa.int32()),
            "time_ns": pa.array([k.time_ns for k in keys], pa.int64()),
        }
    )
    return await deliver(room, kind, table.schema, cut(table))


@router.get("/curves/features", responses=CONTENT)
async def curve_features(
    request: Request,
    user: Viewer,
    here: Here,
    chosen: Chosen,
    ids: Ids = "",
    limit: Annotated[int, Query(ge=1, le=2_000, description="At most so many curves.")] = 100,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Features of curves: a row for each curve and channel, newest curve first.

    first, last, min, max, mean, rms, where the maximum is (0..1 of the length), and for a channel
    over an angle the area (work, for a torque).
    """
    room = room_of(request)
    pages = _pages(here, chosen, ids, limit)
    tables = (feature_table([(c, features(c)) for c in page]) for page in pages)
    return await deliver(room, form_of(request, form), FEATURE_SCHEMA, tables)


@router.get("/curves/overlay", responses=CONTENT)
async def curve_overlay(
    request: Request,
    user: Viewer,
    here: Here,
    chosen: Chosen,
    channel: Annotated[str, Query(description="Channel that is drawn.")],
    over: Annotated[
        str | None,
        Query(description="Channel that gives the grid, such as `angle_deg`; else the row number."),
    ] = None,
    points: Annotated[int, Query(ge=2, le=MOST_GRID, description="Points of the grid.")] = 500,
    ids: Ids = "",
    limit: Annotated[
        int, Query(ge=1, le=MOST_OVERLAID, description="At most so many curves, the newest.")
    ] = 50,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """Curves on one grid, to be drawn over each other.

    JSON: ``{channel, over, grid: [..], curves: [{id, serial, ..., values: [..]}]}``, null outside
    of a curve. Other forms: ``grid`` and a column for each curve.
    """
    room = room_of(request)

    def work() -> tuple[list[Curve], Any, Any]:
        found = [c for page in _pages(here, chosen, ids, limit) for c in page]
        thin = [_only(c, channel, over) for c in found]
        try:
            return thin, *overlay(thin, channel, points=points, over=over)
        except ValueError as error:
            if not found:
                raise Problem(404, "web.not_found", what="curve", id=ids) from error
            raise Problem(422, "web.refused", reason=str(error)) from error

    found, grid, values = await room.read(work)
    if form_of(request, form) is Form.JSON:
        rows = [
            {**described(c, values=False), "values": row}
            for c, row in zip(found, values, strict=True)
        ]
        whole = {"channel": channel, "over": over, "grid": grid, "curves": rows}
        return json_answer(await room.read(dumped, whole))
    table = overlay_table(found, grid, values)
    return await deliver(room, form_of(request, form), table.schema, cut(table))


def _only(curve: Curve, *channels: str | None) -> Curve:
    """A curve with what is drawn of it, or with all that it has, so that this can be told."""
    if any(name is not None and name not in curve.channels for name in channels):
        return curve
    kept = {n: np.asarray(v) for n, v in curve.channels.items() if n in channels}
    return Curve(
        serial=curve.serial, station=curve.station, program=curve.program, step=curve.step,
        time_ns=curve.time_ns, channels=kept,
    )  # fmt: skip


@router.get("/curves/{id}", responses=CONTENT)
async def curve(
    request: Request,
    id: str,
    user: Viewer,
    here: Here,
    form: Annotated[Format, Query(alias="format")] = None,
) -> Response:
    """One curve by its id, with its features.

    JSON: ``{id, serial, station, program, step, time_ms, channels, features}``. Other forms: a
    column for each channel; Arrow and Parquet carry serial, station, program, step and time_ns as
    metadata of the schema.
    """
    room, kind = room_of(request), form_of(request, form)
    found = await room.read(fetch, here.services.historian, key_of(id, "id"))
    if found is None:
        raise Problem(404, "web.not_found", what="curve", id=id)
    if kind is Form.JSON:
        return json_answer(
            await room.read(lambda: dumped({**described(found), "features": features(found)}))
        )
    table = curve_table(found)
    return await deliver(room, kind, table.schema, cut(table))


def fetch(history: HistorianReader, key: Key) -> Curve | None:
    """The curve of a key."""
    time_ns, serial, station, step = key
    found = history.curves(
        serial=serial, station=station, from_ns=time_ns, to_ns=time_ns + 1, limit=1000
    )
    return next((c for c in found if c.step == step), None)


def _pages(here: Context, chosen: Selection, ids: str, limit: int) -> Iterator[list[Curve]]:
    """Curves by their ids, in their order, or the newest that are chosen."""
    history = here.services.historian
    if not ids:
        yield from curve_pages(history, chosen.wish(), limit)
        return
    names = [one.strip() for one in ids.split(",") if one.strip()]
    if len(names) > _MOST_IDS:
        reason = f"at most {_MOST_IDS} ids"
        raise Problem(422, "web.bad_value", field="ids", reason=reason, value=len(names))
    for name in names:
        found = fetch(history, key_of(name, "ids"))
        if found is None:
            raise Problem(404, "web.not_found", what="curve", id=name)
        yield [found]
