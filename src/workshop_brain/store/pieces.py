"""What is read out of the history: raw rows of any length piece by piece, answers of SQL."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workshop_brain.store.historian.query import RAW_SCHEMA
from workshop_brain.units import NS_PER_MIN

PIECE_ROWS = 200_000
_READ_ROWS = 500_000
_SHORT_NS = 10 * NS_PER_MIN
_BUCKETS = 2_000
_MOST_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class _Part:
    """Signals ``first..last`` of a request, exclusive, and the time that is read of them."""

    first: int
    last: int
    from_ns: int
    to_ns: int


class Reader(Protocol):
    """The part of the historian that is needed."""

    def query(
        self, signals: Sequence[str], from_ns: int, to_ns: int, *, points: int | None = None
    ) -> Any:
        """Raw rows, or with points aggregates per bucket."""
        ...


def raw_pieces(
    historian: Reader, paths: Sequence[str], from_ns: int, to_ns: int
) -> Iterator[pa.Table]:
    """The table of ``query`` without points, in pieces of at most 200,000 rows, signal by signal.

    Every piece is read when it is asked for: rows that arrive meanwhile may be in or not.
    """
    names = pa.array(list(paths), pa.string())
    at, size = 0, 8
    while at < len(paths):
        part = _Part(at, min(at + size, len(paths)), from_ns, to_ns)
        rows = 0
        for one in _planned(historian, paths, part):
            table = historian.query(paths[one.first : one.last], one.from_ns, one.to_ns)
            rows += table.num_rows
            yield from _pieces(table, names, one.first)
        at = part.last
        size = min(max(_READ_ROWS * size // max(rows, 1), 1), _MOST_TOGETHER)


def _pieces(table: pa.Table, names: pa.Array, first: int) -> Iterator[pa.Table]:
    """A table in pieces that all have the same dictionary of paths."""
    slots = table.column("path").combine_chunks().indices.to_numpy() + np.int32(first)
    paths = pa.DictionaryArray.from_arrays(pa.array(slots, pa.int32()), names)
    whole = table.set_column(0, RAW_SCHEMA.field("path"), paths)
    for at in range(0, whole.num_rows, PIECE_ROWS):
        yield whole.slice(at, PIECE_ROWS)


def _planned(historian: Reader, paths: Sequence[str], part: _Part) -> Iterator[_Part]:
    """What is read at once, so that it has about half a million rows, as the rollups count them:
    several signals, or a part of the time of one."""
    if part.to_ns - part.from_ns <= _SHORT_NS:
        yield part
        return
    found = historian.query(
        paths[part.first : part.last], part.from_ns, part.to_ns, points=_BUCKETS
    )
    slot = found.column("path").combine_chunks().indices.to_numpy()
    count, time_ns = found.column("count").to_numpy(), found.column("time_ns").to_numpy()
    rows = np.bincount(slot, weights=count, minlength=part.last - part.first).astype(np.int64)
    first, sum_ = part.first, 0
    for k, n in enumerate(rows.tolist(), start=part.first):
        if sum_ + n > _READ_ROWS and k > first:
            yield _Part(first, k, part.from_ns, part.to_ns)
            first, sum_ = k, 0
        sum_ += n
        if n > _READ_ROWS:
            is_own = slot == k - part.first
            for start, stop in _spans(count[is_own], time_ns[is_own], part.from_ns, part.to_ns):
                yield _Part(k, k + 1, start, stop)
            first, sum_ = k + 1, 0
    if first < part.last:
        yield _Part(first, part.last, part.from_ns, part.to_ns)


def _spans(
    count: NDArray[np.int64], time_ns: NDArray[np.int64], from_ns: int, to_ns: int
) -> Iterator[tuple[int, int]]:
    """The whole time in parts with about as many rows each."""
    piece = (np.cumsum(count) - 1) // _READ_ROWS
    edges = time_ns[1:][piece[1:] > piece[:-1]].tolist()
    yield from pairwise([from_ns, *(t for t in edges if from_ns < t < to_ns), to_ns])


def with_own_names(table: pa.Table) -> pa.Table:
    """An answer whose column names may repeat, as they may in SQL, with names that do not."""
    names: list[str] = []
    for name in table.column_names:
        n, free = 1, name
        while free in names:
            n, free = n + 1, f"{name}_{n}"
        names.append(free)
    return table.rename_columns(names)
