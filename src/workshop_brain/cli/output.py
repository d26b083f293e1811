"""Tables as files or on standard output: CSV, JSON, Parquet, Arrow; large ones piece by piece."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from workshop_brain.cli.show import print_json
from workshop_brain.errors import ConfigError, StoreError
from workshop_brain.units import NS_PER_S

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from workshop_brain.store.historian import Historian


_QUARTER_S = 900


class Format(StrEnum):
    """Output formats of history."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"


DataOption = Annotated[Path, typer.Option(help="Data directory.")]
FormatOption = Annotated[Format, typer.Option("--format")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="File, else stdout.")]


@contextmanager
def opened(data: Path, output: Path | None) -> "Iterator[Historian]":
    """The history of a data directory for reading; what is wrong is said before any work."""
    from workshop_brain.store.historian import Historian
    from workshop_brain.store.lock import is_own

    if output is not None:
        if is_own(data, output):
            raise ConfigError(f"--output {output}: lies among the brain's own files; name another")
        _must_be_writable(output)
    if not (data / "historian").exists():
        raise StoreError(f"--data {data}: no history here; is it the right directory?")
    historian = Historian(data / "historian", read_only=True)
    try:
        yield historian
    finally:
        historian.close()


def _must_be_writable(output: Path) -> None:
    """ConfigError before any work is done for a file that cannot be written."""
    if output.is_dir():
        raise ConfigError(f"--output {output}: is a directory; name a file in it")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no directory {output.parent}; make it")
    if not os.access(output if output.exists() else output.parent, os.W_OK):
        raise ConfigError(f"--output {output}: may not be written by this user; name another file")


def write_tables(
    schema: "pa.Schema",
    tables: "Iterable[pa.Table]",
    format_: Format,
    output: Path | None,
    zone: str,
) -> int:
    """Write tables of one schema behind each other and return the number of rows.

    CSV has the instants twice: ``time`` in plant time before ``time_ns``.
    """
    if format_ is Format.CSV and "time_ns" in schema.names:
        tables = (with_time(table, zone) for table in tables)
        schema = with_time(schema.empty_table(), zone).schema
    try:
        if format_ is Format.JSON:
            return _write_json([row for table in tables for row in table.to_pylist()], output)
        return _write_binary(schema, tables, format_, output)
    except OSError as error:  # without an output file it is the other side of a pipe
        raise ConfigError(f"--output {output or 'stdout'}: cannot be written: {error}") from error


def _write_json(rows: list[dict[str, Any]], output: Path | None) -> int:
    import orjson

    if output is None:
        print_json(rows)
    else:
        output.write_bytes(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY, default=str))
    return len(rows)


def _write_binary(
    schema: "pa.Schema", tables: "Iterable[pa.Table]", format_: Format, output: Path | None
) -> int:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    openers: dict[Format, Callable[[Any], AbstractContextManager[Any]]] = {
        Format.CSV: lambda sink: pa_csv.CSVWriter(sink, schema),
        Format.PARQUET: lambda sink: pq.ParquetWriter(sink, schema, compression="zstd"),
        Format.ARROW: lambda sink: pa.ipc.new_stream(sink, schema),
    }
    sink: Any = str(output) if output is not None else sys.stdout.buffer
    rows = 0
    try:
        with openers[format_](sink) as writer:
            for table in tables:
                writer.write_table(table)
                rows += table.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"--format {format_}: cannot hold this table ({error}); choose another"
        ) from error
    return rows


def with_time(table: "pa.Table", zone: str) -> "pa.Table":
    """The table with ``time`` before ``time_ns``: ISO 8601 in plant time with its offset."""
    at = table.column_names.index("time_ns")
    times = table.column("time_ns").to_numpy()
    return table.add_column(at, "time", _iso(times, ZoneInfo(zone)))


def _iso(time_ns: "NDArray[np.int64]", place: ZoneInfo) -> "pa.StringArray":
    """To the millisecond: what a spreadsheet reads.

    >>> import numpy as np
    >>> _iso(np.array([1_500_000_000]), ZoneInfo("Asia/Shanghai")).to_pylist()
    ['1970-01-01T08:00:01.500+08:00']
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # clocks are changed on a quarter of an hour: each is looked up once
    quarters, which = np.unique(time_ns // (_QUARTER_S * NS_PER_S), return_inverse=True)
    there = [datetime.fromtimestamp(q * _QUARTER_S, place) for q in quarters.tolist()]
    shifts = [t.utcoffset() or timedelta() for t in there]
    shift_ms = np.array([s // timedelta(milliseconds=1) for s in shifts], np.int64)
    offsets = pa.array([t.isoformat(timespec="seconds")[19:] for t in there], pa.string())
    local = pa.array(time_ns // 1_000_000 + shift_ms[which]).cast(pa.timestamp("ms"))
    texts = pc.replace_substring(local.cast(pa.string()), " ", "T")
    return pc.binary_join_element_wise(texts, offsets.take(pa.array(which)), "")
