"""Texts: a tower of CLIP against one written anew, templates, words, and files of others (specification §3.4, 3.5)."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer

from maskstream.systems.univs.text import (
    CATEGORY_ROWS,
    category_rows,
    cleaned,
    load_text,
    new_text,
    read_authors_text,
    save_text,
)
from maskstream.types import InputError

from ...propagation.hashed import hashed

WIDTH, LENGTH, DIM = 128, 40, 24
LETTERS = [chr(n) for n in range(ord("a"), ord("z") + 1)]
VOCABULARY = [
    "!",
    *LETTERS,
    ".",
    "-",
    *(letter + "</w>" for letter in LETTERS),
    ".</w>",
    "-</w>",
    "<|startoftext|>",
    "<|endoftext|>",
]
BEGIN, END = len(VOCABULARY) - 2, len(VOCABULARY) - 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """CLIP's way of writing words, with single letters."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def theirs() -> dict[str, Tensor]:
    """A tower of two layers, named as OpenAI does."""
    shapes = {
        "token_embedding.weight": (len(VOCABULARY), WIDTH),
        "positional_embedding": (LENGTH, WIDTH),
        "ln_final.weight": (WIDTH,),
        "ln_final.bias": (WIDTH,),
        "text_projection": (WIDTH, DIM),
    }
    for layer in range(2):
        block = f"transformer.resblocks.{layer}."
        for part, rows, columns in (
            ("attn.in_proj_", 3 * WIDTH, WIDTH),
            ("attn.out_proj.", WIDTH, WIDTH),
            ("mlp.c_fc.", 4 * WIDTH, WIDTH),
            ("mlp.c_proj.", WIDTH, 4 * WIDTH),
        ):
            shapes |= {f"{block}{part}weight": (rows, columns), f"{block}{part}bias": (rows,)}
        shapes |= {f"{block}ln_{n}.{part}": (WIDTH,) for n in (1, 2) for part in ("weight", "bias")}
    return {
        name: hashed(name, shape, -0.1, 0.1) + ("ln_" in name and "weight" in name) for name, shape in shapes.items()
    }


