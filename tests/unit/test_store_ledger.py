"""The ledger: every tampering is found and named; what is acknowledged is on disk."""

import errno
import os
from pathlib import Path

import pytest

from workshop_brain.autonomy.chain import GENESIS, Head, canonical, link, to_line, verify
from workshop_brain.errors import DamageError, LedgerError, StoreError
from workshop_brain.store import ledger as ledger_module
from workshop_brain.store.ledger import FileAnchor, Ledger
from workshop_brain.store.records import Records


def chain(n: int) -> tuple[list[bytes], Head]:
    head, lines = Head(0, GENESIS), []
    for k in range(n):
        entry = link(head, "decision", 1_000 + k, {"id": f"D{k}", "text": "节拍", "gain": 0.5 * k})
        head = Head(entry.n, entry.hash)
        lines.append(to_line(entry))
    return lines, head


def test_a_whole_chain_has_no_problem() -> None:
    lines, head = chain(4)
    assert verify(lines, head) == []
    assert verify([], None) == []


def test_every_flipped_bit_is_found_at_its_line() -> None:
    lines, head = chain(2)
    data = b"".join(lines)
    ends = [len(lines[0]), len(data)]
    for at in range(len(data)):
        line = next(k for k, end in enumerate(ends) if at < end) + 1
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            problems = verify(flipped.splitlines(keepends=True), head)
            assert problems, f"bit {bit} of byte {at} was not found"
            assert problems[0].line in (line, line + 1)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_a_removed_a_doubled_and_a_swapped_entry_are_found(k: int) -> None:
    lines, head = chain(5)
    for changed in (
        lines[:k] + lines[k + 1 :],
        lines[: k + 1] + lines[k:],
        [*lines[:k], lines[k + 1], lines[k], *lines[k + 2 :]],
    ):
        problems = verify(changed, head)
        assert problems
        assert problems[0].line in (k + 1, k + 2)


def test_an_entry_forged_with_right_hashes_breaks_the_one_behind_it() -> None:
    lines, head = chain(3)
    first = link(Head(0, GENESIS), "decision", 1_000, {"id": "forged"})
    problems = verify([to_line(first), *lines[1:]], head)
    assert [p.line for p in problems] == [2]
    assert "replaced" in problems[0].text


def test_a_ledger_cut_short_or_replaced_as_a_whole_is_found_by_the_anchor() -> None:
    lines, head = chain(4)
    assert verify(lines[:3]) == []
    assert "cut short" in verify(lines[:3], head)[0].text
    assert "cut short" in verify([], head)[0].text
    other = link(Head(0, GENESIS), "start", 5, {})
    for _ in range(3):
        other = link(Head(other.n, other.hash), "start", 5, {})
    forged, last = [], Head(0, GENESIS)
    for _ in range(4):
        entry = link(last, "start", 5, {})
        forged.append(to_line(entry))
        last = Head(entry.n, entry.hash)
    assert "replaced" in verify(forged, head)[0].text


def test_nan_and_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"x": float("nan")})
    with pytest.raises(TypeError):
        canonical({"x": {1, 2}})


def test_entries_come_back_after_a_restart_and_the_chain_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, wall_ns=lambda: 42)
    first = ledger.append("start", {"version": "1", "pair": (1, 2)})
    ledger.close()
    again = Ledger(tmp_path, wall_ns=lambda: 43)
    second = again.append("stop", {})
    assert list(again.entries()) == [first, second]
    assert list(again.entries("stop")) == [second]
    assert list(again.entries(after=1, limit=5)) == [second]
    assert first.body == {"version": "1", "pair": [1, 2]}
    assert second.prev == first.hash
    assert again.verify() == []
    again.close()


def test_a_torn_last_line_is_cut_and_a_missing_acknowledged_one_is_not_hidden(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path)
    for k in range(3):
        ledger.append("start", {"k": k})
    ledger.close()
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"body":{"half')
    again = Ledger(tmp_path)
    assert again.append("start", {"k": 3}).n == 4
    assert again.verify() == []
    again.close()
    ledger.path.write_bytes(whole[:-5])
    with pytest.raises(LedgerError, match="ends with entry 2, but entry 4 was written"):
        Ledger(tmp_path).append("start", {})


def test_a_crash_between_entry_and_anchor_leaves_a_whole_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = ledger.append("start", {})
    ledger.append("stop", {})
    ledger.close()
    FileAnchor(tmp_path / "anchor.json").write(1, first.hash)
    again = Ledger(tmp_path)
    assert again.verify() == []
    assert again.append("start", {}).n == 3
    again.close()


def test_the_head_can_be_kept_in_the_records(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.sqlite")
    ledger = Ledger(tmp_path / "ledger", anchor=records.anchor())
    for k in range(3):
        ledger.append("start", {"k": k})
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:2]))
    assert [p.line for p in ledger.verify()] == [3]
    ledger.close()
    records.close()


def test_a_full_disk_adds_nothing_and_the_ledger_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    ledger.append("start", {})

    def half(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "_write", half)
        with pytest.raises(StoreError, match="No space left"):
            ledger.append("decision", {})
    assert ledger.append("stop", {}).n == 2
    assert ledger.verify() == []
    ledger.close()


def test_inputs_are_found_by_their_hash_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    sha = ledger.put_input(b"inputs of a decision")
    assert ledger.put_input(b"inputs of a decision") == sha
    assert ledger.get_input(sha) == b"inputs of a decision"
    file = tmp_path / "inputs" / f"{sha}.bin"
    file.write_bytes(b"inputs of a Decision")
    with pytest.raises(DamageError, match=sha):
        ledger.get_input(sha)
    assert ledger.put_input(b"inputs of a decision") == sha
    assert ledger.get_input(sha) == b"inputs of a decision"
    with pytest.raises(LedgerError, match="no such stored input"):
        ledger.get_input("0" * 64)


def test_a_flipped_byte_in_a_stored_input_and_a_missing_input_are_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    sha = ledger.put_input(b"what the decision saw")
    ledger.append("decision", {"id": "D1", "input_hash": sha})
    assert ledger.verify() == []
    path = tmp_path / "inputs" / f"{sha}.bin"
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    assert any(sha in problem.text for problem in ledger.verify())
    path.unlink()
    assert any("D1" in problem.text for problem in ledger.verify())
    ledger.close()


def test_what_could_not_be_synced_is_synced_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path, anchor=FileAnchor(tmp_path / "head"))
    ledger.append_all([("note", {"k": 1})], [b"one", b"two"])
    sync, synced, is_full = ledger_module._sync_file, [], True

    def limited(path: Path) -> None:
        if is_full and synced:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)
        synced.append(path.name)

    monkeypatch.setattr(ledger_module, "_sync_file", limited)
    with pytest.raises(StoreError, match="free some space"):
        ledger.settle()
    is_full = False
    ledger.settle()
    assert {*synced} == {path.name for path in tmp_path.rglob("*.bin")}
    assert ledger.verify() == []
