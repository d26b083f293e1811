"""What the Sparkplug host does with what no edge node should send."""

import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from workshop_brain.connect.discovery.watched import Watched
from workshop_brain.connect.sparkplug.host import Host
from workshop_brain.model.signal import Quality, SignalKind
from workshop_brain.twin import sparkplug_wire as wire

K = wire.DataType
S, H = 1_000_000_000, 3_600_000_000_000
NOW_MS = 1_790_000_000_000
GOOD, BAD = int(Quality.GOOD), int(Quality.BAD)


@dataclass
class Scene:
    """A host whose samples stay in memory, and a clock."""

    folder: Path
    sent: list[str] = field(default_factory=list)
    now_ns: int = NOW_MS * 1_000_000

    def __post_init__(self) -> None:
        self.box = Watched("sp", "sparkplug", self.folder / "i", self.folder / "spool" / "sp")
        self.host = Host("sp", "local", self.box, lambda topic, payload: self.sent.append(topic))

    def message(self, topic: str, payload: bytes) -> None:
        self.host.message(f"spBv1.0/g/{topic}", payload, self.now_ns)

    def rows(self, name: str) -> list[tuple[int, float, int]]:
        """(ms from the beginning, value, quality) under every id that the name has had."""
        ids = [n for n, s in enumerate(self.box.signals) if s.path.endswith(name)]
        return [
            (t // 1_000_000 - NOW_MS, v, q)
            for p in self.box.parts
            for i, t, v, q in zip(
                p.signal.tolist(), p.time_ns.tolist(), p.value.tolist(), p.quality.tolist(),
                strict=True,
            )
            if i in ids
        ]  # fmt: skip

    def causes(self) -> dict[str, int]:
        return self.box.kept._causes


@dataclass
class Node:
    """An edge node whose messages go straight to a host."""

    scene: Scene
    id: str = "n"
    device: str = "d"
    seq: int = 0
    ms: int = NOW_MS

    def say(self, kind: str, *metrics: bytes) -> None:
        payload = wire.payload_bytes(self.ms, metrics, self.seq)
        self.seq = (self.seq + 1) % 256
        self.scene.message(f"{kind}/{self.id}" + f"/{self.device}" * (kind[0] == "D"), payload)

    def birth(self, *metrics: bytes) -> None:
        self.seq = 0
        bd_seq = wire.metric_bytes(name="bdSeq", datatype=K.INT64, value=wire.scalar(K.INT64, 0))
        self.say("NBIRTH", bd_seq)
        self.say("DBIRTH", *metrics)

    def metric(self, value: float | str | bytes, kind: int = K.DOUBLE, name: str = "x") -> bytes:
        raw = value if isinstance(value, bytes) else wire.scalar(kind, value)
        return wire.metric_bytes(name=name, alias=7, time_ms=self.ms, datatype=kind, value=raw)

    def data(self, value: float | str, kind: int = K.DOUBLE) -> None:
        raw = wire.scalar(kind, value)
        self.say("DDATA", wire.metric_bytes(alias=7, time_ms=self.ms, value=raw))

    def die(self) -> None:
        metric = wire.metric_bytes(name="bdSeq", datatype=K.INT64, value=wire.scalar(K.INT64, 0))
        self.scene.message(f"NDEATH/{self.id}", wire.payload_bytes(None, [metric], None))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_two_edge_nodes_of_one_id_are_named_and_not_asked_without_end(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Node(scene), Node(scene)
    one.birth(one.metric(0.0))
    two.seq = 100
    for k in range(1, 41):
        scene.now_ns += S // 4
        for node, value in ((one, k), (two, -k)):
            node.ms += 250
            node.data(value)
    assert [v for _, v, _ in scene.rows("/x")] == [
        0.0, *(v for k in range(1, 41) for v in (k, -k))
    ]  # fmt: skip
    assert all(q & Quality.GAP_BEFORE for _, _, q in scene.rows("/x")[2:])
    assert len(scene.sent) <= 6  # in ten seconds
    said = [r.getMessage() for r in caplog.records if "use this id" in r.getMessage()]
    assert len(said) == 1
    assert "g/n" in said[0]


def test_one_device_name_under_two_edge_nodes_is_two_devices(scene: Scene) -> None:
    one, two = Node(scene), Node(scene, "m")
    for node, value in ((one, 1.0), (two, 2.0)):
        node.birth(node.metric(value))
    one.say("DDEATH")
    assert [q for _, _, q in scene.rows("g/n/_/_/d/x")] == [GOOD, BAD]
    assert [q for _, _, q in scene.rows("g/m/_/_/d/x")] == [GOOD]


def test_a_type_that_changes_with_a_rebirth_is_read_as_the_last_birth_says(scene: Scene) -> None:
    node = Node(scene)
    node.birth(node.metric(-5, K.INT32))
    node.data(-6, K.INT32)
    node.birth(node.metric(1.5))
    node.data(2.5)
    node.birth(node.metric("open", K.STRING))
    node.data("shut", K.STRING)
    node.data(3.5)  # the birth said text
    values = [v for _, v, _ in scene.rows("/x")]
    assert values[:4] == [-5.0, -6.0, 1.5, 2.5]
    assert [scene.box.word(v) for v in values[4:6]] == ["open", "shut"]
    assert [s.kind for s in scene.box.signals] == [SignalKind.GAUGE, SignalKind.TEXT]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [K.DOUBLE, K.FLOAT])
def test_what_is_not_finite_is_no_value(scene: Scene, kind: int, value: float) -> None:
    node = Node(scene)
    node.birth(node.metric(value, kind))
    node.data(value, kind)
    node.data(1.0, kind)
    assert [(math.isnan(v), q) for _, v, q in scene.rows("/x")] == [
        (True, BAD), (True, BAD), (False, GOOD)
    ]  # fmt: skip
    assert scene.host.rejected == 0


def test_huge_texts_and_names_are_left_out_counted_and_kept(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(scene)
    node.birth(
        node.metric("y" * 4097, K.STRING), wire.metric_bytes(
            name="n" * 1_000_000, alias=8, time_ms=node.ms, datatype=K.DOUBLE,
            value=wire.scalar(K.DOUBLE, 1.0),
        ),
    )  # fmt: skip
    node.data("z" * 1_000_000, K.STRING)
    node.data("w" * 4096, K.STRING)
    rows = scene.rows("/x")
    assert [q for _, _, q in rows] == [BAD, BAD, GOOD]
    assert scene.box.word(rows[2][1]) == "w" * 4096
    assert len(scene.box.signals) == 1
    assert scene.causes() == {"long_text": 2, "long_name": 1}
    assert scene.host.rejected == 3
    assert not scene.sent
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[1] for line in lines] == ["long_name", "long_text"]
    assert max(map(len, lines)) < 500


def test_a_clock_that_jumps_moves_no_death_into_another_time(scene: Scene) -> None:
    node = Node(scene)
    node.birth(node.metric(1.0))
    node.ms = NOW_MS + 200 * 365 * 24 * 3_600_000  # one stamp of the far future
    node.data(2.0)
    node.ms = NOW_MS + 1000
    node.data(3.0)
    node.ms = NOW_MS - 7_200_000  # the clock is put back two hours
    node.data(4.0)
    node.ms += 1000
    node.data(5.0)
    node.die()
    times = [t for t, _, _ in scene.rows("/x")]
    assert times[2:] == [1000, -7_200_000, -7_199_000, -7_198_999]
    assert [q for _, _, q in scene.rows("/x")] == [GOOD] * 5 + [BAD]


def test_stamps_that_fit_no_instant_are_uncertain(scene: Scene) -> None:
    node = Node(scene)
    node.birth(node.metric(1.0))
    node.ms = (1 << 64) - 11_644_473_600_000  # 1601, as a number without sign
    node.data(2.0)
    row = scene.rows("/x")[-1]
    assert row == (-NOW_MS, 2.0, int(Quality.UNCERTAIN))


@pytest.mark.parametrize(
    "body", [b"no zlib", zlib.compress(b"x" * 40)[:-5], zlib.compress(bytes(1 << 25))]
)
def test_a_compressed_payload_that_is_none_or_too_large_is_kept(scene: Scene, body: bytes) -> None:
    node = Node(scene)
    node.birth(node.metric(1.0))
    mark = b"SPBV1.0_COMPRESSED"
    payload = b"\x22" + bytes([len(mark)]) + mark + b"\x2a" + wire.varint(len(body)) + body
    scene.message("DDATA/n/d", payload)
    assert scene.causes() == {"unreadable": 1}
    assert len(scene.rows("/x")) == 1
    assert scene.sent == ["spBv1.0/g/NCMD/n"]
