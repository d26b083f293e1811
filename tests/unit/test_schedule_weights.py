"""Weights of the objective: from the plant file or a person, stored with each decision."""

import json
import math
import struct
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.test_autonomy_replay import SOFT1, planner, requests, task

from workshop_brain.app.planner import Planner
from workshop_brain.autonomy.inputs import MAGIC, pack, unpack
from workshop_brain.autonomy.record import canonical
from workshop_brain.autonomy.replay import replay
from workshop_brain.autonomy.state import LoopState
from workshop_brain.config import parse
from workshop_brain.errors import ConfigError
from workshop_brain.model.decision import WEIGHT_NAMES
from workshop_brain.schedule.limits import Buffer, Limits, Operator, Tool
from workshop_brain.schedule.objective import PLANT_WEIGHTS, Weights
from workshop_brain.schedule.preferences import agreeing, read_weights
from workshop_brain.units import NS_PER_H

CALM = Weights(tardiness=0.001, setup=50.0, flow=0.0, move=0.0, shift=0.0)
TOML = """
[[work_center]]
id = "mill"
area = "shop"
units = [{ id = "m1" }]
[[product]]
id = "p"
routing = [{ work_center = "mill", seconds = 60 }]
"""


def without_weights(data: bytes) -> bytes:
    """The bytes as they were stored before weights were part of them."""
    at = len(MAGIC) + 4
    (size,) = struct.unpack_from("<I", data, len(MAGIC))
    header = json.loads(data[at : at + size])
    del header["meta"]["weights"]
    text = canonical(header)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, data[at + size :]])


def three_decisions(brain: Planner) -> list[Any]:
    first = brain.work(task("build", LoopState()))
    state = LoopState(basis=first.options[0].plan)
    trigger = {"kind": "breakdown", "path": SOFT1, "time_ns": 0}
    down = {SOFT1: task("build", LoopState()).time_ns + 3 * NS_PER_H}
    repair = brain.work(task("react", state, down=down, triggers=(trigger,)))
    base = brain.known(repair.options[0].plan.hash)
    better = brain.work(task("improve", state, base=base, triggers=({"kind": "improve"},)))
    return [first, repair, better]


def test_weights_are_stored_with_each_decision_and_judge_it() -> None:
    plain, brain = planner(), planner()
    brain.weights = CALM
    for usual, draft in zip(three_decisions(plain), three_decisions(brain), strict=True):
        assert unpack(usual.data).weights == PLANT_WEIGHTS
        assert unpack(draft.data).weights == CALM
        assert pack(unpack(draft.data)) == draft.data
        known = brain.known(draft.options[0].plan.hash)
        assert known is not None
        assert known.weights == CALM
        assert known.bound <= known.candidate.objective
        chosen = draft.decision.candidates[draft.decision.chosen]
        kpis = chosen.kpis
        expected = 0.001 * kpis["weighted_tardiness_s"] + 50.0 * kpis["setup_s"]
        assert chosen.objective == pytest.approx(expected)
        outcome = replay(draft.decision, {draft.decision.input_hash: draft.data}.__getitem__)
        assert outcome.same, [row for row in outcome.rows if not row.same]


def test_other_weights_give_another_plan() -> None:
    found = []
    for weights in (PLANT_WEIGHTS, CALM):
        brain = planner()
        brain.weights = weights
        decision = brain.work(task("build", LoopState(), requests=requests(24))).decision
        found.append(decision.candidates[decision.chosen].kpis)
    usual, calm = found
    assert calm["setup_s"] < usual["setup_s"]
    assert calm["weighted_tardiness_s"] >= usual["weighted_tardiness_s"]


def test_records_from_before_mean_the_weights_of_then() -> None:
    brain = planner()
    for draft in three_decisions(brain):
        old = without_weights(draft.data)
        assert unpack(old).weights == PLANT_WEIGHTS
        outcome = replay(draft.decision, lambda sha, old=old: old)  # type: ignore[misc]
        assert [row.what for row in outcome.rows if not row.same] == ["input_hash"]


def test_limits_come_back_whole_from_stored_inputs() -> None:
    inputs = unpack(planner().work(task("build", LoopState())).data)
    limits = Limits(
        tools=(Tool(id="jig", quantity=2, closed=((5, 9),)),),
        operators=(Operator(id="li", skills=("mill", "turn"), closed=((0, 3),)),),
        buffers=(Buffer(id="lane", capacity=3),),
        op_needs=((0, "jig", 1),),
        machine_setup_needs=((1, "mill", 1),),
        tariff=((0, 0.5), (3600, 1.25)),
        power_kw=(1.5,) * inputs.problem.n_machines,
    )
    data = pack(replace(inputs, problem=inputs.problem.with_(limits=limits)))
    back = unpack(data).problem.limits
    assert back is not None
    assert pack(unpack(data)) == data
    names = ("tools", "operators", "buffers", "op_needs", "machine_setup_needs", "tariff")
    assert all(getattr(back, name) == getattr(limits, name) for name in names)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"sutup": 1.0}, "no weight 'sutup'; known are tardiness"),
        ({"setup": -1.0}, "weight 'setup' must be a number from 0"),
        ({"setup": math.nan}, "weight 'setup' must be a number from 0"),
        ({"setup": math.inf}, "weight 'setup' must be a number from 0"),
        ({"setup": True}, "weight 'setup' must be a number from 0"),
        ({"setup": "1"}, "weight 'setup' must be a number from 0"),
        (dict.fromkeys(WEIGHT_NAMES, 0.0), "all weights are 0"),
    ],
)
def test_what_is_no_weight_is_named(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_weights(values)


def test_weights_left_out_are_as_before() -> None:
    assert read_weights({}, CALM) == CALM
    assert read_weights({"move": 2}, CALM) == replace(CALM, move=2.0)


def test_pairs_are_counted_for_any_weights() -> None:
    cheap_setup = ([600.0, 0.0, 0.0, 0.0, 0.0], [0.0, 3600.0, 0.0, 0.0, 0.0])
    assert agreeing([cheap_setup], PLANT_WEIGHTS) == 0
    assert agreeing([cheap_setup], replace(PLANT_WEIGHTS, setup=1.0)) == 1
    assert agreeing([], PLANT_WEIGHTS) == 0


def test_a_plant_sets_its_weights() -> None:
    settings = parse("[planning.weights]\nsetup = 2\nmove = 0\n" + TOML, origin="x.toml")
    assert settings.planning.weights == {"setup": 2.0, "move": 0.0}
    assert read_weights(settings.planning.weights) == replace(PLANT_WEIGHTS, setup=2.0, move=0.0)
    assert parse(TOML, origin="x.toml").planning.weights == {}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("[planning]\nweight = 1", r"planning.weight: unknown key; did you mean 'weights'"),
        ("[planning.weights]\nsetups = 1", r"planning.weights.setups: unknown key; did you mean"),
        ("[planning.weights]\nsetup = -1", r"planning.weights.setup: must be >= 0"),
        ("[planning.weights]\nsetup = nan", r"planning.weights.setup: must be >= 0"),
        ("[planning.weights]\nsetup = inf", r"planning.weights.setup: must be >= 0"),
        ("[planning.weights]\nsetup = 'much'", r"planning.weights.setup: must be a number"),
        (
            "[planning.weights]\n" + "\n".join(f"{name} = 0" for name in WEIGHT_NAMES),
            r"planning.weights: all are 0",
        ),
    ],
)
def test_wrong_weights_of_a_plant_are_named(lines: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(lines + "\n" + TOML, origin="x.toml")
