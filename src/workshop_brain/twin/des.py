"""The discrete-event kernel: stations, finite buffers with blocking, job lists, stops and causes.

A station is in one phase: it waits for a piece, works, holds a finished piece, is broken down, in a
micro-stop, in a tool change or in a changeover. Stops from outside (`hold_device`) and the calendar
lie over the phases and freeze them. One event fires at a time; stations that may now go on are put
on the wake list and tried in the order in which they were woken, so a run is deterministic.

Hazards have causes: they grow with the wear of the tool and with temperature and follow the
material lot. The factors have mean one over a tool life, so the cited MTBF and rates are kept.
"""

import math

from workshop_brain.kernel import kernel
from workshop_brain.model.state import StopReason, UnitMode, UnitState
from workshop_brain.twin import draws
from workshop_brain.twin.draws import exponential, normal, uniform
from workshop_brain.twin.timers import clear_timer, set_timer
from workshop_brain.twin.world import (
    ABORTED,
    ALLOWED,
    BENCH,
    CALENDAR,
    CHANGES,
    CYCLES,
    DONE,
    DOWN,
    ENDED,
    FLOW,
    JOB,
    JOB_ENDED,
    JOB_STARTED,
    LEAK,
    LOAD,
    MAKE,
    MICRO,
    NEVER,
    NOTICES,
    PIECES,
    REPAIR_PLACE,
    RUNNING,
    SETUP,
    SOURCE,
    STATIONS,
    TOOL,
    UNIT_DOWN,
    UNIT_FREE,
    UNIT_UP,
    WAIT,
    WORK,
    World,
)

S_EXECUTE = int(UnitState.EXECUTE)
S_SUSPENDED = int(UnitState.SUSPENDED)
S_HELD = int(UnitState.HELD)
S_ABORTED = int(UnitState.ABORTED)
S_IDLE = int(UnitState.IDLE)
S_STOPPED = int(UnitState.STOPPED)
R_NONE = int(StopReason.NONE)
R_STARVED = int(StopReason.STARVED)
R_BLOCKED = int(StopReason.BLOCKED)
R_SETUP = int(StopReason.SETUP)
R_BREAKDOWN = int(StopReason.BREAKDOWN)
R_MICRO = int(StopReason.MICRO_STOP)
R_TOOL = int(StopReason.TOOL_CHANGE)
R_OPERATOR = int(StopReason.NO_OPERATOR)
R_PLANNED = int(StopReason.PLANNED_STOP)
R_NO_JOB = int(StopReason.NO_JOB)
M_PRODUCTION, M_MAINTENANCE = int(UnitMode.PRODUCTION), int(UnitMode.MAINTENANCE)
F_STATE, F_MODE, F_BLOCKED, F_STARVED, F_PROCESSED = range(5)
F_DEFECTIVE, F_REASON, F_INFEED, F_JOB, F_SERIAL = range(5, 10)
C_WEAR, C_LOT, C_TEMPERATURE, C_NOISE = 1, 2, 3, 4
LINE_KLASS, MIRROR_KLASS, PLAIN_KLASS = 2, 1, 0
MS = 1_000_000
REWORK_LIMIT = 1
FULL_MARGIN = 4096
REACHED, LOG_FULL, NOTICED = 0, 1, 2


@kernel
def _ns(seconds: float) -> int:
    """Seconds as ns, rounded to whole milliseconds, at least one."""
    return max(1, int(seconds * 1000.0 + 0.5)) * MS


@kernel
def _emit(w: World, device: int, field: int, value: float) -> None:
    if w.logging == 0:
        return
    row = w.changes[w.log_n]
    row.t, row.device, row.field, row.value = w.now, device, field, value
    w.log_n += 1


@kernel
def _notice(w: World, kind: int, station: int, job: int) -> None:
    n = w.notice_n
    if n < NOTICES:
        row = w.notices[n]
        row.t, row.kind, row.station, row.job = w.now, kind, station, job
        w.notice_n += 1


@kernel
def _set_device(w: World, d: int, state: int, reason: int) -> None:
    """Show a state on a device; its own stop from outside goes first."""
    r = w.dv[d]
    if r.held > 0:
        state = S_ABORTED if r.held == R_BREAKDOWN else S_HELD
        reason = r.held
    mode = M_MAINTENANCE if reason == R_BREAKDOWN else M_PRODUCTION
    blocked = 1 if state == S_SUSPENDED and reason == R_BLOCKED else 0
    starved = 1 if state == S_SUSPENDED and reason == R_STARVED else 0
    if r.reason != reason:
        r.reason = reason
        _emit(w, d, F_REASON, reason)
    if r.state != state:
        r.state = state
        _emit(w, d, F_STATE, state)
    if r.mode != mode:
        r.mode = mode
        _emit(w, d, F_MODE, mode)
    if r.blocked != blocked:
        r.blocked = blocked
        _emit(w, d, F_BLOCKED, blocked)
    if r.starved != starved:
        r.starved = starved
        _emit(w, d, F_STARVED, starved)


