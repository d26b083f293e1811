"""Sparkplug decode speed: our scanner to sample columns against protobuf (upb) to Python tuples.

Both decode the same alias-only DDATA payloads in the same run, in interleaved rounds, on CPU time.
Run: ``python bench/sparkplug_decode.py``.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from workshop_brain.connect.sparkplug import wire

_FIELD = descriptor_pb2.FieldDescriptorProto


def schema() -> tuple[Any, Any]:
    """(Payload, Metric) classes of the part of the public Sparkplug B schema used here."""
    file = descriptor_pb2.FileDescriptorProto(name="sp.proto", package="sp", syntax="proto2")
    metric = file.message_type.add(name="Metric")
    for name, number, kind in [
        ("name", 1, _FIELD.TYPE_STRING), ("alias", 2, _FIELD.TYPE_UINT64),
        ("timestamp", 3, _FIELD.TYPE_UINT64), ("datatype", 4, _FIELD.TYPE_UINT32),
        ("is_historical", 5, _FIELD.TYPE_BOOL), ("is_null", 7, _FIELD.TYPE_BOOL),
        ("int_value", 10, _FIELD.TYPE_UINT32), ("long_value", 11, _FIELD.TYPE_UINT64),
        ("float_value", 12, _FIELD.TYPE_FLOAT), ("double_value", 13, _FIELD.TYPE_DOUBLE),
        ("boolean_value", 14, _FIELD.TYPE_BOOL), ("string_value", 15, _FIELD.TYPE_STRING),
    ]:  # fmt: skip
        metric.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    payload = file.message_type.add(name="Payload")
    payload.field.add(
        name="timestamp", number=1, type=_FIELD.TYPE_UINT64, label=_FIELD.LABEL_OPTIONAL
    )
    payload.field.add(
        name="metrics", number=2, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_REPEATED,
        type_name=".sp.Metric",
    )  # fmt: skip
    payload.field.add(name="seq", number=3, type=_FIELD.TYPE_UINT64, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName("sp.Payload")),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("sp.Metric")),
    )


def payload_of(payload_class: Any, count: int, rng: np.random.Generator) -> bytes:
    """A DDATA payload of ``count`` metrics: double, int32, int64 and boolean in turn."""
    out = payload_class(timestamp=1_780_000_000_000, seq=3)
    for k in range(count):
        metric = out.metrics.add(alias=k, timestamp=1_780_000_000_000 + k)
        if k % 4 == 0:
            metric.double_value = float(rng.normal())
        elif k % 4 == 1:
            metric.int_value = int(rng.integers(0, 2**32))
        elif k % 4 == 2:
            metric.long_value = int(rng.integers(0, 2**40))
        else:
            metric.boolean_value = bool(rng.integers(2))
    data: bytes = out.SerializeToString()
    return data


def upb_tuples(payload_class: Any, data: bytes) -> list[tuple[int, int, Any]]:
    """What a host without a columnar reader does."""
    message = payload_class.FromString(data)
    out = []
    for m in message.metrics:
        if m.HasField("double_value"):
            value: Any = m.double_value
        elif m.HasField("int_value"):
            value = m.int_value
        elif m.HasField("long_value"):
            value = m.long_value
        else:
            value = m.boolean_value
        out.append((m.alias, m.timestamp, value))
    return out


def seconds(run: Callable[[], object], times: int) -> float:
    """CPU seconds of ``times`` runs."""
    start = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - start


def main() -> None:
    """Print microseconds per metric, samples per second and core, and the ratio."""
    payload_class, _ = schema()
    rng = np.random.default_rng(1)
    bits = np.array([0, 32, 64, 0] * 256, np.uint8)
    table = wire.AliasTable(np.arange(1024, dtype=np.int32), np.arange(1024, dtype=np.uint32), bits)
    print("metrics/message   upb us/metric   ours us/metric   ours samples/s/core   ratio")
    for count in (20, 80, 200, 500):
        data = payload_of(payload_class, count, rng)
        ours = wire.read_data(data, table)
        signed = np.array(
            [
                v - 2**32 if i % 4 == 1 and v >= 2**31 else v
                for i, (_, _, v) in enumerate(upb_tuples(payload_class, data))
            ]
        )
        assert np.array_equal(ours.value, signed.astype(float))
        theirs, mine = [], []
        for _ in range(7):
            theirs.append(seconds(lambda d=data: upb_tuples(payload_class, d), 4000 // count))
            mine.append(seconds(lambda d=data: wire.read_data(d, table), 40_000 // count))
        a = statistics.median(theirs) / (4000 // count * count) * 1e6
        b = statistics.median(mine) / (40_000 // count * count) * 1e6
        print(f"{count:15d}   {a:13.3f}   {b:14.4f}   {1e6 / b:19,.0f}   {a / b:5.1f}")


if __name__ == "__main__":
    main()
