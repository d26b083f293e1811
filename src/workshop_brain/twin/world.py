"""The simulated world as flat arrays: what the kernel of `des` reads and writes.

Every record field has eight bytes, so records have no padding and their bytes are the whole truth
(the fingerprint hashes them). Times are ns since the epoch; -1 stands for "none" in indices.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max

# phases of a station
WAIT, WORK, DONE, DOWN, MICRO, TOOL, SETUP = range(7)
# kinds of a station: takes from a buffer; takes from its job list; one load at a time; endless
FLOW, JOB, LOAD, SOURCE = range(4)
# roles of a station in quality: makes parts; tests for leaks; end-of-line test; repairs
MAKE, LEAK, BENCH, REPAIR_PLACE = range(4)
# job states, in the order of model.order.JobState at the receiver
NOT_ALLOWED, ALLOWED, RUNNING, ENDED, ABORTED = range(5)
# kinds of notices
JOB_STARTED, JOB_ENDED, UNIT_DOWN, UNIT_UP, UNIT_FREE, CALENDAR = range(6)
# cells of the clock
NOW, HEAP_N, LOG_N, CYCLE_N, NOTICE_N, LOGGING, SERIAL, FREE_N, WAKE_N, EVENTS, PALLET, SEED, BURN, PIECES_OUT, PIECES_SCRAP, WAKE_AT, MISMATCH, ESCAPED, REWORKS, RETESTS = range(20)  # fmt: skip
CLOCK_CELLS = 24


def _record(ints: str, floats: str = "") -> np.dtype[Any]:
    return np.dtype([(f, "i8") for f in ints.split()] + [(f, "f8") for f in floats.split()])


STATION = _record(
    "kind role center input second output reject device phase piece remaining interrupt began "
    "ends n fails tools micros retries hold hold_reason paused job family queue since reason state "
    "waking exponential lot setups heated left operators",
    "cycle_s sigma mtbf_s mttr_s micro_p micro_s tool_life tool_s nok_p latent_p speed rise_c "
    "wear temp_c lot_factor",
)
BUFFER = _record("capacity count head first size user0 user1 maker0 maker1")
DEVICE = _record(
    "state mode reason blocked starved processed defective infeed job serial station host held "
    "klass agv_until"
)
JOB_ROW = _record(
    "state station center product family quantity use good scrap launched priority planned "
    "started ended next req_at req_n arrival cleared"
)
JOB_REQUEST = _record("request quantity use out")
REQUEST_STEP = _record("done good ready taken good_taken")
REQUEST = _record("product quantity finished scrap done_at")
CENTER = _record("closed first_unit last_unit transport cal_at cal_end kind shift setup_ns setups")
PIECE = _record("serial job product number defect nok reworked born")
CHANGE = _record("t device field", "value")
CYCLE_ROW = _record("t device serial product began ok lot cause", "wear")
NOTICE = _record("t kind station job")


class World(NamedTuple):
    """All arrays of one simulated plant.

    Attributes
    ----------
    users, makers
        Stations behind and before each buffer, CSR by ``BUFFER.user0..user1`` and ``maker0..``.
    spent : int64, (stations, 13) ns in each StopReason, NONE = executing
    hosted : devices that follow a station, CSR by ``host_ptr``
    step_s, step_family, step_after : by (product, center[, center])
    setup : int64 ns by (center, from family, to family)
    due, heap, position : the indexed heap of timers: stations, then devices, then centers, then
        AGVs; each timer has one place, so nothing in it is ever out of date
    """

    clock: NDArray[np.int64]
    st: NDArray[np.void]
    bf: NDArray[np.void]
    ring: NDArray[np.int64]
    users: NDArray[np.int64]
    makers: NDArray[np.int64]
    dv: NDArray[np.void]
    host_ptr: NDArray[np.int64]
    hosted: NDArray[np.int64]
    agvs: NDArray[np.int64]
    jb: NDArray[np.void]
    jr: NDArray[np.void]
    rq: NDArray[np.void]
    rs: NDArray[np.void]
    ct: NDArray[np.void]
    edges: NDArray[np.int64]
    step_s: NDArray[np.float64]
    step_family: NDArray[np.int64]
    step_after: NDArray[np.int64]
    setup: NDArray[np.int64]
    pc: NDArray[np.void]
    free: NDArray[np.int64]
    announce: NDArray[np.int64]
    wake: NDArray[np.int64]
    spent: NDArray[np.int64]
    due: NDArray[np.int64]
    heap: NDArray[np.int64]
    position: NDArray[np.int64]
    physics: NDArray[np.float64]
    changes: NDArray[np.void]
    cycles: NDArray[np.void]
    notices: NDArray[np.void]