@kernel
def _set_part(w: World, d: int, job: int, serial: int) -> None:
    r = w.dv[d]
    if r.job != job:
        r.job = job
        _emit(w, d, F_JOB, job)
    if r.serial != serial:
        r.serial = serial
        _emit(w, d, F_SERIAL, serial)


@kernel
def _clear_part(w: World, s: int) -> None:
    _set_part(w, w.st[s].device, -1, 0)
    for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
        _set_part(w, w.hosted[k], -1, w.dv[w.hosted[k]].serial)


@kernel
def _count(w: World, s: int, good: bool) -> None:
    """One more piece processed (or found defective) at a station and at what follows it."""
    own = w.st[s].device
    if own >= 0:
        _count_device(w, own, good)
    for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
        if w.dv[w.hosted[k]].klass == MIRROR_KLASS:
            _count_device(w, w.hosted[k], good)


@kernel
def _count_device(w: World, d: int, good: bool) -> None:
    r = w.dv[d]
    if good:
        r.processed += 1
        _emit(w, d, F_PROCESSED, r.processed)
    else:
        r.defective += 1
        _emit(w, d, F_DEFECTIVE, r.defective)


@kernel
def _set_infeed(w: World, s: int, level: int) -> None:
    d = w.st[s].device
    if d >= 0 and w.dv[d].infeed != level:
        w.dv[d].infeed = level
        _emit(w, d, F_INFEED, level)
    for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
        h = w.hosted[k]
        if w.dv[h].klass != PLAIN_KLASS and w.dv[h].infeed != level:
            w.dv[h].infeed = level
            _emit(w, h, F_INFEED, level)


@kernel
def _appearance(w: World, s: int) -> tuple[int, int]:
    """(state, reason) of a station from what lies over it and its phase."""
    r = w.st[s]
    closed = r.center >= 0 and w.ct[r.center].closed == 1
    if r.hold > 0:
        if r.hold_reason == R_BREAKDOWN:
            return S_ABORTED, R_BREAKDOWN
        if r.hold_reason > 0:
            return S_HELD, r.hold_reason
        return S_HELD, R_BREAKDOWN
    if r.phase == DOWN:
        return S_ABORTED, R_BREAKDOWN
    if r.phase == MICRO:
        return S_HELD, R_MICRO
    if r.phase == TOOL:
        return S_HELD, R_TOOL
    if r.phase == WORK:
        return S_EXECUTE, R_NONE
    if closed:
        return S_STOPPED, R_PLANNED
    if r.phase == SETUP:
        return S_HELD, R_SETUP
    if r.phase == DONE:
        return S_SUSPENDED, R_BLOCKED
    if (r.kind == JOB or r.kind == LOAD) and r.job < 0 and not _has_allowed(w, s):
        return S_IDLE, R_NO_JOB
    return S_SUSPENDED, R_STARVED


@kernel
def _has_allowed(w: World, s: int) -> bool:
    j = w.st[s].queue
    while j >= 0:
        if w.jb[j].state == ALLOWED:
            return True
        j = w.jb[j].next
    return False


@kernel
def show(w: World, s: int) -> None:
    """Bring the shown state of a station and of what follows it up to date."""
    r = w.st[s]
    state, reason = _appearance(w, s)
    if state != r.state or reason != r.reason:
        now = w.now
        w.spent[s, r.reason] += now - r.since
        _warm(w, s)
        was_down = r.state == S_ABORTED
        r.state, r.reason, r.since = state, reason, now
        if r.kind == JOB or r.kind == LOAD:
            if state == S_ABORTED:
                _notice(w, UNIT_DOWN, s, r.job)
            elif was_down:
                _notice(w, UNIT_UP, s, r.job)
            elif state == S_IDLE:
                _notice(w, UNIT_FREE, s, -1)
    if r.device >= 0:
        _set_device(w, r.device, state, reason)
        if reason == R_NO_JOB:
            _clear_part(w, s)
    for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
        _follow(w, w.hosted[k], state, reason)


@kernel
def _follow(w: World, d: int, state: int, reason: int) -> None:
    """A device that serves a station waits from outside while its station is held or down."""
    klass = w.dv[d].klass
    if klass == LINE_KLASS or state in (S_EXECUTE, S_IDLE, S_STOPPED):
        _set_device(w, d, state, reason)
    elif state == S_SUSPENDED:
        _set_device(w, d, S_SUSPENDED, reason)
    else:
        _set_device(w, d, S_SUSPENDED, R_BLOCKED)


@kernel
def _warm(w: World, s: int) -> None:
    """Temperature of a station up to now: first-order lag towards ambient + rise while it works."""
    r = w.st[s]
    now = w.now
    day = (now % 86_400_000_000_000) / 86_400e9
    target = w.p_ambient + 3.0 * math.sin(2.0 * math.pi * (day - 0.125))
    if r.state == S_EXECUTE:
        target += r.rise_c
    elapsed_s = (now - r.heated) / 1e9
    r.temp_c = target + (r.temp_c - target) * math.exp(-elapsed_s / w.p_temp_tau)
    r.heated = now


