"""The simulated plant: PlantSim runs the discrete-event kernel and answers in the plant's words."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.errors import ConfigError
from workshop_brain.model.order import JobOrder, JobResponse, JobState
from workshop_brain.model.plant import Plant, WorkCenter, WorkCenterKind
from workshop_brain.model.state import StopReason
from workshop_brain.twin import des, world
from workshop_brain.twin.commands import (
    AbortJob,
    BreakUnit,
    ClearJob,
    Command,
    OperatorAbsent,
    QualityStop,
    RepairUnit,
    RevokeJob,
    StartJob,
    StoreJob,
)
from workshop_brain.twin.devices import Device, operation_numbers, plant_devices
from workshop_brain.twin.layout import plant_world
from workshop_brain.twin.scenario import REFERENCE, Scenario
from workshop_brain.twin.timers import clear_timer, set_timer
from workshop_brain.units import NS_PER_DAY, NS_PER_S, seconds_to_ns

__all__ = [
    "AbortJob",
    "BreakUnit",
    "Changes",
    "ClearJob",
    "Command",
    "Cycles",
    "DefectCause",
    "Field",
    "Notices",
    "OperatorAbsent",
    "PlantSim",
    "QualityStop",
    "RepairUnit",
    "RevokeJob",
    "StartJob",
    "StoreJob",
]

CALENDAR_DAYS = 40
_HASHED = (
    "now", "seed", "jobs", "job_requests", "requests", "heap_n", "serial", "free_n", "events",
    "pallet", "pieces_out", "pieces_scrap", "escaped", "reworks", "retests",
)  # fmt: skip
_JOB_STATES = (
    JobState.NOT_ALLOWED_TO_START,
    JobState.ALLOWED_TO_START,
    JobState.RUNNING,
    JobState.ENDED,
    JobState.ABORTED,
)


class Field(IntEnum):
    """Field of a device that changed; JOB and SERIAL are texts (value = code into sim.texts)."""

    STATE = 0
    MODE = 1
    BLOCKED = 2
    STARVED = 3
    PROCESSED = 4
    DEFECTIVE = 5
    STOP_REASON = 6
    INFEED_LEVEL = 7
    JOB = 8
    SERIAL = 9


class DefectCause(IntEnum):
    """Why a cycle was not ok."""

    NONE = 0
    WEAR = 1
    LOT = 2
    TEMPERATURE = 3
    NOISE = 4


@dataclass(frozen=True, slots=True)
class Changes:
    """Columns of changes in time order: time_ns i64, device i32, field u8, value f64."""

    time_ns: NDArray[np.int64]
    device: NDArray[np.int32]
    field: NDArray[np.uint8]
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True, slots=True)
class Cycles:
    """Columns of finished station cycles in order of their end.

    Attributes
    ----------
    device : int32
    serial : int64, code into sim.texts; 0 for machines, whose parts carry no serial yet
    product : int32, position in plant.products
    start_ns, end_ns : int64
    ok : bool, False when the cycle found or made a defect
    wear : float64, 0 new tool .. 1 worn, at the end of the cycle
    lot : int64, material lot number
    cause : int32, DefectCause
    switch_ns : int64, when the second operation began; 0 where the cycle is one operation
    operation : int32, operation (1 or 2) that made the defect; 0 for none or not divided
    """

    device: NDArray[np.int32]
    serial: NDArray[np.int64]
    product: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    ok: NDArray[np.bool_]
    wear: NDArray[np.float64]
    lot: NDArray[np.int64]
    cause: NDArray[np.int32]
    switch_ns: NDArray[np.int64]
    operation: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.device)


@dataclass(frozen=True, slots=True)
class Notices:
    """What a planner would be told: columns time_ns, kind (world.JOB_STARTED ...), device, job."""

    time_ns: NDArray[np.int64]
    kind: NDArray[np.int64]
    device: NDArray[np.int64]
    job: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time_ns)


class PlantSim:
    """The whole plant at one instant of plant time.

    Attributes
    ----------
    devices
        153 counted devices of the line, then the upstream units and the line controller.
    state, mode, stop_reason, processed, defective, infeed_level : int64 by device index
        Live views of the simulated world, true at ``now_ns``.
    texts
        Dictionary of job ids and serial numbers; code 0 is "".
    recording
        While False nothing is logged for ``drain_changes`` and ``drain_cycles``.
    """

    def __init__(
        self,
        plant: Plant,
        *,
        seed: int,
        start_ns: int,
        scenario: Scenario = REFERENCE,
        warm: bool = True,
        recording: bool = True,
    ) -> None:
        self.plant = plant
        self.seed = seed
        self.start_ns = start_ns
        self.scenario = scenario
        self.devices: tuple[Device, ...] = plant_devices(plant)
        self._w, self.stations = plant_world(
            plant, self.devices, scenario, seed=seed, now_ns=start_ns
        )
        # attributes of a record are looked up slowly; these views stay valid for its life
        w = self._w
        self._st, self._dv, self._jb, self._jr = w.st, w.dv, w.jb, w.jr
        self._rq, self._rs, self._ct = w.rq, w.rs, w.ct
        self.texts: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}
        self._orders: list[JobOrder] = []
        self._jobs: dict[str, int] = {}
        self._requests: dict[str, int] = {}
        self._centers = {c.id: k for k, c in enumerate(plant.work_centers)}
        self._products = {p.id: k for k, p in enumerate(plant.products)}
        self._by_path = {d.path: d.index for d in self.devices}
        self._kept: list[NDArray[np.void]] = []
        self._kept_cycles: list[NDArray[np.void]] = []
        self._bind()
        if warm:
            from workshop_brain.twin.warm import warm_up

            warm_up(self)
        else:
            self._open_calendars(start_ns)
            self._refresh()
        self._w.logging = int(recording)

    # --- time ------------------------------------------------------------------------------------
    @property
    def now_ns(self) -> int:
        """Plant time, ns since the epoch, UTC."""
        return int(self._w.now)

    def advance(self, until_ns: int) -> None:
        """Run all events up to and including ``until_ns``; an earlier instant does nothing."""
        self._extend_calendars(until_ns)
        while des.run(self._w, until_ns, False) == des.LOG_FULL:
            self._keep_logs()

    def advance_to_notice(self, until_ns: int) -> Notices:
        """Run until something happens that a planner would be told of, at most to ``until_ns``."""
        self._extend_calendars(until_ns)
        while des.run(self._w, until_ns, True) == des.LOG_FULL:
            self._keep_logs()
        return self.drain_notices()

    def drain_notices(self) -> Notices:
        """Notices since the last drain, in time order."""
        n = int(self._w.notice_n)
        rows = self._w.notices[:n].copy()
        self._w.notice_n = 0
        stations = rows["station"]
        device = np.where(stations >= 0, self._st["device"][stations], -1)
        return Notices(rows["t"].copy(), rows["kind"].copy(), device, rows["job"].copy())

    # --- arrays by device ------------------------------------------------------------------------
    def _bind(self) -> None:
        dv = self._dv[: self._w.devices]
        self.state: NDArray[np.int64] = dv["state"]
        self.mode: NDArray[np.int64] = dv["mode"]
        self.stop_reason: NDArray[np.int64] = dv["reason"]
        self.processed: NDArray[np.int64] = dv["processed"]
        self.defective: NDArray[np.int64] = dv["defective"]
        self.infeed_level: NDArray[np.int64] = dv["infeed"]
        self._station: NDArray[np.int64] = dv["station"].copy()
        self._has_station: NDArray[np.bool_] = self._station >= 0
        self._divided = np.array([bool(operation_numbers(d)) for d in self.devices], np.bool_)

    def _from_station(self, field: str, otherwise: float) -> NDArray[Any]:
        column = self._st[field]
        out = np.full(len(self.devices), otherwise, column.dtype)
        out[self._has_station] = column[self._station[self._has_station]]
        return out

    @property
    def infeed_capacity(self) -> NDArray[np.int64]:
        """Places of the buffer before each device; 0 where a device takes jobs, not pieces."""
        places = self._w.bf["capacity"][: self._w.buffers]
        buffer = self._from_station("input", -1)
        out = np.zeros(len(self.devices), np.int64)
        out[buffer >= 0] = places[buffer[buffer >= 0]]
        return out

    @property
    def blocked(self) -> NDArray[np.bool_]:
        """Devices that wait for room behind them."""
        return np.asarray(self._dv["blocked"][: self._w.devices] == 1)

    @property
    def starved(self) -> NDArray[np.bool_]:
        """Devices that wait for material."""
        return np.asarray(self._dv["starved"][: self._w.devices] == 1)

    @property
    def cycle_start_ns(self) -> NDArray[np.int64]:
        """Start of the current (or last) cycle."""
        return self._from_station("began", 0)

    @property
    def cycle_end_ns(self) -> NDArray[np.int64]:
        """Expected end of the current (or end of the last) cycle."""
        return self._from_station("ends", 0)

    @property
    def cycle_no(self) -> NDArray[np.int64]:
        """Cycles begun since the plant was built."""
        return self._from_station("n", 0)

    @property
    def operation(self) -> NDArray[np.int64]:
        """Operation that each device is at, 1 or 2, also while it stands in it; 0 for none.

        Devices whose cycle is not divided show 0; names are those of ``devices.operations``.
        """
        phase = self._from_station("phase", world.WAIT)
        at_work = (phase == world.WORK) | (phase == world.DOWN) | (phase == world.MICRO)
        at_work &= self._divided
        return np.where(at_work, np.where(self.now_ns < self.switch_ns, 1, 2), 0)

    @property
    def switch_ns(self) -> NDArray[np.int64]:
        """Begin of the second operation of the current (or last) cycle; 0 where there is none.

        The largest int64 while the device stands in its first operation.
        """
        return self._from_station("switch", 0)

    @property
    def operation_s(self) -> NDArray[np.float64]:
        """Working seconds of both operations in the last finished cycle, shape (n_devices, 2)."""
        return np.column_stack((self._from_station("op1_s", 0.0), self._from_station("op2_s", 0.0)))

    @property
    def wear(self) -> NDArray[np.float64]:
        """Wear of the tool: 0 new, 1 due for change."""
        return self._from_station("wear", 0.0)

    @property
    def temperature_c(self) -> NDArray[np.float64]:
        """Temperature of the station, degrees Celsius."""
        return self._from_station("temp_c", self.scenario.ambient_c)

    @property
    def lot(self) -> NDArray[np.int64]:
        """Number of the material lot in use."""
        return self._from_station("lot", 0)

    def job(self, device: int) -> str:
        """Id of the job that the device works on; "" for none."""
        j = int(self._dv["job"][device])
        return self._orders[j].id if j >= 0 else ""

    def serial(self, device: int) -> str:
        """Serial number of the part in (or last in) the device; "" for none."""
        return serial_text(int(self._dv["serial"][device]))

    # --- logs ------------------------------------------------------------------------------------
    def _keep_logs(self) -> None:
        self._kept.append(self._w.changes[: self._w.log_n].copy())
        self._kept_cycles.append(self._w.cycles[: self._w.cycle_n].copy())
        self._w.log_n = self._w.cycle_n = 0

    def drain_changes(self) -> Changes:
        """Changes since the last drain, in time order."""
        n = int(self._w.log_n)
        rows = self._w.changes[:n].copy()
        self._w.log_n = 0
        if self._kept:
            rows = np.concatenate([*self._kept, rows])
            self._kept.clear()
        value = rows["value"].copy()
        field = rows["field"].astype(np.uint8)
        for k in np.flatnonzero(field >= Field.JOB):
            number = int(value[k])
            if field[k] == Field.SERIAL:
                value[k] = self._code(serial_text(number))
            else:
                value[k] = self._code(self._orders[number].id if number >= 0 else "")
        return Changes(rows["t"].copy(), rows["device"].astype(np.int32), field, value)

    def drain_cycles(self) -> Cycles:
        """Finished cycles since the last drain, in order of their end."""
        n = int(self._w.cycle_n)
        rows = self._w.cycles[:n].copy()
        self._w.cycle_n = 0
        if self._kept_cycles:
            rows = np.concatenate([*self._kept_cycles, rows])
            self._kept_cycles.clear()
        serials = np.array([self._code(serial_text(int(s))) for s in rows["serial"]], np.int64)
        return Cycles(
            rows["device"].astype(np.int32),
            serials,
            rows["product"].astype(np.int32),
            rows["began"].copy(),
            rows["t"].copy(),
            rows["ok"] == 1,
            rows["wear"].copy(),
            rows["lot"].copy(),
            rows["cause"].astype(np.int32),
            rows["switch"].copy(),
            rows["operation"].astype(np.int32),
        )

    def _code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = len(self.texts)
            self.texts.append(text)
            self._codes[text] = code
        return code

    # --- commands --------------------------------------------------------------------------------
    def command(self, command: Command) -> str:
        """Apply a command at ``now_ns``; "" when it was accepted, else the reason of refusal."""
        if self._w.logging:
            self._keep_logs()
        match command:
            case StoreJob(job, start):
                refusal = self._store(job, start)
            case StartJob(id) | RevokeJob(id) | AbortJob(id) | ClearJob(id):
                refusal = self._change_job(command, id)
            case RepairUnit(path):
                refusal = self._on_device(path, 0, 0.0)
            case BreakUnit(path, duration_s):
                refusal = self._on_device(path, StopReason.BREAKDOWN, duration_s)
            case QualityStop(path, duration_s):
                refusal = self._on_device(path, StopReason.QUALITY_STOP, duration_s)
            case OperatorAbsent(path, duration_s):
                refusal = self._on_device(path, StopReason.NO_OPERATOR, duration_s)
        des.settle(self._w)
        return refusal

    def _on_device(self, path: str, reason: int, duration_s: float) -> str:
        d = self._by_path.get(path)
        if d is None:
            return f"no device {path!r}; paths are those of the plant's devices"
        if reason == 0:
            des.repair_device(self._w, d)
            return ""
        if not duration_s > 0:
            return f"duration must be > 0 s, got {duration_s}"
        des.hold_device(self._w, d, int(reason), self.now_ns + seconds_to_ns(duration_s))
        return ""

    def _store(self, job: JobOrder, start: bool) -> str:
        known = self._jobs.get(job.id)
        if known is not None:
            if self._orders[known] != job:
                return f"job {job.id!r} is already stored with other content"
            return self._change_job(StartJob(job.id), job.id) if start else ""
        refusal = self._check(job)
        if refusal:
            return refusal
        j = self._add_row(job)
        self._jb["state"][j] = world.ALLOWED if start else world.NOT_ALLOWED
        des.add_job(self._w, j)
        return ""

    def _check(self, job: JobOrder) -> str:
        c = self._centers.get(job.work_center)
        if c is None:
            return f"no work center {job.work_center!r}"
        center = self.plant.work_centers[c]
        unit = next((u for u in center.units if u.path == job.equipment), None)
        if unit is None:
            return f"work center {center.id!r} has no unit {job.equipment!r}"
        if job.product not in self._products:
            return f"no product {job.product!r}"
        step = self._w.step_family[self._products[job.product], c]
        if step < 0:
            return f"product {job.product!r} has no step at {center.id!r}"
        family = center.families[step]
        if unit.families and family not in unit.families:
            return f"unit {unit.id!r} cannot run family {family!r}"
        if sum(pieces for _, pieces in job.requests) != job.quantity:
            return f"job {job.id!r}: pieces of its requests do not add up to {job.quantity}"
        if any(pieces <= 0 for _, pieces in job.requests):
            return f"job {job.id!r}: every request needs at least one piece"
        if center.kind is WorkCenterKind.BATCH and job.quantity > center.capacity:
            return f"job {job.id!r}: {job.quantity} pieces in a load of at most {center.capacity}"
        return ""

    def _add_row(self, job: JobOrder) -> int:
        """A row of the job table for a checked job, and rows for its requests."""
        j, c = len(self._orders), self._centers[job.work_center]
        product = self._products[job.product]
        rows = [(self.request_row(id, product), pieces) for id, pieces in job.requests]
        row = self._jb[j]
        row["state"], row["center"], row["product"] = world.NOT_ALLOWED, c, product
        row["station"] = self._dv["station"][self._by_path[job.equipment]]
        row["family"] = self._w.step_family[product, c]
        row["quantity"], row["priority"], row["planned"] = job.quantity, job.priority, job.start_ns
        row["next"], row["arrival"] = -1, j
        row["req_at"], row["req_n"] = self._w.job_requests, len(rows)
        for request, pieces in rows:
            entry = self._jr[self._w.job_requests]
            entry["request"], entry["quantity"] = request, pieces
            self._w.job_requests += 1
        self._orders.append(job)
        self._jobs[job.id] = j
        self._w.jobs = j + 1
        return j

    def request_row(self, id: str, product: int, quantity: int = 0) -> int:
        """Row of a request; a new one learns its product from the first job that names it."""
        row = self._requests.get(id)
        if row is None:
            row = len(self._requests)
            self._requests[id] = row
            self._w.requests = row + 1
            self._rq["product"][row] = product
        if quantity:
            self._rq["quantity"][row] = quantity
        return row

    def _change_job(self, command: Command, id: str) -> str:
        j = self._jobs.get(id)
        if j is None:
            return f"no job {id!r} in any list"
        row = self._jb[j]
        state = int(row["state"])
        if isinstance(command, StartJob):
            if state == world.NOT_ALLOWED:
                row["state"] = world.ALLOWED
                des.wake(self._w, int(row["station"]))
            elif state not in (world.ALLOWED, world.RUNNING):
                return f"job {id!r} is {_JOB_STATES[state]}, it cannot start"
        elif isinstance(command, RevokeJob):
            if state == world.ALLOWED:
                row["state"] = world.NOT_ALLOWED
                des.wake(self._w, int(row["station"]))
            elif state != world.NOT_ALLOWED:
                return f"job {id!r} is {_JOB_STATES[state]}, its start cannot be revoked"
        elif isinstance(command, AbortJob):
            if state in (world.ENDED, world.ABORTED):
                return f"job {id!r} is {_JOB_STATES[state]} already"
            des.abort_job(self._w, j)
        else:
            if state == world.RUNNING:
                return f"job {id!r} is running; abort it first"
            des.unlink(self._w, j)
            row["cleared"] = 1
            if state in (world.NOT_ALLOWED, world.ALLOWED):
                row["state"] = world.ABORTED
            del self._jobs[id]
            des.wake(self._w, int(row["station"]))
        return ""

    # --- job lists -------------------------------------------------------------------------------
    def job_list(self, work_center: str) -> list[JobResponse]:
        """The job list of a work center's receiver, in order of arrival."""
        c = self._centers[work_center]
        n = len(self._orders)
        rows = np.flatnonzero((self._jb["center"][:n] == c) & (self._jb["cleared"][:n] == 0))
        return [self._response(int(j)) for j in rows]

    def response(self, id: str) -> JobResponse:
        """What the plant says of one job; KeyError when it is in no list."""
        return self._response(self._jobs[id])

    def _response(self, j: int) -> JobResponse:
        row = self._jb[j]
        return JobResponse(
            job=self._orders[j].id,
            state=_JOB_STATES[int(row["state"])],
            equipment=self._orders[j].equipment,
            good=int(row["good"]),
            scrap=int(row["scrap"]),
            start_ns=int(row["started"]),
            end_ns=int(row["ended"]),
        )

    def job_order(self, id: str) -> JobOrder:
        """A stored job order; KeyError when it is in no list."""
        return self._orders[self._jobs[id]]

    def job_row(self, row: int) -> JobOrder:
        """The job order in a row of the job table (as in notices), even when it was cleared."""
        return self._orders[row]

    def family(self, path: str) -> str:
        """Family that a unit is set up for now; "" for none."""
        d = self.devices[self._by_path[path]]
        s = int(self._dv["station"][d.index])
        center = self.plant.work_center(d.work_center)
        k = int(self._st["family"][s])
        return center.families[k] if k >= 0 else ""

    # --- calendars -------------------------------------------------------------------------------
    def _open_calendars(self, now_ns: int) -> None:
        """Set every work center open or closed as its calendar says, with the edges to come."""
        self._calendar_end = now_ns + CALENDAR_DAYS * NS_PER_DAY
        edges: list[int] = []
        timers = self._w.stations + len(self.devices)
        for c, center in enumerate(self.plant.work_centers):
            row = self._ct[c]
            closed, own = _edges(center, now_ns, self._calendar_end)
            row["closed"], row["cal_at"] = int(closed), len(edges)
            edges += own
            row["cal_end"] = len(edges)
            clear_timer(self._w, timers + c)
            if own:
                set_timer(self._w, timers + c, own[0])
        if len(edges) > world.EDGES:
            raise ConfigError(
                f"the calendars turn {len(edges)} times in {CALENDAR_DAYS} days and the simulation "
                f"has room for {world.EDGES}; use fewer windows"
            )
        self._w.edges[: len(edges)] = edges

    def _extend_calendars(self, until_ns: int) -> None:
        while until_ns > self._calendar_end - NS_PER_DAY:
            middle = min(until_ns, self._calendar_end - 2 * NS_PER_DAY)
            while des.run(self._w, middle, False) == des.LOG_FULL:
                self._keep_logs()
            self._open_calendars(self.now_ns)

    def _refresh(self) -> None:
        """Wake every station and bring all that is shown up to date."""
        for b in range(self._w.buffers):
            row = self._w.bf[b]
            for s in self._w.users[int(row["user0"]) : int(row["user1"])]:
                d = int(self._st["device"][s])
                if d >= 0 and self._st["input"][s] == b:
                    self._dv["infeed"][d] = row["count"]
        for s in range(self._w.stations):
            des.show(self._w, s)
            des.wake(self._w, s)
        des.settle(self._w)

    # --- warm start ------------------------------------------------------------------------------
    def rewind(self, start_ns: int) -> None:
        """Set a cold plant's clock; every work center is open."""
        self._w.now = start_ns
        self._st["since"] = self._st["heated"] = start_ns
        self._ct["closed"] = 0
        self._calendar_end = np.iinfo(np.int64).max
        self._refresh()

    def age_tool(self, station: int, wear: float) -> None:
        """Give a station a used tool."""
        row = self._st[station]
        if row["tool_life"] > 0:
            row["wear"] = wear

    def ended_job(self, job: JobOrder, *, scrap: int, start_ns: int, end_ns: int) -> None:
        """Put a job into the list that ended in the past."""
        j = self._add_row(job)
        row = self._jb[j]
        good = job.quantity - scrap
        row["state"], row["use"], row["launched"] = world.ENDED, job.quantity, job.quantity
        row["good"], row["scrap"], row["started"], row["ended"] = good, scrap, start_ns, end_ns
        first, last = int(row["req_at"]), int(row["req_at"] + row["req_n"])
        center = int(row["center"])
        for entry in self._jr[first:last]:
            step = self._rs[int(entry["request"]), center]
            pieces = int(entry["quantity"])
            made = pieces - scrap
            entry["use"], entry["out"] = pieces, made
            step["done"] += pieces
            step["taken"] += pieces
            step["good"] += made
            step["good_taken"] += pieces
            ready = end_ns + int(self._ct["transport"][center])
            step["ready"] = max(int(step["ready"]), ready)
            scrap = 0

    def advance_job(self, id: str, share: float) -> None:
        """Let a job that has just started be at ``share`` of its work already."""
        j = self._jobs[id]
        row = self._jb[j]
        s = int(row["station"])
        if row["state"] != world.RUNNING:
            return
        now = self.now_ns
        if self._st["kind"][s] == world.LOAD:
            left = int(self._w.due[s]) - now
            row["started"] = now - int(share * left)
            set_timer(self._w, s, now + int((1.0 - share) * left))
            self._st["began"][s], self._st["ends"][s] = row["started"], self._w.due[s]
            return
        pieces = min(int(share * int(row["use"])), int(row["use"]) - int(row["launched"]) - 1)
        if pieces <= 0:
            return
        step_s = self._w.step_s[int(row["product"]), int(row["center"])]
        row["good"], row["launched"] = pieces, int(row["launched"]) + pieces
        row["started"] = now - seconds_to_ns(float(step_s) * pieces)
        self._jr["out"][int(row["req_at"])] += pieces

    def burn(self, until_ns: int) -> None:
        """Run the rewound plant up to its start; nothing of it is recorded."""
        des.run(self._w, until_ns, False)
        self._w.notice_n = self._w.events = 0
        self._w.pieces_out = self._w.pieces_scrap = self._w.escaped = 0
        self._w.retests = self._w.reworks = 0

    def begin(self, start_ns: int) -> None:
        """Let the calendars rule from now on and count results from here."""
        self._open_calendars(start_ns)
        w = self._w
        w.ct["setups"] = w.ct["setup_ns"] = 0
        w.spent[:] = 0
        w.st["since"] = start_ns
        for s in range(w.stations):
            if w.st["phase"][s] == world.SETUP and w.ct["closed"][int(w.st["center"][s])]:
                des.pause(w, s)
        self._refresh()
        w.notice_n = 0

    # --- results ---------------------------------------------------------------------------------
    def metrics(self) -> dict[str, Any]:
        """Counts and times since the start: pieces, setups, stops, per work center and unit."""
        w = self._w
        spent = w.spent.copy()
        for s in range(w.stations):
            spent[s, int(w.st["reason"][s])] += self.now_ns - int(w.st["since"][s])
        units = {
            self.devices[int(w.st["device"][s])].id: {
                reason.name.lower(): int(spent[s, reason]) / NS_PER_S
                for reason in StopReason
                if spent[s, reason]
            }
            for s in range(w.stations)
            if w.st["device"][s] >= 0
        }
        return {
            "now_ns": self.now_ns,
            "events": int(self._w.events),
            "finished": int(self._w.pieces_out),
            "scrapped": int(self._w.pieces_scrap),
            "escaped": int(self._w.escaped),
            "retests": int(self._w.retests),
            "reworks": int(self._w.reworks),
            "setups": {c.id: int(w.ct["setups"][k]) for k, c in enumerate(self.plant.work_centers)},
            "setup_s": {
                c.id: int(w.ct["setup_ns"][k]) / NS_PER_S
                for k, c in enumerate(self.plant.work_centers)
            },
            "seconds": units,
        }

    def request_done_ns(self, id: str) -> int:
        """Instant at which the last piece of a request left the plant; 0 while it has not."""
        row = self._requests.get(id)
        return 0 if row is None else int(self._rq["done_at"][row])

    def step_done(self, id: str, work_center: str) -> int:
        """Pieces of a request that went through a step (scrap included)."""
        row = self._requests.get(id)
        if row is None:
            return 0
        return int(self._rs["done"][row, self._centers[work_center]])

    def fingerprint(self) -> str:
        """SHA-256 of the whole state: same seed, same commands at same times, same value."""
        digest = hashlib.sha256()
        w = self._w
        digest.update(np.array([getattr(w, name) for name in _HASHED], np.float64).tobytes())
        parts: tuple[NDArray[Any], ...] = (
            w.st[: w.stations], w.bf[: w.buffers], w.ring, w.dv[: w.devices], w.jb[: w.jobs],
            w.jr[: w.job_requests], w.rq[: w.requests], w.rs[: w.requests], w.ct, w.pc, w.free,
            w.due, w.spent,
        )  # fmt: skip
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        for order in self._orders:
            digest.update(repr(order).encode())
        for id in self._requests:
            digest.update(id.encode())
        return digest.hexdigest()


def serial_text(number: int) -> str:
    """Serial number as it stands on the part.

    >>> serial_text(1234), serial_text(0)
    ('TX00001234', '')
    """
    return f"TX{number:08d}" if number > 0 else ""


def _edges(center: WorkCenter, from_ns: int, to_ns: int) -> tuple[bool, list[int]]:
    """(closed at ``from_ns``, instants at which it turns, in order)."""
    closed = center.calendar.closed(from_ns, to_ns)
    edges: list[int] = []
    for start, end in closed:
        if start > from_ns:
            edges.append(start)
        if end < to_ns:
            edges.append(end)
    return bool(closed) and closed[0][0] <= from_ns, edges
