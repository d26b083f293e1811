"""The plant file that discovery writes: small, merged, nothing lost; and what is different now."""

from pathlib import Path
from typing import Any

import pytest

from workshop_brain import config
from workshop_brain.cli.discovery_report import WORDS
from workshop_brain.connect.discovery import draft, snapshot
from workshop_brain.connect.discovery.topics import Tally
from workshop_brain.errors import ConfigError

PLANT = {"enterprise": "acme", "site": "works"}
OPCUA: dict[str, Any] = {
    "protocol": "opcua",
    "url": "opc.tcp://plc:4840",
    "root": "Plant",
    "exclude": ["*/Diagnostics/*"],
    "override": [{"match": "*/Pieces", "kind": "counter"}],
}
OWN = """\
# ours, with a comment
[plant]
enterprise = "acme"
site = "works"

[[source]]   # the first
id = "press"
protocol = "opcua"
url = "opc.tcp://press:4840"
root = "Machines"
[[source.override]]
match = "*/Force"
unit = "kN"

[[source]]
id = "plc"
protocol = "opcua"
url = "opc.tcp://plc:4840/"
root = "Elsewhere"

[autonomy]
veto_s = 30
"""


def merged(text: str, table: dict[str, Any] = OPCUA, id: str = "plc") -> draft.Draft:
    return draft.merged(text, table, id=id, plant=PLANT, origin="plant.toml")


def test_a_new_file_is_small_and_the_brain_understands_it() -> None:
    made = merged("")
    assert made.is_new
    settings = config.parse(made.text, origin="t")
    assert settings.plant.enterprise == "acme"
    (source,) = settings.sources
    assert source.id == "plc"
    assert source.url == OPCUA["url"]
    assert len(made.text.splitlines()) < 20


def test_an_address_that_is_there_keeps_what_it_says_and_gains_the_missing_rows() -> None:
    made = merged(OWN)
    assert not made.is_new
    assert made.added == [("override", {"match": "*/Pieces", "kind": "counter"})]
    assert set(made.differs) == {"url", "root", "exclude"}
    assert made.text.startswith(OWN[: OWN.index("[autonomy]")])
    settings = config.parse(made.text, origin="t")
    press, plc = settings.sources
    assert [row.unit for row in press.override] == ["kN"]  # type: ignore[union-attr]
    assert [row.kind for row in plc.override] == ["counter"]  # type: ignore[union-attr]
    assert settings.autonomy.veto_s == 30
    assert merged(made.text).text == made.text


def test_rows_go_to_their_own_source_when_another_follows() -> None:
    table = OPCUA | {"url": "opc.tcp://press:4840"}
    press, plc = config.parse(merged(OWN, table).text, origin="t").sources
    assert [row.match for row in press.override] == ["*/Force", "*/Pieces"]  # type: ignore[union-attr]
    assert plc.override == ()  # type: ignore[union-attr]


def test_another_address_is_added_at_the_end_under_a_free_id() -> None:
    id = draft.source_id(OWN, "opcua", "opc.tcp://plc:4999", "", origin="t")
    assert id == "plc_opcua"
    made = merged(OWN, OPCUA | {"url": "opc.tcp://plc:4999"}, id)
    assert made.text.startswith(OWN.rstrip())
    assert [s.id for s in config.parse(made.text, origin="t").sources] == ["press", "plc", id]


def test_an_address_without_a_name_is_called_by_its_protocol() -> None:
    assert draft.source_id("", "opcua", "opc.tcp://10.0.0.5:4840", "", origin="t") == "opcua"
    assert draft.source_id("", "mqtt", "mqtt://localhost", "", origin="t") == "mqtt"
    assert draft.source_id("", "mqtt", "mqtt://broker.acme.com", "", origin="t") == "broker"


def test_a_file_laid_out_in_another_way_is_left_alone_and_the_text_is_shown() -> None:
    text = 'source = [{ id = "a", protocol = "opcua", url = "opc.tcp://a:1" }]\n'
    with pytest.raises(ConfigError, match=r"(?s)plant.toml: nothing was written.*\[\[source\]\]"):
        merged(text)


def test_headers_inside_texts_do_not_lead_astray() -> None:
    text = OWN.replace('match = "*/Force"', 'match = """\n[[source]]\n"""')
    with pytest.raises(ConfigError, match="nothing was written"):
        merged(text)


@pytest.mark.parametrize("value", ['a"b', "a\\b", "größe 大", "tab\there", "\x7f"])
def test_texts_survive(value: str) -> None:
    made = merged("", OPCUA | {"exclude": [value]})
    assert f"exclude = [{draft._value(value)}]" in made.text


def test_topics_become_one_row_for_each_first_level() -> None:
    tally = Tally()
    for n in range(5):
        tally.take("press1/data", b'{"force": 1.5, "ts": 1780000000123}')
        tally.take("press1/data/x", b'{"force": 1.5, "ts": 1780000000123}')
        tally.take("hall/temp", b"21.5")
        tally.take("umh/v1/acme/works/_historian/x", b'{"x": 1, "timestamp_ms": 1780000000123}')
        tally.take("raw/frame", bytes([0, 255, n]))
    assert tally.rows() == [
        {"topic": "hall/#"},
        {"topic": "press1/#", "time": "/ts", "time_unit": "ms"},
        {"topic": "umh/v1/#", "preset": "umh"},
    ]
    assert dict(tally.forms()) == {"json": 3, "value": 1, "binary": 1}


ROW = {"path": "l/s/a/l/c/u/x", "kind": "gauge", "unit": "", "low": 0.0, "high": 1.0}


def test_the_difference_names_new_gone_and_changed_signals(tmp_path: Path) -> None:
    before = {"a": ROW, "b": ROW | {"path": "l/s/a/l/c/u/y"}}
    now = {"a": ROW | {"unit": "bar"}, "c": ROW | {"path": "l/s/a/l/c/u/z"}}
    found = snapshot.difference(before, now)
    assert found.new == ["l/s/a/l/c/u/z"]
    assert found.gone == ["l/s/a/l/c/u/y"]
    assert found.changed == [("l/s/a/l/c/u/x", {"unit": ("", "bar")})]
    assert not snapshot.difference(now, now)
    place = snapshot.place(tmp_path / "plant.toml", "plc")
    assert snapshot.load(place) is None
    snapshot.save(place, "opc.tcp://plc", now)
    assert snapshot.load(place) == now
    place.write_text("[]")
    with pytest.raises(ConfigError, match="remove it to start anew"):
        snapshot.load(place)


def test_every_text_is_there_in_both_languages_with_the_same_parameters() -> None:
    import string

    for key, pair in WORDS.items():
        assert all(pair), key
        names = [{name for _, name, _, _ in string.Formatter().parse(t) if name} for t in pair]
        assert names[0] == names[1], key
