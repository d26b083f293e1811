"""Curves of stations: their shape shows wear, lot and defect."""

import dataclasses

import numpy as np
import pytest

from workshop_brain.config import built_in
from workshop_brain.twin.curves import SAMPLES, channel_names, curve_shape, cycle_curves
from workshop_brain.twin.devices import DeviceClass
from workshop_brain.twin.experiment import DEFAULT_START_NS
from workshop_brain.twin.sim import DefectCause, PlantSim
from workshop_brain.units import NS_PER_H

PROGRAMS = ("tightening", "pressing", "measuring", "sealing", "leak_test", "end_of_line")


def _curve(
    program: str, *, wear: float = 0.1, lot: float = 0.0, cause: DefectCause = DefectCause.NONE
) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(11)
    return curve_shape(program, wear=wear, lot=lot, cause=cause, draw=draw)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_curve_sweeps_forward_and_repeats(program: str) -> None:
    sweep, measured = _curve(program)
    assert sweep.shape == measured.shape == (SAMPLES,)
    assert (np.diff(sweep) > 0).all()
    assert np.isfinite(measured).all()
    assert np.array_equal(measured, _curve(program)[1])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("cause", [DefectCause.WEAR, DefectCause.LOT, DefectCause.NOISE])
def test_a_bad_part_looks_different(program: str, cause: DefectCause) -> None:
    good, bad = _curve(program)[1], _curve(program, cause=cause)[1]
    normal = max(float(np.abs(_curve(program, lot=lot)[1] - good).max()) for lot in (-0.2, 0.2))
    assert np.abs(bad - good).max() > normal


def test_wear_makes_a_curve_rougher() -> None:
    new, worn = _curve("tightening", wear=0.0)[1], _curve("tightening", wear=1.0)[1]
    assert np.diff(worn, 2).std() > 1.5 * np.diff(new, 2).std()


def test_a_main_station_records_a_curve_of_each_operation() -> None:
    sim = PlantSim(built_in().plant, seed=2, start_ns=DEFAULT_START_NS)
    sim.advance(sim.now_ns + 2 * NS_PER_H)
    cycles = sim.drain_cycles()
    steps: dict[str, set[int]] = {}
    parts: dict[tuple[str, str, int], list[int]] = {}
    for index, curve in cycle_curves(sim, cycles, seed=1):
        steps.setdefault(sim.devices[index].id, set()).add(curve.step)
        parts.setdefault((curve.station, curve.serial, curve.step), []).append(curve.time_ns)
    main = [s for id, numbers in steps.items() if id.startswith("st") for s in numbers]
    assert sorted(main) == [10 * k for k in range(1, 93)]
    assert steps["eol01"] == steps["sh1"] == {1}
    station = next(d for d in sim.devices if d.id == "st05").path
    for (path, serial, step), times in parts.items():
        if path == station and step == 100:
            assert parts[path, serial, 90][0] < times[0]


def test_only_the_curve_of_the_bad_operation_is_bad() -> None:
    sim = PlantSim(built_in().plant, seed=2, start_ns=DEFAULT_START_NS)
    sim.advance(sim.now_ns + 8 * NS_PER_H)
    cycles = sim.drain_cycles()
    bad = cycles.operation > 0
    good = dataclasses.replace(cycles, ok=np.ones_like(cycles.ok))
    assert bad.any()
    checked = 0
    for (index, one), (_, other) in zip(
        cycle_curves(sim, cycles, seed=1), cycle_curves(sim, good, seed=1), strict=True
    ):
        if sim.devices[index].klass is DeviceClass.STATION:
            channel = channel_names(sim.devices[index])[1]
            same = np.array_equal(one.channels[channel], other.channels[channel])
            checked += not same
    assert checked == int(bad.sum())
