"""Whatever bytes come from the network, the decoders answer with columns or DecodeError."""

import datetime as dt
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from bench.opcua_decode import through_asyncua
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect import handover
from workshop_brain.connect.opcua import decode
from workshop_brain.connect.sparkplug import wire
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import Samples

T = ua.VariantType
STAMP = dt.datetime(2026, 3, 1, 8, 30, 15, 250_000, tzinfo=dt.UTC)


def response(values: list[tuple[Any, ua.VariantType]], *, status: int = 0) -> bytes:
    """A PublishResponse as asyncua's own encoder writes it."""
    out = ua.PublishResponse()
    out.Parameters.SubscriptionId = 7
    out.Parameters.AvailableSequenceNumbers = [3, 4]
    out.Parameters.NotificationMessage.SequenceNumber = 4
    change = ua.DataChangeNotification()
    for handle, (value, kind) in enumerate(values):
        item = ua.MonitoredItemNotification()
        item.ClientHandle = handle
        item.Value = ua.DataValue(
            ua.Variant(value, kind),
            StatusCode=ua.StatusCode(status) if handle % 2 else None,
            SourceTimestamp=STAMP if handle % 3 else None,
            ServerTimestamp=STAMP,
        )
        change.MonitoredItems.append(item)
    out.Parameters.NotificationMessage.NotificationData = [change]
    return struct_to_binary(out)


MIXED = [
    (1.5, T.Double), (-7, T.Int32), (True, T.Boolean), (0.25, T.Float), (2**40, T.Int64),
    ("S-1 变速器", T.String), (-3, T.SByte), (200, T.Byte), (-300, T.Int16), (60_000, T.UInt16),
    (4_000_000_000, T.UInt32), (2**64 - 1, T.UInt64), (-(2**60) - 1, T.Int64), (None, T.Null),
    (ua.LocalizedText("text", "en"), T.LocalizedText), (STAMP, T.DateTime), ("", T.String),
]  # fmt: skip
RECORDED = [
    response(MIXED * 3, status=0x40000480),
    response([(k * 0.5, T.Double) for k in range(60)]),
    response([]),
]


def same(a: decode.Notifications, b: decode.Notifications) -> None:
    np.testing.assert_array_equal(a.handle, b.handle)
    np.testing.assert_array_equal(a.status, b.status)
    np.testing.assert_array_equal(a.time_ns, b.time_ns)
    np.testing.assert_allclose(a.value, b.value, rtol=0, atol=1e-6, equal_nan=True)
    assert (a.texts, a.exact) == (b.texts, b.exact)
    assert (a.subscription, a.sequence, a.available) == (b.subscription, b.sequence, b.available)
    assert (a.is_keep_alive, a.more, a.publish_ns) == (b.is_keep_alive, b.more, b.publish_ns)


@pytest.mark.parametrize("body", RECORDED, ids=[f"body-{k}" for k in range(len(RECORDED))])
def test_the_kernel_decodes_what_asyncua_decodes(body: bytes) -> None:
    same(decode.decode(body), through_asyncua(body))


def test_arrays_and_structures_are_left_encoded_and_rare_scalars_become_texts() -> None:
    node, name = ua.NodeId("x", 2), ua.QualifiedName("n", 1)
    values = [
        ([1.0, 2.0], T.Double), (["a", "b"], T.String), (ua.Range(0.0, 1.0), T.ExtensionObject),
        (3.0, T.Double),
    ]  # fmt: skip
    message = decode.decode(response(values))
    assert message.texts == []
    assert [row for row, _ in message.nested] == [0, 1, 2]
    np.testing.assert_array_equal(message.value, [np.nan, np.nan, np.nan, 3.0])
    message = decode.decode(response([(node, T.NodeId), (name, T.QualifiedName), (3.0, T.Double)]))
    assert [row for row, _ in message.texts] == [0, 1]
    assert message.value[2] == 3.0


def test_an_array_that_claims_two_thousand_million_nulls_is_refused() -> None:
    body = bytearray(response([(None, T.Null)]))
    at = bytes(body).rindex(b"\x00\x00\x00\x00" + b"\x09\x00")  # handle 0, mask value + server time
    body[at + 5 : at + 6] = b"\x80" + (2**31 - 1).to_bytes(4, "little")
    with pytest.raises(DecodeError):
        decode.decode(bytes(body))


