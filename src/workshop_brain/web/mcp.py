"""``/mcp``: a read-only Model Context Protocol server, if the ``mcp`` package is installed.

Nothing here can change anything: tools find signals and read values, trends, states, decisions
and their reasons. The package takes over a second to import, so that happens at the first request.
"""

import asyncio
import importlib.util
import logging
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from workshop_brain.model.signal import SignalKind
from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.auth import allows
from workshop_brain.web.context import identify, language
from workshop_brain.web.messages import render, with_texts
from workshop_brain.web.plain import Json, ask, plain
from workshop_brain.web.series import instant
from workshop_brain.web.services import Services

log = logging.getLogger(__name__)
MOST_TAGS = 200
MOST_TREND = 500


class Tools:
    """The read-only tools; each returns plain JSON values."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def find_tags(self, text: str, limit: int = 50) -> list[dict[str, Any]]:
        """Find signals whose path contains all the given words; returns path, kind, unit, range."""
        words = text.lower().split()
        out: list[dict[str, Any]] = []
        for signal in self._services.watch.live.signals:
            if all(word in signal.path for word in words):
                out.append(
                    {
                        "path": signal.path,
                        "kind": signal.kind.name.lower(),
                        "unit": signal.unit,
                        "low": signal.low,
                        "high": signal.high,
                    }
                )
                if len(out) >= min(limit, MOST_TAGS):
                    break
        return out

    async def last_values(self, paths: list[str]) -> list[dict[str, Any]]:
        """Current value, time, quality and staleness of signals given by path."""
        live = self._services.watch.live
        stale = live.stale(self._services.clock.wall_ns())
        out: list[dict[str, Any]] = []
        for path in paths[:MOST_TAGS]:
            id = live.ids.get(path)
            if id is None:
                out.append({"path": path, "error": "no such signal; use find_tags"})
                continue
            value: Any = plain(live.value[id])
            if live.signals[id].kind is SignalKind.TEXT and value is not None and value >= 0:
                value = self._services.historian.texts([int(value)])[0]
            out.append(
                {
                    "path": path,
                    "value": value,
                    "unit": live.signals[id].unit,
                    "time_ms": live.time_ns[id] / NS_PER_MS,
                    "quality": int(live.quality[id]),
                    "stale": bool(stale[id]),
                }
            )
        return out

    async def trend(
        self, path: str, start: str = "-1h", end: str = "now", points: int = 100
    ) -> dict[str, Any]:
        """History of one signal as min/max/avg per bucket; times like -8h, now or ISO 8601."""
        services = self._services
        if path not in services.watch.live.ids:
            return {"path": path, "error": "no such signal; use find_tags"}
        now = services.clock.plant_ns()
        from_ns, to_ns = instant(start, now, "start"), instant(end, now, "end")
        table = await asyncio.to_thread(
            services.historian.query, [path], from_ns, to_ns, points=max(2, min(points, MOST_TREND))
        )
        columns = {name: plain(table.column(name).to_pylist()) for name in table.column_names}
        columns.pop("path", None)
        columns["time_ms"] = [t / NS_PER_MS for t in columns.pop("time_ns", [])]
        return {"path": path, "unit": self._unit(path), **columns}

    def _unit(self, path: str) -> str:
        live = self._services.watch.live
        return live.signals[live.ids[path]].unit

    async def states(self, text: str = "") -> list[dict[str, Any]]:
        """State, reason and since when of all units whose path contains the text."""
        watch = self._services.watch
        units = watch.units
        lost = units.stale_rows(watch.live.stale(self._services.clock.wall_ns()))
        return [
            {
                "path": path,
                "state": UnitState(int(units.state[row])).name,
                "reason": StopReason(int(units.reason[row])).name,
                "since_ms": int(units.since_ns[row]) / NS_PER_MS,
                "stale": bool(lost[row]),
            }
            for path, row in units.rows.items()
            if text.lower() in path
        ]

    async def line(self, line: str) -> dict[str, Any]:
        """Takt, output, bottleneck guess of one line."""
        services = self._services
        stale = services.watch.live.stale(services.clock.wall_ns())
        try:
            view = services.watch.line_view(line, services.clock.plant_ns(), stale)
        except KeyError:
            known = [found.line for found in services.watch.lines()]
            return {"error": f"no line {line!r}; there are {known}"}
        return {k: v for k, v in view.items() if k not in ("stations", "links")}

    async def decisions(self, limit: int = 20) -> Any:
        """The newest decisions of the brain with state, reasons and effect."""
        found = await ask(self._services.decider.decisions, min(limit, 100))
        return with_texts(plain(found), "en", self._services.plant.timezone)

    async def why(self, decision: str) -> Any:
        """Everything about one decision: trigger, candidates, reasons, changes, outcome."""
        try:
            found = await ask(self._services.decider.decision, decision)
        except KeyError:
            return {"error": f"no decision {decision!r}"}
        return with_texts(plain(found), "en", self._services.plant.timezone)

    async def why_not(self, operation: str, machine: str) -> Any:
        """Why an operation of the plan is not on another machine, answered by re-solving."""
        try:
            found = await ask(self._services.decider.why_not, operation, machine)
        except KeyError:
            return {"error": f"no operation {operation!r} or machine {machine!r}"}
        return with_texts(plain(found), "en", self._services.plant.timezone)

    async def orders(self) -> Any:
        """Open orders with promise, predicted end and progress."""
        found = await ask(self._services.decider.orders_view)
        return with_texts(plain(found), "en", self._services.plant.timezone)


class McpDoor:
    """ASGI endpoint of ``/mcp``: checks who asks, starts the server at the first request."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._app: ASGIApp | None = None
        self._starting = asyncio.Lock()
        self._stop = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of a signed-in user."""
        request = Request(scope)
        user = identify(request)
        if user is None or not allows(user.role, "viewer"):
            await _refusal(request, 401, "web.sign_in_needed")(scope, receive, send)
            return
        if importlib.util.find_spec("mcp") is None:
            await _refusal(request, 501, "web.no_mcp")(scope, receive, send)
            return
        async with self._starting:
            if self._app is None:
                self._app = await self._start()
        await self._app(scope, receive, send)

    async def _start(self) -> ASGIApp:
        app, manager = await asyncio.to_thread(_build, self._services)
        ready = asyncio.Event()

        async def own() -> None:
            async with manager.run():
                ready.set()
                await self._stop.wait()

        self._owner = asyncio.create_task(own(), name="mcp")
        await ready.wait()
        return app

    async def close(self) -> None:
        """Stop the server if it ever started."""
        self._stop.set()
        if self._owner is not None:
            with suppress(asyncio.CancelledError):
                await self._owner


def _refusal(request: Request, status: int, id: str) -> Json:
    message = render(id, {}, language(request))
    return Json({"error": {"id": id, "message": message, "params": {}}}, status_code=status)


def _build(services: Services) -> tuple[ASGIApp, Any]:
    from mcp.server import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings

    server = MCPServer(
        "workshop-brain",
        version=services.version or "0",
        instructions="Read-only view of one plant: signals, states, decisions and their reasons.",
        log_level="WARNING",
    )
    tools = Tools(services)
    for tool in (
        tools.find_tags,
        tools.last_values,
        tools.trend,
        tools.states,
        tools.line,
        tools.decisions,
        tools.why,
        tools.why_not,
        tools.orders,
    ):
        server.add_tool(tool)
    app = server.streamable_http_app(
        streamable_http_path="/mcp",
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return app, server.session_manager
