"""A watched folder, through collector and ingest: each content once, no file stops others."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from workshop_brain.app.ingest import Ingest
from workshop_brain.cli import app as cli
from workshop_brain.connect import collector, rejected
from workshop_brain.connect.choice import Override
from workshop_brain.connect.files.settings import FilesSettings
from workshop_brain.model.signal import Quality, Samples
from workshop_brain.store.historian import Historian

START = int(datetime(2026, 3, 1, 0, 0, tzinfo=UTC).timestamp()) * 10**9
UNIT = "local/works/_/_/_/press/"
OVERRIDE = (Override(match="力", path="works/press/force", unit="kN"),)


class Plant:
    """What ingest heard, and the history behind it."""

    def __init__(self, data: Path) -> None:
        self.historian = Historian(data / "historian")
        self.heard: list[tuple[float, Samples]] = []
        self.ingest = Ingest(
            self.historian, data / "i.sock",
            on_samples=lambda s, ns: self.heard.append((time.monotonic(), s)),
            on_curve=self.historian.append_curve, on_event=lambda event: None,
        )  # fmt: skip

    def rows(self, name: str) -> list[dict[str, Any]]:
        path = name if name.startswith("local/") else UNIT + name
        if path not in {s.path for s in self.historian.signals()}:
            return []
        found: list[dict[str, Any]] = self.historian.query([path], 0, 2**62).to_pylist()
        return found


@asynccontextmanager
async def watching(data: Path, folder: Path, **more: Any) -> AsyncIterator[Plant]:
    plant = Plant(data)
    await plant.ingest.start()
    stop = asyncio.Event()
    settings = FilesSettings(**{"id": "lab", "folder": str(folder), "root": "works/press", **more})
    task = asyncio.create_task(
        collector.run(
            settings, enterprise="local", socket_path=data / "i.sock",
            spool_dir=data / "spool" / "lab", pki_dir=data, stop=stop,
        )
    )  # fmt: skip
    try:
        yield plant
    finally:
        stop.set()
        await task
        await plant.ingest.close()
        plant.historian.close()


async def until(is_so: Callable[[], bool], seconds: float = 12.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if is_so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("did not come")


async def test_files_of_all_kinds_are_taken_once_and_a_broken_one_stops_none(
    tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "in"
    folder.mkdir()
    wide = "时间;力 [kN];门;序列号\n2026-03-01 08:00:00;1,5;是;S1\n"
    wide += "2026-03-01 08:00:01;abc;否;S2\n2026-03-01 08:00:02;2,5;;\nkurz;1\n"
    (folder / "a.csv").write_bytes(wide.encode("gb18030"))
    (folder / "long.csv").write_text(
        "time,signal,value,quality\n2026-03-01T00:00:03Z,count,7,good\n"
        "2026-03-01T00:00:04Z,count,8,bad\nyesterday,count,9,good\n"
    )
    stamps = pa.array([START, START + 1], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"time": stamps, "heat": [1.25, None]}), folder / "b.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1" + b"\0" * 40 + b"PAR1")
    (folder / "no_time.csv").write_text("a,b\n1,2\n")
    (folder / "unfinished.csv.part").write_text("time,x\n")
    more: dict[str, Any] = {"timezone": "Asia/Shanghai", "override": OVERRIDE}
    async with watching(tmp_path, folder, **more) as plant:
        await until(
            lambda: (
                all(plant.rows(n) for n in ("count", "heat", "force"))
                and len(list((tmp_path / "spool/lab/rejected").glob("*"))) == 2
            )
        )
        force = plant.rows("force")
        assert [(r["time_ns"] - START, r["value"]) for r in force] == [(0, 1.5), (2 * 10**9, 2.5)]
        assert all(r["quality"] & Quality.HISTORICAL for r in force)
        assert [r["quality"] & 3 for r in plant.rows("count")] == [0, 2]
        assert len(plant.rows("heat")) == 1
        kinds = sorted(s.kind.name for s in plant.historian.signals())
        assert kinds == ["COUNTER", "FLAG", "GAUGE", "GAUGE", "TEXT"]
        await until(lambda: "no_time.csv" in caplog.text and "broken.parquet" in caplog.text)
        text = caplog.text
        assert "a.csv:3:力 [kN]:'abc'" in text
        assert "long.csv:4:time:'yesterday'" in text
        assert "broken.parquet" in text
        assert "no_time.csv: has no time column" in text
        assert not plant.rows("x")
        (folder / "copy.csv").write_bytes(wide.encode("gb18030"))
        await until(lambda: "copy.csv is the same as a.csv" in caplog.text)
    left_out = next(rejected.kept(tmp_path))
    assert left_out.causes == {"unreadable": 2, "no_number": 1, "missing": 1, "file_time": 1}
    broken = next(s for s in left_out.samples if s.where == "broken.parquet")
    assert (left_out.folder / broken.file).read_bytes() == b"PAR1" + b"\0" * 40 + b"PAR1"
    async with watching(tmp_path, folder, **more) as again:
        (folder / "new.csv").write_text("time,late\n2026-03-01T00:00:00Z,1\n")
        await until(lambda: bool(again.rows("late")))
        assert len(again.rows("force")) == 2
        assert again.historian._appended == 1


async def test_a_replay_moves_stamps_to_now_and_keeps_its_speed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [f"{START + k * 10**9},{k}" for k in range(11)]
    (folder / "r.csv").write_text("time_ns,x\n" + "\n".join(lines) + "\n")
    async with watching(tmp_path, folder, replay=10.0) as plant:
        await until(lambda: len(plant.rows("x")) == 11)
        rows = plant.rows("x")
        steps = {b["time_ns"] - a["time_ns"] for a, b in pairwise(rows)}
        assert steps == {10**9}
        assert abs(rows[0]["time_ns"] - time.time_ns()) < 30 * 10**9
        assert all(r["quality"] == 0 for r in rows)
        took = plant.heard[-1][0] - plant.heard[0][0]
        assert len(plant.heard) > 3
        assert took > 0.8


def test_the_command_imports_samples_once(tmp_path: Path) -> None:
    stamps = pa.array([START, START + 1], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"time": stamps, "heat": [1.25, 2.5]}), tmp_path / "b.parquet")
    more = ["--data", str(tmp_path), "--root", "works/press"]
    for _ in range(2):
        told = CliRunner().invoke(cli, ["import", str(tmp_path / "b.parquet"), *more, "--json"])
        assert told.exit_code == 0, told.output
    (tmp_path / "c.csv").write_text("time,heat\n2026-03-01,1\n2026-03-02,warm\n")
    wrong = CliRunner().invoke(cli, ["import", str(tmp_path / "c.csv"), *more, "--samples"])
    assert wrong.exit_code != 0
    with Historian(tmp_path / "historian") as history:
        rows = history.query([UNIT + "heat"], 0, 2**62).to_pylist()
    assert sorted({r["value"] for r in rows}) == [1.0, 1.25, 2.5]
    assert len(rows) == 3
