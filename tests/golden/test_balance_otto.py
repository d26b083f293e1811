"""Otto's line balancing instances: never behind the published stations, and proved.

The instances stand beside the checkout (``../shared/data/scheduling``); they are not shipped.
Published values: Otto, Otto, Scholl 2013, EJOR 228(1), from ``instances.csv`` there.
"""

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from workshop_brain.schedule.balance.read import read_line
from workshop_brain.schedule.balance.solve import solve
from workshop_brain.schedule.balance.verify import verify_balance

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "scheduling"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="published instances are not beside the checkout (../shared/data)"
)
NAMES = [f"otto_n{n}_{k}" for n in (20, 50, 100) for k in (52, 202, 352, 502)]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_number_of_stations_is_reached_and_proved(name: str) -> None:
    with (DATA / "instances.csv").open(encoding="utf-8") as file:
        row = next(r for r in csv.DictReader(file) if r["instance"] == f"{name}.alb")
    line = read_line((DATA / row["file"]).read_text("utf-8"), name).line
    assert line.n_tasks == int(row["ops"])
    found = solve(line, cycle=1000, seconds=120.0, loads=400_000)
    at = dict(zip(line.tasks, found.station.tolist(), strict=True))
    assert verify_balance(line, at, cycle=Decimal(1000), stations=found.stations) == []
    assert int(row["lower_bound"]) <= found.lower_bound <= found.stations
    assert found.stations <= int(row["upper_bound"])
    assert found.is_optimal
