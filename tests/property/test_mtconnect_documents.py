"""Whatever an agent sends, it is read as observations and named faults, or refused."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workshop_brain.connect import stamps
from workshop_brain.connect.mtconnect.document import (
    AgentError,
    DataItem,
    read_devices,
    read_streams,
)
from workshop_brain.connect.mtconnect.multipart import Parts, boundary_of
from workshop_brain.errors import DecodeError
from workshop_brain.model.signal import SignalKind

HEAD = b'<MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:2.0">'
HEAD += b'<Header instanceId="7" nextSequence="12" firstSequence="3"/>'
AT = 'timestamp="2026-03-01T00:00:01.5Z"'


def document(*rows: str, block: str = "Samples") -> bytes:
    body = f"<Streams><DeviceStream><ComponentStream><{block}>{''.join(rows)}</{block}>"
    tail = "</ComponentStream></DeviceStream></Streams></MTConnectStreams>"
    return HEAD + (body + tail).encode()


GOOD = document(
    f'<Position dataItemId="x" {AT} sequence="3">1.5</Position>',
    f'<Position dataItemId="y" {AT} sequence="4">UNAVAILABLE</Position>',
    f'<PositionTimeSeries dataItemId="t" {AT} sampleCount="3" sampleRate="10">1 2 3'
    "</PositionTimeSeries>",
    f'<V dataItemId="d" {AT}><Entry key="a">1</Entry><Entry key="b">2</Entry></V>',
    '<Position dataItemId="w" timestamp="yesterday">1</Position>',
    '<Position dataItemId="o" timestamp="1601-01-01T00:00:00Z">1</Position>',
)


def test_observations_are_columns_and_what_is_wrong_is_named() -> None:
    found = read_streams(GOOD)
    assert (found.header.instance, found.header.next_sequence) == (7, 12)
    at = stamps.text_ns("2026-03-01T00:00:01.5Z")
    assert list(zip(found.item, found.time_ns, found.text, strict=True)) == [
        ("x", at, "1.5"), ("y", at, None),
        ("t", at - 200_000_000, "1"), ("t", at - 100_000_000, "2"), ("t", at, "3"),
        ("d", at, "a=1 b=2"),
    ]  # fmt: skip
    assert [id for id, _ in found.faults] == ["w", "o"]


def test_conditions_are_words() -> None:
    found = read_streams(
        document(
            f'<Fault dataItemId="c" {AT} nativeCode="E12">hot</Fault>',
            f'<Normal dataItemId="c" {AT}/>', f'<Unavailable dataItemId="c" {AT}/>',
            block="Condition",
        )
    )  # fmt: skip
    assert found.text == ["FAULT E12 hot", "NORMAL", None]


@pytest.mark.parametrize(
    ("category", "type", "units", "kind"),
    [
        ("SAMPLE", "POSITION", "MILLIMETER", SignalKind.GAUGE),
        ("SAMPLE", "PATH_POSITION", "MILLIMETER_3D", SignalKind.TEXT),
        ("EVENT", "PART_COUNT", "", SignalKind.COUNTER),
        ("EVENT", "EXECUTION", "", SignalKind.TEXT),
        ("CONDITION", "LOAD", "", SignalKind.TEXT),
    ],
)
def test_a_data_item_tells_the_kind(category: str, type: str, units: str, kind: SignalKind) -> None:
    assert DataItem("i", "n", ("d",), category, type, "", units).kind is kind


def test_no_entity_is_resolved_and_an_error_document_says_its_code() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY e "xxxxxxxx"><!ENTITY f "&e;&e;">]><a>&f;</a>'
    outside = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>&e;</a>'
    for content in (bomb, outside):
        with pytest.raises(DecodeError, match="DTD"):
            read_streams(content)
    error = b'<MTConnectError><Errors><Error errorCode="OUT_OF_RANGE">no</Error></Errors>'
    with pytest.raises(AgentError, match="OUT_OF_RANGE") as caught:
        read_streams(error + b"</MTConnectError>")
    assert caught.value.code == "OUT_OF_RANGE"


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8), st.data()
)
@settings(max_examples=400)
def test_a_damaged_document_is_read_or_refused(
    changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    body = bytearray(GOOD)
    for at, value in changes:
        body[at] = value
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    with suppress(DecodeError):
        found = read_streams(bytes(body))
        assert len(found.item) == len(found.time_ns) == len(found.text)
    with suppress(DecodeError):
        read_devices(bytes(body))


@given(st.lists(st.binary(max_size=60), max_size=5), st.lists(st.integers(1, 50), max_size=30))
def test_parts_come_out_whole_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(
        b"--b\r\nContent-type: text/xml\r\nContent-length: %d\r\n\r\n%s\r\n" % (len(b), b)
        for b in bodies
    )
    boundary = boundary_of("multipart/x-mixed-replace;boundary=b")
    assert boundary is not None
    parts, found = Parts(boundary), []
    for cut in (*cuts, len(stream)):
        found += parts.feed(stream[:cut])
        stream = stream[cut:]
    assert found == bodies


@given(st.binary(max_size=400))
def test_any_stream_is_cut_or_refused(data: bytes) -> None:
    with suppress(DecodeError):
        list(Parts(b"--b").feed(data))


def test_a_stream_without_parts_is_not_kept_for_ever() -> None:
    with pytest.raises(DecodeError, match="no boundary"):
        list(Parts(b"--b").feed(b"x" * 20_000))
