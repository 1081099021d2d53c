"""What moves on its own: dense flow, the camera's share of it, and the evidence in what is left.

The parts are classics: DIS optical flow (Kroeger et al., ECCV 2016), the forward-backward check of Sundaram et al.
(ECCV 2010), and a plane-plus-parallax reading of camera motion: a homography by RANSAC (Fischler and Bolles 1981),
if need be a second one for the ground, and a tolerance that grows with the camera's own speed.
Flows are ``float32[h, w, 2]`` in pixels, (x, y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from maskstream.optical_flow import dense_flow

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

ByteArray = NDArray[np.uint8]

NOISE_FLOOR_PX = 0.25  # what DIS is off by on a still picture, at 240 lines
PARALLAX_TOLERANCE = 0.05  # of the camera's own motion: depth the homography cannot explain
CAMERA_NOISE = 4.0  # grey levels of 255 by which two pictures of one still thing may differ
SAMPLE_STRIDE = 6  # the camera model is fitted to every sixth pixel of every sixth row
MIN_CONSISTENT = 0.35  # below this share of consistent flow two frames are not of one scene
MIN_EXPLAINED = 0.3  # below this share of samples explained the model is not the camera's
RIM = 0.15  # of the sides: so near to the edge of the picture there is background rather than an object
LEAST_RIM_SAMPLES = 100  # fewer do not tell the camera's motion
_SAMPLES = np.s_[SAMPLE_STRIDE // 2 :: SAMPLE_STRIDE, SAMPLE_STRIDE // 2 :: SAMPLE_STRIDE]


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """What the camera does not explain between two frames.

    Attributes:
        flow: ``float32[h, w, 2]``, flow minus camera motion.
        camera: ``float32[h, w, 2]``, camera motion.
        tolerance: ``float32[h, w]``, what noise and parallax may amount to (one sigma), in pixels.
        consistent: ``bool[h, w]``, whether forward and backward flow agree.
        contrast: ``float32[h, w]`` in [0, 1], near 0 where the picture looks as if only the camera had moved: a bare
            wall, a clear sky, where flow means nothing.
        in_view: ``bool[h, w]``, whether the camera saw this part of the background in the past picture.
    """

    flow: FloatArray
    camera: FloatArray
    tolerance: FloatArray
    consistent: BoolArray
    contrast: FloatArray
    in_view: BoolArray

    @property
    def significance(self) -> FloatArray:
        """``float32[h, w]``, how many tolerances the residual amounts to."""
        return np.asarray(np.hypot(self.flow[..., 0], self.flow[..., 1]) / self.tolerance, dtype=np.float32)


def is_consistent(forward: FloatArray, backward: FloatArray) -> BoolArray:
    """Where following the flow there and back ends where it began, inside the picture (Sundaram et al., eq. 5)."""
    x, y = _pixel_grid(forward.shape[:2])
    target_x, target_y = x + forward[..., 0], y + forward[..., 1]
    remapped = cv2.remap(backward, target_x, target_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    returned = np.asarray(remapped, dtype=np.float32)
    error = squared_length(forward + returned)
    allowed = 0.01 * (squared_length(forward) + squared_length(returned)) + 0.5
    return np.asarray(_inside(forward) & (error < allowed))


def fit_camera_flow(flow: FloatArray, candidates: BoolArray) -> FloatArray | None:
    """Flow of the homography that most candidate pixels agree on, or None when there are too few of them.

    Those at the rim of the picture are asked alone if they are enough: a plane through all of it often also goes
    through what moves in the middle.
    """
    x, y = _pixel_grid(flow.shape[:2])
    chosen = candidates[_SAMPLES]
    at_rim = chosen & _rim(flow.shape[:2])[_SAMPLES]
    if np.count_nonzero(at_rim) > LEAST_RIM_SAMPLES:
        chosen = at_rim
    points = np.stack([x[_SAMPLES][chosen], y[_SAMPLES][chosen]], axis=1)
    if len(points) < 32:
        return None
    motion = flow[_SAMPLES][chosen]
    threshold = 0.7 + 0.03 * float(np.median(np.abs(motion).sum(1)))
    # cv2's RANSAC starts its own generator from a constant on every call: the same points give the same plane.
    homography, _ = cv2.findHomography(points, points + motion, cv2.RANSAC, threshold, maxIters=300, confidence=0.995)
    if np.size(homography) != 9:  # OpenCV returns None when no plane fits, whatever its type stubs say
        return None
    mapped = np.stack([x, y, np.ones_like(x)], axis=-1) @ homography.T.astype(np.float32)
    target = mapped[..., :2] / np.maximum(mapped[..., 2:], 1e-3)
    return np.asarray(target - np.stack([x, y], axis=-1), dtype=np.float32)


def residual_motion(current: ByteArray, past: ByteArray) -> Residual | None:
    """Motion from the current picture to a past one (``uint8[h, w, 3]`` RGB) that the camera does not explain.

    None when the two do not show one scene (a cut), or no camera motion explains enough of it.
    """
    current_gray, past_gray = _gray(current), _gray(past)
    flow = dense_flow(current_gray, past_gray)
    consistent = is_consistent(flow, dense_flow(past_gray, current_gray))
    if consistent.mean() < MIN_CONSISTENT:
        return None
    camera = fit_camera_flow(flow, consistent)
    if camera is None:
        return None
    residual = _residual(flow, camera, consistent)
    ground = _second_plane(flow, camera, residual)
    if ground is not None:
        nearer = squared_length(flow - ground) < squared_length(flow - camera)
        camera = np.where(nearer[..., None], ground, camera)
        residual = _residual(flow, camera, consistent)
    if (residual.significance[_SAMPLES] < 3).mean() < MIN_EXPLAINED:
        return None
    return replace(residual, contrast=_contrast(current, past, camera))


def motion_evidence(residuals: Sequence[Residual]) -> FloatArray:
    """``float32[h, w]`` in [0, 1], from c · s² / (4² + s²) of every gap, c contrast and s significance.

    Half of it is the mean over the gaps, half the largest of them: the mean is calm, but a slow object shows in the
    longest gap alone and a fast one is lost in it. A pixel whose flow is inconsistent over a gap (occlusion) hardly
    counts in that gap, and one that came into view since does not count at all.
    """
    total = np.zeros(residuals[0].tolerance.shape, dtype=np.float32)
    weights, largest = np.zeros_like(total), np.zeros_like(total)
    for residual in residuals:
        squared = np.square(residual.significance)
        evidence = residual.in_view * residual.contrast * squared / (16 + squared)
        weight = np.where(residual.consistent, np.float32(1), np.float32(0.1))
        total += weight * evidence
        weights += weight * residual.in_view
        largest = np.maximum(largest, residual.consistent * evidence)
    return np.asarray((total / np.maximum(weights, 1e-6) + largest) / 2, dtype=np.float32)


def _residual(flow: FloatArray, camera: FloatArray, consistent: BoolArray) -> Residual:
    rest = flow - camera
    samples = np.hypot(rest[..., 0], rest[..., 1])[_SAMPLES]
    # the calmer 70 % are background: their median is robust even when an object covers a third of the picture
    noise = 1.4826 * float(np.median(samples[samples <= np.quantile(samples, 0.7)]))
    tolerance = max(noise, NOISE_FLOOR_PX) + PARALLAX_TOLERANCE * np.hypot(camera[..., 0], camera[..., 1])
    ones = np.ones(consistent.shape, np.float32)
    return Residual(rest, camera, tolerance.astype(np.float32), consistent, ones, _inside(camera))


def _second_plane(flow: FloatArray, camera: FloatArray, residual: Residual) -> FloatArray | None:
    """Flow of a second plane of the scene, such as the road below a far skyline, or None.

    Under a moving camera, what the first plane does not explain is another plane rather than an object when it fills
    more than half of one side of the picture and one homography explains most of it.
    """
    if float(np.median(np.hypot(camera[..., 0], camera[..., 1]))) < 4 * NOISE_FLOOR_PX:
        return None
    candidates = (residual.significance > 4) & residual.consistent
    sides = candidates[-4:], candidates[:4], candidates[:, :4], candidates[:, -4:]
    if max(float(side.mean()) for side in sides) < 0.5:
        return None
    plane = fit_camera_flow(flow, candidates)
    if plane is None:
        return None
    explained = _residual(flow, plane, residual.consistent).significance < 4
    return plane if explained[candidates].mean() > 0.6 else None


def _contrast(current: ByteArray, past: ByteArray, camera: FloatArray) -> FloatArray:
    """How much the past picture, moved as the camera did, differs from the current one around each pixel."""
    x, y = _pixel_grid(camera.shape[:2])
    moved = cv2.remap(past, x + camera[..., 0], y + camera[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    squared = np.square(np.maximum.reduce(cv2.split(cv2.absdiff(moved, current))).astype(np.float32))
    squared = cv2.GaussianBlur(squared, (0, 0), 2)
    return np.asarray(squared / (squared + CAMERA_NOISE**2), dtype=np.float32)


def reduced(image_hw3: ByteArray, size: int) -> ByteArray:
    """A picture whose shorter side is at most ``size``."""
    height, width = image_hw3.shape[:2]
    scale = size / min(height, width)
    if scale >= 1:
        return np.array(image_hw3)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image_hw3, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def squared_length(flow: FloatArray) -> FloatArray:
    """``float32[h, w]``; five times faster than a sum over an axis of two."""
    return np.asarray(flow[..., 0] * flow[..., 0] + flow[..., 1] * flow[..., 1], dtype=np.float32)


def _inside(flow: FloatArray) -> BoolArray:
    """Where the flow ends inside the picture."""
    x, y = _pixel_grid(flow.shape[:2])
    x, y = x + flow[..., 0], y + flow[..., 1]
    return np.asarray((x >= 0) & (y >= 0) & (x <= flow.shape[1] - 1) & (y <= flow.shape[0] - 1))


def _rim(size_hw: tuple[int, ...]) -> BoolArray:
    """``bool[h, w]``, near the edge of the picture."""
    rim = np.ones(size_hw, dtype=np.bool_)
    (top, left), (height, width) = (int(RIM * side) for side in size_hw), size_hw
    rim[top : height - top, left : width - left] = False
    return rim


def _pixel_grid(size_hw: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    x, y = np.meshgrid(np.arange(size_hw[1], dtype=np.float32), np.arange(size_hw[0], dtype=np.float32))
    return x, y


def _gray(image: ByteArray) -> ByteArray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
