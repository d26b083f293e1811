"""Many curves, page by page, and as tables."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workshop_brain.model.curve import Curve, Features
from workshop_brain.store.historian.catalog import CurveWish

_PAGE_VALUES = 1_000_000
_MOST_PAGE = 64
_KEY = [
    ("serial", pa.string()),
    ("station", pa.string()),
    ("program", pa.string()),
    ("step", pa.int32()),
    ("time_ns", pa.int64()),
]
MAP_SCHEMA = pa.schema([*_KEY, ("channels", pa.map_(pa.string(), pa.list_(pa.float32())))])
LONG_SCHEMA = pa.schema(
    [*_KEY, ("channel", pa.string()), ("row", pa.int64()), ("value", pa.float32())]
)
FEATURES = ("first", "last", "min", "max", "mean", "rms", "max_at", "area_over_angle")
FEATURE_SCHEMA = pa.schema(
    [*_KEY, ("channel", pa.string()), *((name, pa.float64()) for name in FEATURES)]
)


class Reader(Protocol):
    """The part of the historian that is needed."""

    def curves(
        self,
        *,
        serial: str | None = None,
        station: str | None = None,
        program: str | None = None,
        from_ns: int | None = None,
        to_ns: int | None = None,
        before: tuple[int, str, str, int] | None = None,
        limit: int = 100,
    ) -> list[Curve]:
        """Newest curves first."""
        ...


def curve_pages(historian: Reader, wish: CurveWish, limit: int) -> Iterator[list[Curve]]:
    """The newest curves that are wished for, in pages of about a million values."""
    before, size = wish.before, 4
    while limit > 0:
        page = historian.curves(
            serial=wish.serial, station=wish.station, program=wish.program, from_ns=wish.from_ns,
            to_ns=wish.to_ns, before=before, limit=min(size, limit),
        )  # fmt: skip
        if page:
            yield page
        if len(page) < min(size, limit):
            return
        limit -= len(page)
        before = (page[-1].time_ns, page[-1].serial, page[-1].station, page[-1].step)
        values = sum(len(v) for c in page for v in c.channels.values())
        size = int(np.clip(_PAGE_VALUES * len(page) // max(values, 1), 1, _MOST_PAGE))


def _keys(curves: Sequence[Curve]) -> list[pa.Array]:
    return [pa.array([getattr(c, name) for c in curves], kind) for name, kind in _KEY]


def map_table(curves: Sequence[Curve]) -> pa.Table:
    """A row for each curve; its channels as a map of lists."""
    names = [name for c in curves for name in c.channels]
    arrays = [np.asarray(v, np.float32) for c in curves for v in c.channels.values()]
    lists = pa.ListArray.from_arrays(
        pa.array(np.cumsum([0, *map(len, arrays)]), pa.int32()),
        pa.array(np.concatenate([np.empty(0, np.float32), *arrays])),
    )
    offsets = pa.array(np.cumsum([0, *(len(c.channels) for c in curves)]), pa.int32())
    maps = pa.MapArray.from_arrays(offsets, pa.array(names, pa.string()), lists)
    return pa.table([*_keys(curves), maps.cast(MAP_SCHEMA.field("channels").type)], MAP_SCHEMA)


def long_table(curves: Sequence[Curve]) -> pa.Table:
    """A row for each value."""
    parts = [LONG_SCHEMA.empty_table()]
    for curve in curves:
        for name, values in curve.channels.items():
            n = len(values)
            row = pa.array(np.zeros(n, np.int64))
            head = [column.take(row) for column in _keys([curve])]
            rest = [pa.array([name]).take(row), pa.array(np.arange(n)), pa.array(values)]
            parts.append(pa.table([*head, *rest], LONG_SCHEMA))
    return pa.concat_tables(parts)


def wide_table(curves: Sequence[Curve]) -> pa.Table:
    """A row for each row of a curve, a column for each channel of any of them."""
    lengths = np.array([max(map(len, c.channels.values()), default=0) for c in curves], np.int64)
    which = np.repeat(np.arange(len(curves)), lengths)
    row = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    columns: dict[str, Any] = {
        name: column.take(pa.array(which))
        for (name, _), column in zip(_KEY, _keys(curves), strict=True)
    }
    columns["row"] = pa.array(row)
    for name in dict.fromkeys(name for c in curves for name in c.channels):
        parts = [
            pa.array(c.channels[name], pa.float32())
            if name in c.channels
            else pa.nulls(int(n), pa.float32())
            for c, n in zip(curves, lengths, strict=True)
        ]
        columns[name] = pa.chunked_array(parts, pa.float32())
    return pa.table(columns)


def feature_table(curves: Sequence[tuple[Curve, Features]]) -> pa.Table:
    """A row for each curve and channel."""
    rows = [(c, name, found[name]) for c, found in curves for name in found]
    columns = [pa.array([f.get(n) for _, _, f in rows], pa.float64()) for n in FEATURES]
    names = pa.array([name for _, name, _ in rows], pa.string())
    return pa.table([*_keys([c for c, *_ in rows]), names, *columns], FEATURE_SCHEMA)


def curve_table(curve: Curve) -> pa.Table:
    """A column for each channel; what the curve is of stands in the metadata."""
    about = {name: str(getattr(curve, name)) for name, _ in _KEY}
    columns = {name: pa.array(values) for name, values in curve.channels.items()}
    return pa.table(columns).replace_schema_metadata(about)


def overlay_table(
    curves: Sequence[Curve], grid: NDArray[np.float64], values: NDArray[np.float64]
) -> pa.Table:
    """The grid and a column for each curve, null outside of it."""
    columns: dict[str, Any] = {"grid": pa.array(grid)}
    for c, row in zip(curves, values, strict=True):
        name = f"{c.serial} {c.station} {c.step} {c.time_ns}"
        columns[name] = pa.array(row, mask=np.isnan(row))
    return pa.table(columns)
