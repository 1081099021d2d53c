"""How much faster Mask2Former is than that of `transformers`, on this CPU.

    OMP_NUM_THREADS=1 python benchmarks/mask2former.py [--runs 5] [--size 480 864]

Swin-T with random weights, one picture, from pixels to classes and masks. The same weights go through `transformers` as
it is, through it with our deformable attention, and through our network of clips with that attention, whose decoder
computes masks at full size only once. They take turns in one process, so that whatever else the machine does slows
down all of them; times are medians. Ends with exit code 1 when our network is not 1.8 times as fast.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from maskstream.mask2former import use_fast_attention
from maskstream.mask2former.network import ClipMask2Former

TARGET = 1.8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 864), metavar=("HEIGHT", "WIDTH"))
    options = parser.parse_args()
    network = swin_tiny()
    fast = use_fast_attention(copy.deepcopy(network))
    clips = ClipMask2Former(fast, time_code=False).eval()
    pixels = torch.randn(1, 3, *options.size, generator=torch.Generator().manual_seed(0))

    def of_clips() -> tuple[Tensor, Tensor]:
        answer = clips(pixels[:, None])[-1]
        return answer.classes_bqc, answer.masks_bqthw[:, :, 0]

    ways: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "transformers": lambda: of_pictures(network, pixels),
        "with fast attention": lambda: of_pictures(fast, pixels),
        "ours": of_clips,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    with torch.inference_mode():
        for turn in range(options.runs + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                found[name] = way()
                if turn:
                    times[name].append(time.perf_counter() - began)
    seconds = {name: median(each) for name, each in times.items()}
    height, width = options.size
    print(f"Swin-T, {height}×{width}, {torch.get_num_threads()} threads")
    print(f"{'':20} {'s':>6} {'ratio':>6} {'difference of classes':>22} {'of masks':>9}")
    for name, (classes, masks) in found.items():
        apart = [
            (ours - theirs).abs().max().item()
            for ours, theirs in zip((classes, masks), found["transformers"], strict=True)
        ]
        ratio = seconds["transformers"] / seconds[name]
        print(f"{name:20} {seconds[name]:6.2f} {ratio:5.2f}x {apart[0]:22.0e} {apart[1]:9.0e}")
    sys.exit(seconds["transformers"] / seconds["ours"] < TARGET)


def swin_tiny() -> Mask2FormerForUniversalSegmentation:
    """As published for COCO's panoptic segmentation, with random weights.

    All weights are: where biases are zero, whole rows of Swin's windows would be, and numbers next to zero are slow.
    """
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    classes: dict[str, Any] = {"num_labels": 133}
    network = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=SwinConfig(**sizes), **classes))
    network.train(False)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 1:
                weight.add_(0.1 * torch.randn_like(weight))
            elif "sampling_offsets" in name:
                weight.normal_(0, 0.02)
    return network


def of_pictures(network: Mask2FormerForUniversalSegmentation, pixels_b3hw: Tensor) -> tuple[Tensor, Tensor]:
    """Classes and masks, logits."""
    found = network(pixels_b3hw)
    return found.class_queries_logits, found.masks_queries_logits


if __name__ == "__main__":
    main()
