"""Live table, unit table and windows: what one batch does to the present."""

import numpy as np
import pytest

from workshop_brain.live.table import LiveTable
from workshop_brain.live.units import Condition, UnitTable
from workshop_brain.live.windows import Window
from workshop_brain.model.event import Event, EventKind
from workshop_brain.model.signal import Quality, Samples, SignalDef, SignalKind
from workshop_brain.model.state import StopReason, UnitState

S = 1_000_000_000
UNIT = "local/works/assembly/asm1/z1/st01"
OTHER = "local/works/assembly/asm1/z1/st02"


def signal(path: str, source: str = "opc", **more: float) -> SignalDef:
    return SignalDef(path=path, kind=SignalKind.GAUGE, source=source, **more)


def batch(*rows: tuple[int, int, float, int]) -> Samples:
    """(signal, time_ns, value, quality) rows as columns."""
    ids, times, values, grades = zip(*rows, strict=True)
    return Samples(
        np.array(ids, np.uint32),
        np.array(times, np.int64),
        np.array(values, np.float64),
        np.array(grades, np.uint8),
    )


def table(n: int = 4) -> LiveTable:
    live = LiveTable()
    live.extend([signal(f"{UNIT}/s{k}", "opc" if k % 2 == 0 else "spb") for k in range(n)])
    return live


def test_newest_source_time_wins_whatever_the_order_in_the_batch() -> None:
    live = table()
    live.update(batch((0, 20 * S, 2.0, 0), (0, 10 * S, 1.0, 0), (1, 5 * S, 7.0, 0)), 99)
    assert live.value[0] == 2.0
    assert live.time_ns[0] == 20 * S
    assert live.newest_ns == 20 * S
    live.update(batch((0, 15 * S, 9.0, Quality.HISTORICAL)), 100)
    assert live.value[0] == 2.0
    assert live.received_ns[0] == 99


def test_of_one_instant_the_last_of_the_batch_wins() -> None:
    live = table()
    live.update(batch((0, S, 1.0, 0), (0, S, 2.0, 0)), 1)
    assert live.value[0] == 2.0
    live.update(batch((0, S, 3.0, 0)), 2)
    assert live.value[0] == 3.0


def test_never_seen_is_bad_and_nan() -> None:
    live = table()
    assert np.isnan(live.value).all()
    assert (live.quality & Quality.BAD).all()


def test_extend_keeps_values_and_raises_the_epoch() -> None:
    live = table(2)
    live.update(batch((1, S, 5.0, 0)), 1)
    live.extend([signal(f"{UNIT}/more")])
    assert live.epoch == 3
    assert live.value[1] == 5.0
    assert live.ids[f"{UNIT}/more"] == 2


def test_stale_follows_the_source_not_the_silence_of_a_signal() -> None:
    live = table()
    live.update(batch((0, S, 1.0, 0)), 1)
    assert not live.stale(10**18).any()
    live.source_lost("opc")
    assert live.stale(0).tolist() == [True, False, True, False]
    assert live.lost_sources(0) == ["opc"]
    live.source_up("opc")
    assert not live.stale(0).any()


def test_a_source_that_is_listened_to_is_stale_after_two_silent_seconds() -> None:
    live = table()
    live.heard("spb", 100 * S)
    assert not live.stale(102 * S).any()
    assert live.stale(102 * S + 1).tolist() == [False, True, False, True]
    live.heard("spb", 103 * S)
    assert not live.stale(104 * S).any()


def test_the_signals_of_a_silent_node_are_stale_until_it_is_back() -> None:
    live = LiveTable()
    signals = [
        SignalDef(path=f"{UNIT}/s{k}", kind=SignalKind.GAUGE, source="spb", address=address)
        for k, address in enumerate(["g/z1/op1/a", "g/z10/op1/a", "g/z1/op2/b"])
    ]
    live.extend(signals[:2])
    live.mark_node("other", "g/z1", stale=True)
    assert not live.stale(0).any()
    live.mark_node("spb", "g/z1", stale=True)
    live.extend(signals[2:])
    live.update(batch((0, S, 1.0, 0)), 1)
    assert live.stale(0).tolist() == [True, False, True]
    live.mark_node("spb", "g/z1", stale=False)
    assert not live.stale(0).any()


