"""One instance per data directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workshop_brain.errors import StoreError, StoreLockedError
from workshop_brain.store.historian import Historian
from workshop_brain.store.lock import DataLock


def test_a_second_holder_is_told_who_has_the_lock(tmp_path: Path) -> None:
    with DataLock(tmp_path):
        with pytest.raises(StoreLockedError, match=f"in use by process {os.getpid()}"):
            DataLock(tmp_path)
        DataLock(tmp_path, "brain.lock").release()
    DataLock(tmp_path).release()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from workshop_brain.store.lock import DataLock; "
        "lock = DataLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(StoreLockedError, match=str(child.pid)):
        DataLock(tmp_path)
    child.kill()
    child.wait()
    child.stdout.close()
    DataLock(tmp_path).release()


def test_a_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(StoreError, match="data"):
        DataLock(tmp_path / "data")


def test_a_second_writer_on_the_same_history_is_refused(tmp_path: Path) -> None:
    with Historian(tmp_path), pytest.raises(StoreLockedError):
        Historian(tmp_path)
