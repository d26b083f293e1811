"""The outermost layer: which hosts and origins are served, and the headers of every answer."""

from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workshop_brain.web.messages import language_of, render

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
PRINT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """Refuses foreign hosts and, for everything that can change something, foreign origins."""

    def __init__(self, app: ASGIApp, *, loopback: bool, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = frozenset(h.lower() for h in hosts) | (_LOOPBACK if loopback else set())
        self._check_host = loopback or bool(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if self._check_host and host not in self._hosts:
            await _refuse(scope, send, "web.foreign_host", {"host": host})
            return
        origin = headers.get("origin")
        if _is_foreign(scope, headers, origin):
            await _refuse(scope, send, "web.foreign_origin", {"origin": origin or "?"})
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    answer.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


def _host(value: str) -> str:
    """Host name of a Host header, lower case, without its port.

    >>> _host("LocalHost:8080"), _host("[::1]:8080"), _host("10.0.0.7")
    ('localhost', '::1', '10.0.0.7')
    """
    try:
        return (urlsplit(f"//{value}").hostname or "").lower()
    except ValueError:
        return ""


def _is_foreign(scope: Scope, headers: Headers, origin: str | None) -> bool:
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return False
    if origin is not None:
        return (
            origin == "null" or urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        )
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


async def _refuse(scope: Scope, send: Send, id: str, params: dict[str, str]) -> None:
    language = language_of(Headers(scope=scope).get("accept-language", ""))
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403, "reason": id})
        return
    body = orjson.dumps(
        {"error": {"id": id, "message": render(id, params, language), "params": params}}
    )
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