def test_integers_beyond_2_53_keep_their_digits() -> None:
    message = decode.decode(response([(2**53 + 1, T.Int64), (2**64 - 1, T.UInt64), (5, T.Int64)]))
    assert message.exact == [(0, 2**53 + 1), (1, 2**64 - 1)]
    assert message.value[2] == 5.0


def test_a_fault_and_a_status_change_are_told() -> None:
    fault = ua.PublishResponse()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadTooManyPublishRequests)
    with pytest.raises(DecodeError, match="0x80780000"):
        decode.decode(struct_to_binary(fault))
    ended = ua.PublishResponse()
    change = ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.BadTimeout))
    ended.Parameters.NotificationMessage.NotificationData = [change]
    assert decode.decode(struct_to_binary(ended)).status_change == ua.StatusCodes.BadTimeout


def check_opcua(body: bytes) -> None:
    try:
        message = decode.decode(body)
    except DecodeError:
        return
    n = len(message)
    assert len(message.value) == len(message.status) == len(message.time_ns) == n
    assert n <= len(body) // 5 + 1
    assert (message.time_ns >= 0).all()
    assert all(row < n for row, _ in message.texts)


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, len(RECORDED) - 1),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 0.999)),
)
def test_mutated_opcua_responses_never_crash(
    which: int, edits: list[tuple[float, int]], cut: float | None
) -> None:
    body = bytearray(RECORDED[which])
    for place, byte in edits:
        body[int(place * len(body))] = byte
    check_opcua(bytes(body if cut is None else body[: int(cut * len(body))]))


def test_every_prefix_and_every_large_length_of_a_response_is_refused_or_read() -> None:
    body = RECORDED[0]
    for size in range(len(body)):
        check_opcua(body[:size])
        check_opcua(body[:size] + b"\xff" * 8 + body[size + 8 :])
        check_opcua(body[:size] + b"\xff\xff\xff\x7f" + body[size + 4 :])


def history() -> bytes:
    """A HistoryReadResponse to two nodes as asyncua's own encoder writes it."""
    out = ua.HistoryReadResponse()
    stamped = [
        ua.DataValue(ua.Variant(v, k), SourceTimestamp=STAMP, ServerTimestamp=STAMP)
        for v, k in MIXED
    ]
    refused = ua.StatusCode(ua.StatusCodes.BadHistoryOperationUnsupported)
    out.Results = [
        ua.HistoryReadResult(ua.StatusCode(), b"more", ua.HistoryData(stamped)),
        ua.HistoryReadResult(refused, None, None),
    ]
    return struct_to_binary(out)


def test_history_has_the_values_of_each_node_and_where_it_goes_on() -> None:
    first, second = decode.history(history(), [7, 9])
    live = decode.decode(response(MIXED))
    np.testing.assert_array_equal(first.rows.value, live.value)
    assert (first.rows.texts, first.rows.exact) == (live.texts, live.exact)
    assert set(first.rows.handle.tolist()) == {7}
    assert (first.more, first.status) == (b"more", 0)
    assert (first.rows.time_ns == int(STAMP.timestamp()) * 10**9 + 250_000_000).all()
    assert second.status == ua.StatusCodes.BadHistoryOperationUnsupported
    assert (second.more, len(second.rows)) == (b"", 0)
    with pytest.raises(DecodeError, match="none to 3 nodes"):
        decode.history(history(), [1, 2, 3])