@kernel
def wake(w: World, s: int) -> None:
    """Put a station on the wake list."""
    if w.st[s].waking == 0:
        w.st[s].waking = 1
        w.wake[(w.wake_at + w.wake_n) % STATIONS] = s
        w.wake_n += 1


@kernel
def settle(w: World) -> None:
    """Try every woken station until nothing more can move at this instant."""
    while w.wake_n > 0:
        s = w.wake[w.wake_at]
        w.wake_at = (w.wake_at + 1) % STATIONS
        w.wake_n -= 1
        w.st[s].waking = 0
        _kick(w, s)


@kernel
def _kick(w: World, s: int) -> None:
    r = w.st[s]
    idle = r.phase == WAIT or r.phase == DONE
    if idle and r.hold == 0 and not (r.center >= 0 and w.ct[r.center].closed == 1):
        if r.phase == DONE and _deliver(w, s):
            r.phase = WAIT
            r.piece = -1
            r.gone += 1
            if w.gates > 0:
                _open_gate(w)
        if r.phase == WAIT:
            if r.wear >= w.p_tool_wear:
                _change_tool(w, s)
            elif _take(w, s):
                r.retries = 0
                _start_cycle(w, s)
        if r.phase == WAIT and r.wear >= w.p_tool_idle_wear and r.kind == FLOW:
            _change_tool(w, s)
    show(w, s)


@kernel
def _change_tool(w: World, s: int) -> None:
    r = w.st[s]
    r.phase = TOOL
    seconds = r.tool_s * (0.7 + 0.6 * uniform(w.seed, draws.TOOL, s, r.tools))
    set_timer(w, s, w.now + _ns(seconds))


# --- release into the line -----------------------------------------------------------------------
@kernel
def _is_held_out(w: World) -> bool:
    """Whether release control keeps the next piece out of the line now."""
    for k in range(w.gates):
        gate = w.gate[k]
        left = w.pieces_out + w.pieces_scrap
        if gate.first >= 0:
            left = 0
            for s in range(gate.first, gate.last + 1):
                left += w.st[s].gone
        if w.entered - left >= gate.limit:
            return True
    return False


@kernel
def _open_gate(w: World) -> None:
    """Something left a station: the head of the line may look again."""
    for s in range(w.stations):
        r = w.st[s]
        if r.kind == JOB and r.output >= 0 and r.phase == WAIT:
            wake(w, s)


@kernel
def _count_inside(w: World) -> None:
    w.inside_ns += (PIECES - w.free_n) * (w.now - w.inside_at)
    w.inside_at = w.now


# --- pieces through buffers ----------------------------------------------------------------------
@kernel
def _put(w: World, b: int, piece: int) -> None:
    r = w.bf[b]
    slot = r.head + r.count
    if slot >= r.capacity:
        slot -= r.capacity
    w.ring[r.first + slot] = piece
    r.count += 1
    _level(w, b)
    for k in range(r.user0, r.user1):
        if w.st[w.users[k]].phase == WAIT:
            wake(w, w.users[k])


@kernel
def _get(w: World, b: int) -> int:
    r = w.bf[b]
    piece = w.ring[r.first + r.head]
    r.head += 1
    if r.head == r.capacity:
        r.head = 0
    r.count -= 1
    _level(w, b)
    for k in range(r.maker0, r.maker1):
        if w.st[w.makers[k]].phase == DONE:
            wake(w, w.makers[k])
    return int(piece)


@kernel
def _level(w: World, b: int) -> None:
    if w.logging == 0:
        return
    r = w.bf[b]
    for k in range(r.user0, r.user1):
        if w.st[w.users[k]].input == b:
            _set_infeed(w, w.users[k], r.count)


@kernel
def _deliver(w: World, s: int) -> bool:
    """Hand the finished piece on; False when there is no room."""
    r = w.st[s]
    piece = r.piece
    if r.kind == LOAD or (r.kind == JOB and r.output < 0):
        return True
    if r.role == BENCH and w.pc[piece].nok == 1:
        room = w.bf[r.reject].count < w.bf[r.reject].capacity
        if room and w.pc[piece].reworked < REWORK_LIMIT:
            _put(w, r.reject, piece)
        else:
            _leave(w, piece, False)
        return True
    if r.role == REPAIR_PLACE and w.pc[piece].defect > 0:
        _leave(w, piece, False)
        return True
    if r.output < 0:
        _leave(w, piece, True)
        return True
    if w.bf[r.output].count >= w.bf[r.output].capacity:
        return False
    _put(w, r.output, piece)
    return True


@kernel
def _leave(w: World, piece: int, good: bool) -> None:
    """A piece leaves the line: count it for its job, give its place back."""
    p = w.pc[piece]
    if good:
        w.pieces_out += 1
        if p.defect > 0:
            w.escaped += 1
    else:
        w.pieces_scrap += 1
    if w.p_pallet > 0:
        w.pallet += 1
        if w.pallet >= w.p_pallet:
            w.pallet = 0
            _send_agv(w, _ns(w.p_pallet_s))
    job, number, serial = p.job, p.number, p.serial
    _count_inside(w)
    w.free[w.free_n] = piece
    w.free_n += 1
    p.serial = 0
    if job >= 0:
        for d in range(w.devices):
            if w.dv[d].klass == LINE_KLASS and w.dv[d].station == w.jb[job].station:
                _count_device(w, d, good)
                _set_part(w, d, w.dv[d].job, serial)
        _credit(w, job, number, good)


