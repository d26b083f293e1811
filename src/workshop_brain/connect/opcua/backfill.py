"""Holes filled from the server's own history (HistoryRead, OPC UA Part 11).

A hole is closed only when the history is seen to reach over both of its ends: back to the last
sample before it (or further), and to the first one behind. Otherwise the server kept too little,
and what is missing keeps its mark.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.browse import Limits
from workshop_brain.connect.opcua.columns import Columns, Holes, joined, selected
from workshop_brain.connect.opcua.decode import Notifications, Past
from workshop_brain.connect.opcua.session import Session
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import Samples

log = logging.getLogger(__name__)

_VALUES_PER_NODE = 1000
_MOST_VALUES = 1_000_000
_TIMEOUT_S = 15.0
_HISTORY_READ = 0x04
_MILLISECOND = 1_000_000
# After a restart of ours the beginning is no sample's time: some history before it shows its reach.
_LOOK_BACK_NS = 5_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SMALLER = frozenset(
    {
        ua.StatusCodes.BadTooManyOperations,
        ua.StatusCodes.BadNoContinuationPoints,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadEncodingLimitsExceeded,
        ua.StatusCodes.BadTimeout,
    }
)


@dataclass(frozen=True, slots=True)
class Filled:
    """Outcome for some holes.

    Attributes
    ----------
    samples
        What to hand over: history inside the holes, and the closed holes' later ends once more.
    closed : bool, one for each hole
    why
        Status names of the nodes that gave no history.
    """

    samples: Samples | None
    rows: int
    closed: NDArray[np.bool_]
    why: Counter[str] = field(default_factory=Counter)


def batches(holes: Holes, most: int) -> Iterator[NDArray[np.int64]]:
    """Rows of at most ``most`` holes whose stretches are alike, since one request has one stretch.

    A hole that begins much earlier than its neighbours (a signal that seldom changes) is read with
    its like, so that fast signals are not read for all that time.
    """
    order = np.argsort(holes.since_ns, kind="stable")
    at = 0
    while at < len(order):
        first = holes.since_ns[order[at]]
        length = max(holes.until_ns[order[at]] - first, 60_000_000_000)
        alike = int(np.searchsorted(holes.since_ns[order], first + length, side="right"))
        end = min(at + most, max(alike, at + 1))
        yield order[at:end]
        at = end


def ends_of(since_ns: int, until_ns: int, time_ns: NDArray[np.int64]) -> tuple[bool, bool]:
    """Whether a history reaches back to the beginning of a hole, and holds its end.

    >>> ends_of(10**9, 2 * 10**9, np.array([10**9, 1_500_000_000]))
    (True, False)
    """
    same = _precision_ns(time_ns)
    before, behind = time_ns < since_ns + same, np.abs(time_ns - until_ns) < same
    return bool(before.any()), bool(behind.any())


def _precision_ns(time_ns: NDArray[np.int64]) -> int:
    """How far a history's time may be from the live one: some keep milliseconds only."""
    return _MILLISECOND if not (time_ns % _MILLISECOND).any() else 1000


def filled(columns: Columns, holes: Holes, found: Sequence[Notifications]) -> Filled:
    """What the histories found say about the holes, one for each."""
    parts: list[Notifications] = []
    gap_rows: list[NDArray[np.bool_]] = []
    closed, restated = np.zeros(len(holes), np.bool_), np.zeros(len(holes), np.bool_)
    for at, rows in enumerate(found):
        since, until = int(holes.since_ns[at]), int(holes.until_ns[at])
        before, behind = ends_of(since, until, rows.time_ns)
        same = _precision_ns(rows.time_ns)
        inside = np.flatnonzero((rows.time_ns >= since + same) & (rows.time_ns <= until - same))
        closed[at] = before and behind
        restated[at] = behind and (before or len(inside) > 0)
        if len(inside):
            parts.append(selected(rows, inside[np.argsort(rows.time_ns[inside], kind="stable")]))
            gap_rows.append(np.arange(len(inside)) < (not before))
    out = [columns.past(joined(parts), np.concatenate(gap_rows))] if parts else []
    if restated.any():
        out.append(columns.closed(holes.of(restated)))
    return Filled(_together(out), sum(len(p) for p in parts), closed)


def _together(parts: list[Samples]) -> Samples | None:
    if not parts:
        return None
    return Samples(
        np.concatenate([p.signal for p in parts]),
        np.concatenate([p.time_ns for p in parts]),
        np.concatenate([p.value for p in parts]),
        np.concatenate([p.quality for p in parts]),
    )


