"""Tiny video models of `transformers` with random weights, their own loop over a clip, and clips to loop over."""

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoModel,
)
from transformers.models.sam2_video.processing_sam2_video import Sam2VideoProcessor

from maskstream.pretrained import Pixels
from maskstream.systems.hub.sam2 import SamVideo
from maskstream.systems.hub.sam2_network import EdgeTamParts, Sam2Parts
from maskstream.types import BoxPrompt, Frame, MaskPrompt, Task

SIZE = (48, 80)
SIDE, PATCH, WIDTH = 64, 16, 128
VIT_SIDE, VIT_PATCH = 56, 14
"""Of SAM 3, whose masks are remembered at a larger size than that of its pictures."""

PROCESSOR: Any = Sam2VideoProcessor

HIERA: dict[str, Any] = {
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "window_positional_embedding_background_size": [4, 4],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": WIDTH,
}
VIT: dict[str, Any] = {
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": VIT_SIDE,
        "pretrain_image_size": VIT_SIDE,
        "patch_size": VIT_PATCH,
        "window_size": 2,
        "global_attn_indexes": [1],
    },
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": WIDTH,
}
SHARED: dict[str, Any] = {
    "prompt_encoder_config": {
        "hidden_size": WIDTH,
        "image_size": SIDE,
        "patch_size": PATCH,
        "mask_input_channels": 4,
    },
    "mask_decoder_config": {
        "hidden_size": WIDTH,
        "mlp_dim": 16,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    },
    "image_size": SIDE,
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 2,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": WIDTH,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 16,
    "memory_fuser_num_layers": 1,
}
FEED_FORWARD: dict[str, Any] = {"memory_attention_feed_forward_hidden_size": 16}
OF_VIT: dict[str, Any] = {
    "image_size": VIT_SIDE,
    "prompt_encoder_config": SHARED["prompt_encoder_config"] | {"image_size": VIT_SIDE, "patch_size": VIT_PATCH},
}
PERCEIVER: dict[str, Any] = {
    "memory_attention_mlp_hidden_size": 16,
    "memory_attention_rope_k_sizes": [2, 2],
    "perceiver_resampler_num_latents": 3,
    "perceiver_resampler_num_latents_2d": 4,
    "perceiver_resampler_mlp_intermediate_size": 16,
    "perceiver_resampler_num_layers": 1,
}
NETWORKS: dict[str, Any] = {
    "sam2_video": lambda **more: Sam2VideoModel(Sam2VideoConfig(vision_config=HIERA, **SHARED | FEED_FORWARD | more)),
    "edgetam_video": lambda **more: EdgeTamVideoModel(
        EdgeTamVideoConfig(vision_config={"model_type": "sam2_vision_model"} | HIERA, **SHARED | PERCEIVER | more)
    ),
    "sam3_tracker_video": lambda **more: Sam3TrackerVideoModel(
        Sam3TrackerVideoConfig(vision_config=VIT, **SHARED | FEED_FORWARD | OF_VIT | more)
    ),
}


def tiny(kind: str, **more: Any) -> Any:
    """A network with random weights, large enough that memories and prompts change what it says."""
    network = NETWORKS[kind](**more).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and "scale" not in name:
            weight.normal_(0, 1 / weight[0].numel() ** 0.5, generator=generator)
            weight.mul_(4 if "hypernetworks" in name and "proj_out" in name else 1)
        elif "norm" not in name:
            weight.normal_(0, 0.1, generator=generator)
    network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)  # objects are there
    return network


def pixels_of(network):
    """How it wants to see pictures."""
    return Pixels(exact_hw=(network.image_size, network.image_size))


def system(network, **options):
    """Ours, around a network."""
    parts = EdgeTamParts if network.config.model_type == "edgetam_video" else Sam2Parts
    return SamVideo(parts(network), pixels_of(network), **options)


def save(network, folder):
    """As real ones are saved."""
    network.save_pretrained(folder)
    said = {"size": {"height": SIDE, "width": SIDE}, "image_mean": Pixels().mean, "image_std": Pixels().std}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


def clip(count, size_hw=SIZE, seed=1):
    """Coloured blocks, and a bright one that moves over them."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    ground = rng.integers(0, 128, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = []
    for n in range(count):
        image = ground.copy()
        left = (8 + 3 * n) % (width - 24)
        image[12:32, left : left + 20] = (220, 60, 40)
        frames.append(Frame(n, n / 25, image))
    return frames


def block(left, top=12, height=20, width=20, size_hw=SIZE):
    """A mask that is a rectangle."""
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def library_session(network, size_hw=SIZE):
    """What `transformers` keeps of a video that comes frame by frame."""
    kept = sys.modules[type(network).__module__]
    session = getattr(kept, type(network).__name__.replace("Model", "InferenceSession"))
    return session(video_height=size_hw[0], video_width=size_hw[1], dtype=torch.float32)


def tell(session, network, prompts, size_hw=SIZE):
    """Give prompts to a session of the library as its processor does, which cannot be built without torchvision."""
    side = network.image_size
    for prompt in prompts:
        number = session.obj_id_to_idx(prompt.object_id)
        if isinstance(prompt, MaskPrompt):
            PROCESSOR.process_new_mask_for_video_frame(
                SimpleNamespace(target_size=side), session, prompt.frame_index, [prompt.object_id], [prompt.mask]
            )
            continue
        if isinstance(prompt, BoxPrompt):
            points, labels = [prompt.box_xyxy[:2], prompt.box_xyxy[2:]], [2, 3]
        else:
            points, labels = list(prompt.points_xy), [int(sign) for sign in prompt.positive]
        seen = PROCESSOR._normalize_coordinates(SimpleNamespace(), side, torch.tensor(points), size_hw)
        inputs = {"point_coords": seen[None, None], "point_labels": torch.tensor(labels).int()[None, None]}
        session.add_point_inputs(number, prompt.frame_index, inputs)
    session.obj_with_new_inputs = [prompt.object_id for prompt in prompts]


def library(network, frames, prompts, size_hw=SIZE):
    """The library's loop over a clip: logits of every object on every frame."""
    session = library_session(network, size_hw)
    pixels = pixels_of(network)
    logits = []
    for frame in frames:
        tell(session, network, [prompt for prompt in prompts if prompt.frame_index == frame.index], size_hw)
        found = network(session, frame=pixels([frame]))
        logits.append(dict(zip(found.object_ids, found.pred_masks[:, 0], strict=True)))
    return logits


def watched(session):
    """The same session, and a list that the logits of every object on every frame go to."""
    logits, result = [], session._result

    def watching(frame_index, best, exact):
        logits.append(dict(best))
        return result(frame_index, best, exact)

    session._result = watching
    return session, logits


def ours(network, frames, prompts, size_hw=SIZE, **options):
    """Our session over a clip: logits of every object on every frame, and results."""
    session, logits = watched(system(network, **options).start(Task.VOS, size_hw=size_hw))
    session.prompt(prompts)
    results = [result for frame in frames for result in session.step(frame)]
    return logits, results


def furthest(first, second):
    """Greatest difference of logits of one object on one frame."""
    assert [list(of_frame) for of_frame in first] == [list(of_frame) for of_frame in second]
    return max(float((one[n] - other[n]).abs().max()) for one, other in zip(first, second, strict=True) for n in one)
