"""The bound of one group of machines against plans found by trying everything."""

from itertools import permutations, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.schedule.relaxed import last_end

JOBS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=5
)


def _best(jobs: list[tuple[int, int, int]], machines: int) -> int:
    """The least last end of all sequences on all machines."""
    best = 10**9
    for order in permutations(jobs):
        for on in product(range(machines), repeat=len(jobs)):
            free, last = [0] * machines, 0
            for (head, work, tail), m in zip(order, on, strict=True):
                free[m] = max(free[m], head) + work
                last = max(last, free[m] + tail)
            best = min(best, last)
    return best


@given(JOBS, st.integers(1, 2))
def test_no_plan_is_over_before_the_bound(jobs: list[tuple[int, int, int]], machines: int) -> None:
    heads, works, tails = np.array(jobs, np.int64).T
    found = last_end(heads, works, tails, machines)
    simple = int(heads.min()) + -(-int(works.sum()) // machines) + int(tails.min())
    assert found <= _best(jobs, machines)
    assert machines > 1 or found >= simple


def test_an_interruption_may_be_needed_to_reach_the_bound() -> None:
    jobs = [(0, 4, 6), (1, 1, 9)]
    heads, works, tails = np.array(jobs).T
    assert last_end(heads, works, tails) == 11
    assert _best(jobs, 1) == 12
