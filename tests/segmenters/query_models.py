"""Tiny networks of queries with random weights, in folders, and what `transformers` makes of their answers."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import SwinConfig
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from maskstream.types import Frame

LABELS = {0: "person", 1: "car", 2: "sky", 3: "grass", 4: "dog"}


def swin():
    sizes: dict[str, Any] = {
        "image_size": 64,
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "window_size": 4,
        "drop_path_rate": 0.0,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    return SwinConfig(**sizes)


def save(build, folder, processor, *, class_head=lambda network: network.class_predictor):
    """A network that ``build`` makes, with a class head that makes it sure of something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build().eval()
        with torch.no_grad():
            for weight in network.parameters():
                if weight.ndim > 1:
                    weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
            class_head(network).weight *= 1.5
            class_head(network).bias[-1] = -20  # never "nothing"
    network.save_pretrained(folder)
    # Binary fractions: pixels come out the same to the last bit, whoever computes them.
    normalised = {"rescale_factor": 2**-8, "image_mean": [0.5, 0.25, 0.375], "image_std": [0.25, 0.5, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(normalised | processor), encoding="utf-8")
    return network


def frame(height, width, *, seed=0, index=0):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return Frame(index, 0.0, np.ascontiguousarray(blocks[:height, :width]))


def limit(task, classes_qc):
    """A score for comparisons: four queries exceed it, so that little is lost to others, or no query twice."""
    if task != "panoptic":
        return 0.5 if task == "instance" else 0.0
    return float(classes_qc.softmax(-1).amax(-1).sort(descending=True).values[4])


def at_source(masks_qhw, window_hw, content_hw, size_hw):
    """Mask logits at the size of the source, step by step."""
    shown = F.interpolate(masks_qhw[None], window_hw, mode="bilinear", align_corners=False)
    cut = shown[:, :, : content_hw[0], : content_hw[1]]
    return F.interpolate(cut, size_hw, mode="bilinear", align_corners=False)[0]


def theirs(task, classes_qc, masks_qhw, *, threshold=0.0, stuff=()):
    """What `transformers` makes of mask logits at the size of a source that is not upright: (label, mask, score).

    EoMT's code is asked: that of the other families compares score times mask, not the mask, with the half, and brings
    all masks to 384 × 384 on the way.
    """
    height, width = masks_qhw.shape[1:]
    assert height <= width
    processor = EomtImageProcessorPil()
    outputs = SimpleNamespace(
        class_queries_logits=classes_qc[None], masks_queries_logits=masks_qhw[None], patch_offsets=None
    )
    sizes: dict[str, Any] = {
        "target_sizes": [(height, width)],
        "size": {"shortest_edge": height, "longest_edge": width},
    }
    if task == "semantic":
        labels_hw = processor.post_process_semantic_segmentation(outputs, **sizes)[0]
        return [(int(label), labels_hw == label, None) for label in labels_hw.unique()]
    if task == "panoptic":
        found = processor.post_process_panoptic_segmentation(
            outputs, threshold=threshold, stuff_classes=list(stuff), **sizes
        )[0]
        ids_hw = found["segmentation"]
        return [(s["label_id"], ids_hw == s["id"], s["score"]) for s in found["segments_info"]]
    # Their map of ids lets later instances hide earlier ones: one query at a time shows each whole.
    result = []
    for query in range(len(classes_qc)):
        outputs.class_queries_logits = classes_qc[None, query : query + 1]
        outputs.masks_queries_logits = masks_qhw[None, query : query + 1]
        found = processor.post_process_instance_segmentation(outputs, threshold=threshold, **sizes)[0]
        result += [(s["label_id"], found["segmentation"] == s["id"], s["score"]) for s in found["segments_info"]]
    return result


def same(proposals, expected, *, scores=True):
    """Whether proposals are those, in any order."""
    ours = sorted(
        (label, mask.numpy().tobytes(), score)
        for label, mask, score in zip(proposals.categories, proposals.masks_nhw, proposals.scores, strict=True)
    )
    wanted = sorted((label, mask.numpy().tobytes(), score) for label, mask, score in expected)
    assert [(label, mask) for label, mask, _ in ours] == [(label, mask) for label, mask, _ in wanted]
    if scores:
        np.testing.assert_allclose([s for *_, s in ours], [s for *_, s in wanted], atol=2e-5)
