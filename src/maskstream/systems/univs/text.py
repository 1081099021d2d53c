"""Texts as UniVS knows them: CLIP's text tower (specification §3.4 and 5.5).

name, expression ─► words alone ─► in every template ─► tokens, 0 where there are no more ─► CLIP ─┬─► sentence
                                                                                                  └─► words

A sentence is what the tower says where the text ends, in the mean over all templates; words are what it says at every
token of the first template, those after its end included, which prompts look at like all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskstream.files import write_text_atomic
from maskstream.pretrained import folder_of_kind, load_pretrained, load_tokenizer
from maskstream.types import InputError
from maskstream.weight_files import check_fits, read_state, read_torch, some

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerBase

KINDS = ("clip", "clip_text_model")
"""What ``model_type`` is called in folders of `transformers`; of a whole CLIP, the part for texts is read."""

USUAL = "openai/clip-vit-base-patch32 (MIT)"

TEMPLATES = "templates.txt"
"""A file in the folder of a tower: the sentences that a text is put into, one a line; ``{}`` is where. Without it they
are those beside this module: the text alone, and the 80 that CLIP's authors published for ImageNet.
"""

_BATCH = 256
"""Sentences at a time."""

_ALONE = str.maketrans("_-/", "   ", "0123456789.,'!?\"()*#:;")
"""What becomes a space, and what is left out."""

_PAD, _UNKNOWN, _BEGIN, _END = "[PAD]", "[UNK]", "[BEGIN]", "[END]"
"""The first tokens of a tower that knows whole words."""

_LOUD = 50.0
"""How much larger words begin in a new tower than what begins and ends sentences, which all have in common."""

CATEGORY_ROWS: Mapping[str, range] = {
    "imagenet": range(1000),
    "lvis": range(1000, 2203),
    "burst": range(1000, 2203),
    "ytvis-2021": range(2203, 2243),
    "ovis": range(2243, 2268),
    "bdd-track": range(2268, 2276),
    "objects365": range(2276, 2641),
    "coco-panoptic": range(2641, 2774),
    "coco": range(2641, 2721),
    "ade20k": range(2774, 2924),
    "vipseg": range(2924, 3048),
    "vspw": range(2924, 3048),
    "viposeg": range(2924, 3048),
    "ytvis-2019": range(3048, 3088),
    "entityseg-instance": range(3088, 3294),
    "entityseg-panoptic": range(3294, 3938),
}
"""Where the authors' matrix of names has those of each dataset, in the dataset's order (specification §3.5)."""

_NAMES = 3938


class TextEncoder(nn.Module):
    """A text tower.

    Args:
        network: of `transformers`; its parameters are this one's.
        tokenizer: its own. One that has a token for unknown words cuts texts at spaces, and such words are refused.
        templates: sentences that a text is put into; see `TEMPLATES`.
    """

    def __init__(
        self, network: CLIPTextModelWithProjection, tokenizer: PreTrainedTokenizerBase, *, templates: Sequence[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.templates = tuple(templates)
        self.training = network.training

    @property
    def dim(self) -> int:
        """D."""
        return int(self.network.text_projection.out_features)

    @property
    def length(self) -> int:
        """W: how many tokens a text has, its begin and end among them. Longer ones are cut."""
        return int(self.network.config.max_position_embeddings)

    def names(self, names: Sequence[str]) -> Tensor:
        """Embeddings of the names of K classes, at least one, ``float[K, D]``; not normalised.

        Raises:
            InputError: one says nothing, or has a word that the tower does not know.
        """
        return self._sentences([cleaned(name) for name in names])

    def expressions(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of P expressions, at least one, ``float[P, D]``, and of their words, ``float[P, W, D]``.

        Raises:
            InputError: one says nothing, or has a word that the tower does not know.
        """
        plain = [cleaned(text) for text in texts]
        ids_pw = self._ids([self.templates[0].replace("{}", text) for text in plain])
        words = [self.network(input_ids=ids).last_hidden_state for ids in torch.split(ids_pw, _BATCH)]
        words_pwd: Tensor = self.network.text_projection(torch.cat(words))
        return self._sentences(plain), words_pwd

    def _sentences(self, texts: list[str]) -> Tensor:
        """The mean over all templates, ``float[K, D]``."""
        ids_nw = self._ids([template.replace("{}", text) for text in texts for template in self.templates])
        # Nothing sees what comes after it, so what follows the last end changes nothing.
        used = int(ids_nw.bool().any(0).sum())
        said = [self.network(input_ids=ids).text_embeds for ids in torch.split(ids_nw[:, :used], _BATCH)]
        return torch.cat(said).view(len(texts), len(self.templates), self.dim).mean(1)

    def _ids(self, texts: list[str]) -> Tensor:
        """Tokens, ``int64[N, W]``; 0 after the end. What is cut still ends."""
        ids_nw = torch.zeros(len(texts), self.length, dtype=torch.int64)
        found = self.tokenizer(texts, truncation=True, max_length=self.length)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        for n, ids in enumerate(found):
            if unknown != self.tokenizer.eos_token_id and unknown in ids:  # CLIP's own tokenizer knows everything
                word = texts[n].split()[ids.index(unknown) - 1]
                known = set(self.tokenizer.get_vocab()) - set(self.tokenizer.all_special_tokens)
                raise InputError(f"the network has not learned the word {word!r}: use words like {some(sorted(known))}")
            ids_nw[n, : len(ids)] = torch.tensor(ids)
        return ids_nw.to(self.network.device)


