"""Weights fitted to preferred plans."""

import numpy as np
import pytest

from workshop_brain.schedule.objective import PLANT_WEIGHTS
from workshop_brain.schedule.preferences import PARTS, fit


def test_planners_who_accept_lateness_to_save_changeovers_raise_that_weight() -> None:
    # The preferred plan is 600 s later and saves an hour of changeovers: against present weights.
    pair = ([1600.0, 0.0, 0.0, 0.0, 0.0], [1000.0, 3600.0, 0.0, 0.0, 0.0])
    found = fit([pair] * 8)
    assert (found.agrees_before, found.agrees) == (0, 8)
    assert found.weights.setup > PLANT_WEIGHTS.setup
    assert found.weights.tardiness < PLANT_WEIGHTS.tardiness
    assert found.weights.move == PLANT_WEIGHTS.move


def test_a_planner_with_known_weights_is_found_again_and_no_weight_is_negative() -> None:
    random = np.random.default_rng(5)
    now = np.array([getattr(PLANT_WEIGHTS, name) for name in PARTS])
    true = now * np.array([0.3, 4.0, 1.0, 0.0, 1.0])
    plans = random.random((400, 2, 5)) / now
    pairs = [(a, b) if true @ a < true @ b else (b, a) for a, b in plans]
    found = fit(pairs[:200])
    weights = np.array([getattr(found.weights, name) for name in PARTS])
    assert (weights >= 0).all()
    unseen = sum(weights @ a < weights @ b for a, b in pairs[200:])
    assert unseen >= 180 > sum(now @ a < now @ b for a, b in pairs[200:])


def test_without_pairs_the_present_weights_stay_and_bad_ones_are_refused() -> None:
    assert fit([]).weights == PLANT_WEIGHTS
    with pytest.raises(ValueError, match="5 parts"):
        fit([([1.0], [2.0])])
    with pytest.raises(ValueError, match="finite"):
        fit([([1.0, 0, 0, 0, float("nan")], [2.0, 0, 0, 0, 0])])
