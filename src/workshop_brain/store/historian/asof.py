"""The value of every signal at given moments: what the machine knew when a part was there."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.units import NS_PER_H

MOST_CELLS = 20_000_000
_SPAN_NS = 6 * NS_PER_H


def as_of(
    rows: Samples, ids: Sequence[int], moments: NDArray[np.int64], within_ns: int
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Per signal the newest value at or before each moment, and whether there is one.

    rows
        Sorted by (signal, time), one per instant.
    moments
        int64[m], any order.
    within_ns
        A value that is older than this at the moment counts as unknown, as does a BAD one.
    """
    ids32 = np.asarray(ids, np.uint32)
    low = np.searchsorted(rows.signal, ids32, side="left")
    high = np.searchsorted(rows.signal, ids32, side="right")
    out = []
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        if a == b:
            out.append((np.full(len(moments), np.nan), np.zeros(len(moments), bool)))
            continue
        time = rows.time_ns[a:b]
        at = np.searchsorted(time, moments, side="right") - 1
        row = np.maximum(at, 0)
        value = rows.value[a:b][row]
        known = (at >= 0) & (moments - time[row] <= within_ns)
        known &= (rows.quality[a:b][row] & Quality.BAD) == 0
        out.append((value, known & ~np.isnan(value)))
    return out


def part_events(rows: Samples, texts: Callable[[Sequence[int]], list[str]]) -> pa.Table:
    """``signal, serial, time_ns`` of every part that came to a station, by time.

    rows
        Of the stations' ``serial`` signals, sorted by (signal, time). A part comes when the serial
        changes to another one that is not empty.
    """
    good = ((rows.quality & Quality.BAD) == 0) & ~np.isnan(rows.value)
    signal, time, value = rows.signal[good], rows.time_ns[good], rows.value[good]
    new = np.ones(len(signal), bool)
    new[1:] = (signal[1:] != signal[:-1]) | (value[1:] != value[:-1])
    signal, time, code = signal[new], time[new], value[new].astype(np.int64)
    found, inverse = np.unique(code, return_inverse=True)
    words = np.array(texts(found.tolist()), dtype=object)
    serial = words[inverse] if len(found) else np.zeros(0, object)
    keep = np.array([bool(word) for word in serial], bool)
    order = np.argsort(time[keep], kind="stable")
    return pa.table(
        {
            "signal": pa.array(signal[keep][order]),
            "serial": pa.array(serial[keep][order].tolist(), pa.string()),
            "time_ns": pa.array(time[keep][order]),
        }
    )


def asof_columns(
    found: list[tuple[NDArray[np.float64], NDArray[np.bool_]]],
    ids: Sequence[int],
    signals: Sequence[SignalDef],
    texts: Callable[[Sequence[int]], list[str]],
) -> dict[str, pa.Array]:
    """One column per signal, by path: numbers, or words of a text signal; null when unknown."""
    out = {}
    for id, (value, known) in zip(ids, found, strict=True):
        if signals[id].kind is SignalKind.TEXT:
            codes = np.where(known, value, 0).astype(np.int64)
            unique, inverse = np.unique(codes, return_inverse=True)
            words = pa.array(texts(unique.tolist()), pa.string())
            out[signals[id].path] = words.take(pa.array(inverse, mask=~known))
        else:
            out[signals[id].path] = pa.array(value, mask=~known)
    return out


def stretches(moments: NDArray[np.int64], within_ns: int) -> list[tuple[int, int]]:
    """Ranges of sorted moments that are read at once: near each other, and not long.

    >>> stretches(np.array([0, 5, 1000]), 10)
    [(0, 2), (2, 3)]
    """
    out, start = [], 0
    for k in range(1, len(moments) + 1):
        if (
            k == len(moments)
            or moments[k] - moments[k - 1] > within_ns
            or moments[k] - moments[start] > _SPAN_NS
        ):
            out.append((start, k))
            start = k
    return out


def read_as_of(
    read: Callable[[NDArray[np.uint32], int, int], Samples],
    ids: Sequence[int],
    moments: NDArray[np.int64],
    within_ns: int,
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """``as_of`` over a store: only the time around the moments is read, piece by piece."""
    order = np.argsort(moments, kind="stable")
    sorted_moments = moments[order]
    out = [(np.full(len(moments), np.nan), np.zeros(len(moments), bool)) for _ in ids]
    chosen = np.unique(np.asarray(ids, np.uint32))
    for start, stop in stretches(sorted_moments, within_ns):
        part = sorted_moments[start:stop]
        rows = read(chosen, int(part[0]) - within_ns, int(part[-1]) + 1)
        found = as_of(rows, ids, part, within_ns)
        for (value, known), (one, is_known) in zip(out, found, strict=True):
            value[order[start:stop]] = one
            known[order[start:stop]] = is_known
    return out
