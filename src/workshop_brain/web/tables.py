"""Tables as answers: JSON, Arrow, Parquet or CSV, large ones piece by piece."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from workshop_brain.errors import DamageError, DiskError, StoreError
from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.units import NS_PER_MS
from workshop_brain.web.problem import Problem
from workshop_brain.web.series import ARROW, MOST_JSON_ROWS

PARQUET = "application/vnd.apache.parquet"
MOST_STREAMS = 16
PIECE_ROWS = 200_000
_SAFE_INTEGER = 2**53
_UNZIPPED_BYTES = 1 << 18


class Form(StrEnum):
    """How a table is written."""

    JSON = "json"
    ARROW = "arrow"
    PARQUET = "parquet"
    CSV = "csv"


MEDIA = {
    Form.JSON: "application/json",
    Form.ARROW: ARROW,
    Form.PARQUET: PARQUET,
    Form.CSV: "text/csv; charset=utf-8",
}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A table in the form of `format`, else of the header `Accept`, else JSON.",
        "content": {
            "application/json": {},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    413: {"description": "Too many rows for JSON: ask for another form, or for less."},
    422: {"description": "A parameter cannot be meant; the message says which and why."},
    503: {"description": "The disk, or the rights to it, do not let the history be read."},
    429: {"description": "Too many large answers are on their way: try again in a moment."},
}
"""What the OpenAPI document says of routes that answer with a table."""


@dataclass(slots=True)
class Room:
    """What one application allows at once: reads in threads, SQL statements, open streams."""

    parallel: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    sql: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    waiting_sql: int = 0
    streams: int = 0
    _registry: tuple[pa.Array, NDArray[np.bool_]] = field(
        default_factory=lambda: (pa.array([], pa.string()), np.zeros(0, np.bool_))
    )

    def registry(self, signals: Sequence[SignalDef]) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Paths of all signals and which are texts: neither ever changes, there only come more."""
        if len(signals) != len(self._registry[0]):
            paths = pa.array([s.path for s in signals], pa.string())
            is_text = np.array([s.kind is SignalKind.TEXT for s in signals], np.bool_)
            self._registry = paths, is_text
        return self._registry

    async def read(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a read in a thread; Problem 422 when the history cannot answer what was asked."""
        async with self.parallel:
            return await told(work, *args)


async def told(work: Callable[..., Any], *args: Any) -> Any:
    """Run a read in a thread; what it says about the question becomes a Problem."""
    try:
        return await asyncio.to_thread(work, *args)
    except DamageError:
        raise
    except DiskError as error:
        raise Problem(503, "web.disk", {"Retry-After": "10"}, reason=str(error)) from error
    except StoreError as error:
        raise Problem(422, "web.refused", reason=str(error)) from error


def form_of(request: Request, wished: Form | None) -> Form:
    """The form asked for: ``format=`` first, then the header ``Accept``, else JSON."""
    if wished is not None:
        return wished
    accept = request.headers.get("accept", "")
    return next((form for form, kind in MEDIA.items() if kind.split(";")[0] in accept), Form.JSON)


async def deliver(
    room: Room,
    form: Form,
    schema: pa.Schema,
    pieces: Iterator[pa.Table],
    to_json: Callable[[pa.Table], bytes] | None = None,
) -> Response:
    """The pieces as one answer: streamed, or JSON in one body.

    The first piece is made before the answer begins, so that what is wrong with the question is
    told properly. A fault behind it cuts the connection: a cut answer never looks whole.
    """
    if form is Form.JSON:
        body = await room.read(lambda: (to_json or as_columns)(_whole(schema, pieces)))
        return json_answer(body)
    if room.streams >= MOST_STREAMS:
        raise Problem(429, "web.busy", {"Retry-After": "1"})
    chunks = encoded(schema, pieces, form)
    first = await room.read(next, chunks, None)
    return _Streamed(room, _follow(room, first, chunks), MEDIA[form])


def json_answer(body: bytes) -> Response:
    """JSON that was made in a thread; a large one is not compressed, which is done in the event
    loop and would hold up everybody else."""
    response = Response(body, media_type=MEDIA[Form.JSON])
    if len(body) > _UNZIPPED_BYTES:
        response.headers["content-encoding"] = "identity"
    return response


async def _follow(room: Room, first: bytes | None, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk is not None:
        if chunk:
            yield chunk
        chunk = await room.read(next, chunks, None)


class _Streamed(StreamingResponse):
    """Counts the streams that are open. Not compressed: that would be done in the event loop."""

    def __init__(self, room: Room, chunks: AsyncIterator[bytes], media_type: str) -> None:
        super().__init__(chunks, media_type=media_type, headers={"content-encoding": "identity"})
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        self._room.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._room.streams -= 1


class _Outlet(io.RawIOBase):
    """A file that is taken away while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def drain(self) -> bytes:
        """What was written since the last time."""
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole


def encoded(schema: pa.Schema, pieces: Iterator[pa.Table], form: Form) -> Iterator[bytes]:
    """Bytes of one Arrow stream, Parquet or CSV file, a chunk for each piece and one at the end.

    Problem when a column cannot stand in that form.
    """
    outlet = _Outlet()
    try:
        with _writer(outlet, schema, form) as writer:
            for piece in pieces:
                writer.write_table(piece)
                yield outlet.drain()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        reason = f"this table cannot be written as {form}: {error}"
        raise Problem(422, "web.refused", reason=reason) from error
    yield outlet.drain()


def _writer(outlet: _Outlet, schema: pa.Schema, form: Form) -> AbstractContextManager[Any]:
    writer: AbstractContextManager[Any]
    if form is Form.ARROW:
        writer = pa.ipc.new_stream(outlet, schema)
    elif form is Form.PARQUET:
        writer = pq.ParquetWriter(outlet, schema, compression="zstd")
    else:
        writer = pacsv.CSVWriter(outlet, schema)
    return writer


def cut(table: pa.Table) -> Iterator[pa.Table]:
    """A table in pieces that are sent one after the other."""
    for start in range(0, max(table.num_rows, 1), PIECE_ROWS):
        yield table.slice(start, PIECE_ROWS)


def _whole(schema: pa.Schema, pieces: Iterator[pa.Table]) -> pa.Table:
    """All pieces; Problem 413 as soon as they are too many for JSON."""
    parts, rows = [schema.empty_table()], 0
    for piece in pieces:
        rows += piece.num_rows
        if rows > MOST_JSON_ROWS:
            reason = (
                f"more than {MOST_JSON_ROWS} rows are too many for JSON; give points= or ask for "
                "format=arrow, parquet or csv"
            )
            raise Problem(413, "web.refused", reason=reason)
        parts.append(piece)
    return pa.concat_tables(parts)


def as_columns(table: pa.Table) -> bytes:
    """``{rows, columns: {name: [..]}}``; integers beyond 2^53 as decimal strings, so that a browser
    keeps them; beside ``time_ns`` also ``time_ms``.
    """
    columns: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        columns[name] = column_values(column)
        if name == "time_ns" and pa.types.is_int64(column.type):
            columns["time_ms"] = column.to_numpy() / NS_PER_MS
    return orjson.dumps(
        {"rows": table.num_rows, "columns": columns},
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS,
        default=str,
    )


def column_values(column: pa.ChunkedArray) -> Any:
    """A column as orjson takes it."""
    kind = column.type
    if pa.types.is_integer(kind) and len(column):
        extremes = pc.min_max(column).as_py()
        if any(abs(v) > _SAFE_INTEGER for v in extremes.values() if v is not None):
            return column.cast(pa.string()).to_pylist()
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and column.null_count == 0):
        return column.to_numpy().copy()  # null becomes NaN, which becomes null
    return column.to_pylist()