def said(ids: list[int]) -> tuple[Tensor, Tensor]:
    """CLIP as OpenAI describes it: what is said at the end, and at every token."""
    state = theirs()
    padded = torch.tensor(ids + [0] * (LENGTH - len(ids)))
    x = state["token_embedding.weight"][padded] + state["positional_embedding"]
    later = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    for layer in range(2):
        part = {k.removeprefix(f"transformer.resblocks.{layer}."): v for k, v in state.items()}
        y = F.layer_norm(x, (WIDTH,), part["ln_1.weight"], part["ln_1.bias"])
        q, k, v = F.linear(y, part["attn.in_proj_weight"], part["attn.in_proj_bias"]).chunk(3, -1)
        heads = []
        for head in range(WIDTH // 64):
            own = slice(64 * head, 64 * head + 64)
            heads.append((q[:, own] @ k[:, own].T / 8 + later).softmax(-1) @ v[:, own])
        x = x + F.linear(torch.cat(heads, -1), part["attn.out_proj.weight"], part["attn.out_proj.bias"])
        y = F.layer_norm(x, (WIDTH,), part["ln_2.weight"], part["ln_2.bias"])
        y = F.linear(y, part["mlp.c_fc.weight"], part["mlp.c_fc.bias"])
        x = x + F.linear(y * (1.702 * y).sigmoid(), part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    words = F.layer_norm(x, (WIDTH,), state["ln_final.weight"], state["ln_final.bias"]) @ state["text_projection"]
    return words[ids.index(END)], words


def letters(text: str) -> list[int]:
    """Tokens of a text: the last letter of a word is another token."""
    ids = [BEGIN]
    for word in text.replace(".", " .").split():
        ids += [VOCABULARY.index(letter) for letter in word[:-1]] + [VOCABULARY.index(word[-1] + "</w>")]
    return [*ids, END]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    file = tmp_path_factory.mktemp("regionclip") / "language.pth"
    torch.save({"model": theirs()}, file)
    return read_authors_text(file, tokenizer)


def test_there_are_81_templates_and_the_first_is_the_text_alone(encoder) -> None:
    assert len(encoder.templates) == len(set(encoder.templates)) == 81
    assert encoder.templates[0] == "{}."
    assert all(template.count("{}") == 1 for template in encoder.templates)


@torch.no_grad()
def test_sentences_and_words_are_those_of_clip(encoder) -> None:
    """One after the other, with all tokens; the mean of no unit vectors."""
    assert (encoder.dim, encoder.length) == (DIM, LENGTH)
    fitting = list(encoder.templates[::8])
    encoder_templates, encoder.templates = encoder.templates, tuple(fitting)
    try:
        sentences, words = encoder.expressions(["Big_dog", "a cat, (2)"])
        names = encoder.names(["Big_dog", "a cat, (2)"])
        assert sentences.shape == (2, DIM) and words.shape == (2, LENGTH, DIM)
    finally:
        encoder.templates = encoder_templates
    for n, plain in enumerate(("big dog", "a cat")):
        asked = [letters(template.replace("{}", plain).replace("-", " - ")) for template in fitting]
        asked = [ids if len(ids) <= LENGTH else [*ids[: LENGTH - 1], END] for ids in asked]
        expected = torch.stack([said(ids)[0] for ids in asked]).mean(0)
        assert torch.allclose(sentences[n], expected, atol=1e-5)
        assert torch.equal(names[n], sentences[n])
        assert torch.allclose(words[n], said(asked[0])[1], atol=1e-5)


@torch.no_grad()
def test_a_text_that_is_cut_still_ends(encoder) -> None:
    _, words = encoder.expressions(["z" * 100])
    ids = [BEGIN, *[VOCABULARY.index("z")] * (LENGTH - 2), END]
    assert torch.allclose(words[0], said(ids)[1], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Stop_sign", "stop sign"),
        ("a man's T-shirt (2nd), #3!", "a mans t shirt nd"),
        ("wall/other; tree?", "wall other tree"),
        ("  the\tleft  dog. ", "the left dog"),
    ],
)
def test_words_alone_are_left(text: str, plain: str) -> None:
    assert cleaned(text) == plain


@pytest.mark.parametrize("text", ["", "  ", "2024", "?!"])
def test_a_text_without_words_is_refused(encoder, text: str) -> None:
    with pytest.raises(InputError, match="has no word"):
        encoder.names(["dog", text])
    with pytest.raises(InputError, match="has no word"):
        encoder.expressions([text])


def test_a_tower_is_read_as_it_was_written(encoder, tmp_path) -> None:
    save_text(encoder, tmp_path)
    read = load_text(str(tmp_path))
    assert read.templates == encoder.templates
    assert torch.allclose(read.names(["dog"]), encoder.names(["dog"]), atol=1e-5)
    (tmp_path / "templates.txt").unlink()  # as a CLIP of others
    assert load_text(str(tmp_path)).templates == encoder.templates


# Towers that know whole words.


@pytest.fixture
def small():
    torch.manual_seed(0)
    return new_text(["red square", "a Blue-disc moving left"], dim=16, layers=1, heads=2, length=8)


def test_a_new_tower_learns_whole_words(small) -> None:
    assert (small.dim, small.length, small.templates) == (16, 8, ("{}",))
    sentences, words = small.expressions(["red disc", "a square moving left"])
    assert sentences.shape == (2, 16) and words.shape == (2, 8, 16)
    assert torch.allclose(sentences[0], words[0, 3], atol=1e-6)  # begin, two words, end
    assert torch.allclose(small.names(["a square moving left"])[0], words[1, 5], atol=1e-6)
    (sentences.sum() + words.sum()).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


def test_a_word_that_was_never_learned_is_named(small) -> None:
    with pytest.raises(InputError, match="has not learned the word 'green': use words like a, blue, disc, …"):
        small.names(["red square", "the_green disc".removeprefix("the_")])


def test_a_long_text_is_cut(small) -> None:
    _, words = small.expressions(["red " * 20])
    assert torch.allclose(words, small.expressions(["red " * 6])[1])


# Files.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"ln_final.bias": None}, r"1 of 29 entries of CLIP's text tower are missing \(ln_final.bias\)", id="missing"
        ),
        pytest.param({"visual.proj": torch.zeros(1)}, r"no part of CLIP's text tower \(visual.proj\)", id="unknown"),
        pytest.param({"positional_embedding": None}, "there is no positional_embedding", id="no length"),
        pytest.param({"ln_final.bias": torch.zeros(3)}, r"ln_final.bias is \[3\] and not \[128\]", id="another shape"),
        pytest.param({"text_projection": torch.full((WIDTH, DIM), torch.nan)}, "have NaN or infinite", id="NaN"),
        pytest.param(
            {"token_embedding.weight": torch.zeros(9, WIDTH)}, "knows 9 tokens and its tokenizer 59", id="tokens"
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path, tokenizer, change, message: str) -> None:
    state = {name: tensor for name, tensor in (theirs() | change).items() if tensor is not None}
    torch.save({"model": state}, tmp_path / "language.pth")
    with pytest.raises(InputError, match=message) as raised:
        read_authors_text(tmp_path / "language.pth", tokenizer)
    assert "\n" not in str(raised.value)


def test_a_model_of_another_kind_is_no_tower(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="kind bert, not clip or clip_text_model"):
        load_text(str(tmp_path))


def test_rows_of_all_datasets_fill_the_matrix() -> None:
    shared = {"burst": "lvis", "coco": "coco-panoptic", "vspw": "vipseg", "viposeg": "vipseg"}
    own = sorted((rows.start, rows.stop) for name, rows in CATEGORY_ROWS.items() if name not in shared)
    assert own[0][0] == 0 and own[-1][1] == 3938
    assert all(before[1] == after[0] for before, after in pairwise(own))
    assert all(set(CATEGORY_ROWS[name]) <= set(CATEGORY_ROWS[other]) for name, other in shared.items())


def test_names_of_a_dataset_are_its_rows(tmp_path) -> None:
    matrix = torch.arange(3938.0)[:, None].expand(-1, 4).half().clone()
    torch.save(matrix, tmp_path / "names.pth")
    rows = category_rows(tmp_path / "names.pth", "ytvis-2021")
    assert rows.dtype == torch.float32
    assert torch.equal(rows, matrix[2203:2243].float())
    with pytest.raises(InputError, match="not of 'ytvis', but of imagenet, lvis"):
        category_rows(tmp_path / "names.pth", "ytvis")
    torch.save(matrix[:9], tmp_path / "few.pth")
    with pytest.raises(InputError, match="is no matrix of 3938 names"):
        category_rows(tmp_path / "few.pth", "ovis")
