"""SAM 2 on a frame, for N objects at once (Ravi et al., "SAM 2: Segment Anything in Images and Videos", ICLR 2025).

    picture [3, S, S] ─► image encoder ─► fine levels ────────────────────────────────┐
                                       └► coarse level [C, h, w] ─► memory attention ─► mask decoder ─► M masks each
                                                                         ▲                  ▲           and quality,
                     memories of N objects [N, L, C'] ───────────────────┘                  │           pointers and
                     clicks, boxes, the mask so far ───────────────────────► prompt encoder ┘           presence
    mask [N, S, S] ─► memory encoder, with the coarse level ─► memory [N, T, C'] ─► (EdgeTAM: 2D Perceiver)

The modules are those of `transformers`; its loop goes through them with one object at a time. SAM 3's tracker has the
same modules. EdgeTAM (Zhou et al., "EdgeTAM: On-Device Track Anything Model", CVPR 2025) has memories of few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from maskstream.types import InputError

from .memory import Reading

if TYPE_CHECKING:
    from transformers import EdgeTamVideoModel, Sam2VideoModel, Sam3TrackerVideoModel

    Modules: TypeAlias = Sam2VideoModel | EdgeTamVideoModel | Sam3TrackerVideoModel

ABSENT = -1024.0
"""Logit of every pixel where the object is not there."""

_SURE = 10.0
"""Logit of a pixel of a mask that is given."""

_NO_CLICK = -1
"""Label of a click that is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a frame looks like; the same for all objects.

    Attributes:
        fine: ``float[1, c, h', w']`` each, the finest first, for the mask decoder.
        coarse_p1c: ``float[P, 1, C]``, the coarse level, row by row.
        places_p1c: ``float[P, 1, C]``, where its places are.
    """

    fine: tuple[Tensor, ...] = field(repr=False)
    coarse_p1c: Tensor = field(repr=False)
    places_p1c: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """Clicks on N objects, as many on each.

    Attributes:
        points_np2: ``float32[N, P, 2]``, x and y in the square that the network sees.
        labels_np: ``int64[N, P]``, 1 on the object, 0 off it, 2 and 3 the corners of a box.
    """

    points_np2: Tensor
    labels_np: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """M answers on each of N objects.

    Attributes:
        logits_nmhw: ``float32[N, M, h, w]``, masks.
        quality_nm: ``float32[N, M]``, their predicted intersection over union.
        pointers_nmd: ``float[N, M, D]``, object pointers.
        presence_n: ``float32[N]``, logit of whether the object is there.
    """

    logits_nmhw: Tensor = field(repr=False)
    quality_nm: Tensor = field(repr=False)
    pointers_nmd: Tensor = field(repr=False)
    presence_n: Tensor = field(repr=False)


class Sam2Parts:
    """The parts of SAM 2, or of SAM 3's tracker.

    Args:
        network: for inference.
    """

    network: Any

    def __init__(self, network: Modules) -> None:
        self.network = network  # what the library's modules return has no type
        self.config: Any = network.config
        self.side: int = self.network.image_size
        self.grid_hw: tuple[int, int] = tuple(self.network.backbone_feature_sizes[-1])
        self.mask_hw: tuple[int, int] = tuple(self.network.prompt_encoder.mask_input_size)
        self.slots = int(self.network.num_maskmem) - 1
        self.hidden_dim = int(self.network.hidden_dim)
        self.memory_dim = int(self.network.mem_dim)
        self.pointers = int(self.config.max_object_pointers_in_encoder)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self.network.device
        return device

    @property
    def memory_tokens(self) -> int:
        """Tokens of the memory of a frame (T)."""
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def memory_dtype(self) -> torch.dtype:
        """Memories are kept in half precision, as published."""
        return torch.bfloat16

    @property
    def memory_bytes(self) -> int:
        """Of the spatial memory of a frame."""
        return self.memory_tokens * self.memory_dim * self.memory_dtype.itemsize

    @property
    def pointer_bytes(self) -> int:
        """Of an object pointer."""
        dtype: torch.dtype = self.network.dtype
        return self.hidden_dim * dtype.itemsize

    def working_bytes(self, memories: int) -> int:
        """About what one object takes on its way through the network: keys, the widest layer, and the large mask."""
        of_memories = memories * self.memory_tokens * (2 * self.memory_dim + 3 * self.hidden_dim)
        return 4 * (of_memories + self.grid_hw[0] * self.grid_hw[1] * 24 * self.hidden_dim + 3 * self.side**2)

    def see(self, pixels_13hw: Tensor) -> Seen:
        """Run the image encoder.

        Args:
            pixels_13hw: ``float[1, 3, S, S]``, as the network wants it.
        """
        found = self.network.get_image_features(pixels_13hw.to(self.device, self.network.dtype), return_dict=True)
        sizes = self.network.backbone_feature_sizes
        fine = tuple(
            level.permute(1, 2, 0).reshape(1, -1, *size_hw)
            for level, size_hw in zip(found.fpn_hidden_states[:-1], sizes[:-1], strict=True)
        )
        return Seen(fine, found.fpn_hidden_states[-1], found.fpn_position_encoding[-1])

    def plain(self, seen: Seen) -> Tensor:
        """The coarse level as it is, ``float[1, C, h, w]``."""
        return self._map(seen.coarse_p1c.permute(1, 2, 0))

    def without_memory(self, seen: Seen) -> Tensor:
        """The coarse level for objects that begin, ``float[1, C, h, w]``."""
        return self._map((seen.coarse_p1c + self.network.no_memory_embedding).permute(1, 2, 0))

    def with_memory(self, seen: Seen, readings: Sequence[Reading]) -> Tensor:
        """The coarse level as N objects see it that are remembered (SAM 2, §4, "Memory attention").

        Args:
            seen: of the frame.
            readings: of one shape.

        Returns:
            ``float[N, C, h, w]``.
        """
        # The library puts an axis of length 1 first, whatever its place was.
        return self._map(self._attended(seen, readings).reshape(len(readings), -1, seen.coarse_p1c.shape[2]).mT)

    def decode(
        self,
        seen: Seen,
        coarse_nchw: Tensor,
        clicks: Clicks | None = None,
        dense_n1hw: Tensor | None = None,
        *,
        begins: bool = False,
    ) -> Answers:
        """Masks of N objects (SAM 2, §4, "Prompt encoder and mask decoder").

        Args:
            seen: of the frame.
            coarse_nchw: ``float[N, C, h, w]``, its coarse level as each object sees it; or ``[1, C, h, w]``, if clicks
                say how many objects there are.
            clicks: on the objects.
            dense_n1hw: ``float[N, 1, h, w]``, logits of their masks so far.
            begins: whether nothing is remembered of them.
        """
        count = len(coarse_nchw) if clicks is None else len(clicks.points_np2)
        given = 0 if clicks is None else clicks.labels_np.shape[1]
        several = (
            self.config.multimask_output_in_sam
            and (begins or self.config.multimask_output_for_tracking)
            and self.config.multimask_min_pt_num <= given <= self.config.multimask_max_pt_num
        )
        return self._decode(seen, coarse_nchw.expand(count, -1, -1, -1), clicks, dense_n1hw, several=several)

    def take(self, seen: Seen, masks_n1hw: Tensor) -> Answers:
        """Masks that were given, as answers; the decoder only says what pointers they have.

        Args:
            seen: of the frame.
            masks_n1hw: ``float[N, 1, S, S]`` of zeros and ones, in the square that the network sees.
        """
        coarse_nchw = self.plain(seen).expand(len(masks_n1hw), -1, -1, -1)
        dense_n1hw = self.network.mask_downsample(masks_n1hw.to(self.network.dtype))
        found = self._decode(seen, coarse_nchw, None, dense_n1hw, several=True)
        best_n = found.quality_nm.argmax(1)
        pointers_nd = found.pointers_nmd[torch.arange(len(best_n), device=best_n.device), best_n]
        there_n = masks_n1hw.flatten(1).any(1)
        pointers_nd = torch.where(there_n[:, None], pointers_nd, self.network.no_object_pointer)
        logits_nmhw = self.small(self.sure(masks_n1hw))
        presence_n = torch.where(there_n, _SURE, -_SURE).float()
        return Answers(logits_nmhw, torch.ones_like(presence_n)[:, None], pointers_nd[:, None], presence_n)

    def sure(self, masks_n1hw: Tensor) -> Tensor:
        """Logits of masks that were given."""
        return (2 * masks_n1hw.float() - 1) * _SURE

    def small(self, logits_n1hw: Tensor) -> Tensor:
        """Masks as the decoder gives them, of masks in the square that the network sees: ``float32[N, 1, h, w]``."""
        return F.interpolate(logits_n1hw.float(), self.mask_hw, mode="bilinear", align_corners=False, antialias=True)

    def large(self, logits_nhw: Tensor) -> Tensor:
        """Masks in the square that the network sees, ``float32[N, 1, S, S]``."""
        return F.interpolate(logits_nhw[:, None].float(), (self.side, self.side), mode="bilinear", align_corners=False)

    def remember(self, seen: Seen, logits_n1hw: Tensor, presence_n: Tensor, hard_n: Tensor) -> Tensor:
        """Memories of N masks (SAM 2, §4, "Memory encoder").

        Args:
            seen: of the frame.
            logits_n1hw: ``float32[N, 1, S, S]``.
            presence_n: ``float32[N]``, logit of whether the object is there.
            hard_n: ``bool[N]``, whether a person pointed at the object on this frame; such a mask is taken at its word.

        Returns:
            ``[N, T, C']``.
        """
        height, width = self.mask_hw
        if logits_n1hw.shape[2:] != (4 * height, 4 * width):
            logits_n1hw = F.interpolate(
                logits_n1hw, (4 * height, 4 * width), mode="bilinear", align_corners=False, antialias=True
            )
        masks_n1hw = torch.where(hard_n[:, None, None, None], (logits_n1hw > 0).float(), logits_n1hw.sigmoid())
        masks_n1hw = masks_n1hw * self.config.sigmoid_scale_for_mem_enc + self.config.sigmoid_bias_for_mem_enc
        features_nchw, _ = self.network.memory_encoder(self.plain(seen), masks_n1hw.to(self.network.dtype))
        absent_c = self.network.occlusion_spatial_embedding_parameter
        if absent_c is not None:
            absent_n = (presence_n <= 0).to(features_nchw.dtype)
            features_nchw = features_nchw + absent_n[:, None, None, None] * absent_c[..., None, None]
        return self._tokens(features_nchw).to(self.memory_dtype)

    # Where the networks differ.

    def _tokens(self, features_nchw: Tensor) -> Tensor:
        """Tokens of memories, ``[N, T, C']``."""
        return features_nchw.flatten(2).mT

    def _codes(self) -> Tensor:
        """Where the tokens of a memory are, ``float[T, C']``."""
        return self._sine(self.network.memory_encoder.position_encoding, self.grid_hw)

    def _attended(self, seen: Seen, readings: Sequence[Reading]) -> Tensor:
        """What memory attention says, ``float[1, N, P, C]``."""
        spatial_ntc, where_ntc = self._spatial(readings)
        pointers_nkc, when_nkc = self._pointers(readings)
        attended_1npc: Tensor = self.network.memory_attention(
            current_vision_features=seen.coarse_p1c.expand(-1, len(readings), -1),
            current_vision_position_embeddings=seen.places_p1c,
            memory=torch.cat([spatial_ntc, pointers_nkc], 1).transpose(0, 1),
            memory_posision_embeddings=torch.cat([where_ntc, when_nkc], 1).transpose(0, 1),
            num_object_pointer_tokens=pointers_nkc.shape[1],
        )
        return attended_1npc

    # Parts.

    @cached_property
    def _codes_tc(self) -> Tensor:
        return self._codes()

    @cached_property
    def _image_codes_1chw(self) -> Tensor:
        codes: Tensor = self.network.get_image_wide_positional_embeddings()
        return codes

    def _map(self, coarse_ncp: Tensor) -> Tensor:
        """Places, row by row, as a map ``[N, C, h, w]``."""
        return coarse_ncp.reshape(*coarse_ncp.shape[:2], *self.grid_hw)

    def _sine(self, encoding: torch.nn.Module, grid_hw: tuple[int, int]) -> Tensor:
        shape = torch.Size((1, self.memory_dim, *grid_hw))
        codes_1chw: Tensor = encoding(shape, self.device, self.network.dtype)
        return codes_1chw[0].flatten(1).mT

    def _spatial(self, readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
        """Spatial memories one behind the other, ``float[N, S * T, C']``, and where and when their tokens are."""
        rows = [[memory.features_tc for _, memory in reading.spatial] for reading in readings]
        features_ntc = torch.stack([torch.cat([f for f in row if f is not None]) for row in rows])
        # The last of the embeddings is that of memories without a place in time.
        slots_ns = torch.tensor([[slot for slot, _ in reading.spatial] for reading in readings], device=self.device)
        times_nsc = self.network.memory_temporal_positional_encoding[:, 0, 0][slots_ns - 1]
        codes_nstc = self._codes_tc + times_nsc[:, :, None]
        return features_ntc.to(self.network.dtype), codes_nstc.flatten(1, 2)

    def _pointers(self, readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
        """Object pointers, cut into tokens as wide as memories are, ``float[N, K, C']``, and how old they are."""
        width = self.memory_dim
        pointers_nad = torch.stack([torch.stack([m.pointer_d for _, m in reading.pointers]) for reading in readings])
        cuts = max(pointers_nad.shape[2] // width, 1)
        if self.config.enable_temporal_pos_encoding_for_object_pointers:
            ages_na = torch.tensor([[age for age, _ in reading.pointers] for reading in readings], device=self.device)
            # Imported here: the command line must not wait for the library.
            from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

            waves_nad: Tensor = get_1d_sine_pe(  # type: ignore[no-untyped-call]
                ages_na / (self.pointers - 1), dim=pointers_nad.shape[2]
            )
            codes_nac = self.network.temporal_positional_encoding_projection_layer(waves_nad.to(pointers_nad.dtype))
        else:
            codes_nac = pointers_nad.new_zeros((*pointers_nad.shape[:2], width))
        return pointers_nad.reshape(len(readings), -1, width), codes_nac.repeat_interleave(cuts, 1)

    def _decode(
        self, seen: Seen, coarse_nchw: Tensor, clicks: Clicks | None, dense_n1hw: Tensor | None, *, several: bool
    ) -> Answers:
        network, count = self.network, len(coarse_nchw)
        if clicks is None:
            points_n1p2 = coarse_nchw.new_zeros((count, 1, 1, 2))
            labels_n1p = torch.full((count, 1, 1), _NO_CLICK, device=self.device)
        else:
            points_n1p2 = clicks.points_np2[:, None].to(self.device, network.dtype)
            labels_n1p = clicks.labels_np[:, None].to(self.device)
        if dense_n1hw is not None and dense_n1hw.shape[2:] != self.mask_hw:
            dense_n1hw = self.small(dense_n1hw)
        sparse, dense = network.prompt_encoder(
            input_points=points_n1p2,
            input_labels=labels_n1p,
            input_boxes=None,
            input_masks=None if dense_n1hw is None else dense_n1hw.to(network.dtype),
        )
        # What is the same for all objects has one row, and is added to all.
        logits_n1mhw, quality_n1m, tokens_n1mc, presence_n11 = network.mask_decoder(
            image_embeddings=coarse_nchw,
            image_positional_embeddings=self._image_codes_1chw,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=list(seen.fine),
        )
        there_n1 = presence_n11[:, 0] > 0
        # One answer after the other, so that they are rounded as where there is only one.
        pointers_nmd = torch.stack(
            [network.object_pointer_proj(tokens_nc) for tokens_nc in tokens_n1mc[:, 0].unbind(1)], 1
        )
        return Answers(
            torch.where(there_n1[..., None, None], logits_n1mhw[:, 0], ABSENT).float(),
            quality_n1m[:, 0].float(),
            torch.where(there_n1[..., None], pointers_nmd, network.no_object_pointer),
            presence_n11[:, 0, 0].float(),
        )


class EdgeTamParts(Sam2Parts):
    """The parts of EdgeTAM: a 2D Perceiver makes few tokens of a memory (EdgeTAM, §3.3).

    Some tokens look at the whole picture and have no place, others look at a window each. They are kept as they are.
    """

    def __init__(self, network: EdgeTamVideoModel) -> None:
        super().__init__(network)
        heads = int(self.config.memory_attention_num_attention_heads)
        if heads != 1:
            raise InputError(f"this EdgeTAM reads its memories with {heads} heads, and all that are known with one")

    @property
    def memory_tokens(self) -> int:
        """Tokens of the whole picture, and of windows."""
        return int(self.config.perceiver_resampler_num_latents + self.config.perceiver_resampler_num_latents_2d)

    @property
    def memory_dtype(self) -> torch.dtype:
        """There are few, and the library does not round them."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def _windows(self) -> int:
        """Windows down, and across."""
        return int(self.config.perceiver_resampler_num_latents_2d**0.5)

    def working_bytes(self, memories: int) -> int:
        """See `Sam2Parts`: tokens, keys of those that have a place, and weights."""
        tokens, places = memories * self.memory_tokens, self.grid_hw[0] * self.grid_hw[1]
        keys = memories * self._windows**2 * 2 * self.hidden_dim
        return super().working_bytes(0) + 4 * (3 * tokens * self.memory_dim + keys + 2 * places * tokens)

    def _tokens(self, features_nchw: Tensor) -> Tensor:
        resampler = self.network.spatial_perceiver
        tokens: list[Tensor] = []
        if resampler.num_latents_1d:
            codes_nchw = self.network.memory_encoder.position_encoding(
                features_nchw.shape, features_nchw.device, features_nchw.dtype
            )
            tokens.append(resampler._forward_1d(features_nchw, codes_nchw)[0])
        if resampler.num_latents_2d:
            tokens.append(self._of_windows(features_nchw))
        return torch.cat(tokens, 1)

    def _of_windows(self, features_nchw: Tensor) -> Tensor:
        """One token a window, ``float[N, W * W, C']``; the library can do this for one object only."""
        resampler = self.network.spatial_perceiver
        n, c, h, w = features_nchw.shape
        side = self._windows
        windows = features_nchw.view(n, c, side, h // side, side, w // side).permute(0, 2, 4, 3, 5, 1)
        windows = windows.reshape(n * side * side, -1, c)
        tokens = resampler.latents_2d.repeat(n, 1)[:, None]
        for layer in resampler.layers:
            tokens = layer(tokens, windows, positional_encoding=None)
        normed_ntc: Tensor = resampler.layer_norm(tokens.view(n, side * side, c))
        return normed_ntc

    def _codes(self) -> Tensor:
        whole = int(self.config.perceiver_resampler_num_latents)
        nowhere = torch.zeros(whole, self.memory_dim, device=self.device, dtype=self.network.dtype)
        encoding = self.network.spatial_perceiver.positional_encoding
        return torch.cat([nowhere, self._sine(encoding, (self._windows, self._windows))])

    def _attended(self, seen: Seen, readings: Sequence[Reading]) -> Tensor:
        """Memory attention, which says the same as in the library, with less work.

        Only tokens that have a place are turned by it, so only they need keys. Of the others, queries are brought to
        the memories: ``q·(Wm + b) = (qW)·m + q·b``. Values are projected once they are summed, as weights sum to 1.
        """
        network, count, steps = self.network.memory_attention, len(readings), len(readings[0].spatial)
        whole = int(self.config.perceiver_resampler_num_latents)
        spatial_ntc, where_ntc = self._spatial(readings)
        pointers_nkc, when_nkc = self._pointers(readings)
        memory_nstc = spatial_ntc.view(count, steps, self.memory_tokens, -1)
        coded_nstc = memory_nstc + where_ntc.view_as(memory_nstc)
        placed_nswc = coded_nstc[:, :, whole:]
        others_noc = torch.cat([coded_nstc[:, :, :whole].flatten(1, 2), pointers_nkc + when_nkc], 1)
        values_nlc = torch.cat(
            [memory_nstc[:, :, whole:].flatten(1, 2), memory_nstc[:, :, :whole].flatten(1, 2), pointers_nkc], 1
        )
        states_npd = (seen.coarse_p1c + 0.1 * seen.places_p1c).transpose(0, 1).expand(count, -1, -1)
        turns = [turn.flatten(0, -3) for turn in network.rotary_emb(states_npd, network.position_ids)]
        turns_of_keys = [turn.flatten(0, -3) for turn in network.rotary_emb(states_npd, network.position_ids_k)]
        for layer in network.layers:
            normed_n1pd = layer.layer_norm1(states_npd)[:, None]
            own_n1pd, _ = layer.self_attn(normed_n1pd, normed_n1pd, normed_n1pd, position_embeddings=turns)
            states_npd = states_npd + own_n1pd[:, 0]
            cross = layer.cross_attn_image
            queries_npd = _turned(cross.q_proj(layer.layer_norm2(states_npd)), turns) * cross.scaling
            keys_nld = _turned(cross.k_proj(placed_nswc), turns_of_keys).flatten(1, 2)
            of_others_npo = (queries_npd @ cross.k_proj.weight) @ others_noc.mT
            of_others_npo = of_others_npo + (queries_npd @ cross.k_proj.bias)[..., None]
            weights_npl = torch.cat([queries_npd @ keys_nld.mT, of_others_npo], 2).softmax(2)
            states_npd = states_npd + cross.o_proj(cross.v_proj(weights_npl @ values_nlc))
            states_npd = states_npd + layer.mlp(layer.layer_norm3(states_npd))
        attended_npd: Tensor = network.layer_norm(states_npd)
        return attended_npd


def _turned(states: Tensor, turns: Sequence[Tensor]) -> Tensor:
    """Rotary position encoding: every two neighbours of a vector as a complex number, turned by an angle.

    Args:
        states: ``float[..., L, D]``.
        turns: cosines and sines, ``float[L, D]``.
    """
    cosines, sines = turns
    first, second = states[..., ::2], states[..., 1::2]
    return states * cosines + torch.stack([-second, first], -1).flatten(-2) * sines
