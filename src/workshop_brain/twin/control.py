"""The demonstration's control: break, repair and speed up the simulated plant over HTTP.

It belongs to the plant, not to the brain: the brain sees only what the machines then publish.
"""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from workshop_brain.errors import SourceError
from workshop_brain.twin.commands import (
    BreakUnit,
    Command,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
)
from workshop_brain.twin.devices import Device
from workshop_brain.twin.journal import read_speed

MAX_MINUTES = 7 * 24 * 60.0
MAX_SPEED = 1000.0
_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSurface:
    """What the page can see and do.

    Attributes
    ----------
    apply
        Runs a command at the plant's present instant; "" or the reason of refusal.
    status
        JSON-able state of the plant process.
    set_speed
        Plant seconds per second from now on; infinity: as fast as possible.
    """

    devices: tuple[Device, ...]
    apply: Callable[[Command], Awaitable[str]]
    status: Callable[[], dict[str, Any]]
    set_speed: Callable[[float], None]


class BadRequestError(ValueError):
    """A request that cannot be carried out as it stands."""


def find_device(devices: tuple[Device, ...], named: str) -> Device:
    """The device with this path (with or without enterprise) or id; BadRequestError otherwise."""
    for device in devices:
        if named in (device.path, device.path.split("/", 1)[1]):
            return device
    found = [d for d in devices if d.id == named]
    if len(found) == 1:
        return found[0]
    why = "no such unit" if not found else f"{len(found)} units have this id, give the path"
    raise BadRequestError(f"unit {named!r}: {why}")


def number(body: dict[str, Any], key: str, *, default: float | None, top: float) -> float:
    """A number 0 < x <= top from the request; BadRequestError names key and value."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= top:
        raise BadRequestError(f"{key}: must be a number above 0 and up to {top:g}, got {value!r}")
    return float(value)


_COMMANDS: dict[str, Callable[[str, float], Command]] = {
    "break": BreakUnit,
    "quality": QualityStop,
    "absent": OperatorAbsent,
}


def control_app(surface: ControlSurface) -> Starlette:
    """The control page and its requests as an ASGI application."""

    async def page(request: Request) -> Response:
        text = resources.files("workshop_brain.twin").joinpath("control.html").read_text("utf-8")
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        headers = {"Content-Security-Policy": policy + "connect-src 'self'; frame-ancestors 'none'"}
        return HTMLResponse(text, headers=headers)

    async def status(request: Request) -> Response:
        return JSONResponse(surface.status())

    async def act(request: Request) -> Response:
        try:
            return JSONResponse(await _act(surface, request))
        except BadRequestError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    routes = [Route("/", page), Route("/status", status)]
    routes += [Route(f"/{verb}", act, methods=["POST"]) for verb in (*_COMMANDS, "repair", "speed")]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)]
    return Starlette(routes=routes, middleware=middleware)


async def _act(surface: ControlSurface, request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise BadRequestError("the body must be application/json")
    try:
        body = await request.json()
    except (ValueError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    verb = request.url.path.lstrip("/")
    if verb == "speed":
        told = body.get("factor")
        factor = told if told == "max" else number(body, "factor", default=None, top=MAX_SPEED)
        surface.set_speed(read_speed(factor))
        return {"ok": True, "speed": factor}
    device = find_device(surface.devices, str(body.get("unit", "")))
    if verb == "repair":
        command: Command = RepairUnit(device.path)
    else:
        minutes = number(body, "minutes", default=30.0, top=MAX_MINUTES)
        command = _COMMANDS[verb](device.path, minutes * 60.0)
    reason = await surface.apply(command)
    if reason:
        raise BadRequestError(reason)
    return {"ok": True, "unit": device.path}


class _Server(uvicorn.Server):
    """A server that leaves the signals to the process around it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ControlServer:
    """The control page on a loopback port."""

    def __init__(self, surface: ControlSurface, *, port: int, host: str = "127.0.0.1") -> None:
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise SourceError(
                f"control port {port} on {host} cannot be opened: {error}; "
                "choose another with --control-port"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{host}:{self.port}/"
        self._server = _Server(
            uvicorn.Config(
                control_app(surface), log_level="warning", lifespan="off", ws="none",
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip

    async def run(self) -> None:
        """Answer until ``stop``."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Let ``run`` end."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def post(port: int, path: str, body: dict[str, Any], *, host: str = "127.0.0.1") -> dict[str, Any]:
    """Send one request to a running plant's control and return its answer.

    Raises SourceError when no plant answers there or the request is refused.
    """
    url = f"http://{host}:{port}{path}"
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            result: dict[str, Any] = json.load(answer)
            return result
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode("utf-8", "replace")
        try:
            reason = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            reason = text
        raise SourceError(f"the simulated plant refused {path}: {reason}") from error
    except OSError as error:
        raise SourceError(
            f"no simulated plant answers at {url}: {error}; is it running? "
            "give its port with --control-port"
        ) from error
