"""SQL over the history with DuckDB: the pruned files and the memory tables as one view.

Rows that stand in two files (a back-fill, a batch sent twice) are resolved only inside the
stretches of time that files share; everywhere else rows pass through untouched.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from workshop_brain.errors import DamageError, DiskError, StoreError
from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.store.historian.catalog import file_crc
from workshop_brain.store.historian.query import Snapshot

_MOST_STRETCHES = 64
_MEMORY = "512MB"
MOST_ROWS = 5_000_000
MOST_BYTES = 512 << 20
_BATCH = 2048  # one step of DuckDB's: few huge rows are seen before there are many
TIMEOUT_S = 60.0


def answer(
    directory: Path,
    snapshot: Snapshot,
    signals: Sequence[SignalDef],
    texts: Callable[[Sequence[int]], list[str]],
    from_ns: int,
    to_ns: int,
    statement: str,
    params: Sequence[Any],
    *,
    timeout_s: float = TIMEOUT_S,
    most_rows: int = MOST_ROWS,
    most_bytes: int = MOST_BYTES,
) -> pa.Table:
    """Run one SELECT over a snapshot of the history and return its rows.

    It reads the snapshot's files and nothing else, writes nothing (also no spill files), and ends
    with StoreError after ``timeout_s``, above 512 MB of memory, or when the answer has more than
    ``most_rows`` rows or ``most_bytes`` bytes.
    """
    import duckdb

    root = str(directory.resolve())
    _check_files(root, snapshot)
    with duckdb.connect(config=_CONFIG) as connection:
        connection.register("memory_rows", _memory(snapshot))
        connection.register("signals", _registry(signals))
        timer = threading.Timer(timeout_s, connection.interrupt)
        timer.start()
        try:
            connection.execute(_view(root, snapshot, from_ns, to_ns))
            connection.register("text_codes", _codes(connection, signals, texts))
            connection.execute(_SAMPLES)
            files = ", ".join(_quote(f"{root}/{s.file}") for s in snapshot.segments)
            connection.execute(f"SET allowed_paths=[{files}]")
            connection.execute("SET python_enable_replacements=false")  # no variable of ours
            connection.execute("SET enable_external_access=false")
            connection.execute("SET lock_configuration=true")
            return _rows(
                connection, _only_select(connection, statement), params, most_rows, most_bytes
            )
        except duckdb.InterruptException as error:
            raise StoreError(
                f"SQL: no answer within {timeout_s:g} s; ask for a shorter time or fewer signals"
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise StoreError(
                f"SQL: the statement needs more than {_MEMORY}; aggregate or ask for a shorter time"
            ) from error
        except duckdb.IOException as error:
            if "No files found" in str(error) or "No such file" in str(error):
                raise FileNotFoundError(str(error)) from error
            raise DamageError(f"{root}: {error}; restore the file from a backup") from error
        except duckdb.Error as error:
            raise StoreError(f"SQL: {error}") from error
        finally:
            timer.cancel()


_whole: dict[str, tuple[int, int, int]] = {}
"""Files that were found whole: size, time of change and checksum by path."""


def _check_files(root: str, snapshot: Snapshot) -> None:
    """DuckDB reads pages without looking at their checksums: each file is looked at once before."""
    for segment in snapshot.segments:
        path = Path(root) / segment.file
        try:
            state = path.stat()
            mark = (state.st_size, state.st_mtime_ns, segment.file_crc or 0)
            if segment.file_crc is None or _whole.get(str(path)) == mark:
                continue
            if file_crc(path) != segment.file_crc:
                raise DamageError(
                    f"{path}: its checksum is wrong; run 'brain doctor --repair', or restore the "
                    "file from a backup"
                )
        except PermissionError as error:
            raise DiskError(f"{path}: may not be read by this user") from error
        _whole[str(path)] = mark


_CONFIG = {
    "threads": 2,
    "memory_limit": _MEMORY,
    "temp_directory": "",  # nothing spills to disk
}


def _only_select(connection: Any, statement: str) -> Any:
    """The one statement; StoreError unless it is a SELECT: COPY, also explained, could write."""
    import duckdb

    found = connection.extract_statements(statement)
    if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(str(s.type).rsplit(".", 1)[-1] for s in found) or "nothing"
        raise StoreError(f"SQL: one SELECT can be answered, this is {kinds}")
    return found[0]


def _rows(
    connection: Any, statement: Any, params: Sequence[Any], most_rows: int, most_bytes: int
) -> pa.Table:
    """The answer, batch by batch, so that a huge one is refused before it fills the memory."""
    reader = connection.sql(statement, params=list(params) or None).to_arrow_reader(_BATCH)
    batches, rows, size = [], 0, 0
    for batch in reader:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if size > most_bytes:
            raise StoreError(
                f"SQL: the answer is larger than {most_bytes >> 20} MB after {rows} rows; ask for "
                "fewer columns or shorter texts, aggregate, or add LIMIT"
            )
        if rows > most_rows:
            raise StoreError(
                f"SQL: the answer has more than {most_rows} rows; aggregate, or add LIMIT"
            )
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


_SAMPLES = """
CREATE TEMP VIEW samples AS
SELECT s.path, r.signal, r.time_ns, r.value, r.quality, t.text
FROM rows r JOIN signals s ON s.id = r.signal
LEFT JOIN text_codes t ON s.kind = 'text' AND t.code = r.value
"""


def _view(root: str, snapshot: Snapshot, from_ns: int, to_ns: int) -> str:
    files = ", ".join(_quote(f"{root}/{s.file}") for s in snapshot.segments)
    order = " ".join(
        f"WHEN {_quote(f'{root}/{s.file}')} THEN {k}" for k, s in enumerate(snapshot.segments)
    )
    stored = f"""
        SELECT signal, time * tick_ns AS time_ns,
               coalesce(raw, scaled / pow(10, scale)) AS value, quality,
               CASE filename {order} END AS place
        FROM read_parquet([{files}], filename = true, hive_partitioning = false)
        UNION ALL
    """
    shared = _shared(snapshot)
    inside = " OR ".join(f"time_ns BETWEEN {a} AND {b}" for a, b in shared) or "false"
    return f"""
        CREATE TEMP VIEW rows AS
        WITH found AS (
            SELECT * FROM (
                {stored if snapshot.segments else ""}
                SELECT signal, time_ns, value, quality, place FROM memory_rows
            ) WHERE time_ns >= {from_ns} AND time_ns < {to_ns}
        )
        SELECT signal, time_ns, value, quality FROM found WHERE NOT ({inside})
        UNION ALL
        SELECT signal, time_ns, value, quality FROM found WHERE {inside}
        QUALIFY row_number() OVER (PARTITION BY signal, time_ns ORDER BY place DESC) = 1
    """


def _shared(snapshot: Snapshot) -> list[tuple[int, int]]:
    """Stretches of time that more than one file or table has rows in."""
    spans = [(s.min_time, s.max_time) for s in snapshot.segments]
    spans += [(int(t.time_ns.min()), int(t.time_ns.max())) for t in snapshot.tables if len(t)]
    spans.sort()
    shared: list[tuple[int, int]] = []
    reach = spans[0][1] if spans else 0
    for start, end in spans[1:]:
        if start <= reach:
            shared.append((start, min(end, reach)))
        reach = max(reach, end)
    if snapshot.tables:  # the log order of one table's own rows decides, wherever they are
        shared += [(int(t.time_ns.min()), int(t.time_ns.max())) for t in snapshot.tables if len(t)]
    shared.sort()
    merged: list[tuple[int, int]] = []
    for start, end in shared:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    while len(merged) > _MOST_STRETCHES:
        gaps = [b[0] - a[1] for a, b in pairwise(merged)]
        at = int(np.argmin(gaps))
        merged[at : at + 2] = [(merged[at][0], merged[at + 1][1])]
    return merged


def _memory(snapshot: Snapshot) -> pa.Table:
    """Rows of the memory tables; ``place`` puts them behind all files, in the order of the log."""
    n = sum(len(t) for t in snapshot.tables)
    names = ("signal", "time_ns", "value", "quality")
    kinds = (np.uint32, np.int64, np.float64, np.uint8)
    columns: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(getattr(t, name) for t in snapshot.tables)])
        for name, kind in zip(names, kinds, strict=True)
    }
    return pa.table(columns | {"place": np.arange(n, dtype=np.int64) + len(snapshot.segments)})


def _registry(signals: Sequence[SignalDef]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(len(signals)), pa.uint32()),
            "path": pa.array([s.path for s in signals], pa.string()),
            "kind": pa.array([s.kind.name.lower() for s in signals], pa.string()),
            "unit": pa.array([s.unit for s in signals], pa.string()),
            "low": pa.array([s.low for s in signals], pa.float64()),
            "high": pa.array([s.high for s in signals], pa.float64()),
        }
    )


def _codes(
    connection: Any, signals: Sequence[SignalDef], texts: Callable[[Sequence[int]], list[str]]
) -> pa.Table:
    """Codes and words of the texts that occur."""
    codes: list[int] = []
    if any(s.kind is SignalKind.TEXT for s in signals):
        found = connection.execute(
            "SELECT DISTINCT value FROM rows JOIN signals ON id = signal WHERE kind = 'text'"
        ).fetchall()
        codes = sorted(int(v) for (v,) in found if v is not None and v >= 0 and v < 2**53)
    return pa.table(
        {
            "code": pa.array([float(c) for c in codes], pa.float64()),
            "text": pa.array(texts(codes), pa.string()),
        }
    )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
