"""What tests of several models share."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from transformers.models.sam2_video import modeling_sam2_video
from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video
from transformers.models.sam3_video import modeling_sam3_video

from maskstream.systems.hub.sam2_network import Sam2Parts


class Unrounded:
    """PyTorch for those who ask it for half precision, and do not get it."""

    bfloat16 = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture
def unrounded(monkeypatch):
    """Memories in full precision, here and in the library: rounding makes large differences of the least ones."""
    monkeypatch.setattr(Sam2Parts, "memory_dtype", torch.float32)
    for family in (modeling_sam2_video, modeling_sam3_tracker_video):
        monkeypatch.setattr(family, "torch", Unrounded())


class Kernels:
    """What the library asks of a package of kernels, in the plainest way."""

    @staticmethod
    def generic_nms(ious, scores, most, use_iou_matrix):
        assert use_iou_matrix
        kept: list[int] = []
        for n in sorted(range(len(scores)), key=lambda n: -scores[n]):
            if all(ious[n, other] <= most for other in kept):
                kept.append(n)
        return torch.tensor(kept, dtype=torch.long)

    @staticmethod
    def cc_2d(masks, get_counts):
        assert get_counts
        labels, areas = torch.zeros(masks.shape, dtype=torch.int32), torch.zeros(masks.shape, dtype=torch.int32)
        for n, mask in enumerate(masks[:, 0].bool().numpy()):
            pieces, count = ndimage.label(mask, np.ones((3, 3)))
            for piece in range(1, count + 1):
                labels[n, 0][torch.from_numpy(pieces == piece)] = piece
                areas[n, 0][torch.from_numpy(pieces == piece)] = int((pieces == piece).sum())
        return labels, areas


@pytest.fixture
def kernels(monkeypatch):
    """The package that the library has no use for where it is not installed."""
    monkeypatch.setattr(modeling_sam3_video, "cv_utils_kernel", Kernels)
