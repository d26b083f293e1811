"""The plant, its signals and lines as they are now, alarms, KPIs and the health of the brain."""

import asyncio
import gzip
from collections import OrderedDict

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from workshop_brain.model.event import EventKind
from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.alarms import active_alarms, alarm_body
from workshop_brain.web.auth import allows
from workshop_brain.web.context import Context, Here, Operator, Viewer, answer, identify
from workshop_brain.web.metrics import MEDIA_TYPE, metrics
from workshop_brain.web.plain import Json, plain
from workshop_brain.web.problem import Problem
from workshop_brain.web.series import MOST_PATHS

router = APIRouter(tags=["plant"])
top = APIRouter(tags=["plant"])
_TAGS: OrderedDict[tuple[int, int], bytes] = OrderedDict()


@router.get("/health")
async def health(request: Request, here: Here) -> Json:
    """State of the brain, its stores and its sources; without sign-in only ``{status}``."""
    services, live = here.services, here.services.watch.live
    wall_ns = services.clock.wall_ns()
    sources = services.sources()
    up = all(s["state"] == "up" for s in sources)
    faults, history = services.faults(), services.historian.stats()
    if history.get("fault"):
        faults = {"history": str(history["fault"]), **faults}
    status = "ok" if up and not faults else "degraded"
    user = identify(request)
    if user is None or not allows(user.role, "viewer"):
        return Json({"status": status})
    return Json(
        {
            "status": status,
            "version": services.version,
            "plant_ns": services.clock.plant_ns(),
            "plant_rate": services.plant_rate(),
            "wall_ns": wall_ns,
            "sources": sources,
            "signals": live.epoch,
            "rate": sum(float(s.get("rate") or 0.0) for s in sources),
            "stale": int(live.stale(wall_ns).sum()),
            "historian": plain(history),
            "faults": faults,
            "latency": plain(services.latency()) if services.plant_rate() == 1.0 else None,
        }
    )


@router.get("/plant")
async def plant(user: Viewer, here: Here) -> Json:
    """Master data: work centers, units, products, and the layout of the lines."""
    it, watch = here.services.plant, here.services.watch
    capacity = watch.units.infeed_capacity
    return Json(
        {
            "enterprise": it.enterprise,
            "site": it.site,
            "names": it.names,
            "timezone": it.timezone,
            "simulated": here.services.simulated,
            "work_centers": [
                {
                    "id": c.id,
                    "area": c.area,
                    "kind": c.kind.value,
                    "names": c.names,
                    "families": c.families,
                    "units": [
                        {"id": u.id, "path": u.path, "families": sorted(u.families)}
                        for u in c.units
                    ],
                }
                for c in it.work_centers
            ],
            "products": [{"id": p.id, "names": p.names} for p in it.products],
            "lines": [
                {
                    "id": line.line,
                    "devices": [
                        {
                            "path": s.path,
                            "id": s.id,
                            "klass": s.klass,
                            "cell": s.cell,
                            "position": s.position,
                        }
                        for s in line.stations
                    ],
                    "links": [
                        {
                            "from": [line.stations[s].path for s in k.sources],
                            "to": [line.stations[s].path for s in k.targets],
                            "joins": k.joins,
                            "capacity": None
                            if k.joins
                            else plain(capacity[line.stations[k.targets[0]].row]),
                        }
                        for k in line.links
                    ],
                }
                for line in watch.lines()
            ],
        }
    )


@router.get("/plant/tags")
async def tags(request: Request, user: Viewer, here: Here, epoch: int | None = None) -> Response:
    """All signals as columns in id order; one epoch always has the same answer."""
    live = here.services.watch.live
    etag = f'"tags-{live.epoch}-{hash(live.signals[-1].path) if live.signals else 0:x}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    headers["vary"] = "Accept-Encoding"
    key = (id(live), live.epoch)
    if key not in _TAGS:
        devices = {s.path for line in here.services.watch.lines() for s in line.stations}
        # Packing a megabyte must not hold up the frames of the other screens.
        _TAGS[key] = await asyncio.to_thread(_tag_table, list(live.signals), devices)
        while len(_TAGS) > 2:
            _TAGS.popitem(last=False)
    body = _TAGS[key]
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, media_type="application/json", headers=headers)


def _tag_table(signals: list[SignalDef], devices: set[str]) -> bytes:
    """The columns as gzipped JSON."""
    return gzip.compress(
        orjson.dumps(
            {
                "epoch": len(signals),
                "path": [s.path for s in signals],
                "unit": [s.unit for s in signals],
                "kind": [s.kind.name.lower() for s in signals],
                "low": [s.low for s in signals],
                "high": [s.high for s in signals],
                "counted": [s.unit_path in devices for s in signals],
            }
        ),
        compresslevel=5,
    )


