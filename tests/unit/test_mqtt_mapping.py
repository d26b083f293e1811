"""Topics and JSON payloads become columns as the rows say; what is wrong is counted."""

import math
from dataclasses import dataclass, field

import pytest

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mqtt.arrivals import Arrivals
from workshop_brain.connect.mqtt.mapping import Mapping
from workshop_brain.connect.mqtt.settings import TopicRow
from workshop_brain.model.signal import Quality, SignalDef

NOW = 1_790_000_000_000_000_000
MS = 1_000_000


@dataclass
class Reader:
    """A mapping, and what it declared."""

    rows: tuple[TopicRow, ...]
    most: int = 100
    signals: list[SignalDef] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mapping = Mapping(
            "m", Choice(enterprise="local"), self.rows, self._declare, self._text,
            max_signals=self.most,
        )  # fmt: skip

    def _declare(self, signals: list[SignalDef]) -> int:
        self.signals.extend(signals)
        return len(self.signals) - len(signals)

    def _text(self, text: str) -> int:
        self.texts.append(text)
        return len(self.texts) - 1

    def read(self, topic: str, payload: bytes) -> list[tuple[str, int, float, int]]:
        self.mapping.take(topic, payload, NOW)
        s = self.mapping.drain()
        return [
            (self.signals[i].path.removeprefix("local/"), t - NOW, v, q)
            for i, t, v, q in zip(
                s.signal.tolist(), s.time_ns.tolist(), s.value.tolist(), s.quality.tolist(),
                strict=True,
            )
        ]  # fmt: skip


def test_nested_values_are_named_by_topic_levels_and_keys() -> None:
    r = Reader((TopicRow(topic="p/+/d", path="w/a/l/c/{2}/{key}", time="/ts"),))
    payload = b'{"ts": 1790000000005, "force": 1.5, "spindle": {"on": true, "mode": "RUN"}}'
    assert r.read("p/m1/d", payload) == [
        ("w/a/l/c/m1/force", 5 * MS, 1.5, 0),
        ("w/a/l/c/m1/spindle_on", 5 * MS, 1.0, 0),
        ("w/a/l/c/m1/spindle_mode", 5 * MS, 0.0, 0),
    ]
    assert r.texts == ["RUN"]
    null = r.read("p/m1/d", b'{"ts": 1790000000006, "force": null}')
    assert math.isnan(null[0][2])
    assert null[0][3] == Quality.BAD


def test_arrays_of_time_and_value_are_read_one_by_one() -> None:
    r = Reader((TopicRow(topic="p/v", path="w/a/l/c/u/v", value=("/value",), time="/ts"),))
    payload = b'[{"ts": 1790000000001, "value": 1}, {"ts": 1790000000002, "value": 2}]'
    assert [row[1:3] for row in r.read("p/v", payload)] == [(MS, 1.0), (2 * MS, 2.0)]


@pytest.mark.parametrize(("payload", "value"), [(b"23.5", 23.5), (b" +7 ", 7.0), (b"true", 1.0)])
def test_one_value_per_topic(payload: bytes, value: float) -> None:
    r = Reader((TopicRow(topic="s/#", path="w/{#}"),))
    assert r.read("s/a/l/c/u/x", payload) == [("w/a/l/c/u/x", 0, value, 0)]


def test_umh_topics_need_no_path() -> None:
    r = Reader((TopicRow(topic="umh/v1/#", preset="umh"),))
    topic = "umh/v1/acme/cologne/weld/l1/c1/u1/_historian/axis"
    rows = r.read(topic, b'{"timestamp_ms": 1790000000001, "x": 2.5}')
    assert rows == [("cologne/weld/l1/c1/u1/axis_x", MS, 2.5, 0)]


def test_a_time_that_cannot_be_meant_gives_way_to_the_arrival() -> None:
    r = Reader((TopicRow(topic="p", path="w/a/l/c/u/v_{key}", time="/ts", time_unit="iso"),))
    for stamp in ('"1601-01-01T00:00:00Z"', '"soon"', "null", "9"):
        rows = r.read("p", f'{{"ts": {stamp}, "x": 1}}'.encode())
        assert rows == [("w/a/l/c/u/v_x", 0, 1.0, int(Quality.UNCERTAIN))]


@pytest.mark.parametrize(
    ("payload", "cause"),
    [(b'{"x": ', "not_json"), (b"\xff\xfe", "not_json"), (b'{"x": "open"}', "no_number")],
)
def test_malformed_payloads_are_counted_and_named_once(payload: bytes, cause: str) -> None:
    r = Reader((TopicRow(topic="p", path="w/a/l/c/u/{key}"),))
    r.read("p", b'{"x": 1}')
    r.read("p", payload)
    r.read("p", payload)
    assert r.mapping.rejected == 2
    assert [fault.cause for fault in r.mapping.faults()] == [cause]


def test_new_signals_have_a_bound() -> None:
    r = Reader((TopicRow(topic="#"),), most=2)
    for k in range(5):
        r.read(f"a/t{k}", b"1")
    assert len(r.signals) == 2
    assert r.mapping.rejected == 3
    assert "max_signals = 2" in r.mapping.faults()[0].says


def test_a_second_delivery_finds_its_arrival_after_a_restart(tmp_path) -> None:  # type: ignore[no-untyped-def]
    first = Arrivals(tmp_path / "arrivals")
    first.note(7, "t", b"1", NOW)
    first.flush()
    again = Arrivals(tmp_path / "arrivals")
    assert again.known(7, "t", b"1") == NOW
    assert again.known(7, "t", b"2") is None


def test_documents_that_look_alike_are_read_alike() -> None:
    r = Reader((TopicRow(topic="p", path="w/a/l/c/u/{key}", time="/ts"),))
    for k, more in enumerate((b"1.5", b"2", b"true", b"9007199254740993", b'"7"', b"4")):
        body = b'{"a": %s, "ts": %d, "b": -1}' % (more, 1_790_000_000_000 + k)
        value = {b"true": 1.0, b'"7"': 7.0}.get(more) or float(more)
        grade = Quality.UNCERTAIN if k == 3 else 0
        assert r.read("p", body) == [
            ("w/a/l/c/u/a", k * MS, value, grade), ("w/a/l/c/u/b", k * MS, -1.0, 0)
        ]  # fmt: skip
    assert r.mapping.rejected == 0
    wider = r.read("p", b'{"a": 1, "b": 2, "c": 3, "ts": 1790000000000}')
    assert [row[0][-1] for row in wider] == ["a", "b", "c"]
    late = r.read("p", b'{"a": 1, "b": 2, "c": 3, "ts": null}')
    assert {row[1:] for row in late} == {(0, 1.0, 1), (0, 2.0, 1), (0, 3.0, 1)}
