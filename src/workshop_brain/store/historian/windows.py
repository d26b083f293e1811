"""Windowed aggregates of devices: signals are grouped by the first parts of their paths."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples
from workshop_brain.store.historian.rollup import Buckets

SCHEMA = pa.schema(
    [
        ("device", pa.string()),
        ("time_ns", pa.int64()),
        ("avg", pa.float64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("sum", pa.float64()),
        ("count", pa.int64()),
        ("first", pa.float64()),
        ("last", pa.float64()),
        ("time_weighted", pa.float64()),
    ]
)
MOST_WINDOWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """How long signals held a value in windows, sorted by (key, time_ns).

    Attributes
    ----------
    key : int64; time_ns : int64, start of the window
    area : float64, value times seconds; seconds : float64, for how long a value was known
    """

    key: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    area: NDArray[np.float64]
    seconds: NDArray[np.float64]


def groups_of(paths: Sequence[str], depth: int) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the groups, sorted, and the group of each path.

    depth
        How many parts of the path count: 6 a unit, 5 a cell, 4 a line, 3 an area, 7 each signal.

    >>> groups_of(["e/s/a/l/c/u2/x", "e/s/a/l/c/u1/x", "e/s/a/l/c/u2/y"], 6)
    (['e/s/a/l/c/u1', 'e/s/a/l/c/u2'], array([1, 0, 1]))
    """
    names = ["/".join(path.split("/")[:depth]) for path in paths]
    found = sorted(set(names))
    at = {name: k for k, name in enumerate(found)}
    return found, np.array([at[name] for name in names], np.int64)


def hold(rows: Samples, from_ns: int, to_ns: int, width_ns: int) -> Held:
    """Time-weighted sums of rows sorted by (signal, time); a value holds until the next one.

    Rows before ``from_ns`` give the value at the start. A BAD or NaN row ends what was known. The
    newest value of a signal holds until the newest row of all: what comes later is not known.
    """
    n = len(rows)
    to_ns = min(to_ns, int(rows.time_ns.max()) + 1) if n else from_ns
    is_last = np.append(rows.signal[1:] != rows.signal[:-1], True)[:n]
    end = np.where(is_last, to_ns, np.append(rows.time_ns[1:], to_ns)[:n])
    start = np.clip(rows.time_ns, from_ns, to_ns)
    end = np.clip(end, from_ns, to_ns)
    known = ((rows.quality & Quality.BAD) == 0) & ~np.isnan(rows.value) & (end > start)
    start, end = start[known], end[known]
    key, value = rows.signal[known].astype(np.int64), rows.value[known]
    first, last = (start - from_ns) // width_ns, (end - 1 - from_ns) // width_ns
    pieces = last - first + 1  # a value that holds over window borders is cut there
    row = np.repeat(np.arange(len(start)), pieces)
    window = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[row]
    begin = np.maximum(start[row], from_ns + window * width_ns)
    finish = np.minimum(end[row], from_ns + (window + 1) * width_ns)
    seconds = (finish - begin) / 1e9
    return _sum_held(key[row], from_ns + window * width_ns, value[row] * seconds, seconds)


def _sum_held(
    key: NDArray[np.int64],
    time_ns: NDArray[np.int64],
    area: NDArray[np.float64],
    seconds: NDArray[np.float64],
) -> Held:
    order = np.lexsort((time_ns, key))
    key, time_ns, area, seconds = key[order], time_ns[order], area[order], seconds[order]
    starts = _starts(key, time_ns)
    if not len(starts):
        return Held(key, time_ns, area, seconds)
    return Held(
        key[starts],
        time_ns[starts],
        np.add.reduceat(area, starts),
        np.add.reduceat(seconds, starts),
    )


def group_held(held: Held, group: NDArray[np.int64]) -> Held:
    """Sums of signals as sums of their groups; ``group[signal id]``."""
    return _sum_held(group[held.key], held.time_ns, held.area, held.seconds)


def group_buckets(buckets: Buckets, group: NDArray[np.int64]) -> tuple[Buckets, NDArray[np.bool_]]:
    """Aggregates of signals as aggregates of their groups; ``group[signal id]``.

    Second: where one signal alone makes the group's window, so that first and last mean something.
    """
    key = group[buckets.key]
    order = np.lexsort((buckets.time_ns, key))
    key, time_ns = key[order], buckets.time_ns[order]
    starts = _starts(key, time_ns)
    if not len(starts):
        return buckets, np.zeros(0, bool)
    alone = np.diff(starts, append=len(key)) == 1
    return (
        Buckets(
            key[starts],
            time_ns[starts],
            np.minimum.reduceat(buckets.low[order], starts),
            np.maximum.reduceat(buckets.high[order], starts),
            np.add.reduceat(buckets.total[order], starts),
            buckets.first[order][starts],
            buckets.last[order][starts],
            np.add.reduceat(buckets.count[order], starts),
        ),
        alone,
    )


def window_table(
    buckets: Buckets, alone: NDArray[np.bool_], held: Held | None, names: Sequence[str]
) -> pa.Table:
    """The public table, sorted by (device, time). ``first`` and ``last`` are null for a window of
    several signals; ``time_weighted`` is null where no value was known or none was asked for.
    A window in which values only held on, without a row of its own, has count 0.
    """
    whole, weighted = (buckets, np.full(len(buckets), np.nan))
    present = np.ones(len(buckets), bool)
    if held is not None:
        whole, present, alone, weighted = _with_held(buckets, alone, held)
    empty = ~present

    def column(values: NDArray[np.float64], more: NDArray[np.bool_] | None = None) -> pa.Array:
        return pa.array(values, mask=empty if more is None else empty | more)

    return pa.Table.from_arrays(
        [
            pa.array(list(names), pa.string()).take(pa.array(whole.key)),
            pa.array(whole.time_ns),
            column(whole.total / np.maximum(whole.count, 1)),
            column(whole.low),
            column(whole.high),
            column(whole.total),
            pa.array(whole.count),
            column(whole.first, ~alone),
            column(whole.last, ~alone),
            pa.array(weighted, mask=np.isnan(weighted)),
        ],
        schema=SCHEMA,
    )


def _with_held(
    buckets: Buckets, alone: NDArray[np.bool_], held: Held
) -> tuple[Buckets, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Outer join of both by (key, time)."""
    n = len(buckets)
    key = np.concatenate([buckets.key, held.key])
    time_ns = np.concatenate([buckets.time_ns, held.time_ns])
    order = np.lexsort((np.arange(len(key)), time_ns, key))  # rows before what held, when both
    starts = _starts(key[order], time_ns[order])
    ends = np.append(starts[1:], len(order)) - 1
    at, of_held = order[starts], order[ends]
    present = at < n
    row = np.where(present, at, 0)
    weighted = np.full(len(at), np.nan)
    has = of_held >= n
    which = of_held[has] - n
    weighted[has] = held.area[which] / held.seconds[which]

    def pick(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[row] if n else np.zeros(len(row))

    count = np.where(present, buckets.count[row] if n else 0, 0).astype(np.int64)
    whole = Buckets(
        key[at], time_ns[at], pick(buckets.low), pick(buckets.high), pick(buckets.total),
        pick(buckets.first), pick(buckets.last), count,
    )  # fmt: skip
    lone = alone[row] & present if n else np.zeros(len(row), bool)
    return whole, present, lone, weighted


def _starts(key: NDArray[np.int64], time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(key):
        return np.zeros(0, np.int64)
    change = np.flatnonzero((key[1:] != key[:-1]) | (time_ns[1:] != time_ns[:-1])) + 1
    return np.concatenate([np.zeros(1, np.int64), change])
