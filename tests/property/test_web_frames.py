"""Live frames decode to what was encoded, within the quantisation of the wall."""

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workshop_brain.web.frames import (
    BAD,
    HEADER,
    STALE,
    STALE_QUALITY,
    TAGS,
    TOP,
    WALL,
    Quantiser,
    header,
    tags_frame,
    wall_frame,
)

values = arrays(
    np.float64,
    st.integers(0, 50),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


@settings(max_examples=40)
@given(values, st.data())
def test_wall_frame_round_trip(value: np.ndarray, data: st.DataObject) -> None:
    n = len(value)
    low = data.draw(arrays(np.float64, n, elements=st.floats(-1e6, 1e6)))
    high = low + data.draw(arrays(np.float64, n, elements=st.floats(1e-3, 1e6)))
    quality = data.draw(arrays(np.uint8, n, elements=st.integers(0, 31)))
    stale = data.draw(arrays(np.bool_, n))
    states = data.draw(arrays(np.uint8, st.integers(0, 20), elements=st.integers(0, 17)))
    steps = Quantiser(low, high).steps(value, quality, stale)
    head = header(WALL, lost=True, epoch=n, seq=2**32 + 5, count=n, newest_ns=1_500_000)
    frame = wall_frame(head, steps, states)

    kind, version, flags, epoch, seq, count, newest = HEADER.unpack_from(frame)
    assert (kind, version, flags, epoch, seq, count, newest) == (1, 1, 1, n, 5, n, 1.5)
    shown = np.frombuffer(frame, "<u2", n, HEADER.size)
    (units,) = struct.unpack_from("<I", frame, HEADER.size + 2 * n)
    assert np.frombuffer(frame, np.uint8, units, HEADER.size + 2 * n + 4).tolist() == list(states)
    assert len(frame) == HEADER.size + 2 * n + 4 + units

    bad = np.isnan(value) | (quality & 2 != 0)
    assert (shown[bad] == BAD).all()
    assert (shown[stale & ~bad] == STALE).all()
    good = ~bad & ~stale
    assert (shown[good] <= TOP).all()
    back = low + shown / TOP * (high - low)
    clipped = np.clip(value, low, high)
    assert (np.abs(back - clipped)[good] <= 0.51 * ((high - low) / TOP)[good] + 1e-6).all()


@settings(max_examples=40)
@given(values, st.data())
def test_tags_frame_round_trip(value: np.ndarray, data: st.DataObject) -> None:
    n = len(value)
    quality = data.draw(arrays(np.uint8, n, elements=st.integers(0, 31)))
    stale = data.draw(arrays(np.bool_, n))
    time_ns = data.draw(arrays(np.int64, n, elements=st.integers(0, 2**62)))
    head = header(TAGS, lost=False, epoch=9, seq=1, count=n, newest_ns=0)
    frame = tags_frame(head, value, quality, time_ns, stale)
    assert len(frame) == HEADER.size + n * (4 + 1 + 8)
    shown = np.frombuffer(frame, "<f4", n, HEADER.size)
    grade = np.frombuffer(frame, np.uint8, n, HEADER.size + 4 * n)
    time_ms = np.frombuffer(frame, "<f8", n, HEADER.size + 5 * n)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(shown, value.astype(np.float32))
    assert (grade & 31 == quality).all()
    assert ((grade & STALE_QUALITY != 0) == stale).all()
    np.testing.assert_array_equal(time_ms, time_ns / 1e6)
