"""History: series of signals, curves, and the way of one part."""

import asyncio
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from workshop_brain.model.curve import Curve
from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import SignalKind
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.units import NS_PER_H, NS_PER_MS
from workshop_brain.web.context import Context, Here, Viewer, answer
from workshop_brain.web.plain import Json, ask, plain
from workshop_brain.web.problem import Problem
from workshop_brain.web.routes.plant import split_paths
from workshop_brain.web.series import ARROW, MOST_POINTS, as_arrow, as_csv, as_json, instant

router = APIRouter(tags=["history"])
_DEFAULT_SPAN_NS = NS_PER_H
_DECISIONS = 1000
_STATE_CHANGES = 2000
_BAD_STATES = (UnitState.ABORTED, UnitState.ABORTING, UnitState.HELD)
_PARALLEL = asyncio.Semaphore(4)


@router.get("/events/recent")
async def recent(
    request: Request,
    user: Viewer,
    here: Here,
    start: str = Query("", alias="from"),
    end: str = Query("", alias="to"),
    paths: str = "",
    limit: int = Query(500, ge=1, le=5000),
) -> Json:
    """What happened in a span, oldest first: decisions, and state changes of units.

    With ``paths`` (units) every state change of theirs; without, only breakdowns and holds.
    """
    now = here.services.clock.plant_ns()
    to_ns = instant(end, now, "to") if end else now
    from_ns = instant(start, now, "from") if start else to_ns - _DEFAULT_SPAN_NS
    if from_ns >= to_ns:
        raise Problem(422, "web.bad_value", field="from", reason="before to", value=start or end)
    rows = await asyncio.to_thread(_state_changes, here, from_ns, to_ns, paths)
    for row in plain(await ask(here.services.decider.decisions, _DECISIONS)):
        if from_ns <= row["time_ms"] * NS_PER_MS < to_ns:
            payload = {key: row.get(key) for key in ("id", "decision_class", "trigger", "state")}
            rows.append(
                {
                    "time_ms": row["time_ms"],
                    "kind": EventKind.DECISION.value,
                    "path": row["line"],
                    "payload": payload,
                }
            )
    rows.sort(key=lambda row: row["time_ms"])
    return answer(request, rows[-limit:])


def _state_changes(here: Context, from_ns: int, to_ns: int, paths: str) -> list[dict[str, Any]]:
    """State changes of the named units, or the worst of all units."""
    watch = here.services.watch
    names = [p.strip() for p in paths.split(",") if p.strip()]
    known = [watch.units.rows[name] for name in names if name in watch.units.rows]
    if names and not known:
        return []
    only = np.array(known, np.int32) if names else None
    found = watch.log.intervals(len(watch.units), from_ns, to_ns, only=only)
    keep = (found.start_ns > from_ns) & (found.state != UnitState.UNKNOWN)
    if not names:
        keep &= np.isin(found.state, _BAD_STATES)
    at = np.flatnonzero(keep)
    at = at[np.argsort(found.start_ns[at], kind="stable")][-_STATE_CHANGES:]
    return [
        {
            "time_ms": int(found.start_ns[i]) / NS_PER_MS,
            "kind": EventKind.STATE_CHANGED.value,
            "path": watch.units.paths[found.unit[i]],
            "payload": {
                "state": UnitState(int(found.state[i])).name,
                "reason": StopReason(int(found.reason[i])).name,
            },
        }
        for i in at.tolist()
    ]


