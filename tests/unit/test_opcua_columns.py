"""Holes of OPC UA signals: where they begin, who marks them, what closes them."""

import math

import numpy as np
from asyncua import ua

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.opcua import backfill
from workshop_brain.connect.opcua.browse import Composite, Item
from workshop_brain.connect.opcua.columns import OVERFLOW_BITS, Columns, Holes
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.parts import Types
from workshop_brain.model.signal import Quality, SignalDef, SignalKind

S = 1_000_000_000


class Registry:
    """Numbers for signals and texts."""

    def __init__(self) -> None:
        self.signals: list[SignalDef] = []
        self.words: list[str] = []

    def declare(self, signals: list[SignalDef]) -> int:
        self.signals += signals
        return len(self.signals) - len(signals)

    def text(self, text: str) -> int:
        if text not in self.words:
            self.words.append(text)
        return self.words.index(text)


def columns(n: int = 3, last_ns: int = 0) -> Columns:
    items = [
        Item(ua.NodeId(i, 2), SignalDef(path=f"a/b/c/d/e/f/s{i}", kind=SignalKind.GAUGE))
        for i in range(n)
    ]
    return Columns.of(items, Registry(), last_ns)


def rows(*given: tuple[int, float, float], status: int = 0) -> Notifications:
    """(handle, second, value) as a message."""
    handle, second, value = zip(*given, strict=True) if given else ((), (), ())
    return Notifications(
        subscription=1,
        sequence=1,
        more=False,
        publish_ns=0,
        available=(),
        is_keep_alive=False,
        handle=np.array(handle, np.uint32),
        value=np.array(value, np.float64),
        status=np.full(len(given), status, np.uint32),
        time_ns=(np.array(second) * S).astype(np.int64),
    )


def marks(quality: np.ndarray) -> list[bool]:
    return [bool(q & Quality.GAP_BEFORE) for q in quality]


def test_the_first_sample_behind_a_hole_is_marked_and_names_both_ends() -> None:
    c = columns()
    c.take(rows((0, 1, 1), (1, 2, 1), (0, 3, 2)))
    c.open_holes(None)
    taken = c.take(rows((0, 9, 7), (0, 10, 8), (2, 9, 5)))
    assert marks(taken.samples.quality) == [True, False, True]
    assert taken.holes.handle.tolist() == [0]  # of handle 2 nothing was known before
    assert (taken.holes.since_ns.tolist(), taken.holes.until_ns.tolist()) == ([3 * S], [9 * S])
    assert marks(c.take(rows((1, 11, 4))).samples.quality) == [True]
    assert not c.gap.any()


def test_a_value_that_was_not_written_since_ends_a_hole_without_a_mark() -> None:
    c = columns()
    c.take(rows((0, 1, 1)))
    c.open_holes(None)
    taken = c.take(rows((0, 1, 1)))
    assert marks(taken.samples.quality) == [False]
    assert len(taken.holes) == 0
    assert marks(c.take(rows((0, 2, 2))).samples.quality) == [False]


def test_an_overflow_is_a_hole_since_the_row_before() -> None:
    c = columns()
    c.take(rows((0, 1, 1), (1, 1, 1)))
    taken = c.take(rows((0, 5, 5), (1, 6, 6), status=OVERFLOW_BITS))
    assert taken.overflowed.tolist() == [0, 1]
    assert all(q & Quality.OVERFLOW for q in taken.samples.quality)
    assert taken.holes.since_ns.tolist() == [S, S]
    assert taken.holes.until_ns.tolist() == [5 * S, 6 * S]


def test_open_holes_pass_to_the_columns_of_a_server_that_came_back_with_other_nodes() -> None:
    before, after = columns(2), columns(3)
    before.take(rows((0, 1, 1), (1, 2, 1)))
    before.open_holes(np.array([1]))
    after.inherit(before)
    assert after.gap.tolist() == [False, True, False]
    assert after.since_ns[1] == 2 * S


def hole(since: float, until: float, handle: int = 0) -> Holes:
    return Holes(
        np.array([handle]),
        np.array([int(since * S)]),
        np.array([int(until * S)]),
        np.array([until]),
        np.array([Quality.GAP_BEFORE | Quality.OVERFLOW], np.uint8),
    )


def test_history_with_both_ends_closes_a_hole() -> None:
    c = columns()
    past = rows((0, 1, 1), (0, 2, 2), (0, 3, 3), (0, 4, 4), (0, 5, 5))
    done = backfill.filled(c, hole(1, 4), [past])
    assert done.closed.tolist() == [True]
    assert done.rows == 2
    assert done.samples is not None
    assert done.samples.value.tolist() == [2, 3, 4]
    assert done.samples.quality.tolist() == [Quality.HISTORICAL] * 3


def test_history_that_begins_too_late_moves_the_mark_to_its_first_sample() -> None:
    done = backfill.filled(columns(), hole(1, 4), [rows((0, 3, 3), (0, 4, 4))])
    assert done.closed.tolist() == [False]
    assert done.samples is not None
    assert done.samples.value.tolist() == [3, 4]
    assert marks(done.samples.quality) == [True, False]


