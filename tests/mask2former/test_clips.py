"""How videos are cut into clips."""

import numpy as np
import pytest

from maskstream.mask2former.clips import ClipBuffer
from maskstream.pretrained import Pixels
from maskstream.types import Frame, InputError

CUTS = [(1, 0), (5, 4), (5, 2), (5, 0), (4, 1), (2, 1)]


def buffer_of(length, overlap, last="full"):
    pixels = Pixels(divisor=32)
    return ClipBuffer(lambda x: x.mean(), pixels, size_hw=(8, 8), frames=length, stride=length - overlap, last=last)


def frame(t):
    return Frame(t, 0.0, np.full((8, 8, 3), t, np.uint8))


@pytest.mark.parametrize("last", ["full", "cut"])
@pytest.mark.parametrize(("length", "overlap"), CUTS)
@pytest.mark.parametrize("count", range(1, 24))
def test_every_frame_leaves_once_and_in_time(length, overlap, count, last):
    buffer = buffer_of(length, overlap, last)
    left: list[int] = []
    decoded: set[int] = set()
    begun = 0
    for t in range(count):
        clip = buffer.arrive(frame(t))
        if clip is not None:
            assert len(clip.frames) == len(clip.encoded) == length
            assert clip.first == begun
            assert clip.seen == len(decoded & {frame.index for frame in clip.frames})
            decoded |= {frame.index for frame in clip.frames}
            left += [clip.first + n for n in clip.leaving]
            begun += length - overlap
        assert t - len(left) < length
        assert buffer.held == list(range(len(left), t + 1))
        assert buffer.emitted == len(left) - 1
    rest = buffer.rest()
    if rest is not None:
        assert rest.first == (begun if last == "cut" else max(count - length, 0)) and rest.stop == count
        assert rest.seen == len(decoded & set(range(rest.first, rest.stop)))
        left += [rest.first + n for n in rest.leaving]
    assert left == list(range(count)) and buffer.rest() is None


def test_a_clip_that_is_not_decoded_begins_anew_where_somebody_says():
    buffer = buffer_of(4, 2)
    assert [buffer.arrive(frame(t)) for t in range(3)] == [None] * 3
    clip = buffer.arrive(frame(3))
    assert clip is not None and (clip.first, clip.seen, clip.leaving) == (0, 0, range(0, 2))
    buffer.begin_at(3)
    assert buffer.held == [3] and buffer.emitted == 2
    assert [buffer.arrive(frame(t)) for t in (4, 5)] == [None] * 2
    clip = buffer.arrive(frame(6))
    assert clip is not None and (clip.first, clip.seen, clip.leaving) == (3, 0, range(0, 2))
    assert [x.index for x in clip.frames] == [3, 4, 5, 6]


def test_clips_have_frames_and_meet():
    with pytest.raises(InputError, match="at least one frame"):
        buffer_of(0, 0)
    with pytest.raises(InputError, match="overlap by 0 to 2"):
        buffer_of(3, 3)


def test_a_buffer_goes_on_where_it_was():
    first, second = buffer_of(4, 1, "cut"), buffer_of(4, 1, "cut")
    for t in range(6):
        first.arrive(frame(t))
    second.load_state_dict(first.state_dict())
    for buffer in (first, second):
        clip = buffer.arrive(frame(6))
        assert clip is not None and (clip.first, clip.seen, clip.leaving) == (3, 1, range(0, 3))
        rest = buffer.rest()
        assert rest is not None and (rest.first, rest.seen, rest.leaving) == (6, 1, range(0, 1))