def cleaned(text: str) -> str:
    """Words in small letters, without digits and punctuation.

    Raises:
        InputError: nothing is left.
    """
    if not (found := " ".join(text.lower().translate(_ALONE).split())):
        raise InputError(f"the text {text!r} has no word: say in words what is meant")
    return found


def load_text(name: str) -> TextEncoder:
    """A text tower, for inference, in float32 on the CPU.

    Args:
        name: a folder, as `save_text` wrote it or of a CLIP of `transformers`; or a name on the hub.

    Raises:
        InputError: there is no such model, it is damaged or of another kind.
    """
    from transformers import CLIPTextModelWithProjection

    folder, _ = folder_of_kind(name, KINDS, usual=USUAL)
    own = folder / TEMPLATES
    return TextEncoder(
        load_pretrained(CLIPTextModelWithProjection, folder),
        load_tokenizer(folder),
        templates=_templates(own if own.is_file() else Path(__file__).with_name(TEMPLATES)),
    )


def save_text(encoder: TextEncoder, folder: Path) -> None:
    """Write a tower so that `load_text` reads it; the folder is made."""
    encoder.network.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    write_text_atomic(folder / TEMPLATES, "\n".join(encoder.templates) + "\n")


def new_text(words: Iterable[str], *, dim: int = 128, layers: int = 2, heads: int = 4, length: int = 16) -> TextEncoder:
    """A small tower that has yet to learn, and knows whole words.

    Args:
        words: or texts of words: all that it will ever know.
        dim: D, and its width.
        layers: of the tower.
        heads: of attention.
        length: W.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

    known = sorted({word for text in words for word in cleaned(text).split()})
    ids = {token: n for n, token in enumerate([_PAD, _UNKNOWN, _BEGIN, _END, *known])}
    cut = Tokenizer(WordLevel(ids, unk_token=_UNKNOWN))
    cut.pre_tokenizer = WhitespaceSplit()
    cut.post_processor = TemplateProcessing(
        single=f"{_BEGIN} $A {_END}", special_tokens=[(token, ids[token]) for token in (_BEGIN, _END)]
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=cut, pad_token=_PAD, unk_token=_UNKNOWN, bos_token=_BEGIN, eos_token=_END
    )
    config = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=dim,
        intermediate_size=4 * dim,
        projection_dim=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=length,
        pad_token_id=ids[_PAD],
        bos_token_id=ids[_BEGIN],
        eos_token_id=ids[_END],
    )
    network = CLIPTextModelWithProjection(config)
    with torch.no_grad():  # words are to be told apart from the first step
        network.text_model.embeddings.token_embedding.weight[ids[_END] + 1 :] *= _LOUD
    return TextEncoder(network, tokenizer, templates=["{}"])


def read_authors_text(file: Path, tokenizer: Path) -> TextEncoder:
    """The text tower that the authors took from RegionCLIP, for inference, in float32 on the CPU.

    Args:
        file: ``.pth`` with the part of CLIP for texts alone, named as OpenAI does.
        tokenizer: a folder with CLIP's tokenizer, such as that of a CLIP of `transformers`.

    Raises:
        InputError: the file is not there, is damaged, incomplete or of another network, or the tokenizer is.
    """
    from transformers import CLIPTextModelWithProjection

    state = {name: tensor.float() for name, tensor in read_state(file).items()}
    cut = load_tokenizer(tokenizer)
    try:
        network = CLIPTextModelWithProjection(_config(state, cut))
        network.load_state_dict(_converted(state, network))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    network.train(False)
    network.requires_grad_(False)
    return TextEncoder(network, cut, templates=_templates(Path(__file__).with_name(TEMPLATES)))


def category_rows(file: Path, dataset: str) -> Tensor:
    """Embeddings of the names of a dataset's classes as the authors computed them, ``float[K, D]``.

    Args:
        file: their matrix of all names, which a network runs with where there is no text tower.
        dataset: see `CATEGORY_ROWS`.

    Raises:
        InputError: the file is not there or is another, or it has no such dataset.
    """
    if dataset not in CATEGORY_ROWS:
        raise InputError(f"the authors' names are not of {dataset!r}, but of {', '.join(CATEGORY_ROWS)}: name one")
    found = read_torch(file)
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != _NAMES or not found.isfinite().all():
        raise InputError(f"{file} is no matrix of {_NAMES} names: give combined_datasets_cls_emb_rn50x4.pth")
    rows = CATEGORY_ROWS[dataset]
    return found[rows.start : rows.stop].float()


def _templates(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _config(state: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase) -> CLIPTextConfig:
    """Sizes, from shapes.

    Raises:
        InputError: an entry that tells a size is missing, or the tokenizer is of another network.
    """
    from transformers import CLIPTextConfig

    told = (
        "token_embedding.weight",
        "positional_embedding",
        "text_projection",
        "transformer.resblocks.0.mlp.c_fc.bias",
    )
    if missing := [name for name in told if name not in state]:
        raise InputError(f"there is no {some(missing)}: give the file of CLIP's text tower that the authors name")
    tokens, width = state[told[0]].shape
    if len(tokenizer) != tokens:
        raise InputError(f"it knows {tokens} tokens and its tokenizer {len(tokenizer)}: give the tokenizer of CLIP")
    blocks = {name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")}
    return CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=len(state[told[3]]),
        projection_dim=state[told[2]].shape[-1],
        num_hidden_layers=len(blocks),
        num_attention_heads=max(width // _HEAD, 1),
        max_position_embeddings=len(state[told[1]]),
        hidden_act="quick_gelu",
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


_HEAD = 64
"""Channels of a head of attention, in all text towers of CLIP."""

_THEIRS = (
    (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"self_attn\.[qkv]_proj\.", "attn.in_proj_"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"layer_norm", "ln_"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"^text_projection\.weight", "text_projection"),
)
"""What to replace, in this order, in names of `transformers` to have those of OpenAI."""


def _theirs(ours: str) -> str:
    name = ours
    for known, theirs in _THEIRS:
        name = re.sub(known, theirs, name)
    return name


def _converted(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Entries named as OpenAI does, as `transformers` wants them.

    Raises:
        InputError: one is unknown, missing, of another shape, or not finite.
    """
    wanted: dict[str, torch.Size] = {}
    sources: dict[str, tuple[str, int, int]] = {}  # entry there, which part of it, of how many
    for ours, tensor in network.state_dict().items():
        name = _theirs(ours)
        third = re.search(r"\.([qkv])_proj\.", ours)
        sources[ours] = (name, "qkv".index(third[1]), 3) if third else (name, 0, 1)
        shape = tensor.T.shape if name == "text_projection" else tensor.shape
        wanted[name] = torch.Size([shape[0] * sources[ours][2], *shape[1:]])
    check_fits(state, wanted, what="CLIP's text tower")
    found = {ours: state[name].chunk(parts)[part] for ours, (name, part, parts) in sources.items()}
    found["text_projection.weight"] = found["text_projection.weight"].T
    return found
