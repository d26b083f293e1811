"""Sparkplug payloads: what is encoded is decoded again, by our reader and by protobuf's own."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.errors import DecodeError
from workshop_brain.twin import sparkplug_wire as wire
from workshop_brain.twin.sparkplug_wire import DataType

_OPTIONAL, _REPEATED = 1, 3
_U64, _U32, _BOOL, _STRING, _DOUBLE, _FLOAT, _MESSAGE = 4, 13, 8, 9, 1, 2, 11
_FIELDS: dict[str, list[tuple[str, int, int, int, str]]] = {
    "PropertyValue": [
        ("type", 1, _U32, _OPTIONAL, ""), ("long_value", 4, _U64, _OPTIONAL, ""),
        ("double_value", 6, _DOUBLE, _OPTIONAL, ""), ("boolean_value", 7, _BOOL, _OPTIONAL, ""),
        ("string_value", 8, _STRING, _OPTIONAL, ""),
    ],
    "PropertySet": [
        ("keys", 1, _STRING, _REPEATED, ""), ("values", 2, _MESSAGE, _REPEATED, "PropertyValue"),
    ],
    "Element": [("float_value", 3, _FLOAT, _OPTIONAL, "")],
    "Row": [("elements", 1, _MESSAGE, _REPEATED, "Element")],
    "DataSet": [
        ("num_of_columns", 1, _U64, _OPTIONAL, ""), ("columns", 2, _STRING, _REPEATED, ""),
        ("types", 3, _U32, _REPEATED, ""), ("rows", 4, _MESSAGE, _REPEATED, "Row"),
    ],
    "Metric": [
        ("name", 1, _STRING, _OPTIONAL, ""), ("alias", 2, _U64, _OPTIONAL, ""),
        ("timestamp", 3, _U64, _OPTIONAL, ""), ("datatype", 4, _U32, _OPTIONAL, ""),
        ("is_historical", 5, _BOOL, _OPTIONAL, ""), ("is_null", 7, _BOOL, _OPTIONAL, ""),
        ("properties", 9, _MESSAGE, _OPTIONAL, "PropertySet"),
        ("int_value", 10, _U32, _OPTIONAL, ""), ("long_value", 11, _U64, _OPTIONAL, ""),
        ("double_value", 13, _DOUBLE, _OPTIONAL, ""), ("boolean_value", 14, _BOOL, _OPTIONAL, ""),
        ("string_value", 15, _STRING, _OPTIONAL, ""),
        ("dataset_value", 17, _MESSAGE, _OPTIONAL, "DataSet"),
    ],
    "Payload": [
        ("timestamp", 1, _U64, _OPTIONAL, ""), ("metrics", 2, _MESSAGE, _REPEATED, "Metric"),
        ("seq", 3, _U64, _OPTIONAL, ""),
    ],
}  # fmt: skip


def _payload_class() -> Any:
    """A protobuf class for the public Sparkplug B wire format, described here field by field."""
    file = descriptor_pb2.FileDescriptorProto(name="test_sparkplug.proto", package="tsp")
    file.syntax = "proto2"
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for label, number, kind, rule, type_name in fields:
            field = message.field.add(name=label, number=number, type=kind, label=rule)
            if type_name:
                field.type_name = f".tsp.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tsp.Payload"))


PAYLOAD = _payload_class()
_SAMPLE = st.one_of(
    st.tuples(st.just(DataType.DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(DataType.BOOLEAN), st.sampled_from([0.0, 1.0])),
    st.tuples(st.just(DataType.INT32), st.integers(-(2**31), 2**31 - 1).map(float)),
    st.tuples(st.just(DataType.INT64), st.integers(-(2**53), 2**53).map(float)),
)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.lists(_SAMPLE, min_size=1, max_size=30),
    first_alias=st.integers(0, 2**20),
    time_ms=st.integers(1, 2**43),
    seq=st.integers(0, 255),
    historical=st.booleans(),
)
def test_data_by_alias_comes_back_by_value(
    samples: list[tuple[DataType, float]],
    first_alias: int,
    time_ms: int,
    seq: int,
    historical: bool,
) -> None:
    n = len(samples)
    data = wire.data_payload(
        time_ms=time_ms,
        seq=seq,
        signal=np.arange(n),
        alias=np.arange(n) + first_alias,
        datatype=np.array([kind for kind, _ in samples], np.uint8),
        sample_ms=np.arange(n) + time_ms,
        value=np.array([value for _, value in samples]),
        historical=historical,
    )
    mine, peer = wire.decode(data), PAYLOAD.FromString(data)
    assert (mine.time_ms, mine.seq) == (time_ms, seq) == (peer.timestamp, peer.seq)
    for k, (kind, value) in enumerate(samples):
        metric, other = mine.metrics[k], peer.metrics[k]
        assert (metric.alias, metric.time_ms) == (first_alias + k, time_ms + k)
        assert (other.alias, other.timestamp) == (first_alias + k, time_ms + k)
        assert metric.historical == other.is_historical == historical
        assert not metric.name
        assert not other.HasField("datatype")
        assert metric.value == value
        raw = {
            DataType.DOUBLE: other.double_value,
            DataType.BOOLEAN: float(other.boolean_value),
            DataType.INT32: float(np.int32(np.uint32(other.int_value))),
            DataType.INT64: float(np.int64(np.uint64(other.long_value))),
        }[kind]
        assert raw == value


@settings(max_examples=40, deadline=None)
@given(
    name=st.text(min_size=1, max_size=20),
    text=st.text(max_size=40),
    low=st.floats(allow_nan=False),
    count=st.integers(-(2**63), 2**63 - 1),
    flag=st.booleans(),
)
def test_birth_metrics_keep_name_and_properties(
    name: str, text: str, low: float, count: int, flag: bool
) -> None:
    properties: dict[str, wire.PropertyValue] = {
        "path": text, "engLow": low, "count": count, "flag": flag,
    }  # fmt: skip
    metric = wire.metric_bytes(
        name=name,
        alias=7,
        time_ms=5,
        datatype=DataType.STRING,
        properties=wire.property_set(properties),
        value=wire.scalar(DataType.STRING, text),
    )
    data = wire.payload_bytes(9, [metric], 0)
    back = wire.decode(data).metrics[0]
    assert (back.name, back.value, back.properties) == (name, text, properties)
    peer = PAYLOAD.FromString(data).metrics[0]
    assert (peer.name, peer.string_value, list(peer.properties.keys)) == (
        name, text, list(properties),
    )  # fmt: skip
    assert peer.properties.values[1].double_value == low


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False)),
        max_size=40,
    )
)
def test_curves_travel_as_tables(rows: list[tuple[float, float]]) -> None:
    table = np.array(rows, np.float32).reshape(-1, 2)
    value = wire.float_table({"angle_deg": table[:, 0], "torque_nm": table[:, 1]})
    data = wire.payload_bytes(1, [wire.metric_bytes(alias=1, value=value)], 1)
    back = wire.decode(data).metrics[0].value
    assert isinstance(back, wire.DataSet)
    assert back.columns == ("angle_deg", "torque_nm")
    assert np.array_equal(np.array(back.rows, np.float32).reshape(-1, 2), table)
    peer = PAYLOAD.FromString(data).metrics[0].dataset_value
    assert [[e.float_value for e in row.elements] for row in peer.rows] == table.tolist()


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_say_why_not(data: bytes) -> None:
    with suppress(DecodeError):
        assert isinstance(wire.decode(data), wire.Payload)


def test_a_cut_payload_is_refused() -> None:
    metric = wire.metric_bytes(name="x", datatype=10, value=wire.scalar(10, 1.5))
    data = wire.payload_bytes(1, [metric], None)
    with pytest.raises(DecodeError):
        wire.decode(data[:-3])
