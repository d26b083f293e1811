"""Answers of ``GET series`` as JSON, and the instants that may be asked for."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from workshop_brain.model.signal import SignalKind
from workshop_brain.units import NS_PER_DAY, NS_PER_H, NS_PER_MIN, NS_PER_MS, NS_PER_S
from workshop_brain.web.problem import Problem

ARROW = "application/vnd.apache.arrow.stream"
MOST_PATHS = 64
MOST_POINTS = 20_000
MOST_JSON_ROWS = 400_000
_RELATIVE = re.compile(r"(?:now)?([+-]\d+(?:\.\d+)?)(s|min|m|h|d)")
_UNIT_NS = {"s": NS_PER_S, "m": NS_PER_MIN, "min": NS_PER_MIN, "h": NS_PER_H, "d": NS_PER_DAY}
_NS_FROM = 10**15


_MOST_NS = 7_258_118_400_000_000_000


def instant(text: str, now_ns: int, field: str) -> int:
    """An instant in ns, at most that of the year 2200; Problem when it cannot be meant.

    See ``_instant`` for the forms.
    """
    found = _instant(text, now_ns, field)
    if not -_MOST_NS <= found <= _MOST_NS:
        raise Problem(422, "web.bad_value", field=field, reason="before the year 2200", value=text)
    return found


def _instant(text: str, now_ns: int, field: str) -> int:
    """An instant in ns: ms or ns since the epoch, ISO 8601 with offset, ``now`` or ``-8h``.

    >>> _instant("1700000000000", 0, "from"), _instant("-2h", 7200 * 10**9, "from")
    (1700000000000000000, 0)
    """
    text = text.strip()
    if text == "now":
        return now_ns
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return now_ns + round(float(relative[1]) * _UNIT_NS[relative[2]])
    try:
        number = float(text)
        return int(text) if abs(number) >= _NS_FROM else round(number * NS_PER_MS)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        reason = "ms since the epoch, ISO 8601 with an offset, now, or -8h"
        raise Problem(422, "web.bad_value", field=field, reason=reason, value=text)
    return round(moment.timestamp() * 1000) * NS_PER_MS


def as_json(
    table: Any,
    paths: list[str],
    describe: Callable[[str], tuple[str, SignalKind]],
    restated: Any,
) -> bytes:
    """``{series: [{path, unit, kind, restated, time_ms, ...columns}]}``, one entry per asked path.

    ``describe`` gives unit and kind of a path; ``restated`` is the table of that name.
    """
    late: dict[str, list[dict[str, Any]]] = {}
    for mark in restated.to_pylist():
        times = {f"{k}_ms": mark[f"{k}_ns"] / NS_PER_MS for k in ("from", "to", "at")}
        late.setdefault(mark["path"], []).append({**times, "rows": mark["rows"]})
    path_column = table.column("path").combine_chunks()
    if pa.types.is_dictionary(path_column.type):
        path_column = path_column.cast(pa.string())
    series = []
    for path in paths:
        part = table.filter(pc.equal(path_column, pa.scalar(path)))
        unit, kind = describe(path)
        entry: dict[str, Any] = {"path": path, "unit": unit, "kind": kind.name.lower()}
        times = part.column("time_ns").cast(pa.int64()).to_numpy(zero_copy_only=False)
        entry["restated"] = late.get(path, [])
        entry["time_ms"] = times / NS_PER_MS
        for name in part.column_names:
            if name not in ("path", "time_ns"):
                entry[name] = _column(part.column(name))
        if kind is not SignalKind.TEXT:
            entry.pop("text", None)
        series.append(entry)
    return orjson.dumps({"series": series}, option=orjson.OPT_SERIALIZE_NUMPY)


def _column(column: Any) -> Any:
    if pa.types.is_floating(column.type) or (
        pa.types.is_integer(column.type) and column.null_count == 0
    ):
        return column.to_numpy(zero_copy_only=False).copy()
    return column.to_pylist()
