"""OPC UA decode speed: our kernel and our numpy path against asyncua's decoder, in one run.

Interleaved rounds on CPU time, with asyncua against itself as control. Every handle, value,
status and time is compared before anything is timed. Run: ``python bench/opcua_decode.py``.
"""

import datetime as dt
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from workshop_brain.connect.opcua import decode
from workshop_brain.connect.opcua.decode import Notifications
from workshop_brain.connect.opcua.plain import Plain

_TYPES = (ua.VariantType.Double, ua.VariantType.Int64, ua.VariantType.Boolean, ua.VariantType.Int32)


def responses(count: int, items: int, rng: np.random.Generator) -> list[bytes]:
    """PublishResponses of mixed scalars, written by asyncua's encoder."""
    stamp = dt.datetime.now(dt.UTC)
    out = []
    for sequence in range(count):
        response = ua.PublishResponse()
        response.Parameters.NotificationMessage.SequenceNumber = sequence + 1
        change = ua.DataChangeNotification()
        for handle in range(items):
            kind = _TYPES[handle % 4]
            number = float(rng.normal()) * 100
            value = (
                number if handle % 4 == 0 else bool(number > 0) if handle % 4 == 2 else int(number)
            )
            item = ua.MonitoredItemNotification()
            item.ClientHandle = handle
            item.Value = ua.DataValue(
                ua.Variant(value, kind), SourceTimestamp=stamp, ServerTimestamp=stamp
            )
            change.MonitoredItems.append(item)
        response.Parameters.NotificationMessage.NotificationData = [change]
        out.append(struct_to_binary(response))
    return out


def stock(body: bytes) -> object:
    """What the stock client does with a response."""
    return struct_from_binary(ua.PublishResponse, Buffer(body))


def through_asyncua(body: bytes) -> Notifications:
    """Columns of a PublishResponse that asyncua decoded: what ours must be equal to."""
    response = struct_from_binary(ua.PublishResponse, Buffer(body))
    response.ResponseHeader.ServiceResult.check()
    result = response.Parameters
    return from_message(
        result.NotificationMessage,
        subscription=int(result.SubscriptionId),
        more=bool(result.MoreNotifications),
        available=tuple(int(x) for x in result.AvailableSequenceNumbers or ()),
    )


def from_message(
    message: Any, *, subscription: int, more: bool = False, available: tuple[int, ...] = ()
) -> Notifications:
    """Columns of an asyncua NotificationMessage."""
    rows: list[tuple[int, float, int, int]] = []
    texts: list[tuple[int, str]] = []
    exact: list[tuple[int, int]] = []
    status_change = None
    publish_ns = _datetime_ns(message.PublishTime)
    for part in message.NotificationData or ():
        if isinstance(part, ua.StatusChangeNotification):
            status_change = int(part.Status.value)
        if not isinstance(part, ua.DataChangeNotification):
            continue
        for item in part.MonitoredItems or ():
            data = item.Value
            value = data.Value.Value if data.Value is not None else None
            if data.Value is not None and (data.Value.is_array or _is_structure(data.Value)):
                value = None  # left encoded
            number = _number(value)
            if number is None and value is not None:
                texts.append((len(rows), _text(value)))
            elif isinstance(value, int) and abs(value) > 1 << 53:
                exact.append((len(rows), value))
            stamp = data.SourceTimestamp or data.ServerTimestamp
            rows.append(
                (
                    int(item.ClientHandle),
                    float("nan") if number is None else number,
                    int(data.StatusCode.value) if data.StatusCode is not None else 0,
                    _datetime_ns(stamp) if stamp is not None else publish_ns,
                )
            )
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return Notifications(
        subscription=subscription,
        sequence=int(message.SequenceNumber),
        more=more,
        publish_ns=publish_ns,
        available=available,
        is_keep_alive=not message.NotificationData,
        handle=np.array(columns[0], np.uint32),
        value=np.array(columns[1], np.float64),
        status=np.array(columns[2], np.uint32),
        time_ns=np.array(columns[3], np.int64),
        texts=texts,
        exact=exact,
        status_change=status_change,
    )


def _is_structure(value: ua.Variant) -> bool:
    return value.VariantType is ua.VariantType.ExtensionObject


def _number(value: object) -> float | None:
    if isinstance(value, (bool, int, float)):
        return float(value)
    if isinstance(value, dt.datetime):
        return _datetime_ns(value) / 1e9
    code = getattr(value, "value", None)
    return float(code) if isinstance(code, int) else None


def _text(value: object) -> str:
    text = getattr(value, "Text", value)
    return text if isinstance(text, str) else str(value)


def _datetime_ns(stamp: dt.datetime) -> int:
    aware = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=dt.UTC)
    delta = aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    ns = (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000
    return max(ns, 0)


def cpu_us(run: Callable[[bytes], object], bodies: Sequence[bytes], items: int) -> float:
    """CPU microseconds per item."""
    start = time.process_time()
    for body in bodies:
        run(body)
    return (time.process_time() - start) * 1e6 / (len(bodies) * items)


def main() -> None:
    """Print microseconds per item and the ratios, for small and large messages."""
    rng = np.random.default_rng(1)
    decode.warm()
    print(
        "items/message   asyncua us/item   control   kernel   ratio (range)   numpy   ratio (range)"
    )
    for items, count in ((20, 60), (150, 20), (2000, 3), (10_000, 1)):
        bodies = responses(count, items, rng)
        plain = Plain()
        for body in bodies:
            theirs = through_asyncua(body)
            for ours in (decode.decode(body), plain.decode(body)):
                assert ours is not None
                for column in ("handle", "value", "status", "time_ns"):
                    assert np.array_equal(getattr(ours, column), getattr(theirs, column))
        rows = []
        for _ in range(5):
            a = cpu_us(stock, bodies, items)
            b = cpu_us(decode.decode, bodies * 50, items)
            d = cpu_us(plain.decode, bodies * 20, items)
            c = cpu_us(stock, bodies, items)
            rows.append((a, c, b, d))
        a, c, b, d = (statistics.median(column) for column in zip(*rows, strict=True))
        kernel, numpy_ = [r[0] / r[2] for r in rows], [r[0] / r[3] for r in rows]
        print(
            f"{items:13d}   {a:15.2f}   {a / c:7.2f}   {b:6.4f}   {_range(kernel):>13s}   "
            f"{d:5.3f}   {_range(numpy_):>13s}"
        )


def _range(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.0f} ({min(ratios):.0f}-{max(ratios):.0f})"


if __name__ == "__main__":
    main()
