"""UniVS: prompts as queries (Li et al., "UniVS: Unified and Universal Video Segmentation with Prompts as Queries",
CVPR 2024, §3; specification §4 to 7).

frames ─► backbone, pixel decoder ─► levels, with codes of place and time ─┬─► PromptMap ─► tokens of masks, boxes
                                                                           ├─► text ─► looks at all levels ─► tokens
learnable queries, of every frame the same ─┐                              │
queries of prompts, one for each frame ─────┴─► for each layer: ProCA ─► masked attention ─► self-attention ─► answers

Everything here is of one clip. Queries are of frames: those of an object on T frames see each other, and every frame
has its own mask. What queries look at is of their frame alone, so features of a frame are the same in every clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstream.mask2former.checkpoints import KINDS, save_core
from maskstream.mask2former.decoder import Level, Stage, attend, decode
from maskstream.mask2former.network import ClipFeatures, pixel_features
from maskstream.mask2former.parts import fill, read_settings, write_part
from maskstream.mask2former.positions import clip_angles, position_codes
from maskstream.pretrained import folder_of_kind, load_pretrained
from maskstream.types import InputError

from .prompts import PromptMap, Tokens
from .text import TextEncoder, load_text, save_text

if TYPE_CHECKING:
    from transformers import Mask2FormerForUniversalSegmentation

PART = "univs"
"""What files are called that hold what is added."""

TEXT = "text"
"""The folder of a text tower, within that of a network."""

TIME_SPAN = 128
"""So many frames are a full turn of the code of time."""

Separation: TypeAlias = Literal["sep", "sep-blocked", "sep-l2p", "none"]
"""Who sees whom (Table 8, a1 to a3). "sep": learnable queries and prompts each see their own kind; "sep-blocked": a
prompt sees only itself, on all frames, as sentences always do; "sep-l2p": prompts see everything; "none": all see all.
Learnable queries never see prompts but in the last.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UniVSConfig:
    """What a UniVS has beside its query core.

    Attributes:
        text_dim: of sentences and names.
        text_to_image: whether texts look at the picture before they are prompts.
        fixed_time: whether time is counted within a clip, and not in frames of the video ("FixedT").
        separation: as it was trained, where prompts are no sentences.
        frames: of the clips that it is meant for.
        proca: whether queries of prompts look at their tokens; without, that they begin with their mean is all.
    """

    text_dim: int = 640
    text_to_image: bool = True
    fixed_time: bool = False
    separation: Separation = "sep"
    frames: int = 5
    proca: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class ClipMaps:
    """What queries of a clip look at.

    Attributes:
        levels: strides 32, 16 and 8; frames are the batch.
        mask_features_tchw: ``float[T, C, H / 4, W / 4]``.
        angles_t: when each frame is.
    """

    levels: tuple[Level, ...] = field(repr=False)
    mask_features_tchw: Tensor = field(repr=False)
    angles_t: Tensor

    def prompt_map(self, frame: int) -> PromptMap:
        """Where visual prompts of a frame are read from, the level of stride 8."""
        level = self.levels[-1]
        _, height, width = level.size_thw
        content_chw, code_chw = (x[frame].T.reshape(-1, height, width) for x in (level.content_bkc, level.code_bkc))
        return PromptMap(content_chw, code_chw, self.angles_t[frame])


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """P prompts of one kind.

    Attributes:
        kind: what they are; masks, boxes and points are "visual".
        content_ptc: ``float[P, T, C]``, the queries they begin with, without the embedding of their kind.
        code_ptc: ``float[P, T, C]``.
        tokens_pslc: ``float[P, S, L, C]``, what they look at; S is 1 if it is the same on all frames, else T.
        token_codes_pslc: of the tokens; None for texts, whose attention knows no places.
        sentences_pd: ``float[P, D]``, of expressions; else None.
    """

    kind: Literal["visual", "category", "expression"]
    content_ptc: Tensor = field(repr=False)
    code_ptc: Tensor = field(repr=False)
    tokens_pslc: Tensor = field(repr=False)
    token_codes_pslc: Tensor | None = field(default=None, repr=False)
    sentences_pd: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """P."""
        return len(self.content_ptc)

    @classmethod
    def visual(cls, of_frames: list[Tokens], remembered: list[Tokens]) -> Prompts:
        """From tokens.

        Args:
            of_frames: on each of the T frames; queries begin with their means.
            remembered: of as many prompts, on any frames; what they look at.
        """
        means = [tokens.means() for tokens in of_frames]
        content_ptc, code_ptc = (torch.stack([pair[k] for pair in means], 1) for k in (0, 1))
        tokens_plc, codes_plc = (
            torch.cat([getattr(tokens, name) for tokens in remembered], 1) for name in ("content_nrc", "code_nrc")
        )
        return cls("visual", content_ptc, code_ptc, tokens_plc[:, None], codes_plc[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What queries of a clip say; learnable ones come first.

    Attributes:
        embeddings_qtc: ``float[Q, T, C]``, who they are: the normalised queries.
        masks_qthw: ``float[Q, T, H / 4, W / 4]``, logits.
    """

    embeddings_qtc: Tensor
    masks_qthw: Tensor

    def __getitem__(self, which: slice | Tensor) -> Answers:
        """Those of some queries."""
        return Answers(self.embeddings_qtc[which], self.masks_qthw[which])


class ProCA(nn.Module):
    """Target-wise prompt cross-attention (§3.2): the query of a prompt looks at its own tokens.

    Args:
        channels: C.
        heads: of attention.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, queries_ptc: Tensor, codes_ptc: Tensor, tokens_pslc: Tensor, token_codes_pslc: Tensor | None
    ) -> Tensor:
        """``float[P, T, C]``; keys are the query itself and the tokens. See `Prompts`."""
        prompts, frames, channels = queries_ptc.shape
        groups = tokens_pslc.shape[1]  # of frames with the same tokens
        together = frames // groups
        queries = queries_ptc.reshape(prompts * groups, together, channels)
        tokens = tokens_pslc.flatten(0, 1)
        values = torch.cat([queries, tokens], 1)
        asked, keys = queries, values
        if token_codes_pslc is not None:
            codes = codes_ptc.reshape(queries.shape)
            asked, keys = queries + codes, values + torch.cat([codes, token_codes_pslc.flatten(0, 1)], 1)
        unseen = torch.zeros((together, values.shape[1]), dtype=torch.bool, device=values.device)
        unseen[:, :together] = ~torch.eye(together, dtype=torch.bool, device=values.device)  # of queries, only its own
        found = attend(self.attention, asked, keys, values, unseen=unseen)
        normed: Tensor = self.norm(queries + found)
        return normed.view(prompts, frames, channels)


class PromptModules(nn.Module):
    """What UniVS adds to a Mask2Former.

    Args:
        channels: C.
        heads: of attention.
        layers: of the decoder.
        config: see there.
    """

    def __init__(self, channels: int, *, heads: int, layers: int, config: UniVSConfig) -> None:
        super().__init__()
        self.proca = nn.ModuleList(ProCA(channels, heads) for _ in range(layers))
        self.to_text = nn.Linear(channels, config.text_dim)
        self.text_norm = nn.LayerNorm(config.text_dim)
        self.from_text = nn.Linear(config.text_dim, channels)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.kinds = nn.ParameterDict(
            {kind: nn.Parameter(0.02 * torch.randn(channels)) for kind in ("visual", "category", "expression")}
        )
        self.look = nn.MultiheadAttention(channels, heads, batch_first=True) if config.text_to_image else None
        self.look_norm = nn.LayerNorm(channels) if config.text_to_image else None


class UniVSNetwork(nn.Module):
    """A query core with what makes queries of prompts.

    Args:
        core: of `transformers`; its parameters are this one's. Its class predictor is not used.
        config: what else there is.
    """

    def __init__(self, core: Mask2FormerForUniversalSegmentation, config: UniVSConfig) -> None:
        super().__init__()
        self.core = core
        self.config = config
        self.prompting = PromptModules(
            core.config.hidden_dim,
            heads=core.config.num_attention_heads,
            layers=len(core.model.transformer_module.decoder.layers),
            config=config,
        )

    @property
    def queries(self) -> int:
        """How many learnable queries there are."""
        return int(self.core.config.num_queries)

    def features(self, pixels_t3hw: Tensor) -> ClipFeatures:
        """Of frames, each alone; may be joined to clips and used again.

        Args:
            pixels_t3hw: ``float[T, 3, H, W]``, from `normalised`.
        """
        return pixel_features(self.core.model.pixel_level_module, pixels_t3hw[None])

    def maps(self, features: ClipFeatures, frames_t: Tensor) -> ClipMaps:
        """What queries look at.

        Args:
            features: of a clip of T frames.
            frames_t: ``int64[T]``, numbers of the frames in the video.
        """
        module = self.core.model.transformer_module
        angles_t = (
            clip_angles(len(frames_t), device=frames_t.device)
            if self.config.fixed_time
            else 2 * math.pi * frames_t.float() / TIME_SPAN
        )
        levels = []
        for level_btchw, project, embedding_c in zip(
            features.levels, module.input_projections, module.level_embed.weight, strict=True
        ):
            content_tchw = project(level_btchw[0]) + embedding_c[:, None, None]
            _, channels, *size_hw = content_tchw.shape
            codes_tchw = position_codes((size_hw[0], size_hw[1]), channels, angles_t=angles_t, device=frames_t.device)
            content_tkc, code_tkc = (x.flatten(2).transpose(1, 2) for x in (content_tchw, codes_tchw.to(content_tchw)))
            levels.append(Level(content_tkc, code_tkc, (1, size_hw[0], size_hw[1])))
        return ClipMaps(tuple(levels), features.mask_features_btchw[0], angles_t)

    def text_prompts(
        self, kind: Literal["category", "expression"], sentences_pd: Tensor, words_pwd: Tensor | None, maps: ClipMaps
    ) -> Prompts:
        """Texts as prompts (specification §5.5): projected, and when they have looked at the picture.

        Args:
            kind: of the texts.
            sentences_pd: ``float[P, D]``.
            words_pwd: ``float[P, W, D]``, of expressions; None: of names, which have none.
            maps: of the clip.
        """
        modules = self.prompting
        texts_pld = sentences_pd[:, None] if words_pwd is None else torch.cat([sentences_pd[:, None], words_pwd], 1)
        tokens_plc = modules.from_text(modules.text_norm(texts_pld))
        prompts, length, channels = tokens_plc.shape
        tokens_txc = tokens_plc.flatten(0, 1).expand(len(maps.angles_t), -1, -1)
        if modules.look is not None and modules.look_norm is not None and prompts:
            places_tkc = torch.cat([level.content_bkc for level in maps.levels], 1)
            tokens_txc = modules.look_norm(tokens_txc + attend(modules.look, tokens_txc, places_tkc, places_tkc))
        tokens_ptlc = tokens_txc.view(-1, prompts, length, channels).transpose(0, 1)
        content_ptc = tokens_ptlc[:, :, 0]
        sentences = sentences_pd if kind == "expression" else None
        return Prompts(kind, content_ptc, content_ptc, tokens_ptlc, sentences_pd=sentences)

    def decode(
        self,
        maps: ClipMaps,
        prompts: Prompts | None = None,
        *,
        separation: Separation | None = None,
        average: bool | None = None,
        order_t: Tensor | None = None,
        every_stage: bool = False,
    ) -> list[Answers]:
        """What queries answer (specification §6).

        Args:
            maps: of the clip.
            prompts: of one kind.
            separation: who sees whom; None: as configured. Expressions never see each other.
            average: whether the mask of each expression is averaged with that of the learnable query that resembles it
                most, at every stage; None: if the network is not being trained.
            order_t: ``int64[T]``; which frame's queries the mask of each frame is made with, as training shuffles them.
            every_stage: before the first layer and after each, as training wants it; otherwise the last answer alone.
        """
        module = self.core.model.transformer_module
        frames = len(maps.angles_t)
        content_tqc, code_tqc = (
            embedding.weight.expand(frames, -1, -1) for embedding in (module.queries_features, module.queries_embedder)
        )
        learnable = content_tqc.shape[1]
        proca = self._proca(prompts, learnable)
        if prompts is not None and len(prompts):
            begun_tpc = (prompts.content_ptc + self.prompting.kinds[prompts.kind]).transpose(0, 1)
            content_tqc = torch.cat([content_tqc, begun_tpc], 1)
            code_tqc = torch.cat([code_tqc, prompts.code_ptc.transpose(0, 1)], 1)
            content_tqc, _ = proca(0, content_tqc, code_tqc)
            # From here on, what says where a prompt is, is what it found.
            code_tqc = torch.cat([code_tqc[:, :learnable], content_tqc[:, learnable:]], 1)
        is_expression = prompts is not None and prompts.kind == "expression"
        unseen = unseen_queries(
            learnable,
            content_tqc.shape[1] - learnable,
            frames,
            "sep-blocked" if is_expression else separation or self.config.separation,
            device=content_tqc.device,
        )
        if average is None:
            average = not self.training
        stages = decode(
            module.decoder,
            content_tqc,
            code_tqc,
            maps.levels,
            maps.mask_features_tchw[:, None],
            embed_masks=self._mask_embeddings(learnable, average=average and is_expression, order_t=order_t),
            before_layer=lambda i, content, code: proca(i, content, code) if i else (content, code),
            unseen=lambda _: unseen,
            frames_together=frames,
            every_stage=every_stage,
        )
        return [_answers(stage) for stage in (stages if every_stage else stages[-1:])]

    def class_logits(self, answers: Answers, names_kd: Tensor) -> Tensor:
        """How much each query is of each class, ``float[Q, K]``; scores are their sigmoids (specification §7).

        Args:
            answers: of queries.
            names_kd: ``float[K, D]``, embeddings of the names of classes.
        """
        said_qtd = F.normalize(self.prompting.to_text(answers.embeddings_qtc), dim=-1)
        cosine_qk = said_qtd.mean(1) @ F.normalize(names_kd, dim=-1).T
        return cosine_qk * self.prompting.log_scale.exp()

    def sentence_logits(self, answers: Answers, sentences_pd: Tensor) -> Tensor:
        """How much each query is what each sentence says, ``float[Q, P]``."""
        logits: Tensor = self.prompting.to_text(answers.embeddings_qtc).mean(1) @ sentences_pd.T
        return logits

    def _proca(self, prompts: Prompts | None, learnable: int) -> Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Layer i of ProCA, for queries and codes of all kinds, ``[T, Q, C]``."""

        def looked(i: int, content_tqc: Tensor, code_tqc: Tensor) -> tuple[Tensor, Tensor]:
            if prompts is None or not len(prompts) or not self.config.proca:
                return content_tqc, code_tqc
            found_ptc = self.prompting.proca[i](
                content_tqc[:, learnable:].transpose(0, 1),
                code_tqc[:, learnable:].transpose(0, 1),
                prompts.tokens_pslc,
                prompts.token_codes_pslc,
            )
            return torch.cat([content_tqc[:, :learnable], found_ptc.transpose(0, 1)], 1), code_tqc

        return looked

    def _mask_embeddings(self, learnable: int, *, average: bool, order_t: Tensor | None) -> Callable[[Tensor], Tensor]:
        """What masks are multiplied from. Masks are linear in it, so averaging it averages them."""
        embed = self.core.model.transformer_module.decoder.mask_predictor.mask_embedder

        def embedded(normed_tqc: Tensor) -> Tensor:
            found_tqc: Tensor = embed(normed_tqc)
            if average:
                unit_tqc = F.normalize(normed_tqc, dim=-1)
                cosine_pq = torch.einsum("tpc,tqc->pq", unit_tqc[:, learnable:], unit_tqc[:, :learnable])
                like_tpc = found_tqc[:, cosine_pq.argmax(1)]
                found_tqc = torch.cat([found_tqc[:, :learnable], (found_tqc[:, learnable:] + like_tpc) / 2], 1)
            return found_tqc if order_t is None else found_tqc[order_t]

        return embedded


def unseen_queries(
    learnable: int, prompts: int, frames: int, separation: Separation, *, device: torch.device | str = "cpu"
) -> Tensor | None:
    """Which queries do not see which in self-attention (specification §6.1).

    Args:
        learnable: how many learnable queries there are.
        prompts: and how many of prompts, after them.
        frames: T; the queries of an object on all frames are side by side.
        separation: see there.
        device: of the result.

    Returns:
        ``bool[Q·T, Q·T]``, True where the row does not see the column; None: all see all.
    """
    if separation == "none" or not prompts:
        return None
    object_x = torch.arange(learnable + prompts, device=device).repeat_interleave(frames)
    is_prompt_x = object_x >= learnable
    unseen_xx = ~is_prompt_x[:, None] & is_prompt_x  # learnable queries see no prompts
    if separation != "sep-l2p":
        unseen_xx = unseen_xx | (is_prompt_x[:, None] & ~is_prompt_x)
    if separation == "sep-blocked":
        unseen_xx = unseen_xx | (is_prompt_x[:, None] & is_prompt_x & (object_x[:, None] != object_x))
    return unseen_xx


def save_univs(network: UniVSNetwork, text: TextEncoder | None, folder: Path, *, short_side: int) -> None:
    """Write a network: the core as `transformers` takes it, and beside it what UniVS adds.

    Args:
        network: to write.
        text: its tower, if it has one.
        folder: is made.
        short_side: of pictures that it is meant for.
    """
    save_core(network.core, folder, short_side=short_side)
    write_part(folder, PART, network.config, network.prompting)
    if text is not None:
        save_text(text, folder / TEXT)


def read_univs(folder: Path) -> tuple[UniVSNetwork, TextEncoder | None]:
    """What `save_univs` wrote, for inference, in float32 on the CPU; None: there is no text tower.

    Raises:
        InputError: there is no such network, or it is damaged or of another kind.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    from maskstream.mask2former import stdc  # noqa: F401  # makes itself known to `transformers`

    folder, _ = folder_of_kind(str(folder), KINDS, usual="one that training wrote")
    config = read_settings(folder, PART, UniVSConfig)
    if config is None:
        raise InputError(f"{folder} is a Mask2Former without prompts: train a UniVS from it, or give a folder of one")
    network = UniVSNetwork(load_pretrained(Mask2FormerForUniversalSegmentation, folder), config)
    fill(network.prompting, folder, PART)
    text = load_text(str(folder / TEXT)) if (folder / TEXT).is_dir() else None
    return network.eval().requires_grad_(False), text


def _answers(stage: Stage) -> Answers:
    assert stage.masks_bqthw is not None
    return Answers(stage.normed_bqc.transpose(0, 1), stage.masks_bqthw[:, :, 0].transpose(0, 1))
