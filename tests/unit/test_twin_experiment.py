"""Policies on the simulated plant: paired runs, figures, repeatability."""

import json

import pytest

from workshop_brain.config import built_in
from workshop_brain.twin.experiment import run_experiment

PLANT = built_in().plant


def test_policies_meet_the_same_plant_and_give_figures() -> None:
    seen: list[tuple[str, int, float]] = []
    result = run_experiment(
        PLANT,
        policies=("foreman", "fifo", "edd", "rule"),
        seeds=(1, 2),
        days=0.75,
        progress=lambda policy, seed, share: seen.append((policy, seed, share)),
    )
    json.dumps(result)
    assert len(result["runs"]) == 8
    for run in result["runs"]:
        assert 700 < run["pieces"] < run["bound_pieces"]
    assert result["paired"]["foreman"]["pieces"]["mean"] == 0
    assert result["summary"]["fifo"]["pieces"]["n"] == 2
    assert seen[-1] == ("rule", 2, 1.0)


def test_a_run_can_be_repeated_bit_for_bit() -> None:
    first, second = (
        run_experiment(PLANT, policies=("foreman", "rule"), seeds=(7,), days=0.5)["runs"]
        for _ in range(2)
    )
    assert [r["fingerprint"] for r in first] == [r["fingerprint"] for r in second]


def test_the_brain_runs_the_plant_with_a_fixed_budget() -> None:
    first, second = (
        run_experiment(PLANT, policies=("brain",), seeds=(3,), days=0.15, iterations=100)
        for _ in range(2)
    )
    run = first["runs"][0]
    assert run["decisions"]["plans"] > 3
    assert run["decisions"]["kept_last_plan"] == 0
    assert run["decisions"]["moves"] <= 100 * run["decisions"]["plans"]
    assert run["fingerprint"] == second["runs"][0]["fingerprint"]


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="no policy 'magic'"):
        run_experiment(PLANT, policies=("magic",), seeds=(1,), days=0.1)