def test_a_stamp_far_ahead_does_not_pin_the_value() -> None:
    live, now, day = table(), 10**6 * S, 86_400 * S
    live.update(batch((0, now + day, 1.0, 0)), 1, plant_ns=now)
    assert (live.value[0], live.newest_ns) == (1.0, 0)
    live.update(batch((0, now - day, 2.0, 0)), 2, plant_ns=now)
    assert live.value[0] == 1.0
    live.update(batch((0, now, 3.0, 0)), 3, plant_ns=now)
    live.update(batch((0, now - S, 4.0, 0)), 4, plant_ns=now)
    assert (live.value[0], live.time_ns[0], live.newest_ns) == (3.0, now, now)


NAMES = ("state_current", "stop_reason", "prod_processed_count", "infeed_level", "alarm_code")
STATE, REASON, COUNT, INFEED, ALARM = range(5)


def units() -> UnitTable:
    table = UnitTable()
    table.extend([signal(f"{UNIT}/{name}", high=12.0) for name in NAMES])
    return table


def kinds(events: list[Event]) -> list[EventKind]:
    return [e.kind for e in events]


def test_signals_declared_before_the_state_belong_to_the_unit_too() -> None:
    table = UnitTable()
    table.extend([signal(f"{UNIT}/infeed_level", high=7.0), signal(f"{UNIT}/torque")])
    assert len(table) == 0
    table.update(batch((0, S, 3.0, 0)))
    table.extend([signal(f"{UNIT}/state_current")])
    assert table.paths == [UNIT]
    assert table.infeed_capacity[0] == 7.0
    table.update(batch((0, 2 * S, 4.0, 0)))
    assert table.infeed_level[0] == 4.0


def test_batch_without_unit_signals_says_nothing() -> None:
    table = UnitTable()
    table.extend([signal(f"{UNIT}/torque")])
    assert table.update(batch((0, S, 1.0, 0))) == []


def test_breakdown_and_restoration_with_state_and_reason_of_one_instant() -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.EXECUTE, 0)))
    down = table.update(
        batch((REASON, 5 * S, StopReason.BREAKDOWN, 0), (STATE, 5 * S, UnitState.ABORTED, 0))
    )
    assert kinds(down) == [EventKind.STATE_CHANGED, EventKind.BREAKDOWN]
    assert down[0].payload["previous"] == "EXECUTE"
    assert down[0].payload["lasted_s"] == 4.0
    assert down[1].path == UNIT
    assert table.condition[0] == Condition.BREAKDOWN
    up = table.update(batch((STATE, 9 * S, UnitState.EXECUTE, 0), (REASON, 9 * S, 0, 0)))
    assert kinds(up) == [EventKind.STATE_CHANGED, EventKind.RESTORED]
    assert up[1].payload["cause"] == "breakdown"


def test_breakdown_does_not_wait_for_its_reason() -> None:
    table = units()
    assert EventKind.BREAKDOWN in kinds(table.update(batch((STATE, S, UnitState.ABORTED, 0))))
    later = table.update(batch((REASON, S + 1, StopReason.BREAKDOWN, 0)))
    assert kinds(later) == [EventKind.STATE_CHANGED]


@pytest.mark.parametrize(
    ("reason", "enter", "leave"),
    [
        (StopReason.QUALITY_STOP, EventKind.QUALITY_STOP, EventKind.RESTORED),
        (StopReason.NO_OPERATOR, EventKind.OPERATOR_ABSENT, EventKind.OPERATOR_BACK),
    ],
)
def test_held_units_say_why(reason: StopReason, enter: EventKind, leave: EventKind) -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.EXECUTE, 0)))
    held = table.update(batch((STATE, 2 * S, UnitState.HELD, 0), (REASON, 2 * S, reason, 0)))
    assert kinds(held) == [EventKind.STATE_CHANGED, enter]
    back = table.update(batch((STATE, 3 * S, UnitState.EXECUTE, 0), (REASON, 3 * S, 0, 0)))
    assert kinds(back) == [EventKind.STATE_CHANGED, leave]


