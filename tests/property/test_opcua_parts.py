"""Encoded arrays and structures: equal to what asyncua read, and harmless when they lie."""

import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workshop_brain.connect.opcua import parts
from workshop_brain.connect.opcua.parts import Field, Structure, Types, take_apart
from workshop_brain.errors import DecodeError

T = ua.VariantType
RANGE, EMPTY, LOOP = (0, 884), (2, "empty"), (2, "loop")
TYPES = Types(
    structures={
        RANGE: Structure((Field("Low", 11), Field("High", 11))),
        EMPTY: Structure(()),
        LOOP: Structure((Field("Empty", 0, EMPTY, 1), Field("Loop", 0, LOOP, 2))),
        (2, "some"): Structure((Field("A", 6, None, 0, True), Field("B", 12)), parts.OPTIONAL),
        (2, "one"): Structure((Field("A", 6), Field("B", 24)), parts.UNION),
    },
    encodings={(0, 886): RANGE},
)
INTEGERS = {T.SByte: 8, T.Int16: 16, T.Int32: 32, T.Int64: 64}
KINDS: list[tuple[ua.VariantType, st.SearchStrategy[Any]]] = [
    (T.Double, st.floats()), (T.Float, st.floats(width=32)), (T.Boolean, st.booleans()),
    (T.String, st.one_of(st.none(), st.text(max_size=5))), (T.StatusCode, st.none()),
    *((kind, st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1)) for kind, n in INTEGERS.items()),
    (T.UInt64, st.integers(0, 2**64 - 1)), (T.Byte, st.integers(0, 255)),
]  # fmt: skip


def values(apart: parts.Apart) -> list[Any]:
    if apart.numbers is not None:
        return apart.numbers.tolist()
    return [value for _, _, value in apart.leaves]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda k: st.tuples(st.just(k[0]), st.lists(k[1]))))
def test_an_array_has_the_elements_that_were_written(given_: tuple[ua.VariantType, list]) -> None:
    kind, written = given_
    if kind is T.StatusCode:
        written = [ua.StatusCode(0x80000000 + k) for k in range(len(written))]
    raw = variant_to_binary(ua.Variant(written, kind, is_array=True))
    apart = take_apart(raw + b"behind it", TYPES)
    expected = [v.value if kind is T.StatusCode else v for v in written]
    np.testing.assert_array_equal(values(apart), expected)
    assert [part for part, _ in apart.parts()] == [f"[{k}]" for k in range(len(written))]


def test_matrices_structures_optional_fields_and_unions_are_named() -> None:
    grid = ua.Variant([[["a"], ["b"]], [["c"], ["d"]]], T.String)
    named = [(part, value) for part, _, value in take_apart(variant_to_binary(grid), TYPES).leaves]
    assert named == [("[0,0,0]", "a"), ("[0,1,0]", "b"), ("[1,0,0]", "c"), ("[1,1,0]", "d")]
    ranges = ua.Variant([ua.Range(1.0, 2.0), ua.Range(3.0, 4.0)], T.ExtensionObject)
    leaves = take_apart(variant_to_binary(ranges), TYPES).leaves
    assert leaves[2:] == [("[1].Low", 11, 3.0), ("[1].High", 11, 4.0)]
    assert take_apart(variant_to_binary(ranges), Types()).unknown == {(0, 886)}
    assert body("some", struct.pack("<Iii", 1, -5, -1)) == [(".A", 6, -5), (".B", 12, None)]
    assert body("some", struct.pack("<Ii1s", 0, 1, b"x")) == [(".B", 12, "x")]
    assert body("one", struct.pack("<IBd", 2, 11, 0.5)) == [(".B", 11, 0.5)]
    assert body("one", struct.pack("<I", 0)) == []


def extension(name: str, content: bytes) -> bytes:
    """An encoded ExtensionObject in a Variant."""
    key = struct.pack("<BHi", 3, 2, len(name)) + name.encode()
    return b"\x16" + key + b"\x01" + len(content).to_bytes(4, "little") + content


def body(name: str, content: bytes) -> list[parts.Leaf]:
    return take_apart(extension(name, content), TYPES).leaves


@pytest.mark.parametrize(
    "raw",
    [
        b"\x8b\xff\xff\xff\x7f" + bytes(80),
        b"\x98" + (400_000).to_bytes(4, "little") + bytes(400_000),
        extension("loop", (400_000).to_bytes(4, "little") + bytes(400_000)),
        extension("loop", struct.pack("<iiii", 0, 2, 1, 1) * 40 + bytes(400)),
        b"\x18" * 5000,
    ],
    ids=["length", "nulls", "empty structures", "a type in itself", "variants in variants"],
)
def test_what_costs_too_much_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        take_apart(raw, TYPES)


SEEDS = [
    variant_to_binary(ua.Variant([ua.Range(1.0, 2.0)] * 3, T.ExtensionObject)),
    variant_to_binary(ua.Variant([[1, 2, 3], [4, 5, 6]], T.Int64)),
    variant_to_binary(ua.Variant(["a", None, "bc"], T.String)),
    variant_to_binary(ua.Variant([ua.LocalizedText("t", "en"), ua.LocalizedText()])),
    variant_to_binary(ua.Variant([ua.NodeId("x", 2), ua.NodeId(7)])),
    variant_to_binary(ua.Variant([ua.Variant(1.5, T.Double), ua.Variant([1], T.Byte)], T.Variant)),
    extension("some", struct.pack("<Iii", 1, -5, -1)),
    extension("loop", struct.pack("<iii", 1, 1, 1) + struct.pack("<iii", 0, 0, 0)),
]


@settings(max_examples=500, deadline=None)
@given(
    which=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    cut=st.floats(0, 1),
)
@example(which=b"", edits=[], cut=1)
def test_mutated_values_never_crash(
    which: bytes, edits: list[tuple[float, int]], cut: float
) -> None:
    raw = bytearray(which)
    for place, byte in edits:
        if raw:
            raw[int(place * len(raw))] = byte
    try:
        apart = take_apart(bytes(raw[: int(cut * len(raw))]), TYPES, most=5)
    except DecodeError:
        return
    assert len(apart.parts()) <= 5
