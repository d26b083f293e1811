"""The record of what was sent: all values come back in order of sending."""

from pathlib import Path

import numpy as np

from workshop_brain.twin.record import FileRecord, read_record


def test_a_record_gives_back_numbers_and_texts(tmp_path: Path) -> None:
    record = FileRecord(tmp_path / "rec")
    a, b = record.declare("s/a/l/c/u/torque"), record.declare("s/a/l/c/u/serial")
    record.value(a, 10, 1.5)
    record.text(b, 20, "T-1")
    record.text(b, 30, "T-2")
    record.text(b, 40, "T-1")
    record.values(np.array([a, a]), np.array([50, 60]), np.array([2.5, 3.5]))
    record.close()
    paths, texts, signal, time_ns, value = read_record(tmp_path / "rec")
    assert paths == ["s/a/l/c/u/torque", "s/a/l/c/u/serial"]
    assert texts == ["T-1", "T-2"]
    order = np.argsort(time_ns)
    assert time_ns[order].tolist() == [10, 20, 30, 40, 50, 60]
    assert signal[order].tolist() == [a, b, b, b, a, a]
    assert value[order].tolist() == [1.5, 0.0, 1.0, 0.0, 2.5, 3.5]


def test_an_empty_record_is_readable(tmp_path: Path) -> None:
    FileRecord(tmp_path).close()
    paths, texts, signal, _, _ = read_record(tmp_path)
    assert (paths, texts, len(signal)) == ([], [], 0)