def test_short_breakdown_inside_one_live_batch_is_reported() -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.EXECUTE, 0)))
    seen = table.update(
        batch((STATE, 2 * S, UnitState.ABORTED, 0), (STATE, 3 * S, UnitState.EXECUTE, 0))
    )
    assert EventKind.BREAKDOWN in kinds(seen)
    assert EventKind.RESTORED in kinds(seen)


def test_back_filled_breakdown_that_is_over_is_no_condition() -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.EXECUTE, 0)))
    old = Quality.HISTORICAL
    seen = table.update(
        batch((STATE, 2 * S, UnitState.ABORTED, old), (STATE, 3 * S, UnitState.EXECUTE, old))
    )
    assert kinds(seen) == [EventKind.STATE_CHANGED, EventKind.STATE_CHANGED]
    last = table.update(batch((STATE, 4 * S, UnitState.ABORTED, old)))
    assert EventKind.BREAKDOWN in kinds(last)


def test_older_sample_changes_nothing() -> None:
    table = units()
    table.update(batch((STATE, 5 * S, UnitState.EXECUTE, 0)))
    assert table.update(batch((STATE, 4 * S, UnitState.ABORTED, 0))) == []


def test_bad_state_is_unknown_and_does_not_claim_repair() -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.ABORTED, 0)))
    seen = table.update(batch((STATE, 2 * S, float("nan"), Quality.BAD)))
    assert kinds(seen) == [EventKind.STATE_CHANGED]
    assert table.state[0] == UnitState.UNKNOWN
    assert table.condition[0] == Condition.BREAKDOWN
    assert table.update(batch((STATE, 3 * S, 99.0, 0))) == []


def test_counter_gaps_survive_a_reset() -> None:
    table = units()
    for k, count in enumerate([10, 11, 12, 1, 2]):
        table.update(batch((COUNT, (1 + 40 * k) * S, count, 0)))
    assert table.processed[0] == 2
    assert table.usual_gap_s(0) != table.usual_gap_s(0)  # two gaps only: 11-10, 12-11
    table.update(batch((COUNT, 201 * S, 3, 0)))
    assert table.usual_gap_s(0) == 40.0


def test_alarm_comes_and_goes() -> None:
    table = units()
    on = table.update(batch((ALARM, S, 17.0, 0)))
    assert on[0].payload == {"code": 17, "active": True}
    off = table.update(batch((ALARM, 2 * S, 0.0, 0)))
    assert off[0].payload == {"code": 17, "active": False}


def test_state_is_inferred_from_counters_where_there_is_none() -> None:
    table = UnitTable()
    table.extend([signal(f"{OTHER}/prod_processed_count"), signal(f"{OTHER}/starved")])
    for k in range(5):
        table.update(batch((0, (100 + 20 * k) * S, k + 1, 0)))
    assert kinds(table.infer(185 * S)) == [EventKind.STATE_CHANGED]
    assert table.state[0] == UnitState.EXECUTE
    table.update(batch((1, 240 * S, 1.0, 0)))
    table.infer(241 * S)
    assert (table.state[0], table.reason[0]) == (UnitState.SUSPENDED, StopReason.STARVED)
    table.update(batch((1, 242 * S, 0.0, 0)))
    table.infer(243 * S)
    assert table.state[0] == UnitState.IDLE


def test_state_of_a_lost_source_is_unknown() -> None:
    table = units()
    table.update(batch((STATE, S, UnitState.EXECUTE, 0)))
    stale = np.zeros(5, np.bool_)
    assert table.effective_state(stale).tolist() == [UnitState.EXECUTE]
    stale[STATE] = True
    assert table.effective_state(stale).tolist() == [UnitState.UNKNOWN]


def test_window_keeps_the_newest_rows_and_widens() -> None:
    window = Window(width=1, depth=3)
    with pytest.raises(LookupError):
        window.at(0)
    for k in range(5):
        window.push(k * 10, np.array([float(k)]))
    assert window.times().tolist() == [20, 30, 40]
    assert window.at(35)[0] == 30
    assert window.at(0)[0] == 20
    window.push(50, np.array([5.0, 7.0]))
    assert window.values()[-1].tolist() == [5.0, 7.0]
    assert np.isnan(window.values()[0][1])
    window.push(50, np.array([6.0, 8.0]))
    assert len(window) == 3
    assert window.at(50)[1].tolist() == [6.0, 8.0]
