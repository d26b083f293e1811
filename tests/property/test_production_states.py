"""States never overlap, leave no gap, and their times sum to calendar time exactly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.model.state import StopReason, UnitState
from workshop_brain.production.kpi import loss_waterfall
from workshop_brain.production.states import StateLog, TimeClass, time_by_class

changes = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 10**15),
        st.sampled_from(list(UnitState)),
        st.sampled_from(list(StopReason)),
    ),
    max_size=60,
)


@given(
    changes,
    st.integers(-(10**14), 10**15),
    st.integers(1, 10**15),
    st.integers(1, 80),
)
def test_intervals_partition_every_window(
    rows: list[tuple[int, int, UnitState, StopReason]], start: int, length: int, capacity: int
) -> None:
    log = StateLog(capacity=capacity)
    for unit, time_ns, state, reason in rows:
        log.append(unit, time_ns, state, reason)
    found = log.intervals(4, start, start + length)
    for unit in range(4):
        mine = found.unit == unit
        begins, ends = found.start_ns[mine], found.end_ns[mine]
        assert begins[0] == start
        assert ends[-1] == start + length
        assert (begins[1:] == ends[:-1]).all()
        assert (ends > begins).all()
    by_class = time_by_class(found, 4)
    assert (by_class.sum(axis=1) == length).all()
    for unit in range(4):
        losses = loss_waterfall(by_class[unit], pri_s=3.7, pq=1000, gq=990)
        assert sum(losses.values()) == length


@given(changes, st.integers(0, 10**15))
def test_state_in_force_is_the_last_change_before(
    rows: list[tuple[int, int, UnitState, StopReason]], at: int
) -> None:
    log = StateLog(capacity=1000)
    for unit, time_ns, state, reason in rows:
        log.append(unit, time_ns, state, reason)
    found = log.intervals(4, at, at + 1)
    for unit in range(4):
        before = [(t, k) for k, (u, t, _, _) in enumerate(rows) if u == unit and t <= at]
        expected = rows[max(before)[1]][2] if before else UnitState.UNKNOWN
        assert found.state[found.unit == unit][0] == expected


def test_every_state_and_reason_has_a_time_class() -> None:
    log = StateLog()
    pairs = [(s, r) for s in UnitState for r in StopReason]
    for k, (state, reason) in enumerate(pairs):
        log.append(0, k, state, reason)
    found = log.intervals(1, 0, len(pairs))
    assert len(found) == len(pairs)
    assert set(np.unique(found.time_class)) == set(TimeClass)