@kernel
def _new_piece(w: World, job: int, product: int, number: int) -> int:
    _count_inside(w)
    w.free_n -= 1
    piece = int(w.free[w.free_n])
    w.serial += 1
    p = w.pc[piece]
    p.serial, p.job, p.product, p.number = w.serial, job, product, number
    p.defect, p.nok, p.reworked, p.born = 0, 0, 0, w.now
    return piece


@kernel
def _take(w: World, s: int) -> bool:
    """Get the next piece into a station; False when there is none (or a changeover began)."""
    r = w.st[s]
    if r.kind == FLOW:
        if w.bf[r.input].count == 0 or (r.second >= 0 and w.bf[r.second].count == 0):
            return False
        r.piece = _get(w, r.input)
        if r.second >= 0 and _get(w, r.second) != r.piece:
            w.mismatch += 1
        return True
    if r.kind == SOURCE:
        if w.free_n == 0:
            return False
        r.piece = _new_piece(w, -1, -1, 0)
        return True
    if r.job < 0 and not _pick(w, s):
        return False
    j = w.jb[r.job]
    if r.family != j.family and _begin_setup(w, s, j.family):
        return False
    if r.output < 0:
        if r.kind == JOB:
            j.launched += 1
            _set_infeed(w, s, j.use - j.launched)
        if r.device >= 0:
            _set_part(w, r.device, r.job, 0)
        return True
    if w.free_n == 0 or _is_held_out(w):
        return False
    if w.pace_ns > 0 and w.now < w.gate_ns + w.entered * w.pace_ns:
        set_timer(w, s, w.gate_ns + w.entered * w.pace_ns)
        return False
    r.piece = _new_piece(w, r.job, j.product, j.launched)
    w.entered += 1
    j.launched += 1
    _set_infeed(w, s, j.use - j.launched)
    for k in range(w.announce_n):
        _put(w, w.announce[k], r.piece)
    if j.launched == j.use:
        r.job = -1
    return True


@kernel
def _begin_setup(w: World, s: int, family: int) -> bool:
    """Start the changeover to a family; False when it takes no time."""
    r = w.st[s]
    length = w.setup[r.center, r.family, family] if r.family >= 0 else 0
    r.family = family
    if length == 0:
        return False
    r.setups += 1
    w.ct[r.center].setups += 1
    w.ct[r.center].setup_ns += length
    r.phase = SETUP
    set_timer(w, s, w.now + length)
    if r.device >= 0:
        _set_part(w, r.device, r.job, w.dv[r.device].serial)
    for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
        _set_part(w, w.hosted[k], r.job, w.dv[w.hosted[k]].serial)
    return True


# --- one cycle -----------------------------------------------------------------------------------
@kernel
def _stress(w: World, s: int) -> float:
    """Factor on failure hazards: wear (mean one over a tool life) times temperature."""
    r = w.st[s]
    hot = max(0.0, r.temp_c - w.p_ambient - 0.8 * r.rise_c)
    return float((0.4 + 1.8 * r.wear * r.wear) * (1.0 + 0.03 * hot))


@kernel
def _start_cycle(w: World, s: int) -> None:
    r = w.st[s]
    seed, now = w.seed, w.now
    r.n += 1
    n = r.n
    if r.exponential == 1:
        length = max(1, int(r.cycle_s * exponential(seed, draws.CYCLE, s, n) * 1e9 + 0.5))
    else:
        seconds = _nominal_s(w, s)
        noise = max(-2.5, min(2.5, normal(seed, draws.CYCLE, s, n)))
        seconds *= (1.0 + 0.03 * r.wear) * (1.0 + w.p_sigma * noise)
        length = _ns(seconds)
    r.began, r.ends, r.interrupt = now, now + length, 0
    _begin_operations(w, s, length)
    part = length
    if r.mtbf_s > 0.0:
        hazard = length / 1e9 / r.mtbf_s * _stress(w, s)
        if uniform(seed, draws.FAIL, s, n) < hazard:
            r.interrupt = DOWN
        elif uniform(seed, draws.MICRO, s, n) < r.micro_p * (0.5 + 1.5 * r.wear * r.wear):
            r.interrupt = MICRO
        if r.interrupt > 0:
            part = max(1, int(length * uniform(seed, draws.FAIL_AT, s, n)))
    r.remaining = length - part
    r.phase = WORK
    set_timer(w, s, now + part)
    if r.piece >= 0 and r.device >= 0:
        p = w.pc[r.piece]
        _lot(w, s, p.serial)
        _set_part(w, r.device, p.job, p.serial)
        for k in range(w.host_ptr[s], w.host_ptr[s + 1]):
            h = w.hosted[k]
            line = w.dv[h].klass == LINE_KLASS
            _set_part(w, h, p.job, w.dv[h].serial if line else p.serial)
    elif r.kind == JOB:
        _lot(w, s, n)