@router.get("/live/values")
async def live_values(user: Viewer, here: Here, paths: str) -> Json:
    """Current values of some signals, in full precision."""
    watch = here.services.watch
    live, names = watch.live, split_paths(paths, most=1000)
    stale = live.stale(here.services.clock.wall_ns())
    out = []
    for path in names:
        id = live.ids.get(path)
        if id is None:
            raise Problem(404, "web.not_found", what="signal", id=path)
        seen = live.time_ns[id] > 0
        is_text = live.signals[id].kind is SignalKind.TEXT
        out.append(
            {
                "path": path,
                "value": None if is_text or not seen else plain(live.value[id]),
                "text": _text(here, live.value[id]) if is_text and seen else None,
                "quality": int(live.quality[id]),
                "time_ns": int(live.time_ns[id]),
                "time_ms": live.time_ns[id] / NS_PER_MS if seen else None,
                "stale": bool(stale[id]),
            }
        )
    return Json(out)


def split_paths(paths: str, *, most: int = MOST_PATHS) -> list[str]:
    """Paths of a comma-separated parameter, without repetitions; Problem when none or too many."""
    names = list(dict.fromkeys(p.strip() for p in paths.split(",") if p.strip()))
    if not names or len(names) > most:
        reason = f"1 to {most} signal paths"
        raise Problem(422, "web.bad_value", field="paths", reason=reason, value=len(names))
    return names


def _text(here: Context, code: float) -> str | None:
    if code != code or code < 0:
        return None
    return here.services.historian.texts([int(code)])[0]


@router.get("/line/{id}")
async def line(id: str, user: Viewer, here: Here) -> Json:
    """One line now: takt, output, bottleneck, stations, buffers."""
    services = here.services
    stale = services.watch.live.stale(services.clock.wall_ns())
    try:
        view = services.watch.line_view(id, services.clock.plant_ns(), stale)
    except KeyError as error:
        raise Problem(404, "web.not_found", what="line", id=id) from error
    stations = view["stations"]
    codes = sorted({s[k] for s in stations for k in ("serial", "job") if s[k] >= 0})
    texts = dict(zip(codes, services.historian.texts(codes), strict=True)) if codes else {}
    for station in stations:
        station["serial"] = texts.get(station["serial"]) or None
        station["job"] = texts.get(station["job"]) or None
    return Json(view)


@router.get("/kpi")
async def kpi(
    user: Viewer, here: Here, line: str | None = None, hours: float = Query(8.0, gt=0, le=24)
) -> Json:
    """Counts, OEE parts and losses of one work center, or of all."""
    services, now = here.services, here.services.clock.plant_ns()
    if line is not None:
        try:
            return Json(plain(services.watch.kpi_view(line, now, hours=hours)))
        except KeyError as error:
            raise Problem(404, "web.not_found", what="line", id=line) from error
    views = [services.watch.kpi_view(c.id, now, hours=hours) for c in services.plant.work_centers]
    return Json(plain({"lines": views}))


class Acknowledged(BaseModel):
    """Which alarms a person has seen; one place has one alarm of a kind."""

    alarms: list[tuple[str, str]] = Field(min_length=1, max_length=1000)
    """``[path, kind]`` of each."""


@router.get("/alarms")
async def alarms(request: Request, user: Viewer, here: Here) -> Json:
    """What needs a person now, or went away unseen; with the states of ISA-18.2."""
    here.alarms.update(active_alarms(here.services), here.services.clock.wall_ns())
    return answer(request, [alarm_body(alarm) for alarm in here.alarms.rows()])


@router.post("/alarms/acknowledge")
async def acknowledge(body: Acknowledged, request: Request, user: Operator, here: Here) -> Json:
    """Acknowledge alarms; the answer is the list as it stands then."""
    now_ns = here.services.clock.wall_ns()
    for path, kind in body.alarms:
        try:
            here.alarms.acknowledge(path, kind, user.name, now_ns)
        except KeyError as error:
            raise Problem(404, "web.not_found", what="alarm", id=f"{kind} {path}") from error
        here.auth.audit("alarm_acknowledged", now_ns, user=user.name, path=path, alarm=kind)
    await asyncio.to_thread(here.alarms.keep)
    return answer(request, [alarm_body(alarm) for alarm in here.alarms.rows()])


@router.get("/events")
async def events(
    request: Request, user: Viewer, here: Here, kinds: str | None = None
) -> StreamingResponse:
    """Server-sent events as they happen; ``kinds=a,b`` chooses, Last-Event-ID resumes."""
    feed = here.services.feed
    wanted: list[EventKind] | None = None
    if kinds is not None:
        known = {k.value for k in EventKind}
        names = [k.strip() for k in kinds.split(",") if k.strip()]
        for name in names:
            if name not in known:
                reason = f"one of {', '.join(sorted(known))}"
                raise Problem(422, "web.bad_value", field="kinds", reason=reason, value=name)
        wanted = [EventKind(name) for name in names]
    last = request.headers.get("last-event-id", "")
    reader = feed.subscribe(wanted, after=int(last) if last.isdigit() else None)
    return StreamingResponse(
        feed.stream(reader),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


@top.get("/metrics")
async def prometheus(user: Viewer, here: Here) -> Response:
    """Prometheus text format; scrape with a bearer token."""
    return Response(metrics(here.services, here.hub), media_type=MEDIA_TYPE)
