"""SAM 2 and EdgeTAM through our session and through the library's own loop: what is kept, and how long a frame takes.

    python benchmarks/hub.py [--kind sam2|edgetam] [--side 128] [--frames 30] [--objects 1 8] [--device cpu]

The geometry is that of sam2.1-hiera-tiny (EdgeTAM's: its memory, on the same encoder), the weights are random, which
cost as much as trained ones. Both see the same frames of a video in turn, and say whose each pixel is. Time is the
median of the frames after the memory is full, on a CPU that of the processor, so that what else the machine does does
not count; what is kept is every tensor that is held from one frame to the next. Ends with exit code 1 when ours grows
by more than 10 % once it is full.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, Sam2VideoConfig, Sam2VideoModel
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from maskstream.mask2former.postprocess import FrameSizes, owners
from maskstream.pretrained import Pixels
from maskstream.systems.hub import EdgeTamParts, Sam2Parts, SamVideo
from maskstream.types import Frame, MaskPrompt, Task

SIZE = (240, 428)
FULL = 18
"""Frames after which nothing more is kept: those of which SAM 2 keeps pointers, and some."""


def build(kind: str, side: int) -> Any:
    """A network for pictures of this side."""
    torch.manual_seed(0)
    network: Any
    sizes = [side // 4, side // 8, side // 16]
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": {"model_type": "sam2_hiera_det_model", "image_size": [side, side]},
        "backbone_feature_sizes": [[size, size] for size in sizes],
    }
    options: dict[str, Any] = {
        "vision_config": vision,
        "image_size": side,
        "prompt_encoder_config": {"image_size": side},
        "memory_attention_rope_feat_sizes": [sizes[2], sizes[2]],
    }
    if kind == "sam2":
        network = Sam2VideoModel(Sam2VideoConfig(**options))
        return network.eval()
    windows = min(16, sizes[2])
    options |= {
        "memory_attention_rope_k_sizes": [windows, windows],
        "perceiver_resampler_num_latents_2d": windows**2,
    }
    network = EdgeTamVideoModel(EdgeTamVideoConfig(**options))
    return network.eval()


def clip(count: int) -> Iterator[Frame]:
    """Noise that drifts."""
    ground = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    for n in range(count):
        yield Frame(n, n / 24, np.roll(ground, 3 * n, axis=1))


def masks(count: int) -> list[Tensor]:
    """Blocks side by side."""
    result = []
    for n in range(count):
        mask = torch.zeros(SIZE, dtype=torch.bool)
        mask[40 : 40 + 100, 10 + 50 * n : 50 + 50 * n] = True
        result.append(mask)
    return result


def tensor_bytes(what: object, seen: set[int]) -> int:
    """Of all tensors in containers and the attributes of objects, each once."""
    if isinstance(what, Tensor):
        known = what.untyped_storage().data_ptr() in seen
        seen.add(what.untyped_storage().data_ptr())
        return 0 if known else what.untyped_storage().nbytes()
    if isinstance(what, dict):
        return sum(tensor_bytes(value, seen) for value in what.values())
    if isinstance(what, list | tuple):
        return sum(tensor_bytes(value, seen) for value in what)
    return tensor_bytes(vars(what), seen) if type(what).__name__.endswith("Cache") else 0


def watch(kind: str, network: Any, objects: int, frames: int) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Seconds, and bytes that are kept, of every frame; by who did it."""
    device = network.device
    pixels = Pixels(exact_hw=(network.image_size,) * 2)
    system = SamVideo((Sam2Parts if kind == "sam2" else EdgeTamParts)(network), pixels)
    ours = system.start(Task.VOS, size_hw=SIZE)
    ours.prompt([MaskPrompt(0, n, mask) for n, mask in enumerate(masks(objects), 1)])
    session = Sam2VideoInferenceSession if kind == "sam2" else EdgeTamVideoInferenceSession
    theirs: Any = session(
        video_height=SIZE[0],
        video_width=SIZE[1],
        dtype=torch.float32,
        inference_device=device,
        inference_state_device=device,
        video_storage_device=device,
    )
    square = (network.image_size, network.image_size)
    for mask in masks(objects):
        number = theirs.obj_id_to_idx(len(theirs.obj_ids) + 1)
        large = torch.nn.functional.interpolate(mask[None, None].float(), square, mode="bilinear", antialias=True)
        theirs.add_mask_inputs(number, 0, (large >= 0.5).float())
    theirs.obj_with_new_inputs = list(theirs.obj_ids)

    def step_theirs(frame: Frame) -> None:
        found = network(theirs, frame=pixels([frame]))
        mask_hw = (found.pred_masks.shape[2], found.pred_masks.shape[3])
        owners(found.pred_masks[:, 0], torch.ones(objects), FrameSizes(SIZE, mask_hw, mask_hw))

    steps: dict[str, Callable[[Frame], object]] = {"ours": ours.step, "theirs": step_theirs}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    held: dict[str, list[int]] = {name: [] for name in steps}
    for frame in clip(frames):
        # Who comes second finds the caches full of what the other one left.
        for name, step in sorted(steps.items(), reverse=frame.index % 2 == 1):
            _wait(device)
            start = clock()
            step(frame)
            _wait(device)
            seconds[name].append(clock() - start)
        held["ours"].append(tensor_bytes(ours.state_dict(), set()))
        held["theirs"].append(tensor_bytes(vars(theirs), set()))
    return seconds, held


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Run both, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("sam2", "edgetam"), default="sam2")
    parser.add_argument("--side", type=int, default=128, help="of the pictures that the network sees")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.frames <= FULL:
        parser.error(f"the memory is full after {FULL} frames: run more")
    if max(options.objects) > 8:
        parser.error("there is room for 8 objects")
    network = build(options.kind, options.side).to(options.device)
    flat = True
    for objects in options.objects:
        seconds, held = watch(options.kind, network, objects, options.frames)
        print(f"\n{options.kind}, {objects} object(s), pictures of {options.side}×{options.side}, {options.device}")
        print(" frame   ours, MiB   theirs, MiB")
        for n in sorted({*range(0, options.frames, max(1, options.frames // 8)), options.frames - 1}):
            print(f"{n:6}  {held['ours'][n] / 2**20:10.2f}  {held['theirs'][n] / 2**20:12.2f}")
        mine, library = (statistics.median(seconds[name][FULL:]) for name in ("ours", "theirs"))
        print(
            f"a frame takes {1e3 * mine:.1f} ms, the library's loop {1e3 * library:.1f} ms: {library / mine:.2f} times"
        )
        flat &= held["ours"][-1] <= 1.1 * held["ours"][FULL]
    sys.exit(not flat)


if __name__ == "__main__":
    main()
