"""SAM 3 on a frame (Carion et al., "SAM 3: Segment Anything with Concepts", 2025).

    words ─► text encoder [1, L, D] ────────┐
    picture [3, S, S] ─► image encoder ─┬───┴─► detector ─► masks of all that the words name, and how sure it is
                                        └─► neck ─► tracker, which has the parts of SAM 2

The modules are those of `transformers`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from maskstream.types import InputError

from .sam2_network import Sam2Parts, Seen
from .sam3_rules import without_doubles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Sam3VideoModel

Picture: TypeAlias = Any
"""What the image encoder says of a frame; what the library's modules return has no type."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A concept as the network reads it.

    Attributes:
        features: of its tokens, as the library has them.
        mask_1l: ``int64[1, L]``, 1 where there is a token.
    """

    features: Any = field(repr=False)
    mask_1l: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a concept names on a frame.

    Attributes:
        logits_dhw: ``float32[D, h, w]``, masks, of the size that the tracker's have.
        scores_d: ``float32[D]``, confidence in [0, 1].
    """

    logits_dhw: Tensor = field(repr=False)
    scores_d: Tensor


class Sam3Parts(Sam2Parts):
    """The parts of SAM 3, those of its tracker among them.

    Args:
        network: for inference.
        tokenizer: cuts text into the tokens that it knows.
    """

    def __init__(self, network: Sam3VideoModel, tokenizer: PreTrainedTokenizerBase) -> None:
        whole: Any = network
        super().__init__(whole.tracker_model)
        self.whole = whole
        self.tokenizer = tokenizer

    def read(self, text: str) -> Words:
        """Run the text encoder.

        Raises:
            InputError: the text is too long.
        """
        detector = self.whole.detector_model
        longest = int(detector.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(text, padding="max_length", max_length=longest, return_tensors="pt").to(self.device)
        if tokens["input_ids"].shape[1] > longest:
            raise InputError(
                f"{text!r} is too long for this model, which reads {longest} tokens: say it in fewer words"
            )
        mask_1l = tokens["attention_mask"]
        return Words(detector.get_text_features(tokens["input_ids"], mask_1l, return_dict=True), mask_1l)

    def look(self, pixels_13hw: Tensor) -> Picture:
        """Run the image encoder.

        Args:
            pixels_13hw: ``float[1, 3, S, S]``, as the network wants it.
        """
        return self.whole.detector_model.get_vision_features(pixels_13hw.to(self.device, self.network.dtype))

    def seen(self, picture: Picture) -> Seen:
        """A picture as the tracker sees it."""
        levels, places = self.whole.get_vision_features_for_tracker(picture)
        fine = tuple(
            level.permute(1, 2, 0).reshape(1, -1, *size_hw)
            for level, size_hw in zip(levels[:-1], self.network.backbone_feature_sizes[:-1], strict=True)
        )
        return Seen(fine, levels[-1], places[-1])

    def detect(self, picture: Picture, words: Words) -> Detections:
        """All that the words name, each of it once."""
        found = self.whole.detector_model(
            vision_embeds=picture, text_embeds=words.features, attention_mask=words.mask_1l
        )
        scores_q = found.pred_logits[0].sigmoid() * found.presence_logits[0].sigmoid()
        keep_q = scores_q > self.whole.score_threshold_detection
        logits_dhw, scores_d = found.pred_masks[0][keep_q].float(), scores_q[keep_q].float()
        if self.whole.det_nms_thresh > 0:
            keep_d = without_doubles(logits_dhw > 0, scores_d, self.whole.det_nms_thresh)
            logits_dhw, scores_d = logits_dhw[keep_d], scores_d[keep_d]
        return Detections(logits_dhw, scores_d)

    def large(self, logits_nhw: Tensor) -> Tensor:
        """As they are: masks that go with concepts are enlarged once, to the size at which they are remembered."""
        return logits_nhw[:, None].float()
