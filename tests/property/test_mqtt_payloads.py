"""Any payload of plain MQTT becomes columns, or is counted and kept; never an error."""

import math
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.connect.choice import Choice
from workshop_brain.connect.mqtt.mapping import MOST_VALUES, Mapping
from workshop_brain.connect.mqtt.settings import TopicRow
from workshop_brain.connect.stamps import FIRST_NS, LAST_NS
from workshop_brain.model.signal import Quality, Samples, SignalDef

NOW = 1_790_000_000_000_000_000
ROWS = (
    TopicRow(topic="all/#", path="w/a/l/c/u/{key}"),
    TopicRow(topic="time/+", path="w/a/l/c/{2}/{key}", time="/ts"),
    TopicRow(topic="each", path="w/a/l/c/u/{/name}", value=("/v",), each="/rows", time="/t"),
    TopicRow(topic="one", path="w/a/l/c/u/one", value=("",), kind="gauge"),
    TopicRow(topic="umh/v1/#", preset="umh"),
)
TOPICS = ["all/a", "all/a/b", "time/m", "each", "one", "umh/v1/e/s/_historian/t", "nobody"]
FLOATS = st.floats() | st.sampled_from([1e308, -0.0, 2.0**53])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ts", "t", "v", "rows", "name", "value", "timestamp_ms", "/", ""])
            | st.text(max_size=6),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


class Reader:
    """A mapping with numbers for signals and texts, and what it kept."""

    def __init__(self) -> None:
        self.signals: list[SignalDef] = []
        self.texts: list[str] = []
        self.kept: list[tuple[str, bytes]] = []
        self.mapping = Mapping(
            "m", Choice(enterprise="local"), ROWS, self.declare, self.text, max_signals=200,
            keep=lambda cause, topic, says, payload: self.kept.append((cause, payload)),
        )  # fmt: skip

    def declare(self, signals: Any) -> int:
        self.signals += signals
        return len(self.signals) - len(signals)

    def text(self, text: str) -> int:
        self.texts.append(text)
        return len(self.texts) - 1

    def read(self, topic: str, payload: bytes, *, retained: bool = False) -> Samples:
        before = self.mapping.rejected
        kept = len(self.kept)
        self.mapping.take(topic, payload, NOW, retained=retained)
        samples = self.mapping.drain()
        if self.mapping.rejected > before:
            assert payload in [p for _, p in self.kept[kept:]]
        return samples


def check(reader: Reader, samples: Samples) -> None:
    n = len(samples)
    assert n <= MOST_VALUES
    assert {len(samples.time_ns), len(samples.value), len(samples.quality)} == {n}
    assert np.all(samples.signal < len(reader.signals))
    assert np.all((samples.time_ns >= FIRST_NS) & (samples.time_ns < LAST_NS))
    missing = ~np.isfinite(samples.value)
    assert np.all(np.isnan(samples.value[missing]))
    assert np.all(samples.quality[missing] & int(Quality.BAD))
    assert len(reader.signals) <= 200


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.binary(max_size=60), st.booleans())))
def test_any_bytes_become_columns_or_are_kept(messages: list[tuple[str, bytes, bool]]) -> None:
    reader = Reader()
    for topic, payload, retained in messages:
        check(reader, reader.read(topic, payload, retained=retained))


@given(st.lists(st.tuples(st.sampled_from(TOPICS), JSON), max_size=4))
def test_any_json_becomes_columns_or_is_kept(messages: list[tuple[str, Any]]) -> None:
    reader = Reader()
    for topic, document in messages:
        check(reader, reader.read(topic, orjson.dumps(document)))


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), FLOATS, min_size=1))
def test_numbers_come_back_by_name(values: dict[str, float]) -> None:
    reader = Reader()
    finite = {name: v for name, v in values.items() if math.isfinite(v)}
    samples = reader.read("all/a", orjson.dumps(values))  # orjson writes what is not finite as null
    found = {
        reader.signals[i].name: v
        for i, v in zip(samples.signal.tolist(), samples.value.tolist(), strict=True)
    }
    assert found == finite
    # A document that looks like the last one is read by columns, and gives the same.
    again = reader.read("all/a", orjson.dumps(values))
    assert again.signal.tolist() == samples.signal.tolist() or len(finite) < len(values)
    told = {
        reader.signals[i].name: (v, q)
        for i, v, q in zip(
            again.signal.tolist(), again.value.tolist(), again.quality.tolist(), strict=True
        )
    }
    assert {name: v for name, (v, _) in told.items() if v == v} == finite
    first = dict(zip(samples.signal.tolist(), samples.quality.tolist(), strict=True))
    same = dict(zip(again.signal.tolist(), again.quality.tolist(), strict=True))
    assert {i: q for i, q in same.items() if i in first} == first
    assert reader.mapping.rejected == 0