def test_history_that_ends_too_early_leaves_the_mark_where_it_was() -> None:
    done = backfill.filled(columns(), hole(1, 4), [rows((0, 1, 1), (0, 2, 2))])
    assert done.closed.tolist() == [False]
    assert done.samples is not None
    assert done.samples.value.tolist() == [2]
    assert marks(done.samples.quality) == [False]


def test_no_history_or_only_the_far_end_changes_nothing() -> None:
    for past in (rows(), rows((0, 4, 4))):
        done = backfill.filled(columns(), hole(1, 4), [past])
        assert done.closed.tolist() == [False]
        assert done.samples is None


def test_a_history_in_milliseconds_matches_live_times_in_ticks() -> None:
    done = backfill.filled(
        columns(), hole(1.0001234, 4.0005678), [rows((0, 1.0, 1), (0, 2.001, 2), (0, 4.0, 4))]
    )
    assert done.closed.tolist() == [True]
    assert done.rows == 1


def test_batches_hold_what_is_alike() -> None:
    many = Holes(
        np.arange(5),
        np.array([100, 7200, 101, 0, 102]) * 60 * S,
        np.array([7300] * 5) * 60 * S,
        np.zeros(5),
        np.zeros(5, np.uint8),
    )
    assert [b.tolist() for b in backfill.batches(many, 2)] == [[3, 0], [2, 4], [1]]
    near = many.of(np.array([0, 1]))
    short = Holes(near.handle, near.since_ns, near.since_ns + S, near.value, near.quality)
    assert [b.tolist() for b in backfill.batches(short, 10)] == [[0], [1]]


def test_what_is_not_finite_is_no_value_and_a_huge_text_is_told() -> None:
    own = columns(2)
    own.is_text[1] = True
    message = rows((0, 1, math.inf), (0, 2, math.nan), (0, 3, 4.0), (1, 4, 0.0), (1, 5, 0.0))
    message.texts.extend([(3, "x" * 4097), (4, "y" * 4096)])
    taken = own.take(message).samples
    assert np.isnan(taken.value).tolist() == [True, True, False, True, False]
    assert (taken.quality & 3).tolist() == [2, 2, 0, 2, 0]
    assert own.too_long == [(1, "x" * 4097)]


def array(*values: float) -> memoryview:
    """An encoded array of Double."""
    return memoryview(
        b"\x8b" + len(values).to_bytes(4, "little") + np.array(values, "<f8").tobytes()
    )


def test_a_hole_of_an_array_marks_each_of_its_elements_once_and_no_other_signal() -> None:
    composite = Composite(
        choice=Choice(enterprise="local", exclude=("*[1]",)),
        names=("w", "a", "l", "c", "u", "Curve"),
        source="m",
        address="s=C",
        types=Types(),
        first=(("[0]", 11),),
    )
    curve = SignalDef(path="local/w/a/l/c/u/curve", kind=SignalKind.GAUGE)
    plain = SignalDef(path="local/w/a/l/c/u/plain", kind=SignalKind.GAUGE)
    items = [Item(ua.NodeId(1, 2), curve, composite=composite), Item(ua.NodeId(2, 2), plain)]
    c = Columns.of(items, Registry())

    def taken(second: int, *values: float) -> tuple[list[float], list[bool]]:
        message = rows((0, second, math.nan), (1, second, 5))
        message.nested.append((0, array(*values)))
        samples = c.take(message).samples
        return samples.value.tolist(), marks(samples.quality)

    assert taken(1, 10, 11, 12) == ([5, 10, 12], [False] * 3)  # [1] is left out
    c.open_holes(np.array([0]))
    assert taken(3, 20, 21, 22) == ([5, 20, 22], [False, True, True])
    c.open_holes(np.array([0]), np.array([3 * S]))
    values, marked = taken(5, 30)
    assert values[:2] == [5, 30]
    assert math.isnan(values[2])
    assert marked == [False, True, True]
    assert taken(7, 40) == ([5, 40], [False, False])  # told once that the others are gone
    assert not c.gap.any()
    # Rows 2 and 3 are the elements [0] and [2].
    past = rows((0, 1, math.nan), (0, 2, math.nan))
    past.nested.extend([(0, array(1, 2, 3)), (1, array(4))])
    assert c.of_row(past, 2).value.tolist() == [1, 4]
    np.testing.assert_array_equal(c.of_row(past, 3).value, [3, math.nan])
    words = rows((0, 1, math.nan))
    words.nested.append((0, memoryview(b"\x8c\x03\0\0\0" + b"\x01\0\0\0a" * 2 + b"\xff" * 4)))
    assert [c.of_row(words, row).texts for row in (2, 3)] == [[(0, "a")], []]
    after = Columns.of(items, Registry())
    c.open_holes(None)
    after.inherit(c)
    assert after.gap[[1, 2]].all()