@kernel
def _begin_operations(w: World, s: int, length: int) -> None:
    """Divide a cycle of ``length`` ns into the station's two operations, if it has two."""
    r = w.st[s]
    r.length = length
    if r.op_share > 0.0:
        noise = max(-2.5, min(2.5, normal(w.seed, draws.OPERATION, s, r.n)))
        r.split = int(length * r.op_share * (1.0 + w.p_sigma * noise))
        r.switch = w.now + r.split


@kernel
def _halt_operation(w: World, s: int) -> None:
    """The station stands: while it is in its first operation, the second has no begin yet."""
    if w.st[s].switch > w.now:
        w.st[s].switch = NEVER


@kernel
def _resume_operation(w: World, s: int, worked: int) -> None:
    """The station works again after ``worked`` ns of its cycle."""
    r = w.st[s]
    if r.switch == NEVER:
        r.switch = w.now + r.split - worked


@kernel
def _end_operations(w: World, s: int, cause: int) -> int:
    """Keep the lengths of both operations; the one (1 or 2) that made the defect, 0 for none."""
    r = w.st[s]
    if r.op_share == 0.0:
        return 0
    r.op1_s, r.op2_s = r.split / 1e9, (r.length - r.split) / 1e9
    if cause == 0:
        return 0
    return 1 if uniform(w.seed, draws.OPERATION_NOK, s, r.n) < r.op_share else 2


@kernel
def _nominal_s(w: World, s: int) -> float:
    """Planned seconds of a station for its piece, load or test."""
    r = w.st[s]
    if r.kind == LOAD or (r.kind == JOB and r.output < 0):
        return float(w.step_s[w.jb[r.job].product, r.center] / r.speed)
    if r.piece >= 0 and w.pc[r.piece].product >= 0 and r.center >= 0 and r.role == MAKE:
        factor = w.step_s[w.pc[r.piece].product, r.center] / 37.0
        return float(r.cycle_s * factor / r.speed)
    return float(r.cycle_s / r.speed)


@kernel
def _lot(w: World, s: int, number: int) -> None:
    """The material lot of piece ``number``; each lot has its own factor on defects (mean one)."""
    r = w.st[s]
    lot = int(number / w.p_lot_size) + 1
    if lot != r.lot:
        r.lot = lot
        r.lot_factor = math.exp(0.6 * normal(w.seed, draws.LOT, s, lot) - 0.18)


@kernel
def _cause(w: World, s: int, u: float, base: float) -> int:
    """Whether a draw ``u`` means a defect at rate ``base`` and what caused it; 0 for none."""
    r = w.st[s]
    hot = max(0.0, r.temp_c - w.p_ambient - 0.8 * r.rise_c)
    edge = base * 0.2
    if u < edge:
        return C_NOISE
    edge += base * 1.5 * r.wear * r.wear
    if u < edge:
        return C_WEAR
    edge += base * 0.3 * r.lot_factor
    if u < edge:
        return C_LOT
    if u < edge + base * 0.02 * hot:
        return C_TEMPERATURE
    return 0


@kernel
def _work_over(w: World, s: int) -> None:
    """The timer of a working station fired: an interruption, or the end of the cycle."""
    r = w.st[s]
    seed, now = w.seed, w.now
    if r.interrupt > 0:
        _halt_operation(w, s)
    if r.interrupt == DOWN:
        r.phase = DOWN
        r.fails += 1
        length = _ns(max(20.0, r.mttr_s * exponential(seed, draws.REPAIR, s, r.fails)))
        r.ends = now + length + r.remaining
        set_timer(w, s, now + length)
        show(w, s)
    elif r.interrupt == MICRO:
        r.phase = MICRO
        r.micros += 1
        length = _ns(r.micro_s * (0.4 + 1.2 * uniform(seed, draws.MICRO_S, s, r.micros)))
        r.ends = now + length + r.remaining
        set_timer(w, s, now + length)
        show(w, s)
    else:
        _finish(w, s)


@kernel
def _finish(w: World, s: int) -> None:
    r = w.st[s]
    seed, n = w.seed, r.n
    if r.tool_life > 0.0:
        r.wear += (0.7 + 0.6 * uniform(seed, draws.WEAR, s, n)) / r.tool_life
    _warm(w, s)
    repeat, cause = False, 0
    if r.role == MAKE:
        cause = _cause(w, s, uniform(seed, draws.NOK, s, n), r.nok_p)
        if r.kind == FLOW or r.output >= 0:
            repeat = cause > 0 and r.retries < 2
            if cause > 0 and not repeat:
                w.pc[r.piece].defect = cause
            elif cause == 0 and r.latent_p > 0.0:
                hidden = _cause(w, s, uniform(seed, draws.LATENT, s, n), r.latent_p)
                if hidden > 0:
                    w.pc[r.piece].defect = hidden
    elif r.role == REPAIR_PLACE:
        p = w.pc[r.piece]
        p.reworked += 1
        p.nok = 0
        w.reworks += 1
        if uniform(seed, draws.REWORK, s, n) >= w.p_unrepairable:
            p.defect = 0
    else:
        cause, repeat = _test(w, s)
    _log_cycle(w, s, cause, _end_operations(w, s, cause))
    if cause > 0 and not (r.role != MAKE and repeat):
        _count(w, s, False)
    if repeat:
        r.retries += 1
        _start_cycle(w, s)
        show(w, s)
        return
    _count(w, s, True)
    r.phase = DONE
    if r.kind == LOAD:
        _finish_load(w, s)
    elif r.kind == JOB and r.output < 0:
        job, number = r.job, w.jb[r.job].good + w.jb[r.job].scrap
        if w.jb[job].launched == w.jb[job].use:
            r.job = -1
        _credit(w, job, number, cause == 0)
    wake(w, s)


