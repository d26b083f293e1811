"""Evaluation of a PromQL tree over whole arrays of steps.

Semantics are those of Prometheus 3: windows and the look-back are open on the left; ``rate`` and
``increase`` extrapolate as documented there. A BAD or NaN row is a stale marker: it ends a series
for instants and is left out of ranges.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workshop_brain.units import NS_PER_MIN, NS_PER_S
from workshop_brain.web.prom.labels import NAME
from workshop_brain.web.prom.promql import (
    COMPARISONS,
    Aggregate,
    Binary,
    Call,
    Matcher,
    Negative,
    Node,
    Number,
    PromError,
    Selector,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
LOOKBACK_NS = 5 * NS_PER_MIN
Rows = tuple[dict[str, str], I64, F64, Bools]
Read = Callable[[Sequence[Matcher], int, int], Iterable[Rows]]
"""``(conditions, from_ns, to_ns)`` gives ``(labels, time_ns, value, good)`` of every series."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Instants at which a query is evaluated, rising; ``lookback_ns`` how old a value may be."""

    time_ns: I64
    lookback_ns: int = LOOKBACK_NS

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: ``value[n_steps]``, and at which steps there is one."""

    labels: dict[str, str]
    value: F64
    present: Bools


Value = F64 | list[Series]


def evaluate(node: Node, steps: Steps, read: Read) -> Value:
    """A number per step, or series. PromError when the types do not fit."""
    if isinstance(node, Number):
        return np.full(len(steps), node.value)
    if isinstance(node, Selector):
        if node.range_ns:
            raise PromError("a range vector x[..] can only be the argument of a function")
        return _instant(node, steps, read)
    if isinstance(node, Negative):
        found = evaluate(node.argument, steps, read)
        return _map(found, np.negative) if isinstance(found, list) else -found
    if isinstance(node, Call):
        return _call(node, steps, read)
    if isinstance(node, Aggregate):
        return _aggregate(node, evaluate(node.argument, steps, read))
    return _binary(node, evaluate(node.left, steps, read), evaluate(node.right, steps, read))


def _instant(node: Selector, steps: Steps, read: Read) -> list[Series]:
    at = steps.time_ns - node.offset_ns
    out = []
    for labels, time, value, good in read(
        node.matchers, int(at[0]) - steps.lookback_ns + 1, int(at[-1]) + 1
    ):
        row = np.searchsorted(time, at, side="right") - 1
        safe = np.maximum(row, 0)
        if not len(time):
            continue
        present = (row >= 0) & (at - time[safe] < steps.lookback_ns) & good[safe]
        if present.any():
            out.append(Series(labels, value[safe], present))
    return out


def _call(node: Call, steps: Steps, read: Read) -> Value:
    if node.argument is None:
        return steps.time_ns / NS_PER_S
    if isinstance(node.argument, Selector) and node.argument.range_ns:
        return _over_range(node.name, node.argument, steps, read)
    found = evaluate(node.argument, steps, read)
    if node.name == "vector":
        if isinstance(found, list):
            raise PromError("function 'vector' takes a number")
        return [Series({}, found, np.ones(len(steps), bool))]
    if not isinstance(found, list):
        raise PromError(f"function {node.name!r} takes a vector, not a number")
    return _map(found, _POINTS[node.name])


def _round(value: F64) -> F64:
    return np.floor(value + 0.5)  # half up, as Prometheus does


_POINTS: dict[str, Callable[[F64], F64]] = {
    "abs": np.abs, "ceil": np.ceil, "floor": np.floor, "round": _round,
}  # fmt: skip


def _map(found: list[Series], function: Callable[[F64], F64]) -> list[Series]:
    return [Series(_nameless(s.labels), function(s.value), s.present) for s in found]


def _nameless(labels: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k != NAME}


def _over_range(name: str, node: Selector, steps: Steps, read: Read) -> list[Series]:
    end = steps.time_ns - node.offset_ns
    start = end - node.range_ns
    out = []
    for labels, time, value, good in read(node.matchers, int(start[0]) + 1, int(end[-1]) + 1):
        if not good.all():
            time, value = time[good], value[good]
        low = np.searchsorted(time, start, side="right")
        high = np.searchsorted(time, end, side="right")
        if name in _RATES:
            result, present = _extrapolated(name, time, value, low, high, start, end)
        else:
            result, present = _window(name, value, low, high), high > low
        if present.any():
            kept = labels if name == "last_over_time" else _nameless(labels)
            out.append(Series(kept, result, present))
    return out


def _window(name: str, value: F64, low: I64, high: I64) -> F64:
    """One figure of ``value[low:high]`` for each pair; any number where a window is empty."""
    count = (high - low).astype(np.float64)
    if name == "count_over_time":
        return count
    padded = np.append(value, 0.0)
    if name == "last_over_time":
        return padded[high - 1]
    pairs = np.ravel(np.column_stack([low, high]))
    if name == "min_over_time":
        return np.minimum.reduceat(padded, pairs)[::2]
    if name == "max_over_time":
        return np.maximum.reduceat(padded, pairs)[::2]
    total = np.add.reduceat(padded, pairs)[::2]
    return total / np.maximum(count, 1) if name == "avg_over_time" else total


_RATES = ("rate", "increase", "delta")


def _extrapolated(
    name: str, time: I64, value: F64, low: I64, high: I64, start: I64, end: I64
) -> tuple[F64, Bools]:
    """Rate, increase or delta as Prometheus computes it: resets added, ends extrapolated."""
    count = high - low
    present = count >= 2
    if not len(time):
        return np.zeros(len(low)), present
    a, b = np.minimum(low, len(time) - 1), np.maximum(high - 1, 0)
    gained = value[b] - value[a]
    is_counter = name != "delta"
    if is_counter:
        before = np.append(value[:1], value[:-1])
        lost = np.append(np.where(value < before, before, 0.0), 0.0)
        first = np.minimum(low + 1, len(time))
        pairs = np.ravel(np.column_stack([first, np.maximum(high, first)]))
        fallen = np.add.reduceat(lost, pairs)[::2]
        gained = gained + np.where(high > first, fallen, 0.0)
    sampled = np.maximum((time[b] - time[a]) / NS_PER_S, 1e-9)
    to_start, to_end = (time[a] - start) / NS_PER_S, (end - time[b]) / NS_PER_S
    between = sampled / np.maximum(count - 1, 1)
    to_start = np.where(to_start >= 1.1 * between, between / 2, to_start)
    to_end = np.where(to_end >= 1.1 * between, between / 2, to_end)
    if is_counter:
        with np.errstate(divide="ignore", invalid="ignore"):
            to_zero = sampled * (value[a] / gained)
        nearer = (gained > 0) & (value[a] >= 0) & (to_zero < to_start)
        to_start = np.where(nearer, to_zero, to_start)
    result = gained * (sampled + to_start + to_end) / sampled
    if name == "rate":
        result = result / ((end - start) / NS_PER_S)
    return result, present


def _aggregate(node: Aggregate, found: Value) -> list[Series]:
    if not isinstance(found, list):
        raise PromError(f"aggregation {node.name!r} takes a vector, not a number")
    groups: dict[tuple[tuple[str, str], ...], list[Series]] = {}
    for series in found:
        kept = {
            k: v
            for k, v in series.labels.items()
            if ((k in node.labels) if node.by else (k not in node.labels and k != NAME))
        }
        groups.setdefault(tuple(sorted(kept.items())), []).append(series)
    return [_combine(node.name, dict(key), members) for key, members in groups.items()]


def _combine(name: str, labels: dict[str, str], members: list[Series]) -> Series:
    present = np.array([s.present for s in members])
    value = np.array([s.value for s in members])
    count = present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if name == "count":
            result = count.astype(np.float64)
        elif name in ("sum", "avg"):
            result = np.where(present, value, 0.0).sum(axis=0)
            if name == "avg":
                result = result / np.maximum(count, 1)
        else:
            # NaN is only the answer when nothing else is there
            edge = np.fmin if name == "min" else np.fmax
            result = edge.reduce(np.where(present, value, np.nan), axis=0)
    return Series(labels, result, count > 0)


def _arithmetic(op: str, a: F64, b: F64) -> F64:
    with np.errstate(all="ignore"):
        if op == "+":
            return a + b
        if op == "-":
            return a - b
        if op == "*":
            return a * b
        if op == "/":
            return a / b
        return np.fmod(a, b) if op == "%" else np.power(a, b)


_COMPARE: dict[str, Callable[[F64, F64], Bools]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater,
    ">=": np.greater_equal,
}  # fmt: skip


def _binary(node: Binary, left: Value, right: Value) -> Value:
    is_comparison = node.op in COMPARISONS
    if isinstance(left, list) and isinstance(right, list):
        raise PromError(
            f"{node.op!r} between two vectors is not answered; compute with numbers, or aggregate "
            "in the panel"
        )
    if isinstance(left, list):
        assert not isinstance(right, list)
        number = right
        return _with_number(node, left, lambda value: (value, number))
    if isinstance(right, list):
        other = left
        return _with_number(node, right, lambda value: (other, value))
    if not is_comparison:
        return _arithmetic(node.op, left, right)
    if not node.as_bool:
        raise PromError(f"{node.op!r} between two numbers needs bool: 1 {node.op} bool 2")
    return _COMPARE[node.op](left, right).astype(np.float64)


def _with_number(
    node: Binary, series: list[Series], sides: Callable[[F64], tuple[F64, F64]]
) -> list[Series]:
    """Every series with a number; a comparison without ``bool`` filters."""
    out = []
    for s in series:
        a, b = sides(s.value)
        if node.op not in COMPARISONS:
            out.append(Series(_nameless(s.labels), _arithmetic(node.op, a, b), s.present))
        elif node.as_bool:
            truth = _COMPARE[node.op](a, b).astype(np.float64)
            out.append(Series(_nameless(s.labels), truth, s.present))
        else:
            kept = s.present & _COMPARE[node.op](a, b)
            if kept.any():
                out.append(Series(s.labels, s.value, kept))
    return out
