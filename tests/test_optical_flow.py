"""Flow between two pictures."""

import cv2
import numpy as np

from maskstream.optical_flow import dense_flow


def pictures(size_hw, seed):
    """A picture, and the same three columns and two rows further right and down."""
    noise = np.random.default_rng(seed).integers(0, 256, (size_hw[0] + 8, size_hw[1] + 8), np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), np.float32)
    stretched = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
    return stretched[4:-4, 4:-4].copy(), stretched[2:-6, 1:-7].copy()


def guess(picture, value):
    return np.full((*picture.shape, 2), value, np.float32)


def test_flow_leads_from_the_source_to_the_target():
    source, target = pictures((96, 128), 0)
    for start in (None, guess(source, 0), guess(source, 2)):
        assert np.abs(np.median(dense_flow(source, target, start=start), axis=(0, 1)) - [3, 2]).max() < 0.1


def test_it_does_not_matter_what_was_looked_at_before():
    jobs = [(pictures(size, n), start) for n, (size, start) in enumerate(JOBS)]
    found = [
        [dense_flow(*pair, start=None if start is None else guess(pair[0], start)) for pair, start in order]
        for order in (jobs, jobs[::-1])
    ]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1][::-1], strict=True))


JOBS = [((96, 128), None), ((48, 64), 0.5), ((96, 128), 1.5), ((13, 13), 0), ((96, 128), 0), ((96, 128), None)]


def test_a_picture_smaller_than_a_patch_has_only_the_first_guess():
    tiny = np.zeros((8, 8), np.uint8)
    assert not dense_flow(tiny, tiny).any()
    assert np.array_equal(dense_flow(tiny, tiny, start=guess(tiny, 2)), guess(tiny, 2))
