"""Small clips through the propagator, as the golden numbers of its memory are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.propagation.memory_policy import MemoryPolicy
from maskstream.propagation.network import NetworkConfig
from maskstream.propagation.network_features import NetworkFeatures
from maskstream.propagation.network_propagator import NetworkPropagator
from maskstream.types import Frame

from .hashed import hashed

GOLDEN = Path(__file__).with_name("golden_memory.json")
TOLERANCE = 1e-4

NETWORKS = {"deva": NetworkConfig.deva(), "xmem": NetworkConfig.xmem()}


@dataclass(frozen=True)
class Clip:
    """What happens to which objects on which frames. The picture drifts, and objects move across it.

    Attributes:
        size_hw: of the frames.
        frames: how many there are.
        policy: of memory.
        prompts: objects whose masks are given, by frame.
        merges: all objects that there are then, whose masks are given, by frame; some may be new.
        removals: objects that go before a frame.
        network: which of `NETWORKS` follows them.
    """

    size_hw: tuple[int, int]
    frames: int
    policy: MemoryPolicy
    prompts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    merges: dict[int, tuple[int, ...]] = field(default_factory=dict)
    removals: dict[int, tuple[int, ...]] = field(default_factory=dict)
    network: str = "deva"

    def frame(self, index: int) -> Frame:
        """A picture, out of a larger one."""
        (height, width), (y, x) = self.size_hw, (2 * index % 32, 3 * index % 32)
        fine = hashed("fine", (3, height + 32, width + 32), 0, 255)
        coarse = hashed("coarse", (1, 3, height // 8 + 4, width // 8 + 4), 0, 255)
        coarse = F.interpolate(coarse, fine.shape[1:], mode="bilinear", align_corners=False)[0]
        picture = (0.3 * fine + 0.7 * coarse)[:, y : y + height, x : x + width]
        return Frame(index, index / 25, picture.round().byte().movedim(0, 2).contiguous().numpy())

    def masks(self, index: int, object_ids: tuple[int, ...]) -> Tensor:
        """``bool[N, H, W]``, boxes, apart from each other; some are cut off by the border."""
        height, width = self.size_hw
        masks = torch.zeros((len(object_ids), height, width), dtype=torch.bool)
        for n, object_id in enumerate(object_ids):
            top = height * (object_id % 3) // 3 + index % 5
            left = width * (object_id % 4) // 4 + 2 * index % 9 - 3
            masks[n, top : top + height // 4, max(left, 0) : left + width // 5] = True
        return masks


CLIPS = {
    # Two buckets, of which the first is consolidated, evicted from, loses an object, and goes; padding on all sides.
    "prompts": Clip(
        (62, 91),
        18,
        MemoryPolicy(every=1, top_k=20, max_frames=4, min_frames=2, prototypes=8, long_term_tokens=29),
        prompts={0: (1, 2), 3: (7,)},
        removals={12: (2,), 15: (1,)},
    ),
    # Hard masks from outside, with a new object among them; memory frames between them and because of them.
    "merges": Clip(
        (64, 96),
        10,
        MemoryPolicy(every=3, top_k=20, max_frames=4, min_frames=2, prototypes=8),
        merges={0: (1, 2), 5: (1, 2, 3), 7: (1, 2, 3)},
    ),
    # As above without long-term memory, which forgets nothing yet; a memory frame is due when the clip ends.
    "working memory": Clip((64, 80), 5, MemoryPolicy.fifo(4, every=2, top_k=20), prompts={0: (1, 2)}),
    # With a mask corrected between memory frames.
    "xmem": Clip(
        (62, 91),
        14,
        MemoryPolicy(every=2, top_k=20, max_frames=4, min_frames=2, prototypes=8, long_term_tokens=29),
        prompts={0: (1, 2), 5: (1,)},
        network="xmem",
    ),
}


def outputs(propagator: NetworkPropagator, clip: Clip) -> dict[str, Tensor]:
    """Probabilities ``float32[1 + N, h, w]`` of every frame, and what `align` carries from the first to the last."""
    state = propagator.start()
    found: dict[str, Tensor] = {}
    features: list[NetworkFeatures] = []
    for index in range(clip.frames):
        features.append(propagator.encode(clip.frame(index)))
        state = propagator.remove(state, clip.removals.get(index, ()))
        state, probabilities = propagator.read(state, features[index])
        for given in (clip.prompts, clip.merges):
            if index in given:
                masks = clip.masks(index, given[index])
                state = propagator.write(state, features[index], masks, given[index])
                foreground = features[index].crop(state.last_masks_nhw)
                probabilities = torch.cat([1 - foreground.sum(dim=0, keepdim=True), foreground])
        found[f"frame {index}"] = probabilities
    masks = clip.masks(0, (1, 2, 3))
    found["aligned"] = propagator.align(features[0], masks, features[-1])
    return found
