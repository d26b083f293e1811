"""Plant time follows the source stamps at whatever rate they run."""

import pytest

from workshop_brain.app.plan_state import Returns
from workshop_brain.app.plant_clock import PlantClock
from workshop_brain.model.event import EventKind
from workshop_brain.units import NS_PER_MIN, NS_PER_S

WALL = 1_800_000_000 * NS_PER_S


class HandClock(PlantClock):
    """Wall time in the hand."""

    wall = WALL

    def wall_ns(self) -> int:
        return self.wall


@pytest.mark.parametrize("rate", [1.0, 10.0, 0.5])
def test_it_follows_rate_and_offset_through_jitter(rate: float) -> None:
    clock = HandClock()
    assert clock.plant_ns() == WALL
    begin = 1_000_000_000 * NS_PER_S
    last = 0
    for k in range(300):
        clock.wall = WALL + k * NS_PER_S // 10
        delay = (k * 37 % 11) * NS_PER_S // 100
        clock.observe(begin + round((clock.wall - WALL - delay) * rate), clock.wall)
        assert clock.plant_ns() >= last
        last = clock.plant_ns()
    true = begin + (clock.wall - WALL) * rate
    assert clock.rate == pytest.approx(rate, rel=0.02)
    assert abs(clock.plant_ns() - true) < 0.2 * NS_PER_S * rate
    clock.wall += 2 * NS_PER_S
    assert clock.plant_ns() == pytest.approx(true + 2 * rate * NS_PER_S, abs=0.3 * NS_PER_S * rate)


def test_a_restarted_plant_starts_it_anew() -> None:
    clock = HandClock()
    clock.observe(5_000 * NS_PER_S, clock.wall)
    clock.wall += 5 * NS_PER_S
    clock.observe(100 * NS_PER_S, clock.wall)
    assert clock.plant_ns() == 100 * NS_PER_S


def test_returns_are_learned_from_the_stops_seen() -> None:
    returns = Returns({"u": "l"})
    returns.stopped("u", EventKind.BREAKDOWN, WALL)
    # repair times are about exponential: planned is twice the mean of 30 min
    assert returns.down(["u"], WALL + 1) == {"u": WALL + 60 * NS_PER_MIN}
    late = WALL + 60 * NS_PER_MIN
    assert returns.down(["u"], late) == {"u": late + 30 * NS_PER_MIN}
    returns.returned("u", WALL + 70 * NS_PER_MIN)
    returns.stopped("u", EventKind.BREAKDOWN, WALL)
    assert returns.down(["u"], WALL) == {"u": WALL + 80 * NS_PER_MIN}
    returns.stopped("u", EventKind.BREAKDOWN, WALL, until_ns=WALL + 99)
    assert returns.down(["u"], WALL) == {"u": WALL + 99}


def test_one_device_with_a_wrong_clock_does_not_make_plant_time() -> None:
    clock = HandClock()
    for k in range(100):
        clock.wall = WALL + k * NS_PER_S // 10
        clock.observe(clock.wall, clock.wall)
        if k % 3 == 0:
            clock.observe(7_258_118_400 * NS_PER_S, clock.wall)
        assert clock.plant_ns() == clock.wall


def test_a_plant_that_went_on_to_another_time_is_followed() -> None:
    clock = HandClock()
    clock.observe(clock.wall, clock.wall)
    for k in range(10):
        clock.wall = WALL + k * NS_PER_S // 10
        clock.observe(clock.wall + 86_400 * NS_PER_S, clock.wall)
    assert clock.plant_ns() == clock.wall + 86_400 * NS_PER_S


def test_a_fast_plant_is_followed_although_a_first_batch_comes_late() -> None:
    """At 360 times, a quarter of a second without a batch is a minute and a half of plant time."""
    clock = HandClock()
    for k in range(60):
        clock.wall = WALL + k * NS_PER_S // 4
        clock.observe(WALL + 360 * (clock.wall - WALL), clock.wall)
    true = WALL + 360 * (clock.wall - WALL)
    assert clock.rate == pytest.approx(360, rel=0.02)
    assert abs(clock.plant_ns() - true) < 90 * NS_PER_S
