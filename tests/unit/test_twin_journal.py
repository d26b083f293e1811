"""The plant's day on disk: commands come back, and the replayed plant is the same plant."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from workshop_brain.config import built_in
from workshop_brain.model.order import JobOrder, WorkRequest
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
from workshop_brain.twin.journal import (
    FASTEST,
    BirthNumbers,
    Journal,
    Pace,
    decode_command,
    encode_command,
    read_speed,
    write_orders,
)
from workshop_brain.twin.sim import PlantSim
from workshop_brain.units import NS_PER_DAY, NS_PER_MIN, NS_PER_S

MONDAY_NS = int(datetime(2026, 11, 23, 0, 30, tzinfo=UTC).timestamp()) * NS_PER_S
SOFT1 = "local/works/gears/soft/c1/soft1"
JOB = JobOrder(
    id="J1.soft",
    requests=(("J1", 3),),
    work_center="soft",
    equipment=SOFT1,
    product="dct_a",
    program="pinion",
    quantity=3,
    start_ns=MONDAY_NS,
    end_ns=MONDAY_NS + NS_PER_MIN,
)


@pytest.mark.parametrize(
    "command",
    [
        StoreJob(JOB, True),
        StartJob("J1.soft"),
        RevokeJob("J1.soft"),
        AbortJob("J1.soft"),
        ClearJob("J1.soft"),
        BreakUnit(SOFT1, 60.0),
        RepairUnit(SOFT1),
        QualityStop(SOFT1, 60.0),
        OperatorAbsent(SOFT1, 60.0),
    ],
)
def test_every_command_survives_the_journal(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


def test_a_replayed_day_gives_the_same_plant(tmp_path: Path) -> None:
    plant = built_in().plant
    first = PlantSim(plant, seed=4, start_ns=MONDAY_NS)
    journal = Journal(tmp_path)
    journal.begin(plant, 4, MONDAY_NS)
    journal.pace(Pace(wall_ns=0, plant_ns=MONDAY_NS, speed=2.0))
    journal.run(2.0)
    for minute, command in ((3, StoreJob(JOB, True)), (5, BreakUnit(SOFT1, 90.0))):
        first.advance(MONDAY_NS + minute * NS_PER_MIN)
        journal.command(first.now_ns, command)
        first.command(command)
    first.advance(MONDAY_NS + 20 * NS_PER_MIN)
    journal.close()
    day = Journal(tmp_path).load(plant, 4, 10 * NS_PER_MIN)
    assert day is not None
    assert (day.start_ns, day.asked_speed, len(day.commands)) == (MONDAY_NS, 2.0, 2)
    again = PlantSim(plant, seed=4, start_ns=day.start_ns)
    for time_ns, command in day.commands:
        again.advance(time_ns)
        again.command(command)
    again.advance(day.pace.plant_at(10 * NS_PER_MIN))
    assert again.now_ns == first.now_ns
    assert again.fingerprint() == first.fingerprint()


def test_a_cut_line_is_left_out(tmp_path: Path) -> None:
    plant = built_in().plant
    journal = Journal(tmp_path)
    journal.begin(plant, 1, MONDAY_NS)
    journal.pace(Pace(wall_ns=0, plant_ns=MONDAY_NS, speed=1.0))
    journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text("utf-8") + '{"t": 1, "comm', "utf-8")
    second = Journal(tmp_path)
    assert second.load(plant, 1, NS_PER_S) is not None
    second.command(MONDAY_NS, RepairUnit(SOFT1))
    second.close()
    day = Journal(tmp_path).load(plant, 1, NS_PER_S)
    assert day is not None
    assert day.commands == ((MONDAY_NS, RepairUnit(SOFT1)),)


def test_another_seed_or_an_old_day_starts_anew(tmp_path: Path) -> None:
    plant = built_in().plant
    journal = Journal(tmp_path)
    journal.begin(plant, 1, MONDAY_NS)
    journal.pace(Pace(wall_ns=0, plant_ns=MONDAY_NS, speed=1.0))
    journal.close()
    assert journal.load(plant, 2, NS_PER_S) is None
    assert journal.load(plant, 1, 9 * NS_PER_DAY) is None
    assert Journal(None).load(plant, 1, NS_PER_S) is None


def test_the_order_book_is_written_as_csv(tmp_path: Path) -> None:
    target = tmp_path / "orders.csv"
    request = WorkRequest(
        id="W1", product="dct_a", quantity=40, due_ns=MONDAY_NS + NS_PER_DAY, release_ns=MONDAY_NS
    )
    write_orders(target, [request])
    assert target.read_text("utf-8").splitlines() == [
        "id,product,quantity,due,release,priority",
        "W1,dct_a,40,2026-11-24T00:30:00Z,2026-11-23T00:30:00Z,1",
    ]


def test_birth_numbers_go_on_after_a_restart_and_wrap(tmp_path: Path) -> None:
    kept = tmp_path / "bdseq.json"
    first = BirthNumbers(kept)
    assert [first.next("z1"), first.next("z1"), first.next("z2")] == [0, 1, 0]
    assert BirthNumbers(kept).next("z1") == 2
    kept.write_text('{"z1": 255}', "utf-8")
    assert BirthNumbers(kept).next("z1") == 0
    assert BirthNumbers(None).next("z1") == 0


def test_unreadable_birth_numbers_start_again(tmp_path: Path) -> None:
    kept = tmp_path / "bdseq.json"
    kept.write_text("[1", "utf-8")
    assert BirthNumbers(kept).next("z1") == 0
    assert BirthNumbers(kept).next("z1") == 1


def test_a_plant_at_full_speed_goes_on_from_where_it_last_was(tmp_path: Path) -> None:
    plant = built_in().plant
    journal = Journal(tmp_path)
    journal.begin(plant, 1, MONDAY_NS)
    reached = MONDAY_NS + NS_PER_MIN
    journal.pace(Pace(wall_ns=1, plant_ns=reached, speed=FASTEST))
    journal.run(FASTEST)
    journal.close()
    for line in (tmp_path / "journal.jsonl").read_text("utf-8").split():
        assert "Infinity" not in line
    day = Journal(tmp_path).load(plant, 1, MONDAY_NS + NS_PER_DAY)
    assert day is not None
    assert day.asked_speed == FASTEST
    assert day.pace.plant_at(MONDAY_NS + NS_PER_DAY) == reached


@pytest.mark.parametrize("told", ["0", "-1", "inf", "nan", "fast", "", None, True])
def test_a_wrong_speed_is_named(told: object) -> None:
    with pytest.raises(ValueError, match=r"speed must be a number above 0 or 'max', got"):
        read_speed(told)
