"""Coverage-guided fuzzing of the OPC UA decoders (atheris, the extra ``fuzz``).

    NUMBA_DISABLE_JIT=1 python -m bench.fuzz_opcua [-max_total_time=60]

The kernels run as Python, so that atheris sees their branches and a read past the end of a message
raises IndexError instead of reading on. Every answer but columns or DecodeError ends the run. Seeds
are responses that asyncua's encoder wrote.
"""

import datetime as dt
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

if os.environ.get("NUMBA_DISABLE_JIT") != "1":
    sys.exit("set NUMBA_DISABLE_JIT=1: compiled kernels show no coverage")

with atheris.instrument_imports(
    include=[f"workshop_brain.connect.opcua.{name}" for name in ("decode", "parts", "plain")]
):
    from workshop_brain.connect.opcua import decode
    from workshop_brain.connect.opcua.parts import Field, Structure, Types, take_apart
    from workshop_brain.connect.opcua.plain import Plain

import numpy as np
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from workshop_brain.errors import DecodeError

T = ua.VariantType
STAMP = dt.datetime(2026, 3, 1, 8, 30, 15, 250_000, tzinfo=dt.UTC)
VALUES = [
    (1.5, T.Double), (-7, T.Int32), (True, T.Boolean), (0.25, T.Float), (2**60, T.Int64),
    ("S-1", T.String), (-3, T.SByte), (60_000, T.UInt16), (2**64 - 1, T.UInt64), (None, T.Null),
    (ua.LocalizedText("text", "en"), T.LocalizedText), (STAMP, T.DateTime), ([1.0, 2.0], T.Double),
    (ua.Range(0.0, 1.0), T.ExtensionObject), (ua.NodeId("x", 2), T.NodeId),
]  # fmt: skip
RANGE, LOOP = (0, 884), (0, 12)
TYPES = Types(
    structures={
        RANGE: Structure((Field("Low", 11), Field("High", 11))),
        LOOP: Structure((Field("Text", 21), Field("Any", 24), Field("Loop", 0, LOOP, 2))),
    },
    encodings={(0, 886): RANGE},
)


def data_values() -> list[ua.DataValue]:
    """One of each kind."""
    return [
        ua.DataValue(ua.Variant(value, kind), ua.StatusCode(0x40000480), STAMP, STAMP)
        for value, kind in VALUES
    ]


def seeds() -> list[bytes]:
    """The first byte says which decoder, the others are the message."""
    publish = ua.PublishResponse()
    publish.Parameters.AvailableSequenceNumbers = [3, 4]
    change = ua.DataChangeNotification()
    change.MonitoredItems = [ua.MonitoredItemNotification(7, value) for value in data_values()]
    ended = ua.StatusChangeNotification(ua.StatusCode(ua.StatusCodes.BadTimeout))
    publish.Parameters.NotificationMessage.NotificationData = [change, ended]
    history = ua.HistoryReadResponse()
    found = ua.HistoryReadResult(ua.StatusCode(), b"more", ua.HistoryData(data_values()))
    history.Results = [found, ua.HistoryReadResult(ua.StatusCode(0x80000000), None, None)]
    read = ua.ReadResponse()
    read.Results = data_values()
    bodies = [struct_to_binary(m) for m in (publish, history, read)]
    return [bytes([which]) + body for which, body in enumerate(bodies)]


def check(data: bytes) -> bool:
    """Columns (True) or DecodeError (False); of the numpy path also that it says the same."""
    which, body = (data[0] % 3, data[1:]) if data else (0, b"")
    try:
        if which == 0:
            plain = Plain().decode(body)
            found = [decode.decode(body)]
            if plain is not None:
                assert np.array_equal(plain.handle, found[0].handle)
                assert np.array_equal(plain.time_ns, found[0].time_ns)
        elif which == 1:
            found = [past.rows for past in decode.history(body, [0, 1])]
        else:
            found = [decode.values(body, list(range(len(VALUES))), 1)]
    except DecodeError:
        assert which != 0 or Plain().decode(body) is None
        return False
    for rows in found:
        for _, raw in rows.nested:
            with suppress(DecodeError):
                assert len(take_apart(raw, TYPES, most=50).parts()) <= 50
        n = len(rows)
        assert len(rows.value) == len(rows.status) == len(rows.time_ns) == n <= len(body)
        assert (rows.time_ns >= 0).all()
        assert all(row < n for row, _ in (*rows.texts, *rows.exact))
    return True


def target(data: bytes) -> None:
    """What libFuzzer calls."""
    check(data)


def main() -> None:
    """libFuzzer's command line; seeds are added to the corpus."""
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        for at, seed in enumerate(seeds()):
            assert check(seed), f"seed {at} is refused"
            (Path(folder) / f"seed{at}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=4096", "-print_final_stats=1"], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
