"""What the Prometheus API answers: series of signals read piece by piece, as JSON values."""

import math
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from workshop_brain.model.signal import Quality
from workshop_brain.units import NS_PER_MS, NS_PER_S
from workshop_brain.web.prom.evaluate import LOOKBACK_NS, Read, Rows, Series, Steps, evaluate
from workshop_brain.web.prom.labels import SeriesIndex
from workshop_brain.web.prom.promql import Matcher, PromError, Selector, duration_ns, parse

MOST_STEPS = 11_000
MOST_ROWS = 50_000_000
TIMEOUT_S = 60.0
_PIECE_ROWS = 2_000_000
_MOST_PIECE = 512
_MOST_NS = 9 * 10**18


class Reads(Protocol):
    """The part of the historian that is read."""

    def query(self, signals: Sequence[str], from_ns: int, to_ns: int) -> Any:
        """Raw rows as an Arrow table."""
        ...


def instant_ns(text: str, name: str) -> int:
    """An instant: seconds since the epoch, or RFC 3339.

    >>> instant_ns("1.5", "time"), instant_ns("1970-01-01T00:00:02Z", "time")
    (1500000000, 2000000000)
    """
    try:
        found = round(float(text) * 1000) * NS_PER_MS
    except (ValueError, OverflowError):
        found = None
    if found is None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            found = round(moment.timestamp() * 1000) * NS_PER_MS
    if found is None or abs(found) > _MOST_NS:
        raise PromError(f"{name}: {text!r} is neither seconds since the epoch nor RFC 3339")
    return found


def span_ns(text: str, name: str) -> int:
    """A length: seconds, or a duration such as ``1m``."""
    try:
        seconds = float(text)
    except ValueError:
        return duration_ns(text)
    if not 0 < seconds < 1e10:
        raise PromError(f"{name}: must be above 0, got {text}")
    return max(round(seconds * 1000), 1) * NS_PER_MS


def steps_of(start_ns: int, end_ns: int, step_ns: int, lookback_ns: int = LOOKBACK_NS) -> Steps:
    """The steps of a range query; PromError for a wrong order or too many."""
    if end_ns < start_ns:
        raise PromError("end: is before start")
    if (end_ns - start_ns) // step_ns >= MOST_STEPS:
        raise PromError(
            f"exceeded maximum resolution of {MOST_STEPS:,} points per timeseries; take a larger "
            "step"
        )
    return Steps(np.arange(start_ns, end_ns + 1, step_ns, dtype=np.int64), lookback_ns)


def reader(historian: Reads, index: SeriesIndex, *, timeout_s: float = TIMEOUT_S) -> Read:
    """A ``Read`` over the historian that keeps to ``MOST_ROWS`` rows and a time."""
    deadline, total = time.monotonic() + timeout_s, 0

    def read(matchers: Sequence[Matcher], from_ns: int, to_ns: int) -> Iterator[Rows]:
        nonlocal total
        found = index.find(matchers)
        at, size = 0, 16
        while at < len(found):
            if time.monotonic() > deadline:
                raise PromError(f"query timed out after {timeout_s:g} s", "timeout")
            piece = found[at : at + size]
            table = historian.query([labels["path"] for labels in piece], from_ns, to_ns)
            total += table.num_rows
            if total > MOST_ROWS:
                raise PromError(
                    f"query processing would load more than {MOST_ROWS:,} samples; ask for fewer "
                    "series or a shorter time",
                    "execution",
                )
            yield from _split(table, piece)
            at += size
            per_signal = max(table.num_rows / len(piece), 1.0)
            size = max(1, min(_MOST_PIECE, int(_PIECE_ROWS / per_signal)))

    return read


def _split(table: Any, piece: list[dict[str, str]]) -> Iterator[Rows]:
    slot = table.column("path").combine_chunks().indices.to_numpy()
    time_ns = table.column("time_ns").to_numpy()
    value = table.column("value").to_numpy()
    good = (table.column("quality").to_numpy() & Quality.BAD) == 0
    good &= ~np.isnan(value)
    ends = np.searchsorted(slot, np.arange(len(piece)), side="right").tolist()
    start = 0
    for labels, end in zip(piece, ends, strict=True):
        if end > start:
            yield labels, time_ns[start:end], value[start:end], good[start:end]
        start = end


def query(text: str, at_ns: int, lookback_ns: int, read: Read) -> dict[str, Any]:
    """``{resultType, result}`` of an instant query."""
    node = parse(text)
    if isinstance(node, Selector) and node.range_ns:
        return {"resultType": "matrix", "result": _raw(node, at_ns, read)}
    found = evaluate(node, Steps(np.array([at_ns]), lookback_ns), read)
    moment = at_ns / NS_PER_S
    if not isinstance(found, list):
        return {"resultType": "scalar", "result": [moment, number(float(found[0]))]}
    result = [
        {"metric": s.labels, "value": [moment, number(float(s.value[0]))]}
        for s in found
        if s.present[0]
    ]
    return {"resultType": "vector", "result": result}


def _raw(node: Selector, at_ns: int, read: Read) -> list[dict[str, Any]]:
    end = at_ns - node.offset_ns
    out = []
    for labels, time_ns, value, good in read(node.matchers, end - node.range_ns + 1, end + 1):
        rows = list(zip((time_ns[good] // NS_PER_MS).tolist(), value[good].tolist(), strict=True))
        if rows:
            values = [[ms / 1000, number(v)] for ms, v in rows]
            out.append({"metric": labels, "values": values})
    return out


def query_range(text: str, steps: Steps, read: Read) -> dict[str, Any]:
    """``{resultType: matrix, result}`` of a range query."""
    found = evaluate(parse(text), steps, read)
    if not isinstance(found, list):
        found = [Series({}, found, np.ones(len(steps), bool))]
    moments = steps.time_ns / NS_PER_S
    result = []
    for s in found:
        at = np.flatnonzero(s.present)
        pairs = zip(moments[at].tolist(), s.value[at].tolist(), strict=True)
        if len(at):
            result.append({"metric": s.labels, "values": [[t, number(v)] for t, v in pairs]})
    return {"resultType": "matrix", "result": result}


def number(value: float) -> str:
    """A value as the API writes it.

    >>> number(1.5), number(3.0), number(float("inf")), number(float("nan"))
    ('1.5', '3', '+Inf', 'NaN')
    """
    if math.isfinite(value):
        text = repr(value)
        return text[:-2] if text.endswith(".0") else text
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
