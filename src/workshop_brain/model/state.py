"""Machine states by their PackML names (ISA-TR88.00.02) and why a unit is not producing.

Numbers on the wire differ between PackTags and OPC 30050, so the model holds names; the member
values are this product's own storage codes, and every connector maps its numbers to the names.
"""

from enum import IntEnum


class UnitState(IntEnum):
    """PackML state of a work unit. ``UNKNOWN`` when the signal is missing or bad.

    Held waits for a cause *inside* the unit; suspended is starved or blocked from *outside*.
    """

    UNKNOWN = 0
    CLEARING = 1
    STOPPED = 2
    STARTING = 3
    IDLE = 4
    SUSPENDED = 5
    EXECUTE = 6
    STOPPING = 7
    ABORTING = 8
    ABORTED = 9
    HOLDING = 10
    HELD = 11
    UNHOLDING = 12
    SUSPENDING = 13
    UNSUSPENDING = 14
    RESETTING = 15
    COMPLETING = 16
    COMPLETE = 17


class UnitMode(IntEnum):
    """PackML unit mode."""

    INVALID = 0
    PRODUCTION = 1
    MAINTENANCE = 2
    MANUAL = 3


class StopReason(IntEnum):
    """Why a unit is not producing: the reason code that the plant's PLCs publish."""

    NONE = 0
    STARVED = 1
    BLOCKED = 2
    SETUP = 3
    BREAKDOWN = 4
    MICRO_STOP = 5
    TOOL_CHANGE = 6
    QUALITY_STOP = 7
    NO_OPERATOR = 8
    PLANNED_STOP = 9
    NO_JOB = 10
    MAINTENANCE = 11
    WAITING_BATCH = 12


DOWN_STATES = frozenset({UnitState.ABORTING, UnitState.ABORTED, UnitState.CLEARING})
RUNNING_STATES = frozenset({UnitState.EXECUTE, UnitState.COMPLETING})