@dataclass(slots=True, eq=False)
class Backfill:
    """Reads holes from one server's history, batch after batch.

    Parameters
    ----------
    hand_over
        Called with what was found and the holes it was looked for.
    keeping
        ``(cause, response)``: counts and keeps a response that its block cannot decode.
    """

    session: Session
    hand_over: Callable[[Holes, Filled], None]
    keeping: Callable[[str, bytes], AbstractContextManager[None]]
    _waiting: list[Holes] = field(default_factory=list)
    _readable: dict[str, bool] = field(default_factory=dict)

    def add(self, holes: Holes) -> None:
        """Remember holes until there is time to fill them."""
        if len(holes):
            self._waiting.append(holes)

    def forget(self) -> None:
        """Handles mean something else now."""
        self._waiting.clear()
        self._readable.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    async def fill(self, columns: Columns, limits: Limits) -> None:
        """Fill what waits; holes stay waiting when the line breaks meanwhile.

        OSError, TimeoutError or ua.UaError when it does.
        """
        most = min(limits.nodes_per_history_read, limits.history_points or _MOST_VALUES)
        while self._waiting:
            holes = self._waiting[0]
            # Where no history is kept, what was said of the gap stands.
            readable = holes.of(await self._historizing(columns, holes, limits))
            for rows in batches(readable, most):
                batch = readable.of(rows)
                self.hand_over(batch, await self._read(columns, batch))
            self._waiting.pop(0)

    async def _historizing(
        self, columns: Columns, holes: Holes, limits: Limits
    ) -> NDArray[np.bool_]:
        """Which nodes let us read their history (UserAccessLevel)."""
        names = [columns.items[h].node_id.to_string() for h in holes.handle.tolist()]
        asked = [
            (name, columns.items[h].node_id)
            for name, h in zip(names, holes.handle.tolist(), strict=True)
            if name not in self._readable
        ]
        for at in range(0, len(asked), limits.nodes_per_read):
            part = asked[at : at + limits.nodes_per_read]
            parameters = ua.ReadParameters()
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
            parameters.NodesToRead = [_access(node) for _, node in part]
            results = await self.session.client.uaclient.session.read(parameters)
            for (name, _), data in zip(part, results, strict=True):
                level = data.Value.Value if data.Value is not None else 0
                self._readable[name] = isinstance(level, int) and bool(level & _HISTORY_READ)
        return np.array([self._readable[name] for name in names], np.bool_)

    async def _read(self, columns: Columns, holes: Holes) -> Filled:
        """History of the holes' nodes; in smaller pieces where the server asks for it."""
        n = len(holes)
        found: list[list[Notifications]] = [[] for _ in range(n)]
        why: Counter[str] = Counter()
        # An array or structure is read once for all its parts.
        head = columns.head[holes.handle].tolist()
        first: dict[int, int] = {}
        for row in range(n):
            first.setdefault(head[row], row)
        pending = [list(first.values())]
        while pending:
            rows = pending.pop()
            try:
                smaller = await self._follow(columns, holes, rows, found, why)
            except DecodeError as error:
                why[str(error)] += len(rows)
                continue
            except ua.UaStatusCodeError as error:
                if error.code not in _SMALLER:
                    why[_name(error.code)] += len(rows)
                    continue
                smaller = rows
            if len(smaller) == 1 and len(rows) == 1:
                why["the server gives no single node's history"] += 1
            elif smaller:
                half = (len(smaller) + 1) // 2
                pending += [part for part in (smaller[:half], smaller[half:]) if part]
        read = {h: joined(found[row]) if found[row] else _NONE for h, row in first.items()}
        handles = holes.handle.tolist()
        done = filled(columns, holes, [columns.of_row(read[head[r]], handles[r]) for r in range(n)])
        done.why.update(why)
        return done

    async def _follow(
        self,
        columns: Columns,
        holes: Holes,
        rows: list[int],
        found: list[list[Notifications]],
        why: Counter[str],
    ) -> list[int]:
        """Read some rows and follow their continuation points; those to be asked for alone."""
        start = _time(int(holes.since_ns[rows].min()) - _LOOK_BACK_NS)
        end = _time(int(holes.until_ns[rows].max()) + 2 * _MILLISECOND)
        points = dict.fromkeys(rows, b"")
        smaller: list[int] = []
        for row in rows:
            found[row].clear()
        total = 0
        while points:
            asked = list(points)
            for row, past in zip(
                asked, await self._ask(columns, holes, points, start, end), strict=True
            ):
                if past.status in _SMALLER:
                    smaller.append(row)
                elif past.status & 0x80000000:
                    why[_name(past.status)] += 1
                elif len(past.rows):
                    found[row].append(past.rows)
                    parts = columns.parts.get(int(columns.head[holes.handle[row]]))
                    total += len(past.rows) * max(1, len(parts.row) if parts is not None else 1)
                points[row] = past.more
            points = {row: more for row, more in points.items() if more}
            if points and total > _MOST_VALUES:
                await self._ask(columns, holes, points, start, end, release=True)
                why[f"more than {_MOST_VALUES} values"] += len(points)
                break
        return smaller

    async def _ask(
        self,
        columns: Columns,
        holes: Holes,
        points: dict[int, bytes],
        start: datetime,
        end: datetime,
        *,
        release: bool = False,
    ) -> list[Past]:
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=start,
            EndTime=end,
            NumValuesPerNode=_VALUES_PER_NODE,
            ReturnBounds=False,
        )
        request = ua.HistoryReadRequest()
        request.Parameters.HistoryReadDetails = details
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ReleaseContinuationPoints = release
        handles = [int(holes.handle[row]) for row in points]
        request.Parameters.NodesToRead = [
            ua.HistoryReadValueId(NodeId=columns.items[h].node_id, ContinuationPoint=more or None)
            for h, more in zip(handles, points.values(), strict=True)
        ]
        body = await self.session.send(request, _TIMEOUT_S)
        with self.keeping("history_response", body):
            return decode.history(body, handles)


_NONE = Notifications(
    subscription=0,
    sequence=0,
    more=False,
    publish_ns=0,
    available=(),
    is_keep_alive=False,
    handle=np.zeros(0, np.uint32),
    value=np.zeros(0, np.float64),
    status=np.zeros(0, np.uint32),
    time_ns=np.zeros(0, np.int64),
)


def _access(node: ua.NodeId) -> ua.ReadValueId:
    return ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.UserAccessLevel)


def _time(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=max(time_ns, 0) // 1000)


def _name(code: int) -> str:
    return str(ua.status_codes.get_name_and_doc(code)[0])
