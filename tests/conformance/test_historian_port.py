"""What every historian must do (ports.Historian), run over each implementation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workshop_brain.model.signal import Samples, SignalDef, SignalKind
from workshop_brain.ports import Historian as HistorianPort
from workshop_brain.store.historian import Historian

Open = Callable[[Path], HistorianPort]
IMPLEMENTATIONS: dict[str, Open] = {"embedded": Historian}


@pytest.fixture(params=IMPLEMENTATIONS)
def opened(request: pytest.FixtureRequest) -> Open:
    return IMPLEMENTATIONS[request.param]


def definition(k: int) -> SignalDef:
    return SignalDef(path=f"local/w/a/l/c/u/s{k}", kind=SignalKind.GAUGE)


def rows(*signals: int) -> Samples:
    n = len(signals)
    return Samples(
        np.array(signals, np.uint32), np.arange(n, dtype=np.int64) + 10**18, np.ones(n),
        np.zeros(n, np.uint8),
    )  # fmt: skip


def close(history: HistorianPort) -> None:
    history.close()  # type: ignore[attr-defined]


def test_ids_are_given_in_order_and_never_change(opened: Open, tmp_path: Path) -> None:
    history = opened(tmp_path)
    assert history.declare([definition(0), definition(1)]) == [0, 1]
    assert history.declare([definition(1), definition(2)]) == [1, 2]
    close(history)
    history = opened(tmp_path)
    assert history.declare([definition(2), definition(0)]) == [2, 0]
    close(history)


def test_codes_of_texts_never_change(opened: Open, tmp_path: Path) -> None:
    history = opened(tmp_path)
    codes = history.intern(["a", "变速器", "a"])
    assert codes[0] == codes[2] != codes[1]
    close(history)
    history = opened(tmp_path)
    assert history.intern(["变速器", "a"]) == [codes[1], codes[0]]
    close(history)


def test_log_positions_rise_and_numbers_are_durable_after_sync(
    opened: Open, tmp_path: Path
) -> None:
    history = opened(tmp_path)
    history.declare([definition(0)])
    positions = [history.append(rows(0), source="s", session=3, seq=k) for k in (1, 2, 5)]
    assert positions == sorted(set(positions))
    assert history.last_seq("s", 3) == 0
    history.sync()
    assert history.last_seq("s", 3) == 5
    assert history.append(rows(0), source="s", session=3, seq=4) == positions[-1]
    assert history.last_seq("s", 4) == history.last_seq("t", 3) == 0
    close(history)
    history = opened(tmp_path)
    assert history.last_seq("s", 3) == 5
    close(history)


def test_an_empty_batch_moves_the_number_on(opened: Open, tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.append(rows(), source="s", session=1, seq=1)
    history.sync()
    assert history.last_seq("s", 1) == 1
    close(history)


def test_an_id_that_was_never_given_is_refused(opened: Open, tmp_path: Path) -> None:
    history = opened(tmp_path)
    with pytest.raises(ValueError, match="declare them first"):
        history.append(rows(0), source="s", session=1, seq=1)
    assert history.last_seq("s", 1) == 0
    close(history)


def test_forgotten_numbers_stay_forgotten_and_samples_stay(opened: Open, tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.declare([definition(0)])
    for source in ("old/a", "new/a"):
        history.append(rows(0), source=source, session=1, seq=7)
    history.sync()
    assert history.forget_sessions(lambda source: source.startswith("new/")) == 1
    assert (history.last_seq("old/a", 1), history.last_seq("new/a", 1)) == (0, 7)
    history.append(rows(0), source="old/a", session=1, seq=7)
    history.sync()
    assert history.last_seq("old/a", 1) == 7
    close(history)
