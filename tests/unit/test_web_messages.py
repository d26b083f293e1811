"""Texts of messages in both languages, and JSON values at the edge."""

import re
import string

import pytest

from workshop_brain.model.decision import Level, Message
from workshop_brain.web.messages import catalogue, language_of, render, with_texts
from workshop_brain.web.plain import plain


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_parameters() -> None:
    wrong = {id for id, (en, zh) in catalogue().items() if fields(en) != fields(zh)}
    assert not wrong
    assert all(en and zh for en, zh in catalogue().values())


def test_every_room_is_in_the_catalogue() -> None:
    rooms = {id.split(".")[0] for id in catalogue()}
    assert {"web", "alarm", "schedule"} <= rooms


def test_instants_are_local_times_and_paths_their_last_part() -> None:
    machine = "local/works/gears/soft/c1/soft1"
    params = {"op": "A.soft", "machine": machine, "start_ms": 1_790_000_000_000.0, "end_ns": 1}
    text = render("schedule.placed", params, "en", "Asia/Shanghai")
    assert "soft1" in text
    assert machine not in text
    assert "21 Sep 22:13" in text
    assert "{" not in text


def test_unknown_message_and_missing_parameter_are_shown() -> None:
    assert render("no.such", {"x": 1.5}, "zh") == "no.such (x=1.5)"
    assert "{id}" in render("web.not_found", {"what": "tag"}, "en")


def test_texts_are_added_where_messages_are() -> None:
    value = plain({"reasons": [Message(id="web.method", params={"method": "PUT"})], "id": "d"})
    shown = with_texts(value, "zh")
    assert shown["reasons"][0]["text"] == "此处不能使用 PUT。"
    assert "text" not in shown


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9", "zh"),
        ("fr;q=0.9, en;q=0.2, zh;q=0.1", "en"),
        ("zh;q=x", "en"),
        ("", "en"),
    ],
)
def test_language_of_a_reader(header: str, language: str) -> None:
    assert language_of(header) == language


def test_plain_values_keep_big_integers_and_lose_nan() -> None:
    value = plain({"n": 2**60, "x": float("inf"), "level": Level.VETO, "until_ns": None})
    assert value == {"n": 2**60, "x": None, "level": "veto", "until_ns": None}


def test_durations_carry_their_unit_in_the_readers_language() -> None:
    params = {"job": "A", "slack_s": 61_176}
    assert render("schedule.job_in_time", params, "en").endswith("17 h 00 before its due date.")
    assert "提前 17 小时 00 分 完成" in render("schedule.job_in_time", params, "zh")
    worse = {"machine": "m1", "tardiness_s": 68_571, "setup_s": -720.0}
    text = render("schedule.alternative", worse, "en")
    assert "tardiness 19 h 03 more, changeovers −12 min more" in text
    stale = render("blocked.stale", {"line": "a", "source": "plc", "limit_s": 5.0}, "en")
    assert stale == "Line a: data of plc is older than 5 s."
    setups = {"delta_min": -0.0, "after_min": 1918.0}
    assert render("reason.setups", setups, "zh") == "换型时间变化 0 秒，变为 31 小时 58 分。"
    late = render("reason.tardiness", {"delta_h": -5.4, "after_h": 572.2}, "en")
    assert late == "Weighted lateness changes by −5 h 24, to 23 d 20 h."


def test_no_text_writes_a_unit_behind_a_duration() -> None:
    unit = re.compile(r"\{\w+_(s|min|h)\} ?(s|min|h|秒|分|小时)\b")
    assert not [id for id, pair in catalogue().items() if any(unit.search(t) for t in pair)]


def test_candidates_are_named_by_their_parts_and_things_in_chinese() -> None:
    params = {"candidate": "right_shift+search", "count": 8, "objective": 1, "next": 2}
    assert "顺延 + 搜索" in render("reason.best_of", params, "zh")
    missing = {"what": "signal", "id": "a/b"}
    assert render("web.not_found", missing, "zh") == "不存在信号 a/b。"
