"""Tiny video models of `transformers` with random weights, their own loop over a clip, and clips to loop over."""

import json
import sys
import tempfile
from functools import cache
from pathlib import Path
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
    Sam3VideoConfig,
    Sam3VideoModel,
)
from transformers.models.sam2_video.processing_sam2_video import Sam2VideoProcessor
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from maskstream.pretrained import Pixels, load_tokenizer
from maskstream.systems.hub.sam2 import SamVideo
from maskstream.systems.hub.sam2_network import EdgeTamParts, Sam2Parts
from maskstream.systems.hub.sam3 import Sam3
from maskstream.systems.hub.sam3_network import Sam3Parts
from maskstream.systems.hub.sam3_session import Sam3Settings
from maskstream.types import BoxPrompt, CategorySet, Frame, MaskPrompt, Task
from tests.segmenters.tiny_models import save_clip_tokenizer

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
    with torch.random.fork_rng():
        torch.manual_seed(0)  # codes of places are drawn by chance, too, and are no parameters
        network = NETWORKS[kind](**more)
    return randomised(network.eval().requires_grad_(False))


def randomised(network: Any, seed: int = 0) -> Any:
    """A network with weights that are drawn by chance."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and "scale" not in name:
            weight.normal_(0, 1 / weight[0].numel() ** 0.5, generator=generator)
            weight.mul_(4 if "hypernetworks" in name and "proj_out" in name else 1)
        elif "norm" not in name:
            weight.normal_(0, 0.1, generator=generator)
    if hasattr(getattr(network, "mask_decoder", None), "pred_obj_score_head"):
        network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)  # objects are there
    return network


_LAYERS: dict[str, Any] = {"hidden_size": WIDTH, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_TEXT: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
DETECTOR: dict[str, Any] = {
    "vision_config": VIT,
    "text_config": {
        **_TEXT,
        **{"vocab_size": 32, "max_position_embeddings": 8, "projection_dim": 16, "bos_token_id": 1, "eos_token_id": 31},
    },
    "geometry_encoder_config": _LAYERS,
    "detr_encoder_config": _LAYERS,
    "detr_decoder_config": {**_LAYERS, "num_queries": 6},
    "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 2},
}


def tiny_sam3(seed: int = 0, *, presence: float = 3.0, **rules: Any) -> Any:
    """A whole SAM 3 with random weights, which finds several things and is sure of some.

    Args:
        seed: of its weights.
        presence: how sure the tracker is that what it follows is there; a logit.
        rules: of its configuration; otherwise no holes are filled and doubles stay, which the library can only do with
            a package that is not here.
    """
    tracker = {"vision_config": VIT, **SHARED, **FEED_FORWARD, **OF_VIT}
    usual = {"det_nms_thresh": 0.0, "fill_hole_area": 0, "low_res_mask_size": SIDE // 4}
    config = Sam3VideoConfig(detector_config=DETECTOR, tracker_config=tracker, **usual | rules)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: Any = Sam3VideoModel(config).eval().requires_grad_(False)
    randomised(network.tracker_model)
    randomised(network.tracker_neck)
    randomised(network.detector_model, seed)
    network.detector_model.detr_decoder.presence_head.layer3.bias.fill_(4.0)  # what is looked for is there
    network.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(presence)
    return network


@cache
def words_of_sam3() -> Any:
    """What cuts words into tokens for such a network."""
    with tempfile.TemporaryDirectory() as folder:
        save_clip_tokenizer(folder, pad_token="!")
        return load_tokenizer(Path(folder))


def save_sam3(network, folder):
    """As real ones are saved."""
    save(network, folder)
    save_clip_tokenizer(folder, pad_token="!")


def sam3(network, **options: Any) -> Sam3:
    """Ours, around a network."""
    parts = Sam3Parts(network, words_of_sam3())
    return Sam3(parts, Pixels(exact_hw=(parts.side, parts.side)), settings=Sam3Settings(**options))


def scenes(count, seed, *, every=3):
    """A clip that is cut, so that other things are found every few frames."""
    first, second = clip(count, seed=seed), clip(count, seed=seed + 50)
    frames = []
    for n in range(count):
        image = (first if n // every % 2 == 0 else second)[n].image
        frames.append(Frame(n, n / 25, np.ascontiguousarray(image[:, :: 1 if n // every % 3 else -1])))
    return frames


class LongVideo(Sam3VideoInferenceSession):
    """What `transformers` keeps of a video, which it thinks is long: ages of pointers depend on that."""

    num_frames = 1000


def library_words(session, network, concepts):
    """Tell a session of the library what to look for, as its processor does, which cannot be built."""
    longest = network.detector_model.config.text_config.max_position_embeddings
    for concept in concepts:
        number = session.add_prompt(concept)
        tokens = words_of_sam3()(concept, return_tensors="pt", padding="max_length", max_length=longest)
        session.prompt_input_ids[number] = tokens["input_ids"]
        session.prompt_attention_masks[number] = tokens["attention_mask"]


def library_concepts(network, frames, concepts, *, at_once, kind=LongVideo):
    """The library's loop over a clip, frame by frame or over the whole of it: its session, and all it says."""
    side = network.tracker_model.image_size
    pixels = Pixels(exact_hw=(side, side))
    whole = None if at_once else torch.cat([pixels([frame]) for frame in frames])
    session = kind(video=whole, video_height=SIZE[0], video_width=SIZE[1], dtype=torch.float32)
    library_words(session, network, concepts)
    if at_once:
        return session, [network(session, frame=pixels([frame])) for frame in frames]
    return session, list(network.propagate_in_video_iterator(session, max_frame_num_to_track=len(frames) - 1))


def mended(network):
    """The library without two of its faults, which have tests of their own.

    An object that begins does not change what is remembered of others, and one that is taken away does not leave its
    mask to the next.
    """
    add, plan, build = (
        network._tracker_add_new_objects,
        network.run_tracker_update_planning_phase,
        network.build_outputs,
    )

    def added(inference_session, frame_idx, **options):
        kept = [
            (of_kind, dict(of_kind[frame_idx]))
            for of_object in inference_session.output_dict_per_obj.values()
            for of_kind in of_object.values()
            if frame_idx in of_kind
        ]
        add(inference_session=inference_session, frame_idx=frame_idx, **options)
        for of_kind, output in kept:
            of_kind[frame_idx] = output

    def planned(inference_session, **options):
        inference_session.before = list(inference_session.obj_ids)
        return plan(inference_session=inference_session, **options)

    def built(inference_session, **options):
        inference_session.obj_ids = inference_session.before
        return build(inference_session=inference_session, **options)

    network._tracker_add_new_objects = added
    network.run_tracker_update_planning_phase = planned
    network.build_outputs = built
    return network


def our_concepts(network, frames, concepts, **options):
    """Our session over a clip: it, logits of every object on every frame, and results."""
    session = sam3(network, **options).start(Task.VIS, size_hw=SIZE, categories=CategorySet.from_names(concepts))
    logits, leave = [], session._leave

    def watching(held):
        result = leave(held)
        rows = [n for n, i in enumerate(held.ids) if i in session._objects and i not in held.hidden]
        logits.append({held.ids[n]: held.logits_nhw[n] for n in rows})
        return result

    session._leave = watching  # type: ignore[method-assign]
    results = [result for frame in frames for result in session.step(frame)] + list(session.finish())
    return session, logits, results


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
