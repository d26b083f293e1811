"""What is proposed of what was found: root, kinds, confidence, overrides, companion types."""

import math

import numpy as np
import pytest

from workshop_brain.connect import tags
from workshop_brain.connect.discovery import companion, propose
from workshop_brain.connect.discovery.companion import TypedPlace
from workshop_brain.connect.discovery.propose import Observed, Variable
from workshop_brain.model.signal import SignalDef, SignalKind

OPC = "http://opcfoundation.org/UA/"
PATH = "works/a/l/c/u"


def variable(name: str, form: str = "integer", **more: object) -> Variable:
    path = tags.signal_path("local", [*PATH.split("/"), name])
    kind = tags.kind_of(
        path.rsplit("/", 1)[1],
        is_bool=form == "flag",
        is_text=form == "text",
        is_integer=form == "integer",
    )
    low, high = tags.range_of(name, kind, 0, 0)
    signal = SignalDef(path=path, kind=kind, low=low, high=high, address=f"s={name}")
    return Variable(browse=f"{PATH}/{name}", signal=signal, form=form, **more)  # type: ignore[arg-type]


def seen(*series: list[float], seconds: float = 10.0) -> Observed:
    index = [i for i, values in enumerate(series) for _ in values]
    value = [v for values in series for v in values]
    return propose.observe(
        len(series), seconds, range(len(series)), np.array(index, np.int64), np.array(value)
    )


@pytest.mark.parametrize(
    ("name", "form", "values", "kind", "reason"),
    [
        ("Serial", "text", [1, 2], SignalKind.TEXT, "kind.text"),
        ("Blocked", "flag", [0, 1], SignalKind.FLAG, "kind.flag"),
        ("StateCurrent", "integer", [6, 11], SignalKind.STATE, "kind.name"),
        ("PartCount", "integer", [1, 2, 3, 4], SignalKind.COUNTER, "kind.name_and_rises"),
        ("PartCount", "integer", [], SignalKind.COUNTER, "kind.name"),
        ("Pieces", "integer", [1, 2, 3, 4], SignalKind.COUNTER, "kind.rises"),
        ("WorkPhase", "integer", [1, 2, 1], SignalKind.STATE, "kind.state_word"),
        ("Level", "integer", [5, 4, 6], SignalKind.GAUGE, "kind.integer"),
        ("Torque", "real", [1.5, 1.6], SignalKind.GAUGE, "kind.real_moves"),
    ],
)
def test_the_kind_comes_from_type_name_and_what_was_seen(
    name: str, form: str, values: list[float], kind: SignalKind, reason: str
) -> None:
    (proposal,) = propose.propose([variable(name, form)], seen([float(v) for v in values]))
    assert proposal.signal.kind is kind
    assert proposal.guesses["kind"].reason == reason
    assert all(0.0 <= guess.confidence <= 1.0 for guess in proposal.guesses.values())


def test_what_the_source_says_is_surer_than_what_the_names_say() -> None:
    rows = [variable("A", "real", has_path=True), variable("B", "real")]
    given, named = (p.guesses["path"] for p in propose.propose(rows, None))
    short = Variable(
        browse="u/X", signal=SignalDef(path="local/u/_/_/_/u/x", kind=SignalKind.GAUGE), form="real"
    )
    assert given.confidence > named.confidence
    assert propose.propose([short], None)[0].guesses["path"].confidence < named.confidence


def test_rates_are_those_seen_and_nan_where_nobody_looked() -> None:
    rows = [variable("A", "real"), variable("B", "real")]
    looked = propose.observe(2, 10.0, [0], np.zeros(21, np.int64), np.arange(21.0) % 2)
    first, second = propose.propose(rows, looked)
    assert first.rate_hz == 2.0
    assert math.isnan(second.rate_hz)
    assert second.guesses["rate"].reason == "rate.unwatched"
    assert propose.total_rate(looked) == 4.0  # the other one counted as the first


def test_overrides_are_few_one_for_a_name_and_none_where_the_collector_is_right() -> None:
    rows = [variable("Pieces"), variable("Torque", "real")]
    proposals = propose.propose(rows, seen([1.0, 2.0, 3.0, 4.0], [1.0]))
    assert propose.overrides(rows, proposals) == [{"match": "*/Pieces", "kind": "counter"}]
    mixed = [variable("Pieces"), variable("Pieces")]
    proposals = propose.propose(mixed, seen([1.0, 2.0, 3.0, 4.0], [4.0, 1.0]))
    assert propose.overrides(mixed, proposals) == []


@pytest.mark.parametrize(
    ("browses", "root"),
    [
        (["Plant/w/a/l/c/u/X", "Plant/w/a/l/c/v/X"], "Plant"),
        (["Machines/M1/X", "Machines/M2/X"], "Machines"),
        (["Works/M1/X", "Works/M2/X"], ""),
        (["A/B/C/D/E/F/G/H/X"], "A/B/C"),
        (["Plant/X"], ""),
        (["X"], ""),
        ([], ""),
    ],
)
def test_the_root_is_what_all_share_and_is_no_level_of_the_plant(
    browses: list[str], root: str
) -> None:
    assert propose.choose_root(browses) == root


def test_companion_types_are_recognised_by_the_namespace_of_their_type() -> None:
    places = [
        TypedPlace("Machines/M1", f"{OPC}MachineTool/", "MachineToolType"),
        TypedPlace("Machines/M1/Monitoring", f"{OPC}MachineTool/", "MonitoringType"),
        TypedPlace("Machines/P1/Identification", f"{OPC}Machinery/", "MachineIdentificationType"),
        TypedPlace("L/Jobs", f"{OPC}ISA95-JOBCONTROL_V2/", "ISA95JobOrderReceiverObjectType"),
        TypedPlace("L/Other", "urn:vendor", "Thing"),
    ]
    found = companion.recognise(places, [f"{OPC}PackML/", f"{OPC}Machinery/", "urn:vendor"])
    assert {c.id: len(c.types) for c in found} == {
        "packml": 0, "machinery": 1, "machine_tool": 2, "job_control": 1
    }  # fmt: skip
    assert companion.receivers(found) == ["L/Jobs"]
    machines = companion.machines(places)
    assert machines == {"Machines/M1": "machine_tool", "Machines/P1": "machinery"}
    assert companion.owner("Machines/M1/Monitoring/Load", machines) == "Machines/M1"
