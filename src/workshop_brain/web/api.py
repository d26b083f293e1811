"""The web application: every route of the promised surface, behind one gate."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect

from workshop_brain.app.supposed import RefusedChange
from workshop_brain.errors import BrainError, DiskError
from workshop_brain.web.alarms import AlarmBook, watch_alarms
from workshop_brain.web.auth import Audit, Auth, allows
from workshop_brain.web.context import Context, context, identify, language, token_of
from workshop_brain.web.gate import Gate
from workshop_brain.web.live_hub import LiveHub
from workshop_brain.web.mcp import McpDoor
from workshop_brain.web.messages import render
from workshop_brain.web.plain import Json
from workshop_brain.web.problem import Problem
from workshop_brain.web.routes import (
    curves,
    history,
    planning,
    plant,
    prom,
    samples,
    series,
    session,
)
from workshop_brain.web.services import Services, User
from workshop_brain.web.static import BUILT, Screens
from workshop_brain.web.tables import Room

log = logging.getLogger(__name__)
API = "/api/v1"
_FIRST_MESSAGE_S = 10.0


def create_app(services: Services, *, screens: Path = BUILT) -> FastAPI:
    """The ASGI application over the given rooms; ``screens`` is the built front end's folder."""
    audit = Audit(services.data_dir / "logs")
    auth = Auth(
        services.users,
        wall_ns=services.clock.wall_ns,
        audit=audit,
        open_to_all=not services.sign_in,
    )
    hub = LiveHub(services.watch, services.clock, services.feed)
    alarms = AlarmBook(services.settings)
    door = McpDoor(services)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch_alarms(services, alarms), name="alarms")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await hub.close()
            await door.close()

    app = FastAPI(
        title="Workshop Brain",
        version=services.version or "0",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.context = Context(services=services, auth=auth, hub=hub, alarms=alarms)
    app.state.push_room = samples.Room()
    app.state.prom_room = prom.Room()
    app.state.history_room = Room()
    rooms = (session, plant, series, curves, history, planning, samples, prom)
    for room in rooms:
        app.include_router(room.router, prefix=API)
    app.include_router(plant.top)
    app.add_api_websocket_route(f"{API}/live", live)
    app.router.routes.append(Route("/mcp", endpoint=door, include_in_schema=False))
    app.add_route(API + "/{path:path}", _no_route, methods=_ALL, include_in_schema=False)
    app.mount("/", Screens(screens))
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(BrainError, _on_brain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_surprise)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=3)
    app.add_middleware(Gate, loopback=services.loopback, hosts=services.hosts)
    return app


_ALL = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def first_link(app: FastAPI) -> str | None:
    """Token of the one-time admin link to print at start; None once an admin has a password."""
    found: Context = app.state.context
    return found.auth.first_link()


async def live(socket: WebSocket) -> None:
    """``WS live``: binary frames and events; signed in by cookie, bearer or a ticket."""
    here = context(socket)
    token = token_of(socket)
    user = identify(socket)
    await socket.accept()
    if user is None:
        user, token = await _by_ticket(socket, here), ""
    if user is None or not allows(user.role, "viewer"):
        await _close(socket, 4401)
        return
    name = user.name

    def still_allowed() -> bool:
        known = here.auth.identify(token) if token else here.auth.current(name)
        return known is not None and allows(known.role, "viewer")

    await here.hub.serve(socket, still_allowed)


async def _by_ticket(socket: WebSocket, here: Context) -> User | None:
    """Who the ticket in the first message stands for."""
    try:
        async with asyncio.timeout(_FIRST_MESSAGE_S):
            first = orjson.loads(await socket.receive_text())
    except (TimeoutError, WebSocketDisconnect, KeyError, orjson.JSONDecodeError):
        return None
    return here.auth.take_ticket(str(first.get("ticket"))) if isinstance(first, dict) else None


async def _close(socket: WebSocket, code: int) -> None:
    try:
        await socket.close(code)
    except RuntimeError:
        log.debug("the socket was closed before we could")


# -- errors ---------------------------------------------------------------------------------


def _error(
    request: Request, status: int, id: str, params: dict[str, Any], headers: dict[str, str]
) -> Response:
    body = {"error": {"id": id, "message": render(id, params, language(request)), "params": params}}
    response = Json(body, status_code=status)
    response.headers.update(headers)
    return response


async def _no_route(request: Request) -> Response:
    return _error(request, 404, "web.no_route", {"path": request.url.path}, {})


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _error(request, error.status, error.id, error.params, error.headers)


async def _on_brain_error(request: Request, error: Exception) -> Response:
    if isinstance(error, DiskError):
        return _error(request, 503, "web.disk", {"reason": str(error)}, {"Retry-After": "10"})
    if isinstance(error, RefusedChange):
        return _error(request, 409, error.message.id, dict(error.message.params), {})
    return _error(request, 409, "web.refused", {"reason": str(error)}, {})


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(p) for p in first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "missing":
        return _error(request, 422, "web.missing", {"field": where}, {})
    value = first.get("input")
    shown = value if isinstance(value, (str, int, float)) else type(value).__name__
    params = {"field": where, "reason": first["msg"], "value": str(shown)[:200]}
    return _error(request, 422, "web.bad_value", params, {})


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        return _error(request, 405, "web.method", {"method": request.method}, headers)
    if error.status_code == 404:
        return _error(request, 404, "web.no_route", {"path": request.url.path}, headers)
    params = {"reason": str(error.detail)}
    return _error(request, error.status_code, "web.refused", params, headers)


async def _on_surprise(request: Request, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    log.error("%s %s failed [%s]", request.method, request.url.path, reference, exc_info=error)
    return _error(request, 500, "web.internal", {"reference": reference}, {})
