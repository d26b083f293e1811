"""PromQL: what is read, what is refused by name, and figures as Prometheus gives them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workshop_brain.model.signal import SignalDef, SignalKind
from workshop_brain.units import NS_PER_S
from workshop_brain.web.prom import PromError, Steps, evaluate, parse
from workshop_brain.web.prom.evaluate import Rows, Series
from workshop_brain.web.prom.labels import SeriesIndex, labels_of
from workshop_brain.web.prom.promql import Matcher

S = NS_PER_S
SIGNALS = [
    SignalDef(path=f"e/s/a/l/z{zone}/st{k}/count", kind=SignalKind.COUNTER)
    for zone in (1, 2)
    for k in (1, 2)
]
INDEX = SeriesIndex(SIGNALS)


def read(matchers: Sequence[Matcher], from_ns: int, to_ns: int) -> Iterator[Rows]:
    """Each counter grows by its number a second, sampled every 10 s; the first falls at 60 s."""
    for k, signal in enumerate(SIGNALS, start=1):
        labels = labels_of(signal)
        if labels not in INDEX.find(matchers):
            continue
        time = np.arange(0, 200, 10, dtype=np.int64) * S
        value = k * (time / S)
        if k == 1:
            value = np.where(time >= 60 * S, value - 60.0, value)
        kept = (time >= from_ns) & (time < to_ns)
        yield labels, time[kept], value[kept], np.ones(int(kept.sum()), bool)


def at(text: str, *seconds: float) -> list[Series]:
    steps = Steps(np.array([round(s * S) for s in seconds], np.int64))
    found = evaluate(parse(text), steps, read)
    assert isinstance(found, list)
    return found


def test_a_rate_is_extrapolated_and_survives_a_reset() -> None:
    series = {s.labels["path"]: s for s in at("rate(count[1m])", 55, 100)}
    assert series["e/s/a/l/z1/st2/count"].value.tolist() == pytest.approx([2.0, 2.0], rel=0.1)
    grown = at('increase(count{unit="st1",cell="z1"}[100s])', 100)[0]
    assert grown.value[0] == pytest.approx(90.0, rel=0.12)  # 50 before the reset, 40 after


def test_selectors_offsets_aggregates_and_comparisons() -> None:
    assert [s.value[0] for s in at('count{cell="z2"}', 50)] == [150.0, 200.0]
    assert [s.value[0] for s in at('count{cell="z2"} offset 20s', 50)] == [90.0, 120.0]
    by = at("sum by (cell) (count)", 50)
    assert {s.labels["cell"]: s.value[0] for s in by} == {"z1": 150.0, "z2": 350.0}
    assert [s.value[0] for s in at('count{unit!~"st1"} * 2 > 250', 50)] == [400.0]
    assert [s.value[0] for s in at("max_over_time(count[1m])", 50)] == [50.0, 100.0, 150.0, 200.0]
    assert not at("count", 10_000), "a value is not shown for ever"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("histogram_quantile(0.9, count)", "unknown function 'histogram_quantile'"),
        ("topk(3, count)", "topk"),
        ("count + count", "between two vectors"),
        ("rate(count)", "takes a range vector"),
        ("count[5m]", "can only be the argument"),
        ("{}", "at least one condition"),
        ('count{unit=~"("}', "no regular expression"),
        ("count{unit=}", "a text in quotes"),
        ("sum(", "parse error at character 4"),
        ("", "parse error at character 0"),
        ("(" * 3000, "nested too deeply"),
    ],
)
def test_what_is_not_answered_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(PromError, match=told.replace("(", r"\(").replace("'", ".")):
        at(text, 50)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = evaluate(parse(text), Steps(np.array([50 * S])), read)
    except PromError:
        return
    assert isinstance(found, list | np.ndarray)
