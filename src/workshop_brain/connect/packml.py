"""Numbers of machine states on the wire to the product's PackML names.

PackTags (ISA-TR88.00.02) and OPC 30050 number the same states differently; the model holds names
(workshop_brain.model.state.UnitState), so every connector maps here.
"""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.state import UnitState

PACKTAGS: dict[int, UnitState] = {
    0: UnitState.UNKNOWN,
    1: UnitState.CLEARING,
    2: UnitState.STOPPED,
    3: UnitState.STARTING,
    4: UnitState.IDLE,
    5: UnitState.SUSPENDED,
    6: UnitState.EXECUTE,
    7: UnitState.STOPPING,
    8: UnitState.ABORTING,
    9: UnitState.ABORTED,
    10: UnitState.HOLDING,
    11: UnitState.HELD,
    12: UnitState.UNHOLDING,
    13: UnitState.SUSPENDING,
    14: UnitState.UNSUSPENDING,
    15: UnitState.RESETTING,
    16: UnitState.COMPLETING,
    17: UnitState.COMPLETE,
}
"""``Status.StateCurrent`` of ISA-TR88.00.02."""


def unit_states(
    numbers: NDArray[np.float64], numbering: dict[int, UnitState] = PACKTAGS
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """UnitState values of state numbers from the wire, and which of them are known.

    Unknown numbers and NaN become UnitState.UNKNOWN.

    >>> values, known = unit_states(np.array([6.0, 99.0, np.nan]))
    >>> values.tolist(), known.tolist()
    ([6.0, 0.0, 0.0], [True, False, False])
    """
    top = max(numbering)
    table = np.zeros(top + 2)
    listed = np.zeros(top + 2, np.bool_)
    for number, state in numbering.items():
        table[number], listed[number] = float(state), True
    whole = (numbers >= 0) & (numbers <= top) & (np.floor(numbers) == numbers)
    at = np.where(whole, np.nan_to_num(numbers, posinf=0.0, neginf=0.0), top + 1).astype(np.int64)
    return table[at], listed[at]
