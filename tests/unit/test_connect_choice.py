"""Which signals a source takes: globs on path and browse path, and what overrides make of them."""

import json
from dataclasses import asdict

import pytest

from workshop_brain import config
from workshop_brain.connect.choice import Choice, Override, choice_fault
from workshop_brain.connect.settings import OpcUaSettings
from workshop_brain.errors import ConfigError
from workshop_brain.model.signal import SignalDef, SignalKind

TORQUE = SignalDef(
    path="local/works/assembly/asm1/z1/op010/torque", kind=SignalKind.GAUGE, high=100.0
)
BROWSE = "works/assembly/asm1/Z1/OP010/Torque"


def shaped(browse: str = BROWSE, signal: SignalDef = TORQUE, **given: object) -> SignalDef | None:
    return Choice(enterprise="local", **given).shaped(signal, browse)  # type: ignore[arg-type]


def test_nothing_said_takes_everything_as_it_is() -> None:
    assert shaped() == TORQUE


@pytest.mark.parametrize("glob", ["*/Torque", "*/torque", "works/*", "local/works/*", "*OP0?0*"])
def test_a_glob_matches_the_whole_path_or_the_whole_browse_path(glob: str) -> None:
    assert shaped(include=[glob]) == TORQUE
    assert shaped(exclude=[glob]) is None


@pytest.mark.parametrize("glob", ["Torque", "works", "*/TORQUE", "[a-z]*"])
def test_a_part_of_a_name_other_letters_and_brackets_do_not_match(glob: str) -> None:
    assert shaped(include=[glob]) is None
    assert shaped(exclude=[glob]) == TORQUE


def test_exclude_wins_over_include() -> None:
    assert shaped(include=["*"], exclude=["*/Torque"]) is None


def test_stars_of_the_path_take_what_those_of_match_stood_for() -> None:
    row = Override(match="Machines/*/*", path="works/mill/m1/*/*")
    signal = shaped("Machines/Press 1/Monitoring/ToolLife", overrides=[row])
    assert signal is not None
    assert signal.path == "local/works/mill/m1/_/press_1/monitoring_tool_life"


def test_the_later_override_is_right_and_leaves_what_it_does_not_say() -> None:
    rows = [
        Override(match="*", unit="Nm", low=-5.0, high=5.0),
        Override(match="*/Torque", kind="counter", unit="N.m"),
    ]
    signal = shaped(overrides=rows)
    assert signal is not None
    assert (signal.unit, signal.low, signal.high) == ("N.m", -5.0, 5.0)
    assert signal.kind is SignalKind.COUNTER


def test_a_text_stays_a_text_and_a_number_a_number() -> None:
    text = SignalDef(path=TORQUE.path, kind=SignalKind.TEXT)
    assert shaped(overrides=[Override(match="*", kind="text")]) == TORQUE
    assert shaped(signal=text, overrides=[Override(match="*", kind="gauge")]) == text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"match": ""}, "match: must be a pattern"),
        ({"match": "a", "path": "x/*"}, "path: 'x/*' has more '*' than match 'a'"),
        ({"match": "a", "path": "x//y"}, "path: must be names"),
        ({"match": "a", "kind": "number"}, "kind: no kind 'number'"),
        ({"match": "a", "low": 1.0}, "low and high: give both or neither"),
        ({"match": "a", "low": 1.0, "high": 1.0}, "low: must be below high"),
    ],
)
def test_a_fault_names_key_and_value(row: dict[str, object], said: str) -> None:
    assert choice_fault((), (), [Override(**row)]).startswith(f"override[0].{said}")  # type: ignore[arg-type]


def test_the_plant_file_knows_the_keys_and_a_collector_reads_back_what_is_written() -> None:
    text = """
        [[source]]
        id = "plc"
        protocol = "opcua"
        url = "opc.tcp://h:4840"
        include = ["Plant/*"]
        exclude = ["*/Diagnostics/*"]
        [[source.override]]
        match = "*/Temp"
        low = -40
        high = 120
        [[source.override]]
        match = "*/Count"
        kind = "counter"
    """
    (settings,) = config.parse(text, origin="t").sources
    assert isinstance(settings, OpcUaSettings)
    assert settings.override[0].low == -40.0
    body = json.dumps({"protocol": "opcua", **asdict(settings)})
    again = config.source(json.loads(body), "--source")
    assert repr(again) == repr(settings)
    with pytest.raises(ConfigError, match=r"source\[0\].override\[0\].kind: no kind 'x'"):
        config.parse(text.replace('match = "*/Temp"', 'match = "*"\nkind = "x"'), origin="t")
    with pytest.raises(ConfigError, match=r"exclude\[0\]: must be a pattern"):
        config.parse(text.replace("*/Diagnostics/*", ""), origin="t")
