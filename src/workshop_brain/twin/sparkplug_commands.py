"""Commands over Sparkplug: the writable metrics of a device and what they mean for the plant.

They stand beside the device's signals in its birth, with aliases of their own.
Hosts take ``Device Control/`` for commands, not for signals, as they do ``Node Control/``.
"""

from workshop_brain.twin import sparkplug_wire as wire
from workshop_brain.twin.commands import Command, QualityStop, RepairUnit

QUALITY_STOP = "Device Control/Quality Stop"
"""Double, seconds > 0: hold the device for a quality problem."""
REPAIR = "Device Control/Repair"
"""Boolean, true: end every stop of the device now."""
LONGEST_S = 7 * 86_400.0


def device_command(path: str, name: str, value: object) -> Command | None:
    """What writing ``value`` to metric ``name`` of a device commands; None for nothing to do.

    Raises KeyError when no such metric can be written, ValueError when the value makes no sense.

    >>> device_command("a/b", QUALITY_STOP, 90)
    QualityStop(path='a/b', duration_s=90.0)
    """
    if name == REPAIR:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, got {value!r}")
        return RepairUnit(path) if value else None
    if name == QUALITY_STOP:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number of seconds, got {value!r}")
        if not 0.0 < value <= LONGEST_S:
            raise ValueError(f"must be above 0 and up to {LONGEST_S:g} seconds, got {value!r}")
        return QualityStop(path, float(value))
    raise KeyError(name)


WRITABLE = (QUALITY_STOP, REPAIR)
FIRST_ALIAS = 20_000


def alias_of(device: int, name: str) -> int:
    """Alias of a writable metric of a node's ``device``-th device."""
    return FIRST_ALIAS + len(WRITABLE) * device + WRITABLE.index(name)


def writable_metrics(device: int, time_ms: int) -> list[bytes]:
    """The writable metrics of a node's ``device``-th device as they stand in its birth."""
    kind = wire.DataType
    return [
        wire.metric_bytes(
            name=name,
            alias=alias_of(device, name),
            time_ms=time_ms,
            datatype=datatype,
            value=wire.scalar(datatype, 0),
        )
        for name, datatype in ((QUALITY_STOP, kind.DOUBLE), (REPAIR, kind.BOOLEAN))
    ]