@kernel
def _test(w: World, s: int) -> tuple[int, bool]:
    """(cause found, test again) of a leak tester or end-of-line bench."""
    r = w.st[s]
    seed, n = w.seed, r.n
    p = w.pc[r.piece]
    if p.nok == 1:
        return (p.defect if p.defect > 0 else C_NOISE), False
    detect = w.p_detect_leak if r.role == LEAK else w.p_detect_bench
    found = p.defect > 0 and uniform(seed, draws.DETECT, s, n) < detect
    if not found and uniform(seed, draws.FALSE_ALARM, s, n) >= w.p_false:
        return 0, False
    if r.retries == 0:
        w.retests += 1
        return (p.defect if found else C_NOISE), True
    p.nok = 1
    return (p.defect if found else C_NOISE), False


@kernel
def _log_cycle(w: World, s: int, cause: int, operation: int) -> None:
    r = w.st[s]
    if w.logging == 0 or (r.device < 0 and r.center >= 0):
        return
    row = w.cycles[w.cycle_n]
    row.t, row.device, row.began, row.lot, row.cause = w.now, r.device, r.began, r.lot, cause
    row.ok, row.wear, row.serial, row.product = int(cause == 0), r.wear, 0, -1
    row.switch, row.operation = r.switch, operation
    if r.piece >= 0:
        row.serial, row.product = w.pc[r.piece].serial, w.pc[r.piece].product
    elif r.job >= 0:
        row.product = w.jb[r.job].product
    if r.device < 0:
        row.device = s
    w.cycle_n += 1


# --- jobs ----------------------------------------------------------------------------------------
@kernel
def _material_at(w: World, j: int) -> int:
    """Instant from which the pieces of a job are there; NEVER while they are not made."""
    job = w.jb[j]
    at = 0
    for k in range(job.req_at, job.req_at + job.req_n):
        request = w.jr[k].request
        product = w.rq[request].product
        need = w.rs[request, job.center].taken + w.jr[k].quantity
        for before in range(w.centers):
            if w.step_after[product, job.center, before] == 0:
                continue
            step = w.rs[request, before]
            if step.done < need:
                return NEVER
            at = max(at, step.ready)
    return at


@kernel
def _pick(w: World, s: int) -> bool:
    """Start the best startable job of a unit: lowest priority number, planned start, arrival."""
    r = w.st[s]
    now = w.now
    while True:
        best, soonest = -1, NEVER
        j = r.queue
        while j >= 0:
            job = w.jb[j]
            if job.state == ALLOWED:
                at = _material_at(w, j)
                if at > now:
                    soonest = min(soonest, at)
                elif best < 0 or _goes_first(w, j, best):
                    best = j
            j = job.next
        if best < 0:
            if soonest < NEVER:
                set_timer(w, s, soonest)
            return False
        _start_job(w, s, best)
        if r.job >= 0:
            clear_timer(w, s)
            return True


@kernel
def _goes_first(w: World, a: int, b: int) -> bool:
    ja, jb = w.jb[a], w.jb[b]
    if ja.priority != jb.priority:
        return bool(ja.priority < jb.priority)
    if ja.planned != jb.planned:
        return bool(ja.planned < jb.planned)
    return bool(ja.arrival < jb.arrival)


@kernel
def unlink(w: World, j: int) -> None:
    """Take a job out of its unit's list of waiting jobs."""
    s = w.jb[j].station
    at, before = w.st[s].queue, -1
    while at >= 0 and at != j:
        before, at = at, w.jb[at].next
    if at < 0:
        return
    if before < 0:
        w.st[s].queue = w.jb[j].next
    else:
        w.jb[before].next = w.jb[j].next
    w.jb[j].next = -1


@kernel
def _start_job(w: World, s: int, j: int) -> None:
    job = w.jb[j]
    use = 0
    for k in range(job.req_at, job.req_at + job.req_n):
        row = w.jr[k]
        own = w.rs[row.request, job.center]
        good, product = row.quantity, w.rq[row.request].product
        for before in range(w.centers):
            if w.step_after[product, job.center, before] == 1:
                there = w.rs[row.request, before].good - own.good_taken
                good = min(good, max(0, there))
        row.use = good
        own.taken += row.quantity
        own.good_taken += good
        use += good
    job.use, job.state, job.started = use, RUNNING, w.now
    unlink(w, j)
    _notice(w, JOB_STARTED, s, j)
    if use == 0:
        end_job(w, j, ENDED)
    else:
        w.st[s].job = j


