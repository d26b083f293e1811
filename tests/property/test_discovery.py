"""Whatever an address says, discovery reads it or counts it; what it writes can be read again."""

import tomllib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.connect.choice import Override
from workshop_brain.connect.discovery import draft, propose, registers
from workshop_brain.connect.discovery.topics import Tally

NAME = st.text(min_size=1, max_size=20)
TABLE = st.fixed_dictionaries(
    {
        "protocol": st.just("opcua"),
        "url": NAME,
        "exclude": st.lists(NAME, max_size=6),
        "override": st.lists(
            st.fixed_dictionaries({"match": NAME, "kind": NAME}),
            max_size=4,
            unique_by=lambda row: row["match"],
        ),
    }
)


@given(TABLE)
def test_a_source_table_survives_being_written(table: dict[str, object]) -> None:
    written = tomllib.loads(draft.block(table))["source"][0]
    assert written == {k: v for k, v in table.items() if v != [] or k == "exclude"}


@given(TABLE, TABLE)
def test_a_second_merge_adds_rows_and_never_takes_any(
    first: dict[str, object], second: dict[str, object]
) -> None:
    plant = {"enterprise": "e", "site": "s"}
    once = draft.merged("", first, id="a", plant=plant, origin="t").text
    twice = draft.merged(once, {**second, "url": first["url"]}, id="a", plant=plant, origin="t")
    before, after = tomllib.loads(once)["source"][0], tomllib.loads(twice.text)["source"][0]
    assert {k: v for k, v in after.items() if k != "override"} == {
        k: v for k, v in before.items() if k != "override"
    }
    rows = before.get("override", [])
    assert after.get("override", [])[: len(rows)] == rows


@given(st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=80)), max_size=20))
def test_any_payload_is_counted(messages: list[tuple[str, bytes]]) -> None:
    tally = Tally()
    for topic, payload in messages:
        tally.take(topic, payload)
    assert sum(t.messages for t in tally.topics.values()) == len(messages)
    tally.rows()


@given(st.lists(st.lists(st.integers(0, 65_535), min_size=5, max_size=5), min_size=1, max_size=4))
def test_registers_are_guessed_once_each(readings: list[list[int]]) -> None:
    found = registers.guess(np.array(readings, np.uint16))
    taken = [g.offset + k for g in found for k in range(2 if g.type == "float32" else 1)]
    assert len(taken) == len(set(taken))
    assert all(0 <= at < 5 for at in taken)


@given(st.lists(st.lists(NAME, min_size=1, max_size=9).map("/".join), max_size=8))
def test_the_root_is_above_every_variable(browses: list[str]) -> None:
    root = propose.choose_root(browses)
    assert not root or all(browse.startswith(f"{root}/") for browse in browses)


@given(NAME, NAME)
def test_a_fault_of_a_row_is_a_text(match: str, path: str) -> None:
    assert isinstance(Override(match=match, path=path).fault(), str)
