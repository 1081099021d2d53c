"""Small worlds whose masks are known: textured squares over a textured wall."""

import cv2
import numpy as np
import torch

from maskstream.types import Frame, resize_masks

HEIGHT, WIDTH = 96, 160
SIZE = 192
"""Short side at which flow is computed: enlarged, for objects of these worlds are small."""


def texture(seed, size_hw, tint):
    """Noise around a colour, both coarse and fine."""
    noise = np.random.default_rng(seed).normal(0, 60, (*size_hw, 3)).astype(np.float32)
    mixed = cv2.GaussianBlur(noise, (0, 0), 1.5) * 2 + cv2.GaussianBlur(noise, (0, 0), 5) * 8
    return np.clip(mixed + np.array(tint, np.float32), 0, 255).astype(np.uint8)


def scene(*objects, pan=0, wall_tint=(90, 120, 160)):
    """A frame and its masks; later objects are in front.

    Args:
        objects: (seed, tint, left, top, side) each.
        pan: how far the wall has moved to the left.
    """
    image = texture(0, (HEIGHT, WIDTH + 200), wall_tint)[:, pan : pan + WIDTH].copy()
    masks = np.zeros((len(objects), HEIGHT, WIDTH), dtype=bool)
    for n, (seed, tint, left, top, side) in enumerate(objects):
        patch = texture(seed, (side, side), tint)
        x0, x1, y0, y1 = max(left, 0), min(left + side, WIDTH), max(top, 0), min(top + side, HEIGHT)
        if x0 < x1 and y0 < y1:
            image[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
            masks[:, y0:y1, x0:x1] = False
            masks[n, y0:y1, x0:x1] = True
    return image, masks


def frame(index, image):
    return Frame(index, index / 25, image)


def enlarged(masks):
    """Masks at the resolution of the propagator."""
    return resize_masks(torch.from_numpy(masks), (SIZE, WIDTH * SIZE // HEIGHT)) >= 0.5


def overlap(probabilities, channel, mask):
    """Intersection over union of the pixels where a channel wins, at the size of the world."""
    found = (resize_masks(probabilities, mask.shape).max(0).indices == channel).numpy()
    union = (found | mask).sum()
    return (found & mask).sum() / union if union else 1.0


def follow(propagator, images, first_masks, object_ids):
    """Yield the probabilities of every frame after the first."""
    features = propagator.encode(frame(0, images[0]))
    masks = resize_masks(torch.from_numpy(first_masks), features.size_hw) >= 0.5
    state = propagator.write(propagator.start(), features, masks, object_ids)
    for index, image in enumerate(images[1:], 1):
        state, probabilities = propagator.read(state, propagator.encode(frame(index, image)))
        yield probabilities
