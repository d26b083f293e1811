"""Raw rows piece by piece are the rows of one query, however they are cut."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.store import pieces
from workshop_brain.store.historian import Historian

S = 1_000_000_000
START = 1_790_000_000 * S
RATES = (2000, 3, 700, 0, 700, 1200, 1, 40)
PATHS = [f"e/s/a/l/c/u/s{k}" for k in range(len(RATES))]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Historian]:
    with Historian(tmp_path_factory.mktemp("pieces")) as store:
        store.declare([SignalDef(path=p, kind=SignalKind.GAUGE) for p in PATHS])
        draw = np.random.default_rng(2)
        for k, n in enumerate(RATES):
            at = START + np.sort(draw.choice(86_400, n, replace=False)) * S
            quality = np.where(draw.random(n) < 0.1, 2, 0).astype(np.uint8)
            part = Samples(np.full(n, k, np.uint32), at, draw.random(n), quality)
            store.append(part, source="s", session=1, seq=k + 1)
            if k == 4:
                store.seal()
        yield store


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.permutations(PATHS), st.integers(1, 8), st.integers(0, 80_000), st.integers(60, 90_000),
    st.integers(1, 900),
)  # fmt: skip
def test_pieces_are_the_rows_of_one_query(
    history: Historian,
    monkeypatch: pytest.MonkeyPatch,
    paths: list[str],
    n: int,
    start_s: int,
    length_s: int,
    read_rows: int,
) -> None:
    monkeypatch.setattr(pieces, "_READ_ROWS", read_rows)
    monkeypatch.setattr(pieces, "PIECE_ROWS", read_rows)
    start = START + start_s * S
    whole = history.query(paths[:n], start, start + length_s * S)
    parts = list(pieces.raw_pieces(history, paths[:n], start, start + length_s * S))
    assert all(0 < p.num_rows <= read_rows for p in parts)
    joined = pa.concat_tables([whole.slice(0, 0), *parts]).combine_chunks()
    for name in ("path", "time_ns", "value", "quality"):
        assert joined.column(name).to_pylist() == whole.column(name).to_pylist()


def test_no_piece_is_much_larger_than_asked_for(
    history: Historian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_READ_ROWS", 300)
    read: list[int] = []
    real = pieces._pieces

    def watched(table: pa.Table, *args: object) -> object:
        read.append(table.num_rows)
        return real(table, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(pieces, "_pieces", watched)
    rows = sum(p.num_rows for p in pieces.raw_pieces(history, PATHS, START, START + 86_400 * S))
    assert rows == sum(RATES)
    assert max(read) < 400
    assert len(read) < 25
