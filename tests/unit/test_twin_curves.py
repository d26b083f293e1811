"""Curves of stations: their shape shows wear, lot and defect."""

import numpy as np
import pytest

from workshop_brain.twin.curves import SAMPLES, curve_shape
from workshop_brain.twin.sim import DefectCause

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
