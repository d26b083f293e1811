"""``brain query``, ``brain sql`` and ``brain curves``: beside a running writer and without one."""

import io
import json
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from workshop_brain.cli import app
from workshop_brain.cli.show import parse_time
from workshop_brain.cli.up import check_records
from workshop_brain.connect.rows import full_path
from workshop_brain.errors import BrainError
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store.historian import Historian

S = 1_000_000_000
NOW = 1_790_000_000 * S
CELL = "e/s/a/l/c"
TORQUE, SERIAL = f"{CELL}/u1/torque", f"{CELL}/u1/serial"
N = 600


def rows(id: int, times: object, values: object) -> Samples:
    time_ns, value = np.asarray(times, np.int64), np.asarray(values, float)
    n = len(value)
    return Samples(np.full(n, id, np.uint32), time_ns, value, np.zeros(n, np.uint8))


def fill(history: Historian) -> None:
    history.declare([
        SignalDef(path=TORQUE, kind=SignalKind.GAUGE), SignalDef(path=SERIAL, kind=SignalKind.TEXT),
    ])  # fmt: skip
    codes = history.intern(["SN1", "SN2"])
    history.append(
        rows(0, NOW - np.arange(N)[::-1] * S, np.arange(N)), source="s", session=1, seq=1
    )
    serials = rows(1, [NOW - 300 * S, NOW - 100 * S], codes)
    history.append(serials, source="s", session=1, seq=2)
    for k in range(4):
        angle = np.linspace(0, 90, 10 + k, dtype=np.float32)
        history.append_curve(
            Curve(serial=f"SN{k}", station=f"{CELL}/u1", program=f"P{k % 2}", step=1,
                  time_ns=NOW + k * S, channels={"torque_nm": angle * k, "angle_deg": angle})
        )  # fmt: skip
    history.sync()


def run(data: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments, "--data", str(data)])
    if result.exception is not None:
        raise result.exception
    return result


