"""Texts of any length and number travel in frames that the brain takes."""

from workshop_brain.connect import handover
from workshop_brain.connect.outbox import _text_frames


def test_many_long_texts_travel_in_frames_that_are_taken() -> None:
    texts = [f"{k}" + "\x01" * 4090 for k in range(6000)]  # six bytes for each when escaped
    frames = _text_frames(7, texts)
    assert max(len(frame) for frame in frames) < handover.MAX_FRAME
    back = [handover.unpack_texts(frame[5:]) for frame in frames]
    assert [text for _, part in back for text in part] == texts
    assert [first for first, _ in back] == [
        7 + sum(len(p) for _, p in back[:k]) for k in range(len(back))
    ]
    assert _text_frames(0, []) == []
