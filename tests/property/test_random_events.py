"""Ten thousand random events, and every plan that comes out is verified."""

import pytest
from bench.random_events import run


@pytest.mark.parametrize("seed", range(4))
def test_every_reaction_to_a_random_event_is_feasible(seed: int) -> None:
    tally = run((seed, 2500))
    assert tally == {
        "events": 2500,
        "verified": 2500,
        "spoiled": tally["spoiled"],
        "refused": tally["spoiled"],
    }
    assert tally["spoiled"] > 1000
