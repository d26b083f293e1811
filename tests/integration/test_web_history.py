"""The doors to the history over HTTP: every read, in every form, with its limits and refusals."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from tests.integration.test_web import LOCAL, NOW, Desk, SteppedClock, running

from workshop_brain.app.watch import Watch
from workshop_brain.config import built_in
from workshop_brain.model.curve import Curve
from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store import pieces
from workshop_brain.store.historian import Historian
from workshop_brain.store.records import Records
from workshop_brain.web import tables
from workshop_brain.web.api import create_app
from workshop_brain.web.services import Services

S = 1_000_000_000
CELL = "e/s/a/l/c"
ARROW = "application/vnd.apache.arrow.stream"
SIGNALS = [
    SignalDef(path=f"{CELL}/u{u}/{name}", kind=kind, unit="N.m" if name == "torque" else "")
    for u in (1, 2)
    for name, kind in (("torque", SignalKind.GAUGE), ("serial", SignalKind.TEXT))
]
TORQUE, SERIAL = f"{CELL}/u1/torque", f"{CELL}/u1/serial"
N = 1200


def rows(id: int, times: Any, values: Any) -> Samples:
    n = len(times)
    return Samples(
        np.full(n, id, np.uint32), np.asarray(times, np.int64), np.asarray(values, float),
        np.zeros(n, np.uint8),
    )  # fmt: skip


def bolt(k: int) -> Curve:
    angle = np.linspace(0, 90, 91, dtype=np.float32)
    return Curve(
        serial=f"SN{k}", station=f"{CELL}/u1", program=f"P{k % 2}", step=10,
        time_ns=NOW - (60 - k) * S,
        channels={"torque_nm": angle * np.float32(k), "angle_deg": angle},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doors")


@contextmanager
def served(data: Path, historian: Historian, signals: list[SignalDef]) -> Iterator[httpx.Client]:
    """The API over a history on a free port; everybody may do everything."""
    watch, records, desk = Watch(built_in().plant), Records(data / "records.sqlite"), Desk()
    watch.on_declared(list(range(len(signals))), signals)
    services = Services(
        plant=built_in().plant, clock=SteppedClock(), watch=watch, historian=historian,
        decider=desk, users=records, orders=desk, work_list=desk, data_dir=data,
        sources=list, sign_in=False,
    )  # fmt: skip
    with (
        running(create_app(services, screens=data)) as url,
        httpx.Client(base_url=f"{url}/api/v1", **LOCAL) as client,
    ):
        yield client
    records.close()


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[httpx.Client]:
    with Historian(data / "historian") as historian:
        historian.declare(SIGNALS)
        codes = historian.intern(["SN1", "SN2"])
        parts = [
            rows(0, NOW - np.arange(N, 0, -1) * S, np.arange(N) % 7),
            rows(1, [NOW - 300 * S, NOW - 100 * S], codes),
            rows(2, [NOW - 250 * S], [42.0]),
        ]
        for seq, part in enumerate(parts, start=1):
            historian.append(part, source="s", session=1, seq=seq)
        for k in range(6):
            historian.append_curve(bolt(k))
        historian.seal()
        with served(data, historian, SIGNALS) as client:
            yield client


def table_of(answer: httpx.Response, form: str) -> pa.Table:
    assert answer.status_code == 200, answer.text
    if form == "arrow":
        return pa.ipc.open_stream(answer.content).read_all()
    if form == "parquet":
        return pq.read_table(io.BytesIO(answer.content))
    return pacsv.read_csv(io.BytesIO(answer.content))


def test_minutes_that_late_rows_changed_are_marked_at_every_door(tmp_path: Path) -> None:
    minute = 60 * S
    begin = NOW // minute * minute - 10 * minute
    times = begin + np.arange(600) * S
    with Historian(tmp_path / "historian") as historian:
        historian.declare(SIGNALS)
        for seq, part in ((1, times[::2]), (2, times[1::2])):
            historian.append(rows(0, part, np.ones(300)), source="s", session=1, seq=seq)
            historian.seal()
        historian.compact()
        late = rows(0, [begin + 2 * minute + 7], [9.0])
        historian.append(late, source="s", session=1, seq=3)
        historian.seal()
        with served(tmp_path, historian, SIGNALS) as client:
            span = {"paths": TORQUE, "from": str(begin), "to": str(begin + 10 * minute)}
            from_ms = (begin + 2 * minute) / 1e6
            for points in ({}, {"points": "10"}):
                told = client.get("series", params=span | points).json()["series"][0]
                marks = [(m["from_ms"], m["to_ms"], m["rows"]) for m in told["restated"]]
                assert marks == [(from_ms, from_ms + 60_000, 1)]
                assert "restated_ns" not in told
            columns = client.get("series/restated", params=span).json()["columns"]
            assert columns["path"] == [TORQUE]
            for path, more in (("series", {"points": "10"}), ("series/windows", {})):
                answer = client.get(path, params=span | more | {"format": "arrow"})
                table = table_of(answer, "arrow")
                at = pa.compute.filter(
                    table["time_ns"], pa.compute.is_valid(table["restated_ns"])
                ).to_numpy()
                assert set((at - begin) // minute) == {2}
            wide = client.get("series/windows", params=span | {"width_s": 300, "by": "line"}).json()
            assert sum(v is not None for v in wide["columns"]["restated_ns"]) == 1
            other = client.get("series/windows", params=span | {"from": str(begin + 3 * minute)})
            assert set(other.json()["columns"]["restated_ns"]) == {None}


@pytest.mark.parametrize("form", ["arrow", "parquet", "csv"])
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("series", {"paths": f"{CELL}/*"}),
        ("series", {"paths": TORQUE, "points": "20"}),
        ("series", {"paths": TORQUE, "points": "20", "method": "lttb"}),
        ("series/last", {}),
        ("series/windows", {"paths": f"{CELL}/*/torque"}),
        ("series/asof", {"paths": f"{CELL}/*", "stations": f"{CELL}/u1"}),
        ("curves", {}),
        ("curves/list", {}),
        ("curves/features", {}),
        ("curves/overlay", {"channel": "torque_nm"}),
    ],
)
def test_every_form_tells_the_same_rows(
    client: httpx.Client, path: str, query: dict[str, str], form: str
) -> None:
    plain = client.get(path, params=query)
    assert plain.status_code == 200, plain.text
    table = table_of(client.get(path, params={**query, "format": form}), form)
    body = plain.json()
    if path == "series":
        found = sum(len(s["time_ms"]) for s in body["series"])
    elif path == "curves/overlay":
        found = len(body["grid"])
    elif path.startswith("curves") and path != "curves/features":
        listed = body["curves"] if path == "curves/list" else body
        found = len(listed) if path == "curves/list" or form != "csv" else 6 * 2 * 91
    else:
        found = body["rows"]
    assert table.num_rows == found > 0


def test_the_header_accept_chooses_the_form_and_a_long_time_comes_in_pieces(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 100)
    monkeypatch.setattr(pieces, "_READ_ROWS", 300)
    query = {"paths": f"{SERIAL},{TORQUE}", "from": "0"}
    answer = client.get("series", params=query, headers={"Accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    reader = pa.ipc.open_stream(answer.content)
    batches = list(reader)
    assert len(batches) > 10
    table = pa.Table.from_batches(batches)
    assert table.column("path").cast(pa.string()).to_pylist() == [SERIAL] * 2 + [TORQUE] * N
    assert table.column("text").to_pylist()[:2] == ["SN1", "SN2"]
    times = table.column("time_ns").to_numpy()[2:]
    assert np.array_equal(times, NOW - np.arange(N, 0, -1) * S)


def test_last_values_are_columns_of_all_signals(client: httpx.Client) -> None:
    columns = client.get("series/last").json()["columns"]
    assert columns["path"] == [s.path for s in SIGNALS]
    assert columns["value"] == [(N - 1) % 7, None, 42.0, None]
    assert columns["text"] == [None, "SN2", None, None]
    assert columns["time_ns"] == [str(NOW - S), str(NOW - 100 * S), str(NOW - 250 * S), None]
    assert columns["quality"] == [0, 0, 0, 2]
    some = client.get("series/last", params={"paths": f"{CELL}/u2/*"}).json()["columns"]
    assert some["value"] == [42.0, None]


def test_as_of_knows_what_the_machine_showed_when_a_part_came(client: httpx.Client) -> None:
    parts = client.get(
        "series/asof", params={"paths": TORQUE, "stations": f"{CELL}/u1"}
    ).json()["columns"]  # fmt: skip
    assert parts["serial"] == ["SN1", "SN2"]
    assert parts[TORQUE] == [(N - 300) % 7, (N - 100) % 7]
    moments = {"paths": f"{CELL}/u2/torque", "at": f"{NOW - 251 * S},-10s", "within_s": "240"}
    at = client.get("series/asof", params=moments).json()["columns"]
    assert at[f"{CELL}/u2/torque"] == [None, 42.0]
    grid = client.get(
        "series/asof", params={"paths": SERIAL, "every_s": "100", "from": "-301s"}
    ).json()["columns"]  # fmt: skip
    assert grid[SERIAL] == [None, "SN1", "SN1", "SN2"]


def test_windows_are_of_signals_units_or_cells(client: httpx.Client) -> None:
    query = {"paths": f"{CELL}/*/torque", "width_s": "600", "from": "-20m"}
    by_unit = client.get("series/windows", params=query).json()["columns"]
    assert sum(by_unit["count"]) == N + 1
    assert set(by_unit["device"]) == {f"{CELL}/u1", f"{CELL}/u2"}
    by_cell = client.get("series/windows", params={**query, "by": "cell"}).json()["columns"]
    assert set(by_cell["device"]) == {CELL}
    assert max(by_cell["max"]) == 42.0
    held = client.get("series/windows", params={**query, "time_weighted": "true"}).json()
    assert 42.0 in held["columns"]["time_weighted"]


def test_sql_answers_one_select_and_names_what_is_wrong(client: httpx.Client) -> None:
    body = {
        "statement": "SELECT path, count(*) AS n, max(time_ns) AS newest, 1 AS n FROM samples "
        "WHERE path LIKE ? GROUP BY path ORDER BY path",
        "params": ["%torque"],
        "from": "-1h",
    }
    columns = client.post("sql", json=body).json()["columns"]
    assert columns["n"] == [N, 1]
    assert columns["newest"] == [str(NOW - S), str(NOW - 250 * S)]
    table = table_of(client.post("sql", params={"format": "parquet"}, json=body), "parquet")
    assert table.num_columns == 4
    for statement, told in (
        ("DROP TABLE samples", "one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SELECT nothing FROM samples", "nothing"),
    ):
        refused = client.post("sql", json={**body, "statement": statement, "params": []})
        assert refused.status_code == 422
        assert told in refused.json()["error"]["message"]
    nested = {**body, "statement": "SELECT [1, 2] AS a", "params": []}
    assert client.post("sql", json=nested).json()["columns"]["a"] == [[1, 2]]
    refused = client.post("sql", params={"format": "csv"}, json=nested)
    assert (refused.status_code, "as csv" in refused.text) == (422, True)


def test_curves_are_paged_fetched_and_laid_over_each_other(client: httpx.Client) -> None:
    page = client.get("curves/list", params={"limit": 4}).json()
    rest = client.get("curves/list", params={"limit": 4, "before": page["next"]}).json()
    assert [c["serial"] for c in page["curves"] + rest["curves"]] == [
        f"SN{k}" for k in range(5, -1, -1)
    ]
    assert rest["next"] is None
    one = client.get(f"curves/{page['curves'][0]['id']}").json()
    assert one["channels"]["torque_nm"][-1] == 450.0
    assert one["features"]["torque_nm"]["area_over_angle"] == pytest.approx(450 * 45)
    table = table_of(
        client.get(f"curves/{one['id']}", params={"format": "arrow"}), "arrow"
    )  # fmt: skip
    assert table.schema.metadata[b"serial"] == b"SN5"
    ids = ",".join(c["id"] for c in page["curves"][:2])
    over = {"ids": ids, "channel": "torque_nm", "over": "angle_deg", "points": 10}
    both = client.get("curves/overlay", params=over).json()
    assert [c["values"][-1] for c in both["curves"]] == [450.0, 360.0]
    assert both["grid"][-1] == 90.0
    some = client.get("curves/features", params={"program": "P1", "limit": 2}).json()["columns"]
    assert some["serial"] == ["SN5", "SN5", "SN3", "SN3"]
    assert some["max"][::2] == [450.0, 270.0]


@pytest.mark.parametrize(
    ("path", "query", "status", "told"),
    [
        ("series", {"paths": "e/s/a/l/c/u9/*"}, 404, "u9"),
        ("series", {"paths": TORQUE, "format": "xml"}, 422, "json"),
        ("series", {"paths": SERIAL, "points": "9", "method": "lttb"}, 422, "is a text"),
        ("series/asof", {"paths": TORQUE}, 422, "exactly one"),
        ("series/asof", {"paths": TORQUE, "every_s": "0.0001"}, 422, "every_s"),
        ("series/windows", {"paths": SERIAL}, 422, "is a text"),
        ("series/windows", {"paths": TORQUE, "from": "0", "width_s": "1"}, 422, "wider windows"),
        ("curves/nonsense", {}, 422, "an id from curves/list"),
        ("curves/WzEsIlgiLCJZIiwxXQ", {}, 404, "no curve"),
        ("curves/overlay", {"channel": "speed"}, 422, "no channel 'speed'"),
        ("curves/overlay", {"channel": "x", "serial": "none"}, 404, "no curve"),
    ],
)
def test_a_refusal_says_why(
    client: httpx.Client, path: str, query: dict[str, str], status: int, told: str
) -> None:
    answer = client.get(path, params=query)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]["message"]


def test_too_much_for_json_is_said_before_it_fills_the_memory(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_JSON_ROWS", 1000)
    answer = client.get("series", params={"paths": TORQUE})
    assert answer.status_code == 413
    monkeypatch.setattr(tables, "MOST_STREAMS", 0)
    assert client.get("series", params={"paths": TORQUE, "format": "csv"}).status_code == 429


def test_a_fault_in_the_middle_never_looks_like_an_end(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pieces._pieces

    def broken(*args: Any) -> Iterator[pa.Table]:
        yield from real(*args)
        raise OSError("the disk is gone")

    monkeypatch.setattr(pieces, "_pieces", broken)
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("series", params={"paths": TORQUE, "format": "arrow"})


def test_every_parameter_of_these_doors_is_described(client: httpx.Client) -> None:
    found = client.get("openapi.json").json()["paths"]
    doors = [p for p in found if p.startswith(("/api/v1/series", "/api/v1/sql", "/api/v1/curves"))]
    assert len(doors) == 11
    for door in doors:
        for operation in found[door].values():
            assert "text/csv" in operation["responses"]["200"]["content"], door
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    assert parameter.get("description"), (door, parameter["name"])
