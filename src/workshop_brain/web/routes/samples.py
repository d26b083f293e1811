"""Samples that programs push: ``POST samples``, Arrow or JSON, answered once they are durable."""

import asyncio
import hashlib
import re
from dataclasses import dataclass, field

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from workshop_brain.connect.push.decode import (
    Body,
    decode_arrow,
    decode_json,
    session_number,
)
from workshop_brain.errors import DecodeError, PushError, StoreError
from workshop_brain.web.context import Here, Pusher, answer
from workshop_brain.web.problem import Problem
from workshop_brain.web.series import ARROW

router = APIRouter(tags=["samples"])
MOST_BYTES = 16 * 1024 * 1024
_MOST_WAITING = 16
_RETRY_S = "5"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(slots=True)
class Room:
    """Bodies that are in memory now; more than a few are sent away at once, two are decoded."""

    waiting: int = 0
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


@router.post("/samples")
async def push_samples(
    request: Request,
    user: Pusher,
    here: Here,
    source: str = Query("", max_length=120),
    session: str = Query("", max_length=400),
    seq: int = Query(0, ge=0, lt=1 << 62),
    every_s: float = Query(0.0, ge=0.0, le=604_800.0),
) -> Response:
    """Store samples, an Arrow IPC stream or JSON; the answer says that they are durable.

    Rows that cannot be taken are named and left out, the others are taken. A body that comes again
    under the same ``Idempotency-Key``, or the same ``source``, ``session`` and ``seq``, is stored
    once and answered the same.
    """
    door = here.services.push
    if door is None:
        raise Problem(404, "web.no_route", path=request.url.path)
    key = _key(request)
    room: Room = request.app.state.push_room
    if room.waiting >= _MOST_WAITING:
        raise Problem(429, "web.busy", {"Retry-After": "1"})
    room.waiting += 1
    try:
        data = await _body(request)
        async with room.decoding:
            body, digest = await asyncio.to_thread(_decoded, data, _is_arrow(request))
        if seq:
            number = session_number(int(session) if session.isdecimal() else session)
            body = Body(body.rows, body.faults, source, number, seq, body.described)
        told = await door.take(user.name, body, key=key, digest=digest, every_s=every_s)
    except DecodeError as error:
        door.unreadable(user.name, data, str(error))
        raise Problem(422, "web.refused", reason=str(error)) from error
    except PushError as error:
        raise Problem(409, "web.refused", reason=str(error)) from error
    except (StoreError, OSError) as error:
        raise Problem(
            503, "web.not_durable", {"Retry-After": _RETRY_S}, reason=str(error)
        ) from error
    finally:
        room.waiting -= 1
    errors = [
        {"index": f.row, "column": f.column, "value": f.value,
         "message": {"id": f.id, "params": f.params}}
        for f in told.errors
    ]  # fmt: skip
    result = {"taken": told.taken, "rejected": told.rejected, "errors": errors}
    response = answer(request, result, status=422 if told.rejected and not told.taken else 200)
    if told.is_repeat:
        response.headers["idempotency-replayed"] = "true"
    return response


def _decoded(data: bytes, is_arrow: bool) -> tuple[Body, int]:
    body = decode_arrow(data) if is_arrow else decode_json(data)
    return body, int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if key and not _KEY.fullmatch(key):
        reason = "1 to 200 printable ASCII characters without spaces"
        raise Problem(422, "web.bad_value", field="Idempotency-Key", reason=reason, value=key[:80])
    return key


def _is_arrow(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        reason = "send the body without Content-Encoding"
        raise Problem(415, "web.refused", reason=reason)
    if kind not in (ARROW, "application/json"):
        reason = f"Content-Type must be {ARROW} or application/json, got {kind or 'none'!r}"
        raise Problem(415, "web.refused", reason=reason)
    return kind == ARROW


async def _body(request: Request) -> bytes:
    _is_arrow(request)
    size = request.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > MOST_BYTES:
        raise Problem(413, "web.too_large", size=int(size), limit=MOST_BYTES)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise Problem(413, "web.too_large", size=len(body), limit=MOST_BYTES)
    return bytes(body)
