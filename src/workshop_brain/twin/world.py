"""The simulated world as one flat record: what the kernel of `des` reads and writes.

One record of fixed size is passed by address, so kernels take it in a nanosecond (a tuple of arrays
cost 13 us an event in reference counts) and compile once for all plants. Every field has eight
bytes, so there is no padding and the bytes are the whole truth (the fingerprint hashes them).
Times are ns since the epoch; -1 stands for "none" in indices.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max

# phases of a station
WAIT, WORK, DONE, DOWN, MICRO, TOOL, SETUP = range(7)
# kinds of a station: takes from a buffer; takes from its job list; one load at a time; endless
FLOW, JOB, LOAD, SOURCE = range(4)
# roles of a station in quality: makes parts; tests for leaks; end-of-line test; repairs
MAKE, LEAK, BENCH, REPAIR_PLACE = range(4)
# job states at the receiver
NOT_ALLOWED, ALLOWED, RUNNING, ENDED, ABORTED = range(5)
# kinds of notices
JOB_STARTED, JOB_ENDED, UNIT_DOWN, UNIT_UP, UNIT_FREE, CALENDAR = range(6)

# room in the record; a plant that needs more is refused by `layout`
STATIONS, BUFFERS, RING, LINKS, DEVICES, AGVS = 256, 256, 1 << 15, 512, 512, 64
GATES = 64
CENTERS, PRODUCTS, FAMILIES, EDGES = 12, 64, 24, 1 << 14
JOBS, JOB_REQUESTS, REQUESTS, PIECES = 1 << 16, 1 << 17, 1 << 15, 1 << 14
CHANGES, CYCLES, NOTICES = 1 << 16, 1 << 15, 1 << 14
TIMERS = STATIONS + DEVICES + CENTERS + AGVS
REASONS = 13


def _record(ints: str, floats: str = "") -> np.dtype[Any]:
    return np.dtype([(f, "i8") for f in ints.split()] + [(f, "f8") for f in floats.split()])


STATION = _record(
    "kind role center input second output reject device phase piece remaining interrupt began "
    "ends n fails tools micros retries hold hold_reason paused job family queue since reason state "
    "waking exponential lot setups heated left operators length split switch gone",
    "cycle_s sigma mtbf_s mttr_s micro_p micro_s tool_life tool_s nok_p latent_p speed rise_c "
    "wear temp_c lot_factor op_share op1_s op2_s",
)
BUFFER = _record("capacity count head first user0 user1 maker0 maker1")
DEVICE = _record(
    "state mode reason blocked starved processed defective infeed job serial station held klass "
    "agv_until"
)
JOB_ROW = _record(
    "state station center product family quantity use good scrap launched priority planned "
    "started ended next req_at req_n arrival cleared"
)
JOB_REQUEST = _record("request quantity use out")
REQUEST_STEP = _record("done good ready taken good_taken")
REQUEST = _record("product quantity finished scrap done_at")
CENTER = _record("closed transport cal_at cal_end kind shift setup_ns setups")
PIECE = _record("serial job product number defect nok reworked born")
CHANGE = _record("t device field", "value")
CYCLE_ROW = _record("t device serial product began ok lot cause switch operation", "wear")
NOTICE = _record("t kind station job")
GATE = _record("first last limit")

_COUNTERS = (
    "now seed stations buffers devices centers agv_n announce_n jobs job_requests requests "
    "heap_n log_n cycle_n notice_n logging serial free_n wake_at wake_n events pallet pieces_out "
    "pieces_scrap mismatch escaped reworks retests entered gates gate_ns pace_ns inside_ns "
    "inside_at"
)
_PHYSICS = (
    "p_detect_leak p_detect_bench p_false p_unrepairable p_absent p_absent_s p_ambient p_sigma "
    "p_lot_size p_pallet p_pallet_s p_temp_tau p_tool_wear p_tool_idle_wear"
)
WORLD = np.dtype(
    [(name, "i8") for name in _COUNTERS.split()]
    + [(name, "f8") for name in _PHYSICS.split()]
    + [
        ("st", STATION, (STATIONS,)),
        ("bf", BUFFER, (BUFFERS,)),
        ("ring", "i8", (RING,)),
        ("users", "i8", (LINKS,)),
        ("makers", "i8", (LINKS,)),
        ("dv", DEVICE, (DEVICES,)),
        ("host_ptr", "i8", (STATIONS + 1,)),
        ("hosted", "i8", (DEVICES,)),
        ("agvs", "i8", (AGVS,)),
        ("announce", "i8", (16,)),
        ("gate", GATE, (GATES,)),
        ("jb", JOB_ROW, (JOBS,)),
        ("jr", JOB_REQUEST, (JOB_REQUESTS,)),
        ("rq", REQUEST, (REQUESTS,)),
        ("rs", REQUEST_STEP, (REQUESTS, CENTERS)),
        ("ct", CENTER, (CENTERS,)),
        ("edges", "i8", (EDGES,)),
        ("step_s", "f8", (PRODUCTS, CENTERS)),
        ("step_family", "i8", (PRODUCTS, CENTERS)),
        ("step_after", "i8", (PRODUCTS, CENTERS, CENTERS)),
        ("setup", "i8", (CENTERS, FAMILIES, FAMILIES)),
        ("pc", PIECE, (PIECES,)),
        ("free", "i8", (PIECES,)),
        ("wake", "i8", (STATIONS,)),
        ("spent", "i8", (STATIONS, REASONS)),
        ("due", "i8", (TIMERS,)),
        ("heap", "i8", (TIMERS,)),
        ("position", "i8", (TIMERS,)),
        ("changes", CHANGE, (CHANGES,)),
        ("cycles", CYCLE_ROW, (CYCLES,)),
        ("notices", NOTICE, (NOTICES,)),
    ]
)


class World:
    """One simulated plant: really an ``np.record`` of dtype WORLD, this class names its fields.

    Attributes
    ----------
    stations, buffers, devices, centers, agv_n, jobs, job_requests, requests
        Rows in use of the arrays below.
    users, makers
        Stations behind and before each buffer, CSR by ``BUFFER.user0..user1`` and ``maker0..``.
    host_ptr, hosted
        Devices that follow a station, CSR.
    announce
        Buffers that are told of each piece launched on the main line.
    gate, gates
        Release control: the next piece enters only while fewer than ``limit`` that entered have not
        left stations ``first`` to ``last`` (parallel ones; ``first`` -1: the line). ``gone`` of a
        station counts what left it, ``entered`` what came in.
    gate_ns, pace_ns
        The n-th piece (from 0) enters no earlier than ``gate_ns + n * pace_ns``; pace 0: no pace.
    inside_ns, inside_at
        Piece-nanoseconds in the network up to ``inside_at``: their mean is the work in process.
    p_tool_wear, p_tool_idle_wear
        Wear at which a tool is changed, and at which it is when the station has to wait anyway.
    rs
        Progress by (request, center); ``step_*`` by (product, center[, center before]).
    setup
        ns by (center, from family, to family).
    st
        Stations. ``op_share`` > 0: the cycle is two operations, the first takes that share of it;
        ``split`` is the length of the first, ``switch`` the instant at which the second begins
        (NEVER while the station stands in the first), ``op1_s``, ``op2_s`` their last lengths.
    spent
        ns by (station, StopReason), NONE = executing.
    due, heap, position
        Indexed heap of timers: stations, then devices, then centers, then AGVs; each timer has one
        place, so nothing in it is ever out of date.
    """

    now: int
    seed: int
    stations: int
    buffers: int
    devices: int
    centers: int
    agv_n: int
    announce_n: int
    jobs: int
    job_requests: int
    requests: int
    heap_n: int
    log_n: int
    cycle_n: int
    notice_n: int
    logging: int
    serial: int
    free_n: int
    wake_at: int
    wake_n: int
    events: int
    pallet: int
    pieces_out: int
    pieces_scrap: int
    mismatch: int
    escaped: int
    reworks: int
    retests: int
    entered: int
    gates: int
    gate_ns: int
    pace_ns: int
    inside_ns: int
    inside_at: int
    p_detect_leak: float
    p_detect_bench: float
    p_false: float
    p_unrepairable: float
    p_absent: float
    p_absent_s: float
    p_ambient: float
    p_sigma: float
    p_lot_size: float
    p_pallet: float
    p_pallet_s: float
    p_temp_tau: float
    p_tool_wear: float
    p_tool_idle_wear: float
    st: NDArray[np.void]
    bf: NDArray[np.void]
    ring: NDArray[np.int64]
    users: NDArray[np.int64]
    makers: NDArray[np.int64]
    dv: NDArray[np.void]
    host_ptr: NDArray[np.int64]
    hosted: NDArray[np.int64]
    agvs: NDArray[np.int64]
    announce: NDArray[np.int64]
    gate: NDArray[np.void]
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
    wake: NDArray[np.int64]
    spent: NDArray[np.int64]
    due: NDArray[np.int64]
    heap: NDArray[np.int64]
    position: NDArray[np.int64]
    changes: NDArray[np.void]
    cycles: NDArray[np.void]
    notices: NDArray[np.void]


def new_world() -> World:
    """An empty world: all zero, no timer set, every place for a piece free."""
    w = cast(World, np.zeros(1, WORLD).view(np.recarray)[0])
    w.due[:] = NEVER
    w.position[:] = -1
    w.free[:] = np.arange(PIECES - 1, -1, -1)
    w.free_n = PIECES
    w.p_tool_wear = w.p_tool_idle_wear = 1.0
    return w