@router.get("/series")
async def series(
    request: Request,
    user: Viewer,
    here: Here,
    paths: str,
    start: str = Query("", alias="from"),
    end: str = Query("", alias="to"),
    points: int | None = Query(None, ge=2, le=MOST_POINTS),
) -> Response:
    """History of signals: raw, or with ``points`` as min/max/avg per bucket."""
    live, now = here.services.watch.live, here.services.clock.plant_ns()
    names = split_paths(paths)
    for name in names:
        if name not in live.ids:
            raise Problem(404, "web.not_found", what="signal", id=name)
    to_ns = instant(end, now, "to") if end else now
    from_ns = instant(start, now, "from") if start else to_ns - _DEFAULT_SPAN_NS
    if from_ns >= to_ns:
        raise Problem(422, "web.bad_value", field="from", reason="before to", value=start or end)
    accept = request.headers.get("accept", "")

    def describe(path: str) -> tuple[str, SignalKind]:
        signal = live.signals[live.ids[path]]
        return signal.unit, signal.kind

    def work() -> tuple[bytes, str]:
        table = here.services.historian.query(names, from_ns, to_ns, points=points)
        if ARROW in accept:
            return as_arrow(table), ARROW
        if "text/csv" in accept:
            return as_csv(table), "text/csv; charset=utf-8"
        return as_json(table, names, describe), "application/json"

    async with _PARALLEL:
        body, media_type = await asyncio.to_thread(work)
    return Response(body, media_type=media_type)


@router.get("/curves")
async def curves(
    user: Viewer,
    here: Here,
    serial: str | None = None,
    station: str | None = None,
    limit: int = Query(20, ge=1, le=500),
) -> Response:
    """Newest curves, of one part or one station."""
    async with _PARALLEL:
        found = await asyncio.to_thread(
            here.services.historian.curves, serial=serial, station=station, limit=limit
        )
    return Json([_curve(c) for c in found])


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "serial": curve.serial,
        "station": curve.station,
        "program": curve.program,
        "step": curve.step,
        "time_ms": curve.time_ns / NS_PER_MS,
        "channels": dict(curve.channels),
    }


@router.get("/parts/{serial}")
async def part(
    serial: str, user: Viewer, here: Here, hours: float = Query(12.0, gt=0, le=72)
) -> Json:
    """Where a part is, which stations it passed in the last hours, and its curves."""
    now = here.services.clock.plant_ns()

    def work() -> tuple[list[dict[str, Any]], list[Curve]]:
        passed = _passed(here, serial, now - round(hours * NS_PER_H), now)
        return passed, here.services.historian.curves(serial=serial, limit=500)

    async with _PARALLEL:
        passed, found = await asyncio.to_thread(work)
    if not passed and not found:
        raise Problem(404, "web.not_found", what="part", id=serial)
    results = [{k: v for k, v in _curve(c).items() if k != "channels"} for c in found]
    return Json(
        {
            "serial": serial,
            "now": [p["path"] for p in passed if p["left_ms"] is None],
            "stations": passed,
            "results": results,
            "curves": [_curve(c) for c in found[:50]],
        }
    )


def _passed(here: Context, serial: str, from_ns: int, to_ns: int) -> list[dict[str, Any]]:
    """Stays of one serial at the stations, from the history of their ``serial`` signals."""
    live = here.services.watch.live
    paths = [p for p in live.ids if p.endswith("/serial")]
    if not paths:
        return []
    table = here.services.historian.query(paths, from_ns, to_ns)
    hits = table.filter(pc.equal(table.column("text").cast(pa.string()), pa.scalar(serial)))
    seen = set(hits.column("path").to_pylist())
    stays: list[dict[str, Any]] = []
    path_column = table.column("path").cast(pa.string())
    for path in seen:
        part = table.filter(pc.equal(path_column, pa.scalar(path)))
        times = part.column("time_ns").to_pylist()
        texts = part.column("text").to_pylist()
        open_ms: float | None = None
        for time_ns, text in zip(times, texts, strict=True):
            if text == serial and open_ms is None:
                open_ms = time_ns / NS_PER_MS
            elif text != serial and open_ms is not None:
                stays.append(_stay(path, open_ms, time_ns / NS_PER_MS))
                open_ms = None
        if open_ms is not None:
            stays.append(_stay(path, open_ms, None))
    return sorted(stays, key=lambda s: s["entered_ms"])


def _stay(path: str, entered_ms: float, left_ms: float | None) -> dict[str, Any]:
    return {"path": path.rsplit("/", 1)[0], "entered_ms": entered_ms, "left_ms": left_ms}
