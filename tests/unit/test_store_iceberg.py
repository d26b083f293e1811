"""Iceberg tables over the store's own files, read back by pyiceberg."""

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian
from workshop_brain.store.iceberg import VIEW_SQL, publish

pytest.importorskip("pyiceberg", reason="needs the extra iceberg")
S = 1_000_000_000
NOW = 1_790_000_000 * S
GAUGE, TEXT = "e/s/a/l/c/u/torque", "e/s/a/l/c/u/serial"


def rows(id: int, seconds: Any, values: Any) -> Samples:
    n = len(seconds)
    return Samples(
        np.full(n, id, np.uint32), NOW + np.asarray(seconds, np.int64) * S,
        np.asarray(values, float), np.zeros(n, np.uint8),
    )  # fmt: skip


def tables(to: Path, *names: str) -> list[Any]:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("brain", uri=f"sqlite:///{to}/catalog.sqlite", warehouse=f"file://{to}")
    found = [catalog.load_table(f"plant.{name}").scan().to_arrow() for name in names]
    catalog.close()
    return found


def stored(to: Path) -> list[tuple[Any, ...]]:
    """Rows as a reader gets them from the tables over the store's files."""
    with duckdb.connect() as connection:
        for name, table in zip(
            names := ("stored", "signals", "texts"), tables(to, *names), strict=True
        ):
            connection.register(name, table)
        found: list[tuple[Any, ...]] = connection.sql(f"{VIEW_SQL} ORDER BY 1, 2").fetchall()
    return found


def history_rows(history: Historian) -> list[tuple[Any, ...]]:
    table = history.query([TEXT, GAUGE], NOW - S, NOW + 10**6 * S)
    order = ("path", "time_ns", "value", "quality", "text")
    return list(zip(*(table.column(name).to_pylist() for name in order), strict=True))


def test_readers_see_every_row_once_while_the_store_goes_on(tmp_path: Path) -> None:
    to = tmp_path / "warehouse"
    with Historian(tmp_path / "historian") as history:
        kinds = {GAUGE: SignalKind.GAUGE, TEXT: SignalKind.TEXT}
        history.declare([SignalDef(path=p, kind=k) for p, k in kinds.items()])
        codes = history.intern(["SN1", "SN2"])
        history.append(rows(0, range(500), np.arange(500) / 10), source="s", session=1, seq=1)
        history.append(rows(1, [0, 400], codes), source="s", session=1, seq=2)
        history.seal()
        first = publish(tmp_path / "historian", to)
        assert (first.rows, first.merged, first.copied) == (502, 0, 0)
        (file,) = (to / "data" / "stored").rglob("*.parquet")
        assert os.stat(file).st_nlink == 2, "the store's own file, not a copy"
        assert stored(to) == history_rows(history)

        # the same stretch again with other values, and a day later
        history.append(
            rows(0, range(250, 750), np.pi * np.arange(500)), source="s", session=1, seq=3
        )
        history.seal()
        history.append(rows(0, [86_400], [1.5]), source="s", session=1, seq=4)
        history.seal()
        second = publish(tmp_path / "historian", to, copy=True)
        assert (second.rows, second.merged, second.copy_rows) == (753, 1, 753)
        expected = history_rows(history)
        assert stored(to) == expected

        # what the store has merged since stays readable, and goes when its snapshot does
        history.compact()
        assert stored(to) == expected
        third = publish(tmp_path / "historian", to, keep_h=0)
        assert third.merged == 0
        assert stored(to) == expected
        assert len(list((to / "data" / "stored").rglob("*.parquet"))) == third.files
    (copy,) = tables(to, "samples")
    assert copy.num_rows == 753
    assert set(copy.column("path").to_pylist()) == {GAUGE, TEXT}
    values = {(r["path"], r["time_ns"]): r["value"] for r in copy.to_pylist()}
    assert values[GAUGE, NOW + 300 * S] == np.pi * 50
    assert values[TEXT, NOW] is None


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    with Historian(tmp_path / "data" / "historian") as history:
        history.declare([SignalDef(path=GAUGE, kind=SignalKind.GAUGE)])
        history.append(rows(0, range(10), range(10)), source="s", session=1, seq=1)
        history.seal()
    for added in (1, 0):
        run = CliRunner().invoke(app, ["publish", "iceberg", "--data", str(tmp_path / "data")])
        done = json.loads(run.stdout)
        assert (done["rows"], done["added"], done["removed"]) == (10, added, 0)