def test_values_that_were_read_get_our_time_when_they_have_none() -> None:
    out = ua.ReadResponse()
    out.Results = [
        ua.DataValue(ua.Variant(1.5, T.Double), SourceTimestamp=STAMP),
        ua.DataValue(ua.Variant(7, T.Int32)),
    ]
    found = decode.values(struct_to_binary(out), [4, 2], 99)
    assert found.handle.tolist() == [4, 2]
    assert found.value.tolist() == [1.5, 7]
    assert found.time_ns[1] == 99


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 0.999)),
)
def test_mutated_histories_never_crash(edits: list[tuple[float, int]], cut: float | None) -> None:
    body = bytearray(history())
    for place, byte in edits:
        body[int(place * len(body))] = byte
    body = body if cut is None else body[: int(cut * len(body))]
    with suppress(DecodeError):
        for past in decode.history(bytes(body), [1, 2]):
            assert len(past.rows.value) == len(past.rows.time_ns) <= len(body)
    with suppress(DecodeError):
        decode.values(bytes(body), [1, 2], 5)


def varint(value: int) -> bytes:
    return wire._number(value)


def metric(alias: int, tail: bytes) -> bytes:
    inner = b"\x10" + varint(alias) + b"\x18" + varint(1_780_000_000_000) + tail
    return b"\x12" + varint(len(inner)) + inner


TABLE = wire.AliasTable(
    np.array([0, 1, 2, 3, 4, -1], np.int32),
    np.arange(5, dtype=np.uint32),
    np.array([0, 32, 64, 0, 0], np.uint8),
)
PAYLOAD = b"".join(
    [
        b"\x08" + varint(1_780_000_000_000),
        metric(0, b"\x69" + np.float64(2.5).tobytes()),
        metric(1, b"\x50" + varint(2**32 - 7)),
        metric(2, b"\x58" + varint(2**64 - 9)),
        metric(3, b"\x70\x01\x28\x01"),
        metric(4, b"\x7a\x03abc"),
        metric(5, b"\x70\x01"),
        metric(99, b"\x70\x01"),
        metric(0, b"\x38\x01"),
        metric(0, b"\x65" + np.float32(0.5).tobytes()),
        b"\x18\x07",
    ]
)


def test_a_sparkplug_payload_becomes_columns() -> None:
    data = wire.read_data(PAYLOAD, TABLE)
    assert (data.time_ms, data.seq) == (1_780_000_000_000, 7)
    np.testing.assert_array_equal(data.signal, [0, 1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(data.value, [2.5, -7, -9, 1, np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(data.quality, [0, 0, 0, 8, 0, 2, 0])
    assert (data.time_ns == 1_780_000_000_000 * 10**6).all()
    assert data.special[:, 0].tolist() == [wire.TEXT, wire.UNKNOWN_ALIAS, wire.UNKNOWN_ALIAS]


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 0.999)),
)
def test_mutated_sparkplug_payloads_never_crash(
    edits: list[tuple[float, int]], cut: float | None
) -> None:
    body = bytearray(PAYLOAD)
    for place, byte in edits:
        body[int(place * len(body))] = byte
    payload = bytes(body if cut is None else body[: int(cut * len(body))])
    try:
        data = wire.read_data(payload, TABLE)
    except DecodeError:
        pass
    else:
        assert (data.signal < 5).all()
        for row in data.special.tolist():
            assert 0 <= row[2] + row[3] <= len(payload) or row[0] == wire.EXACT
    with suppress(DecodeError):
        wire.read_payload(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    for read in (
        lambda b: wire.read_data(b, TABLE),
        wire.read_payload,
        decode.decode,
        handover.unpack_batch,
        handover.unpack_curve,
        handover.unpack_event,
        handover.unpack_hello,
        handover.unpack_texts,
        lambda b: handover.unpack_declare(b, source="s"),
        lambda b: wire.read_table(b, 0, len(b)),
    ):
        with suppress(DecodeError):
            read(body)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**62),
            st.floats(allow_nan=True),
            st.integers(0, 31),
        ),
        max_size=40,
    ),
    seq=st.integers(1, 2**63),
)
def test_a_batch_comes_back_as_it_was(rows: list[tuple[int, int, float, int]], seq: int) -> None:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    samples = Samples(
        np.array(columns[0], np.uint32),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.uint8),
    )
    got_seq, got_ns, got = handover.unpack_batch(handover.pack_batch(seq, 5, samples)[5:])
    assert (got_seq, got_ns) == (seq, 5)
    for name in ("signal", "time_ns", "value", "quality"):
        np.testing.assert_array_equal(getattr(got, name), getattr(samples, name))
