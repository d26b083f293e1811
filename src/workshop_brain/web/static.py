"""The built screens: read once at start, compressed once, cached for ever where hashed."""

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from workshop_brain.web.messages import language_of, render

BUILT = Path(__file__).with_name("static")
_HASHED = re.compile(r"[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+$")
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
_MISSING = """<!doctype html><html lang="{language}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Workshop Brain</title><h1>Workshop Brain</h1><p>{text}</p></html>"""


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes | None
    media_type: str
    etag: str
    immutable: bool


class Screens:
    """ASGI application of the files of one built front end.

    Attributes
    ----------
    built
        False when the folder holds no index.html: every page then says how to build it.
    """

    def __init__(self, folder: Path = BUILT) -> None:
        self._files: dict[str, _File] = {}
        if folder.is_dir():
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith(".map"):
                    self._files[path.relative_to(folder).as_posix()] = _read(path)
        self.built = "index.html" in self._files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = self._answer(Request(scope))
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        language = language_of(request.headers.get("accept-language", ""))
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405)
        name = request.url.path.lstrip("/") or "index.html"
        if not self.built:
            text = render("web.no_front_end", {}, language)
            page = _MISSING.format(language="zh-CN" if language == "zh" else "en", text=text)
            return HTMLResponse(page, status_code=200 if name == "index.html" else 404)
        file = self._files.get(name)
        if file is None:
            return Response(status_code=404)
        return _send(file, request.headers)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix in (".js", ".mjs"):
        kind = "text/javascript"
    elif path.suffix == ".webmanifest":
        kind = "application/manifest+json"
    packed = None
    if kind.startswith(_TEXT) and len(body) > 512:
        packed = gzip.compress(body, 9, mtime=0)
        packed = packed if len(packed) < len(body) else None
    immutable = path.name != "index.html" and bool(_HASHED.search(path.name))
    digest = hashlib.sha256(body).hexdigest()[:32]
    charset = "; charset=utf-8" if kind.startswith("text/") else ""
    return _File(body, packed, kind + charset, f'"{digest}"', immutable)


def _send(file: _File, headers: Headers) -> Response:
    cache = "public, max-age=31536000, immutable" if file.immutable else "no-cache"
    answer = {"etag": file.etag, "cache-control": cache, "vary": "Accept-Encoding"}
    if file.etag in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=answer)
    if file.packed is not None and "gzip" in headers.get("accept-encoding", ""):
        answer["content-encoding"] = "gzip"
        return Response(file.packed, media_type=file.media_type, headers=answer)
    return Response(file.body, media_type=file.media_type, headers=answer)