@kernel
def _credit(w: World, j: int, number: int, good: bool) -> None:
    """Count piece ``number`` of a job as finished for the request it was made for."""
    job = w.jb[j]
    if good:
        job.good += 1
        last = job.req_at + job.req_n - 1
        for k in range(job.req_at, job.req_at + job.req_n):
            if number < w.jr[k].use or k == last:
                w.jr[k].out += 1
                break
            number -= w.jr[k].use
    else:
        job.scrap += 1
    if job.good + job.scrap == job.use:
        end_job(w, j, ENDED if job.state == RUNNING else ABORTED)


@kernel
def _finish_load(w: World, s: int) -> None:
    r = w.st[s]
    j = r.job
    r.job = -1
    job = w.jb[j]
    lost = 0
    for k in range(job.req_at, job.req_at + job.req_n):
        row = w.jr[k]
        for piece in range(row.use):
            u = uniform(w.seed, draws.SCRAP, row.request * 16 + job.center, piece)
            if u >= r.nok_p:
                row.out += 1
            else:
                lost += 1
    job.good, job.scrap, job.launched = job.use - lost, lost, job.use
    end_job(w, j, ENDED)


@kernel
def end_job(w: World, j: int, state: int) -> None:
    """Close a job: its pieces are out of the step, and reach the next one after transport."""
    job = w.jb[j]
    now = w.now
    job.state, job.ended = state, now
    for k in range(job.req_at, job.req_at + job.req_n):
        row = w.jr[k]
        step = w.rs[row.request, job.center]
        made = row.quantity if state == ENDED else min(row.out, row.quantity)
        step.done += made
        step.good += row.out
        step.ready = max(step.ready, now + w.ct[job.center].transport)
        if _is_last(w, row.request, job.center):
            request = w.rq[row.request]
            request.finished += row.out
            request.scrap += row.quantity - row.out
            if step.done >= request.quantity and request.done_at == 0:
                request.done_at = now
    _notice(w, JOB_ENDED, job.station, j)
    _send_agv(w, max(MS, w.ct[job.center].transport))
    for s in range(w.stations):
        r = w.st[s]
        if r.phase == WAIT and (r.kind == JOB or r.kind == LOAD) and r.queue >= 0:
            wake(w, s)


@kernel
def _is_last(w: World, request: int, center: int) -> bool:
    product = w.rq[request].product
    return bool(w.step_after[product, :, center].sum() == 0)


@kernel
def add_job(w: World, j: int) -> None:
    """Put a filled job row into its unit's list."""
    s = w.jb[j].station
    w.jb[j].next = w.st[s].queue
    w.st[s].queue = j
    wake(w, s)


@kernel
def abort_job(w: World, j: int) -> None:
    """End a job now; finished pieces stay finished, the rest can be ordered again."""
    job = w.jb[j]
    s = job.station
    if job.state != RUNNING:
        unlink(w, j)
        job.state, job.ended = ABORTED, w.now
        wake(w, s)
        return
    r = w.st[s]
    whole = r.output < 0
    running_here = r.job == j
    made = job.good + job.scrap if whole else job.launched
    rest = made
    for k in range(job.req_at, job.req_at + job.req_n):
        row = w.jr[k]
        own = w.rs[row.request, job.center]
        keep = min(rest, row.use)
        rest -= keep
        own.taken -= row.quantity - keep
        own.good_taken -= row.use - keep
        row.quantity, row.use = keep, keep
    job.use = made
    if running_here:
        r.job = -1
        if whole or r.phase == SETUP:
            clear_timer(w, s)
            r.phase, r.piece, r.paused = WAIT, -1, 0
            if whole and r.device >= 0:
                _set_part(w, r.device, -1, 0)
    job.state = ABORTED
    if job.good + job.scrap == job.use:
        end_job(w, j, ABORTED)
    wake(w, s)


# --- stops from outside, calendar, transport -----------------------------------------------------
@kernel
def pause(w: World, s: int) -> None:
    r = w.st[s]
    if r.paused == 0 and r.phase != WAIT and r.phase != DONE and w.position[s] >= 0:
        r.paused = 1
        r.left = w.due[s] - w.now
        clear_timer(w, s)
        _halt_operation(w, s)


@kernel
def _resume(w: World, s: int) -> None:
    r = w.st[s]
    closed = r.center >= 0 and w.ct[r.center].closed == 1
    if r.hold > 0 or (closed and r.phase == SETUP):
        return
    if r.paused == 1:
        r.paused = 0
        set_timer(w, s, w.now + r.left)
        left = r.left + (r.remaining if r.phase != WORK or r.interrupt else 0)
        r.ends = w.now + left
        if r.phase == WORK:
            _resume_operation(w, s, r.length - left)
    wake(w, s)
    show(w, s)


