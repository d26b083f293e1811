"""Texts of messages in both languages, and JSON values at the edge."""

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
    assert "09-21 22:13" in text
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
