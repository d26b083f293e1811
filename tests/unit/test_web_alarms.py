"""Alarms and their acknowledgement after ISA-18.2."""

from typing import Any

import pytest

from workshop_brain.web.alarms import Alarm, AlarmBook, AlarmState

HOT = Alarm(path="a/b", kind="breakdown", priority=2, since_ns=5, params={"unit": "b"})


class Kept:
    """A store of settings."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def setting(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set_setting(self, key: str, value: Any) -> None:
        self.values[key] = value


def states(book: AlarmBook) -> list[AlarmState]:
    return [alarm.state for alarm in book.rows()]


def test_an_acknowledged_alarm_that_returns_leaves_the_list() -> None:
    book = AlarmBook()
    assert book.update([HOT], 10)
    book.acknowledge("a/b", "breakdown", "li", 11)
    assert not book.update([HOT], 12)
    assert (book.rows()[0].acked_by, book.rows()[0].acked_ns) == ("li", 11)
    book.update([], 13)
    assert book.rows() == []


def test_an_alarm_that_returns_unseen_stays_until_it_is_acknowledged() -> None:
    book = AlarmBook()
    book.update([HOT], 10)
    book.update([], 20)
    assert states(book) == [AlarmState.RETURNED]
    assert book.rows()[0].returned_ns == 20
    book.acknowledge("a/b", "breakdown", "li", 21)
    assert book.rows() == []


def test_an_alarm_that_comes_again_is_unacknowledged_again() -> None:
    book = AlarmBook()
    book.update([HOT], 10)
    book.update([], 20)
    book.update([HOT], 30)
    assert states(book) == [AlarmState.UNACKNOWLEDGED]


def test_the_acknowledgement_outlives_a_restart() -> None:
    store = Kept()
    book = AlarmBook(store)
    book.update([HOT], 10)
    book.acknowledge("a/b", "breakdown", "li", 11)
    book.keep()
    again = AlarmBook(store)
    again.update([HOT], 100)
    assert again.rows() == book.rows()


def test_acknowledging_what_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        AlarmBook().acknowledge("a/b", "breakdown", "li", 1)
