"""The simulated plant: PlantSim runs the discrete-event kernel and answers in the plant's words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workshop_brain.model.order import JobOrder, JobResponse
from workshop_brain.model.plant import Plant
from workshop_brain.model.state import UnitState
from workshop_brain.twin.devices import Device, plant_devices
from workshop_brain.twin.scenario import REFERENCE, Scenario


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
    serial : int64, code into sim.texts
    product : int32, position in plant.products
    start_ns, end_ns : int64
    ok : bool, False when the cycle found or made a defect
    wear : float64, 0 new tool .. 1 worn
    lot : int64, material lot number
    cause : int32, DefectCause (0 none)
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

    def __len__(self) -> int:
        return len(self.device)


class DefectCause(IntEnum):
    """Why a cycle was not ok."""

    NONE = 0
    WEAR = 1
    LOT = 2
    TEMPERATURE = 3
    NOISE = 4


@dataclass(frozen=True, slots=True)
class StoreJob:
    """Put a job order into the receiver's list; with ``start`` also allow it to start."""

    job: JobOrder
    start: bool = False


@dataclass(frozen=True, slots=True)
class StartJob:
    """Allow a stored job to start."""

    id: str


@dataclass(frozen=True, slots=True)
class RevokeJob:
    """Take the permission to start back (the job has not started yet)."""

    id: str


@dataclass(frozen=True, slots=True)
class AbortJob:
    """End a job now; pieces that are finished stay finished."""

    id: str


@dataclass(frozen=True, slots=True)
class ClearJob:
    """Take an ended or aborted job off the list."""

    id: str


@dataclass(frozen=True, slots=True)
class BreakUnit:
    """Break a device for a time."""

    path: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class RepairUnit:
    """End every stop of a device now."""

    path: str


@dataclass(frozen=True, slots=True)
class QualityStop:
    """Hold a device for a quality problem."""

    path: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class OperatorAbsent:
    """Leave a device without its operator for a time."""

    path: str
    duration_s: float


Command = (
    StoreJob
    | StartJob
    | RevokeJob
    | AbortJob
    | ClearJob
    | BreakUnit
    | RepairUnit
    | QualityStop
    | OperatorAbsent
)


class PlantSim:
    """The whole plant at one instant of plant time."""

    def __init__(
        self,
        plant: Plant,
        *,
        seed: int,
        start_ns: int,
        scenario: Scenario = REFERENCE,
        warm: bool = True,
    ) -> None:
        self.plant = plant
        self.seed = seed
        self.scenario = scenario
        self.now_ns = start_ns
        self.devices: tuple[Device, ...] = plant_devices(plant)
        n = len(self.devices)
        self.state: NDArray[np.int64] = np.full(n, UnitState.IDLE, np.int64)
        self.mode: NDArray[np.int64] = np.ones(n, np.int64)
        self.stop_reason: NDArray[np.int64] = np.zeros(n, np.int64)
        self.processed: NDArray[np.int64] = np.zeros(n, np.int64)
        self.defective: NDArray[np.int64] = np.zeros(n, np.int64)
        self.infeed_level: NDArray[np.int64] = np.zeros(n, np.int64)
        self.blocked: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.starved: NDArray[np.bool_] = np.zeros(n, np.bool_)
        self.cycle_start_ns: NDArray[np.int64] = np.zeros(n, np.int64)
        self.cycle_end_ns: NDArray[np.int64] = np.zeros(n, np.int64)
        self.cycle_no: NDArray[np.int64] = np.zeros(n, np.int64)
        self.wear: NDArray[np.float64] = np.zeros(n, np.float64)
        self.temperature_c: NDArray[np.float64] = np.full(n, 24.0, np.float64)
        self.lot: NDArray[np.int64] = np.zeros(n, np.int64)
        self.texts: list[str] = [""]

    def advance(self, until_ns: int) -> None:
        """Run all events up to and including ``until_ns``."""
        self.now_ns = max(self.now_ns, until_ns)

    def command(self, command: Command) -> str:
        """Apply a command at ``now_ns``; "" or the reason of refusal."""
        return "not ready"

    def job(self, device: int) -> str:
        """Id of the job that the device works on; "" for none."""
        return ""

    def serial(self, device: int) -> str:
        """Serial number of the part in the device; "" for none."""
        return ""

    def drain_changes(self) -> Changes:
        """Changes since the last drain, in time order."""
        return Changes(
            np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8), np.empty(0)
        )

    def drain_cycles(self) -> Cycles:
        """Finished cycles since the last drain, in order of their end."""
        e, i = np.empty(0, np.int64), np.empty(0, np.int32)
        return Cycles(i, e, i, e, e, np.empty(0, np.bool_), np.empty(0), e, i)

    def job_list(self, work_center: str) -> list[JobResponse]:
        """The job list of a work center's receiver, in order of arrival."""
        return []

    def job_order(self, id: str) -> JobOrder:
        """A stored job order; KeyError when unknown."""
        raise KeyError(id)

    def metrics(self) -> dict[str, Any]:
        """Results so far."""
        return {}

    def fingerprint(self) -> str:
        """SHA-256 of the whole state."""
        return ""
