"""Balance documents of a plant: where they lie, what stands in for a takt that nobody gave."""

from decimal import Decimal
from pathlib import Path

import pytest

from workshop_brain.app.line_balance import balance_view
from workshop_brain.config import built_in, load
from workshop_brain.errors import OrderError
from workshop_brain.schedule.balance.read import old_stations, read_line
from workshop_brain.twin.devices import plant_devices
from workshop_brain.twin.layout import plant_world
from workshop_brain.twin.scenario import REFERENCE

TASKS = "task,time,predecessors\na,20,\nb,10,a\nc,25,b\n"
TODAY = "task,station\na,1\nb,1\nc,2\n"


def folder(at: Path, tasks: str = TASKS, today: str = TODAY) -> Path:
    (at / "balance").mkdir(parents=True)
    (at / "balance" / "l1.csv").write_text(tasks, "utf-8")
    if today:
        (at / "balance" / "l1.now.csv").write_text(today, "utf-8")
    return at


def test_without_a_takt_the_longest_station_of_today_counts(tmp_path: Path) -> None:
    view = balance_view([folder(tmp_path)], "l1", None, None)
    assert (view["cycle_s"], view["before_cycle_s"]) == (30.0, 30.0)
    assert [pile["total_s"] for pile in view["now"]] == [30.0, 25.0]
    view = balance_view([tmp_path], "l1", Decimal(56), Decimal(40))
    assert (view["cycle_s"], view["before_cycle_s"], len(view["then"])) == (56.0, 40.0, 1)
    # Fewer moves would keep the second station.
    assert view["moved"] == 1
    assert view["front"] == [{"stations": 2, "moved": 0}]


def test_the_data_directory_comes_before_the_plant_file(tmp_path: Path) -> None:
    data, plant = tmp_path / "data", folder(tmp_path / "plant")
    assert len(balance_view([data, plant], "l1", None, None)["now"]) == 2
    folder(data, today="task,station\na,1\nb,2\nc,3\n")
    assert len(balance_view([data, plant], "l1", None, None)["now"]) == 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert balance_view([tmp_path], "l1", None, None)["missing"] == "balance/l1.csv"
    folder(tmp_path / "x", today="")
    assert balance_view([tmp_path / "x"], "l1", None, None)["missing"] == "balance/l1.now.csv"
    folder(tmp_path / "y", today="task,station\na,1\nb,1\n")
    with pytest.raises(OrderError, match="no station for task 'c'"):
        balance_view([tmp_path / "y"], "l1", None, None)


def test_a_plant_file_knows_its_directory_and_the_built_in_plant_its_own(tmp_path: Path) -> None:
    home = built_in().home
    assert home is not None
    assert (home / "balance" / "asm1.csv").is_file()
    (tmp_path / "plant.toml").write_text("", "utf-8")
    assert load(tmp_path / "plant.toml").home == home  # an empty file is the built-in plant
    text = (home / "transmission.toml").read_text("utf-8")
    (tmp_path / "plant.toml").write_text(text, "utf-8")
    assert load(tmp_path / "plant.toml").home == tmp_path


def test_the_built_in_plants_documents_are_its_line_as_it_runs() -> None:
    settings = built_in()
    assert settings.home is not None
    text = (settings.home / "balance" / "asm1.csv").read_text("utf-8")
    line = read_line(text, "asm1").line
    today = (settings.home / "balance" / "asm1.now.csv").read_text("utf-8")
    at = old_stations(today, "asm1.now.csv", line.tasks)
    devices = plant_devices(settings.plant)
    world, names = plant_world(settings.plant, devices, REFERENCE, seed=1, now_ns=0)
    assert line.n_tasks == 92
    for k, task in enumerate(line.tasks):
        station = world.st[names.index(f"st{at[task]:02d}")]
        seconds = round(float(station["op1_s" if k % 2 == 0 else "op2_s"]), 1)
        assert float(line.time(int(line.times[0][k]))) == seconds
    for before, after in line.precedence:
        assert at[line.tasks[before]] <= at[line.tasks[after]]
