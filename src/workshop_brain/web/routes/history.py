"""What happened: past events, and the way of one part."""

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
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.units import NS_PER_H, NS_PER_MS
from workshop_brain.web.context import Context, Here, Viewer, answer
from workshop_brain.web.plain import Json, ask, plain
from workshop_brain.web.problem import Problem
from workshop_brain.web.routes.curves import described, dumped
from workshop_brain.web.routes.series import room_of, span
from workshop_brain.web.tables import json_answer

router = APIRouter(tags=["history"])
_DECISIONS = 1000
_STATE_CHANGES = 2000
_BAD_STATES = (UnitState.ABORTED, UnitState.ABORTING, UnitState.HELD)


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
    from_ns, to_ns = span(here, start, end)
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


@router.get("/parts/{serial}")
async def part(
    request: Request,
    serial: str,
    user: Viewer,
    here: Here,
    hours: float = Query(12.0, gt=0, le=72),
) -> Response:
    """Where a part is, which stations it passed in the last hours, and its curves."""
    now = here.services.clock.plant_ns()

    def work() -> tuple[list[dict[str, Any]], list[Curve]]:
        passed = _passed(here, serial, now - round(hours * NS_PER_H), now)
        return passed, here.services.historian.curves(serial=serial, limit=500)

    passed, found = await room_of(request).read(work)
    if not passed and not found:
        raise Problem(404, "web.not_found", what="part", id=serial)

    def told() -> bytes:
        return dumped(
            {
                "serial": serial,
                "now": [p["path"] for p in passed if p["left_ms"] is None],
                "stations": passed,
                "results": [described(c, values=False) for c in found],
                "curves": [described(c) for c in found[:50]],
            }
        )

    return json_answer(await room_of(request).read(told))


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
