"""What silence of an edge node is usual."""

from workshop_brain.connect.sparkplug.pace import LEAST_NS, Pace
from workshop_brain.units import NS_PER_MS, NS_PER_S


def spoken(*gaps_ms: int) -> Pace:
    pace, now = Pace(), NS_PER_S
    pace.heard(now)
    for gap in gaps_ms:
        now += gap * NS_PER_MS
        pace.heard(now)
    return pace


def test_a_fast_node_is_judged_at_the_floor() -> None:
    assert spoken(*[0, 0, 0, 250] * 30).limit_ns() == LEAST_NS
    assert spoken(*[500] * 30).limit_ns() == LEAST_NS


def test_a_node_that_has_hardly_spoken_is_not_judged() -> None:
    assert spoken().limit_ns() is None
    assert spoken(*[0] * 200).limit_ns() is None
    assert spoken(*[0] * 200, 60_000).limit_ns() is None
    assert spoken(*[60_000] * 9, 90_000).limit_ns() is None


def test_a_node_that_speaks_once_a_minute_may_be_silent_for_minutes() -> None:
    limit = spoken(*[60_000] * 20).limit_ns()
    assert limit is not None
    assert limit >= 150 * NS_PER_S


def test_a_long_pause_is_forgotten_after_some_minutes() -> None:
    pace = spoken(*[100] * 7_000, 60_000, *[100] * 100)
    assert pace.limit_ns() == 150 * NS_PER_S
    assert spoken(*[100] * 7_000, 60_000, *[100] * 2_000).limit_ns() == LEAST_NS


def test_a_silence_that_was_judged_is_learned_in_part() -> None:
    pace = spoken(*[100] * 100)
    pace.heard(pace.heard_ns + 600 * NS_PER_S, longest_ns=pace.limit_ns())
    assert pace.limit_ns() == 4 * NS_PER_S
