"""The path without kernels says what the kernels say, or that they are to be asked."""

import datetime as dt
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.plain import Plain
from workshop_brain.errors import DecodeError

T = ua.VariantType
STAMP = dt.datetime(2026, 3, 1, 8, 30, 15, 250_000, tzinfo=dt.UTC)
NUMBERS: list[st.SearchStrategy[tuple[Any, ua.VariantType]]] = [
    st.tuples(st.floats(), st.just(T.Double)),
    st.tuples(st.floats(width=32), st.just(T.Float)),
    st.tuples(st.booleans(), st.just(T.Boolean)),
    st.tuples(st.just(STAMP), st.just(T.DateTime)),
    st.tuples(st.none(), st.just(T.Null)),
]
for name, bits in (("SByte", 8), ("Int16", 16), ("Int32", 32), ("Int64", 64)):
    signed = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    NUMBERS.append(st.tuples(signed, st.just(T[name])))
for name, bits in (("Byte", 8), ("UInt16", 16), ("UInt32", 32), ("UInt64", 64)):
    NUMBERS.append(st.tuples(st.integers(0, 2**bits - 1), st.just(T[name])))
ROW = st.tuples(
    st.integers(0, 2**32 - 1), st.one_of(NUMBERS), st.sampled_from([None, 0, 0x40000480]),
    st.booleans(), st.booleans(),
)  # fmt: skip
ROWS = st.lists(ROW, max_size=12)


def response(rows: list[Any], sequence: int = 4) -> bytes:
    """A PublishResponse as asyncua's own encoder writes it."""
    out = ua.PublishResponse()
    out.Parameters.SubscriptionId = 7
    out.Parameters.AvailableSequenceNumbers = [3, 4]
    out.Parameters.NotificationMessage.SequenceNumber = sequence
    out.Parameters.NotificationMessage.PublishTime = STAMP
    change = ua.DataChangeNotification()
    for handle, (value, kind), status, has_source, has_server in rows:
        item = ua.MonitoredItemNotification()
        item.ClientHandle = handle
        item.Value = ua.DataValue(
            ua.Variant(value, kind),
            StatusCode=None if status is None else ua.StatusCode(status),
            SourceTimestamp=STAMP if has_source else None,
            ServerTimestamp=STAMP + dt.timedelta(hours=1) if has_server else None,
        )
        change.MonitoredItems.append(item)
    out.Parameters.NotificationMessage.NotificationData = [change] if rows else []
    return struct_to_binary(out)


def same(a: Notifications, b: Notifications) -> None:
    for column in ("handle", "status", "time_ns"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
        assert getattr(a, column).dtype == getattr(b, column).dtype
    np.testing.assert_allclose(a.value, b.value, rtol=1e-15, atol=0)
    assert (a.texts, a.exact, a.nested) == (b.texts, b.exact, b.nested)
    assert (a.subscription, a.sequence, a.available) == (b.subscription, b.sequence, b.available)
    assert (a.is_keep_alive, a.more, a.publish_ns) == (b.is_keep_alive, b.more, b.publish_ns)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_numbers_and_flags_are_read_as_the_kernel_reads_them(messages: list[list[Any]]) -> None:
    plain = Plain()
    for rows in [*messages, *messages]:  # the second time from the layouts that were kept
        body = response(rows)
        found = plain.decode(body)
        assert found is not None
        same(found, decode.decode(body))
    assert len(plain.layouts) <= len(messages)


def test_a_message_of_the_same_length_and_another_layout_is_not_mixed_up() -> None:
    plain = Plain()
    both = [(1, (7, T.Int32), None, True, True), (2, (0.5, T.Double), None, True, True)]
    for rows in (both, both[::-1], both):
        body = response(rows)
        found = plain.decode(body)
        assert found is not None
        same(found, decode.decode(body))


def test_what_has_no_fixed_length_is_left_to_the_kernel() -> None:
    for value in (("S-1", T.String), ([1.0], T.Double), (ua.Range(0.0, 1.0), T.ExtensionObject)):
        assert Plain().decode(response([(1, value, None, True, True)])) is None
    ended = ua.PublishResponse()
    change = ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.BadTimeout))
    ended.Parameters.NotificationMessage.NotificationData = [change]
    assert Plain().decode(struct_to_binary(ended)) is None


KNOWN = response([(k, (k * 0.5, T.Double), 0, True, True) for k in range(4)])


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=5),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
    is_known=st.booleans(),
)
def test_mutated_messages_are_read_alike_or_not_at_all(
    edits: list[tuple[float, int]], cut: float, is_known: bool
) -> None:
    plain, body = Plain(), bytearray(KNOWN)
    if is_known:
        plain.decode(KNOWN)
    for place, byte in edits:
        body[int(place * len(body))] = byte
    spoilt = bytes(body[: int(cut * len(body))])
    found = plain.decode(spoilt)
    try:
        expected = decode.decode(spoilt)
    except DecodeError:
        assert found is None
        return
    if found is not None:
        same(found, expected)
