"""Malformed payloads are kept as a bounded sample that outlives the process."""

from itertools import count
from pathlib import Path

from typer.testing import CliRunner

from workshop_brain.app.doctor import examine
from workshop_brain.cli import app
from workshop_brain.connect import rejected
from workshop_brain.connect.rejected import MOST_BYTES, MOST_OF_SOURCE, Rejected


def box(data: Path, source: str = "mqtt1") -> Rejected:
    clock = count(1_790_000_000_000_000_000, 1_000_000_000)
    return Rejected(rejected.folder_of(data, source), source, wall_ns=lambda: next(clock))


def test_the_last_distinct_payloads_of_a_cause_stay_with_their_bytes(tmp_path: Path) -> None:
    own = box(tmp_path)
    for k in (*range(12), 11, 11):
        own.note("not_json", f"t/{k}", "is not JSON", b"{%d" % k)
    own.note("no_value", "t", "has nothing", b"{}")
    own.save()
    found = next(rejected.kept(tmp_path))
    assert found.causes == {"not_json": 14, "no_value": 1}
    assert [s.where for s in found.samples] == ["t", *(f"t/{k}" for k in range(11, 3, -1))]
    newest = found.samples[1]
    assert (newest.count, newest.size) == (3, 3)
    assert newest.last_ns > newest.first_ns
    assert (found.folder / newest.file).read_bytes() == b"{11"
    assert len(list(found.folder.glob("*.bin"))) == len(found.samples)


def test_a_new_start_goes_on_where_the_old_one_ended(tmp_path: Path) -> None:
    first = box(tmp_path)
    first.note("not_json", "t", "is not JSON", b"{1")
    first.save()
    again = box(tmp_path)
    again.note("not_json", "t", "is not JSON", b"{1")
    again.note("not_json", "t", "is not JSON", b"{2")
    again.save()
    found = next(rejected.kept(tmp_path))
    assert found.causes == {"not_json": 3}
    assert [s.count for s in found.samples] == [1, 2]


def test_a_flood_of_large_payloads_and_of_causes_stays_small(tmp_path: Path) -> None:
    own = box(tmp_path)
    for k in range(2000):
        own.note(f"cause {k % 50}", "t", "w" * 10_000, k.to_bytes(4, "big") * 100_000)
    own.save()
    found = next(rejected.kept(tmp_path))
    on_disk = sum(path.stat().st_size for path in found.folder.iterdir())
    assert on_disk < MOST_OF_SOURCE + 200_000
    assert len(found.causes) == 25
    assert sum(found.causes.values()) == 2000
    assert max((found.folder / s.file).stat().st_size for s in found.samples) == MOST_BYTES
    assert {s.size for s in found.samples} == {400_000}


def test_a_damaged_index_is_passed_over_and_written_anew(tmp_path: Path) -> None:
    own = box(tmp_path)
    own.note("not_json", "t", "is not JSON", b"{")
    own.save()
    (rejected.folder_of(tmp_path, "mqtt1") / "samples.json").write_bytes(b"{")
    assert list(rejected.kept(tmp_path)) == []
    again = box(tmp_path)
    again.note("no_value", "t", "has nothing", b"{}")
    again.save()
    found = next(rejected.kept(tmp_path))
    assert len(list(found.folder.glob("*.bin"))) == len(found.samples) == 1


def test_people_see_them_in_both_languages_and_doctor_counts_them(tmp_path: Path) -> None:
    own = box(tmp_path, "http/robot 7")
    own.note("unreadable", "t\x1b[2J", "is not JSON", b"{")
    own.save()
    for language, word in (("en", "bytes"), ("zh", "字节")):
        said = (
            CliRunner()
            .invoke(app, ["rejected", "--data", str(tmp_path), "--language", language])
            .output
        )
        assert "unreadable 1\n" in said
        assert word in said
        assert "\x1b" not in said
    finding = next(f for f in examine(tmp_path) if "malformed" in f.text)
    assert "http/robot 7 (unreadable 1)" in finding.text
