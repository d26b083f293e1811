"""OPC UA decode speed: our columnar kernel against asyncua's decoder, same responses, same run.

Interleaved rounds on CPU time, with asyncua against itself as control. Every handle, value,
status and time is compared before anything is timed. Run: ``python bench/opcua_decode.py``.
"""

import datetime as dt
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from workshop_brain.connect.opcua import decode

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


def cpu_us(run: Callable[[bytes], object], bodies: Sequence[bytes], items: int) -> float:
    """CPU microseconds per item."""
    start = time.process_time()
    for body in bodies:
        run(body)
    return (time.process_time() - start) * 1e6 / (len(bodies) * items)


def main() -> None:
    """Print microseconds per item and the ratio, for small and large messages."""
    rng = np.random.default_rng(1)
    print("items/message   asyncua us/item   control   ours us/item   ratio (range)")
    for items, count in ((20, 60), (150, 20), (2000, 3), (10_000, 1)):
        bodies = responses(count, items, rng)
        for body in bodies:
            ours, theirs = decode.decode(body), decode.decode_slowly(body)
            assert np.array_equal(ours.handle, theirs.handle)
            assert np.array_equal(ours.value, theirs.value)
            assert np.array_equal(ours.status, theirs.status)
            assert np.array_equal(ours.time_ns, theirs.time_ns)
        rows = []
        for _ in range(5):
            a = cpu_us(stock, bodies, items)
            b = cpu_us(decode.decode, bodies * 50, items)
            c = cpu_us(stock, bodies, items)
            rows.append((a, c, b))
        ratios = [a / b for a, _, b in rows]
        a, c, b = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{items:13d}   {a:15.2f}   {a / c:7.2f}   {b:12.4f}   "
            f"{statistics.median(ratios):5.0f} ({min(ratios):.0f}-{max(ratios):.0f})"
        )


if __name__ == "__main__":
    main()
