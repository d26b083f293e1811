"""Kernels of sealing: sort by (signal, time), drop duplicates, find each run's scales.

A run is a stretch of one signal's rows inside one row group. Loading this module loads numba.
"""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]

MAX_DECIMALS = 9
POW10 = np.array([10.0**k for k in range(MAX_DECIMALS + 1)])
TICKS = np.array([1_000_000_000, 1_000_000, 1_000, 100, 1], np.int64)
RAW = 1
QUALITY = 2


@kernel
def order_rows(signal: U32, time_ns: I64, n_signals: int) -> I64:
    """Stable order of rows by (signal, time): counting sort, then each run where it must.

    signal : uint32[n], all below ``n_signals``; time_ns : int64[n]. Returns int64[n].
    """
    n = len(signal)
    ends = np.zeros(n_signals + 1, np.int64)
    for i in range(n):
        ends[signal[i] + 1] += 1
    for k in range(n_signals):
        ends[k + 1] += ends[k]
    at = ends[:-1].copy()
    order = np.empty(n, np.int64)
    for i in range(n):
        k = signal[i]
        order[at[k]] = i
        at[k] += 1
    for k in range(n_signals):
        start, end = ends[k], ends[k + 1]
        for j in range(start + 1, end):
            if time_ns[order[j]] < time_ns[order[j - 1]]:
                run = order[start:end].copy()
                order[start:end] = run[np.argsort(time_ns[run], kind="mergesort")]
                break
    return order


@kernel
def merge_rows(
    order: I64,
    signal: U32,
    time_ns: I64,
    bits: I64,
    quality: U8,
    out_signal: U32,
    out_time: I64,
    out_bits: I64,
    out_quality: U8,
) -> tuple[int, int, int]:
    """Sorted columns with one row per (signal, time): of equal ones the last in the log wins.

    bits : int64[n], the bytes of the float64 values; out_... : at least n long. Returns the number
    of rows kept, of duplicates removed, and of those whose value differed from its successor.
    """
    m = duplicates = conflicts = 0
    for j in range(len(order)):
        i = order[j]
        s, t = signal[i], time_ns[i]
        if m > 0 and out_time[m - 1] == t and out_signal[m - 1] == s:
            duplicates += 1
            if out_bits[m - 1] != bits[i]:
                conflicts += 1
            m -= 1
        out_signal[m], out_time[m] = s, t
        out_bits[m], out_quality[m] = bits[i], quality[i]
        m += 1
    return m, duplicates, conflicts


@kernel
def run_starts(signal: U32, group_rows: int) -> I64:
    """Rows at which a run starts: the signal changes or a row group of ``group_rows`` begins."""
    n = len(signal)
    out = np.empty(n, np.int64)
    m = 0
    for i in range(n):
        if i % group_rows == 0 or signal[i] != signal[i - 1]:
            out[m] = i
            m += 1
    return out[:m].copy()


@kernel
def scale_times(
    starts: I64, time_ns: I64, ticks: I64, out_tick: NDArray[np.int32], out_time: I64
) -> NDArray[np.int32]:
    """Per run the largest tick that divides all its times; row by row that tick and the time in it.

    ticks : int64[k], falling, the last one 1; out_... : at least n long.
    """
    n, m = len(time_ns), len(starts)
    tick = np.empty(m, np.int32)
    for r in range(m):
        start = starts[r]
        end = starts[r + 1] if r + 1 < m else n
        k, since = 0, start
        for i in range(start, end):
            t = time_ns[i]
            scaled = t // ticks[k]
            while scaled * ticks[k] != t:
                k, since = k + 1, i
                scaled = t // ticks[k]
            out_time[i] = scaled
        for i in range(start, since):
            out_time[i] = time_ns[i] // ticks[k]
        tick[r] = ticks[k]
        out_tick[start:end] = tick[r]
    return tick


@kernel
def scale_values(
    starts: I64,
    value: F64,
    bits: I64,
    quality: U8,
    pow10: F64,
    out_decimals: NDArray[np.int8],
    out_scaled: I64,
    out_is_raw: NDArray[np.bool_],
) -> tuple[NDArray[np.int8], U8]:
    """Per run the fewest decimals with which value == integer / 10**decimals, bit for bit.

    Returns decimals int8[runs] (-1: kept as floats) and flags uint8[runs] (RAW: some row is kept as
    a float; QUALITY: some row is not good); row by row the decimals, the integer and whether the
    row is kept as a float go into ``out_...``, at least n long. Rows that are not finite are kept
    as floats inside a run of integers. Integers stay below 2**51, so that a value that fits with
    fewer decimals fits with more ones too.
    """
    n, m = len(value), len(starts)
    decimals, flags = np.empty(m, np.int8), np.zeros(m, np.uint8)
    for r in range(m):
        start = starts[r]
        end = starts[r + 1] if r + 1 < m else n
        k = 0
        largest = 0.0
        for i in range(start, end):
            if quality[i] != 0:
                flags[r] |= 2
            v = value[i]
            if not np.isfinite(v):
                flags[r] |= 1
                continue
            largest = max(largest, abs(v))
            while k < len(pow10):
                x = np.rint(v * pow10[k])
                if x / pow10[k] == v and abs(x) < 2251799813685248.0:
                    break
                k += 1
            if k == len(pow10) or (v == 0.0 and bits[i] != 0):
                k = len(pow10)
                break
        if k == len(pow10) or largest * pow10[k] >= 2251799813685248.0:
            decimals[r] = -1
            flags[r] |= 1
            for i in range(start, end):
                out_decimals[i], out_scaled[i], out_is_raw[i] = -1, 0, True
                if quality[i] != 0:
                    flags[r] |= 2
            continue
        decimals[r] = k
        for i in range(start, end):
            finite = np.isfinite(value[i])
            out_decimals[i], out_is_raw[i] = k, not finite
            out_scaled[i] = np.int64(np.rint(value[i] * pow10[k])) if finite else 0
    return decimals, flags


def warm_up() -> None:
    """Compile (or load from the cache) every kernel of this module by calling it once."""
    signal, time_ns = np.zeros(2, np.uint32), np.arange(2)
    value, quality = np.zeros(2), np.zeros(2, np.uint8)
    bits = value.view(np.int64)
    order = order_rows(signal, time_ns, 1)
    out = np.zeros(2, np.int64)
    merge_rows(
        order, signal, time_ns, bits, quality,
        np.zeros(2, np.uint32), np.zeros(2, np.int64), out, np.zeros(2, np.uint8),
    )  # fmt: skip
    starts = run_starts(signal, 2)
    scale_times(starts, time_ns, TICKS, np.zeros(2, np.int32), out)
    decimals, is_raw = np.zeros(2, np.int8), np.zeros(2, np.bool_)
    scale_values(starts, value, bits, quality, POW10, decimals, out, is_raw)
