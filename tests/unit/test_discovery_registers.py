"""What Modbus registers may hold: guesses from their bits."""

import struct

import numpy as np
import pytest

from workshop_brain.connect.discovery.registers import guess


def words(*readings: list[int]) -> np.ndarray:
    return np.array(readings, np.uint16)


def pair(value: float, order: str = "big") -> list[int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [high, low] if order == "big" else [low, high]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("value", [23.47, -1450.3, 0.0731, 99_812.4])
def test_a_float_is_found_in_both_word_orders(value: float, order: str) -> None:
    (found,) = guess(words(pair(value, order), pair(value * 1.01, order)))
    assert (found.offset, found.type, found.word_order) == (0, "float32", order)
    assert found.confidence <= 0.5


def test_counters_and_states_are_no_floats_and_zeros_are_left_out() -> None:
    found = guess(words([7, 0, 1234, 0, 0, 65_530], [7, 0, 1235, 0, 0, 65_529]))
    assert [(g.offset, g.type) for g in found] == [(0, "uint16"), (2, "uint16"), (5, "int16")]
    assert all(g.confidence <= 0.3 for g in found)


def test_a_float_behind_a_lone_register_is_found() -> None:
    found = guess(words([5, 0, *pair(21.5), 9]))
    assert [(g.offset, g.type) for g in found] == [
        (0, "uint16"), (2, "float32"), (4, "uint16")
    ]  # fmt: skip


def test_nothing_is_made_of_nothing() -> None:
    assert guess(words([0, 0, 0])) == []
    assert guess(np.zeros((1, 0), np.uint16)) == []