def csv_of(result: Result) -> pa.Table:
    return pacsv.read_csv(io.BytesIO(result.stdout_bytes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    with Historian(path / "historian") as history:
        fill(history)
    return path


def test_the_history_is_read_beside_its_writer(tmp_path: Path) -> None:
    with Historian(tmp_path / "historian") as history:
        fill(history)
        assert csv_of(run(tmp_path, "query", f"{CELL}/*")).num_rows == N + 2
        counted = run(tmp_path, "sql", "SELECT count(*) AS n FROM samples", "--format", "json")
        assert json.loads(counted.stdout) == [{"n": N + 2}]
        assert csv_of(run(tmp_path, "curves", "list")).num_rows == 4


def test_query_decimates_aggregates_and_joins(data: Path, tmp_path: Path) -> None:
    few = csv_of(run(data, "query", TORQUE, "--points", "50", "--method", "lttb"))
    assert few.num_rows == 50
    windows = csv_of(run(data, "query", TORQUE, "--every", "5min", "--by", "line"))
    assert sum(windows["count"].to_pylist()) == N
    assert set(windows["device"].to_pylist()) == {"e/s/a/l"}
    parts = csv_of(run(data, "query", TORQUE, "--parts", f"{CELL}/*"))
    assert parts["serial"].to_pylist() == ["SN1", "SN2"]
    assert parts[TORQUE].to_pylist() == [N - 301, N - 101]
    at = csv_of(run(data, "query", SERIAL, "--at", "-200s", "--at", "-400s", "--within", "1h"))
    assert at[SERIAL].to_pylist() == ["SN1", ""]
    assert csv_of(run(data, "query", TORQUE, "--grid", "60s", "--from", "-10m")).num_rows == 11
    file = tmp_path / "rows.parquet"
    run(data, "query", TORQUE, "--format", "parquet", "-o", str(file))
    assert pq.read_table(file).num_rows == N
    stream = run(data, "query", TORQUE, "--format", "arrow").stdout_bytes
    assert pa.ipc.open_stream(stream).read_all().column("value").to_pylist() == list(range(N))


def test_sql_takes_parameters_and_only_reads(data: Path) -> None:
    statement = "SELECT text FROM samples WHERE path = ? AND signal >= ? ORDER BY time_ns"
    found = csv_of(run(data, "sql", statement, "--param", SERIAL, "--param", "1"))
    assert found["text"].to_pylist() == ["SN1", "SN2"]
    with pytest.raises(BrainError, match="one SELECT"):
        run(data, "sql", "DROP TABLE samples")


def test_curves_are_listed_shown_and_laid_over_each_other(data: Path) -> None:
    listed = csv_of(run(data, "curves", "list", "--program", "P1"))
    assert listed["serial"].to_pylist() == ["SN3", "SN1"]
    shown = csv_of(run(data, "curves", "show", "--limit", "2"))
    assert shown.num_rows == 13 + 12
    assert max(shown["torque_nm"].to_pylist()) == 270.0
    table = csv_of(run(data, "curves", "features", "--serial", "SN2"))
    assert table["max"].to_pylist() == [180.0, 90.0]
    over = csv_of(
        run(data, "curves", "overlay", "torque_nm", "--over", "angle_deg", "--points", "4")
    )
    assert over["grid"].to_pylist() == [0, 30, 60, 90]
    assert [over[k][3].as_py() for k in range(1, 5)] == [270, 180, 90, 0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("query", TORQUE, "--points", "5", "--every", "1min"), "--points and --every"),
        (("query", TORQUE, "--every", "often"), "no length of time"),
        (("curves", "show", "--serial", "SN9"), "no such curve"),
        (("curves", "overlay", "speed"), "no channel 'speed'"),
    ],
)
def test_a_refusal_names_the_way_out(data: Path, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(BrainError, match=told):
        run(data, *arguments)


def test_every_command_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[2] / "docs/how-to/query.md"
    commands = re.findall(r"^    (brain (?:query|sql|curves) .+)$", guide.read_text("utf-8"), re.M)
    assert len(commands) == 9
    station = "local/works/assembly/asm1/z4/st36"
    with Historian(tmp_path / "historian") as history:
        names = {"spindle1_torque": SignalKind.GAUGE, "power": SignalKind.GAUGE,
                 "serial": SignalKind.TEXT}  # fmt: skip
        history.declare([SignalDef(path=f"{station}/{n}", kind=k) for n, k in names.items()])
        code = history.intern(["TX00000274"])[0]
        for id in range(3):
            part = rows(id, NOW - np.arange(N)[::-1] * S, np.full(N, code) + id % 2)
            history.append(part, source="s", session=1, seq=id + 1)
        angle = np.linspace(0, 90, 10, dtype=np.float32)
        history.append_curve(
            Curve(serial="TX00000274", station=station, program="tightening", step=1, time_ns=NOW,
                  channels={"torque_nm": angle, "angle_deg": angle})
        )  # fmt: skip
        history.sync()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = run(tmp_path, *shlex.split(command)[1:])
        assert re.search(r"^[1-9]\d* (rows|curves|channels)", result.stderr, re.M), command
    assert pq.read_table("torque.parquet").num_rows == N
    assert pq.read_table("features.parquet").num_rows == 2


def test_an_answer_of_a_few_huge_rows_is_refused_before_it_fills_the_memory(data: Path) -> None:
    statement = "SELECT repeat('x', 1_000_000) AS x FROM range(1_000)"
    with (
        Historian(data / "historian") as history,
        pytest.raises(BrainError, match=r"the answer is larger than \d+ MB after \d+ rows"),
    ):
        history.sql(statement, from_ns=NOW - N * S, to_ns=NOW)


def test_damaged_records_stop_the_start_by_name(tmp_path: Path) -> None:
    records = tmp_path / "records.sqlite"
    check_records(tmp_path)
    with closing(sqlite3.connect(records)) as made:
        made.execute("CREATE TABLE t (a)")
        made.executemany("INSERT INTO t VALUES (?)", [(f"row {k}" * 20,) for k in range(500)])
        made.commit()
    check_records(tmp_path)
    whole = records.read_bytes()
    records.write_bytes(whole[:4096] + b"\x00" * 4096 + whole[8192:])
    with pytest.raises(BrainError, match=r"(?s)records\.sqlite: .*damaged.*brain restore"):
        check_records(tmp_path)


@pytest.mark.parametrize("text", ["-2min", "-2m", "-120s"])
def test_minutes_back_have_two_names(text: str) -> None:
    assert parse_time(text, now_ns=NOW, name="--from") == NOW - 120 * S


def test_a_signal_is_found_by_the_short_path_it_was_pushed_under(tmp_path: Path) -> None:
    with Historian(tmp_path / "historian") as history:
        history.declare([
            SignalDef(path=full_path("local", name), kind=SignalKind.GAUGE)
            for name in ("press/Force", "press/other")
        ])  # fmt: skip
        for id in range(2):
            history.append(rows(id, [NOW], [id + 1.0]), source="s", session=1, seq=id + 1)
        history.sync()
    found = csv_of(run(tmp_path, "query", "press/Force", "--from", "-1h"))
    assert found["value"].to_pylist() == [1.0]
    with pytest.raises(BrainError, match="unknown"):
        run(tmp_path, "query", "press/none", "--from", "-1h")
