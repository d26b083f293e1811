"""The plant's assembly line alone: release control, order of models, early tool changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from workshop_brain.cli import app
from workshop_brain.config import built_in
from workshop_brain.errors import ConfigError
from workshop_brain.schedule.balance.flow import Loops, no_limit
from workshop_brain.twin.mixed_line import (
    STAGES,
    LinePolicy,
    LineSetting,
    order_of,
    run_line,
    with_availability,
)
from workshop_brain.twin.scenario import REFERENCE

PLANT = built_in().plant
SETTING = LineSetting(plant=PLANT, scenario=REFERENCE, mix=(1.0,) * 6, hours=6.0, warm_hours=2.0)
FOREMAN = LinePolicy()
WHOLE = len(STAGES) - 1


def _loop(stage: int, limit: int) -> LinePolicy:
    return LinePolicy(loops=Loops(np.array([stage]), np.array([limit]), 0.0))


def test_a_limit_on_the_whole_line_bounds_the_work_inside() -> None:
    open_line, held = run_line(SETTING, FOREMAN, 5), run_line(SETTING, _loop(WHOLE, 70), 5)
    assert open_line.in_line > 90
    assert 66 < held.in_line <= 70
    assert 0 < held.per_hour < open_line.per_hour < open_line.bound_per_hour


def test_a_limit_that_never_binds_changes_nothing() -> None:
    assert run_line(SETTING, _loop(WHOLE, 5000), 6) == run_line(SETTING, FOREMAN, 6)


def test_a_limit_up_to_a_station_counts_what_has_left_it() -> None:
    few, more = (run_line(SETTING, _loop(22, limit), 7) for limit in (12, 24))
    assert few.per_hour < more.per_hour
    assert few.in_line < more.in_line


def test_a_pace_is_never_exceeded() -> None:
    paced = run_line(SETTING, replace(FOREMAN, loops=no_limit(90.0)), 8)
    assert paced.per_hour <= 40.5
    assert paced.per_hour > 36.0


def test_every_order_has_the_same_units_in_each_shift() -> None:
    rows = [order_of(SETTING, order, 9, 1500) for order in ("lots", "family", "levelled")]
    for k in range(0, 1500, 600):
        counts = [np.bincount(row[k : k + 600], minlength=6).tolist() for row in rows]
        assert counts[0] == counts[1] == counts[2]
    changes = [int((np.diff(row) != 0).sum()) for row in rows]
    assert changes[0] < 30 < changes[1]


def test_changeovers_make_an_alternating_order_dear() -> None:
    apart = replace(SETTING, is_mixed=False)
    lots, levelled = (run_line(apart, LinePolicy(order=o), 10) for o in ("lots", "levelled"))
    assert lots.setups < 20 < levelled.setups
    assert levelled.per_hour < 0.6 * lots.per_hour
    assert run_line(SETTING, LinePolicy(order="levelled"), 10).setups == 0


def test_tools_changed_early_are_changed_more_often() -> None:
    late, early = (run_line(SETTING, LinePolicy(tool_wear=w), 11) for w in (1.0, 0.1))
    assert early.tools > 3 * late.tools
    waiting = run_line(SETTING, LinePolicy(tool_idle_wear=0.1), 11)
    assert waiting.tools > 3 * late.tools


def test_availability_scales_the_repairs() -> None:
    scales = [with_availability(PLANT, REFERENCE, a).mttr_scale for a in (0.95, 0.98, 0.995)]
    assert scales == sorted(scales, reverse=True)
    with pytest.raises(ValueError, match="between 0 and 1"):
        with_availability(PLANT, REFERENCE, 1.0)


def test_the_command_runs_the_line_under_a_limit() -> None:
    run = CliRunner()
    words = ["twin", "line", "--seeds", "2", "--hours", "3"]
    held = json.loads(run.invoke(app, [*words, "--limit", "line=60", "--limit", "st10=15"]).stdout)
    assert 40 < held["in_line"]["mean"] <= 60
    assert held["per_hour"]["n"] == 2
    for wrong in ("st99=3", "line=0", "line", "st10=x"):
        assert isinstance(run.invoke(app, [*words, "--limit", wrong]).exception, ConfigError)
    assert isinstance(run.invoke(app, [*words, "--order", "any"]).exception, ConfigError)