@kernel
def hold_device(w: World, d: int, reason: int, until: int) -> None:
    """Stop a device until an instant; a station stops with the device that serves it."""
    r = w.dv[d]
    timer = w.stations + d
    if r.held > 0:
        set_timer(w, timer, max(until, w.due[timer]))
        return
    r.held = reason
    set_timer(w, timer, until)
    _set_device(w, d, r.state, r.reason)
    if r.station >= 0:
        station = w.st[r.station]
        station.hold += 1
        if station.device == d:
            station.hold_reason = reason
        pause(w, r.station)
        show(w, r.station)


@kernel
def release_device(w: World, d: int) -> None:
    """End the stop of a device."""
    r = w.dv[d]
    if r.held == 0:
        return
    r.held = 0
    clear_timer(w, w.stations + d)
    if r.station >= 0:
        station = w.st[r.station]
        station.hold -= 1
        if station.device == d:
            station.hold_reason = 0
        _resume(w, r.station)
        show(w, r.station)
    elif r.agv_until > w.now or r.klass == PLAIN_KLASS:
        _set_device(w, d, S_EXECUTE, R_NONE)
    else:
        _set_device(w, d, S_IDLE, R_NO_JOB)


@kernel
def repair_device(w: World, d: int) -> None:
    """End every stop of a device now, its own breakdowns included."""
    release_device(w, d)
    s = w.dv[d].station
    if s >= 0 and (w.st[s].phase == DOWN or w.st[s].phase == MICRO) and w.st[s].hold == 0:
        clear_timer(w, s)
        _back_to_work(w, s)


@kernel
def _back_to_work(w: World, s: int) -> None:
    r = w.st[s]
    r.phase, r.interrupt = WORK, 0
    r.ends = w.now + r.remaining
    _resume_operation(w, s, r.length - r.remaining)
    set_timer(w, s, r.ends)
    show(w, s)


@kernel
def _send_agv(w: World, length: int) -> None:
    now = w.now
    for a in range(w.agv_n):
        r = w.dv[w.agvs[a]]
        if r.agv_until <= now and r.held == 0:
            r.agv_until = now + length
            _set_device(w, w.agvs[a], S_EXECUTE, R_NONE)
            set_timer(w, w.stations + w.devices + w.centers + a, r.agv_until)
            return


@kernel
def turn_calendar(w: World, c: int) -> None:
    """The next edge of a work center's calendar: close it or open it."""
    center = w.ct[c]
    center.closed = 1 - center.closed
    center.cal_at += 1
    if center.cal_at < center.cal_end:
        set_timer(w, w.stations + w.devices + c, w.edges[center.cal_at])
    if center.closed == 0:
        center.shift += 1
    for s in range(w.stations):
        r = w.st[s]
        if r.center != c:
            continue
        if center.closed == 1:
            if r.phase == SETUP:
                pause(w, s)
        else:
            if r.operators > 0 and r.device >= 0:
                _maybe_absent(w, s, center.shift)
            _resume(w, s)
        show(w, s)
    _notice(w, CALENDAR, -1, -1)


@kernel
def _maybe_absent(w: World, s: int, shift: int) -> None:
    seed = w.seed
    if uniform(seed, draws.ABSENT, s, shift) < w.p_absent:
        share = 0.5 + uniform(seed, draws.ABSENT_S, s, shift)
        until = w.now + _ns(w.p_absent_s * share)
        hold_device(w, w.st[s].device, R_OPERATOR, until)


@kernel
def _fire(w: World, timer: int) -> None:
    stations, devices, centers = w.stations, w.devices, w.centers
    if timer >= stations + devices + centers:
        d = w.agvs[timer - stations - devices - centers]
        _count_device(w, d, True)
        _set_device(w, d, S_IDLE, R_NO_JOB)
    elif timer >= stations + devices:
        turn_calendar(w, timer - stations - devices)
    elif timer >= stations:
        release_device(w, timer - stations)
    else:
        phase = w.st[timer].phase
        if phase == WORK:
            _work_over(w, timer)
        elif phase in (DOWN, MICRO):
            _back_to_work(w, timer)
        elif phase == TOOL:
            r = w.st[timer]
            r.tools += 1
            r.wear = 0.04 * uniform(w.seed, draws.TOOL, timer, -r.tools)
            r.phase = WAIT
            wake(w, timer)
        elif phase == SETUP:
            w.st[timer].phase = WAIT
            wake(w, timer)
        else:
            wake(w, timer)


@kernel
def run(w: World, until: int, stop_at_notice: bool) -> int:
    """Run every event up to and including ``until``.

    Returns REACHED; LOG_FULL when the logs must be drained first; NOTICED when asked to stop at
    notices and there is one (the clock stands at its instant).
    """
    while True:
        settle(w)
        if w.logging == 1 and (w.log_n > CHANGES - FULL_MARGIN or w.cycle_n > CYCLES - FULL_MARGIN):
            return LOG_FULL
        if stop_at_notice and w.notice_n > 0:
            return NOTICED
        if w.heap_n == 0 or w.due[w.heap[0]] > until:
            w.now = max(w.now, until)
            return REACHED
        timer = int(w.heap[0])
        w.now = w.due[timer]
        w.events += 1
        clear_timer(w, timer)
        _fire(w, timer)
